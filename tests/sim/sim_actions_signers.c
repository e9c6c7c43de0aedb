/* What happens to signers: they fail, restart and lose mail, people edit their tables, and mail is signed at once. */
#include <stdlib.h>

#include "dkimroll/text.h"
#include "sim_actions.h"

struct recovery {
  struct sim *sim;
  size_t signer;
  unsigned downs;
  bool *flag;
};

static void recover(void *context) {
  struct recovery *recovery = context;
  if (recovery->flag)
    *recovery->flag = false;
  else if (recovery->sim->signer_downs[recovery->signer] == recovery->downs)
    sim_filter_restart(recovery->sim, recovery->signer);
  free(recovery);
}

static bool recover_later(struct sim_call *call, size_t signer, const char *word, bool *flag) {
  int64_t duration = 0;
  if (!sim_call_duration(call, word, &duration)) return false;
  struct recovery *recovery = malloc(sizeof *recovery);
  if (!recovery) abort();
  *recovery = (struct recovery){call->sim, signer, call->sim->signer_downs[signer], flag};
  sim_loop_at(call->sim->clock, sim_loop_now(call->sim->clock) + duration, recover, recovery, true);
  if (flag) *flag = true;
  return true;
}

static bool do_signer(struct sim_call *call) {
  struct sim *sim = call->sim;
  size_t signer = 0;
  if (call->count < 3 || !sim_call_number(call, call->words[1], "s", sim->signer_count, &signer)) return false;
  struct sim_signer_faults *faults = sim_filter_faults(sim, signer);
  const char *what = call->words[2];
  const struct {
    const char *word, *kind;
    bool *flag;
  } simple[] = {{"refuses", "signer-refuses", &faults->refuses},
                {"hangs", "signer-hangs", &faults->hangs},
                {"reload-fails", "reload-fails", &faults->reload_fails},
                {"reload-lost", "reload-lost", &faults->reload_is_lost}};
  for (size_t i = 0; i < ARRAY_SIZE(simple); i++)
    if (call->count == 4 && text_equal(what, simple[i].word)) {
      sim_call_count(call, simple[i].kind);
      return recover_later(call, signer, call->words[3], simple[i].flag);
    }
  if (call->count == 4 && text_equal(what, "down")) {
    sim->signer_downs[signer]++;
    sim_filter_stop(sim, signer);
    sim_call_count(call, "signer-down");
    return recover_later(call, signer, call->words[3], NULL);
  }
  if (call->count == 4 && (text_equal(what, "cuts") || text_equal(what, "loses"))) {
    sim_call_count(call, text_equal(what, "cuts") ? "signer-cuts" : "signer-loses");
    return sim_call_percent(call, call->words[3], text_equal(what, "cuts") ? &faults->cuts : &faults->loses);
  }
  if (call->count == 3 && text_equal(what, "restarts")) {
    sim_call_count(call, "signer-restart");
    sim_filter_restart(sim, signer);
    return true;
  }
  return sim_call_fail(call, "a signer can: down, refuses, hangs, reload-fails, reload-lost DURATION; cuts, loses PERCENT (until calm); restarts");
}

static bool do_tables(struct sim_call *call) {
  size_t signer = 0, domain = 0;
  if (call->count < 3 || !sim_call_number(call, call->words[1], "s", call->sim->signer_count, &signer)) return false;
  sim_call_count(call, call->count == 3 ? "tables" : "tables-dropped");
  if (call->count == 3 && text_equal(call->words[2], "foreign")) return sim_tables_foreign(call->sim, signer);
  if (call->count == 4 && sim_call_domain(call, call->words[2], &domain)) {
    if (text_equal(call->words[3], "sender-dropped")) return sim_tables_drop_lines(call->sim, signer, "SigningTable", domain, true);
    if (text_equal(call->words[3], "key-dropped")) return sim_tables_drop_lines(call->sim, signer, "KeyTable", domain, true);
  }
  return sim_call_fail(call, "tables SIGNER foreign, tables SIGNER DOMAIN sender-dropped|key-dropped");
}

static bool do_mail(struct sim_call *call) {
  size_t domain = 0;
  if (call->count != 2 || !sim_call_domain(call, call->words[1], &domain)) return false;
  sim_mail_domain(call->sim, domain);
  return true;
}

const struct sim_row sim_actions_signers[] = {
    {"signer", do_signer},
    {"tables", do_tables},
    {"mail", do_mail},
    {NULL, NULL},
};
