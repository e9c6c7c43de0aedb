/* The worker side of the keeper: finds the handler of a job and runs it. */
#ifndef DKIMROLL_KEEPER_WORKER_H
#define DKIMROLL_KEEPER_WORKER_H

#include <stddef.h>

#include "dkimroll/keeper.h"

/* Borrowed for ever. */
struct keeper_handlers {
  const struct keeper_handler *items;
  size_t count;
  int (*begin)(struct error *error); /* called once as a worker begins; if it fails, no job can be done there. NULL: nothing is needed */
};

/* Runs one job. *ret_result tells how it ended (code 0: done), with a code even if the handler forgot one; reply is emptied on failure. */
void keeper_job_run(const struct keeper_handlers *handlers, enum keeper_job job, struct reader *request,
                    struct buffer *reply, struct error *ret_result);

/* The life of a worker process: one job after the other from descriptor, until the supervisor closes its end. Returns the process's
 * exit status. */
int keeper_worker_run(int descriptor, const struct keeper_handlers *handlers);

#endif
