/* What goes into the store comes out of it, and what must never be in it does not get in. */
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

/* Every member differs from every other, so that two exchanged columns show. */
static void fill_key(struct key *key, const struct lineage *lineage) {
  int64_t *const moments[] = {&key->state_since,  &key->created_at,  &key->generated_at,  &key->published_at,
                              &key->right_at,     &key->propagation, &key->last_wrong_at, &key->confirmed_at,
                              &key->ready_at,     &key->active_at,   &key->retired_at,    &key->revoke_at,
                              &key->revoked_at,   &key->deleted_at,  &key->absent_at,     &key->removed_at,
                              &key->ttl_negative, &key->ttl_old,     &key->intent_at};
  for (size_t i = 0; i < ARRAY_SIZE(moments); i++) *moments[i] = RIG_NOW + (int64_t)i;
  key->ttl = UINT32_MAX;
  key->record = text_duplicate("v=DKIM1; k=ed25519; p=abc");
  key->intent_open = true;
  key->intent = PLAN_ACTIVATE;
  key->contested_at = 31;
  key->compromised_at = 34;
  key->revoke_now = true;
  key->lingers_until = 35;
  key->files_seen_at = 36;
  key->proof_failures = 32;
  key->proof_retry_at = 33;
  key->compromised_at = 34;
  key->lingers_until = 35;
  key->files_seen_at = 36;
  key->revoke_now = true;
  text_copy(key->zone, sizeof key->zone, "zone.example");
  text_copy(key->owner, sizeof key->owner, "owner.zone.example");
  text_copy(key->primary_server, sizeof key->primary_server, "192.0.2.53:53");
  key->placement_count = 1;
  key->placements[0] = (struct placement){.signer_id = lineage->signer_ids[0],
                                          .key_path = text_duplicate("/k/1"),
                                          .file_made = true,
                                          .switched_at = 1,
                                          .proved_at = 2,
                                          .damage = DAMAGE_FILE_OTHER,
                                          .damaged_at = 4,
                                          .drained_at = 3,
                                          .destroyed = true,
                                          .failure = text_duplicate("why not")};
  key->sighting_count = 2;
  key->sightings = calloc(2, sizeof *key->sightings);
  key->sightings[0] = (struct sighting){.host = "ns1.example",
                                        .address = "192.0.2.1:53",
                                        .right = true,
                                        .count = 3,
                                        .right_since = 11,
                                        .last_wrong_at = 12,
                                        .seen_at = 13,
                                        .answer = "same"};
  key->sightings[1] = (struct sighting){.host = "ns2.example",
                                        .address = "[2001:db8::1]:53",
                                        .no_route = true,
                                        .right_since = TIME_UNSET,
                                        .last_wrong_at = TIME_UNSET,
                                        .seen_at = TIME_UNSET};
}

static void assert_key_filled(const struct key *key, const struct lineage *lineage) {
  struct key expected = {0};
  fill_key(&expected, lineage);
  assert_memory_equal(&key->state_since, &expected.state_since, sizeof key->state_since);
  assert_memory_equal(&key->ttl, &expected.ttl, sizeof key->ttl);
  const int64_t *const from[] = {&key->created_at, &expected.created_at};
  assert_memory_equal(from[0], from[1], offsetof(struct key, intent_open) - offsetof(struct key, created_at));
  assert_true(key->intent_open);
  assert_int_equal(key->intent, PLAN_ACTIVATE);
  assert_true(key->intent_at == expected.intent_at);
  assert_string_equal(key->record, expected.record);
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
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(rig->store);
  struct lineage *lineage = &claim.items[0];
  struct key *key = rig_add_key(lineage, "s-1", KEY_PUBLISHED);
  fill_key(key, lineage);
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
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(rig->store);
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
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(rig->store);
  struct key *key = rig_add_key(&claim.items[0], "s", KEY_PUBLISHED);
  fill_key(key, &claim.items[0]);
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
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(rig->store);
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
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(rig->store);
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
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(rig->store);
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
  fill_key(key, &claim.items[0]);
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
  struct error error = {0};
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
  rig_check(rig->store->ops->select(rig->store, STORE_SELECT_REMOVED, &filter, count_removed, counts, &error), &error);
  assert_int_equal(counts[0], 3);
  assert_int_equal(counts[1], 75);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_SELECTORS, "a.example"), 75);
}

/* Sets the moments of a, b, c, d. */
static void set_moments(struct store *store, const int64_t moments[4]) {
  static const char *const domains[] = {"a.example", "b.example", "c.example", "d.example"};
  rig_sync(store, "a.example: {}, b.example: {}, c.example: {}, d.example: {}", RIG_NOW);
  for (size_t i = 0; i < 4; i++) {
    CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_domain(store, domains[i]);
    claim.items[0].next_moment = moments[i];
    rig_commit(store, &claim.items[0]);
  }
}

static void assert_claimed(const struct rig_claim *claim, const char *expected) {
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(1024);
  for (size_t i = 0; i < claim->count; i++) buffer_format(&text, "%.1s", claim->items[i].domain);
  assert_string_equal(text.data ? (const char *)text.data : "", expected);
}

static void test_store__the_most_urgent_are_claimed_first(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  int64_t next;
  set_moments(rig->store, (int64_t[]){30, 10, TIME_NEVER, 20});
  rig_check(rig->store->ops->next_moment(rig->store, &next, NULL, NULL, &error), &error);
  assert_true(next == 10);
  CLEANUP(rig_claim_release) struct rig_claim none = rig_claim_at(rig->store, 9);
  assert_claimed(&none, "");
  CLEANUP(rig_claim_release) struct rig_claim due = rig_claim_at(rig->store, 29);
  assert_claimed(&due, "bd");
  CLEANUP(rig_claim_release) struct rig_claim all = rig_claim_at(rig->store, 30);
  assert_claimed(&all, "bda");
  CLEANUP(rig_claim_release) struct rig_claim one = {0};
  rig_check(rig->store->ops->claim(rig->store, 30, 1, NULL, 0, NULL, 0, &one.items, &one.count, &error), &error);
  assert_claimed(&one, "b");

  const int64_t open[] = {all.items[2].id, all.items[0].id};
  CLEANUP(rig_claim_release) struct rig_claim rest = {0};
  rig_check(rig->store->ops->claim(rig->store, 30, 1, NULL, 0, open, 2, &rest.items, &rest.count, &error), &error);
  assert_claimed(&rest, "d");
}

static void test_store__a_claim_for_named_domains_takes_these_by_urgency_and_once(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  static const char *const named[] = {"a.example", "d.example", "a.example", "unknown.example", "b.example"};
  set_moments(rig->store, (int64_t[]){30, 10, 5, 20});
  CLEANUP(rig_claim_release) struct rig_claim claim = {0};
  rig_check(rig->store->ops->claim(rig->store, 40, 10, named, 5, NULL, 0, &claim.items, &claim.count, &error), &error);
  assert_claimed(&claim, "bda");
  CLEANUP(rig_claim_release) struct rig_claim first = {0};
  rig_check(rig->store->ops->claim(rig->store, 40, 2, named, 5, NULL, 0, &first.items, &first.count, &error), &error);
  assert_claimed(&first, "bd");
}

static void test_store__what_was_forgotten_is_never_due(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  int64_t next;
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(rig->store);
  claim.items[0].forgotten = true;
  rig_commit(rig->store, &claim.items[0]);
  rig_check(rig->store->ops->next_moment(rig->store, &next, NULL, NULL, &error), &error);
  assert_true(next == TIME_NEVER);
  CLEANUP(rig_claim_release) struct rig_claim again = rig_claim_all(rig->store);
  assert_int_equal(again.count, 0);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_LINEAGES, NULL), 0);
}

static int note_domain(void *context, const void *row) {
  const struct lineage *lineage = row;
  buffer_format(context, "%s/%s ", lineage->domain, lineage->slot);
  return 0;
}

static void assert_lineages(struct store *store, const struct store_filter *filter, const char *expected) {
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(1024);
  struct error error = {0};
  rig_check(store->ops->select(store, STORE_SELECT_LINEAGES, filter, note_domain, &text, &error), &error);
  assert_string_equal(text.data ? (const char *)text.data : "", expected);
}

static void test_store__lineages_come_by_name_and_pages_by_number(void **state) {
  struct rig *rig = *state;
  rig_sync(rig->store, "b.example: {}", RIG_NOW);
  rig_sync(rig->store, "a.example: {policy: two}, b.example: {}", RIG_NOW);
  assert_lineages(rig->store, &(struct store_filter){0}, "a.example/extra a.example/main b.example/main ");
  assert_lineages(rig->store, &(struct store_filter){.domain = "a.example"}, "a.example/extra a.example/main ");
  assert_lineages(rig->store, &(struct store_filter){.domain = "a.example", .limit = 1}, "a.example/extra ");
  assert_lineages(rig->store, &(struct store_filter){.limit = 2}, "b.example/main a.example/extra ");
  assert_lineages(rig->store, &(struct store_filter){.limit = 2, .after = 2}, "a.example/main ");
}

static void add_events(struct store *store) {
  struct event events[] = {{.at = 1,
                            .lineage_id = 1,
                            .domain = (char *)"a.example",
                            .slot = (char *)"main",
                            .kind = (char *)"k",
                            .reason = (char *)"1"},
                           {.at = 2, .kind = (char *)"k", .reason = (char *)"2"},
                           {.at = 3,
                            .lineage_id = 1,
                            .domain = (char *)"a.example",
                            .selector = (char *)"s",
                            .kind = (char *)"state",
                            .from = (char *)"ready",
                            .to = (char *)"active",
                            .reason = (char *)"3"}};
  const struct store_commit commit = {.events = events, .event_count = 3};
  struct error error = {0};
  rig_check(store->ops->commit(store, &commit, &error), &error);
  assert_true(events[0].id > 0 && events[0].id < events[1].id && events[1].id < events[2].id);
}

static int keep_reason(void *context, const void *row) {
  const struct event *event = row;
  buffer_format(context, "%s", event->reason);
  return 0;
}

static void assert_reasons(struct store *store, const struct store_filter *filter, const char *expected) {
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(1024);
  struct error error = {0};
  rig_check(store->ops->select(store, STORE_SELECT_EVENTS, filter, keep_reason, &text, &error), &error);
  assert_string_equal(text.data ? (const char *)text.data : "", expected);
}

static int check_switch(void *context, const void *row) {
  const struct event *event = row;
  (void)context;
  assert_true(event->id == 4 && event->at == 3 && event->lineage_id == 1);
  assert_string_equal(event->domain, "a.example");
  assert_null(event->slot);
  assert_string_equal(event->selector, "s");
  assert_string_equal(event->kind, "state");
  assert_string_equal(event->from, "ready");
  assert_string_equal(event->to, "active");
  return 42;
}

static void test_store__events_are_read_in_both_directions_from_any_number(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  rig_sync(rig->store, "a.example: {}", RIG_NOW); /* event 1 */
  add_events(rig->store);
  assert_reasons(rig->store, &(struct store_filter){.after = 1}, "123");
  assert_reasons(rig->store, &(struct store_filter){.after = 2, .limit = 1}, "2");
  assert_reasons(rig->store, &(struct store_filter){.after = 1, .descending = true}, "321");
  assert_reasons(rig->store, &(struct store_filter){.domain = "a.example", .after = 1}, "13");
  assert_reasons(rig->store, &(struct store_filter){.domain = "a.example", .descending = true, .limit = 1}, "3");
  assert_reasons(rig->store, &(struct store_filter){.domain = "b.example"}, "");
  const struct store_filter last = {.after = 3};
  assert_int_equal(rig->store->ops->select(rig->store, STORE_SELECT_EVENTS, &last, check_switch, NULL, &error), 42);
}

static void test_store__the_event_log_is_append_only(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  assert_int_not_equal(rig_sql(rig->path, "UPDATE event SET reason = 'never happened'"), SQLITE_OK);
  assert_int_not_equal(rig_sql(rig->path, "DELETE FROM event"), SQLITE_OK);
  struct event event = {.id = 1, .kind = (char *)"k"};
  const struct store_commit commit = {.events = &event, .event_count = 1};
  assert_int_equal(rig->store->ops->commit(rig->store, &commit, &error), ERROR_INTERNAL);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_EVENTS, NULL), 1);
}

static int check_request(void *context, const void *row) {
  const struct store_request *request = row;
  const struct store_request *expected = context;
  assert_true(request->id == expected->id && request->kind == expected->kind && request->until == expected->until);
  assert_true(request->asked_at == expected->asked_at);
  assert_string_equal(request->domain, expected->domain);
  assert_string_equal(request->reason, expected->reason);
  assert_string_equal(request->asked_by, expected->asked_by);
  return 0;
}

static void test_store__a_request_is_due_until_it_is_done(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  struct store_request hold = {.kind = REQUEST_HOLD,
                               .domain = (char *)"a.example",
                               .reason = (char *)"audit",
                               .until = TIME_NEVER,
                               .asked_at = RIG_NOW + 9,
                               .asked_by = (char *)"root (pid 1)"};
  struct store_request second = {
      .kind = REQUEST_ROTATE, .domain = (char *)"a.example", .until = TIME_UNSET, .asked_at = 1};
  const struct store_filter all = {0};
  int64_t next;
  set_moments(rig->store, (int64_t[]){TIME_NEVER, TIME_NEVER, TIME_NEVER, TIME_NEVER});
  rig_check(rig->store->ops->request(rig->store, &hold, &error), &error);
  rig_check(rig->store->ops->next_moment(rig->store, &next, NULL, NULL, &error), &error);
  assert_true(next <= RIG_NOW); /* although the clock was later when it was asked */
  rig_check(rig->store->ops->select(rig->store, STORE_SELECT_REQUESTS, &all, check_request, &hold, &error), &error);
  const struct store_commit commit = {.requests_done = &hold.id, .request_done_count = 1};
  rig_check(rig->store->ops->commit(rig->store, &commit, &error), &error);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_REQUESTS, NULL), 0);
  rig_check(rig->store->ops->next_moment(rig->store, &next, NULL, NULL, &error), &error);
  assert_true(next == TIME_NEVER);
  rig_check(rig->store->ops->request(rig->store, &second, &error), &error);
  assert_true(second.id > hold.id);
}

static void test_store__a_request_for_an_unknown_domain_is_refused(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  struct store_request request = {.id = 77, .kind = REQUEST_ROTATE, .domain = (char *)"x.example", .asked_at = 1};
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  assert_int_equal(rig->store->ops->request(rig->store, &request, &error), ERROR_NOT_FOUND);
  assert_non_null(strstr(error.message, "x.example"));
  assert_true(request.id == 77);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_REQUESTS, NULL), 0);
}

static int check_resource(void *context, const void *row) {
  const struct store_resource *resource = row;
  ++*(int *)context;
  assert_string_equal(resource->name, "dns 192.0.2.53:53");
  assert_int_equal(resource->failures, 2);
  assert_true(resource->retry_at == 9);
  assert_string_equal(resource->failure, "timeout");
  return 0;
}

static void test_store__a_resource_is_kept_while_it_fails_and_the_clock_always(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  const struct store_filter all = {0};
  const struct store_clock clock = {.boot_id = "boot", .wall = -5, .boottime = 7, .credited = 8, .attested = true};
  struct store_resource resources[] = {{.name = (char *)"dns 192.0.2.53:53", .failures = 1, .retry_at = 8},
                                       {.name = (char *)"signer local", .failures = 1, .retry_at = TIME_UNSET}};
  struct store_commit commit = {.resources = resources, .resource_count = 2, .clock = &clock};
  struct store_clock read = {0};
  int64_t next;
  int seen = 0;
  rig_check(rig->store->ops->commit(rig->store, &commit, &error), &error);
  resources[0].failures = 2;
  resources[0].retry_at = 9;
  resources[0].failure = (char *)"timeout";
  resources[1].failures = 0;
  commit.clock = NULL;
  rig_check(rig->store->ops->commit(rig->store, &commit, &error), &error);
  rig_check(rig->store->ops->select(rig->store, STORE_SELECT_RESOURCES, &all, check_resource, &seen, &error), &error);
  assert_int_equal(seen, 1);
  rig_check(rig->store->ops->next_moment(rig->store, &next, NULL, &read, &error), &error);
  assert_string_equal(read.boot_id, "boot");
  assert_true(read.wall == -5 && read.boottime == 7 && read.credited == 8 && read.attested);
}

static int check_tables(void *context, const void *row) {
  const struct store_tables *tables = row;
  ++*(int *)context;
  assert_string_equal(tables->key_table, "/k/KeyTable");
  assert_string_equal(tables->signing_table, "/k/SigningTable");
  assert_string_equal(tables->digest, "two");
  assert_string_equal(tables->state, "12:34");
  assert_true(tables->changed_at == 99 && tables->woken == STORE_ALL_WOKEN);
  return 0;
}

static void test_store__what_tables_were_is_kept(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  static const struct store_filter all;
  struct store_tables tables = {.key_table = "/k/KeyTable", .signing_table = "/k/SigningTable", .digest = "one", .state = "1", .changed_at = TIME_UNSET};
  const struct store_commit commit = {.tables = &tables, .tables_count = 1};
  int seen = 0;
  rig_check(rig->store->ops->commit(rig->store, &commit, &error), &error);
  tables.digest = "two";
  tables.state = "12:34";
  tables.changed_at = 99;
  tables.woken = STORE_ALL_WOKEN;
  rig_check(rig->store->ops->commit(rig->store, &commit, &error), &error);
  rig_check(rig->store->ops->select(rig->store, STORE_SELECT_TABLES, &all, check_tables, &seen, &error), &error);
  assert_int_equal(seen, 1);
}

static void test_store__lineages_are_woken_a_few_at_a_time(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  struct store_wake wake = {.limit = 2, .at = RIG_NOW + 5};
  const struct store_commit commit = {.wake = &wake};
  rig_sync(rig->store, "a.example: {}, b.example: {}, c.example: {}", RIG_NOW);
  assert_int_equal(rig_sql(rig->path, "UPDATE lineage SET next_moment = 1900000000 WHERE id <> 2"), SQLITE_OK);
  rig_check(rig->store->ops->commit(rig->store, &commit, &error), &error);
  assert_int_equal(wake.last, 2);
  assert_int_equal(rig_number(rig->path, "SELECT next_moment FROM lineage WHERE id = 1"), RIG_NOW + 5);
  assert_int_equal(rig_number(rig->path, "SELECT next_moment FROM lineage WHERE id = 2"), RIG_NOW); /* sooner */
  assert_int_equal(rig_number(rig->path, "SELECT next_moment FROM lineage WHERE id = 3"), 1900000000);
  wake.after = wake.last;
  rig_check(rig->store->ops->commit(rig->store, &commit, &error), &error);
  assert_int_equal(wake.last, 3);
  assert_int_equal(rig_number(rig->path, "SELECT next_moment FROM lineage WHERE id = 3"), RIG_NOW + 5);
  wake.after = wake.last;
  rig_check(rig->store->ops->commit(rig->store, &commit, &error), &error);
  assert_true(wake.last == STORE_ALL_WOKEN);
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
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(1024);
  const struct store_filter all = {0};
  struct error error = {0};
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_SIGNERS, NULL), 0);
  for (int version = 0; version < 2; version++) {
    struct policy *policy = version == 0 ? rig_policy("a.example: {}") : rig_parse(changed);
    rig_sync_policy(rig->store, policy, RIG_NOW);
    policy_free(policy);
    CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(rig->store);
    struct key *key = rig_add_key(&claim.items[0], version == 0 ? "s1" : "s2", KEY_GENERATED);
    fill_key(key, &claim.items[0]);
    rig_commit(rig->store, &claim.items[0]);
  }
  rig_check(rig->store->ops->select(rig->store, STORE_SELECT_SIGNERS, &all, note_signer, &text, &error), &error);
  assert_string_equal((const char *)text.data, "local 600;local 640;");
}

static size_t count_users(struct store *store, const char *path) {
  const struct store_filter filter = {.text = path};
  struct error error = {0};
  size_t count = 0;
  rig_check(store->ops->select(store, STORE_SELECT_KEY_USERS, &filter, rig_count_row, &count, &error), &error);
  return count;
}

static void test_store__a_key_file_is_known_to_be_in_use_while_a_living_key_names_it(void **state) {
  struct rig *rig = *state;
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(rig->store);
  struct key *key = rig_add_key(&claim.items[0], "s", KEY_RETIRED);
  fill_key(key, &claim.items[0]);
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

static char *records_of(struct store *store, const char *publisher, const char *zone) {
  const struct store_filter filter = {.domain = publisher, .text = zone};
  struct buffer text = BUFFER_WITH_MAXIMUM(4096);
  struct error error = {0};
  rig_check(store->ops->select(store, STORE_SELECT_RECORDS, &filter, note_record, &text, &error), &error);
  return buffer_take_text(&text);
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
  lineage->keys[7].generated_at = TIME_UNSET; /* adopted: its record stands where somebody else put it */
  rig_commit(rig->store, lineage);
  CLEANUP_FREE char *records = records_of(rig->store, "primary", "zone");
  assert_string_equal(records, "behind.zone 60 record;s2._domainkey.a.example 60 record;s3._domainkey.a.example 60 record;"
                               "s4._domainkey.a.example 60 revoked record;");
  CLEANUP_FREE char *others = records_of(rig->store, "second", "zone");
  assert_string_equal(others, "other.zone 60 record;");
  CLEANUP_FREE char *none = records_of(rig->store, "primary", "another");
  assert_string_equal(none, "");
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
  const struct store_filter all = {0};
  struct error error = {0};
  rig_sync(rig->store, "a.example: {}, b.example: {}, c.example: {}", RIG_NOW);
  rig_check(rig->store->ops->select(rig->store, STORE_SELECT_LINEAGES, &all, select_again, &nesting, &error), &error);
  assert_int_equal(nesting.inner, 9);
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
    rig_sync(rig->store, "a.example: {}", RIG_NOW);
    CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(rig->store);
    fill_key(rig_add_key(&claim.items[0], "s", KEY_PUBLISHED), &claim.items[0]);
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

static int note_alarm(void *context, const void *row) {
  const struct store_alarm *alarm = row;
  buffer_format(context, "%s %s %lld %lld %s;", alarm->subject, alarm->domain ? alarm->domain : "-", (long long)alarm->since,
                alarm->told_at == TIME_UNSET ? -1 : (long long)alarm->told_at, alarm->text);
  return 0;
}

static void assert_alarms(struct rig *rig, const char *expected) {
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(1024);
  static const struct store_filter all;
  struct error error = {0};
  buffer_add_text(&text, "");
  rig_check(rig->store->ops->select(rig->store, STORE_SELECT_ALARMS, &all, note_alarm, &text, &error), &error);
  assert_string_equal((const char *)text.data, expected);
}

static void test_store__alarms_are_kept_until_they_are_over(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  struct store_alarm alarms[] = {{.subject = "b main", .domain = "b", .since = 5, .told_at = TIME_UNSET, .text = "one"},
                                 {.subject = "a", .since = 6, .told_at = 7, .text = "two"}};
  const struct store_commit commit = {.alarms = alarms, .alarm_count = 2};
  rig_check(rig->store->ops->commit(rig->store, &commit, &error), &error);
  assert_alarms(rig, "a - 6 7 two;b main b 5 -1 one;");
  alarms[0].told_at = 9;
  alarms[1].since = TIME_UNSET;
  rig_check(rig->store->ops->commit(rig->store, &commit, &error), &error);
  assert_alarms(rig, "b main b 5 9 one;");
}

static int take_told(void *context, const void *row) {
  *(int64_t *)context = *(const int64_t *)row;
  return 0;
}

static void test_store__what_hooks_were_told_is_kept_until_there_are_none(void **state) {
  struct rig *rig = *state;
  static const struct store_filter all;
  static const int64_t values[] = {STORE_TOLD_START, 17, 18, STORE_NOTHING_TOLD};
  struct error error = {0};
  for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
    const struct store_commit commit = {.told_event = values[i]};
    int64_t told = STORE_NOTHING_TOLD;
    rig_check(rig->store->ops->commit(rig->store, &commit, &error), &error);
    rig_check(rig->store->ops->select(rig->store, STORE_SELECT_TOLD, &all, take_told, &told, &error), &error);
    assert_true(told == values[i]);
    /* A commit that says nothing of it changes nothing. */
    rig_check(rig->store->ops->commit(rig->store, &(struct store_commit){.told_event = 0}, &error), &error);
    rig_check(rig->store->ops->select(rig->store, STORE_SELECT_TOLD, &all, take_told, &told, &error), &error);
    assert_true(told == values[i]);
  }
}

static int note_name(void *context, const void *row) {
  const struct lineage *lineage = row;
  buffer_format(context, "%s/%s ", lineage->domain, lineage->slot);
  return 0;
}

static void test_store__lineages_come_in_pages_by_name(void **state) {
  struct rig *rig = *state;
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(1024);
  struct error error = {0};
  rig_sync(rig->store, "b.example: {policy: two}, c.example: {}", RIG_NOW);
  rig_sync(rig->store, "a.example: {}, b.example: {policy: two}, c.example: {}", RIG_NOW);
  struct store_filter filter = {.domain = "", .text = "", .limit = 2};
  rig_check(rig->store->ops->select(rig->store, STORE_SELECT_LINEAGES_AFTER, &filter, note_name, &text, &error), &error);
  assert_string_equal((const char *)text.data, "a.example/main b.example/extra ");
  filter.domain = "b.example";
  filter.text = "extra";
  rig_check(rig->store->ops->select(rig->store, STORE_SELECT_LINEAGES_AFTER, &filter, note_name, &text, &error), &error);
  assert_string_equal((const char *)text.data, "a.example/main b.example/extra b.example/main c.example/main ");
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(test_store__##name, rig_setup, rig_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      STORE_TEST(a_fresh_store_knows_nothing),
      STORE_TEST(a_lineage_comes_back_with_all_that_was_committed),
      STORE_TEST(what_was_never_recorded_stays_unset),
      STORE_TEST(what_tables_were_is_kept),
      STORE_TEST(what_belongs_into_a_zone_is_known),
      STORE_TEST(lineages_are_woken_a_few_at_a_time),
      STORE_TEST(sightings_and_placements_that_are_gone_are_gone),
      STORE_TEST(a_signer_version_that_a_key_was_found_with_is_stored_with_it),
      STORE_TEST(a_selector_is_never_used_twice_in_any_letter_case),
      STORE_TEST(the_active_key_is_exchanged_in_either_order_and_is_never_two),
      STORE_TEST(a_key_of_an_unknown_publisher_or_signer_is_refused),
      STORE_TEST(a_removed_key_is_history_and_never_comes_back),
      STORE_TEST(more_removed_keys_than_a_lineage_holds_come_in_several_rows),
      STORE_TEST(the_most_urgent_are_claimed_first),
      STORE_TEST(a_claim_for_named_domains_takes_these_by_urgency_and_once),
      STORE_TEST(what_was_forgotten_is_never_due),
      STORE_TEST(lineages_come_by_name_and_pages_by_number),
      STORE_TEST(events_are_read_in_both_directions_from_any_number),
      STORE_TEST(the_event_log_is_append_only),
      STORE_TEST(a_request_is_due_until_it_is_done),
      STORE_TEST(a_request_for_an_unknown_domain_is_refused),
      STORE_TEST(a_resource_is_kept_while_it_fails_and_the_clock_always),
      STORE_TEST(signers_that_keys_were_made_with_are_remembered_in_every_version),
      STORE_TEST(a_key_file_is_known_to_be_in_use_while_a_living_key_names_it),
      STORE_TEST(a_row_may_be_answered_with_another_select),
      STORE_TEST(alarms_are_kept_until_they_are_over),
      STORE_TEST(what_hooks_were_told_is_kept_until_there_are_none),
      STORE_TEST(lineages_come_in_pages_by_name),
      cmocka_unit_test(test_store__contradictions_are_named_with_table_and_row),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
