/* Holds of activation alone, freezes, windows and jitter in the planner. 2027-01-15, the builder's day, is a Friday. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "dkimroll/timing.h"
#include "plan_expect.h"

static const int64_t now = BUILDER_NOW; /* 08:00 UTC */

/* Looks that only watch are not what these are about. */
static struct plan plan_at(const struct builder *builder, size_t index, int64_t at) {
  const struct plan_clock clock = {.now = at, .attested = true, .skip_watch = true};
  struct plan plan;
  plan_key(&builder->lineage, index, &clock, &plan);
  return plan;
}

static void expect_waits(const struct builder *builder, size_t index, int64_t at, enum plan_action action, const char *gate, int64_t opens) {
  const struct plan plan = plan_at(builder, index, at);
  const struct plan_reason *reason = builder_reason(&plan, gate);
  assert_int_equal(plan.action, PLAN_NONE);
  assert_string_equal(plan_action_name(plan.waiting), plan_action_name(action));
  if (!reason) fail_msg("%s waits, but not for %s", plan_action_name(action), gate);
  assert_int_equal(reason->opens, opens);
  assert_int_equal(plan.next, opens);
}

static void expect_begins(const struct builder *builder, size_t index, enum plan_action action, const char *gate, int64_t opens) {
  expect_waits(builder, index, opens - 1, action, gate, opens);
  assert_string_equal(plan_action_name(plan_at(builder, index, opens).action), plan_action_name(action));
}

static void set_window(struct builder *builder, unsigned days, int32_t from, int32_t until) {
  builder->rules.schedule.days = days;
  builder->rules.schedule.hours[0] = (struct schedule_hours){from, until};
  builder->rules.schedule.hours_count = 1;
}

enum { MONDAY_TO_THURSDAY = 0xf, EVERY_DAY = 0x7f };

/* Frozen from the day of `from` to that of `until`, both included. */
static void set_freeze(struct builder *builder, int64_t from, int64_t until) {
  static char *texts[] = {(char *)"2027-01-10..2027-01-20"};
  builder->rules.freezes = texts;
  builder->rules.freeze_count = 1;
  builder->rules.schedule.freezes[0] = (struct schedule_dates){.first = from / DAY, .last = until / DAY};
  builder->rules.schedule.freeze_count = 1;
}

/* An active key whose life is over, and a successor that is ready. */
static void begin_turn(struct builder *builder) {
  builder_key(builder, "a", KEY_ACTIVE, now - BUILDER_LIFE);
  builder_key(builder, "b", KEY_READY, now - DAY);
}

/* ---- a hold of activation alone ---- */

static void test_planner__held_from_taking_over_the_next_key_is_made_and_waits(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now - BUILDER_LIFE);
  expect_hold(builder, now + 9 * DAY);
  builder->lineage.hold_scope = HOLD_ACTIVATION;
  expect_action(builder, 1, now, PLAN_GENERATE);
  builder_key(builder, "b", KEY_READY, now - DAY);
  expect_begins(builder, 1, PLAN_ACTIVATE, "not_held", now + 9 * DAY);
  const struct plan plan = plan_at(builder, 1, now);
  assert_string_equal(plan.reasons[0].text, "held, though only from taking over: not in December; `dkimroll release example.com` ends it");
}

static void test_planner__held_from_taking_over_old_keys_go_their_way(void **state) {
  struct builder *builder = *state;
  struct key *old = builder_key(builder, "a", KEY_RETIRED, now - BUILDER_WINDOW - DAY);
  old->placements[0].drained_at = now - BUILDER_WINDOW;
  builder_key(builder, "b", KEY_ACTIVE, now - BUILDER_WINDOW - DAY);
  expect_hold(builder, TIME_NEVER);
  expect_waits(builder, 0, now, PLAN_REVOKE, "not_held", TIME_NEVER);
  builder->lineage.hold_scope = HOLD_ACTIVATION;
  expect_action(builder, 0, now, PLAN_REVOKE);
}

static void test_planner__the_end_of_a_hold_is_a_moment_even_if_nothing_waits_for_it(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now);
  expect_hold(builder, now + HOUR);
  const struct plan plan = builder_plan(builder, now);
  assert_int_equal(plan.action, PLAN_NONE);
  assert_int_equal(plan.next, now + HOUR);
  assert_true(builder_plan(builder, now + HOUR).next > now + HOUR);
}

static void test_planner__a_hold_that_ended_is_told_once(void **state) {
  struct builder *builder = *state;
  expect_hold(builder, now + HOUR);
  builder->lineage.hold_scope = HOLD_ACTIVATION;
  assert_int_equal(lifecycle_end_hold(&builder->lineage, now + HOUR - 1, &builder->events, &builder->error), 0);
  assert_true(builder->lineage.held);
  assert_int_equal(builder->events.count, 0);
  assert_int_equal(lifecycle_end_hold(&builder->lineage, now + HOUR, &builder->events, &builder->error), 0);
  assert_false(builder->lineage.held);
  assert_null(builder->lineage.hold_reason);
  assert_int_equal(builder->lineage.hold_scope, HOLD_ALL);
  assert_string_equal(builder_event_reason(builder, "released"), "the hold has come to its end: not in December");
  assert_int_equal(lifecycle_end_hold(&builder->lineage, now + DAY, &builder->events, &builder->error), 0);
  assert_int_equal(builder->events.count, 1);
}

/* ---- windows ---- */

static void test_planner__a_ready_key_waits_for_the_window(void **state) {
  struct builder *builder = *state;
  begin_turn(builder);
  set_window(builder, MONDAY_TO_THURSDAY, 9 * HOUR, 16 * HOUR);
  expect_begins(builder, 1, PLAN_ACTIVATE, "window", now + 3 * DAY + HOUR);
  const struct plan plan = plan_at(builder, 1, now);
  assert_string_equal(plan.reasons[0].text, "the window ( UTC) is closed until 2027-01-18 09:00:00 UTC");
  expect_waits(builder, 1, now + 3 * DAY + 8 * HOUR, PLAN_ACTIVATE, "window", now + 4 * DAY + HOUR);
}

/* A plan names the moment that comes: the window is asked about the end of the other waits, not about now. */
static void test_planner__the_window_is_that_of_the_turn(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now - BUILDER_LIFE + 10 * HOUR); /* its life ends on Friday at 18:00 */
  builder_key(builder, "b", KEY_READY, now - DAY);
  set_window(builder, EVERY_DAY, 7 * HOUR, 16 * HOUR); /* it is open now, and closed then */
  expect_waits(builder, 1, now, PLAN_ACTIVATE, "window", now + 23 * HOUR);
  set_window(builder, EVERY_DAY, 17 * HOUR, 20 * HOUR); /* and the reverse */
  const struct plan plan = plan_at(builder, 1, now);
  assert_null(builder_reason(&plan, "window"));
  assert_int_equal(plan.next, now + 10 * HOUR);
}

static void test_planner__the_window_holds_back_no_new_key(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now - BUILDER_LIFE);
  set_window(builder, MONDAY_TO_THURSDAY, 9 * HOUR, 16 * HOUR);
  expect_action(builder, 1, now, PLAN_GENERATE);
}

static void test_planner__records_of_old_keys_change_in_the_window_alone(void **state) {
  struct builder *builder = *state;
  struct key *old = builder_key(builder, "a", KEY_RETIRED, now - BUILDER_WINDOW - DAY);
  old->placements[0].drained_at = now - BUILDER_WINDOW;
  builder_key(builder, "b", KEY_ACTIVE, now - BUILDER_WINDOW - DAY);
  set_window(builder, MONDAY_TO_THURSDAY, 9 * HOUR, 16 * HOUR);
  expect_begins(builder, 0, PLAN_REVOKE, "window", now + 3 * DAY + HOUR);
  builder->rules.tombstone = 0;
  expect_begins(builder, 0, PLAN_DELETE, "window", now + 3 * DAY + HOUR);
  builder->rules.tombstone = BUILDER_TOMBSTONE;
  builder->lineage.keys[0].state = KEY_REVOKED;
  builder->lineage.keys[0].revoked_at = now - BUILDER_TOMBSTONE;
  expect_begins(builder, 0, PLAN_DELETE, "window", now + 3 * DAY + HOUR);
}

static void break_active_key(struct builder *builder) { builder->lineage.keys[0].contested_at = now - HOUR; }

static void test_planner__a_broken_key_is_replaced_at_any_hour(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now);
  set_window(builder, MONDAY_TO_THURSDAY, 9 * HOUR, 16 * HOUR);
  set_freeze(builder, now, now);
  break_active_key(builder);
  expect_action(builder, 1, now, PLAN_GENERATE);
  builder_key(builder, "b", KEY_READY, now - DAY);
  expect_action(builder, 1, now, PLAN_ACTIVATE);
}

/* A key that was revoked at once, in an emergency, leaves a domain unsigned. */
static void test_planner__a_domain_that_has_signed_gets_its_next_key_at_any_hour(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_REVOKED, now - HOUR);
  set_window(builder, MONDAY_TO_THURSDAY, 9 * HOUR, 16 * HOUR);
  set_freeze(builder, now, now);
  assert_int_equal(plan_at(builder, 1, now).action, PLAN_GENERATE);
  builder_key(builder, "b", KEY_READY, now - DAY);
  assert_int_equal(plan_at(builder, 1, now).action, PLAN_ACTIVATE);
}

static void test_planner__who_asks_for_a_rotation_is_there_and_waits_for_no_window(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now);
  builder_key(builder, "b", KEY_READY, now - DAY);
  set_window(builder, MONDAY_TO_THURSDAY, 9 * HOUR, 16 * HOUR);
  builder->lineage.rotate_requested = true;
  expect_action(builder, 1, now, PLAN_ACTIVATE);
  set_freeze(builder, now, now);
  expect_begins(builder, 1, PLAN_ACTIVATE, "freeze", now + 16 * HOUR);
}

static void test_planner__a_first_key_waits_for_the_window_too(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_READY, now - DAY);
  set_window(builder, MONDAY_TO_THURSDAY, 9 * HOUR, 16 * HOUR);
  expect_begins(builder, 0, PLAN_ACTIVATE, "window", now + 3 * DAY + HOUR);
}

static void test_planner__a_record_that_vanished_is_put_back_at_any_hour(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_ACTIVE, now - 10 * DAY);
  set_window(builder, MONDAY_TO_THURSDAY, 9 * HOUR, 16 * HOUR);
  set_freeze(builder, now, now);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now);
  builder_see(key, "ns2.example.com", "192.0.2.2", false, now);
  expect_action(builder, 0, now, PLAN_PUBLISH);
}

/* ---- freezes ---- */

static void test_planner__nothing_begins_in_a_freeze(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now - BUILDER_LIFE);
  set_freeze(builder, now, now + 5 * DAY);
  const int64_t end = (now / DAY + 6) * DAY;
  expect_begins(builder, 1, PLAN_GENERATE, "freeze", end);
  builder_key(builder, "b", KEY_READY, now - DAY);
  expect_begins(builder, 1, PLAN_ACTIVATE, "freeze", end);
  const struct plan plan = plan_at(builder, 1, now);
  assert_string_equal(plan.reasons[0].text, "frozen (2027-01-10..2027-01-20 UTC) until 2027-01-21 00:00:00 UTC");
}

static void test_planner__nothing_ends_in_a_freeze(void **state) {
  struct builder *builder = *state;
  struct key *old = builder_key(builder, "a", KEY_RETIRED, now - BUILDER_WINDOW - DAY);
  old->placements[0].drained_at = now - BUILDER_WINDOW;
  builder_key(builder, "b", KEY_ACTIVE, now - BUILDER_WINDOW - DAY);
  set_freeze(builder, now, now + 5 * DAY);
  const int64_t end = (now / DAY + 6) * DAY;
  expect_begins(builder, 0, PLAN_REVOKE, "freeze", end);
  builder->rules.tombstone = 0;
  expect_begins(builder, 0, PLAN_DELETE, "freeze", end);
  builder->rules.tombstone = BUILDER_TOMBSTONE;
  old = &builder->lineage.keys[0];
  old->state = KEY_REVOKED;
  old->revoked_at = now - BUILDER_TOMBSTONE;
  expect_begins(builder, 0, PLAN_DELETE, "freeze", end);
  old->deleted_at = old->absent_at = now - HOUR;
  expect_begins(builder, 0, PLAN_DESTROY, "freeze", end);
}

/* What is under way goes on: a key that was made is published and confirmed. */
static void test_planner__a_key_that_was_begun_before_a_freeze_gets_ready_in_it(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "a", KEY_ACTIVE, now - BUILDER_LIFE);
  builder_key(builder, "b", KEY_GENERATED, now - DAY);
  set_freeze(builder, now, now + 5 * DAY);
  expect_action(builder, 1, now, PLAN_PUBLISH);
}

static void test_planner__a_zone_that_is_not_known_any_more_closes_and_says_so(void **state) {
  struct builder *builder = *state;
  struct time_zone *gone = time_zone_unknown("Europe/Atlantis");
  begin_turn(builder);
  set_window(builder, EVERY_DAY, 0, DAY);
  builder->rules.time_zone = gone;
  builder->rules.schedule.zone = gone;
  expect_waits(builder, 1, now, PLAN_ACTIVATE, "window", TIME_NEVER);
  const struct plan plan = plan_at(builder, 1, now);
  assert_non_null(strstr(plan.reasons[0].text, "does not know the time zone Europe/Atlantis any more: install the package tzdata"));
  builder->rules.time_zone = NULL;
  builder->rules.schedule.zone = NULL;
  time_zone_free(gone);
}

static void test_planner__the_window_is_told_in_the_words_of_the_policy(void **state) {
  struct builder *builder = *state;
  static char *days[] = {(char *)"mon", (char *)"tue"}, *hours[] = {(char *)"09:00-12:00", (char *)"14:00-16:00"};
  static char *long_days[] = {(char *)"monday-monday-monday-monday-monday-monday-monday-monday", (char *)"tuesday-tuesday-tuesday-tuesday-tuesday-tuesday-tuesday-tuesday"};
  begin_turn(builder);
  set_window(builder, EVERY_DAY, 9 * HOUR, 12 * HOUR);
  builder->rules.window_hours = hours;
  builder->rules.window_hours_count = 2;
  struct plan plan = plan_at(builder, 1, now);
  assert_non_null(strstr(builder_reason(&plan, "window")->text, "09:00-12:00,14:00-16:00 UTC"));
  builder->rules.window_days = days;
  builder->rules.window_day_count = 2;
  plan = plan_at(builder, 1, now);
  assert_non_null(strstr(builder_reason(&plan, "window")->text, "mon,tue 09:00-12:00,14:00-16:00 UTC"));
  struct time_zone *zone = time_zone_unknown("Europe/Atlantis");
  builder->rules.time_zone = zone;
  plan = plan_at(builder, 1, now);
  assert_non_null(strstr(builder_reason(&plan, "window")->text, "14:00-16:00 Europe/Atlantis"));
  builder->rules.time_zone = NULL;
  time_zone_free(zone);
  /* What is too long is cut. */
  builder->rules.window_days = long_days;
  plan = plan_at(builder, 1, now);
  assert_non_null(strstr(builder_reason(&plan, "window")->text, "tuesday 09:0"));
  assert_null(strstr(builder_reason(&plan, "window")->text, "14:00"));
  builder->rules.window_days = builder->rules.window_hours = NULL;
  builder->rules.window_day_count = builder->rules.window_hours_count = 0;
}

static void test_planner__a_freeze_is_that_of_its_zone(void **state) {
  struct builder *builder = *state;
  struct time_zone *zone = time_zone_unknown("Europe/Atlantis");
  builder_key(builder, "a", KEY_ACTIVE, now - BUILDER_LIFE);
  set_freeze(builder, now - DAY, now + DAY);
  builder->rules.time_zone = zone;
  struct plan plan = plan_at(builder, 1, now);
  assert_non_null(strstr(builder_reason(&plan, "freeze")->text, "frozen (2027-01-10..2027-01-20 Europe/Atlantis)"));
  builder->rules.schedule.zone = zone;
  plan = plan_at(builder, 1, now);
  assert_non_null(strstr(builder_reason(&plan, "freeze")->text, "does not know the time zone Europe/Atlantis"));
  builder->rules.time_zone = NULL;
  builder->rules.schedule.zone = NULL;
  time_zone_free(zone);
}

static void test_planner__a_hold_that_goes_on_is_not_ended(void **state) {
  struct builder *builder = *state;
  struct event_list events = {0};
  struct error error = {0};
  expect_hold(builder, now + DAY);
  assert_int_equal(lifecycle_end_hold(&builder->lineage, now, &events, &error), 0);
  assert_true(builder->lineage.held && events.count == 0);
}

/* ---- jitter ---- */

static void test_planner__jitter_shortens_a_life_by_the_lineages_own_part(void **state) {
  struct builder *builder = *state;
  const struct key *key = builder_key(builder, "a", KEY_ACTIVE, now);
  builder->rules.jitter = 7 * DAY;
  const int64_t life = timing_life(&builder->lineage);
  assert_true(life < BUILDER_LIFE && life >= BUILDER_LIFE - 7 * DAY);
  expect_begins(builder, 1, PLAN_GENERATE, "successor_wanted", timing_generate(&builder->lineage, key));
  assert_int_equal(timing_turn(&builder->lineage, key), now + life);
  /* By its names and by nothing else: the row differs after a store was lost. */
  builder->lineage.id = 4711;
  assert_int_equal(timing_life(&builder->lineage), life);
  text_copy(builder->lineage.slot, sizeof builder->lineage.slot, "second");
  assert_int_not_equal(timing_life(&builder->lineage), life);
  builder->rules.rotate_every = TIME_NEVER;
  assert_true(timing_life(&builder->lineage) == TIME_NEVER);
}

static void test_planner__a_thousand_domains_are_spread_evenly_over_the_jitter(void **state) {
  struct builder *builder = *state;
  enum { DOMAINS = 1000, PARTS = 7 };
  unsigned parts[PARTS] = {0};
  builder->rules.jitter = PARTS * DAY;
  for (unsigned i = 0; i < DOMAINS; i++) {
    snprintf(builder->lineage.domain, sizeof builder->lineage.domain, "customer%u.example", i);
    const int64_t less = BUILDER_LIFE - timing_life(&builder->lineage);
    assert_in_range(less, 0, PARTS * DAY);
    parts[less / DAY < PARTS ? less / DAY : PARTS - 1]++;
  }
  /* 143 each day; five standard deviations are 55. */
  for (unsigned i = 0; i < PARTS; i++) assert_in_range(parts[i], 143 - 55, 143 + 55);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, builder_setup, builder_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_planner__held_from_taking_over_the_next_key_is_made_and_waits),
      TEST(test_planner__held_from_taking_over_old_keys_go_their_way),
      TEST(test_planner__the_end_of_a_hold_is_a_moment_even_if_nothing_waits_for_it),
      TEST(test_planner__a_hold_that_ended_is_told_once),
      TEST(test_planner__a_ready_key_waits_for_the_window),
      TEST(test_planner__the_window_is_that_of_the_turn),
      TEST(test_planner__the_window_holds_back_no_new_key),
      TEST(test_planner__records_of_old_keys_change_in_the_window_alone),
      TEST(test_planner__a_broken_key_is_replaced_at_any_hour),
      TEST(test_planner__a_domain_that_has_signed_gets_its_next_key_at_any_hour),
      TEST(test_planner__who_asks_for_a_rotation_is_there_and_waits_for_no_window),
      TEST(test_planner__a_first_key_waits_for_the_window_too),
      TEST(test_planner__a_record_that_vanished_is_put_back_at_any_hour),
      TEST(test_planner__nothing_begins_in_a_freeze),
      TEST(test_planner__nothing_ends_in_a_freeze),
      TEST(test_planner__a_key_that_was_begun_before_a_freeze_gets_ready_in_it),
      TEST(test_planner__a_zone_that_is_not_known_any_more_closes_and_says_so),
      TEST(test_planner__the_window_is_told_in_the_words_of_the_policy),
      TEST(test_planner__a_freeze_is_that_of_its_zone),
      TEST(test_planner__a_hold_that_goes_on_is_not_ended),
      TEST(test_planner__jitter_shortens_a_life_by_the_lineages_own_part),
      TEST(test_planner__a_thousand_domains_are_spread_evenly_over_the_jitter),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
