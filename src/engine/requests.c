#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/text.h"
#include "engine_internal.h"

enum { REQUESTS_OF_TURN_MAX = 1000 };

struct request_list {
  struct store_request *items;
  size_t count;
};

static void request_list_release(struct request_list *list) {
  for (size_t i = 0; i < list->count; i++) store_request_release(&list->items[i]);
  free(list->items);
}

static int request_collect(void *context, const void *row) {
  struct request_list *list = context;
  const struct store_request *request = row;
  if (list->count == REQUESTS_OF_TURN_MAX) return 1;
  struct store_request *items = realloc(list->items, (list->count + 1) * sizeof *items);
  if (!items) return ERROR_NO_MEMORY;
  list->items = items;
  items[list->count] = *request;
  items[list->count].domain = text_duplicate(request->domain);
  items[list->count].reason = text_duplicate(request->reason);
  items[list->count].asked_by = text_duplicate(request->asked_by);
  items[list->count].selector = request->selector ? text_duplicate(request->selector) : NULL;
  list->count++;
  return 0;
}

static int set_text(char **place, const char *text) {
  char *copy = text ? text_duplicate(text) : NULL;
  if (text && !copy) return ERROR_NO_MEMORY;
  free(*place);
  *place = copy;
  return 0;
}

/* A person looked at it: what was parked or backing off is tried at once. */
static void lineage_wake(struct lineage *lineage, int64_t now) {
  lineage_forget_failures(lineage);
  lineage->next_moment = now;
}

/* Is a key that somebody else may have still to be revoked? */
static bool has_emergency(const struct lineage *lineage) {
  for (size_t i = 0; i < lineage->key_count; i++)
    if (lineage->keys[i].compromised_at != TIME_UNSET && lineage->keys[i].state < KEY_REVOKED) return true;
  return false;
}

static int request_revoke(struct engine *engine, const struct store_request *request, struct lineage *lineage, struct event_list *events,
                          struct error *error) {
  const struct compromise compromise = {.selector = request->selector,
                                        .whole_host = (request->options & REQUEST_WHOLE_HOST) != 0,
                                        .now = (request->options & REQUEST_NOW) != 0,
                                        .by = request->asked_by,
                                        .reason = request->reason};
  const size_t before = events->count;
  int result = lifecycle_compromise(lineage, &compromise, engine->plan_clock.now, events, error);
  /* It was known: whoever asks again for what is not done yet has seen to what was in the way. */
  if (result || (events->count == before && !has_emergency(lineage))) return result;
  lineage_wake(lineage, engine->plan_clock.now);
  engine_resource_wake(engine, lineage);
  return 0;
}

static int request_apply(struct engine *engine, const struct store_request *request, struct lineage *lineage, struct event_list *events,
                         struct error *error) {
  static const char *const kinds[] = {"", "requested", "held", "released", "forgotten"};
  static const char *const what[] = {"", "rotation requested", "held", "released", "forgotten"};
  const int64_t now = engine->plan_clock.now;
  const bool nothing = request->kind == REQUEST_RELEASE && !lineage->held; /* that the history could tell */
  char reason[1024];
  int result = 0;
  if (request->kind == REQUEST_REVOKE) return request_revoke(engine, request, lineage, events, error);
  switch (request->kind) {
  case REQUEST_REVOKE: break;
  case REQUEST_ROTATE: lineage->rotate_requested = true; break;
  case REQUEST_HOLD:
    lineage->held = true;
    lineage->hold_until = request->until;
    lineage->hold_scope = request->hold_scope;
    result = set_text(&lineage->hold_reason, request->reason);
    break;
  case REQUEST_RELEASE:
    lineage->held = false;
    lineage->hold_until = TIME_UNSET;
    lineage->hold_scope = HOLD_ALL;
    result = set_text(&lineage->hold_reason, NULL);
    break;
  case REQUEST_FORGET:
    if (lineage->managed) return 0;
    lineage->forgotten = true;
    break;
  case REQUEST_RELEASE_WAVE: return 0; /* of no lineage */
  }
  if (result) return error_set(error, ERROR_NO_MEMORY, "out of memory for a request");
  lineage_wake(lineage, now);
  engine_resource_wake(engine, lineage);
  if (nothing) return 0;
  const bool partly = request->kind == REQUEST_HOLD && request->hold_scope == HOLD_ACTIVATION;
  char end[TIME_TEXT_SIZE] = "";
  if (request->kind == REQUEST_HOLD && request->until != TIME_NEVER) time_format(request->until, end);
  snprintf(reason, sizeof reason, "%s%s%s%s by %s%s%s", what[request->kind], partly ? " from taking over" : "", end[0] ? " until " : "", end, request->asked_by ? request->asked_by : "somebody", request->reason ? ": " : "",
           request->reason ? request->reason : "");
  return event_list_add(events, lineage, NULL, now, kinds[request->kind], reason, error);
}

/* Of no domain: the wave of rotations goes on. */
static int request_execute_wave(struct engine *engine, const struct store_request *request, size_t *executed, struct error *error) {
  struct event_list events = {0};
  char who[1024];
  snprintf(who, sizeof who, "%s%s%s", request->asked_by ? request->asked_by : "somebody", request->reason ? ": " : "", request->reason ? request->reason : "");
  struct store_resource resources[ENGINE_RESOURCE_ROWS_MAX];
  int result = engine_wave_release(engine, who, &events, error);
  engine_resources_wake(engine);
  struct store_commit commit = {.events = events.items,
                                .event_count = events.count,
                                .clock = &engine->clock,
                                .requests_done = &request->id,
                                .request_done_count = 1,
                                .resources = resources,
                                .resource_count = engine_resource_rows(engine, resources)};
  engine_wave_commit(engine, &commit);
  if (!result) result = engine->setup.store->ops->commit(engine->setup.store, &commit, error);
  if (!result) {
    engine_wave_committed(engine);
    engine_tell(engine, &events);
    *executed += 1;
  }
  event_list_release(&events);
  return result;
}

/* All lineages of the request's domain in one transaction with the request's end; later, if one of them is in hand. */
static int request_execute(struct engine *engine, const struct store_request *request, size_t *executed, struct error *error) {
  struct store *store = engine->setup.store;
  struct lineage *lineages = NULL;
  struct event_list events = {0};
  const char *const domain = request->domain;
  size_t count = 0;
  bool later = false;
  if (request->kind == REQUEST_RELEASE_WAVE) return request_execute_wave(engine, request, executed, error);
  int result = store->ops->claim(store, TIME_NEVER, STORE_CLAIM_MAX, &domain, 1, NULL, 0, &lineages, &count, error);
  if (result) return result;
  struct lineage **pointers = calloc(count + 1, sizeof(struct lineage *));
  if (!pointers) result = error_set(error, ERROR_NO_MEMORY, "out of memory for a request");
  for (size_t i = 0; i < count && !result; i++) {
    pointers[i] = &lineages[i];
    later |= engine_has_in_hand(engine, lineages[i].id);
    if (!later) result = request_apply(engine, request, &lineages[i], &events, error);
  }
  if (!result && !later) {
    struct store_resource resources[ENGINE_RESOURCE_ROWS_MAX];
    const struct store_commit commit = {.lineages = pointers,
                                        .lineage_count = count,
                                        .events = events.items,
                                        .event_count = events.count,
                                        .requests_done = &request->id,
                                        .request_done_count = 1,
                                        .resources = resources,
                                        .resource_count = engine_resource_rows(engine, resources)};
    result = store->ops->commit(store, &commit, error);
    if (!result) engine_tell(engine, &events);
    *executed += !result;
  }
  event_list_release(&events);
  for (size_t i = 0; i < count; i++) lineage_release(&lineages[i]);
  free(lineages);
  free(pointers);
  return result;
}

int engine_execute_requests(struct engine *engine, bool *ret_more, struct error *error) {
  size_t executed = 0;
  struct request_list list = {0};
  const struct store_filter filter = {.limit = REQUESTS_OF_TURN_MAX};
  struct store *store = engine->setup.store;
  int result = store->ops->select(store, STORE_SELECT_REQUESTS, &filter, request_collect, &list, error);
  if (result > 0) result = 0;
  for (size_t i = 0; i < list.count && !result; i++) result = request_execute(engine, &list.items[i], &executed, error);
  *ret_more = list.count == REQUESTS_OF_TURN_MAX && executed > 0;
  request_list_release(&list);
  return result;
}

static int earliest(void *context, const void *row) {
  int64_t *next = context;
  const struct lineage *lineage = row;
  *next = time_min(*next, lineage->next_moment);
  return 0;
}

int engine_next_of_domains(struct engine *engine, int64_t *ret_next, struct error *error) {
  int64_t next = TIME_NEVER;
  struct store *store = engine->setup.store;
  for (size_t i = 0; i < engine->setup.domain_count; i++) {
    const struct store_filter filter = {.domain = engine->setup.domains[i]};
    int result = store->ops->select(store, STORE_SELECT_LINEAGES, &filter, earliest, &next, error);
    if (result) return result;
  }
  *ret_next = next;
  return 0;
}
