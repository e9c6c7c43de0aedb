#include "dkimroll/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <systemd/sd-event.h>
#include <time.h>

/* sd-event takes accuracy 0 for its default of 250 ms; 1 ms is what our deadlines are written in. */
enum { TIMER_ACCURACY_USEC = 1000 };

struct sd_loop {
  struct loop loop;
  sd_event *event;
  struct loop_source *sources; /* all that live, so that destroy can free them */
};

struct loop_source {
  struct sd_loop *owner;
  sd_event_source *source;
  loop_callback *callback;
  loop_watch_callback *watch_callback;
  void *context;
  struct loop_source *previous, *next;
};

static void source_free(struct loop_source *source) {
  if (source->previous)
    source->previous->next = source->next;
  else
    source->owner->sources = source->next;
  if (source->next) source->next->previous = source->previous;
  sd_event_source_disable_unref(source->source);
  free(source);
}

static struct loop_source *source_new(struct sd_loop *owner, void *context) {
  struct loop_source *source = calloc(1, sizeof *source);
  if (!source) return NULL;
  source->owner = owner;
  source->context = context;
  source->next = owner->sources;
  if (source->next) source->next->previous = source;
  owner->sources = source;
  return source;
}

/* The source frees itself before its callback runs, so the callback may do anything; returning 0 always, because sd-event disables the source of a
 * handler that returns an error, which would be the silent end of a timer chain. */
static void fire_once(struct loop_source *source) {
  loop_callback *callback = source->callback;
  void *context = source->context;
  source_free(source);
  callback(context);
}

static int time_fired(sd_event_source *event_source, uint64_t usec, void *userdata) {
  (void)event_source;
  (void)usec;
  fire_once(userdata);
  return 0;
}

static int defer_fired(sd_event_source *event_source, void *userdata) {
  (void)event_source;
  fire_once(userdata);
  return 0;
}

static int io_fired(sd_event_source *event_source, int descriptor, uint32_t revents, void *userdata) {
  struct loop_source *source = userdata;
  unsigned events = 0;
  (void)event_source;
  (void)descriptor;
  if (revents & EPOLLIN) events |= LOOP_READABLE;
  if (revents & EPOLLOUT) events |= LOOP_WRITABLE;
  if (revents & (EPOLLHUP | EPOLLERR)) events |= LOOP_HANGUP;
  source->watch_callback(source->context, events);
  return 0;
}

static void sd_now(struct loop *loop, struct clock_reading *ret_reading) {
  (void)loop;
  clock_read(ret_reading);
}

static int finish_source(struct loop_source *source, int result, struct loop_source **ret_source) {
  if (result < 0) {
    source_free(source);
    return result == -ENOMEM ? ERROR_NO_MEMORY : ERROR_SYSTEM;
  }
  if (ret_source) *ret_source = source;
  return 0;
}

static int sd_at(struct loop *loop, int64_t boottime, loop_callback *callback, void *context, struct loop_source **ret_source) {
  struct sd_loop *self = (struct sd_loop *)loop;
  struct loop_source *source = source_new(self, context);
  if (!source) return ERROR_NO_MEMORY;
  source->callback = callback;
  const uint64_t usec = boottime <= 0 ? 0 : (uint64_t)boottime * 1000;
  return finish_source(source, sd_event_add_time(self->event, &source->source, CLOCK_BOOTTIME, usec, TIMER_ACCURACY_USEC, time_fired, source),
                       ret_source);
}

static int sd_defer(struct loop *loop, loop_callback *callback, void *context, struct loop_source **ret_source) {
  struct sd_loop *self = (struct sd_loop *)loop;
  struct loop_source *source = source_new(self, context);
  if (!source) return ERROR_NO_MEMORY;
  source->callback = callback;
  return finish_source(source, sd_event_add_defer(self->event, &source->source, defer_fired, source), ret_source);
}

static int sd_watch(struct loop *loop, int descriptor, unsigned events, loop_watch_callback *callback, void *context,
                    struct loop_source **ret_source) {
  struct sd_loop *self = (struct sd_loop *)loop;
  struct loop_source *source = source_new(self, context);
  uint32_t mask = 0;
  if (!source) return ERROR_NO_MEMORY;
  source->watch_callback = callback;
  if (events & LOOP_READABLE) mask |= EPOLLIN;
  if (events & LOOP_WRITABLE) mask |= EPOLLOUT;
  return finish_source(source, sd_event_add_io(self->event, &source->source, descriptor, mask, io_fired, source), ret_source);
}

static void sd_cancel(struct loop *loop, struct loop_source *source) {
  (void)loop;
  source_free(source);
}

static int sd_run(struct loop *loop, struct error *error) {
  struct sd_loop *self = (struct sd_loop *)loop;
  int result = sd_event_loop(self->event);
  if (result < 0) return error_set_errno(error, -result, "the event loop failed");
  return 0;
}

static void sd_stop(struct loop *loop) { sd_event_exit(((struct sd_loop *)loop)->event, 0); }

static void sd_destroy(struct loop *loop) {
  struct sd_loop *self = (struct sd_loop *)loop;
  while (self->sources) source_free(self->sources);
  sd_event_unref(self->event);
  free(self);
}

static const struct loop_ops sd_ops = {sd_now, sd_at, sd_defer, sd_watch, sd_cancel, sd_run, sd_stop, sd_destroy};

int loop_sd_event_new(struct loop **ret_loop, struct error *error) {
  struct sd_loop *self = calloc(1, sizeof *self);
  if (!self) return error_set(error, ERROR_NO_MEMORY, "out of memory for the event loop");
  self->loop.ops = &sd_ops;
  int result = sd_event_new(&self->event);
  if (result < 0) {
    free(self);
    return error_set_errno(error, -result, "cannot make an event loop");
  }
  *ret_loop = &self->loop;
  return 0;
}
