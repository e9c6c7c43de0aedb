#include "dkimroll/forecast.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/text.h"
#include "dkimroll/timing.h"

/* Without any earlier observation one server stands for all. */
static size_t ideal_sightings(const struct key *key, int64_t now, struct sighting_report *reports) {
  size_t count = key->sighting_count > 0 ? key->sighting_count : 1;
  for (size_t i = 0; i < count; i++) {
    const struct sighting *seen = key->sighting_count > 0 ? &key->sightings[i] : NULL;
    reports[i] = (struct sighting_report){.host = seen ? seen->host : "every server",
                                          .address = seen ? seen->address : "",
                                          .right = true,
                                          .at = now,
                                          .ttl = -1,
                                          .ttl_negative = -1,
                                          .answer = "as expected"};
  }
  return count;
}

static size_t ideal_placements(const struct lineage *lineage, const struct key *key, enum plan_action action, int64_t now,
                               struct placement_report *reports) {
  size_t count = 0;
  if (action == PLAN_ACTIVATE || action == PLAN_REPAIR) {
    for (; count < lineage->signer_count; count++)
      reports[count] = (struct placement_report){.signer_id = lineage->signer_ids[count], .switched_at = now, .completed_at = now};
    return count;
  }
  for (; count < key->placement_count; count++)
    reports[count] = (struct placement_report){.signer_id = key->placements[count].signer_id, .completed_at = now};
  return count;
}

/* What the survey before publication would find: what the last key found. */
static int64_t known_ttl(const struct lineage *lineage, bool negative) {
  int64_t known = 0;
  for (size_t i = 0; i < lineage->key_count; i++)
    known = time_max(known, negative ? lineage->keys[i].ttl_negative : lineage->keys[i].ttl_old);
  return known;
}

static int forecast_step_apply(struct lineage *lineage, const struct plan *plan, int64_t now, struct error *error) {
  struct sighting_report sightings[KEY_SIGHTINGS_MAX];
  struct placement_report placements[KEY_PLACEMENTS_MAX];
  struct event_list events = {0};
  const struct key *key = &lineage->keys[plan->key];
  struct outcome outcome = {.action = plan->action,
                            .key = plan->key,
                            .at = now,
                            .ttl = lineage->rules->publish_ttl,
                            .record = "",
                            .ttl_negative = known_ttl(lineage, true),
                            .ttl_old = known_ttl(lineage, false)};
  const bool looks = plan->action == PLAN_CONFIRM || plan->action == PLAN_ACTIVATE || plan->action == PLAN_PROVE ||
                     plan->action == PLAN_REPAIR || plan->action == PLAN_CONFIRM_ABSENT;
  const bool places = plan->action == PLAN_GENERATE || plan->action == PLAN_ACTIVATE || plan->action == PLAN_PROVE ||
                      plan->action == PLAN_REPAIR || plan->action == PLAN_WITHDRAW || plan->action == PLAN_DESTROY;
  if (looks) {
    outcome.sighting_count = ideal_sightings(key, now, sightings);
    outcome.sightings = sightings;
  }
  if (places) {
    outcome.placement_count = ideal_placements(lineage, key, plan->action, now, placements);
    outcome.placements = placements;
  }
  int result = lifecycle_apply(lineage, &outcome, now, &events, error);
  event_list_release(&events);
  return result;
}

/* Removed keys leave, as they do when the store loads a lineage. */
static void drop_removed(struct lineage *lineage) {
  size_t kept = 0;
  for (size_t i = 0; i < lineage->key_count; i++) {
    if (lineage->keys[i].state == KEY_REMOVED)
      key_release(&lineage->keys[i]);
    else
      lineage->keys[kept++] = lineage->keys[i];
  }
  lineage->key_count = kept;
}

/* The number of selector among those of one stamp: 1 for the bare one, n for "-n", 0 if it is of another stamp. */
static unsigned number_of(const char *selector, const char *bare) {
  const size_t size = strlen(bare);
  unsigned number = 0;
  if (!text_starts(selector, bare)) return 0;
  if (!selector[size]) return 1;
  if (selector[size] != '-') return 0;
  for (const char *digit = selector + size + 1; *digit; digit++) {
    if (*digit < '0' || *digit > '9' || number > SELECTOR_NUMBER_MAX) return 0;
    number = number * 10 + (unsigned)(*digit - '0');
  }
  return number <= SELECTOR_NUMBER_MAX ? number : 0;
}

/* Selectors are used once for ever. The store knows them all, a lineage only the living; but the last one of a stamp is the last to die. */
static int reserve(struct lineage *lineage, int64_t now, struct plan *plan, struct error *error) {
  struct event_list events = {0};
  unsigned last = 0;
  char bare[SELECTOR_SIZE];
  int result = selector_make(lineage_rule(lineage)->selector, now, 1, bare, error);
  for (size_t i = 0; i < lineage->key_count && !result; i++) {
    const unsigned number = number_of(lineage->keys[i].selector, bare);
    if (number > last) last = number;
  }
  if (!result) result = lifecycle_reserve(lineage, now, last + 1, &plan->key, &events, error);
  event_list_release(&events);
  return result;
}

static bool is_round(enum plan_action action) {
  return action == PLAN_CONFIRM || action == PLAN_CONFIRM_ABSENT || action == PLAN_PROVE;
}

/* ---- runs that are full ---- */

void forecast_book_release(struct forecast_book *book) {
  free(book->runs);
  book->runs = NULL;
  book->count = book->capacity = 0;
}

/* Its place, or the free one where it belongs, in a book that has places. */
static struct forecast_run *book_find(const struct forecast_book *book, int64_t run) {
  size_t at = (size_t)((uint64_t)run / WAVE_RUN_SECONDS * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (book->capacity - 1);
  while (book->runs[at].run != 0 && book->runs[at].run != run) at = (at + 1) & (book->capacity - 1);
  return &book->runs[at];
}

static int book_grow(struct forecast_book *book, struct error *error) {
  struct forecast_book larger = {.max_per_run = book->max_per_run, .count = book->count, .capacity = book->capacity ? book->capacity * 2 : 256};
  larger.runs = calloc(larger.capacity, sizeof *larger.runs);
  if (!larger.runs) return error_set(error, ERROR_NO_MEMORY, "out of memory for a plan");
  for (size_t i = 0; i < book->capacity; i++)
    if (book->runs[i].run != 0) *book_find(&larger, book->runs[i].run) = book->runs[i];
  free(book->runs);
  *book = larger;
  return 0;
}

static int book_take(struct forecast_book *book, int64_t run, enum plan_action action, struct error *error) {
  int result = book->count * 2 >= book->capacity ? book_grow(book, error) : 0;
  if (result) return result;
  struct forecast_run *place = book_find(book, run);
  if (place->run == 0) book->count++;
  place->run = run;
  if (action == PLAN_GENERATE)
    place->begun++;
  else
    place->switched++;
  return 0;
}

static unsigned book_used(const struct forecast_book *book, int64_t run, enum plan_action action) {
  if (book->capacity == 0) return 0;
  const struct forecast_run *place = book_find(book, run);
  if (place->run == 0) return 0;
  return action == PLAN_GENERATE ? place->begun : place->switched;
}

/* How the wave stands in that run, told as the engine would: so many came too late that the next place is in the next run with room. */
static unsigned book_late(const struct forecast_book *book, int64_t run, enum plan_action action) {
  unsigned runs = 0;
  while (book_used(book, run + ((int64_t)runs + 1) * WAVE_RUN_SECONDS, action) >= book->max_per_run) runs++;
  return runs * book->max_per_run;
}

static void book_tell(const struct forecast_book *book, int64_t now, struct wave *wave) {
  wave_begin(wave);
  wave->limits.max_per_run = book->max_per_run;
  wave->run = now - now % WAVE_RUN_SECONDS;
  wave->begun = book_used(book, wave->run, PLAN_GENERATE);
  wave->switched = book_used(book, wave->run, PLAN_ACTIVATE);
  if (book->max_per_run > 0 && wave->begun >= book->max_per_run) wave->late_begun = book_late(book, wave->run, PLAN_GENERATE);
  if (book->max_per_run > 0 && wave->switched >= book->max_per_run) wave->late_switched = book_late(book, wave->run, PLAN_ACTIVATE);
}

int forecast_lineage(struct lineage *lineage, int64_t now, int64_t until, forecast_callback *callback, void *context, struct error *error) {
  struct forecast_book alone = {0};
  return forecast_lineage_in(&alone, lineage, now, until, callback, context, error);
}

int forecast_lineage_in(struct forecast_book *book, struct lineage *lineage, int64_t now, int64_t until, forecast_callback *callback, void *context,
                        struct error *error) {
  struct wave wave;
  struct plan_clock clock = {.wave = &wave, .now = now, .attested = true, .skip_watch = true};
  char moment[TIME_TEXT_SIZE];
  for (unsigned i = 0; i < FORECAST_STEPS_MAX && now <= until; i++) {
    struct plan plan;
    book_tell(book, clock.now, &wave);
    plan_lineage(lineage, &clock, &plan);
    if (plan.action == PLAN_NONE) {
      if (plan.next == TIME_NEVER || plan.next > until) return 0;
      clock.now = plan.next;
      continue;
    }
    const bool counts = book->max_per_run > 0 && wave_counts(lineage, plan.action, plan.key);
    int result = counts ? book_take(book, wave.run, plan.action, error) : 0;
    if (!result && plan.key == lineage->key_count) result = reserve(lineage, clock.now, &plan, error);
    if (result) return result;
    const struct key *key = &lineage->keys[plan.key];
    const struct forecast_step step = {.at = clock.now,
                                       .domain = lineage->domain,
                                       .slot = lineage->slot,
                                       .selector = key->selector,
                                       .action = plan.action,
                                       .from = key->state,
                                       .to = plan_action_target(plan.action, key->state)};
    if (!is_round(plan.action)) result = callback(context, &step);
    if (!result) result = forecast_step_apply(lineage, &plan, clock.now, error);
    if (result) return result;
    drop_removed(lineage);
  }
  if (now > until) return 0;
  error_set(error, ERROR_LIMIT, "%s: more than %d steps until %s", lineage->domain, FORECAST_STEPS_MAX, time_format(clock.now, moment));
  return error_remedy(error, "ask for an earlier end with --until");
}
