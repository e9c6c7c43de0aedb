/* The OpenDKIM signer against a real opendkim: what proof and check find. */
#include <netinet/in.h>
#include <sys/socket.h>

#include "signer_stage.h"

static bool has_inet6(void) {
  CLEANUP_CLOSE int descriptor = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in6 place = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  return descriptor >= 0 && bind(descriptor, (struct sockaddr *)&place, sizeof(place)) == 0;
}

/* One switch with each kind of socket, algorithm and canonicalization. */
static void test_signer_opendkim__signatures_verify_over_every_socket_in_every_form(void **state) {
  (void)state;
  static const char *const forms[] = {"simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"};
  for (int kind = 0; kind < 3; kind++) {
    if (kind == 2 && !has_inet6()) continue;
    for (size_t i = 0; i < ARRAY_SIZE(forms) * 2; i++) {
      const char *form = forms[i / 2];
      const bool ed25519 = i % 2, broken = ed25519 && text_starts(form, "simple");
      if (broken && kind > 0) continue; /* it takes seconds, and the socket has no part in it */
      CLEANUP_FREE char *options = text_format("Canonicalization %s\nSignatureAlgorithm %s\nOversignHeaders From,To\n",
                                               form, ed25519 ? "ed25519-sha256" : "rsa-sha256");
      struct stage stage;
      stage_open(&stage, &(struct opendkim_setup){.unix_socket = kind == 1, .inet6 = kind == 2, .options = options});
      stage_connect(&stage);
      struct signer_item item = item_of(&stage, "example.com", "s1", NULL, ed25519);
      stage_run(&stage, signer_activate, &item, 1, DEADLINE_MS);
      if (broken) {
        assert_failure(&stage, 0, ERROR_PROOF, "does not verify");
        assert_non_null(strstr(stage.results[0].error.remedy, "Canonicalization relaxed/simple"));
        assert_tables(&stage, "", "");
      } else {
        assert_success(&stage, 0);
      }
      item_release(&item);
      stage_close(&stage);
    }
  }
}

/* Somebody put another private key where the signer looks for it. */
static void test_signer_opendkim__key_that_does_not_belong_to_the_record_is_taken_back(void **state) {
  (void)state;
  for (int ed25519 = 0; ed25519 < 2; ed25519++) {
    struct stage stage;
    stage_open(&stage, &(struct opendkim_setup){.options = ed25519 ? ED25519_OPTIONS : NULL});
    stage_connect(&stage);
    struct signer_item first = item_of(&stage, "example.com", "s1", NULL, ed25519);
    stage_succeed(&stage, signer_activate, &first);
    CLEANUP_FREE char *keys = opendkim_host_read(stage.host.key_table);
    CLEANUP_FREE char *senders = opendkim_host_read(stage.host.signing_table);
    CLEANUP_FREE char *other = dkim_signer_record(dkim_signer_key(ed25519, 1));
    struct signer_item second = item_of(&stage, "example.com", "s2", "s1", ed25519);
    second.record = other;
    stage_run(&stage, signer_activate, &second, 1, DEADLINE_MS);
    assert_failure(&stage, 0, ERROR_PROOF, "taken back: the signature of mail from");
    assert_true(stage.results[0].rolled_back);
    assert_non_null(strstr(stage.results[0].error.remedy, "private key"));
    assert_tables(&stage, keys, senders);
    assert_signs_with(&stage, "example.com", "s1");
    first.record = other;
    stage_run(&stage, signer_prove, &first, 1, DEADLINE_MS);
    assert_failure(&stage, 0, ERROR_PROOF, "does not verify with the key of the record");
    item_release(&first);
    item_release(&second);
    stage_close(&stage);
  }
}

/* A line of somebody else that signs too, which the policy does not know of. */
static void test_signer_opendkim__second_signature_needs_a_policy_that_says_so(void **state) {
  (void)state;
  for (int known = 0; known < 2; known++) {
    struct stage stage;
    stage_open(&stage,
               &(struct opendkim_setup){.options = "MultipleSignatures yes\n",
                                        .key_table = "farm farm.example:f1:@FOLDER@/keys/example.com/s1.private\n",
                                        .signing_table = "* farm\n"});
    stage.policy.multiple_signatures = true;
    stage_connect(&stage);
    struct signer_item item = stage_first_key(&stage);
    stage.policy.multiple_signatures = known;
    stage_run(&stage, signer_prove, &item, 1, DEADLINE_MS);
    if (known)
      assert_success(&stage, 0);
    else
      assert_failure(&stage, 0, ERROR_PROOF, "and also with d=farm.example s=f1");
    item_release(&item);
    stage_close(&stage);
  }
}

static void test_signer_opendkim__proof_tells_what_the_signer_does_instead(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage,
             &(struct opendkim_setup){.key_table = "broken broken.example:s1:@FOLDER@/keys/none\n"
                                                   "away nobody.example:s1:@FOLDER@/keys/example.com/s1.private\n",
                                      .signing_table = "*@broken.example broken\n*@away.example away\n"});
  stage_connect(&stage);
  struct signer_item first = stage_first_key(&stage);
  struct signer_item items[] = {{.domain = "example.com", .selector = "s9"},
                                {.domain = "unsigned.example", .selector = "s1"},
                                {.domain = "broken.example", .selector = "s1"},
                                {.domain = "away.example", .selector = "s1"},
                                {.domain = "example.com", .selector = "S1", .record = record_of(false)}};
  stage_run(&stage, signer_prove, items, ARRAY_SIZE(items), DEADLINE_MS);
  assert_failure(&stage, 0, ERROR_PROOF, "d=example.com s=s1, and not with d=example.com s=s9");
  assert_failure(&stage, 1, ERROR_PROOF, "pass unsigned");
  assert_failure(&stage, 2, ERROR_PROOF, "defers mail from dkimroll-proof@broken.example");
  /* Lines may be of dkimroll or not; each remedy has something to do for both. */
  assert_non_null(strstr(stage.results[0].error.remedy, "`dkimroll check` names the line), or it reads other tables"));
  assert_non_null(strstr(stage.results[1].error.remedy, "`dkimroll run` writes lines of dkimroll that are missing"));
  assert_non_null(strstr(stage.results[2].error.remedy, "`namei -l FILE`"));
  assert_failure(&stage, 3, ERROR_PROOF, "d=nobody.example");
  assert_success(&stage, 4);
  item_release(&first);
  stage_close(&stage);
}

/* Until its next start OpenDKIM signs by what it has read, so the signature alone would say that all is well. */
static void test_signer_opendkim__lines_that_were_removed_without_a_reload_are_missed(void **state) {
  (void)state;
  for (int kind = 0; kind < 4; kind++) {
    const bool keys = kind & 1, whole = kind & 2;
    struct stage stage;
    stage_open(&stage, &(struct opendkim_setup){0});
    stage_connect(&stage);
    struct signer_item item = stage_first_key(&stage);
    item.compare = true;
    stage_succeed(&stage, signer_prove, &item);
    const char *path = keys ? stage.host.key_table : stage.host.signing_table;
    FILE *table = fopen(path, "w");
    assert_non_null(table);
    fputs("# none\n", table);
    assert_int_equal(fclose(table), 0);
    if (whole) assert_int_equal(remove(path), 0);
    stage_run(&stage, signer_prove, &item, 1, DEADLINE_MS);
    assert_failure(&stage, 0, ERROR_PROOF, "lines of example.com are missing in");
    item.compare = false;
    stage_succeed(&stage, signer_prove, &item);
    item_release(&item);
    stage_close(&stage);
  }
}

static void test_signer_opendkim__client_is_signed_for_whatever_internal_hosts_says(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){.options = "InternalHosts 192.0.2.1\n"});
  stage_connect(&stage);
  struct signer_item item = stage_first_key(&stage);
  item_release(&item);
  stage_close(&stage);
}

static void test_signer_opendkim__exempted_client_is_explained_before_any_edit(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){.options = "PeerList 127.0.0.1\n"});
  stage_connect(&stage);
  struct signer_item item = item_of(&stage, "example.com", "s1", NULL, false);
  stage_run(&stage, signer_activate, &item, 1, DEADLINE_MS);
  assert_failure(&stage, 0, ERROR_PROOF, "nothing was changed");
  assert_non_null(strstr(stage.results[0].error.remedy, "PeerList"));
  assert_tables(&stage, "", "");
  item_release(&item);
  stage_close(&stage);
}

static void test_signer_opendkim__check_finds_what_would_be_in_the_way(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){.key_table = FOREIGN_KEYS, .signing_table = "*@*.b.example farm\n"});
  stage_connect(&stage);
  static const char *const below[] = {"*@x.b.example"};
  struct signer_item items[] = {
      {.domain = "a.example"}, {.domain = "b.example", .senders = below, .sender_count = 1}, {.domain = "c.example"}};
  stage_run(&stage, signer_check, items, ARRAY_SIZE(items), DEADLINE_MS);
  assert_int_equal(stage.result_count, ARRAY_SIZE(items) + 1);
  assert_success(&stage, 0);
  assert_failure(&stage, 1, ERROR_CONFLICT, "line 1");
  assert_success(&stage, 2);
  assert_success(&stage, 3);
  assert_tables(&stage, FOREIGN_KEYS, "*@*.b.example farm\n");

  assert_int_equal(unlink(stage.host.pid_file), 0);
  stage_run(&stage, signer_check, items, 1, DEADLINE_MS);
  assert_failure(&stage, 1, ERROR_NOT_FOUND, "pid file");
  stage_close(&stage);
}

static void test_signer_opendkim__check_finds_a_signer_that_does_not_answer(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){0});
  stage.policy.reload = RELOAD_NONE;
  stage_connect(&stage);
  opendkim_host_stop(&stage.host);
  stage_run(&stage, signer_check, NULL, 0, DEADLINE_MS);
  assert_int_equal(stage.result_count, 1);
  assert_failure(&stage, 0, ERROR_UNREACHABLE, "milter");
  stage_close(&stage);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_signer_opendkim__signatures_verify_over_every_socket_in_every_form),
      cmocka_unit_test(test_signer_opendkim__key_that_does_not_belong_to_the_record_is_taken_back),
      cmocka_unit_test(test_signer_opendkim__second_signature_needs_a_policy_that_says_so),
      cmocka_unit_test(test_signer_opendkim__proof_tells_what_the_signer_does_instead),
      cmocka_unit_test(test_signer_opendkim__lines_that_were_removed_without_a_reload_are_missed),
      cmocka_unit_test(test_signer_opendkim__client_is_signed_for_whatever_internal_hosts_says),
      cmocka_unit_test(test_signer_opendkim__exempted_client_is_explained_before_any_edit),
      cmocka_unit_test(test_signer_opendkim__check_finds_what_would_be_in_the_way),
      cmocka_unit_test(test_signer_opendkim__check_finds_a_signer_that_does_not_answer),
  };
  signal(SIGPIPE, SIG_IGN);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
