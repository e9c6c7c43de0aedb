/* Did OpenSSL want for memory, or is it the input that is wrong? */
#ifndef DKIMROLL_OPENSSL_MEMORY_H
#define DKIMROLL_OPENSSL_MEMORY_H

#include <stdbool.h>

#include "dkimroll/error.h"

/* Decoders of OpenSSL keep silent about a want of memory in their middle (measured with 3.0: 4 % of all places), at their beginning never. What they refuse is refused when it
 * was refused so often, without openssl_lacked_memory in between. */
enum { OPENSSL_ATTEMPTS = 2 };

/* Forgets what OpenSSL holds of errors. Does one say that memory ran out? */
bool openssl_lacked_memory(void);

/* Has OpenSSL make ready all that keys and signatures ask of it. What it failed to make ready for want of memory it does not try again in the same process (measured with 3.0), and
 * from then on calls every private key unsupported: the process has to be another one. Called as a process begins. ERROR_SYSTEM: nothing says whether it was memory or how this host has set up OpenSSL. */
int openssl_begin(struct error *error) ERROR_USE_RESULT;

#endif
