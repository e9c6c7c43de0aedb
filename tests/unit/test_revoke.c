/* Which keys a name means. */
#include "cli_desk.h"

#include "dkimroll/revoke.h"

static const char TWO[] = "  example.com:\n  example.org:\n";

/* A key that signs, and one that did before: played for longer than a key's life, by the planner. */
static void live_twice(struct lineage *lineage, const struct desk *desk, void *context) {
  int64_t ago = 95 * DAY;
  (void)context;
  desk_live(lineage, desk, &ago);
}

struct place {
  struct desk desk;
  struct cli cli;
  struct session session;
  struct revoke revoke;
  char active[SELECTOR_SIZE], retired[SELECTOR_SIZE]; /* of example.com */
};

static int note_keys(void *context, const void *row) {
  struct place *place = context;
  const struct lineage *lineage = row;
  for (size_t i = 0; i < lineage->key_count; i++) {
    if (lineage->keys[i].state == KEY_ACTIVE) text_copy(place->active, sizeof place->active, lineage->keys[i].selector);
    if (lineage->keys[i].state == KEY_RETIRED) text_copy(place->retired, sizeof place->retired, lineage->keys[i].selector);
  }
  return 0;
}

static int setup(void **state) {
  struct place *place = calloc(1, sizeof *place);
  const struct store_filter one = {.domain = "example.com"};
  struct error error = {0};
  assert_non_null(place);
  desk_make(&place->desk, TWO);
  desk_sync(&place->desk);
  desk_edit(&place->desk, "example.com", NULL, live_twice, NULL);
  place->desk.arguments.policy = place->desk.policy;
  place->cli = (struct cli){.wiring = &place->desk.wiring, .arguments = &place->desk.arguments, .out = stdout, .err = stderr};
  place->session = (struct session){.cli = &place->cli, .store = desk_open_store(&place->desk)};
  place->revoke = (struct revoke){.session = &place->session, .arguments = &place->desk.arguments, .now = place->desk.now};
  assert_int_equal(place->session.store->ops->select(place->session.store, STORE_SELECT_LINEAGES, &one, note_keys, place, &error), 0);
  assert_true(place->active[0] && place->retired[0]);
  *state = place;
  return 0;
}

static int teardown(void **state) {
  struct place *place = *state;
  revoke_release(&place->revoke);
  store_close(place->session.store);
  desk_remove(&place->desk);
  free(place);
  return 0;
}

static int find(struct place *place, const char *operand) {
  const char *const operands[] = {operand};
  struct error error = {0};
  place->desk.arguments.operands = operands;
  place->desk.arguments.operand_count = 1;
  return revoke_find(&place->revoke, &error);
}

/* The key that signs now is no other's fault. */
static void test_revoke__a_selector_means_its_key_and_not_the_one_that_signs(void **state) {
  struct place *place = *state;
  assert_int_equal(find(place, place->retired), 0);
  assert_int_equal(place->revoke.count, 1);
  assert_string_equal(place->revoke.targets[0].selector, place->retired);
}

static void test_revoke__so_does_its_whole_name(void **state) {
  struct place *place = *state;
  CLEANUP_FREE char *name = text_format("%s._domainkey.example.com", place->retired);
  assert_int_equal(find(place, name), 0);
  assert_int_equal(place->revoke.count, 1);
  assert_string_equal(place->revoke.targets[0].selector, place->retired);
}

static void test_revoke__a_domain_means_the_key_that_signs(void **state) {
  struct place *place = *state;
  assert_int_equal(find(place, "example.com"), 0);
  assert_int_equal(place->revoke.count, 1);
  assert_string_equal(place->revoke.targets[0].selector, place->active);
}

static void test_revoke__of_a_compromised_host_a_selector_means_every_living_key_of_its_domain(void **state) {
  struct place *place = *state;
  place->desk.arguments.host_compromised = true;
  assert_int_equal(find(place, place->retired), 0);
  assert_int_equal(place->revoke.count, 2);
  assert_non_null(revoke_target_of(&place->revoke, "example.com", place->active));
  assert_non_null(revoke_target_of(&place->revoke, "example.com", place->retired));
}

static void test_revoke__nothing_is_meant_by_a_name_of_nobody(void **state) {
  struct place *place = *state;
  assert_int_equal(find(place, "nobody"), ERROR_NOT_FOUND);
  assert_int_equal(find(place, "example.org"), ERROR_NOT_FOUND);
  assert_int_equal(place->revoke.count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_revoke__##name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_selector_means_its_key_and_not_the_one_that_signs),
      TEST(so_does_its_whole_name),
      TEST(a_domain_means_the_key_that_signs),
      TEST(of_a_compromised_host_a_selector_means_every_living_key_of_its_domain),
      TEST(nothing_is_meant_by_a_name_of_nobody),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
