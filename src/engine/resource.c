#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "dkimroll/timing.h"
#include "engine_internal.h"

/* Back-off that belongs to a publisher's server or to a signer: when a whole operation reaches nobody there, everything that waits for it is put off, and one item
 * alone probes it when the time is over. It is kept in the store, so that the next run does not begin anew. */

static const char *const PREFIXES[] = {[RESOURCE_PUBLISHER] = "publisher ", [RESOURCE_SIGNER] = "signer "};

static struct engine_resource *resource_get(struct engine *engine, enum resource_kind kind, int64_t id, bool make) {
  for (size_t i = 0; i < engine->resource_count; i++)
    if (engine->resources[i].kind == kind && engine->resources[i].id == id) return &engine->resources[i];
  if (!make || engine->resource_count == ENGINE_RESOURCES_MAX) return NULL;
  struct engine_resource *resource = &engine->resources[engine->resource_count++];
  *resource = (struct engine_resource){.kind = kind, .id = id, .retry_at = TIME_UNSET};
  return resource;
}

/* The name of a row is "signer 3 local": the number counts, the rest is for people. */
static int resource_row(void *context, const void *row) {
  const struct store_resource *stored = row;
  for (size_t kind = 0; kind < ARRAY_SIZE(PREFIXES); kind++) {
    char number[24] = "";
    long long id = 0;
    if (!text_starts(stored->name, PREFIXES[kind])) continue;
    const char *const begin = stored->name + strlen(PREFIXES[kind]);
    const size_t size = strcspn(begin, " ");
    if (size < sizeof number) memcpy(number, begin, size);
    if (!text_parse_number(number, 1, INT64_MAX, &id)) return 0;
    struct engine_resource *resource = resource_get(context, (enum resource_kind)kind, id, true);
    if (!resource) return 0;
    resource->failures = stored->failures;
    resource->retry_at = stored->retry_at;
    text_copy(resource->name, sizeof resource->name, stored->name);
    text_copy(resource->failure, sizeof resource->failure, stored->failure ? stored->failure : "");
  }
  return 0;
}

int engine_load_resources(struct engine *engine, struct error *error) {
  static const struct store_filter all;
  struct store *store = engine->setup.store;
  return store->ops->select(store, STORE_SELECT_RESOURCES, &all, resource_row, engine, error);
}

static bool is_backed_off(const struct engine *engine, const struct engine_resource *resource) {
  return resource && resource->failures > 0 && (resource->retry_at > engine->plan_clock.now || resource->probing);
}

/* Those that wait come back one after the other, not all in the second in which the probe goes out, nor before it can have ended. */
static int64_t put_off(const struct engine *engine, const struct engine_resource *resource, const struct lineage *lineage) {
  const int64_t back = resource->probing ? time_add(engine->plan_clock.now, TIMING_BACKOFF_FIRST) : resource->retry_at;
  const int64_t delay = time_max(back - engine->plan_clock.now, 0);
  const uint64_t mixed = (uint64_t)lineage->id * UINT64_C(0x9e3779b97f4a7c15);
  return time_add(back, (int64_t)((mixed >> 33) % (uint64_t)(delay / 4 + 1)));
}

static bool stage_signs(const struct stage *stage) {
  return stage == &stage_activate || stage == &stage_repair || stage == &stage_prove || stage == &stage_withdraw;
}

/* The signers that a step needs; returns their number. */
static size_t signers_of(enum plan_action action, const struct lineage *lineage, size_t key, int64_t ids[KEY_PLACEMENTS_MAX]) {
  size_t count = 0;
  if (action != PLAN_WITHDRAW) {
    for (; count < lineage->signer_count; count++) ids[count] = lineage->signer_ids[count];
    return count;
  }
  for (size_t i = 0; i < lineage->keys[key].placement_count; i++)
    if (placement_wants_withdrawal(&lineage->keys[key].placements[i])) ids[count++] = lineage->keys[key].placements[i].signer_id;
  return count;
}

/* What the step has to wait for, NULL: nothing. Of several signers those that answer are served, so only when none does the step waits, for the first that
 * is tried again. *ret_probes: the one that this step would probe, if it goes. */
static const struct engine_resource *waits_for(struct engine *engine, enum plan_action action, const struct lineage *lineage, size_t key,
                                               struct engine_resource **ret_probes) {
  const struct stage *stage = stage_for(action);
  const struct engine_resource *first = NULL;
  int64_t ids[KEY_PLACEMENTS_MAX];
  *ret_probes = NULL;
  if (stage == &stage_publish) {
    const struct engine_resource *resource = resource_get(engine, RESOURCE_PUBLISHER, stage_resource(action, lineage, key), false);
    return is_backed_off(engine, resource) ? resource : NULL;
  }
  const size_t count = stage_signs(stage) ? signers_of(action, lineage, key, ids) : 0;
  for (size_t i = 0; i < count; i++) {
    struct engine_resource *resource = resource_get(engine, RESOURCE_SIGNER, ids[i], false);
    if (!is_backed_off(engine, resource)) {
      if (resource && resource->failures > 0) *ret_probes = resource;
      return NULL;
    }
    if (!first || resource->retry_at < first->retry_at) first = resource;
  }
  return first;
}

bool engine_resource_puts_off(struct engine *engine, enum plan_action action, const struct lineage *lineage, size_t key, int64_t *ret_moment) {
  struct engine_resource *probes = NULL;
  const struct engine_resource *resource = waits_for(engine, action, lineage, key, &probes);
  if (probes) probes->probing = true;
  if (resource) *ret_moment = put_off(engine, resource, lineage);
  return resource != NULL;
}

size_t engine_resource_batch(struct engine *engine, const struct queue *queue) {
  const struct engine_resource *resource = queue->stage == &stage_publish ? resource_get(engine, RESOURCE_PUBLISHER, queue->resource, false) : NULL;
  if (resource && resource->failures > 0) return 1;
  const bool publishes = queue->stage == &stage_publish && queue->first;
  const size_t most = publishes ? publisher_batch_maximum(lineage_publisher(&queue->first->lineage, queue->resource)) : 0;
  return most > 0 && most < queue->stage->batch_maximum ? most : queue->stage->batch_maximum;
}

static bool is_out_of_reach(const struct error *error) {
  return error && (error->code == ERROR_TIMEOUT || error->code == ERROR_UNREACHABLE || error->code == ERROR_NO_ROUTE);
}

/* failure NULL: somebody was reached. */
static void note(struct engine *engine, enum resource_kind kind, int64_t id, const char *name, const struct error *failure) {
  struct engine_resource *resource = resource_get(engine, kind, id, failure != NULL);
  if (!resource || (!failure && resource->failures == 0)) return;
  /* What failed beside the probe, because it needs several signers, does not make the pause longer. */
  if (failure && resource->failures > 0 && resource->retry_at > engine->plan_clock.now) return;
  resource->failures = failure ? resource->failures + 1 : 0;
  resource->retry_at = failure ? time_add(engine->plan_clock.now, timing_backoff(resource->failures, true, (uint64_t)id)) : TIME_UNSET;
  resource->changed = true;
  if (!resource->name[0]) snprintf(resource->name, sizeof resource->name, "%s%lld %s", PREFIXES[kind], (long long)id, name);
  text_copy(resource->failure, sizeof resource->failure, failure ? failure->message : "");
}

void engine_note_signer(struct engine *engine, int64_t id, const struct policy_signer *policy, const struct signer_result *results, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (!is_out_of_reach(results[i].error.code ? &results[i].error : NULL)) {
      note(engine, RESOURCE_SIGNER, id, policy->name, NULL);
      return;
    }
  if (count > 0) note(engine, RESOURCE_SIGNER, id, policy->name, &results[0].error);
}

static void note_publisher(const struct operation *operation) {
  const struct work *work = operation->works[0];
  /* Undoing goes where the record was made. */
  const struct key *key = operation_key(operation, 0);
  const bool own = !key || operation->queue->resource != key->publisher_id;
  const char *const name = own ? work->lineage.publisher->name : key->publisher->name;
  const struct error *failure = NULL;
  for (size_t i = 0; i < operation->count; i++) {
    failure = operation->outcomes[i].error;
    if (!is_out_of_reach(failure)) {
      note(operation->engine, RESOURCE_PUBLISHER, operation->queue->resource, name, NULL);
      return;
    }
  }
  note(operation->engine, RESOURCE_PUBLISHER, operation->queue->resource, name, failure);
}

size_t engine_resource_rows(struct engine *engine, struct store_resource rows[ENGINE_RESOURCE_ROWS_MAX]) {
  size_t count = 0;
  for (size_t i = 0; i < engine->resource_count && count < ENGINE_RESOURCE_ROWS_MAX; i++) {
    struct engine_resource *resource = &engine->resources[i];
    if (!resource->changed) continue;
    resource->changed = false;
    rows[count++] = (struct store_resource){
        .name = resource->name, .failures = resource->failures, .retry_at = resource->retry_at, .failure = resource->failures ? resource->failure : NULL};
  }
  return count;
}

size_t engine_resource_note(const struct operation *operation, struct store_resource rows[ENGINE_RESOURCE_ROWS_MAX]) {
  struct engine *engine = operation->engine;
  if (operation->stage == &stage_publish && operation->count > 0) note_publisher(operation);
  /* A probe that ended before it came to the signer is none. */
  for (size_t i = 0; i < engine->resource_count && stage_signs(operation->stage); i++) engine->resources[i].probing = false;
  return engine_resource_rows(engine, rows);
}

/* It is stored: who executes the request may be another than who then probes. */
static void wake(const struct engine *engine, struct engine_resource *resource) {
  if (resource->failures == 0 || resource->retry_at <= engine->plan_clock.now) return;
  resource->retry_at = engine->plan_clock.now;
  resource->changed = true;
}

void engine_resource_wake(struct engine *engine, const struct lineage *lineage) {
  for (size_t i = 0; i < engine->resource_count; i++) {
    struct engine_resource *resource = &engine->resources[i];
    bool wanted = resource->kind == RESOURCE_PUBLISHER && resource->id == lineage->publisher_id;
    for (size_t j = 0; j < lineage->key_count; j++) wanted |= resource->kind == RESOURCE_PUBLISHER && resource->id == lineage->keys[j].publisher_id;
    for (size_t j = 0; j < lineage->signer_count; j++) wanted |= resource->kind == RESOURCE_SIGNER && resource->id == lineage->signer_ids[j];
    if (wanted) wake(engine, resource);
  }
}

void engine_resources_wake(struct engine *engine) {
  for (size_t i = 0; i < engine->resource_count; i++) wake(engine, &engine->resources[i]);
}

/* Takes out of the queue what waits for a resource that is out of reach; works gets them. Returns their number. */
static size_t take_waiting(struct engine *engine, struct queue *queue, struct work **works) {
  const size_t waiting = queue->waiting;
  size_t count = 0;
  for (size_t i = 0; i < waiting; i++) {
    struct work *work = queue_take(queue);
    struct engine_resource *probes = NULL;
    const struct engine_resource *resource = waits_for(engine, work->action, &work->lineage, work->key, &probes);
    if (!resource) {
      queue_put(queue, work);
      continue;
    }
    work->lineage.next_moment = put_off(engine, resource, &work->lineage);
    works[count++] = work;
  }
  return count;
}

int engine_put_off_waiting(struct engine *engine, struct queue *queue, struct error *error) {
  if (queue->waiting == 0) return 0;
  CLEANUP_FREE struct lineage **lineages = calloc(queue->waiting, sizeof(struct lineage *));
  CLEANUP_FREE struct work **works = calloc(queue->waiting, sizeof(struct work *));
  if (!lineages || !works) return error_set(error, ERROR_NO_MEMORY, "out of memory for a back-off");
  const size_t count = take_waiting(engine, queue, works);
  for (size_t i = 0; i < count; i++) {
    lineages[i] = &works[i]->lineage;
    if (works[i]->key < lineages[i]->key_count) lineages[i]->keys[works[i]->key].intent_open = false;
  }
  const struct store_commit commit = {.lineages = lineages, .lineage_count = count};
  const int result = count ? engine->setup.store->ops->commit(engine->setup.store, &commit, error) : 0;
  for (size_t i = 0; i < count; i++) work_free(works[i]);
  engine->works -= count;
  return result;
}
