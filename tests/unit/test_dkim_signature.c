/* Verification of signatures, against a signer of its own and the examples of the RFCs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkim_signer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/dkim_signature.h"
#include "dkimroll/text.h"

enum { NOW = 1800000000, FIELDS_MAX = 300 };

struct letter {
  const char *fields[FIELDS_MAX];
  size_t field_count;
  const char *body;
};

static const struct letter ordinary = {
    .fields = {"From: Anna <anna@example.com>", "To: bob@example.net", "Subject: x\r\n  y\t z ", "Date: now"},
    .field_count = 4,
    .body = "Hello  world \r\n\r\nbye\r\n\r\n\r\n"};

static struct span span_of(const char *text) {
  return (struct span){text, strlen(text)};
}

static enum dkim_verdict verify(const struct letter *letter, const char *signature, const char *record, int64_t now,
                                struct error *error) {
  struct span fields[FIELDS_MAX];
  for (size_t i = 0; i < letter->field_count; i++) fields[i] = span_of(letter->fields[i]);
  const struct dkim_message message = {
      .fields = fields, .field_count = letter->field_count, .body = span_of(letter->body)};
  /* Copies of exact size, so that a sanitizer sees every octet that is read behind them. */
  CLEANUP_FREE char *copy = malloc(strlen(signature) + 1), *record_copy = malloc(strlen(record) + 1);
  memcpy(copy, signature, strlen(signature));
  memcpy(record_copy, record, strlen(record));
  return dkim_signature_verify(&message, (struct span){copy, strlen(signature)},
                               (struct span){record_copy, strlen(record)}, now, error);
}

static void assert_verdict(const struct letter *letter, const char *signature, const char *record,
                           enum dkim_verdict verdict, const char *text) {
  struct error error = {0};
  const enum dkim_verdict found = verify(letter, signature, record, NOW, &error);
  if (found != verdict || (verdict != DKIM_VALID && !strstr(error.message, text)))
    fail_msg("verdict %d instead of %d: %s\n%s", (int)found, (int)verdict, error.message, signature);
  if (verdict != DKIM_VALID) assert_int_equal(error.code, ERROR_PROOF);
}

/* Signs with a field whose tags the caller chose: "h=@H@" stands for all the ordinary names. */
static char *sign_with(EVP_PKEY *key, const struct letter *letter, const char *field, const char *names, bool relaxed) {
  const struct dkim_order order = {
      .key = key, .relaxed_header = relaxed, .relaxed_body = relaxed, .names = names, .field = field};
  return dkim_signer_sign(&order, letter->fields, letter->field_count, letter->body);
}

#define TAGS_ED "DKIM-Signature: v=1; a=ed25519-sha256; d=example.com; s=sel; "
#define TAGS_RSA "DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=sel; "
#define HASHES "bh=@BH@; b=@B@"

static void test_dkim_signature__all_canonicalizations_and_algorithms_verify(void **state) {
  (void)state;
  static const char *const words[] = {"simple", "relaxed"};
  for (int ed25519 = 0; ed25519 < 2; ed25519++) {
    EVP_PKEY *key = dkim_signer_key(ed25519, 0);
    CLEANUP_FREE char *record = dkim_signer_record(key);
    for (int i = 0; i < 4; i++) {
      CLEANUP_FREE char *field =
          text_format("DKIM-Signature: v=1; a=%s; c=%s/%s;\r\n d=example.com; s=sel; i=anna@Example.com;\r\n t=1; "
                      "h=From:To:Subject:Date:From;\r\n bh=@BH@;\r\n b=@B@",
                      ed25519 ? "ed25519-sha256" : "rsa-sha256", words[i / 2], words[i % 2]);
      const struct dkim_order order = {.key = key,
                                       .relaxed_header = i / 2,
                                       .relaxed_body = i % 2,
                                       .names = "From:To:Subject:Date:From",
                                       .field = field};
      CLEANUP_FREE char *signature = dkim_signer_sign(&order, ordinary.fields, ordinary.field_count, ordinary.body);
      assert_verdict(&ordinary, signature, record, DKIM_VALID, "");
    }
  }
}

/* RFC 8463 appendix A.3: one message with two signatures, and A.2 its keys. */
static void test_dkim_signature__example_of_rfc_8463_verifies(void **state) {
  (void)state;
  static const struct letter letter = {
      .fields = {"From: Joe SixPack <joe@football.example.com>", "To: Suzie Q <suzie@shopping.example.net>",
                 "Subject: Is dinner ready?", "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)",
                 "Message-ID: <20030712040037.46341.5F8J@football.example.com>"},
      .field_count = 5,
      .body = "Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"};
  static const char ed25519[] =
      "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;"
      "\r\n q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;"
      "\r\n bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4"
      "D11Bus\r\n Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==";
  static const char rsa[] =
      "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n"
      " q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n date : message-id : from : subject : date;\r\n"
      " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe"
      "3\r\n DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjF"
      "YNcUxZQ4FADY+8=";
  assert_verdict(&letter, ed25519, "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", DKIM_VALID,
                 "");
  assert_verdict(
      &letter, rsa,
      "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2"
      "jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3"
      "Ip3G+2kryOTIKT+l/K4w3QIDAQAB",
      DKIM_VALID, "");
}

static void test_dkim_signature__what_changed_is_named(void **state) {
  (void)state;
  for (int ed25519 = 0; ed25519 < 2; ed25519++) {
    EVP_PKEY *key = dkim_signer_key(ed25519, 0);
    CLEANUP_FREE char *record = dkim_signer_record(key);
    CLEANUP_FREE char *other = dkim_signer_record(dkim_signer_key(ed25519, 1));
    CLEANUP_FREE char *unfit = dkim_signer_record(dkim_signer_key(!ed25519, 0));
    CLEANUP_FREE char *signature =
        dkim_signer_sign_plainly(key, "example.com", "sel", ordinary.fields, ordinary.field_count, ordinary.body);
    CLEANUP_FREE char *foreign = dkim_signer_sign_plainly(dkim_signer_key(ed25519, 1), "example.com", "sel",
                                                          ordinary.fields, ordinary.field_count, ordinary.body);
    assert_verdict(&ordinary, signature, record, DKIM_VALID, "");
    struct letter letter = ordinary;
    letter.body = "Hello world\r\n\r\nbye\r\n";
    assert_verdict(&letter, signature, record, DKIM_BODY_DIFFERS, "bh=");
    letter = ordinary;
    letter.fields[1] = "To: eve@example.net";
    assert_verdict(&letter, signature, record, ed25519 ? DKIM_OTHER_KEY : DKIM_HEADER_DIFFERS, "");
    letter = ordinary;
    letter.field_count--;
    assert_verdict(&letter, signature, record, ed25519 ? DKIM_OTHER_KEY : DKIM_HEADER_DIFFERS, "");
    assert_verdict(&ordinary, foreign, record, DKIM_OTHER_KEY, "does not verify");
    assert_verdict(&ordinary, signature, other, DKIM_OTHER_KEY, "does not verify");
    assert_verdict(&ordinary, signature, unfit, DKIM_RECORD_UNFIT, "does not fit");
    assert_verdict(&ordinary, signature, ed25519 ? "v=DKIM1; k=ed25519; p=" : "p=", DKIM_RECORD_REVOKED, "revoked");
    assert_verdict(&ordinary, signature, "v=DKIM1; k=dsa; p=AAAA", DKIM_RECORD_UNFIT, "unknown k=");
    assert_verdict(&ordinary, signature, "v=spf1 -all", DKIM_RECORD_INVALID, "not a valid key record");
    assert_verdict(&ordinary, signature, "", DKIM_RECORD_INVALID, "");
    CLEANUP_FREE char *sha1_only = text_format("%s; h=sha1", record);
    assert_verdict(&ordinary, signature, sha1_only, DKIM_RECORD_INVALID, "sha256");
  }
}

static void test_dkim_signature__small_rsa_keys_are_refused(void **state) {
  (void)state;
  EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)768);
  assert_non_null(key);
  CLEANUP_FREE char *record = dkim_signer_record(key);
  CLEANUP_FREE char *signature =
      dkim_signer_sign_plainly(key, "example.com", "sel", ordinary.fields, ordinary.field_count, ordinary.body);
  EVP_PKEY_free(key);
  assert_verdict(&ordinary, signature, record, DKIM_RECORD_INVALID, "768 bits");
}

static void test_dkim_signature__tags_are_judged_though_the_signature_is_good(void **state) {
  (void)state;
  static const struct {
    const char *field;
    enum dkim_verdict verdict;
    const char *text;
  } cases[] = {
      {TAGS_ED "h=From:To; " HASHES, DKIM_VALID, ""},
      {TAGS_ED "h=From:To; " HASHES ";", DKIM_VALID, ""},
      {TAGS_ED "h=From:To; " HASHES "; ", DKIM_VALID, ""},
      {TAGS_ED "h=From:To; " HASHES " ; zz=unknown", DKIM_VALID, ""},
      {TAGS_ED "h=From\r\n\t:\r\n\tTo; b=@B@; bh=@BH@", DKIM_VALID, ""},
      {TAGS_ED "h=FROM:to; " HASHES, DKIM_VALID, ""},
      {TAGS_ED "h=From:To:X-None:From; " HASHES, DKIM_VALID, ""},
      {TAGS_ED "b = @B@ ; h=From:To; bh=@BH@", DKIM_VALID, ""},
      {TAGS_ED "b=\r\n\t@B@\r\n ; h=From:To; bh=@BH@", DKIM_VALID, ""},
      {TAGS_ED "h=From:To; q=dns/txt; " HASHES, DKIM_VALID, ""},
      {TAGS_ED "h=From:To; q=other:dns/txt; " HASHES, DKIM_VALID, ""},
      {TAGS_ED "h=From:To; q=other; " HASHES, DKIM_UNKNOWN, "dns/txt"},
      {TAGS_ED "h=From:To; i=@example.com; " HASHES, DKIM_VALID, ""},
      {TAGS_ED "h=From:To; i=anna@mail.example.com; " HASHES, DKIM_VALID, ""},
      {TAGS_ED "h=From:To; i=anna@badexample.com; " HASHES, DKIM_IDENTITY, "i=anna@badexample.com"},
      {TAGS_ED "h=From:To; i=anna@example.net; " HASHES, DKIM_IDENTITY, "not within"},
      {TAGS_ED "h=From:To; i=example.com; " HASHES, DKIM_IDENTITY, "not within"},
      {TAGS_ED "h=From:To; i=; " HASHES, DKIM_IDENTITY, "not within"},
      {TAGS_ED "h=From:To; l=5; " HASHES, DKIM_PARTIAL, "l="},
      {TAGS_ED "h=From:To; x=1799999999; " HASHES, DKIM_EXPIRED, "expired"},
      {TAGS_ED "h=From:To; x=1800000000; " HASHES, DKIM_VALID, ""},
      {TAGS_ED "h=From:To; t=1800000100; x=1800000200; " HASHES, DKIM_VALID, ""},
      {TAGS_ED "h=From:To; t=1800001000; " HASHES, DKIM_EXPIRED, "future"},
      {TAGS_ED "h=From:To; t=5; x=5; " HASHES, DKIM_MALFORMED, "not later"},
      {TAGS_ED "h=From:To; x=soon; " HASHES, DKIM_MALFORMED, "number"},
      {TAGS_ED "h=From:To; t=; " HASHES, DKIM_MALFORMED, "number"},
      {TAGS_ED "h=From:To; t=99999999999999999999; " HASHES, DKIM_MALFORMED, "number"},
      {TAGS_ED "h=To; " HASHES, DKIM_MALFORMED, "From"},
      {TAGS_ED "h=From::To; " HASHES, DKIM_MALFORMED, "list"},
      {TAGS_ED "h=From To; " HASHES, DKIM_MALFORMED, "list"},
      {TAGS_ED "h=; " HASHES, DKIM_MALFORMED, "h= is missing"},
      {TAGS_ED "h=From:To; h=From:To; " HASHES, DKIM_MALFORMED, "twice"},
      {TAGS_ED "h=From:To;; " HASHES, DKIM_MALFORMED, "semicolons"},
      {TAGS_ED "h=From:To; c=relaxed/other; " HASHES, DKIM_UNKNOWN, "c=relaxed/other"},
      {TAGS_ED "h=From:To; c=; " HASHES, DKIM_UNKNOWN, "c="},
      {TAGS_ED "h=From:To; c=simple/; " HASHES, DKIM_UNKNOWN, "c=simple/"},
      {TAGS_ED "h=From:To; bh=@BH@", DKIM_MALFORMED, "b= is missing"},
      {TAGS_ED "h=From:To; b=@B@", DKIM_MALFORMED, "bh= is missing"},
      {TAGS_ED "h=From:To; bh=@BH@; b=!@B@", DKIM_MALFORMED, "base64"},
      {TAGS_ED "h=From:To; bh=@BH@; b=\x01@B@", DKIM_MALFORMED, "printable"},
      {"DKIM-Signature: a=ed25519-sha256; d=example.com; s=sel; h=From:To; " HASHES, DKIM_MALFORMED, "v="},
      {"DKIM-Signature: v=2; a=ed25519-sha256; d=example.com; s=sel; h=From:To; " HASHES, DKIM_UNKNOWN, "v=2"},
      {"DKIM-Signature: v=1; a=rsa-sha1; d=example.com; s=sel; h=From:To; " HASHES, DKIM_WEAK, "rsa-sha1"},
      {"DKIM-Signature: v=1; a=ed448-sha256; d=example.com; s=sel; h=From:To; " HASHES, DKIM_UNKNOWN, "ed448"},
      {"DKIM-Signature: v=1; a=ed25519-sha256; d=exam ple.com; s=sel; h=From:To; " HASHES, DKIM_MALFORMED, "space"},
      {"DKIM-Signature: v=1; a=ed25519-sha256; s=sel; h=From:To; " HASHES, DKIM_MALFORMED, "d= is missing"},
      {"DKIM-Signature: v=1; a=ed25519-sha256; d=example.com; h=From:To; " HASHES, DKIM_MALFORMED, "s= is missing"},
      {"DKIM-Signature:v=1;a=ed25519-sha256;d=example.com;s=sel;h=From:To;bh=@BH@;b=@B@", DKIM_VALID, ""},
      {"dkim-signature : v = 1; a= ed25519-sha256; d= example.com; s= sel; h =From:To;bh= @BH@;b=@B@", DKIM_VALID, ""},
      {"DKIM-Signature", DKIM_MALFORMED, "not a header field"},
      {"DKIM-Signature:", DKIM_MALFORMED, "start"},
  };
  EVP_PKEY *key = dkim_signer_key(true, 0);
  CLEANUP_FREE char *record = dkim_signer_record(key);
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    const char *names = strstr(cases[i].field, "X-None") ? "From:To:From" : "From:To";
    CLEANUP_FREE char *signature = strchr(cases[i].field, ':') ? sign_with(key, &ordinary, cases[i].field, names, false)
                                                               : text_duplicate(cases[i].field);
    assert_verdict(&ordinary, signature, record, cases[i].verdict, cases[i].text);
  }
}

static void test_dkim_signature__record_with_t_s_binds_the_identity(void **state) {
  (void)state;
  EVP_PKEY *key = dkim_signer_key(true, 0);
  CLEANUP_FREE char *record = dkim_signer_record(key);
  CLEANUP_FREE char *strict = text_format("%s; t=s", record);
  CLEANUP_FREE char *below =
      sign_with(key, &ordinary, TAGS_ED "h=From:To; i=@m.example.com; " HASHES, "From:To", false);
  CLEANUP_FREE char *same = sign_with(key, &ordinary, TAGS_ED "h=From:To; i=@EXAMPLE.com; " HASHES, "From:To", false);
  assert_verdict(&ordinary, below, record, DKIM_VALID, "");
  assert_verdict(&ordinary, below, strict, DKIM_IDENTITY, "t=s");
  assert_verdict(&ordinary, same, strict, DKIM_VALID, "");
}

static void test_dkim_signature__odd_messages_verify(void **state) {
  (void)state;
  static const struct letter letters[] = {
      {{"From: a@example.com"}, 1, ""},
      {{"From: a@example.com"}, 1, "\r\n"},
      {{"From: a@example.com"}, 1, "\r\n\r\n \t\r\n"},
      {{"From: a@example.com"}, 1, "no end"},
      {{"From: a@example.com"}, 1, " \t "},
      {{"From: a@example.com"}, 1, "a\r\n\r\n\r\nb\r\n\r\n"},
      {{"From: a@example.com", "To:", "To: ", "to:x", "TO :y"}, 5, "x\r\n"},
      {{"From:\r\n a@example.com\r\n ", "To:\t\tx\t\ty\t"}, 2, "x\r\n"},
      {{"To: first", "From: a@example.com", "To: second", "To: third"}, 4, "x\r\n"},
  };
  for (size_t i = 0; i < ARRAY_SIZE(letters); i++)
    for (int relaxed = 0; relaxed < 2; relaxed++) {
      EVP_PKEY *key = dkim_signer_key(true, 0);
      CLEANUP_FREE char *record = dkim_signer_record(key);
      CLEANUP_FREE char *signature = sign_with(key, &letters[i],
                                               relaxed ? TAGS_ED "c=relaxed/relaxed; h=From:To:To:X:From; " HASHES
                                                       : TAGS_ED "h=From:To:To:X:From; " HASHES,
                                               "From:To:To:X:From", relaxed);
      assert_verdict(&letters[i], signature, record, DKIM_VALID, "");
    }
}

/* Fields of one name are signed from the bottom up, so one that is added above them later is not covered, and one below
 * them breaks the signature (RFC 6376 5.4.2). */
static void test_dkim_signature__fields_of_one_name_are_taken_from_the_bottom(void **state) {
  (void)state;
  const struct letter two = {{"Received: 1", "Received: 2", "From: a@example.com"}, 3, ""};
  const struct letter above = {{"Received: 0", "Received: 1", "Received: 2", "From: a@example.com"}, 4, ""};
  const struct letter below = {{"Received: 1", "Received: 2", "From: a@example.com", "Received: 3"}, 4, ""};
  EVP_PKEY *key = dkim_signer_key(false, 0);
  CLEANUP_FREE char *record = dkim_signer_record(key);
  CLEANUP_FREE char *signature =
      sign_with(key, &two, TAGS_RSA "h=Received:From:Received; " HASHES, "Received:From:Received", false);
  CLEANUP_FREE char *sealed = sign_with(key, &two, TAGS_RSA "h=Received:From:Received:Received; " HASHES,
                                        "Received:From:Received:Received", false);
  assert_verdict(&two, signature, record, DKIM_VALID, "");
  assert_verdict(&above, signature, record, DKIM_VALID, "");
  assert_verdict(&below, signature, record, DKIM_HEADER_DIFFERS, "");
  assert_verdict(&two, sealed, record, DKIM_VALID, "");
  assert_verdict(&above, sealed, record, DKIM_HEADER_DIFFERS, "");
}

static void test_dkim_signature__sizes_are_bounded(void **state) {
  (void)state;
  EVP_PKEY *key = dkim_signer_key(true, 0);
  CLEANUP_FREE char *record = dkim_signer_record(key);
  CLEANUP_FREE char *signature =
      dkim_signer_sign_plainly(key, "example.com", "sel", ordinary.fields, ordinary.field_count, ordinary.body);
  struct letter many = ordinary;
  struct error error = {0};
  for (many.field_count = 0; many.field_count < FIELDS_MAX; many.field_count++) many.fields[many.field_count] = "X: y";
  assert_int_equal(verify(&many, signature, record, NOW, &error), DKIM_FAILED);
  assert_int_equal(error.code, ERROR_LIMIT);
  CLEANUP_FREE char *large = malloc(DKIM_CONTENT_MAX + 3);
  memset(large, 'x', DKIM_CONTENT_MAX + 2);
  large[DKIM_CONTENT_MAX + 2] = '\0';
  struct letter long_body = ordinary;
  long_body.body = large;
  assert_int_equal(verify(&long_body, signature, record, NOW, &error), DKIM_FAILED);
  assert_int_equal(error.code, ERROR_LIMIT);
  large[DKIM_SIGNATURE_MAX + 1] = '\0';
  assert_int_equal(verify(&ordinary, large, record, NOW, &error), DKIM_MALFORMED);
  CLEANUP_FREE char *names = calloc(1, DKIM_SIGNATURE_MAX);
  for (int i = 0; i <= DKIM_FIELDS_MAX; i++) memcpy(names + i * 2, "x:", 2);
  CLEANUP_FREE char *many_names = text_format(TAGS_ED "h=%sFrom; bh=AAAA; b=AAAA", names);
  assert_verdict(&ordinary, many_names, record, DKIM_MALFORMED, "more than");
}

/* Whatever stands in one octet, the verdict is one of the list, and only what RFC 6376 does not cover leaves it valid. */
static void test_dkim_signature__every_octet_of_the_signature_matters(void **state) {
  (void)state;
  EVP_PKEY *key = dkim_signer_key(true, 0);
  CLEANUP_FREE char *record = dkim_signer_record(key);
  CLEANUP_FREE char *signature = sign_with(key, &ordinary, TAGS_ED "h=From:To; bh=@BH@; b=@B@;", "From:To", false);
  const char *value = strstr(signature, " b=") + 3;
  for (char *p = signature; *p; p++) {
    const char kept = *p;
    *p = kept == 'A' ? 'B' : 'A';
    struct error error = {0};
    /* The last letters before "==" carry bits that no octet holds. */
    const bool idle = p > value && (p[1] == '=' || p[2] == '=');
    if (verify(&ordinary, signature, record, NOW, &error) == DKIM_VALID && !idle)
      fail_msg("valid with octet %zu changed: %s", (size_t)(p - signature), signature);
    *p = kept;
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_dkim_signature__all_canonicalizations_and_algorithms_verify),
      cmocka_unit_test(test_dkim_signature__example_of_rfc_8463_verifies),
      cmocka_unit_test(test_dkim_signature__what_changed_is_named),
      cmocka_unit_test(test_dkim_signature__small_rsa_keys_are_refused),
      cmocka_unit_test(test_dkim_signature__tags_are_judged_though_the_signature_is_good),
      cmocka_unit_test(test_dkim_signature__record_with_t_s_binds_the_identity),
      cmocka_unit_test(test_dkim_signature__odd_messages_verify),
      cmocka_unit_test(test_dkim_signature__fields_of_one_name_are_taken_from_the_bottom),
      cmocka_unit_test(test_dkim_signature__sizes_are_bounded),
      cmocka_unit_test(test_dkim_signature__every_octet_of_the_signature_matters),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
