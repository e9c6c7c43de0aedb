#include "dkimroll/record.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

enum {
  RECORD_TAGS_MAX = 32,       /* the RFC knows ten; a record with more is not a key record that anybody publishes */
  RECORD_ED25519_SIZE = 32,   /* RFC 8463 4.2 */
  RECORD_RSA_BITS_MIN = 1024, /* RFC 8301 3.2: verifiers must not accept less */
  RECORD_TAG_TEXT_MAX = 64,   /* of an outside tag or value that a message quotes */
};

static void cleanup_pkey(EVP_PKEY **key) {
  EVP_PKEY_free(*key);
}

static const char *record_algorithm_text(enum key_algorithm algorithm) {
  return algorithm == KEY_ALGORITHM_RSA ? "rsa" : algorithm == KEY_ALGORITHM_ED25519 ? "ed25519" : NULL;
}

/* An RSA key as SubjectPublicKeyInfo that fills its octets to the end; NULL: it is something else. */
static EVP_PKEY *record_read_rsa_info(const uint8_t *octets, size_t size) {
  const unsigned char *position = octets;
  EVP_PKEY *key = d2i_PUBKEY(NULL, &position, (long)size);
  if (key && position == octets + size && EVP_PKEY_is_a(key, "RSA")) return key;
  ERR_clear_error();
  EVP_PKEY_free(key);
  return NULL;
}

/* The same for a bare RSAPublicKey, which RFC 6376 3.6.1 names and some publish. */
static EVP_PKEY *record_read_rsa_bare(const uint8_t *octets, size_t size) {
  const unsigned char *position = octets;
  EVP_PKEY *key = d2i_PublicKey(EVP_PKEY_RSA, NULL, &position, (long)size);
  if (key && position == octets + size) return key;
  ERR_clear_error();
  EVP_PKEY_free(key);
  return NULL;
}

static int record_check_public_key(enum key_algorithm algorithm, const uint8_t *octets, size_t size,
                                   struct error *error) {
  if (algorithm == KEY_ALGORITHM_ED25519) {
    if (size == RECORD_ED25519_SIZE) return 0;
    return error_set(error, ERROR_INVALID, "an Ed25519 public key has 32 octets, this one has %zu", size);
  }
  CLEANUP(cleanup_pkey) EVP_PKEY *key = size <= RECORD_TEXT_MAX ? record_read_rsa_info(octets, size) : NULL;
  if (!key) return error_set(error, ERROR_INVALID, "the public key is not a SubjectPublicKeyInfo of an RSA key");
  return 0;
}

/* Text before the base64 of p=, or the whole record of a revoked key. */
static int record_start(struct buffer *text, enum key_algorithm algorithm, struct error *error) {
  const char *name = record_algorithm_text(algorithm);
  if (!name) return error_set(error, ERROR_INVALID, "a record cannot be built for the unknown algorithm %d", algorithm);
  buffer_format(text, "v=DKIM1; k=%s; p=", name);
  return 0;
}

static int record_finish(struct buffer *text, char **ret_text, struct error *error) {
  char *finished = buffer_take_text(text);
  if (!finished) return error_set(error, ERROR_NO_MEMORY, "out of memory while a key record was built");
  *ret_text = finished;
  return 0;
}

int record_build(enum key_algorithm algorithm, const uint8_t *public_key, size_t public_key_size, char **ret_text,
                 struct error *error) {
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(RECORD_TEXT_MAX);
  int result = record_start(&text, algorithm, error);
  if (result < 0) return result;
  result = record_check_public_key(algorithm, public_key, public_key_size, error);
  if (result < 0) return result;
  if (public_key_size > RECORD_TEXT_MAX / 4 * 3 - RECORD_TAG_TEXT_MAX) {
    return error_set(error, ERROR_LIMIT, "a public key of %zu octets does not fit into a record of %d octets",
                     public_key_size, RECORD_TEXT_MAX);
  }
  unsigned char encoded[RECORD_TEXT_MAX];
  int encoded_size = EVP_EncodeBlock(encoded, public_key, (int)public_key_size);
  buffer_add(&text, encoded, (size_t)encoded_size);
  return record_finish(&text, ret_text, error);
}

int record_build_revoked(enum key_algorithm algorithm, char **ret_text, struct error *error) {
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(RECORD_TEXT_MAX);
  int result = record_start(&text, algorithm, error);
  if (result < 0) return result;
  return record_finish(&text, ret_text, error);
}

/* A piece of the record's text, not terminated. */
struct span {
  const char *text;
  size_t size;
};

struct record_tag {
  struct span name;
  struct span value;
};

struct record_tags {
  struct record_tag items[RECORD_TAGS_MAX];
  size_t count;
};

/* Folding white space (RFC 6376 2.8); a bare CR or LF counts too, as verifiers do it. */
static bool record_is_space(char octet) {
  return octet == ' ' || octet == '\t' || octet == '\r' || octet == '\n';
}

static bool record_is_letter(char octet) {
  return (octet >= 'a' && octet <= 'z') || (octet >= 'A' && octet <= 'Z');
}

static bool record_is_name_octet(char octet) {
  return record_is_letter(octet) || (octet >= '0' && octet <= '9') || octet == '_';
}

static struct span span_trim(struct span span) {
  while (span.size > 0 && record_is_space(span.text[0])) span = (struct span){span.text + 1, span.size - 1};
  while (span.size > 0 && record_is_space(span.text[span.size - 1])) span.size--;
  return span;
}

/* Cuts *rest at the first separator and returns what lay before it; *ret_found is false for the last piece. */
static struct span span_cut(struct span *rest, char separator, bool *ret_found) {
  const char *place = rest->size > 0 ? memchr(rest->text, separator, rest->size) : NULL;
  *ret_found = place != NULL;
  struct span piece = {rest->text, place ? (size_t)(place - rest->text) : rest->size};
  size_t used = piece.size + (place ? 1 : 0);
  *rest = (struct span){rest->text + used, rest->size - used};
  return piece;
}

static bool span_equal(struct span span, const char *text) {
  return span.size == strlen(text) && memcmp(span.text, text, span.size) == 0;
}

static bool span_same(struct span a, struct span b) {
  return a.size == b.size && memcmp(a.text, b.text, a.size) == 0;
}

static const char *span_printable(struct span span, char buffer[RECORD_TAG_TEXT_MAX]) {
  return text_printable(span.text, span.size, buffer, RECORD_TAG_TEXT_MAX);
}

static const struct record_tag *record_find_tag(const struct record_tags *tags, const char *name) {
  for (size_t i = 0; i < tags->count; i++) {
    if (span_equal(tags->items[i].name, name)) return &tags->items[i];
  }
  return NULL;
}

/* One "name = value" (tag-spec of RFC 6376 3.2). */
static int record_parse_tag(struct span spec, struct record_tags *tags, struct error *error) {
  char shown[RECORD_TAG_TEXT_MAX];
  bool found = false;
  struct span value = spec;
  struct span name = span_trim(span_cut(&value, '=', &found));
  value = span_trim(value);
  if (!found) return error_set(error, ERROR_INVALID, "\"%s\" is not a tag=value", span_printable(spec, shown));
  bool well_formed = name.size > 0 && record_is_letter(name.text[0]);
  for (size_t i = 0; i < name.size; i++) well_formed = well_formed && record_is_name_octet(name.text[i]);
  if (!well_formed)
    return error_set(error, ERROR_INVALID, "\"%s\" is not the name of a tag", span_printable(name, shown));
  for (size_t i = 0; i < value.size; i++) {
    bool allowed = record_is_space(value.text[i]) || (value.text[i] > ' ' && value.text[i] <= '~');
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
  if (tags->count == RECORD_TAGS_MAX) return error_set(error, ERROR_INVALID, "more than %d tags", RECORD_TAGS_MAX);
  tags->items[tags->count++] = (struct record_tag){name, value};
  return 0;
}

/* The tag-list of RFC 6376 3.2: one ";" may follow the last tag, none may be empty. */
static int record_parse_tags(const char *text, size_t size, struct record_tags *tags, struct error *error) {
  struct span rest = {text, size};
  bool more = true;
  while (more) {
    struct span spec = span_cut(&rest, ';', &more);
    if (span_trim(spec).size == 0) {
      if (!more && tags->count > 0) return 0;
      return error_set(error, ERROR_INVALID,
                       tags->count > 0 ? "there is nothing between two semicolons" : "it does not start with a tag");
    }
    int result = record_parse_tag(span_trim(spec), tags, error);
    if (result < 0) return result;
  }
  return 0;
}

/* Whether the colon-separated list of a tag names one of two words; an absent tag allows everything. */
static bool record_list_has(const struct record_tag *tag, const char *word, const char *or_word) {
  if (!tag) return true;
  struct span rest = tag->value;
  bool more = true;
  while (more) {
    struct span item = span_trim(span_cut(&rest, ':', &more));
    if (span_equal(item, word) || (or_word && span_equal(item, or_word))) return true;
  }
  return false;
}

/* The tags that limit what a record is for (RFC 6376 3.6.1). */
static int record_check_limits(const struct record_tags *tags, struct error *error) {
  char shown[RECORD_TAG_TEXT_MAX];
  const struct record_tag *version = record_find_tag(tags, "v");
  if (version && version != &tags->items[0]) return error_set(error, ERROR_INVALID, "v= is not the first tag");
  if (version && !span_equal(version->value, "DKIM1")) {
    return error_set(error, ERROR_INVALID, "v=%s is not v=DKIM1", span_printable(version->value, shown));
  }
  const struct record_tag *hashes = record_find_tag(tags, "h");
  if (!record_list_has(hashes, "sha256", NULL)) {
    return error_set(error, ERROR_INVALID, "h=%s does not allow sha256", span_printable(hashes->value, shown));
  }
  const struct record_tag *services = record_find_tag(tags, "s");
  if (!record_list_has(services, "email", "*")) {
    return error_set(error, ERROR_INVALID, "s=%s does not allow email", span_printable(services->value, shown));
  }
  return 0;
}

/* Base64 with its white space folded out (RFC 6376 3.2, base64string). Returns false unless it is exactly that. */
static bool record_decode(struct span value, uint8_t decoded[RECORD_TEXT_MAX], size_t *ret_size) {
  unsigned char packed[RECORD_TEXT_MAX + 1];
  size_t packed_size = 0;
  size_t padding = 0;
  for (size_t i = 0; i < value.size; i++) {
    char octet = value.text[i];
    if (record_is_space(octet)) continue;
    bool digit = record_is_letter(octet) || (octet >= '0' && octet <= '9') || octet == '+' || octet == '/';
    if (octet == '=')
      padding++;
    else if (!digit || padding > 0)
      return false;
    packed[packed_size++] = (unsigned char)octet;
  }
  if (packed_size % 4 != 0 || padding > 2) return false;
  int decoded_size = EVP_DecodeBlock(decoded, packed, (int)packed_size);
  if (decoded_size < (int)padding) return false;
  *ret_size = (size_t)decoded_size - padding;
  return true;
}

static int record_keep_octets(const uint8_t *octets, size_t size, struct record *record, struct error *error) {
  record->public_key = malloc(size > 0 ? size : 1);
  if (!record->public_key) return error_set(error, ERROR_NO_MEMORY, "out of memory while a key record was read");
  if (size > 0) memcpy(record->public_key, octets, size);
  record->public_key_size = size;
  return 0;
}

/* Takes both encodings of an RSA key and keeps it as SubjectPublicKeyInfo. */
static int record_keep_rsa(const uint8_t *octets, size_t size, struct record *record, struct error *error) {
  CLEANUP(cleanup_pkey) EVP_PKEY *key = record_read_rsa_info(octets, size);
  if (!key) key = record_read_rsa_bare(octets, size);
  if (!key) return error_set(error, ERROR_INVALID, "p= is not an RSA public key");
  int bits = EVP_PKEY_get_bits(key);
  if (bits < RECORD_RSA_BITS_MIN) {
    return error_set(error, ERROR_INVALID, "its RSA key has %d bits, and verifiers reject less than %d (RFC 8301 3.2)",
                     bits, RECORD_RSA_BITS_MIN);
  }
  unsigned char *encoded = NULL;
  int encoded_size = i2d_PUBKEY(key, &encoded);
  if (encoded_size <= 0) return error_set(error, ERROR_NO_MEMORY, "out of memory while a key record was read");
  int result = record_keep_octets(encoded, (size_t)encoded_size, record, error);
  OPENSSL_free(encoded);
  return result;
}

static int record_parse_public_key(const struct record_tags *tags, struct record *record, struct error *error) {
  const struct record_tag *tag = record_find_tag(tags, "p");
  if (!tag) return error_set(error, ERROR_INVALID, "there is no p=");
  record->revoked = tag->value.size == 0;
  if (record->revoked) return 0;
  uint8_t decoded[RECORD_TEXT_MAX];
  size_t size = 0;
  if (!record_decode(tag->value, decoded, &size)) return error_set(error, ERROR_INVALID, "p= is not base64");
  if (record->algorithm == KEY_ALGORITHM_RSA) return record_keep_rsa(decoded, size, record, error);
  if (record->algorithm == KEY_ALGORITHM_ED25519) {
    int result = record_check_public_key(record->algorithm, decoded, size, error);
    if (result < 0) return result;
  }
  return record_keep_octets(decoded, size, record, error);
}

static int record_read(const char *text, size_t size, struct record *record, struct error *error) {
  struct record_tags tags = {.count = 0};
  int result = record_parse_tags(text, size, &tags, error);
  if (result == 0) result = record_check_limits(&tags, error);
  if (result < 0) return result;
  const struct record_tag *kind = record_find_tag(&tags, "k");
  if (!kind || span_equal(kind->value, "rsa"))
    record->algorithm = KEY_ALGORITHM_RSA;
  else if (span_equal(kind->value, "ed25519"))
    record->algorithm = KEY_ALGORITHM_ED25519;
  const struct record_tag *flags = record_find_tag(&tags, "t");
  record->testing = flags && record_list_has(flags, "y", NULL);
  return record_parse_public_key(&tags, record, error);
}

int record_parse(const char *text, size_t size, struct record *ret_record, struct error *error) {
  if (size > RECORD_TEXT_MAX) {
    return error_set(error, ERROR_INVALID, "a key record of %zu octets is longer than %d", size, RECORD_TEXT_MAX);
  }
  struct record record = {0};
  int result = record_read(text, size, &record, error);
  if (result < 0) {
    error_context(error, "not a valid key record");
    return result;
  }
  *ret_record = record;
  return 0;
}

void record_release(struct record *record) {
  if (!record) return;
  free(record->public_key);
  *record = (struct record){0};
}

int record_to_rdata(const char *text, size_t size, uint8_t **ret_rdata, size_t *ret_size, struct error *error) {
  if (size > RECORD_TEXT_MAX) {
    return error_set(error, ERROR_LIMIT, "the content of a TXT record of %zu octets is longer than %d", size,
                     RECORD_TEXT_MAX);
  }
  /* RFC 1035 3.3.14: at least one character-string, be it empty. */
  size_t strings = size > 0 ? (size + RECORD_STRING_MAX - 1) / RECORD_STRING_MAX : 1;
  uint8_t *rdata = malloc(size + strings);
  if (!rdata) return error_set(error, ERROR_NO_MEMORY, "out of memory while a TXT record was built");
  uint8_t *place = rdata;
  for (size_t i = 0; i < strings; i++) {
    size_t left = size - i * RECORD_STRING_MAX;
    size_t length = left < RECORD_STRING_MAX ? left : RECORD_STRING_MAX;
    *place++ = (uint8_t)length;
    if (length > 0) memcpy(place, text + i * RECORD_STRING_MAX, length);
    place += length;
  }
  *ret_rdata = rdata;
  *ret_size = size + strings;
  return 0;
}

int record_from_rdata(const uint8_t *rdata, size_t rdata_size, char **ret_text, size_t *ret_size, struct error *error) {
  if (rdata_size == 0) return error_set(error, ERROR_INVALID, "a TXT record without any string");
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(rdata_size);
  struct reader reader = {.data = rdata, .size = rdata_size};
  while (reader.position < reader.size) {
    size_t length = reader_u8(&reader);
    const uint8_t *octets = reader_octets(&reader, length);
    if (!octets) return error_set(error, ERROR_INVALID, "the strings of a TXT record are longer than the record");
    buffer_add(&text, octets, length);
  }
  size_t size = text.size;
  int result = record_finish(&text, ret_text, error);
  if (result == 0) *ret_size = size;
  return result;
}
