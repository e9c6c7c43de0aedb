#include <stdlib.h>
#include <string.h>

#include "dkimroll/key_jobs.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"
#include "engine_internal.h"

/* Generation: first a survey, which tells whether the selector is free in DNS and what caches may hold of it, then the key pair at the first signer's path, then
 * copies for signers with another path, one after the other. */
struct generation {
  struct observe_operation *survey;
  size_t pending; /* items that are not finished */
  struct generation_item {
    char *record;
    char zone[DNS_NAME_TEXT_SIZE];
    char owner[DNS_NAME_TEXT_SIZE]; /* where the record will really be: other than its name behind CNAME or DNAME */
    size_t placement; /* the next one to make */
    struct placement_report reports[KEY_PLACEMENTS_MAX];
  } items[];
};

static void generation_release(struct operation *operation) {
  struct generation *generation = operation->state;
  observer_cancel(operation->engine->setup.observer, &generation->survey);
}

static void item_finish(struct operation *operation) {
  struct generation *generation = operation->state;
  if (--generation->pending > 0) return;
  operation_finish(operation);
}

static void item_fail(struct operation *operation, size_t i, const struct error *error) {
  operation_fail(operation, i, error);
  item_finish(operation);
}

static void make_next(struct operation *operation, size_t i);

static void placement_made(struct operation *operation, size_t i, const struct error *result, const uint8_t *reply, size_t size) {
  struct generation *generation = operation->state;
  struct generation_item *item = &generation->items[i];
  struct key *key = operation_key(operation, i);
  struct keypair_public public_key = {0};
  struct error error = *result;
  int failed = error.code;
  if (!failed) failed = key_jobs_read_public(reply, size, &public_key, &error);
  if (!failed && !item->record) failed = record_build(key->algorithm, public_key.public_key, public_key.public_key_size, &item->record, &error);
  keypair_public_release(&public_key);
  if (failed) {
    item_fail(operation, i, &error);
    return;
  }
  item->reports[item->placement] = (struct placement_report){.signer_id = key->placements[item->placement].signer_id,
                                                             .completed_at = loop_wall(operation->engine->setup.loop)};
  item->placement++;
  make_next(operation, i);
}

static int submit_placement(struct operation *operation, size_t i, struct error *error) {
  const struct generation *generation = operation->state;
  const struct key *key = operation_key(operation, i);
  const size_t at = generation->items[i].placement;
  const struct placement *placement = &key->placements[at];
  struct buffer payload = BUFFER_WITH_MAXIMUM(KEYPAIR_FILE_MAX);
  enum keeper_job job = KEEPER_GENERATE;
  if (at == 0) {
    key_jobs_generate(&payload, &(struct key_generate_request){.algorithm = key->algorithm,
                                                               .bits = key->bits,
                                                               .path = placement->key_path,
                                                               .owner = placement->signer->owner,
                                                               .mode = placement->signer->mode});
  } else {
    job = KEEPER_COPY;
    key_jobs_copy(&payload, key->placements[0].key_path,
                  &(struct key_generate_request){.path = placement->key_path, .owner = placement->signer->owner, .mode = placement->signer->mode});
  }
  int result = operation_submit(operation, i, job, &payload, placement_made, error);
  buffer_release(&payload);
  return result;
}

/* Two signers with one path share the file. */
static bool path_was_made(const struct key *key, size_t placement) {
  for (size_t i = 0; i < placement; i++)
    if (text_equal(key->placements[i].key_path, key->placements[placement].key_path)) return true;
  return false;
}

static void make_next(struct operation *operation, size_t i) {
  struct generation *generation = operation->state;
  struct generation_item *item = &generation->items[i];
  const struct key *key = operation_key(operation, i);
  struct error error = {0};
  while (item->placement < key->placement_count && path_was_made(key, item->placement)) {
    item->reports[item->placement] = (struct placement_report){.signer_id = key->placements[item->placement].signer_id,
                                                               .completed_at = loop_wall(operation->engine->setup.loop)};
    item->placement++;
  }
  if (item->placement == key->placement_count) {
    struct outcome *outcome = &operation->outcomes[i];
    outcome->record = item->record;
    outcome->placements = item->reports;
    outcome->placement_count = item->placement;
    item_finish(operation);
  } else if (submit_placement(operation, i, &error)) {
    item_fail(operation, i, &error);
  }
}

/* Behind a CNAME whose target does not carry the selector, be it one for this name or a wildcard's, all keys would share one record. A DNAME keeps the selector. */
static bool alias_drops_selector(const struct observe_result *result, const struct key *key) {
  const size_t size = strlen(key->selector);
  return !text_equal(result->owner, key->owner_name) && !(strncmp(result->owner, key->selector, size) == 0 && result->owner[size] == '.');
}

static bool survey_says_free(const struct observe_result *result, const struct key *key, struct error *error) {
  if (result->error.code) {
    *error = result->error;
    return false;
  }
  if (result->free) return true;
  for (size_t i = 0; i < result->server_count; i++) {
    if (result->servers[i].verdict != OBSERVE_WRONG) continue;
    error_set(error, ERROR_CONFLICT, "%s is taken in DNS already: %s says %s", key->owner_name, result->servers[i].host, result->foreign);
    if (alias_drops_selector(result, key))
      error_remedy(error,
                   "the name is an alias of %s, and a CNAME leads to one record, whatever the key: in its place let %s be a DNAME, or NS records to a zone of "
                   "that name",
                   result->owner, key->owner_name + strlen(key->selector) + 1);
    return false;
  }
  error_set(error, ERROR_TIMEOUT, "no authoritative server of %s answers%s%s", result->zone,
            result->server_count ? ": " : "", result->server_count ? result->servers[0].answer : "");
  error_remedy(error, "check that the name servers are up and reachable from here");
  return false;
}

static void surveyed(void *context, const struct observe_result *results, size_t count) {
  struct operation *operation = context;
  struct generation *generation = operation->state;
  generation->survey = NULL;
  generation->pending = count + 1; /* one for this loop, so that the operation outlives it */
  for (size_t i = 0; i < count; i++) {
    struct outcome *outcome = &operation->outcomes[i];
    struct error error = {0};
    if (!survey_says_free(&results[i], operation_key(operation, i), &error)) {
      item_fail(operation, i, &error);
      continue;
    }
    text_copy(generation->items[i].zone, sizeof generation->items[i].zone, results[i].zone);
    text_copy(generation->items[i].owner, sizeof generation->items[i].owner, results[i].owner);
    outcome->zone = generation->items[i].zone;
    outcome->owner = generation->items[i].owner;
    outcome->ttl_negative = results[i].ttl_negative;
    outcome->ttl_old = results[i].ttl_old;
    make_next(operation, i);
  }
  item_finish(operation);
}

static int generate_start(struct operation *operation, struct error *error) {
  struct engine *engine = operation->engine;
  struct generation *generation = calloc(1, sizeof *generation + operation->count * sizeof generation->items[0]);
  struct observe_item *items = generation ? operation_observe_items(operation, OBSERVE_SURVEY) : NULL;
  if (!items) {
    free(generation);
    return error_set(error, ERROR_NO_MEMORY, "out of memory for generation");
  }
  operation->state = generation;
  operation->release = generation_release;
  operation->items = items;
  return observer_start(engine->setup.observer, OBSERVE_SURVEY, items, operation->count,
                        loop_boottime(engine->setup.loop) + ENGINE_CONFIRM_SECONDS * INT64_C(1000), surveyed, operation, &generation->survey, error);
}

static void generation_free(struct operation *operation) {
  struct generation *generation = operation->state;
  for (size_t i = 0; i < operation->count; i++) free(generation->items[i].record);
}

const struct stage stage_generate = {.name = "generate",
                                     .batch_maximum = ENGINE_GENERATE_BATCH,
                                     .seconds = ENGINE_GENERATE_SECONDS,
                                     .parallel = ENGINE_GENERATE_PARALLEL,
                                     .start = generate_start,
                                     .free_state = generation_free};
