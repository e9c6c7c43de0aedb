/* The key record: content of the TXT RR at <selector>._domainkey.<domain> (RFC 6376 3.6.1, RFC 8463 4). */
#ifndef DKIMROLL_RECORD_H
#define DKIMROLL_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/error.h"
#include "dkimroll/policy.h"

enum {
  RECORD_TEXT_MAX = 4096,  /* content of a record that we read; ours of RSA-4096 have 755 octets */
  RECORD_STRING_MAX = 255, /* one character-string (RFC 1035 3.3) */
};

struct record {
  enum key_algorithm algorithm; /* 0: a k= that we do not know */
  bool revoked;                 /* empty p= */
  bool testing;                 /* t=y */
  bool strict;                  /* t=s: i= of a signature must not be of a subdomain */
  uint8_t *public_key; /* decoded p=: SubjectPublicKeyInfo (RSA; RSAPublicKey is turned into it), raw 32 octets (Ed25519) */
  size_t public_key_size;
};

/* "v=DKIM1; k=rsa; p=<base64>", "v=DKIM1; k=ed25519; p=<base64>". public_key as in struct record. Caller frees *ret_text. */
int record_build(enum key_algorithm algorithm, const uint8_t *public_key, size_t public_key_size, char **ret_text,
                 struct error *error) ERROR_USE_RESULT;
/* The same with empty p= and k= kept: what a revoked key's record says (RFC 6376 3.6.1). Caller frees. */
int record_build_revoked(enum key_algorithm algorithm, char **ret_text, struct error *error) ERROR_USE_RESULT;
/* Reads the concatenated octets of a TXT by the rules of RFC 6376 3.2 and 3.6.1: tags in any order, duplicates invalid, unknown
 * ones ignored, white space folded out of p=. ERROR_INVALID says why a verifier would reject it. Caller releases. */
int record_parse(const char *text, size_t size, struct record *ret_record, struct error *error) ERROR_USE_RESULT;
void record_release(struct record *record);
/* Is it a record of this public key, whatever other tags it has? public_key as in struct record. ERROR_NO_MEMORY: that cannot be said now. */
int record_holds(const char *text, enum key_algorithm algorithm, const uint8_t *public_key, size_t public_key_size,
                 bool *ret_holds, struct error *error) ERROR_USE_RESULT;

/* TXT RDATA on the wire: the content in character-strings of at most 255 octets. Caller frees. ERROR_LIMIT over RECORD_TEXT_MAX. */
int record_to_rdata(const char *text, size_t size, uint8_t **ret_rdata, size_t *ret_size, struct error *error)
    ERROR_USE_RESULT;
/* Joins the character-strings; *ret_text is NUL-terminated (not counted), caller frees. ERROR_INVALID: lengths do not add up. */
int record_from_rdata(const uint8_t *rdata, size_t rdata_size, char **ret_text, size_t *ret_size, struct error *error)
    ERROR_USE_RESULT;

#endif
