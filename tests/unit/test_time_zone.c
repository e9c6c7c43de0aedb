#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"
#include "dkimroll/time_zone.h"

static struct time_zone *load(const char *name) {
  struct time_zone *zone = NULL;
  struct error error = {0};
  if (time_zone_load(name, &zone, &error)) fail_msg("%s", error.message);
  return zone;
}

static int64_t moment(const char *text) {
  int64_t at;
  assert_true(time_parse(text, &at));
  return at;
}

static void test_time_zone__utc_needs_no_file(void **state) {
  (void)state;
  struct time_zone *zone = load("UTC");
  int64_t until;
  assert_int_equal(time_zone_offset(zone, 0, &until), 0);
  assert_true(until == TIME_NEVER);
  time_zone_free(zone);
}

static void test_time_zone__berlin_knows_both_turns_of_a_year(void **state) {
  (void)state;
  struct time_zone *zone = load("Europe/Berlin");
  int64_t until;
  assert_int_equal(time_zone_offset(zone, moment("2026-03-29 00:59:59"), &until), 3600);
  assert_int_equal(until, moment("2026-03-29 01:00:00"));
  assert_int_equal(time_zone_offset(zone, until, &until), 7200);
  assert_int_equal(until, moment("2026-10-25 01:00:00"));
  assert_int_equal(time_zone_offset(zone, until, &until), 3600);
  /* From the rule at the end of the file, and after its last year. */
  assert_int_equal(time_zone_offset(zone, moment("2150-07-01"), &until), 7200);
  assert_int_equal(time_zone_offset(zone, moment("2300-07-01"), &until), 3600);
  assert_true(until == TIME_NEVER);
  time_zone_free(zone);
}

static int32_t offset_of_libc(int64_t at) {
  const time_t seconds = at;
  struct tm parts;
  assert_non_null(localtime_r(&seconds, &parts));
  return (int32_t)parts.tm_gmtoff;
}

static void compare_at(const struct time_zone *zone, int64_t at) {
  int64_t until;
  const int32_t ours = time_zone_offset(zone, at, &until), theirs = offset_of_libc(at);
  if (ours != theirs) fail_msg("%s at %lld: %d, and the C library says %d", zone->name, (long long)at, ours, theirs);
}

/* At each change, the second before, and every 40 days in between. */
static void compare_zone(const char *name) {
  struct time_zone *zone = load(name);
  CLEANUP_FREE char *setting = text_format(":%s", name);
  setenv("TZ", setting, 1);
  tzset();
  for (size_t i = 1; i < zone->count; i++) {
    /* What is long ago differs in zones whose first type is that of a time before the first change. */
    if (zone->steps[i].from < moment("1970-01-01")) continue;
    compare_at(zone, zone->steps[i].from - 1);
    compare_at(zone, zone->steps[i].from);
  }
  for (int64_t at = moment("1970-01-02"); at < moment("2199-12-01"); at += 40 * 86400 + 3607) compare_at(zone, at);
  time_zone_free(zone);
}

static size_t compare_folder(const char *folder) {
  CLEANUP_FREE char *path = text_format(TIME_ZONE_DIRECTORY "/%s", folder);
  DIR *directory = opendir(path);
  size_t count = 0;
  assert_non_null(directory);
  for (struct dirent *entry; (entry = readdir(directory));) {
    CLEANUP_FREE char *name = text_format("%s/%s", folder, entry->d_name);
    if (entry->d_type != DT_REG || strchr(name, '.')) continue;
    compare_zone(name);
    count++;
  }
  closedir(directory);
  return count;
}

static void test_time_zone__every_zone_is_as_the_c_library_reads_it(void **state) {
  (void)state;
  static const char *const folders[] = {"Africa", "America", "Antarctica", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific", "Etc"};
  size_t count = 0;
  for (size_t i = 0; i < ARRAY_SIZE(folders); i++) count += compare_folder(folders[i]);
  assert_true(count > 200);
  unsetenv("TZ");
  tzset();
}

static void expect_error(const char *name, int code, const char *part) {
  struct time_zone *zone = NULL;
  struct error error = {0};
  assert_int_equal(time_zone_load(name, &zone, &error), code);
  assert_null(zone);
  if (!strstr(error.message, part)) fail_msg("%s", error.message);
  assert_true(error.remedy[0] != '\0');
}

static void test_time_zone__a_name_that_is_none_is_refused_with_a_remedy(void **state) {
  (void)state;
  expect_error("Europe/Bearlin", ERROR_NOT_FOUND, "knows no time zone \"Europe/Bearlin\"");
  expect_error("Europe", ERROR_NOT_FOUND, "knows no time zone");
  expect_error("../../../etc/passwd", ERROR_INVALID, "is no name of a time zone");
  expect_error("/etc/localtime", ERROR_INVALID, "is no name of a time zone");
  expect_error("Europe//Berlin", ERROR_INVALID, "is no name of a time zone");
  expect_error("", ERROR_INVALID, "is no name of a time zone");
  expect_error("tzdata.zi", ERROR_INVALID, "is no name of a time zone");
  expect_error("leapseconds", ERROR_PROTOCOL, "none that can be read");
}

/* Every octet of a file cut off or changed, one after the other: an error or some zone, never a read beyond the end (the sanitizers watch). */
static void test_time_zone__a_damaged_file_never_harms(void **state) {
  (void)state;
  CLEANUP_FREE char *data = NULL;
  size_t size = 0, refused = 0;
  struct error error = {0};
  assert_int_equal(file_read(TIME_ZONE_DIRECTORY "/Europe/Berlin", TIME_ZONE_FILE_MAX, &data, &size, NULL, &error), 0);
  for (size_t cut = 0; cut < size; cut++) {
    struct time_zone *zone = NULL;
    CLEANUP_FREE char *part = malloc(cut + 1);
    memcpy(part, data, cut);
    char *exact = realloc(part, cut ? cut : 1);
    part = exact;
    assert_true(time_zone_parse("cut", part, cut, &zone, &error) < 0);
    assert_null(zone);
  }
  for (size_t i = 0; i < size; i++) {
    static const uint8_t values[] = {0x00, 0x7f, 0x80, 0xff, '\n'};
    for (size_t j = 0; j < sizeof values; j++) {
      struct time_zone *zone = NULL;
      int64_t until;
      const char kept = data[i];
      data[i] = (char)values[j];
      refused += time_zone_parse("changed", data, size, &zone, &error) < 0;
      if (zone) (void)time_zone_offset(zone, moment("2026-07-01"), &until);
      time_zone_free(zone);
      data[i] = kept;
    }
  }
  assert_true(refused > 100);
}

/* A file of version 2 in which only the rule speaks. */
static struct time_zone *parse_rule(const char *rule) {
  static const char header[] = "TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                               "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\4";
  static const char type[] = "\0\0\0\0\0\0UTC";
  char data[400];
  size_t size = 0;
  struct time_zone *zone = NULL;
  struct error error;
  for (int i = 0; i < 2; i++) {
    memcpy(data + size, header, 44);
    memcpy(data + size + 44, type, 10);
    size += 54;
  }
  size += (size_t)snprintf(data + size, sizeof data - size, "\n%s\n", rule);
  return time_zone_parse("rule", data, size, &zone, &error) ? NULL : zone;
}

static void expect_offset(const char *rule, const char *at, int32_t offset) {
  struct time_zone *zone = parse_rule(rule);
  int64_t until;
  if (!zone) fail_msg("%s was refused", rule);
  if (time_zone_offset(zone, moment(at), &until) != offset) fail_msg("%s at %s: %d", rule, at, time_zone_offset(zone, moment(at), &until));
  time_zone_free(zone);
}

static void test_time_zone__rules_of_every_shape(void **state) {
  (void)state;
  expect_offset("EST5", "2026-07-01", -5 * 3600);
  struct time_zone *zone = parse_rule("EST5");
  assert_int_equal(zone->count, 1); /* what the file says before holds at no moment */
  time_zone_free(zone);
  expect_offset("<-03>3", "2026-07-01", -3 * 3600);
  expect_offset("<+0545>-5:45", "2026-07-01", 5 * 3600 + 45 * 60);
  /* Days by number: with and without leap days. 2028-03-01 is day 60 of J and day 60, counted from 0, of N. */
  expect_offset("AAA0BBB,J60/0,J300/0", "2028-02-29 23:59:59", 0);
  expect_offset("AAA0BBB,J60/0,J300/0", "2028-03-01 00:00:00", 3600);
  expect_offset("AAA0BBB,60/0,300/0", "2028-02-29 23:59:59", 0);
  expect_offset("AAA0BBB,60/0,300/0", "2028-03-01 00:00:00", 3600);
  expect_offset("AAA0BBB,60/0,300/0", "2027-03-01 00:00:00", 0);
  /* The south, and a time of day before the day (Godthab) and beyond it (Gaza). */
  expect_offset("AEST-10AEDT,M10.1.0,M4.1.0/3", "2026-01-01", 11 * 3600);
  expect_offset("AEST-10AEDT,M10.1.0,M4.1.0/3", "2026-07-01", 10 * 3600);
  expect_offset("<-02>2<-01>,M3.5.0/-1,M10.5.0/0", "2026-03-29 00:59:59", -2 * 3600);
  expect_offset("<-02>2<-01>,M3.5.0/-1,M10.5.0/0", "2026-03-29 01:00:00", -3600);
  expect_offset("EET-2EEST,M3.4.4/50,M10.4.4/50", "2026-03-28 00:00:00", 3 * 3600);
}

static void test_time_zone__what_is_no_rule_is_refused(void **state) {
  (void)state;
  static const char *const wrong[] = {"A5", "EST", "EST5EDT", "EST25", "<>5", "<EST5", "EST5EDT,M13.1.0,M11.1.0", "EST5EDT,M3.0.0,M11.1.0", "EST5EDT,M3.6.0,M11.1.0",
                                      "EST5EDT,M3.1.7,M11.1.0", "EST5EDT,M3.1.0", "EST5EDT,J0,J366", "EST5EDT,M3.1.0,M11.1.0x", "EST5EDT,M3.1.0/168,M11.1.0", "EST5:60"};
  for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
    struct time_zone *zone = parse_rule(wrong[i]);
    if (zone) fail_msg("%s was taken", wrong[i]);
  }
}

static void test_time_zone__days_are_dates_and_back(void **state) {
  (void)state;
  assert_int_equal(date_days(1970, 1, 1), 0);
  assert_int_equal(date_days(2026, 11, 28) * 86400, moment("2026-11-28"));
  assert_int_equal(date_weekday(date_days(2026, 11, 28)), 5);
  assert_int_equal(date_weekday(date_days(1969, 12, 31)), 2);
  assert_int_equal(date_month_length(2000, 2), 29);
  assert_int_equal(date_month_length(2100, 2), 28);
  assert_int_equal(date_month_length(2026, 12), 31);
  for (int64_t day = date_days(1890, 1, 1); day < date_days(2210, 1, 1); day++) {
    int64_t year;
    unsigned month, date;
    date_civil(day, &year, &month, &date);
    assert_int_equal(date_days(year, month, date), day);
    assert_true(month >= 1 && month <= 12 && date >= 1 && date <= date_month_length(year, month));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_time_zone__utc_needs_no_file),
      cmocka_unit_test(test_time_zone__berlin_knows_both_turns_of_a_year),
      cmocka_unit_test(test_time_zone__every_zone_is_as_the_c_library_reads_it),
      cmocka_unit_test(test_time_zone__a_name_that_is_none_is_refused_with_a_remedy),
      cmocka_unit_test(test_time_zone__a_damaged_file_never_harms),
      cmocka_unit_test(test_time_zone__rules_of_every_shape),
      cmocka_unit_test(test_time_zone__what_is_no_rule_is_refused),
      cmocka_unit_test(test_time_zone__days_are_dates_and_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
