/* Name servers in memory for tests: they answer from a list of records by the rules of RFC 1034 4.3.2 (referrals,
 * CNAME, DNAME, wildcards, negative answers, NSEC and RRSIG on DO), or as a recursive resolver. Static, because other
 * files of this folder are linked into every test. The network around them: fake_internet.h. */
#ifndef DKIMROLL_TESTS_FAKE_DNS_H
#define DKIMROLL_TESTS_FAKE_DNS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/entropy.h"
#include "dkimroll/loop.h"
#include "dkimroll/message.h"
#include "dkimroll/message_name.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"
#include "dkimroll/transport.h"

enum {
  WORLD_SERVERS_MAX = 64,
  WORLD_ZONES_MAX = 4200,
  WORLD_PLACES = 16384,
  WORLD_RECORDS_MAX = 20000,
  WORLD_QUERIES_MAX = 60000,
  WORLD_WALL = 1769212800,
  WORLD_BOOT = 5000000,
  WORLD_LATENCY_MS = 10,
};

enum server_fault {
  SERVER_WELL = 0,
  SERVER_DEAD,        /* never answers */
  SERVER_UNREACHABLE, /* ICMP says so */
  SERVER_NO_ROUTE,    /* this host has no route */
  SERVER_NO_SOCKET,   /* this host has too many open files */
  SERVER_SERVFAIL,
  SERVER_REFUSED,
  SERVER_LAME,          /* without AA */
  SERVER_TRUNCATES,     /* over UDP */
  SERVER_TRUNCATES_ALL, /* over TCP too */
  SERVER_ONLY_TCP,
  SERVER_LIES, /* forged answers arrive before the true one */
  SERVER_GARBAGE,
  SERVER_PICKY,       /* refuses random names */
  SERVER_LOSES_FIRST, /* the first two datagrams of every question */
};

struct world_zone {
  const char *name;
  int64_t soa_ttl, minimum;
  const char *mname;
  bool is_signed;
  uint64_t served_by; /* bits, by index into the world's servers */
  struct world_record *first, *last;
};

struct world_record {
  struct world_record *next;
  const char *name, *data; /* owned by the world's texts */
  const char *server;      /* NULL: every server of the zone serves it; else only that */
  uint16_t type;
  uint32_t ttl;
};

struct world_server {
  const char *text;
  struct address address;
  bool resolver;
  enum server_fault fault;
  int64_t signed_from, signed_until; /* validity of its RRSIGs, from now; 0: an hour each way */
  const char *signer;                /* NULL: the zone */
  bool unsigned_texts;               /* leaves the RRSIG over TXT out */
  bool unsigned_all;                 /* holds the zone as it was before it was signed */
  bool rotates;                      /* RRsets, from answer to answer */
  unsigned answers;
  bool is_minimal; /* nothing in ADDITIONAL of positive answers */
  bool tcp_is_dead;
  uint32_t extra_minimum; /* in its SOA */
};

struct world_query {
  const struct world_server *server;
  char name[96];
  uint16_t type;
  bool tcp, recursive;
};

struct world {
  struct transport transport;
  struct loop *loop;
  struct entropy_seeded random;
  struct world_zone zones[WORLD_ZONES_MAX];
  size_t zone_count;
  struct world_zone *places[WORLD_PLACES]; /* zones by hash of their name */
  struct world_record records[WORLD_RECORDS_MAX];
  size_t record_count;
  struct world_server servers[WORLD_SERVERS_MAX];
  size_t server_count;
  struct world_query queries[WORLD_QUERIES_MAX];
  size_t query_count;
  size_t in_flight, in_flight_max;
  LIST_HEAD(, transport_exchange) exchanges;
  char *texts[4 * WORLD_RECORDS_MAX];
  size_t text_count;
};

struct transport_exchange {
  struct world *world;
  struct world_server *server;
  bool tcp;
  uint8_t *octets;
  size_t size;
  int64_t deadline;
  transport_accept *accept;
  transport_done *done;
  void *context;
  struct loop_source *timer;
  LIST_ENTRY(transport_exchange) next;
};

/* --- building --- */

static inline const char *world_text(struct world *world, const char *text) {
  assert_true(world->text_count < ARRAY_SIZE(world->texts));
  return world->texts[world->text_count++] = text_duplicate(text);
}

static inline struct world_server *world_server(struct world *world, const char *text) {
  for (size_t i = 0; i < world->server_count; i++)
    if (text_equal(world->servers[i].text, text)) return &world->servers[i];
  assert_true(world->server_count < WORLD_SERVERS_MAX);
  struct world_server *server = &world->servers[world->server_count++];
  server->text = world_text(world, text);
  assert_int_equal(address_parse(text, 53, &server->address, NULL), 0);
  return server;
}

static inline struct world_zone **world_place(struct world *world, const char *name) {
  uint32_t hash = 2166136261;
  for (const char *c = name; *c; c++) hash = (hash ^ (uint8_t)*c) * 16777619;
  while (world->places[hash % WORLD_PLACES] && !text_equal(world->places[hash % WORLD_PLACES]->name, name)) hash++;
  return &world->places[hash % WORLD_PLACES];
}

static inline struct world_zone *world_zone_of(struct world *world, const char *name) {
  struct world_zone *zone = *world_place(world, name);
  if (zone) return zone;
  fail_msg("no zone %s", name);
  abort();
}

static inline struct world_zone *world_zone(struct world *world, const char *name, int64_t soa_ttl, int64_t minimum,
                                            const char *mname) {
  assert_true(world->zone_count < WORLD_ZONES_MAX);
  struct world_zone *zone = &world->zones[world->zone_count++];
  *zone = (struct world_zone){
      .name = world_text(world, name), .soa_ttl = soa_ttl, .minimum = minimum, .mname = world_text(world, mname)};
  *world_place(world, name) = zone;
  return zone;
}

static inline void world_serve(struct world *world, const char *server_text, const char *zone) {
  const struct world_server *server = world_server(world, server_text);
  world_zone_of(world, zone)->served_by |= UINT64_C(1) << (server - world->servers);
}

static inline struct world_record *world_add(struct world *world, const char *zone_name, const char *name, uint32_t ttl,
                                             uint16_t type, const char *data) {
  assert_true(world->record_count < WORLD_RECORDS_MAX);
  struct world_zone *zone = world_zone_of(world, zone_name);
  struct world_record *record = &world->records[world->record_count++];
  *record =
      (struct world_record){.name = world_text(world, name), .ttl = ttl, .type = type, .data = world_text(world, data)};
  if (zone->last)
    zone->last->next = record;
  else
    zone->first = record;
  zone->last = record;
  return record;
}

/* --- answering --- */

struct reply {
  struct buffer sections[3]; /* answer, authority, additional */
  uint16_t counts[3];
  unsigned rcode;
  bool authoritative, recursive, dnssec_ok;
  struct world *world;
  struct world_server *server;
};

static inline void reply_name(struct buffer *buffer, const char *name) {
  uint8_t wire[MESSAGE_NAME_WIRE_MAX];
  size_t size = 0;
  struct error error;
  assert_int_equal(message_name_wire(name, wire, &size, &error), 0);
  buffer_add(buffer, wire, size);
}

static inline void reply_add(struct reply *reply, int section, const char *name, uint16_t type, uint32_t ttl,
                             const struct buffer *rdata) {
  struct buffer *buffer = &reply->sections[section - 1];
  reply_name(buffer, name);
  buffer_add_u16(buffer, type);
  buffer_add_u16(buffer, 1);
  buffer_add_u32(buffer, ttl);
  buffer_add_u16(buffer, (uint16_t)rdata->size);
  buffer_add(buffer, rdata->data, rdata->size);
  reply->counts[section - 1]++;
}

/* Data of a TXT that is none: it has no string at all (RFC 1035 3.3.14). */
#define WORLD_UNREADABLE "(unreadable)"

static inline void reply_data(struct buffer *rdata, uint16_t type, const char *data) {
  uint8_t octets[16], *text = NULL;
  size_t size = 0;
  struct error error;
  if (type == DNS_TYPE_TXT && text_equal(data, WORLD_UNREADABLE)) return;
  if (type == DNS_TYPE_TXT) {
    assert_int_equal(record_to_rdata(data, strlen(data), &text, &size, &error), 0);
    buffer_add(rdata, text, size);
    free(text);
  } else if (type == DNS_TYPE_A) {
    assert_int_equal(inet_pton(AF_INET, data, octets), 1);
    buffer_add(rdata, octets, 4);
  } else if (type == DNS_TYPE_AAAA) {
    assert_int_equal(inet_pton(AF_INET6, data, octets), 1);
    buffer_add(rdata, octets, 16);
  } else {
    reply_name(rdata, data);
  }
}

static inline void reply_signature(struct reply *reply, int section, const char *name, uint16_t covered, uint32_t ttl,
                                   const char *zone) {
  struct buffer rdata = BUFFER_WITH_MAXIMUM(512);
  const struct world_server *server = reply->server;
  const int64_t now = loop_wall(reply->world->loop);
  if (!reply->dnssec_ok || !world_zone_of(reply->world, zone)->is_signed || server->unsigned_all) return;
  if (covered == DNS_TYPE_TXT && server->unsigned_texts) return;
  buffer_add_u16(&rdata, covered);
  buffer_add_u8(&rdata, 13);
  buffer_add_u8(&rdata, 2);
  buffer_add_u32(&rdata, ttl);
  buffer_add_u32(&rdata, (uint32_t)(now + (server->signed_until ? server->signed_until : 3600)));
  buffer_add_u32(&rdata, (uint32_t)(now + (server->signed_from ? server->signed_from : -3600)));
  buffer_add_u16(&rdata, 4711);
  reply_name(&rdata, server->signer ? server->signer : zone);
  buffer_add(&rdata, "signature", 9);
  reply_add(reply, section, name, DNS_TYPE_RRSIG, ttl, &rdata);
  buffer_release(&rdata);
}

static inline void reply_record(struct reply *reply, int section, const char *name, const struct world_record *record) {
  struct buffer rdata = BUFFER_WITH_MAXIMUM(8192);
  reply_data(&rdata, record->type, record->data);
  reply_add(reply, section, name, record->type, record->ttl, &rdata);
  buffer_release(&rdata);
}

static inline void reply_soa(struct reply *reply, int section, const char *zone_name) {
  struct buffer rdata = BUFFER_WITH_MAXIMUM(1024);
  const struct world_zone *zone = world_zone_of(reply->world, zone_name);
  reply_name(&rdata, zone->mname);
  reply_name(&rdata, "hostmaster.invalid");
  for (uint32_t i = 1; i <= 4; i++) buffer_add_u32(&rdata, i);
  buffer_add_u32(&rdata, (uint32_t)zone->minimum + reply->server->extra_minimum);
  reply_add(reply, section, zone_name, DNS_TYPE_SOA, (uint32_t)zone->soa_ttl, &rdata);
  reply_signature(reply, section, zone_name, DNS_TYPE_SOA, (uint32_t)zone->soa_ttl, zone_name);
  buffer_release(&rdata);
}

static inline void reply_negative(struct reply *reply, const char *zone, const char *name, unsigned rcode) {
  reply->rcode = rcode;
  reply_soa(reply, MESSAGE_AUTHORITY, zone);
  if (!reply->dnssec_ok || !world_zone_of(reply->world, zone)->is_signed) return;
  struct buffer rdata = BUFFER_WITH_MAXIMUM(512);
  reply_name(&rdata, zone);
  buffer_add(&rdata, "\0\1\2", 3);
  reply_add(reply, MESSAGE_AUTHORITY, name, DNS_TYPE_NSEC, 7200, &rdata);
  buffer_release(&rdata);
}

/* The next record of a zone that this server serves, after the given one (NULL: the first). */
static inline const struct world_record *next_record(const struct reply *reply, const char *zone,
                                                     const struct world_record *record) {
  record = record ? record->next : world_zone_of(reply->world, zone)->first;
  while (record && record->server && !text_equal(record->server, reply->server->text)) record = record->next;
  return record;
}

/* Adds the records of name (as owner) with that type; how many. type 0: counts only whether the name exists. */
static inline size_t reply_matching(struct reply *reply, const char *zone, const char *name, const char *owner,
                                    uint16_t type) {
  const struct world_record *matching[32];
  size_t count = 0;
  for (const struct world_record *record = NULL; (record = next_record(reply, zone, record));) {
    if (type == 0 && message_name_below(record->name, name)) return 1;
    if (type == 0 || record->type != type || !text_equal(record->name, name)) continue;
    assert_true(count < ARRAY_SIZE(matching));
    matching[count++] = record;
  }
  const bool backwards = reply->server->rotates && reply->server->answers % 2;
  for (size_t i = 0; i < count; i++)
    reply_record(reply, MESSAGE_ANSWER, owner, matching[backwards ? count - 1 - i : i]);
  if (count > 0) reply_signature(reply, MESSAGE_ANSWER, owner, type, matching[0]->ttl, zone);
  return count;
}

static inline void reply_addresses(struct reply *reply, const char *zone, const char *host) {
  for (const struct world_record *record = NULL; (record = next_record(reply, zone, record));)
    if ((record->type == DNS_TYPE_A || record->type == DNS_TYPE_AAAA) && text_equal(record->name, host))
      reply_record(reply, MESSAGE_ADDITIONAL, host, record);
}

static inline bool reply_referral(struct reply *reply, const char *zone, const char *name) {
  const char *cut = NULL;
  for (const struct world_record *record = NULL; (record = next_record(reply, zone, record));)
    if (record->type == DNS_TYPE_NS && !text_equal(record->name, zone) && message_name_below(name, record->name))
      cut = record->name;
  for (const struct world_record *record = NULL; cut && (record = next_record(reply, zone, record));) {
    if (record->type != DNS_TYPE_NS || !text_equal(record->name, cut)) continue;
    reply_record(reply, MESSAGE_AUTHORITY, cut, record);
    reply_addresses(reply, zone, record->data);
  }
  if (cut) reply->authoritative = false;
  return cut != NULL;
}

static inline bool reply_dname(struct reply *reply, const char *zone, const char *name) {
  for (const struct world_record *record = NULL; (record = next_record(reply, zone, record));) {
    if (record->type != DNS_TYPE_DNAME || text_equal(record->name, name) || !message_name_below(name, record->name))
      continue;
    CLEANUP_FREE char *target = text_format("%.*s%s", (int)(strlen(name) - strlen(record->name)), name, record->data);
    reply_record(reply, MESSAGE_ANSWER, record->name, record);
    const struct world_record cname = {.type = DNS_TYPE_CNAME, .ttl = record->ttl, .data = target};
    if (strlen(target) > 250)
      reply->rcode = DNS_YXDOMAIN;
    else
      reply_record(reply, MESSAGE_ANSWER, name, &cname);
    return true;
  }
  return false;
}

/* RFC 1034 4.3.2 within one zone. Aliases are not followed beyond their first step, which servers need not do. */
static inline void reply_from_zone(struct reply *reply, const char *zone, const char *name, uint16_t type) {
  reply->authoritative = reply->server->fault != SERVER_LAME;
  if (reply_referral(reply, zone, name) || reply_dname(reply, zone, name)) return;
  if (text_equal(name, zone) && type == DNS_TYPE_SOA) {
    reply_soa(reply, MESSAGE_ANSWER, zone);
    return;
  }
  if (reply_matching(reply, zone, name, name, DNS_TYPE_CNAME) || reply_matching(reply, zone, name, name, type)) {
    for (const struct world_record *record = NULL;
         type == DNS_TYPE_NS && !reply->server->is_minimal && (record = next_record(reply, zone, record));)
      if (record->type == DNS_TYPE_NS && text_equal(record->name, name)) reply_addresses(reply, zone, record->data);
    return;
  }
  if (text_equal(name, zone) || reply_matching(reply, zone, name, name, 0)) {
    reply_negative(reply, zone, name, DNS_NOERROR);
    return;
  }
  for (const char *above = message_name_parent(name);; above = message_name_parent(above)) {
    CLEANUP_FREE char *wildcard = text_format("*.%s", above);
    if (reply_matching(reply, zone, wildcard, name, DNS_TYPE_CNAME) ||
        reply_matching(reply, zone, wildcard, name, type))
      return;
    if (text_equal(above, zone) || reply_matching(reply, zone, above, above, 0)) break;
  }
  reply_negative(reply, zone, name, DNS_NXDOMAIN);
}

/* The deepest zone that name is in, of all or of those of one server; NULL: none. */
static inline const char *deepest_zone(struct world *world, const struct world_server *server, const char *name) {
  for (const char *above = name;; above = message_name_parent(above)) {
    const struct world_zone *zone = *world_place(world, above);
    if (zone && (!server || zone->served_by >> (server - world->servers) & 1)) return zone->name;
    if (!*above) return NULL;
  }
}

/* The resolver knows all zones, and follows aliases. */
static inline void reply_recursive(struct reply *reply, const char *name, uint16_t type) {
  char current[DNS_NAME_TEXT_SIZE];
  text_copy(current, sizeof current, name);
  for (int step = 0; step < 9; step++) {
    const char *zone = deepest_zone(reply->world, NULL, current);
    const char *next = NULL;
    if (!zone) {
      reply->rcode = DNS_SERVFAIL;
      break;
    }
    for (const struct world_record *record = NULL; (record = next_record(reply, zone, record));)
      if (record->type == DNS_TYPE_CNAME && text_equal(record->name, current)) next = record->data;
    reply_from_zone(reply, zone, current, type);
    if (!next) break;
    text_copy(current, sizeof current, next);
  }
  reply->authoritative = false;
  reply->recursive = true;
}

static inline struct buffer reply_write(struct reply *reply, const uint8_t *query, size_t question_end, bool truncate) {
  struct buffer message = BUFFER_WITH_MAXIMUM(TRANSPORT_MESSAGE_MAX);
  buffer_add(&message, query, 2);
  buffer_add_u8(&message, (uint8_t)(0x80 | (reply->authoritative ? 4 : 0) | (truncate ? 2 : 0)));
  buffer_add_u8(&message, (uint8_t)((reply->recursive ? 0x80 : 0) | reply->rcode));
  buffer_add_u16(&message, 1);
  for (int i = 0; i < 3; i++) buffer_add_u16(&message, truncate ? 0 : reply->counts[i]);
  buffer_add(&message, query + 12, question_end - 12);
  for (int i = 0; i < 3; i++) {
    if (!truncate) buffer_add(&message, reply->sections[i].data, reply->sections[i].size);
    buffer_release(&reply->sections[i]);
  }
  assert_false(message.failed);
  return message;
}

static inline struct buffer world_answer(struct world *world, struct world_server *server, const uint8_t *octets,
                                         size_t size, bool tcp) {
  struct message *query = NULL;
  struct error error = {0};
  struct reply reply = {.world = world, .server = server};
  for (int i = 0; i < 3; i++) reply.sections[i] = BUFFER_WITH_MAXIMUM(TRANSPORT_MESSAGE_MAX);
  size_t end = 12;
  while (octets[end]) end += octets[end] + 1u;
  end += 5;
  assert_int_equal(message_parse(octets, size, &query, &error), 0);
  reply.dnssec_ok = size > end + 7 && octets[end + 7] & 0x80;
  const bool recursion = octets[2] & 1;
  server->answers++;
  assert_int_equal(recursion, server->resolver); /* nobody else is asked for recursion */
  const char *zone = deepest_zone(world, server, query->question_name);
  if (server->fault == SERVER_SERVFAIL)
    reply.rcode = DNS_SERVFAIL;
  else if (server->fault == SERVER_REFUSED ||
           (server->fault == SERVER_PICKY && strcspn(query->question_name, ".") == 16))
    reply.rcode = DNS_REFUSED;
  else if (server->resolver)
    reply_recursive(&reply, query->question_name, query->question_type);
  else if (zone)
    reply_from_zone(&reply, zone, query->question_name, query->question_type);
  else
    reply.rcode = DNS_REFUSED;
  message_free(query);
  const bool truncate = (server->fault == SERVER_TRUNCATES && !tcp) || server->fault == SERVER_TRUNCATES_ALL;
  return reply_write(&reply, octets, end, truncate);
}

#endif
