/* System calls that dkimroll never needs are refused by the kernel (seccomp(2), by libseccomp). */
#ifndef DKIMROLL_CALL_FILTER_H
#define DKIMROLL_CALL_FILTER_H

#include "dkimroll/error.h"

enum { CALL_FILTER_SECONDS = 1 }; /* of processor time, for one filter; SIGVTALRM ends a process that takes more */

/* For this process and its children, programs too: sockets are of AF_UNIX only (EAFNOSUPPORT), and what opens other doors - io_uring, which makes
 * sockets past this filter, ptrace, other processes' memory, modules, mounts, namespaces, bpf - fails with EPERM. Also sets
 * PR_SET_NO_NEW_PRIVS, so programs gain nothing by set-user-id bits. ERROR_SYSTEM: the kernel takes no filter. */
int call_filter_install(struct error *error) ERROR_USE_RESULT;

/* For this process and its children: nothing is typed into a terminal for the person at it, TIOCSTI and TIOCLINUX of ioctl_tty(2), which the filter above refuses, too. The
 * terminal of who starts a command stays that of the command after it has given up root. Sets PR_SET_NO_NEW_PRIVS. ERROR_SYSTEM, ERROR_NO_MEMORY. */
int call_filter_shut_terminal(struct error *error) ERROR_USE_RESULT;

#endif
