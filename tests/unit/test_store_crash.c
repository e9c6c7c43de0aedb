/* A process killed and a disk that fails at any moment: what was committed is there, whole, and nothing else. */
#include "store_rig.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "faulty_disk.h"

enum { LINEAGES = 5, KILLS = 60, FAULTS_MAX = 2000, LIFE_US = 20000, LIFE_MAX_US = 900000 };

#define CRASH_DOMAINS "a.example: {}, b.example: {}, c.example: {}, d.example: {}, e.example: {}"

/* One transaction that leaves its number everywhere: lineages, a key with sightings each, events, clock. */
static int commit_number(struct store *store, struct rig_claim *claim, int64_t number, struct error *error) {
  struct lineage *lineages[LINEAGES];
  struct event events[LINEAGES];
  const struct store_clock clock = {.boot_id = "b", .wall = number};
  assert_int_equal(claim->count, LINEAGES);
  for (size_t i = 0; i < LINEAGES; i++) {
    struct lineage *lineage = &claim->items[i];
    struct key *key = lineage->key_count ? &lineage->keys[0] : rig_add_key(lineage, "s", KEY_PUBLISHED);
    if (!key->sightings) key->sightings = calloc(2, sizeof *key->sightings);
    key->sighting_count = 2;
    lineage->failures = (unsigned)number;
    key->created_at = number;
    key->sightings[0].seen_at = key->sightings[1].seen_at = number;
    lineages[i] = lineage;
    events[i] =
        (struct event){.at = number, .lineage_id = lineage->id, .domain = lineage->domain, .kind = (char *)"count"};
  }
  const struct store_commit commit = {
      .lineages = lineages, .lineage_count = LINEAGES, .events = events, .event_count = LINEAGES, .clock = &clock};
  const int code = store->ops->commit(store, &commit, error);
  for (size_t i = 0; i < LINEAGES; i++) assert_int_equal(events[i].id != 0, code == 0);
  return code;
}

static int count_numbers(void *context, const void *row) {
  const struct event *event = row;
  if (text_equal(event->kind, "count")) ++*(int64_t *)context;
  return 0;
}

/* The number that the store is at, which all of it must agree on. */
static int64_t whole_number(struct store *store) {
  const struct store_filter all = {0};
  struct error error = {0};
  struct store_clock clock;
  int64_t next, events = 0;
  rig_check(store->ops->next_moment(store, &next, NULL, &clock, &error), &error);
  const int64_t number = clock.boot_id[0] ? clock.wall : 0;
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(store);
  assert_int_equal(claim.count, LINEAGES);
  for (size_t i = 0; i < LINEAGES; i++) {
    assert_int_equal(claim.items[i].failures, number);
    assert_int_equal(claim.items[i].key_count, number > 0);
    if (number == 0) continue;
    assert_int_equal(claim.items[i].keys[0].created_at, number);
    assert_int_equal(claim.items[i].keys[0].sighting_count, 2);
    assert_int_equal(claim.items[i].keys[0].sightings[1].seen_at, number);
  }
  rig_check(store->ops->select(store, STORE_SELECT_EVENTS, &all, count_numbers, &events, &error), &error);
  assert_int_equal(events, number * LINEAGES);
  return number;
}

static void assert_integrity(const char *path) {
  assert_int_equal(rig_number(path, "SELECT (SELECT integrity_check FROM pragma_integrity_check) = 'ok'"), 1);
  assert_int_equal(rig_number(path, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
}

static _Noreturn void commit_for_ever(const struct rig *rig, volatile int64_t *acknowledged) {
  struct store *store = NULL;
  struct error error = {0};
  if (store_sqlite_open(rig->path, false, &store, &error) || store->ops->lease(store, "child", RIG_NOW, &error))
    _exit(1);
  struct rig_claim claim = rig_claim_all(store);
  for (int64_t number = claim.items[0].failures + 1;; number++) {
    if (commit_number(store, &claim, number, &error)) _exit(2);
    *acknowledged = number;
  }
}

static void test_store_crash__a_killed_process_leaves_whole_transactions(void **state) {
  struct rig *rig = *state;
  volatile int64_t *acknowledged =
      mmap(NULL, sizeof *acknowledged, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_ptr_not_equal(acknowledged, MAP_FAILED);
  rig_sync(rig->store, CRASH_DOMAINS, RIG_NOW);
  store_close(rig->store);
  rig->store = NULL;
  srand48(time(NULL));
  long longest = LIFE_US;
  for (int kill_number = 0; kill_number < KILLS; kill_number++) {
    int status;
    const int64_t before = *acknowledged;
    const pid_t pid = fork();
    if (pid == 0) commit_for_ever(rig, acknowledged);
    const struct timespec life = {.tv_nsec = lrand48() % longest * 1000L};
    nanosleep(&life, NULL);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    /* First a reader, beside what the dead one left lying: log and shared memory. */
    const bool read_only = kill_number % 2 == 0;
    struct store *store = rig_open(rig->path, read_only);
    const int64_t number = whole_number(store);
    store_close(store);
    /* What was told to be committed is; one more may be, whose answer did not come. */
    assert_true(number == *acknowledged || number == *acknowledged + 1);
    /* On a slow machine a child needs longer to get anything done. */
    if (number == before && longest < LIFE_MAX_US / 2) longest *= 2;
    *acknowledged = number;
  }
  print_message("%d kills, %lld transactions\n", KILLS, (long long)*acknowledged);
  assert_true(*acknowledged > KILLS / 4);
  assert_integrity(rig->path);
  munmap((void *)acknowledged, sizeof *acknowledged);
}

/* The disk fails at the nth write or sync, for every n, until a run comes through. */
static void disk_fails_everywhere(struct rig *rig, int disk_code, int expected) {
  struct error error = {0};
  int64_t number = 0;
  long failed = 0;
  bool came_through = false;
  rig_sync(rig->store, CRASH_DOMAINS, RIG_NOW);
  for (long n = 1; n <= FAULTS_MAX && !came_through; n++) {
    CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(rig->store);
    faulty_disk_fail_at(n, disk_code);
    const int code = commit_number(rig->store, &claim, number + 1, &error);
    came_through = code == 0 && faulty_disk.operations < n;
    faulty_disk_fail_at(0, 0);
    if (code) {
      assert_int_equal(code, expected);
      assert_true(error.retryable && error.remedy[0] && strstr(error.message, rig->path));
      failed++;
    }
    number += code == 0;
    assert_int_equal(whole_number(rig->store), number);
    /* The same after the end of this process, which leaves it to the next to make sense of the log. */
    if (n % 4 == 0) {
      store_close(rig->store);
      rig->store = rig_open(rig->path, false);
      assert_int_equal(whole_number(rig->store), number);
    }
  }
  assert_true(came_through);
  assert_true(failed > 3);
  assert_integrity(rig->path);
}

static int setup_faulty(void **state) {
  faulty_disk_install();
  return rig_setup(state);
}

static int teardown_faulty(void **state) {
  rig_teardown(state);
  faulty_disk_remove();
  return 0;
}

static void test_store_crash__a_full_disk_keeps_nothing_half_done(void **state) {
  disk_fails_everywhere(*state, SQLITE_FULL, ERROR_SYSTEM);
}

static void test_store_crash__a_broken_disk_keeps_nothing_half_done(void **state) {
  disk_fails_everywhere(*state, SQLITE_IOERR_WRITE, ERROR_SYSTEM);
}

static void test_store_crash__a_sync_on_a_full_disk_is_all_or_nothing(void **state) {
  struct rig *rig = *state;
  const struct store_policy_stamp stamp = {.digest = "digest"};
  struct policy *policy = rig_policy(CRASH_DOMAINS);
  struct error error = {0};
  int code = -1;
  long n = 0;
  while (code && n < FAULTS_MAX) {
    struct store_sync_report report = {0};
    assert_int_equal(rig_count(rig->store, STORE_SELECT_LINEAGES, NULL), 0);
    assert_int_equal(rig_count(rig->store, STORE_SELECT_EVENTS, NULL), 0);
    faulty_disk_fail_at(++n, SQLITE_FULL);
    code = rig->store->ops->sync(rig->store, policy, &stamp, RIG_NOW, &report, &error);
    faulty_disk_fail_at(0, 0);
    assert_int_equal(report.added, code ? 0 : LINEAGES);
    assert_true(code == 0 || code == ERROR_SYSTEM);
  }
  policy_free(policy);
  assert_true(n > 3);
  assert_int_equal(code, 0);
  assert_int_equal(whole_number(rig->store), 0);
}

/* A first start on a disk that fails makes either no store or a whole one. */
static void test_store_crash__a_store_is_made_whole_or_not_at_all(void **state) {
  struct rig *rig = *state;
  CLEANUP_FREE char *path = workplace_path(&rig->place, "new.db");
  struct store *store = NULL;
  struct error error = {0};
  int code = -1;
  long n = 0;
  while (code && n < FAULTS_MAX) {
    faulty_disk_fail_at(++n, SQLITE_FULL);
    code = store_sqlite_open(path, false, &store, &error);
    faulty_disk_fail_at(0, 0);
    assert_true(code == 0 || code == ERROR_SYSTEM);
  }
  assert_true(n > 3);
  assert_int_equal(code, 0);
  rig_sync(store, CRASH_DOMAINS, RIG_NOW);
  assert_int_equal(whole_number(store), 0);
  store_close(store);
  assert_integrity(path);
}

/* Killed at each write and sync while it makes the store: a reader says that `dkimroll run` is what helps, and the next writer finishes it. */
static void test_store_crash__a_store_whose_making_was_killed_is_finished_by_the_next_writer(void **state) {
  struct rig *rig = *state;
  unsigned repaired = 0;
  int status = 0;
  long n = 0;
  do {
    CLEANUP_FREE char *name = text_format("killed-%ld.db", ++n);
    CLEANUP_FREE char *path = workplace_path(&rig->place, name);
    struct store *store = NULL;
    struct error error = {0};
    const pid_t pid = fork();
    if (pid == 0) {
      faulty_disk_fail_at(n, FAULTY_DISK_KILLS);
      _exit(store_sqlite_open(path, false, &store, &error) ? 1 : 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    const int code = store_sqlite_open(path, true, &store, &error);
    /* ERROR_CONFIG: killed between two steps of the schema. */
    assert_true(code == 0 || code == ERROR_NOT_FOUND || code == ERROR_CONFLICT || code == ERROR_CONFIG);
    if (code) assert_non_null(strstr(error.remedy, "dkimroll run"));
    repaired += code == ERROR_CONFLICT;
    store_close(store);
    store = rig_open(path, false);
    rig_sync(store, CRASH_DOMAINS, RIG_NOW);
    assert_int_equal(whole_number(store), 0);
    store_close(store);
    assert_integrity(path);
  } while (WIFSIGNALED(status) && n < FAULTS_MAX);
  assert_int_equal(status, 0);
  assert_true(n > 3 && repaired > 0);
}

#define FAULTY_TEST(name) cmocka_unit_test_setup_teardown(test_store_crash__##name, setup_faulty, teardown_faulty)

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_store_crash__a_killed_process_leaves_whole_transactions, rig_setup,
                                      rig_teardown),
      FAULTY_TEST(a_full_disk_keeps_nothing_half_done),
      FAULTY_TEST(a_broken_disk_keeps_nothing_half_done),
      FAULTY_TEST(a_sync_on_a_full_disk_is_all_or_nothing),
      FAULTY_TEST(a_store_is_made_whole_or_not_at_all),
      FAULTY_TEST(a_store_whose_making_was_killed_is_finished_by_the_next_writer),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
