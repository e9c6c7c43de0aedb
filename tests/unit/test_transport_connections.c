/* The life of TCP connections: broken, kept, given up, too many; each test over both loops. */
#include "transport_rig.h"

#include <stdio.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"

enum { SERVERS = 140 };

static void hang_up_gently(struct rig_store *store) {
  loopback_hang_up(store->peers[0], false);
}
static void hang_up_abruptly(struct rig_store *store) {
  loopback_hang_up(store->peers[0], true);
}

static void hang_up_in_the_middle(struct rig_store *store) {
  uint8_t beginning[2 + RIG_MESSAGE_SIZE - 1] = {0, RIG_MESSAGE_SIZE};
  memcpy(beginning + 2, store->octets[0], RIG_MESSAGE_SIZE - 1);
  loopback_write(store->peers[0], beginning, sizeof beginning);
  loopback_hang_up(store->peers[0], false);
}

static void test_transport_connections__broken_connection_ends_all_its_exchanges(void **state) {
  static void (*const ways[])(struct rig_store *) = {hang_up_gently, hang_up_abruptly, hang_up_in_the_middle};
  for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
    struct rig rig;
    struct loopback server;
    static struct rig_call calls[100]; /* in flight, and waiting for their turn */
    static struct rig_store store;
    rig_open_for(&rig, state);
    store = (struct rig_store){.want = 10, .act = ways[w]};
    loopback_open(&server, rig.loop, "127.0.0.1", rig_store_hear, &store);
    memset(calls, 0, sizeof calls);
    for (uint16_t i = 0; i < 100; i++) {
      calls[i].id = i;
      rig_send(&rig, &calls[i], server.text, TRANSPORT_TCP);
    }
    rig_run(&rig);
    for (size_t i = 0; i < 100; i++) {
      rig_assert_failed(&calls[i], ERROR_UNREACHABLE, server.text);
      assert_true(calls[i].result.retryable);
      assert_int_equal(calls[i].offered, 0);
    }
    loopback_close(&server);
    rig_close(&rig);
  }
}

/* The answers that are complete count, though the connection ends right behind them. */
static void answer_half_and_hang_up(struct rig_store *store) {
  for (size_t i = 0; i < 5; i++) rig_store_answer(store, i);
  loopback_hang_up(store->peers[0], false);
}

static void test_transport_connections__answers_before_the_end_count(void **state) {
  struct rig rig;
  struct loopback server;
  struct rig_call calls[10];
  static struct rig_store store;
  rig_open_for(&rig, state);
  store = (struct rig_store){.want = 10, .act = answer_half_and_hang_up};
  loopback_open(&server, rig.loop, "127.0.0.1", rig_store_hear, &store);
  memset(calls, 0, sizeof calls);
  for (uint16_t i = 0; i < 10; i++) {
    calls[i].id = i;
    rig_send(&rig, &calls[i], server.text, TRANSPORT_TCP);
  }
  rig_run(&rig);
  for (size_t i = 0; i < 5; i++) rig_assert_answered(&calls[i]);
  for (size_t i = 5; i < 10; i++) rig_assert_failed(&calls[i], ERROR_UNREACHABLE, "before it answered");
  loopback_close(&server);
  rig_close(&rig);
}

/* The first that is told of the end cancels the second and repeats itself: that must go over a fresh connection and not fail with the rest. */
struct retry {
  const char *server;
  struct rig_call *calls, *again;
  bool done;
};

static void done_cancels_one_and_starts_one(struct rig_call *call) {
  struct retry *retry = call->context;
  if (retry->done) return;
  retry->done = true;
  rig_cancel(&retry->calls[call == &retry->calls[1] ? 0 : 1]);
  rig_send(call->rig, retry->again, retry->server, TRANSPORT_TCP);
}

static void hang_up_once(struct rig_store *store) {
  if (store->peers[0]->server->peer_count == 1 && store->count == 3)
    loopback_hang_up(store->peers[0], true);
  else if (store->peers[0]->server->peer_count == 2)
    rig_store_answer(store, store->count - 1);
}

static void test_transport_connections__callbacks_of_a_broken_connection_may_cancel_and_start(void **state) {
  struct rig rig;
  struct loopback server;
  struct rig_call calls[3], again = {.id = 9};
  static struct rig_store store;
  rig_open_for(&rig, state);
  store = (struct rig_store){.want = 1, .act = hang_up_once};
  loopback_open(&server, rig.loop, "127.0.0.1", rig_store_hear, &store);
  struct retry retry = {.server = server.text, .calls = calls, .again = &again};
  for (uint16_t i = 0; i < 3; i++) {
    calls[i] = (struct rig_call){.id = i, .done_hook = done_cancels_one_and_starts_one, .context = &retry};
    rig_send(&rig, &calls[i], server.text, TRANSPORT_TCP);
  }
  rig_run(&rig);
  rig_assert_failed(&calls[0], ERROR_UNREACHABLE, server.text);
  assert_int_equal(calls[1].ended, 0);
  rig_assert_failed(&calls[2], ERROR_UNREACHABLE, server.text);
  rig_assert_answered(&again);
  assert_int_equal(server.peer_count, 2);
  loopback_close(&server);
  rig_close(&rig);
}

static void test_transport_connections__connection_is_kept_for_a_while_and_then_closed(void **state) {
  struct rig rig;
  struct loopback server;
  struct rig_call calls[3] = {{.id = 1}, {.id = 2}, {.id = 3}};
  rig_open_for(&rig, state);
  loopback_open(&server, rig.loop, "127.0.0.1", rig_echo, NULL);
  /* In virtual time the pauses can be exact: two together are longer than the idle time, which begins anew. */
  int64_t pause = rig.virtual_clock ? TRANSPORT_TCP_IDLE_MS * 3 / 4 : TRANSPORT_TCP_IDLE_MS / 10;
  rig_send(&rig, &calls[0], server.text, TRANSPORT_TCP);
  rig_run(&rig);
  rig_run_for(&rig, pause);
  rig_send(&rig, &calls[1], server.text, TRANSPORT_TCP);
  rig_run(&rig);
  rig_run_for(&rig, pause);
  assert_int_equal(server.peer_count, 1);
  assert_int_equal(server.open_count, 1);
  rig_assert_closed_by_client(&rig, server.peers[0]);
  rig_send(&rig, &calls[2], server.text, TRANSPORT_TCP);
  rig_run(&rig);
  for (size_t i = 0; i < 3; i++) rig_assert_answered(&calls[i]);
  assert_int_equal(server.peer_count, 2);
  loopback_close(&server);
  rig_close(&rig);
}

static void test_transport_connections__idle_connection_that_the_server_closes_is_forgotten(void **state) {
  struct rig rig;
  struct loopback server;
  struct rig_call calls[2] = {{.id = 1}, {.id = 2}};
  rig_open_for(&rig, state);
  loopback_open(&server, rig.loop, "127.0.0.1", rig_echo, NULL);
  rig_send(&rig, &calls[0], server.text, TRANSPORT_TCP);
  rig_run(&rig);
  loopback_hang_up(server.peers[0], false);
  rig_run_for(&rig, 200); /* it comes to know of it */
  rig_send(&rig, &calls[1], server.text, TRANSPORT_TCP);
  rig_run(&rig);
  for (size_t i = 0; i < 2; i++) rig_assert_answered(&calls[i]);
  loopback_close(&server);
  rig_close(&rig);
}

/* A server that lost its memory of a connection is silent on it, and fine on the next. */
static void answer_on_later_connections(struct rig_store *store) {
  if (store->peers[store->count - 1] != store->peers[0]->server->peers[0]) rig_store_answer(store, store->count - 1);
}

static void test_transport_connections__silent_connection_is_not_used_again(void **state) {
  struct rig rig;
  struct loopback server;
  static struct rig_call calls[80];
  static struct rig_store store;
  rig_open_for(&rig, state);
  store = (struct rig_store){.want = 1, .act = answer_on_later_connections};
  loopback_open(&server, rig.loop, "127.0.0.1", rig_store_hear, &store);
  memset(calls, 0, sizeof calls);
  for (uint16_t i = 0; i < 80; i++) {
    calls[i].id = i;
    rig.deadline_ms = i < TRANSPORT_TCP_PIPELINE_MAX ? 300 : RIG_DEADLINE_MS;
    rig_send(&rig, &calls[i], server.text, TRANSPORT_TCP);
  }
  rig_run(&rig);
  for (size_t i = 0; i < TRANSPORT_TCP_PIPELINE_MAX; i++)
    rig_assert_failed(&calls[i], ERROR_TIMEOUT, "did not answer in time");
  for (size_t i = TRANSPORT_TCP_PIPELINE_MAX; i < 80; i++) rig_assert_answered(&calls[i]);
  assert_int_equal(server.peer_count, 2);
  rig_assert_closed_by_client(&rig, server.peers[0]);
  loopback_close(&server);
  rig_close(&rig);
}

/* One slow message is no reason to give up a connection on which others are answered. */
static void answer_all_but_the_first(struct rig_store *store) {
  if (store->count > 1) rig_store_answer(store, store->count - 1);
}

static void test_transport_connections__connection_that_answers_others_is_kept(void **state) {
  struct rig rig;
  struct loopback server;
  struct rig_call slow = {.id = 1}, other = {.id = 2}, after = {.id = 3};
  static struct rig_store store;
  rig_open_for(&rig, state);
  store = (struct rig_store){.want = 1, .act = answer_all_but_the_first};
  loopback_open(&server, rig.loop, "127.0.0.1", rig_store_hear, &store);
  rig.deadline_ms = 300;
  rig_send(&rig, &slow, server.text, TRANSPORT_TCP);
  rig_send(&rig, &other, server.text, TRANSPORT_TCP);
  rig_run(&rig);
  rig_assert_failed(&slow, ERROR_TIMEOUT, "did not answer in time");
  rig_assert_answered(&other);
  rig_send(&rig, &after, server.text, TRANSPORT_TCP);
  rig_run(&rig);
  rig_assert_answered(&after);
  assert_int_equal(server.peer_count, 1);
  loopback_close(&server);
  rig_close(&rig);
}

/* A listener whose queue is full drops further connections on the floor, as a dead host does. */
static void test_transport_connections__connecting_has_the_deadline_too(void **state) {
  struct rig rig;
  struct rig_call call = {.id = 1};
  struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t size = sizeof in;
  char server[32];
  CLEANUP_CLOSE int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(listener, (struct sockaddr *)&in, size), 0);
  assert_int_equal(listen(listener, 0), 0);
  assert_int_equal(getsockname(listener, (struct sockaddr *)&in, &size), 0);
  snprintf(server, sizeof server, "127.0.0.1:%u", ntohs(in.sin_port));
  int fillers[4];
  for (size_t i = 0; i < ARRAY_SIZE(fillers); i++) {
    fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void)!connect(fillers[i], (struct sockaddr *)&in, size);
  }
  rig_open_for(&rig, state);
  rig.deadline_ms = 300;
  rig_send(&rig, &call, server, TRANSPORT_TCP);
  rig_run(&rig);
  rig_assert_failed(&call, ERROR_TIMEOUT, "did not accept the connection");
  rig_close(&rig);
  for (size_t i = 0; i < ARRAY_SIZE(fillers); i++) close(fillers[i]);
}

/* Sends messages that nobody asked for: count of them, then the answer. */
static void hear_and_ramble(void *context, struct loopback_peer *peer, const uint8_t *octets, size_t size) {
  uint8_t stray[RIG_MESSAGE_SIZE];
  memcpy(stray, octets, size);
  stray[0] ^= 0xff;
  for (unsigned i = 0; i < *(const unsigned *)context; i++) loopback_reply(peer, stray, size);
  loopback_reply(peer, octets, size);
}

static void test_transport_connections__messages_that_answer_nothing_are_ignored_up_to_a_bound(void **state) {
  static const unsigned counts[] = {100, 100000};
  for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
    struct rig rig;
    struct loopback server;
    struct rig_call call = {.id = 1};
    unsigned count = counts[i];
    rig_open_for(&rig, state);
    loopback_open(&server, rig.loop, "127.0.0.1", hear_and_ramble, &count);
    rig_send(&rig, &call, server.text, TRANSPORT_TCP);
    rig_run(&rig);
    if (i == 0)
      rig_assert_answered(&call);
    else
      rig_assert_failed(&call, ERROR_UNREACHABLE, "answer nothing");
    loopback_close(&server);
    rig_close(&rig);
  }
}

/* Late answers to what was cancelled do not count against an honest server. */
static void test_transport_connections__late_answers_are_no_abuse(void **state) {
  struct rig rig;
  struct loopback server;
  static struct rig_call calls[RIG_STORE_MAX];
  static struct rig_store store;
  rig_open_for(&rig, state);
  store = (struct rig_store){.want = RIG_STORE_MAX, .act = rig_store_answer_backwards};
  loopback_open(&server, rig.loop, "127.0.0.1", rig_store_hear, &store);
  memset(calls, 0, sizeof calls);
  for (uint16_t sent = 0; sent < RIG_STORE_MAX - 1;) {
    uint16_t first = sent;
    for (; sent < RIG_STORE_MAX - 1 && sent < first + TRANSPORT_TCP_PIPELINE_MAX; sent++) {
      calls[sent].id = sent;
      rig_send(&rig, &calls[sent], server.text, TRANSPORT_TCP);
    }
    while (store.heard < sent) rig_run_for(&rig, 10);
    for (uint16_t i = first; i < sent; i++) rig_cancel(&calls[i]);
  }
  struct rig_call *last = &calls[RIG_STORE_MAX - 1];
  last->id = 0; /* which is that of a late answer: accept() has to tell them apart, the transport cannot */
  rig_send(&rig, last, server.text, TRANSPORT_TCP);
  rig_run(&rig);
  rig_assert_answered(last);
  assert_int_equal(server.peer_count, 1);
  assert_int_equal(server.open_count, 1);
  loopback_close(&server);
  rig_close(&rig);
}

/* Servers that keep their connections busy until as many as may be are open. */
struct crowd {
  struct loopback servers[SERVERS];
  struct loopback_peer *waiting[SERVERS];
  uint8_t octets[SERVERS][RIG_MESSAGE_SIZE];
  size_t heard;
};

static void crowd_hear(void *context, struct loopback_peer *peer, const uint8_t *octets, size_t size) {
  struct crowd *crowd = context;
  size_t open = 0;
  for (size_t i = 0; i < SERVERS; i++) open += crowd->servers[i].open_count;
  /* A server learns a little later than its successor that it was closed. */
  assert_true(open <= TRANSPORT_TCP_CONNECTIONS_MAX + 1);
  crowd->waiting[crowd->heard] = peer;
  memcpy(crowd->octets[crowd->heard++], octets, size);
  if (crowd->heard < TRANSPORT_TCP_CONNECTIONS_MAX) return;
  size_t first = crowd->heard == TRANSPORT_TCP_CONNECTIONS_MAX ? 0 : crowd->heard - 1;
  for (size_t i = first; i < crowd->heard; i++) loopback_reply(crowd->waiting[i], crowd->octets[i], RIG_MESSAGE_SIZE);
}

static void test_transport_connections__more_servers_than_connections_take_turns(void **state) {
  struct rig rig;
  static struct crowd crowd;
  static struct rig_call calls[SERVERS];
  rig_open_for(&rig, state);
  memset(&crowd, 0, sizeof crowd);
  memset(calls, 0, sizeof calls);
  for (size_t i = 0; i < SERVERS; i++) {
    loopback_open(&crowd.servers[i], rig.loop, "127.0.0.1", crowd_hear, &crowd);
    rig_send(&rig, &calls[i], crowd.servers[i].text, TRANSPORT_TCP);
  }
  int64_t start = loop_boottime(rig.loop);
  rig_run(&rig);
  /* Idle ones made room at once. */
  if (rig.virtual_clock) assert_true(loop_boottime(rig.loop) < start + TRANSPORT_TCP_IDLE_MS);
  for (size_t i = 0; i < SERVERS; i++) {
    rig_assert_answered(&calls[i]);
    loopback_close(&crowd.servers[i]);
  }
  rig_close(&rig);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_transport_connections__broken_connection_ends_all_its_exchanges),
      cmocka_unit_test(test_transport_connections__answers_before_the_end_count),
      cmocka_unit_test(test_transport_connections__callbacks_of_a_broken_connection_may_cancel_and_start),
      cmocka_unit_test(test_transport_connections__connection_is_kept_for_a_while_and_then_closed),
      cmocka_unit_test(test_transport_connections__idle_connection_that_the_server_closes_is_forgotten),
      cmocka_unit_test(test_transport_connections__silent_connection_is_not_used_again),
      cmocka_unit_test(test_transport_connections__connection_that_answers_others_is_kept),
      cmocka_unit_test(test_transport_connections__connecting_has_the_deadline_too),
      cmocka_unit_test(test_transport_connections__messages_that_answer_nothing_are_ignored_up_to_a_bound),
      cmocka_unit_test(test_transport_connections__late_answers_are_no_abuse),
      cmocka_unit_test(test_transport_connections__more_servers_than_connections_take_turns),
  };
  int failures = cmocka_run_group_tests_name("virtual loop", tests, rig_with_virtual_loop, NULL);
  return failures + cmocka_run_group_tests_name("sd-event", tests, rig_with_sd_event, NULL);
}
