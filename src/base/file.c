#include "dkimroll/file.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/entropy.h"
#include "dkimroll/text.h"

enum {
  FILE_TEMPORARY_ATTEMPTS_MAX = 16, /* names are random, so a second attempt is rare already */
  FILE_LOCK_ATTEMPTS_MAX = 16,      /* how often the locked file may have been replaced meanwhile */
  FILE_UNSIZED_CAPACITY = 4096,     /* first room for files that report no size, as in /proc */
};

/* A place in a directory that is held open, so that a renamed parent cannot send the steps of one write to two places. */
struct file_place {
  int directory;
  const char *path; /* borrowed, for messages */
  const char *name; /* borrowed, last component of path */
  char temporary[NAME_MAX + 1];
};

static void file_place_close(struct file_place *place) {
  if (place->directory >= 0) close(place->directory);
}

/* What a new file is to hold, and whose it is. */
struct file_content {
  const void *data;
  size_t size;
  const struct file_rights *rights;
};

static const char *file_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

/* The directory that holds path, as a string that the caller frees. */
static char *file_parent(const char *path) {
  const char *name = file_name(path);
  if (name == path) return text_duplicate(".");
  size_t length = (size_t)(name - path);
  while (length > 1 && path[length - 1] == '/') length--;
  return strndup(path, length);
}

static int file_open_parent(const char *path, int *ret_directory, struct error *error) {
  CLEANUP_FREE char *parent = file_parent(path);
  if (!parent) return error_set(error, ERROR_NO_MEMORY, "%s: out of memory", path);
  int directory = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return error_set_errno(error, errno, "%s: cannot open the directory %s", path, parent);
  *ret_directory = directory;
  return 0;
}

static int file_place_open(const char *path, struct file_place *place, struct error *error) {
  *place = (struct file_place){.directory = -1, .path = path, .name = file_name(path)};
  if (place->name[0] == '\0' || text_equal(place->name, ".") || text_equal(place->name, ".."))
    return error_set(error, ERROR_INVALID, "%s: does not name a file", path);
  return file_open_parent(path, &place->directory, error);
}

static void file_place_choose_temporary(struct file_place *place) {
  snprintf(place->temporary, sizeof(place->temporary), ".%.*s" FILE_TEMPORARY_MARK "%0*x", FILE_NAME_PART_MAX, place->name, FILE_TEMPORARY_DIGITS,
           (unsigned)entropy_below(&entropy_system, UINT32_MAX));
}

static int file_set_rights(int descriptor, const struct file_rights *rights) {
  struct stat status;
  if (fchmod(descriptor, rights->mode) < 0 || fstat(descriptor, &status) < 0) return -1;
  /* Giving a file to whom it belongs already needs no privilege when it is not asked for. */
  if (status.st_uid == rights->owner && status.st_gid == rights->group) return 0;
  return fchown(descriptor, rights->owner, rights->group);
}

static int file_write_all(int descriptor, const void *data, size_t size) {
  const char *next = data;
  while (size > 0) {
    ssize_t written = write(descriptor, next, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return -1;
    next += written;
    size -= (size_t)written;
  }
  return 0;
}

/* Who holds it lives (file_leftover.c). false: it was taken for a leftover in the moment before. A file system without locks has no leftovers taken away. */
static bool file_hold(int descriptor) {
  struct stat status;
  if (flock(descriptor, LOCK_EX | LOCK_NB) < 0) return errno != EWOULDBLOCK;
  return fstat(descriptor, &status) < 0 || status.st_nlink > 0;
}

static int file_open_temporary(struct file_place *place) {
  for (int attempt = 0; attempt < FILE_TEMPORARY_ATTEMPTS_MAX; attempt++) {
    file_place_choose_temporary(place);
    /* Nobody else can read it until it has its owner. */
    int descriptor = openat(place->directory, place->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                            S_IRUSR | S_IWUSR);
    if (descriptor < 0 && errno == EEXIST) continue;
    if (descriptor < 0 || file_hold(descriptor)) return descriptor;
    close(descriptor);
  }
  errno = EEXIST;
  return -1;
}

/* Writes data completely, and on stable storage, into the new file, which stays open: it is linked by its descriptor, or held by it. */
static int file_fill(int descriptor, const struct file_place *place, const struct file_content *content, struct error *error) {
  const char *step = NULL;
  /* Rights come before the first octet: at no moment can the wrong user read a private key. */
  if (file_set_rights(descriptor, content->rights) < 0)
    step = "set owner and mode";
  else if (file_write_all(descriptor, content->data, content->size) < 0)
    step = "write";
  else if (fsync(descriptor) < 0)
    step = "sync";
  return step ? error_set_errno(error, errno, "%s: cannot %s the new file", place->path, step) : 0;
}

/* The same under a temporary name beside the place, and held until the caller closes it; on failure nothing is left. */
static int file_write_temporary(struct file_place *place, const struct file_content *content, int *ret_descriptor, struct error *error) {
  CLEANUP_CLOSE int descriptor = file_open_temporary(place);
  if (descriptor < 0) return error_set_errno(error, errno, "%s: cannot create a temporary file beside it", place->path);
  int result = file_fill(descriptor, place, content, error);
  if (result < 0) {
    unlinkat(place->directory, place->temporary, 0);
    return result;
  }
  *ret_descriptor = TAKE_FD(descriptor);
  return 0;
}

static int file_refuse_symbolic_link(const struct file_place *place, struct error *error) {
  struct stat status;
  if (fstatat(place->directory, place->name, &status, AT_SYMLINK_NOFOLLOW) < 0)
    return errno == ENOENT ? 0 : error_set_errno(error, errno, "%s: cannot look at it", place->path);
  if (!S_ISLNK(status.st_mode)) return 0;
  error_set(error, ERROR_INVALID, "%s: is a symbolic link, which would be replaced by a file", place->path);
  error_remedy(error, "name the file that the link points to");
  return ERROR_INVALID;
}

int file_replace(const char *path, const void *data, size_t size, const struct file_rights *rights,
                 struct error *error) {
  CLEANUP(file_place_close) struct file_place place = {.directory = -1};
  CLEANUP_CLOSE int held = -1;
  const struct file_content content = {data, size, rights};
  int result = file_place_open(path, &place, error);
  if (result < 0) return result;
  result = file_refuse_symbolic_link(&place, error);
  if (result < 0) return result;
  file_remove_leftovers(place.directory, place.name);
  result = file_write_temporary(&place, &content, &held, error);
  if (result < 0) return result;
  if (renameat(place.directory, place.temporary, place.directory, place.name) < 0) {
    int failure = errno;
    unlinkat(place.directory, place.temporary, 0);
    return error_set_errno(error, failure, "%s: cannot rename the new file to it", path);
  }
  if (fsync(place.directory) < 0) return error_set_errno(error, errno, "%s: cannot sync its directory", path);
  return 0;
}

/* A file without a name gets its name when it is complete: a crash leaves nothing, least of all a private key that nobody knows of. *ret_possible says
 * whether the file system can do that, and whether there is a /proc, by which a descriptor is linked without a privilege (open(2), O_TMPFILE). */
static int file_create_unnamed(const struct file_place *place, const struct file_content *content, bool *ret_possible, struct error *error) {
  char name[sizeof "/proc/self/fd/" + 3 * sizeof(int)];
  CLEANUP_CLOSE int descriptor = openat(place->directory, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, S_IRUSR | S_IWUSR);
  *ret_possible = descriptor >= 0;
  if (descriptor < 0) return 0;
  int result = file_fill(descriptor, place, content, error);
  if (result < 0) return result;
  snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
  if (linkat(AT_FDCWD, name, place->directory, place->name, AT_SYMLINK_FOLLOW) == 0) return 0;
  *ret_possible = errno != ENOENT && errno != EXDEV && errno != EPERM;
  return *ret_possible ? error_set_errno(error, errno, "%s: cannot create it", place->path) : 0;
}

static int file_create_named(struct file_place *place, const struct file_content *content, struct error *error) {
  CLEANUP_CLOSE int held = -1;
  file_remove_leftovers(place->directory, place->name);
  int result = file_write_temporary(place, content, &held, error);
  if (result < 0) return result;
  int linked = linkat(place->directory, place->temporary, place->directory, place->name, 0);
  int failure = errno;
  unlinkat(place->directory, place->temporary, 0);
  return linked < 0 ? error_set_errno(error, failure, "%s: cannot create it", place->path) : 0;
}

int file_create(const char *path, const void *data, size_t size, const struct file_rights *rights,
                struct error *error) {
  CLEANUP(file_place_close) struct file_place place = {.directory = -1};
  const struct file_content content = {data, size, rights};
  bool possible = false;
  int result = file_place_open(path, &place, error);
  if (result == 0) result = file_create_unnamed(&place, &content, &possible, error);
  if (result == 0 && !possible) result = file_create_named(&place, &content, error);
  if (result < 0) return result;
  if (fsync(place.directory) < 0) {
    int failure = errno;
    unlinkat(place.directory, place.name, 0);
    return error_set_errno(error, failure, "%s: cannot sync its directory", path);
  }
  return 0;
}

/* Reads until the end or until *data is full; the number of octets, or -1. */
static ssize_t file_read_all(int descriptor, char *data, size_t size) {
  size_t used = 0;
  while (used < size) {
    ssize_t got = read(descriptor, data + used, size - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0) break;
    used += (size_t)got;
  }
  return (ssize_t)used;
}

static int file_refuse_size(const char *path, size_t maximum, struct error *error) {
  error_set(error, ERROR_LIMIT, "%s: is larger than the %zu octets that dkimroll reads of such a file", path, maximum);
  error_remedy(error, "look whether it is the right file: compare its path in the policy with what is there");
  return ERROR_LIMIT;
}

int file_read(const char *path, size_t maximum, char **ret_data, size_t *ret_size, struct stat *ret_status,
              struct error *error) {
  /* O_NONBLOCK: opening a FIFO that nobody writes to must not stop us; regular files do not care. */
  CLEANUP_CLOSE int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  struct stat status;
  if (descriptor < 0) return error_set_errno(error, errno, "%s: cannot open", path);
  if (fstat(descriptor, &status) < 0) return error_set_errno(error, errno, "%s: cannot look at it", path);
  if (!S_ISREG(status.st_mode)) return error_set(error, ERROR_INVALID, "%s: is not a regular file", path);
  if (status.st_size > 0 && (size_t)status.st_size > maximum) return file_refuse_size(path, maximum, error);

  size_t capacity = status.st_size > 0 ? (size_t)status.st_size : FILE_UNSIZED_CAPACITY;
  if (capacity > maximum) capacity = maximum;
  CLEANUP_FREE char *data = NULL;
  size_t used = 0;
  for (;;) {
    /* One octet more than expected tells a file that grew from one that ended; it becomes the terminator. */
    char *larger = realloc(data, capacity + 1);
    if (!larger) return error_set(error, ERROR_NO_MEMORY, "%s: out of memory", path);
    data = larger;
    ssize_t got = file_read_all(descriptor, data + used, capacity + 1 - used);
    if (got < 0) return error_set_errno(error, errno, "%s: cannot read", path);
    used += (size_t)got;
    if (used <= capacity) break;
    if (capacity == maximum) return file_refuse_size(path, maximum, error);
    capacity = capacity > maximum / 2 ? maximum : capacity * 2;
  }
  data[used] = '\0';
  *ret_data = TAKE_PTR(data);
  *ret_size = used;
  if (ret_status) *ret_status = status;
  return 0;
}

/* Makes one directory whose parent exists. It appears under its name with its rights or not at all, so that a crash leaves no
 * directory of the wrong owner that the next attempt would take as it is. Until then its name is always the same, so that the next attempt goes on with what a
 * crash has left; of two who do this at once the first to rename wins. */
static int file_make_directory(const char *path, const struct file_rights *rights, struct error *error) {
  CLEANUP(file_place_close) struct file_place place = {.directory = -1};
  int result = file_place_open(path, &place, error);
  if (result < 0) return result;
  snprintf(place.temporary, sizeof place.temporary, ".%.*s" FILE_TEMPORARY_MARK "directory", FILE_NAME_PART_MAX, place.name);
  if (mkdirat(place.directory, place.temporary, S_IRWXU) < 0 && errno != EEXIST)
    return error_set_errno(error, errno, "%s: cannot make the directory", path);

  CLEANUP_CLOSE int made = openat(place.directory, place.temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  bool done = made >= 0 && file_set_rights(made, rights) == 0;
  if (done) {
    done = renameat2(place.directory, place.temporary, place.directory, place.name, RENAME_NOREPLACE) == 0;
    /* File systems without that flag get a plain rename, which at worst replaces an empty directory made just now. */
    if (!done && errno == EINVAL) done = renameat(place.directory, place.temporary, place.directory, place.name) == 0;
  }
  if (done && fsync(place.directory) == 0) return 0;
  int failure = errno;
  unlinkat(place.directory, done ? place.name : place.temporary, AT_REMOVEDIR);
  /* Somebody else made it meanwhile, of this one's directory or of his own: as good. */
  struct stat status;
  if (!done && (failure == EEXIST || failure == ENOENT) && fstatat(place.directory, place.name, &status, 0) == 0) return 0;
  return error_set_errno(error, failure, "%s: cannot make the directory", path);
}

/* The part of path that ends there was found. An earlier attempt may have made it and been killed before it was durable. */
static int file_sync_found(char *path, size_t end, struct error *error) {
  if (end <= 1) return 0;
  struct error reason = {0};
  const char kept = path[end];
  path[end] = '\0';
  int result = file_sync_parent(path, &reason);
  path[end] = kept;
  /* Where we may not even look, we made nothing. */
  if (result == ERROR_PERMISSION) return 0;
  if (result < 0 && error) *error = reason;
  return result;
}

int file_make_directories(const char *path, const struct file_rights *rights, struct error *error) {
  CLEANUP_FREE char *prefix = text_duplicate(path);
  if (!prefix) return error_set(error, ERROR_NO_MEMORY, "%s: out of memory", path);
  if (prefix[0] == '\0') return error_set(error, ERROR_INVALID, "cannot make a directory without a name");
  size_t length = strlen(prefix);
  while (length > 1 && prefix[length - 1] == '/') prefix[--length] = '\0';
  size_t found = 0; /* end of the deepest part that is there */
  for (size_t end = 1; end <= length; end++) {
    if (prefix[end] != '/' && prefix[end] != '\0') continue;
    if (prefix[end - 1] == '/') continue;
    char kept = prefix[end];
    prefix[end] = '\0';
    struct stat status;
    int result = 0;
    if (stat(prefix, &status) == 0) {
      result = S_ISDIR(status.st_mode) ? 0 : error_set(error, ERROR_CONFLICT, "%s: is not a directory", prefix);
      found = end;
    } else if (errno != ENOENT) {
      result = error_set_errno(error, errno, "%s: cannot look at it", prefix);
    } else {
      result = file_sync_found(prefix, found, error);
      if (result == 0) result = file_make_directory(prefix, rights, error);
      found = 0;
    }
    if (result < 0) return result;
    prefix[end] = kept;
  }
  return file_sync_found(prefix, found, error);
}

int file_lock(const char *path, int *ret_descriptor, struct error *error) {
  for (int attempt = 0; attempt < FILE_LOCK_ATTEMPTS_MAX; attempt++) {
    CLEANUP_CLOSE int descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
    if (descriptor < 0) return error_set_errno(error, errno, "%s: cannot open the lock file", path);
    if (flock(descriptor, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
      return error_set(error, ERROR_BUSY, "%s: another process holds this lock", path);
    struct stat held;
    struct stat named;
    if (flock(descriptor, LOCK_EX | LOCK_NB) < 0 || fstat(descriptor, &held) < 0)
      return error_set_errno(error, errno, "%s: cannot lock", path);
    /* A file that was replaced between open and flock is not the one that others will lock. */
    if (stat(path, &named) == 0 && named.st_dev == held.st_dev && named.st_ino == held.st_ino) {
      *ret_descriptor = TAKE_FD(descriptor);
      return 0;
    }
  }
  return error_set(error, ERROR_BUSY, "%s: the lock file is replaced again and again", path);
}

int file_sync_parent(const char *path, struct error *error) {
  CLEANUP_CLOSE int directory = -1;
  int result = file_open_parent(path, &directory, error);
  if (result < 0) return result;
  if (fsync(directory) < 0) return error_set_errno(error, errno, "%s: cannot sync its directory", path);
  return 0;
}

int file_sync(const char *path, struct error *error) {
  CLEANUP_CLOSE int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (descriptor < 0) return error_set_errno(error, errno, "%s: cannot open", path);
  if (fsync(descriptor) < 0) return error_set_errno(error, errno, "%s: cannot sync it", path);
  return file_sync_parent(path, error);
}

int file_resolve(const char *path, char **ret_path, struct error *error) {
  char *resolved = realpath(path, NULL);
  if (!resolved) return error_set_errno(error, errno, "%s: cannot resolve", path);
  *ret_path = resolved;
  return 0;
}

int file_resolve_foreign(const char *path, char **ret_path, struct error *error) {
  CLEANUP_FREE char *resolved = NULL;
  struct stat link;
  struct stat target;
  const int result = file_resolve(path, &resolved, error);
  if (result < 0 || !resolved) return result;
  if (lstat(path, &link) < 0 || stat(resolved, &target) < 0) return error_set_errno(error, errno, "%s: cannot look at it", path);
  if (S_ISLNK(link.st_mode) && link.st_uid != 0 && link.st_uid != geteuid() && link.st_uid != target.st_uid) {
    error_set(error, ERROR_PERMISSION, "%s: is a symbolic link of user %u to %s, which belongs to user %u", path, (unsigned)link.st_uid, resolved, (unsigned)target.st_uid);
    error_remedy(error, "look who made the link; if it is right, let root make it: chown -h root %s", path);
    return ERROR_PERMISSION;
  }
  *ret_path = TAKE_PTR(resolved);
  return 0;
}

/* The largest number is what chown(2) reads as "leave it", so it is nobody's. */
static bool file_parse_id(const char *text, unsigned *ret_id) {
  long long number = 0;
  if (!text_parse_number(text, 0, UINT_MAX - 1LL, &number)) return false;
  *ret_id = (unsigned)number;
  return true;
}

/* Not to be there is no failure; some sources of names report it as one of these (getpwnam(3)). */
static bool file_lookup_failed(int error_number) {
  return error_number != 0 && error_number != ENOENT && error_number != ESRCH && error_number != EBADF && error_number != EPERM;
}

int file_parse_owner(const char *text, uid_t *ret_owner, gid_t *ret_group, struct error *error) {
  const char *colon = strchr(text, ':');
  CLEANUP_FREE char *user = colon ? strndup(text, (size_t)(colon - text)) : text_duplicate(text);
  if (!user) return error_set(error, ERROR_NO_MEMORY, "%s: out of memory", text);
  if (user[0] == '\0' || (colon && colon[1] == '\0'))
    return error_set(error, ERROR_INVALID, "\"%s\" is not an owner: write user or user:group", text);

  uid_t owner = 0;
  errno = 0;
  const struct passwd *account = getpwnam(user);
  if (!account && file_lookup_failed(errno)) return error_set_errno(error, errno, "cannot look up the user \"%s\"", user);
  bool numeric = !account && file_parse_id(user, &owner);
  if (numeric) account = getpwuid(owner);
  if (account) owner = account->pw_uid;
  if (!account && !numeric) {
    error_set(error, ERROR_NOT_FOUND, "there is no user \"%s\" on this host", user);
    error_remedy(error, "check the spelling, or install the package that makes this user");
    return ERROR_NOT_FOUND;
  }

  gid_t group = 0;
  if (colon) {
    errno = 0;
    const struct group *named = getgrnam(colon + 1);
    if (!named && file_lookup_failed(errno)) return error_set_errno(error, errno, "cannot look up the group \"%s\"", colon + 1);
    if (named)
      group = named->gr_gid;
    else if (!file_parse_id(colon + 1, &group))
      return error_set(error, ERROR_NOT_FOUND, "there is no group \"%s\" on this host", colon + 1);
  } else if (account) {
    group = account->pw_gid;
  } else {
    error_set(error, ERROR_NOT_FOUND, "user %s has no account on this host, so its group is unknown", user);
    error_remedy(error, "write the group too, as in %s:%s", user, user);
    return ERROR_NOT_FOUND;
  }
  *ret_owner = owner;
  *ret_group = group;
  return 0;
}
