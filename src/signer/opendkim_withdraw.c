/* The operations that switch nothing: withdraw, prove, check. */
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/opendkim.h"
#include "dkimroll/text.h"

/* Ends items whose edits failed; true: some edit of the others changed a table. */
static bool opendkim_take_outcomes(struct signer_operation *operation) {
  bool changed = false;
  for (size_t i = 0; i < operation->batch_count; i++) {
    size_t index = operation->batch[i];
    const struct table_outcome *outcome = &operation->outcomes[i];
    if (outcome->error.code) {
      operation->results[index].error = outcome->error;
      operation->states[index] = OPENDKIM_ENDED;
    }
    for (size_t j = 0; j < TABLE_EDITS_MAX; j++) changed = changed || outcome->made[j] != TABLE_MADE_NOTHING;
  }
  return changed;
}

static void opendkim_withdraw_fail(struct signer_operation *operation, const struct error *error) {
  opendkim_fail_items(operation, OPENDKIM_OPEN, OPENDKIM_ENDED, error);
  opendkim_operation_finish(operation);
}

static void opendkim_withdraw_finished(struct signer_operation *operation, const struct error *error) {
  if (error->code) {
    opendkim_withdraw_fail(operation, error);
    return;
  }
  int64_t now = loop_wall(operation->signer->loop);
  for (size_t i = 0; i < operation->count; i++)
    if (operation->states[i] == OPENDKIM_OPEN) operation->results[i].completed_at = now;
  opendkim_operation_finish(operation);
}

static void opendkim_withdraw_restarted(struct signer_operation *operation, const struct error *error) {
  if (error->code) {
    for (size_t i = 0; i < operation->count; i++)
      if (operation->states[i] == OPENDKIM_OPEN) opendkim_note_no_restart(operation, i, error);
    opendkim_step_reload(operation, false, operation->deadline, opendkim_withdraw_finished);
    return;
  }
  opendkim_note_restart(operation);
  opendkim_withdraw_finished(operation, error);
}

static void opendkim_withdraw_edited(struct signer_operation *operation, const struct error *error) {
  if (error->code) {
    opendkim_withdraw_fail(operation, error);
    return;
  }
  opendkim_take_outcomes(operation);
  if (!opendkim_any(operation, OPENDKIM_OPEN)) {
    opendkim_operation_finish(operation);
    return;
  }
  if (opendkim_wants_restart(operation)) {
    opendkim_step_restart(operation, operation->deadline, opendkim_withdraw_restarted);
    return;
  }
  /* Also if nothing changed: whoever did it before may have died before the reload. */
  opendkim_step_reload(operation, false, operation->deadline, opendkim_withdraw_finished);
}

static void opendkim_withdraw_keys(struct signer_operation *operation, const struct error *error) {
  (void)error; /* A signer that is down will read tables that agree when it starts. */
  opendkim_step_edit(operation, OPENDKIM_OPEN, opendkim_edits_withdraw, operation->deadline, opendkim_withdraw_edited);
}

static void opendkim_withdraw_reloaded(struct signer_operation *operation, const struct error *error) {
  if (error->code)
    opendkim_withdraw_fail(operation, error);
  else
    opendkim_step_reach(operation, operation->deadline, opendkim_withdraw_keys);
}

static void opendkim_withdraw_healed(struct signer_operation *operation, const struct error *error) {
  if (error->code) {
    opendkim_withdraw_fail(operation, error);
    return;
  }
  if (opendkim_take_outcomes(operation))
    opendkim_step_reload(operation, false, operation->deadline, opendkim_withdraw_reloaded);
  else
    opendkim_withdraw_keys(operation, error);
}

void opendkim_withdraw_start(struct signer_operation *operation, const struct error *error) {
  (void)error;
  opendkim_step_edit(operation, OPENDKIM_OPEN, opendkim_edits_heal, operation->deadline, opendkim_withdraw_healed);
}

static bool opendkim_lacks_lines(const struct table_outcome *outcome) {
  bool lacks = false;
  for (size_t i = 0; i < TABLE_EDITS_MAX; i++) lacks |= outcome->made[i] != TABLE_MADE_NOTHING;
  return !outcome->error.code && lacks;
}

/* OpenDKIM signs on by the tables that it has read, whatever was done to the files: only at its next start would mail be unsigned. What cannot be read is no news, and what is
 * in the way of our lines is told by the signature. */
static void opendkim_prove_compared(struct signer_operation *operation, const struct error *error) {
  const struct policy_signer *policy = operation->signer->policy;
  const bool none = error->code == ERROR_NOT_FOUND; /* a table is gone as a whole */
  for (size_t i = 0; (none || !error->code) && i < operation->batch_count; i++) {
    const size_t index = operation->batch[i];
    struct signer_result *result = &operation->results[index];
    if (!none && !opendkim_lacks_lines(&operation->outcomes[i])) continue;
    result->completed_at = 0;
    error_set(&result->error, ERROR_PROOF, "lines of %s are missing in %s or %s: OpenDKIM signs on only until it reads them again", operation->items[index].domain,
              policy->key_table, policy->signing_table);
    error_remedy(&result->error, "`dkimroll run` writes them again");
  }
  opendkim_operation_finish(operation);
}

static void opendkim_prove_proved(struct signer_operation *operation, const struct error *error) {
  if (error->code) opendkim_fail_items(operation, OPENDKIM_OPEN, OPENDKIM_ENDED, error);
  for (size_t i = 0; operation->proofs && i < operation->batch_count; i++) {
    const size_t index = operation->batch[i];
    struct signer_result *result = &operation->results[index];
    const bool good = operation->proofs[i].verdict == PROVE_SIGNED;
    if (good)
      result->completed_at = operation->proofs[i].completed_at;
    else
      result->error = operation->proofs[i].error;
    if (!good || !operation->items[index].compare) operation->states[index] = OPENDKIM_ENDED;
  }
  if (opendkim_any(operation, OPENDKIM_OPEN))
    opendkim_step_try(operation, opendkim_edits_switch, operation->deadline, opendkim_prove_compared);
  else
    opendkim_operation_finish(operation);
}

void opendkim_prove_start(struct signer_operation *operation, const struct error *error) {
  (void)error;
  opendkim_step_prove(operation, OPENDKIM_OPEN, false, false, operation->deadline, opendkim_prove_proved);
}

/* The first complaint about the signer as a whole stands; a later one is not worth more. */
static void opendkim_check_whole(struct signer_operation *operation, const struct error *error) {
  struct signer_result *whole = &operation->results[operation->count];
  if (whole->error.code == 0) whole->error = *error;
}

static void opendkim_check_reached(struct signer_operation *operation, const struct error *error) {
  opendkim_check_whole(operation, error);
  operation->results[operation->count].completed_at = loop_wall(operation->signer->loop);
  opendkim_operation_finish(operation);
}

static void opendkim_check_reloaded(struct signer_operation *operation, const struct error *error) {
  opendkim_check_whole(operation, error);
  opendkim_step_reach(operation, operation->deadline, opendkim_check_reached);
}

static void opendkim_check_read(struct signer_operation *operation, const struct error *error) {
  opendkim_check_whole(operation, error);
  if (error->code) opendkim_fail_items(operation, OPENDKIM_OPEN, OPENDKIM_ENDED, error);
  for (size_t i = 0; !error->code && i < operation->batch_count; i++)
    operation->results[operation->batch[i]].error = operation->outcomes[i].error;
  opendkim_step_reload(operation, true, operation->deadline, opendkim_check_reloaded);
}

void opendkim_check_start(struct signer_operation *operation, const struct error *error) {
  (void)error;
  operation->whole = true;
  opendkim_step_try(operation, opendkim_edits_switch, operation->deadline, opendkim_check_read);
}
