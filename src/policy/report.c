#include "dkimroll/policy_report.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/buffer.h"
#include "dkimroll/text.h"

void policy_report_no_memory(struct policy_report *report) {
  report->failure = ERROR_NO_MEMORY;
}

void policy_report_trouble(struct policy_report *report, const struct error *error) {
  if (report->trouble.code == 0) report->trouble = *error;
}

/* Counts one more finding; false: there are enough, and nobody will read it. */
static bool wants_finding(struct policy_report *report) {
  report->total++;
  if (report->findings.count < POLICY_ERRORS_MAX) return true;
  report->findings.more = true;
  return false;
}

/* Names of a stored text may hold anything, and YAML writes U+009B as "\u009b". */
static void blank_controls(char *text) {
  for (char *at = text; at && *at; at++) {
    if (!text_is_control(at)) continue;
    if ((unsigned char)*at >= 0x80) at[1] = '?';
    *at = '?';
  }
}

/* Takes message, NULL if there was no memory for it. */
static void add_message(struct policy_report *report, struct policy_place place, char *message) {
  blank_controls(message);
  struct policy_findings *findings = &report->findings;
  char *file = text_duplicate(place.file < report->file_count ? report->files[place.file] : "");
  struct policy_finding *items = NULL;
  if (message && file) items = realloc(findings->items, (findings->count + 1) * sizeof(*items));
  if (!items) {
    free(message);
    free(file);
    policy_report_no_memory(report);
    return;
  }
  findings->items = items;
  items[findings->count++] = (struct policy_finding){.file = file, .place = place, .message = message};
}

void policy_report_add(struct policy_report *report, struct policy_place place, const char *format, ...) {
  if (!wants_finding(report)) return;
  char *message = NULL;
  va_list arguments;
  va_start(arguments, format);
  if (vasprintf(&message, format, arguments) < 0) message = NULL;
  va_end(arguments);
  add_message(report, place, message);
}

void policy_report_error(struct policy_report *report, struct policy_place place, const char *where,
                         const struct error *error) {
  if (error->code == ERROR_NO_MEMORY) {
    policy_report_no_memory(report);
  } else if (wants_finding(report)) {
    add_message(report, place,
                text_format("%s%s%s%s%s", where ? where : "", where ? ": " : "", error->message,
                            error->remedy[0] ? "; " : "", error->remedy));
  }
}

char *policy_report_hint(const struct policy_report *report, const char *text, const char *const *names, size_t count) {
  enum { NAMES_SHOWN = 16 };
  if (report->findings.count == POLICY_ERRORS_MAX) return NULL;
  const char *nearest = text_nearest(text, names, count);
  if (nearest) return text_format("did you mean \"%s\"?", nearest);
  struct buffer hint = BUFFER_WITH_MAXIMUM(ERROR_MESSAGE_MAX);
  for (size_t i = 0; i < count && i < NAMES_SHOWN; i++)
    buffer_format(&hint, "%s%s", i > 0 ? ", " : "known: ", names[i]);
  if (count > NAMES_SHOWN) buffer_add_text(&hint, ", ...");
  char *shown = buffer_take_text(&hint);
  buffer_release(&hint);
  return shown;
}

unsigned policy_report_add_file(struct policy_report *report, const char *name) {
  char *copy = text_duplicate(name);
  char **files = copy ? realloc(report->files, (report->file_count + 1) * sizeof(*files)) : NULL;
  if (!files) {
    free(copy);
    policy_report_no_memory(report);
    return 0;
  }
  report->files = files;
  files[report->file_count] = copy;
  return (unsigned)report->file_count++;
}

static int compare_findings(const void *left, const void *right) {
  const struct policy_place *a = &((const struct policy_finding *)left)->place;
  const struct policy_place *b = &((const struct policy_finding *)right)->place;
  if (a->file != b->file) return a->file < b->file ? -1 : 1;
  if (a->line != b->line) return a->line < b->line ? -1 : 1;
  return (a->column > b->column) - (a->column < b->column);
}

void policy_report_sort(struct policy_report *report) {
  if (report->findings.count == 0) return;
  qsort(report->findings.items, report->findings.count, sizeof(*report->findings.items), compare_findings);
}

void policy_findings_release(struct policy_findings *findings) {
  if (!findings) return;
  for (size_t i = 0; i < findings->count; i++) {
    free(findings->items[i].file);
    free(findings->items[i].message);
  }
  free(findings->items);
  *findings = (struct policy_findings){0};
}

void policy_report_release(struct policy_report *report) {
  policy_findings_release(&report->findings);
  for (size_t i = 0; i < report->file_count; i++) free(report->files[i]);
  free(report->files);
  *report = (struct policy_report){0};
}
