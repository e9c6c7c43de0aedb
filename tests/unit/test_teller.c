/* When metrics are written while an engine runs, and at its end. On the virtual clock, without an engine: the test says what happened. */
#include "cli_desk.h"

#include "dkimroll/file.h"
#include "dkimroll/metrics.h"
#include "dkimroll/teller.h"


struct place {
  struct desk desk;
  char *file;
  struct cli cli;
  struct session session;
  struct engine_setup setup;
  struct teller *teller;
  size_t heard; /* events that came through to the listener behind */
};

static void hear(void *context, const struct event *event) {
  struct place *place = context;
  assert_non_null(event->kind);
  place->heard++;
}

static struct place *make_place(void) {
  struct place *place = calloc(1, sizeof *place);
  struct clock_reading start;
  struct error error = {0};
  assert_non_null(place);
  desk_make(&place->desk, "  example.com:\n");
  place->file = workplace_path(&place->desk.folder, "dkimroll.prom");
  CLEANUP_FREE char *domains = text_format("  example.com:\n  example.org:\nmetrics: {file: %s}\n", place->file);
  desk_write_policy(&place->desk, domains);
  desk_sync(&place->desk);
  clock_read(&start);
  place->desk.arguments.policy = place->desk.policy;
  place->cli = (struct cli){.wiring = &place->desk.wiring, .arguments = &place->desk.arguments, .log = {.maximum = LOG_LEVEL_ERROR}};
  place->session = (struct session){.cli = &place->cli, .policy = desk_load_policy(&place->desk), .store = desk_open_store(&place->desk)};
  assert_int_equal(loop_virtual_new(&start, &place->session.backends.loop, &error), 0);
  place->setup = (struct engine_setup){.listener = hear, .listener_context = place};
  assert_int_equal(teller_new(&place->session, &place->setup, &place->teller, &error), 0);
  return place;
}

static void remove_place(struct place *place) {
  teller_free(place->teller);
  loop_destroy(place->session.backends.loop);
  store_close(place->session.store);
  policy_free(place->session.policy);
  desk_remove(&place->desk);
  free(place->file);
  free(place);
}

static void happen(struct place *place) { place->setup.listener(place->setup.listener_context, &(struct event){.kind = (char *)"state"}); }

static void stop(void *context) { loop_stop(context); }

static void let_pass(struct place *place, int64_t seconds) {
  struct loop *loop = place->session.backends.loop;
  struct error error = {0};
  assert_int_equal(loop_at(loop, loop_boottime(loop) + seconds * 1000, stop, loop, NULL), 0);
  assert_int_equal(loop_run(loop, &error), 0);
}

/* true: metrics were written meanwhile. */
static bool pass(struct place *place, int64_t seconds) {
  assert_true(unlink(place->file) == 0 || access(place->file, F_OK) < 0);
  let_pass(place, seconds);
  return access(place->file, F_OK) == 0;
}

static void test_teller__metrics_follow_what_happens_within_a_minute(void **state) {
  (void)state;
  struct place *place = make_place();
  happen(place);
  assert_false(pass(place, 29));
  assert_true(pass(place, 33));
  assert_int_equal(place->heard, 1);
  remove_place(place);
}

static void test_teller__where_nothing_happens_they_are_written_every_five_minutes(void **state) {
  (void)state;
  struct place *place = make_place();
  assert_false(pass(place, 299));
  assert_true(pass(place, 60));
  assert_false(pass(place, 239));
  assert_true(pass(place, 120));
  remove_place(place);
}

static void test_teller__a_storm_of_events_is_one_look_in_half_a_minute(void **state) {
  (void)state;
  struct place *place = make_place();
  size_t written = 0;
  for (int i = 0; i < 600; i++) {
    for (int j = 0; j < 10; j++) happen(place);
    written += pass(place, 1);
  }
  assert_true(written >= 9 && written <= 20);
  assert_int_equal(place->heard, 6000);
  remove_place(place);
}

static long long last_run(const struct place *place) {
  CLEANUP_FREE char *text = NULL;
  struct error error = {0};
  size_t size = 0;
  assert_int_equal(file_read(place->file, METRICS_FILE_MAX, &text, &size, NULL, &error), 0);
  const char *line = strstr(text, "\ndkimroll_last_run_timestamp_seconds ");
  assert_non_null(line);
  return strtoll(strrchr(strndupa(line + 1, strcspn(line + 1, "\n")), ' '), NULL, 10);
}

static void test_teller__the_end_of_a_run_writes_all_or_only_its_moment(void **state) {
  (void)state;
  struct place *place = make_place();
  const struct engine_summary busy = {.steps = 1}, quiet = {.steps = 0};
  struct error error = {0};
  teller_end(place->teller, &busy, TELLER_ENDS_MS);
  assert_int_equal(last_run(place), loop_wall(place->session.backends.loop));
  /* What is ours is known by its first value, and the rest is left alone. */
  static const char ours[] = "# ours\ndkimroll_last_run_timestamp_seconds 5\nthe rest\n";
  const struct file_rights rights = {.owner = geteuid(), .group = getegid(), .mode = 0644};
  assert_int_equal(file_replace(place->file, ours, strlen(ours), &rights, &error), 0);
  teller_end(place->teller, &quiet, TELLER_ENDS_MS);
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  assert_int_equal(file_read(place->file, METRICS_FILE_MAX, &text, &size, NULL, &error), 0);
  assert_contains(text, "\nthe rest\n");
  assert_int_equal(last_run(place), loop_wall(place->session.backends.loop));
  teller_end(place->teller, &busy, TELLER_ENDS_MS);
  CLEANUP_FREE char *whole = NULL;
  assert_int_equal(file_read(place->file, METRICS_FILE_MAX, &whole, &size, NULL, &error), 0);
  assert_lacks(whole, "the rest");
  assert_contains(whole, "\ndkimroll_domains 2\n");
  remove_place(place);
}

/* A full disk or a directory that is not there is told by the log, and holds nothing up. */
static void test_teller__metrics_that_cannot_be_written_harm_nothing(void **state) {
  (void)state;
  struct place *place = make_place();
  const struct engine_summary busy = {.steps = 1};
  assert_int_equal(mkdir(place->file, 0755), 0);
  happen(place);
  let_pass(place, 100);
  assert_int_equal(rmdir(place->file), 0);
  happen(place);
  assert_true(pass(place, 100));
  assert_true(unlink(place->file) == 0 && mkdir(place->file, 0755) == 0);
  teller_end(place->teller, &busy, TELLER_ENDS_MS);
  assert_int_equal(rmdir(place->file), 0);
  remove_place(place);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_teller__metrics_follow_what_happens_within_a_minute),
      cmocka_unit_test(test_teller__where_nothing_happens_they_are_written_every_five_minutes),
      cmocka_unit_test(test_teller__a_storm_of_events_is_one_look_in_half_a_minute),
      cmocka_unit_test(test_teller__the_end_of_a_run_writes_all_or_only_its_moment),
      cmocka_unit_test(test_teller__metrics_that_cannot_be_written_harm_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
