/* The socket transport over TCP: pipelining, matching, pieces, and connections that end badly; each test over both loops. */
#include "transport_rig.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"

enum { STORE_MAX = 512, SERVERS = 140 };

static int with_virtual_loop(void **state) {
  static bool yes = true;
  *state = &yes;
  return 0;
}

static int with_sd_event(void **state) {
  static bool no = false;
  *state = &no;
  return 0;
}

static bool is_virtual(void **state) {
  return *(bool *)*state;
}

/* A server that keeps what it hears until the test says how it goes on. */
struct store {
  struct rig *rig;
  struct loopback_peer *peers[STORE_MAX];
  uint8_t octets[STORE_MAX][RIG_MESSAGE_SIZE];
  size_t count;
  size_t want;                      /* at that many, act is called */
  size_t most;                      /* that waited at once */
  void (*act)(struct store *store); /* may empty the store */
  size_t heard;
};

static void store_hear(void *context, struct loopback_peer *peer, const uint8_t *octets, size_t size) {
  struct store *store = context;
  assert_true(store->count < STORE_MAX);
  assert_int_equal(size, RIG_MESSAGE_SIZE);
  store->peers[store->count] = peer;
  memcpy(store->octets[store->count++], octets, size);
  store->heard++;
  if (store->count >= store->want) store->act(store);
}

static void store_answer(struct store *store, size_t index) {
  loopback_reply(store->peers[index], store->octets[index], RIG_MESSAGE_SIZE);
}

static void answer_backwards(struct store *store) {
  for (size_t i = store->count; i-- > 0;) store_answer(store, i);
  store->count = 0;
}

static void test_transport_tcp__answers_may_come_in_any_order(void **state) {
  struct rig rig;
  struct loopback server;
  struct rig_call calls[50];
  static struct store store;
  rig_open(&rig, is_virtual(state));
  store = (struct store){.want = 50, .act = answer_backwards};
  loopback_open(&server, rig.loop, "127.0.0.1", store_hear, &store);
  memset(calls, 0, sizeof calls);
  for (uint16_t i = 0; i < 50; i++) {
    calls[i].id = (uint16_t)(i * 1000);
    rig_send(&rig, &calls[i], server.text, TRANSPORT_TCP);
  }
  rig_run(&rig);
  for (size_t i = 0; i < 50; i++) {
    rig_assert_answered(&calls[i]);
    assert_int_equal(calls[i].answer[5], (uint8_t)(35 + calls[i].id)); /* its own octets, not only its id */
  }
  assert_int_equal(server.peer_count, 1);
  loopback_close(&server);
  rig_close(&rig);
}

/* After a while without further messages, all that came are answered. */
static void answer_later(void *context) {
  struct store *store = context;
  assert_true(store->count <= TRANSPORT_TCP_PIPELINE_MAX);
  answer_backwards(store);
}

static void wait_for_more(struct store *store) {
  if (store->count == 1)
    assert_int_equal(loop_at(store->rig->loop, loop_boottime(store->rig->loop) + 50, answer_later, store, NULL), 0);
  if (store->count > store->most) store->most = store->count;
}

static void test_transport_tcp__pipeline_is_used_and_bounded(void **state) {
  struct rig rig;
  struct loopback server;
  static struct rig_call calls[300];
  static struct store store;
  rig_open(&rig, is_virtual(state));
  store = (struct store){.rig = &rig, .want = 1, .act = wait_for_more};
  loopback_open(&server, rig.loop, "127.0.0.1", store_hear, &store);
  memset(calls, 0, sizeof calls);
  for (uint16_t i = 0; i < 300; i++) {
    calls[i].id = i;
    rig_send(&rig, &calls[i], server.text, TRANSPORT_TCP);
  }
  rig_run(&rig);
  for (size_t i = 0; i < 300; i++) rig_assert_answered(&calls[i]);
  assert_int_equal(store.most, TRANSPORT_TCP_PIPELINE_MAX);
  assert_int_equal(server.peer_count, 1);
  loopback_close(&server);
  rig_close(&rig);
}

/* No two messages with one id may be in flight. */
static void answer_if_alone(void *context) {
  struct store *store = context;
  for (size_t i = 0; i < store->count; i++)
    for (size_t j = 0; j < i; j++) assert_memory_not_equal(store->octets[i], store->octets[j], 2);
  answer_backwards(store);
}

static void look_for_twins(struct store *store) {
  if (store->count == 1)
    assert_int_equal(loop_at(store->rig->loop, loop_boottime(store->rig->loop) + 50, answer_if_alone, store, NULL), 0);
}

static void test_transport_tcp__id_in_flight_waits_and_others_overtake_it(void **state) {
  struct rig rig;
  struct loopback server;
  struct rig_call calls[9];
  static struct store store;
  rig_open(&rig, is_virtual(state));
  store = (struct store){.rig = &rig, .want = 1, .act = look_for_twins};
  loopback_open(&server, rig.loop, "127.0.0.1", store_hear, &store);
  memset(calls, 0, sizeof calls);
  for (uint16_t i = 0; i < 9; i++) {
    calls[i].id = i < 6 ? 7 : i;
    rig_send(&rig, &calls[i], server.text, TRANSPORT_TCP);
  }
  rig_run(&rig);
  for (size_t i = 0; i < 9; i++) rig_assert_answered(&calls[i]);
  assert_int_equal(store.heard, 9);
  assert_int_equal(server.peer_count, 1);
  loopback_close(&server);
  rig_close(&rig);
}

/* Answers in two pieces that are cut at split, the second after the first was read. */
struct pieces {
  struct loop *loop;
  struct loopback_peer *peer;
  uint8_t frame[2 * (2 + RIG_MESSAGE_SIZE)];
  size_t size, step, position;
};

static void send_piece(void *context) {
  struct pieces *pieces = context;
  size_t size = pieces->size - pieces->position < pieces->step ? pieces->size - pieces->position : pieces->step;
  loopback_write(pieces->peer, pieces->frame + pieces->position, size);
  pieces->position += size;
  if (pieces->position < pieces->size) assert_int_equal(loop_defer(pieces->loop, send_piece, pieces, NULL), 0);
}

/* Waits for two messages and answers both as one stream. */
static void hear_two(void *context, struct loopback_peer *peer, const uint8_t *octets, size_t size) {
  struct pieces *pieces = context;
  pieces->peer = peer;
  pieces->frame[pieces->size] = 0;
  pieces->frame[pieces->size + 1] = (uint8_t)size;
  memcpy(pieces->frame + pieces->size + 2, octets, size);
  pieces->size += 2 + size;
  if (pieces->size == sizeof pieces->frame) send_piece(pieces);
}

static void test_transport_tcp__answers_may_be_cut_at_every_octet(void **state) {
  for (size_t step = 1; step <= sizeof((struct pieces){0}.frame); step++) {
    struct rig rig;
    struct loopback server;
    struct rig_call calls[2] = {{.id = 1}, {.id = 2}};
    rig_open(&rig, is_virtual(state));
    struct pieces pieces = {.loop = rig.loop, .step = step};
    loopback_open(&server, rig.loop, "127.0.0.1", hear_two, &pieces);
    for (size_t i = 0; i < 2; i++) rig_send(&rig, &calls[i], server.text, TRANSPORT_TCP);
    rig_run(&rig);
    for (size_t i = 0; i < 2; i++) {
      rig_assert_answered(&calls[i]);
      assert_int_equal(calls[i].answer_size, RIG_MESSAGE_SIZE);
      assert_int_equal(calls[i].answer[19], (uint8_t)(133 + calls[i].id));
    }
    loopback_close(&server);
    rig_close(&rig);
  }
}

/* Checks that what arrives is what rig_send_size made, and sends it back. */
static void hear_large(void *context, struct loopback_peer *peer, const uint8_t *octets, size_t size) {
  unsigned id = (unsigned)octets[0] << 8 | octets[1];
  (void)context;
  assert_int_equal(size, TRANSPORT_MESSAGE_MAX - id);
  for (size_t i = 2; i < size; i++)
    if (octets[i] != (uint8_t)(i * 7 + i / 256 + id)) fail_msg("message %u: octet %zu is wrong", id, i);
  loopback_reply(peer, octets, size);
}

static void test_transport_tcp__largest_messages_go_through_in_both_directions(void **state) {
  struct rig rig;
  struct loopback server;
  static struct rig_call calls[100]; /* 6.5 MB: more than socket buffers take at once */
  rig_open(&rig, is_virtual(state));
  loopback_open(&server, rig.loop, "127.0.0.1", hear_large, NULL);
  memset(calls, 0, sizeof calls);
  for (uint16_t i = 0; i < 100; i++) {
    calls[i].id = i;
    rig_send_size(&rig, &calls[i], server.text, TRANSPORT_TCP, TRANSPORT_MESSAGE_MAX - i);
  }
  rig_run(&rig);
  for (size_t i = 0; i < 100; i++) {
    rig_assert_answered(&calls[i]);
    assert_int_equal(calls[i].answer_size, TRANSPORT_MESSAGE_MAX - i);
  }
  assert_int_equal(server.peer_count, 1);
  loopback_close(&server);
  rig_close(&rig);
}

static void hang_up_gently(struct store *store) {
  loopback_hang_up(store->peers[0], false);
}
static void hang_up_abruptly(struct store *store) {
  loopback_hang_up(store->peers[0], true);
}

static void hang_up_in_the_middle(struct store *store) {
  uint8_t beginning[2 + RIG_MESSAGE_SIZE - 1] = {0, RIG_MESSAGE_SIZE};
  memcpy(beginning + 2, store->octets[0], RIG_MESSAGE_SIZE - 1);
  loopback_write(store->peers[0], beginning, sizeof beginning);
  loopback_hang_up(store->peers[0], false);
}

static void test_transport_tcp__broken_connection_ends_all_its_exchanges(void **state) {
  static void (*const ways[])(struct store *) = {hang_up_gently, hang_up_abruptly, hang_up_in_the_middle};
  for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
    struct rig rig;
    struct loopback server;
    static struct rig_call calls[100]; /* in flight, and waiting for their turn */
    static struct store store;
    rig_open(&rig, is_virtual(state));
    store = (struct store){.want = 10, .act = ways[w]};
    loopback_open(&server, rig.loop, "127.0.0.1", store_hear, &store);
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
static void answer_half_and_hang_up(struct store *store) {
  for (size_t i = 0; i < 5; i++) store_answer(store, i);
  loopback_hang_up(store->peers[0], false);
}

static void test_transport_tcp__answers_before_the_end_count(void **state) {
  struct rig rig;
  struct loopback server;
  struct rig_call calls[10];
  static struct store store;
  rig_open(&rig, is_virtual(state));
  store = (struct store){.want = 10, .act = answer_half_and_hang_up};
  loopback_open(&server, rig.loop, "127.0.0.1", store_hear, &store);
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

static void hang_up_once(struct store *store) {
  if (store->peers[0]->server->peer_count == 1 && store->count == 3)
    loopback_hang_up(store->peers[0], true);
  else if (store->peers[0]->server->peer_count == 2)
    store_answer(store, store->count - 1);
}

static void test_transport_tcp__callbacks_of_a_broken_connection_may_cancel_and_start(void **state) {
  struct rig rig;
  struct loopback server;
  struct rig_call calls[3], again = {.id = 9};
  static struct store store;
  rig_open(&rig, is_virtual(state));
  store = (struct store){.want = 1, .act = hang_up_once};
  loopback_open(&server, rig.loop, "127.0.0.1", store_hear, &store);
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

static void test_transport_tcp__connection_is_kept_for_a_while_and_then_closed(void **state) {
  struct rig rig;
  struct loopback server;
  struct rig_call calls[3] = {{.id = 1}, {.id = 2}, {.id = 3}};
  rig_open(&rig, is_virtual(state));
  loopback_open(&server, rig.loop, "127.0.0.1", rig_echo, NULL);
  rig_send(&rig, &calls[0], server.text, TRANSPORT_TCP);
  rig_run(&rig);
  rig_run_for(&rig, TRANSPORT_TCP_IDLE_MS * 3 / 4);
  rig_send(&rig, &calls[1], server.text, TRANSPORT_TCP);
  rig_run(&rig);
  rig_run_for(&rig, TRANSPORT_TCP_IDLE_MS * 3 / 4); /* the wait began anew */
  assert_int_equal(server.open_count, 1);
  rig_run_for(&rig, TRANSPORT_TCP_IDLE_MS);
  assert_int_equal(server.peer_count, 1);
  assert_int_equal(server.open_count, 0);
  assert_true(server.peers[0]->closed_by_client);
  rig_send(&rig, &calls[2], server.text, TRANSPORT_TCP);
  rig_run(&rig);
  for (size_t i = 0; i < 3; i++) rig_assert_answered(&calls[i]);
  assert_int_equal(server.peer_count, 2);
  loopback_close(&server);
  rig_close(&rig);
}

static void test_transport_tcp__idle_connection_that_the_server_closes_is_forgotten(void **state) {
  struct rig rig;
  struct loopback server;
  struct rig_call calls[2] = {{.id = 1}, {.id = 2}};
  rig_open(&rig, is_virtual(state));
  loopback_open(&server, rig.loop, "127.0.0.1", rig_echo, NULL);
  rig_send(&rig, &calls[0], server.text, TRANSPORT_TCP);
  rig_run(&rig);
  loopback_hang_up(server.peers[0], false);
  rig_run_for(&rig, 50);
  rig_send(&rig, &calls[1], server.text, TRANSPORT_TCP);
  rig_run(&rig);
  for (size_t i = 0; i < 2; i++) rig_assert_answered(&calls[i]);
  loopback_close(&server);
  rig_close(&rig);
}

/* A server that lost its memory of a connection is silent on it, and fine on the next. */
static void answer_on_later_connections(struct store *store) {
  if (store->peers[store->count - 1] != store->peers[0]->server->peers[0]) store_answer(store, store->count - 1);
}

static void test_transport_tcp__silent_connection_is_not_used_again(void **state) {
  struct rig rig;
  struct loopback server;
  static struct rig_call calls[80];
  static struct store store;
  rig_open(&rig, is_virtual(state));
  store = (struct store){.want = 1, .act = answer_on_later_connections};
  loopback_open(&server, rig.loop, "127.0.0.1", store_hear, &store);
  memset(calls, 0, sizeof calls);
  for (uint16_t i = 0; i < 80; i++) {
    calls[i].id = i;
    rig.deadline_ms = i ? RIG_DEADLINE_MS : 300;
    rig_send(&rig, &calls[i], server.text, TRANSPORT_TCP);
  }
  for (size_t i = 1; i < TRANSPORT_TCP_PIPELINE_MAX; i++) rig_cancel(&calls[i]); /* before anything was sent */
  rig_run(&rig);
  rig_assert_failed(&calls[0], ERROR_TIMEOUT, "did not answer in time");
  assert_int_equal(server.peer_count, 1);
  struct rig_call after = {.id = 1000};
  rig_send(&rig, &after, server.text, TRANSPORT_TCP);
  rig_run(&rig);
  rig_assert_answered(&after);
  assert_int_equal(server.peer_count, 2);
  loopback_close(&server);
  rig_close(&rig);
}

/* One slow message is no reason to give up a connection on which others are answered. */
static void answer_all_but_the_first(struct store *store) {
  if (store->count > 1) store_answer(store, store->count - 1);
}

static void test_transport_tcp__connection_that_answers_others_is_kept(void **state) {
  struct rig rig;
  struct loopback server;
  struct rig_call slow = {.id = 1}, other = {.id = 2}, after = {.id = 3};
  static struct store store;
  rig_open(&rig, is_virtual(state));
  store = (struct store){.want = 1, .act = answer_all_but_the_first};
  loopback_open(&server, rig.loop, "127.0.0.1", store_hear, &store);
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
static void test_transport_tcp__connecting_has_the_deadline_too(void **state) {
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
  rig_open(&rig, is_virtual(state));
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

static void test_transport_tcp__messages_that_answer_nothing_are_ignored_up_to_a_bound(void **state) {
  static const unsigned counts[] = {100, 100000};
  for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
    struct rig rig;
    struct loopback server;
    struct rig_call call = {.id = 1};
    unsigned count = counts[i];
    rig_open(&rig, is_virtual(state));
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
static void test_transport_tcp__late_answers_are_no_abuse(void **state) {
  struct rig rig;
  struct loopback server;
  static struct rig_call calls[STORE_MAX];
  static struct store store;
  rig_open(&rig, is_virtual(state));
  store = (struct store){.want = STORE_MAX, .act = answer_backwards};
  loopback_open(&server, rig.loop, "127.0.0.1", store_hear, &store);
  memset(calls, 0, sizeof calls);
  for (uint16_t sent = 0; sent < STORE_MAX - 1;) {
    uint16_t first = sent;
    for (; sent < STORE_MAX - 1 && sent < first + TRANSPORT_TCP_PIPELINE_MAX; sent++) {
      calls[sent].id = sent;
      rig_send(&rig, &calls[sent], server.text, TRANSPORT_TCP);
    }
    rig_run_for(&rig, 30);
    for (uint16_t i = first; i < sent; i++) rig_cancel(&calls[i]);
  }
  struct rig_call *last = &calls[STORE_MAX - 1];
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

static void test_transport_tcp__more_servers_than_connections_take_turns(void **state) {
  struct rig rig;
  static struct crowd crowd;
  static struct rig_call calls[SERVERS];
  rig_open(&rig, is_virtual(state));
  memset(&crowd, 0, sizeof crowd);
  memset(calls, 0, sizeof calls);
  for (size_t i = 0; i < SERVERS; i++) {
    loopback_open(&crowd.servers[i], rig.loop, "127.0.0.1", crowd_hear, &crowd);
    rig_send(&rig, &calls[i], crowd.servers[i].text, TRANSPORT_TCP);
  }
  int64_t start = loop_boottime(rig.loop);
  rig_run(&rig);
  assert_true(loop_boottime(rig.loop) < start + TRANSPORT_TCP_IDLE_MS); /* idle ones made room at once */
  for (size_t i = 0; i < SERVERS; i++) {
    rig_assert_answered(&calls[i]);
    loopback_close(&crowd.servers[i]);
  }
  rig_close(&rig);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_transport_tcp__answers_may_come_in_any_order),
      cmocka_unit_test(test_transport_tcp__pipeline_is_used_and_bounded),
      cmocka_unit_test(test_transport_tcp__id_in_flight_waits_and_others_overtake_it),
      cmocka_unit_test(test_transport_tcp__answers_may_be_cut_at_every_octet),
      cmocka_unit_test(test_transport_tcp__largest_messages_go_through_in_both_directions),
      cmocka_unit_test(test_transport_tcp__broken_connection_ends_all_its_exchanges),
      cmocka_unit_test(test_transport_tcp__answers_before_the_end_count),
      cmocka_unit_test(test_transport_tcp__callbacks_of_a_broken_connection_may_cancel_and_start),
      cmocka_unit_test(test_transport_tcp__connection_is_kept_for_a_while_and_then_closed),
      cmocka_unit_test(test_transport_tcp__idle_connection_that_the_server_closes_is_forgotten),
      cmocka_unit_test(test_transport_tcp__silent_connection_is_not_used_again),
      cmocka_unit_test(test_transport_tcp__connection_that_answers_others_is_kept),
      cmocka_unit_test(test_transport_tcp__connecting_has_the_deadline_too),
      cmocka_unit_test(test_transport_tcp__messages_that_answer_nothing_are_ignored_up_to_a_bound),
      cmocka_unit_test(test_transport_tcp__late_answers_are_no_abuse),
      cmocka_unit_test(test_transport_tcp__more_servers_than_connections_take_turns),
  };
  int failures = cmocka_run_group_tests_name("virtual loop", tests, with_virtual_loop, NULL);
  return failures + cmocka_run_group_tests_name("sd-event", tests, with_sd_event, NULL);
}
