/* A right policy becomes the structs that it describes; the shipped ones are right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/evp.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/policy.h"
#include "dkimroll/text.h"

enum { MINUTE = 60, HOUR = 3600, DAY = 86400 };

#define SIGNER_KEYS                                                                                                    \
  "key-table: /k/KeyTable, signing-table: /k/SigningTable, key-directory: /k/keys/%d, milter: \"unix:/k/sock\""
#define HEAD                                                                                                           \
  "policies: {standard: {}, other: {selector: \"o%j\"}}\n"                                                             \
  "publishers: {primary: {}}\n"                                                                                        \
  "signers: {local: {" SIGNER_KEYS "}}\n"
#define DEFAULTS "domain-defaults: {policy: standard, publisher: primary, signers: [local]}\n"

/* The folder of one test, with the files that it wrote. */
struct folder {
  char path[64];
  char names[8][32];
  size_t count;
};

static void folder_make(struct folder *folder) {
  *folder = (struct folder){.path = "/tmp/dkimroll-policy-XXXXXX"};
  assert_non_null(mkdtemp(folder->path));
}

static void folder_remove(struct folder *folder) {
  for (size_t i = 0; i < folder->count; i++) {
    CLEANUP_FREE char *path = text_format("%s/%s", folder->path, folder->names[i]);
    unlink(path);
  }
  rmdir(folder->path);
}

/* Caller frees the path. */
static char *folder_write(struct folder *folder, const char *name, const char *text) {
  char *path = text_format("%s/%s", folder->path, name);
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  assert_true(fputs(text, file) >= 0);
  assert_int_equal(fclose(file), 0);
  assert_true(text_copy(folder->names[folder->count++], sizeof(folder->names[0]), name));
  return path;
}

static void print_findings(const struct policy_findings *findings) {
  for (size_t i = 0; i < findings->count; i++) {
    const struct policy_finding *finding = &findings->items[i];
    print_error("%s:%u:%u: %s\n", finding->file, finding->place.line, finding->place.column, finding->message);
  }
}

static struct policy *load(const char *path) {
  CLEANUP(policy_findings_release) struct policy_findings findings = {0};
  struct policy *policy = NULL;
  struct error error = {0};
  const int result = policy_load(path, &policy, &findings, &error);
  print_findings(&findings);
  if (result != 0) fail_msg("%s: %s", path, error.message);
  return policy;
}

static struct policy *parse(const char *text) {
  CLEANUP(policy_findings_release) struct policy_findings findings = {0};
  struct policy *policy = NULL;
  struct error error = {0};
  const int result = policy_parse("p.yaml", text, strlen(text), &policy, &findings, &error);
  print_findings(&findings);
  if (result != 0) fail_msg("%s in:\n%s", error.message, text);
  return policy;
}

static void free_policy(struct policy **policy) {
  policy_free(*policy);
}

static const struct policy_domain *find_domain(const struct policy *policy, const char *name) {
  for (size_t i = 0; i < policy->domain_count; i++) {
    if (text_equal(policy->domains[i].name, name)) return &policy->domains[i];
  }
  fail_msg("no domain %s", name);
  return NULL;
}

static void test_policy__what_is_not_given_has_the_documented_default(void **state) {
  (void)state;
  CLEANUP(free_policy) struct policy *policy = parse(HEAD DEFAULTS "domains: {example.com: }\n");
  assert_string_equal(policy->path, "p.yaml");
  assert_string_equal(policy->state, "/var/lib/dkimroll/state.db");
  const struct policy_rules *rules = &policy->rules[0];
  assert_string_equal(rules->name, "standard");
  assert_int_equal(rules->key_count, 1);
  assert_string_equal(rules->keys[0].slot, "main");
  assert_int_equal(rules->keys[0].algorithm, KEY_ALGORITHM_RSA);
  assert_int_equal(rules->keys[0].bits, 2048);
  assert_string_equal(rules->keys[0].selector, "server-%Y%m%d");
  assert_string_equal(policy->rules[1].keys[0].selector, "o%j");
  assert_int_equal(rules->rotate_every, 90 * DAY);
  assert_int_equal(rules->standby, 0);
  assert_int_equal(rules->publish_ttl, HOUR);
  assert_int_equal(rules->publish_safety, HOUR);
  assert_int_equal(rules->confirm_sightings, 2);
  assert_int_equal(rules->confirm_every, 10);
  assert_int_equal(rules->confirm_warn_after, HOUR);
  assert_int_equal(rules->queue_lifetime, 5 * DAY);
  assert_int_equal(rules->queue_backoff, 4300);
  assert_int_equal(rules->drain, HOUR);
  assert_int_equal(rules->verify_window, 2 * DAY);
  assert_int_equal(rules->retire_safety, HOUR);
  assert_int_equal(rules->tombstone, 30 * DAY);
  assert_int_equal(rules->private_key, PRIVATE_KEY_DESTROY);
  assert_null(rules->archive_directory);
  const struct policy_publisher *publisher = &policy->publishers[0];
  assert_int_equal(publisher->type, PUBLISHER_RFC2136);
  assert_null(publisher->server);
  assert_null(publisher->zone);
  assert_null(publisher->tsig_file);
  assert_int_equal(publisher->server_count + publisher->ignore_server_count + publisher->resolver_count, 0);
  const struct policy_signer *signer = &policy->signers[0];
  assert_int_equal(signer->type, SIGNER_OPENDKIM);
  assert_int_equal(signer->signing_table_format, SIGNING_TABLE_REFILE);
  assert_string_equal(signer->signing_table, "/k/SigningTable");
  assert_false(signer->multiple_signatures);
  assert_string_equal(signer->key_name, "%s._domainkey.%d");
  assert_string_equal(signer->owner, "opendkim:opendkim");
  assert_int_equal(signer->mode, 0600);
  assert_int_equal(signer->reload, RELOAD_NONE);
  assert_null(signer->reload_target);
  assert_int_equal(signer->reload_timeout, 30);
  assert_int_equal(signer->restart, RELOAD_NONE);
}

static void test_policy__everything_that_is_given_is_kept(void **state) {
  (void)state;
  CLEANUP(free_policy)
  struct policy *policy = parse(
      "state: /s/state.db\n"
      "policies:\n"
      "  full:\n"
      "    selector: \"a%Y\"\n"
      "    keys:\n"
      "      one: {algorithm: rsa, bits: 4096}\n"
      "      two: {selector: \"b%Y\", bits: 3072}\n"
      "    rotate-every: 1w2d\n"
      "    standby: 2\n"
      "    publish: {ttl: 5m, safety: 90}\n"
      "    confirm: {sightings: 5, every: 1m30s, warn-after: 2h}\n"
      "    retire: {queue-lifetime: 1d, queue-backoff: 1h, drain: 2h, verify-window: 3h, safety: 4h, tombstone: 5h,\n"
      "             private-key: archive, archive-directory: /a/%d}\n"
      "publishers:\n"
      "  full: {type: rfc2136, server: \"[2001:db8::1]:5300\", tsig-file: \"credential:tsig\", zone: Example.COM.,\n"
      "         servers: [192.0.2.1, \"192.0.2.2:5353\"], ignore-servers: NS3.example.net., resolvers: [\"::1\"]}\n"
      "signers:\n"
      "  full: {type: opendkim, key-table: /t, signing-table: \"file:/s\", key-directory: /k/%d/keys, key-name: "
      "\"%d\",\n"
      "         owner: root:opendkim, mode: 0640, reload: {pid-file: /run/p.pid, timeout: 5s}, milter: "
      "\"inet6:1@[::1]\"}\n"
      "  unit: {key-table: /u, signing-table: \"refile:/v\", multiple-signatures: yes, key-directory: /k/%d/keys2,\n"
      "         reload: {unit: opendkim.service}, milter: \"inet:2@127.0.0.1\"}\n"
      "  command: {key-table: /w, signing-table: /x, key-directory: /k/%d/keys3, milter: \"local:/m\",\n"
      "            reload: {command: [/bin/kill, -s, USR1, \"1\"]}}\n"
      "domains:\n"
      "  Example.ORG.: {policy: full, publisher: full, signers: [unit], senders: [\"@example.org\", "
      "\"*@*.example.org\"],\n"
      "                 zone: Example.ORG.}\n");
  assert_string_equal(policy->state, "/s/state.db");
  const struct policy_rules *rules = &policy->rules[0];
  assert_int_equal(rules->key_count, 2);
  assert_string_equal(rules->keys[0].slot, "one");
  assert_int_equal(rules->keys[0].bits, 4096);
  assert_string_equal(rules->keys[0].selector, "a%Y");
  assert_string_equal(rules->keys[1].slot, "two");
  assert_int_equal(rules->keys[1].bits, 3072);
  assert_string_equal(rules->keys[1].selector, "b%Y");
  assert_int_equal(rules->rotate_every, 9 * DAY);
  assert_int_equal(rules->standby, 2);
  assert_int_equal(rules->publish_ttl, 5 * MINUTE);
  assert_int_equal(rules->publish_safety, 90);
  assert_int_equal(rules->confirm_sightings, 5);
  assert_int_equal(rules->confirm_every, 90);
  assert_int_equal(rules->confirm_warn_after, 2 * HOUR);
  assert_int_equal(rules->queue_lifetime, DAY);
  assert_int_equal(rules->queue_backoff, HOUR);
  assert_int_equal(rules->drain, 2 * HOUR);
  assert_int_equal(rules->verify_window, 3 * HOUR);
  assert_int_equal(rules->retire_safety, 4 * HOUR);
  assert_int_equal(rules->tombstone, 5 * HOUR);
  assert_int_equal(rules->private_key, PRIVATE_KEY_ARCHIVE);
  assert_string_equal(rules->archive_directory, "/a/%d");
  const struct policy_publisher *publisher = &policy->publishers[0];
  assert_string_equal(publisher->server, "[2001:db8::1]:5300");
  assert_string_equal(publisher->tsig_file, "credential:tsig");
  assert_string_equal(publisher->zone, "example.com");
  assert_int_equal(publisher->server_count, 2);
  assert_string_equal(publisher->servers[1], "192.0.2.2:5353");
  assert_int_equal(publisher->ignore_server_count, 1);
  assert_string_equal(publisher->ignore_servers[0], "ns3.example.net");
  assert_int_equal(publisher->resolver_count, 1);
  const struct policy_signer *signer = &policy->signers[0];
  assert_int_equal(signer->signing_table_format, SIGNING_TABLE_FILE);
  assert_string_equal(signer->signing_table, "/s");
  assert_string_equal(signer->key_directory, "/k/%d/keys");
  assert_string_equal(signer->key_name, "%d");
  assert_string_equal(signer->owner, "root:opendkim");
  assert_int_equal(signer->mode, 0640);
  assert_int_equal(signer->reload, RELOAD_PID_FILE);
  assert_string_equal(signer->reload_target, "/run/p.pid");
  assert_int_equal(signer->reload_timeout, 5);
  assert_string_equal(signer->milter, "inet6:1@::1");
  assert_true(policy->signers[1].multiple_signatures);
  assert_int_equal(policy->signers[1].reload, RELOAD_UNIT);
  assert_string_equal(policy->signers[1].reload_target, "opendkim.service");
  assert_int_equal(policy->signers[2].reload, RELOAD_COMMAND);
  assert_int_equal(policy->signers[2].reload_command_count, 4);
  assert_string_equal(policy->signers[2].reload_command[2], "USR1");
  const struct policy_domain *domain = &policy->domains[0];
  assert_string_equal(domain->name, "example.org");
  assert_string_equal(domain->zone, "example.org");
  assert_int_equal(domain->signer_count, 1);
  assert_int_equal(domain->signers[0], 1);
  assert_int_equal(domain->sender_count, 2);
  assert_string_equal(domain->senders[0], "*@example.org");
  assert_int_equal(domain->place.line, 25);
  assert_int_equal(domain->place.column, 3);
}

static void test_policy__domains_are_sorted_and_joined_wherever_they_stand(void **state) {
  (void)state;
  static const char domains[] = "domains:\n  b.example: {}\n  a.example: {policy: other}\n";
  CLEANUP_FREE char *before = text_format("%s%s", domains, DEFAULTS HEAD);
  CLEANUP_FREE char *after = text_format("%s%s", HEAD DEFAULTS, domains);
  const char *const texts[] = {before, after};
  for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
    CLEANUP(free_policy) struct policy *policy = parse(texts[i]);
    assert_int_equal(policy->domain_count, 2);
    assert_string_equal(policy->domains[0].name, "a.example");
    assert_string_equal(policy->domains[1].name, "b.example");
    assert_string_equal(policy->rules[policy->domains[0].rules].name, "other");
    assert_string_equal(policy->rules[policy->domains[1].rules].name, "standard");
    assert_int_equal(policy->domains[1].publisher, 0);
    assert_int_equal(policy->domains[1].signer_count, 1);
    assert_int_equal(policy->domains[1].sender_count, 0);
    assert_null(policy->domains[1].senders);
  }
}

static void test_policy__byte_order_mark_and_document_marks_are_fine(void **state) {
  (void)state;
  CLEANUP(free_policy) struct policy *policy = parse("\xef\xbb\xbf---\n" HEAD DEFAULTS "domains: {}\n...\n");
  assert_int_equal(policy->domain_count, 0);
}

static void test_policy__domains_come_from_files_beside_the_policy(void **state) {
  (void)state;
  CLEANUP(folder_remove) struct folder folder;
  folder_make(&folder);
  CLEANUP_FREE char *path = folder_write(
      &folder, "policy.yaml", HEAD DEFAULTS "domains-from: [mapping.yaml, list, empty]\ndomains: {own.example: {}}\n");
  CLEANUP_FREE char *mapping =
      folder_write(&folder, "mapping.yaml", "m.example: {policy: other, zone: example}\nn.example:\n");
  CLEANUP_FREE char *list = folder_write(&folder, "list", "# comment\n- l.example\n- K.example.\n");
  CLEANUP_FREE char *empty = folder_write(&folder, "empty", "");
  CLEANUP(free_policy) struct policy *policy = load(path);
  assert_int_equal(policy->domain_count, 5);
  assert_string_equal(policy->domains[0].name, "k.example");
  assert_string_equal(policy->rules[find_domain(policy, "m.example")->rules].name, "other");
  assert_string_equal(find_domain(policy, "m.example")->zone, "example");
  assert_int_equal(policy->file_count, 4);
  assert_string_equal(policy->files[0], path);
  assert_string_equal(policy->files[1], mapping);
  assert_string_equal(policy->files[2], list);
  assert_string_equal(policy->files[3], empty);
  assert_int_equal(find_domain(policy, "l.example")->place.file, 2);
  assert_int_equal(find_domain(policy, "l.example")->place.line, 2);
}

/* SHA-256 over texts, one behind the other. */
static void digest_of(const char *const *texts, size_t count, char ret_digest[65]) {
  struct buffer all = BUFFER_WITH_MAXIMUM(65536);
  for (size_t i = 0; i < count; i++) buffer_add_text(&all, texts[i]);
  uint8_t octets[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  assert_int_equal(EVP_Digest(all.data, all.size, octets, &size, EVP_sha256(), NULL), 1);
  buffer_release(&all);
  for (unsigned i = 0; i < size; i++) snprintf(ret_digest + 2 * i, 3, "%02x", octets[i]);
}

static void test_policy__digest_is_over_all_files_in_order(void **state) {
  (void)state;
  static const char *const texts[] = {HEAD DEFAULTS "domains-from: [a, b]\n", "- a.example\n", "- b.example\n# end"};
  CLEANUP(folder_remove) struct folder folder;
  folder_make(&folder);
  CLEANUP_FREE char *path = folder_write(&folder, "policy.yaml", texts[0]);
  CLEANUP_FREE char *a = folder_write(&folder, "a", texts[1]);
  CLEANUP_FREE char *b = folder_write(&folder, "b", texts[2]);
  CLEANUP(free_policy) struct policy *policy = load(path);
  char expected[65];
  digest_of(texts, ARRAY_SIZE(texts), expected);
  assert_string_equal(policy->digest, expected);
}

/* The one finding of a policy that names the files a and b. */
static void assert_file_finding(const char *a, const char *b, const char *file, unsigned line, unsigned column,
                                const char *message) {
  CLEANUP(folder_remove) struct folder folder;
  folder_make(&folder);
  CLEANUP_FREE char *path =
      folder_write(&folder, "policy.yaml", HEAD DEFAULTS "domains-from:\n  - a\n  - b\ndomains: {own.example: {}}\n");
  CLEANUP_FREE char *path_a = a ? folder_write(&folder, "a", a) : NULL;
  CLEANUP_FREE char *path_b = folder_write(&folder, "b", b);
  CLEANUP_FREE char *expected = text_format("%s/%s", folder.path, file);
  CLEANUP(policy_findings_release) struct policy_findings findings = {0};
  struct policy *policy = NULL;
  struct error error = {0};
  assert_int_equal(policy_load(path, &policy, &findings, &error), ERROR_CONFIG);
  if (findings.count != 1) print_findings(&findings);
  assert_int_equal(findings.count, 1);
  const struct policy_finding *finding = &findings.items[0];
  if (!text_equal(finding->file, expected) || finding->place.line != line || finding->place.column != column ||
      !strstr(finding->message, message)) {
    print_findings(&findings);
    fail_msg("expected %s:%u:%u ... %s", expected, line, column, message);
  }
}

static void test_policy__findings_in_files_of_domains_name_the_file(void **state) {
  (void)state;
  assert_file_finding("- one\n", "", "a", 1, 3, "only one label");
  assert_file_finding("- one.example\n", "- two.example\n- one.example\n", "b", 2, 3,
                      "one.example is there twice, first at ");
  assert_file_finding("- own.example\n", "", "a", 1, 3, "/policy.yaml:8:11; remove one");
  assert_file_finding("- Own.Example.\n", "", "a", 1, 3, "own.example is there twice");
  assert_file_finding("domains:\n  one.example: {}\n", "", "a", 1, 1, "remove the line \"domains:\"");
  assert_file_finding("one.example: {polici: standard}\n", "", "a", 1, 15, "did you mean \"policy\"?");
  assert_file_finding("one.example\ntwo.example\n", "", "a", 1, 1, "one domain a line");
  assert_file_finding("- {one.example: {}}\n", "", "a", 1, 3, "names only");
  assert_file_finding("- one.example\n---\n- two.example\n", "", "a", 2, 1, "another document");
  assert_file_finding("- [\n", "", "a", 2, 1, "not YAML");
  assert_file_finding(NULL, "- one.example\n", "policy.yaml", 6, 5, "domains-from: cannot open");
}

static void test_policy__missing_file_is_told_apart_from_a_wrong_one(void **state) {
  (void)state;
  CLEANUP(folder_remove) struct folder folder;
  folder_make(&folder);
  CLEANUP_FREE char *path = text_format("%s/none.yaml", folder.path);
  struct policy *policy = NULL;
  struct policy_findings findings = {.count = 1};
  struct error error = {0};
  assert_int_equal(policy_load(path, &policy, &findings, &error), ERROR_NOT_FOUND);
  assert_int_equal(findings.count, 0);
  assert_int_equal(policy_load(folder.path, &policy, &findings, &error), ERROR_INVALID);
  assert_null(policy);
}

static void test_policy__fifo_is_refused_and_does_not_block(void **state) {
  (void)state;
  CLEANUP(folder_remove) struct folder folder;
  folder_make(&folder);
  CLEANUP_FREE char *path = text_format("%s/fifo", folder.path);
  assert_int_equal(mkfifo(path, 0600), 0);
  assert_true(text_copy(folder.names[folder.count++], sizeof(folder.names[0]), "fifo"));
  struct policy *policy = NULL;
  struct error error = {0};
  assert_int_equal(policy_load(path, &policy, NULL, &error), ERROR_INVALID);
}

static void test_policy__file_over_the_limit_is_refused(void **state) {
  (void)state;
  CLEANUP(folder_remove) struct folder folder;
  folder_make(&folder);
  CLEANUP_FREE char *path = folder_write(&folder, "large.yaml", "");
  assert_int_equal(truncate(path, (off_t)POLICY_FILE_MAX + 1), 0); /* a hole: takes no room */
  struct policy *policy = NULL;
  struct error error = {0};
  assert_int_equal(policy_load(path, &policy, NULL, &error), ERROR_LIMIT);
}

static void test_policy__shipped_policy_for_a_small_server(void **state) {
  (void)state;
  CLEANUP(free_policy) struct policy *policy = load("policies/small-server.yaml");
  assert_int_equal(policy->domain_count, 1);
  assert_string_equal(policy->signers[0].key_directory, "/etc/dkimkeys/keys/%d");
  assert_int_equal(policy->signers[0].reload, RELOAD_UNIT);
}

static void test_policy__shipped_policy_for_several_domains(void **state) {
  (void)state;
  CLEANUP(free_policy) struct policy *policy = load("policies/several-domains.yaml");
  assert_int_equal(policy->domain_count, 5);
  assert_int_equal(policy->rules[find_domain(policy, "news.example.com")->rules].key_count, 2);
  assert_int_equal(policy->rules[find_domain(policy, "lab.example.com")->rules].rotate_every, TIME_NEVER);
  assert_string_equal(policy->rules[find_domain(policy, "example.org")->rules].name, "standard");
}

static void test_policy__shipped_policy_for_a_provider(void **state) {
  (void)state;
  CLEANUP(free_policy) struct policy *policy = load("policies/provider.yaml");
  assert_int_equal(policy->domain_count, 4);
  assert_int_equal(policy->file_count, 2);
  assert_string_equal(policy->publishers[0].zone, "dkim.provider.example");
  assert_int_equal(policy->publishers[0].server_count, 3);
  assert_int_equal(policy->signers[0].signing_table_format, SIGNING_TABLE_FILE);
  assert_int_equal(policy->signers[0].reload, RELOAD_COMMAND);
}

static void test_policy__directories_hold_the_domain(void **state) {
  (void)state;
  CLEANUP_FREE char *path = NULL;
  struct error error = {0};
  assert_int_equal(policy_directory("/keys/%d/x", "example.com", &path, &error), 0);
  assert_string_equal(path, "/keys/example.com/x");
  CLEANUP_FREE char *fixed = NULL;
  assert_int_equal(policy_directory("/keys", "example.com", &fixed, &error), 0);
  assert_string_equal(fixed, "/keys");
  char *none = NULL;
  assert_int_equal(policy_directory("/keys/%s", "example.com", &none, &error), ERROR_INVALID);
  assert_int_equal(policy_directory("/keys/%", "example.com", &none, &error), ERROR_INVALID);
  assert_null(none);
  char long_template[5000];
  memset(long_template, '/', sizeof(long_template));
  long_template[sizeof(long_template) - 1] = '\0';
  assert_int_equal(policy_directory(long_template, "example.com", &none, &error), ERROR_LIMIT);
  assert_null(none);
}

static void test_policy__key_path_is_named_after_the_selector(void **state) {
  (void)state;
  char directory[] = "/keys/%d";
  char name[] = "local";
  const struct policy_signer signer = {.name = name, .key_directory = directory};
  CLEANUP_FREE char *path = NULL;
  struct error error = {0};
  assert_int_equal(policy_signer_key_path(&signer, "example.com", "server-20260124", &path, &error), 0);
  assert_string_equal(path, "/keys/example.com/server-20260124.private");
}

/* A large policy costs memory for its domains and nothing else that grows: many are read without trouble. */
static void test_policy__twenty_thousand_domains_are_read(void **state) {
  (void)state;
  enum { DOMAINS = 20000 };
  struct buffer text = BUFFER_WITH_MAXIMUM(8 * 1024 * 1024);
  buffer_add_text(&text, HEAD DEFAULTS "domains:\n");
  for (int i = 0; i < DOMAINS; i++)
    buffer_format(&text, "  d%d.example: {senders: [\"*@d%d.example\"]}\n", DOMAINS - i, DOMAINS - i);
  CLEANUP(free_policy) struct policy *policy = parse((const char *)text.data);
  buffer_release(&text);
  assert_int_equal(policy->domain_count, DOMAINS);
  for (int i = 1; i < DOMAINS; i++) assert_true(strcmp(policy->domains[i - 1].name, policy->domains[i].name) < 0);
  assert_string_equal(find_domain(policy, "d777.example")->senders[0], "*@d777.example");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_policy__what_is_not_given_has_the_documented_default),
      cmocka_unit_test(test_policy__everything_that_is_given_is_kept),
      cmocka_unit_test(test_policy__domains_are_sorted_and_joined_wherever_they_stand),
      cmocka_unit_test(test_policy__byte_order_mark_and_document_marks_are_fine),
      cmocka_unit_test(test_policy__domains_come_from_files_beside_the_policy),
      cmocka_unit_test(test_policy__digest_is_over_all_files_in_order),
      cmocka_unit_test(test_policy__findings_in_files_of_domains_name_the_file),
      cmocka_unit_test(test_policy__missing_file_is_told_apart_from_a_wrong_one),
      cmocka_unit_test(test_policy__fifo_is_refused_and_does_not_block),
      cmocka_unit_test(test_policy__file_over_the_limit_is_refused),
      cmocka_unit_test(test_policy__shipped_policy_for_a_small_server),
      cmocka_unit_test(test_policy__shipped_policy_for_several_domains),
      cmocka_unit_test(test_policy__shipped_policy_for_a_provider),
      cmocka_unit_test(test_policy__directories_hold_the_domain),
      cmocka_unit_test(test_policy__key_path_is_named_after_the_selector),
      cmocka_unit_test(test_policy__twenty_thousand_domains_are_read),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
