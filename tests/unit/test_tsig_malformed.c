/* TSIG in messages that no honest server sends. */
#include "tsig_reply.h"

#include <stdlib.h>

#include "dkimroll/entropy.h"

static void test_tsig_malformed__mac_of_impossible_length_is_malformed(void **state) {
  (void)state;
  struct reply reply = usual_reply();
  reply.mac_size = 33;
  assert_malformed(&reply);
  reply.mac_size = 15;
  assert_malformed(&reply);
  reply.mac_size = 1;
  assert_malformed(&reply);
}

static void test_tsig_malformed__octets_behind_the_last_field_are_refused(void **state) {
  (void)state;
  struct reply reply = usual_reply();
  reply.padding = 1;
  assert_malformed(&reply);
}

static void test_tsig_malformed__class_and_ttl_are_fixed(void **state) {
  (void)state;
  struct reply reply = usual_reply();
  reply.class = 1;
  assert_malformed(&reply);
  reply = usual_reply();
  reply.ttl = 1;
  assert_malformed(&reply);
}

/* All but the id is under the MAC. */
static void test_tsig_malformed__any_changed_octet_is_noticed(void **state) {
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

static void test_tsig_malformed__reply_cut_anywhere_is_malformed(void **state) {
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

static void test_tsig_malformed__octets_behind_the_last_record_are_malformed(void **state) {
  (void)state;
  struct exchange exchange = start_exchange();
  struct reply reply = usual_reply();
  struct buffer message = make_reply(&reply, &exchange.mac);
  struct tsig_answer answer;
  buffer_add_u8(&message, 0);
  assert_int_equal(verify(&exchange, NOW, &message, &answer), ERROR_PROTOCOL);
  buffer_release(&message);
}

static void test_tsig_malformed__record_that_is_not_the_last_of_all_is_malformed(void **state) {
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

static void test_tsig_malformed__pointers_that_do_not_lead_back_are_malformed(void **state) {
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
static void test_tsig_malformed__chains_of_pointers_are_bounded(void **state) {
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
static void test_tsig_malformed__arbitrary_octets_are_harmless(void **state) {
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_tsig_malformed__mac_of_impossible_length_is_malformed),
      cmocka_unit_test(test_tsig_malformed__octets_behind_the_last_field_are_refused),
      cmocka_unit_test(test_tsig_malformed__class_and_ttl_are_fixed),
      cmocka_unit_test(test_tsig_malformed__any_changed_octet_is_noticed),
      cmocka_unit_test(test_tsig_malformed__reply_cut_anywhere_is_malformed),
      cmocka_unit_test(test_tsig_malformed__octets_behind_the_last_record_are_malformed),
      cmocka_unit_test(test_tsig_malformed__record_that_is_not_the_last_of_all_is_malformed),
      cmocka_unit_test(test_tsig_malformed__pointers_that_do_not_lead_back_are_malformed),
      cmocka_unit_test(test_tsig_malformed__chains_of_pointers_are_bounded),
      cmocka_unit_test(test_tsig_malformed__arbitrary_octets_are_harmless),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
