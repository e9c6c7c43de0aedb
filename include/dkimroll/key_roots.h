/* How the handlers of key_jobs.h judge the paths that they are given. */
#ifndef DKIMROLL_KEY_ROOTS_H
#define DKIMROLL_KEY_ROOTS_H

#include "dkimroll/error.h"
#include "dkimroll/key_jobs.h"

/* An absolute path without "//", "/./" and a final "/". Caller frees. ERROR_INVALID: relative, too long, or with "..". */
int key_path_normalise(const char *path, char **ret_path, struct error *error) ERROR_USE_RESULT;

/* Whether directory, normalised, is one of roots or below one, also behind symbolic links. ERROR_PERMISSION. */
int key_roots_check(const struct key_roots *roots, const char *directory, struct error *error) ERROR_USE_RESULT;

/* The real path of the file at path, whose directory key_roots_check has let pass: a link in its place must not lead out of roots either. Caller frees. ERROR_PERMISSION,
 * ERROR_NOT_FOUND. */
int key_roots_resolve_file(const struct key_roots *roots, const char *path, char **ret_real, struct error *error) ERROR_USE_RESULT;

/* Whether a key may be made in directory, which key_roots_check has let pass, for owner ("" or NULL: the worker's own) with mode. ERROR_PERMISSION. */
int key_roots_check_rights(const struct key_roots *roots, const char *directory, const char *owner, mode_t mode,
                           struct error *error) ERROR_USE_RESULT;

#endif
