#include "dkimroll/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>
#include <time.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

enum { SECONDS_MINUTE = 60, SECONDS_HOUR = 3600, SECONDS_DAY = 86400, SECONDS_WEEK = 604800 };

int64_t clock_boottime(void) {
  struct timespec now = {0};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t clock_monotonic(void) {
  struct timespec now = {0};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void clock_refresh(struct clock_reading *reading) {
  struct timespec now = {0};
  clock_gettime(CLOCK_REALTIME, &now);
  reading->wall = now.tv_sec;
  reading->boottime = clock_boottime();
  struct timex kernel = {.modes = 0};
  int state = adjtimex(&kernel);
  reading->synchronised = state >= 0 && state != TIME_ERROR && (kernel.status & STA_UNSYNC) == 0;
}

static void clock_read_boot_id(char boot_id[CLOCK_BOOT_ID_SIZE]) {
  boot_id[0] = '\0';
  CLEANUP_CLOSE int descriptor = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return;
  ssize_t size = read(descriptor, boot_id, CLOCK_BOOT_ID_SIZE - 1);
  boot_id[size == CLOCK_BOOT_ID_SIZE - 1 ? size : 0] = '\0';
}

void clock_read(struct clock_reading *ret_reading) {
  struct clock_reading reading = {0};
  clock_refresh(&reading);
  clock_read_boot_id(reading.boot_id);
  *ret_reading = reading;
}

int64_t time_add(int64_t moment, int64_t seconds) {
  if (moment == TIME_NEVER || moment == TIME_UNSET) return moment;
  int64_t sum = 0;
  /* Too early to be represented saturates as well: to the first moment that is not TIME_UNSET. */
  if (__builtin_add_overflow(moment, seconds, &sum)) return seconds > 0 ? TIME_NEVER : TIME_UNSET + 1;
  return sum == TIME_UNSET ? TIME_UNSET + 1 : sum;
}

int64_t time_max(int64_t a, int64_t b) {
  return a > b ? a : b;
}
int64_t time_min(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static const char *time_format_as(int64_t moment, bool iso, char buffer[TIME_TEXT_SIZE]) {
  struct tm parts = {0};
  time_t seconds = moment;
  size_t length = 0;
  if (gmtime_r(&seconds, &parts))
    length = iso ? strftime(buffer, TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%SZ", &parts)
                 : strftime(buffer, TIME_TEXT_SIZE, "%Y-%m-%d %H:%M:%S UTC", &parts);
  /* A year beyond the C library's reach. */
  if (length == 0) snprintf(buffer, TIME_TEXT_SIZE, "@%lld", (long long)moment);
  return buffer;
}

const char *time_format(int64_t moment, char buffer[TIME_TEXT_SIZE]) {
  if (moment != TIME_NEVER && moment != TIME_UNSET) return time_format_as(moment, false, buffer);
  text_copy(buffer, TIME_TEXT_SIZE, moment == TIME_NEVER ? "never" : "-");
  return buffer;
}

const char *time_format_iso(int64_t moment, char buffer[TIME_TEXT_SIZE]) {
  if (moment != TIME_NEVER && moment != TIME_UNSET) return time_format_as(moment, true, buffer);
  text_copy(buffer, TIME_TEXT_SIZE, moment == TIME_NEVER ? "never" : "");
  return buffer;
}

/* Whether text has the shape, where 0 stands for a digit and everything else for itself. */
static bool time_has_shape(const char *text, const char *shape) {
  for (; *shape; text++, shape++) {
    bool digit = *text >= '0' && *text <= '9';
    if (*shape == '0' ? !digit : *text != *shape) return false;
  }
  return *text == '\0';
}

static int time_read_digits(const char *text, size_t count) {
  int number = 0;
  for (size_t i = 0; i < count; i++) number = number * 10 + (text[i] - '0');
  return number;
}

bool time_parse(const char *text, int64_t *ret_moment) {
  bool date = time_has_shape(text, "0000-00-00");
  bool minutes = time_has_shape(text, "0000-00-00 00:00");
  bool seconds = time_has_shape(text, "0000-00-00 00:00:00") || time_has_shape(text, "0000-00-00T00:00:00Z");
  if (!date && !minutes && !seconds) return false;

  struct tm parts = {.tm_year = time_read_digits(text, 4) - 1900,
                     .tm_mon = time_read_digits(text + 5, 2) - 1,
                     .tm_mday = time_read_digits(text + 8, 2)};
  if (minutes || seconds) {
    parts.tm_hour = time_read_digits(text + 11, 2);
    parts.tm_min = time_read_digits(text + 14, 2);
  }
  if (seconds) parts.tm_sec = time_read_digits(text + 17, 2);
  if (parts.tm_year < 70) return false;

  /* timegm(3) turns the 30th of February into a day of March; what does not come back as written was no date. */
  struct tm normal = parts;
  time_t moment = timegm(&normal);
  if (normal.tm_year != parts.tm_year || normal.tm_mon != parts.tm_mon || normal.tm_mday != parts.tm_mday ||
      normal.tm_hour != parts.tm_hour || normal.tm_min != parts.tm_min || normal.tm_sec != parts.tm_sec)
    return false;
  *ret_moment = moment;
  return true;
}

static const struct duration_unit {
  char letter;
  int64_t seconds;
} duration_units[] = {
    {'w', SECONDS_WEEK}, {'d', SECONDS_DAY}, {'h', SECONDS_HOUR}, {'m', SECONDS_MINUTE}, {'s', 1},
};

const char *duration_format(int64_t seconds, char buffer[DURATION_TEXT_SIZE]) {
  enum { UNITS_SHOWN = 2 };
  if (seconds == TIME_NEVER || seconds == TIME_UNSET) {
    text_copy(buffer, DURATION_TEXT_SIZE, seconds == TIME_NEVER ? "never" : "-");
    return buffer;
  }
  if (seconds == 0) {
    text_copy(buffer, DURATION_TEXT_SIZE, "0s");
    return buffer;
  }
  int64_t rest = seconds < 0 ? -seconds : seconds;
  size_t used = 0;
  if (seconds < 0) buffer[used++] = '-';
  int shown = 0;
  /* Weeks are read but not written: people compare 90d with 84d, not with 12w. */
  for (size_t i = 1; i < ARRAY_SIZE(duration_units) && shown < UNITS_SHOWN; i++) {
    int64_t amount = rest / duration_units[i].seconds;
    rest %= duration_units[i].seconds;
    if (amount == 0) continue;
    int length =
        snprintf(buffer + used, DURATION_TEXT_SIZE - used, "%lld%c", (long long)amount, duration_units[i].letter);
    used += (size_t)length;
    shown++;
  }
  return buffer;
}

/* Reads digits at *place and moves it behind them. false: none there, or more than DURATION_MAX. */
static bool duration_read_amount(const char **place, int64_t *ret_amount) {
  const char *digit = *place;
  int64_t amount = 0;
  for (; *digit >= '0' && *digit <= '9'; digit++) {
    amount = amount * 10 + (*digit - '0');
    if (amount > DURATION_MAX) return false;
  }
  if (digit == *place) return false;
  *place = digit;
  *ret_amount = amount;
  return true;
}

bool duration_parse(const char *text, int64_t *ret_seconds) {
  const char *place = text;
  int64_t total = 0;
  if (!duration_read_amount(&place, &total)) return false;
  if (*place == '\0') {
    *ret_seconds = total;
    return true;
  }
  place = text;
  total = 0;
  for (size_t i = 0; *place != '\0';) {
    int64_t amount = 0;
    if (!duration_read_amount(&place, &amount)) return false;
    while (i < ARRAY_SIZE(duration_units) && duration_units[i].letter != *place) i++;
    if (i == ARRAY_SIZE(duration_units)) return false;
    if (amount > DURATION_MAX / duration_units[i].seconds) return false;
    total += amount * duration_units[i].seconds;
    if (total > DURATION_MAX) return false;
    i++;
    place++;
  }
  *ret_seconds = total;
  return true;
}
