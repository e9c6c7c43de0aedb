/* Each call fails once in the commands that look: they show everything, or say what is wrong; and the store stays as it is. */
#include "../unit/cli_desk.h"

#include "dkimroll/status.h"
#include "fault.h"

static const char TWO[] = "  example.com:\n  example.org:\n";

struct view {
  struct desk *desk;
  int (*command)(const struct cli *cli);
  const char *const *operands;
  bool json;
  char *golden; /* what it prints undisturbed */
};

static int view_act(void *context, struct error *error) {
  struct view *view = context;
  struct desk *desk = view->desk;
  char *out = NULL, *err = NULL;
  size_t out_size, err_size, count = 0;
  while (view->operands && view->operands[count]) count++;
  desk->arguments.policy = desk->policy;
  desk->arguments.operands = view->operands;
  desk->arguments.operand_count = count;
  desk->arguments.json = view->json;
  struct cli cli = {.wiring = &desk->wiring, .arguments = &desk->arguments, .out = open_memstream(&out, &out_size), .err = open_memstream(&err, &err_size)};
  assert_true(cli.out && cli.err);
  const int status = view->command(&cli);
  fclose(cli.out);
  fclose(cli.err);
  int code = 0;
  if (status == EX_OK) {
    if (!view->golden) view->golden = strdup(out);
    /* Moments of the present differ by what the test takes; a policy that cannot be looked at counts as changed, which is told besides. */
    if (strlen(out) < strlen(view->golden)) fail_msg("it says that all is well, but not all:\n%s\ninstead of\n%s\n", out, view->golden);
  } else {
    /* status tells of its own trouble where it tells of that of others. */
    const char *told = err[0] ? err : out;
    if (!err[0] && !text_starts(out, "NOT all right") && !strstr(out, "\"ok\": false")) fail_msg("it ends with %d and without a word:\n%s", status, out);
    code = error_set(error, ERROR_SYSTEM, "%.*s", (int)strcspn(told, "\n"), told);
  }
  free(out);
  free(err);
  return code;
}

static void desk_make_signed(struct desk *desk) {
  desk_make(desk, TWO);
  desk_sync(desk);
  desk_edit(desk, "example.com", NULL, desk_live, NULL);
  desk_edit(desk, "example.org", NULL, desk_live, NULL);
}

static void view_each(const char *name, int (*command)(const struct cli *cli), const char *const *operands, bool json) {
  struct desk desk;
  desk_make_signed(&desk);
  desk.arguments.until = desk.now + 90 * DAY;
  struct view view = {.desk = &desk, .command = command, .operands = operands, .json = json};
  const struct fault_workload workload = {.name = name, .context = &view, .act = view_act};
  fault_each(&workload);
  free(view.golden);
  desk_remove(&desk);
}

static void test_fault_commands__status_tells_all_or_fails(void **state) {
  (void)state;
  view_each("status", cli_command_status, NULL, false);
  view_each("status DOMAIN", cli_command_status, DOMAINS("example.org"), false);
  view_each("status --json", cli_command_status, NULL, true);
}

static void test_fault_commands__plan_tells_all_or_fails(void **state) {
  (void)state;
  view_each("plan", cli_command_plan, NULL, false);
  view_each("plan --json", cli_command_plan, DOMAINS("example.org"), true);
}

static void test_fault_commands__history_tells_all_or_fails(void **state) {
  (void)state;
  view_each("history", cli_command_history, NULL, false);
  view_each("history --json", cli_command_history, DOMAINS("example.org"), true);
}

#define FAULT_TEST(name) cmocka_unit_test_teardown(test_fault_commands__##name, fault_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      FAULT_TEST(status_tells_all_or_fails),
      FAULT_TEST(plan_tells_all_or_fails),
      FAULT_TEST(history_tells_all_or_fails),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
