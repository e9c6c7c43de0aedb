/* What an engine needs that stays: to be woken from outside, to say what comes next, and to end within a time. */
#include <stdlib.h>

#include "dkimroll/cleanup.h"
#include "engine_internal.h"

void engine_wake(struct engine *engine) { engine_want_turn(engine); }

static void park(void *context) {
  struct engine *engine = context;
  engine->parking = NULL;
  loop_stop(engine->setup.loop);
}

void engine_stop_within(struct engine *engine, int64_t milliseconds) {
  struct loop *loop = engine->setup.loop;
  engine_stop(engine);
  loop_cancel(loop, &engine->parking);
  /* Without a timer the operations have their own deadlines. */
  if (loop_at(loop, loop_boottime(loop) + milliseconds, park, engine, &engine->parking)) engine->parking = NULL;
}

int engine_next_lineage(struct engine *engine, struct lineage *ret_lineage, bool *ret_found, struct error *error) {
  struct store *store = engine->setup.store;
  struct lineage *lineages = NULL;
  size_t count = 0;
  CLEANUP_FREE int64_t *ids = calloc(engine->works + 1, sizeof *ids);
  if (!ids) return error_set(error, ERROR_NO_MEMORY, "out of memory for what comes next");
  const size_t open_count = engine_collect_in_hand(engine, ids);
  int result = store->ops->claim(store, TIME_NEVER, 1, NULL, 0, ids, open_count, &lineages, &count, error);
  if (result) return result;
  *ret_found = count > 0;
  if (count > 0) *ret_lineage = lineages[0];
  free(lineages);
  return 0;
}
