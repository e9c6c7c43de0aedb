/* The parts of an update run (update.h), shared by its files: update.c (run and items), update_server.c (servers and zones: who may send next),
 * update_read.c (queries), update_batch.c (UPDATE messages). */
#ifndef DKIMROLL_UPDATE_WORK_H
#define DKIMROLL_UPDATE_WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "dkimroll/update.h"

/* An item goes through these in order; back to READING after an UPDATE that failed or got no reply. */
enum update_phase {
  UPDATE_PHASE_NEW = 0,        /* its zone is not known yet */
  UPDATE_PHASE_READING = 1,    /* what stands at the name? */
  UPDATE_PHASE_READY = 2,      /* waits for a message to go into */
  UPDATE_PHASE_SENT = 3,       /* in a message */
  UPDATE_PHASE_CONFIRMING = 4, /* NOERROR came: does it show? */
  UPDATE_PHASE_DONE = 5,
};

TAILQ_HEAD(update_queue, update_item);
TAILQ_HEAD(update_zones, update_zone);
LIST_HEAD(update_batches, update_batch);

struct update_server {
  struct update_run *run;
  char text[ADDRESS_TEXT_SIZE]; /* key of run->servers */
  struct address address;
  struct update_queue reads;    /* items with a query to send */
  struct update_zones sendable; /* zones with a message to send */
  size_t in_flight;
  bool answered;             /* the window is open */
  bool attested;             /* a believed TSIG within its fudge came */
  bool clock_known;          /* and what the last one said of the time */
  int64_t clock_skew;
  bool pumping;              /* guards against sending from inside sending */
  unsigned failures;         /* in a row: no answer, or none that counts */
  struct loop_source *pause; /* until it ends nothing is sent */
  struct error trouble;      /* the last failure, for items that the deadline ends */
};

struct update_zone {
  struct update_server *server;
  char name[DNS_NAME_TEXT_SIZE]; /* with server: key of run->zones */
  struct update_queue ready;
  size_t ready_count;
  size_t deciding;  /* items that are being read and may join the next message */
  size_t in_flight; /* messages */
  bool queued;      /* in server->sendable */
  TAILQ_ENTRY(update_zone) next;
};

struct update_item {
  struct update_run *run;
  const struct publish_item *change;
  struct publish_result *result; /* while open, its error is the last that is known */
  struct update_zone *zone;
  enum update_phase phase;
  bool deciding;     /* counted in zone->deciding */
  bool sent;         /* an UPDATE went out: what is found now may be ours */
  size_t share;      /* at most so many together in a message, since a larger one failed */
  unsigned attempts; /* failed, alone */
  unsigned pauses;   /* in a row */
  int64_t confirm_until;
  uint8_t *before; /* RDATA of record_before as the server holds it */
  size_t before_size;
  struct message *answer; /* showed something else; the answer for its sibling decides whether a wildcard made it */
  char *sibling;
  struct update_exchange *exchange; /* its query in flight */
  struct loop_source *timer;
  struct update_queue *queue; /* that it stands in: server->reads or zone->ready */
  TAILQ_ENTRY(update_item) next;
};

struct update_batch {
  struct update_zone *zone;
  struct update_exchange *exchange;
  LIST_ENTRY(update_batch) next;
  size_t count;
  struct update_item *items[PUBLISH_RECORDS_MAX];
};

struct update_run {
  struct update_link link;
  struct update_item *items;
  size_t count;
  size_t open;
  bool ending; /* nothing more is sent */
  int64_t deadline;
  void *servers, *zones, *owners; /* tsearch(3) */
  struct update_batches batches;
  update_run_done *done;
  void *context;
};

/* update.c */
/* base doubled exponent times, at most maximum, with jitter. */
int64_t update_pause_ms(struct update_run *run, int64_t base, int64_t maximum, unsigned exponent);
/* Queues the item's next query, now or after a pause. */
void update_item_read(struct update_item *item);
void update_item_read_after(struct update_item *item, int64_t pause_ms);
/* The name is as it must be before the change: into the next message. */
void update_item_ready(struct update_item *item);
/* NOERROR came. */
void update_item_confirm(struct update_item *item);
void update_item_succeed(struct update_item *item);
/* error is copied; it may be item->result->error. */
void update_item_fail(struct update_item *item, const struct error *error);
/* Takes the item out of the queue that it stands in. */
void update_item_dequeue(struct update_item *item);
void update_item_explain(const struct update_item *item, const struct update_answer *answer,
                         struct update_verdict *ret_verdict);

/* update_server.c */
/* NULL: out of memory. */
struct update_zone *update_zone_get(struct update_run *run, const struct update_target *target);
/* Tells the server that the zone has something to send, if it has. */
void update_zone_check(struct update_zone *zone);
/* Sends what may be sent. */
void update_server_pump(struct update_server *server);
/* A reply that counts came. */
void update_server_answered(struct update_server *server, const struct update_reply *reply);
/* The remedy of a server that does not answer, unless there is a better one. */
void update_server_remedy(const struct update_server *server, struct error *error);
/* No reply came, or none that counts: pauses, and after too many of them ends all items of the server. */
void update_server_trouble(struct update_server *server, const struct error *error);
void update_server_fail(struct update_server *server, const struct error *error);
/* Ends the items of the zone that are not in a message or applied already. */
void update_zone_fail(struct update_zone *zone, const struct error *error);
/* For tdestroy(3). */
void update_zone_free(void *zone);
void update_server_free(void *server);

/* update_read.c */
void update_read_send(struct update_item *item);

/* update_batch.c */
void update_batch_send(struct update_zone *zone);
void update_batch_cancel(struct update_batch *batch);

#endif
