#include <stdlib.h>
#include <sysexits.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/follow.h"
#include "dkimroll/operands.h"
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

/* One command, and how things stood before it. */
struct control {
  struct session session;
  enum store_request_kind kind;
  int64_t until;
  const char *done, *nothing; /* what was done; what is said of a domain, or of the wave, that was as is wanted already */
  char **holds;               /* owned; of each operand: the hold that it had, in words; NULL none */
  bool wave_runs;
};

static void control_release(struct control *control) {
  for (size_t i = 0; control->holds && i < control->session.cli->arguments->operand_count; i++) free(control->holds[i]);
  free(control->holds);
  session_release(&control->session);
}

static char *describe_hold(const struct lineage *lineage) {
  char text[1024], moment[TIME_TEXT_SIZE] = "";
  if (lineage->hold_until != TIME_NEVER) time_format(lineage->hold_until, moment);
  snprintf(text, sizeof text, "held%s%s%s%s%s", lineage->hold_scope == HOLD_ACTIVATION ? " from taking over" : "", moment[0] ? " until " : "", moment,
           lineage->hold_reason ? ": " : "", lineage->hold_reason ? lineage->hold_reason : "");
  return text_duplicate(text);
}

static int look_hold(void *context, const void *row) {
  const struct lineage *lineage = row;
  char **hold = context;
  if (!lineage->held || *hold) return 0;
  *hold = describe_hold(lineage);
  return *hold ? 0 : ERROR_NO_MEMORY;
}

/* Whoever releases what nobody holds, or holds what is held, may be mistaken about which domain it is: so the answer says it. */
static int look_before(struct control *control, struct error *error) {
  const struct cli_arguments *arguments = control->session.cli->arguments;
  struct store *store = control->session.store;
  struct wave wave;
  control->holds = calloc(arguments->operand_count + 1, sizeof *control->holds);
  if (!control->holds) return error_set(error, ERROR_NO_MEMORY, "out of memory for holds");
  int result = session_read_wave(&control->session, loop_wall(control->session.backends.loop), &wave, error);
  control->wave_runs = !result && wave.stopped_at == TIME_UNSET;
  for (size_t i = 0; i < arguments->operand_count && !result; i++) {
    char domain[DNS_NAME_TEXT_SIZE];
    const struct store_filter filter = {.domain = domain};
    if (!operand_domain(arguments->operands[i], domain)) continue;
    result = store->ops->select(store, STORE_SELECT_LINEAGES, &filter, look_hold, &control->holds[i], error);
    if (result == ERROR_NO_MEMORY) error_set(error, ERROR_NO_MEMORY, "out of memory for holds");
  }
  return result;
}

static void print_done(const struct control *control) {
  const struct cli *cli = control->session.cli;
  const struct cli_arguments *arguments = cli->arguments;
  if (arguments->operand_count == 0) fprintf(cli->out, "%s\n", control->wave_runs ? control->nothing : control->done);
  for (size_t i = 0; i < arguments->operand_count; i++) {
    const char *hold = control->holds[i];
    const bool nothing = control->kind == REQUEST_RELEASE && !hold;
    fprintf(cli->out, "%s: %s", arguments->operands[i], nothing ? control->nothing : control->done);
    if (control->kind == REQUEST_HOLD && hold) fprintf(cli->out, "; this takes the place of the hold before: %s", hold);
    fputc('\n', cli->out);
  }
}

/* Who is at work was asked: a daemon at once, and a run at its next turn. */
static int await_other(struct control *control, const struct error *busy) {
  const struct cli *cli = control->session.cli;
  struct error error = {0};
  bool carried_out = false;
  int result = follow_requests(&control->session, &carried_out, &error);
  if (result) return cli_report(cli, &error);
  if (carried_out)
    print_done(control);
  else
    fprintf(cli->out, "Asked for; it is carried out by who is at work: %s\n", busy->message);
  return EX_OK;
}

/* hold, release and forget are rows in the store; who holds the lease carries them out: this process, if nobody does. */
static int control_do(struct control *control) {
  struct session *session = &control->session;
  const struct cli *cli = session->cli;
  struct error error = {0};
  struct engine_summary summary;
  struct engine_setup setup = {.requests_only = true};
  int result = session_open(session, &error);
  if (!result && control->kind == REQUEST_FORGET) result = refuse_managed(session, &error);
  /* The lease first: it compiles a policy that is new, without which a domain would be unknown. */
  if (!result) result = session_take_over(session, "dkimroll control", &error);
  const bool other = result == ERROR_BUSY;
  const struct error busy = error;
  if (!result || other) result = look_before(control, &error);
  if (!result) result = session_request(session, control->kind, control->until, &error);
  if (!result && other) return await_other(control, &busy);
  if (!result) result = session_run_engine(session, &setup, &summary, &error);
  if (!result) print_done(control);
  return result ? cli_report(cli, &error) : EX_OK;
}

static int control(const struct cli *cli, enum store_request_kind kind, int64_t until, const char *done) {
  CLEANUP(control_release) struct control control = {.session = {.cli = cli}, .kind = kind, .until = until, .done = done};
  control.nothing = kind == REQUEST_RELEASE_WAVE ? "No wave of rotations is stopped: nothing to release." : "was not held: nothing to release";
  return control_do(&control);
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
