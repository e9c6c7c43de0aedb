#include "dkimroll/record.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/openssl_memory.h"
#include "dkimroll/tag_list.h"
#include "dkimroll/text.h"

enum {
  RECORD_ED25519_SIZE = 32,   /* RFC 8463 4.2 */
  RECORD_RSA_BITS_MIN = 1024, /* RFC 8301 3.2: verifiers must not accept less */
  RECORD_START_MAX = 64,      /* of what stands before the base64 of p= */
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
  /* By its name: EVP_PKEY_is_a looks the name up, and says "no" if memory runs out meanwhile. */
  if (key && position == octets + size && text_equal(EVP_PKEY_get0_type_name(key), "RSA")) return key;
  EVP_PKEY_free(key);
  return NULL;
}

/* The same for a bare RSAPublicKey, which RFC 6376 3.6.1 names and some publish. */
static EVP_PKEY *record_read_rsa_bare(const uint8_t *octets, size_t size) {
  const unsigned char *position = octets;
  EVP_PKEY *key = d2i_PublicKey(EVP_PKEY_RSA, NULL, &position, (long)size);
  if (key && position == octets + size) return key;
  EVP_PKEY_free(key);
  return NULL;
}

static int record_read_rsa(const uint8_t *octets, size_t size, bool bare_too, EVP_PKEY **ret_key, struct error *error) {
  bool lacked = false;
  for (int i = 0; i < OPENSSL_ATTEMPTS && !lacked; i++) {
    EVP_PKEY *key = record_read_rsa_info(octets, size);
    if (!key && bare_too) key = record_read_rsa_bare(octets, size);
    lacked = openssl_lacked_memory();
    if (!key) continue;
    *ret_key = key;
    return 0;
  }
  if (lacked) return error_set(error, ERROR_NO_MEMORY, "out of memory while a key record was read");
  return error_set(error, ERROR_INVALID, bare_too ? "p= is not an RSA public key" : "the public key is not a SubjectPublicKeyInfo of an RSA key");
}

static int record_check_public_key(enum key_algorithm algorithm, const uint8_t *octets, size_t size,
                                   struct error *error) {
  if (algorithm == KEY_ALGORITHM_ED25519) {
    if (size == RECORD_ED25519_SIZE) return 0;
    return error_set(error, ERROR_INVALID, "an Ed25519 public key has 32 octets, this one has %zu", size);
  }
  if (size > RECORD_TEXT_MAX) return error_set(error, ERROR_INVALID, "an RSA public key of more than %d octets", RECORD_TEXT_MAX);
  CLEANUP(cleanup_pkey) EVP_PKEY *key = NULL;
  return record_read_rsa(octets, size, false, &key, error);
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
  if (public_key_size > RECORD_TEXT_MAX / 4 * 3 - RECORD_START_MAX) {
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

/* The tags that limit what a record is for (RFC 6376 3.6.1). */
static int record_check_limits(const struct tag_list *tags, struct error *error) {
  char shown[TAG_LIST_SHOWN_MAX];
  const struct tag *version = tag_list_find(tags, "v");
  if (version && version != &tags->items[0]) return error_set(error, ERROR_INVALID, "v= is not the first tag");
  if (version && !span_equal(version->value, "DKIM1")) {
    return error_set(error, ERROR_INVALID, "v=%s is not v=DKIM1", span_printable(version->value, shown));
  }
  const struct tag *hashes = tag_list_find(tags, "h");
  if (!tag_list_allows(hashes, "sha256")) {
    return error_set(error, ERROR_INVALID, "h=%s does not allow sha256", span_printable(hashes->value, shown));
  }
  const struct tag *services = tag_list_find(tags, "s");
  if (!tag_list_allows(services, "email") && !tag_list_allows(services, "*")) {
    return error_set(error, ERROR_INVALID, "s=%s does not allow email", span_printable(services->value, shown));
  }
  return 0;
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
  CLEANUP(cleanup_pkey) EVP_PKEY *key = NULL;
  const int result = record_read_rsa(octets, size, true, &key, error);
  if (result < 0) return result;
  int bits = EVP_PKEY_get_bits(key);
  if (bits < RECORD_RSA_BITS_MIN) {
    return error_set(error, ERROR_INVALID, "its RSA key has %d bits, and verifiers reject less than %d (RFC 8301 3.2)",
                     bits, RECORD_RSA_BITS_MIN);
  }
  unsigned char *encoded = NULL;
  int encoded_size = i2d_PUBKEY(key, &encoded);
  if (encoded_size <= 0) return error_set(error, ERROR_NO_MEMORY, "out of memory while a key record was read");
  const int kept = record_keep_octets(encoded, (size_t)encoded_size, record, error);
  OPENSSL_free(encoded);
  return kept;
}

static int record_parse_public_key(const struct tag_list *tags, struct record *record, struct error *error) {
  const struct tag *tag = tag_list_find(tags, "p");
  if (!tag) return error_set(error, ERROR_INVALID, "there is no p=");
  record->revoked = tag->value.size == 0;
  if (record->revoked) return 0;
  uint8_t decoded[RECORD_TEXT_MAX];
  size_t size = 0;
  if (!span_decode(tag->value, decoded, &size)) return error_set(error, ERROR_INVALID, "p= is not base64");
  if (record->algorithm == KEY_ALGORITHM_RSA) return record_keep_rsa(decoded, size, record, error);
  if (record->algorithm == KEY_ALGORITHM_ED25519) {
    int result = record_check_public_key(record->algorithm, decoded, size, error);
    if (result < 0) return result;
  }
  return record_keep_octets(decoded, size, record, error);
}

static int record_read(const char *text, size_t size, struct record *record, struct error *error) {
  struct tag_list tags;
  int result = tag_list_parse(text, size, &tags, error);
  if (result == 0) result = record_check_limits(&tags, error);
  if (result < 0) return result;
  const struct tag *kind = tag_list_find(&tags, "k");
  if (!kind || span_equal(kind->value, "rsa"))
    record->algorithm = KEY_ALGORITHM_RSA;
  else if (span_equal(kind->value, "ed25519"))
    record->algorithm = KEY_ALGORITHM_ED25519;
  const struct tag *flags = tag_list_find(&tags, "t");
  record->testing = flags && tag_list_allows(flags, "y");
  record->strict = flags && tag_list_allows(flags, "s");
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

int record_holds(const char *text, enum key_algorithm algorithm, const uint8_t *public_key, size_t public_key_size,
                 bool *ret_holds, struct error *error) {
  CLEANUP(record_release) struct record record = {0};
  struct error reason = {0};
  *ret_holds = false;
  const int result = text && public_key ? record_parse(text, strlen(text), &record, &reason) : ERROR_INVALID;
  if (result == ERROR_NO_MEMORY) {
    if (error) *error = reason;
    return result;
  }
  *ret_holds = result == 0 && record.algorithm == algorithm && !record.revoked && record.public_key_size == public_key_size &&
               memcmp(record.public_key, public_key, public_key_size) == 0;
  return 0;
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
