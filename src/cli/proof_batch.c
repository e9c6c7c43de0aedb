#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/proof.h"
#include "dkimroll/status.h"
#include "dkimroll/text.h"

/* ---- what the servers serve ---- */

static bool add_version(struct proof_key *key, const struct observe_server *server) {
  char name[STATUS_SERVER_MAX];
  for (size_t i = 0; i < key->version_count; i++)
    if (strlen(key->versions[i].record) == server->served_size &&
        memcmp(key->versions[i].record, server->served, server->served_size) == 0)
      return true;
  if (key->version_count == PROOF_VERSIONS_MAX) return true;
  struct proof_version *version = &key->versions[key->version_count++];
  version->record = strndup(server->served, server->served_size);
  version->server = text_duplicate(status_server_name(server->host, server->address, name));
  return version->record && version->server;
}

/* If no server has a record that could be verified with, the signer can still be proved with the one that should be
 * there. */
static bool add_expected(struct proof_key *key) {
  if (key->version_count > 0) return true;
  key->versions[key->version_count++].record = text_duplicate(key->key->record);
  return key->versions[0].record != NULL;
}

/* The observer's result ends with its callback. */
static bool keep_result(struct proof_key *key, const struct observe_result *result) {
  key->error = result->error;
  if (result->error.code) return add_expected(key);
  key->servers = calloc(result->server_count + 1, sizeof *key->servers);
  if (!key->servers) return false;
  key->server_count = result->server_count;
  for (size_t i = 0; i < result->server_count; i++) {
    key->servers[i] = result->servers[i];
    key->servers[i].served = NULL;
    if (result->servers[i].served && !add_version(key, &result->servers[i])) return false;
  }
  return add_expected(key);
}

/* ---- messages ---- */

static struct proof_signer *find_signer(struct proof *proof, const struct lineage *lineage, size_t place) {
  const int64_t id = lineage->signer_ids[place];
  for (size_t i = 0; i < proof->signer_count; i++)
    if (proof->signers[i].id == id) return &proof->signers[i];
  struct proof_signer *grown = reallocarray(proof->signers, proof->signer_count + 1, sizeof *grown);
  if (!grown) return NULL;
  proof->signers = grown;
  grown[proof->signer_count] = (struct proof_signer){.proof = proof, .id = id, .policy = lineage->signers[place]};
  return &grown[proof->signer_count++];
}

static bool add_item(struct proof_signer *signer, const struct proof_item *item) {
  if (signer->count == signer->room) {
    const size_t room = signer->room ? signer->room * 2 : PROOF_BATCH;
    struct proof_item *grown = reallocarray(signer->items, room, sizeof *grown);
    if (!grown) return false;
    signer->items = grown;
    signer->room = room;
  }
  signer->items[signer->count++] = *item;
  return true;
}

static bool add_key_at(struct proof *proof, const struct proof_key *key, size_t place) {
  struct proof_signer *signer = find_signer(proof, &key->lineage, place);
  for (size_t i = 0; signer && i < key->lineage.sender_count; i++)
    for (size_t j = 0; j < key->version_count; j++) {
      const struct proof_item item = {.key = key, .sender = key->lineage.senders[i], .version = &key->versions[j]};
      if (!add_item(signer, &item)) return false;
    }
  return signer != NULL;
}

static bool make_items(struct proof *proof) {
  for (size_t i = 0; i < proof->key_count; i++)
    for (size_t j = 0; j < proof->keys[i].lineage.signer_count; j++)
      if (!add_key_at(proof, &proof->keys[i], j)) return false;
  return true;
}

/* ---- signers ---- */

static void fail_item(struct proof_item *item, const struct error *error) {
  item->code = error->code;
  item->text = text_duplicate(error->message);
  item->remedy = text_duplicate(error->remedy);
}

static void end_batch(void *context) {
  struct proof *proof = context;
  proof->ending = NULL;
  proof_batch_done(proof);
}

/* The batch ends from the loop: what called may still need the signer that goes with it. */
static void end_work(struct proof *proof) {
  if (--proof->working > 0) return;
  if (loop_defer(proof->session.backends.loop, end_batch, proof, &proof->ending) == 0) return;
  error_set(proof->error, ERROR_NO_MEMORY, "out of memory for the end of a batch");
  loop_stop(proof->session.backends.loop);
}

static void next_slice(struct proof_signer *signer);

static void slice_proved(void *context, const struct signer_result *results, size_t count) {
  struct proof_signer *signer = context;
  signer->operation = NULL;
  for (size_t i = 0; i < count; i++)
    if (results[i].error.code) fail_item(&signer->items[signer->next + i], &results[i].error);
  signer->next += count;
  next_slice(signer);
}

static int start_slice(struct proof_signer *signer, size_t count, struct error *error) {
  for (size_t i = 0; i < count; i++) {
    const struct proof_item *item = &signer->items[signer->next + i];
    signer->asked[i] = (struct signer_item){.domain = item->key->lineage.domain,
                                            .selector = item->key->key->selector,
                                            .record = item->version->record,
                                            .senders = &item->sender,
                                            .sender_count = 1};
  }
  return signer_prove(signer->signer, signer->asked, count, signer->proof->deadline, slice_proved, signer,
                      &signer->operation, error);
}

/* Proves what is left of the signer's messages, a slice at a time; a signer that cannot even start fails them all. */
static void next_slice(struct proof_signer *signer) {
  struct error error = {0};
  const size_t left = signer->count - signer->next, count = left < PROOF_SLICE ? left : PROOF_SLICE;
  if (count > 0 && start_slice(signer, count, &error) == 0) return;
  for (; signer->next < signer->count; signer->next++) fail_item(&signer->items[signer->next], &error);
  end_work(signer->proof);
}

static void start_signer(struct proof_signer *signer) {
  const struct engine_factory *factory = &signer->proof->session.backends.factory;
  struct error error = {0};
  int result = factory->make_signer(factory->context, signer->policy, &signer->signer, &error);
  signer->asked = calloc(PROOF_SLICE, sizeof *signer->asked);
  if (!result && !signer->asked) result = error_set(&error, ERROR_NO_MEMORY, "out of memory for a signer");
  if (result)
    for (; signer->next < signer->count; signer->next++) fail_item(&signer->items[signer->next], &error);
  next_slice(signer);
}

static void start_signers(struct proof *proof) {
  if (!make_items(proof)) {
    error_set(proof->error, ERROR_NO_MEMORY, "out of memory for the messages");
    loop_stop(proof->session.backends.loop);
    return;
  }
  proof->working = proof->signer_count + 1; /* so that the batch does not end before all have begun */
  for (size_t i = 0; i < proof->signer_count; i++) start_signer(&proof->signers[i]);
  end_work(proof);
}

/* ---- the batch ---- */

static void observed(void *context, const struct observe_result *results, size_t count) {
  struct proof *proof = context;
  bool kept = true;
  proof->observation = NULL;
  for (size_t i = 0; i < count && kept; i++) kept = keep_result(&proof->keys[i], &results[i]);
  if (kept) {
    start_signers(proof);
    return;
  }
  error_set(proof->error, ERROR_NO_MEMORY, "out of memory for the records");
  loop_stop(proof->session.backends.loop);
}

int proof_batch_start(struct proof *proof, struct error *error) {
  struct cli_backends *backends = &proof->session.backends;
  const int64_t now = loop_boottime(backends->loop);
  proof->deadline = now + PROOF_SECONDS * INT64_C(1000);
  proof->asked = calloc(proof->key_count + 1, sizeof *proof->asked);
  if (!proof->asked) return error_set(error, ERROR_NO_MEMORY, "out of memory for the records");
  for (size_t i = 0; i < proof->key_count; i++) {
    const struct proof_key *key = &proof->keys[i];
    proof->asked[i] = (struct observe_item){.name = key->key->owner_name,
                                            .record = key->key->record,
                                            .zone = key->key->zone[0] ? key->key->zone : key->lineage.zone,
                                            .publisher = key->lineage.publisher};
  }
  return observer_start(backends->observer, OBSERVE_PRESENT, proof->asked, proof->key_count,
                        now + PROOF_SERVERS_SECONDS * INT64_C(1000), observed, proof, &proof->observation, error);
}

static void release_key(struct proof_key *key) {
  for (size_t i = 0; i < key->version_count; i++) {
    free(key->versions[i].record);
    free(key->versions[i].server);
  }
  free(key->servers);
  lineage_release(&key->lineage);
}

static void release_signer(struct proof_signer *signer) {
  if (signer->operation) signer_cancel(signer->signer, &signer->operation);
  signer_destroy(signer->signer);
  for (size_t i = 0; i < signer->count; i++) {
    free(signer->items[i].text);
    free(signer->items[i].remedy);
  }
  free(signer->items);
  free(signer->asked);
}

void proof_batch_release(struct proof *proof) {
  if (proof->ending) loop_cancel(proof->session.backends.loop, &proof->ending);
  if (proof->observation) observer_cancel(proof->session.backends.observer, &proof->observation);
  for (size_t i = 0; i < proof->signer_count; i++) release_signer(&proof->signers[i]);
  free(TAKE_PTR(proof->signers));
  free(TAKE_PTR(proof->asked));
  for (size_t i = 0; i < proof->key_count; i++) release_key(&proof->keys[i]);
  free(TAKE_PTR(proof->keys));
  proof->signer_count = proof->key_count = proof->key_room = 0;
}
