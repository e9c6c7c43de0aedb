/* Proofs and repairs of a key that signs: when they are due, what their outcomes mean, and what is done about a key that cannot be mended. */
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

static int begin(void **state) {
  builder_setup(state);
  struct builder *builder = *state;
  builder->rules.prove_every = DAY;
  builder->rules.confirm_every = 60 * DAY; /* so that no look at the servers is due meanwhile */
  return 0;
}

static struct key *active_key(struct builder *builder) { return builder_key(builder, "a", KEY_ACTIVE, now); }

static void use_two_signers(struct builder *builder) {
  static const size_t rows[] = {1, 2};
  builder_define_signer(builder, 2, "second", "-2");
  builder->signers[1].key_directory = (char *)"/second/%d";
  builder_use_signers(builder, rows, 2);
}

/* The outcome of a proof or repair with one report for each placement: what is wrong there, DAMAGE_NONE: it signs. */
static void apply_proof(struct builder *builder, enum plan_action action, int64_t at, const enum placement_damage *damages, size_t count) {
  struct placement_report reports[KEY_PLACEMENTS_MAX] = {0};
  struct error error = {0};
  struct outcome outcome = {.action = action, .at = at, .placements = reports, .placement_count = count};
  for (size_t i = 0; i < count; i++) {
    reports[i].signer_id = builder->lineage.keys[0].placements[i].signer_id;
    reports[i].damage = damages[i];
    if (damages[i] == DAMAGE_NONE) {
      reports[i].completed_at = at;
      continue;
    }
    error_set(&error, ERROR_PROOF, "it does not sign");
    reports[i].failure = "signer: it does not sign";
    outcome.error = &error;
  }
  builder_apply(builder, &outcome);
}
static void prove_one(struct builder *builder, int64_t at, enum placement_damage damage) { apply_proof(builder, PLAN_PROVE, at, &damage, 1); }
static void repair_one(struct builder *builder, int64_t at, enum placement_damage damage) { apply_proof(builder, PLAN_REPAIR, at, &damage, 1); }

/* Nothing is done with the first key at `at`, and it is planned again at next. */
static void expect_rest(const struct builder *builder, int64_t at, int64_t next) {
  const struct plan plan = builder_plan_key(builder, 0, at);
  assert_int_equal(plan.action, PLAN_NONE);
  assert_int_equal(plan.next, next);
}

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
  expect_rest(builder, now + DAY + 1, now + DAY + TIMING_WATCH_SLOWEST);
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

/* ---- repairs ---- */

static void test_planner_proof__tables_are_mended_at_once(void **state) {
  struct builder *builder = *state;
  struct key *key = active_key(builder);
  prove_one(builder, now + DAY, DAMAGE_TABLES);
  expect_action(builder, 0, now + DAY, PLAN_REPAIR);
  repair_one(builder, now + DAY + 1, DAMAGE_NONE);
  assert_string_equal(builder_events(builder), "healed");
  assert_int_equal(key->placements[0].damage, DAMAGE_NONE);
  assert_int_equal(key->proof_failures, 0);
  assert_int_equal(builder_plan_key(builder, 0, now + DAY + 1).action, PLAN_NONE);
}

static void test_planner_proof__tables_are_mended_only_while_the_record_is_served(void **state) {
  struct builder *builder = *state;
  struct key *key = active_key(builder);
  prove_one(builder, now + DAY, DAMAGE_TABLES);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now + DAY);
  expect_action(builder, 0, now + DAY, PLAN_PUBLISH);
  key->published_at = now + DAY;
  expect_closed(builder, 0, now + DAY, PLAN_REPAIR, "record_served", TIME_NEVER);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + DAY);
  expect_action(builder, 0, now + DAY, PLAN_REPAIR);
}

static void test_planner_proof__what_cannot_be_mended_is_proved_before_the_next_attempt(void **state) {
  struct builder *builder = *state;
  struct key *key = active_key(builder);
  prove_one(builder, now + DAY, DAMAGE_TABLES);
  builder_fail(builder, PLAN_REPAIR, 0, now + DAY, ERROR_CONFLICT, false);
  assert_int_equal(key->placements[0].damage, DAMAGE_KEPT);
  assert_string_equal(key->placements[0].failure, "repair of a: it did not work; make it work");
  assert_string_equal(builder_events(builder), "alarm");
  const int64_t again = key->proof_retry_at;
  expect_rest(builder, now + DAY, again);
  expect_action(builder, 0, again, PLAN_PROVE);
  prove_one(builder, again, DAMAGE_TABLES);
  expect_action(builder, 0, again, PLAN_REPAIR);
  repair_one(builder, again, DAMAGE_TABLES); /* told by the signer itself */
  assert_int_equal(key->placements[0].damage, DAMAGE_KEPT);
  assert_int_equal(builder->lineage.failures, 0);
}

static void test_planner_proof__a_repair_that_mends_not_all_goes_on(void **state) {
  struct builder *builder = *state;
  use_two_signers(builder);
  struct key *key = active_key(builder);
  apply_proof(builder, PLAN_PROVE, now + DAY, (enum placement_damage[]){DAMAGE_TABLES, DAMAGE_SIGNER_DOWN}, 2);
  expect_action(builder, 0, now + DAY, PLAN_REPAIR);
  repair_one(builder, now + DAY + 1, DAMAGE_NONE);
  assert_int_equal(key->proof_failures, 2);
  expect_rest(builder, now + DAY + 1, key->proof_retry_at);
  apply_proof(builder, PLAN_PROVE, now + 2 * DAY, (enum placement_damage[]){DAMAGE_TABLES, DAMAGE_TABLES}, 2);
  const struct placement_report half = {.signer_id = key->placements[0].signer_id, .completed_at = now + 2 * DAY};
  builder_apply(builder, &(struct outcome){.action = PLAN_REPAIR, .at = now + 2 * DAY, .placements = &half, .placement_count = 1});
  assert_int_equal(key->placements[1].damage, DAMAGE_KEPT);
}

static void test_planner_proof__a_repair_lets_older_keys_stay(void **state) {
  struct builder *builder = *state;
  active_key(builder);
  struct key *retired = builder_key(builder, "z", KEY_RETIRED, now - DAY);
  retired->placements[0].drained_at = now - HOUR;
  struct key *deleted = builder_key(builder, "y", KEY_RETIRED, now - 60 * DAY);
  deleted->deleted_at = now - 30 * DAY;
  const int64_t before = deleted->revoke_at;
  expect_back_off(builder, PLAN_REVOKE, "z", now + 40 * DAY);
  prove_one(builder, now + DAY, DAMAGE_TABLES);
  repair_one(builder, now + DAY + 1, DAMAGE_NONE);
  const struct key *keys = builder->lineage.keys;
  assert_int_equal(keys[1].retired_at, now + DAY + 1);
  assert_int_equal(keys[1].revoke_at, now + DAY + 1 + BUILDER_WINDOW);
  assert_true(keys[1].placements[0].drained_at == TIME_UNSET); /* its entry may be back: it is withdrawn again */
  assert_int_equal(keys[2].revoke_at, before);
  assert_int_equal(builder->lineage.failures, 0); /* its revocation is not due any more */
  expect_closed(builder, 1, now + DAY + 2, PLAN_WITHDRAW, "drained", now + DAY + 1 + HOUR);
}

/* Nothing is known of tables in which the older key never was, or of another signer's. */
static void test_planner_proof__a_repair_says_nothing_of_other_tables(void **state) {
  struct builder *builder = *state;
  use_two_signers(builder);
  active_key(builder);
  struct key *retired = builder_key(builder, "z", KEY_RETIRED, now - DAY);
  retired->placements[0].switched_at = TIME_UNSET;
  const int64_t before = retired->revoke_at;
  apply_proof(builder, PLAN_PROVE, now + DAY, (enum placement_damage[]){DAMAGE_TABLES, DAMAGE_NONE}, 2);
  repair_one(builder, now + DAY + 1, DAMAGE_NONE);
  assert_int_equal(builder->lineage.keys[1].revoke_at, before);
}

static void test_planner_proof__a_signer_that_left_the_policy_is_no_matter_any_more(void **state) {
  struct builder *builder = *state;
  static const size_t first[] = {1};
  use_two_signers(builder);
  struct key *key = active_key(builder);
  apply_proof(builder, PLAN_PROVE, now + DAY, (enum placement_damage[]){DAMAGE_NONE, DAMAGE_FILE_OTHER}, 2);
  assert_true(key_is_broken(&builder->lineage, key));
  builder_use_signers(builder, first, 1);
  assert_false(key_is_broken(&builder->lineage, key));
  prove_one(builder, now + 2 * DAY, DAMAGE_NONE);
  assert_int_equal(key->proof_failures, 0);
}

/* The copy was made, and then another signer ended the operation: it is looked at again. */
static void test_planner_proof__a_report_of_a_copy_alone_is_no_proof(void **state) {
  struct builder *builder = *state;
  use_two_signers(builder);
  struct key *key = active_key(builder);
  struct error error = {0};
  apply_proof(builder, PLAN_PROVE, now + DAY, (enum placement_damage[]){DAMAGE_FILE_MISSING, DAMAGE_NONE}, 2);
  error_set(&error, ERROR_UNREACHABLE, "it does not answer");
  const struct placement_report copy = {.signer_id = key->placements[0].signer_id};
  builder_apply(builder, &(struct outcome){.action = PLAN_REPAIR, .at = now + DAY, .error = &error, .placements = &copy, .placement_count = 1});
  assert_int_equal(key->placements[0].damage, DAMAGE_KEPT);
  assert_string_equal(builder_events(builder), "");
}

static void test_planner_proof__a_repair_that_finds_the_record_gone_waits_for_it(void **state) {
  struct builder *builder = *state;
  struct key *key = active_key(builder);
  struct error error = {0};
  prove_one(builder, now + DAY, DAMAGE_TABLES);
  error_set(&error, ERROR_CONFLICT, "not served");
  const struct sighting_report wrong = {.host = "ns1.example.com", .address = "192.0.2.1", .at = now + DAY, .ttl = -1, .ttl_negative = -1, .answer = "NXDOMAIN"};
  builder_apply(builder, &(struct outcome){.action = PLAN_REPAIR, .at = now + DAY, .error = &error, .sightings = &wrong, .sighting_count = 1});
  assert_int_equal(key->placements[0].damage, DAMAGE_TABLES);
  builder_round(builder, PLAN_CONFIRM, 0, now + DAY + HOUR, NULL, NULL);
  assert_true(key->proof_failures > 0);
  expect_action(builder, 0, now + DAY + HOUR, PLAN_REPAIR);
}

/* ---- keys that cannot be mended ---- */

static void expect_replacement(struct builder *builder) {
  assert_true(key_is_broken(&builder->lineage, &builder->lineage.keys[0]));
  expect_action(builder, 1, now + DAY, PLAN_GENERATE);
  expect_hold(builder, TIME_NEVER);
  expect_closed(builder, 1, now + DAY, PLAN_GENERATE, "not_held", TIME_NEVER);
  builder->lineage.held = false;
}

static void test_planner_proof__a_lost_file_asks_for_a_new_key(void **state) {
  struct builder *builder = *state;
  active_key(builder);
  prove_one(builder, now + DAY, DAMAGE_FILE_MISSING);
  expect_replacement(builder);
  prove_one(builder, now + DAY + 60, DAMAGE_FILE_OTHER);
  expect_replacement(builder);
  prove_one(builder, now + DAY + 120, DAMAGE_NONE);
  assert_false(key_is_broken(&builder->lineage, &builder->lineage.keys[0]));
}

static void test_planner_proof__a_copy_at_another_signer_is_taken_instead(void **state) {
  struct builder *builder = *state;
  use_two_signers(builder);
  struct key *key = active_key(builder);
  apply_proof(builder, PLAN_PROVE, now + DAY, (enum placement_damage[]){DAMAGE_FILE_MISSING, DAMAGE_NONE}, 2);
  assert_false(key_is_broken(&builder->lineage, key));
  expect_action(builder, 0, now + DAY, PLAN_REPAIR);
  assert_string_equal(key_find_file(key, NULL), key->placements[1].key_path);
  assert_null(key_find_file(key, key->placements[0].key_path));
  /* Not one that is no good either, nor the same file under another name of the signer. */
  apply_proof(builder, PLAN_PROVE, now + DAY, (enum placement_damage[]){DAMAGE_FILE_MISSING, DAMAGE_FILE_OTHER}, 2);
  expect_replacement(builder);
  apply_proof(builder, PLAN_PROVE, now + DAY, (enum placement_damage[]){DAMAGE_FILE_MISSING, DAMAGE_NONE}, 2);
  key->placements[1].file_made = false;
  expect_replacement(builder);
  key->placements[1].file_made = true;
  key->placements[1].destroyed = true;
  expect_replacement(builder);
  /* Two signers with one path share the file: if it is there for one, it is there. */
  key->placements[1].destroyed = false;
  free(key->placements[1].key_path);
  key->placements[1].key_path = text_duplicate(key->placements[0].key_path);
  assert_false(placement_is_repairable(&builder->lineage, key, 0));
}

/* Its entry holds the private key, which only its maker could write again. */
static void test_planner_proof__a_key_in_a_table_itself_that_does_not_sign_asks_for_a_new_key(void **state) {
  struct builder *builder = *state;
  struct key *key = active_key(builder);
  free(key->placements[0].key_path);
  key->placements[0].key_path = NULL;
  prove_one(builder, now + DAY, DAMAGE_SIGNER_DOWN);
  assert_false(key_is_broken(&builder->lineage, key));
  prove_one(builder, now + DAY, DAMAGE_TABLES);
  assert_false(placement_is_repairable(&builder->lineage, key, 0));
  expect_replacement(builder);
}

static void test_planner_proof__a_ready_key_takes_the_place_of_a_broken_one(void **state) {
  struct builder *builder = *state;
  active_key(builder);
  builder_key(builder, "b", KEY_READY, now + 2 * DAY);
  expect_action(builder, 1, now + 2 * DAY, PLAN_NONE);
  prove_one(builder, now + 2 * DAY, DAMAGE_FILE_OTHER);
  expect_action(builder, 1, now + 2 * DAY, PLAN_ACTIVATE);
  expect_closed(builder, 2, now + 2 * DAY, PLAN_GENERATE, "successor_wanted", TIME_NEVER);
}

static void test_planner_proof__a_record_that_cannot_be_put_back_asks_for_a_new_key(void **state) {
  struct builder *builder = *state;
  struct key *key = active_key(builder);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now + DAY);
  builder_fail(builder, PLAN_PUBLISH, 0, now + DAY, ERROR_TIMEOUT, true);
  assert_true(key->contested_at == TIME_UNSET);
  builder_fail(builder, PLAN_PUBLISH, 0, now + DAY, ERROR_CONFLICT, false);
  assert_int_equal(key->contested_at, now + DAY);
  assert_string_equal(builder_events(builder), "alarm");
  assert_non_null(strstr(builder_event_reason(builder, "alarm"), "remove what stands at a._domainkey.example.com"));
  expect_replacement(builder);
  builder_fail(builder, PLAN_PUBLISH, 0, now + DAY + 30, ERROR_CONFLICT, false);
  assert_int_equal(key->contested_at, now + DAY);
  builder_round(builder, PLAN_CONFIRM, 0, now + DAY + HOUR, NULL, NULL);
  assert_true(key->contested_at == TIME_UNSET);
}

/* What fails for the key that signs must not hold back the one that ends the trouble. */
static void test_planner_proof__trouble_with_the_active_key_holds_no_other_back(void **state) {
  struct builder *builder = *state;
  struct key *key = active_key(builder);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now + DAY);
  builder->rules.prove_every = TIME_NEVER;
  builder_key(builder, "b", KEY_GENERATED, now + DAY);
  expect_back_off(builder, PLAN_PUBLISH, "a", now + 2 * DAY);
  expect_action(builder, 0, now + DAY, PLAN_NONE);
  expect_action(builder, 1, now + DAY, PLAN_PUBLISH);
  expect_back_off(builder, PLAN_PUBLISH, "b", now + 2 * DAY);
  expect_closed(builder, 1, now + DAY, PLAN_PUBLISH, "back_off", now + 2 * DAY);
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

#define TEST(name) cmocka_unit_test_setup_teardown(test_planner_proof__##name, begin, builder_teardown)

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
      TEST(a_repair_says_nothing_of_other_tables),
      TEST(a_signer_that_left_the_policy_is_no_matter_any_more),
      TEST(a_report_of_a_copy_alone_is_no_proof),
      TEST(a_repair_that_finds_the_record_gone_waits_for_it),
      TEST(success_is_no_event),
      TEST(failure_is_one_alarm_and_backs_off_by_itself),
      TEST(a_pause_of_a_clock_that_was_set_back_is_not_believed),
      TEST(a_record_that_is_missing_is_no_matter_of_signers),
      TEST(that_asked_no_signer_failed),
      TEST(tables_are_mended_at_once),
      TEST(tables_are_mended_only_while_the_record_is_served),
      TEST(what_cannot_be_mended_is_proved_before_the_next_attempt),
      TEST(a_repair_that_mends_not_all_goes_on),
      TEST(a_repair_lets_older_keys_stay),
      TEST(a_lost_file_asks_for_a_new_key),
      TEST(a_copy_at_another_signer_is_taken_instead),
      TEST(a_key_in_a_table_itself_that_does_not_sign_asks_for_a_new_key),
      TEST(a_ready_key_takes_the_place_of_a_broken_one),
      TEST(a_record_that_cannot_be_put_back_asks_for_a_new_key),
      TEST(trouble_with_the_active_key_holds_no_other_back),
      TEST(a_key_that_lost_its_record_leaves_the_signers_that_it_reached),
      TEST(nothing_is_taken_back_to_a_key_that_is_not_served_either),
      TEST(a_signer_that_a_successor_has_reached_is_left_out),
      TEST(a_record_goes_only_after_its_successor_was_proved),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
