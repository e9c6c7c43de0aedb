/* The keeper's seam: the real handlers on real files, with a keeper that fails before or after the effect, is late, or dies. Reloads reach the simulated signers. */
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/keeper_worker.h"
#include "dkimroll/text.h"
#include "sim.h"

struct sim_job {
  struct sim_keeper *keeper;
  enum keeper_job job;
  struct buffer payload;
  int64_t deadline;
  keeper_done *done;
  void *context;
  struct loop_source *timer;
  bool answered; /* with a time-out: the effect still comes */
  TAILQ_ENTRY(sim_job) next;
};

struct sim_keeper {
  struct keeper keeper;
  struct sim *sim;
  struct keeper_handlers handlers;
  bool closing;
  TAILQ_HEAD(, sim_job) jobs;
};

static void job_free(struct sim_job *job) {
  TAILQ_REMOVE(&job->keeper->jobs, job, next);
  loop_cancel(job->keeper->sim->loop, &job->timer);
  buffer_release(&job->payload);
  free(job);
}

static void job_end(struct sim_job *job, const struct error *result, const struct buffer *reply) {
  keeper_done *const done = job->done;
  void *const context = job->context;
  sim_oracle_octets(job->keeper->sim, "an answer of the keeper", reply->data, reply->size);
  sim_oracle_octets(job->keeper->sim, "an error of the keeper", result->message, strlen(result->message));
  job_free(job);
  done(context, result, result->code ? NULL : reply->data, result->code ? 0 : reply->size);
}

/* The path that a job on one file is about. */
static void take_path(const struct sim_job *job, bool generate, char *path, size_t size) {
  struct reader reader = {.data = job->payload.data, .size = job->payload.size};
  size_t length = 0;
  if (generate) {
    (void)reader_u8(&reader);
    (void)reader_u32(&reader);
  }
  const char *text = (const char *)reader_field(&reader, &length);
  snprintf(path, size, "%.*s", (int)length, text ? text : "");
}

static void judge_edit(struct sim *sim, const char *before) {
  CLEANUP_FREE char *after = sim_tables_of_others(sim);
  if (!text_equal(before, after)) sim_violate(sim, "I4", "an edit of tables changed lines of others: \"%s\" is \"%s\" now", before, after);
}

static void run_job(struct sim_job *job, struct buffer *reply, struct error *result) {
  struct sim *sim = job->keeper->sim;
  struct reader request = {.data = job->payload.data, .size = job->payload.size};
  char path[512];
  CLEANUP_FREE char *others = job->job == KEEPER_EDIT_TABLES ? sim_tables_of_others(sim) : NULL;
  if (job->job == KEEPER_DESTROY || job->job == KEEPER_ARCHIVE) {
    take_path(job, false, path, sizeof path);
    sim_oracle_key_gone(sim, path);
  }
  keeper_job_run(&job->keeper->handlers, job->job, &request, reply, result);
  if (job->job == KEEPER_GENERATE && result->code == 0) {
    take_path(job, true, path, sizeof path);
    sim_oracle_key_made(sim, path);
  }
  const bool alive = !sim_files_are_dark(&sim->files) || sim->worker_is_killed;
  if (alive && others) judge_edit(sim, others);
  if (alive && (job->job == KEEPER_EDIT_TABLES || job->job == KEEPER_RELOAD)) sim_mail_pulse(sim);
}

/* The worker, or the whole host, ended in the middle of a job. true: the host; nobody is told any more. */
static bool has_ended(struct sim *sim, struct error *result) {
  if (!sim_files_are_dark(&sim->files)) return false;
  if (!sim->worker_is_killed) {
    sim_power_cut(sim);
    return true;
  }
  sim_trace(sim, "a worker of the keeper is killed in the middle of a job");
  sim_files_kill(&sim->files);
  sim->worker_is_killed = false;
  error_set(result, ERROR_SYSTEM, "the worker died");
  return false;
}

static void job_fire(void *context) {
  struct sim_job *job = context;
  struct sim *sim = job->keeper->sim;
  struct buffer reply = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  struct error result = {0};
  const int64_t now = sim_loop_now(sim->clock);
  job->timer = NULL;
  if (sim->keeper_dies && !sim->keeper_dead) {
    sim->keeper_dead = true;
    sim_trace(sim, "the keeper is gone");
  }
  const bool fails = sim->keeper_fails_until > now && SIM_RANDOM(sim, 100) < sim->keeper_fails;
  const bool effect = !sim->keeper_dead && (!fails || SIM_RANDOM(sim, 2));
  if (effect) run_job(job, &reply, &result);
  if (sim->keeper_dead)
    error_set(&result, ERROR_UNREACHABLE, "the keeper has ended");
  else if (fails)
    error_set(&result, ERROR_SYSTEM, "the worker died");
  if (!has_ended(sim, &result)) job_end(job, &result, &reply);
  buffer_release(&reply);
}

static void job_timeout(void *context) {
  struct sim_job *job = context;
  struct sim *sim = job->keeper->sim;
  struct buffer reply = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  struct error result = {0};
  job->timer = NULL;
  /* A job that was begun may take effect before, after or not at all; of the three the middle one is the test of job_fire's order. */
  if (SIM_RANDOM(sim, 2)) run_job(job, &reply, &result);
  if (has_ended(sim, &result)) {
    buffer_release(&reply);
    return;
  }
  error_set(&result, ERROR_TIMEOUT, "the keeper's job was not done in time");
  job_end(job, &result, &reply);
  buffer_release(&reply);
}

static int keeper_sim_submit(struct keeper *base, enum keeper_job kind, const struct buffer *payload, int64_t deadline,
                             keeper_done *done, void *context, struct error *error) {
  struct sim_keeper *keeper = (struct sim_keeper *)base;
  struct sim *sim = keeper->sim;
  if (keeper->closing) return error_set(error, ERROR_CANCELLED, "the keeper is being closed");
  if (sim->keeper_dead) return error_set(error, ERROR_UNREACHABLE, "the keeper has ended");
  struct sim_job *job = calloc(1, sizeof *job);
  if (!job) abort();
  *job = (struct sim_job){.keeper = keeper, .job = kind, .deadline = deadline, .done = done, .context = context};
  job->payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  if (payload->size) buffer_add(&job->payload, payload->data, payload->size);
  sim_oracle_octets(sim, "a job for the keeper", payload->data, payload->size);
  TAILQ_INSERT_TAIL(&keeper->jobs, job, next);
  if (kind != KEEPER_LOOK_TABLES) sim_oracle_effort(sim); /* looks are as many as there are runs */
  const bool hangs = deadline < INT64_MAX / 4 && sim->keeper_hangs_until > sim_loop_now(sim->clock) && SIM_RANDOM(sim, 100) < sim->keeper_hangs;
  const int64_t moment = hangs ? deadline : loop_boottime(sim->loop) + 1 + SIM_RANDOM(sim, 20);
  if (loop_at(sim->loop, moment, hangs ? job_timeout : job_fire, job, &job->timer)) abort();
  return 0;
}

static void keeper_sim_destroy(struct keeper *base) {
  struct sim_keeper *keeper = (struct sim_keeper *)base;
  struct error cancelled = {0};
  struct buffer none = BUFFER_WITH_MAXIMUM(1);
  keeper->closing = true;
  error_set(&cancelled, ERROR_CANCELLED, "the keeper was closed before this job was done");
  while (!TAILQ_EMPTY(&keeper->jobs)) job_end(TAILQ_FIRST(&keeper->jobs), &cancelled, &none);
  free(keeper);
}

struct keeper *sim_keeper_new(struct sim *sim, const struct keeper_handler *handlers, size_t count) {
  static const struct keeper_ops ops = {.submit = keeper_sim_submit, .destroy = keeper_sim_destroy};
  struct sim_keeper *keeper = calloc(1, sizeof *keeper);
  if (!keeper) abort();
  keeper->keeper.ops = &ops;
  keeper->sim = sim;
  keeper->handlers = (struct keeper_handlers){.items = handlers, .count = count};
  TAILQ_INIT(&keeper->jobs);
  sim->keeper_dead = sim->keeper_dies = false;
  return &keeper->keeper;
}
