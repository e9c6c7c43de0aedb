/* For the tests of the store: SQLite's VFS with a disk that fails. Every write and every sync counts; from the one on that was asked for, each fails until
 * the disk is repaired, as a full disk or a broken one does. */
#ifndef DKIMROLL_TESTS_FAULTY_DISK_H
#define DKIMROLL_TESTS_FAULTY_DISK_H

#include <signal.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

enum { FAULTY_DISK_KILLS = -1 };

struct faulty_disk {
  sqlite3_vfs vfs; /* first: SQLite hands it back */
  sqlite3_vfs *real;
  sqlite3_io_methods methods[2];          /* of databases, and of their logs, which the real VFS does not lock */
  const sqlite3_io_methods *real_methods; /* writing and syncing are the same for both */
  long operations;                        /* writes and syncs since the last faulty_disk_fail_at */
  long fail_at;                           /* 0: never */
  int code;                               /* SQLITE_FULL, SQLITE_IOERR_WRITE, ...; FAULTY_DISK_KILLS: the process ends there */
};

/* The VFS gives a file room for its own data, and the methods find their disk here; there is one disk in a test. */
static struct faulty_disk faulty_disk;

static inline bool faulty_disk_fails(void) {
  faulty_disk.operations++;
  const bool fails = faulty_disk.fail_at && faulty_disk.operations >= faulty_disk.fail_at;
  if (fails && faulty_disk.code == FAULTY_DISK_KILLS) kill(getpid(), SIGKILL);
  return fails;
}

static int faulty_disk_write(sqlite3_file *file, const void *data, int size, sqlite3_int64 offset) {
  return faulty_disk_fails() ? faulty_disk.code : faulty_disk.real_methods->xWrite(file, data, size, offset);
}

static int faulty_disk_sync(sqlite3_file *file, int flags) {
  if (faulty_disk_fails()) return faulty_disk.code == SQLITE_FULL ? SQLITE_FULL : SQLITE_IOERR_FSYNC;
  return faulty_disk.real_methods->xSync(file, flags);
}

/* The real file with two methods exchanged: its data, locks and shared memory stay the real ones. */
static int faulty_disk_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags) {
  (void)vfs;
  const int code = faulty_disk.real->xOpen(faulty_disk.real, name, file, flags, ret_flags);
  if (code != SQLITE_OK || !file->pMethods) return code;
  faulty_disk.real_methods = file->pMethods;
  sqlite3_io_methods *methods = &faulty_disk.methods[(flags & SQLITE_OPEN_MAIN_DB) ? 0 : 1];
  *methods = *file->pMethods;
  methods->xWrite = faulty_disk_write;
  methods->xSync = faulty_disk_sync;
  file->pMethods = methods;
  return code;
}

static inline void faulty_disk_install(void) {
  faulty_disk.real = sqlite3_vfs_find(NULL);
  faulty_disk.vfs = *faulty_disk.real;
  faulty_disk.vfs.zName = "faulty-disk";
  faulty_disk.vfs.xOpen = faulty_disk_open;
  sqlite3_vfs_register(&faulty_disk.vfs, 1);
}

static inline void faulty_disk_remove(void) {
  sqlite3_vfs_unregister(&faulty_disk.vfs);
  sqlite3_vfs_register(faulty_disk.real, 1);
}

static inline void faulty_disk_fail_at(long operation, int code) {
  faulty_disk.operations = 0;
  faulty_disk.fail_at = operation;
  faulty_disk.code = code;
}

#endif
