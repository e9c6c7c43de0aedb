#include "dkimroll/loop.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* With descriptors under watch virtual time waits this long for them before it jumps to the next timer: another process (a forked keeper, a server)
 * answers in real time. */
enum { DESCRIPTOR_GRACE_MS = 20, DESCRIPTOR_WAIT_MS = 5000, WATCHES_MAX = 1024 };

struct virtual_loop {
  struct loop loop;
  struct clock_reading clock;
  struct loop_source **heap; /* timers and deferred calls: earliest first, in the order of their making among equals */
  size_t heap_count, heap_capacity;
  struct loop_source *watches;
  uint64_t sequence;
  bool stopped;
};

struct loop_source {
  int64_t moment; /* boottime; a deferred call has the present one */
  uint64_t sequence;
  size_t place; /* in the heap; SIZE_MAX: a watch */
  loop_callback *callback;
  loop_watch_callback *watch_callback;
  void *context;
  int descriptor;
  unsigned events;
  struct loop_source *previous, *next; /* among the watches */
};

static bool earlier(const struct loop_source *a, const struct loop_source *b) {
  return a->moment != b->moment ? a->moment < b->moment : a->sequence < b->sequence;
}

static void heap_put(struct virtual_loop *self, size_t place, struct loop_source *source) {
  self->heap[place] = source;
  source->place = place;
}

static void heap_rise(struct virtual_loop *self, size_t place) {
  struct loop_source *source = self->heap[place];
  while (place > 0 && earlier(source, self->heap[(place - 1) / 2])) {
    heap_put(self, place, self->heap[(place - 1) / 2]);
    place = (place - 1) / 2;
  }
  heap_put(self, place, source);
}

static void heap_sink(struct virtual_loop *self, size_t place) {
  struct loop_source *source = self->heap[place];
  for (size_t child = place * 2 + 1; child < self->heap_count; child = place * 2 + 1) {
    if (child + 1 < self->heap_count && earlier(self->heap[child + 1], self->heap[child])) child++;
    if (!earlier(self->heap[child], source)) break;
    heap_put(self, place, self->heap[child]);
    place = child;
  }
  heap_put(self, place, source);
}

static void heap_remove(struct virtual_loop *self, struct loop_source *source) {
  const size_t place = source->place;
  struct loop_source *last = self->heap[--self->heap_count];
  if (last == source) return;
  heap_put(self, place, last);
  heap_rise(self, place);
  heap_sink(self, last->place);
}

static void virtual_now(struct loop *loop, struct clock_reading *ret_reading) { *ret_reading = ((struct virtual_loop *)loop)->clock; }

static int virtual_at(struct loop *loop, int64_t boottime, loop_callback *callback, void *context, struct loop_source **ret_source) {
  struct virtual_loop *self = (struct virtual_loop *)loop;
  if (self->heap_count == self->heap_capacity) {
    const size_t capacity = self->heap_capacity ? self->heap_capacity * 2 : 64;
    struct loop_source **heap = realloc(self->heap, capacity * sizeof *heap);
    if (!heap) return ERROR_NO_MEMORY;
    self->heap = heap;
    self->heap_capacity = capacity;
  }
  struct loop_source *source = calloc(1, sizeof *source);
  if (!source) return ERROR_NO_MEMORY;
  source->moment = boottime < self->clock.boottime ? self->clock.boottime : boottime;
  source->sequence = self->sequence++;
  source->callback = callback;
  source->context = context;
  self->heap[self->heap_count] = source;
  heap_rise(self, self->heap_count++);
  if (ret_source) *ret_source = source;
  return 0;
}

static int virtual_defer(struct loop *loop, loop_callback *callback, void *context, struct loop_source **ret_source) {
  return virtual_at(loop, INT64_MIN, callback, context, ret_source);
}

static int virtual_watch(struct loop *loop, int descriptor, unsigned events, loop_watch_callback *callback, void *context,
                         struct loop_source **ret_source) {
  struct virtual_loop *self = (struct virtual_loop *)loop;
  struct loop_source *source = calloc(1, sizeof *source);
  if (!source) return ERROR_NO_MEMORY;
  source->place = SIZE_MAX;
  source->sequence = self->sequence++;
  source->watch_callback = callback;
  source->context = context;
  source->descriptor = descriptor;
  source->events = events;
  source->next = self->watches;
  if (source->next) source->next->previous = source;
  self->watches = source;
  if (ret_source) *ret_source = source;
  return 0;
}

static void virtual_cancel(struct loop *loop, struct loop_source *source) {
  struct virtual_loop *self = (struct virtual_loop *)loop;
  if (source->place != SIZE_MAX) {
    heap_remove(self, source);
  } else {
    if (source->previous)
      source->previous->next = source->next;
    else
      self->watches = source->next;
    if (source->next) source->next->previous = source->previous;
  }
  free(source);
}

static short poll_events(unsigned events) {
  return (short)((events & LOOP_READABLE ? POLLIN : 0) | (events & LOOP_WRITABLE ? POLLOUT : 0));
}

/* Calls what is ready among the watches. A callback may cancel any of them, so each is looked up again by its sequence before its call. */
static bool serve_watches(struct virtual_loop *self, int wait_ms) {
  struct pollfd polled[WATCHES_MAX];
  uint64_t sequences[WATCHES_MAX];
  nfds_t count = 0;
  for (struct loop_source *w = self->watches; w && count < WATCHES_MAX; w = w->next) {
    polled[count] = (struct pollfd){.fd = w->descriptor, .events = poll_events(w->events)};
    sequences[count++] = w->sequence;
  }
  if (count == 0 || poll(polled, count, wait_ms) <= 0) return false;
  for (nfds_t i = 0; i < count && !self->stopped; i++) {
    if (!polled[i].revents) continue;
    struct loop_source *w = self->watches;
    while (w && w->sequence != sequences[i]) w = w->next;
    if (!w) continue;
    const unsigned events = (polled[i].revents & POLLIN ? LOOP_READABLE : 0u) | (polled[i].revents & POLLOUT ? LOOP_WRITABLE : 0u) |
                            (polled[i].revents & (POLLHUP | POLLERR | POLLNVAL) ? LOOP_HANGUP : 0u);
    w->watch_callback(w->context, events);
  }
  return true;
}

static void advance(struct virtual_loop *self, int64_t boottime) {
  if (boottime <= self->clock.boottime) return;
  /* Whole seconds of wall time pass with every thousand milliseconds of boot time. */
  self->clock.wall += boottime / 1000 - self->clock.boottime / 1000;
  self->clock.boottime = boottime;
}

static int virtual_run(struct loop *loop, struct error *error) {
  struct virtual_loop *self = (struct virtual_loop *)loop;
  self->stopped = false;
  while (!self->stopped) {
    const bool due = self->heap_count > 0 && self->heap[0]->moment <= self->clock.boottime;
    const int wait = due ? 0 : (self->heap_count > 0 ? DESCRIPTOR_GRACE_MS : DESCRIPTOR_WAIT_MS);
    if (serve_watches(self, wait) && !due) continue;
    if (self->stopped) break;
    if (self->heap_count == 0) return error_set(error, ERROR_NOT_FOUND, "nothing is left that could happen");
    struct loop_source *source = self->heap[0];
    advance(self, source->moment);
    heap_remove(self, source);
    loop_callback *callback = source->callback;
    void *context = source->context;
    free(source);
    callback(context);
  }
  return 0;
}

static void virtual_stop(struct loop *loop) { ((struct virtual_loop *)loop)->stopped = true; }

static void virtual_destroy(struct loop *loop) {
  struct virtual_loop *self = (struct virtual_loop *)loop;
  while (self->watches) virtual_cancel(loop, self->watches);
  while (self->heap_count > 0) virtual_cancel(loop, self->heap[0]);
  free(self->heap);
  free(self);
}

static const struct loop_ops virtual_ops = {virtual_now,    virtual_at,  virtual_defer, virtual_watch,
                                            virtual_cancel, virtual_run, virtual_stop,  virtual_destroy};

int loop_virtual_new(const struct clock_reading *start, struct loop **ret_loop, struct error *error) {
  struct virtual_loop *self = calloc(1, sizeof *self);
  if (!self) return error_set(error, ERROR_NO_MEMORY, "out of memory for the event loop");
  self->loop.ops = &virtual_ops;
  self->clock = *start;
  *ret_loop = &self->loop;
  return 0;
}

void loop_virtual_set_wall(struct loop *loop, int64_t wall) { ((struct virtual_loop *)loop)->clock.wall = wall; }
