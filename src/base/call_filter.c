#include "dkimroll/call_filter.h"

#include <errno.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "dkimroll/cleanup.h"

/* Not an allow-list: the C library, OpenSSL and a reload command change what they call with every version, and a keeper that is killed by an update of
 * Debian helps nobody. The unit has the narrower list (SystemCallFilter=), which systemd keeps up to date. */
static const int refused_calls[] = {
    SCMP_SYS(io_uring_setup),    SCMP_SYS(io_uring_enter),    SCMP_SYS(io_uring_register), SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),  SCMP_SYS(process_vm_writev), SCMP_SYS(process_madvise),   SCMP_SYS(pidfd_getfd),
    SCMP_SYS(kcmp),              SCMP_SYS(init_module),       SCMP_SYS(finit_module),      SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),        SCMP_SYS(kexec_file_load),   SCMP_SYS(reboot),            SCMP_SYS(mount),
    SCMP_SYS(umount2),           SCMP_SYS(move_mount),        SCMP_SYS(open_tree),         SCMP_SYS(fsopen),
    SCMP_SYS(fsconfig),          SCMP_SYS(fsmount),           SCMP_SYS(fspick),            SCMP_SYS(mount_setattr),
    SCMP_SYS(pivot_root),        SCMP_SYS(chroot),            SCMP_SYS(swapon),            SCMP_SYS(swapoff),
    SCMP_SYS(setns),             SCMP_SYS(unshare),           SCMP_SYS(bpf),               SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),       SCMP_SYS(add_key),           SCMP_SYS(request_key),       SCMP_SYS(keyctl),
    SCMP_SYS(open_by_handle_at), SCMP_SYS(settimeofday),      SCMP_SYS(clock_settime),     SCMP_SYS(acct),
    SCMP_SYS(quotactl),          SCMP_SYS(iopl),              SCMP_SYS(ioperm),            SCMP_SYS(vhangup),
};

static void filter_release(scmp_filter_ctx *filter) {
  if (*filter) seccomp_release(*filter);
}

/* The kernel takes the lower half of the register as the request, too. */
static int filter_shut_terminal(scmp_filter_ctx filter) {
  static const unsigned typing[] = {TIOCSTI, TIOCLINUX};
  int failure = 0;
  for (size_t i = 0; i < ARRAY_SIZE(typing) && failure == 0; i++)
    failure = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, typing[i]));
  /* Another architecture's calls (of a 32-bit program) have other numbers and would pass the rules. */
  if (failure == 0) failure = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
  return failure;
}

static int filter_fill(scmp_filter_ctx filter) {
  const uint32_t no_family = SCMP_ACT_ERRNO(EAFNOSUPPORT);
  /* The kernel takes the lower half of the register as the family. */
  int failure = seccomp_rule_add(filter, no_family, SCMP_SYS(socket), 1, SCMP_A0_32(SCMP_CMP_NE, AF_UNIX));
  if (failure == 0)
    failure = seccomp_rule_add(filter, no_family, SCMP_SYS(socketpair), 1, SCMP_A0_32(SCMP_CMP_NE, AF_UNIX));
  for (size_t i = 0; i < ARRAY_SIZE(refused_calls) && failure == 0; i++)
    failure = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), refused_calls[i], 0);
  return failure == 0 ? filter_shut_terminal(filter) : failure;
}

/* In libseccomp 2.5 (Debian 12) some allocations that fail while it writes the filter are tried again for ever, and nothing of the process answers any more. Its own processor
 * time is what counts: a filter takes some thousandths of a second, however busy the host. */
static void filter_bound(time_t seconds) {
  const struct itimerval bound = {.it_value.tv_sec = seconds};
  setitimer(ITIMER_VIRTUAL, &bound, NULL);
}

static int filter_install(int (*fill)(scmp_filter_ctx filter), struct error *error) {
  CLEANUP(filter_release) scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  if (!filter) return error_set(error, ERROR_NO_MEMORY, "out of memory for the filter of system calls");
  filter_bound(CALL_FILTER_SECONDS);
  int failure = fill(filter);
  if (failure == 0) failure = seccomp_load(filter);
  filter_bound(0);
  if (failure == 0) return 0;
  error_set(error, ERROR_SYSTEM, "the kernel takes no filter of system calls (seccomp): %s", strerror(-failure));
  error_remedy(error, "see whether the kernel has CONFIG_SECCOMP_FILTER, and whether a container forbids seccomp(2)");
  return ERROR_SYSTEM;
}

int call_filter_install(struct error *error) { return filter_install(filter_fill, error); }

int call_filter_shut_terminal(struct error *error) { return filter_install(filter_shut_terminal, error); }
