#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "dkimroll/timing.h"
#include "engine_internal.h"

/* Back-off that belongs to a publisher's server: when a whole operation fails because the server cannot be reached, everything that waits for it is put off,
 * and one item alone probes it when the time is over. It is kept in the store, so that the next run does not begin anew. */

#define RESOURCE_PREFIX "publisher "

static struct engine_resource *resource_get(struct engine *engine, int64_t id, bool make) {
  for (size_t i = 0; i < engine->resource_count; i++)
    if (engine->resources[i].id == id) return &engine->resources[i];
  if (!make || engine->resource_count == ENGINE_PUBLISHERS_MAX) return NULL;
  struct engine_resource *resource = &engine->resources[engine->resource_count++];
  *resource = (struct engine_resource){.id = id, .retry_at = TIME_UNSET};
  return resource;
}

static int resource_row(void *context, const void *row) {
  const struct store_resource *stored = row;
  long long id = 0;
  if (!text_starts(stored->name, RESOURCE_PREFIX) || !text_parse_number(stored->name + strlen(RESOURCE_PREFIX), 1, INT64_MAX, &id)) return 0;
  struct engine_resource *resource = resource_get(context, id, true);
  if (resource) {
    resource->failures = stored->failures;
    resource->retry_at = stored->retry_at;
  }
  return 0;
}

int engine_load_resources(struct engine *engine, struct error *error) {
  static const struct store_filter all;
  struct store *store = engine->setup.store;
  return store->ops->select(store, STORE_SELECT_RESOURCES, &all, resource_row, engine, error);
}

/* Those that wait come back one after the other, not all in the second in which the probe goes out. */
static int64_t put_off(const struct engine *engine, const struct engine_resource *resource, const struct lineage *lineage) {
  const int64_t delay = time_max(resource->retry_at - engine->plan_clock.now, 0);
  const uint64_t mixed = (uint64_t)lineage->id * UINT64_C(0x9e3779b97f4a7c15);
  return time_add(resource->retry_at, (int64_t)((mixed >> 33) % (uint64_t)(delay / 4 + 1)));
}

bool engine_resource_puts_off(struct engine *engine, enum plan_action action, const struct lineage *lineage, size_t key, int64_t *ret_moment) {
  const struct engine_resource *resource = resource_get(engine, stage_resource(action, lineage, key), false);
  if (stage_for(action) != &stage_publish || !resource || resource->failures == 0 || resource->retry_at <= engine->plan_clock.now) return false;
  *ret_moment = put_off(engine, resource, lineage);
  return true;
}

size_t engine_resource_batch(struct engine *engine, const struct queue *queue) {
  const struct engine_resource *resource = queue->stage == &stage_publish ? resource_get(engine, queue->resource, false) : NULL;
  if (resource && resource->failures > 0) return 1;
  const bool publishes = queue->stage == &stage_publish && queue->first;
  const size_t most = publishes ? publisher_batch_maximum(lineage_publisher(&queue->first->lineage, queue->resource)) : 0;
  return most > 0 && most < queue->stage->batch_maximum ? most : queue->stage->batch_maximum;
}

static bool is_out_of_reach(const struct error *error) {
  return error && (error->code == ERROR_TIMEOUT || error->code == ERROR_UNREACHABLE || error->code == ERROR_NO_ROUTE);
}

size_t engine_resource_note(const struct operation *operation, struct store_resource *ret_row) {
  struct engine *engine = operation->engine;
  const struct error *failure = NULL;
  bool reached = operation->count == 0;
  if (operation->stage != &stage_publish) return 0;
  for (size_t i = 0; i < operation->count; i++) {
    reached |= !is_out_of_reach(operation->outcomes[i].error);
    failure = operation->outcomes[i].error;
  }
  struct engine_resource *resource = resource_get(engine, operation->queue->resource, !reached);
  if (!resource || (reached && resource->failures == 0)) return 0;
  resource->failures = reached ? 0 : resource->failures + 1;
  resource->retry_at = reached ? TIME_UNSET : time_add(engine->plan_clock.now, timing_backoff(resource->failures, true, (uint64_t)resource->id));
  *ret_row = (struct store_resource){.name = text_format(RESOURCE_PREFIX "%lld", (long long)resource->id),
                                     .failures = resource->failures,
                                     .retry_at = resource->retry_at,
                                     .failure = reached ? NULL : (char *)failure->message};
  return ret_row->name ? 1 : 0;
}

void engine_resource_wake(struct engine *engine, int64_t publisher_id) {
  struct engine_resource *resource = resource_get(engine, publisher_id, false);
  if (resource && resource->failures > 0) resource->retry_at = engine->plan_clock.now;
}

void engine_resources_wake(struct engine *engine) {
  for (size_t i = 0; i < engine->resource_count; i++) engine->resources[i].retry_at = time_min(engine->resources[i].retry_at, engine->plan_clock.now);
}

int engine_put_off_waiting(struct engine *engine, struct queue *queue, struct error *error) {
  const struct engine_resource *resource = queue->stage == &stage_publish ? resource_get(engine, queue->resource, false) : NULL;
  if (!resource || resource->failures == 0 || resource->retry_at <= engine->plan_clock.now || queue->waiting == 0) return 0;
  const size_t count = queue->waiting;
  CLEANUP_FREE struct lineage **lineages = calloc(count + 1, sizeof(struct lineage *));
  CLEANUP_FREE struct work **works = calloc(count + 1, sizeof(struct work *));
  if (!lineages || !works) return error_set(error, ERROR_NO_MEMORY, "out of memory for a back-off");
  for (size_t i = 0; i < count; i++) {
    works[i] = queue_take(queue);
    lineages[i] = &works[i]->lineage;
    lineages[i]->next_moment = put_off(engine, resource, lineages[i]);
    if (works[i]->key < lineages[i]->key_count) lineages[i]->keys[works[i]->key].intent_open = false;
  }
  const struct store_commit commit = {.lineages = lineages, .lineage_count = count};
  const int result = engine->setup.store->ops->commit(engine->setup.store, &commit, error);
  for (size_t i = 0; i < count; i++) work_free(works[i]);
  engine->works -= count;
  return result;
}
