#include <errno.h>
#include <signal.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/opendkim_reload.h"
#include "dkimroll/text.h"

#define UNIT_SERVICE "org.freedesktop.systemd1"
#define UNIT_OBJECT "/org/freedesktop/systemd1"
#define UNIT_MANAGER "org.freedesktop.systemd1.Manager"
#define UNIT_INTERFACE "org.freedesktop.systemd1.Unit"
#define UNIT_RESTART "RestartUnit"
#define UNIT_NO_RELOAD "org.freedesktop.systemd1.JobTypeNotApplicable"

enum { UNIT_RESULT_SIZE = 32, UNIT_DEADLINE_MS_MIN = 1 };

/* One conversation with systemd. */
struct unit_job {
  const char *unit;
  int64_t deadline;
  sd_bus *bus;
  sd_bus_message *answer; /* of the reload call; its object path is job */
  const char *job;
  char result[UNIT_RESULT_SIZE]; /* of the job; empty while it runs */
};

static void unit_job_release(struct unit_job *job) {
  sd_bus_message_unref(job->answer);
  /* Not flushing: a bus that hangs must not hold the worker beyond its deadline. */
  sd_bus_close(job->bus);
  sd_bus_unref(job->bus);
}

static uint64_t unit_job_left(const struct unit_job *job) {
  int64_t left = job->deadline - clock_boottime();
  return (uint64_t)(left > UNIT_DEADLINE_MS_MIN ? left : UNIT_DEADLINE_MS_MIN) * 1000;
}

/* What D-Bus error names ask of the postmaster. */
static const struct unit_complaint {
  const char *name;
  int code;
  const char *remedy;
} unit_complaints[] = {
    {"org.freedesktop.systemd1.NoSuchUnit", ERROR_NOT_FOUND,
     "compare reload of the signer in the policy with `systemctl list-units '*dkim*'`"},
    {"org.freedesktop.DBus.Error.AccessDenied", ERROR_PERMISSION,
     "let dkimroll's keeper run as root, allow org.freedesktop.systemd1.manage-units by a polkit rule, or reload by "
     "pid-file"},
    {"org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", ERROR_PERMISSION,
     "let dkimroll's keeper run as root, allow org.freedesktop.systemd1.manage-units by a polkit rule, or reload by "
     "pid-file"},
    {"org.freedesktop.DBus.Error.ServiceUnknown", ERROR_UNREACHABLE,
     "systemd does not run this host: reload by pid-file or command in the policy"},
    {"org.freedesktop.DBus.Error.NameHasNoOwner", ERROR_UNREACHABLE,
     "systemd does not run this host: reload by pid-file or command in the policy"},
    /* The bus has a file for systemd that starts /bin/false. */
    {"org.freedesktop.DBus.Error.Spawn.ChildExited", ERROR_UNREACHABLE,
     "systemd does not run this host: reload by pid-file or command in the policy"},
    {"org.freedesktop.systemd1.UnitMasked", ERROR_REFUSED, "unmask the unit (systemctl unmask), and start it"},
    {"org.freedesktop.DBus.Error.NoReply", ERROR_TIMEOUT, "see `systemctl list-jobs`"},
    {"org.freedesktop.DBus.Error.Timeout", ERROR_TIMEOUT, "see `systemctl list-jobs`"},
};

static int unit_job_complain(const struct unit_job *job, const sd_bus_error *reason, int failure, struct error *error) {
  if (!sd_bus_error_is_set(reason)) return error_set_errno(error, -failure, "unit %s: D-Bus", job->unit);
  for (size_t i = 0; i < ARRAY_SIZE(unit_complaints); i++) {
    if (!sd_bus_error_has_name(reason, unit_complaints[i].name)) continue;
    error_set(error, unit_complaints[i].code, "unit %s: systemd says: %s", job->unit, reason->message);
    error_remedy(error, "%s", unit_complaints[i].remedy);
    return unit_complaints[i].code;
  }
  error_set(error, ERROR_REFUSED, "unit %s: systemd says: %s (%s)", job->unit, reason->message, reason->name);
  error_remedy(error, "see `systemctl status %s`", job->unit);
  return ERROR_REFUSED;
}

static int unit_job_connect(struct unit_job *job, struct error *error) {
  int failure = sd_bus_open_system(&job->bus);
  if (failure >= 0) return 0;
  int result = error_set_errno(error, -failure, "unit %s: cannot reach the system bus", job->unit);
  if (failure == -ENOENT)
    result = error_set(error, ERROR_UNREACHABLE, "unit %s: there is no system bus on this host", job->unit);
  error_remedy(error, "is this host run by systemd, with dbus? Else reload by pid-file or command in the policy");
  return result;
}

static int unit_job_refuse_state(const struct unit_job *job, const char *loaded, const char *active,
                                 struct error *error) {
  if (text_equal(loaded, "not-found")) {
    error_set(error, ERROR_NOT_FOUND, "there is no unit %s", job->unit);
    error_remedy(error, "%s", unit_complaints[0].remedy);
    return ERROR_NOT_FOUND;
  }
  if (text_equal(active, "active") || text_equal(active, "reloading")) return 0;
  const char *state = text_equal(loaded, "loaded") ? active : loaded;
  error_set(error, ERROR_NOT_FOUND, "unit %s is %s, so it cannot be reloaded", job->unit, state);
  error_remedy(error, "start it: systemctl start %s", job->unit);
  return ERROR_NOT_FOUND;
}

static int unit_job_probe(struct unit_job *job, struct error *error) {
  sd_bus_error reason = SD_BUS_ERROR_NULL;
  const char *object = NULL;
  char *loaded = NULL;
  char *active = NULL;
  int failure = sd_bus_call_method(job->bus, UNIT_SERVICE, UNIT_OBJECT, UNIT_MANAGER, "LoadUnit", &reason, &job->answer,
                                   "s", job->unit);
  if (failure >= 0) failure = sd_bus_message_read(job->answer, "o", &object);
  if (failure >= 0)
    failure = sd_bus_get_property_string(job->bus, UNIT_SERVICE, object, UNIT_INTERFACE, "LoadState", &reason, &loaded);
  if (failure >= 0)
    failure =
        sd_bus_get_property_string(job->bus, UNIT_SERVICE, object, UNIT_INTERFACE, "ActiveState", &reason, &active);
  int result =
      failure < 0 ? unit_job_complain(job, &reason, failure, error) : unit_job_refuse_state(job, loaded, active, error);
  free(loaded);
  free(active);
  sd_bus_error_free(&reason);
  return result;
}

static int unit_job_removed(sd_bus_message *message, void *context, sd_bus_error *ret_error) {
  (void)ret_error;
  struct unit_job *job = context;
  uint32_t id = 0;
  const char *object = NULL;
  const char *unit = NULL;
  const char *outcome = NULL;
  if (sd_bus_message_read(message, "uoss", &id, &object, &unit, &outcome) < 0) return 0;
  if (text_equal(object, job->job)) text_copy(job->result, sizeof(job->result), outcome);
  return 0;
}

static int unit_job_call(struct unit_job *job, const char *method, sd_bus_error *reason) {
  sd_bus_message *call = NULL;
  int failure = sd_bus_message_new_method_call(job->bus, &call, UNIT_SERVICE, UNIT_OBJECT, UNIT_MANAGER, method);
  if (failure >= 0) failure = sd_bus_message_append(call, "ss", job->unit, "replace");
  if (failure >= 0) failure = sd_bus_call(job->bus, call, unit_job_left(job), reason, &job->answer);
  if (failure >= 0) failure = sd_bus_message_read(job->answer, "o", &job->job);
  sd_bus_message_unref(call);
  return failure;
}

static int unit_job_start(struct unit_job *job, const char *method, struct error *error) {
  sd_bus_error reason = SD_BUS_ERROR_NULL;
  /* Without a subscriber systemd sends no signals; and the match must stand before the job can end. */
  int failure =
      sd_bus_match_signal(job->bus, NULL, UNIT_SERVICE, UNIT_OBJECT, UNIT_MANAGER, "JobRemoved", unit_job_removed, job);
  if (failure >= 0)
    failure = sd_bus_call_method(job->bus, UNIT_SERVICE, UNIT_OBJECT, UNIT_MANAGER, "Subscribe", &reason, NULL, "");
  if (failure >= 0) failure = unit_job_call(job, method, &reason);
  if (failure < 0 && sd_bus_error_has_name(&reason, UNIT_NO_RELOAD)) {
    sd_bus_error_free(&reason);
    failure = unit_job_call(job, "ReloadOrRestartUnit", &reason);
  }
  int result = failure < 0 ? unit_job_complain(job, &reason, failure, error) : 0;
  sd_bus_error_free(&reason);
  return result;
}

static int unit_job_wait(struct unit_job *job, struct error *error) {
  while (job->result[0] == '\0') {
    int progress = sd_bus_process(job->bus, NULL);
    if (progress < 0) return error_set_errno(error, -progress, "unit %s: D-Bus", job->unit);
    if (progress > 0) continue;
    if (clock_boottime() >= job->deadline) {
      error_set(error, ERROR_TIMEOUT, "unit %s: its reload job did not end in time", job->unit);
      error_remedy(error, "see `systemctl list-jobs` and `systemctl status %s`; or raise `timeout` of `reload` in the policy",
                   job->unit);
      return ERROR_TIMEOUT;
    }
    progress = sd_bus_wait(job->bus, unit_job_left(job));
    if (progress < 0 && progress != -EINTR) return error_set_errno(error, -progress, "unit %s: D-Bus", job->unit);
  }
  if (text_equal(job->result, "done")) return 0;
  if (text_equal(job->result, "invalid")) return unit_job_refuse_state(job, "loaded", "not running", error);
  error_set(error, ERROR_REFUSED, "unit %s: its reload job ended as \"%s\"", job->unit, job->result);
  error_remedy(error, "see `systemctl status %s` and `journalctl -u %s`", job->unit, job->unit);
  return ERROR_REFUSED;
}

/* OpenDKIM that is asked to end waits up to 5 s for connections that are open and idle (measured with 2.11 and libmilter 8.17), and takes no new ones meanwhile. It keeps
 * nothing that could be lost, so it is ended at once; if that is not allowed, the restart takes its time. */
static void unit_job_kill(struct unit_job *job) {
  sd_bus_call_method(job->bus, UNIT_SERVICE, UNIT_OBJECT, UNIT_MANAGER, "KillUnit", NULL, NULL, "ssi", job->unit, "all", (int32_t)SIGKILL);
}

/* method NULL: only a look. */
static int unit_job_run(const char *unit, const char *method, int64_t deadline, struct error *error) {
  CLEANUP(unit_job_release) struct unit_job job = {.unit = unit, .deadline = deadline};
  int result = unit_job_connect(&job, error);
  if (result < 0) return result;
  /* Bounds every call, the Hello of the connection among them. */
  int failure = sd_bus_set_method_call_timeout(job.bus, unit_job_left(&job));
  if (failure < 0) return error_set_errno(error, -failure, "unit %s: D-Bus", unit);
  if (!method) return unit_job_probe(&job, error);
  if (text_equal(method, UNIT_RESTART)) unit_job_kill(&job);
  result = unit_job_start(&job, method, error);
  return result < 0 ? result : unit_job_wait(&job, error);
}

int reload_unit(const char *unit, bool probe, int64_t deadline, struct error *error) {
  return unit_job_run(unit, probe ? NULL : "ReloadUnit", deadline, error);
}

int restart_unit(const char *unit, int64_t deadline, struct error *error) { return unit_job_run(unit, UNIT_RESTART, deadline, error); }
