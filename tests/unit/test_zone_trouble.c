/* Discovery when servers are dead, lame or lie, when names or addresses are missing, and searches that end before their time. */
#include "zone_rig.h"

#include "dkimroll/zone_question.h"

static void test_zone__dead_server_costs_one_attempt(void **state) {
  struct stage *stage = *state;
  world_server(stage->world, NS1)->fault = SERVER_DEAD;
  int64_t begin = loop_boottime(stage->world->loop);
  find_example(stage);
  assert_int_equal(stage->answer.server_count, 2);
  assert_in_range(loop_boottime(stage->world->loop) - begin, ZONE_QUERY_MS, ZONE_QUERY_MS + 1000);
}

static void test_zone__server_that_is_not_authoritative_is_passed_over(void **state) {
  static const enum server_fault faults[] = {SERVER_LAME, SERVER_REFUSED, SERVER_SERVFAIL, SERVER_TRUNCATES_ALL};
  struct stage *stage = *state;
  for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
    world_server(stage->world, NS1)->fault = faults[i];
    find_example(stage);
  }
}

static void test_zone__servers_that_are_all_lame_are_an_error_that_says_so(void **state) {
  struct stage *stage = *state;
  world_server(stage->world, NS1)->fault = SERVER_LAME;
  world_server(stage->world, NS2)->fault = SERVER_LAME;
  find_name(stage, NAME);
  assert_failed(stage, ERROR_REFUSED, "not authoritative for " NAME);
  assert_true(stage->answer.error.retryable);
}

static void test_zone__truncated_answers_are_fetched_over_tcp(void **state) {
  struct stage *stage = *state;
  world_server(stage->world, NS1)->fault = SERVER_TRUNCATES;
  world_server(stage->world, COM)->fault = SERVER_TRUNCATES;
  world_server(stage->world, RESOLVER)->fault = SERVER_TRUNCATES;
  find_example(stage);
  assert_int_equal(stage->answer.server_count, 2);
}

static void test_zone__forged_answers_are_ignored(void **state) {
  struct stage *stage = *state;
  world_server(stage->world, NS1)->fault = SERVER_LIES;
  world_server(stage->world, RESOLVER)->fault = SERVER_LIES;
  find_example(stage);
  assert_int_equal(stage->answer.server_count, 2);
}

static void test_zone__second_resolver_takes_over(void **state) {
  struct stage *stage = *state;
  static char first[] = "192.0.2.54", second[] = RESOLVER;
  static char *resolvers[] = {first, second};
  world_server(stage->world, first)->resolver = true;
  world_server(stage->world, first)->fault = SERVER_DEAD;
  stage->publisher.resolvers = resolvers;
  stage->publisher.resolver_count = 2;
  find_example(stage);
  assert_int_equal(world_count(stage->world, first, NULL, 0), 1);
}

static void test_zone__dead_resolvers_fail_a_batch_soon_and_once(void **state) {
  struct stage *stage = *state;
  struct zone_search *searches[MANY] = {NULL};
  world_server(stage->world, RESOLVER)->fault = SERVER_DEAD;
  const int64_t begin = loop_boottime(stage->world->loop);
  stage->stop_at = MANY;
  for (int i = 0; i < MANY; i++) {
    char name[64];
    snprintf(name, sizeof name, "sel._domainkey.d%d.com", i);
    begin_search(stage, name, begin + DEADLINE_MS, &searches[i]);
  }
  run_loop(stage);
  assert_int_equal(stage->failed, MANY);
  assert_failed(stage, ERROR_TIMEOUT, RESOLVER ":53");
  assert_true(loop_boottime(stage->world->loop) - begin <= 3 * ZONE_QUERY_MS);
  assert_true(stage->world->query_count <= 3 * ZONE_QUESTIONS_MAX);
}

/* Domains that come one after the other must not ask it for as long as it is dead, as a run over a hundred thousand would. */
static void test_zone__dead_resolver_is_asked_ever_more_seldom(void **state) {
  struct stage *stage = *state;
  struct loop *loop = stage->world->loop;
  enum { HALF_HOUR_MS = 1800000 };
  world_server(stage->world, RESOLVER)->fault = SERVER_DEAD;
  const int64_t begin = loop_boottime(loop);
  unsigned searches = 0;
  while (loop_boottime(loop) - begin < HALF_HOUR_MS) {
    char name[64];
    snprintf(name, sizeof name, "sel._domainkey.d%u.com", searches++);
    const int64_t before = loop_boottime(loop);
    find_name(stage, name);
    assert_failed(stage, ERROR_TIMEOUT, RESOLVER ":53");
    if (loop_boottime(loop) == before) world_pass(stage->world, 100); /* it failed at once */
  }
  /* Eight attempts, then a pause of a minute: 30 times and a few at the beginning. */
  assert_in_range(world_count(stage->world, RESOLVER, NULL, 0), 8 * 20, 8 * 45);
  world_server(stage->world, RESOLVER)->fault = 0;
  world_pass(stage->world, ZONE_TROUBLE_LONGEST_MS);
  find_example(stage);
}

static void test_zone__unreachable_parent_leaves_the_servers_of_the_apex(void **state) {
  struct stage *stage = *state;
  world_server(stage->world, COM)->fault = SERVER_DEAD;
  delegate(stage->world, "com", "example.com", "old.example.com", "192.0.2.12");
  find_example(stage);
  assert_int_equal(stage->answer.server_count, 2);
}

static void test_zone__name_server_without_address_is_left_out(void **state) {
  struct stage *stage = *state;
  apex(stage->world, "example.com", "gone.example.com", NULL);
  find_example(stage);
  assert_int_equal(stage->answer.server_count, 2);
}

static void test_zone__name_server_whose_address_cannot_be_asked_for_is_kept(void **state) {
  struct stage *stage = *state;
  apex(stage->world, "example.com", "ns.elsewhere.org", NULL); /* of a top domain that the resolver fails for */
  world_zone_of(stage->world, "")->name = "nowhere";
  find_known(stage, NAME, "example.com");
  assert_found(stage, "example.com", NAME);
  assert_int_equal(stage->answer.server_count, 3);
  assert_true(has_server(stage, "ns.elsewhere.org", NULL));
}

static void test_zone__domain_that_does_not_exist_is_an_error(void **state) {
  struct stage *stage = *state;
  find_name(stage, "sel._domainkey.exmaple.com");
  assert_failed(stage, ERROR_NOT_FOUND, "exmaple.com");
}

static void test_zone__more_addresses_than_the_limit_are_an_error(void **state) {
  struct stage *stage = *state;
  for (int i = 0; i < 10; i++) {
    char host[32], address[32];
    snprintf(host, sizeof host, "nsx%d.example.com", i);
    world_add(stage->world, "example.com", "example.com", 60, DNS_TYPE_NS, host);
    for (int j = 0; j < 7; j++) {
      snprintf(address, sizeof address, "198.51.100.%d", 10 * i + j);
      world_add(stage->world, "example.com", host, 60, DNS_TYPE_A, address);
    }
  }
  find_name(stage, NAME);
  assert_failed(stage, ERROR_LIMIT, "example.com has more than");
}

static void test_zone__search_ends_at_its_deadline(void **state) {
  struct stage *stage = *state;
  struct zone_search *search = NULL;
  world_server(stage->world, RESOLVER)->fault = SERVER_DEAD;
  const int64_t deadline = loop_boottime(stage->world->loop) + 500;
  stage->stop_at = 1;
  begin_search(stage, NAME, deadline, &search);
  run_loop(stage);
  assert_failed(stage, ERROR_TIMEOUT, NAME);
  assert_int_equal(loop_boottime(stage->world->loop), deadline);
}

static void test_zone__cancelled_search_is_never_heard_of(void **state) {
  struct stage *stage = *state;
  struct zone_search *searches[100] = {NULL};
  struct error error = {0};
  for (int i = 0; i < 100; i++)
    begin_search(stage, NAME, loop_boottime(stage->world->loop) + DEADLINE_MS, &searches[i]);
  for (int i = 0; i < 100; i += 2) zone_cancel(stage->finder, &searches[i]);
  stage->stop_at = 50;
  run_loop(stage);
  assert_int_equal(stage->done, 50);
  assert_int_equal(stage->failed, 0);
  assert_int_equal(loop_run(stage->world->loop, &error), ERROR_NOT_FOUND);
  assert_int_equal(stage->done, 50);
}

static void test_zone__finder_may_be_freed_when_it_answers(void **state) {
  struct stage *stage = *state;
  struct zone_search *other = NULL;
  stage->free_finder = true;
  int64_t deadline = loop_boottime(stage->world->loop) + DEADLINE_MS;
  begin_search(stage, "sel._domainkey.provider.net", deadline, &other);
  find_name(stage, NAME);
  assert_int_equal(stage->done, 1);
  assert_null(stage->finder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_zone__dead_server_costs_one_attempt),
      TEST(test_zone__server_that_is_not_authoritative_is_passed_over),
      TEST(test_zone__servers_that_are_all_lame_are_an_error_that_says_so),
      TEST(test_zone__truncated_answers_are_fetched_over_tcp),
      TEST(test_zone__forged_answers_are_ignored),
      TEST(test_zone__second_resolver_takes_over),
      TEST(test_zone__dead_resolvers_fail_a_batch_soon_and_once),
      TEST(test_zone__dead_resolver_is_asked_ever_more_seldom),
      TEST(test_zone__unreachable_parent_leaves_the_servers_of_the_apex),
      TEST(test_zone__name_server_without_address_is_left_out),
      TEST(test_zone__name_server_whose_address_cannot_be_asked_for_is_kept),
      TEST(test_zone__domain_that_does_not_exist_is_an_error),
      TEST(test_zone__more_addresses_than_the_limit_are_an_error),
      TEST(test_zone__search_ends_at_its_deadline),
      TEST(test_zone__cancelled_search_is_never_heard_of),
      TEST(test_zone__finder_may_be_freed_when_it_answers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
