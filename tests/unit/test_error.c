#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <string.h>
#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/error.h"
#include "dkimroll/text.h"

static void test_error__set_returns_the_code_and_fills_everything(void **state) {
  (void)state;
  struct error error;
  memset(&error, 'x', sizeof(error));
  assert_int_equal(error_set(&error, ERROR_REFUSED, "server %s said %d", "ns1", 5), ERROR_REFUSED);
  assert_int_equal(error.code, ERROR_REFUSED);
  assert_string_equal(error.message, "server ns1 said 5");
  assert_string_equal(error.remedy, "");
  assert_false(error.retryable);
}

static void test_error__only_passing_troubles_start_as_retryable(void **state) {
  (void)state;
  static const int passing[] = {ERROR_TIMEOUT, ERROR_UNREACHABLE, ERROR_BUSY, ERROR_SYSTEM, ERROR_NO_MEMORY};
  for (int code = ERROR_INTERNAL; code < ERROR_NONE; code++) {
    bool expected = false;
    for (size_t i = 0; i < ARRAY_SIZE(passing); i++) expected = expected || passing[i] == code;
    struct error error = {.retryable = !expected};
    error_set(&error, code, "x");
    assert_int_equal(error.retryable, expected);
  }
}

static void test_error__null_is_allowed_and_never_reads_as_success(void **state) {
  (void)state;
  assert_int_equal(error_set(NULL, ERROR_LIMIT, "x"), ERROR_LIMIT);
  assert_int_equal(error_set_errno(NULL, ENOENT, "x"), ERROR_NOT_FOUND);
  assert_true(error_context(NULL, "x") < 0);
  assert_true(error_remedy(NULL, "x") < 0);
  assert_true(error_retryable(NULL, true) < 0);
}

static void test_error__text_that_is_too_long_is_cut_and_terminated(void **state) {
  (void)state;
  char longer[2 * ERROR_MESSAGE_MAX];
  memset(longer, 'a', sizeof(longer) - 1);
  longer[sizeof(longer) - 1] = '\0';
  struct error error = {0};
  error_set(&error, ERROR_INVALID, "%s", longer);
  assert_int_equal(strlen(error.message), ERROR_MESSAGE_MAX - 1);
  error_context(&error, "%s", longer);
  assert_int_equal(strlen(error.message), ERROR_MESSAGE_MAX - 1);
  error_remedy(&error, "%s", longer);
  assert_int_equal(strlen(error.remedy), ERROR_REMEDY_MAX - 1);
  assert_int_equal(error.code, ERROR_INVALID);
}

static void test_error__errno_keeps_its_reason_however_long_the_context(void **state) {
  (void)state;
  char longer[2 * ERROR_MESSAGE_MAX];
  memset(longer, 'a', sizeof(longer) - 1);
  longer[sizeof(longer) - 1] = '\0';
  struct error error = {0};
  error_set_errno(&error, ENOSPC, "%s", longer);
  assert_true(text_ends(error.message, "a: No space left on device"));
  assert_int_equal(strlen(error.message), ERROR_MESSAGE_MAX - 1);
}

static void test_error__errno_becomes_the_code_that_callers_branch_on(void **state) {
  (void)state;
  static const struct {
    int number;
    int code;
    bool remedy;
  } cases[] = {
      {EACCES, ERROR_PERMISSION, false},
      {EPERM, ERROR_PERMISSION, false},
      {EROFS, ERROR_PERMISSION, true},
      {ENOENT, ERROR_NOT_FOUND, false},
      {EEXIST, ERROR_EXISTS, false},
      {ENETUNREACH, ERROR_NO_ROUTE, false},
      {EAFNOSUPPORT, ERROR_NO_ROUTE, false},
      {ECONNREFUSED, ERROR_UNREACHABLE, false},
      {EHOSTUNREACH, ERROR_UNREACHABLE, false},
      {ECONNRESET, ERROR_UNREACHABLE, false},
      {EPIPE, ERROR_UNREACHABLE, false},
      {ETIMEDOUT, ERROR_TIMEOUT, false},
      {ENOMEM, ERROR_NO_MEMORY, false},
      {ENOSPC, ERROR_SYSTEM, true},
      {EDQUOT, ERROR_SYSTEM, true},
      {EMFILE, ERROR_SYSTEM, true},
      {EIO, ERROR_SYSTEM, false},
  };
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    struct error error = {0};
    assert_int_equal(error_set_errno(&error, cases[i].number, "open %s", "/x"), cases[i].code);
    assert_int_equal(error.code, cases[i].code);
    assert_true(text_starts(error.message, "open /x: "));
    assert_string_equal(error.message + strlen("open /x: "), strerror(cases[i].number));
    assert_int_equal(error.remedy[0] != '\0', cases[i].remedy);
  }
}

static void test_error__contexts_stack_outermost_first(void **state) {
  (void)state;
  struct error error = {0};
  error_set(&error, ERROR_CONFIG, "unknown key");
  error_remedy(&error, "write %s", "ttl");
  assert_int_equal(error_context(&error, "line %d", 3), ERROR_CONFIG);
  assert_int_equal(error_context(&error, "policy"), ERROR_CONFIG);
  assert_string_equal(error.message, "policy: line 3: unknown key");
  assert_string_equal(error.remedy, "write ttl");
}

static void test_error__its_own_text_may_be_an_argument(void **state) {
  (void)state;
  struct error error = {0};
  error_set(&error, ERROR_BUSY, "locked");
  error_remedy(&error, "wait");
  error_remedy(&error, "%s, or end it", error.remedy);
  error_set(&error, ERROR_TIMEOUT, "gave up: %s", error.message);
  assert_string_equal(error.message, "gave up: locked");
  error_remedy(&error, "%s", error.message);
  assert_string_equal(error.remedy, "gave up: locked");
}

static void test_error__retryable_can_be_decided_by_the_caller(void **state) {
  (void)state;
  struct error error = {0};
  error_set(&error, ERROR_REFUSED, "x");
  assert_int_equal(error_retryable(&error, true), ERROR_REFUSED);
  assert_true(error.retryable);
  error_retryable(&error, false);
  assert_false(error.retryable);
}

static void test_error__every_code_has_a_name_of_its_own(void **state) {
  (void)state;
  for (int code = ERROR_INTERNAL; code <= ERROR_NONE; code++) {
    assert_string_not_equal(error_code_name(code), "unknown");
    for (int other = ERROR_INTERNAL; other < code; other++)
      assert_string_not_equal(error_code_name(code), error_code_name(other));
  }
  assert_string_equal(error_code_name(ERROR_TIMEOUT), "timeout");
  assert_string_equal(error_code_name(-1000), "unknown");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_error__set_returns_the_code_and_fills_everything),
      cmocka_unit_test(test_error__only_passing_troubles_start_as_retryable),
      cmocka_unit_test(test_error__null_is_allowed_and_never_reads_as_success),
      cmocka_unit_test(test_error__text_that_is_too_long_is_cut_and_terminated),
      cmocka_unit_test(test_error__errno_keeps_its_reason_however_long_the_context),
      cmocka_unit_test(test_error__errno_becomes_the_code_that_callers_branch_on),
      cmocka_unit_test(test_error__contexts_stack_outermost_first),
      cmocka_unit_test(test_error__its_own_text_may_be_an_argument),
      cmocka_unit_test(test_error__retryable_can_be_decided_by_the_caller),
      cmocka_unit_test(test_error__every_code_has_a_name_of_its_own),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
