/* The RFC 2136 publisher above update runs: where items go. */
#include "publisher_stage.h"

static void test_publisher__zone_and_server_are_discovered(void **state) {
  (void)state;
  struct stage *stage = stage_new(ITEMS_MAX, NULL, NULL);
  stage_run(stage);
  for (size_t i = 0; i < ITEMS_MAX; i++) assert_success(stage, i, "example.com", stage->names[i], "192.0.2.1:53");
  assert_int_equal(finder_plan.asked, ITEMS_MAX);
  assert_in_range(finder_plan.open_max, 2, 64);
  stage_free(stage);
}

static void test_publisher__what_the_policy_says_is_not_searched(void **state) {
  (void)state;
  struct stage *stage = stage_new(2, policy_server, policy_zone);
  stage_run(stage);
  assert_success(stage, 1, "example.com", stage->names[1], "192.0.2.9:5300");
  assert_int_equal(finder_plan.asked, 0);
  stage_free(stage);
}

static void test_publisher__what_the_item_says_wins_over_the_policy(void **state) {
  (void)state;
  struct stage *stage = stage_new(1, policy_server, policy_zone);
  stage->items[0].zone = "provider.example";
  stage->items[0].owner = "s0.customer.provider.example";
  stage->items[0].primary_server = "[2001:db8::1]:53";
  stage_run(stage);
  assert_success(stage, 0, "provider.example", "s0.customer.provider.example", "[2001:db8::1]:53");
  assert_int_equal(finder_plan.asked, 0);
  assert_non_null(fake_find(&stage->fake, "s0.customer.provider.example", DNS_TYPE_TXT, "v=DKIM1; p=A"));
  stage_free(stage);
}

static void test_publisher__the_policys_server_wins_over_the_mname(void **state) {
  (void)state;
  struct stage *stage = stage_new(1, policy_server, NULL);
  finder_plan.no_primary = true;
  stage_run(stage);
  assert_success(stage, 0, "example.com", stage->names[0], "192.0.2.9:5300");
  assert_int_equal(finder_plan.asked, 1);
  stage_free(stage);
}

static void test_publisher__a_known_zone_is_told_to_the_finder(void **state) {
  (void)state;
  struct stage *stage = stage_new(1, NULL, policy_zone);
  stage_run(stage);
  assert_success(stage, 0, "example.com", stage->names[0], "192.0.2.1:53");
  assert_string_equal(finder_plan.known_zone, "example.com");
  stage_free(stage);
}

static void test_publisher__a_record_behind_an_alias_goes_where_it_lives(void **state) {
  (void)state;
  struct stage *stage = stage_new(1, NULL, NULL);
  finder_plan.owner = "s0.customer.provider.example";
  finder_plan.zone = "provider.example";
  stage_run(stage);
  assert_success(stage, 0, "provider.example", "s0.customer.provider.example", "192.0.2.1:53");
  stage_free(stage);
}

/* The policy's zone is the provider's, the customer's name leads there by an alias. */
static void test_publisher__a_name_outside_the_policys_zone_is_searched(void **state) {
  (void)state;
  static char provider[] = "provider.example";
  struct stage *stage = stage_new(1, policy_server, provider);
  finder_plan.owner = "s0.customer.provider.example";
  finder_plan.zone = "provider.example";
  stage_run(stage);
  assert_string_equal(finder_plan.known_zone, "");
  assert_success(stage, 0, "provider.example", "s0.customer.provider.example", "192.0.2.9:5300");
  stage_free(stage);
}

static void test_publisher__a_name_outside_its_own_zone_is_an_error(void **state) {
  (void)state;
  struct stage *stage = stage_new(2, policy_server, NULL);
  stage->items[0].zone = "example.org";
  stage_run(stage);
  assert_failure(stage, 0, ERROR_NOT_FOUND, "does not lie in the zone example.org");
  assert_success(stage, 1, "example.com", stage->names[1], "192.0.2.9:5300");
  stage_free(stage);
}

static void test_publisher__no_zone_is_told(void **state) {
  (void)state;
  struct stage *stage = stage_new(3, NULL, NULL);
  finder_plan.no_zone = true;
  stage_run(stage);
  for (size_t i = 0; i < 3; i++) assert_failure(stage, i, ERROR_NOT_FOUND, "no zone above s");
  stage_free(stage);
}

static void test_publisher__a_primary_without_address_is_told(void **state) {
  (void)state;
  struct stage *stage = stage_new(1, NULL, NULL);
  finder_plan.no_primary = true;
  stage_run(stage);
  assert_failure(stage, 0, ERROR_NOT_FOUND, "ns1.example.com has no address");
  stage_free(stage);
}

static void test_publisher__a_server_that_is_no_address_is_told(void **state) {
  (void)state;
  struct stage *stage = stage_new(2, policy_server, policy_zone);
  stage->items[0].primary_server = "ns1.example.com";
  stage_run(stage);
  assert_failure(stage, 0, ERROR_INVALID, "ns1.example.com");
  assert_success(stage, 1, "example.com", stage->names[1], "192.0.2.9:5300");
  stage_free(stage);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_publisher__zone_and_server_are_discovered),
      cmocka_unit_test(test_publisher__what_the_policy_says_is_not_searched),
      cmocka_unit_test(test_publisher__what_the_item_says_wins_over_the_policy),
      cmocka_unit_test(test_publisher__the_policys_server_wins_over_the_mname),
      cmocka_unit_test(test_publisher__a_known_zone_is_told_to_the_finder),
      cmocka_unit_test(test_publisher__a_record_behind_an_alias_goes_where_it_lives),
      cmocka_unit_test(test_publisher__a_name_outside_the_policys_zone_is_searched),
      cmocka_unit_test(test_publisher__a_name_outside_its_own_zone_is_an_error),
      cmocka_unit_test(test_publisher__no_zone_is_told),
      cmocka_unit_test(test_publisher__a_primary_without_address_is_told),
      cmocka_unit_test(test_publisher__a_server_that_is_no_address_is_told),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
