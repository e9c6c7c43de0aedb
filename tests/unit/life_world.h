/* One lineage's whole life on a virtual clock: the planner plans, a simulated world does what it asks for, lifecycle_apply takes the outcome over, and an oracle
 * (life_oracle.c) judges every step by facts that it keeps itself. Two clocks: `moment` is true time, which nothing but the world knows; the wall clock may be wrong. */
#ifndef LIFE_WORLD_H
#define LIFE_WORLD_H

#include "dkimroll/engine_clock.h"
#include "lineage_builder.h"

enum {
  LIFE_SERVERS_MAX = 4,
  LIFE_PUBLISHERS = 2,
  LIFE_RECORDS_MAX = 2000, /* selectors of one life */
  LIFE_CHANGES_MAX = 12,   /* of one record at one primary; the oldest are forgotten */
  LIFE_TABLES_MAX = 4,     /* signers' tables */
  LIFE_NAMED_MAX = 40,     /* selectors that one KeyTable names */
  LIFE_TRACE = 24,
  /* Within this time after the last fault a lineage is well again: the pause of a parked lineage, the longest pause of healing, a publication. */
  LIFE_RECOVERY = 4 * DAY,
};

enum life_content { LIFE_ABSENT = 0, LIFE_SERVED = 1, LIFE_REVOKED = 2, LIFE_FOREIGN = 3 /* an operator's own TXT */ };

struct life_change {
  int64_t at;
  enum life_content content;
};

/* One selector, with what really happened to it, in true time; TIME_UNSET until then. */
struct life_record {
  char selector[SELECTOR_SIZE];
  struct life_change changes[LIFE_PUBLISHERS][LIFE_CHANGES_MAX];
  size_t change_count[LIFE_PUBLISHERS];
  int64_t right_since[LIFE_SERVERS_MAX]; /* as reported */
  int64_t wrong_at;                      /* last report of a server that was not right */
  bool all_right;                        /* in the last round */
  bool all_absent;
  bool doubtful; /* some of it was stamped while the wall clock was wrong */
  int64_t revoked_behind; /* by so much the clock was late at its revocation: no gate can tell that from time that passed when the clock is put right */
  int64_t active_at, switched_at, retired_at, revoked_at, deleted_at;
  int64_t signed_at;      /* last moment at which tables are known to have signed with it */
  unsigned files_missing; /* bit by number of the tables: the private key file for them is gone */
  unsigned files_other;   /* or holds another key */
  int64_t revoke_at; /* the window that was promised, as stored */
  enum key_state state;
  bool compromised, now; /* somebody asked for its end, and for its end at once */
};

struct life_server {
  const char *host, *address;
  int64_t lag;
  int64_t dead_until;
  bool routeless;
};

/* One signer's tables. */
struct life_tables {
  char name[64]; /* its KeyTable */
  char signs[SELECTOR_SIZE];
  char named[LIFE_NAMED_MAX][SELECTOR_SIZE];
  size_t named_count;
  int64_t dead_until;
};

/* What goes wrong. */
struct life_fault {
  enum plan_action action; /* PLAN_NONE: every one */
  unsigned permille;       /* of the steps */
  unsigned times;          /* the next so many, whatever permille says */
  int code;
  bool retryable;
  bool effect; /* what was asked for happens all the same, and its outcome is lost: a crash */
};

struct life {
  struct builder builder;
  uint64_t random;
  uint64_t seed;
  int64_t begin, moment;
  int64_t wall_error; /* wall = moment + wall_error */
  int64_t boot_at;
  unsigned boots;
  bool synchronised; /* the kernel's clock is disciplined */
  bool tsig;         /* the primary's replies are signed */
  struct store_clock stored_clock;
  struct plan_clock clock;
  struct life_server servers[LIFE_SERVERS_MAX];
  size_t server_count;
  struct life_tables tables[LIFE_TABLES_MAX];
  size_t tables_count;
  struct life_record *records;
  size_t record_count;
  struct life_fault fault;
  int64_t ttl_negative, ttl_old;
  bool has_signed;
  size_t steps, failures, rotations;
  int64_t hour; /* of the last steps, for finding out whether it spins */
  size_t steps_of_hour;
  char trace[LIFE_TRACE][160];
  struct plan plan; /* the last one */
  bool instant;     /* steps take no time */
  void (*watcher)(struct life *life, enum plan_action action, const struct key *key); /* NULL, or told of each step before it is done */
};

/* A world without faults, with two servers: seed decides what random there is. */
void life_begin(struct life *life, uint64_t seed);
void life_end(struct life *life);
uint64_t life_random(struct life *life, uint64_t bound);

/* Plans once and does what was planned; without an action, waits for the plan's next moment, at most until `until`. false: until is reached. */
bool life_step(struct life *life, int64_t until);
void life_run(struct life *life, int64_t seconds);
/* Until some key, the newest or (at retired and later) the oldest, is in that state. Fails the test after `seconds`. Returns its index. */
size_t life_run_until(struct life *life, enum key_state state, int64_t seconds);
/* An index of a key in that state; key_count: none. */
size_t life_find(const struct life *life, enum key_state state);

/* What sync does with a lineage whose policy was changed. */
void life_policy_changed(struct life *life);
/* The domain's records live elsewhere from now on; copied: somebody has taken them along. */
void life_move(struct life *life, size_t publisher, bool copied);
/* The wall clock is set; reboot: by the time it was not running. */
void life_set_wall(struct life *life, int64_t wall_error, bool synchronised);
void life_reboot(struct life *life, int64_t wall_error, bool synchronised);
/* All primaries have lost the record: restored from a backup. */
void life_forget(struct life *life, const char *selector);

/* An operator puts another TXT into the place of the record, at all primaries, and takes it away again. */
void life_contest(struct life *life, const char *selector, bool contested);
/* An operator edits the tables of the domain's signer number i: they sign with selector, or ("") with none. */
void life_edit_tables(struct life *life, size_t i, const char *selector);
/* An operator removes the private key file at the domain's signer number i, or puts another there. */
void life_lose_file(struct life *life, size_t i, const char *selector, bool other);
void life_restore_file(struct life *life, size_t i, const char *selector);

/* A person says which keys are compromised; what failed before is tried at once, as the engine does. */
void life_revoke(struct life *life, const struct compromise *compromise);

void life_trace(struct life *life, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct life_record *life_record(struct life *life, const char *selector);
struct life_tables *life_tables(struct life *life, const struct policy_signer *signer);
enum life_content life_content(const struct life_record *record, size_t publisher, int64_t at);
/* With the faults of its publisher's servers. */
enum life_content life_seen(const struct life *life, const struct life_record *record, size_t publisher, size_t server);

/* ---- the oracle ---- */

void oracle_fail(struct life *life, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
/* The plan as such; before the step is done; the reports of a round; after the outcome was taken over. */
void oracle_judge_plan(struct life *life, const struct plan *plan);
void oracle_judge_step(struct life *life, enum plan_action action, const struct key *key);
void oracle_take_round(struct life *life, struct life_record *record, const struct sighting_report *reports, size_t count, bool absence);
void oracle_judge_lineage(struct life *life);
/* One active key that signs everywhere, every server right, no failure remembered, its life not over. NULL: well; else what is not. */
const char *oracle_find_ill(struct life *life);
void life_expect_well(struct life *life);

#endif
