/* The policy: what the YAML file says, checked and with every default filled in. Grammar: dkimroll-policy(5). */
#ifndef DKIMROLL_POLICY_H
#define DKIMROLL_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "dkimroll/buffer.h"
#include "dkimroll/error.h"
#include "dkimroll/schedule.h"

enum {
  POLICY_FILE_MAX = 256 * 1024 * 1024, /* a million domains are about 100 MiB */
  POLICY_ERRORS_MAX = 100,             /* more of them would bury the first, which is often the cause of the rest */
  POLICY_SLOTS_MAX = 8,                /* keys of one domain: one for each algorithm, and one for each stream of mail, are few */
  POLICY_SIGNERS_MAX = 8,              /* signers of one domain on this host; each has a file of every key */
  POLICY_SERVERS_MAX = 64,             /* servers of one publisher; the root has 26 addresses */
  POLICY_SENDERS_MAX = 64,             /* sender patterns of one domain: each is a line of SigningTable and a message of the proof */
  POLICY_DOMAINS_MAX = 2000000,        /* as many lines fit a table of OpenDKIM (TABLE_FILE_MAX), and POLICY_FILE_MAX */
  POLICY_ENTRIES_MAX = 1000,  /* policies, publishers, signers: named by people, and found by walking through them */
  POLICY_FILES_MAX = 256,     /* domains-from: each is looked at on every run */
  POLICY_COMMAND_MAX = 32,    /* words of a reload command; a longer one is better a script */
  POLICY_PARALLEL_MAX = 8,    /* calls of a publisher's command at once: as many as the runner has workers (runner.h) */
  POLICY_KEY_NAME_MAX = 1021, /* octets of a key name: OpenDKIM reads lines into 1,024 (table.h) */
  POLICY_NAME_MAX = 63,       /* octets of the name of a policy, publisher, signer or slot: what a column of status holds */
  POLICY_STORED_MAX = 1024 * 1024, /* octets of what a key remembers of one of its parts; eight keys with 64 servers each stay far below */
  POLICY_METRICS_DOMAINS_MAX = 10000, /* with series of their own in the metrics: 20 each, which a Prometheus still takes from one host */
  POLICY_STANDBY_MAX = 4,     /* keys ready in advance; each is a record and a file more */
  POLICY_LIVING_KEYS_MAX = 24, /* keys of one slot that the policy's times keep alive at once; below LINEAGE_KEYS_MAX (lifecycle.h), so
                                  that `rotate` always finds room */
};

enum key_algorithm { KEY_ALGORITHM_RSA = 1, KEY_ALGORITHM_ED25519 = 2 };
enum private_key_end { PRIVATE_KEY_DESTROY = 1, PRIVATE_KEY_ARCHIVE = 2 };
enum publisher_type { PUBLISHER_RFC2136 = 1, PUBLISHER_COMMAND = 2, PUBLISHER_ZONEFILE = 3 };
enum signer_type { SIGNER_OPENDKIM = 1 };
enum signing_table_format { SIGNING_TABLE_REFILE = 1, SIGNING_TABLE_FILE = 2 };
enum reload_kind { RELOAD_NONE = 0, RELOAD_UNIT = 1, RELOAD_PID_FILE = 2, RELOAD_COMMAND = 3 };

struct policy_place {
  unsigned line;   /* from 1 */
  unsigned column; /* from 1, in characters */
  unsigned file;   /* index into policy.files */
};

/* One slot under keys:. */
struct policy_key {
  char *slot;
  enum key_algorithm algorithm;
  unsigned bits;  /* RSA: 2048, 3072, 4096; Ed25519: 256 */
  char *selector; /* template (selector.h): its own, or the policy's; always filled in by policy_load */
};

/* One named entry under policies:. All durations in seconds. */
struct policy_rules {
  char *name;
  char *selector; /* what keys without a template of their own got; readers use keys[].selector */
  struct policy_key *keys;
  size_t key_count;
  int64_t rotate_every; /* TIME_NEVER: only on demand */
  int64_t prove_every;  /* within which each key that signs is proved by signature; TIME_NEVER: only when it takes over */
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
  char *archive_directory; /* template with %d (policy_directory); only with PRIVATE_KEY_ARCHIVE, else NULL */
  int64_t jitter;          /* a key's life is shorter by a part of it that is the lineage's own (timing.h) */
  struct time_zone *time_zone; /* NULL: UTC */
  char **window_days; /* as they stand in the policy, like hours and freezes */
  size_t window_day_count;
  char **window_hours;
  size_t window_hours_count;
  char **freezes; /* those for all policies behind its own */
  size_t freeze_count;
  struct schedule schedule; /* what these say; made by policy_load and policy_rules_parse */
};

/* One entry under publishers:. Server texts are "192.0.2.53", "192.0.2.53:5300", "[2001:db8::53]:5300". Its type decides which of them there are. */
struct policy_publisher {
  char *name;
  enum publisher_type type;
  char *server;    /* primary that takes updates; NULL: the zone's MNAME */
  char *zone;      /* explicit zone for all its domains, lower case, no final dot; NULL: discovered for each name */
  char *tsig_file; /* path or "credential:NAME"; NULL: unsigned updates */
  char **servers;  /* the authoritative servers to ask, instead of the discovered ones */
  size_t server_count;
  char **ignore_servers; /* host names (lower case, no final dot) or addresses to leave out of the confirmation */
  size_t ignore_server_count;
  char **resolvers; /* for SOA, NS and addresses of name servers; none: /etc/resolv.conf */
  size_t resolver_count;
  char **command; /* PUBLISHER_COMMAND: program and arguments */
  size_t command_count;
  unsigned parallel; /* PUBLISHER_COMMAND: calls at once */
  char *file;        /* PUBLISHER_ZONEFILE: template of the fragment's path, with %z for the zone in its last part, or of one zone alone */
  char *owner;       /* of it, "user:group"; NULL: who writes it */
  mode_t mode;
  char **reload_command; /* PUBLISHER_ZONEFILE: what is run after the fragment was written; none: nothing */
  size_t reload_command_count;
  int64_t timeout; /* seconds: of either command; 0 for rfc2136, as the next */
  int64_t wait;    /* seconds within which the zone's servers have to show a change */
};

/* One entry under signers:. */
struct policy_signer {
  char *name;
  enum signer_type type;
  char *key_table;
  enum signing_table_format signing_table_format;
  char *signing_table;
  bool multiple_signatures; /* opendkim.conf has MultipleSignatures: all matching lines sign, so a domain may have several slots */
  char *key_directory; /* template; %d is the domain (policy_directory) */
  char *key_name;      /* template with %s and %d, or only %d (stable name) */
  char *owner;         /* "user:group" of private key files */
  mode_t mode;         /* of private key files, default 0600 */
  enum reload_kind reload;
  char *reload_target; /* unit name or path of the pid file */
  char **reload_command;
  size_t reload_command_count;
  int64_t reload_timeout; /* seconds */
  enum reload_kind restart; /* RELOAD_UNIT or RELOAD_COMMAND; RELOAD_NONE: as policy_signer_restart says */
  char *restart_target;     /* unit name */
  char **restart_command;
  size_t restart_command_count;
  char *milter;           /* "inet:8891@127.0.0.1", "inet6:8891@::1" (no brackets), "unix:/run/opendkim/opendkim.sock", "local:..." */
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
  char **senders; /* NULL with count 0: the default, "*@DOMAIN"; "@D" of the file is "*@D" here */
  size_t sender_count;
};

/* What holds a wave of rotations in bounds (wave.h). */
struct policy_limits {
  unsigned max_per_run; /* lineages that begin a new key in one run, and as many that take over; 0: no limit */
  bool budget;          /* there is a budget of failures: */
  bool percent;
  unsigned failures;    /* more than that, or than that per cent, stop the wave */
};

/* metrics: what is written for node_exporter. */
struct policy_metrics {
  char *file;       /* NULL: nothing */
  unsigned domains; /* up to so many domains have series of their own */
};

/* hooks: commands that are told what happens, each with its arguments; NULL: none. */
struct policy_hooks {
  char **transition; /* a key's state changed */
  size_t transition_count;
  char **needs_person; /* something that dkimroll does not mend alone begins, lasts, or is over */
  size_t needs_person_count;
  int64_t timeout; /* seconds for one call */
};

struct policy {
  char *path;
  char *state; /* path of the store */
  char **freezes; /* for all rules; they hold them already */
  size_t freeze_count;
  struct policy_limits limits;
  struct policy_metrics metrics;
  struct policy_hooks hooks;
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
  char digest[65]; /* SHA-256 of the octets of all files in that order, lower case hexadecimal */
};

/* One finding, to be shown as "file:line:column: message"; the message says what is wrong and what would be right. */
struct policy_finding {
  char *file;
  struct policy_place place;
  char *message;
};

/* All findings of one reading, by place, the policy before the files that it names. Caller frees with policy_findings_release. */
struct policy_findings {
  struct policy_finding *items;
  size_t count;
  bool more; /* POLICY_ERRORS_MAX was reached */
};

/* Reads and checks the policy with the files that it names. ERROR_CONFIG: ret_findings lists every error, all in one go (a
 * domains-from file that is missing or may not be read is one of them); ERROR_NOT_FOUND, ERROR_PERMISSION, ERROR_SYSTEM,
 * ERROR_INVALID (no regular file), ERROR_LIMIT: the policy itself could not be read. ret_findings is always set, empty unless
 * ERROR_CONFIG. Caller frees with policy_free. */
int policy_load(const char *path, struct policy **ret_policy, struct policy_findings *ret_findings, struct error *error)
    ERROR_USE_RESULT;
/* The same for text in memory; file is the name for findings and the base for relative domains-from paths. */
int policy_parse(const char *file, const char *text, size_t size, struct policy **ret_policy,
                 struct policy_findings *ret_findings, struct error *error) ERROR_USE_RESULT;
void policy_free(struct policy *policy); /* NULL is fine */
void policy_findings_release(struct policy_findings *findings);

/* How long a key must live at least by these rules, F7: rotate_every must be greater than this. It is twice what the policy itself says of
 * the publication interval, publish.safety + confirm.sightings * confirm.every: the successor is published during the second half, and each
 * key signs for at least as long as its successor takes. What only the zone knows (negative TTL, propagation) is measured later. */
int64_t policy_shortest_life(const struct policy_rules *rules);
/* The shortest life that a lineage can get by these rules: rotate_every, less all of the jitter; TIME_NEVER. */
int64_t policy_least_life(const struct policy_rules *rules);
/* The most keys of one slot that are alive at once by these rules (at most UINT_MAX): the active one, its successor, standby, and those on their way
 * out. At most POLICY_LIVING_KEYS_MAX in a policy that was read. */
unsigned policy_living_keys(const struct policy_rules *rules);

/* A key-directory or archive-directory with %d replaced by domain. Caller frees. ERROR_INVALID: another % in it; ERROR_LIMIT over PATH_MAX. */
int policy_directory(const char *directory_template, const char *domain, char **ret_path, struct error *error)
    ERROR_USE_RESULT;

/* The path of the fragment of a PUBLISHER_ZONEFILE: its file with %z replaced by zone. Caller frees. ERROR_LIMIT over PATH_MAX. */
int policy_publisher_file(const struct policy_publisher *publisher, const char *zone, char **ret_path, struct error *error)
    ERROR_USE_RESULT;
/* Whether a publisher has a primary whose signed reply attests the clock (RFC 8945 5.2.3): else time synchronisation alone does. */
bool policy_publisher_attests(const struct policy_publisher *publisher);

/* The parts that keys remember of what they were made with: written as one line of JSON from the schema's tables (the same content
 * gives the same text; the name is part of it) and read back by the same schema, YAML being a superset. format: caller frees; NULL texts
 * and empty lists are left out. parse: ERROR_INVALID for text of another shape; bounds and rules between values are not applied, because
 * what an earlier version accepted must stay readable as long as a key was made with it. Caller frees with the function below. */
int policy_rules_format(const struct policy_rules *rules, char **ret_text, struct error *error) ERROR_USE_RESULT;
int policy_rules_parse(const char *text, struct policy_rules **ret_rules, struct error *error) ERROR_USE_RESULT;
int policy_publisher_format(const struct policy_publisher *publisher, char **ret_text, struct error *error)
    ERROR_USE_RESULT;
int policy_publisher_parse(const char *text, struct policy_publisher **ret_publisher, struct error *error)
    ERROR_USE_RESULT;
int policy_signer_format(const struct policy_signer *signer, char **ret_text, struct error *error) ERROR_USE_RESULT;
int policy_signer_parse(const char *text, struct policy_signer **ret_signer, struct error *error) ERROR_USE_RESULT;
/* Where the private key of selector goes: "<key-directory with %d>/<selector>.private". Caller frees. ERROR_LIMIT over PATH_MAX. */
int policy_signer_key_path(const struct policy_signer *signer, const char *domain, const char *selector, char **ret_path,
                           struct error *error) ERROR_USE_RESULT;
/* How the signer is restarted, for connections that must not go on as they are: by restart, or else by the unit of reload. RELOAD_NONE: it cannot be. ret_target: the
 * unit, borrowed; NULL with a command. */
enum reload_kind policy_signer_restart(const struct policy_signer *signer, const char **ret_target);
/* The name of its entry in KeyTable: key-name with %s and %d filled in. Caller frees; NULL: out of memory, or longer than a line of a table. */
char *policy_signer_key_name(const struct policy_signer *signer, const char *domain, const char *selector);
void policy_rules_free(struct policy_rules *rules);
void policy_publisher_free(struct policy_publisher *publisher);
void policy_signer_free(struct policy_signer *signer);

#endif
