/* Processes of the keeper: workers that die are replaced, nothing outlives its parent, a broken stream ends, and none of them has what is not its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/command_run.h"
#include "dkimroll/clock.h"
#include "dkimroll/file.h"
#include "dkimroll/keeper_frame.h"
#include "dkimroll/keeper_supervisor.h"
#include "dkimroll/text.h"
#include "keeper_rig.h"

/* Waits for the end of any process, be it our child or not. The descriptor was opened while it lived. */
static void assert_process_ends(int process) {
  struct pollfd ended = {.fd = process, .events = POLLIN};
  if (poll(&ended, 1, PATIENCE) != 1) fail_msg("a process that should have ended still lives");
  close(process);
}

static int open_process(pid_t pid) {
  int descriptor = pidfd_open(pid, 0);
  assert_true(descriptor >= 0);
  return descriptor;
}

static void test_keeper__the_job_of_a_worker_that_died_may_be_tried_again_and_others_go_on(void **state) {
  struct fixture *fixture = *state;
  start_keeper(fixture, 1);
  pid_t worker = identify(fixture).worker;
  struct outcome *outcome = run_job(fixture, JOB_DIE, "", ERROR_SYSTEM);
  assert_true(outcome->error.retryable);
  assert_non_null(strstr(outcome->error.message, "signal 9"));
  assert_true(outcome->error.remedy[0] != '\0');
  assert_int_not_equal(identify(fixture).worker, worker);
}

static void test_keeper__an_idle_worker_that_died_is_replaced_without_anybody_noticing(void **state) {
  struct fixture *fixture = *state;
  start_keeper(fixture, 1);
  pid_t worker = identify(fixture).worker;
  int process = open_process(worker);
  assert_int_equal(kill(worker, SIGKILL), 0);
  assert_process_ends(process);
  assert_int_not_equal(identify(fixture).worker, worker);
}

/* A supervisor with less patience than the real one. */
static void start_impatient(struct fixture *fixture, struct keeper_handlers handlers) {
  struct error error = {0};
  int ends[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
  fixture->supervisor = fork();
  assert_true(fixture->supervisor >= 0);
  if (fixture->supervisor == 0) {
    close(ends[0]);
    const struct keeper_supervision supervision = {.descriptor = ends[1],
                                                   .signal_descriptor = -1,
                                                   .workers = 1,
                                                   .patience = {.respawn_first = 1, .grace = 20, .finish = 20},
                                                   .handlers = handlers};
    _exit(keeper_supervise(&supervision));
  }
  close(ends[1]);
  assert_int_equal(loop_sd_event_new(&fixture->loop, &error), 0);
  assert_int_equal(keeper_connect(fixture->loop, ends[0], fixture->supervisor, &fixture->keeper, &error), 0);
}

static void test_keeper__destroying_cancels_every_job_once_and_ends_all_processes(void **state) {
  struct fixture *fixture = *state;
  CLEANUP_FREE char *fifo = make_fifo(fixture, "fifo");
  struct outcome *running = new_outcome(fixture);
  struct outcome *waiting = new_outcome(fixture);
  start_impatient(fixture, (struct keeper_handlers){.items = rig_handlers, .count = RIG_HANDLERS});
  int supervisor = open_process(fixture->supervisor);
  int worker = open_process(identify(fixture).worker);
  /* Nobody opens the fifo: this job runs until its worker is killed. */
  submit_wait(fixture, fifo, NULL, TIME_NEVER, running);
  submit_text(fixture, JOB_ECHO, "", waiting);
  keeper_destroy(fixture->keeper);
  fixture->keeper = NULL;
  assert_int_equal(running->times, 1);
  assert_int_equal(running->error.code, ERROR_CANCELLED);
  assert_int_equal(waiting->times, 1);
  assert_int_equal(waiting->error.code, ERROR_CANCELLED);
  assert_process_ends(supervisor);
  assert_process_ends(worker);
}

/* Runs the shell's words in the request. */
static int run_words(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  CLEANUP_FREE char *words = strndup((const char *)request->data + request->position, request->size - request->position);
  CLEANUP(command_result_release) struct command_result result = {0};
  char *argv[] = {(char *)"/bin/sh", (char *)"-c", words, NULL};
  const struct command_request command = {.argv = argv, .deadline = clock_boottime() + PATIENCE};
  (void)context, (void)reply;
  return command_run(&command, &result, error);
}

static bool is_written(const char *path) { return access(path, R_OK) == 0; }
static bool comes(const char *path) {
  for (const int64_t until = clock_boottime() + PATIENCE; !is_written(path) && clock_boottime() < until;) poll(NULL, 0, 5);
  return is_written(path);
}

/* A tool of a provider that went on while the next life calls it again would write its record twice. */
static void a_command_ends_with(struct fixture *fixture, bool supervisor_killed) {
  static const struct keeper_handler handlers[] = {{.job = (enum keeper_job)JOB_ECHO, .run = run_words}};
  CLEANUP_FREE char *begun = workplace_path(&fixture->workplace, "begun");
  CLEANUP_FREE char *tidied = workplace_path(&fixture->workplace, "tidied");
  CLEANUP_FREE char *words = text_format("trap 'echo >%s; exit 0' TERM; echo $$ >%s.new; mv %s.new %s; while :; do sleep 0.05; done", tidied, begun, begun, begun);
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  start_impatient(fixture, (struct keeper_handlers){.items = handlers, .count = 1});
  submit_text(fixture, JOB_ECHO, words, new_outcome(fixture));
  assert_int_equal(loop_at(fixture->loop, clock_boottime() + 50, end_loop, fixture->loop, NULL), 0);
  assert_int_equal(loop_run(fixture->loop, NULL), 0);
  assert_true(comes(begun));
  assert_int_equal(file_read(begun, 100, &text, &size, NULL, NULL), 0);
  const int tool = open_process((pid_t)strtol(text, NULL, 10));
  if (supervisor_killed) assert_int_equal(kill(fixture->supervisor, SIGKILL), 0);
  keeper_destroy(fixture->keeper);
  fixture->keeper = NULL;
  assert_process_ends(tool);
  assert_true(comes(tidied)); /* it was asked, and not only killed */
}
static void test_keeper__a_command_does_not_outlive_those_who_wait_for_it(void **state) { a_command_ends_with(*state, false); }
static void test_keeper__a_command_does_not_outlive_a_supervisor_that_was_killed(void **state) { a_command_ends_with(*state, true); }

static void test_keeper__when_the_supervisor_is_lost_everything_fails_and_says_so(void **state) {
  struct fixture *fixture = *state;
  CLEANUP_FREE char *fifo = make_fifo(fixture, "fifo");
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  struct outcome *running = new_outcome(fixture);
  struct outcome *waiting = new_outcome(fixture);
  struct outcome *late = new_outcome(fixture);
  struct error error = {0};
  start_keeper(fixture, 1);
  int worker = open_process(identify(fixture).worker);
  submit_wait(fixture, fifo, NULL, TIME_NEVER, running);
  submit_text(fixture, JOB_ECHO, "", waiting);
  assert_int_equal(kill(fixture->supervisor, SIGKILL), 0);
  assert_ended(fixture, running, ERROR_UNREACHABLE);
  assert_ended(fixture, waiting, ERROR_UNREACHABLE);
  assert_non_null(strstr(running->error.message, "keeper"));
  assert_true(running->error.remedy[0] != '\0');
  int result =
      keeper_submit(fixture->keeper, (enum keeper_job)JOB_ECHO, &payload, TIME_NEVER, take_outcome, late, &error);
  assert_int_equal(result, ERROR_UNREACHABLE);
  assert_string_equal(error.message, running->error.message);
  assert_int_equal(late->times, 0);
  assert_process_ends(worker);
}

static void test_keeper__signals_that_a_terminal_or_systemd_send_to_all_do_not_end_it(void **state) {
  struct fixture *fixture = *state;
  static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
  start_keeper(fixture, 1);
  struct identity before = identify(fixture);
  for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
    assert_int_equal(kill(before.supervisor, signals[i]), 0);
    assert_int_equal(kill(before.worker, signals[i]), 0);
  }
  struct identity after = identify(fixture);
  assert_int_equal(after.worker, before.worker);
  assert_int_equal(after.supervisor, fixture->supervisor);
}

static void test_keeper__a_worker_keeps_no_descriptors_and_writes_no_core_dump(void **state) {
  struct fixture *fixture = *state;
  /* What the daemon might have open when it forks. */
  int descriptors[20];
  for (size_t i = 0; i < ARRAY_SIZE(descriptors); i++) descriptors[i] = open("/dev/null", O_RDONLY);
  start_keeper(fixture, 2);
  struct identity identity = identify(fixture);
  for (size_t i = 0; i < ARRAY_SIZE(descriptors); i++) close(descriptors[i]);
  assert_int_equal(identity.descriptors, 1);
  assert_int_equal(identity.dumpable, 0);
  assert_int_equal(identity.mask, 077);
}

static void test_keeper__more_workers_than_the_maximum_are_refused(void **state) {
  (void)state;
  int descriptor = -1;
  pid_t pid = 0;
  struct error error = {0};
  assert_int_equal(
      keeper_process_start(rig_handlers, RIG_HANDLERS, KEEPER_WORKERS_MAX + 1, &descriptor, &pid, &error),
      ERROR_INVALID);
  assert_int_equal(descriptor, -1);
}

/* Sends a JOB_WAIT without any loop. */
static void send_wait(int descriptor, const char *fifo, const char *file) {
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  CLEANUP(buffer_release) struct buffer frame = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  struct error error = {0};
  buffer_add_text_field(&payload, fifo);
  buffer_add_text_field(&payload, file);
  assert_int_equal(keeper_frame_write(1, JOB_WAIT, payload.data, payload.size, &frame, &error), 0);
  assert_int_equal(send(descriptor, frame.data, frame.size, 0), frame.size);
}

static void test_keeper__a_job_that_runs_when_our_end_is_closed_comes_to_its_end(void **state) {
  struct fixture *fixture = *state;
  CLEANUP_FREE char *fifo = make_fifo(fixture, "fifo");
  CLEANUP_FREE char *file = workplace_path(&fixture->workplace, "made");
  int descriptor = -1;
  const pid_t supervisor = start_processes(1, &descriptor);
  send_wait(descriptor, fifo, file);
  int writer = open(fifo, O_WRONLY | O_CLOEXEC);
  close(descriptor);
  close(writer);
  int status = -1;
  assert_int_equal(waitpid(supervisor, &status, 0), supervisor);
  assert_int_equal(status, 0);
  assert_int_equal(access(file, F_OK), 0);
}

static void test_keeper__a_peer_that_breaks_the_protocol_gets_the_end_of_the_stream(void **state) {
  (void)state;
  static const char *const broken[] = {"\x04\0\x10\0" /* over 64 MiB */, "\0\0\0\x01\x01",
                                       "\0\0\0\x0b\x63\0\0\0\0\0\0\0\1\0\x64" /* version 99 */};
  static const size_t sizes[] = {4, 5, 15};
  for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
    int descriptor = -1;
    const pid_t supervisor = start_processes(1, &descriptor);
    assert_int_equal(send(descriptor, broken[i], sizes[i], 0), sizes[i]);
    struct pollfd ended = {.fd = descriptor, .events = POLLIN};
    char octet;
    assert_int_equal(poll(&ended, 1, PATIENCE), 1);
    assert_true(recv(descriptor, &octet, 1, 0) <= 0);
    int status = 0;
    assert_int_equal(waitpid(supervisor, &status, 0), supervisor);
    close(descriptor);
  }
}

/* The process that owns the loop: starts a keeper, tells the supervisor's pid, and waits to be killed. If asked, another child keeps a
 * copy of the stream's end, so that its closing tells nothing. */
static void live_as_parent(int teller, int keep_alive, bool leak) {
  struct error error = {0};
  int descriptor = -1;
  pid_t supervisor = 0;
  char octet;
  if (keeper_process_start(rig_handlers, RIG_HANDLERS, 1, &descriptor, &supervisor, &error) < 0) _exit(1);
  if (leak && fork() == 0) {
    /* Ends with the test. */
    close(teller);
    _exit(read(keep_alive, &octet, 1) < 0);
  }
  if (write(teller, &supervisor, sizeof(supervisor)) < 0) _exit(1);
  for (;;) pause();
}

static void assert_keeper_ends_with_its_parent(bool leak) {
  int told[2];
  int alive[2];
  pid_t supervisor = 0;
  assert_int_equal(pipe2(told, O_CLOEXEC), 0);
  assert_int_equal(pipe2(alive, O_CLOEXEC), 0);
  pid_t parent = fork();
  assert_true(parent >= 0);
  if (parent == 0) {
    close(alive[1]);
    live_as_parent(told[1], alive[0], leak);
  }
  assert_int_equal(read(told[0], &supervisor, sizeof(supervisor)), sizeof(supervisor));
  int process = open_process(supervisor);
  assert_int_equal(kill(parent, SIGKILL), 0);
  assert_int_equal(waitpid(parent, NULL, 0), parent);
  assert_process_ends(process);
  close(told[0]);
  close(told[1]);
  close(alive[0]);
  close(alive[1]);
}

static void test_keeper__it_ends_when_its_parent_is_killed(void **state) {
  (void)state;
  assert_keeper_ends_with_its_parent(false);
}

static void test_keeper__it_ends_when_its_parent_is_killed_though_another_process_holds_the_stream(void **state) {
  (void)state;
  assert_keeper_ends_with_its_parent(true);
}

static void test_keeper__a_job_that_hangs_long_after_its_deadline_gives_its_worker_free(void **state) {
  struct fixture *fixture = *state;
  CLEANUP_FREE char *fifo = make_fifo(fixture, "fifo");
  struct outcome *outcome = new_outcome(fixture);
  start_impatient(fixture, (struct keeper_handlers){.items = rig_handlers, .count = RIG_HANDLERS});
  pid_t worker = identify(fixture).worker;
  submit_wait(fixture, fifo, NULL, loop_boottime(fixture->loop) + 20, outcome);
  assert_ended(fixture, outcome, ERROR_TIMEOUT);
  assert_int_not_equal(identify(fixture).worker, worker);
}

static void test_keeper__when_workers_die_one_after_the_other_it_gives_up_and_says_so(void **state) {
  struct fixture *fixture = *state;
  struct outcome *outcomes[KEEPER_DEATHS_MAX + 2];
  start_impatient(fixture, (struct keeper_handlers){.items = rig_handlers, .count = RIG_HANDLERS});
  for (size_t i = 0; i < ARRAY_SIZE(outcomes); i++) {
    outcomes[i] = new_outcome(fixture);
    submit_text(fixture, JOB_DIE, "", outcomes[i]);
  }
  for (size_t i = 0; i < ARRAY_SIZE(outcomes); i++) {
    assert_ended(fixture, outcomes[i], ERROR_SYSTEM);
    assert_int_equal(strstr(outcomes[i]->error.message, "gave up") != NULL, i >= KEEPER_DEATHS_MAX);
  }
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  struct outcome *late = new_outcome(fixture);
  struct error error = {0};
  late->loop = fixture->loop; /* which the end of the stream, if it comes later, is to stop */
  int result =
      keeper_submit(fixture->keeper, (enum keeper_job)JOB_ECHO, &payload, TIME_NEVER, take_outcome, late, &error);
  /* The end of the stream comes after the last answers, perhaps not in the same callback. */
  if (result == 0)
    assert_ended(fixture, late, ERROR_UNREACHABLE);
  else
    assert_int_equal(result, ERROR_UNREACHABLE);
}

static void test_keeper__one_job_done_between_two_deaths_starts_the_count_anew(void **state) {
  struct fixture *fixture = *state;
  start_impatient(fixture, (struct keeper_handlers){.items = rig_handlers, .count = RIG_HANDLERS});
  for (int i = 0; i < KEEPER_DEATHS_MAX + 2; i++) {
    run_job(fixture, JOB_DIE, "", ERROR_SYSTEM);
    assert_echo_works(fixture);
  }
}

/* The moment passed between the supervisor's look at its jobs and its sleep, about once in two hundred deaths. */
static void test_keeper__a_respawn_that_became_due_just_before_the_sleep_is_not_slept_over(void **state) {
  struct fixture *fixture = *state;
  start_impatient(fixture, (struct keeper_handlers){.items = rig_handlers, .count = RIG_HANDLERS});
  for (int i = 0; i < 300; i++) {
    struct outcome *death = new_outcome(fixture), *next = new_outcome(fixture);
    submit_text(fixture, JOB_DIE, "", death);
    submit_text(fixture, JOB_ECHO, "", next);
    assert_ended(fixture, death, ERROR_SYSTEM);
    assert_ended(fixture, next, 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_keeper__the_job_of_a_worker_that_died_may_be_tried_again_and_others_go_on),
      TEST(test_keeper__an_idle_worker_that_died_is_replaced_without_anybody_noticing),
      TEST(test_keeper__destroying_cancels_every_job_once_and_ends_all_processes),
      TEST(test_keeper__when_the_supervisor_is_lost_everything_fails_and_says_so),
      TEST(test_keeper__signals_that_a_terminal_or_systemd_send_to_all_do_not_end_it),
      TEST(test_keeper__a_worker_keeps_no_descriptors_and_writes_no_core_dump),
      TEST(test_keeper__more_workers_than_the_maximum_are_refused),
      TEST(test_keeper__a_job_that_runs_when_our_end_is_closed_comes_to_its_end),
      TEST(test_keeper__a_peer_that_breaks_the_protocol_gets_the_end_of_the_stream),
      TEST(test_keeper__a_command_does_not_outlive_those_who_wait_for_it),
      TEST(test_keeper__a_command_does_not_outlive_a_supervisor_that_was_killed),
      TEST(test_keeper__it_ends_when_its_parent_is_killed),
      TEST(test_keeper__it_ends_when_its_parent_is_killed_though_another_process_holds_the_stream),
      TEST(test_keeper__a_job_that_hangs_long_after_its_deadline_gives_its_worker_free),
      TEST(test_keeper__when_workers_die_one_after_the_other_it_gives_up_and_says_so),
      TEST(test_keeper__one_job_done_between_two_deaths_starts_the_count_anew),
      TEST(test_keeper__a_respawn_that_became_due_just_before_the_sleep_is_not_slept_over),
  };
  return cmocka_run_group_tests(tests, keeper_rig_group, NULL);
}
