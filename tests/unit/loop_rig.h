/* One loop under test, and the letters of the callbacks in the order in which they ran. */
#ifndef DKIMROLL_TESTS_LOOP_RIG_H
#define DKIMROLL_TESTS_LOOP_RIG_H

#include "dkimroll/loop.h"

enum { TRACE_MAX = 64 };

struct fixture {
  struct loop *loop;
  struct loop_source *first;
  struct loop_source *second;
  struct loop_source *backstop; /* ends a test that waits for what does not come, which then fails by its trace */
  int ends[2];                  /* of a pipe or a socketpair */
  int other_ends[2];
  int count;
  int64_t due;
  char trace[TRACE_MAX];
};

struct mark {
  struct fixture *fixture;
  char letter;
};

/* What the virtual loop begins with. */
extern const struct clock_reading loop_rig_start;

int loop_rig_setup_sd_event(void **state);
int loop_rig_setup_virtual(void **state);
int loop_rig_teardown(void **state);

/* Until something stops it. */
void loop_rig_run(struct fixture *fixture);
void trace_add(struct fixture *fixture, char letter);

/* A callback with a mark as context, which adds its letter. */
void on_mark(void *context);
/* Callbacks with the fixture as context. The first two end the run, and the second adds r for a descriptor that is readable. */
void on_stop(void *context);
void on_readable_stop(void *context, unsigned events);
/* Reads one octet from ends[0] and adds it; c ends the run. */
void on_read_one(void *context, unsigned events);

/* The same behaviour is asked of both loops. */
#define BOTH(function) \
  {#function " (sd-event)", function, loop_rig_setup_sd_event, loop_rig_teardown, NULL}, {#function " (virtual)", function, loop_rig_setup_virtual, loop_rig_teardown, NULL}
#define VIRTUAL(function) {#function, function, loop_rig_setup_virtual, loop_rig_teardown, NULL}

#endif
