/* Memory runs out in the lifecycle, function by function. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dkimroll/text.h"
#include "dkimroll/wave.h"
#include "lifecycle_memory_rig.h"

/* A lineage that owns whatever one can. */
static struct lineage *rich(struct life *life) {
  struct builder *builder = &life->builder;
  struct lineage *lineage = &builder->lineage;
  builder_key(builder, "old", KEY_RETIRED, BUILDER_NOW - DAY);
  builder_key(builder, "now", KEY_ACTIVE, BUILDER_NOW - DAY);
  builder_key(builder, "soon", KEY_RESERVED, BUILDER_NOW - DAY);
  lineage->zone = text_duplicate("example.com");
  lineage->hold_reason = text_duplicate("a holiday");
  lineage->failure = text_duplicate("destroy of old: no");
  lineage->keys[0].placements[1].failure = text_duplicate("no");
  return lineage;
}

static void test_lifecycle_memory__a_copy_is_whole_or_none(void **state) {
  struct lineage *lineage = rich(*state);
  /* The texts of the lineage and its sender, two arrays, and of each key a record (two have one), sightings, two paths; and a failure. */
  assert_int_equal(try_trial(&(struct trial){.lineage = lineage}, act_copy, trial_again), 4 + 2 + 2 + 3 + 6 + 1);
}

static int act_event(void *context, struct error *error) {
  struct trial *trial = context;
  const struct key *key = trial->copy.key_count > 0 ? &trial->copy.keys[0] : NULL;
  for (size_t i = 0; i < 9; i++) {
    const int result = event_list_add(&trial->events, &trial->copy, i % 2 ? NULL : key, trial->now, "alarm", "why", error);
    assert_int_equal(trial->events.count, result ? i : i + 1);
    if (result) return result;
  }
  return 0;
}

static void test_lifecycle_memory__an_event_is_whole_or_none(void **state) {
  struct lineage *lineage = rich(*state);
  /* Room at the first and at the ninth; four texts each, and the selectors of five. */
  assert_int_equal(try_trial(&(struct trial){.lineage = lineage, .now = BUILDER_NOW}, act_event, trial_again), 2 + 9 * 4 + 5);
}

static void test_lifecycle_memory__a_key_that_cannot_be_reserved_leaves_no_trace(void **state) {
  struct lineage *lineage = rich(*state);
  assert_true(try_trial(&(struct trial){.lineage = lineage, .now = BUILDER_NOW, .number = 1}, act_reserve, trial_again) > 8);
}

static int act_adopt(void *context, struct error *error) {
  struct trial *trial = context;
  struct snapshot snapshot;
  snapshot_take(&trial->copy, &snapshot);
  const int result = lifecycle_adopt(&trial->copy, trial->adoption, trial->now, &trial->events, error);
  if (result) {
    snapshot_compare(&snapshot, &trial->copy);
    assert_int_equal(trial->events.count, 0);
    return result;
  }
  free(snapshot.keys);
  assert_int_equal(trial->copy.key_count, trial->lineage->key_count + 1);
  assert_string_equal(trial->events.items[0].to, key_state_name(trial->adoption->state));
  return 0;
}

static void test_lifecycle_memory__a_key_that_cannot_be_adopted_leaves_no_trace(void **state) {
  struct life *life = *state;
  struct adoption_place places[2];
  struct sighting_report sighting = {.host = "ns1", .address = "192.0.2.1", .right = true, .at = BUILDER_NOW, .ttl = 60, .ttl_negative = -1};
  struct adoption adoption = {.selector = "mail",
                              .algorithm = KEY_ALGORITHM_RSA,
                              .bits = 2048,
                              .record = "v=DKIM1; k=rsa; p=AAAA",
                              .since = BUILDER_NOW - DAY,
                              .places = places,
                              .place_count = 2,
                              .sightings = &sighting,
                              .sighting_count = 1,
                              .reason = "found"};
  for (size_t i = 0; i < 2; i++)
    places[i] = (struct adoption_place){
        .signer_id = (int64_t)i + 1, .signer = &life->builder.signers[i], .key_path = i ? "/k/two" : "/k/one", .named = true, .signs = true};
  for (enum key_state to = KEY_ACTIVE; to <= KEY_REMOVED; to++) {
    adoption.state = to;
    assert_true(try_trial(&(struct trial){.lineage = &life->builder.lineage, .adoption = &adoption, .now = BUILDER_NOW}, act_adopt, trial_again) > 6);
  }
}

static void test_lifecycle_memory__a_signer_that_is_gone_is_given_up_wholly_or_not(void **state) {
  static const size_t left[] = {2};
  static const struct placement_report reports[] = {{.signer_id = 1, .failure = "no such folder"}, {.signer_id = 2, .failure = "no such folder"}};
  struct life *life = *state;
  struct error failure = {.code = ERROR_PERMISSION, .message = "it did not work"};
  const struct outcome outcome = {
      .action = PLAN_WITHDRAW, .at = BUILDER_NOW, .error = &failure, .placements = reports, .placement_count = 2};
  struct lineage *lineage = rich(life);
  builder_use_signers(&life->builder, left, 1);
  assert_true(try_trial(&(struct trial){.lineage = lineage, .outcome = &outcome, .now = BUILDER_NOW}, act_apply, undo_apply) > 12);
  builder_apply(&life->builder, &outcome);
  assert_int_equal(lineage->keys[0].placement_count, 1);
}

static void test_lifecycle_memory__a_place_more_is_whole_or_none(void **state) {
  static const size_t three[] = {1, 2, 3};
  struct life *life = *state;
  struct lineage *lineage = rich(life);
  builder_define_signer(&life->builder, 3, "third", "");
  builder_use_signers(&life->builder, three, 3);
  for (size_t i = 0; i < 2; i++) {
    const struct placement_report report = {
        .signer_id = 3, .key_path = i ? "/third/now.private" : NULL, .switched_at = BUILDER_NOW, .completed_at = BUILDER_NOW};
    const struct outcome outcome = {.action = PLAN_ACTIVATE, .key = 1, .at = BUILDER_NOW, .placements = &report, .placement_count = 1};
    assert_true(try_trial(&(struct trial){.lineage = lineage, .outcome = &outcome, .now = BUILDER_NOW}, act_apply, undo_apply) > 5);
  }
}

static int forget_step(void *context, const struct forecast_step *step) {
  (void)step;
  ++*(unsigned *)context;
  return 0;
}
static int act_forecast(void *context, struct error *error) {
  struct trial *trial = context;
  unsigned steps = 0;
  const int result = forecast_lineages(&(struct forecast){.now = trial->now, .until = trial->now + 130 * DAY, .callback = forget_step, .context = &steps}, &trial->copy, 1, error);
  if (!result) assert_true(steps > 5);
  return result;
}

static void test_lifecycle_memory__a_forecast_ends_at_once(void **state) {
  struct life *life = *state;
  const struct lineage *lineage = &life->builder.lineage;
  assert_true(try_trial(&(struct trial){.lineage = lineage, .now = BUILDER_NOW}, act_forecast, trial_again) > 100);
}

static int act_crowded_forecast(void *context, struct error *error) {
  struct trial *trial = context;
  struct wave wave;
  unsigned steps = 0;
  wave_begin(&wave);
  wave.limits.max_per_run = 1;
  const struct forecast forecast = {.now = trial->now, .until = trial->now + 130 * DAY, .wave = &wave, .callback = forget_step, .context = &steps};
  const int result = forecast_lineages(&forecast, &trial->copy, 1, error);
  return result;
}

static void test_lifecycle_memory__a_forecast_that_counts_places_ends_at_once(void **state) {
  struct life *life = *state;
  assert_true(try_trial(&(struct trial){.lineage = &life->builder.lineage, .now = BUILDER_NOW}, act_crowded_forecast, trial_again) > 100);
}

static int act_compromise(void *context, struct error *error) {
  struct trial *trial = context;
  const struct compromise wish = {.whole_host = true, .now = true, .by = "anna", .reason = "leak"};
  const int result = lifecycle_compromise(&trial->copy, &wish, trial->now, &trial->events, error);
  if (!result) assert_true(trial->events.count >= 2);
  return result;
}

static void test_lifecycle_memory__a_compromise_is_taken_with_all_its_events_or_refused(void **state) {
  struct lineage *lineage = rich(*state);
  assert_true(try_trial(&(struct trial){.lineage = lineage, .now = BUILDER_NOW}, act_compromise, trial_again) > 8);
}

static int act_end_hold(void *context, struct error *error) {
  struct trial *trial = context;
  const int result = lifecycle_end_hold(&trial->copy, trial->now, &trial->events, error);
  assert_int_equal(trial->copy.held, result != 0);
  assert_int_equal(trial->events.count, result ? 0 : 1);
  return result;
}

static void test_lifecycle_memory__a_hold_ends_with_its_event_or_goes_on(void **state) {
  struct lineage *lineage = rich(*state);
  lineage->held = true;
  lineage->hold_until = BUILDER_NOW;
  assert_true(try_trial(&(struct trial){.lineage = lineage, .now = BUILDER_NOW}, act_end_hold, trial_again) > 3);
}

/* The first failure stops the wave, and a person lets it go on. */
static int act_wave(void *context, struct error *error) {
  struct trial *trial = context;
  const struct outcome outcome = {.action = PLAN_GENERATE, .key = 2, .at = trial->now};
  struct wave wave;
  bool changed = false;
  wave_begin(&wave);
  wave.limits = (struct policy_limits){.budget = true};
  wave_advance(&wave, trial->now);
  int result = wave_note(&wave, &trial->copy, &trial->copy, &outcome, trial->now, &trial->events, &changed, error);
  assert_int_equal(wave_is_stopped(&wave), result == 0);
  if (result) return result;
  result = wave_release(&wave, "anna", trial->now, &trial->events, &changed, error);
  assert_int_equal(wave_is_stopped(&wave), result != 0);
  return result;
}

static void test_lifecycle_memory__a_wave_is_stopped_and_released_with_its_event_or_not(void **state) {
  struct lineage *lineage = rich(*state);
  assert_true(try_trial(&(struct trial){.lineage = lineage, .now = BUILDER_NOW}, act_wave, trial_again) > 6);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_lifecycle_memory__##name, lifecycle_memory_setup_alone, lifecycle_memory_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_copy_is_whole_or_none),
      TEST(an_event_is_whole_or_none),
      TEST(a_key_that_cannot_be_reserved_leaves_no_trace),
      TEST(a_key_that_cannot_be_adopted_leaves_no_trace),
      TEST(a_signer_that_is_gone_is_given_up_wholly_or_not),
      TEST(a_place_more_is_whole_or_none),
      TEST(a_forecast_ends_at_once),
      TEST(a_forecast_that_counts_places_ends_at_once),
      TEST(a_compromise_is_taken_with_all_its_events_or_refused),
      TEST(a_hold_ends_with_its_event_or_goes_on),
      TEST(a_wave_is_stopped_and_released_with_its_event_or_not),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
