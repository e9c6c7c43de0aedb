/* Observation: what does every authoritative server say? Finds the zone of a record, its servers and their addresses, and asks each directly,
 * without recursion, UDP with EDNS and TCP after truncation. In a signed zone an answer is right only with an RRSIG over the TXT by that zone which is
 * valid now (RFC 4034 3.1); its cryptographic value is not checked. */
#ifndef DKIMROLL_OBSERVE_H
#define DKIMROLL_OBSERVE_H

#include "dkimroll/error.h"
#include "dkimroll/loop.h"
#include "dkimroll/policy.h"
#include "dkimroll/selector.h"
#include "dkimroll/transport.h"

enum {
  OBSERVE_ITEMS_MAX = 2000,      /* of one round: with a dead server among theirs, still done within a minute */
  OBSERVE_SERVERS_MAX = 64,      /* addresses of one zone */
  OBSERVE_ANSWER_TEXT_MAX = 160, /* what status shows of a wrong answer */
  OBSERVE_QUERIES_IN_FLIGHT_MAX = 160, /* of all rounds; below TRANSPORT_UDP_SOCKETS_MAX, so that no attempt's time passes in a queue */
  OBSERVE_ATTEMPT_MS = 2000,     /* one UDP attempt; three of them, then TCP once */
};

enum observe_kind {
  OBSERVE_SURVEY = 1,  /* before publication: is the name free, and what may caches hold? asks for a random sibling too */
  OBSERVE_PRESENT = 2, /* right: exactly this record and no other TXT at the name */
  OBSERVE_ABSENT = 3,  /* right: our RDATA is not among the answer */
};

enum observe_verdict {
  OBSERVE_RIGHT = 1,
  OBSERVE_WRONG = 2,    /* answered, with something else */
  OBSERVE_SILENT = 3,   /* no usable answer: time-out, refused, SERVFAIL, not authoritative */
  OBSERVE_NO_ROUTE = 4, /* address family without a route from here; does not hold back if the same name server was right at another address */
};

struct observe_item {
  const char *name;   /* owner name of the record */
  const char *record; /* TXT content: PRESENT the wanted, ABSENT the one that must be gone; SURVEY: NULL */
  const char *record_also; /* ABSENT: a second content that must be gone too (before and after the revocation); NULL none */
  const char *zone;   /* known or explicit zone; NULL: discovered */
  const struct policy_publisher *publisher; /* servers, ignore-servers, resolvers */
};

/* One address of one server. */
struct observe_server {
  char host[DNS_NAME_TEXT_SIZE]; /* the NS name, or the address where the policy gives it */
  char address[ADDRESS_TEXT_SIZE];
  enum observe_verdict verdict;
  int64_t at;            /* wall seconds of the answer or of giving up */
  int64_t ttl;           /* of the TXT that it gave, -1 none */
  int64_t ttl_negative;  /* min(SOA.MINIMUM, TTL of the SOA) of its zone (RFC 2308 5), -1 unknown */
  char answer[OBSERVE_ANSWER_TEXT_MAX]; /* "NXDOMAIN", "2 TXT records", "v=DKIM1; k=rsa; p=MII...", "no answer in 6 s" */
  const char *served;    /* whole content of the only TXT at the name, borrowed as the result is; NULL: none, several, or no usable answer */
  size_t served_size;
  bool nothing; /* it says for certain that the name has neither a TXT nor an alias */
};

struct observe_result {
  struct error error; /* code 0: servers says it all; else the zone or its servers could not be found, or one could not be asked for want of something here */
  char zone[DNS_NAME_TEXT_SIZE];  /* that really holds the record, after aliases */
  char owner[DNS_NAME_TEXT_SIZE]; /* the name there: other than item->name behind CNAME or DNAME */
  char primary[DNS_NAME_TEXT_SIZE];   /* MNAME of the zone's SOA */
  struct observe_server *servers; /* owned by the result */
  size_t server_count;
  int64_t ttl_negative; /* TTLneg: largest of all servers, -1 unknown */
  int64_t ttl_old;      /* SURVEY: TTLold, the largest TTL of any answer for the name (wildcard, alias, NSEC), -1 none */
  bool free;            /* SURVEY: every server that answered gave for the name what it gave for its random sibling */
  char foreign[OBSERVE_ANSWER_TEXT_MAX]; /* SURVEY, not free: what stands there */
};

/* results[count] are the operation's, valid during the call. */
typedef void observe_done(void *context, const struct observe_result *results, size_t count);

struct observer;
struct observe_operation;

struct observer_ops {
  /* Starts one round over items (borrowed until done), all of one kind. done comes once, later, at the latest at deadline (boottime, milliseconds); what has not
   * answered by then is OBSERVE_SILENT. The resolvers are asked for SOA and NS of the domain only: everything at or below _domainkey goes to authoritative
   * servers with RD=0. */
  int (*start)(struct observer *observer, enum observe_kind kind, const struct observe_item *items, size_t count,
               int64_t deadline, observe_done *done, void *context, struct observe_operation **ret_operation,
               struct error *error);
  void (*cancel)(struct observer *observer, struct observe_operation *operation);
  void (*destroy)(struct observer *observer);
};

struct observer {
  const struct observer_ops *ops;
};

int observer_start(struct observer *observer, enum observe_kind kind, const struct observe_item *items, size_t count,
                   int64_t deadline, observe_done *done, void *context, struct observe_operation **ret_operation,
                   struct error *error) ERROR_USE_RESULT;
void observer_cancel(struct observer *observer, struct observe_operation **operation);
void observer_destroy(struct observer *observer);

/* Over transport. */
int observer_dns_new(struct loop *loop, struct transport *transport, struct entropy *entropy,
                     struct observer **ret_observer, struct error *error) ERROR_USE_RESULT;

#endif
