/* The keeper's jobs on OpenDKIM: tables on real file systems, full and read-only ones too, and what is not allowed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/table_stamp.h"
#include "dkimroll/clock.h"
#include "dkimroll/file.h"
#include "dkimroll/opendkim_jobs.h"
#include "dkimroll/opendkim_reload.h"
#include "dkimroll/text.h"
#include "workplace.h"

enum { REPLY_MAX = 1024 * 1024, PLENTY_MS = 20000 };

/* A signer of the policy in a folder, and the handlers that serve it, called as a worker calls them. */
struct stage {
  struct workplace folder;
  struct policy_signer policy;
  struct opendkim_roots roots;
  struct keeper_handler handlers[OPENDKIM_JOBS_COUNT];
  struct error error;
  struct table_outcome outcome;
  char *key;
};

static void stage_allow(struct stage *stage) {
  opendkim_roots_release(&stage->roots);
  assert_int_equal(opendkim_roots_add(&stage->roots, &stage->policy, &stage->error), 0);
  assert_int_equal(opendkim_jobs_handlers(&stage->roots, stage->handlers), OPENDKIM_JOBS_COUNT);
}

static void stage_open(struct stage *stage) {
  *stage = (struct stage){0};
  workplace_make(&stage->folder, "/tmp");
  stage->policy = (struct policy_signer){.name = (char *)"local",
                                         .key_table = workplace_path(&stage->folder, "KeyTable"),
                                         .signing_table = workplace_path(&stage->folder, "SigningTable"),
                                         .signing_table_format = SIGNING_TABLE_REFILE,
                                         .key_directory = workplace_path(&stage->folder, "keys/%d")};
  CLEANUP_FREE char *keys = workplace_path(&stage->folder, "keys");
  assert_int_equal(mkdir(keys, 0755), 0);
  stage->key = workplace_path(&stage->folder, "keys/new.private");
  workplace_write(stage->key, "key", 0600);
  stage_allow(stage);
}

static void stage_close(struct stage *stage) {
  opendkim_roots_release(&stage->roots);
  workplace_remove(&stage->folder);
  free(stage->policy.key_table);
  free(stage->policy.signing_table);
  free(stage->policy.key_directory);
  free(stage->key);
}

/* Runs a job; the reply goes into reply (which may be NULL). */
static int stage_run(struct stage *stage, enum keeper_job job, const struct buffer *payload, struct buffer *reply) {
  struct buffer own = BUFFER_WITH_MAXIMUM(REPLY_MAX);
  struct reader request = {.data = payload->data, .size = payload->size};
  int result = ERROR_INTERNAL;
  stage->error = (struct error){0};
  for (size_t i = 0; i < OPENDKIM_JOBS_COUNT; i++)
    if (stage->handlers[i].job == job)
      result = stage->handlers[i].run(stage->handlers[i].context, &request, reply ? reply : &own, &stage->error);
  buffer_release(&own);
  assert_int_equal(result, stage->error.code);
  return result;
}

static int stage_tables(struct stage *stage, enum keeper_job job, const struct table_edit *edits, size_t count) {
  struct buffer payload = BUFFER_WITH_MAXIMUM(REPLY_MAX);
  struct buffer reply = BUFFER_WITH_MAXIMUM(REPLY_MAX);
  struct table_item item = {.edits = edits, .edit_count = count};
  opendkim_jobs_tables(&payload, &stage->policy, &item, 1);
  int result = stage_run(stage, job, &payload, &reply);
  if (result == 0)
    assert_int_equal(opendkim_jobs_read_tables(reply.data, reply.size, &stage->outcome, 1, &stage->error), 0);
  buffer_release(&payload);
  buffer_release(&reply);
  return result;
}

/* The switch of example.com to the key "new". */
static int stage_switch(struct stage *stage, enum keeper_job job) {
  CLEANUP_FREE char *value = text_format("example.com:new:%s", stage->key);
  struct table_edit edits[] = {{.kind = TABLE_KEY_SET, .name = "new", .value = value},
                               {.kind = TABLE_SIGN_POINT,
                                .pattern = "*@example.com",
                                .address = "a@example.com",
                                .name = "new",
                                .before = "old"}};
  return stage_tables(stage, job, edits, 2);
}

static void write_tables(const struct stage *stage, const char *keys, const char *senders) {
  workplace_write(stage->policy.key_table, keys, 0644);
  workplace_write(stage->policy.signing_table, senders, 0644);
}

static void assert_file(const char *path, const char *expected) {
  char *text = NULL;
  size_t size = 0;
  struct error error = {0};
  assert_int_equal(file_read(path, TABLE_FILE_MAX, &text, &size, NULL, &error), 0);
  assert_string_equal(text, expected);
  free(text);
}

/* Nothing but what belongs there: no temporary file was left. */
static void assert_no_leftovers(const struct stage *stage) {
  CLEANUP_FREE char *command = text_format("test -z \"$(find %s -name '.*' -type f)\"", stage->folder.path);
  char *const arguments[] = {(char *)"/bin/sh", (char *)"-c", command, NULL};
  struct error error = {0};
  assert_int_equal(reload_command(arguments, false, clock_boottime() + PLENTY_MS, &error), 0);
}

#define OLD_KEYS "old example.com:old:/old.private\n"
#define OLD_SENDERS "*@example.com old\n"

static void assert_unchanged(const struct stage *stage) {
  assert_file(stage->policy.key_table, OLD_KEYS);
  assert_file(stage->policy.signing_table, OLD_SENDERS);
  assert_no_leftovers(stage);
}

static void test_opendkim_jobs__edit_writes_both_tables(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  write_tables(&stage, OLD_KEYS, OLD_SENDERS);
  assert_int_equal(stage_switch(&stage, KEEPER_EDIT_TABLES), 0);
  assert_int_equal(stage.outcome.error.code, 0);
  assert_int_equal(stage.outcome.made[0], TABLE_MADE_ADDED);
  assert_int_equal(stage.outcome.made[1], TABLE_MADE_REPLACED);
  CLEANUP_FREE char *keys = text_format(OLD_KEYS "new example.com:new:%s\n", stage.key);
  assert_file(stage.policy.key_table, keys);
  assert_file(stage.policy.signing_table, "*@example.com new\n");
  assert_no_leftovers(&stage);
  stage_close(&stage);
}

static void test_opendkim_jobs__read_says_what_edit_would_do_and_writes_nothing(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  write_tables(&stage, OLD_KEYS, OLD_SENDERS);
  assert_int_equal(stage_switch(&stage, KEEPER_READ_TABLES), 0);
  assert_int_equal(stage.outcome.error.code, 0);
  assert_int_equal(stage.outcome.made[0], TABLE_MADE_ADDED);
  assert_unchanged(&stage);
  write_tables(&stage, OLD_KEYS, "*@example.com theirs\n");
  assert_int_equal(stage_switch(&stage, KEEPER_READ_TABLES), 0);
  assert_int_equal(stage.outcome.error.code, ERROR_CONFLICT);
  assert_non_null(strstr(stage.outcome.error.message, "line 1"));
  assert_true(stage.outcome.error.remedy[0] != '\0');
  stage_close(&stage);
}

static void test_opendkim_jobs__unchanged_tables_are_not_written(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  write_tables(&stage, OLD_KEYS, OLD_SENDERS);
  assert_int_equal(stage_switch(&stage, KEEPER_EDIT_TABLES), 0);
  struct stat before;
  struct stat after;
  assert_int_equal(stat(stage.policy.signing_table, &before), 0);
  assert_int_equal(stage_switch(&stage, KEEPER_EDIT_TABLES), 0);
  assert_int_equal(stat(stage.policy.signing_table, &after), 0);
  assert_int_equal(before.st_ino, after.st_ino);
  assert_memory_equal(&before.st_ctim, &after.st_ctim, sizeof(before.st_ctim));
  stage_close(&stage);
}

static void test_opendkim_jobs__leftover_of_a_crash_is_no_obstacle(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  write_tables(&stage, OLD_KEYS, OLD_SENDERS);
  CLEANUP_FREE char *left = workplace_path(&stage.folder, ".KeyTable" FILE_TEMPORARY_MARK "next");
  workplace_write(left, "half a tab", 0600);
  assert_int_equal(stage_switch(&stage, KEEPER_EDIT_TABLES), 0);
  assert_no_leftovers(&stage);
  stage_close(&stage);
}

static void test_opendkim_jobs__table_that_another_process_edits_is_busy(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  write_tables(&stage, OLD_KEYS, OLD_SENDERS);
  CLEANUP_CLOSE int lock = open(stage.policy.key_table, O_RDONLY | O_CLOEXEC);
  assert_int_equal(flock(lock, LOCK_EX), 0);
  assert_int_equal(stage_switch(&stage, KEEPER_EDIT_TABLES), ERROR_BUSY);
  assert_true(stage.error.retryable);
  assert_unchanged(&stage);
  stage_close(&stage);
}

static void test_opendkim_jobs__missing_directory_is_a_clear_error(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  free(stage.policy.key_table);
  stage.policy.key_table = workplace_path(&stage.folder, "none/KeyTable");
  stage_allow(&stage);
  assert_int_equal(stage_switch(&stage, KEEPER_EDIT_TABLES), ERROR_NOT_FOUND);
  assert_non_null(strstr(stage.error.message, "/none"));
  assert_true(stage.error.remedy[0] != '\0');
  stage_close(&stage);
}

static void test_opendkim_jobs__missing_tables_are_made_for_the_owner_of_the_directory(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  assert_int_equal(chown(stage.folder.path, 1, 2), 0);
  assert_int_equal(stage_switch(&stage, KEEPER_READ_TABLES), ERROR_NOT_FOUND);
  assert_int_equal(stage_switch(&stage, KEEPER_EDIT_TABLES), 0);
  struct stat status;
  assert_int_equal(stat(stage.policy.key_table, &status), 0);
  assert_int_equal(status.st_uid, 1);
  assert_int_equal(status.st_gid, 2);
  assert_int_equal(status.st_mode & 07777, 0644);
  stage_close(&stage);
}

static void test_opendkim_jobs__one_file_for_both_tables_is_refused(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  write_tables(&stage, OLD_KEYS, OLD_SENDERS);
  assert_int_equal(unlink(stage.policy.signing_table), 0);
  assert_int_equal(symlink("KeyTable", stage.policy.signing_table), 0);
  assert_int_equal(stage_switch(&stage, KEEPER_EDIT_TABLES), ERROR_CONFIG);
  assert_file(stage.policy.key_table, OLD_KEYS);
  stage_close(&stage);
}

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
  (void)state;
  struct stage stage;
  stage_open(&stage);
  mount_tmpfs(stage.folder.path, "size=64k");
  write_tables(&stage, OLD_KEYS, OLD_SENDERS);
  CLEANUP_FREE char *keys = workplace_path(&stage.folder, "keys");
  assert_int_equal(mkdir(keys, 0755), 0);
  workplace_write(stage.key, "key", 0600);
  /* Room for one of the two new tables, for half of one, for none. */
  CLEANUP_FREE char *filler_path = workplace_path(&stage.folder, "filler");
  CLEANUP_CLOSE int filler = open(filler_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  char page[4096] = {1};
  while (write(filler, page, sizeof(page)) == (ssize_t)sizeof(page)) continue;
  struct stat status;
  assert_int_equal(fstat(filler, &status), 0);
  for (off_t pages = 0; pages < 2; pages++) {
    assert_int_equal(ftruncate(filler, status.st_size - pages * (off_t)sizeof(page)), 0);
    assert_int_equal(stage_switch(&stage, KEEPER_EDIT_TABLES), ERROR_SYSTEM);
    assert_true(stage.error.retryable);
    assert_non_null(strstr(stage.error.message, "No space left"));
    assert_non_null(strstr(stage.error.remedy, "space"));
    assert_file(stage.policy.key_table, OLD_KEYS);
    assert_file(stage.policy.signing_table, OLD_SENDERS);
  }
  assert_int_equal(ftruncate(filler, 0), 0);
  assert_no_leftovers(&stage);
  assert_int_equal(stage_switch(&stage, KEEPER_EDIT_TABLES), 0);
  assert_int_equal(umount2(stage.folder.path, MNT_DETACH), 0);
  stage_close(&stage);
}

static void test_opendkim_jobs__read_only_tables_change_nothing_and_say_why(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  write_tables(&stage, OLD_KEYS, OLD_SENDERS);
  mount_tmpfs(stage.folder.path, "size=64k");
  write_tables(&stage, OLD_KEYS, OLD_SENDERS);
  assert_int_equal(mount("none", stage.folder.path, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
  static const enum keeper_job jobs[] = {KEEPER_READ_TABLES, KEEPER_EDIT_TABLES};
  for (size_t i = 0; i < ARRAY_SIZE(jobs); i++) {
    assert_int_equal(stage_switch(&stage, jobs[i]), ERROR_PERMISSION);
    assert_non_null(strstr(stage.error.message, "KeyTable"));
    assert_non_null(strstr(stage.error.message, "Read-only"));
    assert_non_null(strstr(stage.error.remedy, "ReadWritePaths"));
  }
  assert_file(stage.policy.key_table, OLD_KEYS);
  assert_file(stage.policy.signing_table, OLD_SENDERS);
  assert_int_equal(umount2(stage.folder.path, MNT_DETACH), 0);
  stage_close(&stage);
}

static void test_opendkim_jobs__second_table_that_cannot_be_written_spares_the_first(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  CLEANUP_FREE char *other = workplace_path(&stage.folder, "ro");
  assert_int_equal(mkdir(other, 0755), 0);
  mount_tmpfs(other, "size=64k");
  free(stage.policy.signing_table);
  stage.policy.signing_table = workplace_path(&stage.folder, "ro/SigningTable");
  stage_allow(&stage);
  write_tables(&stage, OLD_KEYS, OLD_SENDERS);
  assert_int_equal(mount("none", other, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
  assert_int_equal(stage_switch(&stage, KEEPER_EDIT_TABLES), ERROR_PERMISSION);
  assert_non_null(strstr(stage.error.message, "SigningTable"));
  assert_unchanged(&stage);
  assert_int_equal(umount2(other, MNT_DETACH), 0);
  stage_close(&stage);
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
  (void)state;
  struct stage stage;
  stage_open(&stage);
  write_tables(&stage, OLD_KEYS "theirs t:t:/t\n", OLD_SENDERS);
  pid_t parent = getpid();
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent) keep_rewriting(stage.policy.signing_table);
    _exit(1);
  }
  int conflicts = 0;
  /* On a busy machine the other process may not get its turn for long. */
  const int64_t deadline = clock_boottime() + 60000;
  for (int i = 0; i < 50 || (conflicts == 0 && clock_boottime() < deadline); i++) {
    int result = stage_switch(&stage, KEEPER_EDIT_TABLES);
    if (result == ERROR_CONFLICT) {
      assert_true(stage.error.retryable);
      conflicts++;
    } else {
      assert_int_equal(result, 0);
    }
  }
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
  assert_true(conflicts > 0);
  assert_int_equal(stage_switch(&stage, KEEPER_EDIT_TABLES), 0);
  char *text = NULL;
  size_t size = 0;
  assert_int_equal(file_read(stage.policy.signing_table, TABLE_FILE_MAX, &text, &size, NULL, &stage.error), 0);
  assert_non_null(strstr(text, "*@example.com new\n*@example.net theirs"));
  free(text);
  stage_close(&stage);
}

/* Reads as OpenDKIM does, SigningTable and then KeyTable, and ends with 3 when a sender names a key that is not there.
 */
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
  (void)state;
  enum { ROTATIONS = 150 };
  struct stage stage;
  stage_open(&stage);
  _Atomic unsigned long *rounds =
      mmap(NULL, sizeof(*rounds), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_true(rounds != MAP_FAILED);
  CLEANUP_FREE char *first = text_format("k0 example.com:s0:%s\n", stage.key);
  write_tables(&stage, first, "*@example.com k0\n");
  pid_t parent = getpid();
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent) keep_reading(&stage.policy, rounds);
    _exit(1);
  }
  for (int i = 1; i <= ROTATIONS; i++) {
    CLEANUP_FREE char *old = text_format("k%d", i - 1);
    CLEANUP_FREE char *new = text_format("k%d", i);
    CLEANUP_FREE char *path = text_format("%s%d", stage.key, i);
    CLEANUP_FREE char *old_path = i > 1 ? text_format("%s%d", stage.key, i - 1) : text_duplicate(stage.key);
    CLEANUP_FREE char *value = text_format("example.com:s%d:%s", i, path);
    CLEANUP_FREE char *old_value = text_format("example.com:s%d:%s", i - 1, old_path);
    workplace_write(path, "key", 0600);
    struct table_edit edits[] = {
        {.kind = TABLE_KEY_SET, .name = new, .value = value, .beside = old},
        {.kind = TABLE_SIGN_POINT, .pattern = "*@example.com", .address = "a@example.com", .name = new, .before = old}};
    assert_int_equal(stage_tables(&stage, KEEPER_EDIT_TABLES, edits, 2), 0);
    assert_int_equal(stage.outcome.error.code, 0);
    wait_for_reader(rounds, pid); /* In life it is a reload and its proof that stand between. */
    struct table_edit removal = {.kind = TABLE_KEY_REMOVE, .name = old, .value = old_value};
    assert_int_equal(stage_tables(&stage, KEEPER_EDIT_TABLES, &removal, 1), 0);
    assert_int_equal(stage.outcome.error.code, 0);
  }
  wait_for_reader(rounds, pid);
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
  munmap(rounds, sizeof(*rounds));
  stage_close(&stage);
}

static void test_opendkim_jobs__tables_outside_of_the_policy_are_refused(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  write_tables(&stage, OLD_KEYS, OLD_SENDERS);
  struct policy_signer allowed = stage.policy;
  stage.policy.key_table = (char *)"/etc/passwd";
  assert_int_equal(stage_switch(&stage, KEEPER_EDIT_TABLES), ERROR_PERMISSION);
  stage.policy = allowed;
  stage.policy.signing_table_format = SIGNING_TABLE_FILE;
  assert_int_equal(stage_switch(&stage, KEEPER_EDIT_TABLES), ERROR_PERMISSION);
  stage.policy = allowed;
  static const char *const values[] = {"example.com:s:/etc/shadow", "example.com:s:", "none"};
  for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
    struct table_edit edit = {.kind = TABLE_KEY_SET, .name = "k", .value = values[i]};
    assert_int_equal(stage_tables(&stage, KEEPER_EDIT_TABLES, &edit, 1), ERROR_PERMISSION);
  }
  CLEANUP_FREE char *escape = text_format("example.com:s:%s/keys/../../etc/shadow", stage.folder.path);
  struct table_edit edit = {.kind = TABLE_KEY_SET, .name = "k", .value = escape};
  assert_int_equal(stage_tables(&stage, KEEPER_EDIT_TABLES, &edit, 1), ERROR_PERMISSION);
  assert_unchanged(&stage);
  stage_close(&stage);
}

static void test_opendkim_jobs__a_directory_beside_that_of_keys_is_not_below_it(void **state) {
  (void)state;
  const struct opendkim_root whole = {.key_prefix = (char *)"/etc/keys", .key_prefix_whole = true};
  const struct opendkim_root field = {.key_prefix = (char *)"/etc/keys/of-"};
  static const char *const good[] = {"/etc/keys", "/etc/keys/", "/etc/keys/s.private", "/etc/keys/a..b/..s", "/etc/keys/of-a/s"};
  static const char *const bad[] = {"/etc/keys-of-others/s", "/etc/keys/..", "/etc/keys/../shadow", "/etc/keys/a/..", "etc/keys/s", ""};
  for (size_t i = 0; i < ARRAY_SIZE(good); i++) assert_true(opendkim_root_has_key(&whole, good[i]));
  for (size_t i = 0; i < ARRAY_SIZE(bad); i++) assert_false(opendkim_root_has_key(&whole, bad[i]));
  assert_true(opendkim_root_has_key(&field, "/etc/keys/of-example.com/s.private"));
  assert_false(opendkim_root_has_key(&field, "/etc/keys/of-example.com/../../s.private"));
}

static void test_opendkim_jobs__malformed_requests_are_refused(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  write_tables(&stage, OLD_KEYS, OLD_SENDERS);
  struct buffer whole = BUFFER_WITH_MAXIMUM(REPLY_MAX);
  struct table_edit edit = {.kind = TABLE_KEY_SET, .name = "k", .value = "v"};
  struct table_item item = {.edits = &edit, .edit_count = 1};
  opendkim_jobs_tables(&whole, &stage.policy, &item, 1);
  for (size_t size = 0; size < whole.size; size++) {
    struct buffer cut = BUFFER_WITH_MAXIMUM(REPLY_MAX);
    buffer_add(&cut, whole.data, size);
    assert_int_equal(stage_run(&stage, KEEPER_EDIT_TABLES, &cut, NULL), ERROR_PROTOCOL);
    assert_int_equal(stage_run(&stage, KEEPER_RELOAD, &cut, NULL) < 0, 1);
    buffer_release(&cut);
  }
  for (size_t place = 0; place < whole.size; place++) {
    struct buffer damaged = BUFFER_WITH_MAXIMUM(REPLY_MAX);
    buffer_add(&damaged, whole.data, whole.size);
    damaged.data[place] ^= 0xff;
    stage_run(&stage, KEEPER_EDIT_TABLES, &damaged, NULL);
    buffer_release(&damaged);
  }
  buffer_release(&whole);
  assert_unchanged(&stage);
  stage_close(&stage);
}

static void test_opendkim_jobs__items_without_edits_change_nothing(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  write_tables(&stage, OLD_KEYS, OLD_SENDERS);
  assert_int_equal(stage_tables(&stage, KEEPER_EDIT_TABLES, NULL, 0), 0);
  assert_int_equal(stage.outcome.error.code, 0);
  assert_unchanged(&stage);
  stage_close(&stage);
}

static void test_opendkim_jobs__malformed_replies_are_refused(void **state) {
  (void)state;
  struct buffer reply = BUFFER_WITH_MAXIMUM(REPLY_MAX);
  buffer_add_u32(&reply, 1);
  buffer_add_u32(&reply, 0);
  buffer_add_u8(&reply, 2);
  buffer_add(&reply, "\1\2", 2);
  struct table_outcome outcomes[2];
  struct error error = {0};
  assert_int_equal(opendkim_jobs_read_tables(reply.data, reply.size, outcomes, 1, &error), 0);
  assert_int_equal(outcomes[0].made[1], 2);
  assert_int_equal(opendkim_jobs_read_tables(reply.data, reply.size, outcomes, 2, &error), ERROR_PROTOCOL);
  for (size_t size = 0; size < reply.size; size++)
    assert_int_equal(opendkim_jobs_read_tables(reply.data, size, outcomes, 1, &error), ERROR_PROTOCOL);
  buffer_release(&reply);
}

static void test_opendkim_jobs__relative_paths_never_get_into_the_allow_list(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  struct opendkim_roots roots = {0};
  struct error error = {0};
  const char *paths[] = {"KeyTable", "/etc/../shadow", ""};
  for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
    struct policy_signer policy = stage.policy;
    policy.key_table = (char *)(uintptr_t)paths[i];
    assert_int_equal(opendkim_roots_add(&roots, &policy, &error), ERROR_INVALID);
  }
  assert_int_equal(roots.count, 0);
  opendkim_roots_release(&roots);
  stage_close(&stage);
}

/* ---- looks ---- */

static int look(struct stage *stage, const struct policy_signer *policy, const char *known, struct signer_stamp *ret_stamp) {
  struct buffer payload = BUFFER_WITH_MAXIMUM(REPLY_MAX);
  struct buffer reply = BUFFER_WITH_MAXIMUM(REPLY_MAX);
  opendkim_jobs_look(&payload, policy, known);
  int result = stage_run(stage, KEEPER_LOOK_TABLES, &payload, &reply);
  if (result == 0) assert_int_equal(opendkim_jobs_read_stamp(reply.data, reply.size, ret_stamp, &stage->error), 0);
  buffer_release(&payload);
  buffer_release(&reply);
  return result;
}

static void test_opendkim_jobs__a_look_reads_only_what_looks_otherwise(void **state) {
  (void)state;
  struct stage stage;
  struct signer_stamp first, again, changed, touched, moved;
  char own[SIGNER_STATE_SIZE];
  stage_open(&stage);
  assert_int_equal(look(&stage, &stage.policy, "", &first), 0); /* tables that are not there yet are tables without lines */
  assert_string_equal(first.state, "none none");
  workplace_write(stage.policy.key_table, "a b\n", 0644);
  workplace_write(stage.policy.signing_table, "c d\n", 0644);
  assert_int_equal(look(&stage, &stage.policy, first.state, &changed), 0);
  assert_string_not_equal(changed.digest, first.digest);
  assert_int_equal(strlen(changed.digest), 64);
  assert_int_equal(table_files_state(stage.policy.key_table, stage.policy.signing_table, own, &stage.error), 0);
  assert_string_equal(own, changed.state);
  assert_int_equal(look(&stage, &stage.policy, changed.state, &again), 0);
  assert_string_equal(again.digest, "");
  assert_string_equal(again.state, changed.state);
  assert_int_equal(truncate(stage.policy.key_table, 0), 0);
  workplace_write(stage.policy.key_table, "a b\n", 0644);
  assert_int_equal(look(&stage, &stage.policy, changed.state, &touched), 0);
  assert_string_equal(touched.digest, changed.digest); /* the same content, whenever it was written */
  workplace_write(stage.policy.key_table, "a b\nc d\n", 0644);
  workplace_write(stage.policy.signing_table, "", 0644);
  assert_int_equal(look(&stage, &stage.policy, changed.state, &moved), 0);
  assert_string_not_equal(moved.digest, changed.digest);
  stage_close(&stage);
}

static void test_opendkim_jobs__only_tables_of_the_policy_are_looked_at(void **state) {
  (void)state;
  struct stage stage;
  struct signer_stamp stamp;
  stage_open(&stage);
  struct policy_signer other = stage.policy;
  other.signing_table = (char *)"/etc/shadow";
  assert_int_equal(look(&stage, &other, "", &stamp), ERROR_PERMISSION);
  static const uint8_t junk[] = {9, 9, 9};
  assert_int_equal(opendkim_jobs_read_stamp(junk, sizeof(junk), &stamp, &stage.error), ERROR_PROTOCOL);
  struct buffer cut = BUFFER_WITH_MAXIMUM(16);
  buffer_add(&cut, junk, sizeof(junk));
  assert_int_equal(stage_run(&stage, KEEPER_LOOK_TABLES, &cut, NULL), ERROR_PROTOCOL);
  buffer_release(&cut);
  stage_close(&stage);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_opendkim_jobs__a_look_reads_only_what_looks_otherwise),
      cmocka_unit_test(test_opendkim_jobs__only_tables_of_the_policy_are_looked_at),
      cmocka_unit_test(test_opendkim_jobs__edit_writes_both_tables),
      cmocka_unit_test(test_opendkim_jobs__read_says_what_edit_would_do_and_writes_nothing),
      cmocka_unit_test(test_opendkim_jobs__unchanged_tables_are_not_written),
      cmocka_unit_test(test_opendkim_jobs__leftover_of_a_crash_is_no_obstacle),
      cmocka_unit_test(test_opendkim_jobs__table_that_another_process_edits_is_busy),
      cmocka_unit_test(test_opendkim_jobs__missing_directory_is_a_clear_error),
      cmocka_unit_test(test_opendkim_jobs__missing_tables_are_made_for_the_owner_of_the_directory),
      cmocka_unit_test(test_opendkim_jobs__one_file_for_both_tables_is_refused),
      cmocka_unit_test(test_opendkim_jobs__full_disk_changes_nothing),
      cmocka_unit_test(test_opendkim_jobs__read_only_tables_change_nothing_and_say_why),
      cmocka_unit_test(test_opendkim_jobs__second_table_that_cannot_be_written_spares_the_first),
      cmocka_unit_test(test_opendkim_jobs__table_that_changes_under_our_hands_loses_no_foreign_line),
      cmocka_unit_test(test_opendkim_jobs__reader_never_finds_tables_that_contradict),
      cmocka_unit_test(test_opendkim_jobs__tables_outside_of_the_policy_are_refused),
      cmocka_unit_test(test_opendkim_jobs__a_directory_beside_that_of_keys_is_not_below_it),
      cmocka_unit_test(test_opendkim_jobs__malformed_requests_are_refused),
      cmocka_unit_test(test_opendkim_jobs__items_without_edits_change_nothing),
      cmocka_unit_test(test_opendkim_jobs__malformed_replies_are_refused),
      cmocka_unit_test(test_opendkim_jobs__relative_paths_never_get_into_the_allow_list),
  };
  signal(SIGPIPE, SIG_IGN);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
