/* The nth call fails. Every call of a function that may fail, made by dkimroll's own objects, counts while faults are armed; the nth fails once, as it may in
 * life: out of memory, disk full, too many files, a statement that does not succeed. Libraries and the tests' own helpers call the real functions: the objects of
 * src are linked from a copy of the library in which these names are others (fault_calls.list).
 *
 * A workload is tried with n = 1, 2, 3, ... until it comes through without a failure (FAULTS=all), or with a sample of them (FAULTS=n: that many, chosen by SEED).
 * Of one that says in which situation it is, calls of the same chain of callers in the same situation are one, of which SEED chooses; FAULTS=every tries each call of
 * these too, which can take days. FAULT_SHOW=1 prints every message once; FAULT_N=n tries n alone and says where it failed; FAULT_LEAKS=1 looks for leaks after each. */
#ifndef DKIMROLL_TESTS_FAULT_H
#define DKIMROLL_TESTS_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/error.h"

/* One thing that is done under faults. context is shared by all of its functions. */
struct fault_workload {
  const char *name;
  void *context;
  void (*begin)(void *context);                   /* before each attempt: the old state; without faults; NULL: nothing to do */
  int (*act)(void *context, struct error *error); /* under a fault; as any fallible function */
  /* After each attempt, without faults. whole: act returned 0, so everything has to be done; else it has to be as before, or whole. NULL: nothing to look at. */
  void (*check)(void *context, bool whole);
  void (*end)(void *context); /* undoes begin */
  /* For one that lives long: a number of its present situation, such that a call by the same chain of callers in the same situation is the same once more (a poll
   * that goes on). Called between any two calls: it only reads what is in memory. NULL: every call counts. */
  uint64_t (*situation)(const void *context);
  const char *place;          /* what every message has to contain, such as the path; NULL: nothing certain */
  bool forks;                 /* the call that fails may be one of a process that it forked */
  bool once;                  /* after a failure, act is not tried again without a fault before end */
  bool costly;                /* processes are started at each attempt: the sample is a quarter of the usual one */
};

/* Tries it with every n or a sample, as the environment says; fails the test with n, the function and its caller. */
void fault_each(const struct fault_workload *workload);

/* For cmocka: says after a failed test which attempt it was. */
int fault_teardown(void **state);

/* The bare mechanism: from now on, and until fault_disarm, the nth counted call fails (0: none). */
void fault_arm(unsigned long n);
/* Returns how many calls were counted. */
unsigned long fault_disarm(void);
/* What a model of somebody else does, such as a runner or a person, is no call of the workload: between these two none counts. */
void fault_pause(void);
void fault_go_on(void);
/* The name of the function that failed since fault_arm; NULL: none did. */
const char *fault_fired(void);

#endif
