/* What a person sees of holds, freezes, full runs and stopped waves, and what she may not type. */
#include "cli_desk.h"

#include <sqlite3.h>

#define TWO "  example.com:\n  example.org:\n"

#define assert_contains(text, part)                                                                                    \
  do {                                                                                                                 \
    if (!strstr(text, part)) fail_msg("\"%s\" is not in:\n%s", part, text);                                            \
  } while (0)
#define assert_lacks(text, part)                                                                                       \
  do {                                                                                                                 \
    if (strstr(text, part)) fail_msg("\"%s\" is in:\n%s", part, text);                                                 \
  } while (0)

static void change(const struct desk *desk, const char *sql) {
  sqlite3 *database = NULL;
  char *message = NULL;
  assert_int_equal(sqlite3_open(desk->state, &database), SQLITE_OK);
  if (sqlite3_exec(database, sql, NULL, NULL, &message) != SQLITE_OK) fail_msg("%s", message);
  sqlite3_close(database);
}

static void stop_wave(const struct desk *desk) {
  CLEANUP_FREE char *sql =
      text_format("UPDATE wave SET run = 0, period = %lld, first = 'example.org: activate of s1: 454 no', first_action = 5, stopped_at = %lld,"
                  " stopped_ended = 200, stopped_failed = 12, probe_at = %lld",
                  (long long)desk->now, (long long)desk->now - HOUR, (long long)desk->now + HOUR);
  change(desk, sql);
}

static void test_control__a_stopped_wave_stands_in_the_first_line_of_status(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, TWO "failure-budget: 5%\n");
  desk_sync(&desk);
  desk_edit(&desk, NULL, NULL, desk_live, NULL);
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_OK);
  stop_wave(&desk);
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  assert_true(text_starts(desk.out, "NOT all right: the wave of rotations is stopped, 12 of 200 failed; 2 domains signed.\n"));
  assert_contains(desk.out, "  the wave of rotations is stopped: 12 of 200 failed, the first: example.org: activate of s1: 454 no, since ");
  assert_contains(desk.out, "see to the cause, then `dkimroll release --wave`\n");
  desk.arguments.json = true;
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  assert_contains(desk.out, "the wave of rotations is stopped: 12 of 200 failed");
}

static void test_control__run_with_nothing_due_says_that_the_wave_is_stopped(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, TWO "failure-budget: 5%\n");
  desk_sync(&desk);
  CLEANUP_FREE char *sql = text_format("UPDATE lineage SET next_moment = %lld", (long long)desk.now + DAY);
  change(&desk, sql);
  assert_int_equal(desk_run(&desk, cli_command_run, NULL), EX_OK);
  stop_wave(&desk);
  assert_int_equal(desk_run(&desk, cli_command_run, NULL), EX_TEMPFAIL);
  assert_contains(desk.out, "Nothing is due before ");
  assert_contains(desk.err, "dkimroll: the wave of rotations is stopped: 12 of 200 failed, the first: example.org: activate of s1: 454 no\n");
}

static void test_control__plan_says_that_the_wave_is_stopped(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, TWO "failure-budget: 5%\n");
  desk_sync(&desk);
  stop_wave(&desk);
  desk.arguments.until = desk.now + DAY;
  assert_int_equal(desk_run(&desk, cli_command_plan, NULL), EX_OK);
  assert_contains(desk.out, "Waits for you: the wave of rotations is stopped: 12 of 200 failed");
  assert_contains(desk.out, "This plan is as if it went on now; `dkimroll release --wave`\n");
}

static void test_control__plan_has_places_in_runs(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  char first[TIME_TEXT_SIZE], second[TIME_TEXT_SIZE];
  desk_make(&desk, "  a.example:\n  b.example:\n  c.example:\nmax-per-run: 1\n");
  desk_sync(&desk);
  desk.arguments.until = desk.now + DAY;
  assert_int_equal(desk_run(&desk, cli_command_plan, NULL), EX_OK);
  const int64_t run = desk.now - desk.now % 600;
  time_format(run + 600, first);
  time_format(run + 1200, second);
  CLEANUP_FREE char *b = text_format("%s b.example", first);
  CLEANUP_FREE char *c = text_format("%s c.example", second);
  assert_contains(desk.out, b);
  assert_contains(desk.out, c);
}

static void test_control__status_says_when_a_full_run_is_over(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, TWO "max-per-run: 1\n");
  desk_sync(&desk);
  CLEANUP_FREE char *sql = text_format("UPDATE wave SET run = %lld, begun = 1, period = %lld", (long long)(desk.now - desk.now % 600), (long long)desk.now);
  change(&desk, sql);
  desk_run(&desk, cli_command_status, DOMAINS("example.com"));
  assert_contains(desk.out, "waits for   1 domain begins a key in one run, as many as max-per-run allows; its place is in that of ");
}

static void test_control__status_and_plan_say_until_when_all_is_frozen(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, TWO "freeze: \"2020-01-01..2098-12-31\"\n");
  desk_sync(&desk);
  desk_run(&desk, cli_command_status, DOMAINS("example.com"));
  assert_contains(desk.out, "waits for   frozen (2020-01-01..2098-12-31 UTC) until 2099-01-01 00:00:00 UTC\n");
  desk.arguments.until = desk.now + 1000 * (int64_t)DAY;
  assert_int_equal(desk_run(&desk, cli_command_plan, NULL), EX_OK);
  assert_true(text_starts(desk.out, "0 steps until "));
}

static void hold_activation(struct lineage *lineage, const struct desk *desk, void *context) {
  (void)context;
  lineage->held = true;
  lineage->hold_scope = HOLD_ACTIVATION;
  lineage->hold_until = desk->now + DAY;
  lineage->hold_reason = text_duplicate("the boss is away");
}

static void test_control__status_tells_the_scope_of_a_hold(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, TWO);
  desk_sync(&desk);
  desk_edit(&desk, NULL, NULL, desk_live, NULL);
  desk_edit(&desk, "example.com", NULL, hold_activation, NULL);
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_OK);
  assert_contains(desk.out, "  example.com: held from taking over until ");
  assert_contains(desk.out, "(the boss is away); `dkimroll release` ends the hold\n");
  desk.arguments.json = true;
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_OK);
  assert_contains(desk.out, "\"hold_scope\": \"activation\"");
  assert_contains(desk.out, "\"hold_reason\": \"the boss is away\"");
  assert_lacks(desk.out, "\"hold_scope\": \"all\"");
}

static void test_control__a_hold_that_ends_before_it_begins_is_refused(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, TWO);
  desk_sync(&desk);
  desk.arguments.until = desk.now - DAY;
  assert_int_equal(desk_run(&desk, cli_command_hold, DOMAINS("example.com")), EX_DATAERR);
  assert_contains(desk.err, "is over: nothing was held\ndkimroll: remedy: name a moment to come with --until (UTC), or none\n");
}

static void test_control__release_takes_domains_or_the_wave(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, TWO);
  desk_sync(&desk);
  assert_int_equal(desk_run(&desk, cli_command_release, NULL), EX_USAGE);
  assert_contains(desk.err, "release takes either domains or --wave");
  desk.arguments.wave = true;
  assert_int_equal(desk_run(&desk, cli_command_release, DOMAINS("example.com")), EX_USAGE);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_control__a_stopped_wave_stands_in_the_first_line_of_status),
      cmocka_unit_test(test_control__run_with_nothing_due_says_that_the_wave_is_stopped),
      cmocka_unit_test(test_control__plan_says_that_the_wave_is_stopped),
      cmocka_unit_test(test_control__plan_has_places_in_runs),
      cmocka_unit_test(test_control__status_says_when_a_full_run_is_over),
      cmocka_unit_test(test_control__status_and_plan_say_until_when_all_is_frozen),
      cmocka_unit_test(test_control__status_tells_the_scope_of_a_hold),
      cmocka_unit_test(test_control__a_hold_that_ends_before_it_begins_is_refused),
      cmocka_unit_test(test_control__release_takes_domains_or_the_wave),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
