#include "workplace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"

enum { WORKPLACE_DEPTH_MAX = 16 };

void workplace_make(struct workplace *workplace, const char *parent) {
  int used = snprintf(workplace->path, sizeof(workplace->path), "%s/dkimroll-test-XXXXXX", parent);
  assert_true(used > 0 && (size_t)used < sizeof(workplace->path));
  assert_non_null(mkdtemp(workplace->path));
  assert_int_equal(chmod(workplace->path, 0755), 0);
}

static int workplace_remove_one(const char *path, const struct stat *status, int kind, struct FTW *place) {
  (void)status, (void)kind, (void)place;
  return remove(path);
}

void workplace_remove(struct workplace *workplace) {
  if (workplace->path[0] == '\0') return;
  nftw(workplace->path, workplace_remove_one, WORKPLACE_DEPTH_MAX, FTW_DEPTH | FTW_PHYS);
  workplace->path[0] = '\0';
}

int workplace_setup(void **state) {
  static struct workplace workplace;
  workplace_make(&workplace, "/tmp");
  *state = &workplace;
  return 0;
}

int workplace_teardown(void **state) {
  workplace_remove(*state);
  return 0;
}

char *workplace_path(const struct workplace *workplace, const char *name) {
  char *path = text_format("%s/%s", workplace->path, name);
  assert_non_null(path);
  return path;
}

void workplace_write(const char *path, const char *text, mode_t mode) {
  int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  assert_true(descriptor >= 0);
  assert_int_equal(write(descriptor, text, strlen(text)), strlen(text));
  assert_int_equal(fchmod(descriptor, mode), 0);
  close(descriptor);
}

void workplace_put(const struct workplace *workplace, const char *name, const char *text) {
  const struct file_rights rights = {.owner = geteuid(), .group = getegid(), .mode = 0755};
  struct error error = {0};
  CLEANUP_FREE char *path = workplace_path(workplace, name);
  CLEANUP_FREE char *directory = text_duplicate(path);
  assert_non_null(directory);
  *strrchr(directory, '/') = '\0';
  assert_int_equal(file_make_directories(directory, &rights, &error), 0);
  workplace_write(path, text, 0644);
}
