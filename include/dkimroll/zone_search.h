/* Inside of zone discovery: the finder and one search. Shared by src/dns/zone*.c. */
#ifndef DKIMROLL_ZONE_SEARCH_H
#define DKIMROLL_ZONE_SEARCH_H

#include <sys/queue.h>

#include "dkimroll/zone.h"
#include "dkimroll/zone_question.h"
#include "dkimroll/zone_read.h"

enum {
  ZONE_STEPS_MAX =
      120, /* questions of one search, those for addresses aside: aliases, referrals and labels cannot go on for ever */
  ZONE_GATHER_HOSTS = 4, /* name servers whose addresses are asked for together where one address is enough */
  ZONE_LOOKUPS_MAX = 2 * ZONE_HOSTS_MAX,
};

struct zone_search;
typedef void zone_step(struct zone_search *search);

/* One question for the addresses of one host. */
struct zone_lookup {
  struct zone_search *search;
  size_t host;
  uint16_t type;
  struct zone_wait wait;
};

struct zone_search {
  struct zone_finder *finder;
  struct zone_source *source;
  const struct policy_publisher *publisher;
  bool wants_servers; /* else the primary */
  zone_done *done;
  void *context;
  struct loop_source *timer;  /* the deadline */
  struct loop_source *wakeup; /* begins or ends the search from the loop */
  enum { ZONE_SEARCH_WAITING = 1, ZONE_SEARCH_AT_WORK = 2, ZONE_SEARCH_ENDED = 3 } state;
  TAILQ_ENTRY(zone_search) next;

  char name[DNS_NAME_TEXT_SIZE];       /* as asked for */
  char known_zone[DNS_NAME_TEXT_SIZE]; /* "" none */
  char *aliases[ZONE_ALIASES_MAX + 1]; /* owned: name, and where each alias led; the last is where the record lives */
  size_t alias_count;
  char zone[DNS_NAME_TEXT_SIZE];
  char walk[DNS_NAME_TEXT_SIZE]; /* name being asked for, while labels are dropped */
  char primary[DNS_NAME_TEXT_SIZE];
  int64_t ttl_negative, minimum, ttl_alias;
  bool is_signed;
  bool uses_given;            /* the given servers are asked now */
  bool has_delegation;        /* found holds what the parent says */
  struct error given_failure; /* why the given servers are of no use */
  unsigned steps;
  struct zone_wait wait;
  struct zone_hosts hosts; /* who is asked about zone */
  struct zone_hosts above; /* who is asked about the delegation of zone */
  char parent[DNS_NAME_TEXT_SIZE];
  struct zone_hosts found; /* the result: union of delegation and apex */
  /* Gathering addresses. */
  struct zone_hosts *gathering;
  size_t gathered; /* hosts asked for so far */
  size_t lookups_open;
  struct zone_lookup *lookups; /* owned, ZONE_LOOKUPS_MAX */
  bool gathers_all;
  zone_step *after_gathering;

  struct zone_answer answer; /* servers owned */
};
TAILQ_HEAD(zone_searches, zone_search);

struct zone_finder {
  struct zone_questions questions;
  struct zone_sources sources;
  struct zone_searches at_work, waiting, ended;
  size_t at_work_count;
};

/* zone.c: ends the search, from the loop, with an error or with what it found. */
void zone_search_fail(struct zone_search *search, const struct error *error);
void zone_search_succeed(struct zone_search *search);
/* "a -> b -> c". */
void zone_search_describe_aliases(const struct zone_search *search, char *buffer, size_t size);

/* zone_steps.c: from the name to its zone. */
void zone_search_begin(struct zone_search *search);
const char *zone_search_owner(const struct zone_search *search);
/* The servers that are asked about zone and the names in it: the given ones, or hosts. How many. */
size_t zone_search_addresses(const struct zone_search *search, struct address addresses[ZONE_SERVERS_MAX]);
/* Questions of a search; told comes at once where nobody can be asked. */
void zone_ask_resolver(struct zone_search *search, const char *name, uint16_t type, zone_told *told);
void zone_ask_servers(struct zone_search *search, const char *name, uint16_t type, bool keep, zone_told *told);
void zone_ask_above(struct zone_search *search, const char *name, uint16_t type, zone_told *told);

/* zone_servers.c: from the zone to its servers, or its primary. */
void zone_servers_begin(struct zone_search *search);
void zone_primary_begin(struct zone_search *search);

/* zone_gather.c: addresses of hosts, then a step. One: asks the resolvers until one address is known; all: every
 * address, of hosts in the zone from its own servers. */
void zone_gather_one(struct zone_search *search, struct zone_hosts *hosts, zone_step *after);
void zone_gather_all(struct zone_search *search, struct zone_hosts *hosts, zone_step *after);
void zone_gather_cancel(struct zone_search *search);

#endif
