/* Rounds of observation in the small internet of fake_internet.h. */
#include "fake_internet.h"

#include "dkimroll/observe.h"
#include "dkimroll/observe_work.h"

#define NAME "sel._domainkey.example.com"
#define RECORD "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
#define OTHER "v=DKIM1; k=ed25519; p=SomebodyElse"
#define REVOKED "v=DKIM1; k=ed25519; p="

enum {
  DEADLINE_MS = 60000,
  MANY = 2000,
  SILENCE_MS = (OBSERVE_ATTEMPTS + 1) * OBSERVE_ATTEMPT_MS,
};

struct stage {
  struct world *world;
  struct observer *observer;
  struct policy_publisher publisher;
  struct observe_item items[MANY];
  char names[MANY][64];
  struct observe_operation *operation;
  struct observe_result results[MANY]; /* servers copied */
  size_t count, done;
  bool destroy;
};

static char *resolver_list[] = {(char[]){RESOLVER}};

static int setup(void **state) {
  static char name[] = "primary";
  struct stage *stage = calloc(1, sizeof *stage);
  struct error error = {0};
  assert_non_null(stage);
  world_open(&stage->world);
  build_internet(stage->world);
  stage->publisher = (struct policy_publisher){.name = name, .resolvers = resolver_list, .resolver_count = 1};
  assert_int_equal(observer_dns_new(stage->world->loop, &stage->world->transport, &stage->world->random.entropy,
                                    &stage->observer, &error),
                   0);
  *state = stage;
  return 0;
}

static void forget_results(struct stage *stage) {
  for (size_t i = 0; i < stage->count; i++) free(stage->results[i].servers);
  stage->count = 0;
}

static int teardown(void **state) {
  struct stage *stage = *state;
  forget_results(stage);
  world_assert_discretion(stage->world);
  observer_destroy(stage->observer);
  world_close(stage->world);
  free(stage);
  return 0;
}

static void observed(void *context, const struct observe_result *results, size_t count) {
  struct stage *stage = context;
  forget_results(stage);
  for (size_t i = 0; i < count; i++) {
    stage->results[i] = results[i];
    stage->results[i].servers = calloc(results[i].server_count + 1, sizeof *results[i].servers);
    assert_non_null(stage->results[i].servers);
    if (results[i].server_count > 0)
      memcpy(stage->results[i].servers, results[i].servers, results[i].server_count * sizeof *results[i].servers);
  }
  stage->count = count;
  stage->done++;
  if (stage->destroy) {
    observer_destroy(stage->observer);
    stage->observer = NULL;
  }
  loop_stop(stage->world->loop);
}

static void start(struct stage *stage, enum observe_kind kind, size_t count, int64_t milliseconds) {
  struct error error = {0};
  stage->operation = NULL;
  int code =
      observer_start(stage->observer, kind, stage->items, count, loop_boottime(stage->world->loop) + milliseconds,
                     observed, stage, &stage->operation, &error);
  if (code) fail_msg("%s", error.message);
  assert_non_null(stage->operation);
}

static void stop(void *context) {
  loop_stop(context);
}

static void run(struct stage *stage) {
  struct error error = {0};
  const size_t before = stage->done;
  if (loop_run(stage->world->loop, &error)) fail_msg("%s", error.message);
  assert_int_equal(stage->done, before + 1);
}

/* One round about one name. */
static const struct observe_result *look(struct stage *stage, enum observe_kind kind, const char *record) {
  stage->items[0] = (struct observe_item){.name = NAME, .record = record, .publisher = &stage->publisher};
  start(stage, kind, 1, DEADLINE_MS);
  run(stage);
  if (stage->results[0].error.code) fail_msg("%s", stage->results[0].error.message);
  return &stage->results[0];
}

static const struct observe_server *server_of(const struct observe_result *result, const char *address) {
  for (size_t i = 0; i < result->server_count; i++)
    if (text_starts(result->servers[i].address, address)) return &result->servers[i];
  fail_msg("no server %s", address);
  abort();
}

static void assert_says(const struct observe_result *result, const char *address, enum observe_verdict verdict,
                        const char *answer) {
  const struct observe_server *server = server_of(result, address);
  if (server->verdict != verdict || !text_equal(server->answer, answer))
    fail_msg("%s: verdict %d, \"%s\"", address, (int)server->verdict, server->answer);
}

static struct world_record *publish(struct stage *stage, const char *text) {
  return world_add(stage->world, "example.com", NAME, 3600, DNS_TYPE_TXT, text);
}

static void publish_at(struct stage *stage, const char *server, const char *text) {
  publish(stage, text)->server = world_server(stage->world, server)->text;
}

static struct world_server *fault(struct stage *stage, const char *server, enum server_fault fault) {
  world_server(stage->world, server)->fault = fault;
  return world_server(stage->world, server);
}

/* --- present --- */

static void test_observe__record_that_every_server_serves_is_right(void **state) {
  struct stage *stage = *state;
  publish(stage, RECORD);
  const struct observe_result *result = look(stage, OBSERVE_PRESENT, RECORD);
  assert_string_equal(result->zone, "example.com");
  assert_string_equal(result->owner, NAME);
  assert_string_equal(result->primary, "ns1.example.com");
  assert_int_equal(result->ttl_negative, 300);
  assert_int_equal(result->server_count, 2);
  assert_says(result, NS1, OBSERVE_RIGHT, RECORD);
  assert_says(result, NS2, OBSERVE_RIGHT, RECORD);
  assert_string_equal(server_of(result, NS1)->host, "ns1.example.com");
  assert_string_equal(server_of(result, NS1)->address, NS1 ":53");
  assert_int_equal(server_of(result, NS1)->ttl, 3600);
  assert_int_equal(server_of(result, NS1)->at, loop_wall(stage->world->loop));
}

static void test_observe__server_that_lags_is_wrong_and_says_what_it_said(void **state) {
  struct stage *stage = *state;
  publish_at(stage, NS1, RECORD);
  const struct observe_result *result = look(stage, OBSERVE_PRESENT, RECORD);
  assert_says(result, NS1, OBSERVE_RIGHT, RECORD);
  assert_says(result, NS2, OBSERVE_WRONG, "NXDOMAIN");
  assert_int_equal(server_of(result, NS2)->ttl_negative, 300);
  assert_int_equal(server_of(result, NS2)->ttl, -1);
}

static void test_observe__name_without_txt_is_wrong(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", NAME, 60, DNS_TYPE_A, "192.0.2.99");
  assert_says(look(stage, OBSERVE_PRESENT, RECORD), NS1, OBSERVE_WRONG, "no TXT record");
}

static void test_observe__another_txt_is_wrong(void **state) {
  struct stage *stage = *state;
  publish(stage, OTHER);
  assert_says(look(stage, OBSERVE_PRESENT, RECORD), NS1, OBSERVE_WRONG, "another TXT: " OTHER);
}

/* The sanitizer also sees whether what was kept of the answer is freed. */
static void test_observe__txt_that_cannot_be_read_is_wrong_and_no_silence(void **state) {
  struct stage *stage = *state;
  publish(stage, WORLD_UNREADABLE);
  assert_says(look(stage, OBSERVE_PRESENT, RECORD), NS1, OBSERVE_WRONG, "another TXT: a TXT that cannot be read");
}

static void test_observe__letters_of_other_case_make_another_txt(void **state) {
  struct stage *stage = *state;
  publish(stage, "v=DKIM1; k=ed25519; p=11qyAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
  assert_int_equal(server_of(look(stage, OBSERVE_PRESENT, RECORD), NS1)->verdict, OBSERVE_WRONG);
}

static void test_observe__second_txt_beside_the_right_one_is_wrong(void **state) {
  struct stage *stage = *state;
  publish(stage, RECORD);
  publish_at(stage, NS2, "v=spf1 -all");
  const struct observe_result *result = look(stage, OBSERVE_PRESENT, RECORD);
  assert_says(result, NS1, OBSERVE_RIGHT, RECORD);
  assert_says(result, NS2, OBSERVE_WRONG, "2 TXT records");
}

static void test_observe__alias_at_one_server_is_wrong_there(void **state) {
  struct stage *stage = *state;
  publish_at(stage, NS1, RECORD);
  world_add(stage->world, "example.com", NAME, 60, DNS_TYPE_CNAME, "k.provider.net")->server =
      world_server(stage->world, NS2)->text;
  assert_says(look(stage, OBSERVE_PRESENT, RECORD), NS2, OBSERVE_WRONG, "CNAME to k.provider.net");
}

static void test_observe__long_record_in_several_strings_is_compared_as_one(void **state) {
  struct stage *stage = *state;
  char record[800] = "v=DKIM1; k=rsa; p=";
  for (size_t i = strlen(record); i < sizeof record - 1; i++) record[i] = (char)('A' + i % 26);
  publish(stage, record);
  const struct observe_result *result = look(stage, OBSERVE_PRESENT, record);
  assert_int_equal(server_of(result, NS1)->verdict, OBSERVE_RIGHT);
  assert_true(strlen(server_of(result, NS1)->answer) < OBSERVE_ANSWER_TEXT_MAX);
}

static void test_observe__record_behind_an_alias_is_asked_for_where_it_lives(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", "_domainkey.example.com", 60, DNS_TYPE_DNAME, "c1.provider.net");
  world_add(stage->world, "provider.net", "sel.c1.provider.net", 60, DNS_TYPE_TXT, RECORD);
  const struct observe_result *result = look(stage, OBSERVE_PRESENT, RECORD);
  assert_string_equal(result->zone, "provider.net");
  assert_string_equal(result->owner, "sel.c1.provider.net");
  assert_int_equal(result->server_count, 1);
  assert_says(result, PROVIDER, OBSERVE_RIGHT, RECORD);
}

/* --- servers that fail --- */

static void test_observe__dead_server_is_silent_after_its_attempts(void **state) {
  struct stage *stage = *state;
  publish(stage, RECORD);
  stage->items[0].zone = NULL;
  fault(stage, NS2, SERVER_DEAD);
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
    fault(stage, NS2, cases[i].fault);
    const struct observe_result *result = look(stage, OBSERVE_PRESENT, RECORD);
    assert_says(result, NS1, OBSERVE_RIGHT, RECORD);
    assert_says(result, NS2, cases[i].verdict, cases[i].answer);
  }
}

static void test_observe__answers_that_come_hard_are_right_all_the_same(void **state) {
  static const enum server_fault faults[] = {SERVER_TRUNCATES, SERVER_ONLY_TCP, SERVER_LIES, SERVER_LOSES_FIRST};
  struct stage *stage = *state;
  publish(stage, RECORD);
  for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
    fault(stage, NS2, faults[i]);
    assert_says(look(stage, OBSERVE_PRESENT, RECORD), NS2, OBSERVE_RIGHT, RECORD);
  }
}

static void test_observe__truncated_answer_is_fetched_over_tcp_at_once(void **state) {
  struct stage *stage = *state;
  publish(stage, RECORD);
  fault(stage, NS1, SERVER_TRUNCATES);
  fault(stage, NS2, SERVER_TRUNCATES);
  const int64_t begin = loop_boottime(stage->world->loop);
  look(stage, OBSERVE_PRESENT, RECORD);
  assert_true(loop_boottime(stage->world->loop) - begin < 500);
}

static void test_observe__truncated_answer_that_tcp_does_not_complete_is_silence(void **state) {
  struct stage *stage = *state;
  publish(stage, RECORD);
  fault(stage, NS2, SERVER_TRUNCATES)->tcp_is_dead = true;
  const struct observe_server *server = server_of(look(stage, OBSERVE_PRESENT, RECORD), NS2);
  assert_int_equal(server->verdict, OBSERVE_SILENT);
  assert_non_null(strstr(server->answer, "truncated"));
}

static void test_observe__server_whose_address_is_not_found_out_is_silent(void **state) {
  struct stage *stage = *state;
  publish(stage, RECORD);
  apex(stage->world, "example.com", "ns.elsewhere.org", NULL);
  world_zone_of(stage->world, "")->name = "nowhere"; /* the resolver fails for other top domains */
  stage->items[0].zone = "example.com";
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
  stage->publisher.server_count = 1;
  const struct observe_result *result = look(stage, OBSERVE_PRESENT, RECORD);
  assert_int_equal(result->server_count, 1);
  assert_string_equal(result->servers[0].host, given);
  assert_string_equal(result->servers[0].address, given);
  assert_int_equal(result->servers[0].verdict, OBSERVE_RIGHT);
}

static void test_observe__domain_that_is_not_there_fails_alone(void **state) {
  struct stage *stage = *state;
  publish(stage, RECORD);
  stage->items[0] = (struct observe_item){.name = NAME, .record = RECORD, .publisher = &stage->publisher};
  stage->items[1] =
      (struct observe_item){.name = "sel._domainkey.exmaple.com", .record = RECORD, .publisher = &stage->publisher};
  stage->items[2] =
      (struct observe_item){.name = "sel._domainkey.provider.net", .record = RECORD, .publisher = &stage->publisher};
  start(stage, OBSERVE_PRESENT, 3, DEADLINE_MS);
  run(stage);
  assert_int_equal(stage->count, 3);
  assert_int_equal(stage->results[0].error.code, 0);
  assert_int_equal(stage->results[1].error.code, ERROR_NOT_FOUND);
  assert_int_equal(stage->results[1].server_count, 0);
  assert_says(&stage->results[2], PROVIDER, OBSERVE_WRONG, "NXDOMAIN");
}

/* --- signed zones --- */

static void test_observe__signed_zone_needs_a_signature_that_is_valid_now(void **state) {
  struct stage *stage = *state;
  struct world_server *server = world_server(stage->world, NS2);
  publish(stage, RECORD);
  world_zone_of(stage->world, "example.com")->is_signed = true;
  assert_says(look(stage, OBSERVE_PRESENT, RECORD), NS2, OBSERVE_RIGHT, RECORD);
  server->unsigned_texts = true;
  assert_says(look(stage, OBSERVE_PRESENT, RECORD), NS2, OBSERVE_WRONG, "the TXT has no RRSIG, but the zone is signed");
  server->unsigned_texts = false;
  server->signed_until = -1;
  assert_says(look(stage, OBSERVE_PRESENT, RECORD), NS2, OBSERVE_WRONG, "the RRSIG of the TXT has expired");
  server->signed_until = 0;
  server->signed_from = 60;
  assert_says(look(stage, OBSERVE_PRESENT, RECORD), NS2, OBSERVE_WRONG, "the RRSIG of the TXT is not valid yet");
  server->signed_from = 0;
  server->signer = "com";
  assert_says(look(stage, OBSERVE_PRESENT, RECORD), NS2, OBSERVE_WRONG, "the RRSIG of the TXT is not by the zone");
  assert_says(look(stage, OBSERVE_PRESENT, RECORD), NS1, OBSERVE_RIGHT, RECORD);
}

static void test_observe__signature_from_one_server_obliges_the_others(void **state) {
  struct stage *stage = *state;
  static char primary[] = "192.0.2.30"; /* hidden and not signing: it is asked for the SOA */
  static char public[] = NS1;
  static char *servers[] = {primary, public};
  publish(stage, RECORD);
  world_zone_of(stage->world, "example.com")->is_signed = true;
  world_serve(stage->world, primary, "example.com");
  world_server(stage->world, primary)->unsigned_all = true;
  stage->publisher.servers = servers;
  stage->publisher.server_count = 2;
  const struct observe_result *result = look(stage, OBSERVE_PRESENT, RECORD);
  assert_says(result, NS1, OBSERVE_RIGHT, RECORD);
  assert_says(result, primary, OBSERVE_WRONG, "the TXT has no RRSIG, but the zone is signed");
}

/* --- absent --- */

static void test_observe__record_is_absent_when_its_content_is_gone(void **state) {
  struct stage *stage = *state;
  publish_at(stage, NS2, RECORD);
  const struct observe_result *result = look(stage, OBSERVE_ABSENT, RECORD);
  assert_says(result, NS1, OBSERVE_RIGHT, "NXDOMAIN");
  assert_says(result, NS2, OBSERVE_WRONG, RECORD);
}

static void test_observe__foreign_text_does_not_make_a_record_present(void **state) {
  struct stage *stage = *state;
  publish(stage, OTHER);
  assert_says(look(stage, OBSERVE_ABSENT, RECORD), NS1, OBSERVE_RIGHT, OTHER);
}

static void test_observe__record_among_others_is_not_absent(void **state) {
  struct stage *stage = *state;
  publish(stage, OTHER);
  publish(stage, RECORD);
  assert_says(look(stage, OBSERVE_ABSENT, RECORD), NS1, OBSERVE_WRONG, "2 TXT records");
}

static void test_observe__both_contents_must_be_gone(void **state) {
  struct stage *stage = *state;
  publish(stage, REVOKED);
  stage->items[0] =
      (struct observe_item){.name = NAME, .record = RECORD, .record_also = REVOKED, .publisher = &stage->publisher};
  start(stage, OBSERVE_ABSENT, 1, DEADLINE_MS);
  run(stage);
  assert_says(&stage->results[0], NS1, OBSERVE_WRONG, REVOKED);
}

/* --- survey --- */

static void test_observe__name_that_nobody_made_is_free(void **state) {
  struct stage *stage = *state;
  const struct observe_result *result = look(stage, OBSERVE_SURVEY, NULL);
  assert_true(result->free);
  assert_string_equal(result->foreign, "");
  assert_int_equal(result->ttl_negative, 300);
  assert_int_equal(result->ttl_old, -1);
  assert_says(result, NS1, OBSERVE_RIGHT, "NXDOMAIN");
}

static void test_observe__survey_asks_every_server_for_a_random_sibling(void **state) {
  struct stage *stage = *state;
  look(stage, OBSERVE_SURVEY, NULL);
  size_t siblings = 0;
  const char *first = NULL;
  for (size_t i = 0; i < stage->world->query_count; i++) {
    const struct world_query *query = &stage->world->queries[i];
    if (query->type != DNS_TYPE_TXT || text_equal(query->name, NAME)) continue;
    assert_true(text_ends(query->name, "._domainkey.example.com"));
    assert_int_equal(strspn(query->name, "abcdefghijklmnopqrstuvwxyz0123456789"), OBSERVE_SIBLING_LETTERS);
    if (first) assert_string_equal(query->name, first);
    first = query->name;
    siblings++;
  }
  assert_int_equal(siblings, 2);
}

static void test_observe__largest_negative_ttl_of_all_servers_counts(void **state) {
  struct stage *stage = *state;
  world_server(stage->world, NS2)->extra_minimum = 1000;
  assert_int_equal(look(stage, OBSERVE_SURVEY, NULL)->ttl_negative, 1300);
}

static void test_observe__wildcard_text_leaves_names_free_and_counts_as_old(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", "*.example.com", 86400, DNS_TYPE_TXT, "v=spf1 -all");
  world_add(stage->world, "example.com", "*.example.com", 86400, DNS_TYPE_TXT, "hello");
  world_server(stage->world, NS1)->rotates = true;
  const struct observe_result *result = look(stage, OBSERVE_SURVEY, NULL);
  assert_true(result->free);
  assert_int_equal(result->ttl_old, 86400);
}

static void test_observe__wildcard_cname_counts_as_old(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", "*._domainkey.example.com", 86400, DNS_TYPE_CNAME, "key.provider.net");
  const struct observe_result *result = look(stage, OBSERVE_SURVEY, NULL);
  assert_true(result->free);
  assert_string_equal(result->owner, "key.provider.net");
  assert_int_equal(result->ttl_old, 86400);
}

static void test_observe__one_name_for_all_selectors_is_not_free_twice(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", "*._domainkey.example.com", 86400, DNS_TYPE_CNAME, "key.provider.net");
  world_add(stage->world, "provider.net", "key.provider.net", 60, DNS_TYPE_TXT, OTHER);
  const struct observe_result *result = look(stage, OBSERVE_SURVEY, NULL);
  assert_false(result->free);
  assert_string_equal(result->foreign, OTHER);
}

static void test_observe__ttl_of_nsec_counts_as_old(void **state) {
  struct stage *stage = *state;
  world_zone_of(stage->world, "example.com")->is_signed = true;
  const struct observe_result *result = look(stage, OBSERVE_SURVEY, NULL);
  assert_true(result->free);
  assert_int_equal(result->ttl_old, 7200);
}

static void test_observe__text_at_one_server_takes_the_name(void **state) {
  struct stage *stage = *state;
  publish_at(stage, NS2, OTHER);
  const struct observe_result *result = look(stage, OBSERVE_SURVEY, NULL);
  assert_false(result->free);
  assert_string_equal(result->foreign, OTHER);
  assert_says(result, NS1, OBSERVE_RIGHT, "NXDOMAIN");
  assert_says(result, NS2, OBSERVE_WRONG, OTHER);
  assert_int_equal(result->ttl_old, 3600);
}

static void test_observe__name_that_exists_without_text_is_taken(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", NAME, 60, DNS_TYPE_A, "192.0.2.99");
  const struct observe_result *result = look(stage, OBSERVE_SURVEY, NULL);
  assert_false(result->free);
  assert_string_equal(result->foreign, "no TXT record");
}

static void test_observe__survey_of_silent_servers_finds_nothing_free(void **state) {
  struct stage *stage = *state;
  fault(stage, NS1, SERVER_REFUSED);
  fault(stage, NS2, SERVER_DEAD);
  stage->items[0] = (struct observe_item){.name = NAME, .zone = "example.com", .publisher = &stage->publisher};
  start(stage, OBSERVE_SURVEY, 1, DEADLINE_MS);
  run(stage);
  assert_int_equal(stage->results[0].error.code, 0);
  assert_false(stage->results[0].free);
  assert_says(&stage->results[0], NS1, OBSERVE_SILENT, "REFUSED");
  assert_says(&stage->results[0], NS2, OBSERVE_SILENT, "no answer in 8 s");
  assert_int_equal(stage->results[0].ttl_negative, -1);
}

static void test_observe__survey_goes_by_the_servers_that_answer(void **state) {
  struct stage *stage = *state;
  fault(stage, NS2, SERVER_DEAD);
  const struct observe_result *result = look(stage, OBSERVE_SURVEY, NULL);
  assert_true(result->free);
  assert_says(result, NS2, OBSERVE_SILENT, "no answer in 8 s");
}

static void test_observe__server_that_refuses_the_sibling_says_nothing_about_the_name(void **state) {
  struct stage *stage = *state;
  fault(stage, NS2, SERVER_PICKY);
  publish_at(stage, NS2, OTHER);
  const struct observe_result *result = look(stage, OBSERVE_SURVEY, NULL);
  assert_says(result, NS2, OBSERVE_SILENT, "no usable answer about a random name beside it");
  assert_says(result, NS1, OBSERVE_RIGHT, "NXDOMAIN");
}

static void test_observe__longest_name_has_a_sibling_too(void **state) {
  struct stage *stage = *state;
  char name[DNS_NAME_TEXT_SIZE];
  snprintf(name, sizeof name, "s._domainkey.%060d.%060d.%060d.%042d.example.com", 1, 2, 3, 4);
  assert_int_equal(strlen(name), 250);
  stage->items[0] = (struct observe_item){.name = name, .publisher = &stage->publisher};
  start(stage, OBSERVE_SURVEY, 1, DEADLINE_MS);
  run(stage);
  assert_int_equal(stage->results[0].error.code, 0);
  assert_true(stage->results[0].free);
}

/* --- batches --- */

static void make_zone(struct world *world, const char *zone) {
  world_zone(world, zone, 60, 60, "ns1.example.com");
  world_serve(world, NS1, zone);
  world_serve(world, NS2, zone);
  delegate(world, "com", zone, "ns1.example.com", NULL);
  delegate(world, "com", zone, "ns2.example.com", NULL);
  apex(world, zone, "ns1.example.com", NULL);
  apex(world, zone, "ns2.example.com", NULL);
}

/* Two thousand domains with a record each, in one zone or in as many. */
static void fill_batch(struct stage *stage, bool zones) {
  for (int i = 0; i < MANY; i++) {
    char domain[32];
    snprintf(domain, sizeof domain, zones ? "d%d.com" : "d%d.example.com", i);
    snprintf(stage->names[i], sizeof stage->names[i], "sel._domainkey.%s", domain);
    stage->items[i] = (struct observe_item){.name = stage->names[i], .record = RECORD, .publisher = &stage->publisher};
    if (zones) make_zone(stage->world, domain);
    world_add(stage->world, zones ? domain : "example.com", stage->names[i], 60, DNS_TYPE_TXT, RECORD);
  }
}

static void test_observe__two_thousand_zones_run_within_the_bound(void **state) {
  struct stage *stage = *state;
  fill_batch(stage, true);
  const int64_t begin = loop_boottime(stage->world->loop);
  start(stage, OBSERVE_PRESENT, MANY, DEADLINE_MS);
  run(stage);
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
  start(stage, OBSERVE_PRESENT, MANY, DEADLINE_MS);
  run(stage);
  for (int i = 0; i < MANY; i++) {
    assert_int_equal(stage->results[i].server_count, 8);
    for (int j = 0; j < 8; j++) assert_int_equal(stage->results[i].servers[j].verdict, OBSERVE_RIGHT);
  }
  assert_true(stage->world->in_flight_max <= OBSERVE_QUERIES_IN_FLIGHT_MAX + ZONE_QUESTIONS_MAX);
}

static void test_observe__dead_server_delays_a_batch_by_its_attempts_once(void **state) {
  struct stage *stage = *state;
  fill_batch(stage, false);
  fault(stage, NS2, SERVER_DEAD);
  const int64_t begin = loop_boottime(stage->world->loop);
  start(stage, OBSERVE_PRESENT, MANY, DEADLINE_MS);
  run(stage);
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
  fault(stage, NS2, SERVER_DEAD);
}

static void test_observe__server_that_dies_in_a_batch_ends_it_soon(void **state) {
  struct stage *stage = *state;
  fill_batch(stage, false);
  const int64_t begin = loop_boottime(stage->world->loop);
  assert_int_equal(loop_at(stage->world->loop, begin + 250, kill_second, stage, NULL), 0);
  start(stage, OBSERVE_PRESENT, MANY, DEADLINE_MS);
  run(stage);
  size_t right = 0, silent = 0;
  for (int i = 0; i < MANY; i++) {
    assert_says(&stage->results[i], NS1, OBSERVE_RIGHT, RECORD);
    right += server_of(&stage->results[i], NS2)->verdict == OBSERVE_RIGHT;
    silent += server_of(&stage->results[i], NS2)->verdict == OBSERVE_SILENT;
  }
  assert_true(right > 0 && silent > 0 && right + silent == MANY);
  assert_true(loop_boottime(stage->world->loop) - begin < SILENCE_MS + ZONE_QUERY_MS + 2000);
}

static void test_observe__deadline_ends_a_round_with_what_is_known(void **state) {
  struct stage *stage = *state;
  publish(stage, RECORD);
  fault(stage, NS2, SERVER_DEAD);
  stage->items[0] = (struct observe_item){.name = NAME, .record = RECORD, .publisher = &stage->publisher};
  const int64_t begin = loop_boottime(stage->world->loop);
  start(stage, OBSERVE_PRESENT, 1, 1000);
  run(stage);
  assert_int_equal(loop_boottime(stage->world->loop), begin + 1000);
  assert_says(&stage->results[0], NS1, OBSERVE_RIGHT, RECORD);
  assert_int_equal(server_of(&stage->results[0], NS2)->verdict, OBSERVE_SILENT);
  assert_int_equal(server_of(&stage->results[0], NS2)->at, loop_wall(stage->world->loop));
}

static void test_observe__deadline_before_the_servers_are_known_is_an_error(void **state) {
  struct stage *stage = *state;
  fault(stage, RESOLVER, SERVER_DEAD);
  stage->items[0] = (struct observe_item){.name = NAME, .record = RECORD, .publisher = &stage->publisher};
  start(stage, OBSERVE_PRESENT, 1, 1000);
  run(stage);
  assert_int_equal(stage->results[0].error.code, ERROR_TIMEOUT);
  assert_non_null(strstr(stage->results[0].error.message, NAME));
}

static void test_observe__cancelled_round_is_never_heard_of(void **state) {
  struct stage *stage = *state;
  struct error error = {0};
  fill_batch(stage, false);
  fault(stage, NS2, SERVER_DEAD);
  start(stage, OBSERVE_PRESENT, MANY, DEADLINE_MS);
  struct observe_operation *first = stage->operation;
  assert_int_equal(loop_at(stage->world->loop, loop_boottime(stage->world->loop) + 200, stop, stage->world->loop, NULL),
                   0);
  assert_int_equal(loop_run(stage->world->loop, &error), 0);
  assert_true(stage->world->in_flight > 0);
  start(stage, OBSERVE_ABSENT, 1, DEADLINE_MS);
  observer_cancel(stage->observer, &first);
  assert_null(first);
  run(stage); /* the other one */
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
  struct error error = {0};
  fill_batch(stage, false);
  start(stage, OBSERVE_PRESENT, MANY, DEADLINE_MS);
  assert_int_equal(loop_at(stage->world->loop, loop_boottime(stage->world->loop) + 100, stop, stage->world->loop, NULL),
                   0);
  assert_int_equal(loop_run(stage->world->loop, &error), 0);
  observer_destroy(stage->observer);
  stage->observer = NULL;
  assert_int_equal(stage->world->in_flight, 0);
  assert_int_equal(stage->done, 0);
}

static void test_observe__batch_has_one_to_two_thousand_names(void **state) {
  struct stage *stage = *state;
  struct error error = {0};
  const int64_t deadline = loop_boottime(stage->world->loop) + DEADLINE_MS;
  assert_int_equal(observer_start(stage->observer, OBSERVE_PRESENT, stage->items, 0, deadline, observed, stage,
                                  &stage->operation, &error),
                   ERROR_INVALID);
  assert_int_equal(observer_start(stage->observer, OBSERVE_PRESENT, stage->items, OBSERVE_ITEMS_MAX + 1, deadline,
                                  observed, stage, &stage->operation, &error),
                   ERROR_INVALID);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_observe__record_that_every_server_serves_is_right),
      TEST(test_observe__server_that_lags_is_wrong_and_says_what_it_said),
      TEST(test_observe__name_without_txt_is_wrong),
      TEST(test_observe__another_txt_is_wrong),
      TEST(test_observe__txt_that_cannot_be_read_is_wrong_and_no_silence),
      TEST(test_observe__letters_of_other_case_make_another_txt),
      TEST(test_observe__second_txt_beside_the_right_one_is_wrong),
      TEST(test_observe__alias_at_one_server_is_wrong_there),
      TEST(test_observe__long_record_in_several_strings_is_compared_as_one),
      TEST(test_observe__record_behind_an_alias_is_asked_for_where_it_lives),
      TEST(test_observe__dead_server_is_silent_after_its_attempts),
      TEST(test_observe__failures_have_their_own_words),
      TEST(test_observe__answers_that_come_hard_are_right_all_the_same),
      TEST(test_observe__truncated_answer_is_fetched_over_tcp_at_once),
      TEST(test_observe__truncated_answer_that_tcp_does_not_complete_is_silence),
      TEST(test_observe__server_whose_address_is_not_found_out_is_silent),
      TEST(test_observe__given_servers_go_by_their_addresses),
      TEST(test_observe__domain_that_is_not_there_fails_alone),
      TEST(test_observe__signed_zone_needs_a_signature_that_is_valid_now),
      TEST(test_observe__signature_from_one_server_obliges_the_others),
      TEST(test_observe__record_is_absent_when_its_content_is_gone),
      TEST(test_observe__foreign_text_does_not_make_a_record_present),
      TEST(test_observe__record_among_others_is_not_absent),
      TEST(test_observe__both_contents_must_be_gone),
      TEST(test_observe__name_that_nobody_made_is_free),
      TEST(test_observe__survey_asks_every_server_for_a_random_sibling),
      TEST(test_observe__largest_negative_ttl_of_all_servers_counts),
      TEST(test_observe__wildcard_text_leaves_names_free_and_counts_as_old),
      TEST(test_observe__wildcard_cname_counts_as_old),
      TEST(test_observe__one_name_for_all_selectors_is_not_free_twice),
      TEST(test_observe__ttl_of_nsec_counts_as_old),
      TEST(test_observe__text_at_one_server_takes_the_name),
      TEST(test_observe__name_that_exists_without_text_is_taken),
      TEST(test_observe__survey_of_silent_servers_finds_nothing_free),
      TEST(test_observe__survey_goes_by_the_servers_that_answer),
      TEST(test_observe__server_that_refuses_the_sibling_says_nothing_about_the_name),
      TEST(test_observe__longest_name_has_a_sibling_too),
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
