/* Lives under clocks that are set, jump, or that nobody vouches for. The oracle (life_oracle.c) counts in true time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

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

static const enum key_state all_states[] = {KEY_PUBLISHED, KEY_READY, KEY_ACTIVE, KEY_RETIRED, KEY_REVOKED};
enum { STATES = sizeof all_states / sizeof all_states[0], YEAR = 365 * DAY };

static void begin_at(struct life *life, enum key_state state) {
  life_end(life);
  life_begin(life, state);
  life_run_until(life, KEY_ACTIVE, DAY);
  life_run_until(life, state, 130 * DAY);
}

static void test_life_clock__ten_years_forward_within_a_boot_hurry_nothing(void **state) {
  struct life *life = *state;
  for (size_t i = 0; i < STATES; i++) {
    begin_at(life, all_states[i]);
    life_set_wall(life, 10 * YEAR, false);
    life_run(life, 30 * DAY); /* the oracle would see a window that is cut short */
    life_set_wall(life, 0, true);
    life_run(life, LIFE_RECOVERY);
    life_expect_well(life);
    life_run(life, 100 * DAY);
    life_expect_well(life);
  }
}

static void test_life_clock__ten_years_forward_at_a_boot_end_nothing(void **state) {
  struct life *life = *state;
  for (size_t i = 0; i < STATES; i++) {
    begin_at(life, all_states[i]);
    const size_t rotations = life->rotations;
    life_reboot(life, 10 * YEAR, false);
    life_run(life, 30 * DAY);
    assert_int_equal(life->rotations, rotations);
    life_set_wall(life, 0, true);
    life_run(life, LIFE_RECOVERY);
    life_expect_well(life);
    life_run(life, 100 * DAY);
    life_expect_well(life);
  }
}

static void test_life_clock__back_in_time_everything_waits_and_goes_on(void **state) {
  struct life *life = *state;
  for (size_t i = 0; i < STATES; i++) {
    begin_at(life, all_states[i]);
    life_set_wall(life, -3 * YEAR, false);
    life_run(life, 20 * DAY);
    life_set_wall(life, 0, true);
    life_run(life, LIFE_RECOVERY);
    life_expect_well(life);
    life_run(life, 100 * DAY);
    life_expect_well(life);
  }
}

static void test_life_clock__a_boot_without_a_clock_is_healed_by_a_signed_reply(void **state) {
  struct life *life = *state;
  for (size_t i = 0; i < STATES; i++) {
    begin_at(life, all_states[i]);
    life_reboot(life, 0, false);
    life_run(life, 150 * DAY);
    life_expect_well(life);
    assert_true(life->clock.attested);
  }
}

static void test_life_clock__nobody_vouches_and_nothing_switches_or_ends(void **state) {
  struct life *life = *state;
  for (size_t i = 0; i < STATES; i++) {
    begin_at(life, all_states[i]);
    const size_t rotations = life->rotations;
    life->tsig = false;
    life_reboot(life, 0, false);
    life_run(life, 200 * DAY);
    assert_int_equal(life->rotations, rotations);
    life->tsig = true;
    life_run(life, LIFE_RECOVERY);
    life_expect_well(life);
  }
}

static void test_life_clock__a_clock_that_jumps_every_week(void **state) {
  struct life *life = *state;
  for (uint64_t seed = 1; seed <= 4; seed++) {
    life_end(life);
    life_begin(life, seed);
    for (int week = 0; week < 60; week++) {
      const int64_t magnitude = INT64_C(1) << life_random(life, 28);
      const int64_t error = life_random(life, 3) == 0 ? 0 : life_random(life, 2) ? magnitude : -magnitude;
      const bool wrong = error < -300 || error > 300; /* a little wrong is right, and TSIG would vouch for it */
      if (life_random(life, 3) == 0)
        life_reboot(life, wrong ? error : 0, !wrong && life_random(life, 2));
      else
        life_set_wall(life, wrong ? error : 0, !wrong && life_random(life, 2));
      life_run(life, 7 * DAY);
    }
    life_set_wall(life, 0, true);
    life_run(life, LIFE_RECOVERY);
    life_expect_well(life);
  }
}

/* A host without a clock of its own publishes and looks, and then a time service sets it right: what was seen only just now seems to be long ago. */
static void test_life_clock__a_boot_behind_that_is_set_right_starts_the_wait_anew(void **state) {
  struct life *life = *state;
  static const int64_t behind[] = {HOUR, DAY, 400 * DAY, 30 * YEAR};
  for (size_t i = 0; i < 2 * sizeof behind / sizeof behind[0]; i++) {
    life_end(life);
    life_begin(life, i + 1);
    life_run_until(life, KEY_ACTIVE, DAY);
    life_reboot(life, -behind[i / 2], false);
    life->builder.lineage.rotate_requested = true;
    life_run(life, 10 * MINUTE);
    assert_true(life_find(life, KEY_PUBLISHED) < life->builder.lineage.key_count);
    if (i % 2 == 0)
      life_set_wall(life, 0, true);
    else
      life_reboot(life, 0, true); /* what the other boot stamped is not known any more by how much it was wrong */
    life_run_until(life, KEY_RETIRED, DAY); /* the oracle would see that it signs too early */
    life_run(life, LIFE_RECOVERY);
    life_expect_well(life);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_life_clock__a_boot_behind_that_is_set_right_starts_the_wait_anew, begin, end),
      cmocka_unit_test_setup_teardown(test_life_clock__ten_years_forward_within_a_boot_hurry_nothing, begin, end),
      cmocka_unit_test_setup_teardown(test_life_clock__ten_years_forward_at_a_boot_end_nothing, begin, end),
      cmocka_unit_test_setup_teardown(test_life_clock__back_in_time_everything_waits_and_goes_on, begin, end),
      cmocka_unit_test_setup_teardown(test_life_clock__a_boot_without_a_clock_is_healed_by_a_signed_reply, begin, end),
      cmocka_unit_test_setup_teardown(test_life_clock__nobody_vouches_and_nothing_switches_or_ends, begin, end),
      cmocka_unit_test_setup_teardown(test_life_clock__a_clock_that_jumps_every_week, begin, end),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
