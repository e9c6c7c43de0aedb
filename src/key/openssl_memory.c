#include "dkimroll/openssl_memory.h"

#include <string.h>

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

/* A public key of 512 bits, whose private half nobody has kept. */
static const uint8_t rsa_key[] = {
    0x30, 0x5c, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00, 0x03, 0x4b, 0x00, 0x30, 0x48, 0x02, 0x41,
    0x00, 0xd7, 0x12, 0x0a, 0x23, 0xcb, 0x49, 0x34, 0x17, 0x3d, 0x95, 0xa1, 0x5b, 0xa7, 0xa9, 0x8e, 0x4c, 0xfb, 0x87, 0x6c, 0x5a, 0xf0, 0xcf, 0x15,
    0xae, 0xbb, 0x81, 0xfb, 0xb7, 0xe6, 0x73, 0x71, 0xbf, 0x53, 0x60, 0x55, 0xf9, 0x41, 0xec, 0xc9, 0xfb, 0x5a, 0x3a, 0xb9, 0x82, 0xaf, 0x54, 0x66,
    0x15, 0xc2, 0xd5, 0x63, 0xee, 0xfc, 0xdb, 0x65, 0x2e, 0x00, 0x43, 0xe6, 0x7f, 0xe0, 0x53, 0xdd, 0x5b, 0x02, 0x03, 0x01, 0x00, 0x01};

/* That its parts are there does not say that a key comes out. */
static bool reads_public_key(const uint8_t *octets, size_t size) {
  const uint8_t *at = octets;
  uint8_t *again = NULL;
  EVP_PKEY *key = d2i_PUBKEY(NULL, &at, (long)size);
  const int written = key ? i2d_PUBKEY(key, &again) : 0;
  const bool equal = written == (int)size && memcmp(octets, again, size) == 0;
  OPENSSL_free(again);
  EVP_PKEY_free(key);
  return equal;
}

static bool reads_what_it_writes(EVP_PKEY *key) {
  EVP_PKEY *again = NULL;
  BIO *text = key ? BIO_new(BIO_s_mem()) : NULL;
  if (text && PEM_write_bio_PrivateKey(text, key, NULL, NULL, 0, NULL, NULL) == 1) again = PEM_read_bio_PrivateKey(text, NULL, NULL, NULL);
  uint8_t *octets = NULL;
  const int size = again ? i2d_PUBKEY(again, &octets) : 0;
  const bool equal = size > 0 && reads_public_key(octets, (size_t)size);
  OPENSSL_free(octets);
  EVP_PKEY_free(again);
  BIO_free(text);
  EVP_PKEY_free(key);
  return equal;
}

int openssl_begin(struct error *error) {
  EVP_MD *digest = EVP_MD_fetch(NULL, "SHA256", NULL);
  const bool ready = digest && reads_what_it_writes(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")) && reads_public_key(rsa_key, sizeof rsa_key);
  EVP_MD_free(digest);
  ERR_clear_error();
  if (ready) return 0;
  error_set(error, ERROR_SYSTEM, "OpenSSL cannot begin: it lacks memory or its default provider");
  return error_remedy(error, "dkimroll starts again and tries anew; if this stays, look at memory, at MemoryMax of the unit and at openssl.cnf");
}
