/* Discovery of a zone and all its servers, from the name of a record: delegations, glue, and aliases that lead into zones of others. */
#include "zone_rig.h"

#include "dkimroll/zone_read.h"

static void test_zone__zone_and_all_its_servers_are_found(void **state) {
  struct stage *stage = *state;
  find_name(stage, "Sel._DomainKey.Example.COM");
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
  find_name(stage, NAME);
  assert_int_equal(stage->answer.ttl_negative, 120);
}

static void test_zone__server_that_only_the_parent_names_counts(void **state) {
  struct stage *stage = *state;
  delegate(stage->world, "com", "example.com", "old.example.com", "192.0.2.12");
  world_serve(stage->world, "192.0.2.12", "example.com");
  find_name(stage, NAME);
  assert_int_equal(stage->answer.server_count, 3);
  assert_true(has_server(stage, "old.example.com", "192.0.2.12:53"));
}

static void test_zone__server_that_only_the_apex_names_counts(void **state) {
  struct stage *stage = *state;
  apex(stage->world, "example.com", "ns.provider.net", NULL);
  find_name(stage, NAME);
  assert_int_equal(stage->answer.server_count, 3);
  assert_true(has_server(stage, "ns.provider.net", PROVIDER ":53"));
}

static void test_zone__every_address_of_a_server_counts_from_glue_and_zone(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", "ns2.example.com", 60, DNS_TYPE_AAAA, NS2_6);
  world_add(stage->world, "com", "ns2.example.com", 60, DNS_TYPE_A, "192.0.2.13");
  find_name(stage, NAME);
  assert_int_equal(stage->answer.server_count, 4);
  assert_true(has_server(stage, "ns2.example.com", NS2 ":53"));
  assert_true(has_server(stage, "ns2.example.com", "[" NS2_6 "]:53"));
  assert_true(has_server(stage, "ns2.example.com", "192.0.2.13:53"));
}

static void test_zone__domain_without_a_zone_of_its_own_lies_in_the_one_above(void **state) {
  struct stage *stage = *state;
  find_name(stage, "sel._domainkey.news.example.com");
  assert_found(stage, "example.com", "sel._domainkey.news.example.com");
}

static void test_zone__domain_that_is_an_alias_lies_where_the_alias_stands(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", "mail.example.com", 60, DNS_TYPE_CNAME, "www.provider.net");
  world_add(stage->world, "provider.net", "www.provider.net", 60, DNS_TYPE_A, "192.0.2.99");
  find_name(stage, "sel._domainkey.mail.example.com");
  assert_found(stage, "example.com", "sel._domainkey.mail.example.com");
}

static void test_zone__domain_that_is_an_alias_of_nothing_is_there_all_the_same(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", "mail.example.com", 60, DNS_TYPE_CNAME, "gone.com");
  find_name(stage, "sel._domainkey.mail.example.com");
  assert_found(stage, "example.com", "sel._domainkey.mail.example.com");
}

static void test_zone__delegated_domainkey_zone_is_followed_by_referral(void **state) {
  struct stage *stage = *state;
  delegate_domainkey(stage->world);
  apex(stage->world, "_domainkey.example.com", "keys.example.com", NULL);
  find_name(stage, NAME);
  assert_found(stage, "_domainkey.example.com", NAME);
  assert_int_equal(stage->answer.server_count, 1);
  assert_true(has_server(stage, "keys.example.com", KEYS ":53"));
  assert_int_equal(stage->answer.ttl_negative, 60);
  /* The referral was the delegation: nobody need be asked for it again. */
  assert_int_equal(world_count(stage->world, NS1, "_domainkey.example.com", DNS_TYPE_NS), 0);
}

static void test_zone__signed_zone_is_noticed(void **state) {
  struct stage *stage = *state;
  world_zone_of(stage->world, "example.com")->is_signed = true;
  find_example(stage);
  assert_true(stage->answer.is_signed);
}

static void test_zone__cname_at_the_name_leads_into_another_zone(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", NAME, 7200, DNS_TYPE_CNAME, "sel.example-com.keys.provider.net");
  find_name(stage, NAME);
  assert_found(stage, "provider.net", "sel.example-com.keys.provider.net");
  assert_int_equal(stage->answer.ttl_alias, 7200);
  assert_int_equal(stage->answer.server_count, 1);
  assert_true(has_server(stage, "ns.provider.net", PROVIDER ":53"));
}

static void test_zone__dname_at_domainkey_leads_into_another_zone(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", "_domainkey.example.com", 1800, DNS_TYPE_DNAME,
            "_domainkey.customer1.provider.net");
  find_name(stage, NAME);
  assert_found(stage, "provider.net", "sel._domainkey.customer1.provider.net");
  assert_int_equal(stage->answer.ttl_alias, 1800);
}

static void test_zone__wildcard_cname_leads_into_another_zone(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", "*._domainkey.example.com", 900, DNS_TYPE_CNAME, "key.customer1.provider.net");
  find_name(stage, NAME);
  assert_found(stage, "provider.net", "key.customer1.provider.net");
}

static void test_zone__alias_into_a_delegated_part_of_the_target_zone_is_followed_there(void **state) {
  struct stage *stage = *state;
  world_zone(stage->world, "dkim.provider.net", 60, 60, "keys.provider.net");
  delegate(stage->world, "provider.net", "dkim.provider.net", "keys.provider.net", "192.0.2.21");
  world_serve(stage->world, "192.0.2.21", "dkim.provider.net");
  apex(stage->world, "dkim.provider.net", "keys.provider.net", NULL);
  world_add(stage->world, "example.com", "_domainkey.example.com", 60, DNS_TYPE_DNAME, "customer1.dkim.provider.net");
  find_name(stage, NAME);
  assert_found(stage, "dkim.provider.net", "sel.customer1.dkim.provider.net");
  assert_true(has_server(stage, "keys.provider.net", "192.0.2.21:53"));
  /* A resolver that hears of the name's parent would keep for a while that it does not exist. */
  assert_int_equal(world_count(stage->world, RESOLVER, "customer1.dkim.provider.net", 0), 0);
}

static void test_zone__loop_of_cnames_is_an_error_that_names_the_chain(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", NAME, 60, DNS_TYPE_CNAME, "a.provider.net");
  world_add(stage->world, "provider.net", "a.provider.net", 60, DNS_TYPE_CNAME, NAME);
  find_name(stage, NAME);
  assert_failed(stage, ERROR_LIMIT, "in a circle: " NAME " -> a.provider.net -> " NAME);
}

static void test_zone__dname_that_grows_the_name_ends_with_an_error(void **state) {
  struct stage *stage = *state;
  world_add(stage->world, "example.com", "_domainkey.example.com", 60, DNS_TYPE_DNAME,
            "x123456789012345678901234567890.x123456789012345678901234567890.x1234567890._domainkey.example.com");
  find_name(stage, NAME);
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
  find_name(stage, NAME);
  assert_failed(stage, ERROR_LIMIT, "too many aliases");
  find_name(stage, "step0._domainkey.example.com");
  assert_found(stage, "example.com", "step8._domainkey.example.com");
}

static void test_zone__domain_is_right_of_the_last_domainkey(void **state) {
  (void)state;
  assert_string_equal(zone_domain_of(NAME), "example.com");
  assert_string_equal(zone_domain_of("a._domainkey.b._domainkey.example.net"), "example.net");
  assert_string_equal(zone_domain_of("_domainkey.example.net"), "example.net");
  assert_null(zone_domain_of("sel.keys.example.net"));
  assert_null(zone_domain_of("x_domainkey.example.net"));
}

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
      cmocka_unit_test(test_zone__domain_is_right_of_the_last_domainkey),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
