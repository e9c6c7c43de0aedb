#include "dkim_signer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/sha.h>
#include <openssl/x509.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

enum { OCTETS_MAX = 1024 * 1024, ENCODED_MAX = 8192, FIELDS_MAX = 256 };

static char *take(struct buffer *buffer) {
  char *text = buffer_take_text(buffer);
  assert_non_null(text);
  return text;
}

static char *encode(const uint8_t *octets, size_t size) {
  char *text = calloc(1, ENCODED_MAX);
  assert_true(text && size < ENCODED_MAX / 4 * 3);
  EVP_EncodeBlock((unsigned char *)text, octets, (int)size);
  return text;
}

/* Replaces every pattern in text by another text. Caller frees. */
static char *replace(const char *text, const char *pattern, const char *by) {
  struct buffer output = BUFFER_WITH_MAXIMUM(OCTETS_MAX);
  for (const char *found; (found = strstr(text, pattern)); text = found + strlen(pattern)) {
    buffer_add(&output, text, (size_t)(found - text));
    buffer_add_text(&output, by);
  }
  buffer_add_text(&output, text);
  return take(&output);
}

static bool is_blank(char letter) {
  return letter == ' ' || letter == '\t';
}

/* Each run of blanks becomes one space; those at the end go. Caller frees. */
static char *squeeze(const char *text) {
  struct buffer output = BUFFER_WITH_MAXIMUM(OCTETS_MAX);
  for (const char *p = text; *p; p++) {
    const char *behind = p + strspn(p, " \t");
    if (!is_blank(*p))
      buffer_add(&output, p, 1);
    else if (*behind && (p == text || !is_blank(p[-1])))
      buffer_add(&output, " ", 1);
  }
  buffer_add(&output, "", 0);
  return take(&output);
}

static char *relax_field(const char *field) {
  CLEANUP_FREE char *unfolded = replace(field, "\r\n", "");
  CLEANUP_FREE char *squeezed = squeeze(unfolded);
  char *colon = strchr(squeezed, ':');
  assert_non_null(colon);
  const char *value = colon + 1;
  value += strspn(value, " ");
  while (colon > squeezed && colon[-1] == ' ') colon--;
  *colon = '\0';
  for (char *p = squeezed; *p; p++) *p = (char)tolower(*p);
  return text_format("%s:%s", squeezed, value);
}

static char *canonical_field(const struct dkim_order *order, const char *field) {
  return order->relaxed_header ? relax_field(field) : text_duplicate(field);
}

static char *relax_body(const char *body) {
  struct buffer output = BUFFER_WITH_MAXIMUM(OCTETS_MAX);
  while (*body) {
    const char *end = strstr(body, "\r\n");
    CLEANUP_FREE char *line = strndup(body, end ? (size_t)(end - body) : strlen(body));
    CLEANUP_FREE char *squeezed = squeeze(line);
    buffer_format(&output, "%s%s", squeezed, end ? "\r\n" : "");
    body = end ? end + 2 : body + strlen(body);
  }
  buffer_add(&output, "", 0);
  return take(&output);
}

static char *canonical_body(const struct dkim_order *order, const char *body) {
  CLEANUP_FREE char *text = order->relaxed_body ? relax_body(body) : text_duplicate(body);
  size_t size = strlen(text);
  while (size >= 2 && memcmp(text + size - 2, "\r\n", 2) == 0) size -= 2;
  text[size] = '\0';
  return text_format("%s%s", text, size > 0 || !order->relaxed_body ? "\r\n" : "");
}

static char *body_hash(const struct dkim_order *order, const char *body) {
  CLEANUP_FREE char *canonical = canonical_body(order, body);
  uint8_t digest[SHA256_DIGEST_LENGTH];
  SHA256((const unsigned char *)canonical, strlen(canonical), digest);
  return encode(digest, sizeof(digest));
}

static bool is_named(const char *field, const char *name, size_t size) {
  return strncasecmp(field, name, size) == 0 && field[size + strspn(field + size, " \t")] == ':';
}

static void add_named(const struct dkim_order *order, const char *const *fields, size_t count, struct buffer *output) {
  bool used[FIELDS_MAX] = {false};
  const char *name = order->names;
  assert_true(count <= FIELDS_MAX);
  while (*name) {
    name += strspn(name, " \t\r\n:");
    const size_t size = strcspn(name, " \t\r\n:");
    for (size_t i = count; size > 0 && i-- > 0;) {
      if (used[i] || !is_named(fields[i], name, size)) continue;
      CLEANUP_FREE char *canonical = canonical_field(order, fields[i]);
      buffer_format(output, "%s\r\n", canonical);
      used[i] = true;
      break;
    }
    name += size;
  }
}

static char *make_value(EVP_PKEY *key, const struct buffer *content) {
  const bool ed25519 = EVP_PKEY_is_a(key, "ED25519");
  uint8_t digest[SHA256_DIGEST_LENGTH], value[1024];
  size_t size = sizeof(value);
  SHA256(content->data, content->size, digest);
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  assert_int_equal(EVP_DigestSignInit(context, NULL, ed25519 ? NULL : EVP_sha256(), NULL, key), 1);
  const uint8_t *octets = ed25519 ? digest : content->data;
  assert_int_equal(EVP_DigestSign(context, value, &size, octets, ed25519 ? sizeof(digest) : content->size), 1);
  EVP_MD_CTX_free(context);
  return encode(value, size);
}

/* b= counts as empty, and so does the white space around its value (RFC 6376 3.5). Caller frees. */
static char *without_value(const char *field) {
  static const char blanks[] = " \t\r\n", word[] = "@B@";
  const char *start = strstr(field, word);
  if (!start) return text_duplicate(field);
  const char *end = start + strlen(word) + strspn(start + strlen(word), blanks);
  while (start > field && strchr(blanks, start[-1])) start--;
  return text_format("%.*s%s", (int)(start - field), field, end);
}

char *dkim_signer_sign(const struct dkim_order *order, const char *const *fields, size_t field_count,
                       const char *body) {
  CLEANUP(buffer_release) struct buffer content = BUFFER_WITH_MAXIMUM(OCTETS_MAX);
  CLEANUP_FREE char *hash = body_hash(order, body);
  CLEANUP_FREE char *hashed = replace(order->field, "@BH@", hash);
  CLEANUP_FREE char *unsigned_field = without_value(hashed);
  CLEANUP_FREE char *canonical = canonical_field(order, unsigned_field);
  add_named(order, fields, field_count, &content);
  buffer_add_text(&content, canonical);
  assert_false(content.failed);
  CLEANUP_FREE char *value = make_value(order->key, &content);
  return replace(hashed, "@B@", value);
}

char *dkim_signer_sign_plainly(EVP_PKEY *key, const char *domain, const char *selector, const char *const *fields,
                               size_t field_count, const char *body) {
  struct buffer names = BUFFER_WITH_MAXIMUM(OCTETS_MAX);
  for (size_t i = 0; i < field_count; i++)
    buffer_format(&names, "%s%.*s", i ? ":" : "", (int)strcspn(fields[i], ": \t"), fields[i]);
  CLEANUP_FREE char *list = take(&names);
  CLEANUP_FREE char *field =
      text_format("DKIM-Signature: v=1; a=%s; c=relaxed/simple;\r\n\td=%s; s=%s;\r\n\th=%s;\r\n\t"
                  "bh=@BH@;\r\n\tb=@B@",
                  EVP_PKEY_is_a(key, "ED25519") ? "ed25519-sha256" : "rsa-sha256", domain, selector, list);
  const struct dkim_order order = {.key = key, .relaxed_header = true, .names = list, .field = field};
  return dkim_signer_sign(&order, fields, field_count, body);
}

EVP_PKEY *dkim_signer_key(bool ed25519, size_t number) {
  static EVP_PKEY *keys[2][DKIM_SIGNER_KEYS];
  EVP_PKEY **key = &keys[ed25519][number];
  if (!*key)
    *key = ed25519 ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519") : EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
  assert_non_null(*key);
  return *key;
}

char *dkim_signer_record(EVP_PKEY *key) {
  uint8_t octets[ENCODED_MAX / 2];
  size_t size = sizeof(octets);
  const bool ed25519 = EVP_PKEY_is_a(key, "ED25519");
  if (ed25519) {
    assert_int_equal(EVP_PKEY_get_raw_public_key(key, octets, &size), 1);
  } else {
    unsigned char *place = octets;
    assert_true(i2d_PUBKEY(key, NULL) < (int)sizeof(octets));
    size = (size_t)i2d_PUBKEY(key, &place);
  }
  CLEANUP_FREE char *text = encode(octets, size);
  return text_format("v=DKIM1; k=%s; p=%s", ed25519 ? "ed25519" : "rsa", text);
}
