/* What the OpenDKIM signer does when keys, tables, reloads, the signer itself or dkimroll fail, at a real opendkim. */
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "signer_stage.h"

enum { SHORT_DEADLINE_MS = 4000 }; /* for what fails only when time is up */

static void test_signer_failures__one_bad_key_among_many_rolls_back_alone(void **state) {
  (void)state;
  enum { DOMAINS = 20, BAD = 7 };
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){0});
  stage_connect(&stage);
  char domains[DOMAINS][32];
  struct signer_item first[DOMAINS];
  struct signer_item second[DOMAINS];
  for (size_t i = 0; i < DOMAINS; i++) {
    snprintf(domains[i], sizeof(domains[i]), "d%zu.example", i);
    first[i] = item_of(&stage, domains[i], "s1", NULL, false);
    second[i] = item_of(&stage, domains[i], "s2", "s1", false);
  }
  stage_run(&stage, signer_activate, first, DOMAINS, DEADLINE_MS);
  for (size_t i = 0; i < DOMAINS; i++) assert_success(&stage, i);
  workplace_write(second[BAD].key_path, "this is no key\n", 0600);

  stage_run(&stage, signer_activate, second, DOMAINS, DEADLINE_MS);
  for (size_t i = 0; i < DOMAINS; i++) {
    if (i == BAD) continue;
    assert_success(&stage, i);
    assert_false(stage.results[i].rolled_back);
  }
  assert_failure(&stage, BAD, ERROR_PROOF, "d7.example");
  assert_true(stage.results[BAD].rolled_back);
  CLEANUP_FREE char *keys = opendkim_host_read(stage.host.key_table);
  CLEANUP_FREE char *senders = opendkim_host_read(stage.host.signing_table);
  assert_null(strstr(keys, "s2._domainkey.d7.example"));
  assert_non_null(strstr(keys, "s2._domainkey.d8.example"));
  assert_non_null(strstr(senders, "*@d7.example s1._domainkey.d7.example\n"));
  assert_non_null(strstr(senders, "*@d8.example s2._domainkey.d8.example\n"));
  for (size_t i = 0; i < DOMAINS; i++) {
    assert_signs_with(&stage, domains[i], i == BAD ? "s1" : "s2");
    item_release(&first[i]);
    item_release(&second[i]);
  }
  stage_close(&stage);
}

static void test_signer_failures__failed_first_key_leaves_the_tables_as_they_were(void **state) {
  (void)state;
  for (int stable = 0; stable < 2; stable++) {
    struct stage stage;
    stage_open(&stage, &(struct opendkim_setup){.key_table = FOREIGN_KEYS, .signing_table = FOREIGN_SENDERS "# end"});
    stage.policy.key_name = stable ? NAME_OF_DOMAIN : NAME_OF_KEY;
    stage_connect(&stage);
    struct signer_item item = item_of(&stage, "example.com", "s1", NULL, false);
    workplace_write(item.key_path, "this is no key\n", 0600);
    stage_run(&stage, signer_activate, &item, 1, DEADLINE_MS);
    assert_failure(&stage, 0, ERROR_PROOF, "example.com");
    assert_true(stage.results[0].rolled_back);
    assert_tables(&stage, FOREIGN_KEYS, FOREIGN_SENDERS "# end");
    item_release(&item);
    stage_close(&stage);
  }
}

static void test_signer_failures__bad_key_leaves_the_table_only_after_the_signer_has_let_go_of_it(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){0});
  char *words[3];
  CLEANUP_FREE char *notes = stage_note_reloads(&stage, words);
  CLEANUP_FREE char *script = words[2];
  stage_connect(&stage);
  struct signer_item item = item_of(&stage, "example.com", "s1", NULL, false);
  workplace_write(item.key_path, "this is no key\n", 0600);
  stage_run(&stage, signer_activate, &item, 1, DEADLINE_MS);
  assert_true(stage.results[0].rolled_back);
  CLEANUP_FREE char *line = text_format("s1._domainkey.example.com example.com:s1:%s\nreload\n", item.key_path);
  CLEANUP_FREE char *expected = text_format("%s%s", line, line);
  assert_file(notes, expected);
  assert_tables(&stage, "", "");
  item_release(&item);
  stage_close(&stage);
}

static void test_signer_failures__failed_stable_name_gets_its_value_back(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){.file_table = true});
  stage.policy.key_name = NAME_OF_DOMAIN;
  stage_connect(&stage);
  struct signer_item first = stage_first_key(&stage);
  CLEANUP_FREE char *keys = opendkim_host_read(stage.host.key_table);
  CLEANUP_FREE char *senders = opendkim_host_read(stage.host.signing_table);
  struct signer_item second = item_of(&stage, "example.com", "s2", "s1", false);
  workplace_write(second.key_path, "this is no key\n", 0600);
  stage_run(&stage, signer_activate, &second, 1, DEADLINE_MS);
  assert_failure(&stage, 0, ERROR_PROOF, "example.com");
  assert_true(stage.results[0].rolled_back);
  assert_tables(&stage, keys, senders);
  item_release(&first);
  item_release(&second);
  stage_close(&stage);
}

static void test_signer_failures__signer_that_is_down_changes_nothing(void **state) {
  (void)state;
  for (int unix_socket = 0; unix_socket < 2; unix_socket++) {
    struct stage stage;
    stage_open(&stage, &(struct opendkim_setup){
                           .key_table = FOREIGN_KEYS, .signing_table = FOREIGN_SENDERS, .unix_socket = unix_socket});
    stage_connect(&stage);
    opendkim_host_stop(&stage.host);
    struct signer_item item = item_of(&stage, "example.com", "s1", NULL, false);
    stage_run(&stage, signer_activate, &item, 1, DEADLINE_MS);
    assert_failure(&stage, 0, ERROR_UNREACHABLE, "nothing was changed");
    assert_true(stage.results[0].error.retryable);
    assert_false(stage.results[0].rolled_back);
    assert_int_equal(stage.results[0].switched_at, 0);
    assert_tables(&stage, FOREIGN_KEYS, FOREIGN_SENDERS);
    item_release(&item);
    stage_close(&stage);
  }
}

static void test_signer_failures__refused_reload_is_found_by_the_proof_and_taken_back(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){0});
  stage_connect(&stage);
  struct signer_item first = stage_first_key(&stage);
  CLEANUP_FREE char *keys = opendkim_host_read(stage.host.key_table);
  CLEANUP_FREE char *senders = opendkim_host_read(stage.host.signing_table);
  opendkim_host_break_config(&stage.host, true);
  struct signer_item second = item_of(&stage, "example.com", "s2", "s1", false);
  stage_run(&stage, signer_activate, &second, 1, SHORT_DEADLINE_MS);
  assert_failure(&stage, 0, ERROR_PROOF, "s=s1, the key before");
  assert_true(stage.results[0].rolled_back);
  assert_tables(&stage, keys, senders);
  /* Once a person has repaired it, the same step succeeds. */
  opendkim_host_break_config(&stage.host, false);
  stage_succeed(&stage, signer_activate, &second);
  item_release(&first);
  item_release(&second);
  stage_close(&stage);
}

static void test_signer_failures__reload_that_cannot_be_asked_for_is_taken_back_on_disk(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){.key_table = FOREIGN_KEYS, .signing_table = FOREIGN_SENDERS});
  stage_connect(&stage);
  char other[16];
  snprintf(other, sizeof(other), "%d\n", (int)getpid());
  workplace_write(stage.host.pid_file, other, 0644);
  struct signer_item item = item_of(&stage, "example.com", "s1", NULL, false);
  stage_run(&stage, signer_activate, &item, 1, DEADLINE_MS);
  assert_failure(&stage, 0, ERROR_CONFLICT, "not opendkim");
  assert_non_null(strstr(stage.results[0].error.message, "senders are back on disk"));
  assert_false(stage.results[0].rolled_back);
  /* The KeyTable entry stays, because nobody knows what the signer has in memory. */
  assert_file(stage.host.signing_table, FOREIGN_SENDERS);
  item_release(&item);
  stage_close(&stage);
}

static void test_signer_failures__signal_that_arrives_late_is_waited_for(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){0});
  CLEANUP_FREE char *script =
      text_format("(sleep 0.5; kill -USR1 %d) >/dev/null 2>&1 </dev/null &", (int)stage.host.pid);
  char *command[] = {(char *)"/bin/sh", (char *)"-c", script};
  stage.policy.reload = RELOAD_COMMAND;
  stage.policy.reload_target = NULL;
  stage.policy.reload_command = command;
  stage.policy.reload_command_count = ARRAY_SIZE(command);
  stage_connect(&stage);
  struct signer_item first = stage_first_key(&stage);
  struct signer_item second = item_of(&stage, "example.com", "s2", "s1", false);
  stage_succeed(&stage, signer_activate, &second);
  item_release(&first);
  item_release(&second);
  stage_close(&stage);
}

static void test_signer_failures__missing_key_file_is_refused_before_any_edit(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){.key_table = FOREIGN_KEYS, .signing_table = FOREIGN_SENDERS});
  stage_connect(&stage);
  struct signer_item item = item_of(&stage, "example.com", "s1", NULL, false);
  assert_int_equal(unlink(item.key_path), 0);
  stage_run(&stage, signer_activate, &item, 1, DEADLINE_MS);
  assert_failure(&stage, 0, ERROR_NOT_FOUND, "s1.private");
  assert_int_equal(stage.results[0].switched_at, 0);
  assert_tables(&stage, FOREIGN_KEYS, FOREIGN_SENDERS);
  item_release(&item);
  stage_close(&stage);
}

static void test_signer_failures__conflicting_item_fails_alone_without_being_touched(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){.key_table = FOREIGN_KEYS, .signing_table = "*@a.example farm\n"});
  stage_connect(&stage);
  struct signer_item items[] = {item_of(&stage, "a.example", "s1", NULL, false),
                                item_of(&stage, "b.example", "s1", NULL, false)};
  stage_run(&stage, signer_activate, items, 2, DEADLINE_MS);
  assert_failure(&stage, 0, ERROR_CONFLICT, "line 1");
  assert_success(&stage, 1);
  assert_file(stage.host.signing_table, "*@a.example farm\n*@b.example s1._domainkey.b.example\n");
  item_release(&items[0]);
  item_release(&items[1]);
  stage_close(&stage);
}

static void test_signer_failures__crash_at_any_step_is_repaired_by_doing_it_again(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){0});
  stage_connect(&stage);
  struct signer_item first = stage_first_key(&stage);
  CLEANUP_FREE char *keys_before = opendkim_host_read(stage.host.key_table);
  CLEANUP_FREE char *senders_before = opendkim_host_read(stage.host.signing_table);
  struct signer_item second = item_of(&stage, "example.com", "s2", "s1", false);
  stage_succeed(&stage, signer_activate, &second);
  CLEANUP_FREE char *keys_after = opendkim_host_read(stage.host.key_table);
  CLEANUP_FREE char *senders_after = opendkim_host_read(stage.host.signing_table);
  /* Died between the two renames, before the reload, before the proof. */
  const char *left[][2] = {{keys_after, senders_before}, {keys_after, senders_after}};
  for (size_t i = 0; i < ARRAY_SIZE(left); i++) {
    opendkim_host_stop(&stage.host);
    workplace_write(stage.host.key_table, keys_before, 0644);
    workplace_write(stage.host.signing_table, senders_before, 0644);
    opendkim_host_start(&stage.host);
    workplace_write(stage.host.key_table, left[i][0], 0644);
    workplace_write(stage.host.signing_table, left[i][1], 0644);
    stage_succeed(&stage, signer_activate, &second);
    assert_tables(&stage, keys_after, senders_after);
  }
  item_release(&first);
  item_release(&second);
  stage_close(&stage);
}

static void test_signer_failures__table_that_another_process_holds_is_waited_for(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){0});
  stage_connect(&stage);
  struct signer_item item = item_of(&stage, "example.com", "s1", NULL, false);
  int ready[2];
  assert_int_equal(pipe(ready), 0);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int lock = open(stage.host.key_table, O_RDONLY);
    if (flock(lock, LOCK_EX) < 0 || write(ready[1], "", 1) != 1) _exit(1);
    poll(NULL, 0, 500);
    _exit(0);
  }
  char octet = 0;
  assert_int_equal(read(ready[0], &octet, 1), 1);
  stage_succeed(&stage, signer_activate, &item);
  waitpid(pid, NULL, 0);
  close(ready[0]);
  close(ready[1]);
  item_release(&item);
  stage_close(&stage);
}

/* Activates in a process of its own, so that it can be killed. */
static void activate_and_be_killed(struct stage *stage, const struct signer_item *item, int64_t after_us) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    stage->loop = NULL;
    stage->keeper = NULL;
    stage->signer = NULL;
    stage->roots = (struct opendkim_roots){0};
    stage_connect(stage);
    stage_run(stage, signer_activate, item, 1, DEADLINE_MS);
    _exit(0);
  }
  struct timespec pause = {.tv_nsec = after_us * 1000};
  nanosleep(&pause, NULL);
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
}

static void test_signer_failures__process_killed_at_any_moment_leaves_tables_that_agree(void **state) {
  (void)state;
  enum { KILLS = 24, STEP_US = 400 };
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){0});
  stage_connect(&stage);
  char selectors[KILLS + 1][16];
  const char *previous = NULL;
  for (int i = 0; i < KILLS; i++) {
    snprintf(selectors[i], sizeof(selectors[i]), "s%d", i);
    struct signer_item item = item_of(&stage, "example.com", selectors[i], previous, false);
    activate_and_be_killed(&stage, &item, (int64_t)i * STEP_US);
    /* Whatever was left: the sender's key name is in KeyTable. */
    CLEANUP_FREE char *keys = opendkim_host_read(stage.host.key_table);
    CLEANUP_FREE char *senders = opendkim_host_read(stage.host.signing_table);
    char named[64] = "";
    if (sscanf(senders, "*@example.com %63s", named) == 1) assert_non_null(strstr(keys, named));
    stage_succeed(&stage, signer_activate, &item);
    previous = selectors[i];
    item_release(&item);
  }
  stage_close(&stage);
}

/* One operation that is cancelled unless it is faster than that. */
struct cancelled {
  struct signer_operation *operation;
  bool cancelled;
};

static void done_before_cancel(void *context, const struct signer_result *results, size_t count) {
  struct cancelled *cancelled = context;
  (void)results, (void)count;
  if (cancelled->cancelled) fail_msg("done after cancel");
  cancelled->operation = NULL;
}

static void stop_loop(void *context) {
  loop_stop(context);
}

static void test_signer_failures__cancel_at_any_moment_is_silent_and_repeatable(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){0});
  stage_connect(&stage);
  struct signer_item item = item_of(&stage, "example.com", "s1", NULL, false);
  for (int i = 0; i < 12; i++) {
    struct cancelled cancelled = {0};
    struct error error = {0};
    int64_t now = loop_boottime(stage.loop);
    assert_int_equal(signer_activate(stage.signer, &item, 1, now + DEADLINE_MS, done_before_cancel, &cancelled,
                                     &cancelled.operation, &error),
                     0);
    if (i > 0) {
      assert_int_equal(loop_at(stage.loop, now + i / 3, stop_loop, stage.loop, NULL), 0);
      assert_int_equal(loop_run(stage.loop, &error), 0);
    }
    cancelled.cancelled = true;
    signer_cancel(stage.signer, &cancelled.operation);
    assert_null(cancelled.operation);
    stage_disconnect(&stage);
    stage_connect(&stage);
  }
  stage_succeed(&stage, signer_activate, &item);
  item_release(&item);
  stage_close(&stage);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_signer_failures__one_bad_key_among_many_rolls_back_alone),
      cmocka_unit_test(test_signer_failures__failed_first_key_leaves_the_tables_as_they_were),
      cmocka_unit_test(test_signer_failures__bad_key_leaves_the_table_only_after_the_signer_has_let_go_of_it),
      cmocka_unit_test(test_signer_failures__failed_stable_name_gets_its_value_back),
      cmocka_unit_test(test_signer_failures__signer_that_is_down_changes_nothing),
      cmocka_unit_test(test_signer_failures__refused_reload_is_found_by_the_proof_and_taken_back),
      cmocka_unit_test(test_signer_failures__reload_that_cannot_be_asked_for_is_taken_back_on_disk),
      cmocka_unit_test(test_signer_failures__signal_that_arrives_late_is_waited_for),
      cmocka_unit_test(test_signer_failures__missing_key_file_is_refused_before_any_edit),
      cmocka_unit_test(test_signer_failures__conflicting_item_fails_alone_without_being_touched),
      cmocka_unit_test(test_signer_failures__crash_at_any_step_is_repaired_by_doing_it_again),
      cmocka_unit_test(test_signer_failures__table_that_another_process_holds_is_waited_for),
      cmocka_unit_test(test_signer_failures__process_killed_at_any_moment_leaves_tables_that_agree),
      cmocka_unit_test(test_signer_failures__cancel_at_any_moment_is_silent_and_repeatable),
  };
  signal(SIGPIPE, SIG_IGN);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
