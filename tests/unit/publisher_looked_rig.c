#include "publisher_looked_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/keeper_worker.h"
#include "dkimroll/text.h"

enum { LOOK_MS = 20, CALL_MS = 300, DEADLINE_MS = 600 * 1000 };

static struct rig_name *name_of(struct rig *rig, const char *name) {
  for (size_t i = 0; i < rig->name_count; i++)
    if (text_equal(rig->names[i].name, name)) return &rig->names[i];
  assert_true(rig->name_count < RIG_NAMES_MAX);
  struct rig_name *made = &rig->names[rig->name_count++];
  *made = (struct rig_name){.changed = INT64_MIN / 2};
  text_copy(made->name, sizeof(made->name), name);
  return made;
}

void rig_set_name(struct rig *rig, const char *name, const char *record) {
  struct rig_name *at = name_of(rig, name);
  if (text_equal(at->now, record)) return;
  text_copy(at->before, sizeof(at->before), at->now);
  text_copy(at->now, sizeof(at->now), record);
  at->changed = loop_boottime(rig->loop);
}

/* ---- servers ---- */

struct observe_operation {
  struct rig *rig;
  enum observe_kind kind;
  const struct observe_item *items;
  size_t count;
  observe_done *done;
  void *context;
  struct loop_source *timer;
};

static const char *served_by(struct rig *rig, size_t server, const char *name) {
  const struct rig_name *at = name_of(rig, name);
  if (rig->says[server]) return rig->says[server];
  const bool late = loop_boottime(rig->loop) < at->changed + rig->lag[server];
  const char *text = late ? at->before : at->now;
  return text[0] == '\0' && rig->wildcard ? "a wildcard's" : text;
}

static void answer_one(const struct observe_operation *operation, const struct observe_item *item, size_t server, struct observe_server *ret_server) {
  struct rig *rig = operation->rig;
  const char *text = served_by(rig, server, item->name);
  const bool like_any = text_equal(text, rig->wildcard ? "a wildcard's" : "");
  const bool ours = text_equal(text, item->record) || (item->record_also && text_equal(text, item->record_also));
  bool right = like_any;
  if (operation->kind == OBSERVE_PRESENT) right = text_equal(text, item->record);
  if (operation->kind == OBSERVE_ABSENT) right = !ours;
  *ret_server = (struct observe_server){.verdict = right ? OBSERVE_RIGHT : OBSERVE_WRONG, .at = loop_wall(rig->loop), .ttl = text[0] ? 3600 : -1};
  snprintf(ret_server->host, sizeof(ret_server->host), "ns%zu.example", server + 1);
  snprintf(ret_server->address, sizeof(ret_server->address), "192.0.2.%zu:53", server + 1);
  text_copy(ret_server->answer, sizeof(ret_server->answer), text[0] ? text : "NXDOMAIN");
  ret_server->nothing = text[0] == '\0';
  ret_server->served = text[0] ? text : NULL;
  ret_server->served_size = strlen(text);
  if (!rig->down[server]) return;
  ret_server->verdict = OBSERVE_SILENT;
  ret_server->nothing = false;
  ret_server->served = NULL;
  text_copy(ret_server->answer, sizeof(ret_server->answer), "no answer in 6 s");
}

static void observe_fire(void *context) {
  struct observe_operation *operation = context;
  struct observe_result *results = calloc(operation->count, sizeof(*results));
  struct observe_server *servers = calloc(operation->count * RIG_SERVERS, sizeof(*servers));
  for (size_t i = 0; i < operation->count; i++) {
    const struct observe_item *item = &operation->items[i];
    results[i].servers = servers + i * RIG_SERVERS;
    results[i].server_count = RIG_SERVERS;
    text_copy(results[i].zone, sizeof(results[i].zone), item->zone ? item->zone : RIG_ZONE);
    text_copy(results[i].owner, sizeof(results[i].owner), item->name);
    for (size_t server = 0; server < RIG_SERVERS; server++) answer_one(operation, item, server, &results[i].servers[server]);
  }
  operation->done(operation->context, results, operation->count);
  free(servers);
  free(results);
  free(operation);
}

static int observe_begin(struct observer *observer, enum observe_kind kind, const struct observe_item *items, size_t count, int64_t deadline,
                         observe_done *done, void *context, struct observe_operation **ret_operation, struct error *error) {
  (void)deadline, (void)error;
  struct rig *rig = (struct rig *)(void *)((char *)observer - offsetof(struct rig, observer));
  struct observe_operation *operation = malloc(sizeof(*operation));
  *operation = (struct observe_operation){rig, kind, items, count, done, context, NULL};
  assert_int_equal(loop_at(rig->loop, loop_boottime(rig->loop) + LOOK_MS, observe_fire, operation, &operation->timer), 0);
  *ret_operation = operation;
  return 0;
}

static void observe_stop(struct observer *observer, struct observe_operation *operation) {
  (void)observer;
  loop_cancel(operation->rig->loop, &operation->timer);
  free(operation);
}

static const struct observer_ops observe_ops = {.start = observe_begin, .cancel = observe_stop};

/* ---- the runner and what it runs ---- */

struct job {
  struct rig *rig;
  enum keeper_job kind;
  struct buffer payload;
  keeper_done *done;
  void *context;
  struct error result;
  struct buffer reply;
};

static void obey(struct rig *rig, const struct runner_call *call) {
  const char *name = runner_call_variable(call, "DKIMROLL_NAME");
  const char *record = runner_call_variable(call, "DKIMROLL_RECORD");
  const char *old = runner_call_variable(call, "DKIMROLL_OLD_RECORD");
  const char *now = name_of(rig, name)->now;
  if (!text_equal(call->word, "delete"))
    rig_set_name(rig, name, record);
  else if (text_equal(now, record) || text_equal(now, old))
    rig_set_name(rig, name, "");
}

/* The zone is what stands in the fragment. */
static void obey_reload(struct rig *rig, const struct runner_call *call) {
  CLEANUP(fragment_release) struct fragment fragment = {0};
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  struct error error = {0};
  assert_int_equal(file_read(runner_call_variable(call, "DKIMROLL_FILE"), FRAGMENT_FILE_MAX, &text, &size, NULL, &error), 0);
  assert_int_equal(fragment_parse(text, size, runner_call_variable(call, "DKIMROLL_ZONE"), &fragment, &error), 0);
  for (size_t i = 0; i < rig->name_count; i++) rig_set_name(rig, rig->names[i].name, "");
  for (size_t i = 0; i < fragment.count; i++) rig_set_name(rig, fragment.records[i].name, fragment.records[i].text);
}

static int run_command(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  struct rig *rig = context;
  CLEANUP(runner_call_release) struct runner_call_memory memory = {0};
  struct runner_call call;
  assert_int_equal(runner_call_read(request, &call, &memory, error), 0);
  const size_t used = strlen(rig->actions);
  if (call.purpose == RUNNER_PUBLISH && used < sizeof(rig->actions) - 64)
    snprintf(rig->actions + used, sizeof(rig->actions) - used, "%s %s;", call.word, runner_call_variable(&call, "DKIMROLL_RELATIVE_NAME"));
  if (call.purpose == RUNNER_RELOAD_ZONE) rig->reloads++;
  if (rig->tool == TOOL_OBEYS && call.purpose == RUNNER_PUBLISH) obey(rig, &call);
  if (rig->tool == TOOL_OBEYS && call.purpose == RUNNER_RELOAD_ZONE) obey_reload(rig, &call);
  struct command_result ended = {.end = rig->tool == TOOL_HANGS ? COMMAND_TIMED_OUT : COMMAND_EXITED, .errors = BUFFER_WITH_MAXIMUM(64)};
  if (rig->tool == TOOL_FAILS || rig->tool == TOOL_FAILS_FOR_NOW) {
    ended.status = rig->tool == TOOL_FAILS ? 1 : RUNNER_TEMPFAIL;
    buffer_add_text(&ended.errors, "quota exceeded\nmore\n");
  }
  runner_reply_write(reply, &ended);
  command_result_release(&ended);
  return 0;
}

static void job_fire(void *context) {
  struct job *job = context;
  struct rig *rig = job->rig;
  rig->open--;
  job->done(job->context, &job->result, job->reply.data, job->reply.size);
  buffer_release(&job->payload);
  buffer_release(&job->reply);
  free(job);
}

static int job_submit(struct keeper *keeper, enum keeper_job kind, const struct buffer *payload, int64_t deadline, keeper_done *done, void *context,
                      struct error *error) {
  (void)deadline;
  struct rig *rig = (struct rig *)(void *)((char *)keeper - offsetof(struct rig, runner));
  const struct keeper_handler fragments = runner_fragment_handler(&rig->zonefiles);
  struct job *job = malloc(sizeof(*job));
  *job = (struct job){.rig = rig, .kind = kind, .done = done, .context = context, .reply = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX)};
  struct reader request = {.data = payload->data, .size = payload->size};
  rig->calls += kind == KEEPER_RUN;
  rig->writes += kind == KEEPER_WRITE_FRAGMENT;
  if (++rig->open > rig->most) rig->most = rig->open;
  if (kind == KEEPER_RUN)
    run_command(rig, &request, &job->reply, &job->result);
  else
    keeper_job_run(&(struct keeper_handlers){.items = &fragments, .count = 1}, kind, &request, &job->reply, &job->result);
  (void)error;
  return loop_at(rig->loop, loop_boottime(rig->loop) + CALL_MS, job_fire, job, NULL);
}

static const struct keeper_ops job_ops = {.submit = job_submit};

/* ---- the whole ---- */

void rig_open(struct rig *rig, const char *type) {
  struct error error = {0};
  const struct clock_reading start = {.wall = RIG_WALL, .boottime = 1000, .boot_id = "boot"};
  *rig = (struct rig){.type = type, .observer.ops = &observe_ops, .runner.ops = &job_ops};
  workplace_make(&rig->folder, "/tmp");
  assert_int_equal(loop_virtual_new(&start, &rig->loop, &error), 0);
  CLEANUP_FREE char *zonefile = text_format("type: zonefile, file: \"%s/z/%%z.dkim\", reload: {command: [/bin/reload]}", rig->folder.path);
  CLEANUP_FREE char *text = text_format("policies: {one: {}}\npublishers: {theirs: {%s, wait: 30s}}\n"
                                        "signers: {local: {key-table: /t, signing-table: /s, key-directory: /k/%%d, milter: \"unix:/m\"}}\ndomains: {}\n",
                                        text_equal(type, "command") ? "type: command, command: [/bin/tool], parallel: 3" : zonefile);
  if (policy_parse("policy", text, strlen(text), &rig->policy, NULL, &error)) fail_msg("%s", error.message);
  assert_int_equal(runner_zonefiles_allow(&rig->zonefiles, rig->policy, &error), 0);
  const struct policy_publisher *policy = &rig->policy->publishers[0];
  assert_int_equal(policy->wait, RIG_WAIT_SECONDS);
  const int made = text_equal(type, "command") ? publisher_command_new(rig->loop, &rig->runner, &rig->observer, policy, &rig->publisher, &error)
                                               : publisher_zonefile_new(rig->loop, &rig->runner, &rig->observer, policy, &rig->publisher, &error);
  assert_int_equal(made, 0);
}

void rig_set_fragment(struct rig *rig, const char *text) {
  CLEANUP_FREE char *directory = workplace_path(&rig->folder, "z");
  CLEANUP_FREE char *path = workplace_path(&rig->folder, "z/" RIG_ZONE ".dkim");
  (void)!mkdir(directory, 0755);
  workplace_write(path, text, 0644);
}

char *rig_get_fragment(struct rig *rig) {
  CLEANUP_FREE char *path = workplace_path(&rig->folder, "z/" RIG_ZONE ".dkim");
  char *text = NULL;
  size_t size = 0;
  struct error error = {0};
  if (file_read(path, FRAGMENT_FILE_MAX, &text, &size, NULL, &error)) return NULL;
  return text;
}

void rig_finished(void *context, const struct publish_result *results, size_t count) {
  struct rig *rig = context;
  rig->done++;
  rig->operation = NULL;
  memcpy(rig->results, results, count * sizeof(*results));
  loop_stop(rig->loop);
}

void rig_fill(struct rig *rig, size_t count) {
  assert_true(count <= RIG_ITEMS_MAX);
  rig->count = count;
  for (size_t i = 0; i < count; i++) {
    snprintf(rig->item_names[i], sizeof(rig->item_names[i]), "n%zu._domainkey." RIG_ZONE, i);
    rig->items[i] = (struct publish_item){.change = PUBLISH_ADD, .name = rig->item_names[i], .record = "new", .ttl = 60};
  }
}

void rig_begin(struct rig *rig) {
  struct error error = {0};
  rig->calls = rig->reloads = rig->writes = rig->most = rig->done = 0;
  rig->actions[0] = '\0';
  if (publisher_start(rig->publisher, rig->items, rig->count, loop_boottime(rig->loop) + DEADLINE_MS, rig_finished, rig, &rig->operation, &error))
    fail_msg("%s", error.message);
  assert_int_equal(rig->done, 0);
}

void rig_perform(struct rig *rig) {
  struct error error = {0};
  rig_begin(rig);
  assert_int_equal(loop_run(rig->loop, &error), 0);
  assert_int_equal(rig->done, 1);
}

void rig_drain(struct rig *rig) {
  struct error error = {0};
  while (rig->open > 0) assert_int_not_equal(loop_run(rig->loop, &error), 0);
}

void rig_close(struct rig *rig) {
  publisher_destroy(rig->publisher);
  rig_drain(rig);
  loop_destroy(rig->loop);
  runner_zonefiles_release(&rig->zonefiles);
  policy_free(rig->policy);
  workplace_remove(&rig->folder);
}

int rig_publish(struct rig *rig, enum publish_change change, const char *record, const char *before) {
  rig->items[0] = (struct publish_item){.change = change, .name = RIG_NAME, .record = record, .record_before = before, .ttl = 3600};
  if (change == PUBLISH_DELETE) rig->items[0].record_also = "also";
  rig->count = 1;
  rig_perform(rig);
  return rig->results[0].error.code;
}

void rig_assert_stands(struct rig *rig, const char *record) { assert_string_equal(name_of(rig, RIG_NAME)->now, record); }

bool rig_is_command(const struct rig *rig) { return text_equal(rig->type, "command"); }

void rig_with_both(void (*test)(struct rig *rig)) {
  static const char *const types[] = {"command", "zonefile"};
  for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
    struct rig rig;
    rig_open(&rig, types[i]);
    rig_set_fragment(&rig, "");
    test(&rig);
    rig_close(&rig);
  }
}
