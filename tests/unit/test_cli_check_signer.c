/* What `dkimroll check` says of signers and of the keys on their disk, in a scripted world. */
#include "check_world.h"

static struct scripted_world world;

static void test_check__a_signer_that_is_not_ready_is_told_once_and_not_proved(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, TWO);
  make_active(&desk, "example.com", true);
  world.signer_code = world.item_code = ERROR_PERMISSION;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_NOPERM);
  assert_contains(desk.out, "signer local\n  FAILED   KeyTable cannot be written\n");
  assert_contains(desk.out, "FAILED   example.com and 1 other: a foreign line matches first");
  assert_int_equal(world.proved_count, 0);
}

static void test_check__a_line_of_ones_own_leads_to_import_and_is_no_failure(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, TWO);
  world.item_code = ERROR_CONFLICT;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_contains(desk.out, "WARNING  example.com and 1 other: a line of your own signs for it: a foreign line matches first");
  assert_contains(desk.out, "remedy: run `dkimroll import`");
  assert_contains(desk.out, "A rotation can run; ");
  /* Where dkimroll's own key should sign, it is one. */
  make_active(&desk, "example.com", true);
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_UNAVAILABLE);
  assert_contains(desk.out, "FAILED   example.com: a foreign line matches first");
}

static void test_check__the_key_that_signs_is_proved(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, TWO);
  make_active(&desk, "example.org", true);
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_int_equal(world.proved_count, 1);
  assert_true(text_starts(world.proved, "server-"));
  assert_contains(desk.out, "example.org: a message of each sender was signed by the active key");
  assert_contains(desk.out, "example.com: no key of it signs yet");
  assert_contains(desk.out, "example.org: the private key belongs to the record");
  world.proof_code = ERROR_PROOF;
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_UNAVAILABLE);
  assert_contains(desk.out, "FAILED   example.org: it signs with another key");
}

/* As import finds it. */
static void move_into_table(struct lineage *lineage, const struct desk *desk, void *context) {
  desk_live(lineage, desk, context);
  struct key *key = lineage_active_key(lineage);
  free(key->placements[0].key_path);
  key->placements[0].key_path = NULL;
  key->placements[0].file_made = false;
  key->placements[0].destroyed = true;
  key->generated_at = TIME_UNSET;
}

static void test_check__a_key_in_a_table_itself_has_no_file_that_could_be_missing(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, "  example.com:\n");
  desk_sync(&desk);
  desk_edit(&desk, "example.com", NULL, move_into_table, NULL);
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_OK);
  assert_contains(desk.out, "example.com: a message of each sender was signed by the active key");
  assert_null(strstr(desk.out, "cannot open"));
}

static void test_check__a_private_key_that_was_replaced_fails(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, "  example.com:\n");
  make_active(&desk, "example.com", false);
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_UNAVAILABLE);
  assert_contains(desk.out, "does not belong to the record of server-");
}

static void test_check__a_key_directory_that_everybody_may_write_to_fails(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  check_world_make(&world, &desk, "  example.com:\n");
  CLEANUP_FREE char *keys = workplace_path(&desk.folder, "keys");
  assert_int_equal(mkdir(keys, 0755), 0);
  assert_int_equal(chmod(keys, 0777), 0);
  assert_int_equal(desk_run(&desk, cli_command_check, NULL), EX_NOPERM);
  CLEANUP_FREE char *remedy = text_format("chmod o-w %s", keys);
  assert_contains(desk.out, remedy);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_check__a_signer_that_is_not_ready_is_told_once_and_not_proved),
      cmocka_unit_test(test_check__a_line_of_ones_own_leads_to_import_and_is_no_failure),
      cmocka_unit_test(test_check__the_key_that_signs_is_proved),
      cmocka_unit_test(test_check__a_key_in_a_table_itself_has_no_file_that_could_be_missing),
      cmocka_unit_test(test_check__a_private_key_that_was_replaced_fails),
      cmocka_unit_test(test_check__a_key_directory_that_everybody_may_write_to_fails),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
