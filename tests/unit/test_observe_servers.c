/* Discovery and observation against real name servers: a root, a top domain "test", zones at named and knotd, and named
 * as a resolver that knows nothing but the address of that root. Delegations know only port 53, so all of it lives in a
 * network of its own (network_namespaces(7)), in which every port is free and nothing has a route to elsewhere. Skipped
 * where this process may not make one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/observe.h"
#include "dkimroll/publisher.h"
#include "dkimroll/text.h"
#include "servers.h"

#define RECORD "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
#define OTHER "v=DKIM1; k=ed25519; p=SomebodyElse"
#define HEAD(ttl) "$TTL " ttl "\n@ SOA ns1.plain.test. hostmaster.test. 1 3600 600 86400 300\n"
#define PLAIN_NAME "sel._domainkey.plain.test"

enum { ROOT, TOP, NAMED, KNOTD, PROVIDER, RESOLVER, HOSTS };
enum { DEADLINE_MS = 30000, WAIT_MS = 20000, PAUSE_MS = 50, PORT = 53 };

/* Host i has the address 192.0.2.(i + 1). */
static const struct server_setup SETUPS[HOSTS] = {
    [ROOT] = {.kind = SERVER_NAMED,
              .config = "zone \".\" { type primary; file \"root\"; };\n",
              .files = {{"root",
                         HEAD("3600") "@ NS a.root.\na.root. A 192.0.2.1\ntest. NS ns.test.\nns.test. A 192.0.2.2\n"}},
              .zone = ""},
    [TOP] = {.kind = SERVER_NAMED,
             .config = "zone \"test\" { type primary; file \"test\"; };\n",
             .files = {{"test", HEAD("3600") "@ NS ns\nns A 192.0.2.2\n"
                                             "plain NS ns1.plain\nplain NS ns2.plain\n"
                                             "ns1.plain A 192.0.2.3\nns2.plain A 192.0.2.4\n"
                                             "customer NS ns1.plain\nwild NS ns1.plain\ntexts NS ns1.plain\n"
                                             "signed NS ns1.plain\nksigned NS ns2.plain\nloop NS ns1.plain\n"
                                             "deleg NS ns1.plain\n"
                                             "provider NS ns.provider\nns.provider A 192.0.2.5\n"}},
             .zone = "test"},
    [NAMED] = {.kind = SERVER_NAMED,
               .config = "zone \"plain.test\" { type primary; file \"plain\"; allow-update { any; }; notify no; };\n"
                         "zone \"customer.test\" { type primary; file \"customer\"; };\n"
                         "zone \"wild.test\" { type primary; file \"wild\"; };\n"
                         "zone \"texts.test\" { type primary; file \"texts\"; };\n"
                         "zone \"loop.test\" { type primary; file \"loop\"; };\n"
                         "zone \"deleg.test\" { type primary; file \"deleg\"; };\n"
                         "zone \"signed.test\" { type primary; file \"signed\"; dnssec-policy default;"
                         " inline-signing yes; };\n",
               .options = "minimal-responses yes; allow-transfer { any; };",
               .files = {{"plain", HEAD("60") "@ NS ns1\n@ NS ns2\n@ NS ns.provider.test.\nns1 A 192.0.2.3\nns1 AAAA "
                                              "2001:db8::3\nns2 A 192.0.2.4\n"},
                         {"customer",
                          HEAD("60") "@ NS ns1.plain.test.\n_domainkey 1800 DNAME c1.dkim.provider.test.\n"},
                         {"wild", HEAD("60") "@ NS ns1.plain.test.\n*._domainkey 900 CNAME key.provider.test.\n"},
                         {"texts", HEAD("60") "@ NS ns1.plain.test.\n* 86400 TXT \"v=spf1 -all\"\n* 86400 TXT two\n"
                                              "sel._domainkey TXT \"" OTHER "\"\n"},
                         {"loop", HEAD("60") "@ NS ns1.plain.test.\na._domainkey CNAME b._domainkey\n"
                                             "b._domainkey CNAME a._domainkey\n"},
                         {"deleg", HEAD("60") "@ NS ns1.plain.test.\n_domainkey NS ns.provider.test.\n"},
                         {"signed", HEAD("60") "@ NS ns1.plain.test.\nsel._domainkey TXT \"" RECORD "\"\n"}},
               .zone = "plain.test"},
    [KNOTD] = {.kind = SERVER_KNOTD,
               .config =
                   "remote:\n  - id: primary\n    address: 192.0.2.3@53\n"
                   "policy:\n  - id: fast\n    algorithm: ecdsap256sha256\n"
                   "zone:\n  - domain: plain.test\n    master: primary\n"
                   "  - domain: dkim.provider.test\n    file: dkim\n"
                   "  - domain: ksigned.test\n    file: ksigned\n    dnssec-signing: on\n    dnssec-policy: fast\n",
               .files = {{"dkim", HEAD("60") "@ NS ns.dkim\nns.dkim A 192.0.2.4\nsel.c1 TXT \"" RECORD "\"\n"},
                         {"ksigned", HEAD("60") "@ NS ns2.plain.test.\nsel._domainkey TXT \"" RECORD "\"\n"}},
               .zone = "plain.test"},
    [PROVIDER] = {.kind = SERVER_NAMED,
                  .config = "zone \"provider.test\" { type primary; file \"provider\"; };\n"
                            "zone \"_domainkey.deleg.test\" { type primary; file \"keys\"; };\n",
                  .files = {{"provider", HEAD("60") "@ NS ns\nns A 192.0.2.5\ndkim NS ns.dkim\nns.dkim A 192.0.2.4\n"
                                                    "key TXT \"" RECORD "\"\n"},
                            {"keys", HEAD("60") "@ NS ns.provider.test.\nsel TXT \"" RECORD "\"\n"}},
                  .zone = "provider.test"},
    /* A zone of its own only to see that it is up. */
    [RESOLVER] = {.kind = SERVER_NAMED,
                  .config = "view \"all\" {\n  recursion yes; allow-recursion { any; };\n"
                            "  zone \".\" { type hint; file \"hints\"; };\n"
                            "  zone \"up.invalid\" { type primary; file \"up\"; };\n};\n",
                  .options = "querylog yes;",
                  .files = {{"hints", ". 3600 NS a.root.\na.root. 3600 A 192.0.2.1\n"},
                            {"up", HEAD("60") "@ NS a.root.\n"}},
                  .zone = "up.invalid"},
};

struct stage {
  bool usable; /* the network could be made */
  struct server servers[HOSTS];
  char addresses[HOSTS][ADDRESS_TEXT_SIZE];
  struct loop *loop;
  struct transport *transport;
  struct observer *observer;
  struct policy_publisher publisher;
  char *resolvers[1];
  struct observe_result result;
  struct observe_server found[OBSERVE_SERVERS_MAX];
  int code;
};

static void add_address(int descriptor, int host) {
  struct ifreq request = {0};
  struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000201u + (uint32_t)host)};
  snprintf(request.ifr_name, sizeof request.ifr_name, "lo:%d", host + 1);
  memcpy(&request.ifr_addr, &in, sizeof in);
  assert_int_equal(ioctl(descriptor, SIOCSIFADDR, &request), 0);
}

static bool make_network(void) {
  struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
  CLEANUP_CLOSE int descriptor = -1;
  if (unshare(CLONE_NEWNET) < 0) return false;
  descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0 || ioctl(descriptor, SIOCSIFFLAGS, &request) < 0) return false;
  for (int host = 0; host < HOSTS; host++) add_address(descriptor, host);
  return true;
}

static void start_server(struct stage *stage, int host) {
  struct server_setup setup = SETUPS[host];
  char address[INET_ADDRSTRLEN];
  snprintf(address, sizeof address, "192.0.2.%d", host + 1);
  setup.address = address;
  setup.port = PORT;
  server_start(&stage->servers[host], &setup);
  text_copy(stage->addresses[host], ADDRESS_TEXT_SIZE, stage->servers[host].text);
}

static int group_setup(void **state) {
  static char name[] = "primary";
  struct stage *stage = calloc(1, sizeof *stage);
  struct error error = {0};
  assert_non_null(stage);
  *state = stage;
  stage->usable = make_network();
  if (!stage->usable) return 0;
  for (int host = 0; host < HOSTS; host++) start_server(stage, host);
  stage->resolvers[0] = stage->addresses[RESOLVER];
  stage->publisher = (struct policy_publisher){.name = name, .resolvers = stage->resolvers, .resolver_count = 1};
  assert_int_equal(loop_sd_event_new(&stage->loop, &error), 0);
  assert_int_equal(transport_sockets_new(stage->loop, &stage->transport, &error), 0);
  assert_int_equal(observer_dns_new(stage->loop, stage->transport, &entropy_system, &stage->observer, &error), 0);
  return 0;
}

static int group_teardown(void **state) {
  struct stage *stage = *state;
  if (stage->usable) {
    observer_destroy(stage->observer);
    transport_destroy(stage->transport);
    loop_destroy(stage->loop);
    for (int host = 0; host < HOSTS; host++) server_stop(&stage->servers[host]);
  }
  free(stage);
  return 0;
}

static struct stage *stage_of(void **state) {
  struct stage *stage = *state;
  if (!stage->usable) {
    print_message("no right to make a network namespace\n");
    skip();
  }
  return stage;
}

static void observed(void *context, const struct observe_result *results, size_t count) {
  struct stage *stage = context;
  assert_int_equal(count, 1);
  stage->result = results[0];
  stage->result.servers = stage->found;
  if (results[0].server_count > 0)
    memcpy(stage->found, results[0].servers, results[0].server_count * sizeof stage->found[0]);
  loop_stop(stage->loop);
}

/* One round. A round after a change asks anew who the servers are, for those are the same. */
static const struct observe_result *look(struct stage *stage, enum observe_kind kind, const char *name,
                                         const char *record) {
  const struct observe_item item = {.name = name, .record = record, .publisher = &stage->publisher};
  struct observe_operation *operation = NULL;
  struct error error = {0};
  assert_int_equal(observer_start(stage->observer, kind, &item, 1, loop_boottime(stage->loop) + DEADLINE_MS, observed,
                                  stage, &operation, &error),
                   0);
  assert_int_equal(loop_run(stage->loop, &error), 0);
  return &stage->result;
}

static const struct observe_server *server_of(const struct stage *stage, int host) {
  for (size_t i = 0; i < stage->result.server_count; i++)
    if (text_equal(stage->found[i].address, stage->addresses[host])) return &stage->found[i];
  fail_msg("%s is not among the servers of %s: %s", stage->addresses[host], stage->result.zone,
           stage->result.error.message);
  abort();
}

static void assert_says(const struct stage *stage, int host, enum observe_verdict verdict, const char *answer) {
  const struct observe_server *server = server_of(stage, host);
  if (server->verdict != verdict || !text_equal(server->answer, answer))
    fail_msg("%s (%s): verdict %d, \"%s\"", server->host, server->address, (int)server->verdict, server->answer);
}

static void stop(void *context) {
  loop_stop(context);
}

static void take_a_breath(struct stage *stage) {
  struct error error = {0};
  assert_int_equal(loop_at(stage->loop, loop_boottime(stage->loop) + PAUSE_MS, stop, stage->loop, NULL), 0);
  assert_int_equal(loop_run(stage->loop, &error), 0);
}

/* Looks until the server is right: signing and transfers take their time. */
static void look_until_right(struct stage *stage, const char *name, int host) {
  const int64_t end = loop_boottime(stage->loop) + WAIT_MS;
  do {
    look(stage, OBSERVE_PRESENT, name, RECORD);
    if (!stage->result.error.code && server_of(stage, host)->verdict == OBSERVE_RIGHT) return;
    take_a_breath(stage);
  } while (loop_boottime(stage->loop) < end);
  server_print_log(&stage->servers[host]);
  fail_msg("%s: %s", stage->result.error.message, server_of(stage, host)->answer);
}

static void published(void *context, const struct publish_result *results, size_t count) {
  struct stage *stage = context;
  assert_int_equal(count, 1);
  if (results[0].error.code) print_message("%s\n", results[0].error.message);
  stage->code = results[0].error.code;
  loop_stop(stage->loop);
}

/* Adds the record of plain.test at named, its primary. */
static void publish(struct stage *stage) {
  const struct publish_item item = {.change = PUBLISH_ADD, .name = PLAIN_NAME, .record = RECORD, .ttl = 60};
  struct publisher *publisher = NULL;
  struct publish_operation *operation = NULL;
  struct error error = {0};
  assert_int_equal(
      publisher_rfc2136_new(stage->loop, stage->transport, &entropy_system, &stage->publisher, &publisher, &error), 0);
  assert_int_equal(publisher_start(publisher, &item, 1, loop_boottime(stage->loop) + DEADLINE_MS, published, stage,
                                   &operation, &error),
                   0);
  assert_int_equal(loop_run(stage->loop, &error), 0);
  assert_int_equal(stage->code, 0);
  publisher_destroy(publisher);
}

/* --- one record, from nobody knows it to everybody serves it --- */

static void test_observe_servers__record_spreads_from_named_to_knotd(void **state) {
  struct stage *stage = stage_of(state);
  const struct observe_result *result = look(stage, OBSERVE_SURVEY, PLAIN_NAME, NULL);
  assert_int_equal(result->error.code, 0);
  assert_string_equal(result->zone, "plain.test");
  assert_string_equal(result->primary, "ns1.plain.test");
  assert_true(result->free);
  assert_int_equal(result->ttl_negative, 60); /* $TTL 60 is the SOA's, its MINIMUM is 300 */
  assert_int_equal(result->ttl_old, -1);
  /* Parent and apex agree on two; the third is named by the apex alone, and does not serve the zone. */
  assert_int_equal(result->server_count, 4);
  assert_string_equal(server_of(stage, KNOTD)->host, "ns2.plain.test");
  assert_says(stage, NAMED, OBSERVE_RIGHT, "NXDOMAIN");
  assert_says(stage, KNOTD, OBSERVE_RIGHT, "NXDOMAIN");
  assert_says(stage, PROVIDER, OBSERVE_SILENT, "REFUSED");
  for (size_t i = 0; i < result->server_count; i++) {
    if (!text_equal(result->servers[i].address, "[2001:db8::3]:53")) continue;
    assert_string_equal(result->servers[i].host, "ns1.plain.test");
    assert_int_equal(result->servers[i].verdict, OBSERVE_NO_ROUTE);
  }

  publish(stage); /* finds zone and primary by itself */
  look(stage, OBSERVE_PRESENT, PLAIN_NAME, RECORD);
  assert_says(stage, NAMED, OBSERVE_RIGHT, RECORD);
  assert_int_equal(server_of(stage, NAMED)->ttl, 60);
  assert_says(stage, KNOTD, OBSERVE_WRONG, "NXDOMAIN"); /* named was told not to notify it */

  server_stop(&stage->servers[KNOTD]);
  look(stage, OBSERVE_PRESENT, PLAIN_NAME, RECORD);
  assert_says(stage, NAMED, OBSERVE_RIGHT, RECORD);
  assert_says(stage, KNOTD, OBSERVE_SILENT, "Connection refused");

  start_server(stage, KNOTD);
  look_until_right(stage, PLAIN_NAME, KNOTD);
  assert_says(stage, NAMED, OBSERVE_RIGHT, RECORD);
  look(stage, OBSERVE_ABSENT, PLAIN_NAME, RECORD);
  assert_says(stage, KNOTD, OBSERVE_WRONG, RECORD);
  look(stage, OBSERVE_SURVEY, PLAIN_NAME, NULL);
  assert_false(stage->result.free);
  assert_string_equal(stage->result.foreign, RECORD);
}

/* --- aliases and delegations --- */

static void test_observe_servers__dname_of_a_customer_leads_to_the_zone_of_the_provider(void **state) {
  struct stage *stage = stage_of(state);
  const struct observe_result *result = look(stage, OBSERVE_PRESENT, "sel._domainkey.customer.test", RECORD);
  assert_int_equal(result->error.code, 0);
  assert_string_equal(result->zone, "dkim.provider.test");
  assert_string_equal(result->owner, "sel.c1.dkim.provider.test");
  assert_int_equal(result->server_count, 1);
  assert_says(stage, KNOTD, OBSERVE_RIGHT, RECORD);
  result = look(stage, OBSERVE_SURVEY, "new._domainkey.customer.test", NULL);
  assert_true(result->free);
  assert_int_equal(result->ttl_old, 1800);
}

static void test_observe_servers__wildcard_cname_leads_to_one_name(void **state) {
  struct stage *stage = stage_of(state);
  const struct observe_result *result = look(stage, OBSERVE_PRESENT, "sel._domainkey.wild.test", RECORD);
  assert_int_equal(result->error.code, 0);
  assert_string_equal(result->zone, "provider.test");
  assert_string_equal(result->owner, "key.provider.test");
  assert_says(stage, PROVIDER, OBSERVE_RIGHT, RECORD);
}

static void test_observe_servers__delegated_domainkey_is_asked_at_its_servers(void **state) {
  struct stage *stage = stage_of(state);
  const struct observe_result *result = look(stage, OBSERVE_PRESENT, "sel._domainkey.deleg.test", RECORD);
  assert_int_equal(result->error.code, 0);
  assert_string_equal(result->zone, "_domainkey.deleg.test");
  assert_int_equal(result->server_count, 1);
  assert_says(stage, PROVIDER, OBSERVE_RIGHT, RECORD);
}

static void test_observe_servers__loop_of_aliases_is_named(void **state) {
  struct stage *stage = stage_of(state);
  const struct observe_result *result = look(stage, OBSERVE_PRESENT, "a._domainkey.loop.test", RECORD);
  assert_int_equal(result->error.code, ERROR_LIMIT);
  assert_non_null(
      strstr(result->error.message, "a._domainkey.loop.test -> b._domainkey.loop.test -> a._domainkey.loop.test"));
}

static void test_observe_servers__domain_that_does_not_exist_is_said(void **state) {
  struct stage *stage = stage_of(state);
  const struct observe_result *result = look(stage, OBSERVE_SURVEY, "sel._domainkey.nowhere.test", NULL);
  assert_int_equal(result->error.code, ERROR_NOT_FOUND);
  assert_non_null(strstr(result->error.message, "no such domain"));
}

/* --- wildcards and signatures --- */

static void test_observe_servers__wildcard_text_is_free_and_old(void **state) {
  struct stage *stage = stage_of(state);
  const struct observe_result *result = look(stage, OBSERVE_SURVEY, "new.texts.test", NULL);
  assert_int_equal(result->error.code, 0);
  assert_true(result->free);
  assert_int_equal(result->ttl_old, 86400);
  result = look(stage, OBSERVE_SURVEY, "sel._domainkey.texts.test", NULL);
  assert_false(result->free);
  assert_string_equal(result->foreign, OTHER);
  look(stage, OBSERVE_PRESENT, "new.texts.test", RECORD);
  assert_says(stage, NAMED, OBSERVE_WRONG, "2 TXT records");
}

static void test_observe_servers__zones_signed_by_named_and_knotd_are_right_with_their_signatures(void **state) {
  struct stage *stage = stage_of(state);
  look_until_right(stage, "sel._domainkey.signed.test", NAMED);
  look_until_right(stage, "sel._domainkey.ksigned.test", KNOTD);
  const struct observe_result *result = look(stage, OBSERVE_SURVEY, "new._domainkey.ksigned.test", NULL);
  assert_true(result->free);
  assert_in_range(result->ttl_old, 1, 300); /* of the NSEC */
}

/* --- servers that the policy gives --- */

static void test_observe_servers__given_servers_need_no_resolver(void **state) {
  struct stage *stage = stage_of(state);
  static char nobody[] = "127.0.0.1:9";
  char *servers[] = {stage->addresses[NAMED], stage->addresses[KNOTD]}, *resolvers[] = {nobody};
  const struct policy_publisher before = stage->publisher;
  stage->publisher.servers = servers;
  stage->publisher.server_count = 2;
  stage->publisher.resolvers = resolvers;
  look_until_right(stage, PLAIN_NAME, KNOTD);
  assert_string_equal(stage->result.zone, "plain.test");
  assert_int_equal(stage->result.server_count, 2);
  assert_string_equal(stage->found[0].host, stage->addresses[NAMED]);
  stage->publisher = before;
}

static void test_observe_servers__resolver_never_hears_of_a_selector(void **state) {
  struct stage *stage = stage_of(state);
  assert_true(server_logged(&stage->servers[RESOLVER], "query: plain.test IN NS"));
  assert_false(server_logged(&stage->servers[RESOLVER], "_domainkey"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_observe_servers__record_spreads_from_named_to_knotd),
      cmocka_unit_test(test_observe_servers__dname_of_a_customer_leads_to_the_zone_of_the_provider),
      cmocka_unit_test(test_observe_servers__wildcard_cname_leads_to_one_name),
      cmocka_unit_test(test_observe_servers__delegated_domainkey_is_asked_at_its_servers),
      cmocka_unit_test(test_observe_servers__loop_of_aliases_is_named),
      cmocka_unit_test(test_observe_servers__domain_that_does_not_exist_is_said),
      cmocka_unit_test(test_observe_servers__wildcard_text_is_free_and_old),
      cmocka_unit_test(test_observe_servers__zones_signed_by_named_and_knotd_are_right_with_their_signatures),
      cmocka_unit_test(test_observe_servers__given_servers_need_no_resolver),
      cmocka_unit_test(test_observe_servers__resolver_never_hears_of_a_selector),
  };
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
