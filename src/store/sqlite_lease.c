#include "dkimroll/store_sqlite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"

enum { LEASE_TEXT_MAX = 512 }; /* "dkimroll run, pid 4711, since 2026-01-24 15:04:05 UTC" */

/* What the holder wrote, for the message alone. It is empty for the moment between taking the lock and writing, and after the end. */
static void holder_read(const char *path, char *buffer, size_t size) {
  CLEANUP_FREE char *text = NULL;
  size_t text_size;
  text_copy(buffer, size, "another dkimroll");
  if (file_read(path, LEASE_TEXT_MAX, &text, &text_size, NULL, NULL)) return;
  text_size = strcspn(text, "\n");
  if (text_size > 0) text_printable(text, text_size, buffer, size);
}

static int holder_write(struct sqlite_store *store, const char *holder, int64_t now, struct error *error) {
  char text[LEASE_TEXT_MAX];
  char moment[TIME_TEXT_SIZE];
  snprintf(text, sizeof text, "%s, pid %ld, since %s", holder, (long)getpid(), time_format(now, moment));
  const ssize_t size = (ssize_t)strlen(text);
  if (ftruncate(store->lock, 0) == 0 && pwrite(store->lock, text, (size_t)size, 0) == size) return 0;
  return error_set_errno(error, errno, "store %s: writing its lock file", store->path);
}

int sqlite_lease(struct store *base, const char *holder, int64_t now, struct error *error) {
  struct sqlite_store *store = sqlite_store_of(base);
  if (store->lock >= 0 || store->in_memory) return 0;
  CLEANUP_FREE char *path = text_format("%s.lock", store->path);
  if (!path) return error_set(error, ERROR_NO_MEMORY, "store %s: out of memory", store->path);
  int code = file_lock(path, &store->lock, error);
  if (code == ERROR_BUSY) {
    char other[LEASE_TEXT_MAX];
    holder_read(path, other, sizeof other);
    error_set(error, ERROR_BUSY, "store %s is in use by %s", store->path, other);
    return error_remedy(error, "wait until it has ended; only one dkimroll works on a store at a time");
  }
  if (!code) code = sqlite_owner_adopt(store->lock, store->path, error);
  if (!code) code = holder_write(store, holder, now, error);
  if (code) sqlite_lease_end(store);
  return code;
}

void sqlite_lease_end(struct sqlite_store *store) {
  if (store->lock < 0) return;
  /* The text is for others to read, and the lock is the lease: if it stays, the next holder overwrites it. */
  if (ftruncate(store->lock, 0) < 0) errno = 0;
  close(store->lock);
  store->lock = -1;
}
