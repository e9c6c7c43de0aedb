#include "dns_script.h"

#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/tsig_wire.h"

enum { HEADER = 12, RECORDS_MAX = 16, MESSAGE_MAX = 65535, OPCODE_UPDATE = 5 };

/* Names of records and in RDATA, as they are on the wire; by the octet NAME, from 4. */
#define NAME(text)                                                                                                     \
  { (const uint8_t *)(text), sizeof(text) }
static const struct {
  const uint8_t *octets;
  size_t size;
} names[] = {
    NAME("\7example\3com"),
    NAME("\12_domainkey\7example\3com"),
    NAME("\2s1\12_domainkey\7example\3com"),
    NAME("\3com"),
    NAME("\3ns1\7example\3com"),
    NAME("\3ns2\7example\3net"),
    NAME("\10provider\3net"),
    NAME("\2s1\10customer\10provider\3net"),
    NAME("\1*\12_domainkey\7example\3com"),
    NAME(""),
    NAME("\10provider\4test"),
    NAME("\3ns3\10provider\3net"),
};

static const uint16_t types[] = {16, 6, 2, 5, 1, 28, 39, 46, 47, 50, 41, 250, 255, 99};

/* ---- reading the script ---- */

static struct fuzz_input take_body(struct fuzz_input *input, uint8_t flags) {
  if (flags & DNS_SCRIPT_SILENT) return (struct fuzz_input){0};
  const uint16_t size = fuzz_take_u16(input);
  return fuzz_take(input, size);
}

void dns_script_read(struct dns_script *script, struct fuzz_input input) {
  while (input.size > 0 && script->count < DNS_SCRIPT_REPLIES_MAX) {
    struct dns_script_reply *reply = &script->replies[script->count++];
    *reply = (struct dns_script_reply){.type = fuzz_take_u8(&input)};
    reply->flags = fuzz_take_u8(&input);
    reply->rcode = fuzz_take_u8(&input);
    reply->body = take_body(&input, reply->flags);
  }
}

/* ---- one message ---- */

struct request {
  const uint8_t *octets;
  size_t size;
  size_t question_end;
  uint8_t type; /* of its question, or DNS_SCRIPT_UPDATE */
};

static bool read_request(const uint8_t *octets, size_t size, struct request *request) {
  *request = (struct request){.octets = octets, .size = size};
  size_t end = HEADER;
  while (end < size && octets[end] != 0) end += octets[end] + 1u;
  if (end + 5 > size) return false;
  request->question_end = end + 5;
  request->type = (octets[2] >> 3 & 0xf) == OPCODE_UPDATE ? DNS_SCRIPT_UPDATE : octets[end + 2];
  return true;
}

static void add_name(struct buffer *octets, struct fuzz_input *body) {
  const uint8_t which = fuzz_take_u8(body);
  if (which == 0) {
    buffer_add_u16(octets, 0xc000 | HEADER); /* the question's */
  } else if (which == 1 && octets->size > HEADER && octets->data[HEADER] > 0) {
    buffer_add_u16(octets, (uint16_t)(0xc000 | (HEADER + 1 + octets->data[HEADER]))); /* without its first label */
  } else if (which == 2) {
    buffer_add_u16(octets, (uint16_t)(0xc000 | fuzz_take_u16(body)));
  } else if (which == 3) {
    const struct fuzz_input literal = fuzz_take(body, fuzz_take_u8(body));
    buffer_add(octets, literal.data, literal.size);
  } else {
    const size_t index = (which - 4u) % ARRAY_SIZE(names);
    buffer_add(octets, names[index].octets, names[index].size);
  }
}

static void add_text(struct dns_script *script, struct buffer *rdata, struct fuzz_input *body) {
  const uint8_t which = fuzz_take_u8(body);
  if (which == 'r' && script->record) {
    const size_t size = strlen(script->record);
    buffer_add_u8(rdata, (uint8_t)size);
    buffer_add(rdata, script->record, size);
    script->record_was_said = true;
    return;
  }
  const struct fuzz_input literal = fuzz_take(body, which);
  buffer_add_u8(rdata, (uint8_t)literal.size);
  buffer_add(rdata, literal.data, literal.size);
}

static void add_signature(const struct dns_script *script, struct buffer *rdata, struct fuzz_input *body) {
  const uint8_t how = fuzz_take_u8(body);
  buffer_add_u16(rdata, how & 1 ? 6 : 16);
  buffer_add_u16(rdata, 13 << 8 | 4);
  buffer_add_u32(rdata, 3600);
  buffer_add_u32(rdata, (uint32_t)script->now + (how & 2 ? -60u : 3600u));
  buffer_add_u32(rdata, (uint32_t)script->now - (how & 4 ? -60u : 3600u));
  buffer_add_u16(rdata, 4711);
  add_name(rdata, body);
  buffer_add_text(rdata, "signature");
}

/* RDATA fit for the type, or octets as they come. */
static void add_rdata(struct dns_script *script, uint16_t type, struct buffer *rdata, struct fuzz_input *body) {
  static const uint8_t address[16] = {192, 0, 2, 1};
  const uint8_t how = fuzz_take_u8(body);
  if (how & 1) {
    const struct fuzz_input literal = fuzz_take(body, how / 2);
    buffer_add(rdata, literal.data, literal.size);
  } else if (type == 16) {
    for (unsigned i = 0; i <= how / 2u % 3; i++) add_text(script, rdata, body);
  } else if (type == 1 || type == 28) {
    buffer_add(rdata, address, type == 1 ? 3 : 15);
    buffer_add_u8(rdata, how);
  } else if (type == 6) {
    add_name(rdata, body);
    add_name(rdata, body);
    for (unsigned i = 0; i < 5; i++) buffer_add_u32(rdata, fuzz_take_u16(body));
  } else if (type == 46) {
    add_signature(script, rdata, body);
  } else {
    add_name(rdata, body);
  }
}

/* A name of RDATA that is compressed points into the message, so its size is known only afterwards. */
static void add_record(struct dns_script *script, struct buffer *octets, struct fuzz_input *body) {
  add_name(octets, body);
  const uint8_t which = fuzz_take_u8(body);
  const uint16_t type = types[which % ARRAY_SIZE(types)];
  buffer_add_u16(octets, type);
  buffer_add_u16(octets, which & 0x80 ? 254 : 1);
  buffer_add_u32(octets, fuzz_take_u16(body));
  const size_t at = octets->size;
  buffer_add_u16(octets, 0);
  add_rdata(script, type, octets, body);
  if (octets->failed) return;
  const size_t size = octets->size - at - 2;
  octets->data[at] = (uint8_t)(size >> 8);
  octets->data[at + 1] = (uint8_t)size;
}

static void set_u16(struct buffer *octets, size_t at, size_t value) {
  octets->data[at] = (uint8_t)(value >> 8);
  octets->data[at + 1] = (uint8_t)value;
}

/* COUNTS: two bits for ANSWER (and its upper half as many more), two for AUTHORITY, two for ADDITIONAL. */
static void build(struct dns_script *script, const struct dns_script_reply *reply, const struct request *request,
                  struct buffer *octets) {
  struct fuzz_input body = reply->body;
  const uint8_t counts = fuzz_take_u8(&body);
  buffer_add(octets, request->octets, request->question_end);
  octets->data[2] = (uint8_t)((request->octets[2] & 0x79) | 0x80 | (reply->flags & DNS_SCRIPT_AUTHORITATIVE ? 4 : 0) |
                              (reply->flags & DNS_SCRIPT_TRUNCATED ? 2 : 0));
  octets->data[3] = (uint8_t)(reply->rcode & 0xf);
  const size_t sections[3] = {counts & 7, counts >> 3 & 3, counts >> 5};
  for (size_t section = 0; section < 3; section++) {
    for (size_t i = 0; i < sections[section]; i++) add_record(script, octets, &body);
    set_u16(octets, 6 + 2 * section, sections[section]);
  }
}

/* ---- TSIG ---- */

/* Where a TSIG is wrong: the upper half of RCODE. */
enum damage {
  DAMAGE_NONE,
  DAMAGE_MAC,
  DAMAGE_TIME,
  DAMAGE_NAME,
  DAMAGE_ALGORITHM,
  DAMAGE_CUT,     /* half of the MAC */
  DAMAGE_BADTIME, /* the server says that our clock is wrong, and signs that */
  DAMAGE_BADKEY,  /* this and the next: the server's error, unsigned */
  DAMAGE_BADSIG,
};

struct tsig {
  enum damage damage;
  struct tsig_record asked; /* of the request */
  uint64_t now;
  uint16_t error;
  uint8_t mac[EVP_MAX_MD_SIZE];
  unsigned mac_size;
};

static void add_u48(struct buffer *octets, uint64_t value) {
  buffer_add_u16(octets, (uint16_t)(value >> 32));
  buffer_add_u32(octets, (uint32_t)value);
}

static void add_error(struct buffer *octets, const struct tsig *tsig) {
  buffer_add_u16(octets, tsig->error);
  buffer_add_u16(octets, tsig->damage == DAMAGE_BADTIME ? 6 : 0);
  if (tsig->damage == DAMAGE_BADTIME) add_u48(octets, tsig->now);
}

/* RFC 8945 4.3, put together here a second time. */
static bool make_mac(const struct dns_script *script, const struct buffer *octets, struct tsig *tsig) {
  CLEANUP(buffer_release) struct buffer input = BUFFER_WITH_MAXIMUM(2 * MESSAGE_MAX);
  buffer_add_u16(&input, (uint16_t)tsig->asked.mac_size);
  buffer_add(&input, tsig->asked.mac, tsig->asked.mac_size);
  buffer_add(&input, octets->data, octets->size);
  buffer_add(&input, tsig->asked.name.octets, tsig->asked.name.size);
  buffer_add_u16(&input, 255);
  buffer_add_u32(&input, 0);
  buffer_add(&input, tsig->asked.algorithm.octets, tsig->asked.algorithm.size);
  add_u48(&input, tsig->now);
  buffer_add_u16(&input, 300);
  add_error(&input, tsig);
  const struct tsig_key *key = script->key;
  return !input.failed &&
         HMAC(EVP_sha256(), key->secret, (int)key->secret_size, input.data, input.size, tsig->mac, &tsig->mac_size);
}

static void add_tsig(struct buffer *octets, const struct request *request, const struct tsig *tsig) {
  static const struct tsig_name other = {.octets = "\5other", .size = 7};
  const struct tsig_name *name = tsig->damage == DAMAGE_NAME ? &other : &tsig->asked.name;
  const struct tsig_name *algorithm = tsig->damage == DAMAGE_ALGORITHM ? &other : &tsig->asked.algorithm;
  buffer_add(octets, name->octets, name->size);
  buffer_add_u16(octets, 250);
  buffer_add_u16(octets, 255);
  buffer_add_u32(octets, 0);
  buffer_add_u16(octets, (uint16_t)(algorithm->size + 16 + tsig->mac_size + (tsig->damage == DAMAGE_BADTIME ? 6 : 0)));
  buffer_add(octets, algorithm->octets, algorithm->size);
  add_u48(octets, tsig->now);
  buffer_add_u16(octets, 300);
  buffer_add_u16(octets, (uint16_t)tsig->mac_size);
  buffer_add(octets, tsig->mac, tsig->mac_size);
  buffer_add(octets, request->octets, 2);
  add_error(octets, tsig);
  if (!octets->failed) set_u16(octets, 10, (size_t)(octets->data[10] << 8 | octets->data[11]) + 1);
}

static void sign(struct dns_script *script, const struct dns_script_reply *reply, const struct request *request,
                 struct buffer *octets) {
  struct tsig tsig = {.now = (uint64_t)script->now};
  if (tsig_record_find(request->octets, request->size, &tsig.asked, NULL) < 0 || !tsig.asked.present) return;
  if (reply->flags & DNS_SCRIPT_DAMAGED) tsig.damage = (enum damage)((reply->rcode >> 4) % 8 + 1);
  if (tsig.damage == DAMAGE_TIME || tsig.damage == DAMAGE_BADTIME) tsig.now += 4000;
  tsig.error = tsig.damage == DAMAGE_BADTIME  ? TSIG_BADTIME
               : tsig.damage == DAMAGE_BADKEY ? TSIG_BADKEY
               : tsig.damage == DAMAGE_BADSIG ? TSIG_BADSIG
                                              : TSIG_NOERROR;
  if (!make_mac(script, octets, &tsig)) return;
  if (tsig.damage == DAMAGE_MAC) tsig.mac[reply->rcode % tsig.mac_size] ^= 1;
  if (tsig.damage == DAMAGE_CUT) tsig.mac_size /= 2;
  if (tsig.damage == DAMAGE_BADKEY || tsig.damage == DAMAGE_BADSIG) tsig.mac_size = 0;
  add_tsig(octets, request, &tsig);
  script->signed_right += tsig.damage == DAMAGE_NONE;
  script->signed_by_key += tsig.damage == DAMAGE_NONE || tsig.damage == DAMAGE_BADTIME;
}

/* ---- answering ---- */

static struct dns_script_reply *find_reply(struct dns_script *script, uint8_t type) {
  for (size_t i = 0; i < script->count; i++) {
    struct dns_script_reply *reply = &script->replies[i];
    if (reply->used || (reply->type != 0 && reply->type != type)) continue;
    reply->used = !(reply->flags & DNS_SCRIPT_AGAIN);
    return reply;
  }
  return NULL;
}

const struct dns_script_reply *dns_script_answer(struct dns_script *script, const uint8_t *request, size_t size,
                                                 struct buffer *octets) {
  struct request asked;
  if (!read_request(request, size, &asked) || ++script->requests > DNS_SCRIPT_REQUESTS_MAX) return NULL;
  const struct dns_script_reply *reply = find_reply(script, asked.type);
  if (!reply || reply->flags & DNS_SCRIPT_SILENT) return reply && reply->flags & DNS_SCRIPT_CLOSES ? reply : NULL;
  buffer_reset(octets);
  if (reply->flags & DNS_SCRIPT_RAW) {
    buffer_add(octets, request, 2);
    buffer_add(octets, reply->body.data, reply->body.size);
  } else {
    build(script, reply, &asked, octets);
    if (script->key && !(reply->flags & DNS_SCRIPT_UNSIGNED) && !octets->failed) sign(script, reply, &asked, octets);
  }
  if (octets->failed || octets->size == 0 || octets->size > MESSAGE_MAX) return NULL;
  if (script->record && memmem(octets->data, octets->size, script->record, strlen(script->record)))
    script->record_was_said = true;
  return reply;
}
