#include "dkimroll/timing.h"

#include <limits.h>

#include "dkimroll/text.h"
#include "gates.h"

bool timing_sighting_counts(const struct key *key, size_t sighting) {
  const struct sighting *seen = &key->sightings[sighting];
  if (!seen->no_route) return seen->right;
  for (size_t i = 0; i < key->sighting_count; i++) {
    const struct sighting *other = &key->sightings[i];
    if (!other->no_route && other->right && text_equal_nocase(other->host, seen->host)) return true;
  }
  return false;
}

int64_t timing_right_since(const struct key *key) {
  int64_t latest = TIME_UNSET;
  for (size_t i = 0; i < key->sighting_count; i++) {
    if (!timing_sighting_counts(key, i)) return TIME_UNSET;
    if (!key->sightings[i].no_route) latest = time_max(latest, key->sightings[i].right_since);
  }
  return latest;
}

unsigned timing_sightings(const struct key *key) {
  unsigned fewest = UINT_MAX;
  for (size_t i = 0; i < key->sighting_count; i++) {
    if (!timing_sighting_counts(key, i)) return 0;
    if (!key->sightings[i].no_route && key->sightings[i].count < fewest) fewest = key->sightings[i].count;
  }
  return fewest == UINT_MAX ? 0 : fewest;
}

int64_t timing_observed_at(const struct key *key) {
  int64_t latest = TIME_UNSET;
  for (size_t i = 0; i < key->sighting_count; i++) latest = time_max(latest, key->sightings[i].seen_at);
  return latest;
}

static int64_t clamp(int64_t value, int64_t lowest, int64_t highest) {
  if (value > highest) value = highest;
  return value < lowest ? lowest : value;
}

int64_t timing_put_at(const struct key *key) { return time_max(key->published_at, key->revoked_at); }

int64_t timing_next_round(const struct key *key, const struct policy_rules *rules) {
  const int64_t observed = timing_observed_at(key), put_at = timing_put_at(key);
  if (key->state == KEY_REVOKED && !key_is_exposed(key))
    return time_add(time_max(observed, put_at), time_max(rules->confirm_every, key->compromised_at == TIME_UNSET ? TIMING_WATCH_TOMBSTONE : TIMING_WATCH_SIGNED));
  if (observed == TIME_UNSET) return put_at;
  if (key->state == KEY_READY) return time_add(observed, time_max(rules->confirm_every, TIMING_WATCH_SLOWEST));
  const int64_t right_since = timing_right_since(key);
  const bool needed = key->state == KEY_ACTIVE || key->state == KEY_RETIRED;
  if (needed && right_since != TIME_UNSET) return time_add(observed, time_max(rules->confirm_every, TIMING_WATCH_SIGNED));
  if (right_since == TIME_UNSET || timing_sightings(key) < rules->confirm_sightings) {
    /* The longer it has been missing, the less a look every few seconds helps; a fresh record is looked at every `every`. */
    const bool missing = right_since == TIME_UNSET && put_at != TIME_UNSET;
    const int64_t waited = missing ? observed - put_at : 0;
    return time_add(observed, clamp(waited / 10, rules->confirm_every, time_max(rules->confirm_every, TIMING_CONFIRM_SLOWEST)));
  }
  /* All sightings are there: look on while F1 runs, a few times and once at its end. */
  const int64_t ready = timing_ready(key, rules);
  const int64_t pause = clamp((ready - right_since) / 4, rules->confirm_every, time_max(rules->confirm_every, TIMING_WATCH_SLOWEST));
  const int64_t next = time_add(observed, pause);
  return observed < ready ? time_min(next, ready) : next;
}

/* TTLneg and TTLold of a key; unmeasured counts as nothing because publication always measures before it publishes. */
static int64_t longest_negative(const struct key *key) {
  return time_max(0, time_max(key->ttl_negative, key->ttl_old));
}

int64_t timing_ready(const struct key *key, const struct policy_rules *rules) {
  const int64_t right_since = timing_right_since(key);
  /* Looks that do not count, since nobody vouched for the clock, have begun no wait. */
  if (right_since == TIME_UNSET || timing_sightings(key) == 0) return TIME_NEVER;
  /* A server that was wrong and is not asked any more, because it left the zone, has fed caches like any other. */
  return time_add(time_max(right_since, key->last_wrong_at), longest_negative(key) + rules->publish_safety);
}

int64_t timing_publication_interval(const struct key *active, const struct policy_rules *rules) {
  const int64_t sightings = (int64_t)rules->confirm_sightings * rules->confirm_every;
  const int64_t propagation = time_max(0, active->propagation);
  const int64_t interval = time_add(propagation + longest_negative(active), rules->publish_safety + sightings);
  return time_min(interval, rules->rotate_every == TIME_NEVER ? interval : policy_least_life(rules) / 2);
}

/* FNV-1a over the names, and a mixer for its high bits, on which a remainder of a short jitter would hardly depend otherwise. */
static uint64_t hash_names(const struct lineage *lineage) {
  const char *const names[] = {lineage->domain, lineage->slot};
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    const char *at = names[i];
    do hash = (hash ^ (uint8_t)*at) * UINT64_C(0x100000001b3);
    while (*at++);
  }
  hash = (hash ^ hash >> 33) * UINT64_C(0xff51afd7ed558ccd);
  hash = (hash ^ hash >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
  return hash ^ hash >> 33;
}

int64_t timing_life(const struct lineage *lineage) {
  const struct policy_rules *rules = lineage->rules;
  if (rules->rotate_every == TIME_NEVER || rules->jitter <= 0) return rules->rotate_every;
  return rules->rotate_every - (int64_t)(hash_names(lineage) % ((uint64_t)rules->jitter + 1));
}

int64_t timing_turn(const struct lineage *lineage, const struct key *active) {
  const int64_t life = timing_life(lineage);
  return life == TIME_NEVER ? TIME_NEVER : time_add(active->active_at, life);
}

int64_t timing_generate(const struct lineage *lineage, const struct key *active) {
  const int64_t turn = timing_turn(lineage, active);
  return turn == TIME_NEVER ? TIME_NEVER : time_add(turn, -timing_publication_interval(active, lineage->rules));
}

int64_t timing_last_signature(const struct key *key, const struct policy_rules *rules) {
  return key->retired_at == TIME_UNSET ? TIME_NEVER : time_add(key->retired_at, rules->drain);
}

int64_t timing_revoke(const struct key *key, const struct policy_rules *rules) {
  const int64_t queue = time_add(rules->queue_lifetime, rules->queue_backoff);
  const int64_t window = time_add(queue, time_add(rules->verify_window, rules->retire_safety));
  return time_max(key->revoke_at, time_add(timing_last_signature(key, rules), window));
}

int64_t timing_dead(const struct key *key) {
  /* Seen is better than expected: of a compromised key it is known since when the last server says that it is revoked. */
  if (key->compromised_at != TIME_UNSET && key->right_at != TIME_UNSET) return time_add(time_max(key->right_at, key->revoked_at), (int64_t)key->ttl);
  return key->revoked_at == TIME_UNSET ? TIME_UNSET : time_add(timing_put_at(key), time_max(0, key->propagation) + (int64_t)key->ttl);
}

int64_t timing_remove(const struct key *key, const struct policy_rules *rules) {
  if (rules->tombstone == 0 && key->revoked_at == TIME_UNSET) return timing_revoke(key, rules);
  return key->revoked_at == TIME_UNSET ? TIME_NEVER : time_add(key->revoked_at, rules->tombstone);
}

/* A signer where the key was never proved is no matter of proofs but of placing the key there. */
static int64_t oldest_proof(const struct lineage *lineage, const struct key *key) {
  int64_t oldest = TIME_NEVER;
  for (size_t i = 0; i < key->placement_count; i++) {
    if (placement_signs(lineage, key, i)) oldest = time_min(oldest, key->placements[i].proved_at);
  }
  return oldest;
}

/* Since a signer was taken back from a successor that had lost its record, nobody has seen it sign. */
static bool is_taken_back(const struct key *key, int64_t proved) {
  for (size_t i = 0; i < key->placement_count; i++)
    if (key->state < KEY_ACTIVE && key->placements[i].drained_at > proved) return true;
  return false;
}

bool timing_is_proved_since(const struct lineage *lineage, const struct key *key, int64_t moment) {
  return lineage->rules->prove_every == TIME_NEVER || oldest_proof(lineage, key) >= moment;
}

int64_t timing_proof(const struct lineage *lineage, const struct key *key) {
  const int64_t every = lineage->rules->prove_every, proved = oldest_proof(lineage, key);
  if (every == TIME_NEVER || proved == TIME_NEVER) return TIME_NEVER;
  const uint64_t mixed = (uint64_t)lineage->id * UINT64_C(0x9e3779b97f4a7c15);
  int64_t due = time_add(proved, every - (int64_t)((mixed >> 33) % (uint64_t)(every / 4 + 1)));
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *other = &lineage->keys[i];
    const int64_t end = other->state == KEY_RETIRED && other->deleted_at == TIME_UNSET ? timing_revoke(other, lineage->rules) : TIME_UNSET;
    if (proved < end) due = time_min(due, end);
    if (is_taken_back(other, proved)) due = proved;
  }
  /* Of one second nobody knows which came first: that proof does not count, and the next one is of a later second. */
  if (proved <= lineage->tables_changed_at) due = time_min(due, time_add(lineage->tables_changed_at, 1));
  /* A clock that was set back may stamp a proof before the moment that asked for it. */
  return time_max(due, time_add(proved, time_min(every, TIMING_PROOF_PAUSE)));
}

int64_t timing_proof_retry(const struct lineage *lineage, const struct key *key) {
  const int64_t tried = time_add(key->proof_retry_at, -timing_backoff(key->proof_failures, true, (uint64_t)lineage->id));
  /* In one second both may have come first: one proof too many does no harm. */
  if (tried > lineage->tables_changed_at) return key->proof_retry_at;
  return time_min(key->proof_retry_at, time_max(lineage->tables_changed_at, time_add(tried, TIMING_PROOF_PAUSE)));
}

int64_t timing_backoff(unsigned failures, bool retryable, uint64_t seed) {
  const int64_t longest = failures >= TIMING_FAILURES_PARK && !retryable ? TIMING_BACKOFF_PARKED : TIMING_BACKOFF_RETRYABLE;
  int64_t delay = TIMING_BACKOFF_FIRST;
  for (unsigned i = 1; i < failures && delay < longest; i++) delay *= 2;
  if (delay > longest) delay = longest;
  /* Many lineages that failed together must not come back together. */
  const uint64_t mixed = (seed + failures) * UINT64_C(0x9e3779b97f4a7c15);
  return delay + (int64_t)((mixed >> 33) % (uint64_t)(delay / 4 + 1));
}
