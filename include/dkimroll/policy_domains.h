/* The domains of a policy: streamed from `domains` and from the files of domains-from, then joined with the policies, publishers and signers that they
 * name, which may stand behind them in the file. */
#ifndef DKIMROLL_POLICY_DOMAINS_H
#define DKIMROLL_POLICY_DOMAINS_H

#include <stddef.h>

#include "dkimroll/policy_report.h"
#include "dkimroll/policy_tables.h"
#include "dkimroll/policy_yaml.h"

enum policy_reference_kind { REFERENCE_RULES = 0, REFERENCE_PUBLISHER = 1, REFERENCE_SIGNER = 2 };

/* A name that was not known yet when it was read. */
struct policy_reference {
  enum policy_reference_kind kind;
  size_t domain; /* index into policy.domains */
  size_t signer; /* index into its signers */
  struct policy_place place;
  char *name; /* owned */
};

struct policy_domains {
  struct policy_draft *draft;   /* borrowed */
  struct policy_report *report; /* borrowed */
  size_t capacity;              /* of draft->policy.domains */
  struct policy_reference *pending;
  size_t pending_count;
  size_t pending_capacity;
  size_t last[3]; /* by kind: where the last name was found, since neighbours mostly name the same */
};

/* Reads the mapping of domains that comes next. A file of its own (is_file) may also be empty, or a list of names. */
void policy_domains_read(struct policy_domains *domains, struct policy_yaml *yaml, bool is_file);
/* Joins, fills in domain-defaults (the node of that key, NULL: none), sorts, and finds what is missing, unknown or there twice. */
void policy_domains_join(struct policy_domains *domains, const struct policy_node *defaults);
void policy_domains_release(struct policy_domains *domains); /* not what is in the draft */

/* Rules between signers; node is the value of `signers`. */
void policy_signers_check(const struct policy_node *node, const struct policy *policy, struct policy_report *report);
/* Rules between domains and what they use: slots and algorithms that a signer can do, patterns that its table knows, no folder for two domains. Domains
 * whose references are broken are passed over. */
void policy_domains_check(const struct policy *policy, struct policy_report *report);

/* What a reference holds that was not given, or that names nothing. */
#define POLICY_REFERENCE_UNSET SIZE_MAX
#define POLICY_REFERENCE_BROKEN (SIZE_MAX - 1)

#endif
