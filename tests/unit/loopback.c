#include "loopback.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BACKLOG = 256, RECEIVE_BUFFER = 4 * 1024 * 1024, PORT_ATTEMPTS_MAX = 64, OUT_MAX = 16 * 1024 * 1024 };

static void peer_ready(void *context, unsigned events);

static void peer_watch(struct loopback_peer *peer) {
  struct loop *loop = peer->server->loop;
  unsigned events = peer->out.size ? LOOP_READABLE | LOOP_WRITABLE : LOOP_READABLE;
  loop_cancel(loop, &peer->watch);
  assert_int_equal(loop_watch(loop, peer->descriptor, events, peer_ready, peer, &peer->watch), 0);
}

static void peer_write(struct loopback_peer *peer) {
  while (peer->descriptor >= 0 && peer->out.size) {
    ssize_t sent = send(peer->descriptor, peer->out.data, peer->out.size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) break;
    if (sent < 0) {
      buffer_reset(&peer->out); /* the client is gone: whoever tests that looks at closed_by_client */
      break;
    }
    buffer_consume(&peer->out, (size_t)sent);
  }
  if (peer->descriptor >= 0) peer_watch(peer);
}

static void peer_hear(struct loopback_peer *peer) {
  struct loopback *server = peer->server;
  while (peer->descriptor >= 0 && peer->in.size >= 2) {
    size_t size = (size_t)(peer->in.data[0] << 8 | peer->in.data[1]);
    if (peer->in.size < 2 + size) return;
    memcpy(server->octets, peer->in.data + 2, size);
    buffer_consume(&peer->in, 2 + size);
    server->hear(server->context, peer, server->octets, size);
  }
}

static void peer_close(struct loopback_peer *peer) {
  if (peer->descriptor < 0) return;
  loop_cancel(peer->server->loop, &peer->watch);
  close(peer->descriptor);
  peer->descriptor = -1;
  peer->server->open_count--;
}

static void peer_ready(void *context, unsigned events) {
  struct loopback_peer *peer = context;
  uint8_t octets[16384];
  if (events & LOOP_WRITABLE) peer_write(peer);
  if (!(events & (LOOP_READABLE | LOOP_HANGUP))) return;
  ssize_t got = recv(peer->descriptor, octets, sizeof octets, 0);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) {
    peer->closed_by_client = true;
    peer_close(peer);
    return;
  }
  buffer_add(&peer->in, octets, (size_t)got);
  assert_false(peer->in.failed);
  peer_hear(peer);
}

static void listener_ready(void *context, unsigned events) {
  struct loopback *server = context;
  (void)events;
  int descriptor = accept4(server->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (descriptor < 0) return;
  const int on = 1;
  setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  assert_true(server->peer_count < LOOPBACK_PEERS_MAX);
  struct loopback_peer *peer = calloc(1, sizeof *peer);
  assert_non_null(peer);
  *peer = (struct loopback_peer){.server = server,
                                 .descriptor = descriptor,
                                 .in = BUFFER_WITH_MAXIMUM(2 * (2 + LOOPBACK_MESSAGE_MAX)),
                                 .out = BUFFER_WITH_MAXIMUM(OUT_MAX)};
  server->peers[server->peer_count++] = peer;
  server->open_count++;
  peer_watch(peer);
}

static void datagrams_ready(void *context, unsigned events) {
  struct loopback *server = context;
  struct loopback_peer peer = {.server = server, .descriptor = -1, .source_size = sizeof peer.source};
  (void)events;
  ssize_t got = recvfrom(server->datagrams, server->octets, sizeof server->octets, 0, (struct sockaddr *)&peer.source,
                         &peer.source_size);
  if (got >= 0) server->hear(server->context, &peer, server->octets, (size_t)got);
}

/* A port that is free for both protocols: the kernel picks one for TCP, and UDP has it or another is tried. */
static bool bind_both(struct loopback *server, const char *address) {
  struct sockaddr_storage place = {.ss_family = strchr(address, ':') ? AF_INET6 : AF_INET};
  struct sockaddr_in *in = (struct sockaddr_in *)&place;
  struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&place;
  bool six = place.ss_family == AF_INET6;
  socklen_t size = six ? sizeof *in6 : sizeof *in;
  assert_int_equal(inet_pton(place.ss_family, address, six ? (void *)&in6->sin6_addr : (void *)&in->sin_addr), 1);
  server->listener = socket(place.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  server->datagrams = socket(place.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  assert_true(server->listener >= 0 && server->datagrams >= 0);
  bool bound = bind(server->listener, (struct sockaddr *)&place, size) == 0 &&
               getsockname(server->listener, (struct sockaddr *)&place, &size) == 0 &&
               bind(server->datagrams, (struct sockaddr *)&place, size) == 0;
  server->port = ntohs(six ? in6->sin6_port : in->sin_port);
  snprintf(server->text, sizeof server->text, six ? "[%s]:%u" : "%s:%u", address, server->port);
  if (bound) return true;
  close(server->listener);
  close(server->datagrams);
  return false;
}

void loopback_open(struct loopback *server, struct loop *loop, const char *address, loopback_hear *hear,
                   void *context) {
  memset(server, 0, sizeof *server);
  server->loop = loop;
  server->hear = hear;
  server->context = context;
  int attempts = 0;
  while (!bind_both(server, address)) assert_true(++attempts < PORT_ATTEMPTS_MAX);
  const int room = RECEIVE_BUFFER;
  setsockopt(server->datagrams, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
  assert_int_equal(listen(server->listener, BACKLOG), 0);
  assert_int_equal(loop_watch(loop, server->listener, LOOP_READABLE, listener_ready, server, &server->listener_watch),
                   0);
  assert_int_equal(
      loop_watch(loop, server->datagrams, LOOP_READABLE, datagrams_ready, server, &server->datagrams_watch), 0);
}

void loopback_close(struct loopback *server) {
  loop_cancel(server->loop, &server->listener_watch);
  loop_cancel(server->loop, &server->datagrams_watch);
  close(server->listener);
  close(server->datagrams);
  for (size_t i = 0; i < server->peer_count; i++) {
    peer_close(server->peers[i]);
    buffer_release(&server->peers[i]->in);
    buffer_release(&server->peers[i]->out);
    free(server->peers[i]);
  }
}

void loopback_write(struct loopback_peer *peer, const void *octets, size_t size) {
  buffer_add(&peer->out, octets, size);
  assert_false(peer->out.failed);
  peer_write(peer);
}

void loopback_reply(struct loopback_peer *peer, const uint8_t *octets, size_t size) {
  if (peer->source_size) {
    sendto(peer->server->datagrams, octets, size, 0, (const struct sockaddr *)&peer->source, peer->source_size);
    return;
  }
  buffer_add_u16(&peer->out, (uint16_t)size);
  loopback_write(peer, octets, size);
}

void loopback_hang_up(struct loopback_peer *peer, bool abrupt) {
  const struct linger now = {.l_onoff = 1};
  if (abrupt && peer->descriptor >= 0) setsockopt(peer->descriptor, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  peer_close(peer);
}
