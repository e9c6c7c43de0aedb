#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "dkimroll/call_filter.h"
#include "dkimroll/cleanup.h"
#include "forked.h"

enum { NOBODY = 65534 };

static bool can_make(int family, int type) {
  const int descriptor = socket(family, type | SOCK_CLOEXEC, 0);
  if (descriptor >= 0) close(descriptor);
  return descriptor >= 0;
}

static int filter_and_call(const void *unused) {
  (void)unused;
  struct error error = {0};
  int ends[2];
  char parameters[256] = {0};
  FORKED_EXPECT(can_make(AF_INET, SOCK_STREAM));
  FORKED_EXPECT(call_filter_install(&error) == 0);
  FORKED_EXPECT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
  static const int families[] = {AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_VSOCK, AF_ALG, AF_BLUETOOTH};
  for (size_t i = 0; i < ARRAY_SIZE(families); i++)
    FORKED_EXPECT(!can_make(families[i], SOCK_STREAM) && errno == EAFNOSUPPORT);
  /* The upper half of the register is not the kernel's business, and must not get past the filter. */
  FORKED_EXPECT(syscall(SYS_socket, 0x100000000L | AF_INET, SOCK_STREAM, 0) < 0 && errno == EAFNOSUPPORT);
  FORKED_EXPECT(can_make(AF_UNIX, SOCK_STREAM) && socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  FORKED_EXPECT(syscall(SYS_io_uring_setup, 1, parameters) < 0 && errno == EPERM);
  FORKED_EXPECT(ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 && errno == EPERM);
  FORKED_EXPECT(syscall(SYS_init_module, "none", 4UL, "") < 0 && errno == EPERM);
  FORKED_EXPECT(syscall(SYS_bpf, 0, NULL, 0) < 0 && errno == EPERM);
  FORKED_EXPECT(unshare(CLONE_NEWUSER) < 0 && errno == EPERM);
  FORKED_EXPECT(syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0) < 0 && errno == EPERM);
  return 0;
}

static void test_call_filter__sockets_are_unix_sockets_and_other_doors_are_shut(void **state) {
  (void)state;
  assert_int_equal(forked(filter_and_call, NULL), 0);
}

static int filter_without_rights(const void *unused) {
  (void)unused;
  struct error error = {0};
  if (geteuid() == 0) FORKED_EXPECT(setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
  FORKED_EXPECT(call_filter_install(&error) == 0);
  FORKED_EXPECT(!can_make(AF_INET, SOCK_DGRAM) && errno == EAFNOSUPPORT);
  return 0;
}

static void test_call_filter__it_needs_no_rights(void **state) {
  (void)state;
  assert_int_equal(forked(filter_without_rights, NULL), 0);
}

static int filter_and_start(const void *unused) {
  (void)unused;
  struct error error = {0};
  FORKED_EXPECT(call_filter_install(&error) == 0);
  /* bash opens a socket for this path; a reload command is a program like that. */
  execl("/bin/bash", "bash", "-c", "(: >/dev/udp/127.0.0.1/9) 2>/dev/null && exit 1; exit 0", (char *)NULL);
  return 2;
}

static void test_call_filter__programs_inherit_it(void **state) {
  (void)state;
  assert_int_equal(forked(filter_and_start, NULL), 0);
}

/* A terminal that is this process's own, as that of the person who types; -1: none can be had. */
static int own_terminal(void) {
  const int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (setsid() < 0 || master < 0 || grantpt(master) < 0 || unlockpt(master) < 0) return -1;
  const int terminal = open(ptsname(master), O_RDWR | O_CLOEXEC);
  return terminal >= 0 && ioctl(terminal, TIOCSCTTY, 0) == 0 ? terminal : -1;
}

static int filter_and_type(const void *context) {
  int (*const install)(struct error *error) = *(int (*const *)(struct error *))context;
  struct error error = {0};
  char letter = 'x';
  struct winsize size;
  const int terminal = own_terminal();
  FORKED_EXPECT(terminal >= 0);
  /* EIO: a kernel that knows better (dev.tty.legacy_tiocsti). */
  FORKED_EXPECT(ioctl(terminal, TIOCSTI, &letter) == 0 || errno == EIO);
  FORKED_EXPECT(install(&error) == 0);
  FORKED_EXPECT(ioctl(terminal, TIOCSTI, &letter) < 0 && errno == EPERM);
  FORKED_EXPECT(syscall(SYS_ioctl, terminal, 0x100000000L | TIOCSTI, &letter) < 0 && errno == EPERM);
  FORKED_EXPECT(ioctl(terminal, TIOCLINUX, &letter) < 0 && errno == EPERM);
  FORKED_EXPECT(ioctl(terminal, TIOCGWINSZ, &size) == 0);
  return 0;
}

/* What it typed would be run by the shell of the one who started it, who may be root. */
static void test_call_filter__nothing_is_typed_for_the_person_at_the_terminal(void **state) {
  (void)state;
  int (*const installs[])(struct error *error) = {call_filter_install, call_filter_shut_terminal};
  for (size_t i = 0; i < ARRAY_SIZE(installs); i++) assert_int_equal(forked(filter_and_type, &installs[i]), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_call_filter__sockets_are_unix_sockets_and_other_doors_are_shut),
      cmocka_unit_test(test_call_filter__it_needs_no_rights),
      cmocka_unit_test(test_call_filter__programs_inherit_it),
      cmocka_unit_test(test_call_filter__nothing_is_typed_for_the_person_at_the_terminal),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
