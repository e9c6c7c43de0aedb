#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/store_sqlite.h"

static int compare_ids(const void *a, const void *b) {
  const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x < y ? -1 : x > y;
}

/* What one claim gathers. */
struct claim {
  struct sqlite_store *store;
  int64_t *ids; /* claimed */
  size_t count, limit;
  int64_t *open; /* sorted */
  size_t open_count;
};

static int gather(struct claim *claim, const char *sql, const char *domain, int64_t now, struct error *error) {
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  int code = sqlite_query_begin(claim->store, sql, &query, error);
  if (code) return code;
  if (domain) sqlite_bind_text(&query, domain);
  sqlite_bind_number(&query, now);
  while (claim->count < claim->limit && !(code = sqlite_query_step(&query, &row, error)) && row) {
    const int64_t id = sqlite_read_number(&query, 1, INT64_MAX);
    code = sqlite_query_check(&query, "lineage", id, error);
    if (code) return code;
    if (!bsearch(&id, claim->open, claim->open_count, sizeof id, compare_ids)) claim->ids[claim->count++] = id;
  }
  return code;
}

static int load_claimed(const struct claim *claim, struct lineage **ret_lineages, struct error *error) {
  struct lineage *lineages = calloc(claim->count + 1, sizeof *lineages);
  int code = lineages ? 0 : error_set(error, ERROR_NO_MEMORY, "store %s: out of memory", claim->store->path);
  size_t loaded = 0;
  for (; loaded < claim->count && !code; loaded++) code = sqlite_lineage_load(claim->store, claim->ids[loaded], &lineages[loaded], error);
  if (!code) {
    *ret_lineages = lineages;
    return 0;
  }
  for (size_t i = 0; i < loaded; i++) lineage_release(&lineages[i]);
  free(lineages);
  return code;
}

int sqlite_claim(struct store *base, int64_t now, size_t limit, const char *const *domains, size_t domain_count, const int64_t *open_ids,
                 size_t open_count, struct lineage **ret_lineages, size_t *ret_count, struct error *error) {
  static const char sql_due[] = "SELECT id FROM lineage WHERE next_moment <= ? AND forgotten = 0 ORDER BY next_moment";
  static const char sql_domain[] = "SELECT id FROM lineage WHERE domain = ? AND next_moment <= ? AND forgotten = 0 ORDER BY slot";
  CLEANUP(sqlite_transaction_end) struct sqlite_transaction transaction = {0};
  struct claim claim = {.store = sqlite_store_of(base), .limit = limit < STORE_CLAIM_MAX ? limit : STORE_CLAIM_MAX, .open_count = open_count};
  CLEANUP_FREE int64_t *ids = calloc(claim.limit + 1, sizeof *ids);
  CLEANUP_FREE int64_t *open = calloc(open_count + 1, sizeof *open);
  if (!ids || !open) return error_set(error, ERROR_NO_MEMORY, "store %s: out of memory", claim.store->path);
  if (open_count) memcpy(open, open_ids, open_count * sizeof *open);
  qsort(open, open_count, sizeof *open, compare_ids);
  claim.ids = ids;
  claim.open = open;
  int code = sqlite_transaction_begin(claim.store, false, &transaction, error);
  if (!code && domain_count == 0) code = gather(&claim, sql_due, NULL, now, error);
  for (size_t i = 0; i < domain_count && !code; i++) code = gather(&claim, sql_domain, domains[i], now, error);
  struct lineage *lineages = NULL;
  if (!code) code = load_claimed(&claim, &lineages, error);
  if (!code) code = sqlite_transaction_commit(&transaction, error);
  if (code) return code;
  *ret_lineages = lineages;
  *ret_count = claim.count;
  return 0;
}
