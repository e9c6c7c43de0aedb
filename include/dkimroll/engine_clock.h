/* Which time gates may count with (docs/architecture.md, "Clocks"). Pure. */
#ifndef DKIMROLL_ENGINE_CLOCK_H
#define DKIMROLL_ENGINE_CLOCK_H

#include "dkimroll/lifecycle.h"
#include "dkimroll/store.h"

enum {
  CLOCK_SLACK_SECONDS = 2,      /* rounding between the two clocks, and slewing, which is at most 500 ppm */
  CLOCK_BACKWARD_WARN = 60,     /* seconds back that are worth a warning */
};

enum clock_verdict { CLOCK_STEADY = 0, CLOCK_JUMPED_FORWARD = 1, CLOCK_JUMPED_BACK = 2 };

/* Advances what was stored by a new reading. Within a boot, wall time gained beyond boot time is credited to no gate until the clock is attested (the
 * kernel says it is synchronised, or a TSIG reply verified); in another boot the clock starts unattested. Back in time: gates wait, and the clock is not attested any more. */
enum clock_verdict engine_clock_advance(const struct store_clock *stored, const struct clock_reading *reading,
                                        struct store_clock *ret_clock, struct plan_clock *ret_plan_clock);
/* A TSIG reply verified within its fudge: wall time is credited in full. */
void engine_clock_attest(struct store_clock *clock, struct plan_clock *plan_clock);

#endif
