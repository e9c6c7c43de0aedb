#include "dkimroll/lifecycle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

const char *key_state_name(enum key_state state) {
  static const char *const names[] = {"reserved", "generated", "published", "ready",
                                      "active",   "retired",   "revoked",   "removed"};
  return (size_t)state < ARRAY_SIZE(names) ? names[state] : "unknown";
}

const char *plan_action_name(enum plan_action action) {
  static const char *const names[] = {"none",     "generate", "publish", "confirm", "ready",          "activate",
                                      "withdraw", "revoke",   "delete",  "confirm-absent", "destroy", "attest",
                                      "prove",    "repair",   "check-files"};
  return (size_t)action < ARRAY_SIZE(names) ? names[action] : "unknown";
}

enum key_state plan_action_target(enum plan_action action, enum key_state present) {
  switch (action) {
  case PLAN_GENERATE: return KEY_GENERATED;
  case PLAN_PUBLISH: return present > KEY_PUBLISHED ? present : KEY_PUBLISHED; /* a record that vanished is put back */
  case PLAN_READY: return KEY_READY;
  case PLAN_ACTIVATE: return KEY_ACTIVE;
  case PLAN_REVOKE: return KEY_REVOKED;
  case PLAN_DESTROY: return KEY_REMOVED;
  case PLAN_NONE:
  case PLAN_CONFIRM:
  case PLAN_WITHDRAW:
  case PLAN_DELETE:
  case PLAN_CONFIRM_ABSENT:
  case PLAN_PROVE:
  case PLAN_REPAIR:
  case PLAN_CHECK_FILES:
  case PLAN_ATTEST: return present;
  }
  return present;
}

void key_release(struct key *key) {
  if (!key) return;
  free(key->record);
  free(key->failure);
  free(key->sightings);
  for (size_t i = 0; i < key->placement_count; i++) {
    free(key->placements[i].key_path);
    free(key->placements[i].failure);
  }
  memset(key, 0, sizeof *key);
}

void lineage_release(struct lineage *lineage) {
  if (!lineage) return;
  for (size_t i = 0; i < lineage->key_count; i++) key_release(&lineage->keys[i]);
  free(lineage->keys);
  for (size_t i = 0; i < lineage->sender_count; i++) free(lineage->senders[i]);
  free(lineage->senders);
  free(lineage->zone);
  free(lineage->hold_reason);
  free(lineage->failure);
  memset(lineage, 0, sizeof *lineage);
}

struct key *lineage_add_key(struct lineage *lineage) {
  if (lineage->key_count >= LINEAGE_KEYS_MAX) return NULL;
  struct key *keys = realloc(lineage->keys, (lineage->key_count + 1) * sizeof *keys);
  if (!keys) return NULL;
  lineage->keys = keys;
  struct key *key = &keys[lineage->key_count++];
  *key = (struct key){
      .state = KEY_RESERVED,     .state_since = TIME_UNSET,  .created_at = TIME_UNSET, .generated_at = TIME_UNSET,
      .published_at = TIME_UNSET, .right_at = TIME_UNSET,    .propagation = -1,        .last_wrong_at = TIME_UNSET,
      .confirmed_at = TIME_UNSET, .ready_at = TIME_UNSET,    .active_at = TIME_UNSET,  .retired_at = TIME_UNSET,
      .revoke_at = TIME_UNSET,    .revoked_at = TIME_UNSET,  .deleted_at = TIME_UNSET, .absent_at = TIME_UNSET,
      .removed_at = TIME_UNSET,   .ttl_negative = -1,        .ttl_old = -1,            .intent_at = TIME_UNSET,
      .contested_at = TIME_UNSET, .retry_at = TIME_UNSET,   .proof_retry_at = TIME_UNSET, .look_retry_at = TIME_UNSET, .compromised_at = TIME_UNSET, .lingers_until = TIME_UNSET,
      .files_seen_at = TIME_UNSET,
  };
  return key;
}

void lineage_drop_removed(struct lineage *lineage) {
  size_t kept = 0;
  for (size_t i = 0; i < lineage->key_count; i++) {
    if (lineage->keys[i].state == KEY_REMOVED)
      key_release(&lineage->keys[i]);
    else
      lineage->keys[kept++] = lineage->keys[i];
  }
  lineage->key_count = kept;
}

static bool copy_text(char **place) {
  if (!*place) return true;
  *place = text_duplicate(*place);
  return *place != NULL;
}

/* On failure everything that could not be copied is NULL, so that key_release may run. */
static bool key_copy(const struct key *key, struct key *ret_copy) {
  *ret_copy = *key;
  bool good = copy_text(&ret_copy->record) & copy_text(&ret_copy->failure);
  ret_copy->sightings = calloc(key->sighting_count + 1, sizeof *key->sightings);
  if (ret_copy->sightings && key->sighting_count > 0)
    memcpy(ret_copy->sightings, key->sightings, key->sighting_count * sizeof *key->sightings);
  for (size_t i = 0; i < key->placement_count; i++) {
    good &= copy_text(&ret_copy->placements[i].key_path);
    good &= copy_text(&ret_copy->placements[i].failure);
  }
  return good && ret_copy->sightings;
}

int lineage_copy(const struct lineage *lineage, struct lineage *ret_copy, struct error *error) {
  struct lineage copy = *lineage;
  bool good = copy_text(&copy.zone) & copy_text(&copy.hold_reason) & copy_text(&copy.failure);
  copy.keys = calloc(lineage->key_count + 1, sizeof *copy.keys);
  copy.senders = calloc(lineage->sender_count + 1, sizeof *copy.senders);
  good = good && copy.keys && copy.senders;
  if (!copy.keys) copy.key_count = 0;
  if (!copy.senders) copy.sender_count = 0;
  for (size_t i = 0; i < copy.key_count; i++) good &= key_copy(&lineage->keys[i], &copy.keys[i]);
  for (size_t i = 0; i < copy.sender_count; i++) {
    copy.senders[i] = text_duplicate(lineage->senders[i]);
    good &= copy.senders[i] != NULL;
  }
  if (!good) {
    lineage_release(&copy);
    return error_set(error, ERROR_NO_MEMORY, "out of memory for a copy of %s", lineage->domain);
  }
  *ret_copy = copy;
  return 0;
}

struct key *lineage_active_key(struct lineage *lineage) {
  for (size_t i = 0; i < lineage->key_count; i++)
    if (lineage->keys[i].state == KEY_ACTIVE) return &lineage->keys[i];
  return NULL;
}

struct key *lineage_find_key(struct lineage *lineage, const char *selector) {
  for (size_t i = 0; i < lineage->key_count; i++)
    if (text_equal_nocase(lineage->keys[i].selector, selector)) return &lineage->keys[i];
  return NULL;
}

const struct policy_key *lineage_rule(const struct lineage *lineage) {
  if (!lineage->rules) return NULL;
  for (size_t i = 0; i < lineage->rules->key_count; i++)
    if (text_equal(lineage->rules->keys[i].slot, lineage->slot)) return &lineage->rules->keys[i];
  return NULL;
}

int lifecycle_end_hold(struct lineage *lineage, int64_t now, struct event_list *events, struct error *error) {
  char reason[1024];
  if (!lineage->held || lineage->hold_until == TIME_NEVER || now < lineage->hold_until) return 0;
  snprintf(reason, sizeof reason, "the hold has come to its end%s%s", lineage->hold_reason ? ": " : "", lineage->hold_reason ? lineage->hold_reason : "");
  int result = event_list_add(events, lineage, NULL, now, "released", reason, error);
  if (result) return result;
  lineage->held = false;
  lineage->hold_scope = HOLD_ALL;
  lineage->hold_until = TIME_UNSET;
  free(lineage->hold_reason);
  lineage->hold_reason = NULL;
  return 0;
}

void event_release(struct event *event) {
  if (!event) return;
  free(event->domain);
  free(event->slot);
  free(event->selector);
  free(event->kind);
  free(event->from);
  free(event->to);
  free(event->reason);
  memset(event, 0, sizeof *event);
}

void event_list_release(struct event_list *list) {
  if (!list) return;
  for (size_t i = 0; i < list->count; i++) event_release(&list->items[i]);
  free(list->items);
  *list = (struct event_list){0};
}

int event_list_add(struct event_list *list, const struct lineage *lineage, const struct key *key, int64_t at,
                   const char *kind, const char *reason, struct error *error) {
  if (list->count == list->capacity) {
    const size_t capacity = list->capacity ? list->capacity * 2 : 8;
    struct event *items = realloc(list->items, capacity * sizeof *items);
    if (!items) return error_set(error, ERROR_NO_MEMORY, "out of memory for an event");
    list->items = items;
    list->capacity = capacity;
  }
  struct event event = {
      .at = at,
      .lineage_id = lineage->id,
      .domain = text_duplicate(lineage->domain),
      .slot = text_duplicate(lineage->slot),
      .selector = key ? text_duplicate(key->selector) : NULL,
      .kind = text_duplicate(kind),
      .reason = text_duplicate(reason),
  };
  if (!event.domain || !event.slot || (key && !event.selector) || !event.kind || !event.reason) {
    event_release(&event);
    return error_set(error, ERROR_NO_MEMORY, "out of memory for an event");
  }
  list->items[list->count++] = event;
  return 0;
}
