/* The keeper's reload jobs by a command or a pid file: what they run and signal, what they say of failures, and what is not allowed. Units: test_opendkim_reload_unit. */
#include "opendkim_jobs_rig.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* ---- commands ---- */

static void set_command(struct stage *stage, char **words, size_t count) {
  stage->policy.reload = RELOAD_COMMAND;
  stage->policy.reload_command = words;
  stage->policy.reload_command_count = count;
  stage_allow(stage);
}

static void set_script(struct stage *stage, char *words[3], const char *script) {
  words[0] = (char *)"/bin/sh";
  words[1] = (char *)"-c";
  words[2] = (char *)(uintptr_t)script;
  set_command(stage, words, 3);
}

static void test_opendkim_reload__command_gets_its_words_and_no_shell(void **state) {
  struct stage *stage = *state;
  CLEANUP_FREE char *mark = workplace_path(&stage->folder, "a b;$(x)");
  char *words[] = {(char *)"/usr/bin/touch", (char *)"--", mark};
  set_command(stage, words, 3);
  assert_int_equal(stage_reload(stage, false, PLENTY_MS), 0);
  assert_int_equal(access(mark, F_OK), 0);
}

static void test_opendkim_reload__command_that_fails_is_reported_with_its_output(void **state) {
  struct stage *stage = *state;
  char *words[3];
  set_script(stage, words, "echo to stdout; echo to stderr >&2; exit 3");
  assert_int_equal(stage_reload(stage, false, PLENTY_MS), ERROR_REFUSED);
  assert_non_null(strstr(stage->error.message, "exit status 3"));
  assert_non_null(strstr(stage->error.message, "to stdout"));
  assert_non_null(strstr(stage->error.message, "to stderr"));
  set_script(stage, words, "kill -SEGV $$");
  assert_int_equal(stage_reload(stage, false, PLENTY_MS), ERROR_REFUSED);
  assert_non_null(strstr(stage->error.message, "signal 11"));
  set_script(stage, words, "yes | head -c 10000000; exit 1");
  assert_int_equal(stage_reload(stage, false, PLENTY_MS), ERROR_REFUSED);
}

static void test_opendkim_reload__command_sees_neither_our_environment_nor_our_files(void **state) {
  struct stage *stage = *state;
  char *words[3];
  CLEANUP_CLOSE int inherited = fcntl(STDIN_FILENO, F_DUPFD, 100); /* without O_CLOEXEC */
  assert_true(inherited >= 100);
  setenv("DKIMROLL_TEST_SECRET", "leak", 1);
  CLEANUP_FREE char *script =
      text_format("test -z \"$DKIMROLL_TEST_SECRET\" && test ! -e /proc/$$/fd/%d && ! read x", inherited);
  set_script(stage, words, script);
  if (stage_reload(stage, false, PLENTY_MS) < 0) fail_msg("%s", stage->error.message);
  unsetenv("DKIMROLL_TEST_SECRET");
}

static void test_opendkim_reload__command_that_hangs_is_killed_with_its_children(void **state) {
  struct stage *stage = *state;
  char *words[3];
  CLEANUP_FREE char *pid_path = workplace_path(&stage->folder, "pid");
  CLEANUP_FREE char *script = text_format("trap '' TERM; sleep 1000 & echo $! >%s; echo waiting; wait", pid_path);
  set_script(stage, words, script);
  int64_t start = clock_boottime();
  assert_int_equal(stage_reload(stage, false, SHORT_MS), ERROR_TIMEOUT);
  assert_true(clock_boottime() - start < PLENTY_MS);
  assert_non_null(strstr(stage->error.message, "waiting"));
  char *text = NULL;
  size_t size = 0;
  assert_int_equal(file_read(pid_path, 64, &text, &size, NULL, &stage->error), 0);
  pid_t child = (pid_t)strtol(text, NULL, 10);
  free(text);
  /* It may not be reaped at once; but it has ended. */
  CLEANUP_CLOSE int process = pidfd_open(child, 0);
  struct pollfd polled = {.fd = process, .events = POLLIN};
  if (process >= 0) assert_int_equal(poll(&polled, 1, PLENTY_MS), 1);
}

static void test_opendkim_reload__command_that_leaves_a_daemon_behind_does_not_hold_us(void **state) {
  struct stage *stage = *state;
  char *words[3];
  set_script(stage, words, "sleep 5 & exit 0");
  int64_t start = clock_boottime();
  assert_int_equal(stage_reload(stage, false, PLENTY_MS), 0);
  assert_true(clock_boottime() - start < 4000);
}

static void test_opendkim_reload__command_that_is_not_there_or_not_the_policys(void **state) {
  struct stage *stage = *state;
  char *missing[] = {(char *)"/nonexistent/reload"};
  set_command(stage, missing, 1);
  assert_int_equal(stage_reload(stage, false, PLENTY_MS), ERROR_NOT_FOUND);
  assert_int_equal(stage_reload(stage, true, PLENTY_MS), ERROR_NOT_FOUND);
  char *relative[] = {(char *)"reload"};
  set_command(stage, relative, 1);
  assert_int_equal(stage_reload(stage, false, PLENTY_MS), ERROR_CONFIG);
  char *allowed[] = {(char *)"/bin/true", (char *)"a"};
  set_command(stage, allowed, 2);
  assert_int_equal(stage_reload(stage, true, PLENTY_MS), 0);
  char *other[] = {(char *)"/bin/true", (char *)"b"};
  stage->policy.reload_command = other;
  assert_int_equal(stage_reload(stage, false, PLENTY_MS), ERROR_PERMISSION);
  stage->policy.reload_command = allowed;
  stage->policy.reload_command_count = 1;
  assert_int_equal(stage_reload(stage, false, PLENTY_MS), ERROR_PERMISSION);
}

static void test_opendkim_reload__restart_runs_the_command_of_the_policy(void **state) {
  struct stage *stage = *state;
  CLEANUP_FREE char *mark = workplace_path(&stage->folder, "restarted");
  CLEANUP_FREE char *script = text_format("echo done >%s", mark);
  char *words[] = {(char *)"/bin/sh", (char *)"-c", script};
  stage->policy.reload = RELOAD_PID_FILE;
  stage->policy.reload_target = (char *)"/nonexistent/pid";
  stage->policy.restart = RELOAD_COMMAND;
  stage->policy.restart_command = words;
  stage->policy.restart_command_count = 3;
  stage_allow(stage);
  if (stage_restart(stage, PLENTY_MS) < 0) fail_msg("%s", stage->error.message);
  assert_int_equal(access(mark, F_OK), 0);
  /* The words of a reload are no restart, and the reverse; what the policy does not have is refused. */
  words[2] = (char *)"true";
  assert_int_equal(stage_restart(stage, PLENTY_MS), ERROR_PERMISSION);
  assert_non_null(strstr(stage->error.message, "this restart is not one of a signer"));
  stage->policy.reload = RELOAD_COMMAND;
  stage->policy.reload_command = words;
  stage->policy.reload_command_count = 3;
  assert_int_equal(stage_reload(stage, false, PLENTY_MS), ERROR_PERMISSION);
  stage->policy.reload_command = NULL;
  stage->policy.restart_command = NULL;
}

/* ---- pid files ---- */

static void set_pid_file(struct stage *stage, char *path) {
  stage->policy.reload = RELOAD_PID_FILE;
  stage->policy.reload_target = path;
  stage_allow(stage);
}

/* A process that is called name, and leaves SIGUSR1 pending. */
static pid_t start_named(const char *name) {
  int ready[2];
  assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, name);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    if (write(ready[1], "", 1) != 1) _exit(1);
    for (;;) pause();
  }
  char octet = 0;
  assert_int_equal(read(ready[0], &octet, 1), 1);
  close(ready[0]);
  close(ready[1]);
  return pid;
}

static bool was_signalled(pid_t pid) {
  char path[64];
  snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
  char *text = NULL;
  size_t size = 0;
  struct error error = {0};
  assert_int_equal(file_read(path, 65536, &text, &size, NULL, &error), 0);
  const char *pending = strstr(text, "ShdPnd:");
  assert_non_null(pending);
  unsigned long long set = strtoull(pending + strlen("ShdPnd:"), NULL, 16);
  free(text);
  return set & (1ULL << (SIGUSR1 - 1));
}

static void test_opendkim_reload__pid_file_signals_an_opendkim_only(void **state) {
  struct stage *stage = *state;
  CLEANUP_FREE char *path = workplace_path(&stage->folder, "pid");
  set_pid_file(stage, path);
  static const char *const names[] = {"opendkim", "postfix"};
  for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
    bool right = i == 0;
    pid_t pid = start_named(names[i]);
    char text[32];
    snprintf(text, sizeof(text), "%d\n", (int)pid);
    workplace_write(path, text, 0644);
    assert_int_equal(stage_reload(stage, true, PLENTY_MS), right ? 0 : ERROR_CONFLICT);
    assert_false(was_signalled(pid));
    assert_int_equal(stage_reload(stage, false, PLENTY_MS), right ? 0 : ERROR_CONFLICT);
    assert_int_equal(was_signalled(pid), right);
    if (!right) assert_non_null(strstr(stage->error.message, "postfix"));
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(stage_reload(stage, false, PLENTY_MS), ERROR_NOT_FOUND);
  }
}

static void test_opendkim_reload__pid_files_that_name_no_process_are_explained(void **state) {
  struct stage *stage = *state;
  CLEANUP_FREE char *path = workplace_path(&stage->folder, "pid");
  set_pid_file(stage, path);
  assert_int_equal(stage_reload(stage, false, PLENTY_MS), ERROR_NOT_FOUND);
  assert_true(stage->error.remedy[0] != '\0');
  static const char *const texts[] = {"", "\n", "x\n", "0\n", "1\n", "-1\n", "12 34\n", "99999999999999\n"};
  for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
    workplace_write(path, texts[i], 0644);
    assert_int_equal(stage_reload(stage, false, PLENTY_MS), ERROR_INVALID);
    assert_non_null(strstr(stage->error.message, path));
  }
  stage->policy.reload_target = stage->policy.key_table;
  assert_int_equal(stage_reload(stage, false, PLENTY_MS), ERROR_PERMISSION);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_opendkim_reload__command_gets_its_words_and_no_shell),
      TEST(test_opendkim_reload__command_that_fails_is_reported_with_its_output),
      TEST(test_opendkim_reload__command_sees_neither_our_environment_nor_our_files),
      TEST(test_opendkim_reload__command_that_hangs_is_killed_with_its_children),
      TEST(test_opendkim_reload__command_that_leaves_a_daemon_behind_does_not_hold_us),
      TEST(test_opendkim_reload__command_that_is_not_there_or_not_the_policys),
      TEST(test_opendkim_reload__restart_runs_the_command_of_the_policy),
      TEST(test_opendkim_reload__pid_file_signals_an_opendkim_only),
      TEST(test_opendkim_reload__pid_files_that_name_no_process_are_explained),
  };
  signal(SIGPIPE, SIG_IGN);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
