/* Gates: what must hold before a step, as rows with names. Internal to src/lifecycle. */
#ifndef DKIMROLL_GATES_H
#define DKIMROLL_GATES_H

#include "dkimroll/lifecycle.h"

/* What a gate may look at. */
struct gate_view {
  const struct lineage *lineage;
  const struct key *key;    /* the one the step is about; NULL for one that does not exist yet */
  const struct key *active; /* NULL: none */
  enum plan_action action;  /* of the step */
  int64_t opens;            /* when the gates before are open, as far as they know; TIME_NEVER */
  size_t coming;            /* keys on their way to being active */
  const struct plan_clock *clock;
};

/* true: open. false: fills in reason's text and the moment it opens; TIME_NEVER: something else than time must open it. */
typedef bool gate_test(const struct gate_view *view, struct plan_reason *reason);

struct gate {
  const char *name;
  gate_test *test;
  bool applies; /* closed: the step is not on this key's way at all, rather than waiting */
};

/* A step is possible in one state and held back by its gates, in the order in which they make sense to a reader. The list ends with NULL. */
struct step {
  enum key_state state;
  enum plan_action action;
  const struct gate *gates;
};

/* Calendar of the policy (gates_calendar.c). */
gate_test gate_freeze, gate_window;
/* Waves (gates_wave.c). */
gate_test gate_wave_runs, gate_run_room, gate_caught_up;
/* Emergencies pass the bounds of waves, and so does a person who asks: a rotation by hand is the best probe of a stopped wave. */
bool wave_is_passed(const struct lineage *lineage);

extern const struct step plan_steps[];
extern const size_t plan_step_count;
extern const struct step plan_new_key;

/* Gates that stand in files of their own (gates_emergency.c). */
gate_test gate_compromised, gate_given_up, gate_not_given_up, gate_not_compromised, gate_lost_for_good, gate_signs_nowhere, gate_now_asked, gate_no_standby,
    gate_exposed;

/* Closed until opens, with what and the moment as the reason. */
bool gate_time(const struct gate_view *view, struct plan_reason *reason, int64_t opens, const char *what);
bool gate_closed(struct plan_reason *reason, int64_t opens, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Whether a key in that state may have an outcome of that action. */
bool plan_step_exists(enum key_state state, enum plan_action action);
/* Whether the step is on the way of keys[key] as it is now, due or not. */
bool plan_step_applies(const struct lineage *lineage, size_t key, enum plan_action action, int64_t now);

/* On its way out: retired, or given up, or not published and not wanted by the policy any more. Nothing that signs waits for it. */
bool key_is_leaving(const struct lineage *lineage, const struct key *key);
/* Whether the policy still asks for a key of this kind. */
bool key_is_wanted(const struct lineage *lineage, const struct key *key);
/* Whether some server may hold the record of key, which is KEY_GENERATED: its publication was begun. */
bool key_may_be_served(const struct key *key);
/* A key that needs the same private key file longer than key does; NULL: none. */
const struct key *key_sharing_file(const struct lineage *lineage, const struct key *key);
/* Whether a message was seen to be signed with key at its placement i, and at signer. */
bool placement_was_seen(const struct key *key, size_t i);
bool key_was_seen_at(const struct key *key, const struct policy_signer *signer);
/* Whether signer may sign with key, which is not active, as long as it was not seen to sign with another one since; by its placement i, and by any. */
bool placement_may_sign_at(const struct key *key, size_t i, const struct policy_signer *signer);
bool key_may_sign_at(const struct key *key, const struct policy_signer *signer);
/* Whether key is proved in the tables of every signer of lineage. */
bool key_is_placed(const struct lineage *lineage, const struct key *key);
/* Whether the placement is one at a signer that the domain has now. */
bool placement_is_current(const struct lineage *lineage, const struct placement *placement);

/* The failure that a key remembers, and that the lineage shows, begins with the step that failed, and these read that. */
void failure_describe(enum plan_action action, const struct key *key, const struct error *error, char *buffer, size_t size);
/* The key that the failure is about; NULL: none, or it is gone. */
const struct key *failure_key(const struct lineage *lineage);
/* Whether that step is what the key failed at last. */
bool key_failed_at(const struct key *key, enum plan_action action);
/* A look at its servers: such a failure counts apart (look_failures). */
bool action_is_look(enum plan_action action);
bool key_failed_at_look(const struct key *key);
/* Whether something else stands as the key's failure, whose place a look that failed must not take: the look that succeeds afterwards would make an end of both, and that step would begin its back-off anew. */
bool key_hides_looks(const struct lineage *lineage, const struct key *key, int64_t now);
void key_forget_failure(struct key *key);
void key_forget_look_failure(struct key *key);
/* What the lineage shows; its keys remember theirs. */
void failure_forget_shown(struct lineage *lineage);
/* The key's, also where the lineage shows it. */
void failure_forget(struct lineage *lineage, struct key *key);
/* Whether that step is still to be done, so that its failure still matters. */
bool key_failure_matters(const struct lineage *lineage, const struct key *key, int64_t now);
/* Whether what the lineage shows is still so. */
bool failure_matters(const struct lineage *lineage);

#endif
