/* An engine that stays, as the daemon has it: woken by requests, asleep for a month, told to end in the middle, and alive for years. */
#include "engine_world.h"

#include <malloc.h>
#include <sqlite3.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

/* What happens from outside while an engine stays. */
struct script {
  struct world *world;
  void (*act)(struct script *script);
  int64_t seconds;  /* an argument */
  unsigned before;  /* something to compare with */
  size_t largest; /* lineages in hand at most */
  size_t memory;
};

static void act(void *context) {
  struct script *script = context;
  script->act(script);
}

static void end(void *context) {
  struct world *world = context;
  engine_stop(world->engine);
}

static void at(struct world *world, int64_t seconds, loop_callback *callback, void *context) {
  assert_int_equal(loop_at(world->loop, loop_boottime(world->loop) + seconds * 1000, callback, context, NULL), 0);
}

/* A daemon that is told to end after so many seconds. */
static void stay(struct world *world, int64_t seconds) {
  struct error error = {0};
  at(world, seconds, end, world);
  if (world_run(world, TIME_NEVER, &error)) fail_msg("%s", error.message);
}

static void assert_well(const struct world *world) {
  if (world->violations) fail_msg("%zu violations, first: %s", world->violations, world->violation);
}

static void assert_states(struct world *world, const char *domain, const char *expected) {
  CLEANUP_FREE char *states = world_states(world, domain);
  assert_string_equal(states, expected);
}

/* ---- requests ---- */

static void ask_to_rotate(struct script *script) {
  assert_int_equal(script->world->counts.generated, 1);
  world_request(script->world, REQUEST_ROTATE, "a.example");
  if (script->seconds) engine_wake(script->world->engine);
}

static void note_generated(struct script *script) { script->before = script->world->counts.generated - 1; }

/* A turn of its own accord would come after hours. */
static void rotate_while_it_rests(struct world *world, bool wake, unsigned expected) {
  struct script asking = {.world = world, .act = ask_to_rotate, .seconds = wake}, looking = {.world = world, .act = note_generated};
  world_make(world, "a.example: {}");
  at(world, 10 * WORLD_DAY + 7000, act, &asking);
  at(world, 10 * WORLD_DAY + 7001, act, &looking);
  stay(world, 10 * WORLD_DAY + 7002);
  assert_int_equal(looking.before, expected);
  assert_well(world);
}

static void test_engine_stay__a_wake_makes_a_turn_at_once(void **state) { rotate_while_it_rests(*state, true, 1); }
static void test_engine_stay__without_it_the_request_waits(void **state) { rotate_while_it_rests(*state, false, 0); }

/* ---- ends ---- */

static void stop_soon(struct script *script) { engine_stop_within(script->world->engine, script->seconds * 1000); }

/* The publisher answers at its deadline only, after a minute. */
static void test_engine_stay__what_takes_too_long_is_parked_and_taken_up_at_the_next_start(void **state) {
  struct world *world = *state;
  struct error error = {0};
  struct script stopping = {.world = world, .act = stop_soon, .seconds = 5};
  world_make(world, "a.example: {}");
  world->publish_hangs = true;
  at(world, 10, act, &stopping);
  const int64_t begun = loop_boottime(world->loop);
  assert_int_equal(world_run(world, TIME_NEVER, &error), 0);
  assert_in_range(loop_boottime(world->loop) - begun, 14 * 1000, 16 * 1000);
  assert_states(world, "a.example", "generated");
  assert_int_equal(world->summary.in_hand, 1);
  world->publish_hangs = false;
  world_live(world, 2);
  assert_states(world, "a.example", "active");
  assert_int_equal(world->counts.generated, 1);
  assert_int_equal(world->counts.adds, 1);
}

static void test_engine_stay__what_ends_in_time_is_finished(void **state) {
  struct world *world = *state;
  struct error error = {0};
  struct script stopping = {.world = world, .act = stop_soon, .seconds = 120};
  world_make(world, "a.example: {}");
  world->publish_hangs = true;
  at(world, 10, act, &stopping);
  assert_int_equal(world_run(world, TIME_NEVER, &error), 0);
  assert_int_equal(world->summary.in_hand, 0);
  assert_int_equal(world->summary.failures, 1);
}

/* ---- a month of sleep, a clock that jumps ---- */

static void sleep_long(struct script *script) {
  script->before = script->world->counts.generated;
  loop_virtual_suspend(script->world->loop, script->seconds * 1000);
}

/* Due in the middle of the sleep: the successor. Nothing of the old key ends before it signs, and its window counts from then. */
static void test_engine_stay__after_a_month_asleep_the_successor_comes_first(void **state) {
  struct world *world = *state;
  struct script asleep = {.world = world, .act = sleep_long, .seconds = 40 * WORLD_DAY};
  world_make(world, "a.example: {}, b.example: {publisher: other}");
  at(world, 25 * WORLD_DAY, act, &asleep);
  stay(world, 25 * WORLD_DAY + 40 * WORLD_DAY + 2 * WORLD_DAY);
  assert_well(world);
  /* One successor each, and not one for each life that the sleep was long. */
  assert_int_equal(world->counts.generated - asleep.before, 2);
  assert_states(world, "a.example", "retired active");
  assert_states(world, "b.example", "retired active");
  assert_int_equal(world->counts.replaces + world->counts.deletes, 0);
  stay(world, 20 * WORLD_DAY);
  assert_well(world);
  assert_true(world->counts.replaces + world->counts.deletes >= 2);
}

/* Asleep while every step of a life is due, one after the other. */
static void test_engine_stay__sleeps_of_any_length_at_any_time_break_nothing(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}, b.example: {signers: [first, second]}");
  struct script sleeps[10];
  for (int i = 0; i < 10; i++) {
    sleeps[i] = (struct script){.world = world, .act = sleep_long, .seconds = (int64_t)(i * i + 1) * WORLD_DAY / 3};
    at(world, (int64_t)(i + 1) * (11 * WORLD_DAY + 3601), act, &sleeps[i]);
  }
  stay(world, 200 * WORLD_DAY);
  assert_well(world);
  CLEANUP_FREE char *states = world_states(world, "a.example");
  assert_non_null(strstr(states, "active"));
}

static void jump(struct script *script) {
  loop_virtual_set_wall(script->world->loop, loop_wall(script->world->loop) + script->seconds);
}

static void test_engine_stay__a_clock_that_jumps_a_month_ahead_ends_nothing(void **state) {
  struct world *world = *state;
  struct script ahead = {.world = world, .act = jump, .seconds = 40 * WORLD_DAY}, back = {.world = world, .act = jump, .seconds = -40 * WORLD_DAY};
  world_make(world, "a.example: {}");
  at(world, 35 * WORLD_DAY, act, &ahead);
  at(world, 35 * WORLD_DAY + 7200, act, &back);
  stay(world, 60 * WORLD_DAY);
  assert_well(world);
  CLEANUP_FREE char *states = world_states(world, "a.example");
  assert_non_null(strstr(states, "active"));
}

/* ---- many at once ---- */

static void note_turn(void *context) {
  struct script *script = context;
  struct engine_summary summary;
  engine_summarise(script->world->engine, &summary);
  if (summary.in_hand > script->largest) script->largest = summary.in_hand;
}

/* When a successor was begun, first and last. */
struct begun {
  int64_t after, first, last;
};

static int note_begun(void *context, const void *row) {
  struct begun *begun = context;
  const struct event *event = row;
  if (!text_equal(event->kind, "reserved") || event->at < begun->after) return 0;
  begun->first = begun->first ? time_min(begun->first, event->at) : event->at;
  begun->last = time_max(begun->last, event->at);
  return 0;
}

/* All of them are overdue when the machine wakes after a month: one successor each, one after the other and not in a burst, and none of the old keys ends early. */
static void test_engine_stay__after_a_month_asleep_many_domains_follow_one_another(void **state) {
  enum { DOMAINS = 40 };
  struct world *world = *state;
  struct error error = {0};
  struct script script = {.world = world}, asleep = {.world = world, .act = sleep_long, .seconds = 45 * WORLD_DAY};
  struct buffer domains = BUFFER_WITH_MAXIMUM(DOMAINS * 32);
  for (int i = 0; i < DOMAINS; i++) buffer_format(&domains, "%sd%04d.example: {}", i ? ", " : "", i);
  world_make(world, (const char *)domains.data);
  buffer_release(&domains);
  world_run_well(world, 2 * WORLD_DAY);
  assert_int_equal(world->counts.switches, DOMAINS);
  /* Records that become due together travel together: as keys are made, 16 at a time. */
  assert_true(world->counts.publications < DOMAINS);
  at(world, 1, act, &asleep);
  at(world, 45 * WORLD_DAY + 3600 * 8, end, world);
  const struct engine_setup setup = {.horizon = TIME_NEVER, .turned = note_turn, .turned_context = &script};
  assert_int_equal(world_run_setup(world, setup, &error), 0);
  assert_well(world);
  assert_int_equal(world->counts.generated, 2 * DOMAINS);
  assert_int_equal(world->counts.switches, 2 * DOMAINS);
  assert_int_equal(world->counts.replaces + world->counts.deletes, 0);
  assert_int_equal(script.largest, DOMAINS);
  /* A minute for each of them, in which each has a moment of its own. */
  static const struct store_filter all;
  struct begun begun = {.after = WORLD_NOW + 3 * WORLD_DAY};
  assert_int_equal(world->store->ops->select(world->store, STORE_SELECT_EVENTS, &all, note_begun, &begun, &error), 0);
  assert_in_range(begun.last - begun.first, DOMAINS * 30, DOMAINS * 60);
}

/* ---- years ---- */

static size_t memory_in_use(void) {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks - (size_t)sqlite3_memory_used();
}

static void note_memory(struct script *script) {
  script->memory = memory_in_use();
}

/* Somebody asks for a turn every ten minutes. */
static void wake_again(struct script *script) {
  if (!script->world->engine) return;
  engine_wake(script->world->engine);
  at(script->world, 600, act, script);
}

/* Tens of thousands of turns in one engine: beside the store, and what the world remembers of records, memory stays what it was. (With sanitizers malloc is
 * another; there leaks are told.) */
static void test_engine_stay__memory_does_not_grow_with_turns(void **state) {
  enum { RECORDS_OF_THE_WORLD = 32 * 1024 };
  struct world *world = *state;
  struct error error = {0};
  struct script first = {.world = world, .act = note_memory}, last = {.world = world, .act = note_memory};
  static struct script waking; /* its last timer outlives the engine */
  waking = (struct script){.world = world, .act = wake_again};
  world_make(world, "a.example: {}, b.example: {signers: [first, second], publisher: other}");
  at(world, 40 * WORLD_DAY, act, &first);
  at(world, 200 * WORLD_DAY, act, &last);
  at(world, WORLD_DAY, act, &waking);
  at(world, 201 * WORLD_DAY, end, world);
  assert_int_equal(world_run(world, TIME_NEVER, &error), 0);
  assert_well(world);
  assert_true(world->summary.turns > 25000);
  if (last.memory > first.memory + RECORDS_OF_THE_WORLD) fail_msg("%zu octets have become %zu in %zu turns", first.memory, last.memory, world->summary.turns);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_engine_stay__a_wake_makes_a_turn_at_once, world_setup, world_teardown),
      cmocka_unit_test_setup_teardown(test_engine_stay__without_it_the_request_waits, world_setup, world_teardown),
      cmocka_unit_test_setup_teardown(test_engine_stay__what_takes_too_long_is_parked_and_taken_up_at_the_next_start, world_setup, world_teardown),
      cmocka_unit_test_setup_teardown(test_engine_stay__what_ends_in_time_is_finished, world_setup, world_teardown),
      cmocka_unit_test_setup_teardown(test_engine_stay__after_a_month_asleep_the_successor_comes_first, world_setup, world_teardown),
      cmocka_unit_test_setup_teardown(test_engine_stay__sleeps_of_any_length_at_any_time_break_nothing, world_setup, world_teardown),
      cmocka_unit_test_setup_teardown(test_engine_stay__a_clock_that_jumps_a_month_ahead_ends_nothing, world_setup, world_teardown),
      cmocka_unit_test_setup_teardown(test_engine_stay__after_a_month_asleep_many_domains_follow_one_another, world_setup, world_teardown),
      cmocka_unit_test_setup_teardown(test_engine_stay__memory_does_not_grow_with_turns, world_setup, world_teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
