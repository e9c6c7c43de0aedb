#include "dkimroll/check.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <unistd.h>

#include "dkimroll/check_dns.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

void check_say(struct check *check, enum check_part part, const struct finding *finding) {
  struct finding copy = *finding;
  if (!copy.remedy) copy.remedy = (char *)"";
  findings_add(&check->parts[part], &copy);
}

void check_say_error(struct check *check, enum check_part part, const char *subject, const char *who,
                     const struct error *error) {
  findings_add_error(&check->parts[part], FINDING_FAILED, subject, who, error);
}

void check_say_no_memory(struct check *check, enum check_part part, const char *subject) {
  struct error error;
  error_set(&error, ERROR_NO_MEMORY, "out of memory: it was not looked at");
  error_remedy(&error, "free some, and check again");
  check_say_error(check, part, subject, NULL, &error);
}

void check_begin(struct check *check) {
  check->pending++;
}

void check_end(struct check *check) {
  if (--check->pending == 0) loop_stop(check->session.backends.loop);
}

int64_t check_deadline(const struct check *check, int64_t seconds) {
  return check->started + seconds * 1000;
}

static void release_check(struct check *check) {
  check_dns_release(check);
  check_signers_release(check);
  session_release(&check->session);
  for (size_t i = 0; i < CHECK_PARTS; i++) findings_release(&check->parts[i]);
  for (size_t i = 0; i < check->key_count; i++) {
    free(check->keys[i].record);
    for (size_t j = 0; j < POLICY_SIGNERS_MAX; j++) {
      free(check->keys[i].paths[j]);
      free(check->keys[i].names[j]);
    }
  }
  free(check->keys);
  free(check->domains);
}

/* ---- what is told ---- */

static void print_part(const struct check *check, enum check_part part) {
  findings_print(&check->parts[part], check->cli->out);
}

static const char *plural(size_t count) {
  return count == 1 ? "" : "s";
}

/* The last line; returns the exit status: that of the first failure in the order in which they were told. */
static int print_verdict(const struct check *check) {
  size_t failed = 0, warnings = 0;
  int code = 0;
  for (size_t i = 0; i < CHECK_PARTS; i++) {
    const struct findings *findings = &check->parts[i];
    for (size_t j = 0; j < findings->count; j++) {
      failed += findings->items[j].level == FINDING_FAILED;
      warnings += findings->items[j].level == FINDING_WARNING;
    }
    if (!code) code = findings->first_code;
  }
  if (code)
    fprintf(check->cli->out, "NOT all right: %zu failure%s, %zu warning%s.\n", failed, plural(failed), warnings,
            plural(warnings));
  else if (warnings > 0)
    fprintf(check->cli->out, "A rotation can run; %zu warning%s.\n", warnings, plural(warnings));
  else
    fprintf(check->cli->out, "All right: a rotation can run.\n");
  /* EX_NOINPUT is for a domain that nobody knows; a part of the world that is not there is unavailable. */
  return cli_exit_status(code == ERROR_NOT_FOUND ? ERROR_UNREACHABLE : code);
}

/* ---- what is done ---- */

struct interrupt {
  struct check *check;
  struct loop_source *watch;
  int descriptor;
  sigset_t before;
};

static void interrupted(void *context, unsigned events) {
  struct interrupt *interrupt = context;
  struct signalfd_siginfo info;
  (void)events;
  if (read(interrupt->descriptor, &info, sizeof info) != (ssize_t)sizeof info) return;
  interrupt->check->interrupted = true;
  fprintf(interrupt->check->cli->err, "dkimroll: ending: scratch records are deleted first\n");
}

/* A record that was added is deleted again, also when somebody has seen enough. */
static void watch_signals(struct interrupt *interrupt) {
  struct loop *loop = interrupt->check->session.backends.loop;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  interrupt->descriptor = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (interrupt->descriptor < 0) return;
  if (loop_watch(loop, interrupt->descriptor, LOOP_READABLE, interrupted, interrupt, &interrupt->watch)) return;
  sigprocmask(SIG_BLOCK, &set, &interrupt->before);
}

static int run_works(struct check *check, struct error *error) {
  struct loop *loop = check->session.backends.loop;
  struct interrupt interrupt = {.check = check, .descriptor = -1};
  check->started = loop_boottime(loop);
  sigprocmask(SIG_BLOCK, NULL, &interrupt.before);
  watch_signals(&interrupt);
  check_begin(check); /* so that the loop does not stop before all have begun */
  check_walls_start(check);
  check_units(check);
  check_keys_start(check);
  check_signers_start(check);
  check_dns_start(check);
  check_end(check);
  int result = loop_run(loop, error);
  loop_cancel(loop, &interrupt.watch);
  if (interrupt.descriptor >= 0) close(interrupt.descriptor);
  sigprocmask(SIG_SETMASK, &interrupt.before, NULL);
  if (!result) check_clock(check);
  return result;
}

static void start_backends(struct check *check, struct error *error) {
  if (session_start_backends(&check->session, error)) {
    check_say_error(check, CHECK_LOCAL, "keeper", NULL, error);
    return;
  }
  check_say(check, CHECK_LOCAL,
            &(struct finding){.subject = (char *)"keeper",
                              .text = (char *)"the process that works on keys and tables starts"});
}

int cli_command_check(const struct cli *cli) {
  CLEANUP(release_check) struct check check = {.cli = cli, .session = {.cli = cli}};
  struct error error = {0};
  if (check_policy(&check, &error)) {
    print_part(&check, CHECK_LOCAL);
    return print_verdict(&check);
  }
  check_state(&check);
  start_backends(&check, &error);
  check_calendar(&check);
  check_telling(&check);
  int result = check_select(&check, &error);
  print_part(&check, CHECK_LOCAL);
  if (!result && check.session.has_backends) result = run_works(&check, &error);
  if (result) {
    check_scratch_abandon(&check, &error);
    print_part(&check, CHECK_UPDATES);
    return cli_report(cli, &error);
  }
  for (enum check_part part = CHECK_WALLS; part < CHECK_PARTS; part++) print_part(&check, part);
  return print_verdict(&check);
}
