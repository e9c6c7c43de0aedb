#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/privilege.h"
#include "forked.h"
#include "workplace.h"

enum { NOBODY = 65534, SOMEBODY = 12345 };

static int drop_and_look(const void *context) {
  const char *secret = context;
  struct error error = {0};
  uid_t real = 0, effective = 0, saved = 0;
  FORKED_EXPECT(forked_can_open(secret, O_RDONLY));
  FORKED_EXPECT(privilege_drop(NOBODY, NOBODY, &error) == 0);
  FORKED_EXPECT(getresuid(&real, &effective, &saved) == 0 && real == NOBODY && effective == NOBODY && saved == NOBODY);
  FORKED_EXPECT(getgid() == NOBODY && getegid() == NOBODY);
  FORKED_EXPECT(privilege_capabilities() == 0);
  FORKED_EXPECT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
  FORKED_EXPECT(prctl(PR_CAPBSET_READ, 1) == 0); /* CAP_DAC_OVERRIDE */
  FORKED_EXPECT(!forked_can_open(secret, O_RDONLY) && errno == EACCES);
  FORKED_EXPECT(setuid(0) < 0 && seteuid(0) < 0 && setgid(0) < 0);
  return 0;
}

static void test_privilege__what_was_dropped_does_not_come_back(void **state) {
  if (geteuid() != 0) skip();
  struct workplace *workplace = *state;
  CLEANUP_FREE char *secret = workplace_path(workplace, "secret");
  workplace_write(secret, "s", 0600);
  assert_int_equal(forked(drop_and_look, secret), 0);
}

static int drop_without_account(const void *unused) {
  (void)unused;
  struct error error = {0};
  gid_t groups[64];
  FORKED_EXPECT(privilege_drop(SOMEBODY, SOMEBODY, &error) == 0);
  FORKED_EXPECT(geteuid() == SOMEBODY);
  FORKED_EXPECT(getgroups(64, groups) == 1 && groups[0] == SOMEBODY);
  return 0;
}

static void test_privilege__a_user_whom_the_host_does_not_know_keeps_no_group_of_root(void **state) {
  (void)state;
  if (geteuid() != 0) skip();
  assert_int_equal(forked(drop_without_account, NULL), 0);
}

static int drop_and_type(const void *unused) {
  (void)unused;
  struct error error = {0};
  char letter = 'x';
  const int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  FORKED_EXPECT(setsid() > 0 && master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
  const int terminal = open(ptsname(master), O_RDWR | O_CLOEXEC);
  FORKED_EXPECT(terminal >= 0 && ioctl(terminal, TIOCSCTTY, 0) == 0);
  FORKED_EXPECT(privilege_drop(NOBODY, NOBODY, &error) == 0);
  FORKED_EXPECT(ioctl(terminal, TIOCSTI, &letter) < 0 && errno == EPERM);
  return 0;
}

/* Root's terminal stays that of the process which gave up root: what it typed there would be run by root's shell. */
static void test_privilege__who_gave_up_root_types_nothing_into_its_terminal(void **state) {
  (void)state;
  if (geteuid() != 0) skip();
  assert_int_equal(forked(drop_and_type, NULL), 0);
}

static int drop_twice(const void *unused) {
  (void)unused;
  struct error error = {0};
  FORKED_EXPECT(setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
  FORKED_EXPECT(privilege_drop(SOMEBODY, SOMEBODY, &error) == ERROR_PERMISSION);
  FORKED_EXPECT(strstr(error.message, "12345") && error.remedy[0] != '\0');
  return 0;
}

static void test_privilege__who_is_not_root_is_refused(void **state) {
  (void)state;
  if (geteuid() != 0) skip();
  assert_int_equal(forked(drop_twice, NULL), 0);
}

static void test_privilege__root_is_no_user_to_drop_to(void **state) {
  (void)state;
  struct error error = {0};
  assert_int_equal(privilege_drop(0, 0, &error), ERROR_INVALID);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_privilege__what_was_dropped_does_not_come_back, workplace_setup, workplace_teardown),
      cmocka_unit_test(test_privilege__a_user_whom_the_host_does_not_know_keeps_no_group_of_root),
      cmocka_unit_test(test_privilege__who_gave_up_root_types_nothing_into_its_terminal),
      cmocka_unit_test(test_privilege__who_is_not_root_is_refused),
      cmocka_unit_test(test_privilege__root_is_no_user_to_drop_to),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
