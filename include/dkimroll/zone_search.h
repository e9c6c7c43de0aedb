/* Inside of zone discovery: one search and its steps. Shared by src/dns/zone*.c. */
#ifndef DKIMROLL_ZONE_SEARCH_H
#define DKIMROLL_ZONE_SEARCH_H

#include "dkimroll/ask.h"
#include "dkimroll/zone.h"

enum {
  ZONE_HOSTS_MAX = 32,           /* name servers of one zone: 13 is what fits a referral, few have more */
  ZONE_HOST_ADDRESSES_MAX = 8,   /* addresses of one name server */
  ZONE_RESOLVERS_MAX = 8,
  ZONE_SEARCHES_MAX = 64,        /* at work at once; further ones wait, and find the cache filled */
  ZONE_STEPS_MAX = 200,          /* questions of one search: aliases, referrals and addresses cannot go on for ever */
  RESOLV_CONF_MAX = 64 * 1024,
};

/* One name server with what is known of its addresses. */
struct zone_host {
  char name[DNS_NAME_TEXT_SIZE];
  struct address addresses[ZONE_HOST_ADDRESSES_MAX];
  size_t address_count;
  bool asked_a, asked_aaaa; /* resolved; glue counts only until then */
};

struct zone_hosts {
  struct zone_host items[ZONE_HOSTS_MAX];
  size_t count;
};

/* What is being asked. The comments in zone_steps.c tell the way from one to the next. */
enum zone_step {
  ZONE_STEP_DOMAIN,        /* resolver: SOA of the domain, dropping labels */
  ZONE_STEP_NS,            /* resolver: NS of that zone */
  ZONE_STEP_ADDRESSES,     /* resolver: A and AAAA of hosts */
  ZONE_STEP_NAME,          /* authoritative: SOA of the record's name */
  ZONE_STEP_APEX,          /* authoritative: NS of the zone */
  ZONE_STEP_PARENT,        /* resolver: SOA above the zone */
  ZONE_STEP_PARENT_NS,     /* resolver: NS of the parent */
  ZONE_STEP_DELEGATION,    /* parent's servers: NS of the zone */
  ZONE_STEP_PRIMARY,       /* resolver: A and AAAA of MNAME */
};

struct zone_search {
  struct zone_finder *finder;
  char name[DNS_NAME_TEXT_SIZE];  /* as asked for */
  char owner[DNS_NAME_TEXT_SIZE]; /* where the aliases have led so far */
  char walk[DNS_NAME_TEXT_SIZE];  /* what is asked for now */
  char zone[DNS_NAME_TEXT_SIZE];
  char parent[DNS_NAME_TEXT_SIZE];
  char primary[DNS_NAME_TEXT_SIZE];
  int64_t ttl_negative, ttl_alias;
  bool is_signed;
  const struct policy_publisher *publisher;
  int64_t deadline;
  zone_done *done;
  void *context;
  enum zone_step step, after_addresses;
  unsigned steps, aliases;
  bool known;             /* the zone was given */
  bool delegation_seen;   /* a referral of the parent is among hosts already */
  uint16_t address_type;  /* ZONE_STEP_ADDRESSES, _PRIMARY */
  struct zone_hosts hosts;        /* of the zone */
  struct zone_hosts parent_hosts; /* of its parent */
  struct zone_hosts *resolving;   /* whose addresses are asked for */
  struct zone_host primary_host;
  struct address asked[ZONE_SERVERS_MAX]; /* authoritative servers to ask */
  size_t asked_count;
  struct zone_server explicit_servers[ZONE_SERVERS_MAX]; /* publisher->servers */
  size_t explicit_count;
  struct address server; /* publisher->server; size 0: none */
  struct address resolvers[ZONE_RESOLVERS_MAX];
  size_t resolver_count;
  struct ask *ask;
  struct loop_source *start; /* the first step comes from the loop */
  struct zone_search *next;  /* waiting for a place, or at work */
};

struct zone_cached {
  const struct policy_publisher *publisher;
  int64_t until; /* boottime, milliseconds */
  struct zone_answer answer; /* owner is not part of it; servers owned */
};

struct zone_finder {
  struct asker asker;
  struct zone_search *at_work, *waiting, *waiting_last;
  size_t at_work_count;
  struct zone_cached *cache; /* ZONE_CACHE_MAX, round robin */
  size_t cache_count, cache_next;
};

/* zone_steps.c */
void zone_search_begin(struct zone_search *search);
/* zone.c: ends the search with an error, or with what it found. */
void zone_search_fail(struct zone_search *search, const struct error *error);
void zone_search_succeed(struct zone_search *search);
/* zone.c: the cached servers of search->zone; true: search ended with them. */
bool zone_search_from_cache(struct zone_search *search);
/* resolvconf.c: the resolvers of the publisher, or of /etc/resolv.conf. */
int zone_read_resolvers(const struct policy_publisher *publisher, struct address *resolvers, size_t *ret_count, struct error *error)
    ERROR_USE_RESULT;

#endif
