/* The inside of the OpenDKIM signer, shared by opendkim*.c: what an item is in the tables, and the steps of which its
 * operations consist. */
#ifndef DKIMROLL_OPENDKIM_H
#define DKIMROLL_OPENDKIM_H

#include "dkimroll/opendkim_jobs.h"
#include "dkimroll/prove.h"
#include "dkimroll/signer.h"

enum {
  OPENDKIM_BUSY_RETRY_MS = 100, /* another process edits the tables: a matter of milliseconds */
  OPENDKIM_SETTLE_MS = 2000,    /* a signal that has not arrived by then is not what makes a proof fail */
  OPENDKIM_PAYLOAD_MAX = KEEPER_MESSAGE_MAX - 1024,
};

/* Stands for the selector of an item that has none (only check allows it). */
#define OPENDKIM_NO_SELECTOR "dkimroll-check"

struct opendkim_sender {
  char *pattern; /* as it stands in this signer's SigningTable */
  char *address; /* that proof messages come from */
};

/* One item as this signer's tables have it. All owned. */
struct opendkim_entry {
  char *name;        /* key name of selector */
  char *value;       /* domain:selector:path */
  char *before_name; /* of previous_selector; NULL: none */
  char *before_value;
  bool adopted; /* its entry need not say value, and others may name the same file */
  bool stays;   /* the key signs already: an entry that it lacks is written again */
  struct opendkim_sender *senders;
  size_t sender_count;
  uint8_t made[TABLE_EDITS_MAX]; /* by the edits of the switch: KeyTable first, then each sender */
};

/* ERROR_CONFIG: what the policy says cannot be expressed in these tables. Released also after failure. */
int opendkim_entry_make(const struct policy_signer *policy, const struct signer_item *item,
                        struct opendkim_entry *entry, struct error *error) ERROR_USE_RESULT;
void opendkim_entry_release(struct opendkim_entry *entry);
/* Is there anything to go back to? Not if the tables named the key already and no earlier key is known: it may be all
 * that signs. */
bool opendkim_entry_can_undo(const struct opendkim_entry *entry);

/* Write the edits of one item (at most TABLE_EDITS_MAX) and return their number. switch: KeyTable entry added or
 * replaced, senders pointed at it. undo: what the switch made of the senders (and of a stable entry) taken back;
 * undo_key: the KeyTable entry that it added goes (0: none). heal: senders that still name the withdrawn key are
 * pointed at the one that signs, or removed if there is none; withdraw: its KeyTable entry goes. */
size_t opendkim_edits_switch(const struct opendkim_entry *entry, struct table_edit *edits);
size_t opendkim_edits_undo(const struct opendkim_entry *entry, struct table_edit *edits);
size_t opendkim_edits_undo_key(const struct opendkim_entry *entry, struct table_edit *edits);
size_t opendkim_edits_heal(const struct opendkim_entry *entry, struct table_edit *edits);
size_t opendkim_edits_withdraw(const struct opendkim_entry *entry, struct table_edit *edits);
typedef size_t opendkim_edits(const struct opendkim_entry *entry, struct table_edit *edits);

struct signer_opendkim {
  struct signer signer; /* first */
  struct connector *connector;
  struct loop *loop;
  struct keeper *keeper;
  struct entropy *entropy;
  const struct policy_signer *policy;
  struct signer_operation *operations; /* open ones */
};

/* Where an item stands in its operation. */
enum opendkim_state {
  OPENDKIM_OPEN = 0,
  OPENDKIM_ENDED = 1,   /* its result stands */
  OPENDKIM_FAILING = 2, /* its error stands; its edits are to be taken back */
};

typedef void opendkim_next(struct signer_operation *operation, const struct error *error);

struct signer_operation {
  struct signer_opendkim *signer;
  struct signer_operation *next_operation;
  const struct signer_item *items; /* borrowed */
  size_t count;
  int64_t deadline;
  int64_t middle; /* until when it may go forward; the rest of the time is for going back */
  signer_done *done;
  signer_looked *looked; /* of a look alone */
  char known_state[SIGNER_STATE_SIZE];
  void *context;
  struct opendkim_entry *entries;
  enum opendkim_state *states;
  struct signer_result *results; /* count + 1 */
  bool whole;                    /* done gets count + 1 results */
  /* The step under way: one of a timer, a keeper's job and a proof. */
  opendkim_next *next;
  struct loop_source *timer;
  struct opendkim_ticket *ticket;
  struct prove *prove;
  /* The batch of the step: which items it is about, and their outcomes. */
  size_t *batch;
  size_t batch_count;
  opendkim_edits *edits;
  enum keeper_job job;
  int64_t step_deadline;
  struct table_outcome *outcomes; /* batch_count */
  struct prove_message *messages;
  const struct prove_result *proofs; /* borrowed during next */
};

/* Makes an operation with its entries; items that cannot be expressed have ended with their error. first is called from
 * the loop. */
int opendkim_operation_new(struct signer_opendkim *signer, const struct signer_item *items, size_t count,
                           int64_t deadline, signer_done *done, void *context, opendkim_next *first,
                           struct signer_operation **ret_operation, struct error *error) ERROR_USE_RESULT;
/* Frees it without done. */
void opendkim_operation_free(struct signer_operation *operation);
/* Calls done and frees it. */
void opendkim_operation_finish(struct signer_operation *operation);

/* The steps. Each ends with one call of next, from the loop (or at once if it cannot begin), with code 0 or the error
 * of the whole step. Each is about the items that are in state. */

/* The edits of every item as one job on the tables; a busy table is tried again until deadline. Outcomes:
 * operation->outcomes, by place in operation->batch. try: only says what would be done, and whether it could be (of
 * items that are open). */
void opendkim_step_edit(struct signer_operation *operation, enum opendkim_state state, opendkim_edits *edits,
                        int64_t deadline, opendkim_next *next);
void opendkim_step_try(struct signer_operation *operation, opendkim_edits *edits, int64_t deadline,
                       opendkim_next *next);
/* The reload; next at once with code 0 if the policy has none. */
void opendkim_step_reload(struct signer_operation *operation, bool probe, int64_t deadline, opendkim_next *next);
/* The restart, which also stands for the reload. wants: whether an open item asks for it, and the policy has a way. note: it was done, for all that are open. */
void opendkim_step_restart(struct signer_operation *operation, int64_t deadline, opendkim_next *next);
bool opendkim_wants_restart(const struct signer_operation *operation);
void opendkim_note_restart(struct signer_operation *operation);
void opendkim_note_no_restart(struct signer_operation *operation, size_t index, const struct error *error);
/* Only whether the milter answers. */
void opendkim_step_reach(struct signer_operation *operation, int64_t deadline, opendkim_next *next);
/* One message for each sender. before: prove previous_selector instead (items without one are left out). patient: the
 * reload has just been asked for. Results: operation->proofs, by place in operation->batch. */
void opendkim_step_prove(struct signer_operation *operation, enum opendkim_state state, bool before, bool patient,
                         int64_t deadline, opendkim_next *next);

/* The stamp of the tables, then looked and the end of the operation. */
opendkim_next opendkim_look_start;

/* Is any item in state? */
bool opendkim_any(const struct signer_operation *operation, enum opendkim_state state);
/* Sets the error of every item in state, with context, and its new state. */
void opendkim_fail_items(struct signer_operation *operation, enum opendkim_state state, enum opendkim_state then,
                         const struct error *error);

/* The four operations (opendkim_activate.c, opendkim_withdraw.c). */
opendkim_next opendkim_activate_start;
opendkim_next opendkim_withdraw_start;
opendkim_next opendkim_prove_start;
opendkim_next opendkim_check_start;

#endif
