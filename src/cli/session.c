#include "dkimroll/session.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/teller.h"
#include "dkimroll/text.h"
#include "dkimroll/file.h"
#include "dkimroll/wake.h"

#define STATE_DEFAULT "/var/lib/dkimroll/state.db"
enum { POLICY_PEEK_MAX = 64 * 1024 };

void session_release(struct session *session) {
  if (session->has_backends) session->cli->wiring->release_backends(&session->backends);
  session->has_backends = false;
  if (session->has_runner) close(session->runner_descriptor);
  session->has_runner = false;
  store_close(session->store);
  session->store = NULL;
  policy_free(session->policy);
  session->policy = NULL;
  for (size_t i = 0; i < session->old_signer_count; i++) policy_signer_free(session->old_signers[i]);
  free(session->old_signers);
  free(session->state);
  free(session->keeper_socket);
  free(session->stamps);
  session->stamps = NULL;
  session->old_signers = NULL;
  session->state = session->keeper_socket = NULL;
}

/* The value of a "state:" line in the first octets of the policy, which saves reading a hundred thousand domains only to find the store. It is believed
 * because the store then knows from which policy it was made. *ret_state: caller frees; NULL: there is none, or no policy that this user may read. Any other
 * failure is an error: another store than the policy's must not be taken for it. */
static int peek_state(const char *path, char **ret_state, struct error *error) {
  CLEANUP_FCLOSE FILE *file = fopen(path, "re");
  char line[4096];
  size_t seen = 0;
  *ret_state = NULL;
  if (!file) return errno == ENOENT || errno == EACCES ? 0 : error_set_errno(error, errno, "%s: cannot open", path);
  while (seen < POLICY_PEEK_MAX && fgets(line, sizeof line, file)) {
    seen += strlen(line);
    if (!text_starts(line, "state:")) continue;
    char *value = line + strlen("state:");
    value += strspn(value, " \t\"'");
    value[strcspn(value, " \t\"'\r\n#")] = '\0';
    if (value[0] != '/') return 0;
    *ret_state = text_duplicate(value);
    return *ret_state ? 0 : error_set(error, ERROR_NO_MEMORY, "%s: out of memory", path);
  }
  return ferror(file) ? error_set_errno(error, errno, "%s: cannot read", path) : 0;
}

int session_find_state(struct session *session, struct error *error) {
  int result = 0;
  if (session->state) return 0;
  if (session->policy)
    session->state = text_duplicate(session->policy->state);
  else
    result = peek_state(session->cli->arguments->policy, &session->state, error);
  if (!result && !session->policy && !session->state) session->state = text_duplicate(STATE_DEFAULT);
  return result || session->state ? result : error_set(error, ERROR_NO_MEMORY, "out of memory");
}

int session_open_for_reading(struct session *session, struct error *error) {
  int result = session_find_state(session, error);
  if (!result) result = session_drop(session, error);
  if (!result) result = session->cli->wiring->open_store(session->state, true, &session->store, error);
  return result;
}

static bool stamp_file(const char *path, struct store_file_stamp *ret_stamp) {
  struct stat status;
  if (stat(path, &status) < 0) return false;
  *ret_stamp = (struct store_file_stamp){
      .path = (char *)path,
      .size = status.st_size,
      .inode = (int64_t)status.st_ino,
      .device = (int64_t)status.st_dev,
      .modified_ns = (int64_t)status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec,
      .changed_ns = (int64_t)status.st_ctim.tv_sec * 1000000000 + status.st_ctim.tv_nsec,
  };
  return true;
}

static bool stamp_is_current(const struct store_policy_stamp *stamp, const char *policy) {
  char *resolved = NULL;
  struct error unused;
  if (stamp->file_count == 0 || file_resolve(policy, &resolved, &unused)) return false;
  bool current = text_equal(stamp->files[0].path, resolved);
  free(resolved);
  for (size_t i = 0; i < stamp->file_count && current; i++) {
    struct store_file_stamp now;
    const struct store_file_stamp *then = &stamp->files[i];
    current = stamp_file(then->path, &now) && now.size == then->size && now.inode == then->inode && now.device == then->device &&
              now.modified_ns == then->modified_ns && now.changed_ns == then->changed_ns;
  }
  return current;
}

int session_look(struct session *session, int64_t *ret_next, struct error *error) {
  struct store_policy_stamp stamp = {0};
  int64_t next = TIME_UNSET;
  int result = session->store->ops->next_moment(session->store, &next, &stamp, NULL, error);
  if (result) return result;
  *ret_next = stamp_is_current(&stamp, session->cli->arguments->policy) ? next : TIME_UNSET;
  store_policy_stamp_release(&stamp);
  return 0;
}

/* When they are read, and not when they are compiled: a daemon may wait in between, and what changed meanwhile is not what it read. */
static int stamp_policy(struct session *session, struct error *error) {
  const struct policy *policy = session->policy;
  session->stamps = calloc(policy->file_count + 1, sizeof *session->stamps);
  if (!session->stamps) return error_set(error, ERROR_NO_MEMORY, "out of memory");
  for (size_t i = 0; i < policy->file_count; i++)
    if (!stamp_file(policy->files[i], &session->stamps[i])) session->stamps[i] = (struct store_file_stamp){.path = policy->files[i]};
  return 0;
}

int session_read_policy(struct session *session, struct error *error) {
  struct policy_findings findings = {0};
  CLEANUP_FREE char *path = NULL;
  int result = file_resolve(session->cli->arguments->policy, &path, error);
  if (result) {
    error_remedy(error, "write a policy (see dkimroll-policy(5) and the examples), or name one with --policy FILE");
    return result;
  }
  result = policy_load(path, &session->policy, &findings, error);
  if (result == ERROR_PERMISSION && geteuid() != 0)
    error_remedy(error, "let dkimroll's user read it, it holds no secret: chmod 0644 %s, or chgrp dkimroll and chmod 0640", path);
  for (size_t i = 0; i < findings.count; i++) {
    const struct policy_finding *finding = &findings.items[i];
    fprintf(session->cli->err, "%s:%u:%u: %s\n", finding->file, finding->place.line, finding->place.column, finding->message);
  }
  policy_findings_release(&findings);
  return result ? result : stamp_policy(session, error);
}

/* Keys that live are undone with the paths they were made with, so the keeper must be allowed to touch those too. */
static int keep_signer(void *context, const void *row) {
  struct session *session = context;
  struct error unused;
  CLEANUP_FREE char *text = NULL;
  struct policy_signer *copy = NULL;
  struct policy_signer **grown = realloc(session->old_signers, (session->old_signer_count + 1) * sizeof(struct policy_signer *));
  if (!grown) return ERROR_NO_MEMORY;
  session->old_signers = grown;
  if (policy_signer_format(row, &text, &unused) || policy_signer_parse(text, &copy, &unused)) return ERROR_NO_MEMORY;
  grown[session->old_signer_count++] = copy;
  return 0;
}

/* Whoever may write finishes what a killed process left unfinished in the store, and an older schema: no reader can. */
int session_read_old_signers(struct session *session, struct error *error) {
  static const struct store_filter all;
  struct store *store = NULL;
  int result = session->cli->wiring->open_store(session->state, true, &store, error);
  if (result == ERROR_NOT_FOUND) return 0; /* nothing has run yet */
  if (result && session->writer) result = session->cli->wiring->open_store(session->state, false, &store, error);
  if (result) return result;
  result = store->ops->select(store, STORE_SELECT_SIGNERS, &all, keep_signer, session, error);
  store_close(store);
  return result;
}

static int start_backends(struct session *session, struct error *error) {
  const struct cli_wiring *wiring = session->cli->wiring;
  int descriptor = -1;
  pid_t pid = -1;
  int result = session->policy ? 0 : session_read_policy(session, error);
  free(session->state);
  session->state = NULL;
  if (!result) result = session_find_state(session, error);
  store_close(session->store);
  session->store = NULL;
  if (!result) result = session_begin_keeper(session, &descriptor, &pid, error);
  if (!result) result = wiring->make_backends(descriptor, pid, &session->backends, error);
  if (result) return result;
  session->has_backends = true;
  if (!session->has_runner) return 0;
  session->has_runner = false;
  return wiring->connect_runner(session->runner_descriptor, session->runner_pid, &session->backends, error);
}

int session_start_backends(struct session *session, struct error *error) {
  session->writer = false;
  return start_backends(session, error);
}

int session_open(struct session *session, struct error *error) {
  session->writer = true;
  int result = start_backends(session, error);
  return result ? result : session->cli->wiring->open_store(session->state, false, &session->store, error);
}

static int sync_policy(struct session *session, struct error *error) {
  const struct policy *policy = session->policy;
  struct store_sync_report report = {0};
  struct store_policy_stamp stamp = {0};
  int64_t next = TIME_UNSET;
  int result = session_look(session, &next, error);
  if (result || next != TIME_UNSET) return result;
  stamp.files = session->stamps;
  stamp.file_count = policy->file_count;
  text_copy(stamp.digest, sizeof stamp.digest, policy->digest);
  result = session->store->ops->sync(session->store, policy, &stamp, loop_wall(session->backends.loop), &report, error);
  if (result) return result;
  session->has_compiled = true;
  snprintf(session->compiled, sizeof session->compiled, "policy compiled: %zu domain%s, %zu key%s added, %zu changed, %zu no longer in it, %zu back",
           report.domains, report.domains == 1 ? "" : "s", report.added, report.added == 1 ? "" : "s", report.changed, report.unmanaged, report.returned);
  if (report.added + report.changed + report.unmanaged + report.returned > 0)
    log_write(&session->cli->log, &(struct log_event){.level = LOG_LEVEL_INFO, .kind = "policy", .reason = session->compiled});
  return 0;
}

int session_take_over(struct session *session, const char *holder, struct error *error) {
  struct store *store = session->store;
  int result = store->ops->lease(store, holder, loop_wall(session->backends.loop), error);
  return result ? result : sync_policy(session, error);
}

static int take_wave(void *context, const void *row) {
  *(struct wave *)context = *(const struct wave *)row;
  return 0;
}

static int take_count(void *context, const void *row) {
  *(int64_t *)context = *(const int64_t *)row;
  return 0;
}

/* As the next run will find it: nobody may have been at work for long. */
int session_read_wave(struct session *session, int64_t now, struct wave *ret_wave, struct error *error) {
  static const struct store_filter all;
  struct store *store = session->store;
  struct store_clock clock = {0};
  struct wave wave;
  int64_t next, lineages = 0;
  wave_begin(&wave);
  int result = store->ops->select(store, STORE_SELECT_WAVE, &all, take_wave, &wave, error);
  if (!result) result = store->ops->next_moment(store, &next, NULL, &clock, error);
  const bool away = !result && clock.credited > 0 && now >= time_add(clock.credited, WAVE_ABSENCE_SECONDS);
  if (away) result = store->ops->select(store, STORE_SELECT_COUNT, &all, take_count, &lineages, error);
  if (result) return result;
  wave_advance(&wave, now);
  if (away) (void)wave_return(&wave, clock.credited, now, lineages);
  *ret_wave = wave;
  return 0;
}

int session_request_one(struct session *session, struct store_request *request, struct error *error) {
  const char *user = getenv("SUDO_USER") ? getenv("SUDO_USER") : getenv("USER");
  char who[128];
  snprintf(who, sizeof who, "%s (pid %d)", user ? user : "uid", (int)getpid());
  if (!user) snprintf(who, sizeof who, "uid %u (pid %d)", session->dropped ? 0 : getuid(), (int)getpid());
  request->asked_at = loop_wall(session->backends.loop);
  request->asked_by = who;
  int result = session->store->ops->request(session->store, request, error);
  request->asked_by = NULL;
  if (!result) (void)session_wake(session);
  return result;
}

int session_request(struct session *session, enum store_request_kind kind, int64_t until, struct error *error) {
  const struct cli_arguments *arguments = session->cli->arguments;
  const bool whole = kind == REQUEST_RELEASE_WAVE;
  const size_t count = whole ? 1 : arguments->operand_count;
  int result = 0;
  for (size_t i = 0; i < count && !result; i++) {
    struct store_request request = {.kind = kind,
                                    .domain = (char *)(whole ? "" : arguments->operands[i]),
                                    .reason = (char *)arguments->reason,
                                    .until = until,
                                    .hold_scope = arguments->only_activation ? HOLD_ACTIVATION : HOLD_ALL};
    result = session_request_one(session, &request, error);
  }
  return result;
}

bool session_wake(const struct session *session) { return wake_send(session->state); }

struct signals {
  struct engine *engine;
  struct loop *loop;
  struct loop_source *watch;
  int descriptor;
  const struct cli *cli;
};

static void signal_arrived(void *context, unsigned events) {
  struct signals *signals = context;
  struct signalfd_siginfo info;
  (void)events;
  if (read(signals->descriptor, &info, sizeof info) != (ssize_t)sizeof info) return;
  log_write(&signals->cli->log, &(struct log_event){.level = LOG_LEVEL_NOTICE, .kind = "stop", .reason = "ending: open operations are finished first"});
  engine_stop(signals->engine);
}

/* SIGINT and SIGTERM through the loop. Without them the engine is still right: what is open is taken up at the next start. */
static int watch_signals(struct signals *signals, struct error *error) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, NULL);
  signals->descriptor = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals->descriptor < 0) return error_set(error, ERROR_SYSTEM, "cannot watch for signals");
  if (loop_watch(signals->loop, signals->descriptor, LOOP_READABLE, signal_arrived, signals, &signals->watch))
    return error_set(error, ERROR_SYSTEM, "cannot watch for signals");
  return 0;
}

int session_run_loop(struct session *session, loop_callback *begin, void *context, struct error *error) {
  struct loop *loop = session->backends.loop;
  int result = loop_defer(loop, begin, context, NULL);
  if (result) return error_set(error, result, "the event loop takes no call");
  result = loop_run(loop, error);
  return result ? result : error->code;
}

void session_fill_setup(struct session *session, struct engine_setup *setup) {
  struct cli_backends *backends = &session->backends;
  setup->loop = backends->loop;
  setup->store = session->store;
  setup->keeper = backends->keeper;
  setup->observer = backends->observer;
  setup->entropy = backends->entropy;
  setup->factory = &backends->factory;
}

int session_run_engine(struct session *session, struct engine_setup *setup, struct engine_summary *ret_summary, struct error *error) {
  struct cli_backends *backends = &session->backends;
  struct engine *engine = NULL;
  struct teller *teller = NULL;
  session_fill_setup(session, setup);
  int result = teller_new(session, setup, &teller, error);
  if (!result) result = engine_new(setup, &engine, error);
  if (result) {
    teller_free(teller);
    return result;
  }
  struct signals signals = {.engine = engine, .loop = backends->loop, .descriptor = -1, .cli = session->cli};
  result = watch_signals(&signals, error);
  if (!result) result = engine_run(engine, error);
  engine_summarise(engine, ret_summary);
  /* A signal still reaches the engine, which then stops the loop: hooks do not hold up the end. */
  teller_end(teller, ret_summary, TELLER_ENDS_MS);
  loop_cancel(backends->loop, &signals.watch);
  if (signals.descriptor >= 0) close(signals.descriptor);
  engine_free(engine);
  teller_free(teller);
  return result;
}
