/* The parts of `dkimroll status`: what a key does next, what is not all right, and how it is shown. */
#ifndef DKIMROLL_STATUS_H
#define DKIMROLL_STATUS_H

#include "dkimroll/findings.h"
#include "dkimroll/json.h"
#include "dkimroll/lifecycle.h"

enum {
  /* A moment that is so long past was not served by anybody. A timer runs each hour at least, and one run may be long. */
  STATUS_OVERDUE_SECONDS = 6 * 3600,
  /* A key that took over so much later than now did so by a clock that was wrong; less delays its successor by less than anybody would notice. */
  STATUS_AHEAD_SECONDS = 86400,
  STATUS_FINDINGS_SHOWN = 20, /* on a terminal or in a mail; --json has them all */
};

/* What a key does next. */
struct status_step {
  const char *action; /* "generate"; "-": nothing more */
  int64_t at;         /* now or earlier: with the next run; TIME_NEVER: no time opens it */
  struct plan_reason reasons[PLAN_REASONS_MAX];
  size_t reason_count;
};

/* The state, and of a key that waits for an emergency that it does. (status_step.c) */
const char *status_state_name(const struct lineage *lineage, const struct key *key);

enum { STATUS_SERVER_MAX = DNS_NAME_TEXT_SIZE + ADDRESS_TEXT_SIZE + 4 };
/* "ns2.example.net (192.0.2.2:53)"; the address alone where the policy names no host. Returns buffer. (status_step.c) */
const char *status_server_name(const char *host, const char *address, char buffer[STATUS_SERVER_MAX]);

/* Of lineage->keys[key]; key == key_count: of the key that does not exist yet. Of an active key it is what ends its time: the making of its successor, or the
 * successor's turn. Rounds of observation are no steps: what they wait for is told instead. (status_step.c) */
void status_next_step(const struct lineage *lineage, size_t key, const struct plan_clock *clock,
                      struct status_step *ret_step);
/* Rows of a lineage: one for each key, and one for the key that does not exist yet if none signs or is on its way. (status_step.c) */
size_t status_row_count(const struct lineage *lineage);
/* The reason that matters most: one that no time opens, else the one that opens last. "": none. */
const char *status_step_reason(const struct status_step *step);

/* Adds what is wrong with lineage, each with its remedy, and notes. (status_problems.c) */
void status_find_problems(const struct lineage *lineage, const struct plan_clock *clock, struct findings *findings);

/* Everything that is known of a lineage and its keys, for people and for programs. (status_detail.c, status_json.c) */
void status_print_detail(FILE *out, const struct lineage *lineage, const struct plan_clock *clock);
/* One key, or key_count if there is none, as a member of a list. */
void status_json_key(struct json *json, const struct lineage *lineage, size_t key, const struct plan_clock *clock,
                     bool detail);

/* The moments of the formulas F1 to F5 that apply to a key, and what they are made of. */
struct status_moment {
  const char *name;  /* "ready", for programs */
  const char *label; /* "F1 ready" */
  int64_t at;
  char made_of[160]; /* in words, may be empty */
};
enum { STATUS_MOMENTS_MAX = 8 };
size_t status_moments(const struct lineage *lineage, const struct key *key,
                      struct status_moment moments[STATUS_MOMENTS_MAX]);

/* What becomes of a domain whose key `before` cannot be mended or has ended, and when. (status_problems.c) */
void status_describe_replacement(const struct lineage *lineage, const struct key *before, int64_t now, char *buffer, size_t size);

#endif
