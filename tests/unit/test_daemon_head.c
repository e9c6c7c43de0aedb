/* The daemon's head and its lives, as processes: what it does with signals, and when one life follows the other. */
#include "daemon_desk.h"

#include "dkimroll/file.h"

static const char TWO[] = "  example.com:\n  example.org:\n";
static int *lives; /* that were begun; shared with them */
static int number; /* of this one */

static int count_life(const struct policy *policy, const struct policy_signer *const *signers, size_t count, int *ret_descriptor, pid_t *ret_pid, struct error *error) {
  number = ++*lives;
  return daemon_desk_start_keeper(policy, signers, count, ret_descriptor, ret_pid, error);
}

/* The first takes its time to exit, when it has given up the lease already. */
static void exit_slowly(void) {
  if (number == 1) poll(NULL, 0, 600);
}

static int run(const char *domains, const int *signals, size_t count) {
  struct daemon_desk daemon;
  daemon_desk_make(&daemon, domains);
  daemon.desk.wiring.start_keeper = count_life;
  *lives = 0;
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

/* What is logged meanwhile; caller frees. */
static char *log_of(int (*deed)(void)) {
  struct workplace folder;
  char *text = NULL;
  size_t size = 0;
  struct error error = {0};
  workplace_make(&folder, "/tmp");
  CLEANUP_FREE char *path = workplace_path(&folder, "log");
  const int real = dup(STDERR_FILENO), log = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  assert_true(real >= 0 && log >= 0 && dup2(log, STDERR_FILENO) >= 0);
  const int code = deed();
  assert_true(dup2(real, STDERR_FILENO) >= 0);
  close(real);
  close(log);
  assert_int_equal(code, EX_OK);
  if (file_read(path, 1 << 20, &text, &size, NULL, &error)) text = strdup("");
  workplace_remove(&folder);
  return text;
}

static int reload_and_stop(void) { return RUN(SIGHUP, SIGTERM); }

static void test_daemon_head__a_stop_right_after_a_reload_is_no_failure_of_the_reload(void **state) {
  (void)state;
  CLEANUP_FREE char *text = log_of(reload_and_stop);
  assert_string_equal(text, "");
}

int main(void) {
  lives = mmap(NULL, sizeof *lives, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (lives == MAP_FAILED || atexit(exit_slowly)) return 1;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_daemon_head__a_signal_ends_it),
      cmocka_unit_test(test_daemon_head__a_reload_while_the_life_before_still_ends_is_one_more),
      cmocka_unit_test(test_daemon_head__a_stop_right_after_a_reload_is_no_failure_of_the_reload),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
