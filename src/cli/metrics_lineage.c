/* The series that a domain has for itself. */
#include <stdio.h>

#include "dkimroll/metrics.h"
#include "dkimroll/status.h"
#include "dkimroll/text.h"

struct lineage_series {
  struct buffer *families;
  const struct lineage *lineage;
  const struct plan_clock *clock;
};

#define END {NULL, NULL}
#define LINEAGE_LABELS {"domain", s->lineage->domain}, {"key", s->lineage->slot}
#define KEY_LABELS LINEAGE_LABELS, {"selector", key->selector}
#define LABELS(...) ((const struct metrics_label[]){__VA_ARGS__, END})

static void add(const struct lineage_series *s, enum metrics_name name, const struct metrics_label *labels, int64_t value) {
  metrics_series(&s->families[name], name, labels, value);
}

static void add_states(const struct lineage_series *s, const struct key *key) {
  const int64_t moments[] = {[KEY_RESERVED] = key->created_at, [KEY_GENERATED] = key->generated_at, [KEY_PUBLISHED] = key->published_at,
                             [KEY_READY] = key->ready_at,      [KEY_ACTIVE] = key->active_at,       [KEY_RETIRED] = key->retired_at,
                             [KEY_REVOKED] = key->revoked_at};
  for (enum key_state state = KEY_RESERVED; state <= KEY_REVOKED; state++) {
    const int64_t moment = state == key->state ? key->state_since : moments[state];
    if (moment == TIME_UNSET || moment == TIME_NEVER || state > key->state) continue;
    add(s, METRIC_KEY_STATE, LABELS(KEY_LABELS, {"state", key_state_name(state)}), moment);
  }
}

static void add_info(const struct lineage_series *s, const struct key *key) {
  char bits[16];
  snprintf(bits, sizeof bits, "%u", key->bits);
  add(s, METRIC_KEY_INFO,
      LABELS(KEY_LABELS, {"state", key_state_name(key->state)}, {"policy", s->lineage->rules->name},
             {"algorithm", key->algorithm == KEY_ALGORITHM_RSA ? "rsa" : "ed25519"}, {"bits", bits}),
      1);
}

static void add_key(const struct lineage_series *s, const struct key *key) {
  add_info(s, key);
  add_states(s, key);
  if (key->propagation >= 0) add(s, METRIC_KEY_PROPAGATION, LABELS(KEY_LABELS), key->propagation);
  for (size_t i = 0; i < key->placement_count; i++) {
    const struct placement *placement = &key->placements[i];
    if (key->state != KEY_ACTIVE || placement->proved_at == TIME_UNSET) continue;
    add(s, METRIC_KEY_PROVED, LABELS(KEY_LABELS, {"signer", placement->signer->name}), placement->proved_at);
  }
}

/* The key that does not exist yet has an empty selector. */
static void add_next(const struct lineage_series *s, size_t index) {
  const struct key none = {.selector = ""};
  const struct key *key = index < s->lineage->key_count ? &s->lineage->keys[index] : &none;
  struct status_step step;
  status_next_step(s->lineage, index, s->clock, &step);
  if (step.at == TIME_NEVER || text_equal(step.action, "-")) return;
  add(s, METRIC_NEXT_TRANSITION, LABELS(KEY_LABELS, {"step", step.action}), step.at);
}

void metrics_lineage_series(struct buffer families[METRICS_NAMES], const struct lineage *lineage, const struct plan_clock *clock) {
  const struct lineage_series series = {.families = families, .lineage = lineage, .clock = clock};
  const struct lineage_series *s = &series;
  const bool held = lineage->held && clock->now < lineage->hold_until;
  add(s, METRIC_LINEAGE_FAILURES, LABELS(LINEAGE_LABELS), lineage->failures);
  add(s, METRIC_LINEAGE_HELD, LABELS(LINEAGE_LABELS), held);
  add(s, METRIC_LINEAGE_PARKED, LABELS(LINEAGE_LABELS), lineage->parked_at != TIME_UNSET);
  for (size_t i = 0; i < lineage->key_count; i++) add_key(s, &lineage->keys[i]);
  for (size_t i = 0; i < status_row_count(lineage); i++) add_next(s, i);
}
