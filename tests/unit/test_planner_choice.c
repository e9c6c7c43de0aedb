/* What the planner chooses among several keys, and that it neither spins nor stands still: attestation, back-off, clocks that were set. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/text.h"
#include "dkimroll/timing.h"
#include "plan_expect.h"

static const int64_t now = BUILDER_NOW;

static struct plan plan_unattested(const struct builder *builder, int64_t at) {
  struct plan plan;
  plan_lineage(&builder->lineage, &(struct plan_clock){.now = at}, &plan);
  return plan;
}

/* ---- urgency ---- */

static void test_planner_choice__what_signs_goes_before_what_is_tidied_up(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "old", KEY_REVOKED, now - 300 * DAY);
  builder_key(builder, "retired", KEY_RETIRED, now - DAY);
  builder_key(builder, "active", KEY_ACTIVE, now - 300 * DAY);
  expect_choice(builder, PLAN_GENERATE, NULL);
  builder_key(builder, "next", KEY_RESERVED, now);
  expect_choice(builder, PLAN_GENERATE, "next");
  builder->lineage.keys[3].state = KEY_READY; /* without sightings: to be looked at */
  builder->lineage.keys[3].published_at = builder->lineage.keys[3].ready_at = now;
  expect_choice(builder, PLAN_CONFIRM, "active");
  builder_see(&builder->lineage.keys[2], "ns1.example.com", "192.0.2.1", true, now);
  builder_see(&builder->lineage.keys[1], "ns1.example.com", "192.0.2.1", true, now);
  expect_choice(builder, PLAN_CONFIRM, "next");
  builder_see(&builder->lineage.keys[3], "ns1.example.com", "192.0.2.1", true, now);
  expect_choice(builder, PLAN_WITHDRAW, "retired");
  builder->lineage.keys[1].placements[0].drained_at = now;
  expect_choice(builder, PLAN_DELETE, "old");
}

/* Of a key that is nobody's no mail depends on who says so. */
static void test_planner_choice__a_look_at_a_tombstone_comes_after_a_new_key(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "old", KEY_REVOKED, now - 2 * DAY)->right_at = TIME_UNSET;
  expect_seen(builder_key(builder, "active", KEY_ACTIVE, now - BUILDER_LIFE), true, now);
  expect_action(builder, 0, now, PLAN_CONFIRM);
  expect_choice(builder, PLAN_GENERATE, NULL);
  builder->lineage.keys[0].compromised_at = now - 2 * DAY; /* it is somebody else's */
  expect_choice(builder, PLAN_CONFIRM, "old");
}

/* Whether somebody else has it does not depend on whether it is still there; a hold puts off its end alone. */
static void test_planner_choice__the_private_key_of_one_in_other_hands_is_not_looked_at(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "signs", KEY_ACTIVE, now - DAY);
  struct key *key = builder_key(builder, "waits", KEY_READY, now - DAY);
  expect_seen(key, true, now);
  expect_hold(builder, TIME_NEVER);
  expect_action(builder, 1, now, PLAN_CHECK_FILES);
  key->compromised_at = now;
  expect_closed(builder, 1, now, PLAN_REVOKE, "not_held", TIME_NEVER);
}

/* The loss of one that is not ready yet may be over, too, before it is for good. */
static void test_planner_choice__a_private_key_that_is_missing_is_looked_for_until_it_is_lost_for_good(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "waits", KEY_PUBLISHED, now - DAY);
  expect_seen(key, true, now);
  key->placements[0].damage = DAMAGE_FILE_MISSING;
  key->placements[0].damaged_at = now;
  key->files_seen_at = now;
  expect_closed(builder, 0, now, PLAN_REVOKE, "lost_for_good", now + TIMING_LOST_FOR_GOOD);
  expect_action(builder, 0, now + TIMING_WATCH_SLOWEST, PLAN_CHECK_FILES);
  key->files_seen_at = now + TIMING_LOST_FOR_GOOD - 1;
  expect_action(builder, 0, now + TIMING_LOST_FOR_GOOD, PLAN_REVOKE);
}

static void test_planner_choice__the_next_moment_is_the_earliest_of_all_keys(void **state) {
  struct builder *builder = *state;
  const struct key *active = builder_key(builder, "active", KEY_ACTIVE, now);
  const int64_t watched = timing_next_round(active, &builder->rules);
  assert_int_equal(builder_plan(builder, now).next, watched);
  builder_key(builder, "retired", KEY_RETIRED, now);
  struct plan plan = builder_plan(builder, now);
  assert_int_equal(plan.next, now + HOUR);
  assert_int_equal(plan.waiting, PLAN_WITHDRAW);
  assert_int_equal(plan.key, 1);
  assert_false(plan.needs_person);
}

static void test_planner_choice__a_due_action_is_due_now(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "retired", KEY_RETIRED, now);
  builder_key(builder, "active", KEY_ACTIVE, now - 300 * DAY);
  const struct plan plan = builder_plan(builder, now);
  assert_int_equal(plan.action, PLAN_GENERATE);
  assert_int_equal(plan.next, now);
  assert_int_equal(plan.reason_count, 0);
}

/* ---- attestation ---- */

static void test_planner_choice__a_switch_asks_for_attestation_first(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_READY, now);
  const struct plan plan = plan_unattested(builder, now);
  assert_int_equal(plan.action, PLAN_ATTEST);
  assert_int_equal(plan.key, 0);
  expect_choice(builder, PLAN_ACTIVATE, "a");
}

static void test_planner_choice__every_end_asks_for_attestation_first(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "b", KEY_ACTIVE, now);
  struct key *key = builder_key(builder, "a", KEY_RETIRED, now - BUILDER_WINDOW);
  key->placements[0].drained_at = now;
  assert_int_equal(plan_unattested(builder, now).action, PLAN_ATTEST);
  builder->rules.tombstone = 0;
  assert_int_equal(plan_unattested(builder, now).action, PLAN_ATTEST);
  key->deleted_at = key->absent_at = now;
  assert_int_equal(plan_unattested(builder, now).action, PLAN_ATTEST);
  key->state = KEY_REVOKED;
  assert_int_equal(plan_unattested(builder, now).action, PLAN_ATTEST);
}

static void test_planner_choice__attestation_that_failed_backs_off(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_READY, now);
  expect_back_off(builder, PLAN_ATTEST, "a", now + 15);
  struct plan plan = plan_unattested(builder, now);
  assert_int_equal(plan.action, PLAN_NONE);
  assert_int_equal(plan.next, now + 15);
  plan = plan_unattested(builder, now + 15);
  assert_int_equal(plan.action, PLAN_ATTEST);
}

static void test_planner_choice__a_window_is_not_forgotten_while_the_clock_is_unattested(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "b", KEY_ACTIVE, now);
  builder_key(builder, "a", KEY_REVOKED, now);
  builder->rules.rotate_every = TIME_NEVER;
  struct plan own;
  plan_key(&builder->lineage, 1, &(struct plan_clock){.now = now, .skip_watch = true}, &own);
  assert_int_equal(own.next, now + BUILDER_TOMBSTONE);
  assert_non_null(builder_reason(&own, "clock_attested"));
  plan_key(&builder->lineage, 1, &(struct plan_clock){.now = now + BUILDER_TOMBSTONE}, &own);
  assert_int_equal(own.action, PLAN_ATTEST);
}

/* A publisher that asks no primary cannot attest it: no step is tried in vain, and the kernel's word is looked for once a minute. */
static void test_planner_choice__without_a_primary_the_kernel_is_waited_for(void **state) {
  struct builder *builder = *state;
  const enum publisher_type types[] = {PUBLISHER_COMMAND, PUBLISHER_ZONEFILE};
  builder_key(builder, "a", KEY_READY, now);
  for (size_t i = 0; i < 2; i++) {
    builder->publishers[0].type = types[i];
    builder->lineage.keys[0].state = KEY_READY;
    const struct plan plan = plan_unattested(builder, now);
    assert_int_equal(plan.action, PLAN_NONE);
    assert_int_equal(plan.waiting, PLAN_ACTIVATE);
    assert_int_equal(plan.next, now + TIMING_ATTEST_LOOK);
    assert_false(plan.needs_person);
    assert_non_null(strstr(builder_reason(&plan, "clock_attested")->text, "publisher primary asks no primary"));
    expect_choice(builder, PLAN_ACTIVATE, "a");
    /* Nor before F1 begins: the rounds go on, and count as soon as the clock is attested. */
    builder->lineage.keys[0].state = KEY_PUBLISHED;
    assert_int_not_equal(plan_unattested(builder, now).action, PLAN_ATTEST);
    builder->publishers[0].type = PUBLISHER_RFC2136;
    assert_int_equal(plan_unattested(builder, now).action, PLAN_ATTEST);
  }
}

/* Somebody who read of servers alone would look at servers that are right. */
static void test_planner_choice__a_wait_that_no_attested_clock_began_says_so(void **state) {
  struct builder *builder = *state;
  builder->publishers[0].type = PUBLISHER_COMMAND;
  struct key *key = builder_key(builder, "a", KEY_PUBLISHED, now);
  builder_see(key, "ns1", "192.0.2.1:53", true, now);
  key->sightings[0].count = 0; /* as a look by a clock that nobody vouches for leaves it */
  struct plan plan;
  plan_key(&builder->lineage, 0, &(struct plan_clock){.now = now + 1, .skip_watch = true}, &plan);
  assert_non_null(strstr(builder_reason(&plan, "negative_cache")->text, "by a clock that is attested, which this one is not"));
}

/* ---- whose failure holds back what ---- */

static void test_planner_choice__a_dead_server_of_an_old_key_does_not_slow_down_rotation(void **state) {
  struct builder *builder = *state;
  expect_seen(builder_key(builder, "old", KEY_REVOKED, now - 300 * DAY), true, now);
  builder_key(builder, "active", KEY_ACTIVE, now - 300 * DAY);
  expect_back_off(builder, PLAN_DELETE, "old", now + DAY);
  expect_choice(builder, PLAN_GENERATE, NULL);
  expect_closed(builder, 0, now, PLAN_DELETE, "back_off", now + DAY);
}

/* Each key has a pause of its own; only the next new key waits for one that is on its way. */
static void test_planner_choice__a_failure_of_one_key_holds_no_other_back(void **state) {
  struct builder *builder = *state;
  expect_seen(builder_key(builder, "old", KEY_REVOKED, now - 300 * DAY), true, now);
  builder_key(builder, "active", KEY_ACTIVE, now - 300 * DAY);
  builder_key(builder, "next", KEY_GENERATED, now);
  expect_back_off(builder, PLAN_PUBLISH, "next", now + DAY);
  expect_action(builder, 0, now, PLAN_DELETE);
  expect_closed(builder, 2, now, PLAN_PUBLISH, "back_off", now + DAY);
  expect_choice(builder, PLAN_CONFIRM, "active");
  builder->rules.standby = 1;
  expect_closed(builder, 3, now, PLAN_GENERATE, "back_off", now + DAY);
}

static void test_planner_choice__a_failure_of_a_key_that_is_gone_holds_back_like_any(void **state) {
  struct builder *builder = *state;
  expect_back_off(builder, PLAN_GENERATE, "taken", now + 60);
  expect_opens(builder, 0, PLAN_GENERATE, "back_off", now + 60);
}

static void test_planner_choice__a_failure_without_text_holds_back_too(void **state) {
  struct builder *builder = *state;
  builder->lineage.failures = 1;
  builder->lineage.retry_at = now + 60;
  expect_opens(builder, 0, PLAN_GENERATE, "back_off", now + 60);
  const struct plan plan = builder_plan(builder, now);
  assert_non_null(strstr(plan.reasons[0].text, "failed 1 time, tried again at 2027-01-15 08:01:00 UTC"));
}

/* ---- clocks that were set ---- */

static void test_planner_choice__a_back_off_from_a_clock_that_was_ahead_is_over(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_GENERATED, now);
  expect_back_off(builder, PLAN_PUBLISH, "a", now + 365 * DAY);
  expect_choice(builder, PLAN_PUBLISH, "a");
  expect_back_off(builder, PLAN_PUBLISH, "a", now + TIMING_BACKOFF_PARKED * 5 / 4); /* the longest that there is */
  expect_closed(builder, 0, now, PLAN_PUBLISH, "back_off", now + TIMING_BACKOFF_PARKED * 5 / 4);
}

static void test_planner_choice__looks_from_a_clock_that_was_ahead_neither_stop_nor_spin(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + 365 * DAY);
  expect_action(builder, 0, now, PLAN_CONFIRM);
  key->intent_at = now + 365 * DAY; /* the operation began by the same clock */
  expect_action(builder, 0, now, PLAN_CONFIRM);
  key->intent_at = now; /* the clock is ahead of what is credited: the look was stamped by it again */
  expect_action(builder, 0, now, PLAN_NONE);
  assert_int_equal(builder_plan_key(builder, 0, now).next, now + TIMING_WATCH_SLOWEST);
  expect_action(builder, 0, now + TIMING_WATCH_SLOWEST, PLAN_CONFIRM);
}

static void test_planner_choice__looks_for_absence_from_a_clock_that_was_ahead_go_on(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "b", KEY_ACTIVE, now);
  struct key *key = builder_key(builder, "a", KEY_REVOKED, now - 100 * DAY);
  key->deleted_at = now;
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now + 365 * DAY);
  builder_see(key, "ns2.example.com", "192.0.2.2", false, now + 365 * DAY);
  expect_action(builder, 1, now, PLAN_CONFIRM_ABSENT);
}

static void test_planner_choice__facts_that_lie_ahead_make_gates_wait_and_undo_nothing(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "active", KEY_ACTIVE, now + 100 * DAY);
  builder_key(builder, "retired", KEY_RETIRED, now + 100 * DAY);
  assert_int_equal(builder_plan_key(builder, 1, now).action, PLAN_CONFIRM); /* looking is harmless */
  expect_closed(builder, 2, now, PLAN_GENERATE, "successor_wanted",
                timing_generate(&builder->lineage, &builder->lineage.keys[0]));
  builder->lineage.rotate_requested = true; /* a person can always */
  expect_action(builder, 2, now, PLAN_GENERATE);
}

/* ---- never a plan that spins ---- */

static uint32_t draw(uint32_t *seed, uint32_t below) {
  *seed = *seed * 1664525u + 1013904223u;
  return (*seed >> 8) % below;
}

/* Moments around now, so that every gate is met closed and open. */
static int64_t draw_moment(uint32_t *seed) {
  static const int64_t spans[] = {1, 10, MINUTE, HOUR, DAY, 10 * DAY, 100 * DAY};
  if (draw(seed, 8) == 0) return TIME_UNSET;
  const int64_t span = spans[draw(seed, 7)];
  return now + (int64_t)draw(seed, 3) * span - span - (int64_t)draw(seed, 2);
}

static void scramble_key(struct key *key, uint32_t *seed) {
  int64_t *const moments[] = {&key->published_at, &key->ready_at,      &key->active_at,  &key->retired_at,
                              &key->revoke_at,    &key->revoked_at,    &key->deleted_at, &key->absent_at,
                              &key->intent_at,    &key->last_wrong_at, &key->state_since};
  for (size_t i = 0; i < sizeof moments / sizeof moments[0]; i++)
    if (draw(seed, 3) == 0) *moments[i] = draw_moment(seed);
  for (size_t i = 0; i < key->sighting_count; i++) {
    struct sighting *seen = &key->sightings[i];
    seen->seen_at = now + (int64_t)draw(seed, 2 * HOUR) - HOUR;
    seen->right = draw(seed, 4) > 0;
    seen->no_route = draw(seed, 5) == 0;
    seen->count = draw(seed, 4);
    seen->right_since = seen->right ? seen->seen_at - (int64_t)draw(seed, 3 * HOUR) : TIME_UNSET;
  }
  for (size_t i = 0; i < key->placement_count; i++) key->placements[i].drained_at = draw(seed, 2) ? now : TIME_UNSET;
  key->intent = (int)draw(seed, 12);
}

/* Contradictory facts as only a damaged store holds them are among these: even then the planner waits rather than spins. */
static void test_planner_choice__whatever_is_stored_a_plan_without_action_lies_ahead(void **state) {
  struct builder *builder = *state;
  uint32_t seed = 4711;
  unsigned waiting = 0, acting = 0;
  for (unsigned round = 0; round < 20000; round++) {
    builder_end(builder);
    builder_begin(builder);
    for (unsigned i = 0; i < 1 + draw(&seed, 3); i++) {
      char selector[] = "a";
      selector[0] = (char)('a' + i);
      scramble_key(
          builder_key(builder, selector, (enum key_state)draw(&seed, 7), now - (int64_t)draw(&seed, 2) * 100 * DAY),
          &seed);
    }
    builder->rules.tombstone = draw(&seed, 2) ? 0 : BUILDER_TOMBSTONE;
    builder->rules.standby = draw(&seed, 2);
    builder->slots[0].bits = draw(&seed, 4) ? 2048 : 3072;
    builder->lineage.rotate_requested = draw(&seed, 4) == 0;
    if (draw(&seed, 4) == 0) expect_hold(builder, draw_moment(&seed));
    if (draw(&seed, 3) == 0)
      expect_back_off(builder, (enum plan_action)(1 + draw(&seed, 11)), "a", now + 1 + (int64_t)draw(&seed, DAY));
    struct plan plan;
    plan_lineage(&builder->lineage, &(struct plan_clock){.now = now, .attested = draw(&seed, 2) > 0}, &plan);
    if (plan.action == PLAN_NONE ? plan.next <= now : plan.next != now) fail_msg("round %u spins", round);
    if (plan.action == PLAN_NONE && plan.next == TIME_NEVER && plan.waiting != PLAN_NONE)
      assert_true(plan.reason_count > 0);
    waiting += plan.action == PLAN_NONE;
    acting += plan.action != PLAN_NONE;
  }
  assert_true(waiting > 1000);
  assert_true(acting > 1000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_planner_choice__##name, builder_setup, builder_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(what_signs_goes_before_what_is_tidied_up),
      TEST(a_look_at_a_tombstone_comes_after_a_new_key),
      TEST(the_private_key_of_one_in_other_hands_is_not_looked_at),
      TEST(a_private_key_that_is_missing_is_looked_for_until_it_is_lost_for_good),
      TEST(the_next_moment_is_the_earliest_of_all_keys),
      TEST(a_due_action_is_due_now),
      TEST(a_switch_asks_for_attestation_first),
      TEST(every_end_asks_for_attestation_first),
      TEST(attestation_that_failed_backs_off),
      TEST(without_a_primary_the_kernel_is_waited_for),
      TEST(a_wait_that_no_attested_clock_began_says_so),
      TEST(a_window_is_not_forgotten_while_the_clock_is_unattested),
      TEST(a_dead_server_of_an_old_key_does_not_slow_down_rotation),
      TEST(a_failure_of_one_key_holds_no_other_back),
      TEST(a_failure_of_a_key_that_is_gone_holds_back_like_any),
      TEST(a_failure_without_text_holds_back_too),
      TEST(a_back_off_from_a_clock_that_was_ahead_is_over),
      TEST(looks_from_a_clock_that_was_ahead_neither_stop_nor_spin),
      TEST(looks_for_absence_from_a_clock_that_was_ahead_go_on),
      TEST(facts_that_lie_ahead_make_gates_wait_and_undo_nothing),
      TEST(whatever_is_stored_a_plan_without_action_lies_ahead),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
