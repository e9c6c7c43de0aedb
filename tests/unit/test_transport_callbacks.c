/* What accept and done may do to the socket transport that called them. */
#include "transport_rig.h"

#include <stdio.h>
#include <unistd.h>

enum { CHAIN = 500 };

static const enum transport_protocol protocols[] = {TRANSPORT_UDP, TRANSPORT_TCP};

/* What the callbacks know of the exchanges around them. */
struct chain {
  const char *server;
  enum transport_protocol protocol;
  struct rig_call *others;
  size_t count;
  unsigned left;
};

static void done_starts_the_next(struct rig_call *call) {
  struct chain *chain = call->context;
  if (!chain->left) return;
  chain->left--;
  call->ended = 0;
  call->id++;
  rig_send(call->rig, call, chain->server, chain->protocol);
}

static void test_transport_callbacks__done_may_start_the_next(void **state) {
  for (size_t p = 0; p < 2; p++) {
    struct rig rig;
    struct loopback server;
    rig_open_for(&rig, state);
    loopback_open(&server, rig.loop, "127.0.0.1", rig_echo, NULL);
    struct chain chain = {.server = server.text, .protocol = protocols[p], .left = CHAIN};
    struct rig_call call = {.id = 65000, .done_hook = done_starts_the_next, .context = &chain};
    rig_send(&rig, &call, server.text, protocols[p]);
    rig_run(&rig);
    rig_assert_answered(&call);
    assert_int_equal(call.offered, CHAIN + 1);
    loopback_close(&server);
    rig_close(&rig);
  }
}

/* An exchange that fails at once and is repeated at once must not keep the loop from everything else. */
static void test_transport_callbacks__repeating_what_fails_at_once_starves_nobody(void **state) {
  for (size_t p = 0; p < 2; p++) {
    struct rig rig;
    int descriptor = -1;
    char refused[32];
    snprintf(refused, sizeof refused, "127.0.0.1:%u", rig_refused_port(&descriptor));
    rig_open_for(&rig, state);
    struct chain chain = {.server = refused, .protocol = protocols[p], .left = 2 * CHAIN};
    struct rig_call call = {.id = 1, .done_hook = done_starts_the_next, .context = &chain};
    rig_send(&rig, &call, refused, protocols[p]);
    rig_run(&rig);
    rig_assert_failed(&call, ERROR_UNREACHABLE, refused);
    assert_int_equal(chain.left, 0);
    close(descriptor);
    rig_close(&rig);
  }
}

static void cancel_others(const struct chain *chain) {
  for (size_t i = 0; i < chain->count; i++)
    if (chain->others[i].exchange) rig_cancel(&chain->others[i]);
}

static void done_cancels_the_others(struct rig_call *call) {
  cancel_others(call->context);
}

static bool accept_cancels_everything(struct rig_call *call) {
  cancel_others(call->context); /* itself among them */
  return true;
}

static void assert_first_ends_all(void **state, rig_accept_hook *accept_hook, rig_done_hook *done_hook,
                                  unsigned ended) {
  for (size_t p = 0; p < 2; p++) {
    struct rig rig;
    struct loopback server;
    struct rig_call calls[8];
    memset(calls, 0, sizeof calls);
    rig_open_for(&rig, state);
    loopback_open(&server, rig.loop, "127.0.0.1", rig_echo, NULL);
    struct chain chain = {.others = calls, .count = 8};
    for (uint16_t i = 0; i < 8; i++) {
      calls[i] = (struct rig_call){.id = i, .accept_hook = accept_hook, .done_hook = done_hook, .context = &chain};
      rig_send(&rig, &calls[i], server.text, protocols[p]);
    }
    rig_run(&rig);
    unsigned total = 0;
    for (size_t i = 0; i < 8; i++) total += calls[i].ended;
    assert_int_equal(total, ended);
    rig_run_for(&rig, 100); /* the answers to what was cancelled arrive and meet nobody */
    for (size_t i = 0; i < 8; i++) total -= calls[i].ended;
    assert_int_equal(total, 0);
    loopback_close(&server);
    rig_close(&rig);
  }
}

static void test_transport_callbacks__done_may_cancel_others(void **state) {
  assert_first_ends_all(state, NULL, done_cancels_the_others, 1);
}

static void test_transport_callbacks__accept_may_cancel_itself_and_others(void **state) {
  assert_first_ends_all(state, accept_cancels_everything, NULL, 0);
}

static void destroy_transport(struct rig_call *call) {
  struct rig *rig = call->rig;
  transport_destroy(rig->transport);
  rig->transport = NULL;
  rig->open = 1; /* the others will not end; this one is counted down by whoever calls */
}

static bool accept_destroys_the_transport(struct rig_call *call) {
  destroy_transport(call);
  rig_count_down(call->rig);
  return true;
}

static void assert_destroyed(void **state, rig_accept_hook *accept_hook, rig_done_hook *done_hook, uint16_t port) {
  for (size_t p = 0; p < 2; p++) {
    struct rig rig;
    struct loopback server;
    struct rig_call calls[8];
    char text[32];
    memset(calls, 0, sizeof calls);
    rig_open_for(&rig, state);
    loopback_open(&server, rig.loop, "127.0.0.1", rig_echo, NULL);
    unsigned target = port ? port : server.port;
    snprintf(text, sizeof text, "127.0.0.1:%u", target);
    for (uint16_t i = 0; i < 8; i++) {
      calls[i] = (struct rig_call){.id = i, .accept_hook = accept_hook, .done_hook = done_hook};
      rig_send(&rig, &calls[i], text, protocols[p]);
    }
    rig_run(&rig);
    unsigned total = 0;
    for (size_t i = 0; i < 8; i++) total += calls[i].offered + calls[i].ended;
    assert_int_equal(total, port || accept_hook ? 1 : 2);
    assert_null(rig.transport);
    loopback_close(&server);
    rig_close(&rig);
  }
}

static void test_transport_callbacks__accept_may_destroy_the_transport(void **state) {
  assert_destroyed(state, accept_destroys_the_transport, NULL, 0);
}

static void test_transport_callbacks__done_may_destroy_the_transport(void **state) {
  assert_destroyed(state, NULL, destroy_transport, 0);
}

static void test_transport_callbacks__done_of_a_failure_may_destroy_the_transport(void **state) {
  int descriptor = -1;
  uint16_t port = rig_refused_port(&descriptor);
  assert_destroyed(state, NULL, destroy_transport, port);
  close(descriptor);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_transport_callbacks__done_may_start_the_next),
      cmocka_unit_test(test_transport_callbacks__repeating_what_fails_at_once_starves_nobody),
      cmocka_unit_test(test_transport_callbacks__done_may_cancel_others),
      cmocka_unit_test(test_transport_callbacks__accept_may_cancel_itself_and_others),
      cmocka_unit_test(test_transport_callbacks__accept_may_destroy_the_transport),
      cmocka_unit_test(test_transport_callbacks__done_may_destroy_the_transport),
      cmocka_unit_test(test_transport_callbacks__done_of_a_failure_may_destroy_the_transport),
  };
  int failures = cmocka_run_group_tests_name("virtual loop", tests, rig_with_virtual_loop, NULL);
  return failures + cmocka_run_group_tests_name("sd-event", tests, rig_with_sd_event, NULL);
}
