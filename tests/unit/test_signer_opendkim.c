/* The OpenDKIM signer against a real opendkim: switch and withdrawal, and what is left in the tables. */
#include "signer_stage.h"

static void live(bool unix_socket, bool file_table, bool ed25519, bool stable) {
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){.unix_socket = unix_socket,
                                              .file_table = file_table,
                                              .options = ed25519 ? ED25519_OPTIONS : NULL});
  stage.policy.key_name = stable ? NAME_OF_DOMAIN : NAME_OF_KEY;
  stage_connect(&stage);
  struct signer_item first = item_of(&stage, "example.com", "s1", NULL, ed25519);
  stage_succeed(&stage, signer_activate, &first);
  assert_true(stage.results[0].switched_at > 0 && stage.results[0].completed_at >= stage.results[0].switched_at);

  struct signer_item second = item_of(&stage, "example.com", "s2", "s1", ed25519);
  stage_succeed(&stage, signer_activate, &second);
  assert_signs_with(&stage, "example.com", "s2");

  struct signer_item old = {.domain = "example.com",
                            .selector = "s1",
                            .key_path = second.previous_key_path,
                            .previous_selector = "s2",
                            .previous_key_path = second.key_path};
  stage_succeed(&stage, signer_withdraw, &old);
  assert_signs_with(&stage, "example.com", "s2");
  const char *name = stable ? "example.com" : "s2._domainkey.example.com";
  CLEANUP_FREE char *keys = text_format("%s example.com:s2:%s\n", name, second.key_path);
  CLEANUP_FREE char *senders = text_format("%s %s\n", file_table ? "example.com" : "*@example.com", name);
  assert_tables(&stage, keys, senders);
  item_release(&first);
  item_release(&second);
  stage_close(&stage);
}

static void test_signer_opendkim__first_key_rotation_and_withdrawal_in_every_setup(void **state) {
  (void)state;
  for (int setup = 0; setup < 16; setup++) live(setup & 1, setup & 2, setup & 4, setup & 8);
}

static void test_signer_opendkim__foreign_lines_stay_octet_for_octet(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){.key_table = FOREIGN_KEYS
                                              "s1._domainkey.example.com\texample.com:s1:@FOLDER@/keys/example.com/"
                                              "s1.private # first\n# end",
                                              .signing_table = FOREIGN_SENDERS
                                              "*@example.com\ts1._domainkey.example.com:%@example.com\r\n# end"});
  stage_connect(&stage);
  assert_int_equal(chmod(stage.host.key_table, 0640), 0);
  assert_int_equal(chown(stage.host.key_table, 1, 2), 0);
  struct signer_item item = item_of(&stage, "example.com", "s2", "s1", false);
  stage_succeed(&stage, signer_activate, &item);
  CLEANUP_FREE char *keys = text_format(FOREIGN_KEYS "s1._domainkey.example.com\texample.com:s1:%s # first\n"
                                                     "s2._domainkey.example.com example.com:s2:%s\n# end",
                                        item.previous_key_path, item.key_path);
  assert_tables(&stage, keys, FOREIGN_SENDERS "*@example.com\ts2._domainkey.example.com:%@example.com\r\n# end");
  struct stat status;
  assert_int_equal(stat(stage.host.key_table, &status), 0);
  assert_int_equal(status.st_mode & 07777, 0640);
  assert_int_equal(status.st_uid, 1);
  assert_int_equal(status.st_gid, 2);
  item_release(&item);
  stage_close(&stage);
}

/* A key that import took over, with a name that is not the policy's. */
static void test_signer_opendkim__an_adopted_key_is_switched_and_withdrawn_by_the_name_that_it_has(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){.key_table = "odd example.com:s1:@FOLDER@/keys/example.com/s1.private\n"
                                                           "copy other.example:s1:@FOLDER@/keys/example.com/s1.private\n",
                                              .signing_table = "*@example.com odd\n*@example.com copy\n"});
  stage_connect(&stage);
  struct signer_item item = item_of(&stage, "example.com", "s2", "s1", false);
  item.previous_key_name = "odd";
  stage_succeed(&stage, signer_activate, &item);
  CLEANUP_FREE char *keys = text_format("odd example.com:s1:%s\ns2._domainkey.example.com example.com:s2:%s\ncopy other.example:s1:%s\n",
                                        item.previous_key_path, item.key_path, item.previous_key_path);
  assert_tables(&stage, keys, "*@example.com s2._domainkey.example.com\n*@example.com copy\n");
  struct signer_item old = {.domain = "example.com", .selector = "s1", .key_path = item.previous_key_path, .key_name = "odd",
                            .previous_selector = "s2", .previous_key_path = item.key_path};
  /* Somebody else's entry names the file: only an adopted key's own may go all the same. */
  stage_run(&stage, signer_withdraw, &old, 1, DEADLINE_MS);
  assert_int_equal(stage.results[0].error.code, ERROR_CONFLICT);
  old.adopted = true;
  stage_succeed(&stage, signer_withdraw, &old);
  CLEANUP_FREE char *left = text_format("s2._domainkey.example.com example.com:s2:%s\ncopy other.example:s1:%s\n", item.key_path, item.previous_key_path);
  assert_tables(&stage, left, "*@example.com s2._domainkey.example.com\n*@example.com copy\n");
  item_release(&item);
  stage_close(&stage);
}

static void test_signer_opendkim__symbolic_links_to_tables_stay(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){0});
  CLEANUP_FREE char *real = workplace_path(&stage.host.folder, "KeyTable.real");
  assert_int_equal(rename(stage.host.key_table, real), 0);
  assert_int_equal(symlink("KeyTable.real", stage.host.key_table), 0);
  stage_connect(&stage);
  struct signer_item item = stage_first_key(&stage);
  struct stat status;
  assert_int_equal(lstat(stage.host.key_table, &status), 0);
  assert_true(S_ISLNK(status.st_mode));
  item_release(&item);
  stage_close(&stage);
}

static void test_signer_opendkim__every_sender_is_switched_and_proved(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){.signing_table = "later@example.org\tx\n", .key_table = "x x:x:/x\n"});
  stage_connect(&stage);
  static const char *const senders[] = {"*@example.com", "*@*.example.com", "info@example.net"};
  struct signer_item item = item_of(&stage, "example.com", "s1", NULL, false);
  item.senders = senders;
  item.sender_count = ARRAY_SIZE(senders);
  stage_succeed(&stage, signer_activate, &item);
  assert_file(stage.host.signing_table, "later@example.org\tx\n*@example.com s1._domainkey.example.com\n"
                                        "*@*.example.com s1._domainkey.example.com\ninfo@example.net "
                                        "s1._domainkey.example.com\n");
  item_release(&item);
  stage_close(&stage);
}

static void test_signer_opendkim__missing_tables_are_made(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){0});
  assert_int_equal(unlink(stage.host.key_table), 0);
  assert_int_equal(unlink(stage.host.signing_table), 0);
  stage_connect(&stage);
  struct signer_item item = stage_first_key(&stage);
  item_release(&item);
  stage_close(&stage);
}

static void test_signer_opendkim__withdrawal_is_idempotent_and_heals_a_sender_that_names_the_old_key(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){0});
  stage_connect(&stage);
  struct signer_item first = stage_first_key(&stage);
  struct signer_item second = item_of(&stage, "example.com", "s2", "s1", false);
  stage_succeed(&stage, signer_activate, &second);
  /* Somebody restored an old SigningTable. */
  workplace_write(stage.host.signing_table, "*@example.com s1._domainkey.example.com\n", 0644);
  struct signer_item old = {.domain = "example.com",
                            .selector = "s1",
                            .key_path = first.key_path,
                            .previous_selector = "s2",
                            .previous_key_path = second.key_path};
  for (int i = 0; i < 2; i++) {
    stage_succeed(&stage, signer_withdraw, &old);
    assert_true(stage.results[0].completed_at > 0);
    CLEANUP_FREE char *keys = text_format("s2._domainkey.example.com example.com:s2:%s\n", second.key_path);
    assert_tables(&stage, keys, "*@example.com s2._domainkey.example.com\n");
  }
  assert_signs_with(&stage, "example.com", "s2");
  item_release(&first);
  item_release(&second);
  stage_close(&stage);
}

static void test_signer_opendkim__key_leaves_the_table_only_after_the_signer_has_let_go_of_it(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){0});
  char *words[3];
  CLEANUP_FREE char *notes = stage_note_reloads(&stage, words);
  CLEANUP_FREE char *script = words[2];
  stage_connect(&stage);
  struct signer_item item = stage_first_key(&stage);
  workplace_write(notes, "", 0644);
  stage_succeed(&stage, signer_withdraw, &item);
  CLEANUP_FREE char *expected =
      text_format("s1._domainkey.example.com example.com:s1:%s\nreload\nreload\n", item.key_path);
  assert_file(notes, expected);
  assert_tables(&stage, "", "");
  item_release(&item);
  stage_close(&stage);
}

static void test_signer_opendkim__withdrawal_of_the_last_key_removes_all_lines_of_ours(void **state) {
  (void)state;
  for (int stable = 0; stable < 2; stable++) {
    struct stage stage;
    stage_open(&stage, &(struct opendkim_setup){.key_table = FOREIGN_KEYS, .signing_table = FOREIGN_SENDERS});
    stage.policy.key_name = stable ? NAME_OF_DOMAIN : NAME_OF_KEY;
    stage_connect(&stage);
    struct signer_item item = stage_first_key(&stage);
    stage_succeed(&stage, signer_withdraw, &item);
    assert_tables(&stage, FOREIGN_KEYS, FOREIGN_SENDERS);
    item_release(&item);
    stage_close(&stage);
  }
}

static void test_signer_opendkim__withdrawal_spares_a_key_that_a_foreign_line_names(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){0});
  stage_connect(&stage);
  struct signer_item item = stage_first_key(&stage);
  workplace_write(stage.host.signing_table, "boss@friend.example s1._domainkey.example.com\n", 0644);
  stage_run(&stage, signer_withdraw, &item, 1, DEADLINE_MS);
  assert_failure(&stage, 0, ERROR_CONFLICT, "line 1");
  item_release(&item);
  stage_close(&stage);
}

static void test_signer_opendkim__two_slots_sign_together_with_multiple_signatures(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){.options = "MultipleSignatures yes\n"});
  stage.policy.multiple_signatures = true;
  stage_connect(&stage);
  struct signer_item items[] = {item_of(&stage, "example.com", "a1", NULL, false),
                                item_of(&stage, "example.com", "b1", NULL, false)};
  stage_run(&stage, signer_activate, items, 2, DEADLINE_MS);
  assert_success(&stage, 0);
  assert_success(&stage, 1);
  struct signer_item next = item_of(&stage, "example.com", "a2", "a1", false);
  stage_succeed(&stage, signer_activate, &next);
  assert_signs_with(&stage, "example.com", "a2");
  assert_signs_with(&stage, "example.com", "b1");
  item_release(&items[0]);
  item_release(&items[1]);
  item_release(&next);
  stage_close(&stage);
}

static void test_signer_opendkim__thousand_domains_in_one_activation(void **state) {
  (void)state;
  enum { DOMAINS = 1000 };
  for (int file_table = 0; file_table < 2; file_table++) {
    struct stage stage;
    stage_open(&stage, &(struct opendkim_setup){.file_table = file_table, .options = ED25519_OPTIONS});
    stage_connect(&stage);
    char(*domains)[32] = calloc(DOMAINS, sizeof(*domains));
    struct signer_item *items = calloc(DOMAINS, sizeof(*items));
    for (size_t i = 0; i < DOMAINS; i++) {
      snprintf(domains[i], sizeof(domains[i]), "d%zu.example", i);
      items[i] = item_of(&stage, domains[i], "s1", NULL, true);
    }
    int64_t start = clock_boottime();
    stage_run(&stage, signer_activate, items, DOMAINS, DEADLINE_MS);
    print_message("%d domains activated and proved, %s: %lld ms\n", DOMAINS, file_table ? "file" : "refile",
                  (long long)(clock_boottime() - start));
    for (size_t i = 0; i < DOMAINS; i++) {
      assert_success(&stage, i);
      item_release(&items[i]);
    }
    free(domains);
    free(items);
    stage_close(&stage);
  }
}

static void test_signer_opendkim__key_path_is_the_policys(void **state) {
  (void)state;
  struct policy_signer policy = {.name = (char *)"local", .key_directory = (char *)"/etc/keys/%d"};
  CLEANUP_FREE char *path = NULL;
  struct error error = {0};
  assert_int_equal(policy_signer_key_path(&policy, "example.com", "s1", &path, &error), 0);
  assert_string_equal(path, "/etc/keys/example.com/s1.private");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_signer_opendkim__first_key_rotation_and_withdrawal_in_every_setup),
      cmocka_unit_test(test_signer_opendkim__foreign_lines_stay_octet_for_octet),
      cmocka_unit_test(test_signer_opendkim__an_adopted_key_is_switched_and_withdrawn_by_the_name_that_it_has),
      cmocka_unit_test(test_signer_opendkim__symbolic_links_to_tables_stay),
      cmocka_unit_test(test_signer_opendkim__every_sender_is_switched_and_proved),
      cmocka_unit_test(test_signer_opendkim__missing_tables_are_made),
      cmocka_unit_test(test_signer_opendkim__withdrawal_is_idempotent_and_heals_a_sender_that_names_the_old_key),
      cmocka_unit_test(test_signer_opendkim__key_leaves_the_table_only_after_the_signer_has_let_go_of_it),
      cmocka_unit_test(test_signer_opendkim__withdrawal_of_the_last_key_removes_all_lines_of_ours),
      cmocka_unit_test(test_signer_opendkim__withdrawal_spares_a_key_that_a_foreign_line_names),
      cmocka_unit_test(test_signer_opendkim__two_slots_sign_together_with_multiple_signatures),
      cmocka_unit_test(test_signer_opendkim__thousand_domains_in_one_activation),
      cmocka_unit_test(test_signer_opendkim__key_path_is_the_policys),
  };
  signal(SIGPIPE, SIG_IGN);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
