/* A world for the engine: a virtual loop, a real store, real key files behind a keeper that answers late, and models of DNS and of signers that
 * watch over the invariants. Faults are switched on by fields. */
#ifndef DKIMROLL_TESTS_ENGINE_WORLD_H
#define DKIMROLL_TESTS_ENGINE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/engine.h"
#include "dkimroll/key_jobs.h"
#include "workplace.h"

enum {
  WORLD_NOW = 1800000000,
  WORLD_DAY = 86400,
  WORLD_SERVERS = 2,
  WORLD_SITUATIONS = 8, /* domains whose situations are told apart */
  WORLD_SIGNERS_MAX = 3,
  WORLD_NEGATIVE_TTL = 300,
  WORLD_FOUND_TTL = 5 * 3600,
  WORLD_NAMES_MAX = 4096,
  WORLD_WINDOW = 5 * WORLD_DAY + 4300 + 2 * WORLD_DAY, /* Dq + Dver of the standard policy, WORLD_POLICY uses them */
};

/* One name in DNS. */
struct world_name {
  char name[256];
  char *record;      /* NULL: nothing there */
  char *before;      /* what servers that lag still serve */
  int64_t changed;   /* boottime, milliseconds */
  bool was_ours;     /* a record was added once: it must never be added again with another content */
  char *first;       /* that content */
  int64_t signed_at; /* wall: the last moment at which some signer signed with it; 0 never */
};

/* One domain at one signer. */
struct world_line {
  int signer;
  char domain[256];
  char selector[64];  /* that signs */
  char key_name[128]; /* by which it was last switched; empty: as the policy has it */
  bool adopted;       /* the same */
};

struct world_counts {
  unsigned turns, commits, observations, publications, activations, withdrawals, proofs; /* operations */
  unsigned compared; /* keys whose lines a proof looked for */
  unsigned adds, replaces, deletes, switches, generated, copied, destroyed;      /* effects that changed something */
};

struct world {
  struct workplace place;
  struct loop *loop;
  struct loop_ops loop_ops;
  struct store *store;
  struct store_ops store_ops;
  const struct store_ops *store_real;
  const struct loop_ops *loop_real;
  struct keeper keeper;
  struct observer observer;
  struct engine_factory factory;
  struct entropy_seeded entropy;
  struct key_roots roots;
  struct keeper_handler handlers[KEY_JOBS_COUNT + 1]; /* and who names a key file */
  struct engine *engine; /* while world_run runs */
  struct world_name *names;
  size_t name_count;
  struct world_line *lines;
  size_t line_count;
  struct world_counts counts;
  struct engine_summary summary;
  size_t open_back_ends; /* publishers and signers made and not destroyed */
  /* Switches. */
  bool unsynchronised, no_tsig, no_boot_id;
  bool observe_fails;           /* no round finds the zone */
  const char *too_many_servers; /* text in the name of a record for which more servers answer than a key can hold */
  int64_t answer_ms;            /* of every back end; 50 */
  int64_t lag[WORLD_SERVERS];   /* seconds */
  bool wrong[WORLD_SERVERS];    /* serves something else */
  const char *publish_fails;    /* text in the name */
  int publish_code;             /* why */
  const char *moved;            /* text in the name: it is in another zone than its survey found, whose negative TTL is WORLD_FOUND_TTL */
  bool publish_hangs;           /* answers at the deadline only, with ERROR_TIMEOUT */
  const char *secret;           /* ", tsig-file: /a" of publisher primary in the policy; NULL: none */
  const char *secret_gone;      /* path of a TSIG file that is not there */
  const char *no_publisher;     /* name of the publisher that cannot be made */
  const char *signer_fails;     /* name of the signer whose activations fail */
  const char *tables_digest;    /* of every signer's tables, for looks; NULL: they cannot be looked at */
  unsigned looks;               /* so many were answered */
  const char *signer_down;      /* name of the signer that nobody reaches */
  const char *domain_fails;     /* domain whose activation fails at any signer */
  bool keeper_dead;
  const char *named_path;       /* a KeyTable of others names this file */
  bool users_fail;              /* nobody can say who names a file */
  unsigned commits_left; /* 0: no limit; at 1 the next commit fails */
  unsigned
      steps_left;     /* 0: no limit; at 1 the loop stops after the present callback, which makes engine_free a crash */
  bool unwatched;     /* so many domains that to look at all of them at each event would take minutes */
  const char *limits; /* lines of the policy at its top; NULL none */
  const char *rules;  /* of the policy instead of "rotate-every: 30d" */
  bool stop_at_event; /* the listener stops the engine */
  bool compromised;   /* keys are in other hands: their records may go at any time (I2 is waived) */
  struct observe_server crowd[KEY_SIGHTINGS_MAX + 1]; /* too_many_servers */
  uint64_t situations[WORLD_SITUATIONS]; /* of the domains, by the number of their row */
  size_t violations;
  char violation[512]; /* the first */
};

/* One policy (rotate-every 30d), publishers primary and other, signers first and second; domains: "a.example: {}, b.example: {signers: [first, second]}". */
void world_make(struct world *world, const char *domains);
void world_remove(struct world *world);
/* Compiles the policy again with other domains. */
void world_sync(struct world *world, const char *domains);
/* Runs an engine until it ends; returns what engine_run did. */
int world_run(struct world *world, int64_t horizon, struct error *error);
/* The same, for tests in which it must succeed. */
void world_run_well(struct world *world, int64_t horizon);
int world_run_setup(struct world *world, struct engine_setup setup, struct error *error);
/* Until no step is left within so many days. */
void world_live(struct world *world, int days);
void world_request(struct world *world, enum store_request_kind kind, const char *domain);
/* "generated published active": the states of the domain's living keys, oldest first; caller frees. */
char *world_states(struct world *world, const char *domain);
/* A number of how far the keys of all domains have come, as it was stored last: their states, the facts that are known of them, what failed. Only a step changes
 * it, however often the engine looks in between. Reads memory alone. */
uint64_t world_situation(const struct world *world);
/* An operator edits the tables: domain is signed with selector there, or ("") not at all. */
void world_edit_tables(struct world *world, int signer, const char *domain, const char *selector);
/* Selector that signs for domain at signer number; "" none. */
const char *world_signs(const struct world *world, int signer, const char *domain);
struct world_name *world_name(struct world *world, const char *name);
size_t world_records(const struct world *world, const char *domain);
/* Events whose kind is kind (NULL: all) of domain (NULL: all). */
size_t world_events(struct world *world, const char *domain, const char *kind);
int64_t world_next(struct world *world, const char *domain);
int world_setup(void **state);
int world_teardown(void **state);

#endif
