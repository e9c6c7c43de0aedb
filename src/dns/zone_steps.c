#include <stdio.h>
#include <string.h>

#include "dkimroll/text.h"
#include "dkimroll/zone_search.h"

/* The way of a search:
 *   without given servers:  DOMAIN -> NS -> ADDRESSES -> NAME (aliases lead back to DOMAIN, referrals to ADDRESSES)
 *   with a given primary or servers: NAME at those
 *   then, without given servers: APEX -> PARENT -> PARENT_NS -> ADDRESSES -> DELEGATION -> ADDRESSES -> PRIMARY -> end
 * One question is open at a time. */

static void step_ask(struct zone_search *search, enum zone_step step, const char *name, uint16_t type);
static void step_addresses(struct zone_search *search, struct zone_hosts *hosts, enum zone_step after);
static void step_domain(struct zone_search *search);

static void fail(struct zone_search *search, int code, const char *what, const char *subject) {
  struct error error;
  error_set(&error, code, "%s %s", what, subject);
  zone_search_fail(search, &error);
}

static struct zone_host *hosts_add(struct zone_hosts *hosts, const char *name) {
  for (size_t i = 0; i < hosts->count; i++)
    if (text_equal(hosts->items[i].name, name)) return &hosts->items[i];
  if (hosts->count == ZONE_HOSTS_MAX) return NULL;
  struct zone_host *host = &hosts->items[hosts->count++];
  memset(host, 0, sizeof *host);
  text_copy(host->name, sizeof host->name, name);
  return host;
}

static void host_add_address(struct zone_host *host, const struct message_record *record) {
  struct address address;
  const bool good = (record->type == DNS_TYPE_A && record->rdata_size == 4) || (record->type == DNS_TYPE_AAAA && record->rdata_size == 16);
  if (!good || host->address_count == ZONE_HOST_ADDRESSES_MAX) return;
  address_from_octets(record->rdata, record->rdata_size, 53, &address);
  for (size_t i = 0; i < host->address_count; i++)
    if (address_equal(&host->addresses[i], &address)) return;
  host->addresses[host->address_count++] = address;
}

/* NS records of zone with the addresses that came along (glue). */
static void hosts_take(struct zone_hosts *hosts, const struct message *message, const char *zone) {
  for (size_t i = 0; i < message->record_count; i++) {
    const struct message_record *record = &message->records[i];
    char name[DNS_NAME_TEXT_SIZE];
    struct error unused;
    if (record->type != DNS_TYPE_NS || !text_equal(record->name, zone) || message_rdata_name(record, name, &unused)) continue;
    struct zone_host *host = hosts_add(hosts, name);
    for (size_t j = 0; host && j < message->record_count; j++)
      if (message->records[j].section == MESSAGE_ADDITIONAL && text_equal(message->records[j].name, name))
        host_add_address(host, &message->records[j]);
  }
}

static void ask_hosts(struct zone_search *search, const struct zone_hosts *hosts) {
  search->asked_count = 0;
  for (size_t i = 0; i < hosts->count; i++)
    for (size_t j = 0; j < hosts->items[i].address_count && search->asked_count < ZONE_SERVERS_MAX; j++)
      search->asked[search->asked_count++] = hosts->items[i].addresses[j];
}

/* SOA of a zone at or above name, from ANSWER or AUTHORITY; takes over what it says. */
static const struct message_record *find_soa(const struct message *message, const char *name) {
  for (size_t i = 0; i < message->record_count; i++) {
    const struct message_record *record = &message->records[i];
    if (record->type == DNS_TYPE_SOA && record->section != MESSAGE_ADDITIONAL && message_name_below(name, record->name)) return record;
  }
  return NULL;
}

static bool take_soa(struct zone_search *search, const struct message *message, const struct message_record *soa) {
  uint32_t serial = 0, minimum = 0;
  struct error unused;
  search->is_signed = false;
  for (size_t i = 0; i < message->record_count; i++)
    search->is_signed |= message->records[i].type == DNS_TYPE_RRSIG && text_equal(message->records[i].name, soa->name);
  if (message_rdata_soa(soa, &serial, &minimum, &unused) || message_rdata_name(soa, search->primary, &unused)) return false;
  search->ttl_negative = minimum < soa->ttl ? minimum : soa->ttl;
  return true;
}

/* A CNAME at the name, or a DNAME above it; *ret_target is where it leads. */
static bool find_alias(const struct message *message, const char *name, char ret_target[DNS_NAME_TEXT_SIZE], int64_t *ret_ttl) {
  struct error unused;
  for (size_t i = 0; i < message->record_count; i++) {
    const struct message_record *record = &message->records[i];
    *ret_ttl = record->ttl;
    if (record->section == MESSAGE_ANSWER && record->type == DNS_TYPE_CNAME && text_equal(record->name, name))
      return message_rdata_name(record, ret_target, &unused) == 0;
  }
  for (size_t i = 0; i < message->record_count; i++) {
    const struct message_record *record = &message->records[i];
    char target[DNS_NAME_TEXT_SIZE];
    if (record->section != MESSAGE_ANSWER || record->type != DNS_TYPE_DNAME || text_equal(record->name, name) ||
        !message_name_below(name, record->name) || message_rdata_name(record, target, &unused))
      continue;
    *ret_ttl = record->ttl;
    const size_t kept = strlen(name) - strlen(record->name); /* with the dot */
    const int size = snprintf(ret_target, DNS_NAME_TEXT_SIZE, "%.*s%s", (int)kept, name, target);
    return size > 0 && size < DNS_NAME_TEXT_SIZE;
  }
  return false;
}

/* Where the recursive part of a search for name begins: right of "_domainkey.", because nothing below it is asked of resolvers. */
static const char *domain_part(const char *name) {
  const char *label = name;
  while (*label) {
    if (text_starts(label, "_domainkey.")) return label + strlen("_domainkey.");
    label = message_name_parent(label);
  }
  return name;
}

static void answered(void *context, const struct message *message, const struct address *from, const struct error *error);

static void step_ask(struct zone_search *search, enum zone_step step, const char *name, uint16_t type) {
  const bool recursive = step != ZONE_STEP_NAME && step != ZONE_STEP_APEX && step != ZONE_STEP_DELEGATION;
  struct error error = {0};
  search->step = step;
  if (name != search->walk) text_copy(search->walk, sizeof search->walk, name);
  if (++search->steps > ZONE_STEPS_MAX) {
    fail(search, ERROR_LIMIT, "too many questions are needed to find", search->name);
    return;
  }
  /* Authoritative servers that are not (lame) are passed over by their rcode; one that refuses the name counts as "not here". */
  const struct ask_request request = {.addresses = recursive ? search->resolvers : search->asked,
                                      .address_count = recursive ? search->resolver_count : search->asked_count,
                                      .name = search->walk,
                                      .type = type,
                                      .recursion_desired = recursive,
                                      .tcp_at_last = !recursive,
                                      .attempts = 2,
                                      .attempt_ms = ZONE_QUERY_MS,
                                      .deadline = search->deadline};
  if (ask_start(&search->finder->asker, &request, answered, search, &search->ask, &error)) zone_search_fail(search, &error);
}

/* Everything about the zone is known but its servers. */
static void zone_known(struct zone_search *search) {
  if (zone_search_from_cache(search)) return;
  if (search->explicit_count > 0)
    zone_search_succeed(search);
  else
    step_ask(search, ZONE_STEP_APEX, search->zone, DNS_TYPE_NS);
}

static void on_domain(struct zone_search *search, const struct message *message) {
  const struct message_record *soa = find_soa(message, search->walk);
  if (!soa) {
    const char *parent = message_name_parent(search->walk);
    if (!*parent) {
      fail(search, ERROR_NOT_FOUND, "the resolvers know no zone for", search->owner);
      return;
    }
    memmove(search->walk, parent, strlen(parent) + 1);
    step_ask(search, ZONE_STEP_DOMAIN, search->walk, DNS_TYPE_SOA);
    return;
  }
  text_copy(search->zone, sizeof search->zone, soa->name);
  search->hosts.count = 0;
  search->delegation_seen = false;
  step_ask(search, ZONE_STEP_NS, search->zone, DNS_TYPE_NS);
}

static void on_ns(struct zone_search *search, const struct message *message) {
  hosts_take(&search->hosts, message, search->zone);
  if (search->hosts.count == 0) {
    fail(search, ERROR_NOT_FOUND, "there are no NS records for zone", search->zone);
    return;
  }
  step_addresses(search, &search->hosts, ZONE_STEP_NAME);
}

static void follow_alias(struct zone_search *search, const char *target) {
  if (++search->aliases > ZONE_ALIASES_MAX) {
    fail(search, ERROR_LIMIT, "the aliases do not end (CNAME or DNAME loop), last:", target);
    return;
  }
  text_copy(search->owner, sizeof search->owner, target);
  if (message_name_below(target, search->zone) || search->explicit_count > 0 || search->server.size > 0)
    step_ask(search, ZONE_STEP_NAME, search->owner, DNS_TYPE_SOA);
  else
    step_domain(search);
}

/* NS records below the zone asked for: the name lives in a delegated zone. */
static const struct message_record *find_referral(const struct message *message, const struct zone_search *search) {
  for (size_t i = 0; i < message->record_count; i++) {
    const struct message_record *record = &message->records[i];
    if (record->section == MESSAGE_AUTHORITY && record->type == DNS_TYPE_NS && message_name_below(search->owner, record->name) &&
        (!search->zone[0] || (message_name_below(record->name, search->zone) && !text_equal(record->name, search->zone))))
      return record;
  }
  return NULL;
}

static void follow_referral(struct zone_search *search, const struct message *message, const char *zone) {
  text_copy(search->zone, sizeof search->zone, zone);
  search->hosts.count = 0;
  hosts_take(&search->hosts, message, search->zone);
  search->delegation_seen = true;
  step_addresses(search, &search->hosts, ZONE_STEP_NAME);
}

/* With given servers and nothing found, a label is dropped, as nsupdate does. */
static void drop_label(struct zone_search *search) {
  const char *parent = message_name_parent(search->walk);
  if (!*parent) {
    fail(search, ERROR_NOT_FOUND, "no server that the policy names is authoritative for", search->owner);
    return;
  }
  memmove(search->walk, parent, strlen(parent) + 1);
  step_ask(search, ZONE_STEP_NAME, search->walk, DNS_TYPE_SOA);
}

static void on_name(struct zone_search *search, const struct message *message) {
  char target[DNS_NAME_TEXT_SIZE];
  int64_t ttl = -1;
  const bool given = search->explicit_count > 0 || search->server.size > 0;
  if (text_equal(search->walk, search->owner) && !search->known && find_alias(message, search->owner, target, &ttl)) {
    if (ttl > search->ttl_alias) search->ttl_alias = ttl;
    follow_alias(search, target);
    return;
  }
  const struct message_record *soa = message->authoritative ? find_soa(message, search->walk) : NULL;
  if (!soa) {
    const struct message_record *referral = find_referral(message, search);
    if (referral && search->explicit_count == 0)
      follow_referral(search, message, referral->name);
    else if (given)
      drop_label(search);
    else
      fail(search, ERROR_NOT_FOUND, "the servers are not authoritative for", search->owner);
    return;
  }
  if (!take_soa(search, message, soa)) {
    fail(search, ERROR_PROTOCOL, "the SOA record cannot be read of zone", soa->name);
    return;
  }
  if (!text_equal(search->zone, soa->name)) search->delegation_seen = false;
  text_copy(search->zone, sizeof search->zone, soa->name);
  zone_known(search);
}

/* Apex NS and delegation are a union: hosts that only one of them names are kept. */
static void on_apex(struct zone_search *search, const struct message *message) {
  if (!search->delegation_seen) search->hosts.count = 0;
  hosts_take(&search->hosts, message, search->zone);
  if (search->hosts.count == 0) {
    fail(search, ERROR_NOT_FOUND, "its own servers give no NS records for zone", search->zone);
    return;
  }
  const char *above = message_name_parent(search->zone);
  if (search->delegation_seen || !search->zone[0])
    step_addresses(search, &search->hosts, ZONE_STEP_PRIMARY);
  else
    step_ask(search, ZONE_STEP_PARENT, *above ? above : ".", DNS_TYPE_SOA);
}

static void on_parent(struct zone_search *search, const struct message *message) {
  const struct message_record *soa = find_soa(message, text_equal(search->walk, ".") ? "" : search->walk);
  if (!soa) {
    const char *parent = message_name_parent(search->walk);
    if (!*parent) {
      fail(search, ERROR_NOT_FOUND, "the resolvers know no zone above", search->zone);
      return;
    }
    memmove(search->walk, parent, strlen(parent) + 1);
    step_ask(search, ZONE_STEP_PARENT, search->walk, DNS_TYPE_SOA);
    return;
  }
  text_copy(search->parent, sizeof search->parent, soa->name);
  search->parent_hosts.count = 0;
  step_ask(search, ZONE_STEP_PARENT_NS, search->parent[0] ? search->parent : ".", DNS_TYPE_NS);
}

static void on_parent_ns(struct zone_search *search, const struct message *message) {
  hosts_take(&search->parent_hosts, message, search->parent);
  step_addresses(search, &search->parent_hosts, ZONE_STEP_DELEGATION);
}

static void on_delegation(struct zone_search *search, const struct message *message) {
  hosts_take(&search->hosts, message, search->zone);
  step_addresses(search, &search->hosts, ZONE_STEP_PRIMARY);
}

static bool host_is_known(const struct zone_search *search, const char *name) {
  for (size_t i = 0; i < search->hosts.count; i++)
    if (text_equal_nocase(search->hosts.items[i].name, name) && search->hosts.items[i].address_count > 0) return true;
  return false;
}

static void step_primary(struct zone_search *search) {
  struct zone_host *host = &search->primary_host;
  text_copy(host->name, sizeof host->name, search->primary);
  if (search->server.size > 0 || !host->name[0] || host_is_known(search, host->name) || (host->asked_a && host->asked_aaaa)) {
    zone_search_succeed(search);
    return;
  }
  search->address_type = host->asked_a ? DNS_TYPE_AAAA : DNS_TYPE_A;
  step_ask(search, ZONE_STEP_PRIMARY, host->name, search->address_type);
}

static void continue_with(struct zone_search *search, enum zone_step step) {
  if (step == ZONE_STEP_PRIMARY) {
    step_primary(search);
    return;
  }
  ask_hosts(search, step == ZONE_STEP_DELEGATION ? &search->parent_hosts : &search->hosts);
  if (step == ZONE_STEP_NAME)
    step_ask(search, step, search->owner, DNS_TYPE_SOA);
  else
    step_ask(search, step, search->zone, DNS_TYPE_NS);
}

/* Asks for both families of every host in turn. Glue alone would do for asking, but every address counts for the confirmation. For the parent's servers the
 * first usable ones do. */
static void step_addresses(struct zone_search *search, struct zone_hosts *hosts, enum zone_step after) {
  search->resolving = hosts;
  search->after_addresses = after;
  const bool complete = after == ZONE_STEP_PRIMARY;
  for (size_t i = 0; i < hosts->count; i++) {
    struct zone_host *host = &hosts->items[i];
    if ((host->asked_a && host->asked_aaaa) || (!complete && host->address_count > 0)) continue;
    search->address_type = host->asked_a ? DNS_TYPE_AAAA : DNS_TYPE_A;
    step_ask(search, ZONE_STEP_ADDRESSES, host->name, search->address_type);
    return;
  }
  continue_with(search, after);
}

static void take_addresses(struct zone_host *host, const struct message *message, uint16_t type) {
  for (size_t i = 0; i < message->record_count; i++)
    if (message->records[i].section == MESSAGE_ANSWER && message->records[i].type == type) host_add_address(host, &message->records[i]);
  if (type == DNS_TYPE_A)
    host->asked_a = true;
  else
    host->asked_aaaa = true;
}

static void on_addresses(struct zone_search *search, const struct message *message) {
  for (size_t i = 0; i < search->resolving->count; i++)
    if (text_equal(search->resolving->items[i].name, search->walk)) take_addresses(&search->resolving->items[i], message, search->address_type);
  step_addresses(search, search->resolving, search->after_addresses);
}

static void on_primary(struct zone_search *search, const struct message *message) {
  take_addresses(&search->primary_host, message, search->address_type);
  step_primary(search);
}

static void answered(void *context, const struct message *message, const struct address *from, const struct error *error) {
  struct zone_search *search = context;
  (void)from;
  search->ask = NULL;
  /* Given servers that refuse or do not know the name may know its parent. */
  const bool given = search->explicit_count > 0 || search->server.size > 0;
  if (error->code == ERROR_REFUSED && search->step == ZONE_STEP_NAME && given && !search->known) {
    drop_label(search);
    return;
  }
  if (error->code) {
    zone_search_fail(search, error);
    return;
  }
  switch (search->step) {
  case ZONE_STEP_DOMAIN: on_domain(search, message); return;
  case ZONE_STEP_NS: on_ns(search, message); return;
  case ZONE_STEP_ADDRESSES: on_addresses(search, message); return;
  case ZONE_STEP_NAME: on_name(search, message); return;
  case ZONE_STEP_APEX: on_apex(search, message); return;
  case ZONE_STEP_PARENT: on_parent(search, message); return;
  case ZONE_STEP_PARENT_NS: on_parent_ns(search, message); return;
  case ZONE_STEP_DELEGATION: on_delegation(search, message); return;
  case ZONE_STEP_PRIMARY: on_primary(search, message); return;
  }
}

static void step_domain(struct zone_search *search) {
  step_ask(search, ZONE_STEP_DOMAIN, domain_part(search->owner), DNS_TYPE_SOA);
}

void zone_search_begin(struct zone_search *search) {
  if (search->known && zone_search_from_cache(search)) return;
  search->asked_count = 0;
  for (size_t i = 0; i < search->explicit_count; i++) search->asked[search->asked_count++] = search->explicit_servers[i].address;
  if (search->asked_count == 0 && search->server.size > 0) search->asked[search->asked_count++] = search->server;
  if (search->asked_count > 0)
    step_ask(search, ZONE_STEP_NAME, search->known ? search->zone : search->owner, DNS_TYPE_SOA);
  else if (search->known)
    step_ask(search, ZONE_STEP_NS, search->zone, DNS_TYPE_NS);
  else
    step_domain(search);
}
