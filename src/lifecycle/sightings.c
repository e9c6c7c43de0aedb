#include <stdio.h>
#include <stdlib.h>

#include "apply.h"
#include "dkimroll/text.h"
#include "dkimroll/timing.h"

static const struct sighting *old_sighting(const struct key *key, const struct sighting_report *report) {
  for (size_t i = 0; i < key->sighting_count; i++)
    if (text_equal(key->sightings[i].address, report->address) && text_equal_nocase(key->sightings[i].host, report->host))
      return &key->sightings[i];
  return NULL;
}

static void merge_sighting(const struct application *a, const struct sighting_report *report, struct sighting *ret) {
  const struct sighting *old = old_sighting(a->key, report);
  *ret = old ? *old : (struct sighting){.right_since = TIME_UNSET, .last_wrong_at = TIME_UNSET};
  text_copy(ret->host, sizeof ret->host, report->host);
  text_copy(ret->address, sizeof ret->address, report->address);
  text_copy(ret->answer, sizeof ret->answer, report->answer ? report->answer : "");
  ret->no_route = report->no_route;
  ret->seen_at = report->at;
  ret->right = report->right;
  if (!report->right) {
    ret->right_since = TIME_UNSET;
    ret->count = 0;
    if (!report->no_route) ret->last_wrong_at = report->at;
    return;
  }
  /* A right_since in the future was stamped by a clock that has been set back since: the wait starts anew. One that nobody vouched for is only the beginning of
   * the wait until a look by an attested clock: a clock that is set right later would have waited all the time by which it was wrong. */
  const bool provisional = ret->right_since != TIME_UNSET && ret->count == 0;
  if (ret->right_since == TIME_UNSET || ret->right_since > report->at || provisional) ret->right_since = report->at;
  if (a->outcome->unattested && ret->count == 0) return;
  /* A second answer within the same interval says nothing new. */
  if (!old || old->count == 0 || report->at - old->seen_at >= a->lineage->rules->confirm_every) ret->count++;
}

static void take_facts(const struct application *a, const struct sighting_report *report) {
  struct key *key = a->key;
  const bool absence = a->outcome->action == PLAN_CONFIRM_ABSENT;
  /* As with right_since: a moment that is still to come was not one. */
  if (key->last_wrong_at > report->at) key->last_wrong_at = report->at;
  if (!report->right && !report->no_route) key->last_wrong_at = time_max(key->last_wrong_at, report->at);
  if (!absence && report->right && report->ttl > (int64_t)key->ttl) key->ttl = (uint32_t)report->ttl;
  if (key->state <= KEY_READY) key->ttl_negative = time_max(key->ttl_negative, report->ttl_negative);
}

/* Servers that are not in this round are not authoritative any more: their sightings go. */
int sightings_take(struct application *a, struct error *error) {
  struct key *key = a->key;
  const struct outcome *outcome = a->outcome;
  if (outcome->sighting_count > KEY_SIGHTINGS_MAX)
    return error_set(error, ERROR_LIMIT, "%zu server addresses, at most %d are watched", outcome->sighting_count, KEY_SIGHTINGS_MAX);
  struct sighting *merged = calloc(outcome->sighting_count + 1, sizeof *merged);
  if (!merged) return error_set(error, ERROR_NO_MEMORY, "out of memory for sightings");
  for (size_t i = 0; i < outcome->sighting_count; i++) {
    merge_sighting(a, &outcome->sightings[i], &merged[i]);
    take_facts(a, &outcome->sightings[i]);
  }
  free(key->sightings);
  key->sightings = merged;
  key->sighting_count = outcome->sighting_count;
  return 0;
}

void sightings_drop(struct key *key) {
  free(key->sightings);
  key->sightings = NULL;
  key->sighting_count = 0;
}

void sightings_describe_wrong(const struct key *key, char *buffer, size_t size) {
  for (size_t i = 0; i < key->sighting_count; i++) {
    const struct sighting *seen = &key->sightings[i];
    if (timing_sighting_counts(key, i)) continue;
    snprintf(buffer, size, "%s (%s) does not serve the record: %s", seen->host, seen->address, seen->answer);
    return;
  }
  snprintf(buffer, size, "no server could be asked");
}
