/* Landlock (landlock(7)): a process takes rights on files away from itself and its children, whoever they run as. A second wall behind
 * users and units; where the kernel has none, nothing is done and the caller is told. */
#ifndef DKIMROLL_LANDLOCK_H
#define DKIMROLL_LANDLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "dkimroll/error.h"

enum {
  LANDLOCK_ABI_LEAST = 2, /* Linux 5.19. Before it a file could not be moved to another directory at all, which OpenDKIM's reload commands may want. */
  LANDLOCK_DENIED_MAX = 1024, /* trees that landlock_allow_except leaves out */
  LANDLOCK_RULES_MAX = 65536, /* each holds on to an inode; so many only if directories beside the denied ones are that full */
};

/* What a rule set is about, and what a rule allows. */
enum landlock_rights {
  LANDLOCK_WRITING = 1, /* writing to files, and making, renaming and removing them and directories */
  LANDLOCK_READING = 2, /* reading and executing files, listing directories */
  LANDLOCK_ALL = 3,
};

struct landlock {
  int abi;     /* 0: the kernel has no Landlock, or an older one than LANDLOCK_ABI_LEAST, and all functions do nothing */
  int ruleset; /* descriptor */
  uint64_t handled;
  size_t rules;
};

/* What the kernel offers: the version of its ABI, 0 below LANDLOCK_ABI_LEAST. */
int landlock_abi(void);

/* Begins a set of rules about rights: what no rule allows will be forbidden. Caller releases. */
int landlock_begin(enum landlock_rights about, struct landlock *ret_landlock, struct error *error) ERROR_USE_RESULT;
/* Allows rights on path and on what is below it, links followed. What does not exist yet stands for the nearest directory above it that
 * does; if that is "/", nothing is allowed. */
int landlock_allow(struct landlock *landlock, const char *path, enum landlock_rights rights, struct error *error)
    ERROR_USE_RESULT;
/* Allows rights on everything that is there now but for the trees that begin at the denied paths (absolute; links followed) or are mounted into them.
 * Rules open what is below them, so the directories above a denied one are opened entry by entry: what comes there later stays closed. */
int landlock_allow_except(struct landlock *landlock, const char *const *denied, size_t count,
                          enum landlock_rights rights, struct error *error) ERROR_USE_RESULT;
/* From now on, for this process and its children. Also sets PR_SET_NO_NEW_PRIVS. */
int landlock_enforce(struct landlock *landlock, struct error *error) ERROR_USE_RESULT;
void landlock_release(struct landlock *landlock);

#endif
