/* Many domains at once: places in runs, the budget of failures, jitter, and holds that end; on the virtual loop, with real keys and a real store. */
#include "engine_world.h"

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/forecast.h"
#include "dkimroll/text.h"

static void make_many(struct world *world, unsigned count) {
  struct buffer domains = BUFFER_WITH_MAXIMUM(1 << 20);
  for (unsigned i = 0; i < count; i++) buffer_format(&domains, "%sd%u.example: {}", i ? ", " : "", i);
  CLEANUP_FREE char *text = buffer_take_text(&domains);
  world->unwatched = true;
  world->answer_ms = 5;
  world_make(world, text);
}

/* How many events of a kind (and a new state) there were in each stretch of time. */
enum { STRETCHES_MAX = 400 };
struct histogram {
  const char *kind, *to;
  int64_t begin, stretch;
  unsigned counts[STRETCHES_MAX];
  unsigned total;
};

static int count_event(void *context, const void *row) {
  struct histogram *histogram = context;
  const struct event *event = row;
  if (!text_equal(event->kind, histogram->kind) || (histogram->to && !text_equal(event->to, histogram->to)) || event->at < histogram->begin) return 0;
  const int64_t at = (event->at - histogram->begin) / histogram->stretch;
  assert_in_range(at, 0, STRETCHES_MAX - 1);
  histogram->counts[at]++;
  histogram->total++;
  return 0;
}

static void count_events(struct world *world, struct histogram *histogram) {
  static const struct store_filter all;
  struct error error = {0};
  if (world->store->ops->select(world->store, STORE_SELECT_EVENTS, &all, count_event, histogram, &error)) fail_msg("%s", error.message);
}

/* Sanitizers make the store slow, and look for other mistakes than a wrong distribution. */
#ifdef __SANITIZE_ADDRESS__
enum { MANY = 300, PART = MANY / 12, DEVIATIONS = 24, LATE = 100 };
#else
enum { MANY = 1000, PART = MANY / 12, DEVIATIONS = 45, LATE = 300 }; /* five standard deviations of a part */
#endif

/* A thousand domains come at once, and a few days later their keys are replaced, evenly spread over the two days of jitter. */
static void test_engine_wave__a_thousand_domains_added_at_once_do_not_rotate_in_one_night(void **state) {
  struct world *world = *state;
  world->rules = "rotate-every: 4d, jitter: 2d, prove-every: never";
  make_many(world, MANY);
  world_live(world, 5);
  struct histogram first = {.kind = "state", .to = "active", .begin = WORLD_NOW, .stretch = WORLD_DAY};
  count_events(world, &first);
  assert_int_equal(first.counts[0], MANY);
  /* From the second day after the switch to the fourth, in twelve parts. */
  struct histogram spread = {.kind = "state", .to = "active", .begin = WORLD_NOW + 2 * WORLD_DAY + 7200, .stretch = 4 * 3600};
  count_events(world, &spread);
  for (unsigned i = 0; i < 11; i++) assert_in_range(spread.counts[i], PART - DEVIATIONS, PART + DEVIATIONS);
  unsigned second = 0;
  for (unsigned i = 0; i < 13; i++) second += spread.counts[i];
  assert_in_range(second, MANY * 95 / 100, MANY * 105 / 100);
}

static void minute_over(void *context) { loop_stop(context); }

static void pass_minute(struct world *world) {
  struct error error = {0};
  assert_int_equal(loop_at(world->loop, loop_boottime(world->loop) + 60000, minute_over, world->loop, NULL), 0);
  assert_int_equal(loop_run(world->loop, &error), 0);
}

static void test_engine_wave__no_run_begins_more_than_its_places(void **state) {
  struct world *world = *state;
  world->limits = "max-per-run: 30\n";
  make_many(world, 300);
  world_run_well(world, 0);
  struct histogram first = {.kind = "reserved", .begin = WORLD_NOW, .stretch = 600};
  count_events(world, &first);
  assert_int_equal(first.total, 30);
  /* A timer that comes every minute, and each run is a process of its own: the places are counted in the store. */
  for (unsigned i = 0; i < 110; i++) {
    world_run_well(world, 0);
    pass_minute(world);
  }
  struct histogram all = {.kind = "reserved", .begin = WORLD_NOW, .stretch = 600};
  count_events(world, &all);
  assert_int_equal(all.total, 300);
  for (unsigned i = 0; i < 10; i++) assert_int_equal(all.counts[i], 30);
  world_live(world, 1);
  struct histogram switched = {.kind = "state", .to = "active", .begin = WORLD_NOW, .stretch = 600};
  count_events(world, &switched);
  assert_int_equal(switched.total, 300);
  for (unsigned i = 0; i < STRETCHES_MAX; i++) assert_true(switched.counts[i] <= 30);
}

/* A lineage that waits is not planned again and again: the work of a wave does not grow with the square of its size. */
static void test_engine_wave__those_that_wait_are_left_alone(void **state) {
  struct world *world = *state;
  world->limits = "max-per-run: 20\n";
  make_many(world, 200);
  world_run_well(world, 0);
  int64_t last = 0;
  for (unsigned i = 0; i < 200; i++) {
    char domain[32];
    snprintf(domain, sizeof domain, "d%u.example", i);
    last = time_max(last, world_next(world, domain));
  }
  assert_int_equal(last, WORLD_NOW + 9 * 600);
}

/* ---- in which order ---- */

struct order {
  const char *kind, *to;
  int64_t begin;
  char domains[400][32];
  int64_t at[400];
  size_t count;
};

static int note_order(void *context, const void *row) {
  struct order *order = context;
  const struct event *event = row;
  if (!text_equal(event->kind, order->kind) || (order->to && !text_equal(event->to, order->to)) || event->at < order->begin) return 0;
  assert_true(order->count < sizeof order->at / sizeof order->at[0]);
  text_copy(order->domains[order->count], sizeof order->domains[0], event->domain);
  order->at[order->count++] = event->at;
  return 0;
}

static void read_order(struct world *world, struct order *order) {
  static const struct store_filter all;
  struct error error = {0};
  if (world->store->ops->select(world->store, STORE_SELECT_EVENTS, &all, note_order, order, &error)) fail_msg("%s", error.message);
}

/* A queue of four hours, in which each that waits is planned again for looks at its servers and proofs. */
static void test_engine_wave__who_waits_for_long_keeps_his_place_in_the_queue(void **state) {
  struct world *world = *state;
  world->rules = "rotate-every: 2d, prove-every: 1h";
  make_many(world, 24);
  world_live(world, 1);
  world->limits = "max-per-run: 1\n";
  struct buffer domains = BUFFER_WITH_MAXIMUM(1 << 20);
  for (unsigned i = 0; i < 24; i++) buffer_format(&domains, "%sd%u.example: {}", i ? ", " : "", i);
  CLEANUP_FREE char *text = buffer_take_text(&domains);
  world_sync(world, text);
  struct order begun = {.kind = "reserved", .begin = WORLD_NOW + WORLD_DAY};
  world_live(world, 2);
  read_order(world, &begun);
  assert_true(begun.count >= 24);
  /* All became due at one moment, so they come in the order of their numbers, which is that of their names. */
  for (size_t i = 0; i < 24; i++) {
    if (i > 0) assert_true(strcmp(begun.domains[i - 1], begun.domains[i]) < 0);
    assert_int_equal(begun.at[i] / 600, begun.at[0] / 600 + (int64_t)i);
  }
}

struct asked {
  struct lineage lineages[400];
  size_t count;
  struct order *expected;
};

static int copy_lineage(void *context, const void *row) {
  struct asked *asked = context;
  struct error error = {0};
  assert_int_equal(lineage_copy(row, &asked->lineages[asked->count++], &error), 0);
  return 0;
}

static int expect_step(void *context, const struct forecast_step *step) {
  struct order *expected = context;
  if (step->to != KEY_ACTIVE || step->action != PLAN_ACTIVATE) return 0;
  assert_true(expected->count < sizeof expected->at / sizeof expected->at[0]);
  text_copy(expected->domains[expected->count], sizeof expected->domains[0], step->domain);
  expected->at[expected->count++] = step->at;
  return 0;
}

static struct wave stored_wave(struct world *world);

static void forecast_switches(struct world *world, int64_t now, int64_t until, struct order *ret_expected) {
  static const struct store_filter all;
  struct error error = {0};
  struct asked *asked = calloc(1, sizeof *asked);
  const struct wave wave = stored_wave(world);
  const struct forecast forecast = {.now = now, .until = until, .wave = &wave, .callback = expect_step, .context = ret_expected};
  if (world->store->ops->select(world->store, STORE_SELECT_LINEAGES, &all, copy_lineage, asked, &error)) fail_msg("%s", error.message);
  if (forecast_lineages(&forecast, asked->lineages, asked->count, &error)) fail_msg("%s", error.message);
  for (size_t i = 0; i < asked->count; i++) lineage_release(&asked->lineages[i]);
  free(asked);
}

/* Which domain takes over in which run is foretold, though those that were added last come first: their keys become old in another order than they have numbers. */
static void test_engine_wave__the_forecast_gives_places_as_the_engine_does(void **state) {
  struct world *world = *state;
  world->rules = "rotate-every: 3d, jitter: 2h, prove-every: 3h";
  world->limits = "max-per-run: 2\n";
  make_many(world, 24);
  world_live(world, 1);
  struct order *expected = calloc(2, sizeof *expected), *seen = expected + 1;
  const int64_t now = loop_wall(world->loop), until = now + 4 * WORLD_DAY;
  forecast_switches(world, now, until, expected);
  assert_true(expected->count >= 24);
  world_live(world, 5);
  *seen = (struct order){.kind = "state", .to = "active", .begin = now};
  read_order(world, seen);
  assert_true(seen->count >= expected->count);
  for (size_t i = 0; i < expected->count; i++) {
    assert_int_equal(seen->at[i] / 600, expected->at[i] / 600);
    assert_string_equal(seen->domains[i], expected->domains[i]);
  }
  free(expected);
}

/* ---- the return from an absence ---- */

static void month_over(void *context) { loop_stop(context); }

static void pass_days(struct world *world, int64_t days) {
  struct error error = {0};
  assert_int_equal(loop_at(world->loop, loop_boottime(world->loop) + days * WORLD_DAY * 1000, month_over, world->loop, NULL), 0);
  assert_int_equal(loop_run(world->loop, &error), 0);
}

static void test_engine_wave__after_a_month_down_hundreds_of_domains_do_not_rotate_in_one_run(void **state) {
  struct world *world = *state;
  world->rules = "rotate-every: 40d, jitter: 38d, prove-every: never";
  make_many(world, LATE);
  world_live(world, 1);
  pass_days(world, 31);
  const int64_t back = loop_wall(world->loop);
  world_run_well(world, 0);
  struct histogram begun = {.kind = "reserved", .begin = back, .stretch = 600};
  count_events(world, &begun);
  assert_in_range(begun.counts[0], 0, 15);
  assert_int_equal(world_events(world, NULL, "clock"), 1);
  /* About four fifths were late: they come within a minute for each domain, ten in each run. */
  world_run_well(world, 6 * 3600);
  struct histogram all = {.kind = "reserved", .begin = back, .stretch = 600};
  count_events(world, &all);
  assert_in_range(all.total, LATE * 7 / 10, LATE * 9 / 10);
  for (unsigned i = 0; i < 36; i++) assert_in_range(all.counts[i], i < LATE / 10 ? 1 : 0, i < LATE / 10 ? 18 : 3);
}

static void test_engine_wave__after_a_month_down_three_domains_are_done_in_minutes(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}, b.example: {}, c.example: {}");
  world_live(world, 20);
  pass_days(world, 31);
  const int64_t back = loop_wall(world->loop);
  world_run_well(world, 240);
  struct histogram begun = {.kind = "reserved", .begin = back, .stretch = 600};
  count_events(world, &begun);
  assert_int_equal(begun.counts[0], 3);
}

static int take_wave(void *context, const void *row) {
  *(struct wave *)context = *(const struct wave *)row;
  return 0;
}

static struct wave stored_wave(struct world *world) {
  static const struct store_filter all;
  struct wave wave = {0};
  struct error error = {0};
  if (world->store->ops->select(world->store, STORE_SELECT_WAVE, &all, take_wave, &wave, &error)) fail_msg("%s", error.message);
  return wave;
}

/* 80 first keys are ready, and the first 20 that take over fail, because the signer does: the other 60 do not try. */
static void stop_wave(struct world *world) {
  world->limits = "max-per-run: 20\nfailure-budget: 5%\n";
  make_many(world, 80);
  world->signer_fails = "first";
  world_run_well(world, 7200);
  struct histogram failed = {.kind = "failed", .begin = WORLD_NOW, .stretch = WORLD_DAY};
  count_events(world, &failed);
  assert_in_range(failed.total, 10, 20);
  assert_int_equal(world_events(world, NULL, "alarm"), 1);
  assert_non_null(strstr(world->summary.wave, "the wave of rotations is stopped: "));
  assert_non_null(strstr(world->summary.wave, ".example: activate of "));
}

static size_t count_active(struct world *world) {
  struct histogram active = {.kind = "state", .to = "active", .begin = WORLD_NOW, .stretch = WORLD_DAY};
  count_events(world, &active);
  return active.total;
}

static void test_engine_wave__failures_beyond_the_budget_stop_it_until_a_person_lets_it_go_on(void **state) {
  struct world *world = *state;
  stop_wave(world);
  /* It stays stopped in the next process. */
  const unsigned switches = world->counts.activations;
  for (unsigned i = 0; i < 3; i++) world_run_well(world, 600);
  assert_true(world->counts.activations == switches);
  assert_true(world->summary.wave[0] != '\0');
  assert_true(wave_is_stopped(&(struct wave){.limits = {.budget = true}, .stopped_at = stored_wave(world).stopped_at}));
  world->signer_fails = NULL;
  world_request(world, REQUEST_RELEASE_WAVE, "");
  world_run_well(world, 600);
  assert_int_equal(world->summary.wave[0], '\0');
  assert_int_equal(world_events(world, NULL, "released"), 1);
  assert_true(count_active(world) >= 20);
  world_run_well(world, 7200);
  assert_int_equal(count_active(world), 80);
}

static void test_engine_wave__one_probe_that_succeeds_lets_it_go_on(void **state) {
  struct world *world = *state;
  stop_wave(world);
  /* While the signer fails, one domain tries, after an hour, and two hours later the next. */
  const unsigned switches = world->counts.activations;
  world_run_well(world, 4 * 3600);
  assert_in_range(world->counts.activations - switches, 1, 3);
  assert_int_equal(count_active(world), 0);
  world->signer_fails = NULL;
  world_run_well(world, 6 * 3600);
  assert_int_equal(world_events(world, NULL, "healed"), 1);
  assert_int_equal(count_active(world), 80);
}

static void test_engine_wave__who_rotates_by_hand_probes_it(void **state) {
  struct world *world = *state;
  stop_wave(world);
  world->signer_fails = NULL;
  world_request(world, REQUEST_ROTATE, "d79.example");
  world_run_well(world, 600);
  assert_int_equal(world_events(world, NULL, "healed"), 1);
  world_run_well(world, 7200);
  assert_int_equal(count_active(world), 80);
}

static void test_engine_wave__within_the_budget_the_others_go_on(void **state) {
  struct world *world = *state;
  world->limits = "failure-budget: 5%\n";
  make_many(world, 50);
  world->domain_fails = "d7.example";
  world_run_well(world, 7200);
  assert_int_equal(count_active(world), 49);
  assert_int_equal(world->summary.wave[0], '\0');
  assert_true(stored_wave(world).stopped_at == TIME_UNSET);
}

/* Other limits in the policy hold from the next run on, and what is stopped stays so. */
static void test_engine_wave__limits_follow_the_policy(void **state) {
  struct world *world = *state;
  stop_wave(world);
  world->limits = "max-per-run: 7\nfailure-budget: 12\n";
  world_sync(world, "d0.example: {}");
  const struct wave wave = stored_wave(world);
  assert_int_equal(wave.limits.max_per_run, 7);
  assert_true(wave.limits.budget && !wave.limits.percent);
  assert_int_equal(wave.limits.failures, 12);
  assert_true(wave_is_stopped(&wave));
  world->limits = NULL;
  world_sync(world, "d0.example: {}");
  const struct wave free_wave = stored_wave(world);
  assert_false(wave_is_stopped(&free_wave));
}

static void test_engine_wave__a_hold_that_ends_is_told_at_its_end(void **state) {
  struct world *world = *state;
  struct error error = {0};
  world_make(world, "a.example: {}");
  world_live(world, 1);
  struct store_request request = {.kind = REQUEST_HOLD,
                                  .domain = (char[]){"a.example"},
                                  .reason = (char[]){"moving house"},
                                  .until = WORLD_NOW + 3 * WORLD_DAY,
                                  .hold_scope = HOLD_ACTIVATION,
                                  .asked_at = WORLD_NOW,
                                  .asked_by = (char[]){"test"}};
  assert_int_equal(world->store->ops->request(world->store, &request, &error), 0);
  world_live(world, 1);
  assert_int_equal(world_events(world, "a.example", "held"), 1);
  assert_int_equal(world_events(world, "a.example", "released"), 0);
  world_live(world, 2);
  assert_int_equal(world_events(world, "a.example", "released"), 1);
  struct histogram released = {.kind = "released", .begin = WORLD_NOW + 3 * WORLD_DAY, .stretch = 60};
  count_events(world, &released);
  assert_int_equal(released.counts[0], 1);
}

/* The next key is made, published and confirmed, and stays ready until the hold ends. */
static void test_engine_wave__held_from_taking_over_a_ready_key_waits(void **state) {
  struct world *world = *state;
  struct error error = {0};
  world_make(world, "a.example: {}");
  world_live(world, 1);
  struct store_request request = {.kind = REQUEST_HOLD, .domain = (char[]){"a.example"}, .until = WORLD_NOW + 40 * WORLD_DAY, .hold_scope = HOLD_ACTIVATION, .asked_at = WORLD_NOW};
  assert_int_equal(world->store->ops->request(world->store, &request, &error), 0);
  world_live(world, 35);
  CLEANUP_FREE char *waiting = world_states(world, "a.example");
  assert_string_equal(waiting, "active ready");
  world_live(world, 5);
  CLEANUP_FREE char *over = world_states(world, "a.example");
  assert_string_equal(over, "retired active");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_engine_wave__a_thousand_domains_added_at_once_do_not_rotate_in_one_night),
      TEST(test_engine_wave__no_run_begins_more_than_its_places),
      TEST(test_engine_wave__those_that_wait_are_left_alone),
      TEST(test_engine_wave__who_waits_for_long_keeps_his_place_in_the_queue),
      TEST(test_engine_wave__the_forecast_gives_places_as_the_engine_does),
      TEST(test_engine_wave__after_a_month_down_hundreds_of_domains_do_not_rotate_in_one_run),
      TEST(test_engine_wave__after_a_month_down_three_domains_are_done_in_minutes),
      TEST(test_engine_wave__failures_beyond_the_budget_stop_it_until_a_person_lets_it_go_on),
      TEST(test_engine_wave__one_probe_that_succeeds_lets_it_go_on),
      TEST(test_engine_wave__who_rotates_by_hand_probes_it),
      TEST(test_engine_wave__within_the_budget_the_others_go_on),
      TEST(test_engine_wave__limits_follow_the_policy),
      TEST(test_engine_wave__a_hold_that_ends_is_told_at_its_end),
      TEST(test_engine_wave__held_from_taking_over_a_ready_key_waits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
