#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include <sys/uio.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/log.h"
#include "dkimroll/text.h"

enum { CAPTURE_MAX = 16384 };

/* What one event writes to stderr, which is a file meanwhile. */
static const char *capture(const struct log *log, const struct log_event *event, char text[CAPTURE_MAX]) {
  CLEANUP_FCLOSE FILE *file = tmpfile();
  assert_non_null(file);
  int kept = dup(STDERR_FILENO);
  assert_true(kept >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
  log_write(log, event);
  dup2(kept, STDERR_FILENO);
  close(kept);
  rewind(file);
  size_t size = fread(text, 1, CAPTURE_MAX - 1, file);
  text[size] = '\0';
  return text;
}

static const struct log plain = {.maximum = LOG_LEVEL_DEBUG};

static void test_log__a_line_says_who_what_and_why(void **state) {
  (void)state;
  char text[CAPTURE_MAX];
  struct log_event event = {.level = LOG_LEVEL_INFO,
                            .domain = "example.com",
                            .selector = "server-20260124",
                            .from = "published",
                            .to = "ready",
                            .reason = "all servers agree"};
  assert_string_equal(capture(&plain, &event, text),
                      "example.com server-20260124 published -> ready: all servers agree\n");
  event.level = LOG_LEVEL_WARNING;
  event.remedy = "look at ns2";
  assert_string_equal(capture(&plain, &event, text), "warning: example.com server-20260124 published -> ready: all "
                                                     "servers agree; remedy: look at ns2\n");
}

static void test_log__fields_may_be_missing(void **state) {
  (void)state;
  static const struct {
    struct log_event event;
    const char *line;
  } cases[] = {
      {{.level = LOG_LEVEL_NOTICE, .reason = "started"}, "started\n"},
      {{.level = LOG_LEVEL_ERROR, .reason = "no store"}, "error: no store\n"},
      {{.level = LOG_LEVEL_DEBUG, .domain = "a.example", .reason = "x"}, "debug: a.example: x\n"},
      {{.level = LOG_LEVEL_INFO, .selector = "s", .reason = "x"}, "s: x\n"},
      {{.level = LOG_LEVEL_INFO, .domain = "a.example", .to = "generated", .reason = "x"}, "a.example generated: x\n"},
      {{.level = LOG_LEVEL_INFO, .from = "revoked", .to = "removed", .reason = "x"}, "revoked -> removed: x\n"},
  };
  char text[CAPTURE_MAX];
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
    assert_string_equal(capture(&plain, &cases[i].event, text), cases[i].line);
}

static void test_log__quieter_events_are_dropped(void **state) {
  (void)state;
  char text[CAPTURE_MAX];
  const struct log log = {.maximum = LOG_LEVEL_WARNING};
  assert_string_equal(capture(&log, &(struct log_event){.level = LOG_LEVEL_NOTICE, .reason = "x"}, text), "");
  assert_string_equal(capture(&log, &(struct log_event){.level = LOG_LEVEL_WARNING, .reason = "x"}, text),
                      "warning: x\n");
}

static void test_log__outside_text_cannot_forge_a_line_or_move_the_cursor(void **state) {
  (void)state;
  char text[CAPTURE_MAX];
  const struct log_event event = {.level = LOG_LEVEL_INFO, .domain = "a\nb", .reason = "x\x1b[2J", .remedy = "y\rz"};
  assert_string_equal(capture(&plain, &event, text), "a\\012b: x\\033[2J; remedy: y\\015z\n");
}

static void test_log__longest_texts_give_one_whole_line(void **state) {
  (void)state;
  char longest[8192];
  memset(longest, '\n', sizeof(longest) - 1);
  longest[sizeof(longest) - 1] = '\0';
  char text[CAPTURE_MAX];
  const struct log_event event = {.level = LOG_LEVEL_ERROR, .domain = longest, .reason = longest, .remedy = longest};
  capture(&plain, &event, text);
  assert_true(strlen(text) < 4096);
  assert_true(text_ends(text, "...\n"));
  assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void test_log__the_journal_is_used_only_if_stderr_is_its_stream(void **state) {
  (void)state;
  struct log log;
  unsetenv("JOURNAL_STREAM");
  log_open(&log, LOG_LEVEL_INFO);
  assert_false(log.journal);
  assert_int_equal(log.maximum, LOG_LEVEL_INFO);
  struct stat status;
  assert_int_equal(fstat(STDERR_FILENO, &status), 0);
  CLEANUP_FREE char *stream = text_format("%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
  CLEANUP_FREE char *other = text_format("%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino + 1);
  setenv("JOURNAL_STREAM", other, 1);
  log_open(&log, LOG_LEVEL_INFO);
  assert_false(log.journal);
  setenv("JOURNAL_STREAM", stream, 1);
  log_open(&log, LOG_LEVEL_INFO);
  assert_true(log.journal);
  unsetenv("JOURNAL_STREAM");
}

/* In the place of sd_journal_sendv(3), which knows but one socket. */
static char journal_fields[CAPTURE_MAX];
static int journal_result;
int __wrap_sd_journal_sendv(const struct iovec *parts, int count);
int __wrap_sd_journal_sendv(const struct iovec *parts, int count) {
  char *end = journal_fields;
  for (int i = 0; i < count; i++) end += snprintf(end, sizeof journal_fields - (size_t)(end - journal_fields), "%.*s\n", (int)parts[i].iov_len, (char *)parts[i].iov_base);
  return journal_result;
}

static void test_log__the_journal_gets_each_field_by_its_name(void **state) {
  (void)state;
  char text[CAPTURE_MAX];
  const struct log log = {.maximum = LOG_LEVEL_INFO, .journal = true};
  journal_result = 0;
  const struct log_event event = {.level = LOG_LEVEL_WARNING, .kind = "lost", .event = 4711, .domain = "example.com", .key = "main", .selector = "s1", .from = "ready",
                                  .to = "published", .server = "ns2.example.net", .error = "timeout", .reason = "ns2 says\nno", .remedy = "look at it"};
  assert_string_equal(capture(&log, &event, text), "");
  assert_string_equal(journal_fields, "MESSAGE=example.com s1 ready -> published: ns2 says\\012no\n"
                                      "PRIORITY=4\nSYSLOG_IDENTIFIER=dkimroll\nMESSAGE_ID=89cb6b46cef74d9d9b7f8ad6f37a84a6\nDKIMROLL_KIND=lost\n"
                                      "DKIMROLL_EVENT=4711\nDKIMROLL_DOMAIN=example.com\nDKIMROLL_KEY=main\nDKIMROLL_SELECTOR=s1\nDKIMROLL_FROM=ready\n"
                                      "DKIMROLL_TO=published\nDKIMROLL_SERVER=ns2.example.net\nDKIMROLL_ERROR=timeout\nDKIMROLL_REMEDY=look at it\n");
  capture(&log, &(struct log_event){.level = LOG_LEVEL_INFO, .kind = "no such kind", .reason = "x"}, text);
  assert_string_equal(journal_fields, "MESSAGE=x\nPRIORITY=6\nSYSLOG_IDENTIFIER=dkimroll\nDKIMROLL_KIND=no such kind\n");
  /* A journal that does not take it must not lose it. */
  journal_result = -1;
  assert_string_equal(capture(&log, &event, text), "warning: example.com s1 ready -> published: ns2 says\\012no; remedy: look at it\n");
}

static void test_log__kinds_have_ids_of_their_own_that_the_manual_lists(void **state) {
  (void)state;
  static const char *const kinds[] = {"state", "failed", "alarm", "recovered", "lost", "healed", "confirmed", "absent", "placed", "withdrawn", "deleted", "reserved",
                                      "imported", "tables", "clock", "sync", "requested", "held", "released", "forgotten", "policy", "metrics", "hook", "stop"};
  CLEANUP_FREE char *manual = NULL;
  size_t size = 0;
  struct error error = {0};
  assert_int_equal(file_read("docs/dkimroll.8", 1 << 20, &manual, &size, NULL, &error), 0);
  for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
    const char *id = log_message_id(kinds[i]);
    assert_non_null(id);
    assert_int_equal(strspn(id, "0123456789abcdef"), 32);
    for (size_t j = 0; j < i; j++) assert_string_not_equal(id, log_message_id(kinds[j]));
    CLEANUP_FREE char *row = text_format(".It Li %s Ta %s\n", kinds[i], id);
    if (!strstr(manual, row)) fail_msg("the manual lacks: %s", row);
  }
  assert_null(log_message_id(NULL));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_log__a_line_says_who_what_and_why),
      cmocka_unit_test(test_log__fields_may_be_missing),
      cmocka_unit_test(test_log__quieter_events_are_dropped),
      cmocka_unit_test(test_log__outside_text_cannot_forge_a_line_or_move_the_cursor),
      cmocka_unit_test(test_log__longest_texts_give_one_whole_line),
      cmocka_unit_test(test_log__the_journal_is_used_only_if_stderr_is_its_stream),
      cmocka_unit_test(test_log__the_journal_gets_each_field_by_its_name),
      cmocka_unit_test(test_log__kinds_have_ids_of_their_own_that_the_manual_lists),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
