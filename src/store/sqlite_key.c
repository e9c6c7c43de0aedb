#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/store_sqlite.h"
#include "dkimroll/text.h"

#define KEY_COLUMNS                                                                                                    \
  "state, state_since, record, ttl, created_at, generated_at, published_at, right_at, propagation, last_wrong_at, "    \
  "confirmed_at, ready_at, active_at, retired_at, revoke_at, revoked_at, deleted_at, absent_at, removed_at, "          \
  "ttl_negative, ttl_old, intent_open, intent, intent_at, publisher_id, zone, owner, primary_server"

static int placements_load(struct sqlite_store *store, struct key *key, struct error *error) {
  static const char sql[] = "SELECT signer_id, key_path, file_made, switched_at, proved_at, drained_at, destroyed, failure"
                            " FROM placement WHERE key_id = ? ORDER BY position";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, key->id);
  while (!(code = sqlite_query_step(&query, &row, error)) && row) {
    if (key->placement_count == KEY_PLACEMENTS_MAX)
      return error_set(error, ERROR_INTERNAL, "store %s: key %lld has more than %d placements", store->path, (long long)key->id, KEY_PLACEMENTS_MAX);
    struct placement *placement = &key->placements[key->placement_count++];
    *placement = (struct placement){.signer_id = sqlite_read_number(&query, 1, INT64_MAX)};
    code = sqlite_read_text(&query, &placement->key_path, error);
    placement->file_made = sqlite_read_bool(&query);
    placement->switched_at = sqlite_read_moment(&query);
    placement->proved_at = sqlite_read_moment(&query);
    placement->drained_at = sqlite_read_moment(&query);
    placement->destroyed = sqlite_read_bool(&query);
    if (!code) code = sqlite_read_text(&query, &placement->failure, error);
    if (!code) code = sqlite_query_check(&query, "placement", key->id, error);
    if (!code) code = sqlite_signer_get(store, placement->signer_id, &placement->signer, error);
    if (code) return code;
  }
  return code;
}

static int sightings_load(struct sqlite_store *store, struct key *key, struct error *error) {
  static const char sql[] = "SELECT host, address, is_right, no_route, count, right_since, last_wrong_at, seen_at, answer"
                            " FROM sighting WHERE key_id = ? ORDER BY position";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, key->id);
  while (!(code = sqlite_query_step(&query, &row, error)) && row) {
    struct sighting *sightings =
        key->sighting_count < KEY_SIGHTINGS_MAX ? reallocarray(key->sightings, key->sighting_count + 1, sizeof *sightings) : NULL;
    if (!sightings) return error_set(error, ERROR_NO_MEMORY, "store %s: no room for the sightings of key %lld", store->path, (long long)key->id);
    key->sightings = sightings;
    struct sighting *seen = &sightings[key->sighting_count++];
    memset(seen, 0, sizeof *seen);
    sqlite_read_into(&query, seen->host, sizeof seen->host);
    sqlite_read_into(&query, seen->address, sizeof seen->address);
    seen->right = sqlite_read_bool(&query);
    seen->no_route = sqlite_read_bool(&query);
    seen->count = (unsigned)sqlite_read_number(&query, 0, UINT32_MAX);
    seen->right_since = sqlite_read_moment(&query);
    seen->last_wrong_at = sqlite_read_moment(&query);
    seen->seen_at = sqlite_read_moment(&query);
    sqlite_read_into(&query, seen->answer, sizeof seen->answer);
    code = sqlite_query_check(&query, "sighting", key->id, error);
    if (code) return code;
  }
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
  int64_t *const second[] = {&key->last_wrong_at, &key->confirmed_at, &key->ready_at,   &key->active_at,  &key->retired_at, &key->revoke_at,
                             &key->revoked_at,    &key->deleted_at,   &key->absent_at, &key->removed_at};
  for (size_t i = 0; i < ARRAY_SIZE(second); i++) *second[i] = sqlite_read_moment(query);
  key->ttl_negative = sqlite_read_number(query, -1, INT64_MAX);
  key->ttl_old = sqlite_read_number(query, -1, INT64_MAX);
  key->intent_open = sqlite_read_bool(query);
  key->intent = (int)sqlite_read_number(query, PLAN_NONE, PLAN_ATTEST);
  key->intent_at = sqlite_read_moment(query);
  key->publisher_id = sqlite_read_number(query, 1, INT64_MAX);
  sqlite_read_into(query, key->zone, sizeof key->zone);
  sqlite_read_into(query, key->owner, sizeof key->owner);
  sqlite_read_into(query, key->primary_server, sizeof key->primary_server);
  return code ? code : sqlite_query_check(query, "key", key->id, error);
}

static int key_complete(struct sqlite_store *store, const struct lineage *lineage, struct key *key, struct error *error) {
  int code = selector_owner_name(key->selector, lineage->domain, key->owner_name, error);
  if (!code) code = sqlite_publisher_get(store, key->publisher_id, &key->publisher, error);
  if (!code) code = placements_load(store, key, error);
  if (!code) code = sightings_load(store, key, error);
  return code;
}

int sqlite_keys_load(struct sqlite_store *store, struct lineage *lineage, bool living, int64_t after, bool *ret_more, struct error *error) {
  static const char sql_living[] = "SELECT id, selector, algorithm, bits, " KEY_COLUMNS
                                   " FROM key WHERE lineage_id = ? AND id > ? AND state <> 7 ORDER BY id";
  static const char sql_removed[] = "SELECT id, selector, algorithm, bits, " KEY_COLUMNS
                                    " FROM key WHERE lineage_id = ? AND id > ? AND state = 7 ORDER BY id";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  *ret_more = false;
  int code = sqlite_query_begin(store, living ? sql_living : sql_removed, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, lineage->id);
  sqlite_bind_number(&query, after);
  while (!(code = sqlite_query_step(&query, &row, error)) && row) {
    if (lineage->key_count == LINEAGE_KEYS_MAX) {
      *ret_more = true;
      return 0;
    }
    struct key *key = lineage_add_key(lineage);
    if (!key) return error_set(error, ERROR_NO_MEMORY, "store %s: out of memory", store->path);
    code = key_read(&query, key, error);
    if (!code) code = key_complete(store, lineage, key, error);
    if (code) return code;
  }
  return code;
}

static int placements_write(struct sqlite_store *store, int64_t key_id, const struct key *key, struct error *error) {
  static const char sql[] = "INSERT INTO placement (key_id, position, signer_id, key_path, file_made, switched_at, proved_at, drained_at,"
                            " destroyed, failure) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (key_id, position) DO UPDATE SET"
                            " signer_id = ?3, key_path = ?4, file_made = ?5, switched_at = ?6, proved_at = ?7, drained_at = ?8,"
                            " destroyed = ?9, failure = ?10";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = sqlite_query_begin(store, sql, &query, error);
  for (size_t i = 0; i < key->placement_count && !code; i++) {
    const struct placement *placement = &key->placements[i];
    sqlite_bind_number(&query, key_id);
    sqlite_bind_number(&query, (int64_t)i);
    sqlite_bind_number(&query, placement->signer_id);
    sqlite_bind_text(&query, placement->key_path);
    sqlite_bind_number(&query, placement->file_made);
    sqlite_bind_moment(&query, placement->switched_at);
    sqlite_bind_moment(&query, placement->proved_at);
    sqlite_bind_moment(&query, placement->drained_at);
    sqlite_bind_number(&query, placement->destroyed);
    sqlite_bind_text(&query, placement->failure);
    code = sqlite_query_run(&query, NULL, error);
  }
  return code;
}

static int sightings_trim(struct sqlite_store *store, int64_t key_id, size_t count, struct error *error) {
  static const char sql[] = "DELETE FROM sighting WHERE key_id = ? AND position >= ?";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, key_id);
  sqlite_bind_number(&query, (int64_t)count);
  return sqlite_query_run(&query, NULL, error);
}

static int sightings_write(struct sqlite_store *store, int64_t key_id, const struct key *key, struct error *error) {
  static const char sql[] = "INSERT INTO sighting (key_id, position, host, address, is_right, no_route, count, right_since, last_wrong_at, seen_at,"
                            " answer) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (key_id, position) DO UPDATE SET"
                            " host = ?3, address = ?4, is_right = ?5, no_route = ?6, count = ?7, right_since = ?8, last_wrong_at = ?9,"
                            " seen_at = ?10, answer = ?11";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = sightings_trim(store, key_id, key->sighting_count, error);
  if (!code) code = sqlite_query_begin(store, sql, &query, error);
  for (size_t i = 0; i < key->sighting_count && !code; i++) {
    const struct sighting *seen = &key->sightings[i];
    sqlite_bind_number(&query, key_id);
    sqlite_bind_number(&query, (int64_t)i);
    sqlite_bind_text(&query, seen->host);
    sqlite_bind_text(&query, seen->address);
    sqlite_bind_number(&query, seen->right);
    sqlite_bind_number(&query, seen->no_route);
    sqlite_bind_number(&query, seen->count);
    sqlite_bind_moment(&query, seen->right_since);
    sqlite_bind_moment(&query, seen->last_wrong_at);
    sqlite_bind_moment(&query, seen->seen_at);
    sqlite_bind_text(&query, seen->answer);
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
  const int64_t second[] = {key->last_wrong_at, key->confirmed_at, key->ready_at,  key->active_at, key->retired_at,
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
  return error_set(error, ERROR_EXISTS, "selector %s of %s was used before", selector, domain);
}

static int key_insert(struct sqlite_store *store, const struct lineage *lineage, const struct key *key, int64_t *ret_id, struct error *error) {
  static const char sql[] = "INSERT INTO key (lineage_id, domain, selector, algorithm, bits, " KEY_COLUMNS
                            ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
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

static int key_update(struct sqlite_store *store, const struct key *key, struct error *error) {
  static const char sql[] = "UPDATE key SET (" KEY_COLUMNS ") = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                            " WHERE id = ?";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int64_t changes = 0;
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  key_bind(&query, key);
  sqlite_bind_number(&query, key->id);
  code = sqlite_query_run(&query, &changes, error);
  if (!code && changes != 1) code = error_set(error, ERROR_INTERNAL, "store %s: key %lld is not there", store->path, (long long)key->id);
  return code;
}

static int key_write(struct sqlite_store *store, const struct lineage *lineage, struct key *key, struct sqlite_new_ids *ids, struct error *error) {
  int64_t id = key->id;
  int code = id ? key_update(store, key, error) : key_insert(store, lineage, key, &id, error);
  if (!code && !key->id) ids->items[ids->count++] = (struct sqlite_new_id){&key->id, id};
  if (!code) code = placements_write(store, id, key, error);
  if (!code) code = sightings_write(store, id, key, error);
  return code;
}

/* The active key last: a unique index allows one at a time, and its predecessor's row has to let go first. */
int sqlite_keys_write(struct sqlite_store *store, const struct lineage *lineage, struct sqlite_new_ids *ids, struct error *error) {
  int code = 0;
  for (size_t i = 0; i < lineage->key_count && !code; i++)
    if (lineage->keys[i].state != KEY_ACTIVE) code = key_write(store, lineage, &lineage->keys[i], ids, error);
  for (size_t i = 0; i < lineage->key_count && !code; i++)
    if (lineage->keys[i].state == KEY_ACTIVE) code = key_write(store, lineage, &lineage->keys[i], ids, error);
  return code;
}
