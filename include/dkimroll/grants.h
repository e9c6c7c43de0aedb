/* The keeper's memory of what a policy once granted: signers with their tables, key directories and reloads, and archive directories. Keys that live
 * are undone with what they were made with, also after the policy changed; the store knows that too, but belongs to the loop side, which must
 * not be able to widen what the keeper does for it. So the keeper writes it down itself, in a file of its own user. One line for each grant,
 *   signer {"NAME": {...}}
 *   archive /path/%d
 * in which signer lines have the form of policy_signer_format. Lines that begin with '#' and empty ones are left alone. Taking a line out, by
 * hand, takes the grant back, unless the policy makes it anew. */
#ifndef DKIMROLL_GRANTS_H
#define DKIMROLL_GRANTS_H

#include <stddef.h>

#include "dkimroll/policy.h"

enum {
  GRANTS_MAX = 3000,                  /* with those of the policy, as many signers as the keeper compares a job with (OPENDKIM_ROOTS_MAX) */
  GRANTS_FILE_MAX = 16 * 1024 * 1024, /* of a line of 4 KiB each, which is a signer with long paths and a long command */
};
#define GRANTS_DIRECTORY_DEFAULT "/var/lib/dkimroll-keeper"
#define GRANTS_FILE_NAME "grants"
#define GRANTS_WORD_SIGNER "signer " /* begins a line of a signer */

struct grant {
  char *line;                   /* as it stands in the file */
  struct policy_signer *signer; /* NULL: it is an archive */
  const char *archive;          /* in line */
};

struct grants {
  struct grant *items;
  size_t count;
};

/* Reads what is in directory, adds what policy grants beyond it, and writes that down before it returns. The directory is made if it is missing; a file lock
 * keeps other keepers out meanwhile. ERROR_PERMISSION: file or directory belong to somebody else than root or the user of this process, or
 * others may write to them; ERROR_INVALID: a line that cannot be understood, with its number; ERROR_LIMIT: too many. Caller releases. */
int grants_extend(const char *directory, const struct policy *policy, struct grants *ret_grants,
                  struct error *error) ERROR_USE_RESULT;
/* Only what stands there, without any change; a missing file is an empty one. */
int grants_read(const char *directory, struct grants *ret_grants, struct error *error) ERROR_USE_RESULT;
void grants_release(struct grants *grants);

#endif
