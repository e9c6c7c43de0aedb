/* One question to one of several addresses: UDP with EDNS, repeated, TCP after truncation, until a usable answer or the deadline. */
#ifndef DKIMROLL_ASK_H
#define DKIMROLL_ASK_H

#include "dkimroll/entropy.h"
#include "dkimroll/loop.h"
#include "dkimroll/message.h"
#include "dkimroll/transport.h"

/* What asking needs; borrowed by every ask. */
struct asker {
  struct loop *loop;
  struct transport *transport;
  struct entropy *entropy;
};

struct ask_request {
  const struct address *addresses; /* tried in order; borrowed until done */
  size_t address_count;
  const char *name; /* borrowed until done */
  uint16_t type;
  bool recursion_desired;
  bool any_rcode;      /* the first answer counts, whatever it says; else only NOERROR and NXDOMAIN, and the next address is asked */
  bool tcp_at_last;    /* after the UDP attempts of an address one more over TCP: a firewall may let only that through */
  unsigned attempts;   /* UDP, for each address */
  int64_t attempt_ms;
  int64_t deadline;    /* boottime, milliseconds */
};

/* message: borrowed during the call, NULL on error. Codes: ERROR_TIMEOUT, ERROR_UNREACHABLE, ERROR_NO_ROUTE, ERROR_PROTOCOL (nothing that could be read),
 * ERROR_REFUSED (an rcode that was not wanted). */
typedef void ask_done(void *context, const struct message *message, const struct address *from, const struct error *error);

struct ask; /* valid until done or cancelled */
int ask_start(const struct asker *asker, const struct ask_request *request, ask_done *done, void *context, struct ask **ret_ask,
              struct error *error) ERROR_USE_RESULT;
void ask_cancel(struct ask **ask);

#endif
