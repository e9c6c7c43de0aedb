/* From a zone to all its servers, or to its primary: NS at the apex -> SOA above the zone -> NS of that parent -> its
 * servers -> the delegation -> addresses. */
#include <string.h>

#include "dkimroll/text.h"
#include "dkimroll/zone_search.h"

static void addresses_begin(struct zone_search *search);
static void ask_delegation(struct zone_search *search);

/* --- the primary --- */

static void primary_gathered(struct zone_search *search) {
  zone_search_succeed(search);
}

void zone_primary_begin(struct zone_search *search) {
  zone_hosts_release(&search->found);
  if (search->source->server.size > 0 || !*search->primary || !zone_hosts_add(&search->found, search->primary))
    zone_search_succeed(search);
  else
    zone_gather_all(search, &search->found, primary_gathered);
}

/* --- all servers --- */

static void addresses_gathered(struct zone_search *search) {
  zone_search_succeed(search);
}

static void addresses_begin(struct zone_search *search) {
  zone_gather_all(search, &search->found, addresses_gathered);
}

/* The parent's own servers answer with a referral; one that serves the zone as well answers with the NS set at its
 * apex, as it does to everybody. */
static void delegation_told(void *context, const struct message *message, const struct error *error) {
  struct zone_search *search = context;
  (void)error;
  const struct message_record *referral = message ? zone_read_referral(message, search->parent, search->zone) : NULL;
  if (referral && !text_equal(referral->name, search->zone)) {
    text_copy(search->parent, sizeof search->parent, referral->name);
    zone_hosts_release(&search->above);
    zone_hosts_take(&search->above, message, search->parent);
    zone_gather_one(search, &search->above, ask_delegation);
    return;
  }
  if (message) zone_hosts_take(&search->found, message, search->zone);
  addresses_begin(search);
}

static void ask_delegation(struct zone_search *search) {
  zone_ask_above(search, search->zone, DNS_TYPE_NS, delegation_told);
}

static void parent_ns_told(void *context, const struct message *message, const struct error *error) {
  struct zone_search *search = context;
  (void)error;
  zone_hosts_release(&search->above);
  if (message) zone_hosts_take(&search->above, message, search->parent);
  if (search->above.count > 0)
    zone_gather_one(search, &search->above, ask_delegation);
  else
    addresses_begin(search);
}

static void parent_told(void *context, const struct message *message, const struct error *error);

static void ask_parent(struct zone_search *search) {
  zone_ask_resolver(search, search->walk, DNS_TYPE_SOA, parent_told);
}

static void parent_told(void *context, const struct message *message, const struct error *error) {
  struct zone_search *search = context;
  char target[DNS_NAME_TEXT_SIZE];
  int64_t ttl = 0;
  (void)error;
  const struct message_record *soa = message ? zone_read_soa(message, search->walk) : NULL;
  if (soa && !zone_read_alias(message, search->walk, target, &ttl)) {
    text_copy(search->parent, sizeof search->parent, soa->name);
    zone_ask_resolver(search, search->parent, DNS_TYPE_NS, parent_ns_told);
  } else if (message && *search->walk) {
    const char *parent = message_name_parent(search->walk);
    memmove(search->walk, parent, strlen(parent) + 1);
    ask_parent(search);
  } else {
    addresses_begin(search);
  }
}

static void parent_begin(struct zone_search *search) {
  const char *domain = zone_domain_of(search->zone);
  /* Of names at and below _domainkey the resolvers must not hear; the servers of the domain refer to what lies
   * between. */
  text_copy(search->walk, sizeof search->walk, domain ? domain : message_name_parent(search->zone));
  ask_parent(search);
}

static void apex_told(void *context, const struct message *message, const struct error *error) {
  struct zone_search *search = context;
  /* Not to have been able to ask says nothing about the servers: one that only the zone itself names would be left out. */
  if (!message && ask_failed_here(error)) {
    zone_search_fail(search, error);
    return;
  }
  if (message) {
    search->is_signed |= zone_read_signature(message, search->zone, DNS_TYPE_NS);
    zone_hosts_take(&search->found, message, search->zone);
  }
  /* Where none of its servers answers, what others say of them is all there is: each of them is shown to be silent. */
  for (size_t i = 0; search->found.count == 0 && i < search->hosts.count; i++)
    (void)!zone_hosts_add(&search->found, search->hosts.items[i].name);
  if (search->found.count == 0) {
    struct error failure = *error;
    if (message) error_set(&failure, ERROR_NOT_FOUND, "there are no NS records at the apex of %s", search->zone);
    zone_search_fail(search, &failure);
  } else if (search->has_delegation || !*search->zone) {
    addresses_begin(search);
  } else {
    parent_begin(search);
  }
}

void zone_servers_begin(struct zone_search *search) {
  if (search->source->server_count > 0)
    zone_search_succeed(search);
  else
    zone_ask_servers(search, search->zone, DNS_TYPE_NS, true, apex_told);
}
