/* TSIG over hand-made messages, with ldns and OpenSSL's one-shot HMAC as second opinions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include <stdbool.h> /* before ldns, whose own bool is a signed char */
#include <ldns/ldns.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/tsig.h"
#include "tsig_reply.h"

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
      cmocka_unit_test(test_tsig__unsigned_reply_is_present_false),
      cmocka_unit_test(test_tsig__restored_id_is_the_original_one),
      cmocka_unit_test(test_tsig__signing_what_cannot_be_signed_leaves_it_as_it_was),
      cmocka_unit_test(test_tsig__signed_message_never_exceeds_what_dns_can_carry),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
