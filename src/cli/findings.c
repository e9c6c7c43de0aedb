#include "dkimroll/findings.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/columns.h"
#include "dkimroll/text.h"

static void finding_release(struct finding *finding) {
  free(finding->subject);
  free(finding->who);
  free(finding->text);
  free(finding->remedy);
}

static struct finding *find_equal(const struct findings *findings, const struct finding *finding) {
  for (size_t i = 0; i < findings->count; i++) {
    struct finding *item = &findings->items[i];
    if (item->level == finding->level && text_equal(item->text, finding->text) &&
        text_equal(item->subject, finding->subject) && text_equal(item->remedy, finding->remedy) &&
        !item->who == !finding->who)
      return item;
  }
  return NULL;
}

static int append(struct findings *findings, const struct finding *finding) {
  if (findings->count == FINDINGS_MAX) return ERROR_LIMIT;
  struct finding *items = reallocarray(findings->items, findings->count + 1, sizeof *items);
  if (!items) return ERROR_NO_MEMORY;
  findings->items = items;
  struct finding copy = {.level = finding->level,
                         .code = finding->code,
                         .kind = finding->kind,
                         .subject = text_duplicate(finding->subject),
                         .who = text_duplicate(finding->who),
                         .others = finding->others,
                         .since = finding->since,
                         .text = text_duplicate(finding->text),
                         .remedy = text_duplicate(finding->remedy)};
  if (!copy.subject || (finding->who && !copy.who) || !copy.text || !copy.remedy) {
    finding_release(&copy);
    return ERROR_NO_MEMORY;
  }
  items[findings->count++] = copy;
  return 0;
}

void findings_add(struct findings *findings, const struct finding *finding) {
  if (finding->level == FINDING_FAILED) findings->failed++;
  if (finding->level == FINDING_WARNING) findings->warnings++;
  if (finding->level == FINDING_FAILED && !findings->first_code) findings->first_code = finding->code;
  struct finding *equal = find_equal(findings, finding);
  const int code = equal ? 0 : append(findings, finding);
  findings->dropped += code != 0;
  findings->no_memory |= code == ERROR_NO_MEMORY;
  if (!equal) return;
  if (equal->who && !text_equal(equal->who, finding->who)) equal->others += 1 + finding->others;
  if (finding->since && finding->since < equal->since) equal->since = finding->since;
}

void findings_add_error(struct findings *findings, enum finding_level level, const char *subject, const char *who,
                        const struct error *error) {
  findings_add(findings, &(struct finding){.level = level,
                                           .code = error->code,
                                           .subject = (char *)subject,
                                           .who = (char *)who,
                                           .text = (char *)error->message,
                                           .remedy = (char *)error->remedy});
}

void findings_release(struct findings *findings) {
  for (size_t i = 0; i < findings->count; i++) finding_release(&findings->items[i]);
  free(findings->items);
  *findings = (struct findings){0};
}

/* ---- for people ---- */

static const struct {
  const char *word, *colour;
} LEVELS[] = {[FINDING_OK] = {"ok", "\033[32m"},
              [FINDING_NOTE] = {"note", ""},
              [FINDING_WARNING] = {"WARNING", "\033[1;33m"},
              [FINDING_FAILED] = {"FAILED", "\033[1;31m"}};

static void print_finding(FILE *out, const struct finding *finding) {
  const bool colours = columns_colours_wanted(out);
  fprintf(out, "  %s%-8s%s ", colours ? LEVELS[finding->level].colour : "", LEVELS[finding->level].word,
          colours ? "\033[0m" : "");
  if (finding->who) fputs(finding->who, out);
  if (finding->others > 0) fprintf(out, " and %zu other%s", finding->others, finding->others == 1 ? "" : "s");
  if (finding->who) fputs(": ", out);
  fprintf(out, "%s\n", finding->text);
  if (finding->remedy[0]) fprintf(out, "           remedy: %s\n", finding->remedy);
}

static bool subject_was_told(const struct findings *findings, size_t index) {
  for (size_t i = 0; i < index; i++)
    if (text_equal(findings->items[i].subject, findings->items[index].subject)) return true;
  return false;
}

void findings_print(const struct findings *findings, FILE *out) {
  for (size_t i = 0; i < findings->count; i++) {
    if (subject_was_told(findings, i)) continue;
    fprintf(out, "%s\n", findings->items[i].subject);
    for (size_t j = i; j < findings->count; j++)
      if (text_equal(findings->items[i].subject, findings->items[j].subject)) print_finding(out, &findings->items[j]);
  }
  if (findings->dropped > 0) fprintf(out, "  and %zu more%s\n", findings->dropped, findings->no_memory ? ", for which there was no memory" : "");
  fflush(out);
}
