/* Update runs when the server says yes and does not do it, when requests and replies get lost, when time is over. */
#include "update_bench.h"

/* --- NOERROR is not applied --- */

static int ignore_updates(struct fake_primary *fake, const struct transport_request *request,
                          const struct message *message) {
  (void)fake, (void)request;
  return is_update(message) ? FAKE_IGNORE : FAKE_OBEY;
}

static void test_update_faults__noerror_without_effect_is_found_out(void **state) {
  (void)state;
  struct bench *bench = bench_new(3);
  bench->fake.decide = ignore_updates;
  bench_run(bench);
  for (size_t i = 0; i < bench->count; i++) {
    assert_failure(bench, i, ERROR_REFUSED, "said NOERROR");
    assert_failure(bench, i, ERROR_REFUSED, "does not show the record");
    assert_failure(bench, i, ERROR_REFUSED, "TXT(1)");
  }
  assert_in_range(bench->took, UPDATE_CONFIRM_MS, UPDATE_CONFIRM_MS + 5000);
  bench_free(bench);
}

static int alias_arrives(struct fake_primary *fake, const struct transport_request *request,
                         const struct message *message) {
  (void)request;
  if (!is_update(message)) return FAKE_OBEY;
  fake_add(fake, fake->decide_context, DNS_TYPE_CNAME, "elsewhere.example");
  return FAKE_IGNORE;
}

static void test_update_faults__noerror_ignored_because_of_an_alias_is_a_conflict(void **state) {
  (void)state;
  struct bench *bench = bench_new(1);
  bench->fake.decide = alias_arrives;
  bench->fake.decide_context = bench->names[0];
  bench_run(bench);
  assert_failure(bench, 0, ERROR_CONFLICT, "a CNAME to elsewhere.example stands at");
  assert_failure(bench, 0, ERROR_CONFLICT, "said NOERROR");
  bench_free(bench);
}

static int shows_late(struct fake_primary *fake, const struct transport_request *request,
                      const struct message *message) {
  int64_t *until = fake->decide_context;
  (void)request;
  if (is_update(message)) {
    *until = loop_boottime(fake->loop) + 1500;
    return FAKE_OBEY;
  }
  return *until && loop_boottime(fake->loop) < *until ? DNS_NXDOMAIN : FAKE_OBEY;
}

static void test_update_faults__a_record_that_shows_late_is_waited_for(void **state) {
  (void)state;
  int64_t until = 0;
  struct bench *bench = bench_new(1);
  bench->fake.decide = shows_late;
  bench->fake.decide_context = &until;
  bench_run(bench);
  assert_all(bench, false);
  assert_in_range(bench->took, 1500, 4000);
  assert_true(bench->fake.queries < 20); /* back-off, not a hammer */
  bench_free(bench);
}

/* --- lost, broken, silent --- */

struct once {
  int fault;
  unsigned left;
};

static int update_fault_once(struct fake_primary *fake, const struct transport_request *request,
                             const struct message *message) {
  struct once *once = fake->decide_context;
  (void)request;
  if (!is_update(message) || once->left == 0) return FAKE_OBEY;
  once->left--;
  return once->fault;
}

static void test_update_faults__a_lost_reply_is_looked_up(void **state) {
  (void)state;
  struct once once = {.fault = FAKE_LOSE_REPLY, .left = 1};
  struct bench *bench = bench_new(30);
  bench->fake.decide = update_fault_once;
  bench->fake.decide_context = &once;
  bench_run(bench);
  assert_all(bench, false);
  assert_int_equal(bench->fake.updates, 1);
  bench_free(bench);
}

static void test_update_faults__a_lost_request_is_sent_again(void **state) {
  (void)state;
  static const int faults[] = {FAKE_LOSE_REQUEST, FAKE_BREAK, FAKE_GARBAGE};
  for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
    struct once once = {.fault = faults[i], .left = 1};
    struct bench *bench = bench_new(30);
    bench->fake.decide = update_fault_once;
    bench->fake.decide_context = &once;
    bench_run(bench);
    assert_all(bench, false);
    assert_int_equal(bench->fake.updates, faults[i] == FAKE_GARBAGE ? 1 : 2);
    bench_free(bench);
  }
}

static int dead_port(struct fake_primary *fake, const struct transport_request *request,
                     const struct message *message) {
  const struct sockaddr_in *address = (const struct sockaddr_in *)&request->address.storage;
  (void)message;
  return ntohs(address->sin_port) == 5353 ? *(int *)fake->decide_context : FAKE_OBEY;
}

static void test_update_faults__a_dead_server_does_not_hold_back_another(void **state) {
  (void)state;
  static const struct {
    int fault, code;
    unsigned queries;
  } cases[] = {
      {FAKE_LOSE_REQUEST, ERROR_TIMEOUT, 5}, {FAKE_BREAK, ERROR_UNREACHABLE, 5}, {FAKE_GARBAGE, ERROR_PROTOCOL, 5}};
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    int fault = cases[i].fault;
    struct bench *bench = bench_new(200);
    bench->fake.decide = dead_port;
    bench->fake.decide_context = &fault;
    for (size_t j = 0; j < bench->count; j += 2) bench->ports[j] = 5353;
    bench_run(bench);
    for (size_t j = 0; j < bench->count; j++) {
      if (j % 2)
        assert_success(bench, j);
      else
        assert_failure(bench, j, cases[i].code, "192.0.2.53:5353");
    }
    assert_int_equal(bench->fake.queries, 200 + UPDATE_SERVER_ATTEMPTS_MAX); /* one probe at a time */
    bench_free(bench);
  }
}

static int silent(struct fake_primary *fake, const struct transport_request *request, const struct message *message) {
  (void)request;
  return is_update(message) == *(bool *)fake->decide_context ? FAKE_LOSE_REQUEST : FAKE_OBEY;
}

static void test_update_faults__exchanges_that_cannot_start_end_with_their_reason(void **state) {
  (void)state;
  struct bench *bench = bench_new(70);
  bench->fake.failing = 100;
  bench_run(bench);
  for (size_t i = 0; i < bench->count; i++) assert_failure(bench, i, ERROR_SYSTEM, "Too many open files");
  assert_true(bench->took < DEADLINE_MS / 2);
  bench_free(bench);
}

static void end_run(void *context) {
  update_run_end(context);
}

static void end_after(struct bench *bench, int64_t milliseconds) {
  CLEANUP(run_cleanup) struct update_run *run = bench_start(bench);
  struct loop *loop = bench->fake.loop;
  struct error error = {0};
  assert_int_equal(loop_at(loop, loop_boottime(loop) + milliseconds, end_run, run, NULL), 0);
  assert_int_equal(loop_run(loop, &error), 0);
  assert_true(bench->done);
}

static void test_update_faults__what_the_deadline_ends_says_how_far_it_was(void **state) {
  (void)state;
  static const struct {
    bool updates;
    const char *text;
  } cases[] = {{false, "no answer in time to the query for"}, {true, "the next attempt looks whether it was applied"}};
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    bool updates = cases[i].updates;
    struct bench *bench = bench_new(20);
    bench->fake.decide = silent;
    bench->fake.decide_context = &updates;
    end_after(bench, 1000);
    for (size_t j = 0; j < bench->count; j++) assert_failure(bench, j, ERROR_TIMEOUT, cases[i].text);
    bench_free(bench);
  }
}

static void test_update_faults__a_run_can_end_and_be_freed_at_any_moment(void **state) {
  (void)state;
  unsigned successes = 0;
  for (int64_t moment = 0; moment < 60; moment++) {
    struct bench *bench = bench_new(250);
    fake_add(&bench->fake, bench->names[3], DNS_TYPE_TXT, "foreign");
    end_after(bench, moment);
    for (size_t i = 0; i < bench->count; i++) successes += bench->results[i].error.code == 0;
    bench_free(bench);
    bench = bench_new(250);
    CLEANUP(run_cleanup) struct update_run *run = bench_start(bench);
    struct error error = {0};
    assert_int_equal(loop_at(bench->fake.loop, FAKE_START_BOOT + moment, run_done, bench, NULL), 0);
    assert_int_equal(loop_run(bench->fake.loop, &error), 0);
    update_run_free(TAKE_PTR(run));
    bench_free(bench);
  }
  assert_true(successes > 0);
}

/* Anything may fail at any time: what is reported must be true, and nothing of others may change. */
static int random_fault(struct fake_primary *fake, const struct transport_request *request,
                        const struct message *message) {
  static const int faults[] = {FAKE_IGNORE,  FAKE_LOSE_REQUEST, FAKE_LOSE_REPLY, FAKE_BREAK,
                               FAKE_GARBAGE, DNS_SERVFAIL,      DNS_REFUSED,     DNS_YXRRSET};
  (void)request;
  if (entropy_below(&fake->random.entropy, 100) >= *(uint32_t *)fake->decide_context) return FAKE_OBEY;
  int fault = faults[entropy_below(&fake->random.entropy, ARRAY_SIZE(faults))];
  bool senseless = fault == DNS_YXRRSET || fault == FAKE_IGNORE; /* to a query; the latter would be a lie */
  return !is_update(message) && senseless ? DNS_SERVFAIL : fault;
}

static void random_item(struct bench *bench, size_t i) {
  struct fake_primary *fake = &bench->fake;
  uint32_t kind = entropy_below(&fake->random.entropy, 3);
  bench->items[i] =
      (struct publish_item){.name = bench->names[i], .ttl = 60, .change = (enum publish_change)(kind + 1)};
  if (kind != 2) bench->items[i].record = bench->texts[i];
  if (kind != 0) bench->items[i].record_before = "before";
  uint32_t stands = entropy_below(&fake->random.entropy, 10);
  if (kind != 0 && stands < 8) fake_add(fake, bench->names[i], DNS_TYPE_TXT, "before");
  if (stands == 8) fake_add(fake, bench->names[i], DNS_TYPE_TXT, "foreign");
  if (stands == 9) fake_add(fake, bench->names[i], DNS_TYPE_CNAME, "foreign.example");
}

static void assert_true_report(struct bench *bench, size_t i, uint64_t seed) {
  struct fake_primary *fake = &bench->fake;
  const struct publish_item *item = &bench->items[i];
  const struct publish_result *result = &bench->results[i];
  size_t texts = fake_count(fake, item->name, DNS_TYPE_TXT);
  bool wanted = item->record ? texts == 1 && fake_find(fake, item->name, DNS_TYPE_TXT, item->record)
                             : !fake_find(fake, item->name, DNS_TYPE_TXT, item->record_before);
  if (result->error.code == 0 && !wanted)
    fail_msg("seed %llu item %zu: success, but it is not so", (unsigned long long)seed, i);
  if (result->error.code != 0 && !result->error.message[0])
    fail_msg("seed %llu item %zu: no message", (unsigned long long)seed, i);
  if (texts > 1) fail_msg("seed %llu item %zu: %zu TXT records", (unsigned long long)seed, i, texts);
}

static void test_update_faults__reports_are_true_whatever_fails(void **state) {
  (void)state;
  size_t successes = 0, failures = 0;
  for (uint64_t seed = 1; seed <= 60; seed++) {
    uint32_t percent = (uint32_t)(seed % 30);
    struct bench *bench = bench_new(220);
    entropy_seed(&bench->fake.random, seed);
    bench->fake.latency = 40;
    bench->fake.failing = percent / 5;
    for (size_t i = 0; i < bench->count; i++) random_item(bench, i);
    bench->fake.decide = random_fault;
    bench->fake.decide_context = &percent;
    size_t foreign = 0, foreign_after = 0;
    for (size_t i = 0; i < bench->fake.record_count; i++)
      foreign += text_starts(bench->fake.records[i].text, "foreign");
    end_after(bench, 40000);
    for (size_t i = 0; i < bench->fake.record_count; i++)
      foreign_after += text_starts(bench->fake.records[i].text, "foreign");
    assert_int_equal(foreign, foreign_after);
    for (size_t i = 0; i < bench->count; i++) {
      assert_true_report(bench, i, seed);
      successes += bench->results[i].error.code == 0;
      failures += bench->results[i].error.code != 0;
    }
    bench_free(bench);
  }
  assert_true(successes > failures && failures > 0);
}

/* --- TSIG --- */

static void test_update_faults__unsigned_replies_to_a_key_never_count(void **state) {
  (void)state;
  static const int rcodes[] = {FAKE_OBEY, DNS_REFUSED, DNS_NOTAUTH, DNS_SERVFAIL};
  struct tsig_key *key = NULL;
  struct error error = {0};
  const char text[] = "hmac-sha256:dkimroll:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
  assert_int_equal(tsig_key_parse("test", text, strlen(text), &key, &error), 0);
  for (size_t i = 0; i < ARRAY_SIZE(rcodes); i++) {
    int rcode = rcodes[i];
    struct bench *bench = bench_new(3);
    bench->key = key;
    bench->fake.decide = always_query;
    bench->fake.decide_context = &rcode;
    bench_run(bench);
    for (size_t j = 0; j < bench->count; j++) {
      assert_failure(bench, j, ERROR_REFUSED, "unsigned");
      assert_false(bench->results[j].attested);
    }
    assert_int_equal(bench->fake.updates, 0);
    assert_true(bench->took >= UPDATE_DOUBT_MS);
    bench_free(bench);
  }
  tsig_key_free(key);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_update_faults__noerror_without_effect_is_found_out),
      cmocka_unit_test(test_update_faults__noerror_ignored_because_of_an_alias_is_a_conflict),
      cmocka_unit_test(test_update_faults__a_record_that_shows_late_is_waited_for),
      cmocka_unit_test(test_update_faults__a_lost_reply_is_looked_up),
      cmocka_unit_test(test_update_faults__a_lost_request_is_sent_again),
      cmocka_unit_test(test_update_faults__a_dead_server_does_not_hold_back_another),
      cmocka_unit_test(test_update_faults__exchanges_that_cannot_start_end_with_their_reason),
      cmocka_unit_test(test_update_faults__what_the_deadline_ends_says_how_far_it_was),
      cmocka_unit_test(test_update_faults__a_run_can_end_and_be_freed_at_any_moment),
      cmocka_unit_test(test_update_faults__reports_are_true_whatever_fails),
      cmocka_unit_test(test_update_faults__unsigned_replies_to_a_key_never_count),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
