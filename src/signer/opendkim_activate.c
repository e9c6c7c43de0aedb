/* Activation: reach the signer, switch the tables, reload, prove; then take back what failed, reload, and prove the
 * keys before. */
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/opendkim.h"
#include "dkimroll/text.h"

/* Adds to the errors of the items that are taken back how far that went. */
static void opendkim_fail_undo(struct signer_operation *operation, const char *stage, const struct error *error) {
  for (size_t i = 0; i < operation->count; i++) {
    if (operation->states[i] != OPENDKIM_FAILING) continue;
    operation->states[i] = OPENDKIM_ENDED;
    error_context(&operation->results[i].error, "%s (%.300s)", stage, error->message);
    operation->results[i].error.retryable = true;
  }
}

/* The KeyTable entries that the switch added go last, when nothing names them any more, neither on disk nor in the
 * signer's memory. One that has to stay does no harm. */
static void opendkim_undo_finished(struct signer_operation *operation, const struct error *error) {
  (void)error;
  opendkim_operation_finish(operation);
}

static void opendkim_undo_proved(struct signer_operation *operation, const struct error *error) {
  if (error->code) {
    opendkim_fail_undo(operation, "senders are back, but the key before is not proved", error);
    opendkim_operation_finish(operation);
    return;
  }
  for (size_t i = 0; operation->proofs && i < operation->batch_count; i++) {
    const struct prove_result *proof = &operation->proofs[i];
    if (proof->verdict == PROVE_SIGNED) continue;
    operation->states[operation->batch[i]] = OPENDKIM_ENDED;
    error_context(&operation->results[operation->batch[i]].error,
                  "senders are back, but the key before is not proved (%.300s)", proof->error.message);
  }
  for (size_t i = 0; i < operation->count; i++) {
    if (operation->states[i] != OPENDKIM_FAILING) continue;
    operation->results[i].rolled_back = true;
    error_context(&operation->results[i].error, "taken back");
  }
  opendkim_step_edit(operation, OPENDKIM_FAILING, opendkim_edits_undo_key, operation->deadline, opendkim_undo_finished);
}

static void opendkim_undo_reloaded(struct signer_operation *operation, const struct error *error) {
  if (error->code) {
    opendkim_fail_undo(operation, "senders are back on disk, but the signer was not reloaded", error);
    opendkim_operation_finish(operation);
    return;
  }
  opendkim_step_prove(operation, OPENDKIM_FAILING, true, true, operation->deadline, opendkim_undo_proved);
}

static void opendkim_undo_edited(struct signer_operation *operation, const struct error *error) {
  if (error->code) {
    opendkim_fail_undo(operation, "could not be taken back", error);
    opendkim_operation_finish(operation);
    return;
  }
  for (size_t i = 0; i < operation->batch_count; i++) {
    size_t index = operation->batch[i];
    const struct error *failure = &operation->outcomes[i].error;
    if (failure->code == 0) continue;
    operation->states[index] = OPENDKIM_ENDED;
    error_context(&operation->results[index].error, "could not be taken back (%.300s)", failure->message);
  }
  opendkim_step_reload(operation, false, operation->deadline, opendkim_undo_reloaded);
}

/* Takes back what fails and can be taken back. */
static void opendkim_undo(struct signer_operation *operation) {
  for (size_t i = 0; i < operation->count; i++) {
    const bool stays = operation->items[i].stays;
    if (operation->states[i] != OPENDKIM_FAILING || (!stays && opendkim_entry_can_undo(&operation->entries[i]))) continue;
    operation->states[i] = OPENDKIM_ENDED;
    if (!stays) error_context(&operation->results[i].error, "left as it is, since no key before it is known");
  }
  if (opendkim_any(operation, OPENDKIM_FAILING))
    opendkim_step_edit(operation, OPENDKIM_FAILING, opendkim_edits_undo, operation->deadline, opendkim_undo_edited);
  else
    opendkim_operation_finish(operation);
}

/* The key is proved already: what the restart brings is no reason to take it back. */
static void opendkim_activate_proved_again(struct signer_operation *operation, const struct error *error) {
  for (size_t i = 0; !error->code && operation->proofs && i < operation->batch_count; i++)
    if (operation->proofs[i].verdict != PROVE_SIGNED) opendkim_note_no_restart(operation, operation->batch[i], &operation->proofs[i].error);
  for (size_t i = 0; i < operation->count; i++) {
    if (operation->states[i] != OPENDKIM_OPEN) continue;
    operation->states[i] = OPENDKIM_ENDED;
    if (error->code) opendkim_note_no_restart(operation, i, error);
  }
  opendkim_undo(operation);
}

static void opendkim_activate_restarted(struct signer_operation *operation, const struct error *error) {
  if (error->code) {
    opendkim_activate_proved_again(operation, error);
    return;
  }
  opendkim_note_restart(operation);
  opendkim_step_prove(operation, OPENDKIM_OPEN, false, true, operation->deadline, opendkim_activate_proved_again);
}

static void opendkim_activate_proved(struct signer_operation *operation, const struct error *error) {
  /* New connections sign with the new key before those that were open are ended: the restart may take seconds. */
  const bool restart = opendkim_wants_restart(operation);
  if (error->code) opendkim_fail_items(operation, OPENDKIM_OPEN, OPENDKIM_FAILING, error);
  for (size_t i = 0; operation->proofs && i < operation->batch_count; i++) {
    size_t index = operation->batch[i];
    const struct prove_result *proof = &operation->proofs[i];
    if (proof->verdict == PROVE_SIGNED) {
      operation->states[index] = restart ? OPENDKIM_OPEN : OPENDKIM_ENDED;
      operation->results[index].completed_at = proof->completed_at;
    } else {
      operation->states[index] = OPENDKIM_FAILING;
      operation->results[index].error = proof->error;
    }
  }
  if (restart && opendkim_any(operation, OPENDKIM_OPEN))
    opendkim_step_restart(operation, operation->deadline, opendkim_activate_restarted);
  else
    opendkim_undo(operation);
}

static void opendkim_activate_reloaded(struct signer_operation *operation, const struct error *error) {
  if (error->code) {
    opendkim_fail_items(operation, OPENDKIM_OPEN, OPENDKIM_FAILING, error);
    opendkim_undo(operation);
    return;
  }
  opendkim_step_prove(operation, OPENDKIM_OPEN, false, true, operation->middle, opendkim_activate_proved);
}

static void opendkim_activate_edited(struct signer_operation *operation, const struct error *error) {
  if (error->code) {
    opendkim_fail_items(operation, OPENDKIM_OPEN, OPENDKIM_ENDED, error);
    opendkim_operation_finish(operation);
    return;
  }
  int64_t now = loop_wall(operation->signer->loop);
  for (size_t i = 0; i < operation->batch_count; i++) {
    size_t index = operation->batch[i];
    const struct table_outcome *outcome = &operation->outcomes[i];
    if (outcome->error.code) {
      operation->states[index] = OPENDKIM_ENDED;
      operation->results[index].error = outcome->error;
    } else {
      operation->results[index].switched_at = now;
      memcpy(operation->entries[index].made, outcome->made, sizeof(outcome->made));
    }
  }
  if (opendkim_any(operation, OPENDKIM_OPEN))
    opendkim_step_reload(operation, false, operation->middle, opendkim_activate_reloaded);
  else
    opendkim_operation_finish(operation);
}

static void opendkim_activate_reached(struct signer_operation *operation, const struct error *error) {
  if (error->code) {
    struct error whole = *error;
    error_context(&whole, "signer %s does not answer; nothing was changed", operation->signer->policy->name);
    opendkim_fail_items(operation, OPENDKIM_OPEN, OPENDKIM_ENDED, &whole);
    opendkim_operation_finish(operation);
    return;
  }
  opendkim_step_edit(operation, OPENDKIM_OPEN, opendkim_edits_switch, operation->middle, opendkim_activate_edited);
}

void opendkim_activate_start(struct signer_operation *operation, const struct error *error) {
  (void)error;
  if (opendkim_any(operation, OPENDKIM_OPEN))
    opendkim_step_reach(operation, operation->middle, opendkim_activate_reached);
  else
    opendkim_operation_finish(operation);
}
