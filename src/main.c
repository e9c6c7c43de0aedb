/* The wiring: the only file that names concrete back ends. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dkimroll/cli.h"
#include "dkimroll/file.h"
#include "dkimroll/grants.h"
#include "dkimroll/key_jobs.h"
#include "dkimroll/keeper_walls.h"
#include "dkimroll/opendkim_jobs.h"
#include "dkimroll/openssl_memory.h"
#include "dkimroll/runner.h"
#include "dkimroll/runner_fragment.h"
#include "dkimroll/survey.h"
#include "dkimroll/text.h"

/* Those of key files, tables, surveys, and the walls. */
enum { KEEPER_HANDLERS = KEY_JOBS_COUNT + OPENDKIM_JOBS_COUNT + SURVEY_JOBS_COUNT + 1 };

/* What the keeper may touch, and its handlers. Filled in before the fork and read-only afterwards, in the children too. */
static struct {
  struct key_roots keys;
  struct opendkim_roots signers;
  char **writable; /* owned */
  size_t writable_count;
  struct keeper_walls walls;
  struct keeper_handler handlers[KEEPER_HANDLERS];
} keeper_rights;

static int allow_signer(const struct policy_signer *signer, struct error *error) {
  int result = key_roots_add_signer(&keeper_rights.keys, signer, error);
  if (!result) result = opendkim_roots_add(&keeper_rights.signers, signer, error);
  return result;
}

static int allow_archive(const char *directory_template, struct error *error) {
  return key_roots_add(&keeper_rights.keys, directory_template, error);
}

/* Takes path over. A table is replaced in its directory; a link to one is followed. */
static int allow_writing(char *path, bool file, struct error *error) {
  char **grown = path ? reallocarray(keeper_rights.writable, keeper_rights.writable_count + 1, sizeof(char *)) : NULL;
  if (!grown) {
    free(path);
    return error_set(error, ERROR_NO_MEMORY, "out of memory for the keeper's directories");
  }
  char *slash = file ? strrchr(path, '/') : NULL;
  if (slash) slash[slash == path] = '\0';
  keeper_rights.writable = grown;
  grown[keeper_rights.writable_count++] = path;
  return 0;
}

static int allow_writing_table(const char *path, struct error *error) {
  char *real = NULL;
  int result = allow_writing(text_duplicate(path), true, error);
  if (!result && file_resolve_foreign(path, &real, NULL) == 0) result = allow_writing(real, true, error);
  return result;
}

static int prepare_walls(struct error *error) {
  int result = 0;
  for (size_t i = 0; i < keeper_rights.keys.count && !result; i++)
    result = allow_writing(text_duplicate(keeper_rights.keys.paths[i]), false, error);
  for (size_t i = 0; i < keeper_rights.signers.count && !result; i++) {
    result = allow_writing_table(keeper_rights.signers.items[i].key_table, error);
    if (!result) result = allow_writing_table(keeper_rights.signers.items[i].signing_table, error);
  }
  keeper_rights.walls.writable = (const char *const *)keeper_rights.writable;
  keeper_rights.walls.writable_count = keeper_rights.writable_count;
  return result;
}

static void prepare_handlers(struct keeper_setup *ret_setup) {
  size_t count = key_jobs_handlers(&keeper_rights.keys, keeper_rights.handlers);
  count += opendkim_jobs_handlers(&keeper_rights.signers, keeper_rights.handlers + count);
  count += survey_handlers(&keeper_rights.signers, keeper_rights.handlers + count);
  keeper_rights.handlers[count++] = keeper_walls_handler(&keeper_rights.walls);
  *ret_setup = (struct keeper_setup){.handlers = keeper_rights.handlers, .handler_count = count, .begin = openssl_begin, .walls = &keeper_rights.walls};
}

static int prepare_keeper(const struct policy *policy, const struct policy_signer *const *signers, size_t signer_count,
                          struct keeper_setup *ret_setup, struct error *error) {
  int result = 0;
  for (size_t i = 0; i < policy->signer_count && !result; i++) result = allow_signer(&policy->signers[i], error);
  for (size_t i = 0; i < signer_count && !result; i++) result = allow_signer(signers[i], error);
  for (size_t i = 0; i < policy->rules_count && !result; i++)
    if (policy->rules[i].archive_directory) result = allow_archive(policy->rules[i].archive_directory, error);
  if (!result) result = prepare_walls(error);
  if (!result) prepare_handlers(ret_setup);
  return result;
}

static int start_keeper(const struct policy *policy, const struct policy_signer *const *signers, size_t signer_count, int *ret_descriptor,
                        pid_t *ret_pid, struct error *error) {
  struct keeper_setup setup;
  int result = prepare_keeper(policy, signers, signer_count, &setup, error);
  return result ? result : keeper_process_fork(&setup, ret_descriptor, ret_pid, error);
}

static int refuse_job(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  (void)request, (void)reply;
  *error = *(const struct error *)context;
  return error->code;
}

static int serve_keeper(const struct policy *policy, const struct policy_signer *const *signers, size_t signer_count, int descriptor,
                        const struct error *failure) {
  struct error problem = *failure;
  struct keeper_setup setup;
  if (!problem.code) prepare_keeper(policy, signers, signer_count, &setup, &problem);
  if (problem.code) {
    prepare_handlers(&setup);
    for (size_t i = 0; i < setup.handler_count; i++) {
      keeper_rights.handlers[i].run = refuse_job;
      keeper_rights.handlers[i].context = &problem;
    }
  }
  return keeper_process_serve(&setup, descriptor);
}

/* The commands that the runner may run, the fragments that it may write, and its handlers. Filled in before the fork and read-only afterwards. */
static struct {
  struct runner_rights commands;
  struct runner_zonefiles zonefiles;
  struct keeper_handler handlers[RUNNER_JOBS_COUNT + 1];
} runner_rights;

static int start_runner(const struct policy *policy, int *ret_descriptor, pid_t *ret_pid, struct error *error) {
  *ret_descriptor = -1;
  int result = runner_allow_policy(&runner_rights.commands, policy, error);
  if (!result) result = runner_zonefiles_allow(&runner_rights.zonefiles, policy, error);
  if (result || runner_rights.commands.count + runner_rights.zonefiles.count == 0) return result;
  size_t count = runner_handlers(&runner_rights.commands, runner_rights.handlers);
  runner_rights.handlers[count++] = runner_fragment_handler(&runner_rights.zonefiles);
  const struct keeper_setup setup = {.handlers = runner_rights.handlers,
                                     .handler_count = count,
                                     .workers = RUNNER_WORKERS,
                                     .title = "dkimroll-runner"};
  return keeper_process_fork(&setup, ret_descriptor, ret_pid, error);
}

static int connect_runner(int descriptor, pid_t pid, struct cli_backends *backends, struct error *error) {
  const int result = keeper_connect(backends->loop, descriptor, pid, &backends->runner, error);
  if (result) close(descriptor);
  return result;
}

static int make_publisher(void *context, const struct policy_publisher *policy, struct publisher **ret_publisher, struct error *error) {
  const struct cli_backends *backends = context;
  switch (policy->type) {
  case PUBLISHER_COMMAND: return publisher_command_new(backends->loop, backends->runner, backends->observer, policy, ret_publisher, error);
  case PUBLISHER_ZONEFILE: return publisher_zonefile_new(backends->loop, backends->runner, backends->observer, policy, ret_publisher, error);
  case PUBLISHER_RFC2136: break;
  }
  return publisher_rfc2136_new(backends->loop, backends->transport, backends->entropy, policy, ret_publisher, error);
}

static int make_signer(void *context, const struct policy_signer *policy, struct signer **ret_signer, struct error *error) {
  const struct cli_backends *backends = context;
  return signer_opendkim_new(backends->connector, backends->keeper, backends->entropy, policy, ret_signer, error);
}

static void release_backends(struct cli_backends *backends) {
  observer_destroy(backends->observer);
  transport_destroy(backends->transport);
  connector_destroy(backends->connector);
  keeper_destroy(backends->runner);
  keeper_destroy(backends->keeper);
  loop_destroy(backends->loop);
  memset(backends, 0, sizeof *backends);
}

static int make_backends(int keeper_descriptor, pid_t keeper_pid, struct cli_backends *ret_backends, struct error *error) {
  struct cli_backends *backends = ret_backends;
  memset(backends, 0, sizeof *backends);
  backends->entropy = &entropy_system;
  int result = openssl_begin(error);
  if (!result) result = loop_sd_event_new(&backends->loop, error);
  if (!result) result = keeper_connect(backends->loop, keeper_descriptor, keeper_pid, &backends->keeper, error);
  if (!result) result = transport_sockets_new(backends->loop, &backends->transport, error);
  if (!result) result = connector_sockets_new(backends->loop, &backends->connector, error);
  if (!result) result = observer_dns_new(backends->loop, backends->transport, backends->entropy, &backends->observer, error);
  if (result) {
    release_backends(backends);
    return result;
  }
  backends->factory = (struct engine_factory){make_publisher, make_signer, backends};
  return 0;
}

int main(int argc, char **argv) {
  static const struct cli_wiring wiring = {store_sqlite_open, start_keeper, make_backends, release_backends, start_runner, connect_runner};
  static const struct cli_separation separation = {allow_archive, serve_keeper, GRANTS_DIRECTORY_DEFAULT};
  signal(SIGPIPE, SIG_IGN);
  const int status = cli_main(&wiring, &separation, argc, argv);
  key_roots_release(&keeper_rights.keys);
  opendkim_roots_release(&keeper_rights.signers);
  runner_rights_release(&runner_rights.commands);
  runner_zonefiles_release(&runner_rights.zonefiles);
  for (size_t i = 0; i < keeper_rights.writable_count; i++) free(keeper_rights.writable[i]);
  free(keeper_rights.writable);
  return status;
}
