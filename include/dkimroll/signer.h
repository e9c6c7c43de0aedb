/* Signers: the software that signs, local to this host. An ops table; opendkim is the first. */
#ifndef DKIMROLL_SIGNER_H
#define DKIMROLL_SIGNER_H

#include "dkimroll/connector.h"
#include "dkimroll/entropy.h"
#include "dkimroll/error.h"
#include "dkimroll/keeper.h"
#include "dkimroll/loop.h"
#include "dkimroll/policy.h"
#include "dkimroll/selector.h"

enum { SIGNER_ITEMS_MAX = 5000 /* of one operation: their table edits fit one message of the keeper (KEEPER_MESSAGE_MAX) */ };

/* One key of one domain at one signer. Strings are borrowed until done. */
struct signer_item {
  const char *domain;
  const char *selector;          /* ACTIVATE, PROVE: the key that must sign. WITHDRAW: the key whose entry goes. CHECK: NULL if there is no key yet */
  const char *key_path;          /* of that selector; NULL: as the policy has it */
  const char *record;            /* ACTIVATE, PROVE: content of its TXT RR as the authoritative servers serve it: what signatures must verify with */
  const char *previous_selector; /* ACTIVATE: the key that signs until now, NULL for the first; WITHDRAW: the key that signs */
  const char *previous_key_path;
  const char *key_name;          /* in KeyTable, of selector and of previous_selector; NULL: as the policy has it. Adopted keys keep the names that they had */
  const char *previous_key_name;
  bool adopted;                  /* `import` took the key over, so its entry may be of another form ("%", the key itself), and then stays, and other lines may
                                  * go on naming its file, which is looked after when it is to be destroyed */
  const char *previous_record;   /* ACTIVATE: for the proof after a roll-back */
  bool restart;                  /* ACTIVATE, WITHDRAW: connections that are open must not go on with the tables as they were: the signer is restarted, if it can be, once the new key is proved */
  bool compare;                  /* PROVE: the lines on the disk are looked for, too: the signer may not have noticed yet that somebody removed them. Not of adopted keys */
  bool stays;                    /* ACTIVATE: the key signs already by what dkimroll knows, and its lines are put right: nothing is taken back */
  const char *const *senders; /* patterns of the SigningTable: "*@example.com", "@example.com", "user@example.com", "*" */
  size_t sender_count;
};

struct signer_result {
  struct error error;    /* code 0: done and proved */
  bool restarted;        /* as the item asked for */
  char restart_failure[256]; /* it was tried, and this came of it; empty: else */
  bool rolled_back;      /* ACTIVATE failed, and the tables of this item are as before and proved on the old key */
  int64_t switched_at;   /* wall seconds: tables on disk with the new entry; 0 never */
  int64_t completed_at;  /* wall seconds: proof arrived (ACTIVATE, PROVE), or tables written and reload asked for (WITHDRAW) */
};

/* What the signer reads, as far as anybody else may change it. */
enum { SIGNER_DIGEST_SIZE = 65, SIGNER_STATE_SIZE = 256 };
struct signer_stamp {
  char digest[SIGNER_DIGEST_SIZE]; /* SHA-256 of the tables' contents, hexadecimal; empty: as it was known, nothing was read */
  char state[SIGNER_STATE_SIZE];   /* what a look without reading shows */
};
typedef void signer_looked(void *context, const struct signer_stamp *stamp, const struct error *error); /* error->code 0: stamp is valid */

typedef void signer_done(void *context, const struct signer_result *results, size_t count);

struct signer;
struct signer_operation;

struct signer_ops {
  /* Switches items to their new keys: KeyTable entry added (the old one stays), SigningTable switched, reload, proof by a message for each sender on a new
   * connection, whose signature is verified; items that fail are taken back by the inverse edit, reloaded, and proved on the old key. Idempotent. */
  int (*activate)(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                  signer_done *done, void *context, struct signer_operation **ret_operation, struct error *error);
  /* Removes the KeyTable entries of keys that do not sign any more. A sender whose SigningTable entry still names one is pointed at previous_selector's key, or removed
   * if there is none. ERROR_CONFLICT: somebody else's line names the key or its file, which must live on. */
  int (*withdraw)(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                  signer_done *done, void *context, struct signer_operation **ret_operation, struct error *error);
  /* Only the proof: one message for each sender. ERROR_PROOF says what the signer did instead, or will when it reads its tables again (compare). */
  int (*prove)(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
               signer_done *done, void *context, struct signer_operation **ret_operation, struct error *error);
  /* For `dkimroll check`: tables readable and writable, foreign lines that would match first, reload possible, milter answering. One
   * result for each item, and result[count] for the signer as a whole. */
  int (*check)(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
               signer_done *done, void *context, struct signer_operation **ret_operation, struct error *error);
  /* Cheap: the stamp of the tables as they are now; known_state: what was known, may be empty. NULL: this signer has nothing that others might change. */
  int (*look)(struct signer *signer, const char *known_state, int64_t deadline, signer_looked *done, void *context,
              struct signer_operation **ret_operation, struct error *error);
  void (*cancel)(struct signer *signer, struct signer_operation *operation);
  void (*destroy)(struct signer *signer);
};

struct signer {
  const struct signer_ops *ops;
};

/* Thin callers. A started operation must not be cancelled after done; signer_cancel sets *operation to NULL, and done does not come. What it has begun on disk
 * stays as it is: doing it again goes on from there. */
int signer_activate(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline, signer_done *done,
                    void *context, struct signer_operation **ret_operation, struct error *error) ERROR_USE_RESULT;
int signer_withdraw(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline, signer_done *done,
                    void *context, struct signer_operation **ret_operation, struct error *error) ERROR_USE_RESULT;
int signer_prove(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline, signer_done *done,
                 void *context, struct signer_operation **ret_operation, struct error *error) ERROR_USE_RESULT;
int signer_check(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline, signer_done *done,
                 void *context, struct signer_operation **ret_operation, struct error *error) ERROR_USE_RESULT;
void signer_cancel(struct signer *signer, struct signer_operation **operation);
void signer_destroy(struct signer *signer); /* NULL is fine */

/* OpenDKIM: tables and reload through keeper, the proof through a milter connection of its own, by connector and its loop. policy is
 * borrowed. */
int signer_opendkim_new(struct connector *connector, struct keeper *keeper, struct entropy *entropy,
                        const struct policy_signer *policy, struct signer **ret_signer, struct error *error)
    ERROR_USE_RESULT;

#endif
