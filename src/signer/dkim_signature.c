#include "dkimroll/dkim_signature.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/dkim_canon.h"
#include "dkimroll/openssl_memory.h"
#include "dkimroll/text.h"

enum { DKIM_NUMBER_DIGITS_MAX = 12 /* of t= and x= (RFC 6376 3.5) */ };

/* A signature field, read. Spans point into it. */
struct signature {
  struct span field;
  struct tag_list tags;
  enum key_algorithm algorithm;
  enum dkim_canon header_canon, body_canon;
  uint8_t value[DKIM_SIGNATURE_MAX]; /* b= */
  size_t value_size;
  uint8_t body_hash[DKIM_SIGNATURE_MAX]; /* bh= */
  size_t body_hash_size;
};

static void cleanup_pkey(EVP_PKEY **key) {
  EVP_PKEY_free(*key);
}

static void cleanup_pkey_context(EVP_PKEY_CTX **context) {
  EVP_PKEY_CTX_free(*context);
}

static void cleanup_digest_context(EVP_MD_CTX **context) {
  EVP_MD_CTX_free(*context);
}

static enum dkim_verdict fail_memory(struct error *error) {
  ERR_clear_error();
  error_set(error, ERROR_NO_MEMORY, "out of memory while a signature was verified");
  return DKIM_FAILED;
}

/* The value of a tag; empty if there is none. */
static struct span value_of(const struct signature *signature, const char *name) {
  const struct tag *tag = tag_list_find(&signature->tags, name);
  return tag ? tag->value : (struct span){"", 0};
}

static bool has_space(struct span value) {
  for (size_t i = 0; i < value.size; i++)
    if (span_is_space(value.text[i])) return true;
  return false;
}

static bool same_nocase(struct span a, struct span b) {
  if (a.size != b.size) return false;
  for (size_t i = 0; i < a.size; i++) {
    const char left = a.text[i], right = b.text[i];
    const bool letter = (left >= 'a' && left <= 'z') || (left >= 'A' && left <= 'Z');
    if (left != right && !(letter && (left ^ right) == 'a' - 'A')) return false;
  }
  return true;
}

/* ---- the signature alone ---- */

static enum dkim_verdict read_version(struct signature *signature, struct error *error) {
  static const char *const required[] = {"v", "a", "b", "bh", "d", "h", "s"};
  char shown[TAG_LIST_SHOWN_MAX];
  for (size_t i = 0; i < ARRAY_SIZE(required); i++) {
    if (value_of(signature, required[i]).size > 0) continue;
    error_set(error, ERROR_PROOF, "%s= is missing or empty", required[i]);
    return DKIM_MALFORMED;
  }
  if (span_equal(value_of(signature, "v"), "1")) return DKIM_VALID;
  error_set(error, ERROR_PROOF, "v=%s is not v=1", span_printable(value_of(signature, "v"), shown));
  return DKIM_UNKNOWN;
}

static enum dkim_verdict read_algorithm(struct signature *signature, struct error *error) {
  const struct span value = value_of(signature, "a");
  char shown[TAG_LIST_SHOWN_MAX];
  if (span_equal(value, "rsa-sha256"))
    signature->algorithm = KEY_ALGORITHM_RSA;
  else if (span_equal(value, "ed25519-sha256"))
    signature->algorithm = KEY_ALGORITHM_ED25519;
  if (signature->algorithm) return DKIM_VALID;
  if (span_equal(value, "rsa-sha1")) {
    error_set(error, ERROR_PROOF, "a=rsa-sha1, which verifiers must not accept (RFC 8301 3.1)");
    return DKIM_WEAK;
  }
  error_set(error, ERROR_PROOF, "a=%s is neither rsa-sha256 nor ed25519-sha256", span_printable(value, shown));
  return DKIM_UNKNOWN;
}

static bool read_canon_word(struct span word, enum dkim_canon *ret_canon) {
  const bool relaxed = span_equal(word, "relaxed");
  if (relaxed) *ret_canon = DKIM_RELAXED;
  return relaxed || span_equal(word, "simple");
}

/* "header/body"; simple is what is not said (RFC 6376 3.5). */
static enum dkim_verdict read_canon(struct signature *signature, struct error *error) {
  const struct tag *tag = tag_list_find(&signature->tags, "c");
  char shown[TAG_LIST_SHOWN_MAX];
  bool two = false;
  if (!tag) return DKIM_VALID;
  struct span body = tag->value;
  const struct span header = span_cut(&body, '/', &two);
  if (read_canon_word(header, &signature->header_canon) && (!two || read_canon_word(body, &signature->body_canon)))
    return DKIM_VALID;
  error_set(error, ERROR_PROOF, "c=%s is not made of simple and relaxed", span_printable(tag->value, shown));
  return DKIM_UNKNOWN;
}

static enum dkim_verdict read_values(struct signature *signature, struct error *error) {
  if (!span_decode(value_of(signature, "b"), signature->value, &signature->value_size) ||
      !span_decode(value_of(signature, "bh"), signature->body_hash, &signature->body_hash_size)) {
    error_set(error, ERROR_PROOF, "b= or bh= is not base64");
    return DKIM_MALFORMED;
  }
  if (has_space(value_of(signature, "d")) || has_space(value_of(signature, "s"))) {
    error_set(error, ERROR_PROOF, "d= or s= has white space inside");
    return DKIM_MALFORMED;
  }
  const struct tag *queries = tag_list_find(&signature->tags, "q");
  if (tag_list_allows(queries, "dns/txt")) return DKIM_VALID;
  error_set(error, ERROR_PROOF, "q= does not name dns/txt");
  return DKIM_UNKNOWN;
}

/* h= names header fields, among them From (RFC 6376 5.4). */
static enum dkim_verdict check_names(const struct signature *signature, struct error *error) {
  struct span rest = value_of(signature, "h");
  size_t count = 0;
  bool more = true, from = false, empty = false;
  while (more) {
    const struct span name = span_trim(span_cut(&rest, ':', &more));
    from |= same_nocase(name, (struct span){"from", strlen("from")});
    empty |= name.size == 0 || has_space(name);
    count++;
  }
  if (count > DKIM_FIELDS_MAX)
    error_set(error, ERROR_PROOF, "h= names more than %d header fields", DKIM_FIELDS_MAX);
  else if (empty)
    error_set(error, ERROR_PROOF, "h= is not a list of header fields");
  else if (!from)
    error_set(error, ERROR_PROOF, "h= does not name From (RFC 6376 5.4)");
  return count <= DKIM_FIELDS_MAX && !empty && from ? DKIM_VALID : DKIM_MALFORMED;
}

/* i= must be d= or a subdomain of it; a record with t=s allows only d= (RFC 6376 3.5, 3.6.1). */
static enum dkim_verdict check_identity(const struct signature *signature, bool strict, struct error *error) {
  const struct tag *tag = tag_list_find(&signature->tags, "i");
  const struct span domain = value_of(signature, "d");
  char shown[TAG_LIST_SHOWN_MAX], shown_domain[TAG_LIST_SHOWN_MAX];
  if (!tag) return DKIM_VALID;
  const char *at = memrchr(tag->value.text, '@', tag->value.size);
  if (at) {
    struct span host = {at + 1, tag->value.size - (size_t)(at + 1 - tag->value.text)};
    const bool below = !strict && host.size > domain.size && host.text[host.size - domain.size - 1] == '.';
    if (below) host = (struct span){host.text + host.size - domain.size, domain.size};
    if (same_nocase(host, domain)) return DKIM_VALID;
  }
  error_set(error, ERROR_PROOF, "i=%s is not within d=%s%s", span_printable(tag->value, shown),
            span_printable(domain, shown_domain), strict ? " itself, which t=s of the record demands" : "");
  return DKIM_IDENTITY;
}

/* false: not a number of seconds. Absent: -1. */
static bool read_seconds(const struct signature *signature, const char *name, int64_t *ret_seconds) {
  const struct tag *tag = tag_list_find(&signature->tags, name);
  *ret_seconds = tag ? 0 : -1;
  if (!tag) return true;
  for (size_t i = 0; i < tag->value.size; i++) {
    const char digit = tag->value.text[i];
    if (digit < '0' || digit > '9') return false;
    *ret_seconds = *ret_seconds * 10 + (digit - '0');
    if (i == DKIM_NUMBER_DIGITS_MAX) return false;
  }
  return tag->value.size > 0;
}

static enum dkim_verdict check_times(const struct signature *signature, int64_t now, struct error *error) {
  int64_t made = -1, expires = -1;
  if (!read_seconds(signature, "t", &made) || !read_seconds(signature, "x", &expires)) {
    error_set(error, ERROR_PROOF, "t= or x= is not a number of seconds");
    return DKIM_MALFORMED;
  }
  if (made >= 0 && expires >= 0 && expires <= made) {
    error_set(error, ERROR_PROOF, "x= is not later than t=, so the signature is never valid");
    return DKIM_MALFORMED;
  }
  if (expires >= 0 && expires < now)
    error_set(error, ERROR_PROOF, "it has expired %lld seconds ago (x=)", (long long)(now - expires));
  else if (made > now + DKIM_CLOCK_SKEW_SECONDS)
    error_set(error, ERROR_PROOF, "it was made %lld seconds in the future (t=)", (long long)(made - now));
  else
    return DKIM_VALID;
  return DKIM_EXPIRED;
}

static enum dkim_verdict check_whole_body(const struct signature *signature, struct error *error) {
  if (!tag_list_find(&signature->tags, "l")) return DKIM_VALID;
  error_set(error, ERROR_PROOF, "l= leaves the end of the body unsigned, so anybody may add to the message");
  return DKIM_PARTIAL;
}

static enum dkim_verdict read_tags(struct signature *signature, struct error *error) {
  bool found = false;
  struct span list = signature->field;
  if (signature->field.size > DKIM_SIGNATURE_MAX) {
    error_set(error, ERROR_PROOF, "it is longer than %d octets", DKIM_SIGNATURE_MAX);
    return DKIM_MALFORMED;
  }
  (void)span_cut(&list, ':', &found);
  if (found && tag_list_parse(list.text, list.size, &signature->tags, error) == 0) return DKIM_VALID;
  if (!found) error_set(error, ERROR_PROOF, "it is not a header field");
  if (error) error->code = ERROR_PROOF;
  return DKIM_MALFORMED;
}

static enum dkim_verdict read_signature(struct signature *signature, int64_t now, struct error *error) {
  enum dkim_verdict verdict = read_tags(signature, error);
  if (!verdict) verdict = read_version(signature, error);
  if (!verdict) verdict = read_algorithm(signature, error);
  if (!verdict) verdict = read_canon(signature, error);
  if (!verdict) verdict = read_values(signature, error);
  if (!verdict) verdict = check_names(signature, error);
  if (!verdict) verdict = check_identity(signature, false, error);
  if (!verdict) verdict = check_whole_body(signature, error);
  if (!verdict) verdict = check_times(signature, now, error);
  return verdict;
}

/* ---- the key ---- */

static enum dkim_verdict read_record(const struct signature *signature, struct span text, struct record *record,
                                     struct error *error) {
  if (record_parse(text.text, text.size, record, error) < 0) {
    if (error && error->code == ERROR_NO_MEMORY) return DKIM_FAILED;
    if (error) error->code = ERROR_PROOF;
    return DKIM_RECORD_INVALID;
  }
  if (record->revoked) {
    error_set(error, ERROR_PROOF, "the key record is revoked (empty p=)");
    return DKIM_RECORD_REVOKED;
  }
  if (record->algorithm != signature->algorithm) {
    error_set(error, ERROR_PROOF, "a=%s does not fit the key record, which %s",
              signature->algorithm == KEY_ALGORITHM_RSA ? "rsa-sha256" : "ed25519-sha256",
              record->algorithm == KEY_ALGORITHM_RSA       ? "holds an RSA key"
              : record->algorithm == KEY_ALGORITHM_ED25519 ? "holds an Ed25519 key"
                                                           : "has an unknown k=");
    return DKIM_RECORD_UNFIT;
  }
  return check_identity(signature, record->strict, error);
}

static EVP_PKEY *make_key(const struct record *record) {
  const unsigned char *place = record->public_key;
  if (record->algorithm == KEY_ALGORITHM_RSA) return d2i_PUBKEY(NULL, &place, (long)record->public_key_size);
  return EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, record->public_key, record->public_key_size);
}

/* ---- the hashes ---- */

static enum dkim_verdict hash(const struct buffer *content, uint8_t digest[SHA256_DIGEST_LENGTH], struct error *error) {
  if (content->failed) {
    if (content->no_memory)
      error_set(error, ERROR_NO_MEMORY, "out of memory while the signature was checked");
    else
      error_set(error, ERROR_LIMIT, "the message has more than %d octets", DKIM_CONTENT_MAX);
    return DKIM_FAILED;
  }
  return EVP_Digest(content->data, content->size, digest, NULL, EVP_sha256(), NULL) == 1 ? DKIM_VALID
                                                                                         : fail_memory(error);
}

static enum dkim_verdict check_body(const struct signature *signature, const struct dkim_message *message,
                                    struct error *error) {
  CLEANUP(buffer_release) struct buffer content = BUFFER_WITH_MAXIMUM(DKIM_CONTENT_MAX);
  uint8_t digest[SHA256_DIGEST_LENGTH];
  dkim_canon_body(signature->body_canon, message->body, &content);
  const enum dkim_verdict verdict = hash(&content, digest, error);
  if (verdict) return verdict;
  if (signature->body_hash_size == sizeof(digest) && memcmp(signature->body_hash, digest, sizeof(digest)) == 0)
    return DKIM_VALID;
  error_set(error, ERROR_PROOF, "the body hash (bh=) is of another body");
  return DKIM_BODY_DIFFERS;
}

/* The last field of that name which is not taken yet: fields of one name are signed from the bottom up (RFC 6376 5.4.2).
 * field_count: there is none, and nothing is hashed. */
static size_t choose_field(const struct dkim_message *message, struct span name, const bool *taken) {
  for (size_t i = message->field_count; i > 0; i--)
    if (!taken[i - 1] && same_nocase(dkim_field_name(message->fields[i - 1]), name)) return i - 1;
  return message->field_count;
}

/* The signature itself comes last, with nothing behind b= and without a line end (RFC 6376 3.7). */
static void add_own_field(const struct signature *signature, struct buffer *content) {
  struct buffer own = BUFFER_WITH_MAXIMUM(DKIM_SIGNATURE_MAX);
  const struct span field = signature->field;
  const struct tag *tag = tag_list_find(&signature->tags, "b");
  if (!tag) return;
  const char *start = tag->value.text, *end = tag->value.text + tag->value.size;
  while (start[-1] != '=') start--;
  while (end < field.text + field.size && *end != ';') end++;
  buffer_add(&own, field.text, (size_t)(start - field.text));
  buffer_add(&own, end, (size_t)(field.text + field.size - end));
  dkim_canon_field(signature->header_canon, (struct span){(const char *)own.data, own.size}, content);
  buffer_fail(content, &own);
  buffer_release(&own);
}

static enum dkim_verdict hash_header(const struct signature *signature, const struct dkim_message *message,
                                     uint8_t digest[SHA256_DIGEST_LENGTH], struct error *error) {
  CLEANUP(buffer_release) struct buffer content = BUFFER_WITH_MAXIMUM(DKIM_CONTENT_MAX);
  bool taken[DKIM_FIELDS_MAX] = {false};
  struct span rest = value_of(signature, "h");
  bool more = true;
  while (more) {
    const size_t chosen = choose_field(message, span_trim(span_cut(&rest, ':', &more)), taken);
    if (chosen == message->field_count) continue;
    taken[chosen] = true;
    dkim_canon_field(signature->header_canon, message->fields[chosen], &content);
    buffer_add_text(&content, "\r\n");
  }
  add_own_field(signature, &content);
  return hash(&content, digest, error);
}

/* ---- the signature's value ---- */

/* RFC 8463 3: Ed25519 signs the SHA-256 of the header. */
static enum dkim_verdict check_ed25519(const struct signature *signature, EVP_PKEY *key, const uint8_t *digest,
                                       struct error *error) {
  CLEANUP(cleanup_digest_context) EVP_MD_CTX *context = EVP_MD_CTX_new();
  if (!context || EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) != 1) return fail_memory(error);
  if (EVP_DigestVerify(context, signature->value, signature->value_size, digest, SHA256_DIGEST_LENGTH) == 1)
    return DKIM_VALID;
  if (openssl_lacked_memory()) return fail_memory(error);
  error_set(error, ERROR_PROOF, "it does not verify with the key of the record");
  return DKIM_OTHER_KEY;
}

/* RSA gives back what was signed: if that is a SHA-256, the key fits, and what differs is the header. */
static enum dkim_verdict check_rsa(const struct signature *signature, EVP_PKEY *key, const uint8_t *digest,
                                   struct error *error) {
  CLEANUP(cleanup_pkey_context) EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key, NULL);
  uint8_t recovered[RECORD_TEXT_MAX];
  size_t size = sizeof(recovered);
  if (!context || EVP_PKEY_verify_recover_init(context) != 1 ||
      EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) != 1 ||
      EVP_PKEY_CTX_set_signature_md(context, EVP_sha256()) != 1)
    return fail_memory(error);
  if (EVP_PKEY_verify_recover(context, recovered, &size, signature->value, signature->value_size) != 1) {
    if (openssl_lacked_memory()) return fail_memory(error);
    error_set(error, ERROR_PROOF, "it does not verify with the key of the record");
    return DKIM_OTHER_KEY;
  }
  if (size == SHA256_DIGEST_LENGTH && memcmp(recovered, digest, size) == 0) return DKIM_VALID;
  error_set(error, ERROR_PROOF, "it was made with the key of the record, but for other header fields");
  return DKIM_HEADER_DIFFERS;
}

static enum dkim_verdict check_value(const struct signature *signature, const struct dkim_message *message,
                                     const struct record *record, struct error *error) {
  CLEANUP(cleanup_pkey) EVP_PKEY *key = make_key(record);
  uint8_t digest[SHA256_DIGEST_LENGTH];
  if (!key) {
    if (openssl_lacked_memory()) return fail_memory(error);
    error_set(error, ERROR_PROOF, "p= of the key record is not a public key");
    return DKIM_RECORD_INVALID;
  }
  const enum dkim_verdict verdict = hash_header(signature, message, digest, error);
  if (verdict) return verdict;
  return record->algorithm == KEY_ALGORITHM_RSA ? check_rsa(signature, key, digest, error)
                                                : check_ed25519(signature, key, digest, error);
}

static enum dkim_verdict verify_once(const struct dkim_message *message, struct span signature, struct span record,
                                     int64_t now, struct error *error) {
  struct signature read = {.field = signature};
  CLEANUP(record_release) struct record parsed = {0};
  enum dkim_verdict verdict = read_signature(&read, now, error);
  if (!verdict) verdict = read_record(&read, record, &parsed, error);
  if (!verdict) verdict = check_body(&read, message, error);
  if (!verdict) verdict = check_value(&read, message, &parsed, error);
  return verdict;
}

enum dkim_verdict dkim_signature_verify(const struct dkim_message *message, struct span signature, struct span record,
                                        int64_t now, struct error *ret_error) {
  if (message->field_count > DKIM_FIELDS_MAX) {
    error_set(ret_error, ERROR_LIMIT, "the message has more than %d header fields", DKIM_FIELDS_MAX);
    return DKIM_FAILED;
  }
  enum dkim_verdict verdict = verify_once(message, signature, record, now, ret_error);
  for (int i = 1; i < OPENSSL_ATTEMPTS && verdict != DKIM_VALID && verdict != DKIM_FAILED; i++)
    verdict = verify_once(message, signature, record, now, ret_error);
  return verdict;
}
