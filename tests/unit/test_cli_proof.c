/* `dkimroll prove` against scripted name servers and signers. What they do for real is the business of their own tests and
 * of tests/integration/scenario-prove.sh. */
#include "check_world.h"

#define EXPECTED "v=DKIM1; k=rsa; p=MIIB" /* as desk_live makes it */

static struct scripted_world world;

static void world_make(struct desk *desk, const char *domains) {
  desk_make(desk, domains);
  check_world_wire(&world, desk);
  world.record = EXPECTED;
  world.seconds = PROOF_SECONDS;
  desk_sync(desk);
}

static void make_signing(struct desk *desk, const char *domain) {
  desk_edit(desk, domain, NULL, desk_live, NULL);
}

static int run_prove(struct desk *desk, const char *const *operands) {
  world.rounds = world.observed_count = world.slices = world.proved_count = 0;
  return desk_run(desk, cli_command_prove, operands);
}

static void test_cli_proof__all_right(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&desk,
             "  example.com: {senders: [\"*@example.com\", \"*@m.example.com\"]}\n  example.org:\n  new.example:\n");
  make_signing(&desk, "example.com");
  make_signing(&desk, "example.org");
  assert_int_equal(run_prove(&desk, NULL), EX_OK);
  assert_int_equal(world.observed_count, 2);
  assert_int_equal(world.proved_count, 3);
  assert_contains(desk.out, "*@m.example.com signed and verified");
  assert_contains(desk.out, "note     new.example: no key of it signs yet");
  assert_contains(desk.out, "All right: 3 messages signed, and verified with what every name server serves.\n");
  assert_int_equal(run_prove(&desk, DOMAINS("Example.ORG.")), EX_OK);
  assert_int_equal(world.proved_count, 1);
  assert_lacks(desk.out, "example.com");
  assert_int_equal(run_prove(&desk, DOMAINS("new.example")), EX_OK);
  assert_int_equal(world.observed_count, 0);
  assert_contains(desk.out, "Nothing was proved");
  assert_int_equal(run_prove(&desk, DOMAINS("exampel.org")), EX_NOINPUT);
  assert_contains(desk.err, "did you mean example.org");
}

static void test_cli_proof__every_slot_is_proved(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&desk, "  example.com: {policy: double}\n");
  make_signing(&desk, "example.com");
  assert_int_equal(run_prove(&desk, NULL), EX_OK);
  assert_int_equal(world.proved_count, 2);
}

static void test_cli_proof__sender_that_fails_is_told_with_its_remedy(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&desk, "  example.com: {senders: [\"*@example.com\", \"*@m.example.com\"]}\n");
  make_signing(&desk, "example.com");
  world.bad_sender = "*@m.example.com";
  assert_int_equal(run_prove(&desk, NULL), EX_UNAVAILABLE);
  assert_contains(desk.out, "*@m.example.com FAILED");
  assert_contains(desk.out,
                  "signer local\n  FAILED   example.com: the signature is not valid\n           remedy: the remedy");
  assert_contains(desk.out, "NOT all right: 1 of 2 messages failed.\n");
}

static void test_cli_proof__every_record_that_is_served_is_verified_with(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&desk, "  example.com:\n");
  make_signing(&desk, "example.com");
  world.second = OBSERVE_WRONG;
  world.second_serves = world.bad_record = "v=DKIM1; k=rsa; p=OTHER";
  assert_int_equal(run_prove(&desk, NULL), EX_UNAVAILABLE);
  assert_int_equal(world.proved_count, 2);
  assert_contains(desk.out, "ns2.example.net (192.0.2.2:53) does not serve the record of ");
  assert_contains(desk.out, "the signature is not valid, with what is served by ns2.example.net");
  assert_contains(desk.out, "NOT all right: 1 of 2 messages failed.\n");
  /* Who follows it must not replace a key file that is right. */
  assert_contains(desk.out, "remedy: what is served there is not the record of this key: put that right, and prove again; if it fails then: the remedy");
  /* One row, although it was verified twice. */
  assert_int_equal(count_lines(desk.out), 9);
}

static void test_cli_proof__server_that_does_not_have_it_fails_though_the_message_is_good(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&desk, "  example.com:\n");
  make_signing(&desk, "example.com");
  world.second = OBSERVE_WRONG;
  assert_int_equal(run_prove(&desk, NULL), EX_UNAVAILABLE);
  assert_contains(desk.out, "signed and verified");
  assert_contains(desk.out, "NXDOMAIN");
  assert_contains(desk.out, "NOT all right: 0 of 1 message failed.\n");
  world.second = OBSERVE_SILENT;
  assert_int_equal(run_prove(&desk, NULL), EX_UNAVAILABLE);
  assert_contains(desk.out, "gives no usable answer");
  world.no_zone = true;
  assert_int_equal(run_prove(&desk, NULL), EX_UNAVAILABLE);
  assert_contains(desk.out, "example.com: no zone holds that name");
  assert_contains(desk.out, "signed, but no server has the record");
}

/* She follows "compare milter of the signer in the policy", and nothing becomes better. */
static void test_cli_proof__policy_that_is_not_in_force_yet_is_told(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&desk, "  example.com:\n");
  make_signing(&desk, "example.com");
  assert_int_equal(run_prove(&desk, NULL), EX_OK);
  assert_null(strstr(desk.out, "the policy was changed"));
  desk_write_policy(&desk, "  example.com:\n  example.net:\n");
  assert_int_equal(run_prove(&desk, NULL), EX_OK);
  assert_contains(desk.out, "policy\n  note     the policy was changed since the last run: what it says of signers, senders and servers is not in force yet, and was not proved\n"
                            "           remedy: `dkimroll run` takes it over\n");
}

static void test_cli_proof__signer_that_cannot_start_fails_all_its_messages(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&desk, "  example.com:\n  example.org:\n");
  make_signing(&desk, "example.com");
  make_signing(&desk, "example.org");
  world.make_signer_code = ERROR_CONFIG;
  assert_int_equal(run_prove(&desk, NULL), EX_CONFIG);
  assert_contains(desk.out, "FAILED   example.com and 1 other: the signer has no milter");
  assert_contains(desk.out, "NOT all right: 2 of 2 messages failed.\n");
}

static void test_cli_proof__for_programs(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&desk, "  example.com:\n");
  desk.arguments.json = true;
  assert_int_equal(run_prove(&desk, NULL), EX_OK);
  assert_json(desk.out, "$.keys[0]", "NULL");
  make_signing(&desk, "example.com");
  assert_int_equal(run_prove(&desk, NULL), EX_OK);
  assert_json(desk.out, "$.ok", "1");
  assert_json(desk.out, "$.verified", "1");
  assert_json(desk.out, "$.keys[0].domain", "example.com");
  assert_json(desk.out, "$.keys[0].servers[1].right", "1");
  assert_json(desk.out, "$.keys[0].messages[0].verified", "1");
  assert_json(desk.out, "$.keys[0].messages[0].error", "NULL");
  world.second = OBSERVE_WRONG;
  world.second_serves = world.bad_record = "v=DKIM1; p=\xff";
  assert_int_equal(run_prove(&desk, NULL), EX_UNAVAILABLE);
  assert_json(desk.out, "$.ok", "0");
  assert_json(desk.out, "$.failed", "1");
  assert_json(desk.out, "$.keys[0].messages[1].error", "the signature is not valid");
  assert_json(desk.out, "$.keys[0].messages[1].remedy", "the remedy of that");
  assert_lacks(desk.out, "NOT all right");
}

static void test_cli_proof__many_domains_go_in_batches_and_slices(void **state) {
  (void)state;
  enum { COUNT = PROOF_BATCH + 20 };
  CLEANUP(desk_remove) struct desk desk;
  struct buffer domains = BUFFER_WITH_MAXIMUM(1024 * 1024);
  for (int i = 0; i < COUNT; i++)
    buffer_format(&domains, "  d%d.example: {senders: [\"a@d%d.example\", \"b@d%d.example\", \"c@d%d.example\"]}\n", i,
                  i, i, i);
  world_make(&desk, (const char *)domains.data);
  buffer_release(&domains);
  for (int i = 0; i < COUNT; i++) {
    char domain[32];
    snprintf(domain, sizeof domain, "d%d.example", i);
    make_signing(&desk, domain);
  }
  assert_int_equal(run_prove(&desk, NULL), EX_OK);
  assert_int_equal(world.rounds, 2);
  assert_int_equal(world.observed_count, COUNT);
  assert_int_equal(world.proved_count, COUNT * 3);
  assert_int_equal(world.slices, 3);
  assert_contains(desk.out, "All right: 1560 messages signed");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_cli_proof__all_right),
      cmocka_unit_test(test_cli_proof__every_slot_is_proved),
      cmocka_unit_test(test_cli_proof__sender_that_fails_is_told_with_its_remedy),
      cmocka_unit_test(test_cli_proof__every_record_that_is_served_is_verified_with),
      cmocka_unit_test(test_cli_proof__server_that_does_not_have_it_fails_though_the_message_is_good),
      cmocka_unit_test(test_cli_proof__policy_that_is_not_in_force_yet_is_told),
      cmocka_unit_test(test_cli_proof__signer_that_cannot_start_fails_all_its_messages),
      cmocka_unit_test(test_cli_proof__for_programs),
      cmocka_unit_test(test_cli_proof__many_domains_go_in_batches_and_slices),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
