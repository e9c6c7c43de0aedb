/* `dkimroll units`: drop-ins for the units, shown or written. */
#include "dkimroll/units.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/session.h"
#include "dkimroll/text.h"

char *units_format(const struct units_unit *unit) {
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(UNITS_TEXT_MAX);
  buffer_add_text(&text, "# Made by `dkimroll units --apply` from the policy, which does it again after a change; what you add belongs into a file of your own.\n[Service]\n");
  for (size_t i = 0; i < unit->line_count; i++) buffer_format(&text, "# %s\n%s\n", unit->lines[i].why, unit->lines[i].text);
  return buffer_take_text(&text);
}

char *units_path(const struct units *units, const struct units_unit *unit) {
  return text_format("%s" UNITS_DIRECTORY "/%s.d/" UNITS_FILE_NAME, units->root, unit->name);
}

bool units_has_line(const struct units_unit *unit, const struct units_line *line) {
  const size_t length = strlen(line->text);
  for (const char *at = unit->ours; at && (at = strstr(at, line->text)); at += length)
    if ((at == unit->ours || at[-1] == '\n') && (at[length] == '\n' || at[length] == '\0')) return true;
  return false;
}

/* 1: something was written or removed; 0: it is as it should be. */
static int apply(const struct cli *cli, const struct units *units, const struct units_unit *unit, struct error *error) {
  const struct file_rights file = {.owner = geteuid(), .group = getegid(), .mode = 0644}, folder = {.owner = geteuid(), .group = getegid(), .mode = 0755};
  CLEANUP_FREE char *path = units_path(units, unit);
  CLEANUP_FREE char *text = units_format(unit);
  CLEANUP_FREE char *directory = text_duplicate(path);
  if (!path || !text || !directory) return error_set(error, ERROR_NO_MEMORY, "out of memory for the units");
  if (unit->line_count == 0 && !unit->ours) return 0;
  if (unit->line_count == 0) {
    if (unlink(path) < 0 && errno != ENOENT) return error_set_errno(error, errno, "%s: cannot remove", path);
    fprintf(cli->out, "removed: %s\n", path);
    return 1;
  }
  if (text_equal(unit->ours, text)) return 0;
  *strrchr(directory, '/') = '\0';
  int result = file_make_directories(directory, &folder, error);
  if (!result) result = file_replace(path, text, strlen(text), &file, error);
  if (result) return result;
  fprintf(cli->out, "written: %s\n", path);
  return 1;
}

static int show(const struct cli *cli, const struct units *units, const struct units_unit *unit, struct error *error) {
  CLEANUP_FREE char *path = units_path(units, unit);
  CLEANUP_FREE char *text = units_format(unit);
  if (!path || !text) return error_set(error, ERROR_NO_MEMORY, "out of memory for the units");
  if (unit->line_count == 0 && !unit->ours) return 0;
  if (unit->line_count == 0)
    fprintf(cli->out, "# not needed any more: %s\n\n", path);
  else
    fprintf(cli->out, "# %s%s\n%s\n", path, text_equal(unit->ours, text) ? ", as it is" : "", text);
  return text_equal(unit->ours, text) ? 0 : 1;
}

static int go_through(const struct cli *cli, const struct units *units, struct error *error) {
  bool any = false, changed = false;
  for (size_t i = 0; i < units->count; i++) {
    const struct units_unit *unit = &units->units[i];
    const int result = cli->arguments->apply ? apply(cli, units, unit, error) : show(cli, units, unit, error);
    if (result < 0) return result;
    changed |= result > 0;
    any |= unit->line_count > 0;
  }
  for (size_t i = 0; i < units->note_count; i++) fprintf(cli->out, "note: %s\n", units->notes[i]);
  if (units->count == 0)
    fputs("No unit of dkimroll is installed here.\n", cli->out);
  else if (!changed)
    fprintf(cli->out, any ? "The drop-ins are as the policy needs them.\n" : "Nothing is needed: the units have what the policy needs.\n");
  else if (cli->arguments->apply)
    fputs("Now: systemctl daemon-reload; a daemon or a keeper that is at work has it after `systemctl restart dkimroll`.\n", cli->out);
  else
    fputs("Nothing was written; `dkimroll units --apply` does it.\n", cli->out);
  return 0;
}

int units_carry_out(const struct cli *cli, const char *root) {
  CLEANUP(session_release) struct session session = {.cli = cli};
  CLEANUP(units_signers_release) struct units_signers signers = {.items = NULL};
  struct error error = {0}, unread = {0};
  struct units *units = calloc(1, sizeof *units);
  int result = units ? session_read_policy(&session, &error) : error_set(&error, ERROR_NO_MEMORY, "out of memory for the units");
  const bool blind = !result && units_read_signers(&session, &signers, &unread) != 0;
  /* Without them a place that the keeper still needs would be closed. */
  if (blind && cli->arguments->apply) {
    error = unread;
    result = error.code;
  }
  if (!result) result = units_find(root, session.policy, &signers, units, &error);
  if (!result) {
    if (blind) fprintf(cli->out, "note: places of keys that were made under an earlier policy are not known: %s\n", unread.message);
    result = go_through(cli, units, &error);
    units_release(units);
  }
  free(units);
  return result ? cli_report(cli, &error) : EX_OK;
}

int cli_command_units(const struct cli *cli) { return units_carry_out(cli, ""); }
