/* Files: bounded reading, atomic replacement, exclusive creation, directories, locks and owners. */
#ifndef DKIMROLL_FILE_H
#define DKIMROLL_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "dkimroll/error.h"

/* What is not complete is named "." NAME FILE_TEMPORARY_MARK and a word or eight hexadecimal digits, beside NAME. Only a crash leaves one, and the next attempt takes
 * it; files that file_create makes have no name at all before, where the file system can do that (O_TMPFILE: ext4, XFS, Btrfs, tmpfs; not NFS). */
#define FILE_TEMPORARY_MARK ".dkimroll-"
enum {
  FILE_TEMPORARY_DIGITS = 8,
  FILE_NAME_PART_MAX = 255 - 32, /* of a name: so that mark and number fit beside the longest that a file system takes (NAME_MAX) */
  FILE_LEFTOVER_LOOKS_MAX = 100000, /* entries of a directory that are looked at for what a crash left: some tens of milliseconds */
};

/* Owner and mode of a file to be made. */
struct file_rights {
  uid_t owner;
  gid_t group;
  mode_t mode;
};

/* Reads a regular file of at most maximum octets. *ret_data is NUL-terminated (not counted); caller frees. ret_status may be
 * NULL: else fstat of what was read. ERROR_NOT_FOUND, ERROR_PERMISSION, ERROR_LIMIT, ERROR_SYSTEM, ERROR_INVALID (not a regular file). */
int file_read(const char *path, size_t maximum, char **ret_data, size_t *ret_size, struct stat *ret_status,
              struct error *error) ERROR_USE_RESULT;

/* Replaces path atomically: temporary file in the same directory with O_EXCL and rights, full write, fsync, rename, fsync of the
 * directory. On any failure path is as it was and the temporary file is gone. path must not be a symbolic link (resolve first:
 * ERROR_INVALID). One exception: if only the last fsync fails, the error is reported and path holds the new content. */
int file_replace(const char *path, const void *data, size_t size, const struct file_rights *rights, struct error *error)
    ERROR_USE_RESULT;

/* Removes what file_replace and file_create left beside name in the directory, in processes that were killed: who lives holds flock(2) on his. Before they write they call it
 * themselves. What cannot be removed stays. (file_leftover.c) */
void file_remove_leftovers(int directory, const char *name);

/* Creates path, which must not exist (ERROR_EXISTS): written completely without a name or under a temporary one, fsync, linked to its name (link(2)
 * never overwrites), fsync of the directory. */
int file_create(const char *path, const void *data, size_t size, const struct file_rights *rights, struct error *error)
    ERROR_USE_RESULT;

/* Makes the directory and its missing parents, each with rights; existing ones are left as they are, and
 * the deepest of them is synced into its parent. ERROR_CONFLICT: a part
 * of path is there but is no directory. */
int file_make_directories(const char *path, const struct file_rights *rights, struct error *error) ERROR_USE_RESULT;

/* Opens and takes flock(2) LOCK_EX on path (created if missing) without waiting: ERROR_BUSY if someone else has it. The lock ends
 * when the descriptor is closed; the file stays, since removing it would let two processes lock two files of one name. */
int file_lock(const char *path, int *ret_descriptor, struct error *error) ERROR_USE_RESULT;

/* fsync of the file and of the directory that holds it. Who finds what he was to make, because an earlier attempt was killed before its end, calls this: only
 * then it is as durable as if he had made it. */
int file_sync(const char *path, struct error *error) ERROR_USE_RESULT;
/* fsync of the directory that holds path. */
int file_sync_parent(const char *path, struct error *error) ERROR_USE_RESULT;

/* realpath(3); caller frees. */
int file_resolve(const char *path, char **ret_path, struct error *error) ERROR_USE_RESULT;

/* The same, for a file in a directory of another user, with rights that he lacks: ERROR_PERMISSION for a link that is neither root's nor ours and leads to a file that is not its
 * owner's (as the kernel has it in /tmp: fs.protected_symlinks of proc(5)). */
int file_resolve_foreign(const char *path, char **ret_path, struct error *error) ERROR_USE_RESULT;

/* "user:group", "user" (group: the user's own), numbers too. ERROR_NOT_FOUND names what is unknown. Asks the host's user
 * database, which may be slow: for start-up, policy and keeper, never for a callback of the loop. */
int file_parse_owner(const char *text, uid_t *ret_owner, gid_t *ret_group, struct error *error) ERROR_USE_RESULT;

#endif
