/* Private keys that were decoded before (sim_keys.c). */
#ifndef DKIMROLL_TESTS_SIM_KEYS_H
#define DKIMROLL_TESTS_SIM_KEYS_H

#include <openssl/pem.h>

EVP_PKEY *__wrap_PEM_read_bio_PrivateKey(BIO *bio, EVP_PKEY **into, pem_password_cb *callback, void *context);
/* At the end of each life. */
void sim_keys_forget(void);

#endif
