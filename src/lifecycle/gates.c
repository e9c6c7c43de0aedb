#include "gates.h"

#include <stdarg.h>
#include <stdio.h>

#include "dkimroll/text.h"
#include "dkimroll/timing.h"

bool gate_closed(struct plan_reason *reason, int64_t opens, const char *format, ...) {
  va_list arguments;
  reason->opens = opens;
  if (reason->silent) return false;
  va_start(arguments, format);
  vsnprintf(reason->text, sizeof reason->text, format, arguments);
  va_end(arguments);
  return false;
}

/* A gate that only time opens. */
bool gate_time(const struct gate_view *view, struct plan_reason *reason, int64_t opens, const char *what) {
  char moment[TIME_TEXT_SIZE];
  if (view->clock->now >= opens) return true;
  return gate_closed(reason, opens, "%s until %s", what, reason->silent ? "" : time_format(opens, moment));
}

static bool gate_managed(const struct gate_view *view, struct plan_reason *reason) {
  if (view->lineage->managed) return true;
  return gate_closed(reason, TIME_NEVER, "%s is not in the policy any more: it keeps signing and nothing is deleted; put it "
                     "back, or end it with `dkimroll forget %s`", view->lineage->domain, view->lineage->domain);
}

static bool gate_not_held(const struct gate_view *view, struct plan_reason *reason) {
  const struct lineage *lineage = view->lineage;
  const bool partly = lineage->hold_scope == HOLD_ACTIVATION;
  if (!lineage->held || view->clock->now >= lineage->hold_until || (partly && view->action != PLAN_ACTIVATE)) return true;
  return gate_closed(reason, lineage->hold_until, "held%s%s%s; `dkimroll release %s` ends it", partly ? ", though only from taking over" : "",
                     lineage->hold_reason ? ": " : "", lineage->hold_reason ? lineage->hold_reason : "", lineage->domain);
}

/* A back-off that ends later than any could was counted by a clock that has been set back since: it is over. */
static bool back_off_runs(const struct gate_view *view, int64_t end) {
  enum { LONGEST = TIMING_BACKOFF_PARKED + TIMING_BACKOFF_PARKED / 4 };
  const int64_t now = view->clock->now;
  return end != TIME_UNSET && now < end && end <= time_add(now, LONGEST);
}

static bool back_off_closed(struct plan_reason *reason, int64_t opens, unsigned failures, const char *failure) {
  char moment[TIME_TEXT_SIZE];
  return gate_closed(reason, opens, "failed %u time%s, tried again at %s: %s", failures, failures == 1 ? "" : "s",
                     reason->silent ? "" : time_format(opens, moment), failure ? failure : "no reason stored");
}

/* Somebody else has changed the tables since a step that writes them failed: what was in its way may be gone, and mail be unsigned until it is done. */
static bool tables_are_news(const struct gate_view *view) {
  const struct key *key = view->key;
  const int64_t changed = view->lineage->tables_changed_at;
  if (key->intent_at == TIME_UNSET) return false;
  return key->intent_at < changed && changed <= view->clock->now && (key_failed_at(key, PLAN_ACTIVATE) || key_failed_at(key, PLAN_WITHDRAW));
}

static bool gate_back_off(const struct gate_view *view, struct plan_reason *reason) {
  const struct lineage *lineage = view->lineage;
  const struct key *key = view->key, *failed = failure_key(lineage);
  if (key && (!back_off_runs(view, key->retry_at) || tables_are_news(view))) return true;
  if (key) return back_off_closed(reason, key->retry_at, key->failures, key->failure);
  /* The next key waits for a failure of one that came to nothing, or that is on its way; those of the key that signs, and of old ones, must not hold it back. */
  if (!back_off_runs(view, lineage->retry_at) || (failed && (failed == view->active || key_is_leaving(lineage, failed)))) return true;
  return back_off_closed(reason, lineage->retry_at, lineage->failures, lineage->failure);
}

/* A look has a pace of its own, and may show that what failed is not needed any more: only a look that failed holds it back. */
static bool gate_look_back_off(const struct gate_view *view, struct plan_reason *reason) {
  const struct key *key = view->key;
  if (!back_off_runs(view, key->look_retry_at)) return true;
  return back_off_closed(reason, key->look_retry_at, key->look_failures, key_failed_at_look(key) ? key->failure : "looking at its name servers");
}

static bool gate_clock_attested(const struct gate_view *view, struct plan_reason *reason) {
  if (view->clock->attested) return true;
  if (!policy_publisher_attests(view->lineage->publisher))
    return gate_closed(reason, time_add(view->clock->now, TIMING_ATTEST_LOOK),
                       "the clock is not attested since this boot: it takes time synchronisation (the kernel's NTP state), because publisher %s asks "
                       "no primary whose signed reply would do", view->lineage->publisher->name);
  return gate_closed(reason, TIME_NEVER, "the clock is not attested since this boot: it takes time synchronisation (the kernel's NTP state) "
                     "or a TSIG reply of the primary");
}

/* F1 begins with a look by an attested clock (sightings.c), so a record waits for one. */
static bool gate_clock_doubtful(const struct gate_view *view, struct plan_reason *reason) {
  if (!view->clock->attested && policy_publisher_attests(view->lineage->publisher)) return true;
  return gate_closed(reason, TIME_NEVER, "the clock is attested, or nobody is asked who could attest it");
}

static bool gate_room(const struct gate_view *view, struct plan_reason *reason) {
  if (view->lineage->key_count < LINEAGE_KEYS_MAX) return true;
  return gate_closed(reason, TIME_NEVER, "%d keys of this domain are alive, no more are made until old ones are removed",
                     LINEAGE_KEYS_MAX);
}

/* Is another key wanted: none at all, a standby, a request, or the end of the active key's life? */
static bool gate_successor_wanted(const struct gate_view *view, struct plan_reason *reason) {
  const struct lineage *lineage = view->lineage;
  if (!lineage_rule(lineage)) return gate_closed(reason, TIME_NEVER, "the policy has no key named %s", lineage->slot);
  if (!view->active) {
    if (view->coming == 0) return true;
    return gate_closed(reason, TIME_NEVER, "a key is on its way already");
  }
  if (view->coming < lineage->rules->standby) return true;
  if (view->coming > 0) return gate_closed(reason, TIME_NEVER, "a successor is on its way already");
  if (lineage->rotate_requested || key_is_broken(lineage, view->active)) return true;
  const int64_t opens = timing_generate(lineage, view->active);
  if (opens == TIME_NEVER) return gate_closed(reason, TIME_NEVER, "the policy rotates only on demand: `dkimroll rotate %s`", lineage->domain);
  return gate_time(view, reason, opens, "the active key's life lasts");
}

/* Before publication a key that the policy does not want any more is dropped; afterwards it goes its way. */
static bool gate_still_wanted(const struct gate_view *view, struct plan_reason *reason) {
  if (key_is_wanted(view->lineage, view->key)) return true;
  return gate_closed(reason, TIME_NEVER, "the policy asks for another kind of key now");
}
static bool gate_not_wanted(const struct gate_view *view, struct plan_reason *reason) {
  return !gate_still_wanted(view, reason);
}

static bool gate_may_be_served(const struct gate_view *view, struct plan_reason *reason) {
  if (key_may_be_served(view->key)) return true;
  return gate_closed(reason, TIME_NEVER, "its record was never published");
}

/* Looks are stamped by the wall clock. A look that lies further ahead than any pause was stamped by a clock that is ahead of what gates may count with, or
 * that has been set back since: the pause then counts from the start of the key's last operation, so that looking neither ends nor spins. */
static int64_t believable(const struct gate_view *view, int64_t opens, int64_t longest) {
  const int64_t now = view->clock->now, begun = view->key->intent_at;
  if (opens <= time_add(now, longest)) return opens;
  return begun == TIME_UNSET || begun > now ? now : time_add(begun, TIMING_WATCH_SLOWEST);
}

static bool look_is_due(const struct gate_view *view, struct plan_reason *reason, int64_t opens) {
  const int64_t longest = time_max(view->lineage->rules->confirm_every, view->key->state == KEY_REVOKED ? TIMING_WATCH_TOMBSTONE : TIMING_WATCH_SIGNED);
  return gate_time(view, reason, believable(view, opens, longest), "no new look at the servers");
}

static bool gate_round_due(const struct gate_view *view, struct plan_reason *reason) {
  return look_is_due(view, reason, timing_next_round(view->key, view->lineage->rules));
}

/* A record that stands as it should is of no interest to a plan, and whether one that is revoked stands never is. */
static bool gate_watched(const struct gate_view *view, struct plan_reason *reason) {
  const bool seen = view->key->state == KEY_REVOKED || timing_right_since(view->key) != TIME_UNSET;
  if (!view->clock->skip_watch || !seen) return true;
  return gate_closed(reason, TIME_NEVER, "every server serves the record");
}

/* The private key of one that waits to take over is looked at as often as its record, so that its loss is found before it is needed. */
static bool gate_files_watched(const struct gate_view *view, struct plan_reason *reason) {
  const bool waits = view->key->state == KEY_READY || key_is_lost(view->key);
  if (waits && !view->clock->skip_watch && view->key->compromised_at == TIME_UNSET) return true;
  return gate_closed(reason, TIME_NEVER, "its private key is not looked at");
}
static bool gate_files_due(const struct gate_view *view, struct plan_reason *reason) {
  const struct key *key = view->key;
  const int64_t seen = time_max(key->files_seen_at, key->ready_at);
  return gate_time(view, reason, believable(view, time_add(seen, TIMING_WATCH_SLOWEST), TIMING_WATCH_SLOWEST), "no new look at its private key");
}

enum { SERVER_TEXT_SIZE = DNS_NAME_TEXT_SIZE + ADDRESS_TEXT_SIZE + 4 };

/* "ns1.example.com (192.0.2.1:53)", or the address alone where the policy gives no name. */
static const char *server_text(const struct sighting *seen, char text[SERVER_TEXT_SIZE]) {
  if (text_equal(seen->host, seen->address))
    snprintf(text, SERVER_TEXT_SIZE, "%s", seen->address);
  else
    snprintf(text, SERVER_TEXT_SIZE, "%s (%s)", seen->host, seen->address);
  return text;
}

/* Names the first server that holds the key back, since when, and what it said. */
static bool gate_servers_right(const struct gate_view *view, struct plan_reason *reason) {
  const struct key *key = view->key;
  char moment[TIME_TEXT_SIZE];
  size_t wrong = 0, first = 0;
  for (size_t i = key->sighting_count; i-- > 0;) {
    if (timing_sighting_counts(key, i)) continue;
    wrong++;
    first = i;
  }
  if (key->sighting_count == 0) return gate_closed(reason, TIME_NEVER, "no server has been asked yet");
  if (wrong > 0) {
    const struct sighting *seen = &key->sightings[first];
    char published[TIME_TEXT_SIZE], server[SERVER_TEXT_SIZE];
    return gate_closed(reason, TIME_NEVER, "%s%s does not serve the record: %s, at %s, published %s", server_text(seen, server),
                       wrong > 1 ? ", not the only one," : "", seen->answer, time_format(seen->seen_at, moment),
                       time_format(key->published_at, published));
  }
  const unsigned sightings = timing_sightings(key);
  if (sightings >= view->lineage->rules->confirm_sightings) return true;
  return gate_closed(reason, timing_next_round(key, view->lineage->rules), "%u of %u sightings on all %zu servers", sightings,
                     view->lineage->rules->confirm_sightings, key->sighting_count);
}

static bool gate_negative_cache(const struct gate_view *view, struct plan_reason *reason) {
  const int64_t opens = timing_ready(view->key, view->lineage->rules);
  if (opens == TIME_NEVER && !view->clock->attested)
    return gate_closed(reason, TIME_NEVER, "negative caches count from the moment when all servers are right by a clock that is attested, which this one is not");
  if (opens == TIME_NEVER) return gate_closed(reason, TIME_NEVER, "negative caches count from the moment when all servers are right");
  return gate_time(view, reason, opens, "caches may say that the record does not exist,");
}

/* F1 needs a look at or after its end: a server may have lost the record meanwhile. */
static bool gate_seen_after_wait(const struct gate_view *view, struct plan_reason *reason) {
  const int64_t opens = timing_ready(view->key, view->lineage->rules);
  if (timing_observed_at(view->key) >= opens) return true;
  return gate_closed(reason, time_max(opens, timing_next_round(view->key, view->lineage->rules)),
                     "one more look at the servers after the wait");
}

static bool gate_missing(const struct gate_view *view, struct plan_reason *reason) {
  if (view->key->sighting_count > 0 && timing_right_since(view->key) == TIME_UNSET) return true;
  return gate_closed(reason, TIME_NEVER, "the record is not missing");
}

/* After warn-after without the record everywhere it is put there again: the primary may have lost it. Where it has not, that is an alarm, which comes ever
 * more slowly: 1, 2, 4, ... hours, then once a day. What says that a compromised key is revoked is not left out for longer than it is not looked at. */
static bool gate_patience(const struct gate_view *view, struct plan_reason *reason) {
  const struct key *key = view->key;
  const int64_t slowest = key->compromised_at == TIME_UNSET ? TIMING_HEAL_SLOWEST : TIMING_WATCH_SIGNED;
  const bool slows = key->state == KEY_PUBLISHED || key->state == KEY_REVOKED;
  int64_t patience = time_max(view->lineage->rules->confirm_warn_after, 1);
  if (slows && key->state_since != TIME_UNSET && key->published_at > key->state_since)
    patience = time_max(patience, time_min(key->published_at - key->state_since, slowest));
  return gate_time(view, reason, time_add(timing_put_at(key), patience), "the record is not published again");
}

static bool gate_turn(const struct gate_view *view, struct plan_reason *reason) {
  const struct lineage *lineage = view->lineage;
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *other = &lineage->keys[i];
    if (other->state == KEY_READY && other != view->key && !key_is_given_up(other) && other->ready_at < view->key->ready_at)
      return gate_closed(reason, TIME_NEVER, "%s has been ready for longer", other->selector);
  }
  if (!view->active || lineage->rotate_requested || key_is_broken(lineage, view->active)) return true;
  const int64_t opens = timing_turn(lineage, view->active);
  if (opens == TIME_NEVER) return gate_closed(reason, TIME_NEVER, "standby: it takes over on demand, `dkimroll rotate %s`", lineage->domain);
  return gate_time(view, reason, opens, "the active key's life lasts");
}

static bool gate_placement_missing(const struct gate_view *view, struct plan_reason *reason) {
  if (!key_is_placed(view->lineage, view->key)) return true;
  return gate_closed(reason, TIME_NEVER, "every signer signs with it");
}

/* Is the key proved from time to time, and is that worth a word? */
static bool gate_proof_wanted(const struct gate_view *view, struct plan_reason *reason) {
  const bool failed = view->key->proof_failures > 0;
  if (failed || (!view->clock->skip_watch && timing_proof(view->lineage, view->key) != TIME_NEVER)) return true;
  return gate_closed(reason, TIME_NEVER, "no proof is asked for");
}

static bool gate_proof_due(const struct gate_view *view, struct plan_reason *reason) {
  enum { LONGEST = TIMING_BACKOFF_PARKED + TIMING_BACKOFF_PARKED / 4 };
  const struct key *key = view->key;
  const int64_t every = view->lineage->rules->prove_every;
  if (key->proof_failures > 0)
    return gate_time(view, reason, believable(view, timing_proof_retry(view->lineage, key), LONGEST), "it could not be proved, and is not tried again");
  /* A proof that lies ahead was stamped by a clock that has been set back since: nobody knows what was changed after it. */
  const bool ahead = timing_is_proved_since(view->lineage, key, view->clock->now + 1);
  const int64_t opens = ahead ? view->clock->now : believable(view, timing_proof(view->lineage, key), every);
  return gate_time(view, reason, opens, "it is not proved again");
}

static bool gate_repairable(const struct gate_view *view, struct plan_reason *reason) {
  for (size_t i = 0; i < view->key->placement_count; i++)
    if (placement_is_repairable(view->lineage, view->key, i)) return true;
  return gate_closed(reason, TIME_NEVER, "nothing is to be mended");
}

/* Tables are pointed at a key only while its record is served. */
static bool gate_record_served(const struct gate_view *view, struct plan_reason *reason) {
  if (timing_right_since(view->key) != TIME_UNSET) return true;
  return gate_closed(reason, TIME_NEVER, "a server does not serve its record");
}
static bool gate_other_key_served(const struct gate_view *view, struct plan_reason *reason) {
  if (view->active && timing_right_since(view->active) != TIME_UNSET) return true;
  return gate_closed(reason, TIME_NEVER, "no other key signs whose record every server serves");
}

static bool gate_drained(const struct gate_view *view, struct plan_reason *reason) {
  return gate_time(view, reason, timing_last_signature(view->key, view->lineage->rules),
                   "connections that were open at the switch may still sign with it");
}

/* OpenDKIM opens the file for each message, also for connections that know the old tables: without it their mail is tempfailed. After an emergency the record is gone
 * before they are. */
static bool gate_connections_ended(const struct gate_view *view, struct plan_reason *reason) {
  return view->key->retired_at == TIME_UNSET || gate_drained(view, reason);
}

static bool gate_not_withdrawn(const struct gate_view *view, struct plan_reason *reason) {
  for (size_t i = 0; i < view->key->placement_count; i++)
    if (placement_is_named(&view->key->placements[i])) return true;
  return gate_closed(reason, TIME_NEVER, "no signer names it any more");
}
static bool gate_withdrawn(const struct gate_view *view, struct plan_reason *reason) {
  struct plan_reason unused = {.silent = true};
  if (!gate_not_withdrawn(view, &unused)) return true;
  return gate_closed(reason, TIME_NEVER, "a signer's tables still name it");
}

/* A signer goes on with what its tables said when it last read them, also when the key's lines are gone: until it was seen to sign with another one, the window has not begun. */
static const struct policy_signer *find_unseen_signer(const struct gate_view *view) {
  for (size_t i = 0; i < view->lineage->signer_count && view->active && !view->clock->skip_watch; i++) {
    const struct policy_signer *signer = view->lineage->signers[i];
    if (!key_was_seen_at(view->active, signer) && key_may_sign_at(view->key, signer)) return signer;
  }
  return NULL;
}
static bool gate_retire_window(const struct gate_view *view, struct plan_reason *reason) {
  const struct policy_signer *unseen = find_unseen_signer(view);
  if (unseen) return gate_closed(reason, TIME_NEVER, "signer %s, which has this key, was not seen to sign with %s", unseen->name, view->active->selector);
  return gate_time(view, reason, timing_revoke(view->key, view->lineage->rules),
                   "mail that it signed may still be on its way,");
}
/* Tables that somebody has put back from a backup may sign with it, and then its time is not over. */
static bool gate_successor_proved(const struct gate_view *view, struct plan_reason *reason) {
  const int64_t since = timing_revoke(view->key, view->lineage->rules);
  if (view->clock->skip_watch || !view->active || timing_is_proved_since(view->lineage, view->active, since)) return true;
  return gate_closed(reason, TIME_NEVER, "it is not proved since the end of its window that every signer signs with %s", view->active->selector);
}
static bool gate_tombstone_wanted(const struct gate_view *view, struct plan_reason *reason) {
  if (view->lineage->rules->tombstone > 0) return true;
  return gate_closed(reason, TIME_NEVER, "the policy wants no tombstone");
}
static bool gate_no_tombstone_wanted(const struct gate_view *view, struct plan_reason *reason) {
  if (view->lineage->rules->tombstone == 0) return true;
  return gate_closed(reason, TIME_NEVER, "the policy wants a tombstone first");
}
static bool gate_tombstone_over(const struct gate_view *view, struct plan_reason *reason) {
  return gate_time(view, reason, timing_remove(view->key, view->lineage->rules), "the record says that the key is revoked,");
}
static bool gate_file_unshared(const struct gate_view *view, struct plan_reason *reason) {
  const struct key *other = key_sharing_file(view->lineage, view->key);
  if (!other) return true;
  return gate_closed(reason, TIME_NEVER, "its private key file is that of %s too", other->selector);
}
static bool gate_other_key_signs(const struct gate_view *view, struct plan_reason *reason) {
  /* Where somebody asked for the end at once, unsigned mail is better than mail that fails. */
  if (view->active || view->key->revoke_now) return true;
  return gate_closed(reason, TIME_NEVER, "no other key of the domain signs");
}

static bool gate_not_deleted(const struct gate_view *view, struct plan_reason *reason) {
  if (view->key->deleted_at == TIME_UNSET) return true;
  return gate_closed(reason, TIME_NEVER, "the record is deleted");
}
/* A deleted record that some server still shows is deleted again, day by day: it may have come back from a backup. */
static bool gate_shown_again(const struct gate_view *view, struct plan_reason *reason) {
  const struct key *key = view->key;
  bool shown = false;
  for (size_t i = 0; i < key->sighting_count; i++) shown |= !timing_sighting_counts(key, i) && key->sightings[i].seen_at >= key->deleted_at;
  if (shown && key->absent_at == TIME_UNSET) return true;
  return gate_closed(reason, TIME_NEVER, "no server shows the record");
}
static bool gate_deletion_patience(const struct gate_view *view, struct plan_reason *reason) {
  return gate_time(view, reason, time_add(view->key->deleted_at, TIMING_HEAL_SLOWEST), "the record is not deleted again");
}
static bool gate_deleted(const struct gate_view *view, struct plan_reason *reason) {
  if (view->key->deleted_at != TIME_UNSET) return true;
  return gate_closed(reason, TIME_NEVER, "the record is not deleted yet");
}
static bool gate_not_absent(const struct gate_view *view, struct plan_reason *reason) {
  if (view->key->absent_at == TIME_UNSET) return true;
  return gate_closed(reason, TIME_NEVER, "the record is gone from every server");
}
static bool gate_absent(const struct gate_view *view, struct plan_reason *reason) {
  if (view->key->absent_at != TIME_UNSET) return true;
  for (size_t i = 0; i < view->key->sighting_count; i++) {
    const struct sighting *seen = &view->key->sightings[i];
    char server[SERVER_TEXT_SIZE];
    if (!seen->right) return gate_closed(reason, TIME_NEVER, "%s still answers: %s", server_text(seen, server), seen->answer);
  }
  return gate_closed(reason, TIME_NEVER, "not seen on every server yet that the record is gone");
}
/* The first look comes at once, later ones as patiently as for a record that is missing. */
static bool gate_absence_round_due(const struct gate_view *view, struct plan_reason *reason) {
  const int64_t observed = timing_observed_at(view->key);
  if (observed == TIME_UNSET || observed < view->key->deleted_at) return true;
  const int64_t pause = time_max(view->lineage->rules->confirm_every, time_min((observed - view->key->deleted_at) / 4, TIMING_CONFIRM_SLOWEST));
  return look_is_due(view, reason, time_add(observed, pause));
}

#define GATE(name) {#name, gate_##name, false}
#define APPLIES(name) {#name, gate_##name, true}
/* At most so many that a plan can name every one that is closed; the compiler refuses more. */
#define GATES(...) .gates = (const struct gate[PLAN_REASONS_MAX + 1]){__VA_ARGS__, {NULL, NULL, false}}

/* What a record that mail needs is watched and healed by. */
#define WATCH_GATES GATE(managed), APPLIES(not_deleted), APPLIES(watched), GATE(round_due), GATE(look_back_off)
#define HEAL_GATES GATE(managed), APPLIES(not_deleted), APPLIES(missing), GATE(patience), GATE(back_off)
#define DESTROY_GATES                                                                                                  \
  GATE(managed), APPLIES(deleted), GATE(absent), GATE(withdrawn), GATE(connections_ended), GATE(file_unshared), GATE(not_held), \
      GATE(clock_attested), GATE(back_off), GATE(freeze)

/* A key that never signed and is not to sign any more. */
#define GIVE_UP_GATES GATE(managed), APPLIES(given_up), GATE(not_held), GATE(lost_for_good), GATE(signs_nowhere), GATE(back_off)
#define FILES_GATES GATE(managed), APPLIES(files_watched), GATE(files_due), GATE(back_off)

#define DELETE_AGAIN_GATES                                                                                             \
  GATE(managed), APPLIES(deleted), APPLIES(shown_again), GATE(not_held), GATE(deletion_patience), GATE(clock_attested), GATE(back_off), \
      GATE(freeze)

/* In the order of urgency within one state: the first whose gates are all open is done. A look goes before the healing that it may make unnecessary. */
const struct step plan_steps[] = {
    {KEY_RESERVED, PLAN_GENERATE, GATES(GATE(managed), APPLIES(still_wanted), GATE(back_off))},
    {KEY_RESERVED, PLAN_DESTROY, GATES(GATE(managed), APPLIES(not_wanted), GATE(back_off))},
    {KEY_GENERATED, PLAN_PUBLISH, GATES(GATE(managed), APPLIES(still_wanted), GATE(back_off))},
    {KEY_GENERATED, PLAN_DELETE, GATES(GATE(managed), APPLIES(not_wanted), APPLIES(may_be_served), GATE(back_off))},
    {KEY_GENERATED, PLAN_DESTROY, GATES(GATE(managed), APPLIES(not_wanted), GATE(back_off))},
    {KEY_PUBLISHED, PLAN_WITHDRAW, GATES(GATE(managed), APPLIES(not_withdrawn), GATE(other_key_served), GATE(back_off))},
    {KEY_PUBLISHED, PLAN_REVOKE, GATES(GIVE_UP_GATES)},
    {KEY_PUBLISHED, PLAN_ATTEST, GATES(GATE(managed), APPLIES(not_given_up), APPLIES(clock_doubtful), GATE(back_off))},
    {KEY_PUBLISHED, PLAN_READY,
     GATES(GATE(managed), APPLIES(not_given_up), GATE(servers_right), GATE(negative_cache), GATE(seen_after_wait))},
    {KEY_PUBLISHED, PLAN_CONFIRM, GATES(GATE(managed), APPLIES(not_given_up), GATE(round_due), GATE(look_back_off))},
    {KEY_PUBLISHED, PLAN_PUBLISH, GATES(APPLIES(not_given_up), HEAL_GATES)},
    {KEY_PUBLISHED, PLAN_CHECK_FILES, GATES(FILES_GATES)},
    {KEY_READY, PLAN_WITHDRAW, GATES(GATE(managed), APPLIES(given_up), APPLIES(not_withdrawn), GATE(other_key_signs), GATE(back_off))},
    {KEY_READY, PLAN_REVOKE, GATES(GIVE_UP_GATES)},
    {KEY_READY, PLAN_ACTIVATE,
     GATES(GATE(managed), APPLIES(not_given_up), GATE(not_held), GATE(turn), GATE(negative_cache), GATE(clock_attested), GATE(back_off),
           GATE(caught_up), GATE(freeze), GATE(window), GATE(wave_runs), GATE(run_room))},
    {KEY_READY, PLAN_CONFIRM, GATES(WATCH_GATES)},
    {KEY_READY, PLAN_CHECK_FILES, GATES(FILES_GATES)},
    {KEY_ACTIVE, PLAN_REVOKE,
     GATES(GATE(managed), APPLIES(compromised), APPLIES(now_asked), GATE(not_held), GATE(no_standby), GATE(back_off))},
    {KEY_ACTIVE, PLAN_ACTIVATE, GATES(GATE(managed), APPLIES(placement_missing), GATE(back_off))},
    {KEY_ACTIVE, PLAN_REPAIR, GATES(GATE(managed), APPLIES(repairable), GATE(record_served))},
    {KEY_ACTIVE, PLAN_CONFIRM, GATES(WATCH_GATES)},
    {KEY_ACTIVE, PLAN_PUBLISH, GATES(HEAL_GATES)},
    {KEY_ACTIVE, PLAN_PROVE, GATES(GATE(managed), APPLIES(proof_wanted), GATE(proof_due))},
    {KEY_RETIRED, PLAN_REVOKE, GATES(GATE(managed), APPLIES(compromised), APPLIES(not_deleted), GATE(not_held), GATE(back_off))},
    {KEY_RETIRED, PLAN_WITHDRAW,
     GATES(GATE(managed), APPLIES(not_withdrawn), GATE(drained), GATE(other_key_signs), GATE(clock_attested), GATE(back_off))},
    {KEY_RETIRED, PLAN_REVOKE,
     GATES(GATE(managed), APPLIES(tombstone_wanted), APPLIES(not_deleted), GATE(not_held), GATE(other_key_signs),
           GATE(retire_window), GATE(successor_proved), GATE(clock_attested), GATE(back_off), GATE(freeze), GATE(window))},
    {KEY_RETIRED, PLAN_DELETE,
     GATES(GATE(managed), APPLIES(no_tombstone_wanted), APPLIES(not_deleted), GATE(not_held), GATE(other_key_signs),
           GATE(retire_window), GATE(successor_proved), GATE(clock_attested), GATE(back_off), GATE(freeze), GATE(window))},
    {KEY_RETIRED, PLAN_CONFIRM, GATES(WATCH_GATES)},
    {KEY_RETIRED, PLAN_PUBLISH, GATES(APPLIES(not_compromised), HEAL_GATES)},
    {KEY_RETIRED, PLAN_CONFIRM_ABSENT,
     GATES(GATE(managed), APPLIES(deleted), APPLIES(not_absent), GATE(absence_round_due), GATE(look_back_off))},
    {KEY_RETIRED, PLAN_DELETE, GATES(DELETE_AGAIN_GATES, GATE(other_key_signs), GATE(retire_window))},
    {KEY_RETIRED, PLAN_DESTROY, GATES(DESTROY_GATES)},
    {KEY_REVOKED, PLAN_WITHDRAW, GATES(GATE(managed), APPLIES(not_withdrawn), GATE(other_key_signs), GATE(back_off))},
    {KEY_REVOKED, PLAN_CONFIRM, GATES(GATE(managed), APPLIES(not_deleted), APPLIES(exposed), GATE(round_due), GATE(look_back_off))},
    {KEY_REVOKED, PLAN_DELETE,
     GATES(GATE(managed), APPLIES(not_deleted), GATE(not_held), GATE(tombstone_over), GATE(clock_attested), GATE(back_off),
           GATE(freeze), GATE(window))},
    {KEY_REVOKED, PLAN_CONFIRM, GATES(WATCH_GATES)},
    {KEY_REVOKED, PLAN_REVOKE, GATES(HEAL_GATES)},
    {KEY_REVOKED, PLAN_CONFIRM_ABSENT,
     GATES(GATE(managed), APPLIES(deleted), APPLIES(not_absent), GATE(absence_round_due), GATE(look_back_off))},
    {KEY_REVOKED, PLAN_DELETE, GATES(DELETE_AGAIN_GATES)},
    {KEY_REVOKED, PLAN_DESTROY, GATES(DESTROY_GATES)},
};
const size_t plan_step_count = sizeof plan_steps / sizeof plan_steps[0];

const struct step plan_new_key = {KEY_RESERVED, PLAN_GENERATE,
                                  GATES(GATE(managed), GATE(not_held), GATE(successor_wanted), GATE(room), GATE(back_off), GATE(caught_up),
                                        GATE(freeze), GATE(wave_runs), GATE(run_room))};
