#include "loop_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"

enum { BACKSTOP = 5000 }; /* ms */

const struct clock_reading loop_rig_start = {
    .wall = 1769267045, .boottime = 7000, .synchronised = true, .boot_id = "boot"};

void trace_add(struct fixture *fixture, char letter) {
  size_t length = strlen(fixture->trace);
  assert_true(length + 1 < TRACE_MAX);
  fixture->trace[length] = letter;
}

static void on_backstop(void *context) {
  struct fixture *fixture = context;
  fixture->backstop = NULL;
  trace_add(fixture, '!');
  loop_stop(fixture->loop);
}

void on_mark(void *context) {
  const struct mark *mark = context;
  trace_add(mark->fixture, mark->letter);
}

void on_stop(void *context) {
  struct fixture *fixture = context;
  loop_stop(fixture->loop);
}

void on_readable_stop(void *context, unsigned events) {
  struct fixture *fixture = context;
  trace_add(fixture, events & LOOP_READABLE ? 'r' : '?');
  loop_stop(fixture->loop);
}

void on_read_one(void *context, unsigned events) {
  struct fixture *fixture = context;
  char letter = '?';
  assert_true(events & LOOP_READABLE);
  assert_int_equal(read(fixture->ends[0], &letter, 1), 1);
  trace_add(fixture, letter);
  if (letter == 'c') loop_stop(fixture->loop);
}

static struct fixture *fixture_new(struct loop *loop) {
  struct fixture *fixture = calloc(1, sizeof(*fixture));
  assert_non_null(fixture);
  *fixture = (struct fixture){.loop = loop, .ends = {-1, -1}, .other_ends = {-1, -1}};
  assert_int_equal(loop_at(loop, loop_boottime(loop) + BACKSTOP, on_backstop, fixture, &fixture->backstop), 0);
  return fixture;
}

int loop_rig_setup_sd_event(void **state) {
  struct loop *loop = NULL;
  struct error error = {0};
  if (loop_sd_event_new(&loop, &error) < 0) return -1;
  *state = fixture_new(loop);
  return 0;
}

int loop_rig_setup_virtual(void **state) {
  struct loop *loop = NULL;
  struct error error = {0};
  if (loop_virtual_new(&loop_rig_start, &loop, &error) < 0) return -1;
  *state = fixture_new(loop);
  return 0;
}

int loop_rig_teardown(void **state) {
  struct fixture *fixture = *state;
  loop_destroy(fixture->loop);
  for (int i = 0; i < 2; i++) {
    cleanup_close(&fixture->ends[i]);
    cleanup_close(&fixture->other_ends[i]);
  }
  free(fixture);
  return 0;
}

void loop_rig_run(struct fixture *fixture) {
  struct error error = {0};
  assert_int_equal(loop_run(fixture->loop, &error), 0);
}
