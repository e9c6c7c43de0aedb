/* The survey on real files: what tables and directories hold is told by public halves, and who names a file is found by whatever path. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/survey.h"
#include "dkimroll/text.h"
#include "workplace.h"

enum { REPLY_MAX = 4 * 1024 * 1024 };

struct stage {
  struct workplace folder;
  struct policy_signer policy;
  struct opendkim_roots roots;
  struct keeper_handler handlers[SURVEY_JOBS_COUNT];
  struct error error;
  struct survey survey;
};

static char *path_of(const struct stage *stage, const char *name) {
  return workplace_path(&stage->folder, name);
}

static void write_text(const struct stage *stage, const char *name, const char *text) {
  CLEANUP_FREE char *path = path_of(stage, name);
  workplace_write(path, text, 0600);
}

static void write_pair(const struct stage *stage, const char *name, EVP_PKEY *pair) {
  CLEANUP_FREE char *path = path_of(stage, name);
  FILE *file = fopen(path, "we");
  assert_non_null(file);
  assert_int_equal(PEM_write_PrivateKey(file, pair, NULL, NULL, 0, NULL, NULL), 1);
  assert_int_equal(fclose(file), 0);
}

static void write_key(const struct stage *stage, const char *name) {
  EVP_PKEY *pair = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
  write_pair(stage, name, pair);
  EVP_PKEY_free(pair);
}

static void make_directory(const struct stage *stage, const char *name) {
  CLEANUP_FREE char *path = path_of(stage, name);
  assert_int_equal(mkdir(path, 0755), 0);
}

static int stage_open(void **state) {
  static struct stage stage;
  stage = (struct stage){0};
  workplace_make(&stage.folder, "/tmp");
  stage.policy = (struct policy_signer){.name = (char *)"local",
                                        .key_table = path_of(&stage, "KeyTable"),
                                        .signing_table = path_of(&stage, "SigningTable"),
                                        .signing_table_format = SIGNING_TABLE_REFILE,
                                        .key_directory = path_of(&stage, "keys/%d")};
  assert_int_equal(opendkim_roots_add(&stage.roots, &stage.policy, &stage.error), 0);
  assert_int_equal(survey_handlers(&stage.roots, stage.handlers), SURVEY_JOBS_COUNT);
  make_directory(&stage, "keys");
  make_directory(&stage, "keys/a.test");
  make_directory(&stage, "keys/b.test");
  *state = &stage;
  return 0;
}

static int stage_close(void **state) {
  struct stage *stage = *state;
  survey_release(&stage->survey);
  opendkim_roots_release(&stage->roots);
  workplace_remove(&stage->folder);
  free(stage->policy.key_table);
  free(stage->policy.signing_table);
  free(stage->policy.key_directory);
  return 0;
}

static int run(struct stage *stage, enum keeper_job job, const struct buffer *payload, struct buffer *reply) {
  struct reader request = {.data = payload->data, .size = payload->size};
  stage->error = (struct error){0};
  for (size_t i = 0; i < SURVEY_JOBS_COUNT; i++)
    if (stage->handlers[i].job == job) return stage->handlers[i].run(stage->handlers[i].context, &request, reply, &stage->error);
  return ERROR_INTERNAL;
}

static int look(struct stage *stage) {
  static const char *const domains[] = {"a.test", "b.test"};
  struct buffer payload = BUFFER_WITH_MAXIMUM(REPLY_MAX), reply = BUFFER_WITH_MAXIMUM(REPLY_MAX);
  survey_release(&stage->survey);
  survey_request(&payload, &stage->policy, domains, 2);
  int result = run(stage, KEEPER_SURVEY, &payload, &reply);
  if (!result) result = survey_read(reply.data, reply.size, &stage->policy, &stage->survey, &stage->error);
  buffer_release(&payload);
  buffer_release(&reply);
  return result;
}

static void look_well(struct stage *stage) {
  if (look(stage)) fail_msg("%s", stage->error.message);
}

static const struct survey_key *find(const struct stage *stage, const char *domain, const char *selector) {
  for (size_t i = 0; i < stage->survey.count; i++)
    if (text_equal(stage->survey.keys[i].domain, domain) && text_equal(stage->survey.keys[i].selector, selector)) return &stage->survey.keys[i];
  fail_msg("no key %s of %s", selector, domain);
  return NULL;
}

static void write_tables(const struct stage *stage, const char *keys, const char *signing) {
  CLEANUP_FREE char *text = NULL;
  /* "@" is the folder. */
  struct buffer whole = BUFFER_WITH_MAXIMUM(REPLY_MAX);
  for (const char *p = keys; *p; p++)
    if (*p == '@')
      buffer_add_text(&whole, stage->folder.path);
    else
      buffer_add(&whole, p, 1);
  text = buffer_take_text(&whole);
  write_text(stage, "KeyTable", text);
  write_text(stage, "SigningTable", signing);
}

static void test_survey__entries_are_told_with_their_public_halves(void **state) {
  struct stage *stage = *state;
  write_key(stage, "keys/a.test/one.private");
  write_key(stage, "keys/other.pem");
  write_tables(stage, "# a comment\n\none a.test:one:@/keys/a.test/one.private\nother other.test:s:@/keys/other.pem\nbroken a.test\nlost A.test:lost:@/keys/lost\n",
               "*@a.test one # x\n\n*@other.test other\n");
  look_well(stage);
  assert_int_equal(stage->survey.count, 3);
  const struct survey_key *one = find(stage, "a.test", "one"), *other = find(stage, "other.test", "s"), *lost = find(stage, "a.test", "lost");
  assert_true(one->line == 3 && one->place == SURVEY_FILE && one->literal && !one->every && one->modified > 0);
  assert_string_equal(one->name, "one");
  assert_int_equal(one->public_half.algorithm, KEY_ALGORITHM_ED25519);
  assert_int_equal(one->public_half.public_key_size, 32);
  assert_string_equal(one->problem, "");
  /* Nobody asked for that domain, so its key was not read. */
  assert_true(other->line == 4 && !other->public_half.public_key && other->problem[0] == '\0');
  assert_true(!lost->public_half.public_key && strstr(lost->problem, "No such file"));
  assert_false(lost->literal); /* not in the words that dkimroll would write */
  struct table_span name;
  unsigned line = 0;
  assert_true(table_match_sender(stage->survey.signing, "x@other.test", &name, &line));
  assert_int_equal(line, 3);
}

static void test_survey__an_entry_for_any_domain_is_told_for_each(void **state) {
  struct stage *stage = *state;
  write_key(stage, "keys/a.test/mail.private");
  write_key(stage, "keys/b.test/mail.private");
  write_tables(stage, "all %:mail:@/keys/%/mail.private\nown a.test:s:@/keys/%/mail.private\n", "* all\n");
  look_well(stage);
  const struct survey_key *a = find(stage, "a.test", "mail"), *b = find(stage, "b.test", "mail"), *own = find(stage, "a.test", "s");
  assert_true(a->every && b->every && !a->literal && a->line == 1 && b->line == 1 && a->public_half.public_key && b->public_half.public_key);
  assert_true(text_ends(a->path, "/keys/a.test/mail.private") && text_ends(b->path, "/keys/b.test/mail.private"));
  assert_memory_not_equal(a->public_half.public_key, b->public_half.public_key, 32);
  assert_true(!own->every && !own->literal && text_equal(own->path, a->path));
}

/* base64 of DER, as opendkim.conf(5) wants it. */
static char *inline_text(EVP_PKEY *pair) {
  unsigned char *der = NULL;
  const int size = i2d_PrivateKey(pair, &der);
  assert_true(size > 0);
  char *text = calloc(1, (size_t)size * 2 + 8);
  EVP_EncodeBlock((unsigned char *)text, der, size);
  OPENSSL_free(der);
  return text;
}

static void test_survey__a_key_in_the_table_itself_never_comes_over(void **state) {
  struct stage *stage = *state;
  static const char *const domains[] = {"a.test"};
  EVP_PKEY *pair = EVP_RSA_gen(1024);
  CLEANUP_FREE char *inline_key = inline_text(pair);
  CLEANUP_FREE char *keys = text_format("in a.test:in:%s\nbad a.test:bad:AAAA\n", inline_key);
  struct buffer payload = BUFFER_WITH_MAXIMUM(REPLY_MAX), reply = BUFFER_WITH_MAXIMUM(REPLY_MAX);
  write_tables(stage, keys, "*@a.test in\n");
  survey_request(&payload, &stage->policy, domains, 1);
  assert_int_equal(run(stage, KEEPER_SURVEY, &payload, &reply), 0);
  /* Neither the key nor any part of it that is worth anything. */
  assert_null(memmem(reply.data, reply.size, inline_key + 100, 40));
  assert_int_equal(survey_read(reply.data, reply.size, &stage->policy, &stage->survey, &stage->error), 0);
  const struct survey_key *key = find(stage, "a.test", "in"), *bad = find(stage, "a.test", "bad");
  assert_true(key->place == SURVEY_INLINE && !key->literal && key->public_half.bits == 1024 && key->path[0] == '\0');
  assert_true(bad->place == SURVEY_INLINE && !bad->public_half.public_key && strstr(bad->problem, "neither a path nor a private key"));
  buffer_release(&payload);
  buffer_release(&reply);
  EVP_PKEY_free(pair);
}

static void test_survey__files_that_no_entry_names_are_told(void **state) {
  struct stage *stage = *state;
  write_key(stage, "keys/a.test/one.private");
  write_key(stage, "keys/a.test/two.private");
  write_key(stage, "keys/a.test/.hidden.private");
  write_text(stage, "keys/a.test/two.txt", "the record");
  write_text(stage, "keys/b.test/empty.private", "no key");
  write_tables(stage, "one a.test:other:@/keys/a.test/one.private\n", "");
  look_well(stage);
  assert_int_equal(stage->survey.count, 3);
  const struct survey_key *two = find(stage, "a.test", "two"), *empty = find(stage, "b.test", "empty");
  assert_true(two->place == SURVEY_UNNAMED && two->line == 0 && two->public_half.public_key);
  assert_true(empty->place == SURVEY_UNNAMED && !empty->public_half.public_key && strstr(empty->problem, "no private key"));
}

static void test_survey__more_files_than_are_looked_at_are_an_error_and_not_left_out(void **state) {
  struct stage *stage = *state;
  char name[64];
  write_tables(stage, "", "");
  for (int i = 0; i < SURVEY_FILES_MAX; i++) {
    snprintf(name, sizeof name, "keys/a.test/k%04d.private", i);
    write_text(stage, name, "");
  }
  look_well(stage);
  assert_int_equal(stage->survey.count, SURVEY_FILES_MAX);
  survey_release(&stage->survey);
  write_text(stage, "keys/a.test/one-more.private", "");
  assert_int_equal(look(stage), ERROR_LIMIT);
  assert_non_null(strstr(stage->error.message, "keys/a.test holds 1001 private keys"));
  assert_non_null(strstr(stage->error.remedy, "move those"));
}

static void test_survey__relative_paths_are_not_followed(void **state) {
  struct stage *stage = *state;
  write_tables(stage, "x a.test:x:./keys/x\ny a.test:y:../y\n", "");
  look_well(stage);
  assert_true(strstr(find(stage, "a.test", "x")->problem, "where OpenDKIM was started") != NULL);
  assert_int_equal(find(stage, "a.test", "y")->place, SURVEY_FILE);
}

static void test_survey__tables_that_are_not_there_are_empty(void **state) {
  struct stage *stage = *state;
  look_well(stage);
  assert_int_equal(stage->survey.count, 0);
}

static void test_survey__other_tables_and_directories_are_refused(void **state) {
  struct stage *stage = *state;
  struct policy_signer policy = stage->policy;
  write_tables(stage, "", "");
  stage->policy.key_table = (char *)"/etc/shadow";
  assert_int_equal(look(stage), ERROR_PERMISSION);
  stage->policy = policy;
  stage->policy.key_directory = (char *)"/root/%d";
  assert_int_equal(look(stage), ERROR_PERMISSION);
  stage->policy = policy;
  struct buffer payload = BUFFER_WITH_MAXIMUM(REPLY_MAX), reply = BUFFER_WITH_MAXIMUM(REPLY_MAX);
  static const char *const domains[] = {"../../etc", ".."};
  for (size_t i = 0; i < 2; i++) {
    buffer_reset(&payload);
    survey_request(&payload, &stage->policy, &domains[i], 1);
    assert_int_equal(run(stage, KEEPER_SURVEY, &payload, &reply), ERROR_PROTOCOL);
  }
  buffer_release(&payload);
  buffer_release(&reply);
}

static void test_survey__every_cut_of_a_message_is_refused(void **state) {
  struct stage *stage = *state;
  static const char *const domains[] = {"a.test"};
  struct buffer payload = BUFFER_WITH_MAXIMUM(REPLY_MAX), reply = BUFFER_WITH_MAXIMUM(REPLY_MAX);
  write_key(stage, "keys/a.test/one.private");
  write_tables(stage, "one a.test:one:@/keys/a.test/one.private\n", "*@a.test one\n");
  survey_request(&payload, &stage->policy, domains, 1);
  assert_int_equal(run(stage, KEEPER_SURVEY, &payload, &reply), 0);
  for (size_t size = 0; size < reply.size; size++) {
    struct survey survey = {0};
    assert_int_equal(survey_read(reply.data, size, &stage->policy, &survey, &stage->error), ERROR_PROTOCOL);
  }
  const size_t whole = payload.size;
  for (size_t size = 0; size < whole; size++) {
    struct buffer unused = BUFFER_WITH_MAXIMUM(REPLY_MAX);
    payload.size = size;
    assert_int_equal(run(stage, KEEPER_SURVEY, &payload, &unused), ERROR_PROTOCOL);
    buffer_release(&unused);
  }
  payload.size = whole;
  buffer_release(&payload);
  buffer_release(&reply);
}

/* Asks for users of these names in the folder; *ret_user of each is freed by the caller. */
static void ask_users(struct stage *stage, const char *const *names, size_t count, char **ret_users) {
  struct buffer payload = BUFFER_WITH_MAXIMUM(REPLY_MAX), reply = BUFFER_WITH_MAXIMUM(REPLY_MAX);
  char *paths[8];
  for (size_t i = 0; i < count; i++) paths[i] = path_of(stage, names[i]);
  survey_request_users(&payload, (const char *const *)paths, count);
  if (run(stage, KEEPER_KEY_USERS, &payload, &reply)) fail_msg("%s", stage->error.message);
  assert_int_equal(survey_read_users(reply.data, reply.size, ret_users, count, &stage->error), 0);
  for (size_t i = 0; i < count; i++) free(paths[i]);
  buffer_release(&payload);
  buffer_release(&reply);
}

static void test_survey__users_of_a_file_are_found_by_whatever_name(void **state) {
  struct stage *stage = *state;
  static const char *const names[] = {"keys/plain", "keys/linked", "keys/hard", "keys/a.test/mail.private", "keys/alone", "keys/gone"};
  static const unsigned lines[] = {1, 2, 3, 4, 0, 5};
  char *users[ARRAY_SIZE(names)];
  for (size_t i = 0; i + 1 < ARRAY_SIZE(names); i++) write_key(stage, names[i]);
  CLEANUP_FREE char *linked = path_of(stage, "keys/linked");
  CLEANUP_FREE char *link_name = path_of(stage, "keys/link");
  CLEANUP_FREE char *hard = path_of(stage, "keys/hard");
  CLEANUP_FREE char *other_name = path_of(stage, "keys/other-name");
  assert_int_equal(symlink(linked, link_name), 0);
  assert_int_equal(link(hard, other_name), 0);
  write_tables(stage, "a x.test:s:@/keys/plain\nb x.test:s:@/keys/link\nc x.test:s:@/keys/other-name\nd %:mail:@/keys/%/mail.private\ne x.test:s:@/keys/gone\n", "");
  ask_users(stage, names, ARRAY_SIZE(names), users);
  for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
    CLEANUP_FREE char *expected = lines[i] ? text_format("KeyTable %s, line %u", stage->policy.key_table, lines[i]) : NULL;
    if (lines[i])
      assert_string_equal(users[i], expected);
    else
      assert_null(users[i]);
    free(users[i]);
  }
}

static void test_survey__too_many_questions_are_refused(void **state) {
  struct stage *stage = *state;
  struct buffer payload = BUFFER_WITH_MAXIMUM(REPLY_MAX), reply = BUFFER_WITH_MAXIMUM(REPLY_MAX);
  buffer_add_u32(&payload, SURVEY_PATHS_MAX + 1);
  assert_int_equal(run(stage, KEEPER_KEY_USERS, &payload, &reply), ERROR_PROTOCOL);
  buffer_release(&payload);
  buffer_release(&reply);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_survey__##name, stage_open, stage_close)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(entries_are_told_with_their_public_halves),
      TEST(an_entry_for_any_domain_is_told_for_each),
      TEST(a_key_in_the_table_itself_never_comes_over),
      TEST(files_that_no_entry_names_are_told),
      TEST(more_files_than_are_looked_at_are_an_error_and_not_left_out),
      TEST(relative_paths_are_not_followed),
      TEST(tables_that_are_not_there_are_empty),
      TEST(other_tables_and_directories_are_refused),
      TEST(every_cut_of_a_message_is_refused),
      TEST(users_of_a_file_are_found_by_whatever_name),
      TEST(too_many_questions_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
