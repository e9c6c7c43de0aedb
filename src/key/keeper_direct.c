/* The keeper without any process of its own, for tests. */
#include "dkimroll/keeper.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/keeper_worker.h"

struct direct;

struct direct_job {
  TAILQ_ENTRY(direct_job) link;
  struct direct *direct;
  struct loop_source *source;
  enum keeper_job job;
  struct buffer payload;
  int64_t deadline;
  keeper_done *done;
  void *context;
};

struct direct {
  struct keeper keeper;
  struct loop *loop;
  struct keeper_handlers handlers;
  TAILQ_HEAD(, direct_job) jobs;
  bool closing;
};

static void direct_job_free(struct direct_job *job) {
  if (!job) return;
  buffer_release(&job->payload);
  free(job);
}

static void cleanup_direct_job(struct direct_job **job) {
  direct_job_free(*job);
}

static void direct_job_fire(void *context) {
  CLEANUP(cleanup_direct_job) struct direct_job *job = context;
  TAILQ_REMOVE(&job->direct->jobs, job, link);
  CLEANUP(buffer_release) struct buffer reply = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  struct error result = {0};
  if (loop_boottime(job->direct->loop) >= job->deadline) {
    error_set(&result, ERROR_TIMEOUT, "the keeper's job %d was not begun before its deadline", (int)job->job);
  } else {
    struct reader request = {.data = job->payload.data, .size = job->payload.size};
    keeper_job_run(&job->direct->handlers, job->job, &request, &reply, &result);
  }
  job->done(job->context, &result, reply.data, reply.size);
}

static int direct_submit(struct keeper *keeper, enum keeper_job kind, const struct buffer *payload, int64_t deadline,
                         keeper_done *done, void *context, struct error *error) {
  struct direct *direct = (struct direct *)keeper;
  if (direct->closing) return error_set(error, ERROR_CANCELLED, "the keeper is being closed");
  CLEANUP(cleanup_direct_job) struct direct_job *job = calloc(1, sizeof(*job));
  if (!job) return error_set(error, ERROR_NO_MEMORY, "out of memory while a job was given to the keeper");
  *job = (struct direct_job){.direct = direct, .job = kind, .deadline = deadline, .done = done, .context = context};
  job->payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  if (payload->size > 0) buffer_add(&job->payload, payload->data, payload->size);
  if (job->payload.failed)
    return error_set(error, ERROR_NO_MEMORY, "out of memory while a job was given to the keeper");
  int result = loop_defer(direct->loop, direct_job_fire, job, &job->source);
  if (result < 0) return error_set(error, result, result == ERROR_NO_MEMORY ? "out of memory for a job of the keeper" : "the loop does not take a job of the keeper");
  TAILQ_INSERT_TAIL(&direct->jobs, job, link);
  job = NULL;
  return 0;
}

static void direct_destroy(struct keeper *keeper) {
  struct direct *direct = (struct direct *)keeper;
  direct->closing = true;
  struct error cancelled = {0};
  error_set(&cancelled, ERROR_CANCELLED, "the keeper was closed before this job was done");
  struct direct_job *job = NULL;
  while ((job = TAILQ_FIRST(&direct->jobs))) {
    TAILQ_REMOVE(&direct->jobs, job, link);
    loop_cancel(direct->loop, &job->source);
    job->done(job->context, &cancelled, NULL, 0);
    direct_job_free(job);
  }
  free(direct);
}

static const struct keeper_ops direct_ops = {.submit = direct_submit, .destroy = direct_destroy};

int keeper_direct_new(struct loop *loop, const struct keeper_handler *handlers, size_t handler_count,
                      struct keeper **ret_keeper, struct error *error) {
  struct direct *direct = malloc(sizeof(*direct));
  if (!direct) return error_set(error, ERROR_NO_MEMORY, "out of memory while the keeper was made");
  *direct = (struct direct){.keeper.ops = &direct_ops, .loop = loop, .handlers = {handlers, handler_count, NULL}};
  TAILQ_INIT(&direct->jobs);
  *ret_keeper = &direct->keeper;
  return 0;
}
