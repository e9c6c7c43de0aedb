/* Whole lives with emergencies: what becomes of a domain whose key is in other hands, step by step in a simulated world, judged by an oracle that keeps facts of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/text.h"
#include "life_world.h"

static struct life world;

static int begin_world(void **state) {
  life_begin(&world, 1);
  *state = &world;
  return 0;
}
static int end_world(void **state) {
  life_end(*state);
  return 0;
}

/* A life that signs, with so many keys in waiting. Returns the selector of the key that signs. */
static const char *live(struct life *life, unsigned standby) {
  static char selector[SELECTOR_SIZE];
  life->builder.rules.standby = standby;
  life_run(life, 5 * DAY);
  life_expect_well(life);
  text_copy(selector, sizeof selector, lineage_active_key(&life->builder.lineage)->selector);
  return selector;
}

static size_t count(const struct life *life, enum key_state at) {
  size_t found = 0;
  for (size_t i = 0; i < life->builder.lineage.key_count; i++) found += life->builder.lineage.keys[i].state == at;
  return found;
}

static enum key_state state_of(struct life *life, const char *selector) {
  const struct key *key = lineage_find_key(&life->builder.lineage, selector);
  return key ? key->state : KEY_REMOVED;
}

static void test_life_emergency__a_standby_signs_and_the_record_says_so_within_minutes(void **state) {
  struct life *life = *state;
  const char *old = live(life, 1);
  life_revoke(life, &(struct compromise){.selector = old});
  life_run(life, 5 * MINUTE);
  assert_int_equal(state_of(life, old), KEY_REVOKED);
  assert_int_equal(count(life, KEY_ACTIVE), 1);
  life_run(life, 2 * DAY);
  assert_int_equal(count(life, KEY_READY), 1);
  life_run(life, BUILDER_TOMBSTONE + LIFE_RECOVERY);
  assert_int_equal(state_of(life, old), KEY_REMOVED);
  life_expect_well(life);
}

static void test_life_emergency__without_a_standby_the_new_key_keeps_all_waits(void **state) {
  struct life *life = *state;
  const char *old = live(life, 0);
  life_revoke(life, &(struct compromise){.selector = old});
  life_run(life, 30 * MINUTE);
  assert_int_equal(state_of(life, old), KEY_ACTIVE);
  life_run(life, 2 * DAY);
  assert_int_equal(state_of(life, old), KEY_REVOKED);
  life_expect_well(life);
}

static void test_life_emergency__at_once_leaves_the_domain_unsigned_until_a_new_key_may(void **state) {
  struct life *life = *state;
  const char *old = live(life, 0);
  life_revoke(life, &(struct compromise){.selector = old, .now = true});
  life_run(life, 5 * MINUTE);
  assert_int_equal(state_of(life, old), KEY_REVOKED);
  assert_int_equal(count(life, KEY_ACTIVE), 0);
  assert_string_equal(life_tables(life, life->builder.lineage.signers[0])->signs, "");
  life_run(life, 2 * DAY);
  life_expect_well(life);
}

static void test_life_emergency__of_a_compromised_host_every_key_ends(void **state) {
  struct life *life = *state;
  char old[SELECTOR_SIZE];
  text_copy(old, sizeof old, live(life, 2));
  const size_t waiting = count(life, KEY_READY);
  assert_int_equal(waiting, 2);
  life_revoke(life, &(struct compromise){.whole_host = true});
  life_run(life, 10 * MINUTE);
  assert_int_equal(count(life, KEY_REVOKED), 2);
  assert_int_equal(state_of(life, old), KEY_ACTIVE);
  life_run(life, 3 * DAY);
  assert_int_equal(state_of(life, old), KEY_REVOKED);
  assert_int_equal(count(life, KEY_READY), 2);
  life_expect_well(life);
}

static void test_life_emergency__a_dead_primary_and_a_dead_signer_are_waited_for(void **state) {
  struct life *life = *state;
  const char *old = live(life, 1);
  life_tables(life, life->builder.lineage.signers[0])->dead_until = life->moment + HOUR;
  life_revoke(life, &(struct compromise){.selector = old});
  life_run(life, 30 * MINUTE);
  assert_int_equal(state_of(life, old), KEY_ACTIVE);
  life_run(life, 3 * HOUR);
  assert_int_equal(state_of(life, old), KEY_REVOKED);
  life_run(life, 3 * DAY);
  const char *second = lineage_active_key(&life->builder.lineage)->selector;
  char selector[SELECTOR_SIZE];
  text_copy(selector, sizeof selector, second);
  life->servers[0].dead_until = life->moment + HOUR;
  life_revoke(life, &(struct compromise){.selector = selector, .now = true});
  life_run(life, DAY);
  assert_int_equal(state_of(life, selector), KEY_REVOKED);
  life_run(life, LIFE_RECOVERY);
  life_expect_well(life);
}

static void test_life_emergency__a_hold_of_everything_stops_it_until_the_release(void **state) {
  struct life *life = *state;
  const char *old = live(life, 1);
  life->builder.lineage.held = true;
  life->builder.lineage.hold_until = TIME_NEVER;
  life_revoke(life, &(struct compromise){.selector = old});
  life_run(life, DAY);
  assert_int_equal(state_of(life, old), KEY_ACTIVE);
  life->builder.lineage.held = false;
  life_policy_changed(life);
  life_run(life, 5 * MINUTE);
  assert_int_equal(state_of(life, old), KEY_REVOKED);
}

static void test_life_emergency__a_lost_file_of_a_standby_is_found_and_another_key_made(void **state) {
  struct life *life = *state;
  live(life, 1);
  char waits[SELECTOR_SIZE];
  text_copy(waits, sizeof waits, life->builder.lineage.keys[life_find(life, KEY_READY)].selector);
  for (size_t i = 0; i < life->builder.lineage.signer_count; i++) life_lose_file(life, i, waits, false);
  life_run(life, 6 * HOUR);
  assert_int_equal(state_of(life, waits), KEY_READY);
  assert_int_equal(count(life, KEY_READY), 2);
  life_run(life, 2 * DAY);
  assert_int_equal(state_of(life, waits), KEY_REVOKED);
  life_expect_well(life);
}

static void test_life_emergency__a_file_that_is_back_within_a_day_makes_the_standby_usable_again(void **state) {
  struct life *life = *state;
  const char *old = live(life, 1);
  char waits[SELECTOR_SIZE];
  text_copy(waits, sizeof waits, life->builder.lineage.keys[life_find(life, KEY_READY)].selector);
  for (size_t i = 0; i < life->builder.lineage.signer_count; i++) life_lose_file(life, i, waits, false);
  life_run(life, 6 * HOUR);
  for (size_t i = 0; i < life->builder.lineage.signer_count; i++) life_restore_file(life, i, waits);
  life_run(life, 2 * HOUR);
  life_revoke(life, &(struct compromise){.selector = old});
  life_run(life, 5 * MINUTE);
  assert_int_equal(state_of(life, waits), KEY_ACTIVE);
}

/* Faults at random, and emergencies at random: the oracle says what must not happen, and in the end all is well. */
static void test_life_emergency__lives_with_many_emergencies_end_well(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 40; seed++) {
    life_end(&world);
    life_begin(&world, seed);
    struct life *life = &world;
    life->builder.rules.standby = (unsigned)life_random(life, 3);
    life->builder.rules.tombstone = life_random(life, 2) ? 3 * DAY : 0;
    life_run(life, 3 * DAY);
    life->fault = (struct life_fault){.permille = 60, .code = ERROR_UNREACHABLE, .retryable = true, .effect = seed % 2};
    for (unsigned i = 0; i < 6; i++) {
      const size_t keys = life->builder.lineage.key_count;
      if (keys == 0) break;
      const struct key *key = &life->builder.lineage.keys[life_random(life, keys)];
      char selector[SELECTOR_SIZE];
      text_copy(selector, sizeof selector, key->selector);
      life_revoke(life, &(struct compromise){.selector = selector, .whole_host = life_random(life, 5) == 0, .now = life_random(life, 4) == 0});
      life_run(life, (int64_t)life_random(life, 5 * DAY));
    }
    life->fault = (struct life_fault){0};
    life_run(life, 2 * LIFE_RECOVERY);
    life_expect_well(life);
  }
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_life_emergency__##name, begin_world, end_world)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_standby_signs_and_the_record_says_so_within_minutes),
      TEST(without_a_standby_the_new_key_keeps_all_waits),
      TEST(at_once_leaves_the_domain_unsigned_until_a_new_key_may),
      TEST(of_a_compromised_host_every_key_ends),
      TEST(a_dead_primary_and_a_dead_signer_are_waited_for),
      TEST(a_hold_of_everything_stops_it_until_the_release),
      TEST(a_lost_file_of_a_standby_is_found_and_another_key_made),
      TEST(a_file_that_is_back_within_a_day_makes_the_standby_usable_again),
      TEST(lives_with_many_emergencies_end_well),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
