/* publishers: the keys of each type, and the rules between them. */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/policy_checks.h"
#include "dkimroll/policy_tables.h"
#include "dkimroll/text.h"

enum { TIMEOUT_DEFAULT = 60, WAIT_DEFAULT = 120, PARALLEL_DEFAULT = 4, FILE_MODE_DEFAULT = 0644, TIMEOUT_MAX = 600, WAIT_MAX = 3600 };

static const struct schema_choice publisher_types[] = {
    {"rfc2136", PUBLISHER_RFC2136}, {"command", PUBLISHER_COMMAND}, {"zonefile", PUBLISHER_ZONEFILE}, {0}};

#define PUBLISHER(field) offsetof(struct policy_publisher, field)

/* Values that only some types have: what is not there is not written either, so that what keys remember of the others stays as it was. The defaults are filled in
 * by policy_publisher_check. */
static bool write_given_duration(const struct schema_row *row, const void *record, struct buffer *buffer) {
  return *SCHEMA_FIELD_CONST(int64_t, record, row->offset) != 0 && schema_duration.write(row, record, buffer);
}
static bool write_given_number(const struct schema_row *row, const void *record, struct buffer *buffer) {
  return *SCHEMA_FIELD_CONST(unsigned, record, row->offset) != 0 && schema_number.write(row, record, buffer);
}
static bool write_given_mode(const struct schema_row *row, const void *record, struct buffer *buffer) {
  return *SCHEMA_FIELD_CONST(mode_t, record, row->offset) != 0 && schema_mode.write(row, record, buffer);
}
static int read_duration(const struct schema_row *row, const char *text, void *record) { return schema_duration.read(row, text, record); }
static int read_number(const struct schema_row *row, const char *text, void *record) { return schema_number.read(row, text, record); }
static int read_mode(const struct schema_row *row, const char *text, void *record) { return schema_mode.read(row, text, record); }
static int64_t duration_of(const struct schema_row *row, const void *record) { return schema_duration.number(row, record); }
static int64_t number_of(const struct schema_row *row, const void *record) { return schema_number.number(row, record); }
static void show_duration(int64_t number, char buffer[DURATION_TEXT_SIZE]) { schema_duration.show(number, buffer); }
static void show_number(int64_t number, char buffer[DURATION_TEXT_SIZE]) { schema_number.show(number, buffer); }
static const struct schema_type given_duration = {
    .expects = "a duration such as 30s or 2m", .read = read_duration, .write = write_given_duration, .number = duration_of, .show = show_duration};
static const struct schema_type given_number = {
    .expects = "a whole number", .read = read_number, .write = write_given_number, .number = number_of, .show = show_number};
static const struct schema_type given_mode = {.expects = "a file mode in octal such as 0644 or 0640", .read = read_mode, .write = write_given_mode};

static const struct schema_row zone_reload_rows[] = {
    {"command", SCHEMA_LIST, .flags = SCHEMA_STRICT_LIST, .offset = PUBLISHER(reload_command), .count_offset = PUBLISHER(reload_command_count),
     .minimum = 1, .maximum = POLICY_COMMAND_MAX},
};
static const struct schema_table zone_reload_table = {"reload", .rows = zone_reload_rows, .row_count = ARRAY_SIZE(zone_reload_rows)};

static const struct schema_row publisher_rows[] = {
    {"type", SCHEMA_VALUE, &schema_choice, .offset = PUBLISHER(type), .standard = "rfc2136",
     .choices = publisher_types},
    {"server", SCHEMA_VALUE, &schema_text, .offset = PUBLISHER(server), .check = policy_check_address},
    {"tsig-file", SCHEMA_VALUE, &schema_text, .offset = PUBLISHER(tsig_file), .check = policy_check_tsig_file},
    {"command", SCHEMA_LIST, .flags = SCHEMA_STRICT_LIST, .offset = PUBLISHER(command), .count_offset = PUBLISHER(command_count), .minimum = 1,
     .maximum = POLICY_COMMAND_MAX},
    {"parallel", SCHEMA_VALUE, &given_number, .offset = PUBLISHER(parallel), .minimum = 1, .maximum = POLICY_PARALLEL_MAX},
    {"file", SCHEMA_VALUE, &schema_text, .offset = PUBLISHER(file), .check = policy_check_zone_file},
    {"owner", SCHEMA_VALUE, &schema_text, .offset = PUBLISHER(owner), .check = policy_check_owner},
    {"mode", SCHEMA_VALUE, &given_mode, .offset = PUBLISHER(mode)},
    {"reload", SCHEMA_GROUP, .table = &zone_reload_table},
    {"timeout", SCHEMA_VALUE, &given_duration, .offset = PUBLISHER(timeout), .minimum = 1, .maximum = TIMEOUT_MAX},
    {"wait", SCHEMA_VALUE, &given_duration, .offset = PUBLISHER(wait), .minimum = 1, .maximum = WAIT_MAX},
    {"zone", SCHEMA_VALUE, &schema_text, .offset = PUBLISHER(zone), .check = policy_check_zone,
     .canonical = policy_canonical_name},
    {"servers", SCHEMA_LIST, .offset = PUBLISHER(servers), .count_offset = PUBLISHER(server_count), .minimum = 1,
     .maximum = POLICY_SERVERS_MAX, .check = policy_check_address},
    {"ignore-servers", SCHEMA_LIST, .offset = PUBLISHER(ignore_servers), .count_offset = PUBLISHER(ignore_server_count),
     .maximum = POLICY_SERVERS_MAX, .check = policy_check_host, .canonical = policy_canonical_name},
    {"resolvers", SCHEMA_LIST, .offset = PUBLISHER(resolvers), .count_offset = PUBLISHER(resolver_count), .minimum = 1,
     .maximum = POLICY_SERVERS_MAX, .check = policy_check_address},
};
static const struct schema_check publisher_checks[] = {
    {policy_publisher_keys_check, {"type"}},
    {policy_publisher_command_check, {"type", "command", "reload"}},
    {policy_publisher_file_check, {"type", "file", "mode", "zone"}},
};
const struct schema_table policy_publisher_table = {"publisher",
                                                    .rows = publisher_rows,
                                                    .row_count = ARRAY_SIZE(publisher_rows),
                                                    .size = sizeof(struct policy_publisher),
                                                    .name_offset = PUBLISHER(name),
                                                    .checks = publisher_checks,
                                                    .check_count = ARRAY_SIZE(publisher_checks)};

/* Keys that not every type has, and which do. */
static const struct {
  const char *name;
  enum publisher_type types[2]; /* 0: none */
} keys_of_types[] = {
    {"server", {PUBLISHER_RFC2136}},
    {"tsig-file", {PUBLISHER_RFC2136}},
    {"command", {PUBLISHER_COMMAND}},
    {"parallel", {PUBLISHER_COMMAND}},
    {"file", {PUBLISHER_ZONEFILE}},
    {"owner", {PUBLISHER_ZONEFILE}},
    {"mode", {PUBLISHER_ZONEFILE}},
    {"reload", {PUBLISHER_ZONEFILE}},
    {"timeout", {PUBLISHER_COMMAND, PUBLISHER_ZONEFILE}},
    {"wait", {PUBLISHER_COMMAND, PUBLISHER_ZONEFILE}},
};

static const char *type_name(enum publisher_type type) {
  for (const struct schema_choice *choice = publisher_types; choice->name; choice++)
    if (choice->value == (unsigned)type) return choice->name;
  return "none";
}

static void fill_defaults(struct policy_publisher *publisher) {
  if (publisher->type == PUBLISHER_RFC2136) return;
  if (publisher->timeout == 0) publisher->timeout = TIMEOUT_DEFAULT;
  if (publisher->wait == 0) publisher->wait = WAIT_DEFAULT;
  if (publisher->type == PUBLISHER_COMMAND && publisher->parallel == 0) publisher->parallel = PARALLEL_DEFAULT;
  if (publisher->type == PUBLISHER_ZONEFILE && publisher->mode == 0) publisher->mode = FILE_MODE_DEFAULT;
}

void policy_publisher_keys_check(const struct policy_node *node, void *record, struct policy_report *report) {
  struct policy_publisher *publisher = record;
  char path[POLICY_PATH_SIZE];
  policy_node_path(node, path);
  for (size_t i = 0; i < ARRAY_SIZE(keys_of_types); i++) {
    const enum publisher_type *types = keys_of_types[i].types;
    const struct policy_node *given = policy_node_find(node, keys_of_types[i].name);
    if (!given || types[0] == publisher->type || types[1] == publisher->type) continue;
    policy_report_add(report, given->name_place, "%s.%s is for publishers of type %s%s%s, and this one has type %s; remove it, or correct type", path,
                      keys_of_types[i].name, type_name(types[0]), types[1] ? " or " : "", types[1] ? type_name(types[1]) : "",
                      type_name(publisher->type));
  }
  fill_defaults(publisher);
}

static void check_words(const struct policy_node *node, const char *key, char *const *words, struct policy_report *report) {
  char path[POLICY_PATH_SIZE];
  const struct policy_node *given = policy_node_find(node, key);
  if (!words || policy_check_path(words[0], NULL) == 0) return;
  policy_report_add(report, given ? given->place : node->place,
                    "%s: \"%s\" is no absolute path; no shell and no PATH are used: give the program's path and its arguments as a list",
                    policy_node_path(given ? given : node, path), words[0]);
}

void policy_publisher_command_check(const struct policy_node *node, void *record, struct policy_report *report) {
  const struct policy_publisher *publisher = record;
  const struct policy_node *reload = policy_node_find(node, "reload");
  char path[POLICY_PATH_SIZE];
  policy_node_path(node, path);
  check_words(node, "command", publisher->command, report);
  if (reload) check_words(reload, "command", publisher->reload_command, report);
  if (publisher->type == PUBLISHER_COMMAND && publisher->command_count == 0)
    policy_report_add(report, node->name_place, "%s: command is missing; give the program that changes records and its arguments, as in [/usr/local/lib/dkimroll/provider]",
                      path);
  if (publisher->type == PUBLISHER_ZONEFILE && reload && publisher->reload_command_count == 0)
    policy_report_add(report, reload->place, "%s.reload: command is missing; give the program and its arguments, or remove reload", path);
}

void policy_publisher_file_check(const struct policy_node *node, void *record, struct policy_report *report) {
  const struct policy_publisher *publisher = record;
  char path[POLICY_PATH_SIZE];
  policy_node_path(node, path);
  if (publisher->type != PUBLISHER_ZONEFILE) return;
  if (!publisher->file) {
    policy_report_add(report, node->name_place, "%s: file is missing; say where the records of a zone go, as in /var/lib/bind/dkim/%%z.dkim", path);
  } else if (!publisher->zone && !strstr(publisher->file, "%z")) {
    policy_report_add(report, policy_node_place(node, "file"),
                      "%s.file: %s is the same for every zone; put %%z into its name, or give the one zone that it is for as zone", path, publisher->file);
  }
  /* Whoever else may write there decides what the name server reads. */
  if ((publisher->mode & ~(mode_t)0664) != 0 || (publisher->mode & 0600) != 0600)
    policy_report_add(report, policy_node_place(node, "mode"), "%s.mode: %04o does not do for a file that dkimroll writes and a name server reads; use 0644 or 0640", path,
                      (unsigned)publisher->mode);
}

bool policy_publisher_attests(const struct policy_publisher *publisher) {
  return publisher->type != PUBLISHER_COMMAND && publisher->type != PUBLISHER_ZONEFILE;
}
