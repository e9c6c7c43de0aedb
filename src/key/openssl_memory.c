#include "dkimroll/openssl_memory.h"

#include <openssl/err.h>

bool openssl_lacked_memory(void) {
  bool lacked = false;
  for (unsigned long number; (number = ERR_get_error()) != 0;) lacked |= ERR_GET_REASON(number) == ERR_R_MALLOC_FAILURE;
  return lacked;
}
