#include "dkimroll/store_sqlite.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"

static int rules_parse(const char *text, void **ret_item, struct error *error) {
  struct policy_rules *rules;
  const int code = policy_rules_parse(text, &rules, error);
  if (!code) *ret_item = rules;
  return code;
}
static void rules_release(void *item) {
  policy_rules_free(item);
}

static int publisher_parse(const char *text, void **ret_item, struct error *error) {
  struct policy_publisher *publisher;
  const int code = policy_publisher_parse(text, &publisher, error);
  if (!code) *ret_item = publisher;
  return code;
}
static void publisher_release(void *item) {
  policy_publisher_free(item);
}

static int signer_parse(const char *text, void **ret_item, struct error *error) {
  struct policy_signer *signer;
  const int code = policy_signer_parse(text, &signer, error);
  if (!code) *ret_item = signer;
  return code;
}
static void signer_release(void *item) {
  policy_signer_free(item);
}

#define VERSION_KIND(name, parse_function, release_function)                                                           \
  {                                                                                                                    \
    .table = name, .sql_find = "SELECT id FROM " name " WHERE content = ?",                                            \
    .sql_insert = "INSERT INTO " name " (name, content) VALUES (?, ?)",                                                \
    .sql_load = "SELECT content FROM " name " WHERE id = ?", .parse = parse_function, .release = release_function      \
  }
const struct sqlite_version_kind SQLITE_RULES = VERSION_KIND("rules", rules_parse, rules_release);
const struct sqlite_version_kind SQLITE_PUBLISHERS = VERSION_KIND("publisher", publisher_parse, publisher_release);
const struct sqlite_version_kind SQLITE_SIGNERS = VERSION_KIND("signer", signer_parse, signer_release);

int sqlite_version_intern(struct sqlite_store *store, const struct sqlite_version_kind *kind, const char *name,
                          const char *content, int64_t *ret_id, struct error *error) {
  CLEANUP(sqlite_query_end) struct sqlite_query find = {0};
  CLEANUP(sqlite_query_end) struct sqlite_query insert = {0};
  bool row = false;
  int code = sqlite_query_begin(store, kind->sql_find, &find, error);
  if (code) return code;
  sqlite_bind_text(&find, content);
  code = sqlite_query_step(&find, &row, error);
  if (code) return code;
  if (row) {
    *ret_id = sqlite_read_number(&find, 1, INT64_MAX);
    return sqlite_query_check(&find, kind->table, 0, error);
  }
  code = sqlite_query_begin(store, kind->sql_insert, &insert, error);
  if (code) return code;
  sqlite_bind_text(&insert, name);
  sqlite_bind_text(&insert, content);
  code = sqlite_query_run(&insert, NULL, error);
  if (!code) *ret_id = sqlite3_last_insert_rowid(store->database);
  return code;
}

/* Where id is or belongs among the loaded ones. */
static size_t version_position(const struct sqlite_versions *versions, int64_t id) {
  size_t low = 0;
  size_t high = versions->count;
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (versions->items[middle].id < id)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static int version_load(struct sqlite_store *store, const struct sqlite_version_kind *kind, int64_t id, void **ret_item,
                        struct error *error) {
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  int code = sqlite_query_begin(store, kind->sql_load, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, id);
  code = sqlite_query_step(&query, &row, error);
  if (code) return code;
  if (!row) {
    error_set(error, ERROR_INTERNAL, "store %s: table %s has no row %lld, which another row names", store->path,
              kind->table, (long long)id);
    return error_remedy(error, SQLITE_REMEDY_EDITED);
  }
  struct error reason = {0};
  const char *content = sqlite_read_borrowed(&query);
  code = sqlite_query_check(&query, kind->table, id, error);
  if (code) return code;
  if (content && kind->parse(content, ret_item, &reason) == 0) return 0;
  error_set(error, reason.code == ERROR_NO_MEMORY ? ERROR_NO_MEMORY : ERROR_INTERNAL,
            "store %s: table %s, row %lld: %s", store->path, kind->table, (long long)id, reason.message);
  return error_remedy(error, SQLITE_REMEDY_EDITED);
}

static int version_get(struct sqlite_store *store, struct sqlite_versions *versions,
                       const struct sqlite_version_kind *kind, int64_t id, void **ret_item, struct error *error) {
  const size_t position = version_position(versions, id);
  if (position < versions->count && versions->items[position].id == id) {
    *ret_item = versions->items[position].item;
    return 0;
  }
  if (versions->count == versions->capacity) {
    const size_t capacity = versions->capacity ? versions->capacity * 2 : 8;
    struct sqlite_version *items = reallocarray(versions->items, capacity, sizeof *items);
    if (!items) return error_set(error, ERROR_NO_MEMORY, "store %s: out of memory", store->path);
    versions->items = items;
    versions->capacity = capacity;
  }
  void *item = NULL;
  const int code = version_load(store, kind, id, &item, error);
  if (code) return code;
  memmove(&versions->items[position + 1], &versions->items[position],
          (versions->count - position) * sizeof versions->items[0]);
  versions->items[position] = (struct sqlite_version){.id = id, .item = item};
  versions->count++;
  *ret_item = item;
  return 0;
}

int sqlite_rules_get(struct sqlite_store *store, int64_t id, const struct policy_rules **ret_rules,
                     struct error *error) {
  void *item = NULL;
  const int code = version_get(store, &store->rules, &SQLITE_RULES, id, &item, error);
  if (!code) *ret_rules = item;
  return code;
}

int sqlite_publisher_get(struct sqlite_store *store, int64_t id, const struct policy_publisher **ret_publisher,
                         struct error *error) {
  void *item = NULL;
  const int code = version_get(store, &store->publishers, &SQLITE_PUBLISHERS, id, &item, error);
  if (!code) *ret_publisher = item;
  return code;
}

int sqlite_signer_get(struct sqlite_store *store, int64_t id, const struct policy_signer **ret_signer,
                      struct error *error) {
  void *item = NULL;
  const int code = version_get(store, &store->signers, &SQLITE_SIGNERS, id, &item, error);
  if (!code) *ret_signer = item;
  return code;
}

void sqlite_versions_release(struct sqlite_versions *versions, const struct sqlite_version_kind *kind) {
  for (size_t i = 0; i < versions->count; i++) kind->release(versions->items[i].item);
  free(versions->items);
  *versions = (struct sqlite_versions){0};
}
