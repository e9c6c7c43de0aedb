#include <sysexits.h>

#include "dkimroll/follow.h"
#include "dkimroll/session.h"
#include "dkimroll/text.h"

struct managed_search {
  bool managed;
};

static int look_managed(void *context, const void *row) {
  ((struct managed_search *)context)->managed |= ((const struct lineage *)row)->managed;
  return 0;
}

/* A domain that is still in the policy would be made anew at once: say so instead. */
static int refuse_managed(struct session *session, struct error *error) {
  const struct cli *cli = session->cli;
  int result = 0;
  for (size_t i = 0; i < cli->arguments->operand_count && !result; i++) {
    struct managed_search search = {false};
    const struct store_filter filter = {.domain = cli->arguments->operands[i]};
    result = session->store->ops->select(session->store, STORE_SELECT_LINEAGES, &filter, look_managed, &search, error);
    if (result || !search.managed) continue;
    result = error_set(error, ERROR_CONFLICT, "%s is in the policy and cannot be forgotten", cli->arguments->operands[i]);
    error_remedy(error, "take it out of the policy first, run `dkimroll run`, then forget it");
  }
  return result;
}

static void print_done(const struct cli *cli, const char *done) {
  if (cli->arguments->operand_count == 0) fprintf(cli->out, "%s\n", done);
  for (size_t i = 0; i < cli->arguments->operand_count; i++) fprintf(cli->out, "%s: %s\n", cli->arguments->operands[i], done);
}

/* Who is at work was asked: a daemon at once, and a run at its next turn. */
static int await_other(struct session *session, const char *done, const struct error *busy) {
  const struct cli *cli = session->cli;
  struct error error = {0};
  bool carried_out = false;
  int result = follow_requests(session, &carried_out, &error);
  if (result) return cli_report(cli, &error);
  if (carried_out)
    print_done(cli, done);
  else
    fprintf(cli->out, "Asked for; it is carried out by who is at work: %s\n", busy->message);
  return EX_OK;
}

/* hold, release and forget are rows in the store; who holds the lease carries them out: this process, if nobody does. */
static int control(const struct cli *cli, enum store_request_kind kind, int64_t until, const char *done) {
  struct session session = {.cli = cli};
  struct error error = {0};
  struct engine_summary summary;
  struct engine_setup setup = {.requests_only = true};
  int result = session_open(&session, &error);
  if (!result && kind == REQUEST_FORGET) result = refuse_managed(&session, &error);
  /* The lease first: it compiles a policy that is new, without which a domain would be unknown. */
  if (!result) result = session_take_over(&session, "dkimroll control", &error);
  const bool other = result == ERROR_BUSY;
  const struct error busy = error;
  if (!result || other) result = session_request(&session, kind, until, &error);
  if (!result && other) {
    const int status = await_other(&session, done, &busy);
    session_release(&session);
    return status;
  }
  if (!result) result = session_run_engine(&session, &setup, &summary, &error);
  if (!result) print_done(cli, done);
  session_release(&session);
  return result ? cli_report(cli, &error) : EX_OK;
}

/* A hold that is over as it begins is a slip of whoever typed it: it must not look as if the domain were held. */
static int refuse_past(const struct cli *cli, int64_t until) {
  struct clock_reading now;
  struct error error = {0};
  char moment[TIME_TEXT_SIZE];
  clock_read(&now);
  if (until > now.wall) return 0;
  error_set(&error, ERROR_INVALID, "the end of the hold, %s, is over: nothing was held", time_format(until, moment));
  error_remedy(&error, "name a moment to come with --until (UTC), or none");
  return cli_report(cli, &error);
}

int cli_command_hold(const struct cli *cli) {
  char moment[TIME_TEXT_SIZE], done[128];
  const char *const what = cli->arguments->only_activation ? "held from taking over (the next key is made and waits)" : "held";
  const int64_t until = cli->arguments->until == TIME_UNSET ? TIME_NEVER : cli->arguments->until;
  const int refused = refuse_past(cli, until);
  if (refused) return refused;
  if (until == TIME_NEVER)
    snprintf(done, sizeof done, "%s until `dkimroll release`", what);
  else
    snprintf(done, sizeof done, "%s until %s", what, time_format(until, moment));
  return control(cli, REQUEST_HOLD, until, done);
}

int cli_command_release(const struct cli *cli) {
  const bool wave = cli->arguments->wave, domains = cli->arguments->operand_count > 0;
  if (wave && !domains) return control(cli, REQUEST_RELEASE_WAVE, TIME_NEVER, "The wave of rotations goes on.");
  if (domains && !wave) return control(cli, REQUEST_RELEASE, TIME_NEVER, "released");
  fprintf(cli->err, "dkimroll: release takes either domains or --wave\n");
  fprintf(cli->err, "dkimroll: remedy: `dkimroll release DOMAIN` ends a hold, `dkimroll release --wave` lets a stopped wave go on\n");
  return EX_USAGE;
}

int cli_command_forget(const struct cli *cli) {
  return control(cli, REQUEST_FORGET, TIME_NEVER, "forgotten; its records, keys and table lines stay as they are");
}
