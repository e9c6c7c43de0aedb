/* The keeper's jobs on private key files: payloads, their handlers (worker side), their callers (loop side). */
#ifndef DKIMROLL_KEY_JOBS_H
#define DKIMROLL_KEY_JOBS_H

#include "dkimroll/keeper.h"
#include "dkimroll/keypair.h"

enum {
  KEY_ROOTS_MAX = 4096, /* directories: those of POLICY_ENTRIES_MAX signers, and of earlier versions of them */
  KEY_RIGHTS_MAX = 5000, /* signers of the policy, and versions of them that keys were made with */
  KEY_JOBS_COUNT = 6, /* kinds of jobs */
};

/* Who gets private keys that are made below a directory. */
struct key_rights {
  char *root;  /* owned, as in key_roots */
  char *owner; /* owned, "user:group" as the policy says it; NULL: the worker's own */
  mode_t mode;
};

/* Directories in and below which keys may be made, read, archived and destroyed: fixed parts of the policy's key-directory and archive-directory,
 * and those that keys in the store were made with. A job on any other path is refused with ERROR_PERMISSION, and so is one that
 * a symbolic link below leads out of them. */
struct key_roots {
  char *paths[KEY_ROOTS_MAX]; /* owned */
  size_t count;
  /* A key is made or copied with one of these owners and modes only: else a loop side that was taken over could have keys handed to itself. None
   * (no signer was added): with any, for tests of the handlers alone. */
  struct key_rights *rights; /* owned */
  size_t rights_count;
};

/* Adds the part of template before its first %-field, cut at the last '/'; all of it if there is no field. One that is there already is not
 * added twice. ERROR_LIMIT, ERROR_INVALID ("/" alone, with "..", or not absolute). */
int key_roots_add(struct key_roots *roots, const char *path_template, struct error *error) ERROR_USE_RESULT;
/* Adds the key-directory of signer, with owner and mode of its keys. ERROR_LIMIT, ERROR_INVALID, ERROR_NO_MEMORY. */
int key_roots_add_signer(struct key_roots *roots, const struct policy_signer *signer, struct error *error) ERROR_USE_RESULT;
void key_roots_release(struct key_roots *roots);

/* One key to make, or to copy. owner is "user:group" as in the policy and resolved by the worker. A mode with rights for others is refused. */
struct key_generate_request {
  enum key_algorithm algorithm;
  unsigned bits;
  const char *path;   /* the file to be made */
  const char *owner; /* NULL: the worker's own */
  mode_t mode;
};

/* Payloads for keeper_submit. A file that is at path already: GENERATE reads it, and answers with its public half if algorithm and bits are
 * those asked for (a repetition after a crash), else ERROR_EXISTS. */
void key_jobs_generate(struct buffer *payload, const struct key_generate_request *request);
/* COPY: puts the private key that is at source to request->path, for another signer; algorithm and bits do not count. */
void key_jobs_copy(struct buffer *payload, const char *source, const struct key_generate_request *request);
void key_jobs_path(struct buffer *payload, const char *path);                            /* READ_PUBLIC, DESTROY */
void key_jobs_archive(struct buffer *payload, const char *path, const char *directory);   /* ARCHIVE */
void key_jobs_check(struct buffer *payload, const char *path, const char *owner);         /* CHECK_KEY: keypair_check_safe as that user */
/* Reads the reply of GENERATE, COPY and READ_PUBLIC. ERROR_PROTOCOL. Caller releases. */
int key_jobs_read_public(const uint8_t *reply, size_t reply_size, struct keypair_public *ret_public, struct error *error)
    ERROR_USE_RESULT;

/* The handlers of all kinds; roots is borrowed for ever. Returns their number; handlers has room for KEY_JOBS_COUNT. */
size_t key_jobs_handlers(const struct key_roots *roots, struct keeper_handler *handlers);

#endif
