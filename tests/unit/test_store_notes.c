/* What is noted beside lineages from one turn to the next: events, resources that fail, the clock, tables, alarms, and what hooks were told. */
#include "store_rig.h"

static void add_events(struct store *store) {
  struct event events[] = {{.at = 1,
                            .lineage_id = 1,
                            .domain = (char *)"a.example",
                            .slot = (char *)"main",
                            .kind = (char *)"k",
                            .reason = (char *)"1"},
                           {.at = 2, .kind = (char *)"k", .reason = (char *)"2"},
                           {.at = 3,
                            .lineage_id = 1,
                            .domain = (char *)"a.example",
                            .selector = (char *)"s",
                            .kind = (char *)"state",
                            .from = (char *)"ready",
                            .to = (char *)"active",
                            .reason = (char *)"3"}};
  const struct store_commit commit = {.events = events, .event_count = 3};
  rig_commit_rows(store, &commit);
  assert_true(events[0].id > 0 && events[0].id < events[1].id && events[1].id < events[2].id);
}

static int note_reason(void *context, const void *row) {
  const struct event *event = row;
  buffer_format(context, "%s", event->reason);
  return 0;
}

static int check_switch(void *context, const void *row) {
  const struct event *event = row;
  (void)context;
  assert_true(event->id == 4 && event->at == 3 && event->lineage_id == 1);
  assert_string_equal(event->domain, "a.example");
  assert_null(event->slot);
  assert_string_equal(event->selector, "s");
  assert_string_equal(event->kind, "state");
  assert_string_equal(event->from, "ready");
  assert_string_equal(event->to, "active");
  return 42;
}

static void test_store__events_are_read_in_both_directions_from_any_number(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  rig_sync(rig->store, "a.example: {}", RIG_NOW); /* event 1 */
  add_events(rig->store);
  rig_expect(rig->store, STORE_SELECT_EVENTS, &(struct store_filter){.after = 1}, note_reason, "123");
  rig_expect(rig->store, STORE_SELECT_EVENTS, &(struct store_filter){.after = 2, .limit = 1}, note_reason, "2");
  rig_expect(rig->store, STORE_SELECT_EVENTS, &(struct store_filter){.after = 1, .descending = true}, note_reason, "321");
  rig_expect(rig->store, STORE_SELECT_EVENTS, &(struct store_filter){.domain = "a.example", .after = 1}, note_reason, "13");
  rig_expect(rig->store, STORE_SELECT_EVENTS, &(struct store_filter){.domain = "a.example", .descending = true, .limit = 1}, note_reason, "3");
  rig_expect(rig->store, STORE_SELECT_EVENTS, &(struct store_filter){.domain = "b.example"}, note_reason, "");
  const struct store_filter last = {.after = 3};
  assert_int_equal(rig->store->ops->select(rig->store, STORE_SELECT_EVENTS, &last, check_switch, NULL, &error), 42);
}

static void test_store__the_event_log_is_append_only(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  assert_int_not_equal(rig_sql(rig->path, "UPDATE event SET reason = 'never happened'"), SQLITE_OK);
  assert_int_not_equal(rig_sql(rig->path, "DELETE FROM event"), SQLITE_OK);
  struct event event = {.id = 1, .kind = (char *)"k"};
  const struct store_commit commit = {.events = &event, .event_count = 1};
  assert_int_equal(rig->store->ops->commit(rig->store, &commit, &error), ERROR_INTERNAL);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_EVENTS, NULL), 1);
}

static int check_resource(void *context, const void *row) {
  const struct store_resource *resource = row;
  ++*(int *)context;
  assert_string_equal(resource->name, "dns 192.0.2.53:53");
  assert_int_equal(resource->failures, 2);
  assert_true(resource->retry_at == 9);
  assert_string_equal(resource->failure, "timeout");
  return 0;
}

static void test_store__a_resource_is_kept_while_it_fails_and_the_clock_always(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  const struct store_clock clock = {.boot_id = "boot", .wall = -5, .boottime = 7, .credited = 8, .attested = true};
  struct store_resource resources[] = {{.name = (char *)"dns 192.0.2.53:53", .failures = 1, .retry_at = 8},
                                       {.name = (char *)"signer local", .failures = 1, .retry_at = TIME_UNSET}};
  struct store_commit commit = {.resources = resources, .resource_count = 2, .clock = &clock};
  struct store_clock read = {0};
  int64_t next;
  int seen = 0;
  rig_commit_rows(rig->store, &commit);
  resources[0].failures = 2;
  resources[0].retry_at = 9;
  resources[0].failure = (char *)"timeout";
  resources[1].failures = 0;
  commit.clock = NULL;
  rig_commit_rows(rig->store, &commit);
  rig_select(rig->store, STORE_SELECT_RESOURCES, NULL, check_resource, &seen);
  assert_int_equal(seen, 1);
  rig_check(rig->store->ops->next_moment(rig->store, &next, NULL, &read, &error), &error);
  assert_string_equal(read.boot_id, "boot");
  assert_true(read.wall == -5 && read.boottime == 7 && read.credited == 8 && read.attested);
}

static int check_tables(void *context, const void *row) {
  const struct store_tables *tables = row;
  ++*(int *)context;
  assert_string_equal(tables->key_table, "/k/KeyTable");
  assert_string_equal(tables->signing_table, "/k/SigningTable");
  assert_string_equal(tables->digest, "two");
  assert_string_equal(tables->state, "12:34");
  assert_true(tables->changed_at == 99 && tables->woken == STORE_ALL_WOKEN);
  return 0;
}

static void test_store__what_tables_were_is_kept(void **state) {
  struct rig *rig = *state;
  struct store_tables tables = {.key_table = "/k/KeyTable", .signing_table = "/k/SigningTable", .digest = "one", .state = "1", .changed_at = TIME_UNSET};
  const struct store_commit commit = {.tables = &tables, .tables_count = 1};
  int seen = 0;
  rig_commit_rows(rig->store, &commit);
  tables.digest = "two";
  tables.state = "12:34";
  tables.changed_at = 99;
  tables.woken = STORE_ALL_WOKEN;
  rig_commit_rows(rig->store, &commit);
  rig_select(rig->store, STORE_SELECT_TABLES, NULL, check_tables, &seen);
  assert_int_equal(seen, 1);
}

static int note_alarm(void *context, const void *row) {
  const struct store_alarm *alarm = row;
  buffer_format(context, "%s %s %lld %lld %s;", alarm->subject, alarm->domain ? alarm->domain : "-", (long long)alarm->since,
                alarm->told_at == TIME_UNSET ? -1 : (long long)alarm->told_at, alarm->text);
  return 0;
}

static void test_store__alarms_are_kept_until_they_are_over(void **state) {
  struct rig *rig = *state;
  struct store_alarm alarms[] = {{.subject = "b main", .domain = "b", .since = 5, .told_at = TIME_UNSET, .text = "one"},
                                 {.subject = "a", .since = 6, .told_at = 7, .text = "two"}};
  const struct store_commit commit = {.alarms = alarms, .alarm_count = 2};
  rig_commit_rows(rig->store, &commit);
  rig_expect(rig->store, STORE_SELECT_ALARMS, NULL, note_alarm, "a - 6 7 two;b main b 5 -1 one;");
  alarms[0].told_at = 9;
  alarms[1].since = TIME_UNSET;
  rig_commit_rows(rig->store, &commit);
  rig_expect(rig->store, STORE_SELECT_ALARMS, NULL, note_alarm, "b main b 5 9 one;");
}

static int take_told(void *context, const void *row) {
  *(int64_t *)context = *(const int64_t *)row;
  return 0;
}

static void test_store__what_hooks_were_told_is_kept_until_there_are_none(void **state) {
  struct rig *rig = *state;
  static const int64_t values[] = {STORE_TOLD_START, 17, 18, STORE_NOTHING_TOLD};
  for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
    const struct store_commit commit = {.told_event = values[i]};
    int64_t told = STORE_NOTHING_TOLD;
    rig_commit_rows(rig->store, &commit);
    rig_select(rig->store, STORE_SELECT_TOLD, NULL, take_told, &told);
    assert_true(told == values[i]);
    /* A commit that says nothing of it changes nothing. */
    rig_commit_rows(rig->store, &(struct store_commit){.told_event = 0});
    rig_select(rig->store, STORE_SELECT_TOLD, NULL, take_told, &told);
    assert_true(told == values[i]);
  }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(test_store__##name, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {
      TEST(events_are_read_in_both_directions_from_any_number),
      TEST(the_event_log_is_append_only),
      TEST(a_resource_is_kept_while_it_fails_and_the_clock_always),
      TEST(what_tables_were_is_kept),
      TEST(alarms_are_kept_until_they_are_over),
      TEST(what_hooks_were_told_is_kept_until_there_are_none),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
