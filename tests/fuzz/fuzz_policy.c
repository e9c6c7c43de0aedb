/* The policy: any octets are read, or refused with findings that have a place and a message. What was read is written as the stored text of
 * its parts, and reads back as the same. */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/policy.h"
#include "dkimroll/selector.h"
#include "dkimroll/text.h"
#include "fuzz.h"

static unsigned count_lines(const uint8_t *data, size_t size) {
  unsigned lines = 1;
  for (size_t i = 0; i < size; i++) lines += data[i] == '\n' || data[i] == '\r' || data[i] >= 0x80;
  return lines;
}

static void expect_findings(const struct policy_findings *findings, const uint8_t *data, size_t size) {
  const unsigned lines = count_lines(data, size);
  FUZZ_HOLDS(findings->count > 0 && findings->count <= POLICY_ERRORS_MAX, "%zu findings", findings->count);
  for (size_t i = 0; i < findings->count; i++) {
    const struct policy_finding *finding = &findings->items[i];
    FUZZ_HOLDS(finding->message && finding->message[0], "finding %zu has no message", i);
    FUZZ_HOLDS(fuzz_is_printable(finding->message), "a control character in %s", finding->message);
    FUZZ_HOLDS(finding->place.line > 0 && finding->place.column > 0, "%s has no place", finding->message);
    FUZZ_HOLDS(finding->place.line <= lines + 1, "line %u of %u: %s", finding->place.line, lines, finding->message);
    FUZZ_HOLDS(text_equal(finding->file, "fuzz.yaml"), "%s", finding->file);
  }
}

static void expect_rules(const struct policy_rules *rules) {
  CLEANUP_FREE char *text = NULL, *again = NULL;
  struct policy_rules *read = NULL;
  struct error error = {0};
  FUZZ_HOLDS(policy_rules_format(rules, &text, &error) == 0, "%s", error.message);
  FUZZ_HOLDS(policy_rules_parse(text, &read, &error) == 0, "%s: %s", error.message, text);
  FUZZ_HOLDS(policy_rules_format(read, &again, &error) == 0, "%s", error.message);
  FUZZ_HOLDS(text_equal(text, again), "%s\n%s", text, again);
  FUZZ_HOLDS(rules->rotate_every > policy_shortest_life(rules), "a life too short: %s", text);
  FUZZ_HOLDS(policy_living_keys(rules) <= POLICY_LIVING_KEYS_MAX, "too many keys: %s", text);
  policy_rules_free(read);
}

static void expect_publisher(const struct policy_publisher *publisher) {
  CLEANUP_FREE char *text = NULL, *again = NULL;
  struct policy_publisher *read = NULL;
  struct error error = {0};
  FUZZ_HOLDS(policy_publisher_format(publisher, &text, &error) == 0, "%s", error.message);
  FUZZ_HOLDS(policy_publisher_parse(text, &read, &error) == 0, "%s: %s", error.message, text);
  FUZZ_HOLDS(policy_publisher_format(read, &again, &error) == 0, "%s", error.message);
  FUZZ_HOLDS(text_equal(text, again), "%s\n%s", text, again);
  policy_publisher_free(read);
}

static void expect_signer(const struct policy_signer *signer) {
  CLEANUP_FREE char *text = NULL, *again = NULL;
  struct policy_signer *read = NULL;
  struct error error = {0};
  FUZZ_HOLDS(policy_signer_format(signer, &text, &error) == 0, "%s", error.message);
  FUZZ_HOLDS(policy_signer_parse(text, &read, &error) == 0, "%s: %s", error.message, text);
  FUZZ_HOLDS(policy_signer_format(read, &again, &error) == 0, "%s", error.message);
  FUZZ_HOLDS(text_equal(text, again), "%s\n%s", text, again);
  policy_signer_free(read);
}

/* Every reference leads somewhere, and domains are sorted without a double. */
static void expect_domains(const struct policy *policy) {
  for (size_t i = 0; i < policy->domain_count; i++) {
    const struct policy_domain *domain = &policy->domains[i];
    FUZZ_HOLDS(domain->rules < policy->rules_count, "%s", domain->name);
    FUZZ_HOLDS(domain->publisher < policy->publisher_count, "%s", domain->name);
    FUZZ_HOLDS(domain->signer_count > 0 && domain->signer_count <= POLICY_SIGNERS_MAX, "%s", domain->name);
    for (size_t j = 0; j < domain->signer_count; j++)
      FUZZ_HOLDS(domain->signers[j] < policy->signer_count, "%s", domain->name);
    FUZZ_HOLDS(domain->sender_count <= POLICY_SENDERS_MAX, "%s", domain->name);
    FUZZ_HOLDS(i == 0 || strcmp(policy->domains[i - 1].name, domain->name) < 0, "%s", domain->name);
    FUZZ_HOLDS(selector_check_domain(domain->name, NULL) == 0, "%s", domain->name);
  }
}

static void expect_policy(const struct policy *policy) {
  for (size_t i = 0; i < policy->rules_count; i++) expect_rules(&policy->rules[i]);
  for (size_t i = 0; i < policy->publisher_count; i++) expect_publisher(&policy->publishers[i]);
  for (size_t i = 0; i < policy->signer_count; i++) expect_signer(&policy->signers[i]);
  expect_domains(policy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  CLEANUP(policy_findings_release) struct policy_findings findings = {0};
  struct policy *policy = NULL;
  struct error error = {0};
  /* domains-from would read files of this host. */
  if (size > 11 && memmem(data, size, "domains-from", 12)) return -1;
  const int result = policy_parse("fuzz.yaml", (const char *)data, size, &policy, &findings, &error);
  if (result == 0) {
    FUZZ_HOLDS(findings.count == 0, "a policy that was read has findings");
    expect_policy(policy);
    policy_free(policy);
    return 0;
  }
  FUZZ_HOLDS(!policy, "a policy in spite of %s", error.message);
  fuzz_expect_error(result, &error);
  FUZZ_HOLDS(result == ERROR_CONFIG, "%s", error.message);
  expect_findings(&findings, data, size);
  return 0;
}
