/* Update runs: how records go into messages, what refusals mean for each, what stands at a name before. */
#include "update_bench.h"

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
  fake_add(&bench->fake, bench->names[5], DNS_TYPE_TXT, "somebody's");
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
  assert_failure(bench, 5, ERROR_CONFLICT, "another TXT record stands at s5._domainkey.example.com: \"somebody's\"");
  assert_int_equal(bench->fake.updates, 0);
  assert_int_equal(bench->fake.record_count, 6);
  bench_free(bench);
}

static void test_update__what_somebody_removed_is_replaced_all_the_same(void **state) {
  (void)state;
  for (int wildcard = 0; wildcard < 2; wildcard++) {
    struct bench *bench = bench_new(1);
    if (wildcard) fake_add(&bench->fake, "*._domainkey.example.com", DNS_TYPE_TXT, "everybody");
    bench->items[0] = (struct publish_item){
        .change = PUBLISH_REPLACE, .name = bench->names[0], .record = "new", .record_before = bench->texts[0]};
    bench_run(bench);
    assert_success(bench, 0);
    assert_false(bench->results[0].already);
    assert_non_null(fake_find(&bench->fake, bench->names[0], DNS_TYPE_TXT, "new"));
    assert_int_equal(bench->fake.record_count, 1 + (size_t)wildcard);
    bench_free(bench);
  }
}

static void test_update__whichever_of_two_contents_stands_there_is_deleted(void **state) {
  (void)state;
  static const char *const contents[] = {"revoked", "alive"};
  for (size_t i = 0; i < ARRAY_SIZE(contents); i++) {
    struct bench *bench = bench_new(1);
    fake_add(&bench->fake, bench->names[0], DNS_TYPE_TXT, contents[i]);
    bench->items[0] = (struct publish_item){
        .change = PUBLISH_DELETE, .name = bench->names[0], .record_before = "revoked", .record_also = "alive"};
    bench_run(bench);
    assert_success(bench, 0);
    assert_false(bench->results[0].already);
    assert_int_equal(bench->fake.record_count, 0);
    bench_free(bench);
  }
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
      cmocka_unit_test(test_update__what_somebody_removed_is_replaced_all_the_same),
      cmocka_unit_test(test_update__whichever_of_two_contents_stands_there_is_deleted),
      cmocka_unit_test(test_update__a_wildcard_is_no_obstacle),
      cmocka_unit_test(test_update__foreign_beside_a_wildcard_is_still_foreign),
      cmocka_unit_test(test_update__prerequisites_guard_what_comes_in_between),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
