/* Time zones, from the files of tzdata (TZif, RFC 9636): which offset from UTC holds at a moment, and until when. Once it is read a zone is a table, so that
 * pure code can ask it. Besides, the calendar in days. */
#ifndef DKIMROLL_TIME_ZONE_H
#define DKIMROLL_TIME_ZONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/clock.h"
#include "dkimroll/error.h"

#define TIME_ZONE_DIRECTORY "/usr/share/zoneinfo"
enum {
  TIME_ZONE_NAME_MAX = 63,        /* octets; the longest of tzdata has 32 */
  TIME_ZONE_FILE_MAX = 64 * 1024, /* octets; the largest of tzdata has 4 KiB */
  TIME_ZONE_STEPS_MAX = 4096,     /* changes of the offset; the zone with the most has 300 in its file, and gets 2 a year until the last year */
  TIME_ZONE_LAST_YEAR = 2200,     /* until then the rule at the end of the file is written out; afterwards the last offset stays */
};

/* From that moment on local time is UTC + offset. */
struct time_zone_step {
  int64_t from; /* UTC seconds; of the first step the earliest moment there is */
  int32_t offset;
};

struct time_zone {
  char name[TIME_ZONE_NAME_MAX + 1];
  struct time_zone_step *steps; /* owned, rising */
  size_t count;                 /* 0: nothing is known of the zone on this host */
};

/* Reads the zone of that name ("Europe/Berlin"); "UTC" needs no file. ERROR_INVALID: no name of a zone; ERROR_NOT_FOUND: this host has no such zone, with the
 * remedy that fits (tzdata is missing, or the name is wrong); ERROR_PROTOCOL: the file is damaged; ERROR_PERMISSION, ERROR_SYSTEM, ERROR_NO_MEMORY. Caller frees. */
int time_zone_load(const char *name, struct time_zone **ret_zone, struct error *error) ERROR_USE_RESULT;
/* The same from the octets of a TZif file. ERROR_PROTOCOL, ERROR_LIMIT, ERROR_NO_MEMORY. */
int time_zone_parse(const char *name, const void *data, size_t size, struct time_zone **ret_zone, struct error *error) ERROR_USE_RESULT;
/* A zone of which nothing is known but its name, for what was stored on a host that knew it. NULL: out of memory. */
struct time_zone *time_zone_unknown(const char *name);
void time_zone_free(struct time_zone *zone); /* NULL is fine */

/* Seconds to add to UTC at that moment. *ret_until: from then on it may be another; TIME_NEVER. NULL, or a zone of which nothing is known: 0. */
int32_t time_zone_offset(const struct time_zone *zone, int64_t at, int64_t *ret_until);

/* Days since 1970-01-01 in the proleptic Gregorian calendar, and back. month 1 to 12, day 1 to 31. */
int64_t date_days(int64_t year, unsigned month, unsigned day);
void date_civil(int64_t days, int64_t *ret_year, unsigned *ret_month, unsigned *ret_day);
/* How many days that month has. */
unsigned date_month_length(int64_t year, unsigned month);
/* 0 Monday to 6 Sunday. */
unsigned date_weekday(int64_t days);

#endif
