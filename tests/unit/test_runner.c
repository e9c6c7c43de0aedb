/* The runner: only what the policy names is run, with nothing that a loop side which was taken over could make another program of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/runner.h"
#include "dkimroll/text.h"

enum { PATIENCE = 30000 };

struct desk {
  struct runner_rights rights;
  struct keeper_handler handlers[RUNNER_JOBS_COUNT];
  struct loop *loop;
  struct keeper *runner;
  struct loop_source *watchdog;
  bool done;
  struct error outcome;
  struct runner_reply reply;
};

static void allow(struct desk *desk, enum runner_purpose purpose, const char *name, const char *script) {
  const char *words[] = {"/bin/sh", "-c", script, "tool"};
  const struct runner_command command = {.purpose = purpose, .name = (char *)(uintptr_t)name, .timeout = 20};
  struct error error = {0};
  assert_int_equal(runner_allow(&desk->rights, &command, words, ARRAY_SIZE(words), &error), 0);
}

/* Forks the runner with what was allowed. */
static void start(struct desk *desk) {
  struct error error = {0};
  int descriptor = -1;
  pid_t pid = 0;
  const struct keeper_setup setup = {.handlers = desk->handlers,
                                     .handler_count = runner_handlers(&desk->rights, desk->handlers),
                                     .workers = 2,
                                     .title = "dkimroll-runner"};
  assert_int_equal(keeper_process_fork(&setup, &descriptor, &pid, &error), 0);
  assert_int_equal(loop_sd_event_new(&desk->loop, &error), 0);
  assert_int_equal(keeper_connect(desk->loop, descriptor, pid, &desk->runner, &error), 0);
}

static int set_up(void **state) {
  *state = calloc(1, sizeof(struct desk));
  return *state ? 0 : -1;
}

static int tear_down(void **state) {
  struct desk *desk = *state;
  keeper_destroy(desk->runner);
  if (desk->loop) loop_destroy(desk->loop);
  runner_reply_release(&desk->reply);
  runner_rights_release(&desk->rights);
  free(desk);
  return 0;
}

static void take(void *context, const struct error *result, const uint8_t *reply, size_t reply_size) {
  struct desk *desk = context;
  desk->done = true;
  desk->outcome = *result;
  runner_reply_release(&desk->reply);
  if (result->code == 0) assert_int_equal(runner_reply_read(reply, reply_size, &desk->reply, &desk->outcome), 0);
  loop_stop(desk->loop);
}

static void give_up(void *context) { loop_stop(context); }

/* How the job ended; the command's own end is in desk->reply. */
static int run(struct desk *desk, const struct runner_call *call) {
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  struct error error = {0};
  runner_call_write(&payload, call);
  desk->done = false;
  assert_int_equal(keeper_submit(desk->runner, KEEPER_RUN, &payload, TIME_NEVER, take, desk, &error), 0);
  assert_int_equal(loop_at(desk->loop, loop_boottime(desk->loop) + PATIENCE, give_up, desk->loop, &desk->watchdog), 0);
  assert_int_equal(loop_run(desk->loop, &error), 0);
  if (!desk->done) fail_msg("a command was not done in %d ms", PATIENCE);
  loop_cancel(desk->loop, &desk->watchdog);
  return desk->outcome.code;
}

static void test_runner__a_command_gets_the_policys_words_one_of_ours_variables_and_text(void **state) {
  struct desk *desk = *state;
  allow(desk, RUNNER_PUBLISH, "provider", "printf '%s|%s|%s|' \"$*\" \"$DKIMROLL_NAME\" \"$(umask)\"; cat; echo because >&2; echo more >&2; exit 3");
  start(desk);
  const struct runner_variable variables[] = {{"DKIMROLL_NAME", "s1._domainkey.example.com"}};
  const struct runner_call call = {.purpose = RUNNER_PUBLISH, .name = "provider", .word = "add", .variables = variables, .variable_count = 1,
                                   .input = "{}\n", .input_size = 3};
  assert_int_equal(run(desk, &call), 0);
  assert_string_equal(desk->reply.output, "add|s1._domainkey.example.com|0077|{}\n");
  struct error error = {0};
  assert_int_equal(runner_reply_judge(&desk->reply, "publisher provider", &error), ERROR_REFUSED);
  assert_string_equal(error.message, "publisher provider: because (exit status 3)");
  assert_false(error.retryable);
}

static void test_runner__what_the_policy_does_not_name_is_not_run(void **state) {
  struct desk *desk = *state;
  allow(desk, RUNNER_PUBLISH, "provider", "exit 0");
  start(desk);
  struct runner_call call = {.purpose = RUNNER_PUBLISH, .name = "another"};
  assert_int_equal(run(desk, &call), ERROR_PERMISSION);
  assert_non_null(strstr(desk->outcome.message, "another"));
  call = (struct runner_call){.purpose = RUNNER_HOOK, .name = "provider"};
  assert_int_equal(run(desk, &call), ERROR_PERMISSION);
}

static void test_runner__a_word_or_variable_that_could_mean_something_to_the_program_is_refused(void **state) {
  struct desk *desk = *state;
  allow(desk, RUNNER_HOOK, "mail", "exit 0");
  start(desk);
  static const char *const words[] = {"--config=/tmp/x", "/bin/sh", "a b", "$(x)", "Add", "1"};
  static const char *const names[] = {"LD_PRELOAD", "PATH", "DKIMROLL_", "DKIMROLL_a", "DKIMROLL_A=1"};
  for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
    const struct runner_call call = {.purpose = RUNNER_HOOK, .name = "mail", .word = words[i]};
    if (run(desk, &call) != ERROR_INVALID) fail_msg("%s was let through", words[i]);
  }
  for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
    const struct runner_variable variable = {names[i], "/tmp/evil.so"};
    const struct runner_call call = {.purpose = RUNNER_HOOK, .name = "mail", .variables = &variable, .variable_count = 1};
    if (run(desk, &call) != ERROR_INVALID) fail_msg("%s was let through", names[i]);
  }
  const struct runner_call call = {.purpose = RUNNER_HOOK, .name = "mail", .word = "needs-a-person"};
  assert_int_equal(run(desk, &call), 0);
}

static void test_runner__the_end_of_a_command_is_judged_by_what_it_means(void **state) {
  struct desk *desk = *state;
  struct error error = {0};
  allow(desk, RUNNER_HOOK, "later", "echo 'rate \033[31mlimit' >&2; exit 75");
  allow(desk, RUNNER_HOOK, "mute", "exit 1");
  allow(desk, RUNNER_HOOK, "shot", "kill -KILL $$");
  allow(desk, RUNNER_HOOK, "fine", "exit 0");
  const char *hanging[] = {"/bin/sleep", "1000"};
  assert_int_equal(runner_allow(&desk->rights, &(struct runner_command){.purpose = RUNNER_HOOK, .name = (char *)"hang"}, hanging, 2, &error), 0);
  start(desk);
  static const struct {
    const char *name;
    int code;
    bool retryable;
    const char *says;
  } cases[] = {
      {"later", ERROR_BUSY, true, "x: rate \\033[31mlimit"},
      {"mute", ERROR_REFUSED, false, "x: it wrote no reason to stderr (exit status 1)"},
      {"shot", ERROR_REFUSED, false, "x: it wrote no reason to stderr (ended by signal 9)"},
      {"hang", ERROR_TIMEOUT, true, "x: the command did not end in time and was ended: it wrote no reason to stderr"},
      {"fine", 0, false, ""},
  };
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    const struct runner_call call = {.purpose = RUNNER_HOOK, .name = cases[i].name};
    error = (struct error){0};
    assert_int_equal(run(desk, &call), 0);
    assert_int_equal(runner_reply_judge(&desk->reply, "x", &error), cases[i].code);
    assert_int_equal(error.retryable, cases[i].retryable);
    assert_string_equal(error.message, cases[i].says);
  }
}

static void test_runner__commands_come_from_the_policy_each_once(void **state) {
  struct desk *desk = *state;
  char *command[] = {(char *)"/bin/provider", (char *)"--fast"};
  struct policy_publisher publishers[] = {{.name = (char *)"plain"},
                                          {.name = (char *)"provider", .command = command, .command_count = 2, .timeout = 7},
                                          {.name = (char *)"zone", .reload_command = command, .reload_command_count = 1, .timeout = 8}};
  const struct policy policy = {.publishers = publishers, .publisher_count = ARRAY_SIZE(publishers)};
  struct error error = {0};
  assert_int_equal(runner_allow_policy(&desk->rights, &policy, &error), 0);
  assert_int_equal(desk->rights.count, 2);
  assert_int_equal(desk->rights.commands[0].purpose, RUNNER_PUBLISH);
  assert_string_equal(desk->rights.commands[0].argv[1], "--fast");
  assert_int_equal(desk->rights.commands[0].timeout, 7);
  assert_int_equal(desk->rights.commands[1].purpose, RUNNER_RELOAD_ZONE);
  assert_null(desk->rights.commands[1].argv[1]);
  assert_int_equal(runner_allow_policy(&desk->rights, &policy, &error), ERROR_EXISTS);
}

/* A runner without processes, as tests of publishers and hooks have it. */
static int fake_run(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  CLEANUP(runner_call_release) struct runner_call_memory memory = {0};
  struct runner_call call;
  const int result = runner_call_read(request, &call, &memory, error);
  if (result < 0) return result;
  *(bool *)context = text_equal(runner_call_variable(&call, "DKIMROLL_EVENT"), "active") && !runner_call_variable(&call, "DKIMROLL_OTHER");
  struct command_result ended = {.end = COMMAND_EXITED, .output = BUFFER_WITH_MAXIMUM(64)};
  buffer_add(&ended.output, "a\0b", 3);
  runner_reply_write(reply, &ended);
  command_result_release(&ended);
  return 0;
}

static void test_runner__a_fake_one_reads_calls_and_answers_them(void **state) {
  struct desk *desk = *state;
  bool read = false;
  struct error error = {0};
  const struct keeper_handler handler = {.job = KEEPER_RUN, .run = fake_run, .context = &read};
  assert_int_equal(loop_sd_event_new(&desk->loop, &error), 0);
  assert_int_equal(keeper_direct_new(desk->loop, &handler, 1, &desk->runner, &error), 0);
  const struct runner_variable variable = {"DKIMROLL_EVENT", "active"};
  const struct runner_call call = {.purpose = RUNNER_HOOK, .name = "mail", .variables = &variable, .variable_count = 1};
  assert_int_equal(run(desk, &call), 0);
  assert_true(read);
  assert_string_equal(desk->reply.output, "a?b");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_runner__a_command_gets_the_policys_words_one_of_ours_variables_and_text),
      TEST(test_runner__what_the_policy_does_not_name_is_not_run),
      TEST(test_runner__a_word_or_variable_that_could_mean_something_to_the_program_is_refused),
      TEST(test_runner__the_end_of_a_command_is_judged_by_what_it_means),
      TEST(test_runner__commands_come_from_the_policy_each_once),
      TEST(test_runner__a_fake_one_reads_calls_and_answers_them),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
