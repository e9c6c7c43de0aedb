/* Files with TSIG keys: any text is read, or refused with place and remedy. A key that was read signs, and reads back from the shortest of the formats as
 * itself. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "dkimroll/tsig.h"
#include "dkimroll/tsig_wire.h"
#include "fuzz.h"

static void expect_key(const struct tsig_key *key) {
  FUZZ_HOLDS(memchr(key->name, '\0', sizeof key->name) && key->name[0], "a name without an end");
  for (const char *c = key->name; *c; c++)
    FUZZ_HOLDS(isgraph((unsigned char)*c) && !isupper((unsigned char)*c), "%s", key->name);
  FUZZ_HOLDS(tsig_hash_find(key->algorithm), "algorithm %d", (int)key->algorithm);
  FUZZ_HOLDS(key->secret_size > 0 && key->secret_size <= TSIG_SECRET_MAX, "a secret of %zu octets", key->secret_size);
}

static void expect_signs(const struct tsig_key *key) {
  uint8_t message[1024] = "\x12\x34\0\0\0\1\0\0\0\0\0\0\7example\3com\0\0\20\0\1";
  size_t size = 29;
  struct tsig_mac mac;
  struct tsig_answer answer;
  struct error error = {0};
  FUZZ_HOLDS(tsig_sign(key, 1800000000, message, &size, sizeof message, &mac, &error) == 0, "%s", error.message);
  FUZZ_HOLDS(tsig_verify(key, NULL, 1800000000, message, size, &answer, &error) == 0, "%s", error.message);
  FUZZ_HOLDS(answer.verified, "what was signed does not verify");
}

static void expect_same_again(const struct tsig_key *key) {
  unsigned char secret[TSIG_SECRET_MAX * 2];
  struct tsig_key *again = NULL;
  struct error error = {0};
  EVP_EncodeBlock(secret, key->secret, (int)key->secret_size);
  CLEANUP_FREE char *text =
      text_format("%s:%s:%s\n", tsig_hash_find(key->algorithm)->name, key->name, (const char *)secret);
  FUZZ_HOLDS(tsig_key_parse("again", text, strlen(text), &again, &error) == 0, "%s: %s", error.message, text);
  FUZZ_HOLDS(text_equal(again->name, key->name) && again->algorithm == key->algorithm &&
                 again->secret_size == key->secret_size && memcmp(again->secret, key->secret, key->secret_size) == 0,
             "%s", text);
  tsig_key_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  CLEANUP_FREE char *text = malloc(size > 0 ? size : 1);
  struct tsig_key *key = NULL;
  struct error error = {0};
  if (!text) return 0;
  if (size > 0) memcpy(text, data, size);
  const int result = tsig_key_parse("place", text, size, &key, &error);
  if (result < 0) {
    fuzz_expect_error(result, &error);
    FUZZ_HOLDS(!key, "a key in spite of %s", error.message);
    FUZZ_HOLDS(result == ERROR_INVALID && text_starts(error.message, "place:"), "%s", error.message);
    return 0;
  }
  expect_key(key);
  expect_signs(key);
  expect_same_again(key);
  tsig_key_free(key);
  return 0;
}
