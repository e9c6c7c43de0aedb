#include "dns_net.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/loop.h"

enum {
  LATENCY_MS = 5,
  PEERS_MAX = 64,
  MESSAGE_MAX = 65535,
  OUT_MAX = 1024 * 1024,
  RAW_STREAM = 0x80, /* in RCODE of a raw reply: over TCP it is no message but octets with lengths of their own */
};

/* A connection to the server. */
struct peer {
  struct dns_net *net;
  int descriptor;
  struct loop_source *watch;
  struct loop_source *timer; /* until the next piece goes out */
  struct buffer in, out;
  size_t piece; /* octets that go out at once */
  bool closes;  /* once all is sent */
};

struct transport_exchange {
  struct dns_net *net;
  uint8_t *octets;
  size_t size;
  bool tcp;
  int64_t deadline;
  transport_accept *accept;
  transport_done *done;
  void *context;
  struct loop_source *timer;
  struct transport_exchange *inner; /* over sockets: theirs */
  LIST_ENTRY(transport_exchange) next;
};

struct dns_net {
  struct transport transport; /* first: ops get it */
  struct transport *sockets;  /* NULL: within the process */
  struct loop *loop;
  struct dns_script *script;
  LIST_HEAD(, transport_exchange) exchanges;
  struct peer peers[PEERS_MAX];
  size_t peer_count;
  struct loop_source *listening, *hearing;
  uint8_t datagram[MESSAGE_MAX];
};

/* The server's sockets stay open from one case to the next: thousands of ports a second would be used up soon. */
static struct {
  int listener, datagrams;
  struct address address;
} host = {.listener = -1, .datagrams = -1};

/* ---- within the process ---- */

static void exchange_end(struct transport_exchange *exchange, const struct error *result) {
  transport_done *done = exchange->done;
  void *context = exchange->context;
  LIST_REMOVE(exchange, next);
  free(exchange->octets);
  free(exchange);
  done(context, result);
}

static void exchange_timeout(void *context) {
  struct transport_exchange *exchange = context;
  struct error error = {0};
  exchange->timer = NULL;
  error_set(&error, ERROR_TIMEOUT, "no answer");
  exchange_end(exchange, &error);
}

static void exchange_serve(void *context) {
  struct transport_exchange *exchange = context;
  struct error error = {0};
  CLEANUP(buffer_release) struct buffer octets = BUFFER_WITH_MAXIMUM(MESSAGE_MAX);
  const struct dns_script_reply *reply =
      dns_script_answer(exchange->net->script, exchange->octets, exchange->size, &octets);
  const bool closes = reply && reply->flags & DNS_SCRIPT_CLOSES;
  exchange->timer = NULL;
  /* A copy of exactly that size, so that reading behind it is seen. */
  CLEANUP_FREE uint8_t *copy = octets.size > 0 ? malloc(octets.size) : NULL;
  if (copy) memcpy(copy, octets.data, octets.size);
  const bool same = octets.size >= 12 && memcmp(octets.data, exchange->octets, 2) == 0;
  if (same && exchange->accept(exchange->context, copy, octets.size)) {
    exchange_end(exchange, &error);
  } else if (closes) {
    error_set(&error, ERROR_UNREACHABLE, "closed by the other side");
    exchange_end(exchange, &error);
  } else {
    FUZZ_HOLDS(loop_at(exchange->net->loop, exchange->deadline, exchange_timeout, exchange, &exchange->timer) == 0,
               "no timer");
  }
}

static int fake_exchange(struct dns_net *net, const struct transport_request *request,
                         struct transport_exchange *exchange) {
  exchange->octets = malloc(request->size);
  exchange->size = request->size;
  exchange->tcp = request->protocol == TRANSPORT_TCP;
  exchange->deadline = request->deadline;
  if (!exchange->octets) abort();
  memcpy(exchange->octets, request->octets, request->size);
  const int64_t moment = loop_boottime(net->loop) + LATENCY_MS;
  return loop_at(net->loop, moment < request->deadline ? moment : request->deadline, exchange_serve, exchange,
                 &exchange->timer);
}

/* ---- over sockets ---- */

static bool sockets_accept(void *context, const uint8_t *octets, size_t size) {
  struct transport_exchange *exchange = context;
  FUZZ_HOLDS(size >= 12, "a message of %zu octets was offered", size);
  return exchange->accept(exchange->context, octets, size);
}

static void sockets_done(void *context, const struct error *result) {
  if (result->code < 0) fuzz_expect_error(result->code, result);
  exchange_end(context, result);
}

static int net_exchange(struct transport *transport, const struct transport_request *request, transport_accept *accept,
                        transport_done *done, void *context, struct transport_exchange **ret_exchange,
                        struct error *error) {
  struct dns_net *net = (struct dns_net *)transport;
  struct transport_exchange *exchange = calloc(1, sizeof *exchange);
  if (!exchange) abort();
  *exchange = (struct transport_exchange){.net = net, .accept = accept, .done = done, .context = context};
  struct transport_request mine = *request;
  mine.address = host.address;
  const int result = net->sockets ? transport_exchange(net->sockets, &mine, sockets_accept, sockets_done, exchange,
                                                       &exchange->inner, error)
                                  : fake_exchange(net, request, exchange);
  FUZZ_HOLDS(result == 0, "an exchange cannot start");
  LIST_INSERT_HEAD(&net->exchanges, exchange, next);
  *ret_exchange = exchange;
  return 0;
}

static void net_cancel(struct transport *transport, struct transport_exchange *exchange) {
  struct dns_net *net = (struct dns_net *)transport;
  if (net->sockets) transport_cancel(net->sockets, &exchange->inner);
  loop_cancel(net->loop, &exchange->timer);
  LIST_REMOVE(exchange, next);
  free(exchange->octets);
  free(exchange);
}

static void net_destroy(struct transport *transport) {
  (void)transport;
}

/* ---- the server ---- */

static void peer_close(struct peer *peer) {
  /* A reset leaves no port behind that waits for a minute. */
  const struct linger linger = {.l_onoff = 1};
  if (peer->descriptor < 0) return;
  loop_cancel(peer->net->loop, &peer->watch);
  loop_cancel(peer->net->loop, &peer->timer);
  (void)!setsockopt(peer->descriptor, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  close(peer->descriptor);
  peer->descriptor = -1;
}

static void peer_send(void *context) {
  struct peer *peer = context;
  const size_t size = peer->piece < peer->out.size ? peer->piece : peer->out.size;
  peer->timer = NULL;
  if (size > 0) {
    const ssize_t sent = send(peer->descriptor, peer->out.data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) buffer_consume(&peer->out, (size_t)sent);
    if (sent < 0 && errno != EAGAIN) buffer_reset(&peer->out);
  }
  if (peer->out.size > 0)
    FUZZ_HOLDS(loop_at(peer->net->loop, loop_boottime(peer->net->loop) + 1, peer_send, peer, &peer->timer) == 0,
               "no timer");
  else if (peer->closes)
    peer_close(peer);
}

/* RCODE's upper half gives the pieces in which it goes out. */
static void peer_answer(struct peer *peer, const uint8_t *request, size_t size) {
  CLEANUP(buffer_release) struct buffer octets = BUFFER_WITH_MAXIMUM(MESSAGE_MAX);
  const struct dns_script_reply *reply = dns_script_answer(peer->net->script, request, size, &octets);
  if (!reply) return;
  peer->closes |= reply->flags & DNS_SCRIPT_CLOSES;
  if (octets.size > 0 && reply->flags & DNS_SCRIPT_RAW && reply->rcode & RAW_STREAM) {
    buffer_add(&peer->out, octets.data + 2, octets.size - 2);
  } else if (octets.size > 0) {
    buffer_add_u16(&peer->out, (uint16_t)octets.size);
    buffer_add(&peer->out, octets.data, octets.size);
  }
  const size_t pieces = (reply->rcode >> 4) % 8 + 1u;
  peer->piece = peer->out.size / pieces + 1;
  if (!peer->timer) peer_send(peer);
}

static void peer_ready(void *context, unsigned events) {
  struct peer *peer = context;
  uint8_t octets[16384];
  (void)events;
  const ssize_t got = recv(peer->descriptor, octets, sizeof octets, MSG_DONTWAIT);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) {
    peer_close(peer);
    return;
  }
  buffer_add(&peer->in, octets, (size_t)got);
  while (peer->descriptor >= 0 && !peer->in.failed && peer->in.size >= 2) {
    const size_t size = (size_t)(peer->in.data[0] << 8 | peer->in.data[1]);
    if (peer->in.size < 2 + size) return;
    peer_answer(peer, peer->in.data + 2, size);
    buffer_consume(&peer->in, 2 + size);
  }
}

static void accept_peer(void *context, unsigned events) {
  struct dns_net *net = context;
  (void)events;
  const int descriptor = accept4(host.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (descriptor < 0) return;
  if (net->peer_count == PEERS_MAX) {
    close(descriptor);
    return;
  }
  struct peer *peer = &net->peers[net->peer_count++];
  *peer = (struct peer){.net = net,
                        .descriptor = descriptor,
                        .in = BUFFER_WITH_MAXIMUM(4 * MESSAGE_MAX),
                        .out = BUFFER_WITH_MAXIMUM(OUT_MAX)};
  FUZZ_HOLDS(loop_watch(net->loop, descriptor, LOOP_READABLE, peer_ready, peer, &peer->watch) == 0, "no watch");
}

static void hear_datagram(void *context, unsigned events) {
  struct dns_net *net = context;
  struct sockaddr_storage source;
  socklen_t source_size = sizeof source;
  (void)events;
  const ssize_t got = recvfrom(host.datagrams, net->datagram, sizeof net->datagram, MSG_DONTWAIT,
                               (struct sockaddr *)&source, &source_size);
  if (got <= 0) return;
  CLEANUP(buffer_release) struct buffer octets = BUFFER_WITH_MAXIMUM(MESSAGE_MAX);
  if (dns_script_answer(net->script, net->datagram, (size_t)got, &octets) && octets.size > 0)
    (void)!sendto(host.datagrams, octets.data, octets.size, MSG_DONTWAIT, (struct sockaddr *)&source, source_size);
}

/* ---- open and close ---- */

static void open_host(void) {
  struct sockaddr_in *in = (struct sockaddr_in *)&host.address.storage;
  host.address.size = sizeof *in;
  do {
    if (host.listener >= 0) close(host.listener);
    if (host.datagrams >= 0) close(host.datagrams);
    *in = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    host.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    host.datagrams = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    FUZZ_HOLDS(host.listener >= 0 && host.datagrams >= 0, "no socket");
    FUZZ_HOLDS(bind(host.listener, (struct sockaddr *)in, sizeof *in) == 0 && listen(host.listener, 128) == 0,
               "no port");
    FUZZ_HOLDS(getsockname(host.listener, (struct sockaddr *)in, &host.address.size) == 0, "no address");
  } while (bind(host.datagrams, (struct sockaddr *)in, sizeof *in) < 0);
}

/* What the case before left on the way. */
static void drain_host(struct dns_net *net) {
  while (recv(host.datagrams, net->datagram, sizeof net->datagram, MSG_DONTWAIT) >= 0) continue;
  for (int descriptor; (descriptor = accept4(host.listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;) close(descriptor);
}

void dns_net_open(struct dns_script *script, bool sockets, struct dns_net **ret_net) {
  static const struct transport_ops ops = {net_exchange, net_cancel, net_destroy};
  const struct clock_reading start = {.wall = DNS_NET_WALL, .boottime = DNS_NET_BOOT, .synchronised = true};
  struct dns_net *net = calloc(1, sizeof *net);
  if (!net) abort();
  net->transport.ops = &ops;
  net->script = script;
  LIST_INIT(&net->exchanges);
  script->now = DNS_NET_WALL;
  FUZZ_HOLDS(loop_virtual_new(&start, &net->loop, NULL) == 0, "no loop");
  if (sockets) {
    if (host.listener < 0) open_host();
    drain_host(net);
    loop_virtual_set_patience(net->loop, 0); /* loopback delivers at once */
    FUZZ_HOLDS(transport_sockets_new(net->loop, &net->sockets, NULL) == 0, "no transport");
    FUZZ_HOLDS(loop_watch(net->loop, host.listener, LOOP_READABLE, accept_peer, net, &net->listening) == 0, "no watch");
    FUZZ_HOLDS(loop_watch(net->loop, host.datagrams, LOOP_READABLE, hear_datagram, net, &net->hearing) == 0,
               "no watch");
  }
  *ret_net = net;
}

struct loop *dns_net_loop(struct dns_net *net) {
  return net->loop;
}

struct transport *dns_net_transport(struct dns_net *net) {
  return &net->transport;
}

void dns_net_close(struct dns_net *net) {
  FUZZ_HOLDS(LIST_EMPTY(&net->exchanges), "an exchange is still open");
  for (size_t i = 0; i < net->peer_count; i++) {
    peer_close(&net->peers[i]);
    buffer_release(&net->peers[i].in);
    buffer_release(&net->peers[i].out);
  }
  if (net->sockets) transport_destroy(net->sockets);
  loop_cancel(net->loop, &net->listening);
  loop_cancel(net->loop, &net->hearing);
  loop_destroy(net->loop);
  free(net);
}
