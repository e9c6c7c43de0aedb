/* What stands in the tables of an OpenDKIM, and in the directories of its keys: for `dkimroll import`, and before a private key that was adopted is destroyed. The
 * keeper reads private keys, also those that stand in a KeyTable itself, and tells their public halves; nothing is changed. */
#ifndef DKIMROLL_SURVEY_H
#define DKIMROLL_SURVEY_H

#include "dkimroll/keeper.h"
#include "dkimroll/keypair.h"
#include "dkimroll/opendkim_jobs.h"
#include "dkimroll/table.h"

enum {
  SURVEY_JOBS_COUNT = 2,
  SURVEY_KEYS_MAX = 1000000,      /* entries of one KeyTable and files beside it */
  SURVEY_FILES_MAX = 1000,        /* private key files that are looked at in one directory */
  SURVEY_DOMAINS_MAX = 2000000,   /* as many as a policy has */
  SURVEY_PATHS_MAX = 8000,        /* of one question for users: a batch of 1000 destructions at 8 signers */
};

/* Where the private key of an entry is. */
enum survey_place {
  SURVEY_FILE = 1,    /* path names it */
  SURVEY_INLINE = 2,  /* the KeyTable holds the key itself; path is empty */
  SURVEY_UNNAMED = 3, /* a file in a key directory that no KeyTable entry names; line is 0 */
};

/* One key. Texts are owned. */
struct survey_key {
  unsigned line;             /* in KeyTable */
  enum survey_place place;
  bool every;                /* the entry serves the domain of whoever sends, by "%" in its first field; it is told once for each domain that was asked for */
  bool literal;              /* the entry says domain:selector:path in just these words */
  char *name;                /* key name; "" for SURVEY_UNNAMED */
  char *domain;              /* lower case */
  char *selector;            /* second field, or the name of the file without ".private" */
  char *path;                /* with every "%" replaced by domain, as OpenDKIM does it */
  int64_t modified;          /* of the file, wall seconds; 0 unknown */
  struct keypair_public public_half; /* public_key NULL: it could not be read, see problem, or was not asked for */
  char *problem;             /* why; "" none */
};

/* All of one signer. */
struct survey {
  struct survey_key *keys; /* owned; KeyTable entries in the order of their lines, then files */
  size_t count;
  struct table *signing;   /* owned */
};
void survey_release(struct survey *survey);

/* Payload of SURVEY: of which domains (sorted by strcmp, lower case) keys are read and key directories listed. Entries of all others are told without a public half, and
 * "%" entries once for each of these, of at most SURVEY_EVERY_MAX. */
enum { SURVEY_EVERY_MAX = 1000 };
void survey_request(struct buffer *payload, const struct policy_signer *signer, const char *const *domains, size_t count);
/* Reads its reply. kind: of the SigningTable; path: its name in messages. ERROR_PROTOCOL, ERROR_NO_MEMORY, ERROR_INVALID. Caller releases. */
int survey_read(const uint8_t *reply, size_t reply_size, const struct policy_signer *signer, struct survey *ret_survey,
                struct error *error) ERROR_USE_RESULT;

/* Payload of KEY_USERS: does any KeyTable of any signer name one of these files, by whatever path? paths: at most SURVEY_PATHS_MAX. */
void survey_request_users(struct buffer *payload, const char *const *paths, size_t count);
/* Reads its reply: ret_users[i] is "KeyTable /etc/opendkim/KeyTable, line 4", or NULL for a path that nobody names. Caller frees each. */
int survey_read_users(const uint8_t *reply, size_t reply_size, char **ret_users, size_t count, struct error *error)
    ERROR_USE_RESULT;

/* The handlers; roots is borrowed for ever. Returns SURVEY_JOBS_COUNT. */
size_t survey_handlers(const struct opendkim_roots *roots, struct keeper_handler *handlers);

#endif
