/* What a server's no means: every rcode of RFC 2136 and every TSIG error of RFC 8945 as an error with its remedy, and what to do next. */
#ifndef DKIMROLL_UPDATE_ERROR_H
#define DKIMROLL_UPDATE_ERROR_H

#include <stdbool.h>
#include <stdint.h>

#include "dkimroll/error.h"
#include "dkimroll/tsig.h"

/* What a reply said. */
struct update_answer {
  bool update; /* to an UPDATE, not to a query */
  unsigned rcode;
  struct tsig_answer tsig; /* not present without a key */
};

/* Where it was said, for the text. */
struct update_place {
  const char *server; /* "192.0.2.53:53" */
  const char *zone;
  const char *name;           /* owner name of one record that it was about */
  const struct tsig_key *key; /* NULL: unsigned */
  int64_t now;                /* UTC seconds */
};

enum update_reaction {
  UPDATE_FINAL = 1, /* this item cannot succeed before a person acted */
  UPDATE_SPLIT =
      2, /* one record may have spoiled the message: look again and send fewer together; final for a record alone, and for a query */
  UPDATE_REREAD = 3, /* a prerequisite failed: look again, send fewer together, a few times when alone */
  UPDATE_RETRY = 4,  /* may pass: wait, look again, send fewer together, a few times when alone */
};

/* Whom it concerns. */
enum update_scope { UPDATE_OF_RECORD = 1, UPDATE_OF_ZONE = 2, UPDATE_OF_SERVER = 3 };

struct update_verdict {
  enum update_reaction reaction;
  enum update_scope scope;
  struct error error;
};

/* For every reply that is not a verified NOERROR (or NXDOMAIN to a query). */
void update_error_explain(const struct update_answer *answer, const struct update_place *place,
                          struct update_verdict *ret_verdict);

#endif
