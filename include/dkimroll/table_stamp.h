/* Whether the tables were changed: cheap by what stat(2) says, for certain by their digest. */
#ifndef DKIMROLL_TABLE_STAMP_H
#define DKIMROLL_TABLE_STAMP_H

#include "dkimroll/signer.h"
#include "dkimroll/table_files.h"

/* What stat(2) says of both files, links followed: sizes, inodes, devices and times, as one line of text. A file that is not there is part of it.
 * ERROR_PERMISSION: this process may not look, which says nothing about the files. */
int table_files_state(const char *key_table, const char *signing_table, char state[SIGNER_STATE_SIZE], struct error *error) ERROR_USE_RESULT;

/* The state, and the digest of both contents; known_state (may be NULL or empty): the digest stays empty if the state is the same, and nothing was read.
 * Blocking: for the keeper's workers. */
int table_files_stamp(const struct table_files *files, const char *known_state, struct signer_stamp *ret_stamp, struct error *error) ERROR_USE_RESULT;

#endif
