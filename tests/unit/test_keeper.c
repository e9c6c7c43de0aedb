/* Jobs of the keeper: each is answered once, with all that its handler said; its limits and deadlines; which job goes first; and the keeper without
 * processes, which does the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "keeper_rig.h"

static void test_keeper__a_job_is_answered_with_what_its_handler_wrote_and_never_inside_submit(void **state) {
  struct fixture *fixture = *state;
  struct outcome *outcome = new_outcome(fixture);
  start_keeper(fixture, 1);
  submit_text(fixture, JOB_ECHO, "octets", outcome);
  assert_int_equal(outcome->times, 0);
  wait_for_outcome(fixture, outcome);
  assert_int_equal(outcome->error.code, 0);
  assert_string_equal(outcome->reply.data, "octets");
}

static void test_keeper__an_empty_job_has_an_empty_answer(void **state) {
  struct fixture *fixture = *state;
  start_keeper(fixture, 1);
  struct outcome *outcome = run_job(fixture, JOB_ECHO, "", 0);
  assert_int_equal(outcome->reply.size, 0);
}

static void test_keeper__an_error_travels_with_code_message_remedy_and_whether_to_try_again(void **state) {
  struct fixture *fixture = *state;
  start_keeper(fixture, 1);
  struct outcome *outcome = run_job(fixture, JOB_FAIL, "", ERROR_CONFLICT);
  assert_true(outcome->error.retryable);
  assert_string_equal(outcome->error.message, "somebody changed the table");
  assert_string_equal(outcome->error.remedy, "look at it");
  assert_int_equal(outcome->reply.size, 0);
}

static void test_keeper__an_error_without_a_reason_still_says_which_job_failed(void **state) {
  struct fixture *fixture = *state;
  start_keeper(fixture, 1);
  struct outcome *outcome = run_job(fixture, JOB_FAIL_MUTE, "", ERROR_REFUSED);
  assert_non_null(strstr(outcome->error.message, "102"));
}

static void test_keeper__an_unknown_job_is_an_error_and_the_worker_lives_on(void **state) {
  struct fixture *fixture = *state;
  start_keeper(fixture, 1);
  pid_t worker = identify(fixture).worker;
  run_job(fixture, (enum test_job)999, "", ERROR_PROTOCOL);
  assert_int_equal(identify(fixture).worker, worker);
}

static void test_keeper__an_answer_over_the_maximum_is_an_error(void **state) {
  struct fixture *fixture = *state;
  start_keeper(fixture, 1);
  run_job(fixture, JOB_TOO_LARGE, "", ERROR_LIMIT);
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
    wait_for_outcome(fixture, outcomes[i]);
    assert_string_equal(outcomes[i]->reply.data, text);
  }
}

static void count_call(void *context) {
  ++*(unsigned *)context;
}

static void stop_later(struct loop *loop) {
  assert_int_equal(loop_defer(loop, end_loop, loop, NULL), 0);
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
  submit_job(fixture, JOB_ECHO, &payload, TIME_NEVER, outcome);
  for (int i = 0; i < 10; i++) {
    assert_int_equal(loop_defer(fixture->loop, count_call, &calls, NULL), 0);
    stop_later(fixture->loop);
    assert_int_equal(loop_run(fixture->loop, &error), 0);
  }
  assert_int_equal(calls, 10);
  assert_int_equal(outcome->times, 0);
  assert_int_equal(kill(fixture->supervisor, SIGCONT), 0);
  wait_for_outcome(fixture, outcome);
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
  /* What memory ran out for may well fit a moment later. */
  const struct buffer torn = {.failed = true, .no_memory = true};
  result = keeper_submit(fixture->keeper, (enum keeper_job)JOB_ECHO, &torn, TIME_NEVER, take_outcome, outcome, &error);
  assert_int_equal(result, ERROR_NO_MEMORY);
  assert_true(error.retryable);
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
    submit_job(fixture, JOB_ECHO, &payload, TIME_NEVER, outcomes[i]);
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
  submit_job(fixture, JOB_OPEN, &payload, TIME_NEVER, opening);
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
  submit_job(fixture, (enum test_job)KEEPER_GENERATE, &payload, TIME_NEVER, key);
  submit_text(fixture, JOB_ECHO, "later", other);
  /* While this one times out, all of them get to the supervisor. */
  buffer_reset(&payload);
  submit_job(fixture, JOB_ECHO, &payload, loop_boottime(fixture->loop) + 1000, tick);
  assert_ended(fixture, tick, ERROR_TIMEOUT);
  release_fifo(first);
  assert_ended(fixture, busy, 0);
  assert_ended(fixture, other, 0); /* else it would wait for ever: nobody opens the second fifo */
  assert_int_equal(key->times, 0);
  release_fifo(second);
  assert_ended(fixture, key, 0);
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

/* The keeper without processes, over a virtual clock. */
static void start_direct(struct fixture *fixture) {
  const struct clock_reading start = {.wall = 1700000000, .boottime = 1000};
  struct error error = {0};
  assert_int_equal(loop_virtual_new(&start, &fixture->loop, &error), 0);
  assert_int_equal(keeper_direct_new(fixture->loop, rig_handlers, RIG_HANDLERS, &fixture->keeper, &error), 0);
}

static void test_keeper__the_direct_one_answers_in_the_same_way(void **state) {
  struct fixture *fixture = *state;
  struct outcome *echo = new_outcome(fixture);
  struct outcome *failed = new_outcome(fixture);
  start_direct(fixture);
  submit_text(fixture, JOB_ECHO, "octets", echo);
  submit_text(fixture, JOB_FAIL, "", failed);
  assert_int_equal(echo->times, 0);
  wait_for_outcome(fixture, echo);
  assert_string_equal(echo->reply.data, "octets");
  wait_for_outcome(fixture, failed);
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
  submit_job(fixture, JOB_ECHO, &payload, loop_boottime(fixture->loop) - 1, outcome);
  assert_ended(fixture, outcome, ERROR_TIMEOUT);
}

int main(void) {
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
      TEST(test_keeper__a_job_past_its_deadline_times_out_and_its_late_answer_harms_nobody),
      TEST(test_keeper__a_job_that_timed_out_before_a_worker_took_it_is_never_begun),
      TEST(test_keeper__the_direct_one_answers_in_the_same_way),
      TEST(test_keeper__the_direct_one_cancels_what_it_has_not_done),
      TEST(test_keeper__the_direct_one_does_not_begin_after_the_deadline),
  };
  return cmocka_run_group_tests(tests, keeper_rig_group, NULL);
}
