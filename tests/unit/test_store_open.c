/* Opening, refusing, holding and sharing a store. */
#include "store_rig.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOBODY = 65534, OPENERS = 8 };

/* Runs child in a process of its own and returns its exit code. A child must not return into cmocka. */
static int in_child(int (*child)(const struct rig *rig), const struct rig *rig) {
  int status = 0;
  const pid_t pid = fork();
  if (pid == 0) _exit(child(rig));
  assert_true(pid > 0);
  assert_int_equal(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void test_store_open__the_file_is_for_its_owner_alone(void **state) {
  struct rig *rig = *state;
  CLEANUP_FREE char *directory = workplace_path(&rig->place, "lib");
  struct stat status;
  assert_int_equal(stat(rig->path, &status), 0);
  assert_int_equal(status.st_mode & 07777, 0600);
  assert_int_equal(stat(directory, &status), 0);
  assert_int_equal(status.st_mode & 07777, 0700);
}

static void test_store_open__what_root_makes_belongs_to_the_owner_of_the_folder(void **state) {
  struct rig *rig = *state;
  CLEANUP_FREE char *directory = workplace_path(&rig->place, "service");
  CLEANUP_FREE char *path = workplace_path(&rig->place, "service/state.db");
  CLEANUP_FREE char *lock = workplace_path(&rig->place, "service/state.db.lock");
  struct stat status;
  struct error error = {0};
  if (geteuid() != 0) skip();
  assert_int_equal(mkdir(directory, 0700), 0);
  assert_int_equal(chown(directory, NOBODY, NOBODY), 0);
  struct store *store = rig_open(path, false);
  rig_check(store->ops->lease(store, "dkimroll run", RIG_NOW, &error), &error);
  assert_int_equal(stat(path, &status), 0);
  assert_int_equal(status.st_uid, NOBODY);
  assert_int_equal(stat(lock, &status), 0);
  assert_int_equal(status.st_uid, NOBODY);
  store_close(store);
}

static void test_store_open__readers_do_not_make_a_store(void **state) {
  struct rig *rig = *state;
  CLEANUP_FREE char *path = workplace_path(&rig->place, "none.db");
  struct store *store = NULL;
  struct error error = {0};
  assert_int_equal(store_sqlite_open(path, true, &store, &error), ERROR_NOT_FOUND);
  assert_string_equal(error.remedy, "nothing has run yet: dkimroll run");
  assert_null(store);
  assert_int_not_equal(access(path, F_OK), 0);
  /* A first start that ended between making the file and making its tables. */
  workplace_write(path, "", 0600);
  assert_int_equal(store_sqlite_open(path, true, &store, &error), ERROR_NOT_FOUND);
  assert_string_equal(error.remedy, "nothing has run yet: dkimroll run");
  store_close(rig_open(path, false));
  store_close(rig_open(path, true));
}

static void test_store_open__readers_cannot_write(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  const struct store_clock clock = {.boot_id = "b"};
  const struct store_commit commit = {.clock = &clock};
  struct store_request request = {.kind = REQUEST_ROTATE, .domain = (char *)"a.example", .asked_at = 1};
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  struct store *reader = rig_open(rig->path, true);
  assert_int_equal(reader->ops->commit(reader, &commit, &error), ERROR_PERMISSION);
  assert_int_equal(reader->ops->request(reader, &request, &error), ERROR_PERMISSION);
  assert_int_equal(rig_count(reader, STORE_SELECT_LINEAGES, NULL), 1);
  store_close(reader);
}

/* Octets of a file; caller frees. */
static char *slurp(const char *path, size_t *ret_size) {
  FILE *file = fopen(path, "r");
  assert_non_null(file);
  char *data = calloc(1, 1 << 20);
  *ret_size = fread(data, 1, 1 << 20, file);
  fclose(file);
  return data;
}

static void assert_refused(const char *path, int code, const char *message) {
  for (int read_only = 0; read_only < 2; read_only++) {
    struct store *store = NULL;
    struct error error = {0};
    size_t before_size, after_size;
    CLEANUP_FREE char *before = slurp(path, &before_size);
    assert_int_equal(store_sqlite_open(path, read_only, &store, &error), code);
    if (!strstr(error.message, message) || !strstr(error.message, path) || !error.remedy[0] || error.retryable)
      fail_msg("%s (%s)", error.message, error.remedy);
    CLEANUP_FREE char *after = slurp(path, &after_size);
    assert_int_equal(before_size, after_size);
    assert_memory_equal(before, after, before_size);
  }
}

static void test_store_open__files_of_others_are_refused_and_left_alone(void **state) {
  struct rig *rig = *state;
  CLEANUP_FREE char *text = workplace_path(&rig->place, "text");
  CLEANUP_FREE char *foreign = workplace_path(&rig->place, "foreign.db");
  CLEANUP_FREE char *named = workplace_path(&rig->place, "named.db");
  workplace_write(
      text, "These are the notes of somebody who types a long line of text into a file that is no database.\n", 0600);
  assert_refused(text, ERROR_INVALID, "not a database");
  workplace_write(foreign, "", 0600);
  assert_int_equal(rig_sql(foreign, "CREATE TABLE mail (id INTEGER)"), SQLITE_OK);
  assert_refused(foreign, ERROR_CONFIG, "another program");
  workplace_write(named, "", 0600);
  assert_int_equal(rig_sql(named, "PRAGMA application_id = 7; PRAGMA user_version = 1"), SQLITE_OK);
  assert_refused(named, ERROR_CONFIG, "another program (application id 0x00000007)");
}

static void test_store_open__a_newer_store_is_refused_with_both_versions(void **state) {
  struct rig *rig = *state;
  char message[64];
  store_close(rig->store);
  rig->store = NULL;
  assert_int_equal(rig_sql(rig->path, "PRAGMA user_version = 99; PRAGMA wal_checkpoint(TRUNCATE)"), SQLITE_OK);
  snprintf(message, sizeof message, "schema 99");
  assert_refused(rig->path, ERROR_CONFIG, message);
  snprintf(message, sizeof message, "up to %d", STORE_SCHEMA_VERSION);
  assert_refused(rig->path, ERROR_CONFIG, message);
}

static int keep_lineage(void *context, const void *row) {
  struct error error = {0};
  assert_int_equal(lineage_copy(row, context, &error), 0);
  return 0;
}

/* What version 0.1.0 has left behind: two keys that are revoked, and one that signs. Readers ask for somebody who may write; that one finds everything in place. */
static void test_store_open__a_store_of_the_first_version_is_brought_up_to_date(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  struct store *store = NULL;
  size_t size = 0;
  CLEANUP_FREE char *sql = slurp("tests/data/state-schema-1.sql", &size);
  CLEANUP_FREE char *path = workplace_path(&rig->place, "old.db");
  CLEANUP_FREE char *text = strndup(sql, size);
  workplace_write(path, "", 0600);
  assert_int_equal(rig_sql(path, text), SQLITE_OK);
  assert_int_equal(store_sqlite_open(path, true, &store, &error), ERROR_CONFIG);
  assert_non_null(strstr(error.message, "it has schema 1"));
  assert_string_equal(error.remedy, "bring it up to date: dkimroll run");
  store = rig_open(path, false);
  CLEANUP(lineage_release) struct lineage lineage = {0};
  static const struct store_filter all;
  rig_check(store->ops->select(store, STORE_SELECT_LINEAGES, &all, keep_lineage, &lineage, &error), &error);
  assert_string_equal(lineage.domain, "example.test");
  assert_int_equal(lineage.key_count, 3);
  assert_int_equal(lineage.rules->prove_every, 86400); /* what rules that were stored without it get */
  const struct key *key = lineage_active_key(&lineage);
  assert_string_equal(key->selector, "server-20261128-3");
  assert_true(key->compromised_at == TIME_UNSET && !key->revoke_now && key->lingers_until == TIME_UNSET && key->files_seen_at == TIME_UNSET);
  assert_true(key->contested_at == TIME_UNSET && key->proof_retry_at == TIME_UNSET && key->proof_failures == 0);
  assert_true(key->placements[0].damage == DAMAGE_NONE && key->placements[0].damaged_at == TIME_UNSET);
  assert_true(key->placements[0].proved_at == key->active_at);
  lineage.keys[2].proof_failures = 5;
  lineage.keys[2].placements[0].damage = DAMAGE_TABLES;
  struct lineage *pointer = &lineage;
  const struct store_commit commit = {.lineages = &pointer, .lineage_count = 1};
  rig_check(store->ops->commit(store, &commit, &error), &error);
  store_close(store);
  store_close(rig_open(path, true)); /* and readers read it now */
  assert_int_equal(rig_number(path, "SELECT proof_failures FROM key WHERE id = 3"), 5);
}

static void test_store_open__a_damaged_store_says_so(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  static const char junk[4096] = {1, 2, 3};
  rig_sync(rig->store, "a.example: {}, b.example: {}", RIG_NOW);
  store_close(rig->store);
  rig->store = NULL;
  const int64_t page = rig_number(rig->path, "SELECT rootpage FROM sqlite_schema WHERE name = 'lineage'");
  const int descriptor = open(rig->path, O_WRONLY | O_CLOEXEC);
  assert_int_equal(pwrite(descriptor, junk, sizeof junk, (page - 1) * 4096), sizeof junk);
  close(descriptor);
  rig->store = rig_open(rig->path, false);
  struct rig_claim claim = {0};
  assert_int_equal(
      rig->store->ops->claim(rig->store, TIME_NEVER, 9, NULL, 0, NULL, 0, &claim.items, &claim.count, &error),
      ERROR_INVALID);
  assert_non_null(strstr(error.message, rig->path));
  assert_non_null(strstr(error.remedy, "backup"));
}

static int open_as_nobody(const struct rig *rig) {
  struct store *store = NULL;
  struct error error = {0};
  if (setgid(NOBODY) || setuid(NOBODY)) return 1;
  for (int read_only = 0; read_only < 2; read_only++) {
    if (store_sqlite_open(rig->path, read_only, &store, &error) != ERROR_PERMISSION) return 2 + read_only;
    if (!strstr(error.message, rig->path)) return 4 + read_only;
  }
  return 0;
}

/* The file may be read, and its folder written, but the file may not be written: SQLite would open it for reading without a word. */
static int open_unwritable(const struct rig *rig) {
  struct store *store = NULL;
  struct error error = {0};
  if (setgid(NOBODY) || setuid(NOBODY)) return 1;
  if (store_sqlite_open(rig->path, false, &store, &error) != ERROR_PERMISSION) return 2;
  return error.remedy[0] ? 0 : 3;
}

static void test_store_open__a_user_without_rights_is_told(void **state) {
  struct rig *rig = *state;
  CLEANUP_FREE char *directory = workplace_path(&rig->place, "lib");
  if (geteuid() != 0) skip();
  assert_int_equal(in_child(open_as_nobody, rig), 0);
  store_close(rig->store);
  rig->store = NULL;
  assert_int_equal(chmod(directory, 0777), 0);
  assert_int_equal(chmod(rig->path, 0644), 0);
  assert_int_equal(in_child(open_unwritable, rig), 0);
}

static int open_same(const char *path) {
  struct store *store = NULL;
  struct error error = {0};
  if (store_sqlite_open(path, false, &store, &error) == 0) {
    store_close(store);
    return 0;
  }
  fprintf(stderr, "%s\n", error.message);
  return 1;
}

static void test_store_open__many_may_make_it_at_the_same_time(void **state) {
  struct rig *rig = *state;
  for (int round = 0; round < 5; round++) {
    pid_t pids[OPENERS];
    int failed = 0;
    char name[32];
    snprintf(name, sizeof name, "many-%d/state.db", round);
    CLEANUP_FREE char *path = workplace_path(&rig->place, name);
    for (int i = 0; i < OPENERS; i++) {
      pids[i] = fork();
      if (pids[i] == 0) _exit(open_same(path));
    }
    for (int i = 0; i < OPENERS; i++) {
      int status = 0;
      assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
      failed += status != 0;
    }
    assert_int_equal(failed, 0);
  }
}

static int write_beside(const struct rig *rig) {
  struct store *store = rig_open(rig->path, false);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(store);
  for (size_t i = 0; i < claim.count; i++) {
    claim.items[i].failures = 7;
    rig_commit(store, &claim.items[i]);
  }
  store_close(store);
  return claim.count == 3 ? 0 : 1;
}

struct watching {
  const struct rig *rig;
  size_t rows;
};

static int watch_row(void *context, const void *row) {
  struct watching *watching = context;
  if (watching->rows++ == 0) assert_int_equal(in_child(write_beside, watching->rig), 0);
  assert_int_equal(((const struct lineage *)row)->failures, 0);
  return 0;
}

/* status beside a daemon: each select shows one moment, and the writer is not held up by it. */
static void test_store_open__a_reader_sees_one_moment_while_another_process_writes(void **state) {
  struct rig *rig = *state;
  const struct store_filter all = {0};
  struct error error = {0};
  struct watching watching = {.rig = rig};
  rig_sync(rig->store, "a.example: {}, b.example: {}, c.example: {}", RIG_NOW);
  store_close(rig->store);
  rig->store = rig_open(rig->path, true);
  rig_check(rig->store->ops->select(rig->store, STORE_SELECT_LINEAGES, &all, watch_row, &watching, &error), &error);
  assert_int_equal(watching.rows, 3);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(rig->store);
  assert_int_equal(claim.items[2].failures, 7);
}

static void test_store_open__a_writer_that_takes_too_long_is_busy(void **state) {
  struct rig *rig = *state;
  sqlite3 *other = NULL;
  struct error error = {0};
  const struct store_clock clock = {.boot_id = "b"};
  const struct store_commit commit = {.clock = &clock};
  assert_int_equal(sqlite3_open_v2(rig->path, &other, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
  sqlite3_busy_timeout(sqlite_store_of(rig->store)->database, 1);
  assert_int_equal(rig->store->ops->commit(rig->store, &commit, &error), ERROR_BUSY);
  assert_true(error.retryable);
  sqlite3_close(other);
  rig_check(rig->store->ops->commit(rig->store, &commit, &error), &error);
}

static void test_store_open__a_second_holder_is_told_who_holds_it(void **state) {
  struct rig *rig = *state;
  struct store *second = rig_open(rig->path, false);
  struct error error = {0};
  char expected[128];
  rig_check(rig->store->ops->lease(rig->store, "dkimroll run", 1800000000, &error), &error);
  rig_check(rig->store->ops->lease(rig->store, "dkimroll run", 1800000009, &error), &error);
  assert_int_equal(second->ops->lease(second, "dkimroll rotate", 1800000010, &error), ERROR_BUSY);
  snprintf(expected, sizeof expected, "in use by dkimroll run, pid %d, since 2027-01-15 08:00:00 UTC", (int)getpid());
  if (!strstr(error.message, expected)) fail_msg("%s", error.message);
  assert_true(error.retryable && error.remedy[0]);
  /* The one who does not hold it may still ask for something. */
  const struct store_clock clock = {.boot_id = "b"};
  rig_check(second->ops->commit(second, &(struct store_commit){.clock = &clock}, &error), &error);
  store_close(rig->store);
  rig->store = NULL;
  rig_check(second->ops->lease(second, "dkimroll rotate", 1800000011, &error), &error);
  store_close(second);
}

static int hold_and_die(const struct rig *rig) {
  struct store *store = rig_open(rig->path, false);
  struct error error = {0};
  if (store->ops->lease(store, "dkimroll daemon", RIG_NOW, &error)) return 1;
  raise(SIGKILL);
  return 2;
}

static void test_store_open__the_lease_ends_with_its_process(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  assert_int_equal(in_child(hold_and_die, rig), 128 + SIGKILL);
  rig_check(rig->store->ops->lease(rig->store, "dkimroll run", RIG_NOW, &error), &error);
}

static void test_store_open__a_program_started_by_the_holder_does_not_keep_the_lease(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  int pipes[2];
  char octet;
  rig_check(rig->store->ops->lease(rig->store, "dkimroll run", RIG_NOW, &error), &error);
  assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
  int answers[2];
  assert_int_equal(pipe2(answers, O_CLOEXEC), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(pipes[0], 0);
    dup2(answers[1], 1);
    execlp("cat", "cat", (char *)NULL);
    _exit(127);
  }
  assert_int_equal(write(pipes[1], "x", 1), 1);
  assert_int_equal(read(answers[0], &octet, 1), 1); /* it runs */
  store_close(rig->store);
  rig->store = rig_open(rig->path, false);
  rig_check(rig->store->ops->lease(rig->store, "dkimroll run", RIG_NOW, &error), &error);
  close(pipes[1]);
  assert_int_equal(waitpid(pid, NULL, 0), pid);
  close(pipes[0]);
  close(answers[0]);
  close(answers[1]);
}

#define OPEN_TEST(name) cmocka_unit_test_setup_teardown(test_store_open__##name, rig_setup, rig_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      OPEN_TEST(the_file_is_for_its_owner_alone),
      OPEN_TEST(what_root_makes_belongs_to_the_owner_of_the_folder),
      OPEN_TEST(readers_do_not_make_a_store),
      OPEN_TEST(readers_cannot_write),
      OPEN_TEST(files_of_others_are_refused_and_left_alone),
      OPEN_TEST(a_newer_store_is_refused_with_both_versions),
      OPEN_TEST(a_store_of_the_first_version_is_brought_up_to_date),
      OPEN_TEST(a_damaged_store_says_so),
      OPEN_TEST(a_user_without_rights_is_told),
      OPEN_TEST(many_may_make_it_at_the_same_time),
      OPEN_TEST(a_reader_sees_one_moment_while_another_process_writes),
      OPEN_TEST(a_writer_that_takes_too_long_is_busy),
      OPEN_TEST(a_second_holder_is_told_who_holds_it),
      OPEN_TEST(the_lease_ends_with_its_process),
      OPEN_TEST(a_program_started_by_the_holder_does_not_keep_the_lease),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
