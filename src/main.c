/* The wiring: the only file that names concrete back ends. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cli.h"
#include "dkimroll/key_jobs.h"
#include "dkimroll/opendkim_jobs.h"

/* What the keeper may touch, and its handlers. Filled in before the fork and read-only afterwards, in the children too. */
static struct {
  struct key_roots keys;
  struct opendkim_roots signers;
  struct keeper_handler handlers[KEY_JOBS_COUNT + OPENDKIM_JOBS_COUNT];
} keeper_rights;

static int allow_signer(const struct policy_signer *signer, struct error *error) {
  int result = key_roots_add(&keeper_rights.keys, signer->key_directory, error);
  if (!result) result = opendkim_roots_add(&keeper_rights.signers, signer, error);
  return result;
}

static int start_keeper(const struct policy *policy, const struct policy_signer *const *signers, size_t signer_count, int *ret_descriptor,
                        pid_t *ret_pid, struct error *error) {
  int result = 0;
  for (size_t i = 0; i < policy->signer_count && !result; i++) result = allow_signer(&policy->signers[i], error);
  for (size_t i = 0; i < signer_count && !result; i++) result = allow_signer(signers[i], error);
  for (size_t i = 0; i < policy->rules_count && !result; i++)
    if (policy->rules[i].archive_directory) result = key_roots_add(&keeper_rights.keys, policy->rules[i].archive_directory, error);
  if (result) return result;
  size_t count = key_jobs_handlers(&keeper_rights.keys, keeper_rights.handlers);
  count += opendkim_jobs_handlers(&keeper_rights.signers, keeper_rights.handlers + count);
  return keeper_process_start(keeper_rights.handlers, count, 0, ret_descriptor, ret_pid, error);
}

static int make_publisher(void *context, const struct policy_publisher *policy, struct publisher **ret_publisher, struct error *error) {
  const struct cli_backends *backends = context;
  return publisher_rfc2136_new(backends->loop, backends->transport, backends->entropy, policy, ret_publisher, error);
}

static int make_signer(void *context, const struct policy_signer *policy, struct signer **ret_signer, struct error *error) {
  const struct cli_backends *backends = context;
  return signer_opendkim_new(backends->loop, backends->keeper, backends->entropy, policy, ret_signer, error);
}

static void release_backends(struct cli_backends *backends) {
  observer_destroy(backends->observer);
  transport_destroy(backends->transport);
  keeper_destroy(backends->keeper);
  loop_destroy(backends->loop);
  memset(backends, 0, sizeof *backends);
}

static int make_backends(int keeper_descriptor, pid_t keeper_pid, struct cli_backends *ret_backends, struct error *error) {
  struct cli_backends *backends = ret_backends;
  memset(backends, 0, sizeof *backends);
  backends->entropy = &entropy_system;
  int result = loop_sd_event_new(&backends->loop, error);
  if (!result) result = keeper_connect(backends->loop, keeper_descriptor, keeper_pid, &backends->keeper, error);
  if (!result) result = transport_sockets_new(backends->loop, &backends->transport, error);
  if (!result) result = observer_dns_new(backends->loop, backends->transport, backends->entropy, &backends->observer, error);
  if (result) {
    release_backends(backends);
    return result;
  }
  backends->factory = (struct engine_factory){make_publisher, make_signer, backends};
  return 0;
}

int main(int argc, char **argv) {
  static const struct cli_wiring wiring = {store_sqlite_open, start_keeper, make_backends, release_backends};
  signal(SIGPIPE, SIG_IGN);
  const int status = cli_main(&wiring, argc, argv);
  key_roots_release(&keeper_rights.keys);
  opendkim_roots_release(&keeper_rights.signers);
  return status;
}
