#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/table_lines.h"
#include "dkimroll/text.h"

/* One edit among those of its item, which are judged together. */
struct table_step {
  const struct table_pair *pair;
  const struct table_item *item;
  const struct table_edit *edit;
};

static int table_check_text(const char *text, struct error *error) {
  if (text && text[0] == '\0') {
    error_set(error, ERROR_CONFIG, "an entry of a table of OpenDKIM has no part that is empty");
    error_remedy(error, "choose senders with a domain, and names and directories that are not empty, in the policy");
    return ERROR_CONFIG;
  }
  for (const char *p = text; p && *p; p++)
    if (text_is_control(p) || *p == ' ' || *p == '#') {
      char shown[TABLE_PLACE_SIZE];
      error_set(error, ERROR_CONFIG, "\"%s\" cannot stand in a table of OpenDKIM: white space and \"#\" end an entry",
                text_printable(text, strlen(text), shown, sizeof(shown)));
      error_remedy(error, "choose names and directories without white space and \"#\" in the policy");
      return ERROR_CONFIG;
    }
  return 0;
}

static int table_check_length(const struct table *table, size_t size, const char *key, struct error *error) {
  if (size <= TABLE_LINE_MAX) return 0;
  error_set(error, ERROR_LIMIT, "%s: the line of %s would have %zu octets, but OpenDKIM reads at most %d", table->path,
            key, size, TABLE_LINE_MAX);
  error_remedy(error, "choose a shorter key-directory or key-name in the policy");
  return ERROR_LIMIT;
}

static int table_check_edit(const struct table_edit *edit, struct error *error) {
  const char *texts[] = {edit->pattern, edit->name, edit->value, edit->before, edit->beside, edit->address};
  for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
    int result = table_check_text(texts[i], error);
    if (result < 0) return result;
  }
  bool signing = edit->kind == TABLE_SIGN_POINT || edit->kind == TABLE_SIGN_REMOVE;
  if (!edit->name || (signing ? !edit->pattern : !edit->value) || (edit->kind == TABLE_SIGN_POINT && !edit->address))
    return error_set(error, ERROR_INTERNAL, "a table edit lacks a part");
  if (strchr(edit->name, ':')) {
    error_set(error, ERROR_CONFIG, "key name \"%s\": a colon ends the key name in a SigningTable", edit->name);
    error_remedy(error, "choose a key-name without a colon in the policy");
    return ERROR_CONFIG;
  }
  /* OpenDKIM replaces every "%" of a key path by the sender's domain. */
  if (!signing && strchr(edit->value, '%')) {
    error_set(error, ERROR_CONFIG, "KeyTable value \"%s\": OpenDKIM would replace the \"%%\"", edit->value);
    error_remedy(error, "choose a key-directory without \"%%\" apart from %%d in the policy");
    return ERROR_CONFIG;
  }
  return 0;
}

static const char *table_shown(const struct table_span *span, char buffer[TABLE_PLACE_SIZE]) {
  return text_printable(span->text, span->size, buffer, TABLE_PLACE_SIZE);
}

/* OpenDKIM takes a private key itself in the place of its path, and a line that went wrong may hold one anywhere. The message leaves the keeper. */
static const char *table_shown_value(const struct table *table, const struct table_line *line, char buffer[TABLE_PLACE_SIZE]) {
  const bool named = line->path.size > 0 && (line->path.text[0] == '/' || line->path.text[0] == '.');
  return table->kind != TABLE_KEYS || named ? table_shown(&line->value, buffer) : "(no path; not shown, since it may be a private key)";
}

static int table_conflict_with_line(const struct table *table, uint32_t line, const char *expected,
                                    struct error *error) {
  char place[TABLE_PLACE_SIZE];
  char key[TABLE_PLACE_SIZE];
  char value[TABLE_PLACE_SIZE];
  const struct table_line *found = &table->lines[line];
  error_set(error, ERROR_CONFLICT, "%s: %s has \"%s\" and not \"%s\"; dkimroll did not write that line",
            table_place(table, line, place), table_shown(&found->key, key), table_shown_value(table, found, value),
            expected);
  error_remedy(error, "dkimroll changes only lines that it wrote: `dkimroll import` shows whether it can take that one over; else correct or remove it, and the next run goes on");
  return ERROR_CONFLICT;
}

static int table_check_key_set(const struct table_step *step, struct error *error) {
  const struct table *keys = step->pair->keys;
  const struct table_edit *edit = step->edit;
  uint32_t line = table_first_of_key(keys, edit->name);
  if (line == TABLE_NO_LINE)
    return table_check_length(keys, strlen(edit->name) + 1 + strlen(edit->value), edit->name, error);
  const struct table_line *found = &keys->lines[line];
  if (table_span_equal(&found->value, edit->value)) return 0;
  if (!edit->before || !table_span_equal(&found->value, edit->before))
    return edit->existing || edit->kept ? 0 : table_conflict_with_line(keys, line, edit->before ? edit->before : edit->value, error);
  return table_check_length(keys, found->text.size - found->value.size + strlen(edit->value), edit->name, error);
}

/* Does an edit of the same item take this SigningTable line off name? */
static bool table_item_frees_line(const struct table_step *step, const struct table_line *line, const char *name) {
  for (size_t i = 0; i < step->item->edit_count; i++) {
    const struct table_edit *edit = &step->item->edits[i];
    bool removes = edit->kind == TABLE_SIGN_REMOVE && text_equal(edit->name, name);
    bool points = edit->kind == TABLE_SIGN_POINT && text_equal(edit->before, name) && !text_equal(edit->name, name);
    if ((removes || points) && table_span_equal_nocase(&line->key, edit->pattern)) return true;
  }
  return false;
}

static int table_conflict_in_use(const struct table *table, uint32_t line, const char *used, struct error *error) {
  char place[TABLE_PLACE_SIZE];
  error_set(error, ERROR_CONFLICT, "%s still names %s", table_place(table, line, place), used);
  error_remedy(error, "remove that line or point it at another key; then dkimroll goes on by itself");
  return ERROR_CONFLICT;
}

/* May the last KeyTable entry of this name go? */
static int table_check_name_unused(const struct table_step *step, struct error *error) {
  const struct table *signing = step->pair->signing;
  const char *name = step->edit->name;
  for (uint32_t line = table_first_of_value(signing, name); line != TABLE_NO_LINE;
       line = table_next_of_value(signing, name, line))
    if (!table_item_frees_line(step, &signing->lines[line], name))
      return table_conflict_in_use(signing, line, name, error);
  if (!step->edit->address) return 0;
  uint32_t line = table_match_line(signing, step->edit->address);
  const char *at = strrchr(step->edit->address, '@');
  if (line == TABLE_NO_LINE || !at || !table_span_equal(&signing->lines[line].value, "%") || !text_equal(at + 1, name))
    return 0;
  return table_conflict_in_use(signing, line, name, error);
}

/* Is it a path with "%" that becomes expected for the domain? */
static bool table_path_becomes(const struct table_span *path, const char *expected, const char *domain,
                               size_t domain_size) {
  const char *place = expected;
  if (!path->text || !memchr(path->text, '%', path->size)) return false;
  for (size_t i = 0; i < path->size; i++) {
    const char *part = path->text[i] == '%' ? domain : &path->text[i];
    size_t size = path->text[i] == '%' ? domain_size : 1;
    if (strncmp(place, part, size) != 0) return false;
    place += size;
  }
  return *place == '\0';
}

static bool table_is_entry(const struct table_line *line, const struct table_edit *edit) {
  return table_span_equal(&line->key, edit->name) && table_span_equal(&line->value, edit->value);
}

/* A private key must not be destroyed while any line names its file. */
static int table_check_path_unused(const struct table_step *step, struct error *error) {
  const struct table *keys = step->pair->keys;
  const char *selector = strchr(step->edit->value, ':');
  const char *path = selector ? strchr(selector + 1, ':') : NULL;
  if (!path) return error_set(error, ERROR_INTERNAL, "KeyTable value \"%s\" has no three fields", step->edit->value);
  path++;
  for (uint32_t line = table_first_of_value(keys, path); line != TABLE_NO_LINE;
       line = table_next_of_value(keys, path, line))
    if (!table_is_entry(&keys->lines[line], step->edit)) return table_conflict_in_use(keys, line, path, error);
  uint32_t line = table_index_first(&keys->by_value, table_hash("%", 1, false));
  for (; line != TABLE_NO_LINE; line = table_index_next(&keys->by_value, line))
    if (!keys->lines[line].removed &&
        table_path_becomes(&keys->lines[line].path, path, step->edit->value, (size_t)(selector - step->edit->value)))
      return table_conflict_in_use(keys, line, path, error);
  return 0;
}

static int table_check_key_remove(const struct table_step *step, struct error *error) {
  const struct table *keys = step->pair->keys;
  bool goes = false;
  bool stays = false;
  for (uint32_t line = table_any_of_key(keys, step->edit->name); line != TABLE_NO_LINE;
       line = table_next_of_key(keys, step->edit->name, line)) {
    if (table_is_entry(&keys->lines[line], step->edit))
      goes = true;
    else
      stays = true;
  }
  int result = goes && !stays ? table_check_name_unused(step, error) : 0;
  return result < 0 || step->edit->shared ? result : table_check_path_unused(step, error);
}

/* The key name that a SigningTable line gives for address: "%" stands for the domain. */
static bool table_line_names(const struct table_line *line, const char *address, const char *name) {
  if (!table_span_equal(&line->value, "%")) return table_span_equal(&line->value, name);
  const char *at = strrchr(address, '@');
  return at && text_equal_nocase(at + 1, name);
}

/* Of two lines the one that stands above; TABLE_NO_LINE is none. */
static uint32_t table_upper_line(const struct table *table, uint32_t a, uint32_t b) {
  if (a == TABLE_NO_LINE || b == TABLE_NO_LINE) return a == TABLE_NO_LINE ? b : a;
  return table->lines[a].order <= table->lines[b].order ? a : b;
}

/* What the SigningTable has for the pattern of a TABLE_SIGN_POINT. */
enum table_present { TABLE_ABSENT, TABLE_PRESENT_BEFORE, TABLE_PRESENT_NAMED };

static enum table_present table_find_point(const struct table_step *step, uint32_t *ret_line, uint32_t *ret_foreign) {
  const struct table *signing = step->pair->signing;
  enum table_present present = TABLE_ABSENT;
  uint32_t first = TABLE_NO_LINE; /* of ours */
  *ret_foreign = TABLE_NO_LINE;
  for (uint32_t line = table_any_of_key(signing, step->edit->pattern); line != TABLE_NO_LINE;
       line = table_next_of_key(signing, step->edit->pattern, line)) {
    const struct table_line *found = &signing->lines[line];
    if (table_line_names(found, step->edit->address, step->edit->name)) {
      present = TABLE_PRESENT_NAMED;
      *ret_line = line;
      first = table_upper_line(signing, first, line);
    } else if (step->edit->before && table_span_equal(&found->value, step->edit->before)) {
      if (present == TABLE_ABSENT) {
        present = TABLE_PRESENT_BEFORE;
        *ret_line = line;
      }
      first = table_upper_line(signing, first, line);
    } else {
      *ret_foreign = table_upper_line(signing, *ret_foreign, line);
    }
  }
  /* OpenDKIM takes the first line of a pattern, so one below ours never counts, and needs no one's care. */
  if (first != TABLE_NO_LINE && table_upper_line(signing, first, *ret_foreign) == first) *ret_foreign = TABLE_NO_LINE;
  return present;
}

static int table_check_target(const struct table_step *step, struct error *error) {
  const char *name = step->edit->name;
  CLEANUP_FREE char *path = NULL;
  for (size_t i = 0; i < step->item->edit_count && !path; i++) {
    const struct table_edit *edit = &step->item->edits[i];
    const char *field = edit->kind == TABLE_KEY_SET && text_equal(edit->name, name) ? strchr(edit->value, ':') : NULL;
    field = field ? strchr(field + 1, ':') : NULL;
    if (field) path = text_duplicate(field + 1);
    if (field && !path) return error_set(error, ERROR_NO_MEMORY, "%s: out of memory", step->pair->keys->path);
  }
  uint32_t line = table_first_of_key(step->pair->keys, name);
  if (!path && line == TABLE_NO_LINE) {
    error_set(error, ERROR_NOT_FOUND, "KeyTable %s has no entry of %s, so %s cannot be pointed at it",
              step->pair->keys->path, name, step->edit->pattern);
    error_remedy(error, "put the entry back: KEYNAME DOMAIN:SELECTOR:PATH, as in opendkim.conf(5)");
    return ERROR_NOT_FOUND;
  }
  if (!path)
    path = text_format("%.*s", (int)step->pair->keys->lines[line].path.size, step->pair->keys->lines[line].path.text);
  if (!path) return error_set(error, ERROR_NO_MEMORY, "%s: out of memory", step->pair->keys->path);
  if (path[0] != '/' || strchr(path, '%') || !step->pair->exists || step->pair->exists(path)) return 0;
  error_set(error, ERROR_NOT_FOUND, "the private key file %s of %s is not there; mail of %s would be refused for now",
            path, name, step->edit->pattern);
  error_remedy(error, "restore the file from a backup, or rotate to a new key");
  return ERROR_NOT_FOUND;
}

/* A new line comes to the end of the table, below every other one. */
static const char *table_remedy_shadowed(enum table_kind kind, enum table_present present) {
  if (kind == TABLE_SIGNING_FILE) return "remove that line or the sender from the policy: a file: table takes the most specific entry";
  if (present == TABLE_ABSENT)
    return "narrow its pattern so that it leaves that mail alone, or see what `dkimroll import` says to write: OpenDKIM takes the first match, and new lines "
           "come to the end";
  return "move that line below the one of dkimroll, or narrow its pattern: OpenDKIM takes the first match";
}

static int table_check_not_shadowed(const struct table_step *step, enum table_present present, bool *ret_satisfied, struct error *error) {
  const struct table *signing = step->pair->signing;
  const struct table_edit *edit = step->edit;
  uint32_t first = table_match_line(signing, edit->address);
  if (first == TABLE_NO_LINE) return 0;
  const struct table_line *found = &signing->lines[first];
  for (size_t i = 0; i < step->item->edit_count; i++)
    if (step->item->edits[i].pattern && table_span_equal_nocase(&found->key, step->item->edits[i].pattern)) return 0;
  if (table_line_names(found, edit->address, edit->name)) {
    *ret_satisfied = true;
    return 0;
  }
  /* A line for more than this domain named the key that signs until now, and goes on doing so for others: the new line is more specific. */
  if (signing->kind == TABLE_SIGNING_FILE && edit->before && table_line_names(found, edit->address, edit->before)) return 0;
  char place[TABLE_PLACE_SIZE];
  char key[TABLE_PLACE_SIZE];
  char value[TABLE_PLACE_SIZE];
  error_set(error, ERROR_CONFLICT,
            "%s: \"%s\" takes mail of %s first and signs it with %s, so a line of \"%s\" would never count",
            table_place(signing, first, place), table_shown(&found->key, key), edit->address,
            table_shown(&found->value, value), edit->pattern);
  error_remedy(error, "%s", table_remedy_shadowed(signing->kind, present));
  return ERROR_CONFLICT;
}

static int table_check_sign_point(const struct table_step *step, bool *ret_satisfied, struct error *error) {
  const struct table *signing = step->pair->signing;
  const struct table_edit *edit = step->edit;
  uint32_t line = TABLE_NO_LINE;
  uint32_t foreign = TABLE_NO_LINE;
  enum table_present present = table_find_point(step, &line, &foreign);
  /* A file: table gives only the first entry of a key, whatever opendkim.conf says. */
  bool together = step->pair->multiple_signatures && signing->kind == TABLE_SIGNING_REFILE;
  if (present == TABLE_ABSENT && edit->existing) return 0;
  if (foreign != TABLE_NO_LINE && !together && !edit->existing)
    return table_conflict_with_line(signing, foreign, edit->before ? edit->before : edit->name, error);
  int result = table_check_target(step, error);
  if (result < 0) return result;
  if (!step->pair->multiple_signatures && !edit->existing &&
      (result = table_check_not_shadowed(step, present, ret_satisfied, error)) < 0)
    return result;
  if (present == TABLE_ABSENT)
    return table_check_length(signing, strlen(edit->pattern) + 1 + strlen(edit->name), edit->pattern, error);
  const struct table_line *found = &signing->lines[line];
  return table_check_length(signing, found->text.size - found->value.size + strlen(edit->name), edit->pattern, error);
}

static int table_check_step(const struct table_step *step, bool *ret_satisfied, struct error *error) {
  int result = table_check_edit(step->edit, error);
  if (result < 0) return result;
  switch (step->edit->kind) {
  case TABLE_KEY_SET: return table_check_key_set(step, error);
  case TABLE_KEY_REMOVE: return table_check_key_remove(step, error);
  case TABLE_SIGN_POINT: return table_check_sign_point(step, ret_satisfied, error);
  case TABLE_SIGN_REMOVE: return 0;
  }
  return error_set(error, ERROR_INTERNAL, "unknown table edit");
}

/* The line with another value in the place of the present one; what surrounds it stays. */
static bool table_replace_value(struct table *table, uint32_t line, const char *value) {
  const struct table_line *old = &table->lines[line];
  struct table_span text = old->text;
  while (text.size > 0 && (text.text[text.size - 1] == '\n' || text.text[text.size - 1] == '\r')) text.size--;
  size_t before = (size_t)(old->value.text - text.text);
  const char *after = old->value.text + old->value.size;
  CLEANUP_FREE char *content =
      text_format("%.*s%s%.*s", (int)before, text.text, value, (int)(text.text + text.size - after), after);
  if (!content || !table_add_line(table, content, strlen(content), line)) return false;
  table_remove_line(table, line);
  return true;
}

static bool table_add_entry(struct table *table, const char *key, const char *value, uint32_t above) {
  CLEANUP_FREE char *content = text_format("%s %s", key, value);
  return content && table_add_line(table, content, strlen(content), above);
}

static bool table_do_key_set(const struct table_step *step, uint8_t *ret_made) {
  struct table *keys = step->pair->keys;
  const struct table_edit *edit = step->edit;
  uint32_t line = table_first_of_key(keys, edit->name);
  if (line == TABLE_NO_LINE) {
    if (edit->existing) return true;
    *ret_made = TABLE_MADE_ADDED;
    return table_add_entry(keys, edit->name, edit->value,
                           edit->beside ? table_first_of_key(keys, edit->beside) : TABLE_NO_LINE);
  }
  const struct table_span *value = &keys->lines[line].value;
  if (table_span_equal(value, edit->value) || !edit->before || !table_span_equal(value, edit->before)) return true;
  *ret_made = TABLE_MADE_REPLACED;
  return table_replace_value(keys, line, edit->value);
}

static void table_do_key_remove(const struct table_step *step, uint8_t *ret_made) {
  struct table *keys = step->pair->keys;
  for (uint32_t line = table_any_of_key(keys, step->edit->name); line != TABLE_NO_LINE;
       line = table_next_of_key(keys, step->edit->name, line)) {
    if (!table_is_entry(&keys->lines[line], step->edit)) continue;
    table_remove_line(keys, line);
    *ret_made = TABLE_MADE_REMOVED;
  }
}

static bool table_do_sign_point(const struct table_step *step, bool satisfied, uint8_t *ret_made) {
  struct table *signing = step->pair->signing;
  const struct table_edit *edit = step->edit;
  uint32_t line = TABLE_NO_LINE;
  uint32_t foreign = TABLE_NO_LINE;
  enum table_present present = table_find_point(step, &line, &foreign);
  if (present == TABLE_ABSENT) {
    if (edit->existing || satisfied) return true;
    *ret_made = TABLE_MADE_ADDED;
    return table_add_entry(signing, edit->pattern, edit->name, TABLE_NO_LINE);
  }
  if (present == TABLE_PRESENT_BEFORE) {
    *ret_made = TABLE_MADE_REPLACED;
    if (!table_replace_value(signing, line, edit->name)) return false;
  }
  if (!edit->before || text_equal(edit->before, edit->name)) return true;
  /* Further lines of ours that name the old key would sign a second time, or again once the first line is gone. A "%" that stands for the new one is none. */
  const uint32_t kept = present == TABLE_PRESENT_BEFORE ? TABLE_NO_LINE : line;
  for (line = table_any_of_key(signing, edit->pattern); line != TABLE_NO_LINE;
       line = table_next_of_key(signing, edit->pattern, line)) {
    if (line == kept || !table_span_equal(&signing->lines[line].value, edit->before)) continue;
    table_remove_line(signing, line);
    *ret_made = TABLE_MADE_REPLACED;
  }
  return true;
}

static void table_do_sign_remove(const struct table_step *step, uint8_t *ret_made) {
  struct table *signing = step->pair->signing;
  for (uint32_t line = table_any_of_key(signing, step->edit->pattern); line != TABLE_NO_LINE;
       line = table_next_of_key(signing, step->edit->pattern, line)) {
    if (!table_span_equal(&signing->lines[line].value, step->edit->name)) continue;
    table_remove_line(signing, line);
    *ret_made = TABLE_MADE_REMOVED;
  }
}

static bool table_do_step(const struct table_step *step, bool satisfied, uint8_t *ret_made) {
  switch (step->edit->kind) {
  case TABLE_KEY_SET: return table_do_key_set(step, ret_made);
  case TABLE_KEY_REMOVE: table_do_key_remove(step, ret_made); return true;
  case TABLE_SIGN_POINT: return table_do_sign_point(step, satisfied, ret_made);
  case TABLE_SIGN_REMOVE: table_do_sign_remove(step, ret_made); return true;
  }
  return true;
}

/* false: out of memory. */
static bool table_apply_item(const struct table_pair *pair, const struct table_item *item,
                             struct table_outcome *outcome) {
  bool satisfied[TABLE_EDITS_MAX] = {false};
  if (item->edit_count > TABLE_EDITS_MAX) {
    error_set(&outcome->error, ERROR_LIMIT, "more than %d table edits for one domain", TABLE_EDITS_MAX);
    return true;
  }
  for (size_t i = 0; i < item->edit_count; i++) {
    struct table_step step = {.pair = pair, .item = item, .edit = &item->edits[i]};
    if (table_check_step(&step, &satisfied[i], &outcome->error) < 0) return true;
  }
  for (size_t i = 0; i < item->edit_count; i++) {
    struct table_step step = {.pair = pair, .item = item, .edit = &item->edits[i]};
    if (!table_do_step(&step, satisfied[i], &outcome->made[i])) return false;
  }
  return true;
}

int table_apply(const struct table_pair *pair, const struct table_item *items, size_t count,
                struct table_outcome *outcomes, struct error *error) {
  for (size_t i = 0; i < count; i++) {
    outcomes[i] = (struct table_outcome){0};
    if (!table_apply_item(pair, &items[i], &outcomes[i]))
      return error_set(error, ERROR_NO_MEMORY, "%s: out of memory while editing", pair->signing->path);
  }
  return 0;
}
