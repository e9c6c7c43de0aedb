#include "fake_systemd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

static unsigned systemd_kills; /* of all processes of a unit, in the process of our systemd */

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
void bus_open(struct bus *bus, bool with_systemd) {
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

void bus_close(struct bus *bus) {
  pid_t pids[] = {bus->systemd, bus->daemon};
  for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
    if (pids[i] == 0) continue;
    kill(pids[i], SIGKILL);
    waitpid(pids[i], NULL, 0);
  }
  unsetenv("DBUS_SYSTEM_BUS_ADDRESS");
  workplace_remove(&bus->folder);
}
