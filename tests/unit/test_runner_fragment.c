/* The runner's job on fragments: files, rights and paths are the policy's, whatever the loop side asks for. */
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
#include "dkimroll/runner_fragment.h"
#include "dkimroll/text.h"
#include "workplace.h"

#define NAME "s1._domainkey.example.com"

struct desk {
  struct workplace place;
  struct runner_zonefiles zonefiles;
  struct runner_fragment_reply reply;
  struct error error;
};

static int set_up(void **state) {
  struct desk *desk = calloc(1, sizeof(*desk));
  workplace_make(&desk->place, "/tmp");
  CLEANUP_FREE char *file = workplace_path(&desk->place, "new/z/%z.dkim");
  CLEANUP_FREE char *one = workplace_path(&desk->place, "one");
  struct policy_publisher publishers[] = {
      {.name = (char *)"updates", .type = PUBLISHER_RFC2136},
      {.name = (char *)"files", .type = PUBLISHER_ZONEFILE, .file = file, .mode = 0640},
      {.name = (char *)"one", .type = PUBLISHER_ZONEFILE, .file = one, .mode = 0644, .zone = (char *)"example.com"},
      {.name = (char *)"nobodys", .type = PUBLISHER_ZONEFILE, .file = file, .mode = 0644, .owner = (char *)"nobody-like-this:nogroup"},
  };
  const struct policy policy = {.publishers = publishers, .publisher_count = ARRAY_SIZE(publishers)};
  assert_int_equal(runner_zonefiles_allow(&desk->zonefiles, &policy, &desk->error), 0);
  assert_int_equal(desk->zonefiles.count, 3);
  *state = desk;
  return 0;
}

static int tear_down(void **state) {
  struct desk *desk = *state;
  runner_fragment_reply_release(&desk->reply);
  runner_zonefiles_release(&desk->zonefiles);
  workplace_remove(&desk->place);
  free(desk);
  return 0;
}

static int write_record(struct desk *desk, const char *publisher, const char *zone, const char *record) {
  const struct fragment_edit edit = {.change = FRAGMENT_ADD, .name = NAME, .ttl = 60, .record = record};
  const struct runner_fragment_call call = {.publisher = publisher, .zone = zone, .make = true, .edits = &edit, .count = 1};
  const struct keeper_handler handler = runner_fragment_handler(&desk->zonefiles);
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(65536);
  CLEANUP(buffer_release) struct buffer reply = BUFFER_WITH_MAXIMUM(65536);
  runner_fragment_write(&payload, &call);
  struct reader request = {.data = payload.data, .size = payload.size};
  desk->error = (struct error){0};
  runner_fragment_reply_release(&desk->reply);
  assert_int_equal(handler.job, KEEPER_WRITE_FRAGMENT);
  const int code = handler.run(handler.context, &request, &reply, &desk->error);
  if (code == 0) assert_int_equal(runner_fragment_read(reply.data, reply.size, &desk->reply, &desk->error), 0);
  return code;
}

static void test_runner_fragment__file_and_directory_are_made_with_the_policys_rights(void **state) {
  struct desk *desk = *state;
  struct stat status;
  assert_int_equal(write_record(desk, "files", "example.com", "a"), 0);
  assert_true(text_ends(desk->reply.path, "/new/z/example.com.dkim"));
  assert_true(desk->reply.changed);
  assert_int_equal(desk->reply.errors[0].code, 0);
  assert_int_equal(stat(desk->reply.path, &status), 0);
  assert_int_equal(status.st_mode & 07777, 0640);
  const ino_t before = status.st_ino;
  assert_int_equal(write_record(desk, "files", "example.com", "a"), 0);
  assert_false(desk->reply.changed);
  assert_int_equal(stat(desk->reply.path, &status), 0);
  assert_int_equal(status.st_ino, before);
  assert_int_equal(write_record(desk, "files", "example.com", "b"), 0);
  assert_int_equal(desk->reply.errors[0].code, ERROR_CONFLICT);
  assert_true(desk->reply.errors[0].remedy[0] != '\0');
}

static void test_runner_fragment__publishers_and_zones_that_the_policy_does_not_have_are_refused(void **state) {
  struct desk *desk = *state;
  assert_int_equal(write_record(desk, "updates", "example.com", "a"), ERROR_PERMISSION);
  assert_int_equal(write_record(desk, "gone", "example.com", "a"), ERROR_PERMISSION);
  assert_int_equal(write_record(desk, "one", "com", "a"), ERROR_PERMISSION);
  assert_int_equal(write_record(desk, "one", "example.com", "a"), 0);
  assert_int_equal(write_record(desk, "files", "../../etc/x", "a"), ERROR_INVALID);
  assert_int_equal(write_record(desk, "files", "", "a"), ERROR_INVALID);
  assert_int_equal(write_record(desk, "files", "example.net", "a"), 0);
  assert_int_equal(desk->reply.errors[0].code, ERROR_INVALID);
}

static void test_runner_fragment__the_group_is_that_of_a_directory_with_the_set_group_id_bit(void **state) {
  struct desk *desk = *state;
  CLEANUP_FREE char *parent = workplace_path(&desk->place, "new");
  CLEANUP_FREE char *directory = workplace_path(&desk->place, "new/z");
  struct stat status;
  enum { OTHER_GROUP = 4711 };
  if (geteuid() != 0) skip();
  assert_int_equal(mkdir(parent, 0755), 0);
  assert_int_equal(mkdir(directory, 0755), 0);
  assert_int_equal(chown(directory, 0, OTHER_GROUP), 0);
  assert_int_equal(chmod(directory, 02755), 0);
  assert_int_equal(write_record(desk, "files", "example.com", "a"), 0);
  assert_int_equal(stat(desk->reply.path, &status), 0);
  assert_int_equal(status.st_gid, OTHER_GROUP);
}

static void test_runner_fragment__a_link_in_its_place_is_not_followed(void **state) {
  struct desk *desk = *state;
  CLEANUP_FREE char *link = workplace_path(&desk->place, "one");
  CLEANUP_FREE char *victim = workplace_path(&desk->place, "victim");
  workplace_write(victim, "", 0644);
  assert_int_equal(symlink(victim, link), 0);
  assert_int_not_equal(write_record(desk, "one", "example.com", "a"), 0);
  struct stat status;
  assert_int_equal(stat(victim, &status), 0);
  assert_int_equal(status.st_size, 0);
}

static void test_runner_fragment__an_owner_that_is_not_there_is_named(void **state) {
  struct desk *desk = *state;
  assert_int_equal(write_record(desk, "nobodys", "example.com", "a"), ERROR_NOT_FOUND);
  assert_non_null(strstr(desk->error.message, "nobody-like-this"));
}

static void test_runner_fragment__broken_requests_and_answers_are_refused(void **state) {
  struct desk *desk = *state;
  const struct keeper_handler handler = runner_fragment_handler(&desk->zonefiles);
  const struct fragment_edit edit = {.change = FRAGMENT_ADD, .name = NAME, .ttl = 60, .record = "a"};
  const struct runner_fragment_call call = {.publisher = "files", .zone = "example.com", .make = true, .edits = &edit, .count = 1};
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(65536);
  runner_fragment_write(&payload, &call);
  for (size_t size = 0; size < payload.size; size++) {
    CLEANUP(buffer_release) struct buffer reply = BUFFER_WITH_MAXIMUM(65536);
    struct reader request = {.data = payload.data, .size = size};
    assert_int_not_equal(handler.run(handler.context, &request, &reply, &desk->error), 0);
  }
  assert_int_equal(write_record(desk, "files", "example.com", "a"), 0);
  struct runner_fragment_reply unused = {0};
  assert_int_not_equal(runner_fragment_read((const uint8_t *)"\0\0\0\1/\1\0\0\0\1", 10, &unused, &desk->error), 0);
  /* A code that no error has. */
  static const uint8_t codes[][4] = {{0x80, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff}};
  for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
    uint8_t reply[] = "\0\0\0\1/\1\0\0\0\1CODE\0\0\0\1m\0\0\0\1r";
    memcpy(reply + 10, codes[i], sizeof codes[i]);
    assert_int_equal(runner_fragment_read(reply, sizeof reply - 1, &unused, &desk->error), ERROR_PROTOCOL);
  }
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_runner_fragment__##name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(file_and_directory_are_made_with_the_policys_rights),
      TEST(publishers_and_zones_that_the_policy_does_not_have_are_refused),
      TEST(the_group_is_that_of_a_directory_with_the_set_group_id_bit),
      TEST(a_link_in_its_place_is_not_followed),
      TEST(an_owner_that_is_not_there_is_named),
      TEST(broken_requests_and_answers_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
