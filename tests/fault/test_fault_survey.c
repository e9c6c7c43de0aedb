/* Each call fails once while the keeper looks at what others left behind, and while its answer is read: all of it is told, or that it could not be. A key that could not be read just now is
 * no key without a public half, which import would leave alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "../unit/workplace.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/keeper_worker.h"
#include "dkimroll/survey.h"
#include "dkimroll/text.h"
#include "fault.h"

#define INLINE_KEY "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC"
#define PEM "-----BEGIN PRIVATE KEY-----\n" INLINE_KEY "\n-----END PRIVATE KEY-----\n"

enum { KEYS = 4 /* a file, one in the table, one for any domain, and one that no table names */ };

struct desk {
  struct workplace folder;
  struct policy_signer signer;
  struct opendkim_roots roots;
  struct keeper_handler handlers[SURVEY_JOBS_COUNT];
  struct keeper_handlers known;
  char *file, *link; /* two names of one file; the table has the first */
};

static int set_up(void **state) {
  static struct desk desk;
  struct error error = {0};
  desk = (struct desk){.signer = {.name = (char *)"local", .signing_table_format = SIGNING_TABLE_REFILE, .reload = RELOAD_UNIT, .reload_target = (char *)"x.service"}};
  workplace_make(&desk.folder, "/run");
  CLEANUP_FREE char *keys = workplace_path(&desk.folder, "keys");
  CLEANUP_FREE char *domain = workplace_path(&desk.folder, "keys/example.com");
  CLEANUP_FREE char *others = workplace_path(&desk.folder, "any");
  CLEANUP_FREE char *other = workplace_path(&desk.folder, "any/example.com");
  CLEANUP_FREE char *any = workplace_path(&desk.folder, "any/example.com/k.private");
  CLEANUP_FREE char *unnamed = workplace_path(&desk.folder, "keys/example.com/unnamed.private");
  desk.signer.key_table = workplace_path(&desk.folder, "KeyTable");
  desk.signer.signing_table = workplace_path(&desk.folder, "SigningTable");
  desk.signer.key_directory = workplace_path(&desk.folder, "keys/%d");
  desk.file = workplace_path(&desk.folder, "keys/example.com/named.private");
  assert_int_equal(mkdir(keys, 0700) + mkdir(domain, 0700) + mkdir(others, 0700) + mkdir(other, 0700), 0);
  workplace_write(any, PEM, 0600);
  desk.link = workplace_path(&desk.folder, "link.private");
  workplace_write(desk.file, PEM, 0600);
  assert_int_equal(symlink(desk.file, desk.link), 0);
  workplace_write(unnamed, PEM, 0600);
  CLEANUP_FREE char *table = text_format("named example.com:named:%s\ninline example.com:inline:" INLINE_KEY "\nany %%:any:%s/any/%%/k.private\n", desk.file, desk.folder.path);
  workplace_write(desk.signer.key_table, table, 0600);
  workplace_write(desk.signer.signing_table, "*@example.com named\n", 0600);
  assert_int_equal(opendkim_roots_add(&desk.roots, &desk.signer, &error), 0);
  desk.known = (struct keeper_handlers){.items = desk.handlers, .count = survey_handlers(&desk.roots, desk.handlers)};
  *state = &desk;
  return 0;
}

static int tear_down(void **state) {
  struct desk *desk = *state;
  opendkim_roots_release(&desk->roots);
  free(desk->signer.key_table);
  free(desk->signer.signing_table);
  free(desk->signer.key_directory);
  free(desk->file);
  free(desk->link);
  workplace_remove(&desk->folder);
  return fault_teardown(state);
}

/* The job as a worker does it. */
static int run(const struct desk *desk, enum keeper_job job, const struct buffer *payload, struct buffer *reply, struct error *error) {
  struct reader request = {.data = payload->data, .size = payload->size};
  struct error result = {0};
  if (payload->failed) return error_set(error, ERROR_NO_MEMORY, "out of memory for a question");
  keeper_job_run(&desk->known, job, &request, reply, &result);
  if (result.code) *error = result;
  return result.code;
}

static int survey_act(void *context, struct error *error) {
  static const char *const domains[] = {"example.com"};
  const struct desk *desk = context;
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  CLEANUP(buffer_release) struct buffer reply = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  CLEANUP(survey_release) struct survey survey = {0};
  survey_request(&payload, &desk->signer, domains, 1);
  int result = run(desk, KEEPER_SURVEY, &payload, &reply, error);
  if (!result) result = survey_read(reply.data, reply.size, &desk->signer, &survey, error);
  if (result) return result;
  assert_int_equal(survey.count, KEYS);
  for (size_t i = 0; i < survey.count; i++)
    if (!survey.keys[i].public_half.public_key) fail_msg("the key %s is told without its public half: %s", survey.keys[i].selector, survey.keys[i].problem);
  return 0;
}

static void test_fault_survey__all_is_told_or_that_it_could_not_be(void **state) {
  const struct fault_workload workload = {.name = "survey", .context = *state, .act = survey_act};
  fault_each(&workload);
}

static int users_act(void *context, struct error *error) {
  const struct desk *desk = context;
  const char *const paths[] = {desk->file, desk->link, "/nobody/names/this"};
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  CLEANUP(buffer_release) struct buffer reply = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  char *users[ARRAY_SIZE(paths)] = {NULL};
  survey_request_users(&payload, paths, ARRAY_SIZE(paths));
  int result = run(desk, KEEPER_KEY_USERS, &payload, &reply, error);
  if (!result) result = survey_read_users(reply.data, reply.size, users, ARRAY_SIZE(paths), error);
  if (result) return result;
  const bool named = users[0] && users[1], other = users[2] != NULL;
  for (size_t i = 0; i < ARRAY_SIZE(users); i++) free(users[i]);
  /* Whoever is told that nobody names it destroys the key. */
  assert_true(named);
  assert_false(other);
  return 0;
}

static void test_fault_survey__a_file_that_a_table_names_is_never_said_to_be_free(void **state) {
  const struct fault_workload workload = {.name = "users of a key file", .context = *state, .act = users_act};
  fault_each(&workload);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_fault_survey__all_is_told_or_that_it_could_not_be, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_fault_survey__a_file_that_a_table_names_is_never_said_to_be_free, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
