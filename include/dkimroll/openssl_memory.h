/* Did OpenSSL want for memory, or is it the input that is wrong? */
#ifndef DKIMROLL_OPENSSL_MEMORY_H
#define DKIMROLL_OPENSSL_MEMORY_H

#include <stdbool.h>

/* Decoders of OpenSSL keep silent about a want of memory in their middle (measured with 3.0: 4 % of all places), at their beginning never. What they refuse is refused when it
 * was refused so often, without openssl_lacked_memory in between. */
enum { OPENSSL_ATTEMPTS = 2 };

/* Forgets what OpenSSL holds of errors. Does one say that memory ran out? */
bool openssl_lacked_memory(void);

#endif
