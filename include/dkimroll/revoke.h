/* The parts of `dkimroll revoke`: which keys are meant, what happens to each, and what became of it. */
#ifndef DKIMROLL_REVOKE_H
#define DKIMROLL_REVOKE_H

#include "dkimroll/session.h"

enum {
  REVOKE_CANDIDATES_MAX = 10, /* keys that an ambiguous name could mean, as far as they are listed */
  REVOKE_SETTLE_MS = 3000,    /* for the look whether every server says that a key is revoked, before the command ends */
  REVOKE_TEXT_MAX = 320,
};

/* One key that is meant. */
struct revoke_target {
  char domain[DNS_NAME_TEXT_SIZE];
  char selector[SELECTOR_SIZE];
  const char *state;  /* when it was asked for */
  bool known;         /* it was said before, and nothing is news */
  bool held;          /* what happens to it is: it waits for a release */
  bool lingers;       /* a signer of it cannot be restarted */
  int64_t drain;      /* seconds: how long connections may be open then */
  int64_t signed_since; /* of its mail that may still be on its way; TIME_NEVER: none */
  char what[REVOKE_TEXT_MAX]; /* happens */
  /* What the events said since. */
  bool revoked, confirmed;
};

struct revoke {
  struct session *session;
  const struct cli_arguments *arguments;
  int64_t now; /* wall seconds */
  struct revoke_target *targets; /* by domain, then selector */
  size_t count;
  size_t domain_count; /* of the targets */
  size_t left_out;     /* keys that sign of domains that are not in the policy any more, with --all-active */
  char left_out_names[REVOKE_CANDIDATES_MAX][DNS_NAME_TEXT_SIZE];
  size_t open, unconfirmed; /* targets of domains that are not held: not revoked yet; and not known to be everywhere */
  bool begun;          /* the engine has asked before */
  int64_t revoked_at;  /* boottime, milliseconds: when the last of them was; 0: not all are */
};

void revoke_release(struct revoke *revoke);
/* Fills in the targets: of the operands, or with --all-active of all domains. ERROR_NOT_FOUND, ERROR_CONFLICT (a name that could mean several, with the candidates; a
 * domain that is not in the policy): nothing is meant then. (revoke_targets.c) */
int revoke_find(struct revoke *revoke, struct error *error) ERROR_USE_RESULT;
/* By domain, then selector. NULL: it is none. (revoke_targets.c) */
struct revoke_target *revoke_target_of(const struct revoke *revoke, const char *domain, const char *selector);
/* Whether a hold of lineage holds back what is asked for its key. (revoke_report.c) */
bool revoke_is_held(const struct lineage *lineage, const struct key *key, const struct cli_arguments *arguments, int64_t now);
/* Is a key of that domain meant? (revoke_targets.c) */
bool revoke_has_domain(const struct revoke *revoke, const char *domain);
/* What happens to lineage->keys[key] if it is revoked as the arguments say, in words. (revoke_report.c) */
void revoke_foretell(const struct lineage *lineage, size_t key, const struct cli_arguments *arguments, int64_t now, char what[REVOKE_TEXT_MAX]);
/* The table of what would happen, and what goes for all. (revoke_report.c) */
int revoke_print_plan(const struct revoke *revoke, struct error *error) ERROR_USE_RESULT;
/* What became of it. *ret_open: keys that are not revoked yet. (revoke_report.c) */
int revoke_print_result(const struct revoke *revoke, size_t *ret_open, struct error *error) ERROR_USE_RESULT;

#endif
