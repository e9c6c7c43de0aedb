/* Waves: places in runs, and the return from an absence. */
#include "wave_rig.h"

/* ---- places ---- */

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
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
