/* run looks first whether anything is due, and goes to work only then. */
#include "cli_desk.h"

/* Stands for all the work: it begins with the keeper. */
static int refuse_keeper(const struct policy *policy, const struct policy_signer *const *signers, size_t signer_count,
                         int *ret_descriptor, pid_t *ret_pid, struct error *error) {
  (void)policy, (void)signers, (void)signer_count, (void)ret_descriptor, (void)ret_pid;
  return error_set(error, ERROR_REFUSED, "the work begins");
}

/* The store as a run left it that had the clock at wall: the next step is a day later. */
static void leave(const struct desk *desk, int64_t wall) {
  sqlite3 *database = NULL;
  CLEANUP_FREE char *sql = text_format("UPDATE lineage SET next_moment = %lld; INSERT OR REPLACE INTO clock (id, boot_id, wall, boottime, credited,"
                                       " attested) VALUES (1, 'some boot', %lld, 1000, %lld, 0)",
                                       (long long)wall + DAY, (long long)wall, (long long)wall);
  assert_int_equal(sqlite3_open(desk->state, &database), SQLITE_OK);
  assert_int_equal(sqlite3_exec(database, sql, NULL, NULL, NULL), SQLITE_OK);
  sqlite3_close(database);
}

static void run(struct desk *desk) {
  desk->wiring.start_keeper = refuse_keeper;
  desk->arguments.budget = MINUTE;
  desk_run(desk, cli_command_run, NULL);
}

static void test_cli_run__with_nothing_due_nothing_begins(void **state) {
  (void)state;
  struct desk desk;
  desk_make(&desk, "  a.example: {}\n");
  desk_sync(&desk);
  leave(&desk, desk.now - HOUR);
  run(&desk);
  assert_non_null(strstr(desk.out, "Nothing is due before "));
  assert_null(strstr(desk.err, "the work begins"));
  leave(&desk, desk.now - DAY);
  run(&desk);
  assert_non_null(strstr(desk.err, "the work begins"));
  desk_remove(&desk);
}

/* A boot with a clock that was ten years ahead left moments that lie ten years ahead. Nobody would wake them. */
static void test_cli_run__a_clock_that_was_set_back_is_something_to_do(void **state) {
  (void)state;
  struct desk desk;
  desk_make(&desk, "  a.example: {}\n");
  desk_sync(&desk);
  leave(&desk, desk.now + INT64_C(3650) * DAY);
  run(&desk);
  assert_null(strstr(desk.out, "Nothing is due"));
  assert_non_null(strstr(desk.err, "the work begins"));
  desk_remove(&desk);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_cli_run__with_nothing_due_nothing_begins),
      cmocka_unit_test(test_cli_run__a_clock_that_was_set_back_is_something_to_do),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
