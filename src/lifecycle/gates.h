/* Gates: what must hold before a step, as rows with names. Internal to the planner. */
#ifndef DKIMROLL_GATES_H
#define DKIMROLL_GATES_H

#include "dkimroll/lifecycle.h"

/* What a gate may look at. */
struct gate_view {
  const struct lineage *lineage;
  const struct key *key;    /* the one the step is about; NULL for one that does not exist yet */
  const struct key *active; /* NULL: none */
  size_t coming;            /* keys on their way to being active */
  const struct plan_clock *clock;
};

/* true: open. false: fills in reason's text and the moment it opens; TIME_NEVER: something else than time must open it. */
typedef bool gate_test(const struct gate_view *view, struct plan_reason *reason);

struct gate {
  const char *name;
  gate_test *test;
  bool applies; /* closed: the step is not on this key's way at all, rather than waiting */
};

/* A step is possible in one state and held back by its gates, in the order in which they make sense to a reader. The list ends with NULL. */
struct step {
  enum key_state state;
  enum plan_action action;
  const struct gate *gates;
};

extern const struct step plan_steps[];
extern const size_t plan_step_count;
extern const struct step plan_new_key;

bool gate_closed(struct plan_reason *reason, int64_t opens, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
