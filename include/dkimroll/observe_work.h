/* Inside of the observer over DNS: its operations, and who is asked when. Shared by src/dns/observe.c and
 * src/dns/observe_queue.c. */
#ifndef DKIMROLL_OBSERVE_WORK_H
#define DKIMROLL_OBSERVE_WORK_H

#include <sys/queue.h>

#include "dkimroll/ask.h"
#include "dkimroll/observe.h"
#include "dkimroll/observe_judge.h"
#include "dkimroll/zone.h"

enum {
  OBSERVE_ATTEMPTS = 3, /* UDP, then TCP once */
  OBSERVE_PROBES =
      4, /* in flight to an address that has not answered yet: a dead server must not take the places of the living */
  OBSERVE_WINDOW = 64,       /* in flight to one that has */
  OBSERVE_FAILURES_MAX = 16, /* in a row, after which an address that has answered counts as dead as well */
  OBSERVE_SIBLING_LETTERS = 16,
};

struct observe_query;
TAILQ_HEAD(observe_queries, observe_query);

/* One address, while questions to it wait or are in flight. */
struct observe_target {
  struct address address;
  char text[ADDRESS_TEXT_SIZE]; /* key */
  struct observe_queries waiting;
  size_t in_flight;
  unsigned failures; /* in a row */
  bool answered;
  bool sendable; /* in the queue's list */
  TAILQ_ENTRY(observe_target) next;
};
TAILQ_HEAD(observe_targets, observe_target);

/* Questions of all operations, fair to every address. */
struct observe_queue {
  struct asker asker;
  void *targets; /* tsearch(3) */
  struct observe_targets sendable;
  size_t in_flight;
};

/* finding is valid where error->code is 0, and the receiver's to release. */
typedef void observe_answered(struct observe_query *query, struct observe_finding *finding, const struct error *error);

/* One question to one server about one item: its name, or with SURVEY its random sibling. */
struct observe_query {
  struct observed_item *item;
  size_t server; /* index into the result's */
  bool sibling;
  bool finished;
  struct address address;
  const char *name, *zone; /* borrowed from the item */
  int64_t deadline;
  observe_answered *answered;
  struct observe_queue *queue;
  struct observe_target *target; /* NULL: not enqueued, or finished */
  struct ask *ask;
  struct observe_finding finding;
  TAILQ_ENTRY(observe_query) next;
};

void observe_queue_init(struct observe_queue *queue, const struct asker *asker);
/* answered comes once, now or later. */
void observe_queue_add(struct observe_queue *queue, struct observe_query *query);
/* Sends what may be sent. */
void observe_queue_pump(struct observe_queue *queue);
/* answered will not be called. Fine for a query that is finished or was never added. */
void observe_queue_cancel(struct observe_queue *queue, struct observe_query *query);

#endif
