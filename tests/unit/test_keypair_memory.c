/* A private key that OpenSSL cannot read for want of memory is not taken for one that is damaged: a key that waits would be revoked for that, and one that signs replaced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/keypair.h"
#include "openssl_allocator.h"
#include "workplace.h"

enum { STRIDE = 23, FOR_EVER = 1000000 };

static void read_without_memory(const char *path, unsigned long so_many) {
  struct error error = {0};
  unsigned long refused = 0;
  for (unsigned long from = 1;; from += STRIDE) {
    CLEANUP(keypair_public_release) struct keypair_public key = {0};
    openssl_allocations_begin(from, so_many);
    const int result = keypair_read_public(path, &key, &error);
    const unsigned long used = openssl_count;
    openssl_allocations_begin(0, 0);
    refused += result != 0;
    if (result && error.code != ERROR_NO_MEMORY && error.code != ERROR_SYSTEM) fail_msg("allocations %lu to %lu: %s", from, from + so_many, error.message);
    if (used < from) break;
  }
  assert_true(so_many < FOR_EVER || refused > 0);
}

static void test_keypair_memory__a_key_that_cannot_be_read_for_want_of_it_is_not_a_damaged_one(void **state) {
  static const struct {
    enum key_algorithm algorithm;
    unsigned bits;
    const char *name;
  } kinds[] = {{KEY_ALGORITHM_ED25519, 256, "ed.private"}, {KEY_ALGORITHM_RSA, 2048, "rsa.private"}};
  static const unsigned long spans[] = {3, 20, FOR_EVER};
  const struct file_rights own = {.owner = geteuid(), .group = getegid(), .mode = 0600};
  for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
    CLEANUP_FREE char *path = workplace_path(*state, kinds[i].name);
    CLEANUP(keypair_public_release) struct keypair_public key = {0}, again = {0};
    struct error error = {0};
    if (keypair_generate(kinds[i].algorithm, kinds[i].bits, path, &own, &key, &error)) fail_msg("%s", error.message);
    for (size_t j = 0; j < ARRAY_SIZE(spans); j++) read_without_memory(path, spans[j]);
    if (keypair_read_public(path, &again, &error)) fail_msg("%s", error.message);
    assert_memory_equal(again.public_key, key.public_key, key.public_key_size);
  }
}

static void test_keypair_memory__a_damaged_key_is_one(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "bad.private");
  struct keypair_public key = {0};
  struct error error = {0};
  workplace_write(path, "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp\n-----END PRIVATE KEY-----\n", 0600);
  assert_int_equal(keypair_read_public(path, &key, &error), ERROR_INVALID);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_keypair_memory__a_key_that_cannot_be_read_for_want_of_it_is_not_a_damaged_one, workplace_setup, workplace_teardown),
      cmocka_unit_test_setup_teardown(test_keypair_memory__a_damaged_key_is_one, workplace_setup, workplace_teardown),
  };
  /* Before the first allocation of OpenSSL, or not at all. */
  if (!openssl_allocator_install()) return 1;
  return cmocka_run_group_tests(tests, NULL, NULL);
}
