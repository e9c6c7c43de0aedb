/* Memory runs out in the lifecycle, at each step of whole lives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lifecycle_memory_rig.h"

static void test_lifecycle_memory__each_step_of_a_life_fails_whole_and_succeeds_again(void **state) {
  struct life *life = *state;
  life_run(life, 260 * DAY);
  assert_true(life->rotations >= 3 && lifecycle_memory_refused() > 10000);
  life_expect_well(life);
}

static void test_lifecycle_memory__each_step_of_a_life_full_of_faults_fails_whole(void **state) {
  struct life *life = *state;
  life->server_count = LIFE_SERVERS_MAX;
  life->fault = (struct life_fault){.permille = 200, .code = ERROR_UNREACHABLE};
  life_run(life, 500 * DAY);
  life->fault.permille = 0;
  life_run(life, LIFE_RECOVERY);
  life_expect_well(life);
  assert_true(life->failures > 20 && lifecycle_memory_refused() > 10000);
}

static void test_lifecycle_memory__each_step_of_a_life_with_edited_tables_and_lost_files_fails_whole(void **state) {
  struct life *life = *state;
  for (unsigned i = 0; i < 6; i++) {
    const size_t active = life_run_until(life, KEY_ACTIVE, 10 * DAY);
    const char *selector = life->builder.lineage.keys[active].selector;
    if (i % 2) life_lose_file(life, 1, selector, false);
    else life_edit_tables(life, 0, "");
    life->fault = (struct life_fault){.action = PLAN_REPAIR, .times = i % 3, .code = ERROR_UNREACHABLE};
    life_run(life, 5 * DAY);
    life_forget(life, life->builder.lineage.keys[life_find(life, KEY_ACTIVE)].selector);
    life_run(life, 5 * DAY);
  }
  life_expect_well(life);
  assert_true(lifecycle_memory_refused() > 5000);
}

static void test_lifecycle_memory__each_step_of_a_life_whose_signers_change_fails_whole(void **state) {
  static const size_t sets[][2] = {{1, 2}, {1, 3}, {4, 3}, {4, 2}};
  struct life *life = *state;
  for (size_t i = 0; i < 4; i++) {
    builder_define_signer(&life->builder, 3, "third", "");
    if (i < 2) builder_define_signer(&life->builder, 4, "fourth", "");
    builder_use_signers(&life->builder, sets[i], 2);
    life_policy_changed(life);
    life->fault = (struct life_fault){.action = i % 2 ? PLAN_WITHDRAW : PLAN_DESTROY, .permille = 600, .code = ERROR_UNREACHABLE};
    life->builder.lineage.rotate_requested = true;
    life_run(life, 50 * DAY);
  }
  life->fault.permille = 0;
  life_run(life, LIFE_RECOVERY);
  life_expect_well(life);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_lifecycle_memory__##name, lifecycle_memory_setup, lifecycle_memory_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(each_step_of_a_life_fails_whole_and_succeeds_again),
      TEST(each_step_of_a_life_full_of_faults_fails_whole),
      TEST(each_step_of_a_life_with_edited_tables_and_lost_files_fails_whole),
      TEST(each_step_of_a_life_whose_signers_change_fails_whole),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
