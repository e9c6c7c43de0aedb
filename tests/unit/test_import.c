/* What import makes of tables, answers of servers and proofs: the findings and the plan, and what is written. Tables are texts, servers and signers are played. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/import.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"

enum { NOW = 1800000000 /* 2027-01-15 */, DAY = 86400, KEYS_MAX = 64 };

#define HEAD                                                                                                           \
  "policies: {standard: {selector: \"server-%%Y%%m%%d\", rotate-every: 90d}}\n"                                        \
  "publishers: {primary: {server: \"127.0.0.1:53\"}}\n"                                                                \
  "signers:\n"                                                                                                         \
  "  local: {key-table: /k/KeyTable, signing-table: \"%s:/k/SigningTable\", multiple-signatures: %s, %skey-directory: " \
  "/k/keys/%%d, milter: \"unix:/k/sock\"}\n"                                                                           \
  "  other: {key-table: /o/KeyTable, signing-table: \"refile:/o/SigningTable\", key-directory: /o/keys/%%d, milter: "  \
  "\"unix:/o/sock\"}\n"                                                                                                \
  "domain-defaults: {policy: standard, publisher: primary, signers: [local]}\n"                                        \
  "domains: {%s}\n"

struct rig {
  struct policy *policy;
  struct cli cli;
  struct cli_arguments arguments;
  struct import import;
  struct error error;
  uint8_t public_halves[KEYS_MAX][32];
  size_t half_count;
};

struct scene {
  const char *domains;
  const char *format;   /* of the SigningTable; NULL: refile */
  bool multiple;
  const char *key_name; /* "key-name: ..., " */
};

static struct policy *parse_policy(const struct scene *scene) {
  CLEANUP(policy_findings_release) struct policy_findings findings = {0};
  struct error error = {0};
  struct policy *policy = NULL;
  CLEANUP_FREE char *text = text_format(HEAD, scene->format ? scene->format : "refile", scene->multiple ? "yes" : "no",
                                        scene->key_name ? scene->key_name : "", scene->domains);
  const int result = policy_parse("p.yaml", text, strlen(text), &policy, &findings, &error);
  for (size_t i = 0; i < findings.count; i++) print_error("%u: %s\n", findings.items[i].place.line, findings.items[i].message);
  assert_int_equal(result, 0);
  return policy;
}

static void rig_open(struct rig *rig, const struct scene *scene) {
  *rig = (struct rig){.policy = parse_policy(scene)};
  rig->cli = (struct cli){.arguments = &rig->arguments, .out = stdout, .err = stderr};
  struct import *import = &rig->import;
  *import = (struct import){.cli = &rig->cli, .policy = rig->policy, .now = NOW, .error = &rig->error};
  import->signers = calloc(rig->policy->signer_count, sizeof *import->signers);
  import->domains = calloc(rig->policy->domain_count, sizeof *import->domains);
  assert_true(import->signers && import->domains);
  for (size_t i = 0; i < rig->policy->signer_count; i++) {
    import->signers[i] = (struct import_signer){.import = import, .policy = &rig->policy->signers[i], .used = true};
    import->signers[i].survey.keys = calloc(KEYS_MAX, sizeof(struct survey_key));
  }
  for (size_t i = 0; i < rig->policy->domain_count; i++) {
    import->domains[i].policy = &rig->policy->domains[i];
    snprintf(import->domains[i].everybody, sizeof import->domains[i].everybody, "*@%s", rig->policy->domains[i].name);
  }
  import->domain_count = rig->policy->domain_count;
}

static void rig_close(struct rig *rig) {
  struct import *import = &rig->import;
  for (size_t i = 0; i < rig->policy->signer_count; i++) {
    struct import_signer *signer = &import->signers[i];
    survey_release(&signer->survey);
    free(signer->by_name);
    free(signer->by_domain);
    free(signer->by_path);
    free(signer->by_value);
  }
  for (size_t i = 0; i < import->key_count; i++) {
    for (size_t j = 0; j < import->keys[i].server_count; j++) free(import->keys[i].servers[j].record);
    free(import->keys[i].servers);
    free(import->keys[i].expected);
  }
  for (size_t i = 0; i < import->domain_count; i++)
    for (size_t j = 0; j < POLICY_SIGNERS_MAX; j++) free(import->domains[i].senders[j]);
  for (size_t i = 0; i < import->version_count; i++) {
    free(import->versions[i]->signer.key_directory);
    free(import->versions[i]->signer.key_name);
    free(import->versions[i]);
  }
  free(import->keys);
  free(import->domains);
  free(import->signers);
  store_close(import->session.store);
  policy_free(rig->policy);
}

/* ---- tables ---- */

/* "name domain:selector:path" as line number line of the signer's KeyTable; line 0: a file that no table names. The key is an Ed25519 one of its own for each path. */
static struct survey_key *add_key(struct rig *rig, size_t signer, unsigned line, const char *entry) {
  struct survey *survey = &rig->import.signers[signer].survey;
  struct survey_key *key = &survey->keys[survey->count++];
  char name[100], domain[100], selector[100], path[100];
  assert_int_equal(sscanf(entry, "%99s %99[^:]:%99[^:]:%99s", name, domain, selector, path), 4);
  *key = (struct survey_key){.line = line,
                             .place = line ? SURVEY_FILE : SURVEY_UNNAMED,
                             .literal = line > 0,
                             .name = text_duplicate(line ? name : ""),
                             .domain = text_duplicate(domain),
                             .selector = text_duplicate(selector),
                             .path = text_duplicate(path),
                             .problem = text_duplicate(""),
                             .modified = NOW - 7 * DAY};
  key->public_half = (struct keypair_public){.algorithm = KEY_ALGORITHM_ED25519, .bits = 256, .public_key_size = 32};
  key->public_half.public_key = malloc(32);
  assert_non_null(key->public_half.public_key);
  for (size_t i = 0; i < 32; i++) key->public_half.public_key[i] = (uint8_t)(path[i % strlen(path)] + (int)i);
  return key;
}

/* Everything up to the answers of servers. */
static void find(struct rig *rig, const char *signing, const char *other) {
  struct import *import = &rig->import;
  const char *const texts[] = {signing, other ? other : ""};
  for (size_t i = 0; i < 2; i++) {
    const bool refile = rig->policy->signers[i].signing_table_format == SIGNING_TABLE_REFILE;
    assert_int_equal(table_parse(refile ? TABLE_SIGNING_REFILE : TABLE_SIGNING_FILE, "/k/SigningTable", text_duplicate(texts[i]), strlen(texts[i]),
                                 &import->signers[i].survey.signing, &rig->error),
                     0);
    assert_int_equal(import_index(&import->signers[i], &rig->error), 0);
  }
  assert_int_equal(import_find_keys(import, &rig->error), 0);
  for (size_t i = 0; i < import->domain_count; i++) assert_int_equal(import_find_signing(import, &import->domains[i], &rig->error), 0);
}

static struct import_domain *domain_of(struct rig *rig, const char *name) {
  for (size_t i = 0; i < rig->import.domain_count; i++)
    if (text_equal(rig->import.domains[i].policy->name, name)) return &rig->import.domains[i];
  fail_msg("no domain %s", name);
  return NULL;
}

static struct import_key *key_of(struct rig *rig, const char *domain_name, const char *selector) {
  struct import_domain *domain = domain_of(rig, domain_name);
  for (size_t i = 0; i < domain->key_count; i++)
    if (text_equal(domain->keys[i].selector, selector)) return &domain->keys[i];
  fail_msg("no key %s of %s", selector, domain_name);
  return NULL;
}

/* ---- the world's answers ---- */

/* Two servers say this; NULL: NXDOMAIN. */
static void serve(struct import_key *key, const char *first, const char *second) {
  const char *const texts[] = {first, second};
  for (size_t i = 0; i < key->server_count; i++) free(key->servers[i].record);
  free(key->servers);
  key->servers = calloc(2, sizeof *key->servers);
  key->server_count = 2;
  text_copy(key->zone, sizeof key->zone, "zone.example");
  for (size_t i = 0; i < 2; i++) {
    struct observe_server *seen = &key->servers[i].seen;
    *seen = (struct observe_server){.verdict = OBSERVE_WRONG, .at = NOW, .ttl = texts[i] ? 600 : -1, .ttl_negative = 300};
    snprintf(seen->host, sizeof seen->host, "ns%zu.example", i + 1);
    snprintf(seen->address, sizeof seen->address, "192.0.2.%zu:53", i + 1);
    text_copy(seen->answer, sizeof seen->answer, texts[i] ? texts[i] : "NXDOMAIN");
    key->servers[i].record = text_duplicate(texts[i]);
  }
}

/* Every key has the record of its own on all servers, and every signer proves what its tables say. */
static void all_is_well(struct rig *rig) {
  for (size_t i = 0; i < rig->import.key_count; i++) serve(&rig->import.keys[i], rig->import.keys[i].expected, rig->import.keys[i].expected);
  for (size_t i = 0; i < rig->import.domain_count; i++) rig->import.domains[i].proved = true;
}

static void assert_fate(struct rig *rig, const char *domain, const char *selector, enum import_fate fate) {
  const struct import_key *key = key_of(rig, domain, selector);
  if (key->fate != fate) fail_msg("%s of %s: fate %d and not %d: %s", selector, domain, key->fate, fate, key->why);
}

static void assert_left(struct rig *rig, const char *domain, const char *selector, const char *why, const char *remedy) {
  const struct import_key *key = key_of(rig, domain, selector);
  assert_fate(rig, domain, selector, IMPORT_LEFT);
  if (!strstr(key->why, why)) fail_msg("\"%s\" does not say: %s", key->why, why);
  if (!strstr(key->remedy, remedy)) fail_msg("\"%s\" does not say: %s", key->remedy, remedy);
}

#define OLD "a-old._domainkey.a.test"
#define NEW "a-new._domainkey.a.test"
static const struct scene ONE = {.domains = "a.test: {}"};

/* What the script leaves: the oldest line signs. */
static void open_script(struct rig *rig, const struct scene *scene) {
  rig_open(rig, scene);
  add_key(rig, 0, 2, "server-20260101._domainkey.a.test a.test:server-20260101:/k/keys/a.test/server-20260101.private");
  add_key(rig, 0, 4, "server-20260401._domainkey.a.test a.test:server-20260401:/k/keys/a.test/server-20260401.private");
  add_key(rig, 0, 6, "server-20260701._domainkey.a.test a.test:server-20260701:/k/keys/a.test/server-20260701.private");
}
#define SCRIPT_SIGNING                                                                                                 \
  "\n*@a.test server-20260101._domainkey.a.test\n\n*@a.test server-20260401._domainkey.a.test\n\n"                     \
  "*@a.test server-20260701._domainkey.a.test\n"

static void test_import__of_a_line_for_each_run_the_oldest_signs(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  open_script(&rig, &ONE);
  find(&rig, SCRIPT_SIGNING, NULL);
  all_is_well(&rig);
  serve(key_of(&rig, "a.test", "server-20260701"), NULL, NULL);
  import_judge(&rig.import);
  assert_fate(&rig, "a.test", "server-20260101", IMPORT_ACTIVE);
  assert_fate(&rig, "a.test", "server-20260401", IMPORT_RETIRED);
  assert_fate(&rig, "a.test", "server-20260701", IMPORT_RETIRED);
  const struct import_key *signs = domain_of(&rig, "a.test")->signs, *newest = key_of(&rig, "a.test", "server-20260701");
  assert_string_equal(signs->selector, "server-20260101");
  assert_string_equal(signs->since_by, "by its name");
  assert_int_equal(signs->since, INT64_C(1767225600)); /* 2026-01-01 */
  assert_true(signs->overdue && signs->served && signs->belongs && signs->serving == 2 && !signs->replace);
  assert_false(newest->served);
  assert_string_equal(newest->record, newest->expected);
  assert_string_equal(domain_of(&rig, "a.test")->lines, "SigningTable line 2 (*@a.test)");
}

static void test_import__in_a_file_table_the_first_entry_of_a_domain_signs(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  open_script(&rig, &(struct scene){.domains = "a.test: {}", .format = "file"});
  find(&rig, "a.test server-20260401._domainkey.a.test\na.test server-20260101._domainkey.a.test\n", NULL);
  all_is_well(&rig);
  import_judge(&rig.import);
  assert_fate(&rig, "a.test", "server-20260401", IMPORT_ACTIVE);
  assert_fate(&rig, "a.test", "server-20260101", IMPORT_RETIRED);
}

static void test_import__what_the_signer_does_not_do_is_not_adopted(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  open_script(&rig, &ONE);
  find(&rig, SCRIPT_SIGNING, NULL);
  all_is_well(&rig);
  struct import_domain *domain = domain_of(&rig, "a.test");
  error_set(&domain->proof, ERROR_PROOF, "it signs with s=server-20260401");
  error_remedy(&domain->proof, "reload it");
  import_judge(&rig.import);
  assert_left(&rig, "a.test", "server-20260101", "s=server-20260401", "reload it");
  assert_left(&rig, "a.test", "server-20260401", "waits for the key that signs", "");
}

static void test_import__without_a_proof_nothing_signs(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  open_script(&rig, &ONE);
  find(&rig, SCRIPT_SIGNING, NULL);
  all_is_well(&rig);
  domain_of(&rig, "a.test")->proved = false;
  import_judge(&rig.import);
  assert_left(&rig, "a.test", "server-20260101", "was not asked", "import again");
}

static void test_import__entries_that_nothing_names_are_retired_also_without_a_key_that_signs(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  open_script(&rig, &ONE);
  find(&rig, "# none\n", NULL);
  all_is_well(&rig);
  import_judge(&rig.import);
  assert_null(domain_of(&rig, "a.test")->signs);
  assert_string_equal(domain_of(&rig, "a.test")->unsigned_sender, "*@a.test");
  assert_fate(&rig, "a.test", "server-20260101", IMPORT_RETIRED);
}

static void test_import__a_line_that_was_appended_twice_is_one_key(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  rig_open(&rig, &ONE);
  add_key(&rig, 0, 1, OLD " a.test:a-old:/k/keys/a.test/a-old.private");
  add_key(&rig, 0, 3, OLD " a.test:a-old:/k/keys/a.test/a-old.private");
  find(&rig, "*@a.test " OLD "\n*@a.test " OLD "\n", NULL);
  all_is_well(&rig);
  import_judge(&rig.import);
  assert_int_equal(rig.import.key_count, 1);
  assert_int_equal(key_of(&rig, "a.test", "a-old")->copies, 1);
  assert_fate(&rig, "a.test", "a-old", IMPORT_ACTIVE);
}

static void test_import__one_file_of_two_domains_is_told(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  rig_open(&rig, &(struct scene){.domains = "a.test: {}, b.test: {}"});
  add_key(&rig, 0, 1, "a a.test:s:/k/shared");
  add_key(&rig, 0, 2, "b b.test:s:/k/shared");
  add_key(&rig, 0, 3, "c b.test:t:/k/alone");
  find(&rig, "*@a.test a\n*@b.test b\n", NULL);
  all_is_well(&rig);
  import_judge(&rig.import);
  const struct import_signer *signer = &rig.import.signers[0];
  const struct survey_key *sharer = import_find_sharer(signer, key_of(&rig, "a.test", "s")->at[0]);
  assert_true(sharer && text_equal(sharer->domain, "b.test") && sharer->line == 2);
  assert_null(import_find_sharer(signer, key_of(&rig, "b.test", "t")->at[0]));
  assert_fate(&rig, "a.test", "s", IMPORT_ACTIVE);
  assert_fate(&rig, "b.test", "s", IMPORT_ACTIVE);
}

static void test_import__a_line_for_more_than_the_domain_is_left_with_the_one_thing_to_do(void **state) {
  (void)state;
  static const char *const patterns[] = {"*", "*@*", "*@*.test", "*@a.*"};
  for (size_t i = 0; i < ARRAY_SIZE(patterns); i++) {
    CLEANUP(rig_close) struct rig rig;
    CLEANUP_FREE char *signing = text_format("%s %s\n", patterns[i], OLD);
    rig_open(&rig, &ONE);
    add_key(&rig, 0, 1, OLD " a.test:a-old:/k/keys/a.test/a-old.private");
    add_key(&rig, 0, 2, NEW " a.test:a-new:/k/keys/a.test/a-new.private");
    find(&rig, signing, NULL);
    all_is_well(&rig);
    import_judge(&rig.import);
    assert_left(&rig, "a.test", "a-old", "line 1", "write \"*@a.test " OLD "\" in its place");
    assert_left(&rig, "a.test", "a-new", "waits", "");
  }
}

static void test_import__in_a_file_table_the_line_of_the_domain_will_come_first_anyway(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  rig_open(&rig, &(struct scene){.domains = "a.test: {}, b.test: {}", .format = "file"});
  struct survey_key *a = add_key(&rig, 0, 1, "all a.test:all:/k/all");
  struct survey_key *b = add_key(&rig, 0, 1, "all b.test:all:/k/all");
  a->every = b->every = true;
  a->literal = b->literal = false;
  find(&rig, "* all\n", NULL);
  all_is_well(&rig);
  import_judge(&rig.import);
  assert_fate(&rig, "a.test", "all", IMPORT_ACTIVE);
  assert_fate(&rig, "b.test", "all", IMPORT_ACTIVE);
}

static void test_import__an_entry_for_any_domain_is_a_key_of_those_with_a_line(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  rig_open(&rig, &(struct scene){.domains = "a.test: {}, b.test: {}, c.test: {}"});
  struct survey_key *a = add_key(&rig, 0, 1, "all a.test:all:/k/all");
  struct survey_key *b = add_key(&rig, 0, 1, "all b.test:all:/k/all");
  struct survey_key *c = add_key(&rig, 0, 1, "all c.test:all:/k/all");
  a->every = b->every = c->every = true;
  a->literal = b->literal = c->literal = false;
  find(&rig, "*@a.test all\n*@*c.test all\n", NULL);
  all_is_well(&rig);
  import_judge(&rig.import);
  assert_fate(&rig, "a.test", "all", IMPORT_ACTIVE);
  assert_fate(&rig, "b.test", "all", IMPORT_UNRELATED);
  assert_left(&rig, "c.test", "all", "line 2", "write \"*@c.test all\" above that line");
}

static void test_import__a_key_that_signs_for_other_senders_too_is_left(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  open_script(&rig, &ONE);
  find(&rig, "info@sub.a.test server-20260101._domainkey.a.test\n*@a.test server-20260101._domainkey.a.test\nx@a.test server-20260401._domainkey.a.test\n",
       NULL);
  all_is_well(&rig);
  import_judge(&rig.import);
  assert_left(&rig, "a.test", "server-20260101", "line 1, has it for \"info@sub.a.test\"", "add that pattern to the senders");
}

static void test_import__senders_of_the_policy_are_its_own(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  rig_open(&rig, &(struct scene){.domains = "a.test: {senders: [\"*@a.test\", \"info@sub.a.test\"]}"});
  add_key(&rig, 0, 1, OLD " a.test:a-old:/k/keys/a.test/a-old.private");
  find(&rig, "info@sub.a.test " OLD "\n*@a.test " OLD "\n", NULL);
  all_is_well(&rig);
  import_judge(&rig.import);
  assert_fate(&rig, "a.test", "a-old", IMPORT_ACTIVE);
  assert_int_equal(domain_of(&rig, "a.test")->sender_counts[0], 2);
}

static void test_import__senders_that_two_keys_sign_for_are_left(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  rig_open(&rig, &(struct scene){.domains = "a.test: {senders: [\"*@a.test\", \"info@sub.a.test\"]}"});
  add_key(&rig, 0, 1, OLD " a.test:a-old:/k/keys/a.test/a-old.private");
  add_key(&rig, 0, 2, NEW " a.test:a-new:/k/keys/a.test/a-new.private");
  find(&rig, "info@sub.a.test " OLD "\n*@a.test " NEW "\n", NULL);
  all_is_well(&rig);
  import_judge(&rig.import);
  assert_left(&rig, "a.test", "a-old", "two keys sign for it", "import again");
}

static void test_import__two_signers_with_two_keys_are_left_and_with_one_key_adopted(void **state) {
  (void)state;
  for (int same = 0; same < 2; same++) {
    CLEANUP(rig_close) struct rig rig;
    rig_open(&rig, &(struct scene){.domains = "a.test: {signers: [local, other]}"});
    add_key(&rig, 0, 1, OLD " a.test:a-old:/k/keys/a.test/a-old.private");
    add_key(&rig, 1, 1, same ? OLD " a.test:a-old:/o/keys/a.test/a-old.private" : NEW " a.test:a-new:/o/keys/a.test/a-new.private");
    find(&rig, "*@a.test " OLD "\n", same ? "*@a.test " OLD "\n" : "*@a.test " NEW "\n");
    all_is_well(&rig);
    import_judge(&rig.import);
    const struct import_key *key = key_of(&rig, "a.test", "a-old");
    if (same) {
      assert_fate(&rig, "a.test", "a-old", IMPORT_ACTIVE);
      assert_true(key->at[0] && key->at[1]);
    } else {
      assert_left(&rig, "a.test", "a-old", "two keys sign for it", "");
    }
  }
}

static void test_import__two_lines_that_both_sign_are_left(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  open_script(&rig, &(struct scene){.domains = "a.test: {}", .multiple = true});
  find(&rig, SCRIPT_SIGNING, NULL);
  all_is_well(&rig);
  import_judge(&rig.import);
  assert_left(&rig, "a.test", "server-20260101", "MultipleSignatures: /k/SigningTable, lines 2 and 4", "remove the line");
}

static void test_import__mail_that_is_signed_for_another_domain_is_told(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  rig_open(&rig, &(struct scene){.domains = "a.test: {}, b.test: {}"});
  add_key(&rig, 0, 1, "x b.test:s:/k/keys/b.test/s.private");
  find(&rig, "*@a.test x\n*@b.test x\n", NULL);
  assert_non_null(strstr(domain_of(&rig, "a.test")->obstacle, "is signed with d=b.test"));
  all_is_well(&rig);
  import_judge(&rig.import);
  assert_left(&rig, "b.test", "s", "line 1, has it for \"*@a.test\"", "");
}

static void test_import__a_line_that_names_nothing_is_told(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  rig_open(&rig, &ONE);
  find(&rig, "*@a.test gone\n", NULL);
  assert_non_null(strstr(domain_of(&rig, "a.test")->obstacle, "line 1, names gone, which /k/KeyTable does not have"));
}

static void test_import__two_values_of_one_selector_are_left(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  rig_open(&rig, &ONE);
  add_key(&rig, 0, 1, "x a.test:s:/k/one");
  add_key(&rig, 0, 2, "y a.test:s:/k/two");
  find(&rig, "*@a.test y\n", NULL);
  all_is_well(&rig);
  import_judge(&rig.import);
  assert_left(&rig, "a.test", "s", "two entries for the selector s, lines 2 and 1", "remove the one that is wrong");
}

static void test_import__a_stable_name_with_a_key_that_cannot_be_switched_is_left(void **state) {
  (void)state;
  for (int literal = 0; literal < 2; literal++) {
    CLEANUP(rig_close) struct rig rig;
    rig_open(&rig, &(struct scene){.domains = "a.test: {}", .key_name = "key-name: \"%d\", "});
    struct survey_key *key = add_key(&rig, 0, 1, "a.test a.test:s:/k/keys/a.test/s.private");
    key->literal = literal == 1;
    find(&rig, "*@a.test a.test\n", NULL);
    all_is_well(&rig);
    import_judge(&rig.import);
    if (literal)
      assert_fate(&rig, "a.test", "s", IMPORT_ACTIVE);
    else
      assert_left(&rig, "a.test", "s", "key-name", "choose key-name");
  }
}

static void test_import__own_key_of_dkimroll_is_not_replaced_by_a_line_of_others(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  open_script(&rig, &ONE);
  find(&rig, SCRIPT_SIGNING, NULL);
  all_is_well(&rig);
  domain_of(&rig, "a.test")->has_active = true;
  text_copy(domain_of(&rig, "a.test")->active, SELECTOR_SIZE, "own");
  import_judge(&rig.import);
  assert_left(&rig, "a.test", "server-20260101", "own key own", "dkimroll prove a.test");
}

/* ---- DNS ---- */

static void test_import__records_are_taken_as_they_are_served(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  open_script(&rig, &ONE);
  find(&rig, SCRIPT_SIGNING, NULL);
  all_is_well(&rig);
  struct import_key *signs = domain_of(&rig, "a.test")->signs;
  CLEANUP_FREE char *odd = text_format("k=ed25519;  n=made by hand; t=s ; %s", strstr(signs->expected, "p="));
  serve(signs, odd, odd);
  import_judge(&rig.import);
  assert_fate(&rig, "a.test", "server-20260101", IMPORT_ACTIVE);
  assert_true(signs->belongs && !signs->replace);
  assert_string_equal(signs->record, odd);
  assert_int_equal(signs->ttl, 600);
}

static void test_import__a_record_of_another_key_is_replaced_at_once(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  open_script(&rig, &ONE);
  find(&rig, SCRIPT_SIGNING, NULL);
  all_is_well(&rig);
  struct import_key *signs = domain_of(&rig, "a.test")->signs;
  const char *other = key_of(&rig, "a.test", "server-20260401")->expected;
  serve(signs, other, other);
  import_judge(&rig.import);
  assert_fate(&rig, "a.test", "server-20260101", IMPORT_ACTIVE);
  assert_true(signs->served && !signs->belongs && signs->replace);
  assert_string_equal(signs->record, other);
}

static void test_import__of_two_records_the_one_that_belongs_counts(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  open_script(&rig, &ONE);
  find(&rig, SCRIPT_SIGNING, NULL);
  all_is_well(&rig);
  struct import_key *signs = domain_of(&rig, "a.test")->signs;
  serve(signs, "v=DKIM1; p=AAAA", signs->expected);
  import_judge(&rig.import);
  assert_true(signs->belongs && signs->serving == 1 && !signs->replace);
  assert_string_equal(signs->record, signs->expected);
}

static void test_import__a_missing_record_of_the_key_that_signs_is_to_be_published(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  open_script(&rig, &ONE);
  find(&rig, SCRIPT_SIGNING, NULL);
  all_is_well(&rig);
  struct import_key *signs = domain_of(&rig, "a.test")->signs;
  serve(signs, NULL, NULL);
  import_judge(&rig.import);
  assert_fate(&rig, "a.test", "server-20260101", IMPORT_ACTIVE);
  assert_true(!signs->served && !signs->replace);
  assert_string_equal(signs->record, signs->expected);
}

static void test_import__what_servers_do_not_tell_is_not_guessed(void **state) {
  (void)state;
  for (int what = 0; what < 3; what++) {
    CLEANUP(rig_close) struct rig rig;
    open_script(&rig, &ONE);
    find(&rig, SCRIPT_SIGNING, NULL);
    all_is_well(&rig);
    struct import_key *signs = domain_of(&rig, "a.test")->signs;
    if (what == 0) error_set(&signs->asked, ERROR_NOT_FOUND, "no zone");
    if (what == 1) serve(signs, NULL, NULL);
    for (size_t i = 0; what == 1 && i < 2; i++) signs->servers[i].seen.verdict = OBSERVE_SILENT;
    if (what == 2) {
      serve(signs, NULL, signs->expected);
      signs->servers[0].seen.ttl = 600;
      text_copy(signs->servers[0].seen.answer, OBSERVE_ANSWER_TEXT_MAX, "2 TXT records");
    }
    import_judge(&rig.import);
    assert_left(&rig, "a.test", "server-20260101", what == 0 ? "no zone" : what == 1 ? "no name server gives" : "2 TXT records", "");
  }
}

static void test_import__a_record_that_says_revoked(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  CLEANUP_FREE char *own = NULL;
  open_script(&rig, &ONE);
  find(&rig, SCRIPT_SIGNING, NULL);
  all_is_well(&rig);
  assert_int_equal(record_build_revoked(KEY_ALGORITHM_ED25519, &own, &rig.error), 0);
  serve(key_of(&rig, "a.test", "server-20260401"), own, own);
  serve(key_of(&rig, "a.test", "server-20260701"), "v=DKIM1;p=", "v=DKIM1;p=");
  import_judge(&rig.import);
  assert_fate(&rig, "a.test", "server-20260401", IMPORT_REVOKED);
  /* In other words than ours it can be replaced and deleted only as what it is. */
  assert_fate(&rig, "a.test", "server-20260701", IMPORT_RETIRED);
}

/* ---- kinds and ages ---- */

static void make_rsa(struct survey_key *key, unsigned bits) {
  EVP_PKEY *pair = EVP_RSA_gen(bits);
  unsigned char *encoded = NULL;
  const int size = i2d_PUBKEY(pair, &encoded);
  assert_true(size > 0);
  free(key->public_half.public_key);
  key->public_half = (struct keypair_public){.algorithm = KEY_ALGORITHM_RSA, .bits = bits, .public_key_size = (size_t)size};
  key->public_half.public_key = malloc((size_t)size);
  memcpy(key->public_half.public_key, encoded, (size_t)size);
  OPENSSL_free(encoded);
  EVP_PKEY_free(pair);
}

static void test_import__weak_keys_are_replaced_and_too_weak_ones_left(void **state) {
  (void)state;
  for (unsigned bits = 512; bits <= 2048; bits *= 2) {
    CLEANUP(rig_close) struct rig rig;
    rig_open(&rig, &ONE);
    make_rsa(add_key(&rig, 0, 1, OLD " a.test:a-old:/k/keys/a.test/a-old.private"), bits);
    find(&rig, "*@a.test " OLD "\n", NULL);
    all_is_well(&rig);
    if (bits < 1024) serve(key_of(&rig, "a.test", "a-old"), "v=DKIM1; p=AAAA", "v=DKIM1; p=AAAA");
    import_judge(&rig.import);
    if (bits < 1024)
      assert_left(&rig, "a.test", "a-old", "less than 1024 bits", "remove its lines");
    else
      assert_fate(&rig, "a.test", "a-old", IMPORT_ACTIVE);
    assert_int_equal(key_of(&rig, "a.test", "a-old")->replace, bits == 1024);
  }
}

static void test_import__dates_in_selectors(void **state) {
  (void)state;
  static const struct {
    const char *selector, *date;
  } rows[] = {{"server-20260124", "2026-01-24"}, {"20260124", "2026-01-24"},     {"mx1-20260124-2", "2026-01-24"}, {"dkim202601", "2026-01-01"},
              {"s2026012414", "2026-01-24"},     {"k202601241405x", "2026-01-24"}, {"20261331", NULL},              {"server-20990101", NULL},
              {"19990101", NULL},                {"mail", NULL},                   {"s1024", NULL},                 {"key1234567", NULL},
              {"202613", NULL},                  {"12345678-20260124", "2026-01-24"}};
  for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
    int64_t moment = 0, expected = 0;
    const bool found = import_selector_date(rows[i].selector, NOW, &moment);
    if (found != (rows[i].date != NULL)) fail_msg("%s", rows[i].selector);
    if (!found) continue;
    assert_true(time_parse(rows[i].date, &expected));
    assert_int_equal(moment, expected);
  }
}

static void test_import__without_a_date_the_file_tells_the_age(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  rig_open(&rig, &ONE);
  add_key(&rig, 0, 1, OLD " a.test:a-old:/k/keys/a.test/a-old.private")->modified = NOW - 100 * DAY;
  add_key(&rig, 0, 2, NEW " a.test:a-new:/k/keys/a.test/a-new.private")->modified = NOW + DAY;
  find(&rig, "*@a.test " OLD "\n", NULL);
  all_is_well(&rig);
  import_judge(&rig.import);
  assert_int_equal(key_of(&rig, "a.test", "a-old")->since, NOW - 100 * DAY);
  assert_true(key_of(&rig, "a.test", "a-old")->overdue);
  assert_int_equal(key_of(&rig, "a.test", "a-new")->since, NOW); /* a file of the future tells nothing */
}

/* ---- files that no table names ---- */

static void test_import__files_without_a_line_are_ours_only_in_our_very_form(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  rig_open(&rig, &ONE);
  add_key(&rig, 0, 1, OLD " a.test:a-old:/k/keys/a.test/a-old.private");
  add_key(&rig, 0, 0, "- a.test:server-20260301:/k/keys/a.test/server-20260301.private");   /* ours, served */
  add_key(&rig, 0, 0, "- a.test:server-20260302-2:/k/keys/a.test/server-20260302-2.private"); /* our name, another record */
  add_key(&rig, 0, 0, "- a.test:server-20260303:/k/keys/a.test/server-20260303.private");   /* our name, not served */
  add_key(&rig, 0, 0, "- a.test:rspamd:/k/keys/a.test/rspamd.private");                     /* served in our form, another name */
  find(&rig, "*@a.test " OLD "\n", NULL);
  all_is_well(&rig);
  struct import_key *other = key_of(&rig, "a.test", "server-20260302-2");
  CLEANUP_FREE char *record = text_format("%s ", other->expected);
  serve(other, record, record);
  serve(key_of(&rig, "a.test", "server-20260303"), NULL, NULL);
  import_judge(&rig.import);
  assert_fate(&rig, "a.test", "server-20260301", IMPORT_RETIRED);
  assert_fate(&rig, "a.test", "server-20260302-2", IMPORT_RESERVED);
  assert_fate(&rig, "a.test", "server-20260303", IMPORT_RESERVED);
  assert_fate(&rig, "a.test", "rspamd", IMPORT_RESERVED);
}

static void test_import__more_old_keys_than_there_is_room_come_another_time(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  rig_open(&rig, &ONE);
  for (unsigned i = 1; i <= IMPORT_ADOPTED_MAX + 5; i++) {
    CLEANUP_FREE char *entry = text_format("k%u a.test:s2026%02u%02u:/k/keys/a.test/%u", i, i / 28 + 1, i % 28 + 1, i);
    add_key(&rig, 0, i, entry);
  }
  find(&rig, "*@a.test k25\n", NULL);
  all_is_well(&rig);
  import_judge(&rig.import);
  assert_fate(&rig, "a.test", "s20260126", IMPORT_ACTIVE);
  assert_fate(&rig, "a.test", "s20260102", IMPORT_RETIRED); /* the oldest first */
  assert_fate(&rig, "a.test", "s20260121", IMPORT_RETIRED);
  assert_left(&rig, "a.test", "s20260122", "more old keys", "import again");
  assert_left(&rig, "a.test", "s20260125", "more old keys", "import again");
}

/* ---- what is written ---- */

static void open_store(struct rig *rig) {
  static const struct store_policy_stamp stamp = {.digest = "x"};
  assert_int_equal(store_sqlite_open(":memory:", false, &rig->import.session.store, &rig->error), 0);
  struct store *store = rig->import.session.store;
  assert_int_equal(store->ops->sync(store, rig->policy, &stamp, NOW, NULL, &rig->error), 0);
}

static int copy_row(void *context, const void *row) {
  struct error error = {0};
  return lineage_copy(row, context, &error);
}

static void read_lineage(struct rig *rig, const char *domain, struct lineage *ret_lineage) {
  const struct store_filter filter = {.domain = domain};
  struct store *store = rig->import.session.store;
  if (store->ops->select(store, STORE_SELECT_LINEAGES, &filter, copy_row, ret_lineage, &rig->error)) fail_msg("%s", rig->error.message);
}

static int count_row(void *context, const void *row) {
  const struct event *event = row;
  if (text_equal(event->kind, "imported")) ++*(size_t *)context;
  return 0;
}

static size_t imported_events(struct rig *rig) {
  static const struct store_filter all;
  size_t count = 0;
  struct store *store = rig->import.session.store;
  assert_int_equal(store->ops->select(store, STORE_SELECT_EVENTS, &all, count_row, &count, &rig->error), 0);
  return count;
}

static void test_import__keys_that_are_known_take_room_too(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  open_script(&rig, &ONE);
  find(&rig, SCRIPT_SIGNING, NULL);
  all_is_well(&rig);
  domain_of(&rig, "a.test")->living = LINEAGE_KEYS_MAX - IMPORT_ROOM_KEPT - 1;
  import_judge(&rig.import);
  assert_fate(&rig, "a.test", "server-20260401", IMPORT_RETIRED);
  assert_left(&rig, "a.test", "server-20260701", "more old keys", "import again");
}

static void test_import__what_was_judged_is_written_in_one_go(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  CLEANUP(lineage_release) struct lineage lineage = {0};
  open_script(&rig, &ONE);
  add_key(&rig, 0, 0, "- a.test:rspamd:/k/keys/a.test/rspamd.private");
  find(&rig, SCRIPT_SIGNING, NULL);
  all_is_well(&rig);
  serve(key_of(&rig, "a.test", "server-20260701"), NULL, NULL);
  import_judge(&rig.import);
  open_store(&rig);
  if (import_apply(&rig.import, &rig.error)) fail_msg("%s", rig.error.message);
  read_lineage(&rig, "a.test", &lineage);
  assert_int_equal(lineage.key_count, 3);
  const struct key *active = lineage_active_key(&lineage), *old = lineage_find_key(&lineage, "server-20260401"),
                   *lost = lineage_find_key(&lineage, "server-20260701");
  assert_string_equal(active->selector, "server-20260101");
  assert_int_equal(active->active_at, INT64_C(1767225600));
  assert_string_equal(active->zone, "zone.example");
  assert_int_equal(active->ttl, 600);
  assert_int_equal(active->right_at, NOW);
  assert_int_equal(active->placement_count, 1);
  assert_int_equal(active->placements[0].proved_at, NOW);
  assert_string_equal(active->placements[0].key_path, "/k/keys/a.test/server-20260101.private");
  assert_int_equal(active->placements[0].signer_id, lineage.signer_ids[0]);
  assert_true(key_is_adopted(active) && key_is_adopted(old));
  assert_int_equal(old->state, KEY_RETIRED);
  assert_int_equal(old->retired_at, NOW);
  assert_true(old->deleted_at == TIME_UNSET && old->revoke_at > NOW);
  assert_int_equal(lost->deleted_at, NOW);
  assert_int_equal(lineage.next_moment, NOW);
  assert_false(lineage.rotate_requested);
  assert_int_equal(imported_events(&rig), 4);
}

static void test_import__names_and_directories_that_are_not_the_policys_are_kept(void **state) {
  (void)state;
  static const struct {
    const char *entry, *directory, *name;
  } rows[] = {{"odd a.test:s:/else/where/key.pem", "/else/where", "odd"},
              {"odd a.test:s:/etc/key.pem", "/k/keys/%d", "odd"}, /* the keeper gets no rights in all of /etc */
              {"s.a.test a.test:s:/mail/a.test/dkim/s.private", "/mail/%d/dkim", "%s.%d"},
              {"s a.test:s:/k/keys/deep/er/x", "/k/keys/%d", "%s"},
              {"s._domainkey.a.test a.test:s:/k/keys/a.test/s.private", "/k/keys/%d", "%s._domainkey.%d"}};
  for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
    CLEANUP(rig_close) struct rig rig;
    CLEANUP(lineage_release) struct lineage lineage = {0};
    rig_open(&rig, &ONE);
    add_key(&rig, 0, 1, rows[i].entry);
    CLEANUP_FREE char *signing = text_format("*@a.test %.*s\n", (int)strcspn(rows[i].entry, " "), rows[i].entry);
    find(&rig, signing, NULL);
    all_is_well(&rig);
    import_judge(&rig.import);
    open_store(&rig);
    if (import_apply(&rig.import, &rig.error)) fail_msg("%s", rig.error.message);
    read_lineage(&rig, "a.test", &lineage);
    const struct placement *placement = &lineage.keys[0].placements[0];
    assert_string_equal(placement->signer->key_directory, rows[i].directory);
    assert_string_equal(placement->signer->key_name, rows[i].name);
    assert_string_equal(placement->signer->key_table, "/k/KeyTable");
    assert_int_equal(placement->signer_id == lineage.signer_ids[0], i == 4);
    assert_int_equal(placement->destroyed, i == 1); /* that file is never destroyed */
  }
}

static void test_import__a_weak_key_asks_for_its_successor_and_an_inline_one_has_no_file(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  CLEANUP(lineage_release) struct lineage lineage = {0};
  rig_open(&rig, &ONE);
  struct survey_key *key = add_key(&rig, 0, 1, OLD " a.test:a-old:-");
  make_rsa(key, 1024);
  key->place = SURVEY_INLINE;
  key->literal = false;
  key->path[0] = '\0';
  find(&rig, "*@a.test " OLD "\n", NULL);
  all_is_well(&rig);
  import_judge(&rig.import);
  open_store(&rig);
  if (import_apply(&rig.import, &rig.error)) fail_msg("%s", rig.error.message);
  read_lineage(&rig, "a.test", &lineage);
  assert_true(lineage.rotate_requested);
  assert_null(lineage.keys[0].placements[0].key_path);
  assert_true(lineage.keys[0].placements[0].destroyed && !lineage.keys[0].placements[0].file_made);
  assert_int_equal(lineage.keys[0].bits, 1024);
}

static void test_import__the_screen_tells_what_and_why(void **state) {
  (void)state;
  CLEANUP(rig_close) struct rig rig;
  char *text = NULL;
  size_t size = 0;
  open_script(&rig, &(struct scene){.domains = "a.test: {}, b.test: {}"});
  add_key(&rig, 0, 8, "b b.test:s:/k/keys/a.test/server-20260101.private");
  find(&rig, SCRIPT_SIGNING "* b\n", NULL);
  all_is_well(&rig);
  serve(key_of(&rig, "a.test", "server-20260701"), NULL, NULL);
  import_judge(&rig.import);
  rig.cli.out = open_memstream(&text, &size);
  assert_int_equal(import_report(&rig.import, false), 1);
  fclose(rig.cli.out);
  static const char *const said[] = {
      "a.test\n  signs today  server-20260101   ed25519, since 2026-01-01 by its name\n      KeyTable line 2; SigningTable line 2\n"
      "      its private key file is also that of b.test (KeyTable line 8), and stays as long as any line names it\n"
      "      its record is served by 2 of 2 servers and belongs to its private key\n      a message of each sender was signed with it\n"
      "   -> becomes active; a new key follows at once, because this one is older than rotate-every\n",
      "  never signs  server-20260401   ed25519, since 2026-04-01 by its name\n"
      "      KeyTable line 4; SigningTable line 4, below the line of server-20260101: the first match signs\n",
      "      no server has its record (2 asked: NXDOMAIN)\n   -> becomes retired; its lines and its file go\n",
      "   -> is left alone: mail of *@b.test is signed by a line for more than these senders: /k/SigningTable, line 7, \"*\"\n"
      "      remedy: write \"*@b.test b\" in its place",
      "\n4 keys found: 1 active, 2 retired, 0 with a reserved selector, 0 known already, 1 left alone.\nNothing was changed. `dkimroll import --apply` does"};
  for (size_t i = 0; i < ARRAY_SIZE(said); i++)
    if (!strstr(text, said[i])) fail_msg("%s\ndoes not say:\n%s", text, said[i]);
  free(text);
}

int main(void) {
#define TEST(name) cmocka_unit_test(test_import__##name)
  const struct CMUnitTest tests[] = {
      TEST(of_a_line_for_each_run_the_oldest_signs),
      TEST(in_a_file_table_the_first_entry_of_a_domain_signs),
      TEST(what_the_signer_does_not_do_is_not_adopted),
      TEST(without_a_proof_nothing_signs),
      TEST(entries_that_nothing_names_are_retired_also_without_a_key_that_signs),
      TEST(a_line_that_was_appended_twice_is_one_key),
      TEST(one_file_of_two_domains_is_told),
      TEST(a_line_for_more_than_the_domain_is_left_with_the_one_thing_to_do),
      TEST(in_a_file_table_the_line_of_the_domain_will_come_first_anyway),
      TEST(an_entry_for_any_domain_is_a_key_of_those_with_a_line),
      TEST(a_key_that_signs_for_other_senders_too_is_left),
      TEST(senders_of_the_policy_are_its_own),
      TEST(senders_that_two_keys_sign_for_are_left),
      TEST(two_signers_with_two_keys_are_left_and_with_one_key_adopted),
      TEST(two_lines_that_both_sign_are_left),
      TEST(mail_that_is_signed_for_another_domain_is_told),
      TEST(a_line_that_names_nothing_is_told),
      TEST(two_values_of_one_selector_are_left),
      TEST(a_stable_name_with_a_key_that_cannot_be_switched_is_left),
      TEST(own_key_of_dkimroll_is_not_replaced_by_a_line_of_others),
      TEST(records_are_taken_as_they_are_served),
      TEST(a_record_of_another_key_is_replaced_at_once),
      TEST(of_two_records_the_one_that_belongs_counts),
      TEST(a_missing_record_of_the_key_that_signs_is_to_be_published),
      TEST(what_servers_do_not_tell_is_not_guessed),
      TEST(a_record_that_says_revoked),
      TEST(weak_keys_are_replaced_and_too_weak_ones_left),
      TEST(dates_in_selectors),
      TEST(without_a_date_the_file_tells_the_age),
      TEST(files_without_a_line_are_ours_only_in_our_very_form),
      TEST(more_old_keys_than_there_is_room_come_another_time),
      TEST(keys_that_are_known_take_room_too),
      TEST(what_was_judged_is_written_in_one_go),
      TEST(names_and_directories_that_are_not_the_policys_are_kept),
      TEST(a_weak_key_asks_for_its_successor_and_an_inline_one_has_no_file),
      TEST(the_screen_tells_what_and_why),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
