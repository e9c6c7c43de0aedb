/* `dkimroll history`: what happened, in its order. */
#include "cli_desk.h"

static void add_event(struct store *store, int64_t at, const char *domain, const char *reason) {
  struct error error = {0};
  struct event event = {.at = at,
                        .domain = (char *)domain,
                        .slot = (char *)"main",
                        .selector = (char *)"server-20260124",
                        .kind = (char *)"state",
                        .from = (char *)"ready",
                        .to = (char *)"active",
                        .reason = (char *)reason};
  const struct store_commit commit = {.events = &event, .event_count = 1};
  if (store->ops->commit(store, &commit, &error)) fail_msg("%s", error.message);
}

static void desk_make_history(struct desk *desk) {
  desk_make(desk, "  a.example:\n  b.example:\n  c.example:\n");
  desk_sync(desk);
  struct store *store = desk_open_store(desk);
  add_event(store, 1769267045, "b.example", "first");
  add_event(store, 1769267046, "a.example", "second");
  add_event(store, 1769267047, "c.example", "third");
  add_event(store, 1769267048, "a.example", "a \"fourth\"");
  store_close(store);
}

static const char *place(const char *text, const char *part) {
  const char *found = strstr(text, part);
  if (!found) fail_msg("there is no \"%s\" in:\n%s", part, text);
  return found;
}

static void test_history__everything_oldest_first(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_history(&desk);
  assert_int_equal(desk_run(&desk, cli_command_history, NULL), EX_OK);
  assert_contains(desk.out, "2026-01-24 15:04:05 UTC  b.example server-20260124: ready -> active (first)\n");
  assert_true(place(desk.out, "(first)") < place(desk.out, "(second)"));
  assert_true(place(desk.out, "(second)") < place(desk.out, "(third)"));
  assert_true(place(desk.out, "(third)") < place(desk.out, "(a \"fourth\")"));
}

static void test_history__one_domain(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_history(&desk);
  assert_int_equal(desk_run(&desk, cli_command_history, DOMAINS("A.example.")), EX_OK);
  assert_true(place(desk.out, "(second)") < place(desk.out, "(a \"fourth\")"));
  assert_lacks(desk.out, "b.example");
  assert_lacks(desk.out, "c.example");
}

static void test_history__several_domains_in_one_order_of_time(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_history(&desk);
  assert_int_equal(desk_run(&desk, cli_command_history, DOMAINS("c.example", "a.example")), EX_OK);
  assert_true(place(desk.out, "(second)") < place(desk.out, "(third)"));
  assert_true(place(desk.out, "(third)") < place(desk.out, "(a \"fourth\")"));
  assert_lacks(desk.out, "b.example");
}

static void test_history__an_unknown_domain_is_refused(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_history(&desk);
  assert_int_equal(desk_run(&desk, cli_command_history, DOMAINS("a.example", "d.example")), EX_NOINPUT);
  assert_string_equal(desk.out, "");
  assert_contains(desk.err, "nothing ever happened to d.example");
}

static void test_history__json_is_one_object_a_line(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_history(&desk);
  desk.arguments.json = true;
  assert_int_equal(desk_run(&desk, cli_command_history, DOMAINS("a.example")), EX_OK);
  char *last = strstr(desk.out, "{\"number\": ");
  for (char *next = last; next; next = strstr(next + 1, "\n{\"number\": ")) last = next + (*next == '\n');
  assert_json(last, "$.at", "2026-01-24T15:04:08Z");
  assert_json(last, "$.domain", "a.example");
  assert_json(last, "$.selector", "server-20260124");
  assert_json(last, "$.from", "ready");
  assert_json(last, "$.to", "active");
  assert_json(last, "$.reason", "a \"fourth\"");
}

static void test_history__before_the_first_run_it_says_so(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make(&desk, "  a.example:\n");
  assert_int_equal(desk_run(&desk, cli_command_history, NULL), EX_NOINPUT);
  assert_contains(desk.err, "nothing has run yet: dkimroll run");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_history__everything_oldest_first),
      cmocka_unit_test(test_history__one_domain),
      cmocka_unit_test(test_history__several_domains_in_one_order_of_time),
      cmocka_unit_test(test_history__an_unknown_domain_is_refused),
      cmocka_unit_test(test_history__json_is_one_object_a_line),
      cmocka_unit_test(test_history__before_the_first_run_it_says_so),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
