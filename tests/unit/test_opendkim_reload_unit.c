/* The keeper's reload jobs by a unit: a systemd on a bus of our own is asked, its job is waited for, and what it refuses is explained. */
#include "opendkim_jobs_rig.h"

#include <signal.h>

#include "fake_systemd.h"

static int reload_named(struct stage *stage, const char *unit, bool probe, int64_t timeout_ms) {
  stage->policy.reload = RELOAD_UNIT;
  stage->policy.reload_target = (char *)(uintptr_t)unit;
  stage_allow(stage);
  return stage_reload(stage, probe, timeout_ms);
}

static int restart_named(struct stage *stage, const char *unit, int64_t timeout_ms) {
  stage->policy.restart = RELOAD_UNIT;
  stage->policy.restart_target = (char *)(uintptr_t)unit;
  stage_allow(stage);
  return stage_restart(stage, timeout_ms);
}

static void test_opendkim_reload__unit_is_reloaded_and_its_job_waited_for(void **state) {
  struct stage *stage = *state;
  struct bus bus;
  bus_open(&bus, true);
  assert_int_equal(reload_named(stage, "opendkim.service", false, PLENTY_MS), 0);
  assert_int_equal(reload_named(stage, "early.service", false, PLENTY_MS), 0);
  assert_int_equal(reload_named(stage, "restart.service", false, PLENTY_MS), 0);
  assert_int_equal(reload_named(stage, "failing.service", false, PLENTY_MS), ERROR_REFUSED);
  assert_non_null(strstr(stage->error.message, "failed"));
  assert_int_equal(reload_named(stage, "stopped.service", false, PLENTY_MS), ERROR_NOT_FOUND);
  assert_non_null(strstr(stage->error.remedy, "start"));
  assert_int_equal(reload_named(stage, "missing.service", false, PLENTY_MS), ERROR_NOT_FOUND);
  assert_non_null(strstr(stage->error.message, "not found"));
  assert_int_equal(reload_named(stage, "denied.service", false, PLENTY_MS), ERROR_PERMISSION);
  assert_non_null(strstr(stage->error.remedy, "polkit"));
  int64_t start = clock_boottime();
  assert_int_equal(reload_named(stage, "hanging.service", false, SHORT_MS), ERROR_TIMEOUT);
  assert_true(clock_boottime() - start < PLENTY_MS / 2);
  bus_close(&bus);
}

static void test_opendkim_reload__unit_is_restarted_at_once_also_if_connections_are_open(void **state) {
  struct stage *stage = *state;
  struct bus bus;
  bus_open(&bus, true);
  if (restart_named(stage, "busy.service", PLENTY_MS / 4) < 0) fail_msg("%s", stage->error.message);
  assert_int_equal(restart_named(stage, "failing.service", PLENTY_MS), ERROR_REFUSED);
  assert_int_equal(restart_named(stage, "denied.service", PLENTY_MS), ERROR_PERMISSION);
  stage->policy.restart_target = NULL;
  bus_close(&bus);
}

static void test_opendkim_reload__restart_is_by_the_unit_of_the_reload_where_nothing_else_is_said(void **state) {
  (void)state;
  const char *target = NULL;
  struct policy_signer signer = {.reload = RELOAD_UNIT, .reload_target = (char *)"opendkim.service"};
  assert_int_equal(policy_signer_restart(&signer, &target), RELOAD_UNIT);
  assert_string_equal(target, "opendkim.service");
  signer.restart = RELOAD_UNIT;
  signer.restart_target = (char *)"other.service";
  assert_int_equal(policy_signer_restart(&signer, &target), RELOAD_UNIT);
  assert_string_equal(target, "other.service");
  signer.restart = RELOAD_NONE;
  signer.reload = RELOAD_PID_FILE;
  assert_int_equal(policy_signer_restart(&signer, &target), RELOAD_NONE);
}

static void test_opendkim_reload__unit_probe_only_looks(void **state) {
  struct stage *stage = *state;
  struct bus bus;
  bus_open(&bus, true);
  assert_int_equal(reload_named(stage, "opendkim.service", true, PLENTY_MS), 0);
  assert_int_equal(reload_named(stage, "stopped.service", true, PLENTY_MS), ERROR_NOT_FOUND);
  assert_non_null(strstr(stage->error.message, "inactive"));
  assert_int_equal(reload_named(stage, "missing.service", true, PLENTY_MS), ERROR_NOT_FOUND);
  bus_close(&bus);
}

static void test_opendkim_reload__host_without_systemd_is_explained(void **state) {
  struct stage *stage = *state;
  struct bus bus;
  bus_open(&bus, false);
  if (reload_named(stage, "opendkim.service", false, PLENTY_MS) != ERROR_UNREACHABLE)
    fail_msg("%s", stage->error.message);
  assert_non_null(strstr(stage->error.remedy, "pid-file"));
  bus_close(&bus);
  setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus", 1);
  assert_int_equal(reload_named(stage, "opendkim.service", false, PLENTY_MS), ERROR_UNREACHABLE);
  assert_true(stage->error.remedy[0] != '\0');
  unsetenv("DBUS_SYSTEM_BUS_ADDRESS");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_opendkim_reload__unit_is_reloaded_and_its_job_waited_for),
      TEST(test_opendkim_reload__unit_is_restarted_at_once_also_if_connections_are_open),
      cmocka_unit_test(test_opendkim_reload__restart_is_by_the_unit_of_the_reload_where_nothing_else_is_said),
      TEST(test_opendkim_reload__unit_probe_only_looks),
      TEST(test_opendkim_reload__host_without_systemd_is_explained),
  };
  signal(SIGPIPE, SIG_IGN);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
