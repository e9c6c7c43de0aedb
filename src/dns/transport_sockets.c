/* Exchanges over sockets: their life, and what UDP and TCP have in common. */
#include "dkimroll/transport_sockets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void exchange_list_add(struct exchange_list *list, struct transport_exchange *exchange) {
  exchange->list = list;
  exchange->previous = list->last;
  exchange->next = NULL;
  *(list->last ? &list->last->next : &list->first) = exchange;
  list->last = exchange;
  list->count++;
}

void exchange_list_remove(struct transport_exchange *exchange) {
  struct exchange_list *list = exchange->list;
  if (!list) return;
  *(exchange->previous ? &exchange->previous->next : &list->first) = exchange->next;
  *(exchange->next ? &exchange->next->previous : &list->last) = exchange->previous;
  list->count--;
  exchange->list = NULL;
}

void exchange_list_move(struct exchange_list *list, struct transport_exchange *exchange) {
  exchange_list_remove(exchange);
  exchange_list_add(list, exchange);
}

uint16_t message_id(const uint8_t *octets) {
  return (uint16_t)(octets[0] << 8 | octets[1]);
}

static const char *protocol_name(enum transport_protocol protocol) {
  return protocol == TRANSPORT_UDP ? "UDP" : "TCP";
}

int sockets_error_remote(struct error *error, const struct address *address, enum transport_protocol protocol,
                         int number) {
  char text[ADDRESS_TEXT_SIZE];
  error_set_errno(error, number, "%s over %s", address_format(address, text), protocol_name(protocol));
  switch (number) {
  case ECONNREFUSED:
  case ECONNRESET:
  case ECONNABORTED:
  case EPIPE:
  case EHOSTUNREACH:
  case EHOSTDOWN:
  case ENETUNREACH:
  case ENETDOWN:
  case ENETRESET:
  case ETIMEDOUT: /* the kernel gave up before our deadline */
  case ENOPROTOOPT:
  case EPROTO:
  case EOPNOTSUPP:
  case EACCES:
  case EPERM: /* a packet filter of this host */
    error->code = ERROR_UNREACHABLE;
    error->retryable = true;
    break;
  default: break;
  }
  return error->code;
}

int sockets_error_local(struct error *error, const struct address *address, enum transport_protocol protocol,
                        int number) {
  if (number != ENETUNREACH && number != EAFNOSUPPORT && number != EADDRNOTAVAIL)
    return sockets_error_remote(error, address, protocol, number);
  char text[ADDRESS_TEXT_SIZE];
  const char *family = address->storage.ss_family == AF_INET6 ? "IPv6" : "IPv4";
  error_set(error, ERROR_NO_ROUTE, "this host has no route to %s", address_format(address, text));
  error->retryable = true; /* the network may not be up yet */
  error_remedy(error, "give this host an %s address and route, or let it use the server's other address family",
               family);
  return ERROR_NO_ROUTE;
}

void sockets_enter(struct sockets *sockets) {
  sockets->busy++;
}

/* Everything of one exchange but the callbacks. */
static void exchange_free(struct transport_exchange *exchange) {
  struct sockets *sockets = exchange->sockets;
  if (sockets->offered == exchange) sockets->offered = NULL;
  if (exchange->connection) tcp_forget(exchange);
  exchange_list_remove(exchange);
  loop_cancel(sockets->loop, &exchange->timer);
  loop_cancel(sockets->loop, &exchange->watch);
  if (exchange->descriptor >= 0) close(exchange->descriptor);
  free(exchange->octets);
  free(exchange);
}

static void list_release(struct exchange_list *list) {
  while (list->first) exchange_free(list->first);
}

static void sockets_release(struct sockets *sockets) {
  tcp_release(sockets);
  list_release(&sockets->failing);
  list_release(&sockets->tcp_waiting);
  list_release(&sockets->udp_active);
  list_release(&sockets->udp_waiting);
  loop_cancel(sockets->loop, &sockets->pump);
  free(sockets);
}

void sockets_leave(struct sockets *sockets) {
  if (--sockets->busy == 0 && sockets->dead) sockets_release(sockets);
}

static void sockets_pump(void *context) {
  struct sockets *sockets = context;
  sockets->pump = NULL;
  sockets_enter(sockets);
  tcp_admit(sockets);
  udp_admit(sockets);
  sockets_leave(sockets);
}

int sockets_pump_later(struct sockets *sockets) {
  bool udp = sockets->udp_waiting.first && sockets->udp_active.count < TRANSPORT_UDP_SOCKETS_MAX;
  if (sockets->dead || sockets->pump || (!udp && !sockets->tcp_waiting.first)) return 0;
  return loop_defer(sockets->loop, sockets_pump, sockets, &sockets->pump);
}

void exchange_end(struct transport_exchange *exchange, const struct error *result) {
  struct sockets *sockets = exchange->sockets;
  transport_done *done = exchange->done;
  void *context = exchange->context;
  exchange_free(exchange);
  (void)!sockets_pump_later(
      sockets); /* without memory, what waits is served by the next event or ends at its deadline */
  done(context, result);
}

bool exchange_offer(struct transport_exchange *exchange, const uint8_t *octets, size_t size) {
  struct sockets *sockets = exchange->sockets;
  sockets->offered = exchange;
  bool accepted = exchange->accept(exchange->context, octets, size);
  bool cancelled = !sockets->offered;
  sockets->offered = NULL;
  if (cancelled || sockets->dead) return true;
  if (!accepted) {
    exchange->ignored++;
    return false;
  }
  const struct error success = {.code = 0};
  exchange_end(exchange, &success);
  return true;
}

/* Says what was waited for: a dead server, and a busy host of our own, are repaired in different places. */
static const char *judge_timeout(struct transport_exchange *exchange) {
  if (exchange->ignored) return "answered, but with nothing that can be accepted as the answer";
  if (exchange->connection) return tcp_judge_timeout(exchange);
  if (exchange->list == &exchange->sockets->udp_active) return "did not answer in time";
  return "was not asked in time: all sockets are in use";
}

static void exchange_expired(void *context) {
  struct transport_exchange *exchange = context;
  struct sockets *sockets = exchange->sockets;
  struct error error;
  char text[ADDRESS_TEXT_SIZE];
  exchange->timer = NULL;
  sockets_enter(sockets);
  error_set(&error, ERROR_TIMEOUT, "%s over %s %s", address_format(&exchange->address, text),
            protocol_name(exchange->protocol), judge_timeout(exchange));
  exchange_end(exchange, &error);
  sockets_leave(sockets);
}

static int check_request(const struct transport_request *request, struct error *error) {
  int family = request->address.storage.ss_family;
  if (request->size < TRANSPORT_HEADER || request->size > TRANSPORT_MESSAGE_MAX)
    return error_set(error, ERROR_INVALID, "a DNS message has %d to %d octets, not %zu", TRANSPORT_HEADER,
                     TRANSPORT_MESSAGE_MAX, request->size);
  if (family != AF_INET && family != AF_INET6)
    return error_set(error, ERROR_INVALID, "a DNS message needs an IPv4 or IPv6 address to go to");
  if (request->protocol != TRANSPORT_UDP && request->protocol != TRANSPORT_TCP)
    return error_set(error, ERROR_INVALID, "a DNS message goes over UDP or TCP");
  return 0;
}

static struct transport_exchange *exchange_new(struct sockets *sockets, const struct transport_request *request) {
  struct transport_exchange *exchange = calloc(1, sizeof *exchange);
  uint8_t *octets = malloc(2 + request->size);
  if (!exchange || !octets) {
    free(exchange);
    free(octets);
    return NULL;
  }
  octets[0] = (uint8_t)(request->size >> 8);
  octets[1] = (uint8_t)request->size;
  memcpy(octets + 2, request->octets, request->size);
  *exchange = (struct transport_exchange){.sockets = sockets,
                                          .address = request->address,
                                          .protocol = request->protocol,
                                          .id = message_id(request->octets),
                                          .octets = octets,
                                          .size = request->size,
                                          .descriptor = -1};
  return exchange;
}

static int sockets_exchange(struct transport *transport, const struct transport_request *request,
                            transport_accept *accept, transport_done *done, void *context,
                            struct transport_exchange **ret_exchange, struct error *error) {
  struct sockets *sockets = (struct sockets *)transport;
  int code = check_request(request, error);
  if (code < 0) return code;
  struct transport_exchange *exchange = exchange_new(sockets, request);
  if (!exchange) return error_set(error, ERROR_NO_MEMORY, "sending a DNS message: out of memory");
  exchange->accept = accept;
  exchange->done = done;
  exchange->context = context;
  exchange_list_add(request->protocol == TRANSPORT_UDP ? &sockets->udp_waiting : &sockets->tcp_waiting, exchange);
  code = loop_at(sockets->loop, request->deadline, exchange_expired, exchange, &exchange->timer);
  if (code == 0) code = sockets_pump_later(sockets);
  if (code < 0) {
    exchange_free(exchange);
    return error_set(error, code, "sending a DNS message: the event loop takes no more work");
  }
  *ret_exchange = exchange;
  return 0;
}

static void sockets_cancel(struct transport *transport, struct transport_exchange *exchange) {
  exchange_free(exchange);
  (void)!sockets_pump_later((struct sockets *)transport);
}

static void sockets_destroy(struct transport *transport) {
  struct sockets *sockets = (struct sockets *)transport;
  sockets->dead = true;
  if (!sockets->busy) sockets_release(sockets);
}

int transport_sockets_new(struct loop *loop, struct transport **ret_transport, struct error *error) {
  static const struct transport_ops ops = {
      .exchange = sockets_exchange, .cancel = sockets_cancel, .destroy = sockets_destroy};
  struct sockets *sockets = calloc(1, sizeof *sockets);
  if (!sockets) return error_set(error, ERROR_NO_MEMORY, "DNS transport: out of memory");
  sockets->transport.ops = &ops;
  sockets->loop = loop;
  *ret_transport = &sockets->transport;
  return 0;
}
