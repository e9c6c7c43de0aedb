#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"

static void test_clock__reads_what_the_kernel_says(void **state) {
  (void)state;
  struct timespec before, after, boot;
  struct clock_reading reading;
  clock_gettime(CLOCK_BOOTTIME, &boot);
  clock_gettime(CLOCK_REALTIME, &before);
  clock_read(&reading);
  clock_gettime(CLOCK_REALTIME, &after);
  assert_true(reading.wall >= before.tv_sec && reading.wall <= after.tv_sec);
  assert_true(reading.boottime >= boot.tv_sec * 1000 + boot.tv_nsec / 1000000);
  assert_true(reading.boottime <= clock_boottime());
  assert_int_equal(strlen(reading.boot_id), CLOCK_BOOT_ID_SIZE - 1);
}

static void test_clock__refresh_leaves_the_boot_id(void **state) {
  (void)state;
  struct clock_reading reading = {.boot_id = "kept"};
  clock_refresh(&reading);
  assert_string_equal(reading.boot_id, "kept");
  assert_true(reading.wall > 0 && reading.boottime > 0);
}

static void test_clock__addition_saturates(void **state) {
  (void)state;
  assert_int_equal(time_add(100, 20), 120);
  assert_int_equal(time_add(100, -120), -20);
  assert_true(time_add(TIME_NEVER, -1) == TIME_NEVER);
  assert_true(time_add(TIME_UNSET, 1) == TIME_UNSET);
  assert_true(time_add(TIME_NEVER - 1, 1) == TIME_NEVER);
  assert_true(time_add(TIME_NEVER - 1, INT64_MAX) == TIME_NEVER);
  assert_true(time_add(TIME_UNSET + 1, -1) == TIME_UNSET + 1);
  assert_true(time_add(TIME_UNSET + 5, INT64_MIN) == TIME_UNSET + 1);
}

static void test_clock__never_is_the_latest_and_unset_the_earliest(void **state) {
  (void)state;
  assert_true(time_max(5, TIME_NEVER) == TIME_NEVER);
  assert_int_equal(time_min(5, TIME_NEVER), 5);
  assert_int_equal(time_max(5, TIME_UNSET), 5);
  assert_int_equal(time_min(7, 5), 5);
  assert_int_equal(time_max(7, 5), 7);
}

static void test_clock__formats_moments(void **state) {
  (void)state;
  static const struct {
    int64_t moment;
    const char *text;
    const char *iso;
  } cases[] = {
      {1769267045, "2026-01-24 15:04:05 UTC", "2026-01-24T15:04:05Z"},
      {0, "1970-01-01 00:00:00 UTC", "1970-01-01T00:00:00Z"},
      {-1, "1969-12-31 23:59:59 UTC", "1969-12-31T23:59:59Z"},
      {253402300799, "9999-12-31 23:59:59 UTC", "9999-12-31T23:59:59Z"},
      {TIME_NEVER, "never", "never"},
      {TIME_UNSET, "-", ""},
      {TIME_NEVER - 1, "@9223372036854775806", "@9223372036854775806"},
  };
  char buffer[TIME_TEXT_SIZE];
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    assert_string_equal(time_format(cases[i].moment, buffer), cases[i].text);
    assert_string_equal(time_format_iso(cases[i].moment, buffer), cases[i].iso);
  }
}

static void test_clock__reads_dates(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int64_t moment;
  } cases[] = {
      {"1970-01-01", 0},
      {"2026-01-24", 1769212800},
      {"2026-01-24T15:04:05Z", 1769267045},
      {"2026-01-24 15:04:05", 1769267045},
      {"2026-01-24 15:04", 1769267040},
      {"2024-02-29", 1709164800},
      {"9999-12-31 23:59:59", 253402300799},
  };
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    int64_t moment = -1;
    assert_true(time_parse(cases[i].text, &moment));
    assert_int_equal(moment, cases[i].moment);
  }
}

static void test_clock__refuses_what_is_no_date(void **state) {
  (void)state;
  static const char *const texts[] = {
      "",
      "2026",
      "2026-1-24",
      "2026-13-01",
      "2026-00-10",
      "2026-02-29",
      "2026-04-31",
      "2026-01-24T15:04:05",
      "2026-01-24 15:04:05Z",
      "2026-01-24 24:00",
      "2026-01-24 12:60",
      "2026-01-24 12:00:60",
      "2026-01-24 ",
      " 2026-01-24",
      "1969-12-31",
      "2026-01-00",
      "2026-01-24T15:04",
      "tomorrow",
      "+026-01-24",
  };
  for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
    int64_t moment = 42;
    assert_false(time_parse(texts[i], &moment));
    assert_int_equal(moment, 42);
  }
}

static void test_clock__formats_durations_by_their_two_largest_units(void **state) {
  (void)state;
  static const struct {
    int64_t seconds;
    const char *text;
  } cases[] = {
      {0, "0s"},
      {45, "45s"},
      {60, "1m"},
      {3600, "1h"},
      {5400, "1h30m"},
      {90 * 86400, "90d"},
      {90061, "1d1h"},
      {86401, "1d1s"},
      {4300, "1h11m"},
      {-300, "-5m"},
      {TIME_NEVER, "never"},
      {TIME_UNSET, "-"},
      {TIME_NEVER - 1, "106751991167300d15h"},
      {TIME_UNSET + 1, "-106751991167300d15h"},
  };
  char buffer[DURATION_TEXT_SIZE];
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
    assert_string_equal(duration_format(cases[i].seconds, buffer), cases[i].text);
}

static void test_clock__reads_durations(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int64_t seconds;
  } cases[] = {
      {"90d", 90 * 86400},
      {"1h30m", 5400},
      {"2w", 1209600},
      {"3600", 3600},
      {"0", 0},
      {"0s", 0},
      {"1w2d3h4m5s", 788645},
      {"36525d", DURATION_MAX},
      {"3155760000", DURATION_MAX},
      {"007m", 420},
  };
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    int64_t seconds = -1;
    assert_true(duration_parse(cases[i].text, &seconds));
    assert_int_equal(seconds, cases[i].seconds);
  }
}

static void test_clock__refuses_what_is_no_duration(void **state) {
  (void)state;
  static const char *const texts[] = {
      "",
      "d",
      "90 d",
      " 90d",
      "90d ",
      "-5m",
      "+5m",
      "1m1h",
      "1h1h",
      "1h30",
      "5y",
      "1.5h",
      "36525d1s",
      "3155760001",
      "99999999999999999999999999d",
      "9223372036854775807w",
      "1D",
      "0x10",
  };
  for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
    int64_t seconds = 42;
    assert_false(duration_parse(texts[i], &seconds));
    assert_int_equal(seconds, 42);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_clock__reads_what_the_kernel_says),
      cmocka_unit_test(test_clock__refresh_leaves_the_boot_id),
      cmocka_unit_test(test_clock__addition_saturates),
      cmocka_unit_test(test_clock__never_is_the_latest_and_unset_the_earliest),
      cmocka_unit_test(test_clock__formats_moments),
      cmocka_unit_test(test_clock__reads_dates),
      cmocka_unit_test(test_clock__refuses_what_is_no_date),
      cmocka_unit_test(test_clock__formats_durations_by_their_two_largest_units),
      cmocka_unit_test(test_clock__reads_durations),
      cmocka_unit_test(test_clock__refuses_what_is_no_duration),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
