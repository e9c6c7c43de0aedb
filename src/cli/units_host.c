/* What is installed on the host: units, their drop-ins, and who may open what. */
#include <errno.h>
#include <dirent.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/privilege.h"
#include "dkimroll/text.h"
#include "dkimroll/units.h"

/* As systemd.unit(5) orders them. */
static const char *const directories[] = {UNITS_DIRECTORY, "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"};
static const struct {
  const char *name;
  enum units_side side;
} known[UNITS_COUNT] = {{"dkimroll-keeper@.service", UNITS_KEEPER}, {"dkimroll.service", UNITS_LOOP}, {"dkimroll-run.service", UNITS_LOOP}};

static int no_memory(struct error *error) { return error_set(error, ERROR_NO_MEMORY, "out of memory for the units"); }

/* *ret_text: caller frees; NULL: there is none that systemd would read. What cannot be read just now, or is too large, is not taken for missing. */
static int read_text(const char *path, char **ret_text, struct error *error) {
  struct error reason = {0};
  size_t size = 0;
  *ret_text = NULL;
  const int result = file_read(path, UNITS_TEXT_MAX, ret_text, &size, NULL, &reason);
  if (result == 0 || (!reason.retryable && result != ERROR_LIMIT)) return 0;
  *error = reason;
  return result;
}

static int is_drop_in(const struct dirent *entry) { return text_ends(entry->d_name, ".conf"); }

static int add_drop_in(const char *path, char **ours, struct buffer *text, struct error *error) {
  CLEANUP_FREE char *content = NULL;
  const int result = read_text(path, &content, error);
  if (result || !content) return result;
  if (ours)
    *ours = TAKE_PTR(content);
  else
    buffer_format(text, "%s\n", content);
  return 0;
}

static int refuse_count(const char *directory, struct error *error) {
  error_set(error, ERROR_LIMIT, "%s has more than %d drop-ins", directory, UNITS_DROP_INS_MAX);
  error_remedy(error, "join some of them into one file");
  return ERROR_LIMIT;
}

/* In the order of their names, as far as they count here. */
static int add_drop_ins(const char *directory, struct units_unit *unit, bool etc, struct buffer *text, struct error *error) {
  struct dirent **entries = NULL;
  const int count = scandir(directory, &entries, is_drop_in, alphasort);
  int result = count < 0 && errno == ENOMEM ? no_memory(error) : count > UNITS_DROP_INS_MAX ? refuse_count(directory, error) : 0;
  for (int i = 0; i < count; i++) {
    const bool ours = etc && text_equal(entries[i]->d_name, UNITS_FILE_NAME);
    CLEANUP_FREE char *path = text_format("%s/%s", directory, entries[i]->d_name);
    free(entries[i]);
    if (!result && !path) result = no_memory(error);
    if (!result) result = add_drop_in(path, ours ? &unit->ours : NULL, text, error);
  }
  free(entries);
  return result;
}

/* The first directory that has it. */
static int find_unit(const struct units *units, const struct units_unit *unit, char **ret_text, struct error *error) {
  int result = 0;
  for (size_t i = 0; i < ARRAY_SIZE(directories) && !result && !*ret_text; i++) {
    CLEANUP_FREE char *path = text_format("%s%s/%s", units->root, directories[i], unit->name);
    result = path ? read_text(path, ret_text, error) : no_memory(error);
  }
  return result;
}

static int read_unit(const struct units *units, struct units_unit *unit, struct error *error) {
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(16 * UNITS_TEXT_MAX);
  CLEANUP_FREE char *content = NULL;
  int result = find_unit(units, unit, &content, error);
  if (result || !content) return result;
  buffer_format(&text, "%s\n", content);
  for (size_t i = 0; i < ARRAY_SIZE(directories) && !result; i++) {
    CLEANUP_FREE char *path = text_format("%s%s/%s.d", units->root, directories[i], unit->name);
    result = path ? add_drop_ins(path, unit, i == 0, &text, error) : no_memory(error);
  }
  if (result) return result;
  unit->text = buffer_take_text(&text);
  return unit->text ? 0 : error_set(error, ERROR_NO_MEMORY, "out of memory for the unit %s", unit->name);
}

int units_read(struct units *units, struct error *error) {
  gid_t group = 0;
  units->has_user = privilege_find_user(&units->user, &group);
  units->group_count = UNITS_GROUPS_MAX;
  if (units->has_user && getgrouplist(PRIVILEGE_USER, group, units->groups, &units->group_count) < 0) units->group_count = UNITS_GROUPS_MAX;
  if (!units->has_user) units->group_count = 0;
  for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
    struct units_unit *unit = &units->units[units->count];
    *unit = (struct units_unit){.name = known[i].name, .side = known[i].side};
    int result = read_unit(units, unit, error);
    if (result) return result;
    if (unit->text) units->count++;
  }
  return 0;
}

/* ---- assignments ---- */

static bool is_above(const char *directory, size_t size, const char *path) {
  while (size > 1 && directory[size - 1] == '/') size--;
  return strncmp(path, directory, size) == 0 && (path[size] == '/' || path[size] == '\0' || (size == 1 && directory[0] == '/'));
}

/* Calls each of the words that are assigned to key; an empty assignment takes back what came before. */
static bool any_word(const char *text, const char *key, const char *wanted, bool (*match)(const char *word, size_t size, const char *wanted)) {
  const size_t length = strlen(key);
  bool found = false;
  for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
    line += strspn(line, " \t");
    if (strncmp(line, key, length) != 0 || line[length] != '=') continue;
    const char *word = line + length + 1;
    word += strspn(word, " \t");
    if (*word == '\n' || *word == '\0') found = false;
    for (size_t size; (size = strcspn(word, " \t\n")) > 0; word += size, word += strspn(word, " \t")) found |= match(word, size, wanted);
  }
  return found;
}

static bool covers(const char *word, size_t size, const char *path) {
  while (size > 0 && (*word == '-' || *word == '+')) word++, size--;
  return size > 0 && is_above(word, size, path);
}

bool units_text_covers(const char *text, const char *key, const char *path) { return any_word(text, key, path, covers); }

/* StateDirectory=dkimroll opens /var/lib/dkimroll. */
static bool is_state(const char *word, size_t size, const char *path) {
  static const char states[] = "/var/lib/";
  return size > 0 && text_starts(path, states) && is_above(word, size, path + strlen(states));
}

bool units_text_opens(const char *text, const char *path) {
  return any_word(text, "ReadWritePaths", path, covers) || any_word(text, "StateDirectory", path, is_state);
}

static bool begins(const char *word, size_t size, const char *value) {
  const size_t length = strlen(value);
  return size >= length && strncmp(word, value, length) == 0 && (size == length || word[length] == ':');
}

bool units_text_has(const char *text, const char *key, const char *value) { return any_word(text, key, value, begins); }

/* ---- rights ---- */

static bool is_member(const struct units *units, gid_t group) {
  for (int i = 0; i < units->group_count; i++)
    if (units->groups[i] == group) return true;
  return false;
}

/* One file or directory: what the user may, and whether its group would help. */
static enum units_answer judge(const struct units *units, const struct stat *status, unsigned bits, gid_t *group, bool *grouped) {
  const unsigned mode = status->st_mode & 0777;
  if (status->st_uid == units->user) return (mode >> 6 & bits) == bits ? UNITS_YES : UNITS_NO;
  if (is_member(units, status->st_gid)) return (mode >> 3 & bits) == bits ? UNITS_YES : UNITS_NO;
  if ((mode & bits) == bits) return UNITS_YES;
  if ((mode >> 3 & bits) != bits || status->st_gid == 0 || (*grouped && *group != status->st_gid)) return UNITS_NO;
  *group = status->st_gid;
  *grouped = true;
  return UNITS_BY_GROUP;
}

enum units_answer units_may(const struct units *units, const char *path, unsigned bits, gid_t *ret_group) {
  CLEANUP_FREE char *part = text_duplicate(path);
  bool grouped = false;
  gid_t group = 0;
  if (!part || !units->has_user || path[0] != '/') return UNITS_UNKNOWN;
  for (char *end = part + 1;; end++) {
    struct stat status;
    if (*end != '/' && *end != '\0') continue;
    const bool last = *end == '\0';
    *end = '\0';
    if (stat(part, &status) < 0) return errno == ENOENT ? UNITS_MISSING : UNITS_UNKNOWN;
    if (judge(units, &status, last ? bits : 1, &group, &grouped) == UNITS_NO) return UNITS_NO;
    if (last) break;
    *end = '/';
  }
  if (grouped && ret_group) *ret_group = group;
  return grouped ? UNITS_BY_GROUP : UNITS_YES;
}
