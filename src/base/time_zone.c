#include "dkimroll/time_zone.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"
#include "time_zone_rule.h"

enum {
  HEADER_SIZE = 44,
  TYPES_MAX = 256, /* a type is one octet in the file */
  OFFSET_MAX = 26 * 3600, /* RFC 9636 3.2: -25 h < offset < 26 h */
};

/* ---- the calendar ---- */

/* By 400 years of 146,097 days, which begin in March, so that the leap day is the last of a year. */
int64_t date_days(int64_t year, unsigned month, unsigned day) {
  const int64_t y = month <= 2 ? year - 1 : year;
  const int64_t era = (y >= 0 ? y : y - 399) / 400;
  const int64_t year_of_era = y - era * 400;
  const int64_t day_of_year = (153 * ((int64_t)month + (month > 2 ? -3 : 9)) + 2) / 5 + (int64_t)day - 1;
  return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

void date_civil(int64_t days, int64_t *ret_year, unsigned *ret_month, unsigned *ret_day) {
  const int64_t shifted = days + 719468;
  const int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
  const int64_t day_of_era = shifted - era * 146097;
  const int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t shifted_month = (5 * day_of_year + 2) / 153;
  *ret_day = (unsigned)(day_of_year - (153 * shifted_month + 2) / 5 + 1);
  *ret_month = (unsigned)(shifted_month < 10 ? shifted_month + 3 : shifted_month - 9);
  *ret_year = year_of_era + era * 400 + (*ret_month <= 2 ? 1 : 0);
}

unsigned date_month_length(int64_t year, unsigned month) {
  return (unsigned)(date_days(month == 12 ? year + 1 : year, month == 12 ? 1 : month + 1, 1) - date_days(year, month, 1));
}

unsigned date_weekday(int64_t days) {
  /* 1970-01-01 was a Thursday. */
  const int64_t weekday = (days + 3) % 7;
  return (unsigned)(weekday < 0 ? weekday + 7 : weekday);
}

/* ---- the file ---- */

/* What was not read yet. Reading beyond the end sets damaged and gives zeros. */
struct reader {
  const uint8_t *at;
  size_t left;
  bool damaged;
};

static const uint8_t *take(struct reader *reader, size_t size) {
  if (size > reader->left) {
    reader->damaged = true;
    return NULL;
  }
  const uint8_t *octets = reader->at;
  reader->at += size;
  reader->left -= size;
  return octets;
}

static int64_t take_number(struct reader *reader, size_t size) {
  const uint8_t *octets = take(reader, size);
  uint64_t number = 0;
  for (size_t i = 0; octets && i < size; i++) number = number << 8 | octets[i];
  return size == 4 ? (int64_t)(int32_t)(uint32_t)number : (int64_t)number;
}

struct header {
  unsigned version;
  size_t ut_count, standard_count, leap_count, time_count, type_count, letter_count;
};

static bool take_header(struct reader *reader, struct header *ret_header) {
  const uint8_t *octets = take(reader, HEADER_SIZE - 24);
  size_t *const counts[] = {&ret_header->ut_count,   &ret_header->standard_count, &ret_header->leap_count,
                            &ret_header->time_count, &ret_header->type_count,     &ret_header->letter_count};
  if (!octets || memcmp(octets, "TZif", 4) != 0) return false;
  ret_header->version = octets[4];
  for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
    const int64_t count = take_number(reader, 4);
    if (count < 0 || count > TIME_ZONE_FILE_MAX) return false;
    *counts[i] = (size_t)count;
  }
  return !reader->damaged;
}

static size_t block_size(const struct header *header, size_t time_size) {
  return header->time_count * (time_size + 1) + header->type_count * 6 + header->letter_count +
         header->leap_count * (time_size + 4) + header->standard_count + header->ut_count;
}

/* The steps while they are collected. */
struct collection {
  struct time_zone *zone;
  size_t capacity;
  int code; /* 0, ERROR_NO_MEMORY, ERROR_LIMIT */
};

static void collect(struct collection *collection, int64_t from, int32_t offset) {
  struct time_zone *zone = collection->zone;
  /* What changes a name alone is no step. */
  if (collection->code || (zone->count > 0 && zone->steps[zone->count - 1].offset == offset)) return;
  /* Of two that hold from one moment the later one does: a rule that is other than what the file says last, or whose two turns fall together. */
  if (zone->count > 0 && from <= zone->steps[zone->count - 1].from) {
    zone->steps[zone->count - 1].offset = offset;
    return;
  }
  if (zone->count == TIME_ZONE_STEPS_MAX) {
    collection->code = ERROR_LIMIT;
    return;
  }
  if (zone->count == collection->capacity) {
    const size_t capacity = collection->capacity ? collection->capacity * 2 : 64;
    struct time_zone_step *steps = reallocarray(zone->steps, capacity, sizeof *steps);
    if (!steps) {
      collection->code = ERROR_NO_MEMORY;
      return;
    }
    zone->steps = steps;
    collection->capacity = capacity;
  }
  zone->steps[zone->count++] = (struct time_zone_step){from, offset};
}

/* One data block: moments, the type of each, and the types' offsets. Before the first moment the first type holds (RFC 9636 3.2). *ret_last: the last moment. */
static bool take_block(struct reader *reader, const struct header *header, size_t time_size, struct collection *collection, int64_t *ret_last) {
  int32_t offsets[TYPES_MAX];
  struct reader times = {take(reader, header->time_count * time_size), header->time_count * time_size, false};
  const uint8_t *types = take(reader, header->time_count);
  if (reader->damaged || header->type_count == 0 || header->type_count > TYPES_MAX) return false;
  for (size_t i = 0; i < header->type_count; i++) {
    offsets[i] = (int32_t)take_number(reader, 4);
    (void)take(reader, 2);
    if (offsets[i] <= -OFFSET_MAX || offsets[i] >= OFFSET_MAX) return false;
  }
  (void)take(reader, header->letter_count + header->leap_count * (time_size + 4) + header->standard_count + header->ut_count);
  if (reader->damaged) return false;
  collect(collection, TIME_UNSET + 1, offsets[0]);
  *ret_last = TIME_UNSET + 1;
  for (size_t i = 0; i < header->time_count; i++) {
    const int64_t at = take_number(&times, time_size);
    if (types[i] >= header->type_count || at == TIME_UNSET || (i > 0 && at <= *ret_last)) return false;
    *ret_last = at;
    collect(collection, at, offsets[types[i]]);
  }
  return true;
}

static void collect_step(void *context, int64_t from, int32_t offset) { collect(context, from, offset); }

/* "\nCET-1CEST,M3.5.0,M10.5.0/3\n": what holds after the last moment of the file. */
static bool take_footer(struct reader *reader, int64_t last, struct collection *collection) {
  char text[TIME_ZONE_RULE_MAX + 1];
  const uint8_t *begin = take(reader, 1);
  if (!begin || *begin != '\n') return false;
  const uint8_t *end = memchr(reader->at, '\n', reader->left);
  const size_t size = end ? (size_t)(end - reader->at) : sizeof text;
  if (size >= sizeof text) return false;
  memcpy(text, reader->at, size);
  text[size] = '\0';
  return size == 0 || time_zone_rule_expand(text, last, collect_step, collection);
}

static bool take_file(struct reader *reader, struct collection *collection) {
  struct header header;
  int64_t last;
  if (!take_header(reader, &header)) return false;
  if (header.version < '2') return header.leap_count == 0 && take_block(reader, &header, 4, collection, &last);
  /* Since version 2 everything stands a second time, with moments of 64 bits. */
  (void)take(reader, block_size(&header, 4));
  if (reader->damaged || !take_header(reader, &header)) return false;
  /* "right/" zones count leap seconds, which the clock of the kernel does not. */
  return header.leap_count == 0 && take_block(reader, &header, 8, collection, &last) && take_footer(reader, last, collection);
}

/* ---- zones ---- */

struct time_zone *time_zone_unknown(const char *name) {
  struct time_zone *zone = calloc(1, sizeof *zone);
  if (zone) text_copy(zone->name, sizeof zone->name, name);
  return zone;
}

void time_zone_free(struct time_zone *zone) {
  if (!zone) return;
  free(zone->steps);
  free(zone);
}

static void release_zone(struct time_zone **zone) { time_zone_free(*zone); }

int time_zone_parse(const char *name, const void *data, size_t size, struct time_zone **ret_zone, struct error *error) {
  struct reader reader = {data, size, false};
  CLEANUP(release_zone) struct time_zone *zone = time_zone_unknown(name);
  struct collection collection = {.zone = zone};
  if (!zone) return error_set(error, ERROR_NO_MEMORY, "out of memory for the time zone %s", name);
  const bool good = take_file(&reader, &collection);
  if (collection.code == ERROR_NO_MEMORY) return error_set(error, ERROR_NO_MEMORY, "out of memory for the time zone %s", name);
  if (collection.code == ERROR_LIMIT)
    return error_set(error, ERROR_LIMIT, "the time zone %s has more than %d changes", name, TIME_ZONE_STEPS_MAX);
  if (!good) {
    error_set(error, ERROR_PROTOCOL, "the file of the time zone %s is none that can be read (TZif, RFC 9636)", name);
    return error_remedy(error, "install the package tzdata again; zones under right/, which count leap seconds, are not for this");
  }
  *ret_zone = TAKE_PTR(zone);
  return 0;
}

static int make_utc(const char *name, struct time_zone **ret_zone, struct error *error) {
  CLEANUP(release_zone) struct time_zone *zone = time_zone_unknown(name);
  if (zone) zone->steps = calloc(1, sizeof *zone->steps);
  if (!zone || !zone->steps) return error_set(error, ERROR_NO_MEMORY, "out of memory for the time zone UTC");
  zone->steps[0] = (struct time_zone_step){TIME_UNSET + 1, 0};
  zone->count = 1;
  *ret_zone = TAKE_PTR(zone);
  return 0;
}

/* It becomes part of a path: no steps upwards, nothing hidden. */
static bool is_name(const char *name) {
  const size_t size = strlen(name);
  if (size == 0 || size > TIME_ZONE_NAME_MAX || name[0] == '/' || name[size - 1] == '/' || strchr(name, '.')) return false;
  return name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-/")] == '\0' && !strstr(name, "//");
}

int time_zone_load(const char *name, struct time_zone **ret_zone, struct error *error) {
  CLEANUP_FREE char *data = NULL;
  size_t size = 0;
  if (text_equal(name, "UTC")) return make_utc(name, ret_zone, error);
  if (!is_name(name)) {
    char shown[2 * TIME_ZONE_NAME_MAX];
    error_set(error, ERROR_INVALID, "\"%s\" is no name of a time zone", text_printable(name, strlen(name), shown, sizeof shown));
    return error_remedy(error, "write one as in Europe/Berlin, or UTC");
  }
  CLEANUP_FREE char *path = text_format(TIME_ZONE_DIRECTORY "/%s", name);
  if (!path) return error_set(error, ERROR_NO_MEMORY, "out of memory for the time zone %s", name);
  const int result = file_read(path, TIME_ZONE_FILE_MAX, &data, &size, NULL, error);
  if (result == ERROR_NOT_FOUND || result == ERROR_INVALID) {
    error_set(error, ERROR_NOT_FOUND, "this host knows no time zone \"%s\" (there is no file %s)", name, path);
    return error_remedy(error, "look for its name in the output of `timedatectl list-timezones`; install the package tzdata if all are missing; UTC always works");
  }
  return result ? result : time_zone_parse(name, data, size, ret_zone, error);
}

int32_t time_zone_offset(const struct time_zone *zone, int64_t at, int64_t *ret_until) {
  size_t low = 0, high = zone ? zone->count : 0; /* the step that holds is in [low, high) */
  if (high == 0) {
    *ret_until = TIME_NEVER;
    return 0;
  }
  const size_t count = high;
  while (high - low > 1) {
    const size_t middle = low + (high - low) / 2;
    if (zone->steps[middle].from <= at)
      low = middle;
    else
      high = middle;
  }
  *ret_until = low + 1 < count ? zone->steps[low + 1].from : TIME_NEVER;
  return zone->steps[low].offset;
}
