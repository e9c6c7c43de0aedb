/* A disk in memory under SQLite, as its default VFS while it is installed: it can be full, fail to write or to sync, and lose power. What it holds after a
 * loss of power is what was synced and a seeded choice, sector by sector, of what was written since. Everything is deterministic.
 *
 * Rules of the model, those of a Linux file system of the careless sort:
 * - A write is in memory until a sync of its file. A loss of power keeps or drops each sector of it, in any combination.
 * - All files are in one directory. The first sync of a new journal or log is one of the directory too (os_unix.c of SQLite does it), and so is a deletion
 *   that asks for it; until then a name that was made may vanish, and one that was deleted may come back. The name of a database is durable at once: the
 *   store makes the file, and syncs its directory, before SQLite opens it.
 * - What a failed sync should have written is lost for ever, unless it is written again: the next sync says nothing about it.
 * - A write never tears what it does not overlap (SQLITE_IOCAP_POWERSAFE_OVERWRITE, as production has it). */
#ifndef DKIMROLL_TESTS_SIM_DISK_H
#define DKIMROLL_TESTS_SIM_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sqlite3.h>

#include "dkimroll/entropy.h"

enum { SIM_DISK_SECTOR = 512 };

struct sim_disk_file;

struct sim_disk {
  sqlite3_vfs vfs; /* first */
  /* What goes wrong, until the world changes it. */
  int64_t room;         /* octets by which files may still grow, all together; negative: no limit */
  unsigned write_fails; /* percent of writes: SQLITE_IOERR_WRITE, nothing is written */
  unsigned sync_fails;  /* percent of syncs: SQLITE_IOERR_FSYNC */
  uint64_t power_lasts; /* changes (writes, syncs, cuts, deletions) until the power is gone and everything fails; 0: it stays */
  /* Counted. */
  uint64_t changes, syncs, failures, crashes, sectors_lost;
  /* What follows is the model's own. */
  sqlite3_vfs *real;
  struct sim_disk_file *files;
  unsigned life; /* of the process: handles of an earlier one are dead */
  bool dark;     /* the power is gone */
  struct entropy_seeded random;
};

/* Makes it the default of SQLite; it must not move until it is removed. seed: for the percentages and SQLite's own random numbers. */
void sim_disk_install(struct sim_disk *disk, uint64_t seed);
/* Gives SQLite its own back, and frees all files. No connection may be open. */
void sim_disk_remove(struct sim_disk *disk);

/* The process ends here and now: connections that are open can only be closed, which does nothing to the files. What was written is there. */
void sim_disk_kill(struct sim_disk *disk);
/* The power goes: as above, and of what was not synced a choice by seed is lost. Room and percentages stay as they are. */
void sim_disk_crash(struct sim_disk *disk, uint64_t seed);

/* Has power_lasts run out? The owner then crashes it. */
bool sim_disk_is_dark(const struct sim_disk *disk);
/* The size of a file as the process sees it, or -1: there is none. */
int64_t sim_disk_size(const struct sim_disk *disk, const char *path);
/* Takes a file away, as an operator would. */
void sim_disk_delete(struct sim_disk *disk, const char *path);

/* ---- between sim_disk.c and sim_disk_file.c ---- */

/* What was done to a file since its last sync: a write (octets), or a new size (NULL). */
struct sim_disk_change {
  int64_t offset; /* of a cut: the size */
  size_t size;
  uint8_t *octets;
  bool lost; /* by a failed sync */
};

struct sim_disk_image {
  uint8_t *octets;
  int64_t size, capacity;
};

/* Locks and shared memory of a file, of all its handles. */
enum { SIM_DISK_LOCKS = 8, SIM_DISK_REGIONS_MAX = 64 };
struct sim_disk_sharing {
  unsigned shared;                   /* handles with at least a shared lock */
  const void *reserved, *exclusive;  /* the handle that has it; exclusive: also pending */
  unsigned readers[SIM_DISK_LOCKS];  /* of the WAL's index */
  const void *writer[SIM_DISK_LOCKS];
  void *regions[SIM_DISK_REGIONS_MAX];
};

struct sim_disk_retired {
  struct sim_disk_retired *next;
  void *region;
};

struct sim_disk_file {
  struct sim_disk_file *next;
  char *path; /* NULL: a temporary file, which goes with its handle */
  unsigned handles;
  unsigned dead_handles; /* of processes that ended */
  bool named;         /* it has its name now */
  bool named_durably; /* and after a loss of power */
  struct sim_disk_image present, durable;
  struct sim_disk_change *changes;
  size_t change_count, change_capacity;
  struct sim_disk_sharing sharing;
  struct sim_disk_retired *retired; /* memory that dead handles share */
};

struct sim_disk_file *sim_disk_file_find(const struct sim_disk *disk, const char *path);
struct sim_disk_file *sim_disk_file_make(struct sim_disk *disk, const char *path);
void sim_disk_file_write(struct sim_disk_file *file, const void *octets, size_t size, int64_t offset);
void sim_disk_file_cut(struct sim_disk_file *file, int64_t size);
void sim_disk_file_sync(struct sim_disk *disk, struct sim_disk_file *file, bool fails);
void sim_disk_file_end_life(struct sim_disk_file *file);
void sim_disk_file_free_retired(struct sim_disk_file *file);
/* After a loss of power. */
void sim_disk_file_lose(struct sim_disk *disk, struct sim_disk_file *file, struct entropy *entropy);
/* Frees files that have neither a name nor a handle. */
void sim_disk_collect(struct sim_disk *disk);

#endif
