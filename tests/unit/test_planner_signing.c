/* Every gate from the ready key to the end: closed with a reason and the moment at which it opens, then open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/text.h"
#include "dkimroll/timing.h"
#include "plan_expect.h"

static const int64_t now = BUILDER_NOW;

/* A key that is at its end, but for the private key. */
static struct key *gone_key(struct builder *builder, const char *selector, enum key_state state) {
  struct key *key = builder_key(builder, selector, state, now - 200 * DAY);
  key->deleted_at = key->absent_at = now - 12 * HOUR;
  for (size_t i = 0; i < key->placement_count; i++) key->placements[i].drained_at = now - 100 * DAY;
  return key;
}

/* ---- ready ---- */

static struct key *ready_pair(struct builder *builder) {
  builder_key(builder, "a", KEY_ACTIVE, now - BUILDER_LIFE + DAY);
  return builder_key(builder, "b", KEY_READY, now);
}

static void test_planner_signing__the_first_ready_key_signs_at_once(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_READY, now);
  expect_action(builder, 0, now, PLAN_ACTIVATE);
}

static void test_planner_signing__a_successor_waits_for_its_turn(void **state) {
  struct builder *builder = *state;
  struct key *next = ready_pair(builder);
  builder_see(next, "ns1.example.com", "192.0.2.1", true, now + DAY - 5);
  next->files_seen_at = now + DAY - 5;
  expect_opens(builder, 1, PLAN_ACTIVATE, "turn", now + DAY);
}

static void test_planner_signing__a_standby_key_waits_for_a_request(void **state) {
  struct builder *builder = *state;
  builder->rules.rotate_every = TIME_NEVER;
  ready_pair(builder);
  expect_closed(builder, 1, now, PLAN_ACTIVATE, "turn", TIME_NEVER);
  builder->lineage.rotate_requested = true;
  expect_action(builder, 1, now, PLAN_ACTIVATE);
}

static void test_planner_signing__of_two_ready_keys_the_older_goes_first(void **state) {
  struct builder *builder = *state;
  ready_pair(builder);
  builder_key(builder, "c", KEY_READY, now - HOUR);
  builder->lineage.rotate_requested = true;
  expect_closed(builder, 1, now, PLAN_ACTIVATE, "turn", TIME_NEVER);
  expect_action(builder, 2, now, PLAN_ACTIVATE);
}

static void test_planner_signing__no_switch_while_held(void **state) {
  struct builder *builder = *state;
  ready_pair(builder);
  builder->lineage.rotate_requested = true;
  expect_hold(builder, now + 100);
  expect_opens(builder, 1, PLAN_ACTIVATE, "not_held", now + 100);
}

static void test_planner_signing__no_switch_before_f1_of_a_policy_that_got_longer(void **state) {
  struct builder *builder = *state;
  const struct key *key = ready_pair(builder);
  builder->lineage.rotate_requested = true;
  builder->rules.publish_safety = 2 * HOUR;
  expect_opens(builder, 1, PLAN_ACTIVATE, "negative_cache", timing_ready(key, &builder->rules));
}

static void test_planner_signing__an_activation_that_failed_backs_off(void **state) {
  struct builder *builder = *state;
  ready_pair(builder);
  builder->lineage.rotate_requested = true;
  expect_back_off(builder, PLAN_ACTIVATE, "b", now + 60);
  expect_opens(builder, 1, PLAN_ACTIVATE, "back_off", now + 60);
  const struct plan plan = builder_plan_key(builder, 1, now);
  assert_string_equal(builder_reason(&plan, "back_off")->text,
                      "failed 3 times, tried again at 2027-01-15 08:01:00 UTC: activate of b: timeout");
}

/* A line of others was in the way, and a person took it out: the domain may be unsigned until the key takes over. */
static void test_planner_signing__tables_that_somebody_changed_end_the_pause_of_a_switch(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_READY, now);
  key->intent_at = now;
  expect_back_off(builder, PLAN_ACTIVATE, "a", now + 30 * MINUTE);
  builder->lineage.tables_changed_at = now;
  expect_opens(builder, 0, PLAN_ACTIVATE, "back_off", now + 30 * MINUTE);
  builder->lineage.tables_changed_at = now + MINUTE;
  assert_int_not_equal(builder_plan_key(builder, 0, now + MINUTE - 1).action, PLAN_ACTIVATE); /* stamped by a clock that ran ahead */
  expect_action(builder, 0, now + MINUTE, PLAN_ACTIVATE);
  builder->lineage.keys[0].intent_at = now + MINUTE;
  expect_opens(builder, 0, PLAN_ACTIVATE, "back_off", now + 30 * MINUTE);
}

static void test_planner_signing__tables_that_somebody_changed_end_the_pause_of_a_withdrawal(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "old", KEY_RETIRED, now - 300 * DAY)->intent_at = now - MINUTE;
  builder_key(builder, "new", KEY_ACTIVE, now - 300 * DAY);
  expect_back_off(builder, PLAN_WITHDRAW, "old", now + 30 * MINUTE);
  assert_int_not_equal(builder_plan_key(builder, 0, now).action, PLAN_WITHDRAW);
  builder->lineage.tables_changed_at = now;
  expect_action(builder, 0, now, PLAN_WITHDRAW);
}

/* "a" is no "a-2", although its name begins like that. */
static void test_planner_signing__tables_that_somebody_changed_end_no_pause_of_another_selector(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_READY, now);
  key->intent_at = now;
  expect_back_off(builder, PLAN_ACTIVATE, "a", now + 30 * MINUTE);
  free(key->failure);
  key->failure = text_duplicate("activate of a-2: timeout");
  builder->lineage.tables_changed_at = now + MINUTE;
  expect_opens(builder, 0, PLAN_ACTIVATE, "back_off", now + 30 * MINUTE);
}

/* Nothing in a table helps against a name server that is down. */
static void test_planner_signing__tables_that_somebody_changed_end_no_other_pause(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_GENERATED, now)->intent_at = now;
  expect_back_off(builder, PLAN_PUBLISH, "a", now + DAY);
  builder->lineage.tables_changed_at = now + MINUTE;
  expect_opens(builder, 0, PLAN_PUBLISH, "back_off", now + DAY);
}

/* The old key cannot be ended and the next one not be switched to: neither holds the other back, and each pause grows. */
static void test_planner_signing__two_keys_that_fail_in_turn_do_not_forget_their_pauses(void **state) {
  struct builder *builder = *state;
  ready_pair(builder);
  builder->lineage.rotate_requested = true;
  builder_key(builder, "old", KEY_RETIRED, now - DAY);
  builder_fail(builder, PLAN_REVOKE, 2, now, ERROR_UNREACHABLE, true);
  expect_action(builder, 1, now, PLAN_ACTIVATE);
  builder_fail(builder, PLAN_ACTIVATE, 1, now, ERROR_UNREACHABLE, true);
  const int64_t first = builder->lineage.keys[1].retry_at;
  builder_fail(builder, PLAN_REVOKE, 2, now, ERROR_UNREACHABLE, true);
  expect_opens(builder, 1, PLAN_ACTIVATE, "back_off", first);
  builder_fail(builder, PLAN_ACTIVATE, 1, first, ERROR_UNREACHABLE, true);
  assert_true(builder->lineage.keys[1].retry_at - first > first - now);
}

static void test_planner_signing__a_ready_key_is_watched(void **state) {
  struct builder *builder = *state;
  ready_pair(builder);
  expect_action(builder, 1, now + TIMING_WATCH_SLOWEST, PLAN_CONFIRM);
  expect_back_off(builder, PLAN_ACTIVATE, "b", now + DAY);
  expect_action(builder, 1, now + TIMING_WATCH_SLOWEST, PLAN_CONFIRM);
}

/* ---- active ---- */

static void test_planner_signing__an_active_key_is_only_watched(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now);
  expect_action(builder, 0, now + TIMING_WATCH_SIGNED - 1, PLAN_NONE);
  expect_action(builder, 0, now + TIMING_WATCH_SIGNED, PLAN_CONFIRM);
}

static void test_planner_signing__look_ahead_leaves_the_watch_out(void **state) {
  struct builder *builder = *state;
  struct plan plan;
  const struct plan_clock clock = {.now = now + 10 * DAY, .attested = true, .skip_watch = true};
  struct key *key = builder_key(builder, "a", KEY_ACTIVE, now);
  plan_key(&builder->lineage, 0, &clock, &plan);
  assert_int_equal(plan.action, PLAN_NONE);
  assert_int_equal(plan.waiting, PLAN_NONE);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now);
  plan_key(&builder->lineage, 0, &clock, &plan);
  assert_int_equal(plan.action, PLAN_CONFIRM);
}

static void test_planner_signing__a_lost_record_of_an_active_key_is_put_back(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_ACTIVE, now - 10 * DAY);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now);
  expect_action(builder, 0, now, PLAN_PUBLISH);
  key->published_at = now;
  expect_action(builder, 0, now, PLAN_NONE);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now + HOUR);
  expect_action(builder, 0, now + HOUR, PLAN_PUBLISH);
}

static void test_planner_signing__a_signer_that_was_added_gets_the_active_key(void **state) {
  struct builder *builder = *state;
  builder_define_signer(builder, 2, "second", "");
  builder_key(builder, "a", KEY_ACTIVE, now);
  builder_use_signers(builder, (const size_t[]){1, 2}, 2);
  expect_hold(builder, TIME_NEVER); /* mail of that signer goes out unsigned meanwhile */
  expect_action(builder, 0, now, PLAN_ACTIVATE);
  expect_back_off(builder, PLAN_ACTIVATE, "a", now + 15);
  expect_opens(builder, 0, PLAN_ACTIVATE, "back_off", now + 15);
}

static void test_planner_signing__a_signer_whose_tables_moved_gets_the_active_key(void **state) {
  struct builder *builder = *state;
  builder_define_signer(builder, 2, "local", ".new");
  builder_key(builder, "a", KEY_ACTIVE, now);
  builder_use_signers(builder, (const size_t[]){2}, 1);
  expect_action(builder, 0, now, PLAN_ACTIVATE);
}

static void test_planner_signing__a_signer_edited_otherwise_or_gone_is_left_alone(void **state) {
  struct builder *builder = *state;
  builder_define_signer(builder, 2, "second", "");
  builder_define_signer(builder, 3, "local", "");
  builder_use_signers(builder, (const size_t[]){1, 2}, 2);
  builder_key(builder, "a", KEY_ACTIVE, now);
  builder_use_signers(builder, (const size_t[]){3}, 1);
  expect_action(builder, 0, now, PLAN_NONE);
}

/* ---- retired ---- */

static struct key *retired_pair(struct builder *builder) {
  builder_key(builder, "b", KEY_ACTIVE, now);
  return builder_key(builder, "a", KEY_RETIRED, now);
}

static void test_planner_signing__entries_are_withdrawn_after_the_drain(void **state) {
  struct builder *builder = *state;
  retired_pair(builder);
  expect_opens(builder, 1, PLAN_WITHDRAW, "drained", now + HOUR);
  expect_back_off(builder, PLAN_WITHDRAW, "a", now + 2 * HOUR);
  expect_opens(builder, 1, PLAN_WITHDRAW, "back_off", now + 2 * HOUR);
}

static void test_planner_signing__nothing_ends_while_no_other_key_signs(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_RETIRED, now - 300 * DAY);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now);
  expect_closed(builder, 0, now, PLAN_WITHDRAW, "other_key_signs", TIME_NEVER);
  builder->lineage.keys[0].placements[0].drained_at = now;
  expect_closed(builder, 0, now, PLAN_REVOKE, "other_key_signs", TIME_NEVER);
  builder->rules.tombstone = 0;
  expect_closed(builder, 0, now, PLAN_DELETE, "other_key_signs", TIME_NEVER);
}

static void test_planner_signing__a_retired_key_is_revoked_after_its_window(void **state) {
  struct builder *builder = *state;
  struct key *key = retired_pair(builder);
  key->placements[0].drained_at = now + HOUR;
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + BUILDER_WINDOW - 10);
  expect_opens(builder, 1, PLAN_REVOKE, "retire_window", now + BUILDER_WINDOW);
  expect_hold(builder, now + BUILDER_WINDOW + 50);
  expect_opens(builder, 1, PLAN_REVOKE, "not_held", now + BUILDER_WINDOW + 50);
  expect_back_off(builder, PLAN_REVOKE, "a", now + BUILDER_WINDOW + 60);
  expect_opens(builder, 1, PLAN_REVOKE, "back_off", now + BUILDER_WINDOW + 60);
}

static void test_planner_signing__without_tombstone_a_retired_key_is_deleted_after_its_window(void **state) {
  struct builder *builder = *state;
  struct key *key = retired_pair(builder);
  builder->rules.tombstone = 0;
  key->placements[0].drained_at = now + HOUR;
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + BUILDER_WINDOW - 10);
  expect_opens(builder, 1, PLAN_DELETE, "retire_window", now + BUILDER_WINDOW);
  expect_hold(builder, now + BUILDER_WINDOW + 50);
  expect_opens(builder, 1, PLAN_DELETE, "not_held", now + BUILDER_WINDOW + 50);
  expect_back_off(builder, PLAN_DELETE, "a", now + BUILDER_WINDOW + 60);
  expect_opens(builder, 1, PLAN_DELETE, "back_off", now + BUILDER_WINDOW + 60);
}

static void test_planner_signing__a_retired_key_is_watched_and_healed_while_mail_needs_it(void **state) {
  struct builder *builder = *state;
  struct key *key = retired_pair(builder);
  key->placements[0].drained_at = now;
  expect_action(builder, 1, now + TIMING_WATCH_SIGNED, PLAN_CONFIRM);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now + TIMING_WATCH_SIGNED);
  expect_action(builder, 1, now + TIMING_WATCH_SIGNED, PLAN_PUBLISH);
  key->deleted_at = now;
  key->sighting_count = 0;
  expect_action(builder, 1, now, PLAN_CONFIRM_ABSENT);
}

/* ---- after deletion, and revoked ---- */

static void absence_in(struct builder *builder, enum key_state which) {
  builder_key(builder, "b", KEY_ACTIVE, now);
  struct key *key = gone_key(builder, "a", which);
  key->absent_at = TIME_UNSET;
  key->sighting_count = 0;
  expect_action(builder, 1, now, PLAN_CONFIRM_ABSENT);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, key->deleted_at + 4);
  const int64_t next = key->deleted_at + 4 + 10;
  expect_opens(builder, 1, PLAN_CONFIRM_ABSENT, "absence_round_due", next);
  const struct plan plan = builder_plan_key(builder, 1, next - 1);
  assert_int_equal(plan.waiting, PLAN_CONFIRM_ABSENT);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now);
  assert_int_equal(builder_plan_key(builder, 1, now + 1).next, now + TIMING_CONFIRM_SLOWEST);
  expect_back_off(builder, PLAN_CONFIRM_ABSENT, "a", now + DAY);
  expect_opens(builder, 1, PLAN_CONFIRM_ABSENT, "look_back_off", now + DAY);
}
/* A backup brought it back: it is deleted again, but not before a day has passed. */
static void deletion_again_in(struct builder *builder, enum key_state which) {
  builder_key(builder, "b", KEY_ACTIVE, now);
  struct key *key = gone_key(builder, "a", which);
  key->absent_at = TIME_UNSET;
  key->sighting_count = 0;
  const int64_t again = key->deleted_at + TIMING_HEAL_SLOWEST;
  builder_see(key, "ns1.example.com", "192.0.2.1", false, again - 10);
  assert_int_equal(builder_plan_key(builder, 1, again - 1).action, PLAN_NONE);
  expect_action(builder, 1, again, PLAN_DELETE);
  expect_hold(builder, again + 20);
  assert_int_equal(builder_plan_key(builder, 1, again).action, PLAN_NONE);
  builder->lineage.held = false;
  builder_see(key, "ns1.example.com", "192.0.2.1", true, again);
  assert_int_not_equal(builder_plan_key(builder, 1, again).action, PLAN_DELETE);
}
static void test_planner_signing__a_retired_key_that_came_back_is_deleted_again(void **state) {
  deletion_again_in(*state, KEY_RETIRED);
}
static void test_planner_signing__a_revoked_key_that_came_back_is_deleted_again(void **state) {
  deletion_again_in(*state, KEY_REVOKED);
}

/* import found no record of it, or the window has grown since it was deleted: a record that a server shows all the same may be what mail is verified with. The invariants
 * refused the deletion as a defect, again and again. */
static void test_planner_signing__a_retired_key_that_came_back_is_not_deleted_again_before_its_window_is_over(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "b", KEY_ACTIVE, now);
  struct key *key = gone_key(builder, "a", KEY_RETIRED);
  key->absent_at = TIME_UNSET;
  key->sighting_count = 0;
  key->revoke_at = key->deleted_at + 3 * DAY;
  builder_see(key, "ns1.example.com", "192.0.2.1", false, key->revoke_at - 10);
  const int64_t again = key->deleted_at + TIMING_HEAL_SLOWEST;
  assert_true(again < key->revoke_at);
  assert_int_not_equal(builder_plan_key(builder, 1, again).action, PLAN_DELETE);
  assert_int_not_equal(builder_plan_key(builder, 1, key->revoke_at - 1).action, PLAN_DELETE);
  expect_action(builder, 1, key->revoke_at, PLAN_DELETE);
  builder->lineage.keys[0].state = KEY_RETIRED;
  assert_int_not_equal(builder_plan_key(builder, 1, key->revoke_at).action, PLAN_DELETE); /* no other key signs */
}

static void test_planner_signing__absence_of_a_retired_key_is_looked_for(void **state) {
  absence_in(*state, KEY_RETIRED);
}
static void test_planner_signing__absence_of_a_revoked_key_is_looked_for(void **state) {
  absence_in(*state, KEY_REVOKED);
}

static void destruction_in(struct builder *builder, enum key_state which) {
  struct key *active = builder_key(builder, "b", KEY_ACTIVE, now);
  char *const path = active->placements[0].key_path;
  struct key *key = gone_key(builder, "a", which);
  active = &builder->lineage.keys[0];
  expect_action(builder, 1, now, PLAN_DESTROY);
  key->absent_at = TIME_UNSET;
  builder_see(key, "ns2.example.com", "192.0.2.2", false, now);
  const struct plan plan = builder_plan_key(builder, 1, now);
  assert_int_equal(plan.waiting, PLAN_CONFIRM_ABSENT);
  key->absent_at = now;
  expect_hold(builder, now + 20);
  expect_opens(builder, 1, PLAN_DESTROY, "not_held", now + 20);
  builder->lineage.held = false;
  expect_back_off(builder, PLAN_DESTROY, "a", now + 40);
  expect_opens(builder, 1, PLAN_DESTROY, "back_off", now + 40);
  expect_no_back_off(builder);
  active->placements[0].key_path = key->placements[0].key_path; /* as an imported pair of keys may have it */
  expect_closed(builder, 1, now, PLAN_DESTROY, "file_unshared", TIME_NEVER);
  active->absent_at = now; /* both at their end: neither waits */
  expect_action(builder, 1, now, PLAN_DESTROY);
  active->placements[0].key_path = path;
  struct key *removed = builder_key(builder, "c", KEY_REVOKED, now);
  char *const own = removed->placements[0].key_path;
  removed->placements[0].key_path = builder->lineage.keys[1].placements[0].key_path;
  expect_closed(builder, 1, now, PLAN_DESTROY, "file_unshared", TIME_NEVER);
  removed->state = KEY_REMOVED;
  expect_action(builder, 1, now, PLAN_DESTROY);
  removed->placements[0].key_path = own;
}
static void test_planner_signing__a_retired_key_that_is_gone_is_destroyed(void **state) {
  destruction_in(*state, KEY_RETIRED);
}
static void test_planner_signing__a_revoked_key_that_is_gone_is_destroyed(void **state) {
  destruction_in(*state, KEY_REVOKED);
}

static void test_planner_signing__no_private_key_goes_while_tables_name_it(void **state) {
  struct builder *builder = *state;
  struct key *key = gone_key(builder, "a", KEY_RETIRED);
  key->placements[0].drained_at = TIME_UNSET; /* nobody else signs, so it cannot be withdrawn */
  const struct plan plan = builder_plan_key(builder, 0, now);
  assert_int_equal(plan.action, PLAN_NONE);
  assert_int_equal(plan.waiting, PLAN_WITHDRAW);
}

static void test_planner_signing__a_revoked_key_is_withdrawn_if_it_was_not(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "b", KEY_ACTIVE, now);
  struct key *key = builder_key(builder, "a", KEY_REVOKED, now);
  key->placements[0].drained_at = TIME_UNSET;
  expect_action(builder, 1, now, PLAN_WITHDRAW);
  expect_back_off(builder, PLAN_WITHDRAW, "a", now + 40);
  expect_opens(builder, 1, PLAN_WITHDRAW, "back_off", now + 40);
  builder->lineage.keys[0].state = KEY_RETIRED;
  expect_closed(builder, 1, now + 40, PLAN_WITHDRAW, "other_key_signs", TIME_NEVER);
}

/* A backup may bring the key back, or take away what says that it is revoked. */
static void test_planner_signing__a_tombstone_is_looked_at_daily_and_put_back(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "b", KEY_ACTIVE, now);
  struct key *key = builder_key(builder, "a", KEY_REVOKED, now);
  key->sighting_count = 0; /* what was seen of the record as it was is forgotten */
  expect_action(builder, 1, now + TIMING_WATCH_TOMBSTONE - 1, PLAN_NONE);
  expect_action(builder, 1, now + TIMING_WATCH_TOMBSTONE, PLAN_CONFIRM);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + DAY);
  expect_action(builder, 1, now + DAY, PLAN_NONE);
  assert_int_equal(builder_plan_key(builder, 1, now + DAY).next, now + 2 * DAY);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now + 2 * DAY);
  expect_action(builder, 1, now + 2 * DAY, PLAN_REVOKE);
  expect_hold(builder, TIME_NEVER); /* which ends nothing */
  expect_action(builder, 1, now + 2 * DAY, PLAN_REVOKE);
  builder->lineage.held = false;
  key->published_at = now + 2 * DAY; /* it was put there again, to no avail: ever more slowly */
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now + 3 * DAY - 1);
  expect_action(builder, 1, now + 3 * DAY - 1, PLAN_NONE);
  expect_action(builder, 1, now + 3 * DAY, PLAN_REVOKE);
  key->deleted_at = now + 3 * DAY;
  assert_int_not_equal(builder_plan_key(builder, 1, now + 3 * DAY).action, PLAN_REVOKE);
}

/* A tombstone that is over is not put back before it is deleted. */
static void test_planner_signing__a_tombstone_that_is_over_is_not_put_back(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "b", KEY_ACTIVE, now);
  expect_seen(builder_key(builder, "a", KEY_REVOKED, now), false, now + BUILDER_TOMBSTONE);
  expect_action(builder, 1, now + BUILDER_TOMBSTONE, PLAN_DELETE);
}

static void test_planner_signing__a_revoked_key_is_deleted_after_its_tombstone(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "b", KEY_ACTIVE, now);
  expect_seen(builder_key(builder, "a", KEY_REVOKED, now), true, now + BUILDER_TOMBSTONE - 5);
  expect_opens(builder, 1, PLAN_DELETE, "tombstone_over", now + BUILDER_TOMBSTONE);
  expect_hold(builder, now + BUILDER_TOMBSTONE + 5);
  expect_opens(builder, 1, PLAN_DELETE, "not_held", now + BUILDER_TOMBSTONE + 5);
  expect_back_off(builder, PLAN_DELETE, "a", now + BUILDER_TOMBSTONE + 9);
  expect_opens(builder, 1, PLAN_DELETE, "back_off", now + BUILDER_TOMBSTONE + 9);
  builder->rules.tombstone = 0; /* the policy wants none any more */
  builder->lineage.held = false;
  expect_no_back_off(builder);
  expect_action(builder, 1, now, PLAN_DELETE);
}

static void test_planner_signing__a_removed_key_has_no_step(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_REVOKED, now)->state = KEY_REMOVED;
  const struct plan plan = builder_plan_key(builder, 0, now + 1000 * DAY);
  assert_int_equal(plan.action, PLAN_NONE);
  assert_int_equal(plan.waiting, PLAN_NONE);
  assert_int_equal(plan.next, TIME_NEVER);
  assert_false(plan.needs_person);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_planner_signing__##name, builder_setup, builder_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(the_first_ready_key_signs_at_once),
      TEST(a_successor_waits_for_its_turn),
      TEST(a_standby_key_waits_for_a_request),
      TEST(of_two_ready_keys_the_older_goes_first),
      TEST(no_switch_while_held),
      TEST(no_switch_before_f1_of_a_policy_that_got_longer),
      TEST(an_activation_that_failed_backs_off),
      TEST(tables_that_somebody_changed_end_the_pause_of_a_switch),
      TEST(tables_that_somebody_changed_end_the_pause_of_a_withdrawal),
      TEST(tables_that_somebody_changed_end_no_pause_of_another_selector),
      TEST(tables_that_somebody_changed_end_no_other_pause),
      TEST(two_keys_that_fail_in_turn_do_not_forget_their_pauses),
      TEST(a_ready_key_is_watched),
      TEST(an_active_key_is_only_watched),
      TEST(look_ahead_leaves_the_watch_out),
      TEST(a_lost_record_of_an_active_key_is_put_back),
      TEST(a_signer_that_was_added_gets_the_active_key),
      TEST(a_signer_whose_tables_moved_gets_the_active_key),
      TEST(a_signer_edited_otherwise_or_gone_is_left_alone),
      TEST(entries_are_withdrawn_after_the_drain),
      TEST(nothing_ends_while_no_other_key_signs),
      TEST(a_retired_key_is_revoked_after_its_window),
      TEST(without_tombstone_a_retired_key_is_deleted_after_its_window),
      TEST(a_retired_key_is_watched_and_healed_while_mail_needs_it),
      TEST(absence_of_a_retired_key_is_looked_for),
      TEST(absence_of_a_revoked_key_is_looked_for),
      TEST(a_tombstone_is_looked_at_daily_and_put_back),
      TEST(a_tombstone_that_is_over_is_not_put_back),
      TEST(a_retired_key_that_came_back_is_deleted_again),
      TEST(a_retired_key_that_came_back_is_not_deleted_again_before_its_window_is_over),
      TEST(a_revoked_key_that_came_back_is_deleted_again),
      TEST(a_retired_key_that_is_gone_is_destroyed),
      TEST(a_revoked_key_that_is_gone_is_destroyed),
      TEST(no_private_key_goes_while_tables_name_it),
      TEST(a_revoked_key_is_withdrawn_if_it_was_not),
      TEST(a_revoked_key_is_deleted_after_its_tombstone),
      TEST(a_removed_key_has_no_step),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
