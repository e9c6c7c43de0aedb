/* Tells others what happens, beside the log: writes the metrics and calls the hooks, while an engine runs and at its end. Nothing of it can hold the engine up, and
 * no failure of it is one of the command: the log says it. */
#ifndef DKIMROLL_TELLER_H
#define DKIMROLL_TELLER_H

#include "dkimroll/session.h"

enum {
  TELLER_SOON_MS = 30 * 1000,      /* after something happened: what a graph shows need not be newer, and a wave of a thousand keys is one look */
  TELLER_ANYWAY_MS = 5 * 60 * 1000, /* looks at servers are no events; Prometheus forgets what is older than five minutes, node_exporter does not */
  TELLER_ENDS_MS = 60 * 1000,      /* how long the end of a run waits for hooks; what is left is told by the next one */
  TELLER_LEAVES_MS = 2 * 1000,     /* and that of a daemon's life, after which the next one comes at once, or the host goes down */
  TELLER_SHARE = 20,               /* looking takes at most so small a part of the time, a twentieth, however many domains there are */
};

struct teller;

/* Puts itself between the engine and the listener of setup. Both are borrowed. */
int teller_new(struct session *session, struct engine_setup *setup, struct teller **ret_teller, struct error *error) ERROR_USE_RESULT;
/* The engine is done: what is to be told is told. Hooks are waited for so many milliseconds at most. */
void teller_end(struct teller *teller, const struct engine_summary *summary, int64_t patience);
void teller_free(struct teller *teller); /* NULL is fine */

/* The same for a run that found nothing to do; session has the store open, for reading. */
void teller_nothing_due(struct session *session, int64_t now);

#endif
