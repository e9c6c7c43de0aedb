/* What the production code leaves behind on the simulator's disk for files, at whichever change the power goes, the process is killed or the disk fails. */
#include "sim_files_rig.h"

#include "dkimroll/key_jobs.h"
#include "dkimroll/table_files.h"

enum { SEEDS = 12, POINTS_MAX = 60 };

static const struct file_rights own = {.mode = 0600}; /* owner and group 0, as the tests run */

/* ---- how all goes wrong ---- */

/* What is done until the power goes; 0: it was done. */
typedef int effect(struct error *error);
/* done: it said so. */
typedef void check(bool done);

/* The power goes at each change in turn. */
static void survive_power(effect *does, effect *prepares, check *looks) {
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    bool done = false;
    for (uint64_t point = 1; !done; point++) {
      struct error error;
      disk_open(seed);
      if (prepares) assert_int_equal(prepares(&error), 0);
      sim_files_world_begin(&disk);
      sim_files_world_end(&disk);
      disk.power_lasts = point;
      done = does(&error) == 0;
      sim_files_crash(&disk, seed * 1000 + point);
      looks(done);
      disk_close();
      assert_true(point < POINTS_MAX);
    }
  }
}

/* The process is killed at each change in turn and started again; when that has said that it is done, the power goes. */
static void survive_kill(effect *does, effect *prepares, check *looks) {
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    bool whole = false;
    for (uint64_t point = 1; !whole; point++) {
      struct error error;
      disk_open(seed);
      if (prepares) assert_int_equal(prepares(&error), 0);
      disk.power_lasts = point;
      whole = does(&error) == 0;
      sim_files_kill(&disk);
      if (!whole && does(&error) != 0) fail_msg("change %llu: %s", (unsigned long long)point, error.message);
      sim_files_crash(&disk, seed * 1000 + point);
      looks(true);
      disk_close();
      assert_true(point < POINTS_MAX);
    }
  }
}

/* Syncs fail now and then. What is tried until it is done is durable. */
static void survive_failed_syncs(effect *does, effect *prepares, check *looks) {
  unsigned failures = 0;
  for (uint64_t seed = 1; seed <= 4 * SEEDS; seed++) {
    struct error error;
    disk_open(seed);
    if (prepares) assert_int_equal(prepares(&error), 0);
    disk.sync_fails = 40;
    for (unsigned attempt = 1; does(&error) != 0; attempt++) {
      assert_true(attempt < 50 && error.message[0] != '\0');
      failures++;
    }
    sim_files_crash(&disk, seed);
    disk.sync_fails = 0;
    looks(true);
    disk_close();
  }
  assert_true(failures > SEEDS);
}

/* There is no room, or the disk is read-only: an error, and all is as it was; and done when there is room again. */
static void survive_full_disk(effect *does, effect *prepares, check *looks) {
  for (int room = -1; room < 200; room += room < 3 ? 1 : 37) {
    struct error error = {0};
    disk_open(1);
    if (prepares) assert_int_equal(prepares(&error), 0);
    disk.room = room;
    disk.read_only = room < 0;
    const bool done = does(&error) == 0;
    if (room <= 0) assert_true(!done && error.message[0] != '\0');
    disk.read_only = false;
    disk.room = -1;
    if (!done) looks(false);
    if (does(&error) != 0) fail_msg("%s", error.message);
    sim_files_crash(&disk, (uint64_t)(room + 2));
    looks(true);
    disk_close();
  }
}

/* ---- files ---- */

static int replace(struct error *error) {
  CLEANUP_FREE char *path = at("file");
  return file_replace(path, "new", 3, &own, error);
}

static int put_old(struct error *error) {
  (void)error;
  put("file", "old");
  return 0;
}

static void look_at_replaced(bool done) {
  CLEANUP_FREE char *text = content("file");
  if (done || !text_equal(text, "old")) assert_string_equal(text, "new");
}

static void test_sim_files__a_replaced_file_is_the_old_one_or_the_new_one(void **state) {
  (void)state;
  survive_power(replace, put_old, look_at_replaced);
  survive_kill(replace, put_old, look_at_replaced);
}

static void test_sim_files__a_disk_that_fails_leaves_the_old_file_until_it_is_replaced(void **state) {
  (void)state;
  survive_failed_syncs(replace, put_old, look_at_replaced);
  survive_full_disk(replace, put_old, look_at_replaced);
}

/* ---- keys ---- */

static int run_job(const struct keeper_handler *handlers, size_t count, enum keeper_job job, const struct buffer *payload, struct error *error) {
  CLEANUP(buffer_release) struct buffer reply = BUFFER_WITH_MAXIMUM(4096);
  struct reader request = {.data = payload->data, .size = payload->size};
  for (size_t i = 0; i < count; i++)
    if (handlers[i].job == job) return handlers[i].run(handlers[i].context, &request, &reply, error);
  return ERROR_INTERNAL;
}

/* As the keeper runs it. */
static int key_job(enum keeper_job job, const struct buffer *payload, struct error *error) {
  struct key_roots roots = {0};
  struct keeper_handler handlers[KEY_JOBS_COUNT];
  assert_int_equal(key_roots_add(&roots, folder.path, error), 0);
  const int result = run_job(handlers, key_jobs_handlers(&roots, handlers), job, payload, error);
  key_roots_release(&roots);
  return result;
}

static int generate(struct error *error) {
  CLEANUP_FREE char *path = at("keys/a.test/s.private");
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(4096);
  struct key_generate_request request = {.algorithm = KEY_ALGORITHM_ED25519, .bits = 256, .path = path, .mode = 0600};
  key_jobs_generate(&payload, &request);
  return key_job(KEEPER_GENERATE, &payload, error);
}

static int make_keys(struct error *error) {
  CLEANUP_FREE char *path = at("keys");
  (void)error;
  sim_files_world_begin(&disk);
  assert_int_equal(mkdir(path, 0755), 0);
  sim_files_world_end(&disk);
  return 0;
}

static void look_at_key(const char *name, bool there) {
  CLEANUP_FREE char *text = content(name);
  if (!text && !there) return;
  assert_non_null(text);
  assert_non_null(strstr(text, "END PRIVATE KEY"));
}

static void look_at_generated(bool done) {
  look_at_key("keys/a.test/s.private", done);
}

static void test_sim_files__a_private_key_is_whole_or_not_there(void **state) {
  (void)state;
  survive_power(generate, make_keys, look_at_generated);
}

static void test_sim_files__a_key_that_was_found_after_a_kill_is_durable_too(void **state) {
  (void)state;
  survive_kill(generate, make_keys, look_at_generated);
}

static void test_sim_files__a_disk_that_fails_keeps_no_half_key(void **state) {
  (void)state;
  survive_failed_syncs(generate, make_keys, look_at_generated);
  survive_full_disk(generate, make_keys, look_at_generated);
}

static int make_key(struct error *error) {
  sim_files_world_begin(&disk);
  int result = make_keys(error);
  if (result == 0) result = generate(error);
  sim_files_world_end(&disk);
  return result;
}

static int copy(struct error *error) {
  CLEANUP_FREE char *source = at("keys/a.test/s.private");
  CLEANUP_FREE char *path = at("keys/b.test/s.private");
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(4096);
  struct key_generate_request request = {.path = path, .mode = 0600};
  key_jobs_copy(&payload, source, &request);
  return key_job(KEEPER_COPY, &payload, error);
}

static void look_at_copy(bool done) {
  look_at_key("keys/a.test/s.private", true);
  look_at_key("keys/b.test/s.private", done);
}

static void test_sim_files__a_copied_key_is_durable_also_after_a_kill(void **state) {
  (void)state;
  survive_power(copy, make_key, look_at_copy);
  survive_kill(copy, make_key, look_at_copy);
}

/* A file of the size of an RSA key: it has several sectors. */
static int make_long_key(struct error *error) {
  struct buffer text = BUFFER_WITH_MAXIMUM(4096);
  assert_int_equal(make_key(error), 0);
  buffer_add_text(&text, "-----BEGIN PRIVATE KEY-----\n");
  for (unsigned i = 0; i < 26; i++) buffer_add_text(&text, "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n");
  buffer_add_text(&text, "-----END PRIVATE KEY-----\n");
  CLEANUP_FREE char *key = buffer_take_text(&text);
  put("keys/a.test/s.private", key);
  return 0;
}

static int destroy(struct error *error) {
  CLEANUP_FREE char *path = at("keys/a.test/s.private");
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(4096);
  key_jobs_path(&payload, path);
  return key_job(KEEPER_DESTROY, &payload, error);
}

static void look_at_destroyed(bool done) {
  CLEANUP_FREE char *text = content("keys/a.test/s.private");
  struct error error;
  if (done) assert_null(text);
  /* Whatever the crash left of it can be destroyed now. */
  if (destroy(&error) != 0) fail_msg("%s", error.message);
  assert_content("keys/a.test/s.private", NULL);
}

static void test_sim_files__a_destroyed_key_stays_away_also_after_a_kill(void **state) {
  (void)state;
  survive_power(destroy, make_long_key, look_at_destroyed);
  survive_kill(destroy, make_long_key, look_at_destroyed);
}

/* Zeros in some sectors, the key in others, and neither its first line nor its last. */
static void test_sim_files__a_key_that_was_half_overwritten_can_be_destroyed(void **state) {
  (void)state;
  unsigned torn = 0;
  for (uint64_t seed = 1; seed <= 200; seed++) {
    struct error error;
    disk_open(seed);
    assert_int_equal(make_long_key(&error), 0);
    disk.power_lasts = 3 + seed % 2; /* around the sync behind the zeros */
    assert_true(destroy(&error) < 0);
    sim_files_crash(&disk, seed);
    CLEANUP_FREE char *path = at("keys/a.test/s.private");
    CLEANUP_FREE char *octets = NULL;
    size_t size = 0;
    assert_int_equal(file_read(path, 1 << 20, &octets, &size, NULL, &error), 0);
    torn += memchr(octets, 0, size) && memchr(octets, 'M', size) && !memmem(octets, size, "PRIVATE", 7);
    if (destroy(&error) != 0) fail_msg("%s", error.message);
    assert_content("keys/a.test/s.private", NULL);
    disk_close();
  }
  assert_true(torn > 3);
}

static int archive(struct error *error) {
  CLEANUP_FREE char *path = at("keys/a.test/s.private");
  CLEANUP_FREE char *place = at("archive");
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(4096);
  key_jobs_archive(&payload, path, place);
  return key_job(KEEPER_ARCHIVE, &payload, error);
}

/* At each moment the key is whole in at least one of both places. */
static void look_at_archived(bool done) {
  CLEANUP_FREE char *original = content("keys/a.test/s.private");
  CLEANUP_FREE char *archived = content("archive/s.private");
  if (done) assert_null(original);
  const bool whole = (original && strstr(original, "END PRIVATE KEY")) || (archived && strstr(archived, "END PRIVATE KEY"));
  assert_true(whole);
  if (done) look_at_key("archive/s.private", true);
}

static void test_sim_files__an_archived_key_is_never_lost(void **state) {
  (void)state;
  survive_power(archive, make_key, look_at_archived);
  survive_kill(archive, make_key, look_at_archived);
  survive_failed_syncs(archive, make_key, look_at_archived);
}

/* ---- tables ---- */

static int edit(struct error *error) {
  CLEANUP_FREE char *keys = at("KeyTable");
  CLEANUP_FREE char *senders = at("SigningTable");
  CLEANUP_FREE char *path = at("file");
  CLEANUP_FREE char *value = text_format("a.test:s:%s", path);
  struct table_files files = {.key_table = keys, .signing_table = senders, .format = SIGNING_TABLE_REFILE};
  const struct table_edit edits[] = {{.kind = TABLE_KEY_SET, .name = "new", .value = value},
                                     {.kind = TABLE_SIGN_POINT, .pattern = "*@a.test", .name = "new", .before = "old", .address = "x@a.test"}};
  const struct table_item item = {.edits = edits, .edit_count = 2};
  static struct table_outcome outcome;
  const int result = table_files_edit(&files, &item, 1, &outcome, error);
  if (result == 0 && outcome.error.code) *error = outcome.error;
  return result ? result : outcome.error.code;
}

static int put_tables(struct error *error) {
  (void)error;
  put("file", "a key");
  put("KeyTable", "old a.test:old:/nowhere\n");
  put("SigningTable", "*@a.test old\n");
  return 0;
}

static void look_at_tables(bool done) {
  CLEANUP_FREE char *keys = content("KeyTable");
  CLEANUP_FREE char *senders = content("SigningTable");
  assert_non_null(keys);
  assert_non_null(senders);
  assert_non_null(strstr(keys, "old a.test:old:/nowhere\n"));
  if (done) assert_string_equal(senders, "*@a.test new\n");
  if (!text_equal(senders, "*@a.test old\n")) {
    assert_string_equal(senders, "*@a.test new\n");
    assert_non_null(strstr(keys, "new a.test:s:"));
  }
}

/* What SigningTable names is in KeyTable, whenever the power goes. */
static void test_sim_files__tables_never_contradict_one_another(void **state) {
  (void)state;
  survive_power(edit, put_tables, look_at_tables);
}

static void test_sim_files__tables_that_were_found_as_wanted_after_a_kill_are_durable_too(void **state) {
  (void)state;
  survive_kill(edit, put_tables, look_at_tables);
}

static void test_sim_files__a_disk_that_fails_leaves_sound_tables(void **state) {
  (void)state;
  survive_failed_syncs(edit, put_tables, look_at_tables);
  survive_full_disk(edit, put_tables, look_at_tables);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(test_sim_files__a_replaced_file_is_the_old_one_or_the_new_one, disk_clean),
      cmocka_unit_test_teardown(test_sim_files__a_private_key_is_whole_or_not_there, disk_clean),
      cmocka_unit_test_teardown(test_sim_files__a_key_that_was_found_after_a_kill_is_durable_too, disk_clean),
      cmocka_unit_test_teardown(test_sim_files__a_copied_key_is_durable_also_after_a_kill, disk_clean),
      cmocka_unit_test_teardown(test_sim_files__a_destroyed_key_stays_away_also_after_a_kill, disk_clean),
      cmocka_unit_test_teardown(test_sim_files__a_key_that_was_half_overwritten_can_be_destroyed, disk_clean),
      cmocka_unit_test_teardown(test_sim_files__an_archived_key_is_never_lost, disk_clean),
      cmocka_unit_test_teardown(test_sim_files__tables_never_contradict_one_another, disk_clean),
      cmocka_unit_test_teardown(test_sim_files__tables_that_were_found_as_wanted_after_a_kill_are_durable_too, disk_clean),
      cmocka_unit_test_teardown(test_sim_files__a_disk_that_fails_leaves_the_old_file_until_it_is_replaced, disk_clean),
      cmocka_unit_test_teardown(test_sim_files__a_disk_that_fails_keeps_no_half_key, disk_clean),
      cmocka_unit_test_teardown(test_sim_files__a_disk_that_fails_leaves_sound_tables, disk_clean),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
