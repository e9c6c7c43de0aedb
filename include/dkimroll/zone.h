/* Discovery: which zone holds a record, who is its primary, and which servers are authoritative for it. */
#ifndef DKIMROLL_ZONE_H
#define DKIMROLL_ZONE_H

#include "dkimroll/error.h"
#include "dkimroll/loop.h"
#include "dkimroll/message.h"
#include "dkimroll/policy.h"
#include "dkimroll/transport.h"

enum {
  ZONE_NAME_MAX = 253,        /* characters of a name: 255 octets on the wire (RFC 1035 2.3.4) */
  ZONE_SERVERS_MAX = 64,      /* addresses; the root has 26, no zone of a domain comes near */
  ZONE_ALIASES_MAX = 8,       /* CNAME and DNAME steps */
  ZONE_CACHE_SECONDS = 60,    /* how long an answer about zones and servers serves further searches; one pass over many names asks once */
  ZONE_CACHE_MAX = 16384,     /* answers: a pass over 2,000 zones needs five or six of each */
  ZONE_QUERY_MS = 2000,       /* one attempt at one resolver or server; two at each */
  ZONE_SEARCHES_MAX = 48,     /* at work at once; further ones wait their turn */
  ZONE_QUESTIONS_MAX = 48,    /* in flight at once: with those of an observer less than TRANSPORT_UDP_SOCKETS_MAX, so that no attempt's time passes in a queue */
};

struct zone_server {
  char host[DNS_NAME_TEXT_SIZE]; /* NS name; the address text where the policy gives the server */
  struct address address;        /* size 0: a name server whose address could not be found out */
};

struct zone_answer {
  struct error error;               /* code 0: all below is filled in */
  char zone[DNS_NAME_TEXT_SIZE];    /* that really holds the record, after aliases */
  char owner[DNS_NAME_TEXT_SIZE];   /* the record's name there */
  char primary[DNS_NAME_TEXT_SIZE]; /* MNAME; empty where no server told it */
  struct address primary_address;   /* where updates go: publisher->server, else MNAME's first address, else the first of publisher->servers; size 0: unknown */
  struct error primary_error;       /* why it is unknown */
  int64_t ttl_negative;             /* min(SOA.MINIMUM, TTL of the SOA) of the zone as found, -1 unknown. 0 from BIND, which answers a question for the SOA of a name
                                       that is none with TTL 0 (zero-no-soa-ttl): looks at the name itself tell more */
  int64_t minimum;                  /* SOA.MINIMUM: ttl_negative is no more than that, -1 unknown */
  int64_t ttl_alias;                /* largest TTL of the aliases on the way, -1 none */
  bool is_signed;                   /* a server sent an RRSIG over the zone's SOA or NS: its answers have to be signed */
  struct zone_server *servers;      /* zone_find_servers, without ignore-servers */
  size_t server_count;
};

/* The answer is borrowed during the call. The finder may be freed from it. */
typedef void zone_done(void *context, const struct zone_answer *answer);

struct zone_finder;
struct zone_search; /* valid until done or cancelled */

int zone_finder_new(struct loop *loop, struct transport *transport, struct entropy *entropy,
                    struct zone_finder **ret_finder, struct error *error) ERROR_USE_RESULT;
/* Searches that are under way are cancelled. NULL is fine. */
void zone_finder_free(struct zone_finder *finder);

/* Finds the zone of name (owner name of a record) and its primary, for those who update; no servers. The authoritative
 * servers have the last word: they are asked for the SOA of the name (accepted from ANSWER or AUTHORITY, NOERROR or
 * NXDOMAIN; else a label is dropped), and the CNAME, DNAME or referral that they answer with is followed into the zone
 * that really holds it. known_zone (NULL: publisher->zone) skips the walk that finds their zone, where name, or what
 * its aliases lead to, lies in it. Who is asked: publisher->servers, else publisher->server; else, or if those do not
 * hold the name, the servers that publisher->resolvers (else /etc/resolv.conf) know of. Resolvers are asked only for
 * SOA, NS, A and AAAA of the domain and of name servers, never at or below _domainkey. name and known_zone are copied,
 * publisher is borrowed until done. done comes once, later, at the latest at deadline (boottime, milliseconds). Codes:
 * ERROR_NOT_FOUND, ERROR_TIMEOUT, ERROR_UNREACHABLE, ERROR_REFUSED, ERROR_LIMIT: too many aliases or servers,
 * ERROR_PROTOCOL. */
int zone_find(struct zone_finder *finder, const char *name, const char *known_zone,
              const struct policy_publisher *publisher, int64_t deadline, zone_done *done, void *context,
              struct zone_search **ret_search, struct error *error) ERROR_USE_RESULT;
/* The same with the zone's servers, for those who observe; no primary_address. Servers: publisher->servers, else the
 * union of the delegation by the parent and the NS set at the apex, with every A and AAAA (glue, authoritative,
 * resolved). A parent that cannot be asked leaves the NS set at the apex alone. */
int zone_find_servers(struct zone_finder *finder, const char *name, const char *known_zone,
                      const struct policy_publisher *publisher, int64_t deadline, zone_done *done, void *context,
                      struct zone_search **ret_search, struct error *error) ERROR_USE_RESULT;
void zone_cancel(struct zone_finder *finder, struct zone_search **search);

#endif
