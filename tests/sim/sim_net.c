/* The network: octets to an address and back, with what goes wrong on the way. */
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "sim.h"

struct transport_exchange {
  struct sim_network *network;
  struct address address;
  bool tcp;
  uint8_t *octets;
  size_t size;
  int64_t deadline;
  transport_accept *accept;
  transport_done *done;
  void *context;
  struct loop_source *timer;
  LIST_ENTRY(transport_exchange) next;
};

struct sim_network {
  struct transport transport;
  struct sim *sim;
  LIST_HEAD(, transport_exchange) exchanges;
};

static void exchange_free(struct transport_exchange *exchange) {
  LIST_REMOVE(exchange, next);
  loop_cancel(exchange->network->sim->loop, &exchange->timer);
  free(exchange->octets);
  free(exchange);
}

/* Done before free: the callback may cancel others, never this one. */
static void exchange_end(struct transport_exchange *exchange, int code, const char *what) {
  struct error result = {0};
  if (code) error_set(&result, code, "%s", what);
  transport_done *const done = exchange->done;
  void *const context = exchange->context;
  exchange_free(exchange);
  done(context, &result);
}

static void exchange_timeout(void *context) {
  struct transport_exchange *exchange = context;
  exchange->timer = NULL;
  exchange_end(exchange, ERROR_TIMEOUT, "no answer");
}

/* Silence: a datagram is just lost; of a connection the caller learns at its deadline, or that it broke. */
static void exchange_silence(struct transport_exchange *exchange) {
  struct sim *sim = exchange->network->sim;
  if (exchange->tcp && SIM_RANDOM(sim, 2)) {
    exchange_end(exchange, ERROR_UNREACHABLE, "connection reset");
    return;
  }
  if (loop_at(sim->loop, exchange->deadline, exchange_timeout, exchange, &exchange->timer)) abort();
}

static bool happens(struct sim *sim, int64_t until, unsigned percent) {
  return until > sim_loop_now(sim->clock) && SIM_RANDOM(sim, 100) < percent;
}

static void exchange_serve(void *context) {
  struct transport_exchange *exchange = context;
  struct sim *sim = exchange->network->sim;
  const int place = sim_dns_server_at(sim, &exchange->address);
  struct sim_server *server = place >= 0 ? &sim->servers[place] : NULL;
  const int64_t now = sim_loop_now(sim->clock);
  exchange->timer = NULL;
  sim->result->counts.queries++;
  if (exchange->address.storage.ss_family == AF_INET6 && sim->ipv6_routed_until <= now) {
    exchange_end(exchange, ERROR_NO_ROUTE, "this host has no route to it");
    return;
  }
  if (place <= SIM_SERVER_RESOLVER && sim->resolvers[SIM_SERVER_RESOLVER - place].down_until > now) {
    exchange_silence(exchange);
    return;
  }
  if (place == SIM_SERVER_NOBODY || (server && (server->down_until > now || happens(sim, server->loses_requests_until, server->loses_requests)))) {
    exchange_silence(exchange);
    return;
  }
  if (server && server->refuses_until > now) {
    exchange_end(exchange, ERROR_UNREACHABLE, "Connection refused");
    return;
  }
  struct sim_answer answer;
  sim_dns_answer(sim, place, exchange->octets, exchange->size, exchange->tcp, &answer);
  const bool lost = server && happens(sim, server->loses_replies_until, server->loses_replies);
  /* Over TCP a server that truncates cuts its answer in the middle. */
  if (server && exchange->tcp && server->truncates_until > now && SIM_RANDOM(sim, 2)) answer.octets.size = 12 + SIM_RANDOM(sim, answer.octets.size - 12);
  const bool taken = !lost && exchange->accept(exchange->context, answer.octets.data, answer.octets.size);
  buffer_release(&answer.octets);
  if (taken)
    exchange_end(exchange, 0, "");
  else
    exchange_silence(exchange);
}

static int network_exchange(struct transport *transport, const struct transport_request *request, transport_accept *accept,
                            transport_done *done, void *context, struct transport_exchange **ret_exchange, struct error *error) {
  struct sim_network *network = (struct sim_network *)transport;
  struct sim *sim = network->sim;
  struct transport_exchange *exchange = calloc(1, sizeof *exchange);
  uint8_t *octets = malloc(request->size);
  (void)error;
  if (!exchange || !octets) abort();
  memcpy(octets, request->octets, request->size);
  *exchange = (struct transport_exchange){.network = network,
                                          .address = request->address,
                                          .tcp = request->protocol == TRANSPORT_TCP,
                                          .octets = octets,
                                          .size = request->size,
                                          .deadline = request->deadline,
                                          .accept = accept,
                                          .done = done,
                                          .context = context};
  sim_oracle_octets(sim, "a message to a name server", request->octets, request->size);
  LIST_INSERT_HEAD(&network->exchanges, exchange, next);
  const int64_t arrival = loop_boottime(sim->loop) + 1 + SIM_RANDOM(sim, 40);
  const bool late = arrival >= request->deadline;
  if (loop_at(sim->loop, late ? request->deadline : arrival, late ? exchange_timeout : exchange_serve, exchange, &exchange->timer)) abort();
  *ret_exchange = exchange;
  return 0;
}

static void network_cancel(struct transport *transport, struct transport_exchange *exchange) {
  (void)transport;
  exchange_free(exchange);
}

static void network_destroy(struct transport *transport) {
  struct sim_network *network = (struct sim_network *)transport;
  while (!LIST_EMPTY(&network->exchanges)) exchange_free(LIST_FIRST(&network->exchanges));
  free(network);
}

struct transport *sim_transport_new(struct sim *sim) {
  static const struct transport_ops ops = {network_exchange, network_cancel, network_destroy};
  struct sim_network *network = calloc(1, sizeof *network);
  if (!network) abort();
  network->transport.ops = &ops;
  network->sim = sim;
  LIST_INIT(&network->exchanges);
  return &network->transport;
}
