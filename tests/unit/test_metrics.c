/* Metrics for Prometheus: what is in them, that readers can read them, and that their number is bounded. */
#include "cli_desk.h"

#include "dkimroll/buffer.h"
#include "dkimroll/file.h"
#include "dkimroll/metrics.h"
#include "dkimroll/overview.h"

/* The series, without its value, begins a line of text; returns the value. */
static long long value_of(const char *text, const char *series) {
  CLEANUP_FREE char *line = text_format("\n%s ", series);
  const char *found = strstr(text, line);
  if (!found) fail_msg("there is no %s in:\n%s", series, text);
  return strtoll(found + strlen(line), NULL, 10);
}

static void desk_make_live(struct desk *desk) {
  desk_make(desk, "  example.com:\n  example.org:\n");
  desk_sync(desk);
  desk_edit(desk, "example.com", NULL, desk_live, NULL);
  desk_edit(desk, "example.org", NULL, desk_live, NULL);
}

static void allow_domains(struct desk *desk, int64_t domains) {
  CLEANUP_FREE char *sql = text_format("UPDATE meta SET value = '%lld' WHERE key = 'metrics-domains'", (long long)domains);
  sqlite3 *database = NULL;
  assert_int_equal(sqlite3_open(desk->state, &database), SQLITE_OK);
  assert_int_equal(sqlite3_exec(database, sql, NULL, NULL, NULL), SQLITE_OK);
  sqlite3_close(database);
}

static void keep_first_key(struct lineage *lineage, const struct desk *desk, void *context) {
  struct key *copy = context;
  (void)desk;
  *copy = lineage->keys[0];
}

static void test_metrics__a_key_has_the_moment_of_each_state_and_its_next_step(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  struct key key;
  desk_make_live(&desk);
  desk_edit(&desk, "example.com", NULL, keep_first_key, &key);
  assert_int_equal(desk_run(&desk, cli_command_metrics, NULL), EX_OK);
  CLEANUP_FREE char *published =
      text_format("dkimroll_key_state_timestamp_seconds{domain=\"example.com\",key=\"main\",selector=\"%s\",state=\"published\"}", key.selector);
  CLEANUP_FREE char *active = text_format("dkimroll_key_state_timestamp_seconds{domain=\"example.com\",key=\"main\",selector=\"%s\",state=\"active\"}", key.selector);
  CLEANUP_FREE char *retired = text_format("selector=\"%s\",state=\"retired\"", key.selector);
  CLEANUP_FREE char *next = text_format("dkimroll_next_transition_timestamp_seconds{domain=\"example.com\",key=\"main\",selector=\"%s\",step=\"generate\"}", key.selector);
  assert_int_equal(value_of(desk.out, published), key.published_at);
  assert_int_equal(value_of(desk.out, active), key.active_at);
  assert_lacks(desk.out, retired);
  assert_true(value_of(desk.out, next) > desk.now);
  assert_int_equal(value_of(desk.out, "dkimroll_lineage_failures{domain=\"example.com\",key=\"main\"}"), 0);
}

static void test_metrics__policies_are_summed_up(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  struct key key;
  desk_make_live(&desk);
  desk_edit(&desk, "example.com", NULL, keep_first_key, &key);
  desk_edit(&desk, "example.org", NULL, desk_fail, (void *)"publish: 192.0.2.53 refused it");
  assert_int_equal(desk_run(&desk, cli_command_metrics, NULL), EX_OK);
  assert_int_equal(value_of(desk.out, "dkimroll_domains"), 2);
  assert_int_equal(value_of(desk.out, "dkimroll_domains_signed"), 2);
  assert_int_equal(value_of(desk.out, "dkimroll_domains_in_trouble"), 1);
  assert_int_equal(value_of(desk.out, "dkimroll_problems"), 1);
  assert_int_equal(value_of(desk.out, "dkimroll_lineages{policy=\"standard\"}"), 2);
  assert_int_equal(value_of(desk.out, "dkimroll_lineages_failing{policy=\"standard\"}"), 1);
  assert_int_equal(value_of(desk.out, "dkimroll_keys{policy=\"standard\",state=\"active\"}"), 2);
  assert_int_equal(value_of(desk.out, "dkimroll_keys{policy=\"standard\",state=\"revoked\"}"), 0);
  assert_int_equal(value_of(desk.out, "dkimroll_oldest_active_key_timestamp_seconds{policy=\"standard\"}"), key.active_at);
  assert_int_equal(value_of(desk.out, "dkimroll_domain_problems{domain=\"example.org\"}"), 1);
  assert_lacks(desk.out, "dkimroll_domain_problems{domain=\"example.com\"}");
  assert_int_equal(value_of(desk.out, "dkimroll_policy_current"), 1);
  assert_int_equal(value_of(desk.out, "dkimroll_policy_compiled_timestamp_seconds"), desk.now);
}

static void test_metrics__a_server_that_lacks_the_record_shows_its_lag(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  int64_t ago = 2 * HOUR;
  desk_make(&desk, "  example.com:\n");
  desk_sync(&desk);
  struct desk_round round = {.at = desk.now - 2 * HOUR + 20, .answer = "NXDOMAIN"};
  desk_edit(&desk, "example.com", NULL, desk_publish, &ago);
  desk_edit(&desk, "example.com", NULL, desk_confirm, &round);
  round.at = desk.now - 600;
  desk_edit(&desk, "example.com", NULL, desk_confirm, &round);
  assert_int_equal(desk_run(&desk, cli_command_metrics, NULL), EX_OK);
  assert_int_equal(value_of(desk.out, "dkimroll_server_lag_seconds{server=\"ns1.example.net\",address=\"192.0.2.1:53\"}"), 20);
  assert_int_equal(value_of(desk.out, "dkimroll_server_lag_seconds{server=\"ns2.example.net\",address=\"192.0.2.2:53\"}"), 2 * HOUR - 600);
  assert_int_equal(value_of(desk.out, "dkimroll_server_wrong_records{server=\"ns1.example.net\",address=\"192.0.2.1:53\"}"), 0);
  assert_int_equal(value_of(desk.out, "dkimroll_server_wrong_records{server=\"ns2.example.net\",address=\"192.0.2.2:53\"}"), 1);
  assert_int_equal(value_of(desk.out, "dkimroll_server_seen_timestamp_seconds{server=\"ns2.example.net\",address=\"192.0.2.2:53\"}"), desk.now - 600);
}

static void test_metrics__more_domains_than_wanted_have_no_series_of_their_own(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_live(&desk);
  desk_edit(&desk, "example.com", NULL, desk_fail, (void *)"publish: 192.0.2.53 refused it");
  allow_domains(&desk, 2);
  assert_int_equal(desk_run(&desk, cli_command_metrics, NULL), EX_OK);
  assert_contains(desk.out, "\ndkimroll_key_info{domain=\"example.org\"");
  allow_domains(&desk, 1);
  assert_int_equal(desk_run(&desk, cli_command_metrics, NULL), EX_OK);
  assert_lacks(desk.out, "dkimroll_key_info");
  assert_lacks(desk.out, "example.org");
  assert_int_equal(value_of(desk.out, "dkimroll_domain_problems{domain=\"example.com\"}"), 1);
  assert_int_equal(value_of(desk.out, "dkimroll_domains"), 2);
}

static void desk_measure(struct desk *desk, int64_t skew, int64_t at) {
  struct store *store = desk_open_store(desk);
  struct error error = {0};
  const struct store_publisher_clock clock = {.publisher_id = 1, .skew = skew, .measured_at = at};
  const struct store_resource resource = {.name = (char *)"publisher 1", .failures = 3, .retry_at = at + 60, .failure = (char *)"timeout"};
  const struct store_commit commit = {.publisher_clock = &clock, .resources = &resource, .resource_count = 1};
  if (store->ops->commit(store, &commit, &error)) fail_msg("%s", error.message);
  store_close(store);
}

static void test_metrics__publishers_show_their_failures_and_their_clock(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  desk_make_live(&desk);
  desk_measure(&desk, 7, desk.now - 100);
  desk_measure(&desk, -4, desk.now - 50);
  assert_int_equal(desk_run(&desk, cli_command_metrics, NULL), EX_OK);
  assert_int_equal(value_of(desk.out, "dkimroll_tsig_clock_skew_seconds{publisher=\"primary\"}"), -4);
  assert_int_equal(value_of(desk.out, "dkimroll_tsig_clock_measured_timestamp_seconds{publisher=\"primary\"}"), desk.now - 50);
  assert_int_equal(value_of(desk.out, "dkimroll_publisher_failures{publisher=\"primary\"}"), 3);
  assert_int_equal(value_of(desk.out, "dkimroll_publisher_retry_timestamp_seconds{publisher=\"primary\"}"), desk.now + 10);
}

/* Prometheus' text format: comments before the first series of a name, all series of a name together, each once. */
static void test_metrics__each_name_is_told_once_with_help_and_type(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  char names[METRICS_NAMES][128] = {0};
  size_t count = 0;
  desk_make_live(&desk);
  desk_measure(&desk, 0, desk.now);
  assert_int_equal(desk_run(&desk, cli_command_metrics, NULL), EX_OK);
  for (const char *line = desk.out; *line; line = strchr(line, '\n') + 1) {
    if (!text_starts(line, "# HELP ")) {
      const char *name = line + (text_starts(line, "# TYPE ") ? strlen("# TYPE ") : 0);
      if (strncmp(name, names[count - 1], strlen(names[count - 1])) != 0) fail_msg("%.60s: not behind its help", line);
      continue;
    }
    assert_true(count < METRICS_NAMES);
    snprintf(names[count], sizeof names[count], "%.*s", (int)strcspn(line + 7, " "), line + 7);
    CLEANUP_FREE char *type = text_format("\n# TYPE %s gauge\n", names[count]);
    assert_contains(line, type);
    for (size_t i = 0; i < count; i++) assert_string_not_equal(names[i], names[count]);
    count++;
  }
  assert_true(count > 20);
}

static void test_metrics__labels_are_escaped_and_always_utf8(void **state) {
  (void)state;
  CLEANUP(buffer_release) struct buffer family = BUFFER_WITH_MAXIMUM(4096);
  const struct metrics_label labels[] = {{"policy", "a\"b\\c\nd\xc3\xa9 \xff\xc0\xaf\xed\xa0\x80"}, {NULL, NULL}};
  metrics_series(&family, METRIC_LINEAGES, labels, -3);
  assert_string_equal(strchr((char *)family.data, '{'),
                      "{policy=\"a\\\"b\\\\c\\nd\xc3\xa9 \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"} -3\n");
}

static void test_metrics__the_file_is_replaced_for_everybody_and_touched(void **state) {
  (void)state;
  CLEANUP(desk_remove) struct desk desk;
  struct error error = {0};
  struct stat status;
  desk_make_live(&desk);
  CLEANUP_FREE char *path = workplace_path(&desk.folder, "dkimroll.prom");
  CLEANUP_FREE char *link_path = workplace_path(&desk.folder, "link.prom");
  assert_int_equal(metrics_file_touch(path, 5, &error), ERROR_NOT_FOUND);
  assert_int_equal(desk_run(&desk, cli_command_metrics, NULL), EX_OK);
  const struct buffer text = {.data = (uint8_t *)desk.out, .size = strlen(desk.out)};
  assert_int_equal(metrics_file_write(path, &text, &error), 0);
  assert_int_equal(stat(path, &status), 0);
  assert_int_equal(status.st_mode & 0777, 0644);
  /* Through a link, as into the directory that node_exporter reads. */
  assert_int_equal(symlink(path, link_path), 0);
  if (metrics_file_touch(link_path, 1234567, &error)) fail_msg("%s", error.message);
  assert_int_equal(lstat(link_path, &status), 0);
  assert_true(S_ISLNK(status.st_mode));
  CLEANUP_FREE char *written = NULL;
  size_t size = 0;
  assert_int_equal(file_read(path, METRICS_FILE_MAX, &written, &size, NULL, &error), 0);
  assert_int_equal(value_of(written, "dkimroll_last_run_timestamp_seconds"), 1234567);
  assert_int_equal(value_of(written, "dkimroll_domains"), 2);
  assert_int_equal(count_lines(written), count_lines(desk.out));
}

static void test_metrics__the_manual_tells_of_each(void **state) {
  (void)state;
  CLEANUP_FREE char *manual = NULL;
  size_t size = 0;
  struct error error = {0};
  assert_int_equal(file_read("docs/dkimroll.8", 1 << 20, &manual, &size, NULL, &error), 0);
  for (int name = 0; name < METRICS_NAMES; name++) {
    CLEANUP_FREE char *item = text_format(".It Va dkimroll_%s\n", metrics_family_name((enum metrics_name)name));
    assert_contains(manual, item);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_metrics__a_key_has_the_moment_of_each_state_and_its_next_step),
      cmocka_unit_test(test_metrics__policies_are_summed_up),
      cmocka_unit_test(test_metrics__a_server_that_lacks_the_record_shows_its_lag),
      cmocka_unit_test(test_metrics__more_domains_than_wanted_have_no_series_of_their_own),
      cmocka_unit_test(test_metrics__publishers_show_their_failures_and_their_clock),
      cmocka_unit_test(test_metrics__each_name_is_told_once_with_help_and_type),
      cmocka_unit_test(test_metrics__labels_are_escaped_and_always_utf8),
      cmocka_unit_test(test_metrics__the_file_is_replaced_for_everybody_and_touched),
      cmocka_unit_test(test_metrics__the_manual_tells_of_each),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
