/* What the tests of outcomes share: one lineage, and how an outcome is refused or fails its step. */
#ifndef APPLY_RIG_H
#define APPLY_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/text.h"
#include "dkimroll/timing.h"
#include "lineage_builder.h"

static const int64_t now = BUILDER_NOW;

static inline int begin(void **state) {
  static struct builder builder;
  builder_begin(&builder);
  *state = &builder;
  return 0;
}
static inline int end(void **state) {
  builder_end(*state);
  return 0;
}

static inline struct key *key_at(struct builder *builder, size_t index) { return &builder->lineage.keys[index]; }

/* The outcome is taken over, and is the failure of its step. */
static inline void expect_incomplete(struct builder *builder, const struct outcome *outcome, const char *why) {
  const unsigned failures = key_at(builder, outcome->key)->failures;
  const enum key_state before = key_at(builder, outcome->key)->state;
  builder_apply(builder, outcome);
  assert_int_equal(key_at(builder, outcome->key)->failures, failures + 1);
  const char *failure = key_at(builder, outcome->key)->failure;
  if (!strstr(failure, why)) fail_msg("\"%s\" does not say \"%s\"", failure, why);
  assert_true(key_at(builder, outcome->key)->state == before);
}

static inline void expect_contradiction(struct builder *builder, const struct outcome *outcome, const char *why) {
  struct lineage *lineage = &builder->lineage;
  const size_t events = builder->events.count, keys = lineage->key_count;
  assert_int_equal(lifecycle_apply(lineage, outcome, now, &builder->events, &builder->error), ERROR_INTERNAL);
  if (!strstr(builder->error.message, why)) fail_msg("\"%s\" does not say \"%s\"", builder->error.message, why);
  assert_true(builder->events.count == events && lineage->key_count == keys && lineage->failures == 0);
}

#endif
