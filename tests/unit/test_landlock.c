#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <seccomp.h>
#include <string.h>
#include <sys/stat.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/landlock.h"
#include "forked.h"
#include "workplace.h"

/* open/file, open/more/file, closed/file, closed/more/file, link -> closed. */
struct fixture {
  struct workplace workplace;
  char *open, *open_file, *open_more, *new, *closed, *closed_file, *closed_more, *link, *link_file, *later, *later_file;
};

static int set_up(void **state) {
  struct fixture *fixture = calloc(1, sizeof *fixture);
  workplace_make(&fixture->workplace, "/tmp");
  fixture->open = workplace_path(&fixture->workplace, "open");
  fixture->open_file = workplace_path(&fixture->workplace, "open/file");
  fixture->open_more = workplace_path(&fixture->workplace, "open/more");
  fixture->new = workplace_path(&fixture->workplace, "open/more/new");
  fixture->closed = workplace_path(&fixture->workplace, "closed");
  fixture->closed_file = workplace_path(&fixture->workplace, "closed/file");
  fixture->closed_more = workplace_path(&fixture->workplace, "closed/more");
  fixture->link = workplace_path(&fixture->workplace, "link");
  fixture->link_file = workplace_path(&fixture->workplace, "link/file");
  fixture->later = workplace_path(&fixture->workplace, "later");
  fixture->later_file = workplace_path(&fixture->workplace, "later/file");
  assert_int_equal(mkdir(fixture->open, 0700) | mkdir(fixture->open_more, 0700) | mkdir(fixture->closed, 0700) |
                       mkdir(fixture->closed_more, 0700) | symlink("closed", fixture->link),
                   0);
  workplace_write(fixture->open_file, "o", 0600);
  workplace_write(fixture->closed_file, "c", 0600);
  *state = fixture;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *fixture = *state;
  char **paths[] = {&fixture->open,        &fixture->open_file, &fixture->open_more, &fixture->new,   &fixture->closed,
                    &fixture->closed_file, &fixture->closed_more, &fixture->link,    &fixture->link_file, &fixture->later, &fixture->later_file};
  workplace_remove(&fixture->workplace);
  for (size_t i = 0; i < ARRAY_SIZE(paths); i++) free(*paths[i]);
  free(fixture);
  return 0;
}

static int write_below_one(const void *context) {
  const struct fixture *fixture = context;
  struct landlock landlock;
  FORKED_EXPECT(landlock_begin(LANDLOCK_WRITING, &landlock, NULL) == 0);
  FORKED_EXPECT(landlock_allow(&landlock, fixture->open, LANDLOCK_WRITING, NULL) == 0);
  FORKED_EXPECT(landlock_enforce(&landlock, NULL) == 0);
  landlock_release(&landlock);
  FORKED_EXPECT(forked_can_open(fixture->new, O_WRONLY | O_CREAT));
  FORKED_EXPECT(rename(fixture->new, fixture->open_file) == 0); /* to another directory: what LANDLOCK_ABI_LEAST is for */
  FORKED_EXPECT(forked_can_open(fixture->open_file, O_WRONLY | O_TRUNC));
  FORKED_EXPECT(forked_can_open(fixture->closed_file, O_RDONLY)); /* reading was not the matter */
  FORKED_EXPECT(!forked_can_open(fixture->closed_file, O_WRONLY) && errno == EACCES);
  FORKED_EXPECT(!forked_can_open(fixture->link_file, O_WRONLY) && errno == EACCES);
  FORKED_EXPECT(unlink(fixture->closed_file) < 0 && errno == EACCES);
  FORKED_EXPECT(rmdir(fixture->closed_more) < 0 && errno == EACCES);
  FORKED_EXPECT(rename(fixture->open_file, fixture->closed_file) < 0);
  FORKED_EXPECT(symlink("/", fixture->later) < 0 && errno == EACCES);
  FORKED_EXPECT(mkdir(fixture->later, 0700) < 0 && errno == EACCES);
  return 0;
}

static void test_landlock__files_are_written_only_below_what_was_allowed(void **state) {
  if (landlock_abi() == 0) skip();
  assert_int_equal(forked(write_below_one, *state), 0);
}

static int read_beside_closed(const void *context) {
  const struct fixture *fixture = context;
  struct landlock landlock;
  const char *const closed[] = {fixture->link, fixture->later}; /* by a link, and one that is not there yet */
  FORKED_EXPECT(landlock_begin(LANDLOCK_ALL, &landlock, NULL) == 0);
  FORKED_EXPECT(landlock_allow_except(&landlock, closed, ARRAY_SIZE(closed), LANDLOCK_READING, NULL) == 0);
  /* What is made beside them, too late to be allowed, and what is made in their place. */
  FORKED_EXPECT(mkdir(fixture->later, 0700) == 0 && forked_can_open(fixture->later_file, O_WRONLY | O_CREAT));
  FORKED_EXPECT(landlock_enforce(&landlock, NULL) == 0);
  landlock_release(&landlock);
  FORKED_EXPECT(forked_can_open(fixture->open_file, O_RDONLY));
  FORKED_EXPECT(forked_can_open("/etc/passwd", O_RDONLY) && forked_can_open("/proc/self/status", O_RDONLY));
  FORKED_EXPECT(!forked_can_open(fixture->closed_file, O_RDONLY) && errno == EACCES);
  FORKED_EXPECT(!forked_can_open(fixture->link_file, O_RDONLY) && errno == EACCES);
  FORKED_EXPECT(!forked_can_open(fixture->later_file, O_RDONLY) && errno == EACCES);
  FORKED_EXPECT(!forked_can_open(fixture->open_file, O_WRONLY) && errno == EACCES); /* nothing was allowed to be written */
  return 0;
}

static void test_landlock__everything_can_be_read_but_closed_trees(void **state) {
  if (landlock_abi() == 0) skip();
  assert_int_equal(forked(read_beside_closed, *state), 0);
}

static int allow_inside_closed(const void *context) {
  const struct fixture *fixture = context;
  struct landlock landlock;
  const char *const closed[] = {fixture->closed};
  FORKED_EXPECT(landlock_begin(LANDLOCK_ALL, &landlock, NULL) == 0);
  FORKED_EXPECT(landlock_allow_except(&landlock, closed, 1, LANDLOCK_READING, NULL) == 0);
  FORKED_EXPECT(landlock_allow(&landlock, fixture->closed_file, LANDLOCK_READING, NULL) == 0);
  FORKED_EXPECT(landlock_enforce(&landlock, NULL) == 0);
  landlock_release(&landlock);
  FORKED_EXPECT(forked_can_open(fixture->closed_file, O_RDONLY));
  FORKED_EXPECT(!forked_can_open(fixture->closed_more, O_RDONLY | O_DIRECTORY) && errno == EACCES);
  return 0;
}

static void test_landlock__one_file_of_a_closed_tree_can_be_allowed(void **state) {
  if (landlock_abi() == 0) skip();
  assert_int_equal(forked(allow_inside_closed, *state), 0);
}

static int allow_missing(const void *context) {
  const struct fixture *fixture = context;
  struct landlock landlock;
  FORKED_EXPECT(landlock_begin(LANDLOCK_WRITING, &landlock, NULL) == 0);
  FORKED_EXPECT(landlock_allow(&landlock, fixture->new, LANDLOCK_WRITING, NULL) == 0);
  FORKED_EXPECT(landlock_allow(&landlock, "/nonexistent-for-dkimroll/x", LANDLOCK_WRITING, NULL) == 0);
  FORKED_EXPECT(landlock_enforce(&landlock, NULL) == 0);
  landlock_release(&landlock);
  FORKED_EXPECT(mkdir(fixture->new, 0700) == 0);
  FORKED_EXPECT(mkdir(fixture->later, 0700) < 0 && errno == EACCES);
  return 0;
}

static void test_landlock__what_is_missing_can_be_made_and_never_opens_the_root(void **state) {
  if (landlock_abi() == 0) skip();
  assert_int_equal(forked(allow_missing, *state), 0);
}

/* A kernel without Landlock, played by a filter that answers as it does. */
static int work_without(const void *context) {
  const struct fixture *fixture = context;
  struct landlock landlock;
  const char *const closed[] = {fixture->closed};
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  FORKED_EXPECT(filter && seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(landlock_create_ruleset), 0) == 0);
  FORKED_EXPECT(seccomp_load(filter) == 0);
  seccomp_release(filter);
  FORKED_EXPECT(landlock_abi() == 0);
  FORKED_EXPECT(landlock_begin(LANDLOCK_ALL, &landlock, NULL) == 0 && landlock.abi == 0);
  FORKED_EXPECT(landlock_allow(&landlock, fixture->open, LANDLOCK_ALL, NULL) == 0);
  FORKED_EXPECT(landlock_allow_except(&landlock, closed, 1, LANDLOCK_ALL, NULL) == 0);
  FORKED_EXPECT(landlock_enforce(&landlock, NULL) == 0);
  landlock_release(&landlock);
  FORKED_EXPECT(forked_can_open(fixture->closed_file, O_WRONLY));
  return 0;
}

static void test_landlock__a_kernel_without_it_changes_nothing(void **state) {
  assert_int_equal(forked(work_without, *state), 0);
}

static void test_landlock__more_closed_trees_than_there_is_room_for_are_refused(void **state) {
  (void)state;
  static const char *closed[LANDLOCK_DENIED_MAX + 1];
  struct landlock landlock = {.abi = LANDLOCK_ABI_LEAST, .ruleset = -1};
  struct error error = {0};
  for (size_t i = 0; i < ARRAY_SIZE(closed); i++) closed[i] = "/etc";
  assert_int_equal(landlock_allow_except(&landlock, closed, ARRAY_SIZE(closed), LANDLOCK_READING, &error), ERROR_LIMIT);
  closed[0] = "etc";
  assert_int_equal(landlock_allow_except(&landlock, closed, 1, LANDLOCK_READING, &error), ERROR_INVALID);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_landlock__files_are_written_only_below_what_was_allowed, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_landlock__everything_can_be_read_but_closed_trees, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_landlock__one_file_of_a_closed_tree_can_be_allowed, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_landlock__what_is_missing_can_be_made_and_never_opens_the_root, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_landlock__a_kernel_without_it_changes_nothing, set_up, tear_down),
      cmocka_unit_test(test_landlock__more_closed_trees_than_there_is_room_for_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
