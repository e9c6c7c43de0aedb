/* The simulator's disk for files: what it takes for durable, and what it tells when it is full, read-only or broken. */
#include "sim_files_rig.h"

#include <errno.h>
#include <stdio.h>

static int make(const char *name, const char *text, bool syncs) {
  CLEANUP_FREE char *path = at(name);
  CLEANUP_CLOSE int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (descriptor < 0) return -errno;
  if (write(descriptor, text, strlen(text)) < 0) return -errno;
  return syncs && fsync(descriptor) < 0 ? -errno : 0;
}

static void sync_folder(void) {
  CLEANUP_CLOSE int directory = open(folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  assert_int_equal(fsync(directory), 0);
}

/* Counts, over many losses of power, how often a name is there, and whole. */
static void survive(bool syncs_file, bool syncs_folder, unsigned *ret_there, unsigned *ret_whole) {
  *ret_there = *ret_whole = 0;
  for (uint64_t seed = 1; seed <= 40; seed++) {
    disk_open(seed);
    assert_int_equal(make("new", "content", syncs_file), 0);
    if (syncs_folder) sync_folder();
    sim_files_crash(&disk, seed);
    CLEANUP_FREE char *text = content("new");
    *ret_there += text != NULL;
    *ret_whole += text_equal(text, "content");
    disk_close();
  }
}

static void test_sim_files__a_file_is_durable_when_it_and_its_folder_were_synced(void **state) {
  (void)state;
  unsigned there = 0, whole = 0;
  survive(true, true, &there, &whole);
  assert_int_equal(whole, 40);
  survive(true, false, &there, &whole);
  assert_in_range(there, 5, 35);
  assert_int_equal(whole, there);
  survive(false, true, &there, &whole);
  assert_int_equal(there, 40);
  assert_in_range(whole, 5, 35);
}

static void test_sim_files__a_rename_is_done_or_not(void **state) {
  (void)state;
  CLEANUP_FREE char *from = NULL, *to = NULL;
  unsigned done = 0;
  for (uint64_t seed = 1; seed <= 40; seed++) {
    disk_open(seed);
    put("to", "old");
    assert_int_equal(make("from", "new", true), 0);
    sync_folder();
    free(from), free(to);
    from = at("from"), to = at("to");
    assert_int_equal(rename(from, to), 0);
    sim_files_crash(&disk, seed);
    CLEANUP_FREE char *text = content("to");
    assert_content("from", text_equal(text, "new") ? NULL : "new");
    if (!text_equal(text, "new")) assert_string_equal(text, "old");
    done += text_equal(text, "new");
    disk_close();
  }
  assert_in_range(done, 5, 35);
}

static void test_sim_files__a_deletion_may_be_undone(void **state) {
  (void)state;
  unsigned back = 0;
  for (uint64_t seed = 1; seed <= 40; seed++) {
    disk_open(seed);
    put("old", "content");
    CLEANUP_FREE char *path = at("old");
    assert_int_equal(unlink(path), 0);
    sim_files_crash(&disk, seed);
    CLEANUP_FREE char *text = content("old");
    if (text) assert_string_equal(text, "content");
    back += text != NULL;
    assert_int_equal(text ? unlink(path) : 0, 0);
    sync_folder();
    sim_files_crash(&disk, seed + 1);
    assert_content("old", NULL);
    disk_close();
  }
  assert_in_range(back, 5, 35);
}

static void test_sim_files__a_folder_goes_with_all_that_is_in_it(void **state) {
  (void)state;
  unsigned there = 0;
  for (uint64_t seed = 1; seed <= 40; seed++) {
    disk_open(seed);
    CLEANUP_FREE char *path = at("below");
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(make("below/file", "content", true), 0);
    CLEANUP_CLOSE int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(fsync(directory), 0);
    sim_files_crash(&disk, seed);
    there += access(path, F_OK) == 0;
    assert_content("below/file", access(path, F_OK) == 0 ? "content" : NULL);
    disk_close();
  }
  assert_in_range(there, 5, 35);
}

static void test_sim_files__full_read_only_and_broken_disks_are_told(void **state) {
  (void)state;
  disk_open(1);
  put("old", "content");
  disk.room = 3;
  assert_int_equal(make("new", "content", true), 0);
  assert_content("new", "con");
  assert_int_equal(disk.room, 0);
  assert_int_equal(make("new", "x", true), -ENOSPC);
  assert_int_equal(make("newer", "", true), -ENOSPC);
  disk.room = -1;
  disk.read_only = true;
  assert_int_equal(make("newer", "", true), -EROFS);
  assert_int_equal(make("old", "x", true), -EROFS);
  CLEANUP_FREE char *path = at("old");
  assert_int_equal(unlink(path), -1);
  assert_int_equal(errno, EROFS);
  disk.read_only = false;
  disk.write_fails = 100;
  assert_int_equal(make("newer", "x", true), -EIO);
  disk.write_fails = 0;
  disk.sync_fails = 100;
  assert_int_equal(make("newer", "x", true), -EIO);
  disk.sync_fails = 0;
  /* What the failed sync was about is lost, and the next one says nothing about it. */
  CLEANUP_FREE char *newer = at("newer");
  CLEANUP_CLOSE int descriptor = open(newer, O_RDONLY | O_CLOEXEC);
  assert_int_equal(fsync(descriptor), 0);
  sync_folder();
  assert_content("newer", "x");
  sim_files_crash(&disk, 1);
  assert_content("newer", "");
  assert_content("old", "content");
  disk_close();
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_sim_files__a_file_is_durable_when_it_and_its_folder_were_synced, disk_clean),
      cmocka_unit_test_teardown(test_sim_files__a_rename_is_done_or_not, disk_clean),
      cmocka_unit_test_teardown(test_sim_files__a_deletion_may_be_undone, disk_clean),
      cmocka_unit_test_teardown(test_sim_files__a_folder_goes_with_all_that_is_in_it, disk_clean),
      cmocka_unit_test_teardown(test_sim_files__full_read_only_and_broken_disks_are_told, disk_clean),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
