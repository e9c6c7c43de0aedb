/* The gates of emergencies: keys that somebody else may have, and keys that wait to take over and have lost their private half. */
#include "dkimroll/text.h"
#include "dkimroll/timing.h"
#include "gates.h"

/* A person said that somebody else may have the private key. */
bool gate_compromised(const struct gate_view *view, struct plan_reason *reason) {
  if (view->key->compromised_at != TIME_UNSET) return true;
  return gate_closed(reason, TIME_NEVER, "nobody said that it is compromised");
}
bool gate_given_up(const struct gate_view *view, struct plan_reason *reason) {
  if (key_is_given_up(view->key)) return true;
  return gate_closed(reason, TIME_NEVER, "it may still sign");
}
bool gate_not_given_up(const struct gate_view *view, struct plan_reason *reason) {
  return !gate_given_up(view, reason);
}
bool gate_not_compromised(const struct gate_view *view, struct plan_reason *reason) {
  return !gate_compromised(view, reason);
}

/* A folder that is not there for a while looks like files that are lost; the key is usable again when they are back. */
bool gate_lost_for_good(const struct gate_view *view, struct plan_reason *reason) {
  const struct key *key = view->key;
  int64_t since = TIME_UNSET;
  if (key->compromised_at != TIME_UNSET) return true;
  for (size_t i = 0; i < key->placement_count; i++) since = time_max(since, key->placements[i].damaged_at);
  return gate_time(view, reason, time_add(since, TIMING_LOST_FOR_GOOD), "its private key file is not there, and may come back");
}

/* What still signs with it goes first, or that mail would fail; but not if somebody asked for the end at once. */
bool gate_signs_nowhere(const struct gate_view *view, struct plan_reason *reason) {
  if (view->key->revoke_now) return true;
  for (size_t i = 0; i < view->key->placement_count; i++)
    if (placement_is_named(&view->key->placements[i])) return gate_closed(reason, TIME_NEVER, "a signer's tables still name it");
  return true;
}

bool gate_now_asked(const struct gate_view *view, struct plan_reason *reason) {
  if (view->key->revoke_now) return true;
  return gate_closed(reason, TIME_NEVER, "a new key takes over first");
}

/* A key that is ready takes over within a second, so that no mail goes unsigned; unless it turned out that it cannot. */
bool gate_no_standby(const struct gate_view *view, struct plan_reason *reason) {
  const struct key *standby = lineage_standby_key(view->lineage);
  if (!standby || key_failed_at(standby, PLAN_ACTIVATE)) return true;
  return gate_closed(reason, TIME_NEVER, "%s takes over first", standby->selector);
}

/* Has not every server been seen to say that the key is revoked, or does one not say it any more? */
bool gate_exposed(const struct gate_view *view, struct plan_reason *reason) {
  if (key_is_exposed(view->key)) return true;
  return gate_closed(reason, TIME_NEVER, "every server says that it is revoked, or nobody said that it is compromised");
}
