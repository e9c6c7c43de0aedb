#include "dkimroll/loop.h"

#include <stddef.h>

void loop_now(struct loop *loop, struct clock_reading *ret_reading) {
  loop->ops->now(loop, ret_reading);
}

int64_t loop_boottime(struct loop *loop) {
  struct clock_reading reading;
  loop->ops->now(loop, &reading);
  return reading.boottime;
}

int64_t loop_wall(struct loop *loop) {
  struct clock_reading reading;
  loop->ops->now(loop, &reading);
  return reading.wall;
}

int loop_at(struct loop *loop, int64_t boottime, loop_callback *callback, void *context,
            struct loop_source **ret_source) {
  return loop->ops->at(loop, boottime, callback, context, ret_source);
}

int loop_defer(struct loop *loop, loop_callback *callback, void *context, struct loop_source **ret_source) {
  return loop->ops->defer(loop, callback, context, ret_source);
}

int loop_watch(struct loop *loop, int descriptor, unsigned events, loop_watch_callback *callback, void *context,
               struct loop_source **ret_source) {
  return loop->ops->watch(loop, descriptor, events, callback, context, ret_source);
}

void loop_cancel(struct loop *loop, struct loop_source **source) {
  if (!*source) return;
  struct loop_source *cancelled = *source;
  *source = NULL;
  loop->ops->cancel(loop, cancelled);
}

int loop_run(struct loop *loop, struct error *error) {
  return loop->ops->run(loop, error);
}

void loop_stop(struct loop *loop) {
  loop->ops->stop(loop);
}

void loop_destroy(struct loop *loop) {
  if (loop) loop->ops->destroy(loop);
}
