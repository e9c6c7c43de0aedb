#include "emergency_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct key *emergency_key(struct builder *builder, const char *selector, enum key_state at, int64_t since) {
  const int64_t now = BUILDER_NOW;
  struct key *key = builder_key(builder, selector, at, since);
  key->ready_at = at >= KEY_READY ? since : TIME_UNSET;
  key->files_seen_at = now;
  if (at >= KEY_PUBLISHED) expect_seen(key, true, now);
  if (at == KEY_ACTIVE || at == KEY_RETIRED)
    for (size_t i = 0; i < key->placement_count; i++) key->placements[i].switched_at = key->placements[i].proved_at = now;
  return key;
}

void emergency_compromise(struct builder *builder, const char *selector, bool whole_host, bool at_once) {
  struct event_list events = {0};
  struct error error;
  const struct compromise wish = {.selector = selector, .whole_host = whole_host, .now = at_once, .by = "anna", .reason = "leak"};
  assert_int_equal(lifecycle_compromise(&builder->lineage, &wish, BUILDER_NOW, &events, &error), 0);
  event_list_release(&events);
}

bool emergency_permits(const struct builder *builder, enum plan_action action, size_t key, bool attested) {
  const struct plan_clock clock = {.now = BUILDER_NOW, .attested = attested};
  struct error error = {0};
  return invariant_permits(&builder->lineage, action, key, &clock, &error) == 0;
}
