/* The proof: does the signer sign as it should? Messages from given senders go through its milter socket, and the
 * DKIM-Signature that comes back is verified against the key record that the name servers serve. No message is ever
 * delivered. A new connection is what makes OpenDKIM read its tables after a reload. */
#ifndef DKIMROLL_PROVE_H
#define DKIMROLL_PROVE_H

#include <stddef.h>
#include <stdint.h>

#include "dkimroll/connector.h"
#include "dkimroll/entropy.h"
#include "dkimroll/error.h"
#include "dkimroll/milter.h"

enum {
  PROVE_MESSAGES_MAX = 5000 * 64, /* SIGNER_ITEMS_MAX domains with POLICY_SENDERS_MAX senders */
  PROVE_RETRY_MS_MIN = 20,        /* a signal takes less to arrive, as a rule */
  PROVE_RETRY_MS_MAX = 1000,
};

enum prove_verdict {
  PROVE_PENDING = 0,
  PROVE_SIGNED = 1, /* by the expected key, verified, and by no other that is not expected */
  PROVE_BEFORE = 2, /* (also) by the key that signed until now: the signer has not read its tables yet, or refuses to */
  PROVE_OTHER_SELECTOR = 3, /* of the same domain */
  PROVE_OTHER_DOMAIN = 4,
  PROVE_UNSIGNED = 5,
  PROVE_TEMPFAILED = 6,
  PROVE_REJECTED = 7,
  PROVE_DISCARDED = 8,
  PROVE_NO_ANSWER = 9,      /* the connection failed: refused, closed, timeout, protocol; or there was no memory */
  PROVE_BAD_SIGNATURE = 10, /* d= and s= are right, but no receiver would accept it */
  PROVE_TOO_MANY = 11,      /* the expected signature is good, but there are others that nobody can expect */
};

/* One sender to prove. Strings are borrowed until done. */
struct prove_message {
  const char *address;  /* From: and envelope sender */
  const char *domain;   /* d= */
  const char *selector; /* s= */
  const char *record;   /* content of the TXT RR of that selector, as the authoritative servers serve it */
  const char *before;   /* selector that signed until now; NULL: none */
  bool others;          /* signatures of other keys may stand beside it (MultipleSignatures) */
  size_t group;         /* whose result it counts for; a group's messages stand together */
};

struct prove_result {
  enum prove_verdict verdict; /* PROVE_SIGNED: all messages of the group */
  struct error
      error; /* else what the signer did with the first message that failed; ERROR_PROOF, or the connection's code */
  int64_t completed_at; /* wall seconds of the last answer, 0: none */
};

/* What was seen of one message. */
struct prove_sight {
  const struct milter_message *message; /* as it was sent */
  const struct milter_answer *answer;   /* with whole DKIM-Signature fields */
  int64_t now;                          /* UTC seconds */
};

/* Judges one sight: PROVE_SIGNED, or another verdict and *ret_error, with the likely cause and its remedy. Pure. */
enum prove_verdict prove_judge(const struct prove_message *expected, const struct prove_sight *sight,
                               struct error *ret_error);

/* Value of a tag of a signature field (RFC 6376 3.2), without white space; false: no such tag, or it does not fit. */
bool prove_signature_tag(const char *signature, const char *tag, char *buffer, size_t size);

struct prove_request {
  const char *milter; /* as in the policy */
  const struct prove_message
      *messages; /* borrowed until done; count 0: only a connection is made, and its options negotiated */
  size_t count;
  size_t group_count;
  int64_t deadline; /* boottime, milliseconds: done comes at the latest then */
  /* The signal of a reload may arrive later than our connection. So what fails is tried again on new connections, with
   * back-off: PROVE_BEFORE, and a busy socket, until patience; all else, which does harm while it lasts, until settle
   * (boottime, milliseconds; past: never again). */
  int64_t patience;
  int64_t settle;
};

struct prove;
/* connection: code 0, or why the last connection failed. results: group_count. Borrowed during the call. */
typedef void prove_done(void *context, const struct error *connection, const struct prove_result *results,
                        size_t count);

/* Starts, by connector and its loop; done comes once, later. Errors: ERROR_CONFIG (milter address), ERROR_LIMIT, ERROR_NO_MEMORY. */
int prove_start(struct connector *connector, struct entropy *entropy, const struct prove_request *request, prove_done *done,
                void *context, struct prove **ret_prove, struct error *error) ERROR_USE_RESULT;
/* Ends it without done. *prove NULL is fine, and is NULL afterwards. Not after done. */
void prove_cancel(struct prove **prove);

#endif
