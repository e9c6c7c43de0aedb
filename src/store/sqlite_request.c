#include "dkimroll/store_sqlite.h"

#include "dkimroll/cleanup.h"

static int domain_is_known(struct sqlite_store *store, const char *domain, bool *ret_known, struct error *error) {
  static const char sql[] = "SELECT 1 FROM lineage WHERE domain = ? AND forgotten = 0";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  const int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_text(&query, domain);
  return sqlite_query_step(&query, ret_known, error);
}

static int request_insert(struct sqlite_store *store, const struct store_request *request, int64_t *ret_id,
                          struct error *error) {
  static const char sql[] =
      "INSERT INTO request (kind, domain, reason, until, asked_at, asked_by, hold_scope, selector, options) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  int code = sqlite_query_begin(store, sql, &query, error);
  if (code) return code;
  sqlite_bind_number(&query, request->kind);
  sqlite_bind_text(&query, request->domain);
  sqlite_bind_text(&query, request->reason);
  sqlite_bind_moment(&query, request->until);
  sqlite_bind_number(&query, request->asked_at);
  sqlite_bind_text(&query, request->asked_by);
  sqlite_bind_number(&query, request->hold_scope);
  sqlite_bind_text(&query, request->selector);
  sqlite_bind_number(&query, request->options);
  code = sqlite_query_run(&query, NULL, error);
  if (!code) *ret_id = sqlite3_last_insert_rowid(store->database);
  return code;
}

int sqlite_request(struct store *base, struct store_request *request, struct error *error) {
  struct sqlite_store *store = sqlite_store_of(base);
  CLEANUP(sqlite_transaction_end) struct sqlite_transaction transaction = {0};
  bool known = false;
  int64_t id = 0;
  int code = sqlite_transaction_begin(store, true, &transaction, error);
  if (!code && request->kind == REQUEST_RELEASE_WAVE)
    known = true; /* it is about no domain */
  else if (!code)
    code = domain_is_known(store, request->domain, &known, error);
  if (code) return code;
  if (!known) {
    error_set(error, ERROR_NOT_FOUND, "%s is not managed by dkimroll", request->domain);
    return error_remedy(error, "add it to the policy and run `dkimroll run`; `dkimroll status` lists the domains");
  }
  code = request_insert(store, request, &id, error);
  if (!code) code = sqlite_transaction_commit(&transaction, error);
  if (!code) request->id = id;
  return code;
}
