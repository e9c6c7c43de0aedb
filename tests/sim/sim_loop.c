/* True time, a heap of timers, and the clocks that a host makes of it. Timers of the process (those made by the ops of struct loop) are counted, so that the
 * process can die between any two; those of the world outlive it. */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

struct loop_source {
  int64_t due; /* true time */
  uint64_t sequence;
  loop_callback *callback;
  void *context;
  size_t place; /* in the heap, from 1; 0: a watch, which never fires */
  bool world, owned;
};

struct sim_loop {
  struct loop loop;
  struct loop_source **heap; /* from 1 */
  size_t count, capacity;
  uint64_t sequence;
  int64_t now;
  int64_t booted; /* when boottime was 0 */
  int64_t wall_error;
  bool synchronised;
  unsigned boots;
  bool stopped, interrupted, crashed;
  uint64_t callbacks, crash_at;
  int64_t asleep_until; /* the machine sleeps, and its processes with it */
};

static bool before(const struct loop_source *a, const struct loop_source *b) {
  return a->due != b->due ? a->due < b->due : a->sequence < b->sequence;
}

static void put(struct sim_loop *self, size_t place, struct loop_source *source) {
  self->heap[place] = source;
  source->place = place;
}

static void sift_up(struct sim_loop *self, size_t place) {
  struct loop_source *source = self->heap[place];
  for (; place > 1 && before(source, self->heap[place / 2]); place /= 2) put(self, place, self->heap[place / 2]);
  put(self, place, source);
}

static void sift_down(struct sim_loop *self, size_t place) {
  struct loop_source *source = self->heap[place];
  for (size_t child; (child = 2 * place) <= self->count; place = child) {
    if (child < self->count && before(self->heap[child + 1], self->heap[child])) child++;
    if (!before(self->heap[child], source)) break;
    put(self, place, self->heap[child]);
  }
  put(self, place, source);
}

static void take_out(struct sim_loop *self, struct loop_source *source) {
  const size_t place = source->place;
  struct loop_source *last = self->heap[self->count--];
  if (last == source) return;
  put(self, place, last);
  sift_up(self, place);
  sift_down(self, last->place);
}

static struct loop_source *add(struct sim_loop *self, int64_t due, bool world, loop_callback *callback, void *context) {
  struct loop_source *source = calloc(1, sizeof *source);
  if (!source) abort();
  if (self->count + 1 >= self->capacity) {
    self->capacity = self->capacity ? 2 * self->capacity : 1024;
    self->heap = reallocarray(self->heap, self->capacity, sizeof *self->heap);
    if (!self->heap) abort();
  }
  *source = (struct loop_source){.due = due < self->now ? self->now : due,
                                 .sequence = self->sequence++,
                                 .callback = callback,
                                 .context = context,
                                 .world = world};
  put(self, ++self->count, source);
  sift_up(self, self->count);
  return source;
}

static struct sim_loop *self_of(struct loop *loop) { return (struct sim_loop *)loop; }

static void loop_sim_now(struct loop *loop, struct clock_reading *ret_reading) {
  const struct sim_loop *self = self_of(loop);
  memset(ret_reading, 0, sizeof *ret_reading);
  ret_reading->wall = sim_loop_wall(self);
  ret_reading->boottime = self->now - self->booted;
  ret_reading->synchronised = self->synchronised;
  snprintf(ret_reading->boot_id, sizeof ret_reading->boot_id, "boot-%u", self->boots);
}

static int loop_sim_at(struct loop *loop, int64_t boottime, loop_callback *callback, void *context,
                       struct loop_source **ret_source) {
  struct sim_loop *self = self_of(loop);
  const int64_t due = boottime > INT64_MAX / 4 ? INT64_MAX / 2 : boottime + self->booted;
  struct loop_source *source = add(self, due, false, callback, context);
  if (ret_source) *ret_source = source;
  return 0;
}

static int loop_sim_defer(struct loop *loop, loop_callback *callback, void *context, struct loop_source **ret_source) {
  struct sim_loop *self = self_of(loop);
  struct loop_source *source = add(self, self->now, false, callback, context);
  if (ret_source) *ret_source = source;
  return 0;
}

static int loop_sim_watch(struct loop *loop, int descriptor, unsigned events, loop_watch_callback *callback, void *context,
                          struct loop_source **ret_source) {
  (void)loop, (void)descriptor, (void)events, (void)callback, (void)context, (void)ret_source;
  return ERROR_SYSTEM; /* nothing in this world is a descriptor */
}

static void loop_sim_cancel(struct loop *loop, struct loop_source *source) {
  if (!source) return;
  take_out(self_of(loop), source);
  free(source);
}

/* Timers of a machine that sleeps fire when it wakes, in their order. */
static void put_off(struct sim_loop *self) {
  while (self->count > 0 && !self->heap[1]->world && self->heap[1]->due < self->asleep_until) {
    self->heap[1]->due = self->asleep_until;
    sift_down(self, 1);
  }
}

/* Fires the next timer that is due by moment. */
static bool fire(struct sim_loop *self, int64_t moment) {
  put_off(self);
  if (self->count == 0 || self->heap[1]->due > moment) return false;
  struct loop_source source = *self->heap[1];
  struct loop_source *owned = self->heap[1];
  take_out(self, owned);
  free(owned);
  if (source.due > self->now) self->now = source.due;
  source.callback(source.context);
  if (source.world) return true;
  self->callbacks++;
  if (self->crash_at && self->callbacks >= self->crash_at) {
    self->crash_at = 0;
    self->crashed = self->stopped = true;
  }
  return true;
}

static int loop_sim_run(struct loop *loop, struct error *error) {
  struct sim_loop *self = self_of(loop);
  while (!self->stopped)
    if (!fire(self, INT64_MAX / 4)) return error_set(error, ERROR_NOT_FOUND, "the simulated loop waits for nothing that can happen");
  self->stopped = false;
  return 0;
}

static void loop_sim_stop(struct loop *loop) { self_of(loop)->stopped = true; }
static void loop_sim_destroy(struct loop *loop) { (void)loop; }

static const struct loop_ops loop_sim_ops = {
    .now = loop_sim_now,
    .at = loop_sim_at,
    .defer = loop_sim_defer,
    .watch = loop_sim_watch,
    .cancel = loop_sim_cancel,
    .run = loop_sim_run,
    .stop = loop_sim_stop,
    .destroy = loop_sim_destroy,
};

struct sim_loop *sim_loop_new(void) {
  struct sim_loop *self = calloc(1, sizeof *self);
  if (!self) abort();
  self->loop.ops = &loop_sim_ops;
  self->now = SIM_START;
  self->booted = SIM_START - SIM_DAY;
  self->synchronised = true;
  self->boots = 1;
  return self;
}

void sim_loop_free(struct sim_loop *self) {
  for (size_t i = 1; i <= self->count; i++) {
    if (self->heap[i]->owned) free(self->heap[i]->context);
    free(self->heap[i]);
  }
  free(self->heap);
  free(self);
}

struct loop *sim_loop_borrow(struct sim_loop *self) { return &self->loop; }
int64_t sim_loop_now(const struct sim_loop *self) { return self->now; }
void sim_loop_at(struct sim_loop *self, int64_t moment, loop_callback *callback, void *context, bool owned) {
  add(self, moment, true, callback, context)->owned = owned;
}

bool sim_loop_until(struct sim_loop *self, int64_t moment) {
  self->interrupted = false;
  while (!self->interrupted && fire(self, moment)) continue;
  if (self->interrupted) return false;
  if (moment > self->now) self->now = moment;
  return true;
}

void sim_loop_interrupt(struct sim_loop *self) { self->interrupted = true; }
void sim_loop_crash_after(struct sim_loop *self, uint64_t callbacks) {
  self->crash_at = callbacks ? self->callbacks + callbacks : 0;
  self->stopped = self->crashed = false;
}
void sim_loop_stop_process(struct sim_loop *self) { self->crashed = self->stopped = true; }
bool sim_loop_crashed(const struct sim_loop *self) { return self->crashed; }
uint64_t sim_loop_callbacks(const struct sim_loop *self) { return self->callbacks; }

int64_t sim_loop_wall(const struct sim_loop *self) { return self->now / 1000 + self->wall_error; }
int64_t sim_loop_wall_error(const struct sim_loop *self) { return self->wall_error; }
void sim_loop_set_wall_error(struct sim_loop *self, int64_t seconds) { self->wall_error = seconds; }
void sim_loop_set_synchronised(struct sim_loop *self, bool synchronised) { self->synchronised = synchronised; }
bool sim_loop_is_synchronised(const struct sim_loop *self) { return self->synchronised; }
void sim_loop_suspend(struct sim_loop *self, int64_t until) { self->asleep_until = until; }
void sim_loop_reboot(struct sim_loop *self) {
  self->booted = self->now - 10 * SIM_SECOND;
  self->boots++;
}
