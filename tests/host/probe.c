/* Tries what a process must not be able to do, and tells how it went: run in the place of dkimroll in its units. Each argument is an expectation, "-" (must be
 * refused) or "+" (must be possible, so that a refusal elsewhere says something), and a deed. Exit status: how many went against it. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Each returns 0 if it could be done, else -1 with errno. */

static int probe_read(const char *path) {
  char octet;
  const int descriptor = open(path, O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return -1;
  const ssize_t got = read(descriptor, &octet, 1);
  close(descriptor);
  return got < 0 && errno != EISDIR ? -1 : 0;
}

static int probe_list(const char *path) {
  const int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return -1;
  char entries[4096];
  const long got = syscall(SYS_getdents64, descriptor, entries, sizeof entries);
  close(descriptor);
  /* "." and ".." alone are what an inaccessible or empty stand-in shows. */
  if (got > 0 && got <= 48) {
    errno = ENOENT;
    return -1;
  }
  return got < 0 ? -1 : 0;
}

static int probe_make(const char *path) {
  const int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (descriptor < 0) return -1;
  close(descriptor);
  unlink(path);
  return 0;
}

/* Of a file that is there; nothing is written. */
static int probe_write(const char *path) {
  const int descriptor = open(path, O_WRONLY | O_CLOEXEC);
  if (descriptor < 0) return -1;
  close(descriptor);
  return 0;
}

static int probe_socket(const char *family) {
  static const struct {
    const char *name;
    int family, type;
  } rows[] = {{"inet", AF_INET, SOCK_STREAM}, {"inet6", AF_INET6, SOCK_STREAM}, {"netlink", AF_NETLINK, SOCK_RAW},
              {"packet", AF_PACKET, SOCK_RAW}, {"raw", AF_INET, SOCK_RAW},       {"vsock", AF_VSOCK, SOCK_STREAM}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    if (strcmp(rows[i].name, family) != 0) continue;
    const int descriptor = socket(rows[i].family, rows[i].type | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return -1;
    close(descriptor);
    return 0;
  }
  errno = EINVAL;
  return -1;
}

static int connect_to(const struct sockaddr *address, socklen_t size) {
  const int descriptor = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return -1;
  const int result = connect(descriptor, address, size);
  const int failure = errno;
  close(descriptor);
  errno = failure;
  return result;
}

/* A TCP connection to the name server of the host. */
static int probe_connect(const char *port) {
  const struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  return connect_to((const struct sockaddr *)&address, sizeof address);
}

static int probe_unix(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  return connect_to((const struct sockaddr *)&address, sizeof address);
}

/* Signal 0: only whether it would be allowed. */
static int probe_signal(const char *pid) { return kill((pid_t)strtol(pid, NULL, 10), 0); }

static int probe_trace(const char *pid) {
  const pid_t process = (pid_t)strtol(pid, NULL, 10);
  if (ptrace(PTRACE_SEIZE, process, NULL, NULL) < 0) return -1;
  ptrace(PTRACE_DETACH, process, NULL, NULL);
  return 0;
}

static int probe_memory(const char *pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%s/mem", pid);
  return probe_read(path) < 0 && errno != EIO ? -1 : 0;
}

static int probe_root(const char *unused) {
  (void)unused;
  return geteuid() == 0 ? (errno = EEXIST, -1) : setresuid(0, 0, 0);
}

/* Runs a set-user-id program that succeeds only if it made a root of its caller ("gained" below). */
static int probe_gain(const char *program) {
  int status = 0;
  const pid_t child = fork();
  if (child == 0) {
    execl(program, program, "gained", (char *)NULL);
    _exit(1);
  }
  if (waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
  errno = EPERM;
  return -1;
}

/* Not a deed but a fact: whether there is that wall at all (ABI 2 or later). */
static int probe_landlock(const char *unused) {
  (void)unused;
  return syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* LANDLOCK_CREATE_RULESET_VERSION */) >= 2 ? 0 : -1;
}

static int probe_call(const char *name) {
  const struct timespec now = {.tv_sec = time(NULL)};
  if (strcmp(name, "module") == 0) {
    /* An image that is none: ENOEXEC is the answer of a kernel that would have taken a good one. */
    if (syscall(SYS_init_module, "none", 4UL, "") == 0 || errno == ENOEXEC) return 0;
    return -1;
  }
  if (strcmp(name, "mount") == 0) return mount("none", "/mnt", "tmpfs", 0, NULL);
  if (strcmp(name, "clock") == 0) return clock_settime(CLOCK_REALTIME, &now);
  if (strcmp(name, "hostname") == 0) return sethostname("sandbox", 7);
  if (strcmp(name, "namespace") == 0) return unshare(CLONE_NEWUSER);
  if (strcmp(name, "device") == 0) return mknod("/tmp/probe-device", S_IFCHR | 0600, 0x103) < 0 ? -1 : unlink("/tmp/probe-device");
  if (strcmp(name, "uring") == 0) {
    char parameters[256] = {0};
    const long descriptor = syscall(SYS_io_uring_setup, 1, parameters);
    if (descriptor >= 0) close((int)descriptor);
    return descriptor < 0 ? -1 : 0;
  }
  if (strcmp(name, "executable-memory") == 0) {
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? -1 : munmap(memory, 4096);
  }
  errno = EINVAL;
  return -1;
}

static const struct {
  const char *name;
  int (*run)(const char *operand);
} deeds[] = {{"read", probe_read},       {"list", probe_list},   {"make", probe_make},     {"write", probe_write},
             {"socket", probe_socket},   {"connect", probe_connect}, {"unix", probe_unix}, {"signal", probe_signal},
             {"trace", probe_trace},     {"memory", probe_memory}, {"root", probe_root},   {"gain", probe_gain},
             {"call", probe_call},       {"landlock", probe_landlock}};

static int probe(const char *argument) {
  const char *name = argument + 1;
  const size_t length = strcspn(name, ":");
  const char *operand = name[length] == ':' ? name + length + 1 : "";
  for (size_t i = 0; i < sizeof deeds / sizeof deeds[0]; i++) {
    if (strlen(deeds[i].name) != length || strncmp(deeds[i].name, name, length) != 0) continue;
    errno = 0;
    const int result = deeds[i].run(operand);
    const int as_expected = (result == 0) == (argument[0] == '+');
    printf("%s %s: %s%s\n", as_expected ? "ok" : "WRONG", name, result == 0 ? "possible" : "refused: ", result == 0 ? "" : strerror(errno));
    return !as_expected;
  }
  printf("WRONG %s: no such deed\n", argument);
  return 1;
}

int main(int argc, char **argv) {
  int wrong = 0;
  if (argc == 2 && strcmp(argv[1], "gained") == 0) return geteuid() == 0 ? 0 : 1;
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (int i = 1; i < argc; i++) wrong += probe(argv[i]);
  return wrong;
}
