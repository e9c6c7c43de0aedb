/* Running a program of somebody else: without a shell, in a process group of its own, with nothing of our environment and descriptors, with bounded output and
 * a deadline. Blocking: for workers of keeper and runner, never for the loop. */
#ifndef DKIMROLL_COMMAND_RUN_H
#define DKIMROLL_COMMAND_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <signal.h>

#include "dkimroll/buffer.h"
#include "dkimroll/error.h"

enum {
  COMMAND_OUTPUT_MAX = 64 * 1024, /* octets that are kept of each stream at most; what comes after is read and dropped, so that the program does not block */
  COMMAND_TERM_MS = 2000,         /* between SIGTERM at the deadline and SIGKILL: time to remove a lock file, not to finish */
  COMMAND_ENVIRONMENT_MAX = 32,   /* variables of one call */
};

struct command_request {
  char *const *argv;        /* absolute path, arguments, NULL */
  char *const *environment; /* "NAME=value", NULL at the end; beside PATH and LANG, which are always the same; NULL: none */
  const void *input;        /* what the program reads from its stdin; without, that is empty */
  size_t input_size;
  size_t output_max;        /* octets kept of each stream; 0: COMMAND_OUTPUT_MAX */
  bool together;            /* stderr goes where stdout goes, as on a terminal: result.output has both */
  int64_t deadline;         /* CLOCK_BOOTTIME, milliseconds: SIGTERM to the process group, COMMAND_TERM_MS later SIGKILL */
};

enum command_end {
  COMMAND_EXITED = 1,    /* status is its exit status */
  COMMAND_SIGNALLED = 2, /* status is the signal that ended it, sent by somebody else */
  COMMAND_TIMED_OUT = 3, /* the deadline came; status is 0 */
};

struct command_result {
  enum command_end end;
  int status;
  struct buffer output; /* of stdout */
  struct buffer errors; /* of stderr */
};

/* To a process that runs a program: nobody waits for it any more. It ends the program as at its deadline, and then itself. */
#define COMMAND_END_SIGNAL SIGUSR2

/* Runs the program and waits for its end. What it left running in the background is not waited for, and is killed only if the deadline came. ERROR_CONFIG: argv[0] is no
 * absolute path; ERROR_NOT_FOUND, ERROR_PERMISSION, ERROR_SYSTEM, ERROR_NO_MEMORY: it could not be started. However it ended, that is 0 and *ret_result, which the caller releases. */
int command_run(const struct command_request *request, struct command_result *ret_result, struct error *error) ERROR_USE_RESULT;
void command_result_release(struct command_result *result);

/* Whether argv[0] is there and may be executed. ERROR_CONFIG, ERROR_NOT_FOUND, ERROR_PERMISSION. */
int command_probe(char *const *argv, struct error *error) ERROR_USE_RESULT;

#endif
