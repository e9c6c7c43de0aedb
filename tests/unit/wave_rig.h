/* What the tests of waves share: a wave of given limits, and lineages that come to it one after the other. */
#ifndef WAVE_RIG_H
#define WAVE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/text.h"
#include "dkimroll/wave.h"
#include "plan_expect.h"

static const int64_t now = BUILDER_NOW; /* a multiple of ten minutes */

static inline struct wave wave_of(struct policy_limits limits) {
  struct wave wave;
  wave_begin(&wave);
  wave.limits = limits;
  wave_advance(&wave, now);
  return wave;
}

static inline struct plan plan_in(const struct builder *builder, size_t index, int64_t at, struct wave *wave) {
  const struct plan_clock clock = {.wave = wave, .now = at, .attested = true, .skip_watch = true};
  struct plan plan;
  wave_advance(wave, at);
  plan_key(&builder->lineage, index, &clock, &plan);
  return plan;
}

/* Another lineage that wants what builder's wants: its place is its own. */
static inline struct lineage *come(struct builder *builder) {
  builder->lineage.begin_place = builder->lineage.switch_place = TIME_UNSET;
  return &builder->lineage;
}

/* Another lineage of a wave, whose ready key is to take over. */
static inline void next_one(struct builder *builder, int64_t at) {
  builder_end(builder);
  builder_begin(builder);
  builder_key(builder, "a", KEY_ACTIVE, at - BUILDER_LIFE);
  builder_key(builder, "b", KEY_READY, at - DAY);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, builder_setup, builder_teardown)

#endif
