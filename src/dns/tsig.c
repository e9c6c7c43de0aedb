/* Signing and verifying of messages (RFC 8945). */
#include <inttypes.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/openssl_memory.h"
#include "dkimroll/text.h"
#include "dkimroll/tsig.h"
#include "dkimroll/tsig_wire.h"

enum {
  TYPE_TSIG = 250,
  CLASS_ANY = 255,
  SERVER_TIME_SIZE = 6, /* Other Data of BADTIME (RFC 8945 5.2.3) */
  MAC_SIZE_MIN = 10,    /* RFC 8945 5.2.2.1 */
  RECORD_MAX = 1024,    /* two names, a MAC and 26 octets of fields */
};
static const int64_t TIME_MAX = (INT64_C(1) << 48) - 1;

static void cleanup_mac(EVP_MAC **mac) {
  EVP_MAC_free(*mac);
}
static void cleanup_mac_context(EVP_MAC_CTX **context) {
  EVP_MAC_CTX_free(*context);
}
static void cleanup_buffer(struct buffer *buffer) {
  buffer_release(buffer);
}

static void add_u48(struct buffer *buffer, uint64_t value) {
  buffer_add_u16(buffer, (uint16_t)(value >> 32));
  buffer_add_u32(buffer, (uint32_t)value);
}

static void add_name(struct buffer *buffer, const struct tsig_name *name) {
  buffer_add(buffer, name->octets, name->size);
}

static void add_other(struct buffer *buffer, const struct tsig_record *record) {
  buffer_add_u16(buffer, record->error);
  buffer_add_u16(buffer, (uint16_t)record->other_size);
  buffer_add(buffer, record->other, record->other_size);
}

/* RFC 8945 4.3.3. */
static void add_variables(struct buffer *buffer, const struct tsig_record *record) {
  add_name(buffer, &record->name);
  buffer_add_u16(buffer, CLASS_ANY);
  buffer_add_u32(buffer, 0);
  add_name(buffer, &record->algorithm);
  add_u48(buffer, record->time_signed);
  buffer_add_u16(buffer, record->fudge);
  add_other(buffer, record);
}

/* RFC 8945 4.2. */
static void add_record(struct buffer *buffer, const struct tsig_record *record) {
  size_t rdata_size = record->algorithm.size + 16 + record->mac_size + record->other_size;
  add_name(buffer, &record->name);
  buffer_add_u16(buffer, TYPE_TSIG);
  buffer_add_u16(buffer, CLASS_ANY);
  buffer_add_u32(buffer, 0);
  buffer_add_u16(buffer, (uint16_t)rdata_size);
  add_name(buffer, &record->algorithm);
  add_u48(buffer, record->time_signed);
  buffer_add_u16(buffer, record->fudge);
  buffer_add_u16(buffer, (uint16_t)record->mac_size);
  buffer_add(buffer, record->mac, record->mac_size);
  buffer_add_u16(buffer, record->original_id);
  add_other(buffer, record);
}

/* A want of memory is no fault of the key, nor of the server. */
static int hash_fails(const struct tsig_hash *hash, const char *what, struct error *error) {
  if (openssl_lacked_memory()) return error_set(error, ERROR_NO_MEMORY, "TSIG: out of memory");
  error_set(error, ERROR_INTERNAL, "TSIG: OpenSSL %s HMAC with %s", what, hash->digest);
  error_remedy(error, "Start dkimroll again; if this stays, look at openssl.cnf, and at the default provider of OpenSSL.");
  return ERROR_INTERNAL;
}

static int start_mac(const struct tsig_key *key, EVP_MAC_CTX **ret_context, struct error *error) {
  const struct tsig_hash *hash = tsig_hash_find(key->algorithm);
  CLEANUP(cleanup_mac) EVP_MAC *mac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, NULL);
  CLEANUP(cleanup_mac_context) EVP_MAC_CTX *context = mac ? EVP_MAC_CTX_new(mac) : NULL;
  char digest[16];
  text_copy(digest, sizeof digest, hash->digest); /* OSSL_PARAM takes no const */
  const OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                   OSSL_PARAM_construct_end()};
  if (!context || EVP_MAC_init(context, key->secret, key->secret_size, parameters) != 1)
    return hash_fails(hash, "offers no", error);
  *ret_context = TAKE_PTR(context);
  return 0;
}

/* The MAC over request MAC (NULL: none), message without the TSIG RR, and variables (RFC 8945 4.3). message begins with the header as it
 * came, of which id and ARCOUNT are put back to what they were before signing. */
static int compute_mac(const struct tsig_key *key, const struct tsig_mac *request_mac, const uint8_t *message,
                       const struct tsig_record *record, struct tsig_mac *ret_mac, struct error *error) {
  CLEANUP(cleanup_mac_context) EVP_MAC_CTX *context = NULL;
  int code = start_mac(key, &context, error);
  if (code < 0) return code;
  CLEANUP(cleanup_buffer) struct buffer head = BUFFER_WITH_MAXIMUM(2 + TSIG_MAC_MAX + TSIG_WIRE_HEADER);
  if (request_mac) {
    buffer_add_u16(&head, (uint16_t)request_mac->size);
    buffer_add(&head, request_mac->octets, request_mac->size);
  }
  buffer_add_u16(&head, record->original_id);
  buffer_add(&head, message + 2, TSIG_WIRE_HEADER - 4); /* flags and the other three counts */
  buffer_add_u16(&head, record->other_records);
  CLEANUP(cleanup_buffer) struct buffer variables = BUFFER_WITH_MAXIMUM(RECORD_MAX + record->other_size);
  add_variables(&variables, record);
  if (head.failed || variables.failed) return error_set(error, ERROR_NO_MEMORY, "TSIG: out of memory");
  struct tsig_mac mac;
  if (EVP_MAC_update(context, head.data, head.size) != 1 ||
      EVP_MAC_update(context, message + TSIG_WIRE_HEADER, record->start - TSIG_WIRE_HEADER) != 1 ||
      EVP_MAC_update(context, variables.data, variables.size) != 1 ||
      EVP_MAC_final(context, mac.octets, &mac.size, sizeof mac.octets) != 1)
    return hash_fails(tsig_hash_find(key->algorithm), "failed to compute", error);
  *ret_mac = mac;
  return 0;
}

/* What every TSIG RR made with key says: its two names. */
static int name_key(const struct tsig_key *key, struct tsig_record *record, struct error *error) {
  const struct tsig_hash *hash = tsig_hash_find(key->algorithm);
  if (!hash || !key->secret_size || key->secret_size > TSIG_SECRET_MAX ||
      !tsig_name_from_text(key->name, &record->name))
    return error_set(error, ERROR_INVALID, "TSIG key without a valid name, algorithm or secret");
  if (!tsig_name_from_text(hash->name, &record->algorithm))
    return error_set(error, ERROR_INTERNAL, "TSIG: %s is not a domain name", hash->name);
  return 0;
}

int tsig_sign(const struct tsig_key *key, int64_t now, uint8_t *message, size_t *size, size_t capacity,
              struct tsig_mac *ret_mac, struct error *error) {
  struct tsig_record record;
  if (tsig_record_find(message, *size, &record, NULL) < 0)
    return error_set(error, ERROR_INVALID, "the message to be signed is malformed");
  if (record.present) return error_set(error, ERROR_INVALID, "the message to be signed has a TSIG record already");
  if (now < 0 || now > TIME_MAX)
    return error_set(error, ERROR_INVALID, "the time %" PRId64 " does not fit a TSIG record", now);
  if (record.other_records == UINT16_MAX)
    return error_set(error, ERROR_LIMIT, "the additional section has no room for a TSIG record");
  int code = name_key(key, &record, error);
  if (code < 0) return code;
  record.time_signed = (uint64_t)now;
  record.fudge = TSIG_FUDGE;
  record.original_id = (uint16_t)(message[0] << 8 | message[1]);
  struct tsig_mac mac;
  code = compute_mac(key, NULL, message, &record, &mac, error);
  if (code < 0) return code;
  record.mac = mac.octets;
  record.mac_size = mac.size;

  CLEANUP(cleanup_buffer) struct buffer rr = BUFFER_WITH_MAXIMUM(RECORD_MAX);
  add_record(&rr, &record);
  if (rr.failed) return error_set(error, ERROR_NO_MEMORY, "TSIG: out of memory");
  size_t limit = capacity < TSIG_WIRE_MESSAGE_MAX ? capacity : TSIG_WIRE_MESSAGE_MAX;
  if (*size > limit || rr.size > limit - *size)
    return error_set(error, ERROR_LIMIT, "no room for a TSIG record of %zu octets behind a message of %zu in %zu",
                     rr.size, *size, limit);
  memcpy(message + *size, rr.data, rr.size);
  *size += rr.size;
  uint16_t additional = (uint16_t)(record.other_records + 1);
  message[10] = (uint8_t)(additional >> 8);
  message[11] = (uint8_t)additional;
  *ret_mac = mac;
  return 0;
}

/* RFC 8945 5.2.2.1: longer than the digest, or shorter than ten octets or half of it, is a format error; an error message has none at all. */
static int check_mac_size(const struct tsig_record *record, size_t whole, struct error *error) {
  size_t least = whole / 2 > MAC_SIZE_MIN ? whole / 2 : MAC_SIZE_MIN;
  if (record->mac_size == 0 || (record->mac_size >= least && record->mac_size <= whole)) return 0;
  return error_set(error, ERROR_PROTOCOL, "malformed TSIG record: a MAC of %zu octets where %zu are right",
                   record->mac_size, whole);
}

static bool within_fudge(const struct tsig_record *record, int64_t now) {
  int64_t signed_at = (int64_t)record->time_signed;
  return now >= signed_at - record->fudge && now <= signed_at + record->fudge;
}

/* The order is that of RFC 8945 5.2: key, MAC, time. */
static int check_record(const struct tsig_key *key, const struct tsig_mac *request_mac, int64_t now,
                        const uint8_t *message, const struct tsig_record *record, enum tsig_error *ret_verdict,
                        struct error *error) {
  struct tsig_record ours;
  int code = name_key(key, &ours, error);
  if (code < 0) return code;
  if (!tsig_name_equal(&record->name, &ours.name) || !tsig_name_equal(&record->algorithm, &ours.algorithm)) {
    *ret_verdict = TSIG_BADKEY;
    return 0;
  }
  size_t whole = tsig_hash_find(key->algorithm)->size;
  code = check_mac_size(record, whole, error);
  if (code < 0) return code;
  if (record->mac_size < whole) { /* no policy of ours accepts less than the whole (RFC 8945 5.2.4) */
    *ret_verdict = record->mac_size ? TSIG_BADTRUNC : TSIG_BADSIG;
    return 0;
  }
  struct tsig_mac mac;
  code = compute_mac(key, request_mac, message, record, &mac, error);
  if (code < 0) return code;
  bool right = CRYPTO_memcmp(mac.octets, record->mac, whole) == 0;
  OPENSSL_cleanse(&mac, sizeof mac); /* of a forged message it is the signature that the forger lacks */
  if (!right)
    *ret_verdict = TSIG_BADSIG;
  else if (record->error != TSIG_BADTIME && !within_fudge(record, now))
    *ret_verdict = TSIG_BADTIME;
  else
    *ret_verdict = TSIG_NOERROR;
  return 0;
}

static int64_t server_time(const struct tsig_record *record) {
  if (record->error != TSIG_BADTIME || record->other_size != SERVER_TIME_SIZE) return 0;
  int64_t moment = 0;
  for (size_t i = 0; i < SERVER_TIME_SIZE; i++) moment = moment << 8 | record->other[i];
  return moment;
}

int tsig_verify(const struct tsig_key *key, const struct tsig_mac *request_mac, int64_t now, const uint8_t *message,
                size_t size, struct tsig_answer *ret_answer, struct error *error) {
  struct tsig_record record;
  int code = tsig_record_find(message, size, &record, error);
  if (code < 0) return code;
  struct tsig_answer answer = {.present = record.present, .verdict = TSIG_BADSIG};
  if (record.present) {
    enum tsig_error verdict = TSIG_BADSIG;
    code = check_record(key, request_mac, now, message, &record, &verdict, error);
    if (code < 0) return code;
    answer.verdict = verdict;
    answer.verified = verdict == TSIG_NOERROR;
    answer.error = record.error;
    answer.time_signed = (int64_t)record.time_signed;
    answer.server_time = server_time(&record);
  }
  *ret_answer = answer;
  return 0;
}
