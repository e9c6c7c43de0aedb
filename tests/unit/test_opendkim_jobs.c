/* The keeper's jobs on OpenDKIM's tables where all is well: what an edit writes, and what reading and looking say. */
#include "opendkim_jobs_rig.h"

#include <signal.h>
#include <sys/stat.h>

#include "dkimroll/table_stamp.h"

static void test_opendkim_jobs__edit_writes_both_tables(void **state) {
  struct stage *stage = *state;
  write_tables(stage, OLD_KEYS, OLD_SENDERS);
  assert_int_equal(stage_switch(stage, KEEPER_EDIT_TABLES), 0);
  assert_int_equal(stage->outcome.error.code, 0);
  assert_int_equal(stage->outcome.made[0], TABLE_MADE_ADDED);
  assert_int_equal(stage->outcome.made[1], TABLE_MADE_REPLACED);
  CLEANUP_FREE char *keys = text_format(OLD_KEYS "new example.com:new:%s\n", stage->key);
  assert_file(stage->policy.key_table, keys);
  assert_file(stage->policy.signing_table, "*@example.com new\n");
  assert_no_leftovers(stage);
}

static void test_opendkim_jobs__read_says_what_edit_would_do_and_writes_nothing(void **state) {
  struct stage *stage = *state;
  write_tables(stage, OLD_KEYS, OLD_SENDERS);
  assert_int_equal(stage_switch(stage, KEEPER_READ_TABLES), 0);
  assert_int_equal(stage->outcome.error.code, 0);
  assert_int_equal(stage->outcome.made[0], TABLE_MADE_ADDED);
  assert_unchanged(stage);
  write_tables(stage, OLD_KEYS, "*@example.com theirs\n");
  assert_int_equal(stage_switch(stage, KEEPER_READ_TABLES), 0);
  assert_int_equal(stage->outcome.error.code, ERROR_CONFLICT);
  assert_non_null(strstr(stage->outcome.error.message, "line 1"));
  assert_true(stage->outcome.error.remedy[0] != '\0');
}

static void test_opendkim_jobs__unchanged_tables_are_not_written(void **state) {
  struct stage *stage = *state;
  write_tables(stage, OLD_KEYS, OLD_SENDERS);
  assert_int_equal(stage_switch(stage, KEEPER_EDIT_TABLES), 0);
  struct stat before;
  struct stat after;
  assert_int_equal(stat(stage->policy.signing_table, &before), 0);
  assert_int_equal(stage_switch(stage, KEEPER_EDIT_TABLES), 0);
  assert_int_equal(stat(stage->policy.signing_table, &after), 0);
  assert_int_equal(before.st_ino, after.st_ino);
  assert_memory_equal(&before.st_ctim, &after.st_ctim, sizeof(before.st_ctim));
}

static void test_opendkim_jobs__items_without_edits_change_nothing(void **state) {
  struct stage *stage = *state;
  write_tables(stage, OLD_KEYS, OLD_SENDERS);
  assert_int_equal(stage_tables(stage, KEEPER_EDIT_TABLES, NULL, 0), 0);
  assert_int_equal(stage->outcome.error.code, 0);
  assert_unchanged(stage);
}

static void test_opendkim_jobs__missing_tables_are_made_for_the_owner_of_the_directory(void **state) {
  struct stage *stage = *state;
  assert_int_equal(chown(stage->folder.path, 1, 2), 0);
  assert_int_equal(stage_switch(stage, KEEPER_READ_TABLES), ERROR_NOT_FOUND);
  assert_int_equal(stage_switch(stage, KEEPER_EDIT_TABLES), 0);
  struct stat status;
  assert_int_equal(stat(stage->policy.key_table, &status), 0);
  assert_int_equal(status.st_uid, 1);
  assert_int_equal(status.st_gid, 2);
  assert_int_equal(status.st_mode & 07777, 0644);
}

static void test_opendkim_jobs__a_look_reads_only_what_looks_otherwise(void **state) {
  struct stage *stage = *state;
  struct signer_stamp first, again, changed, touched, moved;
  char own[SIGNER_STATE_SIZE];
  assert_int_equal(stage_look(stage, &stage->policy, "", &first), 0); /* tables that are not there yet are tables without lines */
  assert_string_equal(first.state, "none none");
  workplace_write(stage->policy.key_table, "a b\n", 0644);
  workplace_write(stage->policy.signing_table, "c d\n", 0644);
  assert_int_equal(stage_look(stage, &stage->policy, first.state, &changed), 0);
  assert_string_not_equal(changed.digest, first.digest);
  assert_int_equal(strlen(changed.digest), 64);
  assert_int_equal(table_files_state(stage->policy.key_table, stage->policy.signing_table, own, &stage->error), 0);
  assert_string_equal(own, changed.state);
  assert_int_equal(stage_look(stage, &stage->policy, changed.state, &again), 0);
  assert_string_equal(again.digest, "");
  assert_string_equal(again.state, changed.state);
  assert_int_equal(truncate(stage->policy.key_table, 0), 0);
  workplace_write(stage->policy.key_table, "a b\n", 0644);
  assert_int_equal(stage_look(stage, &stage->policy, changed.state, &touched), 0);
  assert_string_equal(touched.digest, changed.digest); /* the same content, whenever it was written */
  workplace_write(stage->policy.key_table, "a b\nc d\n", 0644);
  workplace_write(stage->policy.signing_table, "", 0644);
  assert_int_equal(stage_look(stage, &stage->policy, changed.state, &moved), 0);
  assert_string_not_equal(moved.digest, changed.digest);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_opendkim_jobs__edit_writes_both_tables),
      TEST(test_opendkim_jobs__read_says_what_edit_would_do_and_writes_nothing),
      TEST(test_opendkim_jobs__unchanged_tables_are_not_written),
      TEST(test_opendkim_jobs__items_without_edits_change_nothing),
      TEST(test_opendkim_jobs__missing_tables_are_made_for_the_owner_of_the_directory),
      TEST(test_opendkim_jobs__a_look_reads_only_what_looks_otherwise),
  };
  signal(SIGPIPE, SIG_IGN);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
