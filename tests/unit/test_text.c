#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

static void test_text__copy_says_whether_it_fits(void **state) {
  (void)state;
  char buffer[4];
  assert_true(text_copy(buffer, sizeof(buffer), "abc"));
  assert_string_equal(buffer, "abc");
  assert_false(text_copy(buffer, sizeof(buffer), "wxyz"));
  assert_string_equal(buffer, "wxy");
  assert_false(text_copy(buffer, 0, "q"));
  assert_string_equal(buffer, "wxy");
}

static void test_text__compares(void **state) {
  (void)state;
  assert_true(text_equal("a", "a"));
  assert_false(text_equal("a", "A"));
  assert_true(text_equal(NULL, NULL));
  assert_false(text_equal(NULL, ""));
  assert_false(text_equal("", NULL));
  assert_true(text_equal_nocase("Example.COM", "eXAMPLE.com"));
  assert_false(text_equal_nocase("a", "ab"));
  assert_false(text_equal_nocase("ab", "a"));
  assert_false(text_equal_nocase("[", "{"));
  assert_false(text_equal_nocase("\xc4", "\xe4"));
  assert_true(text_equal_nocase(NULL, NULL));
  assert_false(text_equal_nocase("", NULL));
}

static void test_text__lowers_ascii_letters_only(void **state) {
  (void)state;
  char text[] = "AZaz09-[\xc4";
  text_lower(text);
  assert_string_equal(text, "azaz09-[\xc4");
}

static void test_text__starts_and_ends(void **state) {
  (void)state;
  assert_true(text_starts("abc", "ab"));
  assert_true(text_starts("abc", ""));
  assert_false(text_starts("ab", "abc"));
  assert_true(text_ends("abc", "bc"));
  assert_true(text_ends("abc", ""));
  assert_false(text_ends("bc", "abc"));
  assert_false(text_ends("abc", "ab"));
}

static void test_text__printable_escapes_what_a_terminal_would_obey(void **state) {
  (void)state;
  char buffer[64];
  assert_string_equal(text_printable("a\x1b[31m\n\x7f\xff\0z", 10, buffer, sizeof(buffer)),
                      "a\\033[31m\\012\\177\\377\\000");
  assert_string_equal(text_printable("\0", 1, buffer, sizeof(buffer)), "\\000");
  assert_string_equal(text_printable(NULL, 0, buffer, sizeof(buffer)), "");
}

static void test_text__printable_cuts_but_never_inside_an_escape(void **state) {
  (void)state;
  char buffer[9];
  assert_string_equal(text_printable("12345678", 8, buffer, sizeof(buffer)), "12345678");
  assert_string_equal(text_printable("123456789", 9, buffer, sizeof(buffer)), "12345...");
  assert_string_equal(text_printable("1234\n678", 8, buffer, sizeof(buffer)), "1234...");
  assert_string_equal(text_printable("\n\n\n", 3, buffer, sizeof(buffer)), "\\012...");
  for (size_t size = 1; size <= sizeof(buffer); size++) {
    text_printable("\n\n\n\n", 4, buffer, size);
    assert_true(strlen(buffer) < size);
  }
}

static void test_text__reads_numbers_within_bounds(void **state) {
  (void)state;
  static const struct {
    const char *text;
    long long number;
  } good[] = {{"0", 0}, {"-5", -5}, {"100", 100}, {"007", 7}};
  for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
    long long number = 42;
    assert_true(text_parse_number(good[i].text, -5, 100, &number));
    assert_int_equal(number, good[i].number);
  }
  static const char *const bad[] = {"",    "-",  "+1", " 1", "1 ", "1a", "0x1", "101", "-6", "99999999999999999999",
                                    "1.0", "--1"};
  for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
    long long number = 42;
    assert_false(text_parse_number(bad[i], -5, 100, &number));
    assert_int_equal(number, 42);
  }
  long long number = 0;
  assert_true(text_parse_number("9223372036854775807", LLONG_MIN, LLONG_MAX, &number));
  assert_true(number == LLONG_MAX);
  assert_false(text_parse_number("9223372036854775808", LLONG_MIN, LLONG_MAX, &number));
}

static void test_text__duplicates_and_formats(void **state) {
  (void)state;
  CLEANUP_FREE char *copy = text_duplicate("abc");
  assert_string_equal(copy, "abc");
  assert_null(text_duplicate(NULL));
  CLEANUP_FREE char *formatted = text_format("%s-%d", "abc", 7);
  assert_string_equal(formatted, "abc-7");
}

static void test_text__nearest_name_is_what_was_meant(void **state) {
  (void)state;
  static const char *const names[] = {"selector", "rotate-every", "publish", "ttl", "standby"};
  static const struct {
    const char *text;
    const char *nearest;
  } cases[] = {
      {"selecter", "selector"},
      {"rotate_every", "rotate-every"},
      {"publsih", "publish"},
      {"tll", "ttl"},
      {"STANDBY", "standby"},
      {"selector", "selector"},
      {"standbyes", "standby"},
      {"unrelated", NULL},
      {"xy", NULL},
      {"", NULL},
      {"standbyxyz", NULL},
  };
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    const char *nearest = text_nearest(cases[i].text, names, ARRAY_SIZE(names));
    if (cases[i].nearest)
      assert_string_equal(nearest, cases[i].nearest);
    else
      assert_null(nearest);
  }
  assert_null(text_nearest("a", NULL, 0));
}

static void test_text__nearest_bears_names_of_any_length(void **state) {
  (void)state;
  char longest[TEXT_NEAREST_LENGTH_MAX + 1];
  memset(longest, 'a', TEXT_NEAREST_LENGTH_MAX);
  longest[TEXT_NEAREST_LENGTH_MAX] = '\0';
  char longer[TEXT_NEAREST_LENGTH_MAX + 2];
  memset(longer, 'a', TEXT_NEAREST_LENGTH_MAX + 1);
  longer[TEXT_NEAREST_LENGTH_MAX + 1] = '\0';
  const char *const names[] = {longer, longest};
  assert_ptr_equal(text_nearest(longest, names, 2), longest);
  assert_null(text_nearest(longer, names, 2));
}

static void test_text__control_characters_are_those_that_terminals_obey(void **state) {
  (void)state;
  static const char *const controls[] = {"\x01", "\n", "\x1b[2J", "\x7f", "\xc2\x80", "\xc2\x9b", "\xc2\x9f"};
  static const char *const others[] = {" ", "a", "~", "\xc2\xa0", "\xc3\x9b", "\x9b", "\xc2"};
  for (size_t i = 0; i < ARRAY_SIZE(controls); i++) assert_true(text_is_control(controls[i]));
  for (size_t i = 0; i < ARRAY_SIZE(others); i++) assert_false(text_is_control(others[i]));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_text__copy_says_whether_it_fits),
      cmocka_unit_test(test_text__compares),
      cmocka_unit_test(test_text__control_characters_are_those_that_terminals_obey),
      cmocka_unit_test(test_text__lowers_ascii_letters_only),
      cmocka_unit_test(test_text__starts_and_ends),
      cmocka_unit_test(test_text__printable_escapes_what_a_terminal_would_obey),
      cmocka_unit_test(test_text__printable_cuts_but_never_inside_an_escape),
      cmocka_unit_test(test_text__reads_numbers_within_bounds),
      cmocka_unit_test(test_text__duplicates_and_formats),
      cmocka_unit_test(test_text__nearest_name_is_what_was_meant),
      cmocka_unit_test(test_text__nearest_bears_names_of_any_length),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
