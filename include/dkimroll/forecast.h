/* Look-ahead: the real planner on a virtual clock, with every operation going as well as it can. Pure. */
#ifndef DKIMROLL_FORECAST_H
#define DKIMROLL_FORECAST_H

#include "dkimroll/lifecycle.h"
#include "dkimroll/wave.h"

enum { FORECAST_STEPS_MAX = 100000 }; /* of one lineage, rounds of observation among them: a hundred years of weekly rotation are 80,000 */

/* One step that will happen. Borrowed during the call. */
struct forecast_step {
  int64_t at;
  const char *domain;
  const char *slot;
  const char *selector;
  enum plan_action action;
  enum key_state from, to;
};
/* Non-zero ends the forecast, which returns it. */
typedef int forecast_callback(void *context, const struct forecast_step *step);

/* The places of runs that lineages have taken in one look-ahead, one lineage after the other. Zeros, and max_per_run, are an empty one. */
struct forecast_book {
  unsigned max_per_run; /* 0: no limit */
  struct forecast_run {
    int64_t run; /* its begin; 0: free */
    unsigned begun, switched;
  } *runs; /* owned; a hash table */
  size_t count, capacity;
};
void forecast_book_release(struct forecast_book *book);

/* Plays the life of lineage from now on until the moment until, on lineage itself: hand in a copy (lineage_copy). Rounds of observation are not reported.
 * Every authoritative server is taken to serve a record at once. Afterwards lineage is as it will be then; where it stands still because only a person
 * can go on, plan_lineage says why. ERROR_LIMIT: more than FORECAST_STEPS_MAX steps before until. */
int forecast_lineage_in(struct forecast_book *book, struct lineage *lineage, int64_t now, int64_t until, forecast_callback *callback, void *context,
                        struct error *error) ERROR_USE_RESULT;
/* The same for one that is alone in the world: no run is full. */
int forecast_lineage(struct lineage *lineage, int64_t now, int64_t until, forecast_callback *callback, void *context,
                     struct error *error) ERROR_USE_RESULT;

#endif
