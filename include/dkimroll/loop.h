/* The event loop as a replaceable struct: over sd-event in production (loop_sd_event_new), a heap and a virtual clock in
 * tests (loop_virtual_new). Callbacks run one at a time and never from inside at(), defer() or watch(). */
#ifndef DKIMROLL_LOOP_H
#define DKIMROLL_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "dkimroll/clock.h"
#include "dkimroll/error.h"

struct loop;
/* One timer, deferred call or watched descriptor. Valid until it was cancelled or, for at() and defer(), has fired: a fired
 * source frees itself before its callback runs, and must not be cancelled after that. */
struct loop_source;

enum loop_events { LOOP_READABLE = 1, LOOP_WRITABLE = 2, LOOP_HANGUP = 4 }; /* HANGUP is reported, never asked for */

typedef void loop_callback(void *context);
typedef void loop_watch_callback(void *context, unsigned events);

struct loop_ops {
  /* All clocks at once. Within one callback, two calls may differ. */
  void (*now)(struct loop *loop, struct clock_reading *ret_reading);
  /* Calls back once at boottime (milliseconds; past: soon). ret_source may be NULL. */
  int (*at)(struct loop *loop, int64_t boottime, loop_callback *callback, void *context, struct loop_source **ret_source);
  /* Calls back once, after the present callback returned. */
  int (*defer)(struct loop *loop, loop_callback *callback, void *context, struct loop_source **ret_source);
  /* Calls back whenever descriptor has one of events, level-triggered, until cancelled. The descriptor is borrowed, watched once
   * at a time (a second watch is ERROR_SYSTEM, as epoll(7) refuses it), and closed only after the watch was cancelled. */
  int (*watch)(struct loop *loop, int descriptor, unsigned events, loop_watch_callback *callback, void *context,
               struct loop_source **ret_source);
  /* NULL is fine. The callback will not run any more. Callbacks may cancel any source that is still valid, a watch also its own. */
  void (*cancel)(struct loop *loop, struct loop_source *source);
  /* Runs until stop(); returns 0 or ERROR_SYSTEM. A virtual loop also returns ERROR_NOT_FOUND when nothing can happen any more. May be
   * called again after it returned, but not from a callback. */
  int (*run)(struct loop *loop, struct error *error);
  /* Makes run() return after the present callback; before run(): makes the next one return at once. What waits keeps waiting. */
  void (*stop)(struct loop *loop);
  /* Frees the loop with all sources that are left. Not from a callback. */
  void (*destroy)(struct loop *loop);
};

struct loop {
  const struct loop_ops *ops;
};

/* Order, the same in both loops: timers by moment; equal moments, and deferred calls among each other, first come, first served.
 * What arrives during a round of callbacks waits for the next round, after the descriptors were looked at. */

/* Thin callers, so that code reads `loop_at(loop, ...)`. at, defer and watch return 0, ERROR_NO_MEMORY or ERROR_SYSTEM. */
void loop_now(struct loop *loop, struct clock_reading *ret_reading);
int64_t loop_boottime(struct loop *loop);
int64_t loop_wall(struct loop *loop);
int loop_at(struct loop *loop, int64_t boottime, loop_callback *callback, void *context, struct loop_source **ret_source)
    ERROR_USE_RESULT;
int loop_defer(struct loop *loop, loop_callback *callback, void *context, struct loop_source **ret_source)
    ERROR_USE_RESULT;
int loop_watch(struct loop *loop, int descriptor, unsigned events, loop_watch_callback *callback, void *context,
               struct loop_source **ret_source) ERROR_USE_RESULT;
/* Cancels *source if it is not NULL and sets it to NULL. */
void loop_cancel(struct loop *loop, struct loop_source **source);
int loop_run(struct loop *loop, struct error *error) ERROR_USE_RESULT;
void loop_stop(struct loop *loop);
void loop_destroy(struct loop *loop);

/* Over sd-event. SIGPIPE is ignored by the program that makes one. Caller frees with loop_destroy. */
int loop_sd_event_new(struct loop **ret_loop, struct error *error) ERROR_USE_RESULT;
/* The sd_event below, for what sd-event and sd-bus attach themselves (watchdog, signals, D-Bus); borrowed, NULL for a virtual loop.
 * Its own sources must not return a negative number from their callbacks, nor call sd_event_exit. */
struct sd_event;
struct sd_event *loop_sd_event_borrow(struct loop *loop);

enum {
  LOOP_VIRTUAL_PATIENCE = 20,        /* ms of real time; see loop_virtual_set_patience */
  LOOP_VIRTUAL_WAIT_MAX = 5000,      /* ms of real time for descriptors when there is no timer to move to */
  LOOP_VIRTUAL_ROUNDS_MAX = 1000000, /* without time moving on: a callback that does not consume what it was called for */
};

/* A virtual clock over a heap of timers: run() jumps from timer to timer. watch() is over poll(2) on real descriptors, which
 * are served before time moves on. start: the first reading. run() returns ERROR_NOT_FOUND when there is neither a timer nor a
 * descriptor left that could call back (with descriptors only, after waiting LOOP_VIRTUAL_WAIT_MAX for them), and ERROR_INTERNAL
 * after LOOP_VIRTUAL_ROUNDS_MAX rounds at one moment. */
int loop_virtual_new(const struct clock_reading *start, struct loop **ret_loop, struct error *error) ERROR_USE_RESULT;
/* Sets the wall clock forward or back without moving boottime, as an operator or NTP does. */
void loop_virtual_set_wall(struct loop *loop, int64_t wall);
/* The machine sleeps so long: all clocks go on, and nothing is called back meanwhile. From a callback. */
void loop_virtual_suspend(struct loop *loop, int64_t milliseconds);
/* How long, in milliseconds of real time, each jump waits before if any descriptor is watched: what is at the other end (a forked
 * keeper) lives in real time and must get a chance before a deadline is jumped to. Tests in which it computes long set more. */
void loop_virtual_set_patience(struct loop *loop, int milliseconds);

#endif
