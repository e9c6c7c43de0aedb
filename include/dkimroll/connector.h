/* Byte streams to the software that signs: sockets over the loop in production, a simulated signer in tests. It knows nothing of what the
 * octets mean; the milter protocol is on top of it (milter.h). */
#ifndef DKIMROLL_CONNECTOR_H
#define DKIMROLL_CONNECTOR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "dkimroll/error.h"
#include "dkimroll/loop.h"

struct stream;

/* Some of enum loop_events has happened on a stream. Always from the loop, never from inside of a call; the stream may be closed in it. */
typedef void stream_event(void *context, unsigned events);

struct connector_request {
  const struct sockaddr_storage *address; /* Internet or Unix; borrowed during the call */
  socklen_t size;
  stream_event *event;
  void *context;
};

struct connector;
struct connector_ops {
  /* Begins to connect and does not wait for it. Errors are about this host (too many files, memory): whether anybody listens at
   * the address is told by connected. */
  int (*open)(struct connector *connector, const struct connector_request *request, struct stream **ret_stream, struct error *error);
  /* 0: connected; EINPROGRESS: not yet, a watch for LOOP_WRITABLE tells when to ask again; else the errno(3) that connecting ended with. */
  int (*connected)(struct stream *stream);
  /* As recv(2) and send(2) on a socket that does not block: octets, 0 at the end of what the other side sent, or -1 with errno. Fewer
   * octets than asked for are usual. Only once connected. */
  ssize_t (*read)(struct stream *stream, void *octets, size_t size);
  ssize_t (*write)(struct stream *stream, const void *octets, size_t size);
  /* Calls event whenever the stream has one of events (LOOP_READABLE, LOOP_WRITABLE; LOOP_HANGUP always), level-triggered, in place of what was
   * watched before; 0: nothing any more. 0, ERROR_NO_MEMORY or ERROR_SYSTEM. */
  int (*watch)(struct stream *stream, unsigned events);
  /* Frees it; event will not be called any more. What was written before still arrives. */
  void (*close)(struct stream *stream);
  /* All streams must be closed. */
  void (*destroy)(struct connector *connector);
};

struct connector {
  const struct connector_ops *ops;
  struct loop *loop; /* borrowed; what calls back, also the timers of those who use the connector */
};

/* The beginning of every implementation's stream. */
struct stream {
  struct connector *connector;
};

/* Thin callers. */
int connector_open(struct connector *connector, const struct connector_request *request, struct stream **ret_stream,
                   struct error *error) ERROR_USE_RESULT;
int stream_connected(struct stream *stream) ERROR_USE_RESULT;
ssize_t stream_read(struct stream *stream, void *octets, size_t size) ERROR_USE_RESULT;
ssize_t stream_write(struct stream *stream, const void *octets, size_t size) ERROR_USE_RESULT;
int stream_watch(struct stream *stream, unsigned events) ERROR_USE_RESULT;
/* *stream NULL is fine, and is NULL afterwards. */
void stream_close(struct stream **stream);
void connector_destroy(struct connector *connector); /* NULL is fine */

/* Non-blocking sockets over loop. */
int connector_sockets_new(struct loop *loop, struct connector **ret_connector, struct error *error) ERROR_USE_RESULT;

#endif
