/* What holds a wave of rotations in bounds (wave.h). Emergencies pass, and so does a person who asks: a rotation by hand is the best probe of a stopped wave. */
#include "dkimroll/wave.h"

#include "dkimroll/timing.h"
#include "gates.h"

bool gate_wave_runs(const struct gate_view *view, struct plan_reason *reason) {
  const struct wave *wave = view->clock->wave;
  char moment[TIME_TEXT_SIZE];
  if (!wave || !wave_is_stopped(wave) || wave_is_passed(view->lineage) || view->opens >= wave->probe_at) return true;
  return gate_closed(reason, wave->probe_at, "the wave of rotations is stopped, because %u of %u failed; one is tried at %s, or `dkimroll release --wave`",
                     wave->stopped_failed, wave->stopped_ended, time_format(wave->probe_at, moment));
}

/* Whoever comes too late for a run comes in the order in which he came. */
bool gate_run_room(const struct gate_view *view, struct plan_reason *reason) {
  const struct wave *wave = view->clock->wave;
  const unsigned most = wave ? wave->limits.max_per_run : 0;
  char moment[TIME_TEXT_SIZE];
  if (most == 0 || wave_is_passed(view->lineage)) return true;
  const int64_t opens = wave_turn(wave, view->lineage, view->action);
  /* A later moment is judged when it comes. */
  if (opens <= wave->run || view->opens >= opens) return true;
  const bool begins = view->action == PLAN_GENERATE;
  return gate_closed(reason, opens, "%u domain%s %s in one run, as many as max-per-run allows; its place is in that of %s", most, most == 1 ? "" : "s",
                     begins ? (most == 1 ? "begins a key" : "begin a key") : (most == 1 ? "takes over" : "take over"), time_format(opens, moment));
}

/* When the step became due; TIME_NEVER: not by the life of the key that signs. */
static int64_t due_at(const struct gate_view *view) {
  if (!view->active) return TIME_NEVER;
  return view->action == PLAN_GENERATE ? timing_generate(view->lineage, view->active) : timing_turn(view->lineage, view->active);
}

/* max-per-run is a pace by itself. A part of the time that is not the one of jitter, or those whose turns fell into the absence would come in a bunch again. */
bool gate_caught_up(const struct gate_view *view, struct plan_reason *reason) {
  const struct wave *wave = view->clock->wave;
  if (!wave || wave->returned_at == TIME_UNSET || wave->limits.max_per_run > 0 || wave_is_passed(view->lineage)) return true;
  /* What was due before dkimroll went away did not wait for its return: where it runs once a week, each run is one, and nothing must wait from one to the next. */
  const int64_t due = due_at(view);
  if (due >= wave->returned_at || due < wave->away_since) return true;
  const uint64_t mixed = (uint64_t)view->lineage->id * UINT64_C(0x9e3779b97f4a7c15);
  const int64_t opens = time_add(wave->returned_at, (int64_t)((mixed >> 33) % (uint64_t)(wave->spread + 1)));
  return gate_time(view, reason, opens, "its turn came while dkimroll was away, and all such turns are spread: this one waits");
}
