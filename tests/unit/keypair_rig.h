/* Files of private keys, for the tests of what is done with them. */
#ifndef DKIMROLL_TESTS_KEYPAIR_RIG_H
#define DKIMROLL_TESTS_KEYPAIR_RIG_H

#include "dkimroll/keypair.h"
#include "workplace.h"

/* Root's, as the tests run. */
extern const struct file_rights own_rights;

void assert_done(int result, const struct error *error);
void make_ed25519(const char *path, struct keypair_public *ret_public);
/* What a file of a key says; caller frees. */
char *read_text(const char *path);
bool exists(const char *path);

#endif
