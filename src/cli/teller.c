#include "dkimroll/teller.h"

#include <stdlib.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/overview.h"
#include "dkimroll/text.h"

struct teller {
  struct session *session;
  engine_listener *listener; /* whose place this took; NULL: none */
  void *listener_context;
  struct overview overview;
  bool looking;      /* overview is under way */
  bool news;         /* since the last look began */
  bool warned;       /* of metrics that could not be written, once */
  int64_t looked_at; /* boottime, milliseconds: when the last look began, and ended */
  int64_t ended_at;
  struct loop_source *timer;
};

static struct loop *loop_of(const struct teller *teller) { return teller->session->backends.loop; }

static void warn(const struct session *session, const struct error *error) {
  log_write(&session->cli->log, &(struct log_event){.level = LOG_LEVEL_WARNING, .kind = "metrics", .reason = error->message, .remedy = error->remedy[0] ? error->remedy : NULL});
}

static void warn_once(struct teller *teller, const struct error *error) {
  if (!teller->warned) warn(teller->session, error);
  teller->warned = true;
}

/* ---- looking ---- */

static int finish_look(struct overview *overview, int64_t now, struct error *error) {
  CLEANUP(buffer_release) struct buffer text = {0};
  const char *file = overview->stamp.metrics_file;
  int result = file ? overview_finish(overview, now, &text, error) : 0;
  return result || !file ? result : metrics_file_write(file, &text, error);
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

/* One page; true: there are more. */
static bool look_on(struct teller *teller) {
  struct error error = {0};
  bool more = false;
  int result = overview_page(&teller->overview, &more, &error);
  if (!result && more) return true;
  if (!result) result = finish_look(&teller->overview, loop_wall(loop_of(teller)), &error);
  end_look(teller, result, &error);
  return false;
}

static void begin_look(struct teller *teller) {
  struct error error = {0};
  teller->news = false;
  teller->looking = true;
  teller->looked_at = loop_boottime(loop_of(teller));
  const int result = overview_begin(&teller->overview, teller->session, NULL, NULL, &error);
  if (result) end_look(teller, result, &error);
}

/* ---- the clockwork ---- */

static void tick(void *context);

static void arm(struct teller *teller, int64_t delay) {
  /* Without a timer the end of the run tells. */
  (void)!loop_at(loop_of(teller), loop_boottime(loop_of(teller)) + delay, tick, teller, &teller->timer);
}

/* How long until the next look may begin; 0: now. */
static int64_t look_delay(const struct teller *teller) {
  const int64_t now = loop_boottime(loop_of(teller));
  const int64_t pause = time_max(teller->news ? TELLER_SOON_MS : TELLER_ANYWAY_MS, (teller->ended_at - teller->looked_at) * TELLER_SHARE);
  return time_max(0, teller->ended_at + pause - now);
}

static void tick(void *context) {
  struct teller *teller = context;
  teller->timer = NULL;
  if (teller->looking) {
    arm(teller, look_on(teller) ? 0 : TELLER_SOON_MS);
    return;
  }
  const int64_t delay = look_delay(teller);
  if (delay == 0) begin_look(teller);
  arm(teller, teller->looking ? 0 : time_min(time_max(delay, 1), TELLER_SOON_MS));
}

static void hear(void *context, const struct event *event) {
  struct teller *teller = context;
  teller->news = true;
  if (teller->listener) teller->listener(teller->listener_context, event);
}

int teller_new(struct session *session, struct engine_setup *setup, struct teller **ret_teller, struct error *error) {
  struct teller *teller = calloc(1, sizeof *teller);
  if (!teller) return error_set(error, ERROR_NO_MEMORY, "out of memory");
  *teller = (struct teller){.session = session, .listener = setup->listener, .listener_context = setup->listener_context};
  setup->listener = hear;
  setup->listener_context = teller;
  teller->looked_at = teller->ended_at = loop_boottime(loop_of(teller));
  if (session->policy && session->policy->metrics.file) arm(teller, TELLER_SOON_MS);
  *ret_teller = teller;
  return 0;
}

void teller_free(struct teller *teller) {
  if (!teller) return;
  loop_cancel(loop_of(teller), &teller->timer);
  if (teller->looking) overview_release(&teller->overview);
  free(teller);
}

/* Nothing but the moment is new. */
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
  return result ? result : finish_look(&overview, now, error);
}

void teller_nothing_due(struct session *session, int64_t now) {
  struct error error = {0};
  bool done = false;
  int result = touch(session, now, &done, &error);
  if (!result && !done) result = look_at_once(session, now, &error);
  if (result) warn(session, &error);
}

void teller_end(struct teller *teller, const struct engine_summary *summary) {
  struct session *session = teller->session;
  struct error error = {0};
  bool done = false;
  if (!session->policy || !session->policy->metrics.file) return;
  loop_cancel(loop_of(teller), &teller->timer);
  if (teller->looking) overview_release(&teller->overview);
  teller->looking = false;
  const int64_t now = loop_wall(loop_of(teller));
  const bool quiet = !teller->news && !session->compiled && summary->steps == 0 && summary->failures == 0;
  int result = quiet ? touch(session, now, &done, &error) : 0;
  if (!result && !done) result = look_at_once(session, now, &error);
  if (result) warn_once(teller, &error);
}
