/* `dkimroll status`: how it shows many domains and all of one, to people and to programs. */
#include "status_desk.h"

static void test_status__slots_are_shown_where_there_are_any(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, "  example.com: {policy: double}\n");
  desk_sync(&desk);
  desk_edit(&desk, "example.com", NULL, desk_live, NULL);
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_OK);
  assert_true(text_starts(desk.out, "All right: 1 domain signed, "));
  CLEANUP_FREE char *heading = find_line(desk.out, "DOMAIN");
  assert_contains(heading, " KEY ");
  assert_contains(desk.out, "example.com second e");
}

static void test_status__a_domain_is_signed_only_if_every_slot_is(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, "  example.com: {policy: double}\n");
  desk_sync(&desk);
  desk_edit(&desk, "example.com", "main", desk_live, NULL);
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_OK);
  assert_true(
      text_starts(desk.out, "Under way, nothing is wrong: 0 of 1 domain signed, next step with the next run (example.com: generate)."));
}

static void test_status__details_tell_servers_signers_record_and_moments(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  int64_t ago = 2 * HOUR, ready;
  char moment[TIME_TEXT_SIZE];
  desk_make_signed(&desk);
  desk_write_policy(&desk, "  example.com:\n  example.org:\n  new.example:\n");
  desk_sync(&desk);
  desk_edit(&desk, "new.example", NULL, desk_publish, &ago);
  desk_edit(&desk, "new.example", NULL, desk_confirm, &(struct desk_round){.at = desk.now - 2 * MINUTE});
  desk_edit(&desk, "new.example", NULL, desk_confirm, &(struct desk_round){.at = desk.now - MINUTE});
  ready = desk.now - 2 * MINUTE + 300 + HOUR;
  assert_int_equal(desk_run(&desk, cli_command_status, DOMAINS("New.Example.", "example.com")), EX_OK);
  assert_true(text_starts(desk.out, "Under way, nothing is wrong: 1 of 2 domains signed, next step "));
  assert_contains(desk.out,
                  "\nnew.example, key main: policy standard, publisher primary, signers local; a new key every 90d\n");
  assert_contains(desk.out, "v=DKIM1; k=rsa; p=MIIB\n");
  assert_contains(desk.out, "._domainkey.new.example\n");
  assert_contains(desk.out, "ns2.example.net (192.0.2.2:53): right since ");
  assert_contains(desk.out, "local: /k/keys/new.example/server-");
  CLEANUP_FREE char *expected = text_format(
      "F1 ready %s (right on every server + max(TTLneg 5m, TTLold 0s) + safety 1h)", time_format(ready, moment));
  assert_contains(desk.out, expected);
  assert_contains(desk.out, "successor signs ");
  assert_lacks(desk.out, "example.org");
}

static void test_status__details_of_a_retired_key_tell_when_it_goes(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, "  example.com:\n");
  desk_sync(&desk);
  desk_edit(&desk, "example.com", NULL, desk_live, &(int64_t){91 * DAY});
  assert_int_equal(desk_run(&desk, cli_command_status, DOMAINS("example.com")), EX_OK);
  assert_contains(desk.out, "F2 last signature ");
  assert_contains(desk.out, "F3 revoke ");
  assert_contains(desk.out, "F2 + queue 5d + back-off ");
}

static void test_status__json_says_the_same_to_programs(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  char moment[TIME_TEXT_SIZE];
  int64_t next;
  desk_make_signed(&desk);
  desk_edit(&desk, "example.com", NULL, desk_keep_generation, &next);
  desk_edit(&desk, "example.org", NULL, desk_fail, (void *)"publish: \"no\" \\ answer");
  desk.arguments.json = true;
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  assert_json(desk.out, "$.ok", "0");
  assert_json(desk.out, "$.domains", "2");
  assert_json(desk.out, "$.next.when", time_format_iso(next, moment));
  assert_json(desk.out, "$.next.step", "generate");
  assert_json(desk.out, "$.problems[0].domain", "example.org");
  assert_json(desk.out, "$.problems[0].text", "publish: \"no\" \\ answer");
  assert_json(desk.out, "$.keys[0].domain", "example.com");
  assert_json(desk.out, "$.keys[0].state", "active");
  assert_json(desk.out, "$.keys[0].when", time_format_iso(next, moment));
  assert_json(desk.out, "$.keys[0].problems[0]", "NULL");
  assert_json(desk.out, "$.keys[1].problems[0]", "publish: \"no\" \\ answer");
  assert_json(desk.out, "$.keys[0].servers", "NULL");
  assert_json(desk.out, "$.keys[2]", "NULL");
}

static void test_status__json_with_a_domain_has_all_details(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  char moment[TIME_TEXT_SIZE];
  desk_make_lagging(&desk, 61 * MINUTE, "another TXT: \xff\x01\xc3\xa9");
  desk.arguments.json = true;
  assert_int_equal(desk_run(&desk, cli_command_status, DOMAINS("example.com")), EX_TEMPFAIL);
  assert_json(desk.out, "$.keys[0].servers[0].right", "1");
  assert_json(desk.out, "$.keys[0].servers[0].right_since", time_format_iso(desk.now - MINUTE, moment));
  assert_json(desk.out, "$.keys[0].servers[1].right_since", "NULL");
  assert_json(desk.out, "$.keys[0].servers[1].answer", "another TXT: \xef\xbf\xbd\x01\xc3\xa9");
  assert_json(desk.out, "$.keys[0].signers[0].signer", "local");
  assert_json(desk.out, "$.keys[0].will_be.ready", "never");
  assert_json(desk.out, "$.keys[0].was.published", time_format_iso(desk.now - 61 * MINUTE, moment));
}

static void test_status__many_rows_stand_under_one_heading_in_straight_columns(void **state) {
  (void)state;
  enum { MANY = 1203 };
  CLEANUP(desk_remove) struct desk desk;
  struct buffer domains = BUFFER_WITH_MAXIMUM(1 << 20);
  for (unsigned i = 0; i < MANY; i++)
    buffer_format(&domains, "  %c%u.example%s:\n", i < 1000 ? 'a' : 'b', i, i == 1100 ? ".with.a.long.name" : "");
  desk_make(&desk, (char *)domains.data);
  buffer_release(&domains);
  desk_sync(&desk);
  /* A part in which all texts of a column are shorter than its heading is followed by one in which one is longer. */
  desk_edit(&desk, "b1150.example", NULL, desk_live, NULL);
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_OK);
  const char *heading = strstr(desk.out, "DOMAIN ");
  assert_non_null(heading);
  assert_null(strstr(heading + 1, "DOMAIN "));
  assert_int_equal(count_lines(heading), MANY + 1);
  const size_t column = (size_t)(strstr(heading, "NEXT") - heading);
  for (const char *line = strchr(heading, '\n') + 1; *line; line = strchr(line, '\n') + 1)
    if (!text_starts(line + column, "generate")) fail_msg("crooked: %.100s", line);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_status__slots_are_shown_where_there_are_any),
      cmocka_unit_test(test_status__a_domain_is_signed_only_if_every_slot_is),
      cmocka_unit_test(test_status__details_tell_servers_signers_record_and_moments),
      cmocka_unit_test(test_status__details_of_a_retired_key_tell_when_it_goes),
      cmocka_unit_test(test_status__json_says_the_same_to_programs),
      cmocka_unit_test(test_status__json_with_a_domain_has_all_details),
      cmocka_unit_test(test_status__many_rows_stand_under_one_heading_in_straight_columns),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
