#include <stdio.h>

#include "dkimroll/status.h"
#include "dkimroll/text.h"
#include "dkimroll/timing.h"

const char *status_server_name(const char *host, const char *address, char buffer[STATUS_SERVER_MAX]) {
  if (text_equal(host, address))
    text_copy(buffer, STATUS_SERVER_MAX, address);
  else
    snprintf(buffer, STATUS_SERVER_MAX, "%s (%s)", host, address);
  return buffer;
}

const char *status_state_name(const struct lineage *lineage, const struct key *key) {
  static const char *const compromised[] = {"compromised",         "compromised",          "published (compromised)", "ready (compromised)",
                                            "active (compromised)", "retired (compromised)", "revoked (compromised)"};
  if (key->compromised_at != TIME_UNSET && key->state < KEY_REMOVED) return compromised[key->state];
  if (key->state != KEY_READY) return key_state_name(key->state);
  if (key_is_lost(key)) return "ready (lost)";
  return lineage->rules->standby > 0 || lineage->rules->rotate_every == TIME_NEVER ? "ready (standby)" : key_state_name(key->state);
}

static bool is_round(enum plan_action action) {
  return action == PLAN_CONFIRM || action == PLAN_CONFIRM_ABSENT || action == PLAN_CHECK_FILES;
}

/* dkimroll asks for attestation itself when a step is due, so that it is no moment's wait. */
static bool is_attestation(const struct plan_reason *reason) {
  return text_equal(reason->gate, "clock_attested");
}

static void take_plan(const struct plan *plan, int64_t now, struct status_step *step) {
  *step = (struct status_step){.action = plan->waiting == PLAN_NONE ? "-" : plan_action_name(plan->waiting),
                               .at = plan->waiting == PLAN_NONE ? TIME_NEVER : now,
                               .reason_count = plan->reason_count};
  for (size_t i = 0; i < plan->reason_count; i++) {
    step->reasons[i] = plan->reasons[i];
    if (!is_attestation(&plan->reasons[i])) step->at = time_max(step->at, plan->reasons[i].opens);
  }
}

/* A round of observation that is due hides what it is about. As of the last one it was not due, and the planner said what it waits for. */
static void look_behind_round(const struct lineage *lineage, size_t key, const struct plan_clock *clock,
                              struct plan *plan) {
  const int64_t observed = timing_observed_at(&lineage->keys[key]);
  struct plan before;
  if (observed == TIME_UNSET || observed > clock->now) return;
  plan_key(lineage, key, &(struct plan_clock){.wave = clock->wave, .now = observed, .attested = clock->attested, .skip_watch = true},
           &before);
  if (before.waiting != PLAN_NONE && !is_round(before.waiting)) *plan = before;
}

/* The record is deleted: the way on is free when the last server is seen without it. */
static void take_absence(const struct key *key, struct status_step *step) {
  struct plan_reason *reason = &step->reasons[0];
  char server[STATUS_SERVER_MAX];
  *step = (struct status_step){.action = plan_action_name(PLAN_DESTROY), .at = TIME_NEVER, .reason_count = 1};
  *reason = (struct plan_reason){.gate = "absent", .opens = TIME_NEVER};
  snprintf(reason->text, sizeof reason->text, "not every server was seen without the record yet");
  for (size_t i = 0; i < key->sighting_count; i++) {
    const struct sighting *seen = &key->sightings[i];
    if (timing_sighting_counts(key, i) || seen->seen_at < key->deleted_at) continue;
    snprintf(reason->text, sizeof reason->text, "%.130s still answers: %.100s",
             status_server_name(seen->host, seen->address, server), seen->answer);
    return;
  }
}

/* The key that will take over: the one that has come furthest. */
static size_t find_successor(const struct lineage *lineage) {
  size_t successor = lineage->key_count;
  for (size_t i = 0; i < lineage->key_count; i++) {
    const enum key_state state = lineage->keys[i].state;
    if (state < KEY_ACTIVE && !key_is_given_up(&lineage->keys[i]) && (successor == lineage->key_count || state > lineage->keys[successor].state))
      successor = i;
  }
  return successor;
}

static void take_succession(const struct lineage *lineage, const struct plan_clock *clock, struct status_step *step) {
  const size_t successor = find_successor(lineage);
  struct plan plan;
  if (successor == lineage->key_count) {
    plan_key(lineage, successor, clock, &plan);
    take_plan(&plan, clock->now, step);
    return;
  }
  struct status_step its;
  status_next_step(lineage, successor, clock, &its);
  /* Only the last of its steps says when. */
  const bool last = its.action == plan_action_name(PLAN_ACTIVATE);
  *step = (struct status_step){.action = "retire", .at = last ? its.at : TIME_NEVER, .reason_count = 1};
  step->reasons[0] = (struct plan_reason){.gate = "successor", .opens = step->at};
  snprintf(step->reasons[0].text, sizeof step->reasons[0].text, "%s takes over", lineage->keys[successor].selector);
}

void status_next_step(const struct lineage *lineage, size_t key, const struct plan_clock *clock,
                      struct status_step *ret_step) {
  struct plan plan;
  /* The attestation before a round belongs to the round; `status` has a line of its own for a clock that nobody vouches for. */
  const struct plan_clock attested = {.now = clock->now, .attested = true, .skip_watch = clock->skip_watch};
  if (key < lineage->key_count && lineage->keys[key].state == KEY_PUBLISHED) clock = &attested;
  plan_key(lineage, key, clock, &plan);
  if (key < lineage->key_count) {
    const struct key *it = &lineage->keys[key];
    if (it->state == KEY_ACTIVE && (plan.waiting == PLAN_NONE || is_round(plan.waiting))) {
      take_succession(lineage, clock, ret_step);
      return;
    }
    if (is_round(plan.waiting) && it->deleted_at != TIME_UNSET) {
      take_absence(it, ret_step);
      return;
    }
    if (is_round(plan.action)) look_behind_round(lineage, key, clock, &plan);
  }
  take_plan(&plan, clock->now, ret_step);
}

size_t status_row_count(const struct lineage *lineage) {
  for (size_t i = 0; i < lineage->key_count; i++)
    if (lineage->keys[i].state <= KEY_ACTIVE) return lineage->key_count;
  return lineage->key_count + 1;
}

static int64_t reason_weight(const struct plan_reason *reason) {
  return is_attestation(reason) ? TIME_UNSET : reason->opens;
}

const char *status_step_reason(const struct status_step *step) {
  const struct plan_reason *matters = NULL;
  for (size_t i = 0; i < step->reason_count; i++)
    if (!matters || reason_weight(&step->reasons[i]) > reason_weight(matters)) matters = &step->reasons[i];
  return matters ? matters->text : "";
}
