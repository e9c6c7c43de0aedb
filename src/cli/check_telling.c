/* What tells of it: the place of the metrics, and the programs of hooks. No rotation needs them, so what is wrong with them is a warning; but a hook that cannot be
 * started would be noticed by nobody, just when somebody has to know. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/buffer.h"
#include "dkimroll/check.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/overview.h"
#include "dkimroll/text.h"

static void say(struct check *check, enum finding_level level, const char *text, const char *remedy) {
  check_say(check, CHECK_LOCAL, &(struct finding){.level = level, .subject = (char *)"telling", .text = (char *)text, .remedy = (char *)remedy});
}

/* node_exporter reads no file of that name. */
static void check_metrics(struct check *check, const char *path) {
  const struct buffer nothing = {0};
  struct error error = {0};
  CLEANUP_FREE char *scratch = text_format("%s.dkimroll-check", path);
  CLEANUP_FREE char *text = text_format("metrics can be written to %s", path);
  if (!scratch || !text) {
    check_say_no_memory(check, CHECK_LOCAL, "telling");
    return;
  }
  if (metrics_file_write(scratch, &nothing, &error)) {
    CLEANUP_FREE char *wrong = text_format("metrics cannot be written: %s", error.message);
    say(check, FINDING_WARNING, wrong ? wrong : error.message, error.remedy);
    return;
  }
  (void)unlink(scratch);
  say(check, FINDING_OK, text, "");
}

/* As the user whom a run becomes, which is the one that this process has become. */
static void check_hook(struct check *check, const char *name, char *const *words, size_t count) {
  struct stat status;
  const char *wrong = NULL;
  if (count == 0) return;
  if (stat(words[0], &status) != 0)
    wrong = strerror(errno);
  else if (!S_ISREG(status.st_mode))
    wrong = "it is no file";
  else if (faccessat(AT_FDCWD, words[0], X_OK, AT_EACCESS) != 0)
    wrong = strerror(errno);
  CLEANUP_FREE char *text = wrong ? text_format("hook %s cannot be started: %s: %s", name, words[0], wrong) : text_format("hook %s can be started: %s", name, words[0]);
  if (!text) check_say_no_memory(check, CHECK_LOCAL, "telling");
  if (text) say(check, wrong ? FINDING_WARNING : FINDING_OK, text, wrong ? "correct the path in the policy, or let the user dkimroll run the program (chmod a+rx, also its directories)" : "");
}

void check_telling(struct check *check) {
  const struct policy *policy = check->session.policy;
  if (policy->metrics.file) check_metrics(check, policy->metrics.file);
  check_hook(check, "transition", policy->hooks.transition, policy->hooks.transition_count);
  check_hook(check, "needs-person", policy->hooks.needs_person, policy->hooks.needs_person_count);
}
