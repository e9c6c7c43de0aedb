#include "dkimroll/policy_domains.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/policy_checks.h"
#include "dkimroll/selector.h"
#include "dkimroll/text.h"

enum { FIRST_CAPACITY = 16 };

/* An array that grows to twice its size; NULL: no memory, and the old one is still there. */
static void *grow(void *items, size_t count, size_t *capacity, size_t size) {
  if (count < *capacity) return items;
  const size_t wanted = *capacity > 0 ? *capacity * 2 : FIRST_CAPACITY;
  void *grown = realloc(items, wanted * size);
  if (grown) *capacity = wanted;
  return grown;
}

/* The record at index in the array that kind refers to; NULL behind its end. */
static const char *referred_name(const struct policy *policy, enum policy_reference_kind kind, size_t index) {
  switch (kind) {
  case REFERENCE_RULES: return index < policy->rules_count ? policy->rules[index].name : NULL;
  case REFERENCE_PUBLISHER: return index < policy->publisher_count ? policy->publishers[index].name : NULL;
  case REFERENCE_SIGNER: return index < policy->signer_count ? policy->signers[index].name : NULL;
  }
  return NULL;
}

/* POLICY_REFERENCE_UNSET: no such name. */
static size_t find_referred(struct policy_domains *domains, enum policy_reference_kind kind, const char *name) {
  const struct policy *policy = &domains->draft->policy;
  const char *last = referred_name(policy, kind, domains->last[kind]);
  if (last && text_equal(last, name)) return domains->last[kind];
  const char *candidate;
  for (size_t i = 0; (candidate = referred_name(policy, kind, i)); i++) {
    if (!text_equal(candidate, name)) continue;
    domains->last[kind] = i;
    return i;
  }
  return POLICY_REFERENCE_UNSET;
}

static size_t *reference_field(struct policy_domain *domain, enum policy_reference_kind kind, size_t signer) {
  if (kind == REFERENCE_RULES) return &domain->rules;
  return kind == REFERENCE_PUBLISHER ? &domain->publisher : &domain->signers[signer];
}

/* Resolves name for the last domain, now or after everything was read. node is its value (NULL: not given); name NULL: what is given is wrong, and
 * was found to be so. */
static void refer(struct policy_domains *domains, enum policy_reference_kind kind, size_t signer, const char *name,
                  const struct policy_node *node) {
  struct policy *policy = &domains->draft->policy;
  const size_t domain = policy->domain_count - 1;
  size_t *field = reference_field(&policy->domains[domain], kind, signer);
  const size_t found = name ? find_referred(domains, kind, name) : POLICY_REFERENCE_UNSET;
  *field = found == POLICY_REFERENCE_UNSET && node ? POLICY_REFERENCE_BROKEN : found;
  if (!name || !node || found != POLICY_REFERENCE_UNSET) return;
  char *copy = text_duplicate(name);
  struct policy_reference *pending =
      grow(domains->pending, domains->pending_count, &domains->pending_capacity, sizeof(*pending));
  if (pending) domains->pending = pending;
  if (!copy || !pending) {
    free(copy);
    policy_report_no_memory(domains->report);
    return;
  }
  pending[domains->pending_count++] =
      (struct policy_reference){.kind = kind, .domain = domain, .signer = signer, .place = node->place, .name = copy};
}

/* The name of a new domain in canonical form; NULL: no domain, or no memory. */
static char *domain_name(struct policy_domains *domains, const char *text, struct policy_place place) {
  struct error error = {0};
  CLEANUP_FREE char *name = policy_canonical_name(text);
  if (!name) {
    policy_report_no_memory(domains->report);
    return NULL;
  }
  if (selector_check_domain(name, &error) == 0) return TAKE_PTR(name);
  policy_report_error(domains->report, place, NULL, &error);
  return NULL;
}

/* Appends a domain; takes name, zone and senders (of draft). */
static bool append_domain(struct policy_domains *domains, char *name, struct policy_place place,
                          struct policy_domain_draft *draft) {
  struct policy *policy = &domains->draft->policy;
  struct policy_domain *items = NULL;
  if (policy->domain_count == POLICY_DOMAINS_MAX) {
    policy_report_add(domains->report, place,
                      "there are more than %d domains; spread them over several policies and stores",
                      POLICY_DOMAINS_MAX);
    domains->report->stopped = true;
  } else {
    items = grow(policy->domains, policy->domain_count, &domains->capacity, sizeof(*items));
    if (!items) policy_report_no_memory(domains->report);
  }
  if (!items) {
    free(name);
    return false;
  }
  policy->domains = items;
  struct policy_domain *domain = &items[policy->domain_count++];
  *domain = (struct policy_domain){.name = name, .place = place, .signer_count = draft->signer_count};
  domain->zone = TAKE_PTR(draft->zone);
  domain->senders = TAKE_PTR(draft->senders);
  domain->sender_count = draft->sender_count;
  draft->sender_count = 0;
  return true;
}

static void refer_signers(struct policy_domains *domains, const struct policy_domain_draft *draft,
                          const struct policy_node *node) {
  struct policy *policy = &domains->draft->policy;
  if (node && draft->signer_count == 0) {
    policy->domains[policy->domain_count - 1].signer_count = 1; /* something is given, and it is wrong */
    refer(domains, REFERENCE_SIGNER, 0, NULL, node);
  }
  const struct policy_node *item = node && node->first ? node->first : node;
  for (size_t i = 0; i < draft->signer_count; i++) {
    refer(domains, REFERENCE_SIGNER, i, draft->signers[i], item);
    if (item && item->next) item = item->next;
  }
}

/* Reads one entry: node is its value, or NULL for a name alone. */
static void read_entry(struct policy_domains *domains, const char *text, struct policy_place place,
                       const struct policy_node *node) {
  struct policy_domain_draft draft = {0};
  if (node) schema_read(&policy_domain_table, node, &draft, domains->report);
  char *name = domain_name(domains, text, place);
  if (name && append_domain(domains, name, place, &draft)) {
    refer(domains, REFERENCE_RULES, 0, draft.rules, policy_node_find(node, "policy"));
    refer(domains, REFERENCE_PUBLISHER, 0, draft.publisher, policy_node_find(node, "publisher"));
    refer_signers(domains, &draft, policy_node_find(node, "signers"));
  }
  schema_release(&policy_domain_table, &draft);
}

static void read_mapping(struct policy_domains *domains, struct policy_yaml *yaml, bool is_file) {
  struct policy_place place;
  char *text;
  while (policy_yaml_key(yaml, &text, &place)) {
    struct policy_node *node = policy_yaml_read(yaml, text, place);
    if (node && is_file && text_equal(text, "domains")) {
      policy_report_add(domains->report, place,
                        "a domains-from file holds the domains themselves; remove the line \"domains:\" and the "
                        "indentation below it");
    } else if (node) {
      read_entry(domains, text, place, node);
    }
    policy_node_free(node);
    free(text);
  }
}

static void read_list(struct policy_domains *domains, struct policy_yaml *yaml) {
  while (policy_yaml_item(yaml)) {
    struct policy_node *node = policy_yaml_read(yaml, NULL, (struct policy_place){0});
    if (node && node->kind == POLICY_NODE_TEXT && !policy_node_is_null(node)) {
      read_entry(domains, node->text, node->place, NULL);
    } else if (node && node->kind != POLICY_NODE_BROKEN) {
      policy_report_add(domains->report, node->place,
                        "a list of domains holds names only, as in \"- example.com\"; for more, write a mapping, as in "
                        "\"example.com: {policy: standard}\"");
    }
    policy_node_free(node);
  }
}

void policy_domains_read(struct policy_domains *domains, struct policy_yaml *yaml, bool is_file) {
  struct policy_place place;
  const enum policy_node_kind kind = policy_yaml_next(yaml, &place);
  if (kind == POLICY_NODE_MAPPING || (kind == POLICY_NODE_LIST && is_file)) {
    policy_yaml_enter(yaml);
    if (kind == POLICY_NODE_MAPPING) read_mapping(domains, yaml, is_file);
    if (kind == POLICY_NODE_LIST) read_list(domains, yaml);
    return;
  }
  if (kind == POLICY_NODE_NONE) return; /* an empty file, or one that is not YAML */
  struct policy_node *node = policy_yaml_read(yaml, NULL, place);
  if (node && node->kind != POLICY_NODE_BROKEN && !policy_node_is_null(node)) {
    policy_report_add(domains->report, place,
                      is_file
                          ? "a domains-from file holds a mapping (\"example.com: {policy: standard}\") or a list (\"- "
                            "example.com\"), one domain a line"
                          : "domains: give a mapping of domains, as in \"example.com: {policy: standard}\"; lists of "
                            "names stand in a file of their own (domains-from)");
  }
  policy_node_free(node);
}

void policy_domains_release(struct policy_domains *domains) {
  for (size_t i = 0; i < domains->pending_count; i++) free(domains->pending[i].name);
  free(domains->pending);
  *domains = (struct policy_domains){0};
}

/* Finding for a name that nothing bears. */
static void report_unknown(struct policy_domains *domains, enum policy_reference_kind kind, const char *name,
                           struct policy_place place, const char *where) {
  static const char *const kinds[] = {"policy", "publisher", "signer"};
  static const char *const sections[] = {"policies", "publishers", "signers"};
  const char *names[POLICY_ENTRIES_MAX];
  size_t count = 0;
  while (count < POLICY_ENTRIES_MAX && (names[count] = referred_name(&domains->draft->policy, kind, count))) count++;
  if (count == 0) return; /* the missing section is the finding */
  char shown[DNS_NAME_TEXT_SIZE];
  text_printable(name, strlen(name), shown, sizeof(shown));
  CLEANUP_FREE char *hint = policy_report_hint(domains->report, name, names, count);
  policy_report_add(domains->report, place, "%s: there is no %s \"%s\" under %s; %s", where, kinds[kind], shown,
                    sections[kind], hint ? hint : "");
}

static void resolve_pending(struct policy_domains *domains) {
  struct policy *policy = &domains->draft->policy;
  for (size_t i = 0; i < domains->pending_count; i++) {
    const struct policy_reference *reference = &domains->pending[i];
    struct policy_domain *domain = &policy->domains[reference->domain];
    const size_t found = find_referred(domains, reference->kind, reference->name);
    if (found == POLICY_REFERENCE_UNSET) {
      report_unknown(domains, reference->kind, reference->name, reference->place, domain->name);
    } else {
      *reference_field(domain, reference->kind, reference->signer) = found;
    }
  }
}

/* What domain-defaults gives, resolved. */
struct resolved_defaults {
  size_t rules, publisher, signers[POLICY_SIGNERS_MAX];
  size_t signer_count;
};

static size_t resolve_default(struct policy_domains *domains, enum policy_reference_kind kind, const char *name,
                              const struct policy_node *node) {
  if (!node) return POLICY_REFERENCE_UNSET;
  const size_t found = name ? find_referred(domains, kind, name) : POLICY_REFERENCE_UNSET;
  if (found != POLICY_REFERENCE_UNSET) return found;
  if (name) report_unknown(domains, kind, name, node->place, "domain-defaults");
  return POLICY_REFERENCE_BROKEN;
}

static void resolve_defaults(struct policy_domains *domains, const struct policy_node *node,
                             struct resolved_defaults *ret_defaults) {
  const struct policy_domain_draft *draft = &domains->draft->defaults;
  const struct policy_node *signers = policy_node_find(node, "signers");
  ret_defaults->rules = resolve_default(domains, REFERENCE_RULES, draft->rules, policy_node_find(node, "policy"));
  ret_defaults->publisher =
      resolve_default(domains, REFERENCE_PUBLISHER, draft->publisher, policy_node_find(node, "publisher"));
  for (size_t i = 0; i < draft->signer_count; i++) {
    ret_defaults->signers[i] = resolve_default(domains, REFERENCE_SIGNER, draft->signers[i], signers);
  }
  ret_defaults->signer_count = draft->signer_count;
  if (signers && draft->signer_count == 0) {
    ret_defaults->signer_count = 1;
    ret_defaults->signers[0] = POLICY_REFERENCE_BROKEN;
  }
}

static void report_missing(struct policy_domains *domains, const struct policy_domain *domain, const char *key) {
  policy_report_add(domains->report, domain->place,
                    "%s has no %s; give it one, or give all domains one under domain-defaults", domain->name, key);
}

static void complete_domain(struct policy_domains *domains, struct policy_domain *domain,
                            const struct resolved_defaults *defaults) {
  if (domain->rules == POLICY_REFERENCE_UNSET) domain->rules = defaults->rules;
  if (domain->publisher == POLICY_REFERENCE_UNSET) domain->publisher = defaults->publisher;
  if (domain->signer_count == 0) {
    domain->signer_count = defaults->signer_count;
    memcpy(domain->signers, defaults->signers, defaults->signer_count * sizeof(domain->signers[0]));
  }
  if (domain->rules == POLICY_REFERENCE_UNSET) report_missing(domains, domain, "policy");
  if (domain->publisher == POLICY_REFERENCE_UNSET) report_missing(domains, domain, "publisher");
  if (domain->signer_count == 0) report_missing(domains, domain, "signers");
}

/* By name, and where one is there twice by place, so that the finding names the second. */
static int compare_domains(const void *left, const void *right) {
  const struct policy_domain *a = left;
  const struct policy_domain *b = right;
  const int order = strcmp(a->name, b->name);
  if (order != 0) return order;
  if (a->place.file != b->place.file) return a->place.file < b->place.file ? -1 : 1;
  if (a->place.line != b->place.line) return a->place.line < b->place.line ? -1 : 1;
  return (a->place.column > b->place.column) - (a->place.column < b->place.column);
}

static void sort_domains(struct policy_domains *domains) {
  struct policy *policy = &domains->draft->policy;
  const struct policy_report *report = domains->report;
  if (policy->domain_count == 0) return;
  bool is_sorted = true; /* as lists that programs write mostly are */
  for (size_t i = 1; i < policy->domain_count && is_sorted; i++) {
    is_sorted = compare_domains(&policy->domains[i - 1], &policy->domains[i]) < 0;
  }
  if (!is_sorted) qsort(policy->domains, policy->domain_count, sizeof(*policy->domains), compare_domains);
  for (size_t i = 1; i < policy->domain_count; i++) {
    const struct policy_domain *first = &policy->domains[i - 1];
    const struct policy_domain *second = &policy->domains[i];
    if (!text_equal(first->name, second->name)) continue;
    policy_report_add(domains->report, second->place, "%s is there twice, first at %s:%u:%u; remove one", second->name,
                      report->files[first->place.file], first->place.line, first->place.column);
  }
}

void policy_domains_join(struct policy_domains *domains, const struct policy_node *defaults) {
  struct policy *policy = &domains->draft->policy;
  struct resolved_defaults resolved = {0};
  resolve_pending(domains);
  resolve_defaults(domains, defaults, &resolved);
  for (size_t i = 0; i < policy->domain_count; i++) complete_domain(domains, &policy->domains[i], &resolved);
  sort_domains(domains);
}
