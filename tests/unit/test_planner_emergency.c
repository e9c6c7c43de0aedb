/* Emergencies: what becomes of a key that somebody else may have, by the planner and the invariants, one gate after the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/text.h"
#include "dkimroll/timing.h"
#include "plan_expect.h"

static const int64_t now = BUILDER_NOW;

/* A key whose record every server was just seen to serve, and whose private key was just looked at. */
static struct key *add(struct builder *builder, const char *selector, enum key_state at, int64_t since) {
  struct key *key = builder_key(builder, selector, at, since);
  key->ready_at = at >= KEY_READY ? since : TIME_UNSET;
  key->files_seen_at = now;
  for (size_t i = 0; at >= KEY_PUBLISHED && i < key->sighting_count; i++) builder_see(key, key->sightings[i].host, key->sightings[i].address, true, now);
  if (at == KEY_ACTIVE || at == KEY_RETIRED)
    for (size_t i = 0; i < key->placement_count; i++) key->placements[i].switched_at = key->placements[i].proved_at = now;
  return key;
}

static void compromise(struct builder *builder, const char *selector, bool whole_host, bool at_once) {
  struct event_list events = {0};
  struct error error;
  const struct compromise wish = {.selector = selector, .whole_host = whole_host, .now = at_once, .by = "anna", .reason = "leak"};
  assert_int_equal(lifecycle_compromise(&builder->lineage, &wish, now, &events, &error), 0);
  event_list_release(&events);
}

static struct plan plan_at(const struct builder *builder, int64_t at) { return builder_plan(builder, at); }

static void expect_choice(const struct builder *builder, enum plan_action action, const char *selector) {
  const struct plan plan = plan_at(builder, now);
  assert_string_equal(plan_action_name(plan.action), plan_action_name(action));
  if (selector) assert_string_equal(builder->lineage.keys[plan.key].selector, selector);
}

static bool permits(const struct builder *builder, enum plan_action action, size_t key, bool attested) {
  const struct plan_clock clock = {.now = now, .attested = attested};
  struct error error = {0};
  return invariant_permits(&builder->lineage, action, key, &clock, &error) == 0;
}

/* ---- with a standby ---- */

static void test_planner_emergency__a_standby_takes_over_at_once(void **state) {
  struct builder *builder = *state;
  builder->rules.standby = 1;
  add(builder, "signs", KEY_ACTIVE, now - DAY);
  add(builder, "waits", KEY_READY, now - DAY);
  compromise(builder, NULL, false, false);
  expect_choice(builder, PLAN_ACTIVATE, "waits");
  assert_true(permits(builder, PLAN_ACTIVATE, 1, true));
  assert_false(permits(builder, PLAN_ACTIVATE, 1, false));
  assert_false(permits(builder, PLAN_REVOKE, 0, true));
}

static void test_planner_emergency__of_two_standbys_the_older_one_that_is_sound_takes_over(void **state) {
  struct builder *builder = *state;
  builder->rules.standby = 3;
  add(builder, "signs", KEY_ACTIVE, now - DAY);
  add(builder, "oldest", KEY_READY, now - 3 * DAY);
  add(builder, "younger", KEY_READY, now - DAY);
  add(builder, "older", KEY_READY, now - 2 * DAY);
  compromise(builder, "oldest", false, false);
  compromise(builder, "signs", false, false);
  expect_choice(builder, PLAN_ACTIVATE, "older");
  assert_ptr_equal(lineage_standby_key(&builder->lineage), &builder->lineage.keys[3]);
}

static void test_planner_emergency__the_record_says_so_right_after_the_switch_and_before_a_new_key_is_made(void **state) {
  struct builder *builder = *state;
  builder->rules.standby = 1;
  struct key *old = add(builder, "old", KEY_RETIRED, now);
  old->compromised_at = now;
  add(builder, "signs", KEY_ACTIVE, now);
  expect_choice(builder, PLAN_REVOKE, "old");
  assert_true(permits(builder, PLAN_REVOKE, 0, false)); /* no window is left that a wrong clock could shorten */
  builder->lineage.keys[0].compromised_at = TIME_UNSET;
  expect_choice(builder, PLAN_GENERATE, NULL);
  assert_false(permits(builder, PLAN_REVOKE, 0, true));
}

static void test_planner_emergency__a_back_off_of_the_revocation_holds_no_new_key_back(void **state) {
  struct builder *builder = *state;
  builder->rules.standby = 1;
  struct key *old = add(builder, "old", KEY_RETIRED, now);
  old->compromised_at = now;
  add(builder, "signs", KEY_ACTIVE, now);
  builder_fail(builder, PLAN_REVOKE, 0, now, ERROR_UNREACHABLE, true);
  expect_choice(builder, PLAN_GENERATE, NULL);
  expect_opens(builder, 0, PLAN_REVOKE, "back_off", builder->lineage.retry_at);
}

/* Two keys that fail in turn do not take each other's pause away, and each pause grows. */
static void test_planner_emergency__two_keys_that_fail_in_turn_keep_a_pace(void **state) {
  struct builder *builder = *state;
  add(builder, "signs", KEY_ACTIVE, now - DAY);
  add(builder, "old", KEY_RETIRED, now)->placements[0].drained_at = now;
  add(builder, "next", KEY_GENERATED, now);
  compromise(builder, "old", false, false);
  int64_t at = now, pause = 0;
  for (unsigned i = 0; i < 5; i++) {
    builder_fail(builder, PLAN_REVOKE, 1, at, ERROR_UNREACHABLE, true);
    builder_fail(builder, PLAN_PUBLISH, 2, at, ERROR_UNREACHABLE, true);
    const int64_t opens = builder->lineage.keys[1].retry_at;
    assert_true(opens - at > pause);
    pause = opens - at;
    expect_closed(builder, 1, at, PLAN_REVOKE, "back_off", opens);
    expect_closed(builder, 2, at, PLAN_PUBLISH, "back_off", builder->lineage.keys[2].retry_at);
    at = time_max(opens, builder->lineage.keys[2].retry_at);
    expect_action(builder, 1, at, PLAN_REVOKE);
    expect_action(builder, 2, at, PLAN_PUBLISH);
  }
}

/* ---- without a standby ---- */

static void test_planner_emergency__without_a_standby_a_key_is_made_and_the_old_one_signs_on(void **state) {
  struct builder *builder = *state;
  add(builder, "signs", KEY_ACTIVE, now - DAY);
  compromise(builder, NULL, false, false);
  expect_choice(builder, PLAN_GENERATE, NULL);
  assert_false(permits(builder, PLAN_REVOKE, 0, true));
  assert_true(key_is_broken(&builder->lineage, &builder->lineage.keys[0]));
}

static void test_planner_emergency__a_rotation_that_is_half_way_is_taken_to_its_end(void **state) {
  struct builder *builder = *state;
  add(builder, "signs", KEY_ACTIVE, now - DAY);
  add(builder, "half", KEY_PUBLISHED, now - HOUR);
  compromise(builder, "signs", false, false);
  assert_int_not_equal(plan_at(builder, now).action, PLAN_GENERATE);
  builder->lineage.keys[1].state = KEY_READY;
  builder->lineage.keys[1].ready_at = now;
  builder_see(&builder->lineage.keys[1], "ns1.example.com", "192.0.2.1", true, now);
  builder_see(&builder->lineage.keys[1], "ns2.example.com", "192.0.2.2", true, now);
  builder->rules.publish_safety = 0;
  builder->lineage.keys[1].ttl_negative = builder->lineage.keys[1].ttl_old = 0;
  expect_choice(builder, PLAN_ACTIVATE, "half");
}

static void test_planner_emergency__at_once_ends_the_record_without_another_key(void **state) {
  struct builder *builder = *state;
  add(builder, "signs", KEY_ACTIVE, now - DAY);
  compromise(builder, NULL, false, true);
  expect_choice(builder, PLAN_REVOKE, "signs");
  assert_true(permits(builder, PLAN_REVOKE, 0, true));
}

static void test_planner_emergency__at_once_waits_the_second_that_a_standby_needs(void **state) {
  struct builder *builder = *state;
  add(builder, "signs", KEY_ACTIVE, now - DAY);
  add(builder, "waits", KEY_READY, now - DAY);
  compromise(builder, "signs", false, true);
  expect_choice(builder, PLAN_ACTIVATE, "waits");
  expect_closed(builder, 0, now, PLAN_REVOKE, "no_standby", TIME_NEVER);
  builder_fail(builder, PLAN_ACTIVATE, 1, now, ERROR_UNREACHABLE, true);
  expect_choice(builder, PLAN_REVOKE, "signs"); /* it cannot, and the person said at once */
}

static void test_planner_emergency__after_the_end_at_once_its_lines_go_though_no_other_key_signs(void **state) {
  struct builder *builder = *state;
  struct key *key = add(builder, "ended", KEY_REVOKED, now);
  key->placements[0].switched_at = now - DAY;
  key->placements[0].drained_at = TIME_UNSET;
  key->compromised_at = key->right_at = now;
  builder_key(builder, "next", KEY_GENERATED, now);
  builder_fail(builder, PLAN_PUBLISH, 1, now, ERROR_UNREACHABLE, true);
  expect_closed(builder, 0, now, PLAN_WITHDRAW, "other_key_signs", TIME_NEVER);
  assert_false(permits(builder, PLAN_WITHDRAW, 0, true));
  builder->lineage.keys[0].revoke_now = true;
  expect_choice(builder, PLAN_WITHDRAW, "ended");
  assert_true(permits(builder, PLAN_WITHDRAW, 0, true));
}

/* ---- keys that do not sign ---- */

static void test_planner_emergency__a_key_that_never_signed_is_revoked_and_never_signs(void **state) {
  struct builder *builder = *state;
  for (enum key_state at = KEY_PUBLISHED; at <= KEY_READY; at++) {
    builder_end(builder);
    builder_begin(builder);
    add(builder, "signs", KEY_ACTIVE, now - DAY);
    add(builder, "waits", at, now - DAY);
    builder->lineage.rotate_requested = true;
    compromise(builder, "waits", false, false);
    expect_choice(builder, PLAN_REVOKE, "waits");
    assert_true(permits(builder, PLAN_REVOKE, 1, true));
    assert_false(permits(builder, PLAN_ACTIVATE, 1, true));
    assert_false(permits(builder, PLAN_PUBLISH, 1, true));
  }
}

/* While its revocation fails, nothing else is done with it that would bring it forward. */
static void test_planner_emergency__a_key_whose_revocation_fails_goes_no_other_way(void **state) {
  struct builder *builder = *state;
  static const enum key_state states[] = {KEY_PUBLISHED, KEY_READY, KEY_RETIRED};
  for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
    builder_end(builder);
    builder_begin(builder);
    builder->rules.publish_safety = 0;
    add(builder, "signs", KEY_ACTIVE, now - DAY);
    struct key *key = add(builder, "ends", states[i], now - DAY);
    key->ttl_negative = key->ttl_old = 0;
    if (states[i] == KEY_RETIRED) {
      key->placements[0].drained_at = now;
      for (size_t j = 0; j < key->sighting_count; j++) builder_see(key, key->sightings[j].host, key->sightings[j].address, false, now);
    }
    builder->lineage.rotate_requested = true;
    compromise(builder, "ends", false, false);
    builder_fail(builder, PLAN_REVOKE, 1, now, ERROR_UNREACHABLE, true);
    const struct plan plan = builder_plan_key(builder, 1, now);
    assert_string_equal(plan_action_name(plan.waiting), "revoke");
    const struct plan later = builder_plan_key(builder, 1, builder->lineage.retry_at - 1);
    const bool looks = later.action == PLAN_CONFIRM && states[i] == KEY_RETIRED;
    if (later.action != PLAN_NONE && !looks) fail_msg("%s of a key that is compromised and %s", plan_action_name(later.action), key_state_name(states[i]));
    for (size_t j = 0; j < builder->lineage.keys[1].sighting_count; j++) builder->lineage.keys[1].published_at = now - 30 * DAY;
    const struct plan healing = builder_plan_key(builder, 1, now + 1);
    assert_int_not_equal(healing.action, PLAN_PUBLISH);
  }
}

/* A hold stops the revocation, and not the healing of records; but this record is not wanted back. */
static void test_planner_emergency__a_hold_brings_no_compromised_record_back(void **state) {
  struct builder *builder = *state;
  add(builder, "signs", KEY_ACTIVE, now - DAY);
  struct key *key = add(builder, "ends", KEY_RETIRED, now - DAY);
  for (size_t j = 0; j < key->sighting_count; j++) builder_see(key, key->sightings[j].host, key->sightings[j].address, false, now);
  key->placements[0].drained_at = now;
  key->published_at = now - 30 * DAY;
  builder->lineage.held = true;
  builder->lineage.hold_until = TIME_NEVER;
  expect_action(builder, 1, now, PLAN_PUBLISH);
  compromise(builder, "ends", false, false);
  assert_int_not_equal(builder_plan_key(builder, 1, now).action, PLAN_PUBLISH);
}

/* The one signer that signs does so with a key that never took over everywhere: without another key to go back to, its record stays. */
static void test_planner_emergency__a_half_switched_key_that_alone_signs_keeps_its_record(void **state) {
  struct builder *builder = *state;
  struct key *half = add(builder, "half", KEY_READY, now - DAY);
  half->placements[0].switched_at = now;
  half->placements[0].drained_at = TIME_UNSET;
  compromise(builder, "half", false, false);
  assert_int_not_equal(builder_plan_key(builder, 0, now).action, PLAN_REVOKE);
  compromise(builder, "half", false, true);
  expect_action(builder, 0, now, PLAN_WITHDRAW); /* unsigned is what was asked for */
}

static void test_planner_emergency__what_signs_with_it_somewhere_is_taken_back_first(void **state) {
  struct builder *builder = *state;
  add(builder, "signs", KEY_ACTIVE, now - DAY);
  struct key *half = add(builder, "half", KEY_READY, now - DAY);
  half->placements[0].switched_at = now;
  compromise(builder, "half", false, false);
  expect_choice(builder, PLAN_WITHDRAW, "half");
  assert_true(permits(builder, PLAN_WITHDRAW, 1, true));
  builder->lineage.keys[1].placements[0].drained_at = now;
  expect_choice(builder, PLAN_REVOKE, "half");
}

static void test_planner_emergency__a_key_without_a_record_is_destroyed(void **state) {
  struct builder *builder = *state;
  add(builder, "signs", KEY_ACTIVE, now - DAY);
  builder_key(builder, "made", KEY_GENERATED, now);
  compromise(builder, NULL, true, false);
  expect_action(builder, 1, now, PLAN_DESTROY);
  builder->lineage.keys[1].state = KEY_RESERVED;
  expect_action(builder, 1, now, PLAN_DESTROY);
}

static void test_planner_emergency__of_a_compromised_host_no_key_takes_over(void **state) {
  struct builder *builder = *state;
  builder->rules.standby = 1;
  add(builder, "old", KEY_RETIRED, now - DAY);
  add(builder, "signs", KEY_ACTIVE, now - DAY);
  add(builder, "waits", KEY_READY, now - DAY);
  compromise(builder, NULL, true, false);
  assert_null(lineage_standby_key(&builder->lineage));
  expect_action(builder, 0, now, PLAN_REVOKE);
  expect_action(builder, 2, now, PLAN_REVOKE);
  builder->lineage.keys[0].state = builder->lineage.keys[2].state = KEY_REVOKED;
  builder->lineage.keys[0].revoked_at = builder->lineage.keys[2].revoked_at = now;
  builder->lineage.keys[0].placements[0].drained_at = now;
  expect_choice(builder, PLAN_GENERATE, NULL);
}

/* ---- what holds it back ---- */

static void test_planner_emergency__a_hold_of_everything_holds_it_too(void **state) {
  struct builder *builder = *state;
  add(builder, "signs", KEY_ACTIVE, now - DAY);
  add(builder, "waits", KEY_READY, now - DAY);
  add(builder, "old", KEY_RETIRED, now - DAY);
  builder->lineage.held = true;
  builder->lineage.hold_until = now + DAY;
  builder->lineage.keys[2].placements[0].drained_at = now;
  compromise(builder, NULL, true, true);
  expect_closed(builder, 0, now, PLAN_REVOKE, "not_held", now + DAY);
  expect_closed(builder, 1, now, PLAN_REVOKE, "not_held", now + DAY);
  expect_closed(builder, 2, now, PLAN_REVOKE, "not_held", now + DAY);
}

static void test_planner_emergency__a_wish_is_taken_once(void **state) {
  struct builder *builder = *state;
  struct event_list events = {0};
  struct error error;
  const struct compromise wish = {.selector = "SIGNS"};
  const struct compromise at_once = {.selector = "signs", .now = true};
  add(builder, "signs", KEY_ACTIVE, now - DAY);
  add(builder, "gone", KEY_REVOKED, now - DAY);
  assert_int_equal(lifecycle_compromise(&builder->lineage, &wish, now, &events, &error), 0);
  assert_int_equal(lifecycle_compromise(&builder->lineage, &wish, now + HOUR, &events, &error), 0);
  assert_int_equal(events.count, 1);
  assert_string_equal(events.items[0].kind, "compromised");
  assert_int_equal(builder->lineage.keys[0].compromised_at, now);
  assert_int_equal(lifecycle_compromise(&builder->lineage, &at_once, now + HOUR, &events, &error), 0);
  assert_int_equal(events.count, 2);
  assert_int_equal(builder->lineage.keys[0].compromised_at, now);
  assert_true(builder->lineage.keys[0].revoke_now);
  const struct compromise gone = {.selector = "gone"};
  assert_int_equal(lifecycle_compromise(&builder->lineage, &gone, now, &events, &error), 0);
  assert_int_equal(events.count, 2);
  event_list_release(&events);
}

/* ---- afterwards ---- */

static void test_planner_emergency__servers_are_looked_at_until_each_says_that_it_is_revoked(void **state) {
  struct builder *builder = *state;
  add(builder, "signs", KEY_ACTIVE, now - DAY);
  struct key *key = add(builder, "ended", KEY_REVOKED, now);
  key->revoked_at = now;
  key->ttl = 3600;
  key->propagation = 5;
  key->right_at = TIME_UNSET;
  key->sighting_count = 0; /* what was seen of the record as it was is forgotten */
  key->placements[0].drained_at = now;
  key->compromised_at = now;
  expect_action(builder, 1, now, PLAN_CONFIRM);
  builder->rules.standby = 1; /* which is wanted, and no emergency */
  expect_choice(builder, PLAN_CONFIRM, "ended");
  builder->rules.standby = 0;
  assert_int_equal(timing_dead(key), now + 3605);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now + 60);
  expect_action(builder, 1, now + 60 + builder->rules.confirm_every, PLAN_CONFIRM);
  key->right_at = now + 300;
  assert_int_equal(timing_dead(key), now + 3900);
  expect_seen(key, true, now + builder->rules.tombstone - 5);
  expect_opens(builder, 1, PLAN_DELETE, "tombstone_over", now + builder->rules.tombstone);
}

/* Once every server has said it, it is looked at as often as a record that mail needs: who has the key would be believed if a backup brought it back. */
static void test_planner_emergency__a_backup_that_brings_the_key_back_is_found_and_undone(void **state) {
  struct builder *builder = *state;
  add(builder, "signs", KEY_ACTIVE, now - DAY);
  struct key *key = add(builder, "ended", KEY_REVOKED, now - 5 * DAY);
  key->compromised_at = now - 5 * DAY;
  key->right_at = now;
  assert_false(key_is_exposed(key));
  expect_action(builder, 1, now + TIMING_WATCH_SIGNED - 1, PLAN_NONE);
  expect_action(builder, 1, now + TIMING_WATCH_SIGNED, PLAN_CONFIRM);
  expect_seen(key, false, now + TIMING_WATCH_SIGNED);
  key->right_at = TIME_UNSET;
  assert_true(key_is_exposed(key));
  builder->rules.standby = 1; /* which is wanted, and no emergency */
  const struct plan plan = plan_at(builder, now + TIMING_WATCH_SIGNED);
  assert_int_equal(plan.action, PLAN_REVOKE);
  assert_int_equal(plan.key, 1);
  assert_true(permits(builder, PLAN_REVOKE, 1, false));
  key->published_at = now + TIMING_WATCH_SIGNED;
  key->sighting_count = 0;
  assert_int_equal(timing_dead(key), now + TIMING_WATCH_SIGNED + key->propagation + key->ttl);
  expect_action(builder, 1, now + TIMING_WATCH_SIGNED, PLAN_CONFIRM); /* until each says so again */
  key->deleted_at = now;
  assert_false(permits(builder, PLAN_REVOKE, 1, false));
}

/* A record may be gone from all servers within minutes; connections that were open when it was said so live longer, and need the file. */
static void test_planner_emergency__the_private_key_outlives_connections_that_sign_with_it(void **state) {
  struct builder *builder = *state;
  add(builder, "signs", KEY_ACTIVE, now - DAY);
  struct key *key = add(builder, "ended", KEY_REVOKED, now);
  key->compromised_at = key->retired_at = key->revoked_at = now;
  key->deleted_at = key->absent_at = now + 60;
  key->placements[0].drained_at = now;
  expect_closed(builder, 1, now + 60, PLAN_DESTROY, "connections_ended", now + builder->rules.drain);
  expect_action(builder, 1, now + builder->rules.drain, PLAN_DESTROY);
  key->retired_at = TIME_UNSET; /* it never signed */
  expect_action(builder, 1, now + 60, PLAN_DESTROY);
}

/* ---- a standby's private key ---- */

static void lose(struct key *key, int64_t at) {
  for (size_t i = 0; i < key->placement_count; i++) {
    key->placements[i].damage = DAMAGE_FILE_MISSING;
    key->placements[i].damaged_at = at;
  }
}

static void test_planner_emergency__the_private_key_of_a_standby_is_looked_at(void **state) {
  struct builder *builder = *state;
  builder->rules.standby = 1;
  add(builder, "signs", KEY_ACTIVE, now - DAY);
  add(builder, "waits", KEY_READY, now - DAY)->files_seen_at = now - HOUR;
  expect_choice(builder, PLAN_CHECK_FILES, "waits");
  assert_true(permits(builder, PLAN_CHECK_FILES, 1, true));
  assert_false(permits(builder, PLAN_CHECK_FILES, 0, true));
  /* A look ahead leaves it out, and one that is on its way is no standby yet. */
  struct plan plan;
  plan_key(&builder->lineage, 1, &(struct plan_clock){.now = now, .attested = true, .skip_watch = true}, &plan);
  assert_int_not_equal(plan.action, PLAN_CHECK_FILES);
  builder->lineage.keys[1].state = KEY_PUBLISHED;
  assert_int_not_equal(builder_plan_key(builder, 1, now).action, PLAN_CHECK_FILES);
}

static void test_planner_emergency__a_standby_without_a_private_key_is_replaced_and_never_signs(void **state) {
  struct builder *builder = *state;
  builder->rules.standby = 1;
  add(builder, "signs", KEY_ACTIVE, now - DAY);
  lose(add(builder, "waits", KEY_READY, now - DAY), now);
  expect_choice(builder, PLAN_GENERATE, NULL);
  assert_false(permits(builder, PLAN_ACTIVATE, 1, true));
  expect_closed(builder, 1, now, PLAN_REVOKE, "lost_for_good", now + TIMING_LOST_FOR_GOOD);
  builder->lineage.keys[1].placements[0].damage = DAMAGE_NONE; /* it is back */
  assert_int_not_equal(plan_at(builder, now).action, PLAN_GENERATE);
}

/* ---- what must not happen ---- */

static void test_planner_emergency__the_only_key_is_lost_only_by_the_end_at_once(void **state) {
  struct builder *builder = *state;
  struct lineage after;
  struct error error = {0};
  add(builder, "signs", KEY_ACTIVE, now - DAY);
  compromise(builder, NULL, false, false);
  assert_int_equal(lineage_copy(&builder->lineage, &after, &error), 0);
  after.keys[0].state = KEY_REVOKED;
  assert_int_equal(invariant_holds(&builder->lineage, &after, &error), ERROR_INTERNAL);
  after.keys[0].revoke_now = true;
  assert_int_equal(invariant_holds(&builder->lineage, &after, &error), 0);
  after.keys[0].state = KEY_RETIRED;
  assert_int_equal(invariant_holds(&builder->lineage, &after, &error), ERROR_INTERNAL);
  lineage_release(&after);
}

static int begin(void **state) {
  static struct builder builder;
  builder_begin(&builder);
  *state = &builder;
  return 0;
}
static int end(void **state) {
  builder_end(*state);
  return 0;
}

/* ---- what is told of it ---- */

static void test_planner_emergency__at_once_is_news_once(void **state) {
  struct builder *builder = *state;
  const struct compromise wish = {.selector = "signs", .now = true};
  struct key *key = add(builder, "signs", KEY_ACTIVE, now - DAY);
  assert_true(key_is_meant(key, &wish));
  compromise(builder, "signs", false, false);
  assert_true(key_is_meant(&builder->lineage.keys[0], &wish));
  compromise(builder, "signs", false, true);
  assert_false(key_is_meant(&builder->lineage.keys[0], &wish));
}

/* Connections that were open end with the signer that was restarted. */
static void switch_over(struct builder *builder, const struct placement_report *report) {
  add(builder, "old", KEY_ACTIVE, now - DAY);
  add(builder, "new", KEY_READY, now - DAY);
  compromise(builder, "old", false, false);
  builder_apply(builder, &(struct outcome){.action = PLAN_ACTIVATE, .key = 1, .at = now, .placements = report, .placement_count = 1});
  assert_int_equal(builder->lineage.keys[0].state, KEY_RETIRED);
}

static void test_planner_emergency__a_signer_that_was_restarted_has_no_connection_left(void **state) {
  struct builder *builder = *state;
  switch_over(builder, &(struct placement_report){.signer_id = 1, .switched_at = now, .completed_at = now, .restarted = true});
  assert_int_equal(builder->lineage.keys[0].lingers_until, TIME_UNSET);
  assert_string_equal(builder_event_reason(builder, "connections"), "every signer was restarted: no connection is left that signs with it");
}

static void test_planner_emergency__one_that_could_not_be_restarted_is_told_with_the_reason(void **state) {
  struct builder *builder = *state;
  switch_over(builder, &(struct placement_report){.signer_id = 1, .switched_at = now, .completed_at = now, .restart_failure = "unit not found"});
  assert_int_equal(builder->lineage.keys[0].lingers_until, now + builder->rules.drain);
  assert_non_null(strstr(builder_event_reason(builder, "alarm"), "a signer could not be restarted (unit not found): connections that were open"));
}

/* Where no other key signs, connections may sign with it only if it was revoked because somebody else may have it. */
static void test_planner_emergency__whose_lines_were_taken_back_tells_connections_only_of_a_compromised_key(void **state) {
  struct builder *builder = *state;
  const struct placement_report report = {.signer_id = 1, .completed_at = now};
  const struct outcome outcome = {.action = PLAN_WITHDRAW, .key = 0, .at = now, .placements = &report, .placement_count = 1};
  static const struct {
    enum key_state at;
    bool compromised, told;
  } rows[] = {{KEY_REVOKED, true, true}, {KEY_REVOKED, false, false}, {KEY_RETIRED, true, false}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    builder_end(builder);
    builder_begin(builder);
    struct key *key = add(builder, "old", rows[i].at, now - DAY);
    key->compromised_at = rows[i].compromised ? now - HOUR : TIME_UNSET;
    builder_apply(builder, &outcome);
    assert_int_equal(strstr(builder_events(builder), "alarm") != NULL, rows[i].told);
  }
}

static void test_planner_emergency__a_private_key_that_is_lost_is_told_and_when_it_is_back(void **state) {
  struct builder *builder = *state;
  struct placement_report report = {.signer_id = 1, .completed_at = now, .damage = DAMAGE_FILE_MISSING};
  const struct outcome outcome = {.action = PLAN_CHECK_FILES, .key = 0, .at = now, .placements = &report, .placement_count = 1};
  add(builder, "waits", KEY_READY, now - DAY);
  builder_apply(builder, &outcome);
  assert_string_equal(builder_event_reason(builder, "alarm"), "its private key file is lost");
  report.damage = DAMAGE_FILE_OTHER;
  report.failure = "it holds another key";
  builder_apply(builder, &outcome);
  assert_string_equal(builder_event_reason(builder, "alarm"), "it holds another key");
  report.damage = DAMAGE_NONE;
  report.failure = NULL;
  builder_apply(builder, &outcome);
  assert_non_null(builder_event_reason(builder, "recovered"));
}

static void test_planner_emergency__to_look_at_no_file_is_no_look(void **state) {
  struct builder *builder = *state;
  struct event_list events = {0};
  struct error error = {0};
  const struct outcome outcome = {.action = PLAN_CHECK_FILES, .key = 0, .at = now};
  add(builder, "waits", KEY_READY, now - DAY);
  assert_int_equal(lifecycle_apply(&builder->lineage, &outcome, now, &events, &error), 0);
  assert_int_equal(builder->lineage.failures, 1);
  assert_non_null(strstr(builder->lineage.failure, "no private key file was looked at"));
  event_list_release(&events);
}

/* Before it was ready, too. */
static void test_planner_emergency__a_published_key_whose_private_key_is_lost_is_given_up(void **state) {
  struct builder *builder = *state;
  struct key *key = add(builder, "waits", KEY_PUBLISHED, now - DAY);
  key->files_seen_at = now - DAY;
  const struct plan sound = builder_plan_key(builder, 0, now);
  for (size_t i = 0; i < key->placement_count; i++) key->placements[i].damage = DAMAGE_FILE_MISSING;
  assert_true(key_is_lost(key));
  const struct plan lost = builder_plan_key(builder, 0, now);
  assert_string_equal(plan_action_name(sound.action), "confirm");
  assert_string_equal(plan_action_name(lost.action), "revoke");
}

/* A pause that would last longer than any does was counted by a clock that has been set back since. */
static void test_planner_emergency__a_clock_that_was_set_back_holds_nothing_up(void **state) {
  struct builder *builder = *state;
  builder->rules.standby = 1;
  add(builder, "signs", KEY_ACTIVE, now - DAY);
  add(builder, "waits", KEY_READY, now - DAY);
  compromise(builder, "waits", false, false);
  builder->lineage.keys[1].failures = 1;
  builder->lineage.keys[1].retry_at = now + HOUR;
  assert_non_null(builder_reason(&(struct plan[]){builder_plan_key(builder, 1, now)}[0], "back_off"));
  builder->lineage.keys[1].retry_at = now + 30 * DAY;
  assert_string_equal(plan_action_name(builder_plan_key(builder, 1, now).action), plan_action_name(PLAN_REVOKE));
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_planner_emergency__##name, begin, end)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_standby_takes_over_at_once),
      TEST(of_two_standbys_the_older_one_that_is_sound_takes_over),
      TEST(the_record_says_so_right_after_the_switch_and_before_a_new_key_is_made),
      TEST(a_back_off_of_the_revocation_holds_no_new_key_back),
      TEST(two_keys_that_fail_in_turn_keep_a_pace),
      TEST(without_a_standby_a_key_is_made_and_the_old_one_signs_on),
      TEST(a_rotation_that_is_half_way_is_taken_to_its_end),
      TEST(at_once_ends_the_record_without_another_key),
      TEST(at_once_waits_the_second_that_a_standby_needs),
      TEST(after_the_end_at_once_its_lines_go_though_no_other_key_signs),
      TEST(a_key_that_never_signed_is_revoked_and_never_signs),
      TEST(a_key_whose_revocation_fails_goes_no_other_way),
      TEST(a_hold_brings_no_compromised_record_back),
      TEST(a_half_switched_key_that_alone_signs_keeps_its_record),
      TEST(what_signs_with_it_somewhere_is_taken_back_first),
      TEST(a_key_without_a_record_is_destroyed),
      TEST(of_a_compromised_host_no_key_takes_over),
      TEST(a_hold_of_everything_holds_it_too),
      TEST(a_wish_is_taken_once),
      TEST(servers_are_looked_at_until_each_says_that_it_is_revoked),
      TEST(a_backup_that_brings_the_key_back_is_found_and_undone),
      TEST(the_private_key_outlives_connections_that_sign_with_it),
      TEST(the_private_key_of_a_standby_is_looked_at),
      TEST(a_standby_without_a_private_key_is_replaced_and_never_signs),
      TEST(the_only_key_is_lost_only_by_the_end_at_once),
      TEST(at_once_is_news_once),
      TEST(a_signer_that_was_restarted_has_no_connection_left),
      TEST(one_that_could_not_be_restarted_is_told_with_the_reason),
      TEST(whose_lines_were_taken_back_tells_connections_only_of_a_compromised_key),
      TEST(a_private_key_that_is_lost_is_told_and_when_it_is_back),
      TEST(a_clock_that_was_set_back_holds_nothing_up),
      TEST(to_look_at_no_file_is_no_look),
      TEST(a_published_key_whose_private_key_is_lost_is_given_up),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
