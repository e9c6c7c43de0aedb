/* `dkimroll plan`: what will happen, and when. */
#include "cli_desk.h"

static const char TWO[] = "  example.com:\n  example.org:\n";

/* The texts in the column under heading, one a line; caller frees. */
static char *read_column(const char *out, const char *heading) {
  const char *line = strstr(out, "WHEN ");
  assert_non_null(line);
  const size_t column = (size_t)(strstr(line, heading) - line);
  struct buffer texts = BUFFER_WITH_MAXIMUM(1 << 20);
  for (line = strchr(line, '\n') + 1; *line; line = strchr(line, '\n') + 1) {
    buffer_add(&texts, line + column, strcspn(line + column, " \n"));
    buffer_add_text(&texts, "\n");
  }
  return buffer_take_text(&texts);
}

static void test_plan__before_the_first_run_it_tells_of_the_first_keys(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, "  example.com:\n");
  desk.arguments.until = desk.now + 100 * DAY;
  assert_int_equal(desk_run(&desk, cli_command_plan, NULL), EX_OK);
  assert_contains(desk.out, "Nothing has run yet");
  assert_contains(desk.out, "every server serves a record at once, nothing fails");
  CLEANUP_FREE char *steps = read_column(desk.out, "STEP");
  assert_string_equal(steps,
                      "generate\npublish\nready\nactivate\ngenerate\npublish\nready\nactivate\nwithdraw\nrevoke\n");
  assert_contains(desk.out, "generated -> published");
  assert_int_equal(access(desk.state, F_OK), -1);
}

static void test_plan__goes_on_from_where_the_keys_are(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, "  example.com:\n");
  desk_sync(&desk);
  desk_edit(&desk, "example.com", NULL, desk_live, NULL);
  desk.arguments.until = desk.now + 59 * DAY;
  assert_int_equal(desk_run(&desk, cli_command_plan, NULL), EX_OK);
  assert_true(text_starts(desk.out, "0 steps until "));
  desk.arguments.until = desk.now + 60 * DAY;
  assert_int_equal(desk_run(&desk, cli_command_plan, NULL), EX_OK);
  CLEANUP_FREE char *steps = read_column(desk.out, "STEP");
  assert_string_equal(steps, "generate\npublish\n");
}

static void test_plan__steps_of_all_domains_stand_in_the_order_of_time(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, TWO);
  desk_sync(&desk);
  desk_edit(&desk, "example.com", NULL, desk_live, &(int64_t){10 * DAY});
  desk_edit(&desk, "example.org", NULL, desk_live, &(int64_t){60 * DAY});
  desk.arguments.until = desk.now + 82 * DAY;
  assert_int_equal(desk_run(&desk, cli_command_plan, NULL), EX_OK);
  CLEANUP_FREE char *domains = read_column(desk.out, "DOMAIN");
  /* example.org, from day 30: made, published, ready, active, withdrawn, revoked; deleted and destroyed on day 67. example.com, from day 80, so far as day 82. */
  assert_string_equal(
      domains,
      "example.org\nexample.org\nexample.org\nexample.org\nexample.org\nexample.org\nexample.org\nexample.org\n"
      "example.com\nexample.com\nexample.com\nexample.com\nexample.com\n");
}

static void test_plan__an_operand_restricts_it(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, TWO);
  desk_sync(&desk);
  desk.arguments.until = desk.now + DAY;
  assert_int_equal(desk_run(&desk, cli_command_plan, DOMAINS("EXAMPLE.org.")), EX_OK);
  assert_contains(desk.out, "example.org");
  assert_lacks(desk.out, "example.com");
  assert_int_equal(desk_run(&desk, cli_command_plan, DOMAINS("example.net")), EX_NOINPUT);
  assert_contains(desk.err, "example.net is not managed by dkimroll");
}

static void test_plan__slots_have_a_column(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, "  example.com: {policy: double}\n");
  desk.arguments.until = desk.now + MINUTE;
  assert_int_equal(desk_run(&desk, cli_command_plan, NULL), EX_OK);
  CLEANUP_FREE char *slots = read_column(desk.out, "KEY");
  assert_string_equal(slots, "main\nmain\nsecond\nsecond\n");
}

static void hold_for_ever(struct lineage *lineage, const struct desk *desk, void *context) {
  (void)desk;
  lineage->held = true;
  lineage->hold_until = TIME_NEVER;
  lineage->hold_reason = text_duplicate(context);
}

static void test_plan__what_waits_for_a_person_is_told(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, TWO);
  desk_sync(&desk);
  desk_edit(&desk, "example.org", NULL, hold_for_ever, (void *)"moving");
  desk.arguments.until = desk.now + DAY;
  assert_int_equal(desk_run(&desk, cli_command_plan, NULL), EX_OK);
  assert_contains(desk.out, "Waits for you: held: moving; `dkimroll release example.org` ends it\n");
  CLEANUP_FREE char *domains = read_column(desk.out, "DOMAIN");
  assert_lacks(domains, "example.org");
}

static void test_plan__a_changed_policy_is_told(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, TWO);
  desk_sync(&desk);
  desk.arguments.until = desk.now + DAY;
  assert_int_equal(desk_run(&desk, cli_command_plan, NULL), EX_OK);
  assert_lacks(desk.out, "was changed");
  desk_write_policy(&desk, "  example.com:\n");
  assert_int_equal(desk_run(&desk, cli_command_plan, NULL), EX_OK);
  assert_contains(desk.out, "The policy was changed since the last run");
}

static void test_plan__a_broken_policy_before_the_first_run_is_an_error_of_the_policy(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, "  example.com: {policy: none}\n");
  desk.arguments.until = TIME_UNSET;
  assert_int_equal(desk_run(&desk, cli_command_plan, NULL), EX_CONFIG);
  assert_contains(desk.err, "policy.yaml:");
}

static void test_plan__a_moment_that_is_over_is_refused(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, TWO);
  desk.arguments.until = desk.now - DAY;
  assert_int_equal(desk_run(&desk, cli_command_plan, NULL), EX_DATAERR);
  assert_contains(desk.err, "--until");
}

static void test_plan__json_says_the_same_to_programs(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  char moment[TIME_TEXT_SIZE];
  desk_make(&desk, "  example.com:\n");
  desk.arguments.until = desk.now + DAY;
  desk.arguments.json = true;
  assert_int_equal(desk_run(&desk, cli_command_plan, NULL), EX_OK);
  assert_json(desk.out, "$.until", time_format_iso(desk.now + DAY, moment));
  assert_json(desk.out, "$.steps[0].step", "generate");
  assert_json(desk.out, "$.steps[1].from", "generated");
  assert_json(desk.out, "$.steps[1].to", "published");
  assert_json(desk.out, "$.steps[3].step", "activate");
  assert_json(desk.out, "$.steps[4]", "NULL");
}

static void test_plan__without_until_it_looks_half_a_year_ahead(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  char moment[TIME_TEXT_SIZE];
  desk_make(&desk, "  example.com:\n");
  desk.arguments.until = TIME_UNSET;
  desk.arguments.json = true;
  assert_int_equal(desk_run(&desk, cli_command_plan, NULL), EX_OK);
  CLEANUP_FREE char *until = json_read(desk.out, "$.until");
  /* The test's clock may be a little behind. */
  time_format_iso(desk.now + 180 * DAY, moment);
  assert_memory_equal(until, moment, strlen("2026-01-24T15"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_plan__before_the_first_run_it_tells_of_the_first_keys),
      cmocka_unit_test(test_plan__goes_on_from_where_the_keys_are),
      cmocka_unit_test(test_plan__steps_of_all_domains_stand_in_the_order_of_time),
      cmocka_unit_test(test_plan__an_operand_restricts_it),
      cmocka_unit_test(test_plan__slots_have_a_column),
      cmocka_unit_test(test_plan__what_waits_for_a_person_is_told),
      cmocka_unit_test(test_plan__a_changed_policy_is_told),
      cmocka_unit_test(test_plan__a_broken_policy_before_the_first_run_is_an_error_of_the_policy),
      cmocka_unit_test(test_plan__a_moment_that_is_over_is_refused),
      cmocka_unit_test(test_plan__json_says_the_same_to_programs),
      cmocka_unit_test(test_plan__without_until_it_looks_half_a_year_ahead),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
