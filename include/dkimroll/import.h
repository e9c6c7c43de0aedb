/* The parts of `dkimroll import`: what is found in tables, key directories and DNS, what it means, and what would be done. Everything but the last step only looks.
 * Internal to src/cli/import*.c. */
#ifndef DKIMROLL_IMPORT_H
#define DKIMROLL_IMPORT_H

#include <stdio.h>

#include "dkimroll/session.h"
#include "dkimroll/survey.h"

enum {
  IMPORT_SURVEY_SECONDS = 300,  /* for reading tables and key files of one signer: ten thousand keys take a second */
  IMPORT_OBSERVE_SECONDS = 60,  /* for one round of OBSERVE_ITEMS_MAX records */
  IMPORT_PROVE_SECONDS = 120,   /* for the proofs of one signer */
  IMPORT_ADOPTED_MAX = 20,      /* keys that are retired by taking them over, of one domain at once */
  IMPORT_ROOM_KEPT = 8,         /* of LINEAGE_KEYS_MAX: room for the key that signs and for rotations */
  IMPORT_VERSIONS_MAX = 100,    /* directories and names that differ from the policy's: each is a version of a signer, of which an engine works with ENGINE_SIGNERS_MAX */
  IMPORT_WEAK_BITS = 2048,      /* RFC 8301 3.2: signers should use at least so many */
  IMPORT_LEAST_BITS = 1024,     /* the same: verifiers reject less */
  IMPORT_INLINE_BITS = 1536,    /* a private key of so many does not fit into a line that OpenDKIM reads (TABLE_LINE_MAX): 1,196 octets of base64; measured, its mail is deferred */
  IMPORT_STRANGERS_SHOWN = 5,   /* domains of the tables that are not in the policy */
};

/* What a key is for today. */
enum import_role {
  IMPORT_UNUSED = 0,   /* KeyTable has it, and no mail of the domain's senders in the policy is signed with it */
  IMPORT_SIGNS = 1,    /* the first line of the SigningTable that matches names it */
  IMPORT_UNNAMED = 2,  /* a file that no table names */
};

/* What becomes of it. */
enum import_fate {
  IMPORT_LEFT = 0,     /* nothing; why tells the reason */
  IMPORT_KNOWN = 1,    /* it is in the store already, or its selector is reserved there and stays so */
  IMPORT_ACTIVE = 2,
  IMPORT_RETIRED = 3,
  IMPORT_REVOKED = 4,
  IMPORT_RESERVED = 5, /* only its selector: never used again */
  IMPORT_UNRELATED = 6, /* an entry for any domain that this one does not use: it is not told of */
};

/* One server's answer for the record of a key. */
struct import_server {
  struct observe_server seen; /* served is not used */
  char *record;               /* content of the only TXT; NULL: none, several, or no usable answer. Owned */
};

/* One key of one domain, wherever it was found. */
struct import_key {
  struct import_domain *domain;
  const char *selector;                          /* borrowed from the survey */
  const struct survey_key *at[POLICY_SIGNERS_MAX]; /* by the domain's signers; NULL: not there */
  const struct survey_key *first;                /* of these */
  int64_t row, lineage;                          /* of the store, where it only guards the selector (key_was_made), and whose that is; 0: none */
  size_t copies;                                 /* further entries of KeyTable that say the same */
  const struct survey_key *other;                /* an entry of the selector with another name or private key; NULL: none */
  char name[DNS_NAME_TEXT_SIZE];                 /* of the record; empty: no name can be made of the selector */
  char *expected;                                /* record that belongs to the private key; NULL: the key cannot be read. Owned */
  /* DNS. */
  struct error asked;                            /* code 0: servers says it all */
  struct import_server *servers;                 /* owned */
  size_t server_count;
  char zone[DNS_NAME_TEXT_SIZE], owner[DNS_NAME_TEXT_SIZE];
  int64_t ttl_negative;
  /* What it means. */
  enum import_role role;
  enum import_fate fate;
  const char *record;                            /* that counts: borrowed from servers, or expected; NULL: none */
  size_t serving;                                /* servers that have record */
  bool served, belongs, revoked, weak;           /* record is served; it belongs to the private key; its p= is empty; less than IMPORT_WEAK_BITS */
  bool alien;                                    /* what is served is the record of another key, or none that is valid; record is the expected one then */
  char fault[160];                               /* why the record that is served is none of any key; empty: it is one */
  uint32_t ttl;
  int64_t since;
  const char *since_by;                          /* "by its name" */
  bool replace;                                  /* becomes active: a successor is made at once */
  bool overdue;                                  /* it is older than rotate-every */
  char why[512];                                 /* LEFT: the reason; else what is special */
  char remedy[512];
};

/* One domain of the policy. */
struct import_domain {
  const struct policy_domain *policy;
  struct import_key *keys; /* of the whole import; from here key_count of them */
  size_t key_count;
  struct import_key *signs; /* NULL: no line matches any of its senders */
  size_t signs_at;          /* by the domain's signers: where it was found to sign first */
  char obstacle[512];       /* why the key that signs cannot be taken over; empty: it can */
  char remedy[512];
  char lines[256];          /* "SigningTable line 2 (*@example.com)" */
  const char **senders[POLICY_SIGNERS_MAX]; /* owned arrays: those that a line matches, by the domain's signers */
  size_t sender_counts[POLICY_SIGNERS_MAX];
  char everybody[DNS_NAME_TEXT_SIZE + 2]; /* "*@DOMAIN", for a domain that names no senders */
  const char *unsigned_sender; /* the first that no line matches; NULL */
  size_t unsigned_at;       /* by the domain's signers: where */
  size_t living;            /* keys in the store that are not removed, of the slot that has most */
  bool has_active;          /* in the store */
  char active[SELECTOR_SIZE];
  bool signs_there[POLICY_SIGNERS_MAX]; /* by the domain's signers: a message of each sender that a line matches was signed there */
  struct error proof;       /* code 0 after a proof: it signs */
  bool proved;
};

/* One signer of the policy, with indexes over what it has. */
struct import_signer {
  struct import *import;
  const struct policy_signer *policy;
  bool used;                           /* a domain of the import signs there */
  bool surveyed;
  struct error missed;                 /* not used, and it could not be surveyed: no reason not to go on */
  struct survey survey;
  const struct survey_key **by_name;   /* owned; sorted by name, then line */
  const struct survey_key **by_domain; /* owned; sorted by domain, selector, line */
  const struct survey_key **by_path;   /* owned; sorted by path, then line */
  uint32_t *by_value;                  /* owned; indexes of SigningTable entries, sorted by key name, then line */
  size_t line_count;
  const struct survey_key **left;      /* owned; entries of domains that sign elsewhere by the policy, and that no key of the store has here. By domain */
  size_t left_count;
  struct signer *signer;               /* owned */
  struct signer_operation *operation;
  struct signer_item *items;           /* owned */
  struct import_domain **proved;       /* owned; whom the items are about */
  size_t item_count;
};

/* A version of a signer that a key was found with. */
struct import_version {
  struct policy_signer signer; /* key_directory and key_name are owned, the rest is borrowed from the policy */
};

struct import {
  const struct cli *cli;
  struct session session;
  const struct policy *policy;
  struct import_domain *domains; /* owned */
  size_t domain_count;
  const char **names;            /* owned; of these, sorted */
  struct import_key *keys;       /* owned; by domain */
  size_t key_count;
  struct import_signer *signers; /* owned; by the policy's */
  size_t pending;
  size_t observed;               /* keys that were asked for already */
  struct observe_item *asked;    /* owned */
  struct import_key **asking;    /* owned; whom they are about */
  struct observe_operation *observation;
  struct import_version *versions[IMPORT_VERSIONS_MAX];
  size_t version_count;
  int64_t now;
  struct error *error;
};

/* What could not be compared for want of memory (code ERROR_NO_MEMORY; of any other nothing is noted) is not judged, or a key would be called another's, and its selector
 * be reserved for ever: import->error is set, and nothing may be told or applied. */
void import_note_lack(const struct import *import, int code);

/* import_find.c, pure: what the surveys say. Makes import->keys from the surveys of import->signers, then which key signs for each domain. */
int import_index(struct import_signer *signer, struct error *error) ERROR_USE_RESULT;
int import_find_keys(struct import *import, struct error *error) ERROR_USE_RESULT;
int import_find_signing(struct import *import, struct import_domain *domain, struct error *error) ERROR_USE_RESULT;
/* The place of signer number place of the domain: its index in the policy. */
struct import_signer *import_signer_of(const struct import *import, const struct import_domain *domain, size_t place);
/* SigningTable lines that name key at one signer (none, if another entry above has its name): next after `after` (0: the first) whose pattern is, or is not, one of the domain's senders; 0: none. ret_pattern: borrowed.
 * Errors: import_note_lack. */
unsigned import_next_line(const struct import_signer *signer, const struct import_key *key, size_t place, bool own, unsigned after,
                          struct table_span *ret_pattern);

/* The line of KeyTable whose entry OpenDKIM takes for the name of this one: its own, or one above it. */
unsigned import_line_of_name(const struct import_signer *signer, const struct survey_key *entry);

/* Another entry of that signer's KeyTable that names the same file; NULL: none. */
const struct survey_key *import_find_sharer(const struct import_signer *signer, const struct survey_key *entry);

/* import_lines.c, pure. Is it a pattern that no address matches in a table of this kind, such as a host alone in a refile: table? */
const char *import_table_kind(const struct import_signer *signer); /* "refile:" */
bool import_matches_nothing(const struct import_signer *signer, struct table_span pattern);
/* Does a key that does not sign for the domain's senders sign for others, by a line that OpenDKIM takes? */
bool import_signs_others(const struct import *import, const struct import_key *key);
/* Behind the place of a key in KeyTable: which lines of the SigningTable name it, and why they do not count. */
void import_print_lines(FILE *out, const struct import *import, const struct import_key *key, size_t place);

/* import_judge.c, pure: what DNS, proofs and age mean, and what becomes of each key. import->now counts. Errors: import_note_lack. */
void import_judge(struct import *import);
/* Since when a selector with a date in it exists: "server-20260124", "202601", "20260124-2". false: it has none that is plausible at now. */
bool import_selector_date(const char *selector, int64_t now, int64_t *ret_moment);

/* import_report.c: the screen. Returns how many keys are left alone. */
size_t import_report(const struct import *import, bool applied);

/* Does the file stay when its key is over, because the directory where it lies is that of half the system ("/etc")? The keeper gets no rights there. */
bool import_keeps_file(const struct policy_signer *policy, const struct survey_key *entry);

/* import_apply.c: everything that is to be adopted, in one transaction. */
int import_apply(struct import *import, struct error *error) ERROR_USE_RESULT;

#endif
