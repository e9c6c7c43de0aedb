/* The engine: turns and operations. A turn never waits: it reads the clock, claims due lineages, plans, commits intents in one transaction, starts operations
 * and arms a timer. An operation is one stage on one batch; its outcomes are applied and committed when it ends. */
#ifndef DKIMROLL_ENGINE_H
#define DKIMROLL_ENGINE_H

#include "dkimroll/entropy.h"
#include "dkimroll/keeper.h"
#include "dkimroll/observe.h"
#include "dkimroll/publisher.h"
#include "dkimroll/signer.h"
#include "dkimroll/store.h"

enum {
  ENGINE_WORKS_MAX = 4000,          /* lineages in hand at once */
  ENGINE_CLAIM_MAX = 1000,          /* of one turn */
  ENGINE_GENERATE_BATCH = 16,       /* keys of one operation: the next stage starts when they are there */
  ENGINE_BATCH_MAX = 1000,          /* items of one other operation */
  ENGINE_PROVE_BATCH = 250,         /* domains whose keys are proved in one operation: at 115 ms a message (a refile: of 100,000 lines) they take 29 s */
  ENGINE_GENERATE_PARALLEL = 8,     /* so 128 keys wait for the keeper at most: RSA-4096 at 4 s each on one slow core ends before the deadline */
  ENGINE_GENERATE_SECONDS = 600,    /* deadlines of operations */
  ENGINE_PUBLISH_SECONDS = 60,
  ENGINE_SURVEY_SECONDS = 10, /* so long after its survey a key's zone is believed; publication follows it at once, unless something was wrong */
  ENGINE_CONFIRM_SECONDS = 30,
  ENGINE_SIGN_SECONDS = 120,
  ENGINE_KEEPER_SECONDS = 60,
  ENGINE_LOOK_SECONDS = 10,         /* for the look at a signer's tables */
  ENGINE_LOOK_EVERY = 300,          /* seconds: a daemon looks at all tables so often; a run once, at its start */
  ENGINE_WAKE_BATCH = 1000,         /* lineages that one turn makes due after somebody changed the tables of a signer */
  ENGINE_PUBLISHERS_MAX = 2 * POLICY_ENTRIES_MAX, /* in use at once: all of a policy, and as many earlier versions that keys were made with */
  ENGINE_SIGNERS_MAX = 2 * POLICY_ENTRIES_MAX,
  ENGINE_STEPS_OF_TURN_MAX = 8,     /* effectless steps (ready) that follow one another in one turn */
};

/* Makes back ends from the policy's descriptions; only the wiring in main names concrete ones. */
struct engine_factory {
  int (*make_publisher)(void *context, const struct policy_publisher *policy, struct publisher **ret_publisher,
                        struct error *error);
  int (*make_signer)(void *context, const struct policy_signer *policy, struct signer **ret_signer, struct error *error);
  void *context;
};

/* Told of each event after it was committed. */
typedef void engine_listener(void *context, const struct event *event);

struct engine_setup {
  struct loop *loop;
  struct store *store;
  struct keeper *keeper;
  struct observer *observer;
  struct entropy *entropy;
  const struct engine_factory *factory;
  engine_listener *listener; /* may be NULL */
  void *listener_context;
  bool (*enough)(void *context); /* NULL, or asked before each turn: true ends the run as engine_stop does */
  void *enough_context;
  void (*turned)(void *context); /* after each turn; may be NULL. It may stop and wake the engine */
  void *turned_context;
  const char *const *domains; /* only these; NULL: all */
  size_t domain_count;
  bool requests_only; /* carry out what was asked for, and end */
  int64_t horizon; /* seconds from the start for which the engine waits for moments to come; when nothing is open and the next is later, it stops. TIME_NEVER: a daemon */
};

struct engine;

/* Everything in setup is borrowed. Reads the back-offs of resources and the clock from the store, whose lease must be held. */
int engine_new(const struct engine_setup *setup, struct engine **ret_engine, struct error *error) ERROR_USE_RESULT;
/* Runs turns until there is nothing more to do within the horizon, or engine_stop was called and the open operations are done.
 * Returns 0, or the error that made going on impossible (the store, the keeper). */
int engine_run(struct engine *engine, struct error *error) ERROR_USE_RESULT;
/* Starts nothing new; open operations are finished. */
void engine_stop(struct engine *engine);
/* The same, but what is still open after so many milliseconds is parked: engine_run returns, the intents stay in the store, and the next start takes them up,
 * as after a crash. A second call sets a new limit. (stay.c) */
void engine_stop_within(struct engine *engine, int64_t milliseconds);
/* A turn at once: somebody has written down a request. From any callback. (stay.c) */
void engine_wake(struct engine *engine);
/* The lineage that is due next and not in hand. The caller releases *ret_lineage if *ret_found. (stay.c) */
int engine_next_lineage(struct engine *engine, struct lineage *ret_lineage, bool *ret_found, struct error *error) ERROR_USE_RESULT;
void engine_free(struct engine *engine);

/* What came of it, for exit codes and the last line. */
struct engine_summary {
  size_t steps;    /* outcomes that succeeded */
  size_t failures; /* outcomes that failed */
  int64_t next;    /* when there is something to do again; TIME_NEVER */
  char wave[WAVE_TEXT_MAX * 2]; /* why no domain begins anything new: the wave is stopped; "": it is not */
  size_t turns;    /* made so far: a loop that lives makes them */
  size_t in_hand;  /* lineages that are worked on now */
};
void engine_summarise(const struct engine *engine, struct engine_summary *ret_summary);

#endif
