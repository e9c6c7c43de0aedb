/* The calls of libc that the linker leads through here (--wrap): the real call between a look at the model before and a note to it after. Without --wrap
 * this file does nothing: nobody calls it, and the real calls are weak symbols. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sim_files.h"

#define REAL(result, name, ...)                                                                                        \
  extern result __real_##name(__VA_ARGS__) __attribute__((weak));                                                      \
  result __wrap_##name(__VA_ARGS__);                                                                                   \
  result __wrap_##name(__VA_ARGS__)

static int refuse(int number) {
  errno = number;
  return -1;
}

/* ---- names ---- */

static int open_new(struct sim_files *files, struct sim_inode *parent, int directory, const char *path, int descriptor) {
  const int kept = errno;
  if (descriptor >= 0) sim_files_made(files, parent, directory, path);
  errno = kept;
  return descriptor;
}

/* Is something about to be made there? */
static struct sim_inode *makes_in(struct sim_files *files, int directory, const char *path, int flags) {
  struct stat status;
  if (!files || !(flags & O_CREAT) || fstatat(directory, path, &status, 0) == 0) return NULL;
  return sim_files_parent_at(files, directory, path);
}

/* Opening for writing fails on a disk that is read-only. */
static bool is_read_only(struct sim_files *files, int directory, const char *path, int flags) {
  return files && files->read_only && !files->by_world && (flags & O_ACCMODE) != O_RDONLY && sim_files_inode_at(files, directory, path);
}

/* A file that has no name yet (O_TMPFILE). */
static int open_unnamed(struct sim_files *files, int directory, const char *path, int flags, mode_t mode);

REAL(int, openat, int directory, const char *path, int flags, ...) {
  struct sim_files *files = sim_files_watched();
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  if (files && (flags & O_TMPFILE) == O_TMPFILE) return open_unnamed(files, directory, path, flags, mode);
  struct sim_inode *parent = makes_in(files, directory, path, flags);
  if (is_read_only(files, directory, path, flags)) return refuse(EROFS);
  const int failure = parent ? sim_files_permit(files, true) : 0;
  if (failure) return refuse(failure);
  const int descriptor = __real_openat(directory, path, flags, mode);
  return parent ? open_new(files, parent, directory, path, descriptor) : descriptor;
}

static int open_unnamed(struct sim_files *files, int directory, const char *path, int flags, mode_t mode) {
  struct sim_inode *parent = sim_files_inode_at(files, directory, path);
  const int failure = parent ? sim_files_permit(files, true) : 0;
  if (failure) return refuse(failure);
  const int descriptor = __real_openat(directory, path, flags, mode);
  if (parent && descriptor >= 0) sim_files_opened(files, descriptor);
  return descriptor;
}

REAL(int, open, const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return __wrap_openat(AT_FDCWD, path, flags, mode);
}

REAL(int, mkdirat, int directory, const char *path, mode_t mode) {
  struct sim_files *files = sim_files_watched();
  struct sim_inode *parent = files ? sim_files_parent_at(files, directory, path) : NULL;
  const int failure = parent ? sim_files_permit(files, true) : 0;
  if (failure) return refuse(failure);
  const int result = __real_mkdirat(directory, path, mode);
  if (parent && result == 0) sim_files_made(files, parent, directory, path);
  return result;
}

REAL(int, mkdir, const char *path, mode_t mode) {
  return __wrap_mkdirat(AT_FDCWD, path, mode);
}

REAL(int, linkat, int from_directory, const char *from, int to_directory, const char *to, int flags) {
  struct sim_files *files = sim_files_watched();
  struct sim_inode *parent = files ? sim_files_parent_at(files, to_directory, to) : NULL;
  struct sim_inode *inode = parent ? sim_files_inode_linked(files, from_directory, from, flags & AT_SYMLINK_FOLLOW) : NULL;
  const int failure = parent ? sim_files_permit(files, true) : 0;
  if (failure) return refuse(failure);
  const int result = __real_linkat(from_directory, from, to_directory, to, flags);
  if (parent && result == 0) sim_files_changed(files, parent, NULL, to, inode);
  return result;
}

REAL(int, link, const char *from, const char *to) {
  return __wrap_linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

REAL(int, renameat2, int from_directory, const char *from, int to_directory, const char *to, unsigned flags) {
  struct sim_files *files = sim_files_watched();
  struct sim_inode *source = files ? sim_files_parent_at(files, from_directory, from) : NULL;
  struct sim_inode *target = source ? sim_files_parent_at(files, to_directory, to) : NULL;
  struct sim_inode *inode = target ? sim_files_inode_at(files, from_directory, from) : NULL;
  const int failure = target ? sim_files_permit(files, true) : 0;
  if (failure) return refuse(failure);
  const int result = __real_renameat2(from_directory, from, to_directory, to, flags);
  if (!target || result < 0) return result;
  if (files->by_world) {
    /* It may be a file that was not seen before. */
    sim_files_changed(files, source, from, NULL, NULL);
    sim_files_made(files, target, to_directory, to);
  } else if (source == target) {
    sim_files_changed(files, target, from, to, inode);
  } else {
    sim_files_changed(files, target, NULL, to, inode);
    sim_files_changed(files, source, from, NULL, NULL);
  }
  return result;
}

REAL(int, renameat, int from_directory, const char *from, int to_directory, const char *to) {
  return __wrap_renameat2(from_directory, from, to_directory, to, 0);
}

REAL(int, rename, const char *from, const char *to) {
  return __wrap_renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

REAL(int, unlinkat, int directory, const char *path, int flags) {
  struct sim_files *files = sim_files_watched();
  struct sim_inode *parent = files ? sim_files_parent_at(files, directory, path) : NULL;
  const int failure = parent ? sim_files_permit(files, false) : 0;
  if (failure) return refuse(failure);
  const int result = __real_unlinkat(directory, path, flags);
  if (parent && result == 0) sim_files_changed(files, parent, path, NULL, NULL);
  return result;
}

REAL(int, unlink, const char *path) {
  return __wrap_unlinkat(AT_FDCWD, path, 0);
}

REAL(int, rmdir, const char *path) {
  return __wrap_unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

REAL(int, remove, const char *path) {
  struct stat status;
  const bool directory = lstat(path, &status) == 0 && S_ISDIR(status.st_mode);
  return __wrap_unlinkat(AT_FDCWD, path, directory ? AT_REMOVEDIR : 0);
}

/* ---- content ---- */

/* 0, or the errno with which the write ends; *size becomes smaller if only a part has room. */
static int permit_write(struct sim_files *files, size_t *size) {
  const int failure = sim_files_permit(files, false);
  if (failure || files->by_world) return failure;
  if (sim_files_chance(files, files->write_fails)) return EIO;
  if (files->room < 0 || *size == 0) return 0;
  if (files->room == 0) return ENOSPC;
  if ((int64_t)*size > files->room) *size = (size_t)files->room;
  files->room -= (int64_t)*size;
  return 0;
}

REAL(ssize_t, write, int descriptor, const void *octets, size_t size) {
  struct sim_files *files = sim_files_watched();
  struct sim_inode *inode = files ? sim_files_inode_of(files, descriptor) : NULL;
  const int failure = inode ? permit_write(files, &size) : 0;
  if (failure) return refuse(failure);
  const ssize_t result = __real_write(descriptor, octets, size);
  if (inode) sim_files_written(files, inode);
  return result;
}

REAL(ssize_t, pwrite, int descriptor, const void *octets, size_t size, off_t offset) {
  struct sim_files *files = sim_files_watched();
  struct sim_inode *inode = files ? sim_files_inode_of(files, descriptor) : NULL;
  const int failure = inode ? permit_write(files, &size) : 0;
  if (failure) return refuse(failure);
  const ssize_t result = __real_pwrite(descriptor, octets, size, offset);
  if (inode) sim_files_written(files, inode);
  return result;
}

REAL(int, ftruncate, int descriptor, off_t size) {
  struct sim_files *files = sim_files_watched();
  struct sim_inode *inode = files ? sim_files_inode_of(files, descriptor) : NULL;
  const int failure = inode ? sim_files_permit(files, false) : 0;
  if (failure) return refuse(failure);
  const int result = __real_ftruncate(descriptor, size);
  if (inode) sim_files_written(files, inode);
  return result;
}

REAL(int, fchmod, int descriptor, mode_t mode) {
  struct sim_files *files = sim_files_watched();
  struct sim_inode *inode = files ? sim_files_inode_of(files, descriptor) : NULL;
  const int failure = inode ? sim_files_permit(files, false) : 0;
  return failure ? refuse(failure) : __real_fchmod(descriptor, mode);
}

REAL(int, fsync, int descriptor) {
  struct sim_files *files = sim_files_watched();
  struct sim_inode *inode = files ? sim_files_inode_of(files, descriptor) : NULL;
  if (!inode) return __real_fsync(descriptor);
  const bool was_read_only = files->read_only;
  /* A disk that turned read-only still syncs what it has taken. */
  files->read_only = false;
  const int failure = sim_files_permit(files, false);
  files->read_only = was_read_only;
  if (failure) return refuse(failure);
  const bool failed = !files->by_world && sim_files_chance(files, files->sync_fails);
  sim_files_synced(files, inode, descriptor, failed);
  return failed ? refuse(EIO) : 0;
}
