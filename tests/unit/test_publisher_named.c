/* The RFC 2136 publisher against the real named (BIND 9). */
#include "publish_rig.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "dkimroll/entropy.h"

static struct server named;

#define ZONE_HEAD "$TTL 60\n@ SOA ns1 hostmaster 1 3600 600 86400 60\n@ NS ns1\nns1 A 127.0.0.1\n"
#define GRANT(zone) "update-policy { grant dkimroll wildcard *._domainkey." zone " TXT; };"
#define PRIMARY(zone, rest) "zone \"" zone "\" { type primary; file \"" zone ".zone\"; " rest " };\n"

static const char CONFIG[] = "key \"dkimroll\" { algorithm hmac-sha256; secret \"" RIG_SECRET "\"; };\n"
                             "key \"other\" { algorithm hmac-sha256; secret \"" RIG_SECRET "\"; };\n"
                             "key \"long\" { algorithm hmac-sha512; secret \"" RIG_SECRET "\"; };\n"

    PRIMARY("example.com", GRANT("example.com"))
        PRIMARY("sha512.example", "update-policy { grant long wildcard *._domainkey.sha512.example TXT; };")
            PRIMARY("delegated.example", GRANT("delegated.example")) PRIMARY("static.example", "")
                PRIMARY("open.example", "allow-update { 127.0.0.0/8; };")
                    PRIMARY("inline.example", GRANT("inline.example") " dnssec-policy default; inline-signing yes;");

static const char EXAMPLE_ZONE[] = ZONE_HEAD "foreign._domainkey TXT \"v=DKIM1; k=rsa; p=SomeoneElse\"\n"
                                             "pair._domainkey TXT \"one\"\npair._domainkey TXT \"two\"\n"
                                             "alias._domainkey CNAME dkim.provider.example.\n"
                                             "cut._domainkey TXT \"v=DKIM1; \" \"k=rsa; \" \"p=AAAA\"\n"
                                             "*.wild._domainkey TXT \"v=DKIM1; p=everybody\"\n"
                                             "_domainkey.customer DNAME _domainkey.delegated.example.\n"
                                             "child NS ns.child\nns.child A 127.0.0.1\n";

static int start_named(void **state) {
  (void)state;
  const struct server_setup setup = {
      .kind = SERVER_NAMED,
      .config = CONFIG,
      .files = {{"example.com.zone", EXAMPLE_ZONE},
                {"sha512.example.zone", ZONE_HEAD},
                {"static.example.zone", ZONE_HEAD},
                {"delegated.example.zone", ZONE_HEAD},
                {"open.example.zone", ZONE_HEAD},
                {"inline.example.zone", ZONE_HEAD}},
      .zone = "inline.example",
  };
  server_start(&named, &setup);
  return 0;
}

static int stop_named(void **state) {
  (void)state;
  server_stop(&named);
  return 0;
}

static void publish_one(const char *zone, const char *key, int64_t shift, const char *name, struct rig *rig) {
  const struct publish_item item = {.change = PUBLISH_ADD, .name = name, .record = "v=DKIM1; p=AAAA", .ttl = 60};
  rig_open(rig, named.text, zone, key);
  rig->loop.shift = shift;
  rig_publish(rig, &item, 1);
}

static void test_publisher_named__adds_replaces_and_deletes_many_records(void **state) {
  (void)state;
  enum { COUNT = 300 };
  struct rig rig;
  CLEANUP_FREE struct rig_many *many = rig_many_new(COUNT, "example.com");
  rig_open(&rig, named.text, "example.com", RIG_KEY);
  rig_publish(&rig, many->items, COUNT);
  rig_assert_all(&rig, false);
  assert_true(rig.transport.updates <= 10);
  rig_assert_text(&named, many->names[0], many->records[0]);
  rig_assert_text(&named, many->names[COUNT - 1], many->records[COUNT - 1]);
  assert_string_equal(rig.results[7].owner, many->names[7]);
  assert_string_equal(rig.results[7].zone, "example.com");
  assert_string_equal(rig.results[7].primary_server, named.text);
  assert_true(rig.results[7].attested);

  rig.transport.updates = 0;
  rig_publish(&rig, many->items, COUNT);
  rig_assert_all(&rig, true);
  assert_int_equal(rig.transport.updates, 0);

  rig_many_replace(many, COUNT);
  rig_publish(&rig, many->items, COUNT);
  rig_assert_all(&rig, false);
  rig_assert_text(&named, many->names[150], many->replacements[150]);
  rig_publish(&rig, many->items, COUNT);
  rig_assert_all(&rig, true);

  rig_many_delete(many, COUNT);
  rig_publish(&rig, many->items, COUNT);
  rig_assert_all(&rig, false);
  rig_assert_text(&named, many->names[150], NULL);
  rig_publish(&rig, many->items, COUNT);
  rig_assert_all(&rig, true);
  rig_close(&rig);
}

static void test_publisher_named__what_others_wrote_stays(void **state) {
  (void)state;
  const struct publish_item items[] = {
      {.change = PUBLISH_ADD, .name = "foreign._domainkey.example.com", .record = "v=DKIM1; p=Mine", .ttl = 60},
      {.change = PUBLISH_ADD, .name = "alias._domainkey.example.com", .record = "v=DKIM1; p=Mine", .ttl = 60},
      {.change = PUBLISH_ADD, .name = "pair._domainkey.example.com", .record = "v=DKIM1; p=Mine", .ttl = 60},
      {.change = PUBLISH_DELETE, .name = "Pair._domainkey.example.com.", .record_before = "one", .zone = "example.com"},
      {.change = PUBLISH_ADD, .name = "free._domainkey.example.com", .record = "v=DKIM1; p=Mine", .ttl = 60},
      {.change = PUBLISH_REPLACE, .name = "gone._domainkey.example.com", .record = "new", .record_before = "old", .ttl = 60},
  };
  struct rig rig;
  rig_open(&rig, named.text, "example.com", RIG_KEY);
  rig_publish(&rig, items, ARRAY_SIZE(items));
  rig_assert_failure(&rig, 0, ERROR_CONFLICT, "another TXT record stands at foreign._domainkey.example.com");
  rig_assert_failure(&rig, 0, ERROR_CONFLICT, "p=SomeoneElse");
  rig_assert_failure(&rig, 1, ERROR_CONFLICT, "a CNAME to dkim.provider.example stands at");
  rig_assert_failure(&rig, 2, ERROR_CONFLICT, "2 TXT records");
  assert_int_equal(rig.results[3].error.code, ERROR_BUSY); /* the same name twice in one operation */
  rig_assert_success(&rig, 4, false);
  rig_assert_success(&rig, 5, false);
  rig_assert_text(&named, "gone._domainkey.example.com", "new");
  rig_publish(&rig, &items[3], 1);
  rig_assert_failure(&rig, 0, ERROR_CONFLICT, "ours and others");
  rig_assert_text(&named, "foreign._domainkey.example.com", "v=DKIM1; k=rsa; p=SomeoneElse");
  CLEANUP_FREE char *text = NULL;
  assert_int_equal(rig_texts(&named, "pair._domainkey.example.com", &text), 2);
  rig_close(&rig);
}

static void test_publisher_named__a_record_with_other_strings_is_replaced_and_deleted(void **state) {
  (void)state;
  struct publish_item item = {.change = PUBLISH_REPLACE,
                              .name = "cut._domainkey.example.com",
                              .record = "v=DKIM1; k=rsa; p=",
                              .record_before = "v=DKIM1; k=rsa; p=AAAA",
                              .ttl = 60};
  struct rig rig;
  rig_open(&rig, named.text, "example.com", RIG_KEY);
  rig_publish(&rig, &item, 1);
  rig_assert_success(&rig, 0, false);
  rig_assert_text(&named, item.name, item.record);
  rig_close(&rig);
}

static void test_publisher_named__a_wildcard_does_not_count_as_foreign(void **state) {
  (void)state;
  struct publish_item item = {
      .change = PUBLISH_ADD, .name = "s.wild._domainkey.example.com", .record = "v=DKIM1; p=Mine", .ttl = 60};
  struct rig rig;
  rig_open(&rig, named.text, "example.com", RIG_KEY);
  rig_publish(&rig, &item, 1);
  rig_assert_success(&rig, 0, false);
  rig_assert_text(&named, item.name, item.record);
  item = (struct publish_item){.change = PUBLISH_DELETE, .name = item.name, .record_before = item.record};
  rig_publish(&rig, &item, 1);
  rig_assert_success(&rig, 0, false);
  rig_assert_text(&named, item.name, "v=DKIM1; p=everybody");
  rig_close(&rig);
}

static void test_publisher_named__the_zone_is_discovered(void **state) {
  (void)state;
  const struct publish_item items[] = {
      {.change = PUBLISH_ADD, .name = "d._domainkey.example.com", .record = "v=DKIM1; p=AAAA", .ttl = 60},
      {.change = PUBLISH_ADD, .name = "d._domainkey.customer.example.com", .record = "v=DKIM1; p=BBBB", .ttl = 60},
      {.change = PUBLISH_ADD, .name = "d._domainkey.inline.example", .record = "v=DKIM1; p=CCCC", .ttl = 60},
  };
  struct rig rig;
  char *servers[] = {named.text};
  rig_open(&rig, named.text, NULL, RIG_KEY);
  rig.policy.servers = servers; /* nobody above delegates these zones */
  rig.policy.server_count = 1;
  rig_publish(&rig, items, ARRAY_SIZE(items));
  rig_assert_all(&rig, false);
  assert_string_equal(rig.results[0].zone, "example.com");
  assert_string_equal(rig.results[1].zone, "delegated.example"); /* behind the DNAME */
  assert_string_equal(rig.results[1].owner, "d._domainkey.delegated.example");
  assert_string_equal(rig.results[2].zone, "inline.example");
  for (size_t i = 0; i < ARRAY_SIZE(items); i++) assert_int_equal(rig.results[i].ttl_negative, 60);
  assert_int_equal(rig.results[1].ttl_alias, 60);
  rig_assert_text(&named, "d._domainkey.delegated.example", "v=DKIM1; p=BBBB");
  rig_close(&rig);
}

static void test_publisher_named__wrong_secret(void **state) {
  (void)state;
  struct rig rig;
  publish_one("example.com", "hmac-sha256:dkimroll:d3JvbmcgLSB3cm9uZyAtIHdyb25nIC0gd3Jvbmch", 0,
              "w._domainkey.example.com", &rig);
  rig_assert_failure(&rig, 0, ERROR_REFUSED, "BADSIG: its secret of key dkimroll is another than ours");
  assert_false(rig.results[0].attested);
  rig_close(&rig);
}

static void test_publisher_named__unknown_key(void **state) {
  (void)state;
  struct rig rig;
  publish_one("example.com", "hmac-sha256:nobody:" RIG_SECRET, 0, "w._domainkey.example.com", &rig);
  rig_assert_failure(&rig, 0, ERROR_REFUSED, "BADKEY: it does not know key nobody");
  rig_assert_failure(&rig, 0, ERROR_REFUSED,
                     "update-policy { grant nobody. wildcard *._domainkey.example.com. TXT; };");
  rig_close(&rig);
}

static void test_publisher_named__wrong_algorithm(void **state) {
  (void)state;
  struct rig rig;
  publish_one("example.com", "hmac-sha512:dkimroll:" RIG_SECRET, 0, "w._domainkey.example.com", &rig);
  rig_assert_failure(&rig, 0, ERROR_REFUSED, "with this name and algorithm");
  rig_close(&rig);
}

static void test_publisher_named__other_algorithm_works(void **state) {
  (void)state;
  struct rig rig;
  publish_one("sha512.example", "hmac-sha512:long:" RIG_SECRET, 0, "s._domainkey.sha512.example", &rig);
  rig_assert_success(&rig, 0, false);
  rig_close(&rig);
}

static void test_publisher_named__our_clock_is_ahead(void **state) {
  (void)state;
  struct rig rig;
  publish_one("example.com", RIG_KEY, 7200, "w._domainkey.example.com", &rig);
  rig_assert_failure(&rig, 0, ERROR_REFUSED, "BADTIME");
  rig_assert_failure(&rig, 0, ERROR_REFUSED, " ahead; allowed are 300 seconds");
  /* Seconds may pass on the way. */
  assert_true(strstr(rig.results[0].error.message, " 2h ahead") || strstr(rig.results[0].error.message, " 1h59m"));
  assert_true(rig.results[0].error.retryable);
  assert_false(rig.results[0].attested);
  rig_close(&rig);
}

static void test_publisher_named__our_clock_is_behind(void **state) {
  (void)state;
  struct rig rig;
  publish_one("example.com", RIG_KEY, -7200, "w._domainkey.example.com", &rig);
  rig_assert_failure(&rig, 0, ERROR_REFUSED, "behind; allowed are 300 seconds");
  assert_true(rig.results[0].clock_known && llabs((long long)rig.results[0].clock_skew - 7200) <= 60);
  rig_close(&rig);
}

static void test_publisher_named__a_clock_a_little_off_is_fine(void **state) {
  (void)state;
  struct rig rig;
  publish_one("example.com", RIG_KEY, 250, "little._domainkey.example.com", &rig);
  rig_assert_success(&rig, 0, false);
  assert_true(rig.results[0].attested);
  /* Signed by the second. */
  assert_true(rig.results[0].clock_known && llabs((long long)rig.results[0].clock_skew + 250) <= 40);
  rig_close(&rig);
}

static void test_publisher_named__a_key_without_rights_is_refused(void **state) {
  (void)state;
  struct rig rig;
  publish_one("example.com", "hmac-sha256:other:" RIG_SECRET, 0, "w._domainkey.example.com", &rig);
  rig_assert_failure(&rig, 0, ERROR_REFUSED, "REFUSED: it does not allow key other");
  rig_assert_failure(&rig, 0, ERROR_REFUSED, "update-policy { grant other. wildcard *._domainkey.example.com. TXT; };");
  rig_assert_failure(&rig, 0, ERROR_REFUSED, "update-owner-name: [_domainkey]");
  assert_true(rig.results[0].attested);
  rig_close(&rig);
}

/* One name beyond the update-policy spoils a message; the others get through. */
static void test_publisher_named__one_refused_record_does_not_stop_the_others(void **state) {
  (void)state;
  enum { COUNT = 60, BAD = 23 };
  struct rig rig;
  CLEANUP_FREE struct rig_many *many = rig_many_new(COUNT, "sub.example.com");
  for (size_t i = 0; i < COUNT; i++)
    snprintf(many->names[i], sizeof many->names[i],
             i == BAD ? "b%zu._domainkey.sub.example.com" : "b%zu._domainkey.example.com", i);
  rig_open(&rig, named.text, "example.com", RIG_KEY);
  rig_publish(&rig, many->items, COUNT);
  for (size_t i = 0; i < COUNT; i++) {
    if (i == BAD)
      rig_assert_failure(&rig, i, ERROR_REFUSED, "grant dkimroll. wildcard *._domainkey.sub.example.com. TXT;");
    else
      rig_assert_success(&rig, i, false);
  }
  assert_true(rig.transport.updates < 20); /* not one message for each */
  rig_close(&rig);
}

static void test_publisher_named__a_zone_that_is_not_dynamic(void **state) {
  (void)state;
  struct rig rig;
  publish_one("static.example", RIG_KEY, 0, "s._domainkey.static.example", &rig);
  rig_assert_failure(&rig, 0, ERROR_REFUSED, "or zone static.example is not dynamic there");
  rig_close(&rig);
}

static void test_publisher_named__a_zone_that_it_does_not_serve(void **state) {
  (void)state;
  struct rig rig;
  publish_one("elsewhere.example", RIG_KEY, 0, "s._domainkey.elsewhere.example", &rig);
  rig_assert_failure(&rig, 0, ERROR_REFUSED, "it does not serve zone elsewhere.example");
  rig_close(&rig);
}

static void test_publisher_named__a_name_that_is_delegated_further(void **state) {
  (void)state;
  struct rig rig;
  publish_one("example.com", RIG_KEY, 0, "s._domainkey.child.example.com", &rig);
  rig_assert_failure(&rig, 0, ERROR_REFUSED, "without authority");
  rig_close(&rig);
}

static void test_publisher_named__unsigned_updates_where_the_server_allows_them(void **state) {
  (void)state;
  struct rig rig;
  publish_one("open.example", NULL, 0, "s._domainkey.open.example", &rig);
  rig_assert_success(&rig, 0, false);
  assert_false(rig.results[0].attested);
  assert_false(rig.results[0].clock_known);
  rig_close(&rig);
  publish_one("example.com", NULL, 0, "w._domainkey.example.com", &rig);
  rig_assert_failure(&rig, 0, ERROR_REFUSED, "The publisher has no tsig-file:");
  rig_close(&rig);
}

static void test_publisher_named__an_inline_signed_zone_shows_the_record_in_the_end(void **state) {
  (void)state;
  enum { COUNT = 20 };
  struct rig rig;
  CLEANUP_FREE struct rig_many *many = rig_many_new(COUNT, "inline.example");
  rig_open(&rig, named.text, "inline.example", RIG_KEY);
  rig_publish(&rig, many->items, COUNT);
  rig_assert_all(&rig, false);
  rig_assert_text(&named, many->names[3], many->records[3]);
  struct message *answer = rig_ask(&named, many->names[3], DNS_TYPE_TXT);
  size_t signatures = 0;
  for (size_t i = 0; i < answer->record_count; i++) signatures += answer->records[i].type == DNS_TYPE_RRSIG;
  message_free(answer);
  assert_true(signatures > 0);
  rig_many_replace(many, COUNT);
  rig_publish(&rig, many->items, COUNT);
  rig_assert_all(&rig, false);
  rig_close(&rig);
}

static void test_publisher_named__reply_lost_after_the_update_was_applied(void **state) {
  (void)state;
  enum { COUNT = 150 };
  struct rig rig;
  CLEANUP_FREE struct rig_many *many = rig_many_new(COUNT, "lost.example.com");
  for (size_t i = 0; i < COUNT; i++) snprintf(many->names[i], sizeof many->names[i], "l%zu._domainkey.example.com", i);
  rig_open(&rig, named.text, "example.com", RIG_KEY);
  rig.transport.lose = 1;
  rig_publish(&rig, many->items, COUNT);
  assert_int_equal(rig.transport.lose, 0);
  rig_assert_all(&rig, false);
  assert_int_equal(rig.transport.updates, 2); /* the lost one was looked at and not sent again */
  rig_close(&rig);
}

static void test_publisher_named__forged_replies_move_nothing(void **state) {
  (void)state;
  const struct publish_item items[] = {
      {.change = PUBLISH_ADD, .name = "f1._domainkey.example.com", .record = "v=DKIM1; p=AAAA", .ttl = 60},
      {.change = PUBLISH_ADD, .name = "foreign._domainkey.example.com", .record = "v=DKIM1; p=AAAA", .ttl = 60},
      {.change = PUBLISH_ADD, .name = "f1._domainkey.sub.example.com", .record = "v=DKIM1; p=AAAA", .ttl = 60},
  };
  struct rig rig;
  rig_open(&rig, named.text, "example.com", RIG_KEY);
  rig.transport.forge = true;
  rig_publish(&rig, items, ARRAY_SIZE(items));
  rig_assert_success(&rig, 0, false);
  rig_assert_failure(&rig, 1, ERROR_CONFLICT, "p=SomeoneElse");
  rig_assert_failure(&rig, 2, ERROR_REFUSED, "REFUSED: it does not allow key dkimroll");
  rig_assert_text(&named, "f1._domainkey.example.com", "v=DKIM1; p=AAAA");
  rig_close(&rig);
}

static void test_publisher_named__a_server_that_is_away_for_a_moment(void **state) {
  (void)state;
  struct rig rig;
  const struct publish_item item = {
      .change = PUBLISH_ADD, .name = "away._domainkey.example.com", .record = "v=DKIM1; p=AAAA", .ttl = 60};
  rig_open(&rig, named.text, "example.com", RIG_KEY);
  kill(named.pid, SIGSTOP);
  assert_int_equal(waitpid(named.pid, NULL, WUNTRACED), named.pid); /* now it stands still */
  rig.deadline_ms = 1500;
  rig_publish(&rig, &item, 1);
  kill(named.pid, SIGCONT);
  rig.deadline_ms = RIG_DEADLINE_MS;
  rig_assert_failure(&rig, 0, ERROR_TIMEOUT, "no answer in time to the query for away._domainkey.example.com");
  assert_true(rig.results[0].error.retryable);
  rig_publish(&rig, &item, 1);
  rig_assert_success(&rig, 0, false);
  rig_close(&rig);
}

static void test_publisher_named__nobody_listens(void **state) {
  (void)state;
  struct rig rig;
  char server[64];
  snprintf(server, sizeof server, "127.0.0.1:%u", server_free_port("127.0.0.1"));
  const struct publish_item item = {
      .change = PUBLISH_ADD, .name = "s._domainkey.example.com", .record = "v=DKIM1; p=AAAA", .ttl = 60};
  rig_open(&rig, server, "example.com", RIG_KEY);
  rig_publish(&rig, &item, 1);
  rig_assert_failure(&rig, 0, ERROR_UNREACHABLE, "looking at s._domainkey.example.com");
  rig_assert_failure(&rig, 0, ERROR_UNREACHABLE, server);
  rig_assert_failure(&rig, 0, ERROR_UNREACHABLE, "reach it by TCP");
  rig_close(&rig);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_publisher_named__adds_replaces_and_deletes_many_records),
      cmocka_unit_test(test_publisher_named__what_others_wrote_stays),
      cmocka_unit_test(test_publisher_named__a_record_with_other_strings_is_replaced_and_deleted),
      cmocka_unit_test(test_publisher_named__a_wildcard_does_not_count_as_foreign),
      cmocka_unit_test(test_publisher_named__the_zone_is_discovered),
      cmocka_unit_test(test_publisher_named__wrong_secret),
      cmocka_unit_test(test_publisher_named__unknown_key),
      cmocka_unit_test(test_publisher_named__wrong_algorithm),
      cmocka_unit_test(test_publisher_named__other_algorithm_works),
      cmocka_unit_test(test_publisher_named__our_clock_is_ahead),
      cmocka_unit_test(test_publisher_named__our_clock_is_behind),
      cmocka_unit_test(test_publisher_named__a_clock_a_little_off_is_fine),
      cmocka_unit_test(test_publisher_named__a_key_without_rights_is_refused),
      cmocka_unit_test(test_publisher_named__one_refused_record_does_not_stop_the_others),
      cmocka_unit_test(test_publisher_named__a_zone_that_is_not_dynamic),
      cmocka_unit_test(test_publisher_named__a_zone_that_it_does_not_serve),
      cmocka_unit_test(test_publisher_named__a_name_that_is_delegated_further),
      cmocka_unit_test(test_publisher_named__unsigned_updates_where_the_server_allows_them),
      cmocka_unit_test(test_publisher_named__an_inline_signed_zone_shows_the_record_in_the_end),
      cmocka_unit_test(test_publisher_named__reply_lost_after_the_update_was_applied),
      cmocka_unit_test(test_publisher_named__forged_replies_move_nothing),
      cmocka_unit_test(test_publisher_named__a_server_that_is_away_for_a_moment),
      cmocka_unit_test(test_publisher_named__nobody_listens),
  };
  return cmocka_run_group_tests(tests, start_named, stop_named);
}
