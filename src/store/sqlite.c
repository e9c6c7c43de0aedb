#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/store_sqlite.h"
#include "dkimroll/text.h"

static void sqlite_close_store(struct store *base) {
  struct sqlite_store *store = sqlite_store_of(base);
  for (size_t i = 0; i < store->cached_count; i++) sqlite3_finalize(store->cached[i].statement);
  sqlite_versions_release(&store->rules, &SQLITE_RULES);
  sqlite_versions_release(&store->publishers, &SQLITE_PUBLISHERS);
  sqlite_versions_release(&store->signers, &SQLITE_SIGNERS);
  sqlite3_close(store->database);
  sqlite_lease_end(store);
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
    .close = sqlite_close_store,
};

/* The file is made by us before SQLite opens it: mode 0600 from its first moment, in a directory of 0700. */
static int file_prepare(const char *path, bool read_only, struct error *error) {
  if (read_only) {
    if (access(path, F_OK) == 0) return 0;
    const int problem = errno;
    error_set_errno(error, problem, "store %s", path);
    if (problem == ENOENT) error_remedy(error, "nothing has run yet: dkimroll run");
    return error->code;
  }
  CLEANUP_FREE char *directory = text_duplicate(path);
  if (!directory) return error_set(error, ERROR_NO_MEMORY, "out of memory");
  char *slash = strrchr(directory, '/');
  if (slash && slash != directory) {
    *slash = '\0';
    const struct file_rights rights = {.owner = geteuid(), .group = getegid(), .mode = 0700};
    int result = file_make_directories(directory, &rights, error);
    if (result) return result;
  }
  CLEANUP_CLOSE int descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (descriptor < 0) return error_set_errno(error, errno, "store %s", path);
  return 0;
}

static int pragmas_set(struct sqlite_store *store, bool read_only, struct error *error) {
  char text[512];
  snprintf(text, sizeof text, "PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA cache_size = -%d; PRAGMA trusted_schema = OFF;%s",
           SQLITE_CACHE_KIB, read_only ? "PRAGMA query_only = ON;" : "");
  sqlite3_busy_timeout(store->database, STORE_BUSY_MS);
  int code = sqlite3_exec(store->database, text, NULL, NULL, NULL);
  if (code == SQLITE_OK && !read_only && !store->in_memory) {
    snprintf(text, sizeof text, "PRAGMA journal_mode = WAL; PRAGMA journal_size_limit = %d", SQLITE_WAL_KEPT_MAX);
    code = sqlite3_exec(store->database, text, NULL, NULL, NULL);
  }
  return code == SQLITE_OK ? 0 : sqlite_fail(store, code, "opening", error);
}

int store_sqlite_open(const char *path, bool read_only, struct store **ret_store, struct error *error) {
  const bool in_memory = text_equal(path, ":memory:");
  int result = in_memory ? 0 : file_prepare(path, read_only, error);
  if (result) return result;
  struct sqlite_store *store = calloc(1, sizeof *store);
  if (!store) return error_set(error, ERROR_NO_MEMORY, "out of memory");
  store->store.ops = &SQLITE_OPS;
  store->lock = -1;
  store->in_memory = in_memory;
  store->path = text_duplicate(path);
  if (!store->path) result = error_set(error, ERROR_NO_MEMORY, "out of memory");
  if (!result) {
    /* Read-only users too open for writing where they may: a reader of a WAL database takes part in its shared memory. */
    const int flags = (read_only && access(path, W_OK) < 0 ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE) | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    const int code = sqlite3_open_v2(path, &store->database, in_memory ? flags | SQLITE_OPEN_CREATE : flags, NULL);
    if (code != SQLITE_OK) result = sqlite_fail(store, code, "opening", error);
  }
  if (!result) result = pragmas_set(store, read_only, error);
  if (!result) result = sqlite_schema_ready(store, read_only, error);
  if (result) {
    sqlite_close_store(&store->store);
    return result;
  }
  *ret_store = &store->store;
  return 0;
}
