/* A database whose rows say anything: values of the fuzzer's in the columns of a whole store, without the checks of its tables. Whatever they are, each select gives rows that are whole, or fails and says
 * what is contradictory; what is due is claimed, or not; and nothing of it controls a terminal.
 *
 * For each value: TABLE, ROW, COLUMN, TYPE (0 NULL, 1 a number of eight octets, 2 of one, 3 text, 4 octets, 5 a fraction), and for texts and octets their size. */
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/store.h"
#include "dkimroll/text.h"
#include "fuzz.h"

#define SCHEMA "tests/data/state-schema-1.sql"
enum { TABLES_MAX = 32, COLUMNS_MAX = 96, VALUES_MAX = 24, FILE_MAX = 1 << 20, NOW = 1900000000, ROWS_MAX = 1000 };

static struct {
  char folder[sizeof "/dev/shm/fuzz-store-XXXXXX"];
  char *path;
  char *image; /* of a store in order */
  size_t image_size;
  bool whole; /* nothing was changed, so nothing may be refused */
  size_t table_count;
  struct {
    char *name;
    size_t column_count;
    char *columns[COLUMNS_MAX];
  } tables[TABLES_MAX];
} bench;

/* ---- a store in order ---- */

static void remove_files(void) {
  static const char *const ends[] = {"", "-wal", "-shm", "-journal", ".lock"};
  for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
    CLEANUP_FREE char *path = text_format("%s%s", bench.path, ends[i]);
    if (path) unlink(path);
  }
}

static void bench_end(void) {
  remove_files();
  rmdir(bench.folder);
}

static sqlite3 *raw_open(void) {
  sqlite3 *database = NULL;
  FUZZ_HOLDS(sqlite3_open(bench.path, &database) == SQLITE_OK, "%s", bench.path);
  return database;
}

static void find_columns(sqlite3 *database, size_t table) {
  CLEANUP_FREE char *sql = text_format("SELECT name FROM pragma_table_info('%s')", bench.tables[table].name);
  sqlite3_stmt *statement = NULL;
  FUZZ_HOLDS(sqlite3_prepare_v2(database, sql, -1, &statement, NULL) == SQLITE_OK, "%s", sql);
  while (sqlite3_step(statement) == SQLITE_ROW && bench.tables[table].column_count < COLUMNS_MAX)
    bench.tables[table].columns[bench.tables[table].column_count++] = strdup((const char *)sqlite3_column_text(statement, 0));
  sqlite3_finalize(statement);
}

/* Its triggers and strictness are gone, as whoever owns the file can have it. */
static void loosen(sqlite3 *database) {
  static const char drop[] = "SELECT 'DROP TRIGGER \"' || name || '\"' FROM sqlite_schema WHERE type = 'trigger'";
  char *drops[TABLES_MAX] = {NULL};
  size_t count = 0;
  sqlite3_stmt *statement = NULL;
  FUZZ_HOLDS(sqlite3_prepare_v2(database, drop, -1, &statement, NULL) == SQLITE_OK, "no triggers");
  while (sqlite3_step(statement) == SQLITE_ROW && count < TABLES_MAX) drops[count++] = strdup((const char *)sqlite3_column_text(statement, 0));
  sqlite3_finalize(statement);
  for (size_t i = 0; i < count; i++) {
    FUZZ_HOLDS(sqlite3_exec(database, drops[i], NULL, NULL, NULL) == SQLITE_OK, "%s", drops[i]);
    free(drops[i]);
  }
  FUZZ_HOLDS(sqlite3_exec(database, "PRAGMA journal_mode = DELETE; PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, ') STRICT', ')') WHERE type = 'table'; PRAGMA writable_schema = RESET",
                          NULL, NULL, NULL) == SQLITE_OK, "%s", sqlite3_errmsg(database));
}

static void find_tables(sqlite3 *database) {
  sqlite3_stmt *statement = NULL;
  FUZZ_HOLDS(sqlite3_prepare_v2(database, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name", -1, &statement, NULL) == SQLITE_OK, "no tables");
  while (sqlite3_step(statement) == SQLITE_ROW && bench.table_count < TABLES_MAX) bench.tables[bench.table_count++].name = strdup((const char *)sqlite3_column_text(statement, 0));
  sqlite3_finalize(statement);
  for (size_t i = 0; i < bench.table_count; i++) find_columns(database, i);
}

/* The store of an earlier version, which is brought up to date when it is opened. */
static void bench_open(void) {
  struct error error = {0};
  struct store *store = NULL;
  char *sql = NULL;
  size_t size = 0;
  memcpy(bench.folder, "/dev/shm/fuzz-store-XXXXXX", sizeof bench.folder);
  FUZZ_HOLDS(mkdtemp(bench.folder), "no folder in /dev/shm");
  bench.path = text_format("%s/state.db", bench.folder);
  (void)atexit(bench_end);
  FUZZ_HOLDS(file_read(SCHEMA, FILE_MAX, &sql, &size, NULL, &error) == 0, "%s", error.message);
  sqlite3 *database = raw_open();
  FUZZ_HOLDS(sqlite3_exec(database, sql, NULL, NULL, NULL) == SQLITE_OK, "%s", sqlite3_errmsg(database));
  sqlite3_close(database);
  FUZZ_HOLDS(store_sqlite_open(bench.path, false, &store, &error) == 0, "%s", error.message);
  store_close(store);
  database = raw_open();
  loosen(database);
  sqlite3_close(database);
  database = raw_open();
  find_tables(database);
  sqlite3_close(database);
  FUZZ_HOLDS(file_read(bench.path, FILE_MAX, &bench.image, &bench.image_size, NULL, &error) == 0, "%s", error.message);
  free(sql);
}

/* ---- values ---- */

static void bind_value(sqlite3_stmt *statement, struct fuzz_input *input) {
  int64_t number = 0;
  const uint8_t type = fuzz_take_u8(input) % 6;
  for (int i = 0; type == 1 && i < 8; i++) number = (int64_t)((uint64_t)number << 8 | fuzz_take_u8(input));
  if (type == 2) number = (int8_t)fuzz_take_u8(input);
  const struct fuzz_input octets = type >= 3 && type <= 4 ? fuzz_take(input, fuzz_take_u16(input)) : (struct fuzz_input){0};
  if (type == 0) sqlite3_bind_null(statement, 1);
  if (type == 1 || type == 2) sqlite3_bind_int64(statement, 1, number);
  if (type == 3) sqlite3_bind_text(statement, 1, octets.size ? (const char *)octets.data : "", (int)octets.size, SQLITE_TRANSIENT);
  if (type == 4) sqlite3_bind_blob(statement, 1, octets.size ? (const char *)octets.data : "", (int)octets.size, SQLITE_TRANSIENT);
  if (type == 5) sqlite3_bind_double(statement, 1, (double)fuzz_take_u16(input) / 7);
}

static void put_value(sqlite3 *database, struct fuzz_input *input) {
  const size_t table = fuzz_take_u8(input) % bench.table_count;
  const unsigned row = fuzz_take_u8(input);
  const size_t column = fuzz_take_u8(input) % bench.tables[table].column_count;
  const char *name = bench.tables[table].name;
  CLEANUP_FREE char *sql = text_format("UPDATE OR REPLACE \"%s\" SET \"%s\" = ? WHERE rowid = (SELECT rowid FROM \"%s\" LIMIT 1 OFFSET %u)", name, bench.tables[table].columns[column], name, row % 8);
  sqlite3_stmt *statement = NULL;
  /* A table without numbers of rows has one. */
  if (sqlite3_prepare_v2(database, sql, -1, &statement, NULL) != SQLITE_OK) {
    free(sql);
    sql = text_format("UPDATE OR REPLACE \"%s\" SET \"%s\" = ?", name, bench.tables[table].columns[column]);
    FUZZ_HOLDS(sqlite3_prepare_v2(database, sql, -1, &statement, NULL) == SQLITE_OK, "%s", sqlite3_errmsg(database));
  }
  bind_value(statement, input);
  (void)sqlite3_step(statement);
  sqlite3_finalize(statement);
}

static void put_values(struct fuzz_input input) {
  CLEANUP_CLOSE int descriptor = open(bench.path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  FUZZ_HOLDS(descriptor >= 0 && write(descriptor, bench.image, bench.image_size) == (ssize_t)bench.image_size, "cannot write %s", bench.path);
  sqlite3 *database = raw_open();
  (void)sqlite3_exec(database, "PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF; BEGIN", NULL, NULL, NULL);
  for (int i = 0; i < VALUES_MAX && input.size > 0; i++) put_value(database, &input);
  (void)sqlite3_exec(database, "COMMIT; PRAGMA journal_mode = WAL", NULL, NULL, NULL);
  sqlite3_close(database);
}

/* ---- what is read of it ---- */

static void expect_refused(int result, const struct error *error) {
  FUZZ_HOLDS(!bench.whole, "refused without a reason: %s", error->message);
  FUZZ_HOLDS(result < 0 && error->code == result && error->message[0], "a failure %d without a message", result);
  FUZZ_HOLDS(fuzz_is_printable(error->message) && fuzz_is_printable(error->remedy), "a control character in: %s", error->message);
}

static void expect_lineage(const struct lineage *lineage) {
  FUZZ_HOLDS(lineage->domain && lineage->slot && lineage->key_count <= LINEAGE_KEYS_MAX, "%zu keys", lineage->key_count);
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *key = &lineage->keys[i];
    FUZZ_HOLDS(key->selector && key->state <= KEY_REMOVED, "a key in the state %d", (int)key->state);
    FUZZ_HOLDS(key->placement_count <= KEY_PLACEMENTS_MAX && key->sighting_count <= KEY_SIGHTINGS_MAX, "%zu placements", key->placement_count);
  }
}

struct look {
  enum store_select_kind kind;
  size_t rows;
};

static int look_at_row(void *context, const void *row) {
  struct look *look = context;
  FUZZ_HOLDS(row && ++look->rows < ROWS_MAX, "rows without an end");
  switch (look->kind) {
  case STORE_SELECT_LINEAGES:
  case STORE_SELECT_LINEAGES_AFTER:
  case STORE_SELECT_REMOVED:
  case STORE_SELECT_KEY_USERS: expect_lineage(row); break;
  default: break;
  }
  return 0;
}

static void select_all(struct store *store) {
  static const struct {
    enum store_select_kind kind;
    struct store_filter filter;
  } selects[] = {{STORE_SELECT_LINEAGES, {0}},
                 {STORE_SELECT_LINEAGES, {.domain = "example.test"}},
                 {STORE_SELECT_LINEAGES_AFTER, {.domain = "", .text = "", .limit = 10}},
                 {STORE_SELECT_EVENTS, {0}},
                 {STORE_SELECT_EVENTS, {.domain = "example.test", .descending = true, .limit = 20}},
                 {STORE_SELECT_REQUESTS, {0}},
                 {STORE_SELECT_RESOURCES, {0}},
                 {STORE_SELECT_SIGNERS, {0}},
                 {STORE_SELECT_LIVING_SIGNERS, {0}},
                 {STORE_SELECT_SELECTORS, {.domain = "example.test"}},
                 {STORE_SELECT_REMOVED, {0}},
                 {STORE_SELECT_TABLES, {0}},
                 {STORE_SELECT_WAVE, {0}},
                 {STORE_SELECT_PUBLISHER_CLOCKS, {0}},
                 {STORE_SELECT_ALARMS, {0}},
                 {STORE_SELECT_TOLD, {0}},
                 {STORE_SELECT_COUNT, {0}},
                 {STORE_SELECT_RECORDS, {.domain = "primary", .text = "example.test"}},
                 {STORE_SELECT_KEY_USERS, {.text = "/keys/x"}}};
  for (size_t i = 0; i < ARRAY_SIZE(selects); i++) {
    struct look look = {.kind = selects[i].kind};
    struct error error = {0};
    const int result = store->ops->select(store, selects[i].kind, &selects[i].filter, look_at_row, &look, &error);
    if (result) expect_refused(result, &error);
  }
}

static void ask_moment(struct store *store) {
  struct store_policy_stamp stamp = {0};
  struct store_clock clock;
  struct error error = {0};
  int64_t next = 0;
  const int result = store->ops->next_moment(store, &next, &stamp, &clock, &error);
  if (result)
    expect_refused(result, &error);
  else
    store_policy_stamp_release(&stamp);
}

static void claim(struct store *store) {
  struct lineage *lineages = NULL;
  struct error error = {0};
  size_t count = 0;
  int result = store->ops->lease(store, "fuzz", NOW, &error);
  if (!result) result = store->ops->claim(store, NOW, 10, NULL, 0, NULL, 0, &lineages, &count, &error);
  if (result) {
    expect_refused(result, &error);
    return;
  }
  for (size_t i = 0; i < count; i++) {
    expect_lineage(&lineages[i]);
    lineage_release(&lineages[i]);
  }
  free(lineages);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const struct fuzz_input input = {data, size};
  if (!bench.path) bench_open();
  put_values(input);
  bench.whole = size == 0;
  for (int writes = 0; writes < 2; writes++) {
    struct store *store = NULL;
    struct error error = {0};
    const int result = store_sqlite_open(bench.path, !writes, &store, &error);
    if (result) {
      expect_refused(result, &error);
      continue;
    }
    select_all(store);
    ask_moment(store);
    if (writes) claim(store);
    store_close(store);
  }
  remove_files();
  return 0;
}
