/* What goes into the store of lineages and their keys comes out of it, and what must never be in it does not get in. */
#include "store_rig.h"

static void test_store__a_fresh_store_knows_nothing(void **state) {
  struct rig *rig = *state;
  struct store_policy_stamp stamp = {.file_count = 7};
  struct store_clock clock = {.boot_id = "x"};
  struct error error = {0};
  int64_t next = 0;
  rig_check(rig->store->ops->next_moment(rig->store, &next, &stamp, &clock, &error), &error);
  assert_true(next == TIME_NEVER);
  assert_int_equal(stamp.file_count, 0);
  assert_string_equal(stamp.digest, "");
  assert_string_equal(clock.boot_id, "");
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(rig->store);
  assert_int_equal(claim.count, 0);
}

static void assert_key_filled(const struct key *key, const struct lineage *lineage) {
  struct key expected = {0};
  rig_fill_key(&expected, lineage);
  assert_memory_equal(&key->state_since, &expected.state_since, sizeof key->state_since);
  assert_memory_equal(&key->ttl, &expected.ttl, sizeof key->ttl);
  const int64_t *const from[] = {&key->created_at, &expected.created_at};
  assert_memory_equal(from[0], from[1], offsetof(struct key, intent_open) - offsetof(struct key, created_at));
  assert_true(key->intent_open);
  assert_int_equal(key->intent, PLAN_ACTIVATE);
  assert_true(key->intent_at == expected.intent_at);
  assert_string_equal(key->record, expected.record);
  assert_string_equal(key->failure, expected.failure);
  assert_string_equal(key->zone, expected.zone);
  assert_string_equal(key->owner, expected.owner);
  assert_string_equal(key->primary_server, expected.primary_server);
  assert_int_equal(key->sighting_count, 2);
  assert_memory_equal(key->sightings, expected.sightings, 2 * sizeof *key->sightings);
  assert_int_equal(key->placement_count, 1);
  const struct placement *placement = &key->placements[0];
  assert_true(placement->signer_id == lineage->signer_ids[0]);
  assert_string_equal(placement->signer->name, "local");
  assert_string_equal(placement->key_path, "/k/1");
  assert_string_equal(placement->failure, "why not");
  assert_true(placement->file_made && placement->destroyed);
  assert_true(placement->switched_at == 1 && placement->proved_at == 2 && placement->drained_at == 3);
  assert_true(placement->damage == DAMAGE_FILE_OTHER && placement->damaged_at == 4);
  key_release(&expected);
}

static void test_store__a_lineage_comes_back_with_all_that_was_committed(void **state) {
  struct rig *rig = *state;
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_new(rig->store, "a.example: {}");
  struct lineage *lineage = &claim.items[0];
  struct key *key = rig_add_key(lineage, "s-1", KEY_PUBLISHED);
  rig_fill_key(key, lineage);
  lineage->held = lineage->rotate_requested = true;
  lineage->hold_reason = text_duplicate("not in December");
  lineage->hold_until = TIME_NEVER;
  lineage->hold_scope = HOLD_ACTIVATION;
  lineage->failures = 4;
  lineage->retry_at = 21;
  lineage->parked_at = 22;
  lineage->failure = text_duplicate("no answer");
  lineage->next_moment = 23;
  rig_commit(rig->store, lineage);
  assert_true(lineage->keys[0].id > 0);

  store_close(rig->store);
  rig->store = rig_open(rig->path, false);
  CLEANUP(rig_claim_release) struct rig_claim again = rig_claim_all(rig->store);
  assert_int_equal(again.count, 1);
  const struct lineage *stored = &again.items[0];
  assert_string_equal(stored->domain, "a.example");
  assert_string_equal(stored->slot, "main");
  assert_true(stored->managed && !stored->forgotten && stored->held && stored->rotate_requested);
  assert_string_equal(stored->hold_reason, "not in December");
  assert_true(stored->hold_until == TIME_NEVER);
  assert_int_equal(stored->hold_scope, HOLD_ACTIVATION);
  assert_int_equal(stored->failures, 4);
  assert_true(stored->retry_at == 21 && stored->parked_at == 22 && stored->next_moment == 23);
  assert_string_equal(stored->failure, "no answer");
  assert_string_equal(stored->rules->name, "one");
  assert_string_equal(stored->publisher->name, "primary");
  assert_int_equal(stored->key_count, 1);
  assert_true(stored->keys[0].id == lineage->keys[0].id);
  assert_string_equal(stored->keys[0].selector, "s-1");
  assert_string_equal(stored->keys[0].owner_name, "s-1._domainkey.a.example");
  assert_int_equal(stored->keys[0].state, KEY_PUBLISHED);
  assert_int_equal(stored->keys[0].algorithm, KEY_ALGORITHM_ED25519);
  assert_int_equal(stored->keys[0].bits, 256);
  assert_true(stored->keys[0].publisher_id == lineage->publisher_id);
  assert_ptr_equal(stored->keys[0].publisher, stored->publisher);
  assert_key_filled(&stored->keys[0], stored);
}

static void test_store__what_was_never_recorded_stays_unset(void **state) {
  struct rig *rig = *state;
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_new(rig->store, "a.example: {}");
  struct lineage *lineage = &claim.items[0];
  assert_true(lineage->hold_until == TIME_UNSET && lineage->retry_at == TIME_UNSET && lineage->parked_at == TIME_UNSET);
  struct key *key = rig_add_key(lineage, "s", KEY_RESERVED);
  struct key bare = *key;
  key->revoke_at = TIME_NEVER;
  rig_commit(rig->store, lineage);
  CLEANUP(rig_claim_release) struct rig_claim again = rig_claim_all(rig->store);
  const struct key *stored = &again.items[0].keys[0];
  assert_null(stored->record);
  assert_true(stored->revoke_at == TIME_NEVER);
  assert_true(stored->state_since == TIME_UNSET && stored->created_at == TIME_UNSET &&
              stored->removed_at == TIME_UNSET);
  assert_true(stored->propagation == bare.propagation && stored->ttl_negative == bare.ttl_negative);
}

static void test_store__sightings_and_placements_that_are_gone_are_gone(void **state) {
  struct rig *rig = *state;
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_new(rig->store, "a.example: {}");
  struct key *key = rig_add_key(&claim.items[0], "s", KEY_PUBLISHED);
  rig_fill_key(key, &claim.items[0]);
  rig_commit(rig->store, &claim.items[0]);
  key->sightings[0] = key->sightings[1];
  key->sighting_count = 1;
  free(key->placements[0].key_path);
  free(key->placements[0].failure);
  key->placement_count = 0;
  rig_commit(rig->store, &claim.items[0]);
  CLEANUP(rig_claim_release) struct rig_claim again = rig_claim_all(rig->store);
  assert_int_equal(again.items[0].keys[0].sighting_count, 1);
  assert_string_equal(again.items[0].keys[0].sightings[0].host, "ns2.example");
  assert_int_equal(again.items[0].keys[0].placement_count, 0);
}

static void test_store__a_signer_version_that_a_key_was_found_with_is_stored_with_it(void **state) {
  struct rig *rig = *state;
  struct policy_signer version = {0};
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_new(rig->store, "a.example: {}");
  struct lineage *lineage = &claim.items[0];
  struct key *key = rig_add_key(lineage, "s", KEY_PUBLISHED);
  version = *lineage->signers[0];
  version.key_name = (char *)"odd";
  version.key_directory = (char *)"/else/where";
  key->placement_count = 1;
  key->placements[0] = (struct placement){
      .signer = &version, .key_path = text_duplicate("/else/where/x"), .switched_at = TIME_UNSET, .proved_at = TIME_UNSET, .drained_at = TIME_UNSET};
  rig_commit(rig->store, lineage);
  CLEANUP(rig_claim_release) struct rig_claim again = rig_claim_all(rig->store);
  const struct placement *placement = &again.items[0].keys[0].placements[0];
  assert_true(placement->signer_id > 0 && placement->signer_id != lineage->signer_ids[0]);
  assert_string_equal(placement->signer->key_name, "odd");
  assert_string_equal(placement->signer->key_directory, "/else/where");
  assert_string_equal(placement->signer->key_table, lineage->signers[0]->key_table);
}

static void test_store__a_selector_is_never_used_twice_in_any_letter_case(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  rig_sync(rig->store, "a.example: {policy: two}, b.example: {}", RIG_NOW);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_domain(rig->store, "a.example");
  CLEANUP(rig_claim_release) struct rig_claim other = rig_claim_domain(rig->store, "b.example");
  assert_int_equal(claim.count, 2);
  rig_add_key(&claim.items[0], "server-1", KEY_RESERVED);
  rig_commit(rig->store, &claim.items[0]);
  claim.items[0].keys[0].state = KEY_REMOVED;
  rig_commit(rig->store, &claim.items[0]);

  rig_add_key(&claim.items[1], "fresh", KEY_RESERVED);
  rig_add_key(&claim.items[1], "SERVER-1", KEY_RESERVED);
  claim.items[1].next_moment = 5;
  assert_int_equal(rig_commit_try(rig->store, &claim.items[1], &error), ERROR_EXISTS);
  assert_non_null(strstr(error.message, "SERVER-1 of a.example"));
  assert_false(error.retryable);
  /* Nothing of the commit was kept, and nothing looks as if it were. */
  assert_true(claim.items[1].keys[0].id == 0 && claim.items[1].keys[1].id == 0);
  CLEANUP(rig_claim_release) struct rig_claim again = rig_claim_domain(rig->store, "a.example");
  assert_int_equal(again.items[0].key_count + again.items[1].key_count, 0);
  assert_true(again.items[0].next_moment == RIG_NOW && again.items[1].next_moment == RIG_NOW);

  rig_add_key(&other.items[0], "server-1", KEY_RESERVED);
  rig_commit(rig->store, &other.items[0]);
}

static void test_store__the_active_key_is_exchanged_in_either_order_and_is_never_two(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_new(rig->store, "a.example: {}");
  struct lineage *lineage = &claim.items[0];
  rig_add_key(lineage, "old", KEY_ACTIVE);
  rig_add_key(lineage, "new", KEY_READY);
  rig_commit(rig->store, lineage);
  for (int turn = 0; turn < 2; turn++) {
    lineage->keys[turn].state = KEY_RETIRED;
    lineage->keys[1 - turn].state = KEY_ACTIVE;
    rig_commit(rig->store, lineage);
    CLEANUP(rig_claim_release) struct rig_claim again = rig_claim_all(rig->store);
    assert_string_equal(lineage_active_key(&again.items[0])->selector, turn == 0 ? "new" : "old");
  }
  lineage->keys[1].state = KEY_ACTIVE;
  assert_int_equal(rig_commit_try(rig->store, lineage, &error), ERROR_INTERNAL);
  CLEANUP(rig_claim_release) struct rig_claim again = rig_claim_all(rig->store);
  assert_int_equal(again.items[0].keys[1].state, KEY_RETIRED);
}

static void test_store__a_key_of_an_unknown_publisher_or_signer_is_refused(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_new(rig->store, "a.example: {}");
  struct key *key = rig_add_key(&claim.items[0], "s", KEY_RESERVED);
  key->publisher_id = 99;
  assert_int_equal(rig_commit_try(rig->store, &claim.items[0], &error), ERROR_INTERNAL);
  if (!strstr(error.message, "a.example, key main: selector s: ")) fail_msg("%s", error.message);
  key->publisher_id = claim.items[0].publisher_id;
  key->placement_count = 1;
  key->placements[0] = (struct placement){.signer_id = 99};
  assert_int_equal(rig_commit_try(rig->store, &claim.items[0], &error), ERROR_INTERNAL);
  key->placements[0].signer_id = claim.items[0].signer_ids[0];
  rig_commit(rig->store, &claim.items[0]);
}

static void test_store__a_removed_key_is_history_and_never_comes_back(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  rig_sync(rig->store, "a.example: {}, b.example: {}", RIG_NOW);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_domain(rig->store, "a.example");
  struct key *key = rig_add_key(&claim.items[0], "s", KEY_REVOKED);
  rig_fill_key(key, &claim.items[0]);
  rig_commit(rig->store, &claim.items[0]);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_REMOVED, NULL), 0);
  key->state = KEY_REMOVED;
  rig_commit(rig->store, &claim.items[0]);
  CLEANUP(rig_claim_release) struct rig_claim again = rig_claim_domain(rig->store, "a.example");
  assert_int_equal(again.items[0].key_count, 0);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_REMOVED, NULL), 1);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_REMOVED, "a.example"), 1);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_REMOVED, "b.example"), 0);
  /* What servers said of it is of no use to anybody. */
  assert_int_equal(rig_number(rig->path, "SELECT count(*) FROM sighting"), 0);
  key->state = KEY_ACTIVE;
  assert_int_equal(rig_commit_try(rig->store, &claim.items[0], &error), ERROR_INTERNAL);
  assert_int_not_equal(rig_sql(rig->path, "DELETE FROM key"), SQLITE_OK);
  assert_int_not_equal(rig_sql(rig->path, "UPDATE key SET selector = 'free'"), SQLITE_OK);
}

/* A selector was given up before there was a key, and import finds the key that has it. */
static void test_store__a_selector_that_was_given_up_may_become_a_key_once(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_domain(rig->store, "a.example");
  struct key *key = rig_add_key(&claim.items[0], "s", KEY_RESERVED);
  rig_commit(rig->store, &claim.items[0]);
  key->state = KEY_REMOVED;
  rig_commit(rig->store, &claim.items[0]);
  key->state = KEY_RETIRED;
  key->active_at = RIG_NOW;
  key->algorithm = KEY_ALGORITHM_RSA;
  key->bits = 1024;
  rig_commit(rig->store, &claim.items[0]);
  CLEANUP(rig_claim_release) struct rig_claim again = rig_claim_domain(rig->store, "a.example");
  assert_int_equal(again.items[0].key_count, 1);
  assert_true(again.items[0].keys[0].id == key->id && again.items[0].keys[0].algorithm == KEY_ALGORITHM_RSA && again.items[0].keys[0].bits == 1024);
  key->state = KEY_REMOVED;
  rig_commit(rig->store, &claim.items[0]);
  key->state = KEY_RETIRED;
  assert_int_equal(rig_commit_try(rig->store, &claim.items[0], &error), ERROR_INTERNAL);
}

/* What somebody's hand wrote is named, never guessed at. */
static void test_store__contradictions_are_named_with_table_and_row(void **state) {
  (void)state;
  static const struct {
    const char *sql, *message;
  } wounds[] = {
      {"UPDATE lineage SET signers = 'local'", "table lineage, row 1: column signers"},
      {"UPDATE lineage SET signers = '1,1'", "table lineage, row 1: column signers"},
      {"UPDATE lineage SET signers = '9'", "table signer has no row 9"},
      {"UPDATE lineage SET senders = ''", "table lineage, row 1: column senders"},
      {"UPDATE lineage SET slot = hex(zeroblob(40))", "table lineage, row 1: column slot"},
      {"UPDATE lineage SET failures = 1 << 40", "table lineage, row 1: column failures"},
      {"UPDATE lineage SET rules_id = 9", "table rules has no row 9"},
      {"UPDATE lineage SET publisher_id = 9", "table publisher has no row 9"},
      {"UPDATE key SET bits = -1", "table key, row 1: column bits"},
      {"UPDATE key SET intent = 99", "table key, row 1: column intent"},
      {"UPDATE key SET zone = hex(zeroblob(200))", "table key, row 1: column zone"},
      {"UPDATE key SET record = CAST(x'410042' AS TEXT)", "table key, row 1: column record"},
      {"UPDATE sighting SET count = -1", "table sighting, row 1: column count"},
      {"UPDATE placement SET signer_id = 9", "table signer has no row 9"},
      {"DROP TRIGGER rules_immutable; UPDATE rules SET content = '{name: x, nonsense: 1}' WHERE id = 1",
       "table rules, row 1: "},
  };
  for (size_t i = 0; i < ARRAY_SIZE(wounds); i++) {
    struct rig *rig = NULL;
    rig_setup((void **)&rig);
    CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_new(rig->store, "a.example: {}");
    rig_fill_key(rig_add_key(&claim.items[0], "s", KEY_PUBLISHED), &claim.items[0]);
    rig_commit(rig->store, &claim.items[0]);
    store_close(rig->store);
    assert_int_equal(rig_sql(rig->path, wounds[i].sql), SQLITE_OK);
    rig->store = rig_open(rig->path, false);
    struct rig_claim again = {0};
    struct error error = {0};
    const int code =
        rig->store->ops->claim(rig->store, TIME_NEVER, 9, NULL, 0, NULL, 0, &again.items, &again.count, &error);
    if (code != ERROR_INTERNAL || !strstr(error.message, wounds[i].message) || !error.remedy[0])
      fail_msg("%s: %d %s (%s)", wounds[i].sql, code, error.message, error.remedy);
    rig_teardown((void **)&rig);
  }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(test_store__##name, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {
      TEST(a_fresh_store_knows_nothing),
      TEST(a_lineage_comes_back_with_all_that_was_committed),
      TEST(what_was_never_recorded_stays_unset),
      TEST(sightings_and_placements_that_are_gone_are_gone),
      TEST(a_signer_version_that_a_key_was_found_with_is_stored_with_it),
      TEST(a_selector_is_never_used_twice_in_any_letter_case),
      TEST(the_active_key_is_exchanged_in_either_order_and_is_never_two),
      TEST(a_key_of_an_unknown_publisher_or_signer_is_refused),
      TEST(a_removed_key_is_history_and_never_comes_back),
      TEST(a_selector_that_was_given_up_may_become_a_key_once),
      cmocka_unit_test(test_store__contradictions_are_named_with_table_and_row),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
