#include "dkimroll/engine_clock.h"

#include "dkimroll/text.h"

enum clock_verdict engine_clock_advance(const struct store_clock *stored, const struct clock_reading *reading,
                                        struct store_clock *ret_clock, struct plan_clock *ret_plan_clock) {
  struct store_clock next = {.wall = reading->wall, .boottime = reading->boottime, .credited = reading->wall};
  enum clock_verdict verdict = CLOCK_STEADY;
  text_copy(next.boot_id, sizeof next.boot_id, reading->boot_id);
  const bool same_boot = stored->boot_id[0] && text_equal(stored->boot_id, reading->boot_id) && reading->boottime >= stored->boottime;
  if (same_boot) {
    /* What wall time gained beyond boot time; rounding of both alone makes it 0 or 1. */
    const int64_t gained = reading->wall - stored->wall - (reading->boottime - stored->boottime) / 1000;
    int64_t uncredited = time_max(stored->wall - stored->credited, 0);
    next.attested = stored->attested;
    if (gained > CLOCK_SLACK_SECONDS) {
      verdict = CLOCK_JUMPED_FORWARD;
      next.attested = false;
      uncredited += gained;
    } else if (gained < -CLOCK_SLACK_SECONDS) {
      /* Who set it back may set it right again: what is stamped until then would count as having waited longer than it has. */
      next.attested = false;
      if (gained < -CLOCK_BACKWARD_WARN) verdict = CLOCK_JUMPED_BACK;
      uncredited = time_max(uncredited + gained, 0);
    }
    /* As a difference that is kept, because rounding that is added at every reading would add up to hours. */
    if (!next.attested && !reading->synchronised) next.credited = reading->wall - uncredited;
  }
  next.attested |= reading->synchronised;
  *ret_clock = next;
  *ret_plan_clock = (struct plan_clock){.now = next.credited, .attested = next.attested};
  return verdict;
}

void engine_clock_attest(struct store_clock *clock, struct plan_clock *plan_clock) {
  clock->attested = plan_clock->attested = true;
  clock->credited = plan_clock->now = clock->wall;
}
