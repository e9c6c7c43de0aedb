/* The signers of the host: models of OpenDKIM (sim_signer.h) with the connections that MTAs keep open to them. */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/text.h"
#include "sim.h"
#include "sim_signer.h"

enum { CONNECTIONS = 3 };

struct sim_filter {
  struct sim_signer signer;
  char paths[2][128];
  struct {
    struct sim_signer_connection *connection;
    int64_t opened;
  } open[CONNECTIONS];
};

static const struct sim_signers *signers_of(struct sim *sim) {
  for (size_t i = 0; i < sim->signer_count; i++) sim->signer_items[i] = &sim->filters[i]->signer;
  sim->signers.items = sim->signer_items;
  sim->signers.count = sim->signer_count;
  return &sim->signers;
}

void sim_filters_init(struct sim *sim) {
  for (size_t i = 0; i < sim->signer_count; i++) {
    struct sim_filter *filter = calloc(1, sizeof *filter);
    char milter[128], pid_file[128];
    if (!filter) abort();
    sim->filters[i] = filter;
    snprintf(filter->paths[0], sizeof filter->paths[0], "%s/s%zu/KeyTable", sim->root, i + 1);
    snprintf(filter->paths[1], sizeof filter->paths[1], "%s/s%zu/SigningTable", sim->root, i + 1);
    snprintf(milter, sizeof milter, "unix:%s/s%zu/socket", sim->root, i + 1);
    snprintf(pid_file, sizeof pid_file, "%s/s%zu/pid", sim->root, i + 1);
    const struct sim_tables_paths paths = {.key_table = filter->paths[0],
                                           .signing_table = filter->paths[1],
                                           .format = i % 2 ? SIGNING_TABLE_FILE : SIGNING_TABLE_REFILE};
    sim_signer_init(&filter->signer, &paths, milter, pid_file, &sim->world_random.entropy);
    filter->signer.faults.latency_ms = 2;
    if (!sim_signer_start(&filter->signer)) abort();
  }
  (void)signers_of(sim);
}

static void hang_up(struct sim_filter *filter) {
  for (size_t i = 0; i < CONNECTIONS; i++) {
    sim_signer_disconnect(filter->open[i].connection);
    filter->open[i].connection = NULL;
  }
}

void sim_filters_free(struct sim *sim) {
  for (size_t i = 0; i < sim->signer_count && sim->filters[i]; i++) {
    hang_up(sim->filters[i]);
    sim_signer_release(&sim->filters[i]->signer);
    free(sim->filters[i]);
  }
}

/* An MTA keeps a connection no longer than the policy's drain says. */
static struct sim_signer_connection *choose_connection(struct sim *sim, struct sim_filter *filter, int64_t *ret_opened) {
  const size_t i = SIM_RANDOM(sim, CONNECTIONS + 2);
  const int64_t now = sim_loop_now(sim->clock), longest = sim_policy_seconds(sim, "drain") * 1000;
  for (size_t j = 0; j < CONNECTIONS; j++)
    if (now - filter->open[j].opened >= longest) {
      sim_signer_disconnect(filter->open[j].connection);
      filter->open[j].connection = NULL;
    }
  *ret_opened = now;
  if (i >= CONNECTIONS) return NULL;
  if (!filter->open[i].connection) {
    filter->open[i].connection = sim_signer_connect(&filter->signer);
    filter->open[i].opened = now;
  }
  *ret_opened = filter->open[i].opened;
  return filter->open[i].connection;
}

enum sim_signing sim_filter_sign(struct sim *sim, size_t signer, const char *domain, struct sim_signature *ret_signature) {
  struct sim_filter *filter = sim->filters[signer];
  struct sim_signer_signature signatures[SIM_TABLES_MATCHES_MAX];
  char address[32];
  size_t count = 0;
  snprintf(address, sizeof address, "user@%s", domain);
  switch (sim_signer_sign(&filter->signer, choose_connection(sim, filter, &ret_signature->opened), address, signatures, &count)) {
  case SIM_SIGNER_SIGNED: break;
  case SIM_SIGNER_UNSIGNED: return SIM_MAIL_UNSIGNED;
  case SIM_SIGNER_TEMPFAILED: return SIM_MAIL_TEMPFAILED;
  case SIM_SIGNER_DOWN: return SIM_MAIL_DOWN;
  }
  if (!text_equal(signatures[0].domain, domain)) return SIM_MAIL_UNSIGNED;
  text_copy(ret_signature->selector, sizeof ret_signature->selector, signatures[0].selector);
  text_copy(ret_signature->public_key, sizeof ret_signature->public_key, sim_signer_public_key(&signatures[0]));
  return SIM_MAIL_SIGNED;
}

static bool would_sign(struct sim_signer *signer, const struct sim_tables *tables, const char *address) {
  struct sim_tables_match matches[SIM_TABLES_MATCHES_MAX];
  return tables && sim_tables_match(tables, address, matches) > 0 && !matches[0].broken && sim_signer_open_key(signer, matches[0].path);
}

bool sim_filter_is_whole(struct sim *sim, size_t signer, const char *domain) {
  struct sim_signer *model = &sim->filters[signer]->signer;
  char address[32];
  snprintf(address, sizeof address, "user@%s", domain);
  if (!would_sign(model, model->tables, address)) return false;
  struct sim_tables *tables = sim_tables_read(&model->paths);
  const bool whole = would_sign(model, tables, address);
  sim_tables_drop(tables);
  return whole;
}

const struct sim_signers *sim_filters(struct sim *sim) { return signers_of(sim); }

int sim_filter_make(struct sim *sim, const struct policy_signer *policy, struct signer **ret_signer, struct error *error) {
  return signer_opendkim_new(sim->connector, sim->keeper, &sim->process_random.entropy, policy, ret_signer, error);
}

void sim_filter_restart(struct sim *sim, size_t signer) {
  struct sim_filter *filter = sim->filters[signer];
  sim->signer_downs[signer] = 0;
  hang_up(filter);
  /* Half a table must never be on the disk. */
  if (!sim_signer_restart(&filter->signer)) sim_violate(sim, "I1", "s%zu does not start with the tables that it finds", signer + 1);
}

void sim_filter_stop(struct sim *sim, size_t signer) {
  sim_signer_stop(&sim->filters[signer]->signer);
  hang_up(sim->filters[signer]);
}

struct sim_signer_faults *sim_filter_faults(struct sim *sim, size_t signer) { return &sim->filters[signer]->signer.faults; }
