/* What happens to DNS: name servers, the primary, resolvers and routes fail, and people change records and zones. */
#include "dkimroll/message.h"
#include "dkimroll/text.h"
#include "sim_actions.h"

static bool do_server(struct sim_call *call) {
  struct sim *sim = call->sim;
  size_t i = 0;
  if (call->count < 3 || !sim_call_number(call, call->words[1], "ns", sim->server_count, &i)) return false;
  struct sim_server *server = &sim->servers[i];
  const char *what = call->words[2];
  const struct {
    const char *word, *kind;
    int64_t *until;
  } simple[] = {{"down", "outage", &server->down_until},
                {"refuses", "refusal", &server->refuses_until},
                {"servfail", "servfail", &server->servfail_until},
                {"truncates", "truncation", &server->truncates_until},
                {"contradicts", "contradiction", &server->contradicts_until}};
  for (size_t j = 0; j < ARRAY_SIZE(simple); j++)
    if (call->count == 4 && text_equal(what, simple[j].word)) return sim_call_until(call, simple[j].until, call->words[3], simple[j].kind);
  if (call->count == 5 && text_equal(what, "loses-requests"))
    return sim_call_percent(call, call->words[3], &server->loses_requests) && sim_call_until(call, &server->loses_requests_until, call->words[4], "lost-request");
  if (call->count == 5 && text_equal(what, "loses-replies"))
    return sim_call_percent(call, call->words[3], &server->loses_replies) && sim_call_until(call, &server->loses_replies_until, call->words[4], "lost-reply");
  if (call->count == 5 && text_equal(what, "lags") && i > 0)
    return sim_call_duration(call, call->words[3], &server->lag) && sim_call_until(call, &server->lags_until, call->words[4], "lag");
  int64_t age = 0, duration = 0;
  if (call->count == 5 && text_equal(what, "forgets") && i > 0) {
    if (!sim_call_duration(call, call->words[3], &age) || !sim_call_duration(call, call->words[4], &duration)) return false;
    sim_server_forget(sim, i, age, duration);
    sim_call_count(call, "backup");
    return true;
  }
  const bool joins = text_equal(what, "joins");
  if (call->count == 3 && i > 0 && (joins || text_equal(what, "leaves"))) {
    for (size_t z = 0; z < sim->zone_count; z++) {
      const unsigned bits = sim_zone_at(&sim->zones[z], 0)->name_servers;
      sim_name_servers_set(sim, &sim->zones[z], joins ? bits | 1u << i : bits & ~(1u << i));
    }
    sim_call_count(call, "name-servers");
    return true;
  }
  return sim_call_fail(call, "a server can: down, refuses, servfail, truncates, contradicts DURATION; loses-requests, loses-replies PERCENT DURATION; lags LAG DURATION; "
                    "forgets AGE DURATION; joins; leaves (the last four not ns1, the primary)");
}

static bool do_primary(struct sim_call *call) {
  struct sim *sim = call->sim;
  int64_t offset = 0;
  if (call->count == 3 && text_equal(call->words[1], "forgets")) {
    if (!sim_call_duration(call, call->words[2], &offset)) return false;
    sim_primary_forget(sim, offset);
    sim_call_count(call, "primary-backup");
    return true;
  }
  if (call->count == 3 && text_equal(call->words[1], "rejects")) return sim_call_until(call, &sim->rejects_until, call->words[2], "update-refused");
  if (call->count == 4 && text_equal(call->words[1], "clock")) {
    if (!sim_call_duration(call, call->words[2], &offset)) return false;
    sim->primary_clock_error = offset / 1000;
    return sim_call_until(call, &sim->primary_clock_until, call->words[3], "primary-clock");
  }
  return sim_call_fail(call, "the primary can: forgets AGE; rejects DURATION; clock OFFSET DURATION");
}

/* The resolvers that the policy names, for SOA and NS; what receivers ask is another matter. */
static bool do_resolver(struct sim_call *call) {
  struct sim *sim = call->sim;
  size_t i = 0;
  if (call->count != 4 || !sim_call_number(call, call->words[1], "r", SIM_RESOLVERS, &i)) return sim_call_fail(call, "resolver r1|r2 down|servfail DURATION");
  if (text_equal(call->words[2], "down")) return sim_call_until(call, &sim->resolvers[i].down_until, call->words[3], "resolver");
  if (text_equal(call->words[2], "servfail")) return sim_call_until(call, &sim->resolvers[i].servfail_until, call->words[3], "resolver");
  return sim_call_fail(call, "a resolver can: down, servfail DURATION");
}

/* Those of receivers: mail waits, and is verified when they answer again, or by whoever asks in the last moment. */
static bool do_receivers(struct sim_call *call) {
  if (call->count != 3 || !text_equal(call->words[1], "defer")) return sim_call_fail(call, "receivers defer DURATION");
  return sim_call_until(call, &call->sim->receivers_defer_until, call->words[2], "receivers");
}

static bool do_ipv6(struct sim_call *call) {
  if (call->count != 3 || !text_equal(call->words[1], "routed")) return sim_call_fail(call, "ipv6 routed DURATION");
  return sim_call_until(call, &call->sim->ipv6_routed_until, call->words[2], "ipv6-route");
}

static bool has_role(const struct sim_record *record, const char *role, const char *signing, bool first) {
  if (text_equal(role, "signing")) return text_equal(record->name, signing);
  if (text_equal(role, "revoked")) return first && text_ends(record->text, "; p=");
  return first || text_equal(role, "newest");
}

size_t sim_actions_record(struct sim *sim, size_t domain, const struct sim_content *content, const char *role) {
  char signing[DNS_NAME_TEXT_SIZE], suffix[DNS_NAME_TEXT_SIZE];
  size_t found = SIZE_MAX;
  for (size_t s = 0; s < sim->signer_count; s++) {
    const struct sim_mail_place *place = &sim->places[s][domain];
    if (!place->has_signed) continue;
    sim_owner_name(sim, place->selector, sim->zones[domain].name, signing);
    break;
  }
  sim_record_suffix(sim, domain, suffix);
  for (size_t i = 0; i < content->count; i++) {
    const struct sim_record *record = &content->records[i];
    if (!(record->flags & SIM_RECORD_OURS) || record->flags & SIM_RECORD_TORN || !text_ends(record->name, suffix)) continue;
    if (has_role(record, role, signing, found == SIZE_MAX)) found = i;
  }
  return found;
}

static bool do_record(struct sim_call *call) {
  struct sim *sim = call->sim;
  size_t domain = 0;
  if (call->count != 4 || !sim_call_domain(call, call->words[1], &domain)) return sim_call_fail(call, "record DOMAIN signing|revoked|newest|oldest deleted|edited|beside");
  struct sim_zone *zone = sim_record_zone(sim, domain);
  struct sim_content *content = sim_zone_edit(zone);
  const size_t i = sim_actions_record(sim, domain, content, call->words[2]);
  if (i == SIZE_MAX) {
    sim_zone_commit(sim, zone, content);
    return true; /* there is none yet: the operator finds nothing to break */
  }
  struct sim_record *record = &content->records[i];
  const char *const name = record->name;
  sim_trace(sim, "somebody does this to %s: %s", name, call->words[3]);
  if (text_equal(call->words[3], "deleted")) {
    record->flags |= SIM_RECORD_TORN;
    sim_call_count(call, "record-deleted");
  } else if (text_equal(call->words[3], "edited")) {
    record->text = SIM_EDITED_TEXT;
    record->flags |= SIM_RECORD_TAMPERED;
    sim_dns_record_rdata(sim, record);
    sim_call_count(call, "record-edited");
  } else if (text_equal(call->words[3], "beside")) {
    record->flags |= SIM_RECORD_TAMPERED;
    sim_content_add(sim, content, name, DNS_TYPE_TXT, 3600, "v=DKIM1; k=rsa; p=YmVzaWRl", SIM_RECORD_FOREIGN | SIM_RECORD_TAMPERED);
    sim_call_count(call, "record-beside");
  } else {
    sim_zone_commit(sim, zone, content);
    return sim_call_fail(call, "a record can be: deleted, edited, beside (another one is put beside it)");
  }
  sim_zone_commit(sim, zone, content);
  return true;
}

static bool do_zone(struct sim_call *call) {
  struct sim *sim = call->sim;
  size_t domain = 0;
  int64_t ttl = 0;
  if (call->count != 4 || !text_equal(call->words[2], "negative-ttl") || !sim_call_domain(call, call->words[1], &domain) || !sim_call_duration(call, call->words[3], &ttl))
    return sim_call_fail(call, "zone DOMAIN negative-ttl TTL");
  struct sim_zone *zone = sim_record_zone(sim, domain);
  struct sim_content *content = sim_zone_edit(zone);
  content->soa_ttl = content->minimum = (uint32_t)(ttl / 1000);
  sim_zone_commit(sim, zone, content);
  sim_call_count(call, "zone-ttl");
  return true;
}

const struct sim_row sim_actions_dns[] = {
    {"server", do_server},
    {"primary", do_primary},
    {"resolver", do_resolver},
    {"receivers", do_receivers},
    {"ipv6", do_ipv6},
    {"record", do_record},
    {"zone", do_zone},
    {NULL, NULL},
};
