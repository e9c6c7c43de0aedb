/* What one server's answer means. Internal to src/dns/observe*.c. */
#ifndef DKIMROLL_OBSERVE_JUDGE_H
#define DKIMROLL_OBSERVE_JUDGE_H

#include "dkimroll/message.h"
#include "dkimroll/observe.h"

/* One answer, boiled down. */
struct observe_finding {
  bool usable;           /* authoritative and NOERROR or NXDOMAIN */
  unsigned rcode;
  size_t text_count;     /* TXT RRs at the name */
  char *text;            /* content of the first, owned */
  size_t text_size;
  bool alias;            /* a CNAME at the name */
  int64_t ttl;           /* of the TXT, -1 none */
  int64_t ttl_negative;  /* of the SOA in AUTHORITY, -1 none */
  int64_t ttl_largest;   /* of anything that a cache keeps for the name: TXT, CNAME, NSEC, NSEC3; -1 none */
  bool has_signature;    /* an RRSIG over the TXT whose validity covers now (RFC 4034 3.1.5) */
  bool has_old_signature; /* there is one, but it is not valid now */
};

/* wall: UTC seconds. ERROR_NO_MEMORY. Caller releases. */
int observe_find(const struct message *message, const char *owner, int64_t wall, struct observe_finding *ret_finding, struct error *error)
    ERROR_USE_RESULT;
void observe_finding_release(struct observe_finding *finding);

/* The verdict on a finding, and its text in server->answer. is_signed: the zone is. */
void observe_judge(const struct observe_finding *finding, enum observe_kind kind, const struct observe_item *item, bool is_signed,
                   struct observe_server *server);
/* Do both names get the same kind of answer? */
bool observe_same(const struct observe_finding *a, const struct observe_finding *b);
/* "NXDOMAIN", "2 TXT records", "v=DKIM1; ...". */
void observe_describe(const struct observe_finding *finding, char buffer[OBSERVE_ANSWER_TEXT_MAX]);

#endif
