/* Waves: places in runs, the budget of failures, and how a stopped wave goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/text.h"
#include "dkimroll/wave.h"
#include "plan_expect.h"

static const int64_t now = BUILDER_NOW; /* a multiple of ten minutes */

static struct wave wave_of(struct policy_limits limits) {
  struct wave wave;
  wave_begin(&wave);
  wave.limits = limits;
  wave_advance(&wave, now);
  return wave;
}

static struct plan plan_in(const struct builder *builder, size_t index, int64_t at, struct wave *wave) {
  const struct plan_clock clock = {.wave = wave, .now = at, .attested = true, .skip_watch = true};
  struct plan plan;
  wave_advance(wave, at);
  plan_key(&builder->lineage, index, &clock, &plan);
  return plan;
}

/* ---- places ---- */

/* Another lineage that wants what builder's wants: its place is its own. */
static struct lineage *come(struct builder *builder) {
  builder->lineage.begin_place = builder->lineage.switch_place = TIME_UNSET;
  return &builder->lineage;
}

/* Another lineage of a wave, whose ready key is to take over. */
static void next_one(struct builder *builder, int64_t at) {
  builder_end(builder);
  builder_begin(builder);
  builder_key(builder, "a", KEY_ACTIVE, at - BUILDER_LIFE);
  builder_key(builder, "b", KEY_READY, at - DAY);
}

static bool note_late(struct builder *builder, int64_t at, struct wave *wave) {
  const struct plan_clock clock = {.wave = wave, .now = at, .attested = true, .skip_watch = true};
  return wave_note_late(wave, &builder->lineage, &clock);
}

static void test_wave__who_comes_too_late_for_a_run_comes_in_his_order(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){.max_per_run = 2});
  int64_t expected[] = {0, 0, 1, 1, 2, 2, 3};
  for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
    come(builder);
    const struct plan plan = plan_in(builder, 0, now + 7, &wave);
    const int64_t place = now + expected[i] * WAVE_RUN_SECONDS;
    if (expected[i] == 0) {
      assert_int_equal(plan.action, PLAN_GENERATE);
      wave_take(&wave, &builder->lineage, plan.action, now + 7);
      continue;
    }
    assert_int_equal(plan.action, PLAN_NONE);
    assert_int_equal(plan.next, place);
    assert_non_null(strstr(plan.reasons[0].text, "2 domains begin a key in one run, as many as max-per-run allows; its place is in that of 2027-01-15 08:"));
    assert_true(note_late(builder, now + 7, &wave));
    assert_int_equal(builder->lineage.begin_place, place);
    /* Planned again it keeps its place, and none is given away for it once more. */
    assert_int_equal(plan_in(builder, 0, now + 60, &wave).next, place);
    assert_false(note_late(builder, now + 60, &wave));
  }
  /* In the next run there is room for those who have a place there, and whoever comes only then stays behind all that wait: the fourth run has a place left. */
  const int64_t next = now + WAVE_RUN_SECONDS;
  builder->lineage.begin_place = next;
  assert_int_equal(plan_in(builder, 0, next, &wave).action, PLAN_GENERATE);
  wave_take(&wave, &builder->lineage, PLAN_GENERATE, next);
  assert_true(builder->lineage.begin_place == TIME_UNSET);
  assert_int_equal(plan_in(builder, 0, next, &wave).next, now + 3 * WAVE_RUN_SECONDS);
}

/* Who has a place in the last run of a queue comes before whoever comes in that run. */
static void test_wave__a_place_is_kept_from_those_who_come_in_its_run(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){.max_per_run = 1});
  wave_take(&wave, come(builder), PLAN_GENERATE, now);
  assert_true(note_late(builder, now, &wave));
  const int64_t place = builder->lineage.begin_place;
  assert_int_equal(place, now + WAVE_RUN_SECONDS);
  come(builder);
  assert_int_equal(plan_in(builder, 0, place, &wave).next, place + WAVE_RUN_SECONDS);
  builder->lineage.begin_place = place;
  assert_int_equal(plan_in(builder, 0, place + 30, &wave).action, PLAN_GENERATE);
  /* It may come late for its place, too. */
  assert_int_equal(plan_in(builder, 0, place + DAY, &wave).action, PLAN_GENERATE);
}

/* Several runs did not take place: their places are taken in the order in which they were given, one run after the other. */
static void test_wave__places_of_runs_that_did_not_take_place_are_given_anew(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){.max_per_run = 1});
  int64_t places[4];
  wave_take(&wave, come(builder), PLAN_GENERATE, now);
  for (size_t i = 0; i < 4; i++) {
    come(builder);
    assert_true(note_late(builder, now, &wave));
    places[i] = builder->lineage.begin_place;
  }
  const int64_t later = now + DAY;
  for (size_t i = 0; i < 4; i++) {
    builder->lineage.begin_place = places[i];
    assert_int_equal(plan_in(builder, 0, later, &wave).next, later + (int64_t)i * WAVE_RUN_SECONDS);
    if (i == 0)
      wave_take(&wave, &builder->lineage, PLAN_GENERATE, later);
    else
      assert_true(note_late(builder, later, &wave));
  }
}

static void test_wave__switches_have_places_of_their_own(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){.max_per_run = 1});
  builder_key(builder, "a", KEY_ACTIVE, now - BUILDER_LIFE);
  wave_take(&wave, come(builder), PLAN_GENERATE, now);
  assert_int_equal(plan_in(builder, 1, now, &wave).action, PLAN_NONE);
  builder_key(builder, "b", KEY_READY, now - DAY);
  assert_int_equal(plan_in(builder, 1, now, &wave).action, PLAN_ACTIVATE);
  wave_take(&wave, come(builder), PLAN_ACTIVATE, now);
  const struct plan plan = plan_in(builder, 1, now, &wave);
  assert_int_equal(plan.action, PLAN_NONE);
  assert_int_equal(plan.next, now + WAVE_RUN_SECONDS);
  assert_non_null(strstr(builder_reason(&plan, "run_room")->text, "1 domain takes over in one run, as many as max-per-run allows; its place is in that of "));
  assert_true(note_late(builder, now, &wave));
  assert_int_equal(builder->lineage.switch_place, now + WAVE_RUN_SECONDS);
  assert_true(builder->lineage.begin_place == TIME_UNSET);
}

static void test_wave__several_take_over_in_one_run(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){.max_per_run = 2});
  for (unsigned i = 0; i < 2; i++) {
    next_one(builder, now);
    assert_int_equal(plan_in(builder, 1, now, &wave).action, PLAN_ACTIVATE);
    wave_take(&wave, &builder->lineage, PLAN_ACTIVATE, now);
  }
  next_one(builder, now);
  const struct plan third = plan_in(builder, 1, now, &wave);
  assert_int_equal(third.next, now + WAVE_RUN_SECONDS);
  assert_non_null(strstr(builder_reason(&third, "run_room")->text, "2 domains take over in one run, as many as max-per-run allows; its place is in that of "));
}

static void test_wave__what_is_urgent_or_asked_for_needs_no_place(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){.max_per_run = 1, .budget = true});
  builder_key(builder, "a", KEY_ACTIVE, now - BUILDER_LIFE);
  wave_take(&wave, come(builder), PLAN_GENERATE, now);
  wave.stopped_at = now;
  wave.probe_at = now + HOUR;
  assert_int_equal(plan_in(builder, 1, now, &wave).action, PLAN_NONE);
  builder->lineage.rotate_requested = true;
  assert_int_equal(plan_in(builder, 1, now, &wave).action, PLAN_GENERATE);
  builder->lineage.rotate_requested = false;
  builder->lineage.keys[0].contested_at = now;
  assert_int_equal(plan_in(builder, 1, now, &wave).action, PLAN_GENERATE);
}

/* Otherwise those who wait would lose their places to whoever asks. */
static void test_wave__what_is_urgent_or_asked_for_takes_no_place(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){.max_per_run = 1});
  builder_key(builder, "a", KEY_ACTIVE, now - BUILDER_LIFE);
  builder->lineage.rotate_requested = true;
  wave_take(&wave, come(builder), PLAN_GENERATE, now);
  builder->lineage.rotate_requested = false;
  assert_int_equal(plan_in(builder, 1, now, &wave).action, PLAN_GENERATE);
}

/* A reason that will have passed when the turn comes is none. */
static void test_wave__a_full_run_is_no_matter_of_a_turn_to_come(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){.max_per_run = 1, .budget = true});
  builder_key(builder, "a", KEY_ACTIVE, now);
  wave_take(&wave, come(builder), PLAN_GENERATE, now);
  wave.stopped_at = now;
  wave.probe_at = now + HOUR;
  const struct plan plan = plan_in(builder, 1, now, &wave);
  assert_null(builder_reason(&plan, "run_room"));
  assert_null(builder_reason(&plan, "wave_runs"));
}

static void test_wave__a_clock_that_goes_back_begins_a_new_run(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){.max_per_run = 1, .budget = true});
  wave_take(&wave, come(builder), PLAN_GENERATE, now);
  assert_int_equal(plan_in(builder, 0, now - DAY, &wave).action, PLAN_GENERATE);
  wave.stopped_at = now;
  wave.probe_at = now + 400 * DAY;
  assert_int_equal(plan_in(builder, 0, now, &wave).action, PLAN_GENERATE);
}

/* A place that was given by a clock that has been set back since is none: neither before nor after another was given. */
static void test_wave__a_place_of_a_clock_that_was_ahead_is_none(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){.max_per_run = 1});
  const int64_t before = now - DAY;
  wave_take(&wave, come(builder), PLAN_GENERATE, now);
  assert_true(note_late(builder, now, &wave));
  const int64_t ahead = builder->lineage.begin_place;
  assert_int_equal(plan_in(builder, 0, before, &wave).action, PLAN_GENERATE);
  wave_take(&wave, come(builder), PLAN_GENERATE, before);
  assert_true(note_late(builder, before, &wave));
  builder->lineage.begin_place = ahead;
  assert_int_equal(plan_in(builder, 0, before, &wave).next, before + 2 * WAVE_RUN_SECONDS);
}

/* ---- the return from an absence ---- */

static void test_wave__turns_that_came_in_an_absence_are_spread_and_no_others(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){0});
  assert_false(wave_return(&wave, TIME_UNSET, now, 1000));
  assert_false(wave_return(&wave, now - WAVE_ABSENCE_SECONDS + 1, now, 1000));
  assert_true(wave_return(&wave, now - 31 * DAY, now, 1000));
  assert_int_equal(wave.spread, 1000 * WAVE_RETURN_EACH);
  builder_key(builder, "a", KEY_ACTIVE, now - 10 * DAY - BUILDER_LIFE);
  int64_t first = TIME_NEVER, last = TIME_UNSET;
  for (int64_t id = 1; id <= 1000; id++) {
    builder->lineage.id = id;
    const struct plan plan = plan_in(builder, 1, now, &wave);
    const int64_t next = plan.action == PLAN_NONE ? plan.next : now;
    if (plan.action == PLAN_NONE) assert_non_null(builder_reason(&plan, "caught_up"));
    first = time_min(first, next);
    last = time_max(last, next);
  }
  assert_in_range(first, now, now + 600);
  assert_in_range(last, now + wave.spread - 600, now + wave.spread);
  assert_int_equal(plan_in(builder, 1, now + wave.spread, &wave).action, PLAN_GENERATE);
  /* What is urgent or asked for, and where max-per-run is the pace, waits for nothing of this. */
  assert_int_equal(plan_in(builder, 1, now, &wave).action, PLAN_NONE);
  builder->lineage.rotate_requested = true;
  assert_int_equal(plan_in(builder, 1, now, &wave).action, PLAN_GENERATE);
  builder->lineage.rotate_requested = false;
  wave.limits.max_per_run = 5;
  assert_int_equal(plan_in(builder, 1, now, &wave).action, PLAN_GENERATE);
}

/* Where dkimroll runs once a week each run is a return from an absence: nothing must wait from one to the next for ever. */
static void test_wave__who_runs_once_a_week_waits_once(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){0});
  builder_key(builder, "a", KEY_ACTIVE, now - 3 * DAY - BUILDER_LIFE);
  builder->lineage.id = 999;
  assert_true(wave_return(&wave, now - 7 * DAY, now, 1000));
  assert_non_null(builder_reason(&(struct plan[]){plan_in(builder, 1, now, &wave)}[0], "caught_up"));
  assert_true(wave_return(&wave, now + 600, now + 7 * DAY, 1000));
  assert_int_equal(plan_in(builder, 1, now + 7 * DAY, &wave).action, PLAN_GENERATE);
}

static void test_wave__first_keys_and_turns_to_come_do_not_wait_for_the_backlog(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){0});
  assert_true(wave_return(&wave, now - 31 * DAY, now, 1000000));
  assert_int_equal(wave.spread, WAVE_RETURN_LONGEST);
  builder->lineage.id = 999;
  assert_int_equal(plan_in(builder, 0, now, &wave).action, PLAN_GENERATE);
  builder_key(builder, "a", KEY_ACTIVE, now + 60 - BUILDER_LIFE);
  builder_key(builder, "b", KEY_READY, now - DAY);
  assert_int_equal(plan_in(builder, 1, now + 60, &wave).action, PLAN_ACTIVATE);
}

/* By a clock that was years ahead: set right, nobody was away. */
static void test_wave__a_return_that_is_yet_to_come_is_none(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){0});
  assert_true(wave_return(&wave, now, now + 3650 * DAY, 1000000));
  builder_key(builder, "a", KEY_ACTIVE, now - BUILDER_LIFE);
  assert_int_equal(plan_in(builder, 1, now, &wave).action, PLAN_GENERATE);
}

/* ---- the budget ---- */

/* The ready key of the lineage takes over, or does not. */
static bool note_switch(struct builder *builder, struct wave *wave, int64_t at, bool fails) {
  struct error error = {0}, failure = {0};
  struct lineage before;
  bool changed = false;
  error_set(&failure, ERROR_REFUSED, "454 no");
  assert_int_equal(lineage_copy(&builder->lineage, &before, &error), 0);
  struct placement_report report = {.signer_id = 1, .switched_at = at, .completed_at = at};
  const struct outcome outcome = {.action = PLAN_ACTIVATE, .key = 1, .at = at, .error = fails ? &failure : NULL, .placements = &report, .placement_count = fails ? 0 : 1};
  builder_apply(builder, &outcome);
  wave_advance(wave, at);
  assert_int_equal(wave_note(wave, &before, &builder->lineage, &outcome, at, &builder->events, &changed, &error), 0);
  lineage_release(&before);
  return changed;
}

static bool switch_one(struct builder *builder, struct wave *wave, int64_t at, bool fails) {
  next_one(builder, at);
  return note_switch(builder, wave, at, fails);
}

static void test_wave__more_failures_than_the_budget_stop_it_and_say_so(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){.budget = true, .failures = 2});
  char text[WAVE_TEXT_MAX * 2];
  for (unsigned i = 0; i < 50; i++) assert_false(switch_one(builder, &wave, now, false));
  assert_false(switch_one(builder, &wave, now, true));
  assert_false(switch_one(builder, &wave, now, true));
  assert_false(wave_is_stopped(&wave));
  assert_true(switch_one(builder, &wave, now + 60, true));
  assert_true(wave_is_stopped(&wave));
  assert_non_null(strstr(builder_event_reason(builder, "alarm"), "wave stopped: 3 of 53 failed, more than the budget of 2; "));
  assert_non_null(strstr(builder_event_reason(builder, "alarm"), "the first: example.com: activate of b: 454 no; `dkimroll release --wave`"));
  assert_non_null(strstr(wave_describe(&wave, text), "the wave of rotations is stopped: 3 of 53 failed, the first: example.com: activate of b: 454 no"));
  /* It stops once. */
  assert_false(switch_one(builder, &wave, now + 60, true));
  const struct plan plan = plan_in(builder, 1, now + 60, &wave);
  assert_non_null(strstr(builder_reason(&plan, "wave_runs")->text, "because 3 of 53 failed; one is tried at 2027-01-15 09:01:00 UTC, or `dkimroll release --wave`"));
}

static void test_wave__a_share_needs_a_sample(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){.budget = true, .percent = true, .failures = 20});
  for (unsigned i = 0; i + 1 < WAVE_SAMPLE_MIN; i++) assert_false(switch_one(builder, &wave, now, true));
  assert_true(switch_one(builder, &wave, now, true));
  /* 20 of 100 are within the budget, 21 are not. */
  wave = wave_of((struct policy_limits){.budget = true, .percent = true, .failures = 20});
  for (unsigned i = 0; i < 80; i++) assert_false(switch_one(builder, &wave, now, false));
  for (unsigned i = 0; i < 20; i++) assert_false(switch_one(builder, &wave, now, true));
  assert_true(switch_one(builder, &wave, now, true));
}

static void test_wave__failures_of_an_hour_ago_do_not_count(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){.budget = true, .failures = 1});
  assert_false(switch_one(builder, &wave, now, true));
  assert_false(switch_one(builder, &wave, now + WAVE_PERIOD_SECONDS, true));
  assert_true(switch_one(builder, &wave, now + WAVE_PERIOD_SECONDS, true));
}

static void test_wave__a_lineage_that_fails_again_is_counted_once(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){.budget = true, .failures = 1});
  struct error error = {0}, failure = {0};
  bool changed = false;
  error_set(&failure, ERROR_REFUSED, "454 no");
  builder_key(builder, "a", KEY_ACTIVE, now - BUILDER_LIFE);
  builder_key(builder, "b", KEY_READY, now - DAY);
  const struct outcome outcome = {.action = PLAN_ACTIVATE, .key = 1, .at = now, .error = &failure};
  for (unsigned i = 0; i < 5; i++) {
    struct lineage before;
    assert_int_equal(lineage_copy(&builder->lineage, &before, &error), 0);
    builder_apply(builder, &outcome);
    assert_int_equal(wave_note(&wave, &before, &builder->lineage, &outcome, now, &builder->events, &changed, &error), 0);
    lineage_release(&before);
  }
  assert_int_equal(wave.failed, 1);
  assert_false(wave_is_stopped(&wave));
}

static void stop_wave(struct builder *builder, struct wave *wave) {
  *wave = wave_of((struct policy_limits){.budget = true, .failures = 0});
  assert_true(switch_one(builder, wave, now, true));
}

static void test_wave__one_probe_at_a_time_ever_more_slowly(void **state) {
  struct builder *builder = *state;
  struct wave wave;
  stop_wave(builder, &wave);
  next_one(builder, now);
  int64_t at = now;
  const int64_t pauses[] = {HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 16 * HOUR, DAY, DAY};
  for (size_t i = 0; i < sizeof pauses / sizeof pauses[0]; i++) {
    assert_int_equal(plan_in(builder, 1, at + pauses[i] - 1, &wave).action, PLAN_NONE);
    at += pauses[i];
    assert_int_equal(plan_in(builder, 1, at, &wave).action, PLAN_ACTIVATE);
    wave_take(&wave, come(builder), PLAN_ACTIVATE, at);
    assert_int_equal(plan_in(builder, 1, at, &wave).action, PLAN_NONE);
  }
}

static void test_wave__a_probe_that_succeeds_lets_all_go_on(void **state) {
  struct builder *builder = *state;
  struct wave wave;
  stop_wave(builder, &wave);
  /* What was under way before it stopped proves nothing. */
  assert_false(switch_one(builder, &wave, now + 60, false));
  wave_advance(&wave, now + HOUR);
  wave_take(&wave, come(builder), PLAN_ACTIVATE, now + HOUR);
  assert_false(switch_one(builder, &wave, now + HOUR, true));
  assert_true(switch_one(builder, &wave, now + 3 * HOUR, false));
  assert_false(wave_is_stopped(&wave));
  assert_string_equal(builder_event_reason(builder, "healed"), "the wave of rotations goes on: activate of example.com succeeded");
  assert_int_equal(wave.failed, 0);
  assert_string_equal(wave.first, "");
}

/* It needs no turn of a probe and takes none, and proves as much. */
static void test_wave__a_rotation_by_hand_that_succeeds_lets_all_go_on(void **state) {
  struct builder *builder = *state;
  struct wave wave;
  stop_wave(builder, &wave);
  next_one(builder, now + 60);
  builder->lineage.rotate_requested = true;
  wave_advance(&wave, now + 60);
  wave_take(&wave, come(builder), PLAN_ACTIVATE, now + 60);
  assert_true(wave.probes == 0 && wave.probe_at == now + HOUR);
  assert_true(note_switch(builder, &wave, now + 60, false));
  assert_false(wave_is_stopped(&wave));
}

/* Switching is what fails: that keys can be made was never in doubt. */
static void test_wave__only_the_step_that_failed_proves_something(void **state) {
  struct builder *builder = *state;
  struct wave wave;
  struct lineage before;
  struct error error = {0};
  bool changed = true;
  stop_wave(builder, &wave);
  wave_advance(&wave, now + HOUR);
  wave_take(&wave, come(builder), PLAN_GENERATE, now + HOUR);
  builder_end(builder);
  builder_begin(builder);
  builder_key(builder, "a", KEY_RESERVED, now);
  assert_int_equal(lineage_copy(&builder->lineage, &before, &error), 0);
  struct placement_report report = {.signer_id = 1, .completed_at = now};
  const struct outcome outcome = {.action = PLAN_GENERATE, .at = now, .record = "v=DKIM1; p=AAAA", .placements = &report, .placement_count = 1};
  builder_apply(builder, &outcome);
  assert_int_equal(wave_note(&wave, &before, &builder->lineage, &outcome, now + HOUR, &builder->events, &changed, &error), 0);
  lineage_release(&before);
  assert_false(changed);
  assert_true(wave_is_stopped(&wave));
}

static void test_wave__a_person_lets_it_go_on(void **state) {
  struct builder *builder = *state;
  struct wave wave;
  struct error error = {0};
  bool changed = false;
  stop_wave(builder, &wave);
  assert_int_equal(wave_release(&wave, "root: mended", now + 9, &builder->events, &changed, &error), 0);
  assert_true(changed);
  assert_false(wave_is_stopped(&wave));
  assert_string_equal(builder_event_reason(builder, "released"), "the wave of rotations goes on: released by root: mended");
  assert_int_equal(wave_release(&wave, "root", now + 9, &builder->events, &changed, &error), 0);
  assert_false(changed);
}

static void test_wave__without_a_budget_nothing_is_stopped(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){0});
  for (unsigned i = 0; i < 50; i++) assert_false(switch_one(builder, &wave, now, true));
  assert_false(wave_is_stopped(&wave));
  /* A budget that was taken out of the policy holds nobody any more. */
  stop_wave(builder, &wave);
  wave.limits.budget = false;
  assert_false(wave_is_stopped(&wave));
}

static void test_wave__only_steps_of_a_key_on_its_way_are_counted(void **state) {
  struct builder *builder = *state;
  static const struct {
    enum plan_action action;
    enum key_state at;
    bool counted;
  } rows[] = {{PLAN_GENERATE, KEY_RESERVED, true}, {PLAN_GENERATE, KEY_GENERATED, false}, {PLAN_PUBLISH, KEY_GENERATED, true},
              {PLAN_PUBLISH, KEY_PUBLISHED, false}, {PLAN_ACTIVATE, KEY_READY, true},     {PLAN_ACTIVATE, KEY_ACTIVE, false}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    struct wave wave = wave_of((struct policy_limits){.budget = true, .failures = 5});
    const struct outcome outcome = {.action = rows[i].action, .at = now};
    struct error error = {0};
    bool changed = false;
    builder_end(builder);
    builder_begin(builder);
    builder_key(builder, "a", rows[i].at, now - DAY);
    assert_int_equal(wave_note(&wave, &builder->lineage, &builder->lineage, &outcome, now, &builder->events, &changed, &error), 0);
    assert_int_equal(wave.failed, rows[i].counted);
    if (rows[i].counted) assert_non_null(strstr(wave.first, plan_action_name(rows[i].action)));
  }
}

/* Of a key that one of both does not have nothing is known. */
static void test_wave__a_key_that_is_gone_or_new_is_not_counted(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){.budget = true, .failures = 5});
  const struct lineage nothing = {.key_count = 0};
  const struct outcome outcome = {.action = PLAN_ACTIVATE, .at = now};
  struct error error = {0};
  bool changed = false;
  builder_key(builder, "a", KEY_READY, now - DAY);
  assert_int_equal(wave_note(&wave, &builder->lineage, &nothing, &outcome, now, &builder->events, &changed, &error), 0);
  assert_int_equal(wave_note(&wave, &nothing, &builder->lineage, &outcome, now, &builder->events, &changed, &error), 0);
  assert_int_equal(wave.ended, 0);
  assert_false(wave_counts(&builder->lineage, PLAN_ACTIVATE, 1));
  assert_true(wave_counts(&builder->lineage, PLAN_ACTIVATE, 0));
  builder->lineage.keys[0].state = KEY_ACTIVE;
  assert_false(wave_counts(&builder->lineage, PLAN_ACTIVATE, 0));
}

/* What failed before was something else. */
static void test_wave__a_failure_of_another_step_is_counted_too(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){.budget = true, .failures = 5});
  const struct outcome outcome = {.action = PLAN_ACTIVATE, .at = now};
  struct error error = {0};
  bool changed = false;
  builder_key(builder, "a", KEY_READY, now - DAY);
  builder->lineage.failures = 2;
  builder->lineage.failure = text_duplicate("publish of a: no");
  assert_int_equal(wave_note(&wave, &builder->lineage, &builder->lineage, &outcome, now, &builder->events, &changed, &error), 0);
  assert_int_equal(wave.failed, 1);
}

/* A wave that was stopped by an earlier version, which did not say by what. */
static void test_wave__without_a_step_that_failed_any_that_succeeds_lets_it_go_on(void **state) {
  struct builder *builder = *state;
  struct wave wave;
  stop_wave(builder, &wave);
  wave.first_action = PLAN_NONE;
  wave.probes = 1;
  assert_true(switch_one(builder, &wave, now + HOUR, false));
  assert_false(wave_is_stopped(&wave));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, builder_setup, builder_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_wave__who_comes_too_late_for_a_run_comes_in_his_order),
      TEST(test_wave__switches_have_places_of_their_own),
      TEST(test_wave__several_take_over_in_one_run),
      TEST(test_wave__what_is_urgent_or_asked_for_needs_no_place),
      TEST(test_wave__what_is_urgent_or_asked_for_takes_no_place),
      TEST(test_wave__a_place_is_kept_from_those_who_come_in_its_run),
      TEST(test_wave__places_of_runs_that_did_not_take_place_are_given_anew),
      TEST(test_wave__turns_that_came_in_an_absence_are_spread_and_no_others),
      TEST(test_wave__who_runs_once_a_week_waits_once),
      TEST(test_wave__first_keys_and_turns_to_come_do_not_wait_for_the_backlog),
      TEST(test_wave__a_return_that_is_yet_to_come_is_none),
      TEST(test_wave__a_full_run_is_no_matter_of_a_turn_to_come),
      TEST(test_wave__a_clock_that_goes_back_begins_a_new_run),
      TEST(test_wave__a_place_of_a_clock_that_was_ahead_is_none),
      TEST(test_wave__more_failures_than_the_budget_stop_it_and_say_so),
      TEST(test_wave__a_share_needs_a_sample),
      TEST(test_wave__failures_of_an_hour_ago_do_not_count),
      TEST(test_wave__a_lineage_that_fails_again_is_counted_once),
      TEST(test_wave__one_probe_at_a_time_ever_more_slowly),
      TEST(test_wave__a_probe_that_succeeds_lets_all_go_on),
      TEST(test_wave__a_rotation_by_hand_that_succeeds_lets_all_go_on),
      TEST(test_wave__only_the_step_that_failed_proves_something),
      TEST(test_wave__a_person_lets_it_go_on),
      TEST(test_wave__without_a_budget_nothing_is_stopped),
      TEST(test_wave__only_steps_of_a_key_on_its_way_are_counted),
      TEST(test_wave__a_key_that_is_gone_or_new_is_not_counted),
      TEST(test_wave__a_failure_of_another_step_is_counted_too),
      TEST(test_wave__without_a_step_that_failed_any_that_succeeds_lets_it_go_on),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
