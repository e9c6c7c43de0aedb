/* Which key is in which state when: the facts of a lineage, and its forecast. */
#include "dkimroll/timeline.h"

#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/forecast.h"
#include "dkimroll/text.h"

/* A selector is reserved for the moment in which its key is made. */
static void add_span(struct timeline_row *row, enum key_state state, int64_t from) {
  if (state == KEY_RESERVED) state = KEY_GENERATED;
  if (row->span_count > 0 && row->spans[row->span_count - 1].state == state) return;
  if (row->span_count == TIMELINE_SPANS_MAX) return;
  row->spans[row->span_count++] = (struct timeline_span){.state = state, .from = from};
}

static struct timeline_row *find_row(struct timeline *timeline, const char *selector) {
  for (size_t i = 0; i < timeline->row_count; i++)
    if (text_equal(timeline->rows[i].selector, selector)) return &timeline->rows[i];
  return NULL;
}

static struct timeline_row *add_row(struct timeline *timeline, const char *selector) {
  if (timeline->row_count == TIMELINE_ROWS_MAX) {
    timeline->left_out++;
    return NULL;
  }
  struct timeline_row *row = &timeline->rows[timeline->row_count++];
  *row = (struct timeline_row){.span_count = 0};
  text_copy(row->selector, sizeof row->selector, selector);
  return row;
}

/* ---- the past ---- */

/* A record that was put back was published again after its key took over: no state begins after the one that follows it. */
static void add_facts(struct timeline *timeline, const struct key *key) {
  int64_t moments[] = {[KEY_RESERVED] = key->created_at, [KEY_GENERATED] = key->generated_at, [KEY_PUBLISHED] = key->published_at,
                       [KEY_READY] = key->ready_at,      [KEY_ACTIVE] = key->active_at,       [KEY_RETIRED] = key->retired_at,
                       [KEY_REVOKED] = key->revoked_at,  [KEY_REMOVED] = key->removed_at};
  struct timeline_row *row = add_row(timeline, key->selector);
  int64_t limit = key->state_since == TIME_UNSET ? timeline->now : key->state_since;
  moments[key->state] = limit;
  for (int state = (int)key->state; state >= 0; state--) {
    if (moments[state] == TIME_UNSET) continue;
    moments[state] = limit = time_min(moments[state], limit);
  }
  for (int state = 0; row && state <= (int)key->state; state++)
    if (moments[state] != TIME_UNSET) add_span(row, (enum key_state)state, moments[state]);
}

/* ---- the future ---- */

/* The predecessor retires in the step in which its successor takes over. */
static void retire_others(struct timeline *timeline, const struct timeline_row *successor, int64_t at) {
  for (size_t i = 0; i < timeline->row_count; i++) {
    struct timeline_row *row = &timeline->rows[i];
    if (row != successor && row->span_count > 0 && row->spans[row->span_count - 1].state == KEY_ACTIVE) add_span(row, KEY_RETIRED, at);
  }
}

static int take_step(void *context, const struct forecast_step *step) {
  struct timeline *timeline = context;
  struct timeline_row *row = find_row(timeline, step->selector);
  if (step->from == step->to) return 0;
  if (!row && step->from == KEY_RESERVED) row = add_row(timeline, step->selector);
  if (step->to == KEY_ACTIVE) retire_others(timeline, row, step->at);
  if (row) add_span(row, step->to, step->at);
  return 0;
}

/* When the last of the keys that live now is gone; TIME_NEVER: one stays. */
static int64_t find_end(const struct timeline *timeline, size_t living) {
  int64_t end = timeline->now;
  for (size_t i = 0; i < living; i++) {
    const struct timeline_row *row = &timeline->rows[i];
    const struct timeline_span *last = row->span_count > 0 ? &row->spans[row->span_count - 1] : NULL;
    if (!last || last->state != KEY_REMOVED) return TIME_NEVER;
    end = time_max(end, last->from);
  }
  return end;
}

/* Without what comes behind the end: the forecast went on. */
static void cut(struct timeline *timeline) {
  size_t kept = 0;
  for (size_t i = 0; i < timeline->row_count; i++) {
    struct timeline_row *row = &timeline->rows[i];
    while (row->span_count > 0 && row->spans[row->span_count - 1].from >= timeline->until) row->span_count--;
    if (row->span_count > 0) timeline->rows[kept++] = *row;
  }
  timeline->row_count = kept;
}

/* The picture ends a little behind the last thing in it. */
static void find_bounds(struct timeline *timeline, int64_t until, size_t living) {
  int64_t first = timeline->now, end = until;
  for (size_t i = 0; i < timeline->row_count; i++)
    if (timeline->rows[i].span_count > 0) first = time_min(first, timeline->rows[i].spans[0].from);
  if (end == TIME_UNSET) {
    end = time_min(find_end(timeline, living), time_add(timeline->now, TIMELINE_LIFE_MAX));
    end = time_add(end, (end - first) / 40 + 1);
  }
  timeline->until = time_max(end, timeline->now + 1);
  cut(timeline);
  timeline->from = time_max(first, timeline->now - (timeline->until - timeline->now));
}

int timeline_make(const struct lineage *lineage, const struct plan_clock *clock, int64_t until, struct timeline *ret_timeline, struct error *error) {
  CLEANUP(lineage_release) struct lineage copy = {0};
  const int64_t now = clock->now;
  const int64_t last = until == TIME_UNSET ? time_add(now, TIMELINE_LIFE_MAX) : until;
  *ret_timeline = (struct timeline){.now = now};
  for (size_t i = 0; i < lineage->key_count; i++) add_facts(ret_timeline, &lineage->keys[i]);
  const size_t living = ret_timeline->row_count;
  int result = lineage_copy(lineage, &copy, error);
  const struct forecast forecast = {.now = now, .until = last, .wave = clock->wave, .callback = take_step, .context = ret_timeline};
  if (!result) result = forecast_lineages(&forecast, &copy, 1, error);
  if (!result) find_bounds(ret_timeline, until, living);
  return result;
}
