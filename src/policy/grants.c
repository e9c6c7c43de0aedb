#include "dkimroll/grants.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"

#define GRANTS_HEAD                                                                                                    \
  "# dkimroll: what policies of this host granted the keeper, now or once. Keys that live may need it; a line that none needs may go.\n"

static const char word_signer[] = GRANTS_WORD_SIGNER;
static const char word_archive[] = "archive ";

void grants_release(struct grants *grants) {
  if (!grants) return;
  for (size_t i = 0; i < grants->count; i++) {
    free(grants->items[i].line);
    policy_signer_free(grants->items[i].signer);
  }
  free(grants->items);
  *grants = (struct grants){0};
}

static bool grants_have(const struct grants *grants, const char *line) {
  for (size_t i = 0; i < grants->count; i++)
    if (text_equal(grants->items[i].line, line)) return true;
  return false;
}

/* Takes line over; on failure it is freed. */
static int grants_add(struct grants *grants, char *line, struct error *error) {
  CLEANUP_FREE char *owned = line;
  if (!owned) return error_set(error, ERROR_NO_MEMORY, "out of memory for the keeper's grants");
  if (grants_have(grants, owned)) return 0;
  if (grants->count == GRANTS_MAX) {
    error_set(error, ERROR_LIMIT, "more than %d grants", GRANTS_MAX);
    error_remedy(error, "take out lines of signers and archives that no living key was made with");
    return ERROR_LIMIT;
  }
  if (strchr(owned, '\n')) return error_set(error, ERROR_INVALID, "a path with the end of a line in it cannot be granted");
  struct grant grant = {.line = owned};
  int result = 0;
  if (text_starts(owned, word_signer))
    result = policy_signer_parse(owned + strlen(word_signer), &grant.signer, error);
  else if (text_starts(owned, word_archive))
    grant.archive = owned + strlen(word_archive);
  else
    result = error_set(error, ERROR_INVALID, "a grant begins with \"signer\" or \"archive\"");
  if (result < 0) return result;
  struct grant *items = reallocarray(grants->items, grants->count + 1, sizeof(*items));
  if (!items) {
    policy_signer_free(grant.signer);
    return error_set(error, ERROR_NO_MEMORY, "out of memory for the keeper's grants");
  }
  grants->items = items;
  grants->items[grants->count++] = grant;
  TAKE_PTR(owned);
  return 0;
}

/* Whoever may write there decides what the keeper does. */
static int grants_check_rights(const char *path, const struct stat *status, struct error *error) {
  const bool own = status->st_uid == 0 || status->st_uid == geteuid();
  if (own && (status->st_mode & (S_IWGRP | S_IWOTH)) == 0) return 0;
  error_set(error, ERROR_PERMISSION, "%s belongs to user %u and has mode %04o, so others could grant the keeper what the policy does not", path,
            (unsigned)status->st_uid, (unsigned)status->st_mode & 07777);
  error_remedy(error, "look what it says; then chown root %s; chmod go-w %s", path, path);
  return ERROR_PERMISSION;
}

static int grants_parse(const char *path, char *text, struct grants *grants, struct error *error) {
  unsigned number = 0;
  for (char *line = text; *line != '\0';) {
    const size_t length = strcspn(line, "\n");
    char *next = line[length] == '\n' ? line + length + 1 : line + length;
    line[length] = '\0';
    number++;
    if (line[0] != '\0' && line[0] != '#') {
      const int result = grants_add(grants, text_duplicate(line), error);
      if (result < 0) {
        error_context(error, "%s:%u", path, number);
        return result;
      }
    }
    line = next;
  }
  return 0;
}

int grants_read(const char *directory, struct grants *ret_grants, struct error *error) {
  CLEANUP_FREE char *path = text_format("%s/" GRANTS_FILE_NAME, directory);
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  struct stat status;
  struct error reason = {0};
  if (!path) return error_set(error, ERROR_NO_MEMORY, "out of memory for the keeper's grants");
  int result = file_read(path, GRANTS_FILE_MAX, &text, &size, &status, &reason);
  if (result == ERROR_NOT_FOUND) {
    *ret_grants = (struct grants){0};
    return 0;
  }
  CLEANUP(grants_release) struct grants grants = {0};
  if (result == 0) result = grants_check_rights(path, &status, &reason);
  if (result == 0 && strlen(text) != size) result = error_set(&reason, ERROR_INVALID, "%s: there is a NUL in it", path);
  if (result == 0) result = grants_parse(path, text, &grants, &reason);
  if (result < 0) {
    if (error) *error = reason;
    return result;
  }
  *ret_grants = grants;
  grants.items = NULL;
  grants.count = 0;
  return 0;
}

static int grants_add_policy(struct grants *grants, const struct policy *policy, struct error *error) {
  int result = 0;
  for (size_t i = 0; i < policy->signer_count && result == 0; i++) {
    CLEANUP_FREE char *text = NULL;
    result = policy_signer_format(&policy->signers[i], &text, error);
    if (result == 0) result = grants_add(grants, text_format("%s%s", word_signer, text), error);
  }
  for (size_t i = 0; i < policy->rules_count && result == 0; i++)
    if (policy->rules[i].archive_directory)
      result = grants_add(grants, text_format("%s%s", word_archive, policy->rules[i].archive_directory), error);
  return result;
}

static int grants_write(const char *directory, const struct grants *grants, struct error *error) {
  CLEANUP_FREE char *path = text_format("%s/" GRANTS_FILE_NAME, directory);
  struct buffer text = BUFFER_WITH_MAXIMUM(GRANTS_FILE_MAX);
  const struct file_rights rights = {.owner = geteuid(), .group = getegid(), .mode = S_IRUSR | S_IWUSR};
  buffer_add_text(&text, GRANTS_HEAD);
  for (size_t i = 0; i < grants->count; i++) {
    buffer_add_text(&text, grants->items[i].line);
    buffer_add_text(&text, "\n");
  }
  int result = 0;
  if (!path || text.failed)
    result = error_set(error, ERROR_LIMIT, "%s: the keeper's grants are more than %d octets, or memory ran out", directory, GRANTS_FILE_MAX);
  else
    result = file_replace(path, text.data, text.size, &rights, error);
  buffer_release(&text);
  return result;
}

/* Waits for its turn: another keeper that starts holds it for some milliseconds. */
static int grants_lock(const char *directory, int *ret_descriptor, struct error *error) {
  const struct file_rights rights = {.owner = geteuid(), .group = getegid(), .mode = S_IRWXU};
  const int result = file_make_directories(directory, &rights, error);
  if (result < 0) return result;
  CLEANUP_CLOSE int descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  struct stat status;
  if (descriptor < 0 || fstat(descriptor, &status) < 0) return error_set_errno(error, errno, "cannot open %s", directory);
  if (grants_check_rights(directory, &status, error) < 0) return ERROR_PERMISSION;
  while (flock(descriptor, LOCK_EX) < 0)
    if (errno != EINTR) return error_set_errno(error, errno, "cannot lock %s", directory);
  *ret_descriptor = TAKE_FD(descriptor);
  return 0;
}

int grants_extend(const char *directory, const struct policy *policy, struct grants *ret_grants, struct error *error) {
  CLEANUP_CLOSE int lock = -1;
  CLEANUP(grants_release) struct grants grants = {0};
  int result = grants_lock(directory, &lock, error);
  if (result == 0) result = grants_read(directory, &grants, error);
  if (result < 0) return result;
  const size_t before = grants.count;
  result = grants_add_policy(&grants, policy, error);
  if (result == 0 && grants.count > before) result = grants_write(directory, &grants, error);
  if (result < 0) return result;
  *ret_grants = grants;
  grants.items = NULL;
  grants.count = 0;
  return 0;
}
