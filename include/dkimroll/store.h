/* The store: what dkimroll knows between turns. An ops table; SQLite is the embedded default. */
#ifndef DKIMROLL_STORE_H
#define DKIMROLL_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/clock.h"
#include "dkimroll/error.h"
#include "dkimroll/lifecycle.h"
#include "dkimroll/policy.h"
#include "dkimroll/wave.h"

enum {
  STORE_CLAIM_MAX = 2000,      /* lineages at once */
  STORE_SCHEMA_VERSION = 4,
  STORE_BUSY_MS = 5000,        /* wait for another process's short transaction before ERROR_BUSY */
};

/* What the file system said of a policy file when it was compiled. */
struct store_file_stamp {
  char *path;
  int64_t size, inode, device;
  int64_t modified_ns, changed_ns; /* st_mtim and st_ctim in nanoseconds */
};
struct store_policy_stamp {
  struct store_file_stamp *files; /* owned */
  size_t file_count;
  char digest[65];
  /* What was compiled, and when; sync takes it from the policy itself. */
  char *metrics_file; /* owned; NULL: no metrics */
  int64_t metrics_domains;
  int64_t compiled_at; /* TIME_UNSET: not known */
};
void store_policy_stamp_release(struct store_policy_stamp *stamp);

/* The clock as it was at the last commit, to tell a jump from the passing of time. */
struct store_clock {
  char boot_id[CLOCK_BOOT_ID_SIZE]; /* empty: never stored */
  int64_t wall;      /* UTC seconds */
  int64_t boottime;  /* milliseconds */
  int64_t credited;  /* wall seconds that gates may count with */
  bool attested;     /* the wall clock was attested in this boot */
};

enum store_request_kind { REQUEST_ROTATE = 1, REQUEST_HOLD = 2, REQUEST_RELEASE = 3, REQUEST_FORGET = 4, REQUEST_REVOKE = 5, REQUEST_RELEASE_WAVE = 6 /* domain is "" */ };

/* Of REQUEST_REVOKE (struct compromise). */
enum store_request_option { REQUEST_WHOLE_HOST = 1 << 0, REQUEST_NOW = 1 << 1 };

struct store_request {
  int64_t id;
  enum store_request_kind kind;
  char *domain; /* owned */
  char *reason; /* owned; NULL */
  int64_t until; /* HOLD: end, or TIME_NEVER */
  enum hold_scope hold_scope; /* HOLD */
  int64_t asked_at;
  char *asked_by; /* "root (pid 4711)"; owned */
  char *selector; /* REVOKE: the key; NULL: the active one; owned */
  unsigned options; /* REVOKE: of enum store_request_option */
};
void store_request_release(struct store_request *request);

/* Back-off of a resource ("dns 192.0.2.53:53", "signer local"). */
struct store_resource {
  char *name; /* owned */
  unsigned failures;
  int64_t retry_at; /* wall seconds */
  char *failure;    /* owned */
};
void store_resource_release(struct store_resource *resource);

/* What a signer's tables were when dkimroll last wrote or saw them (signer.h: struct signer_stamp). */
struct store_tables {
  const char *key_table, *signing_table; /* paths; borrowed */
  const char *digest;
  const char *state;
  int64_t changed_at; /* somebody else changed them since; TIME_UNSET never */
  int64_t woken;      /* the lineages up to this id were made due for it; STORE_ALL_WOKEN: all */
};
#define STORE_ALL_WOKEN INT64_MAX

/* What a publisher's server said of the time in its last reply whose TSIG was right. */
struct store_publisher_clock {
  int64_t publisher_id;
  const char *publisher; /* its name, only from select; borrowed */
  int64_t skew;          /* seconds by which its clock was ahead of ours */
  int64_t measured_at;
};

/* Something that needs a person. Texts are borrowed. */
struct store_alarm {
  const char *subject; /* "example.com main", "dkimroll" */
  const char *domain;  /* NULL: about no domain */
  int64_t since;       /* TIME_UNSET, in a commit: it is over */
  int64_t told_at;     /* when the hook was called for it last; TIME_UNSET: not yet */
  const char *text;
};

/* Makes the next `limit` lineages after the one with id `after` due at once. */
struct store_wake {
  int64_t after;
  size_t limit;
  int64_t at;
  int64_t last; /* out: the id of the last one; STORE_ALL_WOKEN: there are no more */
};

/* Values of told_event: there is no hook, so that nothing is told, which select has no row for; and it begins before the first event. */
#define STORE_NOTHING_TOLD INT64_MIN
#define STORE_TOLD_START INT64_C(-1)

/* Everything of one turn, or of the outcomes of one operation: one transaction. Pointers are borrowed. New keys and events get their id. Of a lineage
 * all columns but those that belong to sync (domain, slot, managed, rules, publisher, signers, zone, senders) are written, with all its keys, their sightings and
 * placements; the sightings of a KEY_REMOVED key are dropped. A placement with signer_id 0 is at a signer version that
 * is stored with it (an adopted key has a directory and a name of its own). If sync changed the lineage since it was claimed, its next_moment is the earlier one of the two, so that
 * an outcome from before does not put off what the policy made due. ERROR_EXISTS: a new key's selector was used before in that domain (in any letter case, ever).
 * ERROR_INTERNAL: two active keys, a removed key that comes back, a key or event that is not what its id says. On any failure nothing is kept and no id is given. */
struct store_commit {
  struct lineage *const *lineages;
  size_t lineage_count;
  struct event *events;
  size_t event_count;
  const struct store_clock *clock; /* NULL: unchanged */
  bool plan_anew; /* the clock went back: lineages that are due later than clock->credited are due then, but those of this commit when they say */
  const int64_t *requests_done;    /* ids of executed requests */
  size_t request_done_count;
  const struct store_resource *resources; /* failures 0: forget the row */
  size_t resource_count;
  const struct store_tables *tables; /* rows to write */
  size_t tables_count;
  struct store_wake *wake; /* NULL: none; done after the lineages */
  const struct wave *wave; /* NULL: unchanged; its limits are the policy's, written by sync */
  int64_t wave_waits;      /* a wave goes on: lineages that are due exactly then are due at clock->credited; TIME_UNSET none. Done after the lineages */
  const struct store_publisher_clock *publisher_clock; /* NULL: not measured */
  const struct store_alarm *alarms;
  size_t alarm_count;
  int64_t told_event; /* the hook for transitions has been called for all events up to this; 0: unchanged; or one of those above */
};

enum store_select_kind {
  /* row: struct lineage (with all living keys) that is not forgotten, by domain then slot; filter: domain. Without domain, but with limit or after: pages,
   * rising by id from the one after `after` */
  STORE_SELECT_LINEAGES = 1,
  STORE_SELECT_EVENTS = 2,   /* row: struct event, rising by id; filter: domain, after */
  STORE_SELECT_REQUESTS = 3, /* row: struct store_request not executed yet, rising by id */
  STORE_SELECT_RESOURCES = 4,/* row: struct store_resource */
  STORE_SELECT_SIGNERS = 5,  /* row: struct policy_signer, every version that a key was made with */
  STORE_SELECT_LIVING_SIGNERS = 18, /* the same, of keys that are not removed */
  STORE_SELECT_SELECTORS = 6,/* row: char: selector ever used in filter domain, any state; filter: domain (needed), text (only this one, any letter case) */
  STORE_SELECT_REMOVED = 7,  /* row: struct lineage whose keys are its KEY_REMOVED ones, more than LINEAGE_KEYS_MAX of them in several rows; filter: domain */
  STORE_SELECT_TABLES = 9,   /* row: struct store_tables */
  STORE_SELECT_WAVE = 14,    /* row: struct wave; none before the first sync */
  STORE_SELECT_PUBLISHER_CLOCKS = 10, /* row: struct store_publisher_clock; of a publisher's versions the one that was measured last comes last */
  STORE_SELECT_ALARMS = 11,  /* row: struct store_alarm */
  STORE_SELECT_LINEAGES_AFTER = 13, /* row: as LINEAGES, by domain then slot, those after filter.domain and slot filter.text, at most limit: pages of all */
  STORE_SELECT_TOLD = 12,    /* row: int64_t: commit.told_event; none before the first */
  STORE_SELECT_RECORDS = 15, /* row: struct store_record, of each living key that was published through a publisher of a name, in any version, into a zone, or adopted there, and is not deleted; filter: domain
                                (here the publisher's name) and text (the zone), both needed */
  STORE_SELECT_COUNT = 16,   /* row: int64_t: how many lineages there are that are not forgotten */
  STORE_SELECT_KEY_USERS = 8,/* row: struct lineage that has a living key whose path is filter.text and not destroyed (I4: is a key file still named?) */
};

/* A record that belongs into a zone by what the store knows. */
struct store_record {
  const char *owner; /* its name there; borrowed */
  uint32_t ttl;
  const char *record; /* of the key before a revocation; borrowed */
  enum key_algorithm algorithm;
  bool revoked; /* what stands there is the record with empty p= */
};

struct store_filter {
  const char *domain; /* NULL: all */
  const char *text;
  int64_t after;      /* 0: from the first */
  size_t limit;       /* 0: no limit */
  bool descending;    /* EVENTS: newest first */
};

/* Gets one row, borrowed during the call. Non-zero ends the select, which returns that value; with ERROR_NO_MEMORY it says so itself. It may select again, but not commit or sync. All rows of
 * one select are of one moment. */
typedef int store_row(void *context, const void *row);

/* What one sync changed. */
struct store_sync_report {
  size_t domains, added, changed, unmanaged, returned;
  size_t warnings; /* what a person should look at, now the unmanaged ones; written as events of kind "sync" */
};

struct store;
struct store_ops {
  /* Becomes the one that executes (lease by flock(2), so it ends with the process): ERROR_BUSY says who holds it ("dkimroll run, pid 4711, since ...").
   * holder: what to tell others. A second call is fine. */
  int (*lease)(struct store *store, const char *holder, int64_t now, struct error *error);
  /* Due lineages (managed or not, but not forgotten; next_moment <= now), at most limit, most urgent first, except those in open_ids (already being worked on).
   * domains (domain_count 0: all) restricts. The caller releases each with lineage_release and frees the array. */
  int (*claim)(struct store *store, int64_t now, size_t limit, const char *const *domains, size_t domain_count,
               const int64_t *open_ids, size_t open_count, struct lineage **ret_lineages, size_t *ret_count,
               struct error *error);
  int (*commit)(struct store *store, const struct store_commit *commit, struct error *error);
  int (*select)(struct store *store, enum store_select_kind kind, const struct store_filter *filter, store_row *row,
                void *context, struct error *error);
  /* Compiles the policy into lineages in one transaction and remembers stamp. New and changed lineages are due at once; those gone from the policy (domain or slot)
   * become unmanaged; an unmanaged or forgotten one that is in the policy again is managed again. Each gets an event of kind "sync"; back-off, parking and failure of
   * changed and returned ones end. ret_report may be NULL. */
  int (*sync)(struct store *store, const struct policy *policy, const struct store_policy_stamp *stamp, int64_t now,
              struct store_sync_report *ret_report, struct error *error);
  /* Writes down a wish. Any process may, without the lease. domain must have a lineage (ERROR_NOT_FOUND). */
  int (*request)(struct store *store, struct store_request *request, struct error *error);
  /* ret_next: the earliest next_moment (TIME_NEVER: none), at most 0, which is always past, if a request is open; ret_stamp and ret_clock may be NULL. Cheap:
   * answers `run` with nothing due. The caller releases the stamp (file_count 0: never synced). */
  int (*next_moment)(struct store *store, int64_t *ret_next, struct store_policy_stamp *ret_stamp,
                     struct store_clock *ret_clock, struct error *error);
  void (*close)(struct store *store);
};

struct store {
  const struct store_ops *ops;
};

/* Opens or creates the SQLite store at path (":memory:" for tests; file mode 0600, directory made 0700). Migrates older schemas; refuses newer ones (ERROR_CONFIG says which
 * version is needed) and files of other programs, which it leaves as they are. What root makes belongs to the owner of the directory. read_only: never creates, migrates or
 * locks: for status, plan, history; ERROR_NOT_FOUND: nothing has run yet. Contradictory content is ERROR_INTERNAL wherever it is met, with table and row. */
int store_sqlite_open(const char *path, bool read_only, struct store **ret_store, struct error *error) ERROR_USE_RESULT;
void store_close(struct store *store); /* NULL is fine */

#endif
