/* Whom a publisher lets us ask, shared by all searches for it. Internal to src/dns/zone*.c. */
#ifndef DKIMROLL_ZONE_SOURCE_H
#define DKIMROLL_ZONE_SOURCE_H

#include <sys/queue.h>

#include "dkimroll/policy.h"
#include "dkimroll/zone.h"

enum {
  ZONE_PORT = 53,
  RESOLV_CONF_MAX = 64 * 1024, /* octets of /etc/resolv.conf; glibc itself reads three name servers of it */
};

struct zone_source {
  char *identity;        /* all addresses as the policy writes them: publishers that agree in them share answers */
  struct address server; /* size 0: none */
  struct zone_server *servers;
  size_t server_count;
  struct address resolvers[POLICY_SERVERS_MAX];
  size_t resolver_count;
  int64_t until; /* when the resolvers of /etc/resolv.conf have to be read again; TIME_NEVER for given ones */
  unsigned references;
  LIST_ENTRY(zone_source) next;
};
LIST_HEAD(zone_sources, zone_source);

/* A reference to the source of publisher, made or shared; release it. ERROR_INVALID: not an address. now: boottime,
 * milliseconds. */
int zone_source_get(struct zone_sources *sources, const struct policy_publisher *publisher, int64_t now,
                    struct zone_source **ret_source, struct error *error) ERROR_USE_RESULT;
struct zone_source *zone_source_reference(struct zone_source *source);
void zone_source_release(struct zone_source *source);

/* The addresses of resolv.conf(5)'s "nameserver" lines, at most capacity; how many. Changes text. */
size_t resolvconf_parse(char *text, struct address *addresses, size_t capacity);
/* Those of a file. Without any, as resolv.conf(5) says, the local host. */
int resolvconf_read(const char *path, struct address *addresses, size_t capacity, size_t *ret_count,
                    struct error *error) ERROR_USE_RESULT;

#endif
