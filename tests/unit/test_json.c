/* JSON as it is written: valid whatever the texts hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/json.h"

static void write_document(struct json *json) {
  json_open(json, NULL, '{');
  json_text(json, "text", "a \"b\" \\ \n\x7f \xc3\xa9");
  json_text(json, "none", NULL);
  json_bool(json, "yes", true);
  json_number(json, "number", -7);
  json_open(json, "empty", '[');
  json_close(json, ']');
  json_break(json);
  json_open(json, "list", '[');
  json_break(json);
  json_moment(json, NULL, 1769267045);
  json_break(json);
  json_moment(json, NULL, TIME_NEVER);
  json_moment(json, NULL, TIME_UNSET);
  json_close(json, ']');
  json_close(json, '}');
}

static void test_json__a_document(void **state) {
  (void)state;
  CLEANUP_FREE char *text = NULL;
  size_t size;
  struct json json = {.out = open_memstream(&text, &size)};
  write_document(&json);
  fclose(json.out);
  assert_string_equal(text, "{\"text\": \"a \\\"b\\\" \\\\ \\u000a\\u007f \xc3\xa9\", \"none\": null, \"yes\": true, "
                            "\"number\": -7, \"empty\": [],\n"
                            "\"list\": [\n\"2026-01-24T15:04:05Z\",\n\"never\", null]}");
}

static void test_json__what_is_not_utf8_is_replaced(void **state) {
  (void)state;
  static const struct {
    const char *octets, *written;
  } rows[] = {
      {"\xff", "\"\\ufffd\""},
      {"a\xc3", "\"a\\ufffd\""},                                /* cut off */
      {"\xc0\x80", "\"\\ufffd\\ufffd\""},                       /* overlong */
      {"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\""},            /* surrogate */
      {"\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""}, /* beyond U+10FFFF */
      {"\xe2\x82\xac\xf0\x9f\x94\x91", "\"\xe2\x82\xac\xf0\x9f\x94\x91\""},
  };
  for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
    CLEANUP_FREE char *text = NULL;
    size_t size;
    struct json json = {.out = open_memstream(&text, &size)};
    json_text(&json, NULL, rows[i].octets);
    fclose(json.out);
    assert_string_equal(text, rows[i].written);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_json__a_document),
      cmocka_unit_test(test_json__what_is_not_utf8_is_replaced),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
