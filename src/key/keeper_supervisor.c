#include "dkimroll/keeper_supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/command_run.h"
#include "dkimroll/keeper_frame.h"

enum { SUPERVISOR_FRAMES_PER_TURN = 64 }; /* jobs taken before the workers get their turn */

/* A job that no worker has yet. */
struct waiting_job {
  STAILQ_ENTRY(waiting_job) link;
  uint64_t id;
  uint16_t kind;
  struct buffer octets; /* the whole frame, which the worker gets as it is */
  size_t size;
};

struct worker {
  pid_t pid; /* 0: this place is free */
  int descriptor;
  bool busy;
  bool condemned; /* killed by us: its death says nothing about the next worker */
  uint64_t id;    /* of the job, while busy */
  uint16_t kind;
  int64_t kill_at; /* boottime, milliseconds */
  struct keeper_output output;
  struct buffer input;
};

struct supervisor {
  const struct keeper_supervision *supervision;
  int descriptor; /* -1: the loop side is gone */
  struct worker workers[KEEPER_WORKERS_MAX];
  STAILQ_HEAD(, waiting_job) jobs;
  size_t job_count;
  size_t job_octets;
  struct keeper_output output;
  struct buffer input;
  unsigned deaths; /* in a row */
  int64_t respawn_at;
  bool finishing; /* no new jobs; ends when the workers have ended, or at finish_at */
  int64_t finish_at;
  int status;
};

static void waiting_job_free(struct supervisor *supervisor, struct waiting_job *job) {
  supervisor->job_count--;
  supervisor->job_octets -= job->size;
  buffer_release(&job->octets);
  free(job);
}

/* The oldest, but the making of keys comes last: it is the only work that takes long, many keys are asked for at once, and a switch of the signer, which has
 * a deadline, must not wait behind them. NULL: there is none. */
static struct waiting_job *waiting_job_take(struct supervisor *supervisor) {
  struct waiting_job *job = NULL;
  STAILQ_FOREACH(job, &supervisor->jobs, link) {
    if (job->kind != KEEPER_GENERATE) break;
  }
  if (!job) job = STAILQ_FIRST(&supervisor->jobs);
  if (job) STAILQ_REMOVE(&supervisor->jobs, job, waiting_job, link);
  return job;
}

/* Closes the stream: the loop side, if it is there, learns that every job it waits for has failed. */
static void supervisor_hang_up(struct supervisor *supervisor) {
  if (supervisor->descriptor >= 0) close(TAKE_FD(supervisor->descriptor));
  keeper_output_release(&supervisor->output);
}

/* No more jobs. Workers end when they have done what they have and find the end of their stream. */
static void supervisor_finish(struct supervisor *supervisor, int status) {
  if (supervisor->finishing) return;
  supervisor->finishing = true;
  supervisor->finish_at = clock_boottime() + supervisor->supervision->patience.finish;
  supervisor->status = status;
  struct waiting_job *job = NULL;
  while ((job = waiting_job_take(supervisor))) waiting_job_free(supervisor, job);
  for (size_t i = 0; i < KEEPER_WORKERS_MAX; i++) {
    struct worker *worker = &supervisor->workers[i];
    if (worker->pid == 0) continue;
    keeper_output_release(&worker->output);
    shutdown(worker->descriptor, SHUT_WR);
  }
}

/* Without memory for an answer the loop side would wait in vain, so it gets the end of the stream. */
static void supervisor_send(struct supervisor *supervisor, struct buffer *frame) {
  if (supervisor->descriptor < 0 || keeper_output_add(&supervisor->output, frame, NULL) == 0) return;
  supervisor_hang_up(supervisor);
  supervisor_finish(supervisor, EXIT_FAILURE);
}

static void supervisor_answer(struct supervisor *supervisor, uint64_t id, uint16_t kind, const struct error *result) {
  CLEANUP(buffer_release) struct buffer frame = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  if (keeper_reply_write(id, kind, result, NULL, &frame, NULL) == 0) {
    supervisor_send(supervisor, &frame);
    return;
  }
  supervisor_hang_up(supervisor);
  supervisor_finish(supervisor, EXIT_FAILURE);
}

static void supervisor_flush(struct supervisor *supervisor) {
  enum keeper_progress progress = KEEPER_COMPLETE;
  if (supervisor->descriptor < 0) return;
  int result = keeper_output_send(supervisor->descriptor, &supervisor->output, &progress, NULL);
  if (result == 0 && progress != KEEPER_ENDED) return;
  supervisor_hang_up(supervisor);
  supervisor_finish(supervisor, EXIT_SUCCESS);
}

static void supervisor_give_up(struct supervisor *supervisor) {
  struct error reason = {0};
  error_set(&reason, ERROR_SYSTEM, "the keeper gave up, because %u of its workers ended one after the other",
            supervisor->deaths);
  error_remedy(&reason, "look into `journalctl -k` for the reason, then start dkimroll again");
  struct waiting_job *job = NULL;
  while ((job = waiting_job_take(supervisor))) {
    supervisor_answer(supervisor, job->id, job->kind, &reason);
    waiting_job_free(supervisor, job);
  }
  supervisor_finish(supervisor, EXIT_FAILURE);
}

/* A worker that died, or could not be made: the next one comes later and later. */
static void supervisor_count_death(struct supervisor *supervisor) {
  int64_t now = clock_boottime();
  if (now > supervisor->respawn_at + KEEPER_DEATHS_FORGOTTEN) supervisor->deaths = 0;
  int64_t delay = supervisor->supervision->patience.respawn_first;
  for (unsigned i = 0; i < supervisor->deaths && delay < KEEPER_RESPAWN_MAX; i++) delay *= 2;
  supervisor->deaths++;
  supervisor->respawn_at = now + time_min(delay, KEEPER_RESPAWN_MAX);
  if (supervisor->deaths >= KEEPER_DEATHS_MAX) supervisor_give_up(supervisor);
}

static int worker_describe_end(const struct worker *worker, int status, struct error *result) {
  if (worker->condemned) {
    return error_set(result, ERROR_TIMEOUT, "the job ran on long after its deadline, and its worker was ended");
  }
  if (WIFSIGNALED(status)) {
    error_set(result, ERROR_SYSTEM, "the keeper's worker was ended by signal %d (%s) in the middle of this job",
              WTERMSIG(status), strsignal(WTERMSIG(status)));
  } else {
    error_set(result, ERROR_SYSTEM, "the keeper's worker ended with status %d in the middle of this job",
              WEXITSTATUS(status));
  }
  return error_remedy(result, "dkimroll tries again; if it stays so, `journalctl -k` tells whether memory ran out");
}

/* Frees the place of a worker that is gone, or not to be trusted any more, and answers for it. */
static void supervisor_bury(struct supervisor *supervisor, struct worker *worker) {
  int status = 0;
  kill(worker->pid, SIGKILL);
  while (waitpid(worker->pid, &status, 0) < 0 && errno == EINTR) continue;
  close(worker->descriptor);
  keeper_output_release(&worker->output);
  buffer_release(&worker->input);
  struct error result = {0};
  worker_describe_end(worker, status, &result);
  if (worker->busy) supervisor_answer(supervisor, worker->id, worker->kind, &result);
  bool count = !worker->condemned && !supervisor->finishing;
  *worker = (struct worker){.descriptor = -1};
  if (count) supervisor_count_death(supervisor);
}

static void worker_send(struct supervisor *supervisor, struct worker *worker) {
  enum keeper_progress progress = KEEPER_COMPLETE;
  /* Its end is noticed by reading, after an answer that is still there. */
  if (keeper_output_send(worker->descriptor, &worker->output, &progress, NULL) < 0) supervisor_bury(supervisor, worker);
}

static void worker_receive(struct supervisor *supervisor, struct worker *worker) {
  enum keeper_progress progress = KEEPER_PARTIAL;
  int result = keeper_frame_receive(worker->descriptor, &worker->input, &progress, NULL);
  if (result == 0 && progress == KEEPER_PARTIAL) return;
  struct keeper_frame frame = {.id = 0};
  if (result == 0 && progress == KEEPER_COMPLETE) result = keeper_frame_read(&worker->input, &frame, NULL);
  if (result < 0 || progress == KEEPER_ENDED || !worker->busy || frame.id != worker->id) {
    supervisor_bury(supervisor, worker);
    return;
  }
  worker->busy = false;
  worker->kill_at = TIME_NEVER;
  supervisor->deaths = 0;
  supervisor_send(supervisor, &worker->input);
  buffer_release(&worker->input);
}

static struct worker *supervisor_spawn(struct supervisor *supervisor, struct worker *place) {
  if (clock_boottime() < supervisor->respawn_at) return NULL;
  int descriptor = -1;
  pid_t pid = 0;
  if (keeper_worker_fork(&supervisor->supervision->handlers, &descriptor, &pid, NULL) < 0) {
    supervisor_count_death(supervisor);
    return NULL;
  }
  *place = (struct worker){.pid = pid, .descriptor = descriptor, .kill_at = TIME_NEVER};
  place->input = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  keeper_output_init(&place->output);
  return place;
}

/* An idle worker, or a new one; NULL: all are busy, or it is too early after a death. */
static struct worker *supervisor_find_worker(struct supervisor *supervisor) {
  struct worker *vacant = NULL;
  for (size_t i = 0; i < supervisor->supervision->workers; i++) {
    struct worker *worker = &supervisor->workers[i];
    if (worker->pid != 0 && !worker->busy) return worker;
    if (worker->pid == 0 && !vacant) vacant = worker;
  }
  return vacant ? supervisor_spawn(supervisor, vacant) : NULL;
}

static void supervisor_dispatch(struct supervisor *supervisor) {
  /* Answers that the loop side does not fetch must not pile up. */
  while (supervisor->job_count > 0 && supervisor->output.octets < KEEPER_MESSAGE_MAX) {
    struct worker *worker = supervisor_find_worker(supervisor);
    struct waiting_job *job = worker ? waiting_job_take(supervisor) : NULL;
    if (!job) return;
    worker->busy = true;
    worker->id = job->id;
    worker->kind = job->kind;
    if (keeper_output_add(&worker->output, &job->octets, NULL) < 0)
      supervisor_bury(supervisor, worker);
    else
      worker_send(supervisor, worker);
    waiting_job_free(supervisor, job);
  }
}

/* The loop side does not wait for this job any more: it is not begun, or gets a while to come to its end. */
static void supervisor_cancel(struct supervisor *supervisor, uint64_t id) {
  struct waiting_job *job = NULL;
  STAILQ_FOREACH(job, &supervisor->jobs, link) {
    if (job->id == id) break;
  }
  if (job) {
    struct error cancelled = {0};
    error_set(&cancelled, ERROR_CANCELLED, "the job was not begun");
    STAILQ_REMOVE(&supervisor->jobs, job, waiting_job, link);
    supervisor_answer(supervisor, job->id, job->kind, &cancelled);
    waiting_job_free(supervisor, job);
    return;
  }
  for (size_t i = 0; i < supervisor->supervision->workers; i++) {
    struct worker *worker = &supervisor->workers[i];
    if (worker->pid != 0 && worker->busy && worker->id == id)
      worker->kill_at = clock_boottime() + supervisor->supervision->patience.grace;
  }
}

static int supervisor_queue(struct supervisor *supervisor, const struct keeper_frame *frame) {
  if (supervisor->job_count >= KEEPER_JOBS_MAX || supervisor->job_octets > KEEPER_WINDOW) return ERROR_LIMIT;
  struct waiting_job *job = malloc(sizeof(*job));
  if (!job) return ERROR_NO_MEMORY;
  *job = (struct waiting_job){.id = frame->id, .kind = frame->kind, .octets = supervisor->input};
  job->size = job->octets.size;
  supervisor->input = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  STAILQ_INSERT_TAIL(&supervisor->jobs, job, link);
  supervisor->job_count++;
  supervisor->job_octets += job->size;
  return 0;
}

static int supervisor_take_frame(struct supervisor *supervisor) {
  struct keeper_frame frame;
  int result = keeper_frame_read(&supervisor->input, &frame, NULL);
  if (result == 0 && frame.kind == KEEPER_KIND_CANCEL)
    supervisor_cancel(supervisor, frame.id);
  else if (result == 0)
    result = supervisor_queue(supervisor, &frame);
  buffer_release(&supervisor->input);
  return result;
}

static void supervisor_receive(struct supervisor *supervisor) {
  enum keeper_progress progress = KEEPER_COMPLETE;
  int result = 0;
  for (int i = 0; i < SUPERVISOR_FRAMES_PER_TURN && result == 0 && progress == KEEPER_COMPLETE; i++) {
    if (supervisor->finishing) return;
    result = keeper_frame_receive(supervisor->descriptor, &supervisor->input, &progress, NULL);
    if (result == 0 && progress == KEEPER_COMPLETE) result = supervisor_take_frame(supervisor);
  }
  if (result == 0 && progress != KEEPER_ENDED) return;
  /* Beside the orderly end: a loop side that breaks the protocol or its limits. It learns of it by the end of the stream. */
  supervisor_hang_up(supervisor);
  supervisor_finish(supervisor, result == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

/* Kills what runs on too long after its deadline. That it is dead shows at its socket, which may take long on a file system that hangs. */
static void supervisor_kill_overdue(struct supervisor *supervisor, int64_t now) {
  for (size_t i = 0; i < supervisor->supervision->workers; i++) {
    struct worker *worker = &supervisor->workers[i];
    if (worker->pid == 0 || worker->kill_at > now) continue;
    kill(worker->pid, SIGKILL);
    worker->condemned = true;
    worker->kill_at = TIME_NEVER;
  }
}

/* What poll(2) is asked for: the stream, the parent's end, and the worker of each place. */
enum { POLL_STREAM = 0, POLL_PARENT = 1, POLL_WORKERS = 2, POLL_COUNT = POLL_WORKERS + KEEPER_WORKERS_MAX };

/* Jobs wait for nothing but the moment at which a dead worker's place may be filled again. */
static bool supervisor_waits_for_respawn(const struct supervisor *supervisor) {
  if (supervisor->job_count == 0 || supervisor->output.octets >= KEEPER_MESSAGE_MAX) return false;
  for (size_t i = 0; i < supervisor->supervision->workers; i++) {
    if (supervisor->workers[i].pid == 0) return true;
  }
  return false;
}

static int supervisor_prepare_poll(const struct supervisor *supervisor, struct pollfd polled[POLL_COUNT]) {
  bool room = keeper_output_is_empty(&supervisor->output);
  short stream = (short)((supervisor->finishing ? 0 : POLLIN) | (room ? 0 : POLLOUT));
  polled[POLL_STREAM] = (struct pollfd){.fd = supervisor->descriptor, .events = stream};
  polled[POLL_PARENT] = (struct pollfd){.fd = supervisor->supervision->signal_descriptor, .events = POLLIN};
  if (supervisor->finishing) polled[POLL_PARENT].fd = -1;
  int64_t next = supervisor->finishing ? supervisor->finish_at : TIME_NEVER;
  int64_t now = clock_boottime();
  /* Even if it has passed since the last look: nothing else would wake us. */
  if (supervisor_waits_for_respawn(supervisor)) next = time_min(next, supervisor->respawn_at);
  for (size_t i = 0; i < KEEPER_WORKERS_MAX; i++) {
    const struct worker *worker = &supervisor->workers[i];
    polled[POLL_WORKERS + i] = (struct pollfd){.fd = -1};
    if (worker->pid == 0) continue;
    bool sent = keeper_output_is_empty(&worker->output);
    polled[POLL_WORKERS + i] =
        (struct pollfd){.fd = worker->descriptor, .events = (short)(sent ? POLLIN : POLLIN | POLLOUT)};
    next = time_min(next, worker->kill_at);
  }
  if (next == TIME_NEVER) return -1;
  return next > now ? (int)time_min(next - now, KEEPER_GRACE) : 0;
}

static void supervisor_serve(struct supervisor *supervisor, const struct pollfd polled[POLL_COUNT]) {
  for (size_t i = 0; i < supervisor->supervision->workers; i++) {
    struct worker *worker = &supervisor->workers[i];
    short events = polled[POLL_WORKERS + i].revents;
    if (worker->pid != 0 && (events & POLLOUT) != 0) worker_send(supervisor, worker);
    if (worker->pid != 0 && (events & (POLLIN | POLLHUP | POLLERR)) != 0) worker_receive(supervisor, worker);
  }
  short events = polled[POLL_STREAM].revents;
  bool readable = supervisor->descriptor >= 0 && (events & (POLLIN | POLLHUP | POLLERR)) != 0;
  if (readable && supervisor->finishing)
    supervisor_hang_up(supervisor);
  else if (readable)
    supervisor_receive(supervisor);
  if (polled[POLL_PARENT].revents != 0) {
    supervisor_hang_up(supervisor);
    supervisor_finish(supervisor, EXIT_SUCCESS);
  }
  supervisor_kill_overdue(supervisor, clock_boottime());
  if (!supervisor->finishing) supervisor_dispatch(supervisor);
  supervisor_flush(supervisor);
}

static bool supervisor_has_finished(const struct supervisor *supervisor) {
  if (!supervisor->finishing) return false;
  if (clock_boottime() >= supervisor->finish_at) return true;
  for (size_t i = 0; i < supervisor->supervision->workers; i++) {
    if (supervisor->workers[i].pid != 0) return false;
  }
  return keeper_output_is_empty(&supervisor->output);
}

static bool supervisor_signal_rest(struct supervisor *supervisor, int signal) {
  bool left = false;
  for (size_t i = 0; i < supervisor->supervision->workers; i++) {
    struct worker *worker = &supervisor->workers[i];
    if (worker->pid == 0) continue;
    if (signal) kill(worker->pid, signal);
    if (waitpid(worker->pid, NULL, WNOHANG) == worker->pid) worker->pid = 0;
    left |= worker->pid != 0;
  }
  return left;
}

/* A worker that runs a command ends that first, lest it go on beside the next call of it. What hangs in the kernel then is not waited for: init reaps it. */
static void supervisor_kill_rest(struct supervisor *supervisor) {
  const int64_t until = clock_boottime() + KEEPER_LAST_WORDS;
  bool left = supervisor_signal_rest(supervisor, COMMAND_END_SIGNAL);
  while (left && clock_boottime() < until) {
    poll(NULL, 0, KEEPER_LAST_LOOK);
    left = supervisor_signal_rest(supervisor, 0);
  }
  supervisor_signal_rest(supervisor, SIGKILL);
}

int keeper_supervise(const struct keeper_supervision *supervision) {
  struct supervisor supervisor = {.supervision = supervision, .descriptor = supervision->descriptor};
  STAILQ_INIT(&supervisor.jobs);
  keeper_output_init(&supervisor.output);
  supervisor.input = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  while (!supervisor_has_finished(&supervisor)) {
    struct pollfd polled[POLL_COUNT];
    int timeout = supervisor_prepare_poll(&supervisor, polled);
    if (poll(polled, POLL_COUNT, timeout) < 0) {
      if (errno == EINTR) continue;
      supervisor_hang_up(&supervisor);
      supervisor_finish(&supervisor, EXIT_FAILURE);
      break;
    }
    supervisor_serve(&supervisor, polled);
  }
  supervisor_kill_rest(&supervisor);
  supervisor_hang_up(&supervisor);
  buffer_release(&supervisor.input);
  return supervisor.status;
}
