/* What a command can still do once it has its keeper. In child processes, since it cannot be undone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/landlock.h"
#include "dkimroll/privilege.h"
#include "dkimroll/session.h"
#include "dkimroll/text.h"
#include "forked.h"
#include "workplace.h"

enum { NOBODY = 65534 };

/* policy.yaml, keys/example.com/s.private, keys/tsig.key, KeyTable, state. */
struct fixture {
  struct workplace workplace;
  char *policy, *key, *tsig, *table, *state, *store, *stranger, *socket, *grants;
  int listener;
};

static struct cli_separation separation; /* of the present test */

static void write_policy(const struct fixture *fixture) {
  CLEANUP_FREE char *text = text_format(
      "state: %s\npolicies: {standard: {}}\npublishers: {primary: {server: \"127.0.0.1:53\", tsig-file: %s}}\n"
      "signers: {local: {key-table: %s, signing-table: \"refile:%s.signing\", key-directory: %s/keys/%%d, milter: \"unix:/k/sock\"}}\n"
      "domains: {example.com: {policy: standard, publisher: primary, signers: [local]}}\n",
      fixture->store, fixture->tsig, fixture->table, fixture->table, fixture->workplace.path);
  workplace_write(fixture->policy, text, 0644);
}

static int set_up(void **state) {
  struct fixture *fixture = calloc(1, sizeof *fixture);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  /* Temporary directories stay open to the store's temporary files, so what must be closed lies elsewhere. */
  workplace_make(&fixture->workplace, access("/run", W_OK) == 0 ? "/run" : "/tmp");
  fixture->policy = workplace_path(&fixture->workplace, "policy.yaml");
  fixture->key = workplace_path(&fixture->workplace, "keys/example.com/s.private");
  fixture->tsig = workplace_path(&fixture->workplace, "keys/tsig.key");
  fixture->table = workplace_path(&fixture->workplace, "KeyTable");
  fixture->state = workplace_path(&fixture->workplace, "state");
  fixture->store = workplace_path(&fixture->workplace, "state/state.db");
  fixture->stranger = workplace_path(&fixture->workplace, "stranger");
  fixture->socket = workplace_path(&fixture->workplace, "keeper.sock");
  fixture->grants = workplace_path(&fixture->workplace, "grants");
  CLEANUP_FREE char *keys = workplace_path(&fixture->workplace, "keys");
  CLEANUP_FREE char *domain = workplace_path(&fixture->workplace, "keys/example.com");
  assert_int_equal(mkdir(keys, 0755) | mkdir(domain, 0755) | mkdir(fixture->state, 0700), 0);
  workplace_write(fixture->key, "k", 0644); /* rights of files are another wall */
  workplace_write(fixture->tsig, "t", 0644);
  workplace_write(fixture->table, "", 0666);
  separation = (struct cli_separation){.grants_directory = fixture->grants};
  write_policy(fixture);
  text_copy(address.sun_path, sizeof address.sun_path, fixture->socket);
  fixture->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(fixture->listener, (struct sockaddr *)&address, sizeof address) | listen(fixture->listener, 8), 0);
  *state = fixture;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *fixture = *state;
  char **paths[] = {&fixture->policy, &fixture->key, &fixture->tsig, &fixture->table, &fixture->state, &fixture->store, &fixture->stranger, &fixture->socket, &fixture->grants};
  close(fixture->listener);
  workplace_remove(&fixture->workplace);
  for (size_t i = 0; i < ARRAY_SIZE(paths); i++) free(*paths[i]);
  free(fixture);
  return 0;
}

/* A keeper that is one end of a pair. */
static int start_keeper(const struct policy *policy, const struct policy_signer *const *signers, size_t signer_count, int *ret_descriptor,
                        pid_t *ret_pid, struct error *error) {
  (void)policy, (void)signers, (void)signer_count;
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0) return error_set_errno(error, errno, "socketpair");
  *ret_descriptor = ends[0];
  *ret_pid = 0;
  return 0;
}

static const struct cli_wiring wiring = {.open_store = store_sqlite_open, .start_keeper = start_keeper};

/* As a command begins; the session is left to the end of the process. */
static int begin(const struct fixture *fixture, const struct cli_separation *separated, const char *socket, struct session *session) {
  static struct cli_arguments arguments;
  static struct cli cli;
  struct error error = {0};
  int descriptor = -1;
  pid_t pid = 0;
  arguments = (struct cli_arguments){.policy = fixture->policy, .keeper = socket};
  cli = (struct cli){.wiring = &wiring, .separation = separated, .arguments = &arguments, .out = stdout, .err = stderr};
  *session = (struct session){.cli = &cli};
  int result = session_read_policy(session, &error);
  if (!result) result = session_find_state(session, &error);
  if (!result) result = session_begin_keeper(session, &descriptor, &pid, &error);
  if (result) fprintf(stderr, "%s\n", error.message);
  return result;
}

static int look_behind_landlock(const void *context) {
  const struct fixture *fixture = context;
  struct session session;
  struct store *store = NULL;
  struct error error = {0};
  FORKED_EXPECT(forked_can_open(fixture->key, O_RDONLY));
  FORKED_EXPECT(begin(fixture, &separation, NULL, &session) == 0);
  FORKED_EXPECT(session.confined && session.landlock_abi == landlock_abi() && !session.keeper_socket && !session.dropped);
  FORKED_EXPECT(!forked_can_open(fixture->key, O_RDONLY) && errno == EACCES);
  FORKED_EXPECT(!forked_can_open(fixture->table, O_WRONLY) && errno == EACCES);
  FORKED_EXPECT(!forked_can_open(fixture->stranger, O_WRONLY | O_CREAT) && errno == EACCES);
  FORKED_EXPECT(!forked_can_open(fixture->policy, O_WRONLY) && errno == EACCES);
  FORKED_EXPECT(forked_can_open(fixture->policy, O_RDONLY));
  FORKED_EXPECT(forked_can_open(fixture->tsig, O_RDONLY)); /* although it lies among the keys */
  FORKED_EXPECT(forked_can_open("/etc/passwd", O_RDONLY) && forked_can_open("/proc/sys/kernel/random/boot_id", O_RDONLY));
  FORKED_EXPECT(store_sqlite_open(fixture->store, false, &store, &error) == 0);
  store_close(store);
  FORKED_EXPECT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
  return 0;
}

static void test_session_keeper__a_command_cannot_open_keys_any_more(void **state) {
  const struct fixture *fixture = *state;
  if (landlock_abi() == 0 || !text_starts(fixture->workplace.path, "/run")) skip();
  assert_int_equal(forked(look_behind_landlock, fixture), 0);
}

static int become_owner(const void *context) {
  const struct fixture *fixture = context;
  struct session session;
  struct store *store = NULL;
  struct error error = {0};
  struct stat status;
  FORKED_EXPECT(chown(fixture->state, NOBODY, NOBODY) == 0);
  FORKED_EXPECT(begin(fixture, &separation, fixture->socket, &session) == 0);
  FORKED_EXPECT(session.dropped && session.keeper_socket);
  FORKED_EXPECT(geteuid() == NOBODY && getegid() == NOBODY && privilege_capabilities() == 0);
  FORKED_EXPECT(store_sqlite_open(fixture->store, false, &store, &error) == 0);
  store_close(store);
  FORKED_EXPECT(stat(fixture->store, &status) == 0 && status.st_uid == NOBODY);
  return 0;
}

static void test_session_keeper__root_becomes_the_owner_of_the_state(void **state) {
  const struct fixture *fixture = *state;
  if (geteuid() != 0) skip();
  assert_int_equal(forked(become_owner, fixture), 0);
}

static int read_as_owner(const void *context) {
  const struct fixture *fixture = context;
  struct cli_arguments arguments = {.policy = fixture->policy};
  const struct cli cli = {.wiring = &wiring, .separation = &separation, .arguments = &arguments, .out = stdout, .err = stderr};
  struct session session = {.cli = &cli};
  struct error error = {0};
  FORKED_EXPECT(chown(fixture->state, NOBODY, NOBODY) == 0);
  FORKED_EXPECT(session_will_drop(&session));
  FORKED_EXPECT(session_open_for_reading(&session, &error) == ERROR_NOT_FOUND);
  FORKED_EXPECT(geteuid() == NOBODY && !session_will_drop(&session));
  session_release(&session);
  return 0;
}

static void test_session_keeper__the_store_is_not_read_as_root(void **state) {
  if (geteuid() != 0) skip();
  assert_int_equal(forked(read_as_owner, *state), 0);
}

static int work_without_landlock(const void *context) {
  const struct fixture *fixture = context;
  struct session session;
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  FORKED_EXPECT(filter && seccomp_rule_add(filter, SCMP_ACT_ERRNO(E2BIG), SCMP_SYS(landlock_restrict_self), 0) == 0 && seccomp_load(filter) == 0);
  seccomp_release(filter);
  FORKED_EXPECT(begin(fixture, &separation, NULL, &session) == 0);
  FORKED_EXPECT(session.confined && session.landlock_abi == 0 && session.wall_missing.code != 0);
  FORKED_EXPECT(forked_can_open(fixture->key, O_RDONLY));
  session_release(&session);
  return 0;
}

static void test_session_keeper__a_second_wall_that_cannot_be_raised_stops_nothing_and_is_told(void **state) {
  if (landlock_abi() == 0) skip();
  assert_int_equal(forked(work_without_landlock, *state), 0);
}

static int give_up_nothing(const void *context) {
  const struct fixture *fixture = context;
  struct session session;
  if (geteuid() == 0) FORKED_EXPECT(chown(fixture->state, NOBODY, NOBODY) == 0);
  const uid_t before = geteuid();
  FORKED_EXPECT(begin(fixture, NULL, NULL, &session) == 0);
  FORKED_EXPECT(!session.confined && !session.dropped && geteuid() == before);
  FORKED_EXPECT(forked_can_open(fixture->key, O_RDONLY) && forked_can_open(fixture->table, O_WRONLY));
  session_release(&session);
  return 0;
}

static void test_session_keeper__without_separation_nothing_is_given_up(void **state) {
  assert_int_equal(forked(give_up_nothing, *state), 0);
}

static int reach_nobody(const void *context) {
  const struct fixture *fixture = context;
  struct session session;
  FORKED_EXPECT(begin(fixture, &separation, fixture->stranger, &session) == ERROR_NOT_FOUND);
  FORKED_EXPECT(!session.confined && forked_can_open(fixture->key, O_RDONLY));
  session_release(&session);
  return 0;
}

static void test_session_keeper__a_keeper_that_was_asked_for_and_is_not_there_is_an_error(void **state) {
  assert_int_equal(forked(reach_nobody, *state), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_session_keeper__a_command_cannot_open_keys_any_more, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_session_keeper__root_becomes_the_owner_of_the_state, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_session_keeper__the_store_is_not_read_as_root, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_session_keeper__a_second_wall_that_cannot_be_raised_stops_nothing_and_is_told, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_session_keeper__without_separation_nothing_is_given_up, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_session_keeper__a_keeper_that_was_asked_for_and_is_not_there_is_an_error, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
