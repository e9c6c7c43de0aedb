#include "dkimroll/store_sqlite.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"

#define KEY_COLUMNS                                                                                                    \
  "state, state_since, record, ttl, created_at, generated_at, published_at, right_at, propagation, last_wrong_at, "    \
  "confirmed_at, ready_at, active_at, retired_at, revoke_at, revoked_at, deleted_at, absent_at, removed_at, "          \
  "ttl_negative, ttl_old, intent_open, intent, intent_at, publisher_id, zone, owner, primary_server, "          \
  "contested_at, proof_failures, proof_retry_at, look_failures, look_retry_at, compromised_at, revoke_now, "      \
  "lingers_until, files_seen_at, "                                                                                       \
  "failures, retry_at, failure"

#define PLACEMENT_COLUMNS                                                                                              \
  "signer_id, key_path, file_made, switched_at, proved_at, drained_at, destroyed, failure, damage, damaged_at"
#define SIGHTING_COLUMNS "host, address, is_right, no_route, count, right_since, last_wrong_at, seen_at, answer"

static int placement_read(struct sqlite_query *query, struct key *key, struct error *error) {
  if (key->placement_count == KEY_PLACEMENTS_MAX)
    return error_set(error, ERROR_INTERNAL, "store %s: table placement, key %lld: more than %d rows",
                     query->store->path, (long long)key->id, KEY_PLACEMENTS_MAX);
  struct placement *placement = &key->placements[key->placement_count++];
  *placement = (struct placement){.signer_id = sqlite_read_number(query, 1, INT64_MAX)};
  int code = sqlite_read_text(query, &placement->key_path, error);
  placement->file_made = sqlite_read_bool(query);
  placement->switched_at = sqlite_read_moment(query);
  placement->proved_at = sqlite_read_moment(query);
  placement->drained_at = sqlite_read_moment(query);
  placement->destroyed = sqlite_read_bool(query);
  if (!code) code = sqlite_read_text(query, &placement->failure, error);
  placement->damage = (enum placement_damage)sqlite_read_number(query, DAMAGE_NONE, DAMAGE_KEPT);
  placement->damaged_at = sqlite_read_moment(query);
  if (!code) code = sqlite_query_check(query, "placement", key->id, error);
  if (!code) code = sqlite_signer_get(query->store, placement->signer_id, &placement->signer, error);
  return code;
}

static int placements_load(struct sqlite_store *store, struct key *key, struct error *error) {
  static const char sql[] = "SELECT " PLACEMENT_COLUMNS " FROM placement WHERE key_id = ? ORDER BY position";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, key->id);
  while (!code && !(code = sqlite_query_step(&query, &row, error)) && row) code = placement_read(&query, key, error);
  return code;
}

static int sighting_read(struct sqlite_query *query, struct key *key, struct error *error) {
  if (key->sighting_count == KEY_SIGHTINGS_MAX)
    return error_set(error, ERROR_INTERNAL, "store %s: table sighting, key %lld: more than %d rows", query->store->path,
                     (long long)key->id, KEY_SIGHTINGS_MAX);
  struct sighting *sightings = reallocarray(key->sightings, key->sighting_count + 1, sizeof *sightings);
  if (!sightings) return error_set(error, ERROR_NO_MEMORY, "store %s: out of memory", query->store->path);
  key->sightings = sightings;
  struct sighting *sighting = &sightings[key->sighting_count++];
  *sighting = (struct sighting){0};
  sqlite_read_into(query, sighting->host, sizeof sighting->host);
  sqlite_read_into(query, sighting->address, sizeof sighting->address);
  sighting->right = sqlite_read_bool(query);
  sighting->no_route = sqlite_read_bool(query);
  sighting->count = (unsigned)sqlite_read_number(query, 0, UINT32_MAX);
  sighting->right_since = sqlite_read_moment(query);
  sighting->last_wrong_at = sqlite_read_moment(query);
  sighting->seen_at = sqlite_read_moment(query);
  sqlite_read_into(query, sighting->answer, sizeof sighting->answer);
  return sqlite_query_check(query, "sighting", key->id, error);
}

static int sightings_load(struct sqlite_store *store, struct key *key, struct error *error) {
  static const char sql[] = "SELECT " SIGHTING_COLUMNS " FROM sighting WHERE key_id = ? ORDER BY position";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, key->id);
  while (!code && !(code = sqlite_query_step(&query, &row, error)) && row) code = sighting_read(&query, key, error);
  return code;
}

/* One row of key, without what hangs on it. */
static int key_read(struct sqlite_query *query, struct key *key, struct error *error) {
  key->id = sqlite_read_number(query, 1, INT64_MAX);
  sqlite_read_into(query, key->selector, sizeof key->selector);
  key->algorithm = (enum key_algorithm)sqlite_read_number(query, KEY_ALGORITHM_RSA, KEY_ALGORITHM_ED25519);
  key->bits = (unsigned)sqlite_read_number(query, 1, UINT16_MAX);
  key->state = (enum key_state)sqlite_read_number(query, KEY_RESERVED, KEY_REMOVED);
  key->state_since = sqlite_read_moment(query);
  int code = sqlite_read_text(query, &key->record, error);
  key->ttl = (uint32_t)sqlite_read_number(query, 0, UINT32_MAX);
  int64_t *const first[] = {&key->created_at, &key->generated_at, &key->published_at, &key->right_at};
  for (size_t i = 0; i < ARRAY_SIZE(first); i++) *first[i] = sqlite_read_moment(query);
  key->propagation = sqlite_read_number(query, -1, INT64_MAX);
  int64_t *const second[] = {&key->last_wrong_at, &key->confirmed_at, &key->ready_at,   &key->active_at,
                             &key->retired_at,    &key->revoke_at,    &key->revoked_at, &key->deleted_at,
                             &key->absent_at,     &key->removed_at};
  for (size_t i = 0; i < ARRAY_SIZE(second); i++) *second[i] = sqlite_read_moment(query);
  key->ttl_negative = sqlite_read_number(query, -1, INT64_MAX);
  key->ttl_old = sqlite_read_number(query, -1, INT64_MAX);
  key->intent_open = sqlite_read_bool(query);
  key->intent = (int)sqlite_read_number(query, PLAN_NONE, PLAN_CHECK_FILES);
  key->intent_at = sqlite_read_moment(query);
  key->publisher_id = sqlite_read_number(query, 1, INT64_MAX);
  sqlite_read_into(query, key->zone, sizeof key->zone);
  sqlite_read_into(query, key->owner, sizeof key->owner);
  sqlite_read_into(query, key->primary_server, sizeof key->primary_server);
  key->contested_at = sqlite_read_moment(query);
  key->proof_failures = (unsigned)sqlite_read_number(query, 0, UINT32_MAX);
  key->proof_retry_at = sqlite_read_moment(query);
  key->look_failures = (unsigned)sqlite_read_number(query, 0, UINT32_MAX);
  key->look_retry_at = sqlite_read_moment(query);
  key->compromised_at = sqlite_read_moment(query);
  key->revoke_now = sqlite_read_bool(query);
  key->lingers_until = sqlite_read_moment(query);
  key->files_seen_at = sqlite_read_moment(query);
  key->failures = (unsigned)sqlite_read_number(query, 0, UINT32_MAX);
  key->retry_at = sqlite_read_moment(query);
  if (!code) code = sqlite_read_text(query, &key->failure, error);
  return code ? code : sqlite_query_check(query, "key", key->id, error);
}

static int key_complete(struct sqlite_store *store, const struct lineage *lineage, struct key *key,
                        struct error *error) {
  int code = selector_owner_name(key->selector, lineage->domain, key->owner_name, error);
  if (!code) code = sqlite_publisher_get(store, key->publisher_id, &key->publisher, error);
  if (!code) code = placements_load(store, key, error);
  if (!code) code = sightings_load(store, key, error);
  return code;
}

int sqlite_keys_load(struct sqlite_store *store, struct lineage *lineage, bool living, int64_t after, bool *ret_more,
                     struct error *error) {
  static const char sql_living[] = "SELECT id, selector, algorithm, bits, " KEY_COLUMNS
                                   " FROM key WHERE lineage_id = ? AND id > ? AND state <> 7 ORDER BY id";
  static const char sql_removed[] = "SELECT id, selector, algorithm, bits, " KEY_COLUMNS
                                    " FROM key WHERE lineage_id = ? AND id > ? AND state = 7 ORDER BY id";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  int code = sqlite_query_begin(store, living ? sql_living : sql_removed, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, lineage->id);
  sqlite_bind_number(&query, after);
  while (!(code = sqlite_query_step(&query, &row, error)) && row && lineage->key_count < LINEAGE_KEYS_MAX) {
    struct key *key = lineage_add_key(lineage);
    if (!key) return error_set(error, ERROR_NO_MEMORY, "store %s: out of memory", store->path);
    code = key_read(&query, key, error);
    if (!code) code = key_complete(store, lineage, key, error);
    if (code) return code;
  }
  if (code) return code;
  if (row && living)
    return error_set(error, ERROR_INTERNAL, "store %s: table lineage, row %lld: more than %d living keys", store->path,
                     (long long)lineage->id, LINEAGE_KEYS_MAX);
  *ret_more = row;
  return 0;
}

/* Placements and sightings are arrays in the file too: rows from position count on are no longer in the array. */
static int rows_trim(struct sqlite_store *store, const char *sql, int64_t key_id, size_t count, struct error *error) {
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  const int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, key_id);
  sqlite_bind_number(&query, (int64_t)count);
  return sqlite_query_run(&query, NULL, error);
}

static int signer_intern(struct sqlite_store *store, const struct policy_signer *signer, int64_t *ret_id,
                         struct error *error) {
  CLEANUP_FREE char *text = NULL;
  const int code = policy_signer_format(signer, &text, error);
  return code ? code : sqlite_version_intern(store, &SQLITE_SIGNERS, signer->name, text, ret_id, error);
}

/* A row that is as it should be is left alone, which spares the write-ahead log most of them. */
static int placements_write(struct sqlite_store *store, int64_t key_id, const struct key *key, struct error *error) {
  static const char sql_trim[] = "DELETE FROM placement WHERE key_id = ? AND position >= ?";
  static const char sql_put[] =
      "INSERT INTO placement (key_id, position, " PLACEMENT_COLUMNS
      ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
      " ON CONFLICT (key_id, position) DO UPDATE SET (" PLACEMENT_COLUMNS ") = (excluded.signer_id, excluded.key_path,"
      " excluded.file_made, excluded.switched_at, excluded.proved_at, excluded.drained_at, excluded.destroyed,"
      " excluded.failure, excluded.damage, excluded.damaged_at) WHERE (placement.signer_id, placement.key_path, placement.file_made, placement.switched_at,"
      " placement.proved_at, placement.drained_at, placement.destroyed, placement.failure, placement.damage,"
      " placement.damaged_at) IS NOT (excluded.signer_id,"
      " excluded.key_path, excluded.file_made, excluded.switched_at, excluded.proved_at, excluded.drained_at,"
      " excluded.destroyed, excluded.failure, excluded.damage, excluded.damaged_at)";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = rows_trim(store, sql_trim, key_id, key->placement_count, error);
  if (!code) code = sqlite_query_begin(store, sql_put, &query, error);
  for (size_t i = 0; i < key->placement_count && !code; i++) {
    const struct placement *placement = &key->placements[i];
    int64_t signer_id = placement->signer_id;
    if (signer_id == 0 && placement->signer) code = signer_intern(store, placement->signer, &signer_id, error);
    if (code) break;
    sqlite_bind_number(&query, key_id);
    sqlite_bind_number(&query, (int64_t)i);
    sqlite_bind_number(&query, signer_id);
    sqlite_bind_text(&query, placement->key_path);
    sqlite_bind_number(&query, placement->file_made);
    sqlite_bind_moment(&query, placement->switched_at);
    sqlite_bind_moment(&query, placement->proved_at);
    sqlite_bind_moment(&query, placement->drained_at);
    sqlite_bind_number(&query, placement->destroyed);
    sqlite_bind_text(&query, placement->failure);
    sqlite_bind_number(&query, placement->damage);
    sqlite_bind_moment(&query, placement->damaged_at);
    code = sqlite_query_run(&query, NULL, error);
  }
  return code;
}

/* What servers said of a key is of no use once it is removed, and would be most of the file after some years. */
static int sightings_write(struct sqlite_store *store, int64_t key_id, const struct key *key, struct error *error) {
  static const char sql_trim[] = "DELETE FROM sighting WHERE key_id = ? AND position >= ?";
  static const char sql_put[] =
      "INSERT INTO sighting (key_id, position, " SIGHTING_COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
      " ON CONFLICT (key_id, position) DO UPDATE SET (" SIGHTING_COLUMNS ") = (excluded.host, excluded.address,"
      " excluded.is_right, excluded.no_route, excluded.count, excluded.right_since, excluded.last_wrong_at,"
      " excluded.seen_at, excluded.answer) WHERE (sighting.host, sighting.address, sighting.is_right, "
      "sighting.no_route,"
      " sighting.count, sighting.right_since, sighting.last_wrong_at, sighting.seen_at, sighting.answer) IS NOT"
      " (excluded.host, excluded.address, excluded.is_right, excluded.no_route, excluded.count, excluded.right_since,"
      " excluded.last_wrong_at, excluded.seen_at, excluded.answer)";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  const size_t count = key->state == KEY_REMOVED ? 0 : key->sighting_count;
  int code = rows_trim(store, sql_trim, key_id, count, error);
  if (!code) code = sqlite_query_begin(store, sql_put, &query, error);
  for (size_t i = 0; i < count && !code; i++) {
    const struct sighting *sighting = &key->sightings[i];
    sqlite_bind_number(&query, key_id);
    sqlite_bind_number(&query, (int64_t)i);
    sqlite_bind_text(&query, sighting->host);
    sqlite_bind_text(&query, sighting->address);
    sqlite_bind_number(&query, sighting->right);
    sqlite_bind_number(&query, sighting->no_route);
    sqlite_bind_number(&query, sighting->count);
    sqlite_bind_moment(&query, sighting->right_since);
    sqlite_bind_moment(&query, sighting->last_wrong_at);
    sqlite_bind_moment(&query, sighting->seen_at);
    sqlite_bind_text(&query, sighting->answer);
    code = sqlite_query_run(&query, NULL, error);
  }
  return code;
}

/* In the order of KEY_COLUMNS. */
static void key_bind(struct sqlite_query *query, const struct key *key) {
  sqlite_bind_number(query, key->state);
  sqlite_bind_moment(query, key->state_since);
  sqlite_bind_text(query, key->record);
  sqlite_bind_number(query, key->ttl);
  const int64_t first[] = {key->created_at, key->generated_at, key->published_at, key->right_at};
  for (size_t i = 0; i < ARRAY_SIZE(first); i++) sqlite_bind_moment(query, first[i]);
  sqlite_bind_number(query, key->propagation);
  const int64_t second[] = {key->last_wrong_at, key->confirmed_at, key->ready_at,   key->active_at, key->retired_at,
                            key->revoke_at,     key->revoked_at,   key->deleted_at, key->absent_at, key->removed_at};
  for (size_t i = 0; i < ARRAY_SIZE(second); i++) sqlite_bind_moment(query, second[i]);
  sqlite_bind_number(query, key->ttl_negative);
  sqlite_bind_number(query, key->ttl_old);
  sqlite_bind_number(query, key->intent_open);
  sqlite_bind_number(query, key->intent);
  sqlite_bind_moment(query, key->intent_at);
  sqlite_bind_number(query, key->publisher_id);
  sqlite_bind_text(query, key->zone);
  sqlite_bind_text(query, key->owner);
  sqlite_bind_text(query, key->primary_server);
  sqlite_bind_moment(query, key->contested_at);
  sqlite_bind_number(query, key->proof_failures);
  sqlite_bind_moment(query, key->proof_retry_at);
  sqlite_bind_number(query, key->look_failures);
  sqlite_bind_moment(query, key->look_retry_at);
  sqlite_bind_moment(query, key->compromised_at);
  sqlite_bind_number(query, key->revoke_now);
  sqlite_bind_moment(query, key->lingers_until);
  sqlite_bind_moment(query, key->files_seen_at);
  sqlite_bind_number(query, key->failures);
  sqlite_bind_moment(query, key->retry_at);
  sqlite_bind_text(query, key->failure);
}

static int selector_is_free(struct sqlite_store *store, const char *domain, const char *selector, struct error *error) {
  static const char sql[] = "SELECT 1 FROM key WHERE domain = ? AND selector = ?";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_text(&query, domain);
  sqlite_bind_text(&query, selector);
  code = sqlite_query_step(&query, &row, error);
  if (code || !row) return code;
  error_set(error, ERROR_EXISTS, "selector %s of %s was used before", selector, domain);
  return error_remedy(error, "a selector is never used twice (RFC 6376 3.1): take another");
}

static int key_insert(struct sqlite_store *store, const struct lineage *lineage, const struct key *key, int64_t *ret_id,
                      struct error *error) {
  static const char sql[] =
      "INSERT INTO key (lineage_id, domain, selector, algorithm, bits, " KEY_COLUMNS
      ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,"
      " ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = selector_is_free(store, lineage->domain, key->selector, error);
  if (!code) code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, lineage->id);
  sqlite_bind_text(&query, lineage->domain);
  sqlite_bind_text(&query, key->selector);
  sqlite_bind_number(&query, key->algorithm);
  sqlite_bind_number(&query, key->bits);
  key_bind(&query, key);
  code = sqlite_query_run(&query, NULL, error);
  if (!code) *ret_id = sqlite3_last_insert_rowid(store->database);
  return code;
}

static int key_update(struct sqlite_store *store, const struct lineage *lineage, const struct key *key,
                      struct error *error) {
  static const char sql[] =
      "UPDATE key SET (algorithm, bits, " KEY_COLUMNS ") = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,"
      " ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) WHERE id = ? AND lineage_id = ? AND selector = ?";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int64_t changes = 0;
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, key->algorithm);
  sqlite_bind_number(&query, key->bits);
  key_bind(&query, key);
  sqlite_bind_number(&query, key->id);
  sqlite_bind_number(&query, lineage->id);
  sqlite_bind_text(&query, key->selector);
  code = sqlite_query_run(&query, &changes, error);
  if (code || changes == 1) return code;
  return error_set(error, ERROR_INTERNAL, "store %s: table key, row %lld is not selector %s of this lineage",
                   store->path, (long long)key->id, key->selector);
}

static int key_write(struct sqlite_store *store, const struct lineage *lineage, struct key *key,
                     struct sqlite_new_ids *ids, struct error *error) {
  int64_t id = key->id;
  int code = id ? key_update(store, lineage, key, error) : key_insert(store, lineage, key, &id, error);
  if (!code && !key->id) ids->items[ids->count++] = (struct sqlite_new_id){.place = &key->id, .id = id};
  if (!code) code = placements_write(store, id, key, error);
  if (!code) code = sightings_write(store, id, key, error);
  if (code) error_context(error, "selector %s", key->selector);
  return code;
}

/* A unique index allows one active key at a time, so the row of a predecessor lets go first. New keys get their ids in the order of the array. */
int sqlite_keys_write(struct sqlite_store *store, const struct lineage *lineage, struct sqlite_new_ids *ids,
                      struct error *error) {
  int code = 0;
  for (int pass = 0; pass < 2; pass++)
    for (size_t i = 0; i < lineage->key_count && !code; i++) {
      struct key *key = &lineage->keys[i];
      const bool lets_go = key->id && key->state != KEY_ACTIVE;
      if (lets_go == (pass == 0)) code = key_write(store, lineage, key, ids, error);
    }
  return code;
}
