/* One observation of a name whose servers answer as the fuzzer wants, and what must hold of its results. */
#ifndef DKIMROLL_TESTS_DNS_LOOK_H
#define DKIMROLL_TESTS_DNS_LOOK_H

#include "fuzz.h"

/* The first octet has the kind of the observation (two bits), whether the policy gives servers (4), and a zone (8); a script follows (dns_script.h).
 * sockets: over the real transport, else within the process. */
void dns_look_run(struct fuzz_input input, bool sockets);

#endif
