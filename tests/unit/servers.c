/* Real name servers for tests. Needs of the library only src/base, because it is linked into every unit test. */
#include "servers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/text.h"

enum {
  TEXT_MAX = 64 * 1024 * 1024, /* zone files of benchmarks */
  START_ATTEMPTS = 5,          /* someone else may take the free port before the server does */
  PROBE_MS = 100,              /* wait for one answer */
  PAUSE_MS = 20,               /* between questions while nobody listens */
  DNS_HEADER_SIZE = 12,
};

static int64_t now_ms(void) {
  struct clock_reading reading;
  clock_read(&reading);
  return reading.boottime;
}

static socklen_t socket_address(const char *address, uint16_t port, struct sockaddr_storage *ret_storage) {
  struct sockaddr_in *four = (struct sockaddr_in *)ret_storage;
  struct sockaddr_in6 *six = (struct sockaddr_in6 *)ret_storage;
  memset(ret_storage, 0, sizeof *ret_storage);
  if (inet_pton(AF_INET, address, &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    return sizeof *four;
  }
  assert_int_equal(inet_pton(AF_INET6, address, &six->sin6_addr), 1);
  six->sin6_family = AF_INET6;
  six->sin6_port = htons(port);
  return sizeof *six;
}

uint16_t server_free_port(const char *address) {
  for (int attempt = 0; attempt < 100; attempt++) {
    struct sockaddr_storage storage;
    socklen_t size = socket_address(address, 0, &storage);
    CLEANUP_CLOSE int udp = socket(storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CLEANUP_CLOSE int tcp = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(udp >= 0 && tcp >= 0);
    assert_int_equal(bind(udp, (struct sockaddr *)&storage, size), 0);
    assert_int_equal(getsockname(udp, (struct sockaddr *)&storage, &size), 0);
    if (bind(tcp, (struct sockaddr *)&storage, size) == 0) return ntohs(((struct sockaddr_in *)&storage)->sin_port);
  }
  fail_msg("no port of %s is free for UDP and TCP", address);
  return 0;
}

/* text with its @WORDS@ replaced; caller frees. */
static char *expand(const struct server *server, const char *text) {
  char port[8];
  snprintf(port, sizeof port, "%u", server->port);
  const struct {
    const char *word, *value;
  } words[] = {{"@FOLDER@", server->folder.path}, {"@ADDRESS@", server->address}, {"@PORT@", port}};
  struct buffer buffer = BUFFER_WITH_MAXIMUM(TEXT_MAX);
  while (*text) {
    size_t literal = strcspn(text, "@");
    buffer_add(&buffer, text, literal);
    text += literal;
    size_t i = 0;
    while (i < ARRAY_SIZE(words) && !text_starts(text, words[i].word)) i++;
    if (i < ARRAY_SIZE(words)) {
      buffer_add_text(&buffer, words[i].value);
      text += strlen(words[i].word);
    } else if (*text) {
      buffer_add(&buffer, text++, 1);
    }
  }
  char *expanded = buffer_take_text(&buffer);
  assert_non_null(expanded);
  return expanded;
}

static void write_file(const struct server *server, const char *name, const char *text) {
  CLEANUP_FREE char *path = workplace_path(&server->folder, name);
  CLEANUP_FREE char *expanded = expand(server, text);
  workplace_write(path, expanded, 0644);
}

static const char NAMED_CONFIG[] = "options {\n"
                                   "  directory \"@FOLDER@\"; pid-file none; session-keyfile none; lock-file none;\n"
                                   "  %s port @PORT@ { @ADDRESS@; }; %s { none; };\n"
                                   "  recursion no; dnssec-validation no;\n"
                                   "  %s\n};\ncontrols { };\n%s\n";
static const char KNOTD_CONFIG[] = "server:\n"
                                   "    rundir: @FOLDER@\n    listen: @ADDRESS@@@PORT@\n"
                                   "    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n"
                                   "%s\n"
                                   "database:\n    storage: @FOLDER@\n"
                                   "log:\n  - target: stderr\n    any: info\n"
                                   "template:\n  - id: default\n    storage: @FOLDER@\n%s\n";

static void write_config(const struct server *server, const struct server_setup *setup) {
  bool six = strchr(server->address, ':');
  const char *options = setup->options ? setup->options : "";
  CLEANUP_FREE char *config = setup->kind == SERVER_NAMED
                                  ? text_format(NAMED_CONFIG, six ? "listen-on-v6" : "listen-on",
                                                six ? "listen-on" : "listen-on-v6", options, setup->config)
                                  : text_format(KNOTD_CONFIG, options, setup->config);
  assert_non_null(config);
  write_file(server, "config", config);
}

/* Between fork and exec: only calls that are safe there. */
static void exec_server(const struct server *server, enum server_kind kind, pid_t parent, int log) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  if (getppid() != parent || chdir(server->folder.path) < 0) _exit(126);
  if (dup2(log, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0) _exit(126);
  /* named's -g does not detach and logs to stderr; one worker is enough and gentle to the machine. */
  if (kind == SERVER_NAMED) execlp("named", "named", "-g", "-n", "1", "-c", "config", (char *)NULL);
  if (kind == SERVER_KNOTD) execlp("knotd", "knotd", "-c", "config", (char *)NULL);
  _exit(127);
}

static void spawn(struct server *server, enum server_kind kind) {
  CLEANUP_FREE char *path = workplace_path(&server->folder, "log");
  CLEANUP_CLOSE int log = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  assert_true(log >= 0);
  pid_t parent = getpid();
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) exec_server(server, kind, parent, log);
  server->pid = pid;
}

static bool ended(struct server *server, int timeout_ms) {
  if (server->pid == 0) return true;
  CLEANUP_CLOSE int descriptor = (int)syscall(SYS_pidfd_open, server->pid, 0);
  struct pollfd poller = {.fd = descriptor, .events = POLLIN};
  assert_true(descriptor >= 0);
  if (poll(&poller, 1, timeout_ms) <= 0) return false;
  assert_int_equal(waitpid(server->pid, NULL, 0), server->pid);
  server->pid = 0;
  return true;
}

static struct buffer soa_query(const char *zone) {
  struct buffer query = BUFFER_WITH_MAXIMUM(512);
  buffer_add(&query, "\x51\x52\0\0\0\1\0\0\0\0\0\0", DNS_HEADER_SIZE);
  while (*zone) {
    size_t length = strcspn(zone, ".");
    buffer_add_u8(&query, (uint8_t)length);
    buffer_add(&query, zone, length);
    zone += length + (zone[length] == '.');
  }
  buffer_add(&query, "\0\0\6\0\1", 5);
  assert_false(query.failed);
  return query;
}

/* Asks once; an answer with NOERROR and at least one record counts. */
static bool answers(const struct server *server, const char *zone) {
  struct sockaddr_storage storage;
  socklen_t size = socket_address(server->address, server->port, &storage);
  CLEANUP_CLOSE int descriptor = socket(storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  assert_true(descriptor >= 0);
  struct buffer query = soa_query(zone);
  bool sent = connect(descriptor, (struct sockaddr *)&storage, size) == 0 &&
              send(descriptor, query.data, query.size, 0) == (ssize_t)query.size;
  buffer_release(&query);
  struct pollfd poller = {.fd = descriptor, .events = POLLIN};
  uint8_t reply[DNS_HEADER_SIZE];
  if (!sent || poll(&poller, 1, PROBE_MS) <= 0) return false;
  if (recv(descriptor, reply, sizeof reply, MSG_TRUNC) < DNS_HEADER_SIZE) return false;
  return (reply[3] & 0xf) == 0 && (reply[6] || reply[7]);
}

static bool become_ready(struct server *server, const char *zone) {
  int64_t deadline = now_ms() + SERVER_READY_MS;
  while (now_ms() < deadline) {
    if (answers(server, zone)) return true;
    if (ended(server, PAUSE_MS)) return false;
  }
  return false;
}

void server_start(struct server *server, const struct server_setup *setup) {
  memset(server, 0, sizeof *server);
  assert_true(text_copy(server->address, sizeof server->address, setup->address ? setup->address : "127.0.0.1"));
  for (int attempt = 0; attempt < (setup->port ? 1 : START_ATTEMPTS); attempt++) {
    server->port = setup->port ? setup->port : server_free_port(server->address);
    snprintf(server->text, sizeof server->text, strchr(server->address, ':') ? "[%s]:%u" : "%s:%u", server->address,
             server->port);
    workplace_make(&server->folder, "/tmp");
    write_config(server, setup);
    for (size_t i = 0; i < SERVER_FILES_MAX && setup->files[i].name; i++)
      write_file(server, setup->files[i].name, setup->files[i].text);
    spawn(server, setup->kind);
    if (become_ready(server, setup->zone)) return;
    server_print_log(server);
    server_stop(server);
  }
  fail_msg("%s does not answer for %s", setup->kind == SERVER_NAMED ? "named" : "knotd", setup->zone);
}

void server_stop(struct server *server) {
  if (server->pid > 0) {
    kill(server->pid, SIGTERM);
    if (!ended(server, SERVER_STOP_MS)) {
      kill(server->pid, SIGKILL);
      assert_true(ended(server, SERVER_STOP_MS));
    }
  }
  workplace_remove(&server->folder);
}

/* The log as text; caller frees. NULL: there is none. */
static char *read_log(const struct server *server) {
  CLEANUP_FREE char *path = workplace_path(&server->folder, "log");
  CLEANUP_FCLOSE FILE *log = fopen(path, "re");
  if (!log) return NULL;
  struct buffer buffer = BUFFER_WITH_MAXIMUM(TEXT_MAX);
  char part[4096];
  size_t size;
  while ((size = fread(part, 1, sizeof part, log)) > 0) buffer_add(&buffer, part, size);
  return buffer_take_text(&buffer);
}

void server_print_log(const struct server *server) {
  CLEANUP_FREE char *log = read_log(server);
  print_message("%s says:\n%s\n", server->text, log ? log : "nothing");
}

bool server_logged(const struct server *server, const char *text) {
  CLEANUP_FREE char *log = read_log(server);
  return log && strstr(log, text);
}
