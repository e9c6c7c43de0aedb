/* Actions, as the files sim_actions*.c share them: the words of a line, and who does what they say. One row for each action; README.md lists them for people. */
#ifndef DKIMROLL_TESTS_SIM_ACTIONS_H
#define DKIMROLL_TESTS_SIM_ACTIONS_H

#include "sim.h"

/* One action that is done now. */
struct sim_call {
  struct sim *sim;
  char *words[SIM_WORDS_MAX];
  size_t count;
  char *why; /* where it says why it means nothing */
  size_t size;
};

/* Says why; false, for its caller to return. */
bool sim_call_fail(struct sim_call *call, const char *what);
/* What a word means. false: nothing, and it is said why. */
bool sim_call_domain(struct sim_call *call, const char *word, size_t *ret_domain);
bool sim_call_number(struct sim_call *call, const char *word, const char *prefix, size_t limit, size_t *ret_index); /* "ns1" is 0 */
bool sim_call_duration(struct sim_call *call, const char *word, int64_t *ret_milliseconds); /* also one with a sign */
bool sim_call_percent(struct sim_call *call, const char *word, unsigned *ret_percent);
/* One fault of that kind of sim_fault_kinds more. */
void sim_call_count(struct sim_call *call, const char *kind);
/* The fault lasts for the duration that the word says, and is counted. */
bool sim_call_until(struct sim_call *call, int64_t *until, const char *word, const char *kind);
/* The record that a role means: "signing", the first that is "revoked", or the "newest" or "oldest" of ours that the primary has. SIZE_MAX: none. */
size_t sim_actions_record(struct sim *sim, size_t domain, const struct sim_content *content, const char *role);

/* What a record that somebody edits says from then on. */
#define SIM_EDITED_TEXT "v=DKIM1; k=ed25519; p=bm90IG91cnM="

/* What the disk has had its time for ends. */
void sim_actions_disk_recover(struct sim *sim);

/* The actions of each file, by their first word; the last row has none. */
struct sim_row {
  const char *word;
  bool (*run)(struct sim_call *call);
};
extern const struct sim_row sim_actions_dns[], sim_actions_signers[], sim_actions_host[], sim_actions_operators[], sim_actions_oracle[];

#endif
