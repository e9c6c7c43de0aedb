/* Each call that the engine makes fails once, anywhere in the life of two domains: their keys, records and lines are in the end what they would have been. */
#include "../unit/engine_world.h"

#include <dirent.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "fault.h"

struct life {
  struct world *world;
  int hours, peace; /* of trouble, and days after it */
  const char *policy; /* domains */
  const char *rules;  /* of the policy; NULL: the usual ones */
};

static void life_begin(void *context) {
  struct life *life = context;
  life->world = calloc(1, sizeof *life->world);
  assert_non_null(life->world);
  life->world->rules = life->rules;
  world_make(life->world, life->policy);
}

/* Begins in the second life of the keys: a rotation is asked for, the old key is retired, revoked, removed. */
static void rotation_begin(void *context) {
  struct life *life = context;
  life_begin(life);
  world_live(life->world, 1);
  world_request(life->world, REQUEST_ROTATE, "a.example");
}

/* A key waits in each, and the one that signs for a.example is in other hands. */
static void emergency_begin(void *context) {
  struct life *life = context;
  life_begin(life);
  world_live(life->world, 1);
  CLEANUP_FREE char *states = world_states(life->world, "a.example");
  assert_string_equal(states, "active ready");
  life->world->compromised = true;
  world_request(life->world, REQUEST_REVOKE, "a.example");
}

static int life_act(void *context, struct error *error) {
  struct life *life = context;
  return world_run(life->world, (int64_t)life->hours * 3600, error);
}

static uint64_t life_situation(const void *context) {
  const struct life *life = context;
  return world_situation(life->world);
}

static size_t count_keys(const struct world *world, const char *signer, const char *domain) {
  CLEANUP_FREE char *path = text_format("%s/%s/%s", world->place.path, signer, domain);
  DIR *directory = opendir(path);
  size_t count = 0;
  for (const struct dirent *entry = directory ? readdir(directory) : NULL; entry; entry = readdir(directory))
    count += entry->d_name[0] != '.' || (entry->d_name[1] && entry->d_name[1] != '.');
  if (directory) closedir(directory);
  return count;
}

/* Whatever happened, no invariant was broken; and given some days of peace, every domain signs with one key, and nothing is left of others. */
static void life_check(void *context, bool whole) {
  struct life *life = context;
  struct world *world = life->world;
  (void)whole;
  if (world->violations) fail_msg("%zu violations, first: %s", world->violations, world->violation);
  world_live(world, life->peace);
  const char *const domains[] = {"a.example", "b.example"};
  for (size_t i = 0; i < ARRAY_SIZE(domains); i++) {
    CLEANUP_FREE char *states = world_states(world, domains[i]);
    const char *active = strstr(states, "active");
    if (!active || strstr(active + 1, "active")) fail_msg("%s: %s", domains[i], states);
    if (strstr(states, "reserved") || strstr(states, "generated")) fail_msg("%s: %s", domains[i], states);
    size_t keys = 1;
    for (const char *space = states; *space; space++) keys += *space == ' ';
    assert_int_equal(world_records(world, domains[i]), keys);
    assert_int_equal(count_keys(world, "first", domains[i]), keys);
    assert_true(world_signs(world, 0, domains[i])[0] != '\0');
  }
}

static void life_end(void *context) {
  struct life *life = context;
  world_remove(life->world);
  free(life->world);
}

static void fault_life(const char *name, void (*begin)(void *), int hours) {
  /* No new rotation begins in the time of peace: it would be the whole cost of an attempt. */
  struct life life = {.hours = hours, .peace = 14, .policy = "a.example: {signers: [first, second]}, b.example: {}"};
  /* The second act is the check itself, which lives on. */
  const struct fault_workload workload = {
      .name = name, .context = &life, .begin = begin, .act = life_act, .check = life_check, .end = life_end, .situation = life_situation, .once = true};
  fault_each(&workload);
}

static void test_fault_engine__first_keys_come_to_sign(void **state) {
  (void)state;
  fault_life("first keys", life_begin, 24);
}

static void test_fault_engine__a_revocation_comes_to_its_end(void **state) {
  (void)state;
  struct life life = {.hours = 12, .peace = 2, .policy = "a.example: {signers: [first, second]}, b.example: {}", .rules = "rotate-every: 90d, standby: 1"};
  const struct fault_workload workload = {
      .name = "revocation", .context = &life, .begin = emergency_begin, .act = life_act, .check = life_check, .end = life_end, .situation = life_situation, .once = true, .costly = true};
  fault_each(&workload);
}

static void test_fault_engine__a_rotation_comes_to_its_end(void **state) {
  (void)state;
  fault_life("rotation", rotation_begin, 12 * 24);
}

#define FAULT_TEST(name) cmocka_unit_test_teardown(test_fault_engine__##name, fault_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      FAULT_TEST(first_keys_come_to_sign),
      FAULT_TEST(a_rotation_comes_to_its_end),
      FAULT_TEST(a_revocation_comes_to_its_end),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
