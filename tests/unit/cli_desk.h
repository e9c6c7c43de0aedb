/* A desk for commands that look: a policy and a real store in a folder of their own, lineages that were played to where a test wants them, and the
 * command's output in strings. In a header, because it needs the whole library, which the helpers that are linked into every test must not. */
#ifndef DKIMROLL_TESTS_CLI_DESK_H
#define DKIMROLL_TESTS_CLI_DESK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/forecast.h"
#include "dkimroll/session.h"
#include "dkimroll/text.h"
#include "dkimroll/timing.h"
#include "workplace.h"

enum { MINUTE = 60, HOUR = 3600, DAY = 86400 };

#define DESK_HEAD                                                                                                      \
  "policies: {standard: {}, double: {selector: \"d%%Y%%m%%d\", keys: {main: {algorithm: rsa, bits: 2048}, second: "    \
  "{algorithm: rsa, bits: 3072, "                                                                                      \
  "selector: \"e%%Y%%m%%d\"}}}}\n"                                                                                     \
  "publishers: {primary: {server: \"127.0.0.1:53\"}}\n"                                                                \
  "signers: {local: {key-table: /k/KeyTable, signing-table: \"refile:/k/SigningTable\", multiple-signatures: yes, "    \
  "key-directory: /k/keys/%%d, milter: \"unix:/k/sock\"}}\n"                                                           \
  "domain-defaults: {policy: standard, publisher: primary, signers: [local]}\n"

struct desk {
  struct workplace folder;
  char *policy, *state; /* paths */
  struct cli_wiring wiring;
  struct cli_arguments arguments;
  int64_t now;
  char *out, *err; /* of the last command */
};

/* The domains: part of the policy. */
static inline void desk_write_policy(struct desk *desk, const char *domains) {
  CLEANUP_FREE char *text = text_format("state: %s\n" DESK_HEAD "domains:\n%s", desk->state, domains);
  assert_non_null(text);
  workplace_write(desk->policy, text, 0644);
}

static inline struct policy *desk_load_policy(const struct desk *desk) {
  struct policy_findings findings = {0};
  struct policy *policy = NULL;
  struct error error = {0};
  const int result = policy_load(desk->policy, &policy, &findings, &error);
  for (size_t i = 0; i < findings.count; i++)
    print_error("%u: %s\n", findings.items[i].place.line, findings.items[i].message);
  policy_findings_release(&findings);
  if (result) fail_msg("%s", error.message);
  return policy;
}

static inline struct store *desk_open_store(const struct desk *desk) {
  struct store *store = NULL;
  struct error error = {0};
  if (store_sqlite_open(desk->state, false, &store, &error)) fail_msg("%s", error.message);
  return store;
}

/* As `dkimroll run` does it at its start. */
static inline void desk_sync(struct desk *desk) {
  struct policy *policy = desk_load_policy(desk);
  struct store *store = desk_open_store(desk);
  struct stat status;
  struct error error = {0};
  assert_int_equal(stat(desk->policy, &status), 0);
  struct store_file_stamp file = {.path = policy->files[0],
                                  .size = status.st_size,
                                  .inode = (int64_t)status.st_ino,
                                  .device = (int64_t)status.st_dev,
                                  .modified_ns = (int64_t)status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec,
                                  .changed_ns = (int64_t)status.st_ctim.tv_sec * 1000000000 + status.st_ctim.tv_nsec};
  struct store_policy_stamp stamp = {.files = &file, .file_count = 1};
  struct store_sync_report report;
  text_copy(stamp.digest, sizeof stamp.digest, policy->digest);
  if (store->ops->sync(store, policy, &stamp, desk->now, &report, &error)) fail_msg("%s", error.message);
  store_close(store);
  policy_free(policy);
}

static inline void desk_make(struct desk *desk, const char *domains) {
  struct clock_reading reading;
  *desk = (struct desk){.wiring = {.open_store = store_sqlite_open}};
  workplace_make(&desk->folder, "/tmp");
  desk->policy = workplace_path(&desk->folder, "policy.yaml");
  desk->state = workplace_path(&desk->folder, "state.db");
  clock_read(&reading);
  desk->now = reading.wall;
  desk_write_policy(desk, domains);
}

static inline void desk_remove(struct desk *desk) {
  workplace_remove(&desk->folder);
  free(desk->policy);
  free(desk->state);
  free(desk->out);
  free(desk->err);
}

/* Runs command with operands (ending with NULL); returns its exit status. */
static inline int desk_run(struct desk *desk, int (*command)(const struct cli *cli), const char *const *operands) {
  size_t out_size, err_size, count = 0;
  while (operands && operands[count]) count++;
  free(desk->out);
  free(desk->err);
  desk->arguments.policy = desk->policy;
  desk->arguments.operands = operands;
  desk->arguments.operand_count = count;
  struct cli cli = {.wiring = &desk->wiring,
                    .arguments = &desk->arguments,
                    .out = open_memstream(&desk->out, &out_size),
                    .err = open_memstream(&desk->err, &err_size)};
  assert_true(cli.out && cli.err);
  const int status = command(&cli);
  fclose(cli.out);
  fclose(cli.err);
  return status;
}
#define DOMAINS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* ---- lineages ---- */

typedef void desk_change(struct lineage *lineage, const struct desk *desk, void *context);

struct desk_edit {
  const struct desk *desk;
  const char *slot;
  desk_change *change;
  void *context;
  struct lineage copies[POLICY_SLOTS_MAX];
  struct lineage *pointers[POLICY_SLOTS_MAX];
  size_t count;
};

static inline int desk_edit_row(void *context, const void *row) {
  struct desk_edit *edit = context;
  struct error error = {0};
  const struct lineage *lineage = row;
  if (edit->slot && !text_equal(edit->slot, lineage->slot)) return 0;
  assert_int_equal(lineage_copy(lineage, &edit->copies[edit->count], &error), 0);
  edit->pointers[edit->count] = &edit->copies[edit->count];
  edit->change(&edit->copies[edit->count++], edit->desk, edit->context);
  return 0;
}

/* Changes the lineages of a domain (slot NULL: all) and commits them. */
static inline void desk_edit(struct desk *desk, const char *domain, const char *slot, desk_change *change,
                             void *context) {
  struct store *store = desk_open_store(desk);
  struct desk_edit edit = {.desk = desk, .slot = slot, .change = change, .context = context};
  const struct store_filter filter = {.domain = domain};
  struct error error = {0};
  assert_int_equal(store->ops->select(store, STORE_SELECT_LINEAGES, &filter, desk_edit_row, &edit, &error), 0);
  assert_true(edit.count > 0);
  const struct store_commit commit = {.lineages = edit.pointers, .lineage_count = edit.count};
  if (store->ops->commit(store, &commit, &error)) fail_msg("%s", error.message);
  for (size_t i = 0; i < edit.count; i++) lineage_release(&edit.copies[i]);
  store_close(store);
}

static inline int desk_ignore_step(void *context, const struct forecast_step *step) {
  (void)context;
  (void)step;
  return 0;
}

/* Plays the lineage, by the planner, from *context (int64_t: seconds before now) until now, with all going well; context NULL: 30 days. */
static inline void desk_live(struct lineage *lineage, const struct desk *desk, void *context) {
  const int64_t ago = context ? *(int64_t *)context : 30 * DAY;
  struct error error = {0};
  struct plan plan;
  const struct forecast forecast = {.now = desk->now - ago, .until = desk->now, .callback = desk_ignore_step};
  if (forecast_lineages(&forecast, lineage, 1, &error)) fail_msg("%s", error.message);
  plan_lineage(lineage, &(struct plan_clock){.now = desk->now, .attested = true, .skip_watch = true}, &plan);
  lineage->next_moment = plan.next;
  for (size_t i = 0; i < lineage->key_count; i++) {
    free(lineage->keys[i].record);
    lineage->keys[i].record = text_duplicate("v=DKIM1; k=rsa; p=MIIB");
  }
}

/* One round of observation of the first key by two servers, the second with answer (NULL: right), at *at. */
struct desk_round {
  int64_t at;
  const char *answer;
};
static inline void desk_confirm(struct lineage *lineage, const struct desk *desk, void *context) {
  const struct desk_round *round = context;
  struct event_list events = {0};
  struct error error = {0};
  struct sighting_report reports[] = {{.host = "ns1.example.net",
                                       .address = "192.0.2.1:53",
                                       .right = true,
                                       .at = round->at,
                                       .ttl = 3600,
                                       .ttl_negative = 300,
                                       .answer = "right"},
                                      {.host = "ns2.example.net",
                                       .address = "192.0.2.2:53",
                                       .right = !round->answer,
                                       .at = round->at,
                                       .ttl = -1,
                                       .ttl_negative = -1,
                                       .answer = round->answer}};
  const struct outcome outcome = {.action = PLAN_CONFIRM, .at = round->at, .sightings = reports, .sighting_count = 2};
  (void)desk;
  assert_int_equal(lifecycle_apply(lineage, &outcome, round->at, &events, &error), 0);
  event_list_release(&events);
}

/* A published key, since so many seconds before now. */
static inline void desk_publish(struct lineage *lineage, const struct desk *desk, void *context) {
  const int64_t at = desk->now - *(int64_t *)context;
  struct event_list events = {0};
  struct error error = {0};
  size_t index;
  assert_int_equal(lifecycle_reserve(lineage, at, 1, &index, &events, &error), 0);
  struct outcome outcome = {.action = PLAN_GENERATE,
                            .key = index,
                            .at = at,
                            .record = "v=DKIM1; k=rsa; p=MIIB",
                            .ttl_negative = 300,
                            .ttl_old = -1};
  assert_int_equal(lifecycle_apply(lineage, &outcome, at, &events, &error), 0);
  outcome = (struct outcome){.action = PLAN_PUBLISH,
                             .key = index,
                             .at = at,
                             .ttl = 3600,
                             .zone = "example.com",
                             .primary_server = "127.0.0.1:53",
                             .ttl_negative = 300,
                             .ttl_old = -1};
  assert_int_equal(lifecycle_apply(lineage, &outcome, at, &events, &error), 0);
  event_list_release(&events);
  lineage->next_moment = desk->now;
}

/* A failure of the next step, *context (const char *): what failed. */
static inline void desk_fail(struct lineage *lineage, const struct desk *desk, void *context) {
  lineage->failures = 3;
  lineage->failure = text_duplicate(context);
  lineage->retry_at = lineage->next_moment = desk->now + 600;
}

/* ---- what was printed ---- */

static inline void assert_contains(const char *text, const char *part) {
  if (!strstr(text, part)) fail_msg("there is no \"%s\" in:\n%s", part, text);
}
static inline void assert_lacks(const char *text, const char *part) {
  if (strstr(text, part)) fail_msg("there is \"%s\" in:\n%s", part, text);
}
static inline size_t count_lines(const char *text) {
  size_t count = 0;
  for (; *text; text++) count += *text == '\n';
  return count;
}
/* The line that begins with start (after spaces), as a copy; caller frees. */
static inline char *find_line(const char *text, const char *start) {
  for (const char *line = text; *line; line += strcspn(line, "\n") + (line[strcspn(line, "\n")] == '\n')) {
    const char *word = line + strspn(line, " ");
    if (text_starts(word, start)) return strndup(word, strcspn(word, "\n"));
  }
  fail_msg("no line begins with \"%s\" in:\n%s", start, text);
  return NULL;
}

/* What path ("$.keys[0].state") is in a JSON document; "NULL" for null and nothing. Fails if the document is not valid. Caller frees. */
static inline char *json_read(const char *document, const char *path) {
  sqlite3 *database = NULL;
  sqlite3_stmt *statement = NULL;
  assert_int_equal(sqlite3_open(":memory:", &database), SQLITE_OK);
  assert_int_equal(sqlite3_prepare_v2(database,
                                      "SELECT json_valid(?1), CASE WHEN json_valid(?1) THEN json_extract(?1, ?2) END",
                                      -1, &statement, NULL),
                   SQLITE_OK);
  sqlite3_bind_text(statement, 1, document, -1, SQLITE_STATIC);
  sqlite3_bind_text(statement, 2, path, -1, SQLITE_STATIC);
  assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
  if (!sqlite3_column_int(statement, 0)) fail_msg("this is no JSON:\n%s", document);
  const char *value = (const char *)sqlite3_column_text(statement, 1);
  char *copy = text_duplicate(value ? value : "NULL");
  sqlite3_finalize(statement);
  sqlite3_close(database);
  return copy;
}
static inline void assert_json(const char *document, const char *path, const char *expected) {
  CLEANUP_FREE char *value = json_read(document, path);
  if (!text_equal(value, expected)) fail_msg("%s is %s, not %s, in:\n%s", path, value, expected, document);
}

#endif
