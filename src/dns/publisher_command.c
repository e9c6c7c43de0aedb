/* The publisher that runs a tool of somebody's for each change: one call for each record, some at once. Its contract is in dkimroll-policy(5). */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/message.h"
#include "dkimroll/policy_schema.h"
#include "dkimroll/publisher_looked.h"
#include "dkimroll/runner.h"
#include "dkimroll/text.h"
#include "dkimroll/zone_fragment.h"

struct calls {
  size_t next_item; /* the first that was not looked at */
  size_t open, begun;
  unsigned timeouts; /* in a row */
};

/* What servers say of the old record is no reason to leave it out: one that answers wrongly would have two records stand there. */
static const char *item_action(const struct looked_item *item) {
  if (item->change->change == PUBLISH_DELETE) return "delete";
  return item->change->change == PUBLISH_REPLACE ? "replace" : "add";
}

/* What is to stand there, or with DELETE what is to go. */
static const char *item_record(const struct looked_item *item) {
  const struct publish_item *change = item->change;
  if (change->change != PUBLISH_DELETE) return change->record;
  return item->stand.before || !change->record_also ? change->record_before : change->record_also;
}

/* What stands there still, or with DELETE what may stand there instead; NULL: nothing. */
static const char *item_old_record(const struct looked_item *item) {
  const struct publish_item *change = item->change;
  if (change->change == PUBLISH_DELETE) return item_record(item) == change->record_before ? change->record_also : change->record_before;
  return change->change == PUBLISH_REPLACE ? change->record_before : NULL;
}

static void add_member(struct buffer *json, const char *name, const char *value) {
  buffer_add_text(json, json->size > 1 ? ", " : "");
  schema_write_text(name, json);
  buffer_add_text(json, ": ");
  schema_write_text(value, json);
}

/* The texts of one call. */
struct call_texts {
  char ttl[16];
  char *relative; /* owned: the name below the zone; "@" for the zone itself */
  char *rdata, *old_rdata; /* owned */
  char *json;     /* owned */
};

static void call_texts_release(struct call_texts *texts) {
  free(texts->relative);
  free(texts->rdata);
  free(texts->old_rdata);
  free(texts->json);
}

/* As a master file has it. Caller frees; NULL: out of memory. */
static char *make_rdata(const char *record) {
  struct buffer rdata = BUFFER_WITH_MAXIMUM(RUNNER_VALUE_MAX);
  fragment_write_strings(record, &rdata);
  return buffer_take_text(&rdata);
}

static int make_texts(const struct looked_item *item, const char *publisher, struct call_texts *texts, struct error *error) {
  const struct publish_result *result = item->result;
  const size_t size = strlen(result->owner);
  const size_t zone_size = strlen(result->zone);
  const char *old = item_old_record(item);
  struct buffer json = BUFFER_WITH_MAXIMUM(RUNNER_INPUT_MAX);
  snprintf(texts->ttl, sizeof(texts->ttl), "%lu", (unsigned long)item->change->ttl);
  texts->relative = size > zone_size ? text_format("%.*s", (int)(size - zone_size - (zone_size > 0)), result->owner) : text_duplicate("@");
  texts->rdata = make_rdata(item_record(item));
  texts->old_rdata = make_rdata(old ? old : "");
  buffer_add_text(&json, "{");
  add_member(&json, "action", item_action(item));
  add_member(&json, "publisher", publisher);
  add_member(&json, "zone", result->zone);
  add_member(&json, "name", result->owner);
  buffer_format(&json, ", \"ttl\": %s", texts->ttl);
  add_member(&json, "record", item_record(item));
  if (old) add_member(&json, "old_record", old);
  buffer_add_text(&json, "}\n");
  texts->json = buffer_take_text(&json);
  if (texts->relative && texts->rdata && texts->old_rdata && texts->json) return 0;
  return error_set(error, ERROR_NO_MEMORY, "publishing %s: out of memory", result->owner);
}

static void call_next(struct publish_operation *operation);

static void called(struct publish_operation *operation, size_t index, const struct error *result, const uint8_t *reply, size_t reply_size) {
  struct calls *calls = operation->making;
  const struct looked_item *item = &operation->work[index];
  struct error error = {0};
  CLEANUP_FREE char *what = text_format("publisher %s: %s of %s", operation->owner->policy->name, item_action(item), item->result->owner);
  const int code = looked_judge(result, reply, reply_size, what ? what : "publisher", &error);
  calls->open--;
  calls->timeouts = code == ERROR_TIMEOUT ? calls->timeouts + 1 : 0;
  looked_made(operation, index, &error);
  /* If as many as are made at once hang one after the other, so will the rest: it fails now, and one alone tries again later. */
  if (calls->timeouts >= operation->owner->policy->parallel)
    for (size_t i = calls->next_item; i < operation->count; i++) looked_made(operation, i, &error);
  else
    call_next(operation);
}

static int call_tool(struct publish_operation *operation, size_t index, struct error *error) {
  const struct looked_item *item = &operation->work[index];
  const char *name = operation->owner->policy->name;
  CLEANUP(call_texts_release) struct call_texts texts = {0};
  const int result = make_texts(item, name, &texts, error);
  if (result) return result;
  const struct runner_variable variables[] = {
      {"DKIMROLL_ACTION", item_action(item)},       {"DKIMROLL_PUBLISHER", name},
      {"DKIMROLL_ZONE", item->result->zone},        {"DKIMROLL_NAME", item->result->owner},
      {"DKIMROLL_RELATIVE_NAME", texts.relative},   {"DKIMROLL_TTL", texts.ttl},
      {"DKIMROLL_RECORD", item_record(item)},       {"DKIMROLL_RDATA", texts.rdata},
      {"DKIMROLL_OLD_RECORD", item_old_record(item)}, {"DKIMROLL_OLD_RDATA", texts.old_rdata},
  };
  const struct runner_call call = {.purpose = RUNNER_PUBLISH,
                                   .name = name,
                                   .word = item_action(item),
                                   .variables = variables,
                                   .variable_count = ARRAY_SIZE(variables) - (item_old_record(item) ? 0 : 2),
                                   .input = texts.json,
                                   .input_size = strlen(texts.json)};
  return looked_run(operation, index, &call, called, error);
}

/* Leaves time for the call and for the servers; what is too late for that is the next operation's. The first ones are tried in any case. */
static bool has_time(const struct publish_operation *operation) {
  const struct policy_publisher *policy = operation->owner->policy;
  if (((const struct calls *)operation->making)->begun < policy->parallel) return true;
  return loop_boottime(operation->owner->loop) + (policy->timeout + policy->wait) * 1000 <= operation->deadline;
}

static void call_next(struct publish_operation *operation) {
  struct calls *calls = operation->making;
  while (calls->open < operation->owner->policy->parallel && calls->next_item < operation->count) {
    const size_t index = calls->next_item++;
    struct error error = {0};
    if (!operation->work[index].to_make) continue;
    if (!has_time(operation))
      error_set(&error, ERROR_BUSY, "publisher %s: %s was not begun, because the calls before took too long", operation->owner->policy->name,
                operation->work[index].change->name);
    else
      call_tool(operation, index, &error);
    if (error.code) {
      looked_made(operation, index, &error);
    } else {
      calls->begun++;
      calls->open++;
    }
  }
}

static int command_begin(struct publish_operation *operation, struct error *error) {
  operation->making = calloc(1, sizeof(struct calls));
  if (!operation->making) return error_set(error, ERROR_NO_MEMORY, "publishing: out of memory");
  call_next(operation);
  return 0;
}

static void command_release(struct publish_operation *operation) { free(operation->making); }

int publisher_command_new(struct loop *loop, struct keeper *runner, struct observer *observer, const struct policy_publisher *policy,
                          struct publisher **ret_publisher, struct error *error) {
  static const struct looked_maker maker = {
      .begin = command_begin,
      .release = command_release,
      .unseen = "run its command by hand as dkimroll-policy(5) tells and look whether the provider takes the record; if its servers are only slow, raise wait"};
  const struct looked with = {.loop = loop, .runner = runner, .observer = observer, .policy = policy, .maker = &maker};
  return looked_new(&with, ret_publisher, error);
}
