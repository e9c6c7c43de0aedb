/* The tables of OpenDKIM in memory: what an edit changes, what it refuses, and that all else stays octet for octet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "table_rig.h"

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
      struct table *table = rig_parse(kinds[j], texts[i]);
      CLEANUP_FREE char *text = rig_format(table);
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
  scene_assert(&scene,
                "# keys\n\n" OLD_NAME " " OLD_VALUE " # mine\n" NEW_NAME " " NEW_VALUE
                "\nother other.example:o:/keys/o\n",
                "# senders\n\ninfo@other.example\tother\n*@example.com\t" NEW_NAME ":%@example.com  # i=\n");
}

static void test_table__switch_twice_is_switch_once(void **state) {
  (void)state;
  CLEANUP(scene_release) struct scene scene = scene_of(TABLE_SIGNING_REFILE, OLD_NAME " " OLD_VALUE "\n", "");
  assert_int_equal(scene_switch(&scene, "*@example.com"), 0);
  CLEANUP_FREE char *keys = rig_format(scene.keys);
  CLEANUP_FREE char *signing = rig_format(scene.signing);
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
  scene_assert(&scene, "x y:z:/w\r\n" OLD_NAME "\t" OLD_VALUE "\r\n" NEW_NAME " " NEW_VALUE,
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
      CLEANUP_FREE char *keys_after = rig_format(scene.keys);
      CLEANUP_FREE char *signing_after = rig_format(scene.signing);
      CLEANUP(scene_release) struct scene back = scene_of(TABLE_SIGNING_REFILE, keys_after, signing_after);
      struct table_edit edits[] = {{.kind = TABLE_SIGN_REMOVE, .pattern = "*@example.com", .name = NEW_NAME},
                                   {.kind = TABLE_KEY_REMOVE, .name = NEW_NAME, .value = NEW_VALUE}};
      assert_int_equal(scene_apply(&back, edits, 2), 0);
      scene_assert(&back, keys[i], signing[j]);
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
  scene_assert(&scene, "example.com   " NEW_VALUE "\t# k\nz z:z:/z\n", "example.com example.com\n");
}

/* "%" stands for the domain, which is the name: all that signs must not go as a line of the key before. */
static void test_table__a_line_that_stands_for_the_name_stays_whatever_was_before(void **state) {
  (void)state;
  CLEANUP(scene_release)
  struct scene scene = scene_of(TABLE_SIGNING_REFILE, "example.com " NEW_VALUE "\n", "*@example.com %\n*@example.com %\n");
  struct table_edit edit = {
      .kind = TABLE_SIGN_POINT, .pattern = "*@example.com", .address = "dkimroll-proof@example.com", .name = "example.com", .before = "%"};
  assert_int_equal(scene_apply(&scene, &edit, 1), 0);
  assert_int_equal(scene_apply(&scene, &edit, 1), 0);
  assert_int_equal(scene.outcome.made[0], TABLE_MADE_NOTHING);
  scene_assert(&scene, "example.com " NEW_VALUE "\n", "*@example.com %\n");
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

/* The message goes to the side that talks to the network, into the log and into the store. */
static void test_table__a_conflict_with_a_private_key_in_the_table_does_not_show_the_key(void **state) {
  (void)state;
#define SECRET "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC"
  static const char *const values[] = {"example.com:theirs:" SECRET, "example.com:theirs:  " SECRET, "example.com:" SECRET, SECRET, "x y:z:" SECRET};
  for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
    CLEANUP_FREE char *keys = text_format("example.com %s\n", values[i]);
    CLEANUP(scene_release)
    struct scene scene = scene_of(TABLE_SIGNING_FILE, keys, "example.com example.com\n");
    struct table_edit edit = {.kind = TABLE_KEY_SET, .name = "example.com", .value = NEW_VALUE, .before = OLD_VALUE};
    assert_int_equal(scene_apply(&scene, &edit, 1), ERROR_CONFLICT);
    assert_non_null(strstr(scene.outcome.error.message, "line 1"));
    assert_null(strstr(scene.outcome.error.message, "MC4CAQ"));
    assert_null(strstr(scene.outcome.error.remedy, "MC4CAQ"));
  }
#undef SECRET
}

static void test_table__a_shared_file_keeps_an_entry_only_if_nobody_says_that_it_may_go(void **state) {
  (void)state;
  for (int shared = 0; shared < 2; shared++) {
    CLEANUP(scene_release)
    struct scene scene = scene_of(TABLE_SIGNING_REFILE, "a a.test:s:/k\nb b.test:s:/k\n", "*@b.test b\n");
    struct table_edit edit = {.kind = TABLE_KEY_REMOVE, .name = "a", .value = "a.test:s:/k", .shared = shared == 1};
    assert_int_equal(scene_apply(&scene, &edit, 1), shared ? 0 : ERROR_CONFLICT);
    scene_assert(&scene, shared ? "b b.test:s:/k\n" : "a a.test:s:/k\nb b.test:s:/k\n", "*@b.test b\n");
  }
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
  struct table_edit edit = edit_point("*@example.com", "dkimroll-proof@example.com");
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
  struct table_edit edits[] = {edit_point("*@example.com", "a@example.com"), edit_point("info@example.com", "info@example.com"),
                               edit_point("absent@example.com", "absent@example.com")};
  for (size_t i = 0; i < 3; i++) edits[i].existing = true;
  assert_int_equal(scene_apply(&scene, edits, 3), 0);
  CLEANUP_FREE char *signing = rig_format(scene.signing);
  assert_string_equal(signing, "*@example.com theirs\ninfo@example.com " NEW_NAME "\n");
}

/* What import found may be an entry for any domain, or hold the private key. */
static void test_table__an_entry_that_may_be_of_another_form_is_left_and_written_only_where_it_lacks(void **state) {
  (void)state;
  for (int there = 0; there < 2; there++) {
    CLEANUP(scene_release)
    struct scene scene = scene_of(TABLE_SIGNING_REFILE, there ? NEW_NAME " %:second:/keys/second\n" : "theirs other.test:s:/x\n", "");
    struct table_edit edits[] = {{.kind = TABLE_KEY_SET, .name = NEW_NAME, .value = NEW_VALUE, .kept = true}, edit_point("*@example.com", "a@example.com")};
    assert_int_equal(scene_apply(&scene, edits, 2), 0);
    CLEANUP_FREE char *keys = rig_format(scene.keys);
    CLEANUP_FREE char *signing = rig_format(scene.signing);
    assert_string_equal(keys, there ? NEW_NAME " %:second:/keys/second\n" : "theirs other.test:s:/x\n" NEW_NAME " " NEW_VALUE "\n");
    assert_string_equal(signing, "*@example.com " NEW_NAME "\n");
  }
}

static void test_table__hash_ends_an_entry_and_first_of_a_name_counts(void **state) {
  (void)state;
  struct table *keys = rig_parse(TABLE_KEYS, "k#x a:b:/1\n k\ta:b:/2 # c\nk a:b:/3\n");
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

/* Such a line would be read as something else, or have OpenDKIM refuse the whole table at its next start. */
static void test_table__an_entry_without_a_name_or_a_pattern_is_refused(void **state) {
  (void)state;
  const struct table_edit edits[] = {
      {.kind = TABLE_KEY_SET, .name = "", .value = NEW_VALUE},
      {.kind = TABLE_KEY_SET, .name = "k", .value = ""},
      {.kind = TABLE_SIGN_POINT, .pattern = "", .address = "dkimroll-proof@", .name = NEW_NAME},
      {.kind = TABLE_SIGN_POINT, .pattern = "example.com", .address = "a@example.com", .name = ""},
  };
  for (size_t i = 0; i < ARRAY_SIZE(edits); i++) {
    CLEANUP(scene_release) struct scene scene = scene_of(TABLE_SIGNING_FILE, NEW_NAME " " NEW_VALUE "\n", "");
    assert_int_equal(scene_apply(&scene, &edits[i], 1), ERROR_CONFIG);
    assert_false(table_is_changed(scene.keys) || table_is_changed(scene.signing));
  }
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

static void test_table__cr_at_the_very_end_becomes_one_line_end(void **state) {
  (void)state;
  struct scene scene = scene_of(TABLE_SIGNING_REFILE, "a b:c:d\r\ne f:g:h\r", "");
  const struct table_edit edit = edit_key(NULL, NULL);
  assert_int_equal(scene_apply(&scene, &edit, 1), 0);
  scene_assert(&scene, "a b:c:d\r\ne f:g:h\r\n" NEW_NAME " " NEW_VALUE, "");
  scene_release(&scene);
}

static void test_table__a_value_that_is_there_already_is_not_replaced_by_itself(void **state) {
  (void)state;
  struct scene scene = scene_of(TABLE_SIGNING_REFILE, NEW_NAME " " NEW_VALUE "\n", "");
  const struct table_edit edit = edit_key(NEW_VALUE, NULL);
  assert_int_equal(scene_apply(&scene, &edit, 1), 0);
  assert_int_equal(scene.outcome.made[0], TABLE_MADE_NOTHING);
  assert_false(table_is_changed(scene.keys));
  scene_release(&scene);
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
      cmocka_unit_test(test_table__a_line_that_stands_for_the_name_stays_whatever_was_before),
      cmocka_unit_test(test_table__stable_name_with_a_foreign_value_is_a_conflict),
      cmocka_unit_test(test_table__a_conflict_with_a_private_key_in_the_table_does_not_show_the_key),
      cmocka_unit_test(test_table__a_shared_file_keeps_an_entry_only_if_nobody_says_that_it_may_go),
      cmocka_unit_test(test_table__key_that_a_sender_names_is_not_removed),
      cmocka_unit_test(test_table__key_that_a_percent_line_names_is_not_removed),
      cmocka_unit_test(test_table__path_that_another_line_names_keeps_the_key),
      cmocka_unit_test(test_table__removing_what_is_not_there_succeeds),
      cmocka_unit_test(test_table__sender_is_never_pointed_at_a_missing_key),
      cmocka_unit_test(test_table__sender_is_never_pointed_at_a_missing_key_file),
      cmocka_unit_test(test_table__existing_changes_only_what_has_before),
      cmocka_unit_test(test_table__an_entry_that_may_be_of_another_form_is_left_and_written_only_where_it_lacks),
      cmocka_unit_test(test_table__hash_ends_an_entry_and_first_of_a_name_counts),
      cmocka_unit_test(test_table__texts_that_would_break_a_line_are_refused),
      cmocka_unit_test(test_table__an_entry_without_a_name_or_a_pattern_is_refused),
      cmocka_unit_test(test_table__line_that_opendkim_would_cut_is_refused),
      cmocka_unit_test(test_table__cr_at_the_very_end_becomes_one_line_end),
      cmocka_unit_test(test_table__a_value_that_is_there_already_is_not_replaced_by_itself),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
