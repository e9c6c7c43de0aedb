#include "plan_expect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/text.h"

void expect_closed(const struct builder *builder, size_t index, int64_t at, enum plan_action action, const char *gate,
                   int64_t opens) {
  const struct plan plan = builder_plan_key(builder, index, at);
  const struct plan_reason *reason = builder_reason(&plan, gate);
  assert_string_equal(plan_action_name(plan.waiting), plan_action_name(action));
  if (!reason) fail_msg("%s waits, but not for %s", plan_action_name(action), gate);
  assert_int_equal(reason->opens, opens);
  assert_true(strlen(reason->text) > 10);
  assert_true(plan.next > at);
}

void expect_action(const struct builder *builder, size_t index, int64_t at, enum plan_action action) {
  const struct plan plan = builder_plan_key(builder, index, at);
  if (plan.action != action)
    fail_msg("%s instead of %s: waits with %s for \"%s\"", plan_action_name(plan.action), plan_action_name(action),
             plan_action_name(plan.waiting), plan.reason_count ? plan.reasons[0].text : "");
  if (action != PLAN_NONE) assert_int_equal(plan.next, at);
}

void expect_opens(const struct builder *builder, size_t index, enum plan_action action, const char *gate,
                  int64_t opens) {
  expect_closed(builder, index, opens - 1, action, gate, opens);
  expect_action(builder, index, opens, action);
}

void expect_choice(const struct builder *builder, enum plan_action action, const char *selector) {
  const struct plan plan = builder_plan(builder, BUILDER_NOW);
  assert_string_equal(plan_action_name(plan.action), plan_action_name(action));
  if (selector) assert_string_equal(builder->lineage.keys[plan.key].selector, selector);
}

void expect_seen(struct key *key, bool right, int64_t at) {
  for (size_t i = 0; i < key->sighting_count; i++) builder_see(key, key->sightings[i].host, key->sightings[i].address, right, at);
}

void expect_no_back_off(struct builder *builder) {
  lineage_forget_failures(&builder->lineage);
}

void expect_hold(struct builder *builder, int64_t until) {
  free(builder->lineage.hold_reason);
  builder->lineage.held = true;
  builder->lineage.hold_until = until;
  builder->lineage.hold_reason = text_duplicate("not in December");
}

void expect_back_off(struct builder *builder, enum plan_action action, const char *selector, int64_t until) {
  expect_no_back_off(builder);
  builder->lineage.failures = 3;
  builder->lineage.retry_at = until;
  builder->lineage.failure = text_format("%s of %s: timeout", plan_action_name(action), selector);
  struct key *key = lineage_find_key(&builder->lineage, selector);
  if (!key) return;
  key->failures = 3;
  key->retry_at = until;
  if (action == PLAN_CONFIRM || action == PLAN_CONFIRM_ABSENT) {
    key->look_failures = 3;
    key->look_retry_at = until;
  }
  key->failure = text_duplicate(builder->lineage.failure);
}
