/* For the tests of the store: a store in a folder of its own, policies made from a few words, and rows collected. */
#ifndef DKIMROLL_TESTS_STORE_RIG_H
#define DKIMROLL_TESTS_STORE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/store_sqlite.h"
#include "dkimroll/text.h"
#include "workplace.h"

enum { RIG_NOW = 1800000000 };

#define RIG_SIGNER(name)                                                                                               \
  name ": {key-table: /k/" name "/KeyTable, signing-table: /k/" name "/SigningTable, key-directory: /k/" name          \
       "/%d, multiple-signatures: true, milter: \"unix:/k/" name "/sock\"}"
#define RIG_HEAD                                                                                                       \
  "policies:\n"                                                                                                        \
  "  one: {}\n"                                                                                                        \
  "  two: {keys: {main: {algorithm: rsa, bits: 2048}, extra: {algorithm: rsa, bits: 2048, selector: \"e%Y%m%d\"}}}\n"  \
  "publishers: {primary: {server: \"192.0.2.53\"}, second: {server: \"192.0.2.54\", zone: zone.example}}\n"            \
  "signers: {" RIG_SIGNER("local") ", " RIG_SIGNER(                                                                    \
      "other") "}\n"                                                                                                   \
               "domain-defaults: {policy: one, publisher: primary, signers: [local]}\n"

struct rig {
  struct workplace place;
  char *path;
  struct store *store;
};

static inline struct policy *rig_parse(const char *text) {
  CLEANUP(policy_findings_release) struct policy_findings findings = {0};
  struct policy *policy = NULL;
  struct error error = {0};
  const int code = policy_parse("p.yaml", text, strlen(text), &policy, &findings, &error);
  for (size_t i = 0; i < findings.count; i++)
    print_error("%u: %s\n", findings.items[i].place.line, findings.items[i].message);
  assert_int_equal(code, 0);
  return policy;
}

/* RIG_HEAD with these domains: "a.example: {}, b.example: {policy: two}". */
static inline struct policy *rig_policy(const char *domains) {
  CLEANUP_FREE char *text = text_format("%sdomains: {%s}\n", RIG_HEAD, domains);
  return rig_parse(text);
}

static inline void rig_check(int code, const struct error *error) {
  if (code) fail_msg("%s (%s)", error->message, error->remedy);
}

static inline struct store *rig_open(const char *path, bool read_only) {
  struct store *store = NULL;
  struct error error = {0};
  rig_check(store_sqlite_open(path, read_only, &store, &error), &error);
  return store;
}

static inline int rig_setup(void **state) {
  struct rig *rig = calloc(1, sizeof *rig);
  workplace_make(&rig->place, "/tmp");
  rig->path = workplace_path(&rig->place, "lib/state.db");
  rig->store = rig_open(rig->path, false);
  *state = rig;
  return 0;
}

static inline int rig_teardown(void **state) {
  struct rig *rig = *state;
  store_close(rig->store);
  workplace_remove(&rig->place);
  free(rig->path);
  free(rig);
  return 0;
}

static inline struct store_sync_report rig_sync_policy(struct store *store, const struct policy *policy, int64_t now) {
  const struct store_policy_stamp stamp = {.digest = "digest"};
  struct store_sync_report report = {0};
  struct error error = {0};
  rig_check(store->ops->sync(store, policy, &stamp, now, &report, &error), &error);
  return report;
}

static inline struct store_sync_report rig_sync(struct store *store, const char *domains, int64_t now) {
  struct policy *policy = rig_policy(domains);
  const struct store_sync_report report = rig_sync_policy(store, policy, now);
  policy_free(policy);
  return report;
}

/* Lineages that a test holds. */
struct rig_claim {
  struct lineage *items;
  size_t count;
};
static inline void rig_claim_release(struct rig_claim *claim) {
  for (size_t i = 0; i < claim->count; i++) lineage_release(&claim->items[i]);
  free(claim->items);
  *claim = (struct rig_claim){0};
}

/* What is asked of a claim; without domains: of all. */
struct rig_due {
  int64_t now;
  size_t limit;
  const char *const *domains;
  size_t domain_count;
  const int64_t *open;
  size_t open_count;
};
static inline struct rig_claim rig_claim_due(struct store *store, const struct rig_due *due) {
  struct rig_claim claim = {0};
  struct error error = {0};
  rig_check(store->ops->claim(store, due->now, due->limit, due->domains, due->domain_count, due->open, due->open_count, &claim.items, &claim.count, &error),
            &error);
  return claim;
}

/* Everything that is due at now. */
static inline struct rig_claim rig_claim_at(struct store *store, int64_t now) {
  return rig_claim_due(store, &(struct rig_due){.now = now, .limit = STORE_CLAIM_MAX});
}

static inline struct rig_claim rig_claim_all(struct store *store) {
  return rig_claim_at(store, TIME_NEVER);
}

/* Everything there is, after the policy with these domains came. */
static inline struct rig_claim rig_claim_new(struct store *store, const char *domains) {
  rig_sync(store, domains, RIG_NOW);
  return rig_claim_all(store);
}

/* The lineages of one domain, whatever their moment; by their moment. */
static inline struct rig_claim rig_claim_domain(struct store *store, const char *domain) {
  return rig_claim_due(store, &(struct rig_due){.now = TIME_NEVER, .limit = 10, .domains = &domain, .domain_count = 1});
}

static inline int rig_commit_try(struct store *store, struct lineage *lineage, struct error *error) {
  const struct store_commit commit = {.lineages = &lineage, .lineage_count = 1};
  return store->ops->commit(store, &commit, error);
}

static inline void rig_commit(struct store *store, struct lineage *lineage) {
  struct error error = {0};
  rig_check(rig_commit_try(store, lineage, &error), &error);
}

static inline void rig_commit_rows(struct store *store, const struct store_commit *commit) {
  struct error error = {0};
  rig_check(store->ops->commit(store, commit, &error), &error);
}

static inline int64_t rig_next_moment(struct store *store) {
  struct error error = {0};
  int64_t next = 0;
  rig_check(store->ops->next_moment(store, &next, NULL, NULL, &error), &error);
  return next;
}

static inline struct key *rig_add_key(struct lineage *lineage, const char *selector, enum key_state state) {
  struct key *key = lineage_add_key(lineage);
  assert_non_null(key);
  text_copy(key->selector, sizeof key->selector, selector);
  key->algorithm = KEY_ALGORITHM_ED25519;
  key->bits = 256;
  key->state = state;
  key->publisher_id = lineage->publisher_id;
  key->publisher = lineage->publisher;
  return key;
}

/* Every member differs from every other, so that two exchanged columns show. */
static inline void rig_fill_key(struct key *key, const struct lineage *lineage) {
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
  key->failures = 37;
  key->retry_at = 38;
  key->failure = text_duplicate("publish of s: no answer");
  key->proof_failures = 32;
  key->proof_retry_at = 33;
  key->look_failures = 39;
  key->look_retry_at = 40;
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

/* Every row that filter lets through (NULL: every one); take is called with the context. */
static inline void rig_select(struct store *store, enum store_select_kind kind, const struct store_filter *filter, store_row *take, void *context) {
  static const struct store_filter all;
  struct error error = {0};
  rig_check(store->ops->select(store, kind, filter ? filter : &all, take, context, &error), &error);
}

/* What note writes of all these rows, with a buffer as its context, is the text. */
static inline void rig_expect(struct store *store, enum store_select_kind kind, const struct store_filter *filter, store_row *note, const char *expected) {
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(4096);
  rig_select(store, kind, filter, note, &text);
  assert_string_equal(text.data ? (const char *)text.data : "", expected);
}

static inline int rig_count_row(void *context, const void *row) {
  (void)row;
  ++*(size_t *)context;
  return 0;
}

static inline size_t rig_count(struct store *store, enum store_select_kind kind, const char *domain) {
  const struct store_filter filter = {.domain = domain};
  size_t count = 0;
  rig_select(store, kind, &filter, rig_count_row, &count);
  return count;
}

static inline int rig_text_event(void *context, const void *row) {
  const struct event *event = row;
  struct buffer *text = context;
  buffer_format(text, "%s/%s %s: %s\n", event->domain ? event->domain : "-", event->slot ? event->slot : "-",
                event->kind, event->reason ? event->reason : "-");
  return 0;
}

/* Events after that number as lines "domain/slot kind: reason". Caller frees. */
static inline char *rig_events(struct store *store, int64_t after) {
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(1 << 20);
  const struct store_filter filter = {.after = after};
  rig_select(store, STORE_SELECT_EVENTS, &filter, rig_text_event, &text);
  return buffer_take_text(&text);
}

/* SQL behind the store's back, on a connection of its own. */
static inline int rig_sql(const char *path, const char *sql) {
  sqlite3 *database = NULL;
  assert_int_equal(sqlite3_open_v2(path, &database, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
  const int code = sqlite3_exec(database, sql, NULL, NULL, NULL);
  sqlite3_close(database);
  return code;
}

/* The first column of the first row as a number. */
static inline int64_t rig_number(const char *path, const char *sql) {
  sqlite3 *database = NULL;
  sqlite3_stmt *statement = NULL;
  assert_int_equal(sqlite3_open_v2(path, &database, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_prepare_v2(database, sql, -1, &statement, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
  const int64_t number = sqlite3_column_int64(statement, 0);
  sqlite3_finalize(statement);
  sqlite3_close(database);
  return number;
}

#endif
