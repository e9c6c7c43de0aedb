/* Key records: any content is read, or refused. A public key that was read is built into a record of ours, which reads back as the same key;
 * any content survives its way through the character-strings of a TXT, and any RDATA is joined or refused. */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/record.h"
#include "fuzz.h"

static void expect_same_key(const struct record *record) {
  CLEANUP_FREE char *text = NULL;
  CLEANUP(record_release) struct record again = {0};
  struct error error = {0};
  if (record->revoked) {
    FUZZ_HOLDS(record_build_revoked(record->algorithm, &text, &error) == 0, "%s", error.message);
  } else {
    const int built = record_build(record->algorithm, record->public_key, record->public_key_size, &text, &error);
    /* A bare RSA key may have been longer as SubjectPublicKeyInfo than a record has room for. */
    if (built == ERROR_LIMIT) return;
    FUZZ_HOLDS(built == 0, "%s", error.message);
  }
  FUZZ_HOLDS(record_parse(text, strlen(text), &again, &error) == 0, "%s: %s", error.message, text);
  FUZZ_HOLDS(again.algorithm == record->algorithm && again.revoked == record->revoked, "%s", text);
  FUZZ_HOLDS(again.public_key_size == record->public_key_size, "%s", text);
  FUZZ_HOLDS(record->public_key_size == 0 || memcmp(again.public_key, record->public_key, record->public_key_size) == 0,
             "%s", text);
}

static void read_content(const char *text, size_t size) {
  CLEANUP(record_release) struct record record = {0};
  struct error error = {0};
  const int result = record_parse(text, size, &record, &error);
  if (result < 0) {
    fuzz_expect_error(result, &error);
    FUZZ_HOLDS(!record.public_key, "a key in spite of %s", error.message);
  } else if (record.algorithm != 0) {
    expect_same_key(&record);
  }
}

static void carry_content(const char *text, size_t size) {
  CLEANUP_FREE uint8_t *rdata = NULL;
  CLEANUP_FREE char *joined = NULL;
  size_t rdata_size = 0, joined_size = 0;
  struct error error = {0};
  const int result = record_to_rdata(text, size, &rdata, &rdata_size, &error);
  if (result < 0) {
    fuzz_expect_error(result, &error);
    FUZZ_HOLDS(result == ERROR_LIMIT && size > RECORD_TEXT_MAX, "%zu octets: %s", size, error.message);
    return;
  }
  FUZZ_HOLDS(record_from_rdata(rdata, rdata_size, &joined, &joined_size, &error) == 0, "%s", error.message);
  FUZZ_HOLDS(joined_size == size && memcmp(joined, text, size) == 0, "the content of a TXT changed on its way");
}

static void join_rdata(const uint8_t *data, size_t size) {
  CLEANUP_FREE char *joined = NULL;
  size_t joined_size = 0;
  struct error error = {0};
  const int result = record_from_rdata(data, size, &joined, &joined_size, &error);
  if (result < 0) {
    fuzz_expect_error(result, &error);
    return;
  }
  FUZZ_HOLDS(joined_size < size && joined[joined_size] == '\0', "%zu of %zu octets", joined_size, size);
  read_content(joined, joined_size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  /* A copy on the heap, so that reading behind its end is seen. */
  CLEANUP_FREE char *text = malloc(size > 0 ? size : 1);
  if (!text) return 0;
  if (size > 0) memcpy(text, data, size);
  read_content(text, size);
  carry_content(text, size);
  join_rdata((const uint8_t *)text, size);
  return 0;
}
