#include "time_zone_rule.h"

#include <string.h>

#include "dkimroll/time_zone.h"

enum { HOUR = 3600, DAY = 86400, HOURS_MAX = 167 /* RFC 9636 3.3.1 */ };

/* When summer time begins or ends in a year. */
struct turn {
  char kind; /* 'M': weekday of a week of a month; 'J': day 1 to 365 without leap days; 'N': day 0 to 365 with them */
  unsigned month, week, weekday, day;
  int32_t time; /* seconds after local midnight */
};

struct rule {
  int32_t standard, summer; /* seconds to add to UTC */
  bool has_summer;
  struct turn begins, ends;
};

/* Digits at *at, at most maximum. */
static bool read_number(const char **at, unsigned maximum, unsigned *ret_number) {
  unsigned number = 0, digits = 0;
  for (; **at >= '0' && **at <= '9' && digits < 4; digits++) number = number * 10 + (unsigned)(*(*at)++ - '0');
  *ret_number = number;
  return digits > 0 && number <= maximum;
}

/* "[+-]hh[:mm[:ss]]" */
static bool read_time(const char **at, unsigned hours_maximum, int32_t *ret_seconds) {
  unsigned parts[3] = {0};
  const int sign = **at == '-' ? -1 : 1;
  if (**at == '-' || **at == '+') (*at)++;
  if (!read_number(at, hours_maximum, &parts[0])) return false;
  for (unsigned i = 1; i < 3 && **at == ':'; i++) {
    (*at)++;
    if (!read_number(at, 59, &parts[i])) return false;
  }
  *ret_seconds = sign * (int32_t)(parts[0] * HOUR + parts[1] * 60 + parts[2]);
  return true;
}

/* "CET" or "<+03>". */
static bool skip_name(const char **at) {
  const char *const begin = *at;
  if (*begin == '<') {
    const char *end = strchr(begin, '>');
    if (!end) return false;
    *at = end + 1;
    return end > begin + 1;
  }
  while ((**at >= 'A' && **at <= 'Z') || (**at >= 'a' && **at <= 'z')) (*at)++;
  return *at - begin >= 3;
}

static bool read_turn(const char **at, struct turn *ret_turn) {
  bool good;
  *ret_turn = (struct turn){.kind = 'N', .time = 2 * HOUR};
  if (**at == 'M') {
    ret_turn->kind = *(*at)++;
    good = read_number(at, 12, &ret_turn->month) && ret_turn->month >= 1 && *(*at)++ == '.' && read_number(at, 5, &ret_turn->week) &&
           ret_turn->week >= 1 && *(*at)++ == '.' && read_number(at, 6, &ret_turn->weekday);
  } else {
    if (**at == 'J') ret_turn->kind = *(*at)++;
    good = read_number(at, 365, &ret_turn->day) && (ret_turn->kind == 'N' || ret_turn->day >= 1);
  }
  if (!good || **at != '/') return good;
  (*at)++;
  return read_time(at, HOURS_MAX, &ret_turn->time);
}

static bool read_rule(const char *text, struct rule *ret_rule) {
  const char *at = text;
  int32_t west;
  *ret_rule = (struct rule){0};
  if (!skip_name(&at) || !read_time(&at, 24, &west)) return false;
  ret_rule->standard = -west;
  if (!*at) return true;
  ret_rule->has_summer = true;
  ret_rule->summer = ret_rule->standard + HOUR;
  if (!skip_name(&at)) return false;
  if (*at != ',') {
    if (!read_time(&at, 24, &west)) return false;
    ret_rule->summer = -west;
  }
  return *at++ == ',' && read_turn(&at, &ret_rule->begins) && *at++ == ',' && read_turn(&at, &ret_rule->ends) && !*at;
}

static bool is_leap_year(int64_t year) { return date_month_length(year, 2) == 29; }

static int64_t turn_day(const struct turn *turn, int64_t year) {
  const int64_t first = date_days(year, 1, 1);
  if (turn->kind == 'N') return first + turn->day;
  if (turn->kind == 'J') return first + turn->day - 1 + (is_leap_year(year) && turn->day >= 60 ? 1 : 0);
  const int64_t month = date_days(year, turn->month, 1);
  /* The rule counts weekdays from Sunday. */
  const unsigned wanted = (turn->weekday + 6) % 7;
  int64_t day = month + (wanted + 7 - date_weekday(month)) % 7 + 7 * ((int64_t)turn->week - 1);
  if (day >= month + date_month_length(year, turn->month)) day -= 7; /* week 5 is the last */
  return day;
}

bool time_zone_rule_expand(const char *text, int64_t last, time_zone_rule_step *step, void *context) {
  struct rule rule;
  int64_t year;
  unsigned month, day;
  if (!read_rule(text, &rule)) return false;
  if (!rule.has_summer) {
    step(context, last, rule.standard);
    return true;
  }
  /* No zone of the file ends before it begins to matter, and a file may begin as early as it likes. */
  date_civil(time_max(last, 0) / DAY, &year, &month, &day);
  for (; year <= TIME_ZONE_LAST_YEAR; year++) {
    const int64_t begins = turn_day(&rule.begins, year) * DAY + rule.begins.time - rule.standard;
    const int64_t ends = turn_day(&rule.ends, year) * DAY + rule.ends.time - rule.summer;
    const bool north = begins < ends;
    if ((north ? begins : ends) > last) step(context, north ? begins : ends, north ? rule.summer : rule.standard);
    if ((north ? ends : begins) > last) step(context, north ? ends : begins, north ? rule.standard : rule.summer);
  }
  return true;
}
