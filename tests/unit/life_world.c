/* The world of a life: its clock, records, tables and files, and what people and misfortune do to them. */
#include "life_world_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/text.h"

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

void life_read_clock(struct life *life) {
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
  life_read_clock(life);
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

struct life_record *life_add_record(struct life *life, const char *selector) {
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

void life_change_record(const struct life *life, struct life_record *record, size_t publisher, enum life_content content) {
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
  for (size_t i = 0; i < LIFE_PUBLISHERS; i++) life_change_record(life, life_record(life, selector), i, LIFE_ABSENT);
}

void life_contest(struct life *life, const char *selector, bool contested) {
  life_trace(life, "%s of %s", contested ? "an operator's TXT stands in the place" : "nothing stands in the place", selector);
  for (size_t i = 0; i < LIFE_PUBLISHERS; i++) life_change_record(life, life_record(life, selector), i, contested ? LIFE_FOREIGN : LIFE_ABSENT);
}

unsigned life_tables_bit(struct life *life, const struct policy_signer *signer) { return 1U << (life_tables(life, signer) - life->tables); }

void life_sign_with(struct life *life, struct life_tables *tables, const char *selector) {
  if (tables->signs[0]) life_record(life, tables->signs)->signed_at = life->moment;
  text_copy(tables->signs, sizeof tables->signs, selector);
}

void life_edit_tables(struct life *life, size_t i, const char *selector) {
  struct life_tables *tables = life_tables(life, life->builder.lineage.signers[i]);
  life_trace(life, "%s is edited and signs with \"%s\"", tables->name, selector);
  life_sign_with(life, tables, selector);
}

void life_lose_file(struct life *life, size_t i, const char *selector, bool other) {
  struct life_record *record = life_record(life, selector);
  life_trace(life, "the file of %s at signer %zu is %s", selector, i, other ? "replaced" : "removed");
  *(other ? &record->files_other : &record->files_missing) |= life_tables_bit(life, life->builder.lineage.signers[i]);
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
  record->files_other &= ~life_tables_bit(life, life->builder.lineage.signers[i]);
  record->files_missing &= ~life_tables_bit(life, life->builder.lineage.signers[i]);
}

void life_move(struct life *life, size_t publisher, bool copied) {
  struct lineage *lineage = &life->builder.lineage;
  for (size_t i = 0; i < life->record_count && copied; i++)
    life_change_record(life, &life->records[i], publisher, life_content(&life->records[i], (size_t)lineage->publisher_id - 1, life->moment));
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
  life_read_clock(life);
  life->wall_error = wall_error;
  life->synchronised = synchronised;
  life_read_clock(life);
}

void life_reboot(struct life *life, int64_t wall_error, bool synchronised) {
  life_trace(life, "reboot");
  life->moment += MINUTE;
  life->boots++;
  life->boot_at = life->moment;
  life->wall_error = wall_error;
  life->synchronised = synchronised;
  life_read_clock(life);
}
