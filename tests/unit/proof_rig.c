#include "proof_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

int proof_rig_setup(void **state) {
  builder_setup(state);
  struct builder *builder = *state;
  builder->rules.prove_every = DAY;
  builder->rules.confirm_every = 60 * DAY;
  return 0;
}

struct key *active_key(struct builder *builder) { return builder_key(builder, "a", KEY_ACTIVE, BUILDER_NOW); }

void use_two_signers(struct builder *builder) {
  static const size_t rows[] = {1, 2};
  builder_define_signer(builder, 2, "second", "-2");
  builder->signers[1].key_directory = (char *)"/second/%d";
  builder_use_signers(builder, rows, 2);
}

void apply_proof(struct builder *builder, enum plan_action action, int64_t at, const enum placement_damage *damages, size_t count) {
  struct placement_report reports[KEY_PLACEMENTS_MAX] = {0};
  struct error error = {0};
  struct outcome outcome = {.action = action, .at = at, .placements = reports, .placement_count = count};
  for (size_t i = 0; i < count; i++) {
    reports[i].signer_id = builder->lineage.keys[0].placements[i].signer_id;
    reports[i].damage = damages[i];
    if (damages[i] == DAMAGE_NONE) {
      reports[i].completed_at = at;
      continue;
    }
    error_set(&error, ERROR_PROOF, "it does not sign");
    reports[i].failure = "signer: it does not sign";
    outcome.error = &error;
  }
  builder_apply(builder, &outcome);
}

void prove_one(struct builder *builder, int64_t at, enum placement_damage damage) { apply_proof(builder, PLAN_PROVE, at, &damage, 1); }

void repair_one(struct builder *builder, int64_t at, enum placement_damage damage) { apply_proof(builder, PLAN_REPAIR, at, &damage, 1); }

void expect_rest(const struct builder *builder, int64_t at, int64_t next) {
  const struct plan plan = builder_plan_key(builder, 0, at);
  assert_int_equal(plan.action, PLAN_NONE);
  assert_int_equal(plan.next, next);
}
