/* The rule at the end of a TZif file: a POSIX TZ string (POSIX.1-2017 8.3, with the extensions of RFC 9636 3.3.1). Internal to src/base. */
#ifndef DKIMROLL_TIME_ZONE_RULE_H
#define DKIMROLL_TIME_ZONE_RULE_H

#include <stdbool.h>
#include <stdint.h>

enum { TIME_ZONE_RULE_MAX = 127 }; /* octets; the longest of tzdata has 46 */

/* Told of each change after last, rising, until TIME_ZONE_LAST_YEAR. */
typedef void time_zone_rule_step(void *context, int64_t from, int32_t offset);
/* false: rule is none. */
bool time_zone_rule_expand(const char *rule, int64_t last, time_zone_rule_step *step, void *context);

#endif
