/* When a rotation may touch what signs: windows in a week, and dates on which nothing begins, in the local time of a zone. Pure. */
#ifndef DKIMROLL_SCHEDULE_H
#define DKIMROLL_SCHEDULE_H

#include "dkimroll/time_zone.h"

enum {
  SCHEDULE_DAYS = 7,
  SCHEDULE_HOURS_MAX = 8,    /* stretches of a day */
  SCHEDULE_FREEZES_MAX = 64, /* of one policy, and as many for all */
};

/* Seconds after local midnight; until is beyond 86400 if the stretch ends on the day after. */
struct schedule_hours {
  int32_t from, until;
};

/* Both ends are frozen. yearly: month * 32 + day, and first may be greater than last, over the end of a year; else days since 1970. */
struct schedule_dates {
  bool yearly;
  int64_t first, last;
};

/* Zeros are a schedule that is always open. */
struct schedule {
  const struct time_zone *zone; /* borrowed; NULL: UTC */
  unsigned days; /* bit 0 Monday to bit 6 Sunday: a stretch may begin on these */
  struct schedule_hours hours[SCHEDULE_HOURS_MAX];
  size_t hours_count; /* 0: no window, which means always */
  struct schedule_dates freezes[2 * SCHEDULE_FREEZES_MAX];
  size_t freeze_count;
};

/* Whether its zone is known on this host; without a window and a freeze nobody asks. */
bool schedule_is_known(const struct schedule *schedule);
/* The first moment at or after `at` that is not frozen, and with window also in the window. TIME_NEVER: none. */
int64_t schedule_next(const struct schedule *schedule, int64_t at, bool window);
/* The index of the first freeze that holds at that moment; freeze_count: none does. */
size_t schedule_frozen_by(const struct schedule *schedule, int64_t at);
/* The longest time between two stretches of the window, summer time included; 0: there is no window; TIME_NEVER: it never opens. */
int64_t schedule_longest_gap(const struct schedule *schedule);
/* From `from` until `until`: how many seconds are open, and the longest stretch that is not (*ret_gap, from *ret_gap_from). It may reach beyond until. */
int64_t schedule_open_seconds(const struct schedule *schedule, int64_t from, int64_t until, int64_t *ret_gap, int64_t *ret_gap_from);
/* Whether there is a moment, in any year, that is not frozen by the dates of every year, and is in the window. */
bool schedule_ever_opens(const struct schedule *schedule);

/* Texts of the policy. false: text is none. "mon" to "sun"; "09:00-16:00", "22:00-04:00", to "24:00"; "2026-12-20..2027-01-06", "2026-12-24",
 * "12-20..01-06", "12-24". */
bool schedule_parse_day(const char *text, unsigned *ret_bit);
bool schedule_parse_hours(const char *text, struct schedule_hours *ret_hours);
bool schedule_parse_dates(const char *text, struct schedule_dates *ret_dates);

#endif
