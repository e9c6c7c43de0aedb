/* What `dkimroll check` says of the DNS, in a scripted world: zones and their servers, scratch records that are added and deleted, and what attests
 * the clock. */
#include "check_world.h"

static struct scripted_world world;

static void test_check__a_zone_is_told_once_but_every_domain_has_its_own_scratch_record(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, "  a.example.net:\n  b.example.net:\n  c.example.net:\n");
  world.one_zone = "example.net";
  world.second = OBSERVE_SILENT;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_UNAVAILABLE);
  assert_contains(
      desk.out,
      "  FAILED   example.net: ns2.example.net (192.0.2.2:53) does not answer for the zone: no answer in 6 s\n");
  assert_int_equal(world.added_count, 3);
  assert_contains(desk.out, "a.example.net and 2 others: a scratch record was added");
  assert_verdict(&desk, "NOT all right: 1 failure, 0 warnings.");
}

static void test_check__no_route_is_a_warning_if_the_same_server_answers_elsewhere(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, "  example.com:\n");
  world.third = OBSERVE_NO_ROUTE;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_contains(desk.out, "no route from here to ns2.example.net ([2001:db8::2]:53); it counts as right");
  assert_verdict(&desk, "A rotation can run; 1 warning.");
  world.second = OBSERVE_NO_ROUTE;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_UNAVAILABLE);
  assert_contains(desk.out, "so nobody can tell what it serves");
}

static void test_check__a_wildcard_is_warned_of(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, "  example.com:\n");
  world.wildcard_ttl = DAY;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_contains(desk.out, "a wildcard gives a TXT to every name below it, with a TTL of 1d");
}

static void test_check__a_zone_that_nobody_knows_fails(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, "  example.com:\n");
  world.no_zone = true;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_UNAVAILABLE);
  assert_contains(desk.out, "FAILED   example.com: no zone holds that name\n           remedy: the remedy of that\n");
  assert_int_equal(world.added_count, 0);
}

static void test_check__an_update_that_is_refused_leaves_nothing_to_delete(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, TWO);
  world.add_code = ERROR_REFUSED;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_UNAVAILABLE);
  assert_contains(desk.out, "FAILED   example.com and 1 other: adding failed\n           remedy: the remedy of that\n");
  assert_int_equal(world.deleted_count, 0);
}

static void test_check__what_may_have_got_there_is_deleted(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, TWO);
  world.add_code = ERROR_TIMEOUT;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_TEMPFAIL);
  assert_int_equal(world.deleted_count, 2);
  assert_lacks(desk.out, "was added, read back");
}

static void test_check__a_record_that_is_left_behind_is_named_with_how_to_delete_it(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, "  example.com:\n");
  world.delete_code = ERROR_TIMEOUT;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_TEMPFAIL);
  CLEANUP_FREE char *finding =
      text_format("the scratch record %s could not be deleted: deleting failed", world.added[0]);
  assert_contains(desk.out, finding);
  CLEANUP_FREE char *remedy = text_format(
      "printf 'server 192.0.2.53 5353\\nzone example.com\\nupdate delete %s TXT\\nsend\\n' | nsupdate -k /k/tsig.key\n",
      world.added[0]);
  assert_contains(desk.out, remedy);
}

static void test_check__a_bad_tsig_file_stops_only_its_publisher(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, "  example.com:\n");
  world.publisher_code = ERROR_PERMISSION;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_NOPERM);
  assert_contains(desk.out, "updates by publisher primary\n  FAILED   /k/tsig.key: others may read it\n");
  assert_int_equal(world.added_count, 0);
  assert_int_equal(world.checked_count, 1);
  assert_contains(desk.out, "2 of 2 servers answer");
}

static void test_check__unsigned_updates_are_warned_of_and_attest_no_clock(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, "  example.com: {publisher: unsigned}\n");
  world.attests = false;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_CONFIG);
  assert_contains(desk.out, "its updates are not signed");
  assert_contains(desk.out, "clock\n  FAILED   nothing attests it");
  world.synchronised = true;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_contains(desk.out, "clock\n  ok       the kernel says that it is synchronised");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_check__a_zone_is_told_once_but_every_domain_has_its_own_scratch_record),
      cmocka_unit_test(test_check__no_route_is_a_warning_if_the_same_server_answers_elsewhere),
      cmocka_unit_test(test_check__a_wildcard_is_warned_of),
      cmocka_unit_test(test_check__a_zone_that_nobody_knows_fails),
      cmocka_unit_test(test_check__an_update_that_is_refused_leaves_nothing_to_delete),
      cmocka_unit_test(test_check__what_may_have_got_there_is_deleted),
      cmocka_unit_test(test_check__a_record_that_is_left_behind_is_named_with_how_to_delete_it),
      cmocka_unit_test(test_check__a_bad_tsig_file_stops_only_its_publisher),
      cmocka_unit_test(test_check__unsigned_updates_are_warned_of_and_attest_no_clock),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
