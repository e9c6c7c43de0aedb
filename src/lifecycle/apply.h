/* What the parts of lifecycle_apply share. Internal to src/lifecycle. */
#ifndef DKIMROLL_APPLY_H
#define DKIMROLL_APPLY_H

#include "dkimroll/lifecycle.h"

struct application {
  struct lineage *lineage;
  struct key *key; /* NULL: the outcome is about none that exists */
  const struct outcome *outcome;
  const struct error *failure; /* NULL: it succeeded */
  int64_t now;
  struct event_list *events;
};

int application_note(struct application *a, const struct key *key, const char *kind, const char *reason, struct error *error);
/* Completes the event that was noted last by the names of the states; from NULL: none. One that memory is missing for leaves the list again. */
int application_name_states(struct application *a, const char *from, const char *to, struct error *error);
/* The one setter of a key's state: from, to and why go into the event log. */
int application_set_state(struct application *a, struct key *key, enum key_state to, const char *reason, struct error *error);
/* A copy of text, which may be NULL, takes the place of what was owned there. */
int application_replace_text(char **place, const char *text, struct error *error);
/* lineage_add_key for one that comes to life. ERROR_LIMIT: LINEAGE_KEYS_MAX are alive; ERROR_NO_MEMORY. Nothing was changed then. */
int application_add_key(struct lineage *lineage, struct key **ret_key, struct error *error);

/* Takes the reports over into the key's placements (placements.c). */
int placements_take(struct application *a, struct error *error);
/* After a failure: placements of signers that are gone from the policy are given up with an alarm. */
int placements_give_up(struct application *a, struct error *error);
/* The placements of a new key, one for each signer. */
int placements_reserve(const struct lineage *lineage, struct key *key, struct error *error);

/* Proofs and repairs (proof.c): before and after a report is taken over, and what success and failure mean. */
int proof_note(struct application *a, struct placement *placement, const struct placement_report *report, struct error *error);
void proof_take(struct application *a, const struct placement_report *report, struct placement *placement);
/* Until then nobody knew what a signer signs with: mail of older keys may be as young as that, and their entries may be back. */
void proof_extend_windows(struct application *a, const struct policy_signer *signer, int64_t at);
void proof_succeed(struct application *a);
void proof_reset(struct application *a);
int proof_fail(struct application *a, struct error *error);
const char *proof_find_missing(const struct application *a);

/* Emergencies (emergency.c): what is still to be said when the successor of a compromised key signs (or nothing does), when its record is revoked, and when every server
 * says so. */
int emergency_note_connections(struct application *a, struct key *key, int64_t since, struct error *error);
int emergency_note_exposure(struct application *a, const struct key *key, bool signed_once, struct error *error);
int emergency_note_end(struct application *a, const struct key *key, struct error *error);
/* The private key file of a key that waits to take over, as the keeper saw it at a signer. */
int emergency_take_file(struct application *a, struct placement *placement, const struct placement_report *report, struct error *error);

/* One round of observation (sightings.c). */
int sightings_take(struct application *a, struct error *error);
void sightings_drop(struct key *key);
void sightings_describe_wrong(const struct key *key, char *buffer, size_t size);

#endif
