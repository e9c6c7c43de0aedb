/* The keeper's jobs on OpenDKIM: its tables and its reload. Payloads, their handlers (worker side), their readers (loop
 * side). */
#ifndef DKIMROLL_OPENDKIM_JOBS_H
#define DKIMROLL_OPENDKIM_JOBS_H

#include "dkimroll/keeper.h"
#include "dkimroll/policy.h"
#include "dkimroll/signer.h"
#include "dkimroll/table_files.h"

enum {
  OPENDKIM_JOBS_COUNT = 4,
  OPENDKIM_ROOTS_MAX = 4096, /* signers of the policy, and versions of them that keys were made with */
  OPENDKIM_ITEMS_MAX = SIGNER_ITEMS_MAX,
  OPENDKIM_RELOAD_MS_MAX = 600 * 1000, /* a worker is not held longer by one reload */
};

/* One way to make a signer read its tables again. All owned. */
struct opendkim_way {
  enum reload_kind kind;
  char *target;   /* unit or pid file */
  char **command; /* ends with NULL */
};

/* What a worker may touch for one signer of the policy. All owned. */
struct opendkim_root {
  char *key_table;
  char *signing_table;
  enum signing_table_format format;
  bool multiple_signatures;
  char *key_prefix; /* paths in KeyTable begin with this: key-directory up to its first field */
  bool key_prefix_whole; /* it has no field: what follows is below it */
  struct opendkim_way reload;
  struct opendkim_way restart;
};

/* The allow-list. A job on any other table, key path or reload target is refused with ERROR_PERMISSION: the loop's
 * process may have been taken over. */
struct opendkim_roots {
  struct opendkim_root *items;
  size_t count;
};

/* Adds what signer names (copied). ERROR_LIMIT, ERROR_INVALID (a relative path), ERROR_NO_MEMORY. */
int opendkim_roots_add(struct opendkim_roots *roots, const struct policy_signer *signer,
                       struct error *error) ERROR_USE_RESULT;
void opendkim_roots_release(struct opendkim_roots *roots);
/* Whether path is where keys of the signer are, by its text: it begins as key-directory does, and leads nowhere upwards. */
bool opendkim_root_has_key(const struct opendkim_root *root, const char *path);

/* Payload of EDIT_TABLES (does it) and READ_TABLES (says what would be done, and whether it could be written). */
void opendkim_jobs_tables(struct buffer *payload, const struct policy_signer *signer, const struct table_item *items,
                          size_t count);
/* Reads their reply into outcomes (count). ERROR_PROTOCOL. */
int opendkim_jobs_read_tables(const uint8_t *reply, size_t reply_size, struct table_outcome *outcomes, size_t count,
                              struct error *error) ERROR_USE_RESULT;

/* Payload of RELOAD; signer->reload is not RELOAD_NONE. probe: only says whether it could be done. timeout_ms: for the
 * worker's wait. The reply is empty. Errors: ERROR_NOT_FOUND (unit, pid file, process, program), ERROR_PERMISSION,
 * ERROR_CONFLICT (the pid is another program's), ERROR_TIMEOUT, ERROR_REFUSED (the job or command failed: with what it
 * wrote), ERROR_UNREACHABLE (no system bus). */
void opendkim_jobs_reload(struct buffer *payload, const struct policy_signer *signer, bool probe, int64_t timeout_ms);

/* Payload of RELOAD for a restart, as policy_signer_restart says (not RELOAD_NONE): it ends every connection. The same errors. */
void opendkim_jobs_restart(struct buffer *payload, const struct policy_signer *signer, int64_t timeout_ms);

/* Payload of LOOK_TABLES, and the reader of its reply. */
void opendkim_jobs_look(struct buffer *payload, const struct policy_signer *signer, const char *known_state);
int opendkim_jobs_read_stamp(const uint8_t *reply, size_t reply_size, struct signer_stamp *ret_stamp, struct error *error) ERROR_USE_RESULT;

/* The handlers of the four kinds; roots is borrowed for ever. Returns their number (OPENDKIM_JOBS_COUNT); handlers has room for them. */
size_t opendkim_jobs_handlers(const struct opendkim_roots *roots, struct keeper_handler *handlers);

#endif
