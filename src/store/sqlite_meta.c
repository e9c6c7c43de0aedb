#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/store_sqlite.h"
#include "dkimroll/text.h"

static int number_read(struct sqlite_store *store, const char *sql, int64_t *ret_number, struct error *error) {
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  int code = sqlite_query_begin(store, sql, &query, error);
  if (!code) code = sqlite_query_step(&query, &row, error);
  if (!code) *ret_number = row ? sqlite_read_moment(&query) : TIME_UNSET;
  return code ? code : sqlite_query_check(&query, "lineage", 0, error);
}

static int clock_read_row(struct sqlite_store *store, struct store_clock *ret_clock, struct error *error) {
  static const char sql[] = "SELECT boot_id, wall, boottime, credited, attested FROM clock";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  struct store_clock clock = {.wall = TIME_UNSET};
  bool row = false;
  int code = sqlite_query_begin(store, sql, &query, error);
  if (!code) code = sqlite_query_step(&query, &row, error);
  if (code) return code;
  if (row) {
    sqlite_read_into(&query, clock.boot_id, sizeof clock.boot_id);
    clock.wall = sqlite_read_number(&query, INT64_MIN + 1, INT64_MAX);
    clock.boottime = sqlite_read_number(&query, 0, INT64_MAX);
    clock.credited = sqlite_read_number(&query, INT64_MIN + 1, INT64_MAX);
    clock.attested = sqlite_read_bool(&query);
    code = sqlite_query_check(&query, "clock", 1, error);
  }
  if (!code) *ret_clock = clock;
  return code;
}

static int digest_read(struct sqlite_store *store, struct store_policy_stamp *stamp, struct error *error) {
  static const char sql[] = "SELECT value FROM meta WHERE key = 'policy-digest'";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  int code = sqlite_query_begin(store, sql, &query, error);
  if (!code) code = sqlite_query_step(&query, &row, error);
  if (code || !row) return code;
  sqlite_read_into(&query, stamp->digest, sizeof stamp->digest);
  return sqlite_query_check(&query, "meta", 0, error);
}

static int stamp_read(struct sqlite_store *store, struct store_policy_stamp *stamp, struct error *error) {
  static const char sql[] = "SELECT path, size, inode, device, modified_ns, changed_ns FROM policy_file ORDER BY position";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  int code = digest_read(store, stamp, error);
  if (!code) code = sqlite_query_begin(store, sql, &query, error);
  while (!code && !(code = sqlite_query_step(&query, &row, error)) && row) {
    struct store_file_stamp *files = reallocarray(stamp->files, stamp->file_count + 1, sizeof *files);
    if (!files) return error_set(error, ERROR_NO_MEMORY, "store %s: out of memory", store->path);
    stamp->files = files;
    struct store_file_stamp *file = &files[stamp->file_count];
    *file = (struct store_file_stamp){0};
    code = sqlite_read_text(&query, &file->path, error);
    int64_t *const numbers[] = {&file->size, &file->inode, &file->device, &file->modified_ns, &file->changed_ns};
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) *numbers[i] = sqlite_read_number(&query, INT64_MIN, INT64_MAX);
    stamp->file_count++;
    if (!code) code = sqlite_query_check(&query, "policy_file", 0, error);
  }
  return code;
}

int sqlite_next_moment(struct store *base, int64_t *ret_next, struct store_policy_stamp *ret_stamp, struct store_clock *ret_clock,
                       struct error *error) {
  struct sqlite_store *store = sqlite_store_of(base);
  struct store_policy_stamp stamp = {0};
  int64_t next = TIME_UNSET, asked = TIME_UNSET;
  int code = number_read(store, "SELECT min(next_moment) FROM lineage WHERE forgotten = 0", &next, error);
  if (!code) code = number_read(store, "SELECT min(asked_at) FROM request", &asked, error);
  if (!code && ret_stamp) code = stamp_read(store, &stamp, error);
  if (!code && ret_clock) code = clock_read_row(store, ret_clock, error);
  if (code) {
    store_policy_stamp_release(&stamp);
    return code;
  }
  if (ret_stamp) *ret_stamp = stamp;
  *ret_next = next == TIME_UNSET ? TIME_NEVER : next;
  if (asked != TIME_UNSET) *ret_next = time_min(*ret_next, asked);
  return 0;
}

static int digest_write(struct sqlite_store *store, const char *digest, struct error *error) {
  static const char sql[] = "INSERT INTO meta (key, value) VALUES ('policy-digest', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_text(&query, digest);
  return sqlite_query_run(&query, NULL, error);
}

int sqlite_stamp_write(struct sqlite_store *store, const struct store_policy_stamp *stamp, struct error *error) {
  static const char sql[] = "INSERT INTO policy_file (position, path, size, inode, device, modified_ns, changed_ns) VALUES (?, ?, ?, ?, ?, ?, ?)";
  CLEANUP(sqlite_query_end) struct sqlite_query clear = {0};
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = sqlite_query_begin(store, "DELETE FROM policy_file", &clear, error);
  if (!code) code = sqlite_query_run(&clear, NULL, error);
  if (!code) code = digest_write(store, stamp->digest, error);
  if (!code) code = sqlite_query_begin(store, sql, &query, error);
  for (size_t i = 0; i < stamp->file_count && !code; i++) {
    const struct store_file_stamp *file = &stamp->files[i];
    sqlite_bind_number(&query, (int64_t)i);
    sqlite_bind_text(&query, file->path);
    const int64_t numbers[] = {file->size, file->inode, file->device, file->modified_ns, file->changed_ns};
    for (size_t j = 0; j < ARRAY_SIZE(numbers); j++) sqlite_bind_number(&query, numbers[j]);
    code = sqlite_query_run(&query, NULL, error);
  }
  return code;
}

static int domain_is_known(struct sqlite_store *store, const char *domain, bool *ret_known, struct error *error) {
  static const char sql[] = "SELECT 1 FROM lineage WHERE domain = ? AND forgotten = 0";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_text(&query, domain);
  return sqlite_query_step(&query, ret_known, error);
}

int sqlite_request(struct store *base, struct store_request *request, struct error *error) {
  static const char sql[] = "INSERT INTO request (kind, domain, reason, until, asked_at, asked_by) VALUES (?, ?, ?, ?, ?, ?)";
  struct sqlite_store *store = sqlite_store_of(base);
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool known = false;
  int code = domain_is_known(store, request->domain, &known, error);
  if (code) return code;
  if (!known) {
    error_set(error, ERROR_NOT_FOUND, "%s is not managed by dkimroll", request->domain);
    return error_remedy(error, "add it to the policy and run `dkimroll run`; `dkimroll status` lists the domains");
  }
  code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, request->kind);
  sqlite_bind_text(&query, request->domain);
  sqlite_bind_text(&query, request->reason);
  sqlite_bind_moment(&query, request->until);
  sqlite_bind_number(&query, request->asked_at);
  sqlite_bind_text(&query, request->asked_by);
  code = sqlite_query_run(&query, NULL, error);
  if (!code) request->id = sqlite3_last_insert_rowid(store->database);
  return code;
}
