/* Which step failed is part of the failure's text, which the store keeps: a success of another step must not be taken for its recovery, and what fails
 * while old keys are tidied up must not hold back the keys that sign. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/text.h"
#include "gates.h"

void failure_describe(enum plan_action action, const struct key *key, const struct error *error, char *buffer, size_t size) {
  snprintf(buffer, size, "%s%s%s: %s%s%s", plan_action_name(action), key ? " of " : "", key ? key->selector : "", error->message,
           error->remedy[0] ? "; " : "", error->remedy);
}

/* The rest of text behind word; NULL if it begins otherwise. */
static const char *skip(const char *text, const char *word) {
  return text && text_starts(text, word) ? text + strlen(word) : NULL;
}

bool key_failed_at(const struct key *key, enum plan_action action) {
  const char *rest = key->failures > 0 ? skip(key->failure, plan_action_name(action)) : NULL;
  if (rest) rest = skip(rest, " of ");
  if (rest) rest = skip(rest, key->selector);
  return rest && rest[0] == ':';
}

bool action_is_look(enum plan_action action) { return action == PLAN_CONFIRM || action == PLAN_CONFIRM_ABSENT; }

bool key_failed_at_look(const struct key *key) { return key_failed_at(key, PLAN_CONFIRM) || key_failed_at(key, PLAN_CONFIRM_ABSENT); }

void key_forget_look_failure(struct key *key) {
  key->look_failures = 0;
  key->look_retry_at = TIME_UNSET;
}

void key_forget_failure(struct key *key) {
  key->failures = 0;
  key->retry_at = TIME_UNSET;
  free(key->failure);
  key->failure = NULL;
}

void failure_forget_shown(struct lineage *lineage) {
  lineage->failures = 0;
  lineage->retry_at = lineage->parked_at = TIME_UNSET;
  free(lineage->failure);
  lineage->failure = NULL;
}

void failure_forget(struct lineage *lineage, struct key *key) {
  if (failure_key(lineage) == key) failure_forget_shown(lineage);
  key_forget_failure(key);
}

void lineage_forget_failures(struct lineage *lineage) {
  for (size_t i = 0; i < lineage->key_count; i++) {
    key_forget_failure(&lineage->keys[i]);
    key_forget_look_failure(&lineage->keys[i]);
  }
  failure_forget_shown(lineage);
}

const struct key *failure_key(const struct lineage *lineage) {
  const char *failure = lineage->failures > 0 ? lineage->failure : NULL;
  const char *selector = failure ? skip(failure + strcspn(failure, ": "), " of ") : NULL;
  const size_t size = selector ? strcspn(selector, ":") : 0;
  for (size_t i = 0; i < lineage->key_count && selector; i++) {
    const struct key *key = &lineage->keys[i];
    if (key->state != KEY_REMOVED && strlen(key->selector) == size && strncmp(key->selector, selector, size) == 0) return key;
  }
  return NULL;
}

/* A generation that came to nothing leaves no key behind, and matters until one was made. */
static bool generation_matters(const struct lineage *lineage) {
  if (!skip(lineage->failure, plan_action_name(PLAN_GENERATE))) return false;
  for (size_t i = 0; i < lineage->key_count; i++)
    if (lineage->keys[i].state == KEY_GENERATED) return false;
  return true;
}

bool key_failure_matters(const struct lineage *lineage, const struct key *key, int64_t now) {
  for (size_t i = 0; i < plan_step_count; i++)
    if (plan_steps[i].state == key->state && key_failed_at(key, plan_steps[i].action))
      return plan_step_applies(lineage, (size_t)(key - lineage->keys), plan_steps[i].action, now);
  return false;
}

bool key_hides_looks(const struct lineage *lineage, const struct key *key, int64_t now) { return !key_failed_at_look(key) && key_failure_matters(lineage, key, now); }

bool failure_matters(const struct lineage *lineage) {
  const struct key *key = failure_key(lineage);
  if (!key) return lineage->failures > 0 && generation_matters(lineage);
  return key->failures > 0;
}
