/* What must hold in every life, by facts that the oracle keeps in true time. It knows the formulas by itself and calls none of timing_*. */
#include "life_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/text.h"

enum { STEPS_OF_HOUR_MAX = 800 }; /* a look every 10 s is 360 */

void oracle_fail(struct life *life, const char *format, ...) {
  va_list arguments;
  char what[1024];
  va_start(arguments, format);
  vsnprintf(what, sizeof what, format, arguments);
  va_end(arguments);
  for (size_t i = 0; i < LIFE_TRACE; i++)
    if (life->trace[i][0]) print_error("  %s\n", life->trace[i]);
  const long long since = (long long)(life->moment - life->begin);
  print_error("seed %llu, day %lld %05lld: %s\n", (unsigned long long)life->seed, since / DAY, since % DAY, what);
  fail();
  abort();
}

static const struct policy_rules *rules_of(const struct life *life) { return life->builder.lineage.rules; }

static int64_t later(int64_t a, int64_t b) { return a > b ? a : b; }

/* ---- plans ---- */

void oracle_judge_plan(struct life *life, const struct plan *plan) {
  const int64_t now = life->clock.now;
  if (plan->action == PLAN_NONE && plan->next <= now) oracle_fail(life, "it spins: nothing to do, and next is now");
  if (plan->action != PLAN_NONE && plan->next != now) oracle_fail(life, "%s is due, and next is not now", plan_action_name(plan->action));
  if (plan->action == PLAN_NONE && plan->waiting != PLAN_NONE && plan->reason_count == 0) oracle_fail(life, "it waits for no reason");
  if (plan->needs_person && plan->next != TIME_NEVER) oracle_fail(life, "a person is needed although time goes on");
  if (life->moment / HOUR != life->hour) {
    life->hour = life->moment / HOUR;
    life->steps_of_hour = 0;
  }
  if (++life->steps_of_hour > STEPS_OF_HOUR_MAX) oracle_fail(life, "it spins: more than %d steps within an hour", STEPS_OF_HOUR_MAX);
}

/* ---- steps ---- */

static bool is_held(const struct life *life) {
  const struct lineage *lineage = &life->builder.lineage;
  return lineage->held && life->clock.now < lineage->hold_until;
}

static size_t count_keys(const struct life *life, enum key_state state) {
  size_t count = 0;
  for (size_t i = 0; i < life->builder.lineage.key_count; i++) count += life->builder.lineage.keys[i].state == state;
  return count;
}

static bool signs_somewhere(struct life *life, const char *selector) {
  const struct lineage *lineage = &life->builder.lineage;
  for (size_t i = 0; i < lineage->signer_count; i++)
    if (text_equal(life_tables(life, lineage->signers[i])->signs, selector)) return true;
  return false;
}

/* F2 and F3 together: how long after its retirement a key's mail may be verified. */
static int64_t window_of(const struct policy_rules *rules) {
  return rules->drain + rules->queue_lifetime + rules->queue_backoff + rules->verify_window + rules->retire_safety;
}

static bool is_lost(const struct life *life, const struct life_record *record) {
  const struct lineage *lineage = &life->builder.lineage;
  const unsigned all = (1U << life->tables_count) - 1;
  return lineage->signer_count > 0 && record->switched_at == TIME_UNSET && ((record->files_missing | record->files_other) & all) == all;
}

/* An emergency waives I2, and F3 with it, for the keys that a person named; I1 only where the end at once was asked for. */
static void judge_emergency(struct life *life, const struct key *key, const struct life_record *record) {
  if (is_held(life)) oracle_fail(life, "%s is revoked although the domain is held", key->selector);
  if (record->now) return;
  if (signs_somewhere(life, key->selector)) oracle_fail(life, "I1: %s is revoked and signs", key->selector);
  if (key->state == KEY_ACTIVE) oracle_fail(life, "I1: %s is revoked and no other key signs", key->selector);
}

static void judge_ending(struct life *life, const struct key *key, const struct life_record *record, enum plan_action action) {
  /* What has ended is said again, where a server was seen not to say it. */
  if (action == PLAN_REVOKE && key->state == KEY_REVOKED) {
    if (record->all_right) oracle_fail(life, "%s is revoked again, though every server says it", key->selector);
    return;
  }
  if (action == PLAN_REVOKE && (record->compromised || is_lost(life, record))) {
    judge_emergency(life, key, record);
    return;
  }
  if (!life->clock.attested) oracle_fail(life, "%s ends by a clock that nobody vouches for", key->selector);
  if (is_held(life)) oracle_fail(life, "%s ends although the domain is held", key->selector);
  if (signs_somewhere(life, key->selector)) oracle_fail(life, "I1: %s ends and signs", key->selector);
  if (key->state == KEY_REVOKED) {
    if (life->moment < record->revoked_at + rules_of(life)->tombstone - record->revoked_behind) oracle_fail(life, "F5: %s ends before its tombstone", key->selector);
    return;
  }
  if (key->state == KEY_GENERATED) {
    if (record->switched_at != TIME_UNSET) oracle_fail(life, "%s ends as if it had never signed", key->selector);
    return;
  }
  if (count_keys(life, KEY_ACTIVE) != 1) oracle_fail(life, "I1: %s ends and no other key signs", key->selector);
  if (life->moment < later(record->retired_at, record->signed_at - rules_of(life)->drain) + window_of(rules_of(life))) oracle_fail(life, "F3: %s ends before its window", key->selector);
  if (life->clock.now < record->revoke_at) oracle_fail(life, "F3: %s ends before the window that was promised", key->selector);
}

static void judge_withdrawal(struct life *life, const struct key *key, const struct life_record *record) {
  if (record->now || (record->compromised && key->state < KEY_ACTIVE)) return;
  if (key->state != KEY_PUBLISHED && signs_somewhere(life, key->selector)) oracle_fail(life, "I1: %s leaves tables that sign with it", key->selector);
  /* What connections that are open read is in the signer's memory, and its mail is not verified any more. */
  if (record->compromised && key->state == KEY_REVOKED) return;
  if (life->moment < record->retired_at + rules_of(life)->drain) oracle_fail(life, "F2: %s leaves while connections may be open", key->selector);
}

static void judge_destruction(struct life *life, const struct key *key, const struct life_record *record) {
  const bool served = life_content(record, (size_t)key->publisher_id - 1, life->moment) != LIFE_ABSENT;
  if (served) oracle_fail(life, "I4: the private key of %s goes before its record", key->selector);
  for (size_t i = 0; i < life->tables_count; i++)
    for (size_t j = 0; j < life->tables[i].named_count; j++)
      if (text_equal(life->tables[i].named[j], key->selector)) oracle_fail(life, "I4: %s is destroyed and %s names it", key->selector, life->tables[i].name);
  if (key->state <= KEY_GENERATED) return;
  if (!record->all_absent) oracle_fail(life, "I4: %s is destroyed and may be served", key->selector);
  if (is_held(life) || !life->clock.attested) oracle_fail(life, "%s is destroyed although held or without a clock", key->selector);
}

void oracle_judge_step(struct life *life, enum plan_action action, const struct key *key) {
  if (!life->builder.lineage.managed) oracle_fail(life, "%s although the domain is not in the policy", plan_action_name(action));
  if (!key) return;
  const struct life_record *record = life_record(life, key->selector);
  if (action == PLAN_REVOKE || action == PLAN_DELETE) judge_ending(life, key, record, action);
  if (action == PLAN_WITHDRAW) judge_withdrawal(life, key, record);
  if (action == PLAN_DESTROY) judge_destruction(life, key, record);
  if (action == PLAN_ACTIVATE && key->state == KEY_READY && record->compromised) oracle_fail(life, "%s takes over although it is compromised", key->selector);
  if (action == PLAN_PUBLISH && key->state != KEY_ACTIVE && record->compromised) oracle_fail(life, "%s is published although it is compromised", key->selector);
  if (action == PLAN_ACTIVATE && key->state == KEY_READY && (is_held(life) || !life->clock.attested))
    oracle_fail(life, "%s takes over although held or without a clock", key->selector);
  if (action == PLAN_PUBLISH && record->deleted_at != TIME_UNSET && record->active_at != TIME_UNSET)
    oracle_fail(life, "I3: %s is published after its end", key->selector);
}

/* ---- rounds ---- */

void oracle_take_round(struct life *life, struct life_record *record, const struct sighting_report *reports, size_t count, bool absence) {
  bool all = true;
  record->doubtful |= life->wall_error != 0;
  for (size_t i = 0; i < count; i++) {
    bool counts = reports[i].right;
    for (size_t j = 0; j < count && reports[i].no_route; j++) counts |= reports[j].right && text_equal(reports[j].host, reports[i].host);
    all &= counts;
    if (absence) continue;
    if (reports[i].right && record->right_since[i] == TIME_UNSET) record->right_since[i] = life->moment;
    if (!reports[i].right) record->right_since[i] = TIME_UNSET;
    if (!reports[i].right && !reports[i].no_route) record->wrong_at = life->moment;
  }
  *(absence ? &record->all_absent : &record->all_right) = all;
}

/* ---- what became of it ---- */

/* F1: any cache that remembered that the name does not exist has forgotten it. */
static void judge_activation(struct life *life, const struct key *key, const struct life_record *record) {
  int64_t from = record->wrong_at;
  if (!record->all_right) oracle_fail(life, "I1: %s signs and not every server has its record", key->selector);
  for (size_t i = 0; i < life->server_count; i++) from = later(from, record->right_since[i]);
  const int64_t opens = from + later(life->ttl_negative, life->ttl_old) + rules_of(life)->publish_safety;
  if (life->moment < opens && !record->doubtful) oracle_fail(life, "F1: %s signs %lld s too early", key->selector, (long long)(opens - life->moment));
}

static bool may_follow(const struct life *life, const struct life_record *record, enum key_state to) {
  const enum key_state from = record->state;
  if (to == KEY_REVOKED && (from == KEY_PUBLISHED || from == KEY_READY)) return record->compromised || is_lost(life, record);
  if (to == KEY_REVOKED && from == KEY_ACTIVE) return record->now;
  if (to == KEY_REMOVED) return from == KEY_RESERVED || from == KEY_GENERATED || from >= KEY_RETIRED;
  return to == from + 1 || (from == KEY_READY && to == KEY_PUBLISHED);
}

static void note_state(struct life *life, const struct key *key, struct life_record *record) {
  if (!may_follow(life, record, key->state))
    oracle_fail(life, "%s goes from %s to %s", key->selector, key_state_name(record->state), key_state_name(key->state));
  life_trace(life, "%s: %s -> %s", key->selector, key_state_name(record->state), key_state_name(key->state));
  if (record->state == KEY_ACTIVE && key->state == KEY_REVOKED) life->has_signed = false; /* as it was asked for */
  record->state = key->state;
  if (key->state == KEY_ACTIVE) {
    judge_activation(life, key, record);
    record->active_at = life->moment;
    life->has_signed = true;
    life->rotations++;
  }
  if (key->state == KEY_RETIRED) record->retired_at = life->moment;
  if (key->state == KEY_REVOKED) {
    record->revoked_at = life->moment;
    record->revoked_behind = later(0, -life->wall_error);
  }
}

/* A signer's table may name a key that is still to be active everywhere, but none whose record is gone. */
static void judge_tables(struct life *life) {
  struct lineage *lineage = &life->builder.lineage;
  for (size_t i = 0; i < lineage->signer_count; i++) {
    const struct life_tables *tables = life_tables(life, lineage->signers[i]);
    const struct key *key = tables->signs[0] ? lineage_find_key(lineage, tables->signs) : NULL;
    const bool ended_at_once = key && life_record(life, key->selector)->now;
    if (tables->signs[0] && (!key || (key->state > KEY_RETIRED && !ended_at_once))) oracle_fail(life, "I1: %s signs with %s, which is gone", tables->name, tables->signs);
  }
}

void oracle_judge_lineage(struct life *life) {
  const struct lineage *lineage = &life->builder.lineage;
  const size_t active = count_keys(life, KEY_ACTIVE);
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *key = &lineage->keys[i];
    struct life_record *record = life_record(life, key->selector);
    if (record->state != key->state) note_state(life, key, record);
    if (key->deleted_at != TIME_UNSET && record->deleted_at == TIME_UNSET) record->deleted_at = life->moment;
    if (key->deleted_at == TIME_UNSET) record->deleted_at = TIME_UNSET;
    if (record->revoke_at != TIME_UNSET && key->revoke_at < record->revoke_at) oracle_fail(life, "F3: the window of %s shrinks", key->selector);
    record->revoke_at = key->revoke_at;
  }
  if (active > 1) oracle_fail(life, "%zu keys are active", active);
  if (life->has_signed && active == 0) oracle_fail(life, "I1: no key is active any more");
  judge_tables(life);
}

/* ---- liveness ---- */

static const char *find_ill_record(struct life *life, const struct key *key) {
  const struct life_record *record = life_record(life, key->selector);
  for (size_t i = 0; i < life->server_count; i++)
    if (life_seen(life, record, (size_t)life->builder.lineage.publisher_id - 1, i) != LIFE_SERVED) return "a server lacks a record that mail needs";
  return NULL;
}

static const char *find_ill_key(struct life *life, const struct key *key) {
  const struct policy_rules *rules = rules_of(life);
  const struct life_record *record = life_record(life, key->selector);
  const bool revoked = record->revoked_at != TIME_UNSET;
  /* Tables that an operator made name it again keep a key until they are mended. */
  const int64_t retired_at = later(record->retired_at, record->signed_at);
  const int64_t end = revoked ? record->revoked_at + rules->tombstone : later(retired_at + window_of(rules), key->revoke_at);
  if (record->compromised && key->state < KEY_REVOKED && !is_held(life)) return "a compromised key has its record";
  if (key->state == KEY_ACTIVE && (record->files_missing | record->files_other) != 0) return "the private key file of the active key is not as it was";
  if (key->state == KEY_ACTIVE || (key->state == KEY_RETIRED && key->deleted_at == TIME_UNSET)) {
    const char *ill = find_ill_record(life, key);
    if (ill) return ill;
  }
  if (is_held(life)) return NULL;
  if (key->state >= KEY_RETIRED && life->moment > end + LIFE_RECOVERY)
    return "an old key is not tidied up";
  if (key->state == KEY_ACTIVE && rules->rotate_every != TIME_NEVER && life->moment > record->active_at + rules->rotate_every + LIFE_RECOVERY)
    return "the active key has no successor";
  return NULL;
}

const char *oracle_find_ill(struct life *life) {
  struct lineage *lineage = &life->builder.lineage;
  const struct key *active = lineage_active_key(lineage);
  if (!active) return "no key signs";
  for (size_t i = 0; i < lineage->signer_count; i++)
    if (!text_equal(life_tables(life, lineage->signers[i])->signs, active->selector)) return "a signer does not sign with the active key";
  for (size_t i = 0; i < lineage->key_count; i++) {
    const char *ill = find_ill_key(life, &lineage->keys[i]);
    if (ill) return ill;
  }
  if (count_keys(life, KEY_RESERVED) + count_keys(life, KEY_GENERATED) + count_keys(life, KEY_PUBLISHED) + count_keys(life, KEY_READY) <
          rules_of(life)->standby && !is_held(life))
    return "standby keys are missing";
  if (lineage->failures > 0) return lineage->failure;
  return NULL;
}

void life_expect_well(struct life *life) {
  const char *ill = oracle_find_ill(life);
  if (ill) oracle_fail(life, "not well: %s", ill);
}
