#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/policy_schema.h"
#include "dkimroll/text.h"

/* What YAML would refuse, or take for the end of a line, if it stood there as it is (YAML 1.1, 5.1 and 5.4): its number, and how many octets of UTF-8 it has. 0: nothing of that kind. */
static size_t read_unprintable(const char *at, unsigned *ret_number) {
  const unsigned char first = (unsigned char)at[0];
  if (first < 0x20 || first == 0x7f) {
    *ret_number = first;
    return 1;
  }
  if (text_is_control(at)) {
    *ret_number = (unsigned char)at[1];
    return 2;
  }
  static const struct {
    char octets[4];
    unsigned number;
  } rows[] = {{"\xe2\x80\xa8", 0x2028}, {"\xe2\x80\xa9", 0x2029}, {"\xef\xbb\xbf", 0xfeff}, {"\xef\xbf\xbe", 0xfffe}, {"\xef\xbf\xbf", 0xffff}};
  for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
    if (strncmp(at, rows[i].octets, 3) != 0) continue;
    *ret_number = rows[i].number;
    return 3;
  }
  return 0;
}

void schema_write_text(const char *text, struct buffer *buffer) {
  buffer_add_text(buffer, "\"");
  for (const char *at = text; *at;) {
    unsigned number = 0;
    const size_t size = read_unprintable(at, &number);
    if (size > 0) {
      buffer_format(buffer, "\\u%04x", number);
    } else if (*at == '"' || *at == '\\') {
      buffer_format(buffer, "\\%c", *at);
    } else {
      buffer_add(buffer, at, 1);
    }
    at += size > 0 ? size : 1;
  }
  buffer_add_text(buffer, "\"");
}

static bool write_list(const struct schema_row *row, const void *record, struct buffer *buffer) {
  char *const *items = *SCHEMA_FIELD_CONST(char **, record, row->offset);
  const size_t count = *SCHEMA_FIELD_CONST(size_t, record, row->count_offset);
  for (size_t i = 0; i < count; i++) {
    buffer_add_text(buffer, i == 0 ? "[" : ", ");
    schema_write_text(items[i], buffer);
  }
  if (count > 0) buffer_add_text(buffer, "]");
  return count > 0;
}

static bool write_entries(const struct schema_row *row, const void *record, struct buffer *buffer) {
  const char *records = *SCHEMA_FIELD_CONST(char *, record, row->offset);
  const size_t count = *SCHEMA_FIELD_CONST(size_t, record, row->count_offset);
  for (size_t i = 0; i < count; i++) {
    const char *entry = records + i * row->table->size;
    const char *name = *SCHEMA_FIELD_CONST(char *, entry, row->table->name_offset);
    buffer_add_text(buffer, i == 0 ? "{" : ", ");
    schema_write_text(name ? name : "", buffer);
    buffer_add_text(buffer, ": ");
    schema_write(row->table, entry, buffer);
  }
  if (count > 0) buffer_add_text(buffer, "}");
  return count > 0;
}

static bool write_value(const struct schema_row *row, const void *record, struct buffer *buffer) {
  if (row->flags & SCHEMA_VARIANT && *SCHEMA_FIELD_CONST(unsigned, record, row->variant_offset) != row->variant) {
    return false;
  }
  switch (row->shape) {
  case SCHEMA_VALUE: return row->type->write(row, record, buffer);
  case SCHEMA_LIST: return write_list(row, record, buffer);
  case SCHEMA_GROUP: {
    schema_write(row->table, record, buffer);
    return buffer->size > strlen("{}"); /* what has nothing to say is left out, so that texts of before its day stay as they were */
  }
  case SCHEMA_ENTRIES: return write_entries(row, record, buffer);
  case SCHEMA_STREAM: break;
  }
  return false;
}

void schema_write(const struct schema_table *table, const void *record, struct buffer *buffer) {
  bool first = true;
  buffer_add_text(buffer, "{");
  for (size_t i = 0; i < table->row_count; i++) {
    const struct schema_row *row = &table->rows[i];
    struct buffer value = BUFFER_WITH_MAXIMUM(buffer->maximum);
    if (write_value(row, record, &value)) {
      if (!first) buffer_add_text(buffer, ", ");
      first = false;
      schema_write_text(row->name, buffer);
      buffer_add_text(buffer, ": ");
      buffer_add(buffer, value.data, value.size);
    }
    buffer_fail(buffer, &value);
    buffer_release(&value);
  }
  buffer_add_text(buffer, "}");
}

static void release_list(const struct schema_row *row, void *record) {
  char ***items = SCHEMA_FIELD(char **, record, row->offset);
  size_t *count = SCHEMA_FIELD(size_t, record, row->count_offset);
  for (size_t i = 0; i < *count; i++) free((*items)[i]);
  free(*items);
  *items = NULL;
  *count = 0;
}

void schema_release_entries(const struct schema_table *table, void *records, size_t count) {
  for (size_t i = 0; i < count; i++) {
    char *entry = (char *)records + i * table->size;
    schema_release(table, entry);
    free(*SCHEMA_FIELD(char *, entry, table->name_offset));
  }
  free(records);
}

void schema_release(const struct schema_table *table, void *record) {
  for (size_t i = 0; i < table->row_count; i++) {
    const struct schema_row *row = &table->rows[i];
    if (row->shape == SCHEMA_VALUE && row->type->release) row->type->release(row, record);
    if (row->shape == SCHEMA_LIST) release_list(row, record);
    if (row->shape == SCHEMA_GROUP) schema_release(row->table, record);
    if (row->shape == SCHEMA_ENTRIES) {
      void **records = SCHEMA_FIELD(void *, record, row->offset);
      size_t *count = SCHEMA_FIELD(size_t, record, row->count_offset);
      schema_release_entries(row->table, *records, *count);
      *records = NULL;
      *count = 0;
    }
  }
}
