#include "dns_look.h"

#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/entropy.h"
#include "dkimroll/observe.h"
#include "dns_net.h"

#define RECORD "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
#define NAME "s1._domainkey.example.com"

enum { DEADLINE_MS = 60000, GIVES_SERVERS = 4, GIVES_ZONE = 8 };

struct look {
  struct dns_script script;
  struct dns_net *net;
  enum observe_kind kind;
  unsigned ended;
};

static bool is_printable(const char *text, size_t size) {
  for (size_t i = 0; i < size && text[i]; i++)
    if ((unsigned char)text[i] < ' ' || (unsigned char)text[i] >= 0x7f) return false;
  return true;
}

static void expect_server(const struct look *look, const struct observe_server *server) {
  FUZZ_HOLDS(server->verdict >= OBSERVE_RIGHT && server->verdict <= OBSERVE_NO_ROUTE, "verdict %d of %s",
             (int)server->verdict, server->host);
  FUZZ_HOLDS(is_printable(server->host, sizeof server->host), "host %s", server->host);
  FUZZ_HOLDS(is_printable(server->answer, sizeof server->answer), "answer %s", server->answer);
  FUZZ_HOLDS(memchr(server->answer, '\0', sizeof server->answer), "an answer without an end");
  FUZZ_HOLDS(server->ttl >= -1 && server->ttl <= INT32_MAX, "a TTL out of range");
  FUZZ_HOLDS(server->ttl_negative >= -1, "a TTL out of range");
  if (look->kind != OBSERVE_PRESENT || server->verdict != OBSERVE_RIGHT) return;
  FUZZ_HOLDS(look->script.record_was_said, "%s is right, but nobody said the record", server->host);
  FUZZ_HOLDS(server->served_size == strlen(RECORD) && memcmp(server->served, RECORD, server->served_size) == 0,
             "%s is right with another record", server->host);
}

static void look_done(void *context, const struct observe_result *results, size_t count) {
  struct look *look = context;
  struct loop *loop = dns_net_loop(look->net);
  FUZZ_HOLDS(++look->ended == 1, "done came %u times", look->ended);
  FUZZ_HOLDS(count == 1, "%zu results for one item", count);
  FUZZ_HOLDS(loop_boottime(loop) <= DNS_NET_BOOT + DEADLINE_MS, "done came after the deadline");
  const struct observe_result *result = &results[0];
  if (result->error.code < 0) fuzz_expect_error(result->error.code, &result->error);
  FUZZ_HOLDS(result->server_count <= OBSERVE_SERVERS_MAX, "%zu servers", result->server_count);
  FUZZ_HOLDS(is_printable(result->zone, sizeof result->zone), "zone %s", result->zone);
  FUZZ_HOLDS(is_printable(result->owner, sizeof result->owner), "owner %s", result->owner);
  FUZZ_HOLDS(is_printable(result->foreign, sizeof result->foreign), "foreign %s", result->foreign);
  for (size_t i = 0; i < result->server_count; i++) expect_server(look, &result->servers[i]);
  loop_stop(loop);
}

static void look_start(struct look *look, struct observer *observer, uint8_t options) {
  static char *servers[] = {"192.0.2.1", "2001:db8::2"};
  static char *resolvers[] = {"192.0.2.53"};
  const struct policy_publisher publisher = {.name = "primary",
                                             .type = PUBLISHER_RFC2136,
                                             .servers = servers,
                                             .server_count = options & GIVES_SERVERS ? ARRAY_SIZE(servers) : 0,
                                             .zone = options & GIVES_ZONE ? "example.com" : NULL,
                                             .resolvers = resolvers,
                                             .resolver_count = ARRAY_SIZE(resolvers)};
  const struct observe_item item = {
      .name = NAME, .record = look->kind == OBSERVE_SURVEY ? NULL : RECORD, .publisher = &publisher};
  struct observe_operation *operation = NULL;
  struct error error = {0};
  FUZZ_HOLDS(observer_start(observer, look->kind, &item, 1, DNS_NET_BOOT + DEADLINE_MS, look_done, look, &operation,
                            &error) == 0,
             "%s", error.message);
  FUZZ_HOLDS(look->ended == 0, "done came from inside start");
  FUZZ_HOLDS(loop_run(dns_net_loop(look->net), &error) == 0, "%s", error.message);
  FUZZ_HOLDS(look->ended == 1, "done did not come");
}

void dns_look_run(struct fuzz_input input, bool sockets) {
  static const enum observe_kind kinds[] = {OBSERVE_PRESENT, OBSERVE_SURVEY, OBSERVE_ABSENT, OBSERVE_PRESENT};
  struct look look = {.script = {.record = RECORD}};
  struct entropy_seeded random;
  struct observer *observer = NULL;
  struct error error = {0};
  const uint8_t options = fuzz_take_u8(&input);
  look.kind = kinds[options & 3];
  dns_script_read(&look.script, input);
  dns_net_open(&look.script, sockets, &look.net);
  entropy_seed(&random, 7);
  FUZZ_HOLDS(
      observer_dns_new(dns_net_loop(look.net), dns_net_transport(look.net), &random.entropy, &observer, &error) == 0,
      "%s", error.message);
  look_start(&look, observer, options);
  observer_destroy(observer);
  dns_net_close(look.net);
}
