#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "dkimroll/loop.h"
#include "dkimroll/loop_queue.h"

struct loop_virtual {
  struct loop loop;
  struct clock_reading start;
  int64_t wall_offset; /* wall seconds at the boottime of start, as set last */
  int64_t boottime;
  int patience;
  struct loop_queue queue;
  struct loop_source *cursor; /* the watch to be served next, while descriptors are served */
  struct pollfd *polled;
  size_t polled_capacity;
  bool stopped;
};

static struct loop_virtual *loop_virtual_of(struct loop *loop) {
  return (struct loop_virtual *)loop;
}

static int64_t loop_virtual_elapsed(const struct loop_virtual *self) {
  return (self->boottime - self->start.boottime) / 1000;
}

static void loop_virtual_now(struct loop *loop, struct clock_reading *ret_reading) {
  const struct loop_virtual *self = loop_virtual_of(loop);
  *ret_reading = self->start;
  ret_reading->boottime = self->boottime;
  ret_reading->wall = time_add(self->wall_offset, loop_virtual_elapsed(self));
}

static int loop_virtual_at(struct loop *loop, int64_t boottime, loop_callback *callback, void *context,
                           struct loop_source **ret_source) {
  return loop_queue_at(&loop_virtual_of(loop)->queue, boottime, callback, context, ret_source);
}

static int loop_virtual_defer(struct loop *loop, loop_callback *callback, void *context,
                              struct loop_source **ret_source) {
  return loop_queue_defer(&loop_virtual_of(loop)->queue, callback, context, ret_source);
}

static int loop_virtual_watch(struct loop *loop, int descriptor, unsigned events, loop_watch_callback *callback,
                              void *context, struct loop_source **ret_source) {
  struct loop_virtual *self = loop_virtual_of(loop);
  /* epoll(7) takes a descriptor once; what production refuses must not pass
   * here. */
  for (const struct loop_source *other = self->queue.watched.first; other; other = other->next)
    if (other->descriptor == descriptor) return ERROR_SYSTEM;
  struct loop_source *source = NULL;
  int result = loop_queue_watch(&self->queue, descriptor, events, callback, context, &source);
  if (result == 0 && ret_source) *ret_source = source;
  return result;
}

static void loop_virtual_cancel(struct loop *loop, struct loop_source *source) {
  struct loop_virtual *self = loop_virtual_of(loop);
  if (!source) return;
  if (self->cursor == source) self->cursor = source->next;
  loop_queue_remove(&self->queue, source);
}

/* Room for one pollfd per watch. */
static bool loop_virtual_reserve(struct loop_virtual *self) {
  size_t count = self->queue.watched_count;
  if (count <= self->polled_capacity) return true;
  struct pollfd *polled = reallocarray(self->polled, count, sizeof(struct pollfd));
  if (!polled) return false;
  self->polled = polled;
  self->polled_capacity = count;
  return true;
}

/* Notes in every watch what poll(2) sees of it within the real time of timeout
 * milliseconds. */
static int loop_virtual_poll(struct loop_virtual *self, int timeout, struct error *error) {
  if (!loop_virtual_reserve(self)) return error_set(error, ERROR_NO_MEMORY, "the virtual event loop: out of memory");
  nfds_t count = 0;
  for (const struct loop_source *source = self->queue.watched.first; source; source = source->next) {
    short wanted =
        (short)((source->events & LOOP_READABLE ? POLLIN : 0) | (source->events & LOOP_WRITABLE ? POLLOUT : 0));
    self->polled[count++] = (struct pollfd){.fd = source->descriptor, .events = wanted};
  }
  int ready = poll(self->polled, count, timeout);
  if (ready < 0 && errno != EINTR) return error_set_errno(error, errno, "the virtual event loop cannot poll");
  count = 0;
  for (struct loop_source *source = self->queue.watched.first; source; source = source->next) {
    short seen = ready > 0 ? self->polled[count].revents : 0;
    count++;
    source->pending = 0;
    if (seen & POLLIN) source->pending |= LOOP_READABLE;
    if (seen & POLLOUT) source->pending |= LOOP_WRITABLE;
    if (seen & (POLLHUP | POLLERR | POLLNVAL)) source->pending |= LOOP_HANGUP;
  }
  return 0;
}

/* Calls every watch that poll(2) found ready. Callbacks may cancel any watch;
 * loop_virtual_cancel keeps the cursor valid. */
static bool loop_virtual_serve(struct loop_virtual *self) {
  bool called = false;
  self->cursor = self->queue.watched.first;
  while (self->cursor && !self->stopped) {
    struct loop_source *source = self->cursor;
    self->cursor = source->next;
    if (source->pending == 0) continue;
    unsigned events = source->pending;
    source->pending = 0;
    source->watch_callback(source->context, events);
    called = true;
  }
  self->cursor = NULL;
  return called;
}

static int loop_virtual_serve_within(struct loop_virtual *self, int timeout, bool *ret_called, struct error *error) {
  *ret_called = false;
  if (self->queue.watched_count == 0) return 0;
  int result = loop_virtual_poll(self, timeout, error);
  if (result == 0) *ret_called = loop_virtual_serve(self);
  return result;
}

/* Nothing is left to do at this moment: waits a little in real time for the
 * descriptors, then moves to the next timer. */
static int loop_virtual_advance(struct loop_virtual *self, struct error *error) {
  int64_t next = loop_queue_next(&self->queue);
  bool timer = next != TIME_NEVER;
  bool called = false;
  int result = loop_virtual_serve_within(self, timer ? self->patience : LOOP_VIRTUAL_WAIT_MAX, &called, error);
  if (result < 0 || called) return result;
  if (!timer) return error_set(error, ERROR_NOT_FOUND, "the virtual event loop waits for nothing that can happen");
  self->boottime = time_max(self->boottime, next);
  return 0;
}

static int loop_virtual_run(struct loop *loop, struct error *error) {
  struct loop_virtual *self = loop_virtual_of(loop);
  int64_t moment = self->boottime;
  for (int rounds = 0; !self->stopped; rounds++) {
    bool served = false;
    int result = loop_virtual_serve_within(self, 0, &served, error);
    if (result < 0) return result;
    bool called = loop_queue_run_round(&self->queue, self->boottime, &self->stopped);
    if (!served && !called && !self->stopped) result = loop_virtual_advance(self, error);
    if (result < 0) return result;
    if (self->boottime != moment) rounds = 0;
    moment = self->boottime;
    if (rounds >= LOOP_VIRTUAL_ROUNDS_MAX)
      return error_set(error, ERROR_INTERNAL, "the virtual event loop made %d rounds without time moving on",
                       LOOP_VIRTUAL_ROUNDS_MAX);
  }
  self->stopped = false;
  return 0;
}

static void loop_virtual_stop(struct loop *loop) {
  loop_virtual_of(loop)->stopped = true;
}

static void loop_virtual_destroy(struct loop *loop) {
  struct loop_virtual *self = loop_virtual_of(loop);
  loop_queue_release(&self->queue);
  free(self->polled);
  free(self);
}

static const struct loop_ops loop_virtual_ops = {
    .now = loop_virtual_now,
    .at = loop_virtual_at,
    .defer = loop_virtual_defer,
    .watch = loop_virtual_watch,
    .cancel = loop_virtual_cancel,
    .run = loop_virtual_run,
    .stop = loop_virtual_stop,
    .destroy = loop_virtual_destroy,
};

int loop_virtual_new(const struct clock_reading *start, struct loop **ret_loop, struct error *error) {
  struct loop_virtual *self = calloc(1, sizeof(*self));
  if (!self) return error_set(error, ERROR_NO_MEMORY, "the virtual event loop: out of memory");
  self->loop.ops = &loop_virtual_ops;
  self->start = *start;
  self->wall_offset = start->wall;
  self->boottime = start->boottime;
  self->patience = LOOP_VIRTUAL_PATIENCE;
  *ret_loop = &self->loop;
  return 0;
}

void loop_virtual_set_wall(struct loop *loop, int64_t wall) {
  struct loop_virtual *self = loop_virtual_of(loop);
  self->wall_offset = time_add(wall, -loop_virtual_elapsed(self));
}

void loop_virtual_suspend(struct loop *loop, int64_t milliseconds) { loop_virtual_of(loop)->boottime += milliseconds; }

void loop_virtual_set_patience(struct loop *loop, int milliseconds) {
  loop_virtual_of(loop)->patience = milliseconds;
}
