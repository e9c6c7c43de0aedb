/* Do we read tables as OpenDKIM does? Random tables, and the key that a real opendkim takes for each of many senders.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../sim/sim_tables.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/entropy.h"
#include "dkimroll/milter.h"
#include "dkimroll/prove.h"
#include "dkimroll/table.h"
#include "dkimroll/text.h"
#include "opendkim_host.h"

enum { TABLES = 30, LINES = 12, KEYS = 6, TEXT_MAX = 64 * 1024, DEADLINE_MS = 60000, ADDRESS_SIZE = 64 };

static const char *const users[] = {"a", "b", "ab", "B", "a+b"};
static const char *const hosts[] = {"x.example", "y.example", "sub.x.example", "deep.sub.x.example", "z.test"};
enum { ADDRESSES = ARRAY_SIZE(users) * ARRAY_SIZE(hosts) };

static const char *pick(struct entropy *entropy, const char *const *texts, size_t count) {
  return texts[entropy_below(entropy, (uint32_t)count)];
}

static void add_pattern(struct buffer *text, struct entropy *entropy, bool file_table) {
  static const char *const refile_users[] = {"*", "a", "b", "a*", "*b", "A", "[ab]", "(a|ab)", "a+b"};
  static const char *const refile_hosts[] = {"x.example", "Y.example", "*.x.example", "*",
                                             "*.example", "sub.*",     "*x.example",  "sub.x.example"};
  static const char *const refile_others[] = {"*", "*.example", "*example", "x.example", "b*", "*@x.example"};
  static const char *const file_keys[] = {"a@x.example", "x.example",  "X.example", ".x.example",    "b@.x.example",
                                          ".example",    "ab@*",       "*",         "y.example",     "*@x.example",
                                          "@y.example",  "a@.example", ".test",     "sub.x.example", "B@Y.example"};
  if (file_table)
    buffer_add_text(text, pick(entropy, file_keys, ARRAY_SIZE(file_keys)));
  else if (entropy_below(entropy, 4) == 0)
    buffer_add_text(text, pick(entropy, refile_others, ARRAY_SIZE(refile_others)));
  else
    buffer_format(text, "%s@%s", pick(entropy, refile_users, ARRAY_SIZE(refile_users)),
                  pick(entropy, refile_hosts, ARRAY_SIZE(refile_hosts)));
}

static char *random_signing_table(struct entropy *entropy, bool file_table) {
  static const char *const starts[] = {"", "", "", "", "", "", " ", "\t", "#", "# x\n", "\n", "   \r\n"};
  static const char *const gaps[] = {" ", "\t", "  \t "};
  static const char *const ends[] = {"\n",           "\n",         "\r\n",           " \n",
                                     " # comment\n", "#comment\n", ":i@d.example\n", "\t \r\n"};
  struct buffer text = BUFFER_WITH_MAXIMUM(TEXT_MAX);
  for (int i = 0; i < LINES; i++) {
    buffer_add_text(&text, pick(entropy, starts, ARRAY_SIZE(starts)));
    add_pattern(&text, entropy, file_table);
    buffer_add_text(&text, pick(entropy, gaps, ARRAY_SIZE(gaps)));
    buffer_format(&text, "k%u", entropy_below(entropy, KEYS));
    buffer_add_text(&text, pick(entropy, ends, ARRAY_SIZE(ends)));
  }
  return buffer_take_text(&text);
}

/* Every name has several entries, of which the first counts. The selector says which. */
static char *random_key_table(struct entropy *entropy, const char *path) {
  struct buffer text = BUFFER_WITH_MAXIMUM(TEXT_MAX);
  for (unsigned i = 0; i < KEYS; i++) buffer_format(&text, "k%u d.example:s%u:%s\n", i, i, path);
  for (unsigned i = 0; i < KEYS; i++)
    buffer_format(&text, "k%u%sd.example:t%u:%s\r\n", entropy_below(entropy, KEYS), i % 2 ? "\t" : "  ", i, path);
  return buffer_take_text(&text);
}

/* What a real opendkim does with each address: the selector, or nothing. */
struct oracle {
  struct loop *loop;
  struct milter *milter;
  char addresses[ADDRESSES][ADDRESS_SIZE];
  char selectors[ADDRESSES][ADDRESS_SIZE];
  size_t current;
  struct milter_header header;
  struct milter_message message;
};

static void oracle_event(void *context, const struct milter_answer *answer, const struct error *error) {
  struct oracle *oracle = context;
  if (error->code) fail_msg("%s", error->message);
  if (answer) {
    assert_int_equal(answer->verdict, MILTER_ACCEPTED);
    assert_true(answer->signature_count <= 1);
    char *selector = oracle->selectors[oracle->current++];
    if (answer->signature_count == 1)
      assert_true(prove_signature_tag(answer->signatures[0], "s", selector, ADDRESS_SIZE));
  }
  if (oracle->current == ADDRESSES) {
    milter_close(oracle->milter);
    loop_stop(oracle->loop);
    return;
  }
  const char *address = oracle->addresses[oracle->current];
  oracle->header = (struct milter_header){.name = "From", .value = address};
  oracle->message = (struct milter_message){.queue_id = "q",
                                            .sender = address,
                                            .recipient = address,
                                            .headers = &oracle->header,
                                            .header_count = 1,
                                            .body = "x\r\n"};
  milter_send(oracle->milter, &oracle->message);
}

static void oracle_ask(struct oracle *oracle, const char *address) {
  struct error error = {0};
  struct connector *connector = NULL;
  assert_int_equal(loop_sd_event_new(&oracle->loop, &error), 0);
  assert_int_equal(connector_sockets_new(oracle->loop, &connector, &error), 0);
  int64_t deadline = loop_boottime(oracle->loop) + DEADLINE_MS;
  assert_int_equal(milter_open(connector, address, deadline, oracle_event, oracle, &oracle->milter, &error), 0);
  assert_int_equal(loop_run(oracle->loop, &error), 0);
  connector_destroy(connector);
  loop_destroy(oracle->loop);
}

static struct table *parse(enum table_kind kind, const char *text) {
  struct table *table = NULL;
  struct error error = {0};
  assert_int_equal(table_parse(kind, "/t", text_duplicate(text), strlen(text), &table, &error), 0);
  return table;
}

/* Our reading of the same tables. */
static void expected_selector(const struct table *keys, const struct table *signing, const char *address,
                              char *selector) {
  struct table_span name;
  struct table_span value;
  unsigned line = 0;
  selector[0] = '\0';
  if (!table_match_sender(signing, address, &name, &line)) return;
  CLEANUP_FREE char *key = text_format("%.*s", (int)name.size, name.text);
  assert_true(table_find_key(keys, key, &value, &line));
  CLEANUP_FREE char *fields = text_format("%.*s", (int)value.size, value.text);
  assert_int_equal(sscanf(fields, "d.example:%63[^:]:", selector), 1);
}

/* The reading of the simulator's OpenDKIM (tests/sim/sim_tables.h). */
static void simulated_selector(const struct sim_tables *tables, const char *address, char *selector) {
  struct sim_tables_match matches[SIM_TABLES_MATCHES_MAX];
  selector[0] = '\0';
  if (sim_tables_match(tables, address, matches) == 0) return;
  assert_false(matches[0].broken);
  assert_true(text_copy(selector, ADDRESS_SIZE, matches[0].selector));
}

static void compare(uint64_t seed, bool file_table, size_t *signatures) {
  struct entropy_seeded seeded;
  entropy_seed(&seeded, seed);
  struct opendkim_host host;
  opendkim_host_make(&host, &(struct opendkim_setup){.file_table = file_table, .unix_socket = true});
  CLEANUP_FREE char *path = opendkim_host_key(&host, "d.example", "all", false);
  CLEANUP_FREE char *keys_text = random_key_table(&seeded.entropy, path);
  CLEANUP_FREE char *signing_text = random_signing_table(&seeded.entropy, file_table);
  workplace_write(host.key_table, keys_text, 0644);
  workplace_write(host.signing_table, signing_text, 0644);
  opendkim_host_start(&host);

  static struct oracle oracle;
  oracle = (struct oracle){0};
  for (size_t i = 0; i < ADDRESSES; i++)
    snprintf(oracle.addresses[i], ADDRESS_SIZE, "%s@%s", users[i % ARRAY_SIZE(users)], hosts[i / ARRAY_SIZE(users)]);
  oracle_ask(&oracle, host.milter);

  struct table *keys = parse(TABLE_KEYS, keys_text);
  struct table *signing = parse(file_table ? TABLE_SIGNING_FILE : TABLE_SIGNING_REFILE, signing_text);
  struct sim_tables *simulated =
      sim_tables_read(&(struct sim_tables_paths){.key_table = host.key_table,
                                                 .signing_table = host.signing_table,
                                                 .format = file_table ? SIGNING_TABLE_FILE : SIGNING_TABLE_REFILE});
  assert_non_null(simulated);
  for (size_t i = 0; i < ADDRESSES; i++) {
    char selector[ADDRESS_SIZE], modelled[ADDRESS_SIZE];
    simulated_selector(simulated, oracle.addresses[i], modelled);
    if (strcmp(modelled, oracle.selectors[i]) != 0)
      fail_msg("seed %llu, %s: opendkim signs with \"%s\", the simulator's with \"%s\"; SigningTable:\n%s",
               (unsigned long long)seed, oracle.addresses[i], oracle.selectors[i], modelled, signing_text);
    expected_selector(keys, signing, oracle.addresses[i], selector);
    if (strcmp(selector, oracle.selectors[i]) != 0)
      fail_msg("seed %llu, %s: opendkim signs with \"%s\", we read \"%s\"; SigningTable:\n%s", (unsigned long long)seed,
               oracle.addresses[i], oracle.selectors[i], selector, signing_text);
    *signatures += selector[0] != '\0';
  }
  sim_tables_drop(simulated);
  table_free(keys);
  table_free(signing);
  opendkim_host_remove(&host);
}

static void compare_many(bool file_table) {
  size_t signatures = 0;
  for (uint64_t seed = 1; seed <= TABLES; seed++) compare(seed, file_table, &signatures);
  /* Both outcomes must be common, or the comparison says little. */
  assert_in_range(signatures, TABLES * ADDRESSES / 10, TABLES * ADDRESSES * 97 / 100);
}

static void test_table_opendkim__refile_tables_are_read_alike(void **state) {
  (void)state;
  compare_many(false);
}

static void test_table_opendkim__file_tables_are_read_alike(void **state) {
  (void)state;
  compare_many(true);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_table_opendkim__refile_tables_are_read_alike),
      cmocka_unit_test(test_table_opendkim__file_tables_are_read_alike),
  };
  signal(SIGPIPE, SIG_IGN);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
