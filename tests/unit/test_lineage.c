/* What can be said of a lineage and its keys as they are, and how a hold ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dkimroll/text.h"
#include "lineage_builder.h"

static const int64_t now = BUILDER_NOW;

/* A key that a person ended at once while it signed. */
static void end_at_once(struct builder *builder, const char *selector, int64_t at) {
  struct key *key = builder_key(builder, selector, KEY_REVOKED, at);
  key->compromised_at = key->revoked_at = at;
  key->revoke_now = true;
}

static void test_lineage__what_ended_a_domain_is_the_end_at_once_of_its_last_key(void **state) {
  struct builder *builder = *state;
  assert_null(lineage_ended_key(&builder->lineage));
  end_at_once(builder, "first", now - 3 * DAY);
  end_at_once(builder, "last", now - DAY);
  end_at_once(builder, "second", now - 2 * DAY);
  assert_string_equal(lineage_ended_key(&builder->lineage)->selector, "last");
  builder_key(builder, "next", KEY_READY, now - HOUR);
  assert_string_equal(lineage_ended_key(&builder->lineage)->selector, "last");
  builder->lineage.keys[3].state = KEY_ACTIVE;
  assert_null(lineage_ended_key(&builder->lineage));
}

/* Those had successors, or never signed: that no key signs has another reason. */
static void test_lineage__other_keys_that_are_revoked_ended_no_domain(void **state) {
  struct builder *builder = *state;
  builder_key(builder, "in-its-turn", KEY_REVOKED, now - DAY);
  end_at_once(builder, "standby", now - DAY);
  builder->lineage.keys[1].active_at = TIME_UNSET;
  assert_null(lineage_ended_key(&builder->lineage));
  end_at_once(builder, "signed", now - 2 * DAY);
  assert_string_equal(lineage_ended_key(&builder->lineage)->selector, "signed");
}

static void test_lineage__exposed_is_one_that_is_compromised_until_every_server_says_that_it_is_revoked(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_REVOKED, now - DAY);
  key->right_at = TIME_UNSET;
  assert_false(key_is_exposed(key));
  key->compromised_at = now - DAY;
  assert_true(key_is_exposed(key));
  key->right_at = now;
  assert_false(key_is_exposed(key));
  key->right_at = TIME_UNSET;
  key->state = KEY_RETIRED; /* its revocation comes first */
  assert_false(key_is_exposed(key));
}

static void test_lineage__a_hold_ends_when_its_time_is_over_and_says_so_once(void **state) {
  struct builder *builder = *state;
  struct lineage *lineage = &builder->lineage;
  assert_int_equal(lifecycle_end_hold(lineage, now, &builder->events, &builder->error), 0);
  lineage->held = true;
  lineage->hold_until = TIME_NEVER;
  assert_int_equal(lifecycle_end_hold(lineage, TIME_NEVER, &builder->events, &builder->error), 0); /* a person ends that one */
  lineage->hold_until = now;
  assert_int_equal(lifecycle_end_hold(lineage, now - 1, &builder->events, &builder->error), 0);
  assert_true(lineage->held && builder->events.count == 0);
  assert_int_equal(lifecycle_end_hold(lineage, now, &builder->events, &builder->error), 0);
  assert_false(lineage->held);
  assert_string_equal(builder_event_reason(builder, "released"), "the hold has come to its end");
  assert_int_equal(lifecycle_end_hold(lineage, now, &builder->events, &builder->error), 0);
  assert_int_equal(builder->events.count, 1);
  lineage->held = true;
  lineage->hold_until = now;
  lineage->hold_reason = text_duplicate("not in December");
  assert_int_equal(lifecycle_end_hold(lineage, now, &builder->events, &builder->error), 0);
  assert_string_equal(builder_event_reason(builder, "released"), "the hold has come to its end: not in December");
  assert_null(lineage->hold_reason);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_lineage__##name, builder_setup, builder_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(what_ended_a_domain_is_the_end_at_once_of_its_last_key),
      TEST(other_keys_that_are_revoked_ended_no_domain),
      TEST(a_hold_ends_when_its_time_is_over_and_says_so_once),
      TEST(exposed_is_one_that_is_compromised_until_every_server_says_that_it_is_revoked),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
