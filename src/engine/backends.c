#include "dkimroll/cleanup.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"
#include "engine_internal.h"

static int refuse_more(const char *what, int limit, struct error *error) {
  error_set(error, ERROR_LIMIT, "more than %d %s are in use at once, old versions of them included", limit, what);
  error_remedy(error, "divide the policy: several policies, each with a state of its own, may run on one host");
  return ERROR_LIMIT;
}

/* The same server and zone, asked with another secret or other patience. */
static bool is_same_place(const struct policy_publisher *a, const struct policy_publisher *b) {
  return a && b && a->type == PUBLISHER_RFC2136 && b->type == PUBLISHER_RFC2136 && text_equal(a->name, b->name) && text_equal(a->server, b->server) && text_equal(a->zone, b->zone);
}

int64_t lineage_undoing_publisher(const struct lineage *lineage, const struct key *key) {
  return is_same_place(lineage->publisher, key->publisher) ? lineage->publisher_id : key->publisher_id;
}

const struct policy_publisher *lineage_publisher(const struct lineage *lineage, int64_t id) {
  for (size_t i = 0; i < lineage->key_count && lineage->publisher_id != id; i++)
    if (lineage->keys[i].publisher_id == id) return lineage->keys[i].publisher;
  return lineage->publisher;
}

/* A select of records, on its way to a publisher. */
struct records {
  int (*take)(void *context, const char *owner, uint32_t ttl, const char *record);
  void *context;
};

static int take_record(void *context, const void *row) {
  const struct records *records = context;
  const struct store_record *record = row;
  CLEANUP_FREE char *revoked = NULL;
  const int result = record->revoked ? record_build_revoked(record->algorithm, &revoked, NULL) : 0;
  return result ? result : records->take(records->context, record->owner, record->ttl, revoked ? revoked : record->record);
}

static int select_records(void *context, const char *publisher, const char *zone,
                          int (*take)(void *take_context, const char *owner, uint32_t ttl, const char *record), void *take_context,
                          struct error *error) {
  struct store *store = ((struct engine *)context)->setup.store;
  const struct store_filter filter = {.domain = publisher, .text = zone};
  struct records records = {take, take_context};
  const int result = store->ops->select(store, STORE_SELECT_RECORDS, &filter, take_record, &records, error);
  return result && !error->code ? error_set(error, result, "the records of zone %s could not be taken from the store", zone) : result;
}

int engine_find_publisher(struct engine *engine, int64_t id, const struct policy_publisher *policy, struct publisher **ret_publisher,
                          struct error *error) {
  for (size_t i = 0; i < engine->publisher_count; i++) {
    if (engine->publishers[i].id != id) continue;
    *ret_publisher = engine->publishers[i].publisher;
    return 0;
  }
  if (engine->publisher_count == ENGINE_PUBLISHERS_MAX) return refuse_more("publishers", ENGINE_PUBLISHERS_MAX, error);
  struct publisher *publisher = NULL;
  const struct engine_factory *factory = engine->setup.factory;
  int result = factory->make_publisher(factory->context, policy, &publisher, error);
  if (result) {
    error_context(error, "publisher %s", policy->name);
    return result;
  }
  engine->source = (struct publisher_source){.records = select_records, .context = engine};
  publisher->source = &engine->source;
  engine->publishers[engine->publisher_count++] = (struct engine_publisher){id, publisher};
  *ret_publisher = publisher;
  return 0;
}

int engine_find_signer(struct engine *engine, int64_t id, const struct policy_signer *policy, struct signer **ret_signer,
                       struct error *error) {
  for (size_t i = 0; i < engine->signer_count; i++) {
    if (engine->signers[i].id != id) continue;
    *ret_signer = engine->signers[i].signer;
    return 0;
  }
  if (engine->signer_count == ENGINE_SIGNERS_MAX) return refuse_more("signers", ENGINE_SIGNERS_MAX, error);
  struct signer *signer = NULL;
  const struct engine_factory *factory = engine->setup.factory;
  int result = factory->make_signer(factory->context, policy, &signer, error);
  if (result) {
    error_context(error, "signer %s", policy->name);
    return result;
  }
  engine->signers[engine->signer_count++] = (struct engine_signer){id, signer};
  *ret_signer = signer;
  return 0;
}

void engine_release_backends(struct engine *engine) {
  for (size_t i = 0; i < engine->publisher_count; i++) publisher_destroy(engine->publishers[i].publisher);
  for (size_t i = 0; i < engine->signer_count; i++) engine->signers[i].signer->ops->destroy(engine->signers[i].signer);
  engine->publisher_count = engine->signer_count = 0;
}

const struct placement *key_placement_at(const struct key *key, const struct policy_signer *signer) {
  for (size_t i = 0; key && i < key->placement_count; i++)
    if (text_equal(key->placements[i].signer->name, signer->name)) return &key->placements[i];
  return NULL;
}

char *key_name_at(const struct lineage *lineage, const struct key *key, const struct policy_signer *signer) {
  const struct placement *placement = key_placement_at(key, signer);
  return placement ? policy_signer_key_name(placement->signer, lineage->domain, key->selector) : NULL;
}
