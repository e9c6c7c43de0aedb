/* Selectors: templates, names made from them, names in DNS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/selector.h"

/* "2026-01-24 15:04" and the like as a moment. */
static int64_t moment_of(const char *text) {
  int64_t moment = 0;
  assert_true(time_parse(text, &moment));
  return moment;
}

static void assert_selector(const char *template_text, const char *moment, unsigned number, const char *expected) {
  char selector[SELECTOR_SIZE];
  struct error error = {0};
  assert_int_equal(selector_make(template_text, moment_of(moment), number, selector, &error), 0);
  assert_string_equal(selector, expected);
}

static void test_selector__template_is_filled_with_the_date_in_utc(void **state) {
  (void)state;
  assert_selector("server-%Y%m%d", "2026-01-24 23:59:59", 1, "server-20260124");
  assert_selector("%Y%m%d%H%M", "2026-01-02 03:04", 1, "202601020304");
  assert_selector("d%j", "2028-12-31", 1, "d366");
  assert_selector("plain", "2026-01-24", 1, "plain");
}

static void test_selector__week_is_that_of_iso_8601(void **state) {
  (void)state;
  assert_selector("w%V", "2026-01-01", 1, "w01");
  assert_selector("w%V", "2027-01-01", 1, "w53"); /* belongs to 2026 */
  assert_selector("w%V", "2024-12-30", 1, "w01"); /* belongs to 2025 */
}

static void test_selector__further_ones_of_a_day_get_a_number(void **state) {
  (void)state;
  assert_selector("server-%Y%m%d", "2026-01-24", 2, "server-20260124-2");
  assert_selector("server-%Y%m%d", "2026-01-24", 999, "server-20260124-999");
}

static void test_selector__number_beyond_the_limit_is_refused(void **state) {
  (void)state;
  char selector[SELECTOR_SIZE] = "untouched";
  struct error error = {0};
  assert_int_equal(selector_make("a", 0, 1000, selector, &error), ERROR_LIMIT);
  assert_int_equal(selector_make("a", 0, 0, selector, &error), ERROR_LIMIT);
  assert_string_equal(selector, "untouched");
}

static void test_selector__moment_without_a_four_digit_year_is_refused(void **state) {
  (void)state;
  char selector[SELECTOR_SIZE] = "untouched";
  struct error error = {0};
  assert_int_equal(selector_make("%Y", -1, 1, selector, &error), ERROR_INVALID);
  assert_int_equal(selector_make("%Y", INT64_C(253402300800), 1, selector, &error), ERROR_INVALID);
  assert_int_equal(selector_make("%Y", TIME_NEVER, 1, selector, &error), ERROR_INVALID);
  assert_string_equal(selector, "untouched");
  assert_int_equal(selector_make("%Y", INT64_C(253402300799), 1, selector, &error), 0);
  assert_string_equal(selector, "9999");
}

static void test_selector__bad_templates_are_refused_with_what_would_be_right(void **state) {
  (void)state;
  static const struct {
    const char *template_text;
    const char *message;
    const char *remedy;
  } cases[] = {
      {"", "empty", "begin and end with"},
      {"-a", "begins or ends", "begin and end with"},
      {"a-%Y-", "begins or ends", "begin and end with"},
      {"Server", "'S'", "lower case"},
      {"a_b", "'_'", "lower case"},
      {"a.b", "'.'", "lower case"},
      {"a b", "' '", "lower case"},
      {"%y", "character 1", "%Y %m %d %H %M %j %V"},
      {"ab%", "character 3", "%Y %m %d %H %M %j %V"},
      {"a%%b", "character 2", "%Y %m %d %H %M %j %V"},
      {"caf\xc3\xa9", "letters, digits and hyphens", "lower case"},
      {"a\n", "letters, digits and hyphens", "lower case"},
  };
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    struct error error = {0};
    assert_int_equal(selector_check_template(cases[i].template_text, &error), ERROR_INVALID);
    if (!strstr(error.message, cases[i].message) || !strstr(error.remedy, cases[i].remedy)) {
      fail_msg("\"%s\": %s; %s", cases[i].template_text, error.message, error.remedy);
    }
  }
}

static void test_selector__template_leaves_room_for_a_number_in_63_octets(void **state) {
  (void)state;
  char template_text[80];
  struct error error = {0};
  memset(template_text, 'a', sizeof(template_text));
  memcpy(template_text + 55, "%Y", 3); /* 55 + 4 = 59 */
  assert_int_equal(selector_check_template(template_text, &error), 0);
  char selector[SELECTOR_SIZE];
  assert_int_equal(selector_make(template_text, 0, 999, selector, &error), 0);
  assert_int_equal(strlen(selector), 63);
  memcpy(template_text + 55, "a%Y", 4);
  assert_int_equal(selector_check_template(template_text, &error), ERROR_INVALID);
  assert_non_null(strstr(error.remedy, "59"));
}

static void test_selector__owner_name_is_lower_case(void **state) {
  (void)state;
  char name[DNS_NAME_TEXT_SIZE];
  struct error error = {0};
  assert_int_equal(selector_owner_name("Mail2024", "Example.COM", name, &error), 0);
  assert_string_equal(name, "mail2024._domainkey.example.com");
  assert_int_equal(selector_owner_name("a.b", "example.com", name, &error), 0);
  assert_string_equal(name, "a.b._domainkey.example.com");
}

static void test_selector__owner_name_of_bad_parts_is_refused(void **state) {
  (void)state;
  static const char *const cases[][2] = {{"", "example.com"},    {"a_b", "example.com"}, {"a..b", "example.com"},
                                         {"-a", "example.com"},  {"a", "example.com."},  {"a", ""},
                                         {"a", "*.example.com"}, {"a b", "example.com"}, {"a", "ex\xc3\xa4mple.com"}};
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    char name[DNS_NAME_TEXT_SIZE] = "untouched";
    struct error error = {0};
    assert_int_equal(selector_owner_name(cases[i][0], cases[i][1], name, &error), ERROR_INVALID);
    assert_true(error.message[0] != '\0');
    assert_string_equal(name, "untouched");
  }
}

/* length octets of labels of at most 63, ending in ".com". */
static void fill_domain(char *domain, size_t length) {
  memset(domain, 'a', length);
  for (size_t i = 60; i < length - 4; i += 60) domain[i] = '.';
  memcpy(domain + length - 4, ".com", 5);
}

static void test_selector__longest_names_fit_and_longer_ones_do_not(void **state) {
  (void)state;
  char selector[SELECTOR_SIZE];
  char domain[DNS_NAME_TEXT_SIZE];
  char name[DNS_NAME_TEXT_SIZE];
  struct error error = {0};
  memset(selector, 's', 63);
  selector[63] = '\0';
  fill_domain(domain, 178);
  assert_int_equal(selector_check_domain(domain, &error), 0);
  assert_int_equal(selector_owner_name(selector, domain, name, &error), 0);
  assert_int_equal(strlen(name), 253);
  fill_domain(domain, 179);
  assert_int_equal(selector_check_domain(domain, &error), ERROR_INVALID);
  assert_int_equal(selector_owner_name(selector, domain, name, &error), ERROR_INVALID);
}

static void test_selector__domains_that_can_sign(void **state) {
  (void)state;
  static const char *const cases[] = {"example.com",           "Example.COM", "a.b.c.example",
                                      "xn--bcher-kva.example", "1and1.com",   "a-b.co"};
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    struct error error = {0};
    if (selector_check_domain(cases[i], &error) < 0) fail_msg("%s", error.message);
  }
}

static void test_selector__domains_that_cannot_sign_say_why(void **state) {
  (void)state;
  static const char *const cases[][2] = {
      {"", "empty label"},
      {"localhost", "one label"},
      {"example.com.", "empty label"},
      {"a..com", "empty label"},
      {"-a.com", "hyphen"},
      {"a-.com", "hyphen"},
      {"a_b.com", "underscore"},
      {"*.example.com", "wildcard"},
      {"b\xc3\xbc"
       "cher.de",
       "xn--"},
      {"192.0.2.1", "address"},
      {"user@example.com", "something else"},
      {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.com", "63 octets"},
  };
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    struct error error = {0};
    assert_int_equal(selector_check_domain(cases[i][0], &error), ERROR_INVALID);
    if (!strstr(error.message, cases[i][1])) fail_msg("\"%s\": %s", cases[i][0], error.message);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_selector__template_is_filled_with_the_date_in_utc),
      cmocka_unit_test(test_selector__week_is_that_of_iso_8601),
      cmocka_unit_test(test_selector__further_ones_of_a_day_get_a_number),
      cmocka_unit_test(test_selector__number_beyond_the_limit_is_refused),
      cmocka_unit_test(test_selector__moment_without_a_four_digit_year_is_refused),
      cmocka_unit_test(test_selector__bad_templates_are_refused_with_what_would_be_right),
      cmocka_unit_test(test_selector__template_leaves_room_for_a_number_in_63_octets),
      cmocka_unit_test(test_selector__owner_name_is_lower_case),
      cmocka_unit_test(test_selector__owner_name_of_bad_parts_is_refused),
      cmocka_unit_test(test_selector__longest_names_fit_and_longer_ones_do_not),
      cmocka_unit_test(test_selector__domains_that_can_sign),
      cmocka_unit_test(test_selector__domains_that_cannot_sign_say_why),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
