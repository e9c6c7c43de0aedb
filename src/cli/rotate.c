#include <string.h>
#include <sys/ioctl.h>
#include <sysexits.h>
#include <unistd.h>

#include "dkimroll/follow.h"
#include "dkimroll/session.h"
#include "dkimroll/status.h"
#include "dkimroll/text.h"
#include "dkimroll/wake.h"

/* On a terminal one line, written over once a second, says what is being waited for. */
struct progress {
  struct session *session;
  bool terminal;
  bool line; /* there is one */
  struct loop_source *timer;
  char text[PLAN_REASON_TEXT_MAX + DNS_NAME_TEXT_SIZE + SELECTOR_SIZE + TIME_TEXT_SIZE];
};

static void progress_clear(struct progress *progress) {
  if (progress->line) fputs("\r\033[K", progress->session->cli->out);
  progress->line = false;
}

/* Progress goes to the person who asked, not into the log. */
static void print_event(void *context, const struct event *event) {
  struct progress *progress = context;
  progress_clear(progress);
  event_print(progress->session->cli->out, event);
  fflush(progress->session->cli->out);
}

/* The first key that is on its way and waits for something. */
static int find_waiting(void *context, const void *row) {
  struct progress *progress = context;
  const struct lineage *lineage = row;
  char moment[TIME_TEXT_SIZE];
  const struct plan_clock clock = {.now = loop_wall(progress->session->backends.loop), .attested = true};
  for (size_t i = 0; i < lineage->key_count; i++) {
    struct status_step step;
    if (lineage->keys[i].state >= KEY_ACTIVE) continue;
    status_next_step(lineage, i, &clock, &step);
    const char *const reason = status_step_reason(&step);
    if (!reason[0]) continue;
    snprintf(progress->text, sizeof progress->text, "%s %s: %s%s%s: %s", lineage->domain, lineage->keys[i].selector, step.action,
             step.at != TIME_NEVER ? " at " : "", step.at != TIME_NEVER ? time_format(step.at, moment) : "", reason);
    return 1;
  }
  return 0;
}

enum { WIDTH_USUAL = 80, WIDTH_LEAST = 20, LINE_FRAME = 5 /* "... ", and a column that stays free */ };

static int terminal_width(FILE *out) {
  struct winsize size;
  const bool known = ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known && size.ws_col >= WIDTH_LEAST ? size.ws_col : WIDTH_USUAL;
}

static void progress_tick(void *context) {
  enum { TICK_MS = 1000 };
  struct progress *progress = context;
  const struct cli *cli = progress->session->cli;
  struct loop *loop = progress->session->backends.loop;
  struct store *store = progress->session->store;
  struct error unused;
  progress->timer = NULL;
  progress->text[0] = '\0';
  for (size_t i = 0; i < cli->arguments->operand_count; i++) {
    const struct store_filter filter = {.domain = cli->arguments->operands[i]};
    if (store->ops->select(store, STORE_SELECT_LINEAGES, &filter, find_waiting, progress, &unused)) break;
  }
  progress_clear(progress);
  if (progress->text[0]) {
    /* Cut to what the terminal shows on one line, so that the carriage return finds its beginning. */
    fprintf(cli->out, "... %.*s", terminal_width(cli->out) - LINE_FRAME, progress->text);
    fflush(cli->out);
    progress->line = true;
  }
  /* Without a timer the line just stays as it is. */
  if (loop_at(loop, loop_boottime(loop) + TICK_MS, progress_tick, progress, &progress->timer)) progress->timer = NULL;
}

static int check_held(void *context, const void *row) {
  const struct lineage *lineage = row;
  struct error *error = context;
  const struct schedule *schedule = &lineage->rules->schedule;
  struct clock_reading now;
  char moment[TIME_TEXT_SIZE];
  clock_read(&now);
  const size_t freeze = schedule_frozen_by(schedule, now.wall);
  if (freeze < schedule->freeze_count && !lineage_is_urgent(lineage)) {
    error_set(error, ERROR_CONFLICT, "%s is frozen (%s in the policy) until %s", lineage->domain, lineage->rules->freezes[freeze],
              time_format(schedule_next(schedule, now.wall, false), moment));
    error_remedy(error, "wait for the end of the freeze, or change the policy; a key that is broken is replaced all the same");
    return error->code;
  }
  if (!lineage->held || now.wall >= lineage->hold_until) return 0;
  error_set(error, ERROR_CONFLICT, "%s is held%s%s", lineage->domain, lineage->hold_reason ? ": " : "", lineage->hold_reason ? lineage->hold_reason : "");
  error_remedy(error, "end the hold with `dkimroll release %s`", lineage->domain);
  return error->code;
}

static int refuse_held(struct session *session, struct error *error) {
  const struct cli_arguments *arguments = session->cli->arguments;
  int result = 0;
  for (size_t i = 0; i < arguments->operand_count && !result; i++) {
    const struct store_filter filter = {.domain = arguments->operands[i]};
    result = session->store->ops->select(session->store, STORE_SELECT_LINEAGES, &filter, check_held, error, error);
  }
  return result;
}

/* Where a lineage stands, what it waits for, and who does the rest. */
static int print_standing(void *context, const void *row) {
  const struct cli *cli = context;
  const struct lineage *lineage = row;
  struct clock_reading now;
  char moment[TIME_TEXT_SIZE];
  clock_read(&now);
  const struct plan_clock clock = {.now = now.wall, .attested = true};
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *key = &lineage->keys[i];
    struct status_step step;
    status_next_step(lineage, i, &clock, &step);
    const char *const reason = status_step_reason(&step);
    fprintf(cli->out, "%s %s is %s; next: %s", lineage->domain, key->selector, key_state_name(key->state), step.action);
    if (step.at != TIME_NEVER) fprintf(cli->out, " at %s", time_format(step.at, moment));
    fprintf(cli->out, "%s%s\n", reason[0] ? ": " : "", reason);
  }
  if (lineage->failure) fprintf(cli->out, "%s failed: %s\n", lineage->domain, lineage->failure);
  return 0;
}

static int print_all_standing(struct session *session, struct error *error) {
  const struct cli *cli = session->cli;
  int result = 0;
  for (size_t i = 0; i < cli->arguments->operand_count && !result; i++) {
    const struct store_filter filter = {.domain = cli->arguments->operands[i]};
    result = session->store->ops->select(session->store, STORE_SELECT_LINEAGES, &filter, print_standing, (void *)cli, error);
  }
  return result;
}

/* Somebody else has the lease and does the work: its events are shown as they come. */
static int follow_other(struct session *session, int64_t after, struct error *error) {
  const struct cli_arguments *arguments = session->cli->arguments;
  fprintf(session->cli->out, "%s; asked it to rotate. Its progress:\n", error->message);
  fflush(session->cli->out);
  *error = (struct error){0};
  return follow_work(session, after, arguments->no_wait ? 0 : arguments->budget, error);
}

static int rotate(struct session *session, struct engine_summary *summary, struct error *error) {
  const struct cli_arguments *arguments = session->cli->arguments;
  int64_t after = 0;
  struct progress progress = {.session = session, .terminal = isatty(fileno(session->cli->out)) == 1};
  struct engine_setup setup = {.listener = print_event,
                               .listener_context = &progress,
                               .domains = arguments->operands,
                               .domain_count = arguments->operand_count,
                               .horizon = arguments->no_wait ? 0 : arguments->budget};
  /* The lease first: it compiles a policy that is new, without which a domain would be unknown. */
  int result = session_take_over(session, "dkimroll rotate", error);
  const bool other = result == ERROR_BUSY;
  const struct error busy = *error;
  if (result && !other) return result;
  result = refuse_held(session, error);
  if (!result) result = follow_last_event(session, &after, error);
  if (!result) result = session_request(session, REQUEST_ROTATE, TIME_NEVER, error);
  if (result) return result;
  if (other) {
    *error = busy;
    return follow_other(session, after, error);
  }
  if (progress.terminal && loop_defer(session->backends.loop, progress_tick, &progress, &progress.timer)) progress.timer = NULL;
  result = session_run_engine(session, &setup, summary, error);
  loop_cancel(session->backends.loop, &progress.timer);
  progress_clear(&progress);
  return result;
}

int cli_command_rotate(const struct cli *cli) {
  struct session session = {.cli = cli};
  struct error error = {0};
  struct engine_summary summary = {0};
  int result = session_open(&session, &error);
  if (!result) result = rotate(&session, &summary, &error);
  if (!result) {
    fputc('\n', cli->out);
    result = print_all_standing(&session, &error);
    fprintf(cli->out, "What is left happens by itself at its time: %s.\n",
            wake_is_heard(session.state) ? "the daemon does it" : "`dkimroll run` does it, from its timer (dkimroll-run.timer)");
  }
  session_release(&session);
  if (result) return cli_report(cli, &error);
  return summary.failures > 0 ? EX_TEMPFAIL : EX_OK;
}
