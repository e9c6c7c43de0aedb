/* The daemon's head: the process that the service manager knows. It forks lives, hands on what they say, and decides when one follows the other. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/daemon.h"
#include "dkimroll/text.h"

struct body {
  pid_t pid; /* 0: there is none */
  int channel;
  bool leaving;
  int64_t kill_at;  /* boottime, milliseconds */
  int status;       /* of what it said when it failed */
  char *text;       /* owned */
};

struct head {
  const struct cli *cli;
  int signals;
  int64_t alive_ms;
  struct body present;
  struct body next; /* while a reload is under way, until it has taken over */
  struct body past; /* which took over from it, until it has ended */
  bool reloading, again;     /* again: it was asked for once more meanwhile */
  bool stopping;
  int status;                /* exit status */
  struct asker {
    struct wake_asker address;
    bool later; /* asked while a reload was under way, which may have read what was there before */
  } askers[DAEMON_ASKERS_MAX];
  size_t asker_count;
  char said[DAEMON_SENTENCE_MAX]; /* status of the present life */
};

static void head_log(const struct head *head, enum log_level level, const char *text, const char *remedy) {
  log_write(&head->cli->log, &(struct log_event){.level = level, .reason = text, .remedy = remedy});
}

/* ---- bodies ---- */

static void body_tell(const struct body *body, enum daemon_word word) {
  if (body->pid > 0) daemon_send(body->channel, word, NULL, 0);
}

static void body_release(struct body *body) {
  if (body->channel >= 0) close(body->channel);
  free(body->text);
  *body = (struct body){.channel = -1, .kill_at = TIME_NEVER};
}

/* In the child: nothing of the head goes on in it, and what it says to the manager goes by the head. */
static int live(struct head *head, int channel, bool successor) {
  const struct daemon_start start = {.channel = channel, .successor = successor, .alive_ms = head->alive_ms};
  const struct cli cli = *head->cli;
  close(head->signals);
  body_release(&head->present);
  body_release(&head->next);
  body_release(&head->past);
  unsetenv("NOTIFY_SOCKET");
  unsetenv("WATCHDOG_USEC");
  unsetenv("WATCHDOG_PID");
  const int status = daemon_live(&cli, &start);
  close(channel);
  return status;
}

static struct body body_move(struct body *body) {
  const struct body moved = *body;
  *body = (struct body){.channel = -1, .kill_at = TIME_NEVER};
  return moved;
}

static int body_start(struct head *head, struct body *body, bool successor, struct error *error) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0) return error_set_errno(error, errno, "cannot make the daemon's channel");
  CLEANUP_CLOSE int ours = ends[0];
  CLEANUP_CLOSE int theirs = ends[1];
  fflush(NULL);
  const pid_t pid = fork();
  if (pid < 0) return error_set_errno(error, errno, "cannot start the daemon's process");
  if (pid == 0) {
    close(TAKE_FD(ours));
    exit(live(head, TAKE_FD(theirs), successor));
  }
  *body = (struct body){.pid = pid, .channel = TAKE_FD(ours), .kill_at = TIME_NEVER};
  return 0;
}

static void body_end(struct body *body, enum daemon_word word) {
  if (body->pid == 0) return;
  body_tell(body, word);
  body->leaving = true;
  body->kill_at = time_min(body->kill_at, clock_boottime() + (DAEMON_STOP_SECONDS + DAEMON_END_SECONDS) * INT64_C(1000));
}

/* ---- reload ---- */

static void reload_begin(struct head *head) {
  struct error error = {0};
  if (head->stopping) return;
  if (head->reloading || head->past.pid > 0) {
    head->again = true;
    return;
  }
  head->reloading = true;
  sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=reads the policy again", (long long)clock_monotonic());
  if (body_start(head, &head->next, true, &error) == 0) return;
  head->next.status = cli_exit_status(error.code);
  head->next.text = text_duplicate(error.message);
}

/* The policy's findings, a line each. */
static void log_lines(const struct head *head, const char *text) {
  char line[2048];
  while (*text) {
    const size_t length = strcspn(text, "\n");
    text_printable(text, length, line, sizeof line);
    head_log(head, LOG_LEVEL_ERROR, line, NULL);
    text += length + (text[length] == '\n');
  }
}

/* Those who asked before this reload began; the others wait for the next one. */
static void answer_askers(struct head *head, const struct body *life, int status, const char *text) {
  size_t left = 0;
  for (size_t i = 0; i < head->asker_count; i++) {
    if (head->askers[i].later) {
      head->askers[left] = head->askers[i];
      head->askers[left++].later = false;
      continue;
    }
    /* Without allocation: who is not answered waits for minutes. */
    char message[DAEMON_MESSAGE_MAX];
    const struct wake_asker *asker = &head->askers[i].address;
    const size_t length = strnlen(text, WAKE_ANSWER_MAX);
    memcpy(message, asker, sizeof *asker);
    message[sizeof *asker] = (char)status;
    memcpy(message + sizeof *asker + 1, text, length);
    daemon_send(life->channel, DAEMON_ANSWER, message, sizeof *asker + 1 + length);
  }
  head->asker_count = left;
}

/* What was asked for meanwhile. */
static void reload_again(struct head *head) {
  if (!head->again || head->reloading) return;
  head->again = false;
  reload_begin(head);
}

static void reload_end(struct head *head, const struct body *life, int status, const char *text) {
  head->reloading = false;
  answer_askers(head, life, status, text);
  sd_notifyf(0, "READY=1\nSTATUS=%s", head->said);
  reload_again(head);
}

static void reload_failed(struct head *head) {
  struct body failed = body_move(&head->next);
  const char *text = failed.text ? failed.text : head->stopping ? "the daemon is ending" : "the process that read the policy has ended";
  if (!head->stopping) {
    head_log(head, LOG_LEVEL_ERROR, "the policy is not taken over, the one before stays in force", "`dkimroll check` shows what is wrong");
    log_lines(head, text);
  }
  reload_end(head, &head->present, failed.status ? failed.status : EX_SOFTWARE, text);
  body_release(&failed);
}

/* ---- what lives say ---- */

/* It has the lease. The life before has given that up, and may not have ended yet. */
static void body_is_ready(struct head *head, const struct body *body, const char *text) {
  char line[DAEMON_SENTENCE_MAX];
  text_printable(text, strlen(text), line, sizeof line);
  if (body == &head->next) {
    head->past = body_move(&head->present);
    head->present = body_move(&head->next);
  }
  if (head->reloading) {
    head_log(head, LOG_LEVEL_NOTICE, "the policy was read again", NULL);
    reload_end(head, &head->present, EX_OK, line);
    return;
  }
  head_log(head, LOG_LEVEL_NOTICE, "the daemon is ready", NULL);
  sd_notify(0, "READY=1");
}

/* One line for the manager, whatever the life says. */
static void body_says(struct head *head, const struct body *body, const char *text) {
  char line[DAEMON_SENTENCE_MAX];
  text_printable(text, strlen(text), line, sizeof line);
  if (body != &head->present && !head->present.leaving) return;
  text_copy(head->said, sizeof head->said, line);
  if (!head->stopping) sd_notifyf(0, "STATUS=%s", line);
}

static void body_failed(const struct head *head, struct body *body, const char *octets, size_t size) {
  if (size == 0) return;
  free(body->text);
  body->status = (uint8_t)octets[0];
  body->text = text_duplicate(octets + 1);
  /* What cannot be kept until it has ended is said at once. */
  if (!body->text) fputs(octets + 1, head->cli->err);
}

static void reload_asked(struct head *head, const char *octets, size_t size) {
  if (size != sizeof head->askers[0].address) return;
  if (head->asker_count < DAEMON_ASKERS_MAX) {
    struct asker *asker = &head->askers[head->asker_count++];
    memcpy(&asker->address, octets, size);
    asker->later = head->reloading;
  }
  reload_begin(head);
}

static void body_hear(struct head *head, struct body *body) {
  char octets[DAEMON_MESSAGE_MAX + 1];
  enum daemon_word word;
  size_t size = 0;
  int taken = 0;
  while (body->pid > 0 && body->channel >= 0 && (taken = daemon_receive(body->channel, &word, octets, &size)) > 0) {
    switch (word) {
    case DAEMON_VALID:
      if (body == &head->next) body_end(&head->present, DAEMON_LEAVE);
      break;
    case DAEMON_READY: body_is_ready(head, body, octets); break;
    case DAEMON_STATUS: body_says(head, body, octets); break;
    case DAEMON_ALIVE: sd_notify(0, "WATCHDOG=1"); break;
    case DAEMON_RELOAD: reload_asked(head, octets, size); break;
    case DAEMON_FAILED: body_failed(head, body, octets, size); break;
    default: break;
    }
  }
  /* It closed its end and is about to exit; to look at that again and again is of no use. */
  if (taken < 0) close(TAKE_FD(body->channel));
}

/* ---- what ends ---- */

static int status_of(const struct body *body, int status) {
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  return body->status ? body->status : EX_SOFTWARE;
}

static void tell_end(const struct head *head, const struct body *ended, int status) {
  char text[128];
  if (WIFSIGNALED(status)) {
    snprintf(text, sizeof text, "the daemon's process was ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    head_log(head, LOG_LEVEL_ERROR, text, "what was under way is looked at again at the next start");
  }
  if (ended->text) fputs(ended->text, head->cli->err);
}

static void present_ended(struct head *head, int status) {
  struct body ended = body_move(&head->present);
  tell_end(head, &ended, status);
  /* The next life gets the lease now. */
  if (ended.leaving && head->next.pid > 0 && !head->stopping) {
    head->present = body_move(&head->next);
  } else {
    head->status = head->stopping && WIFSIGNALED(status) ? EX_OK : status_of(&ended, status);
    if (head->next.pid > 0) kill(head->next.pid, SIGKILL);
  }
  body_release(&ended);
}

static void past_ended(struct head *head, int status) {
  struct body ended = body_move(&head->past);
  tell_end(head, &ended, status);
  body_release(&ended);
  reload_again(head);
}

static void reap(struct head *head) {
  int status;
  struct body *const bodies[] = {&head->past, &head->next, &head->present};
  for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
    struct body *body = bodies[i];
    const pid_t pid = body->pid;
    if (pid == 0 || waitpid(pid, &status, WNOHANG) != pid) continue;
    body_hear(head, body);
    /* Its last word may have been that it took over. */
    if (body->pid != pid) body = &head->present;
    body->pid = 0;
    if (body == &head->past) past_ended(head, status);
    if (body == &head->present) present_ended(head, status);
    if (body == &head->next) reload_failed(head);
  }
}

static void stop(struct head *head) {
  if (head->stopping) {
    body_tell(&head->present, DAEMON_PARK);
    return;
  }
  head->stopping = true;
  sd_notify(0, "STOPPING=1\nSTATUS=ends: open operations are finished first");
  body_end(&head->next, DAEMON_STOP);
  body_end(&head->present, DAEMON_STOP);
}

static void take_signals(struct head *head) {
  struct signalfd_siginfo info;
  while (read(head->signals, &info, sizeof info) == (ssize_t)sizeof info) {
    if (info.ssi_signo == SIGHUP) reload_begin(head);
    if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) stop(head);
  }
}

/* ---- all of it ---- */

static int open_signals(struct head *head, struct error *error) {
  sigset_t set;
  uint64_t interval = 0;
  sigemptyset(&set);
  sigaddset(&set, SIGHUP);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGCHLD);
  sigprocmask(SIG_BLOCK, &set, NULL);
  head->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (head->signals < 0) return error_set_errno(error, errno, "the daemon cannot watch for signals");
  /* Half of it, as sd_watchdog_enabled(3) wants. */
  if (sd_watchdog_enabled(0, &interval) > 0) head->alive_ms = time_max((int64_t)(interval / 2000), 1);
  return 0;
}

static void kill_overdue(struct body *body, int64_t now) {
  if (body->pid == 0 || body->kill_at > now) return;
  kill(body->pid, SIGKILL);
  body->kill_at = TIME_NEVER;
}

static void serve(struct head *head) {
  enum { SIGNALS, PRESENT, NEXT, PAST, COUNT };
  struct pollfd polled[COUNT] = {[SIGNALS] = {.fd = head->signals, .events = POLLIN},
                                 [PRESENT] = {.fd = head->present.channel, .events = POLLIN},
                                 [NEXT] = {.fd = head->next.channel, .events = POLLIN},
                                 [PAST] = {.fd = head->past.channel, .events = POLLIN}};
  const int64_t until = time_min(time_min(head->present.kill_at, head->next.kill_at), head->past.kill_at);
  const int64_t left = until == TIME_NEVER ? -1 : time_max(until - clock_boottime(), 0);
  if (poll(polled, COUNT, (int)time_min(left, DAEMON_STOP_SECONDS * INT64_C(1000))) < 0 && errno != EINTR) return;
  body_hear(head, &head->present);
  body_hear(head, &head->next);
  body_hear(head, &head->past);
  take_signals(head);
  reap(head);
  if (head->reloading && head->next.pid == 0 && head->next.status) reload_failed(head);
  kill_overdue(&head->present, clock_boottime());
  kill_overdue(&head->next, clock_boottime());
  kill_overdue(&head->past, clock_boottime());
}

int cli_command_daemon(const struct cli *cli) {
  static const struct body none = {.channel = -1, .kill_at = TIME_NEVER};
  struct head head = {.cli = cli, .signals = -1, .present = none, .next = none, .past = none};
  struct error error = {0};
  int result = open_signals(&head, &error);
  if (!result) result = body_start(&head, &head.present, false, &error);
  while (!result && (head.present.pid > 0 || head.past.pid > 0)) serve(&head);
  /* Whom SIGKILL ends while nobody takes over. */
  if (head.next.pid > 0) waitpid(head.next.pid, NULL, 0);
  body_release(&head.present);
  body_release(&head.next);
  body_release(&head.past);
  if (head.signals >= 0) close(head.signals);
  return result ? cli_report(cli, &error) : head.status;
}
