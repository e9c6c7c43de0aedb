/* Every size that others choose has a limit with a name, and what exceeds it is refused with an error that says where and, where something can be
 * done about it, what. Limits that have a test beside their module's other tests are not repeated here (docs/architecture.md lists them all). */
#include "policy_expect.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "dkimroll/cli.h"
#include "dkimroll/clock.h"
#include "dkimroll/key_jobs.h"
#include "dkimroll/milter.h"
#include "dkimroll/observe_judge.h"
#include "dkimroll/opendkim_jobs.h"
#include "dkimroll/opendkim_reload.h"
#include "dkimroll/prove.h"
#include "dkimroll/record.h"
#include "dkimroll/table.h"
#include "dkimroll/tag_list.h"
#include "dkimroll/zone_read.h"
#include "dkimroll/zone_search.h"
#include "dkimroll/zone_source.h"
#include "workplace.h"

enum { TEXT_MAX = 16 * 1024 * 1024, PLENTY_MS = 20000 };

static void assert_limit(int result, const struct error *error, const char *message, const char *remedy) {
  assert_int_equal(result, ERROR_LIMIT);
  if (!strstr(error->message, message) || !strstr(error->remedy, remedy))
    fail_msg("\"%s\" and \"%s\" not in: %s (%s)", message, remedy, error->message, error->remedy);
}

/* ---- the policy ---- */

/* Some finding of the policy holds message. */
static void assert_some_finding(const char *text, const char *message) {
  CLEANUP(policy_findings_release) struct policy_findings findings = {0};
  struct policy *policy = NULL;
  assert_int_equal(policy_parse("p.yaml", text, strlen(text), &policy, &findings, NULL), ERROR_CONFIG);
  for (size_t i = 0; i < findings.count; i++)
    if (strstr(findings.items[i].message, message)) return;
  print_findings(&findings);
  fail_msg("nothing says \"%s\"", message);
}

/* before, count pieces with their numbers, after. Caller frees. */
static char *repeat(const char *before, const char *piece, size_t count, const char *after) {
  struct buffer text = BUFFER_WITH_MAXIMUM(TEXT_MAX);
  buffer_add_text(&text, before);
  for (size_t i = 0; i < count; i++) {
    CLEANUP_FREE char *number = text_format("%zu", i);
    for (const char *c = piece; *c; c++) {
      if (*c == '#')
        buffer_add_text(&text, number);
      else
        buffer_add(&text, c, 1);
    }
  }
  buffer_add_text(&text, after);
  char *result = buffer_take_text(&text);
  assert_non_null(result);
  return result;
}

static void test_limits__of_lists_in_the_policy_are_told_with_their_number(void **state) {
  (void)state;
  static const char signer[] =
      "s#: {key-table: /k#/K, signing-table: /k#/S, key-directory: /k#/keys/%d, milter: \"unix:/k#/m\"}, ";
  CLEANUP_FREE char *senders = repeat(POLICIES PUBLISHERS SIGNERS DEFAULTS "domains: {example.com: {senders: [",
                                      "\"u#@example.com\", ", POLICY_SENDERS_MAX + 1, "]}}\n");
  assert_some_finding(senders, "the list has 65 items; give ");
  CLEANUP_FREE char *servers = repeat(POLICIES "publishers: {primary: {servers: [", "\"192.0.2.#\", ",
                                      POLICY_SERVERS_MAX + 1, "]}}\n" SIGNERS DEFAULTS DOMAINS);
  assert_some_finding(servers, "the list has 65 items; give ");
  CLEANUP_FREE char *command = repeat(POLICIES PUBLISHERS "signers: {local: {" SIGNER_KEYS ", reload: {command: [/x, ",
                                      "w#, ", POLICY_COMMAND_MAX, "]}}}\n" DEFAULTS DOMAINS);
  assert_some_finding(command, "the list has 33 items; give 1 to 32");
  CLEANUP_FREE char *all = repeat("signers: {", signer, POLICY_SIGNERS_MAX + 1, "}\n");
  CLEANUP_FREE char *names = repeat("domain-defaults: {policy: standard, publisher: primary, signers: [", "s#, ",
                                    POLICY_SIGNERS_MAX + 1, "]}\n" DOMAINS);
  CLEANUP_FREE char *signers = text_format(POLICIES PUBLISHERS "%s%s", all, names);
  assert_some_finding(signers, "the list has 9 items; give 1 to 8");
  CLEANUP_FREE char *files =
      repeat(POLICIES PUBLISHERS SIGNERS DEFAULTS "domains-from: [", "/nowhere/#, ", POLICY_FILES_MAX + 1, "]\n");
  assert_some_finding(files, "the list has 257 items; give 1 to 256");
}

static void test_limits__of_entries_and_names_in_the_policy_are_told(void **state) {
  (void)state;
  CLEANUP_FREE char *entries =
      repeat("policies: {", "p#: {}, ", POLICY_ENTRIES_MAX + 1, "standard: {}}\n" PUBLISHERS SIGNERS DEFAULTS DOMAINS);
  assert_some_finding(entries, "policies has more than 1000 entries");
  CLEANUP_FREE char *name =
      repeat("policies: {standard: {}, ", "a", POLICY_NAME_MAX + 1, ": {}}\n" PUBLISHERS SIGNERS DEFAULTS DOMAINS);
  assert_some_finding(name, "63");
  assert_some_finding(WITH_RULES("standby: 5"), "5 is out of bounds; give a value from 0 to 4");
}

static void test_limits__of_domains_in_the_policy_are_told_where_they_are_passed(void **state) {
  (void)state;
  struct buffer text = BUFFER_WITH_MAXIMUM(4 * TEXT_MAX);
  CLEANUP(policy_findings_release) struct policy_findings findings = {0};
  struct policy *policy = NULL;
  buffer_add_text(&text, POLICIES PUBLISHERS SIGNERS DEFAULTS "domains:\n");
  for (int i = 0; i <= POLICY_DOMAINS_MAX; i++) buffer_format(&text, "  d%d.example: {}\n", i);
  assert_false(text.failed);
  assert_int_equal(policy_parse("p.yaml", (const char *)text.data, text.size, &policy, &findings, NULL), ERROR_CONFIG);
  assert_int_equal(findings.count, 1);
  assert_int_equal(findings.items[0].place.line, 6 + POLICY_DOMAINS_MAX);
  assert_non_null(strstr(findings.items[0].message, "more than 2000000 domains; spread them over several policies"));
  buffer_release(&text);
}

static void test_limits__of_what_a_key_remembers_hold_both_ways(void **state) {
  (void)state;
  CLEANUP_FREE char *server = repeat("", "aaaaaaaaaaaaaaaa", POLICY_STORED_MAX / 16, "");
  const struct policy_publisher publisher = {.name = (char *)"primary", .type = PUBLISHER_RFC2136, .server = server};
  struct policy_publisher *read = NULL;
  char *text = NULL;
  struct error error = {0};
  assert_limit(policy_publisher_format(&publisher, &text, &error), &error, "\"primary\" has more than 1048576 octets",
               "fewer servers");
  assert_null(text);
  CLEANUP_FREE char *stored = text_format("{\"primary\": {\"server\": \"%s\"}}", server);
  assert_int_equal(policy_publisher_parse(stored, &read, &error), ERROR_INVALID);
  assert_non_null(strstr(error.message, "more than 1048576 octets"));
}

/* ---- tables ---- */

static void test_limits__of_tables_are_seen_before_memory_is_taken(void **state) {
  (void)state;
  struct table *table = NULL;
  struct error error = {0};
  /* Only the size counts, and no octet is read. */
  assert_limit(table_parse(TABLE_KEYS, "/t/KeyTable", (char *)"", (size_t)TABLE_FILE_MAX + 1, &table, &error), &error,
               "KeyTable /t/KeyTable: more than 536870912 octets", "remove entries");
  char *lines = malloc(TABLE_LINES_MAX + 1);
  assert_non_null(lines);
  memset(lines, '\n', TABLE_LINES_MAX + 1);
  assert_limit(table_parse(TABLE_SIGNING_FILE, "/t/SigningTable", lines, TABLE_LINES_MAX + 1, &table, &error), &error,
               "SigningTable /t/SigningTable: more than 8000000 lines", "remove entries");
  assert_null(table);
  free(lines);
}

static void test_limits__of_edits_of_one_domain_change_nothing(void **state) {
  (void)state;
  struct table_edit edits[TABLE_EDITS_MAX + 1];
  struct table_pair pair = {0};
  struct table_outcome outcome = {0};
  struct error error = {0};
  const struct table_item item = {.edits = edits, .edit_count = ARRAY_SIZE(edits)};
  assert_int_equal(table_parse(TABLE_KEYS, "K", text_duplicate(""), 0, &pair.keys, &error), 0);
  assert_int_equal(table_parse(TABLE_SIGNING_REFILE, "S", text_duplicate(""), 0, &pair.signing, &error), 0);
  for (size_t i = 0; i < ARRAY_SIZE(edits); i++)
    edits[i] = (struct table_edit){.kind = TABLE_KEY_SET, .name = "k", .value = "example.com:s:/k"};
  assert_int_equal(table_apply(&pair, &item, 1, &outcome, &error), 0);
  assert_limit(outcome.error.code, &outcome.error, "more than 66 table edits", "");
  assert_false(table_is_changed(pair.keys));
  table_free(pair.keys);
  table_free(pair.signing);
}

/* ---- DNS ---- */

static void test_limits__of_resolv_conf(void **state) {
  (void)state;
  struct workplace folder;
  workplace_make(&folder, "/tmp");
  CLEANUP_FREE char *path = workplace_path(&folder, "resolv.conf");
  CLEANUP_FREE char *text = repeat("", "# sixteen octets\n", RESOLV_CONF_MAX / 16, "nameserver 192.0.2.1\n");
  struct address addresses[2];
  size_t count = 0;
  struct error error = {0};
  workplace_write(path, text, 0644);
  assert_limit(resolvconf_read(path, addresses, 2, &count, &error), &error, "is larger than the 65536 octets",
               "right file");
  workplace_remove(&folder);
}

static void test_limits__of_name_servers_and_addresses_are_kept_in_mind(void **state) {
  (void)state;
  struct zone_hosts hosts = {0};
  for (size_t i = 0; i < ZONE_HOSTS_MAX; i++) {
    char name[32];
    snprintf(name, sizeof name, "ns%zu.example", i);
    assert_non_null(zone_hosts_add(&hosts, name));
  }
  assert_false(hosts.overflow);
  assert_non_null(zone_hosts_add(&hosts, "ns0.example"));
  assert_null(zone_hosts_add(&hosts, "one-more.example"));
  assert_true(hosts.overflow);
  zone_hosts_release(&hosts);
}

/* Answers every question with nothing: no zone is ever found. */
struct nothing {
  struct transport transport;
  struct loop *loop;
  size_t asked;
  struct transport_exchange *open;
};

struct transport_exchange {
  struct nothing *nothing;
  uint8_t octets[MESSAGE_QUERY_MAX];
  size_t size;
  transport_accept *accept;
  transport_done *done;
  void *context;
  struct loop_source *source;
};

static void nothing_answer(void *context) {
  struct transport_exchange *exchange = context;
  const struct error fine = {0};
  uint8_t *octets = exchange->octets;
  size_t end = 12;
  while (octets[end]) end += octets[end] + 1u;
  octets[2] = 0x84;
  octets[3] = 0;
  octets[11] = 0;
  assert_true(exchange->accept(exchange->context, octets, end + 5));
  exchange->done(exchange->context, &fine);
  free(exchange);
}

static int nothing_exchange(struct transport *transport, const struct transport_request *request,
                            transport_accept *accept, transport_done *done, void *context,
                            struct transport_exchange **ret_exchange, struct error *error) {
  struct nothing *nothing = (struct nothing *)transport;
  struct transport_exchange *exchange = calloc(1, sizeof *exchange);
  (void)error;
  assert_non_null(exchange);
  assert_true(request->size <= sizeof exchange->octets);
  *exchange = (struct transport_exchange){
      .nothing = nothing, .size = request->size, .accept = accept, .done = done, .context = context};
  memcpy(exchange->octets, request->octets, request->size);
  nothing->asked++;
  *ret_exchange = exchange;
  return loop_defer(nothing->loop, nothing_answer, exchange, &exchange->source);
}

static void nothing_cancel(struct transport *transport, struct transport_exchange *exchange) {
  loop_cancel(((struct nothing *)transport)->loop, &exchange->source);
  free(exchange);
}

static void nothing_destroy(struct transport *transport) {
  (void)transport;
}

static void nothing_found(void *context, const struct zone_answer *answer) {
  struct nothing *nothing = context;
  assert_limit(answer->error.code, &answer->error, "more than 120 questions", "its zone and servers");
  loop_stop(nothing->loop);
}

static void test_limits__of_questions_end_the_search_for_a_zone(void **state) {
  (void)state;
  static const struct transport_ops ops = {nothing_exchange, nothing_cancel, nothing_destroy};
  char server[] = "192.0.2.1", resolver[] = "192.0.2.53", *servers[] = {server}, *resolvers[] = {resolver};
  const struct policy_publisher publisher = {
      .name = (char *)"primary", .servers = servers, .server_count = 1, .resolvers = resolvers, .resolver_count = 1};
  const struct clock_reading start = {.wall = 1800000000, .boottime = 1000};
  struct nothing nothing = {.transport.ops = &ops};
  struct entropy_seeded random;
  struct zone_finder *finder = NULL;
  struct zone_search *search = NULL;
  struct error error = {0};
  CLEANUP_FREE char *name = repeat("s._domainkey", ".a", 120, "");
  entropy_seed(&random, 1);
  assert_int_equal(loop_virtual_new(&start, &nothing.loop, &error), 0);
  assert_int_equal(zone_finder_new(nothing.loop, &nothing.transport, &random.entropy, &finder, &error), 0);
  assert_int_equal(
      zone_find(finder, name, NULL, &publisher, 1000 + PLENTY_MS, nothing_found, &nothing, &search, &error), 0);
  assert_int_equal(loop_run(nothing.loop, &error), 0);
  assert_true(nothing.asked <= ZONE_STEPS_MAX);
  zone_finder_free(finder);
  loop_destroy(nothing.loop);
}

static void test_limits__of_texts_that_are_told_apart(void **state) {
  (void)state;
  enum { TEXTS = OBSERVE_TEXTS_MAX + 4 };
  uint8_t rdata[] = "\1x";
  struct message_record records[TEXTS];
  for (size_t i = 0; i < TEXTS; i++)
    records[i] = (struct message_record){
        .section = MESSAGE_ANSWER, .name = "a.example", .type = DNS_TYPE_TXT, .rdata = rdata, .rdata_size = 2};
  const struct message message = {.response = true, .authoritative = true, .records = records, .record_count = TEXTS};
  const struct observe_item item = {.name = "a.example", .record = "ours"};
  struct observe_finding finding = {0};
  struct observe_server server = {0};
  struct error error = {0};
  assert_int_equal(observe_find(&message, "a.example", "example", 0, &finding, &error), 0);
  assert_int_equal(finding.text_count, TEXTS);
  /* Ours may be among those that were not looked at. */
  observe_judge(&finding, OBSERVE_ABSENT, &item, false, &server);
  assert_int_equal(server.verdict, OBSERVE_WRONG);
  assert_string_equal(server.answer, "20 TXT records");
  observe_finding_release(&finding);
}

static void test_limits__of_tags_in_a_record(void **state) {
  (void)state;
  CLEANUP_FREE char *right = repeat("v=DKIM1; p=", "; t#=x", TAG_LIST_MAX - 2, "");
  CLEANUP_FREE char *wrong = repeat("v=DKIM1; p=", "; t#=x", TAG_LIST_MAX - 1, "");
  struct record record = {0};
  struct error error = {0};
  assert_int_equal(record_parse(right, strlen(right), &record, &error), 0);
  record_release(&record);
  assert_int_equal(record_parse(wrong, strlen(wrong), &record, &error), ERROR_INVALID);
  assert_non_null(strstr(error.message, "more than 32 tags"));
}

/* ---- filters ---- */

static void test_limits__of_milter_packets(void **state) {
  (void)state;
  struct milter_packet packet;
  struct buffer octets = BUFFER_WITH_MAXIMUM(16);
  buffer_add_u32(&octets, MILTER_PACKET_MAX);
  assert_int_equal(milter_read_packet(octets.data, octets.size, &packet), 0);
  buffer_reset(&octets);
  buffer_add_u32(&octets, MILTER_PACKET_MAX + 1);
  assert_int_equal(milter_read_packet(octets.data, octets.size, &packet), ERROR_PROTOCOL);
  buffer_release(&octets);
}

static void unexpected_proof(void *context, const struct error *connection, const struct prove_result *results,
                             size_t count) {
  (void)context, (void)connection, (void)results, (void)count;
  fail();
}

static void test_limits__of_messages_of_one_proof(void **state) {
  (void)state;
  const struct clock_reading start = {.wall = 1800000000, .boottime = 1000};
  const struct prove_request request = {.milter = "inet:1@127.0.0.1", .count = PROVE_MESSAGES_MAX + 1};
  struct loop *loop = NULL;
  struct connector *connector = NULL;
  struct prove *prove = NULL;
  struct error error = {0};
  assert_int_equal(loop_virtual_new(&start, &loop, &error), 0);
  assert_int_equal(connector_sockets_new(loop, &connector, &error), 0);
  assert_limit(prove_start(connector, &entropy_system, &request, unexpected_proof, NULL, &prove, &error), &error,
               "more than 320000 messages", "");
  assert_null(prove);
  connector_destroy(connector);
  loop_destroy(loop);
}

/* ---- the keeper ---- */

static void take_result(void *context, const struct error *result, const uint8_t *reply, size_t reply_size) {
  (void)reply, (void)reply_size;
  assert_int_equal(result->code, ERROR_CANCELLED);
  (*(size_t *)context)++;
}

static void test_limits__of_jobs_that_wait_for_the_keeper(void **state) {
  (void)state;
  const struct clock_reading start = {.wall = 1800000000, .boottime = 1000};
  struct loop *loop = NULL;
  struct keeper *keeper = NULL;
  struct buffer payload = BUFFER_WITH_MAXIMUM(16);
  struct error error = {0};
  size_t ended = 0;
  int ends[2];
  buffer_add_text(&payload, "job");
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  assert_int_equal(loop_virtual_new(&start, &loop, &error), 0);
  assert_int_equal(keeper_connect(loop, ends[0], 0, &keeper, &error), 0);
  for (size_t i = 0; i < KEEPER_JOBS_MAX; i++)
    assert_int_equal(keeper_submit(keeper, KEEPER_DESTROY, &payload, TIME_NEVER, take_result, &ended, &error), 0);
  assert_int_equal(keeper_submit(keeper, KEEPER_DESTROY, &payload, TIME_NEVER, take_result, &ended, &error),
                   ERROR_BUSY);
  assert_non_null(strstr(error.message, "100000 jobs"));
  assert_true(error.retryable);
  keeper_destroy(keeper);
  assert_int_equal(ended, KEEPER_JOBS_MAX);
  loop_destroy(loop);
  close(ends[1]);
  buffer_release(&payload);
}

static void test_limits__of_directories_and_signers_that_the_keeper_serves(void **state) {
  (void)state;
  struct key_roots keys = {.count = 0};
  struct opendkim_roots tables = {0};
  struct error error = {0};
  const struct policy_signer signer = {.name = (char *)"local",
                                       .key_table = (char *)"/k/K",
                                       .signing_table = (char *)"/k/S",
                                       .key_directory = (char *)"/k/keys/%d",
                                       .signing_table_format = SIGNING_TABLE_REFILE};
  for (size_t i = 0; i <= KEY_ROOTS_MAX; i++) {
    char path[32];
    snprintf(path, sizeof path, "/k%zu/%%d", i);
    const int result = key_roots_add(&keys, path, &error);
    if (i < KEY_ROOTS_MAX) assert_int_equal(result, 0);
    if (i == KEY_ROOTS_MAX) assert_limit(result, &error, "more than 4096 different directories", "share a directory");
  }
  key_roots_release(&keys);
  for (size_t i = 0; i < OPENDKIM_ROOTS_MAX; i++) assert_int_equal(opendkim_roots_add(&tables, &signer, &error), 0);
  assert_limit(opendkim_roots_add(&tables, &signer, &error), &error, "signer local: more than 4096 signers", "");
  opendkim_roots_release(&tables);
}

static void test_limits__of_items_in_one_edit_of_tables(void **state) {
  (void)state;
  struct opendkim_roots roots = {0};
  struct keeper_handler handlers[OPENDKIM_JOBS_COUNT];
  struct buffer payload = BUFFER_WITH_MAXIMUM(TEXT_MAX), reply = BUFFER_WITH_MAXIMUM(TEXT_MAX);
  struct table_item *items = calloc(OPENDKIM_ITEMS_MAX + 1, sizeof *items);
  const struct policy_signer signer = {.key_table = (char *)"/k/K", .signing_table = (char *)"/k/S"};
  struct error error = {0};
  assert_non_null(items);
  opendkim_jobs_tables(&payload, &signer, items, OPENDKIM_ITEMS_MAX + 1);
  assert_int_equal(opendkim_jobs_handlers(&roots, handlers), 3);
  struct reader request = {.data = payload.data, .size = payload.size};
  assert_int_equal(handlers[0].run(handlers[0].context, &request, &reply, &error), ERROR_PROTOCOL);
  free(items);
  buffer_release(&payload);
  buffer_release(&reply);
}

static void test_limits__of_a_pid_file(void **state) {
  (void)state;
  struct workplace folder;
  workplace_make(&folder, "/tmp");
  CLEANUP_FREE char *path = workplace_path(&folder, "pid");
  CLEANUP_FREE char *text = repeat("", "0", RELOAD_PID_FILE_MAX, "1\n");
  struct error error = {0};
  workplace_write(path, text, 0644);
  assert_limit(reload_pid_file(path, true, &error), &error, "is larger than the 64 octets", "right file");
  workplace_remove(&folder);
}

/* ---- the command line ---- */

/* Runs a command that is refused before it does anything; what it said is in *ret_text, which the caller frees. */
static int refused_command(int argc, char *const *argv, char **ret_text) {
  struct workplace folder;
  workplace_make(&folder, "/tmp");
  CLEANUP_FREE char *path = workplace_path(&folder, "said");
  const int kept = dup(STDERR_FILENO);
  CLEANUP_CLOSE int descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  assert_true(kept >= 0 && descriptor >= 0 && dup2(descriptor, STDERR_FILENO) >= 0);
  const int status = cli_main(NULL, NULL, argc, argv);
  fflush(stderr);
  assert_true(dup2(kept, STDERR_FILENO) >= 0);
  close(kept);
  *ret_text = calloc(1, 4096);
  assert_non_null(*ret_text);
  assert_true(pread(descriptor, *ret_text, 4095, 0) >= 0);
  workplace_remove(&folder);
  return status;
}

static void test_limits__of_reasons_and_operands(void **state) {
  (void)state;
  CLEANUP_FREE char *reason = repeat("--reason=", "r", CLI_REASON_MAX + 1, "");
  char *const hold[] = {(char *)"dkimroll", (char *)"hold", reason, (char *)"example.com", NULL};
  char *const control[] = {(char *)"dkimroll", (char *)"hold", (char *)"--reason=a\nb", (char *)"example.com", NULL};
  char **many = calloc(CLI_DOMAINS_MAX + 4, sizeof *many);
  CLEANUP_FREE char *said = NULL, *said_control = NULL, *said_many = NULL;
  assert_int_equal(refused_command(4, hold, &said), EX_USAGE);
  assert_non_null(strstr(said, "--reason takes at most 500 octets"));
  assert_non_null(strstr(said, "remedy: "));
  assert_int_equal(refused_command(4, control, &said_control), EX_USAGE);
  assert_non_null(strstr(said_control, "in one line"));
  assert_non_null(many);
  for (size_t i = 0; i < CLI_DOMAINS_MAX + 3; i++) many[i] = (char *)"example.com";
  many[1] = (char *)"rotate";
  assert_int_equal(refused_command(CLI_DOMAINS_MAX + 3, many, &said_many), EX_USAGE);
  assert_non_null(strstr(said_many, "rotate takes at most 1000 operands, not 1001"));
  free(many);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_limits__of_lists_in_the_policy_are_told_with_their_number),
      cmocka_unit_test(test_limits__of_entries_and_names_in_the_policy_are_told),
      cmocka_unit_test(test_limits__of_domains_in_the_policy_are_told_where_they_are_passed),
      cmocka_unit_test(test_limits__of_what_a_key_remembers_hold_both_ways),
      cmocka_unit_test(test_limits__of_tables_are_seen_before_memory_is_taken),
      cmocka_unit_test(test_limits__of_edits_of_one_domain_change_nothing),
      cmocka_unit_test(test_limits__of_resolv_conf),
      cmocka_unit_test(test_limits__of_name_servers_and_addresses_are_kept_in_mind),
      cmocka_unit_test(test_limits__of_questions_end_the_search_for_a_zone),
      cmocka_unit_test(test_limits__of_texts_that_are_told_apart),
      cmocka_unit_test(test_limits__of_tags_in_a_record),
      cmocka_unit_test(test_limits__of_milter_packets),
      cmocka_unit_test(test_limits__of_messages_of_one_proof),
      cmocka_unit_test(test_limits__of_jobs_that_wait_for_the_keeper),
      cmocka_unit_test(test_limits__of_directories_and_signers_that_the_keeper_serves),
      cmocka_unit_test(test_limits__of_items_in_one_edit_of_tables),
      cmocka_unit_test(test_limits__of_a_pid_file),
      cmocka_unit_test(test_limits__of_reasons_and_operands),
  };
  signal(SIGPIPE, SIG_IGN);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
