#include "dkimroll/zone_fragment.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/record.h"
#include "dkimroll/selector.h"
#include "dkimroll/text.h"

static const char fragment_mark[] = "; dkimroll writes this file, and only it: ";
static const char name_octets[] = "abcdefghijklmnopqrstuvwxyz0123456789-_";
enum { LABEL_MAX = 63, NAME_MAX_OCTETS = DNS_NAME_TEXT_SIZE - 3 };

void fragment_release(struct fragment *fragment) {
  if (!fragment) return;
  for (size_t i = 0; i < fragment->count; i++) {
    free(fragment->records[i].name);
    free(fragment->records[i].text);
  }
  free(fragment->records);
  *fragment = (struct fragment){0};
}

static bool is_name(const char *name) {
  if (strlen(name) > NAME_MAX_OCTETS) return false;
  for (const char *label = name;; label++) {
    const size_t size = strspn(label, name_octets);
    if (size == 0 || size > LABEL_MAX) return false;
    label += size;
    if (*label == '\0') return true;
    if (*label != '.') return false;
  }
}

int fragment_check_zone(const char *zone, struct error *error) {
  if (is_name(zone)) return 0;
  char shown[DNS_NAME_TEXT_SIZE];
  return error_set(error, ERROR_INVALID, "\"%s\" is no name of a zone that a file may be named after", text_printable(zone, strlen(zone), shown, sizeof(shown)));
}

static bool is_below(const char *name, const char *zone) {
  const size_t size = strlen(name);
  const size_t zone_size = strlen(zone);
  if (!is_name(name) || size < zone_size || !text_equal(name + size - zone_size, zone)) return false;
  return size == zone_size || name[size - zone_size - 1] == '.';
}

/* Where name is, or would have to be. */
static size_t find_place(const struct fragment *fragment, const char *name, bool *ret_found) {
  size_t low = 0;
  size_t high = fragment->count;
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (strcmp(fragment->records[middle].name, name) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  *ret_found = low < fragment->count && text_equal(fragment->records[low].name, name);
  return low;
}

/* Takes the record over; on failure it is still the caller's. */
static int insert_record(struct fragment *fragment, size_t place, struct fragment_record *record, struct error *error) {
  if (fragment->count == FRAGMENT_RECORDS_MAX) return error_set(error, ERROR_LIMIT, "more than %d records in one fragment", FRAGMENT_RECORDS_MAX);
  if (fragment->count == fragment->capacity || !fragment->records) {
    const size_t capacity = fragment->capacity ? fragment->capacity * 2 : 64;
    struct fragment_record *grown = reallocarray(fragment->records, capacity, sizeof(*grown));
    if (!grown) return error_set(error, ERROR_NO_MEMORY, "out of memory for a fragment");
    fragment->records = grown;
    fragment->capacity = capacity;
  }
  memmove(&fragment->records[place + 1], &fragment->records[place], (fragment->count - place) * sizeof(*fragment->records));
  fragment->records[place] = *record;
  fragment->count++;
  *record = (struct fragment_record){0};
  return 0;
}

static void free_record(struct fragment_record *record) {
  free(record->name);
  free(record->text);
}

/* ---- text ---- */

static void write_string(const char *text, size_t size, struct buffer *buffer) {
  buffer_add_text(buffer, "\"");
  for (size_t i = 0; i < size; i++) {
    const unsigned char octet = (unsigned char)text[i];
    if (octet == '"' || octet == '\\')
      buffer_format(buffer, "\\%c", octet);
    else if (octet < 0x20 || octet > 0x7e)
      buffer_format(buffer, "\\%03u", octet);
    else
      buffer_add(buffer, &text[i], 1);
  }
  buffer_add_text(buffer, "\"");
}

void fragment_write_strings(const char *text, struct buffer *buffer) {
  const size_t size = strlen(text);
  for (size_t at = 0; at < size || at == 0; at += RECORD_STRING_MAX) {
    if (at > 0) buffer_add_text(buffer, " ");
    write_string(text + at, size - at < RECORD_STRING_MAX ? size - at : RECORD_STRING_MAX, buffer);
  }
}

static void write_record(const struct fragment_record *record, struct buffer *buffer) {
  buffer_format(buffer, "%s. %lu IN TXT ", record->name, (unsigned long)record->ttl);
  fragment_write_strings(record->text, buffer);
  buffer_add_text(buffer, "\n");
}

void fragment_write(const struct fragment *fragment, const char *zone, const char *path, struct buffer *buffer) {
  buffer_format(buffer, "%s%zu DKIM record%s for zone %s.\n", fragment_mark, fragment->count, fragment->count == 1 ? "" : "s", zone);
  buffer_format(buffer, "; The zone's file includes it: $INCLUDE %s\n", path);
  for (size_t i = 0; i < fragment->count; i++) write_record(&fragment->records[i], buffer);
}

/* Reads strings from text to the end of the line. */
static bool read_strings(const char *text, struct buffer *content) {
  while (*text == ' ') {
    if (*++text != '"') return false;
    for (text++; *text != '"'; text++) {
      unsigned octet = (unsigned char)*text;
      if (octet == '\0') return false;
      if (octet == '\\' && text[1] >= '0' && text[1] <= '2' && text[2] >= '0' && text[2] <= '9' && text[3] >= '0' && text[3] <= '9') {
        octet = (unsigned)(text[1] - '0') * 100 + (unsigned)(text[2] - '0') * 10 + (unsigned)(text[3] - '0');
        text += 3;
      } else if (octet == '\\') {
        octet = (unsigned char)*++text;
        if (octet != '"' && octet != '\\') return false;
      }
      if (octet == 0 || octet > UINT8_MAX) return false;
      buffer_add_u8(content, (uint8_t)octet);
    }
    text++;
  }
  return *text == '\0' && content->size > 0;
}

/* false: it is not a line of ours. NULL texts in *ret_record: out of memory. */
static bool read_record(char *line, const char *zone, struct fragment_record *ret_record) {
  static const char middle[] = " IN TXT ";
  char *blank = strchr(line, ' ');
  char *rest = blank ? strstr(blank + 1, middle) : NULL;
  long long ttl = 0;
  if (!blank || blank == line || blank[-1] != '.' || !rest) return false;
  blank[-1] = *rest = '\0';
  if (!is_below(line, zone) || !text_parse_number(blank + 1, 0, INT32_MAX, &ttl)) return false;
  CLEANUP(buffer_release) struct buffer content = BUFFER_WITH_MAXIMUM(RECORD_TEXT_MAX);
  const bool read = read_strings(rest + strlen(middle) - 1, &content);
  if (!content.no_memory && (!read || content.failed)) return false;
  *ret_record = (struct fragment_record){.name = text_duplicate(line), .ttl = (uint32_t)ttl, .text = buffer_take_text(&content)};
  return true;
}

static int refuse_line(size_t number, struct error *error) {
  error_set(error, ERROR_CONFLICT, "line %zu was not written by dkimroll", number);
  error_remedy(error, "move what others wrote to the zone's own file; an empty file in its place is taken over, with the records that belong there");
  return ERROR_CONFLICT;
}

static int parse_line(char *line, size_t number, const char *zone, struct fragment *fragment, struct error *error) {
  if (number == 1) return text_starts(line, fragment_mark) ? 0 : refuse_line(number, error);
  if (line[0] == ';') return 0;
  struct fragment_record record = {0};
  if (!read_record(line, zone, &record)) return refuse_line(number, error);
  bool found = false;
  int result = record.name && record.text ? 0 : error_set(error, ERROR_NO_MEMORY, "out of memory for a fragment");
  const size_t place = result ? 0 : find_place(fragment, record.name, &found);
  if (found) result = refuse_line(number, error);
  if (!result) result = insert_record(fragment, place, &record, error);
  free_record(&record);
  return result;
}

int fragment_parse(const char *text, size_t size, const char *zone, struct fragment *ret_fragment, struct error *error) {
  CLEANUP(fragment_release) struct fragment fragment = {0};
  CLEANUP_FREE char *copy = malloc(size + 1);
  if (!copy) return error_set(error, ERROR_NO_MEMORY, "out of memory for a fragment");
  memcpy(copy, text, size);
  copy[size] = '\0';
  size_t number = 0;
  for (char *line = copy; line < copy + size;) {
    char *end = strchr(line, '\n');
    number++;
    if (!end) return refuse_line(number, error);
    *end = '\0';
    const int result = parse_line(line, number, zone, &fragment, error);
    if (result) return result;
    line = end + 1;
  }
  *ret_fragment = fragment;
  fragment = (struct fragment){0};
  return 0;
}

/* ---- edits ---- */

static int refuse_edit(const struct fragment_edit *edit, const struct fragment_record *stands, struct error *error) {
  char shown[160];
  error_set(error, ERROR_CONFLICT, "something else stands at %s: %s", edit->name, text_printable(stands->text, strlen(stands->text), shown, sizeof(shown)));
  error_remedy(error, "find out whose record it is; dkimroll changes only what it made for this key");
  return ERROR_CONFLICT;
}

static int add_record(struct fragment *fragment, size_t place, const struct fragment_edit *edit, struct error *error) {
  struct fragment_record record = {.name = text_duplicate(edit->name), .ttl = edit->ttl, .text = text_duplicate(edit->record)};
  int result = record.name && record.text ? 0 : error_set(error, ERROR_NO_MEMORY, "out of memory for a fragment");
  if (!result) result = insert_record(fragment, place, &record, error);
  free_record(&record);
  return result;
}

static int set_record(struct fragment_record *stands, const struct fragment_edit *edit, bool *ret_changed, struct error *error) {
  *ret_changed = stands->ttl != edit->ttl || !text_equal(stands->text, edit->record);
  char *text = text_duplicate(edit->record);
  if (!text) return error_set(error, ERROR_NO_MEMORY, "out of memory for a fragment");
  free(stands->text);
  stands->text = text;
  stands->ttl = edit->ttl;
  return 0;
}

static int check_edit(const char *zone, const struct fragment_edit *edit, struct error *error) {
  char shown[DNS_NAME_TEXT_SIZE];
  if (!is_below(edit->name, zone))
    return error_set(error, ERROR_INVALID, "\"%s\" is no name below the zone %s", text_printable(edit->name, strlen(edit->name), shown, sizeof(shown)), zone);
  const bool record = edit->change != FRAGMENT_DELETE;
  if (record && edit->record && edit->record[0] != '\0' && strlen(edit->record) <= RECORD_TEXT_MAX && edit->ttl <= INT32_MAX) return 0;
  if (edit->change == FRAGMENT_DELETE && edit->record_before) return 0;
  return error_set(error, ERROR_INVALID, "%s: there is no record of 1 to %d octets for it", edit->name, RECORD_TEXT_MAX);
}

int fragment_edit(struct fragment *fragment, const char *zone, const struct fragment_edit *edit, bool *ret_changed, struct error *error) {
  bool found = false;
  const int result = check_edit(zone, edit, error);
  if (result) return result;
  const size_t place = find_place(fragment, edit->name, &found);
  struct fragment_record *stands = found ? &fragment->records[place] : NULL;
  if (!stands) {
    *ret_changed = edit->change != FRAGMENT_DELETE;
    return *ret_changed ? add_record(fragment, place, edit, error) : 0;
  }
  *ret_changed = false;
  if (edit->change == FRAGMENT_KEEP) return 0;
  const bool before = edit->change != FRAGMENT_ADD && text_equal(stands->text, edit->record_before);
  if (edit->change == FRAGMENT_DELETE) {
    if (!before && !(edit->record_also && text_equal(stands->text, edit->record_also))) return refuse_edit(edit, stands, error);
    free_record(stands);
    memmove(stands, stands + 1, (--fragment->count - place) * sizeof(*stands));
    *ret_changed = true;
    return 0;
  }
  if (!before && !text_equal(stands->text, edit->record)) return refuse_edit(edit, stands, error);
  return set_record(stands, edit, ret_changed, error);
}
