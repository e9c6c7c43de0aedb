/* What both loops, the one over sd-event and the virtual one, do with timers and deferred calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "loop_rig.h"

enum { CHAIN_MAX = 100000 };

static void test_loop__timers_run_by_moment_whatever_the_order_of_asking(void **state) {
  struct fixture *fixture = *state;
  static const int delays[] = {8, 2, 6, 4, 0};
  struct mark marks[ARRAY_SIZE(delays)];
  int64_t now = loop_boottime(fixture->loop);
  for (size_t i = 0; i < ARRAY_SIZE(delays); i++) {
    marks[i] = (struct mark){fixture, (char)('0' + delays[i])};
    assert_int_equal(loop_at(fixture->loop, now + delays[i], on_mark, &marks[i], NULL), 0);
  }
  assert_int_equal(loop_at(fixture->loop, now + 10, on_stop, fixture, NULL), 0);
  loop_rig_run(fixture);
  assert_string_equal(fixture->trace, "02468");
}

static void test_loop__equal_moments_run_first_come_first_served(void **state) {
  struct fixture *fixture = *state;
  struct mark marks[20];
  int64_t due = loop_boottime(fixture->loop) + 3;
  for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
    marks[i] = (struct mark){fixture, (char)('a' + i)};
    assert_int_equal(loop_at(fixture->loop, due, on_mark, &marks[i], NULL), 0);
  }
  assert_int_equal(loop_at(fixture->loop, due + 1, on_stop, fixture, NULL), 0);
  loop_rig_run(fixture);
  assert_string_equal(fixture->trace, "abcdefghijklmnopqrst");
}

static void test_loop__deferred_calls_run_first_come_first_served(void **state) {
  struct fixture *fixture = *state;
  struct mark marks[20];
  for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
    marks[i] = (struct mark){fixture, (char)('a' + i)};
    assert_int_equal(loop_defer(fixture->loop, on_mark, &marks[i], NULL), 0);
  }
  assert_int_equal(loop_defer(fixture->loop, on_stop, fixture, NULL), 0);
  loop_rig_run(fixture);
  assert_string_equal(fixture->trace, "abcdefghijklmnopqrst");
}

static void on_time_reached(void *context) {
  struct fixture *fixture = context;
  trace_add(fixture, loop_boottime(fixture->loop) >= fixture->due ? 't' : 'e');
  loop_stop(fixture->loop);
}

static void test_loop__a_timer_never_runs_early(void **state) {
  struct fixture *fixture = *state;
  fixture->due = loop_boottime(fixture->loop) + 20;
  assert_int_equal(loop_at(fixture->loop, fixture->due, on_time_reached, fixture, NULL), 0);
  loop_rig_run(fixture);
  assert_string_equal(fixture->trace, "t");
}

static void test_loop__moments_of_the_past_come_soon(void **state) {
  struct fixture *fixture = *state;
  struct mark marks[] = {{fixture, 'a'}, {fixture, 'b'}};
  assert_int_equal(loop_at(fixture->loop, loop_boottime(fixture->loop) - 1000, on_mark, &marks[0], NULL), 0);
  assert_int_equal(loop_at(fixture->loop, INT64_MIN, on_mark, &marks[1], NULL), 0);
  assert_int_equal(loop_at(fixture->loop, loop_boottime(fixture->loop) + 5, on_stop, fixture, NULL), 0);
  loop_rig_run(fixture);
  assert_int_equal(strlen(fixture->trace), 2);
  assert_null(strchr(fixture->trace, '!'));
}

static void test_loop__a_timer_at_never_does_not_run(void **state) {
  struct fixture *fixture = *state;
  struct mark marks[] = {{fixture, 'n'}, {fixture, 'm'}};
  assert_int_equal(loop_at(fixture->loop, TIME_NEVER, on_mark, &marks[0], NULL), 0);
  assert_int_equal(loop_at(fixture->loop, TIME_NEVER - 1, on_mark, &marks[1], NULL), 0);
  assert_int_equal(loop_at(fixture->loop, loop_boottime(fixture->loop) + 5, on_stop, fixture, NULL), 0);
  loop_rig_run(fixture);
  assert_string_equal(fixture->trace, "");
}

static void on_defer_from_inside(void *context) {
  struct fixture *fixture = context;
  static struct mark mark;
  mark = (struct mark){fixture, 'd'};
  trace_add(fixture, '(');
  assert_int_equal(loop_defer(fixture->loop, on_mark, &mark, NULL), 0);
  assert_int_equal(loop_at(fixture->loop, 0, on_mark, &mark, NULL), 0);
  assert_int_equal(loop_at(fixture->loop, loop_boottime(fixture->loop) + 5, on_stop, fixture, NULL), 0);
  trace_add(fixture, ')');
}

static void test_loop__nothing_runs_from_inside_the_call_that_asks_for_it(void **state) {
  struct fixture *fixture = *state;
  assert_int_equal(loop_defer(fixture->loop, on_defer_from_inside, fixture, NULL), 0);
  assert_string_equal(fixture->trace, "");
  loop_rig_run(fixture);
  assert_string_equal(fixture->trace, "()dd");
}

static void test_loop__a_cancelled_source_does_not_run(void **state) {
  struct fixture *fixture = *state;
  struct mark mark = {fixture, 'x'};
  int64_t now = loop_boottime(fixture->loop);
  assert_int_equal(loop_at(fixture->loop, now + 1, on_mark, &mark, &fixture->first), 0);
  assert_int_equal(loop_defer(fixture->loop, on_mark, &mark, &fixture->second), 0);
  assert_int_equal(loop_at(fixture->loop, now + 5, on_stop, fixture, NULL), 0);
  loop_cancel(fixture->loop, &fixture->first);
  assert_null(fixture->first);
  loop_cancel(fixture->loop, &fixture->second);
  loop_cancel(fixture->loop, &fixture->second);
  fixture->loop->ops->cancel(fixture->loop, NULL);
  loop_rig_run(fixture);
  assert_string_equal(fixture->trace, "");
}

static void on_cancel_second(void *context) {
  struct fixture *fixture = context;
  trace_add(fixture, 'c');
  loop_cancel(fixture->loop, &fixture->second);
}

static void test_loop__a_callback_cancels_others_that_are_due_as_well(void **state) {
  struct fixture *fixture = *state;
  struct mark mark = {fixture, 'x'};
  int64_t due = loop_boottime(fixture->loop) + 2;
  assert_int_equal(loop_at(fixture->loop, due, on_cancel_second, fixture, NULL), 0);
  assert_int_equal(loop_at(fixture->loop, due, on_mark, &mark, &fixture->second), 0);
  assert_int_equal(loop_at(fixture->loop, due + 3, on_stop, fixture, NULL), 0);
  loop_rig_run(fixture);
  assert_string_equal(fixture->trace, "c");
}

static void test_loop__many_timers_with_cancellations_in_between_keep_their_order(void **state) {
  struct fixture *fixture = *state;
  struct mark marks[50];
  struct loop_source *sources[ARRAY_SIZE(marks)];
  int64_t now = loop_boottime(fixture->loop);
  for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
    size_t place = i * 37 % ARRAY_SIZE(marks); /* all places, in an order far from sorted */
    marks[place] = (struct mark){fixture, (char)('0' + place)};
    assert_int_equal(loop_at(fixture->loop, now + 1 + (int64_t)place, on_mark, &marks[place], &sources[place]), 0);
  }
  for (size_t i = 0; i < ARRAY_SIZE(marks); i++)
    if (i % 3 != 0) loop_cancel(fixture->loop, &sources[i]);
  assert_int_equal(loop_at(fixture->loop, now + 60, on_stop, fixture, NULL), 0);
  loop_rig_run(fixture);
  assert_string_equal(fixture->trace, "0369<?BEHKNQTWZ]`");
}

static void on_rearm(void *context) {
  struct fixture *fixture = context;
  if (++fixture->count == 50) {
    loop_stop(fixture->loop);
    return;
  }
  assert_int_equal(loop_at(fixture->loop, loop_boottime(fixture->loop), on_rearm, fixture, NULL), 0);
}

static void test_loop__a_timer_chain_goes_on(void **state) {
  struct fixture *fixture = *state;
  assert_int_equal(loop_defer(fixture->loop, on_rearm, fixture, NULL), 0);
  loop_rig_run(fixture);
  assert_int_equal(fixture->count, 50);
  assert_string_equal(fixture->trace, "");
}

/* Ends by itself, so that a loop which lets it starve everything else fails instead of hanging. */
static void on_defer_again(void *context) {
  struct fixture *fixture = context;
  if (++fixture->count == CHAIN_MAX) {
    trace_add(fixture, '!');
    loop_stop(fixture->loop);
    return;
  }
  /* The rival comes when the chain is under way: into the pipe if there is one, else as a timer that is due. */
  if (fixture->count == 10 && fixture->ends[1] >= 0) assert_int_equal(write(fixture->ends[1], "x", 1), 1);
  if (fixture->count == 10 && fixture->ends[1] < 0)
    assert_int_equal(loop_at(fixture->loop, loop_boottime(fixture->loop) - 1, on_stop, fixture, NULL), 0);
  assert_int_equal(loop_defer(fixture->loop, on_defer_again, fixture, NULL), 0);
}

static void test_loop__a_chain_of_deferred_calls_does_not_starve_descriptors(void **state) {
  struct fixture *fixture = *state;
  assert_int_equal(pipe(fixture->ends), 0);
  assert_int_equal(loop_watch(fixture->loop, fixture->ends[0], LOOP_READABLE, on_readable_stop, fixture, NULL), 0);
  assert_int_equal(loop_defer(fixture->loop, on_defer_again, fixture, NULL), 0);
  loop_rig_run(fixture);
  assert_string_equal(fixture->trace, "r");
}

static void test_loop__a_chain_of_deferred_calls_does_not_starve_timers(void **state) {
  struct fixture *fixture = *state;
  assert_int_equal(loop_defer(fixture->loop, on_defer_again, fixture, NULL), 0);
  loop_rig_run(fixture);
  assert_string_equal(fixture->trace, "");
}

static void on_stop_mark(void *context) {
  const struct mark *mark = context;
  trace_add(mark->fixture, mark->letter);
  loop_stop(mark->fixture->loop);
}

static void test_loop__stop_ends_the_run_after_the_present_callback_and_run_goes_on(void **state) {
  struct fixture *fixture = *state;
  struct mark marks[] = {{fixture, 'a'}, {fixture, 'b'}, {fixture, 'c'}};
  for (size_t i = 0; i < ARRAY_SIZE(marks); i++)
    assert_int_equal(loop_defer(fixture->loop, on_stop_mark, &marks[i], NULL), 0);
  loop_rig_run(fixture);
  assert_string_equal(fixture->trace, "a");
  loop_rig_run(fixture);
  assert_string_equal(fixture->trace, "ab");
  loop_rig_run(fixture);
  assert_string_equal(fixture->trace, "abc");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      BOTH(test_loop__timers_run_by_moment_whatever_the_order_of_asking),
      BOTH(test_loop__equal_moments_run_first_come_first_served),
      BOTH(test_loop__deferred_calls_run_first_come_first_served),
      BOTH(test_loop__a_timer_never_runs_early),
      BOTH(test_loop__moments_of_the_past_come_soon),
      BOTH(test_loop__a_timer_at_never_does_not_run),
      BOTH(test_loop__nothing_runs_from_inside_the_call_that_asks_for_it),
      BOTH(test_loop__a_cancelled_source_does_not_run),
      BOTH(test_loop__a_callback_cancels_others_that_are_due_as_well),
      BOTH(test_loop__many_timers_with_cancellations_in_between_keep_their_order),
      BOTH(test_loop__a_timer_chain_goes_on),
      BOTH(test_loop__a_chain_of_deferred_calls_does_not_starve_descriptors),
      BOTH(test_loop__a_chain_of_deferred_calls_does_not_starve_timers),
      BOTH(test_loop__stop_ends_the_run_after_the_present_callback_and_run_goes_on),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
