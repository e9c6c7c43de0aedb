/* The TSIG RR on the wire, for the TSIG module's own files: a bounded walk that finds it in arbitrary octets, and the table of algorithms. */
#ifndef DKIMROLL_TSIG_WIRE_H
#define DKIMROLL_TSIG_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/error.h"
#include "dkimroll/tsig.h"

enum {
  TSIG_WIRE_NAME_MAX = 255, /* RFC 1035 2.3.4 */
  TSIG_WIRE_LABEL_MAX = 63, /* RFC 1035 2.3.4 */
  TSIG_WIRE_HEADER = 12,    /* RFC 1035 4.1.1 */
  TSIG_WIRE_MESSAGE_MAX = 65535,
};

/* What signs with which digest. */
struct tsig_hash {
  enum tsig_algorithm algorithm;
  const char *name;   /* as in DNS and in key files (RFC 8945 6) */
  const char *digest; /* as OpenSSL calls it */
  size_t size;        /* octets of a whole MAC */
};

/* NULL: not one of ours. */
const struct tsig_hash *tsig_hash_find(enum tsig_algorithm algorithm);
/* name of size octets, any case, a final dot allowed. NULL: not one of ours. */
const struct tsig_hash *tsig_hash_find_name(const char *name, size_t size);

/* A name in canonical form: lower case, uncompressed (RFC 8945 4.3.3, RFC 4034 6.2). */
struct tsig_name {
  uint8_t octets[TSIG_WIRE_NAME_MAX];
  size_t size;
};
/* text without escapes. false: a label is empty or too long, or the whole is. */
bool tsig_name_from_text(const char *text, struct tsig_name *ret_name);
bool tsig_name_equal(const struct tsig_name *a, const struct tsig_name *b);

/* One TSIG RR (RFC 8945 4.2) and where the signed part of its message ends. mac and other are borrowed from the message. */
struct tsig_record {
  bool present;
  size_t start;           /* offset of the RR; without one, the size of the message */
  uint16_t other_records; /* ARCOUNT without the TSIG RR */
  struct tsig_name name;
  struct tsig_name algorithm;
  uint64_t time_signed; /* 48 bits */
  uint16_t fudge;
  const uint8_t *mac;
  size_t mac_size;
  uint16_t original_id;
  uint16_t error;
  const uint8_t *other;
  size_t other_size;
};

/* Walks the whole message. ERROR_PROTOCOL: cut short, octets left over, a TSIG RR elsewhere than last in the additional section (RFC 8945
 * 5.1), two of them, or one that is malformed. */
int tsig_record_find(const uint8_t *message, size_t size, struct tsig_record *ret_record,
                     struct error *error) ERROR_USE_RESULT;

#endif
