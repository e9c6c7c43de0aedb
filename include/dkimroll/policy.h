/* The policy: what the YAML file says, checked and with every default filled in. Grammar: dkimroll-policy(5). */
#ifndef DKIMROLL_POLICY_H
#define DKIMROLL_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "dkimroll/buffer.h"
#include "dkimroll/error.h"

enum {
  POLICY_FILE_MAX = 256 * 1024 * 1024, /* a million domains are about 100 MiB */
  POLICY_ERRORS_MAX = 100,             /* more of them would bury the first, which is often the cause of the rest */
  POLICY_SLOTS_MAX = 8,                /* keys of one domain */
  POLICY_SIGNERS_MAX = 8,              /* signers of one domain */
  POLICY_SERVERS_MAX = 64,             /* servers of one publisher */
  POLICY_SENDERS_MAX = 64,             /* sender patterns of one domain */
  POLICY_DOMAINS_MAX = 2000000,
};

enum key_algorithm { KEY_ALGORITHM_RSA = 1, KEY_ALGORITHM_ED25519 = 2 };
enum private_key_end { PRIVATE_KEY_DESTROY = 1, PRIVATE_KEY_ARCHIVE = 2 };
enum publisher_type { PUBLISHER_RFC2136 = 1 };
enum signer_type { SIGNER_OPENDKIM = 1 };
enum signing_table_format { SIGNING_TABLE_REFILE = 1, SIGNING_TABLE_FILE = 2 };
enum reload_kind { RELOAD_NONE = 0, RELOAD_UNIT = 1, RELOAD_PID_FILE = 2, RELOAD_COMMAND = 3 };

struct policy_place {
  unsigned line; /* from 1 */
  unsigned column;
};

/* One slot under keys:. */
struct policy_key {
  char *slot;
  enum key_algorithm algorithm;
  unsigned bits;  /* RSA: 2048, 3072, 4096; Ed25519: 256 */
  char *selector; /* strftime template of its own, or the policy's */
};

/* One named entry under policies:. All durations in seconds. */
struct policy_rules {
  char *name;
  struct policy_key *keys;
  size_t key_count;
  int64_t rotate_every; /* TIME_NEVER: only on demand */
  unsigned standby;
  uint32_t publish_ttl;
  int64_t publish_safety; /* Spub */
  unsigned confirm_sightings;
  int64_t confirm_every;
  int64_t confirm_warn_after;
  int64_t queue_lifetime; /* retire: */
  int64_t queue_backoff;
  int64_t drain;
  int64_t verify_window; /* Dver */
  int64_t retire_safety; /* Sret */
  int64_t tombstone;
  enum private_key_end private_key;
  char *archive_directory; /* only with PRIVATE_KEY_ARCHIVE */
};

/* One entry under publishers:. Server texts are "192.0.2.53", "192.0.2.53:5300", "[2001:db8::53]:5300". */
struct policy_publisher {
  char *name;
  enum publisher_type type;
  char *server;    /* primary that takes updates; NULL: the zone's MNAME */
  char *zone;      /* explicit zone for all its domains; NULL: discovered for each name */
  char *tsig_file; /* path or "credential:NAME"; NULL: unsigned updates */
  char **servers;  /* the authoritative servers to ask, instead of the discovered ones */
  size_t server_count;
  char **ignore_servers; /* host names or addresses to leave out of the confirmation */
  size_t ignore_server_count;
  char **resolvers; /* for SOA, NS and addresses of name servers; none: /etc/resolv.conf */
  size_t resolver_count;
};

/* One entry under signers:. */
struct policy_signer {
  char *name;
  enum signer_type type;
  char *key_table;
  enum signing_table_format signing_table_format;
  char *signing_table;
  char *key_directory; /* template with %d */
  char *key_name;      /* template with %s and %d, or only %d (stable name) */
  char *owner;         /* "user:group" of private key files */
  mode_t mode;         /* of private key files, default 0600 */
  enum reload_kind reload;
  char *reload_target; /* unit name or path of the pid file */
  char **reload_command;
  size_t reload_command_count;
  int64_t reload_timeout; /* seconds */
  char *milter;           /* "inet:8891@127.0.0.1", "inet6:8891@::1", "unix:/run/opendkim/opendkim.sock", "local:..." */
};

/* One domain, with references by name. */
struct policy_domain {
  char *name; /* lower case, without a final dot */
  struct policy_place place;
  size_t rules;                       /* index into policy.rules */
  size_t publisher;                   /* index into policy.publishers */
  size_t signers[POLICY_SIGNERS_MAX]; /* indexes into policy.signers */
  size_t signer_count;
  char *zone; /* explicit; NULL: the publisher's, or discovered */
  char **senders; /* NULL with count 0: the default, "*@DOMAIN" */
  size_t sender_count;
};

struct policy {
  char *path;
  char *state; /* path of the store */
  struct policy_rules *rules;
  size_t rules_count;
  struct policy_publisher *publishers;
  size_t publisher_count;
  struct policy_signer *signers;
  size_t signer_count;
  struct policy_domain *domains; /* sorted by name */
  size_t domain_count;
  char **files; /* every file that was read: the policy and its domains-from, for the "unchanged" test */
  size_t file_count;
  char digest[65]; /* SHA-256 of the octets of all files in that order, hexadecimal */
};

/* One finding: "file:line:column: what, and what would be right". */
struct policy_finding {
  char *file;
  struct policy_place place;
  char *message;
};

/* All findings of one reading. Caller frees with policy_findings_release. */
struct policy_findings {
  struct policy_finding *items;
  size_t count;
  bool more; /* POLICY_ERRORS_MAX was reached */
};

/* Reads and checks the policy with the files that it names. ERROR_CONFIG: ret_findings lists every error, all in one go;
 * ERROR_NOT_FOUND, ERROR_PERMISSION, ERROR_SYSTEM: the file could not be read. Caller frees with policy_free. */
int policy_load(const char *path, struct policy **ret_policy, struct policy_findings *ret_findings, struct error *error)
    ERROR_USE_RESULT;
/* The same for text in memory; file is the name for findings and the base for relative domains-from paths. */
int policy_parse(const char *file, const char *text, size_t size, struct policy **ret_policy,
                 struct policy_findings *ret_findings, struct error *error) ERROR_USE_RESULT;
void policy_free(struct policy *policy);
void policy_findings_release(struct policy_findings *findings);

/* The parts that keys remember of what they were made with: written as one line of JSON from the schema's tables (the same content
 * gives the same text; the name is part of it) and read back by the same schema, YAML being a superset. format: caller frees.
 * parse: ERROR_INVALID for text that format did not write. */
int policy_rules_format(const struct policy_rules *rules, char **ret_text, struct error *error) ERROR_USE_RESULT;
int policy_rules_parse(const char *text, struct policy_rules **ret_rules, struct error *error) ERROR_USE_RESULT;
int policy_publisher_format(const struct policy_publisher *publisher, char **ret_text, struct error *error)
    ERROR_USE_RESULT;
int policy_publisher_parse(const char *text, struct policy_publisher **ret_publisher, struct error *error)
    ERROR_USE_RESULT;
int policy_signer_format(const struct policy_signer *signer, char **ret_text, struct error *error) ERROR_USE_RESULT;
int policy_signer_parse(const char *text, struct policy_signer **ret_signer, struct error *error) ERROR_USE_RESULT;
void policy_rules_free(struct policy_rules *rules);
void policy_publisher_free(struct policy_publisher *publisher);
void policy_signer_free(struct policy_signer *signer);

#endif
