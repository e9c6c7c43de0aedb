#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dkimroll/buffer.h"
#include "dkimroll/transport_sockets.h"

enum {
  TCP_READS_A_TURN_MAX = 16,
  TCP_INPUT_MAX = TRANSPORT_MESSAGE_MAX + 2 + TRANSPORT_SCRATCH_SIZE,
  TCP_OUTPUT_MAX = TRANSPORT_TCP_PIPELINE_MAX * (TRANSPORT_MESSAGE_MAX + 2),
};

struct tcp_connection {
  struct sockets *owner;
  struct address address;
  int descriptor;
  bool connected;
  bool broken; /* closing: takes no more exchanges */
  struct loop_source *watch;
  unsigned events; /* what watch was asked for */
  struct loop_source *idle;
  struct exchange_list exchanges; /* in flight */
  struct buffer output, input;
  size_t strays;
  struct tcp_connection *next;
};

static void tcp_ready(void *context, unsigned events);

static void connection_unlink(struct tcp_connection *connection) {
  struct tcp_connection **place = &connection->owner->connections;
  while (*place != connection) place = &(*place)->next;
  *place = connection->next;
  connection->owner->connection_count--;
}

static void connection_free(struct tcp_connection *connection) {
  struct loop *loop = connection->owner->loop;
  loop_cancel(loop, &connection->watch);
  loop_cancel(loop, &connection->idle);
  if (connection->descriptor >= 0) close(connection->descriptor);
  buffer_release(&connection->output);
  buffer_release(&connection->input);
  free(connection);
}

/* Whether the server took the messages in flight is unknown; each caller decides what to do about it. */
static void connection_break(struct tcp_connection *connection, const struct error *error) {
  struct sockets *owner = connection->owner;
  connection->broken = true;
  connection_unlink(connection);
  while (connection->exchanges.first) exchange_end(connection->exchanges.first, error);
  connection_free(connection);
  sockets_pump_later(owner);
}

static void connection_closed(struct tcp_connection *connection, int error_number) {
  struct error error;
  char text[ADDRESS_TEXT_SIZE];
  if (error_number) {
    socket_error(&error, error_number, &connection->address);
  } else {
    error_set(&error, ERROR_UNREACHABLE, "%s closed the connection before it answered", address_format(&connection->address, text));
  }
  connection_break(connection, &error);
}

static int connection_watch(struct tcp_connection *connection, unsigned events) {
  struct loop *loop = connection->owner->loop;
  if (connection->watch && connection->events == events) return 0;
  loop_cancel(loop, &connection->watch);
  connection->events = events;
  return loop_watch(loop, connection->descriptor, events, tcp_ready, connection, &connection->watch);
}

/* false: the connection is gone. */
static bool connection_write(struct tcp_connection *connection) {
  while (connection->connected && connection->output.size > 0) {
    const ssize_t sent = send(connection->descriptor, connection->output.data, connection->output.size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (sent < 0) {
      connection_closed(connection, errno);
      return false;
    }
    buffer_consume(&connection->output, (size_t)sent);
  }
  const bool waits = !connection->connected || connection->output.size > 0;
  if (connection_watch(connection, waits ? LOOP_READABLE | LOOP_WRITABLE : LOOP_READABLE)) {
    connection_closed(connection, ENOMEM);
    return false;
  }
  return true;
}

static struct transport_exchange *find_exchange(const struct tcp_connection *connection, uint16_t id) {
  for (struct transport_exchange *e = connection->exchanges.first; e; e = e->next)
    if (exchange_id(e->octets) == id) return e;
  return NULL;
}

static void idle_expired(void *context) {
  struct tcp_connection *connection = context;
  connection->idle = NULL;
  connection_unlink(connection);
  connection_free(connection);
}

static void connection_rest(struct tcp_connection *connection) {
  struct loop *loop = connection->owner->loop;
  if (connection->exchanges.count > 0 || connection->idle) return;
  const int64_t moment = loop_boottime(loop) + TRANSPORT_TCP_IDLE_MS;
  if (loop_at(loop, moment, idle_expired, connection, &connection->idle)) connection->idle = NULL;
}

/* Delivers the complete messages of the input. false: the connection is gone. */
static bool connection_deliver(struct tcp_connection *connection) {
  size_t position = 0;
  while (connection->input.size - position >= 2) {
    const uint8_t *data = connection->input.data + position;
    const size_t size = (size_t)(data[0] << 8 | data[1]);
    if (connection->input.size - position - 2 < size) break;
    position += 2 + size;
    struct transport_exchange *exchange = size >= 12 ? find_exchange(connection, exchange_id(data + 2)) : NULL;
    if (!exchange && ++connection->strays > TRANSPORT_TCP_STRAY_MAX) {
      struct error error;
      char text[ADDRESS_TEXT_SIZE];
      error_set(&error, ERROR_PROTOCOL, "%s sends messages that nobody asked for", address_format(&connection->address, text));
      connection_break(connection, &error);
      return false;
    }
    if (exchange) exchange_offer(exchange, data + 2, size);
  }
  buffer_consume(&connection->input, position);
  connection_rest(connection);
  return true;
}

/* A callback never frees its own connection: exchange_offer ends exchanges only, and a destroyed transport is destroyed from outside of it. */
static void connection_read(struct tcp_connection *connection) {
  uint8_t *octets = connection->owner->scratch; /* copied into the connection's input at once */
  for (unsigned i = 0; i < TCP_READS_A_TURN_MAX; i++) {
    const ssize_t received = recv(connection->descriptor, octets, TRANSPORT_SCRATCH_SIZE, 0);
    if (received < 0 && errno == EINTR) continue;
    if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (received <= 0) {
      connection_closed(connection, received < 0 ? errno : 0);
      return;
    }
    buffer_add(&connection->input, octets, (size_t)received);
    if (connection->input.failed) {
      connection_closed(connection, ENOMEM);
      return;
    }
    if (!connection_deliver(connection)) return;
    if (received < TRANSPORT_SCRATCH_SIZE) return;
  }
}

static void tcp_ready(void *context, unsigned events) {
  struct tcp_connection *connection = context;
  if (!connection->connected) {
    int failure = 0;
    socklen_t size = sizeof failure;
    if (!(events & (LOOP_WRITABLE | LOOP_HANGUP))) return;
    getsockopt(connection->descriptor, SOL_SOCKET, SO_ERROR, &failure, &size);
    if (failure) {
      connection_closed(connection, failure);
      return;
    }
    connection->connected = true;
  }
  if ((events & LOOP_WRITABLE) && !connection_write(connection)) return;
  if (events & (LOOP_READABLE | LOOP_HANGUP)) connection_read(connection);
}

/* NULL: *error says why. */
static struct tcp_connection *connection_open(struct sockets *sockets, const struct address *address, struct error *error) {
  struct tcp_connection *connection = calloc(1, sizeof *connection);
  if (!connection) {
    error_set(error, ERROR_NO_MEMORY, "out of memory for a connection");
    return NULL;
  }
  const int yes = 1;
  connection->owner = sockets;
  connection->address = *address;
  connection->output = BUFFER_WITH_MAXIMUM(TCP_OUTPUT_MAX);
  connection->input = BUFFER_WITH_MAXIMUM(TCP_INPUT_MAX);
  connection->descriptor = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int failure = connection->descriptor < 0 ? errno : 0;
  if (!failure) setsockopt(connection->descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  if (!failure && connect(connection->descriptor, (const struct sockaddr *)&address->storage, address->size) < 0 && errno != EINPROGRESS)
    failure = errno;
  if (!failure && connection_watch(connection, LOOP_READABLE | LOOP_WRITABLE)) failure = ENOMEM;
  if (failure) {
    connection_free(connection);
    socket_error(error, failure, address);
    return NULL;
  }
  connection->next = sockets->connections;
  sockets->connections = connection;
  sockets->connection_count++;
  return connection;
}

static struct tcp_connection *find_connection(const struct sockets *sockets, const struct address *address) {
  for (struct tcp_connection *c = sockets->connections; c; c = c->next)
    if (!c->broken && c->address.size == address->size && memcmp(&c->address.storage, &address->storage, address->size) == 0) return c;
  return NULL;
}

/* Room for one more connection: an idle one may go. */
static bool room_for_connection(struct sockets *sockets) {
  if (sockets->connection_count < TRANSPORT_TCP_CONNECTIONS_MAX) return true;
  for (struct tcp_connection *c = sockets->connections; c; c = c->next) {
    if (c->exchanges.count > 0) continue;
    connection_unlink(c);
    connection_free(c);
    return true;
  }
  return false;
}

/* Length and message go out in one write: Knot drops a connection that pauses inside a message for 500 ms. */
static void connection_take(struct tcp_connection *connection, struct transport_exchange *exchange) {
  exchange_list_remove(exchange);
  exchange_list_append(&connection->exchanges, exchange);
  exchange->connection = connection;
  loop_cancel(connection->owner->loop, &connection->idle);
  buffer_add_u16(&connection->output, (uint16_t)exchange->size);
  buffer_add(&connection->output, exchange->octets, exchange->size);
}

/* One exchange finds its connection, or waits on (false), or ends with an error. */
static bool tcp_place(struct sockets *sockets, struct transport_exchange *exchange) {
  struct error error;
  struct tcp_connection *connection = find_connection(sockets, &exchange->address);
  if (!connection && !room_for_connection(sockets)) return false;
  if (!connection) connection = connection_open(sockets, &exchange->address, &error);
  if (!connection) {
    exchange_end(exchange, &error);
    return true;
  }
  if (connection->exchanges.count >= TRANSPORT_TCP_PIPELINE_MAX || find_exchange(connection, exchange_id(exchange->octets))) return false;
  connection_take(connection, exchange);
  return true;
}

void tcp_pump(struct sockets *sockets) {
  /* What cannot be placed moves to the end, so that one look sees each once. */
  for (size_t left = sockets->tcp_waiting.count; left > 0 && sockets->tcp_waiting.first; left--) {
    struct transport_exchange *exchange = sockets->tcp_waiting.first;
    if (tcp_place(sockets, exchange)) continue;
    exchange_list_remove(exchange);
    exchange_list_append(&sockets->tcp_waiting, exchange);
  }
  struct tcp_connection *next = NULL;
  for (struct tcp_connection *c = sockets->connections; c; c = next) {
    next = c->next;
    if (c->connected && c->output.size > 0 && !connection_write(c)) {
      /* Callbacks of the broken connection may have changed the list. */
      sockets_pump_later(sockets);
      return;
    }
  }
}

void tcp_forget(struct transport_exchange *exchange) {
  struct tcp_connection *connection = exchange->connection;
  exchange->connection = NULL;
  exchange_list_remove(exchange);
  if (!connection->broken) connection_rest(connection);
}

void tcp_destroy_all(struct sockets *sockets) {
  struct error error;
  error_set(&error, ERROR_CANCELLED, "the transport is closed");
  while (sockets->connections) connection_break(sockets->connections, &error);
}
