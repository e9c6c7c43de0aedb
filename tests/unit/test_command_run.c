/* Programs that are run: what they get, what comes back, and that none outlives its deadline. Their words for reload commands are in test_opendkim_reload. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/command_run.h"

enum { PLENTY_MS = 20000, SHORT_MS = 200 };

/* Runs a script of sh; the result is released by the caller. */
static void run_script(const char *script, struct command_request *request, int64_t patience, struct command_result *ret_result) {
  char *argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)(uintptr_t)script, NULL};
  struct error error = {0};
  request->argv = argv;
  request->deadline = clock_boottime() + patience;
  if (command_run(request, ret_result, &error) < 0) fail_msg("%s", error.message);
}

static void test_command_run__streams_come_back_apart_with_the_exit_status(void **state) {
  (void)state;
  CLEANUP(command_result_release) struct command_result result = {0};
  struct command_request request = {0};
  run_script("echo out; echo err >&2; exit 75", &request, PLENTY_MS, &result);
  assert_int_equal(result.end, COMMAND_EXITED);
  assert_int_equal(result.status, 75);
  assert_string_equal(result.output.data, "out\n");
  assert_string_equal(result.errors.data, "err\n");
}

static void test_command_run__stdin_is_given_whole_even_if_nobody_reads_it(void **state) {
  (void)state;
  enum { SIZE = 1000000 };
  CLEANUP_FREE char *input = malloc(SIZE);
  memset(input, 'x', SIZE);
  struct command_request request = {.input = input, .input_size = SIZE};
  CLEANUP(command_result_release) struct command_result result = {0};
  run_script("wc -c | tr -d ' '", &request, PLENTY_MS, &result);
  assert_string_equal(result.output.data, "1000000\n");
  CLEANUP(command_result_release) struct command_result unread = {0};
  run_script("exit 0", &request, PLENTY_MS, &unread);
  assert_int_equal(unread.end, COMMAND_EXITED);
}

static void test_command_run__environment_is_what_was_given_and_nothing_else(void **state) {
  (void)state;
  char *environment[] = {(char *)"DKIMROLL_NAME=a b;$(x)", NULL};
  struct command_request request = {.environment = environment};
  CLEANUP(command_result_release) struct command_result result = {0};
  setenv("DKIMROLL_TEST_SECRET", "leak", 1);
  run_script("test -z \"$DKIMROLL_TEST_SECRET\" && printf %s \"$DKIMROLL_NAME\" && command -v ls >/dev/null", &request, PLENTY_MS, &result);
  unsetenv("DKIMROLL_TEST_SECRET");
  assert_int_equal(result.status, 0);
  assert_string_equal(result.output.data, "a b;$(x)");
}

static void test_command_run__flood_of_output_is_cut_and_does_not_block_the_program(void **state) {
  (void)state;
  struct command_request request = {.output_max = 1000};
  CLEANUP(command_result_release) struct command_result result = {0};
  run_script("yes | head -c 5000000; yes | head -c 5000000 >&2; exit 7", &request, PLENTY_MS, &result);
  assert_int_equal(result.status, 7);
  assert_int_equal(result.output.size, 1000);
  assert_int_equal(result.errors.size, 1000);
}

static void test_command_run__at_the_deadline_it_is_asked_to_end(void **state) {
  (void)state;
  struct command_request request = {0};
  CLEANUP(command_result_release) struct command_result result = {0};
  const int64_t start = clock_boottime();
  run_script("trap 'echo tidied; exit 0' TERM; echo begun; sleep 1000 & wait", &request, SHORT_MS, &result);
  assert_int_equal(result.end, COMMAND_TIMED_OUT);
  assert_string_equal(result.output.data, "begun\ntidied\n");
  assert_true(clock_boottime() - start < COMMAND_TERM_MS + SHORT_MS);
}

static void test_command_run__who_does_not_heed_that_is_killed(void **state) {
  (void)state;
  struct command_request request = {0};
  CLEANUP(command_result_release) struct command_result result = {0};
  run_script("trap '' TERM; while :; do sleep 1000; done", &request, SHORT_MS, &result);
  assert_int_equal(result.end, COMMAND_TIMED_OUT);
}

static void test_command_run__death_by_a_signal_is_told(void **state) {
  (void)state;
  struct command_request request = {0};
  CLEANUP(command_result_release) struct command_result result = {0};
  run_script("kill -KILL $$", &request, PLENTY_MS, &result);
  assert_int_equal(result.end, COMMAND_SIGNALLED);
  assert_int_equal(result.status, SIGKILL);
}

static void test_command_run__what_cannot_be_started_is_an_error(void **state) {
  (void)state;
  CLEANUP(command_result_release) struct command_result result = {0};
  struct error error = {0};
  char *relative[] = {(char *)"sh", NULL};
  char *missing[] = {(char *)"/nonexistent/tool", NULL};
  char *data[] = {(char *)"/etc/passwd", NULL};
  struct command_request request = {.argv = relative, .deadline = clock_boottime() + PLENTY_MS};
  assert_int_equal(command_run(&request, &result, &error), ERROR_CONFIG);
  assert_int_equal(command_probe(relative, &error), ERROR_CONFIG);
  request.argv = missing;
  assert_int_equal(command_run(&request, &result, &error), ERROR_NOT_FOUND);
  assert_non_null(strstr(error.message, "/nonexistent/tool"));
  request.argv = data;
  assert_int_equal(command_run(&request, &result, &error), ERROR_PERMISSION);
  assert_int_equal(command_probe(data, &error), ERROR_PERMISSION);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_command_run__streams_come_back_apart_with_the_exit_status),
      cmocka_unit_test(test_command_run__stdin_is_given_whole_even_if_nobody_reads_it),
      cmocka_unit_test(test_command_run__environment_is_what_was_given_and_nothing_else),
      cmocka_unit_test(test_command_run__flood_of_output_is_cut_and_does_not_block_the_program),
      cmocka_unit_test(test_command_run__at_the_deadline_it_is_asked_to_end),
      cmocka_unit_test(test_command_run__who_does_not_heed_that_is_killed),
      cmocka_unit_test(test_command_run__death_by_a_signal_is_told),
      cmocka_unit_test(test_command_run__what_cannot_be_started_is_an_error),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
