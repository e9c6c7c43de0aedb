#include <stdlib.h>

#include "dkimroll/record.h"
#include "dkimroll/text.h"
#include "engine_internal.h"

/* Everything that changes a record, and the signed exchange that attests the clock: one operation of a publisher. */
struct publication {
  struct publisher *publisher;
  struct publish_operation *operation;
  struct publication_item {
    char *revoked; /* what the record becomes with PLAN_REVOKE; what it is of a key that was revoked with PLAN_DELETE */
    bool sought;                  /* its place is looked for anew */
    struct publish_result result; /* outcomes borrow from it */
  } items[];
};

static void publication_release(struct operation *operation) {
  struct publication *publication = operation->state;
  if (publication->publisher) publisher_cancel(publication->publisher, &publication->operation);
}

static void publication_free(struct operation *operation) {
  struct publication *publication = operation->state;
  for (size_t i = 0; i < operation->count; i++) free(publication->items[i].revoked);
}

/* The publisher that works of this operation share: undoing uses the one that the record was made with. */
static int find_publisher(struct operation *operation, struct publisher **ret_publisher, struct error *error) {
  const int64_t id = operation->queue->resource;
  const struct policy_publisher *policy = lineage_publisher(&operation->works[0]->lineage, id);
  const int64_t seconds = publisher_seconds(policy);
  if (seconds > 0) operation->deadline = loop_boottime(operation->engine->setup.loop) + seconds * 1000;
  return engine_find_publisher(operation->engine, id, policy, ret_publisher, error);
}

/* What is known of a record's place may be wrong by now: a delegation, an alias, or zone: of the policy was put right, or the zone moved to another primary. So it is looked
 * for anew if servers lack the record, or still have it, if the survey is old, and in every other attempt; the TTLs found there count, too. Nothing else can be hit:
 * prerequisites name the very record. */
static bool place_is_doubtful(const struct operation *operation, const struct work *work, const struct key *key) {
  const int64_t now = loop_wall(operation->engine->setup.loop);
  const bool old = key->state != KEY_GENERATED || now > time_add(key->generated_at, ENGINE_SURVEY_SECONDS);
  const bool again = (work->action == PLAN_DELETE && key->deleted_at != TIME_UNSET) || (work->action == PLAN_REVOKE && key->state == KEY_REVOKED);
  const bool doubtful = (work->action == PLAN_PUBLISH && old) || again, other_attempt = key->failures % 2;
  return work->action != PLAN_ATTEST && doubtful != other_attempt;
}

/* The exchange that attests the clock may belong to no key; any name below the domain serves, because nothing is changed there. */
static int fill_item(const struct operation *operation, size_t i, struct publish_item *item, struct error *error) {
  const struct work *work = operation->works[i];
  struct publication_item *own = &((struct publication *)operation->state)->items[i];
  const struct key *key = operation_key(operation, i);
  const bool undoes = work->action == PLAN_REVOKE || work->action == PLAN_DELETE;
  *item = (struct publish_item){
      .change = PUBLISH_ATTEST, .name = work->lineage.domain, .ttl = work->lineage.rules->publish_ttl, .zone = work->lineage.zone};
  if (!key) return 0;
  item->name = key->owner_name;
  own->sought = place_is_doubtful(operation, work, key);
  if (key->zone[0] && !own->sought) item->zone = key->zone;
  if (key->owner[0] && !own->sought) item->owner = key->owner;
  if (undoes && key->primary_server[0] && !own->sought) item->primary_server = key->primary_server;
  int result = undoes ? record_build_revoked(key->algorithm, &own->revoked, error) : 0;
  switch (work->action) {
  case PLAN_PUBLISH:
    item->change = PUBLISH_ADD;
    item->record = key->record;
    break;
  case PLAN_REVOKE:
    item->change = PUBLISH_REPLACE;
    item->record = own->revoked;
    item->record_before = key->record;
    break;
  case PLAN_DELETE:
    item->change = PUBLISH_DELETE;
    /* Whichever stands there: a revocation may have been made and not been noted, and a backup may have undone it. */
    item->record_before = key->state == KEY_REVOKED ? own->revoked : key->record;
    item->record_also = key->state == KEY_REVOKED ? key->record : own->revoked;
    break;
  default: break;
  }
  return result;
}

static void take_result(struct operation *operation, size_t i, const struct publish_result *result) {
  const struct publication_item *item = &((struct publication *)operation->state)->items[i];
  struct publish_result *own = &((struct publication *)operation->state)->items[i].result;
  struct outcome *outcome = &operation->outcomes[i];
  *own = *result;
  if (own->error.code) {
    operation_fail(operation, i, &own->error);
    return;
  }
  if (own->completed_at) outcome->at = own->completed_at;
  outcome->ttl = operation->works[i]->lineage.rules->publish_ttl;
  outcome->already = own->already;
  outcome->zone = own->zone[0] ? own->zone : NULL;
  outcome->owner = own->owner[0] ? own->owner : NULL;
  outcome->primary_server = own->primary_server[0] ? own->primary_server : NULL;
  if (item->sought && own->ttl_negative) outcome->ttl_negative = own->ttl_negative;
  if (item->sought && own->ttl_alias) outcome->ttl_old = own->ttl_alias;
}

static void published(void *context, const struct publish_result *results, size_t count) {
  struct operation *operation = context;
  struct engine *engine = operation->engine;
  ((struct publication *)operation->state)->operation = NULL;
  for (size_t i = 0; i < count; i++) {
    if (results[i].attested) engine_clock_attest(&engine->clock, &engine->plan_clock);
    if (results[i].clock_known) {
      operation->clock_known = true;
      operation->clock_skew = results[i].clock_skew;
    }
    take_result(operation, i, &results[i]);
    if (operation->works[i]->action != PLAN_ATTEST || results[i].attested || results[i].error.code) continue;
    struct error error;
    error_set(&error, ERROR_REFUSED, "the clock cannot be attested: the publisher has no TSIG key and the kernel says that it is not synchronised");
    error_remedy(&error, "run a time service (systemd-timesyncd, chrony), or give the publisher a tsig-file");
    operation_fail(operation, i, &error);
  }
  operation_finish(operation);
}

static int publish_start(struct operation *operation, struct error *error) {
  struct publication *publication = calloc(1, sizeof *publication + operation->count * sizeof publication->items[0]);
  struct publish_item *items = calloc(operation->count, sizeof *items);
  operation->state = publication;
  operation->items = items;
  if (!publication || !items) return error_set(error, ERROR_NO_MEMORY, "out of memory for a publication");
  operation->release = publication_release;
  int result = find_publisher(operation, &publication->publisher, error);
  for (size_t i = 0; i < operation->count && !result; i++) result = fill_item(operation, i, &items[i], error);
  if (result) return result;
  return publisher_start(publication->publisher, items, operation->count, operation->deadline, published, operation,
                         &publication->operation, error);
}

const struct stage stage_publish = {.name = "publish",
                                    .batch_maximum = ENGINE_BATCH_MAX,
                                    .seconds = ENGINE_PUBLISH_SECONDS,
                                    .parallel = 1,
                                    .start = publish_start,
                                    .free_state = publication_free};
