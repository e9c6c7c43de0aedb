/* The client's side for tests of the socket transport: a loop of either kind, a transport, and exchanges that remember how they went. */
#ifndef DKIMROLL_TESTS_TRANSPORT_RIG_H
#define DKIMROLL_TESTS_TRANSPORT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/clock.h"
#include "dkimroll/loop.h"
#include "dkimroll/transport.h"
#include "loopback.h"

enum { RIG_DEADLINE_MS = 20000, RIG_ANSWER_MAX = 64, RIG_MESSAGE_SIZE = 20, RIG_STORE_MAX = 512 };

struct rig {
  struct loop *loop;
  struct transport *transport;
  size_t open;         /* calls under way; the loop stops at 0 */
  int64_t deadline_ms; /* of what is sent next */
  bool waiting;        /* in rig_run_for */
  bool virtual_clock;
};

struct rig_call;
typedef bool rig_accept_hook(struct rig_call *call);
typedef void rig_done_hook(struct rig_call *call);

struct rig_call {
  struct rig *rig;
  struct transport_exchange *exchange;
  uint16_t id;
  unsigned offered; /* times */
  unsigned ended;   /* times done was called */
  struct error result;
  uint8_t answer[RIG_ANSWER_MAX]; /* the beginning of what was offered last */
  size_t answer_size;
  rig_accept_hook *accept_hook; /* NULL: takes everything */
  rig_done_hook *done_hook;
  void *context; /* of the hooks */
};

/* Real milliseconds before virtual time jumps: what was sent over loopback arrives by then also on a busy machine. */
enum { RIG_PATIENCE = 60 };

static inline void rig_open(struct rig *rig, bool virtual_clock) {
  const struct clock_reading start = {.wall = 1800000000, .boottime = 1000000};
  *rig = (struct rig){.deadline_ms = RIG_DEADLINE_MS, .virtual_clock = virtual_clock};
  if (virtual_clock)
    assert_int_equal(loop_virtual_new(&start, &rig->loop, NULL), 0);
  else
    assert_int_equal(loop_sd_event_new(&rig->loop, NULL), 0);
  if (virtual_clock) loop_virtual_set_patience(rig->loop, RIG_PATIENCE);
  assert_int_equal(transport_sockets_new(rig->loop, &rig->transport, NULL), 0);
}

static inline int rig_with_virtual_loop(void **state) {
  static bool yes = true;
  *state = &yes;
  return 0;
}

static inline int rig_with_sd_event(void **state) {
  static bool no = false;
  *state = &no;
  return 0;
}

/* state is that of the group: every test runs over both loops. */
static inline void rig_open_for(struct rig *rig, void **state) {
  rig_open(rig, *(bool *)*state);
}

static inline void rig_close(struct rig *rig) {
  transport_destroy(rig->transport);
  loop_destroy(rig->loop);
}

static inline void rig_count_down(struct rig *rig) {
  assert_true(rig->open > 0);
  if (--rig->open == 0) loop_stop(rig->loop);
}

static inline bool rig_accept(void *context, const uint8_t *octets, size_t size) {
  struct rig_call *call = context;
  assert_int_equal(call->ended, 0);
  call->offered++;
  call->answer_size = size;
  memcpy(call->answer, octets, size < sizeof call->answer ? size : sizeof call->answer);
  return call->accept_hook ? call->accept_hook(call) : true;
}

static inline void rig_done(void *context, const struct error *result) {
  struct rig_call *call = context;
  call->exchange = NULL;
  call->ended++;
  call->result = *result;
  if (call->done_hook) call->done_hook(call);
  rig_count_down(call->rig);
}

/* A message of size octets that begins with the id. */
static inline void rig_send_size(struct rig *rig, struct rig_call *call, const char *server,
                                 enum transport_protocol protocol, size_t size) {
  struct transport_request request = {
      .protocol = protocol, .size = size, .deadline = loop_boottime(rig->loop) + rig->deadline_ms};
  uint8_t *octets = malloc(size);
  assert_non_null(octets);
  for (size_t i = 0; i < size; i++) octets[i] = (uint8_t)(i * 7 + i / 256 + call->id);
  octets[0] = (uint8_t)(call->id >> 8);
  octets[1] = (uint8_t)call->id;
  request.octets = octets;
  assert_int_equal(address_parse(server, 53, &request.address, NULL), 0);
  call->rig = rig;
  unsigned offered = call->offered, ended = call->ended;
  assert_int_equal(transport_exchange(rig->transport, &request, rig_accept, rig_done, call, &call->exchange, NULL), 0);
  assert_true(call->offered == offered && call->ended == ended); /* neither callback comes from inside */
  free(octets);
  rig->open++;
}

static inline void rig_send(struct rig *rig, struct rig_call *call, const char *server,
                            enum transport_protocol protocol) {
  rig_send_size(rig, call, server, protocol, RIG_MESSAGE_SIZE);
}

static inline void rig_cancel(struct rig_call *call) {
  transport_cancel(call->rig->transport, &call->exchange);
  rig_count_down(call->rig);
}

/* Until no call is under way. A stop that was called between two runs ends the next one early. */
static inline void rig_run(struct rig *rig) {
  while (rig->open) assert_int_equal(loop_run(rig->loop, NULL), 0);
}

static inline void rig_time_is_up(void *context) {
  struct rig *rig = context;
  rig->waiting = false;
  loop_stop(rig->loop);
}

/* Lets that much time go by. */
static inline void rig_run_for(struct rig *rig, int64_t milliseconds) {
  rig->waiting = true;
  assert_int_equal(loop_at(rig->loop, loop_boottime(rig->loop) + milliseconds, rig_time_is_up, rig, NULL), 0);
  while (rig->waiting) assert_int_equal(loop_run(rig->loop, NULL), 0);
}

/* A server learns a little later that a connection was closed. */
static inline void rig_assert_closed_by_client(struct rig *rig, const struct loopback_peer *peer) {
  for (int i = 0; i < 500 && !peer->closed_by_client; i++) rig_run_for(rig, 10);
  assert_true(peer->closed_by_client);
}

static inline void rig_assert_answered(const struct rig_call *call) {
  if (call->ended != 1 || call->result.code)
    fail_msg("id %u: ended %u times: %s", call->id, call->ended, call->ended ? call->result.message : "");
  assert_int_equal(call->answer[0] << 8 | call->answer[1], call->id);
  assert_null(call->exchange);
}

static inline void rig_assert_failed(const struct rig_call *call, int code, const char *message) {
  assert_int_equal(call->ended, 1);
  if (call->result.code != code || !strstr(call->result.message, message))
    fail_msg("not %s with \"%s\": %s, \"%s\"", error_code_name(code), message, error_code_name(call->result.code),
             call->result.message);
}

/* The usual server: sends every message back. */
static inline void rig_echo(void *context, struct loopback_peer *peer, const uint8_t *octets, size_t size) {
  (void)context;
  loopback_reply(peer, octets, size);
}

/* The server that never answers. */
static inline void rig_mute(void *context, struct loopback_peer *peer, const uint8_t *octets, size_t size) {
  (void)context, (void)peer, (void)octets, (void)size;
}

/* A port that nobody listens at, for neither protocol: a socket that is bound keeps others from it. Caller closes the descriptor. */
static inline uint16_t rig_refused_port(int *ret_descriptor) {
  struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t size = sizeof in;
  *ret_descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(*ret_descriptor, (struct sockaddr *)&in, size), 0);
  assert_int_equal(getsockname(*ret_descriptor, (struct sockaddr *)&in, &size), 0);
  return ntohs(in.sin_port);
}

/* A server that keeps what it hears until the test says how it goes on. */
struct rig_store {
  struct rig *rig;
  struct loopback_peer *peers[RIG_STORE_MAX];
  uint8_t octets[RIG_STORE_MAX][RIG_MESSAGE_SIZE];
  size_t count;
  size_t want;                          /* at that many, act is called */
  void (*act)(struct rig_store *store); /* may empty the store */
  size_t heard;
};

static inline void rig_store_hear(void *context, struct loopback_peer *peer, const uint8_t *octets, size_t size) {
  struct rig_store *store = context;
  assert_true(store->count < RIG_STORE_MAX);
  assert_int_equal(size, RIG_MESSAGE_SIZE);
  store->peers[store->count] = peer;
  memcpy(store->octets[store->count++], octets, size);
  store->heard++;
  if (store->count >= store->want) store->act(store);
}

static inline void rig_store_answer(struct rig_store *store, size_t index) {
  loopback_reply(store->peers[index], store->octets[index], RIG_MESSAGE_SIZE);
}

static inline void rig_store_answer_backwards(struct rig_store *store) {
  for (size_t i = store->count; i-- > 0;) rig_store_answer(store, i);
  store->count = 0;
}

#endif
