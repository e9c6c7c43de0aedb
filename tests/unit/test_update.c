/* Update runs against a fake primary: batches, faults, deadlines; and what states and refusals mean. */
#include "fake_primary.h"

#include "dkimroll/update.h"
#include "dkimroll/update_error.h"
#include "dkimroll/update_exchange.h"
#include "dkimroll/update_state.h"

enum { ITEMS_MAX = 2000, DEADLINE_MS = 60000 };

struct bench {
  struct fake_primary fake;
  struct publish_item items[ITEMS_MAX];
  struct publish_result results[ITEMS_MAX];
  char names[ITEMS_MAX][96];
  char texts[ITEMS_MAX][FAKE_TEXT_SIZE];
  size_t count;
  size_t zones; /* items are spread over that many */
  size_t block; /* or: so many after each other to one zone */
  uint16_t ports[ITEMS_MAX];
  struct tsig_key *key;
  bool done;
  int64_t took; /* milliseconds of the last run */
};

static void run_cleanup(struct update_run **run) {
  update_run_free(*run);
}

static struct bench *bench_new(size_t count) {
  struct bench *bench = calloc(1, sizeof *bench);
  assert_non_null(bench);
  fake_open(&bench->fake, 1);
  bench->count = count;
  bench->zones = 1;
  for (size_t i = 0; i < count; i++) {
    snprintf(bench->names[i], sizeof bench->names[i], "s%zu._domainkey.example.com", i);
    snprintf(bench->texts[i], sizeof bench->texts[i], "v=DKIM1; k=rsa; p=%0392zu", i);
    bench->items[i] =
        (struct publish_item){.change = PUBLISH_ADD, .name = bench->names[i], .record = bench->texts[i], .ttl = 3600};
  }
  return bench;
}

static void bench_free(struct bench *bench) {
  fake_close(&bench->fake);
  free(bench);
}

static void run_done(void *context) {
  struct bench *bench = context;
  assert_false(bench->done);
  bench->done = true;
  loop_stop(bench->fake.loop);
}

static struct update_run *bench_start(struct bench *bench) {
  const struct update_link link = {.loop = bench->fake.loop,
                                   .transport = &bench->fake.transport,
                                   .entropy = &bench->fake.random.entropy,
                                   .key = bench->key};
  struct update_run *run = NULL;
  struct error error = {0};
  int64_t deadline = loop_boottime(link.loop) + DEADLINE_MS;
  bench->done = false;
  memset(bench->results, 0, sizeof bench->results);
  assert_int_equal(
      update_run_new(&link, bench->items, bench->results, bench->count, deadline, run_done, bench, &run, &error), 0);
  for (size_t i = 0; i < bench->count; i++) {
    char zone[64];
    struct update_target target = {.zone = zone, .owner = bench->items[i].name};
    snprintf(zone, sizeof zone, "example.com");
    if (bench->block) snprintf(zone, sizeof zone, "z%zu.example.com", i / bench->block);
    if (bench->zones > 1) snprintf(zone, sizeof zone, "z%zu.example.com", i % bench->zones);
    address_from_octets((const uint8_t[]){192, 0, 2, 53}, 4, bench->ports[i] ? bench->ports[i] : 53, &target.server);
    update_run_add(run, i, &target);
  }
  return run;
}

static void bench_run(struct bench *bench) {
  CLEANUP(run_cleanup) struct update_run *run = bench_start(bench);
  struct error error = {0};
  int64_t start = loop_boottime(bench->fake.loop);
  if (!bench->done) assert_int_equal(loop_run(bench->fake.loop, &error), 0);
  assert_true(bench->done);
  bench->took = loop_boottime(bench->fake.loop) - start;
}

static void assert_success(const struct bench *bench, size_t index) {
  const struct publish_result *result = &bench->results[index];
  if (result->error.code != 0) fail_msg("item %zu: %s", index, result->error.message);
  assert_true(result->completed_at >= FAKE_START_WALL);
}

static void assert_all(const struct bench *bench, bool already) {
  for (size_t i = 0; i < bench->count; i++) {
    assert_success(bench, i);
    assert_int_equal(bench->results[i].already, already);
  }
}

static void assert_failure(const struct bench *bench, size_t index, int code, const char *text) {
  const struct error *error = &bench->results[index].error;
  if (error->code != code || (!strstr(error->message, text) && !strstr(error->remedy, text)))
    fail_msg("item %zu: wanted %s with \"%s\", got %s: %s (%s)", index, error_code_name(code), text,
             error_code_name(error->code), error->message, error->remedy);
  assert_true(error->remedy[0]);
  assert_int_equal(bench->results[index].completed_at, 0);
}

static bool is_update(const struct message *message) {
  return message->opcode == 5;
}

static bool mentions(const struct message *message, const char *name) {
  for (size_t i = 0; i < message->record_count; i++)
    if (text_equal(message->records[i].name, name)) return true;
  return text_equal(message->question_name, name);
}

/* --- batches --- */

static void test_update__many_records_go_in_few_messages(void **state) {
  (void)state;
  struct bench *bench = bench_new(1000);
  bench_run(bench);
  assert_all(bench, false);
  assert_int_equal(bench->fake.updates, 10);
  assert_int_equal(bench->fake.queries, 2000);
  assert_true(bench->fake.largest <= PUBLISH_MESSAGE_MAX);
  assert_true(bench->fake.in_flight_max <= UPDATE_WINDOW && bench->fake.in_flight_max > UPDATE_WINDOW / 2);
  assert_int_equal(bench->fake.record_count, 1000);
  bench->fake.updates = 0;
  bench_run(bench);
  assert_all(bench, true);
  assert_int_equal(bench->fake.updates, 0);
  bench_free(bench);
}

static void test_update__messages_stay_below_their_size(void **state) {
  (void)state;
  enum { COUNT = 200 };
  static char large[COUNT][4000];
  struct bench *bench = bench_new(COUNT);
  for (size_t i = 0; i < COUNT; i++) {
    memset(large[i], 'p', 440);
    snprintf(large[i] + 440, 8, "%zu", i);
    fake_add(&bench->fake, bench->names[i], DNS_TYPE_TXT, large[i]);
    bench->items[i] = (struct publish_item){
        .change = PUBLISH_REPLACE, .name = bench->names[i], .record = bench->texts[i], .record_before = large[i]};
  }
  bench_run(bench);
  assert_all(bench, false);
  assert_true(bench->fake.updates >= 4); /* 200 times 1,300 octets */
  assert_true(bench->fake.largest <= PUBLISH_MESSAGE_MAX && bench->fake.largest > PUBLISH_MESSAGE_MAX / 2);
  assert_int_equal(bench->fake.record_count, COUNT);
  bench_free(bench);
}

static void test_update__each_zone_has_its_messages(void **state) {
  (void)state;
  struct bench *bench = bench_new(300);
  bench->zones = 30;
  for (size_t i = 0; i < bench->count; i++)
    snprintf(bench->names[i], sizeof bench->names[i], "s%zu._domainkey.z%zu.example.com", i, i % 30);
  bench_run(bench);
  assert_all(bench, false);
  assert_int_equal(bench->fake.updates, 30);
  assert_string_equal(bench->results[31].zone, "z1.example.com");
  assert_string_equal(bench->results[31].owner, "s31._domainkey.z1.example.com");
  assert_string_equal(bench->results[31].primary_server, "192.0.2.53:53");
  bench_free(bench);
}

static void test_update__a_name_outside_its_zone_is_not_sent(void **state) {
  (void)state;
  struct bench *bench = bench_new(2);
  snprintf(bench->names[1], sizeof bench->names[1], "s._domainkey.example.org");
  bench_run(bench);
  assert_success(bench, 0);
  assert_failure(bench, 1, ERROR_NOT_FOUND, "s._domainkey.example.org does not lie in the zone example.com");
  bench_free(bench);
}

static void test_update__two_changes_of_one_name_never_share_a_message(void **state) {
  (void)state;
  struct bench *bench = bench_new(2);
  snprintf(bench->names[1], sizeof bench->names[1], "S0._domainkey.Example.com.");
  bench_run(bench);
  assert_success(bench, 0);
  assert_failure(bench, 1, ERROR_BUSY, "s0._domainkey.example.com");
  assert_int_equal(fake_count(&bench->fake, bench->names[0], DNS_TYPE_TXT), 1);
  bench_free(bench);
}

static void test_update__a_record_too_long_is_not_sent(void **state) {
  (void)state;
  static char text[RECORD_TEXT_MAX + 2];
  struct bench *bench = bench_new(2);
  memset(text, 'p', sizeof text - 1);
  bench->items[1].record = text;
  bench_run(bench);
  assert_success(bench, 0);
  assert_int_equal(bench->results[1].error.code, ERROR_LIMIT);
  bench_free(bench);
}

/* --- refusals --- */

static int refuse_name(struct fake_primary *fake, const struct transport_request *request,
                       const struct message *message) {
  (void)request;
  return is_update(message) && mentions(message, fake->decide_context) ? DNS_REFUSED : FAKE_OBEY;
}

static void test_update__a_batch_with_one_refused_record_is_halved(void **state) {
  (void)state;
  struct bench *bench = bench_new(100);
  bench->fake.decide = refuse_name;
  bench->fake.decide_context = bench->names[77];
  bench_run(bench);
  for (size_t i = 0; i < bench->count; i++)
    if (i != 77) assert_success(bench, i);
  assert_failure(bench, 77, ERROR_REFUSED, "wildcard *._domainkey.example.com. TXT;");
  assert_true(bench->fake.updates <= 16);
  assert_int_equal(bench->fake.record_count, 99);
  bench_free(bench);
}

static size_t updates_in_flight(const struct fake_primary *fake) {
  const struct transport_exchange *exchange;
  size_t count = 0;
  LIST_FOREACH(exchange, &fake->exchanges, next) count += ((exchange->octets[2] >> 3) & 0xf) == 5;
  return count;
}

/* Knot commits what is queued for a zone together: a bad update makes the others fail. Once that happened, they must come one after the other. */
static int joint_commit(struct fake_primary *fake, const struct transport_request *request,
                        const struct message *message) {
  (void)request;
  if (!is_update(message)) return FAKE_OBEY;
  size_t together = updates_in_flight(fake);
  if (message->record_count < 3 * PUBLISH_RECORDS_MAX) assert_int_equal(together, 1);
  if (mentions(message, fake->decide_context)) return DNS_REFUSED;
  return together > 1 ? DNS_SERVFAIL : FAKE_OBEY;
}

static void test_update__servfail_of_a_joint_commit_is_retried(void **state) {
  (void)state;
  struct bench *bench = bench_new(400);
  bench->fake.decide = joint_commit;
  bench->fake.decide_context = bench->names[123];
  bench_run(bench);
  for (size_t i = 0; i < bench->count; i++)
    if (i != 123) assert_success(bench, i);
  assert_failure(bench, 123, ERROR_REFUSED, "REFUSED");
  bench_free(bench);
}

static int always(struct fake_primary *fake, const struct transport_request *request, const struct message *message) {
  (void)request;
  return is_update(message) ? *(int *)fake->decide_context : FAKE_OBEY;
}

static void test_update__every_rcode_ends_every_record(void **state) {
  (void)state;
  for (int rcode = DNS_FORMERR; rcode <= 12; rcode++) {
    struct bench *bench = bench_new(5);
    bench->fake.decide = always;
    bench->fake.decide_context = &rcode;
    bench_run(bench);
    bool prerequisite = rcode == DNS_NXDOMAIN || rcode == DNS_YXDOMAIN || rcode == DNS_YXRRSET || rcode == DNS_NXRRSET;
    for (size_t i = 0; i < bench->count; i++)
      assert_failure(bench, i, prerequisite ? ERROR_CONFLICT : ERROR_REFUSED,
                     rcode <= 10 ? message_rcode_name((unsigned)rcode) : "RCODE");
    assert_int_equal(bench->fake.record_count, 0);
    assert_true(bench->took < DEADLINE_MS / 2);
    bench_free(bench);
  }
}

static int always_query(struct fake_primary *fake, const struct transport_request *request,
                        const struct message *message) {
  (void)request;
  return is_update(message) ? FAKE_OBEY : *(int *)fake->decide_context;
}

static void test_update__a_server_that_refuses_queries_gets_no_update(void **state) {
  (void)state;
  static const int rcodes[] = {DNS_FORMERR, DNS_SERVFAIL, DNS_NOTIMP, DNS_REFUSED, DNS_NOTAUTH, 13};
  for (size_t i = 0; i < ARRAY_SIZE(rcodes); i++) {
    int rcode = rcodes[i];
    struct bench *bench = bench_new(3);
    bench->fake.decide = always_query;
    bench->fake.decide_context = &rcode;
    bench_run(bench);
    for (size_t j = 0; j < bench->count; j++)
      assert_failure(bench, j, ERROR_REFUSED, rcode <= 10 ? message_rcode_name((unsigned)rcode) : "RCODE 13");
    assert_int_equal(bench->fake.updates, 0);
    bench_free(bench);
  }
}

static int refuse_middle_zone(struct fake_primary *fake, const struct transport_request *request,
                              const struct message *message) {
  (void)fake, (void)request;
  return text_ends(message->question_name, "z1.example.com") ? DNS_NOTAUTH : FAKE_OBEY;
}

static void test_update__a_zone_that_is_not_served_does_not_hold_back_others(void **state) {
  (void)state;
  struct bench *bench = bench_new(3 * UPDATE_WINDOW);
  bench->block = UPDATE_WINDOW;
  bench->fake.latency = 0;
  bench->fake.decide = refuse_middle_zone;
  for (size_t i = 0; i < bench->count; i++)
    snprintf(bench->names[i], sizeof bench->names[i], "s%zu._domainkey.z%zu.example.com", i, i / UPDATE_WINDOW);
  bench_run(bench);
  for (size_t i = 0; i < bench->count; i++) {
    if (i / UPDATE_WINDOW == 1)
      assert_failure(bench, i, ERROR_REFUSED, "NOTAUTH");
    else
      assert_success(bench, i);
  }
  assert_true(bench->took < UPDATE_WINDOW); /* the window is as wide as before: nothing went one by one */
  bench_free(bench);
}

static void test_update__messages_that_only_look_like_the_answer_are_ignored(void **state) {
  (void)state;
  struct bench *bench = bench_new(20);
  bench->fake.strays = true;
  fake_add(&bench->fake, bench->names[4], DNS_TYPE_TXT, "foreign");
  bench_run(bench);
  for (size_t i = 0; i < bench->count; i++)
    if (i != 4) assert_success(bench, i);
  assert_failure(bench, 4, ERROR_CONFLICT, "foreign");
  bench_free(bench);
}

static void test_update__an_answer_without_authority_does_not_count(void **state) {
  (void)state;
  struct bench *bench = bench_new(3);
  bench->fake.without_authority = true;
  bench_run(bench);
  assert_failure(bench, 1, ERROR_REFUSED, "without authority");
  assert_int_equal(bench->fake.updates, 0);
  bench_free(bench);
}

static int servfail_twice(struct fake_primary *fake, const struct transport_request *request,
                          const struct message *message) {
  unsigned *left = fake->decide_context;
  (void)request;
  if (!is_update(message) || *left == 0) return FAKE_OBEY;
  --*left;
  return DNS_SERVFAIL;
}

static void test_update__servfail_that_passes_is_a_success(void **state) {
  (void)state;
  unsigned left = 2;
  struct bench *bench = bench_new(1);
  bench->fake.decide = servfail_twice;
  bench->fake.decide_context = &left;
  bench_run(bench);
  assert_all(bench, false);
  assert_int_equal(bench->fake.updates, 3);
  assert_true(bench->took >= UPDATE_PAUSE_MS);
  bench_free(bench);
}

/* --- what stands there --- */

static void test_update__foreign_records_are_told_and_kept(void **state) {
  (void)state;
  struct bench *bench = bench_new(6);
  fake_add(&bench->fake, bench->names[0], DNS_TYPE_TXT, "v=DKIM1; p=SomeoneElse");
  fake_add(&bench->fake, bench->names[1], DNS_TYPE_CNAME, "dkim.provider.example");
  fake_add(&bench->fake, bench->names[2], DNS_TYPE_TXT, bench->texts[2]);
  fake_add(&bench->fake, bench->names[2], DNS_TYPE_TXT, "another");
  bench->items[3] = (struct publish_item){
      .change = PUBLISH_DELETE, .name = bench->names[3], .record_before = bench->texts[3]}; /* gone already */
  fake_add(&bench->fake, bench->names[4], DNS_TYPE_TXT, "not ours");
  bench->items[4] = (struct publish_item){
      .change = PUBLISH_DELETE, .name = bench->names[4], .record_before = bench->texts[4]}; /* ours is gone */
  bench->items[5] = (struct publish_item){
      .change = PUBLISH_REPLACE, .name = bench->names[5], .record = "new", .record_before = bench->texts[5]};
  bench_run(bench);
  assert_failure(bench, 0, ERROR_CONFLICT,
                 "another TXT record stands at s0._domainkey.example.com: \"v=DKIM1; p=SomeoneElse\"");
  assert_failure(bench, 1, ERROR_CONFLICT, "a CNAME to dkim.provider.example stands at s1._domainkey.example.com");
  assert_failure(bench, 2, ERROR_CONFLICT, "2 TXT records stand at s2._domainkey.example.com, ours and others");
  assert_success(bench, 3);
  assert_true(bench->results[3].already);
  assert_success(bench, 4);
  assert_failure(bench, 5, ERROR_CONFLICT, "is gone");
  assert_int_equal(bench->fake.updates, 0);
  assert_int_equal(bench->fake.record_count, 5);
  bench_free(bench);
}

static void test_update__a_wildcard_is_no_obstacle(void **state) {
  (void)state;
  static const uint16_t types[] = {DNS_TYPE_TXT, DNS_TYPE_CNAME};
  for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
    struct bench *bench = bench_new(3);
    fake_add(&bench->fake, "*._domainkey.example.com", types[i], "everybody.example");
    bench_run(bench);
    assert_all(bench, false);
    assert_true(fake_find(&bench->fake, bench->names[1], DNS_TYPE_TXT, bench->texts[1]) != NULL);
    bench_free(bench);
  }
}

static void test_update__foreign_beside_a_wildcard_is_still_foreign(void **state) {
  (void)state;
  struct bench *bench = bench_new(1);
  fake_add(&bench->fake, "*._domainkey.example.com", DNS_TYPE_TXT, "everybody");
  fake_add(&bench->fake, bench->names[0], DNS_TYPE_TXT, "someone");
  bench_run(bench);
  assert_failure(bench, 0, ERROR_CONFLICT, "\"someone\"");
  assert_int_equal(bench->fake.updates, 0);
  bench_free(bench);
}

struct intruder {
  const char *name;
  uint16_t type;
};

/* Somebody writes between our look and our update. */
static int intrude(struct fake_primary *fake, const struct transport_request *request, const struct message *message) {
  const struct intruder *intruder = fake->decide_context;
  (void)request;
  if (is_update(message)) fake_add(fake, intruder->name, intruder->type, "intruder.example");
  return FAKE_OBEY;
}

static void test_update__prerequisites_guard_what_comes_in_between(void **state) {
  (void)state;
  static const uint16_t types[] = {DNS_TYPE_TXT, DNS_TYPE_CNAME};
  for (size_t change = PUBLISH_ADD; change <= PUBLISH_DELETE; change++) {
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
      struct bench *bench = bench_new(1);
      struct intruder intruder = {.name = bench->names[0], .type = types[i]};
      if (change != PUBLISH_ADD && types[i] == DNS_TYPE_CNAME) intruder.type = DNS_TYPE_TXT;
      bench->items[0] =
          (struct publish_item){.change = (enum publish_change)change, .name = bench->names[0], .ttl = 60};
      if (change != PUBLISH_DELETE) bench->items[0].record = bench->texts[0];
      if (change != PUBLISH_ADD) bench->items[0].record_before = "before";
      if (change != PUBLISH_ADD) fake_add(&bench->fake, bench->names[0], DNS_TYPE_TXT, "before");
      bench->fake.decide = intrude;
      bench->fake.decide_context = &intruder;
      bench_run(bench);
      assert_int_equal(bench->results[0].error.code, ERROR_CONFLICT);
      assert_null(strstr(bench->results[0].error.message, "said NOERROR"));
      assert_null(fake_find(&bench->fake, bench->names[0], DNS_TYPE_TXT, bench->texts[0]));
      assert_int_equal(fake_count(&bench->fake, bench->names[0], DNS_TYPE_TXT), intruder.type == DNS_TYPE_CNAME ? 0
                                                                                : change == PUBLISH_ADD         ? 1
                                                                                                                : 2);
      bench_free(bench);
    }
  }
}

/* --- NOERROR is not applied --- */

static int ignore_updates(struct fake_primary *fake, const struct transport_request *request,
                          const struct message *message) {
  (void)fake, (void)request;
  return is_update(message) ? FAKE_IGNORE : FAKE_OBEY;
}

static void test_update__noerror_without_effect_is_found_out(void **state) {
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

static void test_update__noerror_ignored_because_of_an_alias_is_a_conflict(void **state) {
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

static void test_update__a_record_that_shows_late_is_waited_for(void **state) {
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

static void test_update__a_lost_reply_is_looked_up(void **state) {
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

static void test_update__a_lost_request_is_sent_again(void **state) {
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

static void test_update__a_dead_server_does_not_hold_back_another(void **state) {
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

static void test_update__exchanges_that_cannot_start_end_with_their_reason(void **state) {
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

static void test_update__what_the_deadline_ends_says_how_far_it_was(void **state) {
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

static void test_update__a_run_can_end_and_be_freed_at_any_moment(void **state) {
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

static void test_update__reports_are_true_whatever_fails(void **state) {
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

static void test_update__unsigned_replies_to_a_key_never_count(void **state) {
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

/* --- the table --- */

static void explain(const struct update_answer *answer, const struct tsig_key *key, const char *name, const char *zone,
                    struct update_verdict *ret_verdict) {
  const struct update_place place = {
      .server = "192.0.2.53:53", .zone = zone, .name = name, .key = key, .now = FAKE_START_WALL};
  memset(ret_verdict, 0, sizeof *ret_verdict);
  update_error_explain(answer, &place, ret_verdict);
  assert_true(ret_verdict->error.code < 0);
  assert_true(text_starts(ret_verdict->error.message, "192.0.2.53:53: "));
  assert_true(ret_verdict->error.remedy[0]);
  assert_null(strpbrk(ret_verdict->error.message, "{}"));
  assert_in_range(ret_verdict->reaction, UPDATE_FINAL, UPDATE_RETRY);
  assert_in_range(ret_verdict->scope, UPDATE_OF_RECORD, UPDATE_OF_SERVER);
}

static void test_update__every_refusal_has_a_message_of_its_own(void **state) {
  (void)state;
  enum { RCODES = 12, MESSAGES_MAX = 64 };
  struct tsig_key key = {.name = "dkimroll", .algorithm = TSIG_HMAC_SHA256};
  struct update_answer answers[MESSAGES_MAX] = {0};
  size_t count = 0;
  for (unsigned rcode = 1; rcode < RCODES; rcode++)
    answers[count++] =
        (struct update_answer){.update = true, .rcode = rcode, .tsig = {.present = true, .verified = true}};
  for (unsigned rcode = 0; rcode < RCODES; rcode++)
    answers[count++] = (struct update_answer){.rcode = rcode, .tsig = {.present = true, .verified = true}};
  for (unsigned error = TSIG_BADSIG; error <= TSIG_BADTRUNC + 1; error++)
    answers[count++] =
        (struct update_answer){.update = true, .rcode = DNS_NOTAUTH, .tsig = {.present = true, .error = error}};
  answers[count++] = (struct update_answer){.rcode = DNS_NOERROR, .tsig = {.present = true, .verdict = TSIG_BADSIG}};
  answers[count++] = (struct update_answer){.rcode = DNS_NOERROR, .tsig = {.present = true, .verdict = TSIG_BADKEY}};
  answers[count++] = (struct update_answer){.rcode = DNS_NOERROR,
                                            .tsig = {.present = true, .verdict = TSIG_BADTIME, .time_signed = 1}};
  for (unsigned rcode = 0; rcode < RCODES; rcode++) answers[count++] = (struct update_answer){.rcode = rcode};
  assert_true(count <= MESSAGES_MAX);
  CLEANUP_FREE struct update_verdict *verdicts = calloc(count, sizeof *verdicts);
  for (size_t i = 0; i < count; i++) {
    explain(&answers[i], &key, "s1._domainkey.example.com", "example.com", &verdicts[i]);
    for (size_t j = 0; j < i; j++) {
      if (text_equal(verdicts[i].error.message, verdicts[j].error.message))
        fail_msg("%zu and %zu say the same: %s", i, j, verdicts[i].error.message);
    }
  }
}

static void test_update__badtime_tells_both_clocks(void **state) {
  (void)state;
  struct tsig_key key = {.name = "dkimroll", .algorithm = TSIG_HMAC_SHA256};
  struct update_answer answer = {.update = true,
                                 .rcode = DNS_NOTAUTH,
                                 .tsig = {.present = true,
                                          .verified = true,
                                          .error = TSIG_BADTIME,
                                          .time_signed = FAKE_START_WALL,
                                          .server_time = FAKE_START_WALL - 5400}};
  struct update_verdict verdict;
  explain(&answer, &key, "s1._domainkey.example.com", "example.com", &verdict);
  assert_non_null(strstr(verdict.error.message,
                         "the server has 2026-01-23 22:30:00 UTC, this host 2026-01-24 00:00:00 UTC, 1h30m ahead"));
  assert_true(verdict.error.retryable);
  assert_int_equal(verdict.scope, UPDATE_OF_SERVER);
  answer.tsig.server_time = 0; /* a server that does not tell */
  explain(&answer, &key, "s1._domainkey.example.com", "example.com", &verdict);
  assert_null(strstr(verdict.error.message, "this host"));
}

static void test_update__the_remedy_has_the_lines_to_add(void **state) {
  (void)state;
  static const struct {
    const char *name, *zone, *bind, *knot;
  } cases[] = {
      {"s1._domainkey.example.com", "example.com", "grant dkimroll. wildcard *._domainkey.example.com. TXT;",
       "update-owner: name, update-owner-match: sub, update-owner-name: [_domainkey]"},
      {"s1._domainkey.mail.example.com", "example.com", "grant dkimroll. wildcard *._domainkey.mail.example.com. TXT;",
       "update-owner-name: [_domainkey.mail]"},
      {"s1._domainkey.example.com", "_domainkey.example.com", "grant dkimroll. wildcard *._domainkey.example.com. TXT;",
       "update-owner: zone, update-owner-match: sub"},
      {"s1.customer.dkim.example", "dkim.example", "grant dkimroll. wildcard *.customer.dkim.example. TXT;",
       "update-owner-name: [customer]"},
  };
  struct tsig_key key = {.name = "dkimroll", .algorithm = TSIG_HMAC_SHA256};
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    struct update_verdict verdict;
    const struct update_answer answer = {
        .update = true, .rcode = DNS_REFUSED, .tsig = {.present = true, .verified = true}};
    explain(&answer, &key, cases[i].name, cases[i].zone, &verdict);
    assert_non_null(strstr(verdict.error.remedy, cases[i].bind));
    assert_non_null(strstr(verdict.error.remedy, cases[i].knot));
  }
}

static void test_update__without_a_key_the_remedy_is_to_have_one(void **state) {
  (void)state;
  const struct update_answer answer = {.update = true, .rcode = DNS_REFUSED};
  struct update_verdict verdict;
  explain(&answer, NULL, "s1._domainkey.example.com", "example.com", &verdict);
  assert_non_null(strstr(verdict.error.remedy, "no tsig-file"));
  assert_non_null(strstr(verdict.error.remedy, "grant dkimroll. wildcard"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_update__many_records_go_in_few_messages),
      cmocka_unit_test(test_update__messages_stay_below_their_size),
      cmocka_unit_test(test_update__each_zone_has_its_messages),
      cmocka_unit_test(test_update__a_name_outside_its_zone_is_not_sent),
      cmocka_unit_test(test_update__two_changes_of_one_name_never_share_a_message),
      cmocka_unit_test(test_update__a_record_too_long_is_not_sent),
      cmocka_unit_test(test_update__a_batch_with_one_refused_record_is_halved),
      cmocka_unit_test(test_update__servfail_of_a_joint_commit_is_retried),
      cmocka_unit_test(test_update__every_rcode_ends_every_record),
      cmocka_unit_test(test_update__a_server_that_refuses_queries_gets_no_update),
      cmocka_unit_test(test_update__a_zone_that_is_not_served_does_not_hold_back_others),
      cmocka_unit_test(test_update__messages_that_only_look_like_the_answer_are_ignored),
      cmocka_unit_test(test_update__an_answer_without_authority_does_not_count),
      cmocka_unit_test(test_update__servfail_that_passes_is_a_success),
      cmocka_unit_test(test_update__foreign_records_are_told_and_kept),
      cmocka_unit_test(test_update__a_wildcard_is_no_obstacle),
      cmocka_unit_test(test_update__foreign_beside_a_wildcard_is_still_foreign),
      cmocka_unit_test(test_update__prerequisites_guard_what_comes_in_between),
      cmocka_unit_test(test_update__noerror_without_effect_is_found_out),
      cmocka_unit_test(test_update__noerror_ignored_because_of_an_alias_is_a_conflict),
      cmocka_unit_test(test_update__a_record_that_shows_late_is_waited_for),
      cmocka_unit_test(test_update__a_lost_reply_is_looked_up),
      cmocka_unit_test(test_update__a_lost_request_is_sent_again),
      cmocka_unit_test(test_update__a_dead_server_does_not_hold_back_another),
      cmocka_unit_test(test_update__exchanges_that_cannot_start_end_with_their_reason),
      cmocka_unit_test(test_update__what_the_deadline_ends_says_how_far_it_was),
      cmocka_unit_test(test_update__a_run_can_end_and_be_freed_at_any_moment),
      cmocka_unit_test(test_update__reports_are_true_whatever_fails),
      cmocka_unit_test(test_update__unsigned_replies_to_a_key_never_count),
      cmocka_unit_test(test_update__every_refusal_has_a_message_of_its_own),
      cmocka_unit_test(test_update__badtime_tells_both_clocks),
      cmocka_unit_test(test_update__the_remedy_has_the_lines_to_add),
      cmocka_unit_test(test_update__without_a_key_the_remedy_is_to_have_one),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
