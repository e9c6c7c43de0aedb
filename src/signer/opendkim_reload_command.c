#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/opendkim_reload.h"
#include "dkimroll/text.h"

enum { COMMAND_OUTPUT_SHOWN = 600 }; /* octets of output that fit into an error beside the rest */

/* A started command. */
struct reload_child {
  pid_t pid;
  int output;  /* read end of the pipe for its stdout and stderr */
  int process; /* pidfd */
  struct buffer text;
};

static void reload_child_release(struct reload_child *child) {
  if (child->output >= 0) close(child->output);
  if (child->process >= 0) close(child->process);
  buffer_release(&child->text);
}

static int reload_command_spawn(char *const *command, int output, pid_t *ret_pid) {
  /* Nothing of our own environment: it may hold credentials' places, and the command's result must not depend on it. */
  static char *const environment[] = {(char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                      (char *)"LANG=C.UTF-8", NULL};
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  int failure = posix_spawn_file_actions_init(&files);
  if (failure) return failure;
  failure = posix_spawnattr_init(&attributes);
  if (failure) {
    posix_spawn_file_actions_destroy(&files);
    return failure;
  }
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  failure = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  if (!failure) failure = posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
  if (!failure) failure = posix_spawn_file_actions_adddup2(&files, output, STDERR_FILENO);
  if (!failure) failure = posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
  if (!failure) failure = posix_spawnattr_setpgroup(&attributes, 0);
  if (!failure) failure = posix_spawnattr_setsigmask(&attributes, &none);
  if (!failure) failure = posix_spawnattr_setsigdefault(&attributes, &all);
  if (!failure)
    failure =
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  if (!failure) failure = posix_spawn(ret_pid, command[0], &files, &attributes, command, environment);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return failure;
}

static int reload_command_start(char *const *command, struct reload_child *child, struct error *error) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return error_set_errno(error, errno, "%s: cannot make a pipe", command[0]);
  child->output = ends[0];
  int failure = fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0 ? errno : reload_command_spawn(command, ends[1], &child->pid);
  close(ends[1]);
  if (failure) {
    int result = error_set_errno(error, failure, "reload command %s: cannot start it", command[0]);
    error_remedy(
        error,
        "correct reload of the signer in the policy: an absolute path, and a program that dkimroll's user may run");
    return result;
  }
  child->process = pidfd_open(child->pid, 0);
  if (child->process >= 0) return 0;
  failure = errno;
  kill(-child->pid, SIGKILL);
  while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR) continue;
  return error_set_errno(error, failure, "reload command %s: cannot watch it", command[0]);
}

/* Takes what is in the pipe. false: its end, or nothing at the moment. */
static bool reload_command_read(struct reload_child *child) {
  char octets[4096];
  ssize_t got = read(child->output, octets, sizeof(octets));
  if (got < 0 && errno == EINTR) return true;
  if (got <= 0) {
    if (got == 0) {
      close(child->output);
      child->output = -1;
    }
    return false;
  }
  size_t room = RELOAD_OUTPUT_MAX - child->text.size;
  buffer_add(&child->text, octets, (size_t)got < room ? (size_t)got : room);
  return true;
}

/* Waits for the child's end. false: the deadline came first. */
static bool reload_command_wait(struct reload_child *child, int64_t deadline) {
  for (;;) {
    int64_t left = deadline - clock_boottime();
    if (left <= 0) return false;
    struct pollfd polled[2] = {{.fd = child->process, .events = POLLIN}, {.fd = child->output, .events = POLLIN}};
    int ready = poll(polled, 2, left > INT32_MAX ? INT32_MAX : (int)left);
    if (ready < 0 && errno != EINTR) return false;
    if (ready <= 0) continue;
    if (polled[1].revents) reload_command_read(child);
    if (!polled[0].revents) continue;
    /* Whoever inherited the pipe may hold it open for ever; what the command itself wrote is in it by now. */
    for (size_t i = 0; i < RELOAD_OUTPUT_MAX && child->output >= 0 && reload_command_read(child); i++) continue;
    return true;
  }
}

static const char *reload_command_output(const struct reload_child *child, char buffer[COMMAND_OUTPUT_SHOWN]) {
  size_t size = child->text.size;
  const char *text = child->text.data ? (const char *)child->text.data : "";
  while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == ' ')) size--;
  if (size == 0) return "no output";
  return text_printable(text, size, buffer, COMMAND_OUTPUT_SHOWN);
}

static int reload_command_judge(const char *name, const struct reload_child *child, int status, struct error *error) {
  char output[COMMAND_OUTPUT_SHOWN];
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
  if (WIFEXITED(status))
    error_set(error, ERROR_REFUSED, "reload command %s: exit status %d: %s", name, WEXITSTATUS(status),
              reload_command_output(child, output));
  else
    error_set(error, ERROR_REFUSED, "reload command %s: ended by signal %d: %s", name, WTERMSIG(status),
              reload_command_output(child, output));
  error_remedy(error, "run it by hand as the user of dkimroll's keeper, and repair what it reports");
  return ERROR_REFUSED;
}

int reload_command(char *const *command, bool probe, int64_t deadline, struct error *error) {
  const char *name = command[0];
  if (name[0] != '/') {
    error_set(error, ERROR_CONFIG, "reload command \"%s\" has no absolute path", name);
    error_remedy(error, "write the full path, as `command -v %s` prints it", name);
    return ERROR_CONFIG;
  }
  if (probe) return access(name, X_OK) == 0 ? 0 : error_set_errno(error, errno, "reload command %s", name);

  CLEANUP(reload_child_release)
  struct reload_child child = {.output = -1, .process = -1, .text = BUFFER_WITH_MAXIMUM(RELOAD_OUTPUT_MAX)};
  int result = reload_command_start(command, &child, error);
  if (result < 0) return result;
  bool ended = reload_command_wait(&child, deadline);
  if (!ended) kill(-child.pid, SIGKILL);
  int status = 0;
  while (waitpid(child.pid, &status, 0) < 0)
    if (errno != EINTR) return error_set_errno(error, errno, "reload command %s: cannot wait for it", name);
  if (ended) return reload_command_judge(name, &child, status, error);
  char output[COMMAND_OUTPUT_SHOWN];
  error_set(error, ERROR_TIMEOUT, "reload command %s: did not end in time and was killed: %s", name,
            reload_command_output(&child, output));
  error_remedy(error, "find out what it waits for, or raise reload-timeout of the signer in the policy");
  return ERROR_TIMEOUT;
}
