/* What the tests of the planner expect of a plan, mostly one key's; each fails the test where it is otherwise. */
#ifndef PLAN_EXPECT_H
#define PLAN_EXPECT_H

#include "lineage_builder.h"

/* Key `index` waits at `at` with action, held back by gate (and maybe others) until opens. */
void expect_closed(const struct builder *builder, size_t index, int64_t at, enum plan_action action, const char *gate,
                   int64_t opens);
void expect_action(const struct builder *builder, size_t index, int64_t at, enum plan_action action);
/* A gate that time opens: closed one second before. */
void expect_opens(const struct builder *builder, size_t index, enum plan_action action, const char *gate,
                  int64_t opens);

/* Of all keys, what comes first at BUILDER_NOW. selector NULL: whatever key it is done with. */
void expect_choice(const struct builder *builder, enum plan_action action, const char *selector);

/* Every server of the key was seen at `at`, right or not. */
void expect_seen(struct key *key, bool right, int64_t at);

/* The lineage is held from now on; it backs off after a failure of that step. */
void expect_hold(struct builder *builder, int64_t until);
void expect_back_off(struct builder *builder, enum plan_action action, const char *selector, int64_t until);
void expect_no_back_off(struct builder *builder);

#endif
