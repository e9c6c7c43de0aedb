#include "dkimroll/opendkim_reload.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"

/* comm(5) of the process; "lt-" is what libtool makes of a binary that runs from its build tree. */
static const char *const reload_process_names[] = {"opendkim", "lt-opendkim"};

static int reload_read_pid(const char *path, pid_t *ret_pid, struct error *error) {
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  int result = file_read(path, RELOAD_PID_FILE_MAX, &text, &size, NULL, error);
  if (result < 0) {
    error_context(error, "pid file");
    if (result == ERROR_NOT_FOUND)
      error_remedy(error,
                   "start opendkim, or compare PidFile in opendkim.conf with reload of the signer in the policy");
    return result;
  }
  while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == '\r' || text[size - 1] == ' ')) text[--size] = '\0';
  long long pid = 0;
  if (!text_parse_number(text, 2, INT32_MAX, &pid)) {
    char shown[RELOAD_PID_FILE_MAX];
    error_set(error, ERROR_INVALID, "pid file %s: \"%s\" is no process id", path,
              text_printable(text, size, shown, sizeof(shown)));
    error_remedy(error, "compare PidFile in opendkim.conf with reload of the signer in the policy");
    return ERROR_INVALID;
  }
  *ret_pid = (pid_t)pid;
  return 0;
}

static int reload_check_process(const char *path, pid_t pid, struct error *error) {
  char place[64];
  snprintf(place, sizeof(place), "/proc/%d/comm", (int)pid);
  CLEANUP_FREE char *name = NULL;
  size_t size = 0;
  int result = file_read(place, RELOAD_PID_FILE_MAX, &name, &size, NULL, error);
  if (result < 0) return result;
  if (size > 0 && name[size - 1] == '\n') name[size - 1] = '\0';
  for (size_t i = 0; i < ARRAY_SIZE(reload_process_names); i++)
    if (text_equal(name, reload_process_names[i])) return 0;
  char shown[RELOAD_PID_FILE_MAX];
  error_set(error, ERROR_CONFLICT, "pid file %s: process %d is \"%s\" and not opendkim; it was not signalled", path,
            (int)pid, text_printable(name, strlen(name), shown, sizeof(shown)));
  error_remedy(error,
               "opendkim is not running or writes another pid file: compare PidFile in opendkim.conf, and start it");
  return ERROR_CONFLICT;
}

int reload_pid_file(const char *path, bool probe, struct error *error) {
  pid_t pid = 0;
  int result = reload_read_pid(path, &pid, error);
  if (result < 0) return result;
  /* The descriptor holds on to this very process, so that a number given to another one meanwhile cannot be hit. */
  CLEANUP_CLOSE int process = pidfd_open(pid, 0);
  if (process < 0 && errno == ESRCH) {
    error_set(error, ERROR_NOT_FOUND, "pid file %s: there is no process %d", path, (int)pid);
    error_remedy(error, "opendkim has ended: see its log (journalctl -u opendkim), and start it");
    return ERROR_NOT_FOUND;
  }
  if (process < 0) return error_set_errno(error, errno, "pid file %s: cannot look at process %d", path, (int)pid);
  result = reload_check_process(path, pid, error);
  if (result < 0) return result;
  if (pidfd_send_signal(process, probe ? 0 : SIGUSR1, NULL, 0) == 0) return 0;
  int failure = errno;
  result = error_set_errno(error, failure, "pid file %s: cannot signal process %d", path, (int)pid);
  if (failure == EPERM)
    error_remedy(error, "run dkimroll as root or as the user of opendkim, or reload by unit with a polkit rule");
  return result;
}
