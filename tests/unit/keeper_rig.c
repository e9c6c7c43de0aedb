#include "keeper_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

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

const struct keeper_handler rig_handlers[RIG_HANDLERS] = {
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

void take_outcome(void *context, const struct error *result, const uint8_t *reply, size_t reply_size) {
  struct outcome *outcome = context;
  outcome->times++;
  outcome->error = *result;
  outcome->reply.maximum = KEEPER_MESSAGE_MAX;
  buffer_reset(&outcome->reply);
  buffer_add(&outcome->reply, reply ? reply : (const uint8_t *)"", reply_size);
  loop_stop(outcome->loop);
}

struct outcome *new_outcome(struct fixture *fixture) {
  assert_true(fixture->outcome_count < OUTCOMES_MAX);
  return &fixture->outcomes[fixture->outcome_count++];
}

pid_t start_processes(unsigned workers, int *ret_descriptor) {
  struct error error = {0};
  pid_t supervisor = 0;
  assert_int_equal(keeper_process_start(rig_handlers, RIG_HANDLERS, workers, ret_descriptor, &supervisor, &error), 0);
  return supervisor;
}

void start_keeper(struct fixture *fixture, unsigned workers) {
  struct error error = {0};
  int descriptor = -1;
  fixture->supervisor = start_processes(workers, &descriptor);
  assert_int_equal(loop_sd_event_new(&fixture->loop, &error), 0);
  assert_int_equal(keeper_connect(fixture->loop, descriptor, fixture->supervisor, &fixture->keeper, &error), 0);
}

int keeper_rig_setup(void **state) {
  struct fixture *fixture = calloc(1, sizeof(*fixture));
  workplace_make(&fixture->workplace, "/tmp");
  *state = fixture;
  return 0;
}

int keeper_rig_teardown(void **state) {
  struct fixture *fixture = *state;
  keeper_destroy(fixture->keeper);
  if (fixture->loop) loop_destroy(fixture->loop);
  for (size_t i = 0; i < fixture->outcome_count; i++) buffer_release(&fixture->outcomes[i].reply);
  workplace_remove(&fixture->workplace);
  free(fixture);
  return 0;
}

int keeper_rig_group(void **state) {
  (void)state;
  signal(SIGPIPE, SIG_IGN);
  /* Opening a fifo waits for the other side; where a defect keeps that away, the test must still come to an end. */
  alarm(10 * PATIENCE / 1000);
  return 0;
}

void submit_job(struct fixture *fixture, enum test_job job, const struct buffer *payload, int64_t deadline, struct outcome *outcome) {
  struct error error = {0};
  outcome->loop = fixture->loop;
  int result = keeper_submit(fixture->keeper, (enum keeper_job)job, payload, deadline, take_outcome, outcome, &error);
  if (result < 0) fail_msg("submit: %s", error.message);
}

void submit_text(struct fixture *fixture, enum test_job job, const char *text, struct outcome *outcome) {
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  buffer_add_text(&payload, text);
  submit_job(fixture, job, &payload, TIME_NEVER, outcome);
}

void submit_wait(struct fixture *fixture, const char *fifo, const char *file, int64_t deadline, struct outcome *outcome) {
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  buffer_add_text_field(&payload, fifo);
  buffer_add_text_field(&payload, file);
  submit_job(fixture, JOB_WAIT, &payload, deadline, outcome);
}

void end_loop(void *loop) {
  loop_stop(loop);
}

void wait_for_outcome(struct fixture *fixture, struct outcome *outcome) {
  struct loop_source *watchdog = NULL;
  struct error error = {0};
  int64_t until = loop_boottime(fixture->loop) + PATIENCE;
  assert_int_equal(loop_at(fixture->loop, until, end_loop, fixture->loop, &watchdog), 0);
  while (outcome->times == 0 && loop_boottime(fixture->loop) < until) {
    assert_int_equal(loop_run(fixture->loop, &error), 0);
  }
  if (loop_boottime(fixture->loop) >= until) fail_msg("a job was not done in %d ms", PATIENCE);
  loop_cancel(fixture->loop, &watchdog);
  assert_int_equal(outcome->times, 1);
}

void assert_ended(struct fixture *fixture, struct outcome *outcome, int code) {
  wait_for_outcome(fixture, outcome);
  if (outcome->error.code != code) {
    fail_msg("%s instead of %s: %s", error_code_name(outcome->error.code), error_code_name(code),
             outcome->error.message);
  }
}

struct outcome *run_job(struct fixture *fixture, enum test_job job, const char *text, int code) {
  struct outcome *outcome = new_outcome(fixture);
  submit_text(fixture, job, text, outcome);
  assert_ended(fixture, outcome, code);
  return outcome;
}

void assert_echo_works(struct fixture *fixture) {
  assert_string_equal(run_job(fixture, JOB_ECHO, "still there", 0)->reply.data, "still there");
}

struct identity identify(struct fixture *fixture) {
  struct outcome *outcome = run_job(fixture, JOB_IDENTIFY, "", 0);
  struct identity identity;
  assert_int_equal(outcome->reply.size, sizeof(identity));
  memcpy(&identity, outcome->reply.data, sizeof(identity));
  return identity;
}

char *make_fifo(const struct fixture *fixture, const char *name) {
  char *path = workplace_path(&fixture->workplace, name);
  assert_int_equal(mkfifo(path, 0600), 0);
  return path;
}

void release_fifo(const char *fifo) {
  int descriptor = open(fifo, O_WRONLY | O_CLOEXEC);
  assert_true(descriptor >= 0);
  close(descriptor);
}
