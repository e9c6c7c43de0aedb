#include "life_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/text.h"
#include "dkimroll/timing.h"

/* splitmix64: any seed is a good one. */
uint64_t life_random(struct life *life, uint64_t bound) {
  uint64_t z = life->random += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return (z ^ (z >> 31)) % bound;
}

void life_trace(struct life *life, const char *format, ...) {
  va_list arguments;
  char what[128];
  memmove(life->trace[0], life->trace[1], sizeof life->trace - sizeof life->trace[0]);
  va_start(arguments, format);
  vsnprintf(what, sizeof what, format, arguments);
  va_end(arguments);
  const int64_t since = life->moment - life->begin;
  snprintf(life->trace[LIFE_TRACE - 1], sizeof life->trace[0], "day %lld %05lld: %s", (long long)(since / DAY), (long long)(since % DAY), what);
}

static void read_clock(struct life *life) {
  struct clock_reading reading = {
      .wall = life->moment + life->wall_error, .boottime = (life->moment - life->boot_at) * 1000, .synchronised = life->synchronised};
  struct store_clock next;
  snprintf(reading.boot_id, sizeof reading.boot_id, "boot-%u", life->boots);
  engine_clock_advance(&life->stored_clock, &reading, &next, &life->clock);
  life->stored_clock = next;
}

void life_begin(struct life *life, uint64_t seed) {
  memset(life, 0, sizeof *life);
  builder_begin(&life->builder);
  life->builder.rules.prove_every = DAY;
  life->seed = life->random = seed;
  life->begin = life->moment = BUILDER_NOW;
  life->boot_at = life->moment - DAY;
  life->synchronised = life->tsig = true;
  life->servers[0] = (struct life_server){.host = "ns1.example.com", .address = "192.0.2.1"};
  life->servers[1] = (struct life_server){.host = "ns2.example.com", .address = "192.0.2.2", .lag = 8};
  life->servers[2] = (struct life_server){.host = "ns2.example.com", .address = "2001:db8::2", .lag = 8};
  life->servers[3] = (struct life_server){.host = "ns3.example.net", .address = "198.51.100.3", .lag = 300};
  life->server_count = 2;
  life->ttl_negative = BUILDER_NEGATIVE;
  life->ttl_old = 60;
  life->records = calloc(LIFE_RECORDS_MAX, sizeof *life->records);
  assert_non_null(life->records);
  read_clock(life);
}

void life_end(struct life *life) {
  free(life->records);
  builder_end(&life->builder);
}

/* ---- the world ---- */

struct life_record *life_record(struct life *life, const char *selector) {
  for (size_t i = life->record_count; i-- > 0;)
    if (text_equal(life->records[i].selector, selector)) return &life->records[i];
  oracle_fail(life, "nobody ever reserved %s", selector);
}

static struct life_record *add_record(struct life *life, const char *selector) {
  for (size_t i = 0; i < life->record_count; i++)
    if (text_equal(life->records[i].selector, selector)) oracle_fail(life, "I3: selector %s is used twice", selector);
  assert_true(life->record_count < LIFE_RECORDS_MAX);
  struct life_record *record = &life->records[life->record_count++];
  text_copy(record->selector, sizeof record->selector, selector);
  record->wrong_at = record->active_at = record->switched_at = record->retired_at = TIME_UNSET;
  record->revoked_at = record->deleted_at = record->revoke_at = record->signed_at = TIME_UNSET;
  for (size_t i = 0; i < LIFE_SERVERS_MAX; i++) record->right_since[i] = TIME_UNSET;
  return record;
}

struct life_tables *life_tables(struct life *life, const struct policy_signer *signer) {
  for (size_t i = 0; i < life->tables_count; i++)
    if (text_equal(life->tables[i].name, signer->key_table)) return &life->tables[i];
  assert_true(life->tables_count < LIFE_TABLES_MAX);
  struct life_tables *tables = &life->tables[life->tables_count++];
  text_copy(tables->name, sizeof tables->name, signer->key_table);
  return tables;
}

enum life_content life_content(const struct life_record *record, size_t publisher, int64_t at) {
  enum life_content content = LIFE_ABSENT;
  for (size_t i = 0; i < record->change_count[publisher] && record->changes[publisher][i].at <= at; i++)
    content = record->changes[publisher][i].content;
  return content;
}

enum life_content life_seen(const struct life *life, const struct life_record *record, size_t publisher, size_t server) {
  return life_content(record, publisher, life->moment - life->servers[server].lag);
}

static void change_record(const struct life *life, struct life_record *record, size_t publisher, enum life_content content) {
  struct life_change *changes = record->changes[publisher];
  size_t *count = &record->change_count[publisher];
  if (life_content(record, publisher, life->moment) == content) return;
  if (*count == LIFE_CHANGES_MAX) {
    memmove(changes, changes + 1, (LIFE_CHANGES_MAX - 1) * sizeof *changes);
    (*count)--;
  }
  changes[(*count)++] = (struct life_change){life->moment, content};
}

void life_forget(struct life *life, const char *selector) {
  life_trace(life, "the primary forgets %s", selector);
  for (size_t i = 0; i < LIFE_PUBLISHERS; i++) change_record(life, life_record(life, selector), i, LIFE_ABSENT);
}

void life_contest(struct life *life, const char *selector, bool contested) {
  life_trace(life, "%s of %s", contested ? "an operator's TXT stands in the place" : "nothing stands in the place", selector);
  for (size_t i = 0; i < LIFE_PUBLISHERS; i++) change_record(life, life_record(life, selector), i, contested ? LIFE_FOREIGN : LIFE_ABSENT);
}

static unsigned tables_bit(struct life *life, const struct policy_signer *signer) { return 1U << (life_tables(life, signer) - life->tables); }

static void sign_with(struct life *life, struct life_tables *tables, const char *selector) {
  if (tables->signs[0]) life_record(life, tables->signs)->signed_at = life->moment;
  text_copy(tables->signs, sizeof tables->signs, selector);
}

void life_edit_tables(struct life *life, size_t i, const char *selector) {
  struct life_tables *tables = life_tables(life, life->builder.lineage.signers[i]);
  life_trace(life, "%s is edited and signs with \"%s\"", tables->name, selector);
  sign_with(life, tables, selector);
}

void life_lose_file(struct life *life, size_t i, const char *selector, bool other) {
  struct life_record *record = life_record(life, selector);
  life_trace(life, "the file of %s at signer %zu is %s", selector, i, other ? "replaced" : "removed");
  *(other ? &record->files_other : &record->files_missing) |= tables_bit(life, life->builder.lineage.signers[i]);
}

void life_revoke(struct life *life, const struct compromise *compromise) {
  struct lineage *lineage = &life->builder.lineage;
  struct event_list events = {0};
  struct error error;
  life_trace(life, "revoke %s%s%s", compromise->selector ? compromise->selector : "what signs", compromise->whole_host ? ", the whole host" : "", compromise->now ? ", now" : "");
  for (size_t i = 0; i < lineage->key_count; i++) {
    if (!key_is_meant(&lineage->keys[i], compromise)) continue;
    struct life_record *record = life_record(life, lineage->keys[i].selector);
    record->compromised = true;
    record->now |= compromise->now;
  }
  if (lifecycle_compromise(lineage, compromise, life->clock.now, &events, &error)) oracle_fail(life, "revoke: %s", error.message);
  event_list_release(&events);
  life_policy_changed(life);
}

void life_restore_file(struct life *life, size_t i, const char *selector) {
  struct life_record *record = life_record(life, selector);
  life_trace(life, "the file of %s at signer %zu is restored", selector, i);
  record->files_other &= ~tables_bit(life, life->builder.lineage.signers[i]);
  record->files_missing &= ~tables_bit(life, life->builder.lineage.signers[i]);
}

void life_move(struct life *life, size_t publisher, bool copied) {
  struct lineage *lineage = &life->builder.lineage;
  for (size_t i = 0; i < life->record_count && copied; i++)
    change_record(life, &life->records[i], publisher, life_content(&life->records[i], (size_t)lineage->publisher_id - 1, life->moment));
  lineage->publisher = &life->builder.publishers[publisher];
  lineage->publisher_id = (int64_t)publisher + 1;
  life_policy_changed(life);
}

void life_policy_changed(struct life *life) {
  struct lineage *lineage = &life->builder.lineage;
  life_trace(life, "the policy is changed");
  lineage_forget_failures(lineage);
}

void life_set_wall(struct life *life, int64_t wall_error, bool synchronised) {
  life_trace(life, "the wall clock is wrong by %lld s now%s", (long long)wall_error, synchronised ? ", synchronised" : "");
  read_clock(life);
  life->wall_error = wall_error;
  life->synchronised = synchronised;
  read_clock(life);
}

void life_reboot(struct life *life, int64_t wall_error, bool synchronised) {
  life_trace(life, "reboot");
  life->moment += MINUTE;
  life->boots++;
  life->boot_at = life->moment;
  life->wall_error = wall_error;
  life->synchronised = synchronised;
  read_clock(life);
}

/* ---- steps ---- */

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
    sign_with(life, tables, key->selector);
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
  const unsigned bit = tables_bit(life, placement->signer);
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
    const unsigned bit = tables_bit(life, key->placements[i].signer);
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
    const unsigned bit = tables_bit(life, placement->signer);
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
    sign_with(life, tables, key->selector);
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
  change_record(life, doing->record, doing->publisher, content);
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
  read_clock(life);
  assert_int_equal(lineage_copy(lineage, &before, &error), 0);
  event_list_release(&life->builder.events);
  if (lifecycle_apply(lineage, &doing->outcome, life->clock.now, &life->builder.events, &error)) oracle_fail(life, "outcome refused: %s", error.message);
  if (invariant_holds(&before, lineage, &error)) oracle_fail(life, "%s", error.message);
  lineage_release(&before);
  if (doing->outcome.error) life->failures++;
  oracle_judge_lineage(life);
}

static void drop_removed(struct lineage *lineage) {
  size_t kept = 0;
  for (size_t i = 0; i < lineage->key_count; i++) {
    if (lineage->keys[i].state == KEY_REMOVED)
      key_release(&lineage->keys[i]);
    else
      lineage->keys[kept++] = lineage->keys[i];
  }
  lineage->key_count = kept;
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
  add_record(life, selector);
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
    read_clock(life); /* died before the outcome was stored */
    return;
  }
  if (hit) fail_doing(&doing, life->fault.code, life->fault.retryable);
  take_outcome(life, &doing);
  drop_removed(lineage);
}

bool life_step(struct life *life, int64_t until) {
  read_clock(life);
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
