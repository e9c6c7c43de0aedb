/* A good signature while memory runs out, here or in OpenSSL, at every place: it is valid, or nothing is said of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "dkim_signer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/dkim_signature.h"
#include "own_allocator.h"

enum { NOW = 1800000000, ALLOCATIONS_MAX = 100000 };

static struct span span_of(const char *text) {
  return (struct span){text, strlen(text)};
}

static void test_dkim_signature__want_of_memory_is_never_blamed_on_signature_or_record(void **state) {
  (void)state;
  static const char *const fields[] = {"From: Anna <anna@example.com>", "To: bob@example.net"};
  const struct span spans[] = {span_of(fields[0]), span_of(fields[1])};
  const struct dkim_message message = {.fields = spans, .field_count = 2, .body = span_of("Hello\r\n")};
  for (int ed25519 = 0; ed25519 < 2; ed25519++) {
    EVP_PKEY *key = dkim_signer_key(ed25519, 0);
    CLEANUP_FREE char *record = dkim_signer_record(key);
    CLEANUP_FREE char *signature = dkim_signer_sign_plainly(key, "example.com", "sel", fields, 2, "Hello\r\n");
    enum dkim_verdict verdict = DKIM_VALID;
    struct error error = {0};
    assert_int_equal(dkim_signature_verify(&message, span_of(signature), span_of(record), NOW, &error), DKIM_VALID);
    for (unsigned long nth = 1; nth < ALLOCATIONS_MAX; nth++) {
      allocator_begin(nth);
      verdict = dkim_signature_verify(&message, span_of(signature), span_of(record), NOW, &error);
      const unsigned long count = allocations;
      allocator_begin(0);
      if (verdict != DKIM_VALID && (verdict != DKIM_FAILED || error.code != ERROR_NO_MEMORY))
        fail_msg("allocation %lu: verdict %d: %s", nth, (int)verdict, error.message);
      if (count < nth) break;
    }
    assert_int_equal(verdict, DKIM_VALID);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_dkim_signature__want_of_memory_is_never_blamed_on_signature_or_record),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
