/* Private keys that wait for an emergency: those of standbys are looked at, and what becomes of a key that has lost its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/timing.h"
#include "emergency_rig.h"

static const int64_t now = BUILDER_NOW;

/* ---- a standby ---- */

static void lose(struct key *key, int64_t at) {
  for (size_t i = 0; i < key->placement_count; i++) {
    key->placements[i].damage = DAMAGE_FILE_MISSING;
    key->placements[i].damaged_at = at;
  }
}

static void test_planner_emergency__the_private_key_of_a_standby_is_looked_at(void **state) {
  struct builder *builder = *state;
  builder->rules.standby = 1;
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  emergency_key(builder, "waits", KEY_READY, now - DAY)->files_seen_at = now - HOUR;
  expect_choice(builder, PLAN_CHECK_FILES, "waits");
  assert_true(emergency_permits(builder, PLAN_CHECK_FILES, 1, true));
  assert_false(emergency_permits(builder, PLAN_CHECK_FILES, 0, true));
  /* A look ahead leaves it out, and one that is on its way is no standby yet. */
  struct plan plan;
  plan_key(&builder->lineage, 1, &(struct plan_clock){.now = now, .attested = true, .skip_watch = true}, &plan);
  assert_int_not_equal(plan.action, PLAN_CHECK_FILES);
  builder->lineage.keys[1].state = KEY_PUBLISHED;
  assert_int_not_equal(builder_plan_key(builder, 1, now).action, PLAN_CHECK_FILES);
}

static void test_planner_emergency__a_standby_without_a_private_key_is_replaced_and_never_signs(void **state) {
  struct builder *builder = *state;
  builder->rules.standby = 1;
  emergency_key(builder, "signs", KEY_ACTIVE, now - DAY);
  lose(emergency_key(builder, "waits", KEY_READY, now - DAY), now);
  expect_choice(builder, PLAN_GENERATE, NULL);
  assert_false(emergency_permits(builder, PLAN_ACTIVATE, 1, true));
  expect_closed(builder, 1, now, PLAN_REVOKE, "lost_for_good", now + TIMING_LOST_FOR_GOOD);
  builder->lineage.keys[1].placements[0].damage = DAMAGE_NONE; /* it is back */
  assert_int_not_equal(builder_plan(builder, now).action, PLAN_GENERATE);
}

/* Before it was ready, too. */
static void test_planner_emergency__a_published_key_whose_private_key_is_lost_is_given_up(void **state) {
  struct builder *builder = *state;
  struct key *key = emergency_key(builder, "waits", KEY_PUBLISHED, now - DAY);
  key->files_seen_at = now - DAY;
  const struct plan sound = builder_plan_key(builder, 0, now);
  for (size_t i = 0; i < key->placement_count; i++) key->placements[i].damage = DAMAGE_FILE_MISSING;
  assert_true(key_is_lost(key));
  const struct plan lost = builder_plan_key(builder, 0, now);
  assert_string_equal(plan_action_name(sound.action), "confirm");
  assert_string_equal(plan_action_name(lost.action), "revoke");
}

/* ---- what is told of it ---- */

static void test_planner_emergency__a_private_key_that_is_lost_is_told_and_when_it_is_back(void **state) {
  struct builder *builder = *state;
  struct placement_report report = {.signer_id = 1, .completed_at = now, .damage = DAMAGE_FILE_MISSING};
  const struct outcome outcome = {.action = PLAN_CHECK_FILES, .key = 0, .at = now, .placements = &report, .placement_count = 1};
  emergency_key(builder, "waits", KEY_READY, now - DAY);
  builder_apply(builder, &outcome);
  assert_string_equal(builder_event_reason(builder, "alarm"), "its private key file is lost");
  report.damage = DAMAGE_FILE_OTHER;
  report.failure = "it holds another key";
  builder_apply(builder, &outcome);
  assert_string_equal(builder_event_reason(builder, "alarm"), "it holds another key");
  report.damage = DAMAGE_NONE;
  report.failure = NULL;
  builder_apply(builder, &outcome);
  assert_non_null(builder_event_reason(builder, "recovered"));
}

static void test_planner_emergency__to_look_at_no_file_is_no_look(void **state) {
  struct builder *builder = *state;
  struct event_list events = {0};
  struct error error = {0};
  const struct outcome outcome = {.action = PLAN_CHECK_FILES, .key = 0, .at = now};
  emergency_key(builder, "waits", KEY_READY, now - DAY);
  assert_int_equal(lifecycle_apply(&builder->lineage, &outcome, now, &events, &error), 0);
  assert_int_equal(builder->lineage.failures, 1);
  assert_non_null(strstr(builder->lineage.failure, "no private key file was looked at"));
  event_list_release(&events);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_planner_emergency__##name, builder_setup, builder_teardown)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(the_private_key_of_a_standby_is_looked_at),
      TEST(a_standby_without_a_private_key_is_replaced_and_never_signs),
      TEST(a_published_key_whose_private_key_is_lost_is_given_up),
      TEST(a_private_key_that_is_lost_is_told_and_when_it_is_back),
      TEST(to_look_at_no_file_is_no_look),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
