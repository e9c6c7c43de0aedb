/* Which question goes out next. Every address has its own queue and window, so that dead servers hold up nobody but
 * themselves, and the first proof that one is dead counts for all that waits for it. */
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/observe_work.h"

static int compare_targets(const void *a, const void *b) {
  return strcmp(((const struct observe_target *)a)->text, ((const struct observe_target *)b)->text);
}

void observe_queue_init(struct observe_queue *queue, const struct asker *asker) {
  queue->asker = *asker;
  TAILQ_INIT(&queue->sendable);
}

static struct observe_target *target_get(struct observe_queue *queue, const struct address *address) {
  struct observe_target *target = calloc(1, sizeof *target);
  if (!target) return NULL;
  target->address = *address;
  address_format(address, target->text);
  TAILQ_INIT(&target->waiting);
  struct observe_target **place = tsearch(target, &queue->targets, compare_targets);
  if (place && *place == target) return target;
  free(target);
  return place ? *place : NULL;
}

/* Puts the target where it belongs now: among those with something to send, or out of memory. */
static void target_settle(struct observe_queue *queue, struct observe_target *target) {
  const size_t window = target->answered ? OBSERVE_WINDOW : OBSERVE_PROBES;
  const bool sendable = !TAILQ_EMPTY(&target->waiting) && target->in_flight < window;
  if (sendable && !target->sendable) TAILQ_INSERT_TAIL(&queue->sendable, target, next);
  if (!sendable && target->sendable) TAILQ_REMOVE(&queue->sendable, target, next);
  target->sendable = sendable;
  if (!TAILQ_EMPTY(&target->waiting) || target->in_flight > 0) return;
  tdelete(target, &queue->targets, compare_targets);
  free(target);
}

static void query_end(struct observe_query *query, struct observe_finding *finding, const struct error *error) {
  query->target = NULL;
  query->answered(query, finding, error);
}

/* The address counts as dead: everything that waits for it ends with the same verdict. */
static void target_give_up(struct observe_target *target, const struct error *error) {
  struct observe_query *query;
  while ((query = TAILQ_FIRST(&target->waiting))) {
    struct observe_finding none = {0};
    TAILQ_REMOVE(&target->waiting, query, next);
    query_end(query, &none, error);
  }
}

static void query_told(void *context, const struct ask_answer *answer, const struct error *result) {
  struct observe_query *query = context;
  struct observe_queue *queue = query->queue;
  struct observe_target *target = query->target;
  struct observe_finding finding = {0};
  struct error error = *result;
  query->ask = NULL;
  queue->in_flight--;
  target->in_flight--;
  if (answer) {
    target->answered = true;
    target->failures = 0;
    (void)!observe_find(answer->message, query->name, query->zone, loop_wall(queue->asker.loop), &finding, &error);
  }
  /* What its own deadline cut short, or could not be asked, says nothing about the server. */
  const bool failed = !answer && !ask_failed_here(result) && loop_boottime(queue->asker.loop) < query->deadline;
  query_end(query, &finding, &error);
  target->failures += failed;
  if (failed && target->failures >= (target->answered ? OBSERVE_FAILURES_MAX : 1)) target_give_up(target, &error);
  target_settle(queue, target);
  observe_queue_pump(queue);
}

static void query_send(struct observe_query *query) {
  struct observe_queue *queue = query->queue;
  struct observe_target *target = query->target;
  struct error error = {0};
  const struct ask_request request = {.addresses = &query->address,
                                      .address_count = 1,
                                      .name = query->name,
                                      .type = DNS_TYPE_TXT,
                                      .tcp_at_last = true,
                                      .attempts = OBSERVE_ATTEMPTS,
                                      .attempt_ms = OBSERVE_ATTEMPT_MS,
                                      .deadline = query->deadline};
  TAILQ_REMOVE(&target->waiting, query, next);
  if (ask_start(&queue->asker, &request, query_told, query, &query->ask, &error) == 0) {
    queue->in_flight++;
    target->in_flight++;
  } else {
    struct observe_finding none = {0};
    query_end(query, &none, &error);
  }
  target_settle(queue, target);
}

/* One question for each address in turn. */
void observe_queue_pump(struct observe_queue *queue) {
  struct observe_target *target;
  while (queue->in_flight < OBSERVE_QUERIES_IN_FLIGHT_MAX && (target = TAILQ_FIRST(&queue->sendable))) {
    TAILQ_REMOVE(&queue->sendable, target, next);
    target->sendable = false;
    query_send(TAILQ_FIRST(&target->waiting));
  }
}

void observe_queue_add(struct observe_queue *queue, struct observe_query *query) {
  struct observe_finding none = {0};
  struct error error;
  query->queue = queue;
  query->target = query->address.size > 0 ? target_get(queue, &query->address) : NULL;
  if (query->target) {
    TAILQ_INSERT_TAIL(&query->target->waiting, query, next);
    target_settle(queue, query->target);
    return;
  }
  if (query->address.size == 0)
    error_set(&error, ERROR_NOT_FOUND, "its address could not be found out");
  else
    error_set(&error, ERROR_NO_MEMORY, "out of memory for a question");
  query_end(query, &none, &error);
}

void observe_queue_cancel(struct observe_queue *queue, struct observe_query *query) {
  struct observe_target *target = query->target;
  if (!target) return;
  query->target = NULL;
  if (query->ask) {
    ask_cancel(&query->ask);
    queue->in_flight--;
    target->in_flight--;
  } else {
    TAILQ_REMOVE(&target->waiting, query, next);
  }
  target_settle(queue, target);
}
