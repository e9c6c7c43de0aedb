/* Deeds that cannot be undone, done by a child process: what gives up rights, or closes itself in. */
#ifndef DKIMROLL_TESTS_FORKED_H
#define DKIMROLL_TESTS_FORKED_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Ends the deed with a word about what was not so. */
#define FORKED_EXPECT(condition)                                                                                       \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);                        \
      return 1;                                                                                                        \
    }                                                                                                                  \
  } while (0)

/* The exit status of a child that does deed; -1 if a signal ended it. */
static inline int forked(int (*deed)(const void *context), const void *context) {
  int status = 0;
  fflush(NULL);
  const pid_t child = fork();
  if (child == 0) _exit(deed(context));
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

static inline bool forked_can_open(const char *path, int flags) {
  const int descriptor = open(path, flags | O_CLOEXEC, 0600);
  if (descriptor >= 0) close(descriptor);
  return descriptor >= 0;
}

#endif
