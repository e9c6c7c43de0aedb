/* Each call that reads or writes a policy, a TSIG key, the tables of OpenDKIM or a private key fails once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/key_jobs.h"
#include "dkimroll/keeper_worker.h"
#include "dkimroll/table_files.h"
#include "dkimroll/text.h"
#include "dkimroll/tsig.h"
#include "fault.h"
#include "../unit/workplace.h"

enum { FILE_TEXT_MAX = 65536 };

/* A folder with what a workload works on. */
struct desk {
  struct workplace folder;
  const char *source;       /* policy or TSIG file */
  char *path, *other;       /* of the files at work */
  const char *before, *after;
  bool existing; /* the file is there when it begins */
};

static void desk_begin(void *context) {
  struct desk *desk = context;
  /* Not /tmp: a private key below a directory that everybody may write to is refused. */
  workplace_make(&desk->folder, "/run");
}

static void desk_end(void *context) {
  struct desk *desk = context;
  workplace_remove(&desk->folder);
  free(desk->path);
  free(desk->other);
  desk->path = desk->other = NULL;
}

static char *read_text(const char *path) {
  FILE *file = fopen(path, "re");
  if (!file) return NULL;
  char *text = calloc(1, FILE_TEXT_MAX);
  assert_non_null(text);
  fread(text, 1, FILE_TEXT_MAX - 1, file);
  fclose(file);
  return text;
}

static size_t count_files(const char *path) {
  DIR *directory = opendir(path);
  size_t count = 0;
  for (const struct dirent *entry = directory ? readdir(directory) : NULL; entry; entry = readdir(directory))
    count += !text_equal(entry->d_name, ".") && !text_equal(entry->d_name, "..");
  if (directory) closedir(directory);
  return count;
}

/* ---- policy ---- */

static int policy_act(void *context, struct error *error) {
  const struct desk *desk = context;
  struct policy_findings findings = {0};
  struct policy *policy = NULL;
  const int code = policy_load(desk->source, &policy, &findings, error);
  /* Nothing is wrong with the policy, whatever fails. */
  for (size_t i = 0; i < findings.count; i++) fail_msg("%s:%u: %s", findings.items[i].file, findings.items[i].place.line, findings.items[i].message);
  policy_findings_release(&findings);
  if (code == 0) assert_true(policy->domain_count > 0 && policy->digest[0]);
  policy_free(policy);
  return code;
}

static void test_fault_files__a_policy_is_read_whole_or_not_at_all(void **state) {
  (void)state;
  const char *const policies[] = {"policies/small-server.yaml", "policies/several-domains.yaml", "policies/provider.yaml"};
  for (size_t i = 0; i < ARRAY_SIZE(policies); i++) {
    struct desk desk = {.source = policies[i]};
    const struct fault_workload workload = {.name = policies[i], .context = &desk, .act = policy_act};
    fault_each(&workload);
  }
}

static void calendar_begin(void *context) {
  struct desk *desk = context;
  desk_begin(desk);
  desk->path = workplace_path(&desk->folder, "policy.yaml");
  workplace_write(desk->path, desk->before, 0644);
  desk->source = desk->path;
}

/* With everything that can be said about when. */
static void test_fault_files__a_calendar_is_read_whole_or_not_at_all(void **state) {
  (void)state;
  struct desk desk = {.before = "freeze: [\"12-20..01-06\", \"2027-05-13\"]\nmax-per-run: 20\nfailure-budget: 5%\n"
                                "policies:\n  one: {window: {days: [mon, tue], hours: [\"09:00-11:00\", \"14:00-16:00\"]}, freeze: [\"07-01..07-14\"], time-zone: America/New_York, jitter: 7d, standby: 2}\n"
                                "publishers:\n  tool: {type: command, command: [/bin/true, \"a b\"], wait: 10m}\n"
                                "  files: {type: zonefile, file: \"/srv/%z.dkim\", reload: {command: [/bin/true]}}\n"
                                "hooks: {transition: [/bin/true], needs-person: [/bin/false, x]}\nmetrics: {file: /srv/dkimroll.prom}\n"
                                "signers: {local: {key-table: /k/KeyTable, signing-table: \"refile:/k/SigningTable\", key-directory: /k/keys/%d, milter: \"unix:/k/sock\"}}\n"
                                "domains: {example.com: {policy: one, publisher: tool, signers: [local]}, example.org: {policy: one, publisher: files, signers: [local]}}\n"};
  const struct fault_workload workload = {.name = "calendar", .context = &desk, .begin = calendar_begin, .act = policy_act, .end = desk_end};
  fault_each(&workload);
}

/* ---- TSIG keys ---- */

static void tsig_begin(void *context) {
  struct desk *desk = context;
  desk_begin(desk);
  desk->path = workplace_path(&desk->folder, "tsig.key");
  workplace_write(desk->path, desk->before, 0600);
}

static int tsig_act(void *context, struct error *error) {
  const struct desk *desk = context;
  struct tsig_key *key = NULL;
  const int code = tsig_key_load(desk->path, &key, error);
  if (code == 0) assert_true(text_equal(key->name, "dkimroll") && key->secret_size == 32);
  tsig_key_free(key);
  return code;
}

#define SECRET "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

static void test_fault_files__a_tsig_key_is_read_or_not(void **state) {
  (void)state;
  const char *const formats[] = {"key \"dkimroll\" {\n  algorithm hmac-sha256;\n  secret \"" SECRET "\";\n};\n",
                                 "# hmac-sha256:dkimroll:" SECRET "\nkey:\n  - id: dkimroll\n    algorithm: hmac-sha256\n    secret: " SECRET "\n",
                                 "hmac-sha256:dkimroll:" SECRET "\n"};
  for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
    struct desk desk = {.before = formats[i]};
    const struct fault_workload workload = {
        .name = "tsig key", .context = &desk, .begin = tsig_begin, .act = tsig_act, .end = desk_end, .place = "tsig.key"};
    fault_each(&workload);
  }
}

/* ---- tables ---- */

#define KEYS_BEFORE "# ours and others\nother other.example:o:/k/o.private\nold example.com:old:/k/old\n"
#define SIGNING_BEFORE "*@other.example other\n*@example.com old\n"
#define SIGNING_AFTER "*@other.example other\n*@example.com new\n"

static void tables_begin(void *context) {
  struct desk *desk = context;
  desk_begin(desk);
  desk->path = workplace_path(&desk->folder, "KeyTable");
  desk->other = workplace_path(&desk->folder, "SigningTable");
  CLEANUP_FREE char *key = workplace_path(&desk->folder, "new.private");
  workplace_write(key, "", 0600);
  if (!desk->existing) return;
  workplace_write(desk->path, KEYS_BEFORE, 0640);
  workplace_write(desk->other, SIGNING_BEFORE, 0640);
}

static int tables_do(const struct desk *desk, bool try, struct error *error) {
  char value[128];
  snprintf(value, sizeof value, "example.com:new:%s/new.private", desk->folder.path);
  const struct table_files files = {.key_table = desk->path, .signing_table = desk->other, .format = SIGNING_TABLE_REFILE};
  const struct table_edit edits[] = {
      {.kind = TABLE_KEY_SET, .name = "new", .value = value, .beside = "old"},
      {.kind = TABLE_SIGN_POINT, .pattern = "*@example.com", .name = "new", .before = "old", .address = "anna@example.com"},
  };
  const struct table_item item = {.edits = edits, .edit_count = ARRAY_SIZE(edits)};
  struct table_outcome outcome = {0};
  int code = try ? table_files_try(&files, &item, 1, &outcome, error) : table_files_edit(&files, &item, 1, &outcome, error);
  if (code == 0 && outcome.error.code) {
    *error = outcome.error;
    code = outcome.error.code;
  }
  return code;
}

static int tables_act(void *context, struct error *error) { return tables_do(context, false, error); }
static int tables_try_act(void *context, struct error *error) { return tables_do(context, true, error); }

/* Old or new, each; never a sender that names a key which KeyTable lacks; nothing beside them. */
static void tables_check(void *context, bool whole) {
  const struct desk *desk = context;
  CLEANUP_FREE char *keys = read_text(desk->path);
  CLEANUP_FREE char *signing = read_text(desk->other);
  struct stat status;
  const bool keys_new = keys && strstr(keys, "\nnew example.com:new:/") != NULL;
  const bool keys_old = desk->existing ? text_equal(keys, KEYS_BEFORE) : !keys || !keys[0];
  const bool signing_new = desk->existing ? text_equal(signing, SIGNING_AFTER) : text_equal(signing, "*@example.com new\n");
  const bool signing_old = desk->existing ? text_equal(signing, SIGNING_BEFORE) : !signing || !signing[0];
  assert_true(keys_new || keys_old || (!desk->existing && text_starts(keys, "new example.com:new:/")));
  assert_true(signing_new || signing_old);
  if (signing_new) assert_false(keys_old);
  if (whole) assert_true(!keys_old && signing_new);
  if (desk->existing && stat(desk->path, &status) == 0) assert_int_equal(status.st_mode & 07777, 0640);
  const size_t files = count_files(desk->folder.path);
  if (files > 3) fail_msg("%zu files are there", files);
}

static void tables_try_check(void *context, bool whole) {
  const struct desk *desk = context;
  CLEANUP_FREE char *keys = read_text(desk->path);
  CLEANUP_FREE char *signing = read_text(desk->other);
  (void)whole;
  assert_string_equal(keys, KEYS_BEFORE);
  assert_string_equal(signing, SIGNING_BEFORE);
  /* What cannot be removed stays, until the next attempt. */
  const size_t left = count_files(desk->folder.path) - 3;
  assert_true(left == 0 || (left == 1 && text_equal(fault_fired(), "unlink")));
}

static void test_fault_files__tables_are_old_or_new(void **state) {
  (void)state;
  for (int existing = 0; existing <= 1; existing++) {
    struct desk desk = {.existing = existing};
    const struct fault_workload workload = {.name = existing ? "tables" : "tables that are missing",
                                            .context = &desk,
                                            .begin = tables_begin,
                                            .act = tables_act,
                                            .check = tables_check,
                                            .end = desk_end};
    fault_each(&workload);
  }
}

static void test_fault_files__tables_stay_when_they_are_only_tried(void **state) {
  (void)state;
  struct desk desk = {.existing = true};
  const struct fault_workload workload = {.name = "tables tried",
                                          .context = &desk,
                                          .begin = tables_begin,
                                          .act = tables_try_act,
                                          .check = tables_try_check,
                                          .end = desk_end};
  fault_each(&workload);
}

/* ---- private keys ---- */

static const struct file_rights key_rights = {.owner = 1, .group = 1, .mode = 0600};

static void key_make(const char *path) {
  struct keypair_public key = {0};
  struct error error = {0};
  if (keypair_generate(KEY_ALGORITHM_ED25519, 256, path, &key_rights, &key, &error)) fail_msg("%s", error.message);
  keypair_public_release(&key);
}

static bool key_is_whole(const char *path) {
  struct keypair_public key = {0};
  struct error error = {0};
  const bool whole = keypair_read_public(path, &key, &error) == 0 && key.public_key_size == 32;
  keypair_public_release(&key);
  return whole;
}

static void key_begin(void *context) {
  struct desk *desk = context;
  desk_begin(desk);
  desk->path = workplace_path(&desk->folder, "keys/example.com/s1.private");
  desk->other = workplace_path(&desk->folder, "archive/example.com");
  if (desk->existing) key_make(desk->path);
}

/* As the keeper's worker does it, so that what was made before counts as done. */
static int key_job(const struct desk *desk, enum keeper_job kind, struct buffer *payload, struct error *error) {
  struct key_roots roots = {0};
  struct keeper_handler handlers[KEY_JOBS_COUNT];
  const struct keeper_handlers table = {.items = handlers, .count = KEY_JOBS_COUNT};
  CLEANUP(buffer_release) struct buffer reply = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  int code = key_roots_add(&roots, desk->folder.path, error);
  key_jobs_handlers(&roots, handlers);
  struct reader request = {.data = payload->data, .size = payload->size};
  if (code == 0 && payload->failed) code = error_set(error, ERROR_NO_MEMORY, "%s: out of memory", desk->path);
  if (code == 0) {
    keeper_job_run(&table, kind, &request, &reply, error);
    code = error->code;
  }
  if (code == 0 && reply.failed) code = error_set(error, ERROR_NO_MEMORY, "%s: out of memory", desk->path);
  key_roots_release(&roots);
  return code;
}

static int generate_act(void *context, struct error *error) {
  const struct desk *desk = context;
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  const struct key_generate_request request = {.algorithm = KEY_ALGORITHM_ED25519, .bits = 256, .path = desk->path, .owner = "daemon:daemon", .mode = 0600};
  key_jobs_generate(&payload, &request);
  return key_job(desk, KEEPER_GENERATE, &payload, error);
}

/* The file is whole with its owner, or not there; no other file is. */
static void generate_check(void *context, bool whole) {
  const struct desk *desk = context;
  struct stat status;
  const bool there = stat(desk->path, &status) == 0;
  if (whole) assert_true(there);
  if (there) assert_true(key_is_whole(desk->path) && (status.st_mode & 07777) == 0600 && status.st_uid == key_rights.owner);
  CLEANUP_FREE char *folder = text_format("%s/keys/example.com", desk->folder.path);
  assert_int_equal(count_files(folder), there);
}

static void test_fault_files__a_key_is_made_whole_or_not_at_all(void **state) {
  (void)state;
  struct desk desk = {0};
  const struct fault_workload workload = {
      .name = "key made", .context = &desk, .begin = key_begin, .act = generate_act, .check = generate_check, .end = desk_end};
  fault_each(&workload);
  desk.existing = true;
  const struct fault_workload again = {
      .name = "key made before", .context = &desk, .begin = key_begin, .act = generate_act, .check = generate_check, .end = desk_end};
  fault_each(&again);
}

static int copy_act(void *context, struct error *error) {
  const struct desk *desk = context;
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  char copy[128];
  snprintf(copy, sizeof copy, "%s/other/s1.private", desk->folder.path);
  const struct key_generate_request request = {.path = copy, .owner = "daemon:daemon", .mode = 0600};
  key_jobs_copy(&payload, desk->path, &request);
  return key_job(desk, KEEPER_COPY, &payload, error);
}

static void copy_check(void *context, bool whole) {
  const struct desk *desk = context;
  CLEANUP_FREE char *copy = text_format("%s/other/s1.private", desk->folder.path);
  CLEANUP_FREE char *folder = text_format("%s/other", desk->folder.path);
  const bool there = access(copy, F_OK) == 0;
  assert_true(key_is_whole(desk->path));
  if (whole) assert_true(there);
  if (there) assert_true(key_is_whole(copy));
  assert_int_equal(count_files(folder), there);
}

static void test_fault_files__a_key_is_copied_whole_or_not_at_all(void **state) {
  (void)state;
  struct desk desk = {.existing = true};
  const struct fault_workload workload = {
      .name = "key copied", .context = &desk, .begin = key_begin, .act = copy_act, .check = copy_check, .end = desk_end};
  fault_each(&workload);
}

static int destroy_act(void *context, struct error *error) {
  const struct desk *desk = context;
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  key_jobs_path(&payload, desk->path);
  return key_job(desk, KEEPER_DESTROY, &payload, error);
}

static void destroy_check(void *context, bool whole) {
  const struct desk *desk = context;
  if (whole) assert_int_equal(access(desk->path, F_OK), -1);
}

static void test_fault_files__a_key_is_destroyed_at_the_next_attempt(void **state) {
  (void)state;
  struct desk desk = {.existing = true};
  const struct fault_workload workload = {
      .name = "key destroyed", .context = &desk, .begin = key_begin, .act = destroy_act, .check = destroy_check, .end = desk_end};
  fault_each(&workload);
}

static int archive_act(void *context, struct error *error) {
  const struct desk *desk = context;
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  key_jobs_archive(&payload, desk->path, desk->other);
  return key_job(desk, KEEPER_ARCHIVE, &payload, error);
}

/* At every moment one whole key is somewhere. */
static void archive_check(void *context, bool whole) {
  const struct desk *desk = context;
  CLEANUP_FREE char *archived = text_format("%s/s1.private", desk->other);
  const bool there = access(archived, F_OK) == 0;
  if (there) assert_true(key_is_whole(archived));
  assert_true(there || key_is_whole(desk->path));
  if (whole) assert_true(there && access(desk->path, F_OK) < 0);
  assert_int_equal(count_files(desk->other), there);
}

static void test_fault_files__a_key_is_never_lost_on_its_way_to_the_archive(void **state) {
  (void)state;
  struct desk desk = {.existing = true};
  const struct fault_workload workload = {
      .name = "key archived", .context = &desk, .begin = key_begin, .act = archive_act, .check = archive_check, .end = desk_end};
  fault_each(&workload);
}

static int safe_act(void *context, struct error *error) {
  const struct desk *desk = context;
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  key_jobs_check(&payload, desk->path, "daemon:daemon");
  return key_job(desk, KEEPER_CHECK_KEY, &payload, error);
}

static void test_fault_files__whether_a_key_is_safe_is_known_or_an_error(void **state) {
  (void)state;
  struct desk desk = {.existing = true};
  const struct fault_workload workload = {
      .name = "key checked", .context = &desk, .begin = key_begin, .act = safe_act, .end = desk_end};
  fault_each(&workload);
}

#define FAULT_TEST(name) cmocka_unit_test_teardown(test_fault_files__##name, fault_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      FAULT_TEST(a_policy_is_read_whole_or_not_at_all),
      FAULT_TEST(a_calendar_is_read_whole_or_not_at_all),
      FAULT_TEST(a_tsig_key_is_read_or_not),
      FAULT_TEST(tables_are_old_or_new),
      FAULT_TEST(tables_stay_when_they_are_only_tried),
      FAULT_TEST(a_key_is_made_whole_or_not_at_all),
      FAULT_TEST(a_key_is_copied_whole_or_not_at_all),
      FAULT_TEST(a_key_is_destroyed_at_the_next_attempt),
      FAULT_TEST(a_key_is_never_lost_on_its_way_to_the_archive),
      FAULT_TEST(whether_a_key_is_safe_is_known_or_an_error),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
