/* Each call fails once while a record is looked for on all its servers, and while a signer is asked for a signature. */
#include "../unit/fake_internet.h"

#include <signal.h>

#include "../unit/dkim_signer.h"
#include "../unit/fake_filter.h"
#include "dkimroll/observe.h"
#include "dkimroll/prove.h"
#include "fault.h"

#define NAME "sel._domainkey.example.com"
#define RECORD "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
#define NS3 "192.0.2.12"
enum { DEADLINE_MS = 60000, SERVERS = 3 };

static int backwards(int code, const struct error *result, struct error *error) {
  if (code == 0 && result->code) *error = *result;
  return code ? code : result->code;
}

/* ---- a round of observation ---- */

struct round {
  struct world *world;
  struct policy_publisher publisher;
  enum observe_kind kind;
  struct error result;
  size_t servers, right;
  bool done, free;
};

static char *resolver_list[] = {(char *)(uintptr_t)RESOLVER};

static void round_begin(void *context) {
  struct round *round = context;
  world_open(&round->world);
  build_internet(round->world);
  /* One that only the zone itself names. */
  world_serve(round->world, NS3, "example.com");
  apex(round->world, "example.com", "ns3.example.com", NS3);
  if (round->kind == OBSERVE_PRESENT) world_add(round->world, "example.com", NAME, 3600, DNS_TYPE_TXT, RECORD);
  round->publisher = (struct policy_publisher){.name = (char *)(uintptr_t) "primary", .resolvers = resolver_list, .resolver_count = 1};
}

static void round_end(void *context) {
  struct round *round = context;
  world_close(round->world);
}

static void round_done(void *context, const struct observe_result *results, size_t count) {
  struct round *round = context;
  assert_false(round->done);
  assert_int_equal(count, 1);
  round->done = true;
  round->result = results[0].error;
  round->free = results[0].free;
  round->servers = results[0].server_count;
  round->right = 0;
  for (size_t i = 0; i < results[0].server_count; i++) round->right += results[0].servers[i].verdict == OBSERVE_RIGHT;
  loop_stop(round->world->loop);
}

static int round_act(void *context, struct error *error) {
  struct round *round = context;
  struct observer *observer = NULL;
  struct observe_operation *operation = NULL;
  const struct observe_item item = {.name = NAME, .record = RECORD, .publisher = &round->publisher};
  round->done = false;
  round->result = (struct error){0};
  int code = observer_dns_new(round->world->loop, &round->world->transport, &round->world->random.entropy, &observer, error);
  if (code) return code;
  code = observer_start(observer, round->kind, &item, 1, loop_boottime(round->world->loop) + DEADLINE_MS, round_done, round, &operation, error);
  if (code == 0) code = loop_run(round->world->loop, error);
  if (code == 0) assert_true(round->done);
  observer_destroy(observer);
  return backwards(code, &round->result, error);
}

/* A server that could not be asked is not right; never is one right that does not serve the record. */
static void round_check(void *context, bool whole) {
  const struct round *round = context;
  if (!whole) return;
  assert_int_equal(round->servers, SERVERS); /* none is forgotten */
  assert_true(round->right <= SERVERS);
  if (!fault_fired()) assert_int_equal(round->right, SERVERS);
}

static void test_fault_network__a_look_at_servers_is_right_or_not(void **state) {
  (void)state;
  const enum observe_kind kinds[] = {OBSERVE_PRESENT, OBSERVE_ABSENT, OBSERVE_SURVEY};
  const char *const names[] = {"record looked for", "record gone", "survey"};
  for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
    struct round round = {.kind = kinds[i]};
    const struct fault_workload workload = {
        .name = names[i], .context = &round, .begin = round_begin, .act = round_act, .check = round_check, .end = round_end};
    fault_each(&workload);
  }
}

/* ---- a proof ---- */

struct proof {
  struct fake_filter filter;
  struct loop *loop;
  char *record;
  bool done;
  struct error result;
  enum prove_verdict verdict;
};

static void proof_done(void *context, const struct error *connection, const struct prove_result *results, size_t count) {
  struct proof *proof = context;
  assert_false(proof->done);
  assert_int_equal(count, 1);
  proof->done = true;
  proof->verdict = results[0].verdict;
  proof->result = connection->code ? *connection : results[0].error;
  loop_stop(proof->loop);
}

static int proof_act(void *context, struct error *error) {
  struct proof *proof = context;
  struct prove *prove = NULL;
  struct prove_message message = {.address = "user@example.com", .domain = "example.com", .selector = "new", .record = proof->record};
  proof->done = false;
  proof->result = (struct error){0};
  proof->loop = NULL;
  struct connector *connector = NULL;
  int code = loop_sd_event_new(&proof->loop, error);
  if (code == 0) code = connector_sockets_new(proof->loop, &connector, error);
  if (code) {
    loop_destroy(proof->loop);
    return code;
  }
  const int64_t now = loop_boottime(proof->loop);
  const struct prove_request request = {.milter = proof->filter.address, .messages = &message, .count = 1, .group_count = 1, .deadline = now + DEADLINE_MS, .patience = now, .settle = now};
  code = prove_start(connector, &entropy_system, &request, proof_done, proof, &prove, error);
  if (code == 0) code = loop_run(proof->loop, error);
  if (code && !proof->done) prove_cancel(&prove);
  connector_destroy(connector);
  loop_destroy(proof->loop);
  return backwards(code, &proof->result, error);
}

static void proof_check(void *context, bool whole) {
  const struct proof *proof = context;
  if (whole) assert_int_equal(proof->verdict, PROVE_SIGNED);
}

static void test_fault_network__a_proof_is_a_proof_or_an_error(void **state) {
  (void)state;
  struct proof proof = {.record = dkim_signer_record(dkim_signer_key(true, 0))};
  fake_filter_start(&proof.filter, &(struct fake_script){.selectors = {"new"}});
  const struct fault_workload workload = {.name = "proof", .context = &proof, .act = proof_act, .check = proof_check};
  fault_each(&workload);
  fake_filter_stop(&proof.filter);
  free(proof.record);
}

#define FAULT_TEST(name) cmocka_unit_test_teardown(test_fault_network__##name, fault_teardown)

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  const struct CMUnitTest tests[] = {
      FAULT_TEST(a_look_at_servers_is_right_or_not),
      FAULT_TEST(a_proof_is_a_proof_or_an_error),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
