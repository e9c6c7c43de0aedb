/* What both loops, the one over sd-event and the virtual one, do with descriptors that are watched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "loop_rig.h"

static void test_loop__a_watch_is_level_triggered(void **state) {
  struct fixture *fixture = *state;
  assert_int_equal(pipe(fixture->ends), 0);
  assert_int_equal(write(fixture->ends[1], "abc", 3), 3);
  assert_int_equal(loop_watch(fixture->loop, fixture->ends[0], LOOP_READABLE, on_read_one, fixture, NULL), 0);
  loop_rig_run(fixture);
  assert_string_equal(fixture->trace, "abc");
}

static void on_writable(void *context, unsigned events) {
  struct fixture *fixture = context;
  trace_add(fixture, events == LOOP_WRITABLE ? 'w' : '?');
  loop_cancel(fixture->loop, &fixture->first);
  loop_stop(fixture->loop);
}

static void test_loop__a_watch_cancels_itself_and_can_be_renewed(void **state) {
  struct fixture *fixture = *state;
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fixture->ends), 0);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(loop_watch(fixture->loop, fixture->ends[0], LOOP_WRITABLE, on_writable, fixture, &fixture->first),
                     0);
    loop_rig_run(fixture);
  }
  assert_string_equal(fixture->trace, "ww");
}

static void on_hangup(void *context, unsigned events) {
  struct fixture *fixture = context;
  trace_add(fixture, events & LOOP_HANGUP ? 'h' : '?');
  loop_stop(fixture->loop);
}

static void test_loop__hangup_is_reported_without_being_asked_for(void **state) {
  struct fixture *fixture = *state;
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fixture->ends), 0);
  close(TAKE_FD(fixture->ends[1]));
  assert_int_equal(loop_watch(fixture->loop, fixture->ends[0], LOOP_READABLE, on_hangup, fixture, NULL), 0);
  loop_rig_run(fixture);
  assert_string_equal(fixture->trace, "h");
}

static void on_either(void *context, unsigned events) {
  struct fixture *fixture = context;
  (void)events;
  trace_add(fixture, 'e');
  loop_cancel(fixture->loop, &fixture->first);
  loop_cancel(fixture->loop, &fixture->second);
  assert_int_equal(loop_at(fixture->loop, loop_boottime(fixture->loop) + 5, on_stop, fixture, NULL), 0);
}

static void test_loop__a_watch_cancels_another_that_is_ready_as_well(void **state) {
  struct fixture *fixture = *state;
  assert_int_equal(pipe(fixture->ends), 0);
  assert_int_equal(pipe(fixture->other_ends), 0);
  assert_int_equal(write(fixture->ends[1], "x", 1), 1);
  assert_int_equal(write(fixture->other_ends[1], "x", 1), 1);
  assert_int_equal(loop_watch(fixture->loop, fixture->ends[0], LOOP_READABLE, on_either, fixture, &fixture->first), 0);
  assert_int_equal(
      loop_watch(fixture->loop, fixture->other_ends[0], LOOP_READABLE, on_either, fixture, &fixture->second), 0);
  loop_rig_run(fixture);
  assert_string_equal(fixture->trace, "e");
}

static void on_cancel_watch(void *context) {
  struct fixture *fixture = context;
  trace_add(fixture, 'c');
  loop_cancel(fixture->loop, &fixture->first);
  assert_int_equal(write(fixture->ends[1], "x", 1), 1);
  assert_int_equal(loop_at(fixture->loop, loop_boottime(fixture->loop) + 5, on_stop, fixture, NULL), 0);
}

static void test_loop__a_timer_cancels_a_watch(void **state) {
  struct fixture *fixture = *state;
  assert_int_equal(pipe(fixture->ends), 0);
  assert_int_equal(loop_watch(fixture->loop, fixture->ends[0], LOOP_READABLE, on_either, fixture, &fixture->first), 0);
  assert_int_equal(loop_defer(fixture->loop, on_cancel_watch, fixture, NULL), 0);
  loop_rig_run(fixture);
  assert_string_equal(fixture->trace, "c");
}

static void test_loop__a_descriptor_is_watched_once_at_a_time(void **state) {
  struct fixture *fixture = *state;
  assert_int_equal(pipe(fixture->ends), 0);
  assert_int_equal(loop_watch(fixture->loop, fixture->ends[0], LOOP_READABLE, on_either, fixture, &fixture->first), 0);
  assert_int_equal(loop_watch(fixture->loop, fixture->ends[0], LOOP_READABLE, on_either, fixture, &fixture->second),
                   ERROR_SYSTEM);
  assert_null(fixture->second);
  loop_cancel(fixture->loop, &fixture->first);
  assert_int_equal(loop_watch(fixture->loop, fixture->ends[0], LOOP_READABLE, on_either, fixture, &fixture->second), 0);
}

static void test_loop__more_watches_than_a_table_would_hold_all_work(void **state) {
  enum { WATCHES = 1500 };
  struct fixture *fixture = *state;
  struct loop_source *sources[WATCHES] = {0};
  int descriptors[WATCHES];
  assert_int_equal(pipe(fixture->ends), 0);
  assert_int_equal(pipe(fixture->other_ends), 0);
  assert_int_equal(write(fixture->other_ends[1], "x", 1), 1);
  /* The one that is ready lies in the middle, so that neither end of a list alone would do. */
  for (size_t i = 0; i < WATCHES; i++) {
    bool ready = i == WATCHES / 5;
    descriptors[i] = dup(ready ? fixture->other_ends[0] : fixture->ends[0]);
    if (descriptors[i] < 0) skip(); /* too few descriptors are allowed here */
    assert_int_equal(loop_watch(fixture->loop, descriptors[i], LOOP_READABLE, on_readable_stop, fixture, &sources[i]),
                     0);
  }
  loop_rig_run(fixture);
  for (size_t i = 0; i < WATCHES; i++) {
    loop_cancel(fixture->loop, &sources[i]);
    close(descriptors[i]);
  }
  assert_string_equal(fixture->trace, "r");
}

static void test_loop__destroy_frees_what_is_left(void **state) {
  struct fixture *fixture = *state;
  assert_int_equal(pipe(fixture->ends), 0);
  assert_int_equal(loop_at(fixture->loop, TIME_NEVER, on_stop, fixture, NULL), 0);
  assert_int_equal(loop_defer(fixture->loop, on_stop, fixture, NULL), 0);
  assert_int_equal(loop_watch(fixture->loop, fixture->ends[0], LOOP_READABLE, on_either, fixture, NULL), 0);
  loop_destroy(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BOTH(test_loop__a_watch_is_level_triggered),
      BOTH(test_loop__a_watch_cancels_itself_and_can_be_renewed),
      BOTH(test_loop__hangup_is_reported_without_being_asked_for),
      BOTH(test_loop__a_watch_cancels_another_that_is_ready_as_well),
      BOTH(test_loop__a_timer_cancels_a_watch),
      BOTH(test_loop__a_descriptor_is_watched_once_at_a_time),
      BOTH(test_loop__more_watches_than_a_table_would_hold_all_work),
      BOTH(test_loop__destroy_frees_what_is_left),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
