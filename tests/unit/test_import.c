/* What import makes of tables and proofs: which key signs for a domain, which entries are left over, and what is not to be touched. Tables are texts, servers and signers are played. */
#include "import_rig.h"

static void test_import__of_a_line_for_each_run_the_oldest_signs(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_begin(&rig, &IMPORT_SCRIPT);
  import_rig_serve(import_rig_key(&rig, "a.test", "server-20260701"), NULL, NULL);
  import_judge(&rig.import);
  expect_fate(&rig, "a.test", "server-20260101", IMPORT_ACTIVE);
  expect_fate(&rig, "a.test", "server-20260401", IMPORT_RETIRED);
  expect_fate(&rig, "a.test", "server-20260701", IMPORT_RETIRED);
  const struct import_key *signs = import_rig_domain(&rig, "a.test")->signs, *newest = import_rig_key(&rig, "a.test", "server-20260701");
  assert_string_equal(signs->selector, "server-20260101");
  assert_string_equal(signs->since_by, "by its name");
  assert_int_equal(signs->since, INT64_C(1767225600)); /* 2026-01-01 */
  assert_true(signs->overdue && signs->served && signs->belongs && signs->serving == 2 && !signs->replace);
  assert_false(newest->served);
  assert_string_equal(newest->record, newest->expected);
  assert_string_equal(import_rig_domain(&rig, "a.test")->lines, "SigningTable line 2 (*@a.test)");
}

static void test_import__in_a_file_table_the_first_entry_of_a_domain_signs(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.signing_format = "file",
                                                .key_table = SCRIPT_KEYS,
                                                .signing_table = "a.test server-20260401._domainkey.a.test\na.test server-20260101._domainkey.a.test\n"});
  expect_fate(&rig, "a.test", "server-20260401", IMPORT_ACTIVE);
  expect_fate(&rig, "a.test", "server-20260101", IMPORT_RETIRED);
}

static void test_import__what_the_signer_does_not_do_is_not_adopted(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_begin(&rig, &IMPORT_SCRIPT);
  struct import_domain *domain = import_rig_domain(&rig, "a.test");
  error_set(&domain->proof, ERROR_PROOF, "it signs with s=server-20260401");
  error_remedy(&domain->proof, "reload it");
  import_judge(&rig.import);
  expect_left(&rig, "a.test", "server-20260101", "s=server-20260401", "reload it");
  expect_left(&rig, "a.test", "server-20260401", "waits for the key that signs", "");
}

static void test_import__without_a_proof_nothing_signs(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_begin(&rig, &IMPORT_SCRIPT);
  import_rig_domain(&rig, "a.test")->proved = false;
  import_judge(&rig.import);
  expect_left(&rig, "a.test", "server-20260101", "was not asked", "import again");
}

static void test_import__entries_that_nothing_names_are_retired_also_without_a_key_that_signs(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.key_table = SCRIPT_KEYS, .signing_table = "# none\n"});
  assert_null(import_rig_domain(&rig, "a.test")->signs);
  assert_string_equal(import_rig_domain(&rig, "a.test")->unsigned_sender, "*@a.test");
  expect_fate(&rig, "a.test", "server-20260101", IMPORT_RETIRED);
}

static void test_import__a_line_that_was_appended_twice_is_one_key(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.key_table = OLD_LINE "\n" OLD_LINE, .signing_table = "*@a.test " OLD "\n*@a.test " OLD "\n"});
  assert_int_equal(rig.import.key_count, 1);
  assert_int_equal(import_rig_key(&rig, "a.test", "a-old")->copies, 1);
  expect_fate(&rig, "a.test", "a-old", IMPORT_ACTIVE);
}

static void test_import__one_file_of_two_domains_is_told(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.domains = "a.test: {}, b.test: {}",
                                                .key_table = "a a.test:s:/k/shared\n"
                                                             "b b.test:s:/k/shared\n"
                                                             "c b.test:t:/k/alone\n",
                                                .signing_table = "*@a.test a\n*@b.test b\n"});
  const struct import_signer *signer = &rig.import.signers[0];
  const struct survey_key *sharer = import_find_sharer(signer, import_rig_key(&rig, "a.test", "s")->at[0]);
  assert_true(sharer && text_equal(sharer->domain, "b.test") && sharer->line == 2);
  assert_null(import_find_sharer(signer, import_rig_key(&rig, "b.test", "t")->at[0]));
  expect_fate(&rig, "a.test", "s", IMPORT_ACTIVE);
  expect_fate(&rig, "b.test", "s", IMPORT_ACTIVE);
}

static void test_import__a_line_for_more_than_the_domain_is_left_with_the_one_thing_to_do(void **state) {
  (void)state;
  static const char *const patterns[] = {"*", "*@*", "*@*.test", "*@a.*"};
  for (size_t i = 0; i < ARRAY_SIZE(patterns); i++) {
    CLEANUP(import_rig_close) struct import_rig rig;
    CLEANUP_FREE char *signing = text_format("%s %s\n", patterns[i], OLD);
    import_rig_judge(&rig, &(struct import_scene){.key_table = OLD_LINE NEW_LINE, .signing_table = signing});
    expect_left(&rig, "a.test", "a-old", "line 1", "write \"*@a.test " OLD "\" in its place");
    expect_left(&rig, "a.test", "a-new", "waits", "");
  }
}

/* An entry for any domain is a key of each. */
static void add_key_of_any_domain(struct import_rig *rig, const char *entry) {
  struct survey_key *key = import_rig_add_key(rig, 0, 1, entry);
  key->every = true;
  key->literal = false;
}

static void test_import__in_a_file_table_the_line_of_the_domain_will_come_first_anyway(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_open(&rig, &(struct import_scene){.domains = "a.test: {}, b.test: {}", .signing_format = "file", .signing_table = "* all\n"});
  add_key_of_any_domain(&rig, "all a.test:all:/k/all");
  add_key_of_any_domain(&rig, "all b.test:all:/k/all");
  import_rig_find(&rig);
  import_judge(&rig.import);
  expect_fate(&rig, "a.test", "all", IMPORT_ACTIVE);
  expect_fate(&rig, "b.test", "all", IMPORT_ACTIVE);
}

static void test_import__an_entry_for_any_domain_is_a_key_of_those_with_a_line(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_open(&rig, &(struct import_scene){.domains = "a.test: {}, b.test: {}, c.test: {}", .signing_table = "*@a.test all\n*@*c.test all\n"});
  add_key_of_any_domain(&rig, "all a.test:all:/k/all");
  add_key_of_any_domain(&rig, "all b.test:all:/k/all");
  add_key_of_any_domain(&rig, "all c.test:all:/k/all");
  import_rig_find(&rig);
  import_judge(&rig.import);
  expect_fate(&rig, "a.test", "all", IMPORT_ACTIVE);
  expect_fate(&rig, "b.test", "all", IMPORT_UNRELATED);
  expect_left(&rig, "c.test", "all", "line 2", "write \"*@c.test all\" above that line");
}

static void test_import__a_key_that_signs_for_other_senders_too_is_left(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.key_table = SCRIPT_KEYS,
                                                .signing_table = "info@sub.a.test server-20260101._domainkey.a.test\n"
                                                                 "*@a.test server-20260101._domainkey.a.test\n"
                                                                 "x@a.test server-20260401._domainkey.a.test\n"});
  expect_left(&rig, "a.test", "server-20260101", "line 1, has it for \"info@sub.a.test\"", "add that pattern to the senders");
}

static void test_import__senders_of_the_policy_are_its_own(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.domains = "a.test: {senders: [\"*@a.test\", \"info@sub.a.test\"]}",
                                                .key_table = OLD_LINE,
                                                .signing_table = "info@sub.a.test " OLD "\n*@a.test " OLD "\n"});
  expect_fate(&rig, "a.test", "a-old", IMPORT_ACTIVE);
  assert_int_equal(import_rig_domain(&rig, "a.test")->sender_counts[0], 2);
}

static void test_import__senders_that_two_keys_sign_for_are_left(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.domains = "a.test: {senders: [\"*@a.test\", \"info@sub.a.test\"]}",
                                                .key_table = OLD_LINE NEW_LINE,
                                                .signing_table = "info@sub.a.test " OLD "\n*@a.test " NEW "\n"});
  expect_left(&rig, "a.test", "a-old", "two keys sign for it", "import again");
}

/* A key of dkimroll's own came to sign at one signer, where the script's line was gone. */
static void test_import__a_key_in_the_way_of_our_own_is_to_make_room(void **state) {
  (void)state;
  for (int active = 0; active < 2; active++) {
    CLEANUP(import_rig_close) struct import_rig rig;
    import_rig_begin(&rig, &(struct import_scene){.domains = "a.test: {signers: [local, other]}",
                                                  .key_table = NEW_LINE,
                                                  .signing_table = "*@a.test " NEW "\n",
                                                  .other_key_table = OLD " a.test:a-old:/o/keys/a.test/a-old.private\n",
                                                  .other_signing_table = "*@a.test " OLD "\n"});
    import_rig_key(&rig, "a.test", "a-new")->fate = IMPORT_KNOWN;
    import_rig_domain(&rig, "a.test")->has_active = active != 0;
    import_judge(&rig.import);
    expect_fate(&rig, "a.test", "a-new", IMPORT_KNOWN);
    if (active)
      expect_left(&rig, "a.test", "a-old", "two keys sign for it", "");
    else
      expect_left(&rig, "a.test", "a-old", "own key a-new signs some of its mail, and a-old is in its way", "remove the lines of a-old from the SigningTables");
  }
}

static void test_import__two_signers_with_two_keys_are_left_and_with_one_key_adopted(void **state) {
  (void)state;
  for (int same = 0; same < 2; same++) {
    CLEANUP(import_rig_close) struct import_rig rig;
    import_rig_judge(&rig, &(struct import_scene){.domains = "a.test: {signers: [local, other]}",
                                                  .key_table = OLD_LINE,
                                                  .signing_table = "*@a.test " OLD "\n",
                                                  .other_key_table = same ? OLD " a.test:a-old:/o/keys/a.test/a-old.private\n"
                                                                          : NEW " a.test:a-new:/o/keys/a.test/a-new.private\n",
                                                  .other_signing_table = same ? "*@a.test " OLD "\n" : "*@a.test " NEW "\n"});
    const struct import_key *key = import_rig_key(&rig, "a.test", "a-old");
    if (same) {
      expect_fate(&rig, "a.test", "a-old", IMPORT_ACTIVE);
      assert_true(key->at[0] && key->at[1]);
    } else {
      expect_left(&rig, "a.test", "a-old", "two keys sign for it", "remove the lines of a-new from /o/SigningTable and import again");
    }
  }
}

static void test_import__two_lines_that_both_sign_are_left(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.multiple_signatures = true, .key_table = SCRIPT_KEYS, .signing_table = SCRIPT_SIGNING});
  expect_left(&rig, "a.test", "server-20260101", "MultipleSignatures: /k/SigningTable, lines 2 and 4", "remove the line");
}

static void test_import__mail_that_is_signed_for_another_domain_is_told(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_begin(&rig, &(struct import_scene){.domains = "a.test: {}, b.test: {}",
                                                .key_table = "x b.test:s:/k/keys/b.test/s.private\n",
                                                .signing_table = "*@a.test x\n*@b.test x\n"});
  assert_non_null(strstr(import_rig_domain(&rig, "a.test")->obstacle, "is signed with d=b.test"));
  import_judge(&rig.import);
  expect_left(&rig, "b.test", "s", "line 1, has it for \"*@a.test\"", "");
}

static void test_import__a_line_that_names_nothing_is_told(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_begin(&rig, &(struct import_scene){.signing_table = "*@a.test gone\n"});
  assert_non_null(strstr(import_rig_domain(&rig, "a.test")->obstacle, "line 1, names gone, which /k/KeyTable does not have"));
}

static void test_import__two_values_of_one_selector_are_left(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.key_table = "x a.test:s:/k/one\n"
                                                             "y a.test:s:/k/two\n",
                                                .signing_table = "*@a.test y\n"});
  expect_left(&rig, "a.test", "s", "two entries for the selector s, lines 2 and 1", "remove the one that is wrong");
}

/* The how-tos have one entry for all domains, "default" as its selector, and some domain gets a key of its own with the same one. */
static void test_import__an_entry_for_any_domain_is_not_taken_for_the_domains_own(void **state) {
  (void)state;
  static const char *const lines[] = {"*@a.test all\n", "*@a.test own\n", "# none\n"};
  for (size_t i = 0; i < ARRAY_SIZE(lines) * 2; i++) {
    CLEANUP(import_rig_close) struct import_rig rig;
    import_rig_open(&rig, &(struct import_scene){.signing_table = lines[i / 2]});
    import_rig_add_key(&rig, 0, i % 2 ? 2 : 1, "own a.test:default:/k/keys/a.test/default.private");
    struct survey_key *all = import_rig_add_key(&rig, 0, i % 2 ? 1 : 2, "all a.test:default:/k/all");
    all->every = true;
    all->literal = false;
    import_rig_find(&rig);
    import_judge(&rig.import);
    const struct import_key *key = import_rig_key(&rig, "a.test", "default");
    assert_int_equal(rig.import.key_count, 1);
    assert_int_equal(key->copies, 0);
    expect_fate(&rig, "a.test", "default", i / 2 < 2 ? IMPORT_ACTIVE : IMPORT_RETIRED);
    assert_string_equal(key->at[0]->name, i / 2 == 0 ? "all" : "own");
    assert_int_equal(key->other != NULL, i / 2 == 0);
    assert_ptr_equal(key->first, key->at[0]);
    assert_string_equal(key->record, key->expected);
    assert_true(key->belongs);
  }
}

static void test_import__two_senders_with_an_entry_each_of_one_selector_are_left(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_open(&rig, &(struct import_scene){.domains = "a.test: {senders: [\"*@a.test\", \"info@sub.a.test\"]}", .signing_table = "*@a.test own\ninfo@sub.a.test all\n"});
  import_rig_add_key(&rig, 0, 1, "own a.test:default:/k/keys/a.test/default.private");
  add_key_of_any_domain(&rig, "all a.test:default:/k/all");
  import_rig_find(&rig);
  import_judge(&rig.import);
  expect_left(&rig, "a.test", "default", "two entries for the selector default", "let all its lines name one of the two");
}

static void test_import__of_two_entries_for_any_domain_it_is_the_one_that_signs(void **state) {
  (void)state;
  for (int second = 0; second < 2; second++) {
    CLEANUP(import_rig_close) struct import_rig rig;
    import_rig_open(&rig, &(struct import_scene){.signing_table = second ? "*@a.test y\n" : "*@a.test x\n"});
    static const char *const entries[] = {"x a.test:default:/k/one", "y a.test:default:/k/two"};
    for (unsigned i = 0; i < 2; i++) {
      struct survey_key *key = import_rig_add_key(&rig, 0, i + 1, entries[i]);
      key->every = true;
      key->literal = false;
    }
    import_rig_find(&rig);
    import_judge(&rig.import);
    expect_fate(&rig, "a.test", "default", IMPORT_ACTIVE);
    assert_string_equal(import_rig_key(&rig, "a.test", "default")->at[0]->path, second ? "/k/two" : "/k/one");
  }
}

static void test_import__of_two_names_for_one_file_it_is_the_one_that_signs(void **state) {
  (void)state;
  for (int second = 0; second < 2; second++) {
    CLEANUP(import_rig_close) struct import_rig rig;
    import_rig_judge(&rig, &(struct import_scene){.key_table = "x a.test:s:/k/one\ny a.test:s:/k/one\n", .signing_table = second ? "*@a.test y\n" : "*@a.test x\n"});
    const struct import_key *key = import_rig_key(&rig, "a.test", "s");
    expect_fate(&rig, "a.test", "s", IMPORT_ACTIVE);
    assert_int_equal(key->copies, 0);
    assert_int_equal(key->at[0]->line, second ? 2 : 1);
    assert_int_equal(key->other->line, second ? 1 : 2);
  }
}

static void test_import__a_stable_name_with_a_key_that_cannot_be_switched_is_left(void **state) {
  (void)state;
  for (int literal = 0; literal < 2; literal++) {
    CLEANUP(import_rig_close) struct import_rig rig;
    import_rig_open(&rig, &(struct import_scene){.key_name = "key-name: \"%d\", ", .signing_table = "*@a.test a.test\n"});
    import_rig_add_key(&rig, 0, 1, "a.test a.test:s:/k/keys/a.test/s.private")->literal = literal == 1;
    import_rig_find(&rig);
      import_judge(&rig.import);
    if (literal)
      expect_fate(&rig, "a.test", "s", IMPORT_ACTIVE);
    else
      expect_left(&rig, "a.test", "s", "key-name", "choose key-name");
  }
}

static void test_import__own_key_of_dkimroll_is_not_replaced_by_a_line_of_others(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_begin(&rig, &IMPORT_SCRIPT);
  import_rig_domain(&rig, "a.test")->has_active = true;
  text_copy(import_rig_domain(&rig, "a.test")->active, SELECTOR_SIZE, "own");
  import_judge(&rig.import);
  expect_left(&rig, "a.test", "server-20260101", "own key own", "dkimroll prove a.test");
}

int main(void) {
#define TEST(name) cmocka_unit_test(test_import__##name)
  const struct CMUnitTest tests[] = {
      TEST(of_a_line_for_each_run_the_oldest_signs),
      TEST(in_a_file_table_the_first_entry_of_a_domain_signs),
      TEST(what_the_signer_does_not_do_is_not_adopted),
      TEST(without_a_proof_nothing_signs),
      TEST(entries_that_nothing_names_are_retired_also_without_a_key_that_signs),
      TEST(a_line_that_was_appended_twice_is_one_key),
      TEST(one_file_of_two_domains_is_told),
      TEST(a_line_for_more_than_the_domain_is_left_with_the_one_thing_to_do),
      TEST(in_a_file_table_the_line_of_the_domain_will_come_first_anyway),
      TEST(an_entry_for_any_domain_is_a_key_of_those_with_a_line),
      TEST(a_key_that_signs_for_other_senders_too_is_left),
      TEST(senders_of_the_policy_are_its_own),
      TEST(senders_that_two_keys_sign_for_are_left),
      TEST(two_signers_with_two_keys_are_left_and_with_one_key_adopted),
      TEST(a_key_in_the_way_of_our_own_is_to_make_room),
      TEST(two_lines_that_both_sign_are_left),
      TEST(mail_that_is_signed_for_another_domain_is_told),
      TEST(a_line_that_names_nothing_is_told),
      TEST(two_values_of_one_selector_are_left),
      TEST(an_entry_for_any_domain_is_not_taken_for_the_domains_own),
      TEST(two_senders_with_an_entry_each_of_one_selector_are_left),
      TEST(of_two_entries_for_any_domain_it_is_the_one_that_signs),
      TEST(of_two_names_for_one_file_it_is_the_one_that_signs),
      TEST(a_stable_name_with_a_key_that_cannot_be_switched_is_left),
      TEST(own_key_of_dkimroll_is_not_replaced_by_a_line_of_others),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
