#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/keeper_walls.h"
#include "dkimroll/landlock.h"
#include "dkimroll/text.h"
#include "forked.h"
#include "workplace.h"

enum { JOB_MAKE = 100, ANSWER_SECONDS = 30 };

/* Makes a file at the path that it is given. */
static int run_make(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  (void)context, (void)reply;
  CLEANUP_FREE char *path = reader_text_field(request);
  CLEANUP_CLOSE int descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  return descriptor < 0 ? error_set_errno(error, errno, "cannot make %s", path) : 0;
}

struct fixture {
  struct workplace workplace;
  char *granted;
  const char *writable[1];
  struct keeper_walls walls;
  struct keeper_handler handlers[2];
  struct loop *loop;
  struct keeper *keeper;
  struct error result;
  uint8_t reply[2048];
  size_t reply_size;
};

static void take(void *context, const struct error *result, const uint8_t *reply, size_t reply_size) {
  struct fixture *fixture = context;
  fixture->result = *result;
  assert_true(reply_size <= sizeof fixture->reply);
  if (reply_size > 0) memcpy(fixture->reply, reply, reply_size);
  fixture->reply_size = reply_size;
  loop_stop(fixture->loop);
}

static int ask(struct fixture *fixture, int job, const char *path) {
  struct buffer payload = BUFFER_WITH_MAXIMUM(4096);
  struct error error = {0};
  if (path) buffer_add_text_field(&payload, path);
  const int64_t deadline = loop_boottime(fixture->loop) + ANSWER_SECONDS * 1000;
  assert_int_equal(keeper_submit(fixture->keeper, (enum keeper_job)job, &payload, deadline, take, fixture, &error), 0);
  buffer_release(&payload);
  assert_int_equal(loop_run(fixture->loop, &error), 0);
  return fixture->result.code;
}

static int set_up(void **state) {
  struct fixture *fixture = calloc(1, sizeof *fixture);
  struct error error = {0};
  int descriptor = -1;
  pid_t pid = 0;
  /* /tmp is open to reload commands, so what must be closed lies elsewhere. */
  workplace_make(&fixture->workplace, access("/run", W_OK) == 0 ? "/run" : "/tmp");
  fixture->granted = workplace_path(&fixture->workplace, "granted");
  assert_int_equal(mkdir(fixture->granted, 0700), 0);
  fixture->writable[0] = fixture->granted;
  fixture->walls = (struct keeper_walls){.writable = fixture->writable, .writable_count = 1};
  fixture->handlers[0] = keeper_walls_handler(&fixture->walls);
  fixture->handlers[1] = (struct keeper_handler){.job = (enum keeper_job)JOB_MAKE, .run = run_make};
  const struct keeper_setup setup = {.handlers = fixture->handlers, .handler_count = 2, .workers = 1, .walls = &fixture->walls};
  assert_int_equal(keeper_process_fork(&setup, &descriptor, &pid, &error), 0);
  assert_int_equal(loop_sd_event_new(&fixture->loop, &error), 0);
  assert_int_equal(keeper_connect(fixture->loop, descriptor, pid, &fixture->keeper, &error), 0);
  *state = fixture;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *fixture = *state;
  keeper_destroy(fixture->keeper);
  loop_destroy(fixture->loop);
  workplace_remove(&fixture->workplace);
  free(fixture->granted);
  free(fixture);
  return 0;
}

static void test_keeper_walls__workers_tell_what_they_are(void **state) {
  struct fixture *fixture = *state;
  struct keeper_walls_report report;
  struct error error = {0};
  assert_int_equal(ask(fixture, KEEPER_WALLS, NULL), 0);
  assert_int_equal(keeper_walls_read(fixture->reply, fixture->reply_size, &report, &error), 0);
  assert_int_equal(report.user, geteuid());
  assert_false(report.network);
  assert_int_equal(report.landlock_abi, landlock_abi());
  assert_string_equal(report.problem, "");
  assert_int_equal(ask(fixture, KEEPER_WALLS, "what is not asked"), ERROR_PROTOCOL);
}

static void test_keeper_walls__workers_write_below_what_the_policy_grants_alone(void **state) {
  struct fixture *fixture = *state;
  if (landlock_abi() == 0 || !text_starts(fixture->workplace.path, "/run")) skip();
  CLEANUP_FREE char *inside = workplace_path(&fixture->workplace, "granted/file");
  CLEANUP_FREE char *outside = workplace_path(&fixture->workplace, "file");
  CLEANUP_FREE char *upwards = workplace_path(&fixture->workplace, "granted/../file");
  CLEANUP_FREE char *link = workplace_path(&fixture->workplace, "granted/link");
  assert_int_equal(symlink(outside, link), 0);
  assert_int_equal(ask(fixture, JOB_MAKE, inside), 0);
  assert_int_equal(ask(fixture, JOB_MAKE, outside), ERROR_PERMISSION);
  assert_int_equal(ask(fixture, JOB_MAKE, upwards), ERROR_PERMISSION);
  assert_int_equal(ask(fixture, JOB_MAKE, link), ERROR_PERMISSION);
  assert_int_equal(access(outside, F_OK), -1);
}

static void test_keeper_walls__a_reply_that_is_cut_or_too_long_is_refused(void **state) {
  struct fixture *fixture = *state;
  struct keeper_walls_report report;
  struct error error = {0};
  assert_int_equal(ask(fixture, KEEPER_WALLS, NULL), 0);
  for (size_t size = 0; size < fixture->reply_size; size++)
    assert_int_equal(keeper_walls_read(fixture->reply, size, &report, &error), ERROR_PROTOCOL);
  assert_int_equal(keeper_walls_read(fixture->reply, fixture->reply_size + 1, &report, &error), ERROR_PROTOCOL);
}

/* A container may forbid what walls are made of: the keeper works on, and says so. */
static int raise_without(const void *unused) {
  (void)unused;
  struct keeper_walls walls = {.writable_count = 0};
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  FORKED_EXPECT(filter && seccomp_rule_add(filter, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(landlock_restrict_self), 0) == 0);
  FORKED_EXPECT(seccomp_rule_add(filter, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(seccomp), 0) == 0);
  FORKED_EXPECT(seccomp_rule_add(filter, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(prctl), 1, SCMP_A0(SCMP_CMP_EQ, 22 /* PR_SET_SECCOMP */)) == 0);
  FORKED_EXPECT(seccomp_load(filter) == 0);
  seccomp_release(filter);
  keeper_walls_raise(&walls);
  FORKED_EXPECT(walls.raised && walls.landlock_abi == 0);
  FORKED_EXPECT(walls.problem.code == ERROR_SYSTEM && strstr(walls.problem.message, "seccomp"));
  return 0;
}

static void test_keeper_walls__one_that_cannot_be_raised_is_told(void **state) {
  (void)state;
  assert_int_equal(forked(raise_without, NULL), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_keeper_walls__workers_tell_what_they_are, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_keeper_walls__workers_write_below_what_the_policy_grants_alone, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_keeper_walls__a_reply_that_is_cut_or_too_long_is_refused, set_up, tear_down),
      cmocka_unit_test(test_keeper_walls__one_that_cannot_be_raised_is_told),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
