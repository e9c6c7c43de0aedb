#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/keeper.h"
#include "dkimroll/keeper_frame.h"
#include "dkimroll/keeper_supervisor.h"
#include "dkimroll/text.h"
#include "workplace.h"

enum { PATIENCE = 30000 }; /* milliseconds after which something that should happen never will */

enum test_job {
  JOB_ECHO = 100,      /* answers with its request */
  JOB_FAIL = 101,      /* an error with everything that an error can carry */
  JOB_FAIL_MUTE = 102, /* a code and nothing else */
  JOB_DIE = 103,       /* kills its worker */
  JOB_WAIT =
      104, /* opens a fifo, which takes until somebody opens it for writing; then makes a file, if a second path is given */
  JOB_OPEN = 105,      /* opens a fifo for writing */
  JOB_IDENTIFY = 106,  /* tells about its process */
  JOB_TOO_LARGE = 107, /* a reply that is over the maximum */
};

struct identity {
  pid_t worker;
  pid_t supervisor;
  mode_t mask;
  int dumpable;
  size_t descriptors; /* open ones from 3 on */
};

static int run_echo(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  (void)context, (void)error;
  buffer_add(reply, request->data + request->position, request->size - request->position);
  return 0;
}

static int run_fail(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  (void)context, (void)request;
  buffer_add_text(reply, "what a failed job must not answer");
  error_set(error, ERROR_CONFLICT, "somebody changed the table");
  error_remedy(error, "look at it");
  return error_retryable(error, true);
}

static int run_fail_mute(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  (void)context, (void)request, (void)reply, (void)error;
  return ERROR_REFUSED;
}

static int run_die(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  (void)context, (void)request, (void)reply, (void)error;
  return raise(SIGKILL);
}

static int run_wait(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  (void)context, (void)reply;
  CLEANUP_FREE char *fifo = reader_text_field(request);
  CLEANUP_FREE char *file = reader_text_field(request);
  int descriptor = open(fifo, O_RDONLY | O_CLOEXEC);
  char octet;
  /* Until the other side closes it. */
  while (read(descriptor, &octet, 1) > 0) continue;
  close(descriptor);
  if (file[0] == '\0') return 0;
  int made = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (made < 0) return error_set_errno(error, errno, "%s", file);
  close(made);
  return 0;
}

static int run_open(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  (void)context, (void)reply, (void)error;
  CLEANUP_FREE char *fifo = reader_text_field(request);
  close(open(fifo, O_WRONLY | O_CLOEXEC));
  return 0;
}

static int run_identify(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  (void)context, (void)request, (void)error;
  struct identity identity = {.worker = getpid(), .supervisor = getppid(), .dumpable = prctl(PR_GET_DUMPABLE)};
  identity.mask = umask(077);
  for (int descriptor = 3; descriptor < 1024; descriptor++) identity.descriptors += fcntl(descriptor, F_GETFD) >= 0;
  buffer_add(reply, &identity, sizeof(identity));
  return 0;
}

static int run_too_large(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  (void)context, (void)request, (void)error;
  static const char octets[1024 * 1024];
  for (int i = 0; i < KEEPER_MESSAGE_MAX / (int)sizeof(octets) + 1; i++) buffer_add(reply, octets, sizeof(octets));
  return 0;
}

static const struct keeper_handler handlers[] = {
    {.job = KEEPER_GENERATE, .run = run_wait},
    {.job = (enum keeper_job)JOB_ECHO, .run = run_echo},
    {.job = (enum keeper_job)JOB_FAIL, .run = run_fail},
    {.job = (enum keeper_job)JOB_FAIL_MUTE, .run = run_fail_mute},
    {.job = (enum keeper_job)JOB_DIE, .run = run_die},
    {.job = (enum keeper_job)JOB_WAIT, .run = run_wait},
    {.job = (enum keeper_job)JOB_OPEN, .run = run_open},
    {.job = (enum keeper_job)JOB_IDENTIFY, .run = run_identify},
    {.job = (enum keeper_job)JOB_TOO_LARGE, .run = run_too_large},
};

/* What became of one job. */
struct outcome {
  struct loop *loop;
  unsigned times; /* that done came */
  struct error error;
  struct buffer reply;
};

static void take_outcome(void *context, const struct error *result, const uint8_t *reply, size_t reply_size) {
  struct outcome *outcome = context;
  outcome->times++;
  outcome->error = *result;
  outcome->reply.maximum = KEEPER_MESSAGE_MAX;
  buffer_reset(&outcome->reply);
  buffer_add(&outcome->reply, reply ? reply : (const uint8_t *)"", reply_size);
  loop_stop(outcome->loop);
}

enum { OUTCOMES_MAX = 1024 };

struct fixture {
  struct workplace workplace;
  struct loop *loop;
  struct keeper *keeper;
  pid_t supervisor;
  /* Here and not in the test function, which a failure leaves before the keeper is destroyed. */
  struct outcome outcomes[OUTCOMES_MAX];
  size_t outcome_count;
};

static struct outcome *new_outcome(struct fixture *fixture) {
  assert_true(fixture->outcome_count < OUTCOMES_MAX);
  return &fixture->outcomes[fixture->outcome_count++];
}

static void start_keeper(struct fixture *fixture, unsigned workers) {
  struct error error = {0};
  int descriptor = -1;
  assert_int_equal(
      keeper_process_start(handlers, ARRAY_SIZE(handlers), workers, &descriptor, &fixture->supervisor, &error), 0);
  assert_int_equal(loop_sd_event_new(&fixture->loop, &error), 0);
  assert_int_equal(keeper_connect(fixture->loop, descriptor, fixture->supervisor, &fixture->keeper, &error), 0);
}

static int set_up(void **state) {
  struct fixture *fixture = calloc(1, sizeof(*fixture));
  workplace_make(&fixture->workplace, "/tmp");
  *state = fixture;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *fixture = *state;
  keeper_destroy(fixture->keeper);
  if (fixture->loop) loop_destroy(fixture->loop);
  for (size_t i = 0; i < fixture->outcome_count; i++) buffer_release(&fixture->outcomes[i].reply);
  workplace_remove(&fixture->workplace);
  free(fixture);
  return 0;
}

static void submit(struct fixture *fixture, enum test_job job, const struct buffer *payload, int64_t deadline,
                   struct outcome *outcome) {
  struct error error = {0};
  outcome->loop = fixture->loop;
  int result = keeper_submit(fixture->keeper, (enum keeper_job)job, payload, deadline, take_outcome, outcome, &error);
  if (result < 0) fail_msg("submit: %s", error.message);
}

static void submit_text(struct fixture *fixture, enum test_job job, const char *text, struct outcome *outcome) {
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  buffer_add_text(&payload, text);
  submit(fixture, job, &payload, TIME_NEVER, outcome);
}

/* file may be NULL. */
static void submit_wait(struct fixture *fixture, const char *fifo, const char *file, int64_t deadline,
                        struct outcome *outcome) {
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  buffer_add_text_field(&payload, fifo);
  buffer_add_text_field(&payload, file);
  submit(fixture, JOB_WAIT, &payload, deadline, outcome);
}

static void give_up(void *context) {
  loop_stop(context);
}

/* Runs the loop until done came for that outcome. */
static void wait_for(struct fixture *fixture, struct outcome *outcome) {
  struct loop_source *watchdog = NULL;
  struct error error = {0};
  int64_t until = loop_boottime(fixture->loop) + PATIENCE;
  assert_int_equal(loop_at(fixture->loop, until, give_up, fixture->loop, &watchdog), 0);
  while (outcome->times == 0 && loop_boottime(fixture->loop) < until) {
    assert_int_equal(loop_run(fixture->loop, &error), 0);
  }
  if (loop_boottime(fixture->loop) >= until) fail_msg("a job was not done in %d ms", PATIENCE);
  loop_cancel(fixture->loop, &watchdog);
  assert_int_equal(outcome->times, 1);
}

static void assert_ended(struct fixture *fixture, struct outcome *outcome, int code) {
  wait_for(fixture, outcome);
  if (outcome->error.code != code) {
    fail_msg("%s instead of %s: %s", error_code_name(outcome->error.code), error_code_name(code),
             outcome->error.message);
  }
}

static void assert_echo_works(struct fixture *fixture) {
  struct outcome *outcome = new_outcome(fixture);
  submit_text(fixture, JOB_ECHO, "still there", outcome);
  wait_for(fixture, outcome);
  assert_int_equal(outcome->error.code, 0);
  assert_string_equal(outcome->reply.data, "still there");
}

static struct identity identify(struct fixture *fixture) {
  struct outcome *outcome = new_outcome(fixture);
  struct identity identity;
  submit_text(fixture, JOB_IDENTIFY, "", outcome);
  wait_for(fixture, outcome);
  assert_int_equal(outcome->error.code, 0);
  assert_int_equal(outcome->reply.size, sizeof(identity));
  memcpy(&identity, outcome->reply.data, sizeof(identity));
  return identity;
}

static char *make_fifo(const struct fixture *fixture, const char *name) {
  char *path = workplace_path(&fixture->workplace, name);
  assert_int_equal(mkfifo(path, 0600), 0);
  return path;
}

/* Lets a JOB_WAIT that waits at fifo go on; returns only when it does wait. */
static void release_fifo(const char *fifo) {
  int descriptor = open(fifo, O_WRONLY | O_CLOEXEC);
  assert_true(descriptor >= 0);
  close(descriptor);
}

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

static void test_keeper__a_job_is_answered_with_what_its_handler_wrote_and_never_inside_submit(void **state) {
  struct fixture *fixture = *state;
  struct outcome *outcome = new_outcome(fixture);
  start_keeper(fixture, 1);
  submit_text(fixture, JOB_ECHO, "octets", outcome);
  assert_int_equal(outcome->times, 0);
  wait_for(fixture, outcome);
  assert_int_equal(outcome->error.code, 0);
  assert_string_equal(outcome->reply.data, "octets");
}

static void test_keeper__an_empty_job_has_an_empty_answer(void **state) {
  struct fixture *fixture = *state;
  struct outcome *outcome = new_outcome(fixture);
  start_keeper(fixture, 1);
  submit_text(fixture, JOB_ECHO, "", outcome);
  wait_for(fixture, outcome);
  assert_int_equal(outcome->error.code, 0);
  assert_int_equal(outcome->reply.size, 0);
}

static void test_keeper__an_error_travels_with_code_message_remedy_and_whether_to_try_again(void **state) {
  struct fixture *fixture = *state;
  struct outcome *outcome = new_outcome(fixture);
  start_keeper(fixture, 1);
  submit_text(fixture, JOB_FAIL, "", outcome);
  wait_for(fixture, outcome);
  assert_int_equal(outcome->error.code, ERROR_CONFLICT);
  assert_true(outcome->error.retryable);
  assert_string_equal(outcome->error.message, "somebody changed the table");
  assert_string_equal(outcome->error.remedy, "look at it");
  assert_int_equal(outcome->reply.size, 0);
}

static void test_keeper__an_error_without_a_reason_still_says_which_job_failed(void **state) {
  struct fixture *fixture = *state;
  struct outcome *outcome = new_outcome(fixture);
  start_keeper(fixture, 1);
  submit_text(fixture, JOB_FAIL_MUTE, "", outcome);
  assert_ended(fixture, outcome, ERROR_REFUSED);
  assert_non_null(strstr(outcome->error.message, "102"));
}

static void test_keeper__an_unknown_job_is_an_error_and_the_worker_lives_on(void **state) {
  struct fixture *fixture = *state;
  struct outcome *outcome = new_outcome(fixture);
  start_keeper(fixture, 1);
  pid_t worker = identify(fixture).worker;
  submit_text(fixture, (enum test_job)999, "", outcome);
  assert_ended(fixture, outcome, ERROR_PROTOCOL);
  assert_int_equal(identify(fixture).worker, worker);
}

static void test_keeper__an_answer_over_the_maximum_is_an_error(void **state) {
  struct fixture *fixture = *state;
  struct outcome *outcome = new_outcome(fixture);
  start_keeper(fixture, 1);
  submit_text(fixture, JOB_TOO_LARGE, "", outcome);
  assert_ended(fixture, outcome, ERROR_LIMIT);
  assert_echo_works(fixture);
}

static void test_keeper__a_thousand_jobs_at_once_are_each_answered_once(void **state) {
  struct fixture *fixture = *state;
  enum { JOBS = 1000 };
  struct outcome *outcomes[JOBS];
  start_keeper(fixture, 2);
  for (unsigned i = 0; i < JOBS; i++) {
    CLEANUP_FREE char *text = text_format("job %u", i);
    outcomes[i] = new_outcome(fixture);
    submit_text(fixture, JOB_ECHO, text, outcomes[i]);
  }
  for (unsigned i = 0; i < JOBS; i++) {
    CLEANUP_FREE char *text = text_format("job %u", i);
    wait_for(fixture, outcomes[i]);
    assert_string_equal(outcomes[i]->reply.data, text);
  }
}

static void count_call(void *context) {
  ++*(unsigned *)context;
}

static void stop_later(struct loop *loop) {
  assert_int_equal(loop_defer(loop, give_up, loop, NULL), 0);
}

static void test_keeper__the_largest_job_does_not_block_the_loop_while_nobody_reads_it(void **state) {
  struct fixture *fixture = *state;
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  struct outcome *outcome = new_outcome(fixture);
  struct error error = {0};
  unsigned calls = 0;
  for (int i = 0; i < KEEPER_MESSAGE_MAX / 16; i++) buffer_add(&payload, "0123456789abcdef", 16);
  assert_false(payload.failed);
  start_keeper(fixture, 1);
  assert_int_equal(kill(fixture->supervisor, SIGSTOP), 0);
  submit(fixture, JOB_ECHO, &payload, TIME_NEVER, outcome);
  for (int i = 0; i < 10; i++) {
    assert_int_equal(loop_defer(fixture->loop, count_call, &calls, NULL), 0);
    stop_later(fixture->loop);
    assert_int_equal(loop_run(fixture->loop, &error), 0);
  }
  assert_int_equal(calls, 10);
  assert_int_equal(outcome->times, 0);
  assert_int_equal(kill(fixture->supervisor, SIGCONT), 0);
  wait_for(fixture, outcome);
  assert_int_equal(outcome->error.code, 0);
  assert_int_equal(outcome->reply.size, payload.size);
  assert_memory_equal(outcome->reply.data, payload.data, payload.size);
}

static void test_keeper__jobs_over_the_limits_are_refused_at_once(void **state) {
  struct fixture *fixture = *state;
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(4);
  struct outcome *outcome = new_outcome(fixture);
  struct error error = {0};
  start_keeper(fixture, 1);
  buffer_add_text(&payload, "more than four");
  int result =
      keeper_submit(fixture->keeper, (enum keeper_job)JOB_ECHO, &payload, TIME_NEVER, take_outcome, outcome, &error);
  assert_int_equal(result, ERROR_LIMIT);
  struct buffer huge = {.data = (uint8_t *)"", .size = KEEPER_MESSAGE_MAX + 1};
  result = keeper_submit(fixture->keeper, (enum keeper_job)JOB_ECHO, &huge, TIME_NEVER, take_outcome, outcome, &error);
  assert_int_equal(result, ERROR_LIMIT);
  assert_echo_works(fixture);
  assert_int_equal(outcome->times, 0);
}

static void test_keeper__too_many_waiting_jobs_are_refused_as_busy(void **state) {
  struct fixture *fixture = *state;
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  struct outcome *outcomes[4];
  struct outcome *refused = new_outcome(fixture);
  struct error error = {0};
  static const char octets[1024 * 1024];
  while (payload.size + sizeof(octets) <= KEEPER_MESSAGE_MAX) buffer_add(&payload, octets, sizeof(octets));
  start_keeper(fixture, 1);
  assert_int_equal(kill(fixture->supervisor, SIGSTOP), 0);
  for (size_t i = 0; i < ARRAY_SIZE(outcomes); i++) {
    outcomes[i] = new_outcome(fixture);
    submit(fixture, JOB_ECHO, &payload, TIME_NEVER, outcomes[i]);
  }
  int result =
      keeper_submit(fixture->keeper, (enum keeper_job)JOB_ECHO, &payload, TIME_NEVER, take_outcome, refused, &error);
  assert_int_equal(result, ERROR_BUSY);
  assert_true(error.retryable);
  assert_int_equal(kill(fixture->supervisor, SIGCONT), 0);
  for (size_t i = 0; i < ARRAY_SIZE(outcomes); i++) assert_ended(fixture, outcomes[i], 0);
  assert_int_equal(refused->times, 0);
  assert_echo_works(fixture);
}

static void test_keeper__two_workers_work_at_the_same_time(void **state) {
  struct fixture *fixture = *state;
  CLEANUP_FREE char *fifo = make_fifo(fixture, "fifo");
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  struct outcome *waiting = new_outcome(fixture);
  struct outcome *opening = new_outcome(fixture);
  start_keeper(fixture, 2);
  submit_wait(fixture, fifo, NULL, TIME_NEVER, waiting);
  buffer_add_text_field(&payload, fifo);
  submit(fixture, JOB_OPEN, &payload, TIME_NEVER, opening);
  assert_ended(fixture, waiting, 0);
  assert_ended(fixture, opening, 0);
}

/* Hundreds of keys may be asked for at once, each of which takes a second, and a switch has a deadline. */
static void test_keeper__the_making_of_keys_lets_all_other_jobs_go_first(void **state) {
  struct fixture *fixture = *state;
  CLEANUP_FREE char *first = make_fifo(fixture, "first");
  CLEANUP_FREE char *second = make_fifo(fixture, "second");
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  struct outcome *busy = new_outcome(fixture), *key = new_outcome(fixture), *other = new_outcome(fixture);
  struct outcome *tick = new_outcome(fixture);
  start_keeper(fixture, 1);
  submit_wait(fixture, first, NULL, TIME_NEVER, busy);
  buffer_add_text_field(&payload, second);
  buffer_add_text_field(&payload, "");
  submit(fixture, (enum test_job)KEEPER_GENERATE, &payload, TIME_NEVER, key);
  submit_text(fixture, JOB_ECHO, "later", other);
  /* While this one times out, all of them get to the supervisor. */
  buffer_reset(&payload);
  submit(fixture, JOB_ECHO, &payload, loop_boottime(fixture->loop) + 1000, tick);
  assert_ended(fixture, tick, ERROR_TIMEOUT);
  release_fifo(first);
  assert_ended(fixture, busy, 0);
  assert_ended(fixture, other, 0); /* else it would wait for ever: nobody opens the second fifo */
  assert_int_equal(key->times, 0);
  release_fifo(second);
  assert_ended(fixture, key, 0);
}

static void test_keeper__the_job_of_a_worker_that_died_may_be_tried_again_and_others_go_on(void **state) {
  struct fixture *fixture = *state;
  struct outcome *outcome = new_outcome(fixture);
  start_keeper(fixture, 1);
  pid_t worker = identify(fixture).worker;
  submit_text(fixture, JOB_DIE, "", outcome);
  assert_ended(fixture, outcome, ERROR_SYSTEM);
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

static void test_keeper__a_job_past_its_deadline_times_out_and_its_late_answer_harms_nobody(void **state) {
  struct fixture *fixture = *state;
  CLEANUP_FREE char *fifo = make_fifo(fixture, "fifo");
  struct outcome *outcome = new_outcome(fixture);
  start_keeper(fixture, 1);
  submit_wait(fixture, fifo, NULL, loop_boottime(fixture->loop) + 50, outcome);
  assert_ended(fixture, outcome, ERROR_TIMEOUT);
  assert_true(outcome->error.retryable);
  release_fifo(fifo);
  assert_echo_works(fixture);
  assert_int_equal(outcome->times, 1);
}

static void test_keeper__a_job_that_timed_out_before_a_worker_took_it_is_never_begun(void **state) {
  struct fixture *fixture = *state;
  CLEANUP_FREE char *fifo = make_fifo(fixture, "fifo");
  CLEANUP_FREE char *second = make_fifo(fixture, "second");
  CLEANUP_FREE char *file = workplace_path(&fixture->workplace, "made");
  struct outcome *running = new_outcome(fixture);
  struct outcome *waiting = new_outcome(fixture);
  start_keeper(fixture, 1);
  /* A worker that takes the second job would wait at the second fifo for ever. */
  submit_wait(fixture, fifo, NULL, TIME_NEVER, running);
  submit_wait(fixture, second, file, loop_boottime(fixture->loop) + 50, waiting);
  assert_ended(fixture, waiting, ERROR_TIMEOUT);
  release_fifo(fifo);
  assert_ended(fixture, running, 0);
  assert_echo_works(fixture);
}

/* A supervisor with less patience than the real one. */
static void start_impatient(struct fixture *fixture) {
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
                                                   .handlers = {handlers, ARRAY_SIZE(handlers)}};
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
  start_impatient(fixture);
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
      keeper_process_start(handlers, ARRAY_SIZE(handlers), KEEPER_WORKERS_MAX + 1, &descriptor, &pid, &error),
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
  struct error error = {0};
  int descriptor = -1;
  pid_t supervisor = 0;
  assert_int_equal(keeper_process_start(handlers, ARRAY_SIZE(handlers), 1, &descriptor, &supervisor, &error), 0);
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
    struct error error = {0};
    int descriptor = -1;
    pid_t supervisor = 0;
    assert_int_equal(keeper_process_start(handlers, ARRAY_SIZE(handlers), 1, &descriptor, &supervisor, &error), 0);
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
  if (keeper_process_start(handlers, ARRAY_SIZE(handlers), 1, &descriptor, &supervisor, &error) < 0) _exit(1);
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
  start_impatient(fixture);
  pid_t worker = identify(fixture).worker;
  submit_wait(fixture, fifo, NULL, loop_boottime(fixture->loop) + 20, outcome);
  assert_ended(fixture, outcome, ERROR_TIMEOUT);
  assert_int_not_equal(identify(fixture).worker, worker);
}

static void test_keeper__when_workers_die_one_after_the_other_it_gives_up_and_says_so(void **state) {
  struct fixture *fixture = *state;
  struct outcome *outcomes[KEEPER_DEATHS_MAX + 2];
  start_impatient(fixture);
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
  start_impatient(fixture);
  for (int i = 0; i < KEEPER_DEATHS_MAX + 2; i++) {
    struct outcome *outcome = new_outcome(fixture);
    submit_text(fixture, JOB_DIE, "", outcome);
    assert_ended(fixture, outcome, ERROR_SYSTEM);
    assert_echo_works(fixture);
  }
}

/* The moment passed between the supervisor's look at its jobs and its sleep, about once in two hundred deaths. */
static void test_keeper__a_respawn_that_became_due_just_before_the_sleep_is_not_slept_over(void **state) {
  struct fixture *fixture = *state;
  start_impatient(fixture);
  for (int i = 0; i < 300; i++) {
    struct outcome *death = new_outcome(fixture), *next = new_outcome(fixture);
    submit_text(fixture, JOB_DIE, "", death);
    submit_text(fixture, JOB_ECHO, "", next);
    assert_ended(fixture, death, ERROR_SYSTEM);
    assert_ended(fixture, next, 0);
  }
}

/* The keeper without processes, over a virtual clock. */
static void start_direct(struct fixture *fixture) {
  const struct clock_reading start = {.wall = 1700000000, .boottime = 1000};
  struct error error = {0};
  assert_int_equal(loop_virtual_new(&start, &fixture->loop, &error), 0);
  assert_int_equal(keeper_direct_new(fixture->loop, handlers, ARRAY_SIZE(handlers), &fixture->keeper, &error), 0);
}

static void test_keeper__the_direct_one_answers_in_the_same_way(void **state) {
  struct fixture *fixture = *state;
  struct outcome *echo = new_outcome(fixture);
  struct outcome *failed = new_outcome(fixture);
  start_direct(fixture);
  submit_text(fixture, JOB_ECHO, "octets", echo);
  submit_text(fixture, JOB_FAIL, "", failed);
  assert_int_equal(echo->times, 0);
  wait_for(fixture, echo);
  assert_string_equal(echo->reply.data, "octets");
  wait_for(fixture, failed);
  assert_int_equal(failed->error.code, ERROR_CONFLICT);
  assert_true(failed->error.retryable);
  assert_string_equal(failed->error.remedy, "look at it");
  assert_int_equal(failed->reply.size, 0);
}

static void test_keeper__the_direct_one_cancels_what_it_has_not_done(void **state) {
  struct fixture *fixture = *state;
  struct outcome *outcome = new_outcome(fixture);
  start_direct(fixture);
  submit_text(fixture, JOB_ECHO, "octets", outcome);
  keeper_destroy(fixture->keeper);
  fixture->keeper = NULL;
  assert_int_equal(outcome->times, 1);
  assert_int_equal(outcome->error.code, ERROR_CANCELLED);
}

static void test_keeper__the_direct_one_does_not_begin_after_the_deadline(void **state) {
  struct fixture *fixture = *state;
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  struct outcome *outcome = new_outcome(fixture);
  start_direct(fixture);
  submit(fixture, JOB_ECHO, &payload, loop_boottime(fixture->loop) - 1, outcome);
  assert_ended(fixture, outcome, ERROR_TIMEOUT);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  /* Opening a fifo waits for the other side; where a defect keeps that away, the test must still come to an end. */
  alarm(10 * PATIENCE / 1000);
  const struct CMUnitTest tests[] = {
      TEST(test_keeper__a_job_is_answered_with_what_its_handler_wrote_and_never_inside_submit),
      TEST(test_keeper__an_empty_job_has_an_empty_answer),
      TEST(test_keeper__an_error_travels_with_code_message_remedy_and_whether_to_try_again),
      TEST(test_keeper__an_error_without_a_reason_still_says_which_job_failed),
      TEST(test_keeper__an_unknown_job_is_an_error_and_the_worker_lives_on),
      TEST(test_keeper__an_answer_over_the_maximum_is_an_error),
      TEST(test_keeper__a_thousand_jobs_at_once_are_each_answered_once),
      TEST(test_keeper__the_largest_job_does_not_block_the_loop_while_nobody_reads_it),
      TEST(test_keeper__jobs_over_the_limits_are_refused_at_once),
      TEST(test_keeper__too_many_waiting_jobs_are_refused_as_busy),
      TEST(test_keeper__two_workers_work_at_the_same_time),
      TEST(test_keeper__the_making_of_keys_lets_all_other_jobs_go_first),
      TEST(test_keeper__the_job_of_a_worker_that_died_may_be_tried_again_and_others_go_on),
      TEST(test_keeper__an_idle_worker_that_died_is_replaced_without_anybody_noticing),
      TEST(test_keeper__a_job_past_its_deadline_times_out_and_its_late_answer_harms_nobody),
      TEST(test_keeper__a_job_that_timed_out_before_a_worker_took_it_is_never_begun),
      TEST(test_keeper__destroying_cancels_every_job_once_and_ends_all_processes),
      TEST(test_keeper__when_the_supervisor_is_lost_everything_fails_and_says_so),
      TEST(test_keeper__signals_that_a_terminal_or_systemd_send_to_all_do_not_end_it),
      TEST(test_keeper__a_worker_keeps_no_descriptors_and_writes_no_core_dump),
      TEST(test_keeper__more_workers_than_the_maximum_are_refused),
      TEST(test_keeper__a_job_that_runs_when_our_end_is_closed_comes_to_its_end),
      TEST(test_keeper__a_peer_that_breaks_the_protocol_gets_the_end_of_the_stream),
      TEST(test_keeper__it_ends_when_its_parent_is_killed),
      TEST(test_keeper__it_ends_when_its_parent_is_killed_though_another_process_holds_the_stream),
      TEST(test_keeper__a_job_that_hangs_long_after_its_deadline_gives_its_worker_free),
      TEST(test_keeper__when_workers_die_one_after_the_other_it_gives_up_and_says_so),
      TEST(test_keeper__one_job_done_between_two_deaths_starts_the_count_anew),
      TEST(test_keeper__a_respawn_that_became_due_just_before_the_sleep_is_not_slept_over),
      TEST(test_keeper__the_direct_one_answers_in_the_same_way),
      TEST(test_keeper__the_direct_one_cancels_what_it_has_not_done),
      TEST(test_keeper__the_direct_one_does_not_begin_after_the_deadline),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
