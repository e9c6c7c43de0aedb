/* System calls that the keeper never needs are refused by the kernel (seccomp(2), by libseccomp). */
#ifndef DKIMROLL_CALL_FILTER_H
#define DKIMROLL_CALL_FILTER_H

#include "dkimroll/error.h"

/* For this process and its children, programs too: sockets are of AF_UNIX only (EAFNOSUPPORT), and what opens other doors - io_uring, which makes
 * sockets past this filter, ptrace, other processes' memory, modules, mounts, namespaces, bpf - fails with EPERM. Also sets
 * PR_SET_NO_NEW_PRIVS, so programs gain nothing by set-user-id bits. ERROR_SYSTEM: the kernel takes no filter. */
int call_filter_install(struct error *error) ERROR_USE_RESULT;

#endif
