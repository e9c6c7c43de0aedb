/* Look-ahead: the real planner on a virtual clock, with every operation going as well as it can. Pure. */
#ifndef DKIMROLL_FORECAST_H
#define DKIMROLL_FORECAST_H

#include "dkimroll/lifecycle.h"

enum { FORECAST_STEPS_MAX = 10000 }; /* of one lineage: a hundred years of weekly rotation with every step of each key */

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

/* Plays the life of lineage from now on until the moment until, on lineage itself: hand in a copy (lineage_copy). Rounds of observation are not reported.
 * Every authoritative server is taken to serve a record at once. ret_reason (NULL: not wanted) gets what the lineage waits for when it stands
 * still before until and only a person can go on. */
int forecast_lineage(struct lineage *lineage, int64_t now, int64_t until, forecast_callback *callback, void *context,
                     struct error *error) ERROR_USE_RESULT;

#endif
