#include "dkimroll/follow.h"

#include "dkimroll/text.h"

struct follower {
  struct session *session;
  engine_listener *listener; /* of events; NULL: none */
  void *context;
  bool (*enough)(void *context); /* NULL: it is enough when nothing of the operands is asked for, open or due */
  bool works;      /* what is open and due counts, and not only what is asked for */
  int64_t after;   /* number of the last event that was handed on */
  int64_t horizon; /* boottime, milliseconds: what is due later is not waited for */
  int64_t until;   /* the same: nothing is waited for any longer */
  bool busy;
  bool done;
  struct error error;
};

static bool is_operand(const struct session *session, const char *domain) {
  const struct cli_arguments *arguments = session->cli->arguments;
  for (size_t i = 0; i < arguments->operand_count; i++)
    if (text_equal_nocase(arguments->operands[i], domain)) return true;
  return false;
}

static int hand_on(void *context, const void *row) {
  struct follower *follower = context;
  const struct event *event = row;
  follower->after = event->id;
  follower->listener(follower->context, event);
  return 0;
}

static int note_request(void *context, const void *row) {
  struct follower *follower = context;
  const char *const domain = ((const struct store_request *)row)->domain;
  /* What is asked for no domain is for all. */
  follower->busy |= is_operand(follower->session, domain) || (follower->session->cli->arguments->operand_count == 0 && !domain[0]);
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

static int look_at_work(struct follower *follower) {
  static const struct store_filter all;
  const struct cli_arguments *arguments = follower->session->cli->arguments;
  struct store *store = follower->session->store;
  follower->busy = false;
  int result = store->ops->select(store, STORE_SELECT_REQUESTS, &all, note_request, follower, &follower->error);
  for (size_t i = 0; i < arguments->operand_count && !result && follower->works; i++) {
    const struct store_filter one = {.domain = arguments->operands[i]};
    result = store->ops->select(store, STORE_SELECT_LINEAGES, &one, note_lineage, follower, &follower->error);
  }
  return result;
}

static int look(struct follower *follower) {
  struct store *store = follower->session->store;
  const struct store_filter newer = {.after = follower->after};
  int result = follower->enough ? 0 : look_at_work(follower);
  /* After the lineages, so that nothing is missing when they are at rest. */
  if (!result && follower->listener) result = store->ops->select(store, STORE_SELECT_EVENTS, &newer, hand_on, follower, &follower->error);
  if (!result && follower->enough) follower->busy = !follower->enough(follower->context);
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

static void print_of_operands(void *context, const struct event *event) {
  const struct session *session = context;
  if (is_operand(session, event->domain)) event_print(session->cli->out, event);
}

int follow_work(struct session *session, int64_t after, int64_t seconds, struct error *error) {
  const int64_t now = loop_boottime(session->backends.loop);
  struct follower follower = {.session = session,
                              .listener = print_of_operands,
                              .context = session,
                              .works = true,
                              .after = after,
                              .horizon = now + seconds * 1000,
                              .until = now + time_max(seconds, FOLLOW_LEAST_SECONDS) * 1000};
  return run(&follower, error);
}

int follow_events(struct session *session, int64_t after, int64_t seconds, engine_listener *listener, bool (*enough)(void *context), void *context,
                  struct error *error) {
  struct follower follower = {.session = session, .listener = listener, .context = context, .enough = enough, .after = after};
  follower.until = loop_boottime(session->backends.loop) + seconds * 1000;
  return run(&follower, error);
}

int follow_requests(struct session *session, bool *ret_done, struct error *error) {
  const int64_t now = loop_boottime(session->backends.loop);
  struct follower follower = {.session = session, .horizon = now, .until = now + FOLLOW_REQUEST_SECONDS * INT64_C(1000)};
  const int result = run(&follower, error);
  if (!result) *ret_done = follower.done;
  return result;
}
