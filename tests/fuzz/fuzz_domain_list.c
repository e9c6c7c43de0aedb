/* Lists of domains (domains-from): files that need not be root's, and that the keeper reads as root. Any file is read, or refused with findings that have a place in it; what
 * was read is sorted, without a double, and refers to what the policy has. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/policy.h"
#include "dkimroll/selector.h"
#include "dkimroll/text.h"
#include "fuzz.h"

static struct {
  char list[sizeof "/dev/shm/fuzz-list-XXXXXX"];
  char *policy; /* that names it */
  int descriptor;
} bench;

static void remove_list(void) {
  unlink(bench.list);
  free(bench.policy);
}

static void bench_open(void) {
  memcpy(bench.list, "/dev/shm/fuzz-list-XXXXXX", sizeof bench.list);
  bench.descriptor = mkostemp(bench.list, O_CLOEXEC);
  FUZZ_HOLDS(bench.descriptor >= 0, "no file in /dev/shm");
  bench.policy = text_format("state: /var/lib/dkimroll/state.db\n"
                             "policies: {standard: {selector: \"s%%Y%%m%%d\", rotate-every: 90d}, other: {rotate-every: 30d}}\n"
                             "publishers: {primary: {type: rfc2136, server: \"192.0.2.1\"}, second: {type: rfc2136, server: \"192.0.2.2\"}}\n"
                             "signers:\n"
                             "  local: {type: opendkim, key-table: /k/KeyTable, signing-table: /k/SigningTable, key-directory: /k/keys/%%d, owner: \"root:root\", reload: {pid-file: /run/x.pid}, "
                             "milter: \"inet:8891@127.0.0.1\"}\n"
                             "defaults: {policy: standard, publisher: primary, signers: [local]}\n"
                             "domains-from: %s\n",
                             bench.list);
  FUZZ_HOLDS(bench.policy, "no memory");
  (void)atexit(remove_list);
}

static void expect_domains(const struct policy *policy) {
  for (size_t i = 0; i < policy->domain_count; i++) {
    const struct policy_domain *domain = &policy->domains[i];
    FUZZ_HOLDS(selector_check_domain(domain->name, NULL) == 0, "%s", domain->name);
    FUZZ_HOLDS(domain->rules < policy->rules_count && domain->publisher < policy->publisher_count, "%s", domain->name);
    FUZZ_HOLDS(domain->signer_count > 0 && domain->signer_count <= POLICY_SIGNERS_MAX, "%s", domain->name);
    for (size_t j = 0; j < domain->signer_count; j++) FUZZ_HOLDS(domain->signers[j] < policy->signer_count, "%s", domain->name);
    FUZZ_HOLDS(domain->sender_count <= POLICY_SENDERS_MAX, "%s", domain->name);
    FUZZ_HOLDS(i == 0 || strcmp(policy->domains[i - 1].name, domain->name) < 0, "%s", domain->name);
  }
  /* A list names signers, and cannot make any, nor anything else that the keeper goes by. */
  FUZZ_HOLDS(policy->signer_count == 1 && policy->publisher_count == 2 && policy->rules_count == 2, "a list made %zu signers", policy->signer_count);
}

static void expect_findings(const struct policy_findings *findings) {
  FUZZ_HOLDS(findings->count > 0 && findings->count <= POLICY_ERRORS_MAX, "%zu findings", findings->count);
  for (size_t i = 0; i < findings->count; i++) {
    const struct policy_finding *finding = &findings->items[i];
    FUZZ_HOLDS(finding->message && finding->message[0] && fuzz_is_printable(finding->message), "finding %zu", i);
    FUZZ_HOLDS(finding->place.line > 0 && finding->place.column > 0, "%s has no place", finding->message);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  CLEANUP(policy_findings_release) struct policy_findings findings = {0};
  struct policy *policy = NULL;
  struct error error = {0};
  if (!bench.policy) bench_open();
  FUZZ_HOLDS(ftruncate(bench.descriptor, 0) == 0 && pwrite(bench.descriptor, data, size, 0) == (ssize_t)size, "cannot write the list");
  const int result = policy_parse("fuzz.yaml", bench.policy, strlen(bench.policy), &policy, &findings, &error);
  if (result == 0) {
    FUZZ_HOLDS(findings.count == 0, "a list that was read has findings");
    expect_domains(policy);
    policy_free(policy);
    return 0;
  }
  FUZZ_HOLDS(!policy && result == ERROR_CONFIG, "%s", error.message);
  fuzz_expect_error(result, &error);
  expect_findings(&findings);
  return 0;
}
