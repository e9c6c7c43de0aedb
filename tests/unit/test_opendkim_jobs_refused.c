/* What the keeper's jobs on OpenDKIM's tables refuse: tables and keys outside of the policy, and requests and replies that are malformed. */
#include "opendkim_jobs_rig.h"

#include <signal.h>

static void test_opendkim_jobs__relative_paths_never_get_into_the_allow_list(void **state) {
  struct stage *stage = *state;
  struct opendkim_roots roots = {0};
  struct error error = {0};
  const char *paths[] = {"KeyTable", "/etc/../shadow", ""};
  for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
    struct policy_signer policy = stage->policy;
    policy.key_table = (char *)(uintptr_t)paths[i];
    assert_int_equal(opendkim_roots_add(&roots, &policy, &error), ERROR_INVALID);
  }
  assert_int_equal(roots.count, 0);
  opendkim_roots_release(&roots);
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

static void test_opendkim_jobs__tables_outside_of_the_policy_are_refused(void **state) {
  struct stage *stage = *state;
  write_tables(stage, OLD_KEYS, OLD_SENDERS);
  struct policy_signer allowed = stage->policy;
  stage->policy.key_table = (char *)"/etc/passwd";
  assert_int_equal(stage_switch(stage, KEEPER_EDIT_TABLES), ERROR_PERMISSION);
  stage->policy = allowed;
  stage->policy.signing_table_format = SIGNING_TABLE_FILE;
  assert_int_equal(stage_switch(stage, KEEPER_EDIT_TABLES), ERROR_PERMISSION);
  stage->policy = allowed;
  static const char *const values[] = {"example.com:s:/etc/shadow", "example.com:s:", "none"};
  for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
    struct table_edit edit = {.kind = TABLE_KEY_SET, .name = "k", .value = values[i]};
    assert_int_equal(stage_tables(stage, KEEPER_EDIT_TABLES, &edit, 1), ERROR_PERMISSION);
  }
  CLEANUP_FREE char *escape = text_format("example.com:s:%s/keys/../../etc/shadow", stage->folder.path);
  struct table_edit edit = {.kind = TABLE_KEY_SET, .name = "k", .value = escape};
  assert_int_equal(stage_tables(stage, KEEPER_EDIT_TABLES, &edit, 1), ERROR_PERMISSION);
  assert_unchanged(stage);
}

static void test_opendkim_jobs__only_tables_of_the_policy_are_looked_at(void **state) {
  struct stage *stage = *state;
  struct signer_stamp stamp;
  struct policy_signer other = stage->policy;
  other.signing_table = (char *)"/etc/shadow";
  assert_int_equal(stage_look(stage, &other, "", &stamp), ERROR_PERMISSION);
  static const uint8_t junk[] = {9, 9, 9};
  assert_int_equal(opendkim_jobs_read_stamp(junk, sizeof(junk), &stamp, &stage->error), ERROR_PROTOCOL);
  struct buffer cut = BUFFER_WITH_MAXIMUM(16);
  buffer_add(&cut, junk, sizeof(junk));
  assert_int_equal(stage_run(stage, KEEPER_LOOK_TABLES, &cut, NULL), ERROR_PROTOCOL);
  buffer_release(&cut);
}

static void test_opendkim_jobs__malformed_requests_are_refused(void **state) {
  struct stage *stage = *state;
  write_tables(stage, OLD_KEYS, OLD_SENDERS);
  struct buffer whole = BUFFER_WITH_MAXIMUM(PAYLOAD_MAX);
  struct table_edit edit = {.kind = TABLE_KEY_SET, .name = "k", .value = "v"};
  struct table_item item = {.edits = &edit, .edit_count = 1};
  opendkim_jobs_tables(&whole, &stage->policy, &item, 1);
  for (size_t size = 0; size < whole.size; size++) {
    struct buffer cut = BUFFER_WITH_MAXIMUM(PAYLOAD_MAX);
    buffer_add(&cut, whole.data, size);
    assert_int_equal(stage_run(stage, KEEPER_EDIT_TABLES, &cut, NULL), ERROR_PROTOCOL);
    assert_int_equal(stage_run(stage, KEEPER_RELOAD, &cut, NULL) < 0, 1);
    buffer_release(&cut);
  }
  for (size_t place = 0; place < whole.size; place++) {
    struct buffer damaged = BUFFER_WITH_MAXIMUM(PAYLOAD_MAX);
    buffer_add(&damaged, whole.data, whole.size);
    damaged.data[place] ^= 0xff;
    stage_run(stage, KEEPER_EDIT_TABLES, &damaged, NULL);
    buffer_release(&damaged);
  }
  buffer_release(&whole);
  assert_unchanged(stage);
}

static void test_opendkim_jobs__malformed_replies_are_refused(void **state) {
  (void)state;
  struct buffer reply = BUFFER_WITH_MAXIMUM(PAYLOAD_MAX);
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

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_opendkim_jobs__relative_paths_never_get_into_the_allow_list),
      cmocka_unit_test(test_opendkim_jobs__a_directory_beside_that_of_keys_is_not_below_it),
      TEST(test_opendkim_jobs__tables_outside_of_the_policy_are_refused),
      TEST(test_opendkim_jobs__only_tables_of_the_policy_are_looked_at),
      TEST(test_opendkim_jobs__malformed_requests_are_refused),
      cmocka_unit_test(test_opendkim_jobs__malformed_replies_are_refused),
  };
  signal(SIGPIPE, SIG_IGN);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
