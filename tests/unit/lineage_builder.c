#include "lineage_builder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/text.h"
#include "dkimroll/timing.h"

static char *own(const char *text) {
  char *copy = text_duplicate(text);
  assert_non_null(copy);
  return copy;
}

void builder_define_signer(struct builder *builder, size_t row, const char *name, const char *tables) {
  struct policy_signer *signer = &builder->signers[row - 1];
  free(signer->key_table);
  free(signer->signing_table);
  *signer = (struct policy_signer){.name = (char *)name,
                                   .type = SIGNER_OPENDKIM,
                                   .key_table = text_format("/etc/%s/KeyTable%s", name, tables),
                                   .signing_table = text_format("/etc/%s/SigningTable%s", name, tables),
                                   .key_directory = (char *)"/keys/%d",
                                   .key_name = (char *)"%s._domainkey.%d"};
  assert_non_null(signer->key_table);
  assert_non_null(signer->signing_table);
}

void builder_use_signers(struct builder *builder, const size_t *rows, size_t count) {
  builder->lineage.signer_count = count;
  for (size_t i = 0; i < count; i++) {
    builder->lineage.signer_ids[i] = (int64_t)rows[i];
    builder->lineage.signers[i] = &builder->signers[rows[i] - 1];
  }
}

void builder_begin(struct builder *builder) {
  static const size_t first[] = {1};
  memset(builder, 0, sizeof *builder);
  builder->slots[0] = (struct policy_key){
      .slot = (char *)"main", .algorithm = KEY_ALGORITHM_RSA, .bits = 2048, .selector = (char *)"s%Y%m%d"};
  builder->rules = (struct policy_rules){.name = (char *)"standard",
                                         .keys = builder->slots,
                                         .key_count = 1,
                                         .rotate_every = BUILDER_LIFE,
                                         .prove_every = TIME_NEVER,
                                         .publish_ttl = HOUR,
                                         .publish_safety = HOUR,
                                         .confirm_sightings = 2,
                                         .confirm_every = 10,
                                         .confirm_warn_after = HOUR,
                                         .queue_lifetime = 5 * DAY,
                                         .queue_backoff = 4000,
                                         .drain = HOUR,
                                         .verify_window = 2 * DAY,
                                         .retire_safety = HOUR,
                                         .tombstone = BUILDER_TOMBSTONE,
                                         .private_key = PRIVATE_KEY_DESTROY};
  builder->publishers[0] = (struct policy_publisher){.name = (char *)"primary"};
  builder->publishers[1] = (struct policy_publisher){.name = (char *)"other"};
  builder_define_signer(builder, 1, "local", "");
  struct lineage *lineage = &builder->lineage;
  *lineage = (struct lineage){.id = 7,
                              .domain = "example.com",
                              .slot = "main",
                              .managed = true,
                              .rules_id = 1,
                              .publisher_id = 1,
                              .rules = &builder->rules,
                              .publisher = &builder->publishers[0],
                              .hold_until = TIME_UNSET,
                              .begin_place = TIME_UNSET,
                              .switch_place = TIME_UNSET,
                              .retry_at = TIME_UNSET,
                              .parked_at = TIME_UNSET};
  lineage->senders = calloc(1, sizeof(char *));
  assert_non_null(lineage->senders);
  lineage->senders[0] = own("*@example.com");
  lineage->sender_count = 1;
  builder_use_signers(builder, first, 1);
}

void builder_end(struct builder *builder) {
  lineage_release(&builder->lineage);
  event_list_release(&builder->events);
  for (size_t i = 0; i < BUILDER_SIGNERS_MAX; i++) {
    free(builder->signers[i].key_table);
    free(builder->signers[i].signing_table);
  }
}

int builder_setup(void **state) {
  static struct builder builder;
  builder_begin(&builder);
  *state = &builder;
  return 0;
}

int builder_teardown(void **state) {
  builder_end(*state);
  return 0;
}

void builder_see(struct key *key, const char *host, const char *address, bool right, int64_t at) {
  struct sighting *it = NULL;
  for (size_t i = 0; i < key->sighting_count; i++)
    if (text_equal(key->sightings[i].address, address)) it = &key->sightings[i];
  if (!it) {
    key->sightings = reallocarray(key->sightings, key->sighting_count + 1, sizeof *key->sightings);
    assert_non_null(key->sightings);
    it = &key->sightings[key->sighting_count++];
    *it = (struct sighting){.right_since = TIME_UNSET, .last_wrong_at = TIME_UNSET};
    text_copy(it->host, sizeof it->host, host);
    text_copy(it->address, sizeof it->address, address);
  }
  it->right_since = !right ? TIME_UNSET : it->right ? it->right_since : at;
  it->right = right;
  it->count = right ? it->count + 1 : 0;
  it->seen_at = at;
  if (!right) it->last_wrong_at = key->last_wrong_at = at;
  text_copy(it->answer, sizeof it->answer, right ? "as it must be" : "NXDOMAIN");
}

static void see_both(struct key *key, int64_t at) {
  builder_see(key, "ns1.example.com", "192.0.2.1", true, at);
  builder_see(key, "ns2.example.com", "192.0.2.2", true, at);
}

/* The later states need the facts of those before. Each takes about as long as it must. */
static void fill_facts(struct builder *builder, struct key *key, int64_t since) {
  const int64_t signs = key->state == KEY_ACTIVE ? since : since - BUILDER_LIFE;
  const int64_t ready = key->state == KEY_READY ? since : signs;
  const int64_t published = key->state == KEY_PUBLISHED ? since : ready - BUILDER_F1 - 60;
  if (key->state == KEY_RESERVED) return;
  key->record = own("v=DKIM1; k=rsa; p=AAAA");
  key->ttl_negative = BUILDER_NEGATIVE;
  for (size_t i = 0; i < key->placement_count; i++) key->placements[i].file_made = true;
  key->generated_at = key->state == KEY_GENERATED ? since : published - 10;
  key->intent = PLAN_GENERATE;
  if (key->state == KEY_GENERATED) return;
  key->published_at = published;
  key->ttl = HOUR;
  text_copy(key->zone, sizeof key->zone, "example.com");
  text_copy(key->primary_server, sizeof key->primary_server, "192.0.2.1:53");
  if (key->state == KEY_PUBLISHED) return;
  see_both(key, published + 5);
  see_both(key, published + 15);
  see_both(key, ready);
  key->right_at = published + 5;
  key->propagation = 5;
  key->confirmed_at = key->ready_at = ready;
  if (key->state == KEY_READY) return;
  key->active_at = signs;
  for (size_t i = 0; i < key->placement_count; i++) key->placements[i].switched_at = key->placements[i].proved_at = signs;
  if (key->state == KEY_ACTIVE) return;
  key->retired_at = key->state == KEY_RETIRED ? since : since - BUILDER_WINDOW;
  key->revoke_at = timing_revoke(key, &builder->rules);
  if (key->state == KEY_REVOKED) key->revoked_at = since;
  for (size_t i = 0; i < key->placement_count && key->state == KEY_REVOKED; i++) key->placements[i].drained_at = since;
  see_both(key, since);
}

struct key *builder_key(struct builder *builder, const char *selector, enum key_state state, int64_t since) {
  struct lineage *lineage = &builder->lineage;
  struct key *key = lineage_add_key(lineage);
  assert_non_null(key);
  text_copy(key->selector, sizeof key->selector, selector);
  assert_int_equal(selector_owner_name(selector, lineage->domain, key->owner_name, NULL), 0);
  key->algorithm = KEY_ALGORITHM_RSA;
  key->bits = 2048;
  key->state = state;
  key->state_since = since;
  key->created_at = since - 10;
  key->publisher_id = lineage->publisher_id;
  key->publisher = lineage->publisher;
  key->placement_count = lineage->signer_count;
  for (size_t i = 0; i < lineage->signer_count; i++) {
    key->placements[i] = (struct placement){.signer_id = lineage->signer_ids[i],
                                            .signer = lineage->signers[i],
                                            .switched_at = TIME_UNSET,
                                            .proved_at = TIME_UNSET,
                                            .damaged_at = TIME_UNSET,
                                            .drained_at = TIME_UNSET};
    assert_int_equal(policy_signer_key_path(lineage->signers[i], lineage->domain, selector, &key->placements[i].key_path, NULL), 0);
  }
  fill_facts(builder, key, since);
  return key;
}

void builder_apply(struct builder *builder, const struct outcome *outcome) {
  struct lineage before;
  assert_int_equal(lineage_copy(&builder->lineage, &before, &builder->error), 0);
  event_list_release(&builder->events);
  if (lifecycle_apply(&builder->lineage, outcome, outcome->at, &builder->events, &builder->error))
    fail_msg("outcome of %s refused: %s", plan_action_name(outcome->action), builder->error.message);
  if (invariant_holds(&before, &builder->lineage, &builder->error)) fail_msg("%s", builder->error.message);
  lineage_release(&before);
}

void builder_fail(struct builder *builder, enum plan_action action, size_t key, int64_t at, int code, bool retryable) {
  struct error failure = {0};
  error_set(&failure, code, "it did not work");
  error_remedy(&failure, "make it work");
  error_retryable(&failure, retryable);
  builder_apply(builder, &(struct outcome){.action = action, .key = key, .at = at, .error = &failure});
}

void builder_round(struct builder *builder, enum plan_action action, size_t key, int64_t at, const char *first, const char *second) {
  const char *const answers[] = {first, second};
  struct sighting_report reports[2];
  for (size_t i = 0; i < 2; i++)
    reports[i] = (struct sighting_report){.host = i ? "ns2.example.com" : "ns1.example.com",
                                          .address = i ? "192.0.2.2" : "192.0.2.1",
                                          .right = !answers[i],
                                          .at = at,
                                          .ttl = answers[i] ? -1 : HOUR,
                                          .ttl_negative = BUILDER_NEGATIVE,
                                          .answer = answers[i] ? answers[i] : "as it must be"};
  builder_apply(builder, &(struct outcome){.action = action, .key = key, .at = at, .sightings = reports, .sighting_count = 2});
}

struct plan builder_plan(const struct builder *builder, int64_t now) {
  struct plan plan;
  plan_lineage(&builder->lineage, &(struct plan_clock){.now = now, .attested = true}, &plan);
  return plan;
}

struct plan builder_plan_key(const struct builder *builder, size_t key, int64_t now) {
  struct plan plan;
  plan_key(&builder->lineage, key, &(struct plan_clock){.now = now, .attested = true}, &plan);
  return plan;
}

const struct plan_reason *builder_reason(const struct plan *plan, const char *gate) {
  for (size_t i = 0; i < plan->reason_count; i++)
    if (text_equal(plan->reasons[i].gate, gate)) return &plan->reasons[i];
  return NULL;
}

const char *builder_events(const struct builder *builder) {
  static char kinds[512];
  size_t used = 0;
  kinds[0] = '\0';
  for (size_t i = 0; i < builder->events.count && used < sizeof kinds; i++)
    used += (size_t)snprintf(kinds + used, sizeof kinds - used, "%s%s", i ? " " : "", builder->events.items[i].kind);
  return kinds;
}

const char *builder_event_reason(const struct builder *builder, const char *kind) {
  for (size_t i = builder->events.count; i-- > 0;)
    if (text_equal(builder->events.items[i].kind, kind)) return builder->events.items[i].reason;
  fail_msg("no event \"%s\" among \"%s\"", kind, builder_events(builder));
  return "";
}
