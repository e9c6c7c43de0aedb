/* What `revoke` means: a private key that somebody else may have. The wish becomes a fact of each key that it is about; gates and invariants read that. */
#include <stdio.h>

#include "apply.h"
#include "dkimroll/text.h"
#include "dkimroll/timing.h"
#include "gates.h"

bool key_is_meant(const struct key *key, const struct compromise *compromise) {
  if (key->state >= KEY_REVOKED) return false;
  const bool active = key->state == KEY_ACTIVE;
  const bool named = compromise->selector ? text_equal_nocase(key->selector, compromise->selector) : active;
  if (!named && !compromise->whole_host) return false;
  return key->compromised_at == TIME_UNSET || (compromise->now && !key->revoke_now);
}

/* What follows for the key, in the words of the log. */
static const char *consequence(const struct lineage *lineage, const struct key *key) {
  const struct key *standby = lineage_standby_key(lineage);
  if (key->state < KEY_PUBLISHED) return "it is given up before it was published";
  if (key->state == KEY_RETIRED) return "its record says so at once, and mail that it signed is not verified any more";
  if (key->state != KEY_ACTIVE) return "it never signed, and its record says so at once";
  if (standby) return "a key that is ready takes over at once";
  if (key->revoke_now) return "no key is ready: its record says so at once, and mail goes out unsigned until a new key may sign";
  return "no key is ready: a new one takes over as soon as caches allow, and this one signs until then";
}

static int note_compromise(const struct lineage *lineage, const struct key *key, const struct compromise *compromise, int64_t now,
                           struct event_list *events, struct error *error) {
  char reason[ERROR_MESSAGE_MAX];
  snprintf(reason, sizeof reason, "%s by %s%s%s; %s", compromise->whole_host ? "the host's keys are said to be compromised" : "said to be compromised",
           compromise->by ? compromise->by : "somebody", compromise->reason ? ": " : "", compromise->reason ? compromise->reason : "",
           consequence(lineage, key));
  return event_list_add(events, lineage, key, now, "compromised", reason, error);
}

/* All are marked before any is told of: what follows for one depends on the others. */
int lifecycle_compromise(struct lineage *lineage, const struct compromise *compromise, int64_t now, struct event_list *events, struct error *error) {
  bool news[LINEAGE_KEYS_MAX] = {false};
  int result = 0;
  for (size_t i = 0; i < lineage->key_count; i++) {
    struct key *key = &lineage->keys[i];
    news[i] = key_is_meant(key, compromise);
    if (!news[i]) continue;
    if (key->compromised_at == TIME_UNSET) key->compromised_at = now;
    key->revoke_now |= compromise->now;
  }
  for (size_t i = 0; i < lineage->key_count && !result; i++)
    if (news[i]) result = note_compromise(lineage, &lineage->keys[i], compromise, now, events, error);
  return result;
}

/* The signers that were switched from the compromised key: was each of them restarted, so that no connection is left that reads the old tables? */
int emergency_note_connections(struct application *a, struct key *key, int64_t since, struct error *error) {
  char reason[640], moment[TIME_TEXT_SIZE];
  const char *failure = NULL;
  bool ended = a->outcome->placement_count > 0;
  for (size_t i = 0; i < a->outcome->placement_count; i++) {
    ended &= a->outcome->placements[i].restarted;
    if (a->outcome->placements[i].restart_failure) failure = a->outcome->placements[i].restart_failure;
  }
  key->lingers_until = ended ? TIME_UNSET : time_add(since, a->lineage->rules->drain);
  if (ended) return application_note(a, key, "connections", "every signer was restarted: no connection is left that signs with it", error);
  snprintf(reason, sizeof reason, "a signer could not be restarted (%s): connections that were open at the switch may sign with it until %s, and that mail is not verified",
           failure ? failure : "the policy names neither a unit nor a command for it", time_format(key->lingers_until, moment));
  return application_note(a, key, "alarm", reason, error);
}

/* Until when it can do harm, and to which mail the end of it does. */
int emergency_note_exposure(struct application *a, const struct key *key, bool signed_once, struct error *error) {
  const struct policy_rules *rules = a->lineage->rules;
  char reason[512], dead[TIME_TEXT_SIZE], since[TIME_TEXT_SIZE];
  const int64_t window = time_add(time_add(rules->queue_lifetime, rules->queue_backoff), rules->verify_window);
  const int64_t first = time_max(key->active_at, time_add(key->revoked_at, -window));
  time_format(timing_dead(key), dead);
  if (signed_once)
    snprintf(reason, sizeof reason, "caches may give out the key until %s; mail that it signed since %s and that is not verified yet fails", dead,
             time_format(first, since));
  else
    snprintf(reason, sizeof reason, "caches may give out the key until %s; it signed no mail", dead);
  return application_note(a, key, "exposure", reason, error);
}

/* From now on it is known, and not only expected, when the last cache forgets it. */
int emergency_note_end(struct application *a, const struct key *key, struct error *error) {
  char reason[128], dead[TIME_TEXT_SIZE];
  snprintf(reason, sizeof reason, "every server says that the key is revoked, so the last cache forgets it by %s", time_format(timing_dead(key), dead));
  return application_note(a, key, "exposure", reason, error);
}

int emergency_take_file(struct application *a, struct placement *placement, const struct placement_report *report, struct error *error) {
  const enum placement_damage before = placement->damage;
  placement->damage = report->damage;
  if (report->damage == DAMAGE_NONE) {
    placement->damaged_at = TIME_UNSET;
    return before == DAMAGE_NONE ? 0 : application_note(a, a->key, "recovered", "its private key file is as it should be again", error);
  }
  if (placement->damaged_at == TIME_UNSET) placement->damaged_at = a->outcome->at;
  return before == report->damage ? 0 : application_note(a, a->key, "alarm", report->failure ? report->failure : "its private key file is lost", error);
}
