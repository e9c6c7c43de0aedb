/* The proof against filters that sign, refuse, hang and lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/milter.h"
#include "dkimroll/milter_protocol.h"
#include "dkimroll/prove.h"
#include "dkimroll/text.h"
#include "dkim_signer.h"
#include "fake_filter.h"
#include "workplace.h"

enum { PLENTY_MS = 20000, SHORT_MS = 300 };

struct stage {
  struct fake_filter filter;
  struct loop *loop;
  struct connector *connector;
  struct prove *prove;
  struct error connection;
  struct prove_result *results;
  size_t count;
  bool done;
};

static void stage_open(struct stage *stage, const struct fake_script *script) {
  *stage = (struct stage){0};
  fake_filter_start(&stage->filter, script);
  struct error error = {0};
  assert_int_equal(loop_sd_event_new(&stage->loop, &error), 0);
  assert_int_equal(connector_sockets_new(stage->loop, &stage->connector, &error), 0);
}

static void stage_close(struct stage *stage) {
  connector_destroy(stage->connector);
  loop_destroy(stage->loop);
  fake_filter_stop(&stage->filter);
  free(stage->results);
}

static void stage_done(void *context, const struct error *connection, const struct prove_result *results,
                       size_t count) {
  struct stage *stage = context;
  stage->prove = NULL;
  stage->done = true;
  stage->connection = *connection;
  stage->count = count;
  stage->results = calloc(count + 1, sizeof(*results));
  memcpy(stage->results, results, count * sizeof(*results));
  loop_stop(stage->loop);
}

/* Proves messages, each in the group it names, with the given times in milliseconds from now. */
static void stage_prove(struct stage *stage, const struct prove_message *messages, size_t count, size_t groups,
                        const int64_t times[3]) {
  int64_t now = loop_boottime(stage->loop);
  struct prove_request request = {.milter = stage->filter.address,
                                  .messages = messages,
                                  .count = count,
                                  .group_count = groups,
                                  .deadline = now + times[0],
                                  .patience = now + times[1],
                                  .settle = now + times[2]};
  struct error error = {0};
  assert_int_equal(prove_start(stage->connector, &entropy_system, &request, stage_done, stage, &stage->prove, &error),
                   0);
  assert_false(stage->done);
  assert_int_equal(loop_run(stage->loop, &error), 0);
  assert_true(stage->done);
}

/* Its record, which never changes, is made when the tests begin. */
static struct prove_message ordinary = {
    .address = "user@example.com", .domain = "example.com", .selector = "new", .before = "old"};
static const int64_t once[3] = {PLENTY_MS, 0, 0};

/* One message, one round. */
static void assert_verdict(const struct fake_script *script, enum prove_verdict verdict, const char *text) {
  struct stage stage;
  stage_open(&stage, script);
  int64_t short_times[3] = {script->hang ? SHORT_MS : PLENTY_MS, 0, 0};
  stage_prove(&stage, &ordinary, 1, 1, short_times);
  if (stage.results[0].verdict != verdict || !strstr(stage.results[0].error.message, text))
    fail_msg("verdict %d: %s", (int)stage.results[0].verdict, stage.results[0].error.message);
  if (verdict != PROVE_SIGNED) assert_true(stage.results[0].error.remedy[0] != '\0');
  if (verdict == PROVE_SIGNED) assert_int_equal(stage.results[0].error.code, 0);
  stage_close(&stage);
}

static void test_prove__signed_by_the_expected_key(void **state) {
  (void)state;
  assert_verdict(&(struct fake_script){.selectors = {"new"}}, PROVE_SIGNED, "");
  assert_verdict(&(struct fake_script){.selectors = {"NEW"}}, PROVE_SIGNED, "");
  assert_verdict(&(struct fake_script){.selectors = {"new"}, .domain = "EXAMPLE.com"}, PROVE_SIGNED, "");
  assert_verdict(&(struct fake_script){.selectors = {"new"}, .add_header = true}, PROVE_SIGNED, "");
  assert_verdict(&(struct fake_script){.selectors = {"new"}, .progress = 20}, PROVE_SIGNED, "");
}

static void test_prove__every_negotiation_of_steps_works(void **state) {
  (void)state;
  static const uint32_t steps[] = {
      MILTER_LEADING_SPACE,
      MILTER_NO_HELO | MILTER_NO_DATA | MILTER_NO_UNKNOWN | MILTER_SKIP | MILTER_LEADING_SPACE, /* OpenDKIM's */
      MILTER_NO_CONNECT | MILTER_NO_HELO,
      MILTER_NR_CONNECT | MILTER_NR_HELO,
      MILTER_NR_HEADERS | MILTER_NR_BODY | MILTER_NR_END_OF_HEADERS,
      MILTER_NR_CONNECT | MILTER_NR_HELO | MILTER_NR_MAIL | MILTER_NR_RCPT | MILTER_NR_DATA | MILTER_NR_HEADERS |
          MILTER_NR_END_OF_HEADERS | MILTER_NR_BODY,
      MILTER_NO_CONNECT | MILTER_NO_HELO | MILTER_NO_RCPT | MILTER_NO_DATA | MILTER_NO_END_OF_HEADERS,
  };
  /* One that does not want to see the message signs something else. */
  assert_verdict(&(struct fake_script){.selectors = {"new"}, .steps = MILTER_NO_BODY}, PROVE_BAD_SIGNATURE, "body");
  assert_verdict(&(struct fake_script){.selectors = {"new"}, .steps = MILTER_NO_HEADERS}, PROVE_BAD_SIGNATURE, "h=");

  for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
    assert_verdict(&(struct fake_script){.selectors = {"new"}, .steps = steps[i]}, PROVE_SIGNED, "");
}

static void test_prove__other_signatures_and_none_are_told_apart(void **state) {
  (void)state;
  assert_verdict(&(struct fake_script){.selectors = {"old"}}, PROVE_BEFORE, "s=old, the key before");
  assert_verdict(&(struct fake_script){.selectors = {"other"}}, PROVE_OTHER_SELECTOR, "s=other");
  assert_verdict(&(struct fake_script){.selectors = {"new"}, .domain = "example.net"}, PROVE_OTHER_DOMAIN,
                 "d=example.net");
  assert_verdict(&(struct fake_script){0}, PROVE_UNSIGNED, "unsigned");
}

static void test_prove__signature_that_no_receiver_would_accept_is_no_proof(void **state) {
  (void)state;
  assert_verdict(&(struct fake_script){.selectors = {"new"}, .other_key = true}, PROVE_BAD_SIGNATURE,
                 "does not verify");
  assert_verdict(&(struct fake_script){.selectors = {"new"}, .other_body = true}, PROVE_BAD_SIGNATURE, "body hash");
  const char *kept = ordinary.record;
  CLEANUP_FREE char *rsa = dkim_signer_record(dkim_signer_key(false, 0));
  static const char *const records[] = {"v=DKIM1; k=ed25519; p=", "v=spf1 -all"};
  for (size_t i = 0; i < ARRAY_SIZE(records); i++) {
    ordinary.record = records[i];
    assert_verdict(&(struct fake_script){.selectors = {"new"}}, PROVE_BAD_SIGNATURE, "record");
  }
  ordinary.record = rsa;
  assert_verdict(&(struct fake_script){.selectors = {"new"}}, PROVE_BAD_SIGNATURE, "does not fit the key record");
  ordinary.record = kept;
}

static void test_prove__signature_without_a_record_is_never_taken_for_good(void **state) {
  (void)state;
  struct prove_message message = ordinary;
  message.record = NULL;
  struct stage stage;
  stage_open(&stage, &(struct fake_script){.selectors = {"new"}});
  stage_prove(&stage, &message, 1, 1, once);
  assert_int_equal(stage.results[0].verdict, PROVE_NO_ANSWER);
  assert_int_equal(stage.results[0].error.code, ERROR_INTERNAL);
  stage_close(&stage);
}

static void test_prove__more_signatures_than_expected_are_named(void **state) {
  (void)state;
  assert_verdict(&(struct fake_script){.selectors = {"new"}, .more_signatures = "old"}, PROVE_BEFORE,
                 "still with s=old");
  assert_verdict(&(struct fake_script){.selectors = {"old"}, .more_signatures = "new"}, PROVE_BEFORE,
                 "still with s=old");
  assert_verdict(&(struct fake_script){.selectors = {"new"}, .more_signatures = "new"}, PROVE_TOO_MANY, "2 times");
  assert_verdict(&(struct fake_script){.selectors = {"new"}, .more_signatures = "farm"}, PROVE_TOO_MANY, "s=farm");
  ordinary.others = true;
  assert_verdict(&(struct fake_script){.selectors = {"new"}, .more_signatures = "farm"}, PROVE_SIGNED, "");
  assert_verdict(&(struct fake_script){.selectors = {"farm"}, .more_signatures = "new"}, PROVE_SIGNED, "");
  assert_verdict(&(struct fake_script){.selectors = {"new"}, .more_signatures = "old"}, PROVE_BEFORE,
                 "still with s=old");
  assert_verdict(&(struct fake_script){.selectors = {"new"}, .more_signatures = "new"}, PROVE_TOO_MANY, "2 times");
  ordinary.others = false;
}

static void test_prove__refusals_are_told_with_their_stage_and_text(void **state) {
  (void)state;
  static const struct {
    char command;
    const char *stage;
  } stages[] = {{'M', "MAIL"},           {'R', "RCPT"}, {'T', "DATA"},          {'L', "header"},
                {'N', "end of headers"}, {'B', "body"}, {'E', "end of message"}};
  for (size_t i = 0; i < ARRAY_SIZE(stages); i++) {
    char command = stages[i].command;
    const char *stage = stages[i].stage;
    assert_verdict(&(struct fake_script){.at = command, .reply = 't'}, PROVE_TEMPFAILED, stage);
    assert_verdict(&(struct fake_script){.at = command, .reply = 'r'}, PROVE_REJECTED, stage);
    assert_verdict(&(struct fake_script){.at = command, .reply = 'd'}, PROVE_DISCARDED, stage);
    assert_verdict(&(struct fake_script){.at = command, .reply = 'y', .text = "451 4.7.5 \x1b[2Jtry later"},
                   PROVE_TEMPFAILED, "451 4.7.5 \\033[2Jtry later");
    assert_verdict(&(struct fake_script){.at = command, .reply = 'y', .text = "550 no"}, PROVE_REJECTED, "550 no");
    assert_verdict(&(struct fake_script){.at = command, .reply = '4'}, PROVE_TEMPFAILED, stage);
    if (command != 'E') assert_verdict(&(struct fake_script){.at = command, .reply = 'a'}, PROVE_UNSIGNED, stage);
  }
}

static void test_prove__connections_that_fail_are_explained(void **state) {
  (void)state;
  static const char commands[] = "OCMLE";
  for (const char *command = commands; *command; command++) {
    assert_verdict(&(struct fake_script){.at = *command, .quit = true}, PROVE_NO_ANSWER, "closed the connection");
    assert_verdict(&(struct fake_script){.at = *command, .hang = true}, PROVE_NO_ANSWER, "no answer in time");
    assert_verdict(&(struct fake_script){.at = *command, .garbage = true}, PROVE_NO_ANSWER, "impossible length");
  }
  assert_verdict(&(struct fake_script){.bad_options = true}, PROVE_NO_ANSWER, "not offered");
  assert_verdict(&(struct fake_script){.at = 'M', .reply = 'Z'}, PROVE_NO_ANSWER, "unknown reply");
  assert_verdict(&(struct fake_script){.at = 'M', .reply = 'h', .text = "X"}, PROVE_NO_ANSWER, "outside");
  assert_verdict(&(struct fake_script){.at = 'E', .reply = 'h', .text = "X"}, PROVE_NO_ANSWER, "malformed header");
  assert_verdict(&(struct fake_script){.at = 'E', .reply = 'i', .text = "X"}, PROVE_NO_ANSWER, "malformed header");
  assert_verdict(&(struct fake_script){.at = 'C', .reply = 'a'}, PROVE_NO_ANSWER, "without looking");
  assert_verdict(&(struct fake_script){.at = 'C', .reply = 'y', .text = "450 go away"}, PROVE_NO_ANSWER, "450 go away");
  assert_verdict(&(struct fake_script){.progress = MILTER_REPLIES_MAX + 1}, PROVE_NO_ANSWER, "without end");
}

static void test_prove__signatures_without_end_are_no_answer(void **state) {
  (void)state;
  assert_verdict(
      &(struct fake_script){.selectors = {"new"}, .more_signatures = "x", .more_times = MILTER_SIGNATURES_MAX},
      PROVE_NO_ANSWER, "too many signatures");
  assert_verdict(
      &(struct fake_script){.selectors = {"new"}, .more_signatures = "x", .more_times = MILTER_SIGNATURES_MAX - 1},
      PROVE_TOO_MANY, "also with d=example.com s=x");
}

static void test_prove__skip_at_the_end_of_the_message_is_no_answer(void **state) {
  (void)state;
  assert_verdict(&(struct fake_script){.at = 'E', .reply = 's'}, PROVE_NO_ANSWER, "skips the end of the message");
  assert_verdict(&(struct fake_script){.at = 'B', .reply = 's', .selectors = {"new"}}, PROVE_SIGNED, "");
}

static void test_prove__tags_of_a_foreign_signature_control_no_terminal(void **state) {
  (void)state;
  assert_verdict(&(struct fake_script){.selectors = {"new"}, .domain = "e\x1b[2J.com"}, PROVE_OTHER_DOMAIN,
                 "d=e\\033[2J.com");
  assert_verdict(&(struct fake_script){.selectors = {"n\x1b[2J"}}, PROVE_OTHER_SELECTOR, "s=n\\033[2J");
}

static void test_prove__nobody_listening_is_unreachable(void **state) {
  (void)state;
  struct workplace folder;
  workplace_make(&folder, "/tmp");
  CLEANUP_FREE char *missing = text_format("unix:%s/none", folder.path);
  char inet[64];
  fake_filter_free_address(inet, sizeof(inet));
  const char *addresses[] = {missing, inet};
  for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
    struct stage stage = {0};
    struct error error = {0};
    assert_int_equal(loop_sd_event_new(&stage.loop, &error), 0);
    assert_int_equal(connector_sockets_new(stage.loop, &stage.connector, &error), 0);
    text_copy(stage.filter.address, sizeof(stage.filter.address), addresses[i]);
    stage_prove(&stage, &ordinary, 1, 1, once);
    assert_int_equal(stage.results[0].verdict, PROVE_NO_ANSWER);
    assert_int_equal(stage.results[0].error.code, ERROR_UNREACHABLE);
    assert_int_equal(stage.connection.code, ERROR_UNREACHABLE);
    free(stage.results);
    connector_destroy(stage.connector);
    loop_destroy(stage.loop);
  }
  workplace_remove(&folder);
}

static void test_prove__no_messages_only_reach_the_filter(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct fake_script){0});
  stage_prove(&stage, NULL, 0, 0, once);
  assert_int_equal(stage.connection.code, 0);
  stage_close(&stage);
}

static void test_prove__old_tables_are_waited_for_on_new_connections(void **state) {
  (void)state;
  static const int64_t patient[3] = {PLENTY_MS, PLENTY_MS, 0};
  struct stage stage;
  stage_open(&stage, &(struct fake_script){.selectors = {"old", NULL, NULL, "new"}});
  stage_prove(&stage, &ordinary, 1, 1, patient);
  assert_int_equal(stage.results[0].verdict, PROVE_SIGNED);
  stage_close(&stage);
}

static void test_prove__old_tables_that_stay_are_judged_when_patience_ends(void **state) {
  (void)state;
  static const int64_t patient[3] = {PLENTY_MS, SHORT_MS, 0};
  struct stage stage;
  stage_open(&stage, &(struct fake_script){.selectors = {"old"}});
  int64_t start = clock_boottime();
  stage_prove(&stage, &ordinary, 1, 1, patient);
  assert_int_equal(stage.results[0].verdict, PROVE_BEFORE);
  assert_true(clock_boottime() - start < PLENTY_MS / 2);
  stage_close(&stage);
}

static void test_prove__passing_failures_are_tried_again_until_they_settle(void **state) {
  (void)state;
  static const int64_t settling[3] = {PLENTY_MS, PLENTY_MS, PLENTY_MS};
  const struct fake_script scripts[] = {{.selectors = {"new"}, .at = 'E', .reply = 't', .until_connection = 2},
                                        {.selectors = {"new"}, .at = 'M', .quit = true, .until_connection = 2},
                                        {.selectors = {NULL, NULL, "new"}}};
  for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
    struct stage stage;
    stage_open(&stage, &scripts[i]);
    stage_prove(&stage, &ordinary, 1, 1, settling);
    assert_int_equal(stage.results[0].verdict, PROVE_SIGNED);
    stage_close(&stage);
  }
}

/* Senders user0@example.com ... in groups of two. */
enum { SENDERS = 40 };
static void fill_senders(struct prove_message messages[SENDERS], char addresses[SENDERS][32]) {
  for (size_t i = 0; i < SENDERS; i++) {
    snprintf(addresses[i], 32, "user%zu@example.com", i);
    messages[i] = ordinary;
    messages[i].address = addresses[i];
    messages[i].group = i / 2;
  }
}

static void test_prove__one_failure_in_a_batch_is_one_failure(void **state) {
  (void)state;
  static const int64_t settling[3] = {PLENTY_MS, PLENTY_MS, SHORT_MS};
  static const char replies[] = {'t', 'r', 'd', 'a'};
  static const char commands[] = {'M', 'R', 'L', 'B', 'E'};
  struct prove_message messages[SENDERS];
  char addresses[SENDERS][32];
  fill_senders(messages, addresses);
  for (size_t i = 0; i < ARRAY_SIZE(replies); i++) {
    struct stage stage;
    stage_open(&stage,
               &(struct fake_script){
                   .selectors = {"new"}, .at = commands[i], .reply = replies[i], .only_sender = "user8@example.com"});
    stage_prove(&stage, messages, SENDERS, SENDERS / 2, settling);
    for (size_t group = 0; group < SENDERS / 2; group++)
      assert_int_equal(stage.results[group].verdict == PROVE_SIGNED, group != 4);
    assert_non_null(strstr(stage.results[4].error.message, "user8@example.com"));
    stage_close(&stage);
  }
}

static void test_prove__connection_lost_in_a_batch_spares_what_was_proved(void **state) {
  (void)state;
  struct prove_message messages[SENDERS];
  char addresses[SENDERS][32];
  fill_senders(messages, addresses);
  struct stage stage;
  stage_open(&stage,
             &(struct fake_script){.selectors = {"new"}, .at = 'E', .quit = true, .only_sender = "user21@example.com"});
  stage_prove(&stage, messages, SENDERS, SENDERS / 2, once);
  for (size_t group = 0; group < SENDERS / 2; group++)
    assert_int_equal(stage.results[group].verdict, group < 10 ? PROVE_SIGNED : PROVE_NO_ANSWER);
  stage_close(&stage);
}

static void test_prove__batch_waits_for_old_tables_and_then_proves_all(void **state) {
  (void)state;
  static const int64_t patient[3] = {PLENTY_MS, PLENTY_MS, PLENTY_MS};
  struct prove_message messages[SENDERS];
  char addresses[SENDERS][32];
  fill_senders(messages, addresses);
  struct stage stage;
  stage_open(&stage, &(struct fake_script){.selectors = {"old", NULL, "new"}});
  stage_prove(&stage, messages, SENDERS, SENDERS / 2, patient);
  for (size_t group = 0; group < SENDERS / 2; group++) assert_int_equal(stage.results[group].verdict, PROVE_SIGNED);
  stage_close(&stage);
}

static void test_prove__sender_that_stays_with_the_old_key_does_not_hold_up_the_others(void **state) {
  (void)state;
  /* A whole round takes 400 ms: too long for what is left when patience with the first sender ends. */
  static const int64_t patient[3] = {2000, 1900, 1900};
  struct prove_message messages[SENDERS];
  char addresses[SENDERS][32];
  fill_senders(messages, addresses);
  struct stage stage;
  stage_open(&stage, &(struct fake_script){.selectors = {"new"}, .old_for = "user0@example.com", .delay_ms = 10});
  stage_prove(&stage, messages, SENDERS, SENDERS / 2, patient);
  assert_int_equal(stage.results[0].verdict, PROVE_BEFORE);
  for (size_t group = 1; group < SENDERS / 2; group++) assert_int_equal(stage.results[group].verdict, PROVE_SIGNED);
  stage_close(&stage);
}

static void test_prove__deadline_ends_a_batch_with_a_result_for_each(void **state) {
  (void)state;
  static const int64_t short_times[3] = {SHORT_MS, SHORT_MS, SHORT_MS};
  struct prove_message messages[SENDERS];
  char addresses[SENDERS][32];
  fill_senders(messages, addresses);
  struct stage stage;
  stage_open(&stage, &(struct fake_script){.selectors = {"old"}});
  int64_t start = clock_boottime();
  stage_prove(&stage, messages, SENDERS, SENDERS / 2, short_times);
  assert_true(clock_boottime() - start < PLENTY_MS / 2);
  for (size_t group = 0; group < SENDERS / 2; group++) {
    assert_true(stage.results[group].verdict == PROVE_BEFORE || stage.results[group].verdict == PROVE_NO_ANSWER);
    assert_true(stage.results[group].error.code != 0);
  }
  stage_close(&stage);
}

static void test_prove__tags_are_read_as_rfc_6376_writes_them(void **state) {
  (void)state;
  static const struct {
    const char *signature, *tag, *value; /* value NULL: none */
  } cases[] = {
      {"DKIM-Signature: v=1; d=example.com; s=sel", "d", "example.com"},
      {"DKIM-Signature: v=1; d=example.com; s=sel", "s", "sel"},
      {"DKIM-Signature:s=sel", "s", "sel"},
      {"DKIM-Signature: v=1;\r\n\td = exa\r\n mple.com ;s\r\n\t=\r\n\tsel;", "d", "example.com"},
      {"DKIM-Signature: v=1;\r\n\td = example.com ;s\r\n\t=\r\n\tsel;", "s", "sel"},
      {"DKIM-Signature: bh=s=no; b=abc; d=x", "s", NULL},
      {"DKIM-Signature: S=no", "s", NULL},
      {"DKIM-Signature: ss=no; s=yes", "s", "yes"},
      {"DKIM-Signature: ;;s=yes", "s", "yes"},
      {"DKIM-Signature:", "s", NULL},
      {"", "s", NULL},
  };
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    char value[64] = "";
    bool found = prove_signature_tag(cases[i].signature, cases[i].tag, value, sizeof(value));
    assert_int_equal(found, cases[i].value != NULL);
    if (cases[i].value) assert_string_equal(value, cases[i].value);
  }
  char small[4];
  assert_false(prove_signature_tag("DKIM-Signature: s=four", "s", small, sizeof(small)));
}

static void stop_loop(void *context) {
  loop_stop(context);
}

static void test_prove__cancelled_proof_is_silent(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct fake_script){.selectors = {"new"}});
  struct prove_request request = {.milter = stage.filter.address,
                                  .messages = &ordinary,
                                  .count = 1,
                                  .group_count = 1,
                                  .deadline = loop_boottime(stage.loop) + PLENTY_MS};
  struct error error = {0};
  assert_int_equal(prove_start(stage.connector, &entropy_system, &request, stage_done, &stage, &stage.prove, &error),
                   0);
  prove_cancel(&stage.prove);
  assert_null(stage.prove);
  assert_int_equal(loop_at(stage.loop, loop_boottime(stage.loop) + 50, stop_loop, stage.loop, NULL), 0);
  assert_int_equal(loop_run(stage.loop, &error), 0);
  assert_false(stage.done);
  stage_close(&stage);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_prove__signed_by_the_expected_key),
      cmocka_unit_test(test_prove__every_negotiation_of_steps_works),
      cmocka_unit_test(test_prove__other_signatures_and_none_are_told_apart),
      cmocka_unit_test(test_prove__signature_that_no_receiver_would_accept_is_no_proof),
      cmocka_unit_test(test_prove__signature_without_a_record_is_never_taken_for_good),
      cmocka_unit_test(test_prove__more_signatures_than_expected_are_named),
      cmocka_unit_test(test_prove__refusals_are_told_with_their_stage_and_text),
      cmocka_unit_test(test_prove__connections_that_fail_are_explained),
      cmocka_unit_test(test_prove__signatures_without_end_are_no_answer),
      cmocka_unit_test(test_prove__skip_at_the_end_of_the_message_is_no_answer),
      cmocka_unit_test(test_prove__tags_of_a_foreign_signature_control_no_terminal),
      cmocka_unit_test(test_prove__nobody_listening_is_unreachable),
      cmocka_unit_test(test_prove__no_messages_only_reach_the_filter),
      cmocka_unit_test(test_prove__old_tables_are_waited_for_on_new_connections),
      cmocka_unit_test(test_prove__old_tables_that_stay_are_judged_when_patience_ends),
      cmocka_unit_test(test_prove__passing_failures_are_tried_again_until_they_settle),
      cmocka_unit_test(test_prove__one_failure_in_a_batch_is_one_failure),
      cmocka_unit_test(test_prove__connection_lost_in_a_batch_spares_what_was_proved),
      cmocka_unit_test(test_prove__batch_waits_for_old_tables_and_then_proves_all),
      cmocka_unit_test(test_prove__sender_that_stays_with_the_old_key_does_not_hold_up_the_others),
      cmocka_unit_test(test_prove__deadline_ends_a_batch_with_a_result_for_each),
      cmocka_unit_test(test_prove__tags_are_read_as_rfc_6376_writes_them),
      cmocka_unit_test(test_prove__cancelled_proof_is_silent),
  };
  signal(SIGPIPE, SIG_IGN);
  CLEANUP_FREE char *record = dkim_signer_record(dkim_signer_key(true, 0));
  ordinary.record = record;
  return cmocka_run_group_tests(tests, NULL, NULL);
}
