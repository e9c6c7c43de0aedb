/* Each call fails once in the commands that look: they show everything, or say what is wrong; and the store stays as it is. */
#include "../unit/check_world.h"

#include <dirent.h>

#include "dkimroll/file.h"
#include "dkimroll/revoke.h"
#include "dkimroll/status.h"
#include "dkimroll/units.h"
#include "fault.h"

struct view {
  struct desk *desk;
  int (*command)(const struct cli *cli);
  const char *const *operands;
  bool json;
  char *golden; /* what it prints undisturbed */
  bool named_scratch; /* the last output speaks of a scratch record that is left */
  bool lines;   /* as many lines are all: numbers in them differ in length */
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
  view->named_scratch = strstr(out, "delete it: printf");
  if (status == EX_OK) {
    if (!view->golden) view->golden = strdup(out);
    /* Moments of the present differ by what the test takes; a policy that cannot be looked at counts as changed, which is told besides. */
    const bool less = view->lines ? count_lines(out) < count_lines(view->golden) : strlen(out) < strlen(view->golden);
    if (less && !strstr(out, ", for which there was no memory")) fail_msg("it says that all is well, but not all:\n%s\ninstead of\n%s\n", out, view->golden);
  } else {
    /* status tells of its own trouble where it tells of that of others. */
    const char *told = err[0] ? err : out;
    if (!err[0] && !strstr(out, "NOT all right") && !strstr(out, "\"ok\": false")) fail_msg("it ends with %d and without a word:\n%s", status, out);
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
  struct view view = {.desk = &desk, .command = command, .operands = operands, .json = json, .lines = command == cli_command_metrics};
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

static void test_fault_commands__metrics_tell_all_or_fail(void **state) {
  (void)state;
  view_each("metrics", cli_command_metrics, NULL, false);
}

/* ---- commands that ask servers and signers ---- */

static struct scripted_world world;

struct asking {
  struct view view;
  struct desk desk;
};

/* What was asked of the world is counted for each attempt. */
static void asking_begin(void *context) {
  struct asking *asking = context;
  check_world_make(&world, &asking->desk, TWO);
  make_active(&asking->desk, "example.com", true);
  world.may_cancel = true;
}

static void asking_end(void *context) {
  desk_remove(&((struct asking *)context)->desk);
  key_roots_release(&world.roots);
}

static int asking_act(void *context, struct error *error) { return view_act(&((struct asking *)context)->view, error); }

/* A scratch record that it added is deleted, or named with the way to delete it. */
static void asking_check(void *context, bool whole) {
  const struct asking *asking = context;
  if (whole) assert_int_equal(world.added_count, world.deleted_count);
  if (world.added_count > world.deleted_count && !asking->view.named_scratch) fail_msg("%zu scratch records are left, and nobody is told", world.added_count - world.deleted_count);
}

static void ask_each(const char *name, int (*command)(const struct cli *cli)) {
  struct asking asking = {.view = {.command = command, .lines = true}};
  asking.view.desk = &asking.desk;
  const struct fault_workload workload = {.name = name, .context = &asking, .begin = asking_begin, .act = asking_act, .check = asking_check, .end = asking_end, .once = true};
  fault_each(&workload);
  free(asking.view.golden);
}

static void test_fault_commands__check_finds_all_right_or_says_what_is_not(void **state) {
  (void)state;
  ask_each("check", cli_command_check);
}

static void test_fault_commands__prove_proves_all_or_says_what_is_not(void **state) {
  (void)state;
  ask_each("prove", cli_command_prove);
}

/* ---- which keys are to be revoked ---- */

/* Without a terminal and --yes it tells what would happen, and does nothing. */
static int foretell(const struct cli *cli) {
  struct session session = {.cli = cli};
  struct revoke revoke = {.session = &session, .arguments = cli->arguments, .now = INT64_C(1800000000)};
  struct error error = {0};
  int result = session_open_for_reading(&session, &error);
  if (!result) result = revoke_find(&revoke, &error);
  if (!result) result = revoke_print_plan(&revoke, &error);
  revoke_release(&revoke);
  session_release(&session);
  return result ? cli_report(cli, &error) : EX_OK;
}

static void test_fault_commands__whom_a_revocation_means_is_told_or_it_fails(void **state) {
  (void)state;
  view_each("revoke DOMAIN", foretell, DOMAINS("example.org"), false);
}

/* ---- drop-ins of the units ---- */

struct host {
  struct workplace folder;
  char *policy, *drop_in;
  struct cli_arguments arguments;
};

static void put(const struct host *host, const char *path, const char *text) { workplace_put(&host->folder, path, text); }

static void host_begin(void *context) {
  struct host *host = context;
  workplace_make(&host->folder, "/tmp");
  put(host, "lib/systemd/system/dkimroll-keeper@.service", "[Service]\nReadWritePaths=-/etc/opendkim\n");
  put(host, "lib/systemd/system/dkimroll.service", "[Service]\nStateDirectory=dkimroll\n");
  put(host, "run/systemd/system/dkimroll.service.d/other.conf", "[Service]\nInaccessiblePaths=/srv/else\n");
  CLEANUP_FREE char *text = text_format("state: %s/state.db\n%s", host->folder.path, "policies: {one: {}}\npublishers: {primary: {server: \"192.0.2.1\", tsig-file: /srv/tsig.key}}\n"
                                        "signers: {local: {key-table: /srv/tables/KeyTable, signing-table: \"refile:/srv/tables/SigningTable\", key-directory: /srv/keys/%d, milter: \"inet:8891@127.0.0.1\"}}\n"
                                        "domains: {a.example: {policy: one, publisher: primary, signers: [local]}}\n");
  assert_non_null(text);
  put(host, "policy.yaml", text);
  host->policy = workplace_path(&host->folder, "policy.yaml");
  host->drop_in = workplace_path(&host->folder, "etc/systemd/system/dkimroll-keeper@.service.d/" UNITS_FILE_NAME);
  host->arguments = (struct cli_arguments){.policy = host->policy, .apply = true};
}

static void host_end(void *context) {
  struct host *host = context;
  workplace_remove(&host->folder);
  free(host->policy);
  free(host->drop_in);
}

static int units_act(void *context, struct error *error) {
  struct host *host = context;
  char *out = NULL, *err = NULL;
  size_t out_size, err_size;
  static const struct cli_wiring wiring = {.open_store = store_sqlite_open};
  struct cli cli = {.wiring = &wiring, .arguments = &host->arguments, .out = open_memstream(&out, &out_size), .err = open_memstream(&err, &err_size)};
  const int status = units_carry_out(&cli, host->folder.path);
  fclose(cli.out);
  fclose(cli.err);
  if (status && !err[0]) fail_msg("it ends with %d and without a word", status);
  const int code = status ? error_set(error, ERROR_SYSTEM, "%.*s", (int)strcspn(err, "\n"), err) : 0;
  free(out);
  free(err);
  return code;
}

/* Each drop-in is there whole or not at all. */
static void units_check(void *context, bool whole) {
  const struct host *host = context;
  CLEANUP_FREE char *text = NULL;
  struct error error = {0};
  size_t size = 0, count = 0;
  const bool there = file_read(host->drop_in, UNITS_TEXT_MAX, &text, &size, NULL, &error) == 0;
  if (whole) assert_true(there);
  if (!there) return;
  assert_contains(text, "\nReadWritePaths=-/srv/tables\n");
  assert_true(text[size - 1] == '\n');
  *strrchr(host->drop_in, '/') = '\0';
  DIR *listing = opendir(host->drop_in);
  host->drop_in[strlen(host->drop_in)] = '/';
  assert_non_null(listing);
  for (const struct dirent *entry = readdir(listing); entry; entry = readdir(listing)) count += entry->d_name[0] != '.' || entry->d_name[1] > '.';
  closedir(listing);
  assert_int_equal(count, 1);
}

static void test_fault_commands__drop_ins_are_written_whole_or_not_at_all(void **state) {
  (void)state;
  struct host host;
  const struct fault_workload workload = {.name = "units --apply", .context = &host, .begin = host_begin, .act = units_act, .check = units_check, .end = host_end};
  fault_each(&workload);
}

#define FAULT_TEST(name) cmocka_unit_test_teardown(test_fault_commands__##name, fault_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      FAULT_TEST(status_tells_all_or_fails),
      FAULT_TEST(plan_tells_all_or_fails),
      FAULT_TEST(history_tells_all_or_fails),
      FAULT_TEST(metrics_tell_all_or_fail),
      FAULT_TEST(check_finds_all_right_or_says_what_is_not),
      FAULT_TEST(prove_proves_all_or_says_what_is_not),
      FAULT_TEST(whom_a_revocation_means_is_told_or_it_fails),
      FAULT_TEST(drop_ins_are_written_whole_or_not_at_all),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
