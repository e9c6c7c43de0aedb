/* What each name server holds of each zone, since when, and what any cache may therefore still hold. A server's history is a list of eras; the receivers' resolver is
 * the worst one that obeys TTLs: at a moment it may hold every answer that any server of the NS set could have given since then minus the answer's TTL (RFC 2308, and
 * RFC 8020 and 8198 for the negative ones, which are covered by the same eras because a name that exists is denied by nobody). */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/message.h"
#include "dkimroll/text.h"
#include "sim.h"

const char *sim_text(struct sim *sim, const char *text) {
  if (sim->arena_count == sim->arena_capacity) {
    sim->arena_capacity = sim->arena_capacity ? 2 * sim->arena_capacity : 256;
    sim->arena = reallocarray(sim->arena, sim->arena_capacity, sizeof *sim->arena);
    if (!sim->arena) abort();
  }
  char *copy = text_duplicate(text);
  if (!copy) abort();
  return sim->arena[sim->arena_count++] = copy;
}

static void content_release(struct sim_content *content) {
  if (!content || --content->references > 0) return;
  free(content->records);
  free(content);
}

static struct sim_content *content_copy(const struct sim_content *content) {
  struct sim_content *copy = malloc(sizeof *copy);
  if (!copy) abort();
  *copy = *content;
  copy->references = 1;
  copy->records = malloc((content->count + 1) * sizeof *copy->records);
  if (!copy->records) abort();
  if (content->count) memcpy(copy->records, content->records, content->count * sizeof *copy->records);
  return copy;
}

struct sim_record *sim_content_add(struct sim *sim, struct sim_content *content, const char *name, uint16_t type, uint32_t ttl,
                                   const char *text, unsigned flags) {
  content->records = reallocarray(content->records, content->count + 1, sizeof *content->records);
  if (!content->records) abort();
  struct sim_record *record = &content->records[content->count++];
  *record = (struct sim_record){
      .name = sim_text(sim, name), .text = sim_text(sim, text), .type = type, .ttl = ttl, .flags = flags};
  sim_dns_record_rdata(sim, record);
  return record;
}

void sim_content_remove(struct sim_content *content, size_t record) {
  memmove(&content->records[record], &content->records[record + 1],
          (content->count - record - 1) * sizeof *content->records);
  content->count--;
}

/* ---- eras ---- */

static struct sim_era *present(const struct sim_copy *copy) {
  if (copy->count == 0) abort();
  return &copy->eras[copy->count - 1];
}

static void forget_old(struct sim *sim, struct sim_copy *copy) {
  const int64_t oldest = sim_loop_now(sim->clock) - SIM_LOOKBACK;
  size_t gone = 0;
  while (gone + 1 < copy->count && copy->eras[gone + 1].since < oldest) gone++;
  if (gone < 64) return; /* now and then, in one go */
  for (size_t i = 0; i < gone; i++) content_release(copy->eras[i].content);
  memmove(copy->eras, copy->eras + gone, (copy->count - gone) * sizeof *copy->eras);
  copy->count -= gone;
}

static void begin_era(struct sim *sim, struct sim_copy *copy, struct sim_content *content, bool stale, bool serving) {
  const struct sim_era *last = copy->count ? present(copy) : NULL;
  if (last && last->content == content && last->stale == stale && last->serving == serving) return;
  forget_old(sim, copy);
  if (copy->count == copy->capacity) {
    copy->capacity = copy->capacity ? 2 * copy->capacity : 32;
    copy->eras = reallocarray(copy->eras, copy->capacity, sizeof *copy->eras);
    if (!copy->eras) abort();
  }
  content->references++;
  copy->eras[copy->count++] = (struct sim_era){sim_loop_now(sim->clock), content, stale, serving};
}

const struct sim_content *sim_zone_at(const struct sim_zone *zone, size_t server) {
  return present(&zone->copies[server])->content;
}

struct sim_content *sim_zone_edit(struct sim_zone *zone) { return content_copy(sim_zone_at(zone, 0)); }

static struct sim_content *content_of_age(const struct sim *sim, const struct sim_copy *copy, int64_t age) {
  const int64_t moment = sim_loop_now(sim->clock) - age;
  size_t i = copy->count - 1;
  while (i > 0 && copy->eras[i].since > moment) i--;
  return copy->eras[i].content;
}

/* ---- from the primary to the secondaries ---- */

struct transfer {
  struct sim *sim;
  struct sim_zone *zone;
  size_t server;
};

static bool serves(const struct sim_content *primary, size_t server) { return primary->name_servers >> server & 1; }

static void transfer_now(struct sim *sim, struct sim_zone *zone, size_t server) {
  struct sim_content *content = present(&zone->copies[0])->content;
  begin_era(sim, &zone->copies[server], content, false, serves(content, server));
}

static void transfer_fire(void *context) {
  struct transfer *transfer = context;
  struct sim *sim = transfer->sim;
  const struct sim_server *server = &sim->servers[transfer->server];
  const int64_t now = sim_loop_now(sim->clock);
  const int64_t hindered = time_max(time_max(server->down_until, server->frozen_until), sim->servers[0].down_until);
  if (hindered > now) {
    sim_loop_at(sim->clock, hindered + 5 * SIM_SECOND + SIM_RANDOM(sim, 60000), transfer_fire, transfer, true);
    return;
  }
  transfer_now(sim, transfer->zone, transfer->server);
  free(transfer);
}

static void transfer_later(struct sim *sim, struct sim_zone *zone, size_t i) {
  const struct sim_server *server = &sim->servers[i];
  const int64_t now = sim_loop_now(sim->clock);
  const int64_t lag = server->lags_until > now ? server->lag : SIM_RANDOM(sim, 6000);
  struct transfer *transfer = malloc(sizeof *transfer);
  if (!transfer) abort();
  *transfer = (struct transfer){sim, zone, i};
  sim_loop_at(sim->clock, now + 50 + lag, transfer_fire, transfer, true);
}

void sim_zone_commit(struct sim *sim, struct sim_zone *zone, struct sim_content *content) {
  begin_era(sim, &zone->copies[0], content, false, serves(content, 0));
  content_release(content);
  for (size_t i = 1; i < sim->server_count; i++) transfer_later(sim, zone, i);
}

void sim_name_servers_set(struct sim *sim, struct sim_zone *zone, unsigned bits) {
  struct sim_content *content = sim_zone_edit(zone);
  content->name_servers = bits;
  sim_zone_commit(sim, zone, content);
  /* The delegation names them at once; who joins without having the zone as it is now answers wrongly by the operator's doing. */
  for (size_t i = 1; i < sim->server_count; i++) {
    const struct sim_era *era = present(&zone->copies[i]);
    const bool serving = bits >> i & 1;
    begin_era(sim, &zone->copies[i], era->content, era->stale || (serving && !era->serving), serving);
  }
}

/* ---- backups ---- */

void sim_server_forget(struct sim *sim, size_t server, int64_t age, int64_t duration) {
  const int64_t until = sim_loop_now(sim->clock) + duration;
  sim->servers[server].frozen_until = time_max(sim->servers[server].frozen_until, until);
  for (size_t i = 0; i < sim->zone_count; i++) {
    struct sim_copy *copy = &sim->zones[i].copies[server];
    begin_era(sim, copy, content_of_age(sim, copy, age), true, present(copy)->serving);
    transfer_later(sim, &sim->zones[i], server);
  }
}

static bool holds(const struct sim_content *content, const struct sim_record *record) {
  for (size_t i = 0; i < content->count; i++) {
    const struct sim_record *other = &content->records[i];
    if (other->type == record->type && text_equal(other->name, record->name) && text_equal(other->text, record->text) &&
        !(other->flags & SIM_RECORD_TORN))
      return true;
  }
  return false;
}

void sim_primary_forget(struct sim *sim, int64_t age) {
  for (size_t z = 0; z < sim->zone_count; z++) {
    struct sim_zone *zone = &sim->zones[z];
    const struct sim_content *now = sim_zone_at(zone, 0);
    struct sim_content *old = content_copy(content_of_age(sim, &zone->copies[0], age));
    old->name_servers = now->name_servers;
    for (size_t i = 0; i < old->count; i++)
      if (!holds(now, &old->records[i])) old->records[i].flags |= SIM_RECORD_RISEN;
    for (size_t i = 0; i < now->count; i++) {
      if (holds(old, &now->records[i])) continue;
      sim_content_add(sim, old, now->records[i].name, now->records[i].type, now->records[i].ttl, now->records[i].text,
                      now->records[i].flags | SIM_RECORD_TORN);
    }
    sim_zone_commit(sim, zone, old);
  }
}

void sim_servers_resync(struct sim *sim) {
  for (size_t z = 0; z < sim->zone_count; z++)
    for (size_t i = 1; i < sim->server_count; i++) transfer_now(sim, &sim->zones[z], i);
}

/* ---- what is served, and cached ---- */

struct lookup {
  const struct sim_record *texts[4];
  size_t count;
  bool torn, tampered;
  uint32_t ttl; /* of the answer, whatever it is */
};

static bool is_wildcard_for(const char *wildcard, const char *name) {
  return text_starts(wildcard, "*.") && message_name_below(name, wildcard + 2) && !text_equal(name, wildcard + 2);
}

/* The TXT at name; a wildcard answers where nothing is. */
static void look_up(const struct sim_content *content, const char *name, struct lookup *ret) {
  const struct sim_record *wildcard = NULL;
  bool exists = false;
  *ret = (struct lookup){.ttl = content->soa_ttl < content->minimum ? content->soa_ttl : content->minimum};
  if (content->is_signed && content->minimum > ret->ttl) ret->ttl = content->minimum; /* NSEC before RFC 9077 */
  for (size_t i = 0; i < content->count; i++) {
    const struct sim_record *record = &content->records[i];
    if (record->type != DNS_TYPE_TXT) continue;
    if (is_wildcard_for(record->name, name)) wildcard = record;
    if (!text_equal(record->name, name)) continue;
    ret->torn |= record->flags & SIM_RECORD_TORN;
    ret->tampered |= record->flags & (SIM_RECORD_TAMPERED | SIM_RECORD_RISEN);
    if (record->flags & SIM_RECORD_TORN) continue;
    exists = true;
    if (ret->count < ARRAY_SIZE(ret->texts)) ret->texts[ret->count++] = record;
  }
  if (exists) ret->ttl = ret->texts[0]->ttl;
  if (exists || !wildcard) return;
  ret->texts[ret->count++] = wildcard;
  ret->ttl = wildcard->ttl;
}

static bool answers_well(const struct lookup *lookup, const char *public_key) {
  if (lookup->count != 1) return false;
  const char *p = strstr(lookup->texts[0]->text, "p=");
  return p && text_equal(p + 2, public_key);
}

enum sim_cached sim_zone_judge(struct sim *sim, const char *name, const char *public_key, char *why, size_t size) {
  struct sim_zone *zone = sim_zone_find(sim, name);
  enum sim_cached verdict = SIM_CACHED_GOOD;
  const int64_t now = sim_loop_now(sim->clock);
  for (size_t s = 0; s < sim->server_count; s++) {
    const struct sim_copy *copy = &zone->copies[s];
    for (size_t i = copy->count; i-- > 0;) {
      const struct sim_era *era = &copy->eras[i];
      const int64_t ended = i + 1 < copy->count ? copy->eras[i + 1].since : now;
      if (now - ended > SIM_LOOKBACK) break;
      if (!era->serving) continue;
      struct lookup lookup;
      look_up(era->content, name, &lookup);
      if (ended + (int64_t)lookup.ttl * 1000 < now || answers_well(&lookup, public_key)) continue;
      if (era->stale || lookup.torn || lookup.tampered) {
        if (verdict == SIM_CACHED_GOOD) verdict = SIM_CACHED_EXCUSED;
        continue;
      }
      snprintf(why, size, "%s answered %s (TTL %u) for %s until %lld s ago", sim->servers[s].host,
               lookup.count ? lookup.texts[0]->text : "that there is nothing", lookup.ttl, name, (long long)(now - ended) / 1000);
      return SIM_CACHED_BAD;
    }
  }
  return verdict;
}

int64_t sim_zone_wrong_since(struct sim *sim, const char *name, const char *public_key) {
  struct sim_zone *zone = sim_zone_find(sim, name);
  int64_t earliest = INT64_MAX;
  for (size_t s = 0; s < sim->server_count; s++) {
    const struct sim_copy *copy = &zone->copies[s];
    for (size_t i = copy->count; i-- > 0 && copy->eras[i].serving;) {
      struct lookup lookup;
      look_up(copy->eras[i].content, name, &lookup);
      if (answers_well(&lookup, public_key)) break;
      earliest = time_min(earliest, copy->eras[i].since);
    }
  }
  return earliest;
}

bool sim_zone_served(struct sim *sim, const char *name, const char *text) {
  struct sim_zone *zone = sim_zone_find(sim, name);
  for (size_t s = 0; zone && s < sim->server_count; s++) {
    struct lookup lookup;
    if (!present(&zone->copies[s])->serving) continue;
    look_up(sim_zone_at(zone, s), name, &lookup);
    if (lookup.count != 1 || !text_equal(lookup.texts[0]->text, text)) return false;
  }
  return zone != NULL;
}

/* ---- the beginning ---- */

struct sim_zone *sim_zone_find(struct sim *sim, const char *name) {
  for (size_t i = 0; i < sim->zone_count; i++)
    if (message_name_below(name, sim->zones[i].name)) return &sim->zones[i];
  return NULL;
}

#define SIM_KEYS_ZONE "keys.test"

const char *sim_owner_name(const struct sim *sim, const char *selector, const char *domain, char buffer[DNS_NAME_TEXT_SIZE]) {
  if (sim->is_delegated)
    snprintf(buffer, DNS_NAME_TEXT_SIZE, "%s.%c." SIM_KEYS_ZONE, selector, domain[0]);
  else
    snprintf(buffer, DNS_NAME_TEXT_SIZE, "%s._domainkey.%s", selector, domain);
  return buffer;
}

struct sim_zone *sim_record_zone(struct sim *sim, size_t domain) { return &sim->zones[sim->is_delegated ? sim->domain_count : domain]; }

const char *sim_record_suffix(const struct sim *sim, size_t domain, char buffer[DNS_NAME_TEXT_SIZE]) {
  sim_owner_name(sim, "", sim->zones[domain].name, buffer); /* with the dot in front */
  return buffer;
}

/* What others have there: below _domainkey, or the DNAME that leads to where it is. */
static void add_domain(struct sim *sim, struct sim_content *content, const struct sim_zone *zone, size_t domain) {
  char name[DNS_NAME_TEXT_SIZE];
  int64_t ttl = 0;
  const char letter[] = {(char)('a' + domain), '\0'};
  if (sim->is_delegated && zone == &sim->zones[domain]) {
    char target[DNS_NAME_TEXT_SIZE];
    snprintf(name, sizeof name, "_domainkey.%s.test", letter);
    snprintf(target, sizeof target, "%s." SIM_KEYS_ZONE, letter);
    sim_content_add(sim, content, name, DNS_TYPE_DNAME, 3600, target, SIM_RECORD_FOREIGN);
  }
  if (zone != sim_record_zone(sim, domain)) return;
  sim_content_add(sim, content, sim_owner_name(sim, "other", sim->zones[domain].name, name), DNS_TYPE_TXT, 3600, "v=DKIM1; k=rsa; p=Zm9yZWlnbg==", SIM_RECORD_FOREIGN);
  if (sim->wildcard[0] && duration_parse(sim->wildcard, &ttl))
    sim_content_add(sim, content, sim_owner_name(sim, "*", sim->zones[domain].name, name), DNS_TYPE_TXT, (uint32_t)ttl, "everything", SIM_RECORD_FOREIGN);
}

void sim_zones_init(struct sim *sim) {
  for (size_t i = 0; i < sim->server_count; i++) {
    struct sim_server *server = &sim->servers[i];
    snprintf(server->host, sizeof server->host, "ns%zu.test", i + 1);
    snprintf(server->address, sizeof server->address, "192.0.2.%zu", 11 + i);
    snprintf(server->address6, sizeof server->address6, "2001:db8::%zu", 11 + i);
    if (address_parse(server->address, 53, &server->parsed, NULL) || address_parse(server->address6, 53, &server->parsed6, NULL)) abort();
  }
  sim->zone_count = sim->domain_count + sim->is_delegated;
  for (size_t z = 0; z < sim->zone_count; z++) {
    struct sim_zone *zone = &sim->zones[z];
    if (z < sim->domain_count)
      snprintf(zone->name, sizeof zone->name, "%c.test", (char)('a' + z));
    else
      text_copy(zone->name, sizeof zone->name, SIM_KEYS_ZONE);
    struct sim_content *content = calloc(1, sizeof *content);
    if (!content) abort();
    *content = (struct sim_content){.references = 1,
                                    .soa_ttl = sim->soa_ttl,
                                    .minimum = sim->minimum,
                                    .is_signed = sim->is_signed,
                                    .name_servers = (1u << sim->server_count) - 1};
    sim_content_add(sim, content, zone->name, DNS_TYPE_TXT, 3600, "v=spf1 -all", SIM_RECORD_FOREIGN);
    for (size_t d = 0; d < sim->domain_count; d++) add_domain(sim, content, zone, d);
    for (size_t s = 0; s < sim->server_count; s++) begin_era(sim, &zone->copies[s], content, false, true);
    content_release(content);
  }
}

void sim_zones_free(struct sim *sim) {
  for (size_t z = 0; z < sim->zone_count; z++)
    for (size_t s = 0; s < SIM_SERVERS_MAX; s++) {
      struct sim_copy *copy = &sim->zones[z].copies[s];
      for (size_t i = 0; i < copy->count; i++) content_release(copy->eras[i].content);
      free(copy->eras);
    }
}
