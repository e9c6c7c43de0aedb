/* The network around the name servers of fake_dns.h: a transport on a virtual loop, the ways in which servers fail, and
 * a small internet to begin with. */
#ifndef DKIMROLL_TESTS_FAKE_INTERNET_H
#define DKIMROLL_TESTS_FAKE_INTERNET_H

#include "fake_dns.h"

/* --- transport --- */

static inline void exchange_end(struct transport_exchange *exchange, const struct error *result) {
  LIST_REMOVE(exchange, next);
  exchange->world->in_flight--;
  loop_cancel(exchange->world->loop, &exchange->timer);
  exchange->done(exchange->context, result);
  free(exchange->octets);
  free(exchange);
}

static inline void exchange_timeout(void *context) {
  struct transport_exchange *exchange = context;
  struct error error;
  exchange->timer = NULL;
  error_set(&error, ERROR_TIMEOUT, "no answer");
  exchange_end(exchange, &error);
}

/* What an attacker who does not see the question would send: another id, another name, a question instead of an answer.
 * All of them say NXDOMAIN. */
static inline bool offer_lies(struct transport_exchange *exchange, const struct buffer *answer) {
  bool taken = false;
  for (int lie = 0; lie < 4; lie++) {
    CLEANUP_FREE uint8_t *forged = malloc(answer->size);
    assert_non_null(forged);
    memcpy(forged, answer->data, answer->size);
    forged[3] = DNS_NXDOMAIN;
    if (lie == 0) forged[1] ^= 1;
    if (lie == 1) forged[13] ^= 1;
    if (lie == 2) forged[2] &= 0x7f;
    taken |= exchange->accept(exchange->context, forged, lie == 3 ? 13 : answer->size);
  }
  return taken;
}

static inline size_t world_count(const struct world *world, const char *server, const char *name, uint16_t type);

static inline void exchange_serve(void *context) {
  struct transport_exchange *exchange = context;
  struct world_server *server = exchange->server;
  struct error error = {0};
  exchange->timer = NULL;
  const enum server_fault fault = server->fault;
  static const struct {
    enum error_code code;
    const char *text;
  } failures[] = {
      [SERVER_NO_ROUTE] = {ERROR_NO_ROUTE, "Network is unreachable"},
      [SERVER_UNREACHABLE] = {ERROR_UNREACHABLE, "Connection refused"},
      [SERVER_NO_SOCKET] = {ERROR_SYSTEM, "Too many open files"},
  };
  if (fault < sizeof failures / sizeof failures[0] && failures[fault].code) {
    char text[ADDRESS_TEXT_SIZE];
    error_set(&error, failures[fault].code, "%s: %s", address_format(&server->address, text), failures[fault].text);
    exchange_end(exchange, &error);
    return;
  }
  struct buffer answer = world_answer(exchange->world, server, exchange->octets, exchange->size, exchange->tcp);
  bool taken = false;
  if (fault == SERVER_LIES) assert_false(offer_lies(exchange, &answer));
  if (fault == SERVER_GARBAGE) memset(answer.data + 2, 0xff, answer.size - 2);
  const struct world_query *last = &exchange->world->queries[exchange->world->query_count - 1];
  const bool lost =
      fault == SERVER_LOSES_FIRST && world_count(exchange->world, server->text, last->name, last->type) < 3;
  if (fault != SERVER_DEAD && !lost && !(exchange->tcp && server->tcp_is_dead) &&
      (fault != SERVER_ONLY_TCP || exchange->tcp))
    taken = exchange->accept(exchange->context, answer.data, answer.size);
  buffer_release(&answer);
  if (taken)
    exchange_end(exchange, &error);
  else
    assert_int_equal(loop_at(exchange->world->loop, exchange->deadline, exchange_timeout, exchange, &exchange->timer),
                     0);
}

static inline struct world_server *server_at(struct world *world, const struct address *address) {
  char text[ADDRESS_TEXT_SIZE];
  for (size_t i = 0; i < world->server_count; i++)
    if (address_equal(&world->servers[i].address, address)) return &world->servers[i];
  fail_msg("nobody lives at %s", address_format(address, text));
  abort();
}

static inline void world_note(struct world *world, const struct world_server *server,
                              const struct transport_request *request) {
  struct message *message = NULL;
  struct error error;
  assert_true(world->query_count < WORLD_QUERIES_MAX);
  assert_int_equal(message_parse(request->octets, request->size, &message, &error), 0);
  struct world_query *query = &world->queries[world->query_count++];
  *query = (struct world_query){.server = server,
                                .type = message->question_type,
                                .tcp = request->protocol == TRANSPORT_TCP,
                                .recursive = request->octets[2] & 1};
  text_copy(query->name, sizeof query->name, message->question_name);
  message_free(message);
}

static inline int world_exchange(struct transport *transport, const struct transport_request *request,
                                 transport_accept *accept, transport_done *done, void *context,
                                 struct transport_exchange **ret_exchange, struct error *error) {
  struct world *world = (struct world *)transport;
  struct transport_exchange *exchange = calloc(1, sizeof *exchange);
  (void)error;
  assert_non_null(exchange);
  *exchange = (struct transport_exchange){.world = world,
                                          .server = server_at(world, &request->address),
                                          .tcp = request->protocol == TRANSPORT_TCP,
                                          .octets = malloc(request->size),
                                          .size = request->size,
                                          .deadline = request->deadline,
                                          .accept = accept,
                                          .done = done,
                                          .context = context};
  memcpy(exchange->octets, request->octets, request->size);
  world_note(world, exchange->server, request);
  if (++world->in_flight > world->in_flight_max) world->in_flight_max = world->in_flight;
  LIST_INSERT_HEAD(&world->exchanges, exchange, next);
  const int64_t moment = loop_boottime(world->loop) + WORLD_LATENCY_MS;
  assert_int_equal(
      loop_at(world->loop, time_min(moment, request->deadline), exchange_serve, exchange, &exchange->timer), 0);
  *ret_exchange = exchange;
  return 0;
}

static inline void world_cancel(struct transport *transport, struct transport_exchange *exchange) {
  (void)transport;
  LIST_REMOVE(exchange, next);
  exchange->world->in_flight--;
  loop_cancel(exchange->world->loop, &exchange->timer);
  free(exchange->octets);
  free(exchange);
}

static inline void world_destroy(struct transport *transport) {
  (void)transport;
}

static inline void world_open(struct world **ret_world) {
  static const struct transport_ops operations = {world_exchange, world_cancel, world_destroy};
  const struct clock_reading start = {.wall = WORLD_WALL, .boottime = WORLD_BOOT};
  struct error error = {0};
  struct world *world = calloc(1, sizeof *world);
  assert_non_null(world);
  world->transport.ops = &operations;
  LIST_INIT(&world->exchanges);
  entropy_seed(&world->random, 7);
  assert_int_equal(loop_virtual_new(&start, &world->loop, &error), 0);
  *ret_world = world;
}

static inline void world_close(struct world *world) {
  assert_true(LIST_EMPTY(&world->exchanges)); /* whoever started an exchange ended it */
  loop_destroy(world->loop);
  for (size_t i = 0; i < world->text_count; i++) free(world->texts[i]);
  free(world);
}

static inline void world_passed(void *loop) {
  loop_stop(loop);
}

/* Lets so much time pass, in which whatever is under way goes on. */
static inline void world_pass(struct world *world, int64_t milliseconds) {
  struct error error = {0};
  assert_int_equal(loop_at(world->loop, loop_boottime(world->loop) + milliseconds, world_passed, world->loop, NULL), 0);
  if (loop_run(world->loop, &error)) fail_msg("%s", error.message);
}

/* --- root, com and net, example.com with two name servers, provider.net that customers delegate to, and a resolver
 * --- */

#define RESOLVER "192.0.2.53"
#define ROOT "192.0.2.1"
#define COM "192.0.2.2"
#define NET "192.0.2.3"
#define NS1 "192.0.2.10"
#define NS2 "192.0.2.11"
#define NS2_6 "2001:db8::11"
#define PROVIDER "192.0.2.20"

static inline void delegate(struct world *world, const char *parent, const char *zone, const char *host,
                            const char *address) {
  world_add(world, parent, zone, 3600, DNS_TYPE_NS, host);
  if (address) world_add(world, parent, host, 3600, strchr(address, ':') ? DNS_TYPE_AAAA : DNS_TYPE_A, address);
}

static inline void apex(struct world *world, const char *zone, const char *host, const char *address) {
  world_add(world, zone, zone, 3600, DNS_TYPE_NS, host);
  if (address) world_add(world, zone, host, 3600, strchr(address, ':') ? DNS_TYPE_AAAA : DNS_TYPE_A, address);
}

static inline void build_internet(struct world *world) {
  world_server(world, RESOLVER)->resolver = true;
  world_zone(world, "", 86400, 86400, "a.root");
  world_serve(world, ROOT, "");
  apex(world, "", "a.root", ROOT);
  world_zone(world, "com", 900, 900, "ns.com");
  world_serve(world, COM, "com");
  delegate(world, "", "com", "ns.com", COM);
  apex(world, "com", "ns.com", COM);
  world_zone(world, "net", 900, 900, "ns.net");
  world_serve(world, NET, "net");
  delegate(world, "", "net", "ns.net", NET);
  apex(world, "net", "ns.net", NET);

  world_zone(world, "example.com", 3600, 300, "ns1.example.com");
  world_serve(world, NS1, "example.com");
  world_serve(world, NS2, "example.com");
  delegate(world, "com", "example.com", "ns1.example.com", NS1);
  delegate(world, "com", "example.com", "ns2.example.com", NS2);
  apex(world, "example.com", "ns1.example.com", NS1);
  apex(world, "example.com", "ns2.example.com", NS2);

  world_zone(world, "provider.net", 600, 60, "ns.provider.net");
  world_serve(world, PROVIDER, "provider.net");
  delegate(world, "net", "provider.net", "ns.provider.net", PROVIDER);
  apex(world, "provider.net", "ns.provider.net", PROVIDER);
}

/* A domain at the two name servers of example.com. */
static inline void add_domain(struct world *world, const char *zone) {
  world_zone(world, zone, 60, 60, "ns1.example.com");
  world_serve(world, NS1, zone);
  world_serve(world, NS2, zone);
  delegate(world, "com", zone, "ns1.example.com", NULL);
  delegate(world, "com", zone, "ns2.example.com", NULL);
  apex(world, zone, "ns1.example.com", NULL);
  apex(world, zone, "ns2.example.com", NULL);
}

/* --- looking back --- */

/* How often was that server asked that? NULL and 0: any. */
static inline size_t world_count(const struct world *world, const char *server, const char *name, uint16_t type) {
  size_t count = 0;
  for (size_t i = 0; i < world->query_count; i++) {
    const struct world_query *query = &world->queries[i];
    count += (!server || text_equal(query->server->text, server)) && (!name || text_equal(query->name, name)) &&
             (type == 0 || query->type == type);
  }
  return count;
}

/* Resolvers hear of domains and name servers only. */
static inline void world_assert_discretion(const struct world *world) {
  for (size_t i = 0; i < world->query_count; i++) {
    const struct world_query *query = &world->queries[i];
    if (!query->recursive) continue;
    if (strstr(query->name, "_domainkey")) fail_msg("a resolver was asked for %s", query->name);
    assert_true(query->type == DNS_TYPE_SOA || query->type == DNS_TYPE_NS || query->type == DNS_TYPE_A ||
                query->type == DNS_TYPE_AAAA);
  }
}

#endif
