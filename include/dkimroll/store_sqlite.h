/* Inside of the SQLite store, shared by src/store/sqlite*.c alone: queries with cached statements, transactions, content-addressed versions,
 * loading and writing of lineages. Everyone else uses store.h. */
#ifndef DKIMROLL_STORE_SQLITE_H
#define DKIMROLL_STORE_SQLITE_H

#include <sqlite3.h>

#include "dkimroll/store.h"

enum {
  SQLITE_APPLICATION_ID = 0x444b494d, /* "DKIM", in the file's header, so that no foreign database is taken over */
  SQLITE_STATEMENTS_MAX = 96,         /* different statements that are kept; all files here have fewer */
  SQLITE_CACHE_KIB = 16384,           /* page cache: keeps the upper pages of all indexes at a million domains */
  SQLITE_RETRY_MS = 10,               /* between two attempts, where SQLite does not wait by itself */
  SQLITE_WAL_KEPT_MAX = 64 << 20,     /* octets of write-ahead log that stay on disk after a large sync */
  SQLITE_SIGNERS_TEXT_MAX = POLICY_SIGNERS_MAX * 21, /* "17 18": row ids of up to 20 octets */
};

#define SQLITE_REMEDY_EDITED                                                                                           \
  "restore the store from a backup if it was edited by hand; else this is a defect: please report it"

/* A prepared statement that is kept until close, found again by the address of its text. */
struct sqlite_cached {
  const char *sql;
  sqlite3_stmt *statement;
  bool used; /* between begin and end; a nested use of the same text gets a statement of its own */
};

/* One kind of immutable, content-addressed rows: rules, publisher, signer. */
struct sqlite_version_kind {
  const char *table;
  const char *sql_find, *sql_insert, *sql_load;
  int (*parse)(const char *text, void **ret_item, struct error *error);
  void (*release)(void *item);
};
extern const struct sqlite_version_kind SQLITE_RULES, SQLITE_PUBLISHERS, SQLITE_SIGNERS;

/* Versions that were loaded, rising by id; what lineages and keys borrow. */
struct sqlite_versions {
  struct sqlite_version {
    int64_t id;
    void *item;
  } * items;
  size_t count, capacity;
};

struct sqlite_store {
  struct store store; /* first, so that a struct store * is one of these */
  sqlite3 *database;
  char *path;
  int lock; /* descriptor of the lease, -1 without */
  bool in_memory;
  struct sqlite_cached cached[SQLITE_STATEMENTS_MAX];
  size_t cached_count;
  struct sqlite_versions rules, publishers, signers;
};

static inline struct sqlite_store *sqlite_store_of(struct store *store) {
  return (struct sqlite_store *)store;
}

/* ---- sqlite_query.c ---- */

/* Fills *error from SQLite's code and what the connection knows of its last failure; doing is what was attempted: "writing". */
int sqlite_fail(const struct sqlite_store *store, int code, const char *doing, struct error *error);

/* One use of a statement. Binds and reads go from left to right, so their order is that of the SQL. Failures of binds and contradictions
 * in what is read are kept and reported by step and check. */
struct sqlite_query {
  struct sqlite_store *store;
  sqlite3_stmt *statement;
  struct sqlite_cached *cached; /* NULL: finalized at the end */
  int bind_code;
  int bound, read; /* columns so far */
  int wrong;       /* first column with a contradiction, counted from 1; 0: none */
  bool no_memory;  /* a text of the row was not read for want of memory; it reads as NULL */
};
int sqlite_query_begin(struct sqlite_store *store, const char *sql, struct sqlite_query *ret_query,
                       struct error *error) ERROR_USE_RESULT;
void sqlite_query_end(struct sqlite_query *query); /* a cleanup; the query can be begun again */
/* *ret_row: there is a row, to be read from its first column. */
int sqlite_query_step(struct sqlite_query *query, bool *ret_row, struct error *error) ERROR_USE_RESULT;
/* For statements without rows; ready for the next binds afterwards. ret_changes may be NULL. */
int sqlite_query_run(struct sqlite_query *query, int64_t *ret_changes, struct error *error) ERROR_USE_RESULT;
/* Ends the reading of one row: ERROR_INTERNAL names table, row and column if something in it cannot be; ERROR_NO_MEMORY. */
int sqlite_query_check(const struct sqlite_query *query, const char *table, int64_t row,
                       struct error *error) ERROR_USE_RESULT;

/* Text is borrowed until the statement is run or ended. Moments: TIME_UNSET is NULL in the file. */
void sqlite_bind_number(struct sqlite_query *query, int64_t number);
void sqlite_bind_moment(struct sqlite_query *query, int64_t moment);
void sqlite_bind_text(struct sqlite_query *query, const char *text);

int64_t sqlite_read_number(struct sqlite_query *query, int64_t minimum, int64_t maximum);
bool sqlite_read_bool(struct sqlite_query *query);
int64_t sqlite_read_moment(struct sqlite_query *query);
void sqlite_read_into(struct sqlite_query *query, char *buffer, size_t size);
/* Borrowed until the next step; NULL for NULL, and without memory, which sqlite_query_check then says. */
const char *sqlite_read_borrowed(struct sqlite_query *query);
/* Caller frees; *ret_text NULL for NULL. ERROR_NO_MEMORY. */
int sqlite_read_text(struct sqlite_query *query, char **ret_text, struct error *error) ERROR_USE_RESULT;

/* Rolled back at the end of the scope unless it was committed. Writing ones take the write lock at once, so that nothing inside fails for want of it. */
struct sqlite_transaction {
  struct sqlite_store *store;
  bool open;
};
int sqlite_transaction_begin(struct sqlite_store *store, bool writing, struct sqlite_transaction *ret_transaction,
                             struct error *error) ERROR_USE_RESULT;
int sqlite_transaction_commit(struct sqlite_transaction *transaction, struct error *error) ERROR_USE_RESULT;
void sqlite_transaction_end(struct sqlite_transaction *transaction);

/* ---- sqlite_schema.c ---- */

/* Is this file ours, and can this program use it? Changes nothing, so that it may be asked of any file. *ret_version: its schema, 0 for an
 * empty file. */
int sqlite_schema_check(struct sqlite_store *store, bool read_only, int64_t *ret_version,
                        struct error *error) ERROR_USE_RESULT;
/* Brings the file from schema version to STORE_SCHEMA_VERSION. */
int sqlite_schema_migrate(struct sqlite_store *store, int64_t version, struct error *error) ERROR_USE_RESULT;

/* ---- sqlite_version.c ---- */

/* Row id of this content, inserted if it is new. */
int sqlite_version_intern(struct sqlite_store *store, const struct sqlite_version_kind *kind, const char *name,
                          const char *content, int64_t *ret_id, struct error *error) ERROR_USE_RESULT;
/* Borrowed until close. */
int sqlite_rules_get(struct sqlite_store *store, int64_t id, const struct policy_rules **ret_rules,
                     struct error *error) ERROR_USE_RESULT;
int sqlite_publisher_get(struct sqlite_store *store, int64_t id, const struct policy_publisher **ret_publisher,
                         struct error *error) ERROR_USE_RESULT;
int sqlite_signer_get(struct sqlite_store *store, int64_t id, const struct policy_signer **ret_signer,
                      struct error *error) ERROR_USE_RESULT;
void sqlite_versions_release(struct sqlite_versions *versions, const struct sqlite_version_kind *kind);

/* ---- sqlite_key.c, sqlite_lineage.c ---- */

/* Appends the keys of the row id after that are living, or else removed ones, rising by id; *ret_more: LINEAGE_KEYS_MAX was
 * reached and there are more. */
int sqlite_keys_load(struct sqlite_store *store, struct lineage *lineage, bool living, int64_t after, bool *ret_more,
                     struct error *error) ERROR_USE_RESULT;
/* Ids that come into being in a transaction; given to their owners only when it is committed. */
struct sqlite_new_ids {
  struct sqlite_new_id {
    int64_t *place;
    int64_t id;
  } * items; /* owned; as many as there can be */
  size_t count;
};
int sqlite_keys_write(struct sqlite_store *store, const struct lineage *lineage, struct sqlite_new_ids *ids,
                      struct error *error) ERROR_USE_RESULT;

/* The columns that sqlite_lineage_read expects, from a table or alias of that name. */
#define SQLITE_LINEAGE_COLUMNS                                                                                         \
  "lineage.id, lineage.domain, lineage.slot, lineage.managed, lineage.forgotten, lineage.rules_id, "                   \
  "lineage.publisher_id, lineage.signers, lineage.zone, lineage.senders, lineage.held, lineage.hold_reason, "          \
  "lineage.hold_until, lineage.rotate_requested, lineage.failures, lineage.retry_at, lineage.parked_at, "              \
  "lineage.failure, lineage.next_moment, lineage.hold_scope, lineage.begin_place, lineage.switch_place"
/* Reads the present row without keys. Caller releases *ret_lineage, also on failure. */
int sqlite_lineage_read(struct sqlite_query *query, struct lineage *ret_lineage, struct error *error) ERROR_USE_RESULT;
/* By row id, with its living keys. Caller releases *ret_lineage, also on failure. */
int sqlite_lineage_load(struct sqlite_store *store, int64_t id, struct lineage *ret_lineage,
                        struct error *error) ERROR_USE_RESULT;
int sqlite_lineage_write(struct sqlite_store *store, const struct lineage *lineage,
                         struct error *error) ERROR_USE_RESULT;
/* "17 18" */
const char *sqlite_signers_text(const int64_t *ids, size_t count, char buffer[SQLITE_SIGNERS_TEXT_MAX]);
/* One pattern a line; NULL for the default, "*@DOMAIN" alone. Caller frees. ERROR_INVALID: a pattern holds a line feed. */
int sqlite_senders_text(const char *domain, char *const *senders, size_t count, char **ret_text,
                        struct error *error) ERROR_USE_RESULT;

/* ---- sqlite.c ---- */

/* What root makes belongs to the owner of the file or directory model, so that the service's own user can work with it later. */
int sqlite_owner_adopt(int descriptor, const char *model, struct error *error) ERROR_USE_RESULT;

/* ---- sqlite_commit.c ---- */

int sqlite_event_insert(struct sqlite_store *store, const struct event *event, int64_t *ret_id,
                        struct error *error) ERROR_USE_RESULT;

/* ---- sqlite_stamp.c ---- */

/* *ret_stamp as sync was given it last; file_count 0: never. Caller releases it, also on failure. */
int sqlite_stamp_read(struct sqlite_store *store, struct store_policy_stamp *ret_stamp,
                      struct error *error) ERROR_USE_RESULT;
/* ---- sqlite_wave.c ---- */
#define SQLITE_WAVE_COLUMNS                                                                                                                     \
  "max_per_run, budget, percent, failures, run, begun, begin_last, begin_given, switched, switch_last, switch_given, away_since, returned_at, spread, period, ended, failed, first, " \
  "first_action, stopped_at, stopped_ended, stopped_failed, probe_at, probes"
int sqlite_wave_read(struct sqlite_query *query, struct wave *ret_wave, struct error *error) ERROR_USE_RESULT;
/* All but the limits. */
int sqlite_wave_write(struct sqlite_store *store, const struct wave *wave, struct error *error) ERROR_USE_RESULT;
/* The limits alone. With another max-per-run all places that were given are none, and who waits for one is due at now. */
int sqlite_wave_limit(struct sqlite_store *store, const struct policy_limits *limits, int64_t now, struct error *error) ERROR_USE_RESULT;
/* Lineages that are due exactly at `from` are due at `to`. */
int sqlite_wave_wake(struct sqlite_store *store, int64_t from, int64_t to, struct error *error) ERROR_USE_RESULT;

int sqlite_stamp_write(struct sqlite_store *store, const struct store_policy_stamp *stamp,
                       struct error *error) ERROR_USE_RESULT;

/* ---- sqlite_see.c ---- */

/* What the policy says of metrics, and when it was compiled, into and out of meta. */
int sqlite_metrics_write(struct sqlite_store *store, const struct policy *policy, int64_t now, struct error *error) ERROR_USE_RESULT;
int sqlite_metrics_read(struct sqlite_store *store, struct store_policy_stamp *stamp, struct error *error) ERROR_USE_RESULT;
int sqlite_publisher_clock_write(struct sqlite_store *store, const struct store_publisher_clock *clock, struct error *error) ERROR_USE_RESULT;
int sqlite_alarm_write(struct sqlite_store *store, const struct store_alarm *alarm, struct error *error) ERROR_USE_RESULT;
int sqlite_told_write(struct sqlite_store *store, int64_t event, struct error *error) ERROR_USE_RESULT;

/* ---- the ops ---- */

int sqlite_lease(struct store *store, const char *holder, int64_t now, struct error *error);
void sqlite_lease_end(struct sqlite_store *store);
int sqlite_claim(struct store *store, int64_t now, size_t limit, const char *const *domains, size_t domain_count,
                 const int64_t *open_ids, size_t open_count, struct lineage **ret_lineages, size_t *ret_count,
                 struct error *error);
int sqlite_commit(struct store *store, const struct store_commit *commit, struct error *error);
int sqlite_select(struct store *store, enum store_select_kind kind, const struct store_filter *filter, store_row *row,
                  void *context, struct error *error);
int sqlite_sync(struct store *store, const struct policy *policy, const struct store_policy_stamp *stamp, int64_t now,
                struct store_sync_report *ret_report, struct error *error);
int sqlite_request(struct store *store, struct store_request *request, struct error *error);
int sqlite_next_moment(struct store *store, int64_t *ret_next, struct store_policy_stamp *ret_stamp,
                       struct store_clock *ret_clock, struct error *error);

#endif
