/* What the publishers without prerequisites share: the look at the zone's servers before a change and after it. Internal to src/dns/publisher_*.c. */
#ifndef DKIMROLL_PUBLISHER_LOOKED_H
#define DKIMROLL_PUBLISHER_LOOKED_H

#include <sys/queue.h>

#include "dkimroll/publisher.h"

enum {
  LOOKED_LOOK_MS = 20 * 1000,      /* one round of looks: three attempts of OBSERVE_ATTEMPT_MS, TCP, and the search for the zone's servers */
  LOOKED_PAUSE_MS = 250,           /* after a change, until the first look again; doubled up to ... */
  LOOKED_PAUSE_MAX_MS = 10 * 1000, /* ... this, which costs nobody anything */
};

/* What stands at a name, by all servers that answered. */
struct looked_stand {
  bool nothing, wanted, before, also; /* some server has: nothing, record, record_before, record_also */
};

struct looked_item {
  const struct publish_item *change;
  struct publish_result *result; /* zone and owner as the look found them */
  struct looked_stand stand;
  bool to_make; /* the maker has it in hand */
  bool made;    /* the maker says that it is done: the servers are watched */
  bool ended;   /* result is final */
};

struct looked;
struct publish_operation;

/* How changes are made. begin starts with all items that have to_make, and calls looked_made once for each of them, at once or later. An error from it is the error of all of them. */
struct looked_maker {
  bool keeps_file; /* what it makes stands in a file, which may have it also where no server shows it: a deletion is made all the same */
  int (*begin)(struct publish_operation *operation, struct error *error);
  void (*release)(struct publish_operation *operation); /* frees operation->making, which may be NULL; jobs are forgotten already */
  const char *unseen; /* remedy where it says done and no server shows it */
};

/* A job of the runner; it outlives its operation, because jobs cannot be taken back. */
struct looked_job;
typedef void looked_job_done(struct publish_operation *operation, size_t index, const struct error *result, const uint8_t *reply, size_t reply_size);

/* The publisher. */
struct looked {
  struct publisher publisher; /* first: ops get it */
  struct loop *loop;
  struct keeper *runner;
  struct observer *observer;
  const struct policy_publisher *policy;
  const struct looked_maker *maker;
  LIST_HEAD(, publish_operation) operations;
};

struct publish_operation {
  LIST_ENTRY(publish_operation) next;
  struct looked *owner;
  const struct publish_item *items;
  size_t count;
  struct publish_result *results; /* owned */
  struct looked_item *work;       /* owned; count of them */
  size_t unmade;                  /* items with to_make */
  struct observe_item *asked;     /* owned; of the present round */
  size_t *asked_work;             /* owned; which item each is of */
  struct observe_operation *look;
  LIST_HEAD(, looked_job) jobs;
  void *making; /* the maker's */
  struct loop_source *timer, *wakeup;
  int64_t deadline;
  int64_t watch_until; /* boottime: when what no server shows has failed */
  int64_t pause;
  publisher_done *done;
  void *context;
};

int looked_new(const struct looked *with, struct publisher **ret_publisher, struct error *error) ERROR_USE_RESULT;
/* One item: made, or failed with error (code not 0). */
void looked_made(struct publish_operation *operation, size_t index, const struct error *error);
/* Submits a job whose answer comes to done with index, unless the operation ended before. */
int looked_submit(struct publish_operation *operation, size_t index, enum keeper_job kind, const struct buffer *payload, looked_job_done *done,
                  struct error *error) ERROR_USE_RESULT;
/* Runs a command for it, named after the publisher. */
struct runner_call;
int looked_run(struct publish_operation *operation, size_t index, const struct runner_call *call, looked_job_done *done, struct error *error) ERROR_USE_RESULT;
/* What the answer to looked_run means: 0, or why not. */
int looked_judge(const struct error *result, const uint8_t *reply, size_t reply_size, const char *what, struct error *error) ERROR_USE_RESULT;

/* How the look before went: fills item->stand, zone and owner, and ends the item if there is nothing to do or if it may not be done. (publisher_look.c) */
void looked_judge_survey(struct looked_item *item, const struct observe_result *found, const struct looked_maker *maker, int64_t now);
/* Whether that look showed nothing of what a deletion is to remove. */
bool looked_shows_nothing(const struct looked_item *item);
/* Whether a server shows the change; ends the item if one does. */
bool looked_judge_watch(struct looked_item *item, const struct observe_result *found);
/* No server has shown it in time. found: of the last look. */
void looked_explain_unseen(struct looked_item *item, const struct observe_result *found, const struct looked *owner);

#endif
