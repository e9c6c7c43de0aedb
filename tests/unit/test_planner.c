/* Every gate on the way to publication: closed with a reason and the moment at which it opens, then open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/text.h"
#include "dkimroll/timing.h"
#include "../../src/lifecycle/gates.h"
#include "plan_expect.h"

static const int64_t now = BUILDER_NOW;

/* ---- managed: every state ---- */

static void test_planner__nothing_is_done_for_a_domain_that_left_the_policy(void **state) {
  struct builder *builder = *state;
  for (enum key_state each = KEY_RESERVED; each <= KEY_REVOKED; each++) {
    const char *selector = key_state_name(each);
    builder_key(builder, selector, each, now - 300 * DAY);
  }
  builder->lineage.managed = false;
  for (size_t i = 0; i <= builder->lineage.key_count; i++) {
    const struct plan plan = builder_plan_key(builder, i, now);
    assert_int_equal(plan.action, PLAN_NONE);
    assert_int_equal(plan.next, TIME_NEVER);
    assert_true(plan.needs_person);
    assert_non_null(builder_reason(&plan, "managed"));
  }
  const struct plan plan = builder_plan(builder, now);
  assert_int_equal(plan.action, PLAN_NONE);
  assert_int_equal(plan.next, TIME_NEVER);
  assert_non_null(strstr(plan.reasons[0].text, "dkimroll forget example.com"));
}

static void test_planner__a_domain_that_came_back_goes_on(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_RETIRED, now - 300 * DAY);
  builder_key(builder, "b", KEY_ACTIVE, now - 300 * DAY);
  builder->lineage.managed = false;
  assert_int_equal(builder_plan(builder, now).action, PLAN_NONE);
  builder->lineage.managed = true;
  assert_int_equal(builder_plan(builder, now).action, PLAN_GENERATE);
  expect_action(builder, 0, now, PLAN_WITHDRAW);
}

/* ---- the key that does not exist yet ---- */

static void test_planner__the_first_key_is_made_at_once(void **state) {
  const struct plan plan = builder_plan(*state, now);
  assert_int_equal(plan.action, PLAN_GENERATE);
  assert_int_equal(plan.key, 0);
}

static void test_planner__no_new_key_while_held(void **state) {
  struct builder *builder = *state;
  expect_hold(builder, now + DAY);
  expect_opens(builder, 0, PLAN_GENERATE, "not_held", now + DAY);
  const struct plan plan = builder_plan(builder, now);
  assert_string_equal(plan.reasons[0].text, "held: not in December; `dkimroll release example.com` ends it");
  assert_false(plan.needs_person);
  builder->lineage.hold_until = TIME_NEVER;
  expect_closed(builder, 0, now, PLAN_GENERATE, "not_held", TIME_NEVER);
  assert_true(builder_plan(builder, now).needs_person);
  builder->lineage.held = false;
  expect_action(builder, 0, now, PLAN_GENERATE);
}

static void test_planner__no_second_key_before_the_first_signs(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_PUBLISHED, now);
  builder->rules.standby = 2;
  expect_closed(builder, 1, now, PLAN_GENERATE, "successor_wanted", TIME_NEVER);
}

static void test_planner__a_successor_comes_in_time(void **state) {
  struct builder *builder = *state;
  const struct key *key = builder_key(builder, "a", KEY_ACTIVE, now);
  expect_opens(builder, 1, PLAN_GENERATE, "successor_wanted", timing_generate(&builder->lineage, key));
}

static void test_planner__only_one_successor_comes(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now - BUILDER_LIFE);
  builder_key(builder, "b", KEY_READY, now);
  expect_closed(builder, 2, now, PLAN_GENERATE, "successor_wanted", TIME_NEVER);
}

static void test_planner__on_demand_only_waits_for_a_person(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now);
  builder->rules.rotate_every = TIME_NEVER;
  expect_closed(builder, 1, now, PLAN_GENERATE, "successor_wanted", TIME_NEVER);
  builder->lineage.rotate_requested = true;
  expect_action(builder, 1, now, PLAN_GENERATE);
}

static void test_planner__rotate_makes_a_successor_at_once(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now);
  assert_int_equal(builder_plan_key(builder, 1, now).action, PLAN_NONE);
  builder->lineage.rotate_requested = true;
  expect_action(builder, 1, now, PLAN_GENERATE);
}

static void test_planner__rotate_uses_a_successor_that_is_on_its_way(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now);
  builder_key(builder, "b", KEY_PUBLISHED, now);
  builder->lineage.rotate_requested = true;
  expect_closed(builder, 2, now, PLAN_GENERATE, "successor_wanted", TIME_NEVER);
  builder->lineage.keys[1].state = KEY_READY;
  builder_see(&builder->lineage.keys[1], "ns1.example.com", "192.0.2.1", true, now - DAY);
  builder->lineage.keys[1].ready_at = now;
  expect_action(builder, 1, now, PLAN_ACTIVATE);
}

static void test_planner__standby_keys_are_made_beside_the_active_one(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now);
  builder->rules.standby = 2;
  expect_action(builder, 1, now, PLAN_GENERATE);
  builder_key(builder, "b", KEY_READY, now);
  expect_action(builder, 2, now, PLAN_GENERATE);
  builder_key(builder, "c", KEY_READY, now);
  expect_closed(builder, 3, now, PLAN_GENERATE, "successor_wanted", TIME_NEVER);
  builder->rules.standby = 0; /* those that are there wait for their turn */
  expect_closed(builder, 3, now, PLAN_GENERATE, "successor_wanted", TIME_NEVER);
}

static void test_planner__a_slot_that_the_rules_do_not_have_gets_no_key(void **state) {
  struct builder *builder = *state;
  builder->rules.key_count = 0;
  expect_closed(builder, 0, now, PLAN_GENERATE, "successor_wanted", TIME_NEVER);
}

static void test_planner__thirty_two_keys_are_enough(void **state) {
  struct builder *builder = *state;
  char selector[SELECTOR_SIZE] = "k00";
  builder_key(builder, "active", KEY_ACTIVE, now);
  builder->lineage.rotate_requested = true;
  for (unsigned i = 1; i < LINEAGE_KEYS_MAX; i++) {
    expect_action(builder, builder->lineage.key_count, now, PLAN_GENERATE);
    selector[1] = (char)('0' + i / 10);
    selector[2] = (char)('0' + i % 10);
    builder_key(builder, selector, KEY_RETIRED, now);
  }
  expect_closed(builder, LINEAGE_KEYS_MAX, now, PLAN_GENERATE, "room", TIME_NEVER);
}

static void test_planner__a_failed_reservation_backs_off(void **state) {
  struct builder *builder = *state;
  builder->lineage.failures = 1;
  builder->lineage.retry_at = now + 15;
  builder->lineage.failure = text_duplicate("generate: no selector is left");
  expect_opens(builder, 0, PLAN_GENERATE, "back_off", now + 15);
}

/* ---- reserved, generated ---- */

static void test_planner__a_reserved_key_is_generated_also_after_a_crash(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_RESERVED, now);
  expect_action(builder, 0, now, PLAN_GENERATE);
  key->intent_open = true;
  key->intent = PLAN_GENERATE;
  expect_action(builder, 0, now, PLAN_GENERATE);
  expect_back_off(builder, PLAN_GENERATE, "a", now + 15);
  expect_opens(builder, 0, PLAN_GENERATE, "back_off", now + 15);
}

static void test_planner__a_generated_key_is_published(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_GENERATED, now);
  expect_action(builder, 0, now, PLAN_PUBLISH);
  expect_hold(builder, TIME_NEVER); /* what was begun goes on, only the switch waits */
  expect_action(builder, 0, now, PLAN_PUBLISH);
  expect_back_off(builder, PLAN_PUBLISH, "a", now + 15);
  expect_opens(builder, 0, PLAN_PUBLISH, "back_off", now + 15);
}

static void test_planner__keys_of_another_kind_are_dropped_before_publication(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_RESERVED, now);
  builder_key(builder, "b", KEY_GENERATED, now);
  builder_key(builder, "c", KEY_PUBLISHED, now);
  builder->slots[0].bits = 3072;
  expect_action(builder, 0, now, PLAN_DESTROY);
  expect_action(builder, 1, now, PLAN_DESTROY);
  expect_action(builder, 2, now, PLAN_CONFIRM); /* it goes its way */
  expect_back_off(builder, PLAN_DESTROY, "a", now + 15);
  expect_opens(builder, 0, PLAN_DESTROY, "back_off", now + 15);
  builder->slots[0].bits = 2048;
  builder->slots[0].algorithm = KEY_ALGORITHM_ED25519;
  expect_no_back_off(builder);
  expect_action(builder, 1, now, PLAN_DESTROY);
  builder->rules.key_count = 0; /* the slot is gone */
  expect_action(builder, 1, now, PLAN_DESTROY);
}

/* Not even where a step of a wanted key waits that comes before: its end is on the way of an unwanted key alone. */
static void test_planner__the_end_of_a_key_that_is_wanted_is_no_step_of_it(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_RESERVED, now);
  struct key *key = builder_key(builder, "b", KEY_GENERATED, now);
  key->intent = PLAN_PUBLISH; /* its record may be served */
  const struct lineage *lineage = &builder->lineage;
  for (int unwanted = 0; unwanted < 2; unwanted++) {
    builder->slots[0].bits = unwanted ? 3072 : 2048;
    for (size_t i = 0; i < 2; i++) assert_true(plan_step_applies(lineage, i, PLAN_DESTROY, now) == unwanted);
    assert_true(plan_step_applies(lineage, 1, PLAN_DELETE, now) == unwanted);
    assert_true(plan_step_applies(lineage, 0, PLAN_GENERATE, now) == !unwanted);
    assert_true(plan_step_applies(lineage, 1, PLAN_PUBLISH, now) == !unwanted);
  }
}

static void test_planner__an_unwanted_key_does_not_keep_the_wanted_one_waiting(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_GENERATED, now);
  builder->slots[0].bits = 3072;
  expect_back_off(builder, PLAN_DESTROY, "a", now + DAY);
  expect_action(builder, 1, now, PLAN_GENERATE);
}

static void test_planner__an_unwanted_key_whose_publication_was_begun_is_deleted_first(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_GENERATED, now);
  key->intent = PLAN_PUBLISH; /* the reply may have been lost */
  builder->slots[0].bits = 3072;
  expect_action(builder, 0, now, PLAN_DELETE);
  key->intent = PLAN_DELETE;
  expect_action(builder, 0, now, PLAN_DELETE);
  expect_back_off(builder, PLAN_DELETE, "a", now + 15);
  expect_opens(builder, 0, PLAN_DELETE, "back_off", now + 15);
  key->deleted_at = now;
  expect_action(builder, 0, now + 15, PLAN_DESTROY);
}

/* ---- published ---- */

static void test_planner__a_published_key_is_looked_at_at_once(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_PUBLISHED, now);
  expect_action(builder, 0, now, PLAN_CONFIRM);
  expect_back_off(builder, PLAN_CONFIRM, "a", now + 15);
  const struct plan plan = builder_plan_key(builder, 0, now);
  assert_int_equal(plan.action, PLAN_NONE);
  assert_int_equal(plan.next, now + 15); /* not now: that would spin */
  assert_string_equal(plan.reasons[0].gate, "servers_right");
  assert_string_equal(plan.reasons[0].text, "no server has been asked yet");
}

static void test_planner__a_wrong_server_is_named(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_PUBLISHED, now);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + 5);
  builder_see(key, "ns2.example.com", "192.0.2.2", false, now + 5);
  expect_closed(builder, 0, now + 6, PLAN_READY, "servers_right", TIME_NEVER);
  const struct plan plan = builder_plan_key(builder, 0, now + 6);
  assert_string_equal(
      builder_reason(&plan, "servers_right")->text,
      "ns2.example.com (192.0.2.2) does not serve the record: NXDOMAIN, at 2027-01-15 08:00:05 UTC, published "
      "2027-01-15 08:00:00 UTC");
  assert_non_null(builder_reason(&plan, "negative_cache"));
  assert_int_equal(plan.next, now + 15);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now + 5);
  const struct plan both = builder_plan_key(builder, 0, now + 6);
  assert_non_null(strstr(both.reasons[0].text, "ns1.example.com (192.0.2.1), not the only one, does not serve"));
}

static void test_planner__a_wrong_server_without_a_name_is_called_by_its_address(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_PUBLISHED, now - 60);
  builder_see(key, "192.0.2.9", "192.0.2.9", false, now - 5);
  const struct plan plan = builder_plan_key(builder, 0, now - 4);
  const struct plan_reason *reason = builder_reason(&plan, "servers_right");
  assert_non_null(reason);
  assert_non_null(strstr(reason->text, "192.0.2.9"));
  assert_null(strstr(reason->text, "(192.0.2.9)"));
}

static void test_planner__enough_sightings_are_waited_for(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_PUBLISHED, now);
  key->ttl_negative = 0;
  builder->rules.publish_safety = 0;
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + 5);
  expect_closed(builder, 0, now + 6, PLAN_READY, "servers_right", now + 15);
  const struct plan plan = builder_plan_key(builder, 0, now + 6);
  assert_string_equal(plan.reasons[0].text, "1 of 2 sightings on all 1 servers");
  expect_action(builder, 0, now + 15, PLAN_CONFIRM);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + 15);
  expect_action(builder, 0, now + 15, PLAN_READY);
}

static void test_planner__negative_caches_are_waited_for_and_one_look_follows(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_PUBLISHED, now);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + 10);
  expect_closed(builder, 0, now + 11, PLAN_READY, "negative_cache", now + BUILDER_F1);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + BUILDER_F1 - 2);
  expect_closed(builder, 0, now + BUILDER_F1 - 1, PLAN_READY, "seen_after_wait", now + BUILDER_F1);
  expect_action(builder, 0, now + BUILDER_F1, PLAN_CONFIRM);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + BUILDER_F1);
  expect_action(builder, 0, now + BUILDER_F1, PLAN_READY);
}

static void test_planner__a_record_that_stays_away_is_published_again_after_a_look(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_PUBLISHED, now);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now + HOUR - 1);
  expect_action(builder, 0, now + HOUR - 1, PLAN_NONE);
  expect_action(builder, 0, now + HOUR, PLAN_PUBLISH);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now);
  expect_action(builder, 0, now + HOUR, PLAN_CONFIRM); /* never on old evidence */
}

static void test_planner__publishing_again_comes_ever_more_slowly_but_once_a_day(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_PUBLISHED, now);
  int64_t at = now;
  for (unsigned i = 0; i < 12; i++) {
    const int64_t pause = i == 0 ? HOUR : key->published_at - now < DAY ? key->published_at - now : DAY;
    at = key->published_at + pause;
    builder_see(key, "ns1.example.com", "192.0.2.1", false, at - 1);
    expect_action(builder, 0, at - 1, PLAN_NONE);
    expect_action(builder, 0, at, PLAN_PUBLISH);
    key->published_at = at;
  }
  assert_in_range(at - now, 6 * DAY, 9 * DAY);
}

static void test_planner__a_failed_healing_does_not_stop_the_looks(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_PUBLISHED, now);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now + DAY);
  expect_back_off(builder, PLAN_PUBLISH, "a", now + 2 * DAY);
  const struct plan plan = builder_plan_key(builder, 0, now + DAY);
  assert_int_equal(plan.action, PLAN_NONE);
  assert_int_equal(plan.next, now + DAY + TIMING_CONFIRM_SLOWEST);
  expect_action(builder, 0, now + DAY + TIMING_CONFIRM_SLOWEST, PLAN_CONFIRM);
  expect_back_off(builder, PLAN_CONFIRM, "a", now + 2 * DAY);
  assert_int_equal(builder_plan_key(builder, 0, now + DAY + HOUR).next, now + 2 * DAY);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_planner__##name, builder_setup, builder_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(nothing_is_done_for_a_domain_that_left_the_policy),
      TEST(a_domain_that_came_back_goes_on),
      TEST(the_first_key_is_made_at_once),
      TEST(no_new_key_while_held),
      TEST(no_second_key_before_the_first_signs),
      TEST(a_successor_comes_in_time),
      TEST(only_one_successor_comes),
      TEST(on_demand_only_waits_for_a_person),
      TEST(rotate_makes_a_successor_at_once),
      TEST(rotate_uses_a_successor_that_is_on_its_way),
      TEST(standby_keys_are_made_beside_the_active_one),
      TEST(a_slot_that_the_rules_do_not_have_gets_no_key),
      TEST(thirty_two_keys_are_enough),
      TEST(a_failed_reservation_backs_off),
      TEST(a_reserved_key_is_generated_also_after_a_crash),
      TEST(a_generated_key_is_published),
      TEST(keys_of_another_kind_are_dropped_before_publication),
      TEST(the_end_of_a_key_that_is_wanted_is_no_step_of_it),
      TEST(an_unwanted_key_does_not_keep_the_wanted_one_waiting),
      TEST(an_unwanted_key_whose_publication_was_begun_is_deleted_first),
      TEST(a_published_key_is_looked_at_at_once),
      TEST(a_wrong_server_is_named),
      TEST(a_wrong_server_without_a_name_is_called_by_its_address),
      TEST(enough_sightings_are_waited_for),
      TEST(negative_caches_are_waited_for_and_one_look_follows),
      TEST(a_record_that_stays_away_is_published_again_after_a_look),
      TEST(publishing_again_comes_ever_more_slowly_but_once_a_day),
      TEST(a_failed_healing_does_not_stop_the_looks),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
