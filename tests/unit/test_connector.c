/* Byte streams over sockets: connecting, octets both ways, the end, and what may be done from inside of a callback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/connector.h"
#include "dkimroll/text.h"
#include "workplace.h"

enum { PLENTY_MS = 20000 };

struct place {
  int listener;
  struct sockaddr_in address;
  struct loop *loop;
  struct connector *connector;
  struct stream *stream;
  unsigned wanted; /* the loop stops when one of these has happened */
  unsigned happened;
  unsigned calls;
  bool closes; /* in the first callback */
};

static void place_event(void *context, unsigned events) {
  struct place *place = context;
  place->calls++;
  place->happened |= events;
  if (place->closes) stream_close(&place->stream);
  if (place->closes || (events & place->wanted)) loop_stop(place->loop);
}

static void place_gave_up(void *context) {
  (void)context;
  fail_msg("nothing happened");
}

static void place_open(struct place *place) {
  *place = (struct place){.address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
  socklen_t size = sizeof(place->address);
  struct error error;
  place->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(place->listener >= 0);
  assert_int_equal(bind(place->listener, (struct sockaddr *)&place->address, size), 0);
  assert_int_equal(getsockname(place->listener, (struct sockaddr *)&place->address, &size), 0);
  assert_int_equal(listen(place->listener, 4), 0);
  assert_int_equal(loop_sd_event_new(&place->loop, &error), 0);
  assert_int_equal(connector_sockets_new(place->loop, &place->connector, &error), 0);
  assert_int_equal(loop_at(place->loop, loop_boottime(place->loop) + PLENTY_MS, place_gave_up, place, NULL), 0);
}

static void place_close(struct place *place) {
  stream_close(&place->stream);
  assert_null(place->stream);
  connector_destroy(place->connector);
  loop_destroy(place->loop);
  if (place->listener >= 0) close(place->listener);
}

static int place_connect(struct place *place, const void *address, socklen_t size) {
  struct connector_request request = {.address = address, .size = size, .event = place_event, .context = place};
  struct error error;
  int result = connector_open(place->connector, &request, &place->stream, &error);
  assert_int_equal(place->calls, 0);
  return result;
}

static void place_wait(struct place *place, unsigned watched) {
  struct error error;
  place->wanted = watched;
  place->happened = 0;
  assert_int_equal(stream_watch(place->stream, watched), 0);
  assert_int_equal(loop_run(place->loop, &error), 0);
}

/* Connects, and returns the other end. */
static int place_meet(struct place *place) {
  assert_int_equal(place_connect(place, &place->address, sizeof(place->address)), 0);
  if (stream_connected(place->stream) == EINPROGRESS) place_wait(place, LOOP_WRITABLE);
  assert_int_equal(stream_connected(place->stream), 0);
  int other = accept(place->listener, NULL, NULL);
  assert_true(other >= 0);
  return other;
}

static void test_connector__octets_go_both_ways_and_the_end_is_told(void **state) {
  (void)state;
  struct place place;
  char octets[8];
  place_open(&place);
  int other = place_meet(&place);
  assert_int_equal(stream_read(place.stream, octets, sizeof(octets)), -1);
  assert_true(errno == EAGAIN || errno == EWOULDBLOCK);
  assert_int_equal(stream_write(place.stream, "ping", 4), 4);
  assert_int_equal(read(other, octets, sizeof(octets)), 4);
  assert_memory_equal(octets, "ping", 4);
  assert_int_equal(write(other, "pong", 4), 4);
  place_wait(&place, LOOP_READABLE);
  assert_int_equal(stream_read(place.stream, octets, 3), 3);
  /* Level-triggered: there is one more. */
  place_wait(&place, LOOP_READABLE);
  assert_int_equal(stream_read(place.stream, octets, sizeof(octets)), 1);
  close(other);
  place_wait(&place, LOOP_READABLE);
  assert_int_equal(stream_read(place.stream, octets, sizeof(octets)), 0);
  place_close(&place);
}

static void test_connector__nobody_listening_is_told_by_connected(void **state) {
  (void)state;
  struct place place;
  place_open(&place);
  close(place.listener);
  place.listener = -1;
  assert_int_equal(place_connect(&place, &place.address, sizeof(place.address)), 0);
  if (stream_connected(place.stream) == EINPROGRESS) place_wait(&place, LOOP_WRITABLE);
  assert_int_equal(stream_connected(place.stream), ECONNREFUSED);
  stream_close(&place.stream);
  struct sockaddr_un missing = {.sun_family = AF_UNIX};
  struct workplace folder;
  workplace_make(&folder, "/tmp");
  CLEANUP_FREE char *path = workplace_path(&folder, "none");
  text_copy(missing.sun_path, sizeof(missing.sun_path), path);
  place.calls = 0;
  assert_int_equal(place_connect(&place, &missing, sizeof(missing)), 0);
  assert_int_equal(stream_connected(place.stream), ENOENT);
  workplace_remove(&folder);
  place_close(&place);
}

static void test_connector__family_that_this_host_does_not_have_is_an_error_at_once(void **state) {
  (void)state;
  struct place place;
  struct sockaddr_storage strange = {.ss_family = AF_MAX - 1};
  place_open(&place);
  assert_int_equal(place_connect(&place, &strange, sizeof(strange)), ERROR_NO_ROUTE);
  assert_null(place.stream);
  place_close(&place);
}

static void test_connector__stream_may_be_closed_in_its_callback(void **state) {
  (void)state;
  struct place place;
  place_open(&place);
  int other = place_meet(&place);
  place.closes = true;
  place.calls = 0;
  place_wait(&place, LOOP_READABLE | LOOP_WRITABLE);
  assert_int_equal(place.calls, 1);
  char octet;
  assert_int_equal(read(other, &octet, 1), 0);
  close(other);
  place_close(&place);
}

static void stop_loop(void *context) {
  loop_stop(context);
}

static void test_connector__what_is_not_watched_is_not_told(void **state) {
  (void)state;
  struct place place;
  struct error error;
  place_open(&place);
  int other = place_meet(&place);
  place_wait(&place, LOOP_WRITABLE);
  place.calls = 0;
  assert_int_equal(stream_watch(place.stream, 0), 0);
  assert_int_equal(write(other, "x", 1), 1);
  assert_int_equal(loop_at(place.loop, loop_boottime(place.loop) + 20, stop_loop, place.loop, NULL), 0);
  assert_int_equal(loop_run(place.loop, &error), 0);
  assert_int_equal(place.calls, 0);
  close(other);
  place_close(&place);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_connector__octets_go_both_ways_and_the_end_is_told),
      cmocka_unit_test(test_connector__nobody_listening_is_told_by_connected),
      cmocka_unit_test(test_connector__family_that_this_host_does_not_have_is_an_error_at_once),
      cmocka_unit_test(test_connector__stream_may_be_closed_in_its_callback),
      cmocka_unit_test(test_connector__what_is_not_watched_is_not_told),
  };
  signal(SIGPIPE, SIG_IGN);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
