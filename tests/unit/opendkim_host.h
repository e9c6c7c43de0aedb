/* A real opendkim for tests: in the foreground on loopback, with its tables, keys, configuration and socket in a folder
 * of its own.
 *
 *   struct opendkim_host host;
 *   opendkim_host_make(&host, &(struct opendkim_setup){.signing_table = "*@example.com old\n", ...});   files only
 *   opendkim_host_start(&host);    host.milter is "inet:40123@127.0.0.1" or "unix:/tmp/.../socket"
 *   opendkim_host_remove(&host);   ends it and removes its folder
 *
 * It dies with the test's process, however that ends. */
#ifndef DKIMROLL_TESTS_OPENDKIM_HOST_H
#define DKIMROLL_TESTS_OPENDKIM_HOST_H

#include <stdbool.h>
#include <sys/types.h>

#include "workplace.h"

enum { OPENDKIM_HOST_READY_MS = 20000, OPENDKIM_HOST_STOP_MS = 10000 };

struct opendkim_setup {
  const char *key_table; /* content; NULL: empty. "@FOLDER@" is replaced */
  const char *signing_table;
  bool file_table;     /* SigningTable is file:, else refile: */
  bool unix_socket;    /* else a free port of 127.0.0.1, */
  bool inet6;          /*   or of ::1 */
  const char *options; /* more lines of opendkim.conf; NULL: none */
};

struct opendkim_host {
  struct workplace folder;
  pid_t pid; /* 0: not running */
  bool unix_socket, inet6;
  unsigned port;
  char milter[128];
  char *config, *key_table, *signing_table, *pid_file; /* paths */
  char *keys;                                          /* folder */
  char *options;
  bool file_table;
};

void opendkim_host_make(struct opendkim_host *host, const struct opendkim_setup *setup);
void opendkim_host_start(struct opendkim_host *host);
/* Ends it as an operator does; the files stay. */
void opendkim_host_stop(struct opendkim_host *host);
void opendkim_host_remove(struct opendkim_host *host);
/* Makes opendkim ignore (or heed again) SIGUSR1's effect: opendkim.conf becomes unreadable for it by a syntax error, or
 * is repaired. */
void opendkim_host_break_config(struct opendkim_host *host, bool broken);

/* Makes "<keys>/<domain>/<selector>.private" and returns its path; if it is not there yet; caller frees. All keys
 * of one kind are the same one, dkim_signer_key(ed25519, 0). */
char *opendkim_host_key(const struct opendkim_host *host, const char *domain, const char *selector, bool ed25519);
/* The tables' content at the moment; caller frees. */
char *opendkim_host_read(const char *path);

#endif
