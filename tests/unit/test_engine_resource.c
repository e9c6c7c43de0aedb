/* Back-off that belongs to a server, for all that wait for it. */
#include "engine_world.h"

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"

static int count_resources(void *context, const void *row) {
  (void)row;
  (*(size_t *)context)++;
  return 0;
}

static size_t resources(struct world *world) {
  static const struct store_filter all;
  struct error error = {0};
  size_t count = 0;
  assert_int_equal(world->store->ops->select(world->store, STORE_SELECT_RESOURCES, &all, count_resources, &count, &error), 0);
  return count;
}

/* 300 domains wait for one server that is away for a day: it is probed by one item at a time, seldomer and seldomer, across runs, and the first
 * success wakes all. */
static void test_engine_resource__server_out_of_reach_is_probed_by_one_for_all(void **state) {
  struct world *world = *state;
  struct buffer domains = BUFFER_WITH_MAXIMUM(1 << 20);
  for (unsigned i = 0; i < 300; i++) buffer_format(&domains, "%sd%u.example: {}", i ? ", " : "", i);
  CLEANUP_FREE char *text = buffer_take_text(&domains);
  world_make(world, text);
  world->publish_fails = "example";
  world->publish_code = ERROR_UNREACHABLE;
  for (unsigned run = 0; run < 24; run++) world_run_well(world, 3600);
  assert_int_equal(resources(world), 1);
  assert_in_range(world->counts.publications, 10, 80);
  assert_int_equal(world->counts.adds, 0);
  const unsigned probes = world->counts.publications;
  world->publish_fails = NULL;
  world_run_well(world, 4 * 3600);
  assert_int_equal(world->counts.adds, 300);
  assert_int_equal(resources(world), 0);
  assert_true(world->counts.publications - probes < 310);
  if (world->violations) fail_msg("%s", world->violation);
}

/* A refusal is an answer: the server is there, and the others are served. */
static void test_engine_resource__refusal_of_one_puts_nobody_off(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}, b.example: {}");
  world->publish_fails = "b.example";
  world->publish_code = ERROR_REFUSED;
  world_run_well(world, 3600);
  assert_int_equal(world->counts.adds, 1);
  assert_int_equal(resources(world), 0);
}

static void test_engine_resource__request_probes_a_server_that_was_put_off(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  world->publish_fails = "example";
  world->publish_code = ERROR_UNREACHABLE;
  for (unsigned run = 0; run < 12; run++) world_run_well(world, 1800);
  world->publish_fails = NULL;
  world_request(world, REQUEST_ROTATE, "a.example");
  world_run_well(world, 1);
  assert_int_equal(world->counts.adds, 1);
  assert_int_equal(resources(world), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_engine_resource__server_out_of_reach_is_probed_by_one_for_all, world_setup, world_teardown),
      cmocka_unit_test_setup_teardown(test_engine_resource__refusal_of_one_puts_nobody_off, world_setup, world_teardown),
      cmocka_unit_test_setup_teardown(test_engine_resource__request_probes_a_server_that_was_put_off, world_setup, world_teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
