/* One question to one of several addresses: UDP with EDNS, repeated, TCP after truncation, until a usable answer or the
 * deadline. */
#ifndef DKIMROLL_ASK_H
#define DKIMROLL_ASK_H

#include "dkimroll/entropy.h"
#include "dkimroll/error.h"
#include "dkimroll/loop.h"
#include "dkimroll/message.h"
#include "dkimroll/transport.h"

enum {
  ASK_ADDRESSES_MAX = 4 /* of one question: more silent servers than that tell nothing new, and each costs its time */
};

/* What asking needs; borrowed by every ask. */
struct asker {
  struct loop *loop;
  struct transport *transport;
  struct entropy *entropy;
};

/* Will that answer do? false with *error filled in: it will not, and the next address is asked. */
typedef bool ask_usable(void *context, const struct message *message, struct error *error);
/* Told after every attempt at an address; result->code 0: it answered, whatever it said. */
typedef void ask_tried(void *context, const struct address *address, const struct error *result);

/* Everything is copied. Addresses take turns, so that a dead one costs one attempt and not all of them. */
struct ask_request {
  const struct address *addresses; /* the first ASK_ADDRESSES_MAX of them */
  size_t address_count;
  const char *name;
  uint16_t type;
  bool recursion_desired; /* else DO is set: signed zones answer with RRSIG and NSEC */
  bool tcp_at_last;       /* after the UDP attempts one more over TCP: a firewall may let only that through */
  unsigned attempts;      /* UDP, for each address */
  int64_t attempt_ms;
  int64_t deadline;   /* boottime, milliseconds */
  ask_usable *usable; /* NULL: every answer will do */
  ask_tried *tried;   /* NULL: nobody wants to know */
};

/* Borrowed during the call. */
struct ask_answer {
  const struct message *message;
  const uint8_t *octets; /* the same as it came */
  size_t size;
};

/* answer: NULL on error. Codes: ERROR_TIMEOUT, ERROR_UNREACHABLE, ERROR_NO_ROUTE, ERROR_PROTOCOL, those of ask_failed_here, or what usable said;
 * the message begins with the address. */
typedef void ask_done(void *context, const struct ask_answer *answer, const struct error *error);

/* The failure is one of this host, which could not ask or had no room for the answer (ERROR_NO_MEMORY, ERROR_SYSTEM): it says nothing of any server. */
bool ask_failed_here(const struct error *error);

struct ask; /* valid until done or cancelled */

/* context is given to usable, tried and done; done comes once and later. */
int ask_start(const struct asker *asker, const struct ask_request *request, ask_done *done, void *context,
              struct ask **ret_ask, struct error *error) ERROR_USE_RESULT;
/* done will not be called. NULL is fine. */
void ask_cancel(struct ask **ask);

#endif
