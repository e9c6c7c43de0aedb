/* Hooks: what they are told, how often, in which order, and that nothing of them holds up anything. The runner is a fake that writes down what it is asked for. */
#include "cli_desk.h"

#include "dkimroll/alarms.h"
#include "dkimroll/hooks.h"

enum { CALLS_MAX = 300, PATIENCE = 60000 };

static const char WITH_HOOKS[] = "  example.com:\n  example.org:\nhooks: {transition: [/bin/true], needs-person: [/bin/true]}\n";
static const char WITHOUT_HOOKS[] = "  example.com:\n  example.org:\n";

struct fake {
  struct keeper keeper; /* first */
  struct loop *loop;
  char *told[CALLS_MAX]; /* "transition/transition published ready", "needs-person/begins example.com 0 reason" */
  size_t count;
  bool refuses, silent;
  int status;
  keeper_done *done;
  void *context;
};

static void answer(void *context) {
  struct fake *fake = context;
  CLEANUP(buffer_release) struct buffer reply = BUFFER_WITH_MAXIMUM(4096);
  const struct command_result result = {.end = COMMAND_EXITED, .status = fake->status};
  const struct error fine = {0};
  runner_reply_write(&reply, &result);
  fake->done(fake->context, &fine, reply.data, reply.size);
}

static const char *variable(const struct runner_call *call, const char *name) {
  const char *value = runner_call_variable(call, name);
  return value ? value : "-";
}

static int fake_submit(struct keeper *keeper, enum keeper_job job, const struct buffer *payload, int64_t deadline, keeper_done *done, void *context, struct error *error) {
  struct fake *fake = (struct fake *)keeper;
  CLEANUP(runner_call_release) struct runner_call_memory memory = {0};
  struct reader reader = {.data = payload->data, .size = payload->size};
  struct runner_call call;
  (void)deadline;
  assert_int_equal(job, KEEPER_RUN);
  if (runner_call_read(&reader, &call, &memory, error)) fail_msg("%s", error->message);
  assert_int_equal(call.purpose, RUNNER_HOOK);
  assert_string_equal(variable(&call, "DKIMROLL_EVENT"), call.word);
  assert_true(call.input_size > 0 && fake->count < CALLS_MAX);
  fake->told[fake->count++] = text_equal(call.name, "transition")
                                  ? text_format("%s %s %s %s", call.word, variable(&call, "DKIMROLL_FROM"), variable(&call, "DKIMROLL_TO"), variable(&call, "DKIMROLL_COUNT"))
                                  : text_format("%s %s %s %s", call.word, variable(&call, "DKIMROLL_DOMAIN"), variable(&call, "DKIMROLL_OTHERS"), variable(&call, "DKIMROLL_REASON"));
  if (fake->refuses) return error_set(error, ERROR_UNREACHABLE, "the runner is gone");
  fake->done = done;
  fake->context = context;
  return fake->silent ? 0 : loop_defer(fake->loop, answer, fake, NULL);
}
static const struct keeper_ops FAKE_OPS = {.submit = fake_submit};

struct place {
  struct desk desk;
  struct fake runner;
  struct cli cli;
  struct session session;
  struct hooks *hooks;
};

static void open_session(struct place *place, const char *domains) {
  struct clock_reading start;
  struct error error = {0};
  clock_read(&start);
  start.wall = place->desk.now;
  desk_write_policy(&place->desk, domains);
  desk_sync(&place->desk);
  place->cli = (struct cli){.wiring = &place->desk.wiring, .arguments = &place->desk.arguments, .log = {.maximum = LOG_LEVEL_ERROR}};
  place->session = (struct session){.cli = &place->cli, .policy = desk_load_policy(&place->desk), .store = desk_open_store(&place->desk)};
  assert_int_equal(loop_virtual_new(&start, &place->session.backends.loop, &error), 0);
  place->runner = (struct fake){.keeper = {&FAKE_OPS}, .loop = place->session.backends.loop};
  place->session.backends.runner = &place->runner.keeper;
  if (hooks_new(&place->session, &place->hooks, &error)) fail_msg("%s", error.message);
}

static void close_session(struct place *place) {
  hooks_free(place->hooks);
  place->hooks = NULL;
  for (size_t i = 0; i < place->runner.count; i++) free(place->runner.told[i]);
  loop_destroy(place->session.backends.loop);
  store_close(place->session.store);
  policy_free(place->session.policy);
}

static struct place *make_place(void) {
  struct place *place = calloc(1, sizeof *place);
  assert_non_null(place);
  desk_make(&place->desk, WITH_HOOKS);
  open_session(place, WITH_HOOKS);
  return place;
}

static void remove_place(struct place *place) {
  close_session(place);
  desk_remove(&place->desk);
  free(place);
}

/* As the engine commits it. */
static void happen(struct place *place, const char *kind, const char *from, const char *to, size_t times) {
  struct error error = {0};
  struct event event = {.at = place->desk.now, .lineage_id = 1, .domain = (char *)"example.com", .slot = (char *)"main", .selector = (char *)"s1", .kind = (char *)kind,
                        .from = (char *)from, .to = (char *)to, .reason = (char *)"because"};
  for (size_t i = 0; i < times; i++) {
    event.id = 0;
    const struct store_commit commit = {.events = &event, .event_count = 1};
    if (place->session.store->ops->commit(place->session.store, &commit, &error)) fail_msg("%s", error.message);
    hooks_wake(place->hooks);
  }
}

static void assert_told(struct place *place, size_t count, const char *const *expected) {
  hooks_drain(place->hooks, PATIENCE);
  for (size_t i = 0; i < count && i < place->runner.count; i++) assert_string_equal(place->runner.told[i], expected[i]);
  assert_int_equal(place->runner.count, count);
}
#define ASSERT_TOLD(place, ...) assert_told((place), sizeof(const char *[]){__VA_ARGS__} / sizeof(char *), (const char *[]){__VA_ARGS__})

static void test_hooks__each_transition_is_told_once_and_in_order(void **state) {
  (void)state;
  struct place *place = make_place();
  happen(place, "state", "published", "ready", 1);
  happen(place, "confirmed", NULL, NULL, 2);
  happen(place, "state", "ready", "active", 1);
  ASSERT_TOLD(place, "transition published ready -", "transition ready active -");
  happen(place, "state", "active", "retired", 1);
  ASSERT_TOLD(place, "transition published ready -", "transition ready active -", "transition active retired -");
  remove_place(place);
}

static void test_hooks__what_was_before_there_were_hooks_is_not_told(void **state) {
  (void)state;
  struct place *place = make_place();
  close_session(place);
  open_session(place, WITHOUT_HOOKS);
  assert_null(place->hooks);
  happen(place, "state", "published", "ready", 3);
  close_session(place);
  open_session(place, WITH_HOOKS);
  assert_told(place, 0, NULL);
  happen(place, "state", "ready", "active", 1);
  ASSERT_TOLD(place, "transition ready active -");
  remove_place(place);
}

static void test_hooks__what_was_not_told_to_its_end_is_told_again(void **state) {
  (void)state;
  struct place *place = make_place();
  place->runner.silent = true;
  happen(place, "state", "published", "ready", 1);
  happen(place, "state", "ready", "active", 1);
  /* No answer comes: the run ends without waiting for ever. */
  ASSERT_TOLD(place, "transition published ready -");
  assert_true(hooks_are_behind(&place->session, place->desk.now));
  const struct fake late = place->runner;
  hooks_free(place->hooks);
  place->hooks = NULL;
  answer((void *)&late); /* harmless */
  close_session(place);
  open_session(place, WITH_HOOKS);
  ASSERT_TOLD(place, "transition published ready -", "transition ready active -");
  assert_false(hooks_are_behind(&place->session, place->desk.now));
  remove_place(place);
}

static void test_hooks__one_that_fails_or_cannot_be_called_holds_up_no_other(void **state) {
  (void)state;
  struct place *place = make_place();
  place->runner.status = 1;
  happen(place, "state", "published", "ready", 1);
  ASSERT_TOLD(place, "transition published ready -");
  place->runner.refuses = true;
  happen(place, "state", "ready", "active", 1);
  happen(place, "state", "active", "retired", 1);
  ASSERT_TOLD(place, "transition published ready -", "transition ready active -", "transition active retired -");
  assert_false(hooks_are_behind(&place->session, place->desk.now));
  remove_place(place);
}

static void test_hooks__a_flood_is_told_as_a_number(void **state) {
  (void)state;
  struct place *place = make_place();
  happen(place, "state", "published", "ready", HOOKS_BACKLOG_MAX + 1);
  ASSERT_TOLD(place, "backlog - - 101");
  happen(place, "state", "ready", "active", 1);
  ASSERT_TOLD(place, "backlog - - 101", "transition ready active -");
  remove_place(place);
}

static void test_hooks__as_many_as_there_may_be_are_told_one_by_one(void **state) {
  (void)state;
  struct place *place = make_place();
  happen(place, "state", "published", "ready", HOOKS_BACKLOG_MAX);
  hooks_drain(place->hooks, PATIENCE);
  assert_int_equal(place->runner.count, HOOKS_BACKLOG_MAX);
  remove_place(place);
}

/* ---- what needs a person ---- */

struct trouble {
  const char *domain, *text; /* NULL: the end */
  int64_t since;
};

/* One look that finds these troubles. */
static void look(struct place *place, int64_t now, const struct trouble *troubles) {
  struct alarms *alarms = NULL;
  struct error error = {0};
  if (alarms_new(place->session.store, place->hooks, &place->cli.log, now, &alarms, &error)) fail_msg("%s", error.message);
  for (size_t i = 0; troubles[i].domain; i++) {
    struct lineage lineage = {.slot = "main", .parked_at = TIME_UNSET, .retry_at = TIME_UNSET};
    CLEANUP(findings_release) struct findings findings = {0};
    text_copy(lineage.domain, sizeof lineage.domain, troubles[i].domain);
    findings_add(&findings, &(struct finding){.level = FINDING_NOTE, .subject = (char *)"domains", .text = (char *)"a note", .remedy = (char *)""});
    findings_add(&findings, &(struct finding){.level = FINDING_FAILED, .kind = text_starts(troubles[i].text, "ns2 ") ? "server" : NULL, .subject = (char *)"domains", .text = (char *)troubles[i].text, .remedy = (char *)"do it", .since = troubles[i].since});
    alarms_add_lineage(alarms, &lineage, &findings);
  }
  if (alarms_finish(alarms, &error)) fail_msg("%s", error.message);
  hooks_drain(place->hooks, PATIENCE);
  assert_true(alarms_are_told(alarms));
  alarms_free(alarms);
}
#define LOOK(place, now, ...) look((place), (now), (const struct trouble[]){__VA_ARGS__ {NULL, NULL, 0}})

static void test_alarms__what_lasts_is_told_at_its_begin_daily_and_at_its_end(void **state) {
  (void)state;
  struct place *place = make_place();
  const int64_t now = place->desk.now;
  /* Since when it is known, it begins at once. */
  LOOK(place, now, {"example.com", "no server", now - 5}, );
  ASSERT_TOLD(place, "begins example.com 0 no server");
  LOOK(place, now + DAY - 1, {"example.com", "no server", now - 5}, );
  ASSERT_TOLD(place, "begins example.com 0 no server");
  assert_false(alarms_are_behind(place->session.store, now + DAY - 1));
  assert_true(alarms_are_behind(place->session.store, now + DAY));
  LOOK(place, now + DAY, {"example.com", "no server", now - 5}, );
  ASSERT_TOLD(place, "begins example.com 0 no server", "lasts example.com 0 no server");
  LOOK(place, now + DAY + 60, );
  ASSERT_TOLD(place, "begins example.com 0 no server", "lasts example.com 0 no server", "over example.com 0 no server");
  LOOK(place, now + DAY + 120, );
  assert_int_equal(place->runner.count, 3);
  remove_place(place);
}

/* A lost private key is not to be kept back for the days that a secondary is late; and other words for the same thing are no news before the next day. */
static void test_alarms__something_else_that_begins_is_told_for_itself(void **state) {
  (void)state;
  struct place *place = make_place();
  const int64_t now = place->desk.now;
  struct alarms *alarms = NULL;
  struct error error = {0};
  LOOK(place, now, {"example.com", "ns2 is late: NXDOMAIN", now - 5}, );
  for (unsigned i = 0; i < 2; i++) {
    struct lineage lineage = {.domain = "example.com", .slot = "main", .parked_at = TIME_UNSET};
    CLEANUP(findings_release) struct findings findings = {0};
    assert_int_equal(alarms_new(place->session.store, place->hooks, &place->cli.log, now + 60 + i, &alarms, &error), 0);
    findings_add(&findings, &(struct finding){.level = FINDING_FAILED, .kind = "server", .subject = (char *)"domains", .text = (char *)"ns2 is late: SERVFAIL", .remedy = (char *)"", .since = now - 5});
    findings_add(&findings, &(struct finding){.level = FINDING_FAILED, .kind = "unproved", .subject = (char *)"domains", .text = (char *)"the key is lost", .remedy = (char *)"", .since = now + 30});
    alarms_add_lineage(alarms, &lineage, &findings);
    assert_int_equal(alarms_finish(alarms, &error), 0);
    hooks_drain(place->hooks, PATIENCE);
    alarms_free(alarms);
  }
  LOOK(place, now + DAY, {"example.com", "ns2 is late: SERVFAIL", now - 5}, );
  ASSERT_TOLD(place, "begins example.com 0 ns2 is late: NXDOMAIN", "begins example.com 0 the key is lost", "lasts example.com 0 ns2 is late: SERVFAIL",
              "over example.com 0 the key is lost");
  remove_place(place);
}

static void test_alarms__a_moment_of_trouble_is_no_matter_for_a_person(void **state) {
  (void)state;
  struct place *place = make_place();
  const int64_t now = place->desk.now;
  LOOK(place, now, {"example.com", "unsigned", 0}, {"example.org", "unsigned", 0}, );
  assert_false(alarms_are_behind(place->session.store, now + ALARMS_PATIENCE - 1));
  assert_true(alarms_are_behind(place->session.store, now + ALARMS_PATIENCE));
  LOOK(place, now + ALARMS_PATIENCE - 1, {"example.com", "unsigned", 0}, );
  LOOK(place, now + ALARMS_PATIENCE, {"example.com", "unsigned", 0}, {"example.org", "unsigned", 0}, );
  /* example.org was well in between. */
  ASSERT_TOLD(place, "begins example.com 0 unsigned");
  remove_place(place);
}

static void test_alarms__one_cause_is_one_call_for_all_its_domains(void **state) {
  (void)state;
  struct place *place = make_place();
  const int64_t now = place->desk.now;
  LOOK(place, now, {"a.example", "ns2 is dead", now}, {"b.example", "other", now}, {"c.example", "ns2 is dead", now}, {"d.example", "ns2 is dead", now}, );
  ASSERT_TOLD(place, "begins a.example 2 ns2 is dead", "begins b.example 0 other");
  LOOK(place, now + 60, {"b.example", "other", now}, );
  ASSERT_TOLD(place, "begins a.example 2 ns2 is dead", "begins b.example 0 other", "over a.example 2 ns2 is dead");
  remove_place(place);
}

static void test_alarms__too_many_different_ones_are_told_as_a_number(void **state) {
  (void)state;
  struct place *place = make_place();
  struct trouble troubles[ALARMS_GROUPS_MAX + 4] = {{0}};
  char texts[ALARMS_GROUPS_MAX + 3][32], names[ALARMS_GROUPS_MAX + 3][32];
  for (size_t i = 0; i < ALARMS_GROUPS_MAX + 3; i++) {
    snprintf(texts[i], sizeof texts[i], "text %zu", i);
    snprintf(names[i], sizeof names[i], "d%02zu.example", i);
    troubles[i] = (struct trouble){names[i], texts[i], place->desk.now};
  }
  look(place, place->desk.now, troubles);
  assert_int_equal(place->runner.count, ALARMS_GROUPS_MAX + 1);
  assert_contains(place->runner.told[ALARMS_GROUPS_MAX], "begins  0 and 3 more things");
  look(place, place->desk.now + 60, troubles);
  assert_int_equal(place->runner.count, ALARMS_GROUPS_MAX + 1);
  remove_place(place);
}

/* Killed between the call and the commit, or no answer: it is told again. */
static void test_alarms__what_was_not_told_to_its_end_is_told_again(void **state) {
  (void)state;
  struct place *place = make_place();
  const int64_t now = place->desk.now;
  struct alarms *alarms = NULL;
  struct error error = {0};
  struct lineage lineage = {.domain = "example.com", .slot = "main", .parked_at = TIME_UNSET};
  CLEANUP(findings_release) struct findings findings = {0};
  place->runner.silent = true;
  assert_int_equal(alarms_new(place->session.store, place->hooks, &place->cli.log, now, &alarms, &error), 0);
  findings_add(&findings, &(struct finding){.level = FINDING_FAILED, .subject = (char *)"domains", .text = (char *)"bad", .remedy = (char *)"", .since = now});
  alarms_add_lineage(alarms, &lineage, &findings);
  assert_int_equal(alarms_finish(alarms, &error), 0);
  hooks_drain(place->hooks, PATIENCE);
  assert_false(alarms_are_told(alarms));
  hooks_free(place->hooks);
  place->hooks = NULL;
  alarms_free(alarms);
  answer(&place->runner);
  close_session(place);
  open_session(place, WITH_HOOKS);
  LOOK(place, now + 60, {"example.com", "bad", now}, );
  ASSERT_TOLD(place, "begins example.com 0 bad");
  remove_place(place);
}

/* Whether a person is told of "publish: refused" of this lineage: only when it keeps failing. */
static void assert_told_late(struct place *place, const struct lineage *lineage, unsigned failures) {
  struct alarms *alarms = NULL;
  struct error error = {0};
  CLEANUP(findings_release) struct findings findings = {0};
  assert_int_equal(alarms_new(place->session.store, place->hooks, &place->cli.log, place->desk.now, &alarms, &error), 0);
  findings_add(&findings, &(struct finding){.level = FINDING_FAILED, .subject = (char *)"domains", .text = (char *)"publish: refused", .remedy = (char *)"", .since = place->desk.now});
  alarms_add_lineage(alarms, lineage, &findings);
  assert_int_equal(alarms_finish(alarms, &error), 0);
  hooks_drain(place->hooks, PATIENCE);
  alarms_free(alarms);
  assert_int_equal(place->runner.count, failures == TIMING_FAILURES_PARK ? 1 : 0);
}

static void test_alarms__a_failure_must_repeat_itself(void **state) {
  (void)state;
  struct place *place = make_place();
  for (unsigned failures = 1; failures <= TIMING_FAILURES_PARK; failures++)
    assert_told_late(place, &(struct lineage){.domain = "example.com", .slot = "main", .parked_at = TIME_UNSET, .failures = failures, .failure = (char *)"publish: refused"}, failures);
  remove_place(place);
}

/* While the lineage shows another failure. */
static void test_alarms__a_failure_of_an_old_key_must_repeat_itself_too(void **state) {
  (void)state;
  struct place *place = make_place();
  for (unsigned failures = 1; failures <= TIMING_FAILURES_PARK; failures++) {
    struct key old = {.failures = failures, .failure = (char *)"publish: refused"};
    assert_told_late(place, &(struct lineage){.domain = "example.com", .slot = "main", .parked_at = TIME_UNSET, .failures = 1, .failure = (char *)"attest: refused", .keys = &old, .key_count = 1}, failures);
  }
  remove_place(place);
}

/* A person who was not told does not know. */
static void test_alarms__a_call_that_failed_is_repeated_by_the_next_look(void **state) {
  (void)state;
  struct place *place = make_place();
  const int64_t now = place->desk.now;
  place->runner.status = 1;
  LOOK(place, now, {"example.com", "bad", now}, );
  assert_true(alarms_are_behind(place->session.store, now + ALARMS_PATIENCE));
  LOOK(place, now + 60, {"example.com", "bad", now}, );
  place->runner.status = 0;
  LOOK(place, now + 120, {"example.com", "bad", now}, );
  LOOK(place, now + 180, {"example.com", "bad", now}, );
  ASSERT_TOLD(place, "begins example.com 0 bad", "begins example.com 0 bad", "begins example.com 0 bad");
  remove_place(place);
}

static void test_alarms__are_forgotten_with_the_hook(void **state) {
  (void)state;
  struct place *place = make_place();
  LOOK(place, place->desk.now, {"example.com", "bad", place->desk.now}, );
  assert_true(alarms_are_behind(place->session.store, place->desk.now + 2 * DAY));
  close_session(place);
  open_session(place, WITHOUT_HOOKS);
  assert_false(alarms_are_behind(place->session.store, place->desk.now + 2 * DAY));
  remove_place(place);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_hooks__each_transition_is_told_once_and_in_order),
      cmocka_unit_test(test_hooks__what_was_before_there_were_hooks_is_not_told),
      cmocka_unit_test(test_hooks__what_was_not_told_to_its_end_is_told_again),
      cmocka_unit_test(test_hooks__one_that_fails_or_cannot_be_called_holds_up_no_other),
      cmocka_unit_test(test_hooks__a_flood_is_told_as_a_number),
      cmocka_unit_test(test_hooks__as_many_as_there_may_be_are_told_one_by_one),
      cmocka_unit_test(test_alarms__what_lasts_is_told_at_its_begin_daily_and_at_its_end),
      cmocka_unit_test(test_alarms__something_else_that_begins_is_told_for_itself),
      cmocka_unit_test(test_alarms__a_moment_of_trouble_is_no_matter_for_a_person),
      cmocka_unit_test(test_alarms__one_cause_is_one_call_for_all_its_domains),
      cmocka_unit_test(test_alarms__too_many_different_ones_are_told_as_a_number),
      cmocka_unit_test(test_alarms__what_was_not_told_to_its_end_is_told_again),
      cmocka_unit_test(test_alarms__a_failure_must_repeat_itself),
      cmocka_unit_test(test_alarms__a_failure_of_an_old_key_must_repeat_itself_too),
      cmocka_unit_test(test_alarms__a_call_that_failed_is_repeated_by_the_next_look),
      cmocka_unit_test(test_alarms__are_forgotten_with_the_hook),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
