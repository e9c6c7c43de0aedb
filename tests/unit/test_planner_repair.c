/* What is done about a key that signs when a proof failed: tables are mended, and a key that cannot be mended is replaced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/text.h"
#include "proof_rig.h"

static const int64_t now = BUILDER_NOW;

/* ---- tables ---- */

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

#define TEST(name) cmocka_unit_test_setup_teardown(test_planner_proof__##name, proof_rig_setup, builder_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_repair_says_nothing_of_other_tables),
      TEST(a_signer_that_left_the_policy_is_no_matter_any_more),
      TEST(a_report_of_a_copy_alone_is_no_proof),
      TEST(a_repair_that_finds_the_record_gone_waits_for_it),
      TEST(tables_are_mended_at_once),
      TEST(tables_are_mended_only_while_the_record_is_served),
      TEST(what_cannot_be_mended_is_proved_before_the_next_attempt),
      TEST(a_repair_that_mends_not_all_goes_on),
      TEST(a_repair_lets_older_keys_stay),
      TEST(a_lost_file_asks_for_a_new_key),
      TEST(a_key_in_a_table_itself_that_does_not_sign_asks_for_a_new_key),
      TEST(a_copy_at_another_signer_is_taken_instead),
      TEST(a_ready_key_takes_the_place_of_a_broken_one),
      TEST(a_record_that_cannot_be_put_back_asks_for_a_new_key),
      TEST(trouble_with_the_active_key_holds_no_other_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
