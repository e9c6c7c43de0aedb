/* Windows, freezes, time zones and jitter as they stand in the policy. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/policy_checks.h"
#include "dkimroll/policy_tables.h"
#include "dkimroll/text.h"

enum { SHOWN_SIZE = 96 };

/* '"TEXT" what', with remedy. */
static int refuse(const char *text, const char *what, const char *remedy, struct error *error) {
  char shown[SHOWN_SIZE];
  error_set(error, ERROR_INVALID, "\"%s\" %s", text_printable(text, strlen(text), shown, sizeof shown), what);
  if (error) (void)error_remedy(error, "%s", remedy);
  return ERROR_INVALID;
}

int policy_check_day(const char *text, struct error *error) {
  unsigned bit;
  return schedule_parse_day(text, &bit) ? 0 : refuse(text, "is no day", "write mon, tue, wed, thu, fri, sat or sun", error);
}

int policy_check_hours(const char *text, struct error *error) {
  struct schedule_hours hours;
  if (schedule_parse_hours(text, &hours)) return 0;
  return refuse(text, "is no stretch of a day", "write it as in \"09:00-16:00\", or \"22:00-04:00\" over midnight; the whole day is \"00:00-24:00\"", error);
}

int policy_check_dates(const char *text, struct error *error) {
  struct schedule_dates dates;
  if (schedule_parse_dates(text, &dates)) return 0;
  return refuse(text, "is no date and no range of dates",
                "write it as in \"2026-12-20..2027-01-06\" or \"2026-12-24\", or for every year \"12-20..01-06\" or \"12-24\"", error);
}

int policy_check_time_zone(const char *text, struct error *error) {
  struct time_zone *zone = NULL;
  const int result = time_zone_load(text, &zone, error);
  time_zone_free(zone);
  return result;
}

/* ---- types ---- */

static int read_jitter(const struct schema_row *row, const char *text, void *record) { return schema_duration.read(row, text, record); }
static int64_t jitter_of(const struct schema_row *row, const void *record) { return *SCHEMA_FIELD_CONST(int64_t, record, row->offset); }
static void show_duration(int64_t number, char buffer[DURATION_TEXT_SIZE]) { (void)duration_format(number, buffer); }

static bool write_jitter(const struct schema_row *row, const void *record, struct buffer *buffer) {
  return jitter_of(row, record) != 0 && schema_duration.write(row, record, buffer);
}

const struct schema_type policy_jitter_type = {.expects = "a duration such as 90d, 1h30m or 3600 (seconds)",
                                               .read = read_jitter,
                                               .write = write_jitter,
                                               .number = jitter_of,
                                               .show = show_duration};

static void release_zone(const struct schema_row *row, void *record) {
  struct time_zone **field = SCHEMA_FIELD(struct time_zone *, record, row->offset);
  time_zone_free(*field);
  *field = NULL;
}

/* A zone that this host does not know keeps its name: in the policy the row's check says what is wrong, and what was stored must stay readable when tzdata
 * is gone. One that could not be looked at for want of memory or of a descriptor is not one that is not known. */
static int read_zone(const struct schema_row *row, const char *text, void *record) {
  struct time_zone *zone = NULL;
  struct error error = {0};
  const int result = time_zone_load(text, &zone, &error);
  if (result && !error.retryable) zone = time_zone_unknown(text);
  if (!zone) return ERROR_NO_MEMORY;
  release_zone(row, record);
  *SCHEMA_FIELD(struct time_zone *, record, row->offset) = zone;
  return 0;
}

static bool write_zone(const struct schema_row *row, const void *record, struct buffer *buffer) {
  const struct time_zone *zone = *SCHEMA_FIELD_CONST(struct time_zone *, record, row->offset);
  if (zone) schema_write_text(zone->name, buffer);
  return zone != NULL;
}

const struct schema_type policy_time_zone_type = {
    .expects = "the name of a time zone, as in Europe/Berlin, or UTC", .read = read_zone, .write = write_zone, .release = release_zone};

static int read_budget(const struct schema_row *row, const char *text, void *record) {
  struct policy_limits *limits = SCHEMA_FIELD(struct policy_limits, record, row->offset);
  const size_t size = strlen(text);
  const bool percent = size > 0 && text[size - 1] == '%';
  char number[16];
  long long failures;
  if (size >= sizeof number) return ERROR_INVALID;
  text_copy(number, sizeof number, text);
  if (percent) number[size - 1] = '\0';
  if (!text_parse_number(number, 0, percent ? 100 : POLICY_DOMAINS_MAX, &failures)) return ERROR_INVALID;
  limits->budget = true;
  limits->percent = percent;
  limits->failures = (unsigned)failures;
  return 0;
}

static bool write_budget(const struct schema_row *row, const void *record, struct buffer *buffer) {
  const struct policy_limits *limits = SCHEMA_FIELD_CONST(struct policy_limits, record, row->offset);
  if (limits->budget) buffer_format(buffer, "\"%u%s\"", limits->failures, limits->percent ? "%" : "");
  return limits->budget;
}

const struct schema_type policy_budget_type = {
    .expects = "a share such as 5%, or a number of failures such as 12", .read = read_budget, .write = write_budget};

/* ---- what the texts say ---- */

static void compile_window(struct policy_rules *rules) {
  static const struct schedule_hours whole_day = {0, 86400};
  struct schedule *schedule = &rules->schedule;
  for (size_t i = 0; i < rules->window_day_count; i++) {
    unsigned bit = 0;
    if (schedule_parse_day(rules->window_days[i], &bit)) schedule->days |= bit;
  }
  if (rules->window_day_count == 0) schedule->days = (1u << SCHEDULE_DAYS) - 1;
  for (size_t i = 0; i < rules->window_hours_count && schedule->hours_count < SCHEDULE_HOURS_MAX; i++)
    if (schedule_parse_hours(rules->window_hours[i], &schedule->hours[schedule->hours_count])) schedule->hours_count++;
  if (rules->window_hours_count == 0 && rules->window_day_count > 0) schedule->hours[schedule->hours_count++] = whole_day;
}

void policy_schedule_compile(struct policy_rules *rules) {
  rules->schedule = (struct schedule){.zone = rules->time_zone};
  compile_window(rules);
  /* Each keeps its index, by which its text is found again. */
  for (size_t i = 0; i < rules->freeze_count && i < ARRAY_SIZE(rules->schedule.freezes); i++) {
    struct schedule_dates *dates = &rules->schedule.freezes[rules->schedule.freeze_count++];
    if (!schedule_parse_dates(rules->freezes[i], dates)) *dates = (struct schedule_dates){.first = 1, .last = 0};
  }
}

void policy_window_check(const struct policy_node *node, void *record, struct policy_report *report) {
  struct policy_rules *rules = record;
  char path[POLICY_PATH_SIZE], life[DURATION_TEXT_SIZE], gap[DURATION_TEXT_SIZE];
  policy_node_path(node, path);
  policy_schedule_compile(rules);
  const int64_t longest = schedule_longest_gap(&rules->schedule), least = policy_least_life(rules);
  if (!schedule_ever_opens(&rules->schedule)) {
    policy_report_add(report, policy_node_place(node, rules->freeze_count > 0 ? "freeze" : "window"),
                      "%s: window and freeze together leave no moment at which a key may take over; let some days be open", path);
  } else if (longest > 0 && least <= longest) {
    policy_report_add(report, policy_node_place(node, "window"),
                      "%s.window: up to %s pass from one opening to the next, so that no key could end a life of %s in time; open it more often, or rotate less "
                      "often",
                      path, duration_format(longest, gap), duration_format(least, life));
  }
}

/* The list grows by one. */
static bool append_freeze(struct policy_rules *rules, const char *text) {
  char *copy = text_duplicate(text);
  char **grown = copy ? reallocarray(rules->freezes, rules->freeze_count + 1, sizeof *grown) : NULL;
  if (!grown) {
    free(copy);
    return false;
  }
  rules->freezes = grown;
  grown[rules->freeze_count++] = copy;
  return true;
}

static void join_freezes(const struct policy_draft *draft, struct policy_rules *rules, const struct policy_node *freeze, struct policy_report *report) {
  const bool opened = schedule_ever_opens(&rules->schedule);
  for (size_t i = 0; i < draft->policy.freeze_count; i++) {
    if (append_freeze(rules, draft->policy.freezes[i])) continue;
    policy_report_no_memory(report);
    return;
  }
  policy_schedule_compile(rules);
  if (!opened || !freeze || schedule_ever_opens(&rules->schedule)) return;
  policy_report_add(report, freeze->place, "freeze: together with window and freeze of policy \"%s\" it leaves no moment at which a key may take over; let some days be open",
                    rules->name);
}

void policy_freezes_join(struct policy_draft *draft, const struct policy_node *freeze, struct policy_report *report) {
  for (size_t i = 0; i < draft->policy.rules_count && draft->policy.freeze_count > 0; i++) join_freezes(draft, &draft->policy.rules[i], freeze, report);
}
