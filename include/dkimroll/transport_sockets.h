/* What the two halves of the socket transport share: exchanges and how they end. Internal to src/dns. */
#ifndef DKIMROLL_TRANSPORT_SOCKETS_H
#define DKIMROLL_TRANSPORT_SOCKETS_H

#include "dkimroll/transport.h"

struct tcp_connection;

/* Replies on one TCP connection that belong to no exchange, before it is closed: late answers of cancelled exchanges are few. */
enum {
  TRANSPORT_TCP_STRAY_MAX = 1000,
  TRANSPORT_SCRATCH_SIZE = 65536, /* one datagram, or one read of a stream */
};

struct transport_exchange {
  struct sockets *owner;
  struct address address;
  enum transport_protocol protocol;
  uint8_t *octets; /* owned */
  size_t size;
  int64_t deadline;
  transport_accept *accept;
  transport_done *done;
  void *context;
  struct loop_source *timer;
  int descriptor;               /* UDP, while it has its socket; else -1 */
  struct loop_source *watch;    /* UDP */
  struct tcp_connection *connection; /* TCP, while it is on one */
  bool sent;                    /* TCP: handed to the connection's output */
  bool cancelled;               /* inside accept(): freed by whoever called it */
  bool in_accept;
  struct transport_exchange *previous, *next; /* among those of its list */
  struct exchange_list *list;
};

struct exchange_list {
  struct transport_exchange *first, *last;
  size_t count;
};

struct sockets {
  struct transport transport;
  struct loop *loop;
  struct exchange_list udp_waiting, udp_open, tcp_waiting;
  struct tcp_connection *connections;
  size_t connection_count;
  uint8_t scratch[TRANSPORT_SCRATCH_SIZE]; /* where octets arrive; of no use after the call */
  struct loop_source *pump; /* a deferred look at what waits */
};

void exchange_list_append(struct exchange_list *list, struct transport_exchange *exchange);
void exchange_list_remove(struct transport_exchange *exchange);
/* Takes the exchange off everything, frees it and calls done with result (NULL: nobody is told). */
void exchange_end(struct transport_exchange *exchange, const struct error *result);
/* Offers octets; ends the exchange if they are accepted. The exchange may be gone afterwards. true: it was accepted or is gone. */
bool exchange_offer(struct transport_exchange *exchange, const uint8_t *octets, size_t size);
uint16_t exchange_id(const uint8_t *octets);
/* Something became free: looks from the loop at what waits. */
void sockets_pump_later(struct sockets *sockets);

/* transport_tcp.c */
void tcp_pump(struct sockets *sockets);
void tcp_forget(struct transport_exchange *exchange);
void tcp_destroy_all(struct sockets *sockets);
/* Maps the errno of a socket call to an error about address. */
int socket_error(struct error *error, int error_number, const struct address *address);

#endif
