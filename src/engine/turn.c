#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "engine_internal.h"

void work_free(struct work *work) {
  if (!work) return;
  lineage_release(&work->lineage);
  free(work);
}

void engine_tell(struct engine *engine, const struct event_list *events) {
  if (!engine->setup.listener) return;
  for (size_t i = 0; i < events->count; i++) engine->setup.listener(engine->setup.listener_context, &events->items[i]);
}

void engine_fail(struct engine *engine, const struct error *error) {
  if (!engine->failure.code) engine->failure = *error;
  loop_stop(engine->setup.loop);
}

/* A jump of the clock belongs to no domain, so its event carries an empty one. */
void engine_read_clock(struct engine *engine, struct event_list *events) {
  struct clock_reading reading;
  struct store_clock next;
  loop_now(engine->setup.loop, &reading);
  if (!reading.boot_id[0]) text_copy(reading.boot_id, sizeof reading.boot_id, engine->boot_stand_in);
  const enum clock_verdict verdict = engine_clock_advance(&engine->clock, &reading, &next, &engine->plan_clock);
  if (verdict != CLOCK_STEADY) {
    static const struct lineage nobody;
    struct error unused;
    char reason[128];
    snprintf(reason, sizeof reason, "the clock jumped %s by %lld s", verdict == CLOCK_JUMPED_FORWARD ? "forward" : "back",
             llabs((long long)(reading.wall - engine->clock.wall - (reading.boottime - engine->clock.boottime) / 1000)));
    if (event_list_add(events, &nobody, NULL, reading.wall, "clock", reason, &unused)) reason[0] = '\0';
  }
  /* Moments that were planned by a clock that is set back now may lie years ahead. */
  if (engine->clock.credited > time_add(next.credited, CLOCK_BACKWARD_WARN)) {
    engine->clock_went_back = true;
    engine_resources_wake(engine);
  }
  /* Nothing is done before the turn that this begins, so a return is not missed whoever read the clock first. */
  if (engine->clock.credited > 0 && engine->away_since == TIME_UNSET && next.credited >= time_add(engine->clock.credited, WAVE_ABSENCE_SECONDS))
    engine->away_since = engine->clock.credited;
  engine->clock = next;
  engine_wave_advance(engine);
}

/* Everything of one turn that goes into its transaction. */
struct turn {
  struct engine *engine;
  struct work **works;
  size_t count;
  struct lineage **lineages; /* those of works */
  struct event_list events;
  int64_t *requests_done;
  size_t request_count;
};

static void turn_release(struct turn *turn) {
  for (size_t i = 0; i < turn->count; i++) {
    if (turn->works[i]) turn->engine->works--;
    work_free(turn->works[i]);
  }
  free(turn->works);
  free(turn->lineages);
  free(turn->requests_done);
  event_list_release(&turn->events);
}

/* "-2", "-3": the number after those that were ever used for this stamp. The store refuses a used selector, so the search is against it. */
struct selector_search {
  const char *selector;
  bool used;
};
static int selector_seen(void *context, const void *row) {
  struct selector_search *search = context;
  search->used = text_equal_nocase(search->selector, row);
  return search->used ? 1 : 0;
}

static int selector_is_used(struct engine *engine, const char *domain, const char *selector, bool *ret_used, struct error *error) {
  struct selector_search search = {.selector = selector};
  const struct store_filter filter = {.domain = domain, .text = selector};
  struct store *store = engine->setup.store;
  int result = store->ops->select(store, STORE_SELECT_SELECTORS, &filter, selector_seen, &search, error);
  if (result < 0) return result;
  *ret_used = search.used;
  return 0;
}

/* Two slots of a domain in one turn: neither is stored yet. */
static bool selector_is_taken_in_turn(const struct turn *turn, const char *domain, const char *selector) {
  for (size_t i = 0; i < turn->count; i++) {
    struct lineage *lineage = &turn->works[i]->lineage;
    if (text_equal(lineage->domain, domain) && lineage_find_key(lineage, selector)) return true;
  }
  return false;
}

static int reserve_selector(struct turn *turn, struct work *work, struct error *error) {
  const struct policy_key *rule = lineage_rule(&work->lineage);
  const int64_t now = turn->engine->plan_clock.now;
  if (!rule) return error_set(error, ERROR_INTERNAL, "%s: no rules for key %s", work->lineage.domain, work->lineage.slot);
  for (unsigned number = 1; number <= SELECTOR_NUMBER_MAX; number++) {
    char selector[SELECTOR_SIZE];
    bool used = true;
    int result = selector_make(rule->selector, now, number, selector, error);
    if (!result) result = selector_is_used(turn->engine, work->lineage.domain, selector, &used, error);
    if (result) return result;
    if (!used && !selector_is_taken_in_turn(turn, work->lineage.domain, selector))
      return lifecycle_reserve(&work->lineage, now, number, &work->key, &turn->events, error);
  }
  return error_set(error, ERROR_LIMIT, "%s: %d selectors of one stamp are used up", work->lineage.domain, SELECTOR_NUMBER_MAX);
}

static int apply_ready(struct turn *turn, struct work *work, const struct plan *plan, struct error *error) {
  const int64_t now = turn->engine->plan_clock.now;
  const struct outcome outcome = {.action = PLAN_READY, .key = plan->key, .at = now};
  turn->engine->summary.steps++;
  return lifecycle_apply(&work->lineage, &outcome, now, &turn->events, error);
}

/* A step that cannot be prepared is a failure of that lineage alone. */
static int fail_work(struct turn *turn, struct work *work, const struct plan *plan, const struct error *failure, struct error *error) {
  const struct outcome outcome = {.action = plan->action == PLAN_GENERATE ? PLAN_ATTEST : plan->action,
                                  .key = plan->key,
                                  .at = turn->engine->plan_clock.now,
                                  .error = failure};
  turn->engine->summary.failures++;
  work->action = PLAN_NONE;
  int result = lifecycle_apply(&work->lineage, &outcome, turn->engine->plan_clock.now, &turn->events, error);
  struct plan next;
  plan_lineage(&work->lineage, &turn->engine->plan_clock, &next);
  work->lineage.next_moment = time_max(next.next, turn->engine->plan_clock.now + 1);
  return result;
}

/* Plans one lineage and prepares its step: selector reserved, intent written. */
static int plan_work(struct turn *turn, struct work *work, struct error *error) {
  struct engine *engine = turn->engine;
  struct lineage *lineage = &work->lineage;
  struct plan plan;
  int result = lifecycle_end_hold(lineage, engine->plan_clock.now, &turn->events, error);
  work->action = PLAN_NONE;
  for (unsigned i = 0; i < ENGINE_STEPS_OF_TURN_MAX && !result; i++) {
    plan_lineage(lineage, &engine->plan_clock, &plan);
    if (plan.action != PLAN_READY) break;
    result = apply_ready(turn, work, &plan, error);
  }
  if (result) return result;
  engine_wave_planned(engine, lineage);
  lineage->next_moment = plan.action == PLAN_NONE ? time_max(plan.next, engine->plan_clock.now + 1) : plan.next;
  if (plan.action == PLAN_NONE || plan.action == PLAN_READY) return 0;
  struct error failure = {0};
  work->action = plan.action;
  work->key = plan.key;
  if (engine_resource_puts_off(engine, plan.action, lineage, plan.key, &lineage->next_moment)) {
    work->action = PLAN_NONE;
    return 0;
  }
  int failed = invariant_permits(lineage, plan.action, plan.key, &engine->plan_clock, &failure);
  if (!failed) engine_wave_taken(engine, lineage, plan.action, plan.key);
  if (!failed && plan.action == PLAN_GENERATE && plan.key == lineage->key_count) failed = reserve_selector(turn, work, &failure);
  if (failed) return fail_work(turn, work, &plan, &failure, error);
  if (work->key < lineage->key_count) {
    struct key *key = &lineage->keys[work->key];
    key->intent_open = true;
    key->intent = (int)work->action;
    key->intent_at = engine->plan_clock.now;
  }
  return 0;
}

static int turn_add(struct turn *turn, struct lineage *lineage, struct error *error) {
  struct work *work = calloc(1, sizeof *work);
  if (!work) return error_set(error, ERROR_NO_MEMORY, "out of memory for a lineage");
  work->lineage = *lineage;
  memset(lineage, 0, sizeof *lineage);
  engine_tell_changes(turn->engine, &work->lineage);
  turn->works[turn->count] = work;
  turn->lineages[turn->count] = &work->lineage;
  turn->count++;
  turn->engine->works++;
  return 0;
}

size_t engine_collect_in_hand(const struct engine *engine, int64_t *ids) {
  size_t count = 0;
  for (const struct operation *operation = engine->operations; operation; operation = operation->next)
    for (size_t i = 0; i < operation->count; i++) ids[count++] = operation->works[i]->lineage.id;
  for (size_t i = 0; i < engine->queue_count; i++)
    for (const struct work *work = engine->queues[i].first; work; work = work->next) ids[count++] = work->lineage.id;
  return count;
}

bool engine_has_in_hand(const struct engine *engine, int64_t lineage_id) {
  for (const struct operation *operation = engine->operations; operation; operation = operation->next)
    for (size_t i = 0; i < operation->count; i++)
      if (operation->works[i]->lineage.id == lineage_id) return true;
  for (size_t i = 0; i < engine->queue_count; i++)
    for (const struct work *work = engine->queues[i].first; work; work = work->next)
      if (work->lineage.id == lineage_id) return true;
  return false;
}

static int turn_claim(struct turn *turn, struct error *error) {
  struct engine *engine = turn->engine;
  if (engine->stopping || engine->setup.requests_only || engine->works >= ENGINE_WORKS_MAX) return 0;
  size_t limit = ENGINE_WORKS_MAX - engine->works, open_count = 0, claimed = 0;
  if (limit > ENGINE_CLAIM_MAX) limit = ENGINE_CLAIM_MAX;
  CLEANUP_FREE int64_t *ids = calloc(engine->works + 1, sizeof *ids);
  if (ids) open_count = engine_collect_in_hand(engine, ids);
  if (!ids) return error_set(error, ERROR_NO_MEMORY, "out of memory for a turn");
  struct lineage *lineages = NULL;
  struct store *store = engine->setup.store;
  int result = store->ops->claim(store, engine->plan_clock.now, limit, engine->setup.domains, engine->setup.domain_count, ids,
                                 open_count, &lineages, &claimed, error);
  if (result) return result;
  turn->works = calloc(claimed + 1, sizeof(struct work *));
  turn->lineages = calloc(claimed + 1, sizeof(struct lineage *));
  if (!turn->works || !turn->lineages) result = error_set(error, ERROR_NO_MEMORY, "out of memory for a turn");
  for (size_t i = 0; i < claimed && !result; i++) result = turn_add(turn, &lineages[i], error);
  for (size_t i = 0; i < claimed; i++) lineage_release(&lineages[i]);
  free(lineages);
  for (size_t i = 0; i < turn->count && !result; i++)
    if (turn->works[i]) result = plan_work(turn, turn->works[i], error); /* all are there, which the analyser does not see */
  return result;
}

static int turn_commit(struct turn *turn, struct error *error) {
  struct engine *engine = turn->engine;
  if (turn->count == 0 && turn->events.count == 0 && !engine->clock_went_back && !engine->wave_changed) return 0;
  struct store_commit commit = {.lineages = turn->lineages,
                                      .lineage_count = turn->count,
                                      .events = turn->events.items,
                                      .event_count = turn->events.count,
                                      .clock = &engine->clock,
                                      .plan_anew = engine->clock_went_back};
  engine_wave_commit(engine, &commit);
  int result = engine->setup.store->ops->commit(engine->setup.store, &commit, error);
  if (!result) engine->clock_went_back = false;
  if (!result) engine_wave_committed(engine);
  if (!result) engine_tell(engine, &turn->events);
  return result;
}

/* Hands the works with a step over to their queues; the others are done with. */
static int turn_enqueue(struct turn *turn, struct error *error) {
  int result = 0;
  /* Whoever was told of the events may have stopped the engine: the intents stay open and are taken up at the next start. */
  if (turn->engine->stopping) return 0;
  for (size_t i = 0; i < turn->count && !result; i++) {
    struct work *work = turn->works[i];
    if (work->action == PLAN_NONE) continue;
    result = engine_enqueue(turn->engine, work, error);
    if (!result) turn->works[i] = NULL;
  }
  return result;
}

/* What comes before any planning. */
static int begin_turn(struct engine *engine, struct event_list *events, bool *ret_more, struct error *error) {
  const int result = engine_wave_return(engine, events, error);
  return result || engine->stopping ? result : engine_execute_requests(engine, ret_more, error);
}

static int engine_turn(struct engine *engine, bool *ret_progress, struct error *error) {
  struct turn turn = {.engine = engine};
  engine_read_clock(engine, &turn.events);
  bool more_requests = false, more_changes = false;
  int result = begin_turn(engine, &turn.events, &more_requests, error);
  if (!result && !engine->stopping) result = engine_wake_changed(engine, &more_changes, error);
  if (!result) result = turn_claim(&turn, error);
  if (!result) result = turn_commit(&turn, error);
  if (!result) result = turn_enqueue(&turn, error);
  *ret_progress = turn.count > 0 || more_requests || more_changes;
  turn_release(&turn);
  return result;
}

static void turn_callback(void *context);

static void engine_arm(struct engine *engine, int64_t delay_seconds) {
  loop_cancel(engine->setup.loop, &engine->timer);
  const int64_t moment = loop_boottime(engine->setup.loop) + delay_seconds * 1000;
  struct error error = {0};
  if (loop_at(engine->setup.loop, moment, turn_callback, engine, &engine->timer)) {
    error_set(&error, ERROR_SYSTEM, "the event loop takes no timer");
    engine_fail(engine, &error);
  }
}

void engine_want_turn(struct engine *engine) {
  if (engine->turn_wanted || engine->failure.code) return;
  engine->turn_wanted = true;
  engine_arm(engine, 0);
}

static int next_due(struct engine *engine, int64_t *ret_next, struct error *error) {
  struct store *store = engine->setup.store;
  if (engine->setup.domain_count == 0) return store->ops->next_moment(store, ret_next, NULL, NULL, error);
  return engine_next_of_domains(engine, ret_next, error);
}

/* Counted in time that really passes: a wall clock that is set must neither end the run nor keep it for ever. */
static bool rest_is_beyond_horizon(const struct engine *engine, int64_t next) {
  if (engine->setup.horizon == TIME_NEVER) return false;
  if (next == TIME_NEVER) return true;
  const int64_t left = engine->setup.horizon - (loop_boottime(engine->setup.loop) - engine->started) / 1000;
  return next > time_add(engine->plan_clock.now, time_max(left, 0));
}

/* Arms the timer for the next moment, or stops when it lies beyond the horizon and nothing is open. */
static void engine_rest(struct engine *engine) {
  enum { LONGEST_REST = 3600 }; /* the wall clock may be set while we sleep on boot time */
  struct error error = {0};
  int64_t next = TIME_NEVER;
  if (engine->setup.requests_only) {
    loop_stop(engine->setup.loop);
    return;
  }
  if (next_due(engine, &next, &error)) {
    engine_fail(engine, &error);
    return;
  }
  engine->summary.next = next;
  const bool beyond = rest_is_beyond_horizon(engine, next);
  if ((engine->open_operations > 0 || engine->looks > 0) && (engine->stopping || beyond)) return;
  if (engine->stopping || beyond) {
    loop_stop(engine->setup.loop);
    return;
  }
  const int64_t delay = next == TIME_NEVER ? LONGEST_REST : next - engine->plan_clock.now;
  if (delay <= 0 && engine->open_operations > 0) return; /* it is in hand: its operation wakes us */
  engine_arm(engine, delay < 1 ? 1 : (delay > LONGEST_REST ? LONGEST_REST : delay));
}

static void make_turn(struct engine *engine) {
  struct error error = {0};
  bool progress = false;
  if (engine->keeper_failure.code) {
    engine_fail(engine, &engine->keeper_failure);
    return;
  }
  if (engine_inspect(engine, &error)) {
    engine_fail(engine, &error);
    return;
  }
  if (engine->looked_at == 0) return; /* the first look comes before everything, and wakes us */
  if (engine->setup.enough && !engine->stopping && engine->setup.enough(engine->setup.enough_context)) engine_stop(engine);
  if (engine_turn(engine, &progress, &error)) {
    engine_fail(engine, &error);
    return;
  }
  engine_start_operations(engine);
  if (engine->failure.code || engine->turn_wanted) return;
  if (progress && engine->works < ENGINE_WORKS_MAX && !engine->stopping)
    engine_want_turn(engine);
  else
    engine_rest(engine);
}

static void turn_callback(void *context) {
  struct engine *engine = context;
  engine->timer = NULL;
  engine->turn_wanted = false;
  engine->summary.turns++;
  make_turn(engine);
  if (engine->setup.turned) engine->setup.turned(engine->setup.turned_context);
}

/* 128 random bits as a stand-in for the boot's id: never equal to that of another process, so that its clock is never taken over by mistake. */
static void engine_name_boot(struct engine *engine) {
  uint64_t bits[2];
  engine->setup.entropy->fill(engine->setup.entropy, bits, sizeof bits);
  snprintf(engine->boot_stand_in, sizeof engine->boot_stand_in, "%016llx%016llx", (unsigned long long)bits[0], (unsigned long long)bits[1]);
}

int engine_new(const struct engine_setup *setup, struct engine **ret_engine, struct error *error) {
  struct engine *engine = calloc(1, sizeof *engine);
  if (!engine) return error_set(error, ERROR_NO_MEMORY, "out of memory for the engine");
  engine->setup = *setup;
  engine->queues = calloc(ENGINE_QUEUES_MAX, sizeof *engine->queues);
  int64_t next = TIME_NEVER;
  int result = engine->queues ? 0 : error_set(error, ERROR_NO_MEMORY, "out of memory for the engine");
  if (!result) result = setup->store->ops->next_moment(setup->store, &next, NULL, &engine->clock, error);
  if (!result) result = engine_load_resources(engine, error);
  if (!result) result = engine_load_wave(engine, error);
  if (result) {
    engine_free(engine);
    return result;
  }
  engine->started = loop_boottime(setup->loop);
  engine_name_boot(engine);
  engine->summary.next = next;
  *ret_engine = engine;
  return 0;
}

int engine_run(struct engine *engine, struct error *error) {
  engine_want_turn(engine);
  int result = loop_run(engine->setup.loop, error);
  if (!result && engine->failure.code) {
    *error = engine->failure;
    result = error->code;
  }
  return result;
}

void engine_stop(struct engine *engine) {
  engine->stopping = true;
  /* What only waits in a queue is not begun: its intent stays open and the next start takes it up. */
  for (size_t i = 0; engine->queues && i < engine->queue_count; i++) {
    struct queue *queue = &engine->queues[i];
    while (queue->first) {
      struct work *work = queue->first;
      queue->first = work->next;
      work_free(work);
      engine->works--;
    }
    queue->last = NULL;
    queue->waiting = 0;
  }
  engine_want_turn(engine);
}

void engine_free(struct engine *engine) {
  if (!engine) return;
  engine_stop(engine);
  loop_cancel(engine->setup.loop, &engine->timer);
  loop_cancel(engine->setup.loop, &engine->parking);
  engine_abandon_operations(engine);
  engine_release_looks(engine);
  engine_release_backends(engine);
  free(engine->queues);
  free(engine);
}

void engine_summarise(const struct engine *engine, struct engine_summary *ret_summary) {
  *ret_summary = engine->summary;
  if (wave_is_stopped(&engine->wave)) wave_describe(&engine->wave, ret_summary->wave);
  ret_summary->in_hand = engine->works;
}
