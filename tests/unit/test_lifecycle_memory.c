/* Memory runs out in the lifecycle: whatever it does is done once for each of its allocations, with that one failing, over whole lives and function by function. The
 * Makefile wraps the allocations and, so that whole lives come by here, the functions of the lifecycle that allocate. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/forecast.h"
#include "dkimroll/text.h"
#include "dkimroll/wave.h"
#include "life_world.h"

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

/* ---- one attempt after the other ---- */

/* What is tried: 0, or what it returned and said. undo: it is to be tried again from the same beginning. */
struct attempt {
  int (*act)(void *context, struct error *error);
  void (*undo)(void *context, int result);
};

/* Tries with the first allocation failing, then the second, and so on until none is left that could. Returns how many there are. */
static unsigned try_each(const struct attempt *attempt, void *context) {
  for (unsigned n = 1;; n++) {
    struct error error = {0};
    allocations = 0;
    failing = n;
    const int result = attempt->act(context, &error);
    const bool reached = allocations >= n;
    failing = 0;
    if (reached) {
      assert_int_equal(result, ERROR_NO_MEMORY);
      assert_int_equal(error.code, ERROR_NO_MEMORY);
      assert_non_null(strstr(error.message, "memory"));
    }
    attempt->undo(context, result);
    if (!reached) return n - 1;
  }
}

/* ---- what must be as it was ---- */

struct snapshot {
  struct lineage lineage;
  struct key *keys;
};

static void snapshot_take(const struct lineage *lineage, struct snapshot *ret) {
  ret->lineage = *lineage;
  ret->keys = calloc(lineage->key_count + 1, sizeof *ret->keys);
  assert_non_null(ret->keys);
  if (lineage->key_count > 0) memcpy(ret->keys, lineage->keys, lineage->key_count * sizeof *ret->keys);
}

/* Room for keys may have moved; nothing else may. */
static void snapshot_compare(struct snapshot *snapshot, const struct lineage *lineage) {
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

/* One thing to be done on a copy of lineage, so that it may be tried again and again. */
struct trial {
  const struct lineage *lineage;
  struct lineage copy;
  struct event_list events;
  const struct outcome *outcome;
  const struct adoption *adoption;
  int64_t now;
  unsigned number;
};

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
static void trial_again(void *context, int result) {
  (void)result;
  trial_end(context);
  trial_begin(context);
}

static int act_copy(void *context, struct error *error) {
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

/* An outcome that was not taken over is given up with the lineage by the engine; the plan of what is left must be possible all the same. */
static int act_apply(void *context, struct error *error) {
  struct trial *trial = context;
  return __real_lifecycle_apply(&trial->copy, trial->outcome, trial->now, &trial->events, error);
}
static void undo_apply(void *context, int result) {
  struct trial *trial = context;
  struct plan plan;
  assert_whole(trial->lineage, &trial->copy, &trial->events);
  plan_lineage(&trial->copy, &(struct plan_clock){.now = trial->now, .attested = true}, &plan);
  trial_again(context, result);
}

/* A key that does not come leaves no trace. */
static int act_reserve(void *context, struct error *error) {
  struct trial *trial = context;
  struct snapshot snapshot;
  size_t index = SIZE_MAX;
  const unsigned armed = failing;
  failing = 0;
  snapshot_take(&trial->copy, &snapshot);
  failing = armed;
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

static int act_adopt(void *context, struct error *error) {
  struct trial *trial = context;
  struct snapshot snapshot;
  const unsigned armed = failing;
  failing = 0;
  snapshot_take(&trial->copy, &snapshot);
  failing = armed;
  const int result = lifecycle_adopt(&trial->copy, trial->adoption, trial->now, &trial->events, error);
  if (result) {
    snapshot_compare(&snapshot, &trial->copy);
    assert_int_equal(trial->events.count, 0);
    return result;
  }
  free(snapshot.keys);
  assert_int_equal(trial->copy.key_count, trial->lineage->key_count + 1);
  assert_string_equal(trial->events.items[0].to, key_state_name(trial->adoption->state));
  return 0;
}

static int forget_step(void *context, const struct forecast_step *step) {
  (void)step;
  ++*(unsigned *)context;
  return 0;
}
static int act_forecast(void *context, struct error *error) {
  struct trial *trial = context;
  unsigned steps = 0;
  const int result = forecast_lineages(&(struct forecast){.now = trial->now, .until = trial->now + 130 * DAY, .callback = forget_step, .context = &steps}, &trial->copy, 1, error);
  if (!result) assert_true(steps > 5);
  return result;
}

static int act_event(void *context, struct error *error) {
  struct trial *trial = context;
  const struct key *key = trial->copy.key_count > 0 ? &trial->copy.keys[0] : NULL;
  for (size_t i = 0; i < 9; i++) {
    const int result = event_list_add(&trial->events, &trial->copy, i % 2 ? NULL : key, trial->now, "alarm", "why", error);
    assert_int_equal(trial->events.count, result ? i : i + 1);
    if (result) return result;
  }
  return 0;
}

static unsigned try_trial(struct trial *trial, int (*act)(void *, struct error *), void (*undo)(void *, int)) {
  trial_begin(trial);
  const unsigned count = try_each(&(struct attempt){.act = act, .undo = undo}, trial);
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

static int begin(void **state) {
  static const size_t two[] = {1, 2};
  life_begin(&world, 1);
  builder_define_signer(&world.builder, 2, "other", "");
  builder_use_signers(&world.builder, two, 2);
  living = true;
  refused = 0;
  *state = &world;
  return 0;
}
static int end(void **state) {
  living = false;
  failing = 0;
  life_end(*state);
  return 0;
}

static void test_lifecycle_memory__each_step_of_a_life_fails_whole_and_succeeds_again(void **state) {
  struct life *life = *state;
  life_run(life, 260 * DAY);
  assert_true(life->rotations >= 3 && refused > 10000);
  life_expect_well(life);
}

static void test_lifecycle_memory__each_step_of_a_life_full_of_faults_fails_whole(void **state) {
  struct life *life = *state;
  life->server_count = LIFE_SERVERS_MAX;
  life->fault = (struct life_fault){.permille = 200, .code = ERROR_UNREACHABLE};
  life_run(life, 500 * DAY);
  life->fault.permille = 0;
  life_run(life, LIFE_RECOVERY);
  life_expect_well(life);
  assert_true(life->failures > 20 && refused > 10000);
}

static void test_lifecycle_memory__each_step_of_a_life_with_edited_tables_and_lost_files_fails_whole(void **state) {
  struct life *life = *state;
  for (unsigned i = 0; i < 6; i++) {
    const size_t active = life_run_until(life, KEY_ACTIVE, 10 * DAY);
    const char *selector = life->builder.lineage.keys[active].selector;
    if (i % 2) life_lose_file(life, 1, selector, false);
    else life_edit_tables(life, 0, "");
    life->fault = (struct life_fault){.action = PLAN_REPAIR, .times = i % 3, .code = ERROR_UNREACHABLE};
    life_run(life, 5 * DAY);
    life_forget(life, life->builder.lineage.keys[life_find(life, KEY_ACTIVE)].selector);
    life_run(life, 5 * DAY);
  }
  life_expect_well(life);
  assert_true(refused > 5000);
}

static void test_lifecycle_memory__each_step_of_a_life_whose_signers_change_fails_whole(void **state) {
  static const size_t sets[][2] = {{1, 2}, {1, 3}, {4, 3}, {4, 2}};
  struct life *life = *state;
  for (size_t i = 0; i < 4; i++) {
    builder_define_signer(&life->builder, 3, "third", "");
    if (i < 2) builder_define_signer(&life->builder, 4, "fourth", "");
    builder_use_signers(&life->builder, sets[i], 2);
    life_policy_changed(life);
    life->fault = (struct life_fault){.action = i % 2 ? PLAN_WITHDRAW : PLAN_DESTROY, .permille = 600, .code = ERROR_UNREACHABLE};
    life->builder.lineage.rotate_requested = true;
    life_run(life, 50 * DAY);
  }
  life->fault.permille = 0;
  life_run(life, LIFE_RECOVERY);
  life_expect_well(life);
}

/* ---- function by function ---- */

static int begin_alone(void **state) {
  const int result = begin(state);
  living = false;
  return result;
}

/* A lineage that owns whatever one can. */
static struct lineage *rich(struct life *life) {
  struct builder *builder = &life->builder;
  struct lineage *lineage = &builder->lineage;
  builder_key(builder, "old", KEY_RETIRED, BUILDER_NOW - DAY);
  builder_key(builder, "now", KEY_ACTIVE, BUILDER_NOW - DAY);
  builder_key(builder, "soon", KEY_RESERVED, BUILDER_NOW - DAY);
  lineage->zone = text_duplicate("example.com");
  lineage->hold_reason = text_duplicate("a holiday");
  lineage->failure = text_duplicate("destroy of old: no");
  lineage->keys[0].placements[1].failure = text_duplicate("no");
  return lineage;
}

static void test_lifecycle_memory__a_copy_is_whole_or_none(void **state) {
  struct lineage *lineage = rich(*state);
  /* The texts of the lineage and its sender, two arrays, and of each key a record (two have one), sightings, two paths; and a failure. */
  assert_int_equal(try_trial(&(struct trial){.lineage = lineage}, act_copy, trial_again), 4 + 2 + 2 + 3 + 6 + 1);
}

static void test_lifecycle_memory__an_event_is_whole_or_none(void **state) {
  struct lineage *lineage = rich(*state);
  /* Room at the first and at the ninth; four texts each, and the selectors of five. */
  assert_int_equal(try_trial(&(struct trial){.lineage = lineage, .now = BUILDER_NOW}, act_event, trial_again), 2 + 9 * 4 + 5);
}

static void test_lifecycle_memory__a_key_that_cannot_be_reserved_leaves_no_trace(void **state) {
  struct lineage *lineage = rich(*state);
  assert_true(try_trial(&(struct trial){.lineage = lineage, .now = BUILDER_NOW, .number = 1}, act_reserve, trial_again) > 8);
}

static void test_lifecycle_memory__a_key_that_cannot_be_adopted_leaves_no_trace(void **state) {
  struct life *life = *state;
  struct adoption_place places[2];
  struct sighting_report sighting = {.host = "ns1", .address = "192.0.2.1", .right = true, .at = BUILDER_NOW, .ttl = 60, .ttl_negative = -1};
  struct adoption adoption = {.selector = "mail",
                              .algorithm = KEY_ALGORITHM_RSA,
                              .bits = 2048,
                              .record = "v=DKIM1; k=rsa; p=AAAA",
                              .since = BUILDER_NOW - DAY,
                              .places = places,
                              .place_count = 2,
                              .sightings = &sighting,
                              .sighting_count = 1,
                              .reason = "found"};
  for (size_t i = 0; i < 2; i++)
    places[i] = (struct adoption_place){
        .signer_id = (int64_t)i + 1, .signer = &life->builder.signers[i], .key_path = i ? "/k/two" : "/k/one", .named = true};
  for (enum key_state to = KEY_ACTIVE; to <= KEY_REMOVED; to++) {
    adoption.state = to;
    assert_true(try_trial(&(struct trial){.lineage = &life->builder.lineage, .adoption = &adoption, .now = BUILDER_NOW}, act_adopt, trial_again) > 6);
  }
}

static void test_lifecycle_memory__a_signer_that_is_gone_is_given_up_wholly_or_not(void **state) {
  static const size_t left[] = {2};
  static const struct placement_report reports[] = {{.signer_id = 1, .failure = "no such folder"}, {.signer_id = 2, .failure = "no such folder"}};
  struct life *life = *state;
  struct error failure = {.code = ERROR_PERMISSION, .message = "it did not work"};
  const struct outcome outcome = {
      .action = PLAN_WITHDRAW, .at = BUILDER_NOW, .error = &failure, .placements = reports, .placement_count = 2};
  struct lineage *lineage = rich(life);
  builder_use_signers(&life->builder, left, 1);
  assert_true(try_trial(&(struct trial){.lineage = lineage, .outcome = &outcome, .now = BUILDER_NOW}, act_apply, undo_apply) > 12);
  builder_apply(&life->builder, &outcome);
  assert_int_equal(lineage->keys[0].placement_count, 1);
}

static void test_lifecycle_memory__a_place_more_is_whole_or_none(void **state) {
  static const size_t three[] = {1, 2, 3};
  struct life *life = *state;
  struct lineage *lineage = rich(life);
  builder_define_signer(&life->builder, 3, "third", "");
  builder_use_signers(&life->builder, three, 3);
  for (size_t i = 0; i < 2; i++) {
    const struct placement_report report = {
        .signer_id = 3, .key_path = i ? "/third/now.private" : NULL, .switched_at = BUILDER_NOW, .completed_at = BUILDER_NOW};
    const struct outcome outcome = {.action = PLAN_ACTIVATE, .key = 1, .at = BUILDER_NOW, .placements = &report, .placement_count = 1};
    assert_true(try_trial(&(struct trial){.lineage = lineage, .outcome = &outcome, .now = BUILDER_NOW}, act_apply, undo_apply) > 5);
  }
}

static void test_lifecycle_memory__a_forecast_ends_at_once(void **state) {
  struct life *life = *state;
  const struct lineage *lineage = &life->builder.lineage;
  assert_true(try_trial(&(struct trial){.lineage = lineage, .now = BUILDER_NOW}, act_forecast, trial_again) > 100);
}

static int act_crowded_forecast(void *context, struct error *error) {
  struct trial *trial = context;
  struct wave wave;
  unsigned steps = 0;
  wave_begin(&wave);
  wave.limits.max_per_run = 1;
  const struct forecast forecast = {.now = trial->now, .until = trial->now + 130 * DAY, .wave = &wave, .callback = forget_step, .context = &steps};
  const int result = forecast_lineages(&forecast, &trial->copy, 1, error);
  return result;
}

static void test_lifecycle_memory__a_forecast_that_counts_places_ends_at_once(void **state) {
  struct life *life = *state;
  assert_true(try_trial(&(struct trial){.lineage = &life->builder.lineage, .now = BUILDER_NOW}, act_crowded_forecast, trial_again) > 100);
}

static int act_compromise(void *context, struct error *error) {
  struct trial *trial = context;
  const struct compromise wish = {.whole_host = true, .now = true, .by = "anna", .reason = "leak"};
  const int result = lifecycle_compromise(&trial->copy, &wish, trial->now, &trial->events, error);
  if (!result) assert_true(trial->events.count >= 2);
  return result;
}

static void test_lifecycle_memory__a_compromise_is_taken_with_all_its_events_or_refused(void **state) {
  struct lineage *lineage = rich(*state);
  assert_true(try_trial(&(struct trial){.lineage = lineage, .now = BUILDER_NOW}, act_compromise, trial_again) > 8);
}

static int act_end_hold(void *context, struct error *error) {
  struct trial *trial = context;
  const int result = lifecycle_end_hold(&trial->copy, trial->now, &trial->events, error);
  assert_int_equal(trial->copy.held, result != 0);
  assert_int_equal(trial->events.count, result ? 0 : 1);
  return result;
}

static void test_lifecycle_memory__a_hold_ends_with_its_event_or_goes_on(void **state) {
  struct lineage *lineage = rich(*state);
  lineage->held = true;
  lineage->hold_until = BUILDER_NOW;
  assert_true(try_trial(&(struct trial){.lineage = lineage, .now = BUILDER_NOW}, act_end_hold, trial_again) > 3);
}

/* The first failure stops the wave, and a person lets it go on. */
static int act_wave(void *context, struct error *error) {
  struct trial *trial = context;
  const struct outcome outcome = {.action = PLAN_GENERATE, .key = 2, .at = trial->now};
  struct wave wave;
  bool changed = false;
  wave_begin(&wave);
  wave.limits = (struct policy_limits){.budget = true};
  wave_advance(&wave, trial->now);
  int result = wave_note(&wave, &trial->copy, &trial->copy, &outcome, trial->now, &trial->events, &changed, error);
  assert_int_equal(wave_is_stopped(&wave), result == 0);
  if (result) return result;
  result = wave_release(&wave, "anna", trial->now, &trial->events, &changed, error);
  assert_int_equal(wave_is_stopped(&wave), result != 0);
  return result;
}

static void test_lifecycle_memory__a_wave_is_stopped_and_released_with_its_event_or_not(void **state) {
  struct lineage *lineage = rich(*state);
  assert_true(try_trial(&(struct trial){.lineage = lineage, .now = BUILDER_NOW}, act_wave, trial_again) > 6);
}

#define LIFE(name) cmocka_unit_test_setup_teardown(test_lifecycle_memory__##name, begin, end)
#define ALONE(name) cmocka_unit_test_setup_teardown(test_lifecycle_memory__##name, begin_alone, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      LIFE(each_step_of_a_life_fails_whole_and_succeeds_again),
      LIFE(each_step_of_a_life_full_of_faults_fails_whole),
      LIFE(each_step_of_a_life_with_edited_tables_and_lost_files_fails_whole),
      LIFE(each_step_of_a_life_whose_signers_change_fails_whole),
      ALONE(a_copy_is_whole_or_none),
      ALONE(an_event_is_whole_or_none),
      ALONE(a_key_that_cannot_be_reserved_leaves_no_trace),
      ALONE(a_key_that_cannot_be_adopted_leaves_no_trace),
      ALONE(a_signer_that_is_gone_is_given_up_wholly_or_not),
      ALONE(a_place_more_is_whole_or_none),
      ALONE(a_forecast_ends_at_once),
      ALONE(a_forecast_that_counts_places_ends_at_once),
      ALONE(a_compromise_is_taken_with_all_its_events_or_refused),
      ALONE(a_hold_ends_with_its_event_or_goes_on),
      ALONE(a_wave_is_stopped_and_released_with_its_event_or_not),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
