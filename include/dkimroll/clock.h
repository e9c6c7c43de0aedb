/* Time. Gates use wall time: UTC seconds since 1970 as int64_t. Deadlines and back-off use milliseconds of CLOCK_BOOTTIME,
 * which counts through suspend and is never set. This is the only module that asks the kernel for the time. */
#ifndef DKIMROLL_CLOCK_H
#define DKIMROLL_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* A moment that never comes. Compares greater than every other. */
#define TIME_NEVER INT64_MAX
/* A moment that was never recorded. */
#define TIME_UNSET INT64_MIN

/* The longest duration that a policy may name: 100 years, so that sums of several never overflow. */
#define DURATION_MAX (INT64_C(36525) * 86400)

enum { CLOCK_BOOT_ID_SIZE = 37, TIME_TEXT_SIZE = 32, DURATION_TEXT_SIZE = 32 };

/* One reading of all clocks; the engine takes one a turn. */
struct clock_reading {
  int64_t wall;                     /* UTC seconds */
  int64_t boottime;                 /* milliseconds since boot, suspend included */
  bool synchronised;                /* the kernel says that the wall clock is disciplined (adjtimex, no STA_UNSYNC) */
  char boot_id[CLOCK_BOOT_ID_SIZE]; /* /proc/sys/kernel/random/boot_id, empty if unreadable */
};

/* Reads the real clocks. synchronised stays false where adjtimex(2) is forbidden, as ProtectClock= of systemd does. */
void clock_read(struct clock_reading *ret_reading);
/* The same, but boot_id, which does not change while the process lives, is left as it is. */
void clock_refresh(struct clock_reading *reading);
/* Milliseconds of CLOCK_BOOTTIME alone. */
int64_t clock_boottime(void);
/* Microseconds of CLOCK_MONOTONIC, by which systemd tells apart what happened before a reload (MONOTONIC_USEC= of sd_notify(3)). */
int64_t clock_monotonic(void);

/* moment + seconds; TIME_NEVER and TIME_UNSET stay what they are, overflow saturates to TIME_NEVER (downwards: to the earliest
 * moment that is not TIME_UNSET). */
int64_t time_add(int64_t moment, int64_t seconds);
int64_t time_max(int64_t a, int64_t b);
int64_t time_min(int64_t a, int64_t b);

/* "2026-01-24 15:04:05 UTC"; "never"; "-" for TIME_UNSET. buffer holds TIME_TEXT_SIZE; returns buffer. */
const char *time_format(int64_t moment, char buffer[TIME_TEXT_SIZE]);
/* "2026-01-24T15:04:05Z", for JSON. Empty for TIME_UNSET, "never" for TIME_NEVER. */
const char *time_format_iso(int64_t moment, char buffer[TIME_TEXT_SIZE]);
/* Reads "2026-01-24", "2026-01-24T15:04:05Z", "2026-01-24 15:04[:05]" (UTC), from 1970 to 9999, no leap seconds. false: none
 * of these. */
bool time_parse(const char *text, int64_t *ret_moment);

/* Whole seconds as the two largest units that matter: "90d", "1h30m", "45s", "0s"; "-5m" if negative; "never" and "-" for TIME_NEVER and
 * TIME_UNSET. The largest unit is the day. */
const char *duration_format(int64_t seconds, char buffer[DURATION_TEXT_SIZE]);
/* Reads "90d", "1h30m", "2w", "3600" (seconds), units w d h m s in falling order, each once. At most 100 years.
 * false: not a duration. */
bool duration_parse(const char *text, int64_t *ret_seconds);

#endif
