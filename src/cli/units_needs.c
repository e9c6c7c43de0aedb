/* What the units need because of the policy. */
#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/key_jobs.h"
#include "dkimroll/text.h"
#include "dkimroll/units.h"

#define CREDENTIAL "credential:"

static int no_memory(struct error *error) { return error_set(error, ERROR_NO_MEMORY, "out of memory for the units"); }

static int add_note(struct units *units, char *text, struct error *error) {
  if (!text) return no_memory(error);
  bool known = units->note_count == UNITS_NOTES_MAX;
  for (size_t i = 0; i < units->note_count && !known; i++) known = text_equal(units->notes[i], text);
  if (known)
    free(text);
  else
    units->notes[units->note_count++] = text;
  return 0;
}

/* Takes text and why over. */
static int add_line(struct units_unit *unit, char *text, char *why, struct error *error) {
  CLEANUP_FREE char *line = text;
  CLEANUP_FREE char *reason = why;
  if (!line || !reason) return no_memory(error);
  for (size_t i = 0; i < unit->line_count; i++)
    if (text_equal(unit->lines[i].text, line)) return 0;
  if (unit->line_count == UNITS_LINES_MAX) return error_set(error, ERROR_LIMIT, "%s would need more than %d lines", unit->name, UNITS_LINES_MAX);
  unit->lines[unit->line_count++] = (struct units_line){TAKE_PTR(line), TAKE_PTR(reason)};
  return 0;
}

/* ---- paths ---- */

/* A value is split at blanks, and "%" begins a specifier. */
static bool fits_a_line(const char *path) { return !path[strcspn(path, " \t\n%\"'\\")]; }

static int need_directory(struct units *units, enum units_side side, const char *path, const char *why, struct error *error) {
  struct stat status;
  int result = 0;
  for (size_t i = 0; i < units->count && !result; i++) {
    struct units_unit *unit = &units->units[i];
    if (unit->side != side || units_text_opens(unit->text, path)) continue;
    if (!fits_a_line(path))
      result = add_note(units, text_format("%s has a blank or a sign in its name that a unit cannot carry: name it in %s by hand", path, unit->name), error);
    else
      result = add_line(unit, text_format("ReadWritePaths=-%s", path), text_duplicate(why), error);
    if (!result && stat(path, &status) < 0 && errno == ENOENT)
      result = add_note(units, text_format("%s does not exist: make it before the unit starts, which cannot", path), error);
    if (!result && units_text_covers("ProtectHome=/home /root /run/user\n", "ProtectHome", path))
      result = add_note(units, text_format("%s is hidden from the units by ProtectHome=yes: move it, or set ProtectHome=no in a drop-in of your own", path), error);
  }
  return result;
}

static int need_table(struct units *units, const char *table, const char *why, struct error *error) {
  CLEANUP_FREE char *directory = text_duplicate(table);
  CLEANUP_FREE char *real = NULL;
  if (!directory) return no_memory(error);
  char *slash = strrchr(directory, '/');
  if (slash) slash[slash == directory] = '\0';
  int result = need_directory(units, UNITS_KEEPER, directory, why, error);
  /* A table is replaced where it really lies. */
  if (result || file_resolve_foreign(table, &real, NULL) || !(slash = strrchr(real, '/'))) return result;
  slash[slash == real] = '\0';
  return need_directory(units, UNITS_KEEPER, real, why, error);
}

/* Does the loop side need something below it? */
static bool is_needed_below(const struct policy *policy, const char *root) {
  CLEANUP_FREE char *line = text_format("x=%s\n", root);
  bool needed = !line || units_text_covers(line, "x", policy->state) || (policy->metrics.file && units_text_covers(line, "x", policy->metrics.file));
  for (size_t i = 0; i < policy->file_count && line; i++) needed |= units_text_covers(line, "x", policy->files[i]);
  for (size_t i = 0; i < policy->publisher_count && line; i++)
    if (policy->publishers[i].tsig_file) needed |= units_text_covers(line, "x", policy->publishers[i].tsig_file);
  for (size_t i = 0; i < policy->publisher_count && line; i++)
    if (policy->publishers[i].file) needed |= units_text_covers(line, "x", policy->publishers[i].file);
  return needed;
}

/* Private keys are nothing for the side that has the network. */
static int hide(struct units *units, const struct policy *policy, const char *root, const char *why, struct error *error) {
  int result = 0;
  for (size_t i = 0; i < units->count && !result; i++) {
    struct units_unit *unit = &units->units[i];
    if (unit->side != UNITS_LOOP || units_text_covers(unit->text, "InaccessiblePaths", root) || !fits_a_line(root) || is_needed_below(policy, root)) continue;
    result = add_line(unit, text_format("InaccessiblePaths=-%s", root), text_duplicate(why), error);
  }
  return result;
}

static int need_keys(struct units *units, const struct policy *policy, const char *directory_template, const char *why, struct error *error) {
  CLEANUP(key_roots_release) struct key_roots roots = {.count = 0};
  int result = key_roots_add(&roots, directory_template, error);
  if (!result) result = need_directory(units, UNITS_KEEPER, roots.paths[0], why, error);
  return result ? result : hide(units, policy, roots.paths[0], why, error);
}

/* The directory in which a file of the loop side is replaced. */
static int need_directory_of(struct units *units, const char *file, const char *why, struct error *error) {
  CLEANUP_FREE char *directory = text_duplicate(file);
  if (!directory) return no_memory(error);
  char *slash = strrchr(directory, '/');
  if (slash) slash[slash == directory] = '\0';
  return need_directory(units, UNITS_LOOP, directory, why, error);
}

static int need_state(struct units *units, const struct policy *policy, struct error *error) {
  return need_directory_of(units, policy->state, "the database", error);
}

/* The fragments of zone files are written by the side that has no private keys, and so are the metrics. */
static int need_written(struct units *units, const struct policy *policy, struct error *error) {
  int result = policy->metrics.file ? need_directory_of(units, policy->metrics.file, "metrics", error) : 0;
  for (size_t i = 0; i < policy->publisher_count && !result; i++) {
    const struct policy_publisher *publisher = &policy->publishers[i];
    CLEANUP_FREE char *why = text_format("zone files of publisher %s", publisher->name);
    if (!why) return no_memory(error);
    if (publisher->file) result = need_directory_of(units, publisher->file, why, error);
  }
  return result;
}

/* ---- TSIG keys ---- */

static bool has_credential(const struct units_unit *unit, const char *name) {
  static const char *const keys[] = {"LoadCredential", "LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted"};
  for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
    if (units_text_has(unit->text, keys[i], name)) return true;
  return false;
}

static int need_credential(struct units *units, const char *name, const char *source, const char *why, struct error *error) {
  int result = 0;
  for (size_t i = 0; i < units->count && !result; i++) {
    struct units_unit *unit = &units->units[i];
    if (unit->side == UNITS_LOOP && !has_credential(unit, name)) result = add_line(unit, text_format("LoadCredential=%s:%s", name, source), text_duplicate(why), error);
  }
  return result;
}

/* Where its file may be, for a policy that names a credential. */
static char *guess_source(const char *name) {
  struct stat status;
  char *paths[] = {text_format("/etc/dkimroll/%s", name), text_format("/etc/dkimroll/%s.key", name), text_duplicate("/etc/dkimroll/tsig.key")};
  char *found = NULL;
  for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
    if (!found && paths[i] && stat(paths[i], &status) == 0) found = TAKE_PTR(paths[i]);
  }
  if (!found) found = TAKE_PTR(paths[0]);
  for (size_t i = 0; i < ARRAY_SIZE(paths); i++) free(paths[i]);
  return found;
}

static int need_tsig(struct units *units, const struct policy_publisher *publisher, struct error *error) {
  const char *file = publisher->tsig_file;
  CLEANUP_FREE char *why = text_format("TSIG key of publisher %s", publisher->name);
  if (!file) return 0;
  if (!why) return no_memory(error);
  if (text_starts(file, CREDENTIAL)) {
    const char *name = file + strlen(CREDENTIAL);
    CLEANUP_FREE char *source = guess_source(name);
    return source ? need_credential(units, name, source, why, error) : no_memory(error);
  }
  const enum units_answer answer = units_may(units, file, 4, NULL);
  if (answer != UNITS_NO && answer != UNITS_BY_GROUP) return 0;
  const char *name = strrchr(file, '/') + 1;
  int result = fits_a_line(file) ? need_credential(units, name, file, why, error) : 0;
  if (result) return result;
  return add_note(units, text_format("the user dkimroll cannot read %s: write `tsig-file: credential:%s` for publisher %s, or `chgrp dkimroll %s; chmod 0640 %s`", file, name,
                                     publisher->name, file, file), error);
}

/* ---- milter sockets ---- */

static int need_milter(struct units *units, const struct policy_signer *signer, struct error *error) {
  const char *path = text_starts(signer->milter, "unix:") ? signer->milter + 5 : text_starts(signer->milter, "local:") ? signer->milter + 6 : NULL;
  gid_t group = 0;
  if (!path) return 0;
  const enum units_answer answer = units_may(units, path, 2, &group);
  if (answer == UNITS_MISSING) return add_note(units, text_format("%s does not exist: start the signer, then look again", path), error);
  if (answer == UNITS_NO)
    return add_note(units, text_format("neither the user dkimroll nor any group of it could connect to %s: give the socket a group (UMask 002 in opendkim.conf)", path), error);
  const struct group *entry = answer == UNITS_BY_GROUP ? getgrgid(group) : NULL;
  int result = 0;
  for (size_t i = 0; i < units->count && !result && entry; i++) {
    struct units_unit *unit = &units->units[i];
    if (unit->side != UNITS_LOOP || units_text_has(unit->text, "SupplementaryGroups", entry->gr_name)) continue;
    result = add_line(unit, text_format("SupplementaryGroups=%s", entry->gr_name), text_format("milter socket of signer %s", signer->name), error);
  }
  return result;
}

/* ---- all of it ---- */

static int need_files(struct units *units, const struct policy *policy, const struct policy_signer *signer, const char *when, struct error *error) {
  CLEANUP_FREE char *keys = text_format("keys of signer %s%s", signer->name, when);
  CLEANUP_FREE char *tables = text_format("tables of signer %s%s", signer->name, when);
  if (!keys || !tables) return no_memory(error);
  int result = need_keys(units, policy, signer->key_directory, keys, error);
  if (!result && signer->key_table) result = need_table(units, signer->key_table, tables, error);
  return result || !signer->signing_table ? result : need_table(units, signer->signing_table, tables, error);
}

static int need_signer(struct units *units, const struct policy *policy, const struct policy_signer *signer, struct error *error) {
  const int result = need_files(units, policy, signer, "", error);
  return result || !signer->milter ? result : need_milter(units, signer, error);
}

static int need_all(struct units *units, const struct policy *policy, struct error *error) {
  int result = need_state(units, policy, error);
  if (!result) result = need_written(units, policy, error);
  for (size_t i = 0; i < policy->signer_count && !result; i++) result = need_signer(units, policy, &policy->signers[i], error);
  for (size_t i = 0; i < policy->rules_count && !result; i++)
    if (policy->rules[i].archive_directory) result = need_keys(units, policy, policy->rules[i].archive_directory, "archived keys", error);
  for (size_t i = 0; i < policy->publisher_count && !result; i++) result = need_tsig(units, &policy->publishers[i], error);
  return result;
}

int units_find(const char *root, const struct policy *policy, const struct units_signers *signers, struct units *ret_units, struct error *error) {
  *ret_units = (struct units){.root = root};
  int result = units_read(ret_units, error);
  if (!result) result = need_all(ret_units, policy, error);
  for (size_t i = 0; signers && i < signers->count && !result; i++)
    result = need_files(ret_units, policy, signers->items[i], ", of an earlier policy, whose last keys live", error);
  if (result) units_release(ret_units);
  return result;
}

void units_release(struct units *units) {
  for (size_t i = 0; i < UNITS_COUNT; i++) {
    struct units_unit *unit = &units->units[i];
    free(unit->text);
    free(unit->ours);
    for (size_t j = 0; j < unit->line_count; j++) {
      free(unit->lines[j].text);
      free(unit->lines[j].why);
    }
    *unit = (struct units_unit){.name = NULL};
  }
  for (size_t i = 0; i < units->note_count; i++) free(units->notes[i]);
  units->count = units->note_count = 0;
}
