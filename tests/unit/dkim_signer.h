/* A signer of its own for tests, written from RFC 6376 alone, so that it shares no mistake with what it tests. Needs
 * nothing of the library but src/base. */
#ifndef DKIMROLL_TESTS_DKIM_SIGNER_H
#define DKIMROLL_TESTS_DKIM_SIGNER_H

#include <stdbool.h>
#include <stddef.h>

#include <openssl/evp.h>

struct dkim_order {
  EVP_PKEY *key;
  bool relaxed_header, relaxed_body;
  const char *names; /* h=: "From:To" */
  const char *field; /* the whole signature field, with "@BH@" and "@B@" where the hash and the signature go */
};

/* fields: "Name: value", lines separated by CR LF, without the last. Caller frees. */
char *dkim_signer_sign(const struct dkim_order *order, const char *const *fields, size_t field_count, const char *body);
/* The same with c=relaxed/simple and h= of all fields. */
char *dkim_signer_sign_plainly(EVP_PKEY *key, const char *domain, const char *selector, const char *const *fields,
                               size_t field_count, const char *body);

/* Keys that live as long as the process; those of one kind and number are the same. An RSA key costs a tenth of a
 * second. */
enum { DKIM_SIGNER_KEYS = 2 };
EVP_PKEY *dkim_signer_key(bool ed25519, size_t number);
/* The key record. Caller frees. */
char *dkim_signer_record(EVP_PKEY *key);

#endif
