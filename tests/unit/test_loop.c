#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/loop.h"
#include "dkimroll/text.h"

enum {
  TRACE_MAX = 64,
  BACKSTOP = 5000, /* ms: a test that waits for what does not come ends by this timer, and fails by its trace */
  CHAIN_MAX = 100000,
};

static const struct clock_reading start = {
    .wall = 1769267045, .boottime = 7000, .synchronised = true, .boot_id = "boot"};

/* One loop under test, and the letters of the callbacks in the order in which they ran. */
struct fixture {
  struct loop *loop;
  struct loop_source *first;
  struct loop_source *second;
  struct loop_source *backstop;
  int ends[2]; /* of a pipe or a socketpair */
  int other_ends[2];
  int count;
  int64_t due;
  char trace[TRACE_MAX];
};

struct mark {
  struct fixture *fixture;
  char letter;
};

static void trace_add(struct fixture *fixture, char letter) {
  size_t length = strlen(fixture->trace);
  assert_true(length + 1 < TRACE_MAX);
  fixture->trace[length] = letter;
}

static void on_backstop(void *context) {
  struct fixture *fixture = context;
  fixture->backstop = NULL;
  trace_add(fixture, '!');
  loop_stop(fixture->loop);
}

static void on_mark(void *context) {
  const struct mark *mark = context;
  trace_add(mark->fixture, mark->letter);
}

static void on_stop(void *context) {
  struct fixture *fixture = context;
  loop_stop(fixture->loop);
}

static struct fixture *fixture_new(struct loop *loop) {
  struct fixture *fixture = calloc(1, sizeof(*fixture));
  assert_non_null(fixture);
  *fixture = (struct fixture){.loop = loop, .ends = {-1, -1}, .other_ends = {-1, -1}};
  assert_int_equal(loop_at(loop, loop_boottime(loop) + BACKSTOP, on_backstop, fixture, &fixture->backstop), 0);
  return fixture;
}

static int set_up_sd_event(void **state) {
  struct loop *loop = NULL;
  struct error error = {0};
  if (loop_sd_event_new(&loop, &error) < 0) return -1;
  *state = fixture_new(loop);
  return 0;
}

static int set_up_virtual(void **state) {
  struct loop *loop = NULL;
  struct error error = {0};
  if (loop_virtual_new(&start, &loop, &error) < 0) return -1;
  *state = fixture_new(loop);
  return 0;
}

static int tear_down(void **state) {
  struct fixture *fixture = *state;
  loop_destroy(fixture->loop);
  for (int i = 0; i < 2; i++) {
    cleanup_close(&fixture->ends[i]);
    cleanup_close(&fixture->other_ends[i]);
  }
  free(fixture);
  return 0;
}

static void run(struct fixture *fixture) {
  struct error error = {0};
  assert_int_equal(loop_run(fixture->loop, &error), 0);
}

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
  run(fixture);
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
  run(fixture);
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
  run(fixture);
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
  run(fixture);
  assert_string_equal(fixture->trace, "t");
}

static void test_loop__moments_of_the_past_come_soon(void **state) {
  struct fixture *fixture = *state;
  struct mark marks[] = {{fixture, 'a'}, {fixture, 'b'}};
  assert_int_equal(loop_at(fixture->loop, loop_boottime(fixture->loop) - 1000, on_mark, &marks[0], NULL), 0);
  assert_int_equal(loop_at(fixture->loop, INT64_MIN, on_mark, &marks[1], NULL), 0);
  assert_int_equal(loop_at(fixture->loop, loop_boottime(fixture->loop) + 5, on_stop, fixture, NULL), 0);
  run(fixture);
  assert_int_equal(strlen(fixture->trace), 2);
  assert_null(strchr(fixture->trace, '!'));
}

static void test_loop__a_timer_at_never_does_not_run(void **state) {
  struct fixture *fixture = *state;
  struct mark marks[] = {{fixture, 'n'}, {fixture, 'm'}};
  assert_int_equal(loop_at(fixture->loop, TIME_NEVER, on_mark, &marks[0], NULL), 0);
  assert_int_equal(loop_at(fixture->loop, TIME_NEVER - 1, on_mark, &marks[1], NULL), 0);
  assert_int_equal(loop_at(fixture->loop, loop_boottime(fixture->loop) + 5, on_stop, fixture, NULL), 0);
  run(fixture);
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
  run(fixture);
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
  run(fixture);
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
  run(fixture);
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
  run(fixture);
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
  run(fixture);
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

static void on_readable_stop(void *context, unsigned events) {
  struct fixture *fixture = context;
  trace_add(fixture, events & LOOP_READABLE ? 'r' : '?');
  loop_stop(fixture->loop);
}

static void test_loop__a_chain_of_deferred_calls_does_not_starve_descriptors(void **state) {
  struct fixture *fixture = *state;
  assert_int_equal(pipe(fixture->ends), 0);
  assert_int_equal(loop_watch(fixture->loop, fixture->ends[0], LOOP_READABLE, on_readable_stop, fixture, NULL), 0);
  assert_int_equal(loop_defer(fixture->loop, on_defer_again, fixture, NULL), 0);
  run(fixture);
  assert_string_equal(fixture->trace, "r");
}

static void test_loop__a_chain_of_deferred_calls_does_not_starve_timers(void **state) {
  struct fixture *fixture = *state;
  assert_int_equal(loop_defer(fixture->loop, on_defer_again, fixture, NULL), 0);
  run(fixture);
  assert_string_equal(fixture->trace, "");
}

static void on_read_one(void *context, unsigned events) {
  struct fixture *fixture = context;
  char letter = '?';
  assert_true(events & LOOP_READABLE);
  assert_int_equal(read(fixture->ends[0], &letter, 1), 1);
  trace_add(fixture, letter);
  if (letter == 'c') loop_stop(fixture->loop);
}

static void test_loop__a_watch_is_level_triggered(void **state) {
  struct fixture *fixture = *state;
  assert_int_equal(pipe(fixture->ends), 0);
  assert_int_equal(write(fixture->ends[1], "abc", 3), 3);
  assert_int_equal(loop_watch(fixture->loop, fixture->ends[0], LOOP_READABLE, on_read_one, fixture, NULL), 0);
  run(fixture);
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
    run(fixture);
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
  run(fixture);
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
  run(fixture);
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
  run(fixture);
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
  run(fixture);
  for (size_t i = 0; i < WATCHES; i++) {
    loop_cancel(fixture->loop, &sources[i]);
    close(descriptors[i]);
  }
  assert_string_equal(fixture->trace, "r");
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
  run(fixture);
  assert_string_equal(fixture->trace, "a");
  run(fixture);
  assert_string_equal(fixture->trace, "ab");
  run(fixture);
  assert_string_equal(fixture->trace, "abc");
}

static void test_loop__destroy_frees_what_is_left(void **state) {
  struct fixture *fixture = *state;
  assert_int_equal(pipe(fixture->ends), 0);
  assert_int_equal(loop_at(fixture->loop, TIME_NEVER, on_stop, fixture, NULL), 0);
  assert_int_equal(loop_defer(fixture->loop, on_stop, fixture, NULL), 0);
  assert_int_equal(loop_watch(fixture->loop, fixture->ends[0], LOOP_READABLE, on_either, fixture, NULL), 0);
  loop_destroy(NULL);
}

static void on_reading(void *context) {
  struct fixture *fixture = context;
  struct clock_reading reading;
  loop_now(fixture->loop, &reading);
  assert_int_equal(reading.boottime, start.boottime + 90 * INT64_C(86400000));
  assert_int_equal(reading.wall, start.wall + 90 * 86400);
  assert_string_equal(reading.boot_id, start.boot_id);
  assert_true(reading.synchronised);
  loop_stop(fixture->loop);
}

static void test_loop_virtual__a_quarter_passes_at_once(void **state) {
  struct fixture *fixture = *state;
  loop_cancel(fixture->loop, &fixture->backstop);
  int64_t before = clock_boottime();
  assert_int_equal(loop_at(fixture->loop, start.boottime + 90 * INT64_C(86400000), on_reading, fixture, NULL), 0);
  run(fixture);
  assert_true(clock_boottime() - before < 1000);
}

static void test_loop_virtual__says_when_nothing_can_happen_any_more(void **state) {
  struct fixture *fixture = *state;
  struct error error = {0};
  loop_cancel(fixture->loop, &fixture->backstop);
  assert_int_equal(loop_run(fixture->loop, &error), ERROR_NOT_FOUND);
  assert_int_equal(loop_at(fixture->loop, TIME_NEVER, on_stop, fixture, NULL), 0);
  assert_int_equal(loop_run(fixture->loop, &error), ERROR_NOT_FOUND);
  assert_int_equal(loop_boottime(fixture->loop), start.boottime);
}

static void on_check_wall(void *context) {
  struct fixture *fixture = context;
  assert_int_equal(loop_boottime(fixture->loop), start.boottime + 10000);
  assert_int_equal(loop_wall(fixture->loop), 1000 + 8);
  loop_stop(fixture->loop);
}

static void on_set_wall(void *context) {
  struct fixture *fixture = context;
  loop_virtual_set_wall(fixture->loop, 1000);
  assert_int_equal(loop_wall(fixture->loop), 1000);
  assert_int_equal(loop_boottime(fixture->loop), start.boottime + 2000);
}

static void test_loop_virtual__the_wall_clock_is_set_without_moving_timers(void **state) {
  struct fixture *fixture = *state;
  loop_cancel(fixture->loop, &fixture->backstop);
  assert_int_equal(loop_at(fixture->loop, start.boottime + 2000, on_set_wall, fixture, NULL), 0);
  assert_int_equal(loop_at(fixture->loop, start.boottime + 10000, on_check_wall, fixture, NULL), 0);
  run(fixture);
}

static void test_loop_virtual__descriptors_are_served_before_time_moves(void **state) {
  struct fixture *fixture = *state;
  assert_int_equal(pipe(fixture->ends), 0);
  assert_int_equal(write(fixture->ends[1], "abc", 3), 3);
  assert_int_equal(loop_at(fixture->loop, start.boottime + 1, on_stop, fixture, NULL), 0);
  assert_int_equal(loop_watch(fixture->loop, fixture->ends[0], LOOP_READABLE, on_read_one, fixture, NULL), 0);
  run(fixture);
  assert_string_equal(fixture->trace, "abc");
  assert_int_equal(loop_boottime(fixture->loop), start.boottime);
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
  run(fixture);
  assert_string_equal(fixture->trace, "c");
  assert_int_equal(loop_boottime(fixture->loop), start.boottime);
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
}

/* The same behaviour is asked of both loops. */
#define BOTH(function)                                                                                                 \
  {#function " (sd-event)", function, set_up_sd_event, tear_down, NULL}, {                                             \
#function " (virtual)", function, set_up_virtual, tear_down, NULL                                                  \
  }
#define VIRTUAL(function)                                                                                              \
  { #function, function, set_up_virtual, tear_down, NULL }

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
      BOTH(test_loop__a_watch_is_level_triggered),
      BOTH(test_loop__a_watch_cancels_itself_and_can_be_renewed),
      BOTH(test_loop__hangup_is_reported_without_being_asked_for),
      BOTH(test_loop__a_watch_cancels_another_that_is_ready_as_well),
      BOTH(test_loop__a_timer_cancels_a_watch),
      BOTH(test_loop__a_descriptor_is_watched_once_at_a_time),
      BOTH(test_loop__more_watches_than_a_table_would_hold_all_work),
      BOTH(test_loop__stop_ends_the_run_after_the_present_callback_and_run_goes_on),
      BOTH(test_loop__destroy_frees_what_is_left),
      VIRTUAL(test_loop_virtual__a_quarter_passes_at_once),
      VIRTUAL(test_loop_virtual__says_when_nothing_can_happen_any_more),
      VIRTUAL(test_loop_virtual__the_wall_clock_is_set_without_moving_timers),
      VIRTUAL(test_loop_virtual__descriptors_are_served_before_time_moves),
      VIRTUAL(test_loop_virtual__an_answer_of_another_process_is_waited_for),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
