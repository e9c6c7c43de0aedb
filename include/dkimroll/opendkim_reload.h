/* Asking OpenDKIM to read its tables again. Blocking, each with a deadline: for the keeper's workers. Success says that
 * the wish arrived, not that it was heeded: OpenDKIM reads its configuration at the next new milter connection, which
 * is why each reload is followed by a proof. */
#ifndef DKIMROLL_OPENDKIM_RELOAD_H
#define DKIMROLL_OPENDKIM_RELOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "dkimroll/error.h"

enum {
  RELOAD_OUTPUT_MAX = 16 * 1024, /* of a command; what comes after is read and dropped */
  RELOAD_PID_FILE_MAX = 64,      /* a decimal number and white space */
};

/* deadline: CLOCK_BOOTTIME, milliseconds. probe: nothing is reloaded, only looked at whether it could be. */

/* ReloadUnit over D-Bus (org.freedesktop.systemd1(5)), or ReloadOrRestartUnit where the unit knows no reload, and the
 * wait for the job's end. probe: the unit is loaded and active. */
int reload_unit(const char *unit, bool probe, int64_t deadline, struct error *error) ERROR_USE_RESULT;

/* RestartUnit, and the wait for the job's end: connections that were open are gone then. */
int restart_unit(const char *unit, int64_t deadline, struct error *error) ERROR_USE_RESULT;

/* SIGUSR1 to the process whose id is in the file, after a look that it is an opendkim. */
int reload_pid_file(const char *path, bool probe, struct error *error) ERROR_USE_RESULT;

/* Runs command (absolute path, arguments, NULL; no shell) with an environment of PATH and LANG alone, in a process
 * group of its own that is killed at the deadline. Its output comes back in the error. probe: the program is there and
 * may be executed. */
int reload_command(char *const *command, bool probe, int64_t deadline, struct error *error) ERROR_USE_RESULT;

#endif
