/* DNS messages: building queries and updates, reading answers. The only module that includes ldns; wire format only, no network. */
#ifndef DKIMROLL_MESSAGE_H
#define DKIMROLL_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/error.h"
#include "dkimroll/selector.h"

enum dns_type {
  DNS_TYPE_A = 1, DNS_TYPE_NS = 2, DNS_TYPE_CNAME = 5, DNS_TYPE_SOA = 6, DNS_TYPE_TXT = 16, DNS_TYPE_AAAA = 28,
  DNS_TYPE_DNAME = 39, DNS_TYPE_RRSIG = 46, DNS_TYPE_NSEC = 47, DNS_TYPE_NSEC3 = 50, DNS_TYPE_TSIG = 250, DNS_TYPE_ANY = 255,
};

/* RFC 1035 4.1.1, RFC 2136 2.2. */
enum dns_rcode {
  DNS_NOERROR = 0, DNS_FORMERR = 1, DNS_SERVFAIL = 2, DNS_NXDOMAIN = 3, DNS_NOTIMP = 4, DNS_REFUSED = 5, DNS_YXDOMAIN = 6,
  DNS_YXRRSET = 7, DNS_NXRRSET = 8, DNS_NOTAUTH = 9, DNS_NOTZONE = 10,
};

enum message_section { MESSAGE_QUESTION = 0, MESSAGE_ANSWER = 1, MESSAGE_AUTHORITY = 2, MESSAGE_ADDITIONAL = 3 };

enum {
  MESSAGE_QUERY_MAX = 512,    /* room for any query with EDNS; a TSIG needs more */
  MESSAGE_EDNS_SIZE = 1232,   /* avoids fragments on every path (DNS flag day 2020) */
  MESSAGE_RECORDS_MAX = 4096, /* of a message that we read; 65,535 octets hold hardly more */
};

struct message_record {
  enum message_section section;
  char name[DNS_NAME_TEXT_SIZE]; /* lower case, without final dot; "" is the root */
  uint16_t type;
  uint16_t rr_class;
  uint32_t ttl;
  uint8_t *rdata; /* owned by the message; names in it are uncompressed */
  size_t rdata_size;
};

struct message {
  uint16_t id;
  bool response, authoritative, truncated, recursion_available;
  unsigned opcode; /* 0 query, 5 update */
  unsigned rcode;  /* with the EDNS extension */
  struct message_record *records; /* questions are not among them, nor OPT and TSIG */
  size_t record_count;
  char question_name[DNS_NAME_TEXT_SIZE]; /* lower case; "" without a question */
  uint16_t question_type;
};

struct message_query {
  const char *name;
  uint16_t type;
  uint16_t id;
  bool recursion_desired;
  bool dnssec_ok; /* DO: signed zones answer with RRSIG and NSEC */
};
/* *ret_size octets into buffer of capacity (at least MESSAGE_QUERY_MAX). With EDNS(0). ERROR_INVALID: not a name. ERROR_NO_MEMORY. */
int message_build_query(const struct message_query *query, uint8_t *buffer, size_t capacity, size_t *ret_size,
                        struct error *error) ERROR_USE_RESULT;
/* ERROR_PROTOCOL: malformed or over a limit. Caller frees with message_free. */
int message_parse(const uint8_t *octets, size_t size, struct message **ret_message, struct error *error)
    ERROR_USE_RESULT;
void message_free(struct message *message);
/* Is it a response to that query: id, QR, question name (any case) and type? */
bool message_answers(const struct message *message, const struct message_query *query);

/* The name in NS, CNAME, DNAME RDATA (SOA: MNAME), lower case. ERROR_PROTOCOL. */
int message_rdata_name(const struct message_record *record, char ret_name[DNS_NAME_TEXT_SIZE], struct error *error)
    ERROR_USE_RESULT;
/* SOA: serial and MINIMUM. ERROR_PROTOCOL. */
int message_rdata_soa(const struct message_record *record, uint32_t *ret_serial, uint32_t *ret_minimum,
                      struct error *error) ERROR_USE_RESULT;
/* "REFUSED", "NOTAUTH"; unknown ones as "RCODE 23" (static storage for known; unknown share one text "an unknown RCODE"). */
const char *message_rcode_name(unsigned rcode);

/* Names in text, lower case, without final dot. */
bool message_name_below(const char *name, const char *ancestor); /* equal or below; everything is below "" */
/* The name without its first label; "" from a single label. Borrowed from name. */
const char *message_name_parent(const char *name);

/* One UPDATE under construction (RFC 2136). Sizes are of the message without TSIG. */
struct message_update;
int message_update_new(const char *zone, uint16_t id, struct message_update **ret_update, struct error *error)
    ERROR_USE_RESULT;
/* Prerequisites, TTL 0: no RRset of type at name (NONE/type, 2.4.3); exactly this TXT RRset (zone class with RDATA, 2.4.2). */
int message_update_require_absent(struct message_update *update, const char *name, uint16_t type, struct error *error)
    ERROR_USE_RESULT;
int message_update_require_text(struct message_update *update, const char *name, const char *text, struct error *error)
    ERROR_USE_RESULT;
/* Updates: add the TXT (2.5.1); delete that one TXT (class NONE, 2.5.4). */
int message_update_add_text(struct message_update *update, const char *name, uint32_t ttl, const char *text,
                            struct error *error) ERROR_USE_RESULT;
int message_update_delete_text(struct message_update *update, const char *name, const char *text, struct error *error)
    ERROR_USE_RESULT;
/* The same for a TXT as a server holds it. Servers compare RDATA, where the strings are cut matters, and others cut them elsewhere than we do. */
int message_update_require_rdata(struct message_update *update, const char *name, const uint8_t *rdata, size_t rdata_size,
                                 struct error *error) ERROR_USE_RESULT;
int message_update_delete_rdata(struct message_update *update, const char *name, const uint8_t *rdata, size_t rdata_size,
                                struct error *error) ERROR_USE_RESULT;
/* Upper bound of the octets on the wire so far. */
size_t message_update_size(const struct message_update *update);
/* Writes it. ERROR_LIMIT over capacity. */
int message_update_write(const struct message_update *update, uint8_t *buffer, size_t capacity, size_t *ret_size,
                         struct error *error) ERROR_USE_RESULT;
void message_update_free(struct message_update *update);

#endif
