#include "dkimroll/command_run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"

/* Nothing of our own environment: it may tell where credentials are, and what a program does must not depend on who started us. */
static const char *const command_environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"};

enum { STREAM_OUTPUT = 0, STREAM_ERRORS = 1, STREAMS = 2 };

/* A started program. */
struct command_child {
  pid_t pid;
  int streams[STREAMS]; /* our ends of the pipes of its stdout and stderr; -1: closed */
  int process;          /* pidfd */
  int end;              /* signalfd of COMMAND_END_SIGNAL; -1: not heeded */
  struct command_result *result;
};

static void command_child_release(struct command_child *child) {
  for (size_t i = 0; i < STREAMS; i++)
    if (child->streams[i] >= 0) close(child->streams[i]);
  if (child->process >= 0) close(child->process);
  if (child->end >= 0) close(child->end);
}

void command_result_release(struct command_result *result) {
  if (!result) return;
  buffer_release(&result->output);
  buffer_release(&result->errors);
}

/* Descriptors of the child's side, in the order of their numbers there. */
static int command_spawn_with(char *const *argv, char *const *environment, const int descriptors[3], posix_spawn_file_actions_t *files,
                              posix_spawnattr_t *attributes, pid_t *ret_pid) {
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  int failure = 0;
  for (int i = 0; i < 3 && !failure; i++) failure = posix_spawn_file_actions_adddup2(files, descriptors[i], i);
  if (!failure) failure = posix_spawn_file_actions_addclosefrom_np(files, STDERR_FILENO + 1);
  if (!failure) failure = posix_spawnattr_setpgroup(attributes, 0);
  if (!failure) failure = posix_spawnattr_setsigmask(attributes, &none);
  if (!failure) failure = posix_spawnattr_setsigdefault(attributes, &all);
  if (!failure)
    failure = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  return failure ? failure : posix_spawn(ret_pid, argv[0], files, attributes, argv, environment);
}

/* An errno. */
static int command_spawn(char *const *argv, char *const *environment, const int descriptors[3], pid_t *ret_pid) {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  int failure = posix_spawn_file_actions_init(&files);
  if (failure) return failure;
  failure = posix_spawnattr_init(&attributes);
  if (!failure) {
    failure = command_spawn_with(argv, environment, descriptors, &files, &attributes, ret_pid);
    posix_spawnattr_destroy(&attributes);
  }
  posix_spawn_file_actions_destroy(&files);
  return failure;
}

/* What the program reads: a file without a name, because a pipe would have to be filled while the program runs. */
static int command_open_input(const struct command_request *request, struct error *error) {
  if (request->input_size == 0) {
    const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return nothing >= 0 ? nothing : error_set_errno(error, errno, "%s: cannot open /dev/null", request->argv[0]);
  }
  CLEANUP_CLOSE int file = memfd_create("dkimroll-input", MFD_CLOEXEC);
  if (file < 0) return error_set_errno(error, errno, "%s: cannot make what it is to read", request->argv[0]);
  const char *octets = request->input;
  for (size_t done = 0; done < request->input_size;) {
    const ssize_t written = write(file, octets + done, request->input_size - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return error_set_errno(error, errno, "%s: cannot write what it is to read", request->argv[0]);
    done += (size_t)written;
  }
  if (lseek(file, 0, SEEK_SET) < 0) return error_set_errno(error, errno, "%s: cannot write what it is to read", request->argv[0]);
  return TAKE_FD(file);
}

/* Our end does not block. */
static int command_open_pipe(const char *name, int *ret_ours, int *ret_theirs, struct error *error) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return error_set_errno(error, errno, "%s: cannot make a pipe", name);
  *ret_ours = ends[0];
  *ret_theirs = ends[1];
  return fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0 ? error_set_errno(error, errno, "%s: cannot set up a pipe", name) : 0;
}

static int command_watch(const char *name, struct command_child *child, struct error *error) {
  child->process = pidfd_open(child->pid, 0);
  if (child->process >= 0) return 0;
  const int failure = errno;
  kill(-child->pid, SIGKILL);
  while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR) continue;
  return error_set_errno(error, failure, "%s: cannot watch it", name);
}

static int command_start(const struct command_request *request, struct command_child *child, struct error *error) {
  const char *name = request->argv[0];
  const char *environment[COMMAND_ENVIRONMENT_MAX + ARRAY_SIZE(command_environment) + 1];
  size_t count = 0;
  for (; count < ARRAY_SIZE(command_environment); count++) environment[count] = command_environment[count];
  for (size_t i = 0; request->environment && request->environment[i]; i++) {
    if (i == COMMAND_ENVIRONMENT_MAX) return error_set(error, ERROR_LIMIT, "%s: more than %d variables of environment", name, COMMAND_ENVIRONMENT_MAX);
    environment[count++] = request->environment[i];
  }
  environment[count] = NULL;
  CLEANUP_CLOSE int input = command_open_input(request, error);
  CLEANUP_CLOSE int output = -1;
  CLEANUP_CLOSE int errors = -1;
  if (input < 0) return input;
  int result = command_open_pipe(name, &child->streams[STREAM_OUTPUT], &output, error);
  if (result == 0 && !request->together) result = command_open_pipe(name, &child->streams[STREAM_ERRORS], &errors, error);
  if (result < 0) return result;
  const int failure =
      command_spawn(request->argv, (char *const *)(uintptr_t)environment, (const int[]){input, output, errors >= 0 ? errors : output}, &child->pid);
  if (failure == 0) return command_watch(name, child, error);
  result = error_set_errno(error, failure, "%s: cannot start it", name);
  error_remedy(error, "correct the command in the policy: an absolute path, and a program that dkimroll's user may run");
  return result;
}

/* Takes what is in a pipe. false: its end, or nothing at the moment. */
static bool command_read(struct command_child *child, size_t stream) {
  struct buffer *text = stream == STREAM_OUTPUT ? &child->result->output : &child->result->errors;
  char octets[4096];
  ssize_t got = read(child->streams[stream], octets, sizeof(octets));
  if (got < 0 && errno == EINTR) return true;
  if (got < 0 && errno == EAGAIN) return false;
  if (got <= 0) {
    close(TAKE_FD(child->streams[stream]));
    return false;
  }
  const size_t room = text->maximum - text->size;
  buffer_add(text, octets, (size_t)got < room ? (size_t)got : room);
  return true;
}

/* Whoever inherited the pipes may hold them open for ever; what the program itself wrote is in them by now. */
static void command_read_rest(struct command_child *child) {
  for (size_t stream = 0; stream < STREAMS; stream++)
    for (size_t i = 0; i < COMMAND_OUTPUT_MAX && child->streams[stream] >= 0 && command_read(child, stream); i++) continue;
}

/* Waits for the program's end. false: the deadline came first, or nobody waits for it any more. */
static bool command_wait(struct command_child *child, int64_t deadline) {
  enum { END = 1 + STREAMS, COUNT };
  for (;;) {
    const int64_t left = deadline - clock_boottime();
    if (left <= 0) return false;
    struct pollfd polled[COUNT] = {{.fd = child->process, .events = POLLIN}, [END] = {.fd = child->end, .events = POLLIN}};
    for (size_t i = 0; i < STREAMS; i++) polled[1 + i] = (struct pollfd){.fd = child->streams[i], .events = POLLIN};
    const int ready = poll(polled, COUNT, left > INT32_MAX ? INT32_MAX : (int)left);
    if (ready < 0 && errno != EINTR) return false;
    if (ready <= 0) continue;
    if (polled[END].revents) return false;
    for (size_t i = 0; i < STREAMS; i++)
      if (polled[1 + i].revents) command_read(child, i);
    if (!polled[0].revents) continue;
    command_read_rest(child);
    return true;
  }
}

/* Ends the whole group: politely, then for good. */
static void command_end(struct command_child *child) {
  if (child->end >= 0) close(TAKE_FD(child->end));
  kill(-child->pid, SIGTERM);
  command_wait(child, clock_boottime() + COMMAND_TERM_MS);
  kill(-child->pid, SIGKILL);
}

static int command_reap(const char *name, const struct command_child *child, bool ended, struct error *error) {
  struct command_result *result = child->result;
  int status = 0;
  while (waitpid(child->pid, &status, 0) < 0)
    if (errno != EINTR) return error_set_errno(error, errno, "%s: cannot wait for it", name);
  result->end = !ended ? COMMAND_TIMED_OUT : (WIFEXITED(status) ? COMMAND_EXITED : COMMAND_SIGNALLED);
  if (ended) result->status = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
  return 0;
}

static int command_check_path(char *const *argv, struct error *error) {
  if (argv[0] && argv[0][0] == '/') return 0;
  error_set(error, ERROR_CONFIG, "the command \"%s\" has no absolute path", argv[0] ? argv[0] : "");
  error_remedy(error, "write the full path, as `command -v %s` prints it", argv[0] ? argv[0] : "NAME");
  return ERROR_CONFIG;
}

int command_probe(char *const *argv, struct error *error) {
  const int result = command_check_path(argv, error);
  if (result < 0) return result;
  return access(argv[0], X_OK) == 0 ? 0 : error_set_errno(error, errno, "%s: cannot be run", argv[0]);
}

static int command_run_watched(const struct command_request *request, const sigset_t *end, struct command_result *ret_result, struct error *error) {
  const size_t kept = request->output_max ? request->output_max : COMMAND_OUTPUT_MAX;
  CLEANUP(command_result_release)
  struct command_result taken = {.output = BUFFER_WITH_MAXIMUM(kept), .errors = BUFFER_WITH_MAXIMUM(kept)};
  CLEANUP(command_child_release)
  struct command_child child = {.streams = {-1, -1}, .process = -1, .end = signalfd(-1, end, SFD_CLOEXEC | SFD_NONBLOCK), .result = &taken};
  int result = command_check_path(request->argv, error);
  if (result == 0) result = command_start(request, &child, error);
  if (result < 0) return result;
  const bool ended = command_wait(&child, request->deadline);
  if (!ended) command_end(&child);
  result = command_reap(request->argv[0], &child, ended, error);
  if (result < 0) return result;
  *ret_result = taken;
  taken = (struct command_result){.end = COMMAND_EXITED};
  return 0;
}

/* A signal that came meanwhile is not taken from its descriptor, so it takes effect as soon as it is let through. */
int command_run(const struct command_request *request, struct command_result *ret_result, struct error *error) {
  sigset_t end, before;
  sigemptyset(&end);
  sigaddset(&end, COMMAND_END_SIGNAL);
  sigprocmask(SIG_BLOCK, &end, &before);
  const int result = command_run_watched(request, &end, ret_result, error);
  sigprocmask(SIG_SETMASK, &before, NULL);
  return result;
}
