/* The keeper's jobs with private keys: what each does and answers, and that none reaches out of the directories that the policy names. */
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
#include "dkimroll/key_jobs.h"
#include "dkimroll/keeper_worker.h"
#include "dkimroll/text.h"
#include "keypair_rig.h"

struct fixture {
  struct workplace workplace;
  char *path; /* of the key of most tests */
  struct key_roots roots;
  struct keeper_handler handlers[KEY_JOBS_COUNT];
  struct keeper_handlers known;
};

/* Keys lie in keys/DOMAIN, the archive is archive; the workplace itself is no root. */
static int set_up(void **state) {
  struct fixture *fixture = calloc(1, sizeof(*fixture));
  workplace_make(&fixture->workplace, "/tmp");
  CLEANUP_FREE char *keys = workplace_path(&fixture->workplace, "keys/%d");
  CLEANUP_FREE char *archive = workplace_path(&fixture->workplace, "archive");
  struct error error = {0};
  fixture->path = workplace_path(&fixture->workplace, "keys/example.com/server.private");
  assert_int_equal(key_roots_add(&fixture->roots, keys, &error), 0);
  assert_int_equal(key_roots_add(&fixture->roots, archive, &error), 0);
  fixture->known.items = fixture->handlers;
  fixture->known.count = key_jobs_handlers(&fixture->roots, fixture->handlers);
  *state = fixture;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *fixture = *state;
  workplace_remove(&fixture->workplace);
  key_roots_release(&fixture->roots);
  free(fixture->path);
  free(fixture);
  return 0;
}

/* Runs a job as a worker does, and releases payload. *ret_error tells how it ended. */
static int run_job(const struct fixture *fixture, enum keeper_job job, struct buffer *payload, struct buffer *reply,
                   struct error *ret_error) {
  struct reader request = {.data = payload->data, .size = payload->size};
  assert_false(payload->failed);
  keeper_job_run(&fixture->known, job, &request, reply, ret_error);
  buffer_release(payload);
  return ret_error->code;
}

static int run_simple(const struct fixture *fixture, enum keeper_job job, struct buffer *payload,
                      struct error *ret_error) {
  CLEANUP(buffer_release) struct buffer reply = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  int result = run_job(fixture, job, payload, &reply, ret_error);
  assert_int_equal(reply.size, 0);
  return result;
}

static int run_for_public(const struct fixture *fixture, enum keeper_job job, struct buffer *payload,
                          struct keypair_public *ret_public, struct error *ret_error) {
  CLEANUP(buffer_release) struct buffer reply = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  int result = run_job(fixture, job, payload, &reply, ret_error);
  if (result < 0) assert_int_equal(reply.size, 0);
  if (result == 0) assert_int_equal(key_jobs_read_public(reply.data, reply.size, ret_public, ret_error), 0);
  return result;
}

static int generate(const struct fixture *fixture, const struct key_generate_request *request,
                    struct keypair_public *ret_public, struct error *ret_error) {
  struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  key_jobs_generate(&payload, request);
  return run_for_public(fixture, KEEPER_GENERATE, &payload, ret_public, ret_error);
}

static int generate_at(const struct fixture *fixture, const char *path, struct keypair_public *ret_public,
                       struct error *ret_error) {
  const struct key_generate_request request = {
      .algorithm = KEY_ALGORITHM_ED25519, .bits = 256, .path = path, .mode = 0600};
  return generate(fixture, &request, ret_public, ret_error);
}

static int copy(const struct fixture *fixture, const char *source, const struct key_generate_request *request,
                struct keypair_public *ret_public, struct error *ret_error) {
  struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  key_jobs_copy(&payload, source, request);
  return run_for_public(fixture, KEEPER_COPY, &payload, ret_public, ret_error);
}

/* One of the jobs that take a path alone. */
static int run_path(const struct fixture *fixture, enum keeper_job job, const char *path, struct error *ret_error) {
  struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  key_jobs_path(&payload, path);
  return run_simple(fixture, job, &payload, ret_error);
}

static int archive(const struct fixture *fixture, const char *path, const char *directory, struct error *ret_error) {
  struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  key_jobs_archive(&payload, path, directory);
  return run_simple(fixture, KEEPER_ARCHIVE, &payload, ret_error);
}

/* The key of most tests; caller releases its public half. */
static struct keypair_public make_key(const struct fixture *fixture) {
  struct keypair_public key = {0};
  struct error error = {0};
  assert_done(generate_at(fixture, fixture->path, &key, &error), &error);
  return key;
}

/* A private key of this host that is no business of the keeper's. */
static void make_key_outside(const char *path) {
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  make_ed25519(path, &key);
}

static void test_key_jobs__a_generated_key_answers_with_its_public_half_and_has_owner_and_mode(void **state) {
  const struct fixture *fixture = *state;
  const struct key_generate_request request = {
      .algorithm = KEY_ALGORITHM_ED25519, .bits = 256, .path = fixture->path, .owner = "1234:5678", .mode = 0640};
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  CLEANUP(keypair_public_release) struct keypair_public read = {0};
  struct error error = {0};
  struct stat status;
  assert_done(generate(fixture, &request, &key, &error), &error);
  assert_int_equal(key.algorithm, KEY_ALGORITHM_ED25519);
  assert_int_equal(key.bits, 256);
  assert_int_equal(key.public_key_size, 32);
  assert_int_equal(stat(fixture->path, &status), 0);
  assert_int_equal(status.st_uid, 1234);
  assert_int_equal(status.st_gid, 5678);
  assert_int_equal(status.st_mode, S_IFREG | 0640);
  struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  key_jobs_path(&payload, fixture->path);
  assert_done(run_for_public(fixture, KEEPER_READ_PUBLIC, &payload, &read, &error), &error);
  assert_memory_equal(read.public_key, key.public_key, 32);
}

static void test_key_jobs__a_repeated_generation_answers_with_the_key_that_is_there(void **state) {
  const struct fixture *fixture = *state;
  CLEANUP(keypair_public_release) struct keypair_public first = make_key(fixture);
  CLEANUP(keypair_public_release) struct keypair_public second = make_key(fixture);
  assert_memory_equal(first.public_key, second.public_key, 32);
}

static void test_key_jobs__a_repeated_generation_of_another_kind_is_refused(void **state) {
  const struct fixture *fixture = *state;
  CLEANUP(keypair_public_release) struct keypair_public key = make_key(fixture);
  struct keypair_public other = {0};
  struct error error = {0};
  const struct key_generate_request request = {
      .algorithm = KEY_ALGORITHM_RSA, .bits = 2048, .path = fixture->path, .mode = 0600};
  assert_int_equal(generate(fixture, &request, &other, &error), ERROR_EXISTS);
  assert_non_null(strstr(error.message, fixture->path));
}

static void test_key_jobs__a_mode_that_admits_other_users_is_refused(void **state) {
  const struct fixture *fixture = *state;
  static const mode_t modes[] = {0644, 0602, 01600, 04600};
  for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
    const struct key_generate_request request = {
        .algorithm = KEY_ALGORITHM_ED25519, .bits = 256, .path = fixture->path, .mode = modes[i]};
    struct keypair_public key = {0};
    struct error error = {0};
    assert_int_equal(generate(fixture, &request, &key, &error), ERROR_INVALID);
  }
  assert_false(exists(fixture->path));
}

static void test_key_jobs__an_unknown_owner_is_named(void **state) {
  const struct fixture *fixture = *state;
  const struct key_generate_request request = {.algorithm = KEY_ALGORITHM_ED25519,
                                               .bits = 256,
                                               .path = fixture->path,
                                               .owner = "no-such-user:no-such-user",
                                               .mode = 0600};
  struct keypair_public key = {0};
  struct error error = {0};
  assert_int_equal(generate(fixture, &request, &key, &error), ERROR_NOT_FOUND);
  assert_non_null(strstr(error.message, "no-such-user"));
  assert_false(exists(fixture->path));
}

static void test_key_jobs__a_copy_carries_the_key_to_another_signer(void **state) {
  const struct fixture *fixture = *state;
  CLEANUP_FREE char *other = workplace_path(&fixture->workplace, "keys/other/server.private");
  CLEANUP(keypair_public_release) struct keypair_public key = make_key(fixture);
  CLEANUP(keypair_public_release) struct keypair_public copied = {0};
  struct error error = {0};
  struct stat status;
  const struct key_generate_request request = {.path = other, .owner = "1234:5678", .mode = 0400};
  assert_done(copy(fixture, fixture->path, &request, &copied, &error), &error);
  assert_memory_equal(copied.public_key, key.public_key, 32);
  assert_int_equal(stat(other, &status), 0);
  assert_int_equal(status.st_uid, 1234);
  assert_int_equal(status.st_mode, S_IFREG | 0400);
}

static void test_key_jobs__archiving_and_destroying_may_be_repeated(void **state) {
  const struct fixture *fixture = *state;
  CLEANUP_FREE char *directory = workplace_path(&fixture->workplace, "archive/example.com");
  CLEANUP_FREE char *place = workplace_path(&fixture->workplace, "archive/example.com/server.private");
  CLEANUP(keypair_public_release) struct keypair_public key = make_key(fixture);
  struct error error = {0};
  for (int i = 0; i < 2; i++) {
    assert_done(archive(fixture, fixture->path, directory, &error), &error);
    assert_false(exists(fixture->path));
    assert_true(exists(place));
  }
  for (int i = 0; i < 2; i++) {
    assert_done(run_path(fixture, KEEPER_DESTROY, place, &error), &error);
    assert_false(exists(place));
  }
}

static void test_key_jobs__checking_says_what_the_signer_would_refuse(void **state) {
  const struct fixture *fixture = *state;
  struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  struct error error = {0};
  key_jobs_check(&payload, fixture->path, "nobody");
  assert_int_equal(run_simple(fixture, KEEPER_CHECK_KEY, &payload, &error), ERROR_PERMISSION);
  assert_non_null(strstr(error.message, "/tmp "));
}

/* Every kind of job is refused at path, and leaves what is there. */
static void assert_no_job_touches(const struct fixture *fixture, const char *path) {
  CLEANUP_FREE char *fine = workplace_path(&fixture->workplace, "archive");
  CLEANUP_FREE char *fine_key = workplace_path(&fixture->workplace, "keys/fine/server.private");
  struct keypair_public key = {0};
  struct error error = {0};
  bool was_there = exists(path);
  assert_int_equal(generate_at(fixture, path, &key, &error), ERROR_PERMISSION);
  assert_true(error.remedy[0] != '\0');
  assert_int_equal(run_path(fixture, KEEPER_READ_PUBLIC, path, &error), ERROR_PERMISSION);
  assert_int_equal(run_path(fixture, KEEPER_DESTROY, path, &error), ERROR_PERMISSION);
  assert_int_equal(archive(fixture, path, fine, &error), ERROR_PERMISSION);
  struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  key_jobs_check(&payload, path, "root");
  assert_int_equal(run_simple(fixture, KEEPER_CHECK_KEY, &payload, &error), ERROR_PERMISSION);
  const struct key_generate_request from_there = {.path = fine_key, .mode = 0600};
  assert_int_equal(copy(fixture, path, &from_there, &key, &error), ERROR_PERMISSION);
  const struct key_generate_request to_there = {.path = path, .mode = 0600};
  assert_int_equal(copy(fixture, fine_key, &to_there, &key, &error), ERROR_PERMISSION);
  assert_int_equal(exists(path), was_there);
}

static void test_key_jobs__paths_outside_of_the_roots_are_refused_by_every_job(void **state) {
  const struct fixture *fixture = *state;
  CLEANUP_FREE char *keys = workplace_path(&fixture->workplace, "keys");
  CLEANUP_FREE char *beside = workplace_path(&fixture->workplace, "server.private");
  CLEANUP_FREE char *like_a_root = workplace_path(&fixture->workplace, "keys-of-others/server.private");
  CLEANUP_FREE char *like_the_archive = workplace_path(&fixture->workplace, "archive2/server.private");
  make_key_outside(beside);
  assert_int_equal(mkdir(keys, 0755), 0);
  assert_no_job_touches(fixture, beside);
  assert_no_job_touches(fixture, like_a_root);
  assert_no_job_touches(fixture, like_the_archive);
  assert_no_job_touches(fixture, "/server.private");
  assert_no_job_touches(fixture, keys);
}

static void test_key_jobs__dots_do_not_lead_out_of_the_roots(void **state) {
  const struct fixture *fixture = *state;
  CLEANUP_FREE char *upwards = workplace_path(&fixture->workplace, "keys/../server.private");
  CLEANUP_FREE char *odd = workplace_path(&fixture->workplace, "keys//./example.com/server.private");
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  struct error error = {0};
  assert_int_equal(generate_at(fixture, upwards, &key, &error), ERROR_INVALID);
  assert_int_equal(generate_at(fixture, "keys/server.private", &key, &error), ERROR_INVALID);
  assert_done(generate_at(fixture, odd, &key, &error), &error);
}

static void test_key_jobs__a_link_inside_a_root_does_not_lead_out_of_it(void **state) {
  const struct fixture *fixture = *state;
  CLEANUP_FREE char *keys = workplace_path(&fixture->workplace, "keys");
  CLEANUP_FREE char *outside = workplace_path(&fixture->workplace, "outside");
  CLEANUP_FREE char *link = workplace_path(&fixture->workplace, "keys/example.com");
  CLEANUP_FREE char *deeper = workplace_path(&fixture->workplace, "keys/example.com/new/server.private");
  struct error error = {0};
  assert_int_equal(mkdir(keys, 0755), 0);
  assert_int_equal(mkdir(outside, 0755), 0);
  assert_int_equal(symlink(outside, link), 0);
  assert_no_job_touches(fixture, fixture->path);
  assert_no_job_touches(fixture, deeper);
  assert_int_equal(run_path(fixture, KEEPER_DESTROY, fixture->path, &error), ERROR_PERMISSION);
  assert_non_null(strstr(error.message, outside));
}

/* Whoever may write in a directory of keys, as a signer does in its own, could otherwise have any private key of this host handed to itself. */
static void test_key_jobs__a_link_in_the_place_of_a_key_is_not_copied_from_outside(void **state) {
  const struct fixture *fixture = *state;
  CLEANUP_FREE char *outside = workplace_path(&fixture->workplace, "host.key");
  CLEANUP_FREE char *link = workplace_path(&fixture->workplace, "keys/example.com/link.private");
  CLEANUP_FREE char *place = workplace_path(&fixture->workplace, "keys/other/server.private");
  const struct key_generate_request there = {.path = place, .mode = 0600};
  CLEANUP(keypair_public_release) struct keypair_public key = make_key(fixture);
  CLEANUP(keypair_public_release) struct keypair_public copied = {0};
  struct error error = {0};
  make_key_outside(outside);
  assert_int_equal(symlink(outside, link), 0);
  assert_int_equal(copy(fixture, link, &there, &copied, &error), ERROR_PERMISSION);
  assert_non_null(strstr(error.message, outside));
  assert_true(error.remedy[0] != '\0');
  assert_false(exists(place));
  /* One that stays within is another name of a key. */
  assert_int_equal(unlink(link), 0);
  assert_int_equal(symlink("server.private", link), 0);
  assert_done(copy(fixture, link, &there, &copied, &error), &error);
  assert_memory_equal(copied.public_key, key.public_key, 32);
}

static void test_key_jobs__a_root_may_itself_be_a_link(void **state) {
  const struct fixture *fixture = *state;
  CLEANUP_FREE char *keys = workplace_path(&fixture->workplace, "keys");
  CLEANUP_FREE char *elsewhere = workplace_path(&fixture->workplace, "elsewhere");
  CLEANUP_FREE char *real = workplace_path(&fixture->workplace, "elsewhere/example.com/server.private");
  struct error error = {0};
  assert_int_equal(mkdir(elsewhere, 0755), 0);
  assert_int_equal(symlink(elsewhere, keys), 0);
  CLEANUP(keypair_public_release) struct keypair_public key = make_key(fixture);
  assert_true(exists(real));
  assert_done(run_path(fixture, KEEPER_DESTROY, fixture->path, &error), &error);
  assert_false(exists(real));
}

static void test_key_jobs__the_archive_directory_must_be_below_a_root_too(void **state) {
  const struct fixture *fixture = *state;
  CLEANUP_FREE char *directory = workplace_path(&fixture->workplace, "elsewhere");
  CLEANUP(keypair_public_release) struct keypair_public key = make_key(fixture);
  struct error error = {0};
  assert_int_equal(archive(fixture, fixture->path, directory, &error), ERROR_PERMISSION);
  assert_true(exists(fixture->path));
  assert_false(exists(directory));
}

static void test_key_jobs__requests_cut_short_or_with_something_behind_are_refused(void **state) {
  const struct fixture *fixture = *state;
  const struct key_generate_request request = {
      .algorithm = KEY_ALGORITHM_ED25519, .bits = 256, .path = fixture->path, .mode = 0600};
  CLEANUP(buffer_release) struct buffer whole = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  key_jobs_generate(&whole, &request);
  struct error error = {0};
  for (size_t size = 0; size < whole.size; size++) {
    struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
    buffer_add(&payload, whole.data, size);
    assert_int_equal(run_simple(fixture, KEEPER_GENERATE, &payload, &error), ERROR_PROTOCOL);
  }
  buffer_add_u8(&whole, 0);
  assert_int_equal(run_simple(fixture, KEEPER_GENERATE, &whole, &error), ERROR_PROTOCOL);
  assert_false(exists(fixture->path));
}

static void test_key_jobs__an_answer_that_holds_no_key_is_refused(void **state) {
  (void)state;
  static const uint8_t good[] = {KEY_ALGORITHM_ED25519, 0, 0, 1, 0, 0, 0, 0, 2, 7, 7};
  static const uint8_t unknown[] = {9, 0, 0, 1, 0, 0, 0, 0, 2, 7, 7};
  static const uint8_t empty[] = {KEY_ALGORITHM_ED25519, 0, 0, 1, 0, 0, 0, 0, 0};
  static const uint8_t longer[] = {KEY_ALGORITHM_ED25519, 0, 0, 1, 0, 0, 0, 0, 1, 7, 7};
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  struct error error = {0};
  assert_int_equal(key_jobs_read_public(good, sizeof(good), &key, &error), 0);
  assert_int_equal(key.bits, 256);
  struct keypair_public untouched = {0};
  for (size_t size = 0; size < sizeof(good); size++) {
    assert_int_equal(key_jobs_read_public(good, size, &untouched, &error), ERROR_PROTOCOL);
  }
  assert_int_equal(key_jobs_read_public(unknown, sizeof(unknown), &untouched, &error), ERROR_PROTOCOL);
  assert_int_equal(key_jobs_read_public(empty, sizeof(empty), &untouched, &error), ERROR_PROTOCOL);
  assert_int_equal(key_jobs_read_public(longer, sizeof(longer), &untouched, &error), ERROR_PROTOCOL);
  assert_null(untouched.public_key);
}

static void assert_root(const char *path_template, const char *expected) {
  struct key_roots roots = {.count = 0};
  struct error error = {0};
  assert_done(key_roots_add(&roots, path_template, &error), &error);
  assert_int_equal(roots.count, 1);
  assert_string_equal(roots.paths[0], expected);
  key_roots_release(&roots);
}

static void test_key_jobs__the_fixed_part_of_a_template_is_the_root(void **state) {
  (void)state;
  assert_root("/etc/opendkim/keys/%d", "/etc/opendkim/keys");
  assert_root("/etc/opendkim/keys/of-%d/now", "/etc/opendkim/keys");
  assert_root("/etc/opendkim/keys", "/etc/opendkim/keys");
  assert_root("/etc/opendkim/keys/", "/etc/opendkim/keys");
  assert_root("//etc/./dkimkeys//", "/etc/dkimkeys");
}

static void test_key_jobs__templates_that_open_everything_are_refused(void **state) {
  (void)state;
  static const char *const refused[] = {"/", "/%d", "/keys-%d", "", "%d", "keys/%d", "/etc/../%d", "/etc/../../"};
  for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
    struct key_roots roots = {.count = 0};
    struct error error = {0};
    assert_int_equal(key_roots_add(&roots, refused[i], &error), ERROR_INVALID);
    assert_int_equal(roots.count, 0);
  }
}

static void test_key_jobs__roots_are_counted_once_and_bounded(void **state) {
  (void)state;
  struct key_roots roots = {.count = 0};
  struct error error = {0};
  for (int i = 0; i < KEY_ROOTS_MAX; i++) {
    CLEANUP_FREE char *path = text_format("/keys/%d", i);
    assert_done(key_roots_add(&roots, path, &error), &error);
  }
  assert_done(key_roots_add(&roots, "/keys/7/%d", &error), &error);
  assert_int_equal(roots.count, KEY_ROOTS_MAX);
  assert_int_equal(key_roots_add(&roots, "/keys/one-more", &error), ERROR_LIMIT);
  key_roots_release(&roots);
  assert_int_equal(roots.count, 0);
}

/* Else a loop side that was taken over could have the signers' keys handed to itself. */
static void test_key_jobs__keys_are_made_for_the_signers_of_the_policy_alone(void **state) {
  struct fixture *fixture = *state;
  CLEANUP_FREE char *template = workplace_path(&fixture->workplace, "keys/%d");
  CLEANUP_FREE char *path = workplace_path(&fixture->workplace, "keys/example.com/s.private");
  CLEANUP_FREE char *second = workplace_path(&fixture->workplace, "keys/example.com/copy.private");
  CLEANUP_FREE char *elsewhere = workplace_path(&fixture->workplace, "archive/s.private");
  CLEANUP_FREE char *owner = text_format("%u:%u", (unsigned)geteuid(), (unsigned)getegid());
  const struct policy_signer signer = {.name = (char *)"local", .key_directory = template, .owner = owner, .mode = 0600};
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  struct error error = {0};
  assert_done(key_roots_add_signer(&fixture->roots, &signer, &error), &error);
  const struct key_generate_request refused[] = {
      {.algorithm = KEY_ALGORITHM_ED25519, .bits = 256, .path = path, .owner = "nobody:nogroup", .mode = 0600},
      {.algorithm = KEY_ALGORITHM_ED25519, .bits = 256, .path = path, .owner = NULL, .mode = 0600},
      {.algorithm = KEY_ALGORITHM_ED25519, .bits = 256, .path = path, .owner = owner, .mode = 0660},
      {.algorithm = KEY_ALGORITHM_ED25519, .bits = 256, .path = elsewhere, .owner = owner, .mode = 0600},
  };
  for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
    assert_int_equal(generate(fixture, &refused[i], &key, &error), ERROR_PERMISSION);
    assert_false(exists(refused[i].path));
  }
  const struct key_generate_request good = {.algorithm = KEY_ALGORITHM_ED25519, .bits = 256, .path = path, .owner = owner, .mode = 0600};
  assert_done(generate(fixture, &good, &key, &error), &error);
  const struct key_generate_request stolen = {.path = second, .owner = "nobody:nogroup", .mode = 0600};
  assert_int_equal(copy(fixture, path, &stolen, &key, &error), ERROR_PERMISSION);
  assert_false(exists(second));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_key_jobs__a_generated_key_answers_with_its_public_half_and_has_owner_and_mode),
      TEST(test_key_jobs__keys_are_made_for_the_signers_of_the_policy_alone),
      TEST(test_key_jobs__a_repeated_generation_answers_with_the_key_that_is_there),
      TEST(test_key_jobs__a_repeated_generation_of_another_kind_is_refused),
      TEST(test_key_jobs__a_mode_that_admits_other_users_is_refused),
      TEST(test_key_jobs__an_unknown_owner_is_named),
      TEST(test_key_jobs__a_copy_carries_the_key_to_another_signer),
      TEST(test_key_jobs__archiving_and_destroying_may_be_repeated),
      TEST(test_key_jobs__checking_says_what_the_signer_would_refuse),
      TEST(test_key_jobs__paths_outside_of_the_roots_are_refused_by_every_job),
      TEST(test_key_jobs__dots_do_not_lead_out_of_the_roots),
      TEST(test_key_jobs__a_link_inside_a_root_does_not_lead_out_of_it),
      TEST(test_key_jobs__a_link_in_the_place_of_a_key_is_not_copied_from_outside),
      TEST(test_key_jobs__a_root_may_itself_be_a_link),
      TEST(test_key_jobs__the_archive_directory_must_be_below_a_root_too),
      TEST(test_key_jobs__requests_cut_short_or_with_something_behind_are_refused),
      TEST(test_key_jobs__an_answer_that_holds_no_key_is_refused),
      cmocka_unit_test(test_key_jobs__the_fixed_part_of_a_template_is_the_root),
      cmocka_unit_test(test_key_jobs__templates_that_open_everything_are_refused),
      cmocka_unit_test(test_key_jobs__roots_are_counted_once_and_bounded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
