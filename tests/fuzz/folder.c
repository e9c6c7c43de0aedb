#include "folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"
#include "fuzz.h"

enum { DEPTH_MAX = 16, FILE_MAX = 4096 };

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *place) {
  (void)status, (void)kind, (void)place;
  return remove(path);
}

void folder_remove(const char *folder) { (void)nftw(folder, remove_entry, DEPTH_MAX, FTW_DEPTH | FTW_PHYS); }

void folder_write(const char *folder, const char *name, const char *text) {
  CLEANUP_FREE char *path = text_format("%s/%s", folder, name);
  CLEANUP_CLOSE int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  FUZZ_HOLDS(descriptor >= 0 && write(descriptor, text, strlen(text)) == (ssize_t)strlen(text), "cannot write %s", path);
}

void folder_expect(const char *folder, const char *name, const char *expected) {
  CLEANUP_FREE char *path = text_format("%s/%s", folder, name);
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  struct error error = {0};
  FUZZ_HOLDS(file_read(path, FILE_MAX, &text, &size, NULL, &error) == 0, "%s", error.message);
  FUZZ_HOLDS(text_equal(text, expected), "%s is not as it was", path);
}

void folder_look(const char *folder, folder_entry *look) { FUZZ_HOLDS(nftw(folder, look, DEPTH_MAX, FTW_PHYS) == 0, "the folder is gone"); }
