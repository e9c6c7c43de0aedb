#include <stdio.h>

#include "dkimroll/check.h"
#include "dkimroll/text.h"
#include "dkimroll/wave.h"

enum { YEAR_SECONDS = 365 * 86400, TEXT_MAX = 512, GAP_SHARE = 8 /* a break of less than that part of a life changes little */ };

static size_t count_domains(const struct policy *policy, size_t rules) {
  size_t count = 0;
  for (size_t i = 0; i < policy->domain_count; i++) count += policy->domains[i].rules == rules;
  return count;
}

static void say(struct check *check, enum finding_level level, const char *text, const char *remedy) {
  check_say(check, CHECK_LOCAL, &(struct finding){.level = level, .subject = (char *)"calendar", .text = (char *)text, .remedy = (char *)remedy});
}

/* Keys outlive their time by a break in which none may take over. */
static void judge_gap(struct check *check, const struct policy_rules *rules, int64_t gap, int64_t gap_from) {
  char text[TEXT_MAX], from[TIME_TEXT_SIZE], until[TIME_TEXT_SIZE], life[DURATION_TEXT_SIZE], longest[DURATION_TEXT_SIZE];
  if (rules->rotate_every == TIME_NEVER || gap < policy_least_life(rules) / GAP_SHARE) return;
  snprintf(text, sizeof text, "policy %s: from %s to %s no key takes over, so that some of %s live up to %s", rules->name, time_format(gap_from, from),
           time_format(time_add(gap_from, gap), until), duration_format(rules->rotate_every, life),
           duration_format(time_add(rules->rotate_every, gap), longest));
  say(check, FINDING_WARNING, text, "if that is too long: shorter freezes, or more windows");
}

/* Each domain needs a place in its life. */
static void judge_room(struct check *check, size_t index, int64_t open, int64_t span) {
  const struct policy *policy = check->session.policy;
  const struct policy_rules *rules = &policy->rules[index];
  const size_t domains = count_domains(policy, index) * rules->key_count;
  const int64_t room = open / WAVE_RUN_SECONDS * policy->limits.max_per_run;
  char text[TEXT_MAX], life[DURATION_TEXT_SIZE];
  if (policy->limits.max_per_run == 0 || rules->rotate_every == TIME_NEVER || room >= (int64_t)domains) return;
  snprintf(text, sizeof text, "policy %s: within %s window, freezes and max-per-run have room for %lld of %zu rotations", rules->name,
           duration_format(span, life), (long long)room, domains);
  say(check, FINDING_WARNING, text, "open the window longer, let max-per-run be more, or rotate less often");
}

void check_calendar(struct check *check) {
  const struct policy *policy = check->session.policy;
  struct clock_reading now;
  clock_read(&now);
  for (size_t i = 0; i < policy->rules_count; i++) {
    const struct policy_rules *rules = &policy->rules[i];
    const int64_t life = policy_least_life(rules), span = life == TIME_NEVER ? YEAR_SECONDS : life;
    char text[TEXT_MAX], opens[TIME_TEXT_SIZE];
    int64_t gap, gap_from;
    const bool has_calendar = rules->schedule.hours_count > 0 || rules->schedule.freeze_count > 0;
    if (!has_calendar && policy->limits.max_per_run == 0) continue;
    const int64_t open = schedule_open_seconds(&rules->schedule, now.wall, time_add(now.wall, span), &gap, &gap_from);
    if (has_calendar) {
      const int64_t next = schedule_next(&rules->schedule, now.wall, true);
      snprintf(text, sizeof text, "policy %s: keys may take over %s%s", rules->name, next == now.wall ? "now" : "from ",
               next == now.wall ? "" : time_format(next, opens));
      say(check, FINDING_OK, text, "");
    }
    judge_gap(check, rules, gap, gap_from);
    judge_room(check, i, open, span);
  }
}
