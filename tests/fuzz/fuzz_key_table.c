/* A KeyTable of the fuzzer's, edits beside it, and a small SigningTable that names some of its keys. */
#include "table_edits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char signing[] = "# ours\n*@example.com s1._domainkey.example.com\n*@example.net %\n";
  struct fuzz_input input = {data, size};
  const struct fuzz_input edits = fuzz_take_until(&input, '\0');
  table_case_run(&(struct table_case){
      .edits = edits,
      .keys = input,
      .signing = {(const uint8_t *)signing, sizeof(signing) - 1},
      .kind = TABLE_SIGNING_REFILE,
  });
  return 0;
}
