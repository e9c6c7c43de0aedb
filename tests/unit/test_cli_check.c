/* `dkimroll check` as a command, in a scripted world: which domains it asks about, what it leaves behind, how it ends, and what it says of policies, calendars,
 * clocks and the state. */
#include "check_world.h"

static struct scripted_world world;

static void test_check__all_right(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, TWO);
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_verdict(&desk, "All right: a rotation can run.");
  assert_int_equal(world.observed_count, 2);
  assert_int_equal(world.added_count, 2);
  assert_int_equal(world.deleted_count, 2);
  assert_string_equal(world.added[0], world.deleted[0]);
  assert_string_equal(world.added[1], world.deleted[1]);
  assert_true(text_starts(world.added[0], "dkimroll-check-"));
  assert_true(text_ends(world.added[0], "._domainkey.example.com"));
  assert_int_equal(strcspn(world.added[0] + strlen("dkimroll-check-"), "."), 12);
  assert_contains(desk.out, "example.com and 1 other: a scratch record was added, read back and deleted again");
  assert_contains(desk.out, "2 of 2 servers answer: ns1.example.net (192.0.2.1:53), ns2.example.net (192.0.2.2:53)");
  assert_contains(desk.out, "a signed reply of a primary agrees with it");
  assert_contains(desk.out, "example.com and 1 other: no key of it signs yet");
  assert_string_equal(world.senders, "*@example.org");
  assert_int_equal(world.proved_count, 0);
  assert_lacks(desk.out, "FAILED");
}

static void test_check__changes_nothing_on_disk(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, TWO);
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_int_equal(access(desk.state, F_OK), -1);
  CLEANUP_FREE char *keys = workplace_path(&desk.folder, "keys");
  assert_int_equal(access(keys, F_OK), -1);
  CLEANUP_FREE char *folder = workplace_path(&desk.folder, "state");
  assert_int_equal(rmdir(folder), 0); /* it is empty */
}

static void test_check__works_while_somebody_else_executes(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  struct error error = {0};
  check_world_make(&world, &desk, "  example.com:\n");
  desk_sync(&desk);
  struct store *store = desk_open_store(&desk);
  assert_int_equal(store->ops->lease(store, "dkimroll daemon", desk.now, &error), 0);
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  store_close(store);
}

static void test_check__a_broken_policy_ends_it_at_once(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, "  example.com: {policy: none}\n");
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_CONFIG);
  assert_contains(desk.err, "policy.yaml:");
  assert_verdict(&desk, "NOT all right: 1 failure, 0 warnings.");
  assert_int_equal(world.observed_count, 0);
}

static void test_check__an_operand_restricts_it(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, TWO);
  assert_int_equal(desk_run(&desk, cli_command_check, DOMAINS("Example.ORG", "example.org.")), EX_OK);
  assert_int_equal(world.observed_count, 1);
  assert_int_equal(world.checked_count, 1);
  assert_true(text_ends(world.added[0], ".example.org"));
  assert_lacks(desk.out, "example.com");
}

static void test_check__an_operand_that_is_not_in_the_policy_is_refused(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, TWO);
  assert_int_equal(desk_run(&desk, cli_command_check, DOMAINS("exampel.org")), EX_NOINPUT);
  assert_contains(desk.err, "exampel.org is not in the policy");
  assert_contains(desk.err, "did you mean example.org?");
  assert_int_equal(world.observed_count, 0);
}

static void test_check__more_domains_than_one_round_takes_are_not_passed_over_in_silence(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  struct buffer domains = BUFFER_WITH_MAXIMUM(1 << 20);
  for (unsigned i = 0; i <= CHECK_DOMAINS_MAX; i++) buffer_format(&domains, "  d%u.example:\n", i);
  check_world_make(&world, &desk, (char *)domains.data);
  buffer_release(&domains);
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_contains(desk.out, "only the first 2000 of 2001 domains are checked at once");
  assert_int_equal(world.added_count, CHECK_DOMAINS_MAX);
  assert_int_equal(world.deleted_count, CHECK_DOMAINS_MAX);
}

static void test_check__interrupted_before_anything_was_added_it_adds_nothing(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, TWO);
  world.interrupt_survey = true;
  desk_run(&desk, cli_command_check, NULL);
  assert_int_equal(world.added_count, 0);
  assert_contains(desk.err, "ending");
}

static void test_check__interrupted_afterwards_it_still_deletes(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, TWO);
  world.interrupt_add = true;
  desk_run(&desk, cli_command_check, NULL);
  assert_int_equal(world.added_count, 2);
  assert_int_equal(world.deleted_count, 2);
}

static void test_check__a_calendar_that_leaves_too_little_room_is_warned_of(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, "  example.com:\nfreeze: \"2020-01-01..2098-12-31\"\nmax-per-run: 5\n");
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_contains(desk.out, "policy standard: keys may take over from 2099-01-01 00:00:00 UTC");
  assert_contains(desk.out, "to 2099-01-01 00:00:00 UTC no key takes over, so that some of 90d live up to ");
  assert_contains(desk.out, "policy standard: within 90d window, freezes and max-per-run have room for 0 of 1 rotations");
  assert_contains(desk.out, "A rotation can run; ");
}

static void test_check__a_calendar_with_room_is_told_and_no_warning(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, "  example.com:\nfreeze: \"2020-01-01\"\nmax-per-run: 5\n");
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_contains(desk.out, "policy standard: keys may take over now");
  assert_null(strstr(desk.out, "no key takes over"));
  assert_null(strstr(desk.out, "have room for"));
}

static void test_check__a_state_directory_that_cannot_be_fails(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, "  example.com:\n");
  CLEANUP_FREE char *folder = workplace_path(&desk.folder, "state");
  assert_int_equal(rmdir(folder), 0);
  workplace_write(folder, "a file", 0644);
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_NOPERM);
  assert_contains(desk.out, "state\n  FAILED   no file can be made in ");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_check__all_right),
      cmocka_unit_test(test_check__changes_nothing_on_disk),
      cmocka_unit_test(test_check__works_while_somebody_else_executes),
      cmocka_unit_test(test_check__a_broken_policy_ends_it_at_once),
      cmocka_unit_test(test_check__an_operand_restricts_it),
      cmocka_unit_test(test_check__an_operand_that_is_not_in_the_policy_is_refused),
      cmocka_unit_test(test_check__more_domains_than_one_round_takes_are_not_passed_over_in_silence),
      cmocka_unit_test(test_check__interrupted_before_anything_was_added_it_adds_nothing),
      cmocka_unit_test(test_check__interrupted_afterwards_it_still_deletes),
      cmocka_unit_test(test_check__a_calendar_that_leaves_too_little_room_is_warned_of),
      cmocka_unit_test(test_check__a_calendar_with_room_is_told_and_no_warning),
      cmocka_unit_test(test_check__a_state_directory_that_cannot_be_fails),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
