/* The policy becomes lineages: the new, the changed, the gone and the returned ones, and nothing else. */
#include "store_rig.h"

#include <time.h>

enum { MODEL_DOMAINS = 40, MODEL_ROUNDS = 200, BULK_DOMAINS = 3000 };

static void assert_report(const struct store_sync_report *report, const char *expected) {
  char text[256];
  snprintf(text, sizeof text, "%zu domains, %zu added, %zu changed, %zu unmanaged, %zu returned, %zu warnings",
           report->domains, report->added, report->changed, report->unmanaged, report->returned, report->warnings);
  assert_string_equal(text, expected);
}

static int64_t last_event(struct store *store) {
  return (int64_t)rig_count(store, STORE_SELECT_EVENTS, NULL);
}

/* As after a turn of the engine: nothing is due. */
static void put_off_all(struct store *store) {
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(store);
  for (size_t i = 0; i < claim.count; i++) {
    claim.items[i].next_moment = TIME_NEVER;
    rig_commit(store, &claim.items[i]);
  }
}

static void test_store_sync__each_slot_of_each_domain_is_a_lineage_that_is_due(void **state) {
  struct rig *rig = *state;
  const struct store_sync_report report = rig_sync(
      rig->store, "b.example: {}, a.example: {policy: two, publisher: second, signers: [other, local]}", RIG_NOW);
  assert_report(&report, "2 domains, 3 added, 0 changed, 0 unmanaged, 0 returned, 0 warnings");
  CLEANUP(rig_claim_release) struct rig_claim early = rig_claim_at(rig->store, RIG_NOW - 1);
  assert_int_equal(early.count, 0);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_at(rig->store, RIG_NOW);
  assert_int_equal(claim.count, 3);
  const struct lineage *lineage = &claim.items[0];
  assert_string_equal(lineage->domain, "a.example");
  assert_string_equal(lineage->slot, "extra");
  assert_true(lineage->managed && lineage->key_count == 0);
  assert_string_equal(lineage->rules->name, "two");
  assert_string_equal(lineage_rule(lineage)->slot, "extra");
  assert_string_equal(lineage->publisher->name, "second");
  assert_string_equal(lineage->publisher->server, "192.0.2.54");
  assert_int_equal(lineage->signer_count, 2);
  assert_string_equal(lineage->signers[0]->name, "other");
  assert_string_equal(lineage->signers[1]->key_table, "/k/local/KeyTable");
  assert_string_equal(lineage->zone, "zone.example");
  assert_int_equal(lineage->sender_count, 1);
  assert_string_equal(lineage->senders[0], "*@a.example");
  assert_null(claim.items[2].zone);
  CLEANUP_FREE char *events = rig_events(rig->store, 0);
  assert_string_equal(events, "a.example/extra sync: new in the policy\na.example/main sync: new in the policy\n"
                              "b.example/main sync: new in the policy\n");
}

static void test_store_sync__senders_and_zone_come_back_as_they_were_written(void **state) {
  struct rig *rig = *state;
  rig_sync(rig->store, "a.example: {zone: b.example, senders: [\"x@a.example\", \"*@a.example\"]}", RIG_NOW);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(rig->store);
  assert_string_equal(claim.items[0].zone, "b.example");
  assert_int_equal(claim.items[0].sender_count, 2);
  assert_string_equal(claim.items[0].senders[0], "x@a.example");
  assert_string_equal(claim.items[0].senders[1], "*@a.example");
}

static void test_store_sync__an_unchanged_policy_changes_nothing(void **state) {
  struct rig *rig = *state;
  static const char domains[] = "a.example: {policy: two, senders: [\"x@a.example\"]}, b.example: {zone: b.example}";
  rig_sync(rig->store, domains, RIG_NOW);
  put_off_all(rig->store);
  const int64_t before = last_event(rig->store);
  const struct store_sync_report report = rig_sync(rig->store, domains, RIG_NOW + 9);
  assert_report(&report, "2 domains, 0 added, 0 changed, 0 unmanaged, 0 returned, 0 warnings");
  assert_int_equal(last_event(rig->store), before);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_at(rig->store, TIME_NEVER - 1);
  assert_int_equal(claim.count, 0);
}

static void test_store_sync__what_changed_is_due_at_once_and_said(void **state) {
  static const struct {
    const char *domain, *reason;
  } changes[] = {
      {"a.example: {policy: two}", "rules"},
      {"a.example: {publisher: second}", "publisher, zone"},
      {"a.example: {signers: [other]}", "signers"},
      {"a.example: {signers: [local, other]}", "signers"},
      {"a.example: {zone: a.example}", "zone"},
      {"a.example: {senders: [\"x@a.example\"]}", "senders"},
      {"a.example: {publisher: second, signers: [other], senders: [\"x@a.example\"]}",
       "publisher, signers, zone, senders"},
  };
  (void)state;
  for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
    struct rig *rig = NULL;
    rig_setup((void **)&rig);
    rig_sync(rig->store, "a.example: {}, b.example: {}", RIG_NOW);
    put_off_all(rig->store);
    const int64_t before = last_event(rig->store);
    CLEANUP_FREE char *domains = text_format("%s, b.example: {}", changes[i].domain);
    const struct store_sync_report report = rig_sync(rig->store, domains, RIG_NOW + 9);
    assert_int_equal(report.changed, 1);
    CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_at(rig->store, RIG_NOW + 9);
    assert_int_equal(claim.count, 1 + report.added);
    assert_string_equal(claim.items[0].domain, "a.example");
    CLEANUP_FREE char *expected = text_format("a.example/main sync: changed in the policy: %s\n", changes[i].reason);
    CLEANUP_FREE char *events = rig_events(rig->store, before);
    assert_non_null(strstr(events, expected));
    rig_teardown((void **)&rig);
  }
}

static void test_store_sync__a_change_ends_back_off_and_parking(void **state) {
  struct rig *rig = *state;
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(rig->store);
  claim.items[0].failures = 9;
  claim.items[0].parked_at = claim.items[0].retry_at = RIG_NOW + 99;
  claim.items[0].held = true;
  claim.items[0].rotate_requested = true;
  struct key *key = rig_add_key(&claim.items[0], "s", KEY_PUBLISHED); /* only looks at its servers fail */
  key->look_failures = 9;
  key->look_retry_at = RIG_NOW + 99;
  rig_commit(rig->store, &claim.items[0]);
  rig_sync(rig->store, "a.example: {signers: [other]}", RIG_NOW + 1);
  CLEANUP(rig_claim_release) struct rig_claim again = rig_claim_all(rig->store);
  assert_true(again.items[0].failures == 0 && again.items[0].parked_at == TIME_UNSET &&
              again.items[0].retry_at == TIME_UNSET);
  assert_true(again.items[0].keys[0].look_failures == 0 && again.items[0].keys[0].look_retry_at == TIME_UNSET);
  assert_true(again.items[0].held && again.items[0].rotate_requested);
}

static void test_store_sync__a_key_keeps_what_it_was_made_with(void **state) {
  struct rig *rig = *state;
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(rig->store);
  struct key *key = rig_add_key(&claim.items[0], "s", KEY_ACTIVE);
  key->placement_count = 1;
  key->placements[0] = (struct placement){.signer_id = claim.items[0].signer_ids[0],
                                          .key_path = text_duplicate("/k/s"),
                                          .switched_at = 1,
                                          .proved_at = 2,
                                          .drained_at = TIME_UNSET};
  rig_commit(rig->store, &claim.items[0]);
  rig_sync(rig->store, "a.example: {publisher: second, signers: [other]}", RIG_NOW + 1);
  CLEANUP(rig_claim_release) struct rig_claim again = rig_claim_all(rig->store);
  assert_string_equal(again.items[0].publisher->name, "second");
  assert_string_equal(again.items[0].signers[0]->name, "other");
  assert_string_equal(again.items[0].keys[0].publisher->name, "primary");
  assert_string_equal(again.items[0].keys[0].placements[0].signer->name, "local");
}

static void test_store_sync__a_domain_or_slot_that_is_gone_is_unmanaged_and_may_return(void **state) {
  struct rig *rig = *state;
  rig_sync(rig->store, "a.example: {policy: two}, b.example: {}, c.example: {}", RIG_NOW);
  CLEANUP(rig_claim_release) struct rig_claim begin = rig_claim_domain(rig->store, "b.example");
  rig_add_key(&begin.items[0], "s", KEY_ACTIVE);
  rig_commit(rig->store, &begin.items[0]);
  put_off_all(rig->store);
  int64_t before = last_event(rig->store);
  struct store_sync_report report = rig_sync(rig->store, "a.example: {}, c.example: {}", RIG_NOW + 1);
  assert_report(&report, "2 domains, 0 added, 1 changed, 2 unmanaged, 0 returned, 2 warnings");
  CLEANUP_FREE char *gone = rig_events(rig->store, before);
  assert_string_equal(gone, "a.example/extra sync: not in the policy any more: it keeps signing, nothing is deleted\n"
                            "a.example/main sync: changed in the policy: rules\n"
                            "b.example/main sync: not in the policy any more: it keeps signing, nothing is deleted\n");
  CLEANUP(rig_claim_release) struct rig_claim middle = rig_claim_domain(rig->store, "b.example");
  assert_false(middle.items[0].managed);
  assert_string_equal(middle.items[0].rules->name, "one");
  assert_int_equal(middle.items[0].key_count, 1);

  before = last_event(rig->store);
  report = rig_sync(rig->store, "a.example: {}, c.example: {}", RIG_NOW + 2);
  assert_report(&report, "2 domains, 0 added, 0 changed, 0 unmanaged, 0 returned, 0 warnings");
  report = rig_sync(rig->store, "a.example: {}, b.example: {signers: [other]}, c.example: {}", RIG_NOW + 3);
  assert_report(&report, "3 domains, 0 added, 0 changed, 0 unmanaged, 1 returned, 0 warnings");
  CLEANUP_FREE char *back = rig_events(rig->store, before);
  assert_string_equal(back, "b.example/main sync: in the policy again; changed: signers\n");
  CLEANUP(rig_claim_release) struct rig_claim end = rig_claim_domain(rig->store, "b.example");
  assert_true(end.items[0].managed && end.items[0].next_moment == RIG_NOW + 3);
  assert_true(end.items[0].id == begin.items[0].id);
  assert_string_equal(end.items[0].keys[0].selector, "s");
}

static void test_store_sync__a_forgotten_domain_that_returns_is_remembered_with_its_selectors(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  rig_sync(rig->store, "a.example: {}, b.example: {}", RIG_NOW);
  rig_sync(rig->store, "b.example: {}", RIG_NOW);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_domain(rig->store, "a.example");
  rig_add_key(&claim.items[0], "s", KEY_ACTIVE);
  claim.items[0].forgotten = true;
  rig_commit(rig->store, &claim.items[0]);
  const struct store_sync_report report = rig_sync(rig->store, "a.example: {}, b.example: {}", RIG_NOW);
  assert_int_equal(report.returned, 1);
  CLEANUP(rig_claim_release) struct rig_claim again = rig_claim_domain(rig->store, "a.example");
  assert_int_equal(again.count, 1);
  assert_true(again.items[0].managed && !again.items[0].forgotten);
  rig_add_key(&again.items[0], "S", KEY_RESERVED);
  assert_int_equal(rig_commit_try(rig->store, &again.items[0], &error), ERROR_EXISTS);
}

/* The engine holds lineages while operations run; a new policy must not be forgotten for what was planned under the old one. */
static void test_store_sync__an_outcome_from_before_does_not_put_off_what_the_policy_made_due(void **state) {
  struct rig *rig = *state;
  rig_sync(rig->store, "a.example: {}, b.example: {}, c.example: {}", RIG_NOW);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(rig->store);
  rig_sync(rig->store, "a.example: {senders: [\"x@a.example\"]}, c.example: {}", RIG_NOW + 5);
  for (size_t i = 0; i < claim.count; i++) {
    claim.items[i].next_moment = TIME_NEVER;
    claim.items[i].failures = 3;
    rig_commit(rig->store, &claim.items[i]);
  }
  CLEANUP(rig_claim_release) struct rig_claim due = rig_claim_at(rig->store, RIG_NOW + 5);
  assert_int_equal(due.count, 2);
  assert_string_equal(due.items[0].domain, "a.example");
  assert_string_equal(due.items[0].senders[0], "x@a.example");
  assert_int_equal(due.items[0].failures, 3);
  assert_string_equal(due.items[1].domain, "b.example");
  assert_false(due.items[1].managed);
}

static void test_store_sync__a_domain_that_was_forgotten_while_it_returned_is_taken_up_by_the_next_sync(void **state) {
  struct rig *rig = *state;
  rig_sync(rig->store, "a.example: {}, b.example: {}", RIG_NOW);
  rig_sync(rig->store, "b.example: {}", RIG_NOW);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_domain(rig->store, "a.example");
  rig_sync(rig->store, "a.example: {}, b.example: {}", RIG_NOW);
  claim.items[0].forgotten = true;
  rig_commit(rig->store, &claim.items[0]);
  assert_int_equal(rig_sync(rig->store, "a.example: {}, b.example: {}", RIG_NOW).returned, 1);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_LINEAGES, "a.example"), 1);
}

static void test_store_sync__the_stamp_of_the_policy_comes_back(void **state) {
  struct rig *rig = *state;
  struct store_file_stamp files[] = {{(char *)"/etc/p.yaml", 1, INT64_MAX, 3, INT64_MIN, 5},
                                     {(char *)"/etc/list", 6, 7, 8, 9, 10}};
  struct store_policy_stamp stamp = {.files = files, .file_count = 2, .digest = "abc"};
  struct policy *policy = rig_policy("a.example: {}");
  struct error error = {0};
  int64_t next;
  for (int round = 2; round > 0; round--) {
    CLEANUP(store_policy_stamp_release) struct store_policy_stamp read = {0};
    stamp.file_count = (size_t)round;
    rig_check(rig->store->ops->sync(rig->store, policy, &stamp, RIG_NOW, NULL, &error), &error);
    rig_check(rig->store->ops->next_moment(rig->store, &next, &read, NULL, &error), &error);
    assert_string_equal(read.digest, "abc");
    assert_int_equal(read.file_count, round);
    for (int i = 0; i < round; i++) {
      assert_string_equal(read.files[i].path, files[i].path);
      assert_true(read.files[i].size == files[i].size && read.files[i].inode == files[i].inode);
      assert_true(read.files[i].device == files[i].device && read.files[i].changed_ns == files[i].changed_ns);
      assert_true(read.files[i].modified_ns == files[i].modified_ns);
    }
  }
  policy_free(policy);
}

static void test_store_sync__a_sync_that_fails_leaves_everything_as_it_was(void **state) {
  struct rig *rig = *state;
  const struct store_policy_stamp stamp = {.digest = "new"};
  struct store_policy_stamp read = {0};
  struct store_sync_report report = {.added = 77};
  struct error error = {0};
  int64_t next;
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  put_off_all(rig->store);
  struct policy *policy = rig_policy("b.example: {signers: [other]}, c.example: {}");
  const struct policy_domain first = policy->domains[0];
  policy->domains[0] = policy->domains[1];
  policy->domains[1] = first; /* not sorted: the walk would not find anything */
  assert_int_equal(rig->store->ops->sync(rig->store, policy, &stamp, RIG_NOW, &report, &error), ERROR_INTERNAL);
  policy_free(policy);
  assert_int_equal(report.added, 77);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_LINEAGES, NULL), 1);
  assert_int_equal(last_event(rig->store), 1);
  rig_check(rig->store->ops->next_moment(rig->store, &next, &read, NULL, &error), &error);
  assert_true(next == TIME_NEVER);
  assert_string_equal(read.digest, "digest");
  store_policy_stamp_release(&read);
}

/* What the policy says of a domain of the model: 0 not in it, 1 "one", 2 "two", 3 "one" with another signer. */
static const char *const model_texts[] = {"", "policy: one", "policy: two", "signers: [other]"};

struct model {
  unsigned char now[MODEL_DOMAINS]; /* in the policy */
  bool known[MODEL_DOMAINS][2];     /* main, extra: ever seen */
};

static char *model_round(struct model *model, unsigned short seed[3]) {
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(1 << 16);
  const double change = erand48(seed) * erand48(seed);
  for (int i = 0; i < MODEL_DOMAINS; i++) {
    if (erand48(seed) < change) model->now[i] = (unsigned char)(nrand48(seed) % 4);
    if (model->now[i] == 0) continue;
    model->known[i][0] = true;
    if (model->now[i] == 2) model->known[i][1] = true;
    buffer_format(&text, "%sd%d.example: {%s}", text.size ? ", " : "", i * 7 % MODEL_DOMAINS,
                  model_texts[model->now[i]]);
  }
  if (text.size == 0) buffer_format(&text, "never.example: {}");
  return buffer_take_text(&text);
}

static int check_model(void *context, const void *row) {
  const struct model *model = context;
  const struct lineage *lineage = row;
  if (text_equal(lineage->domain, "never.example")) return 0;
  int number = 0;
  assert_int_equal(sscanf(lineage->domain, "d%d.example", &number), 1);
  int i = 0;
  while (i * 7 % MODEL_DOMAINS != number) i++;
  const bool extra = text_equal(lineage->slot, "extra");
  assert_true(model->known[i][extra]);
  assert_int_equal(lineage->managed, extra ? model->now[i] == 2 : model->now[i] != 0);
  if (!lineage->managed) return 0;
  assert_string_equal(lineage->rules->name, model->now[i] == 2 ? "two" : "one");
  assert_string_equal(lineage->signers[0]->name, model->now[i] == 3 ? "other" : "local");
  return 0;
}

static void test_store_sync__any_policy_after_any_other_gives_what_it_says(void **state) {
  struct rig *rig = *state;
  const char *given = getenv("DKIMROLL_SEED");
  const unsigned long number = given ? strtoul(given, NULL, 10) : (unsigned long)time(NULL);
  unsigned short seed[3] = {(unsigned short)number, (unsigned short)(number >> 16), 1};
  print_message("replay: DKIMROLL_SEED=%lu build/tests/unit/test_store_sync\n", number);
  struct model model = {0};
  const struct store_filter all = {0};
  struct error error = {0};
  for (int round = 0; round < MODEL_ROUNDS; round++) {
    CLEANUP_FREE char *domains = model_round(&model, seed);
    rig_sync(rig->store, domains, RIG_NOW);
    size_t known = 0, found = rig_count(rig->store, STORE_SELECT_LINEAGES, NULL);
    for (int i = 0; i < MODEL_DOMAINS; i++) known += model.known[i][0] + model.known[i][1];
    assert_int_equal(found - rig_count(rig->store, STORE_SELECT_LINEAGES, "never.example"), known);
    rig_check(rig->store->ops->select(rig->store, STORE_SELECT_LINEAGES, &all, check_model, &model, &error), &error);
    const struct store_sync_report again = rig_sync(rig->store, domains, RIG_NOW);
    assert_int_equal(again.added + again.changed + again.unmanaged + again.returned, 0);
  }
}

static double seconds_since(struct timespec *since) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  const double passed = (double)(now.tv_sec - since->tv_sec) + (double)(now.tv_nsec - since->tv_nsec) / 1e9;
  *since = now;
  return passed;
}

static struct policy *bulk_policy(size_t count, const char *first) {
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM((size_t)256 << 20);
  buffer_add_text(&text, RIG_HEAD "domains:\n");
  buffer_add_text(&text, first);
  for (size_t i = 1; i < count; i++) buffer_format(&text, "  customer-%07zu.example: {}\n", i);
  CLEANUP_FREE char *policy = buffer_take_text(&text);
  return rig_parse(policy);
}

/* One committed turn: a new key with four sightings for each of 500 lineages. */
static double bulk_turn(struct store *store, int round, struct timespec *watch) {
  struct rig_claim claim = {0};
  struct error error = {0};
  char selector[SELECTOR_SIZE];
  rig_check(store->ops->claim(store, RIG_NOW, 500, NULL, 0, NULL, 0, &claim.items, &claim.count, &error), &error);
  print_message("claim of %zu: %.1f ms\n", claim.count, seconds_since(watch) * 1e3);
  struct lineage **pointers = calloc(claim.count, sizeof *pointers);
  struct event *events = calloc(claim.count, sizeof *events);
  for (size_t i = 0; i < claim.count; i++) {
    snprintf(selector, sizeof selector, "server-%d", round);
    struct key *key = rig_add_key(&claim.items[i], selector, KEY_PUBLISHED);
    key->sighting_count = 4;
    key->sightings = calloc(4, sizeof *key->sightings);
    for (int j = 0; j < 4; j++) snprintf(key->sightings[j].host, sizeof key->sightings[j].host, "ns%d.example", j);
    key->placement_count = 1;
    key->placements[0] =
        (struct placement){.signer_id = claim.items[i].signer_ids[0], .key_path = text_duplicate("/k/x")};
    pointers[i] = &claim.items[i];
    events[i] = (struct event){
        .at = RIG_NOW, .lineage_id = claim.items[i].id, .domain = claim.items[i].domain, .kind = (char *)"state"};
    claim.items[i].next_moment = RIG_NOW - (round < 1);
  }
  const struct store_commit commit = {
      .lineages = pointers, .lineage_count = claim.count, .events = events, .event_count = claim.count};
  seconds_since(watch);
  rig_check(store->ops->commit(store, &commit, &error), &error);
  const double passed = seconds_since(watch);
  rig_claim_release(&claim);
  free(pointers);
  free(events);
  return passed;
}

/* Prints what things take; DKIMROLL_STORE_DOMAINS=100000 for figures that mean something. */
static void test_store_sync__many_domains_are_no_different(void **state) {
  struct rig *rig = *state;
  const char *given = getenv("DKIMROLL_STORE_DOMAINS");
  const size_t count = given ? strtoul(given, NULL, 10) : BULK_DOMAINS;
  struct policy *first = bulk_policy(count, "  customer-0000000.example: {}\n");
  struct policy *second = bulk_policy(count, "  customer-9999999.example: {signers: [other]}\n");
  struct timespec watch;
  struct error error = {0};
  int64_t next;
  clock_gettime(CLOCK_MONOTONIC, &watch);
  struct store_sync_report report = rig_sync_policy(rig->store, first, RIG_NOW);
  print_message("first sync of %zu domains: %.0f ms\n", count, seconds_since(&watch) * 1e3);
  assert_int_equal(report.added, count);
  report = rig_sync_policy(rig->store, first, RIG_NOW + 1);
  print_message("unchanged sync: %.0f ms\n", seconds_since(&watch) * 1e3);
  assert_int_equal(report.changed + report.added + report.unmanaged, 0);
  report = rig_sync_policy(rig->store, second, RIG_NOW + 1);
  print_message("sync with one gone and one new: %.0f ms\n", seconds_since(&watch) * 1e3);
  assert_true(report.added == 1 && report.unmanaged == 1 && report.changed == 0);
  for (int round = 0; round < 2; round++)
    print_message("commit: %.1f ms\n", bulk_turn(rig->store, round, &watch) * 1e3);
  store_close(rig->store);
  print_message("close: %.1f ms\n", seconds_since(&watch) * 1e3);
  rig->store = rig_open(rig->path, true);
  rig_check(rig->store->ops->next_moment(rig->store, &next, NULL, NULL, &error), &error);
  print_message("open and next_moment: %.2f ms\n", seconds_since(&watch) * 1e3);
  rig_check(rig->store->ops->next_moment(rig->store, &next, NULL, NULL, &error), &error);
  print_message("next_moment: %.3f ms\n", seconds_since(&watch) * 1e3);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_LINEAGES, NULL), count + 1);
  print_message("select of all lineages: %.0f ms\n", seconds_since(&watch) * 1e3);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_LINEAGES, "customer-0000777.example"), 1);
  print_message("select of one domain: %.3f ms\n", seconds_since(&watch) * 1e3);
  policy_free(first);
  policy_free(second);
}

#define SYNC_TEST(name) cmocka_unit_test_setup_teardown(test_store_sync__##name, rig_setup, rig_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      SYNC_TEST(each_slot_of_each_domain_is_a_lineage_that_is_due),
      SYNC_TEST(senders_and_zone_come_back_as_they_were_written),
      SYNC_TEST(an_unchanged_policy_changes_nothing),
      cmocka_unit_test(test_store_sync__what_changed_is_due_at_once_and_said),
      SYNC_TEST(a_change_ends_back_off_and_parking),
      SYNC_TEST(a_key_keeps_what_it_was_made_with),
      SYNC_TEST(a_domain_or_slot_that_is_gone_is_unmanaged_and_may_return),
      SYNC_TEST(a_forgotten_domain_that_returns_is_remembered_with_its_selectors),
      SYNC_TEST(an_outcome_from_before_does_not_put_off_what_the_policy_made_due),
      SYNC_TEST(a_domain_that_was_forgotten_while_it_returned_is_taken_up_by_the_next_sync),
      SYNC_TEST(the_stamp_of_the_policy_comes_back),
      SYNC_TEST(a_sync_that_fails_leaves_everything_as_it_was),
      SYNC_TEST(any_policy_after_any_other_gives_what_it_says),
      SYNC_TEST(many_domains_are_no_different),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
