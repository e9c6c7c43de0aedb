/* A primary server behind a fake transport: reads DNS messages as they are, keeps records, checks prerequisites and applies updates (RFC 2136 3), and fails in
 * the ways that a test asks for. On a virtual loop, with latency, replies in any order. Static, because other files of this folder are linked into every test. */
#ifndef DKIMROLL_TESTS_FAKE_PRIMARY_H
#define DKIMROLL_TESTS_FAKE_PRIMARY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <netinet/in.h>
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

enum { FAKE_RECORDS_MAX = 6000, FAKE_TEXT_SIZE = 448, FAKE_START_WALL = 1769212800, FAKE_START_BOOT = 5000000 };

/* What a fault makes of a request; values from 0 are an rcode to answer with, without applying anything. */
enum fake_fault {
  FAKE_OBEY = -1,
  FAKE_IGNORE = -2,       /* NOERROR, nothing applied */
  FAKE_LOSE_REQUEST = -3, /* no answer, nothing applied */
  FAKE_LOSE_REPLY = -4,   /* applied, no answer */
  FAKE_BREAK = -5,        /* the connection breaks, nothing applied */
  FAKE_GARBAGE = -6,      /* an answer that is no DNS message */
};

struct fake_record {
  char name[DNS_NAME_TEXT_SIZE];
  uint16_t type; /* TXT or CNAME */
  char text[FAKE_TEXT_SIZE];
};

struct fake_primary;
typedef int fake_decide(struct fake_primary *fake, const struct transport_request *request,
                        const struct message *message);

struct transport_exchange {
  struct fake_primary *fake;
  struct address address;
  uint8_t *octets;
  size_t size;
  int64_t deadline;
  transport_accept *accept;
  transport_done *done;
  void *context;
  struct loop_source *timer;
  LIST_ENTRY(transport_exchange) next;
};

LIST_HEAD(fake_exchanges, transport_exchange);

struct fake_primary {
  struct transport transport;
  struct loop *loop;
  struct entropy_seeded random;
  struct fake_record *records;
  size_t record_count;
  uint32_t latency;    /* milliseconds at most */
  fake_decide *decide; /* NULL: obey */
  void *decide_context;
  bool without_authority;
  uint32_t failing; /* percent of exchanges that cannot even be started */
  bool
      strays; /* before each answer come messages that look like it and are not: another id, another question, a query */
  unsigned queries, updates, in_flight, in_flight_max;
  size_t largest; /* octets of an update */
  struct fake_exchanges exchanges;
};

static inline struct fake_record *fake_find(struct fake_primary *fake, const char *name, uint16_t type,
                                            const char *text) {
  for (size_t i = 0; i < fake->record_count; i++) {
    struct fake_record *record = &fake->records[i];
    if (record->type == type && text_equal(record->name, name) && (!text || text_equal(record->text, text)))
      return record;
  }
  return NULL;
}

static inline size_t fake_count(struct fake_primary *fake, const char *name, uint16_t type) {
  size_t count = 0;
  for (size_t i = 0; i < fake->record_count; i++)
    count += fake->records[i].type == type && text_equal(fake->records[i].name, name);
  return count;
}

static inline void fake_add(struct fake_primary *fake, const char *name, uint16_t type, const char *text) {
  if (fake_find(fake, name, type, text)) return;
  assert_true(fake->record_count < FAKE_RECORDS_MAX);
  struct fake_record *record = &fake->records[fake->record_count++];
  record->type = type;
  assert_true(text_copy(record->name, sizeof record->name, name));
  assert_true(text_copy(record->text, sizeof record->text, text));
}

static inline void fake_remove(struct fake_primary *fake, const char *name, const char *text) {
  struct fake_record *record = fake_find(fake, name, DNS_TYPE_TXT, text);
  if (record) *record = fake->records[--fake->record_count];
}

static inline char *fake_text(const struct message_record *record) {
  char *text = NULL;
  size_t size;
  struct error error;
  assert_int_equal(record_from_rdata(record->rdata, record->rdata_size, &text, &size, &error), 0);
  return text;
}

/* RFC 2136 3.2. */
static inline unsigned fake_prerequisite(struct fake_primary *fake, const struct message_record *record) {
  enum { CLASS_IN = 1, CLASS_NONE = 254 };
  assert_int_equal(record->ttl, 0);
  if (record->rr_class == CLASS_NONE) return fake_count(fake, record->name, record->type) ? DNS_YXRRSET : DNS_NOERROR;
  assert_int_equal(record->rr_class, CLASS_IN);
  CLEANUP_FREE char *text = fake_text(record);
  bool exact = fake_count(fake, record->name, DNS_TYPE_TXT) == 1 && fake_find(fake, record->name, DNS_TYPE_TXT, text);
  return exact ? DNS_NOERROR : DNS_NXRRSET;
}

/* RFC 2136 3.4.2: a TXT where a CNAME stands is ignored. */
static inline void fake_change(struct fake_primary *fake, const struct message_record *record) {
  enum { CLASS_IN = 1, CLASS_NONE = 254 };
  CLEANUP_FREE char *text = fake_text(record);
  if (record->rr_class == CLASS_NONE)
    fake_remove(fake, record->name, text);
  else if (record->rr_class == CLASS_IN && !fake_count(fake, record->name, DNS_TYPE_CNAME))
    fake_add(fake, record->name, DNS_TYPE_TXT, text);
}

static inline unsigned fake_update(struct fake_primary *fake, const struct message *message) {
  for (size_t i = 0; i < message->record_count; i++) {
    if (message->records[i].section != MESSAGE_ANSWER) continue;
    unsigned rcode = fake_prerequisite(fake, &message->records[i]);
    if (rcode != DNS_NOERROR) return rcode;
  }
  for (size_t i = 0; i < message->record_count; i++)
    if (message->records[i].section == MESSAGE_AUTHORITY) fake_change(fake, &message->records[i]);
  return DNS_NOERROR;
}

static inline void fake_write_record(struct buffer *reply, const struct fake_record *record) {
  uint8_t wire[MESSAGE_NAME_WIRE_MAX], *rdata = NULL;
  size_t size;
  struct error error;
  buffer_add_u16(reply, 0xc00c);
  buffer_add_u16(reply, record->type);
  buffer_add_u16(reply, 1);
  buffer_add_u32(reply, 60);
  if (record->type == DNS_TYPE_TXT)
    assert_int_equal(record_to_rdata(record->text, strlen(record->text), &rdata, &size, &error), 0);
  else
    assert_int_equal(message_name_wire(record->text, wire, &size, &error), 0);
  buffer_add_u16(reply, (uint16_t)size);
  buffer_add(reply, rdata ? rdata : wire, size);
  free(rdata);
}

/* Answers that stand at name, or at the wildcard beside it. */
static inline uint16_t fake_write_answers(struct fake_primary *fake, struct buffer *reply, const char *name) {
  uint16_t count = 0;
  for (size_t i = 0; i < fake->record_count; i++) {
    if (!text_equal(fake->records[i].name, name)) continue;
    fake_write_record(reply, &fake->records[i]);
    count++;
  }
  if (count || name[0] == '*') return count;
  CLEANUP_FREE char *wildcard = text_format("*.%s", message_name_parent(name));
  return fake_write_answers(fake, reply, wildcard);
}

static inline struct buffer fake_reply(struct fake_primary *fake, struct transport_exchange *exchange,
                                       const struct message *message, int fault) {
  struct buffer reply = BUFFER_WITH_MAXIMUM(TRANSPORT_MESSAGE_MAX);
  size_t end = 12;
  while (exchange->octets[end]) end += exchange->octets[end] + 1u;
  buffer_add(&reply, exchange->octets, end + 5);
  memset(reply.data + 4, 0, 8);
  reply.data[5] = 1;
  unsigned rcode = fault >= 0 ? (unsigned)fault : DNS_NOERROR;
  if (fault >= 0 || fault == FAKE_IGNORE) {
  } else if (message->opcode == 5) {
    rcode = fake_update(fake, message);
  } else {
    uint16_t count = fake_write_answers(fake, &reply, message->question_name);
    reply.data[7] = (uint8_t)count;
    rcode = count ? DNS_NOERROR : DNS_NXDOMAIN;
  }
  reply.data[2] = (uint8_t)(0x80 | message->opcode << 3 | (fake->without_authority ? 0 : 4));
  reply.data[3] = (uint8_t)rcode;
  assert_false(reply.failed);
  return reply;
}

/* The exchange must ignore them (RFC 5452 3). */
static inline void fake_offer_strays(struct transport_exchange *exchange, const struct buffer *reply) {
  static const size_t places[] = {0, 2, 14}; /* id, QR, the first label of the question */
  CLEANUP_FREE uint8_t *copy = malloc(reply->size);
  assert_non_null(copy);
  for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
    bool update = ((reply->data[2] >> 3) & 0xf) == 5;
    if (update && places[i] == 14) continue; /* servers need not repeat the zone */
    memcpy(copy, reply->data, reply->size);
    copy[places[i]] ^= places[i] == 14 ? 1 : 0x80;
    assert_false(exchange->accept(exchange->context, copy, reply->size));
  }
}

static inline void fake_end(struct transport_exchange *exchange, const struct error *result) {
  LIST_REMOVE(exchange, next);
  exchange->fake->in_flight--;
  loop_cancel(exchange->fake->loop, &exchange->timer);
  exchange->done(exchange->context, result);
  free(exchange->octets);
  free(exchange);
}

static inline void fake_timeout(void *context) {
  struct transport_exchange *exchange = context;
  struct error error;
  exchange->timer = NULL;
  error_set(&error, ERROR_TIMEOUT, "no answer");
  fake_end(exchange, &error);
}

static inline void fake_wait(struct transport_exchange *exchange) {
  assert_int_equal(loop_at(exchange->fake->loop, exchange->deadline, fake_timeout, exchange, &exchange->timer), 0);
}

static inline int fake_decision(struct fake_primary *fake, struct transport_exchange *exchange,
                                const struct message *message) {
  const struct transport_request request = {
      .address = exchange->address, .octets = exchange->octets, .size = exchange->size};
  return fake->decide ? fake->decide(fake, &request, message) : FAKE_OBEY;
}

static inline void fake_serve(void *context) {
  struct transport_exchange *exchange = context;
  struct fake_primary *fake = exchange->fake;
  struct message *message = NULL;
  struct error error = {0};
  exchange->timer = NULL;
  assert_int_equal(message_parse(exchange->octets, exchange->size, &message, &error), 0);
  int fault = fake_decision(fake, exchange, message);
  bool silent = fault == FAKE_LOSE_REQUEST || fault == FAKE_BREAK;
  struct buffer reply = silent ? BUFFER_WITH_MAXIMUM(1) : fake_reply(fake, exchange, message, fault);
  message_free(message);
  if (fault == FAKE_GARBAGE) reply.size = 14;
  if (fault == FAKE_OBEY && fake->strays) fake_offer_strays(exchange, &reply);
  bool taken = !silent && fault != FAKE_LOSE_REPLY && exchange->accept(exchange->context, reply.data, reply.size);
  buffer_release(&reply);
  if (fault == FAKE_BREAK) error_set(&error, ERROR_UNREACHABLE, "connection reset");
  if (taken || fault == FAKE_BREAK)
    fake_end(exchange, &error);
  else
    fake_wait(exchange);
}

static inline int fake_exchange(struct transport *transport, const struct transport_request *request,
                                transport_accept *accept, transport_done *done, void *context,
                                struct transport_exchange **ret_exchange, struct error *error) {
  struct fake_primary *fake = (struct fake_primary *)transport;
  if (fake->failing && entropy_below(&fake->random.entropy, 100) < fake->failing)
    return error_set(error, ERROR_SYSTEM, "cannot make a socket: Too many open files");
  struct transport_exchange *exchange = calloc(1, sizeof *exchange);
  assert_int_equal(request->protocol, TRANSPORT_TCP);
  *exchange = (struct transport_exchange){.fake = fake,
                                          .address = request->address,
                                          .octets = malloc(request->size),
                                          .size = request->size,
                                          .deadline = request->deadline,
                                          .accept = accept,
                                          .done = done,
                                          .context = context};
  memcpy(exchange->octets, request->octets, request->size);
  bool update = ((request->octets[2] >> 3) & 0xf) == 5;
  fake->updates += update;
  fake->queries += !update;
  if (update && request->size > fake->largest) fake->largest = request->size;
  if (++fake->in_flight > fake->in_flight_max) fake->in_flight_max = fake->in_flight;
  LIST_INSERT_HEAD(&fake->exchanges, exchange, next);
  int64_t moment = loop_boottime(fake->loop) + 1 + entropy_below(&fake->random.entropy, fake->latency + 1);
  assert_int_equal(loop_at(fake->loop, moment, fake_serve, exchange, &exchange->timer), 0);
  *ret_exchange = exchange;
  return 0;
}

static inline void fake_cancel(struct transport *transport, struct transport_exchange *exchange) {
  struct fake_primary *fake = (struct fake_primary *)transport;
  LIST_REMOVE(exchange, next);
  fake->in_flight--;
  loop_cancel(fake->loop, &exchange->timer);
  free(exchange->octets);
  free(exchange);
}

static inline void fake_destroy(struct transport *transport) {
  (void)transport;
}

static inline void fake_open(struct fake_primary *fake, uint64_t seed) {
  static const struct transport_ops operations = {fake_exchange, fake_cancel, fake_destroy};
  const struct clock_reading start = {.wall = FAKE_START_WALL, .boottime = FAKE_START_BOOT};
  struct error error = {0};
  memset(fake, 0, sizeof *fake);
  fake->transport.ops = &operations;
  fake->latency = 5;
  LIST_INIT(&fake->exchanges);
  fake->records = calloc(FAKE_RECORDS_MAX, sizeof *fake->records);
  assert_non_null(fake->records);
  entropy_seed(&fake->random, seed);
  assert_int_equal(loop_virtual_new(&start, &fake->loop, &error), 0);
}

static inline void fake_close(struct fake_primary *fake) {
  assert_true(LIST_EMPTY(&fake->exchanges)); /* whoever started an exchange ended it */
  loop_destroy(fake->loop);
  free(fake->records);
}

#endif
