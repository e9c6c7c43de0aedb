#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <systemd/sd-event.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/loop.h"
#include "dkimroll/loop_queue.h"

enum {
  LOOP_MICROSECONDS = 1000, /* in a millisecond */
  LOOP_ACCURACY = 1,        /* microseconds; 0 would mean sd-event's default of 250 ms */
};

/* One sd-event timer serves all timers of ours, armed for the earliest before
 * each wait: sd-event promises no order among equal moments, and turns a source
 * off for ever when its callback fails. Ours cannot fail. */
struct loop_sd_event {
  struct loop loop;
  sd_event *event;
  sd_event_source *alarm;
  int64_t armed; /* the moment that alarm is set to; TIME_NEVER: it is off */
  struct clock_reading reading;
  struct loop_queue queue;
  bool stopped;
};

static struct loop_sd_event *loop_sd_event_of(struct loop *loop) {
  return (struct loop_sd_event *)loop;
}

static void loop_sd_event_now(struct loop *loop, struct clock_reading *ret_reading) {
  struct loop_sd_event *self = loop_sd_event_of(loop);
  clock_refresh(&self->reading);
  *ret_reading = self->reading;
}

static int loop_sd_event_at(struct loop *loop, int64_t boottime, loop_callback *callback, void *context,
                            struct loop_source **ret_source) {
  return loop_queue_at(&loop_sd_event_of(loop)->queue, boottime, callback, context, ret_source);
}

static int loop_sd_event_defer(struct loop *loop, loop_callback *callback, void *context,
                               struct loop_source **ret_source) {
  return loop_queue_defer(&loop_sd_event_of(loop)->queue, callback, context, ret_source);
}

/* source may be freed by its own callback and is not touched afterwards;
 * sd-event keeps its part until this returns. */
static int loop_sd_event_dispatch(sd_event_source *handle, int descriptor, uint32_t events, void *context) {
  (void)handle;
  (void)descriptor;
  struct loop_source *source = context;
  unsigned seen = 0;
  if (events & EPOLLIN) seen |= LOOP_READABLE;
  if (events & EPOLLOUT) seen |= LOOP_WRITABLE;
  if (events & (EPOLLHUP | EPOLLERR)) seen |= LOOP_HANGUP;
  source->watch_callback(source->context, seen);
  return 0;
}

static int loop_sd_event_watch(struct loop *loop, int descriptor, unsigned events, loop_watch_callback *callback,
                               void *context, struct loop_source **ret_source) {
  struct loop_sd_event *self = loop_sd_event_of(loop);
  struct loop_source *source = NULL;
  int result = loop_queue_watch(&self->queue, descriptor, events, callback, context, &source);
  if (result < 0) return result;
  uint32_t wanted =
      (events & LOOP_READABLE ? (uint32_t)EPOLLIN : 0) | (events & LOOP_WRITABLE ? (uint32_t)EPOLLOUT : 0);
  sd_event_source *handle = NULL;
  int added = sd_event_add_io(self->event, &handle, descriptor, wanted, loop_sd_event_dispatch, source);
  if (added < 0) {
    loop_queue_remove(&self->queue, source);
    return added == -ENOMEM ? ERROR_NO_MEMORY : ERROR_SYSTEM;
  }
  source->handle = handle;
  if (ret_source) *ret_source = source;
  return 0;
}

static void loop_sd_event_cancel(struct loop *loop, struct loop_source *source) {
  if (!source) return;
  sd_event_source_disable_unref(source->handle);
  loop_queue_remove(&loop_sd_event_of(loop)->queue, source);
}

/* Only wakes the wait: run() calls what is due. */
static int loop_sd_event_alarm(sd_event_source *handle, uint64_t moment, void *context) {
  (void)handle;
  (void)moment;
  struct loop_sd_event *self = context;
  self->armed = TIME_NEVER; /* sd-event timers fire once and are off then */
  return 0;
}

static int loop_sd_event_arm(struct loop_sd_event *self, int64_t due) {
  if (due == self->armed) return 0;
  if (due > INT64_MAX / LOOP_MICROSECONDS) due = TIME_NEVER;
  int result = 0;
  if (due != TIME_NEVER) {
    uint64_t moment = due > 0 ? (uint64_t)due * LOOP_MICROSECONDS : 0;
    result = sd_event_source_set_time(self->alarm, moment);
  }
  if (result >= 0)
    result = sd_event_source_set_enabled(self->alarm, due == TIME_NEVER ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
  if (result >= 0) self->armed = due;
  return result;
}

static int loop_sd_event_run(struct loop *loop, struct error *error) {
  struct loop_sd_event *self = loop_sd_event_of(loop);
  while (!self->stopped) {
    int64_t next = loop_queue_next(&self->queue);
    int result = next == TIME_UNSET ? 0 : loop_sd_event_arm(self, next);
    if (result >= 0) result = sd_event_run(self->event, next == TIME_UNSET ? 0 : UINT64_MAX);
    if (result < 0) return error_set_errno(error, -result, "the event loop failed");
    loop_queue_run_round(&self->queue, clock_boottime(), &self->stopped);
  }
  self->stopped = false;
  return 0;
}

static void loop_sd_event_stop(struct loop *loop) {
  loop_sd_event_of(loop)->stopped = true;
}

static void loop_sd_event_destroy(struct loop *loop) {
  struct loop_sd_event *self = loop_sd_event_of(loop);
  for (struct loop_source *source = self->queue.watched.first; source; source = source->next)
    sd_event_source_disable_unref(source->handle);
  loop_queue_release(&self->queue);
  sd_event_source_disable_unref(self->alarm);
  sd_event_unref(self->event);
  free(self);
}

static const struct loop_ops loop_sd_event_ops = {
    .now = loop_sd_event_now,
    .at = loop_sd_event_at,
    .defer = loop_sd_event_defer,
    .watch = loop_sd_event_watch,
    .cancel = loop_sd_event_cancel,
    .run = loop_sd_event_run,
    .stop = loop_sd_event_stop,
    .destroy = loop_sd_event_destroy,
};

int loop_sd_event_new(struct loop **ret_loop, struct error *error) {
  struct loop_sd_event *self = calloc(1, sizeof(*self));
  if (!self) return error_set(error, ERROR_NO_MEMORY, "the event loop: out of memory");
  self->loop.ops = &loop_sd_event_ops;
  self->armed = TIME_NEVER;
  clock_read(&self->reading);
  int result = sd_event_new(&self->event);
  if (result >= 0)
    result = sd_event_add_time(self->event, &self->alarm, CLOCK_BOOTTIME, 0, LOOP_ACCURACY, loop_sd_event_alarm, self);
  if (result >= 0) result = sd_event_source_set_enabled(self->alarm, SD_EVENT_OFF);
  if (result < 0) {
    loop_sd_event_destroy(&self->loop);
    return error_set_errno(error, -result, "cannot make the event loop");
  }
  *ret_loop = &self->loop;
  return 0;
}

struct sd_event *loop_sd_event_borrow(struct loop *loop) {
  return loop->ops == &loop_sd_event_ops ? loop_sd_event_of(loop)->event : NULL;
}
