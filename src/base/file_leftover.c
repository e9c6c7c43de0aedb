/* Files under temporary names whose writers were killed. */
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"

static bool is_temporary(const char *entry, const char *beginning) {
  const size_t length = strlen(beginning);
  return text_starts(entry, beginning) && strlen(entry) == length + FILE_TEMPORARY_DIGITS && strspn(entry + length, "0123456789abcdef") == FILE_TEMPORARY_DIGITS;
}

/* Only a file of this user: in a directory of others the name alone says nothing. Under the lock its writer, if he lives after all, sees that it was taken from him, and begins
 * again. */
static void remove_dead(int directory, const char *entry) {
  CLEANUP_CLOSE int descriptor = openat(directory, entry, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  struct stat status;
  if (descriptor < 0 || fstat(descriptor, &status) < 0 || !S_ISREG(status.st_mode) || (status.st_uid != geteuid() && geteuid() != 0)) return;
  if (flock(descriptor, LOCK_EX | LOCK_NB) == 0) unlinkat(directory, entry, 0);
}

void file_remove_leftovers(int directory, const char *name) {
  char beginning[FILE_NAME_PART_MAX + sizeof "." FILE_TEMPORARY_MARK];
  snprintf(beginning, sizeof beginning, ".%.*s" FILE_TEMPORARY_MARK, FILE_NAME_PART_MAX, name);
  const int again = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *listing = again < 0 ? NULL : fdopendir(again);
  if (!listing && again >= 0) close(again);
  if (!listing) return;
  const struct dirent *entry;
  for (int i = 0; i < FILE_LEFTOVER_LOOKS_MAX && (entry = readdir(listing)); i++)
    if (is_temporary(entry->d_name, beginning)) remove_dead(directory, entry->d_name);
  closedir(listing);
}
