#include <stdlib.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/key_jobs.h"
#include "dkimroll/survey.h"
#include "dkimroll/text.h"
#include "engine_internal.h"

/* Private keys are destroyed or archived, unless another key of any lineage names the same file (I4). The file of an adopted key may be that of others by right: of a
 * domain that is not in the policy, or of one that shares it. Then it stays, and goes with the last of those that were adopted too. */
struct destruction {
  size_t pending;
  struct destruction_item {
    size_t placement;
    struct placement_report reports[KEY_PLACEMENTS_MAX];
    bool foreign[KEY_PLACEMENTS_MAX]; /* a KeyTable names the file of that placement */
  } items[];
};

struct user_search {
  int64_t lineage_id, key_id;
  const char *path;
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

/* Of those that are at their end together, one with a higher number will look after the file. */
static bool needs_file(const struct key *key, const struct user_search *search) {
  bool has = false, named = false;
  for (size_t i = 0; i < key->placement_count; i++) {
    const struct placement *placement = &key->placements[i];
    has |= !placement->destroyed && text_equal(placement->key_path, search->path);
    named |= placement->switched_at != TIME_UNSET && placement->drained_at == TIME_UNSET;
  }
  return has && (named || key->absent_at == TIME_UNSET || key->id > search->key_id);
}

static int needing_user(void *context, const void *row) {
  const struct user_search *search = context;
  const struct lineage *lineage = row;
  for (size_t i = 0; i < lineage->key_count; i++)
    if (lineage->id != search->lineage_id && needs_file(&lineage->keys[i], search)) return 1;
  return 0;
}

/* 1: somebody else needs the file; 0: nobody; negative: the store failed. */
static int find_needing_user(struct operation *operation, size_t i, const char *path, struct error *error) {
  struct store *store = operation->engine->setup.store;
  struct user_search search = {.lineage_id = operation->works[i]->lineage.id, .key_id = operation_key(operation, i)->id, .path = path};
  const struct store_filter filter = {.text = path};
  return store->ops->select(store, STORE_SELECT_KEY_USERS, &filter, needing_user, &search, error);
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

static int submit_end(struct operation *operation, size_t i, const char *path, struct error *error) {
  const struct policy_rules *rules = operation->works[i]->lineage.rules;
  const bool archive = rules->private_key == PRIVATE_KEY_ARCHIVE && operation_key(operation, i)->state >= KEY_ACTIVE;
  struct buffer payload = BUFFER_WITH_MAXIMUM(KEYPAIR_FILE_MAX);
  CLEANUP_FREE char *directory = NULL;
  int result = archive ? policy_directory(rules->archive_directory, operation->works[i]->lineage.domain, &directory, error) : 0;
  if (archive && !result)
    key_jobs_archive(&payload, path, directory);
  else
    key_jobs_path(&payload, path);
  if (!result) result = operation_submit(operation, i, archive ? KEEPER_ARCHIVE : KEEPER_DESTROY, &payload, destroyed, error);
  buffer_release(&payload);
  return result;
}

/* 1: there is nothing to be destroyed at the present placement, *ret_kept says why; 0: there is. */
static int look_at_placement(struct operation *operation, size_t i, bool *ret_kept, struct error *error) {
  const struct destruction_item *item = &((struct destruction *)operation->state)->items[i];
  const struct key *key = operation_key(operation, i);
  const struct placement *placement = &key->placements[item->placement];
  *ret_kept = placement->destroyed && placement->key_path && key_is_adopted(key); /* from the start */
  if (placement->destroyed) return 1;
  if (!key_is_adopted(key)) return check_unused(operation, i, placement->key_path, error);
  const int result = item->foreign[item->placement] ? 1 : find_needing_user(operation, i, placement->key_path, error);
  *ret_kept = result == 1;
  return result;
}

static void destroy_next(struct operation *operation, size_t i) {
  struct destruction_item *item = &((struct destruction *)operation->state)->items[i];
  const struct key *key = operation_key(operation, i);
  struct error error = {0};
  bool kept = false;
  int result = 0;
  while (item->placement < key->placement_count && (result = look_at_placement(operation, i, &kept, &error)) == 1) {
    item->reports[item->placement] = (struct placement_report){
        .signer_id = key->placements[item->placement].signer_id, .completed_at = loop_wall(operation->engine->setup.loop), .kept = kept};
    item->placement++;
  }
  if (!result && item->placement < key->placement_count) {
    result = submit_end(operation, i, key->placements[item->placement].key_path, &error);
    if (!result) return;
  }
  if (result < 0) operation_fail(operation, i, &error);
  operation->outcomes[i].placements = item->reports;
  operation->outcomes[i].placement_count = item->placement;
  item_finish(operation);
}

/* Adopted keys wait for the keeper's word on who names their files; the others need none. */
static void start_items(struct operation *operation, bool adopted) {
  for (size_t i = 0; i < operation->count; i++)
    if (key_is_adopted(operation_key(operation, i)) == adopted) destroy_next(operation, i);
}

static size_t gather_paths(const struct operation *operation, const char **paths) {
  size_t count = 0;
  for (size_t i = 0; i < operation->count; i++) {
    const struct key *key = operation_key(operation, i);
    for (size_t j = 0; key_is_adopted(key) && j < key->placement_count; j++)
      if (key->placements[j].key_path && paths) paths[count++] = key->placements[j].key_path;
      else count += key->placements[j].key_path != NULL;
  }
  return count;
}

static void fail_adopted(struct operation *operation, const struct error *error) {
  for (size_t i = 0; i < operation->count; i++) {
    if (!key_is_adopted(operation_key(operation, i))) continue;
    operation_fail(operation, i, error);
    item_finish(operation);
  }
}

static void users_found(struct operation *operation, size_t unused, const struct error *result, const uint8_t *reply, size_t size) {
  struct destruction *destruction = operation->state;
  const size_t count = gather_paths(operation, NULL);
  char **users = calloc(count + 1, sizeof(char *));
  struct error error = *result;
  (void)unused;
  if (!users) error_set(&error, ERROR_NO_MEMORY, "out of memory for a destruction");
  if (!error.code) (void)!survey_read_users(reply, size, users, count, &error);
  destruction->pending++; /* so that the operation outlives this function */
  if (error.code) {
    fail_adopted(operation, &error);
  } else {
    size_t at = 0;
    for (size_t i = 0; i < operation->count; i++) {
      const struct key *key = operation_key(operation, i);
      for (size_t j = 0; key_is_adopted(key) && j < key->placement_count; j++)
        if (key->placements[j].key_path) destruction->items[i].foreign[j] = users[at++] != NULL;
    }
    start_items(operation, true);
  }
  for (size_t i = 0; users && i < count; i++) free(users[i]);
  free(users);
  item_finish(operation);
}

static void ask_users(struct operation *operation) {
  const size_t count = gather_paths(operation, NULL);
  struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  struct error error = {0};
  CLEANUP_FREE const char **paths = calloc(count + 1, sizeof(const char *));
  int result = paths ? 0 : error_set(&error, ERROR_NO_MEMORY, "out of memory for a destruction");
  if (!result) survey_request_users(&payload, paths, gather_paths(operation, paths));
  if (!result) result = operation_submit(operation, 0, KEEPER_KEY_USERS, &payload, users_found, &error);
  buffer_release(&payload);
  if (result) fail_adopted(operation, &error);
}

static void begin(void *context) {
  struct operation *operation = context;
  struct destruction *destruction = operation->state;
  bool adopted = false;
  operation->later = NULL;
  destruction->pending = operation->count + 1; /* one for this loop, so that the operation outlives it */
  for (size_t i = 0; i < operation->count; i++) adopted |= key_is_adopted(operation_key(operation, i));
  start_items(operation, false);
  if (adopted) ask_users(operation);
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
