/* A daemon at a desk: its head and its lives are real processes over a real policy and store, and all else is not there: a keeper that answers for its walls, no servers, tables
 * that nobody can look at, and nothing due. A life has a virtual clock, so that what it says after half a second is said at once. In a header, as cli_desk.h is. */
#ifndef DKIMROLL_TESTS_DAEMON_DESK_H
#define DKIMROLL_TESTS_DAEMON_DESK_H

#include "cli_desk.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "dkimroll/daemon.h"
#include "dkimroll/wake.h"

enum { DAEMON_DESK_SECONDS = 20 }; /* until another process is given up: far more than anything takes */

/* The keeper's first word. */
struct daemon_desk_word {
  keeper_done *done;
  void *context;
};

struct daemon_desk {
  struct desk desk;
  struct cli cli;
  struct keeper keeper;
  struct daemon_desk_word word;
  struct loop *loop; /* of the life in this process */
  char *complaint;   /* what cli.err got */
  size_t complaint_size;
};

static struct daemon_desk *daemon_desk_under_way; /* the wiring has no context */

static inline void daemon_desk_answer(void *context) {
  const struct daemon_desk_word *word = context;
  const struct error fine = {0};
  word->done(word->context, &fine, NULL, 0);
}

static inline int daemon_desk_submit(struct keeper *keeper, enum keeper_job job, const struct buffer *payload, int64_t deadline, keeper_done *done, void *context,
                                     struct error *error) {
  (void)keeper, (void)payload, (void)deadline, (void)error;
  assert_int_equal(job, KEEPER_WALLS);
  daemon_desk_under_way->word = (struct daemon_desk_word){done, context};
  return loop_defer(daemon_desk_under_way->loop, daemon_desk_answer, &daemon_desk_under_way->word, NULL);
}
static const struct keeper_ops DAEMON_DESK_KEEPER = {.submit = daemon_desk_submit};

static inline int daemon_desk_start_keeper(const struct policy *policy, const struct policy_signer *const *signers, size_t count, int *ret_descriptor, pid_t *ret_pid,
                                           struct error *error) {
  (void)policy, (void)signers, (void)count, (void)error;
  *ret_descriptor = open("/dev/null", O_RDWR | O_CLOEXEC);
  *ret_pid = 0;
  assert_true(*ret_descriptor >= 0);
  return 0;
}

static inline void daemon_desk_destroy_signer(struct signer *signer) { (void)signer; }
static inline int daemon_desk_make_signer(void *context, const struct policy_signer *policy, struct signer **ret_signer, struct error *error) {
  static const struct signer_ops ops = {.destroy = daemon_desk_destroy_signer};
  static struct signer signer = {&ops};
  (void)context, (void)policy, (void)error;
  *ret_signer = &signer;
  return 0;
}

static inline int daemon_desk_make_backends(int descriptor, pid_t pid, struct cli_backends *ret_backends, struct error *error) {
  struct daemon_desk *daemon = daemon_desk_under_way;
  struct clock_reading start;
  (void)pid;
  close(descriptor);
  *ret_backends = (struct cli_backends){.entropy = &entropy_system, .keeper = &daemon->keeper, .factory = {.make_signer = daemon_desk_make_signer}};
  clock_read(&start);
  const int result = loop_virtual_new(&start, &ret_backends->loop, error);
  if (result) return result;
  loop_virtual_set_patience(ret_backends->loop, 5);
  daemon->loop = ret_backends->loop;
  return 0;
}

static inline void daemon_desk_release_backends(struct cli_backends *backends) { loop_destroy(backends->loop); }

static inline void daemon_desk_wait_long(struct lineage *lineage, const struct desk *desk, void *context) {
  desk_live(lineage, desk, context);
  lineage->next_moment = desk->now + 1000 * (int64_t)DAY;
}

static inline void daemon_desk_make(struct daemon_desk *daemon, const char *domains) {
  *daemon = (struct daemon_desk){.keeper = {&DAEMON_DESK_KEEPER}};
  daemon_desk_under_way = daemon;
  desk_make(&daemon->desk, domains);
  CLEANUP_FREE char *metrics = workplace_path(&daemon->desk.folder, "dkimroll.prom");
  CLEANUP_FREE char *text = text_format("%smetrics: {file: %s}\n", domains, metrics);
  desk_write_policy(&daemon->desk, text);
  desk_sync(&daemon->desk);
  desk_edit(&daemon->desk, NULL, NULL, daemon_desk_wait_long, NULL);
  daemon->desk.wiring.start_keeper = daemon_desk_start_keeper;
  daemon->desk.wiring.make_backends = daemon_desk_make_backends;
  daemon->desk.wiring.release_backends = daemon_desk_release_backends;
  daemon->desk.arguments.policy = daemon->desk.policy;
  daemon->cli = (struct cli){.wiring = &daemon->desk.wiring, .arguments = &daemon->desk.arguments, .log = {.maximum = LOG_LEVEL_ERROR}, .out = stdout};
}

static inline void daemon_desk_remove(struct daemon_desk *daemon) {
  desk_remove(&daemon->desk);
  free(daemon->complaint);
}

/* ---- the head ---- */

/* The socket of a service manager; caller closes. */
static inline int daemon_desk_listen(const struct daemon_desk *daemon) {
  CLEANUP_FREE char *path = workplace_path(&daemon->desk.folder, "notify");
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  assert_true(text_copy(address.sun_path, sizeof address.sun_path, path));
  (void)!unlink(path);
  const int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(descriptor, (const struct sockaddr *)&address, sizeof address), 0);
  assert_int_equal(setenv("NOTIFY_SOCKET", path, 1), 0);
  return descriptor;
}

/* The service manager, in a process of its own: each time that the daemon is ready, the next of these signals. Its exit status is 0 if it could send all. */
static inline _Noreturn void daemon_desk_manage(int notifications, pid_t head, const int *signals, size_t count) {
  const int64_t until = clock_boottime() + DAEMON_DESK_SECONDS * 1000;
  char text[4096];
  size_t sent = 0;
  while (sent < count && clock_boottime() < until) {
    struct pollfd polled = {.fd = notifications, .events = POLLIN};
    const ssize_t size = poll(&polled, 1, 100) == 1 ? recv(notifications, text, sizeof text - 1, MSG_DONTWAIT) : 0;
    if (size <= 0) continue;
    text[size] = '\0';
    if (strstr(text, "READY=1")) kill(head, signals[sent++]);
  }
  if (sent < count) kill(head, SIGTERM);
  _exit(sent == count ? 0 : 1);
}

/* Signals that came when nobody waited for them any more. The head blocks them. */
static inline void daemon_desk_forget_signals(void) {
  static const struct timespec at_once;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGHUP);
  sigaddset(&set, SIGCHLD);
  while (sigtimedwait(&set, NULL, &at_once) > 0) continue;
}

/* Runs the daemon under a manager that sends these signals, each when it is ready. Returns its exit status. Fails the test if it ended before it was told to, or left a process
 * behind. disarm (NULL: nothing) is called in the manager first. */
static inline int daemon_desk_run(struct daemon_desk *daemon, const int *signals, size_t count, void (*disarm)(void)) {
  int status = 0;
  const int notifications = daemon_desk_listen(daemon);
  const pid_t head = getpid(), manager = fork();
  assert_true(manager >= 0);
  if (manager == 0) {
    if (disarm) disarm();
    daemon_desk_manage(notifications, head, signals, count);
  }
  free(daemon->complaint);
  daemon->complaint = NULL;
  daemon->cli.err = open_memstream(&daemon->complaint, &daemon->complaint_size);
  const int code = cli_command_daemon(&daemon->cli);
  fclose(daemon->cli.err);
  close(notifications);
  unsetenv("NOTIFY_SOCKET");
  if (code) kill(manager, SIGKILL);
  assert_int_equal(waitpid(manager, &status, 0), manager);
  daemon_desk_forget_signals();
  if (!code && (!WIFEXITED(status) || WEXITSTATUS(status))) fail_msg("it ended before it was told to, or was not ready in time");
  if (waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD) fail_msg("it left a process behind");
  return code;
}

#endif
