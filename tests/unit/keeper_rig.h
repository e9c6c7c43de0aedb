/* A keeper whose handlers show what becomes of jobs and of processes, a loop that it is connected to, and what each job ended with. */
#ifndef DKIMROLL_TESTS_KEEPER_RIG_H
#define DKIMROLL_TESTS_KEEPER_RIG_H

#include <sys/types.h>

#include "dkimroll/keeper.h"
#include "workplace.h"

enum { PATIENCE = 30000 }; /* milliseconds after which something that should happen never will */

enum test_job {
  JOB_ECHO = 100,      /* answers with its request */
  JOB_FAIL = 101,      /* an error with everything that an error can carry */
  JOB_FAIL_MUTE = 102, /* a code and nothing else */
  JOB_DIE = 103,       /* kills its worker */
  JOB_WAIT = 104,      /* opens a fifo, which takes until somebody opens it for writing; then makes a file, if a second path is given */
  JOB_OPEN = 105,      /* opens a fifo for writing */
  JOB_IDENTIFY = 106,  /* tells about its process */
  JOB_TOO_LARGE = 107, /* a reply that is over the maximum */
};

enum { RIG_HANDLERS = 9, OUTCOMES_MAX = 1024 };

/* Of the jobs above, and of KEEPER_GENERATE, which waits as JOB_WAIT does. */
extern const struct keeper_handler rig_handlers[RIG_HANDLERS];

/* What JOB_IDENTIFY answers. */
struct identity {
  pid_t worker;
  pid_t supervisor;
  mode_t mask;
  int dumpable;
  size_t descriptors; /* open ones from 3 on */
};

/* What became of one job. */
struct outcome {
  struct loop *loop;
  unsigned times; /* that done came */
  struct error error;
  struct buffer reply;
};

struct fixture {
  struct workplace workplace;
  struct loop *loop;
  struct keeper *keeper;
  pid_t supervisor;
  /* Here and not in the test function, which a failure leaves before the keeper is destroyed. */
  struct outcome outcomes[OUTCOMES_MAX];
  size_t outcome_count;
};

int keeper_rig_setup(void **state);
int keeper_rig_teardown(void **state);
/* For a whole group: what is written to a process that is gone is an error, and a group that hangs comes to its end. */
int keeper_rig_group(void **state);

/* The processes alone; returns the supervisor. */
pid_t start_processes(unsigned workers, int *ret_descriptor);
/* Those and a loop that is connected to them. */
void start_keeper(struct fixture *fixture, unsigned workers);

struct outcome *new_outcome(struct fixture *fixture);
/* The done of every job; context is its outcome. */
void take_outcome(void *context, const struct error *result, const uint8_t *reply, size_t reply_size);
void submit_job(struct fixture *fixture, enum test_job job, const struct buffer *payload, int64_t deadline, struct outcome *outcome);
void submit_text(struct fixture *fixture, enum test_job job, const char *text, struct outcome *outcome);
/* A JOB_WAIT; file may be NULL. */
void submit_wait(struct fixture *fixture, const char *fifo, const char *file, int64_t deadline, struct outcome *outcome);
/* For loop_at and loop_defer. */
void end_loop(void *loop);
/* Runs the loop until done came for that outcome. */
void wait_for_outcome(struct fixture *fixture, struct outcome *outcome);
/* The same, and it ended with that code. */
void assert_ended(struct fixture *fixture, struct outcome *outcome, int code);
/* One job from its beginning to its end, which has that code. */
struct outcome *run_job(struct fixture *fixture, enum test_job job, const char *text, int code);
void assert_echo_works(struct fixture *fixture);
struct identity identify(struct fixture *fixture);

/* Caller frees the path. */
char *make_fifo(const struct fixture *fixture, const char *name);
/* Lets a JOB_WAIT that waits at fifo go on; returns only when it does wait. */
void release_fifo(const char *fifo);

#define TEST(function) cmocka_unit_test_setup_teardown(function, keeper_rig_setup, keeper_rig_teardown)

#endif
