/* The daemon's head and its lives, as processes: what it does with signals, and when one life follows the other. */
#include "daemon_desk.h"

static const char TWO[] = "  example.com:\n  example.org:\n";
static pid_t the_test; /* whose children are lives */

/* A life that takes its time to exit, when it has given up the lease already. */
static void exit_slowly(void) {
  if (getpid() != the_test) poll(NULL, 0, 400);
}

static int run(const char *domains, const int *signals, size_t count) {
  struct daemon_desk daemon;
  daemon_desk_make(&daemon, domains);
  const int code = daemon_desk_run(&daemon, signals, count, NULL);
  assert_false(wake_is_heard(daemon.desk.state));
  daemon_desk_remove(&daemon);
  return code;
}
#define RUN(...) run(TWO, (const int[]){__VA_ARGS__}, sizeof((const int[]){__VA_ARGS__}) / sizeof(int))

static void test_daemon_head__a_signal_ends_it(void **state) {
  (void)state;
  assert_int_equal(RUN(SIGTERM), EX_OK);
  assert_int_equal(RUN(SIGINT), EX_OK);
}

/* The next life says that it is ready when it has the lease, which can be before the present one has ended: its place is not free yet for another. */
static void test_daemon_head__a_reload_while_the_life_before_still_ends_is_one_more(void **state) {
  (void)state;
  assert_int_equal(RUN(SIGHUP, SIGHUP, SIGTERM), EX_OK);
}

int main(void) {
  the_test = getpid();
  atexit(exit_slowly);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_daemon_head__a_signal_ends_it),
      cmocka_unit_test(test_daemon_head__a_reload_while_the_life_before_still_ends_is_one_more),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
