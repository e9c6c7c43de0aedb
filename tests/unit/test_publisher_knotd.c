/* The RFC 2136 publisher against the real knotd (Knot DNS). */
#include "publish_rig.h"

#include <stdlib.h>

#include "dkimroll/entropy.h"

static struct server knotd;

#define ZONE                                                                                                           \
  "@ 60 SOA ns1 hostmaster 1 3600 600 86400 60\n@ 60 NS ns1\nns1 60 A 127.0.0.1\n"                                     \
  "foreign._domainkey 60 TXT \"v=DKIM1; k=rsa; p=SomeoneElse\"\n"                                                      \
  "alias._domainkey 60 CNAME dkim.provider.example.\n"                                                                 \
  "cut._domainkey 60 TXT \"v=DKIM1; \" \"k=rsa; \" \"p=AAAA\"\n"                                                       \
  "*.wild._domainkey 60 TXT \"v=DKIM1; p=everybody\"\n"

static const char CONFIG[] =
    "key:\n"
    "  - id: dkimroll\n    algorithm: hmac-sha256\n    secret: " RIG_SECRET "\n"
    "  - id: reader\n    algorithm: hmac-sha256\n    secret: " RIG_SECRET "\n"
    "  - id: unused\n    algorithm: hmac-sha256\n    secret: " RIG_SECRET "\n"
    "  - id: narrow\n    algorithm: hmac-sha256\n    secret: " RIG_SECRET "\n"
    "  - id: middle\n    algorithm: hmac-sha384\n    secret: " RIG_SECRET "\n"
    "  - id: long\n    algorithm: hmac-sha512\n    secret: " RIG_SECRET "\n"
    "acl:\n"
    "  - id: dkim\n    key: [dkimroll, middle, long]\n    action: update\n    update-type: [TXT]\n    update-owner: name\n"
    "    update-owner-match: sub\n    update-owner-name: [_domainkey]\n"
    "  - id: transfer\n    key: reader\n    action: transfer\n"
    "  - id: address\n    key: narrow\n    action: update\n    update-type: [A]\n"
    "zone:\n"
    "  - domain: example.com\n    file: example.com.zone\n    acl: [dkim, transfer, address]\n"
    "  - domain: static.example\n    file: static.example.zone\n"
    "  - domain: signed.example\n    file: signed.example.zone\n    acl: dkim\n    dnssec-signing: on\n";

static int start_knotd(void **state) {
  (void)state;
  const struct server_setup setup = {
      .kind = SERVER_KNOTD,
      .config = CONFIG,
      .files = {{"example.com.zone", ZONE}, {"static.example.zone", ZONE}, {"signed.example.zone", ZONE}},
      .zone = "signed.example",
  };
  server_start(&knotd, &setup);
  return 0;
}

static int stop_knotd(void **state) {
  (void)state;
  server_stop(&knotd);
  return 0;
}

static void publish_one(const char *zone, const char *key, int64_t shift, const char *name, struct rig *rig) {
  const struct publish_item item = {.change = PUBLISH_ADD, .name = name, .record = "v=DKIM1; p=AAAA", .ttl = 60};
  rig_open(rig, knotd.text, zone, key);
  rig->loop.shift = shift;
  rig_publish(rig, &item, 1);
}

static void test_publisher_knotd__adds_replaces_and_deletes_many_records(void **state) {
  (void)state;
  enum { COUNT = 300 };
  struct rig rig;
  CLEANUP_FREE struct rig_many *many = rig_many_new(COUNT, "example.com");
  rig_open(&rig, knotd.text, "example.com", RIG_KEY);
  rig_publish(&rig, many->items, COUNT);
  rig_assert_all(&rig, false);
  assert_true(rig.transport.updates <= 10);
  assert_true(rig.results[0].attested);
  rig_assert_text(&knotd, many->names[COUNT - 1], many->records[COUNT - 1]);

  rig.transport.updates = 0;
  rig_publish(&rig, many->items, COUNT);
  rig_assert_all(&rig, true);
  assert_int_equal(rig.transport.updates, 0);

  rig_many_replace(many, COUNT);
  rig_publish(&rig, many->items, COUNT);
  rig_assert_all(&rig, false);
  rig_assert_text(&knotd, many->names[150], many->replacements[150]);

  rig_many_delete(many, COUNT);
  rig_publish(&rig, many->items, COUNT);
  rig_assert_all(&rig, false);
  rig_assert_text(&knotd, many->names[150], NULL);
  rig_publish(&rig, many->items, COUNT);
  rig_assert_all(&rig, true);
  rig_close(&rig);
}

static void test_publisher_knotd__what_others_wrote_stays(void **state) {
  (void)state;
  const struct publish_item items[] = {
      {.change = PUBLISH_ADD, .name = "foreign._domainkey.example.com", .record = "v=DKIM1; p=Mine", .ttl = 60},
      {.change = PUBLISH_ADD, .name = "alias._domainkey.example.com", .record = "v=DKIM1; p=Mine", .ttl = 60},
      {.change = PUBLISH_ADD, .name = "s.wild._domainkey.example.com", .record = "v=DKIM1; p=Mine", .ttl = 60},
      {.change = PUBLISH_REPLACE,
       .name = "cut._domainkey.example.com",
       .record = "v=DKIM1; k=rsa; p=",
       .record_before = "v=DKIM1; k=rsa; p=AAAA",
       .ttl = 60},
  };
  struct rig rig;
  rig_open(&rig, knotd.text, "example.com", RIG_KEY);
  rig_publish(&rig, items, ARRAY_SIZE(items));
  rig_assert_failure(&rig, 0, ERROR_CONFLICT, "p=SomeoneElse");
  rig_assert_failure(&rig, 1, ERROR_CONFLICT, "a CNAME to dkim.provider.example stands at");
  rig_assert_success(&rig, 2, false);
  rig_assert_success(&rig, 3, false);
  rig_assert_text(&knotd, "foreign._domainkey.example.com", "v=DKIM1; k=rsa; p=SomeoneElse");
  rig_assert_text(&knotd, "cut._domainkey.example.com", "v=DKIM1; k=rsa; p=");
  rig_close(&rig);
}

static void test_publisher_knotd__wrong_secret(void **state) {
  (void)state;
  struct rig rig;
  publish_one("example.com", "hmac-sha256:dkimroll:d3JvbmcgLSB3cm9uZyAtIHdyb25nIC0gd3Jvbmch", 0,
              "w._domainkey.example.com", &rig);
  rig_assert_failure(&rig, 0, ERROR_REFUSED, "BADSIG: its secret of key dkimroll is another than ours");
  assert_false(rig.results[0].attested);
  rig_close(&rig);
}

static void test_publisher_knotd__unknown_key(void **state) {
  (void)state;
  struct rig rig;
  publish_one("example.com", "hmac-sha256:nobody:" RIG_SECRET, 0, "w._domainkey.example.com", &rig);
  rig_assert_failure(&rig, 0, ERROR_REFUSED, "BADKEY: it does not know key nobody");
  rig_close(&rig);
}

static void test_publisher_knotd__wrong_algorithm(void **state) {
  (void)state;
  struct rig rig;
  publish_one("example.com", "hmac-sha512:dkimroll:" RIG_SECRET, 0, "w._domainkey.example.com", &rig);
  rig_assert_failure(&rig, 0, ERROR_REFUSED, "with this name and algorithm");
  rig_close(&rig);
}

static void test_publisher_knotd__other_algorithms_work(void **state) {
  (void)state;
  static const char *const keys[] = {"hmac-sha384:middle:" RIG_SECRET, "hmac-sha512:long:" RIG_SECRET};
  for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
    struct rig rig;
    publish_one("example.com", keys[i], 0, i ? "long._domainkey.example.com" : "middle._domainkey.example.com", &rig);
    rig_assert_success(&rig, 0, false);
    assert_true(rig.results[0].attested);
    rig_close(&rig);
  }
}

static void test_publisher_knotd__our_clock_is_wrong(void **state) {
  (void)state;
  struct rig rig;
  publish_one("example.com", RIG_KEY, -7200, "w._domainkey.example.com", &rig);
  rig_assert_failure(&rig, 0, ERROR_REFUSED, "BADTIME: the clocks differ: the server has ");
  rig_assert_failure(&rig, 0, ERROR_REFUSED, "behind; allowed are 300 seconds");
  assert_false(rig.results[0].attested);
  rig_close(&rig);
}

/* Knot says NOTAUTH with BADKEY, unsigned, where an acl is what is missing: the message must name both. */
static void test_publisher_knotd__the_acl_does_not_allow_the_key(void **state) {
  (void)state;
  static const char *const keys[] = {"hmac-sha256:unused:" RIG_SECRET, "hmac-sha256:reader:" RIG_SECRET,
                                     "hmac-sha256:narrow:" RIG_SECRET};
  for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
    struct rig rig;
    publish_one("example.com", keys[i], 0, "w._domainkey.example.com", &rig);
    rig_assert_failure(&rig, 0, ERROR_REFUSED, "it does not know key ");
    rig_assert_failure(&rig, 0, ERROR_REFUSED, "or (Knot) no acl of zone example.com lets this key change");
    rig_assert_failure(&rig, 0, ERROR_REFUSED, "update-owner-match: sub, update-owner-name: [_domainkey]");
    rig_close(&rig);
  }
}

static void test_publisher_knotd__a_zone_that_is_not_dynamic(void **state) {
  (void)state;
  struct rig rig;
  publish_one("static.example", RIG_KEY, 0, "s._domainkey.static.example", &rig);
  rig_assert_failure(&rig, 0, ERROR_REFUSED, "no acl of zone static.example lets this key change");
  rig_close(&rig);
}

static void test_publisher_knotd__a_zone_that_it_does_not_serve(void **state) {
  (void)state;
  struct rig rig;
  publish_one("elsewhere.example", RIG_KEY, 0, "s._domainkey.elsewhere.example", &rig);
  assert_int_equal(rig.results[0].error.code, ERROR_REFUSED);
  assert_non_null(strstr(rig.results[0].error.message, "elsewhere.example"));
  rig_close(&rig);
}

/* Knot refuses the whole message for one name beyond the acl. */
static void test_publisher_knotd__one_refused_record_does_not_stop_the_others(void **state) {
  (void)state;
  enum { COUNT = 12, BAD = 5 };
  struct rig rig;
  CLEANUP_FREE struct rig_many *many = rig_many_new(COUNT, "example.com");
  for (size_t i = 0; i < COUNT; i++)
    snprintf(many->names[i], sizeof many->names[i], i == BAD ? "b%zu.dkim.example.com" : "b%zu._domainkey.example.com",
             i);
  rig_open(&rig, knotd.text, "example.com", RIG_KEY);
  rig_publish(&rig, many->items, COUNT);
  for (size_t i = 0; i < COUNT; i++) {
    if (i == BAD)
      rig_assert_failure(&rig, i, ERROR_REFUSED, "update-owner-name: [dkim]");
    else
      rig_assert_success(&rig, i, false);
  }
  rig_close(&rig);
}

static void test_publisher_knotd__a_signed_zone(void **state) {
  (void)state;
  enum { COUNT = 20 };
  struct rig rig;
  CLEANUP_FREE struct rig_many *many = rig_many_new(COUNT, "signed.example");
  rig_open(&rig, knotd.text, "signed.example", RIG_KEY);
  rig_publish(&rig, many->items, COUNT);
  rig_assert_all(&rig, false);
  rig_assert_text(&knotd, many->names[3], many->records[3]);
  rig_close(&rig);
}

static void test_publisher_knotd__reply_lost_after_the_update_was_applied(void **state) {
  (void)state;
  enum { COUNT = 150 };
  struct rig rig;
  CLEANUP_FREE struct rig_many *many = rig_many_new(COUNT, "example.com");
  for (size_t i = 0; i < COUNT; i++) snprintf(many->names[i], sizeof many->names[i], "l%zu._domainkey.example.com", i);
  rig_open(&rig, knotd.text, "example.com", RIG_KEY);
  rig.transport.lose = 1;
  rig_publish(&rig, many->items, COUNT);
  assert_int_equal(rig.transport.lose, 0);
  rig_assert_all(&rig, false);
  assert_int_equal(rig.transport.updates, 2);
  rig_close(&rig);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_publisher_knotd__adds_replaces_and_deletes_many_records),
      cmocka_unit_test(test_publisher_knotd__what_others_wrote_stays),
      cmocka_unit_test(test_publisher_knotd__wrong_secret),
      cmocka_unit_test(test_publisher_knotd__unknown_key),
      cmocka_unit_test(test_publisher_knotd__wrong_algorithm),
      cmocka_unit_test(test_publisher_knotd__other_algorithms_work),
      cmocka_unit_test(test_publisher_knotd__our_clock_is_wrong),
      cmocka_unit_test(test_publisher_knotd__the_acl_does_not_allow_the_key),
      cmocka_unit_test(test_publisher_knotd__a_zone_that_is_not_dynamic),
      cmocka_unit_test(test_publisher_knotd__a_zone_that_it_does_not_serve),
      cmocka_unit_test(test_publisher_knotd__one_refused_record_does_not_stop_the_others),
      cmocka_unit_test(test_publisher_knotd__a_signed_zone),
      cmocka_unit_test(test_publisher_knotd__reply_lost_after_the_update_was_applied),
  };
  return cmocka_run_group_tests(tests, start_knotd, stop_knotd);
}
