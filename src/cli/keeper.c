/* The keeper as a service: one connection, one life. Everything that it is allowed to do it reads itself, of files that belong to root. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/keeper_socket.h"
#include "dkimroll/privilege.h"
#include "dkimroll/session.h"
#include "dkimroll/text.h"

/* The loop side must not write the policy by which it is judged. Lists of domains (domains-from) may belong to others: they name signers, and cannot make
 * any. */
static int check_policy_rights(const char *path, struct error *error) {
  struct stat status;
  uid_t user = 0;
  gid_t group = 0;
  if (stat(path, &status) < 0) return 0; /* reading it says why */
  const bool known = privilege_find_user(&user, &group);
  const bool by_group = (status.st_mode & S_IWGRP) != 0 && known && status.st_gid == group;
  if ((status.st_uid == 0 || status.st_uid == geteuid()) && !by_group && (status.st_mode & S_IWOTH) == 0) return 0;
  error_set(error, ERROR_PERMISSION, "%s belongs to user %u and has mode %04o: the policy that the keeper obeys must be root's alone to write", path,
            (unsigned)status.st_uid, (unsigned)status.st_mode & 07777);
  error_remedy(error, "look what it says; then chown root %s; chmod go-w %s", path, path);
  return ERROR_PERMISSION;
}

/* StateDirectory= of the unit. */
static const char *grants_directory(void) {
  const char *given = secure_getenv("STATE_DIRECTORY");
  return given && given[0] == '/' && !strchr(given, ':') ? given : GRANTS_DIRECTORY_DEFAULT;
}

static int read_rights(struct session *session, struct grants *ret_grants, const struct policy_signer ***ret_signers, struct error *error) {
  int result = check_policy_rights(session->cli->arguments->policy, error);
  if (!result) result = session_read_policy(session, error);
  if (result == ERROR_CONFIG) error_remedy(error, "`dkimroll check` shows what is wrong in the policy");
  if (!result) result = session_allow_grants(session, grants_directory(), ret_grants, ret_signers, error);
  return result;
}

int cli_command_keeper(const struct cli *cli) {
  struct session session = {.cli = cli};
  struct error error = {0};
  struct grants grants = {0};
  const struct policy_signer **signers = NULL;
  int descriptor = -1;
  int result = cli->separation ? 0 : error_set(&error, ERROR_INTERNAL, "there is no keeper in this program");
  if (!result) result = keeper_socket_take(&descriptor, &error);
  if (!result) result = keeper_socket_check_peer(descriptor, PRIVILEGE_USER, &error);
  if (result) return cli_report(cli, &error);
  result = read_rights(&session, &grants, &signers, &error);
  if (result) {
    cli_report(cli, &error);
    error_context(&error, "keeper");
  }
  const int status = cli->separation->serve_keeper(result ? NULL : session.policy, signers, session_count_signers(&grants), descriptor, &error);
  free(signers);
  grants_release(&grants);
  session_release(&session);
  return result ? cli_exit_status(result) : status;
}
