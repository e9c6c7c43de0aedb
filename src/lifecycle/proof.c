/* What proofs and repairs of an active key mean. Their failures are counted with the key and not with the lineage: a signer that is down must not hold back what is
 * done in DNS, and nothing that fails in DNS must keep a signer from being looked at. */
#include <stdio.h>
#include <stdlib.h>

#include "apply.h"
#include "dkimroll/text.h"
#include "dkimroll/timing.h"
#include "gates.h"

/* Each kind of trouble is one entry in the log for each signer, however often it is seen again. */
int proof_note(struct application *a, struct placement *placement, const struct placement_report *report, struct error *error) {
  char reason[DNS_NAME_TEXT_SIZE + 128];
  if (report->failure)
    return text_equal(placement->failure, report->failure) ? 0 : application_note(a, a->key, "alarm", report->failure, error);
  if (report->completed_at == 0 || placement->damage == DAMAGE_NONE) return 0;
  const bool repaired = a->outcome->action == PLAN_REPAIR;
  snprintf(reason, sizeof reason, "signer %s signs with it again%s", placement->signer->name, repaired ? ": what it reads was written again" : "");
  return application_note(a, a->key, repaired ? "healed" : "recovered", reason, error);
}

void proof_extend_windows(struct application *a, const struct policy_signer *signer, int64_t at) {
  for (size_t i = 0; i < a->lineage->key_count; i++) {
    struct key *key = &a->lineage->keys[i];
    if (key->state != KEY_RETIRED || key->deleted_at != TIME_UNSET) continue;
    for (size_t j = 0; j < key->placement_count; j++) {
      if (!placement_may_sign_at(key, j, signer)) continue;
      key->placements[j].drained_at = TIME_UNSET;
      key->retired_at = time_max(key->retired_at, at);
      key->revoke_at = timing_revoke(key, a->lineage->rules);
      failure_forget(a->lineage, key); /* what failed while the key was to end is not to be done now */
    }
  }
}

/* A withdrawal that lies ahead was stamped by a clock that has been set back since. The proof of now is the younger of the two, or else it would be asked for again
 * and again until the clock has come there. */
static void come_back(struct application *a, int64_t proved_at) {
  for (size_t i = 0; i < a->lineage->key_count; i++) {
    struct key *key = &a->lineage->keys[i];
    for (size_t j = 0; j < key->placement_count && key->state < KEY_ACTIVE; j++)
      if (key->placements[j].drained_at > a->now) key->placements[j].drained_at = proved_at;
  }
}

void proof_take(struct application *a, const struct placement_report *report, struct placement *placement) {
  if (report->completed_at == 0) {
    const bool proof = a->outcome->action == PLAN_PROVE;
    placement->damage = proof ? report->damage : DAMAGE_KEPT;
    if (placement->damaged_at == TIME_UNSET) placement->damaged_at = a->outcome->at;
    return;
  }
  const bool seen = placement_was_seen(a->key, (size_t)(placement - a->key->placements));
  /* Ahead of now it would be younger than every edit of the tables to come. */
  placement->proved_at = time_min(time_add(report->completed_at, -a->outcome->uncredited), a->now);
  placement->damage = DAMAGE_NONE;
  placement->damaged_at = TIME_UNSET;
  come_back(a, placement->proved_at);
  if (a->outcome->action == PLAN_REPAIR || !seen) proof_extend_windows(a, placement->signer, report->completed_at);
}

static bool is_damaged(const struct lineage *lineage, const struct key *key) {
  for (size_t i = 0; i < key->placement_count; i++)
    if (key->placements[i].damage != DAMAGE_NONE && placement_signs(lineage, key, i)) return true;
  return false;
}

static void put_off(struct application *a) {
  struct key *key = a->key;
  key->proof_failures++;
  key->proof_retry_at = time_add(a->now, timing_backoff(key->proof_failures, true, (uint64_t)a->lineage->id));
}

void proof_succeed(struct application *a) {
  /* One signer was mended, and another is still to be seen. */
  if (is_damaged(a->lineage, a->key)) {
    put_off(a);
    return;
  }
  proof_reset(a);
}

/* A proof that failed for the record alone says nothing about the signers. */
void proof_reset(struct application *a) {
  if (is_damaged(a->lineage, a->key)) return;
  a->key->proof_failures = 0;
  a->key->proof_retry_at = TIME_UNSET;
}

/* What could not be mended is looked at again before the next attempt: it may be something else by then. */
int proof_fail(struct application *a, struct error *error) {
  struct key *key = a->key;
  char text[ERROR_MESSAGE_MAX + ERROR_REMEDY_MAX + SELECTOR_SIZE + 64];
  put_off(a);
  if (a->outcome->action != PLAN_REPAIR || key->right_at == TIME_UNSET) return 0;
  failure_describe(PLAN_REPAIR, key, a->failure, text, sizeof text);
  for (size_t i = 0; i < key->placement_count; i++) {
    struct placement *placement = &key->placements[i];
    if (!placement_is_repairable(a->lineage, key, i)) continue;
    const struct placement_report report = {.failure = text};
    int result = proof_note(a, placement, &report, error);
    if (!result) result = application_replace_text(&placement->failure, text, error);
    if (result) return result;
    placement->damage = DAMAGE_KEPT;
  }
  return 0;
}

const char *proof_find_missing(const struct application *a) {
  const struct key *key = a->key;
  for (size_t i = 0; i < key->placement_count && a->outcome->action == PLAN_REPAIR; i++)
    if (placement_is_repairable(a->lineage, key, i))
      return "not every signer has said that its tables are written again";
  return a->outcome->placement_count > 0 ? NULL : "no signer was asked";
}
