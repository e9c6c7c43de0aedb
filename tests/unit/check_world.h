/* For the tests of `dkimroll check` and `dkimroll prove`: a scripted world of name servers, a primary, a signer and a keeper that do what a test wants. What
 * they do for real is the business of their own tests and of tests/integration. */
#ifndef DKIMROLL_TESTS_CHECK_WORLD_H
#define DKIMROLL_TESTS_CHECK_WORLD_H

#include "cli_desk.h"

#include "dkimroll/check.h"
#include "dkimroll/key_jobs.h"
#include "dkimroll/proof.h"

enum { NAMES_MAX = 5000 };

/* The domains of most tests. */
#define TWO "  example.com:\n  example.org:\n"

/* What the world does, and what was asked of it. */
struct scripted_world {
  struct loop *loop;
  struct key_roots roots;
  struct keeper_handler handlers[KEY_JOBS_COUNT];
  struct observer observer;
  struct publisher publisher;
  struct signer signer;
  struct entropy_seeded entropy;
  bool synchronised, attests;
  const char *one_zone;        /* all domains lie in it; NULL: each in a zone of its own */
  const char *record;          /* that `prove` has to ask for and to verify with; NULL: the command is `check` */
  int64_t seconds;             /* in which the command wants all to be over */
  enum observe_verdict second; /* of ns2 at its IPv4 address; 0: right */
  const char *second_serves;   /* what, if it is not right; NULL: nothing */
  enum observe_verdict third;  /* of ns2 at its IPv6 address; 0: there is none */
  int64_t wildcard_ttl;
  bool no_zone;
  bool interrupt_survey, interrupt_add;
  bool may_cancel; /* a check that cannot go on cancels what it has begun */
  int add_code, delete_code, publisher_code, signer_code, item_code, proof_code;
  int make_signer_code;                /* the signer cannot be made */
  const char *bad_record, *bad_sender; /* messages of this sender, or to be verified with this record, fail, too */
  /* Calls. */
  char observed[NAMES_MAX][DNS_NAME_TEXT_SIZE];
  char added[NAMES_MAX][DNS_NAME_TEXT_SIZE];
  char deleted[NAMES_MAX][DNS_NAME_TEXT_SIZE];
  size_t observed_count, added_count, deleted_count, checked_count, proved_count;
  size_t rounds, slices; /* operations of the observer, and of the signer that proved */
  char senders[256]; /* of the last item that was checked */
  char proved[256];  /* the last selector that was proved */
};

/* A desk whose commands meet that world, where all is right; a test changes what it wants to be otherwise. Domains is that part of the policy, and what
 * may follow it. The world stays the caller's, and is there until the desk's last command. */
void check_world_make(struct scripted_world *world, struct desk *desk, const char *domains);
/* The same for a desk that is there already, with the policy that it has. */
void check_world_wire(struct scripted_world *world, struct desk *desk);
/* A key of the domain signs, and its private key is there; matching: it belongs to the record. */
void make_active(struct desk *desk, const char *domain, bool matching);
/* What check printed ends with that line. */
void assert_verdict(const struct desk *desk, const char *verdict);

#endif
