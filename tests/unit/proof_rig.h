/* Proofs and repairs of the first key of a lineage, which signs, for the tests of the planner. */
#ifndef DKIMROLL_TESTS_PROOF_RIG_H
#define DKIMROLL_TESTS_PROOF_RIG_H

#include "plan_expect.h"

/* As builder_setup, with a proof a day, and no look at the servers that is due meanwhile. builder_teardown ends it. */
int proof_rig_setup(void **state);

/* A key "a" that signs since BUILDER_NOW. */
struct key *active_key(struct builder *builder);
void use_two_signers(struct builder *builder);

/* The outcome of a proof or repair with one report for each placement: what is wrong there, DAMAGE_NONE: it signs. */
void apply_proof(struct builder *builder, enum plan_action action, int64_t at, const enum placement_damage *damages, size_t count);
void prove_one(struct builder *builder, int64_t at, enum placement_damage damage);
void repair_one(struct builder *builder, int64_t at, enum placement_damage damage);

/* Nothing is done with the first key at `at`, and it is planned again at next. */
void expect_rest(const struct builder *builder, int64_t at, int64_t next);

#endif
