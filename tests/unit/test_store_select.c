/* What is read of the store without taking it: lineages in pages, keys that are history, and what keys have to do with signers, files and zones. */
#include "store_rig.h"

static int count_removed(void *context, const void *row) {
  const struct lineage *lineage = row;
  size_t *counts = context;
  counts[0]++;
  counts[1] += lineage->key_count;
  assert_true(lineage->key_count <= LINEAGE_KEYS_MAX);
  for (size_t i = 0; i < lineage->key_count; i++) assert_int_equal(lineage->keys[i].state, KEY_REMOVED);
  return 0;
}

static void test_store__more_removed_keys_than_a_lineage_holds_come_in_several_rows(void **state) {
  struct rig *rig = *state;
  const struct store_filter filter = {.domain = "a.example"};
  size_t counts[2] = {0};
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  for (int round = 0; round < 3; round++) {
    CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(rig->store);
    for (int i = 0; i < 25; i++) {
      char selector[SELECTOR_SIZE];
      snprintf(selector, sizeof selector, "s%d", round * 25 + i);
      rig_add_key(&claim.items[0], selector, KEY_REMOVED);
    }
    rig_commit(rig->store, &claim.items[0]);
  }
  rig_select(rig->store, STORE_SELECT_REMOVED, &filter, count_removed, counts);
  assert_int_equal(counts[0], 3);
  assert_int_equal(counts[1], 75);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_SELECTORS, "a.example"), 75);
}

static int note_lineage(void *context, const void *row) {
  const struct lineage *lineage = row;
  buffer_format(context, "%s/%s ", lineage->domain, lineage->slot);
  return 0;
}

static void test_store__lineages_come_by_name_and_pages_by_number(void **state) {
  struct rig *rig = *state;
  rig_sync(rig->store, "b.example: {}", RIG_NOW);
  rig_sync(rig->store, "a.example: {policy: two}, b.example: {}", RIG_NOW);
  rig_expect(rig->store, STORE_SELECT_LINEAGES, NULL, note_lineage, "a.example/extra a.example/main b.example/main ");
  rig_expect(rig->store, STORE_SELECT_LINEAGES, &(struct store_filter){.domain = "a.example"}, note_lineage, "a.example/extra a.example/main ");
  rig_expect(rig->store, STORE_SELECT_LINEAGES, &(struct store_filter){.domain = "a.example", .limit = 1}, note_lineage, "a.example/extra ");
  rig_expect(rig->store, STORE_SELECT_LINEAGES, &(struct store_filter){.limit = 2}, note_lineage, "b.example/main a.example/extra ");
  rig_expect(rig->store, STORE_SELECT_LINEAGES, &(struct store_filter){.limit = 2, .after = 2}, note_lineage, "a.example/main ");
}

static void test_store__lineages_come_in_pages_by_name(void **state) {
  struct rig *rig = *state;
  rig_sync(rig->store, "b.example: {policy: two}, c.example: {}", RIG_NOW);
  rig_sync(rig->store, "a.example: {}, b.example: {policy: two}, c.example: {}", RIG_NOW);
  struct store_filter filter = {.domain = "", .text = "", .limit = 2};
  rig_expect(rig->store, STORE_SELECT_LINEAGES_AFTER, &filter, note_lineage, "a.example/main b.example/extra ");
  filter.domain = "b.example";
  filter.text = "extra";
  rig_expect(rig->store, STORE_SELECT_LINEAGES_AFTER, &filter, note_lineage, "b.example/main c.example/main ");
}

static int note_signer(void *context, const void *row) {
  const struct policy_signer *signer = row;
  buffer_format(context, "%s %o;", signer->name, (unsigned)signer->mode);
  return 0;
}

static void test_store__signers_that_keys_were_made_with_are_remembered_in_every_version(void **state) {
  struct rig *rig = *state;
  static const char changed[] =
      "policies: {one: {}}\npublishers: {primary: {}}\nsigners: {local: {key-table: /k/KeyTable, signing-table: /k/S,"
      " key-directory: /k/keys/%d, mode: 0640, milter: \"inet:8891@127.0.0.1\"}}\n"
      "domains: {a.example: {policy: one, publisher: primary, signers: [local]}}\n";
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_SIGNERS, NULL), 0);
  for (int version = 0; version < 2; version++) {
    struct policy *policy = version == 0 ? rig_policy("a.example: {}") : rig_parse(changed);
    rig_sync_policy(rig->store, policy, RIG_NOW);
    policy_free(policy);
    CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(rig->store);
    struct key *key = rig_add_key(&claim.items[0], version == 0 ? "s1" : "s2", KEY_GENERATED);
    rig_fill_key(key, &claim.items[0]);
    rig_commit(rig->store, &claim.items[0]);
  }
  rig_expect(rig->store, STORE_SELECT_SIGNERS, NULL, note_signer, "local 600;local 640;");
}

static void test_store__a_version_of_a_signer_is_of_interest_to_units_while_a_key_lives_there(void **state) {
  struct rig *rig = *state;
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_new(rig->store, "a.example: {}");
  struct key *key = rig_add_key(&claim.items[0], "s", KEY_RETIRED);
  rig_fill_key(key, &claim.items[0]);
  key->placements[0].destroyed = false;
  rig_commit(rig->store, &claim.items[0]);
  rig_expect(rig->store, STORE_SELECT_LIVING_SIGNERS, NULL, note_signer, "local 600;");
  for (size_t i = 0; i < key->placement_count; i++) key->placements[i].destroyed = true;
  rig_commit(rig->store, &claim.items[0]);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_LIVING_SIGNERS, NULL), 0);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_SIGNERS, NULL), 1);
}

static size_t count_users(struct store *store, const char *path) {
  const struct store_filter filter = {.text = path};
  size_t count = 0;
  rig_select(store, STORE_SELECT_KEY_USERS, &filter, rig_count_row, &count);
  return count;
}

static void test_store__a_key_file_is_known_to_be_in_use_while_a_living_key_names_it(void **state) {
  struct rig *rig = *state;
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_new(rig->store, "a.example: {}");
  struct key *key = rig_add_key(&claim.items[0], "s", KEY_RETIRED);
  rig_fill_key(key, &claim.items[0]);
  rig_commit(rig->store, &claim.items[0]);
  assert_int_equal(count_users(rig->store, "/k/1"), 0); /* destroyed */
  key->placements[0].destroyed = false;
  rig_commit(rig->store, &claim.items[0]);
  assert_int_equal(count_users(rig->store, "/k/1"), 1);
  assert_int_equal(count_users(rig->store, "/k/2"), 0);
  key->state = KEY_REMOVED;
  rig_commit(rig->store, &claim.items[0]);
  assert_int_equal(count_users(rig->store, "/k/1"), 0);
}

static int note_record(void *context, const void *row) {
  const struct store_record *record = row;
  buffer_format(context, "%s %u %s%s;", record->owner, (unsigned)record->ttl, record->revoked ? "revoked " : "", record->record);
  return 0;
}

static void expect_records(struct store *store, const char *publisher, const char *zone, const char *expected) {
  rig_expect(store, STORE_SELECT_RECORDS, &(struct store_filter){.domain = publisher, .text = zone}, note_record, expected);
}

static void set_record(struct key *key, const char *zone, const char *owner) {
  text_copy(key->zone, sizeof key->zone, zone);
  text_copy(key->owner, sizeof key->owner, owner);
  free(key->record);
  key->record = text_duplicate("record");
  key->ttl = 60;
  key->generated_at = key->published_at = RIG_NOW;
}

static void test_store__what_belongs_into_a_zone_is_known(void **state) {
  struct rig *rig = *state;
  rig_sync(rig->store, "a.example: {}, b.example: {publisher: second}", RIG_NOW);
  CLEANUP(rig_claim_release) struct rig_claim a = rig_claim_domain(rig->store, "a.example");
  CLEANUP(rig_claim_release) struct rig_claim b = rig_claim_domain(rig->store, "b.example");
  set_record(rig_add_key(&b.items[0], "other", KEY_ACTIVE), "zone", "other.zone");
  rig_commit(rig->store, &b.items[0]);
  struct lineage *lineage = &a.items[0];
  static const struct {
    const char *selector;
    enum key_state state;
  } keys[] = {{"s0", KEY_GENERATED}, {"s1", KEY_PUBLISHED}, {"s2", KEY_ACTIVE}, {"s3", KEY_RETIRED}, {"s4", KEY_REVOKED}, {"s5", KEY_REVOKED}, {"s6", KEY_REMOVED}, {"s7", KEY_READY}};
  for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
    set_record(rig_add_key(lineage, keys[i].selector, keys[i].state), "zone", keys[i].state == KEY_PUBLISHED ? "behind.zone" : "");
  lineage->keys[5].deleted_at = RIG_NOW;
  lineage->keys[7].generated_at = lineage->keys[7].published_at = TIME_UNSET; /* adopted: nobody knows where its record stands, and twice it does no harm */
  rig_commit(rig->store, lineage);
  expect_records(rig->store, "primary", "zone",
                 "behind.zone 60 record;s2._domainkey.a.example 60 record;s3._domainkey.a.example 60 record;"
                 "s4._domainkey.a.example 60 revoked record;s7._domainkey.a.example 60 record;");
  expect_records(rig->store, "second", "zone", "other.zone 60 record;");
  expect_records(rig->store, "primary", "another", "");
}

struct nesting {
  struct store *store;
  size_t inner;
};
static int select_again(void *context, const void *row) {
  struct nesting *nesting = context;
  (void)row;
  nesting->inner += rig_count(nesting->store, STORE_SELECT_LINEAGES, NULL);
  return 0;
}

static void test_store__a_row_may_be_answered_with_another_select(void **state) {
  struct rig *rig = *state;
  struct nesting nesting = {.store = rig->store};
  rig_sync(rig->store, "a.example: {}, b.example: {}, c.example: {}", RIG_NOW);
  rig_select(rig->store, STORE_SELECT_LINEAGES, NULL, select_again, &nesting);
  assert_int_equal(nesting.inner, 9);
}

static int take_no_more(void *context, const void *row) {
  (void)context, (void)row;
  return ERROR_NO_MEMORY;
}

/* `check` said "FAILED" without a word, and then that all was right. */
static void test_store__a_row_that_finds_no_memory_is_an_error_with_words(void **state) {
  struct rig *rig = *state;
  const struct store_filter all = {0};
  struct error error = {0};
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  assert_int_equal(rig->store->ops->select(rig->store, STORE_SELECT_LINEAGES, &all, take_no_more, NULL, &error), ERROR_NO_MEMORY);
  assert_int_equal(error.code, ERROR_NO_MEMORY);
  assert_non_null(strstr(error.message, "out of memory"));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(test_store__##name, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {
      TEST(more_removed_keys_than_a_lineage_holds_come_in_several_rows),
      TEST(lineages_come_by_name_and_pages_by_number),
      TEST(lineages_come_in_pages_by_name),
      TEST(signers_that_keys_were_made_with_are_remembered_in_every_version),
      TEST(a_version_of_a_signer_is_of_interest_to_units_while_a_key_lives_there),
      TEST(a_key_file_is_known_to_be_in_use_while_a_living_key_names_it),
      TEST(what_belongs_into_a_zone_is_known),
      TEST(a_row_may_be_answered_with_another_select),
      TEST(a_row_that_finds_no_memory_is_an_error_with_words),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
