#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "dkimroll/clock.h"
#include "dkimroll/policy_schema.h"
#include "dkimroll/text.h"

static void show_number(int64_t number, char buffer[DURATION_TEXT_SIZE]) {
  snprintf(buffer, DURATION_TEXT_SIZE, "%" PRId64, number);
}

static void show_duration(int64_t number, char buffer[DURATION_TEXT_SIZE]) {
  (void)duration_format(number, buffer);
}

static int read_text(const struct schema_row *row, const char *text, void *record) {
  char **field = SCHEMA_FIELD(char *, record, row->offset);
  char *copy = row->canonical ? row->canonical(text) : text_duplicate(text);
  if (!copy) return ERROR_NO_MEMORY;
  free(*field);
  *field = copy;
  return 0;
}

static bool write_text(const struct schema_row *row, const void *record, struct buffer *buffer) {
  const char *text = *SCHEMA_FIELD_CONST(char *, record, row->offset);
  if (text) schema_write_text(text, buffer);
  return text != NULL;
}

static void release_text(const struct schema_row *row, void *record) {
  char **field = SCHEMA_FIELD(char *, record, row->offset);
  free(*field);
  *field = NULL;
}

const struct schema_type schema_text = {
    .expects = "a text", .read = read_text, .write = write_text, .release = release_text};

static int read_number(const struct schema_row *row, const char *text, void *record) {
  long long number;
  if (!text_parse_number(text, 0, UINT_MAX, &number)) return ERROR_INVALID;
  *SCHEMA_FIELD(unsigned, record, row->offset) = (unsigned)number;
  return 0;
}

static int64_t number_of(const struct schema_row *row, const void *record) {
  return *SCHEMA_FIELD_CONST(unsigned, record, row->offset);
}

static bool write_number(const struct schema_row *row, const void *record, struct buffer *buffer) {
  buffer_format(buffer, "%u", *SCHEMA_FIELD_CONST(unsigned, record, row->offset));
  return true;
}

const struct schema_type schema_number = {
    .expects = "a whole number", .read = read_number, .write = write_number, .number = number_of, .show = show_number};

static int read_duration(const struct schema_row *row, const char *text, void *record) {
  int64_t *field = SCHEMA_FIELD(int64_t, record, row->offset);
  if (row->flags & SCHEMA_NEVER && text_equal(text, "never")) {
    *field = TIME_NEVER;
    return 0;
  }
  return duration_parse(text, field) ? 0 : ERROR_INVALID;
}

static int64_t duration_of(const struct schema_row *row, const void *record) {
  return *SCHEMA_FIELD_CONST(int64_t, record, row->offset);
}

/* Seconds, because duration_format keeps only the two largest units. */
static bool write_duration(const struct schema_row *row, const void *record, struct buffer *buffer) {
  const int64_t seconds = duration_of(row, record);
  if (seconds == TIME_NEVER) {
    buffer_add_text(buffer, "\"never\"");
  } else {
    buffer_format(buffer, "%" PRId64, seconds);
  }
  return true;
}

#define DURATION_EXPECTS "a duration such as 90d, 1h30m or 3600 (seconds)"
const struct schema_type schema_duration = {.expects = DURATION_EXPECTS,
                                            .read = read_duration,
                                            .write = write_duration,
                                            .number = duration_of,
                                            .show = show_duration};

static int read_duration32(const struct schema_row *row, const char *text, void *record) {
  int64_t seconds;
  if (!duration_parse(text, &seconds) || seconds > UINT32_MAX) return ERROR_INVALID;
  *SCHEMA_FIELD(uint32_t, record, row->offset) = (uint32_t)seconds;
  return 0;
}

static int64_t duration32_of(const struct schema_row *row, const void *record) {
  return *SCHEMA_FIELD_CONST(uint32_t, record, row->offset);
}

static bool write_duration32(const struct schema_row *row, const void *record, struct buffer *buffer) {
  buffer_format(buffer, "%" PRId64, duration32_of(row, record));
  return true;
}

const struct schema_type schema_duration32 = {.expects = DURATION_EXPECTS,
                                              .read = read_duration32,
                                              .write = write_duration32,
                                              .number = duration32_of,
                                              .show = show_duration};

/* Enums whose values are all positive are unsigned int for the compiler. */
static int read_choice(const struct schema_row *row, const char *text, void *record) {
  for (const struct schema_choice *choice = row->choices; choice->name; choice++) {
    if (!text_equal(choice->name, text)) continue;
    *SCHEMA_FIELD(unsigned, record, row->offset) = choice->value;
    return 0;
  }
  return ERROR_INVALID;
}

static bool write_choice(const struct schema_row *row, const void *record, struct buffer *buffer) {
  const unsigned value = *SCHEMA_FIELD_CONST(unsigned, record, row->offset);
  for (const struct schema_choice *choice = row->choices; choice->name; choice++) {
    if (choice->value != value) continue;
    schema_write_text(choice->name, buffer);
    return true;
  }
  return false;
}

const struct schema_type schema_choice = {.expects = "one of", .read = read_choice, .write = write_choice};

static int read_switch(const struct schema_row *row, const char *text, void *record) {
  const bool is_true = text_equal(text, "true") || text_equal(text, "yes");
  if (!is_true && !text_equal(text, "false") && !text_equal(text, "no")) return ERROR_INVALID;
  *SCHEMA_FIELD(bool, record, row->offset) = is_true;
  return 0;
}

static bool write_switch(const struct schema_row *row, const void *record, struct buffer *buffer) {
  buffer_add_text(buffer, *SCHEMA_FIELD_CONST(bool, record, row->offset) ? "true" : "false");
  return true;
}

const struct schema_type schema_switch = {.expects = "true or false", .read = read_switch, .write = write_switch};

static int read_mode(const struct schema_row *row, const char *text, void *record) {
  const size_t length = strlen(text);
  if (length < 3 || length > 4 || text[strspn(text, "01234567")] != '\0') return ERROR_INVALID;
  mode_t mode = 0;
  for (const char *digit = text; *digit; digit++) mode = mode << 3 | (mode_t)(*digit - '0');
  *SCHEMA_FIELD(mode_t, record, row->offset) = mode;
  return 0;
}

static bool write_mode(const struct schema_row *row, const void *record, struct buffer *buffer) {
  buffer_format(buffer, "\"%04o\"", (unsigned)*SCHEMA_FIELD_CONST(mode_t, record, row->offset));
  return true;
}

const struct schema_type schema_mode = {
    .expects = "a file mode in octal such as 0600 or 0640", .read = read_mode, .write = write_mode};
