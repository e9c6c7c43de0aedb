/* Each call that runs a program or writes a fragment fails once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/keeper_worker.h"
#include "dkimroll/runner.h"
#include "dkimroll/runner_fragment.h"
#include "dkimroll/text.h"
#include "fault.h"
#include "../unit/publisher_looked_rig.h"
#include "../unit/workplace.h"

enum { TEXT_MAX = 65536 };
#define ZONE "example.com"
#define OLD "; dkimroll writes this file, and only it: 1 DKIM record for zone " ZONE ".\ns1._domainkey." ZONE ". 60 IN TXT \"one\"\n"

struct desk {
  struct workplace folder;
  struct runner_zonefiles zonefiles;
  struct runner_rights rights;
  char *path;
  bool lost; /* the file is not there */
};

static void fragment_begin(void *context) {
  struct desk *desk = context;
  struct error error = {0};
  workplace_make(&desk->folder, "/tmp");
  CLEANUP_FREE char *file = workplace_path(&desk->folder, "%z");
  desk->path = workplace_path(&desk->folder, ZONE);
  struct policy_publisher publisher = {.name = (char *)"files", .type = PUBLISHER_ZONEFILE, .file = file, .mode = 0644};
  const struct policy policy = {.publishers = &publisher, .publisher_count = 1};
  assert_int_equal(runner_zonefiles_allow(&desk->zonefiles, &policy, &error), 0);
  if (!desk->lost) workplace_write(desk->path, OLD, 0644);
}

static void fragment_end(void *context) {
  struct desk *desk = context;
  workplace_remove(&desk->folder);
  runner_zonefiles_release(&desk->zonefiles);
  free(desk->path);
}

static int run_job(const struct keeper_handler *handler, const struct buffer *payload, struct buffer *reply, struct error *error) {
  const struct keeper_handlers handlers = {.items = handler, .count = 1};
  struct reader request = {.data = payload->data, .size = payload->size};
  if (payload->failed) return error_set(error, ERROR_NO_MEMORY, "out of memory for a job");
  struct error result = {0};
  keeper_job_run(&handlers, handler->job, &request, reply, &result);
  if (result.code) *error = result;
  return result.code;
}

/* Two edits, of which the file has to have both or none: an item's own failure is one of the whole here. */
static int fragment_act(void *context, struct error *error) {
  const struct desk *desk = context;
  const struct keeper_handler handler = runner_fragment_handler(&desk->zonefiles);
  const struct fragment_edit edits[] = {{.change = FRAGMENT_KEEP, .name = "s1._domainkey." ZONE, .ttl = 60, .record = "one"},
                                        {.change = FRAGMENT_ADD, .name = "s2._domainkey." ZONE, .ttl = 60, .record = "two"}};
  const struct runner_fragment_call call = {.publisher = "files", .zone = ZONE, .make = true, .edits = edits, .count = 2};
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(TEXT_MAX);
  CLEANUP(buffer_release) struct buffer reply = BUFFER_WITH_MAXIMUM(TEXT_MAX);
  CLEANUP(runner_fragment_reply_release) struct runner_fragment_reply said = {0};
  runner_fragment_write(&payload, &call);
  int result = run_job(&handler, &payload, &reply, error);
  if (!result) result = runner_fragment_read(reply.data, reply.size, &said, error);
  for (size_t i = 0; i < said.count && !result; i++)
    if ((result = said.errors[i].code) != 0) *error = said.errors[i];
  return result;
}

static size_t count_files(const char *path) {
  DIR *directory = opendir(path);
  size_t count = 0;
  assert_non_null(directory);
  while (readdir(directory)) count++;
  closedir(directory);
  return count - 2;
}

/* An edit for which memory ran out fails alone, so of two there may be one; but each is there whole, and what stood there stays. */
static void fragment_check(void *context, bool whole) {
  const struct desk *desk = context;
  FILE *file = fopen(desk->path, "re");
  char text[TEXT_MAX] = "";
  if (file) {
    assert_true(fread(text, 1, sizeof(text) - 1, file) > 0);
    fclose(file);
  }
  CLEANUP(fragment_release) struct fragment fragment = {0};
  struct error error = {0};
  assert_int_equal(fragment_parse(text, strlen(text), ZONE, &fragment, &error), 0);
  if (whole) assert_int_equal(fragment.count, 2);
  if (!desk->lost) assert_string_equal(fragment.records[0].text, "one");
  assert_int_equal(count_files(desk->folder.path), file != NULL);
}

static void test_fault_runner__a_fragment_is_old_or_new(void **state) {
  (void)state;
  for (int lost = 0; lost < 2; lost++) {
    struct desk desk = {.lost = lost == 1};
    const struct fault_workload workload = {.name = lost ? "fragment made" : "fragment edited",
                                            .context = &desk,
                                            .begin = fragment_begin,
                                            .act = fragment_act,
                                            .check = fragment_check,
                                            .end = fragment_end};
    fault_each(&workload);
  }
}

static void command_begin(void *context) {
  struct desk *desk = context;
  static const char *const words[] = {"/bin/sh", "-c", "cat; echo \"$1 $DKIMROLL_NAME\" >&2", "tool"};
  const struct runner_command command = {.purpose = RUNNER_PUBLISH, .name = (char *)"provider", .timeout = 20};
  struct error error = {0};
  assert_int_equal(runner_allow(&desk->rights, &command, words, ARRAY_SIZE(words), &error), 0);
}

static void command_end(void *context) { runner_rights_release(&((struct desk *)context)->rights); }

static int command_act(void *context, struct error *error) {
  const struct desk *desk = context;
  struct keeper_handler handler;
  const struct runner_variable variable = {"DKIMROLL_NAME", "example"};
  const struct runner_call call = {
      .purpose = RUNNER_PUBLISH, .name = "provider", .word = "add", .variables = &variable, .variable_count = 1, .input = "text", .input_size = 4};
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(TEXT_MAX);
  CLEANUP(buffer_release) struct buffer reply = BUFFER_WITH_MAXIMUM(TEXT_MAX);
  CLEANUP(runner_reply_release) struct runner_reply said = {0};
  assert_int_equal(runner_handlers(&desk->rights, &handler), 1);
  runner_call_write(&payload, &call);
  int result = run_job(&handler, &payload, &reply, error);
  if (!result) result = runner_reply_read(reply.data, reply.size, &said, error);
  if (!result) result = runner_reply_judge(&said, "provider", error);
  if (result) return result;
  /* What it says is for people alone: a pipe that cannot be read says nothing, and the exit status counts. */
  assert_true(text_equal(said.output, "text") || said.output[0] == '\0');
  assert_true(text_equal(said.errors, "add example\n") || said.errors[0] == '\0');
  return 0;
}

static void test_fault_runner__a_command_is_run_or_the_reason_is_told(void **state) {
  (void)state;
  struct desk desk = {0};
  const struct fault_workload workload = {.name = "command", .context = &desk, .begin = command_begin, .act = command_act, .end = command_end};
  fault_each(&workload);
}

/* ---- publishers over them ---- */

static void publisher_begin(struct rig *rig, const char *type) {
  rig_open(rig, type);
  rig_set_fragment(rig, "");
}
static void tool_begin(void *context) { publisher_begin(context, "command"); }
static void zonefile_begin(void *context) { publisher_begin(context, "zonefile"); }
static void publisher_end(void *context) { rig_close(context); }

static int publisher_act(void *context, struct error *error) {
  struct rig *rig = context;
  const struct publish_item item = {.change = PUBLISH_ADD, .name = RIG_NAME, .record = "new", .ttl = 3600};
  rig->done = 0;
  int code = publisher_start(rig->publisher, &item, 1, loop_boottime(rig->loop) + 600000, rig_finished, rig, &rig->operation, error);
  if (code) return code;
  code = loop_run(rig->loop, error);
  assert_int_equal(code ? 1 : rig->done, 1);
  if (!code && rig->results[0].error.code) *error = rig->results[0].error;
  return code ? code : rig->results[0].error.code;
}

/* The record is there or not, and said to be there only if it is. */
static void publisher_check(void *context, bool whole) {
  struct rig *rig = context;
  CLEANUP_FREE char *text = rig_get_fragment(rig);
  assert_non_null(text);
  if (whole) rig_assert_stands(rig, "new");
  if (whole && !rig_is_command(rig)) assert_non_null(strstr(text, RIG_NAME ". 3600 IN TXT \"new\"\n"));
}

static void test_fault_runner__a_record_is_published_or_it_is_said_that_not(void **state) {
  (void)state;
  static void (*const begins[])(void *) = {tool_begin, zonefile_begin};
  for (size_t i = 0; i < ARRAY_SIZE(begins); i++) {
    struct rig rig;
    const struct fault_workload workload = {.name = i ? "publisher zonefile" : "publisher command",
                                            .context = &rig,
                                            .begin = begins[i],
                                            .act = publisher_act,
                                            .check = publisher_check,
                                            .end = publisher_end};
    fault_each(&workload);
  }
}

#define FAULT_TEST(name) cmocka_unit_test_teardown(test_fault_runner__##name, fault_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      FAULT_TEST(a_fragment_is_old_or_new),
      FAULT_TEST(a_command_is_run_or_the_reason_is_told),
      FAULT_TEST(a_record_is_published_or_it_is_said_that_not),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
