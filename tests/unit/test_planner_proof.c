/* Proofs of a key that signs: when they are due, what their outcomes mean, and what has to be proved before another step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dkimroll/timing.h"
#include "proof_rig.h"

static const int64_t now = BUILDER_NOW;

/* ---- when ---- */

static void test_planner_proof__is_due_within_prove_every(void **state) {
  struct builder *builder = *state;
  struct key *key = active_key(builder);
  const int64_t due = timing_proof(&builder->lineage, key);
  assert_in_range(due, now + DAY - DAY / 4, now + DAY);
  expect_rest(builder, due - 1, due);
  expect_action(builder, 0, due, PLAN_PROVE);
}

static void test_planner_proof__is_spread_by_the_lineage(void **state) {
  struct builder *builder = *state;
  struct key *key = active_key(builder);
  size_t quarters[4] = {0};
  for (int64_t id = 1; id <= 1000; id++) {
    builder->lineage.id = id;
    const int64_t early = now + DAY - timing_proof(&builder->lineage, key);
    assert_in_range(early, 0, DAY / 4);
    quarters[early * 4 / (DAY / 4 + 1)]++;
  }
  for (size_t i = 0; i < 4; i++) assert_in_range(quarters[i], 180, 320);
}

static void test_planner_proof__counts_from_the_oldest_proof_of_a_signer(void **state) {
  struct builder *builder = *state;
  use_two_signers(builder);
  struct key *key = active_key(builder);
  const int64_t due = timing_proof(&builder->lineage, key);
  key->placements[0].proved_at += HOUR;
  assert_int_equal(timing_proof(&builder->lineage, key), due);
  key->placements[1].proved_at += HOUR / 2;
  assert_int_equal(timing_proof(&builder->lineage, key), due + HOUR / 2);
  key->placements[1].proved_at = TIME_UNSET; /* a signer that was added: the key is to be placed there first */
  assert_int_equal(timing_proof(&builder->lineage, key), due + HOUR);
  expect_action(builder, 0, now + 3 * DAY, PLAN_ACTIVATE);
}

static void test_planner_proof__never_and_look_ahead_and_unproved_keys_have_none(void **state) {
  struct builder *builder = *state;
  struct key *key = active_key(builder);
  const struct plan_clock ahead = {.now = now + 10 * DAY, .attested = true, .skip_watch = true};
  struct plan plan;
  plan_key(&builder->lineage, 0, &ahead, &plan);
  assert_int_equal(plan.waiting, PLAN_NONE);
  builder->rules.prove_every = TIME_NEVER;
  assert_int_equal(timing_proof(&builder->lineage, key), TIME_NEVER);
  builder->rules.prove_every = DAY;
  key->placements[0].proved_at = TIME_UNSET;
  assert_int_equal(timing_proof(&builder->lineage, key), TIME_NEVER);
}

static void test_planner_proof__no_other_state_is_proved(void **state) {
  struct builder *builder = *state;
  for (enum key_state at = KEY_RESERVED; at <= KEY_REVOKED; at++) {
    builder_end(builder);
    builder_begin(builder);
    builder->rules.prove_every = DAY;
    builder_key(builder, "a", at, now);
    const struct plan plan = builder_plan_key(builder, 0, now + 300 * DAY);
    if (at != KEY_ACTIVE) assert_int_not_equal(plan.action, PLAN_PROVE);
  }
}

static void test_planner_proof__goes_on_although_held_and_not_without_management(void **state) {
  struct builder *builder = *state;
  active_key(builder);
  builder->lineage.held = true;
  builder->lineage.hold_until = TIME_NEVER;
  expect_action(builder, 0, now + DAY, PLAN_PROVE);
  builder->lineage.managed = false;
  expect_action(builder, 0, now + DAY, PLAN_NONE);
}

static void test_planner_proof__a_stamp_of_a_clock_that_ran_ahead_does_not_end_proofs(void **state) {
  struct builder *builder = *state;
  struct key *key = active_key(builder);
  key->placements[0].proved_at = now + 4000 * DAY;
  expect_action(builder, 0, now + DAY, PLAN_PROVE);
  key->intent_at = now + DAY;
  expect_action(builder, 0, now + DAY + 1, PLAN_PROVE);
  prove_one(builder, now + DAY + 1, DAMAGE_NONE);
  expect_action(builder, 0, now + DAY + MINUTE, PLAN_NONE);
  /* Set back by an hour: nobody knows what was changed since. */
  expect_action(builder, 0, now + DAY - HOUR, PLAN_PROVE);
  prove_one(builder, now + DAY - HOUR, DAMAGE_NONE);
  expect_action(builder, 0, now + DAY, PLAN_NONE);
}

static void test_planner_proof__tables_that_somebody_changed_are_proved_at_once(void **state) {
  struct builder *builder = *state;
  active_key(builder);
  builder->lineage.tables_changed_at = now + HOUR;
  expect_rest(builder, now + HOUR, now + HOUR + 1);
  expect_action(builder, 0, now + HOUR + 1, PLAN_PROVE);
  prove_one(builder, now + HOUR + 1, DAMAGE_NONE);
  expect_action(builder, 0, now + HOUR + MINUTE, PLAN_NONE);
}

/* A proof, and within the second lines are removed: mail went out unsigned until the next paced proof. */
static void test_planner_proof__a_proof_of_the_second_of_a_change_is_none_of_what_is_there_now(void **state) {
  struct builder *builder = *state;
  active_key(builder);
  prove_one(builder, now + HOUR, DAMAGE_NONE);
  builder->lineage.tables_changed_at = now + HOUR;
  expect_rest(builder, now + HOUR, now + HOUR + TIMING_PROOF_PAUSE);
  expect_action(builder, 0, now + HOUR + TIMING_PROOF_PAUSE, PLAN_PROVE);
  prove_one(builder, now + HOUR + TIMING_PROOF_PAUSE, DAMAGE_NONE);
  expect_action(builder, 0, now + HOUR + MINUTE, PLAN_NONE);
}

/* A person follows the remedy, and mail may be deferred until the lines that she removed are written again. */
static void test_planner_proof__tables_that_somebody_changed_end_the_pause_after_a_failure(void **state) {
  struct builder *builder = *state;
  struct key *key = active_key(builder);
  for (int64_t i = 0; i < 8; i++) prove_one(builder, now + DAY + i * 2 * HOUR, DAMAGE_KEPT);
  const int64_t failed = now + DAY + 14 * HOUR, retry = key->proof_retry_at;
  assert_in_range(retry, failed + 1700, failed + HOUR);
  builder->lineage.tables_changed_at = failed - 1;
  expect_rest(builder, failed, retry); /* this proof has seen it */
  builder->lineage.tables_changed_at = failed; /* and of this nobody knows */
  expect_rest(builder, failed, failed + TIMING_PROOF_PAUSE);
  expect_action(builder, 0, failed + TIMING_PROOF_PAUSE, PLAN_PROVE);
  builder->lineage.tables_changed_at = failed + 5 * MINUTE;
  expect_action(builder, 0, failed + 5 * MINUTE, PLAN_PROVE);
  prove_one(builder, failed + 5 * MINUTE + 1, DAMAGE_KEPT);
  expect_rest(builder, failed + 5 * MINUTE + 1, key->proof_retry_at);
}

static void test_planner_proof__a_change_of_tables_that_lies_ahead_ends_no_pause(void **state) {
  struct builder *builder = *state;
  struct key *key = active_key(builder);
  prove_one(builder, now + DAY, DAMAGE_KEPT);
  builder->lineage.tables_changed_at = now + 4000 * DAY;
  expect_rest(builder, now + DAY, key->proof_retry_at);
}

static void test_planner_proof__a_key_that_was_taken_back_is_proved_soon(void **state) {
  struct builder *builder = *state;
  active_key(builder);
  struct key *coming = builder_key(builder, "b", KEY_PUBLISHED, now);
  coming->placements[0].switched_at = now + 5;
  coming->placements[0].drained_at = now + 10;
  assert_int_equal(timing_proof(&builder->lineage, &builder->lineage.keys[0]), now + TIMING_PROOF_PAUSE);
}

static void test_planner_proof__a_withdrawal_of_a_clock_that_ran_ahead_asks_for_one_proof(void **state) {
  struct builder *builder = *state;
  active_key(builder);
  struct key *coming = builder_key(builder, "b", KEY_PUBLISHED, now);
  coming->placements[0].switched_at = now + 5;
  coming->placements[0].drained_at = now + 4000 * DAY;
  expect_action(builder, 0, now + TIMING_PROOF_PAUSE, PLAN_PROVE);
  prove_one(builder, now + HOUR, DAMAGE_NONE);
  expect_action(builder, 0, now + 2 * HOUR, PLAN_NONE);
  assert_int_equal(builder->lineage.keys[1].placements[0].drained_at, now + HOUR);
}

/* ---- what it found ---- */

static void test_planner_proof__success_is_no_event(void **state) {
  struct builder *builder = *state;
  active_key(builder);
  prove_one(builder, now + DAY, DAMAGE_NONE);
  assert_string_equal(builder_events(builder), "");
  assert_int_equal(builder->lineage.keys[0].placements[0].proved_at, now + DAY);
  assert_int_equal(builder->lineage.keys[0].active_at, now);
}

static void test_planner_proof__failure_is_one_alarm_and_backs_off_by_itself(void **state) {
  struct builder *builder = *state;
  struct key *key = active_key(builder);
  prove_one(builder, now + DAY, DAMAGE_SIGNER_DOWN);
  assert_string_equal(builder_events(builder), "alarm");
  assert_string_equal(builder_event_reason(builder, "alarm"), "signer: it does not sign");
  assert_int_equal(key->placements[0].damaged_at, now + DAY);
  assert_int_equal(builder->lineage.failures, 0);
  int64_t before = now + DAY, pause = 0;
  for (unsigned i = 0; i < 12; i++) {
    assert_true(key->proof_retry_at > before);
    pause = key->proof_retry_at - before;
    expect_rest(builder, before, key->proof_retry_at);
    before = key->proof_retry_at;
    prove_one(builder, before, DAMAGE_SIGNER_DOWN);
    assert_string_equal(builder_events(builder), "");
  }
  assert_in_range(pause, HOUR, HOUR + HOUR / 4);
  assert_int_equal(key->placements[0].damaged_at, now + DAY);
  prove_one(builder, before + HOUR, DAMAGE_NONE);
  assert_string_equal(builder_events(builder), "recovered");
  assert_int_equal(key->proof_failures, 0);
  assert_true(key->placements[0].damaged_at == TIME_UNSET && key->proof_retry_at == TIME_UNSET);
}

static void test_planner_proof__a_pause_of_a_clock_that_was_set_back_is_not_believed(void **state) {
  struct builder *builder = *state;
  struct key *key = active_key(builder);
  prove_one(builder, now + DAY, DAMAGE_SIGNER_DOWN);
  key->proof_retry_at = now + 1000 * DAY;
  expect_action(builder, 0, now + DAY, PLAN_PROVE);
}

static void test_planner_proof__a_record_that_is_missing_is_no_matter_of_signers(void **state) {
  struct builder *builder = *state;
  struct key *key = active_key(builder);
  struct error error = {0};
  error_set(&error, ERROR_CONFLICT, "not served");
  const struct sighting_report wrong = {.host = "ns1.example.com", .address = "192.0.2.1", .at = now + DAY, .ttl = -1, .ttl_negative = -1, .answer = "NXDOMAIN"};
  builder_apply(builder, &(struct outcome){.action = PLAN_PROVE, .at = now + DAY, .error = &error, .sightings = &wrong, .sighting_count = 1});
  assert_string_equal(builder_events(builder), "lost");
  assert_int_equal(key->proof_failures, 1);
  expect_action(builder, 0, now + DAY, PLAN_PUBLISH);
  builder_round(builder, PLAN_CONFIRM, 0, now + DAY + HOUR, NULL, NULL);
  assert_int_equal(key->proof_failures, 0);
}

static void test_planner_proof__that_asked_no_signer_failed(void **state) {
  struct builder *builder = *state;
  active_key(builder);
  builder_apply(builder, &(struct outcome){.action = PLAN_PROVE, .at = now + DAY});
  assert_int_equal(builder->lineage.keys[0].proof_failures, 1);
}

/* ---- switches that stopped half way ---- */

static struct key *half_switched(struct builder *builder) {
  use_two_signers(builder);
  active_key(builder);
  struct key *key = builder_key(builder, "b", KEY_PUBLISHED, now);
  key->placements[0].switched_at = key->placements[0].proved_at = now + HOUR;
  return key;
}

static void test_planner_proof__a_key_that_lost_its_record_leaves_the_signers_that_it_reached(void **state) {
  struct builder *builder = *state;
  half_switched(builder);
  expect_action(builder, 1, now + HOUR, PLAN_WITHDRAW);
  const struct placement_report report = {.signer_id = builder->lineage.keys[1].placements[0].signer_id, .completed_at = now + 2 * HOUR};
  builder_apply(builder, &(struct outcome){.action = PLAN_WITHDRAW, .key = 1, .at = now + 2 * HOUR, .placements = &report, .placement_count = 1});
  const struct placement *placement = &builder->lineage.keys[1].placements[0];
  assert_true(placement->proved_at == TIME_UNSET && placement->drained_at == now + 2 * HOUR);
  assert_int_not_equal(builder_plan_key(builder, 1, now + 2 * HOUR).action, PLAN_WITHDRAW);
  assert_int_equal(timing_proof(&builder->lineage, &builder->lineage.keys[0]), now + TIMING_PROOF_PAUSE);
}

static void test_planner_proof__nothing_is_taken_back_to_a_key_that_is_not_served_either(void **state) {
  struct builder *builder = *state;
  half_switched(builder);
  builder_see(&builder->lineage.keys[0], "ns1.example.com", "192.0.2.1", false, now + MINUTE);
  builder_see(&builder->lineage.keys[1], "ns1.example.com", "192.0.2.1", false, now + MINUTE);
  expect_closed(builder, 1, now + MINUTE, PLAN_WITHDRAW, "other_key_served", TIME_NEVER);
  builder->lineage.keys[0].state = KEY_RETIRED;
  expect_closed(builder, 1, now + MINUTE, PLAN_WITHDRAW, "other_key_served", TIME_NEVER);
}

/* The successor signs there, and was proved; what the active key does at the other signer is still seen. */
static void test_planner_proof__a_signer_that_a_successor_has_reached_is_left_out(void **state) {
  struct builder *builder = *state;
  half_switched(builder);
  const struct key *key = &builder->lineage.keys[0];
  assert_false(placement_signs(&builder->lineage, key, 0));
  assert_true(placement_signs(&builder->lineage, key, 1));
  builder->lineage.keys[1].placements[1].switched_at = now + HOUR;
  assert_int_equal(timing_proof(&builder->lineage, key), TIME_NEVER);
}

/* ---- the end of old keys ---- */

static void test_planner_proof__a_record_goes_only_after_its_successor_was_proved(void **state) {
  struct builder *builder = *state;
  active_key(builder);
  struct key *key = builder_key(builder, "z", KEY_RETIRED, now - 2 * DAY);
  key->placements[0].drained_at = now - DAY;
  const int64_t ends = now - 2 * DAY + BUILDER_WINDOW;
  prove_one(builder, ends - HOUR, DAMAGE_NONE);
  expect_closed(builder, 1, ends, PLAN_REVOKE, "successor_proved", TIME_NEVER);
  assert_int_equal(timing_proof(&builder->lineage, &builder->lineage.keys[0]), ends);
  prove_one(builder, ends, DAMAGE_NONE);
  expect_action(builder, 1, ends, PLAN_REVOKE);
  builder->rules.tombstone = 0;
  expect_action(builder, 1, ends, PLAN_DELETE);
  builder->lineage.keys[0].placements[0].proved_at = ends - 1;
  expect_closed(builder, 1, ends, PLAN_DELETE, "successor_proved", TIME_NEVER);
  builder->rules.prove_every = TIME_NEVER;
  expect_action(builder, 1, ends, PLAN_DELETE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_planner_proof__##name, proof_rig_setup, builder_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(is_due_within_prove_every),
      TEST(is_spread_by_the_lineage),
      TEST(counts_from_the_oldest_proof_of_a_signer),
      TEST(never_and_look_ahead_and_unproved_keys_have_none),
      TEST(no_other_state_is_proved),
      TEST(goes_on_although_held_and_not_without_management),
      TEST(a_stamp_of_a_clock_that_ran_ahead_does_not_end_proofs),
      TEST(a_key_that_was_taken_back_is_proved_soon),
      TEST(tables_that_somebody_changed_are_proved_at_once),
      TEST(a_proof_of_the_second_of_a_change_is_none_of_what_is_there_now),
      TEST(tables_that_somebody_changed_end_the_pause_after_a_failure),
      TEST(a_change_of_tables_that_lies_ahead_ends_no_pause),
      TEST(a_withdrawal_of_a_clock_that_ran_ahead_asks_for_one_proof),
      TEST(success_is_no_event),
      TEST(failure_is_one_alarm_and_backs_off_by_itself),
      TEST(a_pause_of_a_clock_that_was_set_back_is_not_believed),
      TEST(a_record_that_is_missing_is_no_matter_of_signers),
      TEST(that_asked_no_signer_failed),
      TEST(a_key_that_lost_its_record_leaves_the_signers_that_it_reached),
      TEST(nothing_is_taken_back_to_a_key_that_is_not_served_either),
      TEST(a_signer_that_a_successor_has_reached_is_left_out),
      TEST(a_record_goes_only_after_its_successor_was_proved),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
