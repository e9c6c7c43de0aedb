#include "dkimroll/landlock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"

/* Linux 6.2; headers of Debian 12 end with the version before it. */
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif
enum { LANDLOCK_ABI_TRUNCATE = 3 };

static const uint64_t RIGHTS_READING = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
static const uint64_t RIGHTS_WRITING =
    LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
    LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
    LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
    LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER | LANDLOCK_ACCESS_FS_TRUNCATE;
/* The others make no sense for a file, and the kernel refuses them there. */
static const uint64_t RIGHTS_OF_FILE = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE |
                                       LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE;

static uint64_t landlock_bits(enum landlock_rights rights) {
  return ((rights & LANDLOCK_READING) != 0 ? RIGHTS_READING : 0) | ((rights & LANDLOCK_WRITING) != 0 ? RIGHTS_WRITING : 0);
}

int landlock_abi(void) {
  const long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
  return abi >= LANDLOCK_ABI_LEAST ? (int)abi : 0;
}

int landlock_begin(enum landlock_rights about, struct landlock *ret_landlock, struct error *error) {
  struct landlock landlock = {.abi = landlock_abi(), .ruleset = -1, .handled = landlock_bits(about)};
  if (landlock.abi > 0) {
    if (landlock.abi < LANDLOCK_ABI_TRUNCATE) landlock.handled &= ~(uint64_t)LANDLOCK_ACCESS_FS_TRUNCATE;
    const struct landlock_ruleset_attr attributes = {.handled_access_fs = landlock.handled};
    landlock.ruleset = (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes), 0);
    if (landlock.ruleset < 0) return error_set_errno(error, errno, "cannot make a rule set of Landlock");
  }
  *ret_landlock = landlock;
  return 0;
}

void landlock_release(struct landlock *landlock) {
  if (landlock->abi > 0 && landlock->ruleset >= 0) close(landlock->ruleset);
  landlock->ruleset = -1;
}

static int landlock_add(struct landlock *landlock, int place, const char *path, uint64_t rights, struct error *error) {
  struct stat status;
  if (fstat(place, &status) < 0) return error_set_errno(error, errno, "cannot look at %s", path);
  if (!S_ISDIR(status.st_mode)) rights &= RIGHTS_OF_FILE;
  const struct landlock_path_beneath_attr rule = {.allowed_access = rights & landlock->handled, .parent_fd = place};
  if (rule.allowed_access == 0) return 0;
  if (++landlock->rules > LANDLOCK_RULES_MAX)
    return error_set(error, ERROR_LIMIT, "Landlock would need more than %d rules; the last one for %s", LANDLOCK_RULES_MAX, path);
  if (syscall(SYS_landlock_add_rule, landlock->ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0) return 0;
  /* Pipes, sockets and the like: the kernel has no rules for what is on no file system. */
  if (errno == EBADFD) return 0;
  return error_set_errno(error, errno, "cannot add a rule of Landlock for %s", path);
}

int landlock_allow(struct landlock *landlock, const char *path, enum landlock_rights rights, struct error *error) {
  if (landlock->abi == 0) return 0;
  CLEANUP_FREE char *existing = text_duplicate(path);
  if (!existing) return error_set(error, ERROR_NO_MEMORY, "out of memory at the path %s", path);
  CLEANUP_CLOSE int place = open(existing, O_PATH | O_CLOEXEC);
  while (place < 0 && errno == ENOENT) {
    char *slash = strrchr(existing, '/');
    if (!slash || slash == existing) return 0;
    *slash = '\0';
    place = open(existing, O_PATH | O_CLOEXEC);
  }
  if (place < 0) return error_set_errno(error, errno, "cannot look at %s", existing);
  return landlock_add(landlock, place, existing, landlock_bits(rights), error);
}

/* The denied trees by their real paths. */
struct denied_paths {
  char **items;
  size_t count;
};

static void denied_release(struct denied_paths *denied) {
  for (size_t i = 0; i < denied->count; i++) free(denied->items[i]);
  free(denied->items);
}

/* The real path, of which the last part need not exist yet, nor be within reach: links there are not followed. Caller frees. */
static int denied_resolve_one(const char *path, char **ret_real, struct error *error) {
  CLEANUP_FREE char *existing = text_duplicate(path);
  CLEANUP_FREE char *real = NULL;
  if (!existing || path[0] != '/') return error_set(error, ERROR_INVALID, "%s is no absolute path, or memory ran out", path);
  size_t length = strlen(existing);
  struct error reason = {0}; /* what is missing at first is no error in the end */
  int result = file_resolve(existing, &real, &reason);
  while ((result == ERROR_NOT_FOUND || result == ERROR_PERMISSION) && length > 1) {
    do length--;
    while (length > 1 && existing[length] != '/');
    existing[length] = '\0';
    result = file_resolve(existing, &real, &reason);
  }
  if (result < 0 || !real) {
    if (error) *error = reason;
    return result < 0 ? result : ERROR_INTERNAL;
  }
  const bool slash = path[length] == '/' || path[length] == '\0';
  char *whole = text_format("%s%s%s", text_equal(real, "/") ? "" : real, slash ? "" : "/", path + length);
  if (!whole) return error_set(error, ERROR_NO_MEMORY, "out of memory for the rules of Landlock");
  *ret_real = whole;
  return 0;
}

/* The caller releases *denied, also after a failure. */
static int denied_resolve(const char *const *paths, size_t count, struct denied_paths *denied, struct error *error) {
  if (count > LANDLOCK_DENIED_MAX)
    return error_set(error, ERROR_LIMIT, "more than %d directories are to be closed by Landlock", LANDLOCK_DENIED_MAX);
  denied->items = calloc(count + 1, sizeof(char *));
  if (!denied->items) return error_set(error, ERROR_NO_MEMORY, "out of memory for the rules of Landlock");
  for (size_t i = 0; i < count; i++) {
    char *real = NULL;
    const int result = denied_resolve_one(paths[i], &real, error);
    if (result < 0) return result;
    denied->items[denied->count++] = real;
  }
  return 0;
}

enum denied_relation { DENIED_APART = 0, DENIED_INSIDE = 1, DENIED_ABOVE = 2 };

static bool denied_is_below(const char *path, const char *directory) {
  const size_t length = text_equal(directory, "/") ? 0 : strlen(directory);
  return strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static enum denied_relation denied_relate(const struct denied_paths *denied, const char *path) {
  enum denied_relation relation = DENIED_APART;
  for (size_t i = 0; i < denied->count; i++) {
    if (denied_is_below(path, denied->items[i])) return DENIED_INSIDE;
    if (denied_is_below(denied->items[i], path)) relation = DENIED_ABOVE;
  }
  return relation;
}

/* Allows path if nothing below it is denied. *ret_above: something is, so its entries have to be looked at. */
static int landlock_allow_apart(struct landlock *landlock, const struct denied_paths *denied, const char *path,
                                uint64_t rights, bool *ret_above, struct error *error) {
  const enum denied_relation relation = denied_relate(denied, path);
  *ret_above = relation == DENIED_ABOVE;
  if (relation != DENIED_APART) return 0;
  CLEANUP_CLOSE int place = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  struct stat status;
  /* What a link leads to is allowed by its own place or not at all; what is gone or may not be looked at needs no rule. */
  if (place < 0 || fstat(place, &status) < 0 || S_ISLNK(status.st_mode)) return 0;
  return landlock_add(landlock, place, path, rights, error);
}

/* Walks down only along the denied paths, so that the depth is theirs. */
static int landlock_allow_beside(struct landlock *landlock, const struct denied_paths *denied, const char *directory,
                                 uint64_t rights, struct error *error) {
  DIR *listing = opendir(directory);
  if (!listing) return errno == EACCES || errno == ENOENT ? 0 : error_set_errno(error, errno, "cannot list %s", directory);
  int result = 0;
  const struct dirent *entry = NULL;
  while (result == 0 && (entry = readdir(listing))) {
    if (text_equal(entry->d_name, ".") || text_equal(entry->d_name, "..")) continue;
    CLEANUP_FREE char *path = text_format("%s/%s", text_equal(directory, "/") ? "" : directory, entry->d_name);
    bool above = false;
    if (!path) result = error_set(error, ERROR_NO_MEMORY, "out of memory for the rules of Landlock");
    if (result == 0) result = landlock_allow_apart(landlock, denied, path, rights, &above, error);
    if (result == 0 && above) result = landlock_allow_beside(landlock, denied, path, rights, error);
  }
  closedir(listing);
  return result;
}

int landlock_allow_except(struct landlock *landlock, const char *const *denied_paths, size_t count,
                          enum landlock_rights rights, struct error *error) {
  if (landlock->abi == 0) return 0;
  CLEANUP(denied_release) struct denied_paths denied = {0};
  int result = denied_resolve(denied_paths, count, &denied, error);
  bool above = false;
  if (result == 0) result = landlock_allow_apart(landlock, &denied, "/", landlock_bits(rights), &above, error);
  if (result == 0 && above) result = landlock_allow_beside(landlock, &denied, "/", landlock_bits(rights), error);
  return result;
}

int landlock_enforce(struct landlock *landlock, struct error *error) {
  if (landlock->abi == 0) return 0;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_landlock_restrict_self, landlock->ruleset, 0) < 0)
    return error_set_errno(error, errno, "cannot put the rules of Landlock into force");
  return 0;
}
