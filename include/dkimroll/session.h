/* What commands share: finding the store, reading the policy once, forking the keeper, taking the lease, running the engine. */
#ifndef DKIMROLL_SESSION_H
#define DKIMROLL_SESSION_H

#include "dkimroll/cli.h"
#include "dkimroll/grants.h"
#include "dkimroll/store.h"

struct session {
  const struct cli *cli;
  char *state;               /* path of the store */
  struct policy *policy;     /* NULL until it was read */
  struct store *store;
  struct cli_backends backends;
  bool has_backends;
  bool writer; /* this command may change the store */
  struct policy_signer **old_signers; /* copies: versions that keys were made with */
  size_t old_signer_count;
  struct store_file_stamp *stamps; /* of the policy's files when they were read; count is that of the policy. Paths are the policy's */
  bool has_compiled;  /* session_take_over did that */
  char compiled[256]; /* what session_take_over compiled, in words; "" nothing was new */
  /* The runner that session_begin_keeper forked, until it belongs to the back ends. */
  bool has_runner;
  int runner_descriptor;
  pid_t runner_pid;
  /* What session_begin_keeper did, for check. */
  char *keeper_socket; /* owned; NULL: the keeper is a child of this process */
  bool dropped;        /* root became the owner of the state */
  bool confined;       /* this process has put up its walls ... */
  int landlock_abi;    /* ... of which Landlock is one if this is not 0 */
  struct error wall_missing; /* code 0: Landlock stands, or the kernel has none */
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
/* A part of session_start_backends (session_keeper.c), with the policy read and the state known: connects to the keeper or forks it, and then gives up
 * what the rest does not need (user, capabilities, files). */
int session_begin_keeper(struct session *session, int *ret_descriptor, pid_t *ret_pid, struct error *error) ERROR_USE_RESULT;
/* Root becomes the owner of the state's directory, for good; nothing if it has no other owner, or this is not root. */
int session_drop(struct session *session, struct error *error) ERROR_USE_RESULT;
/* Whether session_drop would. */
bool session_will_drop(struct session *session);
/* The path of the store: of the policy that was read, else of its first lines, else the default. */
int session_find_state(struct session *session, struct error *error) ERROR_USE_RESULT;
/* What the keeper may touch by the policy and by its own memory in directory, which learns of the policy: archives are allowed in the wiring; signers
 * are borrowed from *ret_grants, in an array of session_count_signers that the caller frees. */
int session_allow_grants(const struct session *session, const char *directory, struct grants *ret_grants,
                         const struct policy_signer ***ret_signers, struct error *error) ERROR_USE_RESULT;
size_t session_count_signers(const struct grants *grants);
/* Copies of the signers that keys of the store were made with, into the session. */
int session_read_old_signers(struct session *session, struct error *error) ERROR_USE_RESULT;
/* Policy, keeper, store. The order is fixed: the keeper is forked before loop, sockets and store exist. */
int session_open(struct session *session, struct error *error) ERROR_USE_RESULT;
/* Takes the lease and compiles the policy if it changed. ERROR_BUSY: somebody else executes. */
int session_take_over(struct session *session, const char *holder, struct error *error) ERROR_USE_RESULT;
/* Writes down a request for each operand, and wakes a daemon that listens. ERROR_NOT_FOUND names a domain that is not managed. */
int session_request(struct session *session, enum store_request_kind kind, int64_t until, struct error *error) ERROR_USE_RESULT;
/* One request, whose asked_at and asked_by this fills in. */
int session_request_one(struct session *session, struct store_request *request, struct error *error) ERROR_USE_RESULT;
/* Is the policy of this session the one of the units, by whatever name? (session_keeper.c) */
bool session_has_usual_policy(const struct session *session);
/* Tells a daemon that something was written down. false: no daemon is at work, and who has the lease finds it by himself. */
bool session_wake(const struct session *session);
/* The back ends of this session for an engine. */
void session_fill_setup(struct session *session, struct engine_setup *setup);
/* Calls begin from the loop of the backends, and runs the loop until it is stopped. The steps that follow put what fails into error themselves; returns its code. */
int session_run_loop(struct session *session, loop_callback *begin, void *context, struct error *error) ERROR_USE_RESULT;
/* Runs the engine; SIGINT and SIGTERM end it in order. */
int session_run_engine(struct session *session, struct engine_setup *setup, struct engine_summary *ret_summary, struct error *error)
    ERROR_USE_RESULT;

/* One event as a line for people. */
void event_print(FILE *out, const struct event *event);
/* The same into the log, with its fields. */
void event_log(const struct log *log, const struct event *event);

/* How the wave of rotations stands, moved on to now: for clocks of plans (plan_clock.wave), and for what a person is told. */
int session_read_wave(struct session *session, int64_t now, struct wave *ret_wave, struct error *error) ERROR_USE_RESULT;

#endif
