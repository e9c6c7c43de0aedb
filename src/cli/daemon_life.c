/* One life of the daemon: a policy, a keeper, the lease, and an engine that stays. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/daemon.h"
#include "dkimroll/session.h"
#include "dkimroll/teller.h"
#include "dkimroll/text.h"

struct life {
  struct cli cli; /* with messages into a text of its own, for the head */
  struct session session;
  struct daemon_start start;
  struct engine *engine; /* NULL: it does not work yet, or any more */
  int signals, wake;     /* descriptors; -1 */
  struct loop_source *channel_watch, *signal_watch, *wake_watch;
  struct loop_source *lease_timer, *alive_timer, *status_timer;
  bool ending;           /* it was told to */
  bool leaving;          /* another life comes */
  bool waiting;          /* for the lease, which was told */
  int64_t lease_tried;   /* since when, boottime, milliseconds */
  size_t turns;          /* when the head was told last that they are made */
  int64_t looked_at;     /* boottime, milliseconds: the policy's files */
  bool policy_changed;
  char said[DAEMON_SENTENCE_MAX]; /* the last status */
  struct error error;    /* ends it */
};

static struct loop *loop_of(const struct life *life) { return life->session.backends.loop; }

static void life_tell(struct life *life, enum daemon_word word, const char *text) { daemon_send(life->start.channel, word, text, strlen(text)); }

static void life_log(struct life *life, enum log_level level, const char *text) {
  log_write(&life->cli.log, &(struct log_event){.level = level, .reason = text});
}

static void life_fail(struct life *life, const struct error *error) {
  if (!life->error.code) life->error = *error;
  loop_stop(loop_of(life));
}

/* It ends in order and says why; the service manager starts it again. */
static void life_fail_for_now(struct life *life, const char *what) {
  struct error error = {0};
  error_set(&error, ERROR_SYSTEM, "%s", what);
  error_retryable(&error, true);
  life_fail(life, &error);
}

/* What the head waits for: a life that it never heard of would end by the service manager's patience, and nobody would know why. */
static void life_tell_surely(struct life *life, enum daemon_word word, const char *text) {
  if (!daemon_send(life->start.channel, word, text, strlen(text))) life_fail_for_now(life, "the daemon's channel takes no message");
}

/* ---- the end ---- */

static void life_end(struct life *life, bool leaving) {
  const bool again = life->ending;
  life->ending = true;
  life->leaving |= leaving;
  if (!life->engine) {
    loop_stop(loop_of(life));
    return;
  }
  if (again) return;
  struct engine_summary summary;
  engine_summarise(life->engine, &summary);
  if (summary.in_hand > 0) life_log(life, LOG_LEVEL_NOTICE, leaving ? "open operations are finished, then the new policy is taken over" : "ending: open operations are finished first");
  engine_stop_within(life->engine, DAEMON_STOP_SECONDS * INT64_C(1000));
}

static void signal_arrived(void *context, unsigned events) {
  struct life *life = context;
  struct signalfd_siginfo info;
  (void)events;
  if (read(life->signals, &info, sizeof info) != (ssize_t)sizeof info) return;
  /* Its process is the one that status names; the head reloads. */
  static const struct wake_asker nobody;
  if (info.ssi_signo == SIGHUP)
    daemon_send(life->start.channel, DAEMON_RELOAD, &nobody, sizeof nobody);
  else
    life_end(life, false);
}

static void take_answer(struct life *life, const char *octets, size_t size) {
  struct wake_asker asker;
  if (life->wake < 0 || size <= sizeof asker) return;
  memcpy(&asker, octets, sizeof asker);
  wake_answer(life->wake, &asker, (uint8_t)octets[sizeof asker], octets + sizeof asker + 1);
}

static void channel_spoke(void *context, unsigned events) {
  struct life *life = context;
  char octets[DAEMON_MESSAGE_MAX + 1];
  enum daemon_word word;
  size_t size = 0;
  (void)events;
  const int taken = daemon_receive(life->start.channel, &word, octets, &size);
  /* Without its head nobody knows of it: it makes room for the next daemon at once. */
  if (taken < 0) {
    loop_cancel(loop_of(life), &life->channel_watch);
    loop_stop(loop_of(life));
    return;
  }
  if (taken == 0) return;
  if (word == DAEMON_STOP || word == DAEMON_LEAVE) life_end(life, word == DAEMON_LEAVE);
  if (word == DAEMON_PARK) loop_stop(loop_of(life));
  if (word == DAEMON_ANSWER) take_answer(life, octets, size);
}

static int watch_signals(struct life *life, struct error *error) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGHUP);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  life->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (life->signals < 0 || loop_watch(loop_of(life), life->signals, LOOP_READABLE, signal_arrived, life, &life->signal_watch) ||
      loop_watch(loop_of(life), life->start.channel, LOOP_READABLE, channel_spoke, life, &life->channel_watch))
    return error_set(error, ERROR_SYSTEM, "the daemon cannot watch for signals");
  return 0;
}

/* ---- what it says of itself ---- */

/* Told once, and in the status until it is read. */
static void look_at_policy(struct life *life) {
  struct error unused;
  int64_t next = TIME_UNSET;
  const int64_t now = loop_boottime(loop_of(life));
  if (now < life->looked_at + DAEMON_POLICY_LOOK_MS || session_look(&life->session, &next, &unused)) return;
  life->looked_at = now;
  const bool changed = next == TIME_UNSET;
  if (changed && !life->policy_changed)
    log_write(&life->cli.log, &(struct log_event){.level = LOG_LEVEL_WARNING,
                                                  .reason = "the policy was changed since the daemon read it, and is not in force yet",
                                                  .remedy = "dkimroll reload"});
  life->policy_changed = changed;
}

static void status_tick(void *context) {
  struct life *life = context;
  struct lineage lineage = {0};
  struct engine_summary summary;
  struct error unused;
  char text[DAEMON_SENTENCE_MAX];
  bool found = false;
  life->status_timer = NULL;
  if (!life->engine || life->ending) return;
  look_at_policy(life);
  engine_summarise(life->engine, &summary);
  if (engine_next_lineage(life->engine, &lineage, &found, &unused)) return;
  const struct plan_clock clock = {.now = loop_wall(loop_of(life)), .attested = true};
  daemon_describe(found ? &lineage : NULL, &clock, summary.in_hand, text);
  lineage_release(&lineage);
  const size_t length = strlen(text);
  if (life->policy_changed) snprintf(text + length, sizeof text - length, "; the policy was changed: `dkimroll reload`");
  if (text_equal(text, life->said)) return;
  text_copy(life->said, sizeof life->said, text);
  life_tell(life, DAEMON_STATUS, text);
}

static void turned(void *context) {
  struct life *life = context;
  if (life->status_timer) return;
  /* What is said is of the moment after the last of many turns. */
  if (loop_at(loop_of(life), loop_boottime(loop_of(life)) + DAEMON_STATUS_MS, status_tick, life, &life->status_timer)) life->status_timer = NULL;
}

/* The head hears only of a loop whose engine makes turns, which read the store. */
static void alive_tick(void *context) {
  struct life *life = context;
  struct engine_summary summary = {0};
  if (life->engine) engine_summarise(life->engine, &summary);
  if (!life->engine || summary.turns != life->turns) daemon_send(life->start.channel, DAEMON_ALIVE, NULL, 0);
  life->turns = summary.turns;
  if (life->engine) engine_wake(life->engine);
  if (loop_at(loop_of(life), loop_boottime(loop_of(life)) + life->start.alive_ms, alive_tick, life, &life->alive_timer) == 0) return;
  /* Nothing of it would be heard any more, and the watchdog would kill it. */
  life->alive_timer = NULL;
  life_fail_for_now(life, "the event loop takes no timer");
}

static void log_event_row(void *context, const struct event *event) { event_log(&((struct life *)context)->cli.log, event); }

/* ---- requests ---- */

static void wake_heard(void *context, unsigned events) {
  struct life *life = context;
  struct wake_asker asker;
  enum wake_word word;
  (void)events;
  for (int i = 0; i < WAKE_WORDS_OF_CALLBACK && wake_receive(life->wake, &word, &asker); i++) {
    if (word == WAKE_TURN && life->engine) engine_wake(life->engine);
    if (word == WAKE_RELOAD && !daemon_send(life->start.channel, DAEMON_RELOAD, &asker, sizeof asker))
      wake_answer(life->wake, &asker, EX_TEMPFAIL, "the daemon cannot take the wish just now: ask again\n");
  }
}

/* Without the socket the daemon works; what is asked of it waits for its next turn. */
static void listen_to_requests(struct life *life) {
  struct error error = {0};
  int result = wake_listen(life->session.state, &life->wake, &error);
  if (!result && loop_watch(loop_of(life), life->wake, LOOP_READABLE, wake_heard, life, &life->wake_watch))
    result = error_set(&error, ERROR_SYSTEM, "the event loop takes no watch");
  if (result)
    log_write(&life->cli.log, &(struct log_event){.level = LOG_LEVEL_WARNING, .reason = error.message, .remedy = "requests are carried out at the daemon's next turn only, and reload needs SIGHUP"});
}

static void end_requests(struct life *life) {
  if (life->wake < 0) return;
  loop_cancel(loop_of(life), &life->wake_watch);
  /* Before the lease ends, so that it is not the path of the next one. */
  CLEANUP_FREE char *path = wake_path(life->session.state);
  if (!life->leaving && path) unlink(path);
  close(TAKE_FD(life->wake));
}

/* ---- the lease ---- */

static void lease_is_busy(struct life *life, const struct error *busy) {
  struct loop *loop = loop_of(life);
  const int64_t now = loop_boottime(loop);
  char holder[DAEMON_SENTENCE_MAX / 2], text[DAEMON_SENTENCE_MAX];
  if (!life->start.successor && now > life->lease_tried + DAEMON_RIVAL_MS && wake_is_heard(life->session.state)) {
    life_fail(life, busy);
    error_remedy(&life->error, "one daemon is enough: `dkimroll status` tells what it does, `dkimroll reload` gives it a new policy");
    return;
  }
  if (!life->waiting && now > life->lease_tried + DAEMON_RIVAL_MS) {
    if (!wake_read_holder(life->session.state, holder, sizeof holder)) text_copy(holder, sizeof holder, "another dkimroll");
    snprintf(text, sizeof text, "waits until %s has ended", holder);
    life->waiting = true;
    life_tell(life, DAEMON_STATUS, text);
    life_log(life, LOG_LEVEL_NOTICE, text);
  }
}

static void try_lease(void *context) {
  struct life *life = context;
  struct error error = {0};
  struct loop *loop = loop_of(life);
  life->lease_timer = NULL;
  const int result = session_take_over(&life->session, "dkimroll daemon", &error);
  if (result == 0) {
    loop_stop(loop);
    return;
  }
  if (result == ERROR_BUSY) lease_is_busy(life, &error);
  if (result != ERROR_BUSY) life_fail(life, &error);
  if (!life->error.code && loop_at(loop, loop_boottime(loop) + DAEMON_LEASE_MS, try_lease, life, &life->lease_timer))
    life_fail_for_now(life, "the event loop takes no timer");
}

/* ---- the keeper ---- */

/* A keeper that is a service reads the policy itself, a moment later, and may find a mistake in it; it would refuse every job of this life. */
static void keeper_answered(void *context, const struct error *result, const uint8_t *reply, size_t reply_size) {
  struct life *life = context;
  (void)reply, (void)reply_size;
  if (result->code == ERROR_CANCELLED || life->ending) return;
  if (result->code) {
    life_fail(life, result);
    error_context(&life->error, "the keeper does not work");
    return;
  }
  life_tell_surely(life, DAEMON_VALID, "");
  if (life->error.code) return;
  life->lease_tried = loop_boottime(loop_of(life));
  try_lease(life);
}

static void ask_keeper(void *context) {
  struct life *life = context;
  struct error error = {0};
  const struct buffer nothing = BUFFER_WITH_MAXIMUM(1);
  const int64_t deadline = loop_boottime(loop_of(life)) + DAEMON_KEEPER_MS;
  if (keeper_submit(life->session.backends.keeper, KEEPER_WALLS, &nothing, deadline, keeper_answered, life, &error)) life_fail(life, &error);
}

/* ---- all of it ---- */

static int begin(struct life *life, struct error *error) {
  int result = session_open(&life->session, error);
  /* Giving up rights took this away. It is for a loop that is stuck; one that lives notices the end of its channel. */
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (!result) result = watch_signals(life, error);
  if (result) return result;
  if (life->start.alive_ms > 0) alive_tick(life);
  result = session_run_loop(&life->session, ask_keeper, life, &life->error);
  if (result) *error = life->error;
  return result;
}

static int work(struct life *life, struct error *error) {
  struct engine_setup setup = {.listener = log_event_row, .listener_context = life, .turned = turned, .turned_context = life, .horizon = TIME_NEVER};
  struct teller *teller = NULL;
  session_fill_setup(&life->session, &setup);
  int result = teller_new(&life->session, &setup, &teller, error);
  if (!result) result = engine_new(&setup, &life->engine, error);
  if (result) {
    teller_free(teller);
    return result;
  }
  listen_to_requests(life);
  const char *compiled = life->session.compiled;
  life_tell_surely(life, DAEMON_READY, compiled[0] ? compiled : "the policy is the one that was compiled last");
  result = engine_run(life->engine, error);
  if (!result && life->error.code) {
    *error = life->error;
    result = error->code;
  }
  struct engine_summary summary;
  engine_summarise(life->engine, &summary);
  if (!result && summary.in_hand > 0) life_log(life, LOG_LEVEL_NOTICE, "what is open was parked: the next start looks at it again and goes on");
  /* The next life tells what this one has no time for. */
  teller_end(teller, &summary, TELLER_LEAVES_MS);
  engine_free(TAKE_PTR(life->engine));
  teller_free(teller);
  return result;
}

static void tell_failure(struct life *life, const struct error *error, FILE *text, char *const *octets) {
  struct buffer message = BUFFER_WITH_MAXIMUM(WAKE_ANSWER_MAX);
  const int status = cli_report(&life->cli, error);
  if (fflush(text) == 0 && *octets) {
    buffer_add_u8(&message, (uint8_t)status);
    buffer_add(&message, *octets, strnlen(*octets, WAKE_ANSWER_MAX - 2));
  }
  if (message.data) daemon_send(life->start.channel, DAEMON_FAILED, message.data, message.size);
  buffer_release(&message);
}

int daemon_live(const struct cli *cli, const struct daemon_start *start) {
  struct life life = {.cli = *cli, .start = *start, .signals = -1, .wake = -1};
  struct error error = {0};
  char *octets = NULL;
  size_t size = 0;
  CLEANUP_FCLOSE FILE *text = open_memstream(&octets, &size);
  if (text) life.cli.err = text;
  life.session.cli = &life.cli;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  int result = begin(&life, &error);
  if (!result && !life.ending && life.channel_watch) result = work(&life, &error);
  if (result && text) tell_failure(&life, &error, text, &octets);
  if (life.session.has_backends) {
    struct loop *loop = loop_of(&life);
    end_requests(&life);
    loop_cancel(loop, &life.channel_watch);
    loop_cancel(loop, &life.signal_watch);
    loop_cancel(loop, &life.lease_timer);
    loop_cancel(loop, &life.alive_timer);
    loop_cancel(loop, &life.status_timer);
  }
  session_release(&life.session);
  if (life.signals >= 0) close(life.signals);
  if (text) fclose(TAKE_PTR(text));
  free(octets);
  return result ? cli_exit_status(result) : EX_OK;
}
