/* The same over the real transport: UDP and TCP sockets on loopback, messages in pieces, streams that are none, connections that break. */
#include "dns_look.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  dns_look_run((struct fuzz_input){data, size}, true);
  return 0;
}
