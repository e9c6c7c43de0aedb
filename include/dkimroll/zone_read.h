/* What messages say about zones: SOA, aliases, referrals, name servers and their addresses. Internal to
 * src/dns/zone*.c. */
#ifndef DKIMROLL_ZONE_READ_H
#define DKIMROLL_ZONE_READ_H

#include "dkimroll/message.h"
#include "dkimroll/zone.h"

enum {
  ZONE_HOSTS_MAX = 32,         /* name servers of one zone: 13 is what fits a referral of old, few have more */
  ZONE_HOST_ADDRESSES_MAX = 8, /* of one name server */
};

struct zone_host {
  char name[DNS_NAME_TEXT_SIZE];
  struct address addresses[ZONE_HOST_ADDRESSES_MAX];
  size_t address_count;
  bool unsure; /* not everyone who could know its addresses answered */
};

/* Name servers of one zone. */
struct zone_hosts {
  struct zone_host *items; /* owned */
  size_t count;
  bool overflow;  /* there are more than we keep */
  bool no_memory; /* one is missing for want of it */
};

void zone_hosts_release(struct zone_hosts *hosts);
/* The host of that name, added if it is new; NULL: no room. */
struct zone_host *zone_hosts_add(struct zone_hosts *hosts, const char *name);
/* All NS records of zone in message, with the addresses that came along. */
void zone_hosts_take(struct zone_hosts *hosts, const struct message *message, const char *zone);
/* Adds the addresses of one type in ANSWER: also behind an alias, which a name server ought not to be (RFC 2181 10.3)
 * but resolvers put up with. */
void zone_hosts_take_addresses(struct zone_hosts *hosts, size_t host, const struct message *message, uint16_t type);
size_t zone_hosts_count_addresses(const struct zone_hosts *hosts);

/* The SOA in ANSWER or AUTHORITY of a zone that name is in; NULL: none. */
const struct message_record *zone_read_soa(const struct message *message, const char *name);
/* Where name leads by a CNAME at it or a DNAME above it. false: nowhere. ret_target is "" where a DNAME makes the name
 * too long (RFC 6672 2.2). */
bool zone_read_alias(const struct message *message, const char *name, char ret_target[DNS_NAME_TEXT_SIZE],
                     int64_t *ret_ttl);
/* NS records in AUTHORITY of a zone between zone (whose servers said so) and name; NULL: none. */
const struct message_record *zone_read_referral(const struct message *message, const char *zone, const char *name);
/* Is there an RRSIG over type at name? */
bool zone_read_signature(const struct message *message, const char *name, uint16_t type);

/* Right of the last "_domainkey.", at and below which resolvers are asked nothing; NULL without one. Borrowed from
 * name. */
const char *zone_domain_of(const char *name);

#endif
