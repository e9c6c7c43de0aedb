#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/policy_schema.h"
#include "dkimroll/text.h"

enum { ROWS_MAX = 32, SHOWN_SIZE = 128 };

const struct schema_row *schema_find_row(const struct schema_table *table, const struct policy_node *node,
                                         const char *name, struct policy_place place, struct policy_report *report) {
  const char *names[ROWS_MAX];
  for (size_t i = 0; i < table->row_count; i++) {
    if (text_equal(table->rows[i].name, name)) return &table->rows[i];
    if (i < ROWS_MAX) names[i] = table->rows[i].name;
  }
  char path[POLICY_PATH_SIZE];
  char shown[SHOWN_SIZE];
  policy_node_path(node, path);
  text_printable(name, strlen(name), shown, sizeof(shown));
  const size_t count = table->row_count < ROWS_MAX ? table->row_count : ROWS_MAX;
  CLEANUP_FREE char *hint = policy_report_hint(report, name, names, count);
  policy_report_add(report, place, "%s%sunknown key \"%s\"; %s", path, path[0] ? ": " : "", shown, hint ? hint : "");
  return NULL;
}

/* A finding "PATH: what". */
static void refuse(const struct policy_node *node, const char *what, struct policy_report *report) {
  char path[POLICY_PATH_SIZE];
  policy_report_add(report, node->place, "%s: %s", policy_node_path(node, path), what);
}

/* "one of rsa, ed25519; did you mean ...": what would be right instead of text. */
static void refuse_text(const struct schema_row *row, const struct policy_node *node, struct policy_report *report) {
  char path[POLICY_PATH_SIZE];
  char shown[SHOWN_SIZE];
  text_printable(node->text, strlen(node->text), shown, sizeof(shown));
  struct buffer expected = BUFFER_WITH_MAXIMUM(ERROR_MESSAGE_MAX);
  buffer_add_text(&expected, row->type->expects);
  const char *names[ROWS_MAX];
  size_t count = 0;
  for (const struct schema_choice *choice = row->choices; choice && choice->name && count < ROWS_MAX; choice++) {
    buffer_format(&expected, "%s %s", count > 0 ? "," : "", choice->name);
    names[count++] = choice->name;
  }
  if (row->flags & SCHEMA_NEVER) buffer_add_text(&expected, ", or never");
  const char *nearest = text_nearest(node->text, names, count);
  if (nearest) buffer_format(&expected, "; did you mean \"%s\"?", nearest);
  CLEANUP_FREE char *text = buffer_take_text(&expected);
  policy_report_add(report, node->place, "%s: \"%s\" is not %s", policy_node_path(node, path), shown, text ? text : "");
}

static void check_bounds(const struct schema_row *row, const struct policy_node *node, const void *record,
                         struct policy_report *report) {
  if (!row->type->number || (row->minimum == 0 && row->maximum == 0)) return;
  const int64_t number = row->type->number(row, record);
  if (number >= row->minimum && (number <= row->maximum || number == TIME_NEVER)) return;
  char path[POLICY_PATH_SIZE];
  char shown[SHOWN_SIZE];
  char minimum[DURATION_TEXT_SIZE];
  char maximum[DURATION_TEXT_SIZE];
  row->type->show(row->minimum, minimum);
  row->type->show(row->maximum, maximum);
  policy_report_add(report, node->place, "%s: %s is out of bounds; give a value from %s to %s",
                    policy_node_path(node, path), text_printable(node->text, strlen(node->text), shown, sizeof(shown)),
                    minimum, maximum);
}

/* Runs the row's check on one text. */
static void check_text(const struct schema_row *row, const struct policy_node *node, const char *text,
                       struct policy_report *report) {
  if (!row->check || report->stored) return;
  struct error error = {0};
  char path[POLICY_PATH_SIZE];
  const int result = row->check(text, &error);
  if (result == ERROR_SYSTEM)
    policy_report_trouble(report, &error);
  else if (result < 0)
    policy_report_error(report, node->place, policy_node_path(node, path), &error);
}

static void read_value(const struct schema_row *row, const struct policy_node *node, void *record,
                       struct policy_report *report) {
  if (node->kind != POLICY_NODE_TEXT) {
    char what[SHOWN_SIZE * 2];
    snprintf(what, sizeof(what), "a %s stands here; give %s", node->kind == POLICY_NODE_LIST ? "list" : "mapping",
             row->choices ? "a text" : row->type->expects);
    refuse(node, what, report);
    return;
  }
  if (policy_node_is_null(node) || (node->text[0] == '\0' && !report->stored)) {
    refuse(node, "no value is given; give one, or remove the key", report);
    return;
  }
  const int result = row->type->read(row, node->text, record);
  if (result == ERROR_NO_MEMORY) {
    policy_report_no_memory(report);
  } else if (result < 0) {
    refuse_text(row, node, report);
  } else if (!report->stored) {
    check_bounds(row, node, record, report);
    const bool kept_as_text = row->type->read == schema_text.read;
    check_text(row, node, kept_as_text ? *SCHEMA_FIELD(char *, record, row->offset) : node->text, report);
  }
}

/* Takes item; the list grows by one. */
static bool append_text(const struct schema_row *row, char *item, void *record) {
  char ***items = SCHEMA_FIELD(char **, record, row->offset);
  size_t *count = SCHEMA_FIELD(size_t, record, row->count_offset);
  char **grown = item ? realloc(*items, (*count + 1) * sizeof(**items)) : NULL;
  if (!grown) {
    free(item);
    return false;
  }
  *items = grown;
  grown[(*count)++] = item;
  return true;
}

static void read_item(const struct schema_row *row, const struct policy_node *node, void *record,
                      struct policy_report *report) {
  if (node->kind == POLICY_NODE_BROKEN) {
    report->passed_over++;
    return;
  }
  if (node->kind != POLICY_NODE_TEXT || policy_node_is_null(node) || (node->text[0] == '\0' && !report->stored)) {
    refuse(node, "each item of this list must be a text", report);
    return;
  }
  char *item = row->canonical ? row->canonical(node->text) : text_duplicate(node->text);
  char *const *items = *SCHEMA_FIELD(char **, record, row->offset);
  const size_t count = *SCHEMA_FIELD(size_t, record, row->count_offset);
  for (size_t i = 0; i < count && item && !(row->flags & SCHEMA_STRICT_LIST) && !report->stored; i++) {
    if (!text_equal(items[i], item)) continue;
    refuse(node, "the list names this twice; remove one", report);
    free(item);
    return;
  }
  if (!append_text(row, item, record)) {
    policy_report_no_memory(report);
    return;
  }
  check_text(row, node, item, report);
}

static void read_list(const struct schema_row *row, const struct policy_node *node, void *record,
                      struct policy_report *report) {
  if (node->kind == POLICY_NODE_TEXT && !(row->flags & SCHEMA_STRICT_LIST) && !policy_node_is_null(node)) {
    read_item(row, node, record, report);
    return;
  }
  if (node->kind != POLICY_NODE_LIST) {
    refuse(node, "give a list of texts, as in [a, b]", report);
    return;
  }
  int64_t length = 0;
  for (const struct policy_node *item = node->first; item; item = item->next) {
    if (++length <= row->maximum || report->stored) read_item(row, item, record, report);
  }
  if (report->stored || (length <= row->maximum && length >= row->minimum)) return;
  char what[SHOWN_SIZE];
  snprintf(what, sizeof(what), "the list has %lld items; give %lld to %lld", (long long)length, (long long)row->minimum,
           (long long)row->maximum);
  refuse(node, what, report);
}

/* Appends a zeroed record with that name; NULL: no memory. */
static void *append_entry(const struct schema_row *row, const char *name, void *record, struct policy_report *report) {
  void **records = SCHEMA_FIELD(void *, record, row->offset);
  size_t *count = SCHEMA_FIELD(size_t, record, row->count_offset);
  char *copy = text_duplicate(name);
  void *grown = copy ? realloc(*records, (*count + 1) * row->table->size) : NULL;
  if (!grown) {
    free(copy);
    policy_report_no_memory(report);
    return NULL;
  }
  *records = grown;
  char *entry = (char *)grown + (*count)++ * row->table->size;
  memset(entry, 0, row->table->size);
  *SCHEMA_FIELD(char *, entry, row->table->name_offset) = copy;
  return entry;
}

static void refuse_duplicate(const struct policy_node *child, const struct policy_node *first,
                             struct policy_report *report) {
  char path[POLICY_PATH_SIZE];
  policy_report_add(report, child->name_place, "%s is given twice, first in line %u; remove one",
                    policy_node_path(child, path), first->name_place.line);
}

static bool is_no_mapping(const struct policy_node *node) {
  return node->kind == POLICY_NODE_TEXT || node->kind == POLICY_NODE_LIST;
}

static void read_entries(const struct schema_row *row, const struct policy_node *node, void *record,
                         struct policy_report *report) {
  if (policy_node_is_null(node)) {
    schema_read_absent(row, node, record, report);
    return;
  }
  if (is_no_mapping(node)) {
    char what[SHOWN_SIZE];
    snprintf(what, sizeof(what), "give a mapping of names, each with its %s", row->table->what);
    refuse(node, what, report);
    return;
  }
  int64_t length = 0;
  for (const struct policy_node *child = node->first; child; child = child->next) {
    const struct policy_node *first = policy_node_find(node, child->name);
    char path[POLICY_PATH_SIZE];
    if (first != child) {
      refuse_duplicate(child, first, report);
    } else if (++length > row->maximum && !report->stored) {
      policy_report_add(report, child->name_place, "%s has more than %lld entries; remove some",
                        policy_node_path(node, path), (long long)row->maximum);
      return;
    } else {
      struct error error = {0};
      if (!report->stored && row->check && row->check(child->name, &error) < 0) {
        policy_report_error(report, child->name_place, policy_node_path(node, path), &error);
      }
      void *entry = append_entry(row, child->name, record, report);
      if (entry) schema_read(row->table, child, entry, report);
    }
  }
  if (length < row->minimum && !report->stored) refuse(node, "this is empty; give at least one entry", report);
}

void schema_read_row(const struct schema_row *row, const struct policy_node *node, void *record,
                     struct policy_report *report) {
  if (node->kind == POLICY_NODE_BROKEN) {
    report->passed_over++;
    return;
  }
  switch (row->shape) {
  case SCHEMA_VALUE: read_value(row, node, record, report); break;
  case SCHEMA_LIST: read_list(row, node, record, report); break;
  case SCHEMA_GROUP: schema_read(row->table, node, record, report); break;
  case SCHEMA_ENTRIES: read_entries(row, node, record, report); break;
  case SCHEMA_STREAM: break;
  }
  if (row->flags & SCHEMA_VARIANT) *SCHEMA_FIELD(unsigned, record, row->variant_offset) = row->variant;
}

static void read_absent_group(const struct schema_table *table, const struct policy_node *node, void *record,
                              struct policy_report *report) {
  for (size_t i = 0; i < table->row_count; i++) schema_read_absent(&table->rows[i], node, record, report);
}

void schema_read_absent(const struct schema_row *row, const struct policy_node *node, void *record,
                        struct policy_report *report) {
  if (row->flags & SCHEMA_REQUIRED && !report->stored) {
    const struct policy_place top = {.line = 1, .column = 1};
    char path[POLICY_PATH_SIZE];
    policy_node_path(node, path);
    policy_report_add(report, node ? node->name_place : top, "%s%s%s is missing; add it", path, path[0] ? ": " : "",
                      row->name);
    return;
  }
  if (row->shape == SCHEMA_GROUP) read_absent_group(row->table, node, record, report);
  if (!row->standard) return;
  if (row->shape == SCHEMA_ENTRIES) {
    void *entry = append_entry(row, row->standard, record, report);
    if (entry) read_absent_group(row->table, node, entry, report);
  } else if (row->type->read(row, row->standard, record) < 0) {
    policy_report_no_memory(report); /* a default is always readable: tests hold each against its row */
  }
}

static size_t findings_so_far(const struct policy_report *report) { return report->total + report->passed_over; }

static uint64_t row_bit(const struct schema_table *table, const struct schema_row *row) {
  return UINT64_C(1) << (row - table->rows);
}

/* Whether the rows that check needs are right. */
static bool can_be_checked(const struct schema_table *table, const struct schema_check *check, uint64_t damaged) {
  for (size_t i = 0; i < table->row_count; i++) {
    if (!(damaged & row_bit(table, &table->rows[i]))) continue;
    for (size_t needed = 0; needed < SCHEMA_NEEDS_MAX; needed++)
      if (check->needs[needed] && text_equal(check->needs[needed], table->rows[i].name)) return false;
  }
  return true;
}

static void run_checks(const struct schema_table *table, const struct policy_node *node, void *record, uint64_t damaged,
                       struct policy_report *report) {
  for (size_t i = 0; i < table->check_count; i++)
    if (can_be_checked(table, &table->checks[i], damaged)) table->checks[i].check(node, record, report);
}

void schema_read(const struct schema_table *table, const struct policy_node *node, void *record,
                 struct policy_report *report) {
  if (node->kind == POLICY_NODE_BROKEN) {
    report->passed_over++;
    return;
  }
  if (is_no_mapping(node) && !policy_node_is_null(node)) {
    char what[SHOWN_SIZE];
    snprintf(what, sizeof(what), "give a mapping of keys, as in {%s: ...}", table->rows[0].name);
    refuse(node, what, report);
    return;
  }
  uint64_t damaged = 0; /* a bit for each row with findings, all of them for a key that is no row's */
  for (const struct policy_node *child = node->first; child; child = child->next) {
    const struct schema_row *row = schema_find_row(table, node, child->name, child->name_place, report);
    const struct policy_node *first = row ? policy_node_find(node, row->name) : NULL;
    const size_t before = findings_so_far(report);
    if (row && first == child) schema_read_row(row, child, record, report);
    if (row && first != child) refuse_duplicate(child, first, report);
    if (!row || first != child) damaged = UINT64_MAX;
    if (row && findings_so_far(report) > before) damaged |= row_bit(table, row);
  }
  for (size_t i = 0; i < table->row_count; i++) {
    const size_t before = findings_so_far(report);
    if (policy_node_find(node, table->rows[i].name)) continue;
    schema_read_absent(&table->rows[i], node, record, report);
    if (findings_so_far(report) > before) damaged |= row_bit(table, &table->rows[i]);
  }
  if (!report->stored) run_checks(table, node, record, damaged, report);
}
