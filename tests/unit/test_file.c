#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"

#include "workplace.h"

enum { READ_MAXIMUM = 1 << 20, LARGE_SIZE = 256 * 1024 };

static const struct file_rights private_rights = {.owner = 0, .group = 0, .mode = 0600};

static void assert_content(const char *path, const char *expected) {
  CLEANUP_FREE char *data = NULL;
  size_t size = 0;
  struct error error = {0};
  assert_int_equal(file_read(path, READ_MAXIMUM, &data, &size, NULL, &error), 0);
  assert_string_equal(data, expected);
  assert_int_equal(size, strlen(expected));
}

/* How many names a folder holds: whatever was left behind shows here. */
static int count_entries(const char *path) {
  DIR *directory = opendir(path);
  assert_non_null(directory);
  int count = 0;
  for (const struct dirent *entry = readdir(directory); entry; entry = readdir(directory))
    if (!text_equal(entry->d_name, ".") && !text_equal(entry->d_name, "..")) count++;
  closedir(directory);
  return count;
}

static void test_file__read_gives_content_size_and_status(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "file");
  workplace_write(path, "some text", 0640);
  CLEANUP_FREE char *data = NULL;
  size_t size = 0;
  struct stat status = {0};
  struct error error = {0};
  assert_int_equal(file_read(path, 9, &data, &size, &status, &error), 0);
  assert_int_equal(size, 9);
  assert_string_equal(data, "some text");
  assert_int_equal(status.st_mode & 07777, 0640);
}

static void test_file__read_refuses_more_than_the_maximum(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "file");
  workplace_write(path, "some text", 0600);
  char *data = NULL;
  size_t size = 77;
  struct error error = {0};
  assert_int_equal(file_read(path, 8, &data, &size, NULL, &error), ERROR_LIMIT);
  assert_null(data);
  assert_int_equal(size, 77);
  assert_non_null(strstr(error.message, path));
}

static void test_file__read_bears_empty_files_and_files_without_a_size(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "file");
  workplace_write(path, "", 0600);
  assert_content(path, "");
  CLEANUP_FREE char *data = NULL;
  size_t size = 0;
  struct error error = {0};
  assert_int_equal(file_read("/proc/self/mountinfo", READ_MAXIMUM, &data, &size, NULL, &error), 0);
  assert_true(size > 0);
  assert_int_equal(size, strlen(data));
  char *cut = NULL;
  assert_int_equal(file_read("/proc/self/mountinfo", 10, &cut, &size, NULL, &error), ERROR_LIMIT);
}

static void test_file__read_tells_missing_files_and_what_is_no_file(void **state) {
  CLEANUP_FREE char *missing = workplace_path(*state, "missing");
  CLEANUP_FREE char *pipe_path = workplace_path(*state, "pipe");
  CLEANUP_FREE char *folder = workplace_path(*state, "folder");
  assert_int_equal(mkfifo(pipe_path, 0600), 0);
  assert_int_equal(mkdir(folder, 0700), 0);
  char *data = NULL;
  size_t size = 0;
  struct error error = {0};
  assert_int_equal(file_read(missing, 10, &data, &size, NULL, &error), ERROR_NOT_FOUND);
  assert_int_equal(file_read(pipe_path, 10, &data, &size, NULL, &error), ERROR_INVALID);
  assert_int_equal(file_read(folder, 10, &data, &size, NULL, &error), ERROR_INVALID);
}

static void test_file__replace_writes_content_owner_and_mode_whatever_the_umask(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "file");
  const struct file_rights rights = {.owner = 65534, .group = 12345, .mode = 0664};
  struct error error = {0};
  mode_t mask = umask(0077);
  int result = file_replace(path, "new", 3, &rights, &error);
  umask(mask);
  assert_int_equal(result, 0);
  struct stat status;
  assert_int_equal(stat(path, &status), 0);
  assert_int_equal(status.st_uid, 65534);
  assert_int_equal(status.st_gid, 12345);
  assert_int_equal(status.st_mode & 07777, 0664);
  assert_content(path, "new");
}

static void test_file__replace_leaves_the_old_file_to_those_who_have_it_open(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "file");
  workplace_write(path, "old", 0600);
  CLEANUP_CLOSE int reader = open(path, O_RDONLY | O_CLOEXEC);
  struct error error = {0};
  assert_int_equal(file_replace(path, "new content", 11, &private_rights, &error), 0);
  char text[16] = {0};
  assert_int_equal(read(reader, text, sizeof(text)), 3);
  assert_string_equal(text, "old");
  assert_content(path, "new content");
  assert_int_equal(count_entries(((struct workplace *)*state)->path), 1);
}

static void test_file__replace_refuses_a_symbolic_link(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "link");
  CLEANUP_FREE char *target = workplace_path(*state, "target");
  workplace_write(target, "old", 0600);
  assert_int_equal(symlink(target, path), 0);
  struct error error = {0};
  assert_int_equal(file_replace(path, "new", 3, &private_rights, &error), ERROR_INVALID);
  assert_true(error.remedy[0] != '\0');
  assert_content(target, "old");
  assert_int_equal(count_entries(((struct workplace *)*state)->path), 2);
}

static void test_file__a_failed_rename_leaves_nothing_behind(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "folder");
  assert_int_equal(mkdir(path, 0700), 0);
  struct error error = {0};
  assert_true(file_replace(path, "new", 3, &private_rights, &error) < 0);
  assert_int_equal(count_entries(((struct workplace *)*state)->path), 1);
}

static void test_file__names_that_name_no_file_are_refused(void **state) {
  (void)state;
  struct error error = {0};
  assert_int_equal(file_replace("", "x", 1, &private_rights, &error), ERROR_INVALID);
  assert_int_equal(file_replace("/tmp/", "x", 1, &private_rights, &error), ERROR_INVALID);
  assert_int_equal(file_create("/tmp/..", "x", 1, &private_rights, &error), ERROR_INVALID);
  assert_int_equal(file_create("/missing-folder/x", "x", 1, &private_rights, &error), ERROR_NOT_FOUND);
}

static void test_file__create_never_overwrites(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "key");
  struct error error = {0};
  assert_int_equal(file_create(path, "first", 5, &private_rights, &error), 0);
  assert_int_equal(file_create(path, "second", 6, &private_rights, &error), ERROR_EXISTS);
  assert_content(path, "first");
  struct stat status;
  assert_int_equal(stat(path, &status), 0);
  assert_int_equal(status.st_mode & 07777, 0600);
  assert_int_equal(status.st_nlink, 1);
  assert_int_equal(count_entries(((struct workplace *)*state)->path), 1);
}

static void test_file__create_does_not_follow_a_dangling_link(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "key");
  CLEANUP_FREE char *target = workplace_path(*state, "elsewhere");
  assert_int_equal(symlink(target, path), 0);
  struct error error = {0};
  assert_int_equal(file_create(path, "x", 1, &private_rights, &error), ERROR_EXISTS);
  assert_int_equal(access(target, F_OK), -1);
  assert_int_equal(count_entries(((struct workplace *)*state)->path), 1);
}

static void test_file__the_longest_name_can_be_written(void **state) {
  char name[NAME_MAX + 1];
  memset(name, 'n', NAME_MAX);
  name[NAME_MAX] = '\0';
  CLEANUP_FREE char *path = workplace_path(*state, name);
  struct error error = {0};
  assert_int_equal(file_create(path, "x", 1, &private_rights, &error), 0);
  assert_int_equal(file_replace(path, "y", 1, &private_rights, &error), 0);
  assert_content(path, "y");
}

/* Both writers on what must fail in the middle of the content: old files as they were, nothing new. */
static bool failing_writes_change_nothing(const char *folder, const char *old, const char *new_path) {
  CLEANUP_FREE char *large = malloc(LARGE_SIZE);
  if (!large) return false;
  memset(large, 'x', LARGE_SIZE);
  int before = count_entries(folder);
  struct error error = {0};
  bool refused = file_replace(old, large, LARGE_SIZE, &private_rights, &error) < 0 && error.message[0];
  refused = refused && file_create(new_path, large, LARGE_SIZE, &private_rights, &error) < 0;
  CLEANUP_FREE char *data = NULL;
  size_t size = 0;
  bool kept = file_read(old, READ_MAXIMUM, &data, &size, NULL, &error) == 0 && text_equal(data, "old");
  return refused && kept && access(new_path, F_OK) < 0 && count_entries(folder) == before;
}

/* The limit holds for the whole process, so a child takes it upon itself. */
static void test_file__a_write_cut_short_changes_nothing(void **state) {
  CLEANUP_FREE char *old = workplace_path(*state, "old");
  CLEANUP_FREE char *new_path = workplace_path(*state, "new");
  workplace_write(old, "old", 0600);
  pid_t child = fork();
  if (child == 0) {
    const struct rlimit limit = {.rlim_cur = 4096, .rlim_max = 4096};
    signal(SIGXFSZ, SIG_IGN);
    bool right = setrlimit(RLIMIT_FSIZE, &limit) == 0 &&
                 failing_writes_change_nothing(((struct workplace *)*state)->path, old, new_path);
    _exit(right ? 0 : 1);
  }
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}

enum { FULL_DISK_RIGHT, FULL_DISK_WRONG, FULL_DISK_NOT_PERMITTED };

/* In a mount name space of its own, so that nothing of it is seen outside or left behind. */
static int fill_a_small_disk(const char *folder, const char *old, const char *new_path) {
  if (unshare(CLONE_NEWNS) < 0) return FULL_DISK_NOT_PERMITTED;
  /* EINVAL: in a chroot "/" is no mount point, and nothing is propagated from there. */
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 && errno != EINVAL) return FULL_DISK_NOT_PERMITTED;
  if (mount("tmpfs", folder, "tmpfs", 0, "size=64k") < 0) return FULL_DISK_NOT_PERMITTED;
  struct error error = {0};
  if (file_create(old, "old", 3, &private_rights, &error) < 0) return FULL_DISK_WRONG;
  if (!failing_writes_change_nothing(folder, old, new_path)) return FULL_DISK_WRONG;
  CLEANUP_FREE char *large = calloc(1, LARGE_SIZE);
  if (!large || file_replace(old, large, LARGE_SIZE, &private_rights, &error) != ERROR_SYSTEM) return FULL_DISK_WRONG;
  bool told = error.retryable && error.remedy[0] && strstr(error.message, "No space left");
  /* The room of the failed attempts is free again. */
  return told && file_replace(old, large, 8192, &private_rights, &error) == 0 ? FULL_DISK_RIGHT : FULL_DISK_WRONG;
}

static void test_file__a_full_disk_changes_nothing_and_says_so(void **state) {
  char *old = workplace_path(*state, "old"), *new_path = workplace_path(*state, "new");
  pid_t child = fork();
  if (child == 0) _exit(fill_a_small_disk(((struct workplace *)*state)->path, old, new_path));
  free(old); /* not by the scope's end, which skip() never reaches */
  free(new_path);
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  if (WEXITSTATUS(status) == FULL_DISK_NOT_PERMITTED) skip();
  assert_int_equal(WEXITSTATUS(status), FULL_DISK_RIGHT);
}

/* The limit of the size kills in the middle of the write, as SIGKILL may at any moment: no part of a private key may stay under a name that nobody knows. */
static void test_file__a_creation_that_is_killed_leaves_nothing(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "key");
  const struct rlimit limit = {16, 16};
  char data[64];
  int status = 0;
  memset(data, 'x', sizeof data);
  const pid_t pid = fork();
  if (pid == 0) {
    struct error error;
    signal(SIGXFSZ, SIG_DFL);
    if (setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}) == 0 && setrlimit(RLIMIT_FSIZE, &limit) == 0)
      _exit(file_create(path, data, sizeof data, &private_rights, &error) ? 1 : 2);
    _exit(3);
  }
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFSIGNALED(status));
  assert_int_equal(count_entries(((struct workplace *)*state)->path), 0);
}

/* Killed between making a directory and giving it its name: the next attempt goes on with what is there. */
static bool is_there(const struct workplace *workplace, const char *name) {
  CLEANUP_FREE char *path = workplace_path(workplace, name);
  return access(path, F_OK) == 0;
}

static void put(const struct workplace *workplace, const char *name) {
  CLEANUP_FREE char *path = workplace_path(workplace, name);
  workplace_write(path, "half", 0600);
}

static void test_file__what_a_killed_write_left_is_taken_away_by_the_next(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "file");
  static const char *const others[] = {".file.dkimroll-next", ".file.dkimroll-0123abcd9", ".file.dkimroll-0123abcG", ".other.dkimroll-0123abcd", "file.dkimroll-0123abcd"};
  struct error error = {0};
  put(*state, ".file.dkimroll-0123abcd");
  for (size_t i = 0; i < ARRAY_SIZE(others); i++) put(*state, others[i]);
  assert_int_equal(file_replace(path, "new", 3, &private_rights, &error), 0);
  assert_false(is_there(*state, ".file.dkimroll-0123abcd"));
  for (size_t i = 0; i < ARRAY_SIZE(others); i++) assert_true(is_there(*state, others[i]));
  assert_content(path, "new");
}

static void test_file__what_somebody_is_writing_is_no_leftover(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "file");
  CLEANUP_FREE char *other = workplace_path(*state, ".file.dkimroll-0123abcd");
  struct error error = {0};
  put(*state, ".file.dkimroll-0123abcd");
  CLEANUP_CLOSE int writer = open(other, O_WRONLY | O_CLOEXEC);
  assert_int_equal(flock(writer, LOCK_EX | LOCK_NB), 0);
  assert_int_equal(file_replace(path, "new", 3, &private_rights, &error), 0);
  assert_true(is_there(*state, ".file.dkimroll-0123abcd"));
  close(TAKE_FD(writer));
  assert_int_equal(file_replace(path, "newer", 5, &private_rights, &error), 0);
  assert_false(is_there(*state, ".file.dkimroll-0123abcd"));
}

static void test_file__a_directory_that_was_left_half_made_is_finished(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "example.com");
  CLEANUP_FREE char *left = workplace_path(*state, ".example.com" FILE_TEMPORARY_MARK "directory");
  const struct file_rights rights = {.owner = 65534, .group = 65534, .mode = 0750};
  struct stat status;
  struct error error = {0};
  assert_int_equal(mkdir(left, 0700), 0);
  assert_int_equal(file_make_directories(path, &rights, &error), 0);
  assert_int_equal(stat(path, &status), 0);
  assert_int_equal(status.st_mode & 07777, 0750);
  assert_int_equal(status.st_uid, 65534);
  assert_int_equal(count_entries(((struct workplace *)*state)->path), 1);
}

static void test_file__directories_are_made_with_rights_and_old_ones_left_alone(void **state) {
  CLEANUP_FREE char *top = workplace_path(*state, "top");
  CLEANUP_FREE char *path = workplace_path(*state, "top/middle//leaf/");
  CLEANUP_FREE char *middle = workplace_path(*state, "top/middle");
  const struct file_rights rights = {.owner = 65534, .group = 12345, .mode = 0750};
  assert_int_equal(mkdir(top, 0711), 0);
  struct error error = {0};
  mode_t mask = umask(0077);
  int result = file_make_directories(path, &rights, &error);
  umask(mask);
  assert_int_equal(result, 0);
  assert_int_equal(file_make_directories(path, &private_rights, &error), 0);
  struct stat status;
  assert_int_equal(stat(top, &status), 0);
  assert_int_equal(status.st_mode & 07777, 0711);
  assert_int_equal(status.st_uid, 0);
  const char *const made[] = {middle, path};
  for (size_t i = 0; i < ARRAY_SIZE(made); i++) {
    assert_int_equal(stat(made[i], &status), 0);
    assert_true(S_ISDIR(status.st_mode));
    assert_int_equal(status.st_mode & 07777, 0750);
    assert_int_equal(status.st_uid, 65534);
    assert_int_equal(status.st_gid, 12345);
  }
  assert_int_equal(count_entries(top), 1);
  assert_int_equal(count_entries(middle), 1);
}

static void test_file__a_file_in_the_way_of_a_directory_is_told(void **state) {
  CLEANUP_FREE char *file = workplace_path(*state, "file");
  CLEANUP_FREE char *path = workplace_path(*state, "file/leaf");
  workplace_write(file, "x", 0600);
  struct error error = {0};
  assert_int_equal(file_make_directories(path, &private_rights, &error), ERROR_CONFLICT);
  assert_non_null(strstr(error.message, file));
  assert_int_equal(file_make_directories("", &private_rights, &error), ERROR_INVALID);
}

static void test_file__a_lock_is_held_by_one_until_it_is_closed(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "lock");
  struct error error = {0};
  int first = -1;
  int second = -1;
  assert_int_equal(file_lock(path, &first, &error), 0);
  assert_true(fcntl(first, F_GETFD) & FD_CLOEXEC);
  assert_int_equal(file_lock(path, &second, &error), ERROR_BUSY);
  assert_true(error.retryable);
  assert_int_equal(second, -1);
  close(first);
  assert_int_equal(file_lock(path, &second, &error), 0);
  close(second);
}

static void test_file__a_lock_follows_no_link(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "lock");
  CLEANUP_FREE char *target = workplace_path(*state, "elsewhere");
  assert_int_equal(symlink(target, path), 0);
  struct error error = {0};
  int descriptor = -1;
  assert_true(file_lock(path, &descriptor, &error) < 0);
  assert_int_equal(access(target, F_OK), -1);
}

static void test_file__resolve_follows_links(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "link");
  CLEANUP_FREE char *target = workplace_path(*state, "target");
  workplace_write(target, "", 0600);
  assert_int_equal(symlink("target", path), 0);
  CLEANUP_FREE char *resolved = NULL;
  struct error error = {0};
  assert_int_equal(file_resolve(path, &resolved, &error), 0);
  assert_true(text_ends(resolved, "/target"));
  char *nothing = NULL;
  assert_int_equal(unlink(target), 0);
  assert_int_equal(file_resolve(path, &nothing, &error), ERROR_NOT_FOUND);
  assert_null(nothing);
}

static void test_file__sync_parent_needs_the_parent(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "not-there-yet");
  CLEANUP_FREE char *below = workplace_path(*state, "not-there-yet/x");
  struct error error = {0};
  assert_int_equal(file_sync_parent(path, &error), 0);
  assert_int_equal(file_sync_parent("relative", &error), 0);
  assert_int_equal(file_sync_parent(below, &error), ERROR_NOT_FOUND);
}

static void test_file__owners_are_read_as_names_and_numbers(void **state) {
  (void)state;
  static const struct {
    const char *text;
    uid_t owner;
    gid_t group;
  } good[] = {{"root", 0, 0}, {"root:daemon", 0, 1},         {"nobody", 65534, 65534},
              {"0", 0, 0},    {"54321:12345", 54321, 12345}, {"daemon:0", 1, 0}};
  for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
    uid_t owner = 99;
    gid_t group = 99;
    struct error error = {0};
    assert_int_equal(file_parse_owner(good[i].text, &owner, &group, &error), 0);
    assert_int_equal(owner, good[i].owner);
    assert_int_equal(group, good[i].group);
  }
}

static void test_file__unknown_owners_are_named(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int code;
    const char *named;
  } bad[] = {
      {"no-such-user", ERROR_NOT_FOUND, "no-such-user"},
      {"root:no-such-group", ERROR_NOT_FOUND, "no-such-group"},
      {"54321", ERROR_NOT_FOUND, "54321"},
      {"4294967295:0", ERROR_NOT_FOUND, "4294967295"},
      {"-1:0", ERROR_NOT_FOUND, "-1"},
      {"", ERROR_INVALID, ""},
      {":root", ERROR_INVALID, ":root"},
      {"root:", ERROR_INVALID, "root:"},
  };
  for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
    uid_t owner = 99;
    gid_t group = 98;
    struct error error = {0};
    assert_int_equal(file_parse_owner(bad[i].text, &owner, &group, &error), bad[i].code);
    assert_non_null(strstr(error.message, bad[i].named));
    assert_int_equal(owner, 99);
    assert_int_equal(group, 98);
  }
}

#define FILE_TEST(function) cmocka_unit_test_setup_teardown(function, workplace_setup, workplace_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      FILE_TEST(test_file__read_gives_content_size_and_status),
      FILE_TEST(test_file__read_refuses_more_than_the_maximum),
      FILE_TEST(test_file__read_bears_empty_files_and_files_without_a_size),
      FILE_TEST(test_file__read_tells_missing_files_and_what_is_no_file),
      FILE_TEST(test_file__replace_writes_content_owner_and_mode_whatever_the_umask),
      FILE_TEST(test_file__replace_leaves_the_old_file_to_those_who_have_it_open),
      FILE_TEST(test_file__replace_refuses_a_symbolic_link),
      FILE_TEST(test_file__a_failed_rename_leaves_nothing_behind),
      FILE_TEST(test_file__names_that_name_no_file_are_refused),
      FILE_TEST(test_file__create_never_overwrites),
      FILE_TEST(test_file__create_does_not_follow_a_dangling_link),
      FILE_TEST(test_file__the_longest_name_can_be_written),
      FILE_TEST(test_file__a_write_cut_short_changes_nothing),
      FILE_TEST(test_file__a_full_disk_changes_nothing_and_says_so),
      FILE_TEST(test_file__a_creation_that_is_killed_leaves_nothing),
      FILE_TEST(test_file__what_a_killed_write_left_is_taken_away_by_the_next),
      FILE_TEST(test_file__what_somebody_is_writing_is_no_leftover),
      FILE_TEST(test_file__a_directory_that_was_left_half_made_is_finished),
      FILE_TEST(test_file__directories_are_made_with_rights_and_old_ones_left_alone),
      FILE_TEST(test_file__a_file_in_the_way_of_a_directory_is_told),
      FILE_TEST(test_file__a_lock_is_held_by_one_until_it_is_closed),
      FILE_TEST(test_file__a_lock_follows_no_link),
      FILE_TEST(test_file__resolve_follows_links),
      FILE_TEST(test_file__sync_parent_needs_the_parent),
      FILE_TEST(test_file__owners_are_read_as_names_and_numbers),
      FILE_TEST(test_file__unknown_owners_are_named),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
