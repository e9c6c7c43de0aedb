/* What the calendar of the policy holds back: freezes, in which nothing begins and nothing ends, and windows, in which what signs may change. They are asked for
 * the moment at which the gates before them open, so that a plan names a moment that really comes. What is urgent passes. */
#include <stdio.h>
#include <string.h>

#include "dkimroll/text.h"
#include "gates.h"

enum { WINDOW_TEXT_SIZE = 128 };

/* As far as it has room. */
static void add_word(char text[WINDOW_TEXT_SIZE], const char *separator, const char *word) {
  const size_t used = strlen(text);
  snprintf(text + used, WINDOW_TEXT_SIZE - used, "%s%s", separator, word);
}

/* "mon,tue 09:00-16:00 Europe/Berlin" */
static const char *window_text(const struct policy_rules *rules, char text[WINDOW_TEXT_SIZE]) {
  text[0] = '\0';
  for (size_t i = 0; i < rules->window_day_count; i++) add_word(text, i ? "," : "", rules->window_days[i]);
  for (size_t i = 0; i < rules->window_hours_count; i++) add_word(text, i ? "," : text[0] ? " " : "", rules->window_hours[i]);
  add_word(text, " ", rules->time_zone ? rules->time_zone->name : "UTC");
  return text;
}

/* A new key, or its turn, that cannot wait. Nothing of an old key is urgent. */
static bool passes(const struct gate_view *view) {
  return (view->action == PLAN_GENERATE || view->action == PLAN_ACTIVATE) && lineage_is_urgent(view->lineage);
}

/* Where the zone is not known any more nobody knows when it is open, and closed does no harm. */
static bool close_unknown(const struct policy_rules *rules, struct plan_reason *reason) {
  return gate_closed(reason, TIME_NEVER, "this host does not know the time zone %s any more: install the package tzdata", rules->time_zone->name);
}

bool gate_freeze(const struct gate_view *view, struct plan_reason *reason) {
  const struct policy_rules *rules = view->lineage->rules;
  char moment[TIME_TEXT_SIZE];
  if (rules->schedule.freeze_count == 0 || passes(view)) return true;
  if (!schedule_is_known(&rules->schedule)) return close_unknown(rules, reason);
  const size_t freeze = schedule_frozen_by(&rules->schedule, view->opens);
  if (freeze == rules->schedule.freeze_count) return true;
  const int64_t opens = schedule_next(&rules->schedule, view->opens, false);
  return gate_closed(reason, opens, "frozen (%s %s) until %s", rules->freezes[freeze], rules->time_zone ? rules->time_zone->name : "UTC",
                     time_format(opens, moment));
}

bool gate_window(const struct gate_view *view, struct plan_reason *reason) {
  const struct policy_rules *rules = view->lineage->rules;
  char moment[TIME_TEXT_SIZE], window[WINDOW_TEXT_SIZE];
  if (rules->schedule.hours_count == 0 || passes(view) || (view->action == PLAN_ACTIVATE && view->lineage->rotate_requested)) return true;
  if (!schedule_is_known(&rules->schedule)) return close_unknown(rules, reason);
  /* A freeze that is not over when the window opens puts it off to the next time. */
  const int64_t opens = schedule_next(&rules->schedule, view->opens, true);
  if (opens == view->opens) return true;
  return gate_closed(reason, opens, "the window (%s) is closed until %s", window_text(rules, window), time_format(opens, moment));
}
