#include "dkimroll/store_sqlite.h"

#include <stdlib.h>

#include "dkimroll/cleanup.h"

int sqlite_event_insert(struct sqlite_store *store, const struct event *event, int64_t *ret_id, struct error *error) {
  static const char sql[] =
      "INSERT INTO event (at, lineage_id, domain, slot, selector, kind, from_state, to_state, reason)"
      " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, event->at);
  /* 0: about no lineage. A moment that was never recorded is NULL, and so is this. */
  sqlite_bind_moment(&query, event->lineage_id ? event->lineage_id : TIME_UNSET);
  sqlite_bind_text(&query, event->domain);
  sqlite_bind_text(&query, event->slot);
  sqlite_bind_text(&query, event->selector);
  sqlite_bind_text(&query, event->kind);
  sqlite_bind_text(&query, event->from);
  sqlite_bind_text(&query, event->to);
  sqlite_bind_text(&query, event->reason);
  code = sqlite_query_run(&query, NULL, error);
  if (!code) *ret_id = sqlite3_last_insert_rowid(store->database);
  return code;
}

static int clock_write(struct sqlite_store *store, const struct store_clock *clock, struct error *error) {
  static const char sql[] =
      "INSERT INTO clock (id, boot_id, wall, boottime, credited, attested) VALUES (1, ?1, ?2, ?3, ?4, ?5)"
      " ON CONFLICT (id) DO UPDATE SET boot_id = ?1, wall = ?2, boottime = ?3, credited = ?4, attested = ?5";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_text(&query, clock->boot_id);
  sqlite_bind_number(&query, clock->wall);
  sqlite_bind_number(&query, clock->boottime);
  sqlite_bind_number(&query, clock->credited);
  sqlite_bind_number(&query, clock->attested);
  return sqlite_query_run(&query, NULL, error);
}

static int lineages_wake(struct sqlite_store *store, int64_t moment, struct error *error) {
  static const char sql[] = "UPDATE lineage SET next_moment = ?1 WHERE next_moment > ?1";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, moment);
  return sqlite_query_run(&query, NULL, error);
}

static int request_delete(struct sqlite_store *store, int64_t id, struct error *error) {
  static const char sql[] = "DELETE FROM request WHERE id = ?";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, id);
  return sqlite_query_run(&query, NULL, error);
}

static int resource_write(struct sqlite_store *store, const struct store_resource *resource, struct error *error) {
  static const char sql_put[] = "INSERT INTO resource (name, failures, retry_at, failure) VALUES (?1, ?2, ?3, ?4)"
                                " ON CONFLICT (name) DO UPDATE SET failures = ?2, retry_at = ?3, failure = ?4";
  static const char sql_delete[] = "DELETE FROM resource WHERE name = ?";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = sqlite_query_begin(store, resource->failures ? sql_put : sql_delete, &query, error);
  if (code) return code;
  sqlite_bind_text(&query, resource->name);
  if (resource->failures) {
    sqlite_bind_number(&query, resource->failures);
    sqlite_bind_moment(&query, resource->retry_at);
    sqlite_bind_text(&query, resource->failure);
  }
  return sqlite_query_run(&query, NULL, error);
}

static int tables_write(struct sqlite_store *store, const struct store_tables *tables, struct error *error) {
  static const char sql[] =
      "INSERT INTO signer_tables (key_table, signing_table, digest, state, changed_at, woken) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
      " ON CONFLICT (key_table, signing_table) DO UPDATE SET digest = ?3, state = ?4, changed_at = ?5, woken = ?6";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_text(&query, tables->key_table);
  sqlite_bind_text(&query, tables->signing_table);
  sqlite_bind_text(&query, tables->digest);
  sqlite_bind_text(&query, tables->state);
  sqlite_bind_moment(&query, tables->changed_at);
  sqlite_bind_number(&query, tables->woken);
  return sqlite_query_run(&query, NULL, error);
}

static int wake_find_last(struct sqlite_store *store, struct store_wake *wake, struct error *error) {
  static const char sql[] = "SELECT max(id) FROM (SELECT id FROM lineage WHERE id > ? ORDER BY id LIMIT ?)";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, wake->after);
  sqlite_bind_number(&query, (int64_t)wake->limit);
  code = sqlite_query_step(&query, &row, error);
  if (code) return code;
  const int64_t last = sqlite_read_moment(&query);
  wake->last = last == TIME_UNSET ? STORE_ALL_WOKEN : last;
  return sqlite_query_check(&query, "lineage", 0, error);
}

static int wake_write(struct sqlite_store *store, struct store_wake *wake, struct error *error) {
  static const char sql[] = "UPDATE lineage SET next_moment = ? WHERE id > ? AND id <= ? AND next_moment > ?";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = wake_find_last(store, wake, error);
  if (code || wake->last == STORE_ALL_WOKEN) return code;
  code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, wake->at);
  sqlite_bind_number(&query, wake->after);
  sqlite_bind_number(&query, wake->last);
  sqlite_bind_number(&query, wake->at);
  return sqlite_query_run(&query, NULL, error);
}

static void new_ids_release(struct sqlite_new_ids *ids) {
  free(ids->items);
}

static int new_ids_reserve(const struct sqlite_store *store, const struct store_commit *commit,
                           struct sqlite_new_ids *ids, struct error *error) {
  size_t count = commit->event_count;
  for (size_t i = 0; i < commit->lineage_count; i++) count += commit->lineages[i]->key_count;
  ids->items = calloc(count + 1, sizeof *ids->items);
  return ids->items ? 0 : error_set(error, ERROR_NO_MEMORY, "store %s: out of memory", store->path);
}

static int lineage_commit(struct sqlite_store *store, const struct lineage *lineage, struct sqlite_new_ids *ids,
                          struct error *error) {
  int code = sqlite_lineage_write(store, lineage, error);
  if (!code) code = sqlite_keys_write(store, lineage, ids, error);
  if (code) error_context(error, "%s, key %s", lineage->domain, lineage->slot);
  return code;
}

static int event_commit(struct sqlite_store *store, struct event *event, struct sqlite_new_ids *ids,
                        struct error *error) {
  int64_t id = 0;
  if (event->id)
    return error_set(error, ERROR_INTERNAL, "store %s: event %lld is stored already", store->path,
                     (long long)event->id);
  const int code = sqlite_event_insert(store, event, &id, error);
  if (!code) ids->items[ids->count++] = (struct sqlite_new_id){.place = &event->id, .id = id};
  return code;
}

static int commit_write(struct sqlite_store *store, const struct store_commit *commit, struct sqlite_new_ids *ids,
                        struct error *error) {
  int code = commit->plan_anew && commit->clock ? lineages_wake(store, commit->clock->credited, error) : 0;
  for (size_t i = 0; i < commit->lineage_count && !code; i++)
    code = lineage_commit(store, commit->lineages[i], ids, error);
  for (size_t i = 0; i < commit->event_count && !code; i++) code = event_commit(store, &commit->events[i], ids, error);
  for (size_t i = 0; i < commit->request_done_count && !code; i++)
    code = request_delete(store, commit->requests_done[i], error);
  for (size_t i = 0; i < commit->resource_count && !code; i++)
    code = resource_write(store, &commit->resources[i], error);
  for (size_t i = 0; i < commit->tables_count && !code; i++) code = tables_write(store, &commit->tables[i], error);
  if (!code && commit->wake) code = wake_write(store, commit->wake, error);
  if (!code && commit->wave) code = sqlite_wave_write(store, commit->wave, error);
  if (!code && commit->wave && commit->wave_waits != TIME_UNSET && commit->clock)
    code = sqlite_wave_wake(store, commit->wave_waits, commit->clock->credited, error);
  if (!code && commit->clock) code = clock_write(store, commit->clock, error);
  if (!code && commit->publisher_clock) code = sqlite_publisher_clock_write(store, commit->publisher_clock, error);
  for (size_t i = 0; i < commit->alarm_count && !code; i++) code = sqlite_alarm_write(store, &commit->alarms[i], error);
  if (!code && commit->told_event) code = sqlite_told_write(store, commit->told_event, error);
  return code;
}

int sqlite_commit(struct store *base, const struct store_commit *commit, struct error *error) {
  struct sqlite_store *store = sqlite_store_of(base);
  CLEANUP(new_ids_release) struct sqlite_new_ids ids = {0};
  CLEANUP(sqlite_transaction_end) struct sqlite_transaction transaction = {0};
  int code = new_ids_reserve(store, commit, &ids, error);
  if (!code) code = sqlite_transaction_begin(store, true, &transaction, error);
  if (!code) code = commit_write(store, commit, &ids, error);
  if (!code) code = sqlite_transaction_commit(&transaction, error);
  if (code) return code;
  /* Only now: a row that was rolled back must not look as if it were there. */
  for (size_t i = 0; i < ids.count; i++) *ids.items[i].place = ids.items[i].id;
  return 0;
}
