#include "dkimroll/loop_queue.h"

#include <stdlib.h>

enum { LOOP_HEAP_FIRST_CAPACITY = 64 };

static void loop_list_append(struct loop_source_list *list, struct loop_source *source) {
  source->previous = list->last;
  source->next = NULL;
  if (list->last)
    list->last->next = source;
  else
    list->first = source;
  list->last = source;
}

static void loop_list_remove(struct loop_source_list *list, struct loop_source *source) {
  if (source->previous)
    source->previous->next = source->next;
  else
    list->first = source->next;
  if (source->next)
    source->next->previous = source->previous;
  else
    list->last = source->previous;
}

static bool loop_source_is_before(const struct loop_source *a, const struct loop_source *b) {
  return a->due < b->due || (a->due == b->due && a->sequence < b->sequence);
}

static void loop_heap_put(struct loop_queue *queue, size_t position, struct loop_source *source) {
  queue->heap[position] = source;
  source->position = position;
}

/* Moves source, for which position is free, towards the root as far as it
 * belongs. */
static void loop_heap_rise(struct loop_queue *queue, size_t position, struct loop_source *source) {
  while (position > 0) {
    size_t parent = (position - 1) / 2;
    if (!loop_source_is_before(source, queue->heap[parent])) break;
    loop_heap_put(queue, position, queue->heap[parent]);
    position = parent;
  }
  loop_heap_put(queue, position, source);
}

static void loop_heap_sink(struct loop_queue *queue, size_t position, struct loop_source *source) {
  for (;;) {
    size_t child = 2 * position + 1;
    if (child >= queue->heap_size) break;
    if (child + 1 < queue->heap_size && loop_source_is_before(queue->heap[child + 1], queue->heap[child])) child++;
    if (!loop_source_is_before(queue->heap[child], source)) break;
    loop_heap_put(queue, position, queue->heap[child]);
    position = child;
  }
  loop_heap_put(queue, position, source);
}

static bool loop_heap_insert(struct loop_queue *queue, struct loop_source *source) {
  if (queue->heap_size == queue->heap_capacity) {
    size_t capacity = queue->heap_capacity > 0 ? queue->heap_capacity * 2 : LOOP_HEAP_FIRST_CAPACITY;
    struct loop_source **heap = reallocarray(queue->heap, capacity, sizeof(struct loop_source *));
    if (!heap) return false;
    queue->heap = heap;
    queue->heap_capacity = capacity;
  }
  loop_heap_rise(queue, queue->heap_size++, source);
  return true;
}

static void loop_heap_remove(struct loop_queue *queue, const struct loop_source *source) {
  size_t position = source->position;
  struct loop_source *last = queue->heap[--queue->heap_size];
  if (last == source) return;
  /* The last one takes the place, and may belong further up or further down. */
  loop_heap_rise(queue, position, last);
  loop_heap_sink(queue, last->position, last);
}

int loop_queue_at(struct loop_queue *queue, int64_t due, loop_callback *callback, void *context,
                  struct loop_source **ret_source) {
  struct loop_source *source = calloc(1, sizeof(*source));
  if (!source) return ERROR_NO_MEMORY;
  *source = (struct loop_source){.place = LOOP_PLACE_HEAP,
                                 .callback = callback,
                                 .context = context,
                                 .due = due,
                                 .sequence = queue->sequence++,
                                 .descriptor = -1};
  if (!loop_heap_insert(queue, source)) {
    free(source);
    return ERROR_NO_MEMORY;
  }
  if (ret_source) *ret_source = source;
  return 0;
}

static void loop_queue_make_ready(struct loop_queue *queue, struct loop_source *source) {
  source->place = LOOP_PLACE_READY;
  source->round = queue->round;
  loop_list_append(&queue->ready, source);
}

int loop_queue_defer(struct loop_queue *queue, loop_callback *callback, void *context,
                     struct loop_source **ret_source) {
  struct loop_source *source = calloc(1, sizeof(*source));
  if (!source) return ERROR_NO_MEMORY;
  *source = (struct loop_source){.callback = callback, .context = context, .descriptor = -1};
  loop_queue_make_ready(queue, source);
  if (ret_source) *ret_source = source;
  return 0;
}

int loop_queue_watch(struct loop_queue *queue, int descriptor, unsigned events, loop_watch_callback *callback,
                     void *context, struct loop_source **ret_source) {
  struct loop_source *source = calloc(1, sizeof(*source));
  if (!source) return ERROR_NO_MEMORY;
  *source = (struct loop_source){.place = LOOP_PLACE_WATCHED,
                                 .watch_callback = callback,
                                 .context = context,
                                 .descriptor = descriptor,
                                 .events = events};
  loop_list_append(&queue->watched, source);
  queue->watched_count++;
  *ret_source = source;
  return 0;
}

void loop_queue_remove(struct loop_queue *queue, struct loop_source *source) {
  switch (source->place) {
  case LOOP_PLACE_HEAP: loop_heap_remove(queue, source); break;
  case LOOP_PLACE_READY: loop_list_remove(&queue->ready, source); break;
  case LOOP_PLACE_WATCHED:
    loop_list_remove(&queue->watched, source);
    queue->watched_count--;
    break;
  }
  free(source);
}

int64_t loop_queue_next(const struct loop_queue *queue) {
  if (queue->ready.first) return TIME_UNSET;
  return queue->heap_size > 0 ? queue->heap[0]->due : TIME_NEVER;
}

bool loop_queue_run_round(struct loop_queue *queue, int64_t now, const bool *stopped) {
  while (queue->heap_size > 0 && queue->heap[0]->due <= now) {
    struct loop_source *source = queue->heap[0];
    loop_heap_remove(queue, source);
    loop_queue_make_ready(queue, source);
  }
  uint64_t round = queue->round++;
  bool called = false;
  while (!*stopped && queue->ready.first && queue->ready.first->round <= round) {
    struct loop_source *source = queue->ready.first;
    loop_callback *callback = source->callback;
    void *context = source->context;
    loop_queue_remove(queue, source);
    callback(context);
    called = true;
  }
  return called;
}

void loop_queue_release(struct loop_queue *queue) {
  while (queue->heap_size > 0) free(queue->heap[--queue->heap_size]);
  free(queue->heap);
  while (queue->ready.first) loop_queue_remove(queue, queue->ready.first);
  while (queue->watched.first) loop_queue_remove(queue, queue->watched.first);
  *queue = (struct loop_queue){0};
}
