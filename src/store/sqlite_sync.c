#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/store_sqlite.h"
#include "dkimroll/text.h"

/* Row ids of everything that the policy names, found once for all domains. */
struct sync {
  struct sqlite_store *store;
  const struct policy *policy;
  int64_t now;
  int64_t *rules, *publishers, *signers;
  struct store_sync_report report;
};

static void sync_release(struct sync *sync) {
  free(sync->rules);
  free(sync->publishers);
  free(sync->signers);
}

static int intern_all(struct sync *sync, struct error *error) {
  const struct policy *policy = sync->policy;
  sync->rules = calloc(policy->rules_count + 1, sizeof(int64_t));
  sync->publishers = calloc(policy->publisher_count + 1, sizeof(int64_t));
  sync->signers = calloc(policy->signer_count + 1, sizeof(int64_t));
  if (!sync->rules || !sync->publishers || !sync->signers) return error_set(error, ERROR_NO_MEMORY, "store %s: out of memory", sync->store->path);
  int code = 0;
  for (size_t i = 0; i < policy->rules_count && !code; i++) {
    CLEANUP_FREE char *text = NULL;
    code = policy_rules_format(&policy->rules[i], &text, error);
    if (!code) code = sqlite_version_intern(sync->store, &SQLITE_RULES, policy->rules[i].name, text, &sync->rules[i], error);
  }
  for (size_t i = 0; i < policy->publisher_count && !code; i++) {
    CLEANUP_FREE char *text = NULL;
    code = policy_publisher_format(&policy->publishers[i], &text, error);
    if (!code) code = sqlite_version_intern(sync->store, &SQLITE_PUBLISHERS, policy->publishers[i].name, text, &sync->publishers[i], error);
  }
  for (size_t i = 0; i < policy->signer_count && !code; i++) {
    CLEANUP_FREE char *text = NULL;
    code = policy_signer_format(&policy->signers[i], &text, error);
    if (!code) code = sqlite_version_intern(sync->store, &SQLITE_SIGNERS, policy->signers[i].name, text, &sync->signers[i], error);
  }
  return code;
}

static int sync_event(struct sync *sync, int64_t lineage_id, const char *domain, const char *slot, const char *reason, struct error *error) {
  int64_t id;
  const struct event event = {.at = sync->now,
                              .lineage_id = lineage_id,
                              .domain = (char *)domain,
                              .slot = (char *)slot,
                              .kind = (char *)"sync",
                              .reason = (char *)reason};
  return sqlite_event_insert(sync->store, &event, &id, error);
}

/* One row as the policy wants it. */
struct wanted {
  const char *domain, *slot, *zone, *senders;
  char signers[SQLITE_SIGNERS_TEXT_MAX];
  int64_t rules_id, publisher_id;
};

static int lineage_insert(struct sync *sync, const struct wanted *wanted, struct error *error) {
  static const char sql[] = "INSERT INTO lineage (domain, slot, managed, rules_id, publisher_id, signers, zone, senders, next_moment)"
                            " VALUES (?, ?, 1, ?, ?, ?, ?, ?, ?)";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = sqlite_query_begin(sync->store, sql, &query, error);
  if (code) return code;
  sqlite_bind_text(&query, wanted->domain);
  sqlite_bind_text(&query, wanted->slot);
  sqlite_bind_number(&query, wanted->rules_id);
  sqlite_bind_number(&query, wanted->publisher_id);
  sqlite_bind_text(&query, wanted->signers);
  sqlite_bind_text(&query, wanted->zone);
  sqlite_bind_text(&query, wanted->senders);
  sqlite_bind_number(&query, sync->now);
  sync->report.added++;
  return sqlite_query_run(&query, NULL, error);
}

static int lineage_change(struct sync *sync, int64_t id, const struct wanted *wanted, bool returned, struct error *error) {
  /* The policy changed, so what failed under the old one is tried again at once. */
  static const char sql[] = "UPDATE lineage SET managed = 1, forgotten = 0, rules_id = ?, publisher_id = ?, signers = ?, zone = ?, senders = ?,"
                            " failures = 0, retry_at = NULL, parked_at = NULL, failure = NULL, next_moment = ? WHERE id = ?";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = sqlite_query_begin(sync->store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, wanted->rules_id);
  sqlite_bind_number(&query, wanted->publisher_id);
  sqlite_bind_text(&query, wanted->signers);
  sqlite_bind_text(&query, wanted->zone);
  sqlite_bind_text(&query, wanted->senders);
  sqlite_bind_number(&query, sync->now);
  sqlite_bind_number(&query, id);
  code = sqlite_query_run(&query, NULL, error);
  if (code) return code;
  if (returned)
    sync->report.returned++;
  else
    sync->report.changed++;
  return sync_event(sync, id, wanted->domain, wanted->slot, returned ? "back in the policy" : "changed by the policy", error);
}

static int mark_seen(struct sync *sync, const struct wanted *wanted, struct error *error) {
  static const char sql[] = "INSERT INTO temp.seen (domain, slot) VALUES (?, ?)";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = sqlite_query_begin(sync->store, sql, &query, error);
  if (code) return code;
  sqlite_bind_text(&query, wanted->domain);
  sqlite_bind_text(&query, wanted->slot);
  return sqlite_query_run(&query, NULL, error);
}

static int lineage_put(struct sync *sync, const struct wanted *wanted, struct error *error) {
  static const char sql[] = "SELECT id, managed, forgotten, rules_id = ?3 AND publisher_id = ?4 AND signers = ?5 AND zone IS ?6 AND senders IS ?7"
                            " FROM lineage WHERE domain = ?1 AND slot = ?2";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  int code = mark_seen(sync, wanted, error);
  if (!code) code = sqlite_query_begin(sync->store, sql, &query, error);
  if (code) return code;
  sqlite_bind_text(&query, wanted->domain);
  sqlite_bind_text(&query, wanted->slot);
  sqlite_bind_number(&query, wanted->rules_id);
  sqlite_bind_number(&query, wanted->publisher_id);
  sqlite_bind_text(&query, wanted->signers);
  sqlite_bind_text(&query, wanted->zone);
  sqlite_bind_text(&query, wanted->senders);
  code = sqlite_query_step(&query, &row, error);
  if (code) return code;
  if (!row) return lineage_insert(sync, wanted, error);
  const int64_t id = sqlite_read_number(&query, 1, INT64_MAX);
  const bool managed = sqlite_read_bool(&query);
  const bool forgotten = sqlite_read_bool(&query);
  const bool same = sqlite_read_bool(&query);
  code = sqlite_query_check(&query, "lineage", id, error);
  if (code || (managed && !forgotten && same)) return code;
  return lineage_change(sync, id, wanted, !managed || forgotten, error);
}

static int domain_put(struct sync *sync, const struct policy_domain *domain, struct error *error) {
  const struct policy_rules *rules = &sync->policy->rules[domain->rules];
  struct wanted wanted = {.domain = domain->name,
                          .zone = domain->zone ? domain->zone : sync->policy->publishers[domain->publisher].zone,
                          .rules_id = sync->rules[domain->rules],
                          .publisher_id = sync->publishers[domain->publisher]};
  int64_t ids[POLICY_SIGNERS_MAX];
  CLEANUP_FREE char *senders = NULL;
  for (size_t i = 0; i < domain->signer_count; i++) ids[i] = sync->signers[domain->signers[i]];
  sqlite_signers_text(ids, domain->signer_count, wanted.signers);
  int code = sqlite_senders_text(domain->name, domain->senders, domain->sender_count, &senders, error);
  wanted.senders = senders;
  for (size_t i = 0; i < rules->key_count && !code; i++) {
    wanted.slot = rules->keys[i].slot;
    code = lineage_put(sync, &wanted, error);
  }
  return code;
}

/* Domains and slots that the policy does not name any more: they keep signing, and nothing is deleted. */
static int unmanage_others(struct sync *sync, struct error *error) {
  static const char sql[] = "UPDATE lineage SET managed = 0, next_moment = 9223372036854775807 WHERE managed = 1 AND NOT EXISTS"
                            " (SELECT 1 FROM temp.seen WHERE seen.domain = lineage.domain AND seen.slot = lineage.slot)"
                            " RETURNING id, domain, slot";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  int code = sqlite_query_begin(sync->store, sql, &query, error);
  while (!code && !(code = sqlite_query_step(&query, &row, error)) && row) {
    const int64_t id = sqlite_read_number(&query, 1, INT64_MAX);
    const char *domain = sqlite_read_borrowed(&query), *slot = sqlite_read_borrowed(&query);
    sync->report.unmanaged++;
    sync->report.warnings++;
    code = sync_event(sync, id, domain, slot, "not in the policy any more: it keeps signing, nothing is deleted", error);
  }
  return code;
}

static int exec(struct sqlite_store *store, const char *sql, struct error *error) {
  const int code = sqlite3_exec(store->database, sql, NULL, NULL, NULL);
  return code == SQLITE_OK ? 0 : sqlite_fail(store, code, "compiling the policy", error);
}

static int sync_all(struct sync *sync, const struct store_policy_stamp *stamp, struct error *error) {
  const struct policy *policy = sync->policy;
  int code = exec(sync->store, "DELETE FROM temp.seen", error);
  if (!code) code = intern_all(sync, error);
  for (size_t i = 0; i < policy->domain_count && !code; i++) code = domain_put(sync, &policy->domains[i], error);
  if (!code) code = unmanage_others(sync, error);
  if (!code) code = sqlite_stamp_write(sync->store, stamp, error);
  sync->report.domains = policy->domain_count;
  return code;
}

int sqlite_sync(struct store *base, const struct policy *policy, const struct store_policy_stamp *stamp, int64_t now,
                struct store_sync_report *ret_report, struct error *error) {
  struct sqlite_store *store = sqlite_store_of(base);
  CLEANUP(sqlite_transaction_end) struct sqlite_transaction transaction = {0};
  struct sync sync = {.store = store, .policy = policy, .now = now};
  int code = exec(store, "CREATE TEMP TABLE IF NOT EXISTS seen (domain TEXT, slot TEXT, PRIMARY KEY (domain, slot)) WITHOUT ROWID", error);
  if (!code) code = sqlite_transaction_begin(store, true, &transaction, error);
  if (!code) code = sync_all(&sync, stamp, error);
  if (!code) code = sqlite_transaction_commit(&transaction, error);
  /* The statement on it is cached; only its rows have to go. */
  if (!code) code = exec(store, "DELETE FROM temp.seen", error);
  sync_release(&sync);
  if (!code && ret_report) *ret_report = sync.report;
  return code;
}
