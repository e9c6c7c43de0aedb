#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "dkimroll/timing.h"

/* What the steps of one outcome share. */
struct application {
  struct lineage *lineage;
  struct key *key;
  const struct outcome *outcome;
  int64_t now;
  struct event_list *events;
};

static int note(struct application *a, const struct key *key, const char *kind, const char *reason, struct error *error) {
  return event_list_add(a->events, a->lineage, key, a->outcome->at, kind, reason, error);
}

/* The one setter of a key's state: from, to and why go into the event log. */
static int key_set_state(struct application *a, struct key *key, enum key_state to, const char *reason, struct error *error) {
  const enum key_state from = key->state;
  int result = note(a, key, "state", reason, error);
  if (result) return result;
  struct event *event = &a->events->items[a->events->count - 1];
  event->from = text_duplicate(key_state_name(from));
  event->to = text_duplicate(key_state_name(to));
  if (!event->from || !event->to) return error_set(error, ERROR_NO_MEMORY, "out of memory for an event");
  key->state = to;
  key->state_since = a->outcome->at;
  return 0;
}

static int replace_text(char **place, const char *text, struct error *error) {
  char *copy = text ? text_duplicate(text) : NULL;
  if (text && !copy) return error_set(error, ERROR_NO_MEMORY, "out of memory");
  free(*place);
  *place = copy;
  return 0;
}

static struct placement *find_placement(struct key *key, int64_t signer_id) {
  for (size_t i = 0; i < key->placement_count; i++)
    if (key->placements[i].signer_id == signer_id) return &key->placements[i];
  return NULL;
}

/* A signer that was added to the policy after the key was made. */
static int add_placement(struct application *a, const struct placement_report *report, struct placement **ret, struct error *error) {
  const struct lineage *lineage = a->lineage;
  if (a->key->placement_count == KEY_PLACEMENTS_MAX)
    return error_set(error, ERROR_LIMIT, "%s has more than %d signers", a->key->selector, KEY_PLACEMENTS_MAX);
  struct placement *placement = &a->key->placements[a->key->placement_count];
  *placement = (struct placement){.signer_id = report->signer_id, .switched_at = TIME_UNSET, .proved_at = TIME_UNSET, .drained_at = TIME_UNSET};
  for (size_t i = 0; i < lineage->signer_count; i++)
    if (lineage->signer_ids[i] == report->signer_id) placement->signer = lineage->signers[i];
  if (!placement->signer) return error_set(error, ERROR_INTERNAL, "%s: a report of a signer that the domain does not have", lineage->domain);
  int result = replace_text(&placement->key_path, report->key_path, error);
  if (result) return result;
  a->key->placement_count++;
  *ret = placement;
  return 0;
}

static int apply_placements(struct application *a, struct error *error) {
  for (size_t i = 0; i < a->outcome->placement_count; i++) {
    const struct placement_report *report = &a->outcome->placements[i];
    struct placement *placement = find_placement(a->key, report->signer_id);
    int result = placement ? 0 : add_placement(a, report, &placement, error);
    if (!result) result = replace_text(&placement->failure, report->failure, error);
    if (result) return result;
    const bool done = report->completed_at != 0;
    switch (a->outcome->action) {
    case PLAN_GENERATE: placement->file_made |= done; break;
    case PLAN_ACTIVATE:
      if (report->switched_at != 0) placement->switched_at = report->switched_at;
      if (done) placement->proved_at = report->completed_at;
      placement->file_made |= done;
      break;
    case PLAN_WITHDRAW:
      if (done) placement->drained_at = report->completed_at;
      break;
    case PLAN_DESTROY: placement->destroyed |= done; break;
    default: return error_set(error, ERROR_INTERNAL, "%s does not concern signers", plan_action_name(a->outcome->action));
    }
  }
  return 0;
}

static struct sighting *old_sighting(const struct key *key, const struct sighting_report *report) {
  for (size_t i = 0; i < key->sighting_count; i++)
    if (text_equal(key->sightings[i].address, report->address) && text_equal_nocase(key->sightings[i].host, report->host))
      return &key->sightings[i];
  return NULL;
}

static void merge_sighting(const struct application *a, const struct sighting_report *report, struct sighting *ret) {
  const struct sighting *old = old_sighting(a->key, report);
  *ret = old ? *old : (struct sighting){.right_since = TIME_UNSET, .last_wrong_at = TIME_UNSET};
  text_copy(ret->host, sizeof ret->host, report->host);
  text_copy(ret->address, sizeof ret->address, report->address);
  text_copy(ret->answer, sizeof ret->answer, report->answer ? report->answer : "");
  ret->no_route = report->no_route;
  ret->seen_at = report->at;
  ret->right = report->right;
  if (report->right) {
    /* A right_since in the future was stamped by a clock that has been set back since: the wait starts anew. */
    if (ret->right_since == TIME_UNSET || ret->right_since > report->at) ret->right_since = report->at;
    /* A second answer within the same interval says nothing new. */
    if (!old || old->count == 0 || report->at - old->seen_at >= a->lineage->rules->confirm_every) ret->count++;
  } else {
    ret->right_since = TIME_UNSET;
    ret->count = 0;
    if (!report->no_route) ret->last_wrong_at = report->at;
  }
}

/* Servers that are not in this round are not authoritative any more: their sightings go. */
static int apply_sightings(struct application *a, struct error *error) {
  struct key *key = a->key;
  const struct outcome *outcome = a->outcome;
  if (outcome->sighting_count == 0) return 0;
  if (outcome->sighting_count > KEY_SIGHTINGS_MAX)
    return error_set(error, ERROR_LIMIT, "%zu server addresses, at most %d are watched", outcome->sighting_count, KEY_SIGHTINGS_MAX);
  struct sighting *merged = calloc(outcome->sighting_count, sizeof *merged);
  if (!merged) return error_set(error, ERROR_NO_MEMORY, "out of memory for sightings");
  for (size_t i = 0; i < outcome->sighting_count; i++) {
    const struct sighting_report *report = &outcome->sightings[i];
    merge_sighting(a, report, &merged[i]);
    if (!report->right && !report->no_route) key->last_wrong_at = time_max(key->last_wrong_at, report->at);
    if (outcome->action != PLAN_CONFIRM_ABSENT && report->ttl > (int64_t)key->ttl && report->right) key->ttl = (uint32_t)report->ttl;
    if (key->state == KEY_PUBLISHED) key->ttl_negative = time_max(key->ttl_negative, report->ttl_negative);
  }
  free(key->sightings);
  key->sightings = merged;
  key->sighting_count = outcome->sighting_count;
  return 0;
}

static void describe_first_wrong(const struct key *key, char *buffer, size_t size) {
  for (size_t i = 0; i < key->sighting_count; i++) {
    const struct sighting *seen = &key->sightings[i];
    if (timing_sighting_counts(key, i)) continue;
    snprintf(buffer, size, "%s (%s) does not serve the record: %s", seen->host, seen->address, seen->answer);
    return;
  }
  snprintf(buffer, size, "no server could be asked");
}

static int apply_confirm(struct application *a, struct error *error) {
  struct key *key = a->key;
  char reason[PLAN_REASON_TEXT_MAX + DNS_NAME_TEXT_SIZE];
  int result = apply_sightings(a, error);
  if (result) return result;
  const int64_t before = key->right_at;
  key->right_at = timing_right_since(key);
  key->confirmed_at = key->right_at == TIME_UNSET ? TIME_UNSET : a->outcome->at;
  if (key->right_at != TIME_UNSET) {
    if (key->propagation < 0) key->propagation = time_max(0, key->right_at - key->published_at);
    return before == TIME_UNSET ? note(a, key, "confirmed", "every server serves the record", error) : 0;
  }
  describe_first_wrong(key, reason, sizeof reason);
  if (key->state == KEY_READY) return key_set_state(a, key, KEY_PUBLISHED, reason, error);
  return before != TIME_UNSET ? note(a, key, "lost", reason, error) : 0;
}

static int apply_confirm_absent(struct application *a, struct error *error) {
  int result = apply_sightings(a, error);
  if (result) return result;
  for (size_t i = 0; i < a->key->sighting_count; i++)
    if (!a->key->sightings[i].right && !timing_sighting_counts(a->key, i)) return 0;
  if (a->key->sighting_count == 0) return 0;
  a->key->absent_at = a->outcome->at;
  return note(a, a->key, "absent", "the record is gone from every server", error);
}

static void apply_place(struct application *a) {
  const struct outcome *outcome = a->outcome;
  struct key *key = a->key;
  if (outcome->zone) text_copy(key->zone, sizeof key->zone, outcome->zone);
  if (outcome->owner) text_copy(key->owner, sizeof key->owner, outcome->owner);
  if (outcome->primary_server) text_copy(key->primary_server, sizeof key->primary_server, outcome->primary_server);
}

static int apply_generate(struct application *a, struct error *error) {
  int result = replace_text(&a->key->record, a->outcome->record, error);
  if (result) return result;
  apply_place(a);
  a->key->ttl_negative = time_max(a->key->ttl_negative, a->outcome->ttl_negative);
  a->key->ttl_old = time_max(a->key->ttl_old, a->outcome->ttl_old);
  a->key->generated_at = a->outcome->at;
  return key_set_state(a, a->key, KEY_GENERATED, "key pair made", error);
}

static int apply_publish(struct application *a, struct error *error) {
  struct key *key = a->key;
  char reason[DNS_NAME_TEXT_SIZE + ADDRESS_TEXT_SIZE + 64];
  apply_place(a);
  if (a->outcome->ttl > key->ttl) key->ttl = a->outcome->ttl;
  key->ttl_negative = time_max(key->ttl_negative, a->outcome->ttl_negative);
  key->ttl_old = time_max(key->ttl_old, a->outcome->ttl_old);
  key->publisher_id = a->lineage->publisher_id;
  key->publisher = a->lineage->publisher;
  key->published_at = a->outcome->at;
  snprintf(reason, sizeof reason, "record in zone %s at %s", key->zone, key->primary_server);
  if (key->state == KEY_PUBLISHED && !a->outcome->already) return note(a, key, "healed", reason, error);
  if (key->state == KEY_PUBLISHED) {
    char wrong[PLAN_REASON_TEXT_MAX + DNS_NAME_TEXT_SIZE];
    describe_first_wrong(key, wrong, sizeof wrong);
    return note(a, key, "alarm", wrong, error);
  }
  return key_set_state(a, key, KEY_PUBLISHED, reason, error);
}

static bool every_signer_proved(const struct lineage *lineage, const struct key *key) {
  for (size_t i = 0; i < lineage->signer_count; i++) {
    bool proved = false;
    for (size_t j = 0; j < key->placement_count; j++)
      if (text_equal(key->placements[j].signer->name, lineage->signers[i]->name)) proved |= key->placements[j].proved_at != TIME_UNSET;
    if (!proved) return false;
  }
  return lineage->signer_count > 0;
}

static int retire_key(struct application *a, struct key *key, int64_t at, struct error *error) {
  char reason[SELECTOR_SIZE + 64];
  key->retired_at = at;
  key->revoke_at = timing_revoke(key, a->lineage->rules);
  snprintf(reason, sizeof reason, "%s signs now", a->key->selector);
  return key_set_state(a, key, KEY_RETIRED, reason, error);
}

static int apply_activate(struct application *a, struct error *error) {
  struct lineage *lineage = a->lineage;
  struct key *key = a->key;
  if (!every_signer_proved(lineage, key) || key->state == KEY_ACTIVE) return 0;
  int64_t proved = TIME_UNSET;
  for (size_t i = 0; i < key->placement_count; i++) proved = time_max(proved, key->placements[i].proved_at);
  int result = 0;
  for (size_t i = 0; i < lineage->key_count && !result; i++)
    if (lineage->keys[i].state == KEY_ACTIVE) result = retire_key(a, &lineage->keys[i], proved, error);
  key->active_at = proved;
  lineage->rotate_requested = false;
  return result ? result : key_set_state(a, key, KEY_ACTIVE, "every signer signs with it", error);
}

static int apply_withdraw(struct application *a, struct error *error) {
  return note(a, a->key, "withdrawn", "no signer's tables name the key any more", error);
}

static int apply_revoke(struct application *a, struct error *error) {
  if (a->outcome->ttl > a->key->ttl) a->key->ttl = a->outcome->ttl;
  a->key->revoked_at = a->outcome->at;
  return key_set_state(a, a->key, KEY_REVOKED, "record replaced by one with empty p=", error);
}

static int apply_delete(struct application *a, struct error *error) {
  a->key->deleted_at = a->outcome->at;
  return note(a, a->key, "deleted", "record deleted on the primary", error);
}

static int apply_destroy(struct application *a, struct error *error) {
  for (size_t i = 0; i < a->key->placement_count; i++)
    if (a->key->placements[i].file_made && !a->key->placements[i].destroyed) return 0;
  const bool archived = a->lineage->rules->private_key == PRIVATE_KEY_ARCHIVE;
  a->key->removed_at = a->outcome->at;
  return key_set_state(a, a->key, KEY_REMOVED, archived ? "private key archived" : "private key destroyed", error);
}

static int apply_success(struct application *a, struct error *error) {
  switch (a->outcome->action) {
  case PLAN_GENERATE: return apply_generate(a, error);
  case PLAN_PUBLISH: return apply_publish(a, error);
  case PLAN_CONFIRM: return apply_confirm(a, error);
  case PLAN_READY:
    a->key->ready_at = a->outcome->at;
    return key_set_state(a, a->key, KEY_READY, "every server serves it and negative caches have expired", error);
  case PLAN_ACTIVATE: return apply_activate(a, error);
  case PLAN_WITHDRAW: return apply_withdraw(a, error);
  case PLAN_REVOKE: return apply_revoke(a, error);
  case PLAN_DELETE: return apply_delete(a, error);
  case PLAN_CONFIRM_ABSENT: return apply_confirm_absent(a, error);
  case PLAN_DESTROY: return apply_destroy(a, error);
  case PLAN_ATTEST:
  case PLAN_NONE: return 0;
  }
  return error_set(error, ERROR_INTERNAL, "an outcome of an unknown action %d", (int)a->outcome->action);
}

/* Back-off grows; a lineage that keeps failing is parked with an alarm and looked at once a day. */
static int apply_failure(struct application *a, struct error *error) {
  struct lineage *lineage = a->lineage;
  const struct error *failure = a->outcome->error;
  char text[ERROR_MESSAGE_MAX + ERROR_REMEDY_MAX + 64];
  snprintf(text, sizeof text, "%s: %s%s%s", plan_action_name(a->outcome->action), failure->message,
           failure->remedy[0] ? "; " : "", failure->remedy);
  const bool repeated = text_equal(lineage->failure, text);
  lineage->failures++;
  lineage->retry_at = time_add(a->now, timing_backoff(lineage->failures, failure->retryable, (uint64_t)lineage->id));
  int result = replace_text(&lineage->failure, text, error);
  /* The same failure again and again is one entry in the log, not a thousand. */
  if (!result && !repeated) result = note(a, a->key, "failed", text, error);
  if (result || lineage->failures < TIMING_FAILURES_PARK || failure->retryable || lineage->parked_at != TIME_UNSET) return result;
  lineage->parked_at = a->now;
  return note(a, a->key, "alarm", text, error);
}

static int apply_recovery(struct application *a, struct error *error) {
  struct lineage *lineage = a->lineage;
  if (lineage->failures == 0 && lineage->retry_at == TIME_UNSET) return 0;
  int result = note(a, NULL, "recovered", lineage->failure ? lineage->failure : "", error);
  if (result) return result;
  lineage->failures = 0;
  lineage->retry_at = lineage->parked_at = TIME_UNSET;
  return replace_text(&lineage->failure, NULL, error);
}

/* The selector is taken by somebody else, in DNS or on disk: it is given up for ever and the next number is tried after the back-off. */
static int apply_conflict(struct application *a, struct error *error) {
  a->key->removed_at = a->outcome->at;
  return key_set_state(a, a->key, KEY_REMOVED, a->outcome->error->message, error);
}

int lifecycle_apply(struct lineage *lineage, const struct outcome *outcome, int64_t now, struct event_list *events,
                    struct error *error) {
  if (outcome->key >= lineage->key_count && outcome->action != PLAN_ATTEST)
    return error_set(error, ERROR_INTERNAL, "%s: an outcome for key %zu of %zu", lineage->domain, outcome->key, lineage->key_count);
  struct application a = {.lineage = lineage, .outcome = outcome, .now = now, .events = events};
  a.key = outcome->key < lineage->key_count ? &lineage->keys[outcome->key] : NULL;
  if (a.key) a.key->intent_open = false;
  int result = apply_placements(&a, error);
  if (result) return result;
  if (outcome->error) {
    /* A failed activation may have brought a fresh look at the servers: what it saw counts. */
    if (outcome->sighting_count > 0 && outcome->action == PLAN_ACTIVATE) result = apply_confirm(&a, error);
    const bool taken = outcome->error->code == ERROR_CONFLICT || outcome->error->code == ERROR_EXISTS;
    if (outcome->action == PLAN_GENERATE && taken) result = apply_conflict(&a, error);
    return result ? result : apply_failure(&a, error);
  }
  if (outcome->action == PLAN_ACTIVATE && outcome->sighting_count > 0) result = apply_confirm(&a, error);
  if (!result) result = apply_success(&a, error);
  return result ? result : apply_recovery(&a, error);
}

static int reserve_placements(struct lineage *lineage, struct key *key, struct error *error) {
  for (size_t i = 0; i < lineage->signer_count; i++) {
    struct placement *placement = &key->placements[i];
    *placement = (struct placement){.signer_id = lineage->signer_ids[i],
                                    .signer = lineage->signers[i],
                                    .switched_at = TIME_UNSET,
                                    .proved_at = TIME_UNSET,
                                    .drained_at = TIME_UNSET};
    key->placement_count = i + 1;
    int result = policy_signer_key_path(lineage->signers[i], lineage->domain, key->selector, &placement->key_path, error);
    if (result) return result;
  }
  return 0;
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
  struct key *key = lineage_add_key(lineage);
  if (!key) return error_set(error, ERROR_LIMIT, "%s: %d keys are alive already", lineage->domain, LINEAGE_KEYS_MAX);
  text_copy(key->selector, sizeof key->selector, selector);
  text_copy(key->owner_name, sizeof key->owner_name, owner_name);
  key->algorithm = rule->algorithm;
  key->bits = rule->bits;
  key->state_since = key->created_at = now;
  key->publisher_id = lineage->publisher_id;
  key->publisher = lineage->publisher;
  const struct outcome outcome = {.action = PLAN_GENERATE, .at = now};
  struct application a = {.lineage = lineage, .key = key, .outcome = &outcome, .now = now, .events = events};
  result = reserve_placements(lineage, key, error);
  if (!result) result = note(&a, key, "reserved", "selector taken for a new key", error);
  if (result) {
    key_release(key);
    lineage->key_count--;
    return result;
  }
  *ret_index = lineage->key_count - 1;
  return 0;
}
