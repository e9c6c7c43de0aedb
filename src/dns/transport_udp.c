/* UDP: one connected socket for one exchange, so that the kernel picks a random port each time, drops datagrams of strangers, and reports
 * what ICMP says. */
#include <errno.h>
#include <netinet/in.h>

#include "dkimroll/transport_sockets.h"

/* The exchange may be gone afterwards. */
static void udp_receive(struct transport_exchange *exchange) {
  uint8_t *octets = exchange->sockets->datagram;
  for (unsigned i = 0; i < TRANSPORT_READS_MAX; i++) {
    ssize_t size = recv(exchange->descriptor, octets, TRANSPORT_MESSAGE_MAX, 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (size < 0) {
      struct error error;
      sockets_error_remote(&error, &exchange->address, TRANSPORT_UDP, errno);
      exchange_end(exchange, &error);
      return;
    }
    if (size < TRANSPORT_HEADER || message_id(octets) != exchange->id) continue;
    if (exchange_offer(exchange, octets, (size_t)size)) return;
  }
}

static void udp_ready(void *context, unsigned events) {
  struct transport_exchange *exchange = context;
  struct sockets *sockets = exchange->sockets;
  (void)events; /* recv(2) tells more: the datagram or the error */
  sockets_enter(sockets);
  udp_receive(exchange);
  sockets_leave(sockets);
}

static int udp_start(struct transport_exchange *exchange, struct error *error) {
  const struct address *address = &exchange->address;
  bool six = address->storage.ss_family == AF_INET6;
  exchange->descriptor = socket(address->storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (exchange->descriptor < 0) return sockets_error_local(error, address, TRANSPORT_UDP, errno);
  /* Without it a connected socket hears of a refused port only, not of an unreachable host (ip(7)); not to hear of it is a timeout. */
  const int on = 1;
  (void)!setsockopt(exchange->descriptor, six ? IPPROTO_IPV6 : IPPROTO_IP, six ? IPV6_RECVERR : IP_RECVERR, &on,
                    sizeof on);
  if (connect(exchange->descriptor, (const struct sockaddr *)&address->storage, address->size) < 0)
    return sockets_error_local(error, address, TRANSPORT_UDP, errno);
  int code =
      loop_watch(exchange->sockets->loop, exchange->descriptor, LOOP_READABLE, udp_ready, exchange, &exchange->watch);
  if (code < 0) return error_set(error, code, "sending a DNS message: the event loop takes no more work");
  /* A datagram for which there is no room now is lost as if on the way: whoever wants it repeats it. */
  if (send(exchange->descriptor, exchange->octets + 2, exchange->size, MSG_NOSIGNAL) < 0 && errno != EAGAIN &&
      errno != EINTR && errno != ENOBUFS)
    return sockets_error_local(error, address, TRANSPORT_UDP, errno);
  return 0;
}

/* The count bounds one call: done of an exchange that fails at once may start the next one, for ever. */
void udp_admit(struct sockets *sockets) {
  for (unsigned i = 0; i < TRANSPORT_UDP_SOCKETS_MAX && !sockets->dead; i++) {
    struct transport_exchange *exchange = sockets->udp_waiting.first;
    if (!exchange || sockets->udp_active.count >= TRANSPORT_UDP_SOCKETS_MAX) return;
    struct error error;
    exchange_list_move(&sockets->udp_active, exchange);
    if (udp_start(exchange, &error) < 0) exchange_end(exchange, &error);
  }
  (void)!sockets_pump_later(sockets);
}
