#include <string.h>

#include "dkimroll/text.h"
#include "dkimroll/timing.h"
#include "gates.h"

/* How urgent an action is when several keys of a lineage have one: first what brings or keeps a signature right, then tidying up. */
static unsigned action_urgency(enum plan_action action, const struct key *key) {
  const bool emergency = key && key->compromised_at != TIME_UNSET, revoked = key && key->state == KEY_REVOKED;
  /* A key that somebody else has is told to the world right after another one signs, and the look whether the world knows it follows, before anything is done for the
   * next. */
  if (emergency && (action == PLAN_REVOKE || action == PLAN_WITHDRAW)) action = PLAN_REPAIR;
  /* Whether another tombstone still stands concerns no mail. */
  if (revoked && action == PLAN_CONFIRM) action = emergency ? PLAN_READY : PLAN_CONFIRM_ABSENT;
  static const enum plan_action order[] = {PLAN_ACTIVATE, PLAN_REPAIR, PLAN_READY,    PLAN_GENERATE, PLAN_PUBLISH,        PLAN_CONFIRM, PLAN_PROVE,
                                           PLAN_CHECK_FILES, PLAN_ATTEST,   PLAN_WITHDRAW, PLAN_REVOKE, PLAN_DELETE,   PLAN_CONFIRM_ABSENT, PLAN_DESTROY};
  for (unsigned i = 0; i < sizeof order / sizeof order[0]; i++)
    if (order[i] == action) return i;
  return UINT32_MAX;
}

static void view_fill(const struct lineage *lineage, const struct plan_clock *clock, struct gate_view *ret_view) {
  *ret_view = (struct gate_view){.lineage = lineage, .clock = clock};
  for (size_t i = 0; i < lineage->key_count; i++) {
    if (lineage->keys[i].state == KEY_ACTIVE) ret_view->active = &lineage->keys[i];
    if (lineage->keys[i].state < KEY_ACTIVE && !key_is_leaving(lineage, &lineage->keys[i])) ret_view->coming++;
  }
}

/* What became of one step: all gates open, or the reasons why not. */
struct verdict {
  bool applies;
  bool only_attestation; /* the clock is all that is missing */
  int64_t opens;
  struct plan_reason reasons[PLAN_REASONS_MAX];
  size_t reason_count;
};

/* silent: nobody reads why a gate is closed. Making these sentences would take half of the time of planning. */
static void step_judge(const struct step *step, const struct gate_view *base, bool silent, struct verdict *ret_verdict) {
  struct gate_view of_step = *base, *const view = &of_step;
  view->action = step->action;
  ret_verdict->applies = true;
  ret_verdict->only_attestation = false;
  ret_verdict->opens = view->clock->now;
  ret_verdict->reason_count = 0;
  for (const struct gate *gate = step->gates; gate->test; gate++) {
    view->opens = ret_verdict->opens;
    struct plan_reason *reason = &ret_verdict->reasons[ret_verdict->reason_count];
    reason->gate = gate->name;
    reason->opens = TIME_NEVER;
    reason->silent = silent || gate->applies;
    reason->text[0] = '\0';
    if (gate->test(view, reason)) continue;
    if (gate->applies) {
      ret_verdict->applies = false;
      return;
    }
    /* Attestation is a step of its own (PLAN_ATTEST), taken when the other gates are open: it puts the moment off by nothing. Where the publisher has nobody to
     * ask it is a wait for the kernel, like any other. */
    const bool attestation = text_equal(gate->name, "clock_attested") && policy_publisher_attests(view->lineage->publisher);
    if (!attestation) ret_verdict->opens = time_max(ret_verdict->opens, reason->opens);
    ret_verdict->only_attestation = ret_verdict->reason_count == 0 && attestation;
    ret_verdict->reason_count++;
  }
}

/* Takes step into plan if it can be done now and nothing was found before, or notes when it opens and, of the first step that applies, why not yet. */
static void plan_step(const struct step *step, const struct gate_view *view, struct plan *plan) {
  struct verdict verdict;
  if (plan->action != PLAN_NONE) return;
  step_judge(step, view, plan->waiting != PLAN_NONE, &verdict);
  if (!verdict.applies) return;
  if (verdict.reason_count == 0 || verdict.only_attestation) {
    plan->action = plan->waiting = verdict.reason_count == 0 ? step->action : PLAN_ATTEST;
    plan->next = view->clock->now;
    plan->reason_count = 0;
    return;
  }
  /* A closed gate whose moment is over waits for another step (a look at the servers, say), which has a moment of its own. */
  if (verdict.opens > view->clock->now) plan->next = time_min(plan->next, verdict.opens);
  if (plan->waiting != PLAN_NONE) return;
  plan->waiting = step->action;
  plan->reason_count = verdict.reason_count;
  memcpy(plan->reasons, verdict.reasons, verdict.reason_count * sizeof verdict.reasons[0]);
}

bool plan_step_exists(enum key_state state, enum plan_action action) {
  for (size_t i = 0; i < plan_step_count; i++)
    if (plan_steps[i].state == state && plan_steps[i].action == action) return true;
  return false;
}

bool plan_step_applies(const struct lineage *lineage, size_t key, enum plan_action action, int64_t now) {
  const struct plan_clock clock = {.now = now, .attested = true};
  struct gate_view view;
  view_fill(lineage, &clock, &view);
  view.key = &lineage->keys[key];
  for (size_t i = 0; i < plan_step_count; i++) {
    struct verdict verdict;
    if (plan_steps[i].state != view.key->state || plan_steps[i].action != action) continue;
    step_judge(&plan_steps[i], &view, true, &verdict);
    if (verdict.applies) return true;
  }
  return false;
}

static void plan_one(const struct lineage *lineage, size_t key, const struct gate_view *base, struct plan *ret_plan) {
  struct gate_view view = *base;
  ret_plan->action = ret_plan->waiting = PLAN_NONE;
  ret_plan->key = key;
  ret_plan->next = TIME_NEVER;
  ret_plan->reason_count = 0;
  if (key >= lineage->key_count) {
    plan_step(&plan_new_key, &view, ret_plan);
  } else {
    view.key = &lineage->keys[key];
    for (size_t i = 0; i < plan_step_count; i++)
      if (plan_steps[i].state == view.key->state) plan_step(&plan_steps[i], &view, ret_plan);
  }
  ret_plan->needs_person = ret_plan->action == PLAN_NONE && ret_plan->waiting != PLAN_NONE && ret_plan->next == TIME_NEVER;
}

void plan_key(const struct lineage *lineage, size_t key, const struct plan_clock *clock, struct plan *ret_plan) {
  struct gate_view view;
  view_fill(lineage, clock, &view);
  plan_one(lineage, key, &view, ret_plan);
}

static unsigned plan_urgency(const struct lineage *lineage, const struct plan *plan) {
  const struct key *key = plan->key < lineage->key_count ? &lineage->keys[plan->key] : NULL;
  return action_urgency(plan->action, key);
}

void plan_lineage(const struct lineage *lineage, const struct plan_clock *clock, struct plan *ret_plan) {
  struct gate_view view;
  struct plan candidate;
  view_fill(lineage, clock, &view);
  plan_one(lineage, lineage->key_count, &view, ret_plan);
  for (size_t i = 0; i < lineage->key_count; i++) {
    plan_one(lineage, i, &view, &candidate);
    const int64_t next = time_min(ret_plan->next, candidate.next);
    const bool sooner = candidate.next < ret_plan->next; /* than a plan without action: the moment of an action is now, and none is before */
    if (plan_urgency(lineage, &candidate) < plan_urgency(lineage, ret_plan) || sooner) *ret_plan = candidate;
    ret_plan->next = next;
  }
  /* The end of a hold is told even where nothing waited for it. */
  if (lineage->held && lineage->hold_until > clock->now) ret_plan->next = time_min(ret_plan->next, lineage->hold_until);
}
