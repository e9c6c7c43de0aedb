/* The host that dkimroll runs on: what src/cli/session.c and src/main.c do, with the back ends of this world. */
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/cli.h"
#include "dkimroll/text.h"
#include "sim.h"

const char *sim_host_path(struct sim *sim, const char *name, char *buffer, size_t size) {
  snprintf(buffer, size, "%s/%s", sim->root, name);
  return buffer;
}

static void write_file(struct sim *sim, const char *name, const char *text) {
  char path[128];
  const int descriptor = open(sim_host_path(sim, name, path, sizeof path), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (descriptor < 0 || write(descriptor, text, strlen(text)) != (ssize_t)strlen(text)) abort();
  close(descriptor);
}

/* Memory, wherever there is some: the world's faults are simulated, and the host's disk should not wear out for them. */
static const char *choose_parent(void) {
  static const char *const places[] = {"/run", "/dev/shm", "/tmp"};
  struct statfs status;
  for (size_t i = 0; i < ARRAY_SIZE(places); i++)
    if (statfs(places[i], &status) == 0 && status.f_type == TMPFS_MAGIC && access(places[i], W_OK) == 0) return places[i];
  return "/tmp";
}

void sim_host_init(struct sim *sim) {
  char name[48];
  enum { PLACE = 12 }; /* texts that name it are as long on every host */
  const char *const parent = choose_parent();
  snprintf(sim->root, sizeof sim->root, "%s/dkimroll-sim%.*s-XXXXXX", parent, (int)(PLACE - strlen(parent)), "------------");
  if (!mkdtemp(sim->root)) abort();
  write_file(sim, "tsig.key", "hmac-sha256:update.test:c2VjcmV0IG9mIDMyIG9jdGV0cyBmb3IgdGhlIHRlc3Q=\n");
  sim->tsig = (struct tsig_key){.name = "update.test", .algorithm = TSIG_HMAC_SHA256, .secret_size = 32};
  memcpy(sim->tsig.secret, "secret of 32 octets for the test", 32);
  for (size_t s = 0; s < sim->signer_count; s++) {
    char path[128];
    snprintf(name, sizeof name, "s%zu", s + 1);
    if (mkdir(sim_host_path(sim, name, path, sizeof path), 0755)) abort();
    snprintf(name, sizeof name, "s%zu/KeyTable", s + 1);
    write_file(sim, name, "# keys of others\nother._domainkey.other.test other.test:other:/nowhere/other.private\n\n");
    snprintf(name, sizeof name, "s%zu/SigningTable", s + 1);
    write_file(sim, name, s % 2 ? "# senders of others\nother.test\tother._domainkey.other.test\n" : "# senders of others\n*@other.test\tother._domainkey.other.test\n");
  }
  sim_files_begin(&sim->files, sim->root, sim->seed);
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *place) {
  (void)status, (void)kind, (void)place;
  return remove(path);
}

void sim_host_free(struct sim *sim) {
  sim_host_close(sim);
  policy_free(sim->policy);
  if (sim->files.inodes) sim_files_end(&sim->files);
  if (sim->root[0]) nftw(sim->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
  key_roots_release(&sim->key_roots);
  opendkim_roots_release(&sim->signer_roots);
  runner_zonefiles_release(&sim->zonefiles);
}

static struct store *open_store(struct sim *sim, bool read_only) {
  char path[128];
  struct store *store = NULL;
  struct error error = {0};
  if (store_sqlite_open(sim_host_path(sim, "lib/state.db", path, sizeof path), read_only, &store, &error) == 0) return store;
  sim_trace(sim, "the store cannot be opened: %s", error.message);
  return NULL;
}

/* Opening SQLite costs more than most runs, so it is kept where a process that lives on would keep it, and opened anew often enough. */
struct store *sim_host_store(struct sim *sim) {
  enum { ANEW = 32 };
  if (!sim->engine && SIM_RANDOM(sim, ANEW) == 0) sim_host_close(sim);
  if (!sim->store) sim->store = open_store(sim, false);
  return sim->store;
}

void sim_host_close(struct sim *sim) {
  store_close(sim->store);
  sim->store = NULL;
}

int64_t sim_host_next(struct sim *sim) {
  struct store *store = sim_host_store(sim);
  int64_t next = TIME_UNSET;
  struct error error;
  if (!store || store->ops->next_moment(store, &next, NULL, NULL, &error)) return SIM_START;
  if (next == TIME_NEVER) return INT64_MAX / 4;
  return time_max(SIM_START, (next - sim_loop_wall_error(sim->clock)) * 1000);
}

static void put_request(struct sim *sim, struct store_request *request) {
  struct store *store = sim_host_store(sim);
  struct error error = {0};
  request->asked_at = sim_loop_wall(sim->clock);
  char who[] = "operator";
  request->asked_by = who;
  if (store && store->ops->request(store, request, &error)) sim_trace(sim, "the request is refused: %s", error.message);
  request->asked_by = NULL;
  sim->dirty = true;
  if (sim->stays && sim->engine) engine_wake(sim->engine);
}

void sim_host_request(struct sim *sim, enum store_request_kind kind, const char *domain, int64_t until, enum hold_scope scope) {
  put_request(sim, &(struct store_request){.kind = kind, .domain = (char *)(uintptr_t)domain, .until = until, .hold_scope = scope});
}

void sim_host_revoke(struct sim *sim, const char *domain, const char *selector, unsigned options) {
  put_request(sim, &(struct store_request){.kind = REQUEST_REVOKE,
                                           .domain = (char *)(uintptr_t)domain,
                                           .selector = (char *)(uintptr_t)selector,
                                           .until = TIME_NEVER,
                                           .options = options});
}

/* ---- one run ---- */

struct run {
  struct sim *sim;
  struct store *store;
  struct observer *observer;
};

static int allow_signer(void *context, const void *row) {
  struct sim *sim = context;
  struct error error;
  const struct policy_signer *signer = row;
  if (key_roots_add(&sim->key_roots, signer->key_directory, &error) || opendkim_roots_add(&sim->signer_roots, signer, &error)) abort();
  return 0;
}

static void allow(struct run *run) {
  static const struct store_filter all;
  struct sim *sim = run->sim;
  struct error error;
  key_roots_release(&sim->key_roots);
  opendkim_roots_release(&sim->signer_roots);
  sim->key_roots = (struct key_roots){0};
  sim->signer_roots = (struct opendkim_roots){0};
  for (size_t i = 0; i < sim->policy->signer_count; i++) (void)allow_signer(sim, &sim->policy->signers[i]);
  for (size_t i = 0; i < sim->policy->rules_count; i++)
    if (sim->policy->rules[i].archive_directory && key_roots_add(&sim->key_roots, sim->policy->rules[i].archive_directory, &error)) abort();
  if (run->store->ops->select(run->store, STORE_SELECT_SIGNERS, &all, allow_signer, sim, &error)) sim_trace(sim, "old signers: %s", error.message);
}

/* The handlers of a keeper that was forked now; reloads reach the simulated signers. */
static size_t make_handlers(struct sim *sim) {
  size_t count = key_jobs_handlers(&sim->key_roots, sim->handlers);
  count += opendkim_jobs_handlers(&sim->signer_roots, sim->handlers + count);
  count += survey_handlers(&sim->signer_roots, sim->handlers + count);
  for (size_t i = 0; i < count; i++)
    if (sim->handlers[i].job == KEEPER_RELOAD) sim->handlers[i] = sim_signer_reload_handler(sim_filters(sim));
  return count;
}

static int make_publisher(void *context, const struct policy_publisher *policy, struct publisher **ret_publisher, struct error *error) {
  struct sim *sim = context;
  if (policy->type == PUBLISHER_COMMAND) return publisher_command_new(sim->loop, sim->runner, sim->observer, policy, ret_publisher, error);
  if (policy->type == PUBLISHER_ZONEFILE) return publisher_zonefile_new(sim->loop, sim->runner, sim->observer, policy, ret_publisher, error);
  return publisher_rfc2136_new(sim->loop, sim->transport, &sim->process_random.entropy, policy, ret_publisher, error);
}

static int make_signer(void *context, const struct policy_signer *policy, struct signer **ret_signer, struct error *error) {
  return sim_filter_make(context, policy, ret_signer, error);
}

static int run_sync(struct run *run, struct error *error) {
  struct sim *sim = run->sim;
  int64_t next = TIME_UNSET;
  struct store_policy_stamp known = {0};
  int result = run->store->ops->next_moment(run->store, &next, &known, NULL, error);
  if (result) return result;
  /* Stamps by version: a file system in memory that is written twice within one tick would make replays differ. */
  struct store_file_stamp file = {.path = sim->policy->path, .modified_ns = (int64_t)sim->policy_version};
  struct store_policy_stamp stamp = {.files = &file, .file_count = 1};
  const bool current = known.file_count == 1 && known.files[0].modified_ns == file.modified_ns;
  store_policy_stamp_release(&known);
  if (current) return 0;
  text_copy(stamp.digest, sizeof stamp.digest, sim->policy->digest);
  return run->store->ops->sync(run->store, sim->policy, &stamp, loop_wall(sim->loop), NULL, error);
}

static int load_policy(struct sim *sim, struct error *error) {
  char path[128];
  struct policy_findings findings = {0};
  if (sim->policy && sim->policy_loaded == sim->policy_version) return 0;
  policy_free(sim->policy);
  sim->policy = NULL;
  sim->policy_loaded = sim->policy_version;
  int result = policy_load(sim_host_path(sim, "policy.yaml", path, sizeof path), &sim->policy, &findings, error);
  for (size_t i = 0; i < findings.count; i++) sim_trace(sim, "policy: %s", findings.items[i].message);
  policy_findings_release(&findings);
  return result;
}

static void hear(void *context, const struct event *event) { sim_oracle_event(context, event); }

static int run_engine(struct run *run, int64_t horizon, struct error *error) {
  struct sim *sim = run->sim;
  const struct engine_factory factory = {make_publisher, make_signer, sim};
  const struct engine_setup setup = {.loop = sim->loop,
                                     .store = run->store,
                                     .keeper = sim->keeper,
                                     .observer = run->observer,
                                     .entropy = &sim->process_random.entropy,
                                     .factory = &factory,
                                     .listener = hear,
                                     .listener_context = sim,
                                     .horizon = horizon};
  int result = engine_new(&setup, &sim->engine, error);
  if (!result) {
    sim_loop_crash_after(sim->clock, sim->crash_next);
    sim->crash_next = 0;
    result = engine_run(sim->engine, error);
    engine_free(sim->engine);
  }
  sim->engine = NULL;
  return result;
}

/* Keeper, network and observer, for a run or a command; run->store is open. */
static int begin_backends(struct run *run, struct error *error) {
  struct sim *sim = run->sim;
  allow(run);
  sim->keeper = sim_keeper_new(sim, sim->handlers, make_handlers(sim));
  sim->transport = sim_transport_new(sim);
  sim->connector = sim_signer_connector_new(sim->loop, sim_filters(sim));
  if (sim->publisher[0]) sim->runner = sim_keeper_new(sim, sim->runner_handlers, sim_runner_handlers(sim, sim->runner_handlers));
  const int result = observer_dns_new(sim->loop, sim->transport, &sim->process_random.entropy, &run->observer, error);
  sim->observer = run->observer;
  return result;
}

static void end_backends(struct sim *sim) {
  keeper_destroy(sim->runner);
  sim->runner = NULL;
  observer_destroy(sim->observer);
  sim->observer = NULL;
  if (sim->transport) transport_destroy(sim->transport);
  connector_destroy(sim->connector);
  keeper_destroy(sim->keeper);
  sim->transport = NULL;
  sim->connector = NULL;
  sim->keeper = NULL;
}

int sim_host_backends(struct sim *sim, struct cli_backends *ret_backends, struct error *error) {
  struct run run = {.sim = sim};
  int result = load_policy(sim, error);
  if (result) return result;
  run.store = sim_host_store(sim);
  if (!run.store) return error_set(error, ERROR_SYSTEM, "there is no store");
  result = begin_backends(&run, error);
  sim_host_close(sim);
  if (result) {
    end_backends(sim);
    return result;
  }
  *ret_backends = (struct cli_backends){.loop = sim->loop,
                                        .keeper = sim->keeper,
                                        .runner = sim->runner,
                                        .transport = sim->transport,
                                        .connector = sim->connector,
                                        .observer = sim->observer,
                                        .entropy = &sim->process_random.entropy,
                                        .factory = {make_publisher, make_signer, sim}};
  return 0;
}

void sim_host_release_backends(struct sim *sim) { end_backends(sim); }

void sim_host_lose_store(struct sim *sim) {
  static const char *const ends[] = {"", "-wal", "-shm", "-journal"};
  char name[48], path[128];
  sim_host_close(sim);
  sim_files_world_begin(&sim->files);
  for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
    snprintf(name, sizeof name, "lib/state.db%s", ends[i]);
    sim_disk_delete(&sim->disk, sim_host_path(sim, name, path, sizeof path));
    (void)!unlink(path);
  }
  sim_files_world_end(&sim->files);
}

static int run_all(struct run *run, int64_t horizon, struct error *error) {
  struct sim *sim = run->sim;
  int result = load_policy(sim, error);
  if (result) return result;
  run->store = sim_host_store(sim);
  if (!run->store) return error_set(error, ERROR_SYSTEM, "there is no store");
  result = begin_backends(run, error);
  if (!result) result = run->store->ops->lease(run->store, "simulate", loop_wall(sim->loop), error);
  if (!result) result = run_sync(run, error);
  return result ? result : run_engine(run, horizon, error);
}

void sim_host_run(struct sim *sim, int64_t horizon) {
  struct run run = {.sim = sim};
  struct error error = {0};
  sim->dirty = sim->policy_changed = false;
  sim->result->counts.runs++;
  sim_runner_make_fragments(sim, true);
  const int result = run_all(&run, horizon, &error);
  const bool died = sim_loop_crashed(sim->clock);
  if (result && !died) sim_trace(sim, "the run ends: %s", error.message);
  if (error.code == ERROR_INTERNAL) sim_violate(sim, "defect", "%s", error.message);
  if (died) {
    sim_trace(sim, "the process dies");
    sim->result->counts.crashes++;
  }
  sim->dirty |= died;
  sim_loop_crash_after(sim->clock, 0);
  if (died && !sim->power_is_gone) sim_disk_kill(&sim->disk);
  sim->power_is_gone = false;
  end_backends(sim);
  if (died || result) sim_host_close(sim);
  if (sim->store_goes) sim_host_lose_store(sim);
  sim->store_goes = false;
  if (sim_files_are_dark(&sim->files)) sim_power_cut(sim);
}
