/* UPDATE messages of an update run: which items go together, and what a reply means for each. */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "dkimroll/update_work.h"

enum {
  RECORDS_OF_ITEM_MAX = 3,   /* two prerequisites and the record, or one and two */
  RECORD_OVERHEAD = 12 + 10, /* pointer and inner lengths of the name; type, class, TTL, length (RFC 1035 4.1.3) */
};

static void batch_free(struct update_batch **batch) {
  free(*batch);
}
static void update_free(struct message_update **update) {
  message_update_free(*update);
}

static size_t text_cost(const char *text) {
  return text ? strlen(text) + strlen(text) / 255 + 1 : 0;
}

/* At least the octets that the item adds to a message. */
static size_t item_cost(const struct update_item *item) {
  return RECORDS_OF_ITEM_MAX * (RECORD_OVERHEAD + strlen(item->result->owner)) + text_cost(item->change->record) +
         2 * item->before_size;
}

static int add_item(struct message_update *update, const struct update_item *item, struct error *error) {
  const struct publish_item *change = item->change;
  const char *owner = item->result->owner;
  int code;
  if (!item->before) {
    code = message_update_require_absent(update, owner, DNS_TYPE_TXT, error);
    if (code == 0) code = message_update_require_absent(update, owner, DNS_TYPE_CNAME, error);
  } else {
    code = message_update_require_rdata(update, owner, item->before, item->before_size, error);
    if (code == 0) code = message_update_delete_rdata(update, owner, item->before, item->before_size, error);
  }
  if (code == 0 && change->record) code = message_update_add_text(update, owner, change->ttl, change->record, error);
  return code;
}

/* Moves ready items of the zone into the batch: as many as may stand together and fit. */
static void take_items(struct update_zone *zone, struct update_batch *batch) {
  size_t size = strlen(zone->name) + 32, limit = PUBLISH_RECORDS_MAX;
  struct update_item *item;
  while ((item = TAILQ_FIRST(&zone->ready))) {
    if (item->share < limit) limit = item->share;
    size += item_cost(item);
    if (batch->count > 0 && (batch->count >= limit || size > PUBLISH_MESSAGE_MAX)) return;
    update_item_dequeue(item);
    item->phase = UPDATE_PHASE_SENT;
    batch->items[batch->count++] = item;
  }
}

static int write_items(const struct update_batch *batch, uint8_t *octets, size_t capacity, size_t *ret_size,
                       struct error *error) {
  CLEANUP(update_free) struct message_update *update = NULL;
  int code = message_update_new(batch->zone->name, 0, &update, error);
  for (size_t i = 0; code == 0 && i < batch->count; i++) code = add_item(update, batch->items[i], error);
  return code == 0 ? message_update_write(update, octets, capacity, ret_size, error) : code;
}

/* Takes the message out of flight; its items are the caller's. */
static void leave_flight(struct update_batch *batch) {
  batch->exchange = NULL;
  batch->zone->in_flight--;
  batch->zone->server->in_flight--;
  LIST_REMOVE(batch, next);
}

/* Items that a failure of the whole server ended meanwhile are left alone. */
static bool still_sent(const struct update_item *item) {
  return item->phase == UPDATE_PHASE_SENT;
}

static void batch_confirm(struct update_batch *batch) {
  for (size_t i = 0; i < batch->count; i++)
    if (still_sent(batch->items[i])) update_item_confirm(batch->items[i]);
}

/* Whether the update was applied is unknown: each name is looked at before anything is sent again. */
static void batch_reread(struct update_batch *batch) {
  for (size_t i = 0; i < batch->count; i++)
    if (still_sent(batch->items[i])) update_item_read(batch->items[i]);
}

static void batch_unanswered(struct update_batch *batch, struct error *error) {
  error_context(error, "updating zone %s", batch->zone->name);
  update_server_trouble(batch->zone->server, error);
  batch_reread(batch);
}

static void batch_fail(struct update_batch *batch, const struct update_verdict *verdict) {
  for (size_t i = 0; i < batch->count; i++) update_item_fail(batch->items[i], &verdict->error);
  if (verdict->scope == UPDATE_OF_ZONE) update_zone_fail(batch->zone, &verdict->error);
  if (verdict->scope == UPDATE_OF_SERVER) update_server_fail(batch->zone->server, &verdict->error);
}

static void item_refused(struct update_item *item, const struct update_answer *answer) {
  struct update_run *run = item->run;
  struct update_verdict verdict;
  update_item_explain(item, answer, &verdict);
  item->result->error = verdict.error;
  if (verdict.reaction == UPDATE_SPLIT || ++item->attempts >= UPDATE_ATTEMPTS_MAX)
    update_item_fail(item, &verdict.error);
  else
    update_item_read_after(item, update_pause_ms(run, UPDATE_PAUSE_MS, UPDATE_PAUSE_MAX_MS, item->pauses++));
}

/* One of them may have spoiled it. Halving finds which in few messages: a name where something else stands is found by the look before, the others by being alone. */
static void batch_split(struct update_batch *batch, const struct update_answer *answer, enum update_reaction reaction) {
  struct update_run *run = batch->zone->server->run;
  for (size_t i = 0; i < batch->count; i++) {
    struct update_item *item = batch->items[i];
    struct update_verdict verdict;
    if (!still_sent(item)) continue;
    update_item_explain(item, answer, &verdict);
    item->result->error = verdict.error;
    item->share = batch->count / 2;
    if (reaction == UPDATE_RETRY)
      update_item_read_after(item, update_pause_ms(run, UPDATE_PAUSE_MS, UPDATE_PAUSE_MAX_MS, item->pauses++));
    else
      update_item_read(item);
  }
}

static void batch_refused(struct update_batch *batch, const struct update_answer *answer) {
  struct update_verdict verdict;
  update_item_explain(batch->items[0], answer, &verdict);
  if (verdict.reaction == UPDATE_FINAL) {
    batch_fail(batch, &verdict);
  } else if (batch->count == 1) {
    if (still_sent(batch->items[0])) item_refused(batch->items[0], answer);
  } else {
    batch_split(batch, answer, verdict.reaction);
  }
}

static void batch_done(void *context, struct update_reply *reply) {
  CLEANUP(batch_free) struct update_batch *batch = context;
  struct update_zone *zone = batch->zone;
  leave_flight(batch);
  if (reply->error.code == 0 || reply->doubted) update_server_answered(zone->server, reply);
  if (reply->error.code != 0 && !reply->doubted)
    batch_unanswered(batch, &reply->error);
  else if (!reply->doubted && reply->answer.rcode == DNS_NOERROR && reply->answer.tsig.error == TSIG_NOERROR)
    batch_confirm(batch);
  else
    batch_refused(batch, &reply->answer);
  update_zone_check(zone);
  update_server_pump(zone->server);
}

static int start_exchange(struct update_batch *batch, uint8_t *octets, size_t size, struct error *error) {
  struct update_run *run = batch->zone->server->run;
  int64_t deadline = loop_boottime(run->link.loop) + UPDATE_ATTEMPT_MS;
  const struct update_request request = {.address = &batch->zone->server->address,
                                         .octets = octets,
                                         .size = size,
                                         .capacity = TRANSPORT_MESSAGE_MAX,
                                         .deadline = deadline < run->deadline ? deadline : run->deadline};
  int code = update_exchange_start(&run->link, &request, batch_done, batch, &batch->exchange, error);
  if (code < 0) return code;
  for (size_t i = 0; i < batch->count; i++) batch->items[i]->sent = true;
  batch->zone->in_flight++;
  batch->zone->server->in_flight++;
  LIST_INSERT_HEAD(&run->batches, batch, next);
  return 0;
}

/* No memory for a message: whatever is ready in the zone ends, instead of being tried for ever. */
static void zone_exhausted(struct update_zone *zone) {
  struct error error;
  error_set(&error, ERROR_NO_MEMORY, "updating zone %s: out of memory", zone->name);
  update_zone_fail(zone, &error);
}

void update_batch_send(struct update_zone *zone) {
  CLEANUP(batch_free) struct update_batch *batch = calloc(1, sizeof *batch);
  CLEANUP_FREE uint8_t *octets = malloc(TRANSPORT_MESSAGE_MAX);
  struct error error;
  size_t size = 0;
  if (!batch || !octets) {
    zone_exhausted(zone);
    return;
  }
  batch->zone = zone;
  take_items(zone, batch);
  if (write_items(batch, octets, TRANSPORT_MESSAGE_MAX, &size, &error) < 0)
    batch_fail(batch, &(struct update_verdict){.scope = UPDATE_OF_RECORD, .error = error});
  else if (start_exchange(batch, octets, size, &error) < 0)
    batch_unanswered(batch, &error);
  else
    batch = NULL; /* batch_done frees it */
}

void update_batch_cancel(struct update_batch *batch) {
  update_exchange_cancel(&batch->exchange);
  leave_flight(batch);
  free(batch);
}
