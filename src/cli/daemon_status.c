/* What status says of a daemon. */
#include "dkimroll/daemon.h"
#include "dkimroll/json.h"
#include "dkimroll/session.h"

/* Is there one, and has the policy been changed since it read it? */
static bool find_daemon(struct session *session, char holder[DAEMON_SENTENCE_MAX], bool *ret_changed) {
  struct error unused;
  int64_t next = TIME_NEVER;
  if (!wake_is_heard(session->state) || !wake_read_holder(session->state, holder, DAEMON_SENTENCE_MAX)) return false;
  *ret_changed = session_look(session, &next, &unused) == 0 && next == TIME_UNSET;
  return true;
}

void daemon_print_status(struct session *session) {
  char holder[DAEMON_SENTENCE_MAX];
  bool changed = false;
  if (!find_daemon(session, holder, &changed)) return;
  fprintf(session->cli->out, "  At work: %s.\n", holder);
  if (changed) fputs("  The policy was changed since then and is not in force yet; `dkimroll reload`\n", session->cli->out);
}

void daemon_json_status(struct session *session, struct json *json) {
  char holder[DAEMON_SENTENCE_MAX];
  bool changed = false;
  const bool found = find_daemon(session, holder, &changed);
  json_text(json, "daemon", found ? holder : NULL);
  if (found) json_bool(json, "policy_changed", changed);
}
