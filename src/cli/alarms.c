#include "dkimroll/alarms.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "dkimroll/timing.h"

enum news { NEWS_NONE, NEWS_BEGINS, NEWS_LASTS, NEWS_OVER };
static const char *const WORDS[] = {"", "begins", "lasts", "over"};

/* One thing that needs a person. Texts are owned. */
struct alarm {
  char *subject, *domain, *text, *remedy;
  int64_t since, told_at;
  bool known;  /* since when it is so: then it was somebody's patience already that passed */
  bool seen;   /* it is there now */
  bool stored; /* the store has it */
  enum news news;
  size_t group;
};

/* What is the same of several. Texts are those of the first. */
struct group {
  const struct alarm *first;
  size_t count;
};

struct alarms {
  struct store *store;
  struct hooks *hooks;
  const struct log *log;
  int64_t now;
  struct alarm *items; /* owned; those of the store come first, rising by subject */
  size_t count, capacity, stored;
  struct group groups[ALARMS_GROUPS_MAX + 1]; /* the last has all the rest */
  char rest[160];
  size_t calls; /* not done yet */
  bool no_memory;
};

static void alarm_release(struct alarm *alarm) {
  free(alarm->subject);
  free(alarm->domain);
  free(alarm->text);
  free(alarm->remedy);
}

void alarms_free(struct alarms *alarms) {
  if (!alarms) return;
  for (size_t i = 0; i < alarms->count; i++) alarm_release(&alarms->items[i]);
  free(alarms->items);
  free(alarms);
}

static struct alarm *append(struct alarms *alarms) {
  if (alarms->count == alarms->capacity) {
    const size_t capacity = alarms->capacity ? alarms->capacity * 2 : 16;
    struct alarm *items = reallocarray(alarms->items, capacity, sizeof *items);
    if (!items) return NULL;
    alarms->items = items;
    alarms->capacity = capacity;
  }
  struct alarm *alarm = &alarms->items[alarms->count++];
  *alarm = (struct alarm){.told_at = TIME_UNSET};
  return alarm;
}

static int take_stored(void *context, const void *row) {
  struct alarms *alarms = context;
  const struct store_alarm *stored = row;
  struct alarm *alarm = append(alarms);
  if (!alarm) return ERROR_NO_MEMORY;
  *alarm = (struct alarm){.subject = text_duplicate(stored->subject),
                          .domain = text_duplicate(stored->domain),
                          .text = text_duplicate(stored->text),
                          .since = stored->since,
                          .told_at = stored->told_at,
                          .stored = true};
  alarms->stored++;
  return alarm->subject && alarm->text && (alarm->domain || !stored->domain) ? 0 : ERROR_NO_MEMORY;
}

int alarms_new(struct store *store, struct hooks *hooks, const struct log *log, int64_t now, struct alarms **ret_alarms, struct error *error) {
  static const struct store_filter all;
  struct alarms *alarms = calloc(1, sizeof *alarms);
  if (!alarms) return error_set(error, ERROR_NO_MEMORY, "out of memory for alarms");
  *alarms = (struct alarms){.store = store, .hooks = hooks, .log = log, .now = now};
  int result = store->ops->select(store, STORE_SELECT_ALARMS, &all, take_stored, alarms, error);
  if (result == ERROR_NO_MEMORY) result = error_set(error, ERROR_NO_MEMORY, "out of memory for alarms");
  if (result) {
    alarms_free(alarms);
    return result;
  }
  *ret_alarms = alarms;
  return 0;
}

static int compare_subjects(const void *subject, const void *alarm) { return strcmp(subject, ((const struct alarm *)alarm)->subject); }

/* What is to be known of one thing that is wrong. */
struct sight {
  const char *subject, *domain, *text, *remedy;
  int64_t since; /* 0: nobody knows */
};

static void see(struct alarms *alarms, const struct sight *sight) {
  struct alarm *alarm = alarms->stored ? bsearch(sight->subject, alarms->items, alarms->stored, sizeof *alarms->items, compare_subjects) : NULL;
  if (!alarm) {
    alarm = append(alarms);
    if (alarm) *alarm = (struct alarm){.subject = text_duplicate(sight->subject), .domain = text_duplicate(sight->domain), .since = alarms->now, .told_at = TIME_UNSET};
  }
  if (!alarm) {
    alarms->no_memory = true;
    return;
  }
  free(alarm->text);
  free(alarm->remedy);
  alarm->text = text_duplicate(sight->text);
  alarm->remedy = text_duplicate(sight->remedy ? sight->remedy : "");
  alarm->seen = true;
  alarm->known = sight->since > 0;
  if (alarm->known) alarm->since = time_min(alarm->since, sight->since);
  alarms->no_memory |= !alarm->subject || !alarm->text || !alarm->remedy || (sight->domain && !alarm->domain);
}

/* A step that failed is tried again, and mostly succeeds; a person is needed when it keeps failing. */
static bool is_tried_again(const struct lineage *lineage, const struct finding *finding) {
  if (text_equal(finding->text, lineage->failure)) return lineage->failures > 0 && lineage->failures < TIMING_FAILURES_PARK && lineage->parked_at == TIME_UNSET;
  for (size_t i = 0; i < lineage->key_count; i++)
    if (text_equal(finding->text, lineage->keys[i].failure)) return lineage->keys[i].failures < TIMING_FAILURES_PARK;
  return false;
}

/* Words change while the thing lasts (a count, another answer), so it is its kind that is remembered: of one kind the first. Something else that begins meanwhile is told for
 * itself, since it may be the worse. */
void alarms_add_lineage(struct alarms *alarms, const struct lineage *lineage, const struct findings *problems) {
  char subject[DNS_NAME_TEXT_SIZE + SELECTOR_SIZE + ALARMS_KIND_MAX];
  const char *told_kinds[ALARMS_KINDS_MAX];
  size_t told_count = 0;
  for (size_t i = 0; i < problems->count && told_count < ALARMS_KINDS_MAX; i++) {
    const struct finding *finding = &problems->items[i];
    bool is_told_already = false;
    for (size_t j = 0; j < told_count; j++) is_told_already |= text_equal(told_kinds[j], finding->kind);
    if (finding->level != FINDING_FAILED || is_told_already || is_tried_again(lineage, finding)) continue;
    told_kinds[told_count++] = finding->kind;
    snprintf(subject, sizeof subject, "%s %s%s%s", lineage->domain, lineage->slot, finding->kind ? " " : "", finding->kind ? finding->kind : "");
    see(alarms, &(struct sight){.subject = subject, .domain = lineage->domain, .text = finding->text, .remedy = finding->remedy, .since = finding->since});
  }
}

void alarms_add_resource(struct alarms *alarms, const struct store_resource *resource) {
  if (resource->failures < TIMING_FAILURES_PARK) return;
  see(alarms, &(struct sight){.subject = resource->name, .text = resource->failure ? resource->failure : resource->name});
}

/* ---- what is new ---- */

static enum news judge(const struct alarm *alarm, int64_t now) {
  if (!alarm->seen) return NEWS_OVER;
  if (alarm->told_at != TIME_UNSET) return time_add(alarm->told_at, ALARMS_AGAIN) <= now ? NEWS_LASTS : NEWS_NONE;
  return alarm->known || time_add(alarm->since, ALARMS_PATIENCE) <= now ? NEWS_BEGINS : NEWS_NONE;
}

static void put_into_group(struct alarms *alarms, struct alarm *alarm) {
  size_t i = 0;
  for (; i < ALARMS_GROUPS_MAX && alarms->groups[i].first; i++) {
    const struct alarm *first = alarms->groups[i].first;
    if (first->news == alarm->news && text_equal(first->text, alarm->text)) break;
  }
  if (!alarms->groups[i].first) alarms->groups[i].first = alarm;
  alarm->group = i;
  alarms->groups[i].count++;
}

static struct store_alarm row_of(const struct alarm *alarm) {
  return (struct store_alarm){.subject = alarm->subject, .domain = alarm->domain, .since = alarm->since, .told_at = alarm->told_at, .text = alarm->text};
}

/* Commits those that wanted says, as they are to be. */
static int commit(struct alarms *alarms, bool (*wanted)(const struct alarm *alarm, size_t group, struct store_alarm *row), size_t group, struct error *error) {
  CLEANUP_FREE struct store_alarm *rows = calloc(alarms->count + 1, sizeof *rows);
  size_t count = 0;
  if (!rows) return error_set(error, ERROR_NO_MEMORY, "out of memory for alarms");
  for (size_t i = 0; i < alarms->count; i++) {
    rows[count] = row_of(&alarms->items[i]);
    if (wanted(&alarms->items[i], group, &rows[count])) count++;
  }
  if (count == 0) return 0;
  const struct store_commit what = {.alarms = rows, .alarm_count = count};
  return alarms->store->ops->commit(alarms->store, &what, error);
}

/* Those that nobody is to be told of now: new ones wait, and those that nobody knew of are forgotten. */
static bool is_quiet(const struct alarm *alarm, size_t group, struct store_alarm *row) {
  (void)group;
  if (alarm->news == NEWS_OVER && alarm->told_at == TIME_UNSET) row->since = TIME_UNSET;
  return (!alarm->stored && alarm->seen) || row->since == TIME_UNSET;
}

static bool is_told(const struct alarm *alarm, size_t group, struct store_alarm *row) {
  if (alarm->news == NEWS_NONE || alarm->group != group) return false;
  if (alarm->news == NEWS_OVER) row->since = TIME_UNSET;
  return true;
}

/* Where the hook failed, the next look tries again: a person who was not told does not know. */
static void told(void *context, size_t group, bool succeeded) {
  struct alarms *alarms = context;
  struct error error = {0};
  alarms->calls--;
  if (!succeeded) return;
  for (size_t i = 0; i < alarms->count; i++)
    if (alarms->items[i].news != NEWS_NONE && alarms->items[i].group == group) alarms->items[i].told_at = alarms->now;
  if (commit(alarms, is_told, group, &error)) log_write(alarms->log, &(struct log_event){.level = LOG_LEVEL_WARNING, .kind = "hook", .reason = error.message});
}

static void tell(struct alarms *alarms, size_t group) {
  const struct group *it = &alarms->groups[group];
  const bool rest = group == ALARMS_GROUPS_MAX;
  if (rest) snprintf(alarms->rest, sizeof alarms->rest, "and %zu more things that begin, last or are over: `dkimroll status` tells all", it->count);
  const struct hooks_alarm alarm = {.word = WORDS[it->first->news],
                                    .domain = rest ? NULL : it->first->domain,
                                    .others = rest ? 0 : it->count - 1,
                                    .since = it->first->since,
                                    .reason = rest ? alarms->rest : it->first->text,
                                    .remedy = rest ? NULL : it->first->remedy,
                                    .done = told,
                                    .context = alarms,
                                    .index = group};
  alarms->calls += hooks_tell(alarms->hooks, &alarm);
}

int alarms_finish(struct alarms *alarms, struct error *error) {
  if (alarms->no_memory) return error_set(error, ERROR_NO_MEMORY, "out of memory for alarms");
  for (size_t i = 0; i < alarms->count; i++) alarms->items[i].news = judge(&alarms->items[i], alarms->now);
  int result = commit(alarms, is_quiet, 0, error);
  if (result) return result;
  for (size_t i = 0; i < alarms->count; i++) {
    struct alarm *alarm = &alarms->items[i];
    if (alarm->news == NEWS_OVER && alarm->told_at == TIME_UNSET) alarm->news = NEWS_NONE;
    if (alarm->news != NEWS_NONE) put_into_group(alarms, alarm);
  }
  for (size_t i = 0; i <= ALARMS_GROUPS_MAX && alarms->groups[i].first; i++) tell(alarms, i);
  return 0;
}

bool alarms_are_told(const struct alarms *alarms) { return !alarms || alarms->calls == 0; }

static bool is_any(const struct alarm *alarm, size_t group, struct store_alarm *row) {
  (void)alarm, (void)group;
  row->since = TIME_UNSET;
  return true;
}

int alarms_forget(struct store *store, struct error *error) {
  struct alarms *alarms = NULL;
  int result = alarms_new(store, NULL, NULL, 0, &alarms, error);
  if (!result) result = commit(alarms, is_any, 0, error);
  alarms_free(alarms);
  return result;
}

struct lateness {
  int64_t now;
};

static int is_late(void *context, const void *row) {
  const struct store_alarm *stored = row;
  const struct alarm alarm = {.since = stored->since, .told_at = stored->told_at, .seen = true};
  return judge(&alarm, ((const struct lateness *)context)->now) != NEWS_NONE;
}

bool alarms_are_behind(struct store *store, int64_t now) {
  static const struct store_filter all;
  struct lateness lateness = {.now = now};
  struct error unused;
  return store->ops->select(store, STORE_SELECT_ALARMS, &all, is_late, &lateness, &unused) == 1;
}
