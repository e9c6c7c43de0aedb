/* What holds a wave of rotations in bounds (wave.h). Emergencies pass, and so does a person who asks: a rotation by hand is the best probe of a stopped wave. */
#include "dkimroll/wave.h"

#include "gates.h"

static bool passes(const struct gate_view *view) { return lineage_is_urgent(view->lineage) || view->lineage->rotate_requested; }

bool gate_wave_runs(const struct gate_view *view, struct plan_reason *reason) {
  const struct wave *wave = view->clock->wave;
  char moment[TIME_TEXT_SIZE];
  if (!wave || !wave_is_stopped(wave) || passes(view) || view->opens >= wave->probe_at) return true;
  return gate_closed(reason, wave->probe_at, "the wave of rotations is stopped, because %u of %u failed; one is tried at %s, or `dkimroll release --wave`",
                     wave->stopped_failed, wave->stopped_ended, time_format(wave->probe_at, moment));
}

/* Whoever comes too late for this run comes in the order in which he came. */
bool gate_run_room(const struct gate_view *view, struct plan_reason *reason) {
  const struct wave *wave = view->clock->wave;
  const unsigned most = wave ? wave->limits.max_per_run : 0;
  char moment[TIME_TEXT_SIZE];
  if (most == 0 || passes(view) || view->opens >= wave->run + WAVE_RUN_SECONDS) return true;
  const bool begins = view->action == PLAN_GENERATE;
  const unsigned taken = begins ? wave->begun : wave->switched, late = begins ? wave->late_begun : wave->late_switched;
  if (taken < most) return true;
  const int64_t opens = time_add(wave->run, (1 + (int64_t)(late / most)) * WAVE_RUN_SECONDS);
  return gate_closed(reason, opens, "%u domain%s %s in this run, as many as max-per-run allows; the next go on at %s", taken,
                     taken == 1 ? " has" : "s have", begins ? "begun a key" : "taken over", time_format(opens, moment));
}
