#include "dkimroll/policy_tables.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/policy_checks.h"
#include "dkimroll/selector.h"
#include "dkimroll/text.h"

#define DAY INT64_C(86400)
#define YEAR (365 * DAY)

#define ROWS(table) .rows = (table), .row_count = ARRAY_SIZE(table)
#define CHECKS(table) .checks = (table), .check_count = ARRAY_SIZE(table)

static const struct schema_choice algorithms[] = {{"rsa", KEY_ALGORITHM_RSA}, {"ed25519", KEY_ALGORITHM_ED25519}, {0}};
static const struct schema_choice private_key_ends[] = {
    {"destroy", PRIVATE_KEY_DESTROY}, {"archive", PRIVATE_KEY_ARCHIVE}, {0}};
static const struct schema_choice signer_types[] = {{"opendkim", SIGNER_OPENDKIM}, {0}};

/* policies: NAME: keys: SLOT: */
#define KEY(field) offsetof(struct policy_key, field)
static const struct schema_row key_rows[] = {
    {"algorithm", SCHEMA_VALUE, &schema_choice, .offset = KEY(algorithm), .standard = "rsa", .choices = algorithms},
    {"bits", SCHEMA_VALUE, &schema_number, .offset = KEY(bits)}, /* the default depends on the algorithm */
    {"selector", SCHEMA_VALUE, &schema_text, .offset = KEY(selector), .check = selector_check_template},
};
static const struct schema_check key_checks[] = {{policy_bits_check, {"algorithm", "bits"}}};
const struct schema_table policy_key_table = {"algorithm and bits", ROWS(key_rows), .size = sizeof(struct policy_key),
                                              .name_offset = KEY(slot), CHECKS(key_checks)};

/* policies: NAME: */
#define RULE(field) offsetof(struct policy_rules, field)
static const struct schema_row publish_rows[] = {
    {"ttl", SCHEMA_VALUE, &schema_duration32, .offset = RULE(publish_ttl), .standard = "1h", .minimum = 1,
     .maximum = 7 * DAY},
    {"safety", SCHEMA_VALUE, &schema_duration, .offset = RULE(publish_safety), .standard = "1h", .maximum = 30 * DAY},
};
static const struct schema_table publish_table = {"publish", ROWS(publish_rows)};

static const struct schema_row confirm_rows[] = {
    {"sightings", SCHEMA_VALUE, &schema_number, .offset = RULE(confirm_sightings), .standard = "2", .minimum = 1,
     .maximum = 100},
    {"every", SCHEMA_VALUE, &schema_duration, .offset = RULE(confirm_every), .standard = "10s", .minimum = 1,
     .maximum = DAY},
    {"warn-after", SCHEMA_VALUE, &schema_duration, .offset = RULE(confirm_warn_after), .standard = "1h", .minimum = 1,
     .maximum = 30 * DAY},
};
static const struct schema_table confirm_table = {"confirm", ROWS(confirm_rows)};

static const struct schema_row retire_rows[] = {
    {"queue-lifetime", SCHEMA_VALUE, &schema_duration, .offset = RULE(queue_lifetime), .standard = "5d",
     .maximum = 100 * DAY},
    {"queue-backoff", SCHEMA_VALUE, &schema_duration, .offset = RULE(queue_backoff), .standard = "4300s",
     .maximum = 30 * DAY},
    {"drain", SCHEMA_VALUE, &schema_duration, .offset = RULE(drain), .standard = "1h", .maximum = 30 * DAY},
    {"verify-window", SCHEMA_VALUE, &schema_duration, .offset = RULE(verify_window), .standard = "2d",
     .maximum = 100 * DAY},
    {"safety", SCHEMA_VALUE, &schema_duration, .offset = RULE(retire_safety), .standard = "1h", .maximum = 30 * DAY},
    {"tombstone", SCHEMA_VALUE, &schema_duration, .offset = RULE(tombstone), .standard = "30d", .maximum = 10 * YEAR},
    {"private-key", SCHEMA_VALUE, &schema_choice, .offset = RULE(private_key), .standard = "destroy",
     .choices = private_key_ends},
    {"archive-directory", SCHEMA_VALUE, &schema_text, .offset = RULE(archive_directory),
     .check = policy_check_directory},
};
static const struct schema_check retire_checks[] = {{policy_archive_check, {"private-key", "archive-directory"}}};
static const struct schema_table retire_table = {"retire", ROWS(retire_rows), CHECKS(retire_checks)};

/* A day alone is no window, nor are hours: what is not given is every day, or the whole of it. */
static const struct schema_row window_rows[] = {
    {"days", SCHEMA_LIST, .offset = RULE(window_days), .count_offset = RULE(window_day_count), .minimum = 1,
     .maximum = SCHEDULE_DAYS, .check = policy_check_day},
    {"hours", SCHEMA_LIST, .offset = RULE(window_hours), .count_offset = RULE(window_hours_count), .minimum = 1,
     .maximum = SCHEDULE_HOURS_MAX, .check = policy_check_hours},
};
static const struct schema_table window_table = {"window", ROWS(window_rows)};

static const struct schema_row rules_rows[] = {
    {"selector", SCHEMA_VALUE, &schema_text, .offset = RULE(selector), .standard = "server-%Y%m%d",
     .check = selector_check_template},
    {"keys", SCHEMA_ENTRIES, .offset = RULE(keys), .count_offset = RULE(key_count), .standard = "main", .minimum = 1,
     .maximum = POLICY_SLOTS_MAX, .table = &policy_key_table, .check = policy_check_name},
    {"rotate-every", SCHEMA_VALUE, &schema_duration, SCHEMA_NEVER, RULE(rotate_every), .standard = "90d", .minimum = 1,
     .maximum = 10 * YEAR},
    {"prove-every", SCHEMA_VALUE, &schema_duration, SCHEMA_NEVER, RULE(prove_every), .standard = "1d", .minimum = 1,
     .maximum = 30 * DAY},
    {"standby", SCHEMA_VALUE, &schema_number, .offset = RULE(standby), .standard = "0", .maximum = POLICY_STANDBY_MAX},
    {"publish", SCHEMA_GROUP, .table = &publish_table},
    {"confirm", SCHEMA_GROUP, .table = &confirm_table},
    {"retire", SCHEMA_GROUP, .table = &retire_table},
    {"jitter", SCHEMA_VALUE, &policy_jitter_type, .offset = RULE(jitter), .standard = "0s", .maximum = YEAR},
    {"window", SCHEMA_GROUP, .table = &window_table},
    {"freeze", SCHEMA_LIST, .offset = RULE(freezes), .count_offset = RULE(freeze_count), .minimum = 1,
     .maximum = SCHEDULE_FREEZES_MAX, .check = policy_check_dates},
    {"time-zone", SCHEMA_VALUE, &policy_time_zone_type, .offset = RULE(time_zone), .check = policy_check_time_zone},
};
static const struct schema_check rules_checks[] = {
    {policy_slots_check, {"selector", "keys"}},
    {policy_life_check, {"rotate-every", "standby", "publish", "confirm", "retire", "jitter"}},
    {policy_window_check, {"rotate-every", "jitter", "window", "freeze", "time-zone"}},
};
const struct schema_table policy_rules_table = {"rules", ROWS(rules_rows), sizeof(struct policy_rules), RULE(name),
                                                CHECKS(rules_checks)};

/* signers: NAME: signing-table: "refile:/path", "file:/path", or a path, which is a refile. */
static const struct {
  const char *prefix;
  enum signing_table_format format;
} signing_tables[] = {{"refile:", SIGNING_TABLE_REFILE}, {"file:", SIGNING_TABLE_FILE}, {"", SIGNING_TABLE_REFILE}};

static int read_signing_table(const struct schema_row *row, const char *text, void *record) {
  (void)row;
  struct policy_signer *signer = record;
  for (size_t i = 0; i < ARRAY_SIZE(signing_tables); i++) {
    if (!text_starts(text, signing_tables[i].prefix)) continue;
    const char *path = text + strlen(signing_tables[i].prefix);
    if (policy_check_path(path, NULL) < 0) return ERROR_INVALID;
    char *copy = text_duplicate(path);
    if (!copy) return ERROR_NO_MEMORY;
    free(signer->signing_table);
    signer->signing_table = copy;
    signer->signing_table_format = signing_tables[i].format;
    return 0;
  }
  return ERROR_INVALID;
}

static bool write_signing_table(const struct schema_row *row, const void *record, struct buffer *buffer) {
  (void)row;
  const struct policy_signer *signer = record;
  if (!signer->signing_table) return false;
  const char *prefix = signer->signing_table_format == SIGNING_TABLE_FILE ? "file:" : "refile:";
  CLEANUP_FREE char *text = text_format("%s%s", prefix, signer->signing_table);
  if (text) {
    schema_write_text(text, buffer);
  } else {
    buffer_fail(buffer, NULL);
  }
  return true;
}

static void release_signing_table(const struct schema_row *row, void *record) {
  (void)row;
  struct policy_signer *signer = record;
  free(signer->signing_table);
  signer->signing_table = NULL;
}

static const struct schema_type signing_table_type = {.expects =
                                                          "refile:/path or file:/path, with a straight absolute path",
                                                      .read = read_signing_table,
                                                      .write = write_signing_table,
                                                      .release = release_signing_table};

/* signers: NAME: */
#define SIGNER(field) offsetof(struct policy_signer, field)
#define RELOAD(kind) .flags = SCHEMA_VARIANT, .variant_offset = SIGNER(reload), .variant = (kind)
static const struct schema_row reload_rows[] = {
    {"unit", SCHEMA_VALUE, &schema_text, RELOAD(RELOAD_UNIT), .offset = SIGNER(reload_target),
     .check = policy_check_unit},
    {"pid-file", SCHEMA_VALUE, &schema_text, RELOAD(RELOAD_PID_FILE), .offset = SIGNER(reload_target),
     .check = policy_check_path},
    {"command", SCHEMA_LIST, .flags = SCHEMA_VARIANT | SCHEMA_STRICT_LIST, .variant_offset = SIGNER(reload),
     .variant = RELOAD_COMMAND, .offset = SIGNER(reload_command), .count_offset = SIGNER(reload_command_count),
     .minimum = 1, .maximum = POLICY_COMMAND_MAX},
    {"timeout", SCHEMA_VALUE, &schema_duration, .offset = SIGNER(reload_timeout), .standard = "30s", .minimum = 1,
     .maximum = 600},
};
#define RESTART(kind) .flags = SCHEMA_VARIANT, .variant_offset = SIGNER(restart), .variant = (kind)
static const struct schema_row restart_rows[] = {
    {"unit", SCHEMA_VALUE, &schema_text, RESTART(RELOAD_UNIT), .offset = SIGNER(restart_target), .check = policy_check_unit},
    {"command", SCHEMA_LIST, .flags = SCHEMA_VARIANT | SCHEMA_STRICT_LIST, .variant_offset = SIGNER(restart),
     .variant = RELOAD_COMMAND, .offset = SIGNER(restart_command), .count_offset = SIGNER(restart_command_count),
     .minimum = 1, .maximum = POLICY_COMMAND_MAX},
};
static const struct schema_check restart_checks[] = {{policy_restart_check, {"unit", "command"}}};
static const struct schema_table restart_table = {"restart", ROWS(restart_rows), CHECKS(restart_checks)};

static const struct schema_check reload_checks[] = {{policy_reload_check, {"unit", "pid-file", "command"}}};
static const struct schema_table reload_table = {"reload", ROWS(reload_rows), CHECKS(reload_checks)};

static const struct schema_row signer_rows[] = {
    {"type", SCHEMA_VALUE, &schema_choice, .offset = SIGNER(type), .standard = "opendkim", .choices = signer_types},
    {"key-table", SCHEMA_VALUE, &schema_text, SCHEMA_REQUIRED, SIGNER(key_table), .check = policy_check_path},
    {"signing-table", SCHEMA_VALUE, &signing_table_type, .flags = SCHEMA_REQUIRED},
    {"multiple-signatures", SCHEMA_VALUE, &schema_switch, .offset = SIGNER(multiple_signatures), .standard = "false"},
    {"key-directory", SCHEMA_VALUE, &schema_text, SCHEMA_REQUIRED, SIGNER(key_directory),
     .check = policy_check_directory},
    {"key-name", SCHEMA_VALUE, &schema_text, .offset = SIGNER(key_name), .standard = "%s._domainkey.%d",
     .check = policy_check_key_name},
    {"owner", SCHEMA_VALUE, &schema_text, .offset = SIGNER(owner), .standard = "opendkim:opendkim",
     .check = policy_check_owner},
    {"mode", SCHEMA_VALUE, &schema_mode, .offset = SIGNER(mode), .standard = "0600"},
    {"reload", SCHEMA_GROUP, .table = &reload_table},
    {"restart", SCHEMA_GROUP, .table = &restart_table},
    {"milter", SCHEMA_VALUE, &schema_text, SCHEMA_REQUIRED, SIGNER(milter), .check = policy_check_milter,
     .canonical = policy_canonical_milter},
};
static const struct schema_check signer_checks[] = {
    {policy_signer_tables_check, {"key-table", "signing-table"}},
    {policy_mode_check, {"mode"}},
};
const struct schema_table policy_signer_table = {"signer", ROWS(signer_rows), sizeof(struct policy_signer),
                                                 SIGNER(name), CHECKS(signer_checks)};

/* domains: NAME:, and domain-defaults: */
#define DOMAIN(field) offsetof(struct policy_domain_draft, field)
static const struct schema_row domain_rows[] = {
    {"policy", SCHEMA_VALUE, &schema_text, .offset = DOMAIN(rules)},
    {"publisher", SCHEMA_VALUE, &schema_text, .offset = DOMAIN(publisher)},
    {"signers", SCHEMA_LIST, .offset = DOMAIN(signers), .count_offset = DOMAIN(signer_count), .minimum = 1,
     .maximum = POLICY_SIGNERS_MAX},
    {"senders", SCHEMA_LIST, .offset = DOMAIN(senders), .count_offset = DOMAIN(sender_count), .minimum = 1,
     .maximum = POLICY_SENDERS_MAX, .check = policy_check_sender, .canonical = policy_canonical_sender},
    {"zone", SCHEMA_VALUE, &schema_text, .offset = DOMAIN(zone), .check = policy_check_zone,
     .canonical = policy_canonical_name},
};
const struct schema_table policy_domain_table = {"domain", ROWS(domain_rows)};

#define DEFAULT(field) offsetof(struct policy_draft, defaults.field)
static const struct schema_row defaults_rows[] = {
    {"policy", SCHEMA_VALUE, &schema_text, .offset = DEFAULT(rules)},
    {"publisher", SCHEMA_VALUE, &schema_text, .offset = DEFAULT(publisher)},
    {"signers", SCHEMA_LIST, .offset = DEFAULT(signers), .count_offset = DEFAULT(signer_count), .minimum = 1,
     .maximum = POLICY_SIGNERS_MAX},
};
const struct schema_table policy_defaults_table = {"defaults", ROWS(defaults_rows)};

/* The whole file. */
#define FILE_ENTRIES(name, field, count, what)                                                                         \
  {                                                                                                                    \
    (name), SCHEMA_ENTRIES, .flags = SCHEMA_REQUIRED, .offset = offsetof(struct policy_draft, policy.field),           \
                            .count_offset = offsetof(struct policy_draft, policy.count), .minimum = 1,                 \
                            .maximum = POLICY_ENTRIES_MAX, .table = &(what), .check = policy_check_name                \
  }
static const struct schema_row file_rows[] = {
    {"state", SCHEMA_VALUE, &schema_text, .offset = offsetof(struct policy_draft, policy.state),
     .standard = "/var/lib/dkimroll/state.db", .check = policy_check_path},
    {"freeze", SCHEMA_LIST, .offset = offsetof(struct policy_draft, policy.freezes),
     .count_offset = offsetof(struct policy_draft, policy.freeze_count), .minimum = 1, .maximum = SCHEDULE_FREEZES_MAX,
     .check = policy_check_dates},
    {"max-per-run", SCHEMA_VALUE, &schema_number, .offset = offsetof(struct policy_draft, policy.limits.max_per_run), .minimum = 1,
     .maximum = POLICY_DOMAINS_MAX},
    {"failure-budget", SCHEMA_VALUE, &policy_budget_type, .offset = offsetof(struct policy_draft, policy.limits)},
    {"metrics", SCHEMA_GROUP, .table = &policy_metrics_table},
    {"hooks", SCHEMA_GROUP, .table = &policy_hooks_table},
    FILE_ENTRIES("policies", rules, rules_count, policy_rules_table),
    FILE_ENTRIES("publishers", publishers, publisher_count, policy_publisher_table),
    FILE_ENTRIES("signers", signers, signer_count, policy_signer_table),
    {"domain-defaults", SCHEMA_GROUP, .table = &policy_defaults_table},
    {"domains", .shape = SCHEMA_STREAM},
    {"domains-from", SCHEMA_LIST, .offset = offsetof(struct policy_draft, domain_files),
     .count_offset = offsetof(struct policy_draft, domain_file_count), .minimum = 1, .maximum = POLICY_FILES_MAX},
};
const struct schema_table policy_table = {"policy", ROWS(file_rows)};

#define STORED_ENTRIES(field, count, what)                                                                             \
  {                                                                                                                    \
    "stored", SCHEMA_ENTRIES, .offset = offsetof(struct policy, field),                                                \
                              .count_offset = offsetof(struct policy, count), .table = &(what)                         \
  }
const struct schema_row policy_rules_row = STORED_ENTRIES(rules, rules_count, policy_rules_table);
const struct schema_row policy_publishers_row = STORED_ENTRIES(publishers, publisher_count, policy_publisher_table);
const struct schema_row policy_signers_row = STORED_ENTRIES(signers, signer_count, policy_signer_table);
