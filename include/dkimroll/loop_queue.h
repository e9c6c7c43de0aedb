/* The sources of a loop, shared by its two implementations, so that timers and deferred calls run in the same order in
 * production and in tests: timers by moment, equal moments and deferred calls first come, first served. Internal to src/base. */
#ifndef DKIMROLL_LOOP_QUEUE_H
#define DKIMROLL_LOOP_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/loop.h"

enum loop_source_place { LOOP_PLACE_HEAP, LOOP_PLACE_READY, LOOP_PLACE_WATCHED };

struct loop_source {
  enum loop_source_place place;
  loop_callback *callback; /* timers and deferred calls */
  loop_watch_callback *watch_callback;
  void *context;
  int64_t due;       /* boottime in milliseconds */
  uint64_t sequence; /* order of arrival, for equal moments */
  uint64_t round;    /* in the ready list: the round after which it came */
  size_t position;   /* in the heap */
  int descriptor;
  unsigned events;  /* asked for */
  unsigned pending; /* virtual loop: seen by poll(2), not called yet */
  void *handle;     /* sd-event loop: its sd_event_source; owned by that loop */
  struct loop_source *previous;
  struct loop_source *next;
};

struct loop_source_list {
  struct loop_source *first;
  struct loop_source *last;
};

struct loop_queue {
  struct loop_source **heap; /* the earliest is at 0 */
  size_t heap_size;
  size_t heap_capacity;
  struct loop_source_list ready; /* deferred calls, and timers that fell due */
  struct loop_source_list watched;
  size_t watched_count;
  uint64_t sequence;
  uint64_t round;
};

/* As the ops of struct loop. ret_source of a watch must not be NULL. */
int loop_queue_at(struct loop_queue *queue, int64_t due, loop_callback *callback, void *context,
                  struct loop_source **ret_source) ERROR_USE_RESULT;
int loop_queue_defer(struct loop_queue *queue, loop_callback *callback, void *context, struct loop_source **ret_source)
    ERROR_USE_RESULT;
int loop_queue_watch(struct loop_queue *queue, int descriptor, unsigned events, loop_watch_callback *callback,
                     void *context, struct loop_source **ret_source) ERROR_USE_RESULT;

/* Takes source out and frees it; its handle must be released already. */
void loop_queue_remove(struct loop_queue *queue, struct loop_source *source);

/* When something is to run next: TIME_UNSET: at once; TIME_NEVER: nothing is waiting. */
int64_t loop_queue_next(const struct loop_queue *queue);

/* Calls what is ready or due at now, but nothing that arrives meanwhile, so that a chain of deferred calls starves neither
 * timers nor descriptors. Ends early when *stopped turns true. Whether anything was called. */
bool loop_queue_run_round(struct loop_queue *queue, int64_t now, const bool *stopped);

/* Frees all sources. */
void loop_queue_release(struct loop_queue *queue);

#endif
