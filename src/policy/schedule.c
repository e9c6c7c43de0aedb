#include "dkimroll/schedule.h"

#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

enum {
  DAY = 86400,
  EDGES_MAX = 8192, /* of one search: a year has fewer than 400 days at which something changes, and the rarest window opens once in 28 years */
};

/* A moment in local time, and until when the offset holds. */
struct local {
  int64_t day;
  int32_t second;
  int32_t offset;
  int64_t until;
};

static struct local local_at(const struct schedule *schedule, int64_t at) {
  struct local local;
  local.offset = time_zone_offset(schedule->zone, at, &local.until);
  const int64_t seconds = at + local.offset;
  local.day = seconds / DAY - (seconds % DAY < 0 ? 1 : 0);
  local.second = (int32_t)(seconds - local.day * DAY);
  return local;
}

static bool day_is_open(const struct schedule *schedule, int64_t day) { return schedule->days & 1u << date_weekday(day); }

static bool is_in_window(const struct schedule *schedule, const struct local *local) {
  if (schedule->hours_count == 0) return true;
  for (size_t i = 0; i < schedule->hours_count; i++) {
    const struct schedule_hours *hours = &schedule->hours[i];
    if (day_is_open(schedule, local->day) && local->second >= hours->from && local->second < hours->until) return true;
    if (day_is_open(schedule, local->day - 1) && local->second + DAY < hours->until) return true;
  }
  return false;
}

/* When, in local seconds, the window may open next. */
static int64_t next_opening(const struct schedule *schedule, const struct local *local) {
  int64_t next = (local->day + 1) * DAY;
  for (size_t i = 0; i < schedule->hours_count && day_is_open(schedule, local->day); i++)
    if (schedule->hours[i].from > local->second) next = time_min(next, local->day * DAY + schedule->hours[i].from);
  return next;
}

/* The first day after the freeze; day itself if it does not hold then. */
static int64_t freeze_end(const struct schedule_dates *dates, int64_t day) {
  int64_t year;
  unsigned month, date;
  if (!dates->yearly) return day >= dates->first && day <= dates->last ? dates->last + 1 : day;
  date_civil(day, &year, &month, &date);
  const int64_t today = (int64_t)month * 32 + date;
  const bool wraps = dates->first > dates->last;
  const bool after_first = today >= dates->first, before_last = today <= dates->last;
  if (wraps ? !after_first && !before_last : !after_first || !before_last) return day;
  if (wraps && after_first) year++;
  const unsigned last_month = (unsigned)(dates->last / 32), last_day = (unsigned)(dates->last % 32), length = date_month_length(year, last_month);
  return date_days(year, last_month, last_day < length ? last_day : length) + 1;
}

static size_t frozen_by(const struct schedule *schedule, int64_t day) {
  for (size_t i = 0; i < schedule->freeze_count; i++)
    if (freeze_end(&schedule->freezes[i], day) != day) return i;
  return schedule->freeze_count;
}

bool schedule_is_known(const struct schedule *schedule) {
  const bool asked = schedule->hours_count > 0 || schedule->freeze_count > 0;
  return !asked || !schedule->zone || schedule->zone->count > 0;
}

size_t schedule_frozen_by(const struct schedule *schedule, int64_t at) {
  if (schedule->freeze_count == 0 || at == TIME_NEVER) return schedule->freeze_count;
  return frozen_by(schedule, local_at(schedule, at).day);
}

/* From edge to edge: a change of the offset is one, because local time jumps there. */
int64_t schedule_next(const struct schedule *schedule, int64_t at, bool window) {
  if (schedule->freeze_count == 0 && (!window || schedule->hours_count == 0)) return at;
  for (unsigned i = 0; i < EDGES_MAX && at != TIME_NEVER; i++) {
    const struct local local = local_at(schedule, at);
    const size_t freeze = frozen_by(schedule, local.day);
    const bool frozen = freeze < schedule->freeze_count;
    if (!frozen && (!window || is_in_window(schedule, &local))) return at;
    const int64_t edge = frozen ? freeze_end(&schedule->freezes[freeze], local.day) * DAY : next_opening(schedule, &local);
    at = time_min(edge - local.offset, local.until);
  }
  return TIME_NEVER;
}

/* When, at the latest, the window that is open then closes or changes. */
static int64_t next_closing(const struct schedule *schedule, int64_t at) {
  const struct local local = local_at(schedule, at);
  int64_t next = (local.day + 1) * DAY;
  for (size_t i = 0; i < schedule->hours_count; i++) {
    const int64_t until = schedule->hours[i].until, before = until - DAY;
    if (until > local.second) next = time_min(next, local.day * DAY + until);
    if (before > local.second) next = time_min(next, local.day * DAY + before);
  }
  return time_min(next - local.offset, local.until);
}

int64_t schedule_longest_gap(const struct schedule *schedule) {
  struct schedule window = *schedule;
  window.freeze_count = 0;
  if (window.hours_count == 0) return 0;
  /* Three years by the rules of today. */
  const int64_t begin = date_days(2027, 1, 1) * DAY, end = date_days(2030, 1, 1) * DAY;
  int64_t longest = 0;
  for (int64_t at = begin; at < end;) {
    const int64_t opens = schedule_next(&window, at, true);
    if (opens == TIME_NEVER) return TIME_NEVER;
    longest = time_max(longest, opens - at);
    at = next_closing(&window, opens);
  }
  return longest;
}

int64_t schedule_open_seconds(const struct schedule *schedule, int64_t from, int64_t until, int64_t *ret_gap, int64_t *ret_gap_from) {
  int64_t open = 0, closed_since = from;
  *ret_gap = 0;
  *ret_gap_from = from;
  for (int64_t at = from; at < until;) {
    const int64_t opens = schedule_next(schedule, at, true);
    if (opens > at && time_add(opens, -closed_since) > *ret_gap) {
      *ret_gap = time_add(opens, -closed_since);
      *ret_gap_from = closed_since;
    }
    if (opens >= until) break;
    at = time_min(next_closing(schedule, opens), until);
    closed_since = at;
    open += at - opens;
  }
  return open;
}

bool schedule_ever_opens(const struct schedule *schedule) {
  /* After all dates with a year, at the begin of a cycle of the calendar. */
  return schedule_next(schedule, date_days(10000, 1, 1) * DAY, true) != TIME_NEVER;
}

/* ---- texts ---- */

bool schedule_parse_day(const char *text, unsigned *ret_bit) {
  static const char *const names[SCHEDULE_DAYS] = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"};
  for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
    if (!text_equal(names[i], text)) continue;
    *ret_bit = 1u << i;
    return true;
  }
  return false;
}

/* Whether text has the shape, where 0 stands for a digit and everything else for itself. */
static bool has_shape(const char *text, const char *shape) {
  for (; *shape; text++, shape++) {
    const bool digit = *text >= '0' && *text <= '9';
    if (*shape == '0' ? !digit : *text != *shape) return false;
  }
  return *text == '\0';
}

static unsigned digits(const char *text, size_t count) {
  unsigned number = 0;
  for (size_t i = 0; i < count; i++) number = number * 10 + (unsigned)(text[i] - '0');
  return number;
}

bool schedule_parse_hours(const char *text, struct schedule_hours *ret_hours) {
  if (!has_shape(text, "00:00-00:00")) return false;
  const unsigned hour = digits(text, 2), minute = digits(text + 3, 2), last_hour = digits(text + 6, 2), last_minute = digits(text + 9, 2);
  if (hour > 23 || minute > 59 || last_minute > 59 || last_hour > 24 || (last_hour == 24 && last_minute > 0)) return false;
  const int32_t from = (int32_t)(hour * 3600 + minute * 60), until = (int32_t)(last_hour * 3600 + last_minute * 60);
  if (from == until) return false;
  *ret_hours = (struct schedule_hours){from, until < from ? until + DAY : until};
  return true;
}

/* "2026-12-24" as days since 1970, or "12-24" as month and day. */
static bool parse_date(const char *text, bool yearly, int64_t *ret_date) {
  const int64_t year = yearly ? 2000 : digits(text, 4); /* any leap year */
  const char *rest = yearly ? text : text + 5;
  const unsigned month = digits(rest, 2), day = digits(rest + 3, 2);
  if (year < 1970 || month < 1 || month > 12 || day < 1 || day > date_month_length(year, month)) return false;
  *ret_date = yearly ? (int64_t)month * 32 + day : date_days(year, month, day);
  return true;
}

bool schedule_parse_dates(const char *text, struct schedule_dates *ret_dates) {
  struct schedule_dates dates = {.yearly = has_shape(text, "00-00") || has_shape(text, "00-00..00-00")};
  const bool range = has_shape(text, "00-00..00-00") || has_shape(text, "0000-00-00..0000-00-00");
  if (!dates.yearly && !range && !has_shape(text, "0000-00-00")) return false;
  const char *last = range ? strstr(text, "..") + 2 : text;
  if (!parse_date(text, dates.yearly, &dates.first) || !parse_date(last, dates.yearly, &dates.last)) return false;
  if (!dates.yearly && dates.first > dates.last) return false;
  *ret_dates = dates;
  return true;
}
