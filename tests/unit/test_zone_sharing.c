/* Discovery for many names at once: what is known of a zone is shared, for a minute, by those who ask the same servers; questions keep within their bound. */
#include "zone_rig.h"

#include "dkimroll/zone_question.h"

static void test_zone__searches_for_one_zone_share_their_questions(void **state) {
  struct stage *stage = *state;
  struct zone_search *search = NULL;
  stage->stop_at = 500;
  for (int i = 0; i < 500; i++) {
    char name[64];
    snprintf(name, sizeof name, "sel%d._domainkey.example.com", i);
    begin_search(stage, name, loop_boottime(stage->world->loop) + DEADLINE_MS, &search);
  }
  run_loop(stage);
  assert_int_equal(stage->failed, 0);
  assert_int_equal(world_count(stage->world, RESOLVER, "example.com", DNS_TYPE_SOA), 1);
  assert_int_equal(world_count(stage->world, COM, NULL, 0), 1);
  assert_true(stage->world->query_count < 500 + 40); /* one for each name, and the rest once */
}

static void test_zone__answers_about_zones_serve_a_minute(void **state) {
  struct stage *stage = *state;
  find_name(stage, NAME);
  const size_t first = stage->world->query_count;
  find_name(stage, NAME);
  assert_int_equal(stage->world->query_count, first + 1);
  assert_found(stage, "example.com", NAME);
  assert_int_equal(stage->answer.server_count, 2);
  apex(stage->world, "example.com", "ns3.example.com", "192.0.2.12");
  find_name(stage, NAME);
  assert_int_equal(stage->answer.server_count, 2);
  world_pass(stage->world, ZONE_CACHE_SECONDS * 1000);
  find_name(stage, NAME);
  assert_int_equal(stage->answer.server_count, 3);
}

static void test_zone__publishers_with_other_servers_share_nothing(void **state) {
  struct stage *stage = *state;
  static char inside[] = "192.0.2.30:5300", outside[] = "192.0.2.31:5300";
  world_serve(stage->world, inside, "example.com");
  world_serve(stage->world, outside, "example.com");
  world_add(stage->world, "example.com", "example.com", 60, DNS_TYPE_NS, "ns.provider.net")->server =
      world_server(stage->world, inside)->text;
  stage->publisher.server = outside;
  find_example(stage);
  assert_int_equal(stage->answer.server_count, 2);
  stage->publisher.server = inside;
  find_example(stage);
  assert_int_equal(stage->answer.server_count, 3);
}

static void test_zone__two_thousand_zones_keep_within_the_bounds(void **state) {
  struct stage *stage = *state;
  struct world *world = stage->world;
  struct zone_search *search = NULL;
  for (int i = 0; i < MANY; i++) {
    char zone[32];
    snprintf(zone, sizeof zone, "d%d.com", i);
    add_domain(world, zone);
  }
  stage->stop_at = MANY;
  const int64_t begin = loop_boottime(world->loop);
  for (int i = 0; i < MANY; i++) {
    char name[64];
    snprintf(name, sizeof name, "sel._domainkey.d%d.com", i);
    begin_search(stage, name, begin + DEADLINE_MS, &search);
  }
  run_loop(stage);
  if (stage->failed) fail_msg("%zu failed", stage->failed);
  assert_true(world->in_flight_max <= ZONE_QUESTIONS_MAX);
  assert_true(world->query_count <= 6 * MANY);
  assert_int_equal(world_count(world, RESOLVER, "ns1.example.com", DNS_TYPE_AAAA), 1);
  assert_true(loop_boottime(world->loop) - begin < 10000);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_zone__searches_for_one_zone_share_their_questions),
      TEST(test_zone__answers_about_zones_serve_a_minute),
      TEST(test_zone__publishers_with_other_servers_share_nothing),
      TEST(test_zone__two_thousand_zones_keep_within_the_bounds),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
