/* The keeper's jobs on private key files: payloads, their handlers (worker side), their callers (loop side). */
#ifndef DKIMROLL_KEY_JOBS_H
#define DKIMROLL_KEY_JOBS_H

#include "dkimroll/keeper.h"
#include "dkimroll/keypair.h"

enum { KEY_ROOTS_MAX = 256 };

/* Directories below which keys may be made, read, archived and destroyed: fixed parts of the policy's key-directory and archive-directory,
 * and those that keys in the store were made with. A job on any other path is refused with ERROR_PERMISSION. */
struct key_roots {
  char *paths[KEY_ROOTS_MAX]; /* owned */
  size_t count;
};

/* Adds the part of template before its first %-field, cut at the last '/'. ERROR_LIMIT, ERROR_INVALID ("/" alone, or not absolute). */
int key_roots_add(struct key_roots *roots, const char *path_template, struct error *error) ERROR_USE_RESULT;
void key_roots_release(struct key_roots *roots);

/* One key to make. owner is "user:group" as in the policy and resolved by the worker. */
struct key_generate_request {
  enum key_algorithm algorithm;
  unsigned bits;
  const char *path;
  const char *owner; /* NULL: the worker's own */
  mode_t mode;
};

/* Payloads for keeper_submit. A file that is at path already: GENERATE reads it, and answers with its public half if algorithm and bits are
 * those asked for (a repetition after a crash), else ERROR_EXISTS. */
void key_jobs_generate(struct buffer *payload, const struct key_generate_request *request);
void key_jobs_path(struct buffer *payload, const char *path);                            /* READ_PUBLIC, DESTROY */
void key_jobs_archive(struct buffer *payload, const char *path, const char *directory);   /* ARCHIVE */
void key_jobs_check(struct buffer *payload, const char *path, const char *owner);         /* CHECK_KEY: keypair_check_safe as that user */
/* Reads the reply of GENERATE and READ_PUBLIC. ERROR_PROTOCOL. Caller releases. */
int key_jobs_read_public(const uint8_t *reply, size_t reply_size, struct keypair_public *ret_public, struct error *error)
    ERROR_USE_RESULT;

/* The handlers of the five kinds; roots is borrowed for ever. Returns their number (5); handlers has room for them. */
size_t key_jobs_handlers(const struct key_roots *roots, struct keeper_handler *handlers);

#endif
