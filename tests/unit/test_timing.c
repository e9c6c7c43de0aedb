#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dkimroll/timing.h"
#include "lineage_builder.h"

static const int64_t now = BUILDER_NOW;

/* ---- sightings ---- */

static void test_timing__no_route_is_excused_by_the_same_host_only(void **state) {
  struct key *key = builder_key(*state, "a", KEY_PUBLISHED, now);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + 5);
  builder_see(key, "ns2.example.com", "2001:db8::2", false, now + 5);
  key->sightings[1].no_route = true;
  assert_false(timing_sighting_counts(key, 1)); /* another host is right, this one may still be wrong */
  assert_int_equal(timing_right_since(key), TIME_UNSET);
  assert_int_equal(timing_sightings(key), 0);
  builder_see(key, "NS2.example.com", "192.0.2.2", true, now + 7);
  assert_true(timing_sighting_counts(key, 1));
  assert_int_equal(timing_right_since(key), now + 7);
  assert_int_equal(timing_sightings(key), 1);
  builder_see(key, "ns2.example.com", "192.0.2.2", false, now + 9);
  assert_false(timing_sighting_counts(key, 1));
}

static void test_timing__two_addresses_without_route_excuse_each_other_not(void **state) {
  struct key *key = builder_key(*state, "a", KEY_PUBLISHED, now);
  builder_see(key, "ns1.example.com", "2001:db8::1", false, now);
  builder_see(key, "ns1.example.com", "2001:db8::2", false, now);
  key->sightings[0].no_route = key->sightings[1].no_route = true;
  assert_false(timing_sighting_counts(key, 0));
  assert_int_equal(timing_right_since(key), TIME_UNSET);
  assert_int_equal(timing_sightings(key), 0);
}

static void test_timing__without_sightings_nothing_is_right(void **state) {
  const struct key *key = builder_key(*state, "a", KEY_PUBLISHED, now);
  assert_int_equal(timing_right_since(key), TIME_UNSET);
  assert_int_equal(timing_sightings(key), 0);
  assert_int_equal(timing_observed_at(key), TIME_UNSET);
}

static void test_timing__the_latest_server_decides(void **state) {
  struct key *key = builder_key(*state, "a", KEY_PUBLISHED, now);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + 5);
  builder_see(key, "ns2.example.com", "192.0.2.2", false, now + 5);
  assert_int_equal(timing_right_since(key), TIME_UNSET);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + 20);
  builder_see(key, "ns2.example.com", "192.0.2.2", true, now + 25);
  assert_int_equal(timing_right_since(key), now + 25);
  assert_int_equal(timing_sightings(key), 1);
  assert_int_equal(timing_observed_at(key), now + 25);
}

/* ---- F1 ---- */

static void test_timing__f1_takes_the_longer_of_negative_and_old_ttl(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_PUBLISHED, now);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + 5);
  assert_int_equal(timing_ready(key, &builder->rules), now + 5 + BUILDER_NEGATIVE + HOUR);
  key->ttl_old = DAY; /* a wildcard's TXT beside a short SOA */
  assert_int_equal(timing_ready(key, &builder->rules), now + 5 + DAY + HOUR);
  key->ttl_old = key->ttl_negative = -1;
  builder->rules.publish_safety = 7;
  assert_int_equal(timing_ready(key, &builder->rules), now + 5 + 7);
}

static void test_timing__f1_never_while_a_server_is_wrong(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_PUBLISHED, now);
  assert_int_equal(timing_ready(key, &builder->rules), TIME_NEVER);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now + 5);
  assert_int_equal(timing_ready(key, &builder->rules), TIME_NEVER);
}

static void test_timing__f1_never_while_no_look_counts(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_PUBLISHED, now);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + 5);
  key->sightings[0].count = 0; /* by a clock that is not attested */
  assert_int_equal(timing_ready(key, &builder->rules), TIME_NEVER);
}

static void test_timing__f1_counts_a_wrong_server_that_left_the_zone(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_PUBLISHED, now);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + 5);
  key->last_wrong_at = now + 500; /* of a server that is not asked any more */
  assert_int_equal(timing_ready(key, &builder->rules), now + 500 + BUILDER_F1);
}

/* ---- rounds ---- */

static int64_t pause_after(struct builder *builder, struct key *key) {
  return timing_next_round(key, &builder->rules) - timing_observed_at(key);
}

static void test_timing__first_round_comes_with_the_publication(void **state) {
  struct builder *builder = *state;
  assert_int_equal(timing_next_round(builder_key(builder, "a", KEY_PUBLISHED, now), &builder->rules), now);
}

static void test_timing__a_missing_record_is_looked_for_ever_more_slowly(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_PUBLISHED, now);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now + 20);
  assert_int_equal(pause_after(builder, key), 10);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now + 1000);
  assert_int_equal(pause_after(builder, key), 100);
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now + 30 * DAY);
  assert_int_equal(pause_after(builder, key), TIMING_CONFIRM_SLOWEST);
  builder->rules.confirm_every = 2 * TIMING_CONFIRM_SLOWEST;
  assert_int_equal(pause_after(builder, key), 2 * TIMING_CONFIRM_SLOWEST);
}

static void test_timing__a_missing_record_of_unknown_age_is_looked_for_too(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_ACTIVE, now);
  key->published_at = TIME_UNSET;
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now + 20);
  assert_int_equal(pause_after(builder, key), 10);
}

static void test_timing__sightings_are_gathered_at_the_policy_s_pace(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_PUBLISHED, now - DAY);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now);
  assert_int_equal(pause_after(builder, key), 10);
  builder->rules.confirm_sightings = 5;
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + 10);
  assert_int_equal(pause_after(builder, key), 10);
}

static void test_timing__observation_goes_on_while_f1_runs_and_at_its_end(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_PUBLISHED, now);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + 10);
  assert_int_equal(pause_after(builder, key), BUILDER_F1 / 4);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + BUILDER_F1 - 5);
  assert_int_equal(timing_next_round(key, &builder->rules), now + BUILDER_F1);
  builder_see(key, "ns1.example.com", "192.0.2.1", true, now + BUILDER_F1);
  assert_int_equal(pause_after(builder, key), BUILDER_F1 / 4);
  key->ttl_old = 30 * DAY;
  assert_int_equal(pause_after(builder, key), TIMING_WATCH_SLOWEST);
}

static void test_timing__what_is_right_is_watched_slowly(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_READY, now);
  assert_int_equal(pause_after(builder, key), TIMING_WATCH_SLOWEST);
  key->state = KEY_ACTIVE;
  assert_int_equal(pause_after(builder, key), TIMING_WATCH_SIGNED);
  key->state = KEY_RETIRED;
  assert_int_equal(pause_after(builder, key), TIMING_WATCH_SIGNED);
  builder->rules.confirm_every = DAY;
  assert_int_equal(pause_after(builder, key), DAY);
  key->state = KEY_READY;
  assert_int_equal(pause_after(builder, key), DAY);
}

static void test_timing__a_lost_record_of_an_active_key_is_looked_for_quickly(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_ACTIVE, now);
  key->published_at = now - 50;
  builder_see(key, "ns1.example.com", "192.0.2.1", false, now);
  assert_int_equal(pause_after(builder, key), 10);
}

/* ---- succession ---- */

static void test_timing__publication_interval_is_what_was_measured(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_ACTIVE, now);
  key->propagation = 300;
  assert_int_equal(timing_publication_interval(key, &builder->rules), 300 + BUILDER_NEGATIVE + HOUR + 2 * 10);
  key->propagation = -1;
  assert_int_equal(timing_publication_interval(key, &builder->rules), BUILDER_NEGATIVE + HOUR + 2 * 10);
}

static void test_timing__publication_interval_is_at_most_half_a_life(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_ACTIVE, now);
  key->propagation = 300 * DAY;
  assert_int_equal(timing_publication_interval(key, &builder->rules), BUILDER_LIFE / 2);
  builder->rules.rotate_every = TIME_NEVER;
  assert_in_range(timing_publication_interval(key, &builder->rules), 300 * DAY, 301 * DAY);
}

static void test_timing__successor_is_made_one_interval_before_its_turn(void **state) {
  struct builder *builder = *state;
  const struct key *key = builder_key(builder, "a", KEY_ACTIVE, now);
  assert_int_equal(timing_turn(&builder->lineage, key), now + BUILDER_LIFE);
  assert_int_equal(timing_generate(&builder->lineage, key),
                   now + BUILDER_LIFE - timing_publication_interval(key, &builder->rules));
  builder->rules.rotate_every = TIME_NEVER;
  assert_int_equal(timing_turn(&builder->lineage, key), TIME_NEVER);
  assert_int_equal(timing_generate(&builder->lineage, key), TIME_NEVER);
}

/* ---- F2 to F5 ---- */

static void test_timing__f2_is_retirement_plus_drain(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_RETIRED, now);
  assert_int_equal(timing_last_signature(key, &builder->rules), now + HOUR);
  key->retired_at = TIME_UNSET;
  assert_int_equal(timing_last_signature(key, &builder->rules), TIME_NEVER);
}

static void test_timing__f3_is_queue_backoff_verification_and_safety(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_RETIRED, now);
  assert_int_equal(timing_revoke(key, &builder->rules), now + HOUR + 5 * DAY + 4000 + 2 * DAY + HOUR);
  key->ttl = 10 * DAY; /* caches of a record that stays need no waiting */
  assert_int_equal(timing_revoke(key, &builder->rules), now + BUILDER_WINDOW);
}

static void test_timing__f3_never_gets_shorter_than_at_retirement(void **state) {
  struct builder *builder = *state;
  const struct key *key = builder_key(builder, "a", KEY_RETIRED, now);
  builder->rules.queue_lifetime = builder->rules.verify_window = 0;
  assert_int_equal(timing_revoke(key, &builder->rules), now + BUILDER_WINDOW);
  builder->rules.queue_lifetime = 20 * DAY;
  assert_int_equal(timing_revoke(key, &builder->rules), now + HOUR + 20 * DAY + 4000 + HOUR);
}

static void test_timing__f4_is_propagation_plus_ttl(void **state) {
  struct key *key = builder_key(*state, "a", KEY_REVOKED, now);
  assert_int_equal(timing_dead(key), now + 5 + HOUR);
  key->propagation = -1;
  assert_int_equal(timing_dead(key), now + HOUR);
  key->revoked_at = TIME_UNSET;
  assert_int_equal(timing_dead(key), TIME_UNSET);
}

static void test_timing__f5_is_revocation_plus_tombstone(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_REVOKED, now);
  assert_int_equal(timing_remove(key, &builder->rules), now + BUILDER_TOMBSTONE);
  builder->rules.tombstone = 0; /* changed while the tombstone stands */
  assert_int_equal(timing_remove(key, &builder->rules), now);
}

static void test_timing__f5_without_tombstone_is_f3(void **state) {
  struct builder *builder = *state;
  struct key *key = builder_key(builder, "a", KEY_RETIRED, now);
  assert_int_equal(timing_remove(key, &builder->rules), TIME_NEVER);
  builder->rules.tombstone = 0;
  assert_int_equal(timing_remove(key, &builder->rules), now + BUILDER_WINDOW);
}

/* ---- back-off ---- */

static void test_timing__backoff_doubles_from_the_first_to_the_longest(void **state) {
  (void)state;
  int64_t base = TIMING_BACKOFF_FIRST;
  for (unsigned failures = 1; failures < 40; failures++) {
    const int64_t delay = timing_backoff(failures, true, 5);
    const int64_t expected = base < TIMING_BACKOFF_RETRYABLE ? base : TIMING_BACKOFF_RETRYABLE;
    assert_in_range(delay, expected, expected + expected / 4);
    base *= base < TIMING_BACKOFF_RETRYABLE ? 2 : 1;
  }
}

static void test_timing__backoff_of_a_parked_lineage_grows_to_a_day(void **state) {
  (void)state;
  const unsigned many = 1000;
  assert_in_range(timing_backoff(TIMING_FAILURES_PARK - 1, false, 1), 15 << 6, (15 << 6) * 5 / 4);
  assert_in_range(timing_backoff(many, false, 1), TIMING_BACKOFF_PARKED, TIMING_BACKOFF_PARKED * 5 / 4);
  assert_in_range(timing_backoff(many, true, 1), TIMING_BACKOFF_RETRYABLE, TIMING_BACKOFF_RETRYABLE * 5 / 4);
  assert_in_range(timing_backoff(0, true, 1), TIMING_BACKOFF_FIRST, TIMING_BACKOFF_FIRST * 5 / 4);
}

static void test_timing__backoff_spreads_lineages_and_is_repeatable(void **state) {
  (void)state;
  unsigned distinct = 0;
  for (uint64_t seed = 1; seed < 50; seed++) {
    assert_int_equal(timing_backoff(20, true, seed), timing_backoff(20, true, seed));
    distinct += timing_backoff(20, true, seed) != timing_backoff(20, true, seed + 1);
  }
  assert_true(distinct > 40);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_timing__##name, builder_setup, builder_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(no_route_is_excused_by_the_same_host_only),
      TEST(two_addresses_without_route_excuse_each_other_not),
      TEST(without_sightings_nothing_is_right),
      TEST(the_latest_server_decides),
      TEST(f1_takes_the_longer_of_negative_and_old_ttl),
      TEST(f1_never_while_a_server_is_wrong),
      TEST(f1_never_while_no_look_counts),
      TEST(f1_counts_a_wrong_server_that_left_the_zone),
      TEST(first_round_comes_with_the_publication),
      TEST(a_missing_record_is_looked_for_ever_more_slowly),
      TEST(a_missing_record_of_unknown_age_is_looked_for_too),
      TEST(sightings_are_gathered_at_the_policy_s_pace),
      TEST(observation_goes_on_while_f1_runs_and_at_its_end),
      TEST(what_is_right_is_watched_slowly),
      TEST(a_lost_record_of_an_active_key_is_looked_for_quickly),
      TEST(publication_interval_is_what_was_measured),
      TEST(publication_interval_is_at_most_half_a_life),
      TEST(successor_is_made_one_interval_before_its_turn),
      TEST(f2_is_retirement_plus_drain),
      TEST(f3_is_queue_backoff_verification_and_safety),
      TEST(f3_never_gets_shorter_than_at_retirement),
      TEST(f4_is_propagation_plus_ttl),
      TEST(f5_is_revocation_plus_tombstone),
      TEST(f5_without_tombstone_is_f3),
      TEST(backoff_doubles_from_the_first_to_the_longest),
      TEST(backoff_of_a_parked_lineage_grows_to_a_day),
      TEST(backoff_spreads_lineages_and_is_repeatable),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
