#include "dkimroll/openssl_memory.h"

#include <string.h>

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include "dkimroll/cleanup.h"

enum { ED25519_SIZE = 32 /* octets of a public key (RFC 8032 5.1.5); a signature has twice as many */ };

bool openssl_lacked_memory(void) {
  bool lacked = false;
  for (unsigned long number; (number = ERR_get_error()) != 0;) lacked |= ERR_GET_REASON(number) == ERR_R_MALLOC_FAILURE;
  return lacked;
}

/* A public key of 512 bits, whose private half nobody has kept, and its signature of a SHA-256 of zeros. */
static const uint8_t rsa_key[] = {
    0x30, 0x5c, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00, 0x03, 0x4b, 0x00, 0x30, 0x48, 0x02, 0x41,
    0x00, 0xd5, 0x01, 0x60, 0x60, 0x28, 0xfe, 0x17, 0xfc, 0x25, 0x62, 0xff, 0xab, 0xc2, 0x6d, 0x3d, 0xfd, 0x91, 0x2e, 0x83, 0xcc, 0x97, 0xab, 0x2c,
    0xaf, 0x37, 0xc1, 0x4d, 0xdb, 0x97, 0xcc, 0xc4, 0x49, 0xa1, 0x01, 0xdc, 0x0f, 0x85, 0xe6, 0xd4, 0xf9, 0x4c, 0xda, 0x3d, 0x63, 0x8d, 0xd6, 0xbc,
    0xee, 0x0e, 0xfd, 0x51, 0x69, 0xa0, 0x7d, 0x23, 0x9b, 0xef, 0x0f, 0x18, 0xda, 0x58, 0x10, 0x29, 0x0d, 0x02, 0x03, 0x01, 0x00, 0x01};
static const uint8_t rsa_signature[] = {
    0x30, 0x32, 0x22, 0xf5, 0xf8, 0xa8, 0x0c, 0xe4, 0x70, 0x63, 0xe5, 0x88, 0x41, 0x83, 0x93, 0xbf, 0x68, 0xd0, 0xdc, 0x8f, 0x25, 0xda, 0xe7, 0x8d,
    0x94, 0x00, 0x34, 0xe8, 0x83, 0x50, 0xa3, 0xac, 0xdf, 0xb1, 0x44, 0x11, 0x76, 0xe8, 0x8e, 0x22, 0x68, 0xe2, 0x3b, 0xeb, 0x8c, 0xc4, 0xda, 0x2b,
    0x15, 0xb4, 0xd6, 0xf8, 0x70, 0xf8, 0x74, 0x94, 0xa2, 0x69, 0x4a, 0xe1, 0x00, 0x33, 0x9e, 0x36};

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
  return equal;
}

/* As the proof of a switch verifies (src/signer/dkim_signature.c). */
static bool verifies_ed25519(EVP_PKEY *pair) {
  static const uint8_t digest[SHA256_DIGEST_LENGTH];
  uint8_t public_key[ED25519_SIZE], signature[2 * ED25519_SIZE];
  size_t size = sizeof signature, public_size = sizeof public_key;
  EVP_MD_CTX *signing = EVP_MD_CTX_new(), *verifying = EVP_MD_CTX_new();
  EVP_PKEY *key = pair && EVP_PKEY_get_raw_public_key(pair, public_key, &public_size) == 1 ? EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, public_size) : NULL;
  const bool valid = signing && verifying && key && EVP_DigestSignInit(signing, NULL, NULL, NULL, pair) == 1 &&
                     EVP_DigestSign(signing, signature, &size, digest, sizeof digest) == 1 && EVP_DigestVerifyInit(verifying, NULL, NULL, NULL, key) == 1 &&
                     EVP_DigestVerify(verifying, signature, size, digest, sizeof digest) == 1;
  EVP_PKEY_free(key);
  EVP_MD_CTX_free(signing);
  EVP_MD_CTX_free(verifying);
  return valid;
}

static bool verifies_rsa(void) {
  static const uint8_t digest[SHA256_DIGEST_LENGTH];
  const uint8_t *at = rsa_key;
  uint8_t recovered[sizeof rsa_signature];
  size_t size = sizeof recovered;
  EVP_PKEY *key = d2i_PUBKEY(NULL, &at, sizeof rsa_key);
  EVP_PKEY_CTX *context = key ? EVP_PKEY_CTX_new(key, NULL) : NULL;
  const bool valid = context && EVP_PKEY_verify_recover_init(context) == 1 && EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) == 1 &&
                     EVP_PKEY_CTX_set_signature_md(context, EVP_sha256()) == 1 &&
                     EVP_PKEY_verify_recover(context, recovered, &size, rsa_signature, sizeof rsa_signature) == 1 && size == sizeof digest &&
                     memcmp(recovered, digest, size) == 0;
  EVP_PKEY_CTX_free(context);
  EVP_PKEY_free(key);
  return valid;
}

/* As TSIG does (src/dns/tsig.c). */
static bool authenticates(void) {
  static const char *const digests[] = {"SHA256", "SHA384", "SHA512"};
  static const uint8_t octet;
  uint8_t mac[EVP_MAX_MD_SIZE];
  bool all = true;
  for (size_t i = 0; i < ARRAY_SIZE(digests) && all; i++)
    all = EVP_Q_mac(NULL, OSSL_MAC_NAME_HMAC, NULL, digests[i], NULL, &octet, sizeof octet, &octet, sizeof octet, mac, sizeof mac, NULL) != NULL;
  return all;
}

int openssl_begin(struct error *error) {
  EVP_MD *digest = EVP_MD_fetch(NULL, "SHA256", NULL);
  EVP_PKEY *pair = digest ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519") : NULL;
  const bool ready = reads_what_it_writes(pair) && reads_public_key(rsa_key, sizeof rsa_key) && verifies_ed25519(pair) && verifies_rsa() && authenticates();
  EVP_PKEY_free(pair);
  EVP_MD_free(digest);
  ERR_clear_error();
  if (ready) return 0;
  error_set(error, ERROR_SYSTEM, "OpenSSL cannot begin: it lacks memory or its default provider");
  return error_remedy(error, "dkimroll starts again and tries anew; if this stays, look at memory, at MemoryMax of the unit and at openssl.cnf");
}
