/* The life of keys: states, timing, planner, invariants. Pure: no input or output, no log, no clock; everything is in the arguments. Words, states
 * and formulas: docs/architecture.md, after RFC 7583 and RFC 6376. */
#ifndef DKIMROLL_LIFECYCLE_H
#define DKIMROLL_LIFECYCLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/clock.h"
#include "dkimroll/error.h"
#include "dkimroll/policy.h"
#include "dkimroll/selector.h"
#include "dkimroll/transport.h"

enum {
  LINEAGE_KEYS_MAX = 32,       /* living keys of one lineage: 90d life against weeks of retirement need 3; a burst of `rotate` stops here */
  KEY_SIGHTINGS_MAX = 64,      /* server addresses of one zone */
  KEY_PLACEMENTS_MAX = POLICY_SIGNERS_MAX,
  PLAN_REASONS_MAX = 12, /* gates of one step */
  PLAN_REASON_TEXT_MAX = 256,
};

/* RFC 7583 section 3.1, read for DKIM. */
enum key_state {
  KEY_RESERVED = 0, /* the selector is taken, the private key file is not confirmed yet: the intent to generate */
  KEY_GENERATED = 1,
  KEY_PUBLISHED = 2,
  KEY_READY = 3,
  KEY_ACTIVE = 4,
  KEY_RETIRED = 5,
  KEY_REVOKED = 6,
  KEY_REMOVED = 7,
};
const char *key_state_name(enum key_state state);

/* key x server address. */
struct sighting {
  char host[DNS_NAME_TEXT_SIZE];
  char address[ADDRESS_TEXT_SIZE];
  bool right;             /* the last answer was right */
  bool no_route;          /* skipped: no route to this family, and the same name server is right at another address */
  unsigned count;         /* right answers in a row; 0 also if all that were right came while the clock was not attested */
  int64_t right_since;    /* first of them; TIME_UNSET if not right */
  int64_t last_wrong_at;  /* last wrong or missing answer; TIME_UNSET never */
  int64_t seen_at;        /* last observation */
  char answer[160];       /* what it said, for status */
};

/* What is wrong with an active key at one signer, as the last proof found it. */
enum placement_damage {
  DAMAGE_NONE = 0,
  DAMAGE_TABLES = 1,       /* the signer answers, and does not sign as it should: its tables are written again */
  DAMAGE_FILE_MISSING = 2, /* the private key file is not there */
  DAMAGE_FILE_OTHER = 3,   /* the file holds another key, or none that can be read */
  DAMAGE_SIGNER_DOWN = 4,  /* nobody answers: nothing can be said of the key, and nothing is to be mended */
  DAMAGE_KEPT = 5,         /* it could not be mended; the next proof tells what it is by then */
};

/* key x signer. */
struct placement {
  int64_t signer_id;      /* row of the signer version that it was made with */
  const struct policy_signer *signer; /* borrowed from the store */
  char *key_path;         /* owned */
  bool file_made;         /* the private key file exists */
  int64_t switched_at;    /* TIME_UNSET: not yet */
  int64_t proved_at;      /* last proof by signature; seconds that gates count with, as tables_changed_at: not ahead of them where the wall clock is */
  enum placement_damage damage; /* of an active key */
  int64_t damaged_at;     /* since when; TIME_UNSET: sound */
  int64_t drained_at;     /* the signer's entry of this (retired) key is withdrawn */
  bool destroyed;         /* private key destroyed or archived */
  char *failure;          /* last failure, NULL none; owned */
};

struct key {
  int64_t id; /* row; 0: not stored yet */
  char selector[SELECTOR_SIZE];
  char owner_name[DNS_NAME_TEXT_SIZE]; /* <selector>._domainkey.<domain>; filled in by lifecycle_reserve and the store from both */
  enum key_algorithm algorithm;
  unsigned bits;
  enum key_state state;
  int64_t state_since;
  char *record;      /* TXT content while it lives; NULL while KEY_RESERVED; owned */
  uint32_t ttl;      /* TTLtxt: the largest that the record ever had, seconds */
  /* Facts, each with the time of its own completion; TIME_UNSET until then. */
  int64_t created_at;
  int64_t generated_at;
  int64_t published_at;   /* last UPDATE that added the record, shown by read-back */
  int64_t right_at;       /* since when every server has been right without a break, TIME_UNSET if one is not */
  int64_t propagation;    /* Dprp: seconds from the publication until every server was right for the first time; -1 unknown */
  int64_t last_wrong_at;  /* end of the last wrong or missing sighting of any server */
  int64_t confirmed_at;   /* last round in which every server was right; TIME_UNSET when the last round had a wrong one */
  int64_t ready_at;
  int64_t active_at;
  int64_t retired_at;     /* the successor was proved on the last signer */
  int64_t revoke_at;      /* F3 as it was computed; may only grow */
  int64_t revoked_at;
  int64_t deleted_at;     /* exact record deleted, shown by read-back */
  int64_t absent_at;      /* every server was seen without it after that */
  int64_t removed_at;
  int64_t ttl_negative;   /* TTLneg, largest seen; seconds */
  int64_t ttl_old;        /* TTLold, seconds */
  int64_t compromised_at; /* somebody else may have the private key, as a person said then (`revoke`); TIME_UNSET: no */
  bool revoke_now;        /* and its record is not to wait for a key that takes over, whatever that costs */
  int64_t lingers_until;  /* compromised and retired: until then a connection that was open at the switch may sign with it; TIME_UNSET: none is left */
  int64_t files_seen_at;  /* of a ready key: when the keeper last looked at its private key files; TIME_UNSET never */
  int64_t contested_at;   /* the record of an active key cannot be put back since then, because something else stands at its name; TIME_UNSET: no */
  unsigned proof_failures; /* proofs and repairs of an active key that failed in a row */
  int64_t proof_retry_at; /* the next proof after a failure, not before; TIME_UNSET none */
  unsigned look_failures; /* looks at its servers (PLAN_CONFIRM, PLAN_CONFIRM_ABSENT) that failed in a row */
  int64_t look_retry_at;  /* the next one, not before; TIME_UNSET none */
  /* Of its own steps but proofs and repairs; of looks as long as nothing else fails. Each key has a pause of its own: what fails of one holds no other back, and keys that fail in turn do not forget one another's. */
  unsigned failures;      /* in a row */
  int64_t retry_at;       /* back-off: not before; TIME_UNSET none */
  bool intent_open;       /* an operation was started and its outcome is not stored */
  int intent;             /* enum plan_action: the last one that was started */
  int64_t intent_at;
  char *failure;          /* the last one of `failures`: "<action> of <selector>: reason; remedy"; NULL none; owned */
  /* What it was made with; undoing uses these. */
  int64_t publisher_id;
  const struct policy_publisher *publisher; /* borrowed from the store */
  char zone[DNS_NAME_TEXT_SIZE];
  char owner[DNS_NAME_TEXT_SIZE];
  char primary_server[ADDRESS_TEXT_SIZE];
  struct sighting *sightings; /* owned */
  size_t sighting_count;
  struct placement placements[KEY_PLACEMENTS_MAX];
  size_t placement_count;
};

/* What a hold keeps back. */
enum hold_scope {
  HOLD_ALL = 0,        /* no new key, no switch, nothing is revoked, deleted or destroyed */
  HOLD_ACTIVATION = 1, /* no switch: the next key is made and waits, and old ones go their way */
};

struct lineage {
  int64_t id;
  char domain[DNS_NAME_TEXT_SIZE];
  char slot[SELECTOR_SIZE];
  bool managed;   /* false: gone from the policy; keeps signing, nothing is deleted */
  bool forgotten; /* `forget` ended it */
  int64_t rules_id, publisher_id;
  const struct policy_rules *rules; /* borrowed from the store, like all below */
  const struct policy_publisher *publisher;
  int64_t signer_ids[POLICY_SIGNERS_MAX];
  const struct policy_signer *signers[POLICY_SIGNERS_MAX];
  size_t signer_count;
  char *zone;      /* explicit in the policy; NULL; owned */
  char **senders;  /* owned; never empty */
  size_t sender_count;
  bool held;
  enum hold_scope hold_scope;
  char *hold_reason;       /* owned */
  int64_t hold_until;      /* TIME_NEVER: until released */
  bool rotate_requested;   /* somebody asked for a new key */
  /* The failure that is shown: of the keys that sign or will before those that leave, and the last of these; or of a key that came to nothing, and then it holds the
   * next one back. */
  unsigned failures;       /* in a row */
  int64_t retry_at;        /* not before; TIME_UNSET none */
  int64_t parked_at;       /* tried once a day, with an alarm, until something changes; TIME_UNSET no */
  char *failure;           /* "<action> of <selector>: reason; remedy"; NULL none; owned */
  int64_t tables_changed_at; /* when tables of one of its signers were last changed by somebody else, as far as the engine knows; 0 never. Not stored here */
  int64_t begin_place, switch_place; /* begin of the run in which it has a place to begin a key, and to take over (wave.h); TIME_UNSET none */
  int64_t next_moment;     /* when the engine looks again */
  struct key *keys; /* owned; living ones, oldest first: all but KEY_REMOVED that is stored */
  size_t key_count; /* at most LINEAGE_KEYS_MAX */
};

void key_release(struct key *key);
void lineage_release(struct lineage *lineage);
/* A copy of its own; what is borrowed from the store stays borrowed. Caller releases. ERROR_NO_MEMORY. */
int lineage_copy(const struct lineage *lineage, struct lineage *ret_copy, struct error *error) ERROR_USE_RESULT;
/* Appends a key with every moment TIME_UNSET and returns it; pointers to other keys are invalid afterwards. NULL: out of memory, or
 * LINEAGE_KEYS_MAX reached. */
struct key *lineage_add_key(struct lineage *lineage);
/* Keys that are KEY_REMOVED leave the array, as they are not in it when the store loads a lineage. Pointers to others are invalid afterwards. */
void lineage_drop_removed(struct lineage *lineage);
/* What failed of any of its keys is tried again at once. */
void lineage_forget_failures(struct lineage *lineage);
struct key *lineage_active_key(struct lineage *lineage); /* NULL: none */
struct key *lineage_find_key(struct lineage *lineage, const char *selector);
/* The entry of the lineage's slot in its rules; NULL: the slot is gone from the policy. */
const struct policy_key *lineage_rule(const struct lineage *lineage);

/* Whether the placement is one in the very tables that signer stands for now. */
bool placement_serves(const struct placement *placement, const struct policy_signer *signer);
/* Whether a signer's tables name key, as far as is known. */
bool placement_is_named(const struct placement *placement);
/* Whether key, which is active, is what signs at its placement i: at a signer that the domain has now, proved there once, and not taken over by a successor
 * that has not reached every signer yet. These are the placements that are proved from time to time. */
bool placement_signs(const struct lineage *lineage, const struct key *key, size_t i);
/* Of those: whether what is wrong there can be mended with what is there, by writing tables again or with a copy of the file from another signer. The entry of
 * an adopted key that stands in a KeyTable itself is none that could be written. */
bool placement_is_repairable(const struct lineage *lineage, const struct key *key, size_t i);
/* Whether mail that key signs cannot be verified, or is not signed at all, or is not to be believed, and nothing that dkimroll does with this very key helps: a
 * private key file is lost, something else stands where its record was, or somebody else may have the private key. */
bool key_is_broken(const struct lineage *lineage, const struct key *key);
/* Whether key is never to sign (again): compromised, or ready and none of its private key files is left. */
bool key_is_given_up(const struct key *key);
/* Whether key, which waits to take over, has no private key file any more, as far as the keeper saw. */
bool key_is_lost(const struct key *key);
/* The last key of a domain that has none that signs, because it was ended at once; NULL: one signs, or that is not the reason. */
const struct key *lineage_ended_key(const struct lineage *lineage);
/* Whether key is compromised and revoked, and not every server was seen to say so since, or one does not any more. */
bool key_is_exposed(const struct key *key);
/* The ready key that would take over in an emergency: neither given up nor behind another one that has been ready for longer. NULL: none. */
const struct key *lineage_standby_key(const struct lineage *lineage);
/* A file of key that is known to be there and to be right: at path, or with path NULL the first of all. NULL: none. */
const char *key_find_file(const struct key *key, const char *path);

/* Whether nothing that is planned for quiet times may hold back the next key: what signs is broken, or nothing signs any more although something did. */
bool lineage_is_urgent(const struct lineage *lineage);

/* Ends a hold whose end has come, with an event of kind "released"; nothing happens before. ERROR_NO_MEMORY. */
struct event_list;
int lifecycle_end_hold(struct lineage *lineage, int64_t now, struct event_list *events, struct error *error) ERROR_USE_RESULT;

/* What the planner may count with: now credited to gates, and whether the clock is attested (include/dkimroll/engine_clock.h). */
struct wave;
struct plan_clock {
  const struct wave *wave; /* which limits on waves hold and how far they are used (wave.h); NULL: none */
  int64_t now;
  bool attested;
  bool skip_watch; /* rounds that only watch over records that are right are left out: for look-ahead and status */
};

enum plan_action {
  PLAN_NONE = 0,
  PLAN_GENERATE = 1,       /* keys[key] is KEY_RESERVED, or key == key_count: a new one */
  PLAN_PUBLISH = 2,        /* ADD: the first time, or a record that vanished */
  PLAN_CONFIRM = 3,        /* one round of observation */
  PLAN_READY = 4,          /* no effect: F1 has passed */
  PLAN_ACTIVATE = 5,       /* with a fresh round of observation first; also places an active key at a signer that was added */
  PLAN_WITHDRAW = 6,       /* the retired key's entries at its signers; also of a key that took over at some of them only and lost its record since */
  PLAN_REVOKE = 7,         /* REPLACE by empty p= */
  PLAN_DELETE = 8,         /* exact record */
  PLAN_CONFIRM_ABSENT = 9, /* one round of observation */
  PLAN_DESTROY = 10,       /* private key: destroy or archive, then KEY_REMOVED */
  PLAN_ATTEST = 11,        /* a signed exchange with the primary, to know that the clock is right */
  PLAN_PROVE = 12,         /* a round of observation, the key files, and a proof by signature at every signer of an active key */
  PLAN_CHECK_FILES = 14,   /* whether the private key files of a key that waits to take over are there and are its own */
  PLAN_REPAIR = 13,        /* writes the tables (and a missing key file that another signer has) of an active key again, with a fresh round first, and proves it */
};
/* "generate", "publish", ... for logs, status and the store. */
const char *plan_action_name(enum plan_action action);
/* What the state will be called once the action has succeeded: KEY_PUBLISHED for PLAN_PUBLISH; the present one where it does not change. */
enum key_state plan_action_target(enum plan_action action, enum key_state present);

/* Why not yet. gate is a stable name ("negative-cache", "retire-window"); opens TIME_NEVER: no time opens it. */
struct plan_reason {
  const char *gate;
  int64_t opens;
  bool silent; /* within the planner: nobody reads the text, so it is not made */
  char text[PLAN_REASON_TEXT_MAX];
};

struct plan {
  enum plan_action action; /* PLAN_NONE: nothing to do before next */
  enum plan_action waiting; /* PLAN_NONE: the step that the reasons hold back; else equal to action */
  size_t key;              /* index into lineage->keys; key_count for a new one */
  int64_t next;            /* when to plan again if nothing happens before; TIME_NEVER */
  struct plan_reason reasons[PLAN_REASONS_MAX];
  size_t reason_count;     /* 0 for an action */
  bool needs_person;       /* nothing that dkimroll does alone will open it */
};

/* The most urgent thing to do for lineage, or when and why not. */
void plan_lineage(const struct lineage *lineage, const struct plan_clock *clock, struct plan *ret_plan);
/* The same for one key alone (key_count: for the key that does not exist yet), for status: its next step, when, and what it waits for. */
void plan_key(const struct lineage *lineage, size_t key, const struct plan_clock *clock, struct plan *ret_plan);

/* One server's answer in a round of observation, as the engine got it from the observer. */
struct sighting_report {
  const char *host;
  const char *address;
  bool right;
  bool no_route;
  int64_t at;            /* wall seconds */
  int64_t ttl;           /* of the TXT, -1 none */
  int64_t ttl_negative;  /* -1 unknown */
  const char *answer;
};
/* What one signer did. */
struct placement_report {
  int64_t signer_id;
  const char *key_path;
  int64_t switched_at;   /* 0: not */
  int64_t completed_at;  /* wall seconds; 0: failed */
  enum placement_damage damage; /* PROVE that failed: what is wrong */
  const char *failure;   /* NULL: success */
  const char *restart_failure; /* ACTIVATE, WITHDRAW: why it was not; NULL unknown */
  bool restarted;        /* ACTIVATE, WITHDRAW: the signer was restarted, so no connection is left that was open before */
  bool kept;             /* DESTROY: the file stays, because others use it */
};

/* What an operation brought for one lineage. Strings are borrowed. */
struct outcome {
  enum plan_action action;
  size_t key;
  int64_t at;                 /* wall seconds of its completion */
  bool unattested;            /* nobody vouches for the clock that stamped it */
  int64_t uncredited;         /* seconds by which that clock is ahead of what gates may count with; never below 0 */
  const struct error *error;  /* NULL: success. Reports below are applied all the same */
  const char *record;         /* GENERATE */
  uint32_t ttl;               /* PUBLISH, REVOKE: seconds */
  bool already;               /* PUBLISH: the primary had the record */
  const char *zone, *owner, *primary_server; /* GENERATE, PUBLISH; NULL: unchanged */
  int64_t ttl_negative, ttl_old; /* GENERATE (from the survey before publication): seconds; -1 unknown */
  const struct sighting_report *sightings; /* CONFIRM, ACTIVATE, CONFIRM_ABSENT, PROVE, REPAIR */
  size_t sighting_count;
  const struct placement_report *placements; /* GENERATE (file made), ACTIVATE, WITHDRAW, DESTROY, PROVE, REPAIR, CHECK_FILES */
  size_t placement_count;
};

/* One thing that happened, for the append-only log. Strings are owned. */
struct event {
  int64_t id; /* row number, rising; 0: not stored yet */
  int64_t at; /* wall seconds */
  int64_t lineage_id;
  char *domain;
  char *slot;
  char *selector; /* NULL: about the lineage */
  char *kind;     /* "state", "failed", "alarm", "healed", "held", "released", "requested", "sync", ... */
  char *from;     /* state names for kind "state"; else NULL */
  char *to;
  char *reason;
  int error;      /* enum error_code of what failed; 0 none. This and the server are for the log alone: the store does not keep them */
  char server[DNS_NAME_TEXT_SIZE]; /* name server that it is about, host or address; empty: none */
};
void event_release(struct event *event);
struct event_list {
  struct event *items; /* owned */
  size_t count, capacity;
};
void event_list_release(struct event_list *list);
/* Appends one about key (NULL: about the lineage). ERROR_NO_MEMORY. */
int event_list_add(struct event_list *list, const struct lineage *lineage, const struct key *key, int64_t at, const char *kind,
                   const char *reason, struct error *error) ERROR_USE_RESULT;

/* Takes over what an operation brought: facts, state, failures and back-off, with one event for each thing that happened. It is the only place in which
 * a key's state changes. now: the planner's clock, for back-off. ERROR_INTERNAL: the outcome contradicts the state; nothing was changed. */
int lifecycle_apply(struct lineage *lineage, const struct outcome *outcome, int64_t now, struct event_list *events,
                    struct error *error) ERROR_USE_RESULT;

/* Reserves the selector for a new key of lineage as its rules say: appends it as KEY_RESERVED with its placements. number: 1 for the bare date, n for "-n".
 * *ret_index is its index. */
int lifecycle_reserve(struct lineage *lineage, int64_t now, unsigned number, size_t *ret_index, struct event_list *events,
                      struct error *error) ERROR_USE_RESULT;

/* A key that was not made here: what was found of it in the tables of signers, in files and in DNS. Strings are borrowed. */
struct adoption_place {
  int64_t signer_id;      /* 0: signer is a version that is not stored yet (store.h) */
  const struct policy_signer *signer; /* the tables that name it, with the key directory and key name that it really has. Borrowed as long as the lineage lives */
  const char *key_path;   /* NULL: the key stands in the table itself, so there is no file to be destroyed */
  bool keep_file;         /* the file is never to be destroyed */
  bool named;             /* its tables name the key */
  bool signs;             /* and messages were seen to be signed with it there. Where an active key is named only, its proof is as old as the key, and is made anew (placement_was_seen) */
};
struct adoption {
  const char *selector;
  int64_t id;             /* row of the store that guards the selector in this lineage, and of which no key was ever made (key_was_made); 0: none */
  enum key_algorithm algorithm;
  unsigned bits;
  enum key_state state;   /* KEY_ACTIVE, KEY_RETIRED, KEY_REVOKED; KEY_REMOVED: only the selector is reserved */
  const char *record;     /* octet for octet as it is served; if no server has it, what it should be, or NULL */
  bool unserved;          /* no server has it. KEY_ACTIVE: it will be published; KEY_RETIRED: it counts as deleted */
  bool replace;           /* KEY_ACTIVE: a successor is wanted at once */
  int64_t since;          /* since when it signs, or exists, as far as anybody can tell; at most now */
  uint32_t ttl;
  int64_t ttl_negative;   /* -1 unknown */
  const char *zone, *owner; /* NULL: unknown */
  const struct adoption_place *places;
  size_t place_count;
  const struct sighting_report *sightings;
  size_t sighting_count;
  const char *reason;     /* for the log */
};
/* Takes the key into lineage, with an event of kind "imported". Nothing shortens the window of a retired one: it counts from now, because nobody knows when it signed
 * last. ERROR_CONFLICT: the lineage has that selector, or an active key already, or the adoption lacks what its state needs; ERROR_LIMIT: no room. Nothing was changed then. */
int lifecycle_adopt(struct lineage *lineage, const struct adoption *adoption, int64_t now, struct event_list *events,
                    struct error *error) ERROR_USE_RESULT;
/* Was the key adopted rather than made here? */
bool key_is_adopted(const struct key *key);
/* Was there ever a key here? If not, a removed one only guards its selector, which was given up or reserved; import may find the key that really has it. */
bool key_was_made(const struct key *key);

/* What `revoke` asks for. selector NULL: the active key; whole_host: all living keys, whose private halves lie on one host. */
struct compromise {
  const char *selector;
  bool whole_host;
  bool now; /* the record goes at once, even if no other key can sign */
  const char *by, *reason; /* for the log; reason may be NULL */
};
/* Takes it into lineage, with one event of kind "compromised" for each key that it is news of: nothing happens to a key that is revoked already, and a second wish
 * adds to the first. ERROR_NO_MEMORY. */
int lifecycle_compromise(struct lineage *lineage, const struct compromise *compromise, int64_t now, struct event_list *events,
                         struct error *error) ERROR_USE_RESULT;
/* Whether a compromise as wished would be news of the key. */
bool key_is_meant(const struct key *key, const struct compromise *compromise);

/* Invariants: may this step be started? Independent of the planner, and stricter than nothing it can propose: a refusal is a defect (ERROR_INTERNAL), is
 * logged and parks the lineage. */
int invariant_permits(const struct lineage *lineage, enum plan_action action, size_t key, const struct plan_clock *clock,
                      struct error *error) ERROR_USE_RESULT;
/* What held before must hold after: at most one active key; a lineage that had an active key has one; no state went back except to published; no
 * key is missing; no retire window shrank. */
int invariant_holds(const struct lineage *before, const struct lineage *after, struct error *error) ERROR_USE_RESULT;

#endif
