#include "dkimroll/transport_sockets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DATAGRAMS_A_TURN_MAX = 16 };

void exchange_list_append(struct exchange_list *list, struct transport_exchange *exchange) {
  exchange->list = list;
  exchange->next = NULL;
  exchange->previous = list->last;
  if (list->last)
    list->last->next = exchange;
  else
    list->first = exchange;
  list->last = exchange;
  list->count++;
}

void exchange_list_remove(struct transport_exchange *exchange) {
  struct exchange_list *list = exchange->list;
  if (!list) return;
  if (exchange->previous)
    exchange->previous->next = exchange->next;
  else
    list->first = exchange->next;
  if (exchange->next)
    exchange->next->previous = exchange->previous;
  else
    list->last = exchange->previous;
  list->count--;
  exchange->list = NULL;
  exchange->previous = exchange->next = NULL;
}

uint16_t exchange_id(const uint8_t *octets) { return (uint16_t)(octets[0] << 8 | octets[1]); }

int socket_error(struct error *error, int error_number, const struct address *address) {
  char text[ADDRESS_TEXT_SIZE];
  error_set_errno(error, error_number, "%s", address_format(address, text));
  /* No address of that family here is no route either (connect(2)). */
  if (error_number == EADDRNOTAVAIL) error->code = ERROR_NO_ROUTE;
  return error->code;
}

static void exchange_detach(struct transport_exchange *exchange) {
  struct sockets *owner = exchange->owner;
  loop_cancel(owner->loop, &exchange->timer);
  loop_cancel(owner->loop, &exchange->watch);
  if (exchange->descriptor >= 0) close(exchange->descriptor);
  exchange->descriptor = -1;
  if (exchange->connection) tcp_forget(exchange);
  exchange_list_remove(exchange);
}

static void exchange_free(struct transport_exchange *exchange) {
  free(exchange->octets);
  free(exchange);
}

void exchange_end(struct transport_exchange *exchange, const struct error *result) {
  struct sockets *owner = exchange->owner;
  transport_done *done = exchange->done;
  void *context = exchange->context;
  exchange_detach(exchange);
  if (exchange->in_accept)
    exchange->cancelled = true;
  else
    exchange_free(exchange);
  sockets_pump_later(owner);
  if (result) done(context, result);
}

bool exchange_offer(struct transport_exchange *exchange, const uint8_t *octets, size_t size) {
  static const struct error success;
  exchange->in_accept = true;
  const bool accepted = exchange->accept(exchange->context, octets, size);
  exchange->in_accept = false;
  if (exchange->cancelled) {
    exchange_free(exchange);
    return true;
  }
  if (accepted) exchange_end(exchange, &success);
  return accepted;
}

static void exchange_expired(void *context) {
  struct transport_exchange *exchange = context;
  struct error error;
  char text[ADDRESS_TEXT_SIZE];
  exchange->timer = NULL;
  error_set(&error, ERROR_TIMEOUT, "%s does not answer", address_format(&exchange->address, text));
  exchange_end(exchange, &error);
}

static void udp_ready(void *context, unsigned events) {
  struct transport_exchange *exchange = context;
  uint8_t *octets = exchange->owner->scratch;
  (void)events;
  /* exchange_offer may start others, but what it reads is parsed before it does: the scratch is ours until then. */
  for (unsigned i = 0; i < DATAGRAMS_A_TURN_MAX; i++) {
    const ssize_t received = recv(exchange->descriptor, octets, TRANSPORT_SCRATCH_SIZE, 0);
    if (received < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return;
      struct error error;
      socket_error(&error, errno, &exchange->address);
      exchange_end(exchange, &error);
      return;
    }
    if (received < 12 || exchange_id(octets) != exchange_id(exchange->octets)) continue;
    if (exchange_offer(exchange, octets, (size_t)received)) return;
  }
}

/* 0, or the error that ends the exchange. */
static int udp_open(struct transport_exchange *exchange, struct error *error) {
  struct sockets *owner = exchange->owner;
  exchange->descriptor = socket(exchange->address.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (exchange->descriptor < 0) return socket_error(error, errno, &exchange->address);
  if (connect(exchange->descriptor, (const struct sockaddr *)&exchange->address.storage, exchange->address.size) < 0)
    return socket_error(error, errno, &exchange->address);
  if (loop_watch(owner->loop, exchange->descriptor, LOOP_READABLE, udp_ready, exchange, &exchange->watch))
    return error_set(error, ERROR_SYSTEM, "the event loop takes no descriptor");
  /* A full send buffer loses the datagram like the network may: the caller repeats. */
  if (send(exchange->descriptor, exchange->octets, exchange->size, MSG_NOSIGNAL) < 0 && errno != EAGAIN && errno != EINTR)
    return socket_error(error, errno, &exchange->address);
  return 0;
}

static void udp_pump(struct sockets *sockets) {
  while (sockets->udp_waiting.first && sockets->udp_open.count < TRANSPORT_UDP_SOCKETS_MAX) {
    struct transport_exchange *exchange = sockets->udp_waiting.first;
    struct error error;
    exchange_list_remove(exchange);
    exchange_list_append(&sockets->udp_open, exchange);
    if (udp_open(exchange, &error)) exchange_end(exchange, &error);
  }
}

static void pump(void *context) {
  struct sockets *sockets = context;
  sockets->pump = NULL;
  udp_pump(sockets);
  tcp_pump(sockets);
}

void sockets_pump_later(struct sockets *sockets) {
  if (sockets->pump || (!sockets->udp_waiting.first && !sockets->tcp_waiting.first)) return;
  /* Without memory for this call the exchanges that wait end at their deadlines. */
  if (loop_defer(sockets->loop, pump, sockets, &sockets->pump)) sockets->pump = NULL;
}

static int sockets_exchange(struct transport *transport, const struct transport_request *request, transport_accept *accept,
                            transport_done *done, void *context, struct transport_exchange **ret_exchange, struct error *error) {
  struct sockets *sockets = (struct sockets *)transport;
  if (request->size < 12 || request->size > TRANSPORT_MESSAGE_MAX)
    return error_set(error, ERROR_INVALID, "a DNS message of %zu octets cannot be sent", request->size);
  struct transport_exchange *exchange = calloc(1, sizeof *exchange);
  if (exchange) exchange->octets = malloc(request->size);
  if (!exchange || !exchange->octets) {
    free(exchange);
    return error_set(error, ERROR_NO_MEMORY, "out of memory for a DNS message");
  }
  memcpy(exchange->octets, request->octets, request->size);
  exchange->owner = sockets;
  exchange->address = request->address;
  exchange->protocol = request->protocol;
  exchange->size = request->size;
  exchange->deadline = request->deadline;
  exchange->accept = accept;
  exchange->done = done;
  exchange->context = context;
  exchange->descriptor = -1;
  if (loop_at(sockets->loop, request->deadline, exchange_expired, exchange, &exchange->timer)) {
    exchange_free(exchange);
    return error_set(error, ERROR_SYSTEM, "the event loop takes no timer");
  }
  exchange_list_append(request->protocol == TRANSPORT_UDP ? &sockets->udp_waiting : &sockets->tcp_waiting, exchange);
  sockets_pump_later(sockets);
  if (ret_exchange) *ret_exchange = exchange;
  return 0;
}

static void sockets_cancel(struct transport *transport, struct transport_exchange *exchange) {
  (void)transport;
  exchange_end(exchange, NULL);
}

static void end_all(struct exchange_list *list) {
  struct error error;
  error_set(&error, ERROR_CANCELLED, "the transport is closed");
  while (list->first) exchange_end(list->first, &error);
}

static void sockets_destroy(struct transport *transport) {
  struct sockets *sockets = (struct sockets *)transport;
  end_all(&sockets->udp_waiting);
  end_all(&sockets->udp_open);
  end_all(&sockets->tcp_waiting);
  tcp_destroy_all(sockets);
  loop_cancel(sockets->loop, &sockets->pump);
  free(sockets);
}

static const struct transport_ops sockets_ops = {sockets_exchange, sockets_cancel, sockets_destroy};

int transport_sockets_new(struct loop *loop, struct transport **ret_transport, struct error *error) {
  struct sockets *sockets = calloc(1, sizeof *sockets);
  if (!sockets) return error_set(error, ERROR_NO_MEMORY, "out of memory for the transport");
  sockets->transport.ops = &sockets_ops;
  sockets->loop = loop;
  *ret_transport = &sockets->transport;
  return 0;
}
