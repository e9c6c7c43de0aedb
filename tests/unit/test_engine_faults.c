/* What the engine makes of ends in the middle: crashes, a full disk, a keeper that dies, a clock that is set. */
#include "engine_world.h"

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

enum { CRASHES_MAX = 400 };

static void assert_states(struct world *world, const char *domain, const char *expected) {
  CLEANUP_FREE char *states = world_states(world, domain);
  assert_string_equal(states, expected);
}

static void assert_well(const struct world *world) {
  if (world->violations) fail_msg("%zu violations, first: %s", world->violations, world->violation);
}

/* The life of one key and its successor, for two signers: 80 days. */
static void assert_end(struct world *world) {
  world_live(world, 1);
  world_live(world, 80);
  assert_well(world);
  assert_string_equal(world_signs(world, 0, "a.example"), world_signs(world, 1, "a.example"));
  assert_int_equal(world->counts.adds, 3);
  assert_int_equal(world->counts.switches, 6);
  assert_int_equal(world->counts.deletes, 1);
  assert_int_equal(world->counts.replaces, 2);
}

static void test_engine__crash_between_any_two_callbacks_changes_nothing(void **state) {
  unsigned crashes = 0;
  for (unsigned at = 1; at < CRASHES_MAX; at++) {
    struct world *world = calloc(1, sizeof *world);
    struct error error = {0};
    world_make(world, "a.example: {signers: [first, second]}");
    world->steps_left = at;
    assert_int_equal(world_run(world, WORLD_DAY, &error), 0);
    const bool crashed = world->steps_left == 0;
    world->steps_left = 0;
    world_run_well(world, WORLD_DAY);
    assert_well(world);
    assert_states(world, "a.example", "active");
    assert_int_equal(world->counts.adds, 1);
    assert_int_equal(world->counts.switches, 2);
    world_remove(world);
    free(world);
    crashes += crashed;
    if (!crashed) break;
  }
  assert_in_range(crashes, 10, CRASHES_MAX - 2);
  *state = NULL;
}

static void test_engine__crashes_all_along_come_to_the_same_end(void **state) {
  struct world *world = *state;
  struct error error = {0};
  world_make(world, "a.example: {signers: [first, second]}");
  for (unsigned i = 0; i < 2000 && loop_wall(world->loop) < WORLD_NOW + 75 * WORLD_DAY; i++) {
    world->steps_left = 1 + i % 7;
    assert_int_equal(world_run(world, 75 * WORLD_DAY, &error), 0);
    assert_well(world);
  }
  world->steps_left = 0;
  world_run_well(world, WORLD_NOW + 81 * WORLD_DAY - loop_wall(world->loop));
  assert_well(world);
  assert_int_equal(world->counts.adds, 3);
  assert_int_equal(world->counts.switches, 6);
  assert_int_equal(world->counts.deletes, 1);
  assert_int_equal(world->counts.replaces, 2);
}

static void test_engine__without_crashes_that_is_the_end(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {signers: [first, second]}");
  assert_end(world);
}

static void test_engine__failed_commit_ends_the_run_and_loses_nothing(void **state) {
  unsigned failures = 0;
  for (unsigned at = 1; at < CRASHES_MAX; at++) {
    struct world *world = calloc(1, sizeof *world);
    struct error error = {0};
    world_make(world, "a.example: {}");
    world->commits_left = at;
    const int result = world_run(world, WORLD_DAY, &error);
    const bool failed = world->commits_left == 0;
    if (failed) assert_int_equal(result, ERROR_SYSTEM);
    if (failed) assert_string_equal(error.message, "the disk is full");
    world->commits_left = 0;
    world_run_well(world, WORLD_DAY);
    assert_well(world);
    assert_states(world, "a.example", "active");
    assert_int_equal(world->counts.adds, 1);
    assert_int_equal(world->counts.switches, 1);
    world_remove(world);
    free(world);
    failures += failed;
    if (!failed) break;
  }
  assert_in_range(failures, 8, CRASHES_MAX - 2);
  *state = NULL;
}

static void kill_keeper(void *context) {
  ((struct world *)context)->keeper_dead = true;
}

static void test_engine__dead_keeper_ends_the_run(void **state) {
  struct world *world = *state;
  struct error error = {0};
  world_make(world, "a.example: {}, b.example: {}");
  assert_int_equal(loop_at(world->loop, 1000 + 80, kill_keeper, world, NULL), 0);
  assert_int_equal(world_run(world, WORLD_DAY, &error), ERROR_UNREACHABLE);
  assert_true(loop_wall(world->loop) < WORLD_NOW + 60);
  assert_true(world_events(world, "a.example", "failed") == 1);
  world->keeper_dead = false;
  world_live(world, 1);
  assert_states(world, "a.example", "active");
}

static void test_engine__freed_with_keeper_jobs_open(void **state) {
  struct world *world = *state;
  struct error error = {0};
  world_make(world, "a.example: {}, b.example: {}");
  /* Turn and its commit, the survey's answer; the jobs are out then. */
  world->steps_left = 2;
  assert_int_equal(world_run(world, WORLD_DAY, &error), 0);
  const struct clock_reading until = {.boottime = loop_boottime(world->loop) + 1000};
  assert_int_equal(loop_at(world->loop, until.boottime, (loop_callback *)(void *)loop_stop, world->loop, NULL), 0);
  assert_int_equal(loop_run(world->loop, &error), 0);
  assert_int_equal(world->counts.generated, 2);
  world_live(world, 1);
  assert_states(world, "b.example", "active");
}

static void stop_engine(void *context) {
  engine_stop(((struct world *)context)->engine);
}

static void test_engine__stop_finishes_what_is_open_and_begins_nothing(void **state) {
  struct world *world = *state;
  struct error error = {0};
  world_make(world, "a.example: {}");
  world->answer_ms = 10000;
  assert_int_equal(loop_at(world->loop, 1000 + 15000, stop_engine, world, NULL), 0);
  assert_int_equal(world_run(world, TIME_NEVER, &error), 0);
  assert_states(world, "a.example", "generated");
  assert_int_equal(world->counts.publications, 0);
  assert_true(loop_wall(world->loop) < WORLD_NOW + 30);
}

static void test_engine__stop_from_the_listener_begins_nothing(void **state) {
  struct world *world = *state;
  struct error error = {0};
  world_make(world, "a.example: {}");
  world->stop_at_event = true;
  assert_int_equal(world_run(world, TIME_NEVER, &error), 0);
  assert_int_equal(world->counts.observations, 0);
  world->stop_at_event = false;
  world_live(world, 1);
  assert_states(world, "a.example", "active");
  assert_int_equal(world->counts.adds, 1);
}

static void test_engine__no_activation_without_an_attested_clock(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  world->unsynchronised = world->no_tsig = true;
  world_run_well(world, 6 * 3600);
  /* It does not even count as ready: the wait for caches begins with the first look by an attested clock. */
  assert_states(world, "a.example", "published");
  assert_true(world_events(world, "a.example", "failed") >= 1);
  world->no_tsig = false;
  world_run_well(world, 6 * 3600);
  assert_states(world, "a.example", "active");
  assert_well(world);
}

static void test_engine__attestation_that_failed_is_tried_again_soon(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  world_live(world, 1);
  world_live(world, 31);
  assert_states(world, "a.example", "retired active");
  /* The retire window ends in a boot whose clock nobody vouches for. */
  world->unsynchronised = world->no_tsig = true;
  loop_virtual_set_wall(world->loop, loop_wall(world->loop) + 3600);
  world_run_well(world, 10 * WORLD_DAY);
  assert_int_equal(world->counts.replaces, 0);
  assert_int_equal(world->counts.deletes, 0);
  world->no_tsig = false;
  world_run_well(world, 2 * WORLD_DAY);
  assert_int_equal(world->counts.replaces, 1);
  assert_well(world);
}

static void jump_forward(void *context) {
  struct world *world = context;
  loop_virtual_set_wall(world->loop, loop_wall(world->loop) + 300 * WORLD_DAY);
}

static void test_engine__jump_forward_opens_no_gate_until_attested(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  world_live(world, 1);
  world->unsynchronised = world->no_tsig = true;
  assert_int_equal(loop_at(world->loop, loop_boottime(world->loop) + 1000, jump_forward, world, NULL), 0);
  world_run_well(world, 5 * WORLD_DAY);
  assert_states(world, "a.example", "active");
  assert_int_equal(world->counts.switches, 1);
  assert_int_equal(world_events(world, NULL, "clock"), 1);
  assert_well(world);
}

static void jump_back(void *context) {
  struct world *world = context;
  loop_virtual_set_wall(world->loop, loop_wall(world->loop) - 20 * WORLD_DAY);
}

static void test_engine__jump_back_waits_and_goes_on(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  world_live(world, 1);
  assert_int_equal(loop_at(world->loop, loop_boottime(world->loop) + 1000, jump_back, world, NULL), 0);
  world_run_well(world, 28 * WORLD_DAY);
  assert_states(world, "a.example", "active");
  assert_int_equal(world->counts.switches, 1);
  assert_int_equal(world_events(world, NULL, "clock"), 1);
  world_run_well(world, 25 * WORLD_DAY);
  assert_states(world, "a.example", "retired active");
}

/* A boot with a clock that is ten years ahead: nothing is switched by it, but what it plans lies ten years ahead, and so does the back-off of a server. */
static void test_engine__what_was_planned_by_a_clock_that_is_set_back_is_planned_anew(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  world_live(world, 1);
  world->no_boot_id = world->unsynchronised = world->no_tsig = true;
  world->publish_fails = "example";
  world->publish_code = ERROR_UNREACHABLE;
  loop_virtual_set_wall(world->loop, loop_wall(world->loop) + 3650 * WORLD_DAY);
  world_run_well(world, WORLD_DAY);
  assert_states(world, "a.example", "active generated");
  loop_virtual_set_wall(world->loop, loop_wall(world->loop) - 3650 * WORLD_DAY);
  world->no_boot_id = world->unsynchronised = world->no_tsig = false;
  world->publish_fails = NULL;
  world_run_well(world, 10 * WORLD_DAY);
  assert_states(world, "a.example", "active ready");
  world_run_well(world, 25 * WORLD_DAY);
  assert_states(world, "a.example", "retired active");
  assert_well(world);
}

static void test_engine__horizon_counts_time_that_passes(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  world_live(world, 1);
  /* The wall clock is a year ahead of what gates may count with: a run must end all the same. */
  world->unsynchronised = world->no_tsig = true;
  loop_virtual_set_wall(world->loop, loop_wall(world->loop) + 365 * WORLD_DAY);
  const int64_t before = loop_boottime(world->loop);
  world_run_well(world, 3600);
  assert_true(loop_boottime(world->loop) - before <= 2 * 3600 * 1000);
}

static void test_engine__failed_look_does_not_spin(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  world->lag[0] = world->lag[1] = 0;
  world_run_well(world, 1800);
  assert_states(world, "a.example", "published");
  world->observe_fails = true;
  const unsigned turns = world->counts.turns;
  world_run_well(world, 3 * 3600);
  assert_true(world->counts.turns - turns < 200);
  world->observe_fails = false;
  world_live(world, 1);
  assert_states(world, "a.example", "active");
}

static void test_engine__outcome_that_contradicts_fails_alone(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}, b.example: {}");
  world->too_many_servers = "a.example";
  world_run_well(world, 3 * 3600);
  assert_states(world, "b.example", "active");
  assert_states(world, "a.example", "published");
  assert_true(world_events(world, "a.example", "failed") >= 1);
  world->too_many_servers = NULL;
  world_live(world, 3);
  assert_states(world, "a.example", "active");
}

static void test_engine__unknown_boot_can_be_attested(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  world->unsynchronised = world->no_boot_id = true;
  world_live(world, 1);
  assert_states(world, "a.example", "active");
  assert_true(world->counts.publications < 10);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_engine__crash_between_any_two_callbacks_changes_nothing),
      cmocka_unit_test(test_engine__failed_commit_ends_the_run_and_loses_nothing),
      TEST(test_engine__without_crashes_that_is_the_end),
      TEST(test_engine__crashes_all_along_come_to_the_same_end),
      TEST(test_engine__dead_keeper_ends_the_run),
      TEST(test_engine__freed_with_keeper_jobs_open),
      TEST(test_engine__stop_finishes_what_is_open_and_begins_nothing),
      TEST(test_engine__stop_from_the_listener_begins_nothing),
      TEST(test_engine__no_activation_without_an_attested_clock),
      TEST(test_engine__attestation_that_failed_is_tried_again_soon),
      TEST(test_engine__jump_forward_opens_no_gate_until_attested),
      TEST(test_engine__jump_back_waits_and_goes_on),
      TEST(test_engine__what_was_planned_by_a_clock_that_is_set_back_is_planned_anew),
      TEST(test_engine__horizon_counts_time_that_passes),
      TEST(test_engine__failed_look_does_not_spin),
      TEST(test_engine__outcome_that_contradicts_fails_alone),
      TEST(test_engine__unknown_boot_can_be_attested),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
