#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/policy_checks.h"
#include "dkimroll/policy_domains.h"
#include "dkimroll/text.h"

void policy_signers_check(const struct policy_node *node, const struct policy *policy, struct policy_report *report) {
  for (size_t i = 0; i < policy->signer_count; i++) {
    const struct policy_signer *signer = &policy->signers[i];
    const struct policy_node *own = policy_node_find(node, signer->name);
    for (size_t j = 0; j < i && own; j++) {
      const struct policy_signer *other = &policy->signers[j];
      const char *shared = NULL;
      if (signer->key_table && text_equal(signer->key_table, other->key_table)) shared = "key-table";
      if (signer->signing_table && text_equal(signer->signing_table, other->signing_table)) shared = "signing-table";
      if (signer->milter && text_equal(signer->milter, other->milter)) shared = "milter";
      if (shared) {
        policy_report_add(report, policy_node_place(own, shared),
                          "signers.%s.%s is that of signer \"%s\" too; each OpenDKIM has tables and a socket of its "
                          "own: make them one "
                          "signer, or give this one its own",
                          signer->name, shared, other->name);
      }
      if (signer->key_directory && text_equal(signer->key_directory, other->key_directory) &&
          (signer->mode != other->mode || !text_equal(signer->owner, other->owner))) {
        policy_report_add(
            report, policy_node_place(own, "key-directory"),
            "signers.%s.key-directory is that of signer \"%s\", whose owner or mode differs; one file cannot "
            "have both: use another directory",
            signer->name, other->name);
      }
    }
  }
}

/* What a domain asks of a signer, by the rules it follows: judged once for each pair of signer and rules. */
struct pairing {
  const struct policy *policy;
  const struct policy_domain *domain; /* the first that makes the pair */
  const struct policy_rules *rules;
  const struct policy_signer *signer;
  struct policy_report *report;
};

static bool has_algorithm(const struct policy_rules *rules, enum key_algorithm algorithm) {
  for (size_t i = 0; i < rules->key_count; i++) {
    if (rules->keys[i].algorithm == algorithm) return true;
  }
  return false;
}

static bool is_mixed(const struct policy_rules *rules) {
  return has_algorithm(rules, KEY_ALGORITHM_RSA) && has_algorithm(rules, KEY_ALGORITHM_ED25519);
}

#define MIXED_REASON                                                                                                   \
  "one OpenDKIM cannot sign with rsa and ed25519: it would refuse the mail, or make signatures that do not verify "    \
  "(SignatureAlgorithm is one for all)"

static void check_slots(const struct pairing *pair) {
  const struct policy_signer *signer = pair->signer;
  const char *problem = NULL;
  if (!signer->multiple_signatures) {
    problem = "which signs each message once; give the policy one key, or set multiple-signatures: true here and "
              "MultipleSignatures yes in its opendkim.conf";
  } else if (signer->signing_table_format == SIGNING_TABLE_FILE) {
    problem =
        "whose file: SigningTable gives only the first entry of a sender; use refile:, or give the policy one key";
  } else if (signer->key_name && !strstr(signer->key_name, "%s")) {
    problem = "whose key-name is the same for all keys of a domain; put %s into it, as in %s._domainkey.%d";
  }
  if (!problem) return;
  policy_report_add(pair->report, pair->domain->place,
                    "%s: policy \"%s\" has %zu keys, and signer \"%s\" is an OpenDKIM %s", pair->domain->name,
                    pair->rules->name, pair->rules->key_count, signer->name, problem);
}

static void check_pairing(const struct pairing *pair) {
  if (is_mixed(pair->rules)) {
    policy_report_add(pair->report, pair->domain->place,
                      "%s: policy \"%s\" has keys of rsa and of ed25519, and signer \"%s\": " MIXED_REASON
                      "; give the policy keys of one algorithm",
                      pair->domain->name, pair->rules->name, pair->signer->name);
  } else if (pair->rules->key_count > 1) {
    check_slots(pair);
  }
  if (pair->rules->archive_directory && text_equal(pair->rules->archive_directory, pair->signer->key_directory)) {
    policy_report_add(
        pair->report, pair->domain->place,
        "%s: the archive-directory of policy \"%s\" is the key-directory of signer \"%s\"; archived keys need "
        "a directory of their own",
        pair->domain->name, pair->rules->name, pair->signer->name);
  }
}

/* Pairs of one signer with each of the rules: the number of the first domain from 1, 0 for none. Different rules may ask for different algorithms. */
static void check_signer(const struct policy *policy, size_t signer, const size_t *first,
                         struct policy_report *report) {
  const struct policy_domain *users[2] = {NULL, NULL}; /* rsa, ed25519 */
  for (size_t i = 0; i < policy->rules_count; i++) {
    if (!first[i]) continue;
    const struct policy_rules *rules = &policy->rules[i];
    const struct policy_domain *domain = &policy->domains[first[i] - 1];
    check_pairing(&(struct pairing){policy, domain, rules, &policy->signers[signer], report});
    if (is_mixed(rules) || rules->key_count == 0) continue;
    const size_t algorithm = has_algorithm(rules, KEY_ALGORITHM_ED25519) ? 1 : 0;
    if (!users[algorithm]) users[algorithm] = domain;
  }
  if (!users[0] || !users[1]) return;
  policy_report_add(report, users[1]->place,
                    "%s would sign with ed25519 and %s with rsa at the same signer \"%s\": " MIXED_REASON
                    "; use a second OpenDKIM as a signer of its own, or one algorithm",
                    users[1]->name, users[0]->name, policy->signers[signer].name);
}

static bool is_joined(const struct policy_domain *domain) {
  if (domain->rules >= POLICY_REFERENCE_BROKEN || domain->publisher >= POLICY_REFERENCE_BROKEN) return false;
  for (size_t i = 0; i < domain->signer_count; i++) {
    if (domain->signers[i] >= POLICY_REFERENCE_BROKEN) return false;
  }
  return true;
}

static void check_signers(const struct policy *policy, struct policy_report *report) {
  if (policy->rules_count == 0 || policy->signer_count == 0) return;
  size_t *first = calloc(policy->signer_count * policy->rules_count, sizeof(*first));
  if (!first) {
    policy_report_no_memory(report);
    return;
  }
  for (size_t i = 0; i < policy->domain_count; i++) {
    const struct policy_domain *domain = &policy->domains[i];
    for (size_t j = 0; j < domain->signer_count && is_joined(domain); j++) {
      size_t *number = &first[domain->signers[j] * policy->rules_count + domain->rules];
      if (*number == 0) *number = i + 1;
    }
  }
  for (size_t i = 0; i < policy->signer_count; i++) {
    check_signer(policy, i, first + i * policy->rules_count, report);
  }
  free(first);
}

/* A refile: table is matched against whole addresses, so a host alone would match none. */
static void check_senders_of_refile(const struct policy_domain *domain, const struct policy_signer *signer, struct policy_report *report) {
  for (size_t i = 0; i < domain->sender_count; i++) {
    if (policy_sender_fits_refile(domain->senders[i])) continue;
    policy_report_add(report, domain->place,
                      "%s: in the refile: SigningTable of signer \"%s\" no address matches \"%s\"; write *@host for a host, *@*.domain for all "
                      "hosts below a domain",
                      domain->name, signer->name, domain->senders[i]);
  }
}

/* A file: table is looked up by full address, host and the like, never by pattern. */
static void check_senders(const struct policy *policy, const struct policy_domain *domain,
                          struct policy_report *report) {
  for (size_t i = 0; i < domain->signer_count; i++) {
    const struct policy_signer *signer = &policy->signers[domain->signers[i]];
    if (signer->signing_table_format == SIGNING_TABLE_REFILE) check_senders_of_refile(domain, signer, report);
    for (size_t j = 0; j < domain->sender_count && signer->signing_table_format == SIGNING_TABLE_FILE; j++) {
      if (policy_sender_fits_file(domain->senders[j])) continue;
      policy_report_add(report, domain->place,
                        "%s: the file: SigningTable of signer \"%s\" does not know patterns such as \"%s\"; it knows "
                        "user@host, host, "
                        "*@host, user@.domain, .domain, user@* and *; or use refile:",
                        domain->name, signer->name, domain->senders[j]);
    }
  }
}

/* A directory of private keys, and a domain that keeps keys there. */
struct folder {
  char *path; /* owned */
  const struct policy_domain *domain;
};
struct folders {
  struct folder *items;
  size_t count;
  size_t capacity;
};

static void folders_release(struct folders *folders) {
  for (size_t i = 0; i < folders->count; i++) free(folders->items[i].path);
  free(folders->items);
}

/* false: no memory. */
static bool add_folder(struct folders *folders, const char *directory_template, const struct policy_domain *domain) {
  if (folders->count == folders->capacity) {
    const size_t capacity = folders->capacity > 0 ? folders->capacity * 2 : 16;
    struct folder *items = realloc(folders->items, capacity * sizeof(*items));
    if (!items) return false;
    folders->items = items;
    folders->capacity = capacity;
  }
  struct folder *folder = &folders->items[folders->count];
  folder->domain = domain;
  /* A template that is wrong was found to be so where it was read. */
  const int made = policy_directory(directory_template, domain->name, &folder->path, NULL);
  if (made == 0) folders->count++;
  return made != ERROR_NO_MEMORY;
}

static int compare_folders(const void *left, const void *right) {
  const struct folder *a = left;
  const struct folder *b = right;
  const int order = strcmp(a->path, b->path);
  return order != 0 ? order : strcmp(a->domain->name, b->domain->name);
}

/* The template by which a domain's keys go into a directory: of its nth signer, or behind those of its archive; NULL: none. */
static const char *domain_directory(const struct policy *policy, const struct policy_domain *domain, size_t nth) {
  if (nth < domain->signer_count) return policy->signers[domain->signers[nth]].key_directory;
  return policy->rules[domain->rules].archive_directory;
}

/* Whether all domains use one template, and it holds the domain: then no two of them can meet. */
static bool has_one_directory(const struct policy *policy) {
  const char *only = NULL;
  for (size_t i = 0; i < policy->domain_count; i++) {
    for (size_t j = 0; is_joined(&policy->domains[i]) && j <= policy->domains[i].signer_count; j++) {
      const char *directory = domain_directory(policy, &policy->domains[i], j);
      if (directory && only && directory != only && !text_equal(directory, only)) return false;
      if (directory) only = directory;
    }
  }
  return !only || strstr(only, "%d");
}

/* Key files are named after the selector alone, so two domains in one directory would meet at one path. */
static void check_folders(const struct policy *policy, struct policy_report *report) {
  if (has_one_directory(policy)) return;
  CLEANUP(folders_release) struct folders folders = {0};
  for (size_t i = 0; i < policy->domain_count; i++) {
    for (size_t j = 0; is_joined(&policy->domains[i]) && j <= policy->domains[i].signer_count; j++) {
      const char *directory = domain_directory(policy, &policy->domains[i], j);
      if (directory && !add_folder(&folders, directory, &policy->domains[i])) policy_report_no_memory(report);
    }
  }
  if (folders.count == 0) return;
  qsort(folders.items, folders.count, sizeof(*folders.items), compare_folders);
  const char *reported = NULL;
  for (size_t i = 1; i < folders.count; i++) {
    const struct folder *first = &folders.items[i - 1];
    const struct folder *second = &folders.items[i];
    if (first->domain == second->domain || !text_equal(first->path, second->path)) continue;
    if (text_equal(reported, second->path)) continue; /* one finding a directory: there may be 100,000 domains in it */
    reported = second->path;
    policy_report_add(report, second->domain->place,
                      "%s and %s would keep their private keys in one directory, %s, where files are named after the "
                      "selector alone; put %%d (the domain) into key-directory and archive-directory",
                      second->domain->name, first->domain->name, second->path);
  }
}

void policy_domains_check(const struct policy *policy, struct policy_report *report) {
  check_signers(policy, report);
  for (size_t i = 0; i < policy->domain_count; i++) {
    if (policy->domains[i].sender_count > 0 && is_joined(&policy->domains[i])) {
      check_senders(policy, &policy->domains[i], report);
    }
  }
  check_folders(policy, report);
}
