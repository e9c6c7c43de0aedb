/* The name servers on the wire: answers by RFC 1034 4.3.2 from their copies, updates by RFC 2136 with TSIG (RFC 8945) at the primary, the parent zone, and a resolver for
 * what resolvers are asked. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/message.h"
#include "dkimroll/message_name.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"
#include "dkimroll/tsig_wire.h"
#include "sim.h"

#define PARENT_ADDRESS "192.0.2.1"
enum { CLASS_IN = 1, CLASS_NONE = 254, CLASS_ANY = 255, REPLY_MAX = 65535 };

struct reply {
  struct sim *sim;
  struct buffer sections[3];
  uint16_t counts[3];
  unsigned rcode;
  bool authoritative, recursive, dnssec_ok;
};

struct question {
  char name[DNS_NAME_TEXT_SIZE];
  uint16_t type;
  size_t end;
  bool recursion, dnssec_ok;
};

/* ---- octets ---- */

static void add_name(struct buffer *buffer, const char *name) {
  for (const char *label = name; *label;) {
    const size_t size = strcspn(label, ".");
    buffer_add_u8(buffer, (uint8_t)size);
    buffer_add(buffer, label, size);
    label += size + (label[size] == '.');
  }
  buffer_add_u8(buffer, 0);
}

void sim_dns_record_rdata(struct sim *sim, struct sim_record *record) {
  uint8_t *rdata = NULL;
  size_t size = 0;
  struct error error;
  struct buffer buffer = BUFFER_WITH_MAXIMUM(1024);
  if (record->type == DNS_TYPE_TXT) {
    if (record_to_rdata(record->text, strlen(record->text), &rdata, &size, &error)) abort();
  } else {
    add_name(&buffer, record->text);
    rdata = buffer.data;
    size = buffer.size;
  }
  /* The arena takes texts only, so room is taken as a text of that length. */
  CLEANUP_FREE char *room = malloc(size + 1);
  if (!room) abort();
  memset(room, 'x', size);
  room[size] = '\0';
  char *kept = (char *)(uintptr_t)sim_text(sim, room);
  memcpy(kept, rdata, size);
  record->rdata = (const uint8_t *)kept;
  record->rdata_size = size;
  free(rdata);
}

static void add_record(struct reply *reply, enum message_section section, const char *name, uint16_t type, uint32_t ttl,
                       const void *rdata, size_t size) {
  struct buffer *buffer = &reply->sections[section - 1];
  add_name(buffer, name);
  buffer_add_u16(buffer, type);
  buffer_add_u16(buffer, CLASS_IN);
  buffer_add_u32(buffer, ttl);
  buffer_add_u16(buffer, (uint16_t)size);
  buffer_add(buffer, rdata, size);
  reply->counts[section - 1]++;
}

static void add_named(struct reply *reply, enum message_section section, const char *name, uint16_t type, uint32_t ttl,
                      const char *target) {
  struct buffer rdata = BUFFER_WITH_MAXIMUM(1024);
  add_name(&rdata, target);
  add_record(reply, section, name, type, ttl, rdata.data, rdata.size);
  buffer_release(&rdata);
}

static void add_address(struct reply *reply, enum message_section section, const char *host, const char *address) {
  struct in_addr octets;
  if (inet_pton(AF_INET, address, &octets) != 1) abort();
  add_record(reply, section, host, DNS_TYPE_A, 3600, &octets, 4);
}

static void add_address6(struct reply *reply, enum message_section section, const struct sim_server *server) {
  struct in6_addr octets;
  if (!reply->sim->has_ipv6) return;
  if (inet_pton(AF_INET6, server->address6, &octets) != 1) abort();
  add_record(reply, section, server->host, DNS_TYPE_AAAA, 3600, &octets, 16);
}

static void add_soa(struct reply *reply, enum message_section section, const char *zone, const char *primary, uint32_t ttl,
                    uint32_t minimum) {
  struct buffer rdata = BUFFER_WITH_MAXIMUM(1024);
  add_name(&rdata, primary);
  add_name(&rdata, "hostmaster.test");
  for (int i = 0; i < 4; i++) buffer_add_u32(&rdata, 7200);
  buffer_add_u32(&rdata, minimum);
  add_record(reply, section, zone, DNS_TYPE_SOA, ttl, rdata.data, rdata.size);
  buffer_release(&rdata);
}

static void add_signature(struct reply *reply, enum message_section section, const char *name, uint16_t covered, uint32_t ttl,
                          const char *zone) {
  struct buffer rdata = BUFFER_WITH_MAXIMUM(512);
  const int64_t now = sim_loop_now(reply->sim->clock) / 1000;
  buffer_add_u16(&rdata, covered);
  buffer_add_u8(&rdata, 13);
  buffer_add_u8(&rdata, 2);
  buffer_add_u32(&rdata, ttl);
  buffer_add_u32(&rdata, (uint32_t)(now + 864000));
  buffer_add_u32(&rdata, (uint32_t)(now - 864000));
  buffer_add_u16(&rdata, 4711);
  add_name(&rdata, zone);
  buffer_add(&rdata, "signature", 9);
  add_record(reply, section, name, DNS_TYPE_RRSIG, ttl, rdata.data, rdata.size);
  buffer_release(&rdata);
}

/* ---- answers ---- */

static void answer_negative(struct reply *reply, const struct sim_zone *zone, const struct sim_content *content, const char *name,
                            unsigned rcode) {
  const bool is_signed = content->is_signed && reply->dnssec_ok;
  reply->rcode = rcode;
  add_soa(reply, MESSAGE_AUTHORITY, zone->name, reply->sim->servers[0].host, content->soa_ttl, content->minimum);
  if (!is_signed) return;
  struct buffer rdata = BUFFER_WITH_MAXIMUM(512);
  add_signature(reply, MESSAGE_AUTHORITY, zone->name, DNS_TYPE_SOA, content->soa_ttl, zone->name);
  add_name(&rdata, zone->name);
  buffer_add(&rdata, "\0\1\2", 3);
  add_record(reply, MESSAGE_AUTHORITY, name, DNS_TYPE_NSEC, content->minimum, rdata.data, rdata.size);
  buffer_release(&rdata);
}

static void answer_name_servers(struct reply *reply, enum message_section section, const char *zone, unsigned bits) {
  for (size_t i = 0; i < reply->sim->server_count; i++)
    if (bits >> i & 1) add_named(reply, section, zone, DNS_TYPE_NS, 3600, reply->sim->servers[i].host);
  for (size_t i = 0; i < reply->sim->server_count; i++) {
    if (!(bits >> i & 1)) continue;
    add_address(reply, MESSAGE_ADDITIONAL, reply->sim->servers[i].host, reply->sim->servers[i].address);
    add_address6(reply, MESSAGE_ADDITIONAL, &reply->sim->servers[i]);
  }
}

static size_t answer_records(struct reply *reply, const struct sim_zone *zone, const struct sim_content *content, const char *at,
                             const struct question *question, bool *ret_exists) {
  size_t count = 0;
  for (size_t i = 0; i < content->count; i++) {
    const struct sim_record *record = &content->records[i];
    if (record->flags & SIM_RECORD_TORN) continue;
    if (ret_exists && message_name_below(record->name, at)) *ret_exists = true;
    if (!text_equal(record->name, at) || (record->type != question->type && record->type != DNS_TYPE_CNAME)) continue;
    add_record(reply, MESSAGE_ANSWER, question->name, record->type, record->ttl, record->rdata, record->rdata_size);
    if (count++ == 0 && content->is_signed && reply->dnssec_ok)
      add_signature(reply, MESSAGE_ANSWER, question->name, record->type, record->ttl, zone->name);
  }
  return count;
}

/* The DNAME above the name, if there is one in the zone, with the CNAME that it stands for (RFC 6672 3.1). ret_target: the name that it leads to. */
static bool answer_dname(struct reply *reply, const struct sim_zone *zone, const struct sim_content *content, const char *name, struct question *ret_target) {
  for (size_t i = 0; i < content->count; i++) {
    const struct sim_record *record = &content->records[i];
    if (record->type != DNS_TYPE_DNAME || text_equal(record->name, name) || !message_name_below(name, record->name)) continue;
    snprintf(ret_target->name, sizeof ret_target->name, "%.*s%s", (int)(strlen(name) - strlen(record->name)), name, record->text);
    add_record(reply, MESSAGE_ANSWER, record->name, DNS_TYPE_DNAME, record->ttl, record->rdata, record->rdata_size);
    if (content->is_signed && reply->dnssec_ok) add_signature(reply, MESSAGE_ANSWER, record->name, DNS_TYPE_DNAME, record->ttl, zone->name);
    add_named(reply, MESSAGE_ANSWER, name, DNS_TYPE_CNAME, record->ttl, ret_target->name);
    return true;
  }
  return false;
}

static void answer_zone(struct reply *reply, const struct sim_zone *zone, const struct sim_content *content,
                        const struct question *question) {
  reply->authoritative = true;
  if (text_equal(question->name, zone->name)) {
    if (question->type == DNS_TYPE_SOA) {
      add_soa(reply, MESSAGE_ANSWER, zone->name, reply->sim->servers[0].host, content->soa_ttl, content->minimum);
      if (content->is_signed && reply->dnssec_ok)
        add_signature(reply, MESSAGE_ANSWER, zone->name, DNS_TYPE_SOA, content->soa_ttl, zone->name);
      return;
    }
    if (question->type == DNS_TYPE_NS) {
      answer_name_servers(reply, MESSAGE_ANSWER, zone->name, content->name_servers);
      if (content->is_signed && reply->dnssec_ok) add_signature(reply, MESSAGE_ANSWER, zone->name, DNS_TYPE_NS, 3600, zone->name);
      return;
    }
  }
  bool exists = text_equal(question->name, zone->name);
  if (answer_records(reply, zone, content, question->name, question, &exists)) return;
  if (exists) {
    answer_negative(reply, zone, content, question->name, DNS_NOERROR);
    return;
  }
  for (const char *above = message_name_parent(question->name);; above = message_name_parent(above)) {
    char wildcard[DNS_NAME_TEXT_SIZE + 2];
    bool encloser = text_equal(above, zone->name);
    snprintf(wildcard, sizeof wildcard, "*.%s", above);
    if (answer_records(reply, zone, content, wildcard, question, NULL)) return;
    for (size_t i = 0; i < content->count && !encloser; i++)
      encloser = !(content->records[i].flags & SIM_RECORD_TORN) && message_name_below(content->records[i].name, above);
    if (encloser) break;
  }
  answer_negative(reply, zone, content, question->name, DNS_NXDOMAIN);
}

/* "test" and the root, which are on one server that never fails. */
static void answer_parent(struct reply *reply, const struct question *question) {
  const struct sim_zone *zone = sim_zone_find(reply->sim, question->name);
  reply->authoritative = true;
  if (zone) {
    reply->authoritative = false;
    answer_name_servers(reply, MESSAGE_AUTHORITY, zone->name, sim_zone_at(zone, 0)->name_servers);
    return;
  }
  const bool test = message_name_below(question->name, "test");
  const char *const apex = test ? "test" : "";
  for (size_t i = 0; i < reply->sim->server_count; i++) {
    if (!text_equal(question->name, reply->sim->servers[i].host)) continue;
    if (question->type == DNS_TYPE_A) add_address(reply, MESSAGE_ANSWER, question->name, reply->sim->servers[i].address);
    if (question->type == DNS_TYPE_AAAA) add_address6(reply, MESSAGE_ANSWER, &reply->sim->servers[i]);
    if (reply->counts[0] > 0) return;
  }
  if (question->type == DNS_TYPE_A && text_equal(question->name, "parent.test")) {
    add_address(reply, MESSAGE_ANSWER, question->name, PARENT_ADDRESS);
  } else if (text_equal(question->name, apex) && question->type == DNS_TYPE_NS) {
    add_named(reply, MESSAGE_ANSWER, apex, DNS_TYPE_NS, 3600, "parent.test");
    add_address(reply, MESSAGE_ADDITIONAL, "parent.test", PARENT_ADDRESS);
  } else {
    const bool soa = text_equal(question->name, apex) && question->type == DNS_TYPE_SOA;
    add_soa(reply, soa ? MESSAGE_ANSWER : MESSAGE_AUTHORITY, apex, "parent.test", 900, 900);
  }
}

static void answer_resolver(struct reply *reply, const struct question *question) {
  const struct sim_zone *zone = sim_zone_find(reply->sim, question->name);
  if (strstr(question->name, "_domainkey")) sim_violate(reply->sim, "I2", "a resolver was asked for %s", question->name);
  if (zone)
    answer_zone(reply, zone, sim_zone_at(zone, 0), question);
  else
    answer_parent(reply, question);
  reply->authoritative = false;
  reply->recursive = true;
}

/* ---- TSIG of the server's side ---- */

static void add_tsig(struct sim *sim, struct buffer *message, const struct tsig_record *request, unsigned error, int64_t now) {
  struct buffer variables = BUFFER_WITH_MAXIMUM(2048), input = BUFFER_WITH_MAXIMUM(REPLY_MAX + 2048);
  struct buffer other = BUFFER_WITH_MAXIMUM(16);
  uint8_t mac[64];
  unsigned mac_size = 0;
  const int64_t signed_at = error == TSIG_BADTIME ? (int64_t)request->time_signed : now;
  if (error == TSIG_BADTIME) {
    buffer_add_u16(&other, (uint16_t)(now >> 32));
    buffer_add_u32(&other, (uint32_t)now);
  }
  buffer_add_u16(&input, (uint16_t)request->mac_size);
  buffer_add(&input, request->mac, request->mac_size);
  buffer_add(&input, message->data, message->size);
  add_name(&variables, sim->tsig.name);
  buffer_add_u16(&variables, CLASS_ANY);
  buffer_add_u32(&variables, 0);
  add_name(&variables, "hmac-sha256");
  buffer_add_u16(&variables, (uint16_t)(signed_at >> 32));
  buffer_add_u32(&variables, (uint32_t)signed_at);
  buffer_add_u16(&variables, TSIG_FUDGE);
  buffer_add_u16(&variables, (uint16_t)error);
  buffer_add_u16(&variables, (uint16_t)other.size);
  if (other.size) buffer_add(&variables, other.data, other.size);
  buffer_add(&input, variables.data, variables.size);
  if (!HMAC(EVP_sha256(), sim->tsig.secret, (int)sim->tsig.secret_size, input.data, input.size, mac, &mac_size)) abort();
  add_name(message, sim->tsig.name);
  buffer_add_u16(message, DNS_TYPE_TSIG);
  buffer_add_u16(message, CLASS_ANY);
  buffer_add_u32(message, 0);
  buffer_add_u16(message, (uint16_t)(13 + 16 + mac_size + other.size));
  add_name(message, "hmac-sha256");
  buffer_add_u16(message, (uint16_t)(signed_at >> 32));
  buffer_add_u32(message, (uint32_t)signed_at);
  buffer_add_u16(message, TSIG_FUDGE);
  buffer_add_u16(message, (uint16_t)mac_size);
  buffer_add(message, mac, mac_size);
  buffer_add(message, message->data, 2);
  buffer_add_u16(message, (uint16_t)error);
  buffer_add_u16(message, (uint16_t)other.size);
  if (other.size) buffer_add(message, other.data, other.size);
  message->data[11]++;
  buffer_release(&input);
  buffer_release(&variables);
  buffer_release(&other);
}

/* ---- updates ---- */

static bool same_record(const struct sim_record *record, const struct message_record *wanted) {
  return !(record->flags & SIM_RECORD_TORN) && record->type == wanted->type && text_equal(record->name, wanted->name);
}

static size_t count_records(const struct sim_content *content, const struct message_record *wanted, bool exact) {
  size_t count = 0;
  for (size_t i = 0; i < content->count; i++) {
    const struct sim_record *record = &content->records[i];
    if (!same_record(record, wanted)) continue;
    count += !exact || (record->rdata_size == wanted->rdata_size && memcmp(record->rdata, wanted->rdata, wanted->rdata_size) == 0);
  }
  return count;
}

static unsigned check_prerequisite(const struct sim_content *content, const struct message_record *wanted) {
  if (wanted->rr_class == CLASS_NONE) return count_records(content, wanted, false) ? DNS_YXRRSET : DNS_NOERROR;
  const bool exact = count_records(content, wanted, false) == 1 && count_records(content, wanted, true) == 1;
  return exact ? DNS_NOERROR : DNS_NXRRSET;
}

static void change_record(struct sim *sim, struct sim_content *content, const struct message_record *wanted) {
  if (wanted->rr_class == CLASS_NONE) {
    for (size_t i = content->count; i-- > 0;) {
      const struct sim_record *record = &content->records[i];
      if (same_record(record, wanted) && record->rdata_size == wanted->rdata_size &&
          memcmp(record->rdata, wanted->rdata, wanted->rdata_size) == 0)
        sim_content_remove(content, i);
    }
    return;
  }
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  struct error error;
  if (wanted->type != DNS_TYPE_TXT || record_from_rdata(wanted->rdata, wanted->rdata_size, &text, &size, &error)) abort();
  if (count_records(content, wanted, true)) return;
  for (size_t i = content->count; i-- > 0;)
    if (content->records[i].flags & SIM_RECORD_TORN && text_equal(content->records[i].name, wanted->name)) sim_content_remove(content, i);
  sim_content_add(sim, content, wanted->name, DNS_TYPE_TXT, wanted->ttl, text, SIM_RECORD_OURS);
}

static unsigned apply_update(struct sim *sim, const struct message *message) {
  struct sim_zone *zone = sim_zone_find(sim, message->question_name);
  if (!zone || !text_equal(zone->name, message->question_name)) return DNS_NOTAUTH;
  const struct sim_content *before = sim_zone_at(zone, 0);
  for (size_t i = 0; i < message->record_count; i++) {
    if (message->records[i].section != MESSAGE_ANSWER) continue;
    const unsigned rcode = check_prerequisite(before, &message->records[i]);
    if (rcode != DNS_NOERROR) return rcode;
  }
  struct sim_content *content = sim_zone_edit(zone);
  for (size_t i = 0; i < message->record_count; i++)
    if (message->records[i].section == MESSAGE_AUTHORITY) change_record(sim, content, &message->records[i]);
  sim->result->counts.updates++;
  sim_oracle_update(sim, zone, before, content);
  sim_zone_commit(sim, zone, content);
  return DNS_NOERROR;
}

static unsigned do_update(struct sim *sim, const uint8_t *octets, size_t size) {
  struct message *message = NULL;
  struct error error;
  if (message_parse(octets, size, &message, &error)) return DNS_FORMERR;
  const unsigned rcode = sim->rejects_until > sim_loop_now(sim->clock) ? (unsigned)DNS_REFUSED : apply_update(sim, message);
  message_free(message);
  return rcode;
}

/* ---- the whole of it ---- */

static bool read_question(const uint8_t *octets, size_t size, struct question *ret) {
  size_t at = 12, length = 0;
  ret->recursion = size > 12 && octets[2] & 1;
  ret->name[0] = '\0';
  while (at < size && octets[at]) {
    const size_t label = octets[at];
    if (at + label + 5 >= size || length + label + 2 > sizeof ret->name) return false;
    if (length) ret->name[length++] = '.';
    memcpy(ret->name + length, octets + at + 1, label);
    length += label;
    ret->name[length] = '\0';
    at += label + 1;
  }
  ret->type = (uint16_t)(octets[at + 1] << 8 | octets[at + 2]);
  ret->end = at + 5;
  ret->dnssec_ok = size > ret->end + 7 && octets[ret->end + 2] == 41 && octets[ret->end + 7] & 0x80;
  return true;
}

static void write_reply(struct reply *reply, const uint8_t *request, const struct question *question, bool truncate, struct buffer *message) {
  buffer_add(message, request, 2);
  buffer_add_u8(message, (uint8_t)(0x80 | (request[2] & 0x78) | (reply->authoritative ? 4 : 0) | (truncate ? 2 : 0)));
  buffer_add_u8(message, (uint8_t)((reply->recursive ? 0x80 : 0) | reply->rcode));
  buffer_add_u16(message, 1);
  for (int i = 0; i < 3; i++) buffer_add_u16(message, truncate ? 0 : reply->counts[i]);
  buffer_add(message, request + 12, question->end - 12);
  for (int i = 0; i < 3; i++) {
    if (!truncate && reply->sections[i].size) buffer_add(message, reply->sections[i].data, reply->sections[i].size);
    buffer_release(&reply->sections[i]);
  }
}

/* From the server's own copy, also of the zone that an alias leads to. */
static void answer_from(struct reply *reply, size_t server, const struct sim_zone *zone, const struct question *question) {
  struct sim *sim = reply->sim;
  const struct sim_copy *copy = &zone->copies[server];
  const struct sim_content *content = sim_zone_at(zone, server);
  struct question behind = *question;
  /* Two machines behind one address, of which one is late by a change. */
  if (sim->servers[server].contradicts_until > sim_loop_now(sim->clock) && copy->count > 1 && SIM_RANDOM(sim, 2)) content = copy->eras[copy->count - 2].content;
  if (!answer_dname(reply, zone, content, question->name, &behind)) {
    answer_zone(reply, zone, content, question);
    return;
  }
  const struct sim_zone *target = sim_zone_find(sim, behind.name);
  if (!target) abort();
  answer_from(reply, server, target, &behind);
}

static void answer_as(struct reply *reply, int server, const struct question *question) {
  struct sim *sim = reply->sim;
  const struct sim_zone *zone = sim_zone_find(sim, question->name);
  const int64_t now = sim_loop_now(sim->clock);
  if (server == SIM_SERVER_PARENT) {
    answer_parent(reply, question);
  } else if (server <= SIM_SERVER_RESOLVER) {
    if (sim->resolvers[SIM_SERVER_RESOLVER - server].servfail_until > now)
      reply->rcode = DNS_SERVFAIL;
    else
      answer_resolver(reply, question);
  } else if (sim->servers[server].servfail_until > now) {
    reply->rcode = DNS_SERVFAIL;
  } else if (!zone) {
    reply->rcode = DNS_REFUSED;
  } else {
    answer_from(reply, (size_t)server, zone, question);
  }
}

void sim_dns_answer(struct sim *sim, int server, const uint8_t *octets, size_t size, bool tcp, struct sim_answer *ret_answer) {
  struct reply reply = {.sim = sim};
  struct question question = {0};
  struct tsig_record tsig = {0};
  struct error error;
  const int64_t now = sim_loop_now(sim->clock);
  const int64_t server_wall = now / 1000 + (sim->primary_clock_until > now ? sim->primary_clock_error : 0);
  unsigned tsig_error = TSIG_NOERROR;
  ret_answer->octets = BUFFER_WITH_MAXIMUM(REPLY_MAX);
  for (int i = 0; i < 3; i++) reply.sections[i] = BUFFER_WITH_MAXIMUM(REPLY_MAX);
  if (!read_question(octets, size, &question)) abort();
  reply.dnssec_ok = question.dnssec_ok;
  const bool update = ((octets[2] >> 3) & 0xf) == 5;
  if (tsig_record_find(octets, size, &tsig, &error)) abort();
  if (tsig.present) {
    struct tsig_answer verdict = {0};
    if (tsig_verify(&sim->tsig, NULL, server_wall, octets, size, &verdict, &error)) abort();
    tsig_error = verdict.verdict;
  }
  if (tsig_error != TSIG_NOERROR || (update && (!tsig.present || server != 0)))
    reply.rcode = tsig.present ? DNS_NOTAUTH : DNS_REFUSED;
  else if (update)
    reply.rcode = do_update(sim, octets, size);
  else
    answer_as(&reply, server, &question);
  const bool truncate = !tcp && server >= 0 && sim->servers[server].truncates_until > now;
  write_reply(&reply, octets, &question, truncate, &ret_answer->octets);
  if (tsig.present) add_tsig(sim, &ret_answer->octets, &tsig, tsig_error, server_wall);
}

int sim_dns_server_at(const struct sim *sim, const struct address *address) {
  char text[ADDRESS_TEXT_SIZE];
  address_format(address, text);
  if (text_starts(text, PARENT_ADDRESS ":")) return SIM_SERVER_PARENT;
  if (text_starts(text, "192.0.2.2:")) return SIM_SERVER_RESOLVER;
  if (text_starts(text, "192.0.2.3:")) return SIM_SERVER_RESOLVER - 1;
  for (size_t i = 0; i < sim->server_count; i++)
    if (address_equal(&sim->servers[i].parsed, address) || (sim->has_ipv6 && address_equal(&sim->servers[i].parsed6, address))) return (int)i;
  return SIM_SERVER_NOBODY;
}
