/* The publishers for zones that take no updates, over a model of servers and of somebody else's tools: the contract of publishers, for both types, and what goes wrong at the other side. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "dkimroll/cleanup.h"
#include "publisher_looked_rig.h"

/* ---- the contract ---- */

static void add_and_again(struct rig *rig) {
  assert_int_equal(rig_publish(rig, PUBLISH_ADD, "new", NULL), 0);
  rig_assert_stands(rig, "new");
  assert_false(rig->results[0].already);
  assert_false(rig->results[0].attested);
  assert_string_equal(rig->results[0].zone, RIG_ZONE);
  assert_string_equal(rig->results[0].owner, RIG_NAME);
  assert_true(rig->results[0].completed_at >= RIG_WALL);
  if (rig_is_command(rig)) assert_string_equal(rig->actions, "add s1._domainkey;");
  assert_int_equal(rig_publish(rig, PUBLISH_ADD, "new", NULL), 0);
  assert_true(rig->results[0].already);
  assert_true(rig->results[0].completed_at >= RIG_WALL);
  assert_int_equal(rig->calls + rig->writes, 0);
}
static void test_publisher_looked__a_record_is_added_once(void **state) {
  (void)state;
  rig_with_both(add_and_again);
}

static void replace_and_delete(struct rig *rig) {
  assert_int_equal(rig_publish(rig, PUBLISH_ADD, "new", NULL), 0);
  assert_int_equal(rig_publish(rig, PUBLISH_REPLACE, "also", "new"), 0);
  rig_assert_stands(rig, "also");
  if (rig_is_command(rig)) assert_string_equal(rig->actions, "replace s1._domainkey;");
  assert_int_equal(rig_publish(rig, PUBLISH_REPLACE, "also", "new"), 0);
  assert_true(rig->results[0].already);
  assert_int_equal(rig_publish(rig, PUBLISH_DELETE, NULL, "new"), 0);
  rig_assert_stands(rig, "");
  assert_false(rig->results[0].already);
  assert_int_equal(rig_publish(rig, PUBLISH_DELETE, NULL, "new"), 0);
  /* What a file has nobody sees at the servers. */
  assert_true(rig->results[0].already == rig_is_command(rig));
  assert_int_equal(rig->calls, rig_is_command(rig) ? 0 : 1); /* the reload */
  assert_int_equal(rig->writes, rig_is_command(rig) ? 0 : 1);
  /* Also where servers say that nothing stands there: one that answers wrongly would have two records stand there. */
  assert_int_equal(rig_publish(rig, PUBLISH_REPLACE, "also", "new"), 0);
  rig_assert_stands(rig, "also");
  if (rig_is_command(rig)) assert_string_equal(rig->actions, "replace s1._domainkey;");
}
static void test_publisher_looked__a_record_is_replaced_and_deleted_as_it_stands(void **state) {
  (void)state;
  rig_with_both(replace_and_delete);
}

static void leave_foreign(struct rig *rig) {
  rig_set_name(rig, RIG_NAME, "theirs");
  assert_int_equal(rig_publish(rig, PUBLISH_ADD, "new", NULL), ERROR_CONFLICT);
  assert_non_null(strstr(rig->results[0].error.message, "theirs"));
  assert_int_equal(rig->calls + rig->writes, 0);
  assert_int_equal(rig_publish(rig, PUBLISH_REPLACE, "new", "old"), ERROR_CONFLICT);
  assert_int_equal(rig_publish(rig, PUBLISH_DELETE, NULL, "old"), ERROR_CONFLICT);
  assert_int_equal(rig->calls + rig->writes, 0);
  rig_assert_stands(rig, "theirs");
  /* One server that shows it is enough. */
  rig_set_name(rig, RIG_NAME, "");
  rig->says[1] = "theirs";
  assert_int_equal(rig_publish(rig, PUBLISH_ADD, "new", NULL), ERROR_CONFLICT);
  assert_non_null(strstr(rig->results[0].error.message, "ns2.example"));
  assert_int_equal(rig->calls + rig->writes, 0);
}
static void test_publisher_looked__a_foreign_record_is_a_conflict_and_nothing_is_called(void **state) {
  (void)state;
  rig_with_both(leave_foreign);
}

static void pass_wildcard(struct rig *rig) {
  rig->wildcard = true;
  assert_int_equal(rig_publish(rig, PUBLISH_ADD, "new", NULL), 0);
  rig_assert_stands(rig, "new");
  assert_int_equal(rig_publish(rig, PUBLISH_DELETE, NULL, "new"), 0);
  rig_assert_stands(rig, "");
}
static void test_publisher_looked__a_wildcard_is_nobodys_record(void **state) {
  (void)state;
  rig_with_both(pass_wildcard);
}

static void wait_for_servers(struct rig *rig) {
  rig->lag[0] = rig->lag[1] = (RIG_WAIT_SECONDS - 5) * 1000;
  const int64_t begun = loop_wall(rig->loop);
  assert_int_equal(rig_publish(rig, PUBLISH_ADD, "new", NULL), 0);
  assert_true(rig->results[0].completed_at >= begun + RIG_WAIT_SECONDS - 5);
  rig->lag[0] = 0;
  assert_int_equal(rig_publish(rig, PUBLISH_REPLACE, "also", "new"), 0);
  assert_true(loop_wall(rig->loop) < begun + RIG_WAIT_SECONDS + 5);
}
static void test_publisher_looked__servers_may_take_their_time(void **state) {
  (void)state;
  rig_with_both(wait_for_servers);
}

static void not_believe(struct rig *rig) {
  const int64_t begun = loop_wall(rig->loop);
  rig->tool = TOOL_LIES;
  assert_int_equal(rig_publish(rig, PUBLISH_ADD, "new", NULL), ERROR_TIMEOUT);
  const struct error *error = &rig->results[0].error;
  assert_non_null(strstr(error->message, "no server shows it after 30s"));
  assert_non_null(strstr(error->message, "NXDOMAIN"));
  assert_true(error->remedy[0] != '\0');
  /* It takes a person, who is told after some attempts. */
  assert_false(error->retryable);
  assert_in_range(loop_wall(rig->loop) - begun, RIG_WAIT_SECONDS, RIG_WAIT_SECONDS + 3);
  /* The next attempt may find that it was only late. */
  rig->tool = TOOL_OBEYS;
  assert_int_equal(rig_publish(rig, PUBLISH_ADD, "new", NULL), 0);
}
static void test_publisher_looked__who_says_yes_and_does_nothing_is_not_believed(void **state) {
  (void)state;
  rig_with_both(not_believe);
}

static void report_failure(struct rig *rig) {
  rig->tool = TOOL_FAILS;
  assert_int_equal(rig_publish(rig, PUBLISH_ADD, "new", NULL), ERROR_REFUSED);
  assert_non_null(strstr(rig->results[0].error.message, "publisher theirs: "));
  assert_non_null(strstr(rig->results[0].error.message, "quota exceeded (exit status 1)"));
  assert_false(rig->results[0].error.retryable);
  rig->tool = TOOL_FAILS_FOR_NOW;
  assert_int_equal(rig_publish(rig, PUBLISH_ADD, "new", NULL), ERROR_BUSY);
  assert_true(rig->results[0].error.retryable);
  rig->tool = TOOL_HANGS;
  assert_int_equal(rig_publish(rig, PUBLISH_ADD, "new", NULL), ERROR_TIMEOUT);
  assert_true(rig->results[0].error.retryable);
  rig_assert_stands(rig, "");
  rig->tool = TOOL_OBEYS;
  assert_int_equal(rig_publish(rig, PUBLISH_ADD, "new", NULL), 0);
}
static void test_publisher_looked__failures_are_told_with_the_programs_reason(void **state) {
  (void)state;
  rig_with_both(report_failure);
}

static void bear_dead_servers(struct rig *rig) {
  rig->down[0] = true;
  assert_int_equal(rig_publish(rig, PUBLISH_ADD, "new", NULL), 0);
  rig->down[1] = true;
  assert_int_equal(rig_publish(rig, PUBLISH_DELETE, NULL, "new"), ERROR_TIMEOUT);
  assert_true(rig->results[0].error.retryable);
  assert_int_equal(rig->calls + rig->writes, 0);
  rig_assert_stands(rig, "new");
}
static void test_publisher_looked__a_dead_server_holds_nothing_back_but_without_any_nothing_is_done(void **state) {
  (void)state;
  rig_with_both(bear_dead_servers);
}

static void take_many(struct rig *rig) {
  rig_set_name(rig, "n3._domainkey." RIG_ZONE, "theirs");
  rig_fill(rig, 10);
  rig->items[8].name = rig->items[7].name;
  rig->items[9].change = PUBLISH_ATTEST;
  rig->items[9].record = NULL;
  rig_perform(rig);
  for (size_t i = 0; i < rig->count; i++) {
    const int expected = i == 3 ? ERROR_CONFLICT : (i == 8 ? ERROR_BUSY : 0);
    if (rig->results[i].error.code != expected) fail_msg("item %zu: %s", i, rig->results[i].error.message);
  }
  assert_false(rig->results[9].attested);
  assert_int_equal(rig->writes, rig_is_command(rig) ? 0 : 1);
  assert_int_equal(rig->reloads, rig_is_command(rig) ? 0 : 1);
  assert_int_equal(rig->calls, rig_is_command(rig) ? 7 : 1);
  assert_int_equal(rig->most, rig_is_command(rig) ? 3 : 1);
}
static void test_publisher_looked__results_are_per_item_and_effort_is_bounded(void **state) {
  (void)state;
  rig_with_both(take_many);
}

static void stop_watchdog(void *context) { loop_stop(context); }

/* An addition that goes on for as long as it may. */
static void add_in_vain(struct rig *rig) {
  rig->tool = TOOL_LIES;
  rig->items[0] = (struct publish_item){.change = PUBLISH_ADD, .name = RIG_NAME, .record = "new", .ttl = 60};
  rig->count = 1;
}

static void cancel_anywhere(struct rig *rig) {
  struct error error = {0};
  add_in_vain(rig);
  for (int64_t after = 0; after < 2000; after += 10) {
    rig_begin(rig);
    assert_int_equal(loop_at(rig->loop, loop_boottime(rig->loop) + after, stop_watchdog, rig->loop, NULL), 0);
    assert_int_equal(loop_run(rig->loop, &error), 0);
    publisher_cancel(rig->publisher, &rig->operation);
    assert_int_equal(rig->done, 0);
  }
  rig_drain(rig);
  assert_int_equal(rig->done, 0);
}
static void test_publisher_looked__an_operation_can_be_cancelled_at_any_moment(void **state) {
  (void)state;
  rig_with_both(cancel_anywhere);
}

static void end_at_deadline(struct rig *rig) {
  struct error error = {0};
  static const int64_t deadlines[] = {-1000, 0, 10, 100, 330, 700};
  add_in_vain(rig);
  for (size_t i = 0; i < ARRAY_SIZE(deadlines); i++) {
    rig->done = 0;
    const int64_t deadline = loop_boottime(rig->loop) + deadlines[i];
    assert_int_equal(publisher_start(rig->publisher, rig->items, 1, deadline, rig_finished, rig, &rig->operation, &error), 0);
    assert_int_equal(loop_run(rig->loop, &error), 0);
    assert_int_equal(rig->done, 1);
    assert_int_equal(rig->results[0].error.code, ERROR_TIMEOUT);
    assert_true(loop_boottime(rig->loop) <= time_max(deadline, loop_boottime(rig->loop)));
  }
  rig->count = 0;
  rig_perform(rig);
  rig->items[0].record = NULL;
  assert_int_equal(publisher_start(rig->publisher, rig->items, 1, 0, rig_finished, rig, &rig->operation, &error), ERROR_INVALID);
}
static void test_publisher_looked__the_deadline_ends_every_item(void **state) {
  (void)state;
  rig_with_both(end_at_deadline);
}

/* What the engine plans by: an operation ends in time even if several calls in a row take all that they may. */
static void test_publisher_looked__the_engine_knows_how_much_and_how_long(void **state) {
  (void)state;
  const struct policy_publisher command = {.type = PUBLISHER_COMMAND, .parallel = 4, .timeout = 60, .wait = 120};
  const struct policy_publisher zonefile = {.type = PUBLISHER_ZONEFILE, .timeout = 60, .wait = 120};
  const struct policy_publisher updates = {.type = PUBLISHER_RFC2136};
  assert_int_equal(publisher_batch_maximum(&command), 128);
  assert_int_equal(publisher_batch_maximum(&zonefile), 0);
  assert_int_equal(publisher_batch_maximum(&updates), 0);
  assert_int_equal(publisher_seconds(&command), 400);
  assert_int_equal(publisher_seconds(&zonefile), 280);
  assert_int_equal(publisher_seconds(&updates), 0);
}

/* ---- commands ---- */

static void test_publisher_looked__after_as_many_hanging_calls_as_run_at_once_no_more_are_made(void **state) {
  (void)state;
  struct rig rig;
  rig_open(&rig, "command");
  rig.tool = TOOL_HANGS;
  rig_fill(&rig, 20);
  rig_perform(&rig);
  for (size_t i = 0; i < rig.count; i++) assert_int_equal(rig.results[i].error.code, ERROR_TIMEOUT);
  assert_true(rig.calls <= 6);
  rig_close(&rig);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_publisher_looked__a_record_is_added_once),
      cmocka_unit_test(test_publisher_looked__a_record_is_replaced_and_deleted_as_it_stands),
      cmocka_unit_test(test_publisher_looked__a_foreign_record_is_a_conflict_and_nothing_is_called),
      cmocka_unit_test(test_publisher_looked__a_wildcard_is_nobodys_record),
      cmocka_unit_test(test_publisher_looked__servers_may_take_their_time),
      cmocka_unit_test(test_publisher_looked__who_says_yes_and_does_nothing_is_not_believed),
      cmocka_unit_test(test_publisher_looked__failures_are_told_with_the_programs_reason),
      cmocka_unit_test(test_publisher_looked__a_dead_server_holds_nothing_back_but_without_any_nothing_is_done),
      cmocka_unit_test(test_publisher_looked__results_are_per_item_and_effort_is_bounded),
      cmocka_unit_test(test_publisher_looked__an_operation_can_be_cancelled_at_any_moment),
      cmocka_unit_test(test_publisher_looked__the_deadline_ends_every_item),
      cmocka_unit_test(test_publisher_looked__the_engine_knows_how_much_and_how_long),
      cmocka_unit_test(test_publisher_looked__after_as_many_hanging_calls_as_run_at_once_no_more_are_made),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
