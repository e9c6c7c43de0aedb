/* The stages that prove and mend what signs, with real key files behind the keeper. */
#include "engine_world.h"

#include <unistd.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/keypair.h"
#include "dkimroll/text.h"

static void begin(struct world *world, const char *domains) {
  world_make(world, domains);
  world_live(world, 1);
}

static void path_of(const struct world *world, const char *signer, const char *selector, char *buffer, size_t size) {
  snprintf(buffer, size, "%s/%s/a.example/%s.private", world->place.path, signer, selector);
}

static const char *signing(const struct world *world) {
  static char selector[64];
  text_copy(selector, sizeof selector, world_signs(world, 0, "a.example"));
  return selector;
}

static void write_file(const char *path, const char *content) {
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(content, file);
  assert_int_equal(fclose(file), 0);
}

static void test_engine_proof__a_day_is_one_proof_of_each_key(void **state) {
  struct world *world = *state;
  begin(world, "a.example: {signers: [first, second]}, b.example: {}");
  const unsigned before = world->counts.proofs;
  const size_t events = world_events(world, NULL, NULL);
  world_live(world, 10);
  /* Two domains, of which one has two signers, proved apart. */
  assert_in_range(world->counts.proofs - before, 10, 42);
  assert_int_equal(world_events(world, NULL, NULL), events);
}

static void test_engine_proof__a_batch_shares_an_operation_and_one_failure_is_its_own(void **state) {
  struct world *world = *state;
  struct buffer domains = BUFFER_WITH_MAXIMUM(1 << 20);
  for (unsigned i = 0; i < 300; i++) buffer_format(&domains, "%sd%u.example: {}", i ? ", " : "", i);
  CLEANUP_FREE char *text = buffer_take_text(&domains);
  begin(world, text);
  /* Nobody looked for two days, so all are due at once. */
  assert_int_equal(world->violations, 0);
  world_edit_tables(world, 0, "d7.example", "");
  const unsigned before = world->counts.proofs, activations = world->counts.activations;
  loop_virtual_set_wall(world->loop, WORLD_NOW + 4 * WORLD_DAY);
  world_run_well(world, 60);
  assert_in_range(world->counts.proofs - before, 2, 6);
  assert_int_equal(world->counts.activations - activations, 1);
  assert_int_equal(world_events(world, NULL, "alarm"), 1);
  assert_int_equal(world_events(world, "d7.example", "healed"), 1);
  assert_string_not_equal(world_signs(world, 0, "d7.example"), "");
}

static void test_engine_proof__tables_at_one_signer_are_mended_there_alone(void **state) {
  struct world *world = *state;
  begin(world, "a.example: {signers: [first, second]}");
  const char *selector = signing(world);
  world_edit_tables(world, 1, "a.example", "");
  const unsigned activations = world->counts.activations;
  world_live(world, 1);
  assert_string_equal(world_signs(world, 1, "a.example"), selector);
  assert_int_equal(world->counts.activations - activations, 1);
  assert_int_equal(world_events(world, "a.example", "healed"), 1);
}

static void test_engine_proof__a_missing_file_is_copied_from_another_signer(void **state) {
  struct world *world = *state;
  begin(world, "a.example: {signers: [first, second]}");
  char path[512];
  const char *selector = signing(world);
  path_of(world, "first", selector, path, sizeof path);
  assert_int_equal(unlink(path), 0);
  const unsigned copied = world->counts.copied;
  world_live(world, 1);
  assert_int_equal(access(path, R_OK), 0);
  assert_int_equal(world->counts.copied - copied, 1);
  assert_string_equal(signing(world), selector);
  assert_int_equal(world_events(world, "a.example", "alarm"), 1);
  assert_int_equal(world_events(world, "a.example", "healed"), 1);
}

static void test_engine_proof__a_lost_file_brings_a_new_key(void **state) {
  struct world *world = *state;
  begin(world, "a.example: {}");
  char path[512], selector[64];
  text_copy(selector, sizeof selector, signing(world));
  path_of(world, "first", selector, path, sizeof path);
  assert_int_equal(unlink(path), 0);
  world_live(world, 2);
  assert_string_not_equal(signing(world), selector);
  assert_int_equal(world_events(world, "a.example", "alarm"), 1);
}

/* Not even with a copy at hand: a private key is never overwritten. */
static void test_engine_proof__a_file_of_another_key_brings_a_new_key(void **state) {
  struct world *world = *state;
  begin(world, "a.example: {signers: [first, second]}");
  char path[512], selector[64];
  text_copy(selector, sizeof selector, signing(world));
  path_of(world, "second", selector, path, sizeof path);
  write_file(path, "no key at all\n");
  world_live(world, 2);
  assert_string_not_equal(signing(world), selector);
  assert_string_equal(signing(world), world_signs(world, 1, "a.example"));
  FILE *file = fopen(path, "r");
  char line[64] = "";
  assert_non_null(file);
  assert_non_null(fgets(line, sizeof line, file));
  fclose(file);
  assert_string_equal(line, "no key at all\n");
}

/* Selector of the only record of the domain. */
static void published(const struct world *world, const char *domain, char *selector, size_t size) {
  char suffix[64];
  snprintf(suffix, sizeof suffix, "._domainkey.%s", domain);
  for (size_t i = 0; i < world->name_count; i++) {
    const char *name = world->names[i].name;
    if (!world->names[i].record || !text_ends(name, suffix)) continue;
    snprintf(selector, size, "%.*s", (int)(strlen(name) - strlen(suffix)), name);
    return;
  }
  fail_msg("no record of %s", domain);
}

static void test_engine_proof__a_file_that_was_replaced_before_its_turn_is_not_switched_to(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}, b.example: {}");
  world_run_well(world, 600);
  char selector[64], path[512], other[512];
  published(world, "b.example", selector, sizeof selector);
  snprintf(other, sizeof other, "%s/first/b.example/%s.private", world->place.path, selector);
  published(world, "a.example", selector, sizeof selector);
  path_of(world, "first", selector, path, sizeof path);
  CLEANUP_FREE char *content = NULL;
  size_t size = 0;
  struct error error = {0};
  assert_int_equal(file_read(other, KEYPAIR_FILE_MAX, &content, &size, NULL, &error), 0);
  write_file(path, content);
  world_live(world, 1);
  assert_string_equal(world_signs(world, 0, "a.example"), "");
  assert_string_not_equal(world_signs(world, 0, "b.example"), "");
  assert_true(world_events(world, "a.example", "failed") > 0);
}

static void test_engine_proof__a_signer_that_is_down_is_asked_with_pauses_until_it_is_back(void **state) {
  struct world *world = *state;
  begin(world, "a.example: {signers: [first, second]}");
  world->signer_down = "second";
  const unsigned before = world->counts.proofs;
  world_live(world, 3);
  assert_in_range(world->counts.proofs - before, 60, 180);
  assert_int_equal(world_events(world, "a.example", "alarm"), 1);
  world->signer_down = NULL;
  world_run_well(world, 2 * 3600);
  assert_int_equal(world_events(world, "a.example", "recovered"), 1);
  assert_int_equal(world_events(world, "a.example", "failed"), 0);
}

static void test_engine_proof__without_servers_to_ask_nothing_is_said_of_signers(void **state) {
  struct world *world = *state;
  begin(world, "a.example: {}");
  world->observe_fails = true;
  const unsigned before = world->counts.proofs;
  world_live(world, 3);
  assert_int_equal(world->counts.proofs, before);
  assert_int_equal(world_events(world, "a.example", "alarm"), 0);
  world->observe_fails = false;
  world_live(world, 1);
  assert_true(world->counts.proofs > before);
}

/* ---- tables that others change ---- */

static void test_engine_proof__changed_tables_are_proved_at_once(void **state) {
  struct world *world = *state;
  struct buffer domains = BUFFER_WITH_MAXIMUM(1 << 20);
  for (unsigned i = 0; i < 700; i++) buffer_format(&domains, "%sd%u.example: {}", i ? ", " : "", i);
  CLEANUP_FREE char *text = buffer_take_text(&domains);
  world->tables_digest = "one";
  begin(world, text);
  assert_int_equal(world_events(world, NULL, "tables"), 0);
  assert_true(world->looks > 1);
  world_run_well(world, 10);
  const unsigned proofs = world->counts.proofs;
  world_run_well(world, 10); /* as it was left: nothing is proved */
  assert_int_equal(world->counts.proofs, proofs);
  world->tables_digest = "two";
  world_edit_tables(world, 0, "d640.example", "");
  assert_int_equal(world->counts.compared, 0);
  world_run_well(world, 30);
  assert_in_range(world->counts.compared, 690, 701); /* what OpenDKIM has not read yet is on the disk alone */
  assert_int_equal(world_events(world, NULL, "tables"), 1);
  assert_int_equal(world_events(world, "d640.example", "healed"), 1);
  assert_in_range(world->counts.proofs - proofs, 3, 6); /* 250 at a time */
  const unsigned after = world->counts.proofs;
  world_run_well(world, 10);
  assert_int_equal(world_events(world, NULL, "tables"), 1);
  assert_int_equal(world->counts.proofs, after);
}

/* Gates do not count what a clock gained that nobody vouches for, and an edit was to wait until they had come to where the clock says that it was made. */
static void test_engine_proof__tables_changed_under_a_clock_that_is_ahead_are_proved_at_once(void **state) {
  struct world *world = *state;
  world->tables_digest = "one";
  begin(world, "a.example: {}");
  world->unsynchronised = world->no_tsig = true;
  loop_virtual_set_wall(world->loop, loop_wall(world->loop) + 10 * 3600);
  world_run_well(world, 10);
  world->tables_digest = "two";
  world_edit_tables(world, 0, "a.example", "");
  world_run_well(world, 60);
  assert_int_equal(world_events(world, "a.example", "healed"), 1);
  const unsigned proofs = world->counts.proofs;
  world_run_well(world, 3600);
  assert_int_equal(world->counts.proofs, proofs);
  /* A proof by the clock that is ahead is no younger than what is changed after it. */
  world->tables_digest = "three";
  world_edit_tables(world, 0, "a.example", "");
  world_run_well(world, 60);
  assert_int_equal(world_events(world, "a.example", "healed"), 2);
}

/* A run sees an edit and dies before the proof, and then the clock is set back behind the edit, or behind the proof before it too. */
static void test_engine_proof__tables_changed_before_the_clock_goes_back_are_proved_at_once(void **state) {
  (void)state;
  for (unsigned steps = 1; steps < 30; steps++) {
    struct world world = {.tables_digest = "one"};
    begin(&world, "a.example: {}");
    loop_virtual_suspend(world.loop, 8 * 3600 * 1000);
    world_run_well(&world, 10);
    world.tables_digest = "two";
    world_edit_tables(&world, 0, "a.example", "");
    world.steps_left = steps;
    world_run_well(&world, 60);
    world.steps_left = 0;
    loop_virtual_set_wall(world.loop, loop_wall(world.loop) - (steps % 2 ? 3 : 20) * 3600);
    world_run_well(&world, 60);
    if (world_events(&world, "a.example", "healed") != 1) fail_msg("not healed after %u steps", steps);
    world_remove(&world);
  }
}

/* Whoever follows the remedy of a failure changes the tables: the next run goes on, however long the pause has become. */
static void fail_until_tables_change(struct world *world, const char *before) {
  struct error error = {0};
  world->domain_fails = "a.example";
  (void)!world_run(world, 12 * 3600, &error);
  world->domain_fails = NULL;
  loop_virtual_suspend(world->loop, 60 * 1000);
  (void)!world_run(world, 30, &error);
  assert_string_equal(signing(world), before); /* nothing says that it is worth another attempt */
  world->tables_digest = "remedy";
  (void)!world_run(world, 30, &error);
  assert_string_not_equal(signing(world), before);
}

static void test_engine_proof__a_remedy_in_the_tables_ends_the_pause_of_a_repair(void **state) {
  struct world *world = *state;
  world->tables_digest = "one";
  begin(world, "a.example: {}");
  world_run_well(world, 10); /* the tables are known as they are */
  world_edit_tables(world, 0, "a.example", "");
  world->tables_digest = "two";
  fail_until_tables_change(world, "");
}

static void test_engine_proof__a_remedy_in_the_tables_ends_the_pause_of_a_switch(void **state) {
  struct world *world = *state;
  char before[64];
  world->tables_digest = "one";
  begin(world, "a.example: {}");
  text_copy(before, sizeof before, signing(world));
  world_request(world, REQUEST_ROTATE, "a.example");
  fail_until_tables_change(world, before);
}

/* What the engine wrote itself is no news, also when the digest is seen only after its operation. */
static void test_engine_proof__own_edits_are_no_change(void **state) {
  struct world *world = *state;
  world->tables_digest = "one";
  begin(world, "a.example: {}");
  world_request(world, REQUEST_ROTATE, "a.example");
  world->tables_digest = "two";
  const unsigned looks = world->looks;
  world_run_well(world, 2 * 3600);
  assert_int_equal(world_events(world, NULL, "tables"), 1); /* it was changed before this run began */
  world->tables_digest = "three";
  world_request(world, REQUEST_ROTATE, "a.example");
  world_run_well(world, 1);
  assert_true(world->looks > looks + 1);
}

static void test_engine_proof__tables_that_nobody_may_look_at_stop_nothing(void **state) {
  struct world *world = *state;
  begin(world, "a.example: {}");
  world_live(world, 2);
  assert_true(world->looks > 0);
  assert_int_equal(world_events(world, NULL, "tables"), 0);
  assert_string_not_equal(signing(world), "");
}

/* Whatever the callback after which the engine is gone: the next one begins with a proof, and all is mended. */
static void test_engine_proof__a_crash_anywhere_is_healed_by_the_next_run(void **state) {
  (void)state;
  for (unsigned steps = 1; steps < 40; steps++) {
    struct world world = {0};
    char path[512];
    begin(&world, "a.example: {signers: [first, second]}");
    const char *selector = signing(&world);
    path_of(&world, "first", selector, path, sizeof path);
    assert_int_equal(unlink(path), 0);
    world_edit_tables(&world, 1, "a.example", "");
    world.steps_left = steps;
    world_run_well(&world, WORLD_DAY);
    world.steps_left = 0;
    world_run_well(&world, 2 * WORLD_DAY);
    if (world.violations) fail_msg("after %u steps: %s", steps, world.violation);
    assert_int_equal(access(path, R_OK), 0);
    assert_string_equal(world_signs(&world, 1, "a.example"), selector);
    world_remove(&world);
  }
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_engine_proof__##name, world_setup, world_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_day_is_one_proof_of_each_key),
      TEST(a_batch_shares_an_operation_and_one_failure_is_its_own),
      TEST(tables_at_one_signer_are_mended_there_alone),
      TEST(a_missing_file_is_copied_from_another_signer),
      TEST(a_lost_file_brings_a_new_key),
      TEST(a_file_of_another_key_brings_a_new_key),
      TEST(a_file_that_was_replaced_before_its_turn_is_not_switched_to),
      TEST(a_signer_that_is_down_is_asked_with_pauses_until_it_is_back),
      TEST(without_servers_to_ask_nothing_is_said_of_signers),
      TEST(changed_tables_are_proved_at_once),
      TEST(tables_changed_under_a_clock_that_is_ahead_are_proved_at_once),
      TEST(tables_changed_before_the_clock_goes_back_are_proved_at_once),
      TEST(a_remedy_in_the_tables_ends_the_pause_of_a_repair),
      TEST(a_remedy_in_the_tables_ends_the_pause_of_a_switch),
      TEST(own_edits_are_no_change),
      TEST(tables_that_nobody_may_look_at_stop_nothing),
      TEST(a_crash_anywhere_is_healed_by_the_next_run),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
