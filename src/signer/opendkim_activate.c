/* Activation: reach the signer, switch the tables, reload, prove; then take back what failed, reload, and prove the keys before. */
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/opendkim.h"
#include "dkimroll/text.h"

static bool opendkim_any(const struct signer_operation *operation, enum opendkim_state state) {
  for (size_t i = 0; i < operation->count; i++)
    if (operation->states[i] == state) return true;
  return false;
}

/* Adds to the errors of the items that are taken back why that did not succeed. */
static void opendkim_fail_undo(struct signer_operation *operation, const struct error *error) {
  for (size_t i = 0; i < operation->count; i++) {
    if (operation->states[i] != OPENDKIM_FAILING) continue;
    operation->states[i] = OPENDKIM_ENDED;
    error_context(&operation->results[i].error, "could not be taken back (%.300s)", error->message);
    operation->results[i].error.retryable = true;
  }
}

static void opendkim_undo_proved(struct signer_operation *operation, const struct error *error) {
  if (error->code) {
    opendkim_fail_undo(operation, error);
    opendkim_operation_finish(operation);
    return;
  }
  for (size_t i = 0; operation->proofs && i < operation->batch_count; i++) {
    const struct prove_result *proof = &operation->proofs[i];
    struct signer_result *result = &operation->results[operation->batch[i]];
    if (proof->verdict == PROVE_SIGNED) continue;
    operation->states[operation->batch[i]] = OPENDKIM_ENDED;
    error_context(&result->error, "the tables are as before, but the key before is not proved (%.300s)",
                  proof->error.message);
  }
  for (size_t i = 0; i < operation->count; i++) {
    if (operation->states[i] != OPENDKIM_FAILING) continue;
    operation->results[i].rolled_back = true;
    error_context(&operation->results[i].error, "%s", "taken back");
  }
  opendkim_operation_finish(operation);
}

static void opendkim_undo_reloaded(struct signer_operation *operation, const struct error *error) {
  if (error->code) {
    opendkim_fail_undo(operation, error);
    opendkim_operation_finish(operation);
    return;
  }
  opendkim_step_prove(operation, OPENDKIM_FAILING, true, true, operation->deadline, opendkim_undo_proved);
}

static void opendkim_undo_edited(struct signer_operation *operation, const struct error *error) {
  if (error->code) {
    opendkim_fail_undo(operation, error);
    opendkim_operation_finish(operation);
    return;
  }
  for (size_t i = 0; i < operation->batch_count; i++) {
    size_t index = operation->batch[i];
    const struct table_outcome *senders = &operation->outcomes[i * operation->edits_per_item];
    /* A KeyTable entry that had to stay does no harm: nothing names it any more. */
    if (senders->error.code == 0) continue;
    operation->states[index] = OPENDKIM_ENDED;
    error_context(&operation->results[index].error, "could not be taken back (%.300s)", senders->error.message);
  }
  opendkim_step_reload(operation, false, operation->deadline, opendkim_undo_reloaded);
}

static void opendkim_undo(struct signer_operation *operation) {
  for (size_t i = 0; i < operation->count; i++) {
    if (operation->states[i] != OPENDKIM_FAILING || opendkim_entry_can_undo(&operation->entries[i])) continue;
    operation->states[i] = OPENDKIM_ENDED;
    error_context(&operation->results[i].error, "left as it is, since no key before it is known");
  }
  if (!opendkim_any(operation, OPENDKIM_FAILING)) {
    opendkim_operation_finish(operation);
    return;
  }
  opendkim_plan_tables(operation, KEEPER_EDIT_TABLES, TABLE_SIGNING_FIRST, opendkim_edits_undo,
                       opendkim_edits_undo_key);
  opendkim_step_tables(operation, OPENDKIM_FAILING, operation->deadline, opendkim_undo_edited);
}

static void opendkim_activate_proved(struct signer_operation *operation, const struct error *error) {
  if (error->code) opendkim_fail_items(operation, OPENDKIM_OPEN, OPENDKIM_FAILING, error);
  for (size_t i = 0; operation->proofs && i < operation->batch_count; i++) {
    size_t index = operation->batch[i];
    const struct prove_result *proof = &operation->proofs[i];
    if (proof->verdict == PROVE_SIGNED) {
      operation->states[index] = OPENDKIM_ENDED;
      operation->results[index].completed_at = proof->completed_at;
    } else {
      operation->states[index] = OPENDKIM_FAILING;
      operation->results[index].error = proof->error;
    }
  }
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
  opendkim_plan_tables(operation, KEEPER_EDIT_TABLES, TABLE_KEYS_FIRST, opendkim_edits_switch, NULL);
  opendkim_step_tables(operation, OPENDKIM_OPEN, operation->middle, opendkim_activate_edited);
}

void opendkim_activate_start(struct signer_operation *operation, const struct error *error) {
  (void)error;
  if (opendkim_any(operation, OPENDKIM_OPEN))
    opendkim_step_reach(operation, operation->middle, opendkim_activate_reached);
  else
    opendkim_operation_finish(operation);
}
