/* The RFC 2136 publisher above update runs: how operations begin and end, and what is refused. */
#include "publisher_stage.h"

#include "workplace.h"

/* --- a loop that runs out of memory --- */

struct short_loop {
  struct loop loop;
  struct loop *inner;
  size_t left; /* so many timers succeed, then one fails, then they succeed again */
  bool failed;
};

static bool runs_out(struct short_loop *loop) {
  if (loop->failed || loop->left-- > 0) return false;
  return loop->failed = true;
}

static void short_now(struct loop *loop, struct clock_reading *ret_reading) {
  loop_now(((struct short_loop *)loop)->inner, ret_reading);
}

static int short_at(struct loop *loop, int64_t boottime, loop_callback *callback, void *context,
                    struct loop_source **ret_source) {
  struct short_loop *self = (struct short_loop *)loop;
  return runs_out(self) ? ERROR_NO_MEMORY : loop_at(self->inner, boottime, callback, context, ret_source);
}

static int short_defer(struct loop *loop, loop_callback *callback, void *context, struct loop_source **ret_source) {
  struct short_loop *self = (struct short_loop *)loop;
  return runs_out(self) ? ERROR_NO_MEMORY : loop_defer(self->inner, callback, context, ret_source);
}

static void short_cancel(struct loop *loop, struct loop_source *source) {
  loop_cancel(((struct short_loop *)loop)->inner, &source);
}

static const struct loop_ops short_ops = {
    .now = short_now, .at = short_at, .defer = short_defer, .cancel = short_cancel};

/* --- begin and end --- */

static void test_publisher__no_items_are_done_at_once_but_later(void **state) {
  (void)state;
  struct stage *stage = stage_new(0, policy_server, policy_zone);
  stage_run(stage);
  stage_free(stage);
}

static void test_publisher__changes_without_their_records_are_refused(void **state) {
  (void)state;
  static const struct publish_item wrong[] = {
      {.change = PUBLISH_ADD, .name = "s._domainkey.example.com"},
      {.change = PUBLISH_ADD, .name = "s._domainkey.example.com", .record = "a", .record_before = "b"},
      {.change = PUBLISH_REPLACE, .name = "s._domainkey.example.com", .record = "a"},
      {.change = PUBLISH_DELETE, .name = "s._domainkey.example.com", .record = "a", .record_before = "b"},
      {.change = PUBLISH_ADD, .record = "a"},
      {.name = "s._domainkey.example.com", .record = "a", .record_before = "b"},
  };
  struct stage *stage = stage_new(1, policy_server, policy_zone);
  for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
    struct error error = {0};
    stage->items[0] = wrong[i];
    assert_int_equal(stage_start(stage, &error), ERROR_INVALID);
    assert_null(stage->operation);
  }
  stage_free(stage);
}

static void test_publisher__too_many_items_are_refused(void **state) {
  (void)state;
  struct stage *stage = stage_new(0, policy_server, policy_zone);
  CLEANUP_FREE struct publish_item *items = calloc(PUBLISH_ITEMS_MAX + 1, sizeof *items);
  struct error error = {0};
  assert_int_equal(
      publisher_start(stage->publisher, items, PUBLISH_ITEMS_MAX + 1, 1, finished, stage, &stage->operation, &error),
      ERROR_LIMIT);
  stage_free(stage);
}

static int lose_all(struct fake_primary *fake, const struct transport_request *request, const struct message *message) {
  (void)fake, (void)request, (void)message;
  return FAKE_LOSE_REQUEST;
}

static void test_publisher__the_deadline_ends_every_item(void **state) {
  (void)state;
  struct stage *stage = stage_new(80, NULL, NULL);
  finder_plan.silent = true;
  stage_run(stage);
  assert_int_equal(loop_boottime(stage->fake.loop), FAKE_START_BOOT + DEADLINE_MS);
  for (size_t i = 0; i < stage->count; i++) assert_failure(stage, i, ERROR_TIMEOUT, "its zone was not found in time");
  stage_free(stage);
  stage = stage_new(80, policy_server, policy_zone);
  stage->fake.decide = lose_all;
  stage_run(stage);
  for (size_t i = 0; i < stage->count; i++) assert_failure(stage, i, ERROR_TIMEOUT, "192.0.2.9:5300");
  stage_free(stage);
}

static void test_publisher__a_deadline_in_the_past_still_answers(void **state) {
  (void)state;
  struct stage *stage = stage_new(2, policy_server, policy_zone);
  struct error error = {0};
  assert_int_equal(
      publisher_start(stage->publisher, stage->items, stage->count, 1, finished, stage, &stage->operation, &error), 0);
  assert_int_equal(loop_run(stage->fake.loop, &error), 0);
  assert_int_equal(stage->done, 1);
  assert_int_equal(stage->results[0].error.code, ERROR_TIMEOUT);
  stage_free(stage);
}

static void stop(void *context) {
  loop_stop(((struct stage *)context)->fake.loop);
}

/* At every moment of an operation: cancelled, it never calls back; so with the publisher destroyed under it. */
static void test_publisher__an_operation_can_be_cancelled_at_any_moment(void **state) {
  (void)state;
  for (int64_t moment = 0; moment < 80; moment++) {
    struct stage *stage = stage_new(60, NULL, NULL);
    struct error error = {0};
    assert_int_equal(loop_at(stage->fake.loop, FAKE_START_BOOT + moment, stop, stage, NULL), 0);
    assert_int_equal(stage_start(stage, &error), 0);
    assert_int_equal(loop_run(stage->fake.loop, &error), 0);
    size_t done = stage->done;
    if (moment % 2) {
      publisher_cancel(stage->publisher, &stage->operation);
      assert_null(stage->operation);
    } else {
      publisher_destroy(TAKE_PTR(stage->publisher));
    }
    while (loop_run(stage->fake.loop, &error) == 0) {
    }
    assert_int_equal(stage->done, done);
    stage_free(stage);
  }
}

static int busy_server(struct fake_primary *fake, const struct transport_request *request,
                       const struct message *message) {
  (void)request;
  return entropy_below(&fake->random.entropy, 4) == 0 && message->opcode == 0 ? DNS_SERVFAIL : FAKE_OBEY;
}

/* Whichever timer cannot be made: start says so, or done comes once, at the latest at the deadline. */
static void test_publisher__running_out_of_timers_ends_in_time(void **state) {
  (void)state;
  size_t refused = 0, incomplete = 0;
  for (size_t n = 0; n < 40; n++) {
    struct stage *stage = stage_new(30, policy_server, policy_zone);
    struct short_loop loop = {.loop = {.ops = &short_ops}, .inner = stage->fake.loop, .left = n};
    struct error error = {0};
    publisher_destroy(TAKE_PTR(stage->publisher));
    assert_int_equal(publisher_rfc2136_new(&loop.loop, &stage->fake.transport, &stage->fake.random.entropy,
                                           &stage->policy, &stage->publisher, &error),
                     0);
    stage->fake.decide = busy_server;
    if (stage_start(stage, &error) < 0) {
      refused++;
    } else {
      assert_int_equal(loop_run(stage->fake.loop, &error), 0);
      assert_int_equal(stage->done, 1);
      assert_true(loop_boottime(stage->fake.loop) <= FAKE_START_BOOT + DEADLINE_MS);
      for (size_t i = 0; i < stage->count; i++) {
        incomplete += stage->results[i].error.code != 0;
        assert_true(stage->results[i].error.code != 0 || fake_count(&stage->fake, stage->names[i], DNS_TYPE_TXT) == 1);
      }
    }
    stage_free(stage);
  }
  assert_int_equal(refused, 2);
  assert_true(incomplete > 0);
}

static void test_publisher__operations_run_side_by_side(void **state) {
  (void)state;
  struct stage *stage = stage_new(50, policy_server, policy_zone);
  struct error error = {0};
  assert_int_equal(stage_start(stage, &error), 0);
  assert_int_equal(stage_start(stage, &error), 0);
  while (stage->done < 2) assert_int_equal(loop_run(stage->fake.loop, &error), 0);
  for (size_t i = 0; i < stage->count; i++) {
    assert_success(stage, i, "example.com", stage->names[i], "192.0.2.9:5300");
    assert_int_equal(fake_count(&stage->fake, stage->names[i], DNS_TYPE_TXT), 1);
  }
  stage_free(stage);
}

static void test_publisher__a_tsig_file_that_others_can_read_is_refused(void **state) {
  (void)state;
  struct stage *stage = stage_new(0, policy_server, policy_zone);
  struct workplace folder;
  struct publisher *publisher = NULL;
  struct error error = {0};
  workplace_make(&folder, "/tmp");
  CLEANUP_FREE char *path = workplace_path(&folder, "key");
  workplace_write(path, "hmac-sha256:dkimroll:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", 0644);
  stage->policy.tsig_file = path;
  assert_int_equal(publisher_rfc2136_new(stage->fake.loop, &stage->fake.transport, &stage->fake.random.entropy,
                                         &stage->policy, &publisher, &error),
                   ERROR_PERMISSION);
  assert_non_null(strstr(error.message, path));
  assert_null(publisher);
  workplace_remove(&folder);
  stage_free(stage);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_publisher__no_items_are_done_at_once_but_later),
      cmocka_unit_test(test_publisher__changes_without_their_records_are_refused),
      cmocka_unit_test(test_publisher__too_many_items_are_refused),
      cmocka_unit_test(test_publisher__the_deadline_ends_every_item),
      cmocka_unit_test(test_publisher__a_deadline_in_the_past_still_answers),
      cmocka_unit_test(test_publisher__an_operation_can_be_cancelled_at_any_moment),
      cmocka_unit_test(test_publisher__running_out_of_timers_ends_in_time),
      cmocka_unit_test(test_publisher__operations_run_side_by_side),
      cmocka_unit_test(test_publisher__a_tsig_file_that_others_can_read_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
