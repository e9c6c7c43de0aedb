/* Verification of one DKIM-Signature field of one message against one key record (RFC 6376 6.1, RFC 8301, RFC 8463).
 * Pure: the record is given, nothing is looked up. */
#ifndef DKIMROLL_DKIM_SIGNATURE_H
#define DKIMROLL_DKIM_SIGNATURE_H

#include "dkimroll/record.h"
#include "dkimroll/tag_list.h"

enum {
  DKIM_SIGNATURE_MAX = 16 * 1024, /* octets of the signature field: RSA-4096 and a hundred names need 4,000 */
  DKIM_FIELDS_MAX = 256,          /* header fields of a message, and names in h= */
  DKIM_CONTENT_MAX = 1024 * 1024, /* octets of the header or the body, canonicalized */
  DKIM_CLOCK_SKEW_SECONDS = 300,  /* t= may be this far in the future */
};

struct dkim_message {
  const struct span
      *fields; /* whole fields as they were sent, "Name: value", lines separated by CR LF, without the last
                                end; the signature itself is not among them */
  size_t field_count;
  struct span body;
};

/* What is wrong first, in the order in which it is looked for. */
enum dkim_verdict {
  DKIM_VALID = 0,
  DKIM_MALFORMED = 1,       /* the signature breaks the syntax, lacks a tag, or h= lacks From */
  DKIM_WEAK = 2,            /* a=rsa-sha1 (RFC 8301 3.1) */
  DKIM_UNKNOWN = 3,         /* a version, algorithm, canonicalization or query method that verifiers need not know */
  DKIM_IDENTITY = 4,        /* i= is not d= or below it */
  DKIM_PARTIAL = 5,         /* l=: the end of the body is not signed */
  DKIM_EXPIRED = 6,         /* x= has passed, or t= has not come yet */
  DKIM_RECORD_INVALID = 7,  /* the key record is malformed, or its key too small */
  DKIM_RECORD_REVOKED = 8,  /* empty p= */
  DKIM_RECORD_UNFIT = 9,    /* a key of another algorithm than a= says */
  DKIM_BODY_DIFFERS = 10,   /* bh= is of another body */
  DKIM_HEADER_DIFFERS = 11, /* made with the record's key, but for other header fields (only RSA shows this) */
  DKIM_OTHER_KEY = 12,      /* it does not fit the record's key: most likely made with another private key */
  DKIM_FAILED = 13,         /* no memory, or a limit of ours */
};

/* signature: the whole field. record: content of the TXT RR. now: UTC seconds. Other than DKIM_VALID: *ret_error says
 * what is wrong, with ERROR_PROOF, or ERROR_LIMIT and ERROR_NO_MEMORY. */
enum dkim_verdict dkim_signature_verify(const struct dkim_message *message, struct span signature, struct span record,
                                        int64_t now, struct error *ret_error);

#endif
