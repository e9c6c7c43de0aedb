/* TSIG (RFC 8945): our own over OpenSSL's EVP_MAC, because the time is injected and time and error field are checked. */
#ifndef DKIMROLL_TSIG_H
#define DKIMROLL_TSIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/error.h"
#include "dkimroll/selector.h"

enum tsig_algorithm { TSIG_HMAC_SHA256 = 1, TSIG_HMAC_SHA384 = 2, TSIG_HMAC_SHA512 = 3 };

/* Errors of RFC 8945 3 as they stand in the error field. */
enum tsig_error { TSIG_NOERROR = 0, TSIG_BADSIG = 16, TSIG_BADKEY = 17, TSIG_BADTIME = 18, TSIG_BADTRUNC = 22 };

enum {
  TSIG_FUDGE = 300,       /* seconds; RFC 8945 10 recommends it */
  TSIG_SECRET_MAX = 256,  /* octets; RFC 2104 3 gains nothing beyond the hash's block of 128 */
  TSIG_MAC_MAX = 64,      /* octets of HMAC-SHA512 */
  TSIG_FILE_MAX = 64 * 1024, /* octets of a key file: a key has 200, a named.conf around it a few thousand */
};

/* Secrets have their own type, cleansed by the destructor, without a formatter. */
struct tsig_key {
  char name[DNS_NAME_TEXT_SIZE]; /* lower case, without final dot */
  enum tsig_algorithm algorithm;
  uint8_t secret[TSIG_SECRET_MAX];
  size_t secret_size;
};
void tsig_key_free(struct tsig_key *key);

/* Reads a key from text in one of three formats: BIND's key clause (tsig-keygen(8); comments and other clauses may surround it, the first key
 * is taken), Knot's (keymgr -t, keymgr(8)), "algorithm:name:secret". ERROR_INVALID gives line and what would be right; MD5, SHA-1 and
 * SHA-224 are refused by name (RFC 8945 6 and policy). place names the source in messages. Caller frees. */
int tsig_key_parse(const char *place, const char *text, size_t size, struct tsig_key **ret_key, struct error *error)
    ERROR_USE_RESULT;
/* The same from a file, or from $CREDENTIALS_DIRECTORY/NAME for "credential:NAME" (systemd.exec(5)). A file that others can read, or a
 * group other than root, bind, knot or dkimroll, is refused with ERROR_PERMISSION and the chmod that repairs it (credentials are the manager's
 * and not judged). */
int tsig_key_load(const char *source, struct tsig_key **ret_key, struct error *error) ERROR_USE_RESULT;

/* The MAC of a request, which its reply is bound to. */
struct tsig_mac {
  uint8_t octets[TSIG_MAC_MAX];
  size_t size;
};

/* Appends a TSIG RR to the DNS message in message (capacity octets; *size in and out), raises ARCOUNT. now: UTC seconds. ERROR_LIMIT: no
 * room in capacity or in 65,535 octets. The message must not hold one yet: ERROR_INVALID. On failure the message is as it was. */
int tsig_sign(const struct tsig_key *key, int64_t now, uint8_t *message, size_t *size, size_t capacity,
              struct tsig_mac *ret_mac, struct error *error) ERROR_USE_RESULT;

/* What the TSIG RR of a reply said, also where it could not be trusted. */
struct tsig_answer {
  bool present;
  bool verified;            /* MAC right, time within fudge, key and algorithm ours */
  enum tsig_error verdict;  /* our own: NOERROR where verified, else BADKEY, BADSIG (also unsigned or absent), BADTIME, BADTRUNC */
  unsigned error;           /* the server's: enum tsig_error, or unknown value as it came */
  int64_t time_signed;      /* UTC seconds */
  int64_t server_time;      /* from Other Data with BADTIME; else 0 */
};

/* Checks the reply to a request signed with key (RFC 8945 5.3, 5.4): returns 0 with ret_answer filled in when the reply is well-formed; it is only
 * to be believed where ret_answer->verified. A signed BADTIME reply counts as verified though its time is far off (5.2.3). ERROR_PROTOCOL: malformed, which
 * includes a TSIG elsewhere than last, two of them, and a MAC of a length that cannot be (5.1, 5.2.2.1). Truncated MACs are never verified. */
int tsig_verify(const struct tsig_key *key, const struct tsig_mac *request_mac, int64_t now, const uint8_t *message,
                size_t size, struct tsig_answer *ret_answer, struct error *error) ERROR_USE_RESULT;

#endif
