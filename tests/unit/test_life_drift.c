/* Whole lives in which people edit tables, remove key files and overwrite records: what they break is found by the paced proof, and heals by the fastest safe way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/text.h"
#include "life_world.h"

static struct life world;

static int begin(void **state) {
  life_begin(&world, 1);
  *state = &world;
  return 0;
}
static int end(void **state) {
  life_end(*state);
  return 0;
}

static struct key *active_key(struct life *life) {
  struct key *key = lineage_active_key(&life->builder.lineage);
  if (!key) oracle_fail(life, "no key signs");
  return key;
}

/* The selector that signs, which outlives the key. */
static const char *active_selector(struct life *life) {
  static char selector[SELECTOR_SIZE];
  text_copy(selector, sizeof selector, active_key(life)->selector);
  return selector;
}

static struct life_tables *tables_of(struct life *life, size_t i) { return life_tables(life, life->builder.lineage.signers[i]); }

static void use_two_signers(struct life *life) {
  static const size_t rows[] = {1, 2};
  builder_define_signer(&life->builder, 2, "second", "-2");
  life->builder.signers[1].key_directory = (char *)"/second/%d";
  builder_use_signers(&life->builder, rows, 2);
}

/* A key has signed for five days, and another has retired before it. */
static void begin_settled(struct life *life) {
  life_run_until(life, KEY_RETIRED, 100 * DAY);
  life_run(life, 5 * DAY);
  life_expect_well(life);
}

static size_t proofs, repairs;
static int64_t last_proof, longest_pause;
static void count_proofs(struct life *life, enum plan_action action, const struct key *key) {
  (void)key;
  repairs += action == PLAN_REPAIR;
  if (action != PLAN_PROVE) return;
  if (proofs++ > 0 && life->moment - last_proof > longest_pause) longest_pause = life->moment - last_proof;
  last_proof = life->moment;
}
static void watch_proofs(struct life *life) {
  proofs = repairs = 0;
  longest_pause = 0;
  life->watcher = count_proofs;
}

/* ---- pace ---- */

static void test_life_drift__each_key_is_proved_within_prove_every(void **state) {
  struct life *life = *state;
  life_run_until(life, KEY_ACTIVE, DAY);
  watch_proofs(life);
  life_run(life, 60 * DAY);
  assert_in_range(longest_pause, 1, DAY + 10);
  assert_in_range(proofs, 60, 85);
  assert_int_equal(repairs, 0);
  assert_int_equal(life->failures, 0);
  life_expect_well(life);
}

static void test_life_drift__never_is_never(void **state) {
  struct life *life = *state;
  life->builder.rules.prove_every = TIME_NEVER;
  watch_proofs(life);
  life_run(life, 100 * DAY);
  assert_int_equal(proofs, 0);
  life_expect_well(life);
}

static void test_life_drift__a_clock_that_was_set_back_neither_ends_proofs_nor_spins(void **state) {
  struct life *life = *state;
  life_run_until(life, KEY_ACTIVE, DAY);
  life_set_wall(life, 400 * DAY, true);
  life_run(life, 3 * DAY);
  life_set_wall(life, 0, true);
  watch_proofs(life);
  life_run(life, 10 * DAY);
  assert_in_range(proofs, 9, 250);
}

/* ---- tables ---- */

static void test_life_drift__lines_that_were_removed_are_written_again(void **state) {
  struct life *life = *state;
  begin_settled(life);
  const size_t rotations = life->rotations;
  life_edit_tables(life, 0, "");
  watch_proofs(life);
  life_run(life, DAY + MINUTE);
  life_expect_well(life);
  assert_int_equal(repairs, 1);
  assert_int_equal(life->rotations, rotations);
}

/* The oracle knows how long the retired key signed again, and fails if its record goes before its mail is verified. */
static void test_life_drift__tables_from_a_backup_keep_the_old_key_verifiable(void **state) {
  struct life *life = *state;
  begin_settled(life);
  const size_t retired = life_find(life, KEY_RETIRED);
  life_run(life, BUILDER_WINDOW - 5 * DAY - 6 * HOUR); /* shortly before its record would go */
  life_edit_tables(life, 0, life->builder.lineage.keys[retired].selector);
  const int64_t before = life->builder.lineage.keys[retired].revoke_at;
  life_run(life, DAY + MINUTE);
  life_expect_well(life);
  assert_true(life->builder.lineage.keys[life_find(life, KEY_RETIRED)].revoke_at > before);
  life_run(life, 60 * DAY);
  life_expect_well(life);
}

static void test_life_drift__what_cannot_be_mended_is_tried_with_pauses(void **state) {
  struct life *life = *state;
  begin_settled(life);
  life_edit_tables(life, 0, "");
  life->fault = (struct life_fault){.action = PLAN_REPAIR, .times = 1000, .code = ERROR_CONFLICT};
  watch_proofs(life);
  life_run(life, 10 * DAY);
  assert_in_range(repairs, 100, 260);
  assert_true(proofs <= repairs + 1);
  /* Trouble at a signer holds nothing else back. */
  assert_int_equal(life->builder.lineage.failures, 0);
  life->fault = (struct life_fault){0};
  life_run(life, 2 * HOUR);
  life_expect_well(life);
}

/* ---- key files ---- */

static void test_life_drift__a_lost_key_file_brings_a_new_key(void **state) {
  for (int other = 0; other <= 1; other++) {
    struct life *life = *state;
    life_end(life);
    life_begin(life, 1);
    begin_settled(life);
    const size_t rotations = life->rotations;
    const char *lost = active_selector(life);
    life_lose_file(life, 0, lost, other);
    life_run(life, DAY + BUILDER_F1 + 10 * MINUTE);
    assert_int_equal(life->rotations, rotations + 1);
    assert_string_not_equal(active_key(life)->selector, lost);
    life_expect_well(life);
    life_run(life, 200 * DAY);
    life_expect_well(life);
  }
}

static void test_life_drift__a_standby_key_takes_over_at_once(void **state) {
  struct life *life = *state;
  life->builder.rules.standby = 1;
  begin_settled(life);
  const char *lost = active_selector(life);
  life_lose_file(life, 0, lost, false);
  watch_proofs(life);
  while (proofs == 0) life_step(life, life->moment + 2 * DAY);
  life_run(life, MINUTE);
  assert_string_not_equal(active_key(life)->selector, lost);
}

static void test_life_drift__on_demand_only_still_replaces_a_lost_key(void **state) {
  struct life *life = *state;
  life->builder.rules.rotate_every = TIME_NEVER;
  life_run_until(life, KEY_ACTIVE, DAY);
  life_lose_file(life, 0, active_selector(life), true);
  life_run(life, DAY + BUILDER_F1 + 10 * MINUTE);
  assert_int_equal(life->rotations, 2);
  life_run(life, 100 * DAY);
  assert_int_equal(life->rotations, 2);
  life_expect_well(life);
}

static void test_life_drift__a_copy_at_another_signer_spares_a_new_key(void **state) {
  struct life *life = *state;
  use_two_signers(life);
  begin_settled(life);
  const size_t rotations = life->rotations;
  life_lose_file(life, 1, active_selector(life), false);
  watch_proofs(life);
  life_run(life, DAY + MINUTE);
  assert_int_equal(repairs, 1);
  assert_int_equal(life->rotations, rotations);
  life_expect_well(life);
}

static void test_life_drift__a_file_that_is_put_back_is_enough(void **state) {
  struct life *life = *state;
  begin_settled(life);
  const char *lost = active_selector(life);
  life_lose_file(life, 0, lost, false);
  watch_proofs(life);
  while (proofs == 0) life_step(life, life->moment + 2 * DAY);
  life_restore_file(life, 0, lost);
  life_run(life, MINUTE);
  assert_int_equal(active_key(life)->proof_failures, 0);
  assert_string_equal(active_key(life)->selector, lost);
  life_run(life, 100 * DAY);
  life_expect_well(life);
}

/* Until it is released the domain is as its owner wants it, whatever that means for its mail. */
static void test_life_drift__a_hold_makes_no_key(void **state) {
  struct life *life = *state;
  begin_settled(life);
  const size_t rotations = life->rotations;
  life->builder.lineage.held = true;
  life->builder.lineage.hold_until = TIME_NEVER;
  life_lose_file(life, 0, active_selector(life), false);
  life_run(life, 10 * DAY);
  assert_int_equal(life->rotations, rotations);
  life->builder.lineage.held = false;
  life_run(life, DAY);
  assert_int_equal(life->rotations, rotations + 1);
}

/* ---- records ---- */

static void test_life_drift__a_record_that_vanished_is_put_back(void **state) {
  struct life *life = *state;
  begin_settled(life);
  const size_t rotations = life->rotations;
  life_forget(life, active_selector(life));
  life_run(life, 7 * HOUR);
  life_expect_well(life);
  assert_int_equal(life->rotations, rotations);
}

static void test_life_drift__a_foreign_record_stays_and_a_new_key_takes_over(void **state) {
  struct life *life = *state;
  begin_settled(life);
  const char *contested = active_selector(life);
  life_contest(life, contested, true);
  life_run(life, 7 * HOUR + BUILDER_F1);
  assert_string_not_equal(active_key(life)->selector, contested);
  life_run(life, 3 * DAY);
  struct life_record *record = life_record(life, contested);
  assert_int_equal(life_content(record, 0, life->moment), LIFE_FOREIGN);
  /* What mail on its way is verified with comes back with the place. */
  life_contest(life, contested, false);
  life_run(life, 2 * DAY);
  assert_int_equal(life_content(record, 0, life->moment), LIFE_SERVED);
  life_expect_well(life);
}

static void test_life_drift__a_foreign_record_that_goes_soon_costs_no_key(void **state) {
  struct life *life = *state;
  begin_settled(life);
  const char *contested = active_selector(life);
  life_contest(life, contested, true);
  while (active_key(life)->contested_at == TIME_UNSET) life_step(life, life->moment + DAY);
  life_contest(life, contested, false);
  life_run(life, 10 * MINUTE);
  assert_string_equal(active_key(life)->selector, contested);
  assert_true(active_key(life)->contested_at == TIME_UNSET);
}

/* ---- signers ---- */

static void test_life_drift__a_signer_that_is_down_is_proved_when_it_is_back(void **state) {
  struct life *life = *state;
  begin_settled(life);
  tables_of(life, 0)->dead_until = life->moment + 4 * DAY;
  watch_proofs(life);
  life_run(life, 4 * DAY);
  assert_in_range(proofs, 60, 130); /* at most every hour */
  assert_int_equal(active_key(life)->placements[0].damage, DAMAGE_SIGNER_DOWN);
  life_run(life, HOUR + HOUR / 2);
  assert_int_equal(active_key(life)->placements[0].damage, DAMAGE_NONE);
  assert_int_equal(repairs, 0);
  life_expect_well(life);
}

/* A key that took over at one of two signers loses its record: that signer goes back to the key that signs at the other. */
static void test_life_drift__a_switch_that_stopped_half_way_is_taken_back(void **state) {
  struct life *life = *state;
  use_two_signers(life);
  life_run_until(life, KEY_ACTIVE, DAY);
  const char *signs = active_selector(life);
  life_run_until(life, KEY_READY, 100 * DAY);
  tables_of(life, 1)->dead_until = life->moment + 20 * DAY;
  while (text_equal(tables_of(life, 0)->signs, signs)) life_step(life, life->moment + 10 * DAY);
  const char *coming = tables_of(life, 0)->signs;
  char next[SELECTOR_SIZE];
  text_copy(next, sizeof next, coming);
  life_forget(life, next);
  life_run(life, HOUR + MINUTE);
  assert_string_equal(tables_of(life, 0)->signs, signs);
  assert_true(life_find(life, KEY_PUBLISHED) < life->builder.lineage.key_count || life_find(life, KEY_READY) < life->builder.lineage.key_count);
  life_run(life, 22 * DAY);
  assert_string_equal(active_key(life)->selector, next);
  life_expect_well(life);
}

/* ---- all together ---- */

static void disturb(struct life *life) {
  const size_t signer = life_random(life, life->builder.lineage.signer_count);
  const struct key *active = lineage_active_key(&life->builder.lineage);
  if (!active) return;
  switch (life_random(life, 7)) {
  case 0: life_edit_tables(life, signer, ""); break;
  case 1: {
    /* Not at the end of its window: what only waits for a server or for a pause may be done a moment later. */
    const size_t retired = life_find(life, KEY_RETIRED);
    if (retired < life->builder.lineage.key_count && life->builder.lineage.keys[retired].placements[0].drained_at != TIME_UNSET && life->clock.now < life->builder.lineage.keys[retired].revoke_at - DAY)
      life_edit_tables(life, signer, life->builder.lineage.keys[retired].selector);
    break;
  }
  case 2: life_lose_file(life, signer, active->selector, false); break;
  case 3: life_lose_file(life, signer, active->selector, true); break;
  case 4: life_forget(life, active->selector); break;
  case 5: life_contest(life, active->selector, true); break;
  default: tables_of(life, signer)->dead_until = life->moment + (int64_t)life_random(life, 3 * DAY); break;
  }
}

static void settle(struct life *life) {
  for (size_t i = 0; i < life->record_count; i++)
    for (size_t j = 0; j < LIFE_PUBLISHERS; j++)
      if (life_content(&life->records[i], j, life->moment) == LIFE_FOREIGN) life_contest(life, life->records[i].selector, false);
}

static void test_life_drift__disturbances_of_every_kind_heal(void **state) {
  struct life *life = *state;
  for (uint64_t seed = 0; seed < 12; seed++) {
    life_end(life);
    life_begin(life, seed);
    if (seed % 2) use_two_signers(life);
    life->builder.rules.standby = seed % 3 == 0;
    life_run_until(life, KEY_ACTIVE, DAY);
    for (int i = 0; i < 25; i++) {
      life_run(life, (int64_t)life_random(life, 9 * DAY));
      disturb(life);
    }
    settle(life);
    life_run(life, LIFE_RECOVERY);
    life_expect_well(life);
    life_run(life, 100 * DAY);
    life_expect_well(life);
  }
}

int main(void) {
#define LIFE_TEST(name) cmocka_unit_test_setup_teardown(test_life_drift__##name, begin, end)
  const struct CMUnitTest tests[] = {
      LIFE_TEST(each_key_is_proved_within_prove_every),
      LIFE_TEST(never_is_never),
      LIFE_TEST(a_clock_that_was_set_back_neither_ends_proofs_nor_spins),
      LIFE_TEST(lines_that_were_removed_are_written_again),
      LIFE_TEST(tables_from_a_backup_keep_the_old_key_verifiable),
      LIFE_TEST(what_cannot_be_mended_is_tried_with_pauses),
      LIFE_TEST(a_lost_key_file_brings_a_new_key),
      LIFE_TEST(a_standby_key_takes_over_at_once),
      LIFE_TEST(on_demand_only_still_replaces_a_lost_key),
      LIFE_TEST(a_copy_at_another_signer_spares_a_new_key),
      LIFE_TEST(a_file_that_is_put_back_is_enough),
      LIFE_TEST(a_hold_makes_no_key),
      LIFE_TEST(a_record_that_vanished_is_put_back),
      LIFE_TEST(a_foreign_record_stays_and_a_new_key_takes_over),
      LIFE_TEST(a_foreign_record_that_goes_soon_costs_no_key),
      LIFE_TEST(a_signer_that_is_down_is_proved_when_it_is_back),
      LIFE_TEST(a_switch_that_stopped_half_way_is_taken_back),
      LIFE_TEST(disturbances_of_every_kind_heal),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
