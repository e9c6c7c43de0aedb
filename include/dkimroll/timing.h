/* The formulas F1 to F5 of docs/architecture.md (RFC 7583 read for DKIM). Pure; every duration in seconds, every moment in UTC seconds. */
#ifndef DKIMROLL_TIMING_H
#define DKIMROLL_TIMING_H

#include "dkimroll/lifecycle.h"

enum {
  TIMING_CONFIRM_SLOWEST = 900,    /* a record that some server lacks is looked for at least every 15 minutes */
  TIMING_WATCH_SLOWEST = 3600,     /* a key that is ready is watched at least every hour */
  TIMING_WATCH_SIGNED = 21600,     /* a record that mail needs (active, retired) is looked at every 6 hours: a million domains are 46 rounds a second */
  TIMING_WATCH_TOMBSTONE = 86400,  /* a record that says that a key is revoked is looked at daily, of a compromised key as often as one that mail needs */
  TIMING_PROOF_PAUSE = 10,         /* a key is not proved more often than that, unless prove-every is shorter */
  TIMING_LOST_FOR_GOOD = 86400,    /* a private key file that is not there for a day does not come back by itself: a folder that was not mounted does */
  TIMING_HEAL_SLOWEST = 86400,     /* a record that some server lacks is published again, or the alarm repeated, at least once a day */
  TIMING_BACKOFF_FIRST = 15,       /* after the first failure of a step; doubles */
  TIMING_BACKOFF_RETRYABLE = 3600, /* at most, where the step may succeed by itself */
  TIMING_BACKOFF_PARKED = 86400,   /* a parked lineage is tried again once a day */
  TIMING_ATTEST_LOOK = 60,         /* where only the kernel can attest the clock: after a boot that takes seconds to minutes, and a look at it costs nothing */
  TIMING_FAILURES_PARK = 8,        /* failures in a row that park a lineage with an alarm */
};

/* Is this server right, or excused: no route to it while the same host is right at another address? */
bool timing_sighting_counts(const struct key *key, size_t sighting);
/* Since when every server has been right without a break (the latest right_since); TIME_UNSET if one is not, or none is known. */
int64_t timing_right_since(const struct key *key);
/* Fewest right answers in a row among all servers. */
unsigned timing_sightings(const struct key *key);
/* When the last round of observation was; TIME_UNSET none. */
int64_t timing_observed_at(const struct key *key);
/* When the record was put there last: the key's, or, of a key that is revoked, what says so; TIME_UNSET: not yet. */
int64_t timing_put_at(const struct key *key);
/* When the next round is due. */
int64_t timing_next_round(const struct key *key, const struct policy_rules *rules);

/* F1: TIME_NEVER while a server is not right, or was seen so only by a clock that nobody vouched for. */
int64_t timing_ready(const struct key *key, const struct policy_rules *rules);
/* Ipub as expected for the successor of active: Dprp + max(TTLneg, TTLold) + Spub + the sightings, from what the active key measured, at most
 * half of a key's life. */
int64_t timing_publication_interval(const struct key *active, const struct policy_rules *rules);
/* How long a key of lineage signs: rotate-every, less a part of the jitter that is the lineage's own. The part comes from the names of domain and slot, so that it
 * is the same after a store was lost, and parts of many lineages are spread evenly. TIME_NEVER: on demand only. */
int64_t timing_life(const struct lineage *lineage);
/* When a successor of active is to be generated, and when it is to take over. TIME_NEVER: on demand only. */
int64_t timing_generate(const struct lineage *lineage, const struct key *active);
int64_t timing_turn(const struct lineage *lineage, const struct key *active);
/* F2: last signature of a retired key. */
int64_t timing_last_signature(const struct key *key, const struct policy_rules *rules);
/* F3; never earlier than what was stored in key->revoke_at. */
int64_t timing_revoke(const struct key *key, const struct policy_rules *rules);
/* F4: dead in every cache. */
int64_t timing_dead(const struct key *key);
/* F5. */
int64_t timing_remove(const struct key *key, const struct policy_rules *rules);
/* When the next proof of an active key is due at the latest of its signers, counted from the oldest proof; TIME_NEVER: the policy wants none, or the key
 * was never proved. Spread over the last quarter of prove-every by the lineage's id, so that keys that took over together are not proved together for ever. At
 * once before the record of a retired key goes (timing_is_proved_since), after a signer was taken back from a successor, and after somebody else changed the
 * tables of a signer: one of the same second does not count. */
int64_t timing_proof(const struct lineage *lineage, const struct key *key);
/* When an active key that could not be proved is proved again: after the pause that timing_backoff gave it, and at once when somebody else has changed the tables
 * of a signer since, because that may be the remedy, or a part of it. */
int64_t timing_proof_retry(const struct lineage *lineage, const struct key *key);
/* Whether every signer was seen to sign with key at or after moment, if the policy wants to know: only then no other key may be in use. */
bool timing_is_proved_since(const struct lineage *lineage, const struct key *key, int64_t moment);
/* Delay after so many failures in a row; deterministic jitter of up to a quarter from seed (the lineage's id). */
int64_t timing_backoff(unsigned failures, bool retryable, uint64_t seed);

#endif
