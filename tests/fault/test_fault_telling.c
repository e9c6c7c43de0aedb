/* Each call fails once where dkimroll tells people what happens: hooks are called, nobody is forgotten, and metrics are there whole. */
#include "../unit/cli_desk.h"

#include <dirent.h>

#include "dkimroll/alarms.h"
#include "dkimroll/file.h"
#include "dkimroll/hooks.h"
#include "dkimroll/metrics.h"
#include "dkimroll/teller.h"
#include "fault.h"

enum { TOLD_MAX = 32, PATIENCE = 60000, TRANSITIONS = 3, TROUBLES = 3 };

static const char TWO[] = "  example.com:\n  example.org:\n";
static const char WITH_HOOKS[] = "  example.com:\n  example.org:\nhooks: {transition: [/bin/true], needs-person: [/bin/true]}\n";

/* The runner is a model that writes down whom a hook was called for: "ready" for the state that a key came to, "begins a.example" for trouble. */
struct fake {
  struct keeper keeper; /* first */
  struct loop *loop;
  char told[TOLD_MAX][64];
  size_t count;
  keeper_done *done;
  void *context;
};

struct place {
  struct desk desk;
  char *metrics;
  const char *head; /* of its policy: the domains */
  struct fake runner;
  struct cli cli;
  struct session session;
};

static void answer(void *context) {
  struct fake *fake = context;
  CLEANUP(buffer_release) struct buffer reply = BUFFER_WITH_MAXIMUM(4096);
  const struct command_result result = {.end = COMMAND_EXITED};
  const struct error fine = {0};
  fault_pause();
  runner_reply_write(&reply, &result);
  fault_go_on();
  fake->done(fake->context, &fine, reply.data, reply.size);
}

static int fake_submit(struct keeper *keeper, enum keeper_job job, const struct buffer *payload, int64_t deadline, keeper_done *done, void *context, struct error *error) {
  struct fake *fake = (struct fake *)keeper;
  CLEANUP(runner_call_release) struct runner_call_memory memory = {0};
  struct reader reader = {.data = payload->data, .size = payload->size};
  struct runner_call call;
  (void)job, (void)deadline;
  if (payload->failed) return error_set(error, ERROR_NO_MEMORY, "out of memory for a job");
  fault_pause();
  assert_int_equal(runner_call_read(&reader, &call, &memory, error), 0);
  assert_true(fake->count < TOLD_MAX);
  const bool transition = text_equal(call.name, "transition");
  snprintf(fake->told[fake->count++], sizeof fake->told[0], "%s%s%s", transition ? "" : call.word, transition ? "" : " ",
           runner_call_variable(&call, transition ? "DKIMROLL_TO" : "DKIMROLL_DOMAIN"));
  fake->done = done;
  fake->context = context;
  const int result = loop_defer(fake->loop, answer, fake, NULL);
  fault_go_on();
  return result;
}
static const struct keeper_ops FAKE_OPS = {.submit = fake_submit};

static void place_begin(void *context) {
  struct place *place = context;
  struct clock_reading start;
  struct error error = {0};
  desk_make(&place->desk, place->head);
  place->metrics = workplace_path(&place->desk.folder, "metrics/dkimroll.prom");
  CLEANUP_FREE char *directory = workplace_path(&place->desk.folder, "metrics");
  assert_int_equal(mkdir(directory, 0755), 0);
  CLEANUP_FREE char *domains = text_format("%smetrics: {file: %s}\n", place->head, place->metrics);
  desk_write_policy(&place->desk, domains);
  desk_sync(&place->desk);
  desk_edit(&place->desk, "example.com", NULL, desk_live, NULL);
  clock_read(&start);
  start.wall = place->desk.now;
  place->desk.arguments.policy = place->desk.policy;
  place->cli = (struct cli){.wiring = &place->desk.wiring, .arguments = &place->desk.arguments, .log = {.maximum = LOG_LEVEL_ERROR}};
  place->session = (struct session){.cli = &place->cli, .policy = desk_load_policy(&place->desk), .store = desk_open_store(&place->desk)};
  assert_int_equal(loop_virtual_new(&start, &place->session.backends.loop, &error), 0);
  place->runner = (struct fake){.keeper = {&FAKE_OPS}, .loop = place->session.backends.loop};
  place->session.backends.runner = &place->runner.keeper;
}

static void place_end(void *context) {
  struct place *place = context;
  loop_destroy(place->session.backends.loop);
  store_close(place->session.store);
  policy_free(place->session.policy);
  free(place->metrics);
  desk_remove(&place->desk);
}

static size_t times_told(const struct place *place, const char *what) {
  size_t count = 0;
  for (size_t i = 0; i < place->runner.count; i++) count += text_equal(place->runner.told[i], what);
  return count;
}

/* ---- transitions ---- */

static const char *const STATES[TRANSITIONS] = {"published", "ready", "active"};

static void transitions_begin(void *context) {
  struct place *place = context;
  struct hooks *hooks = NULL;
  struct error error = {0};
  place_begin(place);
  assert_int_equal(hooks_new(&place->session, &hooks, &error), 0);
  hooks_free(hooks);
  for (size_t i = 0; i < TRANSITIONS; i++) {
    struct event event = {.at = place->desk.now, .lineage_id = 1, .domain = (char *)"example.com", .slot = (char *)"main", .selector = (char *)"s1", .kind = (char *)"state",
                          .from = (char *)"generated", .to = (char *)STATES[i], .reason = (char *)"because"};
    const struct store_commit commit = {.events = &event, .event_count = 1};
    assert_int_equal(place->session.store->ops->commit(place->session.store, &commit, &error), 0);
  }
}

static int transitions_act(void *context, struct error *error) {
  struct place *place = context;
  struct hooks *hooks = NULL;
  const int result = hooks_new(&place->session, &hooks, error);
  if (result) return result;
  hooks_drain(hooks, PATIENCE);
  hooks_free(hooks);
  return 0;
}

/* The next run tells what this one could not. Each comes once and in order; one call that could not be made is not made again, since nothing may hold up the next
 * ones, and one that could not be noted as made is made again. */
static void transitions_check(void *context, bool whole) {
  struct place *place = context;
  struct error error = {0};
  size_t missing = 0, again = 0;
  if (!whole) return;
  assert_int_equal(transitions_act(place, &error), 0);
  for (size_t i = 0; i < TRANSITIONS; i++) {
    const size_t times = times_told(place, STATES[i]);
    missing += times == 0;
    again += times > 1 ? times - 1 : 0;
  }
  if (missing > 1 || again > TRANSITIONS || (missing && again)) fail_msg("%zu of %d transitions were not told, %zu were told again", missing, TRANSITIONS, again);
  const size_t count = place->runner.count;
  assert_int_equal(transitions_act(place, &error), 0);
  assert_int_equal(place->runner.count, count);
}

static void test_fault_telling__each_transition_is_told_and_the_next_one_too(void **state) {
  (void)state;
  struct place place = {.head = WITH_HOOKS};
  const struct fault_workload workload = {
      .name = "hooks", .context = &place, .begin = transitions_begin, .act = transitions_act, .check = transitions_check, .end = place_end};
  fault_each(&workload);
}

/* ---- what needs a person ---- */

static const char *const TROUBLED[TROUBLES] = {"a.example", "b.example", "c.example"};

/* One look, which finds two causes at three domains, and one more while there is a resource in trouble. */
static int look(struct place *place, bool troubled, struct error *error) {
  struct alarms *alarms = NULL;
  struct hooks *hooks = NULL;
  const int64_t now = place->desk.now;
  int result = hooks_new(&place->session, &hooks, error);
  if (!result) result = alarms_new(place->session.store, hooks, &place->cli.log, now, &alarms, error);
  for (size_t i = 0; i < TROUBLES && !result && troubled; i++) {
    struct lineage lineage = {.slot = "main", .parked_at = TIME_UNSET, .retry_at = TIME_UNSET};
    struct finding finding = {.level = FINDING_FAILED, .subject = (char *)"domains", .text = (char *)TROUBLED[i], .remedy = (char *)"do it", .since = now};
    const struct findings findings = {.items = &finding, .count = 1};
    text_copy(lineage.domain, sizeof lineage.domain, TROUBLED[i]);
    alarms_add_lineage(alarms, &lineage, &findings);
  }
  if (!result) result = alarms_finish(alarms, error);
  if (!result) hooks_drain(hooks, PATIENCE);
  hooks_free(hooks);
  alarms_free(alarms);
  return result;
}

static int alarms_act(void *context, struct error *error) { return look(context, true, error); }

/* A person who was not told does not know: the next look tells. At its end, too. */
static void alarms_check(void *context, bool whole) {
  struct place *place = context;
  struct error error = {0};
  char words[64];
  if (!whole) return;
  place->desk.now += 60;
  if (look(place, true, &error)) fail_msg("%s", error.message);
  for (size_t i = 0; i < TROUBLES; i++) {
    snprintf(words, sizeof words, "begins %s", TROUBLED[i]);
    const size_t times = times_told(place, words);
    if (times < 1 || times > 2) fail_msg("%s was told %zu times", words, times);
  }
  if (look(place, false, &error)) fail_msg("%s", error.message);
  for (size_t i = 0; i < TROUBLES; i++) {
    snprintf(words, sizeof words, "over %s", TROUBLED[i]);
    assert_int_equal(times_told(place, words), 1);
  }
  const size_t count = place->runner.count;
  if (look(place, false, &error)) fail_msg("%s", error.message);
  assert_int_equal(place->runner.count, count);
}

static void test_fault_telling__a_person_who_was_not_told_is_told_by_the_next_look(void **state) {
  (void)state;
  struct place place = {.head = WITH_HOOKS};
  const struct fault_workload workload = {
      .name = "alarms", .context = &place, .begin = place_begin, .act = alarms_act, .check = alarms_check, .end = place_end};
  fault_each(&workload);
}

/* ---- a run, with metrics ---- */

static void stop(void *context) { loop_stop(context); }

/* A daemon lives for years after a moment without memory: with the next event it looks again. */
static void go_on(struct place *place, const struct engine_setup *setup) {
  struct loop *loop = place->session.backends.loop;
  struct error error = {0};
  fault_pause();
  (void)!unlink(place->metrics);
  setup->listener(setup->listener_context, &(struct event){.kind = (char *)"state"});
  assert_int_equal(loop_at(loop, loop_boottime(loop) + 400 * 1000, stop, loop, NULL), 0);
  assert_int_equal(loop_run(loop, &error), 0);
  assert_int_equal(access(place->metrics, F_OK), 0);
  fault_go_on();
}

static int teller_act(void *context, struct error *error) {
  struct place *place = context;
  struct loop *loop = place->session.backends.loop;
  struct engine_setup setup = {.horizon = 0};
  struct teller *teller = NULL;
  struct loop_source *end = NULL;
  const struct engine_summary busy = {.steps = 1};
  int result = teller_new(&place->session, &setup, &teller, error);
  if (result) return result;
  setup.listener(setup.listener_context, &(struct event){.kind = (char *)"state"});
  fault_pause();
  assert_int_equal(loop_at(loop, loop_boottime(loop) + 100 * 1000, stop, loop, &end), 0);
  fault_go_on();
  result = loop_run(loop, error);
  if (result)
    loop_cancel(loop, &end);
  else
    go_on(place, &setup);
  teller_end(teller, &busy, PATIENCE);
  teller_free(teller);
  return result;
}

/* The directory has the whole file or none, and nothing else. */
static bool has_metrics(const struct place *place) {
  CLEANUP_FREE char *directory = workplace_path(&place->desk.folder, "metrics");
  CLEANUP_FREE char *text = NULL;
  struct error error = {0};
  size_t size = 0, count = 0;
  DIR *listing = opendir(directory);
  assert_non_null(listing);
  for (const struct dirent *entry = readdir(listing); entry; entry = readdir(listing)) count += entry->d_name[0] != '.' || entry->d_name[1] > '.';
  closedir(listing);
  const bool there = file_read(place->metrics, METRICS_FILE_MAX, &text, &size, NULL, &error) == 0;
  assert_int_equal(count, there);
  if (!there) return false;
  assert_contains(text, "\ndkimroll_domains 2\n");
  assert_contains(text, "dkimroll_keys{policy=\"standard\",state=\"active\"} 1\n");
  assert_true(text[size - 1] == '\n');
  return true;
}

static void teller_check(void *context, bool whole) {
  struct place *place = context;
  struct error error = {0};
  (void)has_metrics(place);
  if (!whole) return;
  assert_int_equal(teller_act(place, &error), 0);
  assert_true(has_metrics(place));
}

static void test_fault_telling__metrics_are_there_whole_or_not_at_all(void **state) {
  (void)state;
  struct place place = {.head = WITH_HOOKS};
  const struct fault_workload workload = {.name = "metrics", .context = &place, .begin = place_begin, .act = teller_act, .check = teller_check, .end = place_end};
  fault_each(&workload);
}

/* A run that finds nothing due looks only where there is nothing to touch. */
static int quiet_act(void *context, struct error *error) {
  struct place *place = context;
  (void)error;
  teller_nothing_due(&place->session, place->desk.now);
  return 0;
}

static void quiet_check(void *context, bool whole) {
  struct place *place = context;
  struct error error = {0};
  (void)whole;
  (void)has_metrics(place);
  assert_int_equal(quiet_act(place, &error), 0);
  assert_true(has_metrics(place));
}

static void quiet_begin(void *context) {
  struct place *place = context;
  struct error error = {0};
  place_begin(place);
  assert_int_equal(quiet_act(place, &error), 0);
}

static void test_fault_telling__metrics_of_a_quiet_run_are_whole_or_not_at_all(void **state) {
  (void)state;
  struct place place = {.head = TWO};
  const struct fault_workload first = {.name = "metrics of a quiet run", .context = &place, .begin = place_begin, .act = quiet_act, .check = quiet_check, .end = place_end};
  fault_each(&first);
  const struct fault_workload next = {.name = "metrics touched", .context = &place, .begin = quiet_begin, .act = quiet_act, .check = quiet_check, .end = place_end};
  fault_each(&next);
}

#define FAULT_TEST(name) cmocka_unit_test_teardown(test_fault_telling__##name, fault_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      FAULT_TEST(each_transition_is_told_and_the_next_one_too),
      FAULT_TEST(a_person_who_was_not_told_is_told_by_the_next_look),
      FAULT_TEST(metrics_are_there_whole_or_not_at_all),
      FAULT_TEST(metrics_of_a_quiet_run_are_whole_or_not_at_all),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
