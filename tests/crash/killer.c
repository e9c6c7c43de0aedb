/* killer [--at NUMBER [--after]] [--calls FILE] COMMAND...
 *
 * Runs COMMAND and counts the system calls that change something, in all of its processes together. At call NUMBER it kills all of them by SIGKILL, just before
 * the call or, with --after, just after it took effect. FILE gets one line a call: number, process, name, what it was about.
 *
 * Exit status: 137 killed at NUMBER, 99 this program failed, else that of COMMAND (NUMBER was not reached). A seccomp filter stops the processes at these calls
 * only, so that the rest of COMMAND runs at its usual speed. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
  PROCESSES_MAX = 256,      /* a run has a supervisor and a worker for each core */
  CALL_SECONDS_MAX = 2,     /* a call that has not returned by then waits for a process that is stopped */
  DESCRIPTION_MAX = 512,
  STATUS_FAILED = 99,
  STATUS_KILLED = 137,
};

/* What the arguments say about a call. */
enum about { ABOUT_NOTHING, ABOUT_DESCRIPTOR, ABOUT_LOG_OR_DESCRIPTOR, ABOUT_PATH, ABOUT_PATH_AT, ABOUT_PATH_OPENED, ABOUT_PATH_OPENED_AT };

/* Calls after which something is different that outlives the process: octets in files, names, rights, what was sent to others. Not here: locks and shared memory,
 * which end with the process or are rebuilt by the next one; what only this process sees (descriptors, timers, memory). */
static const struct call {
  long number;
  const char *name;
  enum about about;
} calls[] = {
#define CALL(name, about) {SYS_##name, #name, about}
    /* Octets in files, and messages on connections that are open. Standard output and error are the log. */
    CALL(write, ABOUT_LOG_OR_DESCRIPTOR),
    CALL(writev, ABOUT_LOG_OR_DESCRIPTOR),
    CALL(pwrite64, ABOUT_DESCRIPTOR),
    CALL(pwritev, ABOUT_DESCRIPTOR),
    CALL(pwritev2, ABOUT_DESCRIPTOR),
    CALL(sendfile, ABOUT_DESCRIPTOR),
    CALL(copy_file_range, ABOUT_NOTHING),
    CALL(sendto, ABOUT_DESCRIPTOR),
    CALL(sendmsg, ABOUT_DESCRIPTOR),
    CALL(sendmmsg, ABOUT_DESCRIPTOR),
    /* The other side of a connection sees it come: OpenDKIM reads its configuration then. */
    CALL(connect, ABOUT_DESCRIPTOR),
    CALL(bind, ABOUT_DESCRIPTOR),
    /* Stable storage: what a later step relies on. */
    CALL(fsync, ABOUT_DESCRIPTOR),
    CALL(fdatasync, ABOUT_DESCRIPTOR),
    CALL(ftruncate, ABOUT_DESCRIPTOR),
    CALL(fallocate, ABOUT_DESCRIPTOR),
    CALL(truncate, ABOUT_PATH),
    /* Names. openat counts if it makes or empties the file. */
    CALL(openat, ABOUT_PATH_OPENED_AT),
    CALL(linkat, ABOUT_PATH_AT),
    CALL(symlinkat, ABOUT_PATH),
    CALL(unlinkat, ABOUT_PATH_AT),
    CALL(mkdirat, ABOUT_PATH_AT),
    CALL(mknodat, ABOUT_PATH_AT),
    CALL(renameat2, ABOUT_PATH_AT),
#ifdef SYS_renameat
    CALL(renameat, ABOUT_PATH_AT),
#endif
#ifdef SYS_open /* architectures that have the old calls */
    CALL(open, ABOUT_PATH_OPENED),
    CALL(creat, ABOUT_PATH),
    CALL(link, ABOUT_PATH),
    CALL(symlink, ABOUT_PATH),
    CALL(unlink, ABOUT_PATH),
    CALL(rename, ABOUT_PATH),
    CALL(mkdir, ABOUT_PATH),
    CALL(rmdir, ABOUT_PATH),
    CALL(mknod, ABOUT_PATH),
    CALL(chmod, ABOUT_PATH),
    CALL(chown, ABOUT_PATH),
    CALL(lchown, ABOUT_PATH),
#endif
    /* Rights and owners. */
    CALL(fchmod, ABOUT_DESCRIPTOR),
    CALL(fchmodat, ABOUT_PATH_AT),
    CALL(fchown, ABOUT_DESCRIPTOR),
    CALL(fchownat, ABOUT_PATH_AT),
    CALL(utimensat, ABOUT_NOTHING),
    CALL(setxattr, ABOUT_PATH),
    CALL(fsetxattr, ABOUT_DESCRIPTOR),
    /* Signals to others: the reload. */
    CALL(kill, ABOUT_NOTHING),
    CALL(pidfd_send_signal, ABOUT_NOTHING),
#undef CALL
};
enum { CALLS = sizeof calls / sizeof calls[0] };

struct killer {
  unsigned long at; /* 0: never */
  bool after;
  FILE *calls;
  pid_t processes[PROCESSES_MAX];
  size_t process_count;
  unsigned long count;
  pid_t first;
  int status; /* of first, when it has ended */
};

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "killer: %s: %s\n", what, strerror(errno));
  exit(STATUS_FAILED);
}

/* In the child, before it becomes COMMAND: everything passes but the calls of the table, which ask the tracer. */
static void filter_install(void) {
  struct sock_filter program[CALLS + 3];
  size_t size = 0;
  program[size++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (size_t i = 0; i < CALLS; i++)
    program[size++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i].number, (unsigned char)(CALLS - i), 0);
  program[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  program[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
  const struct sock_fprog filter = {.len = (unsigned short)size, .filter = program};
  /* Without the privilege to filter what gains privileges, give those up. */
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0) return;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) fail("the seccomp filter is refused; it takes a kernel with CONFIG_SECCOMP_FILTER");
}

static void command_start(struct killer *killer, char **command) {
  int gate[2];
  char octet = 0;
  if (pipe2(gate, O_CLOEXEC)) fail("pipe");
  killer->first = fork();
  if (killer->first < 0) fail("fork");
  if (killer->first == 0) {
    close(gate[1]);
    if (read(gate[0], &octet, 1) != 1) _exit(STATUS_FAILED);
    filter_install();
    execvp(command[0], command);
    fail(command[0]);
  }
  close(gate[0]);
  const unsigned long options =
      PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;
  if (ptrace(PTRACE_SEIZE, killer->first, 0L, options)) {
    const int failure = errno;
    kill(killer->first, SIGKILL);
    errno = failure;
    fail("ptrace is not allowed here; crash tests take root or CAP_SYS_PTRACE, and a container that permits ptrace(2) (docker: --cap-add SYS_PTRACE)");
  }
  killer->processes[killer->process_count++] = killer->first;
  if (write(gate[1], &octet, 1) != 1) fail("write");
  close(gate[1]);
}

static void process_add(struct killer *killer, pid_t pid) {
  for (size_t i = 0; i < killer->process_count; i++)
    if (killer->processes[i] == pid) return;
  if (killer->process_count == PROCESSES_MAX) {
    errno = E2BIG;
    fail("too many processes");
  }
  killer->processes[killer->process_count++] = pid;
}

static void process_gone(struct killer *killer, pid_t pid, int status) {
  if (pid == killer->first) killer->status = status;
  for (size_t i = 0; i < killer->process_count; i++)
    if (killer->processes[i] == pid) killer->processes[i--] = killer->processes[--killer->process_count];
}

/* The text at an address of the process; "?" if there is none. */
static void process_text(pid_t pid, unsigned long address, char *buffer, size_t size) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/mem", pid);
  const int descriptor = open(path, O_RDONLY | O_CLOEXEC);
  const ssize_t got = descriptor < 0 ? -1 : pread(descriptor, buffer, size - 1, (off_t)address);
  if (descriptor >= 0) close(descriptor);
  snprintf(got > 0 ? buffer + got : buffer, got > 0 ? 1 : size, "%s", got > 0 ? "" : "?");
}

static void process_descriptor(pid_t pid, int number, char *buffer, size_t size) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, number);
  const ssize_t got = readlink(path, buffer, size - 1);
  if (got >= 0)
    buffer[got] = '\0';
  else
    snprintf(buffer, size, "descriptor %d", number);
}

static bool opening_changes(int flags) { return (flags & (O_CREAT | O_TRUNC)) != 0; }

/* Does the call change something? With what it is about, for the list. */
static bool call_counts(const struct call *call, pid_t pid, const unsigned long long *arguments, char *about, size_t size) {
  about[0] = '\0';
  switch (call->about) {
    case ABOUT_NOTHING: return true;
    case ABOUT_LOG_OR_DESCRIPTOR:
      if (arguments[0] == STDOUT_FILENO || arguments[0] == STDERR_FILENO) return false;
      process_descriptor(pid, (int)arguments[0], about, size);
      return true;
    case ABOUT_DESCRIPTOR: process_descriptor(pid, (int)arguments[0], about, size); return true;
    case ABOUT_PATH: process_text(pid, arguments[0], about, size); return true;
    case ABOUT_PATH_AT: process_text(pid, arguments[1], about, size); return true;
    case ABOUT_PATH_OPENED: process_text(pid, arguments[0], about, size); return opening_changes((int)arguments[1]);
    case ABOUT_PATH_OPENED_AT: process_text(pid, arguments[1], about, size); return opening_changes((int)arguments[2]);
  }
  return true;
}

static void time_is_up(int number) { (void)number; }

/* Lets the call happen and returns when it has; not later than the timer allows. */
static void call_complete(pid_t pid) {
  const struct itimerval limit = {.it_value.tv_sec = CALL_SECONDS_MAX};
  const struct sigaction action = {.sa_handler = time_is_up};
  int status;
  if (sigaction(SIGALRM, &action, NULL) || setitimer(ITIMER_REAL, &limit, NULL)) fail("timer");
  if (ptrace(PTRACE_SYSCALL, pid, 0L, 0L)) return;
  if (waitpid(pid, &status, __WALL) < 0 && errno != EINTR) fail("waitpid");
}

static _Noreturn void kill_all(struct killer *killer) {
  for (size_t i = 0; i < killer->process_count; i++) kill(killer->processes[i], SIGKILL);
  /* All of them have to be gone, with their locks, before anybody starts again; those that were forked just now are ended by PTRACE_O_EXITKILL. */
  for (;;) {
    int status;
    const pid_t pid = waitpid(-1, &status, __WALL);
    if (pid < 0 && errno == EINTR) continue;
    if (pid < 0) break;
    if (WIFSTOPPED(status)) kill(pid, SIGKILL);
  }
  if (killer->calls) fclose(killer->calls);
  exit(STATUS_KILLED);
}

static void call_stopped(struct killer *killer, pid_t pid) {
  struct __ptrace_syscall_info info;
  char about[DESCRIPTION_MAX];
  if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) <= 0) return;
  const struct call *call = NULL;
  for (size_t i = 0; i < CALLS && !call; i++)
    if ((unsigned long long)calls[i].number == info.seccomp.nr) call = &calls[i];
  const unsigned long long arguments[] = {info.seccomp.args[0], info.seccomp.args[1], info.seccomp.args[2]};
  if (!call || !call_counts(call, pid, arguments, about, sizeof about)) return;
  killer->count++;
  if (killer->calls) fprintf(killer->calls, "%lu %d %s %s\n", killer->count, pid, call->name, about);
  if (killer->count != killer->at) return;
  if (killer->after) call_complete(pid);
  kill_all(killer);
}

/* One report of the kernel about one process. */
static void process_report(struct killer *killer, pid_t pid, int status) {
  if (!WIFSTOPPED(status)) {
    process_gone(killer, pid, status);
    return;
  }
  process_add(killer, pid);
  const int event = status >> 16, number = WSTOPSIG(status);
  if (event == PTRACE_EVENT_SECCOMP) call_stopped(killer, pid);
  /* A process that was told to stop stays stopped; everything else goes on, with the signal that was sent. */
  if (event == PTRACE_EVENT_STOP && number != SIGTRAP)
    ptrace(PTRACE_LISTEN, pid, 0L, 0L);
  else
    ptrace(PTRACE_CONT, pid, 0L, event || number == (SIGTRAP | 0x80) ? 0L : (long)number);
}

static char **options_read(struct killer *killer, char **arguments) {
  for (; *arguments && arguments[0][0] == '-'; arguments++) {
    if (strcmp(*arguments, "--after") == 0) {
      killer->after = true;
    } else if (strcmp(*arguments, "--at") == 0 && arguments[1]) {
      killer->at = strtoul(*++arguments, NULL, 10);
    } else if (strcmp(*arguments, "--calls") == 0 && arguments[1]) {
      killer->calls = fopen(*++arguments, "we");
      if (!killer->calls) fail(*arguments);
    } else {
      break;
    }
  }
  return arguments;
}

int main(int argc, char **argv) {
  static struct killer killer;
  char **command = options_read(&killer, argv + (argc > 0));
  if (!*command || command[0][0] == '-') {
    fputs("usage: killer [--at NUMBER [--after]] [--calls FILE] COMMAND...\n", stderr);
    return STATUS_FAILED;
  }
  /* Processes whose parent has died are waited for here. */
  if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) fail("prctl");
  command_start(&killer, command);
  for (;;) {
    int status;
    const pid_t pid = waitpid(-1, &status, __WALL);
    if (pid < 0 && errno == ECHILD) break;
    if (pid < 0) fail("waitpid");
    process_report(&killer, pid, status);
  }
  if (killer.calls) fclose(killer.calls);
  return WIFEXITED(killer.status) ? WEXITSTATUS(killer.status) : STATUS_FAILED;
}
