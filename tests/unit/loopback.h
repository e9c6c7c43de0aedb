/* A small name server on loopback for tests, in the test's own loop: it says exactly what the test tells it, whole, in pieces, or not at all.
 *
 *   struct loopback server;
 *   loopback_open(&server, loop, "127.0.0.1", hear, context);
 *   loopback_close(&server);
 *
 * hear() gets every message, with the peer to answer through. */
#ifndef DKIMROLL_TESTS_LOOPBACK_H
#define DKIMROLL_TESTS_LOOPBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "dkimroll/buffer.h"
#include "dkimroll/loop.h"

enum { LOOPBACK_PEERS_MAX = 256, LOOPBACK_MESSAGE_MAX = 65535 };

struct loopback;

/* One TCP connection, or the sender of one datagram (borrowed during hear; copy it to answer later). */
struct loopback_peer {
  struct loopback *server;
  int descriptor; /* TCP, else -1 */
  struct sockaddr_storage source;
  socklen_t source_size;
  struct loop_source *watch;
  struct buffer in, out;
  bool closed_by_client;
};

typedef void loopback_hear(void *context, struct loopback_peer *peer, const uint8_t *octets, size_t size);

struct loopback {
  struct loop *loop;
  loopback_hear *hear;
  void *context;
  int listener, datagrams; /* the same port */
  uint16_t port;
  char text[64]; /* address:port */
  struct loop_source *listener_watch, *datagrams_watch;
  struct loopback_peer *peers[LOOPBACK_PEERS_MAX]; /* all TCP connections ever, in order */
  size_t peer_count;
  size_t open_count; /* of them, not closed by either side */
  uint8_t octets[LOOPBACK_MESSAGE_MAX];
};

void loopback_open(struct loopback *server, struct loop *loop, const char *address, loopback_hear *hear, void *context);
void loopback_close(struct loopback *server);
/* A whole message: a datagram, or length and octets. */
void loopback_reply(struct loopback_peer *peer, const uint8_t *octets, size_t size);
/* Octets as they are into the stream. */
void loopback_write(struct loopback_peer *peer, const void *octets, size_t size);
/* Ends the connection, with RST if abrupt. */
void loopback_hang_up(struct loopback_peer *peer, bool abrupt);

#endif
