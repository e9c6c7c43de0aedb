/* The socket transport over UDP, and what UDP and TCP have in common; each test over the virtual loop and over sd-event. */
#include "transport_rig.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"

enum { MANY = 3000 };

static const enum transport_protocol protocols[] = {TRANSPORT_UDP, TRANSPORT_TCP};

static void test_transport__message_goes_there_and_its_answer_comes_back(void **state) {
  static const char *const addresses[] = {"127.0.0.1", "::1"};
  for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
    struct rig rig;
    struct loopback server;
    struct rig_call calls[2] = {{.id = 0x1234}, {.id = 0xffff}};
    rig_open_for(&rig, state);
    loopback_open(&server, rig.loop, addresses[i], rig_echo, NULL);
    for (size_t p = 0; p < 2; p++) rig_send(&rig, &calls[p], server.text, protocols[p]);
    rig_run(&rig);
    for (size_t p = 0; p < 2; p++) {
      rig_assert_answered(&calls[p]);
      assert_int_equal(calls[p].offered, 1);
      assert_int_equal(calls[p].answer_size, RIG_MESSAGE_SIZE);
    }
    loopback_close(&server);
    rig_close(&rig);
  }
}

static void test_transport__without_answer_the_deadline_ends_it(void **state) {
  for (size_t p = 0; p < 2; p++) {
    struct rig rig;
    struct loopback server;
    struct rig_call call = {.id = 1};
    rig_open_for(&rig, state);
    loopback_open(&server, rig.loop, "127.0.0.1", rig_mute, NULL);
    int64_t start = loop_boottime(rig.loop);
    rig.deadline_ms = 300;
    rig_send(&rig, &call, server.text, protocols[p]);
    rig_run(&rig);
    rig_assert_failed(&call, ERROR_TIMEOUT, "did not answer in time");
    assert_non_null(strstr(call.result.message, server.text));
    assert_true(call.result.retryable);
    assert_true(loop_boottime(rig.loop) >= start + 300);
    assert_true(loop_boottime(rig.loop) < start + 5000);
    loopback_close(&server);
    rig_close(&rig);
  }
}

static void test_transport__refused_port_is_unreachable_at_once(void **state) {
  for (size_t p = 0; p < 2; p++) {
    struct rig rig;
    struct rig_call call = {.id = 1};
    char server[32];
    int descriptor = -1;
    uint16_t port = rig_refused_port(&descriptor);
    snprintf(server, sizeof server, "127.0.0.1:%u", port);
    rig_open_for(&rig, state);
    int64_t start = loop_boottime(rig.loop);
    rig_send(&rig, &call, server, protocols[p]);
    rig_run(&rig);
    rig_assert_failed(&call, ERROR_UNREACHABLE, server);
    assert_true(call.result.retryable);
    assert_true(loop_boottime(rig.loop) < start + RIG_DEADLINE_MS / 2);
    close(descriptor);
    rig_close(&rig);
  }
}

/* A network namespace of one's own has not even loopback up: no route to anything. */
static void test_transport__family_without_route_is_told_apart(void **state) {
  static const char *const servers[] = {"127.0.0.1", "192.0.2.1", "2001:db8::1"};
  CLEANUP_CLOSE int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  if (home < 0 || unshare(CLONE_NEWNET) < 0) skip();
  struct rig_call calls[6];
  memset(calls, 0, sizeof calls);
  struct rig rig;
  rig_open_for(&rig, state);
  for (size_t i = 0; i < 6; i++) rig_send(&rig, &calls[i], servers[i / 2], protocols[i % 2]);
  rig_run(&rig);
  rig_close(&rig);
  assert_int_equal(setns(home, CLONE_NEWNET), 0);
  for (size_t i = 0; i < 6; i++) {
    rig_assert_failed(&calls[i], ERROR_NO_ROUTE, "no route");
    assert_non_null(strstr(calls[i].result.remedy, i / 2 == 2 ? "IPv6" : "IPv4"));
  }
}

static void test_transport__request_that_cannot_be_is_refused(void **state) {
  static uint8_t octets[TRANSPORT_MESSAGE_MAX + 1];
  struct rig rig;
  struct transport_exchange *exchange = NULL;
  rig_open_for(&rig, state);
  const struct transport_request good = {.protocol = TRANSPORT_UDP, .octets = octets, .size = 12};
  struct transport_request request = good;
  assert_int_equal(transport_exchange(rig.transport, &request, rig_accept, rig_done, NULL, &exchange, NULL),
                   ERROR_INVALID); /* no address */
  assert_int_equal(address_parse("127.0.0.1", 53, &request.address, NULL), 0);
  request.size = 11;
  assert_int_equal(transport_exchange(rig.transport, &request, rig_accept, rig_done, NULL, &exchange, NULL),
                   ERROR_INVALID);
  request.size = sizeof octets;
  assert_int_equal(transport_exchange(rig.transport, &request, rig_accept, rig_done, NULL, &exchange, NULL),
                   ERROR_INVALID);
  request.size = 12;
  request.protocol = 0;
  assert_int_equal(transport_exchange(rig.transport, &request, rig_accept, rig_done, NULL, &exchange, NULL),
                   ERROR_INVALID);
  assert_null(exchange);
  rig_close(&rig);
}

/* Answers twice: with a last octet that says no, and one that says yes. */
static void hear_no_and_yes(void *context, struct loopback_peer *peer, const uint8_t *octets, size_t size) {
  uint8_t reply[RIG_MESSAGE_SIZE];
  (void)context;
  memcpy(reply, octets, size);
  reply[size - 1] = 'n';
  loopback_reply(peer, reply, size);
  reply[size - 1] = 'y';
  loopback_reply(peer, reply, size);
}

static bool accept_yes(struct rig_call *call) {
  return call->answer[RIG_MESSAGE_SIZE - 1] == 'y';
}

static bool accept_nothing(struct rig_call *call) {
  (void)call;
  return false;
}

static void test_transport__answer_that_is_not_accepted_is_ignored(void **state) {
  struct rig rig;
  struct loopback server;
  struct rig_call calls[] = {{.id = 1, .accept_hook = accept_yes}, {.id = 2, .accept_hook = accept_yes}};
  rig_open_for(&rig, state);
  loopback_open(&server, rig.loop, "127.0.0.1", hear_no_and_yes, NULL);
  for (size_t p = 0; p < 2; p++) rig_send(&rig, &calls[p], server.text, protocols[p]);
  rig_run(&rig);
  for (size_t p = 0; p < 2; p++) {
    rig_assert_answered(&calls[p]);
    assert_int_equal(calls[p].offered, 2);
  }
  loopback_close(&server);
  rig_close(&rig);
}

static void test_transport__timeout_says_that_answers_came_but_were_not_accepted(void **state) {
  struct rig rig;
  struct loopback server;
  struct rig_call calls[] = {{.id = 1, .accept_hook = accept_nothing}, {.id = 2, .accept_hook = accept_nothing}};
  rig_open_for(&rig, state);
  rig.deadline_ms = 300;
  loopback_open(&server, rig.loop, "127.0.0.1", rig_echo, NULL);
  for (size_t p = 0; p < 2; p++) rig_send(&rig, &calls[p], server.text, protocols[p]);
  rig_run(&rig);
  for (size_t p = 0; p < 2; p++) rig_assert_failed(&calls[p], ERROR_TIMEOUT, "nothing that can be accepted");
  loopback_close(&server);
  rig_close(&rig);
}

/* Other ids, scraps, and a datagram from another port before the answer. */
static void hear_noise_first(void *context, struct loopback_peer *peer, const uint8_t *octets, size_t size) {
  uint8_t reply[RIG_MESSAGE_SIZE];
  (void)context;
  memcpy(reply, octets, size);
  reply[1] ^= 1;
  loopback_reply(peer, reply, size);
  reply[1] ^= 1;
  loopback_reply(peer, reply, 11);
  loopback_reply(peer, reply, 2);
  loopback_reply(peer, reply, 0);
  if (peer->source_size) {
    CLEANUP_CLOSE int stranger = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sendto(stranger, reply, size, 0, (struct sockaddr *)&peer->source, peer->source_size);
  }
  loopback_reply(peer, octets, size);
}

static void test_transport__messages_that_are_no_answers_are_not_offered(void **state) {
  struct rig rig;
  struct loopback server;
  struct rig_call calls[] = {{.id = 1}, {.id = 2}};
  rig_open_for(&rig, state);
  loopback_open(&server, rig.loop, "127.0.0.1", hear_noise_first, NULL);
  for (size_t p = 0; p < 2; p++) rig_send(&rig, &calls[p], server.text, protocols[p]);
  rig_run(&rig);
  for (size_t p = 0; p < 2; p++) {
    rig_assert_answered(&calls[p]);
    assert_int_equal(calls[p].offered, 1);
    assert_int_equal(calls[p].answer_size, RIG_MESSAGE_SIZE);
  }
  loopback_close(&server);
  rig_close(&rig);
}

/* Notes from which port each datagram came. */
struct ports {
  in_port_t seen[64];
  size_t count;
};

static void hear_port(void *context, struct loopback_peer *peer, const uint8_t *octets, size_t size) {
  struct ports *ports = context;
  ports->seen[ports->count++] = ((struct sockaddr_in *)&peer->source)->sin_port;
  loopback_reply(peer, octets, size);
}

static void test_transport__udp_takes_a_fresh_port_each_time(void **state) {
  struct rig rig;
  struct loopback server;
  struct ports ports = {.count = 0};
  rig_open_for(&rig, state);
  loopback_open(&server, rig.loop, "127.0.0.1", hear_port, &ports);
  for (uint16_t i = 0; i < 20; i++) {
    struct rig_call call = {.id = i};
    rig_send(&rig, &call, server.text, TRANSPORT_UDP);
    rig_run(&rig);
    rig_assert_answered(&call);
  }
  size_t repeated = 0;
  for (size_t i = 0; i < ports.count; i++)
    for (size_t j = 0; j < i; j++) repeated += ports.seen[i] == ports.seen[j];
  assert_int_equal(ports.count, 20);
  assert_true(repeated < 3); /* of some 28,000 ports, 190 pairs: three are less likely than 1 in 10^6 */
  loopback_close(&server);
  rig_close(&rig);
}

/* Keeps what it hears until all that may be open at once is, and a while longer, in which one too many would come. */
struct pool {
  struct loopback_peer peers[TRANSPORT_UDP_SOCKETS_MAX];
  uint8_t octets[TRANSPORT_UDP_SOCKETS_MAX][RIG_MESSAGE_SIZE];
  size_t count, heard;
  struct loop *loop;
};

static void pool_answer(void *context) {
  struct pool *pool = context;
  size_t count = pool->count;
  pool->count = 0;
  for (size_t i = 0; i < count; i++) loopback_reply(&pool->peers[i], pool->octets[i], RIG_MESSAGE_SIZE);
}

static void pool_hear(void *context, struct loopback_peer *peer, const uint8_t *octets, size_t size) {
  struct pool *pool = context;
  assert_true(pool->count < TRANSPORT_UDP_SOCKETS_MAX);
  assert_int_equal(size, RIG_MESSAGE_SIZE);
  pool->peers[pool->count] = *peer;
  memcpy(pool->octets[pool->count++], octets, size);
  pool->heard++;
  if (pool->count == TRANSPORT_UDP_SOCKETS_MAX || pool->heard == MANY)
    assert_int_equal(loop_at(pool->loop, loop_boottime(pool->loop) + 50, pool_answer, pool, NULL), 0);
}

static void test_transport__thousands_over_udp_take_turns_at_the_sockets(void **state) {
  static struct pool pool;
  struct rig rig;
  struct loopback server;
  struct rig_call *calls = calloc(MANY, sizeof *calls);
  assert_non_null(calls);
  rig_open_for(&rig, state);
  pool = (struct pool){.loop = rig.loop};
  loopback_open(&server, rig.loop, "127.0.0.1", pool_hear, &pool);
  for (size_t i = 0; i < MANY; i++) {
    calls[i].id = (uint16_t)(i * 31);
    rig_send(&rig, &calls[i], server.text, TRANSPORT_UDP);
  }
  rig_run(&rig);
  for (size_t i = 0; i < MANY; i++) rig_assert_answered(&calls[i]);
  assert_int_equal(pool.heard, MANY);
  free(calls);
  loopback_close(&server);
  rig_close(&rig);
}

static void test_transport__wait_for_a_socket_counts_against_the_deadline(void **state) {
  struct rig rig;
  struct loopback server;
  static struct rig_call calls[TRANSPORT_UDP_SOCKETS_MAX + 1];
  memset(calls, 0, sizeof calls);
  rig_open_for(&rig, state);
  loopback_open(&server, rig.loop, "127.0.0.1", rig_mute, NULL);
  /* The last comes a little earlier to its end than the others, which leave it no socket. */
  rig.deadline_ms = 600;
  for (size_t i = 0; i < TRANSPORT_UDP_SOCKETS_MAX; i++) rig_send(&rig, &calls[i], server.text, TRANSPORT_UDP);
  struct rig_call *last = &calls[TRANSPORT_UDP_SOCKETS_MAX];
  rig.deadline_ms = 300;
  rig_send(&rig, last, server.text, TRANSPORT_UDP);
  rig_run(&rig);
  rig_assert_failed(last, ERROR_TIMEOUT, "all sockets are in use");
  loopback_close(&server);
  rig_close(&rig);
}

static void test_transport__cancelled_exchange_is_never_heard_of_again(void **state) {
  struct rig rig;
  struct loopback server;
  struct rig_call calls[4] = {{.id = 1}, {.id = 2}, {.id = 3}, {.id = 4}};
  rig_open_for(&rig, state);
  loopback_open(&server, rig.loop, "127.0.0.1", rig_echo, NULL);
  for (size_t i = 0; i < 4; i++) rig_send(&rig, &calls[i], server.text, protocols[i % 2]);
  rig_cancel(&calls[0]);
  rig_cancel(&calls[1]);
  assert_null(calls[0].exchange);
  transport_cancel(rig.transport, &calls[0].exchange); /* NULL is fine */
  rig_run(&rig);
  rig_assert_answered(&calls[2]);
  rig_assert_answered(&calls[3]);
  assert_int_equal(calls[0].offered + calls[0].ended + calls[1].offered + calls[1].ended, 0);
  loopback_close(&server);
  rig_close(&rig);
}

static void test_transport__destroying_it_ends_open_exchanges_in_silence(void **state) {
  struct rig rig;
  struct loopback server;
  static struct rig_call calls[600];
  memset(calls, 0, sizeof calls);
  rig_open_for(&rig, state);
  loopback_open(&server, rig.loop, "127.0.0.1", rig_mute, NULL);
  for (uint16_t i = 0; i < 600; i++) {
    calls[i].id = i;
    rig_send(&rig, &calls[i], server.text, protocols[i % 2]);
    if (i == 400) rig_run_for(&rig, 10); /* some are waiting, some on their way, some not even begun */
  }
  rig_close(&rig); /* frees the loop too: what was left behind in it would be called back or leak */
  for (size_t i = 0; i < 600; i++) assert_int_equal(calls[i].ended, 0);
  server.listener_watch = server.datagrams_watch = NULL; /* they went with the loop */
  for (size_t i = 0; i < server.peer_count; i++) server.peers[i]->watch = NULL;
  loopback_close(&server);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_transport__message_goes_there_and_its_answer_comes_back),
      cmocka_unit_test(test_transport__without_answer_the_deadline_ends_it),
      cmocka_unit_test(test_transport__refused_port_is_unreachable_at_once),
      cmocka_unit_test(test_transport__family_without_route_is_told_apart),
      cmocka_unit_test(test_transport__request_that_cannot_be_is_refused),
      cmocka_unit_test(test_transport__answer_that_is_not_accepted_is_ignored),
      cmocka_unit_test(test_transport__timeout_says_that_answers_came_but_were_not_accepted),
      cmocka_unit_test(test_transport__messages_that_are_no_answers_are_not_offered),
      cmocka_unit_test(test_transport__udp_takes_a_fresh_port_each_time),
      cmocka_unit_test(test_transport__thousands_over_udp_take_turns_at_the_sockets),
      cmocka_unit_test(test_transport__wait_for_a_socket_counts_against_the_deadline),
      cmocka_unit_test(test_transport__cancelled_exchange_is_never_heard_of_again),
      cmocka_unit_test(test_transport__destroying_it_ends_open_exchanges_in_silence),
  };
  int failures = cmocka_run_group_tests_name("virtual loop", tests, rig_with_virtual_loop, NULL);
  return failures + cmocka_run_group_tests_name("sd-event", tests, rig_with_sd_event, NULL);
}
