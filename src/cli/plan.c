#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/columns.h"
#include "dkimroll/findings.h"
#include "dkimroll/forecast.h"
#include "dkimroll/json.h"
#include "dkimroll/operands.h"
#include "dkimroll/text.h"
#include "dkimroll/timeline.h"

enum {
  PLAN_STEPS_MAX = 4000000, /* of all lineages, 24 octets each: 100,000 domains over a year */
  PLAN_STANDSTILLS_SHOWN = 20,
  PLAN_TIMELINES_MAX = 4, /* without operands: what a screen holds */
  SECONDS_OF_DAY = 86400,
};

#define NOT_ASKED_FOR UINT32_MAX

static const char *const NAMES[] = {"WHEN", "DOMAIN", "KEY", "SELECTOR", "STEP", "STATE"};
enum { COLUMN_KEY = 2 };

/* One step, small, because all of them are in memory until they are in the order of time. */
struct planned {
  int64_t at;
  uint32_t lineage;  /* index into names: "domain\0slot\0" */
  uint32_t selector; /* index into names */
  uint32_t number;   /* steps of one moment stay in the order in which they were found */
  uint8_t action, from, to;
};

struct planning {
  const struct cli *cli;
  struct session session;
  int64_t now, until;
  struct planned *steps; /* owned */
  size_t count, capacity;
  char *names; /* owned; texts one after the other */
  size_t names_size, names_capacity;
  struct lineage *lineages; /* owned; those that are looked ahead for together */
  uint32_t *lineage_names;  /* owned; of each, as in planned.lineage; NOT_ASKED_FOR */
  size_t lineage_count, lineage_capacity;
  size_t shown; /* lineages of the operands */
  uint32_t last_selector; /* most keys of a run have the name of their day */
  bool has_slots;
  struct findings standstills;
  struct wave wave;
  struct columns *columns;
  struct error *error;
};

static void release_lineages(struct planning *planning) {
  for (size_t i = 0; i < planning->lineage_count; i++) lineage_release(&planning->lineages[i]);
  planning->lineage_count = 0;
}

static void release_planning(struct planning *planning) {
  release_lineages(planning);
  free(planning->lineages);
  free(planning->lineage_names);
  free(planning->steps);
  free(planning->names);
  findings_release(&planning->standstills);
  columns_free(planning->columns);
  session_release(&planning->session);
}

static int keep_name(struct planning *planning, const char *name, uint32_t *ret_index) {
  const size_t size = strlen(name) + 1;
  if (planning->names_size + size > UINT32_MAX)
    return error_set(planning->error, ERROR_LIMIT, "too many names in one plan");
  while (planning->names_size + size > planning->names_capacity) {
    const size_t capacity = planning->names_capacity ? planning->names_capacity * 2 : 4096;
    char *names = realloc(planning->names, capacity);
    if (!names) return error_set(planning->error, ERROR_NO_MEMORY, "out of memory for a plan");
    planning->names = names;
    planning->names_capacity = capacity;
  }
  memcpy(planning->names + planning->names_size, name, size);
  *ret_index = (uint32_t)planning->names_size;
  planning->names_size += size;
  return 0;
}

static int refuse_more_steps(struct planning *planning) {
  error_set(planning->error, ERROR_LIMIT, "more than %d steps until then", PLAN_STEPS_MAX);
  return error_remedy(planning->error,
                      "plan a shorter time with --until DATE, or fewer domains: dkimroll plan DOMAIN...");
}

static int keep_step(void *context, const struct forecast_step *step) {
  struct planning *planning = context;
  const uint32_t lineage = planning->lineage_names[step->index];
  int result = 0;
  if (lineage == NOT_ASKED_FOR) return 0;
  if (planning->count == PLAN_STEPS_MAX) return refuse_more_steps(planning);
  if (planning->count == planning->capacity) {
    const size_t capacity = planning->capacity ? planning->capacity * 2 : 256;
    struct planned *steps = reallocarray(planning->steps, capacity, sizeof *steps);
    if (!steps) return error_set(planning->error, ERROR_NO_MEMORY, "out of memory for a plan");
    planning->steps = steps;
    planning->capacity = capacity;
  }
  if (!text_equal(planning->names + planning->last_selector, step->selector))
    result = keep_name(planning, step->selector, &planning->last_selector);
  if (result) return result;
  planning->steps[planning->count] = (struct planned){.at = step->at,
                                                      .lineage = lineage,
                                                      .selector = planning->last_selector,
                                                      .number = (uint32_t)planning->count,
                                                      .action = (uint8_t)step->action,
                                                      .from = (uint8_t)step->from,
                                                      .to = (uint8_t)step->to};
  planning->count++;
  return 0;
}

/* What a person has to do before anything more happens. */
static void note_standstill(struct planning *planning, const struct lineage *lineage) {
  const struct plan_clock clock = {.now = planning->until, .attested = true, .skip_watch = true};
  struct plan plan;
  for (size_t i = 0; i <= lineage->key_count; i++) {
    plan_key(lineage, i, &clock, &plan);
    if (!plan.needs_person || plan.reason_count == 0) continue;
    const char *gate = plan.reasons[0].gate;
    if (!text_equal(gate, "managed") && !text_equal(gate, "not_held")) continue;
    findings_add(&planning->standstills, &(struct finding){.level = FINDING_NOTE,
                                                           .subject = (char *)"standstill",
                                                           .who = (char *)lineage->domain,
                                                           .text = plan.reasons[0].text,
                                                           .remedy = (char *)""});
    return;
  }
}

static bool is_asked_for(const struct planning *planning, const char *domain) {
  const struct cli_arguments *arguments = planning->cli->arguments;
  char operand[DNS_NAME_TEXT_SIZE];
  for (size_t i = 0; i < arguments->operand_count; i++)
    if (operand_domain(arguments->operands[i], operand) && text_equal(operand, domain)) return true;
  return arguments->operand_count == 0;
}

static int grow_lineages(struct planning *planning) {
  const size_t capacity = planning->lineage_capacity ? planning->lineage_capacity * 2 : 16;
  struct lineage *lineages = reallocarray(planning->lineages, capacity, sizeof *lineages);
  if (lineages) planning->lineages = lineages;
  uint32_t *names = reallocarray(planning->lineage_names, capacity, sizeof *names);
  if (names) planning->lineage_names = names;
  if (!lineages || !names) return error_set(planning->error, ERROR_NO_MEMORY, "out of memory for a plan");
  planning->lineage_capacity = capacity;
  return 0;
}

static int gather_row(void *context, const void *row) {
  struct planning *planning = context;
  const struct lineage *lineage = row;
  uint32_t slot, name = NOT_ASKED_FOR;
  int result = planning->lineage_count == planning->lineage_capacity ? grow_lineages(planning) : 0;
  if (!result && is_asked_for(planning, lineage->domain)) {
    result = keep_name(planning, lineage->domain, &name);
    if (!result) result = keep_name(planning, lineage->slot, &slot);
    planning->shown++;
    planning->has_slots |= !text_equal(lineage->slot, "main");
  }
  if (!result) result = lineage_copy(lineage, &planning->lineages[planning->lineage_count], planning->error);
  if (!result) planning->lineage_names[planning->lineage_count++] = name;
  return result;
}

static int play_lineages(struct planning *planning) {
  const struct forecast forecast = {.now = planning->now, .until = planning->until, .wave = &planning->wave, .callback = keep_step, .context = planning};
  int result = forecast_lineages(&forecast, planning->lineages, planning->lineage_count, planning->error);
  for (size_t i = 0; i < planning->lineage_count && !result; i++)
    if (planning->lineage_names[i] != NOT_ASKED_FOR) note_standstill(planning, &planning->lineages[i]);
  release_lineages(planning);
  return result;
}

static int plan_row(void *context, const void *row) {
  const int result = gather_row(context, row);
  return result ? result : play_lineages(context);
}

/* With max-per-run all domains compete for places, also those that are not asked for. Else one is looked ahead for after the other, which takes less memory. */
static int plan_all(struct planning *planning) {
  static const struct store_filter all;
  struct session *session = &planning->session;
  if (planning->wave.limits.max_per_run == 0) return operands_each_lineage(session, plan_row, planning, planning->error);
  int result = operands_check(session, planning->error);
  if (!result) result = session->store->ops->select(session->store, STORE_SELECT_LINEAGES, &all, gather_row, planning, planning->error);
  return result ? result : play_lineages(planning);
}

static int compare_steps(const void *a, const void *b) {
  const struct planned *x = a, *y = b;
  if (x->at != y->at) return x->at < y->at ? -1 : 1;
  return x->number < y->number ? -1 : x->number > y->number;
}

/* Before the first run there is no store. The policy tells what the first run would begin with. */
static int open_from_policy(struct planning *planning) {
  struct session *session = &planning->session;
  const struct store_policy_stamp stamp = {0};
  struct store_sync_report report;
  int result = session_read_policy(session, planning->error);
  if (!result) result = session->cli->wiring->open_store(":memory:", false, &session->store, planning->error);
  if (!result)
    result =
        session->store->ops->sync(session->store, session->policy, &stamp, planning->now, &report, planning->error);
  return result;
}

/* *ret_warning: what the reader must know besides; NULL: nothing. */
static int open_plan(struct planning *planning, const char **ret_warning) {
  struct session *session = &planning->session;
  int64_t next = TIME_UNSET;
  int result = session_open_for_reading(session, planning->error);
  if (result == ERROR_NOT_FOUND) {
    *ret_warning = "Nothing has run yet: this is what begins with the first `dkimroll run`.";
    return open_from_policy(planning);
  }
  if (!result) result = session_look(session, &next, planning->error);
  if (!result && next == TIME_UNSET)
    *ret_warning = "The policy was changed since the last run; this plan is by the one that is in force.";
  return result;
}

#define ASSUMPTION "every server serves a record at once, nothing fails, and dkimroll runs whenever a step is due"

static const char *slot_of(const struct planning *planning, const struct planned *step) {
  const char *domain = planning->names + step->lineage;
  return domain + strlen(domain) + 1;
}

struct plan_texts {
  char when[TIME_TEXT_SIZE], states[64];
  struct columns_row row;
};

static void make_row(const struct planning *planning, const struct planned *step, struct plan_texts *texts) {
  const char *from = key_state_name((enum key_state)step->from), *to = key_state_name((enum key_state)step->to);
  snprintf(texts->states, sizeof texts->states, "%s%s%s", from, step->from == step->to ? "" : " -> ",
           step->from == step->to ? "" : to);
  texts->row = (struct columns_row){.cells = {time_format(step->at, texts->when), planning->names + step->lineage,
                                              slot_of(planning, step), planning->names + step->selector,
                                              plan_action_name((enum plan_action)step->action), texts->states}};
}

static int print_table(struct planning *planning) {
  struct plan_texts texts;
  int result = columns_new(planning->cli->out, NAMES, ARRAY_SIZE(NAMES), &planning->columns, planning->error);
  if (result) return result;
  if (!planning->has_slots) columns_hide(planning->columns, COLUMN_KEY);
  for (size_t i = 0; i < planning->count; i++) {
    make_row(planning, &planning->steps[i], &texts);
    columns_measure(planning->columns, &texts.row);
  }
  for (size_t i = 0; i < planning->count && !result; i++) {
    make_row(planning, &planning->steps[i], &texts);
    result = columns_add(planning->columns, &texts.row, planning->error);
    if (!result) result = ferror(planning->cli->out);
  }
  return result ? result : columns_end(planning->columns, planning->error);
}

struct timelines {
  struct planning *planning;
  struct timeline_style style;
};

static int print_timeline(void *context, const void *row) {
  struct timelines *timelines = context;
  struct planning *planning = timelines->planning;
  const struct lineage *lineage = row;
  FILE *out = planning->cli->out;
  struct timeline timeline;
  const struct plan_clock clock = {.now = planning->now, .wave = &planning->wave};
  int result = timeline_make(lineage, &clock, planning->until, &timeline, planning->error);
  if (result) return result;
  fprintf(out, "%s%s%s\n", lineage->domain, planning->has_slots ? ", key " : "", planning->has_slots ? lineage->slot : "");
  timeline_draw(&timeline, &timelines->style, out);
  fputc('\n', out);
  return ferror(out);
}

static int print_timelines(struct planning *planning) {
  struct timelines timelines = {.planning = planning};
  const bool wanted = planning->cli->arguments->operand_count > 0 || planning->shown <= PLAN_TIMELINES_MAX;
  if (!wanted || !timeline_style_of(planning->cli->out, &timelines.style)) return 0;
  return operands_each_lineage(&planning->session, print_timeline, &timelines, planning->error);
}

static int print_text(struct planning *planning, const char *warning) {
  FILE *out = planning->cli->out;
  char moment[TIME_TEXT_SIZE], wave[WAVE_TEXT_MAX * 2];
  fprintf(out, "%zu step%s until %s, if " ASSUMPTION ".\n", planning->count, planning->count == 1 ? "" : "s",
          time_format(planning->until, moment));
  if (warning) fprintf(out, "%s\n", warning);
  if (wave_is_stopped(&planning->wave))
    fprintf(out, "Waits for you: %s. This plan is as if it went on now; `dkimroll release --wave`\n", wave_describe(&planning->wave, wave));
  for (size_t i = 0; i < planning->standstills.count && i < PLAN_STANDSTILLS_SHOWN; i++)
    fprintf(out, "Waits for you: %s\n", planning->standstills.items[i].text);
  const size_t left = planning->standstills.dropped + planning->standstills.count;
  if (left > PLAN_STANDSTILLS_SHOWN)
    fprintf(out, "... and %zu more that wait for you: `dkimroll status`\n", left - PLAN_STANDSTILLS_SHOWN);
  fputc('\n', out);
  const int result = print_timelines(planning);
  return result ? result : print_table(planning);
}

static int print_json(const struct planning *planning, const char *warning) {
  FILE *out = planning->cli->out;
  struct json json = {.out = out};
  json_open(&json, NULL, '{');
  json_moment(&json, "from", planning->now);
  json_moment(&json, "until", planning->until);
  json_text(&json, "assumes", ASSUMPTION);
  json_text(&json, "warning", warning);
  char wave[WAVE_TEXT_MAX * 2];
  json_open(&json, "waits_for_you", '[');
  if (wave_is_stopped(&planning->wave)) json_text(&json, NULL, wave_describe(&planning->wave, wave));
  for (size_t i = 0; i < planning->standstills.count; i++) json_text(&json, NULL, planning->standstills.items[i].text);
  json_close(&json, ']');
  json_break(&json);
  json_open(&json, "steps", '[');
  for (size_t i = 0; i < planning->count && !ferror(out); i++) {
    const struct planned *step = &planning->steps[i];
    json_break(&json);
    json_open(&json, NULL, '{');
    json_moment(&json, "when", step->at);
    json_text(&json, "domain", planning->names + step->lineage);
    json_text(&json, "key", slot_of(planning, step));
    json_text(&json, "selector", planning->names + step->selector);
    json_text(&json, "step", plan_action_name((enum plan_action)step->action));
    json_text(&json, "from", key_state_name((enum key_state)step->from));
    json_text(&json, "to", key_state_name((enum key_state)step->to));
    json_close(&json, '}');
  }
  json_close(&json, ']');
  json_close(&json, '}');
  fputc('\n', out);
  return 0;
}

static int find_steps(struct planning *planning) {
  if (planning->until < planning->now) {
    error_set(planning->error, ERROR_INVALID, "the moment of --until is over");
    return error_remedy(planning->error, "name one to come, in UTC");
  }
  int result = session_read_wave(&planning->session, planning->now, &planning->wave, planning->error);
  if (result) return result;
  result = plan_all(planning);
  if (result) return result;
  if (planning->count > 0) qsort(planning->steps, planning->count, sizeof *planning->steps, compare_steps);
  return 0;
}

int cli_command_plan(const struct cli *cli) {
  struct error error = {0};
  CLEANUP(release_planning) struct planning planning = {.cli = cli, .session = {.cli = cli}, .error = &error};
  struct clock_reading reading;
  const char *warning = NULL;
  clock_read(&reading);
  planning.now = reading.wall;
  planning.until = cli->arguments->until;
  if (planning.until == TIME_UNSET) planning.until = time_add(planning.now, (int64_t)CLI_PLAN_DAYS * SECONDS_OF_DAY);
  int result = open_plan(&planning, &warning);
  if (!result) result = find_steps(&planning);
  if (!result) result = cli->arguments->json ? print_json(&planning, warning) : print_text(&planning, warning);
  return result < 0 ? cli_report(cli, &error) : EX_OK;
}
