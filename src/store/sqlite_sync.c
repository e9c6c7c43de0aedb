#include "dkimroll/store_sqlite.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

enum { REASON_MAX = 256 };

/* One entry under policies: with its row and its slots in the order of the table. */
struct sync_rules {
  int64_t id;
  const char *slots[POLICY_SLOTS_MAX];
};

/* A lineage as the policy wants it. */
struct wanted {
  bool valid; /* false: behind the last one */
  const char *domain, *slot, *zone;
  int64_t rules_id, publisher_id;
  char signers[SQLITE_SIGNERS_TEXT_MAX];
  char *senders; /* owned; NULL for the default */
};

/* A row of the table; texts are borrowed from the scan until its next step. */
struct stored {
  bool valid;
  int64_t id;
  char domain[DNS_NAME_TEXT_SIZE];
  char slot[SELECTOR_SIZE];
  bool managed, forgotten;
  int64_t rules_id, publisher_id;
  const char *signers, *zone, *senders;
};

/* Policy and table are both sorted by domain and slot, so one walk along both finds the new, the changed and the gone ones. The scan never sees what
 * the walk inserts: that sorts before the row that the scan stands on, or comes after its end. */
struct sync {
  struct sqlite_store *store;
  const struct policy *policy;
  int64_t now;
  struct sync_rules *rules; /* owned, like the next two: by the policy's indexes */
  int64_t *publishers, *signers;
  size_t domain, slot; /* position in the policy */
  struct wanted wanted;
  struct stored stored;
  struct sqlite_query scan;
  struct store_sync_report report;
};

static void sync_release(struct sync *sync) {
  sqlite_query_end(&sync->scan);
  free(sync->wanted.senders);
  free(sync->rules);
  free(sync->publishers);
  free(sync->signers);
}

static int compare_texts(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int rules_intern(struct sync *sync, const struct policy_rules *rules, struct sync_rules *ret_rules,
                        struct error *error) {
  CLEANUP_FREE char *text = NULL;
  if (rules->key_count > POLICY_SLOTS_MAX)
    return error_set(error, ERROR_LIMIT, "policy %s: more than %d keys", rules->name, POLICY_SLOTS_MAX);
  for (size_t i = 0; i < rules->key_count; i++) ret_rules->slots[i] = rules->keys[i].slot;
  qsort(ret_rules->slots, rules->key_count, sizeof ret_rules->slots[0], compare_texts);
  const int code = policy_rules_format(rules, &text, error);
  return code ? code : sqlite_version_intern(sync->store, &SQLITE_RULES, rules->name, text, &ret_rules->id, error);
}

static int publisher_intern(struct sync *sync, const struct policy_publisher *publisher, int64_t *ret_id,
                            struct error *error) {
  CLEANUP_FREE char *text = NULL;
  const int code = policy_publisher_format(publisher, &text, error);
  return code ? code : sqlite_version_intern(sync->store, &SQLITE_PUBLISHERS, publisher->name, text, ret_id, error);
}

static int signer_intern(struct sync *sync, const struct policy_signer *signer, int64_t *ret_id, struct error *error) {
  CLEANUP_FREE char *text = NULL;
  const int code = policy_signer_format(signer, &text, error);
  return code ? code : sqlite_version_intern(sync->store, &SQLITE_SIGNERS, signer->name, text, ret_id, error);
}

/* Rules, publishers and signers become rows once, not for each domain. */
static int versions_intern(struct sync *sync, struct error *error) {
  const struct policy *policy = sync->policy;
  sync->rules = calloc(policy->rules_count + 1, sizeof *sync->rules);
  sync->publishers = calloc(policy->publisher_count + 1, sizeof *sync->publishers);
  sync->signers = calloc(policy->signer_count + 1, sizeof *sync->signers);
  if (!sync->rules || !sync->publishers || !sync->signers)
    return error_set(error, ERROR_NO_MEMORY, "store %s: out of memory", sync->store->path);
  int code = 0;
  for (size_t i = 0; i < policy->rules_count && !code; i++)
    code = rules_intern(sync, &policy->rules[i], &sync->rules[i], error);
  for (size_t i = 0; i < policy->publisher_count && !code; i++)
    code = publisher_intern(sync, &policy->publishers[i], &sync->publishers[i], error);
  for (size_t i = 0; i < policy->signer_count && !code; i++)
    code = signer_intern(sync, &policy->signers[i], &sync->signers[i], error);
  return code;
}

/* What all slots of the domain that comes next have in common. */
static int wanted_begin_domain(struct sync *sync, const struct policy_domain *domain, struct error *error) {
  int64_t ids[POLICY_SIGNERS_MAX];
  struct wanted *wanted = &sync->wanted;
  const char *explicit_zone = sync->policy->publishers[domain->publisher].zone;
  if (wanted->domain && strcmp(wanted->domain, domain->name) >= 0)
    return error_set(error, ERROR_INTERNAL, "policy: domain %s is not in its place", domain->name);
  if (strlen(domain->name) >= DNS_NAME_TEXT_SIZE)
    return error_set(error, ERROR_LIMIT, "policy: a domain is longer than %d octets", DNS_NAME_TEXT_SIZE - 1);
  for (size_t i = 0; i < domain->signer_count; i++) ids[i] = sync->signers[domain->signers[i]];
  sqlite_signers_text(ids, domain->signer_count, wanted->signers);
  wanted->domain = domain->name;
  wanted->zone = domain->zone ? domain->zone : explicit_zone;
  wanted->rules_id = sync->rules[domain->rules].id;
  wanted->publisher_id = sync->publishers[domain->publisher];
  free(TAKE_PTR(wanted->senders));
  return sqlite_senders_text(domain->name, domain->senders, domain->sender_count, &wanted->senders, error);
}

static int wanted_advance(struct sync *sync, struct error *error) {
  const struct policy *policy = sync->policy;
  struct wanted *wanted = &sync->wanted;
  wanted->valid = false;
  while (sync->domain < policy->domain_count) {
    const struct policy_domain *domain = &policy->domains[sync->domain];
    int code = sync->slot == 0 ? wanted_begin_domain(sync, domain, error) : 0;
    if (code) return code;
    if (sync->slot < policy->rules[domain->rules].key_count) {
      wanted->slot = sync->rules[domain->rules].slots[sync->slot++];
      wanted->valid = true;
      return 0;
    }
    sync->slot = 0;
    sync->domain++;
  }
  return 0;
}

static int stored_advance(struct sync *sync, struct error *error) {
  struct stored *stored = &sync->stored;
  struct sqlite_query *scan = &sync->scan;
  const int code = sqlite_query_step(scan, &stored->valid, error);
  if (code || !stored->valid) return code;
  stored->id = sqlite_read_number(scan, 1, INT64_MAX);
  sqlite_read_into(scan, stored->domain, sizeof stored->domain);
  sqlite_read_into(scan, stored->slot, sizeof stored->slot);
  stored->managed = sqlite_read_bool(scan);
  stored->forgotten = sqlite_read_bool(scan);
  stored->rules_id = sqlite_read_number(scan, 1, INT64_MAX);
  stored->publisher_id = sqlite_read_number(scan, 1, INT64_MAX);
  stored->signers = sqlite_read_borrowed(scan);
  stored->zone = sqlite_read_borrowed(scan);
  stored->senders = sqlite_read_borrowed(scan);
  return sqlite_query_check(scan, "lineage", stored->id, error);
}

static int event_write(const struct sync *sync, int64_t lineage_id, const char *domain, const char *slot,
                       const char *reason, struct error *error) {
  int64_t id = 0;
  const struct event event = {.at = sync->now,
                              .lineage_id = lineage_id,
                              .domain = (char *)domain,
                              .slot = (char *)slot,
                              .kind = (char *)"sync",
                              .reason = (char *)reason};
  return sqlite_event_insert(sync->store, &event, &id, error);
}

static int wanted_insert(struct sync *sync, struct error *error) {
  static const char sql[] =
      "INSERT INTO lineage (domain, slot, managed, rules_id, publisher_id, signers, zone, senders,"
      " next_moment) VALUES (?, ?, 1, ?, ?, ?, ?, ?, ?)";
  const struct wanted *wanted = &sync->wanted;
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
  code = sqlite_query_run(&query, NULL, error);
  if (code) return code;
  sync->report.added++;
  return event_write(sync, sqlite3_last_insert_rowid(sync->store->database), wanted->domain, wanted->slot,
                     "new in the policy", error);
}

/* Names what differs, for the event. false: nothing. */
static bool difference_name(const struct wanted *wanted, const struct stored *stored, char text[REASON_MAX]) {
  const struct {
    const char *name;
    bool differs;
  } parts[] = {
      {"rules", wanted->rules_id != stored->rules_id},
      {"publisher", wanted->publisher_id != stored->publisher_id},
      {"signers", !text_equal(wanted->signers, stored->signers)},
      {"zone", !text_equal(wanted->zone, stored->zone)},
      {"senders", !text_equal(wanted->senders, stored->senders)},
  };
  size_t used = 0;
  text[0] = '\0';
  for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
    if (parts[i].differs)
      used += (size_t)snprintf(text + used, REASON_MAX - used, "%s%s", used ? ", " : "", parts[i].name);
  return used > 0;
}

static int stored_change(const struct sync *sync, struct error *error) {
  static const char sql[] =
      "UPDATE lineage SET managed = 1, forgotten = 0, rules_id = ?, publisher_id = ?, signers = ?,"
      " zone = ?, senders = ?, failures = 0, retry_at = NULL, parked_at = NULL, failure = NULL, next_moment = ?"
      " WHERE id = ?";
  const struct wanted *wanted = &sync->wanted;
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  const int code = sqlite_query_begin(sync->store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, wanted->rules_id);
  sqlite_bind_number(&query, wanted->publisher_id);
  sqlite_bind_text(&query, wanted->signers);
  sqlite_bind_text(&query, wanted->zone);
  sqlite_bind_text(&query, wanted->senders);
  sqlite_bind_number(&query, sync->now);
  sqlite_bind_number(&query, sync->stored.id);
  return sqlite_query_run(&query, NULL, error);
}

/* What failed under the old policy is tried again at once under the new one. */
static int keys_forget_failures(const struct sync *sync, struct error *error) {
  static const char sql[] = "UPDATE key SET failures = 0, retry_at = NULL, failure = NULL, look_failures = 0, look_retry_at = NULL"
                            " WHERE lineage_id = ? AND (failures > 0 OR look_failures > 0)";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  const int code = sqlite_query_begin(sync->store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, sync->stored.id);
  return sqlite_query_run(&query, NULL, error);
}

static int stored_match(struct sync *sync, struct error *error) {
  const struct stored *stored = &sync->stored;
  char parts[REASON_MAX];
  char reason[REASON_MAX + 32];
  const bool returned = !stored->managed || stored->forgotten;
  const bool differs = difference_name(&sync->wanted, stored, parts);
  if (!returned && !differs) return 0;
  if (returned)
    snprintf(reason, sizeof reason, "in the policy again%s%s", differs ? "; changed: " : "", parts);
  else
    snprintf(reason, sizeof reason, "changed in the policy: %s", parts);
  int code = stored_change(sync, error);
  if (!code) code = keys_forget_failures(sync, error);
  if (code) return code;
  if (returned)
    sync->report.returned++;
  else
    sync->report.changed++;
  return event_write(sync, stored->id, stored->domain, stored->slot, reason, error);
}

/* It keeps signing and nothing is deleted; due, so that the planner sees it once as what it is now. */
static int stored_unmanage(struct sync *sync, struct error *error) {
  static const char sql[] = "UPDATE lineage SET managed = 0, next_moment = ? WHERE id = ?";
  const struct stored *stored = &sync->stored;
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  if (!stored->managed) return 0;
  int code = sqlite_query_begin(sync->store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, sync->now);
  sqlite_bind_number(&query, stored->id);
  code = sqlite_query_run(&query, NULL, error);
  if (code) return code;
  sync->report.unmanaged++;
  sync->report.warnings++;
  return event_write(sync, stored->id, stored->domain, stored->slot,
                     "not in the policy any more: it keeps signing, nothing is deleted", error);
}

/* Negative: the wanted one comes first, so it has no row. Positive: the stored one comes first, so the policy does not have it. */
static int walk_order(const struct wanted *wanted, const struct stored *stored) {
  if (!wanted->valid || !stored->valid) return wanted->valid ? -1 : 1;
  const int order = strcmp(wanted->domain, stored->domain);
  return order != 0 ? order : strcmp(wanted->slot, stored->slot);
}

static int walk(struct sync *sync, struct error *error) {
  int code = wanted_advance(sync, error);
  if (!code) code = stored_advance(sync, error);
  while (!code && (sync->wanted.valid || sync->stored.valid)) {
    const int order = walk_order(&sync->wanted, &sync->stored);
    if (order < 0)
      code = wanted_insert(sync, error);
    else
      code = order == 0 ? stored_match(sync, error) : stored_unmanage(sync, error);
    if (!code && order <= 0) code = wanted_advance(sync, error);
    if (!code && order >= 0) code = stored_advance(sync, error);
  }
  return code;
}

int sqlite_sync(struct store *base, const struct policy *policy, const struct store_policy_stamp *stamp, int64_t now,
                struct store_sync_report *ret_report, struct error *error) {
  static const char sql_scan[] =
      "SELECT id, domain, slot, managed, forgotten, rules_id, publisher_id, signers, zone, senders"
      " FROM lineage ORDER BY domain, slot";
  CLEANUP(sqlite_transaction_end) struct sqlite_transaction transaction = {0};
  CLEANUP(sync_release) struct sync sync = {.store = sqlite_store_of(base), .policy = policy, .now = now};
  sync.report.domains = policy->domain_count;
  int code = sqlite_transaction_begin(sync.store, true, &transaction, error);
  if (!code) code = versions_intern(&sync, error);
  if (!code) code = sqlite_query_begin(sync.store, sql_scan, &sync.scan, error);
  if (!code) code = walk(&sync, error);
  if (!code) code = sqlite_wave_limit(sync.store, &policy->limits, now, error);
  if (!code) code = sqlite_stamp_write(sync.store, stamp, error);
  if (!code) code = sqlite_metrics_write(sync.store, policy, now, error);
  if (!code) code = sqlite_transaction_commit(&transaction, error);
  if (!code && ret_report) *ret_report = sync.report;
  return code;
}
