/* Publishers: how records get into DNS. An ops table, with rfc2136 for zones that take updates, and command and zonefile for those that take none. */
#ifndef DKIMROLL_PUBLISHER_H
#define DKIMROLL_PUBLISHER_H

#include "dkimroll/error.h"
#include "dkimroll/keeper.h"
#include "dkimroll/loop.h"
#include "dkimroll/observe.h"
#include "dkimroll/policy.h"
#include "dkimroll/selector.h"
#include "dkimroll/transport.h"

enum {
  PUBLISH_ITEMS_MAX = 2000,    /* of one operation: twenty full messages, seconds of work at the slowest server that was measured */
  PUBLISH_MESSAGE_MAX = 60000, /* octets of an update before TSIG; the whole must fit 65,535 with room for long owner names */
  PUBLISH_RECORDS_MAX = 100,   /* of one message: both servers are near their best there (docs/architecture.md) */
};

enum publish_change {
  PUBLISH_ADD = 1,     /* prerequisite: no TXT RRset and no CNAME at the name; adds the record */
  PUBLISH_REPLACE = 2, /* prerequisite: exactly record_before is the TXT RRset; deletes it and adds record in one message (RFC 2136 3.4). Where somebody
                          else has removed it, as ADD; a publisher without prerequisites replaces all the same */
  PUBLISH_DELETE = 3,  /* prerequisite: exactly record_before; deletes that very RDATA (2.5.4) */
  PUBLISH_ATTEST = 4,  /* changes nothing: one signed look at name, for result->attested; neither record nor record_before */
};

struct publish_item {
  enum publish_change change;
  const char *name;          /* owner name of the record: <selector>._domainkey.<domain> */
  const char *record;        /* TXT content afterwards; NULL for DELETE */
  const char *record_before; /* TXT content before; NULL for ADD */
  const char *record_also;   /* DELETE: what may stand there instead (before or after a revocation), and goes as well; NULL: nothing */
  uint32_t ttl;              /* seconds */
  const char *zone;          /* known or explicit zone; NULL: discovered */
  const char *owner;         /* where the record really lives (behind aliases), as observed; NULL: name */
  const char *primary_server;       /* "address:port" of the primary if known; NULL: publisher->server, or the zone's MNAME */
};

struct publish_result {
  struct error error;
  bool already;          /* the wanted state held before: nothing was sent */
  bool attested;         /* the server sent a reply whose TSIG was verified within its fudge (RFC 8945 5.2.3) during this operation: its clock and
                            ours agree. Also with an error. Always false for an unsigned publisher */
  bool clock_known;      /* a reply whose TSIG was right told the server's time, also one that is too far from ours ... */
  int64_t clock_skew;    /* ... by how many seconds it was ahead of ours, when the reply came */
  int64_t completed_at;  /* wall seconds of the read-back that showed it, 0 on error */
  char zone[DNS_NAME_TEXT_SIZE];
  char owner[DNS_NAME_TEXT_SIZE];
  char primary_server[ADDRESS_TEXT_SIZE];
  /* Of a zone that had to be discovered, in seconds, at most (RFC 2308 5), and of the aliases on the way there; 0: none or unknown. */
  int64_t ttl_negative;
  int64_t ttl_alias;
};

typedef void publisher_done(void *context, const struct publish_result *results, size_t count);

struct publisher;
struct publish_operation;

struct publisher_ops {
  /* Brings items (borrowed until done) into DNS: grouped by server and zone into few messages, read back from the primary after NOERROR. Idempotent: where the
   * wanted state holds already it is a success, also when a reply was lost. Results are per item. done comes once, later, at the latest at deadline
   * (boottime, milliseconds). Codes: ERROR_CONFLICT: something else stands at the name; ERROR_REFUSED: the server said no (key, ACL,
   * zone not dynamic: the message tells which, with the remedy); ERROR_TIMEOUT, ERROR_UNREACHABLE: the server; ERROR_NOT_FOUND: no zone. */
  int (*start)(struct publisher *publisher, const struct publish_item *items, size_t count, int64_t deadline,
               publisher_done *done, void *context, struct publish_operation **ret_operation, struct error *error);
  void (*cancel)(struct publisher *publisher, struct publish_operation *operation);
  void (*destroy)(struct publisher *publisher);
};

/* What the store knows, for publishers that write all records of a zone at once. */
struct publisher_source {
  /* Calls take for each record of a living key that was published through a publisher of that name, or adopted, and lives in zone. An adopted one may stand elsewhere in
   * the zone, where it does no harm twice; left out it would be missing where a lost store was made again, and the fragment is lost, too. An error of take ends it and comes back. */
  int (*records)(void *context, const char *publisher, const char *zone, int (*take)(void *take_context, const char *owner, uint32_t ttl, const char *record),
                 void *take_context, struct error *error);
  void *context;
};

struct publisher {
  const struct publisher_ops *ops;
  const struct publisher_source *source; /* set by the owner, who outlives it; NULL: it knows of nothing but its items */
};

int publisher_start(struct publisher *publisher, const struct publish_item *items, size_t count, int64_t deadline,
                    publisher_done *done, void *context, struct publish_operation **ret_operation, struct error *error)
    ERROR_USE_RESULT;
void publisher_cancel(struct publisher *publisher, struct publish_operation **operation);
void publisher_destroy(struct publisher *publisher);

/* RFC 2136 with TSIG over transport. Loads publisher->tsig_file at once (its errors come from here). policy is borrowed. */
int publisher_rfc2136_new(struct loop *loop, struct transport *transport, struct entropy *entropy,
                          const struct policy_publisher *policy, struct publisher **ret_publisher, struct error *error)
    ERROR_USE_RESULT;

/* Items of one operation that make sense for that publisher, at most PUBLISH_ITEMS_MAX; 0: any number. And seconds that its operation may take; 0: as any. */
size_t publisher_batch_maximum(const struct policy_publisher *policy);
int64_t publisher_seconds(const struct policy_publisher *policy);

/* Those whose zones take no updates: a tool of somebody's is run for each change (dkimroll-policy(5) has its contract), or a fragment of the zone is written and the name server told. There are no
 * prerequisites, and no primary to ask. So both look at the zone's servers: before, whether what a prerequisite would ask for holds at every server that answers, and afterwards, within policy->wait, until one shows
 * the change. The rest of the servers are for the rounds of confirmation. Between the look and the change somebody else may have changed the name: that is where I3 and I4 are weaker than with rfc2136.
 * runner and observer are borrowed. */
int publisher_command_new(struct loop *loop, struct keeper *runner, struct observer *observer, const struct policy_publisher *policy,
                          struct publisher **ret_publisher, struct error *error) ERROR_USE_RESULT;
int publisher_zonefile_new(struct loop *loop, struct keeper *runner, struct observer *observer, const struct policy_publisher *policy,
                           struct publisher **ret_publisher, struct error *error) ERROR_USE_RESULT;

/* Whether items can be started at all: ERROR_INVALID, ERROR_LIMIT. For implementations. */
int publish_items_check(const struct publish_item *items, size_t count, struct error *error) ERROR_USE_RESULT;

#endif
