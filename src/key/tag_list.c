#include "dkimroll/tag_list.h"

#include <string.h>

#include <openssl/evp.h>

#include "dkimroll/text.h"

bool span_is_space(char octet) {
  return octet == ' ' || octet == '\t' || octet == '\r' || octet == '\n';
}

static bool is_letter(char octet) {
  return (octet >= 'a' && octet <= 'z') || (octet >= 'A' && octet <= 'Z');
}

static bool is_digit(char octet) {
  return octet >= '0' && octet <= '9';
}

struct span span_trim(struct span span) {
  while (span.size > 0 && span_is_space(span.text[0])) span = (struct span){span.text + 1, span.size - 1};
  while (span.size > 0 && span_is_space(span.text[span.size - 1])) span.size--;
  return span;
}

struct span span_cut(struct span *rest, char separator, bool *ret_found) {
  const char *place = rest->size > 0 ? memchr(rest->text, separator, rest->size) : NULL;
  *ret_found = place != NULL;
  struct span piece = {rest->text, place ? (size_t)(place - rest->text) : rest->size};
  size_t used = piece.size + (place ? 1 : 0);
  *rest = (struct span){rest->text + used, rest->size - used};
  return piece;
}

bool span_equal(struct span span, const char *text) {
  return span.size == strlen(text) && memcmp(span.text, text, span.size) == 0;
}

bool span_same(struct span a, struct span b) {
  return a.size == b.size && (a.size == 0 || memcmp(a.text, b.text, a.size) == 0);
}

const char *span_printable(struct span span, char buffer[TAG_LIST_SHOWN_MAX]) {
  return text_printable(span.text, span.size, buffer, TAG_LIST_SHOWN_MAX);
}

bool span_decode(struct span value, uint8_t *octets, size_t *ret_size) {
  unsigned char group[4];
  size_t filled = 0, used = 0, padding = 0;
  for (size_t i = 0; i < value.size; i++) {
    char octet = value.text[i];
    if (span_is_space(octet)) continue;
    bool digit = is_letter(octet) || is_digit(octet) || octet == '+' || octet == '/';
    if (octet == '=')
      padding++;
    else if (!digit || padding > 0)
      return false;
    group[filled++] = (unsigned char)octet;
    if (filled < sizeof(group)) continue;
    unsigned char decoded[4];
    if (EVP_DecodeBlock(decoded, group, (int)sizeof(group)) != 3) return false;
    memcpy(octets + used, decoded, 3);
    used += 3;
    filled = 0;
  }
  if (filled != 0 || padding > 2) return false;
  *ret_size = used - padding;
  return true;
}

const struct tag *tag_list_find(const struct tag_list *tags, const char *name) {
  for (size_t i = 0; i < tags->count; i++) {
    if (span_equal(tags->items[i].name, name)) return &tags->items[i];
  }
  return NULL;
}

bool tag_list_allows(const struct tag *tag, const char *word) {
  if (!tag) return true;
  struct span rest = tag->value;
  bool more = true;
  while (more) {
    if (span_equal(span_trim(span_cut(&rest, ':', &more)), word)) return true;
  }
  return false;
}

/* One "name = value" (tag-spec). */
static int parse_tag(struct span spec, struct tag_list *tags, struct error *error) {
  char shown[TAG_LIST_SHOWN_MAX];
  bool found = false;
  struct span value = spec;
  struct span name = span_trim(span_cut(&value, '=', &found));
  value = span_trim(value);
  if (!found) return error_set(error, ERROR_INVALID, "\"%s\" is not a tag=value", span_printable(spec, shown));
  bool well_formed = name.size > 0 && is_letter(name.text[0]);
  for (size_t i = 0; i < name.size; i++)
    well_formed = well_formed && (is_letter(name.text[i]) || is_digit(name.text[i]) || name.text[i] == '_');
  if (!well_formed)
    return error_set(error, ERROR_INVALID, "\"%s\" is not the name of a tag", span_printable(name, shown));
  for (size_t i = 0; i < value.size; i++) {
    bool allowed = span_is_space(value.text[i]) || (value.text[i] > ' ' && value.text[i] <= '~');
    if (!allowed) {
      return error_set(error, ERROR_INVALID, "the tag %s= holds an octet that is not printable ASCII",
                       span_printable(name, shown));
    }
  }
  for (size_t i = 0; i < tags->count; i++) {
    if (span_same(tags->items[i].name, name)) {
      return error_set(error, ERROR_INVALID, "the tag %s= is there twice", span_printable(name, shown));
    }
  }
  if (tags->count == TAG_LIST_MAX) return error_set(error, ERROR_INVALID, "more than %d tags", TAG_LIST_MAX);
  tags->items[tags->count++] = (struct tag){name, value};
  return 0;
}

/* One ";" may follow the last tag, none may be empty. */
static int parse_tags(const char *text, size_t size, struct tag_list *tags, struct error *error) {
  struct span rest = {text, size};
  bool more = true;
  while (more) {
    struct span spec = span_cut(&rest, ';', &more);
    if (span_trim(spec).size == 0) {
      if (!more && tags->count > 0) return 0;
      return error_set(error, ERROR_INVALID,
                       tags->count > 0 ? "there is nothing between two semicolons" : "it does not start with a tag");
    }
    int result = parse_tag(span_trim(spec), tags, error);
    if (result < 0) return result;
  }
  return 0;
}

int tag_list_parse(const char *text, size_t size, struct tag_list *ret_tags, struct error *error) {
  struct tag_list tags = {.count = 0};
  int result = parse_tags(text, size, &tags, error);
  if (result == 0) *ret_tags = tags;
  return result;
}
