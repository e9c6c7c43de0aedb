/* Replies with a TSIG made by hand, field by field, for tests of what verifies and what does not. The MAC is put together here a second time,
 * over OpenSSL's one-shot HMAC. */
#ifndef DKIMROLL_TESTS_TSIG_REPLY_H
#define DKIMROLL_TESTS_TSIG_REPLY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "dkimroll/buffer.h"
#include "dkimroll/tsig.h"

#define SECRET "c2VjcmV0IG9mIDMyIG9jdGV0cyBmb3IgdGhlIHRlc3Q=" /* base64 of SECRET_PLAIN */
#define SECRET_PLAIN "secret of 32 octets for the test"

enum { NOW = 1800000000, ROOM = 2048 };

/* update.example.com. as the name of the key, on the wire. */
static const uint8_t key_name[] = "\6update\7example\3com";
static const uint8_t algorithm_name[] = "\13hmac-sha256";

/* A query for example.com TXT with id 0x1234; a reply has the flags QR and AA too. */
static const uint8_t query[] = "\x12\x34\0\0\0\1\0\0\0\0\0\0\7example\3com\0\0\20\0\1";
enum { QUERY_SIZE = sizeof query - 1, ID_SIZE = 2, FLAGS_OFFSET = 2, ARCOUNT_OFFSET = 10 };

static inline struct tsig_key test_key(enum tsig_algorithm algorithm) {
  struct tsig_key key = {.name = "update.example.com", .algorithm = algorithm, .secret_size = strlen(SECRET_PLAIN)};
  memcpy(key.secret, SECRET_PLAIN, key.secret_size);
  return key;
}

/* A signed query in message. */
static inline size_t sign_query(const struct tsig_key *key, int64_t now, uint8_t message[ROOM],
                                struct tsig_mac *ret_mac) {
  size_t size = QUERY_SIZE;
  memcpy(message, query, QUERY_SIZE);
  assert_int_equal(tsig_sign(key, now, message, &size, ROOM, ret_mac, NULL), 0);
  return size;
}

/* What the server of the tests puts into its TSIG. */
struct reply {
  uint64_t time_signed;
  unsigned fudge;
  unsigned error;
  const char *other; /* 6 octets or NULL */
  size_t mac_size;   /* octets of the MAC that are sent */
  const uint8_t *owner;
  size_t owner_size;
  const uint8_t *algorithm;
  size_t algorithm_size;
  unsigned class;
  unsigned ttl;
  size_t padding; /* octets behind the last field, within the record */
};

static inline struct reply usual_reply(void) {
  return (struct reply){.time_signed = NOW,
                        .fudge = 300,
                        .mac_size = 32,
                        .owner = key_name,
                        .owner_size = sizeof key_name,
                        .algorithm = algorithm_name,
                        .algorithm_size = sizeof algorithm_name,
                        .class = 255};
}

static inline void add_time(struct buffer *buffer, const struct reply *reply) {
  buffer_add_u16(buffer, (uint16_t)(reply->time_signed >> 32));
  buffer_add_u32(buffer, (uint32_t)reply->time_signed);
  buffer_add_u16(buffer, (uint16_t)reply->fudge);
}

static inline void add_error(struct buffer *buffer, const struct reply *reply) {
  buffer_add_u16(buffer, (uint16_t)reply->error);
  buffer_add_u16(buffer, reply->other ? 6 : 0);
  if (reply->other) buffer_add(buffer, reply->other, 6);
}

/* The MAC as RFC 8945 4.3 says it, put together here a second time. */
static inline void reply_mac(const struct reply *reply, const struct tsig_mac *request_mac, const uint8_t *message,
                             size_t size, uint8_t mac[64]) {
  struct buffer input = BUFFER_WITH_MAXIMUM(ROOM);
  buffer_add_u16(&input, (uint16_t)request_mac->size);
  buffer_add(&input, request_mac->octets, request_mac->size);
  buffer_add(&input, message, size);
  buffer_add(&input, key_name, sizeof key_name);
  buffer_add(&input, "\0\377\0\0\0\0", 6);
  buffer_add(&input, algorithm_name, sizeof algorithm_name);
  add_time(&input, reply);
  add_error(&input, reply);
  unsigned mac_size = 0;
  assert_non_null(HMAC(EVP_sha256(), SECRET_PLAIN, (int)strlen(SECRET_PLAIN), input.data, input.size, mac, &mac_size));
  buffer_release(&input);
}

static inline void add_tsig(struct buffer *message, const struct reply *reply, const uint8_t *mac) {
  buffer_add(message, reply->owner, reply->owner_size);
  buffer_add_u16(message, 250);
  buffer_add_u16(message, (uint16_t)reply->class);
  buffer_add_u32(message, reply->ttl);
  buffer_add_u16(message,
                 (uint16_t)(reply->algorithm_size + 16 + reply->mac_size + (reply->other ? 6 : 0) + reply->padding));
  buffer_add(message, reply->algorithm, reply->algorithm_size);
  add_time(message, reply);
  buffer_add_u16(message, (uint16_t)reply->mac_size);
  buffer_add(message, mac, reply->mac_size);
  buffer_add_u16(message, 0x1234);
  add_error(message, reply);
  for (size_t i = 0; i < reply->padding; i++) buffer_add_u8(message, 0);
}

/* A whole reply; caller releases. */
static inline struct buffer make_reply(const struct reply *reply, const struct tsig_mac *request_mac) {
  struct buffer message = BUFFER_WITH_MAXIMUM(ROOM);
  uint8_t mac[64] = {0};
  buffer_add(&message, query, QUERY_SIZE);
  message.data[FLAGS_OFFSET] = 0x84;
  reply_mac(reply, request_mac, message.data, message.size, mac);
  add_tsig(&message, reply, mac);
  message.data[ARCOUNT_OFFSET + 1]++;
  return message;
}

struct exchange {
  struct tsig_key key;
  struct tsig_mac mac;
};

static inline struct exchange start_exchange(void) {
  struct exchange exchange = {.key = test_key(TSIG_HMAC_SHA256)};
  uint8_t message[ROOM];
  sign_query(&exchange.key, NOW, message, &exchange.mac);
  return exchange;
}

static inline int verify(const struct exchange *exchange, int64_t now, const struct buffer *message,
                         struct tsig_answer *ret_answer) {
  return tsig_verify(&exchange->key, &exchange->mac, now, message->data, message->size, ret_answer, NULL);
}

static inline void assert_verdict(const struct reply *reply, int64_t now, enum tsig_error verdict) {
  struct exchange exchange = start_exchange();
  struct buffer message = make_reply(reply, &exchange.mac);
  struct tsig_answer answer;
  assert_int_equal(verify(&exchange, now, &message, &answer), 0);
  assert_true(answer.present);
  assert_int_equal(answer.verdict, verdict);
  assert_int_equal(answer.verified, verdict == TSIG_NOERROR);
  assert_int_equal(answer.error, reply->error);
  assert_int_equal(answer.time_signed, reply->time_signed);
  buffer_release(&message);
}

static inline void assert_malformed(const struct reply *reply) {
  struct exchange exchange = start_exchange();
  struct buffer message = make_reply(reply, &exchange.mac);
  struct tsig_answer answer;
  assert_int_equal(verify(&exchange, NOW, &message, &answer), ERROR_PROTOCOL);
  buffer_release(&message);
}

#endif
