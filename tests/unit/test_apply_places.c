/* What outcomes do to the places of a key, and to those at signers that are gone. */
#include "apply_rig.h"

/* ---- places ---- */

static void report_switch(struct builder *builder, int64_t signer, const char *path) {
  const struct placement_report report = {.signer_id = signer, .key_path = path, .switched_at = now, .completed_at = now};
  builder_apply(builder, &(struct outcome){.action = PLAN_ACTIVATE, .at = now, .placements = &report, .placement_count = 1});
}

static void test_apply_places__a_signer_that_the_domain_does_not_have_reports_nothing(void **state) {
  struct builder *builder = *state;
  const struct placement_report report = {.signer_id = 9, .completed_at = now};
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  expect_contradiction(builder, &(struct outcome){.action = PLAN_ACTIVATE, .at = now, .placements = &report, .placement_count = 1},
                       "a signer that the domain does not have");
  assert_int_equal(key_at(builder, 0)->placement_count, 1);
}

static void test_apply_places__a_signer_edited_without_its_tables_is_the_same_place(void **state) {
  struct builder *builder = *state;
  static const size_t second[] = {2};
  struct key *key = builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  char *path = text_duplicate(key->placements[0].key_path);
  builder_define_signer(builder, 2, "local", "");
  builder_use_signers(builder, second, 1);
  report_switch(builder, 2, path);
  key = key_at(builder, 0);
  assert_true(key->placement_count == 1 && key->placements[0].signer_id == 2);
  /* The same tables and another file are another place. */
  builder_define_signer(builder, 3, "local", "");
  builder_use_signers(builder, (const size_t[]){3}, 1);
  report_switch(builder, 3, "/elsewhere/a.private");
  key = key_at(builder, 0);
  assert_true(key->placement_count == 2 && key->placements[1].signer_id == 3);
  free(path);
}

static void test_apply_places__another_signing_table_is_another_place(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  builder_define_signer(builder, 2, "local", "");
  free(builder->signers[1].signing_table);
  builder->signers[1].signing_table = text_duplicate("/etc/local/SigningTable.new");
  builder_use_signers(builder, (const size_t[]){2}, 1);
  assert_int_equal(builder_plan(builder, now).action, PLAN_ACTIVATE);
  report_switch(builder, 2, NULL);
  assert_int_equal(key_at(builder, 0)->placement_count, 2);
}

/* A place is used again when nothing is left to be undone there: its entry is withdrawn, and its file was never made, is destroyed, or is another place's too. */
static void test_apply_places__a_place_where_nothing_is_left_is_used_again(void **state) {
  struct builder *builder = *state;
  static const struct {
    bool withdrawn, made, destroyed, other_made, other_destroyed, shared, again;
  } rows[] = {
      {.withdrawn = false, .again = false},
      {.withdrawn = true, .made = false, .again = true},
      {.withdrawn = true, .made = true, .destroyed = true, .again = true},
      {.withdrawn = true, .made = true, .other_made = true, .shared = true, .again = true},
      {.withdrawn = true, .made = true, .other_made = true, .shared = false, .again = false},
      {.withdrawn = true, .made = true, .other_made = false, .shared = true, .again = false},
      {.withdrawn = true, .made = true, .other_made = true, .other_destroyed = true, .shared = true, .again = false},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    builder_end(builder);
    builder_begin(builder);
    builder_define_signer(builder, 2, "second", "");
    builder_define_signer(builder, 3, "third", "");
    builder_use_signers(builder, (const size_t[]){1, 2}, 2);
    struct key *key = builder_key(builder, "a", KEY_ACTIVE, now - DAY);
    struct placement *gone = &key->placements[0], *other = &key->placements[1];
    gone->drained_at = rows[i].withdrawn ? now - HOUR : TIME_UNSET;
    gone->file_made = rows[i].made;
    gone->destroyed = rows[i].destroyed;
    gone->failure = text_duplicate("it did not work");
    other->file_made = rows[i].other_made;
    other->destroyed = rows[i].other_destroyed;
    free(other->key_path);
    other->key_path = rows[i].shared ? text_duplicate(gone->key_path) : text_duplicate("/second/a.private");
    builder_use_signers(builder, (const size_t[]){2, 3}, 2);
    report_switch(builder, 3, "/third/a.private");
    key = key_at(builder, 0);
    if (key->placement_count != (rows[i].again ? 2U : 3U)) fail_msg("row %zu: %zu places", i, key->placement_count);
    const struct placement *place = &key->placements[rows[i].again ? 0 : 2];
    assert_true(place->signer_id == 3 && !place->failure && !place->destroyed && place->file_made && place->switched_at == now);
    assert_string_equal(place->key_path, "/third/a.private");
  }
}

static void test_apply_places__more_places_than_are_kept_fail_the_step(void **state) {
  struct builder *builder = *state;
  static const size_t rows[KEY_PLACEMENTS_MAX] = {1, 2, 3, 4, 5, 6, 7, 8};
  char name[16];
  for (size_t i = 0; i < KEY_PLACEMENTS_MAX; i++) {
    snprintf(name, sizeof name, "%zu", i);
    builder_define_signer(builder, i + 1, "signer", name);
  }
  builder_use_signers(builder, rows, KEY_PLACEMENTS_MAX);
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  builder_define_signer(builder, 9, "ninth", "");
  builder_use_signers(builder, (const size_t[]){9}, 1);
  const struct placement_report report = {.signer_id = 9, .completed_at = now};
  expect_incomplete(builder, &(struct outcome){.action = PLAN_ACTIVATE, .at = now, .placements = &report, .placement_count = 1}, "a is at 8 places");
}

/* ---- signers that are gone and cannot be cleaned up ---- */

/* keys[0] signs, keys[1] is retired and at signer 1, which is gone, and at signer 2; both could not be cleaned up. */
static void leave_signer(struct builder *builder) {
  builder_define_signer(builder, 2, "second", "");
  builder_use_signers(builder, (const size_t[]){1, 2}, 2);
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  builder_key(builder, "old", KEY_RETIRED, now - DAY);
  builder_use_signers(builder, (const size_t[]){2}, 1);
}

static void fail_withdrawal(struct builder *builder, bool retryable, const char *first, const char *second) {
  struct error failure = {0};
  const struct placement_report reports[] = {{.signer_id = 1, .failure = first}, {.signer_id = 2, .failure = second}};
  error_set(&failure, ERROR_PERMISSION, "it did not work");
  error_retryable(&failure, retryable);
  builder_apply(builder, &(struct outcome){.action = PLAN_WITHDRAW, .key = 1, .at = now, .error = &failure, .placements = reports, .placement_count = 2});
}

static void test_apply_places__a_signer_that_is_gone_is_given_up_with_an_alarm(void **state) {
  struct builder *builder = *state;
  leave_signer(builder);
  fail_withdrawal(builder, false, "no such folder", "no such folder");
  struct key *key = key_at(builder, 1);
  assert_true(key->placement_count == 1 && key->placements[0].signer_id == 2);
  assert_string_equal(key->placements[0].failure, "no such folder");
  assert_non_null(strstr(builder_event_reason(builder, "alarm"), "signer local is not one of the domain any more"));
  assert_string_equal(builder_events(builder), "failed alarm");
}

static void test_apply_places__a_signer_that_is_gone_and_did_not_fail_stays(void **state) {
  struct builder *builder = *state;
  leave_signer(builder);
  fail_withdrawal(builder, false, NULL, "no such folder");
  assert_int_equal(key_at(builder, 1)->placement_count, 2);
}

static void test_apply_places__a_signer_that_is_gone_is_tried_until_it_is_parked(void **state) {
  struct builder *builder = *state;
  leave_signer(builder);
  for (unsigned i = 1; i < TIMING_FAILURES_PARK; i++) {
    fail_withdrawal(builder, true, "timeout", "timeout");
    assert_int_equal(key_at(builder, 1)->placement_count, 2);
  }
  fail_withdrawal(builder, true, "timeout", "timeout");
  assert_int_equal(key_at(builder, 1)->placement_count, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_apply_places__##name, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_signer_that_the_domain_does_not_have_reports_nothing),
      TEST(a_signer_edited_without_its_tables_is_the_same_place),
      TEST(another_signing_table_is_another_place),
      TEST(a_place_where_nothing_is_left_is_used_again),
      TEST(more_places_than_are_kept_fail_the_step),
      TEST(a_signer_that_is_gone_is_given_up_with_an_alarm),
      TEST(a_signer_that_is_gone_and_did_not_fail_stays),
      TEST(a_signer_that_is_gone_is_tried_until_it_is_parked),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
