#include "dkimroll/store_sqlite.h"

#include <string.h>

#include "dkimroll/cleanup.h"

#include "dkimroll/text.h"

/* The code for callers, and what a person can do about it, by SQLite's primary result code. */
static int fail_code(int code, int system_errno, const char **ret_remedy) {
  switch (code & 0xff) {
  case SQLITE_BUSY:
  case SQLITE_LOCKED:
    *ret_remedy =
        "another process is writing to the store for longer than it should: see who has it open (fuser -v FILE)";
    return ERROR_BUSY;
  case SQLITE_FULL:
    *ret_remedy = "free space on the file system of the store; nothing half done was kept";
    return ERROR_SYSTEM;
  case SQLITE_IOERR:
    *ret_remedy = "look at the disk and the kernel log; nothing half done was kept";
    return code == SQLITE_IOERR_NOMEM ? ERROR_NO_MEMORY : ERROR_SYSTEM;
  case SQLITE_NOMEM: *ret_remedy = ""; return ERROR_NO_MEMORY;
  case SQLITE_READONLY:
    /* A reader found what a killed writer left, before the store was in WAL mode: only a writer can undo that. */
    if (code == SQLITE_READONLY_ROLLBACK) {
      *ret_remedy = "dkimroll run repairs it: a process was killed while it made the store";
      return ERROR_CONFLICT;
    }
    __attribute__((fallthrough));
  case SQLITE_PERM:
  case SQLITE_AUTH:
    *ret_remedy = "run as the user who owns the store, and see that its file system is not mounted read-only";
    return ERROR_PERMISSION;
  case SQLITE_CANTOPEN: {
    *ret_remedy = "the store's directory must be there and writable for the user who runs dkimroll";
    struct error probe = {0};
    return system_errno ? error_set_errno(&probe, system_errno, "open") : ERROR_SYSTEM;
  }
  case SQLITE_CORRUPT:
  case SQLITE_NOTADB:
    *ret_remedy = "put the file aside and restore it from a backup, or try: sqlite3 FILE .recover";
    return ERROR_INVALID;
  case SQLITE_TOOBIG: *ret_remedy = ""; return ERROR_LIMIT;
  default: *ret_remedy = "this is a defect: please report it with this message"; return ERROR_INTERNAL;
  }
}

int sqlite_fail(const struct sqlite_store *store, int code, const char *doing, struct error *error) {
  const char *remedy;
  /* SQLite keeps the errno of these two kinds alone; after others it holds what an older failure left. */
  const bool system = (code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN;
  const int system_errno = system && store->database ? sqlite3_system_errno(store->database) : 0;
  const int mapped = fail_code(code, system_errno, &remedy);
  const bool known = store->database && sqlite3_errcode(store->database) != SQLITE_OK;
  const char *reason = known ? sqlite3_errmsg(store->database) : sqlite3_errstr(code);
  error_set(error, mapped, "store %s: %s: %s%s%s", store->path, doing, reason, system_errno ? ": " : "",
            system_errno ? strerror(system_errno) : "");
  error_remedy(error, "%s", remedy);
  return mapped;
}

static int statement_prepare(struct sqlite_store *store, const char *sql, unsigned flags, sqlite3_stmt **ret_statement,
                             struct error *error) {
  const int code = sqlite3_prepare_v3(store->database, sql, -1, flags, ret_statement, NULL);
  return code == SQLITE_OK ? 0 : sqlite_fail(store, code, "preparing a statement", error);
}

static struct sqlite_cached *cached_find(struct sqlite_store *store, const char *sql) {
  for (size_t i = 0; i < store->cached_count; i++)
    if (store->cached[i].sql == sql) return &store->cached[i];
  return NULL;
}

int sqlite_query_begin(struct sqlite_store *store, const char *sql, struct sqlite_query *ret_query,
                       struct error *error) {
  struct sqlite_query query = {.store = store};
  struct sqlite_cached *cached = cached_find(store, sql);
  if (!cached && store->cached_count < SQLITE_STATEMENTS_MAX) {
    sqlite3_stmt *statement;
    const int code = statement_prepare(store, sql, SQLITE_PREPARE_PERSISTENT, &statement, error);
    if (code) return code;
    cached = &store->cached[store->cached_count++];
    *cached = (struct sqlite_cached){.sql = sql, .statement = statement};
  }
  if (cached && !cached->used) {
    cached->used = true;
    query.cached = cached;
    query.statement = cached->statement;
  } else {
    const int code = statement_prepare(store, sql, 0, &query.statement, error);
    if (code) return code;
  }
  *ret_query = query;
  return 0;
}

void sqlite_query_end(struct sqlite_query *query) {
  if (query->cached) {
    sqlite3_reset(query->statement);
    sqlite3_clear_bindings(query->statement);
    query->cached->used = false;
  } else {
    sqlite3_finalize(query->statement);
  }
  *query = (struct sqlite_query){0};
}

int sqlite_query_step(struct sqlite_query *query, bool *ret_row, struct error *error) {
  if (query->bind_code) return sqlite_fail(query->store, query->bind_code, "binding a value", error);
  const int code = sqlite3_step(query->statement);
  if (code != SQLITE_ROW && code != SQLITE_DONE) {
    const bool read_only = sqlite3_stmt_readonly(query->statement) != 0;
    return sqlite_fail(query->store, code, read_only ? "reading" : "writing", error);
  }
  query->read = 0;
  query->wrong = 0;
  query->no_memory = false;
  *ret_row = code == SQLITE_ROW;
  return 0;
}

int sqlite_query_run(struct sqlite_query *query, int64_t *ret_changes, struct error *error) {
  bool row = false;
  const int code = sqlite_query_step(query, &row, error);
  sqlite3_reset(query->statement);
  query->bound = 0;
  query->bind_code = SQLITE_OK;
  if (code) return code;
  if (ret_changes) *ret_changes = sqlite3_changes64(query->store->database);
  return 0;
}

int sqlite_query_check(const struct sqlite_query *query, const char *table, int64_t row, struct error *error) {
  if (query->no_memory) return error_set(error, ERROR_NO_MEMORY, "store %s: out of memory at table %s, row %lld", query->store->path, table, (long long)row);
  if (!query->wrong) return 0;
  error_set(error, ERROR_INTERNAL, "store %s: table %s, row %lld: column %s holds what dkimroll never writes",
            query->store->path, table, (long long)row, sqlite3_column_name(query->statement, query->wrong - 1));
  return error_remedy(error, SQLITE_REMEDY_EDITED);
}

static void bind_result(struct sqlite_query *query, int code) {
  if (code != SQLITE_OK && !query->bind_code) query->bind_code = code;
}

void sqlite_bind_number(struct sqlite_query *query, int64_t number) {
  bind_result(query, sqlite3_bind_int64(query->statement, ++query->bound, number));
}

void sqlite_bind_moment(struct sqlite_query *query, int64_t moment) {
  const int column = ++query->bound;
  bind_result(query, moment == TIME_UNSET ? sqlite3_bind_null(query->statement, column)
                                          : sqlite3_bind_int64(query->statement, column, moment));
}

void sqlite_bind_text(struct sqlite_query *query, const char *text) {
  const int column = ++query->bound;
  bind_result(query, text ? sqlite3_bind_text(query->statement, column, text, -1, SQLITE_STATIC)
                          : sqlite3_bind_null(query->statement, column));
}

static void read_wrong(struct sqlite_query *query) {
  if (!query->wrong) query->wrong = query->read;
}

int64_t sqlite_read_number(struct sqlite_query *query, int64_t minimum, int64_t maximum) {
  const int column = query->read++;
  const int64_t number = sqlite3_column_int64(query->statement, column);
  if (sqlite3_column_type(query->statement, column) == SQLITE_INTEGER && number >= minimum && number <= maximum)
    return number;
  read_wrong(query);
  return minimum;
}

bool sqlite_read_bool(struct sqlite_query *query) {
  return sqlite_read_number(query, 0, 1) != 0;
}

int64_t sqlite_read_moment(struct sqlite_query *query) {
  if (sqlite3_column_type(query->statement, query->read) == SQLITE_NULL) {
    query->read++;
    return TIME_UNSET;
  }
  return sqlite_read_number(query, TIME_UNSET + 1, TIME_NEVER);
}

const char *sqlite_read_borrowed(struct sqlite_query *query) {
  const int column = query->read++;
  const int type = sqlite3_column_type(query->statement, column);
  if (type == SQLITE_NULL) return NULL;
  const char *text = (const char *)sqlite3_column_text(query->statement, column);
  const size_t size = (size_t)sqlite3_column_bytes(query->statement, column);
  query->no_memory |= !text;
  if (type != SQLITE_TEXT || (text && strlen(text) != size)) read_wrong(query);
  return text;
}

void sqlite_read_into(struct sqlite_query *query, char *buffer, size_t size) {
  const char *text = sqlite_read_borrowed(query);
  if (!text || !text_copy(buffer, size, text)) read_wrong(query);
}

int sqlite_read_text(struct sqlite_query *query, char **ret_text, struct error *error) {
  const char *text = sqlite_read_borrowed(query);
  char *copy = text_duplicate(text);
  if ((!text && query->no_memory) || (text && !copy)) return error_set(error, ERROR_NO_MEMORY, "store %s: out of memory", query->store->path);
  *ret_text = copy;
  return 0;
}

static const char SQL_BEGIN_WRITE[] = "BEGIN IMMEDIATE";
static const char SQL_BEGIN_READ[] = "BEGIN";
static const char SQL_COMMIT[] = "COMMIT";
static const char SQL_ROLLBACK[] = "ROLLBACK";

static int sql_run(struct sqlite_store *store, const char *sql, struct error *error) {
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  const int code = sqlite_query_begin(store, sql, &query, error);
  return code ? code : sqlite_query_run(&query, NULL, error);
}

int sqlite_transaction_begin(struct sqlite_store *store, bool writing, struct sqlite_transaction *ret_transaction,
                             struct error *error) {
  CLEANUP(sqlite_query_end) struct sqlite_query rollback = {0};
  /* Prepared before it is needed: it must not fail for want of memory. */
  int code = sqlite_query_begin(store, SQL_ROLLBACK, &rollback, error);
  if (!code) code = sql_run(store, writing ? SQL_BEGIN_WRITE : SQL_BEGIN_READ, error);
  if (code) return code;
  *ret_transaction = (struct sqlite_transaction){.store = store, .open = true};
  return 0;
}

int sqlite_transaction_commit(struct sqlite_transaction *transaction, struct error *error) {
  const int code = sql_run(transaction->store, SQL_COMMIT, error);
  if (code) return code;
  transaction->open = false;
  return 0;
}

void sqlite_transaction_end(struct sqlite_transaction *transaction) {
  /* After a full disk or a failed write SQLite has rolled back by itself. */
  if (!transaction->open || sqlite3_get_autocommit(transaction->store->database)) return;
  (void)!sql_run(transaction->store, SQL_ROLLBACK, NULL);
  transaction->open = false;
}
