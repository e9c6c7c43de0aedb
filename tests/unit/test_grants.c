#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/grants.h"
#include "dkimroll/text.h"
#include "workplace.h"

struct fixture {
  struct workplace workplace;
  char *directory, *file;
};

static int set_up(void **state) {
  struct fixture *fixture = calloc(1, sizeof *fixture);
  workplace_make(&fixture->workplace, "/tmp");
  fixture->directory = workplace_path(&fixture->workplace, "keeper");
  fixture->file = workplace_path(&fixture->workplace, "keeper/" GRANTS_FILE_NAME);
  *state = fixture;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *fixture = *state;
  workplace_remove(&fixture->workplace);
  free(fixture->directory);
  free(fixture->file);
  free(fixture);
  return 0;
}

static struct policy *make_policy(const char *key_directory) {
  CLEANUP_FREE char *text = text_format(
      "policies: {standard: {retire: {private-key: archive, archive-directory: /a/%%d}}}\n"
      "publishers: {primary: {server: \"127.0.0.1:53\"}}\n"
      "signers: {local: {key-table: /k/KeyTable, signing-table: \"refile:/k/SigningTable\", key-directory: %s, milter: \"unix:/k/sock\"}}\n"
      "domains: {example.com: {policy: standard, publisher: primary, signers: [local]}}\n",
      key_directory);
  struct policy *policy = NULL;
  struct policy_findings findings = {0};
  struct error error = {0};
  if (policy_parse("/p.yaml", text, strlen(text), &policy, &findings, &error)) fail_msg("%s", findings.count ? findings.items[0].message : error.message);
  policy_findings_release(&findings);
  return policy;
}

static void extend(const struct fixture *fixture, const char *key_directory, struct grants *grants) {
  struct policy *policy = make_policy(key_directory);
  struct error error = {0};
  if (grants_extend(fixture->directory, policy, grants, &error)) fail_msg("%s", error.message);
  policy_free(policy);
}

static int try_extend(const struct fixture *fixture, struct error *error) {
  struct policy *policy = make_policy("/k/keys/%d");
  struct grants grants = {0};
  const int result = grants_extend(fixture->directory, policy, &grants, error);
  policy_free(policy);
  grants_release(&grants);
  return result;
}

static bool grants_name(const struct grants *grants, const char *key_directory) {
  for (size_t i = 0; i < grants->count; i++)
    if (grants->items[i].signer && text_equal(grants->items[i].signer->key_directory, key_directory)) return true;
  return false;
}

static void test_grants__what_a_policy_granted_outlives_it(void **state) {
  const struct fixture *fixture = *state;
  CLEANUP(grants_release) struct grants first = {0};
  CLEANUP(grants_release) struct grants second = {0};
  CLEANUP(grants_release) struct grants again = {0};
  struct stat status;
  extend(fixture, "/k/keys/%d", &first);
  assert_int_equal(first.count, 2);
  assert_true(grants_name(&first, "/k/keys/%d"));
  assert_string_equal(first.items[1].archive, "/a/%d");
  extend(fixture, "/new/keys/%d", &second);
  assert_int_equal(second.count, 3);
  assert_true(grants_name(&second, "/k/keys/%d") && grants_name(&second, "/new/keys/%d"));
  assert_string_equal(second.items[0].signer->key_table, "/k/KeyTable");
  assert_int_equal(stat(fixture->file, &status), 0);
  assert_int_equal(status.st_mode & 07777, 0600);
  /* Nothing new is nothing written. */
  const ino_t before = status.st_ino;
  extend(fixture, "/new/keys/%d", &again);
  assert_int_equal(again.count, 3);
  assert_int_equal(stat(fixture->file, &status), 0);
  assert_int_equal(status.st_ino, before);
}

static void test_grants__a_line_that_was_taken_out_stays_out(void **state) {
  const struct fixture *fixture = *state;
  CLEANUP(grants_release) struct grants grants = {0};
  CLEANUP(grants_release) struct grants left = {0};
  extend(fixture, "/k/keys/%d", &grants);
  workplace_write(fixture->file, "# a word of the operator\n\narchive /old/%d", 0600);
  extend(fixture, "/new/keys/%d", &left);
  assert_int_equal(left.count, 3);
  assert_string_equal(left.items[0].archive, "/old/%d");
  assert_false(grants_name(&left, "/k/keys/%d"));
}

static void test_grants__a_line_that_cannot_be_understood_is_named(void **state) {
  const struct fixture *fixture = *state;
  static const char *const bad[] = {"# fine\nsinger {}\n", "archive /a\nsigner {\"local\": [}\n", "# fine\nsigner {\"local\": {\"no-such-key\": 1}}\n"};
  assert_int_equal(mkdir(fixture->directory, 0700), 0);
  for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
    struct error error = {0};
    workplace_write(fixture->file, bad[i], 0600);
    assert_int_equal(try_extend(fixture, &error), ERROR_INVALID);
    assert_non_null(strstr(error.message, "keeper/" GRANTS_FILE_NAME ":2: "));
  }
}

static void test_grants__a_nul_ends_nothing(void **state) {
  const struct fixture *fixture = *state;
  static const char text[] = "archive /a\0archive /etc\n";
  const struct file_rights rights = {.owner = geteuid(), .group = getegid(), .mode = 0600};
  struct error error = {0};
  assert_int_equal(mkdir(fixture->directory, 0700), 0);
  assert_int_equal(file_create(fixture->file, text, sizeof text - 1, &rights, &error), 0);
  assert_int_equal(try_extend(fixture, &error), ERROR_INVALID);
}

static void test_grants__more_than_there_is_room_for_are_refused(void **state) {
  const struct fixture *fixture = *state;
  struct buffer text = BUFFER_WITH_MAXIMUM(GRANTS_FILE_MAX);
  struct error error = {0};
  assert_int_equal(mkdir(fixture->directory, 0700), 0);
  for (int i = 0; i < GRANTS_MAX; i++) buffer_format(&text, "archive /a%d\n", i);
  workplace_write(fixture->file, (const char *)text.data, 0600);
  buffer_release(&text);
  assert_int_equal(try_extend(fixture, &error), ERROR_LIMIT);
  assert_true(error.remedy[0] != '\0');
  /* And a file that is too large is not even read. */
  const int descriptor = truncate(fixture->file, GRANTS_FILE_MAX + 1);
  assert_int_equal(descriptor, 0);
  assert_int_equal(try_extend(fixture, &error), ERROR_LIMIT);
}

static void test_grants__what_others_may_write_is_not_believed(void **state) {
  const struct fixture *fixture = *state;
  struct error error = {0};
  CLEANUP(grants_release) struct grants grants = {0};
  extend(fixture, "/k/keys/%d", &grants);
  assert_int_equal(chmod(fixture->file, 0620), 0);
  assert_int_equal(try_extend(fixture, &error), ERROR_PERMISSION);
  assert_int_equal(chmod(fixture->file, 0600), 0);
  assert_int_equal(chmod(fixture->directory, 0702), 0);
  assert_int_equal(try_extend(fixture, &error), ERROR_PERMISSION);
  assert_int_equal(chmod(fixture->directory, 0700), 0);
  assert_int_equal(try_extend(fixture, &error), 0);
  if (geteuid() != 0) return;
  assert_int_equal(chown(fixture->file, 65534, 65534), 0);
  assert_int_equal(try_extend(fixture, &error), ERROR_PERMISSION);
  assert_non_null(strstr(error.message, "65534"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_grants__what_a_policy_granted_outlives_it, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_grants__a_line_that_was_taken_out_stays_out, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_grants__a_line_that_cannot_be_understood_is_named, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_grants__a_nul_ends_nothing, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_grants__more_than_there_is_room_for_are_refused, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_grants__what_others_may_write_is_not_believed, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
