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
  /* Calls back whenever descriptor has one of events, level-triggered, until cancelled. The descriptor is borrowed. */
  int (*watch)(struct loop *loop, int descriptor, unsigned events, loop_watch_callback *callback, void *context,
               struct loop_source **ret_source);
  /* NULL is fine. The callback will not run any more. */
  void (*cancel)(struct loop *loop, struct loop_source *source);
  /* Runs until stop(); returns 0 or ERROR_SYSTEM. A virtual loop also returns ERROR_NOT_FOUND when nothing can happen any more. */
  int (*run)(struct loop *loop, struct error *error);
  /* Makes run() return after the present callback. */
  void (*stop)(struct loop *loop);
  /* Frees the loop with all sources that are left. */
  void (*destroy)(struct loop *loop);
};

struct loop {
  const struct loop_ops *ops;
};

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

/* A virtual clock over a heap of timers: run() jumps from timer to timer. watch() is over poll(2) on real descriptors, which
 * are served before time moves on. start: the first reading. */
int loop_virtual_new(const struct clock_reading *start, struct loop **ret_loop, struct error *error) ERROR_USE_RESULT;
/* Sets the wall clock forward or back without moving boottime, as an operator or NTP does. */
void loop_virtual_set_wall(struct loop *loop, int64_t wall);

#endif
