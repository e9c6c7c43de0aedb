/* keypair_check_safe against the real opendkim: in its test mode (-t) it opens the key for one message and signs, or refuses, exactly as it
 * does as a milter. Each layout is judged by both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/keypair.h"
#include "dkimroll/text.h"
#include "workplace.h"

#define OPENDKIM "/usr/sbin/opendkim"

/* Who owns what: numbers differ between hosts. A group of "mail" and "nogroup" has users that are neither the reader nor root. */
static const char signer_user[] = "opendkim";

struct layout {
  const char *directory_owner; /* of "keys", which holds the key */
  mode_t directory_mode;
  const char *file_owner;
  mode_t file_mode;
  const char *key_path; /* as the KeyTable names it, below the workplace */
  const char *blamed;   /* below the workplace: what the error must name; NULL: the key is safe. "opendkim" reads it */
};

#define KEY "keys/server.private"

static const struct layout layouts[] = {
    {"root:root", 0755, "opendkim:opendkim", 0600, KEY, NULL},
    {"root:root", 0755, "opendkim:opendkim", 0400, KEY, NULL},
    {"root:root", 0755, "opendkim:opendkim", 0601, KEY, NULL},
    {"root:root", 0755, "opendkim:opendkim", 0640, KEY, NULL},
    {"root:root", 0755, "opendkim:root", 0660, KEY, NULL},
    {"root:root", 0755, "opendkim:opendkim", 0644, KEY, KEY},
    {"root:root", 0755, "opendkim:opendkim", 0604, KEY, KEY},
    {"root:root", 0755, "opendkim:opendkim", 0602, KEY, KEY},
    {"root:root", 0755, "opendkim:opendkim", 0200, KEY, KEY},
    {"root:root", 0755, "opendkim:mail", 0640, KEY, KEY},
    {"root:root", 0755, "opendkim:mail", 0620, KEY, KEY},
    {"root:root", 0755, "opendkim:mail", 0600, KEY, NULL},
    {"root:root", 0755, "opendkim:nogroup", 0640, KEY, KEY},
    {"root:root", 0755, "root:root", 0600, KEY, KEY},
    {"root:root", 0755, "root:root", 0644, KEY, KEY},
    {"root:root", 0755, "root:opendkim", 0640, KEY, NULL},
    {"root:root", 0755, "root:opendkim", 0660, KEY, NULL},
    {"root:root", 0755, "root:opendkim", 0600, KEY, KEY},
    {"root:root", 0755, "nobody:nogroup", 0600, KEY, KEY},
    {"root:root", 0755, "nobody:nogroup", 0644, KEY, KEY},
    {"root:root", 0755, "nobody:opendkim", 0640, KEY, KEY},
    {"opendkim:opendkim", 0700, "opendkim:opendkim", 0600, KEY, NULL},
    {"opendkim:opendkim", 0770, "root:opendkim", 0640, KEY, NULL},
    {"root:opendkim", 0750, "root:opendkim", 0640, KEY, NULL},
    {"root:opendkim", 0770, "opendkim:opendkim", 0600, KEY, NULL},
    {"root:root", 0775, "opendkim:opendkim", 0600, KEY, NULL},
    {"root:root", 0711, "opendkim:opendkim", 0600, KEY, NULL},
    {"root:root", 0700, "opendkim:opendkim", 0600, KEY, "keys"},
    {"root:root", 0750, "opendkim:opendkim", 0600, KEY, "keys"},
    {"opendkim:opendkim", 0600, "opendkim:opendkim", 0600, KEY, "keys"},
    {"root:mail", 0775, "opendkim:opendkim", 0600, KEY, "keys"},
    {"root:root", 0777, "opendkim:opendkim", 0600, KEY, "keys"},
    {"root:root", 01777, "opendkim:opendkim", 0600, KEY, "keys"},
    {"root:root", 0757, "opendkim:opendkim", 0600, KEY, "keys"},
    {"nobody:nogroup", 0755, "opendkim:opendkim", 0600, KEY, "keys"},
    {"nobody:nogroup", 0555, "opendkim:opendkim", 0600, KEY, NULL},
    /* Through links: what counts is where the key really is, and whether the way there may be gone. */
    {"root:root", 0755, "opendkim:opendkim", 0600, "file-link", NULL},
    {"root:root", 0777, "opendkim:opendkim", 0600, "file-link", "keys"},
    {"root:root", 0755, "opendkim:opendkim", 0644, "file-link", KEY},
    {"root:root", 0755, "opendkim:opendkim", 0600, "directory-link/server.private", NULL},
    {"root:root", 01777, "opendkim:opendkim", 0600, "directory-link/server.private", "keys"},
    {"root:root", 0755, "opendkim:opendkim", 0600, "open/relative-link", NULL},
    {"root:root", 0755, "opendkim:opendkim", 0600, "closed/absolute-link", "closed"},
    {"root:root", 0755, "opendkim:opendkim", 0600, "link-through-closed", "closed"},
    {"root:root", 0755, "opendkim:opendkim", 0600, "open/../keys/./server.private", NULL},
    {"root:root", 0755, "opendkim:opendkim", 0600, "closed/../keys/server.private", "closed"},
    {"root:root", 0755, "opendkim:opendkim", 0600, "loop", "loop"},
};

struct fixture {
  struct workplace workplace;
  char *key;
  char *directory;
};

static void write_file(const struct workplace *workplace, const char *name, const char *text) {
  CLEANUP_FREE char *path = workplace_path(workplace, name);
  workplace_write(path, text, 0644);
}

static void make_link(const struct workplace *workplace, const char *target, const char *name) {
  CLEANUP_FREE char *path = workplace_path(workplace, name);
  assert_int_equal(symlink(target, path), 0);
}

static void make_directory(const struct workplace *workplace, const char *name, mode_t mode) {
  CLEANUP_FREE char *path = workplace_path(workplace, name);
  assert_int_equal(mkdir(path, 0700), 0);
  assert_int_equal(chmod(path, mode), 0);
}

static void make_links(const struct fixture *fixture) {
  const struct workplace *workplace = &fixture->workplace;
  CLEANUP_FREE char *through_closed = workplace_path(workplace, "closed/absolute-link");
  /* The directory of a link may belong to everybody: it is not on the resolved path. */
  make_directory(workplace, "open", 01777);
  make_directory(workplace, "closed", 0700);
  make_link(workplace, fixture->key, "file-link");
  make_link(workplace, "keys", "directory-link");
  make_link(workplace, "../keys/server.private", "open/relative-link");
  make_link(workplace, fixture->key, "closed/absolute-link");
  make_link(workplace, through_closed, "link-through-closed");
  make_link(workplace, "loop", "loop");
}

static int set_up(void **state) {
  struct fixture *fixture = calloc(1, sizeof(*fixture));
  /* Not /tmp: everybody may write there, and no key below it is safe. */
  workplace_make(&fixture->workplace, "/run");
  fixture->key = workplace_path(&fixture->workplace, KEY);
  fixture->directory = workplace_path(&fixture->workplace, "keys");
  const struct file_rights rights = {.owner = 0, .group = 0, .mode = 0600};
  struct keypair_public key = {0};
  struct error error = {0};
  /* Only RSA: OpenDKIM needs SignatureAlgorithm for others, which has nothing to do with rights. */
  assert_int_equal(keypair_generate(KEY_ALGORITHM_RSA, 2048, fixture->key, &rights, &key, &error), 0);
  keypair_public_release(&key);
  make_links(fixture);
  CLEANUP_FREE char *configuration = text_format("Mode s\nSyslog no\nRequireSafeKeys yes\nInternalHosts 127.0.0.1\n"
                                                 "KeyTable file:%1$s/KeyTable\nSigningTable file:%1$s/SigningTable\n",
                                                 fixture->workplace.path);
  write_file(&fixture->workplace, "configuration", configuration);
  write_file(&fixture->workplace, "SigningTable", "example.com server\n");
  write_file(&fixture->workplace, "message",
             "From: a@example.com\r\nTo: b@example.org\r\nSubject: rights\r\n"
             "Date: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\nhello\r\n");
  *state = fixture;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *fixture = *state;
  workplace_remove(&fixture->workplace);
  free(fixture->key);
  free(fixture->directory);
  free(fixture);
  return 0;
}

static void set_rights(const char *path, const char *owner, mode_t mode) {
  uid_t user = 0;
  gid_t group = 0;
  struct error error = {0};
  assert_int_equal(file_parse_owner(owner, &user, &group, &error), 0);
  assert_int_equal(chown(path, user, group), 0);
  assert_int_equal(chmod(path, mode), 0);
}

/* In the child: becomes the reader as OpenDKIM does it. */
static void run_opendkim(const struct fixture *fixture, const char *user) {
  const struct passwd *account = getpwnam(user);
  int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (!account || nowhere < 0 || chdir(fixture->workplace.path) < 0) _exit(EXIT_FAILURE);
  dup2(nowhere, STDIN_FILENO);
  dup2(nowhere, STDOUT_FILENO);
  dup2(nowhere, STDERR_FILENO);
  if (initgroups(user, account->pw_gid) < 0 || setgid(account->pw_gid) < 0 || setuid(account->pw_uid) < 0) {
    _exit(EXIT_FAILURE);
  }
  execl(OPENDKIM, "opendkim", "-x", "configuration", "-t", "message", (char *)NULL);
  _exit(EXIT_FAILURE);
}

static bool opendkim_signs(const struct fixture *fixture, const char *user, const char *key_path) {
  CLEANUP_FREE char *line = text_format("server example.com:server:%s\n", key_path);
  write_file(&fixture->workplace, "KeyTable", line);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) run_opendkim(fixture, user);
  int status = 0;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  /* 70 is EX_SOFTWARE: the message was tempfailed. Anything else means that the comparison itself is broken. */
  if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 70)) {
    fail_msg("opendkim ended with wait status %d", status);
  }
  return WEXITSTATUS(status) == 0;
}

static int check_as(const char *user, const char *path, struct error *error) {
  const struct passwd *account = getpwnam(user);
  assert_non_null(account);
  return keypair_check_safe(path, account->pw_uid, account->pw_gid, error);
}

static void need_opendkim(void) {
  if (access(OPENDKIM, X_OK) < 0 || !getpwnam(signer_user)) fail_msg("there is no %s with a user %s: install the packages of make check", OPENDKIM, signer_user);
}

static void compare(const struct fixture *fixture, const struct layout *layout, const char *user) {
  CLEANUP_FREE char *path = workplace_path(&fixture->workplace, layout->key_path);
  struct error error = {0};
  bool safe = check_as(user, path, &error) == 0;
  bool signs = opendkim_signs(fixture, user, path);
  if (safe == signs) return;
  fail_msg("%s %04o, %s %04o, %s, read by %s: opendkim %s, but our verdict is %s (%s)", layout->directory_owner,
           layout->directory_mode, layout->file_owner, layout->file_mode, layout->key_path, user,
           signs ? "signs" : "refuses", safe ? "safe" : "not safe", error.message);
}

static void test_keypair_safe__the_verdict_is_that_of_the_real_opendkim_for_every_layout(void **state) {
  const struct fixture *fixture = *state;
  need_opendkim();
  for (size_t i = 0; i < ARRAY_SIZE(layouts); i++) {
    set_rights(fixture->directory, layouts[i].directory_owner, layouts[i].directory_mode);
    set_rights(fixture->key, layouts[i].file_owner, layouts[i].file_mode);
    compare(fixture, &layouts[i], signer_user);
    compare(fixture, &layouts[i], "root");
  }
}

/* Whether message names path itself and not only something below it. */
static bool names_object(const char *message, const char *path) {
  const char *place = strstr(message, path);
  while (place && strchr(" ,:", place[strlen(path)]) == NULL) place = strstr(place + 1, path);
  return place != NULL;
}

static void test_keypair_safe__the_error_names_the_very_object_that_is_wrong(void **state) {
  const struct fixture *fixture = *state;
  need_opendkim();
  for (size_t i = 0; i < ARRAY_SIZE(layouts); i++) {
    const struct layout *layout = &layouts[i];
    set_rights(fixture->directory, layout->directory_owner, layout->directory_mode);
    set_rights(fixture->key, layout->file_owner, layout->file_mode);
    CLEANUP_FREE char *path = workplace_path(&fixture->workplace, layout->key_path);
    struct error error = {0};
    int result = check_as(signer_user, path, &error);
    if (!layout->blamed) {
      if (result != 0) fail_msg("layout %zu: %s", i, error.message);
      continue;
    }
    CLEANUP_FREE char *blamed = workplace_path(&fixture->workplace, layout->blamed);
    if (result == 0 || !names_object(error.message, blamed)) {
      fail_msg("layout %zu should blame %s: %s", i, blamed, error.message);
    }
  }
}

/* Runs the remedies of our errors until the key is safe, as a postmaster would. */
static void repair(const char *path) {
  struct error error = {0};
  for (int attempt = 0; attempt < 4; attempt++) {
    if (check_as(signer_user, path, &error) == 0) return;
    if (strncmp(error.remedy, "ch", 2) != 0) break;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
      execl("/bin/sh", "sh", "-c", error.remedy, (char *)NULL);
      _exit(EXIT_FAILURE);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (status != 0) fail_msg("the remedy failed: %s", error.remedy);
  }
  fail_msg("not repaired: %s; %s", error.message, error.remedy);
}

static void test_keypair_safe__following_the_remedies_makes_opendkim_sign(void **state) {
  const struct fixture *fixture = *state;
  need_opendkim();
  for (size_t i = 0; i < ARRAY_SIZE(layouts); i++) {
    const struct layout *layout = &layouts[i];
    bool sticky = (layout->directory_mode & S_ISVTX) != 0;
    if (!layout->blamed || sticky || !text_equal(layout->key_path, KEY)) continue;
    set_rights(fixture->directory, layout->directory_owner, layout->directory_mode);
    set_rights(fixture->key, layout->file_owner, layout->file_mode);
    repair(fixture->key);
    assert_true(opendkim_signs(fixture, signer_user, fixture->key));
  }
}

static void test_keypair_safe__below_tmp_the_remedy_is_another_directory_and_not_a_chmod(void **state) {
  (void)state;
  struct error error = {0};
  assert_int_equal(keypair_check_safe("/tmp/no-such-directory/server.private", 4711, 4711, &error), ERROR_PERMISSION);
  assert_non_null(strstr(error.message, "/tmp "));
  assert_non_null(strstr(error.remedy, "key-directory"));
  assert_null(strstr(error.remedy, "chmod"));
}

static void test_keypair_safe__for_a_key_that_is_not_there_yet_its_parents_are_judged(void **state) {
  const struct fixture *fixture = *state;
  CLEANUP_FREE char *path = workplace_path(&fixture->workplace, "keys/example.com/next.private");
  struct error error = {0};
  set_rights(fixture->directory, "root:root", 0755);
  assert_int_equal(keypair_check_safe(path, 4711, 4711, &error), 0);
  set_rights(fixture->directory, "root:root", 0777);
  assert_int_equal(keypair_check_safe(path, 4711, 4711, &error), ERROR_PERMISSION);
  assert_non_null(strstr(error.message, fixture->directory));
}

static void test_keypair_safe__a_file_in_place_of_a_parent_is_an_error(void **state) {
  const struct fixture *fixture = *state;
  CLEANUP_FREE char *path = workplace_path(&fixture->workplace, KEY "/server.private");
  struct error error = {0};
  assert_int_not_equal(keypair_check_safe(path, 0, 0, &error), 0);
}

static void test_keypair_safe__a_directory_in_place_of_the_key_is_an_error(void **state) {
  const struct fixture *fixture = *state;
  struct error error = {0};
  assert_int_equal(keypair_check_safe(fixture->directory, 0, 0, &error), ERROR_PERMISSION);
  assert_int_equal(keypair_check_safe("/", 0, 0, &error), ERROR_PERMISSION);
}

static void test_keypair_safe__relative_and_overlong_paths_are_refused(void **state) {
  (void)state;
  struct error error = {0};
  char path[5000];
  memset(path, 'a', sizeof(path));
  path[sizeof(path) - 1] = '\0';
  assert_int_equal(keypair_check_safe("keys/server.private", 0, 0, &error), ERROR_INVALID);
  path[0] = '/';
  assert_int_equal(keypair_check_safe(path, 0, 0, &error), ERROR_INVALID);
  path[1000] = '\0';
  assert_int_not_equal(keypair_check_safe(path, 0, 0, &error), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_keypair_safe__the_verdict_is_that_of_the_real_opendkim_for_every_layout),
      cmocka_unit_test(test_keypair_safe__the_error_names_the_very_object_that_is_wrong),
      cmocka_unit_test(test_keypair_safe__following_the_remedies_makes_opendkim_sign),
      cmocka_unit_test(test_keypair_safe__below_tmp_the_remedy_is_another_directory_and_not_a_chmod),
      cmocka_unit_test(test_keypair_safe__for_a_key_that_is_not_there_yet_its_parents_are_judged),
      cmocka_unit_test(test_keypair_safe__a_file_in_place_of_a_parent_is_an_error),
      cmocka_unit_test(test_keypair_safe__a_directory_in_place_of_the_key_is_an_error),
      cmocka_unit_test(test_keypair_safe__relative_and_overlong_paths_are_refused),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
