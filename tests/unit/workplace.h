/* A temporary folder for a test, removed with all that is in it. */
#ifndef DKIMROLL_TESTS_WORKPLACE_H
#define DKIMROLL_TESTS_WORKPLACE_H

#include <sys/types.h>

struct workplace {
  char path[64];
};

/* Makes a folder of mode 0755 in parent ("/tmp", or "/run" where a parent that everybody writes to disturbs). Fails the test if it cannot. */
void workplace_make(struct workplace *workplace, const char *parent);
void workplace_remove(struct workplace *workplace);
/* For a test whose state is one in /tmp, and nothing else. */
int workplace_setup(void **state);
int workplace_teardown(void **state);
/* The path of a name in it; caller frees. */
char *workplace_path(const struct workplace *workplace, const char *name);
/* Writes a file with that mode. */
void workplace_write(const char *path, const char *text, mode_t mode);
/* Writes a file of mode 0644 under a name in it, with the folders that it lies in. */
void workplace_put(const struct workplace *workplace, const char *name, const char *text);

#endif
