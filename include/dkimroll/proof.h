/* `dkimroll prove`: asks every authoritative server for the record of each active key, sends a message of each sender
 * through each signer, and verifies what comes back. Reads the store and changes nothing, so it needs no lease and works
 * beside a run. Internal to src/cli/proof*.c. */
#ifndef DKIMROLL_PROOF_H
#define DKIMROLL_PROOF_H

#include "dkimroll/columns.h"
#include "dkimroll/findings.h"
#include "dkimroll/json.h"
#include "dkimroll/session.h"

enum {
  PROOF_BATCH = 500,          /* keys at a time; with the last domain's slots still below OBSERVE_ITEMS_MAX */
  PROOF_SLICE = 1000,         /* messages of one operation of a signer */
  PROOF_SECONDS = 60,         /* for one batch */
  PROOF_SERVERS_SECONDS = 20, /* of these for the name servers */
  PROOF_VERSIONS_MAX = 4,     /* different records that servers give for one name; more are not tried, but told */
};

/* A record that some servers serve, and what signatures must verify with for whoever asks them. */
struct proof_version {
  char *record; /* owned */
  char *server; /* the first that serves it; owned; NULL: none does, and it is the expected one */
};

/* One active key. */
struct proof_key {
  struct lineage lineage;         /* a copy */
  const struct key *key;          /* in it */
  struct error error;             /* code 0: servers says it all */
  struct observe_server *servers; /* owned */
  size_t server_count;
  struct proof_version versions[PROOF_VERSIONS_MAX];
  size_t version_count;
};

/* One message: a sender of a domain at a signer, to be verified with one version of the record. */
struct proof_item {
  const struct proof_key *key;
  const char *sender;
  const struct proof_version *version;
  int code;            /* of enum error_code; 0: good */
  char *text, *remedy; /* owned; NULL unless it failed */
};

/* The messages of one signer. */
struct proof_signer {
  struct proof *proof;
  int64_t id; /* row of the signer version */
  const struct policy_signer *policy;
  struct signer *signer; /* owned */
  struct signer_operation *operation;
  struct signer_item *asked; /* owned; the slice under way */
  struct proof_item *items;  /* owned */
  size_t count, room;
  size_t next; /* first that was not sent yet */
};

struct proof {
  const struct cli *cli;
  struct session session;
  struct findings findings;
  struct json json;
  size_t good, failed; /* messages */
  /* Where the reading of the store stands. */
  size_t operand; /* next one */
  int64_t after;  /* without operands: the last lineage that was read */
  /* The batch. */
  struct proof_key *keys; /* owned */
  size_t key_count, key_room;
  struct observe_item *asked; /* owned */
  struct observe_operation *observation;
  struct proof_signer *signers; /* owned */
  size_t signer_count;
  size_t working; /* signers that are not through */
  struct loop_source *ending;
  int64_t deadline;    /* boottime, milliseconds */
  struct error *error; /* of the whole command */
};

/* proof_batch.c. Proves proof->keys, then calls proof_batch_done (proof.c) from the loop. */
int proof_batch_start(struct proof *proof, struct error *error) ERROR_USE_RESULT;
void proof_batch_done(struct proof *proof);
/* Forgets the batch, whatever is under way. */
void proof_batch_release(struct proof *proof);

/* proof_report.c. The batch's rows, and what is wrong into findings. */
int proof_report_batch(struct proof *proof, struct error *error) ERROR_USE_RESULT;
void proof_report_begin(struct proof *proof);
/* The findings and the verdict; returns the exit status. */
int proof_report_end(struct proof *proof);

#endif
