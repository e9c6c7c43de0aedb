/* The text that the store keeps of what keys were made with: any text is read, or refused as damaged. What was read is written as a text that
 * reads back as the same. The first octet says which kind it is. */
#include <stdlib.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/policy.h"
#include "dkimroll/text.h"
#include "fuzz.h"

/* Both texts are right and the same. */
static void expect_same(const char *text, const char *again) {
  FUZZ_HOLDS(text && again && text_equal(text, again), "%s\n%s", text ? text : "", again ? again : "");
}

/* One kind of stored text: returns what parse returned; a success was written and read again. */
#define DEFINE_KIND(kind)                                                                                              \
  static int read_##kind(const char *text, struct error *error) {                                                      \
    CLEANUP_FREE char *once = NULL, *twice = NULL;                                                                     \
    struct policy_##kind *entry = NULL, *again = NULL;                                                                 \
    struct error unwanted = {0};                                                                                       \
    const int result = policy_##kind##_parse(text, &entry, error);                                                     \
    if (result < 0) {                                                                                                  \
      FUZZ_HOLDS(!entry, "an entry in spite of %s", error->message);                                                   \
      return result;                                                                                                   \
    }                                                                                                                  \
    FUZZ_HOLDS(policy_##kind##_format(entry, &once, &unwanted) == 0, "%s", unwanted.message);                          \
    FUZZ_HOLDS(policy_##kind##_parse(once, &again, &unwanted) == 0, "%s: %s", unwanted.message, once);                 \
    FUZZ_HOLDS(policy_##kind##_format(again, &twice, &unwanted) == 0, "%s", unwanted.message);                         \
    expect_same(once, twice);                                                                                          \
    policy_##kind##_free(entry);                                                                                       \
    policy_##kind##_free(again);                                                                                       \
    return 0;                                                                                                          \
  }

DEFINE_KIND(rules)
DEFINE_KIND(publisher)
DEFINE_KIND(signer)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input input = {data, size};
  const uint8_t kind = fuzz_take_u8(&input);
  CLEANUP_FREE char *text = fuzz_text(input.data, input.size);
  struct error error = {0};
  const int result = kind % 3 == 0   ? read_rules(text, &error)
                     : kind % 3 == 1 ? read_publisher(text, &error)
                                     : read_signer(text, &error);
  if (result == 0) return 0;
  fuzz_expect_error(result, &error);
  FUZZ_HOLDS(result == ERROR_INVALID, "%s", error.message);
  return 0;
}
