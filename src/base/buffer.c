#include "dkimroll/buffer.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFER_FIRST_CAPACITY = 256 };

/* Makes room for size more octets and the terminator, or fails the buffer. */
static bool buffer_reserve(struct buffer *buffer, size_t size) {
  if (buffer->failed) return false;
  if (size > buffer->maximum - buffer->size || size >= SIZE_MAX - buffer->size) {
    buffer->failed = true;
    return false;
  }
  size_t needed = buffer->size + size + 1;
  if (needed <= buffer->capacity) return true;
  size_t capacity = buffer->capacity > 0 ? buffer->capacity : BUFFER_FIRST_CAPACITY;
  while (capacity < needed) capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
  if (capacity - 1 > buffer->maximum) capacity = buffer->maximum + 1;
  uint8_t *data = realloc(buffer->data, capacity);
  if (!data) {
    buffer->failed = buffer->no_memory = true;
    return false;
  }
  buffer->data = data;
  buffer->capacity = capacity;
  return true;
}

void buffer_add(struct buffer *buffer, const void *octets, size_t size) {
  if (!buffer_reserve(buffer, size)) return;
  if (size > 0) memcpy(buffer->data + buffer->size, octets, size);
  buffer->size += size;
  buffer->data[buffer->size] = '\0';
}

void buffer_add_text(struct buffer *buffer, const char *text) {
  buffer_add(buffer, text, strlen(text));
}

void buffer_format(struct buffer *buffer, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(NULL, 0, format, arguments);
  va_end(arguments);
  if (length < 0) buffer->failed = true;
  if (length < 0 || !buffer_reserve(buffer, (size_t)length)) return;
  va_start(arguments, format);
  vsnprintf((char *)buffer->data + buffer->size, (size_t)length + 1, format, arguments);
  va_end(arguments);
  buffer->size += (size_t)length;
}

void buffer_add_u8(struct buffer *buffer, uint8_t value) {
  buffer_add(buffer, &value, 1);
}

void buffer_add_u16(struct buffer *buffer, uint16_t value) {
  const uint8_t octets[] = {(uint8_t)(value >> 8), (uint8_t)value};
  buffer_add(buffer, octets, sizeof(octets));
}

void buffer_add_u32(struct buffer *buffer, uint32_t value) {
  const uint8_t octets[] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
  buffer_add(buffer, octets, sizeof(octets));
}

void buffer_add_u64(struct buffer *buffer, uint64_t value) {
  buffer_add_u32(buffer, (uint32_t)(value >> 32));
  buffer_add_u32(buffer, (uint32_t)value);
}

void buffer_add_field(struct buffer *buffer, const void *octets, size_t size) {
  if (size > UINT32_MAX) {
    buffer->failed = true;
    return;
  }
  buffer_add_u32(buffer, (uint32_t)size);
  buffer_add(buffer, octets, size);
}

void buffer_add_text_field(struct buffer *buffer, const char *text) {
  buffer_add_field(buffer, text, text ? strlen(text) : 0);
}

void buffer_fail(struct buffer *buffer, const struct buffer *cause) {
  if (cause && !cause->failed) return;
  buffer->failed = true;
  buffer->no_memory |= !cause || cause->no_memory;
}

void buffer_consume(struct buffer *buffer, size_t size) {
  assert(size <= buffer->size);
  if (size == 0) return;
  memmove(buffer->data, buffer->data + size, buffer->size - size + 1);
  buffer->size -= size;
}

void buffer_reset(struct buffer *buffer) {
  buffer->size = 0;
  buffer->failed = buffer->no_memory = false;
  if (buffer->data) buffer->data[0] = '\0';
}

void buffer_release(struct buffer *buffer) {
  if (!buffer) return;
  free(buffer->data);
  *buffer = BUFFER_WITH_MAXIMUM(buffer->maximum);
}

char *buffer_take_text(struct buffer *buffer) {
  if (buffer->failed) {
    free(buffer->data);
    buffer->data = NULL;
    buffer->size = buffer->capacity = 0;
    return NULL;
  }
  if (!buffer->data) return calloc(1, 1);
  char *text = (char *)buffer->data;
  *buffer = BUFFER_WITH_MAXIMUM(buffer->maximum);
  return text;
}

const uint8_t *reader_octets(struct reader *reader, size_t size) {
  static const uint8_t nothing[1];
  if (reader->failed || size > reader->size - reader->position) {
    reader->failed = true;
    return NULL;
  }
  /* An empty reader may have no data at all, and arithmetic on NULL is undefined. */
  if (size == 0) return nothing;
  const uint8_t *octets = reader->data + reader->position;
  reader->position += size;
  return octets;
}

static uint64_t reader_number(struct reader *reader, size_t size) {
  const uint8_t *octets = reader_octets(reader, size);
  uint64_t value = 0;
  for (size_t i = 0; octets && i < size; i++) value = value << 8 | octets[i];
  return value;
}

uint8_t reader_u8(struct reader *reader) {
  return (uint8_t)reader_number(reader, 1);
}
uint16_t reader_u16(struct reader *reader) {
  return (uint16_t)reader_number(reader, 2);
}
uint32_t reader_u32(struct reader *reader) {
  return (uint32_t)reader_number(reader, 4);
}
uint64_t reader_u64(struct reader *reader) {
  return reader_number(reader, 8);
}

const uint8_t *reader_field(struct reader *reader, size_t *ret_size) {
  size_t size = reader_u32(reader);
  const uint8_t *octets = reader_octets(reader, size);
  *ret_size = octets ? size : 0;
  return octets;
}

char *reader_text_field(struct reader *reader) {
  size_t size = 0;
  const uint8_t *octets = reader_field(reader, &size);
  if (!octets) return NULL;
  if (memchr(octets, '\0', size)) {
    reader->failed = true;
    return NULL;
  }
  char *text = malloc(size + 1);
  if (!text) {
    reader->failed = reader->no_memory = true;
    return NULL;
  }
  memcpy(text, octets, size);
  text[size] = '\0';
  return text;
}
