#include "dkimroll/openssl_memory.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

bool openssl_lacked_memory(void) {
  bool lacked = false;
  for (unsigned long number; (number = ERR_get_error()) != 0;) lacked |= ERR_GET_REASON(number) == ERR_R_MALLOC_FAILURE;
  return lacked;
}

/* That its parts are there does not say that a key comes out: one is written and read, and its public half too. */
static bool reads_what_it_writes(EVP_PKEY *key) {
  EVP_PKEY *again = NULL, *public_again = NULL;
  uint8_t *octets = NULL;
  BIO *text = key ? BIO_new(BIO_s_mem()) : NULL;
  if (text && PEM_write_bio_PrivateKey(text, key, NULL, NULL, 0, NULL, NULL) == 1) again = PEM_read_bio_PrivateKey(text, NULL, NULL, NULL);
  const int size = again ? i2d_PUBKEY(again, &octets) : 0;
  const uint8_t *at = octets;
  if (size > 0) public_again = d2i_PUBKEY(NULL, &at, size);
  const bool equal = public_again && EVP_PKEY_eq(key, public_again) == 1;
  EVP_PKEY_free(public_again);
  OPENSSL_free(octets);
  EVP_PKEY_free(again);
  BIO_free(text);
  EVP_PKEY_free(key);
  return equal;
}

int openssl_begin(struct error *error) {
  enum { SMALLEST_RSA = 512 }; /* the fastest that OpenSSL makes; nobody sees it */
  EVP_MD *digest = EVP_MD_fetch(NULL, "SHA256", NULL);
  const bool ready = digest && reads_what_it_writes(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")) &&
                     reads_what_it_writes(EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)SMALLEST_RSA));
  EVP_MD_free(digest);
  ERR_clear_error();
  if (ready) return 0;
  error_set(error, ERROR_NO_MEMORY, "OpenSSL cannot begin: it lacks memory or its default provider");
  return error_remedy(error, "dkimroll starts again and tries anew; if this stays, look at memory, at MemoryMax of the unit and at openssl.cnf");
}
