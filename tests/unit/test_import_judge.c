/* What import makes of what is known of each key: the answers of name servers, its kind and its age, whether any table names it, and the room there is for it. */
#include "dkimroll/record.h"
#include "import_rig.h"

static void test_import__records_are_taken_as_they_are_served(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_begin(&rig, &IMPORT_SCRIPT);
  struct import_key *signs = import_rig_domain(&rig, "a.test")->signs;
  CLEANUP_FREE char *odd = text_format("k=ed25519;  n=made by hand; t=s ; %s", strstr(signs->expected, "p="));
  import_rig_serve(signs, odd, odd);
  import_judge(&rig.import);
  expect_fate(&rig, "a.test", "server-20260101", IMPORT_ACTIVE);
  assert_true(signs->belongs && !signs->replace);
  assert_string_equal(signs->record, odd);
  assert_int_equal(signs->ttl, 600);
}

static void test_import__a_record_of_another_key_is_replaced_at_once(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_begin(&rig, &IMPORT_SCRIPT);
  struct import_key *signs = import_rig_domain(&rig, "a.test")->signs;
  const char *other = import_rig_key(&rig, "a.test", "server-20260401")->expected;
  import_rig_serve(signs, other, other);
  import_judge(&rig.import);
  expect_fate(&rig, "a.test", "server-20260101", IMPORT_ACTIVE);
  assert_true(signs->served && !signs->belongs && signs->alien && signs->replace);
  assert_string_equal(signs->record, signs->expected); /* what is put there again if that one vanishes */
}

static void test_import__of_two_records_the_one_that_belongs_counts(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_begin(&rig, &IMPORT_SCRIPT);
  struct import_key *signs = import_rig_domain(&rig, "a.test")->signs;
  import_rig_serve(signs, "v=DKIM1; p=AAAA", signs->expected);
  import_judge(&rig.import);
  assert_true(signs->belongs && signs->serving == 1 && !signs->replace);
  assert_string_equal(signs->record, signs->expected);
}

static void test_import__a_missing_record_of_the_key_that_signs_is_to_be_published(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_begin(&rig, &IMPORT_SCRIPT);
  struct import_key *signs = import_rig_domain(&rig, "a.test")->signs;
  import_rig_serve(signs, NULL, NULL);
  import_judge(&rig.import);
  expect_fate(&rig, "a.test", "server-20260101", IMPORT_ACTIVE);
  assert_true(!signs->served && !signs->replace);
  assert_string_equal(signs->record, signs->expected);
}

static void test_import__what_servers_do_not_tell_is_not_guessed(void **state) {
  (void)state;
  for (int what = 0; what < 3; what++) {
    CLEANUP(import_rig_close) struct import_rig rig;
    import_rig_begin(&rig, &IMPORT_SCRIPT);
    struct import_key *signs = import_rig_domain(&rig, "a.test")->signs;
    if (what == 0) error_set(&signs->asked, ERROR_NOT_FOUND, "no zone");
    if (what == 1) import_rig_serve(signs, NULL, NULL);
    for (size_t i = 0; what == 1 && i < 2; i++) signs->servers[i].seen.verdict = OBSERVE_SILENT;
    if (what == 2) {
      import_rig_serve(signs, NULL, signs->expected);
      signs->servers[0].seen.ttl = 600;
      text_copy(signs->servers[0].seen.answer, OBSERVE_ANSWER_TEXT_MAX, "2 TXT records");
    }
    import_judge(&rig.import);
    expect_left(&rig, "a.test", "server-20260101", what == 0 ? "no zone" : what == 1 ? "no name server gives" : "2 TXT records", "");
  }
}

/* It had the record, and the mail that the key signed would not have been verified any more; a selector would have been reserved and its record have stood for ever. */
static void test_import__what_a_silent_server_has_is_not_known(void **state) {
  (void)state;
  for (int silent = 0; silent < 2; silent++) {
    CLEANUP(import_rig_close) struct import_rig rig;
    import_rig_open(&rig, &IMPORT_SCRIPT);
    import_rig_add_key(&rig, 0, 0, "- a.test:server-20260301:/k/keys/a.test/server-20260301.private");
    import_rig_find(&rig);
    static const char *const selectors[] = {"server-20260101", "server-20260401", "server-20260301"};
    for (size_t i = 0; i < ARRAY_SIZE(selectors); i++) {
      struct import_key *key = import_rig_key(&rig, "a.test", selectors[i]);
      import_rig_serve(key, NULL, NULL);
      if (silent) key->servers[1].seen.verdict = OBSERVE_SILENT;
      if (silent) text_copy(key->servers[1].seen.answer, sizeof key->servers[1].seen.answer, "no answer in 8 s");
    }
    struct import_key *half = import_rig_key(&rig, "a.test", "server-20260701");
    import_rig_serve(half, half->expected, NULL);
    half->servers[1].seen.verdict = OBSERVE_SILENT;
    import_judge(&rig.import);
    expect_fate(&rig, "a.test", "server-20260101", IMPORT_ACTIVE); /* publishing looks again */
    expect_fate(&rig, "a.test", "server-20260701", IMPORT_RETIRED);
    if (silent) {
      expect_left(&rig, "a.test", "server-20260401", "ns2.example may have its record, and does not tell: no answer in 8 s", "import again when it answers");
      expect_left(&rig, "a.test", "server-20260301", "ns2.example may have its record", "ignore-servers");
    } else {
      expect_fate(&rig, "a.test", "server-20260401", IMPORT_RETIRED);
      expect_fate(&rig, "a.test", "server-20260301", IMPORT_RESERVED);
    }
  }
}

static void test_import__a_record_that_says_revoked(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  CLEANUP_FREE char *own = NULL;
  import_rig_begin(&rig, &IMPORT_SCRIPT);
  assert_int_equal(record_build_revoked(KEY_ALGORITHM_ED25519, &own, &rig.error), 0);
  import_rig_serve(import_rig_key(&rig, "a.test", "server-20260401"), own, own);
  import_rig_serve(import_rig_key(&rig, "a.test", "server-20260701"), "v=DKIM1;p=", "v=DKIM1;p=");
  import_judge(&rig.import);
  expect_fate(&rig, "a.test", "server-20260401", IMPORT_REVOKED);
  /* In other words than ours it can be replaced and deleted only as what it is. */
  expect_fate(&rig, "a.test", "server-20260701", IMPORT_RETIRED);
}

/* Its keys are added by the tests. */
static const struct import_scene OLD_ONE_SIGNS = {.signing_table = "*@a.test " OLD "\n"};

static void test_import__weak_keys_are_replaced_and_too_weak_ones_left(void **state) {
  (void)state;
  for (unsigned bits = 512; bits <= 2048; bits *= 2) {
    CLEANUP(import_rig_close) struct import_rig rig;
    import_rig_open(&rig, &OLD_ONE_SIGNS);
    import_rig_make_rsa(import_rig_add_key(&rig, 0, 1, OLD_LINE), bits);
    import_rig_find(&rig);
    if (bits < 1024) import_rig_serve(import_rig_key(&rig, "a.test", "a-old"), "v=DKIM1; p=AAAA", "v=DKIM1; p=AAAA");
    import_judge(&rig.import);
    if (bits < 1024)
      expect_left(&rig, "a.test", "a-old", "less than 1024 bits", "remove its lines");
    else
      expect_fate(&rig, "a.test", "a-old", IMPORT_ACTIVE);
    assert_int_equal(import_rig_key(&rig, "a.test", "a-old")->replace, bits == 1024);
  }
}

static void test_import__dates_in_selectors(void **state) {
  (void)state;
  static const struct {
    const char *selector, *date;
  } rows[] = {{"server-20260124", "2026-01-24"}, {"20260124", "2026-01-24"},     {"mx1-20260124-2", "2026-01-24"}, {"dkim202601", "2026-01-01"},
              {"s2026012414", "2026-01-24"},     {"k202601241405x", "2026-01-24"}, {"20261331", NULL},              {"server-20990101", NULL},
              {"19990101", NULL},                {"mail", NULL},                   {"s1024", NULL},                 {"key1234567", NULL},
              {"202613", NULL},                  {"12345678-20260124", "2026-01-24"}};
  for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
    int64_t moment = 0, expected = 0;
    const bool found = import_selector_date(rows[i].selector, NOW, &moment);
    if (found != (rows[i].date != NULL)) fail_msg("%s", rows[i].selector);
    if (!found) continue;
    assert_true(time_parse(rows[i].date, &expected));
    assert_int_equal(moment, expected);
  }
}

static void test_import__without_a_date_the_file_tells_the_age(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_open(&rig, &OLD_ONE_SIGNS);
  import_rig_add_key(&rig, 0, 1, OLD_LINE)->modified = NOW - 100 * DAY;
  import_rig_add_key(&rig, 0, 2, NEW_LINE)->modified = NOW + DAY;
  import_rig_find(&rig);
  import_judge(&rig.import);
  assert_int_equal(import_rig_key(&rig, "a.test", "a-old")->since, NOW - 100 * DAY);
  assert_true(import_rig_key(&rig, "a.test", "a-old")->overdue);
  assert_int_equal(import_rig_key(&rig, "a.test", "a-new")->since, NOW); /* a file of the future tells nothing */
}

static void test_import__files_without_a_line_are_ours_only_in_our_very_form(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_open(&rig, &OLD_ONE_SIGNS);
  import_rig_add_key(&rig, 0, 1, OLD_LINE);
  import_rig_add_key(&rig, 0, 0, "- a.test:server-20260301:/k/keys/a.test/server-20260301.private");   /* ours, served */
  import_rig_add_key(&rig, 0, 0, "- a.test:server-20260302-2:/k/keys/a.test/server-20260302-2.private"); /* our name, another record */
  import_rig_add_key(&rig, 0, 0, "- a.test:server-20260303:/k/keys/a.test/server-20260303.private");   /* our name, not served */
  import_rig_add_key(&rig, 0, 0, "- a.test:rspamd:/k/keys/a.test/rspamd.private");                     /* served in our form, another name */
  import_rig_find(&rig);
  struct import_key *other = import_rig_key(&rig, "a.test", "server-20260302-2");
  CLEANUP_FREE char *record = text_format("%s ", other->expected);
  import_rig_serve(other, record, record);
  import_rig_serve(import_rig_key(&rig, "a.test", "server-20260303"), NULL, NULL);
  import_judge(&rig.import);
  expect_fate(&rig, "a.test", "server-20260301", IMPORT_RETIRED);
  expect_fate(&rig, "a.test", "server-20260302-2", IMPORT_RESERVED);
  expect_fate(&rig, "a.test", "server-20260303", IMPORT_RESERVED);
  expect_fate(&rig, "a.test", "rspamd", IMPORT_RESERVED);
}

/* Its selector would be reserved for ever, and its record stand for ever. */
static void test_import__a_file_without_a_line_is_not_given_up_while_the_key_that_signs_is_not_known(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_open(&rig, &OLD_ONE_SIGNS);
  import_rig_add_key(&rig, 0, 1, OLD_LINE);
  import_rig_add_key(&rig, 0, 0, "- a.test:server-20260301:/k/keys/a.test/server-20260301.private");
  import_rig_add_key(&rig, 0, 0, "- a.test:rspamd:/k/keys/a.test/rspamd.private");
  import_rig_find(&rig);
  import_rig_domain(&rig, "a.test")->proved = false; /* its signer is down, say */
  import_judge(&rig.import);
  expect_left(&rig, "a.test", "server-20260301", "waits for the key that signs", "");
  expect_fate(&rig, "a.test", "rspamd", IMPORT_RESERVED);
}

static void test_import__a_file_without_a_line_is_an_old_one_where_another_key_signs_or_should(void **state) {
  (void)state;
  for (int active = 0; active < 2; active++) {
    CLEANUP(import_rig_close) struct import_rig rig;
    import_rig_open(&rig, &OLD_ONE_SIGNS); /* a line without its entry in KeyTable: nobody signs */
    import_rig_add_key(&rig, 0, 0, "- a.test:server-20260301:/k/keys/a.test/server-20260301.private");
    import_rig_find(&rig);
    import_rig_domain(&rig, "a.test")->has_active = active;
    import_judge(&rig.import);
    if (active)
      expect_fate(&rig, "a.test", "server-20260301", IMPORT_RETIRED);
    else
      expect_left(&rig, "a.test", "server-20260301", "no key signs for the domain", "dkimroll run");
  }
}

static void test_import__more_old_keys_than_there_is_room_come_another_time(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_open(&rig, &(struct import_scene){.signing_table = "*@a.test k25\n"});
  for (unsigned i = 1; i <= IMPORT_ADOPTED_MAX + 5; i++) {
    CLEANUP_FREE char *entry = text_format("k%u a.test:s2026%02u%02u:/k/keys/a.test/%u", i, i / 28 + 1, i % 28 + 1, i);
    import_rig_add_key(&rig, 0, i, entry);
  }
  import_rig_find(&rig);
  import_judge(&rig.import);
  expect_fate(&rig, "a.test", "s20260126", IMPORT_ACTIVE);
  expect_fate(&rig, "a.test", "s20260102", IMPORT_RETIRED); /* the oldest first */
  expect_fate(&rig, "a.test", "s20260121", IMPORT_RETIRED);
  expect_left(&rig, "a.test", "s20260122", "more old keys", "import again");
  expect_left(&rig, "a.test", "s20260125", "more old keys", "import again");
}

static void test_import__keys_that_are_known_take_room_too(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_begin(&rig, &IMPORT_SCRIPT);
  import_rig_domain(&rig, "a.test")->living = LINEAGE_KEYS_MAX - IMPORT_ROOM_KEPT - 1;
  import_judge(&rig.import);
  expect_fate(&rig, "a.test", "server-20260401", IMPORT_RETIRED);
  expect_left(&rig, "a.test", "server-20260701", "more old keys", "import again");
}

int main(void) {
#define TEST(name) cmocka_unit_test(test_import__##name)
  const struct CMUnitTest tests[] = {
      TEST(records_are_taken_as_they_are_served),
      TEST(a_record_of_another_key_is_replaced_at_once),
      TEST(of_two_records_the_one_that_belongs_counts),
      TEST(a_missing_record_of_the_key_that_signs_is_to_be_published),
      TEST(what_servers_do_not_tell_is_not_guessed),
      TEST(what_a_silent_server_has_is_not_known),
      TEST(a_record_that_says_revoked),
      TEST(weak_keys_are_replaced_and_too_weak_ones_left),
      TEST(dates_in_selectors),
      TEST(without_a_date_the_file_tells_the_age),
      TEST(files_without_a_line_are_ours_only_in_our_very_form),
      TEST(a_file_without_a_line_is_not_given_up_while_the_key_that_signs_is_not_known),
      TEST(a_file_without_a_line_is_an_old_one_where_another_key_signs_or_should),
      TEST(more_old_keys_than_there_is_room_come_another_time),
      TEST(keys_that_are_known_take_room_too),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
