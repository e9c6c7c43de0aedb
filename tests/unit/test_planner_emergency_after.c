/* What follows an emergency: looks at the servers that say that a key is revoked, its private key, connections that still sign with it, and what is told of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/timing.h"
#include "emergency_rig.h"

static const int64_t now = BUILDER_NOW;

/* ---- servers ---- */

static void test_planner_emergency__servers_are_looked_at_until_each_says_that_it_is_revoked(void **state) {
  struct builder *builder = *state;
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  struct key *key = emergency_key(builder, "ended", KEY_REVOKED, now);
  key->revoked_at = now;
  key->ttl = 3600;
  key->propagation = 5;
  key->right_at = TIME_UNSET;
  key->sighting_count = 0; /* what was seen of the record as it was is forgotten */
  key->placements[0].drained_at = now;
  key->compromised_at = now;
  expect_action(builder, 1, now, PLAN_CONFIRM);
  builder->rules.standby = 1; /* which is wanted, and no emergency */
  expect_choice(builder, PLAN_CONFIRM, "ended");
  builder->rules.standby = 0;
  assert_int_equal(timing_dead(key), now + 3605);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now + 60);
  expect_action(builder, 1, now + 60 + builder->rules.confirm_every, PLAN_CONFIRM);
  key->right_at = now + 300;
  assert_int_equal(timing_dead(key), now + 3900);
  expect_seen(key, true, now + builder->rules.tombstone - 5);
  expect_opens(builder, 1, PLAN_DELETE, "tombstone_over", now + builder->rules.tombstone);
}

/* Once every server has said it, it is looked at as often as a record that mail needs: who has the key would be believed if a backup brought it back. */
static void test_planner_emergency__a_backup_that_brings_the_key_back_is_found_and_undone(void **state) {
  struct builder *builder = *state;
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  struct key *key = emergency_key(builder, "ended", KEY_REVOKED, now - 5 * DAY);
  key->compromised_at = now - 5 * DAY;
  key->right_at = now;
  assert_false(key_is_exposed(key));
  expect_action(builder, 1, now + TIMING_WATCH_SIGNED - 1, PLAN_NONE);
  expect_action(builder, 1, now + TIMING_WATCH_SIGNED, PLAN_CONFIRM);
  expect_seen(key, false, now + TIMING_WATCH_SIGNED);
  key->right_at = TIME_UNSET;
  assert_true(key_is_exposed(key));
  builder->rules.standby = 1; /* which is wanted, and no emergency */
  const struct plan plan = builder_plan(builder, now + TIMING_WATCH_SIGNED);
  assert_int_equal(plan.action, PLAN_REVOKE);
  assert_int_equal(plan.key, 1);
  assert_true(emergency_permits(builder, PLAN_REVOKE, 1, false));
  key->published_at = now + TIMING_WATCH_SIGNED;
  key->sighting_count = 0;
  assert_int_equal(timing_dead(key), now + TIMING_WATCH_SIGNED + key->propagation + key->ttl);
  expect_action(builder, 1, now + TIMING_WATCH_SIGNED, PLAN_CONFIRM); /* until each says so again */
  key->deleted_at = now;
  assert_false(emergency_permits(builder, PLAN_REVOKE, 1, false));
}

/* ---- connections ---- */

/* A record may be gone from all servers within minutes; connections that were open when it was said so live longer, and need the file. */
static void test_planner_emergency__the_private_key_outlives_connections_that_sign_with_it(void **state) {
  struct builder *builder = *state;
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  struct key *key = emergency_key(builder, "ended", KEY_REVOKED, now);
  key->compromised_at = key->retired_at = key->revoked_at = now;
  key->deleted_at = key->absent_at = now + 60;
  key->placements[0].drained_at = now;
  expect_closed(builder, 1, now + 60, PLAN_DESTROY, "connections_ended", now + builder->rules.drain);
  expect_action(builder, 1, now + builder->rules.drain, PLAN_DESTROY);
  key->retired_at = TIME_UNSET; /* it never signed */
  expect_action(builder, 1, now + 60, PLAN_DESTROY);
}

/* Connections that were open end with the signer that was restarted. */
static void switch_over(struct builder *builder, const struct placement_report *report) {
  emergency_key(builder, "old", KEY_ACTIVE, now - DAY);
  emergency_key(builder, "new", KEY_READY, now - DAY);
  emergency_compromise(builder, "old", false, false);
  builder_apply(builder, &(struct outcome){.action = PLAN_ACTIVATE, .key = 1, .at = now, .placements = report, .placement_count = 1});
  assert_int_equal(builder->lineage.keys[0].state, KEY_RETIRED);
}

static void test_planner_emergency__a_signer_that_was_restarted_has_no_connection_left(void **state) {
  struct builder *builder = *state;
  switch_over(builder, &(struct placement_report){.signer_id = 1, .switched_at = now, .completed_at = now, .restarted = true});
  assert_int_equal(builder->lineage.keys[0].lingers_until, TIME_UNSET);
  assert_string_equal(builder_event_reason(builder, "connections"), "every signer was restarted: no connection is left that signs with it");
}

static void test_planner_emergency__one_that_could_not_be_restarted_is_told_with_the_reason(void **state) {
  struct builder *builder = *state;
  switch_over(builder, &(struct placement_report){.signer_id = 1, .switched_at = now, .completed_at = now, .restart_failure = "unit not found"});
  assert_int_equal(builder->lineage.keys[0].lingers_until, now + builder->rules.drain);
  assert_non_null(strstr(builder_event_reason(builder, "alarm"), "a signer could not be restarted (unit not found): connections that were open"));
}

/* Where no other key signs, connections may sign with it only if it was revoked because somebody else may have it. */
static void test_planner_emergency__whose_lines_were_taken_back_tells_connections_only_of_a_compromised_key(void **state) {
  struct builder *builder = *state;
  const struct placement_report report = {.signer_id = 1, .completed_at = now};
  const struct outcome outcome = {.action = PLAN_WITHDRAW, .key = 0, .at = now, .placements = &report, .placement_count = 1};
  static const struct {
    enum key_state at;
    bool compromised, told;
  } rows[] = {{KEY_REVOKED, true, true}, {KEY_REVOKED, false, false}, {KEY_RETIRED, true, false}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    builder_end(builder);
    builder_begin(builder);
    struct key *key = emergency_key(builder, "old", rows[i].at, now - DAY);
    key->compromised_at = rows[i].compromised ? now - HOUR : TIME_UNSET;
    builder_apply(builder, &outcome);
    assert_int_equal(strstr(builder_events(builder), "alarm") != NULL, rows[i].told);
  }
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_planner_emergency__##name, builder_setup, builder_teardown)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(servers_are_looked_at_until_each_says_that_it_is_revoked),
      TEST(a_backup_that_brings_the_key_back_is_found_and_undone),
      TEST(the_private_key_outlives_connections_that_sign_with_it),
      TEST(a_signer_that_was_restarted_has_no_connection_left),
      TEST(one_that_could_not_be_restarted_is_told_with_the_reason),
      TEST(whose_lines_were_taken_back_tells_connections_only_of_a_compromised_key),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
