/* The tables of OpenDKIM in memory: what an edit changes, and that all else stays octet for octet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/table.h"
#include "dkimroll/text.h"

#define OLD_NAME "old._domainkey.example.com"
#define NEW_NAME "new._domainkey.example.com"
#define OLD_VALUE "example.com:old:/keys/old.private"
#define NEW_VALUE "example.com:new:/keys/new.private"

static struct table *parse(enum table_kind kind, const char *text) {
  struct table *table = NULL;
  struct error error = {0};
  assert_int_equal(table_parse(kind, "/etc/opendkim/Table", text_duplicate(text), strlen(text), &table, &error), 0);
  return table;
}

static char *format(const struct table *table) {
  struct buffer text = BUFFER_WITH_MAXIMUM(TABLE_FILE_MAX);
  table_format(table, &text);
  return buffer_take_text(&text);
}

/* Two tables, what is done to them, and what they are afterwards. */
struct scene {
  enum table_kind kind;
  struct table *keys;
  struct table *signing;
  bool multiple_signatures;
  table_key_file_exists *exists;
  struct table_outcome outcome;
};

static struct scene scene_of(enum table_kind kind, const char *keys, const char *signing) {
  return (struct scene){.kind = kind, .keys = parse(TABLE_KEYS, keys), .signing = parse(kind, signing)};
}

static void scene_release(struct scene *scene) {
  table_free(scene->keys);
  table_free(scene->signing);
}

static int scene_apply(struct scene *scene, const struct table_edit *edits, size_t count) {
  struct table_pair pair = {.keys = scene->keys,
                            .signing = scene->signing,
                            .multiple_signatures = scene->multiple_signatures,
                            .exists = scene->exists};
  struct table_item item = {.edits = edits, .edit_count = count};
  struct error error = {0};
  assert_int_equal(table_apply(&pair, &item, 1, &scene->outcome, &error), 0);
  return scene->outcome.error.code;
}

static void assert_tables(const struct scene *scene, const char *keys, const char *signing) {
  CLEANUP_FREE char *now_keys = format(scene->keys);
  CLEANUP_FREE char *now_signing = format(scene->signing);
  assert_string_equal(now_keys, keys);
  assert_string_equal(now_signing, signing);
}

static struct table_edit set_key(const char *before, const char *beside) {
  return (struct table_edit){
      .kind = TABLE_KEY_SET, .name = NEW_NAME, .value = NEW_VALUE, .before = before, .beside = beside};
}

static struct table_edit point(const char *pattern, const char *address) {
  return (struct table_edit){
      .kind = TABLE_SIGN_POINT, .pattern = pattern, .address = address, .name = NEW_NAME, .before = OLD_NAME};
}

static int scene_switch(struct scene *scene, const char *pattern) {
  struct table_edit edits[] = {set_key(NULL, OLD_NAME), point(pattern, "dkimroll-proof@example.com")};
  return scene_apply(scene, edits, 2);
}

static void test_table__parse_and_format_keep_every_octet(void **state) {
  (void)state;
  static const char *const texts[] = {
      "",
      "\n",
      "\n\n  \n",
      "# only a comment",
      "a b\n",
      "a b",
      "a\tb\r\n\r\n#c\r\n d e # f\r\n",
      "a b\r\nc d",
      "\xff\xfe binary \x01 octets\n",
      "a\n b\n\tc",
  };
  for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
    enum table_kind kinds[] = {TABLE_KEYS, TABLE_SIGNING_REFILE, TABLE_SIGNING_FILE};
    for (size_t j = 0; j < ARRAY_SIZE(kinds); j++) {
      struct table *table = parse(kinds[j], texts[i]);
      CLEANUP_FREE char *text = format(table);
      assert_string_equal(text, texts[i]);
      assert_false(table_is_changed(table));
      table_free(table);
    }
  }
}

static void test_table__a_nul_octet_is_refused(void **state) {
  (void)state;
  static const char text[] = "a b\nc\0d\n";
  char *data = malloc(sizeof(text));
  memcpy(data, text, sizeof(text));
  struct table *table = NULL;
  struct error error = {0};
  assert_int_equal(table_parse(TABLE_KEYS, "/t", data, sizeof(text) - 1, &table, &error), ERROR_INVALID);
  free(data);
}

static void test_table__switch_changes_one_word_and_adds_one_line(void **state) {
  (void)state;
  CLEANUP(scene_release)
  struct scene scene =
      scene_of(TABLE_SIGNING_REFILE, "# keys\n\n" OLD_NAME " " OLD_VALUE " # mine\nother other.example:o:/keys/o\n",
               "# senders\n\ninfo@other.example\tother\n*@example.com\t" OLD_NAME ":%@example.com  # i=\n");
  assert_int_equal(scene_switch(&scene, "*@example.com"), 0);
  assert_int_equal(scene.outcome.made[0], TABLE_MADE_ADDED);
  assert_int_equal(scene.outcome.made[1], TABLE_MADE_REPLACED);
  assert_tables(&scene,
                "# keys\n\n" OLD_NAME " " OLD_VALUE " # mine\n" NEW_NAME " " NEW_VALUE
                "\nother other.example:o:/keys/o\n",
                "# senders\n\ninfo@other.example\tother\n*@example.com\t" NEW_NAME ":%@example.com  # i=\n");
}

static void test_table__switch_twice_is_switch_once(void **state) {
  (void)state;
  CLEANUP(scene_release) struct scene scene = scene_of(TABLE_SIGNING_REFILE, OLD_NAME " " OLD_VALUE "\n", "");
  assert_int_equal(scene_switch(&scene, "*@example.com"), 0);
  CLEANUP_FREE char *keys = format(scene.keys);
  CLEANUP_FREE char *signing = format(scene.signing);
  CLEANUP(scene_release) struct scene again = scene_of(TABLE_SIGNING_REFILE, keys, signing);
  assert_int_equal(scene_switch(&again, "*@example.com"), 0);
  assert_int_equal(again.outcome.made[0], TABLE_MADE_NOTHING);
  assert_int_equal(again.outcome.made[1], TABLE_MADE_NOTHING);
  assert_false(table_is_changed(again.keys));
  assert_false(table_is_changed(again.signing));
}

static void test_table__missing_final_newline_and_crlf_stay(void **state) {
  (void)state;
  CLEANUP(scene_release)
  struct scene scene =
      scene_of(TABLE_SIGNING_REFILE, "x y:z:/w\r\n" OLD_NAME "\t" OLD_VALUE, "*@other.example\tx\r\n# end");
  assert_int_equal(scene_switch(&scene, "*@example.com"), 0);
  assert_tables(&scene, "x y:z:/w\r\n" OLD_NAME "\t" OLD_VALUE "\r\n" NEW_NAME " " NEW_VALUE,
                "*@other.example\tx\r\n# end\r\n*@example.com " NEW_NAME);
}

static void test_table__inverse_edits_restore_every_octet(void **state) {
  (void)state;
  static const char *const keys[] = {"", OLD_NAME " " OLD_VALUE, OLD_NAME " " OLD_VALUE "\n#\n",
                                     "a b:c:/d\r\n" OLD_NAME " " OLD_VALUE};
  static const char *const signing[] = {"", "# x", "*@other.example x\n", "*@other.example x\r\n\r\n# y\r\n"};
  for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
    for (size_t j = 0; j < ARRAY_SIZE(signing); j++) {
      CLEANUP(scene_release) struct scene scene = scene_of(TABLE_SIGNING_REFILE, keys[i], signing[j]);
      assert_int_equal(scene_switch(&scene, "*@example.com"), 0);
      CLEANUP_FREE char *keys_after = format(scene.keys);
      CLEANUP_FREE char *signing_after = format(scene.signing);
      CLEANUP(scene_release) struct scene back = scene_of(TABLE_SIGNING_REFILE, keys_after, signing_after);
      struct table_edit edits[] = {{.kind = TABLE_SIGN_REMOVE, .pattern = "*@example.com", .name = NEW_NAME},
                                   {.kind = TABLE_KEY_REMOVE, .name = NEW_NAME, .value = NEW_VALUE}};
      assert_int_equal(scene_apply(&back, edits, 2), 0);
      assert_tables(&back, keys[i], signing[j]);
    }
  }
}

static void test_table__stable_name_gets_a_new_value_in_place(void **state) {
  (void)state;
  CLEANUP(scene_release)
  struct scene scene =
      scene_of(TABLE_SIGNING_FILE, "example.com   " OLD_VALUE "\t# k\nz z:z:/z\n", "example.com example.com\n");
  struct table_edit edits[] = {{.kind = TABLE_KEY_SET, .name = "example.com", .value = NEW_VALUE, .before = OLD_VALUE},
                               {.kind = TABLE_SIGN_POINT,
                                .pattern = "example.com",
                                .address = "a@example.com",
                                .name = "example.com",
                                .before = "example.com"}};
  assert_int_equal(scene_apply(&scene, edits, 2), 0);
  assert_int_equal(scene.outcome.made[0], TABLE_MADE_REPLACED);
  assert_false(table_is_changed(scene.signing));
  assert_tables(&scene, "example.com   " NEW_VALUE "\t# k\nz z:z:/z\n", "example.com example.com\n");
}

static void test_table__stable_name_with_a_foreign_value_is_a_conflict(void **state) {
  (void)state;
  CLEANUP(scene_release)
  struct scene scene =
      scene_of(TABLE_SIGNING_FILE, "# x\nexample.com example.com:theirs:/x\n", "example.com example.com\n");
  struct table_edit edit = {.kind = TABLE_KEY_SET, .name = "example.com", .value = NEW_VALUE, .before = OLD_VALUE};
  assert_int_equal(scene_apply(&scene, &edit, 1), ERROR_CONFLICT);
  assert_non_null(strstr(scene.outcome.error.message, "line 2"));
  assert_non_null(strstr(scene.outcome.error.message, "example.com:theirs:/x"));
  assert_false(table_is_changed(scene.keys));
}

static void test_table__foreign_key_name_on_our_pattern_is_a_conflict_and_changes_nothing(void **state) {
  (void)state;
  CLEANUP(scene_release)
  struct scene scene = scene_of(TABLE_SIGNING_REFILE, "theirs example.com:t:/t\n", "\n*@EXAMPLE.com theirs\n");
  assert_int_equal(scene_switch(&scene, "*@example.com"), ERROR_CONFLICT);
  assert_non_null(strstr(scene.outcome.error.message, "line 2"));
  assert_non_null(strstr(scene.outcome.error.message, "theirs"));
  assert_false(table_is_changed(scene.keys));
  assert_false(table_is_changed(scene.signing));
}

/* What a script appended at each run: the first line signs, the others never count. */
static void test_table__lines_of_our_pattern_below_ours_are_no_conflict_and_stay(void **state) {
  (void)state;
  CLEANUP(scene_release)
  struct scene scene = scene_of(TABLE_SIGNING_REFILE, OLD_NAME " " OLD_VALUE "\ntheirs example.com:t:/t\n",
                                "\n*@example.com " OLD_NAME "\n\n*@example.com theirs\n\n*@example.com " OLD_NAME "\n");
  assert_int_equal(scene_switch(&scene, "*@example.com"), 0);
  assert_tables(&scene, OLD_NAME " " OLD_VALUE "\n" NEW_NAME " " NEW_VALUE "\ntheirs example.com:t:/t\n",
                "\n*@example.com " NEW_NAME "\n\n*@example.com theirs\n\n");
  CLEANUP(scene_release)
  struct scene above = scene_of(TABLE_SIGNING_REFILE, OLD_NAME " " OLD_VALUE "\ntheirs example.com:t:/t\n",
                                "*@example.com theirs\n*@example.com " OLD_NAME "\n");
  assert_int_equal(scene_switch(&above, "*@example.com"), ERROR_CONFLICT);
  assert_non_null(strstr(above.outcome.error.message, "line 1"));
}

static void test_table__a_shared_file_keeps_an_entry_only_if_nobody_says_that_it_may_go(void **state) {
  (void)state;
  for (int shared = 0; shared < 2; shared++) {
    CLEANUP(scene_release)
    struct scene scene = scene_of(TABLE_SIGNING_REFILE, "a a.test:s:/k\nb b.test:s:/k\n", "*@b.test b\n");
    struct table_edit edit = {.kind = TABLE_KEY_REMOVE, .name = "a", .value = "a.test:s:/k", .shared = shared == 1};
    assert_int_equal(scene_apply(&scene, &edit, 1), shared ? 0 : ERROR_CONFLICT);
    assert_tables(&scene, shared ? "b b.test:s:/k\n" : "a a.test:s:/k\nb b.test:s:/k\n", "*@b.test b\n");
  }
}

static void test_table__earlier_match_of_a_refile_is_a_conflict_that_names_the_line(void **state) {
  (void)state;
  static const char *const earlier[] = {"*",
                                        "*@*",
                                        "*@*.com",
                                        "*@example.*",
                                        "*example.com",
                                        "*.com",
                                        "*@EXAMPLE.COM",
                                        "[a-z-]*@example.com",
                                        "(dkimroll|b)*@ex*"};
  for (size_t i = 0; i < ARRAY_SIZE(earlier); i++) {
    CLEANUP_FREE char *signing = text_format("# first\n%s default\n", earlier[i]);
    CLEANUP(scene_release) struct scene scene = scene_of(TABLE_SIGNING_REFILE, "default d:d:/d\n", signing);
    assert_int_equal(scene_switch(&scene, "*@example.com"), ERROR_CONFLICT);
    assert_non_null(strstr(scene.outcome.error.message, "line 2"));
    assert_false(table_is_changed(scene.signing));
  }
}

static void test_table__lines_that_take_other_mail_are_no_conflict(void **state) {
  (void)state;
  static const char *const others[] = {
      "info@example.com", "*@sub.example.com", "example.com",    " * indented",   "# *",
      "*@xexample.com",   "*@example.comx",    "a*@example.com", "*.example.com", "*@*.example.com"};
  for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
    CLEANUP_FREE char *signing = text_format("%s default\n", others[i]);
    CLEANUP(scene_release) struct scene scene = scene_of(TABLE_SIGNING_REFILE, "default d:d:/d\n", signing);
    assert_int_equal(scene_switch(&scene, "*@example.com"), 0);
  }
}

static void test_table__later_catch_all_is_no_conflict(void **state) {
  (void)state;
  CLEANUP(scene_release)
  struct scene scene = scene_of(TABLE_SIGNING_REFILE, OLD_NAME " " OLD_VALUE "\ndefault d:d:/d\n",
                                "*@example.com " OLD_NAME "\n* default\n");
  assert_int_equal(scene_switch(&scene, "*@example.com"), 0);
}

static void test_table__file_takes_the_most_specific_entry_wherever_it_stands(void **state) {
  (void)state;
  CLEANUP(scene_release)
  struct scene scene = scene_of(TABLE_SIGNING_FILE, "d d:d:/d\n", "* d\n.com d\nexample.com d\n");
  struct table_edit edits[] = {set_key(NULL, NULL), point("info@example.com", "info@example.com")};
  assert_int_equal(scene_apply(&scene, edits, 2), ERROR_CONFLICT);
  assert_non_null(strstr(scene.outcome.error.message, "line 3"));

  CLEANUP(scene_release)
  struct scene alone = scene_of(TABLE_SIGNING_FILE, "d d:d:/d\n", "* d\n.com d\n.example.com d\ninfo@* d\n");
  struct table_edit whole[] = {set_key(NULL, NULL), point("example.com", "dkimroll-proof@example.com")};
  assert_int_equal(scene_apply(&alone, whole, 2), ERROR_CONFLICT);
  assert_non_null(strstr(alone.outcome.error.message, "line 2"));
}

static void test_table__a_wider_line_of_the_key_before_is_overruled_in_a_file_table_only(void **state) {
  (void)state;
  for (int refile = 0; refile < 2; refile++) {
    CLEANUP(scene_release)
    struct scene scene = scene_of(refile ? TABLE_SIGNING_REFILE : TABLE_SIGNING_FILE, "all %:all:/k/%\n", "* all\n");
    struct table_edit edits[] = {set_key(NULL, NULL), point(refile ? "*@example.com" : "example.com", "dkimroll-proof@example.com")};
    edits[1].before = "all";
    assert_int_equal(scene_apply(&scene, edits, 2), refile ? ERROR_CONFLICT : 0);
    assert_tables(&scene, refile ? "all %:all:/k/%\n" : "all %:all:/k/%\n" NEW_NAME " " NEW_VALUE "\n",
                  refile ? "* all\n" : "* all\nexample.com " NEW_NAME "\n");
  }
}

static void test_table__catch_all_that_resolves_to_our_key_satisfies(void **state) {
  (void)state;
  CLEANUP(scene_release)
  struct scene scene = scene_of(TABLE_SIGNING_REFILE, "example.com " OLD_VALUE "\n", "* %\n");
  struct table_edit edits[] = {{.kind = TABLE_KEY_SET, .name = "example.com", .value = NEW_VALUE, .before = OLD_VALUE},
                               {.kind = TABLE_SIGN_POINT,
                                .pattern = "*@example.com",
                                .address = "a@example.com",
                                .name = "example.com",
                                .before = "example.com"}};
  assert_int_equal(scene_apply(&scene, edits, 2), 0);
  assert_tables(&scene, "example.com " NEW_VALUE "\n", "* %\n");
}

static void test_table__several_senders_of_one_item_do_not_shadow_each_other(void **state) {
  (void)state;
  CLEANUP(scene_release)
  struct scene scene = scene_of(TABLE_SIGNING_REFILE, OLD_NAME " " OLD_VALUE "\n",
                                "*@example.com " OLD_NAME "\ninfo@example.com " OLD_NAME ":x\n");
  struct table_edit edits[] = {set_key(NULL, NULL), point("info@example.com", "info@example.com"),
                               point("*@example.com", "dkimroll-proof@example.com"),
                               point("x@example.com", "x@example.com")};
  assert_int_equal(scene_apply(&scene, edits, 4), 0);
  CLEANUP_FREE char *signing = format(scene.signing);
  assert_string_equal(signing,
                      "*@example.com " NEW_NAME "\ninfo@example.com " NEW_NAME ":x\nx@example.com " NEW_NAME "\n");
}

static void test_table__multiple_signatures_lets_other_keys_stand(void **state) {
  (void)state;
  CLEANUP(scene_release)
  struct scene scene = scene_of(TABLE_SIGNING_REFILE, "second example.com:s:/s\n" OLD_NAME " " OLD_VALUE "\n",
                                "*@example.com second\n*@example.com " OLD_NAME "\n");
  scene.multiple_signatures = true;
  assert_int_equal(scene_switch(&scene, "*@example.com"), 0);
  CLEANUP_FREE char *signing = format(scene.signing);
  assert_string_equal(signing, "*@example.com second\n*@example.com " NEW_NAME "\n");
}

static void test_table__key_that_a_sender_names_is_not_removed(void **state) {
  (void)state;
  CLEANUP(scene_release)
  struct scene scene =
      scene_of(TABLE_SIGNING_REFILE, OLD_NAME " " OLD_VALUE "\n", "# x\n*@sub.example.com " OLD_NAME "\n");
  struct table_edit edits[] = {{.kind = TABLE_SIGN_REMOVE, .pattern = "*@example.com", .name = OLD_NAME},
                               {.kind = TABLE_KEY_REMOVE, .name = OLD_NAME, .value = OLD_VALUE}};
  assert_int_equal(scene_apply(&scene, edits, 2), ERROR_CONFLICT);
  assert_non_null(strstr(scene.outcome.error.message, "line 2"));
  assert_false(table_is_changed(scene.keys));
}

static void test_table__key_that_a_percent_line_names_is_not_removed(void **state) {
  (void)state;
  CLEANUP(scene_release) struct scene scene = scene_of(TABLE_SIGNING_REFILE, "example.com " OLD_VALUE "\n", "* %\n");
  struct table_edit edit = {
      .kind = TABLE_KEY_REMOVE, .name = "example.com", .value = OLD_VALUE, .address = "dkimroll-proof@example.com"};
  assert_int_equal(scene_apply(&scene, &edit, 1), ERROR_CONFLICT);
}

static void test_table__path_that_another_line_names_keeps_the_key(void **state) {
  (void)state;
  static const char *const others[] = {"alias example.com:old:/keys/old.private", "alias %:old:/keys/old.private"};
  for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
    CLEANUP_FREE char *keys = text_format(OLD_NAME " " OLD_VALUE "\n%s\n", others[i]);
    CLEANUP(scene_release) struct scene scene = scene_of(TABLE_SIGNING_REFILE, keys, "");
    struct table_edit edit = {.kind = TABLE_KEY_REMOVE, .name = OLD_NAME, .value = OLD_VALUE};
    assert_int_equal(scene_apply(&scene, &edit, 1), ERROR_CONFLICT);
    assert_non_null(strstr(scene.outcome.error.message, "line 2"));
  }
  CLEANUP(scene_release)
  struct scene percent =
      scene_of(TABLE_SIGNING_REFILE, "o example.com:old:/keys/example.com/old\nall %:old:/keys/%/old\n", "");
  struct table_edit edit = {.kind = TABLE_KEY_REMOVE, .name = "o", .value = "example.com:old:/keys/example.com/old"};
  assert_int_equal(scene_apply(&percent, &edit, 1), ERROR_CONFLICT);
}

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
  assert_tables(&scene, "", "");
}

static void test_table__removing_what_is_not_there_succeeds(void **state) {
  (void)state;
  CLEANUP(scene_release) struct scene scene = scene_of(TABLE_SIGNING_REFILE, "# k\n", "# s");
  struct table_edit edits[] = {{.kind = TABLE_SIGN_REMOVE, .pattern = "*@example.com", .name = OLD_NAME},
                               {.kind = TABLE_KEY_REMOVE, .name = OLD_NAME, .value = OLD_VALUE}};
  assert_int_equal(scene_apply(&scene, edits, 2), 0);
  assert_false(table_is_changed(scene.keys));
  assert_false(table_is_changed(scene.signing));
}

static void test_table__sender_is_never_pointed_at_a_missing_key(void **state) {
  (void)state;
  CLEANUP(scene_release)
  struct scene scene = scene_of(TABLE_SIGNING_REFILE, "# empty\n", "*@example.com " OLD_NAME "\n");
  struct table_edit edit = point("*@example.com", "dkimroll-proof@example.com");
  assert_int_equal(scene_apply(&scene, &edit, 1), ERROR_NOT_FOUND);
  assert_false(table_is_changed(scene.signing));
}

static bool no_file_exists(const char *path) {
  (void)path;
  return false;
}

static void test_table__sender_is_never_pointed_at_a_missing_key_file(void **state) {
  (void)state;
  CLEANUP(scene_release) struct scene scene = scene_of(TABLE_SIGNING_REFILE, "", "");
  scene.exists = no_file_exists;
  assert_int_equal(scene_switch(&scene, "*@example.com"), ERROR_NOT_FOUND);
  assert_non_null(strstr(scene.outcome.error.message, "/keys/new.private"));
  assert_false(table_is_changed(scene.keys));
}

static void test_table__existing_changes_only_what_has_before(void **state) {
  (void)state;
  CLEANUP(scene_release)
  struct scene scene = scene_of(TABLE_SIGNING_REFILE, NEW_NAME " " NEW_VALUE "\n",
                                "*@example.com theirs\ninfo@example.com " OLD_NAME "\n");
  struct table_edit edits[] = {point("*@example.com", "a@example.com"), point("info@example.com", "info@example.com"),
                               point("absent@example.com", "absent@example.com")};
  for (size_t i = 0; i < 3; i++) edits[i].existing = true;
  assert_int_equal(scene_apply(&scene, edits, 3), 0);
  CLEANUP_FREE char *signing = format(scene.signing);
  assert_string_equal(signing, "*@example.com theirs\ninfo@example.com " NEW_NAME "\n");
}

static void test_table__hash_ends_an_entry_and_first_of_a_name_counts(void **state) {
  (void)state;
  struct table *keys = parse(TABLE_KEYS, "k#x a:b:/1\n k\ta:b:/2 # c\nk a:b:/3\n");
  struct table_span value;
  unsigned line = 0;
  assert_true(table_find_key(keys, "k", &value, &line));
  /* "k#x" is "k" without a value, as OpenDKIM reads it. */
  assert_int_equal(line, 1);
  assert_int_equal(value.size, 0);
  assert_false(table_find_key(keys, "K", &value, &line));
  table_free(keys);
}

static void test_table__texts_that_would_break_a_line_are_refused(void **state) {
  (void)state;
  static const char *const values[] = {"example.com:s:/keys/a b", "example.com:s:/keys/a\nevil x",
                                       "example.com:s:/keys/#", "example.com:s:/keys/%d",
                                       "example.com:s:/keys/\xc2\x9b"};
  for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
    CLEANUP(scene_release) struct scene scene = scene_of(TABLE_SIGNING_REFILE, "", "");
    struct table_edit edit = {.kind = TABLE_KEY_SET, .name = "k", .value = values[i]};
    assert_int_equal(scene_apply(&scene, &edit, 1), ERROR_CONFIG);
    assert_false(table_is_changed(scene.keys));
  }
  CLEANUP(scene_release) struct scene scene = scene_of(TABLE_SIGNING_REFILE, "", "");
  struct table_edit colon = {.kind = TABLE_KEY_SET, .name = "a:b", .value = "example.com:s:/k"};
  assert_int_equal(scene_apply(&scene, &colon, 1), ERROR_CONFIG);
}

static void test_table__line_that_opendkim_would_cut_is_refused(void **state) {
  (void)state;
  char path[TABLE_LINE_MAX + 1];
  memset(path, 'p', sizeof(path));
  path[sizeof(path) - 1] = '\0';
  memcpy(path, "example.com:s:/", 15);
  CLEANUP(scene_release) struct scene scene = scene_of(TABLE_SIGNING_REFILE, "", "");
  struct table_edit edit = {.kind = TABLE_KEY_SET, .name = "k", .value = path};
  assert_int_equal(scene_apply(&scene, &edit, 1), ERROR_LIMIT);
}

static void test_table__sender_patterns(void **state) {
  (void)state;
  static const struct {
    const char *sender, *refile, *file; /* file NULL: refused */
  } cases[] = {
      {"*@example.com", "*@example.com", "example.com"},
      {"@example.com", "*@example.com", "example.com"},
      {"user@example.com", "user@example.com", "user@example.com"},
      {"*@*.example.com", "*@*.example.com", ".example.com"},
      {"user@*.example.com", "user@*.example.com", "user@.example.com"},
      {"user@*", "user@*", "user@*"},
      {"*", "*", "*"},
      {"*@*", "*@*", "*"},
      {"news-*@example.com", "news-*@example.com", NULL},
      {"*@mail*.example.com", "*@mail*.example.com", NULL},
      {"*.example.com", "*.example.com", NULL},
  };
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    CLEANUP_FREE char *refile = NULL;
    CLEANUP_FREE char *file = NULL;
    struct error error = {0};
    assert_int_equal(table_sender_pattern(TABLE_SIGNING_REFILE, cases[i].sender, &refile, &error), 0);
    assert_string_equal(refile, cases[i].refile);
    int result = table_sender_pattern(TABLE_SIGNING_FILE, cases[i].sender, &file, &error);
    assert_int_equal(result, cases[i].file ? 0 : ERROR_CONFIG);
    if (cases[i].file) assert_string_equal(file, cases[i].file);
  }
  CLEANUP_FREE char *nothing = NULL;
  struct error error = {0};
  assert_int_equal(table_sender_pattern(TABLE_SIGNING_REFILE, "example.com", &nothing, &error), ERROR_CONFIG);
}

static void test_table__sender_addresses_match_their_own_patterns(void **state) {
  (void)state;
  static const struct {
    const char *sender, *address;
  } cases[] = {
      {"*@example.com", "dkimroll-proof@example.com"},
      {"@example.com", "dkimroll-proof@example.com"},
      {"user@example.com", "user@example.com"},
      {"user+tag@example.com", "user+tag@example.com"},
      {"*@*.example.com", "dkimroll-proof@dkimroll-proof.example.com"},
      {"user@*", "user@example.com"},
      {"*", "dkimroll-proof@example.com"},
      {"*@*", "dkimroll-proof@example.com"},
      {"news-*@example.com", "news-dkimroll-proof@example.com"},
      {"*.example.com", "dkimroll-proof@dkimroll-proof.example.com"},
      {"*example.com", "dkimroll-proof@example.com"},
  };
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    CLEANUP_FREE char *address = NULL;
    CLEANUP_FREE char *pattern = NULL;
    struct error error = {0};
    assert_int_equal(table_sender_address(cases[i].sender, "example.com", &address, &error), 0);
    assert_string_equal(address, cases[i].address);
    for (enum table_kind kind = TABLE_SIGNING_REFILE; kind <= TABLE_SIGNING_FILE; kind++) {
      if (table_sender_pattern(kind, cases[i].sender, &pattern, &error) < 0) continue;
      CLEANUP_FREE char *line = text_format("%s key\n", pattern);
      free(TAKE_PTR(pattern));
      struct table *table = parse(kind, line);
      struct table_span name;
      unsigned number = 0;
      assert_true(table_match_sender(table, address, &name, &number));
      assert_int_equal(number, 1);
      table_free(table);
    }
  }
  CLEANUP_FREE char *address = NULL;
  struct error error = {0};
  assert_int_equal(table_sender_address("[ab]@example.com", "example.com", &address, &error), ERROR_CONFIG);
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
  CLEANUP_FREE char *keys_after = format(scene.keys);
  CLEANUP_FREE char *senders_after = format(scene.signing);
  int64_t took = clock_boottime() - start;
  for (size_t i = 0; i < count; i++) assert_int_equal(outcomes[i].error.code, 0);
  assert_int_equal(strlen(senders_after), strlen(senders));
  assert_true(strlen(keys_after) > strlen(keys) + count * 50);
  free(many);
  free(items);
  free(outcomes);
  return took;
}

/* Each "*" becomes a word, so an address may be much longer than its sender. */
static void test_table__sender_whose_address_would_be_too_long_is_refused(void **state) {
  (void)state;
  char sender[200 + sizeof "@example.com"];
  memset(sender, '*', 200);
  memcpy(sender + 200, "@example.com", sizeof "@example.com");
  char *address = NULL;
  struct error error = {0};
  assert_int_equal(table_sender_address(sender, "example.com", &address, &error), ERROR_LIMIT);
  assert_null(address);
  assert_non_null(strstr(error.message, "longer than 1021 octets"));
  assert_non_null(strstr(error.remedy, "shorter sender"));
}

static void test_table__cr_at_the_very_end_becomes_one_line_end(void **state) {
  (void)state;
  struct scene scene = scene_of(TABLE_SIGNING_REFILE, "a b:c:d\r\ne f:g:h\r", "");
  const struct table_edit edit = set_key(NULL, NULL);
  assert_int_equal(scene_apply(&scene, &edit, 1), 0);
  assert_tables(&scene, "a b:c:d\r\ne f:g:h\r\n" NEW_NAME " " NEW_VALUE, "");
  scene_release(&scene);
}

static void test_table__a_value_that_is_there_already_is_not_replaced_by_itself(void **state) {
  (void)state;
  struct scene scene = scene_of(TABLE_SIGNING_REFILE, NEW_NAME " " NEW_VALUE "\n", "");
  const struct table_edit edit = set_key(NEW_VALUE, NULL);
  assert_int_equal(scene_apply(&scene, &edit, 1), 0);
  assert_int_equal(scene.outcome.made[0], TABLE_MADE_NOTHING);
  assert_false(table_is_changed(scene.keys));
  scene_release(&scene);
}

/* regcomp(3) of the second one would take all memory. */
static void test_table__counts_in_a_foreign_pattern_cost_no_memory(void **state) {
  (void)state;
  static const struct {
    const char *pattern;
    bool matches;
  } cases[] = {
      {"[a-z]{3,20}@example\\.com", false},
      {"[a-z-]{3,20}@example.com", true},
      {"[a-z-]{14}@(example){1}.com", true},
      {"(((x{255}){255}){255})|[a-z-]+@example.com", false},
      {"x{30000}{30000}", false},
      {"x{99999999999999999999}", false},
  };
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    CLEANUP_FREE char *text = text_format("%s foreign\n", cases[i].pattern);
    struct table *signing = parse(TABLE_SIGNING_REFILE, text);
    struct table_span name;
    unsigned line;
    if (table_match_sender(signing, "dkimroll-proof@example.com", &name, &line) != cases[i].matches)
      fail_msg("%s", cases[i].pattern);
    table_free(signing);
  }
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
      cmocka_unit_test(test_table__parse_and_format_keep_every_octet),
      cmocka_unit_test(test_table__a_nul_octet_is_refused),
      cmocka_unit_test(test_table__switch_changes_one_word_and_adds_one_line),
      cmocka_unit_test(test_table__switch_twice_is_switch_once),
      cmocka_unit_test(test_table__missing_final_newline_and_crlf_stay),
      cmocka_unit_test(test_table__inverse_edits_restore_every_octet),
      cmocka_unit_test(test_table__stable_name_gets_a_new_value_in_place),
      cmocka_unit_test(test_table__stable_name_with_a_foreign_value_is_a_conflict),
      cmocka_unit_test(test_table__foreign_key_name_on_our_pattern_is_a_conflict_and_changes_nothing),
      cmocka_unit_test(test_table__lines_of_our_pattern_below_ours_are_no_conflict_and_stay),
      cmocka_unit_test(test_table__a_shared_file_keeps_an_entry_only_if_nobody_says_that_it_may_go),
      cmocka_unit_test(test_table__earlier_match_of_a_refile_is_a_conflict_that_names_the_line),
      cmocka_unit_test(test_table__lines_that_take_other_mail_are_no_conflict),
      cmocka_unit_test(test_table__later_catch_all_is_no_conflict),
      cmocka_unit_test(test_table__file_takes_the_most_specific_entry_wherever_it_stands),
      cmocka_unit_test(test_table__a_wider_line_of_the_key_before_is_overruled_in_a_file_table_only),
      cmocka_unit_test(test_table__catch_all_that_resolves_to_our_key_satisfies),
      cmocka_unit_test(test_table__several_senders_of_one_item_do_not_shadow_each_other),
      cmocka_unit_test(test_table__multiple_signatures_lets_other_keys_stand),
      cmocka_unit_test(test_table__key_that_a_sender_names_is_not_removed),
      cmocka_unit_test(test_table__key_that_a_percent_line_names_is_not_removed),
      cmocka_unit_test(test_table__path_that_another_line_names_keeps_the_key),
      cmocka_unit_test(test_table__every_key_of_a_large_table_can_be_removed),
      cmocka_unit_test(test_table__removing_what_is_not_there_succeeds),
      cmocka_unit_test(test_table__sender_is_never_pointed_at_a_missing_key),
      cmocka_unit_test(test_table__sender_is_never_pointed_at_a_missing_key_file),
      cmocka_unit_test(test_table__existing_changes_only_what_has_before),
      cmocka_unit_test(test_table__hash_ends_an_entry_and_first_of_a_name_counts),
      cmocka_unit_test(test_table__texts_that_would_break_a_line_are_refused),
      cmocka_unit_test(test_table__line_that_opendkim_would_cut_is_refused),
      cmocka_unit_test(test_table__sender_patterns),
      cmocka_unit_test(test_table__sender_addresses_match_their_own_patterns),
      cmocka_unit_test(test_table__sender_whose_address_would_be_too_long_is_refused),
      cmocka_unit_test(test_table__cr_at_the_very_end_becomes_one_line_end),
      cmocka_unit_test(test_table__a_value_that_is_there_already_is_not_replaced_by_itself),
      cmocka_unit_test(test_table__counts_in_a_foreign_pattern_cost_no_memory),
      cmocka_unit_test(test_table__thousands_of_edits_in_a_large_table_cost_little_more_than_reading_it),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
