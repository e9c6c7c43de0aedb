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

/* What the command printed, a line each; what it says that people should do, they do. */
static void follow_output(struct sim *sim, char *text) {
  bool left = false, in_the_way = false, apart = false, anew = false;
  for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
    if (*line) sim_trace(sim, "import: %s", line);
    left |= strstr(line, " not to sign there by the policy: ") != NULL;
    apart |= strstr(line, " lets it sign there too") != NULL;
    anew |= strstr(line, "nothing signs for it yet") != NULL;
    in_the_way |= strstr(line, " sign that too; then import again") != NULL;
  }
  if (anew) sim_runner_make_fragments(sim, false);
  if (left) sim_tables_drop_left(sim);
  if (in_the_way || apart) sim_tables_make_room(sim, apart);
}

/* What import takes over is dkimroll's from then on. */
static int note_taken(void *context, const void *row) {
  struct sim *sim = context;
  const struct lineage *lineage = row;
  for (size_t i = 0; i < sim->by_hand_count; i++) {
    struct sim_by_hand *key = &sim->by_hand[i];
    for (size_t j = 0; j < lineage->key_count && text_equal(sim->zones[key->domain].name, lineage->domain); j++)
      key->taken_over |= text_equal(lineage->keys[j].selector, key->selector);
  }
  return 0;
}

static void find_taken(struct sim *sim) {
  static const struct store_filter all;
  struct store *store = sim_host_store(sim);
  struct error error = {0};
  if (store && store->ops->select(store, STORE_SELECT_LINEAGES, &all, note_taken, sim, &error)) sim_trace(sim, "the store cannot be read: %s", error.message);
}

int sim_import(struct sim *sim) {
  static const struct cli_wiring wiring = {.open_store = open_store, .start_keeper = start_keeper, .make_backends = make_backends, .release_backends = release_backends};
  char path[128], *text = NULL;
  size_t size = 0;
  if (sim->engine) return -1;
  FILE *out = open_memstream(&text, &size);
  if (!out) abort();
  const struct cli_arguments arguments = {.policy = sim_host_path(sim, "policy.yaml", path, sizeof path), .apply = true};
  const struct cli cli = {.wiring = &wiring, .arguments = &arguments, .out = out, .err = out};
  sim_host_close(sim);
  world = sim;
  sim->is_importing = true;
  const int status = cli_command_import(&cli);
  sim->is_importing = false;
  world = NULL;
  if (sim_files_are_dark(&sim->files)) sim_power_cut(sim);
  fclose(out);
  sim_oracle_octets(sim, "what import prints", text, size);
  follow_output(sim, text);
  free(text);
  find_taken(sim);
  if (status == 0) sim_runner_make_fragments(sim, false);
  sim->dirty = true;
  return status;
}

/* ---- an operator who does not give up ---- */

static void import_once_more(void *context) { sim_import_later(context, SIM_MINUTE); }

/* What cannot be taken over may have to wait for what a run does. */
static void let_it_run(struct sim *sim) {
  sim_trace(sim, "the operator lets dkimroll run for a day");
  sim_loop_at(sim->clock, sim_loop_now(sim->clock) + SIM_DAY, import_once_more, sim, false);
}

static void import_again(void *context) {
  enum { ATTEMPTS = 24 };
  struct sim *sim = context;
  if (sim->over) return;
  const int status = sim_import(sim);
  if (sim->is_calm && status >= 0) sim_tables_settle(sim);
  sim->imports_failed = status > 0 ? sim->imports_failed + 1 : 0;
  if (sim->imports_failed == ATTEMPTS) {
    sim->imports_failed = 0;
    let_it_run(sim);
  } else if (status) {
    sim_trace(sim, status < 0 ? "dkimroll is still at work" : "import ended with %d; the operator will try again", status);
    sim_loop_at(sim->clock, sim_loop_now(sim->clock) + (status < 0 ? SIM_MINUTE : SIM_HOUR), import_again, sim, false);
    return;
  }
  sim->import_waits = false;
  sim_loop_interrupt(sim->clock);
}

void sim_import_later(struct sim *sim, int64_t delay) {
  sim->has_imported = true;
  if (sim->engine) engine_stop(sim->engine);
  if (sim->import_waits) return; /* somebody is at it */
  sim->import_waits = true;
  sim_loop_at(sim->clock, sim_loop_now(sim->clock) + delay, import_again, sim, false);
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
  sim_oracle_key_made(sim, path);
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
  if (sim->by_hand_count == SIM_BY_HAND_MAX) abort();
  struct sim_by_hand *key = &sim->by_hand[sim->by_hand_count++];
  *key = (struct sim_by_hand){.domain = domain, .made_at = sim_loop_now(sim->clock)};
  text_copy(key->selector, sizeof key->selector, selector);
  sim->tables_edited = true;
  struct sim_zone *zone = sim_record_zone(sim, domain);
  struct sim_content *content = sim_zone_edit(zone);
  sim_content_add(sim, content, sim_owner_name(sim, selector, name, owner), DNS_TYPE_TXT, 3600, record, SIM_RECORD_OURS);
  sim_oracle_update(sim, zone, sim_zone_at(zone, 0), content);
  sim_zone_commit(sim, zone, content);
  for (size_t s = 0; s < sim->signer_count; s++) sim_filter_restart(sim, s);
}

const struct sim_by_hand *sim_by_hand_find(const struct sim *sim, const char *owner) {
  char name[DNS_NAME_TEXT_SIZE];
  for (size_t i = 0; i < sim->by_hand_count; i++) {
    const struct sim_by_hand *key = &sim->by_hand[i];
    if (text_equal(sim_owner_name(sim, key->selector, sim->zones[key->domain].name, name), owner)) return key;
  }
  return NULL;
}
