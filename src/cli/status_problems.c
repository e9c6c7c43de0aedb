#include <stdio.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/status.h"
#include "dkimroll/text.h"
#include "dkimroll/timing.h"

enum { PROBLEM_TEXT_MAX = ERROR_MESSAGE_MAX + ERROR_REMEDY_MAX + 256 };

/* What the functions below share. */
struct problem_search {
  const struct lineage *lineage;
  const struct plan_clock *clock;
  struct findings *findings;
  const char *kind;
};

static void add(const struct problem_search *search, enum finding_level level, const char *text, const char *remedy,
                int64_t since) {
  findings_add(search->findings, &(struct finding){.level = level,
                                                   .code = ERROR_CONFLICT,
                                                   .kind = search->kind,
                                                   .subject = (char *)"domains",
                                                   .who = (char *)search->lineage->domain,
                                                   .text = (char *)text,
                                                   .remedy = (char *)remedy,
                                                   .since = since == TIME_UNSET ? 0 : since});
}

static void find_failure(const struct problem_search *search) {
  const struct lineage *lineage = search->lineage;
  char text[PROBLEM_TEXT_MAX];
  if (lineage->failures == 0 || !lineage->failure) return;
  const bool parked = lineage->parked_at != TIME_UNSET;
  snprintf(text, sizeof text, "%s%s", parked ? "it keeps failing and is tried but once a day now: " : "",
           lineage->failure);
  add(search, FINDING_FAILED, text, parked ? "`dkimroll rotate` or a change of its policy tries it at once" : "",
      parked ? lineage->parked_at : TIME_UNSET);
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *key = &lineage->keys[i];
    if (key->failures > 0 && key->failure && !text_equal(key->failure, lineage->failure)) add(search, FINDING_FAILED, key->failure, "", TIME_UNSET);
  }
}

/* The first server that holds the key back; NULL: none does, or none was asked. */
static const struct sighting *find_wrong(const struct key *key, int64_t not_before) {
  for (size_t i = 0; i < key->sighting_count; i++)
    if (!timing_sighting_counts(key, i) && key->sightings[i].seen_at >= not_before) return &key->sightings[i];
  return NULL;
}

/* What a server does wrong about a key, for how long that is no trouble, and since when. */
struct complaint {
  const char *what;
  int64_t since; /* TIME_UNSET: not known */
  int64_t patience;
};

static bool find_complaint(const struct key *key, const struct policy_rules *rules, struct complaint *ret) {
  if (key->deleted_at != TIME_UNSET) {
    *ret = (struct complaint){"still serves the record of a key that was deleted", key->deleted_at,
                              rules->confirm_warn_after};
    return key->absent_at == TIME_UNSET;
  }
  if (key->state == KEY_PUBLISHED)
    *ret = (struct complaint){"does not serve the record of a new key", key->state_since, rules->confirm_warn_after};
  else if (key->state == KEY_ACTIVE)
    *ret = (struct complaint){"does not serve the record of the key that signs", TIME_UNSET, 0};
  else if (key->state == KEY_RETIRED)
    *ret = (struct complaint){"does not serve the record of a key whose mail may be on its way", TIME_UNSET, 0};
  else
    return false;
  return true;
}

static void find_wrong_server(const struct problem_search *search, const struct key *key) {
  struct complaint complaint;
  char text[PROBLEM_TEXT_MAX], server[STATUS_SERVER_MAX];
  if (!find_complaint(key, search->lineage->rules, &complaint)) return;
  const struct sighting *wrong = find_wrong(key, key->deleted_at);
  const bool soon = complaint.since != TIME_UNSET && search->clock->now < time_add(complaint.since, complaint.patience);
  if (!wrong || soon) return;
  snprintf(text, sizeof text, "%s %s: %s", status_server_name(wrong->host, wrong->address, server), complaint.what,
           wrong->answer);
  add(search, FINDING_FAILED, text,
      "see whether that server gets the zone (NOTIFY, AXFR, its log); if nobody asks it, name it under ignore-servers "
      "of the publisher",
      complaint.since);
}

static void find_wrong_servers(const struct problem_search *search) {
  const struct lineage *lineage = search->lineage;
  for (size_t i = 0; i < lineage->key_count; i++) find_wrong_server(search, &lineage->keys[i]);
}

void status_describe_replacement(const struct lineage *lineage, const struct key *before, int64_t now, char *buffer, size_t size) {
  char moment[TIME_TEXT_SIZE];
  const struct key *coming = NULL;
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *key = &lineage->keys[i];
    if (key->state < KEY_ACTIVE && !key_is_given_up(key) && (!coming || key->state > coming->state)) coming = key;
  }
  const int64_t expected = time_add(now, timing_publication_interval(before, lineage->rules));
  const int64_t opens = coming && coming->state >= KEY_PUBLISHED ? timing_ready(coming, lineage->rules) : expected;
  if (lineage->held && now < lineage->hold_until)
    snprintf(buffer, size, "`dkimroll release` lets a new key take over");
  else if (opens <= now)
    snprintf(buffer, size, "a new key takes over with the next run");
  else if (opens == TIME_NEVER)
    snprintf(buffer, size, "a new key takes over as soon as every server has its record and caches allow");
  else
    snprintf(buffer, size, "a new key takes over at about %s", time_format(opens, moment));
}

/* What the last proof of the key that signs found. */
static void find_unproved(const struct problem_search *search) {
  const struct lineage *lineage = search->lineage;
  char remedy[PROBLEM_TEXT_MAX];
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *key = &lineage->keys[i];
    if (key->state != KEY_ACTIVE) continue;
    remedy[0] = '\0';
    if (key_is_broken(lineage, key)) status_describe_replacement(lineage, key, search->clock->now, remedy, sizeof remedy);
    for (size_t j = 0; j < key->placement_count; j++) {
      const struct placement *placement = &key->placements[j];
      if (placement->damage == DAMAGE_NONE || !placement_signs(lineage, key, j)) continue;
      add(search, FINDING_FAILED, placement->failure ? placement->failure : "a signer does not sign as it should", remedy, placement->damaged_at);
    }
  }
}

static void find_contested(const struct problem_search *search) {
  char text[PROBLEM_TEXT_MAX], remedy[PROBLEM_TEXT_MAX];
  for (size_t i = 0; i < search->lineage->key_count; i++) {
    const struct key *key = &search->lineage->keys[i];
    if (key->state != KEY_ACTIVE || key->contested_at == TIME_UNSET) continue;
    status_describe_replacement(search->lineage, key, search->clock->now, remedy, sizeof remedy);
    snprintf(text, sizeof text, "something else stands at %s, so the record of the key that signs is not put back; remove it there, and the next run does",
             key->owner_name);
    add(search, FINDING_FAILED, text, remedy, key->contested_at);
  }
}

/* A key that took over while the clock was ahead has its whole life still to come, and would sign for all of it. */
static void find_ahead(const struct problem_search *search) {
  const struct lineage *lineage = search->lineage;
  char text[PROBLEM_TEXT_MAX], active[TIME_TEXT_SIZE], turn[TIME_TEXT_SIZE];
  if (lineage->rotate_requested || lineage->rules->rotate_every == TIME_NEVER) return;
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *key = &lineage->keys[i];
    if (key->state != KEY_ACTIVE || key->active_at <= time_add(search->clock->now, STATUS_AHEAD_SECONDS)) continue;
    snprintf(text, sizeof text, "the key that signs took over on %s by a clock that was ahead, and would sign until %s",
             time_format(key->active_at, active), time_format(timing_turn(lineage, key), turn));
    add(search, FINDING_FAILED, text, "`dkimroll rotate` replaces it now", TIME_UNSET);
  }
}

static void find_unmanaged(const struct problem_search *search) {
  const struct lineage *lineage = search->lineage;
  char text[PROBLEM_TEXT_MAX];
  if (lineage->managed) return;
  if (text_equal(lineage->slot, "main"))
    snprintf(text, sizeof text,
             "it is not in the policy any more: it keeps signing, and nothing is changed or deleted");
  else
    snprintf(text, sizeof text,
             "its key %s is not in the policy any more: it keeps signing, and nothing is changed or deleted",
             lineage->slot);
  add(search, FINDING_FAILED, text, "put it back into the policy, or end it with `dkimroll forget`", TIME_UNSET);
}

/* Is the hold all that keeps a step back? */
static bool hold_keeps_back(const struct problem_search *search) {
  const struct plan_clock clock = {.now = search->clock->now, .attested = true, .skip_watch = true};
  for (size_t i = 0; i <= search->lineage->key_count; i++) {
    struct plan plan;
    plan_key(search->lineage, i, &clock, &plan);
    if (plan.action == PLAN_NONE && plan.reason_count == 1 && text_equal(plan.reasons[0].gate, "not_held")) return true;
  }
  return false;
}

/* A hold that ends by itself is as its maker wants it. One without an end is easily forgotten, and then the key outlives its time. */
static void find_hold(const struct problem_search *search) {
  const struct lineage *lineage = search->lineage;
  char text[PROBLEM_TEXT_MAX], moment[TIME_TEXT_SIZE];
  if (!lineage->held || search->clock->now >= lineage->hold_until) return;
  const bool forgotten = lineage->hold_until == TIME_NEVER && hold_keeps_back(search);
  snprintf(text, sizeof text, "held%s%s%s%s%s%s", lineage->hold_scope == HOLD_ACTIVATION ? " from taking over" : "", lineage->hold_until == TIME_NEVER ? "" : " until ",
           lineage->hold_until == TIME_NEVER ? "" : time_format(lineage->hold_until, moment),
           lineage->hold_reason ? " (" : "", lineage->hold_reason ? lineage->hold_reason : "",
           lineage->hold_reason ? ")" : "");
  if (forgotten) text_copy(text + strlen(text), sizeof text - strlen(text), ", and a step is due");
  add(search, forgotten ? FINDING_FAILED : FINDING_NOTE, text, "`dkimroll release` ends the hold", TIME_UNSET);
}

/* Mail goes out unsigned. While the first key is on its way that is the ordinary course of things; after an end at once it is what a person has asked for, and has to know. */
static void find_unsigned(const struct problem_search *search) {
  const struct lineage *lineage = search->lineage;
  const struct key *ended = lineage_ended_key(lineage);
  char remedy[PROBLEM_TEXT_MAX];
  size_t active = 0, coming = 0;
  if (ended && lineage->managed) {
    status_describe_replacement(lineage, ended, search->clock->now, remedy, sizeof remedy);
    add(search, FINDING_FAILED, "its mail goes out unsigned, since its key was revoked and no other may sign yet", remedy, ended->revoked_at);
    return;
  }
  for (size_t i = 0; i < lineage->key_count; i++) {
    active += lineage->keys[i].state == KEY_ACTIVE;
    coming += lineage->keys[i].state < KEY_ACTIVE && !key_is_given_up(&lineage->keys[i]);
  }
  const bool stuck = lineage->held || !lineage->managed;
  if (active > 0 || (coming > 0 && !stuck) || (lineage->key_count == 0 && !stuck)) return;
  add(search, FINDING_FAILED, "no key of it signs, so its mail goes out unsigned, unless a line of somebody else signs it",
      stuck ? "dkimroll makes no key for it: see what else is said of it" : "`dkimroll rotate` makes a key",
      TIME_UNSET);
}

/* A key that somebody else may have: how far its end is, and until when it may do harm. */
static void find_compromised_key(const struct problem_search *search, const struct key *key) {
  const struct lineage *lineage = search->lineage;
  const struct sighting *wrong = find_wrong(key, key->revoked_at);
  char text[PROBLEM_TEXT_MAX], remedy[PROBLEM_TEXT_MAX] = "", moment[TIME_TEXT_SIZE], server[STATUS_SERVER_MAX];
  if (key->state == KEY_ACTIVE) {
    snprintf(text, sizeof text, "the key %s is compromised and signs until another one may", key->selector);
    status_describe_replacement(lineage, key, search->clock->now, remedy, sizeof remedy);
  } else if (key->state < KEY_REVOKED) {
    snprintf(text, sizeof text, "the key %s is compromised, and its record does not say so yet", key->selector);
  } else if (key->right_at == TIME_UNSET && wrong) {
    snprintf(text, sizeof text, "the key %s is compromised and revoked, but %s does not say so: %s", key->selector,
             status_server_name(wrong->host, wrong->address, server), wrong->answer);
    snprintf(remedy, sizeof remedy, "see that this server gets the zone, or take it out of the NS set: until then receivers believe who has the key");
  } else if (search->clock->now < timing_dead(key)) {
    snprintf(text, sizeof text, "the key %s is compromised, and caches may give it out until %s", key->selector, time_format(timing_dead(key), moment));
    snprintf(remedy, sizeof remedy, "that ends by itself");
  } else {
    return;
  }
  add(search, FINDING_FAILED, text, remedy, key->compromised_at);
  if (key->lingers_until == TIME_UNSET || search->clock->now >= key->lingers_until) return;
  snprintf(text, sizeof text, "connections that were open may sign with %s, which is revoked, until %s: that mail is not verified", key->selector,
           time_format(key->lingers_until, moment));
  add(search, FINDING_FAILED, text, lineage->signer_count == 1 ? "restart the signer, which ends them" : "restart the signers, which ends them", TIME_UNSET);
}

static void find_compromised(const struct problem_search *search) {
  for (size_t i = 0; i < search->lineage->key_count; i++) {
    const struct key *key = &search->lineage->keys[i];
    if (key->compromised_at != TIME_UNSET && key->deleted_at == TIME_UNSET) find_compromised_key(search, key);
  }
}

/* A key that waits for an emergency is no use without its private half. */
static void find_lost(const struct problem_search *search) {
  char text[PROBLEM_TEXT_MAX];
  for (size_t i = 0; i < search->lineage->key_count; i++) {
    const struct key *key = &search->lineage->keys[i];
    if (key->compromised_at != TIME_UNSET || !key_is_lost(key)) continue;
    snprintf(text, sizeof text, "the private key of %s, which waits to take over, is lost", key->selector);
    add(search, FINDING_FAILED, text, "another key is made; within a day a backup of the file makes this one usable again", key->placements[0].damaged_at);
  }
}

void status_find_problems(const struct lineage *lineage, const struct plan_clock *clock, struct findings *findings) {
  static const struct {
    const char *kind;
    void (*find)(const struct problem_search *search);
  } all[] = {{"failure", find_failure},     {"server", find_wrong_servers}, {"compromised", find_compromised}, {"lost", find_lost},  {"unproved", find_unproved},
             {"contested", find_contested}, {"ahead", find_ahead},          {"unmanaged", find_unmanaged},     {"hold", find_hold}, {"unsigned", find_unsigned}};
  for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
    const struct problem_search search = {.lineage = lineage, .clock = clock, .findings = findings, .kind = all[i].kind};
    all[i].find(&search);
  }
}
