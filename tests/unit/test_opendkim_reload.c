/* The keeper's reload jobs: commands, pid files, units of a systemd on a bus of our own, and what is not allowed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/file.h"
#include "dkimroll/opendkim_jobs.h"
#include "dkimroll/opendkim_reload.h"
#include "dkimroll/text.h"
#include "workplace.h"

enum { PAYLOAD_MAX = 64 * 1024, PLENTY_MS = 20000, SHORT_MS = 300 };

/* A signer of the policy in a folder, and the handlers that serve it, called as a worker calls them. */
struct stage {
  struct workplace folder;
  struct policy_signer policy;
  struct opendkim_roots roots;
  struct keeper_handler handlers[OPENDKIM_JOBS_COUNT];
  struct error error;
};

static void stage_allow(struct stage *stage) {
  opendkim_roots_release(&stage->roots);
  assert_int_equal(opendkim_roots_add(&stage->roots, &stage->policy, &stage->error), 0);
  assert_int_equal(opendkim_jobs_handlers(&stage->roots, stage->handlers), OPENDKIM_JOBS_COUNT);
}

static void stage_open(struct stage *stage) {
  *stage = (struct stage){0};
  workplace_make(&stage->folder, "/tmp");
  stage->policy = (struct policy_signer){.name = (char *)"local",
                                         .key_table = workplace_path(&stage->folder, "KeyTable"),
                                         .signing_table = workplace_path(&stage->folder, "SigningTable"),
                                         .signing_table_format = SIGNING_TABLE_REFILE,
                                         .key_directory = workplace_path(&stage->folder, "keys/%d")};
  stage_allow(stage);
}

static void stage_close(struct stage *stage) {
  opendkim_roots_release(&stage->roots);
  workplace_remove(&stage->folder);
  free(stage->policy.key_table);
  free(stage->policy.signing_table);
  free(stage->policy.key_directory);
}

/* Runs a job; the reply goes into reply (which may be NULL). */
static int stage_run(struct stage *stage, enum keeper_job job, const struct buffer *payload, struct buffer *reply) {
  struct buffer own = BUFFER_WITH_MAXIMUM(PAYLOAD_MAX);
  struct reader request = {.data = payload->data, .size = payload->size};
  int result = ERROR_INTERNAL;
  stage->error = (struct error){0};
  for (size_t i = 0; i < OPENDKIM_JOBS_COUNT; i++)
    if (stage->handlers[i].job == job)
      result = stage->handlers[i].run(stage->handlers[i].context, &request, reply ? reply : &own, &stage->error);
  buffer_release(&own);
  assert_int_equal(result, stage->error.code);
  return result;
}

static int stage_reload(struct stage *stage, bool probe, int64_t timeout_ms) {
  struct buffer payload = BUFFER_WITH_MAXIMUM(PAYLOAD_MAX);
  opendkim_jobs_reload(&payload, &stage->policy, probe, timeout_ms);
  int result = stage_run(stage, KEEPER_RELOAD, &payload, NULL);
  buffer_release(&payload);
  if (result < 0) assert_true(stage->error.message[0] != '\0');
  return result;
}

static int stage_restart(struct stage *stage) {
  struct buffer payload = BUFFER_WITH_MAXIMUM(PAYLOAD_MAX);
  opendkim_jobs_restart(&payload, &stage->policy, PLENTY_MS);
  int result = stage_run(stage, KEEPER_RELOAD, &payload, NULL);
  buffer_release(&payload);
  return result;
}

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
  (void)state;
  struct stage stage;
  stage_open(&stage);
  CLEANUP_FREE char *mark = workplace_path(&stage.folder, "a b;$(x)");
  char *words[] = {(char *)"/usr/bin/touch", (char *)"--", mark};
  set_command(&stage, words, 3);
  assert_int_equal(stage_reload(&stage, false, PLENTY_MS), 0);
  assert_int_equal(access(mark, F_OK), 0);
  stage_close(&stage);
}

static void test_opendkim_reload__command_that_fails_is_reported_with_its_output(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  char *words[3];
  set_script(&stage, words, "echo to stdout; echo to stderr >&2; exit 3");
  assert_int_equal(stage_reload(&stage, false, PLENTY_MS), ERROR_REFUSED);
  assert_non_null(strstr(stage.error.message, "exit status 3"));
  assert_non_null(strstr(stage.error.message, "to stdout"));
  assert_non_null(strstr(stage.error.message, "to stderr"));
  set_script(&stage, words, "kill -SEGV $$");
  assert_int_equal(stage_reload(&stage, false, PLENTY_MS), ERROR_REFUSED);
  assert_non_null(strstr(stage.error.message, "signal 11"));
  set_script(&stage, words, "yes | head -c 10000000; exit 1");
  assert_int_equal(stage_reload(&stage, false, PLENTY_MS), ERROR_REFUSED);
  stage_close(&stage);
}

static void test_opendkim_reload__command_sees_neither_our_environment_nor_our_files(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  char *words[3];
  CLEANUP_CLOSE int inherited = fcntl(STDIN_FILENO, F_DUPFD, 100); /* without O_CLOEXEC */
  assert_true(inherited >= 100);
  setenv("DKIMROLL_TEST_SECRET", "leak", 1);
  CLEANUP_FREE char *script =
      text_format("test -z \"$DKIMROLL_TEST_SECRET\" && test ! -e /proc/$$/fd/%d && ! read x", inherited);
  set_script(&stage, words, script);
  if (stage_reload(&stage, false, PLENTY_MS) < 0) fail_msg("%s", stage.error.message);
  unsetenv("DKIMROLL_TEST_SECRET");
  stage_close(&stage);
}

static void test_opendkim_reload__command_that_hangs_is_killed_with_its_children(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  char *words[3];
  CLEANUP_FREE char *pid_path = workplace_path(&stage.folder, "pid");
  CLEANUP_FREE char *script = text_format("trap '' TERM; sleep 1000 & echo $! >%s; echo waiting; wait", pid_path);
  set_script(&stage, words, script);
  int64_t start = clock_boottime();
  assert_int_equal(stage_reload(&stage, false, SHORT_MS), ERROR_TIMEOUT);
  assert_true(clock_boottime() - start < PLENTY_MS);
  assert_non_null(strstr(stage.error.message, "waiting"));
  char *text = NULL;
  size_t size = 0;
  assert_int_equal(file_read(pid_path, 64, &text, &size, NULL, &stage.error), 0);
  pid_t child = (pid_t)strtol(text, NULL, 10);
  free(text);
  /* It may not be reaped at once; but it has ended. */
  CLEANUP_CLOSE int process = pidfd_open(child, 0);
  struct pollfd polled = {.fd = process, .events = POLLIN};
  if (process >= 0) assert_int_equal(poll(&polled, 1, PLENTY_MS), 1);
  stage_close(&stage);
}

static void test_opendkim_reload__command_that_leaves_a_daemon_behind_does_not_hold_us(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  char *words[3];
  set_script(&stage, words, "sleep 5 & exit 0");
  int64_t start = clock_boottime();
  assert_int_equal(stage_reload(&stage, false, PLENTY_MS), 0);
  assert_true(clock_boottime() - start < 4000);
  stage_close(&stage);
}

static void test_opendkim_reload__command_that_is_not_there_or_not_the_policys(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  char *missing[] = {(char *)"/nonexistent/reload"};
  set_command(&stage, missing, 1);
  assert_int_equal(stage_reload(&stage, false, PLENTY_MS), ERROR_NOT_FOUND);
  assert_int_equal(stage_reload(&stage, true, PLENTY_MS), ERROR_NOT_FOUND);
  char *relative[] = {(char *)"reload"};
  set_command(&stage, relative, 1);
  assert_int_equal(stage_reload(&stage, false, PLENTY_MS), ERROR_CONFIG);
  char *allowed[] = {(char *)"/bin/true", (char *)"a"};
  set_command(&stage, allowed, 2);
  assert_int_equal(stage_reload(&stage, true, PLENTY_MS), 0);
  char *other[] = {(char *)"/bin/true", (char *)"b"};
  stage.policy.reload_command = other;
  assert_int_equal(stage_reload(&stage, false, PLENTY_MS), ERROR_PERMISSION);
  stage.policy.reload_command = allowed;
  stage.policy.reload_command_count = 1;
  assert_int_equal(stage_reload(&stage, false, PLENTY_MS), ERROR_PERMISSION);
  stage_close(&stage);
}

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
  (void)state;
  struct stage stage;
  stage_open(&stage);
  CLEANUP_FREE char *path = workplace_path(&stage.folder, "pid");
  set_pid_file(&stage, path);
  static const char *const names[] = {"opendkim", "postfix"};
  for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
    bool right = i == 0;
    pid_t pid = start_named(names[i]);
    char text[32];
    snprintf(text, sizeof(text), "%d\n", (int)pid);
    workplace_write(path, text, 0644);
    assert_int_equal(stage_reload(&stage, true, PLENTY_MS), right ? 0 : ERROR_CONFLICT);
    assert_false(was_signalled(pid));
    assert_int_equal(stage_reload(&stage, false, PLENTY_MS), right ? 0 : ERROR_CONFLICT);
    assert_int_equal(was_signalled(pid), right);
    if (!right) assert_non_null(strstr(stage.error.message, "postfix"));
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(stage_reload(&stage, false, PLENTY_MS), ERROR_NOT_FOUND);
  }
  stage_close(&stage);
}

static void test_opendkim_reload__pid_files_that_name_no_process_are_explained(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  CLEANUP_FREE char *path = workplace_path(&stage.folder, "pid");
  set_pid_file(&stage, path);
  assert_int_equal(stage_reload(&stage, false, PLENTY_MS), ERROR_NOT_FOUND);
  assert_true(stage.error.remedy[0] != '\0');
  static const char *const texts[] = {"", "\n", "x\n", "0\n", "1\n", "-1\n", "12 34\n", "99999999999999\n"};
  for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
    workplace_write(path, texts[i], 0644);
    assert_int_equal(stage_reload(&stage, false, PLENTY_MS), ERROR_INVALID);
    assert_non_null(strstr(stage.error.message, path));
  }
  stage.policy.reload_target = stage.policy.key_table;
  assert_int_equal(stage_reload(&stage, false, PLENTY_MS), ERROR_PERMISSION);
  stage_close(&stage);
}

/* --- restarts --- */

static void test_opendkim_reload__restart_runs_the_command_of_the_policy(void **state) {
  (void)state;
  struct stage stage;
  stage_open(&stage);
  CLEANUP_FREE char *mark = workplace_path(&stage.folder, "restarted");
  CLEANUP_FREE char *script = text_format("echo done >%s", mark);
  char *words[] = {(char *)"/bin/sh", (char *)"-c", script};
  stage.policy.reload = RELOAD_PID_FILE;
  stage.policy.reload_target = (char *)"/nonexistent/pid";
  stage.policy.restart = RELOAD_COMMAND;
  stage.policy.restart_command = words;
  stage.policy.restart_command_count = 3;
  stage_allow(&stage);
  if (stage_restart(&stage) < 0) fail_msg("%s", stage.error.message);
  assert_int_equal(access(mark, F_OK), 0);
  /* The words of a reload are no restart, and the reverse; what the policy does not have is refused. */
  words[2] = (char *)"true";
  assert_int_equal(stage_restart(&stage), ERROR_PERMISSION);
  assert_non_null(strstr(stage.error.message, "this restart is not one of a signer"));
  stage.policy.reload = RELOAD_COMMAND;
  stage.policy.reload_command = words;
  stage.policy.reload_command_count = 3;
  assert_int_equal(stage_reload(&stage, false, PLENTY_MS), ERROR_PERMISSION);
  stage.policy.reload_command = NULL;
  stage.policy.restart_command = NULL;
  stage_close(&stage);
}

static void test_opendkim_reload__restart_is_by_the_unit_of_the_reload_where_nothing_else_is_said(void **state) {
  (void)state;
  const char *target = NULL;
  struct policy_signer signer = {.reload = RELOAD_UNIT, .reload_target = (char *)"opendkim.service"};
  assert_int_equal(policy_signer_restart(&signer, &target), RELOAD_UNIT);
  assert_string_equal(target, "opendkim.service");
  signer.restart = RELOAD_UNIT;
  signer.restart_target = (char *)"other.service";
  assert_int_equal(policy_signer_restart(&signer, &target), RELOAD_UNIT);
  assert_string_equal(target, "other.service");
  signer.restart = RELOAD_NONE;
  signer.reload = RELOAD_PID_FILE;
  assert_int_equal(policy_signer_restart(&signer, &target), RELOAD_NONE);
}

/* --- a bus with a systemd of ours on it --- */

struct bus {
  struct workplace folder;
  pid_t daemon, systemd;
};

static unsigned systemd_kills;
static int systemd_kill(sd_bus_message *call, void *context, sd_bus_error *ret_error) {
  (void)context;
  const char *unit = NULL, *who = NULL;
  int32_t signal = 0;
  assert_true(sd_bus_message_read(call, "ssi", &unit, &who, &signal) >= 0);
  if (strcmp(unit, "denied.service") == 0)
    return sd_bus_error_set(ret_error, "org.freedesktop.DBus.Error.AccessDenied", "Permission denied");
  systemd_kills += signal == SIGKILL && strcmp(who, "all") == 0;
  return sd_bus_reply_method_return(call, "");
}

/* What our systemd does with a unit is in its name. */
static int systemd_reload(sd_bus_message *call, void *context, sd_bus_error *ret_error) {
  (void)context;
  const char *unit = NULL;
  const char *mode = NULL;
  assert_true(sd_bus_message_read(call, "ss", &unit, &mode) >= 0);
  bool restart = strcmp(sd_bus_message_get_member(call), "ReloadOrRestartUnit") == 0;
  if (strcmp(unit, "missing.service") == 0)
    return sd_bus_error_set(ret_error, "org.freedesktop.systemd1.NoSuchUnit", "Unit missing.service not found.");
  if (strcmp(unit, "denied.service") == 0)
    return sd_bus_error_set(ret_error, "org.freedesktop.DBus.Error.AccessDenied", "Permission denied");
  if (strcmp(unit, "restart.service") == 0 && !restart)
    return sd_bus_error_set(ret_error, "org.freedesktop.systemd1.JobTypeNotApplicable",
                            "Job type reload is not applicable");
  sd_bus *bus = sd_bus_message_get_bus(call);
  static const char job[] = "/org/freedesktop/systemd1/job/7";
  const char *result = strcmp(unit, "failing.service") == 0   ? "failed"
                       : strcmp(unit, "stopped.service") == 0 ? "invalid"
                                                              : "done";
  /* The end of another job, and of ours before the reply is out: both may happen. */
  sd_bus_emit_signal(bus, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "JobRemoved", "uoss", 6,
                     "/org/freedesktop/systemd1/job/6", "other.service", "failed");
  bool early = strcmp(unit, "early.service") == 0;
  if (early)
    sd_bus_emit_signal(bus, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "JobRemoved", "uoss", 7,
                       job, unit, result);
  int sent = sd_bus_reply_method_return(call, "o", job);
  /* As OpenDKIM with connections that are open: asked to end, it takes its time; killed, it does not. */
  const bool slow = strcmp(unit, "busy.service") == 0 && systemd_kills == 0;
  if (!early && !slow && strcmp(unit, "hanging.service") != 0)
    sd_bus_emit_signal(bus, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "JobRemoved", "uoss", 7,
                       job, unit, result);
  return sent;
}

static int systemd_subscribe(sd_bus_message *call, void *context, sd_bus_error *ret_error) {
  (void)context, (void)ret_error;
  return sd_bus_reply_method_return(call, "");
}

static int systemd_load_unit(sd_bus_message *call, void *context, sd_bus_error *ret_error) {
  (void)context, (void)ret_error;
  const char *unit = NULL;
  assert_true(sd_bus_message_read(call, "s", &unit) >= 0);
  if (strcmp(unit, "missing.service") == 0)
    return sd_bus_reply_method_return(call, "o", "/org/freedesktop/systemd1/unit/missing");
  return sd_bus_reply_method_return(call, "o",
                                    strcmp(unit, "stopped.service") == 0 ? "/org/freedesktop/systemd1/unit/stopped"
                                                                         : "/org/freedesktop/systemd1/unit/running");
}

static int systemd_state(sd_bus *bus, const char *path, const char *interface, const char *property,
                         sd_bus_message *reply, void *context, sd_bus_error *ret_error) {
  (void)bus, (void)interface, (void)context, (void)ret_error;
  if (strcmp(property, "LoadState") == 0)
    return sd_bus_message_append(reply, "s", strstr(path, "missing") ? "not-found" : "loaded");
  return sd_bus_message_append(reply, "s", strstr(path, "running") ? "active" : "inactive");
}

static const sd_bus_vtable systemd_manager[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD("ReloadUnit", "ss", "o", systemd_reload, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("ReloadOrRestartUnit", "ss", "o", systemd_reload, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("RestartUnit", "ss", "o", systemd_reload, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("KillUnit", "ssi", "", systemd_kill, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("Subscribe", "", "", systemd_subscribe, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("LoadUnit", "s", "o", systemd_load_unit, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_SIGNAL("JobRemoved", "uoss", 0),
    SD_BUS_VTABLE_END,
};
static const sd_bus_vtable systemd_unit[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_PROPERTY("ActiveState", "s", systemd_state, 0, 0),
    SD_BUS_PROPERTY("LoadState", "s", systemd_state, 0, 0),
    SD_BUS_VTABLE_END,
};

static void systemd_main(int ready) {
  sd_bus *bus = NULL;
  if (sd_bus_open_system(&bus) < 0 ||
      sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
                               systemd_manager, NULL) < 0 ||
      sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/systemd1/unit/running", "org.freedesktop.systemd1.Unit",
                               systemd_unit, NULL) < 0 ||
      sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/systemd1/unit/stopped", "org.freedesktop.systemd1.Unit",
                               systemd_unit, NULL) < 0 ||
      sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/systemd1/unit/missing", "org.freedesktop.systemd1.Unit",
                               systemd_unit, NULL) < 0 ||
      sd_bus_request_name(bus, "org.freedesktop.systemd1", 0) < 0 || write(ready, "", 1) != 1)
    _exit(1);
  for (;;) {
    int progress = sd_bus_process(bus, NULL);
    if (progress < 0 || (progress == 0 && sd_bus_wait(bus, UINT64_MAX) < 0)) _exit(1);
  }
}

/* The bus daemon prints its address when it is ready. */
static void bus_open(struct bus *bus, bool with_systemd) {
  workplace_make(&bus->folder, "/tmp");
  CLEANUP_FREE char *address = text_format("unix:path=%s/bus", bus->folder.path);
  CLEANUP_FREE char *option = text_format("--address=%s", address);
  int ready[2];
  assert_int_equal(pipe(ready), 0);
  bus->daemon = fork();
  assert_true(bus->daemon >= 0);
  if (bus->daemon == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(ready[1], STDOUT_FILENO);
    int quiet = open("/dev/null", O_WRONLY); /* it complains about limits and about the systemd that is not there */
    dup2(quiet, STDERR_FILENO);
    close(ready[0]);
    execlp("dbus-daemon", "dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address", option,
           (char *)NULL);
    _exit(127);
  }
  char text[256];
  assert_true(read(ready[0], text, sizeof(text)) > 0);
  setenv("DBUS_SYSTEM_BUS_ADDRESS", address, 1);
  bus->systemd = 0;
  if (with_systemd) {
    bus->systemd = fork();
    assert_true(bus->systemd >= 0);
    if (bus->systemd == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      systemd_main(ready[1]);
    }
    assert_int_equal(read(ready[0], text, 1), 1);
  }
  close(ready[0]);
  close(ready[1]);
}

static void bus_close(struct bus *bus) {
  pid_t pids[] = {bus->systemd, bus->daemon};
  for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
    if (pids[i] == 0) continue;
    kill(pids[i], SIGKILL);
    waitpid(pids[i], NULL, 0);
  }
  unsetenv("DBUS_SYSTEM_BUS_ADDRESS");
  workplace_remove(&bus->folder);
}

static int reload_named(struct stage *stage, const char *unit, bool probe, int64_t timeout_ms) {
  stage->policy.reload = RELOAD_UNIT;
  stage->policy.reload_target = (char *)(uintptr_t)unit;
  stage_allow(stage);
  return stage_reload(stage, probe, timeout_ms);
}

static void test_opendkim_reload__unit_is_reloaded_and_its_job_waited_for(void **state) {
  (void)state;
  struct stage stage;
  struct bus bus;
  stage_open(&stage);
  bus_open(&bus, true);
  assert_int_equal(reload_named(&stage, "opendkim.service", false, PLENTY_MS), 0);
  assert_int_equal(reload_named(&stage, "early.service", false, PLENTY_MS), 0);
  assert_int_equal(reload_named(&stage, "restart.service", false, PLENTY_MS), 0);
  assert_int_equal(reload_named(&stage, "failing.service", false, PLENTY_MS), ERROR_REFUSED);
  assert_non_null(strstr(stage.error.message, "failed"));
  assert_int_equal(reload_named(&stage, "stopped.service", false, PLENTY_MS), ERROR_NOT_FOUND);
  assert_non_null(strstr(stage.error.remedy, "start"));
  assert_int_equal(reload_named(&stage, "missing.service", false, PLENTY_MS), ERROR_NOT_FOUND);
  assert_non_null(strstr(stage.error.message, "not found"));
  assert_int_equal(reload_named(&stage, "denied.service", false, PLENTY_MS), ERROR_PERMISSION);
  assert_non_null(strstr(stage.error.remedy, "polkit"));
  int64_t start = clock_boottime();
  assert_int_equal(reload_named(&stage, "hanging.service", false, SHORT_MS), ERROR_TIMEOUT);
  assert_true(clock_boottime() - start < PLENTY_MS / 2);
  stage_close(&stage);
  bus_close(&bus);
}

static int restart_named(struct stage *stage, const char *unit, int64_t timeout_ms) {
  struct buffer payload = BUFFER_WITH_MAXIMUM(PAYLOAD_MAX);
  stage->policy.restart = RELOAD_UNIT;
  stage->policy.restart_target = (char *)(uintptr_t)unit;
  stage_allow(stage);
  opendkim_jobs_restart(&payload, &stage->policy, timeout_ms);
  int result = stage_run(stage, KEEPER_RELOAD, &payload, NULL);
  buffer_release(&payload);
  return result;
}

static void test_opendkim_reload__unit_is_restarted_at_once_also_if_connections_are_open(void **state) {
  (void)state;
  struct stage stage;
  struct bus bus;
  stage_open(&stage);
  bus_open(&bus, true);
  if (restart_named(&stage, "busy.service", PLENTY_MS / 4) < 0) fail_msg("%s", stage.error.message);
  assert_int_equal(restart_named(&stage, "failing.service", PLENTY_MS), ERROR_REFUSED);
  assert_int_equal(restart_named(&stage, "denied.service", PLENTY_MS), ERROR_PERMISSION);
  stage.policy.restart_target = NULL;
  stage_close(&stage);
  bus_close(&bus);
}

static void test_opendkim_reload__unit_probe_only_looks(void **state) {
  (void)state;
  struct stage stage;
  struct bus bus;
  stage_open(&stage);
  bus_open(&bus, true);
  assert_int_equal(reload_named(&stage, "opendkim.service", true, PLENTY_MS), 0);
  assert_int_equal(reload_named(&stage, "stopped.service", true, PLENTY_MS), ERROR_NOT_FOUND);
  assert_non_null(strstr(stage.error.message, "inactive"));
  assert_int_equal(reload_named(&stage, "missing.service", true, PLENTY_MS), ERROR_NOT_FOUND);
  stage_close(&stage);
  bus_close(&bus);
}

static void test_opendkim_reload__host_without_systemd_is_explained(void **state) {
  (void)state;
  struct stage stage;
  struct bus bus;
  stage_open(&stage);
  bus_open(&bus, false);
  if (reload_named(&stage, "opendkim.service", false, PLENTY_MS) != ERROR_UNREACHABLE)
    fail_msg("%s", stage.error.message);
  assert_non_null(strstr(stage.error.remedy, "pid-file"));
  bus_close(&bus);
  setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus", 1);
  assert_int_equal(reload_named(&stage, "opendkim.service", false, PLENTY_MS), ERROR_UNREACHABLE);
  assert_true(stage.error.remedy[0] != '\0');
  unsetenv("DBUS_SYSTEM_BUS_ADDRESS");
  stage_close(&stage);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_opendkim_reload__command_gets_its_words_and_no_shell),
      cmocka_unit_test(test_opendkim_reload__command_that_fails_is_reported_with_its_output),
      cmocka_unit_test(test_opendkim_reload__command_sees_neither_our_environment_nor_our_files),
      cmocka_unit_test(test_opendkim_reload__command_that_hangs_is_killed_with_its_children),
      cmocka_unit_test(test_opendkim_reload__command_that_leaves_a_daemon_behind_does_not_hold_us),
      cmocka_unit_test(test_opendkim_reload__command_that_is_not_there_or_not_the_policys),
      cmocka_unit_test(test_opendkim_reload__pid_file_signals_an_opendkim_only),
      cmocka_unit_test(test_opendkim_reload__pid_files_that_name_no_process_are_explained),
      cmocka_unit_test(test_opendkim_reload__unit_is_reloaded_and_its_job_waited_for),
      cmocka_unit_test(test_opendkim_reload__restart_runs_the_command_of_the_policy),
      cmocka_unit_test(test_opendkim_reload__restart_is_by_the_unit_of_the_reload_where_nothing_else_is_said),
      cmocka_unit_test(test_opendkim_reload__unit_is_restarted_at_once_also_if_connections_are_open),
      cmocka_unit_test(test_opendkim_reload__unit_probe_only_looks),
      cmocka_unit_test(test_opendkim_reload__host_without_systemd_is_explained),
  };
  signal(SIGPIPE, SIG_IGN);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
