/* The simulated disk under SQLite: that it works, that it fails as told, and that what it loses at a crash is what was not synced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../sim/sim_disk.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/store.h"
#include "dkimroll/table_index.h"
#include "workplace.h"

enum { COMMITS = 12, POINTS_MAX = 400, SEEDS = 8 };

static struct sim_disk disk;

static sqlite3 *open_database(const char *synchronous) {
  sqlite3 *database = NULL;
  char pragmas[128];
  snprintf(pragmas, sizeof pragmas, "PRAGMA journal_mode = WAL; PRAGMA synchronous = %s; PRAGMA wal_autocheckpoint = 3", synchronous);
  if (sqlite3_open_v2("/state.db", &database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_EXRESCODE, NULL) == SQLITE_OK &&
      sqlite3_exec(database, pragmas, NULL, NULL, NULL) == SQLITE_OK &&
      sqlite3_exec(database, "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, filler TEXT)", NULL, NULL, NULL) == SQLITE_OK)
    return database;
  sqlite3_close(database);
  return NULL;
}

static int add(sqlite3 *database, int64_t id) {
  char sql[128];
  snprintf(sql, sizeof sql, "INSERT INTO t VALUES (%lld, hex(zeroblob(900)))", (long long)id);
  return sqlite3_exec(database, sql, NULL, NULL, NULL);
}

/* -1: the database is damaged. */
static int64_t ask(sqlite3 *database, const char *sql) {
  sqlite3_stmt *statement = NULL;
  int64_t number = -1;
  if (sqlite3_prepare_v2(database, sql, -1, &statement, NULL) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW) number = sqlite3_column_int64(statement, 0);
  sqlite3_finalize(statement);
  return number;
}

static int64_t count_rows(sqlite3 *database) {
  if (ask(database, "SELECT integrity_check = 'ok' FROM pragma_integrity_check") != 1) return -1;
  return ask(database, "SELECT count(*) FROM t");
}

/* Commits rows until the power goes. Returns how many were. */
static int64_t live(const char *synchronous, uint64_t power_lasts) {
  disk.power_lasts = power_lasts;
  sqlite3 *database = open_database(synchronous);
  int64_t committed = 0;
  while (database && committed < COMMITS && add(database, committed + 1) == SQLITE_OK) committed++;
  if (power_lasts) sim_disk_crash(&disk, power_lasts);
  sqlite3_close(database);
  return committed;
}

static void test_sim_disk__connections_share_a_wal(void **state) {
  (void)state;
  sim_disk_install(&disk, 1);
  sqlite3 *writer = open_database("FULL");
  sqlite3 *reader = open_database("FULL");
  assert_int_equal(sqlite3_exec(reader, "BEGIN; SELECT count(*) FROM t", NULL, NULL, NULL), SQLITE_OK);
  assert_int_equal(add(writer, 1), SQLITE_OK);
  assert_int_equal(ask(reader, "SELECT count(*) FROM t"), 0);
  assert_int_equal(sqlite3_exec(reader, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
  assert_int_equal(ask(reader, "SELECT count(*) FROM t"), 1);
  assert_int_equal(sqlite3_exec(writer, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_exec(reader, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_BUSY);
  assert_true(sim_disk_size(&disk, "/state.db-wal") > 0);
  sqlite3_close(reader);
  sqlite3_close(writer);
  assert_int_equal(sim_disk_size(&disk, "/state.db-wal"), -1);
  sim_disk_remove(&disk);
}

/* At every change, and with several outcomes of each crash: what was committed is there, what was not may be, nothing is damaged. */
static void test_sim_disk__committed_rows_outlive_every_loss_of_power(void **state) {
  (void)state;
  uint64_t lost = 0;
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    for (uint64_t point = 1; point < POINTS_MAX; point++) {
      sim_disk_install(&disk, seed * 1000 + point);
      const int64_t committed = live("FULL", point);
      lost += disk.sectors_lost;
      sqlite3 *database = open_database("FULL");
      assert_non_null(database);
      const int64_t rows = count_rows(database);
      if (rows < committed || rows > committed + 1) fail_msg("seed %llu, change %llu: %lld rows of %lld", (unsigned long long)seed, (unsigned long long)point, (long long)rows, (long long)committed);
      sqlite3_close(database);
      sim_disk_remove(&disk);
      if (committed == COMMITS) break;
      assert_true(point + 1 < POINTS_MAX);
    }
  }
  assert_true(lost > 100);
}

/* The opposite: who does not sync loses rows, and sometimes all. */
static void test_sim_disk__without_syncs_a_loss_of_power_shows(void **state) {
  (void)state;
  unsigned losses = 0, damages = 0;
  for (uint64_t point = 20; point < 120; point++) {
    sim_disk_install(&disk, point);
    const int64_t committed = live("OFF", point);
    sqlite3 *database = open_database("FULL");
    const int64_t rows = database ? count_rows(database) : -1;
    losses += rows >= 0 && rows < committed;
    damages += rows < 0;
    sqlite3_close(database);
    sim_disk_remove(&disk);
  }
  assert_true(losses > 10);
  assert_true(damages > 0);
}

static void test_sim_disk__a_process_that_is_killed_loses_nothing_that_it_wrote(void **state) {
  (void)state;
  sim_disk_install(&disk, 3);
  sqlite3 *database = open_database("OFF");
  assert_int_equal(add(database, 1), SQLITE_OK);
  assert_int_equal(sqlite3_exec(database, "BEGIN", NULL, NULL, NULL), SQLITE_OK);
  assert_int_equal(add(database, 2), SQLITE_OK);
  sim_disk_kill(&disk);
  assert_int_equal(sqlite3_exec(database, "COMMIT", NULL, NULL, NULL) & 0xff, SQLITE_IOERR);
  sqlite3 *next = open_database("OFF");
  assert_int_equal(count_rows(next), 1);
  /* The dead one may still be closed, and disturbs nobody. */
  sqlite3_close(database);
  assert_int_equal(add(next, 2), SQLITE_OK);
  assert_int_equal(count_rows(next), 2);
  sqlite3_close(next);
  sim_disk_remove(&disk);
}

static void test_sim_disk__a_full_disk_takes_no_more_until_there_is_room(void **state) {
  (void)state;
  sim_disk_install(&disk, 4);
  sqlite3 *database = open_database("FULL");
  assert_int_equal(add(database, 1), SQLITE_OK);
  disk.room = 0;
  assert_int_equal(sqlite3_exec(database, "INSERT INTO t VALUES (2, hex(zeroblob(50000)))", NULL, NULL, NULL), SQLITE_FULL);
  disk.room = 30000;
  assert_int_equal(sqlite3_exec(database, "INSERT INTO t VALUES (2, hex(zeroblob(50000)))", NULL, NULL, NULL), SQLITE_FULL);
  assert_int_equal(count_rows(database), 1);
  disk.room = 1000000;
  assert_int_equal(sqlite3_exec(database, "INSERT INTO t VALUES (2, hex(zeroblob(50000)))", NULL, NULL, NULL), SQLITE_OK);
  assert_true(disk.room < 1000000);
  assert_int_equal(count_rows(database), 2);
  sqlite3_close(database);
  sim_disk_remove(&disk);
}

static void test_sim_disk__failures_are_told_and_leave_a_sound_database(void **state) {
  (void)state;
  unsigned failures = 0;
  for (uint64_t seed = 1; seed < 40; seed++) {
    sim_disk_install(&disk, seed);
    sqlite3 *database = open_database("FULL");
    disk.write_fails = 5;
    disk.sync_fails = 10;
    int64_t committed = 0;
    for (int i = 0; i < COMMITS; i++) {
      int code = add(database, committed + 1);
      if (code == SQLITE_OK) committed++;
      else failures++;
    }
    sim_disk_crash(&disk, seed);
    disk.write_fails = disk.sync_fails = 0;
    sqlite3_close(database);
    database = open_database("FULL");
    assert_non_null(database);
    /* A commit whose sync failed may be there after all. */
    const int64_t rows = count_rows(database);
    assert_in_range(rows, committed, committed + 1);
    sqlite3_close(database);
    sim_disk_remove(&disk);
  }
  assert_true(failures > 20);
}

/* What a failed sync should have written is not written by the next one. */
static void test_sim_disk__a_failed_sync_loses_what_it_was_about(void **state) {
  (void)state;
  sim_disk_install(&disk, 5);
  struct sim_disk_file *file = sim_disk_file_make(&disk, "/x");
  sim_disk_file_write(file, "first", 5, 0);
  sim_disk_file_sync(&disk, file, false);
  sim_disk_file_write(file, "other", 5, 0);
  sim_disk_file_sync(&disk, file, true);
  sim_disk_file_sync(&disk, file, false);
  assert_memory_equal(file->present.octets, "other", 5);
  sim_disk_crash(&disk, 1);
  assert_memory_equal(sim_disk_file_find(&disk, "/x")->present.octets, "first", 5);
  sim_disk_remove(&disk);
}

/* Makes the store, and adds rows to one of its tables, until the power goes. */
static int64_t live_with_store(const char *path, uint64_t power_lasts) {
  struct store *store = NULL;
  sqlite3 *database = NULL;
  struct error error;
  int64_t taken = 0;
  disk.power_lasts = power_lasts;
  if (store_sqlite_open(path, false, &store, &error) == 0 && sqlite3_open(path, &database) == SQLITE_OK)
    while (taken < COMMITS && sqlite3_exec(database, "INSERT INTO request (kind, domain, asked_at, asked_by) VALUES (1, 'a.test', 1, 'me')", NULL, NULL, NULL) == SQLITE_OK) taken++;
  sim_disk_crash(&disk, power_lasts);
  sqlite3_close(database);
  store_close(store);
  return taken;
}

static void test_sim_disk__the_store_comes_back_after_every_loss_of_power(void **state) {
  (void)state;
  struct workplace folder;
  struct error error;
  workplace_make(&folder, "/tmp");
  CLEANUP_FREE char *path = workplace_path(&folder, "state.db");
  for (uint64_t point = 1; point < POINTS_MAX; point++) {
    struct store *store = NULL;
    sqlite3 *database = NULL;
    sim_disk_install(&disk, point);
    const int64_t taken = live_with_store(path, point);
    if (store_sqlite_open(path, false, &store, &error) < 0) fail_msg("change %llu: %s", (unsigned long long)point, error.message);
    store_close(store);
    assert_int_equal(sqlite3_open(path, &database), SQLITE_OK);
    assert_in_range(ask(database, "SELECT count(*) FROM request"), taken, taken + 1);
    sqlite3_close(database);
    sim_disk_remove(&disk);
    if (taken == COMMITS) break;
    assert_true(point + 1 < POINTS_MAX);
  }
  workplace_remove(&folder);
}

static uint64_t digest_of_a_life(uint64_t seed) {
  sim_disk_install(&disk, seed);
  live("OFF", 60);
  const struct sim_disk_file *file = sim_disk_file_find(&disk, "/state.db-wal");
  uint64_t digest = file && file->present.size ? table_hash((const char *)file->present.octets, (size_t)file->present.size, false) : 0;
  file = sim_disk_file_find(&disk, "/state.db");
  if (file && file->present.size) digest ^= table_hash((const char *)file->present.octets, (size_t)file->present.size, false);
  sim_disk_remove(&disk);
  return digest;
}

static void test_sim_disk__the_same_seed_gives_the_same_octets(void **state) {
  (void)state;
  assert_true(digest_of_a_life(7) == digest_of_a_life(7));
  assert_true(digest_of_a_life(7) != digest_of_a_life(8));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_sim_disk__connections_share_a_wal),
      cmocka_unit_test(test_sim_disk__committed_rows_outlive_every_loss_of_power),
      cmocka_unit_test(test_sim_disk__without_syncs_a_loss_of_power_shows),
      cmocka_unit_test(test_sim_disk__a_process_that_is_killed_loses_nothing_that_it_wrote),
      cmocka_unit_test(test_sim_disk__a_full_disk_takes_no_more_until_there_is_room),
      cmocka_unit_test(test_sim_disk__failures_are_told_and_leave_a_sound_database),
      cmocka_unit_test(test_sim_disk__a_failed_sync_loses_what_it_was_about),
      cmocka_unit_test(test_sim_disk__the_store_comes_back_after_every_loss_of_power),
      cmocka_unit_test(test_sim_disk__the_same_seed_gives_the_same_octets),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
