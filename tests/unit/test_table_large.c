/* Large tables: every line can be edited, and thousands of edits take little more time than one. It measures real time. */
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
#include "dkimroll/text.h"
#include "table_rig.h"

static void test_table__every_key_of_a_large_table_can_be_removed(void **state) {
  (void)state;
  enum { NAMES = 2000 };
  struct buffer keys = BUFFER_WITH_MAXIMUM(TABLE_FILE_MAX);
  for (int i = 0; i < NAMES; i++) buffer_format(&keys, "k%d example.com:s%d:/keys/s%d\n", i, i, i);
  CLEANUP_FREE char *text = buffer_take_text(&keys);
  CLEANUP(scene_release) struct scene scene = scene_of(TABLE_SIGNING_FILE, text, "");
  for (int i = 0; i < NAMES; i++) {
    CLEANUP_FREE char *name = text_format("k%d", i);
    CLEANUP_FREE char *value = text_format("example.com:s%d:/keys/s%d", i, i);
    struct table_edit edit = {.kind = TABLE_KEY_REMOVE, .name = name, .value = value};
    if (scene_apply(&scene, &edit, 1) != 0) fail_msg("%s", scene.outcome.error.message);
    assert_int_equal(scene.outcome.made[0], TABLE_MADE_REMOVED);
  }
  scene_assert(&scene, "", "");
}

enum { MANY_LINES = 100000, MANY_ITEMS = 5000 };

static char *many_keys(void) {
  struct buffer text = BUFFER_WITH_MAXIMUM(TABLE_FILE_MAX);
  for (int i = 0; i < MANY_LINES; i++)
    buffer_format(&text, "old._domainkey.d%d.example d%d.example:old:/keys/d%d.example/old.private\n", i, i, i);
  return buffer_take_text(&text);
}

static char *many_senders(enum table_kind kind) {
  struct buffer text = BUFFER_WITH_MAXIMUM(TABLE_FILE_MAX);
  for (int i = 0; i < MANY_LINES; i++)
    buffer_format(&text, "%sd%d.example old._domainkey.d%d.example\n", kind == TABLE_SIGNING_REFILE ? "*@" : "", i, i);
  return buffer_take_text(&text);
}

/* One item of the many: domain number, its strings in place. */
struct many_item {
  char name[64], old_name[64], value[128], pattern[64], address[64];
  struct table_edit edits[2];
};

static void many_fill(struct many_item *item, int number, enum table_kind kind) {
  snprintf(item->name, sizeof(item->name), "new._domainkey.d%d.example", number);
  snprintf(item->old_name, sizeof(item->old_name), "old._domainkey.d%d.example", number);
  snprintf(item->value, sizeof(item->value), "d%d.example:new:/keys/d%d.example/new.private", number, number);
  snprintf(item->pattern, sizeof(item->pattern), "%sd%d.example", kind == TABLE_SIGNING_REFILE ? "*@" : "", number);
  snprintf(item->address, sizeof(item->address), "dkimroll-proof@d%d.example", number);
  item->edits[0] =
      (struct table_edit){.kind = TABLE_KEY_SET, .name = item->name, .value = item->value, .beside = item->old_name};
  item->edits[1] = (struct table_edit){.kind = TABLE_SIGN_POINT,
                                       .pattern = item->pattern,
                                       .address = item->address,
                                       .name = item->name,
                                       .before = item->old_name};
}

static int64_t many_time(enum table_kind kind, size_t count) {
  CLEANUP_FREE char *keys = many_keys();
  CLEANUP_FREE char *senders = many_senders(kind);
  struct many_item *many = calloc(count, sizeof(*many));
  struct table_item *items = calloc(count, sizeof(*items));
  struct table_outcome *outcomes = calloc(count, sizeof(*outcomes));
  for (size_t i = 0; i < count; i++) {
    many_fill(&many[i], (int)(i * (MANY_LINES / count)), kind);
    items[i] = (struct table_item){.edits = many[i].edits, .edit_count = 2};
  }
  int64_t start = clock_boottime();
  CLEANUP(scene_release) struct scene scene = scene_of(kind, keys, senders);
  struct table_pair pair = {.keys = scene.keys, .signing = scene.signing};
  struct error error = {0};
  assert_int_equal(table_apply(&pair, items, count, outcomes, &error), 0);
  CLEANUP_FREE char *keys_after = rig_format(scene.keys);
  CLEANUP_FREE char *senders_after = rig_format(scene.signing);
  int64_t took = clock_boottime() - start;
  for (size_t i = 0; i < count; i++) assert_int_equal(outcomes[i].error.code, 0);
  assert_int_equal(strlen(senders_after), strlen(senders));
  assert_true(strlen(keys_after) > strlen(keys) + count * 50);
  free(many);
  free(items);
  free(outcomes);
  return took;
}

static void test_table__thousands_of_edits_in_a_large_table_cost_little_more_than_reading_it(void **state) {
  (void)state;
  for (enum table_kind kind = TABLE_SIGNING_REFILE; kind <= TABLE_SIGNING_FILE; kind++) {
    int64_t one = many_time(kind, 1);
    int64_t many = many_time(kind, MANY_ITEMS);
    print_message("%d lines, %s: 1 item %lld ms, %d items %lld ms\n", MANY_LINES,
                  kind == TABLE_SIGNING_REFILE ? "refile" : "file", (long long)one, MANY_ITEMS, (long long)many);
    /* Quadratic work would be 5,000 times 100,000 comparisons: many seconds. */
    assert_true(many < one * 10 + 1000);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_table__every_key_of_a_large_table_can_be_removed),
      cmocka_unit_test(test_table__thousands_of_edits_in_a_large_table_cost_little_more_than_reading_it),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
