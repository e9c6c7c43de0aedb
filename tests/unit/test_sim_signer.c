/* The simulator's OpenDKIM: that it behaves as the real one was measured, for mail and for the real milter client. */
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

#include "../sim/sim_signer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/keypair.h"
#include "dkimroll/opendkim_jobs.h"
#include "dkimroll/prove.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"
#include "workplace.h"

#define MILTER "inet:8891@127.0.0.1"
#define USER "user@a.test"

enum { DEADLINE_MS = 60000 };

static const struct clock_reading start = {.wall = 1800000000, .boottime = 1000};

struct rig {
  struct workplace folder;
  char *key_table, *signing_table;
  char *records[4]; /* of selectors s0 to s3 */
  struct entropy_seeded random;
  struct sim_signer signer;
  struct sim_signer *items[1];
  struct sim_signers signers;
  struct loop *loop;
  struct connector *connector;
  struct sim_signer_signature signatures[SIM_TABLES_MATCHES_MAX];
  size_t count;
  /* of the last proof */
  bool done;
  struct error connection;
  struct prove_result result;
};

static char *rig_key_path(const struct rig *rig, unsigned selector) {
  CLEANUP_FREE char *name = text_format("s%u.private", selector);
  return workplace_path(&rig->folder, name);
}

static void rig_make_key(struct rig *rig, unsigned selector) {
  CLEANUP_FREE char *path = rig_key_path(rig, selector);
  struct file_rights rights = {.owner = getuid(), .group = getgid(), .mode = 0600};
  struct keypair_public public = {0};
  struct error error;
  assert_int_equal(keypair_generate(KEY_ALGORITHM_ED25519, 256, path, &rights, &public, &error), 0);
  assert_int_equal(record_build(public.algorithm, public.public_key, public.public_key_size, &rig->records[selector], &error), 0);
  keypair_public_release(&public);
}

/* KeyTable names s0 and s1; a.test is signed for by selector. */
static void rig_write(struct rig *rig, unsigned selector) {
  CLEANUP_FREE char *first = rig_key_path(rig, 0);
  CLEANUP_FREE char *second = rig_key_path(rig, 1);
  CLEANUP_FREE char *keys = text_format("# keys\nk0 a.test:s0:%s\nk1\ta.test:s1:%s\n", first, second);
  CLEANUP_FREE char *senders = text_format("*@a.test k%u\n*@broken.test missing\n", selector);
  workplace_write(rig->key_table, keys, 0644);
  workplace_write(rig->signing_table, senders, 0644);
}

static void rig_open(struct rig *rig) {
  *rig = (struct rig){0};
  struct error error;
  workplace_make(&rig->folder, "/tmp");
  rig->key_table = workplace_path(&rig->folder, "KeyTable");
  rig->signing_table = workplace_path(&rig->folder, "SigningTable");
  rig_make_key(rig, 0);
  rig_make_key(rig, 1);
  rig_write(rig, 0);
  entropy_seed(&rig->random, 7);
  struct sim_tables_paths paths = {.key_table = rig->key_table, .signing_table = rig->signing_table, .format = SIGNING_TABLE_REFILE};
  sim_signer_init(&rig->signer, &paths, MILTER, "/run/opendkim.pid", &rig->random.entropy);
  rig->items[0] = &rig->signer;
  rig->signers = (struct sim_signers){.items = rig->items, .count = 1};
  assert_int_equal(loop_virtual_new(&start, &rig->loop, &error), 0);
  rig->connector = sim_signer_connector_new(rig->loop, &rig->signers);
  assert_true(sim_signer_start(&rig->signer));
}

static void rig_close(struct rig *rig) {
  connector_destroy(rig->connector);
  loop_destroy(rig->loop);
  sim_signer_release(&rig->signer);
  for (size_t i = 0; i < ARRAY_SIZE(rig->records); i++) free(rig->records[i]);
  free(rig->key_table);
  free(rig->signing_table);
  workplace_remove(&rig->folder);
}

static enum sim_signer_verdict rig_sign(struct rig *rig, struct sim_signer_connection *connection, const char *address) {
  return sim_signer_sign(&rig->signer, connection, address, rig->signatures, &rig->count);
}

static void assert_signed(struct rig *rig, struct sim_signer_connection *connection, unsigned selector) {
  char name[8];
  snprintf(name, sizeof(name), "s%u", selector);
  assert_int_equal(rig_sign(rig, connection, USER), SIM_SIGNER_SIGNED);
  assert_int_equal(rig->count, 1);
  assert_string_equal(rig->signatures[0].domain, "a.test");
  assert_string_equal(rig->signatures[0].selector, name);
  assert_string_equal(rig->signatures[0].record, rig->records[selector]);
  assert_true(text_ends(rig->records[selector], sim_signer_public_key(&rig->signatures[0])));
}

static void assert_reloads(struct rig *rig) {
  struct error error;
  assert_int_equal(sim_signer_reload(&rig->signer, false, &error), 0);
}

/* ---- mail ---- */

static void test_sim_signer__reload_is_lazy_and_old_connections_keep_old_tables(void **state) {
  (void)state;
  struct rig rig;
  rig_open(&rig);
  struct sim_signer_connection *old = sim_signer_connect(&rig.signer);
  assert_non_null(old);
  rig_write(&rig, 1);
  assert_signed(&rig, NULL, 0);
  assert_reloads(&rig);
  assert_int_equal(rig.signer.reloads, 0);
  /* What is in the tables when the next connection comes counts, not what was there at the signal. */
  assert_signed(&rig, old, 0);
  assert_int_equal(rig.signer.reloads, 0);
  assert_signed(&rig, NULL, 1);
  assert_int_equal(rig.signer.reloads, 1);
  assert_signed(&rig, old, 0);
  sim_signer_disconnect(old);
  rig_close(&rig);
}

static void test_sim_signer__half_states_defer_the_mail_of_their_sender_alone(void **state) {
  (void)state;
  struct rig rig;
  rig_open(&rig);
  CLEANUP_FREE char *path = rig_key_path(&rig, 0);
  assert_int_equal(rig_sign(&rig, NULL, "x@broken.test"), SIM_SIGNER_TEMPFAILED);
  assert_int_equal(rig_sign(&rig, NULL, "x@other.test"), SIM_SIGNER_UNSIGNED);
  assert_signed(&rig, NULL, 0);
  assert_int_equal(chmod(path, 0644), 0);
  assert_int_equal(rig_sign(&rig, NULL, USER), SIM_SIGNER_TEMPFAILED);
  assert_int_equal(chmod(path, 0640), 0);
  assert_signed(&rig, NULL, 0);
  /* Key files are opened for each message. */
  struct sim_signer_connection *old = sim_signer_connect(&rig.signer);
  assert_int_equal(unlink(path), 0);
  assert_int_equal(rig_sign(&rig, old, USER), SIM_SIGNER_TEMPFAILED);
  workplace_write(path, "no key\n", 0600);
  assert_int_equal(rig_sign(&rig, old, USER), SIM_SIGNER_TEMPFAILED);
  sim_signer_disconnect(old);
  workplace_write(rig.key_table, "k0 a.test:s0\n", 0644);
  assert_int_equal(unlink(path), 0);
  rig_make_key(&rig, 2);
  assert_reloads(&rig);
  assert_int_equal(rig_sign(&rig, NULL, USER), SIM_SIGNER_TEMPFAILED);
  rig_close(&rig);
}

static void test_sim_signer__missing_table_refuses_the_reload_and_the_next_start(void **state) {
  (void)state;
  struct rig rig;
  rig_open(&rig);
  assert_int_equal(unlink(rig.key_table), 0);
  assert_reloads(&rig);
  assert_signed(&rig, NULL, 0);
  assert_int_equal(rig.signer.refused_reloads, 1);
  assert_false(sim_signer_restart(&rig.signer));
  assert_false(sim_signer_is_up(&rig.signer));
  assert_int_equal(rig_sign(&rig, NULL, USER), SIM_SIGNER_DOWN);
  struct error error;
  assert_int_equal(sim_signer_reload(&rig.signer, false, &error), ERROR_NOT_FOUND);
  rig_write(&rig, 1);
  assert_true(sim_signer_start(&rig.signer));
  assert_signed(&rig, NULL, 1);
  rig_close(&rig);
}

static void test_sim_signer__its_end_ends_connections(void **state) {
  (void)state;
  struct rig rig;
  rig_open(&rig);
  struct sim_signer_connection *old = sim_signer_connect(&rig.signer);
  assert_true(sim_signer_restart(&rig.signer));
  assert_int_equal(rig_sign(&rig, old, USER), SIM_SIGNER_DOWN);
  assert_signed(&rig, NULL, 0);
  rig.signer.faults.refuses = true;
  assert_null(sim_signer_connect(&rig.signer));
  rig_close(&rig);
}

static void test_sim_signer__file_table_is_looked_up_by_keys(void **state) {
  (void)state;
  static const struct {
    const char *address, *selector;
  } cases[] = {{"u@a.test", "s1"}, {"other@a.test", "s2"}, {"u@x.b.test", "s3"}, {"o@x.b.test", "s4"}, {"o@b.test", "s6"}, {"u@b.test", "s5"}};
  struct rig rig;
  rig_open(&rig);
  workplace_write(rig.signing_table, "u@a.test k1\nA.test k2\nu@.b.test k3\n.b.test k4:ignored\nu@* k5\n* k6\na.test k0\n", 0644);
  struct buffer keys = BUFFER_WITH_MAXIMUM(4096);
  CLEANUP_FREE char *path = rig_key_path(&rig, 0);
  for (unsigned i = 0; i < 7; i++) buffer_format(&keys, "k%u %%:s%u:%s\n", i, i, path);
  CLEANUP_FREE char *text = buffer_take_text(&keys);
  workplace_write(rig.key_table, text, 0644);
  rig.signer.paths.format = SIGNING_TABLE_FILE;
  assert_reloads(&rig);
  for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
    assert_int_equal(rig_sign(&rig, NULL, cases[i].address), SIM_SIGNER_SIGNED);
    assert_string_equal(rig.signatures[0].selector, cases[i].selector);
    assert_string_equal(rig.signatures[0].domain, strchr(cases[i].address, '@') + 1);
  }
  rig_close(&rig);
}

static void test_sim_signer__first_match_signs_or_every_one(void **state) {
  (void)state;
  struct rig rig;
  rig_open(&rig);
  workplace_write(rig.signing_table, "nobody@a.test k1\nuser@A.test k0\n*@a.test k1\n *@a.test k0\n", 0644);
  assert_reloads(&rig);
  assert_signed(&rig, NULL, 0);
  rig.signer.paths.multiple_signatures = true;
  assert_reloads(&rig);
  assert_int_equal(rig_sign(&rig, NULL, USER), SIM_SIGNER_SIGNED);
  assert_int_equal(rig.count, 2);
  rig_close(&rig);
}

/* ---- the real milter client ---- */

static void rig_done(void *context, const struct error *connection, const struct prove_result *results, size_t count) {
  struct rig *rig = context;
  assert_int_equal(count, 1);
  rig->done = true;
  rig->connection = *connection;
  rig->result = results[0];
  loop_stop(rig->loop);
}

static enum prove_verdict rig_prove(struct rig *rig, const char *milter, unsigned selector) {
  char name[8];
  snprintf(name, sizeof(name), "s%u", selector);
  struct prove_message message = {.address = USER, .domain = "a.test", .selector = name, .record = rig->records[selector], .before = selector ? "s0" : NULL};
  struct prove_request request = {
      .milter = milter, .messages = &message, .count = 1, .group_count = 1, .deadline = loop_boottime(rig->loop) + DEADLINE_MS};
  struct prove *prove = NULL;
  struct error error;
  rig->done = false;
  assert_int_equal(prove_start(rig->connector, &rig->random.entropy, &request, rig_done, rig, &prove, &error), 0);
  assert_false(rig->done);
  assert_int_equal(loop_run(rig->loop, &error), 0);
  assert_true(rig->done);
  return rig->result.verdict;
}

static void assert_proved(struct rig *rig, unsigned selector) {
  if (rig_prove(rig, MILTER, selector) != PROVE_SIGNED) fail_msg("%s", rig->result.error.message);
}

static void test_sim_signer__client_proves_its_signature(void **state) {
  (void)state;
  struct rig rig;
  rig_open(&rig);
  assert_proved(&rig, 0);
  rig.signer.faults.takes_max = 7;
  rig.signer.faults.latency_ms = 200;
  assert_proved(&rig, 0);
  assert_true(loop_boottime(rig.loop) >= start.boottime + 5 * 200);
  /* Verified with another key's record it is no proof, so the signature is a real one. */
  CLEANUP_FREE char *right = rig.records[0];
  rig.records[0] = text_duplicate(rig.records[1]);
  assert_int_equal(rig_prove(&rig, MILTER, 0), PROVE_BAD_SIGNATURE);
  rig_close(&rig);
}

static void test_sim_signer__client_sees_lazy_reload_and_half_states(void **state) {
  (void)state;
  struct rig rig;
  rig_open(&rig);
  CLEANUP_FREE char *path = rig_key_path(&rig, 1);
  rig_write(&rig, 1);
  assert_int_equal(rig_prove(&rig, MILTER, 1), PROVE_BEFORE);
  assert_reloads(&rig);
  assert_proved(&rig, 1);
  assert_int_equal(chmod(path, 0604), 0);
  assert_int_equal(rig_prove(&rig, MILTER, 1), PROVE_TEMPFAILED);
  assert_non_null(strstr(rig.result.error.message, "end of headers"));
  workplace_write(rig.signing_table, "", 0644);
  assert_reloads(&rig);
  assert_int_equal(rig_prove(&rig, MILTER, 1), PROVE_UNSIGNED);
  rig_close(&rig);
}

static void test_sim_signer__client_sees_connections_that_fail(void **state) {
  (void)state;
  struct rig rig;
  rig_open(&rig);
  assert_int_equal(rig_prove(&rig, "inet:8892@127.0.0.1", 0), PROVE_NO_ANSWER);
  assert_int_equal(rig.connection.code, ERROR_UNREACHABLE);
  rig.signer.faults.cuts = 100;
  assert_int_equal(rig_prove(&rig, MILTER, 0), PROVE_NO_ANSWER);
  assert_int_equal(rig.connection.code, ERROR_UNREACHABLE);
  rig.signer.faults = (struct sim_signer_faults){.loses = 100};
  assert_int_equal(rig_prove(&rig, MILTER, 0), PROVE_NO_ANSWER);
  assert_int_equal(rig.connection.code, ERROR_TIMEOUT);
  rig.signer.faults = (struct sim_signer_faults){.hangs = true};
  assert_int_equal(rig_prove(&rig, MILTER, 0), PROVE_NO_ANSWER);
  assert_int_equal(rig.connection.code, ERROR_TIMEOUT);
  rig.signer.faults = (struct sim_signer_faults){0};
  sim_signer_stop(&rig.signer);
  assert_int_equal(rig_prove(&rig, MILTER, 0), PROVE_NO_ANSWER);
  assert_int_equal(rig.connection.code, ERROR_UNREACHABLE);
  assert_true(sim_signer_start(&rig.signer));
  assert_proved(&rig, 0);
  rig_close(&rig);
}

static void stop_signer(void *context) {
  sim_signer_stop(context);
}

static void test_sim_signer__client_sees_its_end_in_the_middle(void **state) {
  (void)state;
  struct rig rig;
  rig_open(&rig);
  rig.signer.faults.latency_ms = 1000;
  assert_int_equal(loop_at(rig.loop, start.boottime + 3500, stop_signer, &rig.signer, NULL), 0);
  assert_int_equal(rig_prove(&rig, MILTER, 0), PROVE_NO_ANSWER);
  assert_int_equal(rig.connection.code, ERROR_UNREACHABLE);
  assert_in_range(loop_boottime(rig.loop), start.boottime + 3500, start.boottime + 4500);
  rig_close(&rig);
}

static void test_sim_signer__destroyed_connector_takes_its_streams_along(void **state) {
  (void)state;
  struct rig rig;
  rig_open(&rig);
  struct sockaddr_storage address;
  socklen_t size = 0;
  struct error error;
  struct stream *stream = NULL;
  assert_int_equal(milter_parse_address(MILTER, &address, &size, &error), 0);
  struct connector_request request = {.address = &address, .size = size, .event = NULL};
  assert_int_equal(connector_open(rig.connector, &request, &stream, &error), 0);
  connector_destroy(rig.connector);
  rig.connector = NULL;
  assert_int_equal(loop_run(rig.loop, &error), ERROR_NOT_FOUND);
  rig_close(&rig);
}

/* ---- the keeper's job ---- */

struct job {
  struct loop *loop;
  struct error result;
};

static void job_done(void *context, const struct error *result, const uint8_t *reply, size_t reply_size) {
  struct job *job = context;
  (void)reply, (void)reply_size;
  job->result = *result;
  loop_stop(job->loop);
}

static int rig_run_reload(struct rig *rig, const char *pid_file, bool probe) {
  struct keeper_handler handler = sim_signer_reload_handler(&rig->signers);
  struct policy_signer policy = {.reload = RELOAD_PID_FILE, .reload_target = (char *)(uintptr_t)pid_file};
  struct job job = {.loop = rig->loop};
  struct keeper *keeper = NULL;
  struct error error;
  CLEANUP(buffer_release) struct buffer payload = BUFFER_WITH_MAXIMUM(4096);
  opendkim_jobs_reload(&payload, &policy, probe, 1000);
  assert_int_equal(keeper_direct_new(rig->loop, &handler, 1, &keeper, &error), 0);
  assert_int_equal(keeper_submit(keeper, KEEPER_RELOAD, &payload, loop_boottime(rig->loop) + 1000, job_done, &job, &error), 0);
  assert_int_equal(loop_run(rig->loop, &error), 0);
  keeper_destroy(keeper);
  return job.result.code;
}

static void test_sim_signer__keeper_reaches_it_with_the_real_payload(void **state) {
  (void)state;
  struct rig rig;
  rig_open(&rig);
  assert_int_equal(rig_run_reload(&rig, "/run/opendkim.pid", true), 0);
  assert_false(rig.signer.reload_due);
  assert_int_equal(rig_run_reload(&rig, "/run/other.pid", false), ERROR_PERMISSION);
  assert_false(rig.signer.reload_due);
  assert_int_equal(rig_run_reload(&rig, "/run/opendkim.pid", false), 0);
  assert_true(rig.signer.reload_due);
  rig.signer.reload_due = false;
  rig.signer.faults.reload_is_lost = true;
  assert_int_equal(rig_run_reload(&rig, "/run/opendkim.pid", false), 0);
  assert_false(rig.signer.reload_due);
  rig.signer.faults.reload_fails = true;
  assert_int_equal(rig_run_reload(&rig, "/run/opendkim.pid", false), ERROR_REFUSED);
  rig_close(&rig);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_sim_signer__reload_is_lazy_and_old_connections_keep_old_tables),
      cmocka_unit_test(test_sim_signer__half_states_defer_the_mail_of_their_sender_alone),
      cmocka_unit_test(test_sim_signer__missing_table_refuses_the_reload_and_the_next_start),
      cmocka_unit_test(test_sim_signer__its_end_ends_connections),
      cmocka_unit_test(test_sim_signer__file_table_is_looked_up_by_keys),
      cmocka_unit_test(test_sim_signer__first_match_signs_or_every_one),
      cmocka_unit_test(test_sim_signer__client_proves_its_signature),
      cmocka_unit_test(test_sim_signer__client_sees_lazy_reload_and_half_states),
      cmocka_unit_test(test_sim_signer__client_sees_connections_that_fail),
      cmocka_unit_test(test_sim_signer__client_sees_its_end_in_the_middle),
      cmocka_unit_test(test_sim_signer__destroyed_connector_takes_its_streams_along),
      cmocka_unit_test(test_sim_signer__keeper_reaches_it_with_the_real_payload),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
