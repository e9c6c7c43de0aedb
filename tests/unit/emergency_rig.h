/* Emergencies of one lineage, for the tests of the planner and the invariants. */
#ifndef DKIMROLL_TESTS_EMERGENCY_RIG_H
#define DKIMROLL_TESTS_EMERGENCY_RIG_H

#include "plan_expect.h"

/* A key whose record every server was just seen to serve, and whose private key was just looked at. */
struct key *emergency_key(struct builder *builder, const char *selector, enum key_state at, int64_t since);
/* An operator says at BUILDER_NOW that somebody else may have it. selector NULL: the key that signs. */
void emergency_compromise(struct builder *builder, const char *selector, bool whole_host, bool at_once);
/* Whether the invariants let this be done with the key at BUILDER_NOW. */
bool emergency_permits(const struct builder *builder, enum plan_action action, size_t key, bool attested);

#endif
