/* Fragments of zones: what is written is read, what others wrote is refused, and edits keep to what they may touch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "dkimroll/zone_fragment.h"

#define HEAD "; dkimroll writes this file, and only it: 1 DKIM record for zone example.com.\n; The zone's file includes it: $INCLUDE /z\n"
#define ZONE "example.com"
#define NAME "s1._domainkey.example.com"

static char *write_out(const struct fragment *fragment) {
  struct buffer text = BUFFER_WITH_MAXIMUM(FRAGMENT_FILE_MAX);
  fragment_write(fragment, ZONE, "/z", &text);
  return buffer_take_text(&text);
}

static int edit(struct fragment *fragment, const struct fragment_edit *wanted, bool *ret_changed) {
  struct error error = {0};
  const int result = fragment_edit(fragment, ZONE, wanted, ret_changed, &error);
  if (result) assert_true(error.message[0] != '\0');
  return result;
}

static void add(struct fragment *fragment, const char *name, const char *record) {
  bool changed = false;
  assert_int_equal(edit(fragment, &(struct fragment_edit){.change = FRAGMENT_ADD, .name = name, .ttl = 3600, .record = record}, &changed), 0);
  assert_true(changed);
}

static void test_zone_fragment__what_is_written_reads_back_as_itself(void **state) {
  (void)state;
  CLEANUP(fragment_release) struct fragment fragment = {0};
  CLEANUP(fragment_release) struct fragment again = {0};
  struct error error = {0};
  char longest[801];
  memset(longest, 'A', 800);
  longest[800] = '\0';
  memcpy(longest + 250, "\"\\;\t\xc3\xa4", 6);
  add(&fragment, "s2._domainkey.example.com", longest);
  add(&fragment, NAME, "v=DKIM1; k=rsa; p=AB+/=");
  CLEANUP_FREE char *text = write_out(&fragment);
  assert_non_null(strstr(text, "\ns1._domainkey.example.com. 3600 IN TXT \"v=DKIM1; k=rsa; p=AB+/=\"\ns2._domainkey.example.com. 3600 IN TXT \"AAAA"));
  assert_non_null(strstr(text, "\\\"\\\\;\\009"));
  assert_int_equal(fragment_parse(text, strlen(text), ZONE, &again, &error), 0);
  assert_int_equal(again.count, 2);
  assert_string_equal(again.records[1].text, longest);
  CLEANUP_FREE char *second = write_out(&again);
  assert_string_equal(text, second);
  /* No string of more than 255 octets (RFC 1035 3.3), counted as a server reads them. */
  size_t octets = 0;
  bool inside = false;
  for (const char *at = strstr(text, "\"AAAA"); *at != '\n'; at++) {
    if (*at == '"') {
      inside = !inside;
      octets = 0;
    } else if (inside) {
      if (*at == '\\') at += at[1] >= '0' && at[1] <= '9' ? 3 : 1;
      assert_true(++octets <= 255);
    }
  }
}

static void test_zone_fragment__an_empty_file_is_taken_over(void **state) {
  (void)state;
  CLEANUP(fragment_release) struct fragment fragment = {0};
  struct error error = {0};
  assert_int_equal(fragment_parse("", 0, ZONE, &fragment, &error), 0);
  assert_int_equal(fragment.count, 0);
}

static void test_zone_fragment__a_line_of_others_is_refused_with_its_number(void **state) {
  (void)state;
  static const struct {
    const char *text, *says;
  } cases[] = {
      {"www 60 IN A 192.0.2.1\n", "line 1 "},
      {HEAD "www.example.com. 60 IN A 192.0.2.1\n", "line 3 "},
      {HEAD NAME ". 60 IN TXT \"a\" ; mine\n", "line 3 "},
      {HEAD NAME ". 60 IN TXT a\n", "line 3 "},
      {HEAD NAME " 60 IN TXT \"a\"\n", "line 3 "},
      {HEAD NAME ". 60 IN TXT \"a\n", "line 3 "},
      {HEAD NAME ". 60 IN TXT \"a\\999\"\n", "line 3 "},
      {HEAD NAME ". -1 IN TXT \"a\"\n", "line 3 "},
      {HEAD NAME ". 60 IN TXT \"a\"", "line 3 "},
      {HEAD NAME ". 60 IN TXT \"a\"\n" NAME ". 60 IN TXT \"b\"\n", "line 4 "},
      {HEAD "s1._domainkey.example.net. 60 IN TXT \"a\"\n", "line 3 "},
      {HEAD "s1._domainkey.notexample.com. 60 IN TXT \"a\"\n", "line 3 "},
      {HEAD "$INCLUDE /etc/shadow\n", "line 3 "},
  };
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    CLEANUP(fragment_release) struct fragment fragment = {0};
    struct error error = {0};
    if (fragment_parse(cases[i].text, strlen(cases[i].text), ZONE, &fragment, &error) != ERROR_CONFLICT) fail_msg("taken: %s", cases[i].text);
    assert_true(text_starts(error.message, cases[i].says));
    assert_true(error.remedy[0] != '\0');
  }
}

static void test_zone_fragment__edits_touch_only_what_they_name(void **state) {
  (void)state;
  static const struct {
    const char *stands; /* NULL: nothing */
    struct fragment_edit edit;
    int code;
    bool changed;
    const char *after;
  } cases[] = {
      {NULL, {FRAGMENT_ADD, NAME, 3600, "new", NULL, NULL}, 0, true, "new"},
      {"new", {FRAGMENT_ADD, NAME, 3600, "new", NULL, NULL}, 0, false, "new"},
      {"new", {FRAGMENT_ADD, NAME, 60, "new", NULL, NULL}, 0, true, "new"},
      {"old", {FRAGMENT_ADD, NAME, 3600, "new", NULL, NULL}, ERROR_CONFLICT, false, "old"},
      {"old", {FRAGMENT_REPLACE, NAME, 3600, "new", "old", NULL}, 0, true, "new"},
      {"new", {FRAGMENT_REPLACE, NAME, 3600, "new", "old", NULL}, 0, false, "new"},
      {NULL, {FRAGMENT_REPLACE, NAME, 3600, "new", "old", NULL}, 0, true, "new"},
      {"theirs", {FRAGMENT_REPLACE, NAME, 3600, "new", "old", NULL}, ERROR_CONFLICT, false, "theirs"},
      {"old", {FRAGMENT_DELETE, NAME, 0, NULL, "old", "also"}, 0, true, NULL},
      {"also", {FRAGMENT_DELETE, NAME, 0, NULL, "old", "also"}, 0, true, NULL},
      {NULL, {FRAGMENT_DELETE, NAME, 0, NULL, "old", "also"}, 0, false, NULL},
      {"theirs", {FRAGMENT_DELETE, NAME, 0, NULL, "old", NULL}, ERROR_CONFLICT, false, "theirs"},
      {NULL, {FRAGMENT_KEEP, NAME, 3600, "new", NULL, NULL}, 0, true, "new"},
      {"old", {FRAGMENT_KEEP, NAME, 3600, "new", NULL, NULL}, 0, false, "old"},
      {NULL, {FRAGMENT_ADD, "s1._domainkey.example.net", 3600, "new", NULL, NULL}, ERROR_INVALID, false, NULL},
      {NULL, {FRAGMENT_ADD, "s1\n.example.com", 3600, "new", NULL, NULL}, ERROR_INVALID, false, NULL},
      {NULL, {FRAGMENT_ADD, NAME, 3600, NULL, NULL, NULL}, ERROR_INVALID, false, NULL},
      {NULL, {FRAGMENT_DELETE, NAME, 3600, NULL, NULL, NULL}, ERROR_INVALID, false, NULL},
  };
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    CLEANUP(fragment_release) struct fragment fragment = {0};
    bool changed = false;
    add(&fragment, "r._domainkey.example.com", "beside");
    add(&fragment, "t._domainkey.example.com", "beside");
    if (cases[i].stands) add(&fragment, NAME, cases[i].stands);
    const int code = edit(&fragment, &cases[i].edit, &changed);
    if (code != cases[i].code || changed != cases[i].changed) fail_msg("case %zu: code %d, changed %d", i, code, changed);
    assert_int_equal(fragment.count, cases[i].after ? 3 : 2);
    if (cases[i].after) assert_string_equal(fragment.records[1].text, cases[i].after);
    assert_string_equal(fragment.records[0].name, "r._domainkey.example.com");
    assert_string_equal(fragment.records[fragment.count - 1].name, "t._domainkey.example.com");
  }
}

static void test_zone_fragment__zones_that_could_lead_elsewhere_are_no_names(void **state) {
  (void)state;
  static const char *const bad[] = {"", "..", "a..b", "../etc", "a/b", "A.example", "a.example.", ".", "a b", "a\nb"};
  struct error error = {0};
  for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
    if (fragment_check_zone(bad[i], &error) != ERROR_INVALID) fail_msg("taken: \"%s\"", bad[i]);
  assert_int_equal(fragment_check_zone("_domainkey.example.com", &error), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_zone_fragment__what_is_written_reads_back_as_itself),
      cmocka_unit_test(test_zone_fragment__an_empty_file_is_taken_over),
      cmocka_unit_test(test_zone_fragment__a_line_of_others_is_refused_with_its_number),
      cmocka_unit_test(test_zone_fragment__edits_touch_only_what_they_name),
      cmocka_unit_test(test_zone_fragment__zones_that_could_lead_elsewhere_are_no_names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
