/* The tables of the policy file: every key, its type, default and bounds; and the rules between values of one entry. */
#ifndef DKIMROLL_POLICY_TABLES_H
#define DKIMROLL_POLICY_TABLES_H

#include "dkimroll/policy.h"
#include "dkimroll/policy_schema.h"

/* One domain, or domain-defaults, as it stands in the file: references are names still. */
struct policy_domain_draft {
  char *rules;
  char *publisher;
  char **signers;
  size_t signer_count;
  char *zone;
  char **senders;
  size_t sender_count;
};

/* The file as a whole. */
struct policy_draft {
  struct policy policy;
  struct policy_domain_draft defaults;
  char **domain_files; /* domains-from */
  size_t domain_file_count;
};

extern const struct schema_table policy_key_table;
extern const struct schema_table policy_rules_table;
extern const struct schema_table policy_publisher_table;
extern const struct schema_table policy_signer_table;
extern const struct schema_table policy_defaults_table; /* into struct policy_draft */
extern const struct schema_table policy_domain_table;   /* into struct policy_domain_draft */
extern const struct schema_table policy_metrics_table;  /* these two into struct policy_draft (tables_see.c) */
extern const struct schema_table policy_hooks_table;
extern const struct schema_table policy_table;          /* into struct policy_draft; `domains` is a stream */

/* Lists with one entry, for what the store keeps: into struct policy. */
extern const struct schema_row policy_rules_row;
extern const struct schema_row policy_publishers_row;
extern const struct schema_row policy_signers_row;

/* Types of policies: (schedule_read.c) a duration that is left out of what is stored while it is 0, as in what earlier versions stored, and a time zone. */
extern const struct schema_type policy_jitter_type;
extern const struct schema_type policy_time_zone_type;
extern const struct schema_type policy_budget_type; /* struct policy_limits: "5%" or "12" */
/* What the texts of rules say, for the planner; those that say nothing are passed over. */
void policy_schedule_compile(struct policy_rules *rules);
/* Each of the draft's rules gets the freezes for all. freeze: where they stand. */
void policy_freezes_join(struct policy_draft *draft, const struct policy_node *freeze, struct policy_report *report);

/* Rules between the values of one mapping (struct schema_check). */
void policy_window_check(const struct policy_node *node, void *record, struct policy_report *report);
void policy_bits_check(const struct policy_node *node, void *record, struct policy_report *report);
void policy_slots_check(const struct policy_node *node, void *record, struct policy_report *report);
void policy_life_check(const struct policy_node *node, void *record, struct policy_report *report);
void policy_archive_check(const struct policy_node *node, void *record, struct policy_report *report);
void policy_signer_tables_check(const struct policy_node *node, void *record, struct policy_report *report);
void policy_mode_check(const struct policy_node *node, void *record, struct policy_report *report);
void policy_restart_check(const struct policy_node *node, void *record, struct policy_report *report);
void policy_publisher_keys_check(const struct policy_node *node, void *record, struct policy_report *report);
void policy_publisher_command_check(const struct policy_node *node, void *record, struct policy_report *report);
void policy_publisher_file_check(const struct policy_node *node, void *record, struct policy_report *report);
void policy_reload_check(const struct policy_node *node, void *record, struct policy_report *report);

#endif
