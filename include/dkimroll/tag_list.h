/* "tag=value; tag=value": the syntax that key records and signatures share (RFC 6376 3.2), and its base64. Nothing is
 * copied: all spans point into the text that was read. */
#ifndef DKIMROLL_TAG_LIST_H
#define DKIMROLL_TAG_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/error.h"

enum {
  TAG_LIST_MAX = 32, /* the RFC knows ten in a record and fifteen in a signature; nobody publishes more than this */
  TAG_LIST_SHOWN_MAX = 64, /* of an outside tag or value that a message quotes */
};

/* A piece of a text, not terminated. */
struct span {
  const char *text;
  size_t size;
};

struct tag {
  struct span name;
  struct span value; /* without the white space around it; inside it may be folded */
};

struct tag_list {
  struct tag items[TAG_LIST_MAX];
  size_t count;
};

/* Reads a tag-list: a duplicate or an octet outside of printable ASCII and white space makes it invalid. ERROR_INVALID
 * says what is wrong. */
int tag_list_parse(const char *text, size_t size, struct tag_list *ret_tags, struct error *error) ERROR_USE_RESULT;
/* NULL: there is no such tag. */
const struct tag *tag_list_find(const struct tag_list *tags, const char *name);
/* Whether the colon-separated list of a tag names the word; an absent tag allows everything. */
bool tag_list_allows(const struct tag *tag, const char *word);

/* Folding white space (RFC 6376 2.8); a bare CR or LF counts too, as verifiers do it. */
bool span_is_space(char octet);
struct span span_trim(struct span span);
/* Cuts *rest at the first separator and returns what lay before it; *ret_found is false for the last piece. */
struct span span_cut(struct span *rest, char separator, bool *ret_found);
bool span_equal(struct span span, const char *text);
bool span_same(struct span a, struct span b);
const char *span_printable(struct span span, char buffer[TAG_LIST_SHOWN_MAX]);
/* Base64 with its white space folded out (RFC 6376 3.2, base64string) into octets (at least value.size of them). Returns
 * false unless it is exactly that. */
bool span_decode(struct span value, uint8_t *octets, size_t *ret_size);

#endif
