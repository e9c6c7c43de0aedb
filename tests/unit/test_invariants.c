/* The invariants as a second opinion on the planner: every action in every state, every precondition broken, every wrong pair of before and after. */
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

/* keys[0] signs; keys[1] is in that state and has everything behind it that its next steps need. */
static struct key *subject_in(struct builder *builder, enum key_state state) {
  builder_end(builder);
  builder_begin(builder);
  builder_key(builder, "other", KEY_ACTIVE, now - 10 * DAY);
  struct key *key = builder_key(builder, "subject", state, now - (state == KEY_REVOKED ? BUILDER_TOMBSTONE : BUILDER_WINDOW));
  if (state == KEY_ACTIVE) builder->lineage.keys[0].state = KEY_READY; /* at most one */
  return key;
}

/* Its record is gone and nobody names it. */
static void bury(struct key *key) {
  key->deleted_at = key->absent_at = now - HOUR;
  for (size_t i = 0; i < key->placement_count; i++) key->placements[i].drained_at = now - HOUR;
}

static bool permits(struct builder *builder, enum plan_action action, size_t key, bool attested) {
  const struct plan_clock clock = {.now = now, .attested = attested};
  struct error error = {0};
  const int result = invariant_permits(&builder->lineage, action, key, &clock, &error);
  if (result == 0) return true;
  assert_int_equal(result, ERROR_INTERNAL);
  assert_non_null(strstr(error.message, plan_action_name(action)));
  assert_non_null(strstr(error.message, "example.com"));
  builder->error = error;
  return false;
}

static void expect_refusal(struct builder *builder, enum plan_action action, const char *why) {
  if (permits(builder, action, 1, true)) fail_msg("%s is permitted", plan_action_name(action));
  if (!strstr(builder->error.message, why)) fail_msg("\"%s\" does not say \"%s\"", builder->error.message, why);
}

/* ---- what may be started ---- */

#define IN(state) (1U << (state))

static void test_invariants__every_action_in_every_state(void **state) {
  struct builder *builder = *state;
  static const struct {
    enum plan_action action;
    unsigned states;
  } rows[] = {
      {PLAN_GENERATE, IN(KEY_RESERVED)},
      {PLAN_PUBLISH, IN(KEY_GENERATED) | IN(KEY_PUBLISHED) | IN(KEY_ACTIVE) | IN(KEY_RETIRED)},
      {PLAN_ACTIVATE, IN(KEY_READY) | IN(KEY_ACTIVE)},
      {PLAN_WITHDRAW, IN(KEY_PUBLISHED) | IN(KEY_RETIRED) | IN(KEY_REVOKED)},
      {PLAN_PROVE, IN(KEY_ACTIVE)},
      {PLAN_CHECK_FILES, IN(KEY_PUBLISHED) | IN(KEY_READY)},
      {PLAN_REPAIR, IN(KEY_ACTIVE)},
      {PLAN_REVOKE, IN(KEY_RETIRED) | IN(KEY_REVOKED)}, /* of a revoked one: what says so is put there again */
      {PLAN_DELETE, IN(KEY_GENERATED) | IN(KEY_RETIRED) | IN(KEY_REVOKED)},
      {PLAN_DESTROY, IN(KEY_RESERVED) | IN(KEY_GENERATED)},
      /* Looking harms nothing. */
      {PLAN_CONFIRM, ~0U},
      {PLAN_CONFIRM_ABSENT, ~0U},
      {PLAN_ATTEST, ~0U},
      {PLAN_READY, ~0U},
      {PLAN_NONE, ~0U},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    for (enum key_state at = KEY_RESERVED; at <= KEY_REMOVED; at++) {
      subject_in(builder, at);
      const bool expected = rows[i].states & IN(at);
      if (permits(builder, rows[i].action, 1, true) != expected)
        fail_msg("%s of a key that is %s is %s", plan_action_name(rows[i].action), key_state_name(at), expected ? "refused" : "permitted");
    }
}

static void test_invariants__a_step_that_is_none_is_refused(void **state) {
  struct builder *builder = *state;
  subject_in(builder, KEY_READY);
  expect_refusal(builder, (enum plan_action)99, "there is no such step");
}

static void test_invariants__tables_are_mended_only_while_every_server_serves_the_record(void **state) {
  struct builder *builder = *state;
  struct key *key = subject_in(builder, KEY_ACTIVE);
  builder_see(key, "ns2.example.com", "192.0.2.2", false, now);
  expect_refusal(builder, PLAN_REPAIR, "not every server serves its record");
}

static void test_invariants__the_only_key_that_signs_anywhere_is_not_taken_back(void **state) {
  struct builder *builder = *state;
  subject_in(builder, KEY_PUBLISHED);
  builder->lineage.keys[0].state = KEY_RETIRED;
  expect_refusal(builder, PLAN_WITHDRAW, "no other key signs");
}

static void test_invariants__a_buried_key_may_be_destroyed(void **state) {
  struct builder *builder = *state;
  for (enum key_state at = KEY_RETIRED; at <= KEY_REVOKED; at++) {
    bury(subject_in(builder, at));
    assert_true(permits(builder, PLAN_DESTROY, 1, true));
  }
}

static void test_invariants__nothing_without_management(void **state) {
  struct builder *builder = *state;
  for (enum plan_action action = PLAN_GENERATE; action <= PLAN_CHECK_FILES; action++)
    for (enum key_state at = KEY_RESERVED; at <= KEY_REVOKED; at++) {
      subject_in(builder, at);
      builder->lineage.managed = false;
      expect_refusal(builder, action, "not managed");
    }
}

static void test_invariants__only_generation_and_attestation_are_about_no_key(void **state) {
  struct builder *builder = *state;
  subject_in(builder, KEY_READY);
  for (enum plan_action action = PLAN_GENERATE; action <= PLAN_CHECK_FILES; action++)
    assert_int_equal(permits(builder, action, 2, true), action == PLAN_GENERATE || action == PLAN_ATTEST);
}

static void test_invariants__an_unattested_clock_switches_and_ends_nothing(void **state) {
  struct builder *builder = *state;
  subject_in(builder, KEY_READY);
  assert_false(permits(builder, PLAN_ACTIVATE, 1, false));
  subject_in(builder, KEY_ACTIVE);
  assert_true(permits(builder, PLAN_ACTIVATE, 1, false)); /* at a signer more */
  for (enum key_state at = KEY_RETIRED; at <= KEY_REVOKED; at++) {
    bury(subject_in(builder, at));
    assert_false(permits(builder, PLAN_DELETE, 1, false));
    assert_false(permits(builder, PLAN_DESTROY, 1, false));
  }
  subject_in(builder, KEY_RETIRED);
  assert_false(permits(builder, PLAN_REVOKE, 1, false));
  assert_false(permits(builder, PLAN_WITHDRAW, 1, false));
  subject_in(builder, KEY_REVOKED);
  assert_true(permits(builder, PLAN_WITHDRAW, 1, false)); /* its drain has ended long ago */
}

static void test_invariants__activation_needs_the_record_everywhere_and_caches_that_forgot(void **state) {
  struct builder *builder = *state;
  struct key *key = subject_in(builder, KEY_READY);
  free(key->record);
  key->record = NULL;
  expect_refusal(builder, PLAN_ACTIVATE, "its record is not known");
  key = subject_in(builder, KEY_READY);
  builder_see(key, "ns2.example.com", "192.0.2.2", false, now - DAY);
  expect_refusal(builder, PLAN_ACTIVATE, "not every server");
  builder_see(key, "ns2.example.com", "192.0.2.2", true, now - BUILDER_F1 + 1);
  expect_refusal(builder, PLAN_ACTIVATE, "caches");
  key->sightings[1].right_since--;
  assert_true(permits(builder, PLAN_ACTIVATE, 1, true));
  key->sighting_count = 0;
  expect_refusal(builder, PLAN_ACTIVATE, "not every server");
}

static void test_invariants__publication_needs_a_record_that_was_not_ended(void **state) {
  struct builder *builder = *state;
  struct key *key = subject_in(builder, KEY_GENERATED);
  free(key->record);
  key->record = NULL;
  expect_refusal(builder, PLAN_PUBLISH, "its record is not known");
  key = subject_in(builder, KEY_RETIRED);
  key->deleted_at = now;
  expect_refusal(builder, PLAN_PUBLISH, "it was deleted");
  key = subject_in(builder, KEY_GENERATED);
  key->deleted_at = now; /* unwanted for a while, and wanted again */
  assert_true(permits(builder, PLAN_PUBLISH, 1, true));
}

static void test_invariants__nothing_ends_before_its_window_or_as_the_last(void **state) {
  struct builder *builder = *state;
  for (enum plan_action action = PLAN_REVOKE; action <= PLAN_DELETE; action++) {
    struct key *key = subject_in(builder, KEY_RETIRED);
    builder->lineage.keys[0].state = KEY_PUBLISHED;
    expect_refusal(builder, action, "no other key signs");
    builder->lineage.keys[0].state = KEY_ACTIVE;
    key->retired_at++;
    expect_refusal(builder, action, "may still be verified");
    key->retired_at--;
    key->revoke_at++; /* a window that was promised */
    expect_refusal(builder, action, "may still be verified");
  }
}

static void test_invariants__a_drain_that_runs_keeps_the_tables(void **state) {
  struct builder *builder = *state;
  struct key *key = subject_in(builder, KEY_RETIRED);
  builder->lineage.keys[0].state = KEY_READY;
  expect_refusal(builder, PLAN_WITHDRAW, "no other key signs");
  builder->lineage.keys[0].state = KEY_ACTIVE;
  key->retired_at = now - HOUR + 1;
  expect_refusal(builder, PLAN_WITHDRAW, "connections");
  key->retired_at--;
  assert_true(permits(builder, PLAN_WITHDRAW, 1, true));
}

static void test_invariants__a_private_key_outlives_its_record_its_entries_and_its_users(void **state) {
  struct builder *builder = *state;
  for (enum key_state at = KEY_RETIRED; at <= KEY_REVOKED; at++) {
    struct key *key = subject_in(builder, at);
    bury(key);
    key->absent_at = TIME_UNSET;
    expect_refusal(builder, PLAN_DESTROY, "may still be served");
    key->absent_at = now;
    key->deleted_at = TIME_UNSET;
    expect_refusal(builder, PLAN_DESTROY, "may still be served");
    bury(key);
    key->placements[0].drained_at = TIME_UNSET;
    expect_refusal(builder, PLAN_DESTROY, "tables name it");
    key->placements[0].switched_at = TIME_UNSET; /* never named */
    assert_true(permits(builder, PLAN_DESTROY, 1, true));
  }
}

static void test_invariants__a_file_that_another_key_needs_stays(void **state) {
  struct builder *builder = *state;
  struct key *key = subject_in(builder, KEY_REVOKED);
  bury(key);
  struct key *other = &builder->lineage.keys[0];
  free(other->placements[0].key_path);
  other->placements[0].key_path = text_duplicate(key->placements[0].key_path);
  expect_refusal(builder, PLAN_DESTROY, "same file");
  other->absent_at = now; /* at its end too */
  assert_true(permits(builder, PLAN_DESTROY, 1, true));
  other->absent_at = TIME_UNSET;
  other->state = KEY_REMOVED;
  assert_true(permits(builder, PLAN_DESTROY, 1, true));
}

static void test_invariants__keys_without_files_share_none(void **state) {
  struct builder *builder = *state;
  struct key *key = subject_in(builder, KEY_REVOKED);
  bury(key);
  for (size_t i = 0; i < 2; i++) {
    free(builder->lineage.keys[i].placements[0].key_path);
    builder->lineage.keys[i].placements[0].key_path = NULL;
  }
  assert_true(permits(builder, PLAN_DESTROY, 1, true));
}

static void test_invariants__a_begun_publication_is_undone_before_the_key_goes(void **state) {
  struct builder *builder = *state;
  for (int intent = PLAN_PUBLISH; intent <= PLAN_DELETE; intent += PLAN_DELETE - PLAN_PUBLISH) {
    struct key *key = subject_in(builder, KEY_GENERATED);
    key->intent = intent;
    expect_refusal(builder, PLAN_DESTROY, "may be served");
    key->deleted_at = now;
    assert_true(permits(builder, PLAN_DESTROY, 1, true));
  }
}

/* ---- before and after ---- */

static void expect_wrong(struct builder *builder, const struct lineage *before, const char *why) {
  const int result = invariant_holds(before, &builder->lineage, &builder->error);
  assert_int_equal(result, ERROR_INTERNAL);
  if (!strstr(builder->error.message, why)) fail_msg("\"%s\" does not say \"%s\"", builder->error.message, why);
}

static void copy_of(struct builder *builder, struct lineage *before) { assert_int_equal(lineage_copy(&builder->lineage, before, &builder->error), 0); }

static void test_invariants__at_most_one_key_is_active(void **state) {
  struct builder *builder = *state;
  struct lineage before;
  subject_in(builder, KEY_READY);
  copy_of(builder, &before);
  builder->lineage.keys[1].state = KEY_ACTIVE;
  expect_wrong(builder, &before, "2 active keys");
  builder->lineage.keys[0].state = KEY_RETIRED;
  assert_int_equal(invariant_holds(&before, &builder->lineage, &builder->error), 0);
  lineage_release(&before);
}

static void test_invariants__the_active_key_has_a_successor_or_stays(void **state) {
  struct builder *builder = *state;
  struct lineage before;
  subject_in(builder, KEY_READY);
  copy_of(builder, &before);
  builder->lineage.keys[0].state = KEY_RETIRED;
  expect_wrong(builder, &before, "lose its active key");
  before.keys[0].state = KEY_RETIRED; /* what did not hold before need not hold after */
  assert_int_equal(invariant_holds(&before, &builder->lineage, &builder->error), 0);
  lineage_release(&before);
}

/* A person asked for the end of a key in other hands: of that key, and at once. */
static void test_invariants__the_end_of_a_key_that_signs_needs_a_person_who_said_at_once(void **state) {
  struct builder *builder = *state;
  struct lineage before;
  struct error error = {0};
  builder_key(builder, "first", KEY_READY, now - DAY);
  builder_key(builder, "signs", KEY_ACTIVE, now - DAY);
  assert_int_equal(lineage_copy(&builder->lineage, &before, &error), 0);
  struct key *key = &builder->lineage.keys[1];
  key->state = KEY_REVOKED;
  key->revoke_at = before.keys[1].revoke_at;
  assert_int_equal(invariant_holds(&before, &builder->lineage, &error), ERROR_INTERNAL);
  key->compromised_at = now;
  assert_int_equal(invariant_holds(&before, &builder->lineage, &error), ERROR_INTERNAL);
  key->revoke_now = true;
  assert_int_equal(invariant_holds(&before, &builder->lineage, &error), 0);
  key->state = KEY_RETIRED;
  assert_int_equal(invariant_holds(&before, &builder->lineage, &error), ERROR_INTERNAL);
  builder->lineage.key_count = 1;
  assert_int_equal(invariant_holds(&before, &builder->lineage, &error), ERROR_INTERNAL);
  builder->lineage.key_count = 2;
  lineage_release(&before);
}

static void test_invariants__only_a_record_that_is_there_is_given_up(void **state) {
  struct builder *builder = *state;
  static const struct {
    enum key_state at;
    bool now, deleted, permitted;
  } rows[] = {{KEY_GENERATED, false, false, false}, {KEY_PUBLISHED, false, false, true}, {KEY_READY, false, false, true},   {KEY_ACTIVE, false, false, false},
              {KEY_ACTIVE, true, false, true},      {KEY_RETIRED, false, false, true},   {KEY_RETIRED, false, true, false}, {KEY_REVOKED, false, false, true} /* again: a backup brought it back */,
              {KEY_REVOKED, false, true, false},    {KEY_REMOVED, true, false, false}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    struct key *key = subject_in(builder, rows[i].at);
    key->compromised_at = now - HOUR;
    key->revoke_now = rows[i].now;
    key->deleted_at = rows[i].deleted ? now - HOUR : TIME_UNSET;
    if (permits(builder, PLAN_REVOKE, 1, true) != rows[i].permitted) fail_msg("%s: %d", key_state_name(rows[i].at), rows[i].permitted);
  }
  /* One whose files are all lost is given up too, and while it signs nobody asked for its end. */
  struct key *key = subject_in(builder, KEY_READY);
  for (size_t i = 0; i < key->placement_count; i++) key->placements[i].damage = DAMAGE_FILE_MISSING;
  assert_true(permits(builder, PLAN_REVOKE, 1, true));
}

static void test_invariants__no_state_goes_back_but_ready(void **state) {
  struct builder *builder = *state;
  for (enum key_state from = KEY_RESERVED; from <= KEY_REMOVED; from++)
    for (enum key_state to = KEY_RESERVED; to <= from; to++) {
      struct lineage before;
      subject_in(builder, from);
      copy_of(builder, &before);
      builder->lineage.keys[1].state = to;
      builder->lineage.keys[0].state = before.keys[0].state = from == KEY_ACTIVE ? KEY_REMOVED : before.keys[0].state;
      const bool allowed = from == to || (from == KEY_READY && to == KEY_PUBLISHED);
      if (to == KEY_ACTIVE && from != to)
        expect_wrong(builder, &before, "2 active keys");
      else if (allowed)
        assert_int_equal(invariant_holds(&before, &builder->lineage, &builder->error), 0);
      else
        expect_wrong(builder, &before, from == KEY_ACTIVE ? "lose its active key" : "go back");
      lineage_release(&before);
    }
}

static void test_invariants__no_key_is_lost_or_renamed_and_new_ones_may_come(void **state) {
  struct builder *builder = *state;
  struct lineage before;
  subject_in(builder, KEY_RETIRED);
  copy_of(builder, &before);
  builder_key(builder, "new", KEY_RESERVED, now);
  assert_int_equal(invariant_holds(&before, &builder->lineage, &builder->error), 0);
  text_copy(builder->lineage.keys[1].selector, SELECTOR_SIZE, "renamed");
  expect_wrong(builder, &before, "lose sight of subject");
  builder->lineage.key_count = 1;
  expect_wrong(builder, &before, "lose sight of subject");
  builder->lineage.key_count = 3;
  lineage_release(&before);
}

static void test_invariants__a_window_never_shrinks(void **state) {
  struct builder *builder = *state;
  struct lineage before;
  subject_in(builder, KEY_RETIRED);
  copy_of(builder, &before);
  builder->lineage.keys[1].revoke_at++;
  assert_int_equal(invariant_holds(&before, &builder->lineage, &builder->error), 0);
  builder->lineage.keys[1].revoke_at -= 2;
  expect_wrong(builder, &before, "window of subject");
  lineage_release(&before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_invariants__##name, builder_setup, builder_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(every_action_in_every_state),
      TEST(a_step_that_is_none_is_refused),
      TEST(tables_are_mended_only_while_every_server_serves_the_record),
      TEST(the_only_key_that_signs_anywhere_is_not_taken_back),
      TEST(keys_without_files_share_none),
      TEST(a_buried_key_may_be_destroyed),
      TEST(nothing_without_management),
      TEST(only_generation_and_attestation_are_about_no_key),
      TEST(an_unattested_clock_switches_and_ends_nothing),
      TEST(activation_needs_the_record_everywhere_and_caches_that_forgot),
      TEST(publication_needs_a_record_that_was_not_ended),
      TEST(nothing_ends_before_its_window_or_as_the_last),
      TEST(a_drain_that_runs_keeps_the_tables),
      TEST(a_private_key_outlives_its_record_its_entries_and_its_users),
      TEST(a_file_that_another_key_needs_stays),
      TEST(a_begun_publication_is_undone_before_the_key_goes),
      TEST(at_most_one_key_is_active),
      TEST(the_active_key_has_a_successor_or_stays),
      TEST(no_state_goes_back_but_ready),
      TEST(the_end_of_a_key_that_signs_needs_a_person_who_said_at_once),
      TEST(only_a_record_that_is_there_is_given_up),
      TEST(no_key_is_lost_or_renamed_and_new_ones_may_come),
      TEST(a_window_never_shrinks),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
