/* Which of several failures a lineage shows, and which of them a success ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/text.h"
#include "dkimroll/timing.h"
#include "lineage_builder.h"

static const int64_t now = BUILDER_NOW;

static void expect_shown(const struct builder *builder, const char *failure) {
  if (!builder->lineage.failure || !strstr(builder->lineage.failure, failure))
    fail_msg("\"%s\" is shown, not \"%s\"", builder->lineage.failure ? builder->lineage.failure : "nothing", failure);
}

/* While the next attempt is waited for, that no key could be made is what matters; afterwards it is as old as any. */
static void test_apply_failures__one_of_no_key_gives_way_when_its_back_off_is_over(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  builder_fail(builder, PLAN_GENERATE, 1, now, ERROR_LIMIT, false);
  const int64_t retry_at = builder->lineage.retry_at;
  assert_true(retry_at > now);
  builder_fail(builder, PLAN_CONFIRM, 0, retry_at, ERROR_TIMEOUT, true);
  expect_shown(builder, "generate: ");
  builder_fail(builder, PLAN_CONFIRM, 0, retry_at + 1, ERROR_TIMEOUT, true);
  expect_shown(builder, "confirm of a: ");
  assert_int_equal(builder->lineage.failures, 2);
}

/* As an earlier version stored it, whose keys remembered nothing of their own: whether it still fails nobody knows. */
static void test_apply_failures__one_that_its_key_does_not_remember_gives_way(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  builder_key(builder, "old", KEY_RETIRED, now - DAY);
  builder->lineage.failures = 2;
  builder->lineage.failure = text_duplicate("confirm of a: no");
  builder->lineage.retry_at = now + HOUR;
  builder_fail(builder, PLAN_CONFIRM, 1, now, ERROR_TIMEOUT, true);
  expect_shown(builder, "confirm of old: ");
  assert_int_equal(builder->lineage.failures, 1);
}

/* What is done for another key by a clock that nobody vouches for does not show that somebody would. */
static void test_apply_failures__an_attestation_that_failed_is_over_with_any_step_by_an_attested_clock(void **state) {
  struct builder *builder = *state;
  const struct sighting_report right = {.host = "ns1.example.com", .address = "192.0.2.1", .right = true, .at = now, .ttl = HOUR, .ttl_negative = -1, .answer = "as it must be"};
  struct outcome look = {.action = PLAN_CONFIRM, .key = 1, .at = now, .unattested = true, .sightings = &right, .sighting_count = 1};
  builder_key(builder, "a", KEY_READY, now - DAY);
  builder_key(builder, "b", KEY_ACTIVE, now - DAY);
  builder_fail(builder, PLAN_ATTEST, 0, now, ERROR_TIMEOUT, true);
  builder_apply(builder, &look);
  expect_shown(builder, "attest of a: ");
  assert_int_equal(builder->lineage.keys[0].failures, 1);
  look.unattested = false;
  builder_apply(builder, &look);
  assert_null(builder->lineage.failure);
  assert_int_equal(builder->lineage.keys[0].failures, 0);
}

/* A look at the same key by a clock that nobody vouches for: as the one above, and what it ended began anew a second later, for ever. */
static void test_apply_failures__an_attestation_that_failed_is_not_over_with_a_look_by_an_unattested_clock(void **state) {
  struct builder *builder = *state;
  const struct sighting_report right = {.host = "ns1.example.com", .address = "192.0.2.1", .right = true, .at = now, .ttl = HOUR, .ttl_negative = -1, .answer = "as it must be"};
  const struct outcome look = {.action = PLAN_CONFIRM, .at = now, .unattested = true, .sightings = &right, .sighting_count = 1};
  static const enum key_state states[] = {KEY_PUBLISHED, KEY_ACTIVE};
  for (size_t state_index = 0; state_index < 2; state_index++) {
    builder_end(builder);
    builder_begin(builder);
    builder_key(builder, "a", states[state_index], now - DAY);
    for (unsigned i = 1; i <= 3; i++) {
      builder_fail(builder, PLAN_ATTEST, 0, now, ERROR_TIMEOUT, true);
      builder_apply(builder, &look);
      expect_shown(builder, "attest of a: ");
      assert_int_equal(builder->lineage.keys[0].failures, i);
    }
  }
}

static void test_apply_failures__a_person_ends_them_all(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  builder_key(builder, "old", KEY_RETIRED, now - DAY);
  for (size_t i = 0; i < 2; i++) builder_fail(builder, PLAN_CONFIRM, i, now, ERROR_TIMEOUT, true);
  lineage_forget_failures(&builder->lineage);
  const struct lineage *lineage = &builder->lineage;
  assert_true(!lineage->failure && lineage->failures == 0 && lineage->retry_at == TIME_UNSET && lineage->parked_at == TIME_UNSET);
  for (size_t i = 0; i < 2; i++) assert_true(!lineage->keys[i].failure && lineage->keys[i].failures == 0 && lineage->keys[i].retry_at == TIME_UNSET);
}

/* Selectors of one stamp begin alike. */
static void test_apply_failures__one_of_a_key_whose_name_begins_alike_is_not_its_own(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "signs", KEY_ACTIVE, now - DAY);
  builder_key(builder, "waits", KEY_READY, now - DAY);
  builder_key(builder, "waits-2", KEY_READY, now - HOUR);
  builder->lineage.keys[0].compromised_at = now;
  builder->lineage.keys[0].revoke_now = true;
  builder_fail(builder, PLAN_ACTIVATE, 2, now, ERROR_UNREACHABLE, true);
  expect_shown(builder, "activate of waits-2: ");
  assert_int_not_equal(builder_plan_key(builder, 0, now).action, PLAN_REVOKE); /* waits can still take over */
  builder_fail(builder, PLAN_ACTIVATE, 1, now, ERROR_UNREACHABLE, true);
  expect_shown(builder, "activate of waits: ");
  assert_int_equal(builder_plan_key(builder, 0, now).action, PLAN_REVOKE);
}

/* The look that failed and then succeeded made an end of the publication's failures, too, which began its back-off anew: nearly 300 attempts in a day. */
static void test_apply_failures__looks_fail_apart_from_what_fails_beside_them(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  const struct sighting_report lost = {.host = "ns1.example.com", .address = "192.0.2.1", .at = now, .ttl = -1, .ttl_negative = -1, .answer = "NXDOMAIN"};
  const struct outcome look = {.action = PLAN_CONFIRM, .at = now, .sightings = &lost, .sighting_count = 1};
  builder_fail(builder, PLAN_CONFIRM, 0, now, ERROR_TIMEOUT, true);
  builder_fail(builder, PLAN_CONFIRM, 0, now, ERROR_TIMEOUT, true);
  expect_shown(builder, "confirm of a: ");
  builder_apply(builder, &look);
  assert_int_equal(key->look_failures, 0);
  builder_fail(builder, PLAN_PUBLISH, 0, now, ERROR_TIMEOUT, true);
  builder_fail(builder, PLAN_PUBLISH, 0, now, ERROR_TIMEOUT, true);
  builder_fail(builder, PLAN_PUBLISH, 0, now, ERROR_TIMEOUT, true);
  const int64_t retry_at = key->retry_at;
  builder_fail(builder, PLAN_CONFIRM, 0, now, ERROR_TIMEOUT, true);
  assert_string_equal(builder_events(builder), "failed");
  builder_fail(builder, PLAN_CONFIRM, 0, now, ERROR_TIMEOUT, true);
  assert_string_equal(builder_events(builder), ""); /* once is enough */
  expect_shown(builder, "publish of a: ");
  assert_true(key->failures == 3 && key->retry_at == retry_at);
  assert_true(key->look_failures == 2 && key->look_retry_at > now);
  builder_apply(builder, &look);
  assert_true(key->failures == 3 && key->retry_at == retry_at);
  assert_true(key->look_failures == 0 && key->look_retry_at == TIME_UNSET);
  builder_apply(builder, &(struct outcome){.action = PLAN_PUBLISH, .at = now, .zone = "example.com"});
  assert_null(builder->lineage.failure);
  assert_int_equal(key->failures, 0);
}

/* What looks had counted is not the publication's. */
static void test_apply_failures__a_step_counts_none_of_the_looks_before_it(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  for (unsigned i = 0; i < 5; i++) builder_fail(builder, PLAN_CONFIRM, 0, now, ERROR_TIMEOUT, true);
  const int64_t look_retry_at = key->look_retry_at;
  builder_fail(builder, PLAN_PUBLISH, 0, now, ERROR_TIMEOUT, true);
  expect_shown(builder, "publish of a: ");
  assert_true(key->failures == 1 && key->retry_at < look_retry_at && builder->lineage.failures == 1);
  assert_true(key->look_failures == 5 && key->look_retry_at == look_retry_at);
}

/* What does not end by itself is an alarm, also where something else is shown. */
static void test_apply_failures__looks_that_fail_behind_something_else_are_told_when_they_begin_and_when_they_stay(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  const struct sighting_report lost = {.host = "ns1.example.com", .address = "192.0.2.1", .at = now, .ttl = -1, .ttl_negative = -1, .answer = "NXDOMAIN"};
  builder_apply(builder, &(struct outcome){.action = PLAN_CONFIRM, .at = now, .sightings = &lost, .sighting_count = 1});
  for (int retryable = 0; retryable < 2; retryable++) {
    lineage_forget_failures(&builder->lineage);
    builder_fail(builder, PLAN_PUBLISH, 0, now, ERROR_TIMEOUT, true);
    for (unsigned i = 1; i <= TIMING_FAILURES_PARK + 1; i++) {
      builder_fail(builder, PLAN_CONFIRM, 0, now, ERROR_PROTOCOL, retryable != 0);
      assert_string_equal(builder_events(builder), i == 1 ? "failed" : i == TIMING_FAILURES_PARK && !retryable ? "alarm" : "");
    }
    expect_shown(builder, "publish of a: ");
  }
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_apply_failures__##name, builder_setup, builder_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(one_of_no_key_gives_way_when_its_back_off_is_over),
      TEST(one_that_its_key_does_not_remember_gives_way),
      TEST(an_attestation_that_failed_is_over_with_any_step_by_an_attested_clock),
      TEST(an_attestation_that_failed_is_not_over_with_a_look_by_an_unattested_clock),
      TEST(looks_fail_apart_from_what_fails_beside_them),
      TEST(looks_that_fail_behind_something_else_are_told_when_they_begin_and_when_they_stay),
      TEST(a_step_counts_none_of_the_looks_before_it),
      TEST(a_person_ends_them_all),
      TEST(one_of_a_key_whose_name_begins_alike_is_not_its_own),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
