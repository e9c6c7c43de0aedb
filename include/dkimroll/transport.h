/* Transport: octets to an address and back. Non-blocking sockets over the loop in production, a simulated network in tests. It knows of DNS
 * only the id in the first two octets, the length prefix of TCP, and nothing of what the octets mean. */
#ifndef DKIMROLL_TRANSPORT_H
#define DKIMROLL_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "dkimroll/entropy.h"
#include "dkimroll/error.h"
#include "dkimroll/loop.h"

enum {
  TRANSPORT_MESSAGE_MAX = 65535,
  TRANSPORT_UDP_SOCKETS_MAX = 256, /* in use at once; further exchanges wait their turn */
  TRANSPORT_TCP_CONNECTIONS_MAX = 128,
  TRANSPORT_TCP_PIPELINE_MAX = 64, /* messages in flight on one connection: Knot gains no more beyond it */
  TRANSPORT_TCP_IDLE_MS = 2000,    /* a connection without work is closed after that */
  ADDRESS_TEXT_SIZE = 64,          /* "[ffff:...]:65535" */
};

/* An IPv4 or IPv6 address with its port. */
struct address {
  struct sockaddr_storage storage;
  socklen_t size;
};

/* Reads "192.0.2.53", "192.0.2.53:5300", "2001:db8::53", "[2001:db8::53]:5300"; default_port where none is given. Never a name: ERROR_INVALID. */
int address_parse(const char *text, uint16_t default_port, struct address *ret_address, struct error *error)
    ERROR_USE_RESULT;
/* "192.0.2.53:53", "[2001:db8::53]:53". Returns buffer. */
const char *address_format(const struct address *address, char buffer[ADDRESS_TEXT_SIZE]);
/* From 4 or 16 octets in network order. */
void address_from_octets(const uint8_t *octets, size_t size, uint16_t port, struct address *ret_address);
bool address_equal(const struct address *a, const struct address *b);

enum transport_protocol { TRANSPORT_UDP = 1, TRANSPORT_TCP = 2 };

/* Offered every message from that address with the id of the request. true: this is the answer, the exchange ends and done follows.
 * false: ignored, the wait goes on (RFC 8945 5.4: a failing reply is ignored). Octets are borrowed during the call. */
typedef bool transport_accept(void *context, const uint8_t *octets, size_t size);
/* Ends the exchange: result->code 0 after an accepted answer; ERROR_TIMEOUT at the deadline; ERROR_UNREACHABLE: refused, reset, closed before
 * the answer; ERROR_NO_ROUTE: this host has no route to that address family; ERROR_NO_MEMORY, ERROR_SYSTEM: want of something on this host (too many open
 * files), which says nothing of the server. */
typedef void transport_done(void *context, const struct error *result);

struct transport_request {
  struct address address;
  enum transport_protocol protocol;
  const uint8_t *octets; /* copied; at least 12 octets */
  size_t size;
  int64_t deadline; /* boottime, milliseconds, for everything including the wait for a free socket */
};

struct transport;
struct transport_exchange; /* valid until done is called or it was cancelled */

struct transport_ops {
  /* Starts one exchange; neither callback comes from inside. UDP: one datagram from a fresh connected socket (a random port each time); the caller
   * repeats. TCP: one connection for an address, kept for its idle time, many messages in flight up to TRANSPORT_TCP_PIPELINE_MAX, replies
   * matched by id in any order (an id that is in flight on the connection waits); length and message go out in one write. When a
   * connection breaks, every exchange on it ends with ERROR_UNREACHABLE: whether the server took the message is unknown. A connection that was
   * silent from an exchange's sending to its deadline gets no new ones. ERROR_INVALID, ERROR_NO_MEMORY, ERROR_SYSTEM: nothing was started. */
  int (*exchange)(struct transport *transport, const struct transport_request *request, transport_accept *accept,
                  transport_done *done, void *context, struct transport_exchange **ret_exchange, struct error *error);
  /* done will not be called. */
  void (*cancel)(struct transport *transport, struct transport_exchange *exchange);
  /* Ends what is open as cancel does. The loop must still be there. accept and done may call all three, for any exchange, their own too. */
  void (*destroy)(struct transport *transport);
};

struct transport {
  const struct transport_ops *ops;
};

int transport_exchange(struct transport *transport, const struct transport_request *request, transport_accept *accept,
                       transport_done *done, void *context, struct transport_exchange **ret_exchange,
                       struct error *error) ERROR_USE_RESULT;
void transport_cancel(struct transport *transport, struct transport_exchange **exchange);
void transport_destroy(struct transport *transport);

/* Sockets over loop. */
int transport_sockets_new(struct loop *loop, struct transport **ret_transport, struct error *error) ERROR_USE_RESULT;

#endif
