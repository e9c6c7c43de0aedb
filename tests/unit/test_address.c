/* Addresses as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/transport.h"

static void assert_parsed(const char *text, const char *expected) {
  struct address address;
  struct error error;
  char buffer[ADDRESS_TEXT_SIZE];
  if (address_parse(text, 53, &address, &error) < 0) fail_msg("%s", error.message);
  assert_string_equal(address_format(&address, buffer), expected);
}

static void test_address__text_is_read_with_and_without_port(void **state) {
  (void)state;
  assert_parsed("192.0.2.53", "192.0.2.53:53");
  assert_parsed("192.0.2.53:5300", "192.0.2.53:5300");
  assert_parsed("2001:db8::53", "[2001:db8::53]:53");
  assert_parsed("2001:DB8:0::53", "[2001:db8::53]:53");
  assert_parsed("[2001:db8::53]", "[2001:db8::53]:53");
  assert_parsed("[2001:db8::53]:65535", "[2001:db8::53]:65535");
  assert_parsed("::1", "[::1]:53");
  assert_parsed("::ffff:192.0.2.1", "[::ffff:192.0.2.1]:53");
}

static void test_address__anything_else_is_refused_with_examples(void **state) {
  (void)state;
  static const char *const bad[] = {"",
                                    "ns.example.com",
                                    "192.0.2.256",
                                    "192.0.2",
                                    "0300.0.2.1",
                                    " 192.0.2.1",
                                    "192.0.2.1 ",
                                    "192.0.2.1:",
                                    "192.0.2.1:0",
                                    "192.0.2.1:65536",
                                    "192.0.2.1:+53",
                                    "192.0.2.1:53x",
                                    "[192.0.2.1]:53",
                                    "[2001:db8::53",
                                    "[2001:db8::53]53",
                                    "[2001:db8::53]:",
                                    "2001:db8::53]",
                                    "[]",
                                    "[",
                                    ":",
                                    ":53",
                                    "fe80::1%lo",
                                    "1111:2222:3333:4444:5555:6666:7777:8888:9999",
                                    "111111111111111111111111111111111111111111111111111111111111111111111111:53"};
  for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
    struct address address = {.size = 4711};
    struct error error = {.code = 0};
    if (address_parse(bad[i], 53, &address, &error) != ERROR_INVALID) fail_msg("taken: %s", bad[i]);
    assert_int_equal(address.size, 4711);
    assert_non_null(strstr(error.remedy, "[2001:db8::53]:5300"));
    assert_int_equal(address_parse(bad[i], 53, &address, NULL), ERROR_INVALID);
  }
}

static void test_address__octets_become_an_address(void **state) {
  (void)state;
  static const uint8_t four[] = {192, 0, 2, 53}, six[16] = {0x20, 1, 0x0d, 0xb8, [15] = 0x53};
  struct address address;
  char buffer[ADDRESS_TEXT_SIZE];
  address_from_octets(four, sizeof four, 53, &address);
  assert_string_equal(address_format(&address, buffer), "192.0.2.53:53");
  address_from_octets(six, sizeof six, 5300, &address);
  assert_string_equal(address_format(&address, buffer), "[2001:db8::53]:5300");
}

static bool same(const char *a, const char *b) {
  struct address address_a, address_b;
  assert_int_equal(address_parse(a, 53, &address_a, NULL), 0);
  assert_int_equal(address_parse(b, 53, &address_b, NULL), 0);
  return address_equal(&address_a, &address_b) && address_equal(&address_b, &address_a);
}

static void test_address__equal_means_family_address_and_port(void **state) {
  (void)state;
  assert_true(same("192.0.2.1", "192.0.2.1:53"));
  assert_true(same("2001:db8::1", "[2001:db8:0:0::1]:53"));
  assert_false(same("192.0.2.1", "192.0.2.2"));
  assert_false(same("192.0.2.1", "192.0.2.1:54"));
  assert_false(same("2001:db8::1", "2001:db8::2"));
  assert_false(same("2001:db8::1", "[2001:db8::1]:54"));
  assert_false(same("192.0.2.1", "::ffff:192.0.2.1"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_address__text_is_read_with_and_without_port),
      cmocka_unit_test(test_address__anything_else_is_refused_with_examples),
      cmocka_unit_test(test_address__octets_become_an_address),
      cmocka_unit_test(test_address__equal_means_family_address_and_port),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
