/* The supervisor of the keeper: between the one stream from the loop side and the workers, which it forks as jobs need them. */
#ifndef DKIMROLL_KEEPER_SUPERVISOR_H
#define DKIMROLL_KEEPER_SUPERVISOR_H

#include "dkimroll/keeper_worker.h"

/* All in milliseconds. */
enum {
  KEEPER_RESPAWN_FIRST = 100,           /* until a dead worker is replaced; doubled for each death in a row ... */
  KEEPER_RESPAWN_MAX = 10 * 1000,       /* ... up to this */
  KEEPER_DEATHS_FORGOTTEN = 600 * 1000, /* after this the next death is the first of a row again */
  KEEPER_GRACE = 60 * 1000,             /* that a job may run on after its deadline before its worker is killed */
  KEEPER_LAST_WORDS = 2500,             /* after that for workers to end the commands that they run (COMMAND_TERM_MS), before they are killed */
  KEEPER_LAST_LOOK = 10,
  KEEPER_FINISH = 5 * 1000, /* for the jobs that run when the loop side is gone, before their workers are killed */
};

/* Of the above, those that tests make shorter. */
struct keeper_patience {
  int64_t respawn_first;
  int64_t grace;
  int64_t finish;
};

struct keeper_supervision {
  int descriptor;        /* to the loop side, not blocking */
  int signal_descriptor; /* signalfd(2) that becomes readable when the loop side's process has ended */
  unsigned workers;      /* 1 to KEEPER_WORKERS_MAX */
  struct keeper_patience patience;
  struct keeper_handlers handlers;
};

/* The life of the supervisor process: returns its exit status when the loop side is gone and all workers have ended, or after
 * KEEPER_DEATHS_MAX. */
int keeper_supervise(const struct keeper_supervision *supervision);

/* Forks one worker: *ret_descriptor is our end, not blocking. */
int keeper_worker_fork(const struct keeper_handlers *handlers, int *ret_descriptor, pid_t *ret_pid,
                       struct error *error) ERROR_USE_RESULT;

#endif
