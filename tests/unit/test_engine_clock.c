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

static void test_engine_clock__back_loses_attestation(void **state) {
  (void)state;
  struct store_clock clock = stored_at_start(true);
  struct plan_clock plan = {0};
  struct clock_reading reading = reading_at(10000, -3600);
  assert_int_equal(engine_clock_advance(&clock, &reading, &clock, &plan), CLOCK_JUMPED_BACK);
  assert_false(plan.attested);
  assert_int_equal(plan.now, WALL + 10 - 3600);
}

static void test_engine_clock__slewing_back_keeps_attestation(void **state) {
  (void)state;
  struct store_clock clock = stored_at_start(true);
  struct plan_clock plan = {0};
  struct clock_reading reading = reading_at(10000, -CLOCK_SLACK_SECONDS);
  assert_int_equal(engine_clock_advance(&clock, &reading, &clock, &plan), CLOCK_STEADY);
  assert_true(plan.attested);
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_engine_clock__rounding_credits_nothing_however_often_it_is_read),
      cmocka_unit_test(test_engine_clock__forward_loses_attestation),
      cmocka_unit_test(test_engine_clock__back_loses_attestation),
      cmocka_unit_test(test_engine_clock__slewing_back_keeps_attestation),
      cmocka_unit_test(test_engine_clock__forward_and_back_again_is_as_before),
      cmocka_unit_test(test_engine_clock__synchronised_counts_in_full),
      cmocka_unit_test(test_engine_clock__another_boot_starts_unattested),
      cmocka_unit_test(test_engine_clock__attestation_lasts_within_a_boot),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
