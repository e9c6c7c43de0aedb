/* A lineage for tests of the lifecycle: rules, publisher, signers and keys in any state, with every earlier fact filled in. */
#ifndef LINEAGE_BUILDER_H
#define LINEAGE_BUILDER_H

#include "dkimroll/lifecycle.h"

enum {
  BUILDER_SIGNERS_MAX = 12, /* versions of signers */
  MINUTE = 60,
  HOUR = 3600,
  DAY = 86400,
  /* What the rules of builder_begin come to. */
  BUILDER_NEGATIVE = 900,                                           /* TTLneg of keys */
  BUILDER_F1 = BUILDER_NEGATIVE + HOUR,                             /* from the first moment at which all servers are right */
  BUILDER_WINDOW = 5 * DAY + 4000 + HOUR + 2 * DAY + HOUR,          /* from retirement to the end of F3: queue, drain, verify, safety */
  BUILDER_TOMBSTONE = 30 * DAY,
  BUILDER_LIFE = 90 * DAY,
};
#define BUILDER_NOW INT64_C(1800000000) /* 2027-01-15 08:00:00 UTC */

struct builder {
  struct policy_key slots[2];
  struct policy_rules rules;
  struct policy_publisher publishers[2];
  struct policy_signer signers[BUILDER_SIGNERS_MAX];
  struct lineage lineage;
  struct event_list events;
  struct error error;
};

/* example.com, slot main, RSA 2048, selector "s%Y%m%d", life 90 days, no proofs but those of a switch, one signer "local" (row 1), publisher row 1, no keys. builder must not move afterwards. */
void builder_begin(struct builder *builder);
void builder_end(struct builder *builder);
/* Both for cmocka: every test begins with a builder of its own as *state. */
int builder_setup(void **state);
int builder_teardown(void **state);
/* Signer version in row `row` (1 to BUILDER_SIGNERS_MAX): name, and a suffix for its tables ("" as at the start). */
void builder_define_signer(struct builder *builder, size_t row, const char *name, const char *tables);
/* These rows are the domain's signers now. */
void builder_use_signers(struct builder *builder, const size_t *rows, size_t count);

/* A key that came into state at since, ideally: two servers (ns1, ns2) right all along. Its selector must be unused. Invalidates key pointers. */
struct key *builder_key(struct builder *builder, const char *selector, enum key_state state, int64_t since);
/* Sets or adds what a server said at the moment at; right: since then (or since before, if it was right). */
void builder_see(struct key *key, const char *host, const char *address, bool right, int64_t at);

/* lifecycle_apply with builder's events (dropped before) and planner's clock at outcome->at. Asserts that it is accepted and that the invariants hold. */
void builder_apply(struct builder *builder, const struct outcome *outcome);
/* A failure of action on key with this error. */
void builder_fail(struct builder *builder, enum plan_action action, size_t key, int64_t at, int code, bool retryable);
/* The reports of one round over ns1 and ns2; answers NULL: right. */
void builder_round(struct builder *builder, enum plan_action action, size_t key, int64_t at, const char *first, const char *second);

/* Plans with an attested clock. */
struct plan builder_plan(const struct builder *builder, int64_t now);
struct plan builder_plan_key(const struct builder *builder, size_t key, int64_t now);
/* The reason of that gate; NULL: none. */
const struct plan_reason *builder_reason(const struct plan *plan, const char *gate);
/* The events' kinds of the last builder_apply, separated by spaces ("failed state"). buffer is overwritten by the next call. */
const char *builder_events(const struct builder *builder);
/* The text of the last event of that kind; fails the test if there is none. */
const char *builder_event_reason(const struct builder *builder, const char *kind);

#endif
