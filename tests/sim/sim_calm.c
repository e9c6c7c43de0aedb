/* The end of all faults: people put right what people broke, and what dkimroll can put right alone is left to it. */
#include "dkimroll/text.h"
#include "sim_actions.h"

static void calm_zone(struct sim *sim, struct sim_zone *zone) {
  struct sim_content *content = sim_zone_edit(zone);
  content->name_servers = (1u << sim->server_count) - 1;
  for (size_t i = content->count; i-- > 0;) {
    struct sim_record *record = &content->records[i];
    if (!(record->flags & SIM_RECORD_TAMPERED)) continue;
    if (record->flags & SIM_RECORD_FOREIGN) {
      sim_content_remove(content, i);
    } else if (text_equal(record->text, SIM_EDITED_TEXT)) {
      record->flags |= SIM_RECORD_TORN;
    } else {
      record->flags &= ~(unsigned)SIM_RECORD_TAMPERED;
    }
  }
  sim_zone_commit(sim, zone, content);
}

static void release_all(void *context) {
  struct sim *sim = context;
  for (size_t i = 0; i < sim->domain_count; i++) sim_host_request(sim, REQUEST_RELEASE, sim->zones[i].name, TIME_NEVER, HOLD_ALL);
}

void sim_calm(struct sim *sim) {
  sim_trace(sim, "-- calm");
  for (size_t i = 0; i < sim->server_count; i++) {
    struct sim_server *server = &sim->servers[i];
    server->down_until = server->refuses_until = server->servfail_until = server->truncates_until = server->contradicts_until = 0;
    server->frozen_until = server->loses_requests_until = server->loses_replies_until = server->lags_until = 0;
  }
  for (size_t i = 0; i < SIM_RESOLVERS; i++) sim->resolvers[i] = (struct sim_resolver){0};
  sim->receivers_defer_until = 0;
  for (size_t z = 0; z < sim->zone_count; z++) calm_zone(sim, &sim->zones[z]);
  sim_servers_resync(sim);
  sim->rejects_until = sim->primary_clock_until = sim->keeper_fails_until = sim->keeper_hangs_until = 0;
  sim->keeper_dies = false;
  sim->tool_fails_until = sim->tool_lies_until = sim->tool_hangs_until = 0;
  sim->disk_full_until = sim->disk_write_until = sim->disk_sync_until = 0;
  sim_actions_disk_recover(sim);
  sim_files_kill(&sim->files);
  for (size_t i = 0; i < sim->signer_count; i++) {
    struct sim_signer_faults *faults = sim_filter_faults(sim, i);
    *faults = (struct sim_signer_faults){.latency_ms = faults->latency_ms};
    if (!sim_signer_is_up(sim->signer_items[i])) sim_filter_restart(sim, i);
  }
  sim_loop_set_wall_error(sim->clock, 0);
  sim_loop_set_synchronised(sim->clock, true);
  for (size_t i = 0; i < sim->domain_count; i++) sim->present[i] = true;
  release_all(sim);
  /* The release of a domain that comes into the policy now is refused until a run has seen the policy. */
  sim_loop_at(sim->clock, sim_loop_now(sim->clock) + SIM_HOUR, release_all, sim, false);
  sim_policy_write(sim);
  /* What only import can tell it tells of domains that were not in the policy then, too. */
  if (sim->has_imported) sim_import_later(sim, SIM_MINUTE);
  sim->is_calm = true;
  sim_loop_interrupt(sim->clock);
}
