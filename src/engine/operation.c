#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/log.h"
#include "engine_internal.h"

const struct stage *stage_for(enum plan_action action) {
  switch (action) {
  case PLAN_GENERATE: return &stage_generate;
  case PLAN_PUBLISH:
  case PLAN_REVOKE:
  case PLAN_DELETE:
  case PLAN_ATTEST: return &stage_publish;
  case PLAN_CONFIRM: return &stage_confirm;
  case PLAN_CONFIRM_ABSENT: return &stage_confirm_absent;
  case PLAN_ACTIVATE: return &stage_activate;
  case PLAN_CHECK_FILES: return &stage_check_files;
  case PLAN_PROVE: return &stage_prove;
  case PLAN_REPAIR: return &stage_repair;
  case PLAN_WITHDRAW: return &stage_withdraw;
  case PLAN_DESTROY: return &stage_destroy;
  case PLAN_NONE:
  case PLAN_READY: return NULL;
  }
  return NULL;
}

/* Undoing goes where the record was made; everything else where the policy says now. */
static bool action_undoes(enum plan_action action) {
  return action == PLAN_REVOKE || action == PLAN_DELETE || action == PLAN_CONFIRM_ABSENT;
}

int64_t stage_resource(enum plan_action action, const struct lineage *lineage, size_t key) {
  const struct stage *stage = stage_for(action);
  if (stage != &stage_publish && stage != &stage_confirm && stage != &stage_confirm_absent) return 0;
  const bool ended = key < lineage->key_count && lineage->keys[key].state == KEY_REVOKED;
  return action_undoes(action) || ended ? lineage_undoing_publisher(lineage, &lineage->keys[key]) : lineage->publisher_id;
}

static struct queue *find_queue(struct engine *engine, const struct stage *stage, int64_t resource) {
  for (size_t i = 0; i < engine->queue_count; i++)
    if (engine->queues[i].stage == stage && engine->queues[i].resource == resource) return &engine->queues[i];
  if (engine->queue_count == ENGINE_QUEUES_MAX) return NULL;
  engine->queues[engine->queue_count] = (struct queue){.stage = stage, .resource = resource};
  return &engine->queues[engine->queue_count++];
}

void queue_put(struct queue *queue, struct work *work) {
  work->next = NULL;
  if (queue->last)
    queue->last->next = work;
  else
    queue->first = work;
  queue->last = work;
  queue->waiting++;
}

int engine_enqueue(struct engine *engine, struct work *work, struct error *error) {
  const struct stage *stage = stage_for(work->action);
  struct queue *queue = stage ? find_queue(engine, stage, stage_resource(work->action, &work->lineage, work->key)) : NULL;
  if (!queue) return error_set(error, ERROR_LIMIT, "more than %d publishers are in use at once", ENGINE_QUEUES_MAX);
  queue_put(queue, work);
  return 0;
}

struct key *operation_key(const struct operation *operation, size_t i) {
  struct work *work = operation->works[i];
  return work->key < work->lineage.key_count ? &work->lineage.keys[work->key] : NULL;
}

void operation_fail(struct operation *operation, size_t i, const struct error *error) {
  operation->errors[i] = *error;
  operation->outcomes[i].error = &operation->errors[i];
}

static void operation_free(struct operation *operation) {
  if (!operation) return;
  if (operation->state && operation->stage->free_state) operation->stage->free_state(operation);
  free(operation->state);
  free(operation->items);
  free(operation->borrowed);
  for (size_t i = 0; operation->works && i < operation->count; i++) work_free(operation->works[i]);
  free(operation->works);
  free(operation->outcomes);
  free(operation->errors);
  free(operation);
}

int operation_begin_later(struct operation *operation, loop_callback *begin, struct error *error) {
  int result = loop_defer(operation->engine->setup.loop, begin, operation, &operation->later);
  return result ? error_set(error, result, "the event loop takes no call") : 0;
}

static void unlink_operation(struct operation *operation) {
  struct engine *engine = operation->engine;
  if (operation->previous)
    operation->previous->next = operation->next;
  else
    engine->operations = operation->next;
  if (operation->next) operation->next->previous = operation->previous;
  engine->open_operations--;
  engine->works -= operation->count;
  operation->queue->open--;
}

static void event_list_cut(struct event_list *events, size_t count) {
  while (events->count > count) event_release(&events->items[--events->count]);
}

/* An outcome that contradicts what is stored is a failure of that lineage alone: it stays as it was, and the others go on. */
static int refuse_outcome(struct operation *operation, size_t i, const struct error *why, struct event_list *events, struct error *error) {
  struct engine *engine = operation->engine;
  struct lineage *lineage = &operation->works[i]->lineage;
  const struct outcome *outcome = &operation->outcomes[i];
  const struct outcome refused = {.action = outcome->action == PLAN_GENERATE ? PLAN_ATTEST : outcome->action,
                                  .key = outcome->key < lineage->key_count ? outcome->key : lineage->key_count,
                                  .at = outcome->at,
                                  .error = why};
  engine->summary.failures++;
  return lifecycle_apply(lineage, &refused, engine->plan_clock.now, events, error);
}

static int apply_outcome(struct operation *operation, size_t i, struct event_list *events, struct error *error) {
  struct engine *engine = operation->engine;
  struct lineage *lineage = &operation->works[i]->lineage;
  struct outcome *outcome = &operation->outcomes[i];
  const size_t event_count = events->count;
  CLEANUP(lineage_release) struct lineage before = {0};
  struct error why = {0};
  struct plan plan;
  int result = lineage_copy(lineage, &before, error);
  if (result) return result;
  outcome->unattested = !engine->plan_clock.attested;
  outcome->uncredited = engine->clock.wall - engine->plan_clock.now;
  result = lifecycle_apply(lineage, outcome, engine->plan_clock.now, events, &why);
  if (!result) result = invariant_holds(&before, lineage, &why);
  if (result == ERROR_NO_MEMORY) {
    *error = why;
    return result;
  }
  if (result) {
    const struct lineage after = *lineage;
    *lineage = before;
    before = after;
    event_list_cut(events, event_count);
    result = refuse_outcome(operation, i, &why, events, error);
    if (result) return result;
  } else if (outcome->error) {
    engine->summary.failures++;
  } else {
    engine->summary.steps++;
  }
  result = engine_wave_note(engine, &before, lineage, outcome, events, error);
  if (result) return result;
  engine_tell_changes(engine, lineage);
  plan_lineage(lineage, &engine->plan_clock, &plan);
  engine_wave_planned(engine, lineage);
  lineage->next_moment = plan.next;
  return 0;
}

static void operation_commit(struct operation *operation) {
  struct engine *engine = operation->engine;
  struct error error = {0};
  struct event_list events = {0};
  engine_read_clock(engine, &events);
  CLEANUP_FREE struct lineage **lineages = calloc(operation->count + 1, sizeof(struct lineage *));
  int result = lineages ? 0 : error_set(&error, ERROR_NO_MEMORY, "out of memory for a commit");
  for (size_t i = 0; i < operation->count && !result; i++) {
    lineages[i] = &operation->works[i]->lineage;
    result = apply_outcome(operation, i, &events, &error);
  }
  struct store_resource resources[ENGINE_RESOURCE_ROWS_MAX];
  const size_t resource_count = engine_resource_note(operation, resources);
  if (!result) {
    const struct store_publisher_clock publisher_clock = {
        .publisher_id = operation->queue->resource, .skew = operation->clock_skew, .measured_at = engine->plan_clock.now};
    struct store_commit commit = {.lineages = lineages,
                                        .lineage_count = operation->count,
                                        .publisher_clock = operation->clock_known ? &publisher_clock : NULL,
                                        .events = events.items,
                                        .event_count = events.count,
                                        .clock = &engine->clock,
                                        .plan_anew = engine->clock_went_back,
                                        .resources = resources,
                                        .resource_count = resource_count};
    engine_wave_commit(engine, &commit);
    result = engine->setup.store->ops->commit(engine->setup.store, &commit, &error);
    if (!result) engine->clock_went_back = false;
    if (!result) engine_wave_committed(engine);
  }
  if (!result) result = engine_put_off_waiting(engine, operation->queue, &error);
  /* Without its outcome in the store the operation counts as interrupted: its intent is looked at again at the next start. */
  if (result)
    engine_fail(engine, &error);
  else
    engine_tell(engine, &events);
  event_list_release(&events);
}

void operation_finish(struct operation *operation) {
  struct engine *engine = operation->engine;
  const int64_t now = loop_wall(engine->setup.loop);
  for (size_t i = 0; i < operation->count; i++)
    if (operation->outcomes[i].at == 0) operation->outcomes[i].at = now;
  unlink_operation(operation);
  if (operation->release) operation->release(operation);
  operation_commit(operation);
  engine_inspect_ours(engine, operation);
  operation_free(operation);
  engine_want_turn(engine);
}

struct work *queue_take(struct queue *queue) {
  struct work *work = queue->first;
  if (!work) return NULL;
  queue->first = work->next;
  if (!queue->first) queue->last = NULL;
  queue->waiting--;
  work->next = NULL;
  return work;
}

/* NULL: *error says why. */
static struct operation *operation_new(struct engine *engine, struct queue *queue, struct error *error) {
  const size_t most = engine_resource_batch(engine, queue);
  const size_t count = queue->waiting < most ? queue->waiting : most;
  struct operation *operation = calloc(1, sizeof *operation);
  if (!operation) {
    error_set(error, ERROR_NO_MEMORY, "out of memory for an operation");
    return NULL;
  }
  operation->engine = engine;
  operation->queue = queue;
  operation->stage = queue->stage;
  operation->works = calloc(count, sizeof(struct work *));
  operation->outcomes = calloc(count, sizeof *operation->outcomes);
  operation->errors = calloc(count, sizeof *operation->errors);
  if (!operation->works || !operation->outcomes || !operation->errors) {
    operation_free(operation);
    error_set(error, ERROR_NO_MEMORY, "out of memory for an operation");
    return NULL;
  }
  for (struct work *work = NULL; operation->count < count && (work = queue_take(queue)); operation->count++) {
    operation->works[operation->count] = work;
    operation->outcomes[operation->count] =
        (struct outcome){.action = work->action, .key = work->key, .ttl_negative = -1, .ttl_old = -1};
  }
  operation->deadline = loop_boottime(engine->setup.loop) + queue->stage->seconds * 1000;
  operation->next = engine->operations;
  if (operation->next) operation->next->previous = operation;
  engine->operations = operation;
  engine->open_operations++;
  queue->open++;
  return operation;
}

static void operation_start(struct operation *operation) {
  struct error error = {0};
  if (operation->stage->start(operation, &error) == 0) return;
  for (size_t i = 0; i < operation->count; i++)
    if (!operation->outcomes[i].error) operation_fail(operation, i, &error);
  operation_finish(operation);
}

void engine_start_operations(struct engine *engine) {
  for (size_t i = 0; i < engine->queue_count; i++) {
    struct queue *queue = &engine->queues[i];
    while (queue->waiting > 0 && queue->open < queue->stage->parallel && !engine->failure.code && !engine->stopping) {
      struct error error = {0};
      struct operation *operation = operation_new(engine, queue, &error);
      if (!operation) {
        engine_fail(engine, &error);
        return;
      }
      operation_start(operation);
    }
  }
}

void engine_abandon_operations(struct engine *engine) {
  while (engine->operations) {
    struct operation *operation = engine->operations;
    unlink_operation(operation);
    loop_cancel(engine->setup.loop, &operation->later);
    if (operation->release) operation->release(operation);
    operation->abandoned = true;
    if (operation->keeper_calls == 0) operation_free(operation);
  }
}

/* The keeper knows no cancel: a call remembers where its answer belongs. */
struct keeper_call {
  struct operation *operation;
  size_t index;
  operation_keeper_done *done;
};

/* No job on key files reaches out to anybody, so "unreachable" can only be said of the keeper itself, which does not come back. */
static void note_keeper(struct engine *engine, const struct error *result) {
  if (result->code == ERROR_UNREACHABLE && !engine->keeper_failure.code) engine->keeper_failure = *result;
}

static void keeper_call_done(void *context, const struct error *result, const uint8_t *reply, size_t reply_size) {
  struct keeper_call call = *(struct keeper_call *)context;
  free(context);
  call.operation->keeper_calls--;
  if (!call.operation->abandoned) note_keeper(call.operation->engine, result);
  if (!call.operation->abandoned)
    call.done(call.operation, call.index, result, reply, reply_size);
  else if (call.operation->keeper_calls == 0)
    operation_free(call.operation);
}

int operation_submit(struct operation *operation, size_t i, enum keeper_job job, struct buffer *payload, operation_keeper_done *done,
                     struct error *error) {
  struct keeper_call *call = malloc(sizeof *call);
  if (!call || payload->failed) {
    free(call);
    return error_set(error, ERROR_NO_MEMORY, "out of memory for a job");
  }
  *call = (struct keeper_call){operation, i, done};
  int result = keeper_submit(operation->engine->setup.keeper, job, payload, operation->deadline, keeper_call_done, call, error);
  if (result) {
    note_keeper(operation->engine, error);
    free(call);
    return result;
  }
  operation->keeper_calls++;
  return 0;
}

struct observe_item *operation_observe_items(const struct operation *operation, enum observe_kind kind) {
  struct observe_item *items = calloc(operation->count, sizeof *items);
  for (size_t i = 0; items && i < operation->count; i++) {
    const struct work *work = operation->works[i];
    const struct key *key = &work->lineage.keys[work->key];
    items[i] = (struct observe_item){
        .name = key->owner_name,
        .record = kind == OBSERVE_SURVEY ? NULL : key->record,
        .zone = key->zone[0] ? key->zone : work->lineage.zone,
        .publisher = kind == OBSERVE_ABSENT ? key->publisher : work->lineage.publisher,
    };
  }
  return items;
}
