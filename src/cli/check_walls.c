/* Which walls stand between the network and the private keys: those around this process, and what a worker of the keeper says of itself. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dkimroll/check.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/keeper_walls.h"
#include "dkimroll/privilege.h"
#include "dkimroll/text.h"

enum { WALLS_SECONDS = 20 }; /* a worker answers at once, unless keys are being made */

static void say(struct check *check, enum finding_level level, char *text, const char *remedy) {
  CLEANUP_FREE char *owned = text;
  check_say(check, CHECK_WALLS,
            &(struct finding){.level = level,
                              .code = ERROR_PERMISSION,
                              .subject = (char *)"walls",
                              .text = owned ? owned : (char *)"out of memory",
                              .remedy = (char *)remedy});
}

static void say_user(struct check *check) {
  const bool root = geteuid() == 0;
  if (!root)
    say(check, FINDING_OK,
        text_format("what talks to the network runs as user %u, with%s capabilities", (unsigned)geteuid(),
                    privilege_capabilities() ? "" : "out"),
        "");
  else
    say(check, FINDING_NOTE, text_format("what talks to the network runs as root, because the directory of the state is root's"),
        "give it to a user of its own: systemd-sysusers dkimroll.conf; systemd-tmpfiles --create dkimroll.conf");
}

/* Read by root a moment ago, but the timer's run is not root. */
static void say_unreadable(struct check *check) {
  const struct policy *policy = check->session.policy;
  for (size_t i = 0; i < policy->file_count; i++) {
    if (access(policy->files[i], R_OK) == 0) continue;
    CLEANUP_FREE char *remedy =
        text_format("it holds no secret: chmod 0644 %s; or chgrp %s and chmod 0640; and every directory above it", policy->files[i], PRIVILEGE_USER);
    say(check, FINDING_FAILED, text_format("user %u, who runs dkimroll, cannot read the policy %s", (unsigned)geteuid(), policy->files[i]),
        remedy ? remedy : "");
  }
}

static void say_landlock(struct check *check) {
  const int abi = check->session.landlock_abi;
  const struct error *missing = &check->session.wall_missing;
  if (missing->code)
    say(check, FINDING_WARNING, text_format("Landlock does not keep it away from private keys: %s", missing->message), missing->remedy);
  else if (abi > 0)
    say(check, FINDING_OK, text_format("Landlock (ABI %d) keeps it away from private keys, and from writing outside of its state", abi), "");
  else
    say(check, FINDING_NOTE, text_duplicate("there is no Landlock here: users and units are the only walls"),
        "Linux 5.19 or later has it; see /sys/kernel/security/lsm, and SystemCallFilter= if this is a unit");
}

static void say_keeper(struct check *check, const struct keeper_walls_report *report) {
  const char *socket = check->session.keeper_socket;
  say(check, FINDING_OK,
      text_format("the keeper is %s%s, as %s%s", socket ? "reached by " : "a process of this command", socket ? socket : "",
                  report->user == 0 ? "root" : "the same user", report->landlock_abi > 0 ? ", and writes only where the policy has keys and tables" : ""),
      "");
  if (report->network)
    say(check, FINDING_WARNING, text_format("the keeper has a network: %s", report->problem[0] ? report->problem : "nothing keeps it from it"),
        "use dkimroll-keeper.socket, or a kernel with seccomp");
  else
    say(check, FINDING_OK, text_duplicate("the keeper has no network"), "");
  if (report->problem[0] && !report->network) say(check, FINDING_WARNING, text_format("the keeper lacks a wall: %s", report->problem), "");
}

static void walls_told(void *context, const struct error *result, const uint8_t *reply, size_t reply_size) {
  struct check *check = context;
  struct error error = *result;
  struct keeper_walls_report report;
  if (!error.code && !keeper_walls_read(reply, reply_size, &report, &error))
    say_keeper(check, &report);
  else
    check_say_error(check, CHECK_WALLS, "walls", NULL, &error);
  check_end(check);
}

void check_walls_start(struct check *check) {
  struct error error = {0};
  struct buffer nothing = BUFFER_WITH_MAXIMUM(1);
  if (!check->session.confined) return;
  say_user(check);
  say_unreadable(check);
  say_landlock(check);
  if (keeper_submit(check->session.backends.keeper, KEEPER_WALLS, &nothing, check_deadline(check, WALLS_SECONDS), walls_told, check, &error))
    check_say_error(check, CHECK_WALLS, "walls", NULL, &error);
  else
    check_begin(check);
}
