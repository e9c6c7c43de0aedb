#include <stdlib.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/key_jobs.h"
#include "dkimroll/text.h"
#include "engine_internal.h"

/* Private keys are destroyed or archived, unless another key of any lineage names the same file (I4). */
struct destruction {
  size_t pending;
  struct destruction_item {
    size_t placement;
    struct placement_report reports[KEY_PLACEMENTS_MAX];
  } items[];
};

struct user_search {
  int64_t lineage_id;
  char domain[DNS_NAME_TEXT_SIZE];
};

static int other_user(void *context, const void *row) {
  struct user_search *search = context;
  const struct lineage *lineage = row;
  if (lineage->id == search->lineage_id) return 0; /* the planner's invariants look at its own keys */
  text_copy(search->domain, sizeof search->domain, lineage->domain);
  return 1;
}

static int check_unused(struct operation *operation, size_t i, const char *path, struct error *error) {
  struct store *store = operation->engine->setup.store;
  struct user_search search = {.lineage_id = operation->works[i]->lineage.id};
  const struct store_filter filter = {.text = path};
  int result = store->ops->select(store, STORE_SELECT_KEY_USERS, &filter, other_user, &search, error);
  if (result <= 0) return result;
  error_set(error, ERROR_CONFLICT, "%s is a key file of %s too and stays", path, search.domain);
  return error_remedy(error, "give every domain its own key-directory (%%d in the policy)");
}

static void destroy_next(struct operation *operation, size_t i);

static void item_finish(struct operation *operation) {
  struct destruction *destruction = operation->state;
  if (--destruction->pending == 0) operation_finish(operation);
}

static void destroyed(struct operation *operation, size_t i, const struct error *result, const uint8_t *reply, size_t size) {
  struct destruction_item *item = &((struct destruction *)operation->state)->items[i];
  (void)reply;
  (void)size;
  if (result->code) {
    operation_fail(operation, i, result);
    item_finish(operation);
    return;
  }
  const struct placement *placement = &operation_key(operation, i)->placements[item->placement];
  item->reports[item->placement++] =
      (struct placement_report){.signer_id = placement->signer_id, .completed_at = loop_wall(operation->engine->setup.loop)};
  destroy_next(operation, i);
}

static void destroy_next(struct operation *operation, size_t i) {
  struct destruction_item *item = &((struct destruction *)operation->state)->items[i];
  const struct key *key = operation_key(operation, i);
  const struct policy_rules *rules = operation->works[i]->lineage.rules;
  if (item->placement == key->placement_count) {
    operation->outcomes[i].placements = item->reports;
    operation->outcomes[i].placement_count = item->placement;
    item_finish(operation);
    return;
  }
  const char *path = key->placements[item->placement].key_path;
  struct buffer payload = BUFFER_WITH_MAXIMUM(KEYPAIR_FILE_MAX);
  struct error error = {0};
  const bool archive = rules->private_key == PRIVATE_KEY_ARCHIVE && key->state >= KEY_ACTIVE;
  CLEANUP_FREE char *directory = NULL;
  int result = archive ? policy_directory(rules->archive_directory, operation->works[i]->lineage.domain, &directory, &error) : 0;
  if (archive && !result)
    key_jobs_archive(&payload, path, directory);
  else
    key_jobs_path(&payload, path);
  if (!result) result = check_unused(operation, i, path, &error);
  if (!result) result = operation_submit(operation, i, archive ? KEEPER_ARCHIVE : KEEPER_DESTROY, &payload, destroyed, &error);
  buffer_release(&payload);
  if (!result) return;
  operation_fail(operation, i, &error);
  item_finish(operation);
}

static void begin(void *context) {
  struct operation *operation = context;
  struct destruction *destruction = operation->state;
  operation->later = NULL;
  destruction->pending = operation->count + 1; /* one for this loop, so that the operation outlives it */
  for (size_t i = 0; i < operation->count; i++) destroy_next(operation, i);
  item_finish(operation);
}

static int destroy_start(struct operation *operation, struct error *error) {
  operation->state = calloc(1, sizeof(struct destruction) + operation->count * sizeof(struct destruction_item));
  if (!operation->state) return error_set(error, ERROR_NO_MEMORY, "out of memory for a destruction");
  return operation_begin_later(operation, begin, error);
}

const struct stage stage_destroy = {.name = "destroy",
                                    .batch_maximum = ENGINE_BATCH_MAX,
                                    .seconds = ENGINE_KEEPER_SECONDS,
                                    .parallel = 4,
                                    .start = destroy_start};
