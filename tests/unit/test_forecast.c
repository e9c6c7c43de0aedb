/* What `plan --until` shows is what happens: the forecast against the same life without faults, step by step and second by second. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/forecast.h"
#include "dkimroll/text.h"
#include "life_world.h"

enum { STEPS_MAX = 2000, HORIZON = 400 * DAY };

struct step {
  int64_t at;
  enum plan_action action;
  char selector[SELECTOR_SIZE];
  enum key_state from;
};
struct steps {
  struct step items[STEPS_MAX];
  size_t count;
};
static struct steps expected, happened;
static struct life world;

static int begin(void **state) {
  life_begin(&world, 1);
  world.instant = true;
  world.servers[1].lag = 0;
  world.ttl_old = 0;
  *state = &world;
  return 0;
}
static int end(void **state) {
  life_end(*state);
  return 0;
}

static void add_step(struct steps *steps, int64_t at, enum plan_action action, const char *selector, enum key_state from) {
  assert_true(steps->count < STEPS_MAX);
  struct step *step = &steps->items[steps->count++];
  *step = (struct step){.at = at, .action = action, .from = from};
  text_copy(step->selector, sizeof step->selector, selector);
}

static int expect_step(void *context, const struct forecast_step *step) {
  assert_string_equal(step->domain, "example.com");
  assert_string_equal(step->slot, "main");
  assert_int_equal(step->to, plan_action_target(step->action, step->from));
  add_step(context, step->at, step->action, step->selector, step->from);
  return 0;
}

/* Looks and proofs are not part of a forecast. */
static void see_step(struct life *life, enum plan_action action, const struct key *key) {
  if (action == PLAN_PROVE || action == PLAN_CONFIRM || action == PLAN_CONFIRM_ABSENT || action == PLAN_ATTEST || action == PLAN_CHECK_FILES) return;
  add_step(&happened, life->clock.now, action, key->selector, key->state);
}

static void forecast(struct life *life, int64_t until) {
  struct lineage copy;
  struct error error = {0};
  expected.count = 0;
  assert_int_equal(lineage_copy(&life->builder.lineage, &copy, &error), 0);
  if (forecast_lineages(&(struct forecast){.now = life->clock.now, .until = until, .callback = expect_step, .context = &expected}, &copy, 1, &error)) fail_msg("%s", error.message);
  lineage_release(&copy);
}

static void expect_as_forecast(struct life *life) {
  forecast(life, life->moment + HORIZON);
  happened.count = 0;
  life->watcher = see_step;
  life_run(life, HORIZON);
  life->watcher = NULL;
  for (size_t i = 0; i < expected.count && i < happened.count; i++) {
    const struct step *said = &expected.items[i], *seen = &happened.items[i];
    if (said->at != seen->at || said->action != seen->action || said->from != seen->from || strcmp(said->selector, seen->selector) != 0)
      oracle_fail(life, "step %zu: forecast %s %s at %lld, but %s %s at %lld", i, plan_action_name(said->action), said->selector,
                  (long long)(said->at - life->begin), plan_action_name(seen->action), seen->selector, (long long)(seen->at - life->begin));
  }
  assert_int_equal(expected.count, happened.count);
}

static void begin_at(struct life *life, enum key_state at) {
  life_end(life);
  begin(&(void *){NULL});
  life_run_until(life, KEY_ACTIVE, DAY);
  if (at == KEY_RESERVED) life->fault = (struct life_fault){.action = PLAN_GENERATE, .times = 1, .code = ERROR_TIMEOUT, .retryable = true};
  life_run_until(life, at, 130 * DAY);
}

static void test_forecast__is_what_happens_from_every_state_on(void **state) {
  struct life *life = *state;
  for (enum key_state at = KEY_RESERVED; at <= KEY_REVOKED; at++) {
    begin_at(life, at);
    expect_as_forecast(life);
    assert_true(expected.count > 25);
  }
}

static void test_forecast__counts_standby_keys_and_missing_tombstones(void **state) {
  struct life *life = *state;
  for (unsigned standby = 0; standby <= 2; standby++) {
    begin_at(life, KEY_ACTIVE);
    life->builder.rules.standby = standby;
    life->builder.rules.tombstone = 0;
    expect_as_forecast(life);
  }
}

static void test_forecast__knows_a_hold_and_its_end(void **state) {
  struct life *life = *state;
  for (enum key_state at = KEY_RESERVED; at <= KEY_REVOKED; at++) {
    begin_at(life, at);
    life->builder.lineage.held = true;
    life->builder.lineage.hold_until = life->moment + 100 * DAY;
    expect_as_forecast(life);
    begin_at(life, at);
    life->builder.lineage.held = true;
    life->builder.lineage.hold_until = TIME_NEVER;
    expect_as_forecast(life);
    for (size_t i = 0; i < expected.count; i++) assert_int_not_equal(expected.items[i].action, PLAN_ACTIVATE);
  }
}

/* A signer that was down is expected to be back at the next proof, and tables that are wrong to be mended. */
static void test_forecast__proofs_that_failed_are_over_with_the_next(void **state) {
  struct life *life = *state;
  begin_at(life, KEY_ACTIVE);
  struct life_tables *tables = life_tables(life, life->builder.lineage.signers[0]);
  tables->dead_until = life->moment + 2 * DAY;
  life_run(life, 2 * DAY);
  assert_true(lineage_active_key(&life->builder.lineage)->proof_failures > 0);
  expect_as_forecast(life);
  lineage_active_key(&life->builder.lineage)->placements[0].damage = DAMAGE_TABLES;
  forecast(life, life->moment + HORIZON);
  assert_true(expected.count > 25);
  assert_int_equal(expected.items[0].action, PLAN_REPAIR);
}

static void test_forecast__knows_a_request(void **state) {
  struct life *life = *state;
  for (enum key_state at = KEY_RESERVED; at <= KEY_REVOKED; at++) {
    begin_at(life, at);
    life->builder.lineage.rotate_requested = true;
    expect_as_forecast(life);
  }
}

static void test_forecast__waits_for_the_end_of_a_back_off(void **state) {
  struct life *life = *state;
  static const struct {
    enum key_state at;
    enum plan_action action;
  } rows[] = {{KEY_RESERVED, PLAN_GENERATE}, {KEY_GENERATED, PLAN_PUBLISH}, {KEY_READY, PLAN_ACTIVATE},
              {KEY_RETIRED, PLAN_WITHDRAW},  {KEY_RETIRED, PLAN_REVOKE},    {KEY_REVOKED, PLAN_DELETE}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    begin_at(life, rows[i].at);
    life->fault = (struct life_fault){.action = rows[i].action, .times = 9, .code = ERROR_REFUSED};
    while (life->fault.times > 0) life_step(life, life->moment + 100 * DAY);
    assert_true(life->builder.lineage.failures >= 9);
    expect_as_forecast(life);
    assert_true(expected.items[0].at > life->moment - HORIZON);
  }
}

static void test_forecast__without_management_nothing_happens(void **state) {
  struct life *life = *state;
  begin_at(life, KEY_RETIRED);
  life->builder.lineage.managed = false;
  expect_as_forecast(life);
  assert_int_equal(expected.count, 0);
}

static void test_forecast__without_its_slot_old_keys_still_go(void **state) {
  struct life *life = *state;
  begin_at(life, KEY_RETIRED);
  life->builder.slots[0].slot = (char *)"other";
  expect_as_forecast(life);
  assert_int_equal(expected.count, 4); /* withdraw, revoke, delete, destroy */
}

static void test_forecast__heals_what_is_missing(void **state) {
  struct life *life = *state;
  begin_at(life, KEY_ACTIVE);
  life_run(life, DAY);
  life_forget(life, lineage_active_key(&life->builder.lineage)->selector);
  while (lineage_active_key(&life->builder.lineage)->right_at != TIME_UNSET) life_step(life, life->moment + DAY);
  expect_as_forecast(life);
  assert_int_equal(expected.items[0].action, PLAN_PUBLISH);
}

static void test_forecast__a_template_without_a_date_counts_on(void **state) {
  struct life *life = *state;
  life->builder.slots[0].selector = (char *)"fixed";
  life_run(life, 500 * DAY); /* the first ones are removed, and their names are used for ever */
  expect_as_forecast(life);
  assert_string_equal(expected.items[expected.count - 1].selector, "fixed-11");
}

static void test_forecast__numbers_count_only_behind_their_own_stamp(void **state) {
  struct life *life = *state;
  static const char *const others[] = {"fixed-20270101", "fixedly-7", "fixed-7a", "fix-9", "fixed-", "fixed-3", "fixed-7-1", "fixed-1000", "fixed-99999"};
  life->builder.slots[0].selector = (char *)"fixed";
  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) builder_key(&life->builder, "x", KEY_REVOKED, life->moment);
  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) text_copy(life->builder.lineage.keys[i].selector, SELECTOR_SIZE, others[i]);
  forecast(life, life->moment + HOUR);
  assert_int_equal(expected.items[0].action, PLAN_GENERATE);
  assert_string_equal(expected.items[0].selector, "fixed-4");
}

static int stop_at_first(void *context, const struct forecast_step *step) {
  (void)step;
  ++*(unsigned *)context;
  return 42;
}

static void test_forecast__the_callback_may_end_it(void **state) {
  struct life *life = *state;
  struct error error = {0};
  unsigned calls = 0;
  assert_int_equal(forecast_lineages(&(struct forecast){.now = life->moment, .until = life->moment + HORIZON, .callback = stop_at_first, .context = &calls}, &life->builder.lineage, 1, &error), 42);
  assert_int_equal(calls, 1);
  /* Whatever the others would do. */
  struct lineage both[2];
  for (size_t i = 0; i < 2; i++) assert_int_equal(lineage_copy(&life->builder.lineage, &both[i], &error), 0);
  assert_int_equal(forecast_lineages(&(struct forecast){.now = life->moment, .until = life->moment + HORIZON, .callback = stop_at_first, .context = &calls}, both, 2, &error), 42);
  assert_int_equal(calls, 2);
  for (size_t i = 0; i < 2; i++) lineage_release(&both[i]);
}

static void test_forecast__nothing_happens_in_the_past(void **state) {
  struct life *life = *state;
  struct error error = {0};
  unsigned calls = 0;
  assert_int_equal(forecast_lineages(&(struct forecast){.now = life->moment, .until = life->moment - 1, .callback = stop_at_first, .context = &calls}, &life->builder.lineage, 1, &error), 0);
  assert_int_equal(calls, 0);
}

static int ignore_step(void *context, const struct forecast_step *step) {
  (void)context;
  (void)step;
  return 0;
}

static void test_forecast__is_bounded(void **state) {
  struct life *life = *state;
  struct error error = {0};
  life->builder.rules.rotate_every = 3 * HOUR;
  life->builder.rules.queue_lifetime = life->builder.rules.verify_window = life->builder.rules.tombstone = 0;
  assert_int_equal(forecast_lineages(&(struct forecast){.now = life->moment, .until = TIME_NEVER - 1, .callback = ignore_step, .context = NULL}, &life->builder.lineage, 1, &error), ERROR_LIMIT);
  assert_non_null(strstr(error.remedy, "--until"));
}

static void test_forecast__a_selector_that_cannot_be_made_ends_it(void **state) {
  struct life *life = *state;
  struct error error = {0};
  life->builder.slots[0].selector = (char *)"%Q";
  assert_int_equal(forecast_lineages(&(struct forecast){.now = life->moment, .until = life->moment + DAY, .callback = ignore_step, .context = NULL}, &life->builder.lineage, 1, &error), ERROR_INVALID);
}

static void test_forecast__a_selector_of_a_successor_that_cannot_be_made_ends_it(void **state) {
  struct life *life = *state;
  struct error error = {0};
  builder_key(&life->builder, "a", KEY_ACTIVE, life->moment - BUILDER_LIFE);
  life->builder.slots[0].selector = (char *)"%Q";
  assert_int_equal(forecast_lineages(&(struct forecast){.now = life->moment, .until = life->moment + DAY, .callback = ignore_step, .context = NULL}, &life->builder.lineage, 1, &error), ERROR_INVALID);
  assert_int_equal(life->builder.lineage.key_count, 1);
}

enum { DOMAINS = 300, PLACES = 2, RUNS = 2000 };

struct crowd {
  int64_t begin;
  unsigned begun[RUNS], switched[RUNS], steps[DOMAINS];
};

static int count_places(void *context, const struct forecast_step *step) {
  struct crowd *crowd = context;
  const size_t run = (size_t)((step->at - crowd->begin) / WAVE_RUN_SECONDS);
  assert_true(run < RUNS);
  crowd->begun[run] += step->action == PLAN_GENERATE;
  crowd->switched[run] += step->action == PLAN_ACTIVATE;
  crowd->steps[step->index]++;
  return 0;
}

/* Several hundred domains that would all begin now: no run has more than its places, and each domain has one. */
static void test_forecast__many_share_the_places_of_runs(void **state) {
  struct life *life = *state;
  struct wave wave;
  struct error error = {0};
  unsigned begun = 0;
  struct lineage *lineages = calloc(DOMAINS, sizeof *lineages);
  struct crowd *crowd = calloc(1, sizeof *crowd);
  wave_begin(&wave);
  wave.limits.max_per_run = PLACES;
  crowd->begin = BUILDER_NOW - BUILDER_NOW % WAVE_RUN_SECONDS;
  for (size_t i = 0; i < DOMAINS; i++) {
    assert_int_equal(lineage_copy(&life->builder.lineage, &lineages[i], &error), 0);
    lineages[i].id = (int64_t)i + 1;
  }
  const struct forecast forecast = {.now = BUILDER_NOW, .until = BUILDER_NOW + 10 * DAY, .wave = &wave, .callback = count_places, .context = crowd};
  assert_int_equal(forecast_lineages(&forecast, lineages, DOMAINS, &error), 0);
  for (size_t i = 0; i < DOMAINS; i++) {
    assert_true(crowd->steps[i] > 3 && lineage_active_key(&lineages[i]));
    lineage_release(&lineages[i]);
  }
  for (size_t i = 0; i < RUNS; i++) {
    assert_true(crowd->begun[i] <= PLACES && crowd->switched[i] <= PLACES);
    begun += crowd->begun[i];
  }
  assert_int_equal(begun, DOMAINS);
  free(crowd);
  free(lineages);
}

static int note_first(void *context, const struct forecast_step *step) {
  size_t *first = context;
  if (step->action == PLAN_GENERATE && *first == SIZE_MAX) *first = step->index;
  return 0;
}

/* Of those that the store has not numbered yet the first in the list is the first. */
static void test_forecast__of_equal_ids_the_first_in_the_list_goes_first(void **state) {
  struct life *life = *state;
  struct wave wave;
  struct error error = {0};
  enum { COUNT = 5 };
  struct lineage lineages[COUNT];
  size_t first = SIZE_MAX;
  wave_begin(&wave);
  wave.limits.max_per_run = 1;
  for (size_t i = 0; i < COUNT; i++) assert_int_equal(lineage_copy(&life->builder.lineage, &lineages[i], &error), 0);
  const struct forecast forecast = {.now = BUILDER_NOW, .until = BUILDER_NOW + WAVE_RUN_SECONDS - 1, .wave = &wave, .callback = note_first, .context = &first};
  assert_int_equal(forecast_lineages(&forecast, lineages, COUNT, &error), 0);
  assert_int_equal(first, 0);
  for (size_t i = 0; i < COUNT; i++) lineage_release(&lineages[i]);
}

static void test_forecast__of_nothing_is_nothing(void **state) {
  struct life *life = *state;
  struct error error = {0};
  unsigned calls = 0;
  assert_int_equal(forecast_lineages(&(struct forecast){.now = life->moment, .until = life->moment + HORIZON, .callback = stop_at_first, .context = &calls}, NULL, 0, &error), 0);
  assert_int_equal(calls, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_forecast__##name, begin, end)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(is_what_happens_from_every_state_on),
      TEST(counts_standby_keys_and_missing_tombstones),
      TEST(knows_a_hold_and_its_end),
      TEST(proofs_that_failed_are_over_with_the_next),
      TEST(knows_a_request),
      TEST(waits_for_the_end_of_a_back_off),
      TEST(without_management_nothing_happens),
      TEST(without_its_slot_old_keys_still_go),
      TEST(heals_what_is_missing),
      TEST(a_template_without_a_date_counts_on),
      TEST(numbers_count_only_behind_their_own_stamp),
      TEST(the_callback_may_end_it),
      TEST(nothing_happens_in_the_past),
      TEST(is_bounded),
      TEST(a_selector_that_cannot_be_made_ends_it),
      TEST(a_selector_of_a_successor_that_cannot_be_made_ends_it),
      TEST(many_share_the_places_of_runs),
      TEST(of_equal_ids_the_first_in_the_list_goes_first),
      TEST(of_nothing_is_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
