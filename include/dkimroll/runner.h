/* The runner: processes that run the commands which the policy names (publishers' tools, reloads of zones, hooks), for a loop side that may be taken over and must not
 * start programs of its own choice. It is a second instance of the keeper's machinery (keeper.h): a supervisor with workers, forked before the loop side puts up its walls, as the same
 * user, with a network and without rights on private keys. Jobs are sent with keeper_submit to the `struct keeper *runner` of the back ends, which is NULL where the policy names no
 * command.
 *
 * What is run is decided here, by the policy alone: a job names the command by purpose and name and never says argv. It may add one plain word as the last argument,
 * variables of environment that begin with DKIMROLL_, and text for stdin. A program gets nothing else of us: no descriptor, of the environment only PATH, LANG and CREDENTIALS_DIRECTORY
 * (systemd.exec(5)), umask 077, no core dumps, a process group of its own that is ended at the time limit (command_run.h). If dkimroll itself is killed meanwhile, the program goes on: it may be
 * called again while it still runs. */
#ifndef DKIMROLL_RUNNER_H
#define DKIMROLL_RUNNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/command_run.h"
#include "dkimroll/keeper.h"
#include "dkimroll/policy.h"

enum {
  RUNNER_WORKERS = 8,                 /* commands that run at once: they wait for somebody's network most of the time, and providers limit how many calls they take */
  RUNNER_COMMANDS_MAX = 4 * POLICY_ENTRIES_MAX, /* of a policy: two for each publisher, and hooks */
  RUNNER_WORD_MAX = 64,               /* octets of the word behind the arguments */
  RUNNER_VARIABLES_MAX = 24,          /* of one job */
  RUNNER_VALUE_MAX = 16 * 1024,       /* octets of one value: a record has at most 4 KiB (record.h) */
  RUNNER_INPUT_MAX = 4 * 1024 * 1024, /* octets of stdin: what an operation says of 1,000 records */
  RUNNER_TEMPFAIL = 75,               /* EX_TEMPFAIL of sysexits.h(3head): try again later */
  RUNNER_JOBS_COUNT = 1,
};

enum runner_purpose {
  RUNNER_PUBLISH = 1,     /* publishers: NAME: command */
  RUNNER_RELOAD_ZONE = 2, /* publishers: NAME: reload */
  RUNNER_HOOK = 3,        /* hooks */
};

/* One command that may be run. */
struct runner_command {
  enum runner_purpose purpose;
  char *name;      /* owned: of the publisher or hook */
  char **argv;     /* owned; ends with NULL */
  int64_t timeout; /* seconds */
};

/* All of them; filled in before the fork, read-only afterwards. */
struct runner_rights {
  struct runner_command *commands; /* owned */
  size_t count;
};

/* Allows words (copied) as the command of that purpose and name. ERROR_LIMIT, ERROR_NO_MEMORY; ERROR_EXISTS: there is one of that purpose and name. */
int runner_allow(struct runner_rights *rights, const struct runner_command *command, const char *const *words, size_t word_count,
                 struct error *error) ERROR_USE_RESULT;
/* Allows all commands of policy. Who adds a kind of command to the policy adds it here. */
int runner_allow_policy(struct runner_rights *rights, const struct policy *policy, struct error *error) ERROR_USE_RESULT;
void runner_rights_release(struct runner_rights *rights);

/* A variable of the program's environment. */
struct runner_variable {
  const char *name; /* DKIMROLL_ and capital letters, digits, underscores */
  const char *value;
};

/* What a job asks for. */
struct runner_call {
  enum runner_purpose purpose;
  const char *name;
  const char *word; /* last argument: small letters, digits, hyphens, beginning with a letter; NULL: none */
  const struct runner_variable *variables;
  size_t variable_count;
  const void *input; /* stdin */
  size_t input_size;
};

/* Payload of KEEPER_RUN. Its time limit is the policy's and begins when a worker takes the job; the deadline of keeper_submit is the caller's, who counts the wait for a free worker in. */
void runner_call_write(struct buffer *payload, const struct runner_call *call);

/* How the program ended. output and errors are what it wrote to stdout and stderr, at most COMMAND_OUTPUT_MAX each, with a "?" for each NUL. */
struct runner_reply {
  enum command_end end;
  int status;
  char *output; /* owned */
  char *errors; /* owned */
};

/* Reads the reply of KEEPER_RUN. Caller releases. ERROR_PROTOCOL, ERROR_NO_MEMORY. */
int runner_reply_read(const uint8_t *reply, size_t reply_size, struct runner_reply *ret_reply, struct error *error) ERROR_USE_RESULT;
void runner_reply_release(struct runner_reply *reply);
/* 0: it ended with exit status 0. Else an error that begins with what ("publisher dns-provider: add of s1._domainkey.example.com") and says how it ended and the first line that it wrote to stderr: ERROR_TIMEOUT;
 * ERROR_BUSY (which is retryable): exit status RUNNER_TEMPFAIL; ERROR_REFUSED: another one, or a signal. */
int runner_reply_judge(const struct runner_reply *reply, const char *what, struct error *error) ERROR_USE_RESULT;

/* The handlers; rights is borrowed for ever. Returns RUNNER_JOBS_COUNT. In a process of their own: keeper_process_fork with RUNNER_WORKERS; within a test, where a program may be waited for:
 * keeper_direct_new. KEEPER_RUN fails with ERROR_PERMISSION for what the policy does not name, ERROR_INVALID for a word, variable or text out of bounds, and as command_run; however the program
 * ended, the job is done. */
size_t runner_handlers(const struct runner_rights *rights, struct keeper_handler *handlers);

/* For a fake runner: reads the payload of KEEPER_RUN, checked as the runner checks it; call's texts live in *ret_memory, which runner_call_release frees. */
struct runner_call_memory {
  char *name;
  char *word;
  struct runner_variable *variables;
  char **texts;
  size_t text_count;
};
int runner_call_read(struct reader *request, struct runner_call *ret_call, struct runner_call_memory *ret_memory, struct error *error)
    ERROR_USE_RESULT;
void runner_call_release(struct runner_call_memory *memory);
/* Its answer. */
void runner_reply_write(struct buffer *reply, const struct command_result *result);
/* The value of a variable; NULL: it is not there. */
const char *runner_call_variable(const struct runner_call *call, const char *name);

#endif
