/* Windows, freezes, time zones, jitter and limits of waves as they are read, refused, stored and read back. */
#include "policy_expect.h"

#include <sys/resource.h>

#include "dkimroll/clock.h"

enum { DAY = 86400 };

static struct policy *parse(const char *text) {
  struct policy *policy = NULL;
  struct error error = {0};
  if (policy_parse("p.yaml", text, strlen(text), &policy, NULL, &error)) fail_msg("%s", error.message);
  return policy;
}

static int64_t moment(const char *text) {
  int64_t at;
  assert_true(time_parse(text, &at));
  return at;
}

static void test_policy_calendar__nothing_given_is_nothing_held_back(void **state) {
  (void)state;
  struct policy *policy = parse(POLICIES PUBLISHERS SIGNERS DEFAULTS DOMAINS);
  const struct policy_rules *rules = &policy->rules[0];
  assert_int_equal(rules->jitter, 0);
  assert_null(rules->time_zone);
  assert_int_equal(rules->schedule.hours_count, 0);
  assert_int_equal(rules->schedule.freeze_count, 0);
  assert_int_equal(policy->limits.max_per_run, 0);
  assert_false(policy->limits.budget);
  policy_free(policy);
}

static void test_policy_calendar__a_window_in_a_zone(void **state) {
  (void)state;
  struct policy *policy = parse(WITH_RULES("jitter: 7d, time-zone: Europe/Berlin, window: {days: [mon, tue, wed, thu], hours: \"09:00-16:00\"}"));
  const struct policy_rules *rules = &policy->rules[0];
  assert_int_equal(rules->jitter, 7 * DAY);
  assert_int_equal(policy_least_life(rules), 83 * DAY);
  assert_string_equal(rules->time_zone->name, "Europe/Berlin");
  assert_int_equal(schedule_next(&rules->schedule, moment("2026-11-28"), true), moment("2026-11-30 08:00:00"));
  policy_free(policy);
  policy = parse(WITH_RULES("window: {days: sun}"));
  assert_int_equal(schedule_next(&policy->rules[0].schedule, moment("2026-11-28"), true), moment("2026-11-29"));
  policy_free(policy);
  policy = parse(WITH_RULES("window: {hours: [\"01:00-02:00\", \"03:00-04:00\"]}"));
  assert_int_equal(schedule_next(&policy->rules[0].schedule, moment("2026-11-28 02:00"), true), moment("2026-11-28 03:00:00"));
  policy_free(policy);
}

static void test_policy_calendar__freezes_for_all_stand_behind_those_of_a_policy(void **state) {
  (void)state;
  /* In whatever order the file has them. */
  struct policy *policy = parse("freeze: [\"12-20..01-06\"]\n" WITH_RULES("freeze: \"2027-05-01\", time-zone: Europe/Berlin"));
  struct policy *other = parse(WITH_RULES("freeze: \"2027-05-01\", time-zone: Europe/Berlin") "freeze: \"12-20..01-06\"\n");
  struct policy *const both[] = {policy, other};
  for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
    const struct policy_rules *rules = &both[i]->rules[0];
    assert_int_equal(rules->freeze_count, 2);
    assert_string_equal(rules->freezes[0], "2027-05-01");
    assert_string_equal(rules->freezes[1], "12-20..01-06");
    assert_int_equal(schedule_next(&rules->schedule, moment("2027-01-03"), false), moment("2027-01-06 23:00:00"));
    policy_free(both[i]);
  }
}

static void test_policy_calendar__limits_of_waves(void **state) {
  (void)state;
  struct policy *policy = parse("max-per-run: 200\nfailure-budget: 5%\n" POLICIES PUBLISHERS SIGNERS DEFAULTS DOMAINS);
  assert_int_equal(policy->limits.max_per_run, 200);
  assert_true(policy->limits.budget && policy->limits.percent);
  assert_int_equal(policy->limits.failures, 5);
  policy_free(policy);
  policy = parse("failure-budget: 12\n" POLICIES PUBLISHERS SIGNERS DEFAULTS DOMAINS);
  assert_true(policy->limits.budget && !policy->limits.percent);
  assert_int_equal(policy->limits.failures, 12);
  policy_free(policy);
}

#define REST PUBLISHERS SIGNERS DEFAULTS DOMAINS
static void test_policy_calendar__what_is_wrong_is_told_with_its_place(void **state) {
  (void)state;
  ASSERT_FINDINGS(
      {WITH_RULES("window: {days: [mon, day]}"), 1, 44, "policies.standard.window.days: \"day\" is no day; write mon, tue,"},
      {WITH_RULES("window: {days: []}"), 1, 38, "policies.standard.window.days: the list has 0 items; give 1 to 7"},
      {WITH_RULES("window: {hours: \"9-16\"}"), 1, 39, "policies.standard.window.hours: \"9-16\" is no stretch of a day; write it as in \"09:00-16:00\""},
      {WITH_RULES("window: {hour: \"09:00-16:00\"}"), 1, 32, "unknown key \"hour\"; did you mean \"hours\"?"},
      {WITH_RULES("freeze: \"christmas\""), 1, 31, "policies.standard.freeze: \"christmas\" is no date and no range of dates; write it as in"},
      {WITH_RULES("freeze: \"2027-01-06..2026-12-20\""), 1, 31, "is no date and no range of dates"},
      {WITH_RULES("time-zone: Europe/Bearlin"), 1, 34, "policies.standard.time-zone: this host knows no time zone \"Europe/Bearlin\""},
      {WITH_RULES("time-zone: ../../etc/passwd"), 1, 34, "policies.standard.time-zone: \"../../etc/passwd\" is no name of a time zone; write one as in Europe/Berlin"},
      {WITH_RULES("jitter: 2y"), 1, 31, "policies.standard.jitter: \"2y\" is not a duration"},
      {WITH_RULES("jitter: 400d"), 1, 31, "policies.standard.jitter: 400d is out of bounds; give a value from 0s to 365d"},
      {"max-per-run: 0\n" POLICIES REST, 1, 14, "max-per-run: 0 is out of bounds; give a value from 1 to 2000000"},
      {"failure-budget: many\n" POLICIES REST, 1, 17, "failure-budget: \"many\" is not a share such as 5%, or a number of failures such as 12"},
      {"failure-budget: 101%\n" POLICIES REST, 1, 17, "failure-budget: \"101%\" is not a share"},
      {"freeze: \"12-32\"\n" POLICIES REST, 1, 9, "freeze: \"12-32\" is no date and no range of dates"});
}

static void test_policy_calendar__a_life_that_does_not_fit_is_refused(void **state) {
  (void)state;
  ASSERT_FINDINGS(
      {WITH_RULES("rotate-every: 3d, window: {days: mon}, retire: {tombstone: 1d}"), 1, 49,
       "policies.standard.window: up to 6d pass from one opening to the next, so that no key could end a life of 3d in time; open it more often, or rotate less often"},
      {WITH_RULES("rotate-every: 10d, jitter: 5d, window: {days: mon}, retire: {tombstone: 1d}"), 1, 62, "so that no key could end a life of 5d in time"},
      {WITH_RULES("rotate-every: 1d, jitter: 23h, retire: {tombstone: 1d}"), 1, 37, "a life of 1h (less all of the jitter) is too short: it must be longer than 2h"},
      {WITH_RULES("rotate-every: 40d, jitter: 39d"), 1, 37, "with a life of 1d there would be"},
      {WITH_RULES("freeze: [\"01-01..06-30\", \"07-01..12-31\"]"), 1, 31, "policies.standard: window and freeze together leave no moment at which a key may take over"},
      {"freeze: \"01-01..12-31\"\n" POLICIES REST, 1, 9, "freeze: together with window and freeze of policy \"standard\" it leaves no moment"});
  assert_right(WITH_RULES("rotate-every: 10d, window: {days: mon}"));
  assert_right(WITH_RULES("freeze: \"2026-01-01..2027-12-31\""));
}

/* One mistake in the calendar hides no other, and is told once. */
static void test_policy_calendar__all_mistakes_in_one_go(void **state) {
  (void)state;
  static const struct expectation expected[] = {{NULL, 1, 14, "max-per-run"}, {NULL, 2, 39, "hours"}, {NULL, 2, 59, "time-zone"}, {0}};
  assert_all_findings("max-per-run: 0\n" WITH_RULES("window: {hours: \"9-16\"}, time-zone: Nowhere/City"), expected);
}

static void test_policy_calendar__what_is_stored_is_read_back(void **state) {
  (void)state;
  struct policy *policy = parse(WITH_RULES("jitter: 7d, time-zone: Europe/Berlin, freeze: [\"12-20..01-06\"], window: {days: [mon, tue], hours: \"09:00-16:00\"}"));
  CLEANUP_FREE char *text = NULL;
  CLEANUP_FREE char *again = NULL;
  struct policy_rules *rules = NULL;
  struct error error = {0};
  assert_int_equal(policy_rules_format(&policy->rules[0], &text, &error), 0);
  if (policy_rules_parse(text, &rules, &error)) fail_msg("%s in %s", error.message, text);
  assert_int_equal(policy_rules_format(rules, &again, &error), 0);
  assert_string_equal(text, again);
  assert_int_equal(rules->jitter, 7 * DAY);
  assert_true(rules->schedule.zone == rules->time_zone);
  assert_int_equal(schedule_next(&rules->schedule, moment("2026-12-20"), true), moment("2027-01-11 08:00:00"));
  policy_rules_free(rules);
  policy_free(policy);
}

/* Rules that use nothing of this are stored as they always were, so that an update of dkimroll changes no lineage. */
static void test_policy_calendar__rules_without_it_are_stored_as_before(void **state) {
  (void)state;
  struct policy *policy = parse(POLICIES PUBLISHERS SIGNERS DEFAULTS DOMAINS);
  CLEANUP_FREE char *text = NULL;
  struct error error = {0};
  assert_int_equal(policy_rules_format(&policy->rules[0], &text, &error), 0);
  static const char *const new_keys[] = {"\"jitter\":", "\"window\":", "\"freeze\":", "\"time-zone\":"};
  for (size_t i = 0; i < ARRAY_SIZE(new_keys); i++)
    if (strstr(text, new_keys[i])) fail_msg("%s in %s", new_keys[i], text);
  policy_free(policy);
}

/* tzdata may be removed after the rules were stored: they stay readable, and keep the name. */
static void test_policy_calendar__a_stored_zone_that_is_gone_keeps_its_name(void **state) {
  (void)state;
  struct policy_rules *rules = NULL;
  CLEANUP_FREE char *text = NULL;
  struct error error = {0};
  static const char stored[] = "{\"old\": {\"time-zone\": \"Europe/Atlantis\", \"window\": {\"days\": [\"mon\", \"someday\"]}, \"freeze\": [\"one day\", \"12-24\"]}}";
  if (policy_rules_parse(stored, &rules, &error)) fail_msg("%s", error.message);
  assert_false(schedule_is_known(&rules->schedule));
  assert_int_equal(rules->schedule.freeze_count, 2);
  assert_int_equal(schedule_frozen_by(&rules->schedule, moment("2026-12-24")), 1);
  assert_int_equal(schedule_frozen_by(&rules->schedule, moment("2026-12-23")), 2);
  assert_int_equal(policy_rules_format(rules, &text, &error), 0);
  assert_non_null(strstr(text, "\"time-zone\": \"Europe/Atlantis\""));
  policy_rules_free(rules);
}

/* A file that cannot be opened just now says nothing about the policy, which would be refused until a person has corrected what is right. */
static void test_policy_calendar__a_zone_that_cannot_be_looked_at_is_no_finding(void **state) {
  (void)state;
  static const char text[] = WITH_RULES("time-zone: Europe/Berlin, window: {days: mon}");
  struct policy *policy = NULL;
  struct policy_findings findings = {0};
  struct error error = {0};
  struct rlimit before;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
  const struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
  const int result = policy_parse("p.yaml", text, strlen(text), &policy, &findings, &error);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
  assert_true(result == ERROR_SYSTEM || result == ERROR_NO_MEMORY);
  assert_true(error.retryable);
  assert_int_equal(findings.count, 0);
  assert_null(policy);
  policy_free(parse(text));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_policy_calendar__nothing_given_is_nothing_held_back),
      cmocka_unit_test(test_policy_calendar__a_window_in_a_zone),
      cmocka_unit_test(test_policy_calendar__freezes_for_all_stand_behind_those_of_a_policy),
      cmocka_unit_test(test_policy_calendar__limits_of_waves),
      cmocka_unit_test(test_policy_calendar__what_is_wrong_is_told_with_its_place),
      cmocka_unit_test(test_policy_calendar__a_life_that_does_not_fit_is_refused),
      cmocka_unit_test(test_policy_calendar__all_mistakes_in_one_go),
      cmocka_unit_test(test_policy_calendar__what_is_stored_is_read_back),
      cmocka_unit_test(test_policy_calendar__rules_without_it_are_stored_as_before),
      cmocka_unit_test(test_policy_calendar__a_stored_zone_that_is_gone_keeps_its_name),
      cmocka_unit_test(test_policy_calendar__a_zone_that_cannot_be_looked_at_is_no_finding),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
