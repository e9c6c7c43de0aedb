/* The socket transport's inside: what src/dns/transport_sockets.c, transport_udp.c and transport_tcp.c share. Users include transport.h.
 *
 * Everything happens in callbacks of the loop. exchange() and cancel() only queue, unlink and defer, so that accept and done may call them
 * without anything vanishing under the code that called back; connections are made and freed between callbacks of the user only. */
#ifndef DKIMROLL_TRANSPORT_SOCKETS_H
#define DKIMROLL_TRANSPORT_SOCKETS_H

#include "dkimroll/transport.h"

enum {
  TRANSPORT_HEADER = 12, /* octets of a DNS header; what is shorter is no message */
  TRANSPORT_READS_MAX =
      16, /* from one descriptor in one callback, so that one talkative server does not starve the others */
  /* Messages on one connection that answer nothing or are not accepted, besides one for every exchange that it carried: late, second and
   * badly signed answers are to be ignored (RFC 8945 5.4), but not for ever. */
  TRANSPORT_TCP_STRAYS_MAX = 4 * TRANSPORT_TCP_PIPELINE_MAX,
};

struct tcp_connection;

/* Every exchange is in exactly one list. */
struct exchange_list {
  struct transport_exchange *first, *last;
  size_t count;
};

struct transport_exchange {
  struct sockets *sockets;
  struct exchange_list *list;
  struct transport_exchange *previous, *next;
  struct address address;
  enum transport_protocol protocol;
  uint16_t id;
  uint8_t *octets; /* length prefix of TCP and message; NULL once a connection took them over */
  size_t size;     /* of the message alone */
  transport_accept *accept;
  transport_done *done;
  void *context;
  struct loop_source *timer;         /* the deadline */
  unsigned ignored;                  /* replies that accept did not take */
  int descriptor;                    /* UDP, else -1 */
  struct loop_source *watch;         /* UDP */
  struct tcp_connection *connection; /* TCP, once it has one */
  uint64_t received_before;          /* TCP: octets that the connection had received when this was sent */
};

struct sockets {
  struct transport transport;
  struct loop *loop;
  struct exchange_list udp_waiting; /* for a socket */
  struct exchange_list udp_active;
  struct exchange_list tcp_waiting; /* for a connection */
  struct exchange_list failing;     /* lost their connection and are being told */
  struct tcp_connection *connections;
  size_t connection_count;
  struct loop_source *pump;           /* the deferred call that serves what waits */
  struct transport_exchange *offered; /* its accept is running; NULL once it was cancelled from there */
  unsigned busy;                      /* callbacks of the loop that are running: 0 or 1 */
  bool dead;                          /* destroyed from inside a callback, which frees it at its end */
  uint8_t datagram[TRANSPORT_MESSAGE_MAX];
};

void exchange_list_add(struct exchange_list *list, struct transport_exchange *exchange);
void exchange_list_remove(struct transport_exchange *exchange);
void exchange_list_move(struct exchange_list *list, struct transport_exchange *exchange);

/* Frees the exchange, then calls done. */
void exchange_end(struct transport_exchange *exchange, const struct error *result);
/* Offers a message. true: the exchange is gone (or the transport dead), nothing of it may be touched. */
bool exchange_offer(struct transport_exchange *exchange, const uint8_t *octets, size_t size);
/* The id of a message of at least TRANSPORT_HEADER octets. */
uint16_t message_id(const uint8_t *octets);

/* Around every callback of the loop: between them the sockets stay allocated whatever the user does. */
void sockets_enter(struct sockets *sockets);
void sockets_leave(struct sockets *sockets);
/* Serves what waits, after the present callback. */
int sockets_pump_later(struct sockets *sockets);

/* Errors of socket(2), connect(2) and send(2) at once are about this host: no route. The same numbers later were sent by a router or the
 * peer, and mean unreachable. Both fill error and return its code; what to do about
 * an unreachable server is said by those who know what it was asked for. */
int sockets_error_local(struct error *error, const struct address *address, enum transport_protocol protocol,
                        int number);
int sockets_error_remote(struct error *error, const struct address *address, enum transport_protocol protocol,
                         int number);

/* Gives sockets to what waits for one. */
void udp_admit(struct sockets *sockets);
/* Gives connections to what waits for one. */
void tcp_admit(struct sockets *sockets);
/* The exchange leaves its connection. */
void tcp_forget(struct transport_exchange *exchange);
/* The deadline of an exchange passed: says at which stage, and retires a connection that has been silent since it was sent. */
const char *tcp_judge_timeout(struct transport_exchange *exchange);
/* All of them, for the end. */
void tcp_release(struct sockets *sockets);

#endif
