/* Answers of name servers within the process: zone discovery and observation, whatever they say. */
#include "dns_look.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  dns_look_run((struct fuzz_input){data, size}, false);
  return 0;
}
