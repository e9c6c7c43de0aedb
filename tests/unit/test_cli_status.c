/* `dkimroll status`: is everything all right, and what does each key wait for? */
#include "status_desk.h"

#include "dkimroll/status.h"

static void test_status__first_line_says_that_all_is_right_and_what_comes_next(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  int64_t next;
  char moment[TIME_TEXT_SIZE];
  desk_make_signed(&desk);
  desk_edit(&desk, "example.com", NULL, desk_keep_generation, &next);
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_OK);
  CLEANUP_FREE char *expected =
      text_format("All right: 2 domains signed, next step %s (example.com: generate).\n", time_format(next, moment));
  if (!text_starts(desk.out, expected)) fail_msg("not \"%s\" but:\n%s", expected, desk.out);
  assert_string_equal(desk.err, "");
  CLEANUP_FREE char *heading = find_line(desk.out, "DOMAIN");
  assert_lacks(heading, "KEY");
  assert_contains(heading, "WAITS FOR");
  CLEANUP_FREE char *row = find_line(desk.out, "example.org ");
  assert_contains(row, " active ");
  assert_contains(row, " generate ");
  assert_contains(row, "the active key's life lasts until");
}

static void test_status__a_failure_is_told_with_its_domain_and_remedy(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_signed(&desk);
  desk_edit(&desk, "example.org", NULL, desk_fail, (void *)"publish: 192.0.2.53 refused it; see update-policy");
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  assert_true(text_starts(desk.out, "NOT all right: 1 of 2 domains needs attention.\n"));
  assert_contains(desk.out, "\n  example.org: publish: 192.0.2.53 refused it; see update-policy\n");
}

static void test_status__one_cause_is_one_line_for_all_its_domains(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_signed(&desk);
  desk_edit(&desk, "example.com", NULL, desk_fail, (void *)"publish: no answer");
  desk_edit(&desk, "example.org", NULL, desk_fail, (void *)"publish: no answer");
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  assert_true(text_starts(
      desk.out, "NOT all right: 2 of 2 domains need attention.\n  example.com and 1 other: publish: no answer\n"));
}

static void fail_both(struct lineage *lineage, const struct desk *desk, void *context) {
  desk_fail(lineage, desk, context);
  struct key *key = &lineage->keys[0];
  key->failures = 1;
  key->retry_at = desk->now;
  key->failure = text_duplicate("delete of old: no answer");
}

static void test_status__what_fails_of_another_key_is_told_too(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_signed(&desk);
  desk_edit(&desk, "example.com", NULL, fail_both, (void *)"publish: no answer");
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  assert_contains(desk.out, "publish: no answer");
  assert_contains(desk.out, "delete of old: no answer");
}

static void park(struct lineage *lineage, const struct desk *desk, void *context) {
  desk_fail(lineage, desk, context);
  lineage->failures = TIMING_FAILURES_PARK;
  lineage->parked_at = desk->now - HOUR;
}

static void test_status__a_parked_domain_is_told_as_such(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  char moment[TIME_TEXT_SIZE];
  desk_make_signed(&desk);
  desk_edit(&desk, "example.com", NULL, park, (void *)"activate: the milter is gone");
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  CLEANUP_FREE char *line = find_line(desk.out, "example.com: ");
  assert_contains(line, "once a day now: activate: the milter is gone");
  assert_contains(line, time_format(desk.now - HOUR, moment));
  assert_contains(line, "dkimroll rotate");
}

static void test_status__a_new_key_that_waits_for_caches_is_no_trouble(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  int64_t ago = 40 * MINUTE;
  char moment[TIME_TEXT_SIZE];
  desk_make(&desk, "  example.com:\n");
  desk_sync(&desk);
  desk_edit(&desk, "example.com", NULL, desk_publish, &ago);
  desk_edit(&desk, "example.com", NULL, desk_confirm, &(struct desk_round){.at = desk.now - 40 * MINUTE});
  desk_edit(&desk, "example.com", NULL, desk_confirm, &(struct desk_round){.at = desk.now - 39 * MINUTE});
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_OK);
  assert_true(text_starts(desk.out, "Under way, nothing is wrong: 0 of 1 domain signed, next step "));
  /* F1: right everywhere + TTLneg + safety. The round that is due by now does not hide it. */
  CLEANUP_FREE char *row = find_line(desk.out, "example.com ");
  assert_contains(row, " published ");
  assert_contains(row, " ready ");
  assert_contains(row, time_format(desk.now - 40 * MINUTE + 300 + HOUR, moment));
}

static void test_status__before_warn_after_a_lagging_server_is_only_shown(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_lagging(&desk, 30 * MINUTE, "NXDOMAIN");
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_OK);
  CLEANUP_FREE char *row = find_line(desk.out, "example.com ");
  assert_contains(row, "ns2.example.net (192.0.2.2:53) does not serve the record: NXDOMAIN");
}

static void test_status__after_warn_after_the_server_is_named_with_since_when_and_what_it_said(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  char moment[TIME_TEXT_SIZE];
  desk_make_lagging(&desk, 61 * MINUTE, "NXDOMAIN");
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  CLEANUP_FREE char *expected = text_format(
      "  example.com: ns2.example.net (192.0.2.2:53) does not serve the record of a new key: NXDOMAIN, since %s; ",
      time_format(desk.now - 61 * MINUTE, moment));
  assert_contains(desk.out, expected);
  assert_contains(desk.out, "ignore-servers");
}

static void test_status__a_record_that_mail_needs_and_a_server_lost_is_told_at_once(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_signed(&desk);
  desk_edit(&desk, "example.org", NULL, desk_confirm,
            &(struct desk_round){.at = desk.now - MINUTE, .answer = "NXDOMAIN"});
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  assert_contains(
      desk.out,
      "  example.org: ns2.example.net (192.0.2.2:53) does not serve the record of the key that signs: NXDOMAIN; ");
  /* It is put there again by the next run. */
  CLEANUP_FREE char *row = find_line(desk.out, "example.org ");
  assert_contains(row, " publish ");
  assert_contains(row, " next run ");
}

/* What the last proof found at the first signer, a minute ago. */
static void desk_prove(struct lineage *lineage, const struct desk *desk, void *context) {
  const enum placement_damage damage = *(enum placement_damage *)context;
  struct event_list events = {0};
  struct error error = {0}, failure = {0};
  error_set(&failure, ERROR_PROOF, "it does not sign");
  const struct placement_report report = {.signer_id = lineage->keys[0].placements[0].signer_id,
                                          .damage = damage,
                                          .failure = "signer local: the signer lets mail pass unsigned; look into its log"};
  const struct outcome outcome = {
      .action = PLAN_PROVE, .at = desk->now - MINUTE, .error = &failure, .placements = &report, .placement_count = 1};
  assert_int_equal(lifecycle_apply(lineage, &outcome, desk->now - MINUTE, &events, &error), 0);
  event_list_release(&events);
}

static void test_status__what_a_proof_found_is_told_with_signer_and_remedy(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_signed(&desk);
  desk_edit(&desk, "example.org", NULL, desk_prove, &(enum placement_damage){DAMAGE_TABLES});
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  assert_true(text_starts(desk.out, "NOT all right"));
  assert_contains(desk.out, "example.org: signer local: the signer lets mail pass unsigned; look into its log, since ");
  CLEANUP_FREE char *row = find_line(desk.out, "example.org ");
  assert_contains(row, " repair ");
}

static void test_status__a_key_that_cannot_be_mended_is_told_with_its_replacement(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_signed(&desk);
  desk_edit(&desk, "example.org", NULL, desk_prove, &(enum placement_damage){DAMAGE_FILE_MISSING});
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  assert_contains(desk.out, "a new key takes over at about ");
}

/* As import finds keys: one that is in a table itself, or one whose file is never destroyed. */
static void adopt_key(struct lineage *lineage, const struct desk *desk, void *context) {
  (void)desk;
  struct key *key = lineage_active_key(lineage);
  if (*(bool *)context) free(TAKE_PTR(key->placements[0].key_path));
  key->placements[0].destroyed = true;
  key->generated_at = TIME_UNSET;
}

static void test_status__the_private_key_of_an_imported_key_that_signs_is_not_gone(void **state) {
  (void)state;
  for (int in_table = 0; in_table < 2; in_table++) {
    CLEANUP(desk_remove) struct desk desk;
    desk_make_signed(&desk);
    desk_edit(&desk, "example.org", NULL, adopt_key, &(bool){in_table == 1});
    assert_int_equal(desk_run(&desk, cli_command_status, (const char *const[]){"example.org", NULL}), EX_OK);
    assert_null(strstr(desk.out, "private key gone"));
    CLEANUP_FREE char *row = find_line(desk.out, "signer      local: ");
    assert_contains(row, ", signs, proved ");
    assert_int_equal(strstr(row, "local: in the KeyTable itself,") != NULL, in_table);
  }
}

static void take_over(struct lineage *lineage, const struct desk *desk, void *context) {
  lineage->keys[0].active_at = desk->now + *(int64_t *)context;
}
static void ask_for_key(struct lineage *lineage, const struct desk *desk, void *context) {
  (void)desk;
  (void)context;
  lineage->rotate_requested = true;
}

static void test_status__a_key_that_took_over_by_a_clock_that_was_ahead_needs_attention(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_signed(&desk);
  desk_edit(&desk, "example.org", NULL, take_over, &(int64_t){HOUR});
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_OK);
  desk_edit(&desk, "example.org", NULL, take_over, &(int64_t){400 * DAY});
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  CLEANUP_FREE char *line = find_line(desk.out, "example.org: the key that signs took over on ");
  assert_contains(line, " by a clock that was ahead, and would sign until ");
  assert_contains(line, "; `dkimroll rotate` replaces it now");
  desk_edit(&desk, "example.org", NULL, ask_for_key, NULL);
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_OK);
}

static void keep_revocation(struct lineage *lineage, const struct desk *desk, void *context) {
  (void)desk;
  *(int64_t *)context = timing_revoke(&lineage->keys[0], lineage->rules);
}

static void test_status__a_retired_key_waits_for_its_window_and_its_record_is_watched(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  char moment[TIME_TEXT_SIZE];
  int64_t revoke;
  desk_make(&desk, "  example.com:\n");
  desk_sync(&desk);
  desk_edit(&desk, "example.com", NULL, desk_live, &(int64_t){93 * DAY});
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_OK);
  CLEANUP_FREE char *row = find_line(desk.out, "example.com ");
  assert_contains(row, " retired ");
  assert_contains(row, " revoke ");
  assert_contains(desk.out, "mail that it signed may still be on its way, until ");
  /* Its time is known, whether the clock is attested now or not. */
  desk_edit(&desk, "example.com", NULL, keep_revocation, &revoke);
  desk.arguments.json = true;
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_OK);
  assert_json(desk.out, "$.keys[0].when", time_format_iso(revoke, moment));
  desk.arguments.json = false;
  desk_edit(&desk, "example.com", NULL, desk_confirm, &(struct desk_round){.at = desk.now - DAY, .answer = "NXDOMAIN"});
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  assert_contains(desk.out, "a key whose mail may be on its way: NXDOMAIN");
}

static void test_status__a_changed_policy_is_told(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_signed(&desk);
  desk_write_policy(&desk, "  example.com:\n  example.org:\n  example.net:\n");
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  assert_true(text_starts(desk.out, "NOT all right, see below: 2 domains signed, "));
  assert_contains(desk.out, "the policy was changed since the last run");
  assert_contains(desk.out, "`dkimroll run` takes it over");
}

static void test_status__another_policy_than_the_compiled_one_is_told(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_signed(&desk);
  CLEANUP_FREE char *other = workplace_path(&desk.folder, "other.yaml");
  assert_int_equal(rename(desk.policy, other), 0);
  free(desk.policy);
  desk.policy = TAKE_PTR(other);
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  assert_contains(desk.out, "the policy was changed since the last run");
}

/* A script's line may sign all its mail. */
static void test_status__a_domain_without_a_key_is_not_said_to_be_unsigned_for_sure(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, "  example.com:\n  example.org:\n");
  desk_sync(&desk);
  desk_edit(&desk, "example.org", NULL, desk_publish, &(int64_t){DAY});
  desk_write_policy(&desk, "  example.com:\n");
  desk_sync(&desk);
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  assert_contains(desk.out, "example.org: no key of it signs, so its mail goes out unsigned, unless a line of somebody else signs it; ");
}

static void test_status__a_domain_that_left_the_policy_is_told(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_signed(&desk);
  desk_write_policy(&desk, "  example.com:\n");
  desk_sync(&desk);
  desk_edit(&desk, "example.com", NULL, desk_live, NULL);
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  CLEANUP_FREE char *line = find_line(desk.out, "example.org: ");
  assert_contains(line, "not in the policy any more");
  assert_contains(line, "dkimroll forget");
}

struct hold {
  int64_t until;
};
static void hold(struct lineage *lineage, const struct desk *desk, void *context) {
  (void)desk;
  lineage->held = true;
  lineage->hold_until = ((struct hold *)context)->until;
  lineage->hold_reason = text_duplicate("not in December");
}

static void test_status__a_hold_is_a_note_while_nothing_is_due(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_signed(&desk);
  desk_edit(&desk, "example.com", NULL, hold, &(struct hold){TIME_NEVER});
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_OK);
  assert_contains(desk.out, "\n  example.com: held (not in December); `dkimroll release` ends the hold\n");
}

static void test_status__a_hold_without_end_that_keeps_a_due_step_back_needs_attention(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, "  example.com:\n");
  desk_sync(&desk);
  desk_edit(&desk, "example.com", NULL, desk_live, NULL);
  struct hold forever = {TIME_NEVER};
  desk_edit(&desk, "example.com", NULL, hold, &forever);
  /* The key is older than its time: 30 days became 100. */
  CLEANUP_FREE char *statement = text_format("UPDATE key SET active_at = %lld", (long long)(desk.now - 100 * DAY));
  sqlite3 *database = NULL;
  assert_int_equal(sqlite3_open(desk.state, &database), SQLITE_OK);
  assert_int_equal(sqlite3_exec(database, statement, NULL, NULL, NULL), SQLITE_OK);
  sqlite3_close(database);
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  assert_contains(desk.out,
                  "\n  example.com: held (not in December), and a step is due; `dkimroll release` ends the hold\n");
}

static void test_status__a_held_domain_without_any_key_is_unsigned(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, "  example.com:\n");
  desk_sync(&desk);
  desk_edit(&desk, "example.com", NULL, hold, &(struct hold){desk.now + DAY});
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  assert_contains(desk.out, "example.com: no key of it signs, so its mail goes out unsigned");
}

static void overdue(struct lineage *lineage, const struct desk *desk, void *context) {
  lineage->next_moment = desk->now - *(int64_t *)context;
}

static void test_status__steps_that_nobody_takes_ask_for_the_timer(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_signed(&desk);
  desk_edit(&desk, "example.org", NULL, overdue, &(int64_t){STATUS_OVERDUE_SECONDS - MINUTE});
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_OK);
  desk_edit(&desk, "example.org", NULL, overdue, &(int64_t){STATUS_OVERDUE_SECONDS + MINUTE});
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  assert_contains(desk.out, "1 step is overdue, the oldest of example.org");
  assert_contains(desk.out, "is the timer running?");
}

static void test_status__a_request_that_nobody_carries_out_is_told(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  struct error error = {0};
  desk_make_signed(&desk);
  struct store *store = desk_open_store(&desk);
  struct store_request request = {.kind = REQUEST_ROTATE,
                                  .domain = (char *)"example.org",
                                  .until = TIME_NEVER,
                                  .asked_at = desk.now - DAY,
                                  .asked_by = (char *)"root"};
  assert_int_equal(store->ops->request(store, &request, &error), 0);
  store_close(store);
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  assert_contains(desk.out, "what root asked for example.org was not carried out yet");
}

static void test_status__a_resource_that_fails_is_told(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  struct error error = {0};
  desk_make_signed(&desk);
  struct store *store = desk_open_store(&desk);
  const struct store_resource resource = {
      .name = (char *)"signer 3 local", .failures = 4, .retry_at = desk.now + 60, .failure = (char *)"no answer"};
  const struct store_commit commit = {.resources = &resource, .resource_count = 1};
  assert_int_equal(store->ops->commit(store, &commit, &error), 0);
  store_close(store);
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_TEMPFAIL);
  assert_contains(desk.out, "signer local could not be reached 4 times in a row; all that waits for it is put off: no answer");
}

static void test_status__an_unknown_domain_is_refused_with_what_was_meant(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_signed(&desk);
  assert_int_equal(desk_run(&desk, cli_command_status, DOMAINS("example.comm")), EX_NOINPUT);
  assert_string_equal(desk.out, "");
  assert_contains(desk.err, "example.comm is not managed by dkimroll");
  assert_contains(desk.err, "did you mean example.com?");
}

static void test_status__before_the_first_run_it_says_so(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, TWO);
  assert_int_equal(desk_run(&desk, cli_command_status, NULL), EX_NOINPUT);
  assert_contains(desk.err, "nothing has run yet: dkimroll run");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_status__first_line_says_that_all_is_right_and_what_comes_next),
      cmocka_unit_test(test_status__a_failure_is_told_with_its_domain_and_remedy),
      cmocka_unit_test(test_status__a_domain_without_a_key_is_not_said_to_be_unsigned_for_sure),
      cmocka_unit_test(test_status__one_cause_is_one_line_for_all_its_domains),
      cmocka_unit_test(test_status__what_fails_of_another_key_is_told_too),
      cmocka_unit_test(test_status__a_parked_domain_is_told_as_such),
      cmocka_unit_test(test_status__a_new_key_that_waits_for_caches_is_no_trouble),
      cmocka_unit_test(test_status__before_warn_after_a_lagging_server_is_only_shown),
      cmocka_unit_test(test_status__after_warn_after_the_server_is_named_with_since_when_and_what_it_said),
      cmocka_unit_test(test_status__a_record_that_mail_needs_and_a_server_lost_is_told_at_once),
      cmocka_unit_test(test_status__what_a_proof_found_is_told_with_signer_and_remedy),
      cmocka_unit_test(test_status__a_key_that_cannot_be_mended_is_told_with_its_replacement),
      cmocka_unit_test(test_status__the_private_key_of_an_imported_key_that_signs_is_not_gone),
      cmocka_unit_test(test_status__a_key_that_took_over_by_a_clock_that_was_ahead_needs_attention),
      cmocka_unit_test(test_status__a_retired_key_waits_for_its_window_and_its_record_is_watched),
      cmocka_unit_test(test_status__a_changed_policy_is_told),
      cmocka_unit_test(test_status__another_policy_than_the_compiled_one_is_told),
      cmocka_unit_test(test_status__a_domain_that_left_the_policy_is_told),
      cmocka_unit_test(test_status__a_hold_is_a_note_while_nothing_is_due),
      cmocka_unit_test(test_status__a_hold_without_end_that_keeps_a_due_step_back_needs_attention),
      cmocka_unit_test(test_status__a_held_domain_without_any_key_is_unsigned),
      cmocka_unit_test(test_status__steps_that_nobody_takes_ask_for_the_timer),
      cmocka_unit_test(test_status__a_request_that_nobody_carries_out_is_told),
      cmocka_unit_test(test_status__a_resource_that_fails_is_told),
      cmocka_unit_test(test_status__an_unknown_domain_is_refused_with_what_was_meant),
      cmocka_unit_test(test_status__before_the_first_run_it_says_so),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
