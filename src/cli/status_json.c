#include "dkimroll/status.h"
#include "dkimroll/timing.h"

static void write_step(struct json *json, const struct lineage *lineage, size_t key, const struct plan_clock *clock) {
  struct status_step step;
  status_next_step(lineage, key, clock, &step);
  json_text(json, "next", step.action[0] == '-' ? NULL : step.action);
  json_moment(json, "when", step.at);
  json_open(json, "waits_for", '[');
  for (size_t i = 0; i < step.reason_count; i++) json_text(json, NULL, step.reasons[i].text);
  json_close(json, ']');
}

static void write_problems(struct json *json, const struct lineage *lineage, const struct plan_clock *clock) {
  struct findings findings = {0};
  status_find_problems(lineage, clock, &findings);
  json_open(json, "problems", '[');
  for (size_t i = 0; i < findings.count; i++)
    if (findings.items[i].level == FINDING_FAILED) json_text(json, NULL, findings.items[i].text);
  json_close(json, ']');
  findings_release(&findings);
}

static void write_servers(struct json *json, const struct key *key) {
  json_open(json, "servers", '[');
  for (size_t i = 0; i < key->sighting_count; i++) {
    const struct sighting *seen = &key->sightings[i];
    json_open(json, NULL, '{');
    json_text(json, "host", seen->host);
    json_text(json, "address", seen->address);
    json_bool(json, "right", seen->right);
    json_bool(json, "no_route", seen->no_route);
    json_number(json, "times", seen->count);
    json_moment(json, "right_since", seen->right_since);
    json_moment(json, "last_wrong", seen->last_wrong_at);
    json_moment(json, "asked", seen->seen_at);
    json_text(json, "answer", seen->answer);
    json_close(json, '}');
  }
  json_close(json, ']');
}

static void write_placements(struct json *json, const struct key *key) {
  json_open(json, "signers", '[');
  for (size_t i = 0; i < key->placement_count; i++) {
    const struct placement *placement = &key->placements[i];
    json_open(json, NULL, '{');
    json_text(json, "signer", placement->signer->name);
    json_text(json, "key_path", placement->key_path);
    json_bool(json, "file_made", placement->file_made);
    json_moment(json, "switched", placement->switched_at);
    json_moment(json, "proved", placement->proved_at);
    json_moment(json, "withdrawn", placement->drained_at);
    json_bool(json, "destroyed", placement->destroyed);
    json_text(json, "failure", placement->failure);
    json_close(json, '}');
  }
  json_close(json, ']');
}

static void write_times(struct json *json, const struct lineage *lineage, const struct key *key) {
  struct status_moment moments[STATUS_MOMENTS_MAX];
  const size_t count = status_moments(lineage, key, moments);
  json_open(json, "was", '{');
  json_moment(json, "generated", key->generated_at);
  json_moment(json, "published", key->published_at);
  json_moment(json, "right", key->right_at);
  json_moment(json, "ready", key->ready_at);
  json_moment(json, "active", key->active_at);
  json_moment(json, "retired", key->retired_at);
  json_moment(json, "revoked", key->revoked_at);
  json_moment(json, "deleted", key->deleted_at);
  json_moment(json, "gone", key->absent_at);
  json_close(json, '}');
  json_open(json, "will_be", '{');
  for (size_t i = 0; i < count; i++) json_moment(json, moments[i].name, moments[i].at);
  json_close(json, '}');
}

static void write_detail(struct json *json, const struct lineage *lineage, const struct key *key) {
  json_text(json, "algorithm", key->algorithm == KEY_ALGORITHM_RSA ? "rsa" : "ed25519");
  json_number(json, "bits", key->bits);
  json_text(json, "record_name", key->owner_name);
  json_text(json, "record", key->record);
  json_number(json, "ttl", key->ttl);
  json_text(json, "zone", key->zone[0] ? key->zone : NULL);
  json_text(json, "primary", key->primary_server[0] ? key->primary_server : NULL);
  write_times(json, lineage, key);
  write_servers(json, key);
  write_placements(json, key);
}

void status_json_key(struct json *json, const struct lineage *lineage, size_t key, const struct plan_clock *clock,
                     bool detail) {
  const struct key *it = key < lineage->key_count ? &lineage->keys[key] : NULL;
  json_break(json);
  json_open(json, NULL, '{');
  json_text(json, "domain", lineage->domain);
  json_text(json, "key", lineage->slot);
  json_text(json, "selector", it ? it->selector : NULL);
  json_text(json, "state", it ? key_state_name(it->state) : NULL);
  json_moment(json, "since", it ? it->state_since : TIME_UNSET);
  write_step(json, lineage, key, clock);
  json_moment(json, "compromised", it ? it->compromised_at : TIME_UNSET);
  json_moment(json, "exposed_until", it && it->compromised_at != TIME_UNSET && it->revoked_at != TIME_UNSET ? timing_dead(it) : TIME_UNSET);
  json_bool(json, "standby", it && lineage_standby_key(lineage) == it && lineage->rules->standby > 0);
  json_bool(json, "managed", lineage->managed);
  json_bool(json, "held", lineage->held);
  if (lineage->held) {
    json_text(json, "hold_scope", lineage->hold_scope == HOLD_ACTIVATION ? "activation" : "all");
    json_moment(json, "hold_until", lineage->hold_until);
    json_text(json, "hold_reason", lineage->hold_reason);
  }
  write_problems(json, lineage, clock);
  if (detail && it) write_detail(json, lineage, it);
  json_close(json, '}');
}
