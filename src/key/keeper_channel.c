/* The loop side of the keeper: jobs wait here, go out while the window allows, and are ended by their answer, their deadline, or the loss of
 * the supervisor. Every job that went out is answered exactly once, so that the window stays right even for jobs that nobody waits for. */
#include "dkimroll/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/queue.h>
#include <sys/wait.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/keeper_frame.h"
#include "dkimroll/keeper_supervisor.h"

enum {
  CHANNEL_FRAMES_PER_TURN = 64, /* answers taken in one callback, so that others get their turn */
  CHANNEL_CLOSE_TIMEOUT =
      KEEPER_FINISH + KEEPER_LAST_WORDS + 2000, /* milliseconds: what the supervisor needs to end its workers, and some */
};

struct channel;

struct channel_job {
  TAILQ_ENTRY(channel_job) link;
  struct channel *channel;
  uint64_t id;
  struct buffer frame; /* until it is sent */
  size_t octets;
  bool sent;
  struct loop_source *timer; /* NULL: fired, or no deadline */
  keeper_done *done;         /* NULL: nobody waits any more */
  void *context;
};

TAILQ_HEAD(channel_jobs, channel_job);

struct channel {
  struct keeper keeper;
  struct loop *loop;
  int descriptor;
  pid_t pid; /* 0: no child of ours */
  struct loop_source *watch;
  unsigned watched;
  struct loop_source *pump;    /* NULL: nothing was submitted in this callback */
  struct channel_jobs waiting; /* oldest first, like sent */
  struct channel_jobs sent;
  size_t job_count;
  size_t job_octets;
  size_t window_used;
  uint64_t last_id;
  struct keeper_output output;
  struct buffer input;
  bool closing;
  struct error lost; /* code 0: the supervisor lives */
};

static void channel_pump(struct channel *channel);

static void channel_job_free(struct channel_job *job) {
  if (!job) return;
  if (job->channel) loop_cancel(job->channel->loop, &job->timer);
  buffer_release(&job->frame);
  free(job);
}

static void cleanup_channel_job(struct channel_job **job) {
  channel_job_free(*job);
}

/* Takes the job off its list; the caller frees it. */
static void channel_job_remove(struct channel *channel, struct channel_job *job) {
  if (job->sent) {
    TAILQ_REMOVE(&channel->sent, job, link);
    channel->window_used -= job->octets;
  } else {
    TAILQ_REMOVE(&channel->waiting, job, link);
  }
  channel->job_count--;
  channel->job_octets -= job->octets;
}

static void channel_job_finish(struct channel_job *job, const struct error *result, const struct reader *reply) {
  keeper_done *done = job->done;
  void *context = job->context;
  channel_job_free(job);
  if (!done) return;
  size_t size = reply ? reply->size - reply->position : 0;
  done(context, result, size > 0 ? reply->data + reply->position : NULL, size);
}

static void channel_fail_all(struct channel *channel, const struct error *result) {
  struct channel_job *job = NULL;
  while ((job = TAILQ_FIRST(&channel->sent)) || (job = TAILQ_FIRST(&channel->waiting))) {
    channel_job_remove(channel, job);
    channel_job_finish(job, result, NULL);
  }
}

/* The supervisor is gone or not to be understood: everything fails, now and from now on. */
static void channel_lose(struct channel *channel, const struct error *reason) {
  if (channel->lost.code != 0) return;
  channel->lost = *reason;
  loop_cancel(channel->loop, &channel->watch);
  keeper_output_release(&channel->output);
  buffer_release(&channel->input);
  close(TAKE_FD(channel->descriptor));
  /* A copy, since a callback may look at nothing of ours that changes. */
  struct error lost = channel->lost;
  channel_fail_all(channel, &lost);
}

static void channel_lose_ended(struct channel *channel) {
  struct error reason = {0};
  if (channel->pid > 0) {
    error_set(&reason, ERROR_UNREACHABLE, "the keeper (process %d), which makes keys and edits tables, has ended",
              (int)channel->pid);
    error_remedy(&reason, "start dkimroll again; `journalctl -k` tells whether the kernel ended it for want of memory");
  } else {
    error_set(&reason, ERROR_UNREACHABLE, "the keeper, which makes keys and edits tables, has closed the connection");
    error_remedy(&reason, "`journalctl -u 'dkimroll-keeper@*'` tells why; then start dkimroll again");
  }
  channel_lose(channel, &reason);
}

static struct channel_job *channel_find_sent(struct channel *channel, uint64_t id) {
  struct channel_job *job = NULL;
  /* Workers take the oldest first, so what is answered is near the head. */
  TAILQ_FOREACH(job, &channel->sent, link) {
    if (job->id == id) return job;
  }
  return NULL;
}

static void channel_take_reply(struct channel *channel) {
  CLEANUP(buffer_release) struct buffer octets = channel->input;
  channel->input = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  struct keeper_frame frame;
  struct error result = {0};
  struct error reason = {0};
  int code = keeper_frame_read(&octets, &frame, &reason);
  if (code == 0) code = keeper_reply_read(&frame.payload, &result, &reason);
  struct channel_job *job = code == 0 ? channel_find_sent(channel, frame.id) : NULL;
  if (code == 0 && !job) {
    error_set(&reason, ERROR_PROTOCOL, "the keeper answered a job that it was not given");
  }
  if (!job) {
    channel_lose(channel, &reason);
    return;
  }
  channel_job_remove(channel, job);
  channel_job_finish(job, &result, &frame.payload);
}

static void channel_receive(struct channel *channel) {
  enum keeper_progress progress = KEEPER_COMPLETE;
  for (int i = 0; i < CHANNEL_FRAMES_PER_TURN && progress == KEEPER_COMPLETE && channel->lost.code == 0; i++) {
    struct error reason = {0};
    if (keeper_frame_receive(channel->descriptor, &channel->input, &progress, &reason) < 0) {
      channel_lose(channel, &reason);
    } else if (progress == KEEPER_ENDED) {
      channel_lose_ended(channel);
    } else if (progress == KEEPER_COMPLETE) {
      channel_take_reply(channel);
    }
  }
}

static void channel_ready(void *context, unsigned events) {
  struct channel *channel = context;
  if ((events & (LOOP_READABLE | LOOP_HANGUP)) != 0) channel_receive(channel);
  channel_pump(channel);
}

/* Asks the loop for what is needed now: answers always, room to write only while there is something to write. */
static int channel_watch(struct channel *channel, unsigned events, struct error *error) {
  if (channel->watch && channel->watched == events) return 0;
  /* The old one goes first: epoll takes a descriptor only once. */
  loop_cancel(channel->loop, &channel->watch);
  int result = loop_watch(channel->loop, channel->descriptor, events, channel_ready, channel, &channel->watch);
  if (result < 0) return error_set(error, result, "the loop does not watch the keeper's socket");
  channel->watched = events;
  return 0;
}

static int channel_send_job(struct channel *channel, struct channel_job *job, struct error *error) {
  int result = keeper_output_add(&channel->output, &job->frame, error);
  if (result < 0) return result;
  TAILQ_REMOVE(&channel->waiting, job, link);
  TAILQ_INSERT_TAIL(&channel->sent, job, link);
  job->sent = true;
  channel->window_used += job->octets;
  return 0;
}

static int channel_send(struct channel *channel, struct error *error) {
  struct channel_job *job = NULL;
  while ((job = TAILQ_FIRST(&channel->waiting))) {
    bool fits = channel->window_used == 0 || channel->window_used + job->octets <= KEEPER_WINDOW;
    if (!fits) break;
    int result = channel_send_job(channel, job, error);
    if (result < 0) return result;
  }
  enum keeper_progress progress = KEEPER_COMPLETE;
  int result = keeper_output_send(channel->descriptor, &channel->output, &progress, error);
  if (result < 0) return result;
  /* An end is noticed by reading, after the answers that are still there. */
  unsigned events = LOOP_READABLE | (progress == KEEPER_PARTIAL ? LOOP_WRITABLE : 0U);
  return channel_watch(channel, events, error);
}

static void channel_pump(struct channel *channel) {
  if (channel->lost.code != 0) return;
  struct error reason = {0};
  if (channel_send(channel, &reason) < 0) channel_lose(channel, &reason);
}

/* Tells the supervisor that a job is not wanted any more, so that it does not begin it. If that fails, the job is done in vain. */
static void channel_send_cancel(struct channel *channel, uint64_t id) {
  CLEANUP(buffer_release) struct buffer frame = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  if (keeper_frame_write(id, KEEPER_KIND_CANCEL, NULL, 0, &frame, NULL) < 0) return;
  if (keeper_output_add(&channel->output, &frame, NULL) < 0) return;
  channel_pump(channel);
}

static void channel_job_expire(void *context) {
  struct channel_job *job = context;
  struct channel *channel = job->channel;
  job->timer = NULL;
  keeper_done *done = job->done;
  void *done_context = job->context;
  struct error result = {0};
  error_set(&result, ERROR_TIMEOUT,
            job->sent ? "the keeper did not answer before the deadline"
                      : "the keeper was too busy to begin before the deadline");
  if (job->sent) {
    job->done = NULL;
    channel_send_cancel(channel, job->id);
  } else {
    channel_job_remove(channel, job);
    channel_job_free(job);
  }
  done(done_context, &result, NULL, 0);
}

/* Sending may find the supervisor gone and end jobs, which must not happen inside submit. */
static void channel_pump_later(void *context) {
  struct channel *channel = context;
  channel->pump = NULL;
  channel_pump(channel);
}

static int channel_job_new(struct channel *channel, enum keeper_job kind, const struct buffer *payload,
                           struct channel_job **ret_job, struct error *error) {
  CLEANUP(cleanup_channel_job) struct channel_job *job = calloc(1, sizeof(*job));
  if (!job) return error_set(error, ERROR_NO_MEMORY, "out of memory while a job was given to the keeper");
  job->channel = channel;
  job->id = ++channel->last_id;
  int result = keeper_frame_write(job->id, (uint16_t)kind, payload->data, payload->size, &job->frame, error);
  if (result < 0) return result;
  job->octets = job->frame.size;
  *ret_job = TAKE_PTR(job);
  return 0;
}

static int channel_refuse(const struct channel *channel, struct error *error) {
  if (channel->closing) return error_set(error, ERROR_CANCELLED, "the keeper is being closed");
  if (channel->lost.code != 0) {
    if (error) *error = channel->lost;
    return channel->lost.code;
  }
  if (channel->job_count < KEEPER_JOBS_MAX && channel->job_octets < KEEPER_JOBS_OCTETS_MAX) return 0;
  return error_set(error, ERROR_BUSY, "%zu jobs of %zu octets wait for the keeper already", channel->job_count,
                   channel->job_octets);
}

static int channel_submit(struct keeper *keeper, enum keeper_job kind, const struct buffer *payload, int64_t deadline,
                          keeper_done *done, void *context, struct error *error) {
  struct channel *channel = (struct channel *)keeper;
  int result = channel_refuse(channel, error);
  if (result < 0) return result;
  CLEANUP(cleanup_channel_job) struct channel_job *job = NULL;
  result = channel_job_new(channel, kind, payload, &job, error);
  if (!job) return result;
  job->done = done;
  job->context = context;
  if (!channel->pump) result = loop_defer(channel->loop, channel_pump_later, channel, &channel->pump);
  if (result == 0 && deadline != TIME_NEVER) {
    result = loop_at(channel->loop, deadline, channel_job_expire, job, &job->timer);
  }
  if (result < 0) return error_set(error, result, result == ERROR_NO_MEMORY ? "out of memory for a job of the keeper" : "the loop does not take a job of the keeper");
  TAILQ_INSERT_TAIL(&channel->waiting, job, link);
  channel->job_count++;
  channel->job_octets += job->octets;
  job = NULL;
  return 0;
}

/* Waits for the supervisor, which ends its workers first. One that may not be killed by us is left to init. */
static void channel_reap(pid_t pid) {
  if (pid <= 0) return;
  CLEANUP_CLOSE int descriptor = pidfd_open(pid, 0);
  struct pollfd ended = {.fd = descriptor, .events = POLLIN};
  int64_t until = clock_boottime() + CHANNEL_CLOSE_TIMEOUT;
  int64_t left = CHANNEL_CLOSE_TIMEOUT;
  while (descriptor >= 0 && left > 0 && poll(&ended, 1, (int)left) < 0 && errno == EINTR)
    left = until - clock_boottime();
  if ((ended.revents & POLLIN) == 0 && kill(pid, SIGKILL) < 0) return;
  while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
}

static void channel_destroy(struct keeper *keeper) {
  struct channel *channel = (struct channel *)keeper;
  channel->closing = true;
  loop_cancel(channel->loop, &channel->watch);
  loop_cancel(channel->loop, &channel->pump);
  if (channel->descriptor >= 0) close(channel->descriptor);
  struct error cancelled = {0};
  error_set(&cancelled, ERROR_CANCELLED, "the keeper was closed before this job was done");
  channel_fail_all(channel, &cancelled);
  channel_reap(channel->pid);
  keeper_output_release(&channel->output);
  buffer_release(&channel->input);
  free(channel);
}

static const struct keeper_ops channel_ops = {.submit = channel_submit, .destroy = channel_destroy};

int keeper_connect(struct loop *loop, int descriptor, pid_t pid, struct keeper **ret_keeper, struct error *error) {
  int flags = fcntl(descriptor, F_GETFL);
  if (flags < 0 || fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) < 0) {
    return error_set_errno(error, errno, "cannot set up the keeper's socket");
  }
  CLEANUP_FREE struct channel *channel = malloc(sizeof(*channel));
  if (!channel) return error_set(error, ERROR_NO_MEMORY, "out of memory while the keeper was connected");
  *channel = (struct channel){.keeper.ops = &channel_ops, .loop = loop, .descriptor = descriptor, .pid = pid};
  TAILQ_INIT(&channel->waiting);
  TAILQ_INIT(&channel->sent);
  keeper_output_init(&channel->output);
  channel->input = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  int result = channel_watch(channel, LOOP_READABLE, error);
  if (result < 0) return result;
  *ret_keeper = &TAKE_PTR(channel)->keeper;
  return 0;
}
