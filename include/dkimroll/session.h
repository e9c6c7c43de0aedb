/* What commands share: finding the store, reading the policy once, forking the keeper, taking the lease, running the engine. */
#ifndef DKIMROLL_SESSION_H
#define DKIMROLL_SESSION_H

#include "dkimroll/cli.h"
#include "dkimroll/store.h"

struct session {
  const struct cli *cli;
  char *state;               /* path of the store */
  struct policy *policy;     /* NULL until it was read */
  struct store *store;
  struct cli_backends backends;
  bool has_backends;
  bool writes; /* the store is opened for writing, and one of an earlier version brought up to date */
  struct policy_signer **old_signers; /* copies: versions that keys were made with */
  size_t old_signer_count;
};

void session_release(struct session *session);

/* Opens the store for reading: for status, plan, history. The state path comes from the policy's `state:` line, without reading the rest. */
int session_open_for_reading(struct session *session, struct error *error) ERROR_USE_RESULT;
/* Is the policy as it was compiled, and when is something due? *ret_next is TIME_UNSET when the policy changed or nothing was ever compiled. */
int session_look(struct session *session, int64_t *ret_next, struct error *error) ERROR_USE_RESULT;
/* Reads the policy, printing every finding. */
int session_read_policy(struct session *session, struct error *error) ERROR_USE_RESULT;
/* Policy, keeper, loop, sockets; no store is open afterwards. For check, which writes nothing. */
int session_start_backends(struct session *session, struct error *error) ERROR_USE_RESULT;
/* Policy, keeper, store. The order is fixed: the keeper is forked before loop, sockets and store exist. */
int session_open(struct session *session, struct error *error) ERROR_USE_RESULT;
/* Takes the lease and compiles the policy if it changed. ERROR_BUSY: somebody else executes. */
int session_take_over(struct session *session, const char *holder, struct error *error) ERROR_USE_RESULT;
/* Writes down a request for each operand. ERROR_NOT_FOUND names a domain that is not managed. */
int session_request(struct session *session, enum store_request_kind kind, int64_t until, struct error *error) ERROR_USE_RESULT;
/* Runs the engine; SIGINT and SIGTERM end it in order. */
int session_run_engine(struct session *session, struct engine_setup *setup, struct engine_summary *ret_summary, struct error *error)
    ERROR_USE_RESULT;

/* One event as a line for people. */
void event_print(FILE *out, const struct event *event);
/* The same into the log, with its fields. */
void event_log(const struct log *log, const struct event *event);

#endif
