/* Whole lives of a lineage, years in milliseconds, over the pure lifecycle alone. What must hold at every step is judged by life_oracle.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/text.h"
#include "life_world.h"

enum { YEAR = 365 * DAY };

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

static struct key *active_key(struct life *life) { return lineage_active_key(&life->builder.lineage); }

static void hold(struct life *life, int64_t until) {
  life->builder.lineage.held = true;
  life->builder.lineage.hold_until = until;
  life_trace(life, "held");
}
static void release(struct life *life) {
  life->builder.lineage.held = false;
  life->builder.lineage.hold_until = TIME_UNSET;
  life_policy_changed(life);
}
static void ask_for_rotation(struct life *life) {
  life->builder.lineage.rotate_requested = true;
  life_policy_changed(life); /* wakes it as a request does */
  life_trace(life, "rotation is asked for");
}

/* ---- undisturbed ---- */

static void test_life__ten_years_are_forty_rotations(void **state) {
  struct life *life = *state;
  life_run(life, 10 * YEAR);
  /* The first key and one more every 90 days. */
  assert_int_equal(life->rotations, 10 * 365 / 90 + 1);
  assert_int_equal(life->failures, 0);
  life_expect_well(life);
}

static void test_life__the_first_key_signs_as_soon_as_caches_allow(void **state) {
  struct life *life = *state;
  life_run_until(life, KEY_ACTIVE, BUILDER_F1 + 5 * MINUTE);
  life_expect_well(life);
}

static void test_life__no_more_keys_live_than_the_policy_needs(void **state) {
  struct life *life = *state;
  for (int day = 0; day < 1000; day++) {
    life_run(life, DAY);
    assert_true(life->builder.lineage.key_count <= policy_living_keys(&life->builder.rules));
  }
}

static void test_life__without_tombstone_the_record_goes_at_the_end_of_the_window(void **state) {
  struct life *life = *state;
  life->builder.rules.tombstone = 0;
  life_run_until(life, KEY_RETIRED, 100 * DAY);
  life_run(life, BUILDER_WINDOW + HOUR);
  assert_int_equal(life->builder.lineage.key_count, 1);
  life_run(life, 3 * YEAR);
  for (size_t i = 0; i < life->record_count; i++) assert_int_equal(life->records[i].revoked_at, TIME_UNSET);
  life_expect_well(life);
}

static void test_life__standby_keys_wait_ready(void **state) {
  struct life *life = *state;
  for (unsigned standby = 1; standby <= 2; standby++) {
    life->builder.rules.standby = standby;
    life_policy_changed(life);
    life_run(life, 2 * DAY);
    for (int i = 0; i < 60; i++) {
      size_t ready = 0;
      for (size_t j = 0; j < life->builder.lineage.key_count; j++) ready += life->builder.lineage.keys[j].state == KEY_READY;
      assert_true(ready + 1 >= standby); /* one of them may have just taken over */
      life_run(life, 9 * DAY);
    }
    life_expect_well(life);
  }
}

static void test_life__on_demand_only_rotates_on_demand_only(void **state) {
  struct life *life = *state;
  life->builder.rules.rotate_every = TIME_NEVER;
  life_run(life, YEAR);
  assert_int_equal(life->rotations, 1);
  ask_for_rotation(life);
  life_run(life, DAY);
  assert_int_equal(life->rotations, 2);
  assert_false(life->builder.lineage.rotate_requested);
  life_run(life, YEAR);
  assert_int_equal(life->rotations, 2);
  life_expect_well(life);
}

/* ---- requests ---- */

static void test_life__rotation_in_every_state_brings_a_new_key_within_a_day(void **state) {
  (void)state;
  for (enum key_state at = KEY_RESERVED; at <= KEY_REVOKED; at++)
    for (unsigned standby = 0; standby <= 2; standby++) {
      struct life *life = &world;
      life_end(life);
      life_begin(life, at * 10 + standby);
      life->builder.rules.standby = standby;
      life_run_until(life, KEY_ACTIVE, DAY);
      if (at == KEY_RESERVED) life->fault = (struct life_fault){.action = PLAN_GENERATE, .times = 1, .code = ERROR_TIMEOUT, .retryable = true};
      life_run_until(life, at, 130 * DAY);
      const size_t before = life->rotations;
      ask_for_rotation(life);
      life_run(life, DAY);
      if (life->rotations == before) oracle_fail(life, "no rotation came of it");
      assert_false(life->builder.lineage.rotate_requested);
      life_expect_well(life);
      life_run(life, 50 * DAY);
      life_expect_well(life);
    }
}

static void test_life__rotations_at_odd_moments_harm_nothing(void **state) {
  struct life *life = *state;
  for (int i = 0; i < 150; i++) {
    life_run(life, (int64_t)life_random(life, 12 * DAY));
    ask_for_rotation(life);
  }
  life_run(life, LIFE_RECOVERY);
  life_expect_well(life);
  assert_true(life->rotations > 100);
}

static void test_life__a_burst_of_rotations_stops_at_the_limit_and_goes_on(void **state) {
  struct life *life = *state;
  for (int i = 0; i < 80; i++) {
    life_run(life, 2 * HOUR);
    ask_for_rotation(life);
    assert_true(life->builder.lineage.key_count <= LINEAGE_KEYS_MAX);
  }
  assert_int_equal(life->builder.lineage.key_count, LINEAGE_KEYS_MAX);
  life_run(life, 60 * DAY);
  assert_false(life->builder.lineage.rotate_requested);
  life_expect_well(life);
}

static void test_life__a_hold_keeps_everything_as_it_is_in_every_state(void **state) {
  (void)state;
  for (enum key_state at = KEY_RESERVED; at <= KEY_REVOKED; at++) {
    struct life *life = &world;
    life_end(life);
    life_begin(life, at);
    life_run_until(life, KEY_ACTIVE, DAY);
    if (at == KEY_RESERVED) life->fault = (struct life_fault){.action = PLAN_GENERATE, .times = 1, .code = ERROR_TIMEOUT, .retryable = true};
    life_run_until(life, at, 130 * DAY);
    char selector[SELECTOR_SIZE];
    text_copy(selector, sizeof selector, active_key(life)->selector);
    hold(life, TIME_NEVER);
    life_run(life, 300 * DAY);
    assert_string_equal(active_key(life)->selector, selector);
    release(life);
    life_run(life, LIFE_RECOVERY);
    life_expect_well(life);
    life_run(life, 100 * DAY);
    life_expect_well(life);
  }
}

static void test_life__a_hold_with_an_end_ends(void **state) {
  struct life *life = *state;
  life_run_until(life, KEY_ACTIVE, DAY);
  hold(life, life->moment + 120 * DAY);
  life_run(life, 119 * DAY);
  assert_int_equal(life->rotations, 1);
  life_run(life, 1 * DAY + LIFE_RECOVERY);
  assert_int_equal(life->rotations, 2);
  life_expect_well(life);
}

/* ---- failures ---- */

static const enum plan_action effects[] = {PLAN_GENERATE, PLAN_PUBLISH, PLAN_CONFIRM,        PLAN_ACTIVATE, PLAN_WITHDRAW,
                                           PLAN_REVOKE,   PLAN_DELETE,  PLAN_CONFIRM_ABSENT, PLAN_DESTROY};

static void fail_in_two_rotations(struct life_fault fault) {
  struct life *life = &world;
  life_end(life);
  life_begin(life, (uint64_t)fault.action * 100 + fault.times);
  for (int i = 0; i < 4; i++) {
    life->fault = fault;
    life_run(life, 50 * DAY);
    life_expect_well(life);
  }
  life->fault = (struct life_fault){0};
  life_run(life, LIFE_RECOVERY);
  life_expect_well(life);
}

static void test_life__each_step_may_fail_a_few_times(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof effects / sizeof effects[0]; i++)
    for (unsigned times = 1; times <= 7; times += 6) {
      fail_in_two_rotations((struct life_fault){.action = effects[i], .times = times, .code = ERROR_TIMEOUT, .retryable = true});
      fail_in_two_rotations((struct life_fault){.action = effects[i], .times = times, .code = ERROR_REFUSED});
    }
}

static void test_life__each_step_may_be_cut_off_after_its_effect(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof effects / sizeof effects[0]; i++)
    for (unsigned times = 1; times <= 3; times += 2) fail_in_two_rotations((struct life_fault){.action = effects[i], .times = times, .effect = true});
}

static void test_life__a_taken_selector_costs_its_number(void **state) {
  (void)state;
  fail_in_two_rotations((struct life_fault){.action = PLAN_GENERATE, .times = 3, .code = ERROR_CONFLICT});
  fail_in_two_rotations((struct life_fault){.action = PLAN_GENERATE, .times = 1, .code = ERROR_EXISTS});
  size_t numbered = 0;
  for (size_t i = 0; i < world.record_count; i++) numbered += strchr(world.records[i].selector, '-') != NULL;
  assert_true(numbered > 0);
}

static void test_life__a_step_that_failed_for_a_month_recovers(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof effects / sizeof effects[0]; i++) {
    struct life *life = &world;
    life_end(life);
    life_begin(life, i);
    life_run_until(life, KEY_ACTIVE, DAY);
    life_run(life, i % 2 ? 70 * DAY : 0);
    life->fault = (struct life_fault){.action = effects[i], .permille = 1000, .code = i % 2 ? ERROR_REFUSED : ERROR_TIMEOUT, .retryable = i % 2 == 0};
    life_run(life, 130 * DAY);
    assert_true(life->failures > 5);
    assert_true(life->failures < 6000);
    life->fault = (struct life_fault){0};
    life_run(life, LIFE_RECOVERY);
    life_expect_well(life);
  }
}

/* The primary refuses everything while one key is to come and another is to go: each has a pause that grows, and neither makes the other's begin anew. */
static void test_life__keys_that_come_and_keys_that_go_fail_in_turn_with_pauses_that_grow(void **state) {
  struct life *life = *state;
  for (size_t i = 0; i < 2; i++) {
    life_end(life);
    life_begin(life, i);
    life_run_until(life, KEY_ACTIVE, DAY);
    life_run_until(life, KEY_RETIRED, 130 * DAY);
    life->builder.lineage.rotate_requested = true;
    life->fault = (struct life_fault){.action = PLAN_NONE, .permille = 1000, .code = i ? ERROR_REFUSED : ERROR_TIMEOUT, .retryable = !i};
    life_run(life, 30 * DAY); /* the old key's window ends within these */
    const size_t before = life->failures;
    life_run(life, 10 * DAY);
    /* Steps of five keys and proofs of the one that signs: once an hour each at most, and once a day where nothing will come of it by itself. */
    assert_in_range(life->failures - before, i ? 30 : 400, (i ? 2 : 6) * 24 * 10);
    life->fault = (struct life_fault){0};
    life_run(life, LIFE_RECOVERY);
    life_expect_well(life);
  }
}

static void test_life__a_dead_server_delays_and_no_more(void **state) {
  struct life *life = *state;
  life->server_count = 3;
  life_run_until(life, KEY_ACTIVE, DAY);
  for (size_t i = 0; i < 3; i++) {
    life_run_until(life, KEY_READY, 100 * DAY);
    life->servers[i].dead_until = life->moment + 40 * DAY;
    life_run(life, 40 * DAY);
    assert_non_null(active_key(life));
    life_run(life, LIFE_RECOVERY);
    life_expect_well(life);
  }
}

static void test_life__a_server_without_route_is_excused_by_its_other_address(void **state) {
  struct life *life = *state;
  life->server_count = 3;
  life->servers[2].routeless = true;
  life_run(life, 200 * DAY);
  assert_int_equal(life->rotations, 3);
  life_expect_well(life);
  life->servers[1].dead_until = life->moment + 200 * DAY; /* nobody speaks for the host any more */
  life_run(life, 150 * DAY);
  assert_int_equal(life->rotations, 3);
  life_run(life, 50 * DAY + LIFE_RECOVERY);
  assert_int_equal(life->rotations, 4);
  life_expect_well(life);
}

static void test_life__a_lagging_server_is_waited_for(void **state) {
  struct life *life = *state;
  life->server_count = 4;
  life->servers[3].lag = 7 * HOUR;
  life_run(life, YEAR);
  assert_int_equal(life->rotations, 5);
  life_expect_well(life);
}

static void test_life__a_primary_that_forgets_is_healed_in_every_state(void **state) {
  (void)state;
  for (enum key_state at = KEY_PUBLISHED; at <= KEY_RETIRED; at++) {
    struct life *life = &world;
    life_end(life);
    life_begin(life, at);
    life_run_until(life, KEY_ACTIVE, DAY);
    const size_t index = life_run_until(life, at, 100 * DAY);
    life_forget(life, life->builder.lineage.keys[index].selector);
    life_run(life, at == KEY_PUBLISHED ? 2 * HOUR : DAY);
    life_expect_well(life);
    life_run(life, 200 * DAY);
    life_expect_well(life);
  }
}

static void test_life__two_signers_of_which_one_is_dead_at_the_switch(void **state) {
  struct life *life = *state;
  const size_t both[] = {1, 2};
  builder_define_signer(&life->builder, 2, "second", "");
  builder_use_signers(&life->builder, both, 2);
  life_run(life, 89 * DAY);
  for (size_t i = 0; i < 2; i++) {
    const size_t before = life->rotations;
    life->tables[i].dead_until = life->moment + 20 * DAY;
    life_run(life, 20 * DAY);
    assert_int_equal(life->rotations, before); /* the old key is active until the last signer follows */
    life_run(life, LIFE_RECOVERY);
    assert_int_equal(life->rotations, before + 1);
    life_expect_well(life);
    life_run(life, 85 * DAY);
  }
}

/* ---- everything at once ---- */

static void shake(struct life *life) {
  struct lineage *lineage = &life->builder.lineage;
  const uint64_t length = 1 + life_random(life, 5 * DAY);
  switch (life_random(life, 12)) {
  case 0: life->servers[life_random(life, life->server_count)].dead_until = life->moment + (int64_t)length; break;
  case 1: life->servers[1 + life_random(life, life->server_count - 1)].lag = (int64_t)life_random(life, 2 * HOUR); break;
  case 2: life->fault.permille = (unsigned)life_random(life, 500); break;
  case 3: life->fault.times = (unsigned)life_random(life, 12); break;
  case 4: life->fault.code = life_random(life, 2) ? ERROR_REFUSED : ERROR_TIMEOUT; break;
  case 5: life->fault.retryable = life_random(life, 2); break;
  case 6: life->fault.effect = life_random(life, 4) == 0; break;
  case 7: life->fault.action = (enum plan_action)life_random(life, 12); break;
  case 8: ask_for_rotation(life); break;
  case 9: hold(life, life->moment + (int64_t)length); break;
  case 10:
    if (lineage->key_count > 0) life_forget(life, lineage->keys[life_random(life, lineage->key_count)].selector);
    break;
  default: life->tables[0].dead_until = life->moment + (int64_t)length; break;
  }
}

/* Faults stop, and what was wrong heals within the time that is promised. */
static void calm(struct life *life) {
  life->fault = (struct life_fault){.code = ERROR_TIMEOUT, .retryable = true};
  for (size_t i = 0; i < LIFE_SERVERS_MAX; i++) life->servers[i].dead_until = 0;
  for (size_t i = 0; i < LIFE_TABLES_MAX; i++) life->tables[i].dead_until = 0;
  life->builder.lineage.held = false;
  life_trace(life, "calm");
}

static void test_life__random_faults_heal_when_they_stop(void **state) {
  (void)state;
  size_t rotations = 0, failures = 0;
  for (uint64_t seed = 1; seed <= 24; seed++) {
    struct life *life = &world;
    life_end(life);
    life_begin(life, seed);
    life->server_count = 2 + seed % 3;
    life->builder.rules.standby = seed % 5 == 0 ? 2 : seed % 3 == 0;
    life->builder.rules.tombstone = seed % 2 ? BUILDER_TOMBSTONE : 0;
    for (int round = 0; round < 2; round++) {
      for (int i = 0; i < 40; i++) {
        shake(life);
        life_run(life, (int64_t)life_random(life, 3 * DAY));
      }
      calm(life);
      life_run(life, LIFE_RECOVERY);
      life_expect_well(life);
    }
    rotations += life->rotations;
    failures += life->failures;
  }
  assert_true(rotations > 100);
  assert_true(failures > 1000);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_life__ten_years_are_forty_rotations, begin, end),
      cmocka_unit_test_setup_teardown(test_life__the_first_key_signs_as_soon_as_caches_allow, begin, end),
      cmocka_unit_test_setup_teardown(test_life__no_more_keys_live_than_the_policy_needs, begin, end),
      cmocka_unit_test_setup_teardown(test_life__without_tombstone_the_record_goes_at_the_end_of_the_window, begin, end),
      cmocka_unit_test_setup_teardown(test_life__standby_keys_wait_ready, begin, end),
      cmocka_unit_test_setup_teardown(test_life__on_demand_only_rotates_on_demand_only, begin, end),
      cmocka_unit_test_setup_teardown(test_life__rotation_in_every_state_brings_a_new_key_within_a_day, begin, end),
      cmocka_unit_test_setup_teardown(test_life__rotations_at_odd_moments_harm_nothing, begin, end),
      cmocka_unit_test_setup_teardown(test_life__a_burst_of_rotations_stops_at_the_limit_and_goes_on, begin, end),
      cmocka_unit_test_setup_teardown(test_life__a_hold_keeps_everything_as_it_is_in_every_state, begin, end),
      cmocka_unit_test_setup_teardown(test_life__a_hold_with_an_end_ends, begin, end),
      cmocka_unit_test_setup_teardown(test_life__each_step_may_fail_a_few_times, begin, end),
      cmocka_unit_test_setup_teardown(test_life__each_step_may_be_cut_off_after_its_effect, begin, end),
      cmocka_unit_test_setup_teardown(test_life__a_taken_selector_costs_its_number, begin, end),
      cmocka_unit_test_setup_teardown(test_life__a_step_that_failed_for_a_month_recovers, begin, end),
      cmocka_unit_test_setup_teardown(test_life__keys_that_come_and_keys_that_go_fail_in_turn_with_pauses_that_grow, begin, end),
      cmocka_unit_test_setup_teardown(test_life__a_dead_server_delays_and_no_more, begin, end),
      cmocka_unit_test_setup_teardown(test_life__a_server_without_route_is_excused_by_its_other_address, begin, end),
      cmocka_unit_test_setup_teardown(test_life__a_lagging_server_is_waited_for, begin, end),
      cmocka_unit_test_setup_teardown(test_life__a_primary_that_forgets_is_healed_in_every_state, begin, end),
      cmocka_unit_test_setup_teardown(test_life__two_signers_of_which_one_is_dead_at_the_switch, begin, end),
      cmocka_unit_test_setup_teardown(test_life__random_faults_heal_when_they_stop, begin, end),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
