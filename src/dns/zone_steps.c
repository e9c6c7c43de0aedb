/* From the name of a record to the zone that holds it. Two ways lead to servers that can be asked about the name:
 *   given:     publisher->servers or publisher->server, if they hold it;
 *   resolvers: SOA of the domain, upwards -> NS of that zone -> addresses -> its servers, and from there by referrals.
 * Whoever is asked about the name itself is asked without recursion. An alias in the answer starts all over with its target. */
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "dkimroll/zone_search.h"

static void locate(struct zone_search *search);
static void locate_by_resolver(struct zone_search *search);
static void ask_name(struct zone_search *search);

const char *zone_search_owner(const struct zone_search *search) {
  return search->aliases[search->alias_count - 1];
}

static void fail(struct zone_search *search, int code, const char *what, const char *subject) {
  struct error error;
  error_set(&error, code, "%s %s", what, *subject ? subject : "the root");
  zone_search_fail(search, &error);
}

/* --- asking --- */

static void search_ask(struct zone_search *search, const struct zone_inquiry *inquiry, zone_told *told) {
  struct error error = {0};
  search->wait.told = told;
  search->wait.context = search;
  if (++search->steps > ZONE_STEPS_MAX) {
    error_set(&error, ERROR_LIMIT, "more than %d questions do not lead to the servers of %s", ZONE_STEPS_MAX,
              zone_search_owner(search));
    error_remedy(&error, "give publisher %s in the policy its zone and servers", search->publisher->name);
    zone_search_fail(search, &error);
    return;
  }
  /* Not being able to ask is an answer like any other, and some steps can do without. */
  if (zone_question_ask(&search->finder->questions, search->source, inquiry, &search->wait, &error))
    told(search, NULL, &error);
}

void zone_ask_resolver(struct zone_search *search, const char *name, uint16_t type, zone_told *told) {
  const struct zone_inquiry inquiry = {.role = ZONE_ROLE_RESOLVER,
                                       .zone = "",
                                       .name = name,
                                       .type = type,
                                       .keep = true,
                                       .addresses = search->source->resolvers,
                                       .address_count = search->source->resolver_count};
  search_ask(search, &inquiry, told);
}

static size_t hosts_addresses(const struct zone_hosts *hosts, struct address addresses[ZONE_SERVERS_MAX]) {
  size_t count = 0;
  for (size_t i = 0; i < hosts->count; i++)
    for (size_t j = 0; j < hosts->items[i].address_count && count < ZONE_SERVERS_MAX; j++)
      addresses[count++] = hosts->items[i].addresses[j];
  return count;
}

size_t zone_search_addresses(const struct zone_search *search, struct address addresses[ZONE_SERVERS_MAX]) {
  const struct zone_source *source = search->source;
  if (!search->uses_given) return hosts_addresses(&search->hosts, addresses);
  for (size_t i = 0; i < source->server_count; i++) addresses[i] = source->servers[i].address;
  if (source->server_count > 0) return source->server_count;
  addresses[0] = source->server;
  return 1;
}

void zone_ask_servers(struct zone_search *search, const char *name, uint16_t type, bool keep, zone_told *told) {
  struct address addresses[ZONE_SERVERS_MAX];
  const struct zone_inquiry inquiry = {.role = search->uses_given ? ZONE_ROLE_GIVEN : ZONE_ROLE_SERVERS,
                                       .zone = search->uses_given ? "" : search->zone,
                                       .name = name,
                                       .type = type,
                                       .keep = keep,
                                       .addresses = addresses,
                                       .address_count = zone_search_addresses(search, addresses)};
  search_ask(search, &inquiry, told);
}

void zone_ask_above(struct zone_search *search, const char *name, uint16_t type, zone_told *told) {
  struct address addresses[ZONE_SERVERS_MAX];
  const struct zone_inquiry inquiry = {.role = ZONE_ROLE_SERVERS,
                                       .zone = search->parent,
                                       .name = name,
                                       .type = type,
                                       .keep = true,
                                       .addresses = addresses,
                                       .address_count = hosts_addresses(&search->above, addresses)};
  search_ask(search, &inquiry, told);
}

/* --- the name, asked of those who should know it --- */

static bool is_known(const struct zone_search *search) {
  return search->known_zone[0] && message_name_below(zone_search_owner(search), search->known_zone);
}

static void located(struct zone_search *search) {
  if (search->wants_servers)
    zone_servers_begin(search);
  else
    zone_primary_begin(search);
}

static void follow_alias(struct zone_search *search, const char *target, int64_t ttl) {
  char chain[ERROR_MESSAGE_MAX];
  const bool fits = *target && search->alias_count <= ZONE_ALIASES_MAX;
  char *copy = fits ? text_duplicate(target) : NULL;
  bool loop = false;
  for (size_t i = 0; i < search->alias_count; i++) loop |= text_equal(search->aliases[i], target);
  zone_search_describe_aliases(search, chain, sizeof chain);
  if (loop || !copy) {
    struct error error;
    free(copy);
    if (fits && !loop)
      error_set(&error, ERROR_NO_MEMORY, "out of memory for an alias");
    else if (!*target)
      error_set(&error, ERROR_LIMIT, "the DNAME makes the name too long: %s", chain);
    else
      error_set(&error, ERROR_LIMIT, "%s: %s -> %s", loop ? "the aliases go round in a circle" : "too many aliases",
                chain, target);
    if (error.code == ERROR_LIMIT)
      error_remedy(&error, "correct the CNAME or DNAME records; at most %d may lead to the record", ZONE_ALIASES_MAX);
    zone_search_fail(search, &error);
    return;
  }
  search->ttl_alias = time_max(search->ttl_alias, ttl);
  search->aliases[search->alias_count++] = copy;
  search->given_failure.code = 0;
  locate(search);
}

/* false: the SOA cannot be read. */
static bool take_soa(struct zone_search *search, const struct message *message, const struct message_record *soa) {
  uint32_t serial = 0, minimum = 0;
  if (message_rdata_soa(soa, &serial, &minimum, NULL) || message_rdata_name(soa, search->primary, NULL)) return false;
  search->minimum = minimum;
  search->ttl_negative = minimum < soa->ttl ? minimum : soa->ttl;
  search->is_signed = zone_read_signature(message, soa->name, DNS_TYPE_SOA);
  text_copy(search->zone, sizeof search->zone, soa->name);
  return true;
}

/* Nobody who was asked knows the name. What is known without them may be enough. */
static void name_failed(struct zone_search *search, const struct error *error) {
  const bool given = search->uses_given;
  if (given) search->given_failure = *error;
  search->uses_given = false;
  if (is_known(search) && (!given || search->source->server_count > 0 || !search->wants_servers)) {
    if (!search->has_delegation) text_copy(search->zone, sizeof search->zone, search->known_zone);
    located(search);
  } else if (given) {
    locate_by_resolver(search);
  } else {
    zone_search_fail(search, error);
  }
}

static void follow_referral(struct zone_search *search, const struct message *message, const char *zone) {
  struct error error;
  if (search->uses_given) {
    error_set(&error, ERROR_NOT_FOUND, "they refer to the servers of %s for %s", zone, zone_search_owner(search));
    name_failed(search, &error);
    return;
  }
  text_copy(search->zone, sizeof search->zone, zone);
  zone_hosts_release(&search->hosts);
  zone_hosts_take(&search->hosts, message, zone);
  zone_hosts_release(&search->found);
  zone_hosts_take(&search->found, message, zone);
  search->has_delegation = true;
  zone_gather_one(search, &search->hosts, ask_name);
}

static void ask_walk(struct zone_search *search);

/* An authoritative answer without SOA: a label is dropped, as nsupdate does. */
static void drop_label(struct zone_search *search) {
  const char *parent = message_name_parent(search->walk);
  if (!*search->walk || text_equal(search->walk, search->zone)) {
    struct error error;
    error_set(&error, ERROR_PROTOCOL, "no server tells the SOA of the zone of %s", zone_search_owner(search));
    name_failed(search, &error);
    return;
  }
  memmove(search->walk, parent, strlen(parent) + 1);
  ask_walk(search);
}

static void name_told(void *context, const struct message *message, const struct error *error) {
  struct zone_search *search = context;
  const char *owner = zone_search_owner(search);
  char target[DNS_NAME_TEXT_SIZE];
  int64_t ttl = 0;
  if (!message) {
    name_failed(search, error);
    return;
  }
  if (zone_read_alias(message, owner, target, &ttl)) {
    follow_alias(search, target, ttl);
    return;
  }
  const struct message_record *soa = message->authoritative ? zone_read_soa(message, search->walk) : NULL;
  const struct message_record *referral =
      message->authoritative ? NULL : zone_read_referral(message, search->zone, owner);
  if (referral)
    follow_referral(search, message, referral->name);
  else if (!soa || !take_soa(search, message, soa))
    drop_label(search);
  else
    located(search);
}

static void ask_walk(struct zone_search *search) {
  zone_ask_servers(search, search->walk, DNS_TYPE_SOA, false, name_told);
}

static void ask_name(struct zone_search *search) {
  text_copy(search->walk, sizeof search->walk, zone_search_owner(search));
  ask_walk(search);
}

/* --- the zone, by way of the resolvers --- */

static void ns_told(void *context, const struct message *message, const struct error *error) {
  struct zone_search *search = context;
  if (!message) {
    zone_search_fail(search, error);
    return;
  }
  zone_hosts_release(&search->hosts);
  zone_hosts_take(&search->hosts, message, search->zone);
  if (search->hosts.count == 0)
    fail(search, ERROR_NOT_FOUND, "the resolvers know no name servers of zone", search->zone);
  else
    zone_gather_one(search, &search->hosts, ask_name);
}

static void use_zone(struct zone_search *search, const char *zone) {
  text_copy(search->zone, sizeof search->zone, zone);
  zone_ask_resolver(search, search->zone, DNS_TYPE_NS, ns_told);
}

static void domain_told(void *context, const struct message *message, const struct error *error);

static void ask_domain(struct zone_search *search) {
  zone_ask_resolver(search, search->walk, DNS_TYPE_SOA, domain_told);
}

static void domain_told(void *context, const struct message *message, const struct error *error) {
  struct zone_search *search = context;
  char target[DNS_NAME_TEXT_SIZE];
  int64_t ttl = 0;
  if (!message) {
    zone_search_fail(search, error);
    return;
  }
  /* With an alias at or above the name, what stands in AUTHORITY is about its target. */
  const struct message_record *soa = zone_read_soa(message, search->walk);
  if (!soa || zone_read_alias(message, search->walk, target, &ttl)) {
    const char *parent = message_name_parent(search->walk);
    memmove(search->walk, parent, strlen(parent) + 1);
    if (*search->walk)
      ask_domain(search);
    else
      fail(search, ERROR_NOT_FOUND, "the resolvers know no zone above", zone_search_owner(search));
  } else if (message->rcode == DNS_NXDOMAIN && !*message_name_parent(soa->name)) {
    /* A registry never takes a record of ours. */
    fail(search, ERROR_NOT_FOUND, "there is no such domain (NXDOMAIN):", search->walk);
  } else {
    use_zone(search, soa->name);
  }
}

/* Where an alias leads to a name without "_domainkey.", resolvers hear of its last two labels only, and of one if there
 * are no more. */
static const char *last_labels(const char *name) {
  const char *last = name, *last_but_one = name;
  for (const char *label = name; *label; label = message_name_parent(label)) {
    last_but_one = last;
    last = label;
  }
  return last_but_one == name ? last : last_but_one;
}

static void locate_by_resolver(struct zone_search *search) {
  const char *owner = zone_search_owner(search);
  const char *domain = zone_domain_of(owner);
  search->uses_given = false;
  if (!domain) domain = last_labels(owner);
  /* Of a known zone at or below _domainkey the resolvers must not hear; the servers of the domain refer to it. */
  if (is_known(search) && message_name_below(domain, search->known_zone)) {
    use_zone(search, search->known_zone);
    return;
  }
  text_copy(search->walk, sizeof search->walk, domain);
  ask_domain(search);
}

static void locate(struct zone_search *search) {
  const bool given = search->source->server_count > 0 || search->source->server.size > 0;
  search->has_delegation = false;
  search->zone[0] = '\0';
  zone_hosts_release(&search->hosts);
  zone_hosts_release(&search->found);
  search->uses_given = given;
  if (given)
    ask_name(search);
  else
    locate_by_resolver(search);
}

void zone_search_begin(struct zone_search *search) {
  locate(search);
}
