/* TSIG on the wire: any message is walked through, or refused; one without a TSIG is signed, verifies, and does not verify any more once one bit of it has changed.
 * The first two octets choose the bit. */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/tsig.h"
#include "dkimroll/tsig_wire.h"
#include "fuzz.h"

enum { NOW = 1800000000, ROOM = 1024 };

static const struct tsig_key key = {.name = "update.example.com",
                                    .algorithm = TSIG_HMAC_SHA256,
                                    .secret = "secret of 32 octets for the test",
                                    .secret_size = 32};

static void expect_inside(const uint8_t *octets, size_t size, const uint8_t *part, size_t part_size) {
  FUZZ_HOLDS(part_size == 0 || (part >= octets && part + part_size <= octets + size),
             "%zu octets outside of the message", part_size);
}

/* As it comes, as the reply to a request whose MAC is known: nobody but the fuzzer could have signed it. */
static void verify_as_it_is(const uint8_t *octets, size_t size) {
  static const struct tsig_mac request = {.octets = {1, 2, 3}, .size = 32};
  struct tsig_record record;
  struct tsig_answer answer;
  struct error error = {0};
  int result = tsig_record_find(octets, size, &record, &error);
  if (result < 0) {
    fuzz_expect_error(result, &error);
  } else if (record.present) {
    FUZZ_HOLDS(record.start < size, "a TSIG behind the message");
    expect_inside(octets, size, record.mac, record.mac_size);
    expect_inside(octets, size, record.other, record.other_size);
  } else {
    FUZZ_HOLDS(record.start == size, "a message without TSIG ends at %zu of %zu", record.start, size);
  }
  result = tsig_verify(&key, &request, NOW, octets, size, &answer, &error);
  if (result < 0) fuzz_expect_error(result, &error);
  if (result == 0) FUZZ_HOLDS(!answer.verified && answer.verdict != TSIG_NOERROR, "a forged message verifies");
}

/* Signs a copy; returns its size, 0: it cannot be signed, which changed nothing. */
static size_t sign(uint8_t *copy, const uint8_t *octets, size_t size, size_t room) {
  struct tsig_mac mac;
  struct error error = {0};
  size_t signed_size = size;
  memcpy(copy, octets, size);
  const int result = tsig_sign(&key, NOW, copy, &signed_size, room, &mac, &error);
  if (result == 0) return signed_size;
  fuzz_expect_error(result, &error);
  FUZZ_HOLDS(signed_size == size && memcmp(copy, octets, size) == 0, "the message changed, but was not signed");
  return 0;
}

static bool verifies(const uint8_t *octets, size_t size) {
  struct tsig_answer answer = {0};
  return tsig_verify(&key, NULL, NOW, octets, size, &answer, NULL) == 0 && answer.verified;
}

static void sign_and_damage(const uint8_t *octets, size_t size, uint16_t place) {
  CLEANUP_FREE uint8_t *copy = malloc(size + ROOM);
  struct tsig_record record;
  if (!copy) abort();
  const size_t signed_size = sign(copy, octets, size, size + ROOM);
  if (signed_size == 0) return;
  FUZZ_HOLDS(tsig_record_find(copy, signed_size, &record, NULL) == 0 && record.present && record.start == size,
             "no TSIG behind the message");
  FUZZ_HOLDS(verifies(copy, signed_size), "what was signed does not verify");
  const size_t bit = place % (signed_size * 8);
  copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
  /* The id is not signed (its original is), and upper and lower case of names are the same. */
  const bool is_case = (copy[bit / 8] ^ 0x20) >= 'A' && bit % 8 == 5 && bit / 8 >= size;
  if (bit / 8 >= 2 && !is_case)
    FUZZ_HOLDS(!verifies(copy, signed_size), "bit %zu of %zu octets can be changed", bit, signed_size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input input = {data, size};
  const uint16_t place = fuzz_take_u16(&input);
  CLEANUP_FREE uint8_t *octets = malloc(input.size > 0 ? input.size : 1);
  if (!octets) return 0;
  if (input.size > 0) memcpy(octets, input.data, input.size);
  verify_as_it_is(octets, input.size);
  sign_and_damage(octets, input.size, place);
  return 0;
}
