/* What import writes into the store of what it judged, and what it tells on the screen. */
#include "import_rig.h"

static int copy_row(void *context, const void *row) {
  struct error error = {0};
  return lineage_copy(row, context, &error);
}

/* A store that knows nothing but the policy. */
static void open_store(struct import_rig *rig) {
  static const struct store_policy_stamp stamp = {.digest = "x"};
  assert_int_equal(store_sqlite_open(":memory:", false, &rig->import.session.store, &rig->error), 0);
  struct store *store = rig->import.session.store;
  assert_int_equal(store->ops->sync(store, rig->policy, &stamp, NOW, NULL, &rig->error), 0);
}

static void read_lineages(struct import_rig *rig, int take(void *context, const void *row), void *context) {
  const struct store_filter filter = {.domain = "a.test"};
  struct store *store = rig->import.session.store;
  if (store->ops->select(store, STORE_SELECT_LINEAGES, &filter, take, context, &rig->error)) fail_msg("%s", rig->error.message);
}

/* What was judged is written into such a store; gives the lineage of a.test as it is then. */
static void apply(struct import_rig *rig, struct lineage *ret_lineage) {
  open_store(rig);
  if (import_apply(&rig->import, &rig->error)) fail_msg("%s", rig->error.message);
  read_lineages(rig, copy_row, ret_lineage);
}

static int count_row(void *context, const void *row) {
  const struct event *event = row;
  if (text_equal(event->kind, "imported")) ++*(size_t *)context;
  return 0;
}

static size_t imported_events(struct import_rig *rig) {
  static const struct store_filter all;
  size_t count = 0;
  struct store *store = rig->import.session.store;
  assert_int_equal(store->ops->select(store, STORE_SELECT_EVENTS, &all, count_row, &count, &rig->error), 0);
  return count;
}

static void test_import__what_was_judged_is_written_in_one_go(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  CLEANUP(lineage_release) struct lineage lineage = {0};
  import_rig_open(&rig, &IMPORT_SCRIPT);
  import_rig_add_key(&rig, 0, 0, "- a.test:rspamd:/k/keys/a.test/rspamd.private");
  import_rig_find(&rig);
  import_rig_serve(import_rig_key(&rig, "a.test", "server-20260701"), NULL, NULL);
  import_judge(&rig.import);
  apply(&rig, &lineage);
  assert_int_equal(lineage.key_count, 3);
  const struct key *active = lineage_active_key(&lineage), *old = lineage_find_key(&lineage, "server-20260401"),
                   *lost = lineage_find_key(&lineage, "server-20260701");
  assert_string_equal(active->selector, "server-20260101");
  assert_int_equal(active->active_at, INT64_C(1767225600));
  assert_string_equal(active->zone, "zone.example");
  assert_int_equal(active->ttl, 600);
  assert_int_equal(active->right_at, NOW);
  assert_int_equal(active->placement_count, 1);
  assert_int_equal(active->placements[0].proved_at, NOW);
  assert_string_equal(active->placements[0].key_path, "/k/keys/a.test/server-20260101.private");
  assert_int_equal(active->placements[0].signer_id, lineage.signer_ids[0]);
  assert_true(key_is_adopted(active) && key_is_adopted(old));
  assert_int_equal(old->state, KEY_RETIRED);
  assert_int_equal(old->retired_at, NOW);
  assert_true(old->deleted_at == TIME_UNSET && old->revoke_at > NOW);
  assert_int_equal(lost->deleted_at, NOW);
  assert_int_equal(lineage.next_moment, NOW);
  assert_false(lineage.rotate_requested);
  assert_int_equal(imported_events(&rig), 4);
}

static void test_import__names_and_directories_that_are_not_the_policys_are_kept(void **state) {
  (void)state;
  static const struct {
    const char *entry, *directory, *name;
  } rows[] = {{"odd a.test:s:/else/where/key.pem", "/else/where", "odd"},
              {"odd a.test:s:/etc/key.pem", "/k/keys/%d", "odd"}, /* the keeper gets no rights in all of /etc */
              {"s.a.test a.test:s:/mail/a.test/dkim/s.private", "/mail/%d/dkim", "%s.%d"},
              {"s a.test:s:/k/keys/deep/er/x", "/k/keys/%d", "%s"},
              {"s._domainkey.a.test a.test:s:/k/keys/a.test/s.private", "/k/keys/%d", "%s._domainkey.%d"}};
  for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
    CLEANUP(import_rig_close) struct import_rig rig;
    CLEANUP(lineage_release) struct lineage lineage = {0};
    CLEANUP_FREE char *signing = text_format("*@a.test %.*s\n", (int)strcspn(rows[i].entry, " "), rows[i].entry);
    import_rig_judge(&rig, &(struct import_scene){.key_table = rows[i].entry, .signing_table = signing});
    apply(&rig, &lineage);
    const struct placement *placement = &lineage.keys[0].placements[0];
    assert_string_equal(placement->signer->key_directory, rows[i].directory);
    assert_string_equal(placement->signer->key_name, rows[i].name);
    assert_string_equal(placement->signer->key_table, "/k/KeyTable");
    assert_int_equal(placement->signer_id == lineage.signer_ids[0], i == 4);
    assert_int_equal(placement->destroyed, i == 1); /* that file is never destroyed */
  }
}

static void test_import__a_weak_key_asks_for_its_successor_and_an_inline_one_has_no_file(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  CLEANUP(lineage_release) struct lineage lineage = {0};
  import_rig_open(&rig, &(struct import_scene){.signing_table = "*@a.test " OLD "\n"});
  struct survey_key *key = import_rig_add_key(&rig, 0, 1, OLD " a.test:a-old:-");
  import_rig_make_rsa(key, 1024);
  key->place = SURVEY_INLINE;
  key->literal = false;
  key->path[0] = '\0';
  import_rig_find(&rig);
  import_judge(&rig.import);
  apply(&rig, &lineage);
  assert_true(lineage.rotate_requested);
  assert_null(lineage.keys[0].placements[0].key_path);
  assert_true(lineage.keys[0].placements[0].destroyed && !lineage.keys[0].placements[0].file_made);
  assert_int_equal(lineage.keys[0].bits, 1024);
}

static void test_import__the_screen_tells_what_and_why(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  char *text = NULL;
  size_t size = 0;
  import_rig_begin(&rig, &(struct import_scene){.domains = "a.test: {}, b.test: {}",
                                                .key_table = SCRIPT_KEYS "\nb b.test:s:/k/keys/a.test/server-20260101.private\n",
                                                .signing_table = SCRIPT_SIGNING "* b\n"});
  import_rig_serve(import_rig_key(&rig, "a.test", "server-20260701"), NULL, NULL);
  import_judge(&rig.import);
  rig.cli.out = open_memstream(&text, &size);
  assert_int_equal(import_report(&rig.import, false), 1);
  fclose(rig.cli.out);
  static const char *const said[] = {
      "a.test\n  signs today  server-20260101   ed25519, since 2026-01-01 by its name\n      KeyTable line 2; SigningTable line 2\n"
      "      its private key file is also that of b.test (KeyTable line 8), and stays as long as any line names it\n"
      "      its record is served by 2 of 2 servers and belongs to its private key\n      a message of each sender was signed with it\n"
      "   -> becomes active; a new key follows at once, because this one is older than rotate-every\n",
      "  never signs  server-20260401   ed25519, since 2026-04-01 by its name\n"
      "      KeyTable line 4; SigningTable line 4, below the line of server-20260101: the first match signs\n",
      "      no server has its record (2 asked: NXDOMAIN)\n   -> becomes retired; its lines and its file go\n",
      "   -> is left alone: mail of *@b.test is signed by a line for more than these senders: /k/SigningTable, line 7, \"*\"\n"
      "      remedy: write \"*@b.test b\" in its place",
      "\n4 keys found: 1 active, 2 retired, 0 with a reserved selector, 0 known already, 1 left alone.\nNothing was changed. `dkimroll import --apply` does"};
  for (size_t i = 0; i < ARRAY_SIZE(said); i++)
    if (!strstr(text, said[i])) fail_msg("%s\ndoes not say:\n%s", text, said[i]);
  free(text);
}

static void test_import__a_record_of_another_key_is_nothing_to_put_back_or_take_away(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  CLEANUP(lineage_release) struct lineage lineage = {0};
  import_rig_begin(&rig, &IMPORT_SCRIPT);
  struct import_key *signs = import_rig_domain(&rig, "a.test")->signs, *unused = import_rig_key(&rig, "a.test", "server-20260401");
  CLEANUP_FREE char *expected = text_duplicate(signs->expected);
  import_rig_serve(signs, "v=DKIM1; k=rsa; p=AAAA", "v=DKIM1; k=rsa; p=AAAA");
  import_rig_serve(unused, "v=DKIM1; k=rsa; p=AAAA", "v=DKIM1; k=rsa; p=AAAA");
  import_judge(&rig.import);
  apply(&rig, &lineage);
  const struct key *active = lineage_active_key(&lineage), *old = lineage_find_key(&lineage, "server-20260401");
  assert_string_equal(active->record, expected);
  assert_int_equal(active->right_at, TIME_UNSET);
  assert_true(lineage.rotate_requested);
  assert_int_equal(old->state, KEY_RETIRED);
  assert_int_equal(old->deleted_at, NOW); /* no mail of it can be verified, so nothing is waited for */
}

/* Of two slots. */
static int copy_slot(void *context, const void *row) {
  struct lineage *slots = context;
  return copy_row(slots[0].id ? &slots[1] : &slots[0], row);
}

/* A run that began anew beside an old key gave its selector up as taken, in another slot than that of the key that signs: the key goes where its selector is guarded. */
static void test_import__a_selector_that_was_given_up_becomes_the_key_that_has_it(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  struct lineage before[2] = {0}, after[2] = {0};
  import_rig_open(&rig, &(struct import_scene){.domains = "a.test: {policy: two}",
                                               .multiple_signatures = true,
                                               .key_table = SCRIPT_KEYS,
                                               .signing_table = "*@a.test server-20260101._domainkey.a.test\n"});
  import_rig_find(&rig);
  open_store(&rig);
  read_lineages(&rig, copy_slot, before);
  struct lineage *slot = &before[1];
  const struct store_commit commit = {.lineages = &slot, .lineage_count = 1};
  struct key *guard = lineage_add_key(slot);
  text_copy(guard->selector, sizeof guard->selector, "server-20260401");
  guard->algorithm = KEY_ALGORITHM_RSA;
  guard->bits = 2048;
  guard->publisher_id = slot->publisher_id;
  guard->publisher = slot->publisher;
  guard->state = KEY_REMOVED;
  if (rig.import.session.store->ops->commit(rig.import.session.store, &commit, &rig.error)) fail_msg("%s", rig.error.message);
  struct import_key *key = import_rig_key(&rig, "a.test", "server-20260401");
  key->row = guard->id;
  key->lineage = slot->id;
  import_judge(&rig.import);
  assert_int_equal(key->fate, IMPORT_RETIRED);
  if (import_apply(&rig.import, &rig.error)) fail_msg("%s", rig.error.message);
  read_lineages(&rig, copy_slot, after);
  const struct key *taken = lineage_find_key(&after[1], "server-20260401");
  assert_int_equal(after[1].key_count, 1);
  assert_true(taken->id == guard->id && taken->state == KEY_RETIRED && taken->algorithm == KEY_ALGORITHM_ED25519 && taken->bits == 256);
  assert_string_equal(taken->record, key->expected);
  assert_int_equal(taken->placement_count, 1);
  assert_string_equal(lineage_active_key(&after[0])->selector, "server-20260101");
  assert_int_equal(after[0].key_count, 2);
  for (size_t i = 0; i < 2; i++) {
    lineage_release(&before[i]);
    lineage_release(&after[i]);
  }
}

/* What an earlier import has reserved stays so as long as nothing is known that is better. */
static void test_import__a_selector_that_is_reserved_already_is_no_news(void **state) {
  (void)state;
  CLEANUP(import_rig_close) struct import_rig rig;
  import_rig_open(&rig, &IMPORT_SCRIPT);
  import_rig_add_key(&rig, 0, 0, "- a.test:rspamd:/k/keys/a.test/rspamd.private");
  import_rig_find(&rig);
  import_judge(&rig.import);
  expect_fate(&rig, "a.test", "rspamd", IMPORT_RESERVED);
  struct import_key *key = import_rig_key(&rig, "a.test", "rspamd");
  key->row = 7;
  import_judge(&rig.import);
  expect_fate(&rig, "a.test", "rspamd", IMPORT_KNOWN);
}

int main(void) {
#define TEST(name) cmocka_unit_test(test_import__##name)
  const struct CMUnitTest tests[] = {
      TEST(what_was_judged_is_written_in_one_go),
      TEST(a_record_of_another_key_is_nothing_to_put_back_or_take_away),
      TEST(names_and_directories_that_are_not_the_policys_are_kept),
      TEST(a_weak_key_asks_for_its_successor_and_an_inline_one_has_no_file),
      TEST(the_screen_tells_what_and_why),
      TEST(a_selector_that_was_given_up_becomes_the_key_that_has_it),
      TEST(a_selector_that_is_reserved_already_is_no_news),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
