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

/* 300 domains wait for one signer that is down for a day: one message finds out that it is back, and one alarm says so instead of 300. */
static void test_engine_resource__signer_out_of_reach_is_probed_by_one_for_all(void **state) {
  struct world *world = *state;
  struct buffer domains = BUFFER_WITH_MAXIMUM(1 << 20);
  for (unsigned i = 0; i < 300; i++) buffer_format(&domains, "%sd%u.example: {}", i ? ", " : "", i);
  CLEANUP_FREE char *text = buffer_take_text(&domains);
  world_make(world, text);
  world->signer_down = "first";
  world_run_well(world, 2 * 3600);
  assert_int_equal(resources(world), 1);
  const unsigned tried = world->counts.activations;
  const size_t failed = world_events(world, NULL, "failed");
  for (unsigned run = 0; run < 22; run++) world_run_well(world, 3600);
  assert_in_range(world->counts.activations - tried, 10, 80);
  assert_true(world_events(world, NULL, "failed") - failed <= world->counts.activations - tried);
  world->signer_down = NULL;
  const unsigned probes = world->counts.activations;
  world_run_well(world, 4 * 3600);
  assert_int_equal(resources(world), 0);
  assert_int_equal(world->counts.switches, 300);
  assert_true(world->counts.activations - probes < 310);
  if (world->violations) fail_msg("%s", world->violation);
}

/* A domain at two signers is served by the one that answers, and the dead one is asked no more often for that. */
static void test_engine_resource__signer_that_answers_does_not_wait_for_the_other(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {signers: [first, second]}");
  world_live(world, 2);
  assert_string_equal(world_signs(world, 0, "a.example"), world_signs(world, 1, "a.example"));
  const size_t proofs = world->counts.proofs;
  world->signer_down = "first";
  world_live(world, 3);
  assert_true(world->counts.proofs > proofs);
  assert_int_equal(resources(world), 1);
  world->signer_down = NULL;
  world_live(world, 2);
  assert_int_equal(resources(world), 0);
  if (world->violations) fail_msg("%s", world->violation);
}

static void test_engine_resource__request_probes_a_signer_that_was_put_off(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  world->signer_down = "first";
  for (unsigned run = 0; run < 12; run++) world_run_well(world, 1800);
  assert_int_equal(world->counts.switches, 0);
  world->signer_down = NULL;
  world_request(world, REQUEST_ROTATE, "a.example");
  world_run_well(world, 1);
  assert_int_equal(world->counts.switches, 1);
  assert_int_equal(resources(world), 0);
}

/* What was in the way is put right, and revoke is given once more: nobody waits for a pause that may be a day. */
static void test_engine_resource__a_revocation_that_is_asked_for_again_is_tried_at_once(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  world_live(world, 1);
  const size_t switches = world->counts.switches;
  world->signer_down = "first";
  world_request(world, REQUEST_REVOKE, "a.example");
  for (unsigned run = 0; run < 12; run++) world_run_well(world, 1800);
  assert_int_equal(world->counts.switches, switches);
  assert_int_equal(world_events(world, "a.example", "compromised"), 1);
  world->signer_down = NULL;
  world_request(world, REQUEST_REVOKE, "a.example");
  world_run_well(world, 1);
  assert_int_equal(world->counts.switches, switches + 1);
  assert_int_equal(world_events(world, "a.example", "compromised"), 1);
}

/* `release` carries out its request and ends; the next run probes. */
static void test_engine_resource__what_one_process_wakes_the_next_one_probes(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  world->signer_down = "first";
  for (unsigned run = 0; run < 12; run++) world_run_well(world, 1800);
  world->signer_down = NULL;
  world_request(world, REQUEST_RELEASE, "a.example");
  struct error error = {0};
  assert_int_equal(world_run_setup(world, (struct engine_setup){.requests_only = true}, &error), 0);
  assert_int_equal(world->counts.switches, 0);
  world_run_well(world, 1);
  assert_int_equal(world->counts.switches, 1);
  assert_int_equal(resources(world), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_engine_resource__server_out_of_reach_is_probed_by_one_for_all, world_setup, world_teardown),
      cmocka_unit_test_setup_teardown(test_engine_resource__refusal_of_one_puts_nobody_off, world_setup, world_teardown),
      cmocka_unit_test_setup_teardown(test_engine_resource__request_probes_a_server_that_was_put_off, world_setup, world_teardown),
      cmocka_unit_test_setup_teardown(test_engine_resource__signer_out_of_reach_is_probed_by_one_for_all, world_setup, world_teardown),
      cmocka_unit_test_setup_teardown(test_engine_resource__signer_that_answers_does_not_wait_for_the_other, world_setup, world_teardown),
      cmocka_unit_test_setup_teardown(test_engine_resource__request_probes_a_signer_that_was_put_off, world_setup, world_teardown),
      cmocka_unit_test_setup_teardown(test_engine_resource__a_revocation_that_is_asked_for_again_is_tried_at_once, world_setup, world_teardown),
      cmocka_unit_test_setup_teardown(test_engine_resource__what_one_process_wakes_the_next_one_probes, world_setup, world_teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
