/* What happens to the host: its clocks, its power and its disk, and to what runs on it but signers: the process, the keeper, tools, the store. */
#include <stdlib.h>

#include "dkimroll/text.h"
#include "sim_actions.h"

static bool do_clock(struct sim_call *call) {
  struct sim_loop *clock = call->sim->clock;
  int64_t offset = 0;
  if (call->count == 3 && text_equal(call->words[1], "jumps") && sim_call_duration(call, call->words[2], &offset)) {
    sim_loop_set_wall_error(clock, sim_loop_wall_error(clock) + offset / 1000);
    sim_loop_set_synchronised(clock, false); /* whoever sets Linux's clock ends its synchronisation: STA_UNSYNC */
    sim_call_count(call, "clock-jump");
  } else if (call->count == 2 && (text_equal(call->words[1], "right") || text_equal(call->words[1], "synchronised"))) {
    sim_loop_set_wall_error(clock, 0);
    sim_loop_set_synchronised(clock, true);
  } else if (call->count == 2 && text_equal(call->words[1], "unsynchronised")) {
    sim_loop_set_synchronised(clock, false);
    sim_call_count(call, "unsynchronised");
  } else {
    return sim_call_fail(call, "clock jumps OFFSET|right|unsynchronised|synchronised");
  }
  call->sim->dirty = true;
  sim_loop_interrupt(clock);
  return true;
}

/* The host goes down with everything on it, and comes up again. */
static void reboot(struct sim *sim) {
  if (sim->engine) sim_loop_stop_process(sim->clock);
  sim_loop_reboot(sim->clock);
  for (size_t i = 0; i < sim->signer_count; i++) sim_filter_restart(sim, i);
  sim->dirty = true;
  sim_loop_interrupt(sim->clock);
}

static bool do_reboot(struct sim_call *call) {
  int64_t offset = 0;
  if (call->count == 3 && text_equal(call->words[1], "clock")) {
    if (!sim_call_duration(call, call->words[2], &offset)) return false;
    sim_loop_set_wall_error(call->sim->clock, offset / 1000);
    sim_loop_set_synchronised(call->sim->clock, false);
  } else if (call->count != 1) {
    return sim_call_fail(call, "reboot [clock OFFSET]");
  }
  sim_call_count(call, "reboot");
  reboot(call->sim);
  return true;
}

void sim_power_cut(struct sim *sim) {
  const uint64_t outcome = sim->seed + sim_loop_callbacks(sim->clock);
  sim_trace(sim, "the power goes");
  sim->power_is_gone = sim->engine != NULL;
  sim_disk_crash(&sim->disk, outcome);
  sim_files_crash(&sim->files, outcome);
  sim->worker_is_killed = false;
  if (!sim->engine) sim_host_close(sim);
  reboot(sim);
}

/* In the middle of what is done to files: after so many changes of them from now on. */
static bool files_last(struct sim_call *call, bool worker) {
  char *end = NULL;
  const long number = strtol(call->words[call->count - 1], &end, 10);
  if (number < 1 || *end) return sim_call_fail(call, "that is no number of changes");
  call->sim->files.power_lasts = (uint64_t)number;
  call->sim->worker_is_killed = worker;
  return true;
}

static bool do_power_cut(struct sim_call *call) {
  sim_call_count(call, "power-cut");
  if (call->count == 3 && text_equal(call->words[1], "after")) return files_last(call, false);
  if (call->count != 1) return sim_call_fail(call, "power-cut [after CHANGES]");
  sim_power_cut(call->sim);
  return true;
}

/* ---- the disk ---- */

void sim_actions_disk_recover(struct sim *sim) {
  const int64_t now = sim_loop_now(sim->clock);
  if (sim->disk_full_until <= now) sim->disk.room = sim->files.room = -1;
  if (sim->disk_write_until <= now) sim->disk.write_fails = sim->files.write_fails = 0;
  if (sim->disk_sync_until <= now) sim->disk.sync_fails = sim->files.sync_fails = 0;
}
static void disk_recover(void *context) { sim_actions_disk_recover(context); }

static bool do_disk(struct sim_call *call) {
  struct sim *sim = call->sim;
  int64_t *until = NULL;
  const char *last = call->words[call->count - 1];
  if (call->count == 3 && text_equal(call->words[1], "full")) {
    if (!sim_call_until(call, until = &sim->disk_full_until, last, "disk-full")) return false;
    sim->disk.room = SIM_RANDOM(sim, 40000);
    sim->files.room = SIM_RANDOM(sim, 2000);
  } else if (call->count == 4 && text_equal(call->words[1], "write-fails")) {
    if (!sim_call_percent(call, call->words[2], &sim->disk.write_fails) || !sim_call_until(call, until = &sim->disk_write_until, last, "disk-write")) return false;
    sim->files.write_fails = sim->disk.write_fails;
  } else if (call->count == 4 && text_equal(call->words[1], "sync-fails")) {
    if (!sim_call_percent(call, call->words[2], &sim->disk.sync_fails) || !sim_call_until(call, until = &sim->disk_sync_until, last, "disk-sync")) return false;
    sim->files.sync_fails = sim->disk.sync_fails;
  } else {
    return sim_call_fail(call, "disk full DURATION, disk write-fails|sync-fails PERCENT DURATION");
  }
  sim_loop_at(sim->clock, *until, disk_recover, sim, false);
  return true;
}

/* Until somebody sees it, dkimroll begins anew beside its own old keys. */
static void see_loss(void *context) { sim_import_later(context, SIM_MINUTE); }

static bool do_store(struct sim_call *call) {
  struct sim *sim = call->sim;
  int64_t delay = 0;
  const bool soon = call->count == 3, late = call->count == 4 && text_equal(call->words[2], "unseen");
  if (call->count < 2 || !text_equal(call->words[1], "lost") || !(call->count == 2 || soon || late)) return sim_call_fail(call, "store lost [[unseen] DURATION]");
  if (call->count > 2 && !sim_call_duration(call, call->words[call->count - 1], &delay)) return false;
  if (call->count == 2 && sim->engine) return sim_call_fail(call, "a run is at work");
  sim_call_count(call, "store-lost");
  if (sim->engine) {
    sim->store_goes = true;
    sim_loop_stop_process(sim->clock);
  } else {
    sim_host_lose_store(sim);
  }
  if (soon) sim_import_later(sim, delay);
  if (late) sim_loop_at(sim->clock, sim_loop_now(sim->clock) + delay, see_loss, sim, false);
  sim->dirty = true;
  return true;
}

/* ---- the process and those that work for it ---- */

static bool do_crash(struct sim_call *call) {
  char *end = NULL;
  const long number = call->count == 3 && text_equal(call->words[1], "after") ? strtol(call->words[2], &end, 10) : 0;
  if (number < 1) return sim_call_fail(call, "crash after CALLBACKS");
  call->sim->crash_next = (uint64_t)number;
  if (call->sim->engine) sim_loop_crash_after(call->sim->clock, (uint64_t)number);
  sim_call_count(call, "crash");
  return true;
}

/* The lid of the machine is closed. */
static bool do_suspend(struct sim_call *call) {
  int64_t duration = 0;
  if (call->count != 2 || !sim_call_duration(call, call->words[1], &duration) || duration <= 0) return sim_call_fail(call, "suspend DURATION");
  sim_call_count(call, "suspend");
  sim_loop_suspend(call->sim->clock, sim_loop_now(call->sim->clock) + duration);
  return true;
}

/* Somebody has stopped it, and starts it again after that time. */
static bool do_away(struct sim_call *call) {
  int64_t duration = 0;
  if (call->count != 2 || !sim_call_duration(call, call->words[1], &duration) || duration <= 0) return sim_call_fail(call, "away DURATION");
  sim_call_count(call, "away");
  call->sim->away_until = sim_loop_now(call->sim->clock) + duration;
  if (call->sim->engine) engine_stop(call->sim->engine);
  call->sim->dirty = true;
  return true;
}

static bool do_keeper(struct sim_call *call) {
  struct sim *sim = call->sim;
  if (call->count == 4 && text_equal(call->words[1], "fails"))
    return sim_call_percent(call, call->words[2], &sim->keeper_fails) && sim_call_until(call, &sim->keeper_fails_until, call->words[3], "keeper-fails");
  if (call->count == 4 && text_equal(call->words[1], "hangs"))
    return sim_call_percent(call, call->words[2], &sim->keeper_hangs) && sim_call_until(call, &sim->keeper_hangs_until, call->words[3], "keeper-hangs");
  if (call->count == 2 && text_equal(call->words[1], "dies")) {
    sim->keeper_dies = true;
    sim_call_count(call, "keeper-dies");
    return true;
  }
  if (call->count == 4 && text_equal(call->words[1], "killed") && text_equal(call->words[2], "after")) {
    sim_call_count(call, "keeper-killed");
    return files_last(call, true);
  }
  return sim_call_fail(call, "keeper fails|hangs PERCENT DURATION, keeper dies, keeper killed after CHANGES");
}

static bool do_tool(struct sim_call *call) {
  struct sim *sim = call->sim;
  if (call->count == 4 && text_equal(call->words[1], "fails"))
    return sim_call_percent(call, call->words[2], &sim->tool_fails) && sim_call_until(call, &sim->tool_fails_until, call->words[3], "tool-fails");
  if (call->count == 4 && text_equal(call->words[1], "lies"))
    return sim_call_percent(call, call->words[2], &sim->tool_lies) && sim_call_until(call, &sim->tool_lies_until, call->words[3], "tool-lies");
  if (call->count == 4 && text_equal(call->words[1], "hangs"))
    return sim_call_percent(call, call->words[2], &sim->tool_hangs) && sim_call_until(call, &sim->tool_hangs_until, call->words[3], "tool-hangs");
  return sim_call_fail(call, "tool fails|lies|hangs PERCENT DURATION");
}

static bool do_fragments(struct sim_call *call) {
  if (call->count != 2 || !text_equal(call->words[1], "lost")) return sim_call_fail(call, "fragments lost");
  sim_call_count(call, "fragments-lost");
  return sim_runner_lose_fragments(call->sim) || sim_call_fail(call, "there are none in this world");
}

const struct sim_row sim_actions_host[] = {
    {"clock", do_clock},
    {"reboot", do_reboot},
    {"power-cut", do_power_cut},
    {"disk", do_disk},
    {"store", do_store},
    {"crash", do_crash},
    {"suspend", do_suspend},
    {"away", do_away},
    {"keeper", do_keeper},
    {"tool", do_tool},
    {"fragments", do_fragments},
    {NULL, NULL},
};
