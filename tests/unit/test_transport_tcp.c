/* The socket transport over TCP: pipelining, matching, pieces, and connections that end badly; each test over both loops. */
#include "transport_rig.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"

static void test_transport_tcp__answers_may_come_in_any_order(void **state) {
  struct rig rig;
  struct loopback server;
  struct rig_call calls[50];
  static struct rig_store store;
  rig_open_for(&rig, state);
  store = (struct rig_store){.want = 50, .act = rig_store_answer_backwards};
  loopback_open(&server, rig.loop, "127.0.0.1", rig_store_hear, &store);
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

enum { MANY = 300 };

/* Answers a while after the pipeline should be full, so that one message too many would be there. */
static void answer_later(void *context) {
  struct rig_store *store = context;
  assert_true(store->count <= TRANSPORT_TCP_PIPELINE_MAX);
  rig_store_answer_backwards(store);
}

static void wait_for_more(struct rig_store *store) {
  if (store->count != TRANSPORT_TCP_PIPELINE_MAX && store->heard != MANY) return;
  assert_int_equal(loop_at(store->rig->loop, loop_boottime(store->rig->loop) + 50, answer_later, store, NULL), 0);
}

static void test_transport_tcp__pipeline_is_used_and_bounded(void **state) {
  struct rig rig;
  struct loopback server;
  static struct rig_call calls[MANY];
  static struct rig_store store;
  rig_open_for(&rig, state);
  store = (struct rig_store){.rig = &rig, .want = 1, .act = wait_for_more};
  loopback_open(&server, rig.loop, "127.0.0.1", rig_store_hear, &store);
  memset(calls, 0, sizeof calls);
  for (size_t i = 0; i < MANY; i++) {
    calls[i].id = (uint16_t)i;
    rig_send(&rig, &calls[i], server.text, TRANSPORT_TCP);
  }
  rig_run(&rig);
  for (size_t i = 0; i < MANY; i++) rig_assert_answered(&calls[i]);
  assert_int_equal(server.peer_count, 1);
  loopback_close(&server);
  rig_close(&rig);
}

/* No two messages with one id may be in flight. */
static void answer_if_alone(void *context) {
  struct rig_store *store = context;
  for (size_t i = 0; i < store->count; i++)
    for (size_t j = 0; j < i; j++) assert_memory_not_equal(store->octets[i], store->octets[j], 2);
  rig_store_answer_backwards(store);
}

static void look_for_twins(struct rig_store *store) {
  if (store->count == 1)
    assert_int_equal(loop_at(store->rig->loop, loop_boottime(store->rig->loop) + 50, answer_if_alone, store, NULL), 0);
}

static void test_transport_tcp__id_in_flight_waits_and_others_overtake_it(void **state) {
  struct rig rig;
  struct loopback server;
  struct rig_call calls[9];
  static struct rig_store store;
  rig_open_for(&rig, state);
  store = (struct rig_store){.rig = &rig, .want = 1, .act = look_for_twins};
  loopback_open(&server, rig.loop, "127.0.0.1", rig_store_hear, &store);
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
    rig_open_for(&rig, state);
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

/* Checks that what arrives is what rig_send_size made. Answers nothing until a whole pipeline was heard: the sender has to get on with its
 * writing although nothing comes back. */
struct large {
  struct loopback_peer *peer;
  unsigned heard;
};

static void answer_large(const struct large *large, unsigned id) {
  static uint8_t octets[TRANSPORT_MESSAGE_MAX];
  octets[1] = (uint8_t)id;
  loopback_reply(large->peer, octets, TRANSPORT_MESSAGE_MAX - id);
}

static void hear_large(void *context, struct loopback_peer *peer, const uint8_t *octets, size_t size) {
  struct large *large = context;
  unsigned id = (unsigned)octets[0] << 8 | octets[1];
  assert_int_equal(size, TRANSPORT_MESSAGE_MAX - id);
  for (size_t i = 2; i < size; i++)
    if (octets[i] != (uint8_t)(i * 7 + i / 256 + id)) fail_msg("message %u: octet %zu is wrong", id, i);
  large->peer = peer;
  large->heard++;
  for (unsigned i = 0; large->heard == TRANSPORT_TCP_PIPELINE_MAX && i < TRANSPORT_TCP_PIPELINE_MAX; i++)
    answer_large(large, i);
  if (large->heard > TRANSPORT_TCP_PIPELINE_MAX) answer_large(large, id);
}

static void test_transport_tcp__largest_messages_go_through_in_both_directions(void **state) {
  struct rig rig;
  struct loopback server;
  static struct rig_call calls[100]; /* 6.5 MB: more than socket buffers take at once */
  struct large large = {.heard = 0};
  rig_open_for(&rig, state);
  loopback_open(&server, rig.loop, "127.0.0.1", hear_large, &large);
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_transport_tcp__answers_may_come_in_any_order),
      cmocka_unit_test(test_transport_tcp__pipeline_is_used_and_bounded),
      cmocka_unit_test(test_transport_tcp__id_in_flight_waits_and_others_overtake_it),
      cmocka_unit_test(test_transport_tcp__answers_may_be_cut_at_every_octet),
      cmocka_unit_test(test_transport_tcp__largest_messages_go_through_in_both_directions),
  };
  int failures = cmocka_run_group_tests_name("virtual loop", tests, rig_with_virtual_loop, NULL);
  return failures + cmocka_run_group_tests_name("sd-event", tests, rig_with_sd_event, NULL);
}
