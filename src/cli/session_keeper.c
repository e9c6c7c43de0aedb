/* How a command comes to its keeper, and what it gives up as soon as it has it. After this the process cannot open a private key any more: as another user
 * than root if there is one, and behind Landlock where the kernel has it. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/grants.h"
#include "dkimroll/keeper_socket.h"
#include "dkimroll/key_jobs.h"
#include "dkimroll/landlock.h"
#include "dkimroll/privilege.h"
#include "dkimroll/session.h"
#include "dkimroll/text.h"

/* ---- giving up root ---- */

/* The directory of the state, without a final "/". Caller frees. */
static char *state_directory(const struct session *session) {
  char *directory = session->state ? text_duplicate(session->state) : NULL;
  char *slash = directory ? strrchr(directory, '/') : NULL;
  if (slash) slash[slash == directory] = '\0';
  return directory;
}

/* Whose state it is: who else writes it - the unit, or whoever made the directory - must be able to go on. */
static bool find_owner(const struct session *session, struct stat *ret_status) {
  CLEANUP_FREE char *directory = state_directory(session);
  return session->cli->separation && geteuid() == 0 && directory && stat(directory, ret_status) == 0 && ret_status->st_uid != 0;
}

bool session_will_drop(struct session *session) {
  struct stat status;
  return session_find_state(session, NULL) == 0 && find_owner(session, &status);
}

int session_drop(struct session *session, struct error *error) {
  struct stat status;
  if (!find_owner(session, &status)) return 0;
  const int result = privilege_drop(status.st_uid, status.st_gid, error);
  if (result == 0) session->dropped = true;
  return result;
}

/* ---- the keeper ---- */

/* Are both names of one file? A policy that is not there is nobody's. */
bool session_has_usual_policy(const struct session *session) {
  CLEANUP_FREE char *own = NULL;
  CLEANUP_FREE char *usual = NULL;
  return file_resolve(session->cli->arguments->policy, &own, NULL) == 0 && file_resolve(CLI_POLICY_DEFAULT, &usual, NULL) == 0 &&
         text_equal(own, usual);
}

/* The keeper of the service reads the usual policy, so it serves no other. *ret_descriptor is -1 where none listens: then one of our own has to do. */
static int connect_keeper(struct session *session, int *ret_descriptor, struct error *error) {
  const char *given = session->cli->arguments->keeper;
  *ret_descriptor = -1;
  if (!given && (!session->cli->separation || !session_has_usual_policy(session))) return 0;
  const char *path = given ? given : KEEPER_SOCKET_DEFAULT;
  struct error reason = {0};
  const int result = keeper_socket_connect(path, ret_descriptor, &reason);
  if (result == 0) {
    session->keeper_socket = text_duplicate(path);
    if (!session->keeper_socket) return error_set(error, ERROR_NO_MEMORY, "out of memory");
    return 0;
  }
  if (given && error) *error = reason;
  return given ? result : 0;
}

/* With the store's word for what earlier policies granted: it is believed where both sides run as one user. */
static int fork_keeper(struct session *session, int *ret_descriptor, pid_t *ret_pid, struct error *error) {
  const int result = session_read_old_signers(session, error);
  if (result) return result;
  return session->cli->wiring->start_keeper(session->policy, (const struct policy_signer *const *)session->old_signers,
                                            session->old_signer_count, ret_descriptor, ret_pid, error);
}

int session_allow_grants(const struct session *session, const char *directory, struct grants *ret_grants,
                         const struct policy_signer ***ret_signers, struct error *error) {
  CLEANUP(grants_release) struct grants grants = {0};
  int result = grants_extend(directory, session->policy, &grants, error);
  if (result) return result;
  const struct policy_signer **signers = calloc(grants.count + 1, sizeof(const struct policy_signer *));
  if (!signers) return error_set(error, ERROR_NO_MEMORY, "out of memory for the keeper's grants");
  size_t count = 0;
  for (size_t i = 0; i < grants.count && !result; i++) {
    if (grants.items[i].signer) signers[count++] = grants.items[i].signer;
    else result = session->cli->separation->allow_archive(grants.items[i].archive, error);
  }
  if (result) {
    free(signers);
    return error_context(error, "%s/" GRANTS_FILE_NAME, directory);
  }
  *ret_grants = grants;
  *ret_signers = signers;
  grants.items = NULL;
  grants.count = 0;
  return 0;
}

size_t session_count_signers(const struct grants *grants) {
  size_t count = 0;
  for (size_t i = 0; i < grants->count; i++) count += grants->items[i].signer != NULL;
  return count;
}

/* As root, for a loop side that is about to be another user: only what root itself wrote down counts. */
static int fork_granted_keeper(const struct session *session, int *ret_descriptor, pid_t *ret_pid, struct error *error) {
  CLEANUP(grants_release) struct grants grants = {0};
  const struct policy_signer **signers = NULL;
  int result = session_allow_grants(session, session->cli->separation->grants_directory, &grants, &signers, error);
  if (!result)
    result = session->cli->wiring->start_keeper(session->policy, signers, session_count_signers(&grants), ret_descriptor, ret_pid, error);
  free(signers);
  return result;
}

/* ---- Landlock ---- */

/* The directories of private keys, as the keeper names them. */
static int find_closed(const struct session *session, struct key_roots *roots, struct error *error) {
  const struct policy *policy = session->policy;
  int result = 0;
  for (size_t i = 0; i < policy->signer_count && !result; i++) result = key_roots_add(roots, policy->signers[i].key_directory, error);
  for (size_t i = 0; i < session->old_signer_count && !result; i++)
    result = key_roots_add(roots, session->old_signers[i]->key_directory, error);
  for (size_t i = 0; i < policy->rules_count && !result; i++)
    if (policy->rules[i].archive_directory) result = key_roots_add(roots, policy->rules[i].archive_directory, error);
  return result;
}

/* The directory of a file that is replaced; one that is not there is told when the file is written. */
static int allow_directory_of(const char *path, struct landlock *landlock, struct error *error) {
  CLEANUP_FREE char *directory = text_duplicate(path);
  char *slash = directory ? strrchr(directory, '/') : NULL;
  if (!slash) return error_set(error, ERROR_NO_MEMORY, "out of memory");
  slash[slash == directory] = '\0';
  return access(directory, F_OK) == 0 ? landlock_allow(landlock, directory, LANDLOCK_ALL, error) : 0;
}

static int allow_metrics(const char *path, struct landlock *landlock, struct error *error) {
  CLEANUP_FREE char *target = NULL;
  int result = allow_directory_of(path, landlock, error);
  if (!result && file_resolve(path, &target, NULL) == 0) result = allow_directory_of(target, landlock, error);
  return result;
}

/* What is needed even if it lies below a closed directory. */
static int allow_needed(const struct session *session, struct landlock *landlock, struct error *error) {
  static const char *const writable[] = {"/tmp", "/var/tmp", "/dev/null", "/dev/tty"}; /* SQLite sorts in temporary files */
  const struct policy *policy = session->policy;
  CLEANUP_FREE char *directory = state_directory(session);
  if (!directory) return error_set(error, ERROR_NO_MEMORY, "out of memory");
  int result = landlock_allow(landlock, directory, LANDLOCK_ALL, error);
  for (size_t i = 0; i < ARRAY_SIZE(writable) && !result; i++)
    if (access(writable[i], F_OK) == 0) result = landlock_allow(landlock, writable[i], LANDLOCK_ALL, error);
  if (!result && policy->metrics.file) result = allow_metrics(policy->metrics.file, landlock, error);
  for (size_t i = 0; i < policy->file_count && !result; i++) result = landlock_allow(landlock, policy->files[i], LANDLOCK_READING, error);
  for (size_t i = 0; i < policy->publisher_count && !result; i++) {
    const char *file = policy->publishers[i].tsig_file;
    if (file && file[0] == '/' && access(file, F_OK) == 0) result = landlock_allow(landlock, file, LANDLOCK_READING, error);
  }
  return result;
}

static int close_files(struct session *session, struct error *error) {
  CLEANUP(key_roots_release) struct key_roots roots = {.count = 0};
  CLEANUP(landlock_release) struct landlock landlock = {.ruleset = -1};
  int result = find_closed(session, &roots, error);
  if (!result) result = landlock_begin(LANDLOCK_ALL, &landlock, error);
  if (!result)
    result = landlock_allow_except(&landlock, (const char *const *)roots.paths, roots.count, LANDLOCK_READING, error);
  if (!result) result = allow_needed(session, &landlock, error);
  if (!result) result = landlock_enforce(&landlock, error);
  if (!result) session->landlock_abi = landlock.abi;
  return result;
}

/* A second wall that cannot be raised, as beside a directory with more entries than there may be rules, must not stop what it was to protect: check tells. */
static void confine(struct session *session) {
  if (close_files(session, &session->wall_missing) == 0) session->wall_missing.code = 0;
  session->confined = true;
}

/* ---- all of it ---- */

/* As the user that this process is by now, and before its walls: what the policy names as a command may need more than they leave. */
static int fork_runner(struct session *session, struct error *error) {
  if (!session->cli->wiring->start_runner) return 0;
  const int result = session->cli->wiring->start_runner(session->policy, &session->runner_descriptor, &session->runner_pid, error);
  session->has_runner = result == 0 && session->runner_descriptor >= 0;
  return result;
}

int session_begin_keeper(struct session *session, int *ret_descriptor, pid_t *ret_pid, struct error *error) {
  CLEANUP_CLOSE int descriptor = -1;
  pid_t pid = 0;
  int result = connect_keeper(session, &descriptor, error);
  const bool drops = session_will_drop(session);
  const bool trusted = descriptor < 0 && !drops;
  if (!result && trusted) result = fork_keeper(session, &descriptor, &pid, error);
  if (!result && !trusted && descriptor < 0) result = fork_granted_keeper(session, &descriptor, &pid, error);
  if (!result) result = session_drop(session, error);
  if (!result) result = fork_runner(session, error);
  /* The store is read with the rights of its owner; of what it says here only directories are taken, to be closed. */
  if (!result && !trusted) result = session_read_old_signers(session, error);
  if (result) return result;
  if (session->cli->separation) confine(session);
  *ret_descriptor = TAKE_FD(descriptor);
  *ret_pid = pid;
  return 0;
}
