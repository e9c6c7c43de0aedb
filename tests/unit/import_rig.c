#include "import_rig.h"

#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#define HEAD                                                                                                           \
  "policies: {standard: {selector: \"server-%%Y%%m%%d\", rotate-every: 90d},\n"                                        \
  "  two: {keys: {one: {algorithm: ed25519, selector: \"server-%%Y%%m%%d\"}, two: {algorithm: ed25519, selector: \"e%%Y%%m%%d\"}}}}\n" \
  "publishers: {primary: {server: \"127.0.0.1:53\"}}\n"                                                                \
  "signers:\n"                                                                                                         \
  "  local: {key-table: /k/KeyTable, signing-table: \"%s:/k/SigningTable\", multiple-signatures: %s, %skey-directory: " \
  "/k/keys/%%d, milter: \"unix:/k/sock\"}\n"                                                                           \
  "  other: {key-table: /o/KeyTable, signing-table: \"refile:/o/SigningTable\", key-directory: /o/keys/%%d, milter: "  \
  "\"unix:/o/sock\"}\n"                                                                                                \
  "domain-defaults: {policy: standard, publisher: primary, signers: [local]}\n"                                        \
  "domains: {%s}\n"

const struct import_scene IMPORT_SCRIPT = {.key_table = SCRIPT_KEYS, .signing_table = SCRIPT_SIGNING};

static struct policy *parse_policy(const struct import_scene *scene) {
  CLEANUP(policy_findings_release) struct policy_findings findings = {0};
  struct error error = {0};
  struct policy *policy = NULL;
  CLEANUP_FREE char *text = text_format(HEAD, scene->signing_format ? scene->signing_format : "refile", scene->multiple_signatures ? "yes" : "no",
                                        scene->key_name ? scene->key_name : "", scene->domains ? scene->domains : "a.test: {}");
  const int result = policy_parse("p.yaml", text, strlen(text), &policy, &findings, &error);
  for (size_t i = 0; i < findings.count; i++) print_error("%u: %s\n", findings.items[i].place.line, findings.items[i].message);
  assert_int_equal(result, 0);
  return policy;
}

struct survey_key *import_rig_add_key(struct import_rig *rig, size_t signer, unsigned line, const char *entry) {
  struct survey *survey = &rig->import.signers[signer].survey;
  assert_true(survey->count < IMPORT_RIG_KEYS_MAX);
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

static void add_key_table(struct import_rig *rig, size_t signer, const char *text) {
  for (unsigned line = 1; text && *text; line++) {
    const size_t length = strcspn(text, "\n");
    CLEANUP_FREE char *entry = text_format("%.*s", (int)length, text);
    if (length > 0) import_rig_add_key(rig, signer, line, entry);
    text += length + (text[length] == '\n');
  }
}

void import_rig_open(struct import_rig *rig, const struct import_scene *scene) {
  *rig = (struct import_rig){.scene = *scene, .policy = parse_policy(scene)};
  rig->cli = (struct cli){.arguments = &rig->arguments, .out = stdout, .err = stderr};
  struct import *import = &rig->import;
  *import = (struct import){.cli = &rig->cli, .policy = rig->policy, .now = NOW, .error = &rig->error};
  import->signers = calloc(rig->policy->signer_count, sizeof *import->signers);
  import->domains = calloc(rig->policy->domain_count, sizeof *import->domains);
  assert_true(import->signers && import->domains);
  for (size_t i = 0; i < rig->policy->signer_count; i++) {
    import->signers[i] = (struct import_signer){.import = import, .policy = &rig->policy->signers[i], .used = true, .surveyed = true};
    import->signers[i].survey.keys = calloc(IMPORT_RIG_KEYS_MAX, sizeof(struct survey_key));
  }
  for (size_t i = 0; i < rig->policy->domain_count; i++) {
    import->domains[i].policy = &rig->policy->domains[i];
    snprintf(import->domains[i].everybody, sizeof import->domains[i].everybody, "*@%s", rig->policy->domains[i].name);
  }
  import->domain_count = rig->policy->domain_count;
  add_key_table(rig, 0, scene->key_table);
  add_key_table(rig, 1, scene->other_key_table);
}

void import_rig_close(struct import_rig *rig) {
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

struct import_domain *import_rig_domain(struct import_rig *rig, const char *name) {
  for (size_t i = 0; i < rig->import.domain_count; i++)
    if (text_equal(rig->import.domains[i].policy->name, name)) return &rig->import.domains[i];
  fail_msg("no domain %s", name);
  abort();
}

struct import_key *import_rig_key(struct import_rig *rig, const char *domain_name, const char *selector) {
  struct import_domain *domain = import_rig_domain(rig, domain_name);
  for (size_t i = 0; i < domain->key_count; i++)
    if (text_equal(domain->keys[i].selector, selector)) return &domain->keys[i];
  fail_msg("no key %s of %s", selector, domain_name);
  abort();
}

void import_rig_serve(struct import_key *key, const char *first, const char *second) {
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

void import_rig_find(struct import_rig *rig) {
  struct import *import = &rig->import;
  const char *const texts[] = {rig->scene.signing_table, rig->scene.other_signing_table};
  for (size_t i = 0; i < 2; i++) {
    const char *text = texts[i] ? texts[i] : "";
    const bool refile = rig->policy->signers[i].signing_table_format == SIGNING_TABLE_REFILE;
    assert_int_equal(table_parse(refile ? TABLE_SIGNING_REFILE : TABLE_SIGNING_FILE, "/k/SigningTable", text_duplicate(text), strlen(text),
                                 &import->signers[i].survey.signing, &rig->error),
                     0);
    assert_int_equal(import_index(&import->signers[i], &rig->error), 0);
  }
  assert_int_equal(import_find_keys(import, &rig->error), 0);
  for (size_t i = 0; i < import->domain_count; i++) assert_int_equal(import_find_signing(import, &import->domains[i], &rig->error), 0);
  for (size_t i = 0; i < import->key_count; i++) import_rig_serve(&import->keys[i], import->keys[i].expected, import->keys[i].expected);
  for (size_t i = 0; i < import->domain_count; i++) {
    struct import_domain *domain = &import->domains[i];
    domain->proved = true;
    for (size_t j = 0; j < domain->policy->signer_count; j++) domain->signs_there[j] = domain->sender_counts[j] > 0;
  }
}

void import_rig_begin(struct import_rig *rig, const struct import_scene *scene) {
  import_rig_open(rig, scene);
  import_rig_find(rig);
}

void import_rig_judge(struct import_rig *rig, const struct import_scene *scene) {
  import_rig_begin(rig, scene);
  import_judge(&rig->import);
}

void import_rig_make_rsa(struct survey_key *key, unsigned bits) {
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

void expect_fate(struct import_rig *rig, const char *domain, const char *selector, enum import_fate fate) {
  const struct import_key *key = import_rig_key(rig, domain, selector);
  if (key->fate != fate) fail_msg("%s of %s: fate %d and not %d: %s", selector, domain, key->fate, fate, key->why);
}

void expect_left(struct import_rig *rig, const char *domain, const char *selector, const char *why, const char *remedy) {
  const struct import_key *key = import_rig_key(rig, domain, selector);
  expect_fate(rig, domain, selector, IMPORT_LEFT);
  if (!strstr(key->why, why)) fail_msg("\"%s\" does not say: %s", key->why, why);
  if (!strstr(key->remedy, remedy)) fail_msg("\"%s\" does not say: %s", key->remedy, remedy);
}
