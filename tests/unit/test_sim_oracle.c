/* The simulator's oracle: what it excuses, and that right beside each excuse, a moment later or at another key, it sees what must never be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "../sim/sim.h"

/* A life of one domain, of which a.test signs since the first hours, with those lines more. */
static void live(const char *const *lines, struct sim_result *ret_result) {
  static const char *const shape[] = {"lasts 12d", "world domains 2", "world signers 2", "policy drain 1h"};
  static const struct sim_options options;
  struct sim_script script = {0};
  for (size_t i = 0; i < sizeof shape / sizeof shape[0]; i++) sim_script_add(&script, "%s", shape[i]);
  for (size_t i = 0; lines[i]; i++) sim_script_add(&script, "%s", lines[i]);
  sim_run(&script, &options, ret_result);
  sim_script_release(&script);
}
#define LIVE(result, ...) live((const char *const[]){__VA_ARGS__, NULL}, result)

static void expect_well(const struct sim_result *result) {
  if (result->failed) fail_msg("%s", result->violation);
}

static void expect_violation(const struct sim_result *result, const char *invariant, const char *words) {
  if (!result->failed) fail_msg("nothing was seen");
  if (strncmp(result->violation, invariant, strlen(invariant)) != 0 || !strstr(result->violation, words)) fail_msg("seen was: %s", result->violation);
}

#define DROPPED "at 3d tables s1 a.test sender-dropped", "at 3d1s signer s1 restarts"

static void test_sim_oracle__mail_of_a_sender_that_somebody_dropped_may_be_unsigned(void **state) {
  (void)state;
  struct sim_result result;
  LIVE(&result, DROPPED, "at 3d2s mail a.test");
  expect_well(&result);
  LIVE(&result, "at 3d defect sender-lost a.test s1", "at 3d1s signer s1 restarts", "at 3d2s mail a.test");
  expect_violation(&result, "I1", "a.test is not signed by s1");
}

static void test_sim_oracle__another_sender_and_another_signer_have_no_part_in_that_excuse(void **state) {
  (void)state;
  struct sim_result result;
  LIVE(&result, DROPPED, "at 3d3s defect sender-lost b.test s1", "at 3d4s signer s1 restarts", "at 3d5s mail b.test");
  expect_violation(&result, "I1", "b.test is not signed by s1");
  LIVE(&result, DROPPED, "at 3d3s defect sender-lost a.test s2", "at 3d4s signer s2 restarts", "at 3d5s mail a.test");
  expect_violation(&result, "I1", "a.test is not signed by s2");
}

static void test_sim_oracle__the_excuse_is_over_when_the_lines_are_there_again(void **state) {
  (void)state;
  struct sim_result result;
  LIVE(&result, DROPPED, "at 3d1h expect a.test event healed 1", "at 3d1h mail a.test", "at 3d2h defect sender-lost a.test s1", "at 3d2h1s signer s1 restarts",
       "at 3d2h2s mail a.test");
  expect_violation(&result, "I1", "a.test is not signed by s1");
}

static void test_sim_oracle__a_record_that_somebody_deleted_excuses_mail_and_no_other_record(void **state) {
  (void)state;
  struct sim_result result;
  LIVE(&result, "at 3d record a.test signing deleted", "at 3d1s mail a.test");
  expect_well(&result);
  assert_true(result.counts.excused > 0);
  LIVE(&result, "at 3d record a.test signing deleted", "at 3d1s defect record-lost b.test", "at 3d2s mail b.test");
  expect_violation(&result, "I2", "mail of b.test");
}

static void test_sim_oracle__a_record_that_is_back_is_excused_no_longer_than_caches_hold_its_absence(void **state) {
  (void)state;
  struct sim_result result;
  LIVE(&result, "at 3d record a.test signing deleted", "at 4d expect a.test event healed 1", "at 5d defect record-lost a.test", "at 5d1s mail a.test");
  expect_violation(&result, "I2", "mail of a.test");
}

static void test_sim_oracle__nothing_may_switch_to_a_key_whose_record_somebody_deleted(void **state) {
  (void)state;
  struct sim_result result;
  LIVE(&result, "at 3h record a.test signing deleted", "at 4h defect switch-unseen a.test");
  expect_violation(&result, "I2", "the first mail is signed");
}

static void test_sim_oracle__an_end_of_one_key_that_was_asked_for_excuses_no_other(void **state) {
  (void)state;
  struct sim_result result;
  LIVE(&result, "policy standby 1", "at 3d revoke a.test signing", "at 3d1s defect record-lost b.test", "at 3d2s mail b.test");
  expect_violation(&result, "I2", "mail of b.test");
  LIVE(&result, "policy standby 1", "at 3d revoke a.test signing", "at 3d6h defect record-lost a.test", "at 3d6h1s mail a.test");
  expect_violation(&result, "I2", "mail of a.test");
}

static void test_sim_oracle__a_keeper_that_never_rests_is_seen(void **state) {
  (void)state;
  struct sim_result result;
  LIVE(&result, "at 3d defect jobs 2000");
  expect_violation(&result, "effort", "jobs of the keeper: ");
  LIVE(&result, "at 3d defect events 3000");
  expect_violation(&result, "effort", "events: ");
}

static void test_sim_oracle__what_is_not_healed_in_days_of_calm_is_no_excuse_even_for_a_key_that_signs_no_more(void **state) {
  (void)state;
  struct sim_result result;
#define DELETED_BEHIND "lasts 20d", "calm 6d", "policy queue-lifetime 10d", "at 10d rotate a.test", "at 13d record a.test oldest deleted"
  LIVE(&result, DELETED_BEHIND);
  expect_well(&result);
  LIVE(&result, DELETED_BEHIND, "at 13d1s away 10d");
  expect_violation(&result, "I2", "was not put right");
}

static void test_sim_oracle__what_is_left_behind_is_seen(void **state) {
  (void)state;
  struct sim_result result;
  LIVE(&result, "calm 6d", "run every 1h for 1m", "at 3d how-to a.test server-20260101", "at 4d import 1m");
  expect_well(&result);
  LIVE(&result, "calm 6d", "run every 1h for 1m", "at 3d defect record-left a.test");
  expect_violation(&result, "orphan", "is left");
}

static void test_sim_oracle__a_domain_that_nobody_knows_any_more_is_not_well(void **state) {
  (void)state;
  struct sim_result result;
  LIVE(&result, "run every 1h for 1m", "at 3d5m store lost", "at 3d6m expect well");
  expect_violation(&result, "expectation", "not known");
  LIVE(&result, "run every 1h for 1m", "at 3d5m store lost 1m", "at 3d7m expect well");
  expect_well(&result);
}

/* What the script of a how-to made is its maker's, until it is imported. */
static void test_sim_oracle__a_record_that_was_made_by_hand_is_of_others_until_it_is_imported(void **state) {
  (void)state;
  struct sim_result result;
#define LOST_BY_UPDATE "at 3d how-to a.test server-20260101", "at 8d defect update-deletes a.test newest"
  LIVE(&result, LOST_BY_UPDATE);
  expect_violation(&result, "I4", "made by hand");
  LIVE(&result, "at 7d import 1m", LOST_BY_UPDATE);
  expect_well(&result);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_sim_oracle__mail_of_a_sender_that_somebody_dropped_may_be_unsigned),
      cmocka_unit_test(test_sim_oracle__another_sender_and_another_signer_have_no_part_in_that_excuse),
      cmocka_unit_test(test_sim_oracle__the_excuse_is_over_when_the_lines_are_there_again),
      cmocka_unit_test(test_sim_oracle__a_record_that_somebody_deleted_excuses_mail_and_no_other_record),
      cmocka_unit_test(test_sim_oracle__a_record_that_is_back_is_excused_no_longer_than_caches_hold_its_absence),
      cmocka_unit_test(test_sim_oracle__nothing_may_switch_to_a_key_whose_record_somebody_deleted),
      cmocka_unit_test(test_sim_oracle__an_end_of_one_key_that_was_asked_for_excuses_no_other),
      cmocka_unit_test(test_sim_oracle__a_keeper_that_never_rests_is_seen),
      cmocka_unit_test(test_sim_oracle__what_is_not_healed_in_days_of_calm_is_no_excuse_even_for_a_key_that_signs_no_more),
      cmocka_unit_test(test_sim_oracle__what_is_left_behind_is_seen),
      cmocka_unit_test(test_sim_oracle__a_domain_that_nobody_knows_any_more_is_not_well),
      cmocka_unit_test(test_sim_oracle__a_record_that_was_made_by_hand_is_of_others_until_it_is_imported),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
