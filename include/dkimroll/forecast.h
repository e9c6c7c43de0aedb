/* Look-ahead: the real planner on a virtual clock, with every operation going as well as it can. Pure. */
#ifndef DKIMROLL_FORECAST_H
#define DKIMROLL_FORECAST_H

#include "dkimroll/lifecycle.h"
#include "dkimroll/wave.h"

enum { FORECAST_STEPS_MAX = 100000 }; /* of one lineage, rounds of observation among them: a hundred years of weekly rotation are 80,000 */

/* One step that will happen. Borrowed during the call. */
struct forecast_step {
  int64_t at;
  size_t index; /* of its lineage among those of the forecast */
  const char *domain;
  const char *slot;
  const char *selector;
  enum plan_action action;
  enum key_state from, to;
};
/* Non-zero ends the forecast, which returns it. */
typedef int forecast_callback(void *context, const struct forecast_step *step);

struct forecast {
  int64_t now, until;
  const struct wave *wave; /* limits of the policy, and which places are given away; one that is stopped is taken to go on now. NULL: no limits */
  forecast_callback *callback;
  void *context;
};

/* Plays the life of all lineages together, in the order of time and, at one moment, of their ids, as the engine takes them, so that those that compete for the
 * places of a run get them as they will. On the lineages themselves: hand in copies (lineage_copy). Where nothing limits runs they may as well be played one after the other.
 * Rounds of observation are not reported. Every authoritative server is taken to serve a record at once. Afterwards each lineage is as it will be then; where it stands still because
 * only a person can go on, plan_lineage says why. ERROR_LIMIT: more than FORECAST_STEPS_MAX steps of one lineage before until. */
int forecast_lineages(const struct forecast *forecast, struct lineage *lineages, size_t count, struct error *error) ERROR_USE_RESULT;

#endif
