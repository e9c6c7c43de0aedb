/* The screen of import is read by somebody who will do what it says: every sentence is true, and every remedy works. */
#include "import_rig.h"

/* What `dkimroll import` would print. Caller frees. */
static char *screen(struct import_rig *rig) {
  char *text = NULL;
  size_t size = 0;
  rig->cli.out = open_memstream(&text, &size);
  assert_non_null(rig->cli.out);
  (void)import_report(&rig->import, false);
  assert_int_equal(fclose(rig->cli.out), 0);
  rig->cli.out = stdout;
  return text;
}

static void expect_said(struct import_rig *rig, const char *said) {
  CLEANUP_FREE char *text = screen(rig);
  if (!strstr(text, said)) fail_msg("%s\ndoes not say:\n%s", text, said);
}

static void expect_not_said(struct import_rig *rig, const char *said) {
  CLEANUP_FREE char *text = screen(rig);
  if (strstr(text, said)) fail_msg("%s\nsays:\n%s", text, said);
}

/* Whoever believed that it never signs would remove it, and mail of that sender would be deferred. */
static void test_import__a_key_that_signs_for_one_sender_is_not_said_never_to_sign(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.key_table = OLD_LINE NEW_LINE, .signing_table = "info@a.test " OLD "\n*@a.test " NEW "\n"});
  expect_fate(&rig, "a.test", "a-new", IMPORT_ACTIVE);
  expect_left(&rig, "a.test", "a-old", "line 1, has it for \"info@a.test\"", "add that pattern");
  expect_said(&rig, "  signs some   a-old   ed25519, since 2027-01-08 by its file\n"
                    "      KeyTable line 1; SigningTable line 1 (info@a.test)\n");
  expect_not_said(&rig, "never signs");
}

static void test_import__in_a_file_table_a_key_that_signs_for_one_sender_is_told(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.signing_format = "file",
                                                .key_table = OLD_LINE NEW_LINE,
                                                .signing_table = "a.test " NEW "\n.a.test " OLD "\ninfo@a.test " OLD "\n"});
  expect_said(&rig, "  signs some   a-old   ");
  expect_said(&rig, "; SigningTable line 2 (.a.test), 3 (info@a.test)\n");
}

/* Of two lines with one key a file: table gives the first, whatever form the key has. */
static void test_import__in_a_file_table_second_lines_never_count(void **state) {
  (void)state;
  static const char *const forms[] = {"info@a.test", "sub.a.test", ".a.test", "x@.a.test", "x@*", "*"};
  for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
    for (int first = 0; first < 2; first++) {
      CLEANUP(import_rig_close) struct import_rig rig;
      CLEANUP_FREE char *signing = text_format("a.test " NEW "\n%s %s\n%s %s\n", forms[i], first ? OLD : NEW, forms[i], first ? NEW : OLD);
      import_rig_judge(&rig, &(struct import_scene){.signing_format = "file", .key_table = OLD_LINE NEW_LINE, .signing_table = signing});
      expect_said(&rig, first ? "  signs some   a-old   " : "  never signs  a-old   ");
    }
}

static void test_import__a_line_of_one_sender_that_never_counts_is_told_with_its_number(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.key_table = OLD_LINE NEW_LINE, .signing_table = "*@a.test " NEW "\ninfo@a.test " OLD "\n"});
  expect_said(&rig, "  never signs  a-old   ed25519, since 2027-01-08 by its file\n"
                    "      KeyTable line 1; SigningTable line 2 (info@a.test), below a line that takes that mail: the first match signs\n");
}

static void test_import__a_key_that_no_line_names_is_told(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.key_table = OLD_LINE NEW_LINE, .signing_table = "*@a.test " NEW "\n"});
  expect_said(&rig, "  never signs  a-old   ed25519, since 2027-01-08 by its file\n"
                    "      KeyTable line 1; no line of the SigningTable names it\n");
}

/* Its mail is deferred until somebody does something, so what that can be has to be said. */
static void test_import__a_key_whose_file_is_gone_is_left_with_the_way_out(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_open(&rig, &(struct import_scene){.key_table = OLD_LINE, .signing_table = "*@a.test " OLD "\n"});
  struct survey_key *key = &rig.import.signers[0].survey.keys[0];
  free(key->public_half.public_key);
  key->public_half = (struct keypair_public){0};
  free(key->problem);
  key->problem = text_duplicate("private key: /k/keys/a.test/a-old.private: cannot open: No such file or directory");
  import_rig_find(&rig);
  import_rig_domain(&rig, "a.test")->proved = false;
  import_judge(&rig.import);
  expect_left(&rig, "a.test", "a-old", "/k/keys/a.test/a-old.private: cannot open: No such file or directory, so mail of a.test is deferred",
              "put the key back from a backup and import again; if there is none, remove SigningTable line 1 (*@a.test) and import again");
}

/* The line is a typing error, and the key that it means would be retired and leave the tables while she corrects it. */
static void test_import__keys_of_a_domain_whose_line_is_wrong_are_left(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.key_table = OLD_LINE, .signing_table = "*@a.test a-odl._domainkey.a.test\n"});
  expect_left(&rig, "a.test", "a-old", "the line of a.test has to be put right first", "");
  expect_said(&rig, "  /k/SigningTable, line 1, names a-odl._domainkey.a.test, which /k/KeyTable does not have: mail of *@a.test is deferred\n");
}

static void test_import__two_records_at_a_name_are_not_said_to_be_none(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_begin(&rig, &(struct import_scene){.key_table = OLD_LINE, .signing_table = "*@a.test " OLD "\n"});
  struct import_key *key = import_rig_key(&rig, "a.test", "a-old");
  import_rig_serve(key, NULL, NULL);
  for (size_t i = 0; i < 2; i++) {
    key->servers[i].seen.ttl = 600;
    text_copy(key->servers[i].seen.answer, sizeof key->servers[i].seen.answer, "2 TXT records");
  }
  import_judge(&rig.import);
  expect_left(&rig, "a.test", "a-old", "2 TXT records", "let one TXT record stand");
  expect_said(&rig, "      what stands at its name is not one record (2 servers asked: 2 TXT records)\n");
  expect_not_said(&rig, "no server has its record");
}

/* The withdrawal removes lines that say domain:selector:path in just these words. */
static void test_import__an_entry_that_is_written_otherwise_is_said_to_stay(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_open(&rig, &(struct import_scene){.key_table = OLD_LINE, .signing_table = "*@a.test " OLD "\n"});
  rig.import.signers[0].survey.keys[0].literal = false;
  import_rig_find(&rig);
  import_judge(&rig.import);
  expect_fate(&rig, "a.test", "a-old", IMPORT_ACTIVE);
  expect_said(&rig, "      that entry and its file stay when the key is gone: remove them then (the entry does not say a.test:a-old:/k/keys/a.test/a-old.private)\n");
}

/* What was just said to stay cannot be said to go. */
static void test_import__an_entry_that_stays_is_not_said_to_go(void **state) {
  (void)state;
  for (int served = 0; served < 2; served++) {
    CLEANUP(import_rig_close) struct import_rig rig;
    import_rig_open(&rig, &(struct import_scene){.key_table = OLD_LINE NEW_LINE, .signing_table = "*@a.test " NEW "\n"});
    rig.import.signers[0].survey.keys[0].literal = false;
    import_rig_find(&rig);
    if (!served) import_rig_serve(import_rig_key(&rig, "a.test", "a-old"), NULL, NULL);
    import_judge(&rig.import);
    expect_fate(&rig, "a.test", "a-old", IMPORT_RETIRED);
    expect_said(&rig, served ? "   -> becomes retired; its record goes as the policy says, that entry stays\n" : "   -> becomes retired; there is nothing of it that goes\n");
  }
}

/* A key of 1536 bits has 1,196 octets in base64. */
static void test_import__a_key_in_the_table_that_is_longer_than_opendkim_reads_is_told(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_open(&rig, &(struct import_scene){.key_table = OLD_LINE, .signing_table = "*@a.test " OLD "\n"});
  struct survey_key *key = &rig.import.signers[0].survey.keys[0];
  import_rig_make_rsa(key, 1536);
  key->place = SURVEY_INLINE;
  key->literal = false;
  key->path[0] = '\0';
  import_rig_find(&rig);
  error_set(&import_rig_domain(&rig, "a.test")->proof, ERROR_PROOF, "the signer defers mail");
  import_judge(&rig.import);
  expect_left(&rig, "a.test", "a-old", "the signer defers mail", "write the key into a file, name that file in KeyTable line 1");
}

static void test_import__domains_of_the_tables_that_the_policy_lacks_are_told(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.key_table = "z z.test:s:/k/z\nz2 z.test:s2:/k/z2\ny y.test:s:/k/y\n" OLD_LINE, .signing_table = "*@a.test " OLD "\n"});
  expect_said(&rig, "/k/KeyTable has keys of 2 domains that are not in the policy: y.test, z.test. They stay as they are.\n");
  const char *const operands[] = {"a.test"};
  rig.arguments.operands = operands;
  rig.arguments.operand_count = 1;
  expect_not_said(&rig, "not in the policy");
}

static void test_import__of_many_domains_that_the_policy_lacks_some_are_named(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  char keys[2048] = "";
  for (unsigned i = 10; i < 30; i++) snprintf(keys + strlen(keys), sizeof keys - strlen(keys), "k%u z%u.test:s:/k/z%u\n", i, i, i);
  import_rig_judge(&rig, &(struct import_scene){.key_table = keys});
  expect_said(&rig, "/k/KeyTable has keys of 20 domains that are not in the policy: z10.test, z11.test, z12.test, z13.test, z14.test, ... They stay as they are.\n");
}

/* A frequent mistake of the how-tos: the host alone, as a file: table has it. Whoever added it to the senders had a policy that nothing could be done with. */
static void test_import__a_line_that_no_address_matches_is_to_be_removed(void **state) {
  (void)state;
  static const struct {
    const char *format, *own, *pattern;
  } rows[] = {{"refile", "*@a.test", "a.test"}, {"refile", "*@a.test", ".a.test"}, {"refile", "*@a.test", "info@.a.test"}, {"refile", "*@a.test", "@a.test"},
              {"file", "a.test", "*@a.test"},   {"file", "a.test", "news-*@a.test"}, {"file", "a.test", "info@*.a.test"}};
  for (size_t i = 0; i < ARRAY_SIZE(rows) * 2; i++) {
    const size_t row = i / 2;
    CLEANUP(import_rig_close) struct import_rig rig;
    CLEANUP_FREE char *signing = text_format("%s %s\n%s " OLD "\n", rows[row].own, i % 2 ? NEW : OLD, rows[row].pattern);
    import_rig_judge(&rig, &(struct import_scene){.signing_format = rows[row].format, .key_table = OLD_LINE NEW_LINE, .signing_table = signing});
    CLEANUP_FREE char *why = text_format("line 2, has it for \"%s\", which no address matches in a %s: table", rows[row].pattern, rows[row].format);
    expect_left(&rig, "a.test", "a-old", why, "remove that line, which signs nothing, and import again; or correct signing-table in the policy");
    expect_not_said(&rig, "signs some");
    if (i % 2 == 0) continue;
    CLEANUP_FREE char *said = text_format("KeyTable line 1; SigningTable line 2 (%s), which no address matches in a %s: table\n", rows[row].pattern, rows[row].format);
    expect_said(&rig, said);
  }
}

/* The policy has no regular expressions. */
static void test_import__a_line_with_a_regular_expression_is_to_be_written_out(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.key_table = OLD_LINE, .signing_table = "(info|sales)@a.test " OLD "\n*@a.test " OLD "\n"});
  expect_left(&rig, "a.test", "a-old", "\"(info|sales)@a.test\", which is no sender of a.test in the policy",
              "write a line for each address or domain that it stands for in its place");
}

/* Whoever wrote only that pattern took the domain's own senders away. */
static void test_import__senders_to_add_are_told_with_those_that_the_policy_means(void **state) {
  (void)state;
  for (int named = 0; named < 2; named++) {
    CLEANUP(import_rig_close) struct import_rig rig;
    import_rig_judge(&rig, &(struct import_scene){.domains = named ? "a.test: {senders: [\"*@a.test\"]}" : NULL,
                                                  .key_table = OLD_LINE,
                                                  .signing_table = "*@a.test " OLD "\n*@*.a.test " OLD "\n"});
    expect_left(&rig, "a.test", "a-old", "\"*@*.a.test\", which is no sender of a.test in the policy", "add that pattern to the senders of a.test in the policy");
    if (named)
      expect_not_said(&rig, "write both");
    else
      expect_said(&rig, "then import again (it names none there, which stands for \"*@a.test\": write both)\n");
  }
}

/* In the place of that line it would have stopped the mail of all others. */
static void test_import__a_line_for_any_domain_is_not_to_be_replaced(void **state) {
  (void)state;
  static const char *const patterns[] = {"*", "*@*.test", "*@*"};
  for (size_t i = 0; i < ARRAY_SIZE(patterns); i++) {
    CLEANUP(import_rig_close) struct import_rig rig;
    CLEANUP_FREE char *signing = text_format("%s %%\n", patterns[i]);
    import_rig_judge(&rig, &(struct import_scene){.domains = "a.test: {}, b.test: {}",
                                                  .key_table = "a.test a.test:s:/k/keys/a.test/s.private\nb.test b.test:s:/k/keys/b.test/s.private\n",
                                                  .signing_table = signing});
    expect_left(&rig, "a.test", "s", "line 1", "write \"*@a.test a.test\" above that line");
    expect_left(&rig, "b.test", "s", "line 1", "write \"*@b.test b.test\" above that line");
  }
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.domains = "a.test: {}",
                                                .key_table = "a.test a.test:s:/k/keys/a.test/s.private\n",
                                                .signing_table = "*@a.test a.test\n* %\n"});
  expect_fate(&rig, "a.test", "s", IMPORT_ACTIVE); /* as the remedy has it */
}

static void test_import__of_two_entries_with_one_name_the_second_is_not_said_to_be_named(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.key_table = "default a.test:s1:/k/keys/a.test/s1.private\ndefault a.test:s2:/k/keys/a.test/s2.private\n",
                                                .signing_table = "*@a.test default\ninfo@b.test default\n"});
  expect_left(&rig, "a.test", "s1", "line 2, has it for \"info@b.test\"", "");
  expect_said(&rig, "  never signs  s2   ed25519, since 2027-01-08 by its file\n"
                    "      KeyTable line 2, below line 1 of the same name: the first one counts\n");
}

static void test_import__a_domain_with_a_dot_at_its_end_is_told(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.key_table = "a a.test.:s:/k/keys/a.test/s.private\n", .signing_table = "*@a.test a\n"});
  expect_said(&rig, "  mail of *@a.test is signed with d=a.test., by /k/SigningTable, line 1\n"
                    "      remedy: write a.test without the dot at its end into /k/KeyTable, line 1, reload OpenDKIM and import again\n");
}

/* No more than a thousand are told of an entry for any domain; the key of the first one was said to sign for the others. */
static void test_import__a_domain_for_which_an_entry_for_any_domain_was_not_looked_at_is_to_be_named(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_open(&rig, &(struct import_scene){.domains = "a.test: {}, b.test: {}", .signing_table = "*@a.test all\n*@b.test all\n"});
  struct survey_key *key = import_rig_add_key(&rig, 0, 1, "all a.test:all:/k/all");
  key->every = true;
  key->literal = false;
  import_rig_find(&rig);
  import_judge(&rig.import);
  expect_fate(&rig, "a.test", "all", IMPORT_ACTIVE);
  expect_said(&rig, "  /k/KeyTable, line 1, serves any domain, and is looked at for 1000 of them at a time\n      remedy: name the domain: dkimroll import b.test\n");
  expect_not_said(&rig, "d=a.test");
}

static void test_import__an_alias_is_told(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_begin(&rig, &(struct import_scene){.key_table = OLD_LINE, .signing_table = "*@a.test " OLD "\n"});
  struct import_key *key = import_rig_key(&rig, "a.test", "a-old");
  text_copy(key->owner, sizeof key->owner, "a-old._domainkey.a.test");
  import_judge(&rig.import);
  expect_not_said(&rig, "alias");
  text_copy(key->owner, sizeof key->owner, "a.provider.example");
  text_copy(key->zone, sizeof key->zone, "provider.example");
  expect_said(&rig, "      its name is an alias of a.provider.example, in zone provider.example: the publisher must be allowed to change that record; else put the record itself in the place of the alias\n");
}

/* It was said to belong to another key, and that it could be removed when this one is gone, which it never was before. */
static void test_import__a_record_that_is_none_is_told_with_its_fault(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_begin(&rig, &(struct import_scene){.key_table = OLD_LINE NEW_LINE, .signing_table = "*@a.test " OLD "\n"});
  struct import_key *signs = import_rig_key(&rig, "a.test", "a-old"), *unused = import_rig_key(&rig, "a.test", "a-new");
  CLEANUP_FREE char *limited = text_format("v=DKIM1; h=sha1; k=ed25519; %s", strstr(signs->expected, "p="));
  import_rig_serve(signs, limited, limited);
  import_rig_serve(unused, "v=spf1 -all", "v=spf1 -all");
  import_judge(&rig.import);
  expect_fate(&rig, "a.test", "a-old", IMPORT_ACTIVE);
  assert_true(signs->replace);
  expect_said(&rig, "      NO RECEIVER ACCEPTS its record; 2 of 2 servers serve it: not a valid key record: h=sha1 does not allow sha256\n"
                    "      that record stays, since it may be somebody else's: if it is not, remove it, so that the right one can be published "
                    "and this key can end\n");
  expect_said(&rig, "serve it: not a valid key record: v=spf1 -all is not v=DKIM1\n      that record stays, since it may be somebody else's: if it is not, remove it\n"
                    "   -> becomes retired; its lines and its file go\n");
  expect_not_said(&rig, "BELONG");
}

static void test_import__a_selector_that_is_none_has_a_way_out(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.key_table = "a a.test:key_1:/k/keys/a.test/1.private\nb a.test:key_2:/k/keys/a.test/2.private\n",
                                                .signing_table = "*@a.test a\n"});
  expect_left(&rig, "a.test", "key_1", "letters, digits and hyphens", "publish its record under another selector, too");
  expect_left(&rig, "a.test", "key_2", "letters, digits and hyphens", "remove its lines");
}

static void make_unreadable(struct survey_key *key, const char *problem) {
  free(key->public_half.public_key);
  key->public_half = (struct keypair_public){0};
  free(key->problem);
  key->problem = text_duplicate(problem);
}

/* Behind ProtectHome= the keeper sees no file in /home. Who believed that mail is deferred would remove the line, and mail would go out unsigned. */
static void test_import__a_key_that_only_opendkim_sees_is_not_said_to_be_lost(void **state) {
  (void)state;
  for (int what = 0; what < 3; what++) {
    CLEANUP(import_rig_close) struct import_rig rig;
    import_rig_open(&rig, &(struct import_scene){.key_table = "a a.test:s:/home/anna/s.private\n", .signing_table = "*@a.test a\n"});
    make_unreadable(&rig.import.signers[0].survey.keys[0], "private key: /home/anna/s.private: cannot open: No such file or directory");
    import_rig_find(&rig);
    import_rig_serve(import_rig_key(&rig, "a.test", "s"), "v=DKIM1; k=ed25519; p=x", "v=DKIM1; k=ed25519; p=x");
    struct import_domain *domain = import_rig_domain(&rig, "a.test");
    if (what == 1) error_set(&domain->proof, ERROR_PROOF, "the signer defers mail");
    if (what == 2) error_set(&domain->proof, ERROR_UNREACHABLE, "milter: connection refused");
    import_judge(&rig.import);
    if (what == 0) {
      expect_left(&rig, "a.test", "s", "although mail of a.test is signed with it", "do not remove anything; move that file");
    } else if (what == 1) {
      expect_left(&rig, "a.test", "s", "so mail of a.test is deferred", "put the key back");
    } else {
      expect_left(&rig, "a.test", "s", "connection refused", "");
    }
  }
}

static void test_import__a_relative_path_is_not_called_a_key_in_the_table(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_open(&rig, &(struct import_scene){.key_table = "a a.test:s:keys/s.private\n", .signing_table = "*@a.test a\n"});
  struct survey_key *key = &rig.import.signers[0].survey.keys[0];
  make_unreadable(key, "neither a path nor a private key in PEM or base64");
  key->place = SURVEY_INLINE;
  key->literal = false;
  key->path[0] = '\0';
  import_rig_find(&rig);
  import_rig_domain(&rig, "a.test")->proved = false;
  import_judge(&rig.import);
  expect_left(&rig, "a.test", "s", "neither a path nor a private key", "write the whole path of its file, from the first / on, into KeyTable line 1");
  expect_said(&rig, "      KeyTable line 1; SigningTable line 1\n");
  expect_not_said(&rig, "in the table itself");
  expect_not_said(&rig, "stay");
}

/* Whoever believed that nothing signs would let a first key be made, in the way of which the old one then stands. */
static void test_import__tables_without_entries_may_be_the_wrong_ones(void **state) {
  (void)state;
  for (int empty = 0; empty < 2; empty++) {
    CLEANUP(import_rig_close) struct import_rig rig;
    import_rig_open(&rig, &(struct import_scene){.key_table = empty ? "" : OLD_LINE, .signing_table = ""});
    rig.import.signers[1].used = false;
    import_rig_add_key(&rig, 0, 0, "- a.test:mail:/k/keys/a.test/mail.private");
    import_rig_find(&rig);
    import_judge(&rig.import);
    if (empty)
      expect_said(&rig, "/k/KeyTable has no entries. If OpenDKIM signs today, it does so by other tables than those of the policy, or by Domain, Selector and KeyFile");
    else
      expect_not_said(&rig, "has no entries");
    expect_not_said(&rig, "/o/KeyTable");
  }
}

/* It was said to say the same. */
static void test_import__a_second_key_of_a_selector_is_told(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_judge(&rig, &(struct import_scene){.key_table = "x a.test:s:/k/keys/a.test/x\ny a.test:s:/k/keys/a.test/y\n", .signing_table = "*@a.test x\n"});
  expect_fate(&rig, "a.test", "s", IMPORT_ACTIVE);
  expect_said(&rig, "      KeyTable line 1; SigningTable line 1\n"
                    "      KeyTable line 2 (y) is another entry of that selector, and stays: remove it with its file when the key is gone\n");
}

int main(void) {
#define TEST(name) cmocka_unit_test(test_import__##name)
  const struct CMUnitTest tests[] = {
      TEST(a_key_that_signs_for_one_sender_is_not_said_never_to_sign),
      TEST(in_a_file_table_a_key_that_signs_for_one_sender_is_told),
      TEST(in_a_file_table_second_lines_never_count),
      TEST(a_line_of_one_sender_that_never_counts_is_told_with_its_number),
      TEST(a_key_that_no_line_names_is_told),
      TEST(a_key_whose_file_is_gone_is_left_with_the_way_out),
      TEST(keys_of_a_domain_whose_line_is_wrong_are_left),
      TEST(two_records_at_a_name_are_not_said_to_be_none),
      TEST(an_entry_that_is_written_otherwise_is_said_to_stay),
      TEST(an_entry_that_stays_is_not_said_to_go),
      TEST(a_key_in_the_table_that_is_longer_than_opendkim_reads_is_told),
      TEST(domains_of_the_tables_that_the_policy_lacks_are_told),
      TEST(of_many_domains_that_the_policy_lacks_some_are_named),
      TEST(a_line_that_no_address_matches_is_to_be_removed),
      TEST(a_line_with_a_regular_expression_is_to_be_written_out),
      TEST(senders_to_add_are_told_with_those_that_the_policy_means),
      TEST(a_line_for_any_domain_is_not_to_be_replaced),
      TEST(of_two_entries_with_one_name_the_second_is_not_said_to_be_named),
      TEST(a_domain_with_a_dot_at_its_end_is_told),
      TEST(a_domain_for_which_an_entry_for_any_domain_was_not_looked_at_is_to_be_named),
      TEST(an_alias_is_told),
      TEST(a_record_that_is_none_is_told_with_its_fault),
      TEST(a_selector_that_is_none_has_a_way_out),
      TEST(a_key_that_only_opendkim_sees_is_not_said_to_be_lost),
      TEST(tables_without_entries_may_be_the_wrong_ones),
      TEST(a_second_key_of_a_selector_is_told),
      TEST(a_relative_path_is_not_called_a_key_in_the_table),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
