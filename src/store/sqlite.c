#include "dkimroll/store_sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"

static void store_end(struct store *base) {
  struct sqlite_store *store = sqlite_store_of(base);
  for (size_t i = 0; i < store->cached_count; i++) sqlite3_finalize(store->cached[i].statement);
  sqlite_versions_release(&store->rules, &SQLITE_RULES);
  sqlite_versions_release(&store->publishers, &SQLITE_PUBLISHERS);
  sqlite_versions_release(&store->signers, &SQLITE_SIGNERS);
  sqlite3_close(store->database);
  sqlite_lease_end(store); /* after the database: the next holder finds it closed */
  free(store->path);
  free(store);
}

static const struct store_ops SQLITE_OPS = {
    .lease = sqlite_lease,
    .claim = sqlite_claim,
    .commit = sqlite_commit,
    .select = sqlite_select,
    .sync = sqlite_sync,
    .request = sqlite_request,
    .next_moment = sqlite_next_moment,
    .close = store_end,
};

int sqlite_owner_adopt(int descriptor, const char *model, struct error *error) {
  struct stat status;
  if (geteuid() != 0) return 0;
  if (stat(model, &status) < 0 || fchown(descriptor, status.st_uid, status.st_gid) < 0)
    return error_set_errno(error, errno, "giving a new file to the owner of %s", model);
  return 0;
}

/* An existing file is never opened here: to close any descriptor of it would drop the locks that another connection of this process has
 * on it (fcntl(2)). */
static int file_create_empty(const char *path, const char *directory, struct error *error) {
  CLEANUP_CLOSE int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (descriptor < 0 && errno == EEXIST) return 0;
  if (descriptor < 0) return error_set_errno(error, errno, "store %s", path);
  const int code = sqlite_owner_adopt(descriptor, directory, error);
  return code ? code : file_sync_parent(path, error);
}

/* The file is made by us before SQLite opens it, so that it has its mode from its first moment. */
static int file_prepare(const char *path, struct error *error) {
  CLEANUP_FREE char *directory = text_duplicate(path);
  if (!directory) return error_set(error, ERROR_NO_MEMORY, "store %s: out of memory", path);
  char *slash = strrchr(directory, '/');
  if (!slash) return file_create_empty(path, ".", error);
  if (slash == directory) return file_create_empty(path, "/", error);
  *slash = '\0';
  const struct file_rights rights = {.owner = geteuid(), .group = getegid(), .mode = S_IRWXU};
  const int code = file_make_directories(directory, &rights, error);
  return code ? code : file_create_empty(path, directory, error);
}

static int file_expect(const char *path, struct error *error) {
  struct stat status;
  if (stat(path, &status) == 0) return 0;
  const int problem = errno;
  const int code = error_set_errno(error, problem, "store %s", path);
  return problem == ENOENT ? error_remedy(error, "nothing has run yet: dkimroll run") : code;
}

static int wal_set(struct sqlite_store *store, struct error *error) {
  static const char sql[] = "PRAGMA journal_mode = WAL";
  CLEANUP(sqlite_query_end) struct sqlite_query query = {0};
  bool row = false;
  int code = sqlite_query_begin(store, sql, &query, error);
  if (!code) code = sqlite_query_step(&query, &row, error);
  if (code) return code;
  const char *mode = row ? sqlite_read_borrowed(&query) : NULL;
  if (query.no_memory) return error_set(error, ERROR_NO_MEMORY, "store %s: out of memory", store->path);
  if (text_equal(mode, store->in_memory ? "memory" : "wal")) return 0;
  error_set(error, ERROR_SYSTEM, "store %s: its file system cannot share memory between processes", store->path);
  error_retryable(error, false);
  return error_remedy(error, "let `state:` in the policy name a path on a local file system");
}

/* WAL: readers beside the writer, and one fsync a commit. While several processes make the same store, SQLite refuses the change of mode at once and
 * does not wait as it does for any other lock, so the waiting is done here. */
static int wal_begin(struct sqlite_store *store, struct error *error) {
  int code = wal_set(store, error);
  for (int waited = 0; code == ERROR_BUSY && waited < STORE_BUSY_MS; waited += SQLITE_RETRY_MS) {
    sqlite3_sleep(SQLITE_RETRY_MS);
    code = wal_set(store, error);
  }
  return code;
}

static int connection_configure(struct sqlite_store *store, struct error *error) {
  char pragmas[256];
  snprintf(pragmas, sizeof pragmas,
           "PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -%d;"
           "PRAGMA journal_size_limit = %d",
           SQLITE_CACHE_KIB, SQLITE_WAL_KEPT_MAX);
  int code = sqlite3_busy_timeout(store->database, STORE_BUSY_MS);
  if (code == SQLITE_OK) code = sqlite3_db_config(store->database, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
  if (code == SQLITE_OK) code = sqlite3_exec(store->database, pragmas, NULL, NULL, NULL);
  return code == SQLITE_OK ? 0 : sqlite_fail(store, code, "opening", error);
}

static int database_open(struct sqlite_store *store, bool read_only, struct error *error) {
  const int access_flags = read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  const int flags = access_flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  const int opened = sqlite3_open_v2(store->path, &store->database, flags, NULL);
  if (opened != SQLITE_OK) return sqlite_fail(store, opened, "opening", error);
  /* SQLite opens what it may not write for reading without a word. */
  if (!read_only && sqlite3_db_readonly(store->database, "main") != 0)
    return sqlite_fail(store, SQLITE_READONLY, "opening", error);
  int64_t version = 0;
  int code = connection_configure(store, error);
  if (!code) code = sqlite_schema_check(store, read_only, &version, error);
  if (code || read_only) return code;
  code = wal_begin(store, error);
  return code ? code : sqlite_schema_migrate(store, version, error);
}

int store_sqlite_open(const char *path, bool read_only, struct store **ret_store, struct error *error) {
  const bool in_memory = text_equal(path, ":memory:");
  int code = 0;
  if (!in_memory) code = read_only ? file_expect(path, error) : file_prepare(path, error);
  if (code) return code;
  struct sqlite_store *store = calloc(1, sizeof *store);
  if (!store) return error_set(error, ERROR_NO_MEMORY, "store %s: out of memory", path);
  *store =
      (struct sqlite_store){.store.ops = &SQLITE_OPS, .lock = -1, .in_memory = in_memory, .path = text_duplicate(path)};
  if (!store->path) code = error_set(error, ERROR_NO_MEMORY, "store %s: out of memory", path);
  if (!code) code = database_open(store, read_only, error);
  if (code)
    store_end(&store->store);
  else
    *ret_store = &store->store;
  return code;
}
