/* The fragment of a zone file, as the publisher leaves it: lost, with foreign lines, on a full disk, and after a crash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "dkimroll/cleanup.h"
#include "publisher_looked_rig.h"

static int give_record(void *context, const char *publisher, const char *zone,
                       int (*take)(void *take_context, const char *owner, uint32_t ttl, const char *record), void *take_context, struct error *error) {
  (void)error;
  assert_string_equal(publisher, "theirs");
  assert_string_equal(zone, RIG_ZONE);
  ++*(unsigned *)context;
  int result = take(take_context, "kept._domainkey." RIG_ZONE, 60, "stays");
  if (!result) result = take(take_context, RIG_NAME, 60, "old");
  return result;
}

static void test_publisher_looked__a_fragment_that_was_lost_comes_back_with_all_that_belongs_there(void **state) {
  (void)state;
  static const char *const losses[] = {NULL, ""};
  for (size_t i = 0; i < ARRAY_SIZE(losses); i++) {
    struct rig rig;
    unsigned asked = 0;
    rig_open(&rig, "zonefile");
    rig.source = (struct publisher_source){give_record, &asked};
    rig.publisher->source = &rig.source;
    rig_set_name(&rig, RIG_NAME, "old");
    rig_set_name(&rig, "kept._domainkey." RIG_ZONE, "stays");
    if (losses[i]) rig_set_fragment(&rig, losses[i]);
    assert_int_equal(rig_publish(&rig, PUBLISH_DELETE, NULL, "old"), 0);
    CLEANUP_FREE char *text = rig_get_fragment(&rig);
    assert_non_null(strstr(text, "kept._domainkey.example.com. 60 IN TXT \"stays\"\n"));
    assert_null(strstr(text, "s1._domainkey"));
    assert_int_equal(asked, 1);
    /* Nothing that grows is asked for as long as it is there. */
    assert_int_equal(rig_publish(&rig, PUBLISH_ADD, "new", NULL), 0);
    assert_int_equal(asked, 1);
    rig_close(&rig);
  }
}

static void test_publisher_looked__without_the_store_a_lost_fragment_is_not_made(void **state) {
  (void)state;
  struct rig rig;
  rig_open(&rig, "zonefile");
  assert_int_equal(rig_publish(&rig, PUBLISH_ADD, "new", NULL), ERROR_NOT_FOUND);
  assert_null(rig_get_fragment(&rig));
  assert_true(rig.results[0].error.remedy[0] != '\0');
  assert_int_equal(rig.calls, 0);
  rig_close(&rig);
}

static int give_nothing(void *context, const char *publisher, const char *zone,
                        int (*take)(void *take_context, const char *owner, uint32_t ttl, const char *record), void *take_context, struct error *error) {
  (void)context, (void)publisher, (void)zone, (void)take, (void)take_context, (void)error;
  return 0;
}

/* A state that knows nothing of the zone may be a new one in the place of one that was lost with the file; the name server still has its records in memory. */
static void test_publisher_looked__a_fragment_that_nobody_made_is_not_begun(void **state) {
  (void)state;
  struct rig rig;
  rig_open(&rig, "zonefile");
  rig.source = (struct publisher_source){give_nothing, NULL};
  rig.publisher->source = &rig.source;
  assert_int_equal(rig_publish(&rig, PUBLISH_ADD, "new", NULL), ERROR_NOT_FOUND);
  assert_null(rig_get_fragment(&rig));
  assert_non_null(strstr(rig.results[0].error.remedy, "make it empty (install -m 0644 /dev/null "));
  assert_non_null(strstr(rig.results[0].error.remedy, "`dkimroll import` first, for all domains of the zone"));
  assert_int_equal(rig.calls, 0);
  rig_set_fragment(&rig, "");
  assert_int_equal(rig_publish(&rig, PUBLISH_ADD, "new", NULL), 0);
  CLEANUP_FREE char *text = rig_get_fragment(&rig);
  assert_non_null(strstr(text, "\"new\"\n"));
  rig_close(&rig);
}

/* The fragment has the record, and no server shows it. */
static void open_unshown(struct rig *rig) {
  rig_open(rig, "zonefile");
  rig_set_fragment(rig, "");
  assert_int_equal(rig_publish(rig, PUBLISH_ADD, "new", NULL), 0);
  rig_set_name(rig, RIG_NAME, "");
}

/* A server that answered wrongly, or whose record somebody took away, had the fragment keep it: it came back with the next reload, and no key was left that had it. */
static void test_publisher_looked__a_record_that_no_server_shows_leaves_the_fragment_too(void **state) {
  (void)state;
  struct rig rig;
  open_unshown(&rig);
  assert_int_equal(rig_publish(&rig, PUBLISH_DELETE, NULL, "new"), 0);
  CLEANUP_FREE char *text = rig_get_fragment(&rig);
  assert_null(strstr(text, "s1._domainkey"));
  assert_int_equal(rig.reloads, 1);
  rig_assert_stands(&rig, "");
  rig_close(&rig);
}

/* Nothing is known of it, and no server shows it: there is nothing to be done. */
static void test_publisher_looked__a_record_that_is_gone_with_its_fragment_needs_no_file(void **state) {
  (void)state;
  struct rig rig;
  rig_open(&rig, "zonefile");
  rig.source = (struct publisher_source){give_nothing, NULL};
  rig.publisher->source = &rig.source;
  assert_int_equal(rig_publish(&rig, PUBLISH_DELETE, NULL, "new"), 0);
  assert_null(rig_get_fragment(&rig));
  assert_int_equal(rig.reloads, 0);
  rig_close(&rig);
}

static void test_publisher_looked__a_fragment_with_foreign_lines_is_left_as_it_is(void **state) {
  (void)state;
  struct rig rig;
  rig_open(&rig, "zonefile");
  rig_set_fragment(&rig, "www 60 IN A 192.0.2.1\n");
  assert_int_equal(rig_publish(&rig, PUBLISH_ADD, "new", NULL), ERROR_CONFLICT);
  assert_non_null(strstr(rig.results[0].error.message, "line 1 was not written by dkimroll"));
  CLEANUP_FREE char *text = rig_get_fragment(&rig);
  assert_string_equal(text, "www 60 IN A 192.0.2.1\n");
  assert_int_equal(rig.calls, 0);
  rig_close(&rig);
}

/* As on a full disk: no file can get larger. */
static void test_publisher_looked__a_full_disk_leaves_the_fragment_as_it_was(void **state) {
  (void)state;
  struct rig rig;
  struct rlimit before;
  rig_open(&rig, "zonefile");
  rig_set_fragment(&rig, "");
  assert_int_equal(rig_publish(&rig, PUBLISH_ADD, "new", NULL), 0);
  CLEANUP_FREE char *old = rig_get_fragment(&rig);
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  const struct rlimit tiny = {.rlim_cur = 16, .rlim_max = before.rlim_max};
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
  const int code = rig_publish(&rig, PUBLISH_REPLACE, "also", "new");
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  assert_int_equal(code, ERROR_SYSTEM);
  assert_true(rig.results[0].error.retryable);
  CLEANUP_FREE char *text = rig_get_fragment(&rig);
  assert_string_equal(text, old);
  assert_int_equal(rig.reloads, 0);
  assert_int_equal(rig_publish(&rig, PUBLISH_REPLACE, "also", "new"), 0);
  rig_close(&rig);
}

/* A crash between the rewrite and the reload: the file says it, the servers do not. */
static void test_publisher_looked__what_an_attempt_before_wrote_is_reloaded(void **state) {
  (void)state;
  struct rig rig;
  open_unshown(&rig);
  assert_int_equal(rig_publish(&rig, PUBLISH_ADD, "new", NULL), 0);
  assert_int_equal(rig.reloads, 1);
  rig_assert_stands(&rig, "new");
  rig_close(&rig);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_publisher_looked__a_fragment_that_was_lost_comes_back_with_all_that_belongs_there),
      cmocka_unit_test(test_publisher_looked__without_the_store_a_lost_fragment_is_not_made),
      cmocka_unit_test(test_publisher_looked__a_fragment_that_nobody_made_is_not_begun),
      cmocka_unit_test(test_publisher_looked__a_record_that_no_server_shows_leaves_the_fragment_too),
      cmocka_unit_test(test_publisher_looked__a_record_that_is_gone_with_its_fragment_needs_no_file),
      cmocka_unit_test(test_publisher_looked__a_fragment_with_foreign_lines_is_left_as_it_is),
      cmocka_unit_test(test_publisher_looked__a_full_disk_leaves_the_fragment_as_it_was),
      cmocka_unit_test(test_publisher_looked__what_an_attempt_before_wrote_is_reloaded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
