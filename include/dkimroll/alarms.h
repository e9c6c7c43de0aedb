/* What needs a person: told to the hook of that name when it begins, daily while it lasts, and when it is over. The store remembers each, by lineage and kind of finding. */
#ifndef DKIMROLL_ALARMS_H
#define DKIMROLL_ALARMS_H

#include "dkimroll/findings.h"
#include "dkimroll/hooks.h"
#include "dkimroll/lifecycle.h"

enum {
  ALARMS_PATIENCE = 600, /* seconds that something of which nobody knows since when it is wrong must last: a look that failed once is no matter for a person */
  ALARMS_AGAIN = 86400,  /* seconds between two calls for what lasts */
  ALARMS_KINDS_MAX = 16,   /* of one lineage: status knows ten */
  ALARMS_KIND_MAX = 32,    /* octets of such a word */
  ALARMS_GROUPS_MAX = HOOKS_CALLS_MAX - 1, /* different calls of one look; all others are told as a number */
};

struct alarms;

/* Reads what the store remembers; it and hooks are borrowed. */
int alarms_new(struct store *store, struct hooks *hooks, const struct log *log, int64_t now, struct alarms **ret_alarms, struct error *error) ERROR_USE_RESULT;
/* Of one lineage, in any order; problems as status finds them. */
void alarms_add_lineage(struct alarms *alarms, const struct lineage *lineage, const struct findings *problems);
void alarms_add_resource(struct alarms *alarms, const struct store_resource *resource);
/* All were added: stores what is new and calls the hook. Until alarms_are_told the alarms are in use. */
int alarms_finish(struct alarms *alarms, struct error *error) ERROR_USE_RESULT;
bool alarms_are_told(const struct alarms *alarms); /* NULL is fine */
/* Not before the hooks are told or gone. */
void alarms_free(struct alarms *alarms);

/* Forgets all that the store remembers. */
int alarms_forget(struct store *store, struct error *error) ERROR_USE_RESULT;
/* Is one to be told, for the first time or again? */
bool alarms_are_behind(struct store *store, int64_t now);

#endif
