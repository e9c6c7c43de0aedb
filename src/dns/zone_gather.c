/* Addresses of name servers. */
#include <stdlib.h>

#include "dkimroll/text.h"
#include "dkimroll/zone_search.h"

static void gather_more(struct zone_search *search);

void zone_gather_cancel(struct zone_search *search) {
  for (size_t i = 0; search->lookups && i < ZONE_LOOKUPS_MAX; i++)
    zone_wait_cancel(&search->finder->questions, &search->lookups[i].wait);
  search->lookups_open = 0;
}

static void lookup_over(struct zone_search *search) {
  if (--search->lookups_open == 0) gather_more(search);
}

static void resolver_told(void *context, const struct message *message, const struct error *error) {
  struct zone_lookup *lookup = context;
  struct zone_search *search = lookup->search;
  (void)error;
  if (message)
    zone_hosts_take_addresses(search->gathering, lookup->host, message, lookup->type);
  else
    search->gathering->items[lookup->host].unsure = true;
  lookup_over(search);
}

/* A failure to ask counts as an answer that did not come. */
static void lookup_ask(struct zone_lookup *lookup, const struct zone_inquiry *inquiry, zone_told *told) {
  struct zone_search *search = lookup->search;
  struct error error = {0};
  lookup->wait.told = told;
  lookup->wait.context = lookup;
  if (zone_question_ask(&search->finder->questions, search->source, inquiry, &lookup->wait, &error))
    told(lookup, NULL, &error);
}

static void lookup_ask_resolver(struct zone_lookup *lookup) {
  const struct zone_search *search = lookup->search;
  const struct zone_inquiry inquiry = {.role = ZONE_ROLE_RESOLVER,
                                       .zone = "",
                                       .name = search->gathering->items[lookup->host].name,
                                       .type = lookup->type,
                                       .keep = true,
                                       .addresses = search->source->resolvers,
                                       .address_count = search->source->resolver_count};
  lookup_ask(lookup, &inquiry, resolver_told);
}

static void servers_told(void *context, const struct message *message, const struct error *error) {
  struct zone_lookup *lookup = context;
  (void)error;
  if (!message || !message->authoritative) {
    lookup_ask_resolver(lookup);
    return;
  }
  zone_hosts_take_addresses(lookup->search->gathering, lookup->host, message, lookup->type);
  lookup_over(lookup->search);
}

static void lookup_ask_servers(struct zone_lookup *lookup) {
  struct zone_search *search = lookup->search;
  struct address addresses[ZONE_SERVERS_MAX];
  struct zone_inquiry inquiry = {.role = search->uses_given ? ZONE_ROLE_GIVEN : ZONE_ROLE_SERVERS,
                                 .zone = search->uses_given ? "" : search->zone,
                                 .name = search->gathering->items[lookup->host].name,
                                 .type = lookup->type,
                                 .keep = true,
                                 .addresses = addresses};
  inquiry.address_count = zone_search_addresses(search, addresses);
  lookup_ask(lookup, &inquiry, servers_told);
}

/* Hosts in the zone itself are best known by its own servers, which need no resolver. */
static bool knows_host(const struct zone_search *search, const char *host) {
  return search->gathers_all && message_name_below(host, search->zone);
}

static void look_up(struct zone_search *search, size_t host) {
  static const uint16_t types[] = {DNS_TYPE_A, DNS_TYPE_AAAA};
  for (size_t i = 0; i < 2; i++) {
    struct zone_lookup *lookup = &search->lookups[2 * host + i];
    *lookup = (struct zone_lookup){.search = search, .host = host, .type = types[i]};
    if (knows_host(search, search->gathering->items[host].name))
      lookup_ask_servers(lookup);
    else
      lookup_ask_resolver(lookup);
  }
}

/* Asks about the next hosts, or goes on if that is enough. */
static void gather_more(struct zone_search *search) {
  struct zone_hosts *hosts = search->gathering;
  const size_t first = search->gathered;
  size_t end = hosts->count;
  if (!search->gathers_all && zone_hosts_count_addresses(hosts) > 0) end = first;
  if (!search->gathers_all && end > first + ZONE_GATHER_HOSTS) end = first + ZONE_GATHER_HOSTS;
  if (end == first) {
    search->after_gathering(search);
    return;
  }
  search->gathered = end;
  search->lookups_open = 2 * (end - first) + 1; /* one more: answers that come at once must not end it early */
  for (size_t i = first; i < end; i++) look_up(search, i);
  lookup_over(search);
}

static void gather_begin(struct zone_search *search, struct zone_hosts *hosts, zone_step *after, bool all) {
  if (!search->lookups) search->lookups = calloc(ZONE_LOOKUPS_MAX, sizeof *search->lookups);
  if (!search->lookups) {
    struct error error;
    error_set(&error, ERROR_NO_MEMORY, "out of memory for addresses of name servers");
    zone_search_fail(search, &error);
    return;
  }
  search->gathering = hosts;
  search->gathered = 0;
  search->after_gathering = after;
  search->gathers_all = all;
  gather_more(search);
}

void zone_gather_one(struct zone_search *search, struct zone_hosts *hosts, zone_step *after) {
  gather_begin(search, hosts, after, false);
}

void zone_gather_all(struct zone_search *search, struct zone_hosts *hosts, zone_step *after) {
  gather_begin(search, hosts, after, true);
}
