#include "dkimroll/store_sqlite.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"

struct candidate {
  int64_t moment, id;
};

/* What one claim gathers before it loads. */
struct claim {
  struct sqlite_store *store;
  int64_t now;
  size_t limit;
  int64_t *open_ids; /* sorted copy */
  size_t open_count;
  struct candidate *candidates;
  size_t count, capacity;
};

static void claim_release(struct claim *claim) {
  free(claim->open_ids);
  free(claim->candidates);
}

static int compare_ids(const void *a, const void *b) {
  const int64_t x = *(const int64_t *)a;
  const int64_t y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static int compare_candidates(const void *a, const void *b) {
  const struct candidate *x = a;
  const struct candidate *y = b;
  return x->moment != y->moment ? (x->moment > y->moment) - (x->moment < y->moment) : (x->id > y->id) - (x->id < y->id);
}

static int claim_begin(struct claim *claim, const int64_t *open_ids, struct error *error) {
  claim->open_ids = calloc(claim->open_count + 1, sizeof *claim->open_ids);
  if (!claim->open_ids) return error_set(error, ERROR_NO_MEMORY, "store %s: out of memory", claim->store->path);
  if (claim->open_count) memcpy(claim->open_ids, open_ids, claim->open_count * sizeof *open_ids);
  qsort(claim->open_ids, claim->open_count, sizeof *claim->open_ids, compare_ids);
  return 0;
}

static int claim_add(struct claim *claim, const struct candidate *candidate, struct error *error) {
  if (bsearch(&candidate->id, claim->open_ids, claim->open_count, sizeof candidate->id, compare_ids)) return 0;
  if (claim->count == claim->capacity) {
    const size_t capacity = claim->capacity ? claim->capacity * 2 : 64;
    struct candidate *candidates = reallocarray(claim->candidates, capacity, sizeof *candidates);
    if (!candidates) return error_set(error, ERROR_NO_MEMORY, "store %s: out of memory", claim->store->path);
    claim->candidates = candidates;
    claim->capacity = capacity;
  }
  claim->candidates[claim->count++] = *candidate;
  return 0;
}

/* domain NULL: the due ones of all domains, in the order of the index, until the limit is reached. */
static int claim_gather(struct claim *claim, const char *domain, struct error *error) {
  static const char sql_all[] =
      "SELECT next_moment, id FROM lineage WHERE next_moment <= ? AND forgotten = 0 ORDER BY next_moment, id";
  static const char sql_domain[] =
      "SELECT next_moment, id FROM lineage WHERE next_moment <= ? AND forgotten = 0 AND domain = ?";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  int code = sqlite_query_begin(claim->store, domain ? sql_domain : sql_all, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, claim->now);
  if (domain) sqlite_bind_text(&query, domain);
  while ((domain || claim->count < claim->limit) && !(code = sqlite_query_step(&query, &row, error)) && row) {
    struct candidate candidate;
    candidate.moment = sqlite_read_moment(&query);
    candidate.id = sqlite_read_number(&query, 1, INT64_MAX);
    code = sqlite_query_check(&query, "lineage", candidate.id, error);
    if (!code) code = claim_add(claim, &candidate, error);
    if (code) break;
  }
  return code;
}

/* By urgency, each once: a domain may have been named twice. */
static void claim_choose(struct claim *claim) {
  size_t kept = 0;
  if (claim->count > 0) qsort(claim->candidates, claim->count, sizeof *claim->candidates, compare_candidates);
  for (size_t i = 0; i < claim->count && kept < claim->limit; i++)
    if (kept == 0 || claim->candidates[kept - 1].id != claim->candidates[i].id)
      claim->candidates[kept++] = claim->candidates[i];
  claim->count = kept;
}

static int claim_load(const struct claim *claim, struct lineage **ret_lineages, struct error *error) {
  struct lineage *lineages = calloc(claim->count + 1, sizeof *lineages);
  if (!lineages) return error_set(error, ERROR_NO_MEMORY, "store %s: out of memory", claim->store->path);
  int code = 0;
  for (size_t i = 0; i < claim->count && !code; i++)
    code = sqlite_lineage_load(claim->store, claim->candidates[i].id, &lineages[i], error);
  if (!code) {
    *ret_lineages = lineages;
    return 0;
  }
  for (size_t i = 0; i < claim->count; i++) lineage_release(&lineages[i]);
  free(lineages);
  return code;
}

int sqlite_claim(struct store *base, int64_t now, size_t limit, const char *const *domains, size_t domain_count,
                 const int64_t *open_ids, size_t open_count, struct lineage **ret_lineages, size_t *ret_count,
                 struct error *error) {
  CLEANUP(claim_release)
  struct claim claim = {.store = sqlite_store_of(base),
                        .now = now,
                        .limit = limit < STORE_CLAIM_MAX ? limit : STORE_CLAIM_MAX,
                        .open_count = open_count};
  /* One snapshot for the choice and for what hangs on the chosen ones. */
  CLEANUP(sqlite_transaction_end) struct sqlite_transaction transaction = {0};
  int code = claim_begin(&claim, open_ids, error);
  if (!code) code = sqlite_transaction_begin(claim.store, false, &transaction, error);
  if (!code && !domains) code = claim_gather(&claim, NULL, error);
  for (size_t i = 0; domains && i < domain_count && !code; i++) code = claim_gather(&claim, domains[i], error);
  if (code) return code;
  claim_choose(&claim);
  code = claim_load(&claim, ret_lineages, error);
  if (!code) *ret_count = claim.count;
  return code;
}
