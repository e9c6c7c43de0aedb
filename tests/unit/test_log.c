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

#include "dkimroll/cleanup.h"
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_log__a_line_says_who_what_and_why),
      cmocka_unit_test(test_log__fields_may_be_missing),
      cmocka_unit_test(test_log__quieter_events_are_dropped),
      cmocka_unit_test(test_log__outside_text_cannot_forge_a_line_or_move_the_cursor),
      cmocka_unit_test(test_log__longest_texts_give_one_whole_line),
      cmocka_unit_test(test_log__the_journal_is_used_only_if_stderr_is_its_stream),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
