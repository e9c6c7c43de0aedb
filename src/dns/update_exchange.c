/* One signed request and its verified reply. */
#include "dkimroll/update_exchange.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/clock.h"

enum { OPCODE_QUERY = 0, OPCODE_UPDATE = 5 };

struct update_exchange {
  struct update_link link;
  struct transport_exchange *exchange;
  struct loop_source *doubt; /* runs since the first reply that was not believed */
  struct message_query query;
  bool update;
  bool malformed; /* something came that cannot be read */
  bool starved;   /* something came that there was no memory to read */
  uint16_t id;
  struct tsig_mac mac;
  struct update_reply reply;
  update_exchange_done *done;
  void *context;
};

static void exchange_free(struct update_exchange *exchange) {
  loop_cancel(exchange->link.loop, &exchange->doubt);
  message_free(exchange->reply.message);
  free(exchange);
}

static void finish(struct update_exchange *exchange) {
  exchange->done(exchange->context, &exchange->reply);
  exchange_free(exchange);
}

/* Is it a reply to our request at all? Anything else on the connection is noise. */
static bool replies(const struct update_exchange *exchange, const struct message *message) {
  if (!message->response || message->id != exchange->id) return false;
  if (exchange->update) return message->opcode == OPCODE_UPDATE;
  /* A server that could not or would not read the query may leave the question out of its refusal. */
  if (message->rcode != DNS_NOERROR && message->rcode != DNS_NXDOMAIN && message->question_name[0] == '\0')
    return message->opcode == OPCODE_QUERY;
  return message_answers(message, &exchange->query);
}

static void doubt_over(void *context) {
  struct update_exchange *exchange = context;
  exchange->doubt = NULL;
  transport_cancel(exchange->link.transport, &exchange->exchange);
  error_set(&exchange->reply.error, ERROR_TIMEOUT, "no reply that can be believed");
  finish(exchange);
}

/* The first doubtful reply is kept: what follows from someone who answers in place of the server is worth less. */
static void doubt(struct update_exchange *exchange, unsigned rcode, const struct tsig_answer *tsig) {
  if (exchange->reply.doubted) return;
  exchange->reply.doubted = true;
  exchange->reply.answer = (struct update_answer){.update = exchange->update, .rcode = rcode, .tsig = *tsig};
  /* Without the timer the attempt's own deadline ends the wait. */
  (void)!loop_at(exchange->link.loop, loop_boottime(exchange->link.loop) + UPDATE_DOUBT_MS, doubt_over, exchange,
                 &exchange->doubt);
}

/* What a reply says of the server's clock, if its MAC is right: whether its time is within the fudge is another question. A reply with BADTIME has the
 * request's time as time signed, and the server's own in other data (RFC 8945 5.2.3). */
static void note_clock(struct update_exchange *exchange, const struct tsig_answer *tsig) {
  if (!exchange->link.key || !tsig->present || (tsig->verdict != TSIG_NOERROR && tsig->verdict != TSIG_BADTIME)) return;
  if (tsig->error == TSIG_BADTIME && !tsig->server_time) return;
  exchange->reply.clock_known = true;
  exchange->reply.clock_skew = (tsig->server_time ? tsig->server_time : tsig->time_signed) - loop_wall(exchange->link.loop);
}

static bool accept_reply(void *context, const uint8_t *octets, size_t size) {
  struct update_exchange *exchange = context;
  const struct update_link *link = &exchange->link;
  struct tsig_answer tsig = {0};
  struct message *message = NULL;
  int code = message_parse(octets, size, &message, NULL);
  if (code == 0 && link->key) code = tsig_verify(link->key, &exchange->mac, loop_wall(link->loop), octets, size, &tsig, NULL);
  if (code < 0) {
    exchange->malformed |= code != ERROR_NO_MEMORY;
    exchange->starved |= code == ERROR_NO_MEMORY;
    message_free(message);
    return false;
  }
  const bool ours = replies(exchange, message);
  if (ours) note_clock(exchange, &tsig);
  if (ours && (!link->key || tsig.verified)) {
    loop_cancel(link->loop, &exchange->doubt);
    exchange->reply.answer = (struct update_answer){.update = exchange->update, .rcode = message->rcode, .tsig = tsig};
    exchange->reply.attested = link->key && tsig.error == TSIG_NOERROR;
    exchange->reply.message = message;
    return true;
  }
  if (ours) doubt(exchange, message->rcode, &tsig);
  message_free(message);
  return false;
}

static void exchange_done(void *context, const struct error *result) {
  struct update_exchange *exchange = context;
  struct update_reply *reply = &exchange->reply;
  exchange->exchange = NULL;
  reply->error = *result;
  if (result->code == 0)
    reply->doubted = false;
  else if (exchange->starved && !reply->doubted)
    error_set(&reply->error, ERROR_NO_MEMORY, "out of memory for its reply");
  else if (exchange->malformed && !reply->doubted)
    error_set(&reply->error, ERROR_PROTOCOL, "its reply is malformed");
  finish(exchange);
}

static int sign_and_send(struct update_exchange *exchange, const struct update_request *request, struct error *error) {
  size_t size = request->size;
  exchange->id = entropy_u16(exchange->link.entropy);
  request->octets[0] = (uint8_t)(exchange->id >> 8);
  request->octets[1] = (uint8_t)exchange->id;
  exchange->query.id = exchange->id;
  if (exchange->link.key) {
    int code = tsig_sign(exchange->link.key, loop_wall(exchange->link.loop), request->octets, &size, request->capacity,
                         &exchange->mac, error);
    if (code < 0) return code;
  }
  const struct transport_request wire = {.address = *request->address,
                                         .protocol = TRANSPORT_TCP, /* RFC 2136 7.8 */
                                         .octets = request->octets,
                                         .size = size,
                                         .deadline = request->deadline};
  return transport_exchange(exchange->link.transport, &wire, accept_reply, exchange_done, exchange, &exchange->exchange,
                            error);
}

int update_exchange_start(const struct update_link *link, const struct update_request *request,
                          update_exchange_done *done, void *context, struct update_exchange **ret_exchange,
                          struct error *error) {
  struct update_exchange *exchange = calloc(1, sizeof *exchange);
  if (!exchange) return error_set(error, ERROR_NO_MEMORY, "sending a DNS message: out of memory");
  exchange->link = *link;
  exchange->update = !request->query;
  if (request->query) exchange->query = *request->query;
  exchange->done = done;
  exchange->context = context;
  int code = sign_and_send(exchange, request, error);
  if (code < 0) {
    exchange_free(exchange);
    return code;
  }
  *ret_exchange = exchange;
  return 0;
}

bool update_exchange_doubted(const struct update_exchange *exchange, struct update_answer *ret_answer) {
  if (exchange->reply.doubted) *ret_answer = exchange->reply.answer;
  return exchange->reply.doubted;
}

void update_exchange_cancel(struct update_exchange **exchange) {
  if (!*exchange) return;
  transport_cancel((*exchange)->link.transport, &(*exchange)->exchange);
  exchange_free(*exchange);
  *exchange = NULL;
}
