/* Growing octet buffer with a maximum from birth: what does not fit fails the buffer once, and it stays failed. */
#ifndef DKIMROLL_BUFFER_H
#define DKIMROLL_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/error.h"

/* data is always terminated by a NUL that size does not count, once anything was added; NULL before. */
struct buffer {
  uint8_t *data;
  size_t size;
  size_t capacity;
  size_t maximum;
  bool failed;    /* out of memory or over the maximum; later additions do nothing */
  bool no_memory; /* it was memory */
};

#define BUFFER_WITH_MAXIMUM(octets) ((struct buffer){.maximum = (octets)})

void buffer_add(struct buffer *buffer, const void *octets, size_t size);
void buffer_add_text(struct buffer *buffer, const char *text);
void buffer_format(struct buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buffer_add_u8(struct buffer *buffer, uint8_t value);
/* Network order. */
void buffer_add_u16(struct buffer *buffer, uint16_t value);
void buffer_add_u32(struct buffer *buffer, uint32_t value);
void buffer_add_u64(struct buffer *buffer, uint64_t value);
/* Length-prefixed (u32, network order) octets; text: the same without its NUL; NULL is written as length 0. */
void buffer_add_field(struct buffer *buffer, const void *octets, size_t size);
void buffer_add_text_field(struct buffer *buffer, const char *text);
/* Fails it too if cause, from which it was to be filled, has failed; NULL: memory ran out before. */
void buffer_fail(struct buffer *buffer, const struct buffer *cause);
/* Removes the first octets. size at most buffer->size. */
void buffer_consume(struct buffer *buffer, size_t size);
/* Empties it, keeps the memory, forgives the failure. */
void buffer_reset(struct buffer *buffer);
/* Frees the memory; the maximum stays. NULL is fine. */
void buffer_release(struct buffer *buffer);
/* As a terminated string that the caller frees, emptying the buffer; NULL if it failed: then nothing is left to release, and the failure stays. An empty one gives "". */
char *buffer_take_text(struct buffer *buffer);

/* Bounded reading. A read past the end sets failed, returns zeros, and stays failed. */
struct reader {
  const uint8_t *data;
  size_t size;
  size_t position;
  bool failed;
  bool no_memory; /* a text could not be copied: the octets may be good */
};

uint8_t reader_u8(struct reader *reader);
uint16_t reader_u16(struct reader *reader);
uint32_t reader_u32(struct reader *reader);
uint64_t reader_u64(struct reader *reader);
/* Borrowed pointer into the data; NULL if there are fewer than size octets left. */
const uint8_t *reader_octets(struct reader *reader, size_t size);
/* A field as buffer_add_field wrote it. *ret_size is 0 on failure. */
const uint8_t *reader_field(struct reader *reader, size_t *ret_size);
/* A text field as a string that the caller frees; NULL on failure or if it holds a NUL octet. */
char *reader_text_field(struct reader *reader);
/* Why what ("a job on a private key") could not be read: ERROR_NO_MEMORY, which may be tried again, or ERROR_PROTOCOL. Here, so that the analyser sees that it
 * never returns 0. */
static inline int reader_refuse(const struct reader *reader, const char *what, struct error *error) {
  if (reader->no_memory) return error_set(error, ERROR_NO_MEMORY, "out of memory while %s was read", what);
  return error_set(error, ERROR_PROTOCOL, "%s cannot be read", what);
}

#endif
