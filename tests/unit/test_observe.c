/* What of an answer makes a record present or absent: its text alone and whole, where it lives, and in a signed zone its signature. */
#include "observe_rig.h"

#define REVOKED "v=DKIM1; k=ed25519; p="

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
  stage->publisher.server_count = ARRAY_SIZE(servers);
  const struct observe_result *result = look(stage, OBSERVE_PRESENT, RECORD);
  assert_says(result, NS1, OBSERVE_RIGHT, RECORD);
  assert_says(result, primary, OBSERVE_WRONG, "the TXT has no RRSIG, but the zone is signed");
}

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
  const struct observe_result *result =
      look_at(stage, OBSERVE_ABSENT, &(struct observe_item){.name = NAME, .record = RECORD, .record_also = REVOKED});
  assert_says(result, NS1, OBSERVE_WRONG, REVOKED);
}

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
      TEST(test_observe__signed_zone_needs_a_signature_that_is_valid_now),
      TEST(test_observe__signature_from_one_server_obliges_the_others),
      TEST(test_observe__record_is_absent_when_its_content_is_gone),
      TEST(test_observe__foreign_text_does_not_make_a_record_present),
      TEST(test_observe__record_among_others_is_not_absent),
      TEST(test_observe__both_contents_must_be_gone),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
