#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/key_jobs.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"
#include "engine_internal.h"

/* Activation of a batch: a fresh look at all servers, then the private keys' public halves against the records (a signer that was added to the policy
 * gets its copy of the file here), then one signer after the other. What fails at one check does not reach the next. */
struct activation {
  struct observe_operation *observation;
  struct signer *signer; /* at work now */
  int64_t signer_id;
  struct signer_operation *signing;
  size_t keys_pending; /* items whose files are not checked yet */
  const struct policy_signer *done_with[ENGINE_SIGNERS_MAX]; /* signers that had their turn */
  size_t done_count;
  size_t *positions; /* works in the signer's batch */
  struct activation_item {
    struct kept_sightings sightings;
    size_t signer;                   /* of the lineage: the one whose file is checked now */
    char *paths[POLICY_SIGNERS_MAX]; /* by signer of the lineage; NULL: nothing to do there */
    bool copied[POLICY_SIGNERS_MAX];
    struct placement_report reports[KEY_PLACEMENTS_MAX]; /* at most one for each signer of the lineage */
    size_t report_count;
    char *failures[KEY_PLACEMENTS_MAX], *restarts[KEY_PLACEMENTS_MAX];
    char *name, *previous_name; /* in KeyTable, of a key that is mended, and of the key that signs until now, at the signer that is at work */
  } items[];
};

static void activation_release(struct operation *operation) {
  struct activation *activation = operation->state;
  observer_cancel(operation->engine->setup.observer, &activation->observation);
  if (activation->signing) activation->signer->ops->cancel(activation->signer, activation->signing);
  activation->signing = NULL;
}

static void activation_free(struct operation *operation) {
  struct activation *activation = operation->state;
  for (size_t i = 0; i < operation->count; i++) {
    struct activation_item *item = &activation->items[i];
    kept_sightings_release(&item->sightings);
    free(item->name);
    free(item->previous_name);
    for (size_t j = 0; j < KEY_PLACEMENTS_MAX; j++) free(item->failures[j]);
    for (size_t j = 0; j < KEY_PLACEMENTS_MAX; j++) free(item->restarts[j]);
    for (size_t j = 0; j < POLICY_SIGNERS_MAX; j++) free(item->paths[j]);
  }
  free(activation->positions);
}

static void next_signer(struct operation *operation);

/* Where the key goes at signer. One that was added to the policy has no placement of the key yet. */
static int find_path(const struct operation *operation, size_t i, size_t signer, char **ret_path, struct error *error) {
  const struct lineage *lineage = &operation->works[i]->lineage;
  const struct key *key = operation_key(operation, i);
  const bool repair = operation->works[i]->action == PLAN_REPAIR;
  for (size_t j = 0; j < key->placement_count; j++)
    if (key->placements[j].signer_id == lineage->signer_ids[signer] || (repair && placement_serves(&key->placements[j], lineage->signers[signer]))) {
      *ret_path = text_duplicate(key->placements[j].key_path);
      return *ret_path ? 0 : error_set(error, ERROR_NO_MEMORY, "out of memory for a path");
    }
  return policy_signer_key_path(lineage->signers[signer], lineage->domain, key->selector, ret_path, error);
}

/* An active key goes only to signers that do not sign with it yet, or that are to be mended; their entries in the policy may have been edited since, the
 * tables are what counts. */
static bool signer_is_wanted(const struct operation *operation, size_t i, size_t signer) {
  const struct work *work = operation->works[i];
  const struct key *key = operation_key(operation, i);
  bool proved = false, repairable = false;
  for (size_t j = 0; j < key->placement_count; j++) {
    if (!placement_serves(&key->placements[j], work->lineage.signers[signer])) continue;
    proved |= key->placements[j].proved_at != TIME_UNSET;
    repairable |= placement_is_repairable(&work->lineage, key, j);
  }
  return work->action == PLAN_REPAIR ? repairable : key->state != KEY_ACTIVE || !proved;
}

static bool path_was_checked(const struct activation_item *item) {
  for (size_t j = 0; j < item->signer; j++)
    if (item->paths[j] && text_equal(item->paths[j], item->paths[item->signer])) return true;
  return false;
}

static void check_next(struct operation *operation, size_t i);

static void check_end(struct operation *operation) {
  struct activation *activation = operation->state;
  if (--activation->keys_pending == 0) next_signer(operation);
}

int key_check_file(const struct key *key, const struct error *result, const uint8_t *reply, size_t size, struct error *error) {
  struct keypair_public public_key = {0};
  *error = *result;
  bool belongs = false;
  int failed = error->code;
  if (!failed) failed = key_jobs_read_public(reply, size, &public_key, error);
  if (!failed) failed = record_holds(key->record, public_key.algorithm, public_key.public_key, public_key.public_key_size, &belongs, error);
  if (!failed && !belongs) {
    failed = error_set(error, ERROR_CONFLICT, "the private key of %s does not belong to its published record", key->selector);
    error_remedy(error, "somebody replaced the file; `dkimroll rotate` makes a new key");
  }
  keypair_public_release(&public_key);
  return failed;
}

static void file_checked(struct operation *operation, size_t i, const struct error *result, const uint8_t *reply, size_t size) {
  struct activation_item *item = &((struct activation *)operation->state)->items[i];
  const struct key *key = operation_key(operation, i);
  struct error error;
  if (!result->code) item->copied[item->signer] = !key_find_file(key, item->paths[item->signer]);
  const int failed = key_check_file(key, result, reply, size, &error);
  if (failed) {
    operation_fail(operation, i, &error);
    check_end(operation);
    return;
  }
  item->signer++;
  check_next(operation, i);
}

/* Reads the file at the present signer's path, or puts a copy there first: the answer is the same, the public half. */
static int submit_check(struct operation *operation, size_t i, struct error *error) {
  const struct activation_item *item = &((struct activation *)operation->state)->items[i];
  const struct policy_signer *signer = operation->works[i]->lineage.signers[item->signer];
  const struct key *key = operation_key(operation, i);
  const char *path = item->paths[item->signer];
  const char *source = key_find_file(key, path) ? NULL : key_find_file(key, NULL);
  struct buffer payload = BUFFER_WITH_MAXIMUM(KEYPAIR_FILE_MAX);
  if (source)
    key_jobs_copy(&payload, source, &(struct key_generate_request){.path = path, .owner = signer->owner, .mode = signer->mode});
  else
    key_jobs_path(&payload, path);
  int result = operation_submit(operation, i, source ? KEEPER_COPY : KEEPER_READ_PUBLIC, &payload, file_checked, error);
  buffer_release(&payload);
  return result;
}

/* One file after the other, for each signer that the key goes to; signers with one path share the file. */
static void check_next(struct operation *operation, size_t i) {
  struct activation_item *item = &((struct activation *)operation->state)->items[i];
  const struct lineage *lineage = &operation->works[i]->lineage;
  struct error error = {0};
  for (; item->signer < lineage->signer_count; item->signer++) {
    if (!signer_is_wanted(operation, i, item->signer)) continue;
    int result = find_path(operation, i, item->signer, &item->paths[item->signer], &error);
    if (!result && path_was_checked(item)) continue;
    if (!result) result = submit_check(operation, i, &error);
    if (!result) return;
    operation_fail(operation, i, &error);
    break;
  }
  check_end(operation);
}

static void check_keys(struct operation *operation) {
  struct activation *activation = operation->state;
  activation->keys_pending = operation->count + 1; /* one for this loop, so that the operation outlives it */
  for (size_t i = 0; i < operation->count; i++) {
    if (operation->outcomes[i].error)
      check_end(operation);
    else
      check_next(operation, i);
  }
  check_end(operation);
}

static void observed(void *context, const struct observe_result *results, size_t count) {
  struct operation *operation = context;
  struct activation *activation = operation->state;
  activation->observation = NULL;
  for (size_t i = 0; i < count; i++) {
    struct error error = {0};
    int result = outcome_take_presence(&operation->outcomes[i], &results[i], operation_key(operation, i)->selector, &activation->items[i].sightings, &error);
    if (result) operation_fail(operation, i, &error);
  }
  check_keys(operation);
}

static const struct key *other_signing_key(const struct lineage *lineage, const struct key *key) {
  for (size_t i = 0; i < lineage->key_count; i++)
    if (lineage->keys[i].state == KEY_ACTIVE && &lineage->keys[i] != key) return &lineage->keys[i];
  return NULL;
}

/* Tables that somebody has put back from a backup name the key before. */
static const struct key *last_retired_key(const struct lineage *lineage) {
  const struct key *last = NULL;
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *key = &lineage->keys[i];
    if (key->state == KEY_RETIRED && key->deleted_at == TIME_UNSET && (!last || key->retired_at > last->retired_at)) last = key;
  }
  return last;
}

/* Where no key is active, the line of one that import took over may have come to sign, once the line above it was gone. Of several nobody knows which: each attempt is for another one. */
static const struct key *key_in_the_way(const struct lineage *lineage, const struct key *key, const struct policy_signer *signer) {
  const struct key *found[LINEAGE_KEYS_MAX];
  size_t count = 0;
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *other = &lineage->keys[i];
    bool named = false;
    for (size_t j = 0; j < other->placement_count; j++) named |= placement_serves(&other->placements[j], signer) && placement_is_named(&other->placements[j]);
    if (named && other->state == KEY_RETIRED && other->deleted_at == TIME_UNSET && other->compromised_at == TIME_UNSET) found[count++] = other;
  }
  return count ? found[key->failures % count] : NULL;
}

static const char *path_at_signer(const struct key *key, const struct policy_signer *signer) {
  const struct placement *placement = key_placement_at(key, signer);
  return placement ? placement->key_path : NULL;
}

/* The place that is mended keeps its version of the signer, by which its entries are named: import found them so, or key-name was another one then. NULL: none is mended. */
static const struct placement *find_mended(const struct operation *operation, size_t i, const struct policy_signer *policy) {
  const struct key *key = operation_key(operation, i);
  for (size_t j = 0; j < key->placement_count && operation->works[i]->action == PLAN_REPAIR; j++)
    if (placement_serves(&key->placements[j], policy)) return &key->placements[j];
  return NULL;
}

/* The row of the nth signer of the lineage that a report is about. */
static int64_t report_row(const struct operation *operation, size_t i, size_t signer) {
  const struct lineage *lineage = &operation->works[i]->lineage;
  const struct placement *mended = find_mended(operation, i, lineage->signers[signer]);
  return mended ? mended->signer_id : lineage->signer_ids[signer];
}

/* The item for the signer, or false: nothing to do there. */
static bool fill_item(struct operation *operation, size_t i, const struct policy_signer *policy, struct signer_item *item) {
  struct activation_item *own = &((struct activation *)operation->state)->items[i];
  const struct lineage *lineage = &operation->works[i]->lineage;
  const struct key *key = operation_key(operation, i);
  const bool repair = operation->works[i]->action == PLAN_REPAIR;
  const struct key *signing = other_signing_key(lineage, key);
  const struct key *previous = repair ? last_retired_key(lineage) : signing ? signing : key_in_the_way(lineage, key, policy);
  if (operation->outcomes[i].error) return false;
  for (size_t j = 0; j < lineage->signer_count; j++) {
    if (lineage->signers[j] != policy || !own->paths[j]) continue;
    const struct placement *mended = find_mended(operation, i, policy);
    free(TAKE_PTR(own->name));
    free(TAKE_PTR(own->previous_name));
    own->name = mended ? policy_signer_key_name(mended->signer, lineage->domain, key->selector) : NULL;
    own->previous_name = key_name_at(lineage, previous, policy);
    own->reports[own->report_count] = (struct placement_report){.signer_id = report_row(operation, i, j), .key_path = own->paths[j]};
    *item = (struct signer_item){.domain = lineage->domain,
                                 .selector = key->selector,
                                 .key_path = own->paths[j],
                                 .key_name = own->name,
                                 .adopted = repair && key_is_adopted(key),
                                 .record = key->record,
                                 .previous_selector = previous ? previous->selector : NULL,
                                 .previous_key_path = path_at_signer(previous, policy),
                                 .previous_key_name = own->previous_name,
                                 .previous_record = previous ? previous->record : NULL,
                                 .stays = repair || (previous && previous != signing),
                                 .restart = !repair && previous && previous->compromised_at != TIME_UNSET,
                                 .senders = (const char *const *)lineage->senders,
                                 .sender_count = lineage->sender_count};
    return true;
  }
  return false;
}

/* A repair that fails is an alarm, which names the signer at work and what helps. */
static char *describe_failure(const struct operation *operation, size_t i, const struct error *error) {
  const struct activation *activation = operation->state;
  if (operation->works[i]->action != PLAN_REPAIR) return text_duplicate(error->message);
  return text_format("signer %s: %s%s%s", activation->done_with[activation->done_count - 1]->name, error->message, error->remedy[0] ? "; " : "", error->remedy);
}

static void signed_by(void *context, const struct signer_result *results, size_t count) {
  struct operation *operation = context;
  struct activation *activation = operation->state;
  activation->signing = NULL;
  engine_note_signer(operation->engine, activation->signer_id, activation->done_with[activation->done_count - 1], results, count);
  for (size_t n = 0; n < count; n++) {
    const size_t i = activation->positions[n];
    struct activation_item *item = &activation->items[i];
    const size_t at = item->report_count++;
    struct placement_report *report = &item->reports[at];
    /* Tables that could not be taken back name the key: it must be withdrawn there before its file may go. */
    report->switched_at = results[n].rolled_back ? 0 : results[n].switched_at;
    report->completed_at = results[n].error.code ? 0 : results[n].completed_at;
    report->restarted = results[n].restarted;
    if (results[n].restart_failure[0]) report->restart_failure = item->restarts[at] = text_duplicate(results[n].restart_failure);
    if (results[n].error.code) {
      item->failures[at] = describe_failure(operation, i, &results[n].error);
      report->failure = item->failures[at];
      operation_fail(operation, i, &results[n].error);
    }
    operation->outcomes[i].placements = item->reports;
    operation->outcomes[i].placement_count = item->report_count;
  }
  next_signer(operation);
}

static const struct policy_signer *choose_signer(const struct operation *operation, int64_t *ret_id) {
  const struct activation *activation = operation->state;
  for (size_t i = 0; i < operation->count; i++) {
    const struct lineage *lineage = &operation->works[i]->lineage;
    for (size_t j = 0; j < lineage->signer_count && !operation->outcomes[i].error; j++) {
      bool done = false;
      for (size_t k = 0; k < activation->done_count; k++) done |= activation->done_with[k] == lineage->signers[j];
      *ret_id = lineage->signer_ids[j];
      if (!done && activation->items[i].paths[j]) return lineage->signers[j];
    }
  }
  return NULL;
}

static int start_signer(struct operation *operation, const struct policy_signer *policy, int64_t id, struct error *error) {
  struct activation *activation = operation->state;
  struct signer_item *items = operation->items;
  size_t count = 0;
  int result = engine_find_signer(operation->engine, id, policy, &activation->signer, error);
  if (result) return result;
  activation->signer_id = id;
  for (size_t i = 0; i < operation->count; i++)
    if (fill_item(operation, i, policy, &items[count])) activation->positions[count++] = i;
  return activation->signer->ops->activate(activation->signer, items, count, operation->deadline, signed_by, operation, &activation->signing,
                                           error);
}

/* A copy that was made for a signer whose turn did not come is on disk all the same, and must be known to be destroyed one day. */
static void report_copies(struct operation *operation, size_t i) {
  struct activation_item *item = &((struct activation *)operation->state)->items[i];
  const struct lineage *lineage = &operation->works[i]->lineage;
  for (size_t j = 0; j < lineage->signer_count; j++) {
    bool reported = !item->copied[j];
    for (size_t k = 0; k < item->report_count; k++) reported |= item->reports[k].signer_id == report_row(operation, i, j);
    if (reported) continue;
    item->reports[item->report_count++] = (struct placement_report){.signer_id = report_row(operation, i, j), .key_path = item->paths[j]};
    operation->outcomes[i].placements = item->reports;
    operation->outcomes[i].placement_count = item->report_count;
  }
}

static void next_signer(struct operation *operation) {
  struct activation *activation = operation->state;
  struct error error = {0};
  int64_t id = 0;
  const struct policy_signer *policy = choose_signer(operation, &id);
  if (!policy || activation->done_count == ENGINE_SIGNERS_MAX) {
    for (size_t i = 0; i < operation->count; i++) report_copies(operation, i);
    operation_finish(operation);
    return;
  }
  activation->done_with[activation->done_count++] = policy;
  if (start_signer(operation, policy, id, &error) == 0) return;
  /* The signer cannot even start: whoever needs it fails, the others go on. */
  for (size_t i = 0; i < operation->count; i++) {
    const struct lineage *lineage = &operation->works[i]->lineage;
    for (size_t j = 0; j < lineage->signer_count; j++)
      if (lineage->signers[j] == policy && activation->items[i].paths[j] && !operation->outcomes[i].error) operation_fail(operation, i, &error);
  }
  next_signer(operation);
}

static int activate_start(struct operation *operation, struct error *error) {
  struct activation *activation = calloc(1, sizeof *activation + operation->count * sizeof activation->items[0]);
  struct observe_item *observed_items = operation_observe_items(operation, OBSERVE_PRESENT);
  operation->state = activation;
  operation->borrowed = observed_items;
  operation->items = calloc(operation->count, sizeof(struct signer_item));
  if (!activation || !observed_items || !operation->items) return error_set(error, ERROR_NO_MEMORY, "out of memory for an activation");
  operation->release = activation_release;
  activation->positions = calloc(operation->count, sizeof(size_t));
  if (!activation->positions) return error_set(error, ERROR_NO_MEMORY, "out of memory for an activation");
  return observer_start(operation->engine->setup.observer, OBSERVE_PRESENT, observed_items, operation->count,
                        loop_boottime(operation->engine->setup.loop) + ENGINE_CONFIRM_SECONDS * INT64_C(1000), observed, operation,
                        &activation->observation, error);
}

const struct stage stage_activate = {.name = "activate",
                                     .batch_maximum = ENGINE_BATCH_MAX,
                                     .seconds = ENGINE_SIGN_SECONDS,
                                     .parallel = 1,
                                     .start = activate_start,
                                     .free_state = activation_free};

/* The same, for signers that have the key already and do not sign with it any more. */
const struct stage stage_repair = {.name = "repair",
                                   .batch_maximum = ENGINE_PROVE_BATCH,
                                   .seconds = ENGINE_SIGN_SECONDS,
                                   .parallel = 1,
                                   .start = activate_start,
                                   .free_state = activation_free};
