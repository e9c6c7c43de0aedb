/* Emergencies: which key takes over and which record ends when somebody else may have a key, by the planner and the invariants, one gate after the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "emergency_rig.h"

static const int64_t now = BUILDER_NOW;

/* ---- with a standby ---- */

static void test_planner_emergency__a_standby_takes_over_at_once(void **state) {
  struct builder *builder = *state;
  builder->rules.standby = 1;
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  emergency_key(builder, "waits", KEY_READY, now - DAY);
  emergency_compromise(builder, NULL, false, false);
  expect_choice(builder, PLAN_ACTIVATE, "waits");
  assert_true(emergency_permits(builder, PLAN_ACTIVATE, 1, true));
  assert_false(emergency_permits(builder, PLAN_ACTIVATE, 1, false));
  assert_false(emergency_permits(builder, PLAN_REVOKE, 0, true));
}

static void test_planner_emergency__of_two_standbys_the_older_one_that_is_sound_takes_over(void **state) {
  struct builder *builder = *state;
  builder->rules.standby = 3;
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  emergency_key(builder, "oldest", KEY_READY, now - 3 * DAY);
  emergency_key(builder, "younger", KEY_READY, now - DAY);
  emergency_key(builder, "older", KEY_READY, now - 2 * DAY);
  emergency_compromise(builder, "oldest", false, false);
  emergency_compromise(builder, "signs", false, false);
  expect_choice(builder, PLAN_ACTIVATE, "older");
  assert_ptr_equal(lineage_standby_key(&builder->lineage), &builder->lineage.keys[3]);
}

static void test_planner_emergency__the_record_says_so_right_after_the_switch_and_before_a_new_key_is_made(void **state) {
  struct builder *builder = *state;
  builder->rules.standby = 1;
  struct key *old = emergency_key(builder, "old", KEY_RETIRED, now);
  old->compromised_at = now;
  emergency_key(builder, "signs", KEY_ACTIVE, now);
  expect_choice(builder, PLAN_REVOKE, "old");
  assert_true(emergency_permits(builder, PLAN_REVOKE, 0, false)); /* no window is left that a wrong clock could shorten */
  builder->lineage.keys[0].compromised_at = TIME_UNSET;
  expect_choice(builder, PLAN_GENERATE, NULL);
  assert_false(emergency_permits(builder, PLAN_REVOKE, 0, true));
}

static void test_planner_emergency__a_back_off_of_the_revocation_holds_no_new_key_back(void **state) {
  struct builder *builder = *state;
  builder->rules.standby = 1;
  struct key *old = emergency_key(builder, "old", KEY_RETIRED, now);
  old->compromised_at = now;
  emergency_key(builder, "signs", KEY_ACTIVE, now);
  builder_fail(builder, PLAN_REVOKE, 0, now, ERROR_UNREACHABLE, true);
  expect_choice(builder, PLAN_GENERATE, NULL);
  expect_opens(builder, 0, PLAN_REVOKE, "back_off", builder->lineage.retry_at);
}

/* Two keys that fail in turn do not take each other's pause away, and each pause grows. */
static void test_planner_emergency__two_keys_that_fail_in_turn_keep_a_pace(void **state) {
  struct builder *builder = *state;
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  emergency_key(builder, "old", KEY_RETIRED, now)->placements[0].drained_at = now;
  emergency_key(builder, "next", KEY_GENERATED, now);
  emergency_compromise(builder, "old", false, false);
  int64_t at = now, pause = 0;
  for (unsigned i = 0; i < 5; i++) {
    builder_fail(builder, PLAN_REVOKE, 1, at, ERROR_UNREACHABLE, true);
    builder_fail(builder, PLAN_PUBLISH, 2, at, ERROR_UNREACHABLE, true);
    const int64_t opens = builder->lineage.keys[1].retry_at;
    assert_true(opens - at > pause);
    pause = opens - at;
    expect_closed(builder, 1, at, PLAN_REVOKE, "back_off", opens);
    expect_closed(builder, 2, at, PLAN_PUBLISH, "back_off", builder->lineage.keys[2].retry_at);
    at = time_max(opens, builder->lineage.keys[2].retry_at);
    expect_action(builder, 1, at, PLAN_REVOKE);
    expect_action(builder, 2, at, PLAN_PUBLISH);
  }
}

/* ---- without a standby ---- */

static void test_planner_emergency__without_a_standby_a_key_is_made_and_the_old_one_signs_on(void **state) {
  struct builder *builder = *state;
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  emergency_compromise(builder, NULL, false, false);
  expect_choice(builder, PLAN_GENERATE, NULL);
  assert_false(emergency_permits(builder, PLAN_REVOKE, 0, true));
  assert_true(key_is_broken(&builder->lineage, &builder->lineage.keys[0]));
}

static void test_planner_emergency__a_rotation_that_is_half_way_is_taken_to_its_end(void **state) {
  struct builder *builder = *state;
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  emergency_key(builder, "half", KEY_PUBLISHED, now - HOUR);
  emergency_compromise(builder, "signs", false, false);
  assert_int_not_equal(builder_plan(builder, now).action, PLAN_GENERATE);
  builder->lineage.keys[1].state = KEY_READY;
  builder->lineage.keys[1].ready_at = now;
  builder_see(&builder->lineage.keys[1], "ns1.example.com", "192.0.2.1", true, now);
  builder_see(&builder->lineage.keys[1], "ns2.example.com", "192.0.2.2", true, now);
  builder->rules.publish_safety = 0;
  builder->lineage.keys[1].ttl_negative = builder->lineage.keys[1].ttl_old = 0;
  expect_choice(builder, PLAN_ACTIVATE, "half");
}

static void test_planner_emergency__at_once_ends_the_record_without_another_key(void **state) {
  struct builder *builder = *state;
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  emergency_compromise(builder, NULL, false, true);
  expect_choice(builder, PLAN_REVOKE, "signs");
  assert_true(emergency_permits(builder, PLAN_REVOKE, 0, true));
}

static void test_planner_emergency__at_once_waits_the_second_that_a_standby_needs(void **state) {
  struct builder *builder = *state;
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  emergency_key(builder, "waits", KEY_READY, now - DAY);
  emergency_compromise(builder, "signs", false, true);
  expect_choice(builder, PLAN_ACTIVATE, "waits");
  expect_closed(builder, 0, now, PLAN_REVOKE, "no_standby", TIME_NEVER);
  builder_fail(builder, PLAN_ACTIVATE, 1, now, ERROR_UNREACHABLE, true);
  expect_choice(builder, PLAN_REVOKE, "signs"); /* it cannot, and the person said at once */
}

/* Whatever else the lineage shows meanwhile. */
static void test_planner_emergency__a_standby_that_could_not_is_known_behind_another_failure(void **state) {
  struct builder *builder = *state;
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  emergency_key(builder, "waits", KEY_READY, now - DAY);
  emergency_compromise(builder, "signs", false, true);
  builder_fail(builder, PLAN_ACTIVATE, 1, now, ERROR_UNREACHABLE, true);
  builder_fail(builder, PLAN_ATTEST, 2, now, ERROR_UNREACHABLE, true);
  assert_non_null(strstr(builder->lineage.failure, "attest: "));
  expect_choice(builder, PLAN_REVOKE, "signs");
}

static void test_planner_emergency__after_the_end_at_once_its_lines_go_though_no_other_key_signs(void **state) {
  struct builder *builder = *state;
  struct key *key = emergency_key(builder, "ended", KEY_REVOKED, now);
  key->placements[0].switched_at = now - DAY;
  key->placements[0].drained_at = TIME_UNSET;
  key->compromised_at = key->right_at = now;
  builder_key(builder, "next", KEY_GENERATED, now);
  builder_fail(builder, PLAN_PUBLISH, 1, now, ERROR_UNREACHABLE, true);
  expect_closed(builder, 0, now, PLAN_WITHDRAW, "other_key_signs", TIME_NEVER);
  assert_false(emergency_permits(builder, PLAN_WITHDRAW, 0, true));
  builder->lineage.keys[0].revoke_now = true;
  expect_choice(builder, PLAN_WITHDRAW, "ended");
  assert_true(emergency_permits(builder, PLAN_WITHDRAW, 0, true));
}

static void test_planner_emergency__the_only_key_is_lost_only_by_the_end_at_once(void **state) {
  struct builder *builder = *state;
  struct lineage after;
  struct error error = {0};
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  emergency_compromise(builder, NULL, false, false);
  assert_int_equal(lineage_copy(&builder->lineage, &after, &error), 0);
  after.keys[0].state = KEY_REVOKED;
  assert_int_equal(invariant_holds(&builder->lineage, &after, &error), ERROR_INTERNAL);
  after.keys[0].revoke_now = true;
  assert_int_equal(invariant_holds(&builder->lineage, &after, &error), 0);
  after.keys[0].state = KEY_RETIRED;
  assert_int_equal(invariant_holds(&builder->lineage, &after, &error), ERROR_INTERNAL);
  lineage_release(&after);
}

/* ---- keys that do not sign ---- */

static void test_planner_emergency__a_key_that_never_signed_is_revoked_and_never_signs(void **state) {
  struct builder *builder = *state;
  for (enum key_state at = KEY_PUBLISHED; at <= KEY_READY; at++) {
    builder_end(builder);
    builder_begin(builder);
    emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
    emergency_key(builder, "waits", at, now - DAY);
    builder->lineage.rotate_requested = true;
    emergency_compromise(builder, "waits", false, false);
    expect_choice(builder, PLAN_REVOKE, "waits");
    assert_true(emergency_permits(builder, PLAN_REVOKE, 1, true));
    assert_false(emergency_permits(builder, PLAN_ACTIVATE, 1, true));
    assert_false(emergency_permits(builder, PLAN_PUBLISH, 1, true));
  }
}

/* While its revocation fails, nothing else is done with it that would bring it forward. */
static void test_planner_emergency__a_key_whose_revocation_fails_goes_no_other_way(void **state) {
  struct builder *builder = *state;
  static const enum key_state states[] = {KEY_PUBLISHED, KEY_READY, KEY_RETIRED};
  for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
    builder_end(builder);
    builder_begin(builder);
    builder->rules.publish_safety = 0;
    emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
    struct key *key = emergency_key(builder, "ends", states[i], now - DAY);
    key->ttl_negative = key->ttl_old = 0;
    if (states[i] == KEY_RETIRED) {
      key->placements[0].drained_at = now;
      for (size_t j = 0; j < key->sighting_count; j++) builder_see(key, key->sightings[j].host, key->sightings[j].address, false, now);
    }
    builder->lineage.rotate_requested = true;
    emergency_compromise(builder, "ends", false, false);
    builder_fail(builder, PLAN_REVOKE, 1, now, ERROR_UNREACHABLE, true);
    const struct plan plan = builder_plan_key(builder, 1, now);
    assert_string_equal(plan_action_name(plan.waiting), "revoke");
    const struct plan later = builder_plan_key(builder, 1, builder->lineage.retry_at - 1);
    const bool looks = later.action == PLAN_CONFIRM && states[i] == KEY_RETIRED;
    if (later.action != PLAN_NONE && !looks) fail_msg("%s of a key that is compromised and %s", plan_action_name(later.action), key_state_name(states[i]));
    for (size_t j = 0; j < builder->lineage.keys[1].sighting_count; j++) builder->lineage.keys[1].published_at = now - 30 * DAY;
    const struct plan healing = builder_plan_key(builder, 1, now + 1);
    assert_int_not_equal(healing.action, PLAN_PUBLISH);
  }
}

/* A hold stops the revocation, and not the healing of records; but this record is not wanted back. */
static void test_planner_emergency__a_hold_brings_no_compromised_record_back(void **state) {
  struct builder *builder = *state;
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  struct key *key = emergency_key(builder, "ends", KEY_RETIRED, now - DAY);
  for (size_t j = 0; j < key->sighting_count; j++) builder_see(key, key->sightings[j].host, key->sightings[j].address, false, now);
  key->placements[0].drained_at = now;
  key->published_at = now - 30 * DAY;
  builder->lineage.held = true;
  builder->lineage.hold_until = TIME_NEVER;
  expect_action(builder, 1, now, PLAN_PUBLISH);
  emergency_compromise(builder, "ends", false, false);
  assert_int_not_equal(builder_plan_key(builder, 1, now).action, PLAN_PUBLISH);
}

/* The one signer that signs does so with a key that never took over everywhere: without another key to go back to, its record stays. */
static void test_planner_emergency__a_half_switched_key_that_alone_signs_keeps_its_record(void **state) {
  struct builder *builder = *state;
  struct key *half = emergency_key(builder, "half", KEY_READY, now - DAY);
  half->placements[0].switched_at = now;
  half->placements[0].drained_at = TIME_UNSET;
  emergency_compromise(builder, "half", false, false);
  assert_int_not_equal(builder_plan_key(builder, 0, now).action, PLAN_REVOKE);
  emergency_compromise(builder, "half", false, true);
  expect_action(builder, 0, now, PLAN_WITHDRAW); /* unsigned is what was asked for */
}

static void test_planner_emergency__what_signs_with_it_somewhere_is_taken_back_first(void **state) {
  struct builder *builder = *state;
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  struct key *half = emergency_key(builder, "half", KEY_READY, now - DAY);
  half->placements[0].switched_at = now;
  emergency_compromise(builder, "half", false, false);
  expect_choice(builder, PLAN_WITHDRAW, "half");
  assert_true(emergency_permits(builder, PLAN_WITHDRAW, 1, true));
  builder->lineage.keys[1].placements[0].drained_at = now;
  expect_choice(builder, PLAN_REVOKE, "half");
}

static void test_planner_emergency__a_key_without_a_record_is_destroyed(void **state) {
  struct builder *builder = *state;
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  builder_key(builder, "made", KEY_GENERATED, now);
  emergency_compromise(builder, NULL, true, false);
  expect_action(builder, 1, now, PLAN_DESTROY);
  builder->lineage.keys[1].state = KEY_RESERVED;
  expect_action(builder, 1, now, PLAN_DESTROY);
}

static void test_planner_emergency__of_a_compromised_host_no_key_takes_over(void **state) {
  struct builder *builder = *state;
  builder->rules.standby = 1;
  emergency_key(builder, "old", KEY_RETIRED, now - DAY);
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  emergency_key(builder, "waits", KEY_READY, now - DAY);
  emergency_compromise(builder, NULL, true, false);
  assert_null(lineage_standby_key(&builder->lineage));
  expect_action(builder, 0, now, PLAN_REVOKE);
  expect_action(builder, 2, now, PLAN_REVOKE);
  builder->lineage.keys[0].state = builder->lineage.keys[2].state = KEY_REVOKED;
  builder->lineage.keys[0].revoked_at = builder->lineage.keys[2].revoked_at = now;
  builder->lineage.keys[0].placements[0].drained_at = now;
  expect_choice(builder, PLAN_GENERATE, NULL);
}

/* ---- what holds it back, and what does not ---- */

static void test_planner_emergency__a_hold_of_everything_holds_it_too(void **state) {
  struct builder *builder = *state;
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  emergency_key(builder, "waits", KEY_READY, now - DAY);
  emergency_key(builder, "old", KEY_RETIRED, now - DAY);
  builder->lineage.held = true;
  builder->lineage.hold_until = now + DAY;
  builder->lineage.keys[2].placements[0].drained_at = now;
  emergency_compromise(builder, NULL, true, true);
  expect_closed(builder, 0, now, PLAN_REVOKE, "not_held", now + DAY);
  expect_closed(builder, 1, now, PLAN_REVOKE, "not_held", now + DAY);
  expect_closed(builder, 2, now, PLAN_REVOKE, "not_held", now + DAY);
}

/* A pause that would last longer than any does was counted by a clock that has been set back since. */
static void test_planner_emergency__a_clock_that_was_set_back_holds_nothing_up(void **state) {
  struct builder *builder = *state;
  builder->rules.standby = 1;
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  emergency_key(builder, "waits", KEY_READY, now - DAY);
  emergency_compromise(builder, "waits", false, false);
  builder->lineage.keys[1].failures = 1;
  builder->lineage.keys[1].retry_at = now + HOUR;
  assert_non_null(builder_reason(&(struct plan[]){builder_plan_key(builder, 1, now)}[0], "back_off"));
  builder->lineage.keys[1].retry_at = now + 30 * DAY;
  assert_string_equal(plan_action_name(builder_plan_key(builder, 1, now).action), plan_action_name(PLAN_REVOKE));
}

/* ---- the wish ---- */

static void test_planner_emergency__a_wish_is_taken_once(void **state) {
  struct builder *builder = *state;
  struct event_list events = {0};
  struct error error;
  const struct compromise wish = {.selector = "SIGNS"};
  const struct compromise at_once = {.selector = "signs", .now = true};
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  emergency_key(builder, "gone", KEY_REVOKED, now - DAY);
  assert_int_equal(lifecycle_compromise(&builder->lineage, &wish, now, &events, &error), 0);
  assert_int_equal(lifecycle_compromise(&builder->lineage, &wish, now + HOUR, &events, &error), 0);
  assert_int_equal(events.count, 1);
  assert_string_equal(events.items[0].kind, "compromised");
  assert_int_equal(builder->lineage.keys[0].compromised_at, now);
  assert_int_equal(lifecycle_compromise(&builder->lineage, &at_once, now + HOUR, &events, &error), 0);
  assert_int_equal(events.count, 2);
  assert_int_equal(builder->lineage.keys[0].compromised_at, now);
  assert_true(builder->lineage.keys[0].revoke_now);
  const struct compromise gone = {.selector = "gone"};
  assert_int_equal(lifecycle_compromise(&builder->lineage, &gone, now, &events, &error), 0);
  assert_int_equal(events.count, 2);
  event_list_release(&events);
}

static void test_planner_emergency__at_once_is_news_once(void **state) {
  struct builder *builder = *state;
  const struct compromise wish = {.selector = "signs", .now = true};
  struct key *key = emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  assert_true(key_is_meant(key, &wish));
  emergency_compromise(builder, "signs", false, false);
  assert_true(key_is_meant(&builder->lineage.keys[0], &wish));
  emergency_compromise(builder, "signs", false, true);
  assert_false(key_is_meant(&builder->lineage.keys[0], &wish));
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_planner_emergency__##name, builder_setup, builder_teardown)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_standby_takes_over_at_once),
      TEST(of_two_standbys_the_older_one_that_is_sound_takes_over),
      TEST(the_record_says_so_right_after_the_switch_and_before_a_new_key_is_made),
      TEST(a_back_off_of_the_revocation_holds_no_new_key_back),
      TEST(two_keys_that_fail_in_turn_keep_a_pace),
      TEST(without_a_standby_a_key_is_made_and_the_old_one_signs_on),
      TEST(a_rotation_that_is_half_way_is_taken_to_its_end),
      TEST(at_once_ends_the_record_without_another_key),
      TEST(at_once_waits_the_second_that_a_standby_needs),
      TEST(a_standby_that_could_not_is_known_behind_another_failure),
      TEST(after_the_end_at_once_its_lines_go_though_no_other_key_signs),
      TEST(the_only_key_is_lost_only_by_the_end_at_once),
      TEST(a_key_that_never_signed_is_revoked_and_never_signs),
      TEST(a_key_whose_revocation_fails_goes_no_other_way),
      TEST(a_hold_brings_no_compromised_record_back),
      TEST(a_half_switched_key_that_alone_signs_keeps_its_record),
      TEST(what_signs_with_it_somewhere_is_taken_back_first),
      TEST(a_key_without_a_record_is_destroyed),
      TEST(of_a_compromised_host_no_key_takes_over),
      TEST(a_hold_of_everything_holds_it_too),
      TEST(a_clock_that_was_set_back_holds_nothing_up),
      TEST(a_wish_is_taken_once),
      TEST(at_once_is_news_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
