/* Somebody else has the lease and does the work - a daemon, or a run: what a command that asked for something shows meanwhile, from the store. */
#ifndef DKIMROLL_FOLLOW_H
#define DKIMROLL_FOLLOW_H

#include "dkimroll/session.h"

enum {
  FOLLOW_MS = 100,            /* how often the store is looked at */
  FOLLOW_REQUEST_SECONDS = 10, /* for a request to be carried out; a domain that is in work has to come to the end of its operation first */
  FOLLOW_LEAST_SECONDS = 30,  /* with a budget of nothing: for what is done at once */
};

/* The number of the last event. */
int follow_last_event(struct session *session, int64_t *ret_event, struct error *error) ERROR_USE_RESULT;
/* Prints the events of the operands' domains after that one, until nothing of them is asked for, open or due within so many seconds; or these are over. */
int follow_work(struct session *session, int64_t after, int64_t seconds, struct error *error) ERROR_USE_RESULT;
/* Hands each event after that one, of whatever domain, to listener, until enough says so or so many seconds are over. */
int follow_events(struct session *session, int64_t after, int64_t seconds, engine_listener *listener, bool (*enough)(void *context), void *context,
                  struct error *error) ERROR_USE_RESULT;
/* Waits until no request of the operands' domains is left. *ret_done: there is none. */
int follow_requests(struct session *session, bool *ret_done, struct error *error) ERROR_USE_RESULT;

#endif
