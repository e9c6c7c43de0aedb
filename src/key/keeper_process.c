/* The keeper's processes: how the supervisor and its workers are forked, and what they drop of what they inherit. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/command_run.h"
#include "dkimroll/keeper.h"
#include "dkimroll/keeper_supervisor.h"
#include "dkimroll/keeper_walls.h"

enum { KEEPER_PARENT_ENDED = SIGUSR2, KEEPER_FIRST_OTHER_DESCRIPTOR = 3 };

/* Keeps 0 to 2 and one more: a forgotten copy of some socket's end would keep its other side from noticing that we are gone. */
static void keeper_close_others(int kept) {
  if (kept > KEEPER_FIRST_OTHER_DESCRIPTOR) close_range(KEEPER_FIRST_OTHER_DESCRIPTOR, (unsigned)kept - 1, 0);
  close_range((unsigned)kept + 1, ~0U, 0);
}

/* Undoes handlers and masks of the caller. A Ctrl-C or a stop of the unit goes to all its processes, and must leave the keeper alive until
 * the loop side has finished in order. */
static void keeper_set_signals(void) {
  static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGUSR1};
  struct sigaction action = {.sa_handler = SIG_DFL};
  for (int number = 1; number < SIGRTMIN; number++) sigaction(number, &action, NULL);
  action.sa_handler = SIG_IGN;
  for (size_t i = 0; i < ARRAY_SIZE(ignored); i++) sigaction(ignored[i], &action, NULL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Private keys pass through the memory of these processes: no core dump, no debugger of the same user, no file that others can read. */
static void keeper_protect(const char *name) {
  const struct rlimit no_core = {0, 0};
  prctl(PR_SET_NAME, name);
  prctl(PR_SET_DUMPABLE, 0);
  setrlimit(RLIMIT_CORE, &no_core);
  umask(S_IRWXG | S_IRWXO);
}

static int keeper_worker_live(int descriptor, pid_t supervisor, const struct keeper_handlers *handlers) {
  keeper_close_others(descriptor);
  keeper_set_signals();
  keeper_protect("dkimroll-worker");
  prctl(PR_SET_PDEATHSIG, COMMAND_END_SIGNAL);
  /* It may have ended before the line above. */
  if (getppid() != supervisor) return EXIT_FAILURE;
  return keeper_worker_run(descriptor, handlers);
}

int keeper_worker_fork(const struct keeper_handlers *handlers, int *ret_descriptor, pid_t *ret_pid,
                       struct error *error) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
    return error_set_errno(error, errno, "cannot make the socket of a worker");
  }
  CLEANUP_CLOSE int ours = ends[0];
  CLEANUP_CLOSE int theirs = ends[1];
  if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0) return error_set_errno(error, errno, "cannot set up a worker's socket");
  pid_t supervisor = getpid();
  pid_t pid = fork();
  if (pid < 0) return error_set_errno(error, errno, "cannot start a worker of the keeper");
  if (pid == 0) _exit(keeper_worker_live(theirs, supervisor, handlers));
  *ret_descriptor = TAKE_FD(ours);
  *ret_pid = pid;
  return 0;
}

static unsigned keeper_count_cores(void) {
  cpu_set_t cores;
  int count = sched_getaffinity(0, sizeof(cores), &cores) == 0 ? CPU_COUNT(&cores) : 1;
  return count < KEEPER_WORKERS_MAX ? (unsigned)count : KEEPER_WORKERS_MAX;
}

/* What supervisor and workers share: nothing of the caller's descriptors and signals, and the walls. */
static void keeper_begin(int descriptor, const struct keeper_setup *setup) {
  keeper_close_others(descriptor);
  keeper_set_signals();
  keeper_protect(setup->title ? setup->title : "dkimroll-keeper");
  if (setup->walls) keeper_walls_raise(setup->walls);
}

static int keeper_supervise_for(const struct keeper_setup *setup, int descriptor, int signal_descriptor) {
  const struct keeper_supervision supervision = {
      .descriptor = descriptor,
      .signal_descriptor = signal_descriptor,
      .workers = setup->workers > 0 ? setup->workers : keeper_count_cores(),
      .patience = {.respawn_first = KEEPER_RESPAWN_FIRST, .grace = KEEPER_GRACE, .finish = KEEPER_FINISH},
      .handlers = {setup->handlers, setup->handler_count, setup->begin},
  };
  return keeper_supervise(&supervision);
}

static int keeper_supervisor_live(int descriptor, pid_t parent, const struct keeper_setup *setup) {
  keeper_begin(descriptor, setup);
  sigset_t parent_ended;
  sigemptyset(&parent_ended);
  sigaddset(&parent_ended, KEEPER_PARENT_ENDED);
  sigprocmask(SIG_BLOCK, &parent_ended, NULL);
  int signal_descriptor = signalfd(-1, &parent_ended, SFD_CLOEXEC | SFD_NONBLOCK);
  /* The end of the stream tells the same, but not while another child of our parent holds a copy of its end. */
  prctl(PR_SET_PDEATHSIG, KEEPER_PARENT_ENDED);
  if (signal_descriptor < 0 || getppid() != parent) return EXIT_FAILURE;
  return keeper_supervise_for(setup, descriptor, signal_descriptor);
}

int keeper_process_fork(const struct keeper_setup *setup, int *ret_descriptor, pid_t *ret_pid, struct error *error) {
  if (setup->workers > KEEPER_WORKERS_MAX) {
    return error_set(error, ERROR_INVALID, "%u workers are more than the %d that the keeper has room for", setup->workers,
                     KEEPER_WORKERS_MAX);
  }
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0) {
    return error_set_errno(error, errno, "cannot make the keeper's socket");
  }
  CLEANUP_CLOSE int ours = ends[0];
  CLEANUP_CLOSE int theirs = ends[1];
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid < 0) return error_set_errno(error, errno, "cannot start the keeper");
  if (pid == 0) _exit(keeper_supervisor_live(theirs, parent, setup));
  *ret_descriptor = TAKE_FD(ours);
  *ret_pid = pid;
  return 0;
}

int keeper_process_start(const struct keeper_handler *handlers, size_t handler_count, unsigned workers,
                         int *ret_descriptor, pid_t *ret_pid, struct error *error) {
  const struct keeper_setup setup = {.handlers = handlers, .handler_count = handler_count, .workers = workers};
  return keeper_process_fork(&setup, ret_descriptor, ret_pid, error);
}

int keeper_process_serve(const struct keeper_setup *setup, int descriptor) {
  keeper_begin(descriptor, setup);
  return keeper_supervise_for(setup, descriptor, -1);
}
