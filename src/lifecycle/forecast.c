#include "dkimroll/forecast.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
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

/* ---- many lineages ---- */

/* Who is planned next. One that was due before the forecast begins is in front of those that became due after it. */
struct player {
  int64_t moment;
  size_t index;
};

struct game {
  const struct forecast *forecast;
  struct lineage *lineages;
  unsigned *steps; /* owned; of each lineage, with its waits */
  struct player *heap; /* owned */
  size_t heap_size;
  struct wave wave;
  struct error *error;
};

static void game_release(struct game *game) {
  free(game->steps);
  free(game->heap);
}

static bool comes_before(const struct game *game, const struct player *a, const struct player *b) {
  if (a->moment != b->moment) return a->moment < b->moment;
  const int64_t x = game->lineages[a->index].id, y = game->lineages[b->index].id;
  return x != y ? x < y : a->index < b->index;
}

static void heap_add(struct game *game, struct player player) {
  size_t at = game->heap_size++;
  for (size_t parent; at > 0 && comes_before(game, &player, &game->heap[parent = (at - 1) / 2]); at = parent) game->heap[at] = game->heap[parent];
  game->heap[at] = player;
}

static struct player heap_take(struct game *game) {
  const struct player first = game->heap[0], last = game->heap[--game->heap_size];
  size_t at = 0;
  for (size_t child; (child = 2 * at + 1) < game->heap_size; at = child) {
    if (child + 1 < game->heap_size && comes_before(game, &game->heap[child + 1], &game->heap[child])) child++;
    if (!comes_before(game, &game->heap[child], &last)) break;
    game->heap[at] = game->heap[child];
  }
  game->heap[at] = last;
  return first;
}

/* Does what plan says, and tells of it. */
static int play_step(struct game *game, const struct player *player, int64_t now, struct plan *plan) {
  const struct forecast *forecast = game->forecast;
  struct lineage *lineage = &game->lineages[player->index];
  int result = 0;
  if (wave_counts(lineage, plan->action, plan->key)) wave_take(&game->wave, lineage, plan->action, now);
  if (plan->key == lineage->key_count) result = reserve(lineage, now, plan, game->error);
  if (result) return result;
  const struct key *key = &lineage->keys[plan->key];
  const struct forecast_step step = {.at = now,
                                     .index = player->index,
                                     .domain = lineage->domain,
                                     .slot = lineage->slot,
                                     .selector = key->selector,
                                     .action = plan->action,
                                     .from = key->state,
                                     .to = plan_action_target(plan->action, key->state)};
  if (!is_round(plan->action)) result = forecast->callback(forecast->context, &step);
  if (!result) result = forecast_step_apply(lineage, plan, now, game->error);
  if (!result) lineage_drop_removed(lineage);
  return result;
}

/* All that a lineage does at one moment. *ret_next: its next one. */
static int play_moment(struct game *game, const struct player *player, int64_t *ret_next) {
  struct lineage *lineage = &game->lineages[player->index];
  const int64_t now = time_max(player->moment, game->forecast->now);
  const struct plan_clock clock = {.wave = &game->wave, .now = now, .attested = true, .skip_watch = true};
  char moment[TIME_TEXT_SIZE];
  wave_advance(&game->wave, now);
  while (game->steps[player->index]++ < FORECAST_STEPS_MAX) {
    struct plan plan;
    plan_lineage(lineage, &clock, &plan);
    (void)wave_note_late(&game->wave, lineage, &clock);
    *ret_next = plan.next;
    if (plan.action == PLAN_NONE) return 0;
    const int result = play_step(game, player, now, &plan);
    if (result) return result;
  }
  error_set(game->error, ERROR_LIMIT, "%s: more than %d steps until %s", lineage->domain, FORECAST_STEPS_MAX, time_format(now, moment));
  return error_remedy(game->error, "ask for an earlier end with --until");
}

int forecast_lineages(const struct forecast *forecast, struct lineage *lineages, size_t count, struct error *error) {
  CLEANUP(game_release) struct game game = {.forecast = forecast, .lineages = lineages, .error = error};
  int result = 0;
  wave_begin(&game.wave);
  if (forecast->wave) game.wave = *forecast->wave;
  game.wave.stopped_at = TIME_UNSET;
  game.steps = calloc(count + 1, sizeof *game.steps);
  game.heap = calloc(count + 1, sizeof *game.heap);
  if (!game.steps || !game.heap) return error_set(error, ERROR_NO_MEMORY, "out of memory for a plan");
  for (size_t i = 0; i < count; i++) heap_add(&game, (struct player){.moment = time_min(lineages[i].next_moment, forecast->now), .index = i});
  while (game.heap_size > 0 && !result) {
    struct player player = heap_take(&game);
    if (time_max(player.moment, forecast->now) > forecast->until) break;
    result = play_moment(&game, &player, &player.moment);
    if (!result && player.moment != TIME_NEVER) heap_add(&game, player);
  }
  return result;
}
