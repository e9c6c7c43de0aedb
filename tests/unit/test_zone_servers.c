/* Discovery by what the policy says: its primary, its servers, servers to ignore, the zone itself; and the resolvers of the host where it names none. */
#include "zone_rig.h"

#include "dkimroll/zone_source.h"

/* The one server that the policy gives. */
#define GIVEN "192.0.2.30:5300"

/* It serves example.com, and is the publisher's primary. */
static void give_primary(struct stage *stage) {
  static char server[] = GIVEN;
  world_serve(stage->world, server, "example.com");
  stage->publisher.server = server;
}

/* They serve example.com, and are the publisher's servers. */
static void give_servers(struct stage *stage, char **servers, size_t count) {
  for (size_t i = 0; i < count; i++) world_serve(stage->world, servers[i], "example.com");
  stage->publisher.servers = servers;
  stage->publisher.server_count = count;
}

static void test_zone__given_primary_tells_the_zone_without_any_resolver(void **state) {
  struct stage *stage = *state;
  char text[ADDRESS_TEXT_SIZE];
  give_primary(stage);
  find_primary(stage, NAME);
  assert_found(stage, "example.com", NAME);
  assert_string_equal(address_format(&stage->answer.primary_address, text), GIVEN);
  assert_int_equal(stage->world->query_count, 1);
}

static void test_zone__servers_are_found_by_way_of_a_given_primary(void **state) {
  struct stage *stage = *state;
  give_primary(stage);
  delegate(stage->world, "com", "example.com", "old.example.com", "192.0.2.12");
  find_example(stage);
  assert_int_equal(stage->answer.server_count, 3);
  assert_true(has_server(stage, "ns1.example.com", NS1 ":53"));
  assert_true(has_server(stage, "old.example.com", "192.0.2.12:53"));
  assert_int_equal(world_count(stage->world, NS1, NULL, 0), 0);
}

static void test_zone__without_resolvers_a_given_primary_tells_servers_in_its_zone(void **state) {
  struct stage *stage = *state;
  give_primary(stage);
  world_server(stage->world, GIVEN)->is_minimal = true;
  world_server(stage->world, RESOLVER)->fault = SERVER_DEAD;
  find_example(stage);
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
  static char first[] = GIVEN, second[] = "[2001:db8::30]:5301";
  static char *servers[] = {first, second};
  give_servers(stage, servers, ARRAY_SIZE(servers));
  find_example(stage);
  assert_int_equal(stage->answer.server_count, 2);
  assert_true(has_server(stage, first, first));
  assert_true(has_server(stage, second, second));
  assert_int_equal(world_count(stage->world, RESOLVER, NULL, 0), 0);
}

static void test_zone__given_servers_of_a_known_zone_are_the_answer_even_if_they_are_dead(void **state) {
  struct stage *stage = *state;
  static char first[] = GIVEN;
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
  static char first[] = GIVEN, second[] = NS1 ":5301";
  static char *servers[] = {first, second};
  char text[ADDRESS_TEXT_SIZE];
  give_servers(stage, servers, ARRAY_SIZE(servers));
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
  find_example(stage);
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
  delegate_domainkey(stage->world);
  world_server(stage->world, KEYS)->fault = SERVER_DEAD;
  find_known(stage, NAME, "example.com");
  assert_found(stage, "_domainkey.example.com", NAME);
  assert_int_equal(stage->answer.server_count, 1);
  assert_true(has_server(stage, "keys.example.com", KEYS ":53"));
}

static void test_zone__bad_address_in_the_policy_is_refused_at_once(void **state) {
  struct stage *stage = *state;
  struct zone_search *search = NULL;
  struct error error = {0};
  static char server[] = "ns1.example.com";
  stage->publisher.server = server;
  assert_int_equal(zone_find(stage->finder, NAME, NULL, &stage->publisher, TIME_NEVER, note_found, stage, &search, &error),
                   ERROR_INVALID);
  assert_non_null(strstr(error.message, server));
}

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

int main(void) {
  const struct CMUnitTest tests[] = {
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
      TEST(test_zone__bad_address_in_the_policy_is_refused_at_once),
      cmocka_unit_test(test_zone__resolv_conf_gives_its_name_servers),
      cmocka_unit_test(test_zone__resolv_conf_that_is_missing_means_the_local_host),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
