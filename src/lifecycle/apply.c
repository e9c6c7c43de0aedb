#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apply.h"
#include "dkimroll/text.h"
#include "dkimroll/timing.h"
#include "gates.h"

/* The name server that the outcome is about: the one that did not serve the record, or the primary that did not take it. NULL: none. */
static const char *find_server(const struct application *a, const struct key *key) {
  const struct outcome *outcome = a->outcome;
  const enum plan_action action = outcome->action;
  const bool updates = action == PLAN_PUBLISH || action == PLAN_REVOKE || action == PLAN_DELETE || action == PLAN_ATTEST;
  for (size_t i = 0; i < outcome->sighting_count; i++)
    if (!outcome->sightings[i].right && !outcome->sightings[i].no_route) return outcome->sightings[i].host;
  if (updates && outcome->primary_server) return outcome->primary_server;
  return updates && key && key->primary_server[0] ? key->primary_server : NULL;
}

int application_note(struct application *a, const struct key *key, const char *kind, const char *reason, struct error *error) {
  const int result = event_list_add(a->events, a->lineage, key, a->outcome->at, kind, reason, error);
  const char *server = result ? NULL : find_server(a, key);
  if (result) return result;
  struct event *event = &a->events->items[a->events->count - 1];
  if (a->failure) event->error = a->failure->code;
  if (server) text_copy(event->server, sizeof event->server, server);
  return 0;
}

int application_name_states(struct application *a, const char *from, const char *to, struct error *error) {
  struct event *event = &a->events->items[a->events->count - 1];
  event->from = text_duplicate(from);
  event->to = text_duplicate(to);
  if (event->to && (event->from || !from)) return 0;
  event_release(event);
  a->events->count--;
  return error_set(error, ERROR_NO_MEMORY, "out of memory for an event");
}

int application_set_state(struct application *a, struct key *key, enum key_state to, const char *reason, struct error *error) {
  const enum key_state from = key->state;
  int result = application_note(a, key, "state", reason, error);
  if (!result) result = application_name_states(a, key_state_name(from), key_state_name(to), error);
  if (result) return result;
  key->state = to;
  key->state_since = a->outcome->at;
  key_forget_failure(key); /* it was about a step of the state before */
  key_forget_look_failure(key);
  return 0;
}

int application_replace_text(char **place, const char *text, struct error *error) {
  char *copy = text ? text_duplicate(text) : NULL;
  if (text && !copy) return error_set(error, ERROR_NO_MEMORY, "out of memory");
  free(*place);
  *place = copy;
  return 0;
}

int application_add_key(struct lineage *lineage, struct key **ret_key, struct error *error) {
  if (lineage->key_count >= LINEAGE_KEYS_MAX)
    return error_set(error, ERROR_LIMIT, "%s: %d keys are alive already", lineage->domain, LINEAGE_KEYS_MAX);
  *ret_key = lineage_add_key(lineage);
  return *ret_key ? 0 : error_set(error, ERROR_NO_MEMORY, "%s: out of memory for a key", lineage->domain);
}

/* ---- what a round of observation means ---- */

static int apply_loss(struct application *a, bool was_right, struct error *error) {
  struct key *key = a->key;
  char wrong[PLAN_REASON_TEXT_MAX + DNS_NAME_TEXT_SIZE];
  char reason[sizeof wrong + 80];
  sightings_describe_wrong(key, wrong, sizeof wrong);
  if (key->state == KEY_READY) return application_set_state(a, key, KEY_PUBLISHED, wrong, error);
  if (!was_right) return 0;
  const char *const harm = key->state == KEY_ACTIVE    ? "; mail that is signed with it may be rejected"
                           : key->state == KEY_RETIRED ? "; mail that it signed and that is still on its way may be rejected"
                           : key->state == KEY_REVOKED ? "; it does not say any more that the key is revoked"
                                                       : "";
  snprintf(reason, sizeof reason, "%s%s", wrong, harm);
  return application_note(a, key, "lost", reason, error);
}

/* Takes over who serves the record. */
static int apply_presence(struct application *a, struct error *error) {
  struct key *key = a->key;
  const int64_t before = key->right_at;
  key->right_at = timing_right_since(key);
  key->confirmed_at = key->right_at == TIME_UNSET ? TIME_UNSET : a->outcome->at;
  if (key->right_at == TIME_UNSET) return apply_loss(a, before != TIME_UNSET, error);
  key->contested_at = TIME_UNSET;
  if (before == TIME_UNSET) proof_reset(a);
  if (key->propagation < 0 && key->published_at != TIME_UNSET) key->propagation = time_max(0, key->right_at - key->published_at);
  if (before == TIME_UNSET && key->state == KEY_REVOKED && key->compromised_at != TIME_UNSET) return emergency_note_end(a, key, error);
  const char *const reason = key->state == KEY_REVOKED ? "every server says that the key is revoked" : "every server serves the record";
  return before == TIME_UNSET ? application_note(a, key, "confirmed", reason, error) : 0;
}

static int apply_absence(struct application *a, struct error *error) {
  for (size_t i = 0; i < a->key->sighting_count; i++)
    if (!timing_sighting_counts(a->key, i)) return 0;
  a->key->absent_at = a->outcome->at;
  return application_note(a, a->key, "absent", "the record is gone from every server", error);
}

static void apply_place(struct application *a) {
  const struct outcome *outcome = a->outcome;
  struct key *key = a->key;
  if (outcome->zone) text_copy(key->zone, sizeof key->zone, outcome->zone);
  if (outcome->owner) text_copy(key->owner, sizeof key->owner, outcome->owner);
  if (outcome->primary_server) text_copy(key->primary_server, sizeof key->primary_server, outcome->primary_server);
}

static int apply_generate(struct application *a, struct error *error) {
  int result = application_replace_text(&a->key->record, a->outcome->record, error);
  if (result) return result;
  apply_place(a);
  a->key->ttl_negative = time_max(a->key->ttl_negative, a->outcome->ttl_negative);
  a->key->ttl_old = time_max(a->key->ttl_old, a->outcome->ttl_old);
  a->key->generated_at = a->outcome->at;
  return application_set_state(a, a->key, KEY_GENERATED, "key pair made", error);
}

/* The record was not on every server, and has been put there again. Where the primary had it, somebody must look at the others. */
static int apply_healing(struct application *a, const char *place, struct error *error) {
  char wrong[PLAN_REASON_TEXT_MAX + DNS_NAME_TEXT_SIZE];
  char reason[sizeof wrong + 80];
  if (!a->outcome->already) return application_note(a, a->key, "healed", place, error);
  sightings_describe_wrong(a->key, wrong, sizeof wrong);
  snprintf(reason, sizeof reason, "the primary has the record, but %s", wrong);
  return application_note(a, a->key, "alarm", reason, error);
}

static int apply_publish(struct application *a, struct error *error) {
  struct key *key = a->key;
  char reason[2 * DNS_NAME_TEXT_SIZE + ADDRESS_TEXT_SIZE];
  apply_place(a);
  if (a->outcome->ttl > key->ttl) key->ttl = a->outcome->ttl;
  key->ttl_negative = time_max(key->ttl_negative, a->outcome->ttl_negative);
  key->ttl_old = time_max(key->ttl_old, a->outcome->ttl_old);
  key->publisher_id = a->lineage->publisher_id;
  key->publisher = a->lineage->publisher;
  key->published_at = a->outcome->at;
  key->deleted_at = key->absent_at = TIME_UNSET; /* a key that was unwanted for a while */
  key->contested_at = TIME_UNSET;
  snprintf(reason, sizeof reason, "record in zone %s%s%s", key->zone, key->primary_server[0] ? " at " : "", key->primary_server);
  if (key->state != KEY_GENERATED) return apply_healing(a, reason, error);
  return application_set_state(a, key, KEY_PUBLISHED, reason, error);
}

static int retire_key(struct application *a, struct key *key, int64_t at, struct error *error) {
  char reason[SELECTOR_SIZE + 64];
  key->retired_at = at;
  key->revoke_at = timing_revoke(key, a->lineage->rules);
  snprintf(reason, sizeof reason, "%s signs now", a->key->selector);
  int result = application_set_state(a, key, KEY_RETIRED, reason, error);
  return result || key->compromised_at == TIME_UNSET ? result : emergency_note_connections(a, key, at, error);
}

/* When the last signer of the domain was proved: what was proved elsewhere, at a signer that is gone, says nothing about the predecessor's end. */
static int64_t last_proof(const struct lineage *lineage, const struct key *key) {
  int64_t latest = TIME_UNSET;
  for (size_t i = 0; i < key->placement_count; i++)
    for (size_t j = 0; j < lineage->signer_count; j++)
      if (placement_serves(&key->placements[i], lineage->signers[j])) latest = time_max(latest, key->placements[i].proved_at);
  return latest;
}

static int apply_activate(struct application *a, struct error *error) {
  struct lineage *lineage = a->lineage;
  struct key *key = a->key;
  const int64_t proved = last_proof(lineage, key);
  if (key->state == KEY_ACTIVE) return application_note(a, key, "placed", "every signer signs with it", error);
  int result = 0;
  for (size_t i = 0; i < lineage->key_count && !result; i++)
    if (lineage->keys[i].state == KEY_ACTIVE) result = retire_key(a, &lineage->keys[i], proved, error);
  key->active_at = proved;
  lineage->rotate_requested = false;
  return result ? result : application_set_state(a, key, KEY_ACTIVE, "every signer signs with it", error);
}

/* What was seen of the record as it was says nothing about who serves the new one. */
static void forget_sightings(struct key *key) {
  sightings_drop(key);
  key->right_at = key->confirmed_at = TIME_UNSET;
}

/* Somebody has taken away what said that the key is revoked, or brought the key itself back: it is said again. Its tombstone stands for as long as it would have. */
static int apply_revoke_again(struct application *a, struct error *error) {
  struct key *key = a->key;
  char reason[160], dead[TIME_TEXT_SIZE];
  const bool compromised = key->compromised_at != TIME_UNSET;
  key->published_at = a->outcome->at;
  /* The primary had it all the time: what some server says of a key that is nobody's is not worth a person's time. */
  if (a->outcome->already) return compromised ? apply_healing(a, "", error) : 0;
  forget_sightings(key);
  snprintf(reason, sizeof reason, "its record says again that the key is revoked%s%s", compromised ? "; caches may give out the key until " : "",
           compromised ? time_format(timing_dead(key), dead) : "");
  return application_note(a, key, "healed", reason, error);
}

static int apply_revoke(struct application *a, struct error *error) {
  apply_place(a); /* where it was found, which is where it is deleted later */
  if (a->outcome->ttl > a->key->ttl) a->key->ttl = a->outcome->ttl;
  struct key *key = a->key;
  if (key->state == KEY_REVOKED) return apply_revoke_again(a, error);
  const bool compromised = key->compromised_at != TIME_UNSET, signed_once = key->state >= KEY_ACTIVE;
  key->revoked_at = a->outcome->at;
  if (key->state == KEY_ACTIVE) key->retired_at = a->outcome->at;
  forget_sightings(key);
  int result = application_set_state(a, key, KEY_REVOKED,
                                     signed_once || compromised ? "record replaced by one with empty p=" : "its private key is lost: record replaced by one with empty p=",
                                     error);
  return result || !compromised ? result : emergency_note_exposure(a, key, signed_once, error);
}

static int apply_withdraw(struct application *a, struct error *error) {
  struct key *key = a->key;
  int result = application_note(a, key, "withdrawn", "no signer's tables name the key any more", error);
  /* It signed until now, with no other key to follow. */
  const bool ends = !lineage_active_key(a->lineage) && key->state == KEY_REVOKED && key->compromised_at != TIME_UNSET;
  return result || !ends ? result : emergency_note_connections(a, key, a->outcome->at, error);
}

/* What was seen of the record says nothing about its absence. */
static int apply_delete(struct application *a, struct error *error) {
  const bool again = a->key->deleted_at != TIME_UNSET && a->outcome->already;
  a->key->deleted_at = a->outcome->at;
  a->key->absent_at = TIME_UNSET;
  sightings_drop(a->key);
  return again ? 0 : application_note(a, a->key, "deleted", "record deleted on the primary", error);
}

static int apply_destroy(struct application *a, struct error *error) {
  const struct key *key = a->key;
  const bool signed_once = key->state >= KEY_ACTIVE;
  const char *reason = signed_once ? "private key destroyed" : "given up before it was published, private key destroyed";
  if (key->state == KEY_RESERVED) reason = "given up before a private key was made";
  if (signed_once && a->lineage->rules->private_key == PRIVATE_KEY_ARCHIVE) reason = "private key archived";
  for (size_t i = 0; i < key->placement_count; i++)
    if (!key->placements[i].key_path) reason = "its private key stands in a KeyTable itself, and stays there";
  for (size_t i = 0; i < a->outcome->placement_count; i++)
    if (a->outcome->placements[i].kept) reason = "its private key file stays: others use it, or it lies where dkimroll keeps none";
  a->key->removed_at = a->outcome->at;
  return application_set_state(a, a->key, KEY_REMOVED, reason, error);
}

static int apply_success(struct application *a, struct error *error) {
  switch (a->outcome->action) {
  case PLAN_GENERATE: return apply_generate(a, error);
  case PLAN_PUBLISH: return apply_publish(a, error);
  case PLAN_READY:
    a->key->ready_at = a->outcome->at;
    return application_set_state(a, a->key, KEY_READY, "every server serves it and negative caches have expired", error);
  case PLAN_ACTIVATE: return apply_activate(a, error);
  case PLAN_WITHDRAW: return apply_withdraw(a, error);
  case PLAN_REVOKE: return apply_revoke(a, error);
  case PLAN_DELETE: return apply_delete(a, error);
  case PLAN_CONFIRM_ABSENT: return apply_absence(a, error);
  case PLAN_DESTROY: return apply_destroy(a, error);
  case PLAN_PROVE:
  case PLAN_REPAIR: proof_succeed(a); return 0;
  case PLAN_CHECK_FILES: a->key->files_seen_at = a->outcome->at; return 0;
  default: return 0; /* of a look, apply_presence was all, and an attestation brings nothing to a lineage */
  }
}

/* ---- failures ---- */

/* What is said to have succeeded must have brought what the step is for; otherwise the planner would take it again at once and for ever. NULL: it has. */
static const char *find_missing(const struct application *a) {
  const struct key *key = a->key;
  bool named = false, kept = false;
  if (!key) return NULL; /* an attestation is about no key */
  for (size_t i = 0; i < key->placement_count; i++) {
    named |= placement_is_named(&key->placements[i]);
    kept |= key->placements[i].file_made && !key->placements[i].destroyed;
  }
  switch (a->outcome->action) {
  case PLAN_GENERATE: return a->outcome->record ? NULL : "no record came with the key pair";
  case PLAN_CONFIRM:
  case PLAN_CONFIRM_ABSENT: return a->outcome->sighting_count > 0 ? NULL : "no server was asked";
  case PLAN_ACTIVATE:
    if (key->state == KEY_PUBLISHED) return "a server lost the record meanwhile";
    return key_is_placed(a->lineage, key) ? NULL : "not every signer of the domain has said that it signs with the key";
  case PLAN_WITHDRAW: return named ? "not every signer has said that it does not name the key any more" : NULL;
  case PLAN_CHECK_FILES: return a->outcome->placement_count > 0 ? NULL : "no private key file was looked at";
  case PLAN_DESTROY: return kept ? "not every private key file is gone" : NULL;
  case PLAN_PROVE:
  case PLAN_REPAIR: return proof_find_missing(a);
  default: return NULL;
  }
}

/* Something else stands where the record of the key that signs was: it is never overwritten, so only another key helps. */
static int note_contest(struct application *a, struct error *error) {
  char reason[ERROR_MESSAGE_MAX + DNS_NAME_TEXT_SIZE + 256];
  struct key *key = a->key;
  if (a->outcome->action != PLAN_PUBLISH || key->state != KEY_ACTIVE || a->failure->code != ERROR_CONFLICT || key->contested_at != TIME_UNSET) return 0;
  key->contested_at = a->outcome->at;
  snprintf(reason, sizeof reason, "%s; a new key is made and takes over as soon as caches allow; remove what stands at %s to end it sooner",
           a->failure->message, key->owner_name);
  return application_note(a, key, "alarm", reason, error);
}

/* Does the lineage go on showing another failure than this one? That of a key which came to nothing is what holds the next one back, and keys that leave have time. */
static bool is_shown_instead(const struct application *a) {
  const struct lineage *lineage = a->lineage;
  const struct key *shown = failure_key(lineage);
  if (!a->key || lineage->failures == 0) return false;
  if (!shown) return a->key->state >= KEY_ACTIVE && a->now <= lineage->retry_at;
  return key_is_leaving(lineage, a->key) && !key_is_leaving(lineage, shown) && failure_matters(lineage);
}

/* A key that comes to nothing leaves its count to the next one. */
static unsigned count_before(const struct application *a) {
  const struct key *key = a->key;
  const bool next = !key || key->state == KEY_RESERVED;
  if (key && action_is_look(a->outcome->action)) return key->look_failures;
  if (key && key->failures > 0 && !key_failed_at_look(key)) return key->failures;
  return next && !failure_key(a->lineage) ? a->lineage->failures : 0;
}

static int show_failure(struct lineage *lineage, const struct key *key, unsigned failures, int64_t retry_at, const char *text, struct error *error) {
  const struct key *shown = failure_key(lineage);
  if (failures == 1 || (shown && shown != key)) lineage->parked_at = TIME_UNSET;
  lineage->failures = failures;
  lineage->retry_at = retry_at;
  return application_replace_text(&lineage->failure, text, error);
}

/* Told when it begins, and once when it does not end by itself; what is shown stays. */
static int note_hidden_look(struct application *a, const char *text, struct error *error) {
  const bool parked = a->key->look_failures == TIMING_FAILURES_PARK && !a->failure->retryable;
  return parked || a->key->look_failures == 1 ? application_note(a, a->key, parked ? "alarm" : "failed", text, error) : 0;
}

/* Back-off grows; what keeps failing is parked with an alarm and tried once a day. */
static int apply_failure(struct application *a, struct error *error) {
  struct lineage *lineage = a->lineage;
  struct key *key = a->key;
  const struct error *failure = a->failure;
  char text[ERROR_MESSAGE_MAX + ERROR_REMEDY_MAX + SELECTOR_SIZE + 64];
  failure_describe(a->outcome->action, key, failure, text, sizeof text);
  const bool shown = !is_shown_instead(a), repeated = text_equal(key ? key->failure : lineage->failure, text);
  const unsigned failures = count_before(a) + 1;
  const int64_t retry_at = time_add(a->now, timing_backoff(failures, failure->retryable, (uint64_t)lineage->id));
  struct key *looked = key && action_is_look(a->outcome->action) ? key : NULL;
  if (looked) {
    looked->look_failures = failures;
    looked->look_retry_at = retry_at;
    if (key_hides_looks(lineage, looked, a->now)) return note_hidden_look(a, text, error);
  }
  int result = shown ? show_failure(lineage, key, failures, retry_at, text, error) : 0;
  if (key && !result) {
    key->failures = failures;
    key->retry_at = retry_at;
    result = application_replace_text(&key->failure, text, error);
  }
  /* The same failure again and again is one entry in the log, not a thousand. */
  if (!result && !repeated) result = application_note(a, key, "failed", text, error);
  if (!result) result = placements_give_up(a, error);
  if (!result) result = note_contest(a, error);
  const bool alarmed = shown ? lineage->parked_at != TIME_UNSET : failures > TIMING_FAILURES_PARK && repeated;
  if (result || failures < TIMING_FAILURES_PARK || failure->retryable || alarmed) return result;
  if (shown) lineage->parked_at = a->now;
  char reason[sizeof text + 64];
  snprintf(reason, sizeof reason, "failed %u times, tried again once a day: %s", failures, text);
  return application_note(a, key, "alarm", reason, error);
}

/* What still fails of other keys is shown next, of one that signs or will before one that leaves. */
static int show_next(struct lineage *lineage, struct error *error) {
  const struct key *next = NULL;
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *key = &lineage->keys[i];
    if (key->failures > 0 && (!next || (key_is_leaving(lineage, next) && !key_is_leaving(lineage, key)))) next = key;
  }
  return next ? show_failure(lineage, next, next->failures, next->retry_at, next->failure, error) : 0;
}

/* A success of one step does not heal another that is still to be done; but what is not to be done any more has not failed, and a clock that is attested needs nobody to
 * attest it. */
static bool is_healed(const struct application *a, const struct key *key) {
  /* Attestation comes in the place of any step that waits for it, so in any state. */
  if (key_failed_at(key, PLAN_ATTEST)) return !a->outcome->unattested;
  return key == a->key && (key_failed_at(key, a->outcome->action) || !key_failure_matters(a->lineage, key, a->now));
}

static void forget_healed(struct application *a) {
  for (size_t i = 0; i < a->lineage->key_count; i++) {
    struct key *key = &a->lineage->keys[i];
    if (is_healed(a, key)) key_forget_failure(key);
  }
}

static int apply_recovery(struct application *a, struct error *error) {
  struct lineage *lineage = a->lineage;
  char reason[ERROR_MESSAGE_MAX + ERROR_REMEDY_MAX + SELECTOR_SIZE + 64];
  forget_healed(a);
  if (action_is_look(a->outcome->action)) key_forget_look_failure(a->key);
  if (lineage->failures == 0 && lineage->retry_at == TIME_UNSET) return 0;
  if (failure_matters(lineage)) return 0;
  snprintf(reason, sizeof reason, "after %u failure%s of: %s", lineage->failures, lineage->failures == 1 ? "" : "s",
           lineage->failure ? lineage->failure : "a step");
  int result = application_note(a, NULL, "recovered", reason, error);
  if (result) return result;
  failure_forget_shown(lineage);
  return show_next(lineage, error);
}

/* The selector is taken by somebody else, in DNS or on disk: it is given up for ever and the next number is tried after the back-off. */
static int apply_conflict(struct application *a, struct error *error) {
  char reason[ERROR_MESSAGE_MAX + 64];
  a->key->removed_at = a->outcome->at;
  snprintf(reason, sizeof reason, "selector given up: %s", a->failure->message);
  return application_set_state(a, a->key, KEY_REMOVED, reason, error);
}

/* ---- all of it ---- */

/* What the operation reports is taken over whether it succeeded or not: a failed activation may have brought a fresh look at the servers. A report that finds
 * no room fails the step rather than the engine. */
static int take_reports(struct application *a, struct error *error, struct error *ret_limit) {
  const struct outcome *outcome = a->outcome;
  const bool present = outcome->action != PLAN_CONFIRM_ABSENT;
  int result = outcome->placement_count > 0 ? placements_take(a, error) : 0;
  if (!result && outcome->sighting_count > 0) result = sightings_take(a, error);
  if (!result && outcome->sighting_count > 0 && present) result = apply_presence(a, error);
  if (result != ERROR_LIMIT) return result;
  *ret_limit = *error;
  a->failure = ret_limit;
  return 0;
}

/* A window that a longer one in the policy has extended stays so when the policy is shortened again: mail may have been queued by the longer one. */
static void keep_windows(struct lineage *lineage) {
  for (size_t i = 0; i < lineage->key_count; i++)
    if (lineage->keys[i].state == KEY_RETIRED) lineage->keys[i].revoke_at = timing_revoke(&lineage->keys[i], lineage->rules);
}

static int check_outcome(const struct lineage *lineage, const struct outcome *outcome, struct error *error) {
  const bool exists = outcome->key < lineage->key_count;
  const bool reported = outcome->sighting_count > 0 || outcome->placement_count > 0;
  /* Attestation is about no key in particular, and a key for which no selector was found does not exist. */
  const bool none = !exists && !reported && (outcome->action == PLAN_ATTEST || (outcome->action == PLAN_GENERATE && outcome->error));
  if (none || (exists && outcome->action == PLAN_ATTEST)) return 0;
  if (exists && plan_step_exists(lineage->keys[outcome->key].state, outcome->action)) return 0;
  if (!exists)
    return error_set(error, ERROR_INTERNAL, "%s: an outcome for key %zu of %zu", lineage->domain, outcome->key, lineage->key_count);
  return error_set(error, ERROR_INTERNAL, "%s: an outcome of %s for %s, which is %s", lineage->domain, plan_action_name(outcome->action),
                   lineage->keys[outcome->key].selector, key_state_name(lineage->keys[outcome->key].state));
}

int lifecycle_apply(struct lineage *lineage, const struct outcome *outcome, int64_t now, struct event_list *events,
                    struct error *error) {
  struct error limit = {0}, incomplete = {0};
  int result = check_outcome(lineage, outcome, error);
  if (result) return result;
  struct application a = {.lineage = lineage, .outcome = outcome, .failure = outcome->error, .now = now, .events = events};
  if (outcome->key < lineage->key_count) {
    a.key = &lineage->keys[outcome->key];
    a.key->intent_open = false;
  }
  keep_windows(lineage);
  result = take_reports(&a, error, &limit);
  const char *missing = result || a.failure ? NULL : find_missing(&a);
  if (missing) {
    error_set(&incomplete, ERROR_INTERNAL, "%s", missing);
    a.failure = &incomplete;
  }
  if (!result && !a.failure) {
    result = apply_success(&a, error);
    return result ? result : apply_recovery(&a, error);
  }
  if (result) return result;
  if (outcome->action == PLAN_PROVE || outcome->action == PLAN_REPAIR) return proof_fail(&a, error);
  result = apply_failure(&a, error);
  const bool taken = !result && (a.failure->code == ERROR_CONFLICT || a.failure->code == ERROR_EXISTS);
  return taken && a.key && outcome->action == PLAN_GENERATE ? apply_conflict(&a, error) : result;
}

int lifecycle_reserve(struct lineage *lineage, int64_t now, unsigned number, size_t *ret_index, struct event_list *events,
                      struct error *error) {
  const struct policy_key *rule = lineage_rule(lineage);
  char selector[SELECTOR_SIZE];
  if (!rule) return error_set(error, ERROR_INTERNAL, "%s: no rules for key %s", lineage->domain, lineage->slot);
  int result = selector_make(rule->selector, now, number, selector, error);
  if (result) return result;
  char owner_name[DNS_NAME_TEXT_SIZE];
  result = selector_owner_name(selector, lineage->domain, owner_name, error);
  if (result) return result;
  struct key *key = NULL;
  result = application_add_key(lineage, &key, error);
  if (result) return result;
  text_copy(key->selector, sizeof key->selector, selector);
  text_copy(key->owner_name, sizeof key->owner_name, owner_name);
  key->algorithm = rule->algorithm;
  key->bits = rule->bits;
  key->state_since = key->created_at = now;
  key->publisher_id = lineage->publisher_id;
  key->publisher = lineage->publisher;
  const struct outcome outcome = {.action = PLAN_GENERATE, .at = now};
  struct application a = {.lineage = lineage, .key = key, .outcome = &outcome, .now = now, .events = events};
  result = placements_reserve(lineage, key, error);
  if (!result) result = application_note(&a, key, "reserved", "selector taken for a new key", error);
  if (result) {
    key_release(key);
    lineage->key_count--;
    return result;
  }
  *ret_index = lineage->key_count - 1;
  return 0;
}
