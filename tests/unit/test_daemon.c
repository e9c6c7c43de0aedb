/* What head and life of the daemon say to each other, and what it says of what comes next. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/daemon.h"
#include "dkimroll/text.h"
#include "lineage_builder.h"

struct pair {
  int ends[2];
  char octets[DAEMON_MESSAGE_MAX + 1];
};

static int setup(void **state) {
  struct pair *pair = calloc(1, sizeof *pair);
  *state = pair;
  return pair ? socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair->ends) : -1;
}

static int teardown(void **state) {
  struct pair *pair = *state;
  if (pair->ends[0] >= 0) close(pair->ends[0]);
  close(pair->ends[1]);
  free(pair);
  return 0;
}

static void test_daemon__messages_keep_their_borders(void **state) {
  struct pair *pair = *state;
  enum daemon_word word = DAEMON_PARK;
  size_t size = 99;
  assert_int_equal(daemon_receive(pair->ends[1], &word, pair->octets, &size), 0);
  daemon_send(pair->ends[0], DAEMON_ALIVE, NULL, 0);
  daemon_send(pair->ends[0], DAEMON_STATUS, "two\nlines", 9);
  assert_int_equal(daemon_receive(pair->ends[1], &word, pair->octets, &size), 1);
  assert_int_equal(word, DAEMON_ALIVE);
  assert_int_equal(size, 0);
  assert_string_equal(pair->octets, "");
  assert_int_equal(daemon_receive(pair->ends[1], &word, pair->octets, &size), 1);
  assert_int_equal(word, DAEMON_STATUS);
  assert_string_equal(pair->octets, "two\nlines");
  close(TAKE_FD(pair->ends[0]));
  assert_int_equal(daemon_receive(pair->ends[1], &word, pair->octets, &size), -1);
  daemon_send(pair->ends[1], DAEMON_ALIVE, NULL, 0); /* nobody is there, and that is no signal */
}

static void test_daemon__the_longest_message_arrives(void **state) {
  struct pair *pair = *state;
  enum daemon_word word = DAEMON_PARK;
  size_t size = 0;
  char *text = malloc(DAEMON_MESSAGE_MAX);
  assert_non_null(text);
  memset(text, 'x', DAEMON_MESSAGE_MAX);
  daemon_send(pair->ends[0], DAEMON_FAILED, text, DAEMON_MESSAGE_MAX);
  free(text);
  assert_int_equal(daemon_receive(pair->ends[1], &word, pair->octets, &size), 1);
  assert_int_equal(word, DAEMON_FAILED);
  assert_int_equal(size, DAEMON_MESSAGE_MAX - 1);
}

static void test_daemon__nothing_is_due(void **state) {
  char text[DAEMON_SENTENCE_MAX];
  const struct plan_clock clock = {.now = 1800000000, .attested = true};
  (void)state;
  daemon_describe(NULL, &clock, 0, text);
  assert_string_equal(text, "nothing is due");
  daemon_describe(NULL, &clock, 1, text);
  assert_string_equal(text, "nothing is due, 1 domain in work");
  daemon_describe(NULL, &clock, 3, text);
  assert_string_equal(text, "nothing is due, 3 domains in work");
}

/* What is due next is a look; when the step itself comes is told, too. */
static void test_daemon__a_ready_key_takes_over(void **state) {
  struct builder *builder = *state;
  char text[DAEMON_SENTENCE_MAX];
  const struct plan_clock clock = {.now = BUILDER_NOW, .attested = true};
  builder_key(builder, "s20261101", KEY_ACTIVE, BUILDER_NOW - BUILDER_LIFE + DAY);
  builder_key(builder, "s20270115", KEY_READY, BUILDER_NOW);
  builder->lineage.next_moment = BUILDER_NOW + 600;
  daemon_describe(&builder->lineage, &clock, 0, text);
  assert_string_equal(text, "next: example.com at 2027-01-15 08:10:00 UTC (a look; s20270115 takes over at 2027-01-16 08:00:00 UTC)");
  builder->lineage.next_moment = BUILDER_NOW + DAY;
  daemon_describe(&builder->lineage, &clock, 3, text);
  assert_string_equal(text, "next: example.com at 2027-01-16 08:00:00 UTC (s20270115 takes over), 3 domains in work");
}

static void test_daemon__a_key_that_signs_gets_a_successor(void **state) {
  struct builder *builder = *state;
  char text[DAEMON_SENTENCE_MAX];
  const struct plan_clock clock = {.now = BUILDER_NOW, .attested = true};
  builder_key(builder, "s20270115", KEY_ACTIVE, BUILDER_NOW);
  builder->lineage.next_moment = BUILDER_NOW + BUILDER_LIFE;
  daemon_describe(&builder->lineage, &clock, 0, text);
  assert_true(text_starts(text, "next: example.com at 2027-04-15 08:00:00 UTC (a successor is made)"));
  /* What is overdue is due now. */
  builder->lineage.next_moment = BUILDER_NOW - 5;
  daemon_describe(&builder->lineage, &clock, 0, text);
  assert_true(text_starts(text, "next: example.com at 2027-01-15 08:00:00 UTC"));
  builder->lineage.next_moment = TIME_NEVER;
  daemon_describe(&builder->lineage, &clock, 0, text);
  assert_string_equal(text, "nothing is due");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_daemon__messages_keep_their_borders, setup, teardown),
      cmocka_unit_test_setup_teardown(test_daemon__the_longest_message_arrives, setup, teardown),
      cmocka_unit_test(test_daemon__nothing_is_due),
      cmocka_unit_test_setup_teardown(test_daemon__a_ready_key_takes_over, builder_setup, builder_teardown),
      cmocka_unit_test_setup_teardown(test_daemon__a_key_that_signs_gets_a_successor, builder_setup, builder_teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
