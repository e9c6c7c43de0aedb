/* For the tests of the policy: texts of policies, and what must be found in them. */
#ifndef DKIMROLL_TESTS_POLICY_EXPECT_H
#define DKIMROLL_TESTS_POLICY_EXPECT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/policy.h"
#include "dkimroll/text.h"

/* A right policy in five lines, of which a test replaces one or more. */
#define POLICIES "policies: {standard: {}}\n"
#define PUBLISHERS "publishers: {primary: {server: \"192.0.2.53\"}}\n"
#define SIGNER_KEYS                                                                                                    \
  "key-table: /k/KeyTable, signing-table: /k/SigningTable, key-directory: /k/keys/%d, milter: \"inet:8891@127.0.0.1\""
#define SIGNERS "signers: {local: {" SIGNER_KEYS "}}\n"
#define DEFAULTS "domain-defaults: {policy: standard, publisher: primary, signers: [local]}\n"
#define DOMAINS "domains: {example.com: {}}\n"

struct expectation {
  const char *text;
  unsigned line;
  unsigned column;
  const char *message; /* part of it */
};

static inline void print_findings(const struct policy_findings *findings) {
  for (size_t i = 0; i < findings->count; i++) {
    const struct policy_finding *finding = &findings->items[i];
    print_error("%s:%u:%u: %s\n", finding->file, finding->place.line, finding->place.column, finding->message);
  }
}

/* Exactly the one finding that is expected. */
static inline void assert_finding(const struct expectation *expected) {
  CLEANUP(policy_findings_release) struct policy_findings findings = {0};
  struct policy *policy = NULL;
  struct error error = {0};
  const int result = policy_parse("p.yaml", expected->text, strlen(expected->text), &policy, &findings, &error);
  if (result == 0) policy_free(policy);
  if (result != ERROR_CONFIG || findings.count != 1) {
    print_findings(&findings);
    fail_msg("%d findings and not one in:\n%s", (int)findings.count, expected->text);
  }
  const struct policy_finding *finding = &findings.items[0];
  if (finding->place.line != expected->line || finding->place.column != expected->column ||
      !strstr(finding->message, expected->message)) {
    print_findings(&findings);
    fail_msg("expected %u:%u ... %s in:\n%s", expected->line, expected->column, expected->message, expected->text);
  }
  assert_string_equal(finding->file, "p.yaml");
  assert_null(policy);
  assert_non_null(strstr(error.message, finding->message));
}

/* All of these findings and no others, in this order; behind the last stands one without a message. Their texts are not used. */
static inline void assert_all_findings(const char *text, const struct expectation *expected) {
  CLEANUP(policy_findings_release) struct policy_findings findings = {0};
  struct policy *policy = NULL;
  struct error error = {0};
  assert_int_equal(policy_parse("p.yaml", text, strlen(text), &policy, &findings, &error), ERROR_CONFIG);
  size_t i = 0;
  for (; i < findings.count && expected[i].message; i++) {
    const struct policy_finding *finding = &findings.items[i];
    if (finding->place.line == expected[i].line && finding->place.column == expected[i].column &&
        strstr(finding->message, expected[i].message))
      continue;
    print_findings(&findings);
    fail_msg("expected %u:%u ... %s", expected[i].line, expected[i].column, expected[i].message);
  }
  if (i == findings.count && !expected[i].message) return;
  print_findings(&findings);
  fail_msg("%d findings, of which %d were expected", (int)findings.count, (int)i);
}

static inline void assert_right(const char *text) {
  CLEANUP(policy_findings_release) struct policy_findings findings = {0};
  struct policy *policy = NULL;
  struct error error = {0};
  const int result = policy_parse("p.yaml", text, strlen(text), &policy, &findings, &error);
  print_findings(&findings);
  if (result != 0) fail_msg("%s in:\n%s", error.message, text);
  policy_free(policy);
}

static inline void assert_findings(const struct expectation *expected, size_t count) {
  for (size_t i = 0; i < count; i++) assert_finding(&expected[i]);
}

#define ASSERT_FINDINGS(...)                                                                                           \
  do {                                                                                                                 \
    const struct expectation expected_findings[] = {__VA_ARGS__};                                                      \
    assert_findings(expected_findings, ARRAY_SIZE(expected_findings));                                                 \
  } while (0)

/* Policies with other rules, publishers and so on. */
#define WITH_RULES(rules) "policies: {standard: {" rules "}}\n" PUBLISHERS SIGNERS DEFAULTS DOMAINS
#define WITH_PUBLISHER(publisher) POLICIES "publishers: {primary: {" publisher "}}\n" SIGNERS DEFAULTS DOMAINS
#define WITH_SIGNER(signer) POLICIES PUBLISHERS "signers: {local: {" signer "}}\n" DEFAULTS DOMAINS
#define WITH_DOMAINS(domains) POLICIES PUBLISHERS SIGNERS DEFAULTS "domains: {" domains "}\n"

#endif
