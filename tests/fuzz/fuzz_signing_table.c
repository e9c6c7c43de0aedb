/* A SigningTable of the fuzzer's in either form, a KeyTable, and edits of both. The first octet: "f" for file:, "m" for MultipleSignatures,
 * any other for refile:. */
#include "table_edits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input input = {data, size};
  const uint8_t form = fuzz_take_u8(&input);
  const struct fuzz_input edits = fuzz_take_until(&input, '\0');
  const struct fuzz_input keys = fuzz_take_until(&input, '\0');
  table_case_run(&(struct table_case){
      .edits = edits,
      .keys = keys,
      .signing = input,
      .kind = form == 'f' ? TABLE_SIGNING_FILE : TABLE_SIGNING_REFILE,
      .multiple_signatures = form == 'm',
  });
  return 0;
}
