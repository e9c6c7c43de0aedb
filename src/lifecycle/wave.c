#include "dkimroll/wave.h"

#include <stdio.h>
#include <string.h>

#include "dkimroll/text.h"
#include "gates.h"

void wave_begin(struct wave *wave) {
  *wave = (struct wave){.run = TIME_UNSET,
                        .begins.last = TIME_UNSET,
                        .switches.last = TIME_UNSET,
                        .away_since = TIME_UNSET,
                        .returned_at = TIME_UNSET,
                        .period = TIME_UNSET,
                        .stopped_at = TIME_UNSET,
                        .probe_at = TIME_UNSET};
}

static void count_anew(struct wave *wave, int64_t period) {
  wave->period = period;
  wave->ended = wave->failed = 0;
  if (wave->stopped_at != TIME_UNSET) return; /* what stopped it is told until it goes on */
  wave->first[0] = '\0';
  wave->first_action = PLAN_NONE;
}

/* A clock that goes back begins anew, too: places that were given by another clock are none. */
void wave_advance(struct wave *wave, int64_t now) {
  const int64_t run = now - now % WAVE_RUN_SECONDS;
  if (run < wave->run) wave->begins.last = wave->switches.last = TIME_UNSET;
  if (run != wave->run) wave->begins.taken = wave->switches.taken = 0;
  wave->run = run;
  if (wave->returned_at > now) wave->returned_at = TIME_UNSET;
  if (wave->period == TIME_UNSET || now >= wave->period + WAVE_PERIOD_SECONDS || now < wave->period) count_anew(wave, now);
  /* A probe that lies further ahead than any pause was planned by a clock that has been set back since. */
  if (wave->probe_at > time_add(now, WAVE_PROBE_SLOWEST)) wave->probe_at = now;
}

bool wave_is_stopped(const struct wave *wave) { return wave->limits.budget && wave->stopped_at != TIME_UNSET; }

const char *wave_describe(const struct wave *wave, char *buffer) {
  snprintf(buffer, (size_t)WAVE_TEXT_MAX * 2, "the wave of rotations is stopped: %u of %u failed, the first: %s", wave->stopped_failed, wave->stopped_ended,
           wave->first);
  return buffer;
}

bool wave_counts(const struct lineage *lineage, enum plan_action action, size_t key) {
  if (action == PLAN_GENERATE) return key >= lineage->key_count;
  return action == PLAN_ACTIVATE && key < lineage->key_count && lineage->keys[key].state == KEY_READY;
}

static int64_t probe_pause(unsigned probes) {
  int64_t pause = WAVE_PROBE_FIRST;
  for (unsigned i = 0; i < probes && pause < WAVE_PROBE_SLOWEST; i++) pause *= 2;
  return time_min(pause, WAVE_PROBE_SLOWEST);
}

/* ---- places in runs ---- */

static struct wave_places *places_of(struct wave *wave, enum plan_action action) { return action == PLAN_GENERATE ? &wave->begins : &wave->switches; }
static int64_t *own_place(struct lineage *lineage, enum plan_action action) {
  return action == PLAN_GENERATE ? &lineage->begin_place : &lineage->switch_place;
}

bool wave_is_passed(const struct lineage *lineage) { return lineage_is_urgent(lineage) || lineage->rotate_requested; }

void wave_take(struct wave *wave, struct lineage *lineage, enum plan_action action, int64_t now) {
  if (!wave_is_passed(lineage)) places_of(wave, action)->taken++;
  *own_place(lineage, action) = TIME_UNSET;
  if (!wave_is_stopped(wave) || now < wave->probe_at) return;
  wave->probes++;
  wave->probe_at = time_add(now, probe_pause(wave->probes));
}

/* Whoever has a place and finds the run full all the same (the limit was lowered, or several runs did not take place) goes to the end, in his order. */
int64_t wave_turn(const struct wave *wave, const struct lineage *lineage, enum plan_action action) {
  const bool begins = action == PLAN_GENERATE;
  const struct wave_places *places = begins ? &wave->begins : &wave->switches;
  const int64_t own = begins ? lineage->begin_place : lineage->switch_place, next = wave->run + WAVE_RUN_SECONDS;
  const unsigned most = wave->limits.max_per_run;
  const bool holds = own != TIME_UNSET && own <= places->last;
  if (holds && own > wave->run) return own;
  if (holds && places->taken < most) return wave->run;
  if (places->last > wave->run) return places->given < most ? places->last : places->last + WAVE_RUN_SECONDS;
  /* Those who have a place in this run come before those who come in it. */
  const unsigned gone = places->last == wave->run && places->given > places->taken ? places->given : places->taken;
  return gone < most ? wave->run : next;
}

static bool give_place(struct wave *wave, struct lineage *lineage, enum plan_action action, int64_t run) {
  struct wave_places *places = places_of(wave, action);
  int64_t *own = own_place(lineage, action);
  if (*own == run) return false;
  *own = run;
  /* A turn is never before the last one that was given (wave_turn). */
  places->given = places->last == run ? places->given + 1 : 1;
  places->last = run;
  return true;
}

bool wave_note_late(struct wave *wave, struct lineage *lineage, const struct plan_clock *clock) {
  bool given = false;
  for (size_t i = 0; i <= lineage->key_count && wave->limits.max_per_run > 0; i++) {
    struct plan plan;
    if (i < lineage->key_count && lineage->keys[i].state != KEY_READY) continue;
    plan_key(lineage, i, clock, &plan);
    for (size_t j = 0; j < plan.reason_count; j++)
      if (text_equal(plan.reasons[j].gate, "run_room")) given |= give_place(wave, lineage, plan.waiting, plan.reasons[j].opens);
  }
  return given;
}

bool wave_return(struct wave *wave, int64_t before, int64_t now, int64_t lineages) {
  if (before == TIME_UNSET || now < time_add(before, WAVE_ABSENCE_SECONDS)) return false;
  wave->away_since = before;
  wave->returned_at = now;
  wave->spread = time_min(time_min(now - before, WAVE_RETURN_LONGEST), lineages * WAVE_RETURN_EACH);
  return true;
}

/* ---- the budget of failures ---- */

static bool is_spent(const struct wave *wave) {
  const struct policy_limits *limits = &wave->limits;
  if (!limits->budget) return false;
  if (!limits->percent) return wave->failed > limits->failures;
  return wave->ended >= WAVE_SAMPLE_MIN && (uint64_t)wave->failed * 100 > (uint64_t)limits->failures * wave->ended;
}

static int tell(const char *kind, const char *reason, int64_t now, struct event_list *events, struct error *error) {
  static const struct lineage nobody;
  return event_list_add(events, &nobody, NULL, now, kind, reason, error);
}

static int stop(struct wave *wave, int64_t now, struct event_list *events, struct error *error) {
  char reason[WAVE_TEXT_MAX * 2 + 256], probe[TIME_TEXT_SIZE];
  time_format(time_add(now, WAVE_PROBE_FIRST), probe);
  snprintf(reason, sizeof reason,
           "wave stopped: %u of %u failed, more than the budget of %u%s; no domain begins anything new, what is under way goes on; the first: %s; "
           "`dkimroll release --wave` lets it go on, or one domain that succeeds at %s or later",
           wave->failed, wave->ended, wave->limits.failures, wave->limits.percent ? " per cent" : "", wave->first, probe);
  int result = tell("alarm", reason, now, events, error);
  if (result) return result;
  wave->stopped_at = now;
  wave->stopped_failed = wave->failed;
  wave->stopped_ended = wave->ended;
  wave->probe_at = time_add(now, WAVE_PROBE_FIRST);
  wave->probes = 0;
  return 0;
}

static int go_on(struct wave *wave, const char *kind, const char *reason, int64_t now, struct event_list *events, struct error *error) {
  int result = tell(kind, reason, now, events, error);
  if (result) return result;
  wave->stopped_at = wave->probe_at = TIME_UNSET;
  wave->stopped_failed = wave->stopped_ended = wave->probes = 0;
  count_anew(wave, now);
  return 0;
}

/* The states that a key on its way has before and after a step that is counted; false: it is no such step. */
static bool step_is_counted(enum plan_action action, enum key_state before, enum key_state *ret_after) {
  *ret_after = plan_action_target(action, before);
  return (action == PLAN_GENERATE && before == KEY_RESERVED) || (action == PLAN_PUBLISH && before == KEY_GENERATED) ||
         (action == PLAN_ACTIVATE && before == KEY_READY);
}

static int note_failure(struct wave *wave, const struct lineage *after, enum plan_action action, int64_t now, struct event_list *events,
                        bool *ret_changed, struct error *error) {
  wave->ended++;
  wave->failed++;
  if (!wave->first[0]) {
    wave->first_action = action;
    snprintf(wave->first, sizeof wave->first, "%s: %s", after->domain, after->failure ? after->failure : plan_action_name(action));
  }
  if (wave_is_stopped(wave) || !is_spent(wave)) return 0;
  *ret_changed = true;
  return stop(wave, now, events, error);
}

int wave_note(struct wave *wave, const struct lineage *before, const struct lineage *after, const struct outcome *outcome, int64_t now,
              struct event_list *events, bool *ret_changed, struct error *error) {
  char reason[DNS_NAME_TEXT_SIZE + 128];
  enum key_state target;
  *ret_changed = false;
  if (outcome->key >= before->key_count || outcome->key >= after->key_count) return 0;
  const struct key *was = &before->keys[outcome->key], *is = &after->keys[outcome->key];
  if (!step_is_counted(outcome->action, was->state, &target)) return 0;
  /* Lineages are counted, not their attempts: one that fails again has failed already. */
  const bool again = key_failed_at(was, outcome->action);
  if (is->state != target) return again ? 0 : note_failure(wave, after, outcome->action, now, events, ret_changed, error);
  wave->ended++;
  const bool probe = wave->probes > 0 || before->rotate_requested;
  if (!wave_is_stopped(wave) || !probe || (wave->first_action != PLAN_NONE && outcome->action != wave->first_action)) return 0;
  *ret_changed = true;
  snprintf(reason, sizeof reason, "the wave of rotations goes on: %s of %s succeeded", plan_action_name(outcome->action), after->domain);
  return go_on(wave, "healed", reason, now, events, error);
}

int wave_release(struct wave *wave, const char *who, int64_t now, struct event_list *events, bool *ret_changed, struct error *error) {
  char reason[WAVE_TEXT_MAX];
  *ret_changed = wave->stopped_at != TIME_UNSET;
  if (!*ret_changed) return 0;
  snprintf(reason, sizeof reason, "the wave of rotations goes on: released by %s", who);
  return go_on(wave, "released", reason, now, events, error);
}
