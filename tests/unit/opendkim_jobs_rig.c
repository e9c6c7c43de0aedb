#include "opendkim_jobs_rig.h"

#include <sys/stat.h>

void stage_allow(struct stage *stage) {
  opendkim_roots_release(&stage->roots);
  assert_int_equal(opendkim_roots_add(&stage->roots, &stage->policy, &stage->error), 0);
  assert_int_equal(opendkim_jobs_handlers(&stage->roots, stage->handlers), OPENDKIM_JOBS_COUNT);
}

int opendkim_jobs_rig_setup(void **state) {
  struct stage *stage = calloc(1, sizeof *stage);
  assert_non_null(stage);
  workplace_make(&stage->folder, "/tmp");
  stage->key_table = workplace_path(&stage->folder, "KeyTable");
  stage->signing_table = workplace_path(&stage->folder, "SigningTable");
  stage->key_directory = workplace_path(&stage->folder, "keys/%d");
  stage->policy = (struct policy_signer){.name = (char *)"local",
                                         .key_table = stage->key_table,
                                         .signing_table = stage->signing_table,
                                         .signing_table_format = SIGNING_TABLE_REFILE,
                                         .key_directory = stage->key_directory};
  CLEANUP_FREE char *keys = workplace_path(&stage->folder, "keys");
  assert_int_equal(mkdir(keys, 0755), 0);
  stage->key = workplace_path(&stage->folder, "keys/new.private");
  workplace_write(stage->key, "key", 0600);
  stage_allow(stage);
  *state = stage;
  return 0;
}

int opendkim_jobs_rig_teardown(void **state) {
  struct stage *stage = *state;
  opendkim_roots_release(&stage->roots);
  workplace_remove(&stage->folder);
  free(stage->key_table);
  free(stage->signing_table);
  free(stage->key_directory);
  free(stage->key);
  free(stage);
  return 0;
}

int stage_run(struct stage *stage, enum keeper_job job, const struct buffer *payload, struct buffer *reply) {
  struct buffer own = BUFFER_WITH_MAXIMUM(PAYLOAD_MAX);
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

int stage_tables(struct stage *stage, enum keeper_job job, const struct table_edit *edits, size_t count) {
  struct buffer payload = BUFFER_WITH_MAXIMUM(PAYLOAD_MAX);
  struct buffer reply = BUFFER_WITH_MAXIMUM(PAYLOAD_MAX);
  struct table_item item = {.edits = edits, .edit_count = count};
  opendkim_jobs_tables(&payload, &stage->policy, &item, 1);
  int result = stage_run(stage, job, &payload, &reply);
  if (result == 0)
    assert_int_equal(opendkim_jobs_read_tables(reply.data, reply.size, &stage->outcome, 1, &stage->error), 0);
  buffer_release(&payload);
  buffer_release(&reply);
  return result;
}

int stage_switch(struct stage *stage, enum keeper_job job) {
  CLEANUP_FREE char *value = text_format("example.com:new:%s", stage->key);
  struct table_edit edits[] = {{.kind = TABLE_KEY_SET, .name = "new", .value = value},
                               {.kind = TABLE_SIGN_POINT,
                                .pattern = "*@example.com",
                                .address = "a@example.com",
                                .name = "new",
                                .before = "old"}};
  return stage_tables(stage, job, edits, 2);
}

int stage_look(struct stage *stage, const struct policy_signer *policy, const char *known, struct signer_stamp *ret_stamp) {
  struct buffer payload = BUFFER_WITH_MAXIMUM(PAYLOAD_MAX);
  struct buffer reply = BUFFER_WITH_MAXIMUM(PAYLOAD_MAX);
  opendkim_jobs_look(&payload, policy, known);
  int result = stage_run(stage, KEEPER_LOOK_TABLES, &payload, &reply);
  if (result == 0) assert_int_equal(opendkim_jobs_read_stamp(reply.data, reply.size, ret_stamp, &stage->error), 0);
  buffer_release(&payload);
  buffer_release(&reply);
  return result;
}

int stage_reload(struct stage *stage, bool probe, int64_t timeout_ms) {
  struct buffer payload = BUFFER_WITH_MAXIMUM(PAYLOAD_MAX);
  opendkim_jobs_reload(&payload, &stage->policy, probe, timeout_ms);
  int result = stage_run(stage, KEEPER_RELOAD, &payload, NULL);
  buffer_release(&payload);
  if (result < 0) assert_true(stage->error.message[0] != '\0');
  return result;
}

int stage_restart(struct stage *stage, int64_t timeout_ms) {
  struct buffer payload = BUFFER_WITH_MAXIMUM(PAYLOAD_MAX);
  opendkim_jobs_restart(&payload, &stage->policy, timeout_ms);
  int result = stage_run(stage, KEEPER_RELOAD, &payload, NULL);
  buffer_release(&payload);
  return result;
}

void write_tables(const struct stage *stage, const char *keys, const char *senders) {
  workplace_write(stage->policy.key_table, keys, 0644);
  workplace_write(stage->policy.signing_table, senders, 0644);
}

void assert_file(const char *path, const char *expected) {
  char *text = NULL;
  size_t size = 0;
  struct error error = {0};
  assert_int_equal(file_read(path, TABLE_FILE_MAX, &text, &size, NULL, &error), 0);
  assert_string_equal(text, expected);
  free(text);
}

void assert_no_leftovers(const struct stage *stage) {
  CLEANUP_FREE char *command = text_format("test -z \"$(find %s -name '.*' -type f)\"", stage->folder.path);
  char *const arguments[] = {(char *)"/bin/sh", (char *)"-c", command, NULL};
  struct error error = {0};
  assert_int_equal(reload_command(arguments, false, clock_boottime() + PLENTY_MS, &error), 0);
}

void assert_unchanged(const struct stage *stage) {
  assert_file(stage->policy.key_table, OLD_KEYS);
  assert_file(stage->policy.signing_table, OLD_SENDERS);
  assert_no_leftovers(stage);
}
