#include <stdlib.h>

#include "dkimroll/record.h"
#include "engine_internal.h"

/* One round of observation: of records that must be there, or of records that must be gone (two stages, since the observer takes one kind at a time). */
struct confirmation {
  struct observe_operation *observation;
  char *revoked[2]; /* what a revoked record says, by algorithm: it must be gone as well as the record itself */
  struct sighting_report *reports[]; /* one array for each work, owned */
};

static void confirmation_release(struct operation *operation) {
  struct confirmation *confirmation = operation->state;
  observer_cancel(operation->engine->setup.observer, &confirmation->observation);
}

static void confirmation_free(struct operation *operation) {
  struct confirmation *confirmation = operation->state;
  for (size_t i = 0; i < operation->count; i++) free(confirmation->reports[i]);
  for (size_t i = 0; i < 2; i++) free(confirmation->revoked[i]);
}

static void observed(void *context, const struct observe_result *results, size_t count) {
  struct operation *operation = context;
  struct confirmation *confirmation = operation->state;
  confirmation->observation = NULL;
  for (size_t i = 0; i < count; i++) {
    struct error error = {0};
    if (outcome_take_observation(&operation->outcomes[i], &results[i], &confirmation->reports[i], &error))
      operation_fail(operation, i, &error);
  }
  operation_finish(operation);
}

/* A key that was revoked in an emergency is looked at where its record was made, until every server says so. */
static void observe_revoked(const struct operation *operation, struct observe_item *item, size_t i) {
  const struct key *key = operation_key(operation, i);
  if (key->state != KEY_REVOKED) return;
  item->record = item->record_also;
  item->record_also = NULL;
  item->publisher = key->publisher;
}

static int add_revoked(const struct operation *operation, struct observe_item *items, struct error *error) {
  struct confirmation *confirmation = operation->state;
  int result = record_build_revoked(KEY_ALGORITHM_RSA, &confirmation->revoked[0], error);
  if (!result) result = record_build_revoked(KEY_ALGORITHM_ED25519, &confirmation->revoked[1], error);
  for (size_t i = 0; i < operation->count && !result; i++)
    items[i].record_also = confirmation->revoked[operation_key(operation, i)->algorithm == KEY_ALGORITHM_ED25519];
  return result;
}

static int observe_start(struct operation *operation, enum observe_kind kind, struct error *error) {
  struct confirmation *confirmation = calloc(1, sizeof *confirmation + operation->count * sizeof confirmation->reports[0]);
  struct observe_item *items = operation_observe_items(operation, kind);
  operation->state = confirmation;
  operation->items = items;
  if (!confirmation || !items) return error_set(error, ERROR_NO_MEMORY, "out of memory for a round of observation");
  operation->release = confirmation_release;
  int result = add_revoked(operation, items, error);
  if (result) return result;
  for (size_t i = 0; i < operation->count && kind == OBSERVE_PRESENT; i++) {
    observe_revoked(operation, &items[i], i);
    items[i].record_also = NULL;
  }
  return observer_start(operation->engine->setup.observer, kind, items, operation->count, operation->deadline, observed, operation,
                        &confirmation->observation, error);
}

static int confirm_start(struct operation *operation, struct error *error) { return observe_start(operation, OBSERVE_PRESENT, error); }
static int confirm_absent_start(struct operation *operation, struct error *error) { return observe_start(operation, OBSERVE_ABSENT, error); }

const struct stage stage_confirm = {.name = "confirm",
                                    .batch_maximum = ENGINE_BATCH_MAX,
                                    .seconds = ENGINE_CONFIRM_SECONDS,
                                    .parallel = 4,
                                    .start = confirm_start,
                                    .free_state = confirmation_free};
const struct stage stage_confirm_absent = {.name = "confirm-absent",
                                           .batch_maximum = ENGINE_BATCH_MAX,
                                           .seconds = ENGINE_CONFIRM_SECONDS,
                                           .parallel = 4,
                                           .start = confirm_absent_start,
                                           .free_state = confirmation_free};
