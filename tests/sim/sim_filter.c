/* A stand-in for the filter: tables in memory that switch when they are told. */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/text.h"
#include "sim.h"

struct sim_filter {
  struct signer signer;
  struct sim *sim;
  size_t number;
  struct sim_signature now[SIM_DOMAINS_MAX];
};

struct signer_operation {
  struct sim_filter *filter;
  const struct signer_item *items;
  size_t count;
  bool activates;
  signer_done *done;
  void *context;
  struct loop_source *timer;
};

static void fire(void *context) {
  struct signer_operation *operation = context;
  struct sim_filter *filter = operation->filter;
  struct signer_result *results = calloc(operation->count, sizeof *results);
  if (!results) abort();
  for (size_t i = 0; i < operation->count; i++) {
    const struct signer_item *item = &operation->items[i];
    results[i].completed_at = results[i].switched_at = loop_wall(filter->sim->loop);
    if (!operation->activates) continue;
    struct sim_signature *now = &filter->now[item->domain[0] - 'a'];
    text_copy(now->selector, sizeof now->selector, item->selector);
    text_copy(now->public_key, sizeof now->public_key, strstr(item->record, "p=") + 2);
  }
  sim_mail_pulse(filter->sim);
  operation->done(operation->context, results, operation->count);
  free(results);
  free(operation);
}

static int start(struct signer *signer, bool activates, const struct signer_item *items, size_t count, signer_done *done, void *context,
                 struct signer_operation **ret_operation) {
  struct sim_filter *filter = (struct sim_filter *)signer;
  struct signer_operation *operation = malloc(sizeof *operation);
  if (!operation) abort();
  *operation = (struct signer_operation){filter, items, count, activates, done, context, NULL};
  if (loop_at(filter->sim->loop, loop_boottime(filter->sim->loop) + 100, fire, operation, &operation->timer)) abort();
  *ret_operation = operation;
  return 0;
}

static int activate(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline, signer_done *done, void *context,
                    struct signer_operation **ret_operation, struct error *error) {
  (void)deadline, (void)error;
  return start(signer, true, items, count, done, context, ret_operation);
}
static int withdraw(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline, signer_done *done, void *context,
                    struct signer_operation **ret_operation, struct error *error) {
  (void)deadline, (void)error;
  return start(signer, false, items, count, done, context, ret_operation);
}
static void cancel(struct signer *signer, struct signer_operation *operation) {
  (void)signer;
  loop_cancel(operation->filter->sim->loop, &operation->timer);
  free(operation);
}
static void destroy(struct signer *signer) { (void)signer; }

static const struct signer_ops ops = {.activate = activate, .withdraw = withdraw, .cancel = cancel, .destroy = destroy};

void sim_filters_init(struct sim *sim) {
  for (size_t i = 0; i < sim->signer_count; i++) {
    struct sim_filter *filter = calloc(1, sizeof *filter);
    if (!filter) abort();
    *filter = (struct sim_filter){.signer.ops = &ops, .sim = sim, .number = i};
    sim->filters[i] = filter;
  }
}

void sim_filters_free(struct sim *sim) {
  for (size_t i = 0; i < sim->signer_count; i++) free(sim->filters[i]);
}

enum sim_signing sim_filter_sign(struct sim *sim, size_t signer, const char *domain, struct sim_signature *ret_signature) {
  *ret_signature = sim->filters[signer]->now[domain[0] - 'a'];
  return ret_signature->selector[0] ? SIM_MAIL_SIGNED : SIM_MAIL_UNSIGNED;
}

int sim_filter_reload(struct sim *sim, const char *pid_file, struct error *error) {
  (void)sim, (void)pid_file, (void)error;
  return 0;
}

int sim_filter_make(struct sim *sim, const struct policy_signer *policy, struct signer **ret_signer, struct error *error) {
  (void)error;
  *ret_signer = &sim->filters[policy->name[1] - '1']->signer;
  return 0;
}

void sim_filters_restart(struct sim *sim) { (void)sim; }
