#include "dkimroll/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/table_lines.h"
#include "dkimroll/text.h"

/* White space as isspace(3) has it in the C locale, which is what OpenDKIM asks. */
static bool table_is_space(char letter) {
  return letter == ' ' || (letter >= '\t' && letter <= '\r');
}

static struct table_span table_trim(struct table_span span) {
  while (span.size > 0 && table_is_space(span.text[0])) {
    span.text++;
    span.size--;
  }
  while (span.size > 0 && table_is_space(span.text[span.size - 1])) span.size--;
  return span;
}

static struct table_span table_cut_before(struct table_span span, char letter) {
  const char *found = memchr(span.text, letter, span.size);
  if (found) span.size = (size_t)(found - span.text);
  return span;
}

/* The third field of "domain:selector:path", which may hold colons itself. */
static struct table_span table_value_path(struct table_span value) {
  const char *end = value.text + value.size;
  const char *place = value.text;
  for (int field = 0; field < 2; field++) {
    place = memchr(place, ':', (size_t)(end - place));
    if (!place) return (struct table_span){0};
    place++;
  }
  return (struct table_span){.text = place, .size = (size_t)(end - place)};
}

static void table_parse_line(enum table_kind kind, struct table_line *line) {
  struct table_span content = table_cut_before(table_cut_before(line->text, '\n'), '#');
  /* refile: takes the pattern from the very start of the line, so white space there leaves an empty one. */
  if (kind == TABLE_SIGNING_REFILE && content.size > 0 && table_is_space(content.text[0])) return;
  content = table_trim(content);
  size_t length = 0;
  while (length < content.size && !table_is_space(content.text[length])) length++;
  line->key = (struct table_span){.text = content.text, .size = length};
  line->value = table_trim((struct table_span){.text = content.text + length, .size = content.size - length});
  if (kind == TABLE_KEYS)
    line->path = table_value_path(line->value);
  else
    line->value = table_cut_before(line->value, ':');
}

static bool table_nocase(const struct table *table) {
  return table->kind != TABLE_KEYS;
}

static bool table_index_line(struct table *table, uint32_t number) {
  const struct table_line *line = &table->lines[number];
  if (line->key.size == 0) return true;
  struct table_span value = table->kind == TABLE_KEYS ? line->path : line->value;
  /* What such a path names depends on the sender's domain, so these lines stand together (table_edit.c). */
  if (table->kind == TABLE_KEYS && memchr(value.text ? value.text : "", '%', value.size))
    value = (struct table_span){.text = "%", .size = 1};
  if (!table_index_add(&table->by_key, table_hash(line->key.text, line->key.size, table_nocase(table)), number) ||
      !table_index_add(&table->by_value, table_hash(value.text, value.size, false), number))
    return false;
  struct table_span tail;
  if (table->kind != TABLE_SIGNING_REFILE || !table_pattern_tail(&line->key, &tail)) return true;
  return table_index_add(&table->by_tail, table_hash(tail.text, tail.size, true), number);
}

/* Before any memory is taken for them, which would be much more than the file. */
static size_t table_count_lines(const char *data, size_t size) {
  const char *end = data + size;
  size_t count = 0;
  for (const char *place = data; place < end; count++) {
    const char *newline = memchr(place, '\n', (size_t)(end - place));
    place = newline ? newline + 1 : end;
  }
  return count;
}

static int table_refuse_size(const char *name, const char *path, const char *what, int limit, struct error *error) {
  error_set(error, ERROR_LIMIT, "%s %s: more than %d %s", name, path, limit, what);
  error_remedy(
      error,
      "remove entries that are no longer used, or divide the domains among several OpenDKIM, each a signer of its own");
  return ERROR_LIMIT;
}

static bool table_reserve_line(struct table *table) {
  if (table->count < table->capacity) return true;
  if (table->count >= TABLE_LINES_MAX) return false;
  size_t capacity = table->capacity ? table->capacity * 2 : 256;
  struct table_line *lines = reallocarray(table->lines, capacity, sizeof(*lines));
  if (!lines) return false;
  table->lines = lines;
  table->capacity = capacity;
  return true;
}

static bool table_parse_lines(struct table *table) {
  const char *end = table->data + table->size;
  for (const char *start = table->data; start < end;) {
    const char *newline = memchr(start, '\n', (size_t)(end - start));
    const char *next = newline ? newline + 1 : end;
    if (!table_reserve_line(table)) return false;
    uint32_t number = (uint32_t)table->count;
    table->lines[table->count++] = (struct table_line){.text = {.text = start, .size = (size_t)(next - start)},
                                                       .number = number + 1,
                                                       .order = number,
                                                       .following = TABLE_NO_LINE};
    table_parse_line(table->kind, &table->lines[number]);
    if (!table->line_end && newline) table->line_end = newline > start && newline[-1] == '\r' ? "\r\n" : "\n";
    start = next;
  }
  table->parsed = table->count;
  if (!table->line_end) table->line_end = "\n";
  table->final_newline = table->size == 0 || end[-1] == '\n';
  return true;
}

static bool table_make_indexes(struct table *table) {
  if (!table_index_init(&table->by_key, table->count) || !table_index_init(&table->by_value, table->count) ||
      !table_index_init(&table->by_tail, table->kind == TABLE_SIGNING_REFILE ? table->count : 0))
    return false;
  for (uint32_t line = 0; line < table->count; line++)
    if (!table_index_line(table, line)) return false;
  return true;
}

static void cleanup_table(struct table **table) {
  table_free(*table);
}

int table_parse(enum table_kind kind, const char *path, char *data, size_t size, struct table **ret_table,
                struct error *error) {
  const char *name = kind == TABLE_KEYS ? "KeyTable" : "SigningTable";
  if (size > TABLE_FILE_MAX) return table_refuse_size(name, path, "octets", TABLE_FILE_MAX, error);
  if (memchr(data, '\0', size)) {
    error_set(error, ERROR_INVALID, "%s %s: holds a NUL octet, so it is no text file", name, path);
    error_remedy(error, "look at it with `grep -naP '\\x00' %s` and repair it", path);
    return ERROR_INVALID;
  }
  if (table_count_lines(data, size) > TABLE_LINES_MAX)
    return table_refuse_size(name, path, "lines", TABLE_LINES_MAX, error);
  CLEANUP(cleanup_table) struct table *table = calloc(1, sizeof(*table));
  if (!table) return error_set(error, ERROR_NO_MEMORY, "%s %s: out of memory", name, path);
  table->kind = kind;
  table->end_first = table->end_last = TABLE_NO_LINE;
  table->data = data;
  table->size = size;
  table->path = text_duplicate(path);
  if (!table->path || !table_parse_lines(table) || !table_make_indexes(table)) {
    table->data = NULL; /* It stays the caller's on failure. */
    return error_set(error, ERROR_NO_MEMORY, "%s %s: out of memory", name, path);
  }
  *ret_table = TAKE_PTR(table);
  return 0;
}

void table_free(struct table *table) {
  if (!table) return;
  for (size_t i = table->parsed; i < table->count; i++) free(table->lines[i].owned);
  table_index_release(&table->by_key);
  table_index_release(&table->by_value);
  table_index_release(&table->by_tail);
  free(table->lines);
  free(table->data);
  free(table->path);
  free(table);
}

bool table_is_changed(const struct table *table) {
  return table->changed;
}

bool table_add_line(struct table *table, const char *content, size_t size, uint32_t above) {
  if (!table_reserve_line(table)) return false;
  const char *line_end = table->line_end;
  if (above != TABLE_NO_LINE) {
    const struct table_span *neighbour = &table->lines[above].text;
    if (neighbour->size >= 2 && memcmp(neighbour->text + neighbour->size - 2, "\r\n", 2) == 0)
      line_end = "\r\n";
    else if (neighbour->size >= 1 && neighbour->text[neighbour->size - 1] == '\n')
      line_end = "\n";
  }
  char *text = text_format("%.*s%s", (int)size, content, line_end);
  if (!text) return false;
  uint32_t number = (uint32_t)table->count;
  struct table_line line = {.text = {.text = text, .size = strlen(text)}, .owned = text, .following = TABLE_NO_LINE};
  table_parse_line(table->kind, &line);
  if (above != TABLE_NO_LINE) {
    line.order = table->lines[above].order;
    line.following = table->lines[above].following;
  } else {
    line.order = number;
  }
  table->lines[table->count++] = line;
  if (above != TABLE_NO_LINE)
    table->lines[above].following = number;
  else if (table->end_last != TABLE_NO_LINE)
    table->lines[table->end_last].following = number;
  else
    table->end_first = number;
  if (above == TABLE_NO_LINE || table->end_last == above) table->end_last = number;
  table->changed = true;
  return table_index_line(table, number);
}

void table_remove_line(struct table *table, uint32_t line) {
  table->lines[line].removed = true;
  table->changed = true;
}

/* Writes a line once the next one is known: only the last may lack its end, and does where the file's last line did. */
static void table_format_line(const struct table *table, const struct table_line *line, bool last,
                              struct buffer *text) {
  struct table_span span = line->text;
  bool ended = span.text[span.size - 1] == '\n';
  if (last && ended && !table->final_newline) {
    span.size--;
    if (span.size > 0 && span.text[span.size - 1] == '\r') span.size--;
  }
  buffer_add(text, span.text, span.size);
  if (last || ended) return;
  /* A CR LF that was cut in the middle is completed, and not followed by a second one. */
  buffer_add_text(text, line->text.text[line->text.size - 1] == '\r' ? "\n" : table->line_end);
}

static const struct table_line *table_format_chain(const struct table *table, uint32_t first,
                                                   const struct table_line *pending, struct buffer *text) {
  for (uint32_t i = first; i != TABLE_NO_LINE; i = table->lines[i].following) {
    if (table->lines[i].removed) continue;
    if (pending) table_format_line(table, pending, false, text);
    pending = &table->lines[i];
  }
  return pending;
}

void table_format(const struct table *table, struct buffer *text) {
  const struct table_line *pending = NULL;
  for (uint32_t i = 0; i < table->parsed; i++) pending = table_format_chain(table, i, pending, text);
  pending = table_format_chain(table, table->end_first, pending, text);
  if (pending) table_format_line(table, pending, true, text);
}

bool table_span_equal(const struct table_span *span, const char *text) {
  size_t size = strlen(text);
  return span->size == size && memcmp(span->text, text, size) == 0;
}

bool table_span_equal_nocase(const struct table_span *span, const char *text) {
  return span->size == strlen(text) && strncasecmp(span->text, text, span->size) == 0;
}

static uint32_t table_live_of_key(const struct table *table, const char *key, uint32_t line) {
  for (; line != TABLE_NO_LINE; line = table_index_next(&table->by_key, line)) {
    const struct table_line *candidate = &table->lines[line];
    if (candidate->removed) continue;
    if (table_nocase(table) ? table_span_equal_nocase(&candidate->key, key) : table_span_equal(&candidate->key, key))
      break;
  }
  return line;
}

uint32_t table_any_of_key(const struct table *table, const char *key) {
  return table_live_of_key(table, key,
                           table_index_first(&table->by_key, table_hash(key, strlen(key), table_nocase(table))));
}

/* A line that replaced another stands in its place but at the end of the chain, so the place decides. */
uint32_t table_first_of_key(const struct table *table, const char *key) {
  uint32_t first = table_any_of_key(table, key);
  for (uint32_t line = first; line != TABLE_NO_LINE; line = table_next_of_key(table, key, line))
    if (table->lines[line].order < table->lines[first].order) first = line;
  return first;
}

uint32_t table_next_of_key(const struct table *table, const char *key, uint32_t line) {
  return table_live_of_key(table, key, table_index_next(&table->by_key, line));
}

static uint32_t table_live_of_value(const struct table *table, const char *value, uint32_t line) {
  for (; line != TABLE_NO_LINE; line = table_index_next(&table->by_value, line)) {
    const struct table_line *candidate = &table->lines[line];
    const struct table_span *span = table->kind == TABLE_KEYS ? &candidate->path : &candidate->value;
    if (!candidate->removed && table_span_equal(span, value)) break;
  }
  return line;
}

uint32_t table_first_of_value(const struct table *table, const char *value) {
  return table_live_of_value(table, value,
                             table_index_first(&table->by_value, table_hash(value, strlen(value), false)));
}

uint32_t table_next_of_value(const struct table *table, const char *value, uint32_t line) {
  return table_live_of_value(table, value, table_index_next(&table->by_value, line));
}

const char *table_place(const struct table *table, uint32_t line, char buffer[TABLE_PLACE_SIZE]) {
  const char *name = table->kind == TABLE_KEYS ? "KeyTable" : "SigningTable";
  if (table->lines[line].number)
    snprintf(buffer, TABLE_PLACE_SIZE, "%s %.200s, line %u", name, table->path, table->lines[line].number);
  else
    snprintf(buffer, TABLE_PLACE_SIZE, "%s %.200s, a line of this same edit", name, table->path);
  return buffer;
}

bool table_find_key(const struct table *keys, const char *name, struct table_span *ret_value, unsigned *ret_line) {
  uint32_t line = table_first_of_key(keys, name);
  if (line == TABLE_NO_LINE) return false;
  *ret_value = keys->lines[line].value;
  *ret_line = keys->lines[line].number;
  return true;
}

bool table_match_sender(const struct table *signing, const char *address, struct table_span *ret_name,
                        unsigned *ret_line) {
  uint32_t line = table_match_line(signing, address);
  if (line == TABLE_NO_LINE) return false;
  *ret_name = signing->lines[line].value;
  *ret_line = signing->lines[line].number;
  return true;
}

bool table_read_entry(const struct table *table, size_t index, struct table_span *ret_key, struct table_span *ret_value,
                      unsigned *ret_line) {
  if (index >= table->parsed) return false;
  const struct table_line *line = &table->lines[index];
  *ret_key = line->key;
  *ret_value = line->value;
  *ret_line = line->number;
  return true;
}
