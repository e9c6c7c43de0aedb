#include <string.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/store_sqlite.h"
#include "dkimroll/text.h"

enum { LEASE_TEXT_MAX = 512 };

/* What the present holder wrote, for the message; it may have just ended. */
static void holder_read(const char *path, char *buffer, size_t size) {
  char *text = NULL;
  size_t text_size = 0;
  struct error unused;
  text_copy(buffer, size, "another dkimroll");
  if (file_read(path, LEASE_TEXT_MAX, &text, &text_size, NULL, &unused)) return;
  text[strcspn(text, "\n")] = '\0';
  if (text[0]) text_printable(text, strlen(text), buffer, size);
  free(text);
}

int sqlite_lease(struct store *base, const char *holder, int64_t now, struct error *error) {
  struct sqlite_store *store = sqlite_store_of(base);
  char moment[TIME_TEXT_SIZE], text[LEASE_TEXT_MAX];
  if (store->lock >= 0 || store->in_memory) return 0;
  CLEANUP_FREE char *path = text_format("%s.lock", store->path);
  if (!path) return error_set(error, ERROR_NO_MEMORY, "out of memory");
  int result = file_lock(path, &store->lock, error);
  if (result == ERROR_BUSY) {
    holder_read(path, text, sizeof text);
    error_set(error, ERROR_BUSY, "store %s is in use by %s", store->path, text);
    return error_remedy(error, "wait until it has ended; only one dkimroll works on a store at a time");
  }
  if (result) return result;
  const int size = snprintf(text, sizeof text, "%s, pid %d, since %s\n", holder, (int)getpid(), time_format(now, moment));
  /* The text is only for others to read; the lock is the lease. */
  if (ftruncate(store->lock, 0) < 0 || pwrite(store->lock, text, (size_t)size, 0) < 0)
    return error_set(error, ERROR_SYSTEM, "store %s: the lock file cannot be written", store->path);
  return 0;
}

void sqlite_lease_end(struct sqlite_store *store) {
  if (store->lock >= 0) close(store->lock);
  store->lock = -1;
}
