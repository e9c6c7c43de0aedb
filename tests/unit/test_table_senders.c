/* Whose mail a line of a SigningTable takes: which other lines are a conflict for a sender, and what a policy's sender means in each kind of table. */
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

/* A new line comes to the end of the table, so there is no use in moving the other one there. */
static void test_table__earlier_match_of_a_refile_has_a_remedy_that_helps(void **state) {
  (void)state;
  CLEANUP(scene_release) struct scene absent = scene_of(TABLE_SIGNING_REFILE, "default d:d:/d\n", "*@*.com default\n");
  assert_int_equal(scene_switch(&absent, "*@example.com"), ERROR_CONFLICT);
  assert_null(strstr(absent.outcome.error.remedy, "move that line"));
  assert_non_null(strstr(absent.outcome.error.remedy, "narrow its pattern"));
  assert_non_null(strstr(absent.outcome.error.remedy, "`dkimroll import`"));
  CLEANUP(scene_release)
  struct scene below = scene_of(TABLE_SIGNING_REFILE, "default d:d:/d\n" OLD_NAME " " OLD_VALUE "\n", "*@*.com default\n*@example.com " OLD_NAME "\n");
  assert_int_equal(scene_switch(&below, "*@example.com"), ERROR_CONFLICT);
  assert_non_null(strstr(below.outcome.error.remedy, "move that line below the one of dkimroll"));
  CLEANUP(scene_release)
  struct scene moved = scene_of(TABLE_SIGNING_REFILE, "default d:d:/d\n" OLD_NAME " " OLD_VALUE "\n", "*@example.com " OLD_NAME "\n*@*.com default\n");
  assert_int_equal(scene_switch(&moved, "*@example.com"), 0);
}

/* What a script appended at each run: the first line signs, the others never count. */
static void test_table__lines_of_our_pattern_below_ours_are_no_conflict_and_stay(void **state) {
  (void)state;
  CLEANUP(scene_release)
  struct scene scene = scene_of(TABLE_SIGNING_REFILE, OLD_NAME " " OLD_VALUE "\ntheirs example.com:t:/t\n",
                                "\n*@example.com " OLD_NAME "\n\n*@example.com theirs\n\n*@example.com " OLD_NAME "\n");
  assert_int_equal(scene_switch(&scene, "*@example.com"), 0);
  scene_assert(&scene, OLD_NAME " " OLD_VALUE "\n" NEW_NAME " " NEW_VALUE "\ntheirs example.com:t:/t\n",
                "\n*@example.com " NEW_NAME "\n\n*@example.com theirs\n\n");
  CLEANUP(scene_release)
  struct scene above = scene_of(TABLE_SIGNING_REFILE, OLD_NAME " " OLD_VALUE "\ntheirs example.com:t:/t\n",
                                "*@example.com theirs\n*@example.com " OLD_NAME "\n");
  assert_int_equal(scene_switch(&above, "*@example.com"), ERROR_CONFLICT);
  assert_non_null(strstr(above.outcome.error.message, "line 1"));
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
  struct table_edit edits[] = {edit_key(NULL, NULL), edit_point("info@example.com", "info@example.com")};
  assert_int_equal(scene_apply(&scene, edits, 2), ERROR_CONFLICT);
  assert_non_null(strstr(scene.outcome.error.message, "line 3"));

  CLEANUP(scene_release)
  struct scene alone = scene_of(TABLE_SIGNING_FILE, "d d:d:/d\n", "* d\n.com d\n.example.com d\ninfo@* d\n");
  struct table_edit whole[] = {edit_key(NULL, NULL), edit_point("example.com", "dkimroll-proof@example.com")};
  assert_int_equal(scene_apply(&alone, whole, 2), ERROR_CONFLICT);
  assert_non_null(strstr(alone.outcome.error.message, "line 2"));
}

static void test_table__a_wider_line_of_the_key_before_is_overruled_in_a_file_table_only(void **state) {
  (void)state;
  for (int refile = 0; refile < 2; refile++) {
    CLEANUP(scene_release)
    struct scene scene = scene_of(refile ? TABLE_SIGNING_REFILE : TABLE_SIGNING_FILE, "all %:all:/k/%\n", "* all\n");
    struct table_edit edits[] = {edit_key(NULL, NULL), edit_point(refile ? "*@example.com" : "example.com", "dkimroll-proof@example.com")};
    edits[1].before = "all";
    assert_int_equal(scene_apply(&scene, edits, 2), refile ? ERROR_CONFLICT : 0);
    scene_assert(&scene, refile ? "all %:all:/k/%\n" : "all %:all:/k/%\n" NEW_NAME " " NEW_VALUE "\n",
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
  scene_assert(&scene, "example.com " NEW_VALUE "\n", "* %\n");
}

static void test_table__several_senders_of_one_item_do_not_shadow_each_other(void **state) {
  (void)state;
  CLEANUP(scene_release)
  struct scene scene = scene_of(TABLE_SIGNING_REFILE, OLD_NAME " " OLD_VALUE "\n",
                                "*@example.com " OLD_NAME "\ninfo@example.com " OLD_NAME ":x\n");
  struct table_edit edits[] = {edit_key(NULL, NULL), edit_point("info@example.com", "info@example.com"),
                               edit_point("*@example.com", "dkimroll-proof@example.com"),
                               edit_point("x@example.com", "x@example.com")};
  assert_int_equal(scene_apply(&scene, edits, 4), 0);
  CLEANUP_FREE char *signing = rig_format(scene.signing);
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
  CLEANUP_FREE char *signing = rig_format(scene.signing);
  assert_string_equal(signing, "*@example.com second\n*@example.com " NEW_NAME "\n");
}

static void test_table__sender_patterns(void **state) {
  (void)state;
  static const struct {
    const char *sender, *refile, *file; /* NULL: refused */
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
      /* The forms of opendkim.conf(5), which no line of a refile: table could have. */
      {"example.com", NULL, "example.com"},
      {".example.com", NULL, ".example.com"},
      {"*@.example.com", NULL, ".example.com"},
      {"user@.example.com", NULL, "user@.example.com"},
  };
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    CLEANUP_FREE char *refile = NULL;
    CLEANUP_FREE char *file = NULL;
    struct error error = {0};
    int result = table_sender_pattern(TABLE_SIGNING_REFILE, cases[i].sender, &refile, &error);
    assert_int_equal(result, cases[i].refile ? 0 : ERROR_CONFIG);
    if (cases[i].refile) assert_string_equal(refile, cases[i].refile);
    result = table_sender_pattern(TABLE_SIGNING_FILE, cases[i].sender, &file, &error);
    assert_int_equal(result, cases[i].file ? 0 : ERROR_CONFIG);
    if (cases[i].file) assert_string_equal(file, cases[i].file);
  }
  CLEANUP_FREE char *nothing = NULL;
  struct error error = {0};
  assert_int_equal(table_sender_pattern(TABLE_SIGNING_FILE, "", &nothing, &error), ERROR_CONFIG);
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
      {"example.com", "dkimroll-proof@example.com"},
      {".example.com", "dkimroll-proof@dkimroll-proof.example.com"},
      {"*@.example.com", "dkimroll-proof@dkimroll-proof.example.com"},
      {"user@.example.com", "user@dkimroll-proof.example.com"},
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
      struct table *table = rig_parse(kind, line);
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
    struct table *signing = rig_parse(TABLE_SIGNING_REFILE, text);
    struct table_span name;
    unsigned line;
    if (table_match_sender(signing, "dkimroll-proof@example.com", &name, &line) != cases[i].matches)
      fail_msg("%s", cases[i].pattern);
    table_free(signing);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_table__foreign_key_name_on_our_pattern_is_a_conflict_and_changes_nothing),
      cmocka_unit_test(test_table__lines_of_our_pattern_below_ours_are_no_conflict_and_stay),
      cmocka_unit_test(test_table__earlier_match_of_a_refile_is_a_conflict_that_names_the_line),
      cmocka_unit_test(test_table__lines_that_take_other_mail_are_no_conflict),
      cmocka_unit_test(test_table__later_catch_all_is_no_conflict),
      cmocka_unit_test(test_table__file_takes_the_most_specific_entry_wherever_it_stands),
      cmocka_unit_test(test_table__a_wider_line_of_the_key_before_is_overruled_in_a_file_table_only),
      cmocka_unit_test(test_table__catch_all_that_resolves_to_our_key_satisfies),
      cmocka_unit_test(test_table__earlier_match_of_a_refile_has_a_remedy_that_helps),
      cmocka_unit_test(test_table__several_senders_of_one_item_do_not_shadow_each_other),
      cmocka_unit_test(test_table__multiple_signatures_lets_other_keys_stand),
      cmocka_unit_test(test_table__sender_patterns),
      cmocka_unit_test(test_table__sender_addresses_match_their_own_patterns),
      cmocka_unit_test(test_table__sender_whose_address_would_be_too_long_is_refused),
      cmocka_unit_test(test_table__counts_in_a_foreign_pattern_cost_no_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
