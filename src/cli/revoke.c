#include "dkimroll/revoke.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "dkimroll/follow.h"
#include "dkimroll/text.h"

static int refuse_usage(const struct cli *cli, const char *what, const char *remedy) {
  fprintf(cli->err, "dkimroll: %s\ndkimroll: remedy: %s\n", what, remedy);
  return EX_USAGE;
}

static int check_usage(const struct cli *cli) {
  const struct cli_arguments *arguments = cli->arguments;
  if (arguments->all_active && arguments->operand_count > 0)
    return refuse_usage(cli, "--all-active means every domain, and domains or selectors are named beside it", "leave out one of both");
  if (!arguments->all_active && arguments->operand_count == 0)
    return refuse_usage(cli, "which key? a SELECTOR or DOMAIN is missing after revoke", "name it, or give --all-active; `dkimroll status` lists what there is");
  if (!arguments->reason || !arguments->reason[0])
    return refuse_usage(cli, "--reason is missing", "say why in a few words, as in --reason \"key read on mx1\": it goes into the history");
  return EX_OK;
}

/* ---- asking ---- */

static bool ask(const struct revoke *revoke) {
  char answer[16];
  FILE *out = revoke->session->cli->out;
  fprintf(out, "Revoke %zu key%s of %zu domain%s? It cannot be undone. Type yes: ", revoke->count, revoke->count == 1 ? "" : "s", revoke->domain_count,
          revoke->domain_count == 1 ? "" : "s");
  fflush(out);
  if (!fgets(answer, sizeof answer, stdin)) return false;
  answer[strcspn(answer, "\r\n")] = '\0';
  return text_equal(answer, "yes");
}

/* EX_OK: go on. */
static int confirm(const struct revoke *revoke) {
  const struct cli *cli = revoke->session->cli;
  if (cli->arguments->yes) return EX_OK;
  if (isatty(STDIN_FILENO) != 1)
    return refuse_usage(cli, "revoke asks before it acts, and standard input is no terminal; nothing was done", "add --yes, if this is what you want");
  if (ask(revoke)) return EX_OK;
  fprintf(cli->out, "Nothing was done.\n");
  return EX_TEMPFAIL;
}

/* ---- doing ---- */

static int request_all(const struct revoke *revoke, struct error *error) {
  const struct cli_arguments *arguments = revoke->arguments;
  int result = 0;
  for (size_t i = 0; i < revoke->count && !result; i++) {
    struct store_request request = {.kind = REQUEST_REVOKE,
                                    .domain = revoke->targets[i].domain,
                                    .selector = revoke->targets[i].selector,
                                    .reason = (char *)arguments->reason,
                                    .until = TIME_NEVER,
                                    .options = arguments->now ? REQUEST_NOW : 0};
    /* Keys that are made between this look and the deed lie on that host too. */
    if (arguments->host_compromised) request.options |= REQUEST_WHOLE_HOST;
    result = session_request_one(revoke->session, &request, error);
  }
  return result;
}

static void note_event(struct revoke *revoke, const struct event *event) {
  const bool ended = event->to && (text_equal(event->to, key_state_name(KEY_REVOKED)) || text_equal(event->to, key_state_name(KEY_REMOVED)));
  struct revoke_target *target = event->selector ? revoke_target_of(revoke, event->domain, event->selector) : NULL;
  /* The first event of exposure comes with the revocation, the second when every server says so. */
  if (target && target->revoked && !target->confirmed && text_equal(event->kind, "exposure") && !text_starts(event->reason, "caches")) {
    target->confirmed = true;
    revoke->unconfirmed -= !target->held;
  }
  if (target && ended && !target->revoked) {
    target->revoked = true;
    revoke->open -= !target->held;
  }
  if (revoke->open == 0 && revoke->revoked_at == 0) revoke->revoked_at = loop_boottime(revoke->session->backends.loop);
}

static void show_event(void *context, const struct event *event) {
  struct revoke *revoke = context;
  event_print(revoke->session->cli->out, event);
  fflush(revoke->session->cli->out);
  note_event(revoke, event);
}

/* The keys are revoked, and every server says so, or takes its time: what comes now (new standby keys) is no emergency. */
static bool is_enough(void *context) {
  struct revoke *revoke = context;
  if (!revoke->begun || revoke->revoked_at == 0) {
    revoke->begun = true; /* the first turn, which follows, carries out what was asked for */
    return false;
  }
  return revoke->unconfirmed == 0 || loop_boottime(revoke->session->backends.loop) >= revoke->revoked_at + REVOKE_SETTLE_MS;
}

/* ---- another process does it ---- */

/* There are events of all domains; of those that are meant also the key that takes over is told of. */
static void hear_event(void *context, const struct event *event) {
  if (event->domain && revoke_has_domain(context, event->domain)) show_event(context, event);
}

static int follow_other(struct revoke *revoke, int64_t after, const struct error *busy, struct error *error) {
  fprintf(revoke->session->cli->out, "%s; asked it to revoke. Its progress:\n", busy->message);
  return follow_events(revoke->session, after, revoke->arguments->no_wait ? 0 : revoke->arguments->budget, hear_event, is_enough, revoke, error);
}

static int carry_out(struct revoke *revoke, struct error *error) {
  struct session *session = revoke->session;
  const struct cli_arguments *arguments = revoke->arguments;
  struct engine_summary summary;
  int64_t after = 0;
  int result = session_take_over(session, "dkimroll revoke", error);
  const bool other = result == ERROR_BUSY;
  const struct error busy = *error;
  if (result && !other) return result;
  *error = (struct error){0};
  result = follow_last_event(session, &after, error);
  if (!result) result = request_all(revoke, error);
  if (result) return result;
  if (other) return follow_other(revoke, after, &busy, error);
  const char **domains = calloc(revoke->count + 1, sizeof(char *));
  if (!domains) return error_set(error, ERROR_NO_MEMORY, "out of memory");
  for (size_t i = 0; i < revoke->count; i++) domains[i] = revoke->targets[i].domain;
  struct engine_setup setup = {.listener = show_event,
                               .listener_context = revoke,
                               .enough = is_enough,
                               .enough_context = revoke,
                               .domains = domains,
                               .domain_count = arguments->all_active ? 0 : revoke->count,
                               .horizon = arguments->no_wait ? 0 : arguments->budget};
  if (arguments->all_active) setup.domains = NULL;
  if (revoke->open == 0) revoke->revoked_at = loop_boottime(session->backends.loop); /* nothing is news, or all of it is held */
  result = session_run_engine(session, &setup, &summary, error);
  free(domains);
  return result;
}

static int revoke_run(struct revoke *revoke, size_t *open, int *ret_status, struct error *error) {
  struct clock_reading now;
  clock_read(&now);
  revoke->now = now.wall;
  int result = revoke_find(revoke, error);
  if (!result) result = revoke_print_plan(revoke, error);
  if (result) return result;
  *ret_status = confirm(revoke);
  if (*ret_status != EX_OK) return 0;
  result = carry_out(revoke, error);
  return result ? result : revoke_print_result(revoke, open, error);
}

int cli_command_revoke(const struct cli *cli) {
  struct session session = {.cli = cli};
  struct revoke revoke = {.session = &session, .arguments = cli->arguments};
  struct error error = {0};
  size_t open = 0;
  int status = check_usage(cli);
  if (status != EX_OK) return status;
  int result = session_open(&session, &error);
  if (!result) result = revoke_run(&revoke, &open, &status, &error);
  if (!result && status == EX_OK && revoke.open > 0)
    fputs("What is left happens by itself at its time: a daemon that is at work does it, or `dkimroll run` from its timer (dkimroll-run.timer).\n", cli->out);
  if (!result && status == EX_OK && open == 0 && revoke.left_out > 0) status = EX_UNAVAILABLE;
  revoke_release(&revoke);
  session_release(&session);
  if (result) return cli_report(cli, &error);
  return status != EX_OK ? status : open > 0 ? EX_TEMPFAIL : EX_OK;
}
