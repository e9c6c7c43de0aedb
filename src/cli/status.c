#include "dkimroll/status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/columns.h"
#include "dkimroll/daemon.h"
#include "dkimroll/engine_clock.h"
#include "dkimroll/operands.h"
#include "dkimroll/text.h"
#include "dkimroll/timeline.h"

static const char *const NAMES[] = {"DOMAIN", "KEY", "SELECTOR", "STATE", "SINCE", "NEXT", "WHEN", "WAITS FOR"};
enum { COLUMN_KEY = 1, COLUMN_STATE = 3, SUMMARY_MAX = 1024 };

/* One command. The store is read twice: first to judge and to measure, since the verdict comes first, then to show. */
struct status {
  const struct cli *cli;
  struct session session;
  struct plan_clock clock;
  struct wave wave;
  struct findings findings;
  struct columns *columns;
  struct json json;
  struct error *error;
  size_t lineages, domains, signed_domains, troubled_domains, overdue;
  /* The domain whose lineages are being read: they follow one another. */
  char domain[DNS_NAME_TEXT_SIZE];
  bool domain_signed, domain_troubled;
  bool has_slots; /* some key is not called main */
  int64_t next_at;
  char next_domain[DNS_NAME_TEXT_SIZE];
  char next_action[32];
  int64_t overdue_since;
  char overdue_domain[DNS_NAME_TEXT_SIZE];
  char summary[SUMMARY_MAX];
};

static void release_status(struct status *status) {
  findings_release(&status->findings);
  columns_free(status->columns);
  session_release(&status->session);
}

static void add_global(struct status *status, enum finding_level level, const char *text, const char *remedy,
                       int64_t since) {
  findings_add(&status->findings, &(struct finding){.level = level,
                                                    .code = ERROR_CONFLICT,
                                                    .subject = (char *)"dkimroll",
                                                    .text = (char *)text,
                                                    .remedy = (char *)remedy,
                                                    .since = since});
}

/* ---- rows ---- */

/* The texts of one row, which the row borrows. */
struct row_texts {
  struct status_step step;
  char since[TIME_TEXT_SIZE], when[TIME_TEXT_SIZE];
  struct columns_row row;
};

/* All moments are UTC; the verdict says so, and the table saves the room. */
static const char *moment_cell(int64_t moment, char buffer[TIME_TEXT_SIZE]) {
  time_format(moment, buffer);
  if (text_ends(buffer, " UTC")) buffer[strlen(buffer) - strlen(" UTC")] = '\0';
  return buffer;
}

static const char *state_colour(const struct key *key) {
  if (key->failures > 0 && key->state < KEY_ACTIVE) return "red";
  if (key->state == KEY_ACTIVE) return "green";
  return key->state < KEY_ACTIVE ? "yellow" : NULL;
}

static void make_row(const struct status *status, const struct lineage *lineage, size_t index,
                     struct row_texts *texts) {
  const struct key *key = index < lineage->key_count ? &lineage->keys[index] : NULL;
  status_next_step(lineage, index, &status->clock, &texts->step);
  const bool due = texts->step.at <= status->clock.now;
  texts->row = (struct columns_row){
      .cells = {lineage->domain, lineage->slot, key ? key->selector : "-", key ? status_state_name(lineage, key) : "-",
                moment_cell(key ? key->state_since : TIME_UNSET, texts->since), texts->step.action,
                due ? "next run" : moment_cell(texts->step.at == TIME_NEVER ? TIME_UNSET : texts->step.at, texts->when),
                status_step_reason(&texts->step)},
      .coloured = COLUMN_STATE,
      .colour = key ? state_colour(key) : NULL};
}

/* ---- the first reading ---- */

static void end_domain(struct status *status) {
  if (!status->domain[0]) return;
  status->domains++;
  status->signed_domains += status->domain_signed;
  status->troubled_domains += status->domain_troubled;
}

static void begin_domain(struct status *status, const struct lineage *lineage) {
  if (text_equal(status->domain, lineage->domain)) return;
  end_domain(status);
  text_copy(status->domain, sizeof status->domain, lineage->domain);
  status->domain_signed = true;
  status->domain_troubled = false;
}

static void note_next(struct status *status, const struct lineage *lineage, const struct status_step *step) {
  if (step->at >= status->next_at || step->action[0] == '-') return;
  status->next_at = step->at;
  text_copy(status->next_domain, sizeof status->next_domain, lineage->domain);
  text_copy(status->next_action, sizeof status->next_action, step->action);
}

static void note_overdue(struct status *status, const struct lineage *lineage) {
  const int64_t moment = lineage->next_moment;
  if (moment == TIME_NEVER || time_add(moment, STATUS_OVERDUE_SECONDS) > status->clock.now) return;
  status->overdue++;
  if (moment >= status->overdue_since) return;
  status->overdue_since = moment;
  text_copy(status->overdue_domain, sizeof status->overdue_domain, lineage->domain);
}

static bool has_active_key(const struct lineage *lineage) {
  for (size_t i = 0; i < lineage->key_count; i++)
    if (lineage->keys[i].state == KEY_ACTIVE) return true;
  return false;
}

static int assess_row(void *context, const void *row) {
  struct status *status = context;
  const struct lineage *lineage = row;
  const size_t failed = status->findings.failed;
  struct row_texts texts;
  begin_domain(status, lineage);
  status->lineages++;
  status->domain_signed &= has_active_key(lineage);
  status->has_slots |= !text_equal(lineage->slot, "main");
  status_find_problems(lineage, &status->clock, &status->findings);
  status->domain_troubled |= status->findings.failed > failed;
  note_overdue(status, lineage);
  for (size_t i = 0; i < status_row_count(lineage); i++) {
    make_row(status, lineage, i, &texts);
    columns_measure(status->columns, &texts.row);
    note_next(status, lineage, &texts.step);
  }
  return 0;
}

/* ---- what is about no domain alone ---- */

static int read_clock(struct status *status) {
  struct store *store = status->session.store;
  struct clock_reading reading;
  struct store_clock stored = {0}, advanced;
  int64_t next;
  int result = store->ops->next_moment(store, &next, NULL, &stored, status->error);
  if (result) return result;
  clock_read(&reading);
  const enum clock_verdict verdict = engine_clock_advance(&stored, &reading, &advanced, &status->clock);
  status->clock.skip_watch = true;
  result = session_read_wave(&status->session, status->clock.now, &status->wave, status->error);
  if (result) return result;
  status->clock.wave = &status->wave;
  if (verdict == CLOCK_JUMPED_FORWARD && !status->clock.attested)
    add_global(status, FINDING_NOTE,
               "the clock jumped forward since the last run: what it gained counts for nothing until it is attested",
               "time synchronisation attests it, or a signed reply of a primary (TSIG), for which the next run asks where a publisher has one",
               0);
  else if (verdict == CLOCK_JUMPED_BACK)
    add_global(status, FINDING_NOTE, "the clock was set back since the last run: everything waits so much longer", "",
               0);
  else if (!status->clock.attested)
    add_global(status, FINDING_NOTE,
               "the clock is not attested since this boot, and no key is switched, revoked or deleted before it is",
               "time synchronisation attests it, or a signed reply of a primary (TSIG), for which dkimroll asks when a "
               "step is due, where a publisher has one",
               0);
  return 0;
}

static int look_at_policy(struct status *status) {
  const char *policy = status->cli->arguments->policy;
  char text[ERROR_MESSAGE_MAX];
  int64_t next = TIME_UNSET;
  int result = session_look(&status->session, &next, status->error);
  if (result || next != TIME_UNSET) return result;
  if (access(policy, R_OK) < 0) {
    snprintf(text, sizeof text, "the policy %s cannot be read: %s", policy, strerror(errno));
    add_global(status, FINDING_FAILED, text,
               "what was compiled last is in force; name the right file with --policy FILE", 0);
  } else {
    snprintf(text, sizeof text,
             "the policy was changed since the last run (%s): what was compiled before is still in force", policy);
    add_global(status, FINDING_FAILED, text, "`dkimroll run` takes it over", 0);
  }
  return 0;
}

static int look_at_request(void *context, const void *row) {
  struct status *status = context;
  const struct store_request *request = row;
  char text[ERROR_MESSAGE_MAX];
  if (time_add(request->asked_at, STATUS_OVERDUE_SECONDS) > status->clock.now) return 0;
  snprintf(text, sizeof text, "what %s asked for %s was not carried out yet", request->asked_by ? request->asked_by : "somebody",
           request->domain[0] ? request->domain : "the wave of rotations");
  add_global(status, FINDING_FAILED, text,
             "is the timer running? `systemctl status dkimroll-run.timer`; `dkimroll run` does it now",
             request->asked_at);
  return 0;
}

static int look_at_resource(void *context, const void *row) {
  struct status *status = context;
  const struct store_resource *resource = row;
  char text[ERROR_MESSAGE_MAX + ERROR_REMEDY_MAX];
  /* "signer 3 local": which version of it is of no interest here. */
  const size_t kind = strcspn(resource->name, " ");
  const char *const version = resource->name + kind, *const name = version[0] ? strchr(version + 1, ' ') : NULL;
  snprintf(text, sizeof text, "%.*s%s could not be reached %u time%s in a row; all that waits for it is put off%s%s", (int)kind, resource->name, name ? name : version, resource->failures,
           resource->failures == 1 ? "" : "s", resource->failure ? ": " : "", resource->failure ? resource->failure : "");
  add_global(status, FINDING_FAILED, text, "", 0);
  return 0;
}

static void judge_wave(struct status *status) {
  char text[WAVE_TEXT_MAX * 2], remedy[ERROR_REMEDY_MAX], moment[TIME_TEXT_SIZE];
  if (!wave_is_stopped(&status->wave)) return;
  snprintf(remedy, sizeof remedy,
           "no domain begins anything new, what is under way goes on; one domain is tried at %s, and if it succeeds all go on; see to the cause, then `dkimroll release "
           "--wave`",
           time_format(status->wave.probe_at, moment));
  add_global(status, FINDING_FAILED, wave_describe(&status->wave, text), remedy, status->wave.stopped_at);
}

static void judge_overdue(struct status *status) {
  char text[ERROR_MESSAGE_MAX];
  if (status->overdue == 0) return;
  snprintf(text, sizeof text, "%zu step%s overdue, the oldest of %s: nobody runs dkimroll", status->overdue,
           status->overdue == 1 ? " is" : "s are", status->overdue_domain);
  add_global(status, FINDING_FAILED, text,
             "is the timer running? `systemctl status dkimroll-run.timer`; `dkimroll run` catches up now",
             status->overdue_since);
}

static int assess(struct status *status) {
  static const struct store_filter all;
  struct store *store = status->session.store;
  int result = look_at_policy(status);
  if (!result) result = read_clock(status);
  if (!result) result = store->ops->select(store, STORE_SELECT_REQUESTS, &all, look_at_request, status, status->error);
  if (!result)
    result = store->ops->select(store, STORE_SELECT_RESOURCES, &all, look_at_resource, status, status->error);
  if (!result) result = operands_each_lineage(&status->session, assess_row, status, status->error);
  if (result) return result;
  end_domain(status);
  judge_wave(status);
  judge_overdue(status);
  if (status->domains == 0)
    add_global(status, FINDING_FAILED, "no domain is managed",
               "write them under domains: in the policy, then `dkimroll run`", 0);
  return 0;
}

/* ---- the verdict ---- */

static void describe_domains(const struct status *status, char *text, size_t size) {
  const char *plural = status->domains == 1 ? "" : "s";
  if (status->signed_domains == status->domains)
    snprintf(text, size, "%zu domain%s signed", status->domains, plural);
  else
    snprintf(text, size, "%zu of %zu domain%s signed", status->signed_domains, status->domains, plural);
}

static void describe_next(const struct status *status, char *text, size_t size) {
  char moment[TIME_TEXT_SIZE];
  if (status->next_at == TIME_NEVER)
    snprintf(text, size, "the next step waits for what is told below, not for a time");
  else
    snprintf(text, size, "next step %s (%s: %s)",
             status->next_at <= status->clock.now ? "with the next run" : time_format(status->next_at, moment),
             status->next_domain, status->next_action);
}

static void summarise(struct status *status) {
  char domains[128], next[DNS_NAME_TEXT_SIZE + 128];
  const size_t troubled = status->troubled_domains;
  describe_domains(status, domains, sizeof domains);
  describe_next(status, next, sizeof next);
  if (status->findings.failed == 0)
    snprintf(status->summary, sizeof status->summary, "%s: %s, %s.",
             status->signed_domains == status->domains ? "All right" : "Under way, nothing is wrong", domains, next);
  else if (wave_is_stopped(&status->wave))
    snprintf(status->summary, sizeof status->summary, "NOT all right: the wave of rotations is stopped, %u of %u failed; %s.", status->wave.stopped_failed,
             status->wave.stopped_ended, domains);
  else if (troubled > 0)
    snprintf(status->summary, sizeof status->summary, "NOT all right: %zu of %zu domain%s need%s attention.", troubled,
             status->domains, status->domains == 1 ? "" : "s", troubled == 1 ? "s" : "");
  else
    snprintf(status->summary, sizeof status->summary, "NOT all right, see below: %s, %s.", domains, next);
}

static void print_finding(FILE *out, const struct finding *finding) {
  char moment[TIME_TEXT_SIZE];
  fputs("  ", out);
  if (finding->who) fputs(finding->who, out);
  if (finding->others > 0) fprintf(out, " and %zu other%s", finding->others, finding->others == 1 ? "" : "s");
  if (finding->who) fputs(": ", out);
  fputs(finding->text, out);
  if (finding->since) fprintf(out, ", since %s", time_format(finding->since, moment));
  if (finding->remedy[0]) fprintf(out, "; %s", finding->remedy);
  fputc('\n', out);
}

static void print_findings(const struct status *status, enum finding_level level) {
  FILE *out = status->cli->out;
  size_t shown = 0, left = 0;
  for (size_t i = 0; i < status->findings.count; i++) {
    if (status->findings.items[i].level != level) continue;
    if (shown++ < STATUS_FINDINGS_SHOWN)
      print_finding(out, &status->findings.items[i]);
    else
      left++;
  }
  if (level == FINDING_FAILED) left += status->findings.dropped;
  if (left > 0) fprintf(out, "  and %zu more: `dkimroll status --json` tells of each key what is wrong\n", left);
}

static void print_verdict(struct status *status) {
  FILE *out = status->cli->out;
  const bool colours = columns_colours_wanted(out);
  fprintf(out, "%s%s%s\n", colours ? (status->findings.failed ? "\033[1;31m" : "\033[1;32m") : "", status->summary,
          colours ? "\033[0m" : "");
  daemon_print_status(&status->session);
  print_findings(status, FINDING_FAILED);
  print_findings(status, FINDING_NOTE);
}

/* ---- the second reading ---- */

static int show_row(void *context, const void *row) {
  struct status *status = context;
  const struct lineage *lineage = row;
  struct row_texts texts;
  int result = 0;
  for (size_t i = 0; i < status_row_count(lineage) && !result; i++) {
    make_row(status, lineage, i, &texts);
    result = columns_add(status->columns, &texts.row, status->error);
  }
  return result ? result : ferror(status->cli->out);
}

static int show_detail(void *context, const void *row) {
  struct status *status = context;
  struct timeline_style style;
  struct timeline timeline;
  fputc('\n', status->cli->out);
  if (timeline_style_of(status->cli->out, &style)) {
    int result = timeline_make(row, &status->clock, TIME_UNSET, &timeline, status->error);
    if (result) return result;
    timeline_draw(&timeline, &style, status->cli->out);
    fputc('\n', status->cli->out);
  }
  status_print_detail(status->cli->out, row, &status->clock);
  return ferror(status->cli->out);
}

static int show_json(void *context, const void *row) {
  struct status *status = context;
  const struct lineage *lineage = row;
  const bool detail = status->cli->arguments->operand_count > 0;
  for (size_t i = 0; i < status_row_count(lineage); i++)
    status_json_key(&status->json, lineage, i, &status->clock, detail);
  return ferror(status->cli->out);
}

static int print_text(struct status *status) {
  print_verdict(status);
  if (status->cli->arguments->operand_count > 0)
    return operands_each_lineage(&status->session, show_detail, status, status->error);
  if (!status->has_slots) columns_hide(status->columns, COLUMN_KEY);
  fputc('\n', status->cli->out);
  int result = operands_each_lineage(&status->session, show_row, status, status->error);
  return result ? result : columns_end(status->columns, status->error);
}

static void write_json_findings(struct status *status, const char *name, enum finding_level level) {
  struct json *json = &status->json;
  json_break(json);
  json_open(json, name, '[');
  for (size_t i = 0; i < status->findings.count; i++) {
    const struct finding *finding = &status->findings.items[i];
    if (finding->level != level) continue;
    json_break(json);
    json_open(json, NULL, '{');
    json_text(json, "domain", finding->who);
    json_number(json, "others", (int64_t)finding->others);
    json_text(json, "text", finding->text);
    json_moment(json, "since", finding->since ? finding->since : TIME_UNSET);
    json_text(json, "remedy", finding->remedy[0] ? finding->remedy : NULL);
    json_close(json, '}');
  }
  json_close(json, ']');
}

static int print_json(struct status *status) {
  struct json *json = &status->json;
  json_open(json, NULL, '{');
  json_bool(json, "ok", status->findings.failed == 0);
  json_text(json, "summary", status->summary);
  json_number(json, "domains", (int64_t)status->domains);
  json_number(json, "signed", (int64_t)status->signed_domains);
  json_number(json, "need_attention", (int64_t)status->troubled_domains);
  json_open(json, "next", '{');
  json_moment(json, "when", status->next_at);
  json_text(json, "domain", status->next_domain[0] ? status->next_domain : NULL);
  json_text(json, "step", status->next_action[0] ? status->next_action : NULL);
  json_close(json, '}');
  daemon_json_status(&status->session, json);
  write_json_findings(status, "problems", FINDING_FAILED);
  write_json_findings(status, "notes", FINDING_NOTE);
  json_break(json);
  json_open(json, "keys", '[');
  int result = operands_each_lineage(&status->session, show_json, status, status->error);
  json_close(json, ']');
  json_close(json, '}');
  fputc('\n', status->cli->out);
  return result;
}

int cli_command_status(const struct cli *cli) {
  struct error error = {0};
  CLEANUP(release_status)
  struct status status = {.cli = cli,
                          .session = {.cli = cli},
                          .json = {.out = cli->out},
                          .error = &error,
                          .next_at = TIME_NEVER,
                          .overdue_since = TIME_NEVER};
  int result = session_open_for_reading(&status.session, &error);
  if (!result) result = columns_new(cli->out, NAMES, ARRAY_SIZE(NAMES), &status.columns, &error);
  if (!result) result = assess(&status);
  if (!result && status.findings.no_memory) result = error_set(&error, ERROR_NO_MEMORY, "out of memory for what is to be told");
  if (!result) {
    summarise(&status);
    result = cli->arguments->json ? print_json(&status) : print_text(&status);
  }
  if (result < 0) return cli_report(cli, &error);
  return status.findings.failed > 0 ? EX_TEMPFAIL : EX_OK;
}
