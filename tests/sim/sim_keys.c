/* Private keys are read for each proof, and to decode PEM costs OpenSSL more than the rest of a simulated life. The same octets are the same key, so what was decoded is
 * remembered: the simulator is linked so that PEM_read_bio_PrivateKey passes through here (SIM_WRAP in the Makefile). What cannot be read is decoded each time. */
#include <stdint.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "sim_keys.h"

enum { KEYS = 64, SIZE_MAX_KEPT = 256 /* an Ed25519 key in PKCS#8 has 119 */ };

static struct {
  size_t size;
  char octets[SIZE_MAX_KEPT];
  EVP_PKEY *key;
} known[KEYS];

EVP_PKEY *__real_PEM_read_bio_PrivateKey(BIO *bio, EVP_PKEY **into, pem_password_cb *callback, void *context);

static size_t place_of(const char *octets, size_t size) {
  uint32_t hash = 2166136261u;
  for (size_t i = 0; i < size; i++) hash = (hash ^ (uint8_t)octets[i]) * 16777619u;
  return hash % KEYS;
}

EVP_PKEY *__wrap_PEM_read_bio_PrivateKey(BIO *bio, EVP_PKEY **into, pem_password_cb *callback, void *context) {
  char *octets = NULL;
  const long length = BIO_get_mem_data(bio, &octets);
  if (into || length <= 0 || length > SIZE_MAX_KEPT) return __real_PEM_read_bio_PrivateKey(bio, into, callback, context);
  const size_t size = (size_t)length, place = place_of(octets, size);
  if (known[place].size != size || memcmp(known[place].octets, octets, size) != 0) {
    char copy[SIZE_MAX_KEPT];
    memcpy(copy, octets, size);
    EVP_PKEY *key = __real_PEM_read_bio_PrivateKey(bio, NULL, callback, context);
    if (!key) return NULL;
    EVP_PKEY_free(known[place].key);
    memcpy(known[place].octets, copy, size);
    known[place].size = size;
    known[place].key = key;
  }
  EVP_PKEY_up_ref(known[place].key);
  return known[place].key;
}

void sim_keys_forget(void) {
  for (size_t i = 0; i < KEYS; i++) {
    EVP_PKEY_free(known[i].key);
    known[i].key = NULL;
    known[i].size = 0;
  }
}
