/* A signer of the policy over a real opendkim, for the tests of its operations. In a header, because it needs the
 * signer, which the helpers that are linked into every test must not. */
#ifndef DKIMROLL_TESTS_SIGNER_STAGE_H
#define DKIMROLL_TESTS_SIGNER_STAGE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/opendkim_jobs.h"
#include "dkimroll/signer.h"
#include "dkimroll/text.h"
#include "dkim_signer.h"
#include "opendkim_host.h"

#define FOREIGN_KEYS "# our keys\n\nfarm\tother.example:farm:/nowhere/farm.private\r\n"
#define FOREIGN_SENDERS "# who signs\ninfo@other.example\tfarm\n\n"

/* Ed25519 needs a relaxed header: see test_dkim_opendkim.c. */
#define ED25519_OPTIONS "SignatureAlgorithm ed25519-sha256\nCanonicalization relaxed/simple\n"

enum { DEADLINE_MS = 60000, RESULTS_MAX = SIGNER_ITEMS_MAX + 1 };

/* A signer of the policy for one opendkim, and the machinery that serves it. */
struct stage {
  struct opendkim_host host;
  struct policy_signer policy;
  struct opendkim_roots roots;
  struct keeper_handler handlers[OPENDKIM_JOBS_COUNT];
  struct loop *loop;
  struct connector *connector;
  struct keeper *keeper;
  struct signer *signer;
  char *key_directory;
  struct signer_result *results;
  size_t result_count;
};

#define NAME_OF_KEY ((char *)"%s._domainkey.%d")
#define NAME_OF_DOMAIN ((char *)"%d")

static inline void stage_connect(struct stage *stage) {
  struct error error = {0};
  assert_int_equal(opendkim_roots_add(&stage->roots, &stage->policy, &error), 0);
  size_t count = opendkim_jobs_handlers(&stage->roots, stage->handlers);
  assert_int_equal(count, OPENDKIM_JOBS_COUNT);
  assert_int_equal(loop_sd_event_new(&stage->loop, &error), 0);
  assert_int_equal(connector_sockets_new(stage->loop, &stage->connector, &error), 0);
  assert_int_equal(keeper_direct_new(stage->loop, stage->handlers, count, &stage->keeper, &error), 0);
  assert_int_equal(
      signer_opendkim_new(stage->connector, stage->keeper, &entropy_system, &stage->policy, &stage->signer, &error), 0);
}

static inline void stage_open(struct stage *stage, const struct opendkim_setup *setup) {
  *stage = (struct stage){0};
  opendkim_host_make(&stage->host, setup);
  opendkim_host_start(&stage->host);
  stage->key_directory = text_format("%s/%%d", stage->host.keys);
  stage->results = calloc(RESULTS_MAX, sizeof(*stage->results));
  stage->policy =
      (struct policy_signer){.name = (char *)"local",
                             .type = SIGNER_OPENDKIM,
                             .key_table = stage->host.key_table,
                             .signing_table = stage->host.signing_table,
                             .signing_table_format = setup->file_table ? SIGNING_TABLE_FILE : SIGNING_TABLE_REFILE,
                             .key_directory = stage->key_directory,
                             .key_name = NAME_OF_KEY,
                             .reload = RELOAD_PID_FILE,
                             .reload_target = stage->host.pid_file,
                             .reload_timeout = 10,
                             .milter = stage->host.milter};
}

static inline void stage_disconnect(struct stage *stage) {
  signer_destroy(stage->signer);
  connector_destroy(stage->connector);
  if (stage->keeper) keeper_destroy(stage->keeper);
  if (stage->loop) loop_destroy(stage->loop);
  opendkim_roots_release(&stage->roots);
  stage->signer = NULL;
  stage->connector = NULL;
  stage->keeper = NULL;
  stage->loop = NULL;
}

static inline void stage_close(struct stage *stage) {
  stage_disconnect(stage);
  opendkim_host_remove(&stage->host);
  free(stage->key_directory);
  free(stage->results);
}

/* Reloads by a command that also notes what KeyTable held at that moment, at the end of the file that it returns
 * (caller frees). */
static inline char *stage_note_reloads(struct stage *stage, char *words[3]) {
  char *notes = workplace_path(&stage->host.folder, "notes");
  words[0] = (char *)"/bin/sh";
  words[1] = (char *)"-c";
  words[2] = text_format("cat %s >>%s; echo reload >>%s; kill -USR1 %d", stage->host.key_table, notes, notes,
                         (int)stage->host.pid);
  stage->policy.reload = RELOAD_COMMAND;
  stage->policy.reload_target = NULL;
  stage->policy.reload_command = words;
  stage->policy.reload_command_count = 3;
  return notes;
}

static inline void stage_done(void *context, const struct signer_result *results, size_t count) {
  struct stage *stage = context;
  assert_true(count <= RESULTS_MAX);
  memcpy(stage->results, results, count * sizeof(*results));
  stage->result_count = count;
  loop_stop(stage->loop);
}

typedef int operation_start(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                            signer_done *done, void *context, struct signer_operation **ret_operation,
                            struct error *error);

static inline void stage_run(struct stage *stage, operation_start *start, const struct signer_item *items, size_t count,
                             int64_t milliseconds) {
  struct signer_operation *operation = NULL;
  struct error error = {0};
  stage->result_count = SIZE_MAX;
  int64_t deadline = loop_boottime(stage->loop) + milliseconds;
  assert_int_equal(start(stage->signer, items, count, deadline, stage_done, stage, &operation, &error), 0);
  /* done never comes from inside start. */
  assert_int_equal(stage->result_count, SIZE_MAX);
  assert_int_equal(loop_run(stage->loop, &error), 0);
  assert_true(stage->result_count != SIZE_MAX);
  /* A loop that was stopped has ended; and nothing that an operation needs may live in the process. */
  stage_disconnect(stage);
  stage_connect(stage);
}

static inline void assert_success(const struct stage *stage, size_t index) {
  if (stage->results[index].error.code) fail_msg("item %zu: %s", index, stage->results[index].error.message);
}

static inline void assert_failure(const struct stage *stage, size_t index, int code, const char *text) {
  const struct error *error = &stage->results[index].error;
  if (error->code != code || !strstr(error->message, text))
    fail_msg("item %zu: code %d, message: %s", index, error->code, error->message);
  assert_true(error->remedy[0] != '\0');
}

static inline void assert_file(const char *path, const char *expected) {
  CLEANUP_FREE char *text = opendkim_host_read(path);
  assert_string_equal(text, expected);
}

static inline void assert_tables(const struct stage *stage, const char *keys, const char *senders) {
  assert_file(stage->host.key_table, keys);
  assert_file(stage->host.signing_table, senders);
}

/* The record of every key that opendkim_host_key writes. */
static inline const char *record_of(bool ed25519) {
  static char *records[2];
  if (!records[ed25519]) records[ed25519] = dkim_signer_record(dkim_signer_key(ed25519, 0));
  return records[ed25519];
}

/* Item of a domain whose key file is written now. */
static inline struct signer_item item_of(const struct stage *stage, const char *domain, const char *selector,
                                         const char *previous, bool ed25519) {
  struct signer_item item = {.domain = domain,
                             .selector = selector,
                             .record = record_of(ed25519),
                             .previous_selector = previous,
                             .previous_record = record_of(ed25519)};
  item.key_path = opendkim_host_key(&stage->host, domain, selector, ed25519);
  if (previous) item.previous_key_path = opendkim_host_key(&stage->host, domain, previous, ed25519);
  return item;
}

static inline void item_release(struct signer_item *item) {
  free((char *)(uintptr_t)item->key_path);
  free((char *)(uintptr_t)item->previous_key_path);
}

/* One operation with one item, which succeeds. */
static inline void stage_succeed(struct stage *stage, operation_start *start, const struct signer_item *item) {
  stage_run(stage, start, item, 1, DEADLINE_MS);
  assert_success(stage, 0);
}

/* The first key of example.com, s1, which signs when it is returned. */
static inline struct signer_item stage_first_key(struct stage *stage) {
  struct signer_item item = item_of(stage, "example.com", "s1", NULL, false);
  stage_succeed(stage, signer_activate, &item);
  return item;
}

/* One signature of the running opendkim, as `prove` sees it. */
static inline void assert_signs_with(struct stage *stage, const char *domain, const char *selector) {
  struct signer_item item = {
      .domain = domain, .selector = selector, .record = record_of(strstr(stage->host.options, "ed25519") != NULL)};
  stage_succeed(stage, signer_prove, &item);
}

#endif
