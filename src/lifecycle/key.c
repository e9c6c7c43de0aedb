/* What can be said of a key by itself: is it wanted, is it leaving, where is it. */
#include "dkimroll/text.h"
#include "gates.h"

bool key_is_lost(const struct key *key) {
  if (key->state != KEY_READY && key->state != KEY_PUBLISHED) return false;
  size_t made = 0;
  for (size_t i = 0; i < key->placement_count; i++) made += key->placements[i].file_made;
  return made > 0 && !key_find_file(key, NULL);
}

const struct key *lineage_ended_key(const struct lineage *lineage) {
  const struct key *last = NULL;
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *key = &lineage->keys[i];
    if (key->state == KEY_ACTIVE) return NULL;
    if (key->state == KEY_REVOKED && key->revoke_now && key->active_at != TIME_UNSET && (!last || key->revoked_at > last->revoked_at)) last = key;
  }
  return last;
}

bool key_is_exposed(const struct key *key) {
  return key->state == KEY_REVOKED && key->compromised_at != TIME_UNSET && key->right_at == TIME_UNSET;
}

bool key_is_given_up(const struct key *key) { return key->compromised_at != TIME_UNSET || key_is_lost(key); }

const struct key *lineage_standby_key(const struct lineage *lineage) {
  const struct key *first = NULL;
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *key = &lineage->keys[i];
    if (key->state == KEY_READY && !key_is_given_up(key) && (!first || key->ready_at < first->ready_at)) first = key;
  }
  return first;
}

bool key_is_wanted(const struct lineage *lineage, const struct key *key) {
  const struct policy_key *rule = lineage_rule(lineage);
  return rule && key->compromised_at == TIME_UNSET && rule->algorithm == key->algorithm && rule->bits == key->bits;
}

bool key_is_leaving(const struct lineage *lineage, const struct key *key) {
  if (key->state == KEY_PUBLISHED || key->state == KEY_READY) return key_is_given_up(key);
  return key->state >= KEY_RETIRED || (key->state <= KEY_GENERATED && !key_is_wanted(lineage, key));
}

/* A publication whose reply was lost may have been done all the same, and so may one that was refused for something else. */
bool key_may_be_served(const struct key *key) {
  const bool begun = key->intent == PLAN_PUBLISH || key->intent == PLAN_DELETE;
  return begun && key->deleted_at == TIME_UNSET;
}

static bool share_file(const struct key *a, const struct key *b) {
  for (size_t i = 0; i < a->placement_count; i++)
    for (size_t j = 0; j < b->placement_count; j++)
      if (a->placements[i].key_path && text_equal(a->placements[i].key_path, b->placements[j].key_path)) return true;
  return false;
}

/* Two keys that are both at their end do not wait for one another. */
const struct key *key_sharing_file(const struct lineage *lineage, const struct key *key) {
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *other = &lineage->keys[i];
    const bool ended = other->state == KEY_REMOVED || other->absent_at != TIME_UNSET;
    if (other != key && !ended && share_file(key, other)) return other;
  }
  return NULL;
}

/* A signer of the same name with other tables is another place: what is named there does not sign here. */
bool placement_serves(const struct placement *placement, const struct policy_signer *signer) {
  return text_equal(placement->signer->name, signer->name) && text_equal(placement->signer->key_table, signer->key_table) &&
         text_equal(placement->signer->signing_table, signer->signing_table);
}

bool key_is_placed(const struct lineage *lineage, const struct key *key) {
  for (size_t i = 0; i < lineage->signer_count; i++) {
    bool proved = false;
    for (size_t j = 0; j < key->placement_count; j++)
      proved |= placement_serves(&key->placements[j], lineage->signers[i]) && key->placements[j].proved_at != TIME_UNSET;
    if (!proved) return false;
  }
  return lineage->signer_count > 0;
}

/* Import stamps a place that it could not ask with a moment before the key is said to sign there. */
bool placement_was_seen(const struct key *key, size_t i) {
  const struct placement *placement = &key->placements[i];
  return placement->proved_at != TIME_UNSET && !(key_is_adopted(key) && placement->proved_at < placement->switched_at);
}

bool key_was_seen_at(const struct key *key, const struct policy_signer *signer) {
  for (size_t i = 0; i < key->placement_count; i++)
    if (placement_serves(&key->placements[i], signer) && placement_was_seen(key, i)) return true;
  return false;
}

/* What import found as a file alone, a signer may name all the same until it reads its tables again. */
bool placement_may_sign_at(const struct key *key, size_t i, const struct policy_signer *signer) {
  return placement_serves(&key->placements[i], signer) && (key->placements[i].switched_at != TIME_UNSET || key_is_adopted(key));
}

bool key_may_sign_at(const struct key *key, const struct policy_signer *signer) {
  for (size_t i = 0; i < key->placement_count; i++)
    if (placement_may_sign_at(key, i, signer)) return true;
  return false;
}

bool placement_is_current(const struct lineage *lineage, const struct placement *placement) {
  for (size_t i = 0; i < lineage->signer_count; i++)
    if (placement_serves(placement, lineage->signers[i])) return true;
  return false;
}

static bool is_file_damage(enum placement_damage damage) { return damage == DAMAGE_FILE_MISSING || damage == DAMAGE_FILE_OTHER; }

const char *key_find_file(const struct key *key, const char *path) {
  for (size_t i = 0; i < key->placement_count; i++) {
    const struct placement *placement = &key->placements[i];
    const bool good = placement->file_made && !placement->destroyed && !is_file_damage(placement->damage);
    if (good && (!path || text_equal(path, placement->key_path))) return placement->key_path;
  }
  return NULL;
}

/* A successor that was switched there and not everywhere. */
static bool is_overtaken(const struct lineage *lineage, const struct placement *placement) {
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *key = &lineage->keys[i];
    for (size_t j = 0; j < key->placement_count && key->state < KEY_ACTIVE; j++)
      if (placement_is_named(&key->placements[j]) && placement_serves(&key->placements[j], placement->signer)) return true;
  }
  return false;
}

bool placement_signs(const struct lineage *lineage, const struct key *key, size_t i) {
  const struct placement *placement = &key->placements[i];
  return placement->proved_at != TIME_UNSET && placement_is_current(lineage, placement) && !is_overtaken(lineage, placement);
}

bool placement_is_repairable(const struct lineage *lineage, const struct key *key, size_t i) {
  const struct placement *placement = &key->placements[i];
  if (!placement->key_path || !placement_signs(lineage, key, i)) return false;
  if (placement->damage != DAMAGE_FILE_MISSING) return placement->damage == DAMAGE_TABLES;
  return !key_find_file(key, placement->key_path) && key_find_file(key, NULL);
}

bool key_is_broken(const struct lineage *lineage, const struct key *key) {
  if (key->contested_at != TIME_UNSET || key->compromised_at != TIME_UNSET) return true;
  for (size_t i = 0; i < key->placement_count; i++) {
    const struct placement *placement = &key->placements[i];
    const bool lost = (is_file_damage(placement->damage) || (placement->damage == DAMAGE_TABLES && !placement->key_path)) && placement_signs(lineage, key, i);
    if (lost && !placement_is_repairable(lineage, key, i)) return true;
  }
  return false;
}

bool lineage_is_urgent(const struct lineage *lineage) {
  bool has_signed = false;
  for (size_t i = 0; i < lineage->key_count; i++) {
    if (lineage->keys[i].state == KEY_ACTIVE) return key_is_broken(lineage, &lineage->keys[i]);
    has_signed |= lineage->keys[i].active_at != TIME_UNSET;
  }
  return has_signed;
}

bool placement_is_named(const struct placement *placement) {
  return placement->switched_at != TIME_UNSET && placement->drained_at == TIME_UNSET;
}
