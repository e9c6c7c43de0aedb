#include "dkimroll/hooks.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/alarms.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

#define TRANSITION "transition"
#define NEEDS_PERSON "needs-person"

/* One call of a command. It outlives the hooks if it must: the runner answers when it is destroyed at the latest. */
struct hook_call {
  struct hooks *hooks; /* NULL: gone */
  const char *hook;
  int64_t told;        /* transition: the event up to which everything is told then */
  struct hooks_alarm alarm;
};

struct hooks {
  struct session *session;
  bool transitions, alarms;
  int64_t told;      /* events up to this are told */
  int64_t committed; /* and the store knows it of those up to this */
  struct hook_call *call; /* under way */
  struct hooks_alarm waiting[HOOKS_CALLS_MAX];
  size_t waiting_count;
  struct loop_source *pump;
  struct loop_source *deadline; /* of draining */
  bool draining;
};

static struct loop *loop_of(const struct hooks *hooks) { return hooks->session->backends.loop; }

static bool is_idle(const struct hooks *hooks) { return !hooks->call && !hooks->pump && hooks->waiting_count == 0; }

static void say(const struct hooks *hooks, enum log_level level, const struct error *error, const char *reason) {
  const bool failed = error && error->code;
  log_write(&hooks->session->cli->log, &(struct log_event){.level = level,
                                                           .kind = "hook",
                                                           .error = failed ? error_code_name(error->code) : NULL,
                                                           .reason = failed ? error->message : reason,
                                                           .remedy = failed && error->remedy[0] ? error->remedy : NULL});
}

/* ---- the store ---- */

static int commit_told(struct hooks *hooks, int64_t event, struct error *error) {
  struct store *store = hooks->session->store;
  const struct store_commit commit = {.told_event = event};
  return store->ops->commit(store, &commit, error);
}

static void remember_told(struct hooks *hooks) {
  struct error error = {0};
  if (!hooks->transitions || hooks->told == hooks->committed) return;
  if (commit_told(hooks, hooks->told, &error)) say(hooks, LOG_LEVEL_WARNING, &error, NULL);
  hooks->committed = hooks->told;
}

static int take_number(void *context, const void *row) {
  *(int64_t *)context = *(const int64_t *)row;
  return 0;
}

static int take_event_id(void *context, const void *row) {
  *(int64_t *)context = ((const struct event *)row)->id;
  return 0;
}

/* *ret_told: STORE_NOTHING_TOLD where there was no hook. */
static int read_told(struct store *store, int64_t *ret_told, int64_t *ret_last, struct error *error) {
  static const struct store_filter all, newest = {.descending = true, .limit = 1};
  *ret_told = STORE_NOTHING_TOLD;
  *ret_last = 0;
  int result = store->ops->select(store, STORE_SELECT_TOLD, &all, take_number, ret_told, error);
  return result ? result : store->ops->select(store, STORE_SELECT_EVENTS, &newest, take_event_id, ret_last, error);
}

/* ---- one call ---- */

/* Both streams, the first lines of them. */
static void log_output(const struct hooks *hooks, const char *hook, const char *output, size_t *lines) {
  while (*output) {
    const size_t size = strcspn(output, "\r\n");
    if (size > 0 && (*lines)++ < HOOKS_LINES_MAX) {
      CLEANUP_FREE char *line = text_format("hook %s: %.*s", hook, (int)(size < 1000 ? size : 1000), output);
      if (line) say(hooks, LOG_LEVEL_INFO, NULL, line);
    }
    output += size;
    output += strspn(output, "\r\n");
  }
}

/* true: it ended well. */
static bool log_end(const struct hooks *hooks, const char *hook, const struct error *result, const uint8_t *octets, size_t size) {
  CLEANUP(runner_reply_release) struct runner_reply reply = {0};
  char what[64];
  struct error error = *result;
  size_t lines = 0;
  snprintf(what, sizeof what, "hook %s", hook);
  if (error.code) {
    error_context(&error, "%s", what);
  } else if (runner_reply_read(octets, size, &reply, &error) == 0) {
    log_output(hooks, hook, reply.output, &lines);
    log_output(hooks, hook, reply.errors, &lines);
    (void)!runner_reply_judge(&reply, what, &error);
  }
  if (error.code) say(hooks, LOG_LEVEL_WARNING, &error, NULL);
  return error.code == 0;
}

static void call_ended(void *context, const struct error *result, const uint8_t *reply, size_t reply_size) {
  struct hook_call *call = context;
  struct hooks *hooks = call->hooks;
  if (hooks) {
    hooks->call = NULL;
    const bool succeeded = log_end(hooks, call->hook, result, reply, reply_size);
    if (call->alarm.done) call->alarm.done(call->alarm.context, call->alarm.index, succeeded);
    if (call->told) {
      hooks->told = time_max(hooks->told, call->told);
      remember_told(hooks);
    }
    hooks_wake(hooks);
  }
  free(call);
}

/* A transition that could not even be asked for counts as told: nothing may hold up what comes after it. */
static void start_call(struct hooks *hooks, const struct hook_call *what, const struct runner_call *how) {
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  struct error error = {0};
  struct hook_call *call = calloc(1, sizeof *call);
  const int64_t deadline = loop_boottime(loop_of(hooks)) + (hooks->session->policy->hooks.timeout + HOOKS_WAIT_SECONDS) * 1000;
  int result = call ? 0 : error_set(&error, ERROR_NO_MEMORY, "hook %s: out of memory", what->hook);
  if (!result) {
    *call = *what;
    call->hooks = hooks;
    runner_call_write(&payload, how);
    result = keeper_submit(hooks->session->backends.runner, KEEPER_RUN, &payload, deadline, call_ended, call, &error);
  }
  if (!result) {
    hooks->call = call;
    return;
  }
  free(call);
  say(hooks, LOG_LEVEL_WARNING, &error, NULL);
  if (what->alarm.done) what->alarm.done(what->alarm.context, what->alarm.index, false);
  hooks->told = time_max(hooks->told, what->told);
  hooks_wake(hooks);
}

/* ---- needs-person ---- */

static void call_alarm(struct hooks *hooks) {
  const struct hooks_alarm alarm = hooks->waiting[0];
  char since[TIME_TEXT_SIZE], others[32], text[HOOKS_TEXT_MAX];
  memmove(hooks->waiting, hooks->waiting + 1, --hooks->waiting_count * sizeof hooks->waiting[0]);
  snprintf(others, sizeof others, "%zu", alarm.others);
  snprintf(text, sizeof text, "%s%s%s%s%.4000s%s%s%.1000s\nSince %s. `dkimroll status` tells more.\n", alarm.domain ? alarm.domain : "dkimroll",
           alarm.others ? " and " : "", alarm.others ? others : "", alarm.others ? " more: " : ": ", alarm.reason, text_equal(alarm.word, "over") ? ": this is over now" : "",
           alarm.remedy && alarm.remedy[0] ? "\n" : "", alarm.remedy ? alarm.remedy : "", time_format(alarm.since, since));
  char iso[TIME_TEXT_SIZE];
  const struct runner_variable variables[] = {{"DKIMROLL_EVENT", alarm.word},
                                              {"DKIMROLL_DOMAIN", alarm.domain ? alarm.domain : ""},
                                              {"DKIMROLL_OTHERS", others},
                                              {"DKIMROLL_SINCE", time_format_iso(alarm.since, iso)},
                                              {"DKIMROLL_REASON", alarm.reason},
                                              {"DKIMROLL_REMEDY", alarm.remedy ? alarm.remedy : ""}};
  start_call(hooks, &(struct hook_call){.hook = NEEDS_PERSON, .alarm = alarm},
             &(struct runner_call){.purpose = RUNNER_HOOK,
                                   .name = NEEDS_PERSON,
                                   .word = alarm.word,
                                   .variables = variables,
                                   .variable_count = ARRAY_SIZE(variables),
                                   .input = text,
                                   .input_size = strlen(text)});
}

bool hooks_has_alarms(const struct hooks *hooks) { return hooks && hooks->alarms; }

bool hooks_tell(struct hooks *hooks, const struct hooks_alarm *alarm) {
  if (!hooks || hooks->waiting_count == HOOKS_CALLS_MAX) return false;
  hooks->waiting[hooks->waiting_count++] = *alarm;
  hooks_wake(hooks);
  return true;
}

/* ---- transitions ---- */

/* Events after what was told. */
struct search {
  struct event first; /* transition; texts are copies */
  int64_t count, last;
  int64_t maximum; /* of transitions to be counted; 0: all */
  int64_t since;
  bool no_memory;
};

static void search_release(struct search *search) { event_release(&search->first); }

static int look_at_event(void *context, const void *row) {
  struct search *search = context;
  const struct event *event = row;
  search->last = event->id;
  if (!text_equal(event->kind, "state")) return 0;
  if (search->count++ > 0) return search->maximum && search->count > search->maximum ? 1 : 0;
  search->since = event->at;
  search->first = (struct event){.id = event->id,
                                 .at = event->at,
                                 .domain = text_duplicate(event->domain),
                                 .slot = text_duplicate(event->slot),
                                 .selector = text_duplicate(event->selector),
                                 .from = text_duplicate(event->from),
                                 .to = text_duplicate(event->to),
                                 .reason = text_duplicate(event->reason)};
  search->no_memory = !search->first.domain || !search->first.to;
  return 0;
}

static const char *or_empty(const char *text) { return text ? text : ""; }

static void call_transition(struct hooks *hooks, const struct event *event) {
  char number[32], iso[TIME_TEXT_SIZE], text[HOOKS_TEXT_MAX];
  snprintf(number, sizeof number, "%lld", (long long)event->id);
  snprintf(text, sizeof text, "%s %s: %s -> %s: %.4000s\n", or_empty(event->domain), or_empty(event->selector), or_empty(event->from), or_empty(event->to),
           or_empty(event->reason));
  const struct runner_variable variables[] = {{"DKIMROLL_EVENT", TRANSITION},
                                              {"DKIMROLL_NUMBER", number},
                                              {"DKIMROLL_TIME", time_format_iso(event->at, iso)},
                                              {"DKIMROLL_DOMAIN", or_empty(event->domain)},
                                              {"DKIMROLL_KEY", or_empty(event->slot)},
                                              {"DKIMROLL_SELECTOR", or_empty(event->selector)},
                                              {"DKIMROLL_FROM", or_empty(event->from)},
                                              {"DKIMROLL_TO", or_empty(event->to)},
                                              {"DKIMROLL_REASON", or_empty(event->reason)}};
  start_call(hooks, &(struct hook_call){.hook = TRANSITION, .told = event->id},
             &(struct runner_call){.purpose = RUNNER_HOOK,
                                   .name = TRANSITION,
                                   .word = TRANSITION,
                                   .variables = variables,
                                   .variable_count = ARRAY_SIZE(variables),
                                   .input = text,
                                   .input_size = strlen(text)});
}

static void call_backlog(struct hooks *hooks, const struct search *search) {
  char number[32], count[32], moment[TIME_TEXT_SIZE], iso[TIME_TEXT_SIZE], reason[160], text[200];
  snprintf(number, sizeof number, "%lld", (long long)search->last);
  snprintf(count, sizeof count, "%lld", (long long)search->count);
  snprintf(reason, sizeof reason, "%s transitions since %s, too many to be told one by one: `dkimroll history` has them", count, time_format(search->since, moment));
  snprintf(text, sizeof text, "%s\n", reason);
  const struct runner_variable variables[] = {{"DKIMROLL_EVENT", "backlog"},
                                              {"DKIMROLL_NUMBER", number},
                                              {"DKIMROLL_TIME", time_format_iso(search->since, iso)},
                                              {"DKIMROLL_COUNT", count},
                                              {"DKIMROLL_REASON", reason}};
  start_call(hooks, &(struct hook_call){.hook = TRANSITION, .told = search->last},
             &(struct runner_call){.purpose = RUNNER_HOOK,
                                   .name = TRANSITION,
                                   .word = "backlog",
                                   .variables = variables,
                                   .variable_count = ARRAY_SIZE(variables),
                                   .input = text,
                                   .input_size = strlen(text)});
}

static int search_events(const struct hooks *hooks, int64_t maximum, struct search *ret_search, struct error *error) {
  const struct store_filter filter = {.after = hooks->told};
  struct store *store = hooks->session->store;
  *ret_search = (struct search){.maximum = maximum};
  const int result = store->ops->select(store, STORE_SELECT_EVENTS, &filter, look_at_event, ret_search, error);
  if (result < 0) return result;
  return ret_search->no_memory ? error_set(error, ERROR_NO_MEMORY, "out of memory for an event") : 0;
}

static void tell_transitions(struct hooks *hooks) {
  CLEANUP(search_release) struct search search = {.count = 0};
  CLEANUP(search_release) struct search all = {.count = 0};
  struct error error = {0};
  int result = search_events(hooks, HOOKS_BACKLOG_MAX, &search, &error);
  const bool backlog = !result && search.count > HOOKS_BACKLOG_MAX;
  if (backlog) result = search_events(hooks, 0, &all, &error);
  if (result)
    say(hooks, LOG_LEVEL_WARNING, &error, NULL);
  else if (backlog)
    call_backlog(hooks, &all);
  else if (search.count > 0)
    call_transition(hooks, &search.first);
  else if (search.last > 0)
    hooks->told = search.last;
}

/* ---- one after the other ---- */

static void pump(void *context) {
  struct hooks *hooks = context;
  hooks->pump = NULL;
  if (!hooks->call && hooks->waiting_count > 0) call_alarm(hooks);
  if (!hooks->call && hooks->transitions) tell_transitions(hooks);
  if (hooks->draining && is_idle(hooks)) loop_stop(loop_of(hooks));
}

void hooks_wake(struct hooks *hooks) {
  if (!hooks || hooks->pump || hooks->call) return;
  /* Without memory for it the end of the run tells. */
  (void)!loop_defer(loop_of(hooks), pump, hooks, &hooks->pump);
}

static void drain_over(void *context) {
  struct hooks *hooks = context;
  hooks->deadline = NULL;
  say(hooks, LOG_LEVEL_WARNING, NULL, "hooks take too long: what they were not told yet they are told by the next run");
  loop_stop(loop_of(hooks));
}

void hooks_drain(struct hooks *hooks, int64_t patience) {
  struct error error = {0};
  if (!hooks) return;
  hooks->draining = true;
  hooks_wake(hooks);
  if (loop_at(loop_of(hooks), loop_boottime(loop_of(hooks)) + patience, drain_over, hooks, &hooks->deadline) == 0 && loop_run(loop_of(hooks), &error))
    say(hooks, LOG_LEVEL_WARNING, &error, NULL);
  loop_cancel(loop_of(hooks), &hooks->deadline);
  remember_told(hooks);
}

/* ---- beginning and end ---- */

static int begin_telling(struct hooks *hooks, struct error *error) {
  int64_t told, last;
  int result = read_told(hooks->session->store, &told, &last, error);
  if (!result && told == STORE_NOTHING_TOLD) {
    told = last;
    result = commit_told(hooks, last > 0 ? last : STORE_TOLD_START, error);
  }
  hooks->told = hooks->committed = told;
  return result;
}

/* What is remembered for a hook that the policy does not name any more is of no use, and would make runs believe that there is something to be told. */
static int forget(struct session *session, bool transitions, bool alarms, struct error *error) {
  int64_t told = STORE_NOTHING_TOLD, last;
  struct store *store = session->store;
  int result = transitions ? 0 : read_told(store, &told, &last, error);
  if (!result && told != STORE_NOTHING_TOLD) {
    const struct store_commit commit = {.told_event = STORE_NOTHING_TOLD};
    result = store->ops->commit(store, &commit, error);
  }
  return result || alarms ? result : alarms_forget(store, error);
}

int hooks_new(struct session *session, struct hooks **ret_hooks, struct error *error) {
  const struct policy_hooks *policy = session->policy ? &session->policy->hooks : NULL;
  const bool has_runner = policy && session->backends.runner;
  const bool transitions = has_runner && policy->transition, alarms = has_runner && policy->needs_person;
  *ret_hooks = NULL;
  int result = policy ? forget(session, transitions, alarms, error) : 0;
  if (result || (!transitions && !alarms)) return result;
  struct hooks *hooks = calloc(1, sizeof *hooks);
  if (!hooks) return error_set(error, ERROR_NO_MEMORY, "out of memory for hooks");
  *hooks = (struct hooks){.session = session, .transitions = transitions, .alarms = alarms};
  if (transitions) result = begin_telling(hooks, error);
  if (result) {
    hooks_free(hooks);
    return result;
  }
  *ret_hooks = hooks;
  hooks_wake(hooks);
  return 0;
}

void hooks_free(struct hooks *hooks) {
  if (!hooks) return;
  loop_cancel(loop_of(hooks), &hooks->pump);
  if (hooks->call) hooks->call->hooks = NULL;
  free(hooks);
}

bool hooks_are_behind(struct session *session, int64_t now) {
  struct error unused;
  int64_t told, last;
  if (read_told(session->store, &told, &last, &unused)) return false;
  return (told != STORE_NOTHING_TOLD && told < last) || alarms_are_behind(session->store, now);
}
