/* The keeper: a process without network that does every privileged file effect. It is forked first: a supervisor, which forks and
 * respawns one worker per core. Jobs are length-prefixed, versioned, size-limited messages over a socketpair; each is idempotent, so a job
 * whose worker died is reported as failed and may be sent again. The loop side is this replaceable struct. */
#ifndef DKIMROLL_KEEPER_H
#define DKIMROLL_KEEPER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "dkimroll/buffer.h"
#include "dkimroll/error.h"
#include "dkimroll/loop.h"

enum {
  KEEPER_MESSAGE_MAX = 64 * 1024 * 1024, /* a batch of table edits: 10,000 entries of at most 5 KiB */
  KEEPER_PROTOCOL_VERSION = 1,
  KEEPER_WORKERS_MAX = 64, /* one for a core; more would wait for the disk */
  KEEPER_JOBS_MAX = 100000, /* submitted and not done; beyond it ERROR_BUSY */
  KEEPER_JOBS_OCTETS_MAX = 4 * KEEPER_MESSAGE_MAX, /* of all of them; the last one may exceed it */
  KEEPER_DEATHS_MAX = 10, /* workers that died in a row without one job done between: the supervisor gives up and ends */
};

/* What a job does; the payload's shape is fixed by the module that owns the kind (key_jobs.h, opendkim_jobs.h, survey.h). */
enum keeper_job {
  KEEPER_GENERATE = 1,
  KEEPER_READ_PUBLIC = 2,
  KEEPER_DESTROY = 3,
  KEEPER_ARCHIVE = 4,
  KEEPER_CHECK_KEY = 5,
  KEEPER_COPY = 6,
  KEEPER_EDIT_TABLES = 16,
  KEEPER_READ_TABLES = 17,
  KEEPER_RELOAD = 18,
  KEEPER_SURVEY = 19,
  KEEPER_KEY_USERS = 20,
  KEEPER_LOOK_TABLES = 21,
  KEEPER_WALLS = 32, /* keeper_walls.h */
  KEEPER_RUN = 48, /* this and the next: of the runner (runner.h), which is no keeper but the same machinery */
  KEEPER_WRITE_FRAGMENT = 49,
};

/* Ends one job: result->code 0 and the reply's octets (borrowed during the call), or the error that the worker reported. */
typedef void keeper_done(void *context, const struct error *result, const uint8_t *reply, size_t reply_size);

struct keeper;
struct keeper_ops {
  /* Queues a job; payload is copied. done comes exactly once, later; at deadline (boottime, milliseconds; or TIME_NEVER) with ERROR_TIMEOUT.
   * A job that was given to a worker and times out may still take effect: jobs are idempotent; one that no worker has begun is
   * dropped. When the keeper is destroyed done comes with ERROR_CANCELLED. When the supervisor is gone, all jobs and later submits fail with
   * ERROR_UNREACHABLE. ERROR_BUSY, ERROR_LIMIT, ERROR_NO_MEMORY: not queued, and done never comes. */
  int (*submit)(struct keeper *keeper, enum keeper_job job, const struct buffer *payload, int64_t deadline,
                keeper_done *done, void *context, struct error *error);
  /* Not from inside a done. NULL is fine for keeper_destroy. */
  void (*destroy)(struct keeper *keeper);
};

struct keeper {
  const struct keeper_ops *ops;
};

int keeper_submit(struct keeper *keeper, enum keeper_job job, const struct buffer *payload, int64_t deadline,
                  keeper_done *done, void *context, struct error *error) ERROR_USE_RESULT;
void keeper_destroy(struct keeper *keeper);

/* One kind of job, run in a worker: reads the request, writes the reply, returns 0 or an error with place and remedy. Workers have umask 077,
 * leave no core dumps, and ignore SIGINT, SIGTERM, SIGHUP and SIGPIPE, which a handler that starts a program sets back to default. */
struct keeper_handler {
  enum keeper_job job;
  int (*run)(void *context, struct reader *request, struct buffer *reply, struct error *error);
  void *context; /* set up before the fork, read-only afterwards */
};

/* The process side, in two steps because the fork must come before the loop, sockets and store exist. start: forks the supervisor
 * (workers 0: one per core) with handlers (borrowed for ever) and returns the descriptor of our end, which the caller closes or gives to
 * keeper_connect. The supervisor keeps the rights that the caller has now, forks workers as jobs need them, and ends when our end is closed or
 * the calling process ends (so it must not be one that only forks and leaves). Signals of the terminal do not end it. */
int keeper_process_start(const struct keeper_handler *handlers, size_t handler_count, unsigned workers,
                         int *ret_descriptor, pid_t *ret_pid, struct error *error) ERROR_USE_RESULT;
/* The same, with walls (keeper_walls.h; borrowed for ever) that the supervisor raises around itself and its workers; NULL: none. */
struct keeper_walls;
struct keeper_setup {
  const struct keeper_handler *handlers; /* borrowed for ever */
  size_t handler_count;
  int (*begin)(struct error *error); /* of struct keeper_handlers */
  unsigned workers; /* 0: one per core */
  struct keeper_walls *walls;
  const char *title; /* of the supervisor's process, at most 15 octets; NULL: dkimroll-keeper */
};
int keeper_process_fork(const struct keeper_setup *setup, int *ret_descriptor, pid_t *ret_pid, struct error *error)
    ERROR_USE_RESULT;
/* This process becomes the supervisor, for a loop side that connected to it (keeper_socket.h): returns the exit status when the loop side is gone. */
int keeper_process_serve(const struct keeper_setup *setup, int descriptor);
/* The loop side over that descriptor, which it owns from now on (on failure the caller still does). destroy closes it and waits for the
 * supervisor (bounded, then kills it); pid 0: the keeper is not a child of this process, and is not waited for. */
int keeper_connect(struct loop *loop, int descriptor, pid_t pid, struct keeper **ret_keeper, struct error *error)
    ERROR_USE_RESULT;

/* In this process, without any fork: jobs run from loop_defer. For tests. */
int keeper_direct_new(struct loop *loop, const struct keeper_handler *handlers, size_t handler_count,
                      struct keeper **ret_keeper, struct error *error) ERROR_USE_RESULT;

#endif
