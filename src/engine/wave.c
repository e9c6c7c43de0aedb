/* The limits on waves, kept in the store between runs. What they mean: lifecycle/wave.c. */
#include <stdio.h>

#include "engine_internal.h"

static int take_row(void *context, const void *row) {
  ((struct engine *)context)->wave = *(const struct wave *)row;
  return 0;
}

int engine_load_wave(struct engine *engine, struct error *error) {
  static const struct store_filter all;
  struct store *store = engine->setup.store;
  wave_begin(&engine->wave);
  engine->wave_waits = engine->away_since = TIME_UNSET;
  return store->ops->select(store, STORE_SELECT_WAVE, &all, take_row, engine, error);
}

void engine_wave_advance(struct engine *engine) {
  wave_advance(&engine->wave, engine->plan_clock.now);
  engine->plan_clock.wave = &engine->wave;
}

static int take_count(void *context, const void *row) {
  *(int64_t *)context = *(const int64_t *)row;
  return 0;
}

/* Told once: it explains why rotations come later than their moments. */
static int tell_return(const struct wave *wave, int64_t away, struct event_list *events, struct error *error) {
  static const struct lineage nobody;
  char reason[256], moment[TIME_TEXT_SIZE];
  snprintf(reason, sizeof reason, "nothing was done for %lld hours: rotations that became due meanwhile are spread until %s", (long long)(away / 3600),
           time_format(time_add(wave->returned_at, wave->spread), moment));
  return event_list_add(events, &nobody, NULL, wave->returned_at, "clock", reason, error);
}

int engine_wave_return(struct engine *engine, struct event_list *events, struct error *error) {
  static const struct store_filter all;
  struct store *store = engine->setup.store;
  const int64_t before = engine->away_since, now = engine->plan_clock.now;
  int64_t lineages = 0;
  engine->away_since = TIME_UNSET;
  if (before == TIME_UNSET || now < time_add(before, WAVE_ABSENCE_SECONDS)) return 0;
  int result = store->ops->select(store, STORE_SELECT_COUNT, &all, take_count, &lineages, error);
  if (result || lineages == 0 || !wave_return(&engine->wave, before, now, lineages)) return result;
  engine->wave_changed = true;
  return engine->wave.limits.max_per_run > 0 ? 0 : tell_return(&engine->wave, now - before, events, error);
}

void engine_wave_planned(struct engine *engine, struct lineage *lineage) {
  engine->wave_changed |= wave_note_late(&engine->wave, lineage, &engine->plan_clock);
}

void engine_wave_taken(struct engine *engine, struct lineage *lineage, enum plan_action action, size_t key) {
  if (!wave_counts(lineage, action, key)) return;
  wave_take(&engine->wave, lineage, action, engine->plan_clock.now);
  engine->wave_changed = true;
}

int engine_wave_note(struct engine *engine, const struct lineage *before, const struct lineage *after, const struct outcome *outcome,
                     struct event_list *events, struct error *error) {
  const int64_t waits = engine->wave.probe_at;
  const unsigned ended = engine->wave.ended;
  bool changed = false;
  int result = wave_note(&engine->wave, before, after, outcome, engine->plan_clock.now, events, &changed, error);
  engine->wave_changed |= changed || engine->wave.ended != ended;
  if (changed && !wave_is_stopped(&engine->wave)) engine->wave_waits = waits;
  return result;
}

int engine_wave_release(struct engine *engine, const char *who, struct event_list *events, struct error *error) {
  const int64_t waits = engine->wave.probe_at;
  bool changed = false;
  int result = wave_release(&engine->wave, who, engine->plan_clock.now, events, &changed, error);
  if (!result && changed) {
    engine->wave_changed = true;
    engine->wave_waits = waits;
  }
  return result;
}

void engine_wave_commit(struct engine *engine, struct store_commit *commit) {
  commit->wave = engine->wave_changed ? &engine->wave : NULL;
  commit->wave_waits = engine->wave_changed ? engine->wave_waits : TIME_UNSET;
}

void engine_wave_committed(struct engine *engine) {
  engine->wave_changed = false;
  engine->wave_waits = TIME_UNSET;
}
