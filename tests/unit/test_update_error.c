/* What refusals mean: the table of rcodes and TSIG errors. */
#include "update_bench.h"

#include "dkimroll/update_error.h"

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

static void test_update_error__every_refusal_has_a_message_of_its_own(void **state) {
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

/* What is overlooked most: the zone was frozen to be edited, the acl is for another address, the server is no primary. */
static void test_update_error__refusals_name_what_is_overlooked(void **state) {
  (void)state;
  struct tsig_key key = {.name = "dkimroll", .algorithm = TSIG_HMAC_SHA256};
  CLEANUP_FREE struct update_verdict *verdict = calloc(1, sizeof *verdict);
  const struct update_answer refused = {.update = true, .rcode = DNS_REFUSED, .tsig = {.present = true, .verified = true}};
  explain(&refused, &key, "s1._domainkey.example.com", "example.com", verdict);
  assert_non_null(strstr(verdict->error.message, "or frozen"));
  assert_non_null(strstr(verdict->error.remedy, "rndc thaw example.com; knotc zone-thaw example.com"));
  assert_non_null(strstr(verdict->error.remedy, "and name that acl in the zone."));
  const struct update_answer badkey = {.update = true, .rcode = DNS_NOTAUTH, .tsig = {.present = true, .error = TSIG_BADKEY}};
  explain(&badkey, &key, "s1._domainkey.example.com", "example.com", verdict);
  assert_non_null(strstr(verdict->error.remedy, "It must be the primary"));
  assert_non_null(strstr(verdict->error.remedy, "let an address: in it take in this host"));
  assert_non_null(strstr(verdict->error.remedy, "update-policy { grant dkimroll. wildcard *._domainkey.example.com. TXT; };"));
}

static void test_update_error__badtime_tells_both_clocks(void **state) {
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

static void test_update_error__the_remedy_has_the_lines_to_add(void **state) {
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

static void test_update_error__without_a_key_the_remedy_is_to_have_one(void **state) {
  (void)state;
  const struct update_answer answer = {.update = true, .rcode = DNS_REFUSED};
  struct update_verdict verdict;
  explain(&answer, NULL, "s1._domainkey.example.com", "example.com", &verdict);
  assert_non_null(strstr(verdict.error.remedy, "no tsig-file"));
  assert_non_null(strstr(verdict.error.remedy, "grant dkimroll. wildcard"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_update_error__every_refusal_has_a_message_of_its_own),
      cmocka_unit_test(test_update_error__refusals_name_what_is_overlooked),
      cmocka_unit_test(test_update_error__badtime_tells_both_clocks),
      cmocka_unit_test(test_update_error__the_remedy_has_the_lines_to_add),
      cmocka_unit_test(test_update_error__without_a_key_the_remedy_is_to_have_one),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
