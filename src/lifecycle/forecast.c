#include "dkimroll/forecast.h"

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
                      plan->action == PLAN_REPAIR || plan->action == PLAN_WITHDRAW || plan->action == PLAN_DESTROY ||
                      plan->action == PLAN_CHECK_FILES;
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
  return action == PLAN_CONFIRM || action == PLAN_CONFIRM_ABSENT || action == PLAN_PROVE || action == PLAN_CHECK_FILES;
}

int forecast_lineage(struct lineage *lineage, int64_t now, int64_t until, forecast_callback *callback, void *context, struct error *error) {
  struct plan_clock clock = {.now = now, .attested = true, .skip_watch = true};
  char moment[TIME_TEXT_SIZE];
  for (unsigned i = 0; i < FORECAST_STEPS_MAX && now <= until; i++) {
    struct plan plan;
    plan_lineage(lineage, &clock, &plan);
    if (plan.action == PLAN_NONE) {
      if (plan.next == TIME_NEVER || plan.next > until) return 0;
      clock.now = plan.next;
      continue;
    }
    int result = plan.key == lineage->key_count ? reserve(lineage, clock.now, &plan, error) : 0;
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
