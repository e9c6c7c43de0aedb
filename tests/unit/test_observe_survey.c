/* Surveys of a name before it is used: whether it is free, and for how long caches may hold what was there or that nothing was. */
#include "observe_rig.h"

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
  set_fault(stage, NS1, SERVER_REFUSED);
  set_fault(stage, NS2, SERVER_DEAD);
  const struct observe_result *result =
      look_at(stage, OBSERVE_SURVEY, &(struct observe_item){.name = NAME, .zone = "example.com"});
  assert_false(result->free);
  assert_says(result, NS1, OBSERVE_SILENT, "REFUSED");
  assert_says(result, NS2, OBSERVE_SILENT, "no answer in 8 s");
  assert_int_equal(result->ttl_negative, -1);
}

static void test_observe__survey_goes_by_the_servers_that_answer(void **state) {
  struct stage *stage = *state;
  set_fault(stage, NS2, SERVER_DEAD);
  const struct observe_result *result = look(stage, OBSERVE_SURVEY, NULL);
  assert_true(result->free);
  assert_says(result, NS2, OBSERVE_SILENT, "no answer in 8 s");
}

static void test_observe__server_that_refuses_the_sibling_says_nothing_about_the_name(void **state) {
  struct stage *stage = *state;
  set_fault(stage, NS2, SERVER_PICKY);
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
  assert_true(look_at(stage, OBSERVE_SURVEY, &(struct observe_item){.name = name})->free);
}

int main(void) {
  const struct CMUnitTest tests[] = {
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
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
