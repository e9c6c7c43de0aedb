#include "dkimroll/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/policy_domains.h"
#include "dkimroll/policy_input.h"
#include "dkimroll/policy_report.h"
#include "dkimroll/policy_tables.h"
#include "dkimroll/policy_yaml.h"
#include "dkimroll/text.h"

/* One reading, from the first octet to the last check. */
struct reading {
  struct policy_draft draft;
  struct policy_report report;
  struct policy_domains domains;
  struct policy_node *defaults; /* the value of domain-defaults; owned */
  struct policy_node *files;    /* of domains-from; owned */
  struct policy_node *freeze;   /* owned */
  EVP_MD_CTX *digest;
  struct error failure; /* of reading a file: not a finding */
};

static void domain_release(struct policy_domain *domain) {
  free(domain->name);
  free(domain->zone);
  for (size_t i = 0; i < domain->sender_count; i++) free(domain->senders[i]);
  free(domain->senders);
}

static void release_policy(struct policy *policy) {
  free(policy->path);
  free(policy->state);
  for (size_t i = 0; i < policy->freeze_count; i++) free(policy->freezes[i]);
  free(policy->freezes);
  _Static_assert(offsetof(struct policy_draft, policy) == 0, "the tables' offsets are those of a draft, which begins with its policy");
  schema_release(&policy_metrics_table, policy);
  schema_release(&policy_hooks_table, policy);
  schema_release_entries(&policy_rules_table, policy->rules, policy->rules_count);
  schema_release_entries(&policy_publisher_table, policy->publishers, policy->publisher_count);
  schema_release_entries(&policy_signer_table, policy->signers, policy->signer_count);
  for (size_t i = 0; i < policy->domain_count; i++) domain_release(&policy->domains[i]);
  free(policy->domains);
  for (size_t i = 0; i < policy->file_count; i++) free(policy->files[i]);
  free(policy->files);
}

void policy_free(struct policy *policy) {
  if (!policy) return;
  release_policy(policy);
  free(policy);
}

static void reading_release(struct reading *reading) {
  policy_domains_release(&reading->domains);
  release_policy(&reading->draft.policy);
  schema_release(&policy_domain_table, &reading->draft.defaults);
  for (size_t i = 0; i < reading->draft.domain_file_count; i++) free(reading->draft.domain_files[i]);
  free(reading->draft.domain_files);
  policy_node_free(reading->defaults);
  policy_node_free(reading->files);
  policy_node_free(reading->freeze);
  policy_report_release(&reading->report);
  EVP_MD_CTX_free(reading->digest);
}

static const struct schema_row *find_row(const char *name) {
  for (size_t i = 0; i < policy_table.row_count; i++) {
    if (text_equal(policy_table.rows[i].name, name)) return &policy_table.rows[i];
  }
  return NULL;
}

/* The first place of each top-level key; line 0: not given. */
struct given {
  struct policy_place places[16];
};

/* Reads the value of one top-level key. */
static void read_section(struct reading *reading, struct policy_yaml *yaml, const char *name, struct policy_place place,
                         struct given *given) {
  const struct schema_row *row = schema_find_row(&policy_table, NULL, name, place, &reading->report);
  const size_t index = row ? (size_t)(row - policy_table.rows) : 0;
  if (row && given->places[index].line > 0) {
    policy_report_add(&reading->report, place, "%s is given twice, first in line %u; put both into one", name,
                      given->places[index].line);
    row = NULL;
  }
  if (row) given->places[index] = place;
  if (row && row->shape == SCHEMA_STREAM) {
    policy_domains_read(&reading->domains, yaml, false);
    return;
  }
  struct policy_node *node = policy_yaml_read(yaml, name, place);
  if (node && row) {
    schema_read_row(row, node, &reading->draft, &reading->report);
    if (row->table == &policy_signer_table) policy_signers_check(node, &reading->draft.policy, &reading->report);
    if (row->table == &policy_defaults_table) reading->defaults = TAKE_PTR(node);
    if (text_equal(row->name, "freeze")) reading->freeze = TAKE_PTR(node);
    if (node && text_equal(row->name, "domains-from")) reading->files = TAKE_PTR(node);
  }
  policy_node_free(node);
}

/* Defaults and complaints for top-level keys that are not there. */
static void read_absent_sections(struct reading *reading, const struct given *given) {
  const struct policy_place top = {.line = 1, .column = 1};
  for (size_t i = 0; i < policy_table.row_count; i++) {
    if (given->places[i].line == 0 && policy_table.rows[i].shape != SCHEMA_STREAM) {
      schema_read_absent(&policy_table.rows[i], NULL, &reading->draft, &reading->report);
    }
  }
  if (given->places[find_row("domains") - policy_table.rows].line == 0 &&
      given->places[find_row("domains-from") - policy_table.rows].line == 0) {
    policy_report_add(&reading->report, top, "domains is missing; add it, or domains-from");
  }
}

/* Walks the root mapping. */
static void read_root(struct reading *reading, struct policy_yaml *yaml) {
  struct policy_place place = {.line = 1, .column = 1};
  struct given given = {0};
  if (policy_yaml_next(yaml, &place) == POLICY_NODE_MAPPING) {
    char *name;
    policy_yaml_enter(yaml);
    while (policy_yaml_key(yaml, &name, &place)) {
      read_section(reading, yaml, name, place, &given);
      free(name);
    }
    policy_yaml_finish(yaml);
    if (!reading->report.stopped) read_absent_sections(reading, &given);
  } else if (!reading->report.stopped) {
    policy_report_add(&reading->report, place,
                      "there is no policy here; begin with \"policies:\" (dkimroll-policy(5) has a whole one)");
    reading->report.stopped = true;
  }
}

static void read_document(struct reading *reading, struct policy_input *input, bool is_domain_file) {
  struct policy_yaml yaml;
  input->digest = reading->digest;
  policy_yaml_open(&yaml, input, &reading->report);
  if (is_domain_file) {
    policy_domains_read(&reading->domains, &yaml, true);
    policy_yaml_finish(&yaml);
  } else {
    read_root(reading, &yaml);
  }
  policy_yaml_close(&yaml);
  if (input->failure.code < 0) reading->failure = input->failure;
}

/* A path of domains-from, relative to the folder of the policy. Caller frees; NULL: no memory. */
static char *domain_file_path(const char *policy_path, const char *file) {
  const char *slash = strrchr(policy_path, '/');
  if (file[0] == '/' || !slash) return text_duplicate(file);
  return text_format("%.*s/%s", (int)(slash - policy_path), policy_path, file);
}

static void read_domain_file(struct reading *reading, const char *file, struct policy_place place) {
  CLEANUP_FREE char *path = domain_file_path(reading->report.files[0], file);
  if (!path) {
    policy_report_no_memory(&reading->report);
    return;
  }
  const unsigned index = policy_report_add_file(&reading->report, path);
  if (reading->report.failure < 0) return;
  struct policy_input input;
  struct error error = {0};
  const int opened = policy_input_open(&input, path, &reading->report, index, &error);
  if (opened == ERROR_SYSTEM || opened == ERROR_NO_MEMORY) {
    reading->failure = error; /* the machine's trouble, not the policy's */
  } else if (opened < 0) {
    policy_report_error(&reading->report, place, "domains-from", &error);
  } else {
    read_document(reading, &input, true);
    policy_input_close(&input);
  }
}

static bool is_healthy(const struct reading *reading) {
  return reading->report.failure == 0 && reading->failure.code == 0;
}

static void read_domain_files(struct reading *reading) {
  const struct policy_node *node = reading->files;
  const struct policy_node *item = node && node->kind == POLICY_NODE_LIST ? node->first : node;
  for (size_t i = 0; i < reading->draft.domain_file_count && is_healthy(reading); i++) {
    /* A file that is no YAML ends its own reading; the others are still worth reading. */
    const bool stopped = reading->report.stopped;
    reading->report.stopped = false;
    read_domain_file(reading, reading->draft.domain_files[i], item ? item->place : (struct policy_place){0});
    reading->report.stopped |= stopped;
    if (item && item->next) item = item->next;
  }
}

/* One finding or many, as one error. */
static int config_error(const struct reading *reading, struct error *error) {
  const struct policy_findings *findings = &reading->report.findings;
  const struct policy_finding *first = &findings->items[0];
  error_set(error, ERROR_CONFIG, "the policy is wrong in %s%zu place%s; the first is %s:%u:%u: %s",
            findings->more ? "more than " : "", findings->count, findings->count == 1 ? "" : "s", first->file,
            first->place.line, first->place.column, first->message);
  if (error) (void)error_remedy(error, "correct the file; dkimroll-policy(5) describes every key");
  return ERROR_CONFIG;
}

static int no_memory(struct error *error) {
  return error_set(error, ERROR_NO_MEMORY, "memory ran out while the policy was read");
}

static int write_digest(struct reading *reading, struct error *error) {
  uint8_t octets[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  struct policy *policy = &reading->draft.policy;
  if (EVP_DigestFinal_ex(reading->digest, octets, &size) != 1 || size * 2 + 1 > sizeof(policy->digest)) {
    return error_set(error, ERROR_SYSTEM, "OpenSSL cannot finish the SHA-256 of the policy");
  }
  for (size_t i = 0; i < size; i++) snprintf(policy->digest + 2 * i, 3, "%02x", octets[i]);
  return 0;
}

/* Everything was read without a finding: hands the policy out. */
static int take_policy(struct reading *reading, struct policy **ret_policy, struct error *error) {
  const int digested = write_digest(reading, error);
  if (digested < 0) return digested;
  struct policy *policy = malloc(sizeof(*policy));
  char *path = text_duplicate(reading->report.files[0]);
  if (!policy || !path) {
    free(policy);
    free(path);
    return no_memory(error);
  }
  *policy = reading->draft.policy;
  reading->draft.policy = (struct policy){0};
  policy->path = path;
  policy->files = TAKE_PTR(reading->report.files);
  policy->file_count = reading->report.file_count;
  reading->report.file_count = 0;
  *ret_policy = policy;
  return 0;
}

static int finish_reading(struct reading *reading, struct policy **ret_policy, struct policy_findings *ret_findings,
                          struct error *error) {
  struct policy_report *report = &reading->report;
  if (is_healthy(reading)) read_domain_files(reading);
  if (is_healthy(reading)) policy_freezes_join(&reading->draft, reading->freeze, report);
  if (is_healthy(reading) && !report->stopped) {
    policy_domains_join(&reading->domains, reading->defaults);
    policy_domains_check(&reading->draft.policy, report);
  }
  if (report->failure < 0) return no_memory(error);
  const struct error *trouble = reading->failure.code < 0 ? &reading->failure : &report->trouble;
  if (trouble->code < 0) {
    if (error) *error = *trouble;
    return trouble->code;
  }
  if (report->total == 0) return take_policy(reading, ret_policy, error);
  policy_report_sort(report);
  const int result = config_error(reading, error);
  if (ret_findings) {
    *ret_findings = report->findings;
    report->findings = (struct policy_findings){0};
  }
  return result;
}

static int begin_reading(struct reading *reading, const char *file, struct policy_findings *ret_findings,
                         struct error *error) {
  if (ret_findings) *ret_findings = (struct policy_findings){0};
  reading->domains = (struct policy_domains){.draft = &reading->draft, .report = &reading->report};
  (void)policy_report_add_file(&reading->report, file);
  reading->digest = EVP_MD_CTX_new();
  if (reading->report.failure < 0 || !reading->digest) return no_memory(error);
  if (EVP_DigestInit_ex(reading->digest, EVP_sha256(), NULL) != 1) {
    return error_set(error, ERROR_SYSTEM, "the policy: OpenSSL cannot begin its SHA-256");
  }
  return 0;
}

int policy_load(const char *path, struct policy **ret_policy, struct policy_findings *ret_findings,
                struct error *error) {
  CLEANUP(reading_release) struct reading reading = {0};
  struct policy_input input;
  const int begun = begin_reading(&reading, path, ret_findings, error);
  if (begun < 0) return begun;
  const int opened = policy_input_open(&input, path, &reading.report, 0, error);
  if (opened < 0) return opened;
  read_document(&reading, &input, false);
  policy_input_close(&input);
  return finish_reading(&reading, ret_policy, ret_findings, error);
}

int policy_parse(const char *file, const char *text, size_t size, struct policy **ret_policy,
                 struct policy_findings *ret_findings, struct error *error) {
  CLEANUP(reading_release) struct reading reading = {0};
  struct policy_input input;
  const int begun = begin_reading(&reading, file, ret_findings, error);
  if (begun < 0) return begun;
  policy_input_text(&input, text, size, &reading.report, 0);
  read_document(&reading, &input, false);
  return finish_reading(&reading, ret_policy, ret_findings, error);
}
