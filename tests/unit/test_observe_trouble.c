/* Servers that fail, lie or cannot be reached when a record is looked for: silence and its reason, and that it takes nobody else along. */
#include "observe_rig.h"

static void test_observe__dead_server_is_silent_after_its_attempts(void **state) {
  struct stage *stage = *state;
  publish(stage, RECORD);
  set_fault(stage, NS2, SERVER_DEAD);
  const int64_t begin = loop_boottime(stage->world->loop);
  const struct observe_result *result = look(stage, OBSERVE_PRESENT, RECORD);
  assert_says(result, NS1, OBSERVE_RIGHT, RECORD);
  assert_says(result, NS2, OBSERVE_SILENT, "no answer in 8 s");
  assert_int_equal(server_of(result, NS2)->at, loop_wall(stage->world->loop));
  assert_in_range(loop_boottime(stage->world->loop) - begin, SILENCE_MS, SILENCE_MS + 500);
  assert_int_equal(world_count(stage->world, NS2, NAME, DNS_TYPE_TXT), OBSERVE_ATTEMPTS + 1);
}

static void test_observe__failures_have_their_own_words(void **state) {
  static const struct {
    enum server_fault fault;
    enum observe_verdict verdict;
    const char *answer;
  } cases[] = {
      {SERVER_SERVFAIL, OBSERVE_SILENT, "SERVFAIL"},
      {SERVER_REFUSED, OBSERVE_SILENT, "REFUSED"},
      {SERVER_LAME, OBSERVE_SILENT, "not authoritative"},
      {SERVER_UNREACHABLE, OBSERVE_SILENT, "Connection refused"},
      {SERVER_NO_ROUTE, OBSERVE_NO_ROUTE, "Network is unreachable"},
      {SERVER_TRUNCATES_ALL, OBSERVE_SILENT, "the answer is truncated even over TCP"},
      {SERVER_GARBAGE, OBSERVE_SILENT, "no answer in 8 s"},
  };
  struct stage *stage = *state;
  publish(stage, RECORD);
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    set_fault(stage, NS2, cases[i].fault);
    const struct observe_result *result = look(stage, OBSERVE_PRESENT, RECORD);
    assert_says(result, NS1, OBSERVE_RIGHT, RECORD);
    assert_says(result, NS2, cases[i].verdict, cases[i].answer);
  }
}

static void test_observe__what_this_host_could_not_ask_is_blamed_on_no_server(void **state) {
  static const enum observe_kind kinds[] = {OBSERVE_PRESENT, OBSERVE_ABSENT, OBSERVE_SURVEY};
  struct stage *stage = *state;
  publish(stage, RECORD);
  set_fault(stage, NS2, SERVER_NO_SOCKET);
  for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
    stage->items[0] = (struct observe_item){.name = NAME, .record = RECORD, .publisher = &stage->publisher};
    run_round(stage, kinds[i], 1, DEADLINE_MS);
    const struct error *error = &stage->results[0].error;
    assert_true(error->code == ERROR_SYSTEM && error->retryable);
    assert_string_equal(error->message, NS2 ":53: Too many open files");
  }
  set_fault(stage, NS2, SERVER_WELL);
  assert_says(look(stage, OBSERVE_PRESENT, RECORD), NS2, OBSERVE_RIGHT, RECORD);
}

static void test_observe__answers_that_come_hard_are_right_all_the_same(void **state) {
  static const enum server_fault faults[] = {SERVER_TRUNCATES, SERVER_ONLY_TCP, SERVER_LIES, SERVER_LOSES_FIRST};
  struct stage *stage = *state;
  publish(stage, RECORD);
  for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
    set_fault(stage, NS2, faults[i]);
    assert_says(look(stage, OBSERVE_PRESENT, RECORD), NS2, OBSERVE_RIGHT, RECORD);
  }
}

static void test_observe__truncated_answer_is_fetched_over_tcp_at_once(void **state) {
  struct stage *stage = *state;
  publish(stage, RECORD);
  set_fault(stage, NS1, SERVER_TRUNCATES);
  set_fault(stage, NS2, SERVER_TRUNCATES);
  const int64_t begin = loop_boottime(stage->world->loop);
  look(stage, OBSERVE_PRESENT, RECORD);
  assert_true(loop_boottime(stage->world->loop) - begin < 500);
}

static void test_observe__truncated_answer_that_tcp_does_not_complete_is_silence(void **state) {
  struct stage *stage = *state;
  publish(stage, RECORD);
  set_fault(stage, NS2, SERVER_TRUNCATES)->tcp_is_dead = true;
  const struct observe_server *server = server_of(look(stage, OBSERVE_PRESENT, RECORD), NS2);
  assert_int_equal(server->verdict, OBSERVE_SILENT);
  assert_non_null(strstr(server->answer, "truncated"));
}

static void test_observe__server_whose_address_is_not_found_out_is_silent(void **state) {
  struct stage *stage = *state;
  publish(stage, RECORD);
  apex(stage->world, "example.com", "ns.elsewhere.org", NULL);
  world_zone_of(stage->world, "")->name = "nowhere"; /* the resolver fails for other top domains */
  const struct observe_result *result = look(stage, OBSERVE_PRESENT, RECORD);
  assert_int_equal(result->server_count, 3);
  assert_says(result, "unknown", OBSERVE_SILENT, "its address could not be found out");
}

static void test_observe__given_servers_go_by_their_addresses(void **state) {
  struct stage *stage = *state;
  static char given[] = "127.0.0.1:5300";
  static char *servers[] = {given};
  world_serve(stage->world, given, "example.com");
  publish(stage, RECORD);
  stage->publisher.servers = servers;
  stage->publisher.server_count = ARRAY_SIZE(servers);
  const struct observe_result *result = look(stage, OBSERVE_PRESENT, RECORD);
  assert_int_equal(result->server_count, 1);
  assert_string_equal(result->servers[0].host, given);
  assert_string_equal(result->servers[0].address, given);
  assert_int_equal(result->servers[0].verdict, OBSERVE_RIGHT);
}

static void test_observe__domain_that_is_not_there_fails_alone(void **state) {
  struct stage *stage = *state;
  publish(stage, RECORD);
  static const char *const names[] = {NAME, "sel._domainkey.exmaple.com", "sel._domainkey.provider.net"};
  for (size_t i = 0; i < ARRAY_SIZE(names); i++)
    stage->items[i] = (struct observe_item){.name = names[i], .record = RECORD, .publisher = &stage->publisher};
  run_round(stage, OBSERVE_PRESENT, 3, DEADLINE_MS);
  assert_int_equal(stage->count, 3);
  assert_int_equal(stage->results[0].error.code, 0);
  assert_int_equal(stage->results[1].error.code, ERROR_NOT_FOUND);
  assert_int_equal(stage->results[1].server_count, 0);
  assert_says(&stage->results[2], PROVIDER, OBSERVE_WRONG, "NXDOMAIN");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_observe__dead_server_is_silent_after_its_attempts),
      TEST(test_observe__failures_have_their_own_words),
      TEST(test_observe__what_this_host_could_not_ask_is_blamed_on_no_server),
      TEST(test_observe__answers_that_come_hard_are_right_all_the_same),
      TEST(test_observe__truncated_answer_is_fetched_over_tcp_at_once),
      TEST(test_observe__truncated_answer_that_tcp_does_not_complete_is_silence),
      TEST(test_observe__server_whose_address_is_not_found_out_is_silent),
      TEST(test_observe__given_servers_go_by_their_addresses),
      TEST(test_observe__domain_that_is_not_there_fails_alone),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
