/* A policy that is changed while keys are under way: every state of a key times every change. The oracle (life_oracle.c) judges each step. */
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

static const size_t one_signer[] = {1}, two_signers[] = {1, 2}, other_signer[] = {2};

/* A lineage that has signed, with the key of interest in that state; for all but the last two it is the successor. The world's key index. */
static size_t begin_at(struct life *life, enum key_state state) {
  life_end(life);
  life_begin(life, state);
  builder_define_signer(&life->builder, 2, "second", "");
  life_run_until(life, KEY_ACTIVE, DAY);
  life_run(life, 10 * DAY); /* so that selectors of another day are made */
  if (state == KEY_RESERVED) life->fault = (struct life_fault){.action = PLAN_GENERATE, .times = 1, .code = ERROR_TIMEOUT, .retryable = true};
  return life_run_until(life, state, 130 * DAY);
}

/* Runs until the active key is another one. */
static const struct key *next_active(struct life *life) {
  const size_t before = life->rotations;
  const int64_t until = life->moment + 100 * DAY;
  while (life->rotations == before)
    if (!life_step(life, until)) oracle_fail(life, "no rotation for 100 days");
  return lineage_active_key(&life->builder.lineage);
}

static void settle(struct life *life) {
  life_run(life, LIFE_RECOVERY);
  life_expect_well(life);
}

/* ---- another kind of key ---- */

/* What is published goes its way, what is not is dropped; one rotation later at the latest the new kind signs. */
static void expect_new_kind(struct life *life, enum key_state at, enum key_algorithm algorithm, unsigned bits) {
  const struct key *key = next_active(life);
  const bool went_its_way = at == KEY_PUBLISHED || at == KEY_READY;
  assert_int_equal(key->algorithm == algorithm && key->bits == bits, !went_its_way);
  if (went_its_way) key = next_active(life);
  assert_int_equal(key->algorithm, algorithm);
  assert_int_equal(key->bits, bits);
  settle(life);
}

static void test_life_policy__another_algorithm_in_every_state(void **state) {
  struct life *life = *state;
  for (enum key_state at = KEY_RESERVED; at <= KEY_REVOKED; at++) {
    begin_at(life, at);
    life->builder.slots[0].algorithm = KEY_ALGORITHM_ED25519;
    life->builder.slots[0].bits = 256;
    life_policy_changed(life);
    expect_new_kind(life, at, KEY_ALGORITHM_ED25519, 256);
  }
}

static void test_life_policy__other_bits_in_every_state(void **state) {
  struct life *life = *state;
  for (enum key_state at = KEY_RESERVED; at <= KEY_REVOKED; at++) {
    begin_at(life, at);
    life->builder.slots[0].bits = 4096;
    life_policy_changed(life);
    expect_new_kind(life, at, KEY_ALGORITHM_RSA, 4096);
  }
}

static void test_life_policy__an_algorithm_that_comes_back_before_the_key_is_dropped(void **state) {
  struct life *life = *state;
  for (enum key_state at = KEY_RESERVED; at <= KEY_GENERATED; at++)
    for (unsigned effect = 0; effect < 2; effect++) {
      begin_at(life, at);
      if (at == KEY_GENERATED) { /* its publication was begun, and nobody knows whether it was done */
        life->fault = (struct life_fault){.action = PLAN_PUBLISH, .times = 1, .code = ERROR_TIMEOUT, .retryable = true, .effect = effect};
        while (life->fault.times > 0) life_step(life, life->moment + DAY);
      }
      life->fault = (struct life_fault){0};
      life->builder.slots[0].bits = 4096;
      life_policy_changed(life);
      life_step(life, life->moment + DAY); /* a key of the new kind is begun */
      life->builder.slots[0].bits = 2048;
      life_policy_changed(life);
      assert_int_equal(next_active(life)->bits, 2048);
      settle(life);
    }
}

static void test_life_policy__a_begun_publication_of_an_unwanted_key_is_undone(void **state) {
  struct life *life = *state;
  for (unsigned effect = 0; effect < 2; effect++) {
    const size_t index = begin_at(life, KEY_GENERATED);
    char selector[SELECTOR_SIZE];
    text_copy(selector, sizeof selector, life->builder.lineage.keys[index].selector);
    life->fault = (struct life_fault){.action = PLAN_PUBLISH, .times = 1, .code = ERROR_TIMEOUT, .retryable = true, .effect = effect};
    while (life->fault.times > 0) life_step(life, life->moment + DAY);
    life->builder.slots[0].bits = 4096;
    life_policy_changed(life);
    settle(life);
    assert_null(lineage_find_key(&life->builder.lineage, selector));
    assert_int_equal(life_content(life_record(life, selector), 0, life->moment), LIFE_ABSENT);
  }
}

static void test_life_policy__another_selector_template_in_every_state(void **state) {
  struct life *life = *state;
  for (enum key_state at = KEY_RESERVED; at <= KEY_REVOKED; at++) {
    begin_at(life, at);
    life->builder.slots[0].selector = (char *)"mx-%j";
    life_policy_changed(life);
    if (at < KEY_ACTIVE) assert_true(text_starts(next_active(life)->selector, "s2027")); /* taken for ever, whatever the template says now */
    assert_true(text_starts(next_active(life)->selector, "mx-"));
    settle(life);
  }
}

static void test_life_policy__a_template_without_a_date_numbers_its_keys(void **state) {
  struct life *life = *state;
  life->builder.slots[0].selector = (char *)"fixed";
  life_run(life, 3 * 365 * DAY);
  assert_string_equal(lineage_active_key(&life->builder.lineage)->selector, "fixed-13");
  life_expect_well(life);
}

/* ---- another place ---- */

static void test_life_policy__another_publisher_in_every_state(void **state) {
  struct life *life = *state;
  for (enum key_state at = KEY_RESERVED; at <= KEY_REVOKED; at++)
    for (unsigned copied = 0; copied < 2; copied++) {
      begin_at(life, at);
      life_move(life, 1, copied);
      settle(life); /* what mail needs was taken along or is put there */
      next_active(life);
      life_run(life, 80 * DAY);
      life_expect_well(life);
      life_move(life, 0, copied);
      settle(life);
    }
}

/* ---- other times ---- */

static void test_life_policy__longer_and_shorter_windows_in_every_state(void **state) {
  struct life *life = *state;
  for (enum key_state at = KEY_RESERVED; at <= KEY_REVOKED; at++)
    for (int longer = 0; longer < 2; longer++) {
      begin_at(life, at);
      struct policy_rules *rules = &life->builder.rules;
      rules->queue_lifetime = longer ? 20 * DAY : DAY;
      rules->verify_window = longer ? 9 * DAY : HOUR;
      rules->drain = longer ? 2 * DAY : 0;
      rules->tombstone = longer ? 60 * DAY : DAY;
      rules->publish_safety = longer ? 5 * HOUR : 0;
      rules->confirm_every = longer ? 300 : 1;
      rules->confirm_sightings = longer ? 5 : 1;
      life_policy_changed(life);
      settle(life);
      life_run(life, 200 * DAY);
      life_expect_well(life);
    }
}

static void test_life_policy__a_longer_and_a_shorter_life_in_every_state(void **state) {
  struct life *life = *state;
  for (enum key_state at = KEY_RESERVED; at <= KEY_REVOKED; at++)
    for (int longer = 0; longer < 2; longer++) {
      begin_at(life, at);
      life->builder.rules.rotate_every = longer ? 365 * DAY : 7 * DAY;
      life_policy_changed(life);
      settle(life);
      const size_t before = life->rotations;
      life_run(life, 140 * DAY);
      if (longer)
        assert_true(life->rotations <= before + 1);
      else
        assert_true(life->rotations >= before + 19);
      life_expect_well(life);
    }
}

/* DESIGN: a promised window may only grow, although the policy that made it longer is gone. */
static void test_life_policy__a_window_that_was_made_longer_stays_longer(void **state) {
  struct life *life = *state;
  const size_t index = begin_at(life, KEY_RETIRED);
  const struct key *key = &life->builder.lineage.keys[index];
  const int64_t promised = key->revoke_at;
  life->builder.rules.verify_window += 10 * DAY;
  life_policy_changed(life);
  life_run(life, DAY);
  assert_int_equal(key->revoke_at, promised + 10 * DAY);
  life->builder.rules.verify_window = HOUR;
  life_policy_changed(life);
  life_run(life, 15 * DAY);
  assert_int_equal(key->state, KEY_RETIRED);
  assert_int_equal(key->revoke_at, promised + 10 * DAY);
  life_run(life, 4 * DAY);
  assert_int_equal(key->state, KEY_REVOKED);
}

static void test_life_policy__the_tombstone_comes_and_goes_in_every_state(void **state) {
  struct life *life = *state;
  for (enum key_state at = KEY_RESERVED; at <= KEY_REVOKED; at++)
    for (int64_t first = 0; first <= BUILDER_TOMBSTONE; first += BUILDER_TOMBSTONE) {
      if (first == 0 && at == KEY_REVOKED) continue; /* without a tombstone nothing is revoked */
      life_end(life);
      life_begin(life, at);
      life->builder.rules.tombstone = first;
      life_run_until(life, KEY_ACTIVE, DAY);
      if (at > KEY_GENERATED) life_run_until(life, at, 130 * DAY);
      life->builder.rules.tombstone = BUILDER_TOMBSTONE - first;
      life_policy_changed(life);
      settle(life);
      life_run(life, 150 * DAY);
      life_expect_well(life);
    }
}

static void test_life_policy__standby_comes_and_goes_in_every_state(void **state) {
  struct life *life = *state;
  for (enum key_state at = KEY_RESERVED; at <= KEY_REVOKED; at++) {
    begin_at(life, at);
    for (unsigned standby = 2; standby < 3; standby -= 1) {
      life->builder.rules.standby = standby;
      life_policy_changed(life);
      settle(life);
      life_run(life, 100 * DAY);
      life_expect_well(life);
    }
  }
}

/* ---- out of the policy ---- */

static void test_life_policy__a_domain_that_is_gone_is_left_alone_until_it_is_back(void **state) {
  struct life *life = *state;
  for (enum key_state at = KEY_RESERVED; at <= KEY_REVOKED; at++) {
    begin_at(life, at);
    const size_t count = life->builder.lineage.key_count, rotations = life->rotations;
    life->builder.lineage.managed = false;
    life_run(life, 200 * DAY); /* the oracle refuses every step */
    assert_int_equal(life->builder.lineage.key_count, count);
    assert_int_equal(life->rotations, rotations);
    assert_true(life->plan.needs_person);
    life->builder.lineage.managed = true;
    life_policy_changed(life);
    settle(life);
    next_active(life);
    settle(life);
  }
}

static void test_life_policy__a_slot_that_is_gone_signs_on_until_it_is_back(void **state) {
  struct life *life = *state;
  for (enum key_state at = KEY_RESERVED; at <= KEY_REVOKED; at++) {
    begin_at(life, at);
    life->builder.slots[0].slot = (char *)"other";
    life_policy_changed(life);
    life_run(life, 300 * DAY);
    assert_non_null(lineage_active_key(&life->builder.lineage));
    life->builder.slots[0].slot = (char *)"main";
    life_policy_changed(life);
    settle(life);
    next_active(life);
    settle(life);
  }
}

/* ---- signers ---- */

static void test_life_policy__a_signer_that_is_added_signs_within_the_hour_in_every_state(void **state) {
  struct life *life = *state;
  for (enum key_state at = KEY_RESERVED; at <= KEY_REVOKED; at++) {
    begin_at(life, at);
    builder_use_signers(&life->builder, two_signers, 2);
    life_policy_changed(life);
    life_run(life, HOUR);
    assert_string_equal(life_tables(life, &life->builder.signers[1])->signs, lineage_active_key(&life->builder.lineage)->selector);
    settle(life);
    next_active(life);
    life_run(life, 80 * DAY);
    life_expect_well(life);
    assert_int_equal(life_tables(life, &life->builder.signers[0])->named_count, 1);
    assert_int_equal(life_tables(life, &life->builder.signers[1])->named_count, 1);
  }
}

static void test_life_policy__a_signer_that_is_removed_is_cleaned_up_in_every_state(void **state) {
  struct life *life = *state;
  for (enum key_state at = KEY_RESERVED; at <= KEY_REVOKED; at++) {
    life_end(life);
    life_begin(life, at);
    builder_define_signer(&life->builder, 2, "second", "");
    builder_use_signers(&life->builder, two_signers, 2);
    life_run_until(life, KEY_ACTIVE, DAY);
    if (at == KEY_RESERVED) life->fault = (struct life_fault){.action = PLAN_GENERATE, .times = 1, .code = ERROR_TIMEOUT, .retryable = true};
    life_run_until(life, at, 130 * DAY);
    builder_use_signers(&life->builder, one_signer, 1);
    life_policy_changed(life);
    settle(life);
    next_active(life);
    life_run(life, 80 * DAY);
    life_expect_well(life);
    assert_int_equal(life_tables(life, &life->builder.signers[1])->named_count, 0);
  }
}

static void test_life_policy__a_signer_that_takes_the_place_of_another_in_every_state(void **state) {
  struct life *life = *state;
  for (enum key_state at = KEY_RESERVED; at <= KEY_REVOKED; at++) {
    begin_at(life, at);
    builder_use_signers(&life->builder, other_signer, 1);
    life_policy_changed(life);
    settle(life);
    next_active(life);
    life_run(life, 80 * DAY);
    life_expect_well(life);
    assert_int_equal(life_tables(life, &life->builder.signers[0])->named_count, 0);
    builder_use_signers(&life->builder, one_signer, 1); /* and back */
    life_policy_changed(life);
    settle(life);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_life_policy__another_algorithm_in_every_state, begin, end),
      cmocka_unit_test_setup_teardown(test_life_policy__other_bits_in_every_state, begin, end),
      cmocka_unit_test_setup_teardown(test_life_policy__an_algorithm_that_comes_back_before_the_key_is_dropped, begin, end),
      cmocka_unit_test_setup_teardown(test_life_policy__a_begun_publication_of_an_unwanted_key_is_undone, begin, end),
      cmocka_unit_test_setup_teardown(test_life_policy__another_selector_template_in_every_state, begin, end),
      cmocka_unit_test_setup_teardown(test_life_policy__a_template_without_a_date_numbers_its_keys, begin, end),
      cmocka_unit_test_setup_teardown(test_life_policy__another_publisher_in_every_state, begin, end),
      cmocka_unit_test_setup_teardown(test_life_policy__longer_and_shorter_windows_in_every_state, begin, end),
      cmocka_unit_test_setup_teardown(test_life_policy__a_longer_and_a_shorter_life_in_every_state, begin, end),
      cmocka_unit_test_setup_teardown(test_life_policy__a_window_that_was_made_longer_stays_longer, begin, end),
      cmocka_unit_test_setup_teardown(test_life_policy__the_tombstone_comes_and_goes_in_every_state, begin, end),
      cmocka_unit_test_setup_teardown(test_life_policy__standby_comes_and_goes_in_every_state, begin, end),
      cmocka_unit_test_setup_teardown(test_life_policy__a_domain_that_is_gone_is_left_alone_until_it_is_back, begin, end),
      cmocka_unit_test_setup_teardown(test_life_policy__a_slot_that_is_gone_signs_on_until_it_is_back, begin, end),
      cmocka_unit_test_setup_teardown(test_life_policy__a_signer_that_is_added_signs_within_the_hour_in_every_state, begin, end),
      cmocka_unit_test_setup_teardown(test_life_policy__a_signer_that_is_removed_is_cleaned_up_in_every_state, begin, end),
      cmocka_unit_test_setup_teardown(test_life_policy__a_signer_that_takes_the_place_of_another_in_every_state, begin, end),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
