#include "lifecycle_memory_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/text.h"

/* ---- the allocation that fails ---- */

static unsigned allocations, failing; /* failing 0: none */
static unsigned long refused;         /* of the whole test */
static bool living;                   /* a whole life goes on, whose steps are all tried */

static bool is_refused(void) {
  if (failing == 0 || ++allocations != failing) return false;
  refused++;
  errno = ENOMEM;
  return true;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) { return is_refused() ? NULL : __real_malloc(size); }

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size) { return is_refused() ? NULL : __real_calloc(count, size); }

void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size) { return is_refused() ? NULL : __real_realloc(old, size); }

char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
char *__wrap_strdup(const char *text) { return is_refused() ? NULL : __real_strdup(text); }

/* With -D_FORTIFY_SOURCE and without; the flag is the compiler's. */
int __wrap_vasprintf(char **text, const char *format, va_list arguments) __attribute__((format(printf, 2, 0)));
int __wrap_vasprintf(char **text, const char *format, va_list arguments) {
  char nothing[1];
  va_list again;
  va_copy(again, arguments);
  const int length = vsnprintf(nothing, sizeof nothing, format, again);
  va_end(again);
  *text = length < 0 ? NULL : __wrap_malloc((size_t)length + 1);
  return *text ? vsnprintf(*text, (size_t)length + 1, format, arguments) : -1;
}
int __wrap___vasprintf_chk(char **text, int flag, const char *format, va_list arguments) __attribute__((format(printf, 3, 0)));
int __wrap___vasprintf_chk(char **text, int flag, const char *format, va_list arguments) {
  (void)flag;
  return __wrap_vasprintf(text, format, arguments);
}

unsigned long lifecycle_memory_refused(void) { return refused; }

/* ---- what must be as it was ---- */

void snapshot_take(const struct lineage *lineage, struct snapshot *ret) {
  ret->lineage = *lineage;
  ret->keys = __real_calloc(lineage->key_count + 1, sizeof *ret->keys);
  assert_non_null(ret->keys);
  if (lineage->key_count > 0) memcpy(ret->keys, lineage->keys, lineage->key_count * sizeof *ret->keys);
}

void snapshot_compare(struct snapshot *snapshot, const struct lineage *lineage) {
  snapshot->lineage.keys = lineage->keys;
  assert_memory_equal(&snapshot->lineage, lineage, sizeof *lineage);
  if (lineage->key_count > 0) assert_memory_equal(snapshot->keys, lineage->keys, lineage->key_count * sizeof *snapshot->keys);
  free(snapshot->keys);
  snapshot->keys = NULL;
}

static bool is_same_text(const char *a, const char *b) { return (!a && !b) || (a && b && a != b && strcmp(a, b) == 0); }

static void assert_same_key(const struct key *a, const struct key *b) {
  assert_true(is_same_text(a->record, b->record));
  assert_true(a->state == b->state && a->placement_count == b->placement_count && a->sighting_count == b->sighting_count);
  if (a->sighting_count > 0) assert_memory_equal(a->sightings, b->sightings, a->sighting_count * sizeof *a->sightings);
  for (size_t i = 0; i < a->placement_count; i++) {
    assert_true(is_same_text(a->placements[i].key_path, b->placements[i].key_path));
    assert_true(is_same_text(a->placements[i].failure, b->placements[i].failure));
  }
}

/* The same words in memory of their own. */
static void assert_same_lineage(const struct lineage *a, const struct lineage *b) {
  assert_true(is_same_text(a->zone, b->zone) && is_same_text(a->hold_reason, b->hold_reason) && is_same_text(a->failure, b->failure));
  assert_true(a->key_count == b->key_count && a->sender_count == b->sender_count);
  for (size_t i = 0; i < a->sender_count; i++) assert_true(is_same_text(a->senders[i], b->senders[i]));
  for (size_t i = 0; i < a->key_count; i++) assert_same_key(&a->keys[i], &b->keys[i]);
}

/* Every event that is in the list is complete, and every key whose state changed has one that says so. */
static void assert_whole(const struct lineage *before, const struct lineage *after, const struct event_list *events) {
  for (size_t i = 0; i < events->count; i++) {
    const struct event *event = &events->items[i];
    assert_true(event->domain && event->slot && event->kind && event->reason);
    if (text_equal(event->kind, "state")) assert_true(event->selector && event->from && event->to);
  }
  for (size_t i = 0; i < before->key_count; i++) {
    const struct key *old = &before->keys[i], *key = &after->keys[i];
    bool told = old->state == key->state;
    for (size_t j = 0; j < events->count; j++)
      told |= text_equal(events->items[j].kind, "state") && text_equal(events->items[j].selector, key->selector) &&
              text_equal(events->items[j].from, key_state_name(old->state)) && text_equal(events->items[j].to, key_state_name(key->state));
    assert_true(told);
    assert_true(key->revoke_at >= old->revoke_at);
  }
}

/* ---- what a lineage does, each by itself ---- */

int __real_lineage_copy(const struct lineage *lineage, struct lineage *ret_copy, struct error *error) ERROR_USE_RESULT;
int __wrap_lineage_copy(const struct lineage *lineage, struct lineage *ret_copy, struct error *error) ERROR_USE_RESULT;
int __real_lifecycle_apply(struct lineage *lineage, const struct outcome *outcome, int64_t now, struct event_list *events,
                           struct error *error) ERROR_USE_RESULT;
int __wrap_lifecycle_apply(struct lineage *lineage, const struct outcome *outcome, int64_t now, struct event_list *events,
                           struct error *error) ERROR_USE_RESULT;
int __real_lifecycle_reserve(struct lineage *lineage, int64_t now, unsigned number, size_t *ret_index, struct event_list *events,
                             struct error *error) ERROR_USE_RESULT;
int __wrap_lifecycle_reserve(struct lineage *lineage, int64_t now, unsigned number, size_t *ret_index, struct event_list *events,
                             struct error *error) ERROR_USE_RESULT;

static void trial_begin(struct trial *trial) {
  struct error error = {0};
  trial->events = (struct event_list){0};
  assert_int_equal(__real_lineage_copy(trial->lineage, &trial->copy, &error), 0);
}

static void trial_end(struct trial *trial) {
  lineage_release(&trial->copy);
  event_list_release(&trial->events);
}

void trial_again(void *context, int result) {
  (void)result;
  trial_end(context);
  trial_begin(context);
}

int act_copy(void *context, struct error *error) {
  struct trial *trial = context;
  struct lineage second = {0};
  const int result = __real_lineage_copy(trial->lineage, &second, error);
  if (result) {
    const struct lineage nothing = {0};
    assert_memory_equal(&second, &nothing, sizeof second);
    return result;
  }
  assert_same_lineage(trial->lineage, &second);
  lineage_release(&second);
  return 0;
}

int act_apply(void *context, struct error *error) {
  struct trial *trial = context;
  return __real_lifecycle_apply(&trial->copy, trial->outcome, trial->now, &trial->events, error);
}

void undo_apply(void *context, int result) {
  struct trial *trial = context;
  struct plan plan;
  assert_whole(trial->lineage, &trial->copy, &trial->events);
  plan_lineage(&trial->copy, &(struct plan_clock){.now = trial->now, .attested = true}, &plan);
  trial_again(context, result);
}

int act_reserve(void *context, struct error *error) {
  struct trial *trial = context;
  struct snapshot snapshot;
  size_t index = SIZE_MAX;
  snapshot_take(&trial->copy, &snapshot);
  const int result = __real_lifecycle_reserve(&trial->copy, trial->now, trial->number, &index, &trial->events, error);
  if (result) {
    snapshot_compare(&snapshot, &trial->copy);
    assert_true(index == SIZE_MAX && trial->events.count == 0);
    return result;
  }
  free(snapshot.keys);
  assert_true(index == trial->lineage->key_count && trial->copy.key_count == index + 1);
  return 0;
}

static unsigned try_each(trial_act *act, trial_undo *undo, void *context) {
  for (unsigned n = 1;; n++) {
    struct error error = {0};
    allocations = 0;
    failing = n;
    const int result = act(context, &error);
    const bool reached = allocations >= n;
    failing = 0;
    if (reached) {
      assert_int_equal(result, ERROR_NO_MEMORY);
      assert_int_equal(error.code, ERROR_NO_MEMORY);
      assert_non_null(strstr(error.message, "memory"));
    }
    undo(context, result);
    if (!reached) return n - 1;
  }
}

unsigned try_trial(struct trial *trial, trial_act *act, trial_undo *undo) {
  trial_begin(trial);
  const unsigned count = try_each(act, undo, trial);
  trial_end(trial);
  return count;
}

/* ---- whole lives come by here ---- */

int __wrap_lineage_copy(const struct lineage *lineage, struct lineage *ret_copy, struct error *error) {
  if (living) try_trial(&(struct trial){.lineage = lineage}, act_copy, trial_again);
  return __real_lineage_copy(lineage, ret_copy, error);
}

int __wrap_lifecycle_apply(struct lineage *lineage, const struct outcome *outcome, int64_t now, struct event_list *events,
                           struct error *error) {
  struct snapshot snapshot;
  if (living) {
    snapshot_take(lineage, &snapshot);
    try_trial(&(struct trial){.lineage = lineage, .outcome = outcome, .now = now}, act_apply, undo_apply);
    snapshot_compare(&snapshot, lineage);
  }
  return __real_lifecycle_apply(lineage, outcome, now, events, error);
}

int __wrap_lifecycle_reserve(struct lineage *lineage, int64_t now, unsigned number, size_t *ret_index, struct event_list *events,
                             struct error *error) {
  if (living) try_trial(&(struct trial){.lineage = lineage, .now = now, .number = number}, act_reserve, trial_again);
  return __real_lifecycle_reserve(lineage, now, number, ret_index, events, error);
}

static struct life world;

int lifecycle_memory_setup(void **state) {
  static const size_t two[] = {1, 2};
  life_begin(&world, 1);
  builder_define_signer(&world.builder, 2, "other", "");
  builder_use_signers(&world.builder, two, 2);
  living = true;
  refused = 0;
  *state = &world;
  return 0;
}

int lifecycle_memory_setup_alone(void **state) {
  const int result = lifecycle_memory_setup(state);
  living = false;
  return result;
}

int lifecycle_memory_teardown(void **state) {
  living = false;
  failing = 0;
  life_end(*state);
  return 0;
}
