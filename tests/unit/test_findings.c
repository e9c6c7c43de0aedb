/* Findings: equal ones are one, and nothing is lost from the counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/findings.h"

static void add(struct findings *findings, enum finding_level level, const char *who, const char *text, int64_t since) {
  findings_add(findings, &(struct finding){.level = level,
                                           .code = level == FINDING_FAILED ? ERROR_TIMEOUT : 0,
                                           .subject = (char *)"subject",
                                           .who = (char *)who,
                                           .text = (char *)text,
                                           .remedy = (char *)"",
                                           .since = since});
}

static void test_findings__equal_ones_are_counted_under_the_first(void **state) {
  (void)state;
  CLEANUP(findings_release) struct findings findings = {0};
  add(&findings, FINDING_FAILED, "a", "dead", 200);
  add(&findings, FINDING_FAILED, "b", "dead", 100);
  add(&findings, FINDING_FAILED, "c", "dead", 300);
  add(&findings, FINDING_WARNING, "c", "dead", 300);
  assert_int_equal(findings.count, 2);
  assert_string_equal(findings.items[0].who, "a");
  assert_int_equal(findings.items[0].others, 2);
  assert_int_equal(findings.items[0].since, 100);
  assert_int_equal(findings.failed, 3);
  assert_int_equal(findings.warnings, 1);
}

static void test_findings__the_same_twice_about_one_is_no_other(void **state) {
  (void)state;
  CLEANUP(findings_release) struct findings findings = {0};
  add(&findings, FINDING_OK, "a", "good", 0);
  add(&findings, FINDING_OK, "a", "good", 0);
  add(&findings, FINDING_OK, NULL, "good", 0);
  assert_int_equal(findings.count, 2);
  assert_int_equal(findings.items[0].others, 0);
}

static void test_findings__the_code_is_that_of_the_first_failure(void **state) {
  (void)state;
  CLEANUP(findings_release) struct findings findings = {0};
  struct error error;
  add(&findings, FINDING_WARNING, "a", "odd", 0);
  assert_int_equal(findings.first_code, 0);
  error_set(&error, ERROR_REFUSED, "no");
  error_remedy(&error, "ask");
  findings_add_error(&findings, FINDING_FAILED, "subject", "a", &error);
  add(&findings, FINDING_FAILED, "a", "late", 0);
  assert_int_equal(findings.first_code, ERROR_REFUSED);
  assert_string_equal(findings.items[1].text, "no");
  assert_string_equal(findings.items[1].remedy, "ask");
}

static void test_findings__beyond_the_limit_they_are_counted(void **state) {
  (void)state;
  CLEANUP(findings_release) struct findings findings = {0};
  char text[32];
  for (unsigned i = 0; i < FINDINGS_MAX + 7; i++) {
    snprintf(text, sizeof text, "text %u", i);
    add(&findings, FINDING_FAILED, "a", text, 0);
  }
  assert_int_equal(findings.count, FINDINGS_MAX);
  assert_int_equal(findings.dropped, 7);
  assert_int_equal(findings.failed, FINDINGS_MAX + 7);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_findings__equal_ones_are_counted_under_the_first),
      cmocka_unit_test(test_findings__the_same_twice_about_one_is_no_other),
      cmocka_unit_test(test_findings__the_code_is_that_of_the_first_failure),
      cmocka_unit_test(test_findings__beyond_the_limit_they_are_counted),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
