/* A real opendkim for tests. Needs of the library only src/base, because it is linked into every unit test. */
#include "opendkim_host.h"

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
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"
#include "dkim_signer.h"

enum { FILE_MAX = 64 * 1024 * 1024, PAUSE_MS = 10, START_ATTEMPTS = 5 };

static unsigned free_port(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof(address);
  CLEANUP_CLOSE int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(descriptor >= 0);
  assert_int_equal(bind(descriptor, (struct sockaddr *)&address, size), 0);
  assert_int_equal(getsockname(descriptor, (struct sockaddr *)&address, &size), 0);
  return ntohs(address.sin_port);
}

static char *replace_folder(const struct opendkim_host *host, const char *text) {
  static const char word[] = "@FOLDER@";
  struct buffer buffer = BUFFER_WITH_MAXIMUM(FILE_MAX);
  for (const char *found; (found = strstr(text, word)); text = found + strlen(word)) {
    buffer_add(&buffer, text, (size_t)(found - text));
    buffer_add_text(&buffer, host->folder.path);
  }
  buffer_add_text(&buffer, text);
  char *replaced = buffer_take_text(&buffer);
  assert_non_null(replaced);
  return replaced;
}

static void write_config(const struct opendkim_host *host, bool broken) {
  CLEANUP_FREE char *socket_text =
      host->unix_socket ? text_format("local:%s/socket", host->folder.path) : text_duplicate(host->milter);
  /* Keys lie below /tmp, which OpenDKIM holds for unsafe. */
  CLEANUP_FREE char *text =
      text_format("Socket %s\nPidFile %s\nKeyTable file:%s\nSigningTable %s:%s\n"
                  "Mode s\nSyslog no\nBackground no\nRequireSafeKeys no\nUMask 002\n%s\n%s",
                  socket_text, host->pid_file, host->key_table, host->file_table ? "file" : "refile",
                  host->signing_table, host->options, broken ? "NoSuchSetting yes\n" : "");
  assert_true(socket_text && text);
  workplace_write(host->config, text, 0644);
}

void opendkim_host_break_config(struct opendkim_host *host, bool broken) {
  write_config(host, broken);
}

void opendkim_host_make(struct opendkim_host *host, const struct opendkim_setup *setup) {
  *host =
      (struct opendkim_host){.unix_socket = setup->unix_socket, .inet6 = setup->inet6, .file_table = setup->file_table};
  workplace_make(&host->folder, "/tmp");
  host->config = workplace_path(&host->folder, "opendkim.conf");
  host->key_table = workplace_path(&host->folder, "KeyTable");
  host->signing_table = workplace_path(&host->folder, "SigningTable");
  host->pid_file = workplace_path(&host->folder, "opendkim.pid");
  host->keys = workplace_path(&host->folder, "keys");
  host->options = text_duplicate(setup->options ? setup->options : "");
  assert_int_equal(mkdir(host->keys, 0755), 0);
  CLEANUP_FREE char *keys = replace_folder(host, setup->key_table ? setup->key_table : "");
  CLEANUP_FREE char *senders = replace_folder(host, setup->signing_table ? setup->signing_table : "");
  workplace_write(host->key_table, keys, 0644);
  workplace_write(host->signing_table, senders, 0644);
  if (setup->unix_socket) snprintf(host->milter, sizeof(host->milter), "unix:%s/socket", host->folder.path);
}

static bool answers(const struct opendkim_host *host) {
  struct sockaddr_un local = {.sun_family = AF_UNIX};
  struct sockaddr_in inet = {
      .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)host->port)};
  struct sockaddr_in6 inet6 = {
      .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT, .sin6_port = htons((uint16_t)host->port)};
  snprintf(local.sun_path, sizeof(local.sun_path), "%s/socket", host->folder.path);
  const int family = host->unix_socket ? AF_UNIX : host->inet6 ? AF_INET6 : AF_INET;
  CLEANUP_CLOSE int descriptor = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(descriptor >= 0);
  if (host->unix_socket) return connect(descriptor, (struct sockaddr *)&local, sizeof(local)) == 0;
  if (host->inet6) return connect(descriptor, (struct sockaddr *)&inet6, sizeof(inet6)) == 0;
  return connect(descriptor, (struct sockaddr *)&inet, sizeof(inet)) == 0;
}

static void spawn(struct opendkim_host *host) {
  pid_t parent = getpid();
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (getppid() == parent) execlp("opendkim", "opendkim", "-f", "-x", host->config, (char *)NULL);
    _exit(127);
  }
  host->pid = pid;
}

/* true: it listens. false: it ended, most likely because somebody else took the port. */
static bool wait_until_ready(struct opendkim_host *host) {
  int64_t deadline = clock_boottime() + OPENDKIM_HOST_READY_MS;
  CLEANUP_CLOSE int process = pidfd_open(host->pid, 0);
  assert_true(process >= 0);
  while (clock_boottime() < deadline) {
    struct pollfd polled = {.fd = process, .events = POLLIN};
    if (poll(&polled, 1, PAUSE_MS) > 0) {
      waitpid(host->pid, NULL, 0);
      host->pid = 0;
      return false;
    }
    if (answers(host)) return true;
  }
  fail_msg("opendkim does not listen");
  return false;
}

void opendkim_host_start(struct opendkim_host *host) {
  for (int attempt = 0; attempt < START_ATTEMPTS; attempt++) {
    if (!host->unix_socket && host->port == 0) {
      host->port = free_port();
      snprintf(host->milter, sizeof(host->milter), host->inet6 ? "inet6:%u@::1" : "inet:%u@127.0.0.1", host->port);
    }
    write_config(host, false);
    spawn(host);
    if (wait_until_ready(host)) return;
    host->port = 0;
  }
  fail_msg("opendkim does not start with %s", host->config);
}

void opendkim_host_stop(struct opendkim_host *host) {
  if (host->pid == 0) return;
  CLEANUP_CLOSE int process = pidfd_open(host->pid, 0);
  kill(host->pid, SIGTERM);
  struct pollfd polled = {.fd = process, .events = POLLIN};
  /* libmilter looks for its end every five seconds, or when somebody calls. */
  int64_t deadline = clock_boottime() + OPENDKIM_HOST_STOP_MS;
  while (poll(&polled, 1, PAUSE_MS) <= 0 && clock_boottime() < deadline) answers(host);
  if (clock_boottime() >= deadline) kill(host->pid, SIGKILL);
  waitpid(host->pid, NULL, 0);
  host->pid = 0;
}

void opendkim_host_remove(struct opendkim_host *host) {
  if (host->pid) kill(host->pid, SIGKILL);
  opendkim_host_stop(host);
  workplace_remove(&host->folder);
  free(host->config);
  free(host->key_table);
  free(host->signing_table);
  free(host->pid_file);
  free(host->keys);
  free(host->options);
  *host = (struct opendkim_host){0};
}

char *opendkim_host_key(const struct opendkim_host *host, const char *domain, const char *selector, bool ed25519) {
  static char *pem_texts[2]; /* an RSA key costs a tenth of a second */
  if (!pem_texts[ed25519]) {
    BIO *bio = BIO_new(BIO_s_mem());
    EVP_PKEY *key = dkim_signer_key(ed25519, 0);
    assert_int_equal(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), 1);
    char *text = NULL;
    long size = BIO_get_mem_data(bio, &text);
    pem_texts[ed25519] = strndup(text, (size_t)size);
    BIO_free(bio);
  }
  CLEANUP_FREE char *folder = text_format("%s/%s", host->keys, domain);
  assert_true(mkdir(folder, 0755) == 0 || errno == EEXIST);
  char *path = text_format("%s/%s.private", folder, selector);
  /* A running opendkim may be reading it. */
  if (access(path, F_OK) != 0) workplace_write(path, pem_texts[ed25519], 0600);
  return path;
}

char *opendkim_host_read(const char *path) {
  char *text = NULL;
  size_t size = 0;
  struct error error = {0};
  int result = file_read(path, FILE_MAX, &text, &size, NULL, &error);
  if (result < 0) fail_msg("%s", error.message);
  return text;
}
