#include <sysexits.h>

#include "dkimroll/engine_clock.h"
#include "dkimroll/hooks.h"
#include "dkimroll/session.h"
#include "dkimroll/table_stamp.h"
#include "dkimroll/teller.h"
#include "dkimroll/text.h"

static void log_event_row(void *context, const struct event *event) { event_log(&((const struct cli *)context)->log, event); }

/* 1: the tables look otherwise than when they were last seen. Where this process may not look (it need not be able to read what the keeper reads) the
 * next run that has something to do finds out. */
static int tables_differ(void *context, const void *row) {
  const struct store_tables *tables = row;
  char state[SIGNER_STATE_SIZE];
  struct error unused;
  (void)context;
  if (table_files_state(tables->key_table, tables->signing_table, state, &unused)) return 0;
  return text_equal(state, tables->state) ? 0 : 1;
}

static bool tables_are_as_seen(struct session *session) {
  static const struct store_filter all;
  struct error unused;
  return session->store->ops->select(session->store, STORE_SELECT_TABLES, &all, tables_differ, NULL, &unused) == 0;
}

/* What is due was planned by a clock that has been set back since, maybe by years. */
static bool clock_went_back(const struct session *session, int64_t wall) {
  struct store_clock stored;
  struct error unused;
  int64_t next = TIME_UNSET;
  if (session->store->ops->next_moment(session->store, &next, NULL, &stored, &unused)) return true;
  return stored.wall > time_add(wall, CLOCK_BACKWARD_WARN);
}

/* true: nothing is due, and the policy is as it was compiled. */
static bool nothing_is_due(struct session *session) {
  struct error unused;
  int64_t next = TIME_UNSET;
  struct clock_reading now;
  char moment[TIME_TEXT_SIZE];
  clock_read(&now);
  /* The store is not opened as root; and once root is given up no keeper can be forked any more. */
  if (session_will_drop(session)) return false;
  if (session_open_for_reading(session, &unused) || session_look(session, &next, &unused)) return false;
  if (clock_went_back(session, now.wall)) return false;
  if (next == TIME_UNSET || next <= time_add(now.wall, session->cli->arguments->budget)) return false;
  if (!tables_are_as_seen(session) || hooks_are_behind(session, now.wall)) return false;
  if (next == TIME_NEVER)
    fprintf(session->cli->out, "Nothing is due.\n");
  else
    fprintf(session->cli->out, "Nothing is due before %s.\n", time_format(next, moment));
  teller_nothing_due(session, now.wall);
  return true;
}

/* 75: a stopped wave needs a person, and who watches a timer looks at its exit status. */
static int report_wave(const struct cli *cli, const char *wave) {
  if (!wave[0]) return EX_OK;
  fprintf(cli->err, "dkimroll: %s\ndkimroll: remedy: see to its cause, then `dkimroll release --wave`\n", wave);
  return EX_TEMPFAIL;
}

/* Nothing is due: still a wave may be stopped. */
static int end_idle(struct session *session) {
  char text[WAVE_TEXT_MAX * 2] = "";
  struct clock_reading now;
  struct wave wave;
  struct error unused;
  clock_read(&now);
  if (session_read_wave(session, now.wall, &wave, &unused) == 0 && wave_is_stopped(&wave)) wave_describe(&wave, text);
  const int status = report_wave(session->cli, text);
  session_release(session);
  return status;
}

static void print_summary(const struct cli *cli, const struct engine_summary *summary) {
  char moment[TIME_TEXT_SIZE];
  fprintf(cli->out, "%zu step%s done, %zu failed; ", summary->steps, summary->steps == 1 ? "" : "s", summary->failures);
  if (summary->next == TIME_NEVER)
    fprintf(cli->out, "nothing more to do.\n");
  else
    fprintf(cli->out, "next step %s.\n", time_format(summary->next, moment));
}

/* Somebody else has the lease: a command that was typed, or a run before this one. What is due is not his business, so he is waited for, within the budget. */
enum { RUN_LEASE_MS = 200 };
struct waiting {
  struct session *session;
  int64_t until; /* boottime, milliseconds */
  struct error error;
};

static void try_again(void *context) {
  struct waiting *waiting = context;
  struct loop *loop = waiting->session->backends.loop;
  waiting->error = (struct error){0};
  const int result = session_take_over(waiting->session, "dkimroll run", &waiting->error);
  if (result != ERROR_BUSY || loop_boottime(loop) >= waiting->until || loop_at(loop, loop_boottime(loop) + RUN_LEASE_MS, try_again, waiting, NULL)) loop_stop(loop);
}

static int take_over(struct session *session, struct error *error) {
  struct waiting waiting = {.session = session};
  const int result = session_take_over(session, "dkimroll run", error);
  if (result != ERROR_BUSY || session_wake(session)) return result;
  waiting.until = loop_boottime(session->backends.loop) + session->cli->arguments->budget * 1000;
  const int waited = session_run_loop(session, try_again, &waiting, &waiting.error);
  *error = waiting.error;
  return waited;
}

int cli_command_run(const struct cli *cli) {
  struct session session = {.cli = cli};
  struct error error = {0};
  struct engine_summary summary = {0};
  struct engine_setup setup = {.listener = log_event_row, .listener_context = (void *)cli, .horizon = cli->arguments->budget};
  if (nothing_is_due(&session)) return end_idle(&session);
  int result = session_open(&session, &error);
  if (!result) result = take_over(&session, &error);
  if (result == ERROR_BUSY && session_wake(&session)) {
    fprintf(cli->out, "The daemon does it: %s.\n", error.message);
    session_release(&session);
    return EX_OK;
  }
  if (!result) result = session_run_engine(&session, &setup, &summary, &error);
  if (!result) print_summary(cli, &summary);
  session_release(&session);
  if (result) return cli_report(cli, &error);
  const int wave = report_wave(cli, summary.wave);
  if (wave) return wave;
  return summary.failures > 0 ? EX_TEMPFAIL : EX_OK;
}
