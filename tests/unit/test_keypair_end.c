/* Private keys end: their octets are overwritten and their names removed, or they go to an archive; and what is no key stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "keypair_rig.h"

static void test_keypair__destroying_overwrites_the_octets_and_removes_the_name(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "server.private");
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  make_ed25519(path, &key);
  int held = open(path, O_RDONLY | O_CLOEXEC);
  struct error error = {0};
  assert_done(keypair_destroy(path, &error), &error);
  assert_false(exists(path));
  char octets[KEYPAIR_FILE_MAX];
  ssize_t size = read(held, octets, sizeof(octets));
  close(held);
  assert_true(size > 64);
  for (ssize_t i = 0; i < size; i++) assert_int_equal(octets[i], 0);
}

static void test_keypair__destroying_what_is_gone_already_is_a_success(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "nowhere/server.private");
  struct error error = {0};
  assert_done(keypair_destroy(path, &error), &error);
}

static void test_keypair__a_destruction_that_stopped_half_way_is_completed(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "server.private");
  workplace_write(path, "", 0400);
  assert_int_equal(truncate(path, 119), 0);
  struct error error = {0};
  assert_done(keypair_destroy(path, &error), &error);
  assert_false(exists(path));
}

static void test_keypair__destroying_refuses_links_and_files_that_are_no_keys(void **state) {
  CLEANUP_FREE char *table = workplace_path(*state, "KeyTable");
  CLEANUP_FREE char *link = workplace_path(*state, "link");
  CLEANUP_FREE char *directory = workplace_path(*state, "directory");
  struct error error = {0};
  workplace_write(table, "server example.com:server:/etc/keys/server.private\n", 0644);
  assert_int_equal(symlink(table, link), 0);
  assert_int_equal(mkdir(directory, 0700), 0);
  assert_int_equal(keypair_destroy(table, &error), ERROR_CONFLICT);
  assert_int_equal(keypair_destroy(link, &error), ERROR_CONFLICT);
  assert_non_null(strstr(error.message, "symbolic link"));
  assert_int_equal(keypair_destroy(directory, &error), ERROR_CONFLICT);
  assert_true(exists(link));
  CLEANUP_FREE char *text = read_text(table);
  assert_true(text_starts(text, "server example.com"));
}

static void test_keypair__an_owner_destroys_his_key_even_if_he_may_only_read_it(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "server.private");
  const struct workplace *workplace = *state;
  const struct file_rights rights = {.owner = 1234, .group = 1234, .mode = 0400};
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  struct error error = {0};
  assert_done(keypair_generate(KEY_ALGORITHM_ED25519, 256, path, &rights, &key, &error), &error);
  assert_int_equal(chown(workplace->path, 1234, 1234), 0);
  assert_int_equal(seteuid(1234), 0);
  int result = keypair_destroy(path, &error);
  assert_int_equal(seteuid(0), 0);
  assert_done(result, &error);
  assert_false(exists(path));
}

/* What an archive must hold: the key, for nobody else's eyes. */
static void assert_archived(const char *place, const char *expected) {
  struct stat status;
  assert_int_equal(stat(place, &status), 0);
  assert_int_equal(status.st_mode, S_IFREG | 0600);
  assert_int_equal(status.st_uid, 0);
  CLEANUP_FREE char *text = read_text(place);
  assert_string_equal(text, expected);
}

/* A key, what its file says, and where it goes. */
struct archiving {
  char *path, *text;
  char *archive, *place;
};

static struct archiving archiving_begin(const struct workplace *workplace) {
  struct archiving it = {.path = workplace_path(workplace, "server.private"),
                         .archive = workplace_path(workplace, "archive"),
                         .place = workplace_path(workplace, "archive/server.private")};
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  make_ed25519(it.path, &key);
  it.text = read_text(it.path);
  return it;
}

static void archiving_release(struct archiving *it) {
  free(it->path);
  free(it->text);
  free(it->archive);
  free(it->place);
}

static void archiving_succeeds(const struct archiving *it) {
  struct error error = {0};
  assert_done(keypair_archive(it->path, it->archive, &error), &error);
  assert_false(exists(it->path));
  assert_archived(it->place, it->text);
}

static void test_keypair__archiving_moves_the_key_out_of_the_signers_reach(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "server.private");
  CLEANUP_FREE char *archive = workplace_path(*state, "archive/example.com");
  CLEANUP_FREE char *place = workplace_path(*state, "archive/example.com/server.private");
  const struct file_rights rights = {.owner = 1234, .group = 1234, .mode = 0640};
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  struct error error = {0};
  struct stat status;
  assert_done(keypair_generate(KEY_ALGORITHM_ED25519, 256, path, &rights, &key, &error), &error);
  CLEANUP_FREE char *text = read_text(path);
  assert_done(keypair_archive(path, archive, &error), &error);
  assert_false(exists(path));
  assert_archived(place, text);
  assert_int_equal(stat(archive, &status), 0);
  assert_int_equal(status.st_mode, S_IFDIR | 0700);
  assert_done(keypair_archive(path, archive, &error), &error);
}

static void test_keypair__archiving_goes_on_where_an_earlier_attempt_stopped(void **state) {
  CLEANUP(archiving_release) struct archiving it = archiving_begin(*state);
  assert_int_equal(mkdir(it.archive, 0700), 0);
  workplace_write(it.place, it.text, 0600);
  archiving_succeeds(&it);
  workplace_write(it.path, "", 0600);
  assert_int_equal(truncate(it.path, (off_t)strlen(it.text)), 0);
  archiving_succeeds(&it);
}

/* A disk that makes each write anew somewhere else can be full for zeros, too: then a part of the key is left, and its end still says what it was. */
static void test_keypair__archiving_goes_on_where_a_full_disk_stopped_the_zeros(void **state) {
  CLEANUP(archiving_release) struct archiving it = archiving_begin(*state);
  struct error error = {0};
  const int descriptor = open(it.path, O_WRONLY | O_CLOEXEC);
  assert_true(descriptor >= 0);
  assert_int_equal(pwrite(descriptor, (const char[40]){0}, 40, 0), 40);
  assert_int_equal(close(descriptor), 0);
  assert_int_equal(keypair_archive(it.path, it.archive, &error), ERROR_CONFLICT); /* half a key is not kept as one */
  assert_false(exists(it.place));
  assert_int_equal(mkdir(it.archive, 0700), 0);
  workplace_write(it.place, it.text, 0600);
  archiving_succeeds(&it);
}

static void test_keypair__archiving_never_overwrites_another_key_and_keeps_the_original(void **state) {
  CLEANUP(archiving_release) struct archiving it = archiving_begin(*state);
  CLEANUP(keypair_public_release) struct keypair_public other = {0};
  struct error error = {0};
  make_ed25519(it.place, &other);
  CLEANUP_FREE char *text = read_text(it.place);
  assert_int_equal(keypair_archive(it.path, it.archive, &error), ERROR_EXISTS);
  assert_true(exists(it.path));
  assert_archived(it.place, text);
}

static void test_keypair__archiving_what_is_nowhere_or_a_link_or_no_key_fails(void **state) {
  CLEANUP_FREE char *path = workplace_path(*state, "server.private");
  CLEANUP_FREE char *link = workplace_path(*state, "link");
  CLEANUP_FREE char *archive = workplace_path(*state, "archive");
  struct error error = {0};
  assert_int_equal(keypair_archive(path, archive, &error), ERROR_NOT_FOUND);
  workplace_write(path, "not a key", 0600);
  assert_int_equal(symlink(path, link), 0);
  assert_int_equal(keypair_archive(path, archive, &error), ERROR_CONFLICT);
  assert_int_equal(keypair_archive(link, archive, &error), ERROR_CONFLICT);
  assert_false(exists(archive));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, workplace_setup, workplace_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_keypair__destroying_overwrites_the_octets_and_removes_the_name),
      TEST(test_keypair__destroying_what_is_gone_already_is_a_success),
      TEST(test_keypair__a_destruction_that_stopped_half_way_is_completed),
      TEST(test_keypair__destroying_refuses_links_and_files_that_are_no_keys),
      TEST(test_keypair__an_owner_destroys_his_key_even_if_he_may_only_read_it),
      TEST(test_keypair__archiving_moves_the_key_out_of_the_signers_reach),
      TEST(test_keypair__archiving_goes_on_where_an_earlier_attempt_stopped),
      TEST(test_keypair__archiving_goes_on_where_a_full_disk_stopped_the_zeros),
      TEST(test_keypair__archiving_never_overwrites_another_key_and_keeps_the_original),
      TEST(test_keypair__archiving_what_is_nowhere_or_a_link_or_no_key_fails),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
