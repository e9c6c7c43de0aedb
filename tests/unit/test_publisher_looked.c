/* The publishers for zones that take no updates, over a model of servers and of somebody else's tools: the contract of publishers, for both types, and what goes wrong at the other side. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/publisher.h"
#include "dkimroll/runner.h"
#include "dkimroll/runner_fragment.h"
#include "dkimroll/text.h"
#include "workplace.h"

enum { SERVERS = 2, NAMES_MAX = 64, ITEMS_MAX = 64, LOOK_MS = 20, CALL_MS = 300, WAIT_SECONDS = 30, WALL = 1800000000, DEADLINE_MS = 600 * 1000 };
#define ZONE "example.com"
#define NAME "s1._domainkey.example.com"

/* What the tool or the reload does. */
enum tool { TOOL_OBEYS = 0, TOOL_LIES, TOOL_FAILS, TOOL_FAILS_FOR_NOW, TOOL_HANGS };

/* One name: what the provider has, and since when; servers follow after their lag. */
struct name {
  char name[DNS_NAME_TEXT_SIZE];
  char now[64], before[64]; /* "": nothing */
  int64_t changed;
};

struct stage {
  const char *type; /* "command" or "zonefile" */
  struct workplace folder;
  struct loop *loop;
  struct policy *policy;
  struct observer observer;
  struct keeper runner;
  struct runner_zonefiles zonefiles;
  struct publisher *publisher;
  struct publisher_source source;
  struct name names[NAMES_MAX];
  size_t name_count;
  enum tool tool;
  int64_t lag[SERVERS];                /* ms */
  bool down[SERVERS];
  const char *says[SERVERS];           /* a server that says this of every name */
  bool wildcard;
  unsigned calls, open, most, reloads, writes;
  char actions[256];                   /* "add NAME;" of each call */
  struct publish_item items[ITEMS_MAX];
  struct publish_result results[ITEMS_MAX];
  size_t count;
  unsigned done;
  struct publish_operation *operation;
};

static struct name *name_of(struct stage *stage, const char *name) {
  for (size_t i = 0; i < stage->name_count; i++)
    if (text_equal(stage->names[i].name, name)) return &stage->names[i];
  assert_true(stage->name_count < NAMES_MAX);
  struct name *made = &stage->names[stage->name_count++];
  *made = (struct name){.changed = INT64_MIN / 2};
  text_copy(made->name, sizeof(made->name), name);
  return made;
}

static void set_name(struct stage *stage, const char *name, const char *record) {
  struct name *at = name_of(stage, name);
  if (text_equal(at->now, record)) return;
  text_copy(at->before, sizeof(at->before), at->now);
  text_copy(at->now, sizeof(at->now), record);
  at->changed = loop_boottime(stage->loop);
}

/* ---- servers ---- */

struct observe_operation {
  struct stage *stage;
  enum observe_kind kind;
  const struct observe_item *items;
  size_t count;
  observe_done *done;
  void *context;
  struct loop_source *timer;
};

static const char *served_by(struct stage *stage, size_t server, const char *name) {
  const struct name *at = name_of(stage, name);
  if (stage->says[server]) return stage->says[server];
  const bool late = loop_boottime(stage->loop) < at->changed + stage->lag[server];
  const char *text = late ? at->before : at->now;
  return text[0] == '\0' && stage->wildcard ? "a wildcard's" : text;
}

static void answer_one(const struct observe_operation *operation, const struct observe_item *item, size_t server, struct observe_server *ret_server) {
  struct stage *stage = operation->stage;
  const char *text = served_by(stage, server, item->name);
  const bool like_any = text_equal(text, stage->wildcard ? "a wildcard's" : "");
  const bool ours = text_equal(text, item->record) || (item->record_also && text_equal(text, item->record_also));
  bool right = like_any;
  if (operation->kind == OBSERVE_PRESENT) right = text_equal(text, item->record);
  if (operation->kind == OBSERVE_ABSENT) right = !ours;
  *ret_server = (struct observe_server){.verdict = right ? OBSERVE_RIGHT : OBSERVE_WRONG, .at = loop_wall(stage->loop), .ttl = text[0] ? 3600 : -1};
  snprintf(ret_server->host, sizeof(ret_server->host), "ns%zu.example", server + 1);
  snprintf(ret_server->address, sizeof(ret_server->address), "192.0.2.%zu:53", server + 1);
  text_copy(ret_server->answer, sizeof(ret_server->answer), text[0] ? text : "NXDOMAIN");
  ret_server->nothing = text[0] == '\0';
  ret_server->served = text[0] ? text : NULL;
  ret_server->served_size = strlen(text);
  if (!stage->down[server]) return;
  ret_server->verdict = OBSERVE_SILENT;
  ret_server->nothing = false;
  ret_server->served = NULL;
  text_copy(ret_server->answer, sizeof(ret_server->answer), "no answer in 6 s");
}

static void observe_fire(void *context) {
  struct observe_operation *operation = context;
  struct observe_result *results = calloc(operation->count, sizeof(*results));
  struct observe_server *servers = calloc(operation->count * SERVERS, sizeof(*servers));
  for (size_t i = 0; i < operation->count; i++) {
    const struct observe_item *item = &operation->items[i];
    results[i].servers = servers + i * SERVERS;
    results[i].server_count = SERVERS;
    text_copy(results[i].zone, sizeof(results[i].zone), item->zone ? item->zone : ZONE);
    text_copy(results[i].owner, sizeof(results[i].owner), item->name);
    for (size_t server = 0; server < SERVERS; server++) answer_one(operation, item, server, &results[i].servers[server]);
  }
  operation->done(operation->context, results, operation->count);
  free(servers);
  free(results);
  free(operation);
}

static int observe_begin(struct observer *observer, enum observe_kind kind, const struct observe_item *items, size_t count, int64_t deadline,
                         observe_done *done, void *context, struct observe_operation **ret_operation, struct error *error) {
  (void)deadline, (void)error;
  struct stage *stage = (struct stage *)(void *)((char *)observer - offsetof(struct stage, observer));
  struct observe_operation *operation = malloc(sizeof(*operation));
  *operation = (struct observe_operation){stage, kind, items, count, done, context, NULL};
  assert_int_equal(loop_at(stage->loop, loop_boottime(stage->loop) + LOOK_MS, observe_fire, operation, &operation->timer), 0);
  *ret_operation = operation;
  return 0;
}

static void observe_stop(struct observer *observer, struct observe_operation *operation) {
  (void)observer;
  loop_cancel(operation->stage->loop, &operation->timer);
  free(operation);
}

static const struct observer_ops observe_ops = {.start = observe_begin, .cancel = observe_stop};

/* ---- the runner and what it runs ---- */

struct job {
  struct stage *stage;
  enum keeper_job kind;
  struct buffer payload;
  keeper_done *done;
  void *context;
  struct error result;
  struct buffer reply;
};

static void obey(struct stage *stage, const struct runner_call *call) {
  const char *name = runner_call_variable(call, "DKIMROLL_NAME");
  const char *record = runner_call_variable(call, "DKIMROLL_RECORD");
  const char *old = runner_call_variable(call, "DKIMROLL_OLD_RECORD");
  const char *now = name_of(stage, name)->now;
  if (!text_equal(call->word, "delete"))
    set_name(stage, name, record);
  else if (text_equal(now, record) || text_equal(now, old))
    set_name(stage, name, "");
}

/* The zone is what stands in the fragment. */
static void obey_reload(struct stage *stage, const struct runner_call *call) {
  CLEANUP(fragment_release) struct fragment fragment = {0};
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  struct error error = {0};
  assert_int_equal(file_read(runner_call_variable(call, "DKIMROLL_FILE"), FRAGMENT_FILE_MAX, &text, &size, NULL, &error), 0);
  assert_int_equal(fragment_parse(text, size, runner_call_variable(call, "DKIMROLL_ZONE"), &fragment, &error), 0);
  for (size_t i = 0; i < stage->name_count; i++) set_name(stage, stage->names[i].name, "");
  for (size_t i = 0; i < fragment.count; i++) set_name(stage, fragment.records[i].name, fragment.records[i].text);
}

static int run_command(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  struct stage *stage = context;
  CLEANUP(runner_call_release) struct runner_call_memory memory = {0};
  struct runner_call call;
  assert_int_equal(runner_call_read(request, &call, &memory, error), 0);
  const size_t used = strlen(stage->actions);
  if (call.purpose == RUNNER_PUBLISH && used < sizeof(stage->actions) - 64)
    snprintf(stage->actions + used, sizeof(stage->actions) - used, "%s %s;", call.word, runner_call_variable(&call, "DKIMROLL_RELATIVE_NAME"));
  if (call.purpose == RUNNER_RELOAD_ZONE) stage->reloads++;
  if (stage->tool == TOOL_OBEYS && call.purpose == RUNNER_PUBLISH) obey(stage, &call);
  if (stage->tool == TOOL_OBEYS && call.purpose == RUNNER_RELOAD_ZONE) obey_reload(stage, &call);
  struct command_result ended = {.end = stage->tool == TOOL_HANGS ? COMMAND_TIMED_OUT : COMMAND_EXITED, .errors = BUFFER_WITH_MAXIMUM(64)};
  if (stage->tool == TOOL_FAILS || stage->tool == TOOL_FAILS_FOR_NOW) {
    ended.status = stage->tool == TOOL_FAILS ? 1 : RUNNER_TEMPFAIL;
    buffer_add_text(&ended.errors, "quota exceeded\nmore\n");
  }
  runner_reply_write(reply, &ended);
  command_result_release(&ended);
  return 0;
}

static void job_fire(void *context) {
  struct job *job = context;
  struct stage *stage = job->stage;
  stage->open--;
  job->done(job->context, &job->result, job->reply.data, job->reply.size);
  buffer_release(&job->payload);
  buffer_release(&job->reply);
  free(job);
}

static int job_submit(struct keeper *keeper, enum keeper_job kind, const struct buffer *payload, int64_t deadline, keeper_done *done, void *context,
                      struct error *error) {
  (void)deadline;
  struct stage *stage = (struct stage *)(void *)((char *)keeper - offsetof(struct stage, runner));
  const struct keeper_handler fragments = runner_fragment_handler(&stage->zonefiles);
  struct job *job = malloc(sizeof(*job));
  *job = (struct job){.stage = stage, .kind = kind, .done = done, .context = context, .reply = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX)};
  struct reader request = {.data = payload->data, .size = payload->size};
  stage->calls += kind == KEEPER_RUN;
  stage->writes += kind == KEEPER_WRITE_FRAGMENT;
  if (++stage->open > stage->most) stage->most = stage->open;
  if (kind == KEEPER_RUN)
    run_command(stage, &request, &job->reply, &job->result);
  else
    (void)!fragments.run(fragments.context, &request, &job->reply, &job->result);
  (void)error;
  return loop_at(stage->loop, loop_boottime(stage->loop) + CALL_MS, job_fire, job, NULL);
}

static const struct keeper_ops job_ops = {.submit = job_submit};

/* ---- the stage ---- */

static void stage_open(struct stage *stage, const char *type) {
  struct error error = {0};
  const struct clock_reading start = {.wall = WALL, .boottime = 1000, .boot_id = "boot"};
  *stage = (struct stage){.type = type, .observer.ops = &observe_ops, .runner.ops = &job_ops};
  workplace_make(&stage->folder, "/tmp");
  assert_int_equal(loop_virtual_new(&start, &stage->loop, &error), 0);
  CLEANUP_FREE char *zonefile = text_format("type: zonefile, file: \"%s/z/%%z.dkim\", reload: {command: [/bin/reload]}", stage->folder.path);
  CLEANUP_FREE char *text = text_format("policies: {one: {}}\npublishers: {theirs: {%s, wait: 30s}}\n"
                                        "signers: {local: {key-table: /t, signing-table: /s, key-directory: /k/%%d, milter: \"unix:/m\"}}\ndomains: {}\n",
                                        text_equal(type, "command") ? "type: command, command: [/bin/tool], parallel: 3" : zonefile);
  if (policy_parse("policy", text, strlen(text), &stage->policy, NULL, &error)) fail_msg("%s", error.message);
  assert_int_equal(runner_zonefiles_allow(&stage->zonefiles, stage->policy, &error), 0);
  const struct policy_publisher *policy = &stage->policy->publishers[0];
  assert_int_equal(policy->wait, WAIT_SECONDS);
  const int made = text_equal(type, "command") ? publisher_command_new(stage->loop, &stage->runner, &stage->observer, policy, &stage->publisher, &error)
                                               : publisher_zonefile_new(stage->loop, &stage->runner, &stage->observer, policy, &stage->publisher, &error);
  assert_int_equal(made, 0);
}

/* The fragment as somebody left it. */
static void set_fragment(struct stage *stage, const char *text) {
  CLEANUP_FREE char *directory = workplace_path(&stage->folder, "z");
  CLEANUP_FREE char *path = workplace_path(&stage->folder, "z/" ZONE ".dkim");
  (void)!mkdir(directory, 0755);
  workplace_write(path, text, 0644);
}

static char *get_fragment(struct stage *stage) {
  CLEANUP_FREE char *path = workplace_path(&stage->folder, "z/" ZONE ".dkim");
  char *text = NULL;
  size_t size = 0;
  struct error error = {0};
  if (file_read(path, FRAGMENT_FILE_MAX, &text, &size, NULL, &error)) return NULL;
  return text;
}

static void finished(void *context, const struct publish_result *results, size_t count) {
  struct stage *stage = context;
  stage->done++;
  stage->operation = NULL;
  memcpy(stage->results, results, count * sizeof(*results));
  loop_stop(stage->loop);
}

static void begin(struct stage *stage) {
  struct error error = {0};
  stage->calls = stage->reloads = stage->writes = stage->most = stage->done = 0;
  stage->actions[0] = '\0';
  if (publisher_start(stage->publisher, stage->items, stage->count, loop_boottime(stage->loop) + DEADLINE_MS, finished, stage, &stage->operation, &error))
    fail_msg("%s", error.message);
  assert_int_equal(stage->done, 0);
}

static void perform(struct stage *stage) {
  struct error error = {0};
  begin(stage);
  assert_int_equal(loop_run(stage->loop, &error), 0);
  assert_int_equal(stage->done, 1);
}

/* What is left of jobs whose operation is gone. */
static void drain(struct stage *stage) {
  struct error error = {0};
  while (stage->open > 0) assert_int_not_equal(loop_run(stage->loop, &error), 0);
}

static void stage_close(struct stage *stage) {
  publisher_destroy(stage->publisher);
  drain(stage);
  loop_destroy(stage->loop);
  runner_zonefiles_release(&stage->zonefiles);
  policy_free(stage->policy);
  workplace_remove(&stage->folder);
}

/* One item; the result's code. */
static int publish(struct stage *stage, enum publish_change change, const char *record, const char *before) {
  stage->items[0] = (struct publish_item){.change = change, .name = NAME, .record = record, .record_before = before, .ttl = 3600};
  if (change == PUBLISH_DELETE) stage->items[0].record_also = "also";
  stage->count = 1;
  perform(stage);
  return stage->results[0].error.code;
}

static void assert_stands(struct stage *stage, const char *record) { assert_string_equal(name_of(stage, NAME)->now, record); }

static bool is_command(const struct stage *stage) { return text_equal(stage->type, "command"); }

/* Calls test for both types. */
static void with_both(void (*test)(struct stage *stage)) {
  static const char *const types[] = {"command", "zonefile"};
  for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
    struct stage stage;
    stage_open(&stage, types[i]);
    set_fragment(&stage, "");
    /* An empty fragment is written only by who knows what belongs there, or knows of nothing else. */
    test(&stage);
    stage_close(&stage);
  }
}

/* ---- the contract ---- */

static void add_and_again(struct stage *stage) {
  assert_int_equal(publish(stage, PUBLISH_ADD, "new", NULL), 0);
  assert_stands(stage, "new");
  assert_false(stage->results[0].already);
  assert_false(stage->results[0].attested);
  assert_string_equal(stage->results[0].zone, ZONE);
  assert_string_equal(stage->results[0].owner, NAME);
  assert_true(stage->results[0].completed_at >= WALL);
  if (is_command(stage)) assert_string_equal(stage->actions, "add s1._domainkey;");
  assert_int_equal(publish(stage, PUBLISH_ADD, "new", NULL), 0);
  assert_true(stage->results[0].already);
  assert_true(stage->results[0].completed_at >= WALL);
  assert_int_equal(stage->calls + stage->writes, 0);
}
static void test_publisher_looked__a_record_is_added_once(void **state) {
  (void)state;
  with_both(add_and_again);
}

static void replace_and_delete(struct stage *stage) {
  assert_int_equal(publish(stage, PUBLISH_ADD, "new", NULL), 0);
  assert_int_equal(publish(stage, PUBLISH_REPLACE, "also", "new"), 0);
  assert_stands(stage, "also");
  if (is_command(stage)) assert_string_equal(stage->actions, "replace s1._domainkey;");
  assert_int_equal(publish(stage, PUBLISH_REPLACE, "also", "new"), 0);
  assert_true(stage->results[0].already);
  assert_int_equal(publish(stage, PUBLISH_DELETE, NULL, "new"), 0);
  assert_stands(stage, "");
  assert_false(stage->results[0].already);
  assert_int_equal(publish(stage, PUBLISH_DELETE, NULL, "new"), 0);
  assert_true(stage->results[0].already);
  assert_int_equal(stage->calls + stage->writes, 0);
  /* Where somebody has removed it, as an addition. */
  assert_int_equal(publish(stage, PUBLISH_REPLACE, "also", "new"), 0);
  assert_stands(stage, "also");
  if (is_command(stage)) assert_string_equal(stage->actions, "add s1._domainkey;");
}
static void test_publisher_looked__a_record_is_replaced_and_deleted_as_it_stands(void **state) {
  (void)state;
  with_both(replace_and_delete);
}

static void leave_foreign(struct stage *stage) {
  set_name(stage, NAME, "theirs");
  assert_int_equal(publish(stage, PUBLISH_ADD, "new", NULL), ERROR_CONFLICT);
  assert_non_null(strstr(stage->results[0].error.message, "theirs"));
  assert_int_equal(stage->calls + stage->writes, 0);
  assert_int_equal(publish(stage, PUBLISH_REPLACE, "new", "old"), ERROR_CONFLICT);
  assert_int_equal(publish(stage, PUBLISH_DELETE, NULL, "old"), ERROR_CONFLICT);
  assert_int_equal(stage->calls + stage->writes, 0);
  assert_stands(stage, "theirs");
  /* One server that shows it is enough. */
  set_name(stage, NAME, "");
  stage->says[1] = "theirs";
  assert_int_equal(publish(stage, PUBLISH_ADD, "new", NULL), ERROR_CONFLICT);
  assert_non_null(strstr(stage->results[0].error.message, "ns2.example"));
  assert_int_equal(stage->calls + stage->writes, 0);
}
static void test_publisher_looked__a_foreign_record_is_a_conflict_and_nothing_is_called(void **state) {
  (void)state;
  with_both(leave_foreign);
}

static void pass_wildcard(struct stage *stage) {
  stage->wildcard = true;
  assert_int_equal(publish(stage, PUBLISH_ADD, "new", NULL), 0);
  assert_stands(stage, "new");
  assert_int_equal(publish(stage, PUBLISH_DELETE, NULL, "new"), 0);
  assert_stands(stage, "");
}
static void test_publisher_looked__a_wildcard_is_nobodys_record(void **state) {
  (void)state;
  with_both(pass_wildcard);
}

static void wait_for_servers(struct stage *stage) {
  stage->lag[0] = stage->lag[1] = (WAIT_SECONDS - 5) * 1000;
  const int64_t begun = loop_wall(stage->loop);
  assert_int_equal(publish(stage, PUBLISH_ADD, "new", NULL), 0);
  assert_true(stage->results[0].completed_at >= begun + WAIT_SECONDS - 5);
  stage->lag[0] = 0;
  assert_int_equal(publish(stage, PUBLISH_REPLACE, "also", "new"), 0);
  assert_true(loop_wall(stage->loop) < begun + WAIT_SECONDS + 5);
}
static void test_publisher_looked__servers_may_take_their_time(void **state) {
  (void)state;
  with_both(wait_for_servers);
}

static void not_believe(struct stage *stage) {
  const int64_t begun = loop_wall(stage->loop);
  stage->tool = TOOL_LIES;
  assert_int_equal(publish(stage, PUBLISH_ADD, "new", NULL), ERROR_TIMEOUT);
  const struct error *error = &stage->results[0].error;
  assert_non_null(strstr(error->message, "no server shows it after 30s"));
  assert_non_null(strstr(error->message, "NXDOMAIN"));
  assert_true(error->remedy[0] != '\0');
  /* It takes a person, who is told after some attempts. */
  assert_false(error->retryable);
  assert_in_range(loop_wall(stage->loop) - begun, WAIT_SECONDS, WAIT_SECONDS + 3);
  /* The next attempt may find that it was only late. */
  stage->tool = TOOL_OBEYS;
  assert_int_equal(publish(stage, PUBLISH_ADD, "new", NULL), 0);
}
static void test_publisher_looked__who_says_yes_and_does_nothing_is_not_believed(void **state) {
  (void)state;
  with_both(not_believe);
}

static void report_failure(struct stage *stage) {
  stage->tool = TOOL_FAILS;
  assert_int_equal(publish(stage, PUBLISH_ADD, "new", NULL), ERROR_REFUSED);
  assert_non_null(strstr(stage->results[0].error.message, "publisher theirs: "));
  assert_non_null(strstr(stage->results[0].error.message, "quota exceeded (exit status 1)"));
  assert_false(stage->results[0].error.retryable);
  stage->tool = TOOL_FAILS_FOR_NOW;
  assert_int_equal(publish(stage, PUBLISH_ADD, "new", NULL), ERROR_BUSY);
  assert_true(stage->results[0].error.retryable);
  stage->tool = TOOL_HANGS;
  assert_int_equal(publish(stage, PUBLISH_ADD, "new", NULL), ERROR_TIMEOUT);
  assert_true(stage->results[0].error.retryable);
  assert_stands(stage, "");
  stage->tool = TOOL_OBEYS;
  assert_int_equal(publish(stage, PUBLISH_ADD, "new", NULL), 0);
}
static void test_publisher_looked__failures_are_told_with_the_programs_reason(void **state) {
  (void)state;
  with_both(report_failure);
}

static void bear_dead_servers(struct stage *stage) {
  stage->down[0] = true;
  assert_int_equal(publish(stage, PUBLISH_ADD, "new", NULL), 0);
  stage->down[1] = true;
  assert_int_equal(publish(stage, PUBLISH_DELETE, NULL, "new"), ERROR_TIMEOUT);
  assert_true(stage->results[0].error.retryable);
  assert_int_equal(stage->calls + stage->writes, 0);
  assert_stands(stage, "new");
}
static void test_publisher_looked__a_dead_server_holds_nothing_back_but_without_any_nothing_is_done(void **state) {
  (void)state;
  with_both(bear_dead_servers);
}

static void take_many(struct stage *stage) {
  static char names[ITEMS_MAX][64];
  set_name(stage, "n3._domainkey." ZONE, "theirs");
  stage->count = 10;
  for (size_t i = 0; i < stage->count; i++) {
    snprintf(names[i], sizeof(names[i]), "n%zu._domainkey." ZONE, i);
    stage->items[i] = (struct publish_item){.change = PUBLISH_ADD, .name = names[i], .record = "new", .ttl = 60};
  }
  stage->items[8].name = names[7];
  stage->items[9].change = PUBLISH_ATTEST;
  stage->items[9].record = NULL;
  perform(stage);
  for (size_t i = 0; i < stage->count; i++) {
    const int expected = i == 3 ? ERROR_CONFLICT : (i == 8 ? ERROR_BUSY : 0);
    if (stage->results[i].error.code != expected) fail_msg("item %zu: %s", i, stage->results[i].error.message);
  }
  assert_false(stage->results[9].attested);
  assert_int_equal(stage->writes, is_command(stage) ? 0 : 1);
  assert_int_equal(stage->reloads, is_command(stage) ? 0 : 1);
  assert_int_equal(stage->calls, is_command(stage) ? 7 : 1);
  assert_int_equal(stage->most, is_command(stage) ? 3 : 1);
}
static void test_publisher_looked__results_are_per_item_and_effort_is_bounded(void **state) {
  (void)state;
  with_both(take_many);
}

static void stop_watchdog(void *context) { loop_stop(context); }

static void cancel_anywhere(struct stage *stage) {
  struct error error = {0};
  stage->tool = TOOL_LIES;
  stage->items[0] = (struct publish_item){.change = PUBLISH_ADD, .name = NAME, .record = "new", .ttl = 60};
  stage->count = 1;
  for (int64_t after = 0; after < 2000; after += 10) {
    begin(stage);
    assert_int_equal(loop_at(stage->loop, loop_boottime(stage->loop) + after, stop_watchdog, stage->loop, NULL), 0);
    assert_int_equal(loop_run(stage->loop, &error), 0);
    publisher_cancel(stage->publisher, &stage->operation);
    assert_int_equal(stage->done, 0);
  }
  drain(stage);
  assert_int_equal(stage->done, 0);
}
static void test_publisher_looked__an_operation_can_be_cancelled_at_any_moment(void **state) {
  (void)state;
  with_both(cancel_anywhere);
}

static void end_at_deadline(struct stage *stage) {
  struct error error = {0};
  static const int64_t deadlines[] = {-1000, 0, 10, 100, 330, 700};
  stage->tool = TOOL_LIES;
  stage->items[0] = (struct publish_item){.change = PUBLISH_ADD, .name = NAME, .record = "new", .ttl = 60};
  stage->count = 1;
  for (size_t i = 0; i < ARRAY_SIZE(deadlines); i++) {
    stage->done = 0;
    const int64_t deadline = loop_boottime(stage->loop) + deadlines[i];
    assert_int_equal(publisher_start(stage->publisher, stage->items, 1, deadline, finished, stage, &stage->operation, &error), 0);
    assert_int_equal(loop_run(stage->loop, &error), 0);
    assert_int_equal(stage->done, 1);
    assert_int_equal(stage->results[0].error.code, ERROR_TIMEOUT);
    assert_true(loop_boottime(stage->loop) <= time_max(deadline, loop_boottime(stage->loop)));
  }
  stage->count = 0;
  perform(stage);
  stage->items[0].record = NULL;
  assert_int_equal(publisher_start(stage->publisher, stage->items, 1, 0, finished, stage, &stage->operation, &error), ERROR_INVALID);
}
static void test_publisher_looked__the_deadline_ends_every_item(void **state) {
  (void)state;
  with_both(end_at_deadline);
}

/* What the engine plans by: an operation ends in time even if several calls in a row take all that they may. */
static void test_publisher_looked__the_engine_knows_how_much_and_how_long(void **state) {
  (void)state;
  const struct policy_publisher command = {.type = PUBLISHER_COMMAND, .parallel = 4, .timeout = 60, .wait = 120};
  const struct policy_publisher zonefile = {.type = PUBLISHER_ZONEFILE, .timeout = 60, .wait = 120};
  const struct policy_publisher updates = {.type = PUBLISHER_RFC2136};
  assert_int_equal(publisher_batch_maximum(&command), 128);
  assert_int_equal(publisher_batch_maximum(&zonefile), 0);
  assert_int_equal(publisher_batch_maximum(&updates), 0);
  assert_int_equal(publisher_seconds(&command), 400);
  assert_int_equal(publisher_seconds(&zonefile), 280);
  assert_int_equal(publisher_seconds(&updates), 0);
}

/* ---- commands ---- */

static void test_publisher_looked__after_as_many_hanging_calls_as_run_at_once_no_more_are_made(void **state) {
  (void)state;
  static char names[20][64];
  struct stage stage;
  stage_open(&stage, "command");
  stage.tool = TOOL_HANGS;
  stage.count = 20;
  for (size_t i = 0; i < stage.count; i++) {
    snprintf(names[i], sizeof(names[i]), "n%zu._domainkey." ZONE, i);
    stage.items[i] = (struct publish_item){.change = PUBLISH_ADD, .name = names[i], .record = "new", .ttl = 60};
  }
  perform(&stage);
  for (size_t i = 0; i < stage.count; i++) assert_int_equal(stage.results[i].error.code, ERROR_TIMEOUT);
  assert_true(stage.calls <= 6);
  stage_close(&stage);
}

/* ---- fragments ---- */

static int give_record(void *context, const char *publisher, const char *zone,
                       int (*take)(void *take_context, const char *owner, uint32_t ttl, const char *record), void *take_context, struct error *error) {
  (void)error;
  assert_string_equal(publisher, "theirs");
  assert_string_equal(zone, ZONE);
  ++*(unsigned *)context;
  int result = take(take_context, "kept._domainkey." ZONE, 60, "stays");
  if (!result) result = take(take_context, NAME, 60, "old");
  return result;
}

static void test_publisher_looked__a_fragment_that_was_lost_comes_back_with_all_that_belongs_there(void **state) {
  (void)state;
  static const char *const losses[] = {NULL, ""};
  for (size_t i = 0; i < ARRAY_SIZE(losses); i++) {
    struct stage stage;
    unsigned asked = 0;
    stage_open(&stage, "zonefile");
    stage.source = (struct publisher_source){give_record, &asked};
    stage.publisher->source = &stage.source;
    set_name(&stage, NAME, "old");
    set_name(&stage, "kept._domainkey." ZONE, "stays");
    if (losses[i]) set_fragment(&stage, losses[i]);
    assert_int_equal(publish(&stage, PUBLISH_DELETE, NULL, "old"), 0);
    CLEANUP_FREE char *text = get_fragment(&stage);
    assert_non_null(strstr(text, "kept._domainkey.example.com. 60 IN TXT \"stays\"\n"));
    assert_null(strstr(text, "s1._domainkey"));
    assert_int_equal(asked, 1);
    /* Nothing that grows is asked for as long as it is there. */
    assert_int_equal(publish(&stage, PUBLISH_ADD, "new", NULL), 0);
    assert_int_equal(asked, 1);
    stage_close(&stage);
  }
}

static void test_publisher_looked__without_the_store_a_lost_fragment_is_not_made(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, "zonefile");
  assert_int_equal(publish(&stage, PUBLISH_ADD, "new", NULL), ERROR_NOT_FOUND);
  assert_null(get_fragment(&stage));
  assert_true(stage.results[0].error.remedy[0] != '\0');
  assert_int_equal(stage.calls, 0);
  stage_close(&stage);
}

static void test_publisher_looked__a_fragment_with_foreign_lines_is_left_as_it_is(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, "zonefile");
  set_fragment(&stage, "www 60 IN A 192.0.2.1\n");
  assert_int_equal(publish(&stage, PUBLISH_ADD, "new", NULL), ERROR_CONFLICT);
  assert_non_null(strstr(stage.results[0].error.message, "line 1 was not written by dkimroll"));
  CLEANUP_FREE char *text = get_fragment(&stage);
  assert_string_equal(text, "www 60 IN A 192.0.2.1\n");
  assert_int_equal(stage.calls, 0);
  stage_close(&stage);
}

/* As on a full disk: no file can get larger. */
static void test_publisher_looked__a_full_disk_leaves_the_fragment_as_it_was(void **state) {
  (void)state;
  struct stage stage;
  struct rlimit before;
  stage_open(&stage, "zonefile");
  set_fragment(&stage, "");
  assert_int_equal(publish(&stage, PUBLISH_ADD, "new", NULL), 0);
  CLEANUP_FREE char *old = get_fragment(&stage);
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  const struct rlimit tiny = {.rlim_cur = 16, .rlim_max = before.rlim_max};
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
  const int code = publish(&stage, PUBLISH_REPLACE, "also", "new");
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  assert_int_equal(code, ERROR_SYSTEM);
  assert_true(stage.results[0].error.retryable);
  CLEANUP_FREE char *text = get_fragment(&stage);
  assert_string_equal(text, old);
  assert_int_equal(stage.reloads, 0);
  assert_int_equal(publish(&stage, PUBLISH_REPLACE, "also", "new"), 0);
  stage_close(&stage);
}

/* A crash between the rewrite and the reload: the file says it, the servers do not. */
static void test_publisher_looked__what_an_attempt_before_wrote_is_reloaded(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, "zonefile");
  set_fragment(&stage, "");
  assert_int_equal(publish(&stage, PUBLISH_ADD, "new", NULL), 0);
  set_name(&stage, NAME, "");
  assert_int_equal(publish(&stage, PUBLISH_ADD, "new", NULL), 0);
  assert_int_equal(stage.reloads, 1);
  assert_stands(&stage, "new");
  stage_close(&stage);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_publisher_looked__a_record_is_added_once),
      cmocka_unit_test(test_publisher_looked__a_record_is_replaced_and_deleted_as_it_stands),
      cmocka_unit_test(test_publisher_looked__a_foreign_record_is_a_conflict_and_nothing_is_called),
      cmocka_unit_test(test_publisher_looked__a_wildcard_is_nobodys_record),
      cmocka_unit_test(test_publisher_looked__servers_may_take_their_time),
      cmocka_unit_test(test_publisher_looked__who_says_yes_and_does_nothing_is_not_believed),
      cmocka_unit_test(test_publisher_looked__failures_are_told_with_the_programs_reason),
      cmocka_unit_test(test_publisher_looked__a_dead_server_holds_nothing_back_but_without_any_nothing_is_done),
      cmocka_unit_test(test_publisher_looked__results_are_per_item_and_effort_is_bounded),
      cmocka_unit_test(test_publisher_looked__an_operation_can_be_cancelled_at_any_moment),
      cmocka_unit_test(test_publisher_looked__the_deadline_ends_every_item),
      cmocka_unit_test(test_publisher_looked__the_engine_knows_how_much_and_how_long),
      cmocka_unit_test(test_publisher_looked__after_as_many_hanging_calls_as_run_at_once_no_more_are_made),
      cmocka_unit_test(test_publisher_looked__a_fragment_that_was_lost_comes_back_with_all_that_belongs_there),
      cmocka_unit_test(test_publisher_looked__without_the_store_a_lost_fragment_is_not_made),
      cmocka_unit_test(test_publisher_looked__a_fragment_with_foreign_lines_is_left_as_it_is),
      cmocka_unit_test(test_publisher_looked__a_full_disk_leaves_the_fragment_as_it_was),
      cmocka_unit_test(test_publisher_looked__what_an_attempt_before_wrote_is_reloaded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
