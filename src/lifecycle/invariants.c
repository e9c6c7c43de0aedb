#include "dkimroll/text.h"
#include "dkimroll/timing.h"

static size_t count_active(const struct lineage *lineage) {
  size_t count = 0;
  for (size_t i = 0; i < lineage->key_count; i++) count += lineage->keys[i].state == KEY_ACTIVE;
  return count;
}

static int refuse(const struct lineage *lineage, enum plan_action action, const struct key *key, const char *why,
                  struct error *error) {
  return error_set(error, ERROR_INTERNAL, "refused to %s %s of %s: %s (this is a defect of dkimroll)", plan_action_name(action),
                   key ? key->selector : "a key", lineage->domain, why);
}

/* An emergency waives I2 for the key that a person named, and I1 too only if that person asked for the end at once. */
static const char *forbids_giving_up(const struct key *key) {
  if (key->state < KEY_PUBLISHED || key->state > KEY_RETIRED) return "there is no record to be revoked";
  /* What is given up while it signs is compromised. */
  if (key->state == KEY_ACTIVE && !key->revoke_now) return "it signs, and nobody asked for its end at once";
  if (key->state == KEY_RETIRED && key->deleted_at != TIME_UNSET) return "its record was deleted";
  return NULL;
}

/* I1 and I2: the record that verifies a signature may go only after its window, and only while another key signs. Once it is revoked the window is history,
 * and a policy that asks for a longer one since, or a clock that was set back, brings nothing back. A key that never signed has no window. */
static const char *forbids_ending(const struct lineage *lineage, enum plan_action action, const struct key *key,
                                  const struct plan_clock *clock) {
  if (key->state == KEY_GENERATED && action == PLAN_DELETE) return NULL;
  /* What was revoked is said again: that ends nothing which has not ended. */
  if (key->state == KEY_REVOKED && action == PLAN_REVOKE) return key->deleted_at == TIME_UNSET ? NULL : "its record was deleted";
  if (action == PLAN_REVOKE && key_is_given_up(key)) return forbids_giving_up(key);
  if (key->state == KEY_REVOKED) return clock->attested ? NULL : "the clock is not attested";
  if (key->state != KEY_RETIRED) return "it is not retired";
  if (count_active(lineage) == 0) return "no other key signs";
  if (clock->now < timing_revoke(key, lineage->rules)) return "mail that it signed may still be verified";
  if (!clock->attested) return "the clock is not attested";
  return NULL;
}

/* I4: a private key goes only when nobody can want it any more. */
static bool has_other_user(const struct lineage *lineage, const struct key *key) {
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *other = &lineage->keys[i];
    if (other == key || other->state == KEY_REMOVED || other->absent_at != TIME_UNSET) continue;
    for (size_t j = 0; j < other->placement_count; j++)
      for (size_t k = 0; k < key->placement_count; k++)
        if (key->placements[k].key_path && text_equal(other->placements[j].key_path, key->placements[k].key_path)) return true;
  }
  return false;
}

static const char *forbids_destruction(const struct lineage *lineage, const struct key *key, const struct plan_clock *clock) {
  const bool begun = key->intent == PLAN_PUBLISH || key->intent == PLAN_DELETE;
  if (key->state == KEY_RESERVED) return NULL;
  if (key->state == KEY_GENERATED) return begun && key->deleted_at == TIME_UNSET ? "its record may be served" : NULL;
  if (key->state != KEY_RETIRED && key->state != KEY_REVOKED) return "it is not retired";
  if (key->deleted_at == TIME_UNSET || key->absent_at == TIME_UNSET) return "its record may still be served";
  for (size_t i = 0; i < key->placement_count; i++)
    if (key->placements[i].switched_at != TIME_UNSET && key->placements[i].drained_at == TIME_UNSET) return "a signer's tables name it";
  if (has_other_user(lineage, key)) return "another key has the same file";
  if (!clock->attested) return "the clock is not attested";
  return NULL;
}

/* I3: what is deleted or past its life is not published again, and never without knowing what. */
static const char *forbids_publication(const struct key *key) {
  const bool needed = key->state >= KEY_GENERATED && key->state <= KEY_RETIRED && key->state != KEY_READY;
  if (!needed) return "it is past publication";
  if (key->state == KEY_RETIRED && key->deleted_at != TIME_UNSET) return "it was deleted";
  if (key->state != KEY_ACTIVE && key->compromised_at != TIME_UNSET) return "it is compromised";
  return key->record ? NULL : "its record is not known";
}

static const char *forbids_activation(const struct lineage *lineage, const struct key *key, const struct plan_clock *clock) {
  if (key->state == KEY_ACTIVE) return NULL;
  if (key->state != KEY_READY) return "it is not ready";
  if (key_is_given_up(key)) return "it is compromised, or its private key is lost";
  if (!key->record) return "its record is not known";
  if (timing_right_since(key) == TIME_UNSET) return "not every server serves its record";
  if (clock->now < timing_ready(key, lineage->rules)) return "caches may say that its record does not exist";
  if (!clock->attested) return "the clock is not attested";
  return NULL;
}

/* I1: tables are pointed at a key only while every server serves its record. */
static const char *forbids_repair(const struct key *key) {
  if (key->state != KEY_ACTIVE) return "it is not active";
  return timing_right_since(key) == TIME_UNSET ? "not every server serves its record" : NULL;
}

/* F2: a connection that was open at the switch signs with the old tables until it ends. A key whose record is not served any more must not go on signing. */
static const char *forbids_withdrawal(const struct lineage *lineage, const struct key *key, const struct plan_clock *clock) {
  const bool unsigned_will_do = key->compromised_at != TIME_UNSET && key->revoke_now;
  const bool leaves = key->state == KEY_PUBLISHED || (key->state == KEY_READY && key_is_given_up(key));
  if (!leaves && key->state != KEY_RETIRED && key->state != KEY_REVOKED) return "it may sign";
  if (count_active(lineage) == 0 && !unsigned_will_do) return "no other key signs";
  if (leaves) return NULL;
  if (key->state == KEY_REVOKED) return NULL;
  if (clock->now < timing_last_signature(key, lineage->rules)) return "connections that were open at the switch may still sign with it";
  return clock->attested ? NULL : "the clock is not attested";
}

int invariant_permits(const struct lineage *lineage, enum plan_action action, size_t key_index, const struct plan_clock *clock,
                      struct error *error) {
  const struct key *key = key_index < lineage->key_count ? &lineage->keys[key_index] : NULL;
  const char *why = "there is no such step";
  if (!lineage->managed) return refuse(lineage, action, key, "the domain is not managed", error);
  if (!key) return action == PLAN_GENERATE || action == PLAN_ATTEST ? 0 : refuse(lineage, action, key, "there is no such key", error);
  switch (action) {
  case PLAN_GENERATE: why = key->state == KEY_RESERVED ? NULL : "it exists already"; break;
  case PLAN_PUBLISH: why = forbids_publication(key); break;
  case PLAN_ACTIVATE: why = forbids_activation(lineage, key, clock); break;
  case PLAN_WITHDRAW: why = forbids_withdrawal(lineage, key, clock); break;
  case PLAN_REVOKE:
  case PLAN_DELETE: why = forbids_ending(lineage, action, key, clock); break;
  case PLAN_DESTROY: why = forbids_destruction(lineage, key, clock); break;
  case PLAN_CHECK_FILES: why = key->state == KEY_READY || key->state == KEY_PUBLISHED ? NULL : "it does not wait to take over"; break;
  case PLAN_PROVE: why = key->state == KEY_ACTIVE ? NULL : "it is not active"; break;
  case PLAN_REPAIR: why = forbids_repair(key); break;
  case PLAN_NONE:
  case PLAN_READY:
  case PLAN_CONFIRM:
  case PLAN_CONFIRM_ABSENT:
  case PLAN_ATTEST: why = NULL; break;
  }
  return why ? refuse(lineage, action, key, why, error) : 0;
}

/* I1 is waived for a key whose end at once a person asked for. One was active before. */
static bool is_ended_at_once(const struct lineage *before, const struct lineage *after) {
  size_t i = 0;
  while (before->keys[i].state != KEY_ACTIVE) i++;
  if (i >= after->key_count) return false;
  const struct key *key = &after->keys[i];
  return key->state == KEY_REVOKED && key->compromised_at != TIME_UNSET && key->revoke_now;
}

int invariant_holds(const struct lineage *before, const struct lineage *after, struct error *error) {
  const size_t active = count_active(after);
  if (active > 1) return error_set(error, ERROR_INTERNAL, "%s would have %zu active keys (this is a defect of dkimroll)", after->domain, active);
  if (active == 0 && count_active(before) > 0 && !is_ended_at_once(before, after))
    return error_set(error, ERROR_INTERNAL, "%s would lose its active key (this is a defect of dkimroll)", after->domain);
  for (size_t i = 0; i < before->key_count; i++) {
    const struct key *old = &before->keys[i];
    const struct key *now = i < after->key_count ? &after->keys[i] : NULL;
    if (!now || !text_equal(old->selector, now->selector))
      return error_set(error, ERROR_INTERNAL, "%s would lose sight of %s (this is a defect of dkimroll)", after->domain, old->selector);
    if (now->state < old->state && !(old->state == KEY_READY && now->state == KEY_PUBLISHED))
      return error_set(error, ERROR_INTERNAL, "%s of %s would go back from %s to %s (this is a defect of dkimroll)", now->selector,
                       after->domain, key_state_name(old->state), key_state_name(now->state));
    if (now->revoke_at < old->revoke_at)
      return error_set(error, ERROR_INTERNAL, "the window of %s of %s would shrink (this is a defect of dkimroll)", now->selector, after->domain);
  }
  return 0;
}
