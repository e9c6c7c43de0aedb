/* Files of time zones (TZif), and windows and freezes in the zone that they make: any octets are a zone, whose steps rise, or are refused; and whatever the zone, the walk from
 * edge to edge ends at a moment that is open. The first eight octets are the window and the freeze. */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/schedule.h"
#include "fuzz.h"

enum { HEAD = 8, QUARTER = 900 };

static void expect_zone(const struct time_zone *zone) {
  FUZZ_HOLDS(zone->count > 0 && zone->count <= TIME_ZONE_STEPS_MAX, "%zu steps", zone->count);
  FUZZ_HOLDS(zone->steps[0].from == TIME_UNSET + 1, "a time before the first step");
  for (size_t i = 1; i < zone->count; i++) {
    int64_t until;
    FUZZ_HOLDS(zone->steps[i].from > zone->steps[i - 1].from, "step %zu of %zu", i, zone->count);
    FUZZ_HOLDS(time_zone_offset(zone, zone->steps[i].from, &until) == zone->steps[i].offset, "step %zu", i);
    FUZZ_HOLDS(time_zone_offset(zone, zone->steps[i].from - 1, &until) == zone->steps[i - 1].offset && until == zone->steps[i].from, "before step %zu", i);
  }
}

static void expect_schedule(const struct schedule *schedule, int64_t at) {
  const int64_t next = schedule_next(schedule, at, true);
  FUZZ_HOLDS(next >= at, "%lld after %lld", (long long)next, (long long)at);
  if (next == TIME_NEVER) return;
  FUZZ_HOLDS(schedule_next(schedule, next, true) == next, "it opens at %lld, and is closed then", (long long)next);
  FUZZ_HOLDS(schedule_frozen_by(schedule, next) == schedule->freeze_count, "it opens at %lld, in a freeze", (long long)next);
  FUZZ_HOLDS(next == at || schedule_next(schedule, next - 1, true) == next, "it was open before %lld", (long long)next);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct time_zone *zone = NULL;
  struct error error = {0};
  if (size < HEAD) return 0;
  const int32_t from = data[1] % 96 * QUARTER, length = (1 + data[2] % 95) * QUARTER;
  struct schedule schedule = {.days = data[0] & 0x7f, .hours = {{from, from + length}}, .hours_count = data[0] & 0x7f ? 1 : 0};
  if (data[3] & 1) schedule.freezes[schedule.freeze_count++] = (struct schedule_dates){.first = 20000 + data[4] * 4, .last = 20000 + data[4] * 4 + data[5]};
  if (data[3] & 2)
    schedule.freezes[schedule.freeze_count++] =
        (struct schedule_dates){.yearly = true, .first = (1 + data[6] % 12) * 32 + 1 + data[6] / 12, .last = (1 + data[7] % 12) * 32 + 1 + data[7] / 12};
  const int result = time_zone_parse("fuzzed", data + HEAD, size - HEAD, &zone, &error);
  if (result < 0) {
    fuzz_expect_error(result, &error);
    FUZZ_HOLDS(!zone, "a zone in spite of %s", error.message);
    return 0;
  }
  expect_zone(zone);
  schedule.zone = zone;
  /* The calendar of today; what lies ages away is no moment of a policy. */
  for (int64_t at = INT64_C(1769212800); at < INT64_C(1800000000); at += INT64_C(4000037)) expect_schedule(&schedule, at);
  time_zone_free(zone);
  return 0;
}
