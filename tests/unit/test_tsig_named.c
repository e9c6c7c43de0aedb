/* TSIG with real servers at the other end: named and knotd verify what we sign, and sign what we verify. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/text.h"
#include "dkimroll/transport.h"
#include "dkimroll/tsig.h"
#include "servers.h"

enum { REPLY_MS = 10000, ROOM = 4096, RCODE_NOTAUTH = 9, CLOCK_OFF = 1000, TOLERANCE = 60 };

#define SECRET_256 "c2VjcmV0IG9mIDMyIG9jdGV0cyBmb3IgdGhlIHRlc3Q="
#define SECRET_384 "YSBzZWNyZXQgb2YgNDggb2N0ZXRzLCB3aGljaCBpcyBtdWNoIGxvbmdlcg=="
#define SECRET_512 "YSBzZWNyZXQgb2YgNjQgb2N0ZXRzLCB3aGljaCBpcyBsb25nZXIgdGhhbiBhbGwgdGhlIG90aGVycyBvZiB0aGVt"

static const char zone_file[] = "@ 60 IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\n";

static const struct server_setup named_setup = {
    .kind = SERVER_NAMED,
    .config = "key \"Key-256.example.com\" { algorithm hmac-sha256; secret \"" SECRET_256 "\"; };\n"
              "key \"key-384.example.com\" { algorithm hmac-sha384; secret \"" SECRET_384 "\"; };\n"
              "key \"key-512\" { algorithm hmac-sha512; secret \"" SECRET_512 "\"; };\n"
              "zone \"example.com\" { type primary; file \"example.com.zone\"; };\n",
    .files = {{"example.com.zone", zone_file}},
    .zone = "example.com",
};

static const struct server_setup knotd_setup = {
    .kind = SERVER_KNOTD,
    .config = "key:\n"
              "  - id: key-256.example.com\n    algorithm: hmac-sha256\n    secret: " SECRET_256 "\n"
              "  - id: key-384.example.com\n    algorithm: hmac-sha384\n    secret: " SECRET_384 "\n"
              "  - id: key-512\n    algorithm: hmac-sha512\n    secret: " SECRET_512 "\n"
              "acl:\n  - id: keys\n    key: [key-256.example.com, key-384.example.com, key-512]\n    action: transfer\n"
              "zone:\n  - domain: example.com\n    file: example.com.zone\n    acl: keys\n",
    .files = {{"example.com.zone", zone_file}},
    .zone = "example.com",
};

static int start_named(void **state) {
  static struct server server;
  server_start(&server, &named_setup);
  *state = &server;
  return 0;
}

static int start_knotd(void **state) {
  static struct server server;
  server_start(&server, &knotd_setup);
  *state = &server;
  return 0;
}

static int stop_server(void **state) {
  server_stop(*state);
  return 0;
}

static struct tsig_key *make_key(const char *text) {
  struct tsig_key *key = NULL;
  assert_int_equal(tsig_key_parse("test", text, strlen(text), &key, NULL), 0);
  return key;
}

/* Sends a datagram and waits for the one that comes back. */
static size_t ask(const struct server *server, const uint8_t *request, size_t size, uint8_t reply[ROOM]) {
  struct address address;
  assert_int_equal(address_parse(server->text, 53, &address, NULL), 0);
  CLEANUP_CLOSE int descriptor = socket(address.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  assert_true(descriptor >= 0);
  assert_int_equal(connect(descriptor, (const struct sockaddr *)&address.storage, address.size), 0);
  assert_int_equal(send(descriptor, request, size, 0), size);
  struct pollfd poller = {.fd = descriptor, .events = POLLIN};
  assert_int_equal(poll(&poller, 1, REPLY_MS), 1);
  ssize_t got = recv(descriptor, reply, ROOM, 0);
  assert_true(got > 12);
  return (size_t)got;
}

/* Signs a query for the zone's SOA as if the clock were off by that many seconds. Returns the RCODE. */
static unsigned query(const struct server *server, const struct tsig_key *key, int64_t off,
                      struct tsig_answer *ret_answer) {
  static const uint8_t soa[] = "\x12\x34\0\0\0\1\0\0\0\0\0\0\7example\3com\0\0\6\0\1";
  struct clock_reading now;
  uint8_t message[ROOM], reply[ROOM];
  size_t size = sizeof soa - 1;
  struct tsig_mac mac;
  clock_read(&now);
  memcpy(message, soa, size);
  assert_int_equal(tsig_sign(key, now.wall + off, message, &size, sizeof message, &mac, NULL), 0);
  size_t reply_size = ask(server, message, size, reply);
  struct error error;
  if (tsig_verify(key, &mac, now.wall + off, reply, reply_size, ret_answer, &error) < 0) fail_msg("%s", error.message);
  assert_true(ret_answer->present);
  return reply[3] & 15;
}

static void test_tsig_named__replies_verify_with_every_algorithm(void **state) {
  static const char *const keys[] = {"hmac-sha256:key-256.example.com:" SECRET_256,
                                     "hmac-sha384:KEY-384.example.com.:" SECRET_384, "hmac-sha512:key-512:" SECRET_512};
  for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
    struct tsig_key *key = make_key(keys[i]);
    struct tsig_answer answer;
    assert_int_equal(query(*state, key, 0, &answer), 0);
    assert_true(answer.verified);
    assert_int_equal(answer.error, TSIG_NOERROR);
    struct clock_reading now;
    clock_read(&now);
    assert_in_range(answer.time_signed, now.wall - TOLERANCE, now.wall + TOLERANCE);
    tsig_key_free(key);
  }
}

static void assert_unsigned_refusal(const struct server *server, const char *text, unsigned tsig_error) {
  struct tsig_key *key = make_key(text);
  struct tsig_answer answer;
  assert_int_equal(query(server, key, 0, &answer), RCODE_NOTAUTH);
  assert_false(answer.verified);
  assert_int_equal(answer.error, tsig_error);
  tsig_key_free(key);
}

static void test_tsig_named__wrong_secret_is_badsig(void **state) {
  assert_unsigned_refusal(*state, "hmac-sha256:key-256.example.com:d3Jvbmc=", TSIG_BADSIG);
}

static void test_tsig_named__unknown_key_is_badkey(void **state) {
  assert_unsigned_refusal(*state, "hmac-sha256:nobody.example.com:" SECRET_256, TSIG_BADKEY);
}

static void test_tsig_named__algorithm_of_another_key_is_badkey(void **state) {
  assert_unsigned_refusal(*state, "hmac-sha512:key-256.example.com:" SECRET_256, TSIG_BADKEY);
}

static void assert_badtime(const struct server *server, int64_t off) {
  struct tsig_key *key = make_key("hmac-sha256:key-256.example.com:" SECRET_256);
  struct tsig_answer answer;
  struct clock_reading now;
  assert_int_equal(query(server, key, off, &answer), RCODE_NOTAUTH);
  clock_read(&now);
  assert_int_equal(answer.error, TSIG_BADTIME);
  assert_true(answer.verified);
  assert_in_range(answer.server_time, now.wall - TOLERANCE, now.wall + TOLERANCE);
  tsig_key_free(key);
}

static void test_tsig_named__clock_that_is_off_is_badtime_with_the_servers_time(void **state) {
  assert_badtime(*state, CLOCK_OFF);
  assert_badtime(*state, -CLOCK_OFF);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_tsig_named__replies_verify_with_every_algorithm),
      cmocka_unit_test(test_tsig_named__wrong_secret_is_badsig),
      cmocka_unit_test(test_tsig_named__unknown_key_is_badkey),
      cmocka_unit_test(test_tsig_named__algorithm_of_another_key_is_badkey),
      cmocka_unit_test(test_tsig_named__clock_that_is_off_is_badtime_with_the_servers_time),
  };
  int failures = cmocka_run_group_tests_name("named", tests, start_named, stop_server);
  return failures + cmocka_run_group_tests_name("knotd", tests, start_knotd, stop_server);
}
