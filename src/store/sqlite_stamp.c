#include "dkimroll/store_sqlite.h"

#include <stdlib.h>

#include "dkimroll/cleanup.h"

enum { STAMP_FILES_MAX = 4096 }; /* of one policy: itself and its domains-from lists */

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

static int stamp_add_file(struct sqlite_query *query, struct store_policy_stamp *stamp, struct error *error) {
  struct store_file_stamp *files = NULL;
  if (stamp->file_count < STAMP_FILES_MAX) files = reallocarray(stamp->files, stamp->file_count + 1, sizeof *files);
  if (!files) return error_set(error, ERROR_NO_MEMORY, "store %s: no room for the policy's files", query->store->path);
  stamp->files = files;
  struct store_file_stamp *file = &files[stamp->file_count];
  *file = (struct store_file_stamp){0};
  const int code = sqlite_read_text(query, &file->path, error);
  if (code) return code;
  stamp->file_count++;
  file->size = sqlite_read_number(query, INT64_MIN, INT64_MAX);
  file->inode = sqlite_read_number(query, INT64_MIN, INT64_MAX);
  file->device = sqlite_read_number(query, INT64_MIN, INT64_MAX);
  file->modified_ns = sqlite_read_number(query, INT64_MIN, INT64_MAX);
  file->changed_ns = sqlite_read_number(query, INT64_MIN, INT64_MAX);
  return sqlite_query_check(query, "policy_file", (int64_t)stamp->file_count - 1, error);
}

int sqlite_stamp_read(struct sqlite_store *store, struct store_policy_stamp *ret_stamp, struct error *error) {
  static const char sql[] =
      "SELECT path, size, inode, device, modified_ns, changed_ns FROM policy_file ORDER BY position";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  *ret_stamp = (struct store_policy_stamp){0};
  int code = digest_read(store, ret_stamp, error);
  if (!code) code = sqlite_metrics_read(store, ret_stamp, error);
  if (!code) code = sqlite_query_begin(store, sql, &query, error);
  while (!code && !(code = sqlite_query_step(&query, &row, error)) && row)
    code = stamp_add_file(&query, ret_stamp, error);
  return code;
}

static int digest_write(struct sqlite_store *store, const char *digest, struct error *error) {
  static const char sql[] = "INSERT INTO meta (key, value) VALUES ('policy-digest', ?1)"
                            " ON CONFLICT (key) DO UPDATE SET value = ?1";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  const int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_text(&query, digest);
  return sqlite_query_run(&query, NULL, error);
}

int sqlite_stamp_write(struct sqlite_store *store, const struct store_policy_stamp *stamp, struct error *error) {
  static const char sql_clear[] = "DELETE FROM policy_file";
  static const char sql_insert[] = "INSERT INTO policy_file (position, path, size, inode, device, modified_ns, "
                                   "changed_ns) VALUES (?, ?, ?, ?, ?, ?, ?)";
  CLEANUP(sqlite_query_end) struct sqlite_query clear = {0};
  CLEANUP(sqlite_query_end) struct sqlite_query insert = {0};
  int code = digest_write(store, stamp->digest, error);
  if (!code) code = sqlite_query_begin(store, sql_clear, &clear, error);
  if (!code) code = sqlite_query_run(&clear, NULL, error);
  if (!code) code = sqlite_query_begin(store, sql_insert, &insert, error);
  for (size_t i = 0; i < stamp->file_count && !code; i++) {
    const struct store_file_stamp *file = &stamp->files[i];
    sqlite_bind_number(&insert, (int64_t)i);
    sqlite_bind_text(&insert, file->path);
    sqlite_bind_number(&insert, file->size);
    sqlite_bind_number(&insert, file->inode);
    sqlite_bind_number(&insert, file->device);
    sqlite_bind_number(&insert, file->modified_ns);
    sqlite_bind_number(&insert, file->changed_ns);
    code = sqlite_query_run(&insert, NULL, error);
  }
  return code;
}
