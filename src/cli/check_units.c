/* Whether the installed units let dkimroll do what the policy says; and whether the daemon knows the policy of now. */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/check.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "dkimroll/units.h"
#include "dkimroll/wake.h"

static void say(struct check *check, enum finding_level level, char *text, const char *remedy) {
  CLEANUP_FREE char *owned = text;
  check_say(check, CHECK_WALLS,
            &(struct finding){.level = level, .code = ERROR_PERMISSION, .subject = (char *)"units", .text = owned ? owned : (char *)"out of memory", .remedy = (char *)remedy});
}

static size_t say_unit(struct check *check, const struct units_unit *unit) {
  size_t missing = 0;
  for (size_t i = 0; i < unit->line_count; i++) {
    const struct units_line *line = &unit->lines[i];
    /* What hides more is welcome, and nothing that a rotation needs. */
    if (text_starts(line->text, "InaccessiblePaths=") || units_has_line(unit, line)) continue;
    say(check, FINDING_WARNING, text_format("%s lacks %s (%s)", unit->name, line->text, line->why), "dkimroll units --apply; systemctl daemon-reload");
    missing++;
  }
  return missing;
}

void check_units(struct check *check) {
  struct session *session = &check->session;
  CLEANUP(units_signers_release) struct units_signers signers = {.items = NULL};
  struct error error = {0};
  size_t missing = 0;
  struct units *units = calloc(1, sizeof *units);
  if (!units) check_say_no_memory(check, CHECK_WALLS, "units");
  /* Units serve the usual policy. */
  if (units && session->confined && session_has_usual_policy(session)) {
    if (units_read_signers(session, &signers, &error) || units_find("", session->policy, &signers, units, &error)) {
      check_say_error(check, CHECK_WALLS, "units", NULL, &error);
    } else {
      for (size_t i = 0; i < units->count; i++) missing += say_unit(check, &units->units[i]);
      if (units->count > 0 && missing == 0) say(check, FINDING_OK, text_duplicate("the units have what the policy needs"), "");
      units_release(units);
    }
  }
  free(units);
  if (session->state && wake_is_heard(session->state)) say(check, FINDING_OK, text_duplicate("a daemon is at work"), "");
}
