/* Questions of zone discovery: asked once for all searches that want to know, answers kept for a while, a bounded
 * number in flight, silent servers asked last. Internal to src/dns/zone*.c. */
#ifndef DKIMROLL_ZONE_QUESTION_H
#define DKIMROLL_ZONE_QUESTION_H

#include <sys/queue.h>

#include "dkimroll/ask.h"
#include "dkimroll/zone_source.h"

enum {
  ZONE_BUCKETS = 1024,
  ZONE_TROUBLES = 256,    /* addresses remembered as silent; a collision only forgets one */
  ZONE_TROUBLE_MS = 2000, /* how long a silent server is asked after the others */
  ZONE_TROUBLE_ATTEMPTS =
      8, /* attempts in vain, with no answer to anything in between, after which it is not asked meanwhile */
  ZONE_TROUBLE_LONGEST_MS = 60000, /* for a resolver the pause doubles up to this: all that wait for it fail at once, and few ask */
};

/* Who is asked. */
enum zone_role {
  ZONE_ROLE_RESOLVER = 1, /* RD=1 */
  ZONE_ROLE_GIVEN = 2,    /* publisher->servers, or publisher->server */
  ZONE_ROLE_SERVERS = 3,  /* servers of a zone, as they were found */
};

struct zone_inquiry {
  enum zone_role role;
  const char *zone; /* ZONE_ROLE_SERVERS: whose servers; else "" */
  const char *name;
  uint16_t type;
  bool keep; /* the answer is of use to other searches */
  const struct address *addresses;
  size_t address_count;
};

/* message is borrowed during the call, NULL on error. */
typedef void zone_told(void *context, const struct message *message, const struct error *error);

/* One who waits for an answer. */
struct zone_wait {
  struct zone_question *question; /* NULL: waits for nothing */
  zone_told *told;
  void *context;
  TAILQ_ENTRY(zone_wait) next;
};
TAILQ_HEAD(zone_waits, zone_wait);

struct zone_question {
  struct zone_questions *questions;
  struct zone_source *source;
  enum zone_role role;
  char zone[DNS_NAME_TEXT_SIZE];
  char name[DNS_NAME_TEXT_SIZE];
  uint16_t type;
  bool keep;
  bool linked; /* can be found by others */
  bool busy;   /* those who wait are being told */
  struct address *addresses; /* ASK_ADDRESSES_MAX, owned; NULL once it was asked, because many answers are kept */
  size_t address_count;
  struct ask *ask;
  struct loop_source *telling; /* a deferred call will tell those who wait */
  uint8_t *octets;             /* the answer; NULL: none yet */
  size_t size;
  struct error *failure; /* owned; with telling */
  int64_t until;         /* boottime, milliseconds */
  struct zone_waits waits;
  enum { ZONE_QUESTION_QUEUED = 1, ZONE_QUESTION_ASKED = 2, ZONE_QUESTION_KEPT = 3, ZONE_QUESTION_OVER = 4 } state;
  LIST_ENTRY(zone_question) bucket;
  TAILQ_ENTRY(zone_question) next; /* in the list of its state */
};
TAILQ_HEAD(zone_question_list, zone_question);
LIST_HEAD(zone_bucket, zone_question);

struct zone_trouble {
  struct address address;
  int64_t until;
  unsigned attempts;
  unsigned pauses; /* of a resolver that was left out so many times and has not answered since */
  int code;
};

/* Of one finder. */
struct zone_questions {
  struct asker asker;
  struct zone_bucket buckets[ZONE_BUCKETS];
  struct zone_question_list queued, asked, kept, over;
  size_t asked_count, kept_count;
  struct zone_trouble troubles[ZONE_TROUBLES];
};

void zone_questions_init(struct zone_questions *questions, const struct asker *asker);
/* Nobody may wait any more. */
void zone_questions_release(struct zone_questions *questions);

/* Fills in wait (told and context are the caller's); told comes once, later. Everything is copied. */
int zone_question_ask(struct zone_questions *questions, struct zone_source *source, const struct zone_inquiry *inquiry,
                      struct zone_wait *wait, struct error *error) ERROR_USE_RESULT;
/* told will not be called. Fine for one that waits for nothing. */
void zone_wait_cancel(struct zone_questions *questions, struct zone_wait *wait);

#endif
