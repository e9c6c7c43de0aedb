#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dkimroll/engine_clock.h"
#include "dkimroll/text.h"

enum { WALL = 1800000000, DAY = 86400 };

static struct clock_reading reading_at(int64_t milliseconds, int64_t gained) {
  return (struct clock_reading){
      .wall = WALL + milliseconds / 1000 + gained, .boottime = 5000 + milliseconds, .boot_id = "boot"};
}

static struct store_clock stored_at_start(bool attested) {
  return (struct store_clock){
      .boot_id = "boot", .wall = WALL, .boottime = 5000, .credited = WALL, .attested = attested};
}

static void test_engine_clock__rounding_credits_nothing_however_often_it_is_read(void **state) {
  (void)state;
  struct store_clock clock = stored_at_start(false);
  struct plan_clock plan = {0};
  struct clock_reading reading = reading_at(1000, 300 * DAY);
  assert_int_equal(engine_clock_advance(&clock, &reading, &clock, &plan), CLOCK_JUMPED_FORWARD);
  for (int64_t i = 2000; i < 20000000; i += 700) {
    reading = reading_at(i, 300 * DAY);
    assert_int_equal(engine_clock_advance(&clock, &reading, &clock, &plan), CLOCK_STEADY);
  }
  assert_false(plan.attested);
  assert_in_range(plan.now, WALL + 20000 - 5, WALL + 20000 + 5);
}

static void test_engine_clock__forward_loses_attestation(void **state) {
  (void)state;
  struct store_clock clock = stored_at_start(true);
  struct plan_clock plan = {0};
  struct clock_reading reading = reading_at(10000, 60);
  assert_int_equal(engine_clock_advance(&clock, &reading, &clock, &plan), CLOCK_JUMPED_FORWARD);
  assert_false(plan.attested);
  assert_int_equal(plan.now, WALL + 10);
  engine_clock_attest(&clock, &plan);
  assert_true(plan.attested);
  assert_int_equal(plan.now, WALL + 70);
}

static void test_engine_clock__forward_and_back_again_is_as_before(void **state) {
  (void)state;
  struct store_clock clock = stored_at_start(false);
  struct plan_clock plan = {0};
  struct clock_reading reading = reading_at(10000, DAY);
  assert_int_equal(engine_clock_advance(&clock, &reading, &clock, &plan), CLOCK_JUMPED_FORWARD);
  reading = reading_at(20000, 0);
  assert_int_equal(engine_clock_advance(&clock, &reading, &clock, &plan), CLOCK_JUMPED_BACK);
  assert_int_equal(plan.now, WALL + 20);
}

static void test_engine_clock__synchronised_counts_in_full(void **state) {
  (void)state;
  struct store_clock clock = stored_at_start(false);
  struct plan_clock plan = {0};
  struct clock_reading reading = reading_at(10000, DAY);
  reading.synchronised = true;
  assert_int_equal(engine_clock_advance(&clock, &reading, &clock, &plan), CLOCK_JUMPED_FORWARD);
  assert_true(plan.attested);
  assert_int_equal(plan.now, WALL + 10 + DAY);
}

static void test_engine_clock__another_boot_starts_unattested(void **state) {
  (void)state;
  struct store_clock clock = stored_at_start(true);
  struct plan_clock plan = {0};
  struct clock_reading reading = reading_at(10000, 0);
  text_copy(reading.boot_id, sizeof reading.boot_id, "other");
  assert_int_equal(engine_clock_advance(&clock, &reading, &clock, &plan), CLOCK_STEADY);
  assert_false(plan.attested);
  assert_string_equal(clock.boot_id, "other");
}

static void test_engine_clock__attestation_lasts_within_a_boot(void **state) {
  (void)state;
  struct store_clock clock = stored_at_start(true);
  struct plan_clock plan = {0};
  struct clock_reading reading = reading_at(7 * (int64_t)DAY * 1000, 1);
  assert_int_equal(engine_clock_advance(&clock, &reading, &clock, &plan), CLOCK_STEADY);
  assert_true(plan.attested);
  assert_int_equal(plan.now, reading.wall);
}

/* Stamps of a clock that was behind seem to be old once it is set right. */
static void test_engine_clock__time_that_no_clock_saw_pass_starts_the_wait_for_caches_anew(void **state) {
  (void)state;
  struct plan_clock plan = {0};
  struct clock_reading reading = reading_at(10000, DAY);
  struct store_clock clock = stored_at_start(false);
  clock.settled_at = TIME_UNSET;
  engine_clock_advance(&clock, &reading, &clock, &plan);
  assert_int_equal(plan.settled_at, TIME_UNSET); /* not credited yet */
  reading = reading_at(20000, DAY);
  reading.synchronised = true;
  engine_clock_advance(&clock, &reading, &clock, &plan);
  assert_int_equal(plan.settled_at, WALL + 20 + DAY);
  assert_int_equal(clock.settled_at, plan.settled_at);
  reading = reading_at(30000, DAY);
  engine_clock_advance(&clock, &reading, &clock, &plan);
  assert_int_equal(plan.settled_at, WALL + 20 + DAY);

  clock = stored_at_start(true);
  reading = reading_at(10000, DAY);
  engine_clock_advance(&clock, &reading, &clock, &plan);
  engine_clock_attest(&clock, &plan);
  assert_int_equal(plan.settled_at, WALL + 10 + DAY);
  assert_int_equal(clock.settled_at, plan.settled_at);
}

/* Else a host whose clock is set forward by seconds every hour would never be ready. */
static void test_engine_clock__what_an_attested_clock_may_be_off_starts_nothing_anew(void **state) {
  (void)state;
  struct plan_clock plan = {0};
  struct store_clock clock = stored_at_start(true);
  clock.settled_at = TIME_UNSET;
  for (int i = 1; i < 100; i++) {
    struct clock_reading reading = reading_at(3600000 * (int64_t)i, i * (int64_t)CLOCK_SETTLE_SECONDS);
    engine_clock_advance(&clock, &reading, &clock, &plan);
    assert_false(plan.attested);
    engine_clock_attest(&clock, &plan);
    assert_int_equal(plan.settled_at, TIME_UNSET);
  }
}

static void test_engine_clock__a_boot_after_one_that_nobody_vouched_for_starts_it_anew(void **state) {
  (void)state;
  struct plan_clock plan = {0};
  struct store_clock clock = stored_at_start(false);
  clock.settled_at = TIME_UNSET;
  struct clock_reading reading = reading_at(10000, 0);
  text_copy(reading.boot_id, sizeof reading.boot_id, "other");
  engine_clock_advance(&clock, &reading, &clock, &plan);
  assert_int_equal(plan.settled_at, WALL + 10);
  clock = stored_at_start(true);
  clock.settled_at = TIME_UNSET;
  engine_clock_advance(&clock, &reading, &clock, &plan);
  assert_int_equal(plan.settled_at, TIME_UNSET);
  clock = (struct store_clock){.settled_at = TIME_UNSET}; /* nothing was stamped yet */
  engine_clock_advance(&clock, &reading, &clock, &plan);
  assert_int_equal(plan.settled_at, TIME_UNSET);
}

/* It may have been a clock that was ahead: then it would keep keys waiting for as long. */
static void test_engine_clock__set_back_it_lies_never_ahead_and_needs_attestation(void **state) {
  (void)state;
  struct plan_clock plan = {0};
  struct store_clock clock = stored_at_start(true);
  clock.settled_at = WALL - 5;
  struct clock_reading reading = reading_at(10000, -DAY);
  assert_int_equal(engine_clock_advance(&clock, &reading, &clock, &plan), CLOCK_JUMPED_BACK);
  assert_int_equal(plan.settled_at, WALL + 10 - DAY);
  assert_false(plan.attested);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_engine_clock__rounding_credits_nothing_however_often_it_is_read),
      cmocka_unit_test(test_engine_clock__forward_loses_attestation),
      cmocka_unit_test(test_engine_clock__forward_and_back_again_is_as_before),
      cmocka_unit_test(test_engine_clock__synchronised_counts_in_full),
      cmocka_unit_test(test_engine_clock__another_boot_starts_unattested),
      cmocka_unit_test(test_engine_clock__attestation_lasts_within_a_boot),
      cmocka_unit_test(test_engine_clock__time_that_no_clock_saw_pass_starts_the_wait_for_caches_anew),
      cmocka_unit_test(test_engine_clock__what_an_attested_clock_may_be_off_starts_nothing_anew),
      cmocka_unit_test(test_engine_clock__a_boot_after_one_that_nobody_vouched_for_starts_it_anew),
      cmocka_unit_test(test_engine_clock__set_back_it_lies_never_ahead_and_needs_attestation),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
