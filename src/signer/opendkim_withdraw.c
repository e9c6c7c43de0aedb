/* The operations that switch nothing: withdraw, prove, check. */
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/opendkim.h"
#include "dkimroll/text.h"

static void opendkim_withdraw_reloaded(struct signer_operation *operation, const struct error *error) {
  int64_t now = loop_wall(operation->signer->loop);
  for (size_t i = 0; i < operation->count; i++) {
    if (operation->states[i] != OPENDKIM_OPEN) continue;
    if (error->code)
      operation->results[i].error = *error;
    else
      operation->results[i].completed_at = now;
  }
  opendkim_operation_finish(operation);
}

static void opendkim_withdraw_edited(struct signer_operation *operation, const struct error *error) {
  if (error->code) {
    opendkim_fail_items(operation, OPENDKIM_OPEN, OPENDKIM_ENDED, error);
    opendkim_operation_finish(operation);
    return;
  }
  int64_t now = loop_wall(operation->signer->loop);
  bool any = false;
  for (size_t i = 0; i < operation->batch_count; i++) {
    size_t index = operation->batch[i];
    const struct table_outcome *heal = &operation->outcomes[i * operation->edits_per_item];
    const struct table_outcome *withdraw = heal + 1;
    if (heal->error.code || withdraw->error.code) {
      operation->results[index].error = heal->error.code ? heal->error : withdraw->error;
      operation->states[index] = OPENDKIM_ENDED;
    } else {
      operation->results[index].switched_at = now;
      any = true;
    }
  }
  if (any)
    opendkim_step_reload(operation, false, operation->deadline, opendkim_withdraw_reloaded);
  else
    opendkim_operation_finish(operation);
}

void opendkim_withdraw_start(struct signer_operation *operation, const struct error *error) {
  (void)error;
  opendkim_plan_tables(operation, KEEPER_EDIT_TABLES, TABLE_SIGNING_FIRST, opendkim_edits_heal,
                       opendkim_edits_withdraw);
  opendkim_step_tables(operation, OPENDKIM_OPEN, operation->deadline, opendkim_withdraw_edited);
}

static void opendkim_prove_proved(struct signer_operation *operation, const struct error *error) {
  if (error->code) opendkim_fail_items(operation, OPENDKIM_OPEN, OPENDKIM_ENDED, error);
  for (size_t i = 0; operation->proofs && i < operation->batch_count; i++) {
    struct signer_result *result = &operation->results[operation->batch[i]];
    if (operation->proofs[i].verdict == PROVE_SIGNED)
      result->completed_at = operation->proofs[i].completed_at;
    else
      result->error = operation->proofs[i].error;
  }
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
  opendkim_plan_tables(operation, KEEPER_READ_TABLES, TABLE_KEYS_FIRST, opendkim_edits_switch, NULL);
  opendkim_step_tables(operation, OPENDKIM_OPEN, operation->deadline, opendkim_check_read);
}
