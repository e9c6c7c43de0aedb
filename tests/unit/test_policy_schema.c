/* The tables: what they write they read, their defaults are right, and the man page says what they say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/file.h"
#include "dkimroll/policy.h"
#include "dkimroll/policy_tables.h"
#include "dkimroll/text.h"

enum { MANUAL_MAX = 256 * 1024, RECORD_SIZE = 1024, DAY = 86400 };

static char *read_manual(void) {
  char *text = NULL;
  size_t size = 0;
  struct error error = {0};
  if (file_read("docs/dkimroll-policy.5", MANUAL_MAX, &text, &size, NULL, &error) < 0) fail_msg("%s", error.message);
  return text;
}

/* Calls check for each row of table and of the tables below it. */
static void for_each_row(const struct schema_table *table,
                         void (*check)(const struct schema_row *row, const char *manual), const char *manual) {
  for (size_t i = 0; i < table->row_count; i++) {
    check(&table->rows[i], manual);
    if (table->rows[i].table) for_each_row(table->rows[i].table, check, manual);
  }
}

/* Whether the part of the manual for some key of that name holds text. */
static bool manual_says(const char *manual, const char *key, const char *text) {
  CLEANUP_FREE char *start = text_format("\n.It Ic %s :", key);
  for (const char *at = strstr(manual, start); at; at = strstr(at + 1, start)) {
    const char *end = strstr(at + 1, "\n.It ");
    const char *found = strstr(at, text);
    if (found && (!end || found < end)) return true;
  }
  return false;
}

static void assert_manual_says(const char *manual, const char *key, const char *text) {
  if (!manual_says(manual, key, text)) fail_msg("the manual does not say \"%s\" of \"%s\"", text, key);
}

static void assert_row_is_documented(const struct schema_row *row, const char *manual) {
  assert_manual_says(manual, row->name, "");
  if (row->standard) {
    CLEANUP_FREE char *standard = text_format("\n.Ql %s", row->standard);
    assert_manual_says(manual, row->name, standard);
  }
  if (row->flags & SCHEMA_REQUIRED) assert_manual_says(manual, row->name, "Required.");
  if (row->flags & SCHEMA_NEVER) assert_manual_says(manual, row->name, "never");
  for (const struct schema_choice *choice = row->choices; choice && choice->name; choice++) {
    assert_manual_says(manual, row->name, choice->name);
  }
  if (row->maximum == 0) return;
  char maximum[DURATION_TEXT_SIZE];
  snprintf(maximum, sizeof(maximum), "%lld", (long long)row->maximum);
  if (row->shape == SCHEMA_VALUE) row->type->show(row->maximum, maximum);
  assert_manual_says(manual, row->name, maximum);
}

static void test_policy_schema__every_key_default_and_bound_is_in_the_manual(void **state) {
  (void)state;
  CLEANUP_FREE char *manual = read_manual();
  for_each_row(&policy_table, assert_row_is_documented, manual);
  for_each_row(&policy_domain_table, assert_row_is_documented, manual);
}

static void assert_default_is_right(const struct schema_row *row, const char *manual) {
  (void)manual;
  if (!row->standard || row->shape != SCHEMA_VALUE) return;
  max_align_t record[RECORD_SIZE / sizeof(max_align_t)] = {0};
  assert_true(row->offset < RECORD_SIZE - sizeof(void *));
  assert_int_equal(row->type->read(row, row->standard, record), 0);
  if (row->maximum > 0) {
    assert_true(row->type->number(row, record) >= row->minimum);
    assert_true(row->type->number(row, record) <= row->maximum);
  }
  struct error error = {0};
  if (row->check && row->check(row->standard, &error) < 0) fail_msg("default of %s: %s", row->name, error.message);
  if (row->type->release) row->type->release(row, record);
}

static void test_policy_schema__every_default_obeys_its_own_row(void **state) {
  (void)state;
  for_each_row(&policy_table, assert_default_is_right, NULL);
}

/* A row whose type has no reader, or a list without a count, would be found only when somebody uses it. */
static void assert_row_is_complete(const struct schema_row *row, const char *manual) {
  (void)manual;
  if (row->shape == SCHEMA_VALUE) assert_non_null(row->type);
  if (row->shape == SCHEMA_VALUE && row->type != &schema_choice) assert_null(row->choices);
  if (row->shape == SCHEMA_LIST || row->shape == SCHEMA_ENTRIES) {
    assert_int_equal(row->count_offset, row->offset + sizeof(void *));
    assert_true(row->maximum > 0);
  }
  if (row->shape == SCHEMA_GROUP || row->shape == SCHEMA_ENTRIES) assert_non_null(row->table);
  assert_true(row->minimum <= row->maximum);
}

static void test_policy_schema__rows_are_complete(void **state) {
  (void)state;
  for_each_row(&policy_table, assert_row_is_complete, NULL);
  for_each_row(&policy_domain_table, assert_row_is_complete, NULL);
}

/* Sections that an example leaves out. */
static const struct {
  const char *key;
  const char *text;
} rest[] = {
    {"policies:", "policies: {standard: {}}\n"},
    {"publishers:", "publishers: {primary: {}}\n"},
    {"signers:", "signers: {local: {key-table: /t, signing-table: /s, key-directory: /k/%d, milter: \"unix:/m\"}}\n"},
    {"domains:", "domains: {}\n"},
};

static void assert_example_is_right(const char *example) {
  struct buffer text = BUFFER_WITH_MAXIMUM(65536);
  buffer_add_text(&text, example);
  for (size_t i = 0; i < ARRAY_SIZE(rest); i++) {
    CLEANUP_FREE char *line = text_format("\n%s", rest[i].key);
    if (!text_starts(example, rest[i].key) && !strstr(example, line)) buffer_add_text(&text, rest[i].text);
  }
  struct policy *policy = NULL;
  struct error error = {0};
  if (policy_parse("example", (const char *)text.data, text.size, &policy, NULL, &error) < 0) {
    fail_msg("%s in:\n%s", error.message, text.data);
  }
  policy_free(policy);
  buffer_release(&text);
}

static void test_policy_schema__examples_of_the_manual_are_right(void **state) {
  (void)state;
  static const char begin[] = "\n.Bd -literal -offset indent\n";
  CLEANUP_FREE char *manual = read_manual();
  size_t examples = 0;
  for (const char *at = strstr(manual, begin); at; at = strstr(at, begin)) {
    at += strlen(begin);
    const char *end = strstr(at, ".Ed\n");
    assert_non_null(end);
    CLEANUP_FREE char *example = text_format("%.*s", (int)(end - at), at);
    if (!text_starts(example, "- ")) assert_example_is_right(example); /* a list of domains is no policy */
    examples++;
  }
  assert_int_equal(examples, 9);
}

static struct policy *load(const char *path) {
  struct policy *policy = NULL;
  struct error error = {0};
  if (policy_load(path, &policy, NULL, &error) < 0) fail_msg("%s", error.message);
  return policy;
}

static void test_policy_schema__what_is_written_is_read_back_the_same(void **state) {
  (void)state;
  static const char *const paths[] = {"policies/small-server.yaml", "policies/several-domains.yaml",
                                      "policies/provider.yaml"};
  for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
    struct policy *policy = load(paths[i]);
    struct error error = {0};
    for (size_t j = 0; j < policy->rules_count; j++) {
      CLEANUP_FREE char *first = NULL;
      CLEANUP_FREE char *second = NULL;
      struct policy_rules *rules = NULL;
      assert_int_equal(policy_rules_format(&policy->rules[j], &first, &error), 0);
      assert_null(strchr(first, '\n'));
      if (policy_rules_parse(first, &rules, &error) < 0) fail_msg("%s in %s", error.message, first);
      assert_int_equal(policy_rules_format(rules, &second, &error), 0);
      assert_string_equal(first, second);
      assert_string_equal(rules->name, policy->rules[j].name);
      assert_int_equal(rules->rotate_every, policy->rules[j].rotate_every);
      assert_int_equal(rules->publish_ttl, policy->rules[j].publish_ttl);
      assert_int_equal(rules->key_count, policy->rules[j].key_count);
      assert_string_equal(rules->keys[0].selector, policy->rules[j].keys[0].selector);
      policy_rules_free(rules);
    }
    for (size_t j = 0; j < policy->publisher_count; j++) {
      CLEANUP_FREE char *first = NULL;
      CLEANUP_FREE char *second = NULL;
      struct policy_publisher *publisher = NULL;
      assert_int_equal(policy_publisher_format(&policy->publishers[j], &first, &error), 0);
      if (policy_publisher_parse(first, &publisher, &error) < 0) fail_msg("%s in %s", error.message, first);
      assert_int_equal(policy_publisher_format(publisher, &second, &error), 0);
      assert_string_equal(first, second);
      assert_int_equal(publisher->server_count, policy->publishers[j].server_count);
      policy_publisher_free(publisher);
    }
    for (size_t j = 0; j < policy->signer_count; j++) {
      CLEANUP_FREE char *first = NULL;
      CLEANUP_FREE char *second = NULL;
      struct policy_signer *signer = NULL;
      assert_int_equal(policy_signer_format(&policy->signers[j], &first, &error), 0);
      if (policy_signer_parse(first, &signer, &error) < 0) fail_msg("%s in %s", error.message, first);
      assert_int_equal(policy_signer_format(signer, &second, &error), 0);
      assert_string_equal(first, second);
      assert_int_equal(signer->mode, policy->signers[j].mode);
      assert_int_equal(signer->reload, policy->signers[j].reload);
      assert_int_equal(signer->signing_table_format, policy->signers[j].signing_table_format);
      policy_signer_free(signer);
    }
    policy_free(policy);
  }
}

/* Keys remember signers by their text: what is new in a signer and not used must leave it as it was. */
static void test_policy_schema__a_signer_without_a_restart_is_written_as_before_there_was_one(void **state) {
  (void)state;
  struct policy *policy = load("policies/small-server.yaml");
  CLEANUP_FREE char *text = NULL;
  CLEANUP_FREE char *with = NULL;
  struct policy_signer *signer = NULL, *again = NULL;
  struct error error = {0};
  assert_int_equal(policy_signer_format(&policy->signers[0], &text, &error), 0);
  assert_null(strstr(text, "restart"));
  assert_int_equal(policy_signer_parse(text, &signer, &error), 0);
  signer->restart = RELOAD_UNIT;
  signer->restart_target = text_duplicate("opendkim.service");
  assert_int_equal(policy_signer_format(signer, &with, &error), 0);
  assert_non_null(strstr(with, "\"restart\": {\"unit\": \"opendkim.service\"}"));
  assert_int_equal(policy_signer_parse(with, &again, &error), 0);
  assert_int_equal(again->restart, RELOAD_UNIT);
  assert_string_equal(again->restart_target, "opendkim.service");
  policy_signer_free(again);
  policy_signer_free(signer);
  policy_free(policy);
}

static void test_policy_schema__any_difference_shows_in_the_text(void **state) {
  (void)state;
  struct policy *policy = load("policies/small-server.yaml");
  struct policy_rules *rules = &policy->rules[0];
  int64_t *const durations[] = {
      &rules->rotate_every,   &rules->publish_safety, &rules->confirm_every, &rules->confirm_warn_after,
      &rules->queue_lifetime, &rules->queue_backoff,  &rules->drain,         &rules->verify_window,
      &rules->retire_safety,  &rules->tombstone};
  CLEANUP_FREE char *before = NULL;
  struct error error = {0};
  assert_int_equal(policy_rules_format(rules, &before, &error), 0);
  for (size_t i = 0; i < ARRAY_SIZE(durations); i++) {
    CLEANUP_FREE char *after = NULL;
    *durations[i] += 1;
    assert_int_equal(policy_rules_format(rules, &after, &error), 0);
    assert_string_not_equal(before, after);
    *durations[i] -= 1;
  }
  policy_free(policy);
}

static void test_policy_schema__odd_texts_survive(void **state) {
  (void)state;
  char name[] = "a \"name\" \\ with: {everything}, # and \xc3\xbc";
  char file[] = "/tmp/new\nline\ttab";
  char server[] = "";
  char *servers[] = {server, name};
  const struct policy_publisher publisher = {
      .name = name, .type = PUBLISHER_RFC2136, .tsig_file = file, .servers = servers, .server_count = 2};
  CLEANUP_FREE char *text = NULL;
  struct policy_publisher *copy = NULL;
  struct error error = {0};
  assert_int_equal(policy_publisher_format(&publisher, &text, &error), 0);
  assert_null(strchr(text, '\n'));
  if (policy_publisher_parse(text, &copy, &error) < 0) fail_msg("%s in %s", error.message, text);
  assert_string_equal(copy->name, name);
  assert_string_equal(copy->tsig_file, file);
  assert_null(copy->server);
  assert_int_equal(copy->server_count, 2);
  assert_string_equal(copy->servers[0], "");
  assert_string_equal(copy->servers[1], name);
  policy_publisher_free(copy);
}

static void test_policy_schema__stored_values_are_read_beyond_todays_bounds(void **state) {
  (void)state;
  struct policy_rules *rules = NULL;
  struct error error = {0};
  static const char text[] =
      "{\"old\": {\"keys\": {\"main\": {\"algorithm\": \"rsa\", \"bits\": 1024, \"selector\": \"Old_1\"}}, "
      "\"rotate-every\": 1, \"standby\": 99, \"publish\": {\"ttl\": 0}}}";
  if (policy_rules_parse(text, &rules, &error) < 0) fail_msg("%s", error.message);
  assert_int_equal(rules->keys[0].bits, 1024);
  assert_string_equal(rules->keys[0].selector, "Old_1");
  assert_int_equal(rules->rotate_every, 1);
  assert_int_equal(rules->standby, 99);
  assert_int_equal(rules->publish_ttl, 0);
  assert_int_equal(rules->publish_safety, 3600); /* a key that an earlier version did not write has its default */
  policy_rules_free(rules);
  struct policy_publisher *publisher = NULL;
  if (policy_publisher_parse("{\"old\": {\"server\": \"a name\", \"servers\": []}}", &publisher, &error) < 0)
    fail_msg("%s", error.message);
  assert_string_equal(publisher->server, "a name");
  assert_int_equal(publisher->server_count, 0);
  policy_publisher_free(publisher);
}

/* The store was written by somebody else, perhaps, and its errors go to a terminal. */
static void test_policy_schema__message_about_a_stored_text_controls_no_terminal(void **state) {
  (void)state;
  static const char *const texts[] = {"{\"stan\\ard\": {\"s\": 1}}", "{\"a\\e[2J\": {\"s\": 1}}",
                                      "{\"a\\x9b2J\": {\"s\": 1}}", "{\"\\x7f\": {\"s\": 1}}"};
  for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
    struct policy_rules *rules = NULL;
    struct error error = {0};
    assert_int_equal(policy_rules_parse(texts[i], &rules, &error), ERROR_INVALID);
    assert_non_null(strchr(error.message, '?'));
    for (const unsigned char *at = (const unsigned char *)error.message; *at; at++)
      if (*at < ' ' || *at >= 0x7f) fail_msg("octet %u in the message about %s", *at, texts[i]);
  }
}

/* A directory of keys that was taken over may have any name; a version that cannot be read again would stop the store. */
static void test_policy_schema__odd_names_are_stored_and_read_back_or_refused(void **state) {
  (void)state;
  static const char *const kept[] = {"/k/\xc2\x91", "/k/\xc2\x85", "/k/\xe2\x80\xa8x", "/k/\xe2\x80\xa9", "/k/\xef\xbb\xbf", "/k/\xef\xbf\xbe\xef\xbf\xbf", "/k/\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
                                     "/k/\"\\\x7f\x01\n"};
  static const char *const refused[] = {"/k/\xe4", "/k/\xc3", "/k/\xc0\xaf", "/k/\xed\xa0\x80", "/k/\xf5\x80\x80\x80", "/k/\xe2\x28\xa1"};
  for (size_t i = 0; i < ARRAY_SIZE(kept) + ARRAY_SIZE(refused); i++) {
    const bool keeps = i < ARRAY_SIZE(kept);
    const char *directory = keeps ? kept[i] : refused[i - ARRAY_SIZE(kept)];
    const struct policy_signer signer = {.name = (char *)"local", .key_table = (char *)"/k/T", .signing_table = (char *)"/k/S", .key_directory = (char *)(uintptr_t)directory,
                                         .key_name = (char *)"%d", .reload = RELOAD_UNIT, .reload_target = (char *)"x.service", .milter = (char *)"inet:1@127.0.0.1"};
    struct policy_signer *again = NULL;
    CLEANUP_FREE char *text = NULL;
    struct error error = {0};
    assert_int_equal(policy_signer_format(&signer, &text, &error), keeps ? 0 : ERROR_INVALID);
    if (!keeps) assert_true(error.remedy[0] != '\0');
    if (!keeps) continue;
    if (policy_signer_parse(text, &again, &error) < 0) fail_msg("%s", error.message);
    assert_string_equal(again->key_directory, directory);
    policy_signer_free(again);
  }
}

static void test_policy_schema__damaged_texts_are_refused(void **state) {
  (void)state;
  static const char *const texts[] = {"",
                                      "{",
                                      "[]",
                                      "text",
                                      "{}",
                                      "{\"a\": 1}",
                                      "{\"a\": {\"unknown\": 1}}",
                                      "{\"a\": {\"standby\": \"many\"}}",
                                      "{\"a\": {}, \"b\": {}}",
                                      "{\"a\": {\"standby\": 1",
                                      "{\"a\": {\"keys\": {\"main\": {\"algorithm\": \"dsa\"}}}}",
                                      "{\"a\": {}}\n---\n{\"a\": {}}",
                                      "{\"a\": {\"standby\": 1, \"standby\": 2}}",
                                      "{\"a-name-of-more-than-63-octets-which-no-policy-can-have-given-to-it\": {}}",
                                      "{\"a\": {\"keys\": &k {}}}"};
  for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
    struct policy_rules *rules = NULL;
    struct error error = {0};
    if (policy_rules_parse(texts[i], &rules, &error) != ERROR_INVALID) fail_msg("%s was taken", texts[i]);
    assert_null(rules);
  }
}

static void test_policy_schema__shortest_life_scales_with_the_policy(void **state) {
  (void)state;
  struct policy_rules rules = {.publish_safety = 3600, .confirm_sightings = 2, .confirm_every = 10};
  assert_int_equal(policy_shortest_life(&rules), 2 * 3620);
  rules.publish_safety = 0;
  rules.confirm_every = 1;
  assert_int_equal(policy_shortest_life(&rules), 4);
}

static void test_policy_schema__living_keys_are_those_that_are_not_removed_in_time(void **state) {
  (void)state;
  struct policy_rules rules = {
      .rotate_every = 90 * DAY, .queue_lifetime = 5 * DAY, .verify_window = 2 * DAY, .tombstone = 30 * DAY};
  assert_int_equal(policy_living_keys(&rules), 3);
  rules.standby = 2;
  assert_int_equal(policy_living_keys(&rules), 5);
  rules.rotate_every = DAY;
  assert_int_equal(policy_living_keys(&rules), 41);
  rules.rotate_every = TIME_NEVER;
  assert_int_equal(policy_living_keys(&rules), 4);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_policy_schema__every_key_default_and_bound_is_in_the_manual),
      cmocka_unit_test(test_policy_schema__every_default_obeys_its_own_row),
      cmocka_unit_test(test_policy_schema__rows_are_complete),
      cmocka_unit_test(test_policy_schema__examples_of_the_manual_are_right),
      cmocka_unit_test(test_policy_schema__what_is_written_is_read_back_the_same),
      cmocka_unit_test(test_policy_schema__a_signer_without_a_restart_is_written_as_before_there_was_one),
      cmocka_unit_test(test_policy_schema__any_difference_shows_in_the_text),
      cmocka_unit_test(test_policy_schema__odd_texts_survive),
      cmocka_unit_test(test_policy_schema__stored_values_are_read_beyond_todays_bounds),
      cmocka_unit_test(test_policy_schema__message_about_a_stored_text_controls_no_terminal),
      cmocka_unit_test(test_policy_schema__odd_names_are_stored_and_read_back_or_refused),
      cmocka_unit_test(test_policy_schema__damaged_texts_are_refused),
      cmocka_unit_test(test_policy_schema__shortest_life_scales_with_the_policy),
      cmocka_unit_test(test_policy_schema__living_keys_are_those_that_are_not_removed_in_time),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
