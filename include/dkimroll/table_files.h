/* Both tables on disk: read, edited in memory, written atomically in the order that never lets them contradict: a name
 * that SigningTable gives is in KeyTable at every instant. So KeyTable is renamed first, or second if an edit takes
 * entries out of it. OpenDKIM reads SigningTable, then KeyTable: a reload between both would still find an old
 * SigningTable and a KeyTable that lacks what it names, so who takes away does it in two jobs, with a reload that is
 * known to have happened between them. Blocking: for the keeper's workers. */
#ifndef DKIMROLL_TABLE_FILES_H
#define DKIMROLL_TABLE_FILES_H

#include "dkimroll/table.h"

enum {
  TABLE_FILES_ATTEMPTS_MAX = 5
}; /* how often somebody else may change a table between our reading and our rename */

struct table_files {
  const char *key_table;
  const char *signing_table;
  enum signing_table_format format;
  bool multiple_signatures;
};

/* Applies items to both files (table_apply). A flock(2) on the KeyTable itself keeps other dkimroll processes out
 * (ERROR_BUSY: try again). Symbolic links are resolved; owner, group and mode stay; a missing file is made if its
 * directory exists (with the directory's owner and group, mode 0644). New contents are on disk under temporary names
 * before the first rename, so that a full disk changes nothing; immediately before it both files are compared with what
 * was read, and read again if they changed (ERROR_CONFLICT, retryable, after TABLE_FILES_ATTEMPTS_MAX). A file that no
 * edit changes is not written. An error is that of the whole: nothing was changed, except that the second rename alone
 * may have failed, which leaves files that agree. */
int table_files_edit(const struct table_files *files, const struct table_item *items, size_t count,
                     struct table_outcome *outcomes, struct error *error) ERROR_USE_RESULT;

/* What table_files_edit would do, without doing it, and without asking for the private key files; and whether it could
 * write (a file is made beside each table, and removed). */
int table_files_try(const struct table_files *files, const struct table_item *items, size_t count,
                    struct table_outcome *outcomes, struct error *error) ERROR_USE_RESULT;

#endif
