/* The keeper's edits of OpenDKIM's tables in trouble: leftovers, links, full and read-only disks, and others who write or read the tables meanwhile. */
#include "opendkim_jobs_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void test_opendkim_jobs__leftover_of_a_crash_is_no_obstacle(void **state) {
  struct stage *stage = *state;
  write_tables(stage, OLD_KEYS, OLD_SENDERS);
  CLEANUP_FREE char *left = workplace_path(&stage->folder, ".KeyTable" FILE_TEMPORARY_MARK "next");
  workplace_write(left, "half a tab", 0600);
  assert_int_equal(stage_switch(stage, KEEPER_EDIT_TABLES), 0);
  assert_no_leftovers(stage);
}

static void test_opendkim_jobs__missing_directory_is_a_clear_error(void **state) {
  struct stage *stage = *state;
  CLEANUP_FREE char *missing = workplace_path(&stage->folder, "none/KeyTable");
  stage->policy.key_table = missing;
  stage_allow(stage);
  assert_int_equal(stage_switch(stage, KEEPER_EDIT_TABLES), ERROR_NOT_FOUND);
  assert_non_null(strstr(stage->error.message, "/none"));
  assert_true(stage->error.remedy[0] != '\0');
}

static void test_opendkim_jobs__one_file_for_both_tables_is_refused(void **state) {
  struct stage *stage = *state;
  write_tables(stage, OLD_KEYS, OLD_SENDERS);
  assert_int_equal(unlink(stage->policy.signing_table), 0);
  assert_int_equal(symlink("KeyTable", stage->policy.signing_table), 0);
  assert_int_equal(stage_switch(stage, KEEPER_EDIT_TABLES), ERROR_CONFIG);
  assert_file(stage->policy.key_table, OLD_KEYS);
}

/* A signer owns the directory of its tables, and what is done there is done by root: a link of the signer's must not turn that to files that are not its own. */
static void test_opendkim_jobs__a_link_of_the_signer_leads_to_no_file_of_others(void **state) {
  enum { SIGNER = 12345 };
  struct stage *stage = *state;
  if (geteuid() != 0) skip();
  CLEANUP_FREE char *real = workplace_path(&stage->folder, "of-somebody");
  write_tables(stage, OLD_KEYS, OLD_SENDERS);
  workplace_write(real, OLD_KEYS, 0644);
  assert_int_equal(unlink(stage->policy.key_table), 0);
  assert_int_equal(symlink(real, stage->policy.key_table), 0);
  assert_int_equal(lchown(stage->policy.key_table, SIGNER, SIGNER), 0);
  assert_int_equal(stage_switch(stage, KEEPER_EDIT_TABLES), ERROR_PERMISSION);
  assert_non_null(strstr(stage->error.message, real));
  assert_non_null(strstr(stage->error.remedy, "chown -h root"));
  assert_int_equal(stage_switch(stage, KEEPER_READ_TABLES), ERROR_PERMISSION);
  assert_file(real, OLD_KEYS);
  /* To one of its own it may, and root's links may lead anywhere. */
  assert_int_equal(chown(real, SIGNER, SIGNER), 0);
  assert_int_equal(stage_switch(stage, KEEPER_READ_TABLES), 0);
  assert_int_equal(chown(real, 0, 0) + lchown(stage->policy.key_table, 0, 0), 0);
  assert_int_equal(stage_switch(stage, KEEPER_EDIT_TABLES), 0);
}

/* ---- disks ---- */

/* Mounts that only this process sees, gone with it. Where "/" is no mount of its own (a chroot: EINVAL) others may see them until the test takes them
 * away again. */
static void mount_tmpfs(const char *path, const char *options) {
  static bool private;
  if (!private) {
    assert_int_equal(unshare(CLONE_NEWNS), 0);
    assert_true(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 || errno == EINVAL);
    private = true;
  }
  assert_int_equal(mount("none", path, "tmpfs", 0, options), 0);
}

static void test_opendkim_jobs__full_disk_changes_nothing(void **state) {
  struct stage *stage = *state;
  mount_tmpfs(stage->folder.path, "size=64k");
  write_tables(stage, OLD_KEYS, OLD_SENDERS);
  CLEANUP_FREE char *keys = workplace_path(&stage->folder, "keys");
  assert_int_equal(mkdir(keys, 0755), 0);
  workplace_write(stage->key, "key", 0600);
  /* Room for one of the two new tables, for half of one, for none. */
  CLEANUP_FREE char *filler_path = workplace_path(&stage->folder, "filler");
  CLEANUP_CLOSE int filler = open(filler_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  char page[4096] = {1};
  while (write(filler, page, sizeof(page)) == (ssize_t)sizeof(page)) continue;
  struct stat status;
  assert_int_equal(fstat(filler, &status), 0);
  for (off_t pages = 0; pages < 2; pages++) {
    assert_int_equal(ftruncate(filler, status.st_size - pages * (off_t)sizeof(page)), 0);
    assert_int_equal(stage_switch(stage, KEEPER_EDIT_TABLES), ERROR_SYSTEM);
    assert_true(stage->error.retryable);
    assert_non_null(strstr(stage->error.message, "No space left"));
    assert_non_null(strstr(stage->error.remedy, "space"));
    assert_file(stage->policy.key_table, OLD_KEYS);
    assert_file(stage->policy.signing_table, OLD_SENDERS);
  }
  assert_int_equal(ftruncate(filler, 0), 0);
  assert_no_leftovers(stage);
  assert_int_equal(stage_switch(stage, KEEPER_EDIT_TABLES), 0);
  assert_int_equal(umount2(stage->folder.path, MNT_DETACH), 0);
}

static void test_opendkim_jobs__read_only_tables_change_nothing_and_say_why(void **state) {
  struct stage *stage = *state;
  write_tables(stage, OLD_KEYS, OLD_SENDERS);
  mount_tmpfs(stage->folder.path, "size=64k");
  write_tables(stage, OLD_KEYS, OLD_SENDERS);
  assert_int_equal(mount("none", stage->folder.path, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
  static const enum keeper_job jobs[] = {KEEPER_READ_TABLES, KEEPER_EDIT_TABLES};
  for (size_t i = 0; i < ARRAY_SIZE(jobs); i++) {
    assert_int_equal(stage_switch(stage, jobs[i]), ERROR_PERMISSION);
    assert_non_null(strstr(stage->error.message, "KeyTable"));
    assert_non_null(strstr(stage->error.message, "Read-only"));
    assert_non_null(strstr(stage->error.remedy, "ReadWritePaths"));
  }
  assert_file(stage->policy.key_table, OLD_KEYS);
  assert_file(stage->policy.signing_table, OLD_SENDERS);
  assert_int_equal(umount2(stage->folder.path, MNT_DETACH), 0);
}

static void test_opendkim_jobs__second_table_that_cannot_be_written_spares_the_first(void **state) {
  struct stage *stage = *state;
  CLEANUP_FREE char *other = workplace_path(&stage->folder, "ro");
  assert_int_equal(mkdir(other, 0755), 0);
  mount_tmpfs(other, "size=64k");
  CLEANUP_FREE char *signing_table = workplace_path(&stage->folder, "ro/SigningTable");
  stage->policy.signing_table = signing_table;
  stage_allow(stage);
  write_tables(stage, OLD_KEYS, OLD_SENDERS);
  assert_int_equal(mount("none", other, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
  assert_int_equal(stage_switch(stage, KEEPER_EDIT_TABLES), ERROR_PERMISSION);
  assert_non_null(strstr(stage->error.message, "SigningTable"));
  assert_unchanged(stage);
  assert_int_equal(umount2(other, MNT_DETACH), 0);
}

/* ---- other processes ---- */

static void test_opendkim_jobs__table_that_another_process_edits_is_busy(void **state) {
  struct stage *stage = *state;
  write_tables(stage, OLD_KEYS, OLD_SENDERS);
  CLEANUP_CLOSE int lock = open(stage->policy.key_table, O_RDONLY | O_CLOEXEC);
  assert_int_equal(flock(lock, LOCK_EX), 0);
  assert_int_equal(stage_switch(stage, KEEPER_EDIT_TABLES), ERROR_BUSY);
  assert_true(stage->error.retryable);
  assert_unchanged(stage);
}

/* Somebody who rewrites the table all the time, always with the same number of lines of his. */
static void keep_rewriting(const char *path) {
  for (unsigned i = 0;; i++) {
    CLEANUP_FREE char *next = text_format("%s.editor", path);
    CLEANUP_FREE char *text = text_format("*@example.com old\n*@example.net theirs # %u\n", i);
    workplace_write(next, text, 0644);
    rename(next, path);
  }
}

static void test_opendkim_jobs__table_that_changes_under_our_hands_loses_no_foreign_line(void **state) {
  struct stage *stage = *state;
  write_tables(stage, OLD_KEYS "theirs t:t:/t\n", OLD_SENDERS);
  pid_t parent = getpid();
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent) keep_rewriting(stage->policy.signing_table);
    _exit(1);
  }
  int conflicts = 0;
  /* On a busy machine the other process may not get its turn for long. */
  const int64_t deadline = clock_boottime() + 60000;
  for (int i = 0; i < 50 || (conflicts == 0 && clock_boottime() < deadline); i++) {
    int result = stage_switch(stage, KEEPER_EDIT_TABLES);
    if (result == ERROR_CONFLICT) {
      assert_true(stage->error.retryable);
      conflicts++;
    } else {
      assert_int_equal(result, 0);
    }
  }
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
  assert_true(conflicts > 0);
  assert_int_equal(stage_switch(stage, KEEPER_EDIT_TABLES), 0);
  char *text = NULL;
  size_t size = 0;
  assert_int_equal(file_read(stage->policy.signing_table, TABLE_FILE_MAX, &text, &size, NULL, &stage->error), 0);
  assert_non_null(strstr(text, "*@example.com new\n*@example.net theirs"));
  free(text);
}

/* Reads as OpenDKIM does, SigningTable and then KeyTable, and ends with 3 when a sender names a key that is not there. */
static void keep_reading(const struct policy_signer *policy, _Atomic unsigned long *rounds) {
  struct error error = {0};
  for (;;) {
    CLEANUP_FREE char *senders = NULL;
    CLEANUP_FREE char *keys = NULL;
    size_t size = 0;
    char name[64];
    if (file_read(policy->signing_table, TABLE_FILE_MAX, &senders, &size, NULL, &error) < 0 ||
        file_read(policy->key_table, TABLE_FILE_MAX, &keys, &size, NULL, &error) < 0)
      _exit(2);
    if (sscanf(senders, "*@example.com %62s", name) != 1) _exit(4);
    CLEANUP_FREE char *entry = text_format("%s ", name);
    if (!strstr(keys, entry)) _exit(3);
    ++*rounds;
  }
}

/* Whoever began to read before the call has finished after it. */
static void wait_for_reader(_Atomic unsigned long *rounds, pid_t pid) {
  unsigned long start = *rounds;
  int64_t deadline = clock_boottime() + PLENTY_MS;
  while (*rounds < start + 2 && clock_boottime() < deadline) {
    int status = 0;
    if (waitpid(pid, &status, WNOHANG) != 0) fail_msg("the reader ended with %d", WEXITSTATUS(status));
    poll(NULL, 0, 1);
  }
}

static void test_opendkim_jobs__reader_never_finds_tables_that_contradict(void **state) {
  enum { ROTATIONS = 150 };
  struct stage *stage = *state;
  _Atomic unsigned long *rounds =
      mmap(NULL, sizeof(*rounds), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_true(rounds != MAP_FAILED);
  CLEANUP_FREE char *first = text_format("k0 example.com:s0:%s\n", stage->key);
  write_tables(stage, first, "*@example.com k0\n");
  pid_t parent = getpid();
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent) keep_reading(&stage->policy, rounds);
    _exit(1);
  }
  for (int i = 1; i <= ROTATIONS; i++) {
    CLEANUP_FREE char *old = text_format("k%d", i - 1);
    CLEANUP_FREE char *new = text_format("k%d", i);
    CLEANUP_FREE char *path = text_format("%s%d", stage->key, i);
    CLEANUP_FREE char *old_path = i > 1 ? text_format("%s%d", stage->key, i - 1) : text_duplicate(stage->key);
    CLEANUP_FREE char *value = text_format("example.com:s%d:%s", i, path);
    CLEANUP_FREE char *old_value = text_format("example.com:s%d:%s", i - 1, old_path);
    workplace_write(path, "key", 0600);
    struct table_edit edits[] = {
        {.kind = TABLE_KEY_SET, .name = new, .value = value, .beside = old},
        {.kind = TABLE_SIGN_POINT, .pattern = "*@example.com", .address = "a@example.com", .name = new, .before = old}};
    assert_int_equal(stage_tables(stage, KEEPER_EDIT_TABLES, edits, 2), 0);
    assert_int_equal(stage->outcome.error.code, 0);
    wait_for_reader(rounds, pid); /* In life it is a reload and its proof that stand between. */
    struct table_edit removal = {.kind = TABLE_KEY_REMOVE, .name = old, .value = old_value};
    assert_int_equal(stage_tables(stage, KEEPER_EDIT_TABLES, &removal, 1), 0);
    assert_int_equal(stage->outcome.error.code, 0);
  }
  wait_for_reader(rounds, pid);
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
  munmap(rounds, sizeof(*rounds));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_opendkim_jobs__leftover_of_a_crash_is_no_obstacle),
      TEST(test_opendkim_jobs__missing_directory_is_a_clear_error),
      TEST(test_opendkim_jobs__one_file_for_both_tables_is_refused),
      TEST(test_opendkim_jobs__a_link_of_the_signer_leads_to_no_file_of_others),
      TEST(test_opendkim_jobs__full_disk_changes_nothing),
      TEST(test_opendkim_jobs__read_only_tables_change_nothing_and_say_why),
      TEST(test_opendkim_jobs__second_table_that_cannot_be_written_spares_the_first),
      TEST(test_opendkim_jobs__table_that_another_process_edits_is_busy),
      TEST(test_opendkim_jobs__table_that_changes_under_our_hands_loses_no_foreign_line),
      TEST(test_opendkim_jobs__reader_never_finds_tables_that_contradict),
  };
  signal(SIGPIPE, SIG_IGN);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
