/* Zone discovery in the small internet of fake_internet.h. */
#include "fake_internet.h"

#include "dkimroll/zone.h"
#include "dkimroll/zone_question.h"
#include "dkimroll/zone_read.h"
#include "dkimroll/zone_source.h"

#define NAME "sel._domainkey.example.com"

enum { DEADLINE_MS = 60000, MANY = 2000 };

struct stage {
  struct world *world;
  struct zone_finder *finder;
  struct policy_publisher publisher;
  struct zone_answer answer; /* of the last search; servers point to the array below */
  struct zone_server servers[ZONE_SERVERS_MAX];
  size_t done, failed, stop_at;
  bool free_finder;
};

static char *resolver_list[] = {RESOLVER, NULL};

static int setup(void **state) {
  struct stage *stage = calloc(1, sizeof *stage);
  struct error error = {0};
  assert_non_null(stage);
  world_open(&stage->world);
  build_internet(stage->world);
  stage->publisher =
      (struct policy_publisher){.name = (char[]){"primary"}, .resolvers = resolver_list, .resolver_count = 1};
  static char name[] = "primary";
  stage->publisher.name = name;
  assert_int_equal(zone_finder_new(stage->world->loop, &stage->world->transport, &stage->world->random.entropy,
                                   &stage->finder, &error),
                   0);
  *state = stage;
  return 0;
}

static int teardown(void **state) {
  struct stage *stage = *state;
  world_assert_discretion(stage->world);
  zone_finder_free(stage->finder);
  world_close(stage->world);
  free(stage);
  return 0;
}

static void found(void *context, const struct zone_answer *answer) {
  struct stage *stage = context;
  stage->answer = *answer;
  stage->failed += answer->error.code != 0;
  if (answer->server_count > 0) memcpy(stage->servers, answer->servers, answer->server_count * sizeof *answer->servers);
  stage->answer.servers = stage->servers;
  if (stage->free_finder) {
    zone_finder_free(stage->finder);
    stage->finder = NULL;
  }
  if (++stage->done == stage->stop_at) loop_stop(stage->world->loop);
}

static void stop(void *context) {
  loop_stop(context);
}

static void run(struct stage *stage) {
  struct error error = {0};
  if (loop_run(stage->world->loop, &error)) fail_msg("%s", error.message);
}

static void find_known(struct stage *stage, const char *name, const char *known_zone) {
  struct zone_search *search = NULL;
  struct error error = {0};
  stage->done = 0;
  stage->stop_at = 1;
  int code = zone_find_servers(stage->finder, name, known_zone, &stage->publisher,
                               loop_boottime(stage->world->loop) + DEADLINE_MS, found, stage, &search, &error);
  if (code) fail_msg("%s", error.message);
  assert_int_equal(stage->done, 0);
  run(stage);
}

static void find(struct stage *stage, const char *name) {
  find_known(stage, name, NULL);
}

static void find_primary(struct stage *stage, const char *name) {
  struct zone_search *search = NULL;
  struct error error = {0};
  stage->done = 0;
  stage->stop_at = 1;
  assert_int_equal(zone_find(stage->finder, name, NULL, &stage->publisher,
                             loop_boottime(stage->world->loop) + DEADLINE_MS, found, stage, &search, &error),
                   0);
  run(stage);
}

static void assert_found(const struct stage *stage, const char *zone, const char *owner) {
  if (stage->answer.error.code) fail_msg("%s", stage->answer.error.message);
  assert_string_equal(stage->answer.zone, zone);
  assert_string_equal(stage->answer.owner, owner);
}

static bool has_server(const struct stage *stage, const char *host, const char *address) {
  char text[ADDRESS_TEXT_SIZE];
  for (size_t i = 0; i < stage->answer.server_count; i++) {
    const struct zone_server *server = &stage->servers[i];
    if (!text_equal(server->host, host)) continue;
    if (!address && server->address.size == 0) return true;
    if (address && server->address.size > 0 && text_equal(address_format(&server->address, text), address)) return true;
  }
  return false;
}

static void assert_failed(const struct stage *stage, int code, const char *part) {
  assert_int_equal(stage->answer.error.code, code);
  if (!strstr(stage->answer.error.message, part)) fail_msg("\"%s\" lacks \"%s\"", stage->answer.error.message, part);
  assert_true(stage->answer.error.remedy[0]);
}

/* --- the plain case --- */

static void test_zone__zone_and_all_its_servers_are_found(void **state) {
  struct stage *stage = *state;
  find(stage, "Sel._DomainKey.Example.COM");
  assert_found(stage, "example.com", NAME);
  assert_int_equal(stage->answer.server_count, 2);
  assert_true(has_server(stage, "ns1.example.com", NS1 ":53"));
  assert_true(has_server(stage, "ns2.example.com", NS2 ":53"));
  assert_string_equal(stage->answer.primary, "ns1.example.com");
  assert_int_equal(stage->answer.ttl_negative, 300);
  assert_int_equal(stage->answer.ttl_alias, -1);
  assert_false(stage->answer.is_signed);
}

static void test_zone__soa_ttl_below_its_minimum_is_the_negative_ttl(void **state) {
  struct stage *stage = *state;
  world_zone_of(stage->world, "example.com")->soa_ttl = 120;
  find(stage, NAME);
  assert_int_equal(stage->answer.ttl_negative, 120);
}

static void test_zone__server_that_only_the_parent_names_counts(void **state) {
  struct stage *stage = *state;
  delegate(stage->world, "com", "example.com", "old.example.com", "192.0.2.12");
  world_serve(stage->world, "192.0.2.12", "example.com");
  find(stage, NAME);
  assert_int_equal(stage->answer.server_count, 3);
  assert_true(has_server(stage, "old.example.com", "192.0.2.12:53"));
}

static void test_zone__server_that_only_the_apex_names_counts(void **state) {
  struct stage *stage = *state;
  apex(stage->world, "example.com", "ns.provider.net", NULL);
  find(stage, NAME);
  assert_int_equal(stage->answer.server_count, 3);
  assert_true(has_server(stage, "ns.provider.net", PROVIDER ":53"));
}

static void test_zone__every_address_of_a_server_counts_from_glue_and_zone(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", "ns2.example.com", 60, DNS_TYPE_AAAA, NS2_6);
  world_add(stage->world, "com", "ns2.example.com", 60, DNS_TYPE_A, "192.0.2.13");
  find(stage, NAME);
  assert_int_equal(stage->answer.server_count, 4);
  assert_true(has_server(stage, "ns2.example.com", NS2 ":53"));
  assert_true(has_server(stage, "ns2.example.com", "[" NS2_6 "]:53"));
  assert_true(has_server(stage, "ns2.example.com", "192.0.2.13:53"));
}

static void test_zone__domain_without_a_zone_of_its_own_lies_in_the_one_above(void **state) {
  struct stage *stage = *state;
  find(stage, "sel._domainkey.news.example.com");
  assert_found(stage, "example.com", "sel._domainkey.news.example.com");
}

static void test_zone__domain_that_is_an_alias_lies_where_the_alias_stands(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", "mail.example.com", 60, DNS_TYPE_CNAME, "www.provider.net");
  world_add(stage->world, "provider.net", "www.provider.net", 60, DNS_TYPE_A, "192.0.2.99");
  find(stage, "sel._domainkey.mail.example.com");
  assert_found(stage, "example.com", "sel._domainkey.mail.example.com");
}

static void test_zone__domain_that_is_an_alias_of_nothing_is_there_all_the_same(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", "mail.example.com", 60, DNS_TYPE_CNAME, "gone.com");
  find(stage, "sel._domainkey.mail.example.com");
  assert_found(stage, "example.com", "sel._domainkey.mail.example.com");
}

static void test_zone__delegated_domainkey_zone_is_followed_by_referral(void **state) {
  struct stage *stage = *state;
  world_zone(stage->world, "_domainkey.example.com", 60, 60, "keys.example.com");
  delegate(stage->world, "example.com", "_domainkey.example.com", "keys.example.com", "192.0.2.14");
  world_serve(stage->world, "192.0.2.14", "_domainkey.example.com");
  apex(stage->world, "_domainkey.example.com", "keys.example.com", NULL);
  find(stage, NAME);
  assert_found(stage, "_domainkey.example.com", NAME);
  assert_int_equal(stage->answer.server_count, 1);
  assert_true(has_server(stage, "keys.example.com", "192.0.2.14:53"));
  assert_int_equal(stage->answer.ttl_negative, 60);
  /* The referral was the delegation: nobody need be asked for it again. */
  assert_int_equal(world_count(stage->world, NS1, "_domainkey.example.com", DNS_TYPE_NS), 0);
}

static void test_zone__signed_zone_is_noticed(void **state) {
  struct stage *stage = *state;
  world_zone_of(stage->world, "example.com")->is_signed = true;
  find(stage, NAME);
  assert_found(stage, "example.com", NAME);
  assert_true(stage->answer.is_signed);
}

/* --- aliases --- */

static void test_zone__cname_at_the_name_leads_into_another_zone(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", NAME, 7200, DNS_TYPE_CNAME, "sel.example-com.keys.provider.net");
  find(stage, NAME);
  assert_found(stage, "provider.net", "sel.example-com.keys.provider.net");
  assert_int_equal(stage->answer.ttl_alias, 7200);
  assert_int_equal(stage->answer.server_count, 1);
  assert_true(has_server(stage, "ns.provider.net", PROVIDER ":53"));
}

static void test_zone__dname_at_domainkey_leads_into_another_zone(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", "_domainkey.example.com", 1800, DNS_TYPE_DNAME,
            "_domainkey.customer1.provider.net");
  find(stage, NAME);
  assert_found(stage, "provider.net", "sel._domainkey.customer1.provider.net");
  assert_int_equal(stage->answer.ttl_alias, 1800);
}

static void test_zone__wildcard_cname_leads_into_another_zone(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", "*._domainkey.example.com", 900, DNS_TYPE_CNAME, "key.customer1.provider.net");
  find(stage, NAME);
  assert_found(stage, "provider.net", "key.customer1.provider.net");
}

static void test_zone__alias_into_a_delegated_part_of_the_target_zone_is_followed_there(void **state) {
  struct stage *stage = *state;
  world_zone(stage->world, "dkim.provider.net", 60, 60, "keys.provider.net");
  delegate(stage->world, "provider.net", "dkim.provider.net", "keys.provider.net", "192.0.2.21");
  world_serve(stage->world, "192.0.2.21", "dkim.provider.net");
  apex(stage->world, "dkim.provider.net", "keys.provider.net", NULL);
  world_add(stage->world, "example.com", "_domainkey.example.com", 60, DNS_TYPE_DNAME, "customer1.dkim.provider.net");
  find(stage, NAME);
  assert_found(stage, "dkim.provider.net", "sel.customer1.dkim.provider.net");
  assert_true(has_server(stage, "keys.provider.net", "192.0.2.21:53"));
  /* A resolver that hears of the name's parent would keep for a while that it does not exist. */
  assert_int_equal(world_count(stage->world, RESOLVER, "customer1.dkim.provider.net", 0), 0);
}

static void test_zone__loop_of_cnames_is_an_error_that_names_the_chain(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", NAME, 60, DNS_TYPE_CNAME, "a.provider.net");
  world_add(stage->world, "provider.net", "a.provider.net", 60, DNS_TYPE_CNAME, NAME);
  find(stage, NAME);
  assert_failed(stage, ERROR_LIMIT, "in a circle: " NAME " -> a.provider.net -> " NAME);
}

static void test_zone__dname_that_grows_the_name_ends_with_an_error(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", "_domainkey.example.com", 60, DNS_TYPE_DNAME,
            "x123456789012345678901234567890.x123456789012345678901234567890.x1234567890._domainkey.example.com");
  find(stage, NAME);
  assert_failed(stage, ERROR_LIMIT, "too long");
}

static void test_zone__more_aliases_than_eight_are_an_error(void **state) {
  struct stage *stage = *state;
  char from[64] = NAME, to[64];
  for (int i = 0; i < 9; i++) {
    snprintf(to, sizeof to, "step%d._domainkey.example.com", i);
    world_add(stage->world, "example.com", from, 60, DNS_TYPE_CNAME, to);
    text_copy(from, sizeof from, to);
  }
  find(stage, NAME);
  assert_failed(stage, ERROR_LIMIT, "too many aliases");
  find(stage, "step0._domainkey.example.com");
  assert_found(stage, "example.com", "step8._domainkey.example.com");
}

/* --- servers of the policy --- */

static void test_zone__given_primary_tells_the_zone_without_any_resolver(void **state) {
  struct stage *stage = *state;
  static char server[] = "192.0.2.30:5300";
  char text[ADDRESS_TEXT_SIZE];
  world_serve(stage->world, server, "example.com");
  stage->publisher.server = server;
  find_primary(stage, NAME);
  assert_found(stage, "example.com", NAME);
  assert_string_equal(address_format(&stage->answer.primary_address, text), server);
  assert_int_equal(stage->world->query_count, 1);
}

static void test_zone__servers_are_found_by_way_of_a_given_primary(void **state) {
  struct stage *stage = *state;
  static char server[] = "192.0.2.30:5300";
  world_serve(stage->world, server, "example.com");
  stage->publisher.server = server;
  delegate(stage->world, "com", "example.com", "old.example.com", "192.0.2.12");
  find(stage, NAME);
  assert_found(stage, "example.com", NAME);
  assert_int_equal(stage->answer.server_count, 3);
  assert_true(has_server(stage, "ns1.example.com", NS1 ":53"));
  assert_true(has_server(stage, "old.example.com", "192.0.2.12:53"));
  assert_int_equal(world_count(stage->world, NS1, NULL, 0), 0);
}

static void test_zone__without_resolvers_a_given_primary_tells_servers_in_its_zone(void **state) {
  struct stage *stage = *state;
  static char server[] = "192.0.2.30:5300";
  world_serve(stage->world, server, "example.com");
  stage->publisher.server = server;
  world_server(stage->world, server)->is_minimal = true;
  world_server(stage->world, RESOLVER)->fault = SERVER_DEAD;
  find(stage, NAME);
  assert_found(stage, "example.com", NAME);
  assert_int_equal(stage->answer.server_count, 2);
  assert_true(has_server(stage, "ns2.example.com", NS2 ":53"));
}

static void test_zone__name_at_a_customer_is_followed_to_the_given_primary_of_the_provider(void **state) {
  struct stage *stage = *state;
  static char server[] = PROVIDER;
  char text[ADDRESS_TEXT_SIZE];
  stage->publisher.server = server;
  world_add(stage->world, "example.com", "_domainkey.example.com", 60, DNS_TYPE_DNAME, "c1.keys.provider.net");
  find_primary(stage, NAME);
  assert_found(stage, "provider.net", "sel.c1.keys.provider.net");
  assert_string_equal(address_format(&stage->answer.primary_address, text), PROVIDER ":53");
}

static void test_zone__given_servers_are_the_servers(void **state) {
  struct stage *stage = *state;
  static char first[] = "192.0.2.30:5300", second[] = "[2001:db8::30]:5301";
  static char *servers[] = {first, second};
  world_serve(stage->world, first, "example.com");
  world_serve(stage->world, second, "example.com");
  stage->publisher.servers = servers;
  stage->publisher.server_count = 2;
  find(stage, NAME);
  assert_found(stage, "example.com", NAME);
  assert_int_equal(stage->answer.server_count, 2);
  assert_true(has_server(stage, first, first));
  assert_true(has_server(stage, second, second));
  assert_int_equal(world_count(stage->world, RESOLVER, NULL, 0), 0);
}

static void test_zone__given_servers_of_a_known_zone_are_the_answer_even_if_they_are_dead(void **state) {
  struct stage *stage = *state;
  static char first[] = "192.0.2.30:5300";
  static char *servers[] = {first};
  world_server(stage->world, first)->fault = SERVER_DEAD;
  stage->publisher.servers = servers;
  stage->publisher.server_count = 1;
  find_known(stage, NAME, "example.com");
  assert_found(stage, "example.com", NAME);
  assert_int_equal(stage->answer.server_count, 1);
  assert_int_equal(stage->answer.ttl_negative, -1);
}

static void test_zone__primary_behind_given_servers_is_the_one_of_them_that_the_soa_names(void **state) {
  struct stage *stage = *state;
  static char first[] = "192.0.2.30:5300", second[] = NS1 ":5301";
  static char *servers[] = {first, second};
  char text[ADDRESS_TEXT_SIZE];
  world_serve(stage->world, first, "example.com");
  world_serve(stage->world, second, "example.com");
  stage->publisher.servers = servers;
  stage->publisher.server_count = 2;
  find_primary(stage, NAME);
  assert_found(stage, "example.com", NAME);
  assert_string_equal(address_format(&stage->answer.primary_address, text), second);
}

static void test_zone__primary_is_resolved_from_the_soa(void **state) {
  struct stage *stage = *state;
  char text[ADDRESS_TEXT_SIZE];
  find_primary(stage, NAME);
  assert_found(stage, "example.com", NAME);
  assert_string_equal(address_format(&stage->answer.primary_address, text), NS1 ":53");
  assert_int_equal(stage->answer.server_count, 0);
}

static void test_zone__primary_without_address_is_said_with_the_remedy(void **state) {
  struct stage *stage = *state;
  world_zone_of(stage->world, "example.com")->mname = "hidden.invalid";
  find_primary(stage, NAME);
  assert_found(stage, "example.com", NAME);
  assert_int_equal(stage->answer.primary_address.size, 0);
  assert_int_equal(stage->answer.primary_error.code, ERROR_NOT_FOUND);
  assert_non_null(strstr(stage->answer.primary_error.message, "hidden.invalid"));
  assert_non_null(strstr(stage->answer.primary_error.remedy, "server"));
}

static void test_zone__ignored_servers_are_left_out_by_name_and_by_address(void **state) {
  struct stage *stage = *state;
  static char host[] = "NS1.example.com", address[] = NS2_6;
  static char *ignored[] = {host, address};
  world_add(stage->world, "example.com", "ns2.example.com", 60, DNS_TYPE_AAAA, NS2_6);
  stage->publisher.ignore_servers = ignored;
  stage->publisher.ignore_server_count = 2;
  find(stage, NAME);
  assert_found(stage, "example.com", NAME);
  assert_int_equal(stage->answer.server_count, 1);
  assert_true(has_server(stage, "ns2.example.com", NS2 ":53"));
}

static void test_zone__known_zone_needs_no_walk(void **state) {
  struct stage *stage = *state;
  find_known(stage, NAME, "example.com");
  assert_found(stage, "example.com", NAME);
  assert_int_equal(stage->answer.server_count, 2);
  assert_int_equal(world_count(stage->world, RESOLVER, "example.com", DNS_TYPE_SOA), 0);
}

static void test_zone__alias_out_of_a_known_zone_is_followed(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", NAME, 60, DNS_TYPE_CNAME, "k1.provider.net");
  find_known(stage, NAME, "example.com");
  assert_found(stage, "provider.net", "k1.provider.net");
}

static void test_zone__known_zone_that_an_alias_leads_into_is_used(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", "_domainkey.example.com", 60, DNS_TYPE_DNAME, "c1._domainkey.provider.net");
  find_known(stage, NAME, "provider.net");
  assert_found(stage, "provider.net", "sel.c1._domainkey.provider.net");
  assert_int_equal(world_count(stage->world, RESOLVER, "provider.net", DNS_TYPE_SOA), 0);
}

static void test_zone__known_zone_with_all_servers_dead_still_names_them(void **state) {
  struct stage *stage = *state;
  world_server(stage->world, NS1)->fault = SERVER_DEAD;
  world_server(stage->world, NS2)->fault = SERVER_DEAD;
  find_known(stage, NAME, "example.com");
  assert_found(stage, "example.com", NAME);
  assert_int_equal(stage->answer.server_count, 2);
}

static void test_zone__dead_servers_of_a_delegated_part_are_named_for_what_they_are(void **state) {
  struct stage *stage = *state;
  world_zone(stage->world, "_domainkey.example.com", 60, 60, "keys.example.com");
  delegate(stage->world, "example.com", "_domainkey.example.com", "keys.example.com", "192.0.2.14");
  world_serve(stage->world, "192.0.2.14", "_domainkey.example.com");
  world_server(stage->world, "192.0.2.14")->fault = SERVER_DEAD;
  find_known(stage, NAME, "example.com");
  assert_found(stage, "_domainkey.example.com", NAME);
  assert_int_equal(stage->answer.server_count, 1);
  assert_true(has_server(stage, "keys.example.com", "192.0.2.14:53"));
}

/* --- trouble --- */

static void test_zone__dead_server_costs_one_attempt(void **state) {
  struct stage *stage = *state;
  world_server(stage->world, NS1)->fault = SERVER_DEAD;
  int64_t begin = loop_boottime(stage->world->loop);
  find(stage, NAME);
  assert_found(stage, "example.com", NAME);
  assert_int_equal(stage->answer.server_count, 2);
  assert_in_range(loop_boottime(stage->world->loop) - begin, ZONE_QUERY_MS, ZONE_QUERY_MS + 1000);
}

static void test_zone__server_that_is_not_authoritative_is_passed_over(void **state) {
  static const enum server_fault faults[] = {SERVER_LAME, SERVER_REFUSED, SERVER_SERVFAIL, SERVER_TRUNCATES_ALL};
  struct stage *stage = *state;
  for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
    world_server(stage->world, NS1)->fault = faults[i];
    find(stage, NAME);
    assert_found(stage, "example.com", NAME);
  }
}

static void test_zone__servers_that_are_all_lame_are_an_error_that_says_so(void **state) {
  struct stage *stage = *state;
  world_server(stage->world, NS1)->fault = SERVER_LAME;
  world_server(stage->world, NS2)->fault = SERVER_LAME;
  find(stage, NAME);
  assert_failed(stage, ERROR_REFUSED, "not authoritative for " NAME);
  assert_true(stage->answer.error.retryable);
}

static void test_zone__truncated_answers_are_fetched_over_tcp(void **state) {
  struct stage *stage = *state;
  world_server(stage->world, NS1)->fault = SERVER_TRUNCATES;
  world_server(stage->world, COM)->fault = SERVER_TRUNCATES;
  world_server(stage->world, RESOLVER)->fault = SERVER_TRUNCATES;
  find(stage, NAME);
  assert_found(stage, "example.com", NAME);
  assert_int_equal(stage->answer.server_count, 2);
}

static void test_zone__forged_answers_are_ignored(void **state) {
  struct stage *stage = *state;
  world_server(stage->world, NS1)->fault = SERVER_LIES;
  world_server(stage->world, RESOLVER)->fault = SERVER_LIES;
  find(stage, NAME);
  assert_found(stage, "example.com", NAME);
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
  find(stage, NAME);
  assert_found(stage, "example.com", NAME);
  assert_int_equal(world_count(stage->world, first, NULL, 0), 1);
}

static void test_zone__dead_resolvers_fail_a_batch_soon_and_once(void **state) {
  struct stage *stage = *state;
  struct error error = {0};
  struct zone_search *searches[MANY] = {NULL};
  world_server(stage->world, RESOLVER)->fault = SERVER_DEAD;
  const int64_t begin = loop_boottime(stage->world->loop);
  stage->stop_at = MANY;
  for (int i = 0; i < MANY; i++) {
    char name[64];
    snprintf(name, sizeof name, "sel._domainkey.d%d.com", i);
    assert_int_equal(zone_find_servers(stage->finder, name, NULL, &stage->publisher, begin + DEADLINE_MS, found, stage,
                                       &searches[i], &error),
                     0);
  }
  run(stage);
  assert_int_equal(stage->failed, MANY);
  assert_failed(stage, ERROR_TIMEOUT, RESOLVER ":53");
  assert_true(loop_boottime(stage->world->loop) - begin <= 3 * ZONE_QUERY_MS);
  assert_true(stage->world->query_count <= 3 * ZONE_QUESTIONS_MAX);
}

static void waited(void *context) {
  loop_stop(((struct stage *)context)->world->loop);
}

static void wait_for(struct stage *stage, int64_t milliseconds) {
  struct loop *loop = stage->world->loop;
  struct loop_source *timer = NULL;
  assert_int_equal(loop_at(loop, loop_boottime(loop) + milliseconds, waited, stage, &timer), 0);
  run(stage);
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
    find(stage, name);
    assert_failed(stage, ERROR_TIMEOUT, RESOLVER ":53");
    if (loop_boottime(loop) == before) wait_for(stage, 100); /* it failed at once */
  }
  /* Eight attempts, then a pause of a minute: 30 times and a few at the beginning. */
  assert_in_range(world_count(stage->world, RESOLVER, NULL, 0), 8 * 20, 8 * 45);
  world_server(stage->world, RESOLVER)->fault = 0;
  wait_for(stage, ZONE_TROUBLE_LONGEST_MS);
  find(stage, NAME);
  assert_found(stage, "example.com", NAME);
}

static void test_zone__unreachable_parent_leaves_the_servers_of_the_apex(void **state) {
  struct stage *stage = *state;
  world_server(stage->world, COM)->fault = SERVER_DEAD;
  delegate(stage->world, "com", "example.com", "old.example.com", "192.0.2.12");
  find(stage, NAME);
  assert_found(stage, "example.com", NAME);
  assert_int_equal(stage->answer.server_count, 2);
}

static void test_zone__name_server_without_address_is_left_out(void **state) {
  struct stage *stage = *state;
  apex(stage->world, "example.com", "gone.example.com", NULL);
  find(stage, NAME);
  assert_found(stage, "example.com", NAME);
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
  find(stage, "sel._domainkey.exmaple.com");
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
  find(stage, NAME);
  assert_failed(stage, ERROR_LIMIT, "example.com has more than");
}

static void test_zone__search_ends_at_its_deadline(void **state) {
  struct stage *stage = *state;
  struct zone_search *search = NULL;
  struct error error = {0};
  world_server(stage->world, RESOLVER)->fault = SERVER_DEAD;
  const int64_t deadline = loop_boottime(stage->world->loop) + 500;
  stage->stop_at = 1;
  assert_int_equal(
      zone_find_servers(stage->finder, NAME, NULL, &stage->publisher, deadline, found, stage, &search, &error), 0);
  run(stage);
  assert_failed(stage, ERROR_TIMEOUT, NAME);
  assert_int_equal(loop_boottime(stage->world->loop), deadline);
}

static void test_zone__cancelled_search_is_never_heard_of(void **state) {
  struct stage *stage = *state;
  struct zone_search *searches[100] = {NULL};
  struct error error = {0};
  for (int i = 0; i < 100; i++)
    assert_int_equal(zone_find_servers(stage->finder, NAME, NULL, &stage->publisher,
                                       loop_boottime(stage->world->loop) + DEADLINE_MS, found, stage, &searches[i],
                                       &error),
                     0);
  for (int i = 0; i < 100; i += 2) zone_cancel(stage->finder, &searches[i]);
  stage->stop_at = 50;
  run(stage);
  assert_int_equal(stage->done, 50);
  assert_int_equal(stage->failed, 0);
  assert_int_equal(loop_run(stage->world->loop, &error), ERROR_NOT_FOUND);
  assert_int_equal(stage->done, 50);
}

static void test_zone__finder_may_be_freed_when_it_answers(void **state) {
  struct stage *stage = *state;
  struct zone_search *other = NULL;
  struct error error = {0};
  stage->free_finder = true;
  int64_t deadline = loop_boottime(stage->world->loop) + DEADLINE_MS;
  assert_int_equal(zone_find_servers(stage->finder, "sel._domainkey.provider.net", NULL, &stage->publisher, deadline,
                                     found, stage, &other, &error),
                   0);
  find(stage, NAME);
  assert_int_equal(stage->done, 1);
  assert_null(stage->finder);
}

/* --- sharing --- */

static void test_zone__searches_for_one_zone_share_their_questions(void **state) {
  struct stage *stage = *state;
  struct error error = {0};
  struct zone_search *search = NULL;
  stage->stop_at = 500;
  for (int i = 0; i < 500; i++) {
    char name[64];
    snprintf(name, sizeof name, "sel%d._domainkey.example.com", i);
    assert_int_equal(zone_find_servers(stage->finder, name, NULL, &stage->publisher,
                                       loop_boottime(stage->world->loop) + DEADLINE_MS, found, stage, &search, &error),
                     0);
  }
  run(stage);
  assert_int_equal(stage->failed, 0);
  assert_int_equal(world_count(stage->world, RESOLVER, "example.com", DNS_TYPE_SOA), 1);
  assert_int_equal(world_count(stage->world, COM, NULL, 0), 1);
  assert_true(stage->world->query_count < 500 + 40); /* one for each name, and the rest once */
}

static void test_zone__answers_about_zones_serve_a_minute(void **state) {
  struct stage *stage = *state;
  find(stage, NAME);
  const size_t first = stage->world->query_count;
  find(stage, NAME);
  assert_int_equal(stage->world->query_count, first + 1);
  assert_found(stage, "example.com", NAME);
  assert_int_equal(stage->answer.server_count, 2);
  apex(stage->world, "example.com", "ns3.example.com", "192.0.2.12");
  find(stage, NAME);
  assert_int_equal(stage->answer.server_count, 2);
  struct error error = {0};
  struct loop_source *timer = NULL;
  assert_int_equal(loop_at(stage->world->loop, loop_boottime(stage->world->loop) + ZONE_CACHE_SECONDS * 1000, stop,
                           stage->world->loop, &timer),
                   0);
  assert_int_equal(loop_run(stage->world->loop, &error), 0);
  find(stage, NAME);
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
  find(stage, NAME);
  assert_found(stage, "example.com", NAME);
  assert_int_equal(stage->answer.server_count, 2);
  stage->publisher.server = inside;
  find(stage, NAME);
  assert_found(stage, "example.com", NAME);
  assert_int_equal(stage->answer.server_count, 3);
}

static void test_zone__two_thousand_zones_keep_within_the_bounds(void **state) {
  struct stage *stage = *state;
  struct world *world = stage->world;
  struct error error = {0};
  struct zone_search *search = NULL;
  for (int i = 0; i < MANY; i++) {
    char zone[32];
    snprintf(zone, sizeof zone, "d%d.com", i);
    world_zone(world, zone, 60, 60, "ns1.example.com");
    world_serve(world, NS1, zone);
    world_serve(world, NS2, zone);
    delegate(world, "com", zone, "ns1.example.com", NULL);
    delegate(world, "com", zone, "ns2.example.com", NULL);
    apex(world, zone, "ns1.example.com", NULL);
    apex(world, zone, "ns2.example.com", NULL);
  }
  stage->stop_at = MANY;
  const int64_t begin = loop_boottime(world->loop);
  for (int i = 0; i < MANY; i++) {
    char name[64];
    snprintf(name, sizeof name, "sel._domainkey.d%d.com", i);
    assert_int_equal(zone_find_servers(stage->finder, name, NULL, &stage->publisher, begin + DEADLINE_MS, found, stage,
                                       &search, &error),
                     0);
  }
  run(stage);
  if (stage->failed) fail_msg("%zu failed", stage->failed);
  assert_true(world->in_flight_max <= ZONE_QUESTIONS_MAX);
  assert_true(world->query_count <= 6 * MANY);
  assert_int_equal(world_count(world, RESOLVER, "ns1.example.com", DNS_TYPE_AAAA), 1);
  assert_true(loop_boottime(world->loop) - begin < 10000);
}

/* --- small parts --- */

static void test_zone__resolv_conf_gives_its_name_servers(void **state) {
  (void)state;
  struct address addresses[3];
  char text[ADDRESS_TEXT_SIZE];
  char conf[] =
      "# a comment\nsearch example.com\nnameserver 192.0.2.1\n nameserver 192.0.2.2\nnameserver\t2001:db8::1 # six\n"
      "nameserver192.0.2.3\nnameserver\nnameserver fe80::1%eth0\nnameserver 192.0.2.4\r\nnameserver 192.0.2.5";
  assert_int_equal(resolvconf_parse(conf, addresses, 3), 3);
  assert_string_equal(address_format(&addresses[0], text), "192.0.2.1:53");
  assert_string_equal(address_format(&addresses[1], text), "[2001:db8::1]:53");
  assert_string_equal(address_format(&addresses[2], text), "192.0.2.4:53");
}

static void test_zone__resolv_conf_that_is_missing_means_the_local_host(void **state) {
  (void)state;
  struct address addresses[3];
  struct error error = {0};
  size_t count = 0;
  char text[ADDRESS_TEXT_SIZE];
  assert_int_equal(resolvconf_read("/nonexistent/resolv.conf", addresses, 3, &count, &error), 0);
  assert_int_equal(count, 1);
  assert_string_equal(address_format(&addresses[0], text), "127.0.0.1:53");
}

static void test_zone__domain_is_right_of_the_last_domainkey(void **state) {
  (void)state;
  assert_string_equal(zone_domain_of(NAME), "example.com");
  assert_string_equal(zone_domain_of("a._domainkey.b._domainkey.example.net"), "example.net");
  assert_string_equal(zone_domain_of("_domainkey.example.net"), "example.net");
  assert_null(zone_domain_of("sel.keys.example.net"));
  assert_null(zone_domain_of("x_domainkey.example.net"));
}

static void test_zone__bad_address_in_the_policy_is_refused_at_once(void **state) {
  struct stage *stage = *state;
  struct zone_search *search = NULL;
  struct error error = {0};
  static char server[] = "ns1.example.com";
  stage->publisher.server = server;
  assert_int_equal(zone_find(stage->finder, NAME, NULL, &stage->publisher, TIME_NEVER, found, stage, &search, &error),
                   ERROR_INVALID);
  assert_non_null(strstr(error.message, server));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_zone__zone_and_all_its_servers_are_found),
      TEST(test_zone__soa_ttl_below_its_minimum_is_the_negative_ttl),
      TEST(test_zone__server_that_only_the_parent_names_counts),
      TEST(test_zone__server_that_only_the_apex_names_counts),
      TEST(test_zone__every_address_of_a_server_counts_from_glue_and_zone),
      TEST(test_zone__domain_without_a_zone_of_its_own_lies_in_the_one_above),
      TEST(test_zone__domain_that_is_an_alias_lies_where_the_alias_stands),
      TEST(test_zone__domain_that_is_an_alias_of_nothing_is_there_all_the_same),
      TEST(test_zone__delegated_domainkey_zone_is_followed_by_referral),
      TEST(test_zone__signed_zone_is_noticed),
      TEST(test_zone__cname_at_the_name_leads_into_another_zone),
      TEST(test_zone__dname_at_domainkey_leads_into_another_zone),
      TEST(test_zone__wildcard_cname_leads_into_another_zone),
      TEST(test_zone__alias_into_a_delegated_part_of_the_target_zone_is_followed_there),
      TEST(test_zone__loop_of_cnames_is_an_error_that_names_the_chain),
      TEST(test_zone__dname_that_grows_the_name_ends_with_an_error),
      TEST(test_zone__more_aliases_than_eight_are_an_error),
      TEST(test_zone__given_primary_tells_the_zone_without_any_resolver),
      TEST(test_zone__servers_are_found_by_way_of_a_given_primary),
      TEST(test_zone__without_resolvers_a_given_primary_tells_servers_in_its_zone),
      TEST(test_zone__name_at_a_customer_is_followed_to_the_given_primary_of_the_provider),
      TEST(test_zone__given_servers_are_the_servers),
      TEST(test_zone__given_servers_of_a_known_zone_are_the_answer_even_if_they_are_dead),
      TEST(test_zone__primary_behind_given_servers_is_the_one_of_them_that_the_soa_names),
      TEST(test_zone__primary_is_resolved_from_the_soa),
      TEST(test_zone__primary_without_address_is_said_with_the_remedy),
      TEST(test_zone__ignored_servers_are_left_out_by_name_and_by_address),
      TEST(test_zone__known_zone_needs_no_walk),
      TEST(test_zone__alias_out_of_a_known_zone_is_followed),
      TEST(test_zone__known_zone_that_an_alias_leads_into_is_used),
      TEST(test_zone__known_zone_with_all_servers_dead_still_names_them),
      TEST(test_zone__dead_servers_of_a_delegated_part_are_named_for_what_they_are),
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
      TEST(test_zone__searches_for_one_zone_share_their_questions),
      TEST(test_zone__answers_about_zones_serve_a_minute),
      TEST(test_zone__publishers_with_other_servers_share_nothing),
      TEST(test_zone__two_thousand_zones_keep_within_the_bounds),
      TEST(test_zone__bad_address_in_the_policy_is_refused_at_once),
      cmocka_unit_test(test_zone__resolv_conf_gives_its_name_servers),
      cmocka_unit_test(test_zone__resolv_conf_that_is_missing_means_the_local_host),
      cmocka_unit_test(test_zone__domain_is_right_of_the_last_domainkey),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
