/* What outcomes do to a lineage, and which are refused; what its names and its memory are. The planner's view of the same is in test_planner_*.c. */
#include "apply_rig.h"

/* ---- names and memory ---- */

static void test_apply__numbers_that_are_no_state_and_no_step_are_unknown(void **state) {
  (void)state;
  assert_string_equal(key_state_name((enum key_state)99), "unknown");
  assert_string_equal(plan_action_name((enum plan_action)99), "unknown");
  assert_int_equal(plan_action_target((enum plan_action)99, KEY_READY), KEY_READY);
}

static void test_apply__what_is_not_there_is_released_without_harm(void **state) {
  (void)state;
  struct event_list none = {0};
  key_release(NULL);
  lineage_release(NULL);
  event_release(NULL);
  event_list_release(NULL);
  event_list_release(&none);
  assert_true(none.items == NULL && none.count == 0);
}

static void test_apply__a_lineage_without_rules_has_none_for_a_key(void **state) {
  struct builder *builder = *state;
  builder->lineage.rules = NULL;
  assert_null(lineage_rule(&builder->lineage));
}

/* ---- a new key ---- */

static void expect_no_reservation(struct builder *builder, int code, const char *why) {
  size_t index = 77;
  assert_int_equal(lifecycle_reserve(&builder->lineage, now, 1, &index, &builder->events, &builder->error), code);
  if (!strstr(builder->error.message, why)) fail_msg("\"%s\" does not say \"%s\"", builder->error.message, why);
  assert_true(index == 77 && builder->lineage.key_count == 0 && builder->events.count == 0);
}

static void test_apply__no_selector_is_taken_without_rules_for_it(void **state) {
  struct builder *builder = *state;
  text_copy(builder->lineage.slot, sizeof builder->lineage.slot, "other");
  expect_no_reservation(builder, ERROR_INTERNAL, "no rules for key other");
}

static void test_apply__no_selector_is_taken_by_a_template_that_is_none(void **state) {
  struct builder *builder = *state;
  builder->slots[0].selector = (char *)"%Q";
  expect_no_reservation(builder, ERROR_INVALID, "%Q");
}

static void test_apply__no_selector_is_taken_whose_name_is_too_long_for_dns(void **state) {
  struct builder *builder = *state;
  char *domain = builder->lineage.domain;
  memset(domain, 'a', 249);
  for (size_t i = 40; i < 240; i += 40) domain[i] = '.';
  domain[249] = '\0';
  expect_no_reservation(builder, ERROR_INVALID, "253");
}

/* ---- outcomes that contradict what is there ---- */

static void test_apply__an_outcome_must_be_one_that_its_key_can_have(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  expect_contradiction(builder, &(struct outcome){.action = PLAN_DESTROY, .key = 0, .at = now}, "an outcome of destroy for a, which is active");
  expect_contradiction(builder, &(struct outcome){.action = PLAN_NONE, .key = 0, .at = now}, "an outcome of none");
}

static void test_apply__an_outcome_about_no_key_is_an_attestation_or_a_selector_not_found(void **state) {
  struct builder *builder = *state;
  struct error failure = {0};
  const struct sighting_report sighting = {.host = "ns1", .address = "192.0.2.1", .at = now};
  const struct placement_report placement = {.signer_id = 1};
  error_set(&failure, ERROR_LIMIT, "none is left");
  expect_contradiction(builder, &(struct outcome){.action = PLAN_CONFIRM, .at = now}, "an outcome for key 0 of 0");
  expect_contradiction(builder, &(struct outcome){.action = PLAN_GENERATE, .at = now}, "key 0 of 0");
  expect_contradiction(builder, &(struct outcome){.action = PLAN_PUBLISH, .at = now, .error = &failure}, "key 0 of 0");
  expect_contradiction(builder, &(struct outcome){.action = PLAN_ATTEST, .at = now, .sightings = &sighting, .sighting_count = 1}, "key 0 of 0");
  expect_contradiction(builder, &(struct outcome){.action = PLAN_ATTEST, .at = now, .placements = &placement, .placement_count = 1}, "key 0 of 0");
  builder_apply(builder, &(struct outcome){.action = PLAN_ATTEST, .at = now});
  assert_int_equal(builder->events.count, 0);
  builder_apply(builder, &(struct outcome){.action = PLAN_GENERATE, .at = now, .error = &failure});
  assert_string_equal(builder->lineage.failure, "generate: none is left");
  assert_string_equal(builder_events(builder), "failed");
}

/* Shown is what holds the next key back before what is about the key that signs, and that before what is about one that leaves. */
static void test_apply__each_key_counts_its_own_failures_and_the_weightiest_is_shown(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  builder_key(builder, "old", KEY_RETIRED, now - DAY);
  builder_fail(builder, PLAN_CONFIRM, 1, now, ERROR_TIMEOUT, true);
  assert_non_null(strstr(builder->lineage.failure, "confirm of old"));
  builder_fail(builder, PLAN_CONFIRM, 0, now, ERROR_TIMEOUT, true);
  builder_fail(builder, PLAN_CONFIRM, 0, now, ERROR_TIMEOUT, true);
  builder_fail(builder, PLAN_CONFIRM, 1, now, ERROR_TIMEOUT, true);
  assert_int_equal(key_at(builder, 0)->failures, 2);
  assert_int_equal(key_at(builder, 1)->failures, 2);
  assert_non_null(strstr(builder->lineage.failure, "confirm of a"));
  assert_int_equal(builder->lineage.failures, 2);
  builder_fail(builder, PLAN_ATTEST, 2, now, ERROR_TIMEOUT, true);
  builder_fail(builder, PLAN_CONFIRM, 0, now, ERROR_TIMEOUT, true);
  assert_non_null(strstr(builder->lineage.failure, "attest: "));
  assert_int_equal(builder->lineage.failures, 1);
  assert_int_equal(key_at(builder, 0)->failures, 3);
}

static void test_apply__what_still_fails_is_shown_when_something_weightier_has_recovered(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  builder_key(builder, "old", KEY_RETIRED, now - DAY);
  builder_fail(builder, PLAN_CONFIRM, 1, now, ERROR_TIMEOUT, true);
  builder_fail(builder, PLAN_CONFIRM, 0, now, ERROR_TIMEOUT, true);
  builder_round(builder, PLAN_CONFIRM, 0, now, NULL, NULL);
  assert_non_null(strstr(builder->lineage.failure, "confirm of old"));
  builder_round(builder, PLAN_CONFIRM, 1, now, NULL, NULL);
  assert_null(builder->lineage.failure);
  assert_int_equal(builder->lineage.failures, 0);
}

static void test_apply__an_attestation_is_about_any_key_and_changes_none(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_READY, now - DAY);
  builder_apply(builder, &(struct outcome){.action = PLAN_ATTEST, .key = 0, .at = now});
  assert_true(key_at(builder, 0)->state == KEY_READY && builder->events.count == 0);
}

static void test_apply__a_selector_that_was_not_found_gives_up_no_key(void **state) {
  struct builder *builder = *state;
  builder_fail(builder, PLAN_GENERATE, 0, now, ERROR_CONFLICT, false);
  assert_int_equal(builder->lineage.key_count, 0);
  assert_string_equal(builder_events(builder), "failed");
}

/* ---- successes that are none ---- */

static void test_apply__a_success_that_brought_nothing_is_a_failure(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  builder_key(builder, "reserved", KEY_RESERVED, now - DAY);
  builder_key(builder, "published", KEY_PUBLISHED, now - DAY);
  builder_key(builder, "ready", KEY_READY, now - DAY);
  builder_key(builder, "retired", KEY_RETIRED, now - BUILDER_WINDOW);
  builder_key(builder, "gone", KEY_RETIRED, now - BUILDER_WINDOW);
  key_at(builder, 4)->deleted_at = key_at(builder, 5)->deleted_at = now - HOUR;
  expect_incomplete(builder, &(struct outcome){.action = PLAN_GENERATE, .key = 1, .at = now}, "no record came");
  expect_incomplete(builder, &(struct outcome){.action = PLAN_CONFIRM, .key = 2, .at = now}, "no server was asked");
  expect_incomplete(builder, &(struct outcome){.action = PLAN_ACTIVATE, .key = 3, .at = now}, "not every signer of the domain has said");
  expect_incomplete(builder, &(struct outcome){.action = PLAN_WITHDRAW, .key = 4, .at = now}, "not every signer has said that it does not name");
  expect_incomplete(builder, &(struct outcome){.action = PLAN_DESTROY, .key = 4, .at = now}, "not every private key file is gone");
  expect_incomplete(builder, &(struct outcome){.action = PLAN_CONFIRM_ABSENT, .key = 5, .at = now}, "no server was asked");
}

static void test_apply__a_record_that_vanishes_during_the_switch_fails_it(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "ready", KEY_READY, now - DAY);
  const struct sighting_report gone = {.host = "ns1.example.com", .address = "192.0.2.1", .at = now, .ttl = -1, .ttl_negative = -1, .answer = "NXDOMAIN"};
  builder_apply(builder, &(struct outcome){.action = PLAN_ACTIVATE, .key = 0, .at = now, .sightings = &gone, .sighting_count = 1});
  assert_true(key_at(builder, 0)->state == KEY_PUBLISHED && builder->lineage.failures == 1);
  assert_non_null(strstr(builder->lineage.failure, "a server lost the record meanwhile"));
}

static void test_apply__more_servers_than_are_watched_fail_the_look(void **state) {
  struct builder *builder = *state;
  static struct sighting_report reports[KEY_SIGHTINGS_MAX + 1];
  for (size_t i = 0; i < KEY_SIGHTINGS_MAX + 1; i++)
    reports[i] = (struct sighting_report){.host = "ns", .address = "192.0.2.1", .right = true, .at = now, .ttl = -1, .ttl_negative = -1};
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  expect_incomplete(builder, &(struct outcome){.action = PLAN_CONFIRM, .at = now, .sightings = reports, .sighting_count = KEY_SIGHTINGS_MAX + 1},
                    "65 server addresses");
  assert_int_equal(key_at(builder, 0)->sighting_count, 2);
}

static void test_apply__a_lineage_takes_no_more_keys_than_may_live(void **state) {
  struct builder *builder = *state;
  size_t index = 77;
  while (builder->lineage.key_count < LINEAGE_KEYS_MAX) assert_non_null(lineage_add_key(&builder->lineage));
  assert_null(lineage_add_key(&builder->lineage));
  assert_int_equal(lifecycle_reserve(&builder->lineage, now, 1, &index, &builder->events, &builder->error), ERROR_LIMIT);
  assert_non_null(strstr(builder->error.message, "32 keys are alive already"));
  assert_true(index == 77 && builder->lineage.key_count == LINEAGE_KEYS_MAX);
}

/* ---- looks by a clock that nobody vouches for ---- */

static void look(struct builder *builder, int64_t at, bool unattested) {
  const struct sighting_report right = {.host = "ns1", .address = "192.0.2.1", .right = true, .at = at, .ttl = HOUR, .ttl_negative = -1};
  builder_apply(builder, &(struct outcome){.action = PLAN_CONFIRM, .at = at, .unattested = unattested, .sightings = &right, .sighting_count = 1});
}

static void test_apply__the_wait_begins_with_the_first_look_by_an_attested_clock(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_PUBLISHED, now);
  look(builder, now + 10, true);
  const struct sighting *seen = key_at(builder, 0)->sightings;
  assert_true(seen->right && seen->count == 0 && seen->right_since == now + 10);
  look(builder, now + 20, true);
  seen = key_at(builder, 0)->sightings;
  assert_true(seen->count == 0 && seen->right_since == now + 20);
  look(builder, now + 30, false);
  seen = key_at(builder, 0)->sightings;
  assert_true(seen->count == 1 && seen->right_since == now + 30);
  /* What an attested clock has begun counts on. */
  look(builder, now + 40, true);
  seen = key_at(builder, 0)->sightings;
  assert_true(seen->count == 2 && seen->right_since == now + 30);
  /* A clock that was set back since: the wait starts anew. */
  look(builder, now + 5, false);
  assert_true(key_at(builder, 0)->sightings->right_since == now + 5);
}

/* ---- what is said of a success ---- */

static void test_apply__where_the_record_is_comes_with_the_outcome_or_stays(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_GENERATED, now - DAY);
  builder_apply(builder, &(struct outcome){.action = PLAN_PUBLISH, .at = now, .ttl_negative = -1, .ttl_old = -1, .zone = "example.com",
                                           .owner = "a._domainkey.example.net", .primary_server = "192.0.2.7:53"});
  assert_string_equal(key_at(builder, 0)->owner, "a._domainkey.example.net");
  assert_string_equal(builder_event_reason(builder, "state"), "record in zone example.com at 192.0.2.7:53");
  builder_apply(builder, &(struct outcome){.action = PLAN_PUBLISH, .at = now + HOUR, .ttl_negative = -1, .ttl_old = -1});
  assert_string_equal(key_at(builder, 0)->owner, "a._domainkey.example.net");
  assert_string_equal(builder_event_reason(builder, "healed"), "record in zone example.com at 192.0.2.7:53");
}

static void test_apply__a_record_that_the_primary_has_and_nobody_was_asked_for_is_an_alarm(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_PUBLISHED, now - DAY);
  builder_apply(builder, &(struct outcome){.action = PLAN_PUBLISH, .at = now, .already = true, .ttl_negative = -1, .ttl_old = -1});
  assert_non_null(strstr(builder_event_reason(builder, "alarm"), "no server could be asked"));
}

static void test_apply__a_revocation_with_a_longer_ttl_is_remembered(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  builder_key(builder, "old", KEY_RETIRED, now - BUILDER_WINDOW);
  builder_apply(builder, &(struct outcome){.action = PLAN_REVOKE, .key = 1, .at = now, .ttl = DAY});
  assert_true(key_at(builder, 1)->state == KEY_REVOKED && key_at(builder, 1)->ttl == DAY && key_at(builder, 1)->revoked_at == now);
}

static void test_apply__what_says_that_a_key_is_revoked_is_put_back_with_a_word(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "old", KEY_REVOKED, now - DAY);
  struct outcome outcome = {.action = PLAN_REVOKE, .at = now, .already = true};
  builder_apply(builder, &outcome); /* a secondary that is not up to date: the primary had it */
  assert_string_equal(builder_events(builder), "");
  assert_true(key_at(builder, 0)->published_at == now && key_at(builder, 0)->sighting_count > 0);
  outcome.already = false;
  builder_apply(builder, &outcome);
  assert_string_equal(builder_event_reason(builder, "healed"), "its record says again that the key is revoked");
  struct key *const key = key_at(builder, 0);
  assert_true(key->sighting_count == 0 && key->right_at == TIME_UNSET && key->revoked_at == now - DAY && key->state_since == now - DAY);
  key->compromised_at = now - DAY;
  builder_apply(builder, &outcome);
  assert_non_null(strstr(builder_event_reason(builder, "healed"), "; caches may give out the key until 2027-01-15 09:00:05 UTC"));
  outcome.already = true;
  builder_apply(builder, &outcome);
  assert_non_null(builder_event_reason(builder, "alarm"));
}

static void test_apply__a_tombstone_is_told_of_when_it_is_seen_and_when_it_is_lost(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "old", KEY_REVOKED, now - DAY);
  struct sighting_report seen = {.host = "ns1.example.com", .address = "192.0.2.1", .right = true, .at = now, .ttl = HOUR, .ttl_negative = -1, .answer = "as it must be"};
  const struct outcome outcome = {.action = PLAN_CONFIRM, .at = now, .sightings = &seen, .sighting_count = 1};
  key->right_at = TIME_UNSET;
  builder_apply(builder, &outcome);
  assert_string_equal(builder_event_reason(builder, "confirmed"), "every server says that the key is revoked");
  key_at(builder, 0)->compromised_at = now - DAY;
  builder_apply(builder, &outcome);
  assert_string_equal(builder_events(builder), "");
  seen.right = false;
  seen.answer = "another TXT";
  builder_apply(builder, &outcome);
  assert_string_equal(builder_event_reason(builder, "lost"),
                      "ns1.example.com (192.0.2.1) does not serve the record: another TXT; it does not say any more that the key is revoked");
  seen.right = true;
  builder_apply(builder, &outcome);
  assert_non_null(strstr(builder_event_reason(builder, "exposure"), "every server says that the key is revoked, so the last cache forgets it by"));
}

static void test_apply__a_record_that_came_back_is_deleted_with_a_word_unless_it_was_gone(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "old", KEY_REVOKED, now - BUILDER_TOMBSTONE);
  struct outcome outcome = {.action = PLAN_DELETE, .at = now};
  builder_apply(builder, &outcome);
  assert_string_equal(builder_events(builder), "deleted");
  builder_apply(builder, &outcome);
  assert_string_equal(builder_events(builder), "deleted");
  outcome.already = true;
  builder_apply(builder, &outcome);
  assert_string_equal(builder_events(builder), "");
}

static void test_apply__the_end_of_a_private_key_is_told_as_it_was(void **state) {
  struct builder *builder = *state;
  const struct placement_report gone = {.signer_id = 1, .completed_at = now}, kept = {.signer_id = 1, .completed_at = now, .kept = true};
  static const struct {
    enum key_state from;
    bool archive, file, keep;
    const char *told;
  } rows[] = {
      {KEY_RESERVED, false, true, false, "given up before a private key was made"},
      {KEY_GENERATED, true, true, false, "given up before it was published"},
      {KEY_REVOKED, false, true, false, "private key destroyed"},
      {KEY_REVOKED, true, true, false, "private key archived"},
      {KEY_REVOKED, true, false, false, "stands in a KeyTable itself"},
      {KEY_REVOKED, false, true, true, "its private key file stays"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    builder_end(builder);
    builder_begin(builder);
    builder->rules.private_key = rows[i].archive ? PRIVATE_KEY_ARCHIVE : PRIVATE_KEY_DESTROY;
    struct key *key = builder_key(builder, "old", rows[i].from, now - BUILDER_TOMBSTONE);
    if (!rows[i].file) free(key->placements[0].key_path);
    if (!rows[i].file) key->placements[0].key_path = NULL;
    builder_apply(builder, &(struct outcome){.action = PLAN_DESTROY, .at = now, .placements = rows[i].keep ? &kept : &gone, .placement_count = 1});
    assert_true(key_at(builder, 0)->state == KEY_REMOVED);
    assert_non_null(strstr(builder_event_reason(builder, "state"), rows[i].told));
  }
}

/* ---- failures and their end ---- */

static void test_apply__a_failure_without_text_ends_with_the_next_success(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  builder->lineage.failures = 2;
  builder_round(builder, PLAN_CONFIRM, 0, now, NULL, NULL);
  assert_string_equal(builder_event_reason(builder, "recovered"), "after 2 failures of: a step");
  assert_int_equal(builder->lineage.failures, 0);
}

static void test_apply__a_back_off_without_failures_ends_with_the_next_success(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  builder->lineage.retry_at = now + DAY;
  builder_round(builder, PLAN_CONFIRM, 0, now, NULL, NULL);
  assert_string_equal(builder_events(builder), "recovered");
  assert_int_equal(builder->lineage.retry_at, TIME_UNSET);
}

static void test_apply__a_selector_that_was_not_found_matters_until_a_key_is_made(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  builder_fail(builder, PLAN_GENERATE, 1, now, ERROR_LIMIT, false);
  builder_round(builder, PLAN_CONFIRM, 0, now + 1, NULL, NULL);
  builder_apply(builder, &(struct outcome){.action = PLAN_ATTEST, .key = 1, .at = now + 2});
  assert_int_equal(builder->lineage.failures, 1);
  builder_key(builder, "b", KEY_RESERVED, now);
  const struct placement_report made = {.signer_id = 1, .completed_at = now + 3};
  builder_apply(builder, &(struct outcome){.action = PLAN_GENERATE, .key = 1, .at = now + 3, .record = "v=DKIM1; p=AAAA", .placements = &made,
                                           .placement_count = 1, .ttl_negative = -1, .ttl_old = -1});
  assert_string_equal(builder_events(builder), "state recovered");
  assert_true(builder->lineage.failures == 0 && key_at(builder, 1)->placements[0].file_made);
}

static void test_apply__a_failure_of_a_step_that_its_key_does_not_have_matters_no_more(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  builder->lineage.failures = 1;
  builder->lineage.failure = text_duplicate("unheard-of of a: no");
  builder_round(builder, PLAN_CONFIRM, 0, now, NULL, NULL);
  assert_int_equal(builder->lineage.failures, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_apply__##name, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(numbers_that_are_no_state_and_no_step_are_unknown),
      TEST(what_is_not_there_is_released_without_harm),
      TEST(a_lineage_without_rules_has_none_for_a_key),
      TEST(no_selector_is_taken_without_rules_for_it),
      TEST(no_selector_is_taken_by_a_template_that_is_none),
      TEST(no_selector_is_taken_whose_name_is_too_long_for_dns),
      TEST(an_outcome_must_be_one_that_its_key_can_have),
      TEST(an_outcome_about_no_key_is_an_attestation_or_a_selector_not_found),
      TEST(each_key_counts_its_own_failures_and_the_weightiest_is_shown),
      TEST(what_still_fails_is_shown_when_something_weightier_has_recovered),
      TEST(an_attestation_is_about_any_key_and_changes_none),
      TEST(a_selector_that_was_not_found_gives_up_no_key),
      TEST(a_success_that_brought_nothing_is_a_failure),
      TEST(a_record_that_vanishes_during_the_switch_fails_it),
      TEST(more_servers_than_are_watched_fail_the_look),
      TEST(a_lineage_takes_no_more_keys_than_may_live),
      TEST(the_wait_begins_with_the_first_look_by_an_attested_clock),
      TEST(where_the_record_is_comes_with_the_outcome_or_stays),
      TEST(a_record_that_the_primary_has_and_nobody_was_asked_for_is_an_alarm),
      TEST(a_revocation_with_a_longer_ttl_is_remembered),
      TEST(what_says_that_a_key_is_revoked_is_put_back_with_a_word),
      TEST(a_tombstone_is_told_of_when_it_is_seen_and_when_it_is_lost),
      TEST(a_record_that_came_back_is_deleted_with_a_word_unless_it_was_gone),
      TEST(the_end_of_a_private_key_is_told_as_it_was),
      TEST(a_failure_without_text_ends_with_the_next_success),
      TEST(a_back_off_without_failures_ends_with_the_next_success),
      TEST(a_selector_that_was_not_found_matters_until_a_key_is_made),
      TEST(a_failure_of_a_step_that_its_key_does_not_have_matters_no_more),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
