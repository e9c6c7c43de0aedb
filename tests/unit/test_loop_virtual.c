/* What the virtual loop alone does: time passes at once, and waits for what descriptors bring. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "loop_rig.h"

static void on_reading(void *context) {
  struct fixture *fixture = context;
  struct clock_reading reading;
  loop_now(fixture->loop, &reading);
  assert_int_equal(reading.boottime, loop_rig_start.boottime + 90 * INT64_C(86400000));
  assert_int_equal(reading.wall, loop_rig_start.wall + 90 * 86400);
  assert_string_equal(reading.boot_id, loop_rig_start.boot_id);
  assert_true(reading.synchronised);
  loop_stop(fixture->loop);
}

static void test_loop_virtual__a_quarter_passes_at_once(void **state) {
  struct fixture *fixture = *state;
  loop_cancel(fixture->loop, &fixture->backstop);
  int64_t before = clock_boottime();
  assert_int_equal(loop_at(fixture->loop, loop_rig_start.boottime + 90 * INT64_C(86400000), on_reading, fixture, NULL), 0);
  loop_rig_run(fixture);
  assert_true(clock_boottime() - before < 1000);
}

static void test_loop_virtual__says_when_nothing_can_happen_any_more(void **state) {
  struct fixture *fixture = *state;
  struct error error = {0};
  loop_cancel(fixture->loop, &fixture->backstop);
  assert_int_equal(loop_run(fixture->loop, &error), ERROR_NOT_FOUND);
  assert_int_equal(loop_at(fixture->loop, TIME_NEVER, on_stop, fixture, NULL), 0);
  assert_int_equal(loop_run(fixture->loop, &error), ERROR_NOT_FOUND);
  assert_int_equal(loop_boottime(fixture->loop), loop_rig_start.boottime);
}

static void on_check_wall(void *context) {
  struct fixture *fixture = context;
  assert_int_equal(loop_boottime(fixture->loop), loop_rig_start.boottime + 10000);
  assert_int_equal(loop_wall(fixture->loop), 1000 + 8);
  loop_stop(fixture->loop);
}

static void on_set_wall(void *context) {
  struct fixture *fixture = context;
  loop_virtual_set_wall(fixture->loop, 1000);
  assert_int_equal(loop_wall(fixture->loop), 1000);
  assert_int_equal(loop_boottime(fixture->loop), loop_rig_start.boottime + 2000);
}

static void test_loop_virtual__the_wall_clock_is_set_without_moving_timers(void **state) {
  struct fixture *fixture = *state;
  loop_cancel(fixture->loop, &fixture->backstop);
  assert_int_equal(loop_at(fixture->loop, loop_rig_start.boottime + 2000, on_set_wall, fixture, NULL), 0);
  assert_int_equal(loop_at(fixture->loop, loop_rig_start.boottime + 10000, on_check_wall, fixture, NULL), 0);
  loop_rig_run(fixture);
}

static void test_loop_virtual__descriptors_are_served_before_time_moves(void **state) {
  struct fixture *fixture = *state;
  assert_int_equal(pipe(fixture->ends), 0);
  assert_int_equal(write(fixture->ends[1], "abc", 3), 3);
  assert_int_equal(loop_at(fixture->loop, loop_rig_start.boottime + 1, on_stop, fixture, NULL), 0);
  assert_int_equal(loop_watch(fixture->loop, fixture->ends[0], LOOP_READABLE, on_read_one, fixture, NULL), 0);
  loop_rig_run(fixture);
  assert_string_equal(fixture->trace, "abc");
  assert_int_equal(loop_boottime(fixture->loop), loop_rig_start.boottime);
}

static void test_loop_virtual__an_answer_of_another_process_is_waited_for(void **state) {
  struct fixture *fixture = *state;
  loop_cancel(fixture->loop, &fixture->backstop);
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fixture->ends), 0);
  pid_t child = fork();
  if (child == 0) {
    char request = 0;
    bool asked = read(fixture->ends[1], &request, 1) == 1;
    _exit(asked && write(fixture->ends[1], "c", 1) == 1 ? 0 : 1);
  }
  assert_int_equal(write(fixture->ends[0], "?", 1), 1);
  assert_int_equal(loop_watch(fixture->loop, fixture->ends[0], LOOP_READABLE, on_read_one, fixture, NULL), 0);
  loop_rig_run(fixture);
  assert_string_equal(fixture->trace, "c");
  assert_int_equal(loop_boottime(fixture->loop), loop_rig_start.boottime);
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      VIRTUAL(test_loop_virtual__a_quarter_passes_at_once),
      VIRTUAL(test_loop_virtual__says_when_nothing_can_happen_any_more),
      VIRTUAL(test_loop_virtual__the_wall_clock_is_set_without_moving_timers),
      VIRTUAL(test_loop_virtual__descriptors_are_served_before_time_moves),
      VIRTUAL(test_loop_virtual__an_answer_of_another_process_is_waited_for),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
