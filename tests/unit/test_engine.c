/* What the engine does in a world that works, or that fails in one place. */
#include "engine_world.h"

#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

#define THREE "a.example: {}, b.example: {}, c.example: {publisher: other}"
#define TWO_SIGNERS "a.example: {signers: [first, second]}, b.example: {}"

static void assert_states(struct world *world, const char *domain, const char *expected) {
  CLEANUP_FREE char *states = world_states(world, domain);
  assert_string_equal(states, expected);
}

static void assert_well(const struct world *world) {
  if (world->violations) fail_msg("%zu violations, first: %s", world->violations, world->violation);
}

static void test_engine__three_domains_live_a_year(void **state) {
  struct world *world = *state;
  world_make(world, THREE);
  world_live(world, 365);
  /* 30 days each: the first and its eleven or twelve successors, every one of them at its turn. */
  assert_in_range(world->counts.switches, 3 * 12, 3 * 13);
  assert_in_range(world->counts.generated, 3 * 12, 3 * 13);
  assert_int_equal(world->counts.adds, world->counts.generated);
  assert_in_range(world->counts.deletes, 3 * 9, 3 * 12);
  assert_int_equal(world->counts.destroyed, world->counts.deletes);
  assert_int_equal(world->summary.failures, 0);
  for (const char *const *domain = (const char *const[]){"a.example", "b.example", "c.example", NULL}; *domain;
       domain++)
    assert_true(world_records(world, *domain) <= 4);
}

static void test_engine__rests_between_moments(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  world_live(world, 30);
  /* A look at least every hour; the year must not be spent in turns. */
  assert_true(world->counts.turns < 30 * 24 + 500);
  assert_true(world->counts.commits < 500);
}

static void test_engine__batches_stay_few(void **state) {
  struct world *world = *state;
  enum { DOMAINS = 500 };
  char *domains = calloc(DOMAINS, 32);
  for (int i = 0; i < DOMAINS; i++) snprintf(domains + strlen(domains), 32, "%sd%d.example: {}", i ? ", " : "", i);
  world_make(world, domains);
  free(domains);
  world->domain_fails = "d77.example";
  world_run_well(world, 3 * 3600);
  assert_well(world);
  assert_int_equal(world->counts.switches, DOMAINS - 1);
  assert_true(world->counts.publications < 60);
  assert_true(world->counts.activations < 60);
  assert_states(world, "d77.example", "ready");
  assert_states(world, "d76.example", "active");
  assert_true(world_next(world, "d77.example") > loop_wall(world->loop));
  world->domain_fails = NULL;
  world_run_well(world, 2 * WORLD_DAY);
  assert_states(world, "d77.example", "active");
  assert_int_equal(world_events(world, "d77.example", "recovered"), 1);
  assert_well(world);
}

static void test_engine__one_refused_record_fails_alone(void **state) {
  struct world *world = *state;
  world_make(world, THREE);
  world->publish_fails = "b.example";
  world->publish_code = ERROR_REFUSED;
  world_run_well(world, 3 * 3600);
  assert_states(world, "a.example", "active");
  assert_states(world, "b.example", "generated");
  assert_states(world, "c.example", "active");
  world->publish_fails = NULL;
  world_live(world, 3);
  assert_states(world, "b.example", "active");
}

/* Its name was delegated, or an alias was put there, after its survey. */
static void test_engine__a_key_whose_name_lies_elsewhere_by_now_is_published_there(void **state) {
  struct world *world = *state;
  world_make(world, THREE);
  world->moved = "b.example";
  world_run_well(world, 3 * 3600);
  assert_states(world, "a.example", "active");
  /* What caches may hold of the zone that it is in now counts. */
  assert_states(world, "b.example", "published");
  assert_int_equal(world_events(world, "b.example", "failed"), 1);
  world_run_well(world, WORLD_FOUND_TTL);
  assert_states(world, "b.example", "active");
}

/* All selectors went into a zone of their own, also that of a key which is on its way out. */
static void test_engine__a_record_that_lies_elsewhere_by_now_is_revoked_and_deleted_there(void **state) {
  struct world *world = *state;
  world_make(world, THREE);
  world_live(world, 1);
  world_request(world, REQUEST_ROTATE, "b.example");
  world_run_well(world, 6 * 3600);
  assert_states(world, "b.example", "retired active");
  world->moved = "b.example";
  world_live(world, 12);
  assert_states(world, "b.example", "revoked active");
  assert_int_equal(world_events(world, "b.example", "failed"), 1);
}

static void test_engine__a_record_that_is_seen_after_its_deletion_is_looked_for_elsewhere(void **state) {
  struct world *world = *state;
  world_make(world, THREE);
  world->lag[1] = 4 * WORLD_DAY;
  for (int days = 0; days < 120 && world_events(world, "b.example", "deleted") == 0; days++) world_live(world, 1);
  assert_int_equal(world_events(world, "b.example", "deleted"), 1);
  const unsigned deletes = world->counts.deletes, publications = world->counts.publications;
  world->moved = "b.example";
  world_live(world, 2);
  assert_int_equal(world->counts.deletes, deletes);
  assert_true(world->counts.publications > publications);
  assert_int_equal(world_events(world, "b.example", "failed"), 0);
}

static void test_engine__publisher_that_cannot_be_made_fails_its_own_domains(void **state) {
  struct world *world = *state;
  world_make(world, THREE);
  world->no_publisher = "other";
  world_run_well(world, 3 * 3600);
  assert_states(world, "a.example", "active");
  assert_states(world, "c.example", "generated");
  world->no_publisher = NULL;
  world_live(world, 3);
  assert_states(world, "c.example", "active");
}

/* The secret has moved since the old key was published: its record is revoked and deleted with the one that is there. */
static void test_engine__old_keys_are_ended_with_the_secret_of_today(void **state) {
  struct world *world = *state;
  world->secret = ", tsig-file: /a";
  world_make(world, "a.example: {}");
  world_live(world, 2);
  assert_states(world, "a.example", "active");
  world->secret = ", tsig-file: \"credential:b\"";
  world->secret_gone = "/a";
  world_sync(world, "a.example: {}");
  world_request(world, REQUEST_ROTATE, "a.example");
  world_live(world, 100);
  assert_int_equal(world_events(world, "a.example", "failed"), 0);
  assert_int_equal(world_records(world, "a.example"), 2); /* the one that signs, and the tombstone or the successor beside it */
}

static void test_engine__lagging_server_holds_back(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  world->lag[1] = 4 * 3600;
  world_run_well(world, 4 * 3600);
  assert_states(world, "a.example", "published");
  world_live(world, 1);
  assert_states(world, "a.example", "active");
}

static void test_engine__fresh_look_demotes(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  world->domain_fails = "a.example";
  world_run_well(world, 2 * 3600);
  assert_states(world, "a.example", "ready");
  world->wrong[0] = true;
  world->domain_fails = NULL;
  world_run_well(world, 2 * 3600);
  assert_states(world, "a.example", "published");
  assert_string_equal(world_signs(world, 0, "a.example"), "");
  world->wrong[0] = false;
  world_live(world, 2);
  assert_states(world, "a.example", "active");
}

static void test_engine__one_signer_of_two_fails_predecessor_stays(void **state) {
  struct world *world = *state;
  world_make(world, TWO_SIGNERS);
  world_live(world, 1);
  char first[64];
  text_copy(first, sizeof first, world_signs(world, 1, "a.example"));
  assert_string_equal(first, world_signs(world, 0, "a.example"));
  world->signer_fails = "second";
  world_live(world, 31);
  assert_string_equal(world_signs(world, 1, "a.example"), first);
  assert_states(world, "a.example", "active ready");
  assert_int_equal(world->counts.deletes, 0);
  world->signer_fails = NULL;
  world_live(world, 2);
  assert_states(world, "a.example", "retired active");
  assert_string_not_equal(world_signs(world, 1, "a.example"), first);
}

static void test_engine__signer_added_later_gets_the_active_key(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  world_live(world, 1);
  const unsigned activations = world->counts.activations;
  assert_string_equal(world_signs(world, 1, "a.example"), "");
  world_sync(world, "a.example: {signers: [first, second]}");
  world_live(world, 1);
  assert_string_equal(world_signs(world, 1, "a.example"), world_signs(world, 0, "a.example"));
  assert_int_equal(world->counts.copied, 1);
  /* The one that signs already is left alone. */
  assert_int_equal(world->counts.activations, activations + 1);
  world_live(world, 80);
  /* Both files of each key. */
  assert_int_equal(world->counts.destroyed % 2, 0);
  assert_true(world->counts.destroyed >= 2);
}

static void test_engine__copy_for_a_signer_that_fails_is_destroyed_one_day(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  world_live(world, 1);
  world_sync(world, "a.example: {signers: [first, second]}");
  world->signer_fails = "second";
  world_live(world, 1);
  char path[256];
  snprintf(path, sizeof path, "%s/second/a.example/server-20270115.private", world->place.path);
  assert_int_equal(access(path, F_OK), 0);
  world_sync(world, "a.example: {}");
  world->signer_fails = NULL;
  world_live(world, 80);
  assert_int_equal(access(path, F_OK), -1);
  assert_true(world->counts.destroyed >= 2);
}

static void test_engine__publication_at_the_deadline_is_tried_again(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  world->publish_hangs = true;
  world_run_well(world, 120);
  assert_states(world, "a.example", "generated");
  assert_true(world->summary.failures >= 1);
  world->publish_hangs = false;
  world_live(world, 1);
  assert_states(world, "a.example", "active");
}

static void ask_later(void *context) {
  struct world *world = context;
  world_request(world, REQUEST_HOLD, "a.example");
}

static void test_engine__request_while_in_hand_is_carried_out_afterwards(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  world->answer_ms = 10000;
  assert_int_equal(loop_at(world->loop, 1000 + 5000, ask_later, world, NULL), 0);
  world_run_well(world, 6 * 3600);
  assert_int_equal(world_events(world, "a.example", "held"), 1);
  assert_states(world, "a.example", "ready");
  world_request(world, REQUEST_RELEASE, "a.example");
  world_run_well(world, 3600);
  assert_states(world, "a.example", "active");
}

static void test_engine__requests_only_does_nothing_else(void **state) {
  struct world *world = *state;
  struct error error = {0};
  world_make(world, "a.example: {}");
  world_request(world, REQUEST_HOLD, "a.example");
  assert_int_equal(world_run_setup(world, (struct engine_setup){.requests_only = true, .horizon = TIME_NEVER}, &error),
                   0);
  assert_int_equal(world_events(world, "a.example", "held"), 1);
  assert_states(world, "a.example", "");
  assert_int_equal(world->counts.observations, 0);
}

static void test_engine__more_requests_than_one_turn_takes(void **state) {
  struct world *world = *state;
  struct error error = {0};
  world_make(world, "a.example: {}");
  for (int i = 0; i < 1001; i++) world_request(world, REQUEST_HOLD, "a.example");
  assert_int_equal(world_run_setup(world, (struct engine_setup){.requests_only = true, .horizon = TIME_NEVER}, &error),
                   0);
  assert_int_equal(world_events(world, "a.example", "held"), 1001);
}

static void test_engine__only_the_named_domains(void **state) {
  struct world *world = *state;
  struct error error = {0};
  const char *const domains[] = {"b.example"};
  world_make(world, THREE);
  assert_int_equal(
      world_run_setup(world, (struct engine_setup){.domains = domains, .domain_count = 1, .horizon = 3 * 3600}, &error),
      0);
  assert_states(world, "a.example", "");
  assert_states(world, "b.example", "active");
}

static void test_engine__horizon_zero_stops_at_the_first_wait(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  const int64_t before = loop_wall(world->loop);
  world_run_well(world, 0);
  assert_states(world, "a.example", "published");
  assert_true(loop_wall(world->loop) - before < 15);
  const unsigned turns = world->counts.turns;
  world_run_well(world, 0);
  assert_true(world->counts.turns - turns <= 2);
}

static void test_engine__nothing_due_ends_at_once(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  world_live(world, 1);
  const struct world_counts before = world->counts;
  world_run_well(world, 60);
  assert_true(world->counts.turns - before.turns <= 2);
  assert_int_equal(world->counts.commits, before.commits);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_engine__three_domains_live_a_year),
      TEST(test_engine__rests_between_moments),
      TEST(test_engine__batches_stay_few),
      TEST(test_engine__one_refused_record_fails_alone),
      TEST(test_engine__a_key_whose_name_lies_elsewhere_by_now_is_published_there),
      TEST(test_engine__a_record_that_lies_elsewhere_by_now_is_revoked_and_deleted_there),
      TEST(test_engine__a_record_that_is_seen_after_its_deletion_is_looked_for_elsewhere),
      TEST(test_engine__publisher_that_cannot_be_made_fails_its_own_domains),
      TEST(test_engine__old_keys_are_ended_with_the_secret_of_today),
      TEST(test_engine__lagging_server_holds_back),
      TEST(test_engine__fresh_look_demotes),
      TEST(test_engine__one_signer_of_two_fails_predecessor_stays),
      TEST(test_engine__signer_added_later_gets_the_active_key),
      TEST(test_engine__copy_for_a_signer_that_fails_is_destroyed_one_day),
      TEST(test_engine__publication_at_the_deadline_is_tried_again),
      TEST(test_engine__request_while_in_hand_is_carried_out_afterwards),
      TEST(test_engine__requests_only_does_nothing_else),
      TEST(test_engine__more_requests_than_one_turn_takes),
      TEST(test_engine__only_the_named_domains),
      TEST(test_engine__horizon_zero_stops_at_the_first_wait),
      TEST(test_engine__nothing_due_ends_at_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
