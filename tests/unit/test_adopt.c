/* Keys that others made come into a lineage: what they are then, and what the planner does with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "dkimroll/timing.h"
#include "plan_expect.h"

static const int64_t now = BUILDER_NOW;

/* What import says of a key that is served by two servers and named at the one signer. */
struct offer {
  struct adoption adoption;
  struct adoption_place place;
  struct sighting_report sightings[2];
};

static void offer_make(struct offer *offer, const struct builder *builder, const char *selector, enum key_state state) {
  *offer = (struct offer){.adoption = {.selector = selector,
                                       .algorithm = KEY_ALGORITHM_RSA,
                                       .bits = 2048,
                                       .state = state,
                                       .record = "v=DKIM1; h=sha256; k=rsa; p=AAAA",
                                       .since = now - 10 * DAY,
                                       .ttl = 600,
                                       .ttl_negative = BUILDER_NEGATIVE,
                                       .zone = "example.com",
                                       .owner = "x",
                                       .place_count = 1,
                                       .sighting_count = 2,
                                       .reason = "found"},
                          .place = {.signer_id = 1, .signer = &builder->signers[0], .key_path = "/k/key.private", .named = true, .signs = true}};
  for (size_t i = 0; i < 2; i++)
    offer->sightings[i] = (struct sighting_report){
        .host = i ? "ns2" : "ns1", .address = i ? "192.0.2.2" : "192.0.2.1", .right = true, .at = now, .ttl = 600, .ttl_negative = -1, .answer = "it"};
  offer->adoption.places = &offer->place;
  offer->adoption.sightings = offer->sightings;
}

static struct key *adopt(struct builder *builder, const struct offer *offer) {
  struct lineage before = {0};
  assert_int_equal(lineage_copy(&builder->lineage, &before, &builder->error), 0);
  if (lifecycle_adopt(&builder->lineage, &offer->adoption, now, &builder->events, &builder->error)) fail_msg("%s", builder->error.message);
  if (invariant_holds(&before, &builder->lineage, &builder->error)) fail_msg("%s", builder->error.message);
  lineage_release(&before);
  const struct event *event = &builder->events.items[builder->events.count - 1];
  assert_string_equal(event->kind, "imported");
  assert_string_equal(event->to, key_state_name(offer->adoption.state));
  assert_string_equal(event->reason, "found");
  return &builder->lineage.keys[builder->lineage.key_count - 1];
}

static void assert_refused(struct builder *builder, const struct offer *offer, const char *why) {
  const size_t keys = builder->lineage.key_count, events = builder->events.count;
  assert_int_equal(lifecycle_adopt(&builder->lineage, &offer->adoption, now, &builder->events, &builder->error), ERROR_CONFLICT);
  assert_non_null(strstr(builder->error.message, why));
  assert_int_equal(builder->lineage.key_count, keys);
  assert_int_equal(builder->events.count, events);
}

static void test_adopt__a_key_that_signs_is_active_since_it_signs(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  offer_make(&offer, builder, "mail", KEY_ACTIVE);
  const struct key *key = adopt(builder, &offer);
  assert_true(key->state == KEY_ACTIVE && key->active_at == now - 10 * DAY && key->right_at == now && key->confirmed_at == now);
  assert_true(key->placements[0].proved_at == now && key->placements[0].file_made && !key->placements[0].destroyed);
  assert_true(key->placements[0].damaged_at == TIME_UNSET);
  assert_true(key_is_adopted(key) && key->ttl == 600 && builder->lineage.next_moment == now);
  assert_string_equal(key->owner_name, "mail._domainkey.example.com");
  /* Its successor comes when its own life is over, as if it had been made here. */
  const struct plan plan = builder_plan_key(builder, builder->lineage.key_count, now);
  assert_int_equal(plan.action, PLAN_NONE);
  assert_int_equal(plan.next, timing_generate(&builder->lineage, key));
}

static void test_adopt__one_that_is_older_than_its_life_has_a_successor_at_once(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  offer_make(&offer, builder, "mail", KEY_ACTIVE);
  offer.adoption.since = now - BUILDER_LIFE;
  adopt(builder, &offer);
  assert_int_equal(builder_plan(builder, now).action, PLAN_GENERATE);
}

static void test_adopt__one_that_must_go_asks_for_its_successor(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  offer_make(&offer, builder, "mail", KEY_ACTIVE);
  offer.adoption.replace = true;
  builder->lineage.failures = 9;
  builder->lineage.retry_at = builder->lineage.parked_at = now + DAY;
  adopt(builder, &offer);
  assert_true(builder->lineage.rotate_requested);
  assert_true(builder->lineage.failures == 0 && builder->lineage.retry_at == TIME_UNSET && builder->lineage.parked_at == TIME_UNSET);
  assert_int_equal(builder_plan(builder, now).action, PLAN_GENERATE);
}

static void test_adopt__a_missing_record_of_it_is_published_at_once(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  offer_make(&offer, builder, "mail", KEY_ACTIVE);
  offer.adoption.unserved = true;
  offer.sightings[0].right = offer.sightings[1].right = false;
  const struct key *key = adopt(builder, &offer);
  assert_true(key->right_at == TIME_UNSET && key->deleted_at == TIME_UNSET);
  const struct plan plan = builder_plan(builder, now + MINUTE);
  assert_true(plan.action == PLAN_CONFIRM || plan.action == PLAN_PUBLISH);
  builder_round(builder, PLAN_CONFIRM, 0, now + MINUTE, "NXDOMAIN", "NXDOMAIN");
  assert_int_equal(builder_plan(builder, now + MINUTE + 1).action, PLAN_PUBLISH);
}

static void test_adopt__the_window_of_a_retired_one_begins_now(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  offer_make(&offer, builder, "mail", KEY_RETIRED);
  offer.adoption.since = now - 500 * DAY;
  struct key *key = adopt(builder, &offer);
  assert_true(key->retired_at == now && key->revoke_at == now + BUILDER_WINDOW && key->active_at == now - 500 * DAY);
  expect_closed(builder, 1, now, PLAN_WITHDRAW, "drained", now + HOUR);
  key->placements[0].drained_at = now + HOUR;
  expect_closed(builder, 1, now + 2 * HOUR, PLAN_REVOKE, "retire_window", now + BUILDER_WINDOW);
}

/* Its line was gone from the SigningTable, which the signer had not read again: it signed on until another key took over there. */
static void test_adopt__the_window_of_a_retired_one_counts_from_when_its_signer_is_seen_to_sign_with_another(void **state) {
  struct builder *builder = *state;
  for (int named = 0; named < 2; named++) {
    for (int known = 0; known < 2; known++) {
      struct offer offer;
      builder_end(builder);
      builder_begin(builder);
      if (known) builder_key(builder, "before", KEY_ACTIVE, now - DAY);
      builder_key(builder, "next", KEY_READY, now - HOUR);
      offer_make(&offer, builder, "mail", KEY_RETIRED);
      offer.place.named = offer.place.signs = named != 0;
      adopt(builder, &offer);
      const struct placement_report report = {.signer_id = 1, .switched_at = now + 5 * DAY, .completed_at = now + 5 * DAY};
      builder_apply(builder, &(struct outcome){.action = PLAN_ACTIVATE, .key = (size_t)known, .at = now + 5 * DAY, .placements = &report, .placement_count = 1});
      const struct key *key = lineage_find_key(&builder->lineage, "mail");
      assert_int_equal(key->revoke_at, now + (known ? 0 : 5 * DAY) + BUILDER_WINDOW);
    }
  }
}

static void test_adopt__an_unserved_one_needs_no_window_and_is_never_published(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  offer_make(&offer, builder, "mail", KEY_RETIRED);
  offer.adoption.unserved = true;
  struct key *key = adopt(builder, &offer);
  assert_int_equal(key->deleted_at, now);
  assert_int_equal(key->sighting_count, 0);
  assert_int_equal(builder_plan_key(builder, 1, now).action, PLAN_CONFIRM_ABSENT);
  builder_round(builder, PLAN_CONFIRM_ABSENT, 1, now + 1, NULL, NULL);
  key = &builder->lineage.keys[1];
  assert_int_equal(key->absent_at, now + 1);
  for (int64_t at = now + 2; at < now + 60 * DAY; at += DAY) assert_int_not_equal(builder_plan_key(builder, 1, at).action, PLAN_PUBLISH);
  assert_int_equal(builder_plan_key(builder, 1, now + 2 * HOUR).action, PLAN_WITHDRAW);
}

static void test_adopt__a_revoked_one_goes_after_its_tombstone(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  offer_make(&offer, builder, "mail", KEY_REVOKED);
  offer.place.named = false;
  const struct key *key = adopt(builder, &offer);
  assert_int_equal(key->revoked_at, now);
  expect_closed(builder, 1, now, PLAN_DELETE, "tombstone_over", now + BUILDER_TOMBSTONE);
}

static void test_adopt__a_reserved_selector_is_all_that_is_kept(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  offer_make(&offer, builder, "rspamd", KEY_REMOVED);
  offer.adoption.record = NULL;
  const struct key *key = adopt(builder, &offer);
  assert_true(key->state == KEY_REMOVED && key->placement_count == 0 && key->removed_at == now && !key->record);
}

static void test_adopt__a_key_in_the_table_itself_has_no_file(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  offer_make(&offer, builder, "mail", KEY_ACTIVE);
  offer.place.key_path = NULL;
  const struct key *key = adopt(builder, &offer);
  assert_true(!key->placements[0].key_path && key->placements[0].destroyed && !key->placements[0].file_made);
}

static void test_adopt__two_keys_without_files_share_none(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  for (int i = 0; i < 2; i++) {
    offer_make(&offer, builder, i ? "one" : "two", KEY_RETIRED);
    offer.place.key_path = NULL;
    adopt(builder, &offer);
  }
  struct key *key = &builder->lineage.keys[1];
  key->deleted_at = key->absent_at = now;
  key->placements[0].drained_at = now;
  assert_int_equal(builder_plan_key(builder, 1, now + builder->rules.drain + 1).action, PLAN_DESTROY);
}

static void test_adopt__what_contradicts_is_refused_and_changes_nothing(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  builder_key(builder, "a", KEY_ACTIVE, now - DAY);
  offer_make(&offer, builder, "mail", KEY_ACTIVE);
  assert_refused(builder, &offer, "another key is active");
  offer_make(&offer, builder, "A", KEY_RETIRED);
  assert_refused(builder, &offer, "it is known already");
  offer_make(&offer, builder, "mail", KEY_RETIRED);
  offer.adoption.record = NULL;
  assert_refused(builder, &offer, "its record is not known");
  offer_make(&offer, builder, "mail", KEY_READY);
  assert_refused(builder, &offer, "does not sign yet");
  key_release(&builder->lineage.keys[--builder->lineage.key_count]);
  offer_make(&offer, builder, "mail", KEY_ACTIVE);
  offer.place.named = false;
  assert_refused(builder, &offer, "no signer was seen to sign with it");
  offer_make(&offer, builder, "mail", KEY_ACTIVE);
  offer.adoption.since = now + 1;
  assert_int_equal(lifecycle_adopt(&builder->lineage, &offer.adoption, now, &builder->events, &builder->error), ERROR_INTERNAL);
  offer_make(&offer, builder, "under_score", KEY_ACTIVE);
  assert_int_equal(lifecycle_adopt(&builder->lineage, &offer.adoption, now, &builder->events, &builder->error), ERROR_INVALID);
  assert_int_equal(builder->lineage.key_count, 0);
}

static void test_adopt__a_key_that_signs_is_nothing_without_tables_and_record(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  offer_make(&offer, builder, "mail", KEY_ACTIVE);
  offer.adoption.place_count = 0;
  assert_refused(builder, &offer, "no signer was seen to sign with it");
  offer_make(&offer, builder, "mail", KEY_ACTIVE);
  offer.adoption.record = NULL;
  offer.adoption.unserved = true;
  assert_refused(builder, &offer, "its record is not known");
}

/* Somebody has dropped its lines at the first one, say. */
static void test_adopt__a_key_that_signs_at_the_second_signer_alone_is_placed_at_the_first(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  offer_make(&offer, builder, "mail", KEY_ACTIVE);
  struct adoption_place places[2] = {offer.place, offer.place};
  places[0].named = false;
  places[1].signer = &builder->signers[1];
  places[1].signer_id = 2;
  offer.adoption.places = places;
  offer.adoption.place_count = 2;
  builder->lineage.signer_count = 2;
  const struct key *key = adopt(builder, &offer);
  assert_true(key->state == KEY_ACTIVE && key->placement_count == 2);
  assert_true(key->placements[0].switched_at == TIME_UNSET && key->placements[1].proved_at == now);
}

/* The second signer has its KeyTable line, and no line of its SigningTable was for a sender, so it was not asked: it may sign with the key before until it reads its tables again. */
static void test_adopt__a_signer_that_was_not_asked_is_proved_at_once_and_windows_begin_when_it_is_seen(void **state) {
  struct builder *builder = *state;
  struct offer offer, old;
  offer_make(&offer, builder, "mail", KEY_ACTIVE);
  struct adoption_place places[2] = {offer.place, offer.place};
  places[1].signer = &builder->signers[1];
  places[1].signer_id = 2;
  places[1].signs = false;
  offer.adoption.places = places;
  offer.adoption.place_count = 2;
  builder_use_signers(builder, (const size_t[]){1, 2}, 2);
  const struct key *key = adopt(builder, &offer);
  assert_true(key->placements[0].proved_at == now && key->placements[1].proved_at < offer.adoption.since);
  offer_make(&old, builder, "before", KEY_RETIRED);
  old.place = places[1];
  old.adoption.places = &old.place;
  adopt(builder, &old);
  builder->rules.prove_every = DAY;
  expect_action(builder, 0, now, PLAN_PROVE);
  lineage_find_key(&builder->lineage, "before")->placements[0].drained_at = now;
  expect_seen(lineage_find_key(&builder->lineage, "before"), true, now + 2 * BUILDER_WINDOW);
  builder->rules.prove_every = TIME_NEVER;
  expect_closed(builder, 1, now + 2 * BUILDER_WINDOW, PLAN_REVOKE, "retire_window", TIME_NEVER);
  const struct placement_report reports[] = {{.signer_id = 1, .completed_at = now + HOUR}, {.signer_id = 2, .completed_at = now + HOUR}};
  builder_apply(builder, &(struct outcome){.action = PLAN_PROVE, .key = 0, .at = now + HOUR, .placements = reports, .placement_count = 2});
  assert_int_equal(lineage_find_key(&builder->lineage, "before")->revoke_at, now + HOUR + BUILDER_WINDOW);
  lineage_find_key(&builder->lineage, "before")->placements[0].drained_at = now + HOUR;
  expect_seen(lineage_find_key(&builder->lineage, "before"), true, now + 2 * HOUR);
  expect_closed(builder, 1, now + 2 * HOUR, PLAN_REVOKE, "retire_window", now + HOUR + BUILDER_WINDOW);
}

static void test_adopt__an_unserved_one_needs_no_record(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  offer_make(&offer, builder, "mail", KEY_RETIRED);
  offer.adoption.record = NULL;
  offer.adoption.unserved = true;
  assert_null(adopt(builder, &offer)->record);
}

static void test_adopt__one_that_nobody_was_asked_for_is_not_confirmed(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  offer_make(&offer, builder, "mail", KEY_ACTIVE);
  offer.adoption.sighting_count = 0;
  const struct key *key = adopt(builder, &offer);
  assert_true(key->sighting_count == 0 && key->right_at == TIME_UNSET && key->confirmed_at == TIME_UNSET);
}

static void test_adopt__more_places_than_are_kept_are_refused(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  offer_make(&offer, builder, "mail", KEY_ACTIVE);
  offer.adoption.place_count = KEY_PLACEMENTS_MAX + 1;
  assert_int_equal(lifecycle_adopt(&builder->lineage, &offer.adoption, now, &builder->events, &builder->error), ERROR_INTERNAL);
  assert_int_equal(builder->lineage.key_count, 0);
}

static void test_adopt__a_selector_of_labels_that_are_too_long_together_is_refused(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  offer_make(&offer, builder, "a234567890123456789012345678901234567890.a23456789012345678901234", KEY_ACTIVE);
  assert_int_equal(lifecycle_adopt(&builder->lineage, &offer.adoption, now, &builder->events, &builder->error), ERROR_LIMIT);
  assert_non_null(strstr(builder->error.message, "longer than 63 octets"));
  assert_int_equal(builder->lineage.key_count, 0);
}

static void test_adopt__a_file_that_is_to_stay_is_never_destroyed(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  offer_make(&offer, builder, "mail", KEY_ACTIVE);
  offer.place.keep_file = true;
  const struct placement *placement = adopt(builder, &offer)->placements;
  assert_true(placement->file_made && placement->destroyed);
}

static void test_adopt__nobody_knows_how_long_a_record_took_that_was_not_published_here(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  offer_make(&offer, builder, "mail", KEY_ACTIVE);
  offer.adoption.unserved = true;
  offer.sightings[0].right = offer.sightings[1].right = false;
  adopt(builder, &offer);
  builder_round(builder, PLAN_CONFIRM, 0, now + MINUTE, NULL, NULL);
  const struct key *key = &builder->lineage.keys[0];
  assert_true(key->right_at == now + MINUTE && key->propagation == -1);
}

static void test_adopt__a_key_that_was_reserved_here_is_not_adopted(void **state) {
  struct builder *builder = *state;
  assert_false(key_is_adopted(builder_key(builder, "a", KEY_RESERVED, now)));
  assert_false(key_is_adopted(builder_key(builder, "b", KEY_PUBLISHED, now)));
}

static void test_adopt__a_key_was_made_once_it_was_generated_signed_or_was_compromised(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  offer_make(&offer, builder, "mail", KEY_REMOVED);
  offer.adoption.place_count = 0;
  offer.adoption.id = 7;
  struct key *key = (struct key *)adopt(builder, &offer);
  assert_int_equal(key->id, 7);
  assert_false(key_was_made(key)); /* only its selector is reserved */
  int64_t *const moments[] = {&key->generated_at, &key->active_at, &key->compromised_at};
  for (size_t i = 0; i < ARRAY_SIZE(moments); i++) {
    *moments[i] = now;
    assert_true(key_was_made(key));
    *moments[i] = TIME_UNSET;
  }
}

static void test_adopt__there_is_an_end_of_room(void **state) {
  struct builder *builder = *state;
  struct offer offer;
  char selector[16];
  for (int i = 0; i < LINEAGE_KEYS_MAX; i++) {
    snprintf(selector, sizeof selector, "s%d", i);
    offer_make(&offer, builder, selector, KEY_RETIRED);
    adopt(builder, &offer);
  }
  offer_make(&offer, builder, "more", KEY_RETIRED);
  assert_int_equal(lifecycle_adopt(&builder->lineage, &offer.adoption, now, &builder->events, &builder->error), ERROR_LIMIT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_adopt__##name, builder_setup, builder_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_key_that_signs_is_active_since_it_signs),
      TEST(one_that_is_older_than_its_life_has_a_successor_at_once),
      TEST(one_that_must_go_asks_for_its_successor),
      TEST(a_missing_record_of_it_is_published_at_once),
      TEST(the_window_of_a_retired_one_begins_now),
      TEST(the_window_of_a_retired_one_counts_from_when_its_signer_is_seen_to_sign_with_another),
      TEST(an_unserved_one_needs_no_window_and_is_never_published),
      TEST(a_revoked_one_goes_after_its_tombstone),
      TEST(a_reserved_selector_is_all_that_is_kept),
      TEST(a_key_in_the_table_itself_has_no_file),
      TEST(two_keys_without_files_share_none),
      TEST(what_contradicts_is_refused_and_changes_nothing),
      TEST(a_key_that_signs_is_nothing_without_tables_and_record),
      TEST(a_key_that_signs_at_the_second_signer_alone_is_placed_at_the_first),
      TEST(a_signer_that_was_not_asked_is_proved_at_once_and_windows_begin_when_it_is_seen),
      TEST(an_unserved_one_needs_no_record),
      TEST(one_that_nobody_was_asked_for_is_not_confirmed),
      TEST(more_places_than_are_kept_are_refused),
      TEST(a_selector_of_labels_that_are_too_long_together_is_refused),
      TEST(a_file_that_is_to_stay_is_never_destroyed),
      TEST(nobody_knows_how_long_a_record_took_that_was_not_published_here),
      TEST(a_key_that_was_reserved_here_is_not_adopted),
      TEST(a_key_was_made_once_it_was_generated_signed_or_was_compromised),
      TEST(there_is_an_end_of_room),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
