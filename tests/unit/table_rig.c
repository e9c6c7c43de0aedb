#include "table_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

struct table *rig_parse(enum table_kind kind, const char *text) {
  struct table *table = NULL;
  struct error error = {0};
  assert_int_equal(table_parse(kind, "/etc/opendkim/Table", text_duplicate(text), strlen(text), &table, &error), 0);
  return table;
}

char *rig_format(const struct table *table) {
  struct buffer text = BUFFER_WITH_MAXIMUM(TABLE_FILE_MAX);
  table_format(table, &text);
  return buffer_take_text(&text);
}

struct scene scene_of(enum table_kind kind, const char *keys, const char *signing) {
  return (struct scene){.kind = kind, .keys = rig_parse(TABLE_KEYS, keys), .signing = rig_parse(kind, signing)};
}

void scene_release(struct scene *scene) {
  table_free(scene->keys);
  table_free(scene->signing);
}

int scene_apply(struct scene *scene, const struct table_edit *edits, size_t count) {
  struct table_pair pair = {.keys = scene->keys,
                            .signing = scene->signing,
                            .multiple_signatures = scene->multiple_signatures,
                            .exists = scene->exists};
  struct table_item item = {.edits = edits, .edit_count = count};
  struct error error = {0};
  assert_int_equal(table_apply(&pair, &item, 1, &scene->outcome, &error), 0);
  return scene->outcome.error.code;
}

void scene_assert(const struct scene *scene, const char *keys, const char *signing) {
  CLEANUP_FREE char *now_keys = rig_format(scene->keys);
  CLEANUP_FREE char *now_signing = rig_format(scene->signing);
  assert_string_equal(now_keys, keys);
  assert_string_equal(now_signing, signing);
}

struct table_edit edit_key(const char *before, const char *beside) {
  return (struct table_edit){
      .kind = TABLE_KEY_SET, .name = NEW_NAME, .value = NEW_VALUE, .before = before, .beside = beside};
}

struct table_edit edit_point(const char *pattern, const char *address) {
  return (struct table_edit){
      .kind = TABLE_SIGN_POINT, .pattern = pattern, .address = address, .name = NEW_NAME, .before = OLD_NAME};
}

int scene_switch(struct scene *scene, const char *pattern) {
  struct table_edit edits[] = {edit_key(NULL, OLD_NAME), edit_point(pattern, "dkimroll-proof@example.com")};
  return scene_apply(scene, edits, 2);
}
