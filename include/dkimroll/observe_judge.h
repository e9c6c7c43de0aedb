/* What one server's answer means. Internal to src/dns/observe*.c. */
#ifndef DKIMROLL_OBSERVE_JUDGE_H
#define DKIMROLL_OBSERVE_JUDGE_H

#include "dkimroll/message.h"
#include "dkimroll/observe.h"

enum { OBSERVE_TEXTS_MAX = 16 /* TXT RRs at one name that are told apart; more are only counted */ };

struct observe_text {
  char *octets; /* owned; NULL: RDATA that is no TXT */
  size_t size;
};

enum observe_signature {
  OBSERVE_SIGNATURE_NONE = 0,
  OBSERVE_SIGNATURE_FOREIGN = 1, /* not by the zone */
  OBSERVE_SIGNATURE_EXPIRED = 2,
  OBSERVE_SIGNATURE_EARLY = 3, /* not valid yet */
  OBSERVE_SIGNATURE_VALID = 4, /* as far as can be told without its key */
};

/* One answer, boiled down. */
struct observe_finding {
  bool usable; /* authoritative and NOERROR or NXDOMAIN */
  unsigned rcode;
  bool authoritative;
  struct observe_text *texts;     /* owned, sorted: servers rotate RRsets */
  size_t text_count;              /* all of them; texts holds OBSERVE_TEXTS_MAX at most */
  char alias[DNS_NAME_TEXT_SIZE]; /* target of a CNAME at the name; "" none */
  int64_t ttl;                    /* of the TXT, -1 none */
  int64_t ttl_negative;           /* of the SOA in AUTHORITY, -1 none */
  int64_t ttl_largest; /* of anything that a cache keeps for the name: TXT, CNAME, DNAME, NSEC, NSEC3; -1 none */
  enum observe_signature signature; /* the best RRSIG over the TXT */
};

/* owner: what was asked for, in zone. wall: UTC seconds. ERROR_NO_MEMORY. Caller releases. */
int observe_find(const struct message *message, const char *owner, const char *zone, int64_t wall,
                 struct observe_finding *ret_finding, struct error *error) ERROR_USE_RESULT;
void observe_finding_release(struct observe_finding *finding);

/* The verdict on a finding, and its text in server->answer. is_signed: the zone is. SURVEY is judged with
 * observe_same. */
void observe_judge(const struct observe_finding *finding, enum observe_kind kind, const struct observe_item *item,
                   bool is_signed, struct observe_server *server);
/* Do both names get the same answer? */
bool observe_same(const struct observe_finding *a, const struct observe_finding *b);
/* "NXDOMAIN", "2 TXT records", "v=DKIM1; ...". */
void observe_describe(const struct observe_finding *finding, char buffer[OBSERVE_ANSWER_TEXT_MAX]);

#endif
