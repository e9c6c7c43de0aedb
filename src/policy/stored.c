#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/policy_input.h"
#include "dkimroll/policy_tables.h"
#include "dkimroll/policy_yaml.h"

/* How many octets the letter has that begins there; 0: it is none of UTF-8 (RFC 3629 section 4). */
static size_t letter_size(const unsigned char *at) {
  const size_t size = at[0] < 0x80 ? 1 : at[0] >= 0xc2 && at[0] < 0xe0 ? 2 : at[0] >= 0xe0 && at[0] < 0xf0 ? 3 : at[0] >= 0xf0 && at[0] < 0xf5 ? 4 : 0;
  for (size_t i = 1; i < size; i++)
    if ((at[i] & 0xc0) != 0x80) return 0;
  const bool too_long = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
  const bool no_letter = (at[0] == 0xed && at[1] >= 0xa0) || (at[0] == 0xf4 && at[1] >= 0x90);
  return too_long || no_letter ? 0 : size;
}

/* The policy's own texts are UTF-8; names of directories and keys that were taken over come from tables, which may hold anything. */
static bool is_utf8(const char *text) {
  const unsigned char *at = (const unsigned char *)text;
  for (size_t size; *at; at += size)
    if ((size = letter_size(at)) == 0) return false;
  return true;
}

/* One entry as {"NAME": {...}}: what read_entry below reads, and what a policy file would have under `policies` and the like. */
static int format_entry(const struct schema_table *table, const void *record, char **ret_text, struct error *error) {
  struct buffer buffer = BUFFER_WITH_MAXIMUM(POLICY_STORED_MAX);
  const char *name = *SCHEMA_FIELD_CONST(char *, record, table->name_offset);
  buffer_add_text(&buffer, "{");
  schema_write_text(name ? name : "", &buffer);
  buffer_add_text(&buffer, ": ");
  schema_write(table, record, &buffer);
  buffer_add_text(&buffer, "}");
  char *text = buffer_take_text(&buffer);
  if (!text) {
    const bool no_memory = buffer.no_memory || !buffer.failed;
    buffer_release(&buffer);
    if (no_memory) return error_set(error, ERROR_NO_MEMORY, "memory ran out while %s \"%s\" was written", table->what, name ? name : "");
    error_set(error, ERROR_LIMIT, "%s \"%s\" has more than %d octets, so it cannot be stored with its keys", table->what, name ? name : "",
              POLICY_STORED_MAX);
    error_remedy(error, "give it fewer servers or shorter paths in the policy");
    return ERROR_LIMIT;
  }
  if (!is_utf8(text)) {
    free(text);
    error_set(error, ERROR_INVALID, "%s \"%s\" has a path or name that is no UTF-8, so it cannot be stored with its keys", table->what, name ? name : "");
    error_remedy(error, "rename that directory or key name in the signer's tables, or leave that key alone");
    return ERROR_INVALID;
  }
  *ret_text = text;
  return 0;
}

static void read_stored(const struct schema_row *row, const char *text, struct policy *policy,
                        struct policy_report *report) {
  struct policy_input input;
  struct policy_yaml yaml;
  policy_input_text(&input, text, strlen(text), report, 0);
  policy_yaml_open(&yaml, &input, report);
  struct policy_place place = {.line = 1, .column = 1};
  if (policy_yaml_next(&yaml, &place) != POLICY_NODE_MAPPING) {
    if (!report->stopped) policy_report_add(report, place, "no mapping");
  } else {
    struct policy_node *node = policy_yaml_read(&yaml, NULL, place);
    if (node) schema_read_row(row, node, policy, report);
    policy_node_free(node);
    policy_yaml_finish(&yaml);
  }
  policy_yaml_close(&yaml);
}

/* Reads the one entry of text into the array of policy that row fills. */
static int parse_entry(const struct schema_row *row, const char *text, struct policy *policy, struct error *error) {
  CLEANUP(policy_report_release) struct policy_report report = {.stored = true};
  if (strlen(text) > POLICY_STORED_MAX)
    return error_set(error, ERROR_INVALID, "a stored %s is damaged: it has more than %d octets", row->table->what,
                     POLICY_STORED_MAX);
  read_stored(row, text, policy, &report);
  if (report.failure < 0)
    return error_set(error, report.failure, "memory ran out while a stored %s was read", row->table->what);
  if (report.total > 0) {
    return error_set(error, ERROR_INVALID, "a stored %s is damaged: %u:%u: %s", row->table->what,
                     report.findings.items[0].place.line, report.findings.items[0].place.column,
                     report.findings.items[0].message);
  }
  const size_t count = *SCHEMA_FIELD(size_t, policy, row->count_offset);
  if (count == 1) return 0;
  return error_set(error, ERROR_INVALID, "a stored %s is damaged: it has %zu entries and not one", row->table->what,
                   count);
}

int policy_rules_format(const struct policy_rules *rules, char **ret_text, struct error *error) {
  return format_entry(&policy_rules_table, rules, ret_text, error);
}

int policy_rules_parse(const char *text, struct policy_rules **ret_rules, struct error *error) {
  struct policy policy = {0};
  const int result = parse_entry(&policy_rules_row, text, &policy, error);
  if (result == 0) {
    policy_schedule_compile(policy.rules);
    *ret_rules = policy.rules; /* an array of one is what the caller's free expects */
  } else {
    schema_release_entries(&policy_rules_table, policy.rules, policy.rules_count);
  }
  return result;
}

void policy_rules_free(struct policy_rules *rules) {
  schema_release_entries(&policy_rules_table, rules, rules ? 1 : 0);
}

int policy_publisher_format(const struct policy_publisher *publisher, char **ret_text, struct error *error) {
  return format_entry(&policy_publisher_table, publisher, ret_text, error);
}

int policy_publisher_parse(const char *text, struct policy_publisher **ret_publisher, struct error *error) {
  struct policy policy = {0};
  const int result = parse_entry(&policy_publishers_row, text, &policy, error);
  if (result == 0) {
    *ret_publisher = policy.publishers;
  } else {
    schema_release_entries(&policy_publisher_table, policy.publishers, policy.publisher_count);
  }
  return result;
}

void policy_publisher_free(struct policy_publisher *publisher) {
  schema_release_entries(&policy_publisher_table, publisher, publisher ? 1 : 0);
}

int policy_signer_format(const struct policy_signer *signer, char **ret_text, struct error *error) {
  return format_entry(&policy_signer_table, signer, ret_text, error);
}

int policy_signer_parse(const char *text, struct policy_signer **ret_signer, struct error *error) {
  struct policy policy = {0};
  const int result = parse_entry(&policy_signers_row, text, &policy, error);
  if (result == 0) {
    *ret_signer = policy.signers;
  } else {
    schema_release_entries(&policy_signer_table, policy.signers, policy.signer_count);
  }
  return result;
}

void policy_signer_free(struct policy_signer *signer) {
  schema_release_entries(&policy_signer_table, signer, signer ? 1 : 0);
}
