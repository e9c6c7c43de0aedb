#include "dkimroll/connector.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"

struct socket_stream {
  struct stream stream; /* first */
  stream_event *event;
  void *context;
  int descriptor;
  int connected;             /* what the connected slot returns */
  struct loop_source *watch; /* the only one: a descriptor can be watched once */
  unsigned watched;          /* its events */
};

static struct socket_stream *socket_stream_of(struct stream *stream) {
  return (struct socket_stream *)stream;
}

static void socket_close(struct stream *stream) {
  struct socket_stream *open_stream = socket_stream_of(stream);
  loop_cancel(stream->connector->loop, &open_stream->watch);
  if (open_stream->descriptor >= 0) close(open_stream->descriptor);
  free(open_stream);
}

static void cleanup_socket_stream(struct socket_stream **stream) {
  if (*stream) socket_close(&(*stream)->stream);
}

static int socket_open(struct connector *connector, const struct connector_request *request, struct stream **ret_stream,
                       struct error *error) {
  const struct sockaddr *address = (const struct sockaddr *)request->address;
  CLEANUP(cleanup_socket_stream) struct socket_stream *stream = calloc(1, sizeof(*stream));
  if (!stream) return error_set(error, ERROR_NO_MEMORY, "out of memory");
  stream->stream.connector = connector;
  stream->event = request->event;
  stream->context = request->context;
  stream->descriptor = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (stream->descriptor < 0) return error_set_errno(error, errno, "cannot make a socket");
  /* Our own small packets must not wait for each other. */
  int on = 1;
  if (address->sa_family != AF_UNIX && setsockopt(stream->descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
    return error_set_errno(error, errno, "TCP_NODELAY");
  if (connect(stream->descriptor, address, request->size) < 0) stream->connected = errno == EINTR ? EINPROGRESS : errno;
  *ret_stream = &TAKE_PTR(stream)->stream;
  return 0;
}

static int socket_connected(struct stream *stream) {
  return socket_stream_of(stream)->connected;
}

/* libmilter writes a change and its verdict in two small pieces, and its kernel holds the second back until we confirm
 * the first, which ours would delay by 40 ms: for every message. The wish holds for a while only, so it is repeated.
 * Unix sockets refuse it, which is fine. */
static void socket_confirm_at_once(const struct socket_stream *stream) {
  int on = 1;
  if (setsockopt(stream->descriptor, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on)) < 0) return;
}

static ssize_t socket_read(struct stream *stream, void *octets, size_t size) {
  ssize_t got = recv(socket_stream_of(stream)->descriptor, octets, size, 0);
  if (got > 0) socket_confirm_at_once(socket_stream_of(stream));
  return got;
}

static ssize_t socket_write(struct stream *stream, const void *octets, size_t size) {
  return send(socket_stream_of(stream)->descriptor, octets, size, MSG_NOSIGNAL);
}

static void socket_happened(void *context, unsigned events) {
  struct socket_stream *stream = context;
  socklen_t size = sizeof(stream->connected);
  if (stream->connected == EINPROGRESS &&
      getsockopt(stream->descriptor, SOL_SOCKET, SO_ERROR, &stream->connected, &size) < 0)
    stream->connected = errno;
  /* Last, since the owner may close the stream in the call. */
  stream->event(stream->context, events);
}

static int socket_watch(struct stream *stream, unsigned events) {
  struct socket_stream *watched = socket_stream_of(stream);
  struct loop *loop = stream->connector->loop;
  if (watched->watch && watched->watched == events) return 0;
  loop_cancel(loop, &watched->watch);
  watched->watched = events;
  if (!events) return 0;
  return loop_watch(loop, watched->descriptor, events, socket_happened, watched, &watched->watch);
}

static void sockets_destroy(struct connector *connector) {
  free(connector);
}

static const struct connector_ops connector_sockets_ops = {.open = socket_open,
                                                           .connected = socket_connected,
                                                           .read = socket_read,
                                                           .write = socket_write,
                                                           .watch = socket_watch,
                                                           .close = socket_close,
                                                           .destroy = sockets_destroy};

int connector_sockets_new(struct loop *loop, struct connector **ret_connector, struct error *error) {
  struct connector *connector = calloc(1, sizeof(*connector));
  if (!connector) return error_set(error, ERROR_NO_MEMORY, "connector: out of memory");
  *connector = (struct connector){.ops = &connector_sockets_ops, .loop = loop};
  *ret_connector = connector;
  return 0;
}
