/* Rounds about two thousand names: bounds, a dead server among them, deadlines, and rounds and observers that end before their time. */
#include "observe_rig.h"

/* Two thousand domains with a record each, in one zone or in as many. */
static void fill_batch(struct stage *stage, bool zones) {
  for (int i = 0; i < MANY; i++) {
    char domain[32];
    snprintf(domain, sizeof domain, zones ? "d%d.com" : "d%d.example.com", i);
    snprintf(stage->names[i], sizeof stage->names[i], "sel._domainkey.%s", domain);
    stage->items[i] = (struct observe_item){.name = stage->names[i], .record = RECORD, .publisher = &stage->publisher};
    if (zones) add_domain(stage->world, domain);
    world_add(stage->world, zones ? domain : "example.com", stage->names[i], 60, DNS_TYPE_TXT, RECORD);
  }
}

static void test_observe__two_thousand_zones_run_within_the_bound(void **state) {
  struct stage *stage = *state;
  fill_batch(stage, true);
  const int64_t begin = loop_boottime(stage->world->loop);
  run_round(stage, OBSERVE_PRESENT, MANY, DEADLINE_MS);
  assert_int_equal(stage->count, MANY);
  for (int i = 0; i < MANY; i++) {
    assert_int_equal(stage->results[i].error.code, 0);
    assert_says(&stage->results[i], NS1, OBSERVE_RIGHT, RECORD);
    assert_says(&stage->results[i], NS2, OBSERVE_RIGHT, RECORD);
  }
  assert_true(stage->world->in_flight_max <= OBSERVE_QUERIES_IN_FLIGHT_MAX + ZONE_QUESTIONS_MAX);
  assert_true(stage->world->in_flight_max <= TRANSPORT_UDP_SOCKETS_MAX);
  assert_true(loop_boottime(stage->world->loop) - begin < 10000);
}

static void test_observe__many_servers_share_the_bound(void **state) {
  struct stage *stage = *state;
  fill_batch(stage, false);
  for (int i = 0; i < 6; i++) {
    char host[32], address[32];
    snprintf(host, sizeof host, "nsx%d.example.com", i);
    snprintf(address, sizeof address, "198.51.100.%d", i);
    apex(stage->world, "example.com", host, address);
    world_serve(stage->world, address, "example.com");
  }
  run_round(stage, OBSERVE_PRESENT, MANY, DEADLINE_MS);
  for (int i = 0; i < MANY; i++) {
    assert_int_equal(stage->results[i].server_count, 8);
    for (int j = 0; j < 8; j++) assert_int_equal(stage->results[i].servers[j].verdict, OBSERVE_RIGHT);
  }
  assert_true(stage->world->in_flight_max <= OBSERVE_QUERIES_IN_FLIGHT_MAX + ZONE_QUESTIONS_MAX);
}

static void test_observe__dead_server_delays_a_batch_by_its_attempts_once(void **state) {
  struct stage *stage = *state;
  fill_batch(stage, false);
  set_fault(stage, NS2, SERVER_DEAD);
  const int64_t begin = loop_boottime(stage->world->loop);
  run_round(stage, OBSERVE_PRESENT, MANY, DEADLINE_MS);
  for (int i = 0; i < MANY; i++) {
    assert_says(&stage->results[i], NS1, OBSERVE_RIGHT, RECORD);
    assert_says(&stage->results[i], NS2, OBSERVE_SILENT, "no answer in 8 s");
    /* The living were not held up by the dead. */
    assert_true(server_of(&stage->results[i], NS1)->at <= WORLD_WALL + 8);
  }
  assert_true(loop_boottime(stage->world->loop) - begin < SILENCE_MS + ZONE_QUERY_MS + 2000);
  assert_true(world_count(stage->world, NS2, NULL, DNS_TYPE_TXT) <= (OBSERVE_ATTEMPTS + 1) * OBSERVE_PROBES);
}

static void kill_second(void *context) {
  struct stage *stage = context;
  set_fault(stage, NS2, SERVER_DEAD);
}

static void test_observe__server_that_dies_in_a_batch_ends_it_soon(void **state) {
  struct stage *stage = *state;
  fill_batch(stage, false);
  const int64_t begin = loop_boottime(stage->world->loop);
  assert_int_equal(loop_at(stage->world->loop, begin + 250, kill_second, stage, NULL), 0);
  run_round(stage, OBSERVE_PRESENT, MANY, DEADLINE_MS);
  size_t right = 0, silent = 0;
  for (int i = 0; i < MANY; i++) {
    assert_says(&stage->results[i], NS1, OBSERVE_RIGHT, RECORD);
    right += server_of(&stage->results[i], NS2)->verdict == OBSERVE_RIGHT;
    silent += server_of(&stage->results[i], NS2)->verdict == OBSERVE_SILENT;
  }
  assert_true(right > 0 && silent > 0 && right + silent == MANY);
  assert_true(loop_boottime(stage->world->loop) - begin < SILENCE_MS + ZONE_QUERY_MS + 2000);
}

/* A round about one name that has no more time. */
static void look_for_a_second(struct stage *stage) {
  stage->items[0] = (struct observe_item){.name = NAME, .record = RECORD, .publisher = &stage->publisher};
  run_round(stage, OBSERVE_PRESENT, 1, 1000);
}

static void test_observe__deadline_ends_a_round_with_what_is_known(void **state) {
  struct stage *stage = *state;
  publish(stage, RECORD);
  set_fault(stage, NS2, SERVER_DEAD);
  const int64_t begin = loop_boottime(stage->world->loop);
  look_for_a_second(stage);
  assert_int_equal(loop_boottime(stage->world->loop), begin + 1000);
  assert_says(&stage->results[0], NS1, OBSERVE_RIGHT, RECORD);
  assert_int_equal(server_of(&stage->results[0], NS2)->verdict, OBSERVE_SILENT);
  assert_int_equal(server_of(&stage->results[0], NS2)->at, loop_wall(stage->world->loop));
}

static void test_observe__deadline_before_the_servers_are_known_is_an_error(void **state) {
  struct stage *stage = *state;
  set_fault(stage, RESOLVER, SERVER_DEAD);
  look_for_a_second(stage);
  assert_int_equal(stage->results[0].error.code, ERROR_TIMEOUT);
  assert_non_null(strstr(stage->results[0].error.message, NAME));
}

static void test_observe__cancelled_round_is_never_heard_of(void **state) {
  struct stage *stage = *state;
  fill_batch(stage, false);
  set_fault(stage, NS2, SERVER_DEAD);
  start_round(stage, OBSERVE_PRESENT, MANY, DEADLINE_MS);
  struct observe_operation *first = stage->operation;
  world_pass(stage->world, 200);
  assert_true(stage->world->in_flight > 0);
  start_round(stage, OBSERVE_ABSENT, 1, DEADLINE_MS);
  observer_cancel(stage->observer, &first);
  assert_null(first);
  await_round(stage); /* the other one */
  assert_int_equal(stage->count, 1);
  assert_int_equal(stage->done, 1);
}

static void test_observe__observer_may_be_destroyed_when_it_answers(void **state) {
  struct stage *stage = *state;
  publish(stage, RECORD);
  stage->destroy = true;
  look(stage, OBSERVE_PRESENT, RECORD);
  assert_null(stage->observer);
}

static void test_observe__observer_may_be_destroyed_at_work(void **state) {
  struct stage *stage = *state;
  fill_batch(stage, false);
  start_round(stage, OBSERVE_PRESENT, MANY, DEADLINE_MS);
  world_pass(stage->world, 100);
  observer_destroy(stage->observer);
  stage->observer = NULL;
  assert_int_equal(stage->world->in_flight, 0);
  assert_int_equal(stage->done, 0);
}

static void test_observe__batch_has_one_to_two_thousand_names(void **state) {
  struct stage *stage = *state;
  struct error error = {0};
  const int64_t deadline = loop_boottime(stage->world->loop) + DEADLINE_MS;
  assert_int_equal(observer_start(stage->observer, OBSERVE_PRESENT, stage->items, 0, deadline, note_observed, stage,
                                  &stage->operation, &error),
                   ERROR_INVALID);
  assert_int_equal(observer_start(stage->observer, OBSERVE_PRESENT, stage->items, OBSERVE_ITEMS_MAX + 1, deadline,
                                  note_observed, stage, &stage->operation, &error),
                   ERROR_INVALID);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_observe__two_thousand_zones_run_within_the_bound),
      TEST(test_observe__many_servers_share_the_bound),
      TEST(test_observe__dead_server_delays_a_batch_by_its_attempts_once),
      TEST(test_observe__server_that_dies_in_a_batch_ends_it_soon),
      TEST(test_observe__deadline_ends_a_round_with_what_is_known),
      TEST(test_observe__deadline_before_the_servers_are_known_is_an_error),
      TEST(test_observe__cancelled_round_is_never_heard_of),
      TEST(test_observe__observer_may_be_destroyed_when_it_answers),
      TEST(test_observe__observer_may_be_destroyed_at_work),
      TEST(test_observe__batch_has_one_to_two_thousand_names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
