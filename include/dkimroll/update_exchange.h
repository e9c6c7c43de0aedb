/* One request to a primary over TCP and its reply, signed and verified. A reply that is not to be believed never ends the wait by itself (RFC 8945 5.4), but is
 * kept to tell what is wrong. */
#ifndef DKIMROLL_UPDATE_EXCHANGE_H
#define DKIMROLL_UPDATE_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/entropy.h"
#include "dkimroll/error.h"
#include "dkimroll/loop.h"
#include "dkimroll/message.h"
#include "dkimroll/transport.h"
#include "dkimroll/tsig.h"
#include "dkimroll/update_error.h"

enum {
  UPDATE_QUERY_MS = 3000, /* one attempt of a query */
  UPDATE_ATTEMPT_MS =
      10000, /* one attempt of an update, which the server puts on stable storage before it answers (RFC 2136 3.5) */
  UPDATE_DOUBT_MS =
      500, /* once a reply was not believed, how long the true one may still follow it on the same connection */
  UPDATE_TSIG_MAX = 512, /* octets of a TSIG: two names and a MAC of 64 */
};

/* What all exchanges share. */
struct update_link {
  struct loop *loop;
  struct transport *transport;
  struct entropy *entropy;
  const struct tsig_key *key; /* NULL: unsigned, and unsigned replies count */
};

struct update_request {
  const struct address *address;
  uint8_t *octets; /* the message; its id is put in here, a TSIG appended */
  size_t size;
  size_t capacity; /* at least size + UPDATE_TSIG_MAX */
  const struct message_query
      *query; /* what it asks, to match the answer; copied, its name borrowed until done; NULL: an UPDATE */
  int64_t deadline;
};

struct update_reply {
  struct error error; /* code 0: message is a believed reply. Else what the transport said */
  bool doubted;       /* with error: a reply came that was not believed, answer is what it said */
  bool attested;      /* a believed TSIG was within its fudge: our clock is right */
  bool clock_known;   /* a TSIG with a right MAC told the server's time ... */
  int64_t clock_skew; /* ... seconds by which it was ahead of ours */
  struct update_answer answer;
  struct message *message; /* may be taken with TAKE_PTR; NULL with error */
};

/* Once, later; the exchange is gone then. */
typedef void update_exchange_done(void *context, struct update_reply *reply);

struct update_exchange;

/* Signs with the present time. */
int update_exchange_start(const struct update_link *link, const struct update_request *request,
                          update_exchange_done *done, void *context, struct update_exchange **ret_exchange,
                          struct error *error) ERROR_USE_RESULT;
/* Did a reply come that was not believed? For a deadline that ends the wait from outside. */
bool update_exchange_doubted(const struct update_exchange *exchange, struct update_answer *ret_answer);
void update_exchange_cancel(struct update_exchange **exchange);

#endif
