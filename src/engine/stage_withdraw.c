#include <stdlib.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "engine_internal.h"

/* The retired keys' entries leave the tables, one signer version after the other. */
struct withdrawal {
  struct signer *signer; /* at work now */
  const struct policy_signer *policy; /* its */
  struct signer_operation *signing;
  int64_t done_with[ENGINE_SIGNERS_MAX];
  size_t done_count;
  size_t *positions;    /* works in the signer's batch */
  size_t *placements;   /* and which of their placements */
  struct withdrawal_item {
    struct placement_report reports[KEY_PLACEMENTS_MAX];
    size_t report_count;
    char *active_name; /* in KeyTable, of the key that signs, at the signer that is at work */
  } items[];
};

static void withdrawal_release(struct operation *operation) {
  struct withdrawal *withdrawal = operation->state;
  if (withdrawal->signing) withdrawal->signer->ops->cancel(withdrawal->signer, withdrawal->signing);
  withdrawal->signing = NULL;
}

static void withdrawal_free(struct operation *operation) {
  struct withdrawal *withdrawal = operation->state;
  for (size_t i = 0; i < operation->count; i++) free(withdrawal->items[i].active_name);
  free(withdrawal->positions);
  free(withdrawal->placements);
}

bool placement_wants_withdrawal(const struct placement *placement) {
  return placement->switched_at != TIME_UNSET && placement->drained_at == TIME_UNSET;
}

static const struct placement *choose_placement(const struct operation *operation) {
  const struct withdrawal *withdrawal = operation->state;
  for (size_t i = 0; i < operation->count; i++) {
    const struct key *key = operation_key(operation, i);
    for (size_t j = 0; j < key->placement_count && !operation->outcomes[i].error; j++) {
      bool done = false;
      for (size_t k = 0; k < withdrawal->done_count; k++) done |= withdrawal->done_with[k] == key->placements[j].signer_id;
      if (placement_wants_withdrawal(&key->placements[j]) && !done) return &key->placements[j];
    }
  }
  return NULL;
}

static void next_signer(struct operation *operation);

static void withdrawn(void *context, const struct signer_result *results, size_t count) {
  struct operation *operation = context;
  struct withdrawal *withdrawal = operation->state;
  withdrawal->signing = NULL;
  engine_note_signer(operation->engine, withdrawal->done_with[withdrawal->done_count - 1], withdrawal->policy, results, count);
  for (size_t n = 0; n < count; n++) {
    const size_t i = withdrawal->positions[n];
    if (results[n].error.code) {
      operation_fail(operation, i, &results[n].error);
      continue;
    }
    struct withdrawal_item *item = &withdrawal->items[i];
    const struct placement *placement = &operation_key(operation, i)->placements[withdrawal->placements[n]];
    item->reports[item->report_count++] =
        (struct placement_report){.signer_id = placement->signer_id, .completed_at = results[n].completed_at, .restarted = results[n].restarted};
    operation->outcomes[i].placements = item->reports;
    operation->outcomes[i].placement_count = item->report_count;
  }
  next_signer(operation);
}

/* Whether the tables of that placement are still those of a signer of the domain. */
static bool signer_is_of_domain(const struct lineage *lineage, const struct placement *placement) {
  for (size_t i = 0; i < lineage->signer_count; i++)
    if (text_equal(lineage->signers[i]->key_table, placement->signer->key_table) &&
        text_equal(lineage->signers[i]->signing_table, placement->signer->signing_table))
      return true;
  return false;
}

/* A signer that the policy took away from the domain never got the active key: there the senders go, and are pointed at nothing. */
static void fill_item(const struct operation *operation, size_t i, const struct placement *placement, struct signer_item *item) {
  struct withdrawal_item *own = &((struct withdrawal *)operation->state)->items[i];
  struct lineage *lineage = &operation->works[i]->lineage;
  const struct key *active = signer_is_of_domain(lineage, placement) ? lineage_active_key(lineage) : NULL;
  const struct placement *signs = key_placement_at(active, placement->signer);
  free(TAKE_PTR(own->active_name));
  own->active_name = key_name_at(lineage, active, placement->signer);
  *item = (struct signer_item){.domain = lineage->domain,
                               .selector = operation_key(operation, i)->selector,
                               .key_path = placement->key_path,
                               .previous_selector = active ? active->selector : NULL,
                               .previous_key_path = signs ? signs->key_path : NULL,
                               .previous_key_name = own->active_name,
                               .adopted = key_is_adopted(operation_key(operation, i)),
                               .restart = !lineage_active_key(lineage) && operation_key(operation, i)->compromised_at != TIME_UNSET,
                               .senders = (const char *const *)lineage->senders,
                               .sender_count = lineage->sender_count};
}

static int start_signer(struct operation *operation, const struct placement *chosen, struct error *error) {
  struct withdrawal *withdrawal = operation->state;
  struct signer_item *items = operation->items;
  size_t count = 0;
  int result = engine_find_signer(operation->engine, chosen->signer_id, chosen->signer, &withdrawal->signer, error);
  if (result) return result;
  withdrawal->policy = chosen->signer;
  for (size_t i = 0; i < operation->count; i++) {
    const struct key *key = operation_key(operation, i);
    for (size_t j = 0; j < key->placement_count && !operation->outcomes[i].error; j++) {
      if (key->placements[j].signer_id != chosen->signer_id || !placement_wants_withdrawal(&key->placements[j])) continue;
      fill_item(operation, i, &key->placements[j], &items[count]);
      withdrawal->positions[count] = i;
      withdrawal->placements[count++] = j;
    }
  }
  return withdrawal->signer->ops->withdraw(withdrawal->signer, items, count, operation->deadline, withdrawn, operation,
                                           &withdrawal->signing, error);
}

static void next_signer(struct operation *operation) {
  struct withdrawal *withdrawal = operation->state;
  struct error error = {0};
  const struct placement *chosen = choose_placement(operation);
  if (!chosen || withdrawal->done_count == ENGINE_SIGNERS_MAX) {
    operation_finish(operation);
    return;
  }
  const int64_t id = chosen->signer_id;
  withdrawal->done_with[withdrawal->done_count++] = id;
  if (start_signer(operation, chosen, &error) == 0) return;
  for (size_t i = 0; i < operation->count; i++) {
    const struct key *key = operation_key(operation, i);
    for (size_t j = 0; j < key->placement_count; j++)
      if (key->placements[j].signer_id == id && placement_wants_withdrawal(&key->placements[j]) && !operation->outcomes[i].error)
        operation_fail(operation, i, &error);
  }
  next_signer(operation);
}

/* The first signer is started from the loop: start must not finish the operation itself. */
static void begin(void *context) {
  ((struct operation *)context)->later = NULL;
  next_signer(context);
}

static int withdraw_start(struct operation *operation, struct error *error) {
  struct withdrawal *withdrawal = calloc(1, sizeof *withdrawal + operation->count * sizeof withdrawal->items[0]);
  operation->state = withdrawal;
  operation->items = calloc(operation->count, sizeof(struct signer_item));
  if (!withdrawal || !operation->items) return error_set(error, ERROR_NO_MEMORY, "out of memory for a withdrawal");
  operation->release = withdrawal_release;
  withdrawal->positions = calloc(operation->count, sizeof(size_t));
  withdrawal->placements = calloc(operation->count, sizeof(size_t));
  if (!withdrawal->positions || !withdrawal->placements) return error_set(error, ERROR_NO_MEMORY, "out of memory for a withdrawal");
  return operation_begin_later(operation, begin, error);
}

const struct stage stage_withdraw = {.name = "withdraw",
                                     .batch_maximum = ENGINE_BATCH_MAX,
                                     .seconds = ENGINE_SIGN_SECONDS,
                                     .parallel = 1,
                                     .start = withdraw_start,
                                     .free_state = withdrawal_free};
