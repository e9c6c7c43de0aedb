/* The milter client and the proof against filters that behave in every way a filter can: a child process plays them by a script. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/milter.h"
#include "dkimroll/milter_protocol.h"
#include "dkimroll/prove.h"
#include "dkimroll/text.h"
#include "workplace.h"

enum { PLENTY_MS = 20000, SHORT_MS = 300, PACKET_MAX = 4096, CONNECTIONS = 8 };

/* How the filter behaves. Letters are commands of the protocol, 0: never. */
struct script {
  uint32_t steps; /* negotiated */
  bool bad_options;
  /* s= on the nth connection, the last for all later ones; NULL: no signature. d= is the sender's domain, or domain. */
  const char *selectors[CONNECTIONS];
  const char *domain;
  const char *more_signatures; /* a second one with this selector */
  bool add_header;             /* instead of inserting it */
  char at;                     /* at this command: */
  char reply;                  /*   another reply instead of continue, */
  const char *text;            /*   with this text, */
  bool hang, quit, garbage;    /*   no answer, end of connection, an impossible packet */
  unsigned until_connection;   /* all of that only before the nth connection; 0: always */
  unsigned progress;           /* packets before the verdict at the end of the message */
  const char *only_sender;     /* at, reply: only for this sender */
};

/* --- the child --- */

struct filter {
  const struct script *script;
  int descriptor;
  unsigned connection;
  char sender[256];
  bool leading_space;
};

static void child_write(int descriptor, const void *octets, size_t size) {
  const char *next = octets;
  while (size > 0) {
    ssize_t sent = send(descriptor, next, size, MSG_NOSIGNAL);
    if (sent <= 0) return;
    next += sent;
    size -= (size_t)sent;
  }
}

static void child_packet(struct filter *filter, char command, const void *data, size_t size) {
  struct buffer packet = BUFFER_WITH_MAXIMUM(PACKET_MAX);
  milter_add_packet(&packet, command, data, size);
  child_write(filter->descriptor, packet.data, packet.size);
  buffer_release(&packet);
}

static bool child_read(int descriptor, void *octets, size_t size) {
  char *next = octets;
  while (size > 0) {
    ssize_t got = recv(descriptor, next, size, 0);
    if (got <= 0) return false;
    next += got;
    size -= (size_t)got;
  }
  return true;
}

static void child_negotiate(struct filter *filter) {
  struct buffer data = BUFFER_WITH_MAXIMUM(64);
  buffer_add_u32(&data, MILTER_VERSION);
  buffer_add_u32(&data, filter->script->bad_options ? 0x80000000U : 1);
  buffer_add_u32(&data, filter->script->steps);
  child_packet(filter, MILTER_COMMAND_NEGOTIATE, data.data, data.size);
  buffer_release(&data);
}

static void child_sign(struct filter *filter, const char *selector) {
  const char *domain = filter->script->domain;
  if (!domain) domain = strchr(filter->sender, '@') ? strchr(filter->sender, '@') + 1 : "none";
  struct buffer data = BUFFER_WITH_MAXIMUM(PACKET_MAX);
  if (!filter->script->add_header) buffer_add_u32(&data, 1);
  buffer_add(&data, "DKIM-Signature", 15);
  buffer_format(&data, "%sv=1; a=rsa-sha256; c=relaxed/simple;\n\td=%s; s=%s;\n\tt=1; h=From; bh=x=; b=d=no;s=no",
                filter->script->steps & MILTER_LEADING_SPACE ? " " : "", domain, selector);
  buffer_add_u8(&data, 0);
  child_packet(filter, filter->script->add_header ? MILTER_REPLY_ADD_HEADER : MILTER_REPLY_INSERT_HEADER, data.data,
               data.size);
  buffer_release(&data);
}

static void child_end_message(struct filter *filter) {
  const char *selector = NULL;
  for (unsigned i = 0; i <= filter->connection && i < CONNECTIONS; i++)
    if (filter->script->selectors[i]) selector = filter->script->selectors[i];
  for (unsigned i = 0; i < filter->script->progress; i++) child_packet(filter, MILTER_REPLY_PROGRESS, NULL, 0);
  if (filter->script->more_signatures) child_sign(filter, filter->script->more_signatures);
  if (selector) child_sign(filter, selector);
  child_packet(filter, MILTER_REPLY_CHANGE_HEADER, "\0\0\0\1Subject\0x", 14);
  child_packet(filter, MILTER_REPLY_CONTINUE, NULL, 0);
}

static bool child_misbehaves(const struct filter *filter, char command) {
  const struct script *script = filter->script;
  if (script->until_connection && filter->connection >= script->until_connection) return false;
  if (script->only_sender && strcmp(script->only_sender, filter->sender) != 0) return false;
  return script->at == command;
}

static uint32_t child_silent_bit(char command) {
  static const struct {
    char command;
    uint32_t bit;
  } bits[] = {{'C', MILTER_NR_CONNECT},        {'H', MILTER_NR_HELO}, {'M', MILTER_NR_MAIL},
              {'R', MILTER_NR_RCPT},           {'T', MILTER_NR_DATA}, {'L', MILTER_NR_HEADERS},
              {'N', MILTER_NR_END_OF_HEADERS}, {'B', MILTER_NR_BODY}};
  for (size_t i = 0; i < ARRAY_SIZE(bits); i++)
    if (bits[i].command == command) return bits[i].bit;
  return 0;
}

/* false: the connection is over. */
static bool child_answer(struct filter *filter, char command, const char *data, size_t size) {
  const struct script *script = filter->script;
  if (command == MILTER_COMMAND_MAIL && size > 2)
    snprintf(filter->sender, sizeof(filter->sender), "%.*s", (int)strcspn(data + 1, ">"), data + 1);
  if (command == MILTER_COMMAND_MACRO || command == MILTER_COMMAND_ABORT) return true;
  if (command == MILTER_COMMAND_QUIT) return false;
  if (child_misbehaves(filter, command)) {
    if (script->quit) return false;
    if (script->hang) return true;
    if (script->garbage) child_write(filter->descriptor, "GET / HTTP/1.1\r\n\r\n", 18);
    if (script->reply) child_packet(filter, script->reply, script->text, script->text ? strlen(script->text) + 1 : 0);
    return true;
  }
  if (command == MILTER_COMMAND_NEGOTIATE)
    child_negotiate(filter);
  else if (command == MILTER_COMMAND_END_OF_MESSAGE)
    child_end_message(filter);
  else if (!(script->steps & child_silent_bit(command)))
    child_packet(filter, MILTER_REPLY_CONTINUE, NULL, 0);
  return true;
}

static void child_serve(struct filter *filter) {
  for (;;) {
    uint32_t length = 0;
    char packet[PACKET_MAX];
    if (!child_read(filter->descriptor, &length, sizeof(length))) return;
    length = ntohl(length);
    if (length < 1 || length >= sizeof(packet) || !child_read(filter->descriptor, packet, length)) return;
    packet[length] = '\0';
    if (!child_answer(filter, packet[0], packet + 1, length)) return;
  }
}

static void child_main(int listener, const struct script *script) {
  struct filter filter = {.script = script};
  for (;; filter.connection++) {
    filter.descriptor = accept(listener, NULL, NULL);
    if (filter.descriptor < 0) _exit(1);
    child_serve(&filter);
    close(filter.descriptor);
  }
}

/* --- the parent --- */

struct stage {
  pid_t pid;
  char address[64];
  struct loop *loop;
  struct prove *prove;
  struct error connection;
  struct prove_result *results;
  size_t count;
  bool done;
};

static int listen_anywhere(char *address, size_t size) {
  struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t place_size = sizeof(place);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(listener >= 0);
  assert_int_equal(bind(listener, (struct sockaddr *)&place, place_size), 0);
  assert_int_equal(getsockname(listener, (struct sockaddr *)&place, &place_size), 0);
  assert_int_equal(listen(listener, 16), 0);
  snprintf(address, size, "inet:%u@127.0.0.1", ntohs(place.sin_port));
  return listener;
}

static void stage_open(struct stage *stage, const struct script *script) {
  *stage = (struct stage){0};
  CLEANUP_CLOSE int listener = listen_anywhere(stage->address, sizeof(stage->address));
  pid_t parent = getpid();
  stage->pid = fork();
  assert_true(stage->pid >= 0);
  if (stage->pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent) child_main(listener, script);
    _exit(1);
  }
  struct error error = {0};
  assert_int_equal(loop_sd_event_new(&stage->loop, &error), 0);
}

static void stage_close(struct stage *stage) {
  loop_destroy(stage->loop);
  kill(stage->pid, SIGKILL);
  waitpid(stage->pid, NULL, 0);
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
  struct prove_request request = {.milter = stage->address,
                                  .messages = messages,
                                  .count = count,
                                  .group_count = groups,
                                  .deadline = now + times[0],
                                  .patience = now + times[1],
                                  .settle = now + times[2]};
  struct error error = {0};
  assert_int_equal(prove_start(stage->loop, &entropy_system, &request, stage_done, stage, &stage->prove, &error), 0);
  assert_false(stage->done);
  assert_int_equal(loop_run(stage->loop, &error), 0);
  assert_true(stage->done);
}

static const struct prove_message ordinary = {
    .address = "user@example.com", .domain = "example.com", .selector = "new", .before = "old"};
static const int64_t once[3] = {PLENTY_MS, 0, 0};

/* One message, one round. */
static void assert_verdict(const struct script *script, enum prove_verdict verdict, const char *text) {
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

static void test_milter__signed_by_the_expected_key(void **state) {
  (void)state;
  assert_verdict(&(struct script){.selectors = {"new"}}, PROVE_SIGNED, "");
  assert_verdict(&(struct script){.selectors = {"NEW"}}, PROVE_SIGNED, "");
  assert_verdict(&(struct script){.selectors = {"new"}, .domain = "EXAMPLE.com"}, PROVE_SIGNED, "");
  assert_verdict(&(struct script){.selectors = {"new"}, .add_header = true}, PROVE_SIGNED, "");
  assert_verdict(&(struct script){.selectors = {"new"}, .more_signatures = "old"}, PROVE_SIGNED, "");
  assert_verdict(&(struct script){.selectors = {"old"}, .more_signatures = "new"}, PROVE_SIGNED, "");
  assert_verdict(&(struct script){.selectors = {"new"}, .progress = 20}, PROVE_SIGNED, "");
}

static void test_milter__every_negotiation_of_steps_works(void **state) {
  (void)state;
  static const uint32_t steps[] = {
      MILTER_LEADING_SPACE,
      MILTER_NO_HELO | MILTER_NO_DATA | MILTER_NO_UNKNOWN | MILTER_SKIP | MILTER_LEADING_SPACE, /* OpenDKIM's */
      MILTER_NO_CONNECT | MILTER_NO_HELO,
      MILTER_NR_CONNECT | MILTER_NR_HELO,
      MILTER_NR_HEADERS | MILTER_NR_BODY | MILTER_NR_END_OF_HEADERS,
      MILTER_NR_CONNECT | MILTER_NR_HELO | MILTER_NR_MAIL | MILTER_NR_RCPT | MILTER_NR_DATA | MILTER_NR_HEADERS |
          MILTER_NR_END_OF_HEADERS | MILTER_NR_BODY,
      MILTER_NO_CONNECT | MILTER_NO_HELO | MILTER_NO_RCPT | MILTER_NO_DATA | MILTER_NO_HEADERS |
          MILTER_NO_END_OF_HEADERS | MILTER_NO_BODY,
  };
  for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
    assert_verdict(&(struct script){.selectors = {"new"}, .steps = steps[i]}, PROVE_SIGNED, "");
}

static void test_milter__other_signatures_and_none_are_told_apart(void **state) {
  (void)state;
  assert_verdict(&(struct script){.selectors = {"old"}}, PROVE_BEFORE, "s=old, the key before");
  assert_verdict(&(struct script){.selectors = {"other"}}, PROVE_OTHER_SELECTOR, "s=other");
  assert_verdict(&(struct script){.selectors = {"new"}, .domain = "example.net"}, PROVE_OTHER_DOMAIN, "d=example.net");
  assert_verdict(&(struct script){0}, PROVE_UNSIGNED, "unsigned");
}

static void test_milter__refusals_are_told_with_their_stage_and_text(void **state) {
  (void)state;
  static const struct {
    char command;
    const char *stage;
  } stages[] = {{'M', "MAIL"},           {'R', "RCPT"}, {'T', "DATA"},          {'L', "header"},
                {'N', "end of headers"}, {'B', "body"}, {'E', "end of message"}};
  for (size_t i = 0; i < ARRAY_SIZE(stages); i++) {
    char command = stages[i].command;
    const char *stage = stages[i].stage;
    assert_verdict(&(struct script){.at = command, .reply = 't'}, PROVE_TEMPFAILED, stage);
    assert_verdict(&(struct script){.at = command, .reply = 'r'}, PROVE_REJECTED, stage);
    assert_verdict(&(struct script){.at = command, .reply = 'd'}, PROVE_DISCARDED, stage);
    assert_verdict(&(struct script){.at = command, .reply = 'y', .text = "451 4.7.5 \x1b[2Jtry later"},
                   PROVE_TEMPFAILED, "451 4.7.5 \\033[2Jtry later");
    assert_verdict(&(struct script){.at = command, .reply = 'y', .text = "550 no"}, PROVE_REJECTED, "550 no");
    assert_verdict(&(struct script){.at = command, .reply = '4'}, PROVE_TEMPFAILED, stage);
    if (command != 'E') assert_verdict(&(struct script){.at = command, .reply = 'a'}, PROVE_UNSIGNED, stage);
  }
}

static void test_milter__connections_that_fail_are_explained(void **state) {
  (void)state;
  static const char commands[] = "OCMLE";
  for (const char *command = commands; *command; command++) {
    assert_verdict(&(struct script){.at = *command, .quit = true}, PROVE_NO_ANSWER, "closed the connection");
    assert_verdict(&(struct script){.at = *command, .hang = true}, PROVE_NO_ANSWER, "no answer in time");
    assert_verdict(&(struct script){.at = *command, .garbage = true}, PROVE_NO_ANSWER, "impossible length");
  }
  assert_verdict(&(struct script){.bad_options = true}, PROVE_NO_ANSWER, "not offered");
  assert_verdict(&(struct script){.at = 'M', .reply = 'Z'}, PROVE_NO_ANSWER, "unknown reply");
  assert_verdict(&(struct script){.at = 'M', .reply = 'h', .text = "X"}, PROVE_NO_ANSWER, "outside");
  assert_verdict(&(struct script){.at = 'E', .reply = 'h', .text = "X"}, PROVE_NO_ANSWER, "malformed header");
  assert_verdict(&(struct script){.at = 'E', .reply = 'i', .text = "X"}, PROVE_NO_ANSWER, "malformed header");
  assert_verdict(&(struct script){.at = 'C', .reply = 'a'}, PROVE_NO_ANSWER, "without looking");
  assert_verdict(&(struct script){.at = 'C', .reply = 'y', .text = "450 go away"}, PROVE_NO_ANSWER, "450 go away");
  assert_verdict(&(struct script){.progress = MILTER_REPLIES_MAX + 1}, PROVE_NO_ANSWER, "without end");
}

static void test_milter__nobody_listening_is_unreachable(void **state) {
  (void)state;
  struct workplace folder;
  workplace_make(&folder, "/tmp");
  CLEANUP_FREE char *missing = text_format("unix:%s/none", folder.path);
  char inet[64];
  close(listen_anywhere(inet, sizeof(inet)));
  const char *addresses[] = {missing, inet};
  for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
    struct stage stage = {0};
    struct error error = {0};
    assert_int_equal(loop_sd_event_new(&stage.loop, &error), 0);
    text_copy(stage.address, sizeof(stage.address), addresses[i]);
    stage_prove(&stage, &ordinary, 1, 1, once);
    assert_int_equal(stage.results[0].verdict, PROVE_NO_ANSWER);
    assert_int_equal(stage.results[0].error.code, ERROR_UNREACHABLE);
    assert_int_equal(stage.connection.code, ERROR_UNREACHABLE);
    free(stage.results);
    loop_destroy(stage.loop);
  }
  workplace_remove(&folder);
}

static void test_milter__no_messages_only_reach_the_filter(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct script){0});
  stage_prove(&stage, NULL, 0, 0, once);
  assert_int_equal(stage.connection.code, 0);
  stage_close(&stage);
}

static void test_milter__old_tables_are_waited_for_on_new_connections(void **state) {
  (void)state;
  static const int64_t patient[3] = {PLENTY_MS, PLENTY_MS, 0};
  struct stage stage;
  stage_open(&stage, &(struct script){.selectors = {"old", NULL, NULL, "new"}});
  stage_prove(&stage, &ordinary, 1, 1, patient);
  assert_int_equal(stage.results[0].verdict, PROVE_SIGNED);
  stage_close(&stage);
}

static void test_milter__old_tables_that_stay_are_judged_when_patience_ends(void **state) {
  (void)state;
  static const int64_t patient[3] = {PLENTY_MS, SHORT_MS, 0};
  struct stage stage;
  stage_open(&stage, &(struct script){.selectors = {"old"}});
  int64_t start = clock_boottime();
  stage_prove(&stage, &ordinary, 1, 1, patient);
  assert_int_equal(stage.results[0].verdict, PROVE_BEFORE);
  assert_true(clock_boottime() - start < PLENTY_MS / 2);
  stage_close(&stage);
}

static void test_milter__passing_failures_are_tried_again_until_they_settle(void **state) {
  (void)state;
  static const int64_t settling[3] = {PLENTY_MS, PLENTY_MS, PLENTY_MS};
  const struct script scripts[] = {{.selectors = {"new"}, .at = 'E', .reply = 't', .until_connection = 2},
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

static void test_milter__one_failure_in_a_batch_is_one_failure(void **state) {
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
               &(struct script){
                   .selectors = {"new"}, .at = commands[i], .reply = replies[i], .only_sender = "user8@example.com"});
    stage_prove(&stage, messages, SENDERS, SENDERS / 2, settling);
    for (size_t group = 0; group < SENDERS / 2; group++)
      assert_int_equal(stage.results[group].verdict == PROVE_SIGNED, group != 4);
    assert_non_null(strstr(stage.results[4].error.message, "user8@example.com"));
    stage_close(&stage);
  }
}

static void test_milter__connection_lost_in_a_batch_spares_what_was_proved(void **state) {
  (void)state;
  struct prove_message messages[SENDERS];
  char addresses[SENDERS][32];
  fill_senders(messages, addresses);
  struct stage stage;
  stage_open(&stage,
             &(struct script){.selectors = {"new"}, .at = 'E', .quit = true, .only_sender = "user21@example.com"});
  stage_prove(&stage, messages, SENDERS, SENDERS / 2, once);
  for (size_t group = 0; group < SENDERS / 2; group++)
    assert_int_equal(stage.results[group].verdict, group < 10 ? PROVE_SIGNED : PROVE_NO_ANSWER);
  stage_close(&stage);
}

static void test_milter__batch_waits_for_old_tables_and_then_proves_all(void **state) {
  (void)state;
  static const int64_t patient[3] = {PLENTY_MS, PLENTY_MS, PLENTY_MS};
  struct prove_message messages[SENDERS];
  char addresses[SENDERS][32];
  fill_senders(messages, addresses);
  struct stage stage;
  stage_open(&stage, &(struct script){.selectors = {"old", NULL, "new"}});
  stage_prove(&stage, messages, SENDERS, SENDERS / 2, patient);
  for (size_t group = 0; group < SENDERS / 2; group++) assert_int_equal(stage.results[group].verdict, PROVE_SIGNED);
  stage_close(&stage);
}

static void test_milter__deadline_ends_a_batch_with_a_result_for_each(void **state) {
  (void)state;
  static const int64_t short_times[3] = {SHORT_MS, SHORT_MS, SHORT_MS};
  struct prove_message messages[SENDERS];
  char addresses[SENDERS][32];
  fill_senders(messages, addresses);
  struct stage stage;
  stage_open(&stage, &(struct script){.selectors = {"old"}});
  int64_t start = clock_boottime();
  stage_prove(&stage, messages, SENDERS, SENDERS / 2, short_times);
  assert_true(clock_boottime() - start < PLENTY_MS / 2);
  for (size_t group = 0; group < SENDERS / 2; group++) {
    assert_true(stage.results[group].verdict == PROVE_BEFORE || stage.results[group].verdict == PROVE_NO_ANSWER);
    assert_true(stage.results[group].error.code != 0);
  }
  stage_close(&stage);
}

/* What one message looks like to whoever checks its signature later. */
struct sight {
  struct loop *loop;
  struct milter *milter;
  char signature[512];
  bool seen;
};

static void sight_event(void *context, const struct milter_answer *answer, const struct error *error) {
  struct sight *sight = context;
  static const struct milter_header headers[] = {{"From", "user@example.com"}, {"Subject", "x"}};
  static const struct milter_message message = {.queue_id = "q",
                                                .sender = "user@example.com",
                                                .recipient = "user@example.com",
                                                .headers = headers,
                                                .header_count = 2,
                                                .body = "x\r\n"};
  assert_int_equal(error->code, 0);
  if (!answer) {
    milter_send(sight->milter, &message);
    return;
  }
  assert_int_equal(answer->signature_count, 1);
  text_copy(sight->signature, sizeof(sight->signature), answer->signatures[0]);
  sight->seen = true;
  milter_close(sight->milter);
  loop_stop(sight->loop);
}

static void test_milter__whole_signature_field_comes_back_as_it_would_be_sent(void **state) {
  (void)state;
  for (int leading = 0; leading < 2; leading++) {
    struct stage stage;
    stage_open(&stage, &(struct script){.selectors = {"new"}, .steps = leading ? MILTER_LEADING_SPACE : 0});
    struct sight sight = {.loop = stage.loop};
    struct error error = {0};
    assert_int_equal(milter_open(stage.loop, stage.address, loop_boottime(stage.loop) + PLENTY_MS, sight_event, &sight,
                                 &sight.milter, &error),
                     0);
    assert_int_equal(loop_run(stage.loop, &error), 0);
    assert_true(sight.seen);
    assert_string_equal(sight.signature, "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple;\r\n\td=example.com; "
                                         "s=new;\r\n\tt=1; h=From; bh=x=; b=d=no;s=no");
    stage_close(&stage);
  }
}

static void test_milter__tags_are_read_as_rfc_6376_writes_them(void **state) {
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

static void test_milter__addresses(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int family; /* 0: refused */
  } cases[] = {
      {"inet:8891@127.0.0.1", AF_INET},
      {"inet:8891@localhost", AF_INET},
      {"inet:8891", AF_INET},
      {"inet6:8891@::1", AF_INET6},
      {"inet6:8891", AF_INET6},
      {"unix:/run/x.sock", AF_UNIX},
      {"local:/run/x.sock", AF_UNIX},
      {"/run/x.sock", AF_UNIX},
      {"inet:0@127.0.0.1", 0},
      {"inet:65536@127.0.0.1", 0},
      {"inet:x@127.0.0.1", 0},
      {"inet:8891@mail.example.com", 0},
      {"inet6:8891@127.0.0.1", 0},
      {"unix:relative", 0},
      {"8891@127.0.0.1", 0},
      {"unix:/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
       "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
       0}};
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    struct sockaddr_storage address;
    socklen_t size = 0;
    struct error error = {0};
    int result = milter_parse_address(cases[i].text, &address, &size, &error);
    assert_int_equal(result, cases[i].family ? 0 : ERROR_CONFIG);
    if (cases[i].family) assert_int_equal(address.ss_family, cases[i].family);
  }
}

static void test_milter__packets_are_read_whole_or_not_at_all(void **state) {
  (void)state;
  struct buffer octets = BUFFER_WITH_MAXIMUM(PACKET_MAX);
  milter_add_packet(&octets, 'L', "abc", 3);
  struct milter_packet packet = {0};
  for (size_t size = 0; size < octets.size; size++) assert_int_equal(milter_read_packet(octets.data, size, &packet), 0);
  assert_int_equal(milter_read_packet(octets.data, octets.size, &packet), 8);
  assert_int_equal(packet.command, 'L');
  assert_int_equal(packet.size, 3);
  assert_memory_equal(packet.data, "abc", 3);
  static const uint8_t empty[4] = {0, 0, 0, 0};
  static const uint8_t huge[4] = {0x7f, 0, 0, 0};
  assert_int_equal(milter_read_packet(empty, 4, &packet), ERROR_PROTOCOL);
  assert_int_equal(milter_read_packet(huge, 4, &packet), ERROR_PROTOCOL);
  buffer_release(&octets);
}

static void stop_loop(void *context) {
  loop_stop(context);
}

static void test_milter__cancelled_proof_is_silent(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct script){.selectors = {"new"}});
  struct prove_request request = {.milter = stage.address,
                                  .messages = &ordinary,
                                  .count = 1,
                                  .group_count = 1,
                                  .deadline = loop_boottime(stage.loop) + PLENTY_MS};
  struct error error = {0};
  assert_int_equal(prove_start(stage.loop, &entropy_system, &request, stage_done, &stage, &stage.prove, &error), 0);
  prove_cancel(&stage.prove);
  assert_null(stage.prove);
  assert_int_equal(loop_at(stage.loop, loop_boottime(stage.loop) + 50, stop_loop, stage.loop, NULL), 0);
  assert_int_equal(loop_run(stage.loop, &error), 0);
  assert_false(stage.done);
  stage_close(&stage);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_milter__signed_by_the_expected_key),
      cmocka_unit_test(test_milter__every_negotiation_of_steps_works),
      cmocka_unit_test(test_milter__other_signatures_and_none_are_told_apart),
      cmocka_unit_test(test_milter__refusals_are_told_with_their_stage_and_text),
      cmocka_unit_test(test_milter__connections_that_fail_are_explained),
      cmocka_unit_test(test_milter__nobody_listening_is_unreachable),
      cmocka_unit_test(test_milter__no_messages_only_reach_the_filter),
      cmocka_unit_test(test_milter__old_tables_are_waited_for_on_new_connections),
      cmocka_unit_test(test_milter__old_tables_that_stay_are_judged_when_patience_ends),
      cmocka_unit_test(test_milter__passing_failures_are_tried_again_until_they_settle),
      cmocka_unit_test(test_milter__one_failure_in_a_batch_is_one_failure),
      cmocka_unit_test(test_milter__connection_lost_in_a_batch_spares_what_was_proved),
      cmocka_unit_test(test_milter__batch_waits_for_old_tables_and_then_proves_all),
      cmocka_unit_test(test_milter__deadline_ends_a_batch_with_a_result_for_each),
      cmocka_unit_test(test_milter__whole_signature_field_comes_back_as_it_would_be_sent),
      cmocka_unit_test(test_milter__tags_are_read_as_rfc_6376_writes_them),
      cmocka_unit_test(test_milter__addresses),
      cmocka_unit_test(test_milter__packets_are_read_whole_or_not_at_all),
      cmocka_unit_test(test_milter__cancelled_proof_is_silent),
  };
  signal(SIGPIPE, SIG_IGN);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
