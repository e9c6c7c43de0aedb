#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apply.h"
#include "dkimroll/text.h"
#include "dkimroll/timing.h"
#include "gates.h"

static const struct policy_signer *find_signer(const struct lineage *lineage, int64_t signer_id) {
  for (size_t i = 0; i < lineage->signer_count; i++)
    if (lineage->signer_ids[i] == signer_id) return lineage->signers[i];
  return NULL;
}

static bool is_made_elsewhere(const struct key *key, size_t placement) {
  for (size_t i = 0; i < key->placement_count; i++) {
    const struct placement *other = &key->placements[i];
    const bool made = i != placement && other->file_made && !other->destroyed;
    if (made && text_equal(other->key_path, key->placements[placement].key_path)) return true;
  }
  return false;
}

/* Nothing is left to be undone there: no table names the key, and no file lies there that another placement does not account for. */
static bool is_spent(const struct key *key, size_t placement) {
  const struct placement *it = &key->placements[placement];
  return !placement_is_named(it) && (!it->file_made || it->destroyed || is_made_elsewhere(key, placement));
}

static bool is_same_place(const struct placement *placement, const struct policy_signer *signer, const char *path) {
  return placement->signer && placement_serves(placement, signer) && text_equal(placement->key_path, path);
}

/* Where a report of a signer goes that the key does not know by its row. A signer whose entry in the policy was edited has another row, and is the same
 * place as long as tables and file are; otherwise the old place has to be undone one day, and a new one is added. key->placement_count: append. */
static size_t choose_place(const struct application *a, const struct policy_signer *signer, const char *path) {
  const struct key *key = a->key;
  for (size_t i = 0; i < key->placement_count; i++)
    if (is_same_place(&key->placements[i], signer, path)) return i;
  for (size_t i = 0; i < key->placement_count; i++)
    if (!find_signer(a->lineage, key->placements[i].signer_id) && is_spent(key, i)) return i;
  return key->placement_count;
}

static void clear_placement(struct placement *placement) {
  free(placement->key_path);
  free(placement->failure);
  *placement = (struct placement){
      .switched_at = TIME_UNSET, .proved_at = TIME_UNSET, .damaged_at = TIME_UNSET, .drained_at = TIME_UNSET};
}

static int add_placement(struct application *a, const struct placement_report *report, struct placement **ret, struct error *error) {
  struct key *key = a->key;
  const struct policy_signer *signer = find_signer(a->lineage, report->signer_id);
  if (!signer) return error_set(error, ERROR_INTERNAL, "%s: a report of a signer that the domain does not have", a->lineage->domain);
  char *path = NULL;
  int result = report->key_path ? application_replace_text(&path, report->key_path, error)
                                : policy_signer_key_path(signer, a->lineage->domain, key->selector, &path, error);
  if (result) return result;
  const size_t place = choose_place(a, signer, path);
  if (place == KEY_PLACEMENTS_MAX) {
    free(path);
    return error_set(error, ERROR_LIMIT, "%s is at %d places of its signers, the most that are kept", key->selector, KEY_PLACEMENTS_MAX);
  }
  struct placement *placement = &key->placements[place];
  if (place == key->placement_count) {
    *placement = (struct placement){0};
    key->placement_count++;
  }
  if (!is_same_place(placement, signer, path)) clear_placement(placement);
  free(placement->key_path);
  placement->key_path = path;
  placement->signer_id = report->signer_id;
  placement->signer = signer;
  *ret = placement;
  return 0;
}

static void take_done(enum plan_action action, enum key_state state, const struct placement_report *report, struct placement *placement) {
  const bool done = report->completed_at != 0;
  const bool switches = action == PLAN_ACTIVATE || action == PLAN_REPAIR;
  if (switches && report->switched_at != 0) {
    placement->switched_at = report->switched_at;
    placement->drained_at = TIME_UNSET; /* named again, whatever was withdrawn before */
  }
  if (!done) return;
  if (action == PLAN_GENERATE || switches) placement->file_made = true;
  if (action == PLAN_ACTIVATE) placement->proved_at = report->completed_at;
  if (action == PLAN_WITHDRAW) placement->drained_at = report->completed_at;
  /* A key that took over too early is to be proved anew when its time comes. */
  if (action == PLAN_WITHDRAW && state < KEY_ACTIVE) placement->proved_at = TIME_UNSET;
  if (action == PLAN_DESTROY) placement->destroyed = true;
}

/* Has it been seen to sign with the key that is active? Else it may sign with what its tables said when it last read them. */
static bool is_seen_to_sign(struct lineage *lineage, const struct policy_signer *signer) {
  const struct key *active = lineage_active_key(lineage);
  return active && key_was_seen_at(active, signer);
}

int placements_take(struct application *a, struct error *error) {
  for (size_t i = 0; i < a->outcome->placement_count; i++) {
    const struct placement_report *report = &a->outcome->placements[i];
    struct placement *placement = NULL;
    for (size_t j = 0; j < a->key->placement_count; j++)
      if (a->key->placements[j].signer_id == report->signer_id) placement = &a->key->placements[j];
    const bool proof = a->outcome->action == PLAN_PROVE || a->outcome->action == PLAN_REPAIR;
    int result = placement ? 0 : add_placement(a, report, &placement, error);
    if (!result && proof) result = proof_note(a, placement, report, error);
    if (!result && a->outcome->action == PLAN_CHECK_FILES) result = emergency_take_file(a, placement, report, error);
    if (!result) result = application_replace_text(&placement->failure, report->failure, error);
    if (result) return result;
    const bool switches = a->outcome->action == PLAN_ACTIVATE && report->completed_at != 0;
    if (switches && !is_seen_to_sign(a->lineage, placement->signer)) proof_extend_windows(a, placement->signer, report->completed_at);
    take_done(a->outcome->action, a->key->state, report, placement);
    if (proof) proof_take(a, report, placement);
  }
  return 0;
}

static int give_up_one(struct application *a, size_t index, struct error *error) {
  struct key *key = a->key;
  struct placement *placement = &key->placements[index];
  char reason[2048];
  snprintf(reason, sizeof reason,
           "signer %s is not one of the domain any more and could not be cleaned up: %s; look into %s and %s for lines that name %s, then "
           "remove %s",
           placement->signer->name, placement->failure, placement->signer->key_table, placement->signer->signing_table, key->selector,
           placement->key_path);
  int result = application_note(a, key, "alarm", reason, error);
  if (result) return result;
  clear_placement(placement);
  key->placement_count--;
  memmove(placement, placement + 1, (key->placement_count - index) * sizeof *placement);
  return 0;
}

int placements_give_up(struct application *a, struct error *error) {
  const bool undoes = a->outcome->action == PLAN_WITHDRAW || a->outcome->action == PLAN_DESTROY;
  const bool for_good = undoes && (!a->failure->retryable || a->key->failures >= TIMING_FAILURES_PARK);
  for (size_t i = for_good ? a->key->placement_count : 0; i-- > 0;) {
    if (!a->key->placements[i].failure || placement_is_current(a->lineage, &a->key->placements[i])) continue;
    int result = give_up_one(a, i, error);
    if (result) return result;
  }
  return 0;
}

int placements_reserve(const struct lineage *lineage, struct key *key, struct error *error) {
  for (size_t i = 0; i < lineage->signer_count; i++) {
    struct placement *placement = &key->placements[i];
    *placement = (struct placement){.signer_id = lineage->signer_ids[i],
                                    .signer = lineage->signers[i],
                                    .switched_at = TIME_UNSET,
                                    .proved_at = TIME_UNSET,
                                    .damaged_at = TIME_UNSET,
                                    .drained_at = TIME_UNSET};
    key->placement_count = i + 1;
    int result = policy_signer_key_path(lineage->signers[i], lineage->domain, key->selector, &placement->key_path, error);
    if (result) return result;
  }
  return 0;
}
