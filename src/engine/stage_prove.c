#include <stdlib.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/key_jobs.h"
#include "dkimroll/text.h"
#include "engine_internal.h"

/* The proof of a batch of keys that sign: a fresh look at all servers, then the private key files, then one message of each sender through each signer, whose
 * signature is verified with the record that every server was just seen to serve. Nothing is changed; what is wrong is told for each signer by itself. */
struct proof {
  struct observe_operation *observation;
  struct signer *signer; /* at work now */
  const struct policy_signer *policy; /* its */
  struct signer_operation *signing;
  size_t files_pending;                 /* items whose files are not read yet */
  int64_t done_with[ENGINE_SIGNERS_MAX]; /* signers that had their turn */
  size_t done_count;
  size_t *positions; /* works in the signer's batch */
  size_t *places;    /* and which of their placements */
  struct proof_item {
    struct kept_sightings sightings;
    bool served;  /* every server gave its record */
    size_t place; /* the placement whose file is read now */
    struct placement_report reports[KEY_PLACEMENTS_MAX]; /* by placement; signer_id 0: nothing is known yet */
    struct placement_report told[KEY_PLACEMENTS_MAX];    /* those that are known, for the outcome */
    char *failures[KEY_PLACEMENTS_MAX];
  } items[];
};

static void proof_release(struct operation *operation) {
  struct proof *proof = operation->state;
  observer_cancel(operation->engine->setup.observer, &proof->observation);
  if (proof->signing) proof->signer->ops->cancel(proof->signer, proof->signing);
  proof->signing = NULL;
}

static void proof_free(struct operation *operation) {
  struct proof *proof = operation->state;
  for (size_t i = 0; i < operation->count; i++) {
    kept_sightings_release(&proof->items[i].sightings);
    for (size_t j = 0; j < KEY_PLACEMENTS_MAX; j++) free(proof->items[i].failures[j]);
  }
  free(proof->positions);
  free(proof->places);
}

/* One failing signer fails the item, and says nothing about the others. */
static void report_failure(struct operation *operation, size_t i, size_t place, enum placement_damage damage, const struct error *error) {
  struct proof_item *item = &((struct proof *)operation->state)->items[i];
  const struct placement *placement = &operation_key(operation, i)->placements[place];
  item->failures[place] = text_format("signer %s: %s%s%s", placement->signer->name, error->message, error->remedy[0] ? "; " : "", error->remedy);
  item->reports[place] = (struct placement_report){.signer_id = placement->signer_id,
                                                   .damage = damage,
                                                   .failure = item->failures[place] ? item->failures[place] : "it does not sign as it should"};
  operation_fail(operation, i, error);
}

static bool place_is_wanted(const struct operation *operation, size_t i, size_t place) {
  const struct proof_item *item = &((struct proof *)operation->state)->items[i];
  return item->served && item->reports[place].signer_id == 0 && placement_signs(&operation->works[i]->lineage, operation_key(operation, i), place);
}

/* ---- signers ---- */

static enum placement_damage damage_of(const struct error *error) {
  switch (error->code) {
  case ERROR_PROOF: return DAMAGE_TABLES;
  case ERROR_UNREACHABLE:
  case ERROR_REFUSED:
  case ERROR_BUSY:
  case ERROR_TIMEOUT: return DAMAGE_SIGNER_DOWN;
  default: return DAMAGE_KEPT;
  }
}

static void next_signer(struct operation *operation);

static void proved(void *context, const struct signer_result *results, size_t count) {
  struct operation *operation = context;
  struct proof *proof = operation->state;
  proof->signing = NULL;
  engine_note_signer(operation->engine, proof->done_with[proof->done_count - 1], proof->policy, results, count);
  for (size_t n = 0; n < count; n++) {
    const size_t i = proof->positions[n], place = proof->places[n];
    if (results[n].error.code)
      report_failure(operation, i, place, damage_of(&results[n].error), &results[n].error);
    else
      proof->items[i].reports[place] = (struct placement_report){.signer_id = operation_key(operation, i)->placements[place].signer_id,
                                                                 .completed_at = results[n].completed_at};
  }
  next_signer(operation);
}

/* The signer of the domain's policy in whose tables the placement is: its entry there may have been edited since the key was placed. */
static size_t find_signer(const struct lineage *lineage, const struct placement *placement) {
  size_t i = 0;
  while (i < lineage->signer_count && !text_equal(lineage->signers[i]->name, placement->signer->name)) i++;
  return i;
}

/* false: every signer had its turn. */
static bool choose_signer(const struct operation *operation, int64_t *ret_id, const struct policy_signer **ret_policy) {
  const struct proof *proof = operation->state;
  for (size_t i = 0; i < operation->count; i++) {
    const struct lineage *lineage = &operation->works[i]->lineage;
    const struct key *key = operation_key(operation, i);
    for (size_t j = 0; j < key->placement_count; j++) {
      if (!place_is_wanted(operation, i, j)) continue;
      const size_t signer = find_signer(lineage, &key->placements[j]);
      bool done = false;
      for (size_t k = 0; k < proof->done_count; k++) done |= proof->done_with[k] == lineage->signer_ids[signer];
      *ret_id = lineage->signer_ids[signer];
      *ret_policy = lineage->signers[signer];
      if (!done) return true;
    }
  }
  return false;
}

/* Somebody has changed the tables since the last proof. Lines of adopted keys, and of a key whose name would be another one by now, are not what an edit would write. */
static bool is_to_compare(const struct lineage *lineage, const struct key *key, size_t place, const struct policy_signer *policy) {
  const struct placement *placement = &key->placements[place];
  if (lineage->tables_changed_at < placement->proved_at || key_is_adopted(key)) return false;
  CLEANUP_FREE char *written = policy_signer_key_name(placement->signer, lineage->domain, key->selector);
  CLEANUP_FREE char *now = policy_signer_key_name(policy, lineage->domain, key->selector);
  return written && now && text_equal(written, now);
}

static size_t fill_items(struct operation *operation, int64_t id) {
  struct proof *proof = operation->state;
  struct signer_item *items = operation->items;
  size_t count = 0;
  for (size_t i = 0; i < operation->count; i++) {
    const struct lineage *lineage = &operation->works[i]->lineage;
    const struct key *key = operation_key(operation, i);
    for (size_t j = 0; j < key->placement_count; j++) {
      if (!place_is_wanted(operation, i, j) || lineage->signer_ids[find_signer(lineage, &key->placements[j])] != id) continue;
      proof->positions[count] = i;
      proof->places[count] = j;
      items[count++] = (struct signer_item){.domain = lineage->domain,
                                            .selector = key->selector,
                                            .key_path = key->placements[j].key_path,
                                            .record = key->record,
                                            .compare = is_to_compare(lineage, key, j, proof->policy),
                                            .senders = (const char *const *)lineage->senders,
                                            .sender_count = lineage->sender_count};
      break; /* a signer has one place of a key */
    }
  }
  return count;
}

static void finish(struct operation *operation) {
  struct proof *proof = operation->state;
  for (size_t i = 0; i < operation->count; i++) {
    struct proof_item *item = &proof->items[i];
    struct outcome *outcome = &operation->outcomes[i];
    outcome->placements = item->told;
    for (size_t j = 0; j < KEY_PLACEMENTS_MAX; j++)
      if (item->reports[j].signer_id != 0) item->told[outcome->placement_count++] = item->reports[j];
  }
  operation_finish(operation);
}

static void next_signer(struct operation *operation) {
  struct proof *proof = operation->state;
  const struct policy_signer *policy = NULL;
  struct error error = {0};
  int64_t id = 0;
  if (proof->done_count == ENGINE_SIGNERS_MAX || !choose_signer(operation, &id, &policy)) {
    finish(operation);
    return;
  }
  proof->done_with[proof->done_count++] = id;
  proof->policy = policy;
  const size_t count = fill_items(operation, id);
  int result = engine_find_signer(operation->engine, id, policy, &proof->signer, &error);
  if (!result) result = proof->signer->ops->prove(proof->signer, operation->items, count, operation->deadline, proved, operation, &proof->signing, &error);
  if (!result) return;
  for (size_t n = 0; n < count; n++) report_failure(operation, proof->positions[n], proof->places[n], DAMAGE_KEPT, &error);
  next_signer(operation);
}

/* ---- key files ---- */

static void read_next(struct operation *operation, size_t i);

static void read_end(struct operation *operation) {
  struct proof *proof = operation->state;
  if (--proof->files_pending == 0) next_signer(operation);
}

/* What only the keeper cannot do is no damage: the signature tells. */
static void note_file(struct operation *operation, size_t i, struct error *error) {
  const struct proof_item *item = &((struct proof *)operation->state)->items[i];
  const char *path = operation_key(operation, i)->placements[item->place].key_path;
  const bool missing = error->code == ERROR_NOT_FOUND, other = error->code == ERROR_CONFLICT || error->code == ERROR_INVALID;
  if (missing) error_set(error, ERROR_NOT_FOUND, "the private key %s is not there, so mail is refused or goes out unsigned", path);
  if (other) error_context(error, "%s", path);
  if (!missing && !other) return;
  error_remedy(error, "put it back from a backup, and the next proof finds it; else dkimroll takes a copy that another signer has, or a new key takes over as "
                      "soon as caches allow");
  report_failure(operation, i, item->place, missing ? DAMAGE_FILE_MISSING : DAMAGE_FILE_OTHER, error);
}

static void file_read_done(struct operation *operation, size_t i, const struct error *result, const uint8_t *reply, size_t size) {
  struct error error;
  if (key_check_file(operation_key(operation, i), result, reply, size, &error)) note_file(operation, i, &error);
  ((struct proof *)operation->state)->items[i].place++;
  read_next(operation, i);
}

static void read_next(struct operation *operation, size_t i) {
  struct proof_item *item = &((struct proof *)operation->state)->items[i];
  const struct key *key = operation_key(operation, i);
  struct error error = {0};
  for (; item->place < key->placement_count; item->place++) {
    if (!place_is_wanted(operation, i, item->place)) continue;
    if (!key->placements[item->place].key_path) continue; /* adopted, and in a KeyTable itself: the signature tells */
    struct buffer payload = BUFFER_WITH_MAXIMUM(KEYPAIR_FILE_MAX);
    key_jobs_path(&payload, key->placements[item->place].key_path);
    int result = operation_submit(operation, i, KEEPER_READ_PUBLIC, &payload, file_read_done, &error);
    buffer_release(&payload);
    if (!result) return;
  }
  read_end(operation);
}

static void observed(void *context, const struct observe_result *results, size_t count) {
  struct operation *operation = context;
  struct proof *proof = operation->state;
  proof->observation = NULL;
  proof->files_pending = count + 1; /* one for this loop, so that the operation outlives it */
  for (size_t i = 0; i < count; i++) {
    struct error error = {0};
    if (outcome_take_presence(&operation->outcomes[i], &results[i], operation_key(operation, i)->selector, &proof->items[i].sightings, &error)) {
      operation_fail(operation, i, &error);
      read_end(operation);
    } else {
      proof->items[i].served = true;
      read_next(operation, i);
    }
  }
  read_end(operation);
}

static int prove_start_stage(struct operation *operation, struct error *error) {
  struct proof *proof = calloc(1, sizeof *proof + operation->count * sizeof proof->items[0]);
  struct observe_item *observed_items = operation_observe_items(operation, OBSERVE_PRESENT);
  operation->state = proof;
  operation->borrowed = observed_items;
  operation->items = calloc(operation->count, sizeof(struct signer_item));
  if (!proof || !observed_items || !operation->items) return error_set(error, ERROR_NO_MEMORY, "out of memory for a proof");
  operation->release = proof_release;
  proof->positions = calloc(operation->count, sizeof(size_t));
  proof->places = calloc(operation->count, sizeof(size_t));
  if (!proof->positions || !proof->places) return error_set(error, ERROR_NO_MEMORY, "out of memory for a proof");
  return observer_start(operation->engine->setup.observer, OBSERVE_PRESENT, observed_items, operation->count,
                        loop_boottime(operation->engine->setup.loop) + ENGINE_CONFIRM_SECONDS * INT64_C(1000), observed, operation, &proof->observation, error);
}

const struct stage stage_prove = {.name = "prove",
                                  .batch_maximum = ENGINE_PROVE_BATCH,
                                  .seconds = ENGINE_SIGN_SECONDS,
                                  .parallel = 1,
                                  .start = prove_start_stage,
                                  .free_state = proof_free};
