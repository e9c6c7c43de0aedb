/* `dkimroll prove` against scripted name servers and signers. What they do for real is the business of their own tests and
 * of tests/integration/scenario-prove.sh. */
#include "cli_desk.h"

#include "dkimroll/proof.h"

#define EXPECTED "v=DKIM1; k=rsa; p=MIIB" /* as desk_live makes it */

struct scripted_world {
  struct loop *loop;
  struct observer observer;
  struct signer signer;
  struct entropy_seeded entropy;
  const char *second;          /* what ns2 serves; NULL: as expected; "": nothing */
  enum observe_verdict answer; /* of ns2, if not RIGHT by that */
  bool no_zone;
  int signer_code;        /* the signer cannot be made */
  const char *bad_record; /* messages to be verified with this one fail */
  const char *bad_sender; /* of this one too */
  size_t rounds, asked, slices, proved;
};
static struct scripted_world *the_world; /* the wiring's functions have no context */

/* Ends a call from the loop, as the contract wants. */
struct call {
  void (*end)(const struct call *call);
  observe_done *observed;
  signer_done *signed_by;
  void *context;
  const struct observe_item *observe_items;
  const struct signer_item *signer_items;
  size_t count;
};

static void call_back(void *context) {
  CLEANUP_FREE struct call *call = context;
  call->end(call);
}

static void call_later(const struct call *call) {
  struct call *copy = malloc(sizeof *copy);
  assert_non_null(copy);
  *copy = *call;
  assert_int_equal(loop_at(the_world->loop, loop_boottime(the_world->loop) + 10, call_back, copy, NULL), 0);
}

static void fill_server(struct observe_server *server, const char *host, const char *served,
                        enum observe_verdict verdict) {
  *server =
      (struct observe_server){.verdict = verdict, .served = served[0] ? served : NULL, .served_size = strlen(served)};
  text_copy(server->host, sizeof server->host, host);
  text_copy(server->address, sizeof server->address, "192.0.2.1:53");
  text_copy(server->answer, sizeof server->answer, served[0] ? served : "NXDOMAIN");
}

static void end_round(const struct call *call) {
  struct observe_result *results = calloc(call->count, sizeof *results);
  struct observe_server(*servers)[2] = calloc(call->count, sizeof *servers);
  assert_true(results && servers);
  const char *second = the_world->second;
  for (size_t i = 0; i < call->count; i++) {
    assert_string_equal(call->observe_items[i].record, EXPECTED);
    if (the_world->no_zone) error_set(&results[i].error, ERROR_NOT_FOUND, "no zone holds that name");
    results[i].servers = servers[i];
    results[i].server_count = the_world->no_zone ? 0 : 2;
    fill_server(&servers[i][0], "ns1.example.net", EXPECTED, OBSERVE_RIGHT);
    fill_server(&servers[i][1], "ns2.example.net", second ? second : EXPECTED,
                second ? the_world->answer : OBSERVE_RIGHT);
  }
  call->observed(call->context, results, call->count);
  free(servers);
  free(results);
}

static int observe_start(struct observer *observer, enum observe_kind kind, const struct observe_item *items,
                         size_t count, int64_t deadline, observe_done *done, void *context,
                         struct observe_operation **ret_operation, struct error *error) {
  (void)error;
  assert_int_equal(kind, OBSERVE_PRESENT);
  assert_in_range(count, 1, OBSERVE_ITEMS_MAX);
  assert_true(deadline <= loop_boottime(the_world->loop) + PROOF_SECONDS * 1000);
  the_world->rounds++;
  the_world->asked += count;
  call_later(
      &(struct call){.end = end_round, .observed = done, .context = context, .observe_items = items, .count = count});
  *ret_operation = (struct observe_operation *)observer;
  return 0;
}
static void observe_nothing(struct observer *observer, struct observe_operation *operation) {
  (void)observer;
  (void)operation;
  fail_msg("nothing is to be cancelled");
}
static const struct observer_ops observer_ops = {.start = observe_start, .cancel = observe_nothing};

static void end_slice(const struct call *call) {
  struct signer_result *results = calloc(call->count, sizeof *results);
  assert_non_null(results);
  for (size_t i = 0; i < call->count; i++) {
    const struct signer_item *item = &call->signer_items[i];
    if (!text_equal(item->record, the_world->bad_record) && !text_equal(item->senders[0], the_world->bad_sender))
      continue;
    error_set(&results[i].error, ERROR_PROOF, "the signature is not valid");
    error_remedy(&results[i].error, "the remedy of that");
  }
  call->signed_by(call->context, results, call->count);
  free(results);
}

static int signer_prove_start(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                              signer_done *done, void *context, struct signer_operation **ret_operation,
                              struct error *error) {
  (void)error;
  assert_in_range(count, 1, PROOF_SLICE);
  assert_true(deadline <= loop_boottime(the_world->loop) + PROOF_SECONDS * 1000);
  for (size_t i = 0; i < count; i++) {
    assert_non_null(items[i].record);
    assert_int_equal(items[i].sender_count, 1);
  }
  the_world->slices++;
  the_world->proved += count;
  call_later(
      &(struct call){.end = end_slice, .signed_by = done, .context = context, .signer_items = items, .count = count});
  *ret_operation = (struct signer_operation *)signer;
  return 0;
}
static void signer_stays(struct signer *signer) {
  (void)signer;
}
static const struct signer_ops signer_ops = {.prove = signer_prove_start, .destroy = signer_stays};

static int make_signer(void *context, const struct policy_signer *policy, struct signer **ret_signer,
                       struct error *error) {
  (void)context;
  (void)policy;
  if (the_world->signer_code) return error_set(error, the_world->signer_code, "the signer has no milter");
  *ret_signer = &the_world->signer;
  return 0;
}
static int start_keeper(const struct policy *policy, const struct policy_signer *const *signers, size_t signer_count,
                        int *ret_descriptor, pid_t *ret_pid, struct error *error) {
  (void)policy;
  (void)signers;
  (void)signer_count;
  (void)error;
  *ret_descriptor = -1;
  *ret_pid = -1;
  return 0;
}
static int make_backends(int descriptor, pid_t pid, struct cli_backends *ret_backends, struct error *error) {
  struct clock_reading start;
  (void)descriptor;
  (void)pid;
  clock_read(&start);
  assert_int_equal(loop_virtual_new(&start, &the_world->loop, error), 0);
  *ret_backends = (struct cli_backends){.loop = the_world->loop,
                                        .observer = &the_world->observer,
                                        .entropy = &the_world->entropy.entropy,
                                        .factory = {NULL, make_signer, NULL}};
  return 0;
}
static void release_backends(struct cli_backends *backends) {
  loop_destroy(backends->loop);
}

static struct scripted_world world;

static void world_make(struct desk *desk, const char *domains) {
  desk_make(desk, domains);
  desk->wiring = (struct cli_wiring){
      .open_store = store_sqlite_open, .start_keeper = start_keeper, .make_backends = make_backends, .release_backends = release_backends};
  desk_sync(desk);
  world = (struct scripted_world){.observer = {&observer_ops}, .signer = {&signer_ops}, .answer = OBSERVE_WRONG};
  the_world = &world;
}

static void make_active(struct desk *desk, const char *domain) {
  desk_edit(desk, domain, NULL, desk_live, NULL);
}

static int run_prove(struct desk *desk, const char *const *operands) {
  world.rounds = world.asked = world.slices = world.proved = 0;
  return desk_run(desk, cli_command_prove, operands);
}

static void test_cli_proof__all_right(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&desk,
             "  example.com: {senders: [\"*@example.com\", \"*@m.example.com\"]}\n  example.org:\n  new.example:\n");
  make_active(&desk, "example.com");
  make_active(&desk, "example.org");
  assert_int_equal(run_prove(&desk, NULL), EX_OK);
  assert_int_equal(world.asked, 2);
  assert_int_equal(world.proved, 3);
  assert_contains(desk.out, "*@m.example.com signed and verified");
  assert_contains(desk.out, "note     new.example: no key of it signs yet");
  assert_contains(desk.out, "All right: 3 messages signed, and verified with what every name server serves.\n");
  assert_int_equal(run_prove(&desk, DOMAINS("Example.ORG.")), EX_OK);
  assert_int_equal(world.proved, 1);
  assert_lacks(desk.out, "example.com");
  assert_int_equal(run_prove(&desk, DOMAINS("new.example")), EX_OK);
  assert_int_equal(world.asked, 0);
  assert_contains(desk.out, "Nothing was proved");
  assert_int_equal(run_prove(&desk, DOMAINS("exampel.org")), EX_NOINPUT);
  assert_contains(desk.err, "did you mean example.org");
}

static void test_cli_proof__every_slot_is_proved(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&desk, "  example.com: {policy: double}\n");
  make_active(&desk, "example.com");
  assert_int_equal(run_prove(&desk, NULL), EX_OK);
  assert_int_equal(world.proved, 2);
}

static void test_cli_proof__sender_that_fails_is_told_with_its_remedy(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  world_make(&desk, "  example.com: {senders: [\"*@example.com\", \"*@m.example.com\"]}\n");
  make_active(&desk, "example.com");
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
  make_active(&desk, "example.com");
  world.second = "v=DKIM1; k=rsa; p=OTHER";
  world.bad_record = world.second;
  assert_int_equal(run_prove(&desk, NULL), EX_UNAVAILABLE);
  assert_int_equal(world.proved, 2);
  assert_contains(desk.out, "ns2.example.net (192.0.2.1:53) does not serve the record of ");
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
  make_active(&desk, "example.com");
  world.second = "";
  assert_int_equal(run_prove(&desk, NULL), EX_UNAVAILABLE);
  assert_contains(desk.out, "signed and verified");
  assert_contains(desk.out, "NXDOMAIN");
  assert_contains(desk.out, "NOT all right: 0 of 1 message failed.\n");
  world.answer = OBSERVE_SILENT;
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
  make_active(&desk, "example.com");
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
  make_active(&desk, "example.com");
  make_active(&desk, "example.org");
  world.signer_code = ERROR_CONFIG;
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
  make_active(&desk, "example.com");
  assert_int_equal(run_prove(&desk, NULL), EX_OK);
  assert_json(desk.out, "$.ok", "1");
  assert_json(desk.out, "$.verified", "1");
  assert_json(desk.out, "$.keys[0].domain", "example.com");
  assert_json(desk.out, "$.keys[0].servers[1].right", "1");
  assert_json(desk.out, "$.keys[0].messages[0].verified", "1");
  assert_json(desk.out, "$.keys[0].messages[0].error", "NULL");
  world.second = world.bad_record = "v=DKIM1; p=\xff";
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
    make_active(&desk, domain);
  }
  assert_int_equal(run_prove(&desk, NULL), EX_OK);
  assert_int_equal(world.rounds, 2);
  assert_int_equal(world.asked, COUNT);
  assert_int_equal(world.proved, COUNT * 3);
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
