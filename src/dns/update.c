/* One update run and its items: the phases they go through, how they end. */
#include "dkimroll/update.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/message_name.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"
#include "dkimroll/update_work.h"

enum { PAUSE_EXPONENT_MAX = 16 };

int64_t update_pause_ms(struct update_run *run, int64_t base, int64_t maximum, unsigned exponent) {
  int64_t pause = base << (exponent < PAUSE_EXPONENT_MAX ? exponent : PAUSE_EXPONENT_MAX);
  if (pause > maximum) pause = maximum;
  return pause / 2 + entropy_below(run->link.entropy, (uint32_t)pause + 1);
}

void update_item_dequeue(struct update_item *item) {
  if (!item->queue) return;
  TAILQ_REMOVE(item->queue, item, next);
  if (item->queue == &item->zone->ready) item->zone->ready_count--;
  item->queue = NULL;
}

static void enqueue(struct update_item *item, struct update_queue *queue) {
  update_item_dequeue(item);
  TAILQ_INSERT_TAIL(queue, item, next);
  item->queue = queue;
  if (queue == &item->zone->ready) item->zone->ready_count++;
}

/* While an item is being decided, a message that is not full waits for it. */
static void set_deciding(struct update_item *item, bool deciding) {
  if (item->deciding == deciding) return;
  item->deciding = deciding;
  item->zone->deciding += deciding ? 1 : (size_t)-1;
  if (!deciding) update_zone_check(item->zone);
}

void update_item_read(struct update_item *item) {
  if (item->phase != UPDATE_PHASE_CONFIRMING) {
    item->phase = UPDATE_PHASE_READING;
    set_deciding(item, true);
  }
  enqueue(item, &item->zone->server->reads);
  update_server_pump(item->zone->server);
}

static void pause_over(void *context) {
  struct update_item *item = context;
  item->timer = NULL;
  update_item_read(item);
}

void update_item_read_after(struct update_item *item, int64_t pause_ms) {
  struct loop *loop = item->run->link.loop;
  if (item->phase != UPDATE_PHASE_CONFIRMING) item->phase = UPDATE_PHASE_READING;
  set_deciding(item, false);
  if (loop_at(loop, loop_boottime(loop) + pause_ms, pause_over, item, &item->timer) < 0) {
    struct error error;
    error_set(&error, ERROR_NO_MEMORY, "publishing %s: out of memory", item->result->owner);
    update_item_fail(item, &error);
  }
}

void update_item_ready(struct update_item *item) {
  item->phase = UPDATE_PHASE_READY;
  enqueue(item, &item->zone->ready);
  set_deciding(item, false);
  update_zone_check(item->zone);
  update_server_pump(item->zone->server);
}

void update_item_confirm(struct update_item *item) {
  item->phase = UPDATE_PHASE_CONFIRMING;
  item->pauses = 0;
  item->confirm_until = loop_boottime(item->run->link.loop) + UPDATE_CONFIRM_MS;
  update_item_read(item);
}

/* Whatever is still under way for it ends. */
static void release_item(struct update_item *item) {
  update_item_dequeue(item);
  loop_cancel(item->run->link.loop, &item->timer);
  if (item->exchange) item->zone->server->in_flight--;
  update_exchange_cancel(&item->exchange);
  message_free(TAKE_PTR(item->answer));
  free(TAKE_PTR(item->sibling));
  free(TAKE_PTR(item->before));
}

static void end_item(struct update_item *item) {
  struct update_run *run = item->run;
  item->phase = UPDATE_PHASE_DONE;
  release_item(item);
  if (item->zone) {
    item->result->attested = item->zone->server->attested;
    item->result->clock_known = item->zone->server->clock_known;
    item->result->clock_skew = item->zone->server->clock_skew;
    set_deciding(item, false);
    update_server_pump(item->zone->server);
  }
  if (--run->open == 0) run->done(run->context);
}

void update_item_succeed(struct update_item *item) {
  memset(&item->result->error, 0, sizeof item->result->error);
  item->result->already = !item->sent;
  item->result->completed_at = loop_wall(item->run->link.loop);
  end_item(item);
}

void update_item_fail(struct update_item *item, const struct error *error) {
  if (item->phase == UPDATE_PHASE_DONE) return;
  if (error != &item->result->error) item->result->error = *error;
  end_item(item);
}

void update_item_explain(const struct update_item *item, const struct update_answer *answer,
                         struct update_verdict *ret_verdict) {
  const struct update_link *link = &item->run->link;
  const struct update_place place = {.server = item->zone->server->text,
                                     .zone = item->zone->name,
                                     .name = item->result->owner,
                                     .key = link->key,
                                     .now = loop_wall(link->loop)};
  update_error_explain(answer, &place, ret_verdict);
}

int update_run_new(const struct update_link *link, const struct publish_item *items, struct publish_result *results,
                   size_t count, int64_t deadline, update_run_done *done, void *context, struct update_run **ret_run,
                   struct error *error) {
  CLEANUP_FREE struct update_run *run = calloc(1, sizeof *run);
  CLEANUP_FREE struct update_item *work = calloc(count ? count : 1, sizeof *work);
  if (!run || !work) return error_set(error, ERROR_NO_MEMORY, "publishing %zu records: out of memory", count);
  *run = (struct update_run){
      .link = *link, .count = count, .open = count, .deadline = deadline, .done = done, .context = context};
  LIST_INIT(&run->batches);
  for (size_t i = 0; i < count; i++)
    work[i] =
        (struct update_item){.run = run, .change = &items[i], .result = &results[i], .share = PUBLISH_RECORDS_MAX};
  run->items = TAKE_PTR(work);
  *ret_run = TAKE_PTR(run);
  return 0;
}

static int compare_owners(const void *a, const void *b) {
  const struct update_item *left = a, *right = b;
  if (left->zone != right->zone) return left->zone < right->zone ? -1 : 1;
  return strcmp(left->result->owner, right->result->owner);
}

/* Two changes of one name in one message would both find their prerequisites fulfilled, and leave two records there. */
static int claim_owner(struct update_item *item, struct error *error) {
  struct update_item **owner = tsearch(item, &item->run->owners, compare_owners);
  if (!owner) return error_set(error, ERROR_NO_MEMORY, "publishing %s: out of memory", item->result->owner);
  if (*owner == item) return 0;
  error_set(error, ERROR_BUSY, "another record of the same operation goes to %s, too", item->result->owner);
  return error_remedy(error, "Two keys cannot share a name. Look for a CNAME that leads both there.");
}

static int place_item(struct update_item *item, const struct update_target *target, struct error *error) {
  struct publish_result *result = item->result;
  char zone[DNS_NAME_TEXT_SIZE];
  int code = message_name_canonical(target->owner, result->owner, error);
  if (code == 0) code = message_name_canonical(target->zone, zone, error);
  if (code < 0) return code;
  if (item->change->record && strlen(item->change->record) > RECORD_TEXT_MAX)
    return error_set(error, ERROR_LIMIT, "the record at %s has %zu octets, more than %d", result->owner,
                     strlen(item->change->record), RECORD_TEXT_MAX);
  text_copy(result->zone, sizeof result->zone, zone);
  address_format(&target->server, result->primary_server);
  if (!message_name_below(result->owner, zone)) {
    error_set(error, ERROR_NOT_FOUND, "%s does not lie in the zone %s", result->owner, zone);
    return error_remedy(error, "Correct zone: of the publisher or the domain, or leave it out: then it is discovered.");
  }
  const struct update_target canonical = {.zone = zone, .owner = result->owner, .server = target->server};
  item->zone = update_zone_get(item->run, &canonical);
  if (!item->zone) return error_set(error, ERROR_NO_MEMORY, "publishing %s: out of memory", result->owner);
  return claim_owner(item, error);
}

void update_run_add(struct update_run *run, size_t index, const struct update_target *target) {
  struct update_item *item = &run->items[index];
  struct error error;
  if (place_item(item, target, &error) < 0)
    update_item_fail(item, &error);
  else
    update_item_read(item);
}

void update_run_fail(struct update_run *run, size_t index, const struct error *error) {
  update_item_fail(&run->items[index], error);
}

/* What is known about an item that the deadline ends. */
static void explain_deadline(struct update_item *item) {
  struct error *error = &item->result->error;
  struct update_answer answer;
  struct update_verdict verdict;
  if (item->exchange && update_exchange_doubted(item->exchange, &answer)) {
    update_item_explain(item, &answer, &verdict);
    *error = verdict.error;
  }
  if (error->code != 0) return;
  if (!item->zone) {
    error_set(error, ERROR_TIMEOUT, "%s: its zone was not found in time", item->change->name);
    error_remedy(error, "Check the resolvers of this host, or give zone: and server: of the publisher.");
    return;
  }
  struct update_server *server = item->zone->server;
  const char *owner = item->result->owner;
  if (server->trouble.code != 0)
    *error = server->trouble;
  else if (item->phase == UPDATE_PHASE_SENT)
    error_set(error, ERROR_TIMEOUT,
              "%s: no reply in time to the update of %s; the next attempt looks whether it was applied", server->text,
              owner);
  else if (item->exchange || !server->answered)
    error_set(error, ERROR_TIMEOUT, "%s: no answer in time to the query for %s", server->text, owner);
  else
    error_set(error, ERROR_TIMEOUT, "%s: no time was left to %s %s", server->text,
              item->phase == UPDATE_PHASE_READY ? "update" : "look at", owner);
  update_server_remedy(server, error);
}

/* The items of a message whose reply was not believed learn why. */
static void explain_batch(struct update_batch *batch) {
  struct update_answer answer;
  struct update_verdict verdict;
  if (!update_exchange_doubted(batch->exchange, &answer)) return;
  for (size_t i = 0; i < batch->count; i++) {
    update_item_explain(batch->items[i], &answer, &verdict);
    batch->items[i]->result->error = verdict.error;
  }
}

static void cancel_batches(struct update_run *run, bool explain) {
  while (!LIST_EMPTY(&run->batches)) {
    if (explain) explain_batch(LIST_FIRST(&run->batches));
    update_batch_cancel(LIST_FIRST(&run->batches));
  }
}

void update_run_end(struct update_run *run) {
  run->ending = true;
  cancel_batches(run, true);
  for (size_t i = 0; i < run->count; i++) {
    struct update_item *item = &run->items[i];
    if (item->phase == UPDATE_PHASE_DONE) continue;
    explain_deadline(item);
    update_item_fail(item, &item->result->error);
  }
}

static void keep_item(void *item) {
  (void)item;
}

void update_run_free(struct update_run *run) {
  if (!run) return;
  run->ending = true;
  cancel_batches(run, false);
  for (size_t i = 0; i < run->count; i++) release_item(&run->items[i]);
  tdestroy(run->owners, keep_item);
  tdestroy(run->zones, update_zone_free);
  tdestroy(run->servers, update_server_free);
  free(run->items);
  free(run);
}
