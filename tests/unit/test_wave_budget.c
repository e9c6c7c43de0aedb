/* The budget of failures of a wave, and how a stopped wave goes on. */
#include "wave_rig.h"

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

static void test_wave_budget__more_failures_than_the_budget_stop_it_and_say_so(void **state) {
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

static void test_wave_budget__a_share_needs_a_sample(void **state) {
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

static void test_wave_budget__failures_of_an_hour_ago_do_not_count(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){.budget = true, .failures = 1});
  assert_false(switch_one(builder, &wave, now, true));
  assert_false(switch_one(builder, &wave, now + WAVE_PERIOD_SECONDS, true));
  assert_true(switch_one(builder, &wave, now + WAVE_PERIOD_SECONDS, true));
}

static void test_wave_budget__a_lineage_that_fails_again_is_counted_once(void **state) {
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

static void test_wave_budget__one_probe_at_a_time_ever_more_slowly(void **state) {
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

static void test_wave_budget__a_probe_that_succeeds_lets_all_go_on(void **state) {
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
static void test_wave_budget__a_rotation_by_hand_that_succeeds_lets_all_go_on(void **state) {
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
static void test_wave_budget__only_the_step_that_failed_proves_something(void **state) {
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

static void test_wave_budget__a_person_lets_it_go_on(void **state) {
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

static void test_wave_budget__without_a_budget_nothing_is_stopped(void **state) {
  struct builder *builder = *state;
  struct wave wave = wave_of((struct policy_limits){0});
  for (unsigned i = 0; i < 50; i++) assert_false(switch_one(builder, &wave, now, true));
  assert_false(wave_is_stopped(&wave));
  /* A budget that was taken out of the policy holds nobody any more. */
  stop_wave(builder, &wave);
  wave.limits.budget = false;
  assert_false(wave_is_stopped(&wave));
}

static void test_wave_budget__only_steps_of_a_key_on_its_way_are_counted(void **state) {
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
static void test_wave_budget__a_key_that_is_gone_or_new_is_not_counted(void **state) {
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
static void test_wave_budget__a_failure_of_another_step_is_counted_too(void **state) {
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
static void test_wave_budget__without_a_step_that_failed_any_that_succeeds_lets_it_go_on(void **state) {
  struct builder *builder = *state;
  struct wave wave;
  stop_wave(builder, &wave);
  wave.first_action = PLAN_NONE;
  wave.probes = 1;
  assert_true(switch_one(builder, &wave, now + HOUR, false));
  assert_false(wave_is_stopped(&wave));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_wave_budget__more_failures_than_the_budget_stop_it_and_say_so),
      TEST(test_wave_budget__a_share_needs_a_sample),
      TEST(test_wave_budget__failures_of_an_hour_ago_do_not_count),
      TEST(test_wave_budget__a_lineage_that_fails_again_is_counted_once),
      TEST(test_wave_budget__one_probe_at_a_time_ever_more_slowly),
      TEST(test_wave_budget__a_probe_that_succeeds_lets_all_go_on),
      TEST(test_wave_budget__a_rotation_by_hand_that_succeeds_lets_all_go_on),
      TEST(test_wave_budget__only_the_step_that_failed_proves_something),
      TEST(test_wave_budget__a_person_lets_it_go_on),
      TEST(test_wave_budget__without_a_budget_nothing_is_stopped),
      TEST(test_wave_budget__only_steps_of_a_key_on_its_way_are_counted),
      TEST(test_wave_budget__a_key_that_is_gone_or_new_is_not_counted),
      TEST(test_wave_budget__a_failure_of_another_step_is_counted_too),
      TEST(test_wave_budget__without_a_step_that_failed_any_that_succeeds_lets_it_go_on),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
