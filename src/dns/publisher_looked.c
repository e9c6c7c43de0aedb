#include "dkimroll/publisher_looked.h"

#include <stdlib.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/runner.h"
#include "dkimroll/text.h"

/* ---- jobs of the runner ---- */

struct looked_job {
  LIST_ENTRY(looked_job) next;
  struct publish_operation *operation; /* NULL: it has ended meanwhile */
  size_t index;
  looked_job_done *done;
};

static void job_done(void *context, const struct error *result, const uint8_t *reply, size_t reply_size) {
  CLEANUP_FREE struct looked_job *job = context;
  if (!job->operation) return;
  LIST_REMOVE(job, next);
  job->done(job->operation, job->index, result, reply, reply_size);
}

int looked_submit(struct publish_operation *operation, size_t index, enum keeper_job kind, const struct buffer *payload, looked_job_done *done,
                  struct error *error) {
  if (!operation->owner->runner) return error_set(error, ERROR_INTERNAL, "publisher %s: there is no runner for its commands", operation->owner->policy->name);
  CLEANUP_FREE struct looked_job *job = malloc(sizeof(*job));
  if (!job) return error_set(error, ERROR_NO_MEMORY, "publishing: out of memory");
  *job = (struct looked_job){.operation = operation, .index = index, .done = done};
  const int result = keeper_submit(operation->owner->runner, kind, payload, operation->deadline, job_done, job, error);
  if (result) return result;
  LIST_INSERT_HEAD(&operation->jobs, job, next);
  TAKE_PTR(job);
  return 0;
}

int looked_run(struct publish_operation *operation, size_t index, const struct runner_call *call, looked_job_done *done, struct error *error) {
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  runner_call_write(&payload, call);
  return looked_submit(operation, index, KEEPER_RUN, &payload, done, error);
}

int looked_judge(const struct error *result, const uint8_t *reply, size_t reply_size, const char *what, struct error *error) {
  CLEANUP(runner_reply_release) struct runner_reply said = {0};
  if (result->code) {
    *error = *result;
    error_context(error, "%s", what);
    return error->code;
  }
  const int code = runner_reply_read(reply, reply_size, &said, error);
  return code ? code : runner_reply_judge(&said, what, error);
}

/* ---- the end ---- */

/* Nothing calls back any more; the publisher does not know it any more. */
static void operation_detach(struct publish_operation *operation) {
  struct looked *owner = operation->owner;
  struct looked_job *job = NULL;
  while ((job = LIST_FIRST(&operation->jobs))) {
    LIST_REMOVE(job, next);
    job->operation = NULL;
  }
  observer_cancel(owner->observer, &operation->look);
  loop_cancel(owner->loop, &operation->timer);
  loop_cancel(owner->loop, &operation->wakeup);
  LIST_REMOVE(operation, next);
}

static void operation_free(struct publish_operation *operation) {
  operation->owner->maker->release(operation);
  free(operation->asked);
  free(operation->asked_work);
  free(operation->work);
  free(operation->results);
  free(operation);
}

/* From the loop, so that nothing of the operation is under way when its owner hears of the end. */
static void operation_finish(void *context) {
  struct publish_operation *operation = context;
  operation->wakeup = NULL;
  operation_detach(operation);
  operation->done(operation->context, operation->results, operation->count);
  operation_free(operation);
}

static void call_later(struct publish_operation *operation, int64_t delay, loop_callback *callback) {
  struct loop *loop = operation->owner->loop;
  loop_cancel(loop, &operation->wakeup);
  /* If there is no memory for this, the deadline's timer, which exists already, ends the operation. */
  (void)!loop_at(loop, loop_boottime(loop) + delay, callback, operation, &operation->wakeup);
}

static void operation_timeout(void *context) {
  struct publish_operation *operation = context;
  operation->timer = NULL;
  for (size_t i = 0; i < operation->count; i++) {
    struct looked_item *item = &operation->work[i];
    if (item->ended) continue;
    error_set(&item->result->error, ERROR_TIMEOUT, "publisher %s: no time was left for %s; the next attempt looks whether it was done",
              operation->owner->policy->name, item->change->name);
    item->ended = true;
  }
  loop_cancel(operation->owner->loop, &operation->wakeup);
  operation_finish(operation);
}

/* ---- looks ---- */

/* Asks about all items that the round is for. false: there are none, or it failed (then they have ended). */
static bool start_look(struct publish_operation *operation, enum observe_kind kind, observe_done *done) {
  struct looked *owner = operation->owner;
  struct error error = {0};
  size_t count = 0;
  for (size_t i = 0; i < operation->count; i++) {
    const struct looked_item *item = &operation->work[i];
    const bool absent = item->change->change == PUBLISH_DELETE;
    if (item->ended || (kind != OBSERVE_SURVEY && (!item->made || absent != (kind == OBSERVE_ABSENT)))) continue;
    operation->asked_work[count] = i;
    operation->asked[count++] = (struct observe_item){.name = item->change->owner ? item->change->owner : item->change->name,
                                                      .record = absent ? item->change->record_before : item->change->record,
                                                      .record_also = absent ? item->change->record_also : NULL,
                                                      .zone = item->change->zone,
                                                      .publisher = owner->policy};
  }
  if (count == 0) return false;
  const int64_t deadline = time_min(operation->deadline, loop_boottime(owner->loop) + LOOKED_LOOK_MS);
  if (observer_start(owner->observer, kind, operation->asked, count, deadline, done, operation, &operation->look, &error) == 0) return true;
  for (size_t i = 0; i < count; i++) {
    operation->work[operation->asked_work[i]].result->error = error;
    operation->work[operation->asked_work[i]].ended = true;
  }
  return false;
}

static bool is_complete(const struct publish_operation *operation) {
  for (size_t i = 0; i < operation->count; i++)
    if (!operation->work[i].ended) return false;
  return true;
}

static void watch_again(void *context);

static void watched(void *context, const struct observe_result *results, size_t count) {
  struct publish_operation *operation = context;
  struct looked *owner = operation->owner;
  const bool over = loop_boottime(owner->loop) >= operation->watch_until;
  operation->look = NULL;
  for (size_t i = 0; i < count; i++) {
    struct looked_item *item = &operation->work[operation->asked_work[i]];
    if (!looked_judge_watch(item, &results[i]) && over) looked_explain_unseen(item, &results[i], owner);
  }
  /* A round of the one kind is followed by one of the other, if there are such items. */
  const bool present = count > 0 && operation->work[operation->asked_work[0]].change->change != PUBLISH_DELETE;
  if (present && start_look(operation, OBSERVE_ABSENT, watched)) return;
  if (is_complete(operation)) {
    call_later(operation, 0, operation_finish);
    return;
  }
  const int64_t left = operation->watch_until - loop_boottime(owner->loop);
  call_later(operation, time_max(time_min(operation->pause, left), 0), watch_again);
  operation->pause = time_min(operation->pause * 2, LOOKED_PAUSE_MAX_MS);
}

static void watch_again(void *context) {
  struct publish_operation *operation = context;
  operation->wakeup = NULL;
  if (start_look(operation, OBSERVE_PRESENT, watched) || start_look(operation, OBSERVE_ABSENT, watched)) return;
  call_later(operation, 0, operation_finish);
}

static void begin_watch(struct publish_operation *operation) {
  const int64_t wait = operation->owner->policy->wait * 1000;
  /* One look more than the wait must find room before the deadline. */
  operation->watch_until = time_min(loop_boottime(operation->owner->loop) + wait, operation->deadline - LOOKED_PAUSE_MS);
  operation->pause = LOOKED_PAUSE_MS;
  call_later(operation, 0, watch_again);
}

void looked_made(struct publish_operation *operation, size_t index, const struct error *error) {
  struct looked_item *item = &operation->work[index];
  if (!item->to_make) return;
  item->to_make = false;
  item->made = error->code == 0;
  item->ended = error->code != 0;
  if (error->code) item->result->error = *error;
  if (--operation->unmade == 0) begin_watch(operation);
}

/* Two changes of one name would each find what they look for, and leave two records there. */
static bool shares_owner(const struct publish_operation *operation, size_t index) {
  for (size_t i = 0; i < index; i++)
    if (operation->work[i].to_make && text_equal(operation->results[i].owner, operation->results[index].owner)) return true;
  return false;
}

static void surveyed(void *context, const struct observe_result *results, size_t count) {
  struct publish_operation *operation = context;
  struct error error = {0};
  operation->look = NULL;
  for (size_t i = 0; i < count; i++) {
    const size_t index = operation->asked_work[i];
    struct looked_item *item = &operation->work[index];
    looked_judge_survey(item, &results[i], operation->owner->maker, loop_wall(operation->owner->loop));
    if (item->ended) continue;
    item->ended = shares_owner(operation, index);
    if (item->ended) error_set(&item->result->error, ERROR_BUSY, "another record of the same operation goes to %s, too", item->result->owner);
    item->to_make = !item->ended;
    operation->unmade += item->to_make;
  }
  if (operation->unmade == 0) {
    call_later(operation, 0, operation_finish);
  } else if (operation->owner->maker->begin(operation, &error)) {
    for (size_t i = 0; i < operation->count; i++) looked_made(operation, i, &error);
  }
}

/* ---- the beginning ---- */

static void operation_begin(void *context) {
  struct publish_operation *operation = context;
  operation->wakeup = NULL;
  /* Nobody is asked here whose reply could attest the clock. */
  for (size_t i = 0; i < operation->count; i++) operation->work[i].ended = operation->items[i].change == PUBLISH_ATTEST;
  if (!start_look(operation, OBSERVE_SURVEY, surveyed)) call_later(operation, 0, operation_finish);
}

static int operation_prepare(struct publish_operation *operation, struct error *error) {
  struct loop *loop = operation->owner->loop;
  const size_t count = operation->count ? operation->count : 1;
  operation->results = calloc(count, sizeof(*operation->results));
  operation->work = calloc(count, sizeof(*operation->work));
  operation->asked = calloc(count, sizeof(*operation->asked));
  operation->asked_work = calloc(count, sizeof(*operation->asked_work));
  if (!operation->results || !operation->work || !operation->asked || !operation->asked_work)
    return error_set(error, ERROR_NO_MEMORY, "publishing: out of memory");
  for (size_t i = 0; i < operation->count; i++)
    operation->work[i] = (struct looked_item){.change = &operation->items[i], .result = &operation->results[i]};
  if (loop_at(loop, operation->deadline, operation_timeout, operation, &operation->timer) < 0 ||
      loop_defer(loop, operation_begin, operation, &operation->wakeup) < 0)
    return error_set(error, ERROR_NO_MEMORY, "publishing: no timer");
  return 0;
}

static int looked_start(struct publisher *publisher, const struct publish_item *items, size_t count, int64_t deadline, publisher_done *done,
                        void *context, struct publish_operation **ret_operation, struct error *error) {
  int code = publish_items_check(items, count, error);
  if (code < 0) return code;
  struct publish_operation *operation = calloc(1, sizeof(*operation));
  if (!operation) return error_set(error, ERROR_NO_MEMORY, "publishing: out of memory");
  *operation = (struct publish_operation){
      .owner = (struct looked *)publisher, .items = items, .count = count, .deadline = deadline, .done = done, .context = context};
  LIST_INIT(&operation->jobs);
  LIST_INSERT_HEAD(&operation->owner->operations, operation, next);
  code = operation_prepare(operation, error);
  if (code < 0) {
    operation_detach(operation);
    operation_free(operation);
    return code;
  }
  *ret_operation = operation;
  return 0;
}

static void looked_cancel(struct publisher *publisher, struct publish_operation *operation) {
  (void)publisher;
  operation_detach(operation);
  operation_free(operation);
}

static void looked_destroy(struct publisher *publisher) {
  struct looked *owner = (struct looked *)publisher;
  struct publish_operation *operation = NULL;
  while ((operation = LIST_FIRST(&owner->operations))) looked_cancel(publisher, operation);
  free(owner);
}

int looked_new(const struct looked *with, struct publisher **ret_publisher, struct error *error) {
  static const struct publisher_ops ops = {looked_start, looked_cancel, looked_destroy};
  struct looked *owner = malloc(sizeof(*owner));
  if (!owner) return error_set(error, ERROR_NO_MEMORY, "publisher %s: out of memory", with->policy->name);
  *owner = *with;
  owner->publisher.ops = &ops;
  LIST_INIT(&owner->operations);
  *ret_publisher = &owner->publisher;
  return 0;
}
