/* The rules of OpenDKIM's RequireSafeKeys, as dkimf_securefile() and dkimf_checkfsnode() of opendkim.c 2.11 apply them: every directory on the
 * resolved path, and the file. On top of them come the rights that open(2) asks for, also in directories that only hold links. */
#include "dkimroll/keypair.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

enum {
  SAFE_LINKS_MAX = 40,     /* as the kernel follows them (path_resolution(7)) */
  SAFE_NAME_SIZE = 64,     /* of a user or group in a message */
  SAFE_GROUPS_MAX = 65536, /* NGROUPS_MAX of the kernel: no process can have more */
  SAFE_GROUPS_FIRST = 32,
};

/* Who will open the key. */
struct safe_reader {
  uid_t uid;
  char user[SAFE_NAME_SIZE];
  gid_t *groups; /* owned: initgroups(3) is what OpenDKIM calls before it drops root */
  int group_count;
};

static void safe_reader_release(struct safe_reader *reader) {
  free(reader->groups);
}

static const char *safe_user_name(uid_t uid, char name[SAFE_NAME_SIZE]) {
  const struct passwd *account = getpwuid(uid);
  snprintf(name, SAFE_NAME_SIZE, "%u", (unsigned)uid);
  if (account) text_copy(name, SAFE_NAME_SIZE, account->pw_name);
  return name;
}

static int safe_reader_fill(uid_t uid, gid_t gid, struct safe_reader *reader, struct error *error) {
  *reader = (struct safe_reader){.uid = uid};
  safe_user_name(uid, reader->user);
  int room = SAFE_GROUPS_FIRST;
  while (room <= SAFE_GROUPS_MAX) {
    gid_t *groups = realloc(reader->groups, (size_t)room * sizeof(*groups));
    if (!groups)
      return error_set(error, ERROR_NO_MEMORY, "out of memory while the groups of %s were read", reader->user);
    reader->groups = groups;
    reader->group_count = room;
    if (getgrouplist(reader->user, gid, groups, &reader->group_count) >= 0) return 0;
    room *= 2;
  }
  return error_set(error, ERROR_LIMIT, "%s is in more than %d groups", reader->user, SAFE_GROUPS_MAX);
}

/* Which digit of a mode is for the reader: 'u', 'g' or 'o', as chmod(1) names them. Access control lists are not looked at. */
static char safe_class(const struct safe_reader *reader, const struct stat *status) {
  if (status->st_uid == reader->uid) return 'u';
  for (int i = 0; i < reader->group_count; i++) {
    if (status->st_gid == reader->groups[i]) return 'g';
  }
  return 'o';
}

/* right as an octal digit: 4 read, 1 search. */
static bool safe_has_right(const struct safe_reader *reader, const struct stat *status, mode_t right) {
  if (reader->uid == 0) return true;
  char class = safe_class(reader, status);
  return (status->st_mode >> (class == 'u' ? 6 : class == 'g' ? 3 : 0) & right) != 0;
}

static int safe_check_search(const struct safe_reader *reader, const char *path, const struct stat *status,
                             struct error *error) {
  if (safe_has_right(reader, status, 1)) return 0;
  char owner[SAFE_NAME_SIZE];
  error_set(error, ERROR_PERMISSION, "%s may not enter the directory %s (mode %04o, owner %s)", reader->user, path,
            status->st_mode & 07777, safe_user_name(status->st_uid, owner));
  error_remedy(error, "chmod %c+x %s", safe_class(reader, status), path);
  return ERROR_PERMISSION;
}

/* A path under way: what is resolved, without any link, and what is still to be looked at. */
struct safe_walk {
  char resolved[PATH_MAX]; /* "" is the root */
  char pending[PATH_MAX];
  unsigned links;
  bool missing; /* the next component does not exist */
};

static int safe_refuse_long(const char *path, struct error *error) {
  return error_set(error, ERROR_INVALID, "the path %s is longer than %d octets", path, PATH_MAX - 1);
}

/* Cuts the next component off pending. false: there is none. */
static bool safe_walk_next(struct safe_walk *walk, char component[NAME_MAX + 2]) {
  const char *start = walk->pending + strspn(walk->pending, "/");
  size_t length = strcspn(start, "/");
  if (length == 0) return false;
  /* A name that is too long is cut to one that is still too long, and the kernel says so. */
  size_t copied = length <= NAME_MAX ? length : NAME_MAX + 1;
  memcpy(component, start, copied);
  component[copied] = '\0';
  memmove(walk->pending, start + length, strlen(start + length) + 1);
  return true;
}

static int safe_walk_link(struct safe_walk *walk, const char *path, struct error *error) {
  char target[PATH_MAX];
  ssize_t length = readlink(path, target, sizeof(target) - 1);
  if (length < 0) return error_set_errno(error, errno, "cannot read the link %s", path);
  target[length] = '\0';
  if (++walk->links > SAFE_LINKS_MAX) return error_set_errno(error, ELOOP, "cannot resolve %s", path);
  char joined[PATH_MAX];
  int used = snprintf(joined, sizeof(joined), "%s%s", target, walk->pending);
  if (used < 0 || (size_t)used >= sizeof(joined)) return safe_refuse_long(path, error);
  memcpy(walk->pending, joined, sizeof(joined));
  if (target[0] == '/') walk->resolved[0] = '\0';
  return 0;
}

static int safe_walk_step(struct safe_walk *walk, const struct safe_reader *reader, const char *component,
                          struct error *error) {
  if (text_equal(component, ".")) return 0;
  char *slash = strrchr(walk->resolved, '/');
  if (text_equal(component, "..")) {
    if (slash) *slash = '\0';
    return 0;
  }
  char path[PATH_MAX];
  int used = snprintf(path, sizeof(path), "%s/%s", walk->resolved, component);
  if (used < 0 || (size_t)used >= sizeof(path)) return safe_refuse_long(walk->resolved, error);
  struct stat status;
  if (lstat(path, &status) < 0) {
    walk->missing = errno == ENOENT;
    return walk->missing ? 0 : error_set_errno(error, errno, "cannot look at %s", path);
  }
  if (S_ISLNK(status.st_mode)) return safe_walk_link(walk, path, error);
  memcpy(walk->resolved, path, sizeof(path));
  return S_ISDIR(status.st_mode) ? safe_check_search(reader, path, &status, error) : 0;
}

/* Resolves path as far as it exists, and looks whether the reader may pass every directory on the way. */
static int safe_walk_path(struct safe_walk *walk, const struct safe_reader *reader, struct error *error) {
  char component[NAME_MAX + 2];
  struct stat root;
  if (stat("/", &root) < 0) return error_set_errno(error, errno, "cannot look at /");
  int result = safe_check_search(reader, "/", &root, error);
  while (result == 0 && !walk->missing && safe_walk_next(walk, component)) {
    result = safe_walk_step(walk, reader, component, error);
  }
  return result;
}

/* A user other than the reader and root who is in the group, by his own entry or by the group's list; false: none. */
static bool safe_find_stranger(const struct safe_reader *reader, gid_t gid, const struct group *group,
                               char name[SAFE_NAME_SIZE]) {
  bool found = false;
  setpwent();
  for (const struct passwd *user = getpwent(); user && !found; user = getpwent()) {
    found = user->pw_gid == gid && user->pw_uid != reader->uid && user->pw_uid != 0;
    if (found) text_copy(name, SAFE_NAME_SIZE, user->pw_name);
  }
  endpwent();
  for (char **member = group->gr_mem; !found && *member; member++) {
    found = !text_equal(*member, reader->user) && !text_equal(*member, "root");
    if (found) text_copy(name, SAFE_NAME_SIZE, *member);
  }
  return found;
}

/* OpenDKIM lets a group read or write only if nobody but the reader and root is in it. */
static int safe_check_group(const struct safe_reader *reader, const char *path, const struct stat *status,
                            struct error *error) {
  char stranger[SAFE_NAME_SIZE];
  const struct group *group = getgrgid(status->st_gid);
  if (!group) {
    return error_set(error, ERROR_PERMISSION, "%s belongs to the group %u, which is unknown on this host", path,
                     (unsigned)status->st_gid);
  }
  if (!safe_find_stranger(reader, status->st_gid, group, stranger)) return 0;
  return error_set(error, ERROR_PERMISSION,
                   "the group of %s (mode %04o) is %s, and OpenDKIM refuses that because %s is in it too", path,
                   status->st_mode & 07777, group->gr_name, stranger);
}

static int safe_check_directory(const struct safe_reader *reader, const char *path, const struct stat *status,
                                struct error *error) {
  char owner[SAFE_NAME_SIZE];
  if ((status->st_mode & S_IWOTH) != 0) {
    error_set(error, ERROR_PERMISSION, "every user may write to the directory %s (mode %04o)", path,
              status->st_mode & 07777);
    if ((status->st_mode & S_ISVTX) != 0) {
      error_remedy(error, "keep private keys elsewhere: change key-directory in the policy");
    } else {
      error_remedy(error, "chmod o-w %s", path);
    }
    return ERROR_PERMISSION;
  }
  int result = (status->st_mode & S_IWGRP) != 0 ? safe_check_group(reader, path, status, error) : 0;
  if (result < 0) {
    error_remedy(error, "chmod g-w %s", path);
    return result;
  }
  if ((status->st_mode & S_IWUSR) == 0 || status->st_uid == 0 || status->st_uid == reader->uid) return 0;
  error_set(error, ERROR_PERMISSION, "the directory %s belongs to %s, and OpenDKIM accepts only root and %s", path,
            safe_user_name(status->st_uid, owner), reader->user);
  error_remedy(error, "chown root %s", path);
  return ERROR_PERMISSION;
}

static int safe_check_file(const struct safe_reader *reader, const char *path, const struct stat *status,
                           struct error *error) {
  char owner[SAFE_NAME_SIZE];
  int result = 0;
  if (!S_ISREG(status->st_mode)) return error_set(error, ERROR_PERMISSION, "%s is not a regular file", path);
  safe_user_name(status->st_uid, owner);
  if (status->st_uid != 0 && status->st_uid != reader->uid) {
    result =
        error_set(error, ERROR_PERMISSION, "the private key %s belongs to %s, and OpenDKIM accepts only root and %s",
                  path, owner, reader->user);
  } else if ((status->st_mode & (S_IROTH | S_IWOTH)) != 0) {
    result = error_set(error, ERROR_PERMISSION, "every user may read or write the private key %s (mode %04o)", path,
                       status->st_mode & 07777);
  } else if ((status->st_mode & (S_IRGRP | S_IWGRP)) != 0) {
    result = safe_check_group(reader, path, status, error);
  }
  if (result == 0 && !safe_has_right(reader, status, 4)) {
    result = error_set(error, ERROR_PERMISSION, "%s may not read the private key %s (mode %04o, owner %s)",
                       reader->user, path, status->st_mode & 07777, owner);
  }
  if (result < 0) error_remedy(error, "chown %s %s && chmod 600 %s", reader->user, path, path);
  return result;
}

/* One object of the resolved path; end is where its name ends in resolved. */
static int safe_check_node(const struct safe_reader *reader, char *resolved, size_t end, bool last,
                           struct error *error) {
  char kept = resolved[end];
  resolved[end] = '\0';
  const char *path = end > 0 ? resolved : "/";
  struct stat status;
  int result = 0;
  if (stat(path, &status) < 0)
    result = error_set_errno(error, errno, "cannot look at %s", path);
  else if (last)
    result = safe_check_file(reader, path, &status, error);
  else
    result = safe_check_directory(reader, path, &status, error);
  resolved[end] = kept;
  return result;
}

int keypair_check_safe(const char *path, uid_t reader, gid_t reader_group, struct error *error) {
  CLEANUP(safe_reader_release) struct safe_reader who = {0};
  struct safe_walk walk = {.missing = false};
  if (path[0] != '/') return error_set(error, ERROR_INVALID, "%s is not an absolute path", path);
  if (!text_copy(walk.pending, sizeof(walk.pending), path)) return safe_refuse_long(path, error);
  int result = safe_reader_fill(reader, reader_group, &who, error);
  if (result == 0) result = safe_walk_path(&walk, &who, error);
  size_t length = strlen(walk.resolved);
  for (size_t end = 0; result == 0 && end <= length; end++) {
    if (end > 0 && walk.resolved[end] != '/' && walk.resolved[end] != '\0') continue;
    bool is_key = end == length && !walk.missing;
    result = safe_check_node(&who, walk.resolved, end, is_key, error);
  }
  return result;
}
