/* Keys that others made come into a lineage here, and nowhere else. */
#include <stdlib.h>
#include <string.h>

#include "apply.h"
#include "dkimroll/text.h"
#include "dkimroll/timing.h"

bool key_is_adopted(const struct key *key) {
  return key->generated_at == TIME_UNSET && key->state >= KEY_PUBLISHED;
}

bool key_was_made(const struct key *key) {
  return key->generated_at != TIME_UNSET || key->active_at != TIME_UNSET || key->compromised_at != TIME_UNSET;
}

static int refuse(const struct lineage *lineage, const struct adoption *adoption, const char *why, struct error *error) {
  return error_set(error, ERROR_CONFLICT, "%s of %s cannot be adopted: %s", adoption->selector, lineage->domain, why);
}

/* What every key that was made here has by its way through the states, and this one must have from the start. */
static int check_adoption(struct lineage *lineage, const struct adoption *adoption, int64_t now, struct error *error) {
  const bool living = adoption->state != KEY_REMOVED;
  bool signs = false;
  if (adoption->place_count > KEY_PLACEMENTS_MAX || adoption->since > now)
    return error_set(error, ERROR_INTERNAL, "%s of %s: an adoption of a key from the future, or at too many places", adoption->selector,
                     lineage->domain);
  /* Where it is missing it is placed as at a signer that was added. */
  for (size_t i = 0; i < adoption->place_count; i++) signs |= adoption->places[i].named && adoption->places[i].signs;
  if (adoption->state < KEY_ACTIVE) return refuse(lineage, adoption, "a key that does not sign yet is not adopted", error);
  if (lineage_find_key(lineage, adoption->selector)) return refuse(lineage, adoption, "it is known already", error);
  if (adoption->state == KEY_ACTIVE && lineage_active_key(lineage)) return refuse(lineage, adoption, "another key is active", error);
  if (adoption->state == KEY_ACTIVE && !signs) return refuse(lineage, adoption, "no signer was seen to sign with it", error);
  if (adoption->state == KEY_ACTIVE && !adoption->record) return refuse(lineage, adoption, "its record is not known", error);
  if (living && !adoption->record && !adoption->unserved) return refuse(lineage, adoption, "its record is not known", error);
  return 0;
}

static int adopt_places(struct key *key, const struct adoption *adoption, int64_t now, struct error *error) {
  for (size_t i = 0; i < adoption->place_count && adoption->state != KEY_REMOVED; i++) {
    const struct adoption_place *place = &adoption->places[i];
    struct placement *placement = &key->placements[key->placement_count++];
    *placement = (struct placement){.signer_id = place->signer_id,
                                    .signer = place->signer,
                                    .file_made = place->key_path != NULL,
                                    .destroyed = place->key_path == NULL || place->keep_file,
                                    .switched_at = place->named ? adoption->since : TIME_UNSET,
                                    .proved_at = !place->named || adoption->state != KEY_ACTIVE ? TIME_UNSET : place->signs ? now : adoption->since - 1,
                                    .damaged_at = TIME_UNSET,
                                    .drained_at = TIME_UNSET};
    const int result = application_replace_text(&placement->key_path, place->key_path, error);
    if (result) return result;
  }
  return 0;
}

/* The moments that its states would have left. */
static void adopt_moments(struct key *key, const struct lineage *lineage, const struct adoption *adoption, int64_t now) {
  key->state_since = now;
  key->created_at = adoption->since;
  if (adoption->unserved && adoption->state != KEY_ACTIVE) key->deleted_at = now;
  if (adoption->state == KEY_REMOVED) {
    key->removed_at = now;
    return;
  }
  key->active_at = adoption->since;
  if (adoption->state == KEY_ACTIVE) {
    key->state_since = adoption->since;
    return;
  }
  key->retired_at = now;
  key->revoke_at = timing_revoke(key, lineage->rules);
  if (adoption->state == KEY_REVOKED) key->revoked_at = now;
}

static int adopt_facts(struct application *a, const struct adoption *adoption, struct error *error) {
  struct key *key = a->key;
  key->algorithm = adoption->algorithm;
  key->bits = adoption->bits;
  key->ttl = adoption->ttl;
  key->ttl_negative = adoption->ttl_negative;
  key->publisher_id = a->lineage->publisher_id;
  key->publisher = a->lineage->publisher;
  if (adoption->zone) text_copy(key->zone, sizeof key->zone, adoption->zone);
  if (adoption->owner) text_copy(key->owner, sizeof key->owner, adoption->owner);
  int result = application_replace_text(&key->record, adoption->record, error);
  if (!result) result = adopt_places(key, adoption, a->now, error);
  /* Looks at a record count from its deletion; before it there was none. */
  const bool watched = adoption->state == KEY_ACTIVE || (adoption->state == KEY_RETIRED && !adoption->unserved);
  if (!result && watched && adoption->sighting_count > 0) result = sightings_take(a, error);
  if (result || !watched) return result;
  key->right_at = timing_right_since(key);
  key->confirmed_at = key->right_at == TIME_UNSET ? TIME_UNSET : a->now;
  return 0;
}

static int note(struct application *a, const struct adoption *adoption, struct error *error) {
  const int result = application_note(a, a->key, "imported", adoption->reason, error);
  return result ? result : application_name_states(a, NULL, key_state_name(adoption->state), error);
}

int lifecycle_adopt(struct lineage *lineage, const struct adoption *adoption, int64_t now, struct event_list *events,
                    struct error *error) {
  char owner_name[DNS_NAME_TEXT_SIZE];
  int result = check_adoption(lineage, adoption, now, error);
  if (!result) result = selector_owner_name(adoption->selector, lineage->domain, owner_name, error);
  if (result) return result;
  if (strlen(adoption->selector) >= SELECTOR_SIZE)
    return error_set(error, ERROR_LIMIT, "selector %s of %s is longer than %d octets", adoption->selector, lineage->domain, SELECTOR_SIZE - 1);
  struct key *key = NULL;
  result = application_add_key(lineage, &key, error);
  if (result) return result;
  const struct outcome outcome = {.action = PLAN_CONFIRM,
                                  .at = now,
                                  .sightings = adoption->sightings,
                                  .sighting_count = adoption->sighting_count};
  struct application a = {.lineage = lineage, .key = key, .outcome = &outcome, .now = now, .events = events};
  key->id = adoption->id;
  text_copy(key->selector, sizeof key->selector, adoption->selector);
  text_copy(key->owner_name, sizeof key->owner_name, owner_name);
  key->state = adoption->state;
  result = adopt_facts(&a, adoption, error);
  if (!result) adopt_moments(key, lineage, adoption, now);
  if (!result) result = note(&a, adoption, error);
  if (result) {
    key_release(key);
    lineage->key_count--;
    return result;
  }
  if (adoption->state == KEY_ACTIVE && adoption->replace) lineage->rotate_requested = true;
  lineage->next_moment = now;
  /* What failed because another key signed is tried again at once. */
  if (adoption->state == KEY_ACTIVE) lineage_forget_failures(lineage);
  return 0;
}
