/* The milter client: addresses, packets, and what comes back of one message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/milter.h"
#include "dkimroll/milter_protocol.h"
#include "dkimroll/text.h"
#include "fake_filter.h"

enum { PLENTY_MS = 20000, PACKET_MAX = 4096 };

/* What one message looks like to whoever checks its signature later. */
struct sight {
  struct loop *loop;
  struct connector *connector;
  struct milter *milter;
  char signature[512];
  bool seen;
};

static void sight_event(void *context, const struct milter_answer *answer, const struct error *error) {
  struct sight *sight = context;
  static const struct milter_header headers[] = {{"From", "user@example.com"}, {"Subject", "x"}};
  static const struct milter_message message = {.queue_id = "q",
                                                .sender = "user@example.com",
                                                .recipient = "user@example.com",
                                                .headers = headers,
                                                .header_count = 2,
                                                .body = "x\r\n"};
  assert_int_equal(error->code, 0);
  if (!answer) {
    milter_send(sight->milter, &message);
    return;
  }
  assert_int_equal(answer->signature_count, 1);
  text_copy(sight->signature, sizeof(sight->signature), answer->signatures[0]);
  sight->seen = true;
  milter_close(sight->milter);
  loop_stop(sight->loop);
}

static void test_milter__whole_signature_field_comes_back_as_it_would_be_sent(void **state) {
  (void)state;
  for (int leading = 0; leading < 2; leading++) {
    struct fake_filter filter;
    fake_filter_start(&filter,
                      &(struct fake_script){.selectors = {"new"}, .steps = leading ? MILTER_LEADING_SPACE : 0});
    struct sight sight = {0};
    struct error error = {0};
    assert_int_equal(loop_sd_event_new(&sight.loop, &error), 0);
    assert_int_equal(connector_sockets_new(sight.loop, &sight.connector, &error), 0);
    int64_t deadline = loop_boottime(sight.loop) + PLENTY_MS;
    assert_int_equal(milter_open(sight.connector, filter.address, deadline, sight_event, &sight, &sight.milter, &error),
                     0);
    assert_int_equal(loop_run(sight.loop, &error), 0);
    assert_true(sight.seen);
    assert_true(text_starts(sight.signature, "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/simple;\r\n\t"
                                             "d=example.com; s=new;\r\n\th=From:Subject;\r\n\tbh="));
    assert_true(text_ends(sight.signature, "=="));
    for (const char *line = sight.signature; (line = strchr(line, '\n')); line++) assert_int_equal(line[-1], '\r');
    connector_destroy(sight.connector);
    loop_destroy(sight.loop);
    fake_filter_stop(&filter);
  }
}

static void test_milter__addresses(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int family; /* 0: refused */
  } cases[] = {
      {"inet:8891@127.0.0.1", AF_INET},
      {"inet:8891@localhost", AF_INET},
      {"inet:8891", AF_INET},
      {"inet6:8891@::1", AF_INET6},
      {"inet6:8891", AF_INET6},
      {"unix:/run/x.sock", AF_UNIX},
      {"local:/run/x.sock", AF_UNIX},
      {"/run/x.sock", AF_UNIX},
      {"inet:0@127.0.0.1", 0},
      {"inet:65536@127.0.0.1", 0},
      {"inet:x@127.0.0.1", 0},
      {"inet:8891@mail.example.com", 0},
      {"inet6:8891@127.0.0.1", 0},
      {"unix:relative", 0},
      {"8891@127.0.0.1", 0},
      {"unix:/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
       "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
       0}};
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    struct sockaddr_storage address;
    socklen_t size = 0;
    struct error error = {0};
    int result = milter_parse_address(cases[i].text, &address, &size, &error);
    assert_int_equal(result, cases[i].family ? 0 : ERROR_CONFIG);
    if (cases[i].family) assert_int_equal(address.ss_family, cases[i].family);
  }
}

static void test_milter__packets_are_read_whole_or_not_at_all(void **state) {
  (void)state;
  struct buffer octets = BUFFER_WITH_MAXIMUM(PACKET_MAX);
  milter_add_packet(&octets, 'L', "abc", 3);
  struct milter_packet packet = {0};
  for (size_t size = 0; size < octets.size; size++) assert_int_equal(milter_read_packet(octets.data, size, &packet), 0);
  assert_int_equal(milter_read_packet(octets.data, octets.size, &packet), 8);
  assert_int_equal(packet.command, 'L');
  assert_int_equal(packet.size, 3);
  assert_memory_equal(packet.data, "abc", 3);
  static const uint8_t empty[4] = {0, 0, 0, 0};
  static const uint8_t huge[4] = {0x7f, 0, 0, 0};
  assert_int_equal(milter_read_packet(empty, 4, &packet), ERROR_PROTOCOL);
  assert_int_equal(milter_read_packet(huge, 4, &packet), ERROR_PROTOCOL);
  buffer_release(&octets);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_milter__whole_signature_field_comes_back_as_it_would_be_sent),
      cmocka_unit_test(test_milter__addresses),
      cmocka_unit_test(test_milter__packets_are_read_whole_or_not_at_all),
  };
  signal(SIGPIPE, SIG_IGN);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
