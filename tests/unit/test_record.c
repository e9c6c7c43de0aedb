#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"

/* The example of RFC 8463 A.2, and its record. */
static const char ed25519_record[] = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

/* The RSA-1024 key of RFC 6376 C.2, in the layout that it has there. */
static const char rsa_record[] = "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQ\r\n"
                                 "  KBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYt\r\n"
                                 "  IxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v\r\n"
                                 "  /RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhi\r\n"
                                 "  tdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB;";

static void cleanup_pkey(EVP_PKEY **key) {
  EVP_PKEY_free(*key);
}

struct encoded {
  unsigned char *octets;
  size_t size;
};

static void encoded_release(struct encoded *encoded) {
  OPENSSL_free(encoded->octets);
}

static struct encoded encode_rsa(unsigned bits, bool bare) {
  CLEANUP(cleanup_pkey) EVP_PKEY *key = EVP_RSA_gen(bits);
  assert_non_null(key);
  struct encoded encoded = {0};
  int size = bare ? i2d_PublicKey(key, &encoded.octets) : i2d_PUBKEY(key, &encoded.octets);
  assert_true(size > 0);
  encoded.size = (size_t)size;
  return encoded;
}

static int parse(const char *text, struct record *ret_record, struct error *error) {
  return record_parse(text, strlen(text), ret_record, error);
}

static void assert_valid(const char *text) {
  CLEANUP(record_release) struct record record = {0};
  struct error error = {0};
  if (parse(text, &record, &error) < 0) fail_msg("%s: %s", text, error.message);
}

/* reason: a part of the message. */
static void assert_invalid(const char *text, const char *reason) {
  struct record record = {.public_key_size = 4711};
  struct error error = {0};
  assert_int_equal(parse(text, &record, &error), ERROR_INVALID);
  if (!strstr(error.message, reason)) fail_msg("\"%s\" should say \"%s\"", error.message, reason);
  assert_int_equal(record.public_key_size, 4711);
}

static void test_record__an_rsa_record_has_the_shape_and_length_that_verifiers_expect(void **state) {
  (void)state;
  CLEANUP(encoded_release) struct encoded key = encode_rsa(2048, false);
  CLEANUP_FREE char *text = NULL;
  struct error error = {0};
  assert_int_equal(record_build(KEY_ALGORITHM_RSA, key.octets, key.size, &text, &error), 0);
  const char start[] = "v=DKIM1; k=rsa; p=";
  assert_true(text_starts(text, start));
  assert_int_equal(strlen(text), strlen(start) + 392);
}

static void test_record__the_ed25519_record_of_rfc_8463_is_built_from_its_key(void **state) {
  (void)state;
  CLEANUP(record_release) struct record record = {0};
  CLEANUP_FREE char *text = NULL;
  struct error error = {0};
  assert_int_equal(parse(ed25519_record, &record, &error), 0);
  assert_int_equal(record.algorithm, KEY_ALGORITHM_ED25519);
  assert_int_equal(record.public_key_size, 32);
  assert_int_equal(record.public_key[0], 0xd7);
  assert_int_equal(record.public_key[31], 0x1a);
  assert_int_equal(record_build(KEY_ALGORITHM_ED25519, record.public_key, 32, &text, &error), 0);
  assert_string_equal(text, ed25519_record);
}

static void test_record__what_is_no_public_key_is_never_built_into_a_record(void **state) {
  (void)state;
  static const uint8_t octets[33] = {1};
  char *text = NULL;
  struct error error = {0};
  assert_int_equal(record_build(KEY_ALGORITHM_ED25519, octets, 31, &text, &error), ERROR_INVALID);
  assert_int_equal(record_build(KEY_ALGORITHM_ED25519, octets, 33, &text, &error), ERROR_INVALID);
  assert_int_equal(record_build(KEY_ALGORITHM_RSA, octets, 32, &text, &error), ERROR_INVALID);
  assert_int_equal(record_build((enum key_algorithm)7, octets, 32, &text, &error), ERROR_INVALID);
  CLEANUP(encoded_release) struct encoded bare = encode_rsa(2048, true);
  assert_int_equal(record_build(KEY_ALGORITHM_RSA, bare.octets, bare.size, &text, &error), ERROR_INVALID);
  assert_null(text);
}

static void test_record__a_revoked_record_keeps_its_algorithm_and_reads_as_revoked(void **state) {
  (void)state;
  static const enum key_algorithm algorithms[] = {KEY_ALGORITHM_RSA, KEY_ALGORITHM_ED25519};
  static const char *const expected[] = {"v=DKIM1; k=rsa; p=", "v=DKIM1; k=ed25519; p="};
  for (size_t i = 0; i < ARRAY_SIZE(algorithms); i++) {
    CLEANUP_FREE char *text = NULL;
    CLEANUP(record_release) struct record record = {0};
    struct error error = {0};
    assert_int_equal(record_build_revoked(algorithms[i], &text, &error), 0);
    assert_string_equal(text, expected[i]);
    assert_int_equal(parse(text, &record, &error), 0);
    assert_true(record.revoked);
    assert_null(record.public_key);
    assert_int_equal(record.algorithm, algorithms[i]);
  }
}

static void test_record__a_built_rsa_record_reads_back_as_the_same_key(void **state) {
  (void)state;
  CLEANUP(encoded_release) struct encoded key = encode_rsa(2048, false);
  CLEANUP_FREE char *text = NULL;
  CLEANUP(record_release) struct record record = {0};
  struct error error = {0};
  assert_int_equal(record_build(KEY_ALGORITHM_RSA, key.octets, key.size, &text, &error), 0);
  assert_int_equal(parse(text, &record, &error), 0);
  assert_int_equal(record.algorithm, KEY_ALGORITHM_RSA);
  assert_false(record.revoked);
  assert_false(record.testing);
  assert_int_equal(record.public_key_size, key.size);
  assert_memory_equal(record.public_key, key.octets, key.size);
}

static void test_record__the_folded_record_of_rfc_6376_is_read_without_its_white_space(void **state) {
  (void)state;
  CLEANUP(record_release) struct record record = {0};
  struct error error = {0};
  assert_int_equal(parse(rsa_record, &record, &error), 0);
  assert_int_equal(record.algorithm, KEY_ALGORITHM_RSA);
  assert_int_equal(record.public_key_size, 162);
}

static void test_record__a_bare_rsa_public_key_becomes_the_subject_public_key_info_of_the_same_key(void **state) {
  (void)state;
  CLEANUP(cleanup_pkey) EVP_PKEY *key = EVP_RSA_gen(2048);
  CLEANUP(encoded_release) struct encoded bare = {0};
  CLEANUP(encoded_release) struct encoded info = {0};
  bare.size = (size_t)i2d_PublicKey(key, &bare.octets);
  info.size = (size_t)i2d_PUBKEY(key, &info.octets);
  unsigned char base64[1024];
  EVP_EncodeBlock(base64, bare.octets, (int)bare.size);
  CLEANUP_FREE char *text = text_format("v=DKIM1; p=%s", base64);
  CLEANUP(record_release) struct record record = {0};
  struct error error = {0};
  assert_int_equal(parse(text, &record, &error), 0);
  assert_int_equal(record.public_key_size, info.size);
  assert_memory_equal(record.public_key, info.octets, info.size);
}

static void test_record__tags_come_in_any_order_with_any_white_space_and_unknown_ones_do_not_count(void **state) {
  (void)state;
  assert_valid("p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=; k=ed25519");
  assert_valid(" v = DKIM1 ;\tk=ed25519;x_1=what ever;p = 11qYAYKxCrfVS/7Ty WQHOg7hcvPapiMlrwIaaPcHURo= ; ");
  assert_valid("v=DKIM1; k=ed25519; n=a note; g=*; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
  assert_valid("v=DKIM1;k=ed25519;h=sha1:sha256;s=email;t=y:s;p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=;");
  assert_valid("v=DKIM1; k=ed25519; s=*:other; p=");
}

static void test_record__a_list_that_breaks_the_grammar_is_refused_with_the_reason(void **state) {
  (void)state;
  assert_invalid("", "does not start with a tag");
  assert_invalid(";", "does not start with a tag");
  assert_invalid("v=DKIM1; k=rsa", "no p=");
  assert_invalid("v=DKIM1;; p=", "between two semicolons");
  assert_invalid("v=DKIM1; p=; ;", "between two semicolons");
  assert_invalid("v=DKIM1; rubbish; p=", "\"rubbish\" is not a tag=value");
  assert_invalid("v=DKIM1; 9=x; p=", "\"9\" is not the name");
  assert_invalid("v=DKIM1; =x; p=", "is not the name");
  assert_invalid("v=DKIM1; p=; p=", "p= is there twice");
  assert_invalid("k=rsa; v=DKIM1; p=", "v= is not the first");
  assert_invalid("v=DKIM2; p=", "v=DKIM2");
  assert_invalid("v=dkim1; p=", "v=dkim1");
  assert_invalid("v=DKIM1; P=", "no p=");
  assert_invalid("v=DKIM1; n=\xc3\xa9; p=", "printable ASCII");
  assert_invalid("\"v=DKIM1; p=\"", "is not the name");
}

static void test_record__a_record_that_is_not_for_our_mail_is_refused(void **state) {
  (void)state;
  assert_invalid("v=DKIM1; h=sha1; p=", "does not allow sha256");
  assert_invalid("v=DKIM1; h=; p=", "does not allow sha256");
  assert_invalid("v=DKIM1; s=other; p=", "does not allow email");
}

static void test_record__a_key_that_verifiers_reject_is_refused(void **state) {
  (void)state;
  assert_invalid("v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHUR==", "32 octets, this one has 31");
  assert_invalid("v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo", "not base64");
  assert_invalid("v=DKIM1; k=ed25519; p=11qYAYKxCr=VS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", "not base64");
  assert_invalid("v=DKIM1; k=ed25519; p=11qYAYKxCr-VS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", "not base64");
  assert_invalid("v=DKIM1; k=ed25519; p=====", "not base64");
  assert_invalid("v=DKIM1; k=rsa; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", "not an RSA public key");
  CLEANUP(encoded_release) struct encoded small = encode_rsa(768, false);
  unsigned char base64[512];
  EVP_EncodeBlock(base64, small.octets, (int)small.size);
  CLEANUP_FREE char *text = text_format("v=DKIM1; p=%s", base64);
  assert_invalid(text, "768 bits");
}

static void test_record__octets_after_an_rsa_key_make_it_invalid(void **state) {
  (void)state;
  CLEANUP(encoded_release) struct encoded key = encode_rsa(1024, false);
  CLEANUP_FREE uint8_t *longer = calloc(1, key.size + 1);
  memcpy(longer, key.octets, key.size);
  unsigned char base64[1024];
  EVP_EncodeBlock(base64, longer, (int)key.size + 1);
  CLEANUP_FREE char *text = text_format("v=DKIM1; p=%s", base64);
  assert_invalid(text, "not an RSA public key");
}

static void test_record__an_unknown_algorithm_is_told_from_a_broken_record(void **state) {
  (void)state;
  CLEANUP(record_release) struct record record = {0};
  struct error error = {0};
  assert_int_equal(parse("v=DKIM1; k=falcon; p=AAAA", &record, &error), 0);
  assert_int_equal(record.algorithm, 0);
  assert_int_equal(record.public_key_size, 3);
}

static void test_record__the_testing_flag_is_read(void **state) {
  (void)state;
  static const char *const texts[] = {"p=; t=y", "p=; t=s : y", "p=; t=s", "p="};
  static const bool expected[] = {true, true, false, false};
  for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
    CLEANUP(record_release) struct record record = {0};
    struct error error = {0};
    assert_int_equal(parse(texts[i], &record, &error), 0);
    assert_int_equal(record.testing, expected[i]);
  }
}

static void test_record__too_long_and_too_many_are_refused(void **state) {
  (void)state;
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(RECORD_TEXT_MAX * 2);
  for (int i = 0; i < 33; i++) buffer_format(&text, "t%d=;", i);
  assert_invalid((const char *)text.data, "more than 32 tags");
  while (text.size <= RECORD_TEXT_MAX) buffer_add_text(&text, "A");
  assert_invalid((const char *)text.data, "longer than 4096");
}

static void test_record__a_nul_inside_is_seen_as_part_of_the_record(void **state) {
  (void)state;
  struct record record = {0};
  struct error error = {0};
  assert_int_equal(record_parse("p=\0AAAA", 7, &record, &error), ERROR_INVALID);
}

static void assert_rdata_round_trip(size_t size, size_t strings) {
  CLEANUP_FREE char *text = calloc(1, size + 1);
  for (size_t i = 0; i < size; i++) text[i] = (char)('a' + i % 26);
  CLEANUP_FREE uint8_t *rdata = NULL;
  CLEANUP_FREE char *joined = NULL;
  size_t rdata_size = 0;
  size_t joined_size = 0;
  struct error error = {0};
  assert_int_equal(record_to_rdata(text, size, &rdata, &rdata_size, &error), 0);
  assert_int_equal(rdata_size, size + strings);
  assert_int_equal(rdata[0], size < RECORD_STRING_MAX ? size : RECORD_STRING_MAX);
  assert_int_equal(record_from_rdata(rdata, rdata_size, &joined, &joined_size, &error), 0);
  assert_int_equal(joined_size, size);
  assert_string_equal(joined, text);
}

static void test_record__content_is_cut_into_strings_of_255_and_joined_again(void **state) {
  (void)state;
  assert_rdata_round_trip(0, 1);
  assert_rdata_round_trip(1, 1);
  assert_rdata_round_trip(255, 1);
  assert_rdata_round_trip(256, 2);
  assert_rdata_round_trip(510, 2);
  assert_rdata_round_trip(511, 3);
  assert_rdata_round_trip(RECORD_TEXT_MAX, 17);
}

static void test_record__content_over_the_maximum_gives_no_rdata(void **state) {
  (void)state;
  static const char text[RECORD_TEXT_MAX + 1];
  uint8_t *rdata = NULL;
  size_t size = 0;
  struct error error = {0};
  assert_int_equal(record_to_rdata(text, sizeof(text), &rdata, &size, &error), ERROR_LIMIT);
  assert_null(rdata);
}

static void test_record__strings_of_other_cuts_join_to_the_same_octets(void **state) {
  (void)state;
  static const uint8_t rdata[] = {3, 'p', '=', 'A', 0, 2, 'B', 'C'};
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  struct error error = {0};
  assert_int_equal(record_from_rdata(rdata, sizeof(rdata), &text, &size, &error), 0);
  assert_string_equal(text, "p=ABC");
  assert_int_equal(size, 5);
}

static void test_record__strings_that_do_not_add_up_are_refused(void **state) {
  (void)state;
  static const uint8_t rdata[] = {3, 'p', '=', 'A', 2, 'B'};
  char *text = NULL;
  size_t size = 0;
  struct error error = {0};
  assert_int_equal(record_from_rdata(rdata, sizeof(rdata), &text, &size, &error), ERROR_INVALID);
  assert_int_equal(record_from_rdata(rdata, 0, &text, &size, &error), ERROR_INVALID);
  assert_null(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_record__an_rsa_record_has_the_shape_and_length_that_verifiers_expect),
      cmocka_unit_test(test_record__the_ed25519_record_of_rfc_8463_is_built_from_its_key),
      cmocka_unit_test(test_record__what_is_no_public_key_is_never_built_into_a_record),
      cmocka_unit_test(test_record__a_revoked_record_keeps_its_algorithm_and_reads_as_revoked),
      cmocka_unit_test(test_record__a_built_rsa_record_reads_back_as_the_same_key),
      cmocka_unit_test(test_record__the_folded_record_of_rfc_6376_is_read_without_its_white_space),
      cmocka_unit_test(test_record__a_bare_rsa_public_key_becomes_the_subject_public_key_info_of_the_same_key),
      cmocka_unit_test(test_record__tags_come_in_any_order_with_any_white_space_and_unknown_ones_do_not_count),
      cmocka_unit_test(test_record__a_list_that_breaks_the_grammar_is_refused_with_the_reason),
      cmocka_unit_test(test_record__a_record_that_is_not_for_our_mail_is_refused),
      cmocka_unit_test(test_record__a_key_that_verifiers_reject_is_refused),
      cmocka_unit_test(test_record__octets_after_an_rsa_key_make_it_invalid),
      cmocka_unit_test(test_record__an_unknown_algorithm_is_told_from_a_broken_record),
      cmocka_unit_test(test_record__the_testing_flag_is_read),
      cmocka_unit_test(test_record__too_long_and_too_many_are_refused),
      cmocka_unit_test(test_record__a_nul_inside_is_seen_as_part_of_the_record),
      cmocka_unit_test(test_record__content_is_cut_into_strings_of_255_and_joined_again),
      cmocka_unit_test(test_record__content_over_the_maximum_gives_no_rdata),
      cmocka_unit_test(test_record__strings_of_other_cuts_join_to_the_same_octets),
      cmocka_unit_test(test_record__strings_that_do_not_add_up_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
