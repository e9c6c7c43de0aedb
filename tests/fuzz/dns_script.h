/* Name servers that say what the fuzzer wants: replies put together from its octets, to the questions that are asked. A reply is either octets as they
 * are, or a message with the id and question of the request and records from a small grammar, so that what comes behind the parser is reached,
 * too; it can carry a TSIG that is right, or wrong in one place.
 *
 * The octets, for each reply: TYPE FLAGS RCODE COUNTS, then the records: NAME TYPE TTL RDATA each (dns_script.c has the tables). A reply serves the requests
 * of its TYPE in their order (0: of any). */
#ifndef DKIMROLL_TESTS_DNS_SCRIPT_H
#define DKIMROLL_TESTS_DNS_SCRIPT_H

#include "dkimroll/buffer.h"
#include "dkimroll/tsig.h"
#include "fuzz.h"

enum {
  DNS_SCRIPT_REPLIES_MAX = 48,
  DNS_SCRIPT_REQUESTS_MAX = 160, /* then all servers are silent, so that a case ends */
  DNS_SCRIPT_UPDATE = 0xff,      /* TYPE of a reply to an UPDATE */
};

enum dns_script_flags {
  DNS_SCRIPT_AUTHORITATIVE = 0x01,
  DNS_SCRIPT_TRUNCATED = 0x02,
  DNS_SCRIPT_RAW = 0x04,      /* u16 size and octets follow, which get the request's id; nothing else */
  DNS_SCRIPT_SILENT = 0x08,   /* no reply, no records */
  DNS_SCRIPT_UNSIGNED = 0x10, /* without TSIG, where the request had one */
  DNS_SCRIPT_DAMAGED = 0x20,  /* RCODE's upper half says where the TSIG is wrong */
  DNS_SCRIPT_CLOSES = 0x40,   /* the connection breaks behind it */
  DNS_SCRIPT_AGAIN = 0x80,    /* serves every request of its TYPE from now on */
};

struct dns_script_reply {
  uint8_t type;
  uint8_t flags;
  uint8_t rcode;
  struct fuzz_input body;
  bool used;
};

struct dns_script {
  struct dns_script_reply replies[DNS_SCRIPT_REPLIES_MAX];
  size_t count;
  size_t requests;
  const struct tsig_key *key; /* NULL: replies are unsigned */
  const char *record;         /* content of the TXT that is looked for */
  int64_t now;                /* UTC seconds */
  /* What was said, for properties. */
  size_t signed_right;  /* replies with a TSIG that is right in every respect */
  size_t signed_by_key; /* these, and those that say BADTIME with a right MAC (RFC 8945 5.2.3) */
  bool record_was_said; /* some reply held the record */
};

void dns_script_read(struct dns_script *script, struct fuzz_input input);
/* The reply to a request, NULL: none. octets gets the message. */
const struct dns_script_reply *dns_script_answer(struct dns_script *script, const uint8_t *request, size_t size,
                                                 struct buffer *octets);

#endif
