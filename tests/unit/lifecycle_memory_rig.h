/* Memory runs out in the lifecycle: whatever it does is done once for each of its allocations, with that one failing. For programs that the Makefile links with wrapped
 * allocations and, so that whole lives come by here, with the wrapped functions of the lifecycle that allocate. */
#ifndef DKIMROLL_TESTS_LIFECYCLE_MEMORY_RIG_H
#define DKIMROLL_TESTS_LIFECYCLE_MEMORY_RIG_H

#include "dkimroll/forecast.h"
#include "life_world.h"

/* Begins a life with two signers, which is the state. setup: all steps that it takes are tried. */
int lifecycle_memory_setup(void **state);
int lifecycle_memory_setup_alone(void **state);
int lifecycle_memory_teardown(void **state);
/* Allocations that failed, since the setup. */
unsigned long lifecycle_memory_refused(void);

/* ---- what must be as it was ---- */

struct snapshot {
  struct lineage lineage;
  struct key *keys;
};

/* No allocation of it fails. */
void snapshot_take(const struct lineage *lineage, struct snapshot *ret);
/* Room for keys may have moved; nothing else may. Releases the snapshot. */
void snapshot_compare(struct snapshot *snapshot, const struct lineage *lineage);

/* ---- what a lineage does, each by itself ---- */

/* One thing to be done on a copy of lineage, so that it may be tried again and again. */
struct trial {
  const struct lineage *lineage;
  struct lineage copy;
  struct event_list events;
  const struct outcome *outcome;
  const struct adoption *adoption;
  int64_t now;
  unsigned number;
};

/* What is tried: it returns 0, or the error that is in error, too. */
typedef int trial_act(void *context, struct error *error);
/* What comes after each attempt, with what it returned: all is to be tried again from the same beginning. */
typedef void trial_undo(void *context, int result);

/* Tries with the first allocation failing, then the second, and so on until none is left that could. Returns how many there are. */
unsigned try_trial(struct trial *trial, trial_act *act, trial_undo *undo);

/* Drops the copy and makes it anew, and the events. */
void trial_again(void *context, int result);
int act_copy(void *context, struct error *error);
/* A key that does not come leaves no trace. */
int act_reserve(void *context, struct error *error);
/* An outcome that was not taken over is given up with the lineage by the engine; the plan of what is left must be possible all the same. */
int act_apply(void *context, struct error *error);
void undo_apply(void *context, int result);

#endif
