/* The tables of what dkimroll tells beside its log: metrics and hooks. */
#include "dkimroll/cleanup.h"
#include "dkimroll/policy_checks.h"
#include "dkimroll/policy_tables.h"
#include "dkimroll/text.h"

#define POLICY(field) offsetof(struct policy_draft, policy.field)

/* metrics: */
static int check_metrics_file(const char *text, struct error *error) {
  const int result = policy_check_path(text, error);
  if (result || text_ends(text, ".prom")) return result;
  error_set(error, ERROR_INVALID, "\"%.300s\" does not end with .prom", text);
  error_remedy(error, "name it so: node_exporter reads no other files");
  return ERROR_INVALID;
}

static void check_metrics(const struct policy_node *node, void *record, struct policy_report *report) {
  const struct policy_draft *draft = record;
  if (!draft->policy.metrics.file)
    policy_report_add(report, node->name_place, "metrics: file is missing; add it, or leave metrics out");
}

static const struct schema_row metrics_rows[] = {
    {"file", SCHEMA_VALUE, &schema_text, .offset = POLICY(metrics.file), .check = check_metrics_file},
    {"domains", SCHEMA_VALUE, &schema_number, .offset = POLICY(metrics.domains), .standard = "200", .maximum = POLICY_METRICS_DOMAINS_MAX},
};
static const struct schema_check metrics_checks[] = {{check_metrics, {"file"}}};
const struct schema_table policy_metrics_table = {
    "metrics", metrics_rows, ARRAY_SIZE(metrics_rows), .checks = metrics_checks, .check_count = ARRAY_SIZE(metrics_checks)};

/* hooks: */
static void check_program(const struct policy_node *node, const char *name, char *const *command, struct policy_report *report) {
  if (!command || policy_check_path(command[0], NULL) == 0) return;
  policy_report_add(report, policy_node_place(node, name),
                    "hooks.%s: \"%.300s\" is no absolute path; no shell and no PATH are used: give the program's path and its arguments as a list", name,
                    command[0]);
}

static void check_hooks(const struct policy_node *node, void *record, struct policy_report *report) {
  const struct policy_draft *draft = record;
  const struct policy_hooks *hooks = &draft->policy.hooks;
  check_program(node, "transition", hooks->transition, report);
  check_program(node, "needs-person", hooks->needs_person, report);
  if (!hooks->transition && !hooks->needs_person)
    policy_report_add(report, node->name_place, "hooks: neither transition nor needs-person is given; add one, or leave hooks out");
}

static const struct schema_row hooks_rows[] = {
    {"transition", SCHEMA_LIST, .flags = SCHEMA_STRICT_LIST, .offset = POLICY(hooks.transition), .count_offset = POLICY(hooks.transition_count),
     .minimum = 1, .maximum = POLICY_COMMAND_MAX},
    {"needs-person", SCHEMA_LIST, .flags = SCHEMA_STRICT_LIST, .offset = POLICY(hooks.needs_person),
     .count_offset = POLICY(hooks.needs_person_count), .minimum = 1, .maximum = POLICY_COMMAND_MAX},
    {"timeout", SCHEMA_VALUE, &schema_duration, .offset = POLICY(hooks.timeout), .standard = "30s", .minimum = 1, .maximum = 600},
};
static const struct schema_check hooks_checks[] = {{check_hooks, {"transition", "needs-person"}}};
const struct schema_table policy_hooks_table = {
    "hooks", hooks_rows, ARRAY_SIZE(hooks_rows), .checks = hooks_checks, .check_count = ARRAY_SIZE(hooks_checks)};
