#include "dkimroll/teller.h"

#include <stdlib.h>

#include "dkimroll/alarms.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/hooks.h"
#include "dkimroll/overview.h"
#include "dkimroll/text.h"

struct teller {
  struct session *session;
  engine_listener *listener; /* whose place this took; NULL: none */
  void *listener_context;
  struct hooks *hooks; /* NULL: none */
  struct alarms *alarms; /* of the last look, until they are told; NULL: none */
  struct overview overview;
  bool looking;      /* overview is under way */
  bool news;         /* since the last look began */
  bool warned;       /* of a look that failed, once */
  bool ended;        /* no look begins by itself any more */
  int64_t looked_at; /* boottime, milliseconds: when the last look began, and ended */
  int64_t ended_at;
  struct loop_source *timer;
};

static struct loop *loop_of(const struct teller *teller) { return teller->session->backends.loop; }

static bool is_wanted(const struct teller *teller) {
  const struct policy *policy = teller->session->policy;
  return policy && (policy->metrics.file || hooks_has_alarms(teller->hooks));
}

static void warn(const struct session *session, const struct error *error) {
  log_write(&session->cli->log, &(struct log_event){.level = LOG_LEVEL_WARNING,
                                                    .kind = "metrics",
                                                    .error = error_code_name(error->code),
                                                    .reason = error->message,
                                                    .remedy = error->remedy[0] ? error->remedy : NULL});
}

static void warn_once(struct teller *teller, const struct error *error) {
  if (!teller->warned) warn(teller->session, error);
  teller->warned = true;
}

/* ---- looking ---- */

static int write_metrics(struct overview *overview, int64_t now, struct error *error) {
  CLEANUP(buffer_release) struct buffer text = {0};
  const char *file = overview->stamp.metrics_file;
  int result = file ? overview_finish(overview, now, &text, error) : 0;
  return result || !file ? result : metrics_file_write(file, &text, error);
}

static void hear_lineage(void *context, const struct lineage *lineage, const struct findings *problems) {
  struct teller *teller = context;
  if (teller->alarms) alarms_add_lineage(teller->alarms, lineage, problems);
}

static int hear_resource(void *context, const void *row) {
  alarms_add_resource(context, row);
  return 0;
}

static int finish_alarms(struct teller *teller, struct error *error) {
  static const struct store_filter all;
  struct store *store = teller->session->store;
  if (!teller->alarms) return 0;
  int result = store->ops->select(store, STORE_SELECT_RESOURCES, &all, hear_resource, teller->alarms, error);
  return result ? result : alarms_finish(teller->alarms, error);
}

static void end_look(struct teller *teller, int result, const struct error *error) {
  if (result)
    warn_once(teller, error);
  else
    teller->warned = false;
  overview_release(&teller->overview);
  teller->looking = false;
  teller->ended_at = loop_boottime(loop_of(teller));
}

/* One page. */
static void look_on(struct teller *teller) {
  struct error error = {0};
  bool more = false;
  int result = overview_page(&teller->overview, &more, &error);
  if (!result && more) return;
  /* One must not fail for the other: a directory that cannot be written is no reason to tell nobody. */
  if (!result && finish_alarms(teller, &error)) warn_once(teller, &error);
  if (!result) result = write_metrics(&teller->overview, loop_wall(loop_of(teller)), &error);
  end_look(teller, result, &error);
}

static void begin_look(struct teller *teller) {
  struct session *session = teller->session;
  struct error error = {0};
  int result = 0;
  alarms_free(teller->alarms);
  teller->alarms = NULL;
  teller->news = false;
  teller->looking = true;
  teller->looked_at = loop_boottime(loop_of(teller));
  if (hooks_has_alarms(teller->hooks))
    result = alarms_new(session->store, teller->hooks, &session->cli->log, loop_wall(loop_of(teller)), &teller->alarms, &error);
  if (!result) result = overview_begin(&teller->overview, session, hear_lineage, teller, &error);
  if (result) end_look(teller, result, &error);
}

/* ---- the clockwork ---- */

static void tick(void *context);

static void arm(struct teller *teller, int64_t delay) {
  /* Without a timer the next event arms it, or the end of the run tells. */
  (void)!loop_at(loop_of(teller), loop_boottime(loop_of(teller)) + delay, tick, teller, &teller->timer);
}

/* How long until the next look may begin; 0: now. */
static int64_t look_delay(const struct teller *teller) {
  const int64_t now = loop_boottime(loop_of(teller));
  const int64_t pause = time_max(teller->news ? TELLER_SOON_MS : TELLER_ANYWAY_MS, (teller->ended_at - teller->looked_at) * TELLER_SHARE);
  return alarms_are_told(teller->alarms) ? time_max(0, teller->ended_at + pause - now) : TELLER_SOON_MS;
}

static void tick(void *context) {
  struct teller *teller = context;
  teller->timer = NULL;
  if (teller->looking) {
    look_on(teller);
    arm(teller, teller->looking ? 0 : TELLER_SOON_MS);
    return;
  }
  const int64_t delay = look_delay(teller);
  if (delay == 0) begin_look(teller);
  arm(teller, teller->looking ? 0 : time_min(time_max(delay, 1), TELLER_SOON_MS));
}

static void hear(void *context, const struct event *event) {
  struct teller *teller = context;
  teller->news = true;
  /* One that a moment took no timer of. */
  if (!teller->timer && !teller->ended && is_wanted(teller)) arm(teller, TELLER_SOON_MS);
  hooks_wake(teller->hooks);
  if (teller->listener) teller->listener(teller->listener_context, event);
}

int teller_new(struct session *session, struct engine_setup *setup, struct teller **ret_teller, struct error *error) {
  struct teller *teller = calloc(1, sizeof *teller);
  if (!teller) return error_set(error, ERROR_NO_MEMORY, "out of memory");
  *teller = (struct teller){.session = session, .listener = setup->listener, .listener_context = setup->listener_context};
  const int result = hooks_new(session, &teller->hooks, error);
  if (result) {
    free(teller);
    return result;
  }
  setup->listener = hear;
  setup->listener_context = teller;
  teller->looked_at = teller->ended_at = loop_boottime(loop_of(teller));
  if (is_wanted(teller)) arm(teller, TELLER_SOON_MS);
  *ret_teller = teller;
  return 0;
}

void teller_free(struct teller *teller) {
  if (!teller) return;
  loop_cancel(loop_of(teller), &teller->timer);
  hooks_free(teller->hooks);
  alarms_free(teller->alarms);
  if (teller->looking) overview_release(&teller->overview);
  free(teller);
}

/* Nothing but the moment is new. ret_done: false, if there is no file yet. */
static int touch(struct session *session, int64_t now, bool *ret_done, struct error *error) {
  CLEANUP(store_policy_stamp_release) struct store_policy_stamp stamp = {0};
  int64_t next;
  *ret_done = false;
  int result = session->store->ops->next_moment(session->store, &next, &stamp, NULL, error);
  if (!result && stamp.metrics_file) result = metrics_file_touch(stamp.metrics_file, now, error);
  *ret_done = result != ERROR_NOT_FOUND;
  return *ret_done ? result : 0;
}

static int look_at_once(struct session *session, int64_t now, struct error *error) {
  CLEANUP(overview_release) struct overview overview = {.session = NULL};
  bool more = true;
  int result = overview_begin(&overview, session, NULL, NULL, error);
  while (!result && more) result = overview_page(&overview, &more, error);
  return result ? result : write_metrics(&overview, now, error);
}

void teller_nothing_due(struct session *session, int64_t now) {
  struct error error = {0};
  bool done = false;
  int result = touch(session, now, &done, &error);
  if (!result && !done) result = look_at_once(session, now, &error);
  if (result) warn(session, &error);
}

/* Whether a look would find what the last run found. */
static bool is_quiet(const struct teller *teller, const struct engine_summary *summary) {
  const struct session *session = teller->session;
  if (teller->looking || teller->news || session->has_compiled || summary->steps > 0 || summary->failures > 0) return false;
  return !hooks_has_alarms(teller->hooks) || !alarms_are_behind(session->store, loop_wall(loop_of(teller)));
}

void teller_end(struct teller *teller, const struct engine_summary *summary, int64_t patience) {
  struct error error = {0};
  bool done = false;
  teller->ended = true;
  loop_cancel(loop_of(teller), &teller->timer);
  const bool quiet = is_quiet(teller, summary);
  if (is_wanted(teller) && quiet && touch(teller->session, loop_wall(loop_of(teller)), &done, &error)) warn_once(teller, &error);
  /* What a look would tell while the one before is still being told, the next run tells. */
  if (is_wanted(teller) && !done && !teller->looking && alarms_are_told(teller->alarms)) begin_look(teller);
  while (teller->looking) look_on(teller);
  hooks_drain(teller->hooks, patience);
}
