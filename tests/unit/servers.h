/* Real name servers for tests: named and knotd in the foreground on loopback, in a folder of their own, ready when they answer for a zone.
 *
 *   static const struct server_setup setup = {
 *       .kind = SERVER_NAMED,
 *       .config = "zone \"example.com\" { type primary; file \"example.com.zone\"; allow-update { any; }; };\n",
 *       .files = {{"example.com.zone", "..."}},
 *       .zone = "example.com",
 *   };
 *   struct server server;
 *   server_start(&server, &setup);   server.text is "127.0.0.1:40123"
 *   server_stop(&server);
 *
 * A server that does not become ready fails the test and prints its log. It dies with the test's process, however that ends. */
#ifndef DKIMROLL_TESTS_SERVERS_H
#define DKIMROLL_TESTS_SERVERS_H

#include <stdbool.h>
#include <stdint.h>
#include <netinet/in.h>
#include <sys/types.h>

#include "dkimroll/transport.h"
#include "workplace.h"

enum { SERVER_FILES_MAX = 8, SERVER_READY_MS = 20000, SERVER_STOP_MS = 10000 };

enum server_kind { SERVER_NAMED = 1, SERVER_KNOTD = 2 };

struct server_file {
  const char *name; /* in the server's folder, which is also its working directory */
  const char *text; /* borrowed */
};

/* In config, options and the texts of files "@FOLDER@", "@ADDRESS@" and "@PORT@" are replaced. */
struct server_setup {
  enum server_kind kind;
  const char *config; /* keys, ACLs, zones; listening, folders and logging are set already */
  const char
      *options; /* NULL: none. named: more statements in options {}; knotd: more lines (of 4 spaces) under server: */
  struct server_file files[SERVER_FILES_MAX]; /* ends at the first without a name */
  const char *zone;                           /* ready when its SOA is answered */
  const char *address;                        /* of loopback; NULL: 127.0.0.1 */
  uint16_t port;                              /* 0: a free one */
};

struct server {
  pid_t pid;
  char address[INET6_ADDRSTRLEN];
  uint16_t port;
  char text[ADDRESS_TEXT_SIZE]; /* address:port */
  struct workplace folder;      /* "log" in it is what the server said */
};

void server_start(struct server *server, const struct server_setup *setup);
/* Ends it and removes its folder. A server that was not started is fine. */
void server_stop(struct server *server);
/* Shows what the server said, to understand a failure. */
void server_print_log(const struct server *server);
/* Is text in the log? */
bool server_logged(const struct server *server, const char *text);
/* A port of address that is free for UDP and TCP at this moment. */
uint16_t server_free_port(const char *address);

#endif
