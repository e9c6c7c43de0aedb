/* Windows and freezes in local time, over midnight, over the turn of the year and over the two odd hours of summer time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/schedule.h"
#include "dkimroll/text.h"

enum { DAY = 86400 };

static int64_t moment(const char *text) {
  int64_t at;
  if (!time_parse(text, &at)) fail_msg("%s is no moment", text);
  return at;
}

/* days "mon,tue" or "" for none; hours and freezes likewise. */
static struct schedule make(const char *zone, const char *days, const char *hours, const char *freezes) {
  struct schedule schedule = {0};
  struct error error;
  char text[256], *rest = text;
  static struct time_zone *zones[16];
  static size_t count;
  if (zone) {
    assert_true(count < ARRAY_SIZE(zones));
    assert_int_equal(time_zone_load(zone, &zones[count], &error), 0);
    schedule.zone = zones[count++];
  }
  text_copy(text, sizeof text, days);
  for (char *word = strsep(&rest, ","); word && *word; word = strsep(&rest, ",")) {
    unsigned bit;
    assert_true(schedule_parse_day(word, &bit));
    schedule.days |= bit;
  }
  rest = text;
  text_copy(text, sizeof text, hours);
  for (char *word = strsep(&rest, ","); word && *word; word = strsep(&rest, ","))
    assert_true(schedule_parse_hours(word, &schedule.hours[schedule.hours_count++]));
  rest = text;
  text_copy(text, sizeof text, freezes);
  for (char *word = strsep(&rest, ","); word && *word; word = strsep(&rest, ","))
    assert_true(schedule_parse_dates(word, &schedule.freezes[schedule.freeze_count++]));
  return schedule;
}

static void expect_next(const struct schedule *schedule, const char *at, const char *opens) {
  char found[TIME_TEXT_SIZE];
  const int64_t next = schedule_next(schedule, moment(at), true);
  if (next != moment(opens)) fail_msg("after %s it opens at %s, not %s", at, time_format(next, found), opens);
  /* It is open then, and the second before it is not, unless it was open all along. */
  assert_int_equal(schedule_next(schedule, next, true), next);
  if (next > moment(at)) assert_int_equal(schedule_next(schedule, next - 1, true), next);
}

#define WORKDAYS "mon,tue,wed,thu"

static void test_schedule__without_window_and_freeze_is_always_open(void **state) {
  (void)state;
  const struct schedule schedule = {0};
  expect_next(&schedule, "2026-11-28 03:00:00", "2026-11-28 03:00:00");
  assert_int_equal(schedule_longest_gap(&schedule), 0);
  assert_true(schedule_ever_opens(&schedule));
  assert_true(schedule_is_known(&schedule));
}

static void test_schedule__opens_at_local_hours_in_winter_and_in_summer(void **state) {
  (void)state;
  const struct schedule berlin = make("Europe/Berlin", WORKDAYS, "09:00-16:00", "");
  expect_next(&berlin, "2026-11-30 07:59:59", "2026-11-30 08:00:00"); /* a Monday, UTC + 1 */
  expect_next(&berlin, "2026-11-30 14:59:59", "2026-11-30 14:59:59");
  expect_next(&berlin, "2026-11-30 15:00:00", "2026-12-01 08:00:00");
  expect_next(&berlin, "2026-12-03 15:00:00", "2026-12-07 08:00:00"); /* Thursday afternoon to Monday */
  expect_next(&berlin, "2026-07-06 06:59:59", "2026-07-06 07:00:00"); /* UTC + 2 */
  /* The weekend in which summer time begins is an hour shorter. */
  expect_next(&berlin, "2026-03-26 15:00:00", "2026-03-30 07:00:00");
  /* Thursday 16:00 to Monday 09:00, and an hour more at the end of summer time. */
  assert_int_equal(schedule_longest_gap(&berlin), 3 * DAY + 17 * 3600 + 3600);
}

static void test_schedule__hours_over_midnight_belong_to_the_day_on_which_they_begin(void **state) {
  (void)state;
  const struct schedule nights = make(NULL, "fri", "22:00-04:00", "");
  expect_next(&nights, "2026-11-27 21:59:59", "2026-11-27 22:00:00"); /* a Friday */
  expect_next(&nights, "2026-11-28 03:59:59", "2026-11-28 03:59:59");
  expect_next(&nights, "2026-11-28 04:00:00", "2026-12-04 22:00:00");
  expect_next(&nights, "2026-11-27 03:00:00", "2026-11-27 22:00:00"); /* the night of Thursday is none */
}

static void test_schedule__several_stretches_and_whole_days(void **state) {
  (void)state;
  const struct schedule breaks = make(NULL, "mon,tue,wed,thu,fri,sat,sun", "09:00-12:00,13:00-24:00", "");
  expect_next(&breaks, "2026-11-28 12:00:00", "2026-11-28 13:00:00");
  expect_next(&breaks, "2026-11-28 23:59:59", "2026-11-28 23:59:59");
  expect_next(&breaks, "2026-11-29 00:00:00", "2026-11-29 09:00:00");
  assert_int_equal(schedule_longest_gap(&breaks), 9 * 3600);
  const struct schedule sundays = make(NULL, "sun", "00:00-24:00", "");
  expect_next(&sundays, "2026-11-28 23:59:59", "2026-11-29 00:00:00");
  assert_int_equal(schedule_longest_gap(&sundays), 6 * DAY);
}

static void test_schedule__an_hour_that_does_not_exist_is_waited_for_a_week(void **state) {
  (void)state;
  const struct schedule lost = make("Europe/Berlin", "sun", "02:00-03:00", "");
  expect_next(&lost, "2026-03-22 00:59:59", "2026-03-22 01:00:00");
  expect_next(&lost, "2026-03-28 12:00:00", "2026-04-05 00:00:00"); /* on the 29th the clock goes from 2 to 3 */
  assert_int_equal(schedule_longest_gap(&lost), 14 * DAY - 2 * 3600);
  /* Half of the hour is lost: it begins where local time goes on. */
  const struct schedule half = make("Europe/Berlin", "sun", "02:30-03:30", "");
  expect_next(&half, "2026-03-29 00:00:00", "2026-03-29 01:00:00");
}

static void test_schedule__an_hour_that_comes_twice_is_open_twice(void **state) {
  (void)state;
  const struct schedule twice = make("Europe/Berlin", "sun", "02:00-03:00", "");
  expect_next(&twice, "2026-10-24 12:00:00", "2026-10-25 00:00:00");
  expect_next(&twice, "2026-10-25 00:59:59", "2026-10-25 00:59:59");
  expect_next(&twice, "2026-10-25 01:00:00", "2026-10-25 01:00:00");
  expect_next(&twice, "2026-10-25 02:00:00", "2026-11-01 01:00:00");
  const struct schedule part = make("Europe/Berlin", "sun", "02:15-02:30", "");
  expect_next(&part, "2026-10-25 00:30:00", "2026-10-25 01:15:00"); /* again after the hour was put back */
}

static void test_schedule__freezes_are_local_days(void **state) {
  (void)state;
  const struct schedule frozen = make("Europe/Berlin", "", "", "2026-12-20..2027-01-06,2027-01-07,2027-05-01");
  expect_next(&frozen, "2026-12-19 22:59:59", "2026-12-19 22:59:59");
  expect_next(&frozen, "2026-12-19 23:00:00", "2027-01-07 23:00:00"); /* two that touch are one */
  expect_next(&frozen, "2027-05-01 10:00:00", "2027-05-01 22:00:00");
  assert_int_equal(schedule_frozen_by(&frozen, moment("2027-01-07 12:00:00")), 1);
  assert_int_equal(schedule_frozen_by(&frozen, moment("2027-02-01 12:00:00")), 3);
  assert_int_equal(schedule_next(&frozen, moment("2026-12-25"), false), moment("2027-01-07 23:00:00"));
  assert_int_equal(schedule_longest_gap(&frozen), 0);
}

static void test_schedule__freezes_of_every_year_pass_over_its_end(void **state) {
  (void)state;
  const struct schedule winter = make(NULL, "", "", "12-20..01-06");
  expect_next(&winter, "2030-12-19 23:59:59", "2030-12-19 23:59:59");
  expect_next(&winter, "2030-12-20 00:00:00", "2031-01-07 00:00:00");
  expect_next(&winter, "2031-01-06 23:59:59", "2031-01-07 00:00:00");
  const struct schedule leap = make(NULL, "", "", "02-20..02-29");
  expect_next(&leap, "2027-02-25 00:00:00", "2027-03-01 00:00:00");
  expect_next(&leap, "2028-02-29 12:00:00", "2028-03-01 00:00:00");
  const struct schedule day = make(NULL, "", "", "12-24");
  expect_next(&day, "2026-12-24 12:00:00", "2026-12-25 00:00:00");
}

static void test_schedule__a_freeze_puts_the_window_off_to_its_next_opening(void **state) {
  (void)state;
  const struct schedule both = make("Europe/Berlin", WORKDAYS, "09:00-16:00", "2026-12-20..2027-01-06");
  expect_next(&both, "2026-12-17 15:00:00", "2027-01-07 08:00:00"); /* a Thursday */
  expect_next(&both, "2026-12-17 14:00:00", "2026-12-17 14:00:00");
}

static void test_schedule__one_that_never_opens_is_told(void **state) {
  (void)state;
  const struct schedule never = make(NULL, "", "", "01-01..12-31");
  assert_false(schedule_ever_opens(&never));
  const struct schedule turned = make(NULL, "", "", "07-01..06-30");
  assert_false(schedule_ever_opens(&turned));
  const struct schedule halves = make(NULL, "mon", "09:00-10:00", "01-01..06-30,07-01..12-31");
  assert_false(schedule_ever_opens(&halves));
  const struct schedule rare = make(NULL, "mon", "09:00-10:00", "03-01..02-28");
  assert_true(schedule_ever_opens(&rare)); /* on the 29th of February, if that is a Monday */
  const struct schedule dated = make(NULL, "", "", "2026-01-01..2099-12-31");
  assert_true(schedule_ever_opens(&dated));
}

static void test_schedule__open_time_and_the_longest_break_are_counted(void **state) {
  (void)state;
  const struct schedule both = make("Europe/Berlin", WORKDAYS, "09:00-16:00", "2026-12-20..2027-01-06");
  int64_t gap, gap_from;
  /* Four days of seven hours in each week. */
  assert_int_equal(schedule_open_seconds(&both, moment("2026-11-30"), moment("2026-12-14"), &gap, &gap_from), 2 * 4 * 7 * 3600);
  assert_int_equal(gap, 3 * DAY + 17 * 3600);
  assert_int_equal(gap_from, moment("2026-12-03 15:00"));
  /* The holidays: from Thursday the 17th at 16:00 to Thursday the 7th at 9:00. */
  assert_int_equal(schedule_open_seconds(&both, moment("2026-12-14"), moment("2027-01-11"), &gap, &gap_from), 5 * 7 * 3600);
  assert_int_equal(gap, moment("2027-01-07 08:00") - moment("2026-12-17 15:00"));
  assert_int_equal(gap_from, moment("2026-12-17 15:00"));
  const struct schedule always = {0};
  assert_int_equal(schedule_open_seconds(&always, 1000, 5000, &gap, &gap_from), 4000);
  assert_int_equal(gap, 0);
}

static void test_schedule__what_never_comes_stays_so(void **state) {
  (void)state;
  const struct schedule both = make(NULL, WORKDAYS, "09:00-16:00", "12-20..01-06");
  assert_true(schedule_next(&both, TIME_NEVER, true) == TIME_NEVER);
  assert_int_equal(schedule_frozen_by(&both, TIME_NEVER), 1);
}

static void test_schedule__a_zone_that_is_gone_is_told(void **state) {
  (void)state;
  struct time_zone *gone = time_zone_unknown("Europe/Atlantis");
  struct schedule schedule = make(NULL, "mon", "09:00-10:00", "");
  schedule.zone = gone;
  assert_false(schedule_is_known(&schedule));
  schedule.hours_count = 0;
  assert_true(schedule_is_known(&schedule));
  time_zone_free(gone);
}

static void test_schedule__texts_that_are_none(void **state) {
  (void)state;
  static const char *const hours[] = {"", "9-16", "09:00", "09:00-09:00", "24:00-25:00", "09:60-10:00", "09:00-24:01", "09:00-16:00 ", "ab:cd-ef:gh"};
  static const char *const dates[] = {"", "2026-02-30", "2026-13-01", "00-01", "12-32", "2027-01-06..2026-12-20", "12-20..2027-01-06", "2026-12-20..", "2026-12-20-2027-01-06", "1969-12-31"};
  struct schedule_hours unused_hours;
  struct schedule_dates unused_dates;
  unsigned unused;
  for (size_t i = 0; i < ARRAY_SIZE(hours); i++)
    if (schedule_parse_hours(hours[i], &unused_hours)) fail_msg("%s was taken", hours[i]);
  for (size_t i = 0; i < ARRAY_SIZE(dates); i++)
    if (schedule_parse_dates(dates[i], &unused_dates)) fail_msg("%s was taken", dates[i]);
  assert_false(schedule_parse_day("monday", &unused));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_schedule__without_window_and_freeze_is_always_open),
      cmocka_unit_test(test_schedule__opens_at_local_hours_in_winter_and_in_summer),
      cmocka_unit_test(test_schedule__hours_over_midnight_belong_to_the_day_on_which_they_begin),
      cmocka_unit_test(test_schedule__several_stretches_and_whole_days),
      cmocka_unit_test(test_schedule__an_hour_that_does_not_exist_is_waited_for_a_week),
      cmocka_unit_test(test_schedule__an_hour_that_comes_twice_is_open_twice),
      cmocka_unit_test(test_schedule__freezes_are_local_days),
      cmocka_unit_test(test_schedule__freezes_of_every_year_pass_over_its_end),
      cmocka_unit_test(test_schedule__a_freeze_puts_the_window_off_to_its_next_opening),
      cmocka_unit_test(test_schedule__one_that_never_opens_is_told),
      cmocka_unit_test(test_schedule__open_time_and_the_longest_break_are_counted),
      cmocka_unit_test(test_schedule__what_never_comes_stays_so),
      cmocka_unit_test(test_schedule__a_zone_that_is_gone_is_told),
      cmocka_unit_test(test_schedule__texts_that_are_none),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
