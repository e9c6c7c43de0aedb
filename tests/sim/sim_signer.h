/* A model of OpenDKIM, on a virtual loop, over real tables and private key files. What it does follows what was measured (docs/architecture.md, section 12):
 *
 * - A signal to reload sets a flag; the tables are read at the next new connection. A connection keeps the tables that it began with, for all its messages.
 * - Tables that cannot be read: the reload is refused, the old ones stay, and the next start fails.
 * - Private key files are opened for each message. A file that is missing, unsafe (others may read or write it) or no key, a KeyTable entry that is missing or
 *   malformed: mail of that sender is tempfailed, that of others is not.
 *
 * It has two sides: for dkimroll it is a connector that speaks the filter's side of the milter protocol and signs for good (RFC 6376); for the mail of the
 * world, which is much more, it says who would sign, and leaves the arithmetic out. Keys that are written into KeyTable itself are not modelled. */
#ifndef DKIMROLL_TESTS_SIM_SIGNER_H
#define DKIMROLL_TESTS_SIM_SIGNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/connector.h"
#include "dkimroll/entropy.h"
#include "dkimroll/keeper.h"
#include "sim_tables.h"

enum { SIM_SIGNER_ADDRESS_SIZE = 128, SIM_SIGNER_RECORD_SIZE = 1024 };

/* What goes wrong, until the world changes it. Percentages are of the occasions named. */
struct sim_signer_faults {
  int64_t latency_ms;  /* of a connection, and of each reply */
  bool refuses;        /* nobody listens for new connections, though mail that has one is served */
  bool hangs;          /* nothing is answered any more on new connections */
  unsigned cuts;       /* the connection ends, in an orderly way or not, instead of a reply */
  unsigned loses;      /* a reply never comes */
  unsigned takes_max;  /* octets that one write takes and one read gives; 0: all */
  bool reload_fails;   /* the signal cannot be sent: the job fails */
  bool reload_is_lost; /* it is sent, and does nothing */
};

struct sim_signer {
  struct sim_tables_paths paths; /* strings borrowed; the world may change them before the next reload */
  char milter[SIM_SIGNER_ADDRESS_SIZE];
  char pid_file[SIM_SIGNER_ADDRESS_SIZE];
  struct entropy *entropy; /* of the world */
  struct sim_signer_faults faults;
  /* What follows is the model's own. */
  struct sim_tables *tables; /* in force for new connections; NULL: it is down */
  bool reload_due;
  unsigned life; /* grows whenever it ends, and with it all its connections */
  struct sim_signer_connection *connections;
  struct sim_signer_key *cache;
  uint64_t reloads, refused_reloads, connects, signatures; /* counted */
};

/* Everything else is 0. milter: as in the policy ("inet:8891@127.0.0.1"); pid_file: what a policy's reload names. It is down until it is started. */
void sim_signer_init(struct sim_signer *signer, const struct sim_tables_paths *paths, const char *milter, const char *pid_file, struct entropy *entropy);
/* Ends it, and frees what the model holds, also connections that are open. Connectors must be destroyed before. */
void sim_signer_release(struct sim_signer *signer);

/* false: it does not start, because its tables cannot be read. Of one that runs nothing changes. */
bool sim_signer_start(struct sim_signer *signer);
/* All connections end. */
void sim_signer_stop(struct sim_signer *signer);
bool sim_signer_restart(struct sim_signer *signer);
bool sim_signer_is_up(const struct sim_signer *signer);

/* The signal. probe: only whether it could be sent. ERROR_NOT_FOUND: it is down; ERROR_REFUSED: by faults.reload_fails. */
int sim_signer_reload(struct sim_signer *signer, bool probe, struct error *error);

/* The signers of a host. */
struct sim_signers {
  struct sim_signer *const *items;
  size_t count;
};
/* In place of the handler of KEEPER_RELOAD (opendkim_jobs.h): the reload reaches the signer whose pid_file the job names. signers is borrowed for ever. */
struct keeper_handler sim_signer_reload_handler(const struct sim_signers *signers);

/* ---- mail of the world ---- */

struct sim_signer_signature {
  char domain[SIM_TABLES_TEXT], selector[SIM_TABLES_TEXT];
  char record[SIM_SIGNER_RECORD_SIZE]; /* the record with which it verifies: "v=DKIM1; k=ed25519; p=..." */
};
/* The octets of p= in it. */
const char *sim_signer_public_key(const struct sim_signer_signature *signature);

enum sim_signer_verdict {
  SIM_SIGNER_SIGNED = 0,
  SIM_SIGNER_UNSIGNED = 1,   /* accepted, and nobody signs for that sender */
  SIM_SIGNER_TEMPFAILED = 2, /* the MTA keeps the message and tries again */
  SIM_SIGNER_DOWN = 3,       /* no connection, or no more: what the MTA does then is its own (Postfix: milter_default_action) */
};

/* A connection of an MTA, which stays as long as the MTA likes. It is a new one, so it makes a reload that is due happen. NULL: it is down or refuses. */
struct sim_signer_connection *sim_signer_connect(struct sim_signer *signer);
void sim_signer_disconnect(struct sim_signer_connection *connection); /* NULL is fine; its signer must not be released before */

/* A message from that address, over connection, or over a fresh one that ends with it (NULL). ret_count: signatures of a signed one, else 0. */
enum sim_signer_verdict sim_signer_sign(struct sim_signer *signer, struct sim_signer_connection *connection, const char *address,
                                        struct sim_signer_signature ret_signatures[SIM_TABLES_MATCHES_MAX], size_t *ret_count);

/* ---- dkimroll's side ---- */

/* The seam that production makes of sockets (connector.h): streams to those of signers (borrowed for ever) whose milter is connected to; to other addresses
 * nobody listens. loop: that of the process, so that a process that ends takes its connections along: destroy also ends streams that are open. */
struct connector *sim_signer_connector_new(struct loop *loop, const struct sim_signers *signers);

/* ---- between sim_signer.c and sim_filter_stream.c ---- */

/* A private key file as OpenDKIM takes it for one message; NULL: missing, unsafe or no key. Borrowed until the next call. */
struct sim_signer_key;
const struct sim_signer_key *sim_signer_open_key(struct sim_signer *signer, const char *path);
struct evp_pkey_st *sim_signer_private_key(const struct sim_signer_key *key);
/* Which tables a new connection gets; the caller holds a reference. NULL: none, it is down or refuses. */
struct sim_tables *sim_signer_accept(struct sim_signer *signer);
/* Does this occasion belong to the percentage? */
bool sim_signer_chance(struct sim_signer *signer, unsigned percent);

#endif
