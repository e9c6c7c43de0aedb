/* TCP (RFC 7766): one connection for an address, many messages in flight on it, answers matched by id in any order. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dkimroll/buffer.h"
#include "dkimroll/transport_sockets.h"

enum {
  TCP_FRAME_MAX = 2 + TRANSPORT_MESSAGE_MAX, /* RFC 1035 4.2.2 */
  TCP_OUT_MAX = TRANSPORT_TCP_PIPELINE_MAX * TCP_FRAME_MAX,
};

enum tcp_state { TCP_NEW, TCP_CONNECTING, TCP_OPEN };

struct tcp_connection {
  struct sockets *sockets;
  struct tcp_connection *previous, *next;
  struct address address;
  enum tcp_state state;
  bool retired; /* takes no new exchanges, ends with its last one */
  int descriptor;
  struct exchange_list waiting;   /* not sent yet */
  struct exchange_list in_flight; /* at most TRANSPORT_TCP_PIPELINE_MAX, no two with the same id */
  struct buffer out;
  uint8_t *in; /* the beginning of a message that is not complete yet: less than TCP_FRAME_MAX octets */
  size_t in_size;
  uint64_t received; /* octets, ever */
  unsigned strays_left;
  struct loop_source *watch;
  unsigned watched; /* events of watch */
  struct loop_source *turn;
  struct loop_source *idle;
};

static void tcp_turn(struct tcp_connection *connection);

static bool tcp_is_idle(const struct tcp_connection *connection) {
  return !connection->waiting.first && !connection->in_flight.first;
}

/* Frees a connection that no exchange names any more. */
static void tcp_free(struct tcp_connection *connection) {
  struct sockets *sockets = connection->sockets;
  *(connection->previous ? &connection->previous->next : &sockets->connections) = connection->next;
  if (connection->next) connection->next->previous = connection->previous;
  sockets->connection_count--;
  loop_cancel(sockets->loop, &connection->watch);
  loop_cancel(sockets->loop, &connection->turn);
  loop_cancel(sockets->loop, &connection->idle);
  if (connection->descriptor >= 0) close(connection->descriptor);
  buffer_release(&connection->out);
  free(connection->in);
  free(connection);
  (void)!sockets_pump_later(sockets);
}

static void list_detach(struct exchange_list *from, struct exchange_list *to) {
  while (from->first) {
    from->first->connection = NULL;
    exchange_list_move(to, from->first);
  }
}

/* Ends every exchange of the connection: whether the server took their messages is unknown. The connection is gone first, so that an
 * exchange that done starts gets a fresh one. */
static void tcp_break(struct tcp_connection *connection, const struct error *error) {
  struct sockets *sockets = connection->sockets;
  list_detach(&connection->in_flight, &sockets->failing);
  list_detach(&connection->waiting, &sockets->failing);
  tcp_free(connection);
  while (sockets->failing.first && !sockets->dead) exchange_end(sockets->failing.first, error);
}

/* The transport is dead by now: nobody is told, the exchanges are left in the list of those that fail. */
void tcp_release(struct sockets *sockets) {
  const struct error unused = {.code = ERROR_CANCELLED};
  while (sockets->connections) tcp_break(sockets->connections, &unused);
}

static void tcp_turn_now(void *context) {
  struct tcp_connection *connection = context;
  struct sockets *sockets = connection->sockets;
  connection->turn = NULL;
  sockets_enter(sockets);
  tcp_turn(connection);
  sockets_leave(sockets);
}

/* Without memory for it the connection goes on at its next event, and its exchanges end at their deadlines. */
static void tcp_turn_later(struct tcp_connection *connection) {
  struct sockets *sockets = connection->sockets;
  if (sockets->dead || connection->turn) return;
  (void)!loop_defer(sockets->loop, tcp_turn_now, connection, &connection->turn);
}

static int loop_full(struct error *error, int code) {
  return error_set(error, code, "DNS over TCP: the event loop takes no more work");
}

static struct transport_exchange *find_in_flight(const struct tcp_connection *connection, uint16_t id) {
  for (struct transport_exchange *exchange = connection->in_flight.first; exchange; exchange = exchange->next)
    if (exchange->id == id) return exchange;
  return NULL;
}

static int tcp_deliver(struct tcp_connection *connection, const uint8_t *octets, size_t size, struct error *error) {
  struct transport_exchange *exchange =
      size >= TRANSPORT_HEADER ? find_in_flight(connection, message_id(octets)) : NULL;
  if (exchange && exchange_offer(exchange, octets, size)) return 0;
  if (connection->strays_left) {
    connection->strays_left--;
    return 0;
  }
  char text[ADDRESS_TEXT_SIZE];
  return error_set(error, ERROR_UNREACHABLE,
                   "%s over TCP sent too many messages that answer nothing: connection closed",
                   address_format(&connection->address, text));
}

/* Delivers the complete messages and keeps the rest. */
static int tcp_dispatch(struct tcp_connection *connection, struct error *error) {
  size_t position = 0;
  int code = 0;
  while (code == 0 && !connection->sockets->dead && connection->in_size - position >= 2) {
    const uint8_t *frame = connection->in + position;
    size_t size = (size_t)(frame[0] << 8 | frame[1]);
    if (connection->in_size - position - 2 < size) break;
    position += 2 + size;
    code = tcp_deliver(connection, frame + 2, size, error);
  }
  connection->in_size -= position;
  memmove(connection->in, connection->in + position, connection->in_size);
  return code;
}

static int tcp_receive(struct tcp_connection *connection, struct error *error) {
  for (unsigned i = 0; i < TRANSPORT_READS_MAX; i++) {
    size_t room = TCP_FRAME_MAX - connection->in_size;
    ssize_t got = recv(connection->descriptor, connection->in + connection->in_size, room, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (got < 0) return sockets_error_remote(error, &connection->address, TRANSPORT_TCP, errno);
    if (got == 0) {
      char text[ADDRESS_TEXT_SIZE];
      return error_set(error, ERROR_UNREACHABLE, "%s over TCP closed the connection before it answered",
                       address_format(&connection->address, text));
    }
    connection->in_size += (size_t)got;
    connection->received += (uint64_t)got;
    int code = tcp_dispatch(connection, error);
    if (code < 0 || connection->sockets->dead || (size_t)got < room) return code;
  }
  return 0;
}

static int tcp_finish_connect(struct tcp_connection *connection, struct error *error) {
  int number = 0;
  socklen_t size = sizeof number;
  if (getsockopt(connection->descriptor, SOL_SOCKET, SO_ERROR, &number, &size) < 0) number = errno;
  if (number) return sockets_error_remote(error, &connection->address, TRANSPORT_TCP, number);
  connection->state = TCP_OPEN;
  return 0;
}

static void tcp_ready(void *context, unsigned events) {
  struct tcp_connection *connection = context;
  struct sockets *sockets = connection->sockets;
  struct error error;
  int code = 0;
  sockets_enter(sockets);
  if (connection->state == TCP_CONNECTING)
    code = tcp_finish_connect(connection, &error);
  else if (events & (LOOP_READABLE | LOOP_HANGUP))
    code = tcp_receive(connection, &error);
  if (code < 0)
    tcp_break(connection, &error);
  else if (!sockets->dead)
    tcp_turn(connection);
  sockets_leave(sockets);
}

static int tcp_connect(struct tcp_connection *connection, struct error *error) {
  const struct address *address = &connection->address;
  const int on = 1;
  connection->in = malloc(TCP_FRAME_MAX);
  if (!connection->in) return error_set(error, ERROR_NO_MEMORY, "DNS over TCP: out of memory");
  connection->descriptor = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (connection->descriptor < 0) return sockets_error_local(error, address, TRANSPORT_TCP, errno);
  /* Nagle's algorithm would hold back the end of a message until its beginning is acknowledged. */
  (void)!setsockopt(connection->descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  connection->state = TCP_CONNECTING;
  if (connect(connection->descriptor, (const struct sockaddr *)&address->storage, address->size) < 0 &&
      errno != EINPROGRESS && errno != EINTR)
    return sockets_error_local(error, address, TRANSPORT_TCP, errno);
  return 0;
}

/* Hands messages to the output, oldest first; one whose id is in flight is passed over until that answer is there. */
static int tcp_fill(struct tcp_connection *connection, struct error *error) {
  struct transport_exchange *next = NULL;
  for (struct transport_exchange *exchange = connection->waiting.first; exchange; exchange = next) {
    next = exchange->next;
    if (connection->in_flight.count >= TRANSPORT_TCP_PIPELINE_MAX) return 0;
    if (find_in_flight(connection, exchange->id)) continue;
    buffer_add(&connection->out, exchange->octets, 2 + exchange->size);
    if (connection->out.failed) return error_set(error, ERROR_NO_MEMORY, "DNS over TCP: out of memory");
    free(exchange->octets);
    exchange->octets = NULL;
    exchange->received_before = connection->received;
    exchange_list_move(&connection->in_flight, exchange);
  }
  return 0;
}

/* All that is there goes out in one call: Knot gives up on a message that pauses inside for 500 ms. */
static int tcp_write(struct tcp_connection *connection, struct error *error) {
  while (connection->out.size) {
    ssize_t sent = send(connection->descriptor, connection->out.data, connection->out.size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) return 0;
    if (sent < 0 && errno != EINTR) return sockets_error_remote(error, &connection->address, TRANSPORT_TCP, errno);
    if (sent > 0) buffer_consume(&connection->out, (size_t)sent);
  }
  return 0;
}

static int tcp_watch(struct tcp_connection *connection, struct error *error) {
  struct loop *loop = connection->sockets->loop;
  unsigned events = connection->out.size ? LOOP_READABLE | LOOP_WRITABLE : LOOP_READABLE;
  if (connection->state == TCP_CONNECTING) events = LOOP_WRITABLE;
  if (connection->watch && connection->watched == events) return 0;
  loop_cancel(loop, &connection->watch);
  connection->watched = events;
  int code = loop_watch(loop, connection->descriptor, events, tcp_ready, connection, &connection->watch);
  return code < 0 ? loop_full(error, code) : 0;
}

static void tcp_idle_over(void *context) {
  struct tcp_connection *connection = context;
  connection->idle = NULL;
  if (tcp_is_idle(connection)) tcp_free(connection); /* else it got work just now, and its turn is coming */
}

static int tcp_rest(struct tcp_connection *connection, struct error *error) {
  struct loop *loop = connection->sockets->loop;
  if (!tcp_is_idle(connection)) {
    loop_cancel(loop, &connection->idle);
    return 0;
  }
  if (connection->idle) return 0;
  int code = loop_at(loop, loop_boottime(loop) + TRANSPORT_TCP_IDLE_MS, tcp_idle_over, connection, &connection->idle);
  return code < 0 ? loop_full(error, code) : 0;
}

static int tcp_advance(struct tcp_connection *connection, struct error *error) {
  int code = 0;
  if (connection->state == TCP_NEW) code = tcp_connect(connection, error);
  if (code == 0 && connection->state == TCP_OPEN) code = tcp_fill(connection, error);
  if (code == 0 && connection->state == TCP_OPEN) code = tcp_write(connection, error);
  if (code == 0) code = tcp_watch(connection, error);
  if (code == 0) code = tcp_rest(connection, error);
  return code;
}

/* Takes the connection as far as it goes now; it may be gone afterwards. One without exchanges stays only if it is open, until the place is
 * needed or its time is over. */
static void tcp_turn(struct tcp_connection *connection) {
  struct error error;
  if (tcp_is_idle(connection) && (connection->state != TCP_OPEN || connection->retired))
    tcp_free(connection);
  else if (tcp_advance(connection, &error) < 0)
    tcp_break(connection, &error);
}

/* NULL: there is no place for one more, or no memory. */
static struct tcp_connection *tcp_new(struct sockets *sockets, const struct address *address) {
  struct tcp_connection *idle = sockets->connections;
  while (idle && !tcp_is_idle(idle)) idle = idle->next;
  if (sockets->connection_count >= TRANSPORT_TCP_CONNECTIONS_MAX && idle) tcp_free(idle);
  if (sockets->connection_count >= TRANSPORT_TCP_CONNECTIONS_MAX) return NULL;
  struct tcp_connection *connection = calloc(1, sizeof *connection);
  if (!connection) return NULL;
  *connection = (struct tcp_connection){.sockets = sockets,
                                        .next = sockets->connections,
                                        .address = *address,
                                        .descriptor = -1,
                                        .out = BUFFER_WITH_MAXIMUM(TCP_OUT_MAX),
                                        .strays_left = TRANSPORT_TCP_STRAYS_MAX};
  if (connection->next) connection->next->previous = connection;
  sockets->connections = connection;
  sockets->connection_count++;
  return connection;
}

static struct tcp_connection *tcp_find(const struct sockets *sockets, const struct address *address) {
  for (struct tcp_connection *connection = sockets->connections; connection; connection = connection->next)
    if (!connection->retired && address_equal(&connection->address, address)) return connection;
  return NULL;
}

void tcp_admit(struct sockets *sockets) {
  struct transport_exchange *next = NULL;
  for (struct transport_exchange *exchange = sockets->tcp_waiting.first; exchange; exchange = next) {
    next = exchange->next;
    struct tcp_connection *connection = tcp_find(sockets, &exchange->address);
    if (!connection) connection = tcp_new(sockets, &exchange->address);
    if (!connection) continue;
    exchange_list_move(&connection->waiting, exchange);
    exchange->connection = connection;
    tcp_turn_later(connection);
  }
}

void tcp_forget(struct transport_exchange *exchange) {
  struct tcp_connection *connection = exchange->connection;
  if (exchange->list == &connection->in_flight) connection->strays_left++;
  exchange->connection = NULL;
  exchange_list_remove(exchange);
  tcp_turn_later(connection);
}

const char *tcp_judge_timeout(struct transport_exchange *exchange) {
  struct tcp_connection *connection = exchange->connection;
  if (connection->state != TCP_OPEN) return "did not accept the connection in time";
  if (exchange->list == &connection->waiting) return "was not asked in time: too much is in flight on its connection";
  /* The other end may be gone without a word (a power cut, a NAT that forgot): others shall not wait for it too. */
  if (connection->received == exchange->received_before) {
    connection->retired = true;
    list_detach(&connection->waiting, &connection->sockets->tcp_waiting);
  }
  return "did not answer in time";
}
