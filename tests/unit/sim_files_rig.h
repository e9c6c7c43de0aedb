/* The simulator's disk for files in a folder of its own, for tests that take one after the other. In a header, because it needs the simulator, which the helpers that
 * are linked into every test must not. */
#ifndef DKIMROLL_TESTS_SIM_FILES_RIG_H
#define DKIMROLL_TESTS_SIM_FILES_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../sim/sim_files.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"
#include "workplace.h"

static struct sim_files disk;
static struct workplace folder;

static inline char *at(const char *name) {
  return workplace_path(&folder, name);
}

static inline void disk_open(uint64_t seed) {
  /* In memory, where there is some: thousands of folders are made. */
  workplace_make(&folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
  sim_files_begin(&disk, folder.path, seed);
}

static inline void disk_close(void) {
  sim_files_end(&disk);
  workplace_remove(&folder);
}

/* A test that failed must not make the next one fail. */
static inline int disk_clean(void **state) {
  (void)state;
  if (sim_files_watched()) disk_close();
  return 0;
}

/* Of the world: durable at once. */
static inline void put(const char *name, const char *text) {
  CLEANUP_FREE char *path = at(name);
  sim_files_world_begin(&disk);
  workplace_write(path, text, 0600);
  sim_files_world_end(&disk);
}

/* Content, or NULL: there is no such file. Caller frees. */
static inline char *content(const char *name) {
  CLEANUP_FREE char *path = at(name);
  char *text = NULL;
  size_t size = 0;
  struct error error;
  return file_read(path, 1 << 20, &text, &size, NULL, &error) == 0 ? text : NULL;
}

static inline void assert_content(const char *name, const char *expected) {
  CLEANUP_FREE char *text = content(name);
  if (!text_equal(text, expected)) fail_msg("%s: \"%s\", not \"%s\"", name, text ? text : "(none)", expected ? expected : "(none)");
}

#endif
