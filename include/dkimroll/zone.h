/* Discovery: which zone holds a record, who is its primary, and which servers are authoritative for it. */
#ifndef DKIMROLL_ZONE_H
#define DKIMROLL_ZONE_H

#include "dkimroll/error.h"
#include "dkimroll/loop.h"
#include "dkimroll/message.h"
#include "dkimroll/policy.h"
#include "dkimroll/transport.h"

enum {
  ZONE_SERVERS_MAX = 64,   /* addresses; the root has 26, no zone of a domain comes near */
  ZONE_ALIASES_MAX = 8,    /* CNAME and DNAME steps */
  ZONE_CACHE_SECONDS = 60, /* how long servers once found serve for other names of the zone; one pass over many names asks once */
  ZONE_CACHE_MAX = 4096,
  ZONE_QUERY_MS = 2000,    /* one attempt at one resolver or server; two at each */
};

struct zone_server {
  char host[DNS_NAME_TEXT_SIZE]; /* NS name; the address text where the policy gives the server */
  struct address address;
};

struct zone_answer {
  struct error error;             /* code 0: all below is filled in */
  char zone[DNS_NAME_TEXT_SIZE];  /* that really holds the record, after aliases */
  char owner[DNS_NAME_TEXT_SIZE]; /* the record's name there */
  char primary[DNS_NAME_TEXT_SIZE]; /* MNAME */
  struct address primary_address;   /* where updates go: publisher->server, else MNAME's first address; size 0: unknown */
  struct error primary_error;       /* why it is unknown */
  int64_t ttl_negative;             /* min(SOA.MINIMUM, TTL of the SOA) of the zone as found */
  int64_t ttl_alias;                /* largest TTL of the aliases on the way, -1 none */
  bool is_signed;                   /* an RRSIG came with the SOA: answers of this zone have to be signed */
  struct zone_server *servers;      /* union of the parent's delegation and the apex NS set, all A and AAAA; or publisher->servers; without ignore-servers */
  size_t server_count;
};

/* The answer is borrowed during the call. */
typedef void zone_done(void *context, const struct zone_answer *answer);

struct zone_finder;
struct zone_search; /* valid until done or cancelled */

int zone_finder_new(struct loop *loop, struct transport *transport, struct entropy *entropy,
                    struct zone_finder **ret_finder, struct error *error) ERROR_USE_RESULT;
void zone_finder_free(struct zone_finder *finder);

/* Finds the zone of name (owner name of a record): the SOA walk (SOA accepted from ANSWER or AUTHORITY, NOERROR or NXDOMAIN; else drop a label), CNAME and DNAME
 * at or above the name followed into the zone that really holds it. known_zone (NULL: none) skips the walk. Who is asked: publisher->servers, else
 * publisher->server, else publisher->resolvers, else /etc/resolv.conf; a recursive resolver only for SOA, NS, A and AAAA of the domain and of name servers, never at or
 * below _domainkey, which goes to authoritative servers without recursion. done once, later, at the latest at deadline. */
int zone_find(struct zone_finder *finder, const char *name, const char *known_zone,
              const struct policy_publisher *publisher, int64_t deadline, zone_done *done, void *context,
              struct zone_search **ret_search, struct error *error) ERROR_USE_RESULT;
void zone_cancel(struct zone_finder *finder, struct zone_search **search);

#endif
