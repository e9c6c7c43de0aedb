/* Bringing a set of records into the zones of their primaries (RFC 2136): look first, then UPDATE with prerequisites in few messages, then look again until it
 * shows. The work of one publish operation, whose zones are found by someone else (publisher_rfc2136.c). */
#ifndef DKIMROLL_UPDATE_H
#define DKIMROLL_UPDATE_H

#include <stddef.h>
#include <stdint.h>

#include "dkimroll/error.h"
#include "dkimroll/publisher.h"
#include "dkimroll/update_exchange.h"

enum {
  UPDATE_WINDOW =
      TRANSPORT_TCP_PIPELINE_MAX, /* requests in flight at one server; one until it answered for the first time */
  UPDATE_ATTEMPTS_MAX =
      6, /* of one record alone that the server cannot take just now: about 8 s with the pauses between */
  UPDATE_SERVER_ATTEMPTS_MAX = 5, /* of a server that does not answer: 4 s of pauses besides the waiting itself */
  UPDATE_PAUSE_MS = 250,          /* the first of them; doubled each time, with jitter of half of it to either side */
  UPDATE_PAUSE_MAX_MS = 4000,
  UPDATE_CONFIRM_MS =
      15000, /* how long after NOERROR a record may take to show; BIND's inline signing needs up to a second */
  UPDATE_CONFIRM_PAUSE_MS = 20, /* between two looks, growing likewise */
  UPDATE_CONFIRM_PAUSE_MAX_MS = 1000,
};

/* Where an item goes. */
struct update_target {
  const char *zone;
  const char *owner; /* name of the record in that zone */
  struct address server;
};

struct update_run;

/* Called when the last item ended, possibly from inside update_run_add and update_run_fail; the run must not be freed inside. */
typedef void update_run_done(void *context);

/* items and results (count of both, filled in as items end) are borrowed until the run is freed; link->key too. deadline bounds single
 * requests; the caller ends the run with update_run_end. */
int update_run_new(const struct update_link *link, const struct publish_item *items, struct publish_result *results,
                   size_t count, int64_t deadline, update_run_done *done, void *context, struct update_run **ret_run,
                   struct error *error) ERROR_USE_RESULT;
/* Starts the work on one item. */
void update_run_add(struct update_run *run, size_t index, const struct update_target *target);
/* Ends an item that was not added. */
void update_run_fail(struct update_run *run, size_t index, const struct error *error);
/* Ends every open item with what is known about it, and all requests. done follows if an item was open. */
void update_run_end(struct update_run *run);
void update_run_free(struct update_run *run);

#endif
