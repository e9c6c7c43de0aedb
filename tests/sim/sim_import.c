/* `dkimroll import --apply`, the whole command over its wiring, in the world: with what a how-to's script left behind, and after the store was lost. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/cli.h"
#include "dkimroll/file.h"
#include "dkimroll/keypair.h"
#include "dkimroll/message.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"
#include "sim.h"

/* The wiring has no context. */
static struct sim *world;

static int open_store(const char *path, bool read_only, struct store **ret_store, struct error *error) {
  return store_sqlite_open(path, read_only, ret_store, error);
}

static int start_keeper(const struct policy *policy, const struct policy_signer *const *signers, size_t signer_count, int *ret_descriptor, pid_t *ret_pid,
                        struct error *error) {
  (void)policy, (void)signers, (void)signer_count, (void)error;
  *ret_descriptor = -1;
  *ret_pid = -1;
  return 0;
}

static int make_backends(int keeper_descriptor, pid_t keeper_pid, struct cli_backends *ret_backends, struct error *error) {
  (void)keeper_descriptor, (void)keeper_pid;
  return sim_host_backends(world, ret_backends, error);
}

static void release_backends(struct cli_backends *backends) {
  (void)backends;
  sim_host_release_backends(world);
}

/* What the command printed, a line each. */
static void trace_output(struct sim *sim, char *text) {
  for (char *rest = text, *line; (line = strsep(&rest, "\n"));)
    if (*line) sim_trace(sim, "import: %s", line);
}

bool sim_import(struct sim *sim) {
  static const struct cli_wiring wiring = {.open_store = open_store, .start_keeper = start_keeper, .make_backends = make_backends, .release_backends = release_backends};
  char path[128], *text = NULL;
  size_t size = 0;
  if (sim->engine) return false;
  FILE *out = open_memstream(&text, &size);
  if (!out) abort();
  const struct cli_arguments arguments = {.policy = sim_host_path(sim, "policy.yaml", path, sizeof path), .apply = true};
  const struct cli cli = {.wiring = &wiring, .arguments = &arguments, .out = out, .err = out};
  sim_host_close(sim);
  world = sim;
  const int status = cli_command_import(&cli);
  world = NULL;
  fclose(out);
  trace_output(sim, text);
  free(text);
  sim->dirty = true;
  if (status) sim_violate(sim, "import", "it ended with %d", status);
  return true;
}

/* ---- what the how-to left ---- */

static void append(const char *path, const char *line) {
  const int descriptor = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
  if (descriptor < 0 || write(descriptor, line, strlen(line)) != (ssize_t)strlen(line) || close(descriptor)) abort();
}

/* The same key at each signer, as a script copies it; lines are appended behind an empty one. */
static void leave_at(struct sim *sim, size_t signer, const char *domain, const char *selector, const char *pem) {
  char name[96], path[192], line[512];
  snprintf(name, sizeof name, "s%zu/keys", signer + 1);
  (void)!mkdir(sim_host_path(sim, name, path, sizeof path), 0700);
  snprintf(name, sizeof name, "s%zu/keys/%s", signer + 1, domain);
  (void)!mkdir(sim_host_path(sim, name, path, sizeof path), 0700);
  snprintf(name, sizeof name, "s%zu/keys/%s/%s.private", signer + 1, domain, selector);
  sim_host_path(sim, name, path, sizeof path);
  const int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (descriptor < 0 || write(descriptor, pem, strlen(pem)) != (ssize_t)strlen(pem) || close(descriptor)) abort();
  snprintf(line, sizeof line, "\n%s._domainkey.%s %s:%s:%s\n", selector, domain, domain, selector, path);
  snprintf(name, sizeof name, "s%zu/KeyTable", signer + 1);
  append(sim_host_path(sim, name, path, sizeof path), line);
  snprintf(line, sizeof line, signer % 2 ? "\n%s %s._domainkey.%s\n" : "\n*@%s %s._domainkey.%s\n", domain, selector, domain);
  snprintf(name, sizeof name, "s%zu/SigningTable", signer + 1);
  append(sim_host_path(sim, name, path, sizeof path), line);
}

void sim_how_to(struct sim *sim, size_t domain, const char *selector) {
  CLEANUP(keypair_public_release) struct keypair_public half = {0};
  CLEANUP_FREE char *record = NULL;
  CLEANUP_FREE char *pem = NULL;
  char path[128], owner[DNS_NAME_TEXT_SIZE];
  size_t size = 0;
  struct error error = {0};
  const struct file_rights rights = {.owner = getuid(), .group = getgid(), .mode = 0600};
  const char *const name = sim->zones[domain].name;
  sim_host_path(sim, "how-to.private", path, sizeof path);
  sim_files_world_begin(&sim->files);
  if (keypair_generate(KEY_ALGORITHM_ED25519, 256, path, &rights, &half, &error) || record_build(half.algorithm, half.public_key, half.public_key_size, &record, &error) ||
      file_read(path, KEYPAIR_FILE_MAX, &pem, &size, NULL, &error) || unlink(path))
    abort();
  for (size_t s = 0; s < sim->signer_count; s++) leave_at(sim, s, name, selector, pem);
  sim_files_world_end(&sim->files);
  sim->tables_edited = true;
  struct sim_zone *zone = sim_record_zone(sim, domain);
  struct sim_content *content = sim_zone_edit(zone);
  sim_content_add(sim, content, sim_owner_name(sim, selector, name, owner), DNS_TYPE_TXT, 3600, record, SIM_RECORD_OURS);
  sim_oracle_update(sim, zone, sim_zone_at(zone, 0), content);
  sim_zone_commit(sim, zone, content);
  for (size_t s = 0; s < sim->signer_count; s++) sim_filter_restart(sim, s);
}
