#include "dkimroll/follow.h"

#include "dkimroll/text.h"

struct follower {
  struct session *session;
  bool events;     /* to be shown */
  int64_t after;   /* number of the last event that was shown */
  int64_t horizon; /* boottime, milliseconds: what is due later is not waited for */
  int64_t until;   /* the same: nothing is waited for any longer */
  bool busy;       /* something is asked for, open or due */
  bool done;
  struct error error;
};

static bool is_operand(const struct follower *follower, const char *domain) {
  const struct cli_arguments *arguments = follower->session->cli->arguments;
  for (size_t i = 0; i < arguments->operand_count; i++)
    if (text_equal_nocase(arguments->operands[i], domain)) return true;
  return false;
}

static int show_event(void *context, const void *row) {
  struct follower *follower = context;
  const struct event *event = row;
  follower->after = event->id;
  if (!is_operand(follower, event->domain)) return 0;
  event_print(follower->session->cli->out, event);
  return 0;
}

static int note_request(void *context, const void *row) {
  struct follower *follower = context;
  const char *const domain = ((const struct store_request *)row)->domain;
  /* What is asked for no domain is for all. */
  follower->busy |= is_operand(follower, domain) || (follower->session->cli->arguments->operand_count == 0 && !domain[0]);
  return 0;
}

static int note_lineage(void *context, const void *row) {
  struct follower *follower = context;
  const struct lineage *lineage = row;
  struct loop *loop = follower->session->backends.loop;
  const int64_t left = time_max(follower->horizon - loop_boottime(loop), 0) / 1000;
  follower->busy |= lineage->next_moment <= time_add(loop_wall(loop), left);
  for (size_t i = 0; i < lineage->key_count; i++) follower->busy |= lineage->keys[i].intent_open;
  return 0;
}

static int look(struct follower *follower) {
  static const struct store_filter all;
  const struct cli_arguments *arguments = follower->session->cli->arguments;
  struct store *store = follower->session->store;
  const struct store_filter newer = {.after = follower->after};
  struct error *error = &follower->error;
  follower->busy = false;
  int result = store->ops->select(store, STORE_SELECT_REQUESTS, &all, note_request, follower, error);
  for (size_t i = 0; i < arguments->operand_count && !result && follower->events; i++) {
    const struct store_filter one = {.domain = arguments->operands[i]};
    result = store->ops->select(store, STORE_SELECT_LINEAGES, &one, note_lineage, follower, error);
  }
  /* After the lineages, so that nothing is missing when they are at rest. */
  if (!result && follower->events) result = store->ops->select(store, STORE_SELECT_EVENTS, &newer, show_event, follower, error);
  fflush(follower->session->cli->out);
  return result;
}

static void follow(void *context) {
  struct follower *follower = context;
  struct loop *loop = follower->session->backends.loop;
  const int64_t now = loop_boottime(loop);
  int result = look(follower);
  follower->done = !result && !follower->busy;
  if (!result && follower->busy && now < follower->until)
    result = loop_at(loop, now + FOLLOW_MS, follow, follower, NULL) ? error_set(&follower->error, ERROR_SYSTEM, "the event loop takes no timer") : 0;
  else
    result = 1;
  if (result) loop_stop(loop);
}

static int run(struct follower *follower, struct error *error) {
  const int result = session_run_loop(follower->session, follow, follower, &follower->error);
  if (result) *error = follower->error;
  return result;
}

static int last_event(void *context, const void *row) {
  *(int64_t *)context = ((const struct event *)row)->id;
  return 1;
}

int follow_last_event(struct session *session, int64_t *ret_event, struct error *error) {
  static const struct store_filter newest = {.limit = 1, .descending = true};
  *ret_event = 0;
  const int result = session->store->ops->select(session->store, STORE_SELECT_EVENTS, &newest, last_event, ret_event, error);
  return result < 0 ? result : 0;
}

int follow_work(struct session *session, int64_t after, int64_t seconds, struct error *error) {
  const int64_t now = loop_boottime(session->backends.loop);
  struct follower follower = {.session = session, .events = true, .after = after, .horizon = now + seconds * 1000};
  follower.until = now + time_max(seconds, FOLLOW_LEAST_SECONDS) * 1000;
  return run(&follower, error);
}

int follow_requests(struct session *session, bool *ret_done, struct error *error) {
  const int64_t now = loop_boottime(session->backends.loop);
  struct follower follower = {.session = session, .horizon = now, .until = now + FOLLOW_REQUEST_SECONDS * INT64_C(1000)};
  const int result = run(&follower, error);
  if (!result) *ret_done = follower.done;
  return result;
}
