/* TSIG over hand-made messages, with ldns and OpenSSL's one-shot HMAC as second opinions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <stdbool.h> /* before ldns, whose own bool is a signed char */
#include <ldns/ldns.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/entropy.h"
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

static struct tsig_key test_key(enum tsig_algorithm algorithm) {
  struct tsig_key key = {.name = "update.example.com", .algorithm = algorithm, .secret_size = strlen(SECRET_PLAIN)};
  memcpy(key.secret, SECRET_PLAIN, key.secret_size);
  return key;
}

/* A signed query in message. */
static size_t sign_query(const struct tsig_key *key, int64_t now, uint8_t message[ROOM], struct tsig_mac *ret_mac) {
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
};

static struct reply usual_reply(void) {
  return (struct reply){.time_signed = NOW,
                        .fudge = 300,
                        .mac_size = 32,
                        .owner = key_name,
                        .owner_size = sizeof key_name,
                        .algorithm = algorithm_name,
                        .algorithm_size = sizeof algorithm_name,
                        .class = 255};
}

static void add_time(struct buffer *buffer, const struct reply *reply) {
  buffer_add_u16(buffer, (uint16_t)(reply->time_signed >> 32));
  buffer_add_u32(buffer, (uint32_t)reply->time_signed);
  buffer_add_u16(buffer, (uint16_t)reply->fudge);
}

static void add_error(struct buffer *buffer, const struct reply *reply) {
  buffer_add_u16(buffer, (uint16_t)reply->error);
  buffer_add_u16(buffer, reply->other ? 6 : 0);
  if (reply->other) buffer_add(buffer, reply->other, 6);
}

/* The MAC as RFC 8945 4.3 says it, put together here a second time. */
static void reply_mac(const struct reply *reply, const struct tsig_mac *request_mac, const uint8_t *message,
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

static void add_tsig(struct buffer *message, const struct reply *reply, const uint8_t *mac) {
  buffer_add(message, reply->owner, reply->owner_size);
  buffer_add_u16(message, 250);
  buffer_add_u16(message, (uint16_t)reply->class);
  buffer_add_u32(message, reply->ttl);
  buffer_add_u16(message, (uint16_t)(reply->algorithm_size + 16 + reply->mac_size + (reply->other ? 6 : 0)));
  buffer_add(message, reply->algorithm, reply->algorithm_size);
  add_time(message, reply);
  buffer_add_u16(message, (uint16_t)reply->mac_size);
  buffer_add(message, mac, reply->mac_size);
  buffer_add_u16(message, 0x1234);
  add_error(message, reply);
}

/* A whole reply; caller releases. */
static struct buffer make_reply(const struct reply *reply, const struct tsig_mac *request_mac) {
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

static struct exchange start_exchange(void) {
  struct exchange exchange = {.key = test_key(TSIG_HMAC_SHA256)};
  uint8_t message[ROOM];
  sign_query(&exchange.key, NOW, message, &exchange.mac);
  return exchange;
}

static int verify(const struct exchange *exchange, int64_t now, const struct buffer *message,
                  struct tsig_answer *ret_answer) {
  return tsig_verify(&exchange->key, &exchange->mac, now, message->data, message->size, ret_answer, NULL);
}

static void assert_verdict(const struct reply *reply, int64_t now, enum tsig_error verdict) {
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

static void assert_malformed(const struct reply *reply) {
  struct exchange exchange = start_exchange();
  struct buffer message = make_reply(reply, &exchange.mac);
  struct tsig_answer answer;
  assert_int_equal(verify(&exchange, NOW, &message, &answer), ERROR_PROTOCOL);
  buffer_release(&message);
}

static void test_tsig__request_verifies_for_ldns(void **state) {
  (void)state;
  static const enum tsig_algorithm algorithms[] = {TSIG_HMAC_SHA256, TSIG_HMAC_SHA512};
  for (size_t i = 0; i < ARRAY_SIZE(algorithms); i++) {
    struct tsig_key key = test_key(algorithms[i]);
    uint8_t message[ROOM];
    struct tsig_mac mac;
    size_t size = sign_query(&key, NOW, message, &mac);
    ldns_pkt *packet = NULL;
    assert_int_equal(ldns_wire2pkt(&packet, message, size), LDNS_STATUS_OK);
    assert_non_null(ldns_pkt_tsig(packet));
    assert_true(ldns_pkt_tsig_verify(packet, message, size, "Update.Example.com.", SECRET, NULL));
    message[FLAGS_OFFSET] ^= 1;
    assert_false(ldns_pkt_tsig_verify(packet, message, size, "update.example.com.", SECRET, NULL));
    ldns_pkt_free(packet);
  }
}

/* The request MAC as ldns wants it: length and octets. */
static ldns_rdf *mac_rdf(const struct tsig_mac *mac) {
  uint8_t octets[2 + TSIG_MAC_MAX] = {0, (uint8_t)mac->size};
  memcpy(octets + 2, mac->octets, mac->size);
  return ldns_rdf_new_frm_data(LDNS_RDF_TYPE_INT16_DATA, 2 + mac->size, octets);
}

static void test_tsig__reply_signed_by_ldns_verifies(void **state) {
  (void)state;
  static const struct {
    enum tsig_algorithm algorithm;
    const char *name;
  } cases[] = {{TSIG_HMAC_SHA256, "hmac-sha256."}, {TSIG_HMAC_SHA512, "HMAC-sha512."}};
  struct clock_reading now;
  clock_read(&now); /* ldns takes the real time */
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    struct tsig_key key = test_key(cases[i].algorithm);
    uint8_t message[ROOM];
    struct tsig_mac mac;
    sign_query(&key, now.wall, message, &mac);
    ldns_pkt *packet = NULL;
    assert_int_equal(ldns_wire2pkt(&packet, query, QUERY_SIZE), LDNS_STATUS_OK);
    ldns_pkt_set_qr(packet, true);
    ldns_rr *txt = NULL;
    assert_int_equal(ldns_rr_new_frm_str(&txt, "example.com. 60 TXT \"v=DKIM1\"", 60, NULL, NULL), LDNS_STATUS_OK);
    ldns_pkt_push_rr(packet, LDNS_SECTION_ANSWER, txt);
    ldns_rdf *request_mac = mac_rdf(&mac);
    assert_int_equal(ldns_pkt_tsig_sign(packet, "Update.Example.com.", SECRET, 300, cases[i].name, request_mac),
                     LDNS_STATUS_OK);
    uint8_t *reply = NULL;
    size_t reply_size = 0;
    assert_int_equal(ldns_pkt2wire(&reply, packet, &reply_size), LDNS_STATUS_OK);
    struct tsig_answer answer;
    assert_int_equal(tsig_verify(&key, &mac, now.wall, reply, reply_size, &answer, NULL), 0);
    assert_true(answer.verified);
    assert_int_equal(answer.error, TSIG_NOERROR);
    mac.octets[0] ^= 1; /* it would be the answer to another request */
    assert_int_equal(tsig_verify(&key, &mac, now.wall, reply, reply_size, &answer, NULL), 0);
    assert_false(answer.verified);
    free(reply);
    ldns_rdf_deep_free(request_mac);
    ldns_pkt_free(packet);
  }
}

static void test_tsig__reply_made_by_the_letter_of_the_rfc_verifies(void **state) {
  (void)state;
  struct reply reply = usual_reply();
  assert_verdict(&reply, NOW, TSIG_NOERROR);
}

static void test_tsig__names_are_compared_without_case_and_may_be_compressed(void **state) {
  (void)state;
  struct reply reply = usual_reply();
  reply.owner = (const uint8_t *)"\6UPDATE\7Example\3com";
  reply.algorithm = (const uint8_t *)"\13HMAC-SHA256";
  assert_verdict(&reply, NOW, TSIG_NOERROR);
  reply.owner = (const uint8_t *)"\6uPdate\300\14"; /* example.com of the question */
  reply.owner_size = 9;
  assert_verdict(&reply, NOW, TSIG_NOERROR);
}

static void test_tsig__reply_of_another_key_or_algorithm_is_not_verified(void **state) {
  (void)state;
  struct reply reply = usual_reply();
  reply.owner = (const uint8_t *)"\6update\7example\3org";
  assert_verdict(&reply, NOW, TSIG_BADKEY);
  reply = usual_reply();
  reply.algorithm = (const uint8_t *)"\13hmac-sha512";
  assert_verdict(&reply, NOW, TSIG_BADKEY);
}

static void test_tsig__time_must_be_within_fudge(void **state) {
  (void)state;
  struct reply reply = usual_reply();
  assert_verdict(&reply, NOW + 300, TSIG_NOERROR);
  assert_verdict(&reply, NOW - 300, TSIG_NOERROR);
  assert_verdict(&reply, NOW + 301, TSIG_BADTIME);
  assert_verdict(&reply, NOW - 301, TSIG_BADTIME);
  reply.fudge = 0;
  assert_verdict(&reply, NOW, TSIG_NOERROR);
  assert_verdict(&reply, NOW + 1, TSIG_BADTIME);
  reply = usual_reply();
  reply.time_signed = 0xffffffffffff;
  assert_verdict(&reply, NOW, TSIG_BADTIME);
  reply.time_signed = 0;
  assert_verdict(&reply, NOW, TSIG_BADTIME);
}

static void test_tsig__signed_badtime_is_verified_and_gives_the_servers_time(void **state) {
  (void)state;
  struct exchange exchange = start_exchange();
  struct reply reply = usual_reply();
  reply.error = TSIG_BADTIME;
  reply.other = "\0\1\2\3\4\5";
  assert_verdict(&reply, NOW, TSIG_NOERROR);
  assert_verdict(&reply, NOW + 100000, TSIG_NOERROR);
  struct buffer message = make_reply(&reply, &exchange.mac);
  struct tsig_answer answer;
  assert_int_equal(verify(&exchange, NOW, &message, &answer), 0);
  assert_true(answer.server_time == 0x000102030405);
  message.data[message.size - 1] ^= 1; /* within the server's time */
  assert_int_equal(verify(&exchange, NOW, &message, &answer), 0);
  assert_false(answer.verified);
  buffer_release(&message);
}

static void test_tsig__error_field_is_told(void **state) {
  (void)state;
  struct reply reply = usual_reply();
  reply.error = 4711;
  assert_verdict(&reply, NOW, TSIG_NOERROR);
  reply.mac_size = 0; /* BADSIG and BADKEY come unsigned (RFC 8945 5.2) */
  reply.error = TSIG_BADSIG;
  assert_verdict(&reply, NOW, TSIG_BADSIG);
  reply.error = TSIG_BADKEY;
  assert_verdict(&reply, NOW, TSIG_BADSIG);
}

static void test_tsig__truncated_mac_is_never_verified(void **state) {
  (void)state;
  struct reply reply = usual_reply();
  reply.mac_size = 31;
  assert_verdict(&reply, NOW, TSIG_BADTRUNC);
  reply.mac_size = 16;
  assert_verdict(&reply, NOW, TSIG_BADTRUNC);
}

static void test_tsig__mac_of_impossible_length_is_malformed(void **state) {
  (void)state;
  struct reply reply = usual_reply();
  reply.mac_size = 33;
  assert_malformed(&reply);
  reply.mac_size = 15;
  assert_malformed(&reply);
  reply.mac_size = 1;
  assert_malformed(&reply);
}

static void test_tsig__class_and_ttl_are_fixed(void **state) {
  (void)state;
  struct reply reply = usual_reply();
  reply.class = 1;
  assert_malformed(&reply);
  reply = usual_reply();
  reply.ttl = 1;
  assert_malformed(&reply);
}

static void test_tsig__unsigned_reply_is_present_false(void **state) {
  (void)state;
  struct exchange exchange = start_exchange();
  struct tsig_answer answer;
  assert_int_equal(tsig_verify(&exchange.key, &exchange.mac, NOW, query, QUERY_SIZE, &answer, NULL), 0);
  assert_false(answer.present);
  assert_false(answer.verified);
}

static void test_tsig__restored_id_is_the_original_one(void **state) {
  (void)state;
  struct exchange exchange = start_exchange();
  struct reply reply = usual_reply();
  struct buffer message = make_reply(&reply, &exchange.mac);
  message.data[0] ^= 0xff; /* as a forwarder does (RFC 8945 4.2, Original ID) */
  struct tsig_answer answer;
  assert_int_equal(verify(&exchange, NOW, &message, &answer), 0);
  assert_true(answer.verified);
  buffer_release(&message);
}

/* All but the id is under the MAC. */
static void test_tsig__any_changed_octet_is_noticed(void **state) {
  (void)state;
  struct exchange exchange = start_exchange();
  struct reply reply = usual_reply();
  struct buffer message = make_reply(&reply, &exchange.mac);
  for (size_t i = ID_SIZE; i < message.size; i++) {
    for (unsigned bit = 0; bit < 8; bit++) {
      if (1U << bit == 0x20) continue; /* the case of a letter in a name is not under it */
      struct tsig_answer answer = {.verified = false};
      message.data[i] ^= (uint8_t)(1U << bit);
      int code = verify(&exchange, NOW, &message, &answer);
      message.data[i] ^= (uint8_t)(1U << bit);
      if (code == 0 ? answer.verified : code != ERROR_PROTOCOL) fail_msg("octet %zu, bit %u", i, bit);
    }
  }
  buffer_release(&message);
}

static void test_tsig__reply_cut_anywhere_is_malformed(void **state) {
  (void)state;
  struct exchange exchange = start_exchange();
  struct reply reply = usual_reply();
  struct buffer message = make_reply(&reply, &exchange.mac);
  for (size_t size = 0; size < message.size; size++) {
    uint8_t *cut = malloc(size + !size); /* a block of its own, for the sanitizer */
    assert_non_null(cut);
    memcpy(cut, message.data, size);
    struct tsig_answer answer;
    assert_int_equal(tsig_verify(&exchange.key, &exchange.mac, NOW, cut, size, &answer, NULL), ERROR_PROTOCOL);
    free(cut);
  }
  buffer_release(&message);
}

static void test_tsig__octets_behind_the_last_record_are_malformed(void **state) {
  (void)state;
  struct exchange exchange = start_exchange();
  struct reply reply = usual_reply();
  struct buffer message = make_reply(&reply, &exchange.mac);
  struct tsig_answer answer;
  buffer_add_u8(&message, 0);
  assert_int_equal(verify(&exchange, NOW, &message, &answer), ERROR_PROTOCOL);
  buffer_release(&message);
}

static void test_tsig__record_that_is_not_the_last_of_all_is_malformed(void **state) {
  (void)state;
  static const uint8_t opt[] = "\0\0\51\4\320\0\0\0\0\0"; /* its last zero is the one of the literal */
  struct exchange exchange = start_exchange();
  struct reply reply = usual_reply();
  struct tsig_answer answer;
  struct buffer message = make_reply(&reply, &exchange.mac);
  buffer_add(&message, opt, sizeof opt);
  message.data[ARCOUNT_OFFSET + 1]++;
  assert_int_equal(verify(&exchange, NOW, &message, &answer), ERROR_PROTOCOL);
  buffer_release(&message);

  message = make_reply(&reply, &exchange.mac);
  add_tsig(&message, &reply, (const uint8_t[64]){0});
  message.data[ARCOUNT_OFFSET + 1]++;
  assert_int_equal(verify(&exchange, NOW, &message, &answer), ERROR_PROTOCOL); /* two */
  buffer_release(&message);

  for (size_t section = 6; section < ARCOUNT_OFFSET; section += 2) { /* in ANSWER and AUTHORITY */
    message = make_reply(&reply, &exchange.mac);
    message.data[ARCOUNT_OFFSET + 1]--;
    message.data[section + 1]++;
    assert_int_equal(verify(&exchange, NOW, &message, &answer), ERROR_PROTOCOL);
    buffer_release(&message);
  }
}

static void assert_owner_malformed(const char *owner, size_t size) {
  struct reply reply = usual_reply();
  reply.owner = (const uint8_t *)owner;
  reply.owner_size = size;
  assert_malformed(&reply);
}

static void test_tsig__pointers_that_do_not_lead_back_are_malformed(void **state) {
  (void)state;
  /* The TSIG begins at octet 29. */
  assert_owner_malformed("\300\35", 2);    /* to itself */
  assert_owner_malformed("\300\36", 2);    /* into itself */
  assert_owner_malformed("\300\377", 2);   /* ahead */
  assert_owner_malformed("\377\377", 2);   /* beyond the end */
  assert_owner_malformed("\1a\300\35", 4); /* around */
  assert_owner_malformed("\100\0", 2);     /* a label type that is none (RFC 6891 5) */
  assert_owner_malformed("\200\0", 2);
  assert_int_equal(QUERY_SIZE, 29);
}

/* Names longer than 255 octets by way of pointers, and long chains of them, end. */
static void test_tsig__chains_of_pointers_are_bounded(void **state) {
  (void)state;
  struct exchange exchange = start_exchange();
  struct buffer message = BUFFER_WITH_MAXIMUM(16384);
  buffer_add(&message, "\0\0\0\0\0\0\0\1\0\0\0\1", 12);
  buffer_add(&message, "\0\0\20\0\1\0\0\0\0\52\1",
             11); /* a TXT with 0x2a01 octets that are a chain: \1a, pointer to the one before */
  size_t chain = message.size;
  buffer_add(&message, "\1a\0", 3);
  for (size_t at = chain; message.size + 4 <= chain + 0x2a01; at = message.size - 4) {
    buffer_add(&message, "\1a", 2);
    buffer_add_u16(&message, (uint16_t)(0xc000 | at));
  }
  while (message.size < chain + 0x2a01) buffer_add_u8(&message, 0);
  buffer_add_u16(&message, (uint16_t)(0xc000 | (chain + 3 + 4 * 2000)));
  buffer_add(&message, "\0\372\0\377\0\0\0\0\0\0", 10);
  struct tsig_answer answer;
  assert_false(message.failed);
  assert_int_equal(verify(&exchange, NOW, &message, &answer), ERROR_PROTOCOL);
  buffer_release(&message);
}

/* Random octets, and good messages with some of them replaced: no crash, and nothing verifies. */
static void test_tsig__arbitrary_octets_are_harmless(void **state) {
  (void)state;
  struct exchange exchange = start_exchange();
  struct reply reply = usual_reply();
  struct buffer good = make_reply(&reply, &exchange.mac);
  struct entropy_seeded seeded;
  entropy_seed(&seeded, 8945);
  for (unsigned round = 0; round < 50000; round++) {
    size_t size = round % 2 ? good.size : entropy_below(&seeded.entropy, 200);
    uint8_t *octets = malloc(size + !size);
    assert_non_null(octets);
    if (round % 2) {
      memcpy(octets, good.data, size);
      for (unsigned i = 0; i < 3; i++)
        octets[ID_SIZE + entropy_below(&seeded.entropy, (uint32_t)size - ID_SIZE)] =
            (uint8_t)entropy_u16(&seeded.entropy);
    } else {
      seeded.entropy.fill(&seeded.entropy, octets, size);
      for (size_t i = 4; i < size && i < 12; i += 2) octets[i] = 0; /* few records, so that the walk gets far */
    }
    struct tsig_answer answer = {.verified = false};
    int code = tsig_verify(&exchange.key, &exchange.mac, NOW, octets, size, &answer, NULL);
    assert_true(code == 0 || code == ERROR_PROTOCOL);
    if (code == 0 && answer.verified) assert_memory_equal(octets + ID_SIZE, good.data + ID_SIZE, QUERY_SIZE - ID_SIZE);
    free(octets);
  }
  buffer_release(&good);
}

static void test_tsig__signing_what_cannot_be_signed_leaves_it_as_it_was(void **state) {
  (void)state;
  struct tsig_key key = test_key(TSIG_HMAC_SHA512);
  struct tsig_mac mac = {.size = 4711};
  uint8_t message[ROOM], before[ROOM];
  size_t whole = sign_query(&key, NOW, before, &mac);
  mac.size = 4711;
  size_t size = whole;
  memcpy(message, before, whole);
  assert_int_equal(tsig_sign(&key, NOW, message, &size, ROOM, &mac, NULL), ERROR_INVALID); /* has one */
  assert_int_equal(size, whole);
  assert_memory_equal(message, before, whole);

  memset(message, 0xee, sizeof message);
  memcpy(message, query, QUERY_SIZE);
  memcpy(before, message, sizeof before);
  size = QUERY_SIZE;
  assert_int_equal(tsig_sign(&key, NOW, message, &size, whole - 1, &mac, NULL), ERROR_LIMIT);
  assert_int_equal(tsig_sign(&key, NOW, message, &size, QUERY_SIZE - 1, &mac, NULL), ERROR_LIMIT);
  assert_int_equal(tsig_sign(&key, -1, message, &size, ROOM, &mac, NULL), ERROR_INVALID);
  assert_int_equal(tsig_sign(&key, INT64_C(1) << 48, message, &size, ROOM, &mac, NULL), ERROR_INVALID);
  size = QUERY_SIZE - 1;
  assert_int_equal(tsig_sign(&key, NOW, message, &size, ROOM, &mac, NULL), ERROR_INVALID);
  assert_int_equal(size, QUERY_SIZE - 1);
  assert_memory_equal(message, before, sizeof before);
  assert_int_equal(mac.size, 4711);
  size = QUERY_SIZE;
  assert_int_equal(tsig_sign(&key, NOW, message, &size, whole, &mac, NULL), 0); /* exactly fits */
  assert_int_equal(size, whole);
}

static void test_tsig__signed_message_never_exceeds_what_dns_can_carry(void **state) {
  (void)state;
  enum { LARGE = 65535 - 50 };
  struct tsig_key key = test_key(TSIG_HMAC_SHA256);
  struct tsig_mac mac;
  uint8_t *message = calloc(1, 70000);
  assert_non_null(message);
  size_t size = LARGE;
  message[7] = 1; /* one record in ANSWER fills it: root, type 0, class 0, TTL 0 */
  message[21] = (LARGE - 23) >> 8;
  message[22] = (LARGE - 23) & 0xff;
  assert_int_equal(tsig_sign(&key, NOW, message, &size, 70000, &mac, NULL), ERROR_LIMIT);
  assert_int_equal(size, LARGE);
  free(message);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_tsig__request_verifies_for_ldns),
      cmocka_unit_test(test_tsig__reply_signed_by_ldns_verifies),
      cmocka_unit_test(test_tsig__reply_made_by_the_letter_of_the_rfc_verifies),
      cmocka_unit_test(test_tsig__names_are_compared_without_case_and_may_be_compressed),
      cmocka_unit_test(test_tsig__reply_of_another_key_or_algorithm_is_not_verified),
      cmocka_unit_test(test_tsig__time_must_be_within_fudge),
      cmocka_unit_test(test_tsig__signed_badtime_is_verified_and_gives_the_servers_time),
      cmocka_unit_test(test_tsig__error_field_is_told),
      cmocka_unit_test(test_tsig__truncated_mac_is_never_verified),
      cmocka_unit_test(test_tsig__mac_of_impossible_length_is_malformed),
      cmocka_unit_test(test_tsig__class_and_ttl_are_fixed),
      cmocka_unit_test(test_tsig__unsigned_reply_is_present_false),
      cmocka_unit_test(test_tsig__restored_id_is_the_original_one),
      cmocka_unit_test(test_tsig__any_changed_octet_is_noticed),
      cmocka_unit_test(test_tsig__reply_cut_anywhere_is_malformed),
      cmocka_unit_test(test_tsig__octets_behind_the_last_record_are_malformed),
      cmocka_unit_test(test_tsig__record_that_is_not_the_last_of_all_is_malformed),
      cmocka_unit_test(test_tsig__pointers_that_do_not_lead_back_are_malformed),
      cmocka_unit_test(test_tsig__chains_of_pointers_are_bounded),
      cmocka_unit_test(test_tsig__arbitrary_octets_are_harmless),
      cmocka_unit_test(test_tsig__signing_what_cannot_be_signed_leaves_it_as_it_was),
      cmocka_unit_test(test_tsig__signed_message_never_exceeds_what_dns_can_carry),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
