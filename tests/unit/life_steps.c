/* What each step of the planner does in the world of a life, and how it is lived. */
#include "life_world_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/text.h"

/* One step under way: its outcome and what that borrows. */
struct doing {
  struct outcome outcome;
  struct sighting_report sightings[LIFE_SERVERS_MAX];
  struct placement_report placements[KEY_PLACEMENTS_MAX];
  struct error error;
  char record_text[SELECTOR_SIZE + 32];
  struct life_record *record;
  size_t publisher;
};

static int64_t wall(const struct life *life) { return life->moment + life->wall_error; }

static void fail_doing(struct doing *doing, int code, bool retryable) {
  error_set(&doing->error, code, "it did not work");
  error_remedy(&doing->error, "make it work");
  error_retryable(&doing->error, retryable);
  doing->outcome.error = &doing->error;
}

static void look(struct life *life, struct doing *doing, bool absence) {
  const enum life_content wanted = absence ? LIFE_ABSENT : doing->record->state == KEY_REVOKED ? LIFE_REVOKED : LIFE_SERVED;
  for (size_t i = 0; i < life->server_count; i++) {
    const struct life_server *server = &life->servers[i];
    const bool dead = server->dead_until > life->moment;
    const enum life_content seen = life_seen(life, doing->record, doing->publisher, i);
    const bool right = !dead && !server->routeless && seen == wanted;
    doing->sightings[i] = (struct sighting_report){.host = server->host,
                                                   .address = server->address,
                                                   .right = right,
                                                   .no_route = server->routeless,
                                                   .at = wall(life),
                                                   .ttl = right && !absence ? HOUR : -1,
                                                   .ttl_negative = dead ? -1 : life->ttl_negative,
                                                   .answer = server->routeless ? "no route" : dead ? "timeout" : right ? "right" : "NXDOMAIN"};
  }
  doing->outcome.sightings = doing->sightings;
  doing->outcome.sighting_count = life->server_count;
  oracle_take_round(life, doing->record, doing->sightings, life->server_count, absence);
}

static void make_file(struct life *life, struct doing *doing, const struct key *key) {
  snprintf(doing->record_text, sizeof doing->record_text, "v=DKIM1; p=%s", key->selector);
  doing->outcome.record = doing->record_text;
  doing->outcome.zone = "example.com";
  doing->outcome.ttl_negative = life->ttl_negative;
  doing->outcome.ttl_old = life->ttl_old;
  for (size_t i = 0; i < key->placement_count; i++)
    doing->placements[i] = (struct placement_report){.signer_id = key->placements[i].signer_id, .completed_at = wall(life)};
  doing->outcome.placements = doing->placements;
  doing->outcome.placement_count = key->placement_count;
}

static void name_key(struct life *life, struct life_tables *tables, const char *selector) {
  for (size_t i = 0; i < tables->named_count; i++)
    if (text_equal(tables->named[i], selector)) return;
  if (tables->named_count == LIFE_NAMED_MAX) oracle_fail(life, "%s is never tidied up", tables->name);
  text_copy(tables->named[tables->named_count++], SELECTOR_SIZE, selector);
}

/* After a fresh look, one signer after the other; one that is dead is the end of it. */
static void switch_signers(struct life *life, struct doing *doing, const struct key *key) {
  const struct lineage *lineage = &life->builder.lineage;
  look(life, doing, false);
  if (!doing->record->all_right) {
    fail_doing(doing, ERROR_CONFLICT, true);
    return;
  }
  for (size_t i = 0; i < lineage->signer_count; i++) {
    struct life_tables *tables = life_tables(life, lineage->signers[i]);
    struct placement_report *report = &doing->placements[doing->outcome.placement_count++];
    *report = (struct placement_report){.signer_id = lineage->signer_ids[i], .failure = "it does not answer"};
    doing->outcome.placements = doing->placements;
    if (tables->dead_until > life->moment) {
      fail_doing(doing, ERROR_UNREACHABLE, true);
      return;
    }
    name_key(life, tables, key->selector);
    life_sign_with(life, tables, key->selector);
    doing->record->switched_at = life->moment;
    *report = (struct placement_report){.signer_id = lineage->signer_ids[i], .switched_at = wall(life), .completed_at = wall(life)};
  }
}

static struct placement_report *add_report(struct doing *doing, int64_t signer_id) {
  struct placement_report *report = &doing->placements[doing->outcome.placement_count++];
  doing->outcome.placements = doing->placements;
  *report = (struct placement_report){.signer_id = signer_id};
  return report;
}

/* What a proof finds at one place. */
static enum placement_damage damage_at(struct life *life, const struct doing *doing, const struct key *key, const struct placement *placement) {
  const struct life_tables *tables = life_tables(life, placement->signer);
  const unsigned bit = life_tables_bit(life, placement->signer);
  if (doing->record->files_missing & bit) return DAMAGE_FILE_MISSING;
  if (doing->record->files_other & bit) return DAMAGE_FILE_OTHER;
  if (tables->dead_until > life->moment) return DAMAGE_SIGNER_DOWN;
  return text_equal(tables->signs, key->selector) ? DAMAGE_NONE : DAMAGE_TABLES;
}

static void prove(struct life *life, struct doing *doing, const struct key *key) {
  static const char *const texts[] = {NULL, "it signs otherwise", "the file is missing", "the file is another", "it does not answer", NULL};
  look(life, doing, false);
  if (!doing->record->all_right) {
    fail_doing(doing, ERROR_CONFLICT, true);
    return;
  }
  for (size_t i = 0; i < key->placement_count; i++) {
    if (!placement_signs(&life->builder.lineage, key, i)) continue;
    struct placement_report *report = add_report(doing, key->placements[i].signer_id);
    report->damage = damage_at(life, doing, key, &key->placements[i]);
    report->failure = texts[report->damage];
    if (report->damage == DAMAGE_NONE)
      report->completed_at = wall(life);
    else
      fail_doing(doing, ERROR_PROOF, false);
  }
}

static void check_files(struct life *life, struct doing *doing, const struct key *key) {
  for (size_t i = 0; i < key->placement_count; i++) {
    const unsigned bit = life_tables_bit(life, key->placements[i].signer);
    struct placement_report *report = add_report(doing, key->placements[i].signer_id);
    report->completed_at = wall(life);
    if (doing->record->files_missing & bit) report->damage = DAMAGE_FILE_MISSING;
    if (doing->record->files_other & bit) report->damage = DAMAGE_FILE_OTHER;
    if (report->damage != DAMAGE_NONE) report->failure = "the file is lost";
  }
}

/* Whoever does not answer, and what was taken for mendable and is not, fails. */
static void repair(struct life *life, struct doing *doing, const struct key *key) {
  look(life, doing, false);
  if (!doing->record->all_right) {
    fail_doing(doing, ERROR_CONFLICT, true);
    return;
  }
  for (size_t i = 0; i < key->placement_count; i++) {
    const struct placement *placement = &key->placements[i];
    struct life_tables *tables = life_tables(life, placement->signer);
    const unsigned bit = life_tables_bit(life, placement->signer);
    if (!placement_is_repairable(&life->builder.lineage, key, i)) continue;
    struct placement_report *report = add_report(doing, placement->signer_id);
    const bool copies = placement->damage == DAMAGE_FILE_MISSING;
    if (tables->dead_until > life->moment || (!copies && (doing->record->files_missing & bit)) || (doing->record->files_other & bit)) {
      report->failure = "it cannot be mended";
      fail_doing(doing, ERROR_UNREACHABLE, true);
      continue;
    }
    doing->record->files_missing &= ~bit;
    name_key(life, tables, key->selector);
    life_sign_with(life, tables, key->selector);
    report->switched_at = report->completed_at = wall(life);
  }
}

static void withdraw(struct life *life, struct doing *doing, const struct key *key) {
  for (size_t i = 0; i < key->placement_count; i++) {
    const struct placement *placement = &key->placements[i];
    struct life_tables *tables = life_tables(life, placement->signer);
    if (placement->switched_at == TIME_UNSET || placement->drained_at != TIME_UNSET) continue;
    struct placement_report *report = &doing->placements[doing->outcome.placement_count++];
    doing->outcome.placements = doing->placements;
    *report = (struct placement_report){.signer_id = placement->signer_id};
    if (tables->dead_until > life->moment) {
      report->failure = "it does not answer";
      fail_doing(doing, ERROR_UNREACHABLE, true);
      continue;
    }
    report->completed_at = wall(life);
    for (size_t j = tables->named_count; j-- > 0;)
      if (text_equal(tables->named[j], key->selector)) memmove(tables->named[j], tables->named[--tables->named_count], SELECTOR_SIZE);
    const struct key *active = lineage_active_key(&life->builder.lineage);
    if (text_equal(tables->signs, key->selector)) text_copy(tables->signs, sizeof tables->signs, active ? active->selector : "");
  }
}

static void destroy_files(struct life *life, struct doing *doing, const struct key *key) {
  for (size_t i = 0; i < key->placement_count; i++)
    doing->placements[i] = (struct placement_report){.signer_id = key->placements[i].signer_id, .completed_at = wall(life)};
  doing->outcome.placements = doing->placements;
  doing->outcome.placement_count = key->placement_count;
}

static void update_primary(struct life *life, struct doing *doing, enum life_content content) {
  if (life->servers[0].dead_until > life->moment) {
    fail_doing(doing, ERROR_UNREACHABLE, true);
    return;
  }
  if (life_content(doing->record, doing->publisher, life->moment) == LIFE_FOREIGN) {
    fail_doing(doing, ERROR_CONFLICT, false);
    return;
  }
  doing->outcome.ttl = HOUR;
  doing->outcome.zone = "example.com";
  doing->outcome.primary_server = "192.0.2.1:53";
  doing->outcome.already = life_content(doing->record, doing->publisher, life->moment) == content;
  life_change_record(life, doing->record, doing->publisher, content);
}

static void attest(struct life *life, struct doing *doing) {
  if (!life->tsig || life->servers[0].dead_until > life->moment || llabs((long long)life->wall_error) > 300)
    fail_doing(doing, ERROR_UNREACHABLE, true);
  else
    engine_clock_attest(&life->stored_clock, &life->clock);
}

static void take_effect(struct life *life, struct doing *doing, const struct key *key) {
  switch (doing->outcome.action) {
  case PLAN_GENERATE: make_file(life, doing, key); break;
  case PLAN_PUBLISH: update_primary(life, doing, LIFE_SERVED); break;
  case PLAN_CONFIRM: look(life, doing, false); break;
  case PLAN_ACTIVATE: switch_signers(life, doing, key); break;
  case PLAN_WITHDRAW: withdraw(life, doing, key); break;
  case PLAN_REVOKE: update_primary(life, doing, LIFE_REVOKED); break;
  case PLAN_DELETE: update_primary(life, doing, LIFE_ABSENT); break;
  case PLAN_CONFIRM_ABSENT: look(life, doing, true); break;
  case PLAN_DESTROY: destroy_files(life, doing, key); break;
  case PLAN_ATTEST: attest(life, doing); break;
  case PLAN_PROVE: prove(life, doing, key); break;
  case PLAN_REPAIR: repair(life, doing, key); break;
  case PLAN_CHECK_FILES: check_files(life, doing, key); break;
  case PLAN_READY:
  case PLAN_NONE: break;
  }
}

/* Undoing goes where the record was made. */
static size_t publisher_of(const struct lineage *lineage, enum plan_action action, const struct key *key) {
  const bool undoes = action == PLAN_REVOKE || action == PLAN_DELETE || action == PLAN_CONFIRM_ABSENT || key->state == KEY_REVOKED;
  return (size_t)(undoes ? key->publisher_id : lineage->publisher_id) - 1;
}

static bool is_hit(struct life *life, enum plan_action action) {
  struct life_fault *fault = &life->fault;
  if (action == PLAN_READY || (fault->action != PLAN_NONE && fault->action != action)) return false;
  if (fault->times > 0) {
    fault->times--;
    return true;
  }
  return life_random(life, 1000) < fault->permille;
}

static void take_outcome(struct life *life, const struct doing *doing) {
  struct lineage *lineage = &life->builder.lineage;
  struct lineage before;
  struct error error = {0};
  life_read_clock(life);
  assert_int_equal(lineage_copy(lineage, &before, &error), 0);
  event_list_release(&life->builder.events);
  if (lifecycle_apply(lineage, &doing->outcome, life->clock.now, &life->builder.events, &error)) oracle_fail(life, "outcome refused: %s", error.message);
  if (invariant_holds(&before, lineage, &error)) oracle_fail(life, "%s", error.message);
  lineage_release(&before);
  if (doing->outcome.error) life->failures++;
  oracle_judge_lineage(life);
}

static size_t reserve(struct life *life) {
  struct lineage *lineage = &life->builder.lineage;
  const struct policy_key *rule = lineage_rule(lineage);
  struct error error = {0};
  char selector[SELECTOR_SIZE];
  unsigned number = 0;
  bool used = true;
  size_t index = 0;
  if (!rule) oracle_fail(life, "a key is wanted without rules for it");
  while (used) {
    assert_int_equal(selector_make(rule->selector, life->clock.now, ++number, selector, &error), 0);
    used = false;
    for (size_t i = 0; i < life->record_count; i++) used |= text_equal(life->records[i].selector, selector);
  }
  event_list_release(&life->builder.events);
  assert_int_equal(lifecycle_reserve(lineage, life->clock.now, number, &index, &life->builder.events, &error), 0);
  life_add_record(life, selector);
  return index;
}

static void act(struct life *life, const struct plan *plan) {
  struct lineage *lineage = &life->builder.lineage;
  struct error error = {0};
  size_t index = plan->key;
  if (invariant_permits(lineage, plan->action, index, &life->clock, &error)) oracle_fail(life, "%s", error.message);
  if (plan->action == PLAN_GENERATE && index == lineage->key_count) index = reserve(life);
  struct doing doing = {.outcome = {.action = plan->action, .key = index, .ttl_negative = -1, .ttl_old = -1}};
  struct key *key = index < lineage->key_count ? &lineage->keys[index] : NULL;
  life_trace(life, "%s %s", plan_action_name(plan->action), key ? key->selector : "");
  oracle_judge_step(life, plan->action, key);
  if (life->watcher) life->watcher(life, plan->action, key);
  if (key) {
    doing.record = life_record(life, key->selector);
    doing.publisher = publisher_of(lineage, plan->action, key);
    if (plan->action != PLAN_READY) {
      key->intent_open = true;
      key->intent = (int)plan->action;
      key->intent_at = life->clock.now;
    }
  }
  if (plan->action != PLAN_READY && !life->instant) life->moment += 1 + (int64_t)life_random(life, 4);
  const bool hit = is_hit(life, plan->action);
  if (!hit || life->fault.effect) take_effect(life, &doing, key);
  doing.outcome.at = plan->action == PLAN_READY ? life->clock.now : wall(life);
  if (hit && life->fault.effect) {
    life_read_clock(life); /* died before the outcome was stored */
    return;
  }
  if (hit) fail_doing(&doing, life->fault.code, life->fault.retryable);
  take_outcome(life, &doing);
  lineage_drop_removed(lineage);
}

bool life_step(struct life *life, int64_t until) {
  life_read_clock(life);
  plan_lineage(&life->builder.lineage, &life->clock, &life->plan);
  oracle_judge_plan(life, &life->plan);
  life->steps++;
  if (life->plan.action == PLAN_NONE) {
    const int64_t pause = life->plan.next == TIME_NEVER ? INT64_MAX : life->plan.next - life->clock.now;
    life->moment = pause > until - life->moment ? until : life->moment + pause;
  } else {
    act(life, &life->plan);
  }
  return life->moment < until;
}

void life_run(struct life *life, int64_t seconds) {
  const int64_t until = life->moment + seconds;
  while (life->moment < until) life_step(life, until);
}

size_t life_find(const struct life *life, enum key_state state) {
  const struct lineage *lineage = &life->builder.lineage;
  for (size_t i = 0; i < lineage->key_count; i++)
    if (lineage->keys[i].state == state) return i;
  return lineage->key_count;
}

size_t life_run_until(struct life *life, enum key_state state, int64_t seconds) {
  const int64_t until = life->moment + seconds;
  while (life_find(life, state) == life->builder.lineage.key_count)
    if (!life_step(life, until)) oracle_fail(life, "no key becomes %s within %lld days", key_state_name(state), (long long)(seconds / DAY));
  return life_find(life, state);
}
