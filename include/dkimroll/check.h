/* The parts of `dkimroll check`: everything that a rotation needs is tried, and nothing is changed but scratch records, which are deleted again. The parts that
 * wait for others run side by side in one loop, each with its deadline, and add what they find. */
#ifndef DKIMROLL_CHECK_H
#define DKIMROLL_CHECK_H

#include "dkimroll/findings.h"
#include "dkimroll/session.h"

enum {
  CHECK_DOMAINS_MAX = OBSERVE_ITEMS_MAX, /* one round of observation; more are not hidden, but named as not checked */
  CHECK_SURVEY_SECONDS = 20,             /* from the start: name servers have answered, or do not */
  CHECK_ADD_SECONDS =
      40, /* from the start: scratch records are there; the rest of CLI_CHECK_SECONDS is for deleting them */
  CHECK_KEYS_SECONDS = 40,
  CHECK_SCRATCH_LETTERS = 12,
  CHECK_SCRATCH_TTL = 60,
  CHECK_SPACE_LEAST = 64 * 1024 * 1024, /* octets free for the store and its write-ahead log */
};
/* The selector that a path or a scratch record is made with. */
#define CHECK_SELECTOR "dkimroll-check"
#define CHECK_RECORD "v=DKIM1; n=dkimroll check; p="

/* In the order in which they are told. */
enum check_part {
  CHECK_LOCAL = 0,
  CHECK_WALLS = 1,
  CHECK_DNS = 2,
  CHECK_UPDATES = 3,
  CHECK_KEYS = 4,
  CHECK_SIGNERS = 5,
  CHECK_CLOCK = 6,
  CHECK_PARTS = 7
};

/* One slot of one domain, with the key of it that signs. */
struct check_key {
  const struct policy_domain *domain;
  const char *slot;
  char selector[SELECTOR_SIZE];    /* empty: none signs yet */
  bool adopted;                    /* by `import` */
  char *record;                    /* owned; NULL */
  char *paths[POLICY_SIGNERS_MAX]; /* owned, by domain->signers; NULL: the policy's path for it */
  char *names[POLICY_SIGNERS_MAX]; /* owned; its name in KeyTable; NULL: the policy's */
};

struct check_dns;
struct check_signing;

struct check {
  const struct cli *cli;
  struct session session;
  struct findings parts[CHECK_PARTS];
  const struct policy_domain **domains; /* the chosen ones; owned */
  size_t domain_count;
  struct check_key *keys; /* owned */
  size_t key_count;
  int64_t started;               /* boottime, milliseconds */
  size_t pending;                /* works that are not finished */
  bool interrupted;              /* nothing more is added */
  bool attested;                 /* a signed reply agreed with the clock */
  bool has_tsig;                 /* some publisher signs */
  struct check_dns *dns;         /* owned */
  struct check_signing *signing; /* owned; several in an array */
  size_t signing_count;
};

/* check.c */
void check_say(struct check *check, enum check_part part, const struct finding *finding);
void check_say_error(struct check *check, enum check_part part, const char *subject, const char *who,
                     const struct error *error);
/* Subject was not looked at for want of memory. */
void check_say_no_memory(struct check *check, enum check_part part, const char *subject);
/* A work begins, and ends: with the last one the loop stops. */
void check_begin(struct check *check);
void check_end(struct check *check);
int64_t check_deadline(const struct check *check, int64_t seconds);

/* check_telling.c: whether metrics can be written, and hooks started. */
void check_telling(struct check *check);

/* check_local.c: what needs no waiting. check_policy and check_select fail if nothing can follow. */
int check_policy(struct check *check, struct error *error) ERROR_USE_RESULT;
void check_state(struct check *check);
/* Chooses domains by the operands, and reads of the store, if there is one, which keys sign. */
int check_select(struct check *check, struct error *error) ERROR_USE_RESULT;
void check_clock(struct check *check);
/* check_calendar.c: whether windows, freezes and max-per-run leave room for the rotations. */
void check_calendar(struct check *check);

/* check_walls.c: what stands between the network and the private keys. */
void check_walls_start(struct check *check);
/* check_units.c: what the installed units lack for this policy. */
void check_units(struct check *check);

/* check_dns.c, check_scratch.c: which servers are authoritative and answer; a scratch record in each zone. */
void check_dns_start(struct check *check);
void check_dns_release(struct check *check);

/* check_signers.c: tables, reload, milter, and a proof by a message for each sender. */
void check_signers_start(struct check *check);
void check_signers_release(struct check *check);

/* check_keys.c: may the signer read its keys, and do they belong to their records? */
void check_keys_start(struct check *check);

#endif
